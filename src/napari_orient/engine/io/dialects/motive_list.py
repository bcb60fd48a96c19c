"""Motive lists of AV3, TOM and STOPGAP: an EM file of 20 values a particle, and STOPGAP's STAR file of 16.

Positions are the sum of a whole voxel and a shift; a pose is R = Rz(psi) Rx(theta) Rz(phi). Tomograms are numbers;
their names and voxel sizes are written to a table beside the list. An EM header is read here, not by a library, because
lists of either byte order and type occur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile, block_of
from napari_orient.engine.io.dialects.numbered import (
    NUMBER,
    NumberedRows,
    WrittenRows,
    table_of_tomograms_path,
    volumes_of,
    whole_numbers,
    write_table_of_tomograms,
)
from napari_orient.engine.io.dialects.voxels import (
    OBJECT,
    SUBTOMOGRAM,
    as_numbers,
    counted,
    left_out,
    score_name,
    size_note,
    texts,
    whole_and_rest,
    without_counting,
    without_defaults,
)
from napari_orient.engine.io.star import Table, decimals, numbers, single
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.io.volumes.em import HEADER_BYTES, em_header
from napari_orient.engine.outputs import replacing, write_text
from napari_orient.engine.particles import CLASS_NUMBER, HALF_SET, FloatArray, Particles
from napari_orient.engine.rotations import matrix_to_zxz, zxz_to_matrix

_LAST_MACHINE = 6
"""Largest first byte of an EM file, which says what machine wrote it."""

EM_ROWS = 20
"""Values of a particle in an EM motive list."""

_FIRST_VOXEL = 1
"""TOM and AV3, which are MATLAB programs, count voxels from 1."""

_LARGEST = 2**24
"""Largest number up to which float32, the type of EM lists, holds all whole numbers."""

_CARRIED_ROWS = (2, 3, 7, 14, 15, 16)
"""Rows, from 1, whose meaning differs between programs; carried as ``motl_2`` and so on where they are not 0."""


# --- EM -------------------------------------------------------------------------------------------------------------


def em_array(file: ListFile) -> FloatArray | None:
    """Values of an EM file of two dimensions, (N, values of each); None where it is no such file, or not whole."""
    if not file.head or file.head[0] > _LAST_MACHINE:
        return None
    header = em_header(file.path)
    if header is None or header.size[2] > 1:
        return None
    columns, count, _ = header.size
    return np.fromfile(file.path, header.dtype, offset=HEADER_BYTES).reshape(count, columns).astype(float)


def _is_em_list(file: ListFile) -> bool:
    values = em_array(file)
    return values is not None and abs(values.shape[1] - EM_ROWS) <= 1


def _em_rows(file: ListFile) -> FloatArray:
    """Values of the particles, (N, 20).

    Raises
    ------
    InputError
        If it is no motive list, or a particle has more or fewer values.
    """
    values = em_array(file)
    if values is None:
        raise InputError(f"{file.path} is no motive list: its size is not what an EM header says. Was it cut short?")
    if values.shape[1] != EM_ROWS:
        raise InputError(
            f"{file.path} has {values.shape[1]} values a particle; expected the {EM_ROWS} of a motive list. A value is "
            "missing or too many, so the others stand in wrong rows: write it again."
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0]) + 1
        raise InputError(f"{file.path}: particle {row} has a value that is no finite number. Remove it.")
    return values


def _read_em(file: ListFile, metadata: ListMetadata) -> Particles:
    return motive_list_rows(_em_rows(file)).particles(file.path, metadata)


def motive_list_rows(values: FloatArray) -> NumberedRows:
    """Rows of the values (N, 20) of a motive list."""
    return NumberedRows(
        tomograms=whole_numbers(values[:, 4]),
        voxels=values[:, 7:10] + values[:, 10:13],
        angles=values[:, [16, 18, 17]],
        to_rotations=zxz_to_matrix,
        first=_FIRST_VOXEL,
        extra=em_columns(values),
    )


def em_columns(values: FloatArray) -> dict[str, NDArray[np.str_]]:
    """Columns of the rows (N, 20) that are no pose, but for those that hold nothing."""
    named = {PICKERS_SCORE: values[:, 0], OBJECT: values[:, 5], CLASS_NUMBER: values[:, 19]}
    named |= {f"motl_{row}": values[:, row - 1] for row in _CARRIED_ROWS}
    return {
        **without_counting(SUBTOMOGRAM, texts(values[:, 3]).tolist()),
        **without_defaults({name: texts(column).tolist() for name, column in named.items()}, {CLASS_NUMBER: 1}),
    }


def _em_volumes(file: ListFile) -> dict[str, Path | None]:
    return volumes_of_motive_list(_em_rows(file), file.path)


def volumes_of_motive_list(values: FloatArray, path: Path) -> dict[str, Path | None]:
    """File of each tomogram that the values (N, 20) of a motive list are of; see `volumes_of`."""
    return volumes_of(whole_numbers(values[:, 4]), path)


def _write_em(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write a motive list as an EM file of float32, and the table of its tomograms beside it."""
    rows = WrittenRows.of(particles, metadata, path=path, first=_FIRST_VOXEL, most=_LARGEST)
    values = np.zeros((len(particles), EM_ROWS))
    for row, name in ((5, OBJECT), *((row - 1, f"motl_{row}") for row in _CARRIED_ROWS)):
        column = as_numbers(particles, name)
        values[:, row] = 0 if column is None else column
    values[:, 0], values[:, 3], values[:, 4], values[:, 19] = (
        rows.score,
        rows.subtomograms,
        rows.tomograms,
        rows.classes,
    )
    values[:, 7:10], values[:, 10:13] = whole_and_rest(rows.voxels)
    if particles.rotations is not None:
        values[:, [16, 18, 17]] = matrix_to_zxz(particles.rotations)
    header = bytes((6, 0, 0, 5)) + np.array([EM_ROWS, len(particles), 1], "<i4").tobytes()
    with replacing(path) as beside:
        beside.write_bytes(header.ljust(HEADER_BYTES, b"\0") + values.astype("<f4").tobytes())
    held = (OBJECT, *(f"motl_{row}" for row in _CARRIED_ROWS))
    return _written_notes(path, particles, metadata, rows, held=held, title="An EM motive list", provenance=provenance)


def _written_notes(
    path: Path,
    particles: Particles,
    metadata: ListMetadata,
    rows: WrittenRows,
    *,
    held: Sequence[str],
    title: str,
    provenance: str,
) -> tuple[str, ...]:
    """Sentences on a list that was written, and on the table of its tomograms, which is written here."""
    table = write_table_of_tomograms(path, particles, rows, metadata, provenance=provenance)
    numbered = (NUMBER, SUBTOMOGRAM, CLASS_NUMBER, score_name(particles))
    return (
        size_note(rows.sizes),
        f"The tomograms' names and voxel sizes are in {table.name}: keep it beside the list.",
        *rows.notes,
        *left_out(particles, title, held=(*numbered, *held), kind=True),
    )


EM_MOTIVE_LIST = Dialect(
    name="em",
    title="EM motive list",
    programs="AV3, TOM, PyTom, novaSTA, cryoCAT",
    suffixes=(".em",),
    layout="voxels counted from 1, rows 8 to 10, plus shifts in rows 11 to 13; phi, psi, theta in rows 17 to 19 (zxz)",
    trap="Stored order phi, psi, theta. Some programs count voxels from 0 (--first-voxel 0). Tomograms are numbers.",
    recognises=_is_em_list,
    read=_read_em,
    in_voxels=True,
    write=_write_em,
    companions=lambda path: (table_of_tomograms_path(path),),
    volumes=_em_volumes,
)


# --- STOPGAP --------------------------------------------------------------------------------------------------------

_BLOCK = "stopgap_motivelist"

_TAGS = (
    *("motl_idx", "tomo_num", "object", "subtomo_num", "halfset", "orig_x", "orig_y", "orig_z", "score"),
    *("x_shift", "y_shift", "z_shift", "phi", "psi", "the", "class"),
)
"""Columns of a motive list of STOPGAP, in its order."""

_HALVES = {"A": "1", "B": "2"}
"""RELION's names of STOPGAP's half sets."""


def _stopgap_table(file: ListFile) -> Table:
    """The motive list's columns, as text.

    Raises
    ------
    InputError
        If one is missing, or there are no rows.
    """
    table = block_of(file, "tomo_num")
    absent = [name for name in _TAGS[:2] + _TAGS[5:8] + _TAGS[9:15] if name not in table]
    if absent:
        raise InputError(f"{file.path} has no column {absent[0]}; expected a motive list of STOPGAP. Add it.")
    if not table["tomo_num"]:
        raise InputError(f"{file.path} has no particles: its motive list is empty. Choose another file.")
    return table


def _stopgap_numbers(table: Table, where: str) -> list[int]:
    return whole_numbers(single(table, "tomo_num", where=where))


def _read_stopgap(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = _stopgap_table(file), str(file.path)
    rows = NumberedRows(
        tomograms=_stopgap_numbers(table, where),
        voxels=numbers(table, ("orig_x", "orig_y", "orig_z"), where=where)
        + numbers(table, ("x_shift", "y_shift", "z_shift"), where=where),
        angles=numbers(table, ("phi", "the", "psi"), where=where),
        to_rotations=zxz_to_matrix,
        extra=_stopgap_columns(table),
    )
    return rows.particles(file.path, metadata)


def _stopgap_columns(table: Table) -> dict[str, NDArray[np.str_]]:
    named = {"score": PICKERS_SCORE, "object": OBJECT, "class": CLASS_NUMBER}
    halves = [_HALVES.get(text, text) for text in table.get("halfset", ())]
    counting = {"motl_idx": "stopgap_motl_idx", "subtomo_num": SUBTOMOGRAM}
    columns: dict[str, NDArray[np.str_]] = {}
    for tag, name in counting.items():
        columns |= without_counting(name, table[tag]) if tag in table else {}
    found = {name: table[tag] for tag, name in named.items() if tag in table}
    columns |= without_defaults(found, {CLASS_NUMBER: 1, OBJECT: 1})
    columns |= {HALF_SET: np.array(halves, str)} if halves else {}
    return columns | {name: np.array(values, str) for name, values in table.items() if name not in _TAGS}


def _stopgap_volumes(file: ListFile) -> dict[str, Path | None]:
    return volumes_of(_stopgap_numbers(_stopgap_table(file), str(file.path)), file.path)


def _write_stopgap(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write a motive list of STOPGAP, and the table of its tomograms beside it."""
    rows = WrittenRows.of(particles, metadata, path=path, first=0)
    whole, rest = whole_and_rest(rows.voxels)
    angles = np.zeros((len(particles), 3)) if particles.rotations is None else matrix_to_zxz(particles.rotations)
    objects = as_numbers(particles, OBJECT)
    columns: dict[str, Sequence[str]] = {
        "motl_idx": texts(counted(particles, "stopgap_motl_idx")).tolist(),
        "tomo_num": texts(rows.tomograms).tolist(),
        "object": ["1"] * len(particles) if objects is None else texts(objects).tolist(),
        "subtomo_num": texts(rows.subtomograms).tolist(),
        "halfset": _halves(particles),
        "score": decimals(rows.score),
        "class": texts(rows.classes).tolist(),
    }
    for axis, name in enumerate("xyz"):
        columns[f"orig_{name}"] = texts(whole[:, axis] + 0.0).tolist()
        columns[f"{name}_shift"] = decimals(rest[:, axis])
    columns |= {name: decimals(angles[:, place]) for name, place in (("phi", 0), ("the", 1), ("psi", 2))}
    _write_stopgap_file(path, {name: columns[name] for name in _TAGS})
    held, title = (OBJECT, HALF_SET, "stopgap_motl_idx"), "STOPGAP's motive list"
    return _written_notes(path, particles, metadata, rows, held=held, title=title, provenance=provenance)


def _halves(particles: Particles) -> list[str]:
    """Half set of each particle; A where it is unknown, as STOPGAP writes before halves are drawn."""
    column = particles.extra.get(HALF_SET)
    names = {number: letter for letter, number in _HALVES.items()}
    return ["A"] * len(particles) if column is None else [names.get(str(text), "A") for text in column.tolist()]


def _write_stopgap_file(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Write the columns as STOPGAP does: tags without numbers, and a blank line before the rows."""
    widths = [max(map(len, values)) for values in columns.values()]
    head = f"\ndata_{_BLOCK}\n\nloop_\n" + "".join(f"_{name}\n" for name in columns) + "\n"
    rows = zip(*columns.values(), strict=True)
    lines = (" " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "\n" for row in rows)
    write_text(path, head + "".join(lines))


STOPGAP = Dialect(
    name="stopgap",
    title="STOPGAP motive list",
    programs="STOPGAP, GAPSTOP, TOMOMAN, cryoCAT",
    suffixes=(".star",),
    layout="voxels of the tomogram, orig_x plus x_shift, as the program writes them; phi, psi, the (zxz)",
    trap="Tomograms are numbers. Subtomograms are cut counting from 1: if yours lie one voxel off, --first-voxel 1.",
    recognises=lambda file: _BLOCK in file.blocks,
    read=_read_stopgap,
    in_voxels=True,
    write=_write_stopgap,
    companions=lambda path: (table_of_tomograms_path(path),),
    volumes=_stopgap_volumes,
)
