"""The symmetry of a discovered map; of one nearly round about an axis, folds count where they rise above noise.

Particles that are round about an axis at the detail a search sees come out of it spun at random, and their map has
folds by chance.
"""

from __future__ import annotations

from typing import NamedTuple

from napari_orient.engine.averaging import Average
from napari_orient.engine.model.map_symmetry import ORDERS, direction_text, propose_symmetry
from napari_orient.engine.rotations import Symmetry, symmetry


class Shown(NamedTuple):
    """The group that a map shows, about its own axes, why, in a few lines, and whether it is nearly round about one."""

    group: Symmetry
    words: tuple[str, ...]
    round: bool


def found_symmetry(average: Average, radius: float) -> Shown:
    """The group that a map shows; where it is nearly round about an axis and tells no folds, one that is as round."""
    halves = (average.first_half, average.second_half)
    proposal = propose_symmetry(average.as_reference(), average.voxel_size, halves=halves, radius=radius)
    axis, across = proposal.round_about, proposal.across
    if axis is None or len(proposal.group) > 1:
        return Shown(proposal.group, tuple(proposal.words()), round=axis is not None)
    name = f"{max(ORDERS)}@{direction_text(axis)}"
    if across is not None and across.holds:
        group = symmetry(f"D{name}@{direction_text(across.direction)}")
    else:
        group = symmetry(f"C{name}")
    words = (
        f"Round about ({direction_text(axis)}): nothing tells its folds, nor how a particle is spun about it.",
        f"It is averaged as {group.name.partition('@')[0]}, which at this detail is round.",
    )
    return Shown(group, words, round=True)
