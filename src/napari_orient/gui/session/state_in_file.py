"""State saved with particles in their STAR file: model in use, thresholds, and initial poses of corrected particles.

A STAR file may hold tables beside the particles: these follow them, and other programs ignore them. They are written
only if a person has corrected or judged particles: a list that was only predicted has the command line's bytes.
A model's file is written relative to the STAR file, and looked for from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.io.columns import FIRST_POSES, POSE_COLUMNS
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.options import Options
from napari_orient.engine.particles import Particles
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.layer_data import FIRST, NUMBER, STATUS
from napari_orient.gui.layers.layer_rows import Rows

if TYPE_CHECKING:
    from napari_orient.gui.session.viewer_session import Session

STATE = "orient_state"
"""Name of the table of settings, which has one row; `FIRST_POSES` has one for each corrected particle."""

_ROW = "orientRow"
_POSITION = ("orientX", "orientY", "orientZ")
_NONE = "none"
_FILTERS = ("least_score", "most_expected")

Table = Mapping[str, Sequence[str]]


def with_state(particles: Particles, layer: Points, rows: Rows, session: Session | None, *, path: Path) -> Particles:
    """Particles of some rows of a layer, with the tables of a person's work, if any, for the STAR file at ``path``."""
    found = {FIRST_POSES: _uncorrected(layer, rows)}
    if session is not None:
        edited = bool(found[FIRST_POSES]) or _has_verdicts(layer)
        found[STATE] = _state(session, edited=edited, folder=path.resolve().parent)
    return particles.replace(blocks={**particles.blocks, **{name: table for name, table in found.items() if table}})


def with_model_found(particles: Particles, path: Path) -> Particles:
    """Particles of the list at ``path``; if its table of settings names a model's file, with the file's full path."""
    state = particles.blocks.get(STATE, {})
    text = next(iter(state.get(_column("checkpoint"), ())), _NONE)
    if text == _NONE or text in shipped_models():
        return particles
    folder = path.resolve().parent
    files = [folder / text, folder / Path(text).name]
    found = next((str(file.resolve()) for file in files if file.is_file()), text)
    return particles.replace(blocks={**particles.blocks, STATE: {**state, _column("checkpoint"): (found,)}})


def restore_state(layer: Points, session: Session) -> None:
    """Restore the state that a file holds of a person's work, and remove it from the layer's tables."""
    blocks = layer_data.about(layer).get("blocks", {})
    state, uncorrected = blocks.pop(STATE, {}), blocks.pop(FIRST_POSES, {})
    if uncorrected:
        layer_data.about(layer)[FIRST] = _first_poses(uncorrected, layer_data.voxel_size(layer))
    if state:
        _restore(session, {name: column[0] for name, column in state.items() if column})


def _has_verdicts(layer: Points) -> bool:
    return STATUS in layer.features.columns and bool((layer_data.texts(layer.features[STATUS]) != "").any())


# --- settings ---------------------------------------------------------------------------------------------------------


def _state(session: Session, *, edited: bool, folder: Path) -> Table:
    filters = {name: value for name, value in session.drawing.view.to_record().items() if name in _FILTERS}
    defaults = {name: value for name, value in ViewOptions().to_record().items() if name in _FILTERS}
    if not edited and session.inspection.options == InspectionOptions() and filters == defaults:
        return {}
    model = session.model
    if model and model not in shipped_models():
        model = _relative(Path(model), folder)
    values = {"checkpoint": model, **session.inspection.options.to_record(), **filters}
    return {_column(name): (_text(value),) for name, value in values.items()}


def _relative(file: Path, folder: Path) -> str:
    """Path of a file from a folder, or its name alone where they have no folder but the root in common."""
    file = file.resolve()
    if file.drive != folder.drive or Path(os.path.commonpath([file, folder])) == Path(file.anchor):
        return file.name
    return Path(os.path.relpath(file, folder)).as_posix()


def _restore(session: Session, texts: Mapping[str, str]) -> None:
    """Apply settings; a model's file that does not exist, or a value that does not fit, is ignored."""
    model = texts.get(_column("checkpoint"), _NONE)
    before = session.settings()
    if model in shipped_models() or (model != _NONE and Path(model).exists()):
        session.model = model
    try:
        inspection = _options(session.inspection.options, texts)
        view = _options(session.drawing.view, texts, only=_FILTERS)
    except InputError:
        session.say_replaced(before)
        return
    session.inspection.set_options(inspection)
    if view != session.drawing.view:
        session.drawing.show_as(view)
    session.say_replaced(before)


def _options(now: Any, texts: Mapping[str, str], *, only: Sequence[str] | None = None) -> Any:
    """Options with the values of the file in place of the present ones."""
    kind: type[Options] = type(now)
    given: dict[str, Any] = {}
    for item in kind.parameters():
        text = texts.get(_column(item.name))
        if text is not None and (only is None or item.name in only):
            given[item.name] = None if text == _NONE else _number(item.type, text, item.name)
    return kind.from_record({**now.to_record(), **given})


def _number(kind: type, text: str, name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}; expected {kind.__name__}.") from None


def _column(name: str) -> str:
    """STAR column of a setting: ``orientClusterDistance`` of ``cluster_distance``."""
    return "orient" + name.title().replace("_", "")


def _text(value: object) -> str:
    return _NONE if value in (None, "") else repr(value) if isinstance(value, float) else str(value)


# --- first poses ------------------------------------------------------------------------------------------------------


def _uncorrected(layer: Points, rows: Rows) -> Table:
    """Poses before correction of these rows: the row in the file, counted from 1, position in Å, pose and scores."""
    first: Mapping[int, Any] = layer_data.about(layer).get(FIRST, {})
    if NUMBER not in layer.features.columns:
        return {}
    numbers = layer.features[NUMBER].to_numpy()
    found = [(line, first[numbers[row]]) for line, row in enumerate(rows, start=1) if numbers[row] in first]
    if not found:
        return {}
    size = layer_data.voxel_size(layer)
    table: dict[str, list[str]] = {_ROW: [str(line) for line, _ in found]}
    positions = layer_data.flip(np.array([point for _, (point, _) in found], float)) * size
    columns = zip(_POSITION, positions.T, strict=True)
    table |= {name: [repr(float(value)) for value in column] for name, column in columns}
    for name in found[0][1][1]:
        values = [pose.get(name, np.nan) for _, (_, pose) in found]
        table[name] = [str(value) if name in POSE_COLUMNS else repr(float(value)) for value in values]
    return table


def _first_poses(table: Table, voxel_size: float) -> dict[int, Any]:
    """Poses before correction by the particle's number, its row in the file; empty where a value is not a number."""
    try:
        columns = {name: np.array(column, float) for name, column in table.items() if name not in POSE_COLUMNS}
        points = layer_data.flip(np.stack([columns.pop(name) for name in _POSITION], axis=1)) / voxel_size
        numbers = columns.pop(_ROW).astype(int).tolist()
    except (KeyError, ValueError):
        return {}
    texts = {name: column for name, column in table.items() if name in POSE_COLUMNS}
    return {
        number: (
            tuple(points[row].tolist()),
            {name: float(column[row]) for name, column in columns.items()}
            | {name: column[row] for name, column in texts.items()},
        )
        for row, number in enumerate(numbers)
    }
