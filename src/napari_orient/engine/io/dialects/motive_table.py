"""Motive lists as tables of text: the 20 values a particle of an EM motive list, as scripts write them.

With a header they have the names of cryoCAT's columns (``DataFrame.to_csv``). Without one (MATLAB's ``writematrix``) a
particle is a row, or a column where the array was written as MATLAB holds it; such a table is recognised by its whole
numbers (subtomogram, tomogram, object, class) and by angles where a motive list has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.motive_list import EM_ROWS, motive_list_rows, volumes_of_motive_list
from napari_orient.engine.io.dialects.text_tables import (
    check_lengths,
    first_cells,
    is_number,
    read_rows,
    split_cells,
)
from napari_orient.engine.io.star import numbers
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.particles import FloatArray, Particles

_NAMES = (
    *("score", "geom1", "geom2", "subtomo_id", "tomo_id", "object_id", "subtomo_mean", "x", "y", "z"),
    *("shift_x", "shift_y", "shift_z", "geom3", "geom4", "geom5", "phi", "psi", "theta", "class"),
)
"""cryoCAT's names of a particle's values, in the order in which an EM motive list has them."""
_REQUIRED = (*("tomo_id", "x", "y", "z", "shift_x", "shift_y", "shift_z"), *("phi", "psi", "theta"))
_WHOLE = [_NAMES.index(name) for name in ("subtomo_id", "tomo_id", "object_id", "class")]
_ANGLES = [_NAMES.index(name) for name in ("phi", "psi", "theta")]
_POSITION, _SHIFT = slice(7, 10), slice(10, 13)
_MOST_SHIFT = 100.0
"""Voxels; shifts of an alignment are smaller."""


def _recognises(file: ListFile) -> bool:
    if not file.is_text or file.is_star:
        return False
    if set(_REQUIRED) <= set(first_cells(file)):
        return True
    return _is_motive_list(_first_rows(file)) or _is_motive_list(_only_columns(file))


def _first_rows(file: ListFile) -> FloatArray | None:
    """The first particles of a table of a row each, (N, 20); None where it is no such table."""
    return _square(list(split_cells(file.lines, file.path)), width=EM_ROWS)


def _only_columns(file: ListFile) -> FloatArray | None:
    """The particles of a table of a column each, (N, 20); None where it is no such table."""
    # A long line of another format is not split: its first value is no number.
    if not file.lines or not is_number(re.split(r"[\s,;|]", file.lines[0], maxsplit=1)[0]):
        return None
    rows = list(split_cells(islice(_lines(file), EM_ROWS + 1), file.path))
    values = _square(rows, width=len(rows[0])) if len(rows) == EM_ROWS else None
    return None if values is None else values.T


def _lines(file: ListFile) -> Iterator[str]:
    """Lines that hold values."""
    lines = (line for part in file.parts() for line in part.splitlines())
    return (line for line in lines if line.strip(" ,;\t") and not line.lstrip().startswith("#"))


def _square(rows: Sequence[Sequence[str]], *, width: int) -> FloatArray | None:
    """Rows of as many numbers each, (N, width); None where some are not."""
    if not rows or not all(len(row) == width and all(map(is_number, row)) for row in rows):
        return None
    return np.array([list(map(float, row)) for row in rows])


def _is_motive_list(values: FloatArray | None) -> bool:
    """Whether values (N, 20) have whole numbers, shifts and angles where a motive list has them."""
    if values is None or not np.isfinite(values).all():
        return False
    whole, position, angles = values[:, _WHOLE], values[:, _POSITION], values[:, _ANGLES]
    return bool(
        (whole == whole.round()).all()
        and (whole[:, :2] >= 0).all()
        and (position >= 0).all()
        and (position.max(axis=0) > 1).all()
        and (np.abs(values[:, _SHIFT]) <= _MOST_SHIFT).all()
        and (np.abs(angles) <= 360).all()
    )


def _values(file: ListFile) -> FloatArray:
    """Values of the particles in the order of an EM motive list, (N, 20); 0 where a table does not have them.

    Raises
    ------
    InputError
        If a row has more or fewer values than the first, or one is no number.
    """
    where = str(file.path)
    if set(_REQUIRED) <= set(first_cells(file)):
        table = read_rows(file.path)
        here = [name for name in _NAMES if name in table]
        values = np.zeros((len(table["x"]), EM_ROWS))
        values[:, [_NAMES.index(name) for name in here]] = numbers(table, here, where=where)
        return values
    rows = list(split_cells(_lines(file), file.path))
    check_lengths(rows, file.path)
    wide = len(rows) == EM_ROWS and not _is_motive_list(_first_rows(file))
    columns: Sequence[Sequence[str]] = rows if wide else list(zip(*rows, strict=True))
    names = [str(place) for place in range(1, EM_ROWS + 1)]
    return numbers(dict(zip(names, columns, strict=True)), names, where=where)


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return motive_list_rows(_values(file)).particles(file.path, metadata)


def _volumes(file: ListFile) -> Mapping[str, Path | None]:
    return volumes_of_motive_list(_values(file), file.path)


MOTIVE_TABLE = Dialect(
    name="motive-table",
    title="motive list as a table",
    programs="cryoCAT (its columns, to_csv), scripts in MATLAB (writematrix)",
    suffixes=(".csv", ".txt"),
    layout="as an EM motive list: voxels counted from 1, columns 8 to 10, plus shifts in columns 11 to 13; phi, psi, "
    "theta in columns 17 to 19 (zxz)",
    trap="Without a header it is known by its 20 numbers a particle: its first three columns are no coordinates.",
    recognises=_recognises,
    read=_read,
    volumes=_volumes,
)
