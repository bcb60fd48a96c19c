"""Tables of other programs: points of napari, orientations of pyTME, boxes of crYOLO, and tables without a header."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile, block_of
from napari_orient.engine.io.dialects.standard_columns import SCORE, without_defaults
from napari_orient.engine.io.dialects.text_tables import first_cells, is_number, read_rows, split_cells
from napari_orient.engine.io.dialects.voxels import VoxelRows, particles_in_voxels
from napari_orient.engine.io.star import Table, numbers
from napari_orient.engine.io.tomograms import ListMetadata, find_extents, fit_only_in_angstrom
from napari_orient.engine.particles import FloatArray, Particles, TextArray
from napari_orient.engine.rotations import zyz_to_matrix

_MOST_COLUMNS = 25
"""Columns of a table without a header; one of more is Dynamo's."""


def _head(file: ListFile) -> list[str]:
    """Cells of the line that names the columns, or of the first, in lower case."""
    return [cell.lower() for cell in first_cells(file)]


def _lower(table: Table, names: Sequence[str]) -> Table:
    """The table with these names of columns in lower case, as `_head` compares them."""
    return {name.lower() if name.lower() in names else name: values for name, values in table.items()}


def _nameless(file: ListFile) -> Mapping[str, Path | None]:
    """The one tomogram of a list that names none."""
    return {"": None}


# --- napari ---------------------------------------------------------------------------------------------------------

_AXES = ("axis-0", "axis-1", "axis-2")


def _read_napari(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = _lower(read_rows(file.path), (*_AXES, "axis-3", "index")), str(file.path)
    if "axis-3" in table:
        raise InputError(f"{where} has points of more than three axes; expected z, y, x. Save those of one time point.")
    extra = {name: np.array(values, str) for name, values in table.items() if name not in (*_AXES, "index")}
    voxels = numbers(table, _AXES, where=where)[:, ::-1]
    rows = VoxelRows(voxels=voxels, names=[""] * len(voxels), extra=extra)
    return particles_in_voxels(rows, metadata, where=where)


NAPARI_POINTS = Dialect(
    name="napari",
    title="napari points (CSV)",
    programs="napari (File ▸ Save, a points layer as .csv)",
    suffixes=(".csv",),
    layout="axis-0, axis-1, axis-2 = z, y, x in voxels",
    trap="The layer's scale is not in the file: its voxel size is needed.",
    recognises=lambda file: set(_AXES) <= set(_head(file)) and "vertex-index" not in _head(file),
    read=_read_napari,
    volumes=_nameless,
)


# --- pyTME ----------------------------------------------------------------------------------------------------------

_PYTME = ("x", "y", "z", "euler_x", "euler_y", "euler_z")


def _read_pytme(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = _lower(read_rows(file.path), (*_PYTME, "score")), str(file.path)
    others = {name: values for name, values in table.items() if name not in (*_PYTME, "score")}
    scores = {SCORE: table["score"]} if "score" in table else {}
    rows = VoxelRows(
        voxels=numbers(table, _PYTME[:3], where=where),
        names=[""] * len(table["x"]),
        rotations=zyz_to_matrix(numbers(table, _PYTME[3:], where=where)),
        extra={**without_defaults(scores, {}), **{name: np.array(values, str) for name, values in others.items()}},
    )
    return particles_in_voxels(rows, metadata, where=where)


PYTME = Dialect(
    name="pytme",
    title="pyTME orientations",
    programs="pyTME (orientations.tsv)",
    suffixes=(".tsv",),
    layout="voxels of the tomogram, from 0; euler_x, euler_y, euler_z = rot, tilt, psi (ZYZ)",
    trap="Its x, y, z are voxels, those of other tables Å.",
    recognises=lambda file: set(_PYTME) <= set(_head(file)),
    read=_read_pytme,
    volumes=_nameless,
)


# --- crYOLO ---------------------------------------------------------------------------------------------------------

_BOX = ("CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height")


def _read_cbox(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = block_of(file, _BOX[0]), str(file.path)
    absent = [name for name in _BOX if name not in table]
    if absent:
        raise InputError(f"{where} has no column {absent[0]}; expected boxes in three dimensions. Pick in tomograms.")
    if not table[_BOX[0]]:
        raise InputError(f"{where} has no particles: it holds no box. Choose another file.")
    boxes = numbers(table, _BOX, where=where)
    corners, size = boxes[:, :3], boxes[:, 3:]
    voxels = corners + np.column_stack([size / 2, np.zeros(len(size))])
    named = {**({SCORE: table["Confidence"]} if "Confidence" in table else {}), **_box_columns(table)}
    rows = VoxelRows(voxels=voxels, names=[""] * len(voxels), extra=without_defaults(named, {}))
    return particles_in_voxels(rows, metadata, where=where)


def _box_columns(table: Table) -> Table:
    """Other columns, but for those that hold nothing."""
    others = {name: values for name, values in table.items() if name not in (*_BOX, "Depth", "Confidence")}
    return {f"cryolo_{name}": values for name, values in others.items() if set(values) - {"<NA>", "nan", ""}}


CBOX = Dialect(
    name="cbox",
    title="crYOLO and TomoTwin boxes",
    programs="crYOLO, TomoTwin, napari-boxmanager",
    suffixes=(".cbox",),
    layout="voxels of the tomogram: x and y of the box's corner, to which half its size is added, z of its centre",
    trap="_CoordinateX and Y are a corner, not the centre.",
    recognises=lambda file: "cryolo" in file.blocks,
    read=_read_cbox,
    volumes=_nameless,
)


# --- no header ------------------------------------------------------------------------------------------------------


def _is_headerless(file: ListFile) -> bool:
    cells = _head(file)
    return file.suffix != ".tbl" and 3 <= len(cells) <= _MOST_COLUMNS and all(map(is_number, cells))


def _read_headerless(file: ListFile, metadata: ListMetadata) -> Particles:
    where = str(file.path)
    lines = [line for line in file.text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    cells = list(split_cells(lines, file.path))
    if not cells or len(cells[0]) < 3:
        raise InputError(f"{where} has no particles: it holds no three columns of numbers. Choose another file.")
    wrong = next((number for number, row in enumerate(cells, start=1) if len(row) != len(cells[0])), None)
    if wrong is not None:
        raise InputError(
            f"{where}: row {wrong} has {len(cells[wrong - 1])} values; expected {len(cells[0])} as in row 1. Mend it."
        )
    counters = _leading_counters(cells)
    table = {f"column{place}": column for place, column in enumerate(zip(*cells, strict=True), start=1)}
    axes = tuple(table)[counters : counters + 3]
    position = numbers(table, axes, where=where)
    extra: dict[str, TextArray] = {name: np.array(table[name], str) for name in table if name not in axes}
    said = f"The table has no header: columns {counters + 1} to {counters + 3} are taken as x, y, z."
    if _is_angstrom(position, metadata):
        notes = (said, "Its coordinates lie beyond the tomogram's voxels, and are taken as Å.")
        return Particles(positions=position, tomogram=metadata.tomogram or "", extra=extra, notes=notes)
    rows = VoxelRows(voxels=position, names=[""] * len(position), extra=extra, notes=(said,))
    return particles_in_voxels(rows, metadata, where=where)


def _is_angstrom(position: FloatArray, metadata: ListMetadata) -> bool:
    """Whether coordinates without a unit are Å, by the size of the opened tomogram."""
    found = find_extents([metadata.tomogram or ""], [metadata.extents])
    if metadata.pixel_size is not None or not found:
        return False
    return fit_only_in_angstrom(position, [next(iter(found.values()))] * len(position))


def _leading_counters(cells: Sequence[Sequence[str]]) -> int:
    """Columns before the last three that number objects and contours, as IMOD's model2point writes them; 0 if none."""
    count = len(cells[0]) - 3
    if (
        count not in (1, 2)
        or len(cells) < 2
        or not all(row[place].isdecimal() for row in cells for place in range(count))
    ):
        return 0
    numbered = [tuple(int(row[place]) for place in range(count)) for row in cells]
    steps = [_is_step(before, after) for before, after in itertools.pairwise(numbered)]
    return count if max(numbered[0]) <= 1 and all(steps) else 0


def _is_step(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether numbers are the same, or the next: of an object, with its contours from the first, or of a contour."""
    same = [first == second for first, second in zip(before, after, strict=True)]
    changed = same.index(False) if False in same else None
    return changed is None or (after[changed] == before[changed] + 1 and max(after[changed + 1 :], default=1) <= 1)


HEADERLESS = Dialect(
    name="coords",
    title="table without a header",
    programs="TomoTwin and crYOLO (.coords), IMOD (model2point), scripts",
    suffixes=(".coords", ".txt", ".csv", ".tsv", ".xyz"),
    layout="x, y, z in voxels, from 0; separated by blanks, tabs, commas, semicolons or bars",
    trap="The unit is never in the file: for Å give --pixel-size 1.",
    recognises=_is_headerless,
    read=_read_headerless,
    volumes=_nameless,
)
