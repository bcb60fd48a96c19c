"""Rows of a layer of particles: read and written, with the initial poses of corrected ones stored beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import POSE_COLUMNS, POSE_UNKNOWN, RESULT_COLUMNS, renewed_pose_columns
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import (
    CONFIDENCE,
    CORRECTED,
    EXPECTED_ERROR,
    FIRST,
    NUMBER,
    ROTATION_COLUMNS,
    STATUS,
)

if TYPE_CHECKING:
    import pandas as pd


Rows = NDArray[np.int_]
"""Indices of particles in their layer."""

_FEW = 16
"""Up to so many rows are written cell by cell."""

_OWN_POSE_COLUMNS = (CONFIDENCE, EXPECTED_ERROR, *RESULT_COLUMNS, *ROTATION_COLUMNS)


def rows_of(layer: Points, rows: Rows) -> Particles:
    """The particles of some rows of a layer, with their poses.

    Raises
    ------
    InputError
        If one of them has no orientation.
    """
    missing = int((~layer_data.has_pose(layer)[rows]).sum())
    if missing:
        raise InputError(f"{missing} of {len(rows)} particles have no orientation yet. Predict them first.")
    part = layer.features.iloc[rows]
    scores = {name: part[name].to_numpy(float) for name in (CONFIDENCE, EXPECTED_ERROR) if name in part.columns}
    return layer_data.picks_of(layer).take(rows).replace(rotations=layer_data.rotations_in(layer)[rows], **scores)


def put_rows(layer: Points, rows: Rows, particles: Particles) -> None:
    """Write these particles into these rows of the layer: positions, poses, scores and status.

    No other row changes, not by a bit.
    """
    said = layer_data.about(layer)
    values: dict[str, Any] = {CONFIDENCE: particles.confidence, EXPECTED_ERROR: particles.expected_error_deg}
    values |= {name: particles.extra[name] for name in RESULT_COLUMNS if name in particles.extra}
    said["extra"] = said.get("extra", {}) | {name: "f" for name in RESULT_COLUMNS if name in particles.extra}
    if POSE_UNKNOWN in particles.extra:
        values[POSE_UNKNOWN] = particles.extra[POSE_UNKNOWN]
        said["extra"][POSE_UNKNOWN] = "U"
    if particles.rotations is not None:
        values |= dict(zip(ROTATION_COLUMNS, particles.rotations.reshape(-1, 9).T, strict=True))
    for name in set(layer_data.FEATURE_NAMES) & set(particles.extra):
        values[layer_data.FEATURE_NAMES[name]] = particles.extra[name]
        said["extra"] = {**said.get("extra", {}), name: "U"}
    _put_places(layer, rows, particles.positions)
    _put_values(layer, rows, {name: column for name, column in values.items() if column is not None})


def _put_places(layer: Points, rows: Rows, positions: FloatArray) -> None:
    """Move these rows to positions (R, 3) xyz in Å; those that do not move keep their bits.

    Å and back to voxels would change the last digit. The array is written in place where it can be: a new one makes
    napari measure the whole world again, which is not larger for a particle within it.
    """
    data = np.asarray(layer.data[rows], float)
    still = layer_data.positions_of(layer, rows) == positions
    if still.all():
        return
    places = np.where(layer_data.flip(still), data, layer_data.data_of(layer, positions))
    if layer.data.dtype == places.dtype and layer.data.flags.writeable:
        low, high = layer.extent.data
        layer.data[rows] = places
        within = bool(((places >= low) & (places <= high)).all())
        layer.refresh(extent=not within, thumbnail=len(rows) > _FEW)
    else:
        moved = np.array(layer.data, float)
        moved[rows] = places
        layer.data = moved


def _put_values(layer: Points, rows: Rows, values: Mapping[str, Any]) -> None:
    """Write values, one or (R,) each, into these rows of the layer's features; a new column is empty elsewhere.

    Napari works out defaults, colours and texts of the whole table anew when it is set: where it has the columns
    already, values are put in their places instead, and few of them cell by cell.
    """
    table = layer.features
    whole = {name: np.broadcast_to(np.asarray(value), len(rows)) for name, value in values.items()}
    if not set(whole) <= set(table.columns):
        layer.features = table.assign(**{name: _column(table, name, rows, part) for name, part in whole.items()})
        return
    kinds = table.dtypes
    for name, part in whole.items():
        if len(rows) <= _FEW and _fits(kinds[name], part):
            place = table.columns.get_loc(name)
            for row, value in zip(rows.tolist(), part.tolist(), strict=True):
                table.iat[row, place] = value
        else:
            table[name] = _column(table, name, rows, part)
    layer.refresh_text()
    layer.events.features()


def _fits(kind: Any, values: NDArray[Any]) -> bool:
    """Whether a column of this type takes these values as they are: texts to texts, and numbers of its own kind."""
    return bool(kind.kind == values.dtype.kind if values.dtype.kind in "fi" else kind.kind not in "fiub")


def _column(table: pd.DataFrame, name: str, rows: Rows, values: NDArray[Any]) -> NDArray[Any]:
    """The column with some rows replaced: numbers, or texts."""
    import pandas as pd

    before = table.get(name)
    if isinstance(before, pd.Series) and _fits(before.dtype, values):
        filled: NDArray[Any] = before.to_numpy(copy=True)
    elif values.dtype.kind in "fi":
        filled = np.full(len(table), np.nan) if before is None else before.to_numpy(float, copy=True)
    else:
        empty = "0" if name == CORRECTED else ""
        filled = np.full(len(table), empty, object) if before is None else before.to_numpy(object, copy=True)
    filled[rows] = values
    return filled if filled.dtype != object else filled.astype(str)


def clear_added(layer: Points, rows: Rows) -> None:
    """Number points just added, and clear pose, score and status, which napari copied from another point."""
    table = layer.features
    if NUMBER not in table.columns:
        return
    others = np.delete(table[NUMBER].to_numpy(float), rows)
    first = 1 + int(np.nanmax(others, initial=0))
    cleared: dict[str, Any] = dict.fromkeys(_OWN_POSE_COLUMNS, np.nan) | {STATUS: "", CORRECTED: "0"}
    cleared[NUMBER] = np.arange(first, first + len(rows))
    _put_values(layer, rows, {name: value for name, value in cleared.items() if name in table.columns})
    renew_pose_columns(layer, rows)


def renew_pose_columns(layer: Points, rows: Rows) -> None:
    """Make RELION's columns of these rows fit their present poses: priors are the new angles, statistics 0."""
    names = set(layer.features.columns) & set(POSE_COLUMNS)
    if names and len(rows):
        _put_values(layer, rows, renewed_pose_columns(names, layer_data.rotations_in(layer)[rows]))


# --- where corrections began ------------------------------------------------------------------------------------------


def remember(
    layer: Points, rows: Rows, *, data: NDArray[Any] | None = None, table: Mapping[str, pd.Series] | None = None
) -> None:
    """Store the initial poses of these rows in the layer, as they are or were then, unless stored already."""
    held: Any = layer.features if table is None else table
    places = layer.data if data is None else data
    columns = [name for name in (*_OWN_POSE_COLUMNS, *POSE_COLUMNS) if name in held]
    if not set(ROTATION_COLUMNS) <= set(columns):
        return
    kept = dict(_first_poses(layer))
    numbers = held[NUMBER].to_numpy()
    new = [row for row in np.asarray(rows, int).tolist() if int(numbers[row]) not in kept]
    # Column by column: cell by cell pandas takes seconds for thousands of particles.
    values = zip(*(list(held[name].to_numpy()[new]) for name in columns), strict=True)
    for row, place, pose in zip(new, places[new].tolist(), values, strict=True):
        kept[int(numbers[row])] = (tuple(place), dict(zip(columns, pose, strict=True)))
    layer_data.about(layer)[FIRST] = kept


def forget(layer: Points, rows: Rows) -> None:
    """Drop the stored initial poses of these rows: corrections begin from what they hold now."""
    numbers = set(layer.features[NUMBER].iloc[rows])
    layer_data.about(layer)[FIRST] = {
        number: pose for number, pose in _first_poses(layer).items() if number not in numbers
    }


def recall(layer: Points, rows: Rows) -> Rows:
    """Those of the rows that had been changed; they now hold again, to the byte, what they began with."""
    first = _first_poses(layer)
    back = rows[remembered(layer)[rows]]
    table, data = layer.features.copy(), np.array(layer.data)
    for row in back:
        data[row], pose = first[int(table[NUMBER].iloc[row])]
        for name in set(pose) & set(table.columns):
            table.iloc[row, table.columns.get_loc(name)] = pose[name]
        if CORRECTED in table.columns:
            table.iloc[row, table.columns.get_loc(CORRECTED)] = "0"
    layer.data = data
    layer.features = table
    # Poses before corrections that are read from a file come without RELION's columns of them.
    stale = [row for row in back if not set(POSE_COLUMNS) & set(first[int(table[NUMBER].iloc[row])][1])]
    renew_pose_columns(layer, np.array(stale, int))
    forget(layer, back)
    return back


def remembered(layer: Points) -> NDArray[np.bool_]:
    """Which particles of a layer are not as they were when they came, (N,)."""
    numbers = layer.features[NUMBER] if NUMBER in layer.features.columns else []
    return np.array([number in _first_poses(layer) for number in numbers], bool)


def _first_poses(layer: Points) -> Mapping[int, Any]:
    first: Mapping[int, Any] = layer_data.about(layer).get(FIRST, {})
    return first
