"""Particles in CSV and TSV files with named columns.

The header is ``tomogram, x, y, z, rot, tilt, psi, confidence, expected_error_deg, class``: positions in Å from the
centre of voxel [0, 0, 0], angles in degrees as in RELION. Unknown values have no column. Files may also have
``x_voxel, y_voxel, z_voxel`` (voxels, counted from 0) and a quaternion ``qw, qx, qy, qz`` in place of the angles; only
coordinates are required. All other columns are carried through unchanged.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile, islice
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE, RESULT_COLUMNS, with_mark, without_mark
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.star import Table, decimals, numbers, single
from napari_orient.engine.io.tomograms import TOMOGRAM, ListMetadata, find_extents, rows_of_tomogram, tomogram_names
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import matrix_to_zyz, wxyz_to_matrix, zyz_to_matrix

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
"""Suffixes of tables of text."""

_POSITION = ("x", "y", "z")
_VOXEL = ("x_voxel", "y_voxel", "z_voxel")
_WITH_UNIT = re.compile(r"^([xyzXYZ])\s*[\[(](A|Å|ang|angst|angstrom|nm|px|pixels?|voxels?)[\])]$", re.IGNORECASE)
"""Names of columns that state their unit: TARDIS writes ``X [A]``."""

_UNITS = {"a": 1.0, "å": 1.0, "ang": 1.0, "angst": 1.0, "angstrom": 1.0, "nm": 10.0}
"""Å in a unit of length that a column's name may state."""

_ANGLES = ("rot", "tilt", "psi")
_QUATERNION = ("qw", "qx", "qy", "qz")
_OWN = ("tomogram", *_POSITION, *_VOXEL, *_ANGLES, *_QUATERNION, "confidence", "expected_error_deg", "class")


def read_header(path: Path | str) -> list[str]:
    """Names of the columns of a CSV or TSV file.

    Raises
    ------
    InputError
        If there is no such file, or it is not text.
    """
    path = existing_file(path)
    return next(split_cells(_lines(path, most=1), path), [])


def read_rows(path: Path | str) -> Table:
    """Columns of a CSV or TSV file by name, as text.

    Lines that begin with ``#`` are comments, but for those below the header that have a value for each of its columns.

    Raises
    ------
    InputError
        If there is no such file, it is not text, has no rows, or a row does not fit the header.
    """
    path = existing_file(path)
    rows = list(split_cells(_lines(path), path))
    header = rows[0] if rows else []
    body = [row for row in rows[1:] if not row[0].startswith("#") or len(row) == len(header)]
    if not body:
        raise InputError(f"{path} has no particles; expected a header and one row at least. Choose another file.")
    wrong = next((number for number, row in enumerate(body, start=1) if len(row) != len(header)), None)
    if wrong is not None:
        raise InputError(
            f"{path}: row {wrong} has {len(body[wrong - 1])} values; expected {len(header)} as in the header. Mend it."
        )
    if len({name.lower() for name in header}) < len(header):
        raise InputError(f"{path} has two columns of one name; rename or remove one.")
    return dict(zip(header, zip(*body, strict=True), strict=True))


def _lines(path: Path, *, most: int | None = None) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            written = (line for line in re.split(r"\r\n|\r|\n", stream.read()) if line.strip())
            return list(islice(dropwhile(lambda line: line.startswith("#"), written), most))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text; expected a CSV or TSV file.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read by you; change its permissions.") from error


def split_cells(lines: Sequence[str], path: Path) -> Iterator[list[str]]:
    """Cells of each line, by the first line's separator: tab, comma, semicolon, bar, or else blanks.

    Raises
    ------
    InputError
        If a line is longer than any table's.
    """
    head = lines[0] if lines else ""
    delimiter = max(("\t", ",", ";", "|"), key=head.count)
    if delimiter not in head:
        return (line.split() or [""] for line in lines)
    return (_cells(line, delimiter, path) for line in lines)


def _cells(line: str, delimiter: str, path: Path) -> list[str]:
    """Values of a line. A quote that is not closed is a character: it must not swallow the lines that follow."""
    quotes = line.count('"') % 2 == 0
    try:
        read = csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
        row = next(read, [])
    except csv.Error as error:
        raise InputError(f"{path} is no table that can be read ({error}). Write it again.") from error
    return [cell.strip() for cell in row] or [""]


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
    table = {_own(name): values for name, values in _in_angstrom(read_rows(path), where).items()}
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


def _in_angstrom(table: Table, where: str) -> Table:
    """The table with columns such as ``X [A]`` and ``x (nm)`` as x, y, z in Å, and ``x (px)`` as x_voxel."""
    found = {name: match for name in table if (match := _WITH_UNIT.match(name))}
    if {match[1].lower() for match in found.values()} != set(_POSITION):
        return table
    renamed: Table = {}
    for name, values in table.items():
        if name not in found:
            renamed[name] = values
            continue
        axis, unit = found[name][1].lower(), found[name][2].lower()
        scale = _UNITS.get(unit, 1.0)
        scaled = values if scale == 1 else tuple(repr(number * scale) for number in _numbers(table, name, where))
        renamed[axis if unit in _UNITS else f"{axis}_voxel"] = scaled
    return renamed


def _numbers(table: Table, name: str, where: str) -> list[float]:
    return [float(number) for number in single(table, name, where=where)]


def _positions(table: Table, names: Sequence[str], metadata: ListMetadata, *, where: str) -> FloatArray:
    if set(_POSITION) <= set(table):
        return numbers(table, _POSITION, where=where)
    if not set(_VOXEL) <= set(table):
        absent = next(name for name in _POSITION if name not in table)
        raise InputError(
            f"{where} has no column {absent}; expected x, y, z (Å) or x_voxel, y_voxel, z_voxel. "
            f"It has {', '.join(list(table)[:8])}."
        )
    voxels = numbers(table, _VOXEL, where=where)
    if metadata.pixel_size is not None:
        return voxels * metadata.pixel_size
    found = find_extents(names, [metadata.extents])
    if set(names) - set(found):
        raise InputError(
            f"{where} has coordinates in voxels, and the size of a voxel is unknown. "
            "Open the tomogram too, or give the voxel size in Å (--voxel-size)."
        )
    sizes: FloatArray = np.array([found[name].voxel_size for name in names])
    return voxels * sizes[:, None]


def _rotations(table: Table, *, where: str) -> FloatArray | None:
    for columns in (_QUATERNION, _ANGLES):
        present = [name for name in columns if name in table]
        if present and len(present) < len(columns):
            absent = next(name for name in columns if name not in present)
            raise InputError(f"{where} has {present[0]} but no {absent}; expected all of {', '.join(columns)} or none.")
    if _QUATERNION[0] in table:
        return wxyz_to_matrix(numbers(table, _QUATERNION, where=where), where=where)
    return zyz_to_matrix(numbers(table, _ANGLES, where=where)) if _ANGLES[0] in table else None


def _optional(table: Table, name: str, *, where: str) -> FloatArray | None:
    return single(table, name, where=where, finite=False) if name in table else None


def _columns(particles: Particles) -> dict[str, Sequence[object]]:
    columns: dict[str, Sequence[object]] = {}
    if any(particles.tomogram_names):
        columns["tomogram"] = np.asarray(particles.tomogram).tolist()
    columns |= dict(zip(_POSITION, map(decimals, particles.positions.T), strict=True))
    if particles.rotations is not None:
        columns |= dict(zip(_ANGLES, map(decimals, matrix_to_zyz(particles.rotations).T), strict=True))
    for name, column in (("confidence", particles.confidence), ("expected_error_deg", particles.expected_error_deg)):
        if column is not None:
            columns[name] = decimals(column)
    if particles.kind is not None:
        columns["class"] = particles.kind.tolist()
    foreign = {with_mark(name, _own(name) in _OWN): column for name, column in particles.extra.items()}
    return columns | {
        name: decimals(column) if np.issubdtype(column.dtype, np.floating) else column.tolist()
        for name, column in foreign.items()
    }


# --- the dialects ---------------------------------------------------------------------------------------------------


def _has_coordinates(file: ListFile) -> bool:
    """Whether the first line names columns of coordinates."""
    names = next(split_cells(file.lines[:1], file.path), [])
    plain = {name.lower() for name in names}
    stated = {match[1].lower() for name in names if (match := _WITH_UNIT.match(name))}
    return set(_POSITION) <= plain or set(_VOXEL) <= plain or set(_POSITION) <= stated


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
