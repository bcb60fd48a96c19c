"""Tables of points as napari saves them, read as particles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Particles
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import (
    CLASS,
    CONFIDENCE,
    EXPECTED_ERROR,
    FEATURE_NAMES,
    OWN_COLUMNS,
    ROTATION_COLUMNS,
)

_AXES = ("axis-0", "axis-1", "axis-2")


def is_napari_csv(path: Path) -> bool:
    """Whether a file is a table of points in a volume as napari saves them."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().startswith("index,axis-0,axis-1,axis-2")


def read_napari_csv(path: Path, *, voxel_size: float | None) -> Particles:
    """The particles of such a file, with poses, scores and classes where its columns hold them.

    Parameters
    ----------
    voxel_size : Å, of the tomogram that the points lie in: the file counts in voxels and does not say of what size.

    Raises
    ------
    InputError
        If the voxel size is unknown, or a column is not numeric.
    """
    if voxel_size is None:
        raise InputError(f"{path.name} counts in voxels of a size that it does not say; open its tomogram first.")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return _particles(rows, voxel_size)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path.name} is no whole table of points as napari saves it: {error}.") from None


def _particles(rows: list[dict[str, str]], voxel_size: float) -> Particles:
    names = list(rows[0]) if rows else []
    numbers = {name: _numbers(rows, name) for name in (*_AXES, *ROTATION_COLUMNS, CONFIDENCE, EXPECTED_ERROR)}
    places = np.stack([numbers[name] for name in _AXES], axis=1)
    posed = set(ROTATION_COLUMNS) <= set(names)
    rotations = np.stack([numbers[name] for name in ROTATION_COLUMNS], axis=1).reshape(-1, 3, 3)
    plain = {feature: column for column, feature in FEATURE_NAMES.items()}
    foreign = [name for name in names if name not in (*OWN_COLUMNS, *_AXES, "index")]
    return Particles(
        positions=layer_data.flip(places) * voxel_size,
        rotations=rotations if posed and np.isfinite(rotations).all() else None,
        confidence=numbers[CONFIDENCE] if CONFIDENCE in names else None,
        expected_error_deg=numbers[EXPECTED_ERROR] if EXPECTED_ERROR in names else None,
        kind=np.array([row[CLASS] for row in rows]) if CLASS in names else None,
        extra={plain.get(name, name): np.array([row[name] for row in rows]) for name in foreign},
    )


def _numbers(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row.get(name) or "nan") for row in rows])
