"""Particles outside their tomogram: set aside, so that a few do not stop the others; those with poses are put back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.columns import POSE_UNKNOWN, without_results
from napari_orient.engine.io.tomograms import find_extents
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


def outside_words(particles: Particles) -> str:
    """A sentence on how many particles lie outside tomograms whose sizes come with them; empty where none does."""
    found = find_extents(particles.tomogram_names, [particles.extents])
    names = np.asarray(particles.tomogram)
    masks = [lies_outside(particles.positions[names == name], extent) for name, extent in found.items()]
    count = sum(int(mask.sum()) for mask in masks)
    if count == 0:
        return ""
    which = "1 particle lies outside its tomogram" if count == 1 else f"{count} particles lie outside their tomograms"
    return f"{which}, of {len(particles)}: are pixel size and tomogram right?"


def outside_note(inside: NDArray[np.bool_], *, name: str, posed: bool) -> Note | None:
    """A warning that says how many particles were set aside; None where none was.

    Parameters
    ----------
    posed : whether they have poses of their own, which they keep; others are left out.
    """
    count = int((~inside).sum())
    if count == 0:
        return None
    which = "1 of them lies" if count == 1 else f"{count} of them lie"
    fate = "keep their poses, at confidence 0" if posed else "are left out, having no pose"
    if count == 1:
        fate = "keeps its pose, at confidence 0" if posed else "is left out, having no pose"
    return Note(f"{len(inside)} particles: {which} outside {name} and {fate}.", "warning")


def rows_of_pairs_inside(pairs: Labelled) -> list[NDArray[np.bool_]]:
    """Which particles of each tomogram lie inside it, (N,) each.

    Raises
    ------
    InputError
        If half of a tomogram's particles or more lie outside.
    """
    return [rows_inside(particles, tomogram.extent, name=tomogram.name) for tomogram, particles in pairs]


def inside_only(pairs: Labelled) -> tuple[Labelled, tuple[Note, ...]]:
    """Tomograms with those of their particles that lie inside, and a warning for each that has others.

    Raises
    ------
    InputError
        As `rows_of_pairs_inside`.
    """
    kept: list[tuple[Tomogram, Particles]] = []
    notes = []
    for (tomogram, particles), inside in zip(pairs, rows_of_pairs_inside(pairs), strict=True):
        if not inside.all():
            count = int((~inside).sum())
            which = "1 lies" if count == 1 else f"{count} lie"
            words = f"Of {len(inside)} particles {which} outside {tomogram.name}, left out."
            notes.append(Note(words, "warning"))
        kept.append((tomogram, particles if inside.all() else particles.take(inside)))
    return kept, tuple(notes)


def put_back(found: Particles, given: Particles, inside: NDArray[np.bool_], *, random_error_deg: float) -> Particles:
    """All particles in their order: those found, and those outside in the poses that they had, at confidence 0.

    Where the given particles have no poses, those outside are left out: none can be written for them.

    Parameters
    ----------
    found : of the rows inside, with poses.
    given : all of them.
    random_error_deg : expected error of a pose that is unknown.
    """
    if inside.all() or given.rotations is None:
        return found
    count = len(given)

    def spread(values: NDArray[np.generic], rest: object) -> NDArray[np.generic]:
        whole = np.full((count, *values.shape[1:]), rest, dtype=values.dtype)
        whole[inside] = values
        return whole

    rotations = np.array(given.rotations)
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
