"""Some particles of a layer: read, written, and the poses that they were predicted with kept beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points
from numpy.typing import NDArray

from napari_orient.engine.files.own import FIGURES
from napari_orient.engine.particles import Particles
from napari_orient.engine.tasks import InputError
from napari_orient.gui import layers
from napari_orient.gui.layers import CONFIDENCE, CORRECTED, EXPECTED_ERROR, FIRST, NUMBER, ROTATION_COLUMNS, STATUS

Rows = NDArray[np.int_]
"""Indices of particles in their layer."""

_POSE_COLUMNS = (CONFIDENCE, EXPECTED_ERROR, *FIGURES, *ROTATION_COLUMNS)


def rows_of(layer: Points, rows: Rows) -> Particles:
    """The particles of some rows of a layer, with their poses.

    Raises
    ------
    InputError
        If one of them has no orientation.
    """
    missing = int((~layers.has_pose(layer)[rows]).sum())
    if missing:
        raise InputError(f"{missing} of {len(rows)} particles have no orientation yet. Predict them first.")
    part = layer.features.iloc[rows]
    scores = {name: part[name].to_numpy(float) for name in (CONFIDENCE, EXPECTED_ERROR) if name in part.columns}
    return layers.picks_of(layer).take(rows).replace(rotations=layers.rotations_in(layer)[rows], **scores)


def put_rows(layer: Points, rows: Rows, particles: Particles) -> None:
    """Nothing; these rows of the layer now hold these particles: positions, poses, scores and verdicts.

    No other row changes, not by a bit.
    """
    table, said = layer.features, layers.about(layer)
    columns: dict[str, Any] = {CONFIDENCE: particles.confidence, EXPECTED_ERROR: particles.expected_error_deg}
    columns |= {name: particles.extra[name] for name in FIGURES if name in particles.extra}
    said["extra"] = said.get("extra", {}) | {name: "f" for name in FIGURES if name in particles.extra}
    if particles.rotations is not None:
        columns |= dict(zip(ROTATION_COLUMNS, particles.rotations.reshape(-1, 9).T, strict=True))
    changed = {
        name: _with_rows(table.get(name), rows, values, whole=np.full(len(table), np.nan))
        for name, values in columns.items()
        if values is not None
    }
    for name in set(layers.SPOKEN) & set(particles.extra):
        at, empty = layers.SPOKEN[name], "0" if layers.SPOKEN[name] == CORRECTED else ""
        changed[at] = _with_rows(table.get(at), rows, particles.extra[name], whole=np.full(len(table), empty, object))
        said["extra"] = {**said.get("extra", {}), name: "U"}
    # Only what has moved: Å and back to voxels would change the last digit of the rest.
    size, data = layers.voxel_size(layer), np.asarray(layer.data[rows], float)
    still = layers.flip(data * size) == particles.positions
    if not still.all():
        moved = np.array(layer.data, float)
        moved[rows] = np.where(layers.flip(still), data, layers.flip(particles.positions) / size)
        layer.data = moved
    _put_columns(layer, changed)


def _put_columns(layer: Points, columns: Mapping[str, Any]) -> None:
    """Nothing; these columns of the layer's features hold this now.

    Napari works out defaults, colours and texts of the whole table anew when it is set: where it has the columns
    already, they are put in their places instead.
    """
    table = layer.features
    if not set(columns) <= set(table.columns):
        layer.features = table.assign(**columns)
        return
    for name, values in columns.items():
        table[name] = values
    layer.refresh_text()
    layer.events.features()


def _with_rows(column: pd.Series | None, rows: Rows, values: NDArray[Any], *, whole: NDArray[Any]) -> NDArray[Any]:
    """The column with some rows replaced; ``whole`` is what a new one holds elsewhere."""
    filled = whole if column is None else column.to_numpy(whole.dtype).copy()
    filled[rows] = values
    return filled.astype(str) if whole.dtype == object else filled


def clear_added(layer: Points, rows: Rows) -> None:
    """Nothing; points just added have numbers of their own, and no pose, score or verdict: napari copied another's."""
    table = layer.features
    if NUMBER not in table.columns:
        return
    highest = table[NUMBER].drop(index=table.index[rows]).max()
    first = 1 if pd.isna(highest) else int(highest) + 1
    cleared: dict[str, Any] = dict.fromkeys(_POSE_COLUMNS, np.nan) | {STATUS: "", CORRECTED: "0"}
    cleared[NUMBER] = np.arange(first, first + len(rows))
    told = set(table.columns) & set(cleared)
    _put_columns(layer, {name: _filled(table[name], rows, cleared[name]) for name in told})


def _filled(column: pd.Series, rows: Rows, value: Any) -> pd.Series:
    """The column with a value in some rows; quicker than to write them one column after another with ``.loc``."""
    unknown = isinstance(value, float)
    values = column.to_numpy(float if unknown else None, copy=True)
    values[rows] = value
    return pd.Series(values, index=column.index, dtype=None if unknown else column.dtype)


# --- where corrections began ------------------------------------------------------------------------------------------


def remember(
    layer: Points, rows: Rows, *, data: NDArray[Any] | None = None, table: Mapping[str, pd.Series] | None = None
) -> None:
    """Nothing; the layer keeps where these rows' poses began, unless it does already: as they are, or were then."""
    held: Any = layer.features if table is None else table
    places = layer.data if data is None else data
    columns = [name for name in _POSE_COLUMNS if name in held]
    if not set(ROTATION_COLUMNS) <= set(columns):
        return
    kept = dict(_first_poses(layer))
    for row in rows:
        number = int(held[NUMBER].iloc[row])
        if number not in kept:
            kept[number] = (tuple(places[row].tolist()), {name: held[name].iloc[row] for name in columns})
    layers.about(layer)[FIRST] = kept


def forget(layer: Points, rows: Rows) -> None:
    """Nothing; what these rows hold now is where corrections begin."""
    numbers = set(layer.features[NUMBER].iloc[rows])
    layers.about(layer)[FIRST] = {number: pose for number, pose in _first_poses(layer).items() if number not in numbers}


def recall(layer: Points, rows: Rows) -> Rows:
    """Those of the rows that had been changed; they now hold again, to the byte, what they began with."""
    known = _first_poses(layer)
    back = rows[remembered(layer)[rows]]
    table, data = layer.features.copy(), np.array(layer.data)
    for row in back:
        data[row], pose = known[int(table[NUMBER].iloc[row])]
        for name in set(pose) & set(table.columns):
            table.iloc[row, table.columns.get_loc(name)] = pose[name]
        if CORRECTED in table.columns:
            table.iloc[row, table.columns.get_loc(CORRECTED)] = "0"
    layer.data = data
    layer.features = table
    forget(layer, back)
    return back


def remembered(layer: Points) -> NDArray[np.bool_]:
    """Which particles of a layer are not as they were when they came, (N,)."""
    numbers = layer.features[NUMBER] if NUMBER in layer.features.columns else []
    return np.array([number in _first_poses(layer) for number in numbers], bool)


def _first_poses(layer: Points) -> Mapping[int, Any]:
    known: Mapping[int, Any] = layers.about(layer).get(FIRST, {})
    return known
