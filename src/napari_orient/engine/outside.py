"""Particles outside their tomogram: set aside, so that a few do not stop the others, and put back unchanged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.columns import POSE_UNKNOWN, without_results
from napari_orient.engine.particles import Extent, Labelled, Particles, Tomogram, check_inside, lies_outside
from napari_orient.engine.streams import Note

REASON = "outside the tomogram"
"""Why their poses are unknown, as the list says it."""
_MOST_OUTSIDE = 0.5
"""Share of the particles from which the list is refused: then its units or its tomogram are wrong, not a few picks."""


def rows_inside(particles: Particles, extent: Extent, *, name: str) -> NDArray[np.bool_]:
    """Which particles lie inside the tomogram, (N,).

    Raises
    ------
    InputError
        If half of them or more lie outside; ``name`` is the tomogram's.
    """
    outside = lies_outside(particles.positions, extent)
    if len(particles) and outside.mean() >= _MOST_OUTSIDE:
        check_inside(particles, extent, name=name)
    return ~outside


def outside_note(inside: NDArray[np.bool_], *, name: str) -> Note | None:
    """A warning that says how many particles were set aside; None where none was."""
    count = int((~inside).sum())
    if count == 0:
        return None
    which = "1 of them lies" if count == 1 else f"{count} of them lie"
    return Note(f"{len(inside)} particles: {which} outside {name} and keep their poses, at confidence 0.", "warning")


def inside_only(pairs: Labelled) -> tuple[Labelled, tuple[str, ...]]:
    """Tomograms with those of their particles that lie inside, and a sentence for each that has others.

    Raises
    ------
    InputError
        If half of a tomogram's particles or more lie outside.
    """
    kept: list[tuple[Tomogram, Particles]] = []
    notes = []
    for tomogram, particles in pairs:
        inside = rows_inside(particles, tomogram.extent, name=tomogram.name)
        if not inside.all():
            count = int((~inside).sum())
            which = "1 lies" if count == 1 else f"{count} lie"
            notes.append(f"Of {len(inside)} particles {which} outside {tomogram.name}, left out.")
        kept.append((tomogram, particles if inside.all() else particles.take(inside)))
    return kept, tuple(notes)


def put_back(found: Particles, given: Particles, inside: NDArray[np.bool_], *, random_error_deg: float) -> Particles:
    """All particles in their order: those found, and those outside as they were given, at confidence 0.

    Parameters
    ----------
    found : of the rows inside, with poses.
    given : all of them.
    random_error_deg : expected error of a pose that is unknown.
    """
    if inside.all():
        return found
    count = len(given)

    def spread(values: NDArray[np.generic], rest: object) -> NDArray[np.generic]:
        whole = np.full((count, *values.shape[1:]), rest, dtype=values.dtype)
        whole[inside] = values
        return whole

    rotations = np.tile(np.eye(3), (count, 1, 1)) if given.rotations is None else np.array(given.rotations)
    rotations[inside] = found.required_rotations()
    positions = np.array(given.positions)
    positions[inside] = found.positions
    texts = np.full(count, REASON, dtype=object)
    texts[inside] = found.extra.get(POSE_UNKNOWN, np.zeros(len(found), "U1"))
    foreign = {name: column for name, column in without_results(given).extra.items() if name in found.extra}
    own = {
        name: spread(column, np.nan if column.dtype.kind == "f" else "")
        for name, column in found.extra.items()
        if name not in foreign
    }
    return given.replace(
        positions=positions,
        rotations=rotations,
        confidence=None if found.confidence is None else spread(found.confidence, 0.0),
        expected_error_deg=None
        if found.expected_error_deg is None
        else spread(found.expected_error_deg, random_error_deg),
        extra={**foreign, **own, POSE_UNKNOWN: texts.astype(str)},
        extents={**given.extents, **found.extents},
        notes=found.notes,
    )
