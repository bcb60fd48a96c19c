"""The symmetry of a discovered map; of one nearly round about an axis, folds count where they rise above noise.

Particles that are round about an axis at the detail a search sees come out of it spun at random, and their map has
folds by chance. Turned about its axis, a map repeats n times a turn; how far the numbers of no fold scatter is its
noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from napari_orient.engine.averaging import Average
from napari_orient.engine.matching.directions import direction_text, even_directions, turned_about
from napari_orient.engine.matching.reference import build_reference
from napari_orient.engine.matching.selfsymmetry import (
    ORDERS,
    Likeness,
    centre_of_mass,
    propose_symmetry,
    two_fold_across,
)
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.rotations import Symmetry, symmetry

_ROUND, _ALIKE = 0.65, 0.8
"""Mean likeness over a turn of what counts as round about an axis, and least likeness to itself turned over."""
_CLEARLY = 4.0
"""Deviations by which the repeats of a fold must stand above those of none."""
_FINEST, _DIRECTIONS, _REPEATS, _TURNS = 3.2, 300, 18, 72
_SOME = 360 * np.array([0.07, 0.16, 0.29, 0.42])
"""Turns of no common fold, in degrees."""


class Shown(NamedTuple):
    """The group that a map shows, about its own axes, why, in a few lines, and whether it is nearly round about one."""

    group: Symmetry
    words: tuple[str, ...]
    round: bool


def found_symmetry(average: Average, radius: float) -> Shown:
    """The group that a map shows; where it is nearly round about an axis and tells no folds, one that is as round."""
    voxel_size, halves = average.voxel_size, (average.first_half, average.second_half)
    proposal = propose_symmetry(average.as_reference(), voxel_size, halves=halves)
    maps = [build_reference(part, voxel_size, resolution=_FINEST * voxel_size, radius=radius) for part in halves]
    likeness = Likeness(maps, centre_of_mass(average.as_reference(), voxel_size), resolution=_FINEST * voxel_size)
    axis = round_axis(likeness)
    if likeness.round or axis is None:
        return Shown(proposal.group, tuple(proposal.words()), round=False)
    order, across = told_folds(likeness, axis), two_fold_across(likeness, axis)
    kind = "D" if across.alike >= _ALIKE else "C"
    name = f"{kind}{order or max(ORDERS)}@{direction_text(axis)}"
    group = symmetry(f"{name}@{direction_text(across.direction)}" if kind == "D" else name)
    return Shown(group, _words(f"{kind}{order}" if order else "", axis, group), round=True)


def round_axis(likeness: Likeness) -> FloatArray | None:
    """The direction about which the map is nearly round, (3,) of length 1; None where there is none."""
    grid = even_directions(_DIRECTIONS)
    best = grid[np.mean([likeness.of(turned_about(grid, turn)) for turn in _SOME], axis=0).argmax()]

    def uneven(direction: FloatArray) -> float:
        return -float(likeness.of(turned_about(direction, _SOME)).mean())

    way = {"initial_simplex": best + np.vstack([np.zeros(3), 0.05 * np.eye(3)]), "maxiter": 80, "fatol": 1e-4}
    axis = minimize(uneven, best, method="Nelder-Mead", options=way).x  # type: ignore[call-overload]
    axis = axis / np.linalg.norm(axis)
    return axis if _whole_turn(likeness, axis).mean() >= _ROUND else None


def told_folds(likeness: Likeness, axis: FloatArray) -> int:
    """How often the map repeats in a turn about an axis, clearly above its noise; 0 where nothing tells."""
    repeats = np.arange(1, _REPEATS + 1)
    power = np.fft.rfft(_whole_turn(likeness, axis)).real[repeats] * 2 / _TURNS
    heights = []
    for order in ORDERS:
        own = repeats % order == 0
        heights.append(power[own].sum() / (power[~own].std() * np.sqrt(own.sum())))
    return ORDERS[int(np.argmax(heights))] if max(heights) >= _CLEARLY else 0


def _whole_turn(likeness: Likeness, axis: FloatArray) -> FloatArray:
    return likeness.of(turned_about(axis, 360 / _TURNS * np.arange(_TURNS)))


def _words(kind: str, axis: FloatArray, group: Symmetry) -> tuple[str, ...]:
    if kind:
        return (
            f"Symmetry {kind} proposed.",
            f"Nearly round about ({direction_text(axis)}); its folds rise above the noise.",
        )
    return (
        f"Round about ({direction_text(axis)}): nothing tells its folds, nor how a particle is spun about it.",
        f"It is averaged as {group.name.partition('@')[0]}, which at this detail is round.",
    )
