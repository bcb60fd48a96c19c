"""emClarity's picks (convmap/NAME_REGION_binN.csv): 26 numbers for each orientation of a particle, without a header.

Columns, from 1: score, binning of the search, –, number, –, x, y, z (11 to 13, unbinned pixels), angles (14 to 16, not
used by emClarity), rotation matrix by columns (17 to 25), class. Facts: emClarity's own template search, which writes
them; dynamo2emClarity and TomoStarPy, which convert to and from them. Both take the matrix from the tomogram to the
reference, the inverse of a pose. Where several peaks were kept, a row has 26 more numbers for each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import PICKERS_SCORE
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.text_tables import check_lengths, is_number
from napari_orient.engine.io.dialects.voxels import (
    SUBTOMOGRAM,
    VoxelRows,
    particles_in_voxels,
    without_counting,
    without_defaults,
)
from napari_orient.engine.io.star import Table, numbers
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.particles import CLASS_NUMBER, FloatArray, Particles

_COLUMNS = 26
"""Numbers of one orientation."""

_SCORE, _BINNING, _NUMBER, _CLASS = "1", "2", "4", "26"
_POSITION = ("11", "12", "13")
_MATRIX = tuple(str(place) for place in range(17, 26))

_ROUNDING = 0.02
"""By which a product of a matrix with its transpose may differ from the identity: written with two decimals or more."""


def _recognises(file: ListFile) -> bool:
    words = file.lines[0].split() if file.lines else []
    if not words or len(words) % _COLUMNS or not all(map(is_number, words)):
        return False
    return bool(_are_rotations(np.array([_inverse(words[16:25])]))[0])


def _inverse(words: list[str]) -> FloatArray:
    """The pose (3, 3) of nine numbers: by columns the inverse of the pose, so by rows the pose itself."""
    return np.array(words, dtype=float).reshape(3, 3)


def _are_rotations(matrices: FloatArray) -> NDArray[np.bool_]:
    """Whether matrices (N, 3, 3) are rotations but for rounding, (N,)."""
    matrices = np.where((np.abs(matrices) < 2).all(axis=(1, 2), keepdims=True), matrices, 0)
    off = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    return np.asarray((off < _ROUNDING) & (np.linalg.det(matrices) > 0))


def _table(file: ListFile) -> Table:
    """Columns by number, of the first orientation of each row."""
    rows = [line.split() for line in file.text.splitlines() if line.strip()]
    check_lengths(rows, file.path)
    return {str(place): column for place, column in enumerate(zip(*rows, strict=True), start=1)}


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    table, where = _table(file), str(file.path)
    poses = numbers(table, _MATRIX, where=where).reshape(-1, 3, 3)
    wrong = np.flatnonzero(~_are_rotations(poses))
    if len(wrong):
        raise InputError(f"{where}: columns 17 to 25 of row {wrong[0] + 1} are no rotation matrix. Mend or remove it.")
    binning = numbers(table, (_BINNING,), where=where)
    if (binning <= 0).any():
        raise InputError(f"{where}: the binning in column 2 is not above 0. Write it: that of the tomogram searched.")
    left = len(table) // _COLUMNS - 1
    said = (
        f"Positions are in the region that emClarity searched, binned by {binning[0, 0]:g}: open its own tomogram.",
        *((f"Each row has {left + 1} orientations: the first, of the highest score, is taken.",) if left else ()),
    )
    extra = {
        **without_counting(SUBTOMOGRAM, table[_NUMBER]),
        **without_defaults({PICKERS_SCORE: table[_SCORE], CLASS_NUMBER: table[_CLASS]}, {CLASS_NUMBER: 1}),
    }
    rows = VoxelRows(
        voxels=numbers(table, _POSITION, where=where) / binning,
        names=[""] * len(poses),
        rotations=poses,
        first=1,
        extra=extra,
        notes=said,
    )
    return particles_in_voxels(rows, metadata, where=where)


EMCLARITY = Dialect(
    name="emclarity",
    title="emClarity's picks",
    programs="emClarity (convmap/NAME_REGION_binN.csv), dynamo2emClarity",
    suffixes=(".csv",),
    layout="unbinned pixels, which over column 2 are voxels of the region searched, from 1; columns 17 to 25 are the "
    "inverse of the pose, by columns",
    trap="Not of the whole tomogram, but of a region of it (NAME_REGION_binN.rec): that is the one to open.",
    recognises=_recognises,
    read=_read,
    volumes=lambda file: {"": None},
)
