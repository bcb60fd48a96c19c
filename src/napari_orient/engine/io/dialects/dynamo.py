"""Dynamo's tables (.tbl): 26 to 42 columns of numbers without a header, and its lists of tomograms (.doc, .vll).

Columns: wiki.dynamo.biozentrum.unibas.ch, Table convention. A pose is R = (Rz(narot) Rx(tilt) Rz(tdrot))ᵀ; shifts are
added. The wedge's columns (13 to 17) and others that are not understood are carried under their names after
``dynamo_``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.numbered import (
    NUMBER,
    NumberedRows,
    WrittenRows,
    volumes_of,
    whole_numbers,
    write_doc,
)
from napari_orient.engine.io.dialects.text_tables import check_lengths
from napari_orient.engine.io.dialects.voxels import (
    SUBTOMOGRAM,
    left_out,
    score_name,
    size_note,
    texts,
    without_counting,
    without_defaults,
)
from napari_orient.engine.io.star import Table, decimals, numbers, single
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.outputs import write_text
from napari_orient.engine.particles import CLASS_NUMBER, FloatArray, Particles
from napari_orient.engine.rotations import matrix_to_zxz, zxz_to_matrix

_COLUMNS = (
    *("tag", "aligned", "averaged", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "cc2", "cpu", "ftype"),
    *("ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2", "tomo", "reg", "class", "annotation"),
    *("x", "y", "z", "dshift", "daxis", "dnarot", "dcc", "otag", "npar", "column33", "ref", "sref", "apix", "def"),
    *("column38", "column39", "column40", "eig1", "eig2"),
)
"""Names of the columns, from 1 to 42."""

_FEWEST = 26
"""Columns up to the coordinates."""

_HELD = ("tag", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "tomo", "class", "x", "y", "z", "apix")
"""Columns that are not carried as they are."""

_WHOLE = ("tag", "aligned", "averaged", "ftype", "tomo", "class")
"""Columns of whole numbers in every table: others of as many columns are not Dynamo's."""

_DEFAULTS = {"aligned": 1, "averaged": 1}
"""What other columns hold that say nothing; 0 where none is named."""

_PREFIX = "dynamo_"


def _words(line: str) -> list[str]:
    """Values of a row: between blanks, or between commas, as MATLAB's csvwrite and spreadsheets have them."""
    return line.replace(",", " ").replace(";", " ").split()


def _recognises(file: ListFile) -> bool:
    words = _words(file.lines[0]) if file.lines else []
    if not _FEWEST <= len(words) <= 2 * len(_COLUMNS) or not all(map(_is_number, words)):
        return False
    row = dict(zip(_COLUMNS, words, strict=False))
    return all(_is_whole(row[name]) for name in _WHOLE)


def _is_number(word: str) -> bool:
    try:
        complex(word.replace("i", "j"))
    except ValueError:
        return False
    return True


def _is_whole(word: str) -> bool:
    value = complex(word.replace("i", "j"))
    return value.imag == 0 and float(value.real).is_integer()


# --- reading --------------------------------------------------------------------------------------------------------


def _table(file: ListFile) -> Table:
    """Columns by name, as text.

    Raises
    ------
    InputError
        If there are too few columns, or rows of different length.
    """
    rows = [_words(line) for line in file.text.splitlines() if line.strip() and line.lstrip()[0] not in "#%"]
    if not rows or len(rows[0]) < _FEWEST:
        count = len(rows[0]) if rows else 0
        raise InputError(
            f"{file.path} has {count} columns; expected {_FEWEST} to {len(_COLUMNS)} numbers a row, as in a table of "
            "Dynamo. Was it written by another program?"
        )
    check_lengths(rows, file.path)
    names = [*_COLUMNS, *(f"column{number}" for number in range(len(_COLUMNS) + 1, len(rows[0]) + 1))]
    return dict(zip(names, zip(*rows, strict=True), strict=False))


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = _table(file), str(file.path)
    own = single(table, "apix", where=where, finite=False) if "apix" in table else None
    other = {f"{_PREFIX}{name}": values for name, values in table.items() if name not in _HELD}
    defaults = {f"{_PREFIX}{name}": value for name, value in _DEFAULTS.items()}
    rows = NumberedRows(
        tomograms=_tomogram_numbers(table, where),
        voxels=numbers(table, ("x", "y", "z"), where=where) + numbers(table, ("dx", "dy", "dz"), where=where),
        angles=numbers(table, ("tdrot", "tilt", "narot"), where=where),
        to_rotations=lambda angles: zxz_to_matrix(angles).transpose(0, 2, 1),
        own_sizes=None if own is None else np.nan_to_num(own),
        extra={
            **without_counting(SUBTOMOGRAM, table["tag"]),
            **without_defaults({PICKERS_SCORE: table["cc"], CLASS_NUMBER: table["class"]}, {CLASS_NUMBER: 1}),
            **without_defaults(other, defaults),
        },
    )
    return rows.particles(file.path, metadata)


def _tomogram_numbers(table: Table, where: str) -> list[int]:
    return whole_numbers(single(table, "tomo", where=where))


def _volumes(file: ListFile) -> Mapping[str, Path | None]:
    return volumes_of(_tomogram_numbers(_table(file), str(file.path)), file.path)


# --- writing --------------------------------------------------------------------------------------------------------


def _write(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write a table, and the list of its tomograms beside it (``.doc``)."""
    rows = WrittenRows.of(particles, metadata, path=path, first=0)
    columns = {name: _carried(particles, name) for name in _COLUMNS}
    columns |= {
        "tag": texts(rows.subtomograms).tolist(),
        "tomo": texts(rows.tomograms).tolist(),
        "class": texts(rows.classes).tolist(),
        "cc": _trimmed(rows.score),
        "apix": [f"{size:.9g}" for size in rows.sizes.tolist()],
    }
    columns |= _triple(("x", "y", "z"), rows.voxels)
    if particles.rotations is not None:
        columns |= _triple(("tdrot", "tilt", "narot"), matrix_to_zxz(particles.rotations.transpose(0, 2, 1)))
    cells = zip(*(columns[name] for name in _COLUMNS), strict=True)
    write_text(path, "".join(" ".join(row) + "\n" for row in cells))
    write_doc(path.with_suffix(".doc"), rows.numbers, {})
    return (size_note(rows.sizes), *rows.notes, *_notes(path, particles))


def _notes(path: Path, particles: Particles) -> tuple[str, ...]:
    held = [*(name for name in particles.extra if name.startswith(_PREFIX)), NUMBER, SUBTOMOGRAM, CLASS_NUMBER]
    lost = left_out(particles, "A table of Dynamo", held=[*held, score_name(particles)], kind=True)
    wedge = f"{_PREFIX}ftype" not in particles.extra
    return (
        f"The tomograms' names are in {path.with_suffix('.doc').name}.",
        *(["The tilt range (columns 13 to 17) is 0, unknown: set it before an alignment in Dynamo."] if wedge else []),
        *lost,
    )


def _carried(particles: Particles, name: str) -> list[str]:
    column = particles.extra.get(f"{_PREFIX}{name}")
    if column is None:
        return [str(_DEFAULTS.get(name, 0))] * len(particles)
    return [text if _is_number(text) else "0" for text in map(str, column.tolist())]


def _triple(names: Sequence[str], values: FloatArray) -> dict[str, list[str]]:
    return {name: _trimmed(column) for name, column in zip(names, values.T, strict=True)}


def _trimmed(column: FloatArray) -> list[str]:
    """Numbers in at most six decimals, without zeros at their end."""
    return [text.rstrip("0").rstrip(".") for text in decimals(column)]


DYNAMO = Dialect(
    name="dynamo",
    title="Dynamo table",
    programs="Dynamo, ArtiaX, cryoCAT, pyTME",
    suffixes=(".tbl",),
    layout="voxels of the tomogram, columns 24 to 26, plus shifts in columns 4 to 6; tdrot, tilt, narot (zxz, inverse)",
    trap="Tomograms are numbers, with names in a .doc or .vll beside the table. Column 36 may state the voxel size.",
    recognises=_recognises,
    read=_read,
    in_voxels=True,
    write=_write,
    companions=lambda path: (path.with_suffix(".doc"),),
    volumes=_volumes,
)
