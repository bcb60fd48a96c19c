"""State saved with the particles in their file: model in use, thresholds, and initial poses of corrected particles.

A STAR file may hold tables beside the particles; ours follow them, and programs that do not know them pass them by.
They are written where something was done: a list that was only predicted has the command line's bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.io.columns import FIRST_POSES
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.options import Options
from napari_orient.engine.particles import Particles
from napari_orient.gui import layers
from napari_orient.gui.axes import ViewOptions
from napari_orient.gui.layer_rows import Rows
from napari_orient.gui.layers import FIRST, NUMBER, STATUS

if TYPE_CHECKING:
    from napari_orient.gui.session import Session

STATE = "orient_state"
"""Name of our table of settings, which has one row; `FIRST_POSES` has one for each particle not as it came."""

_ROW, _PLACE = "orientRow", ("orientX", "orientY", "orientZ")
_NONE = "none"
_FILTERS = ("least_score", "most_expected")

Table = Mapping[str, Sequence[str]]


def with_state(particles: Particles, layer: Points, rows: Rows, session: Session | None) -> Particles:
    """The particles of some rows of a layer, with the tables that keep a person's work, where there is any."""
    found = {FIRST_POSES: _beginnings(layer, rows)}
    if session is not None:
        found[STATE] = _state(session, worked_on=bool(found[FIRST_POSES]) or _judged(layer))
    return particles.replace(blocks={**particles.blocks, **{name: table for name, table in found.items() if table}})


def restore_state(layer: Points, session: Session) -> None:
    """Restore the state that a file kept of a person's work, and remove it from the layer's tables."""
    blocks = layers.about(layer).get("blocks", {})
    state, beginnings = blocks.pop(STATE, {}), blocks.pop(FIRST_POSES, {})
    if beginnings:
        layers.about(layer)[FIRST] = _first_poses(beginnings, layers.voxel_size(layer))
    if state:
        _restore(session, {name: column[0] for name, column in state.items() if column})


def _judged(layer: Points) -> bool:
    return STATUS in layer.features.columns and bool((layer.features[STATUS].fillna("") != "").any())


# --- settings ---------------------------------------------------------------------------------------------------------


def _state(session: Session, *, worked_on: bool) -> Table:
    filters = {name: value for name, value in session.view.to_record().items() if name in _FILTERS}
    usual = {name: value for name, value in ViewOptions().to_record().items() if name in _FILTERS}
    if not worked_on and session.inspection == InspectionOptions() and filters == usual:
        return {}
    checkpoint = session.checkpoint
    if checkpoint and checkpoint not in shipped_models():
        checkpoint = str(Path(checkpoint).resolve())
    values = {"checkpoint": checkpoint, **session.inspection.to_record(), **filters}
    return {_column(name): (_text(value),) for name, value in values.items()}


def _restore(session: Session, texts: Mapping[str, str]) -> None:
    """Put settings in force; a network that is no longer there, or a value that does not fit, is left."""
    checkpoint = texts.get(_column("checkpoint"), _NONE)
    if checkpoint in shipped_models() or (checkpoint != _NONE and Path(checkpoint).exists()):
        session.checkpoint = checkpoint
    try:
        inspection = _options(session.inspection, texts)
        view = _options(session.view, texts, only=_FILTERS)
    except InputError:
        return
    session.set_inspection(inspection)
    if view != session.view:
        session.show_as(view)


def _options(now: Any, texts: Mapping[str, str], *, only: Sequence[str] | None = None) -> Any:
    """The same options with the values that were kept."""
    kind: type[Options] = type(now)
    kept: dict[str, Any] = {}
    for item in kind.parameters():
        text = texts.get(_column(item.name))
        if text is not None and (only is None or item.name in only):
            kept[item.name] = None if text == _NONE else _number(item.type, text, item.name)
    return kind.from_record({**now.to_record(), **kept})


def _number(kind: type, text: str, name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}; expected {kind.__name__}.") from None


def _column(name: str) -> str:
    """``cluster_distance`` as a STAR column: ``orientClusterDistance``."""
    return "orient" + name.title().replace("_", "")


def _text(value: object) -> str:
    return _NONE if value in (None, "") else repr(value) if isinstance(value, float) else str(value)


# --- first poses ------------------------------------------------------------------------------------------------------


def _beginnings(layer: Points, rows: Rows) -> Table:
    """Where the corrections of these rows began: the row in the file, counted from 1, place in Å, pose and scores."""
    kept: Mapping[int, Any] = layers.about(layer).get(FIRST, {})
    numbers = layer.features[NUMBER].to_numpy() if NUMBER in layer.features.columns else []
    found = [(place, kept[numbers[row]]) for place, row in enumerate(rows, start=1) if numbers[row] in kept]
    if not found:
        return {}
    size = layers.voxel_size(layer)
    table: dict[str, list[str]] = {_ROW: [str(place) for place, _ in found]}
    places = layers.flip(np.array([place for _, (place, _) in found], float)) * size
    table |= {name: [repr(float(value)) for value in column] for name, column in zip(_PLACE, places.T, strict=True)}
    for name in found[0][1][1]:
        table[name] = [repr(float(pose.get(name, np.nan))) for _, (_, pose) in found]
    return table


def _first_poses(table: Table, voxel_size: float) -> dict[int, Any]:
    """First poses by the particle's number: its row in the file just opened; none where a value is no number."""
    try:
        columns = {name: np.array(column, float) for name, column in table.items()}
        places = layers.flip(np.stack([columns.pop(name) for name in _PLACE], axis=1)) / voxel_size
        numbers = columns.pop(_ROW).astype(int).tolist()
    except (KeyError, ValueError):
        return {}
    return {
        number: (tuple(places[row].tolist()), {name: float(column[row]) for name, column in columns.items()})
        for row, number in enumerate(numbers)
    }
