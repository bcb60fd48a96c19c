"""Particles in CSV and TSV files with named columns.

The header is ``tomogram, x, y, z, rot, tilt, psi, confidence, expected_error_deg, class``: positions in Å from the
centre of voxel [0, 0, 0], angles in degrees as in RELION. Unknown values have no column. Files may also have
``x_voxel, y_voxel, z_voxel`` (voxels, counted from 0) and a quaternion ``qw, qx, qy, qz`` in place of the angles; only
coordinates are required, which other programs' names are understood of too (`coordinate_names`). All other columns are
carried through unchanged.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import (
    PICKERS_SCORE,
    RESULT_COLUMNS,
    with_mark,
    without_mark,
    written_column,
)
from napari_orient.engine.io.dialects.coordinate_names import POSITION, VOXEL, angle_names, coordinate_columns
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.text_tables import first_cells, read_rows
from napari_orient.engine.io.star import Table, decimals, numbers, single
from napari_orient.engine.io.tomograms import TOMOGRAM, ListMetadata, find_extents, rows_of_tomogram, tomogram_names
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import matrix_to_zyz, wxyz_to_matrix, zyz_to_matrix

_ANGLES = ("rot", "tilt", "psi")
_QUATERNION = ("qw", "qx", "qy", "qz")
_OWN = ("tomogram", *POSITION, *VOXEL, *_ANGLES, *_QUATERNION, "confidence", "expected_error_deg", "class")


def read_table(path: Path | str, metadata: ListMetadata | None = None) -> Particles:
    """Particles of a CSV or TSV file with named columns.

    Coordinates in voxels take ``metadata.pixel_size``, else the voxel sizes of ``metadata.extents``.

    Raises
    ------
    InputError
        If coordinates are missing, angles are incomplete, a value is no number, or a voxel size is needed and not
        given.
    """
    metadata = metadata or ListMetadata()
    where, tomogram = str(path), metadata.tomogram
    read, notes = _with_coordinates(read_rows(path), where)
    table = {_own(name): values for name, values in read.items()}
    if len(table) < len(read):
        raise InputError(f"{path} has two columns of one name; rename or remove one.")
    names, rows = tomogram_names(table), None
    if any(names) and tomogram is not None:
        rows = rows_of_tomogram(names, tomogram, where=where)
        table = {name: tuple(values[row] for row in rows) for name, values in table.items()}
        names = [names[row] for row in rows]
    names = [name or tomogram or "" for name in names]
    rotations = _rotations(table, where=where)
    if "confidence" in table and not _is_own_confidence(table, posed=rotations is not None):
        table = {PICKERS_SCORE if name == "confidence" else name: values for name, values in table.items()}
    return Particles(
        positions=_positions(table, names, metadata, where=where),
        rotations=rotations,
        confidence=_optional(table, "confidence", where=where),
        expected_error_deg=_optional(table, "expected_error_deg", where=where),
        tomogram=np.array(names, str),
        kind=np.array(table["class"], str) if "class" in table else None,
        list_row=rows,
        notes=(*notes, *_angles_note(table)),
        extra={
            without_mark(name, _OWN): single(table, name, where=where, finite=False)
            if name in RESULT_COLUMNS
            else np.array(values, str)
            for name, values in table.items()
            if name not in (*_OWN, TOMOGRAM)
        },
    )


def _is_own_confidence(table: Table, *, posed: bool) -> bool:
    """Whether a column called confidence is this program's: a probability, beside the rotation that it is of."""
    try:
        values = np.array([float(text or "nan") for text in table["confidence"]])
    except ValueError:
        return posed
    return posed and bool(((values >= 0) & (values <= 1) | np.isnan(values)).all())


def write_table(path: Path | str, particles: Particles, *, provenance: str = "") -> None:
    """Write particles under the header above, separated by tabs if the name ends in ``.tsv``, else by commas.

    Raises
    ------
    InputError
        If there are no particles, or the file cannot be written.
    """
    if len(particles) == 0:
        raise InputError(f"there are no particles to write to {path}; expected one at least.")
    columns = _columns(particles)
    delimiter = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as stream:
        if provenance:
            stream.write(f"# {' '.join(provenance.split())}\n")
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _own(name: str) -> str:
    """Name of a column in lower case if it is one of ours; else as it is."""
    return name.lower() if name.lower() in _OWN else name


def _with_coordinates(table: Table, where: str) -> tuple[Table, tuple[str, ...]]:
    """The table with its coordinates as x, y, z in Å or x_voxel, y_voxel, z_voxel, and how they were found.

    Raises
    ------
    InputError
        If it has none.
    """
    columns = coordinate_columns(list(table))
    if columns is None:
        absent = next((name for name in POSITION if name not in {key.lower() for key in table}), POSITION[0])
        raise InputError(
            f"{where} has no column {absent}; expected x, y, z (Å) or x_voxel, y_voxel, z_voxel. "
            f"It has {', '.join(list(table)[:8])}."
        )
    axes = dict(zip(columns.names, VOXEL if columns.angstrom is None else POSITION, strict=True))
    scale = columns.angstrom or 1.0
    renamed: Table = {}
    for name, values in table.items():
        scaled = values
        if name in axes and scale != 1:
            scaled = tuple(repr(float(number) * scale) for number in single(table, name, where=where))
        renamed[axes.get(name, name)] = scaled
    return renamed, (columns.note,) if columns.note else ()


def _positions(table: Table, names: Sequence[str], metadata: ListMetadata, *, where: str) -> FloatArray:
    if set(POSITION) <= set(table):
        return numbers(table, POSITION, where=where)
    voxels = numbers(table, VOXEL, where=where)
    if metadata.pixel_size is not None:
        return voxels * metadata.pixel_size
    found = find_extents(names, [metadata.extents])
    if set(names) - set(found):
        raise InputError(
            f"{where} has coordinates in voxels, and the size of a voxel is unknown. "
            "Open the tomogram too (--tomogram), or give the voxel size in Å (--pixel-size)."
        )
    sizes: FloatArray = np.array([found[name].voxel_size for name in names])
    return voxels * sizes[:, None]


def _rotations(table: Table, *, where: str) -> FloatArray | None:
    for columns in (_QUATERNION, _ANGLES):
        present = [name for name in columns if name in table]
        if present and len(present) < len(columns):
            absent = next(name for name in columns if name not in present)
            raise InputError(
                f"{where} has {present[0]} but no {absent}; expected all of {', '.join(columns)} (RELION's, ZYZ), or "
                "none. Rename or add columns."
            )
    if _QUATERNION[0] in table:
        return wxyz_to_matrix(numbers(table, _QUATERNION, where=where), where=where)
    return zyz_to_matrix(numbers(table, _ANGLES, where=where)) if _ANGLES[0] in table else None


def _angles_note(table: Table) -> tuple[str, ...]:
    """A sentence on columns that most likely are angles, and are not read."""
    named = angle_names(list(table))
    if not named or set(_ANGLES) <= set(table) or set(_QUATERNION) <= set(table):
        return ()
    return (
        f"Columns {', '.join(named)} may be angles, and are not read: their convention is not stated, as that of rot, "
        "tilt, psi (RELION's, ZYZ) and of qw, qx, qy, qz is.",
    )


def _optional(table: Table, name: str, *, where: str) -> FloatArray | None:
    return single(table, name, where=where, finite=False) if name in table else None


def _columns(particles: Particles) -> dict[str, Sequence[object]]:
    columns: dict[str, Sequence[object]] = {}
    if any(particles.tomogram_names):
        columns["tomogram"] = np.asarray(particles.tomogram).tolist()
    columns |= dict(zip(POSITION, map(decimals, particles.positions.T), strict=True))
    if particles.rotations is not None:
        columns |= dict(zip(_ANGLES, map(decimals, matrix_to_zyz(particles.rotations).T), strict=True))
    for name, column in (("confidence", particles.confidence), ("expected_error_deg", particles.expected_error_deg)):
        if column is not None:
            columns[name] = decimals(column)
    if particles.kind is not None:
        columns["class"] = particles.kind.tolist()
    foreign = {with_mark(name, _own(name) in _OWN): column for name, column in particles.extra.items()}
    return columns | {name: [_cell(text) for text in written_column(name, column)] for name, column in foreign.items()}


def _cell(text: str) -> str:
    """A text as a cell of one line holds it: without breaks of lines and tabs, and without blanks at its ends."""
    return " ".join(re.split(r"[\t\n\r\f\v]", text)).strip()


# --- the dialects ---------------------------------------------------------------------------------------------------


def _has_coordinates(file: ListFile) -> bool:
    """Whether the first line names columns of coordinates."""
    return coordinate_columns(first_cells(file)) is not None


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_table(file.path, metadata)


def _volumes(file: ListFile) -> dict[str, Path | None]:
    return dict.fromkeys(tomogram_names(read_rows(file.path)))


def _write(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    write_table(path, particles, provenance=provenance)
    return ()


CSV = Dialect(
    name="csv",
    title="CSV table",
    programs="this program, spreadsheets, scripts",
    suffixes=(".csv", ".txt"),
    layout="Å from voxel 0, or x_voxel, y_voxel, z_voxel; rot, tilt, psi (ZYZ), or a quaternion qw, qx, qy, qz",
    trap="The unit of x, y, z is not in the file: voxels must be named x_voxel, y_voxel, z_voxel.",
    recognises=lambda file: file.suffix != ".tsv" and _has_coordinates(file),
    read=_read,
    write=_write,
    volumes=_volumes,
)

TSV = Dialect(
    name="tsv",
    title="TSV table",
    programs=CSV.programs,
    suffixes=(".tsv",),
    layout=CSV.layout,
    trap=CSV.trap,
    recognises=lambda file: file.suffix == ".tsv" and _has_coordinates(file),
    read=_read,
    write=_write,
    volumes=_volumes,
)
