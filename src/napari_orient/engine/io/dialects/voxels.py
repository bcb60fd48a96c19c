"""What lists in voxels have in common: the size of a voxel in Å, wherever it is stated, and columns that many have.

Many programs write a score, a class number and a half under names of their own; here they are named as RELION names
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import BOX_COLUMNS, PICKERS_SCORE, SCORE
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    ListMetadata,
    binned_extents,
    different_sizes,
    find_extents,
    given_source,
    left_out_note,
    read_tomograms,
    rows_of_tomogram,
    table_extents,
)
from napari_orient.engine.particles import CLASS_NUMBER, Extent, FloatArray, Particles, shortened

VOXEL_SIZE = "voxelSizeAngst"
"""Column of the voxel size, Å, that a list counted in, kept so that it is written in the same voxels again."""

PLACEHOLDER = 1.0
"""Å; a size that programs write where none is given to them, so that a tomogram's own comes before it."""


@dataclass(frozen=True, kw_only=True)
class VoxelRows:
    """Rows of a list whose coordinates count in voxels.

    Parameters
    ----------
    voxels : (N, 3) xyz, as the list counts them.
    names : the tomogram of each row; empty where the list does not name it.
    rotations : (N, 3, 3), or None where they are unknown.
    own_sizes : (N,) Å of a voxel as the list states it, 0 where it does not; None where it has no such column.
    first : number that the list gives the first voxel.
    extents : sizes of tomograms that the list, or a file that belongs to it, states.
    """

    voxels: FloatArray
    names: Sequence[str]
    rotations: FloatArray | None = None
    own_sizes: FloatArray | None = None
    first: int = 0
    extents: Mapping[str, Extent] = field(default_factory=dict)
    kind: Sequence[str] | None = None
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def particles_in_voxels(rows: VoxelRows, metadata: ListMetadata, *, where: str) -> Particles:
    """Particles of a list in voxels: of one tomogram alone, if ``metadata`` names it.

    Raises
    ------
    InputError
        If none is of that tomogram, or the size of a voxel is unknown.
    """
    chosen: NDArray[np.intp] = np.arange(len(rows.names))
    others: tuple[str, ...] = ()
    if metadata.tomogram is not None and any(rows.names):
        chosen = rows_of_tomogram(rows.names, metadata.tomogram, where=where)
        others = left_out_note(rows.names, chosen, where=where)
    names = [rows.names[row] or metadata.tomogram or "" for row in chosen.tolist()]
    own = None if rows.own_sizes is None else rows.own_sizes[chosen]
    sizes, origin = voxel_sizes(names, metadata, own=own, extents=rows.extents, where=where)
    first = rows.first if metadata.first_voxel is None else metadata.first_voxel
    return Particles(
        positions=(rows.voxels[chosen] - first) * sizes[:, None],
        rotations=None if rows.rotations is None else rows.rotations[chosen],
        tomogram=np.array(names, str),
        kind=None if rows.kind is None else np.array(rows.kind, str)[chosen],
        list_row=chosen,
        extents=find_extents(names, [rows.extents]),
        extra={
            **{name: column[chosen] for name, column in rows.extra.items()},
            VOXEL_SIZE: np.array([f"{size:.9g}" for size in sizes.tolist()], str),
        },
        notes=(counted_note("voxels", sizes, origin, first=first), *rows.notes, *others),
    )


COUNTED_FROM = ", counted from "
"""Words of `counted_note` where the first voxel is not number 0."""


def counted_note(what: str, sizes: FloatArray, origin: str, *, first: int) -> str:
    """A sentence on the size in Å of the pixels or voxels of a list, (N,), where it is from, and the first one."""
    counted = f"{COUNTED_FROM}{first}" if first else ""
    return f"Coordinates count in {what} of {different_sizes(sizes)} Å ({origin}){counted}."


def voxel_sizes(
    names: Sequence[str],
    metadata: ListMetadata,
    *,
    where: str,
    own: FloatArray | None = None,
    extents: Mapping[str, Extent] | None = None,
) -> tuple[FloatArray, str]:
    """Size of a voxel of each particle's tomogram in Å, (N,), and where it is from.

    Taken from the caller, the list, the opened tomogram, the table of tomograms (unbinned size times binning).

    Raises
    ------
    InputError
        If none of them has it.
    """
    if metadata.pixel_size is not None:
        return np.full(len(names), float(metadata.pixel_size)), given_source(metadata.pixel_size, own)
    opened = find_extents(names, [metadata.extents])
    if own is not None and (own > 0).all() and not (set(names) <= set(opened) and (own == PLACEHOLDER).all()):
        return own, "the list's own"
    tables = [] if metadata.tomograms is None else [read_tomograms(metadata.tomograms)]
    binned = [binned_extents(table, where=str(metadata.tomograms)) for table in tables]
    found = {**find_extents(names, [extents or {}, *binned]), **opened}
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        of = f" of {shortened(unknown, most=3)}" if any(unknown) else ""
        raise InputError(
            f"{where} has coordinates in voxels, and the voxel size{of} is unknown. Open the tomogram too "
            "(--tomogram), or give the size in Å (--pixel-size)."
        )
    origin = "the opened tomogram's" if set(names) <= set(opened) else "of the list's table of tomograms"
    return np.array([found[name].voxel_size for name in names]), origin


def sizes_to_write(path: Path, particles: Particles, metadata: ListMetadata) -> FloatArray:
    """Size in Å of the voxels that each particle is written in, (N,): as given, as it was read, or the tomogram's.

    Raises
    ------
    InputError
        If it is neither given nor that of a tomogram whose size is known.
    """
    if metadata.pixel_size is not None:
        return np.full(len(particles), float(metadata.pixel_size))
    kept = as_numbers(particles, VOXEL_SIZE)
    if kept is not None and (kept > 0).all():
        return kept
    names = [str(name) for name in particles.tomogram]
    tables = table_extents(particles.blocks.get(GLOBAL, {}), where=f"data_{GLOBAL}")
    found = find_extents(names, [metadata.extents, particles.extents, tables])
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        of = shortened(unknown, most=3) or "the tomogram"
        raise InputError(
            f"{path} counts in voxels, and the voxel size of {of} is unknown. "
            "Give the tomogram (--tomogram), or the size in Å (--out-pixel-size)."
        )
    return np.array([found[name].voxel_size for name in names])


def voxels_of(particles: Particles, sizes: FloatArray, metadata: ListMetadata, *, first: int = 0) -> FloatArray:
    """Positions in voxels of these sizes in Å, (N, 3).

    Parameters
    ----------
    first : the dialect's number of the first voxel, where ``metadata`` has none.
    """
    return particles.positions / sizes[:, None] + (first if metadata.first_voxel is None else metadata.first_voxel)


def size_note(sizes: FloatArray) -> str:
    """A sentence on the voxels that coordinates are written in."""
    return f"Coordinates are in voxels of {different_sizes(sizes)} Å."


def rotations_unless_zero(
    angles: FloatArray, convert: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray | None, tuple[str, ...]]:
    """Rotations (N, 3, 3) of angles (N, 3), and a question where some are 0; None, and a note, where all angles are 0.

    Lists of picks that were never aligned have columns of angles too: 0 in them is no orientation.
    """
    if angles.any():
        return convert(angles), identity_question(np.asarray(~angles.any(axis=1), bool))
    return None, ("All angles are 0, as before an alignment: orientations are taken as unknown.",)


def identity_question(identity: NDArray[np.bool_]) -> tuple[str, ...]:
    """A question where some poses (N,) are the identity, which programs write for unknown ones."""
    count = int(identity.sum())
    return (f"{count} of {len(identity)} orientations are the identity: unknown ones?",) if count else ()


def whole_and_rest(voxels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Whole voxels and what is left to the position, both (N, 3); the rest is above -0.5 and at most 0.5."""
    # A half is rounded down though computed with error, so that a list that was read is written in the same digits.
    whole = np.ceil(voxels - 0.5 - 1e-6)
    return whole, voxels - whole


def left_out(particles: Particles, title: str, *, held: Sequence[str] = (), kind: bool = False) -> tuple[str, ...]:
    """A sentence on the columns and tables that a format cannot hold; none where it holds all.

    Parameters
    ----------
    held : columns of other programs that are written.
    kind : whether the class of molecule is written.
    """
    lost = [name for name in particles.extra if name not in (VOXEL_SIZE, *BOX_COLUMNS, *held)]
    lost += ["confidence"] if particles.confidence is not None else []
    lost += ["expected error"] if particles.expected_error_deg is not None else []
    lost += ["class"] if particles.kind is not None and not kind else []
    lost += [f"table {name}" for name in particles.blocks if name not in (GLOBAL, "general")]
    return (f"{title} cannot hold, and the file is without: {shortened(lost, most=8)}.",) if lost else ()


# --- columns that many programs have ----------------------------------------------------------------------------------

SUBTOMOGRAM = "subtomogramNumber"
"""Number by which a program names a particle's subtomogram: Dynamo's tag, AV3's and STOPGAP's subtomo_num."""

OBJECT = "objectNumber"
"""Number of the object (cell, tube, membrane) that a particle belongs to, in AV3 and STOPGAP."""

SCORES = (PICKERS_SCORE, SCORE, "rlnLCCmax", "pytmeScore")
"""Columns of a score, in the order in which they are written to formats that hold one."""


def texts(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.str_]:
    """Values as text, whole numbers without a point, others in nine digits."""
    return np.array([_value_text(value) for value in np.asarray(values).tolist()], str)


def without_defaults(
    columns: Mapping[str, Sequence[str]], defaults: Mapping[str, float]
) -> dict[str, NDArray[np.str_]]:
    """Columns but for those whose values all are the number that stands for nothing (0, where none is named)."""
    return {
        name: np.array(values, str)
        for name, values in columns.items()
        if not all(_number(value) == defaults.get(name, 0) for value in values)
    }


def without_counting(name: str, values: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """The column, or nothing where it only counts the rows from 1."""
    counts = all(_number(value) == row for row, value in enumerate(values, start=1))
    return {} if counts else {name: np.array(values, str)}


def counted(particles: Particles, name: str) -> NDArray[np.int_]:
    """Whole and distinct numbers of the particles, (N,): those of a column, else counted from 1."""
    column = as_numbers(particles, name)
    if column is not None and len(set(column.tolist())) == len(column) and (column == column.round()).all():
        return column.astype(int)
    return np.arange(1, len(particles) + 1)


def score_of(particles: Particles) -> FloatArray | None:
    """Score of each particle, (N,), from the first of `SCORES` that holds numbers; None where there is none."""
    for name in SCORES:
        column = as_numbers(particles, name)
        if column is not None:
            return column
    return None


def score_name(particles: Particles) -> str:
    """Name of the column that `score_of` takes; empty where there is none."""
    return next((name for name in SCORES if as_numbers(particles, name) is not None), "")


def class_numbers(particles: Particles) -> tuple[NDArray[np.int_], tuple[str, ...]]:
    """Number of each particle's class, (N,): as it came, else of its molecule, which the sentence says; else 1."""
    column = as_numbers(particles, CLASS_NUMBER)
    if column is not None:
        return column.astype(int), ()
    if particles.kind is None:
        return np.ones(len(particles), int), ()
    kinds = particles.kinds
    said = ", ".join(f"{number} is {kind or '(no class)'}" for number, kind in enumerate(kinds, start=1))
    numbers = {kind: number for number, kind in enumerate(kinds, start=1)}
    return np.array([numbers[str(kind)] for kind in particles.kind]), (f"Classes are numbered: {said}.",)


def as_numbers(particles: Particles, name: str) -> FloatArray | None:
    """A column of other programs as finite numbers, (N,); None where it is missing or holds anything else."""
    if name not in particles.extra:
        return None
    values = np.array([_number(text) for text in particles.extra[name].tolist()])
    return values if np.isfinite(values).all() else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.9g}"
    return str(value)
