"""The page Correct: rotate, move, accept, reject, delete, predict or refine the selected particles, with undo."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from napari.layers import Points
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLineEdit, QPushButton, QSizePolicy, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.corrections import (
    ACCEPTED,
    FRAMES,
    REJECTED,
    axis_rotation,
    is_symmetry_operation,
    parse_rotation,
)
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, concatenate
from napari_orient.engine.prediction.predict import Model, load_model, prepare
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetry
from napari_orient.gui.colours import AXIS_SHADES
from napari_orient.gui.event_loop import listen
from napari_orient.gui.jobs import Job
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import CORRECTED, NUMBER, PICKS, PREDICTED, STATUS
from napari_orient.gui.layers.layer_rows import Rows, rows_of
from napari_orient.gui.pages.base import ParticlesPage
from napari_orient.gui.pages.map_choice import ReferenceChoice
from napari_orient.gui.session import edits
from napari_orient.gui.session.canvas_input import bind_keys
from napari_orient.gui.session.edits import History
from napari_orient.gui.session.live_prediction import LivePrediction
from napari_orient.gui.widgets.basic import (
    GOOD,
    MUTED,
    WARNING,
    FoldingRow,
    NoteLabel,
    Panel,
    combo_box,
    counted,
    equal_width_row,
    labelled,
    number_box,
    push_button,
    row,
)

STATUS_BUTTONS = {ACCEPTED: ("Accept", "G"), REJECTED: ("Reject", "B"), "": ("Clear", "C")}
HOW_TO_SELECT = (
    "Click a particle, with Shift several. In 3D a drag rotates them about their own axes: "
    "Alt z, Alt+Shift x, Alt+Ctrl y."
)
PREDICT, REFINE, LIVE = "Shift-P", "Shift-R", "Shift-L"
"""Keys of Predict, Refine and Live; napari itself binds none of them."""

_BATCH = 32
"""Particles per step of a job: the progress bar moves and Stop acts between two batches."""

AXIS_COLOURS = {axis: QColor.fromRgbF(*shade).name() for axis, shade in zip("xyz", AXIS_SHADES, strict=True)}

ROTATION_KEYS = {("x", -1): "J", ("x", 1): "L", ("y", -1): "K", ("y", 1): "I", ("z", -1): "U", ("z", 1): "O"}
"""Keys that rotate by one step about an own axis, by axis and sign: the six under the right hand."""

DEFAULT_ANGLE = 10.0
"""Degrees of a rotation step at first: visible, and small beside any symmetry's step."""

DEFAULT_SHIFT = 5.0
"""Å of a move at first: about a voxel of a binned tomogram."""

LONGEST_SHIFT = 1000.0
"""Å, the largest move offered: several particles' diameters."""


def estimate_poses(
    tomogram: Tomogram,
    every: Particles,
    chosen: Particles,
    model: Model,
    *,
    options: PredictionOptions,
    refining: bool,
) -> Stream[Step, Particles]:
    """The chosen particles with predicted or refined poses; the tomogram's model is estimated from ``every`` particle.

    Parameters
    ----------
    every : all particles of the layer.
    chosen : the particles whose poses are wanted.
    refining : refine the poses that ``chosen`` has, instead of a global search.
    """
    pose_finder = yield from prepare(tomogram, every, model, options, given_rotations=refining)
    parts = []
    for start in range(0, len(chosen), _BATCH):
        yield Step(start, len(chosen), "Refining" if refining else "Predicting")
        parts.append(pose_finder(chosen.take(slice(start, start + _BATCH))))
    return concatenate(parts)


class CorrectPage(ParticlesPage):
    """Edits the points selected in the chosen layer."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.job: Job | None = None
        self._release_keys: Callable[[], None] | None = None
        self._history: History | None = None
        self._requested: tuple[Points, Rows, str] | None = None
        self._followed: weakref.WeakSet[Points] = weakref.WeakSet()
        self.live = LivePrediction(self.session, self)
        self.particles = self.choose_particles()
        self.counts, self.note, self.live_note = NoteLabel(), NoteLabel(), NoteLabel()
        self.rotation_pad, self.move_pad = RotationPad(), MovePad()
        self.reference = ReferenceChoice(self.session, kinds=self.classes)
        self.live_box = QCheckBox("Live: predict as you pick")
        self.live_box.setToolTip(
            "Predict picks with the model in use as they are added or dragged, in the layer's add or select mode, "
            f"{_key(LIVE)}. "
            "A template first estimates the tomogram's noise, and centres each pick on its particle"
        )
        self.add_heading("Particles")
        self.add(labelled({"Layer": self.particles}), self.counts, NoteLabel(HOW_TO_SELECT), self._status_row())
        self.add_heading("Rotate about own axes")
        self.add(self.rotation_pad, self.note)
        self.add_heading("Move")
        self.add(self.move_pad)
        self.add_heading("Pose")
        self.add(self._pose_row(), labelled({"Reference": self.reference}), self.live_box, self.live_note)
        self.rotation_pad.stepped.connect(self.rotate)
        self.rotation_pad.typed.connect(self.rotate_by)
        self.move_pad.stepped.connect(self.move_by)
        self.live_box.toggled.connect(self._live_toggled)
        self.live.status_changed.connect(self.live_note.say)
        listen(self, self.session.events.model, self._model_changed)

    def _status_row(self) -> QWidget:
        self.status_buttons = {}
        for status, (words, key) in STATUS_BUTTONS.items():
            button = push_button(f"{words} ({key})", f"{words} the selected particles (key {key})")
            button.clicked.connect(partial(self.set_status, status))
            self.status_buttons[status] = button
        tip = "Delete the selected particles (key Delete in the viewer)"
        self.delete_button = push_button("Delete", tip, self.delete)
        accept, reject, clear = self.status_buttons.values()
        return FoldingRow(equal_width_row(accept, reject), equal_width_row(clear, self.delete_button), stretches=(1, 1))

    def _pose_row(self) -> QWidget:
        tip = "Restore the predicted poses of the selected particles (key H)"
        self.reset_button = push_button("Reset (H)", tip, self.reset)
        tip = f"Predict the selected particles again with the model in use ({_key(PREDICT)})"
        self.predict_button = push_button("Predict (⇧P)", tip, self.predict)
        tip = "Refine the selected particles against the reference; noise is estimated from the whole layer"
        self.refine_button = push_button("Refine (⇧R)", f"{tip} ({_key(REFINE)})", self.refine)
        others = equal_width_row(self.predict_button, self.refine_button)
        return FoldingRow(equal_width_row(self.reset_button), others, stretches=(1, 2))

    def offered(self) -> list[Points]:
        """Layers of particles of the tomogram that is shown: predicted ones first, true poses last."""
        order = [PREDICTED, PICKS, "", layer_data.TRUTH]
        return sorted(self.session.tomograms.particles(), key=lambda layer: order.index(layer_data.role(layer)))

    def hold_keys(self, held: bool) -> None:
        """Bind the keys of this page in the viewer, or give them back."""
        if held and self._release_keys is None:
            self._release_keys = bind_keys(self.session.viewer, self, self._keys())
        elif not held and self._release_keys is not None:
            self._release_keys()
            self._release_keys = None

    def _keys(self) -> dict[str, Callable[[], None]]:
        keys: dict[str, Callable[[], None]] = {
            key: partial(self.rotation_pad.press, axis, sign) for (axis, sign), key in ROTATION_KEYS.items()
        }
        keys |= {key: partial(self.set_status, status) for status, (_, key) in STATUS_BUTTONS.items()}
        keys |= {PREDICT: self.predict, REFINE: self.refine, LIVE: self.live_box.click}
        return keys | {"H": self.reset, "Control-Z": self.undo, "Control-Shift-Z": self.redo}

    # --- selection ----------------------------------------------------------------------------------------------

    def layer_chosen(self, *_: object) -> None:
        """Follow the edits and the selection of the layer that is chosen now."""
        layer = self.layer
        if self.live.layer is not layer:
            self.live_box.setChecked(False)
        self._history = None if layer is None else self.session.history(layer)
        if layer is not None and self._history is not None and layer not in self._followed:
            self._followed.add(layer)
            listen(self, layer.selected_data.events.items_changed, self._show_counts)
            listen(self, self._history.events.changed, self.show_state)
            self.reference.choose_by_class()
        self.show_state()

    @property
    def rows(self) -> Rows:
        """Rows of the selected particles."""
        return np.array([] if self.layer is None else sorted(self.layer.selected_data), int)

    def show_state(self, *_: object) -> None:
        """Show what can be done with the selected particles."""
        self._show_counts()

    def _show_counts(self, event: object = None) -> None:
        some = len(self.rows) > 0
        if self.layer is None:
            self.counts.say("No particles open yet: open some, or predict.", WARNING)
        else:
            self.counts.say(_count_text(self.layer, len(self.rows)), GOOD if some else MUTED)
        for widget in (
            self.rotation_pad,
            self.move_pad,
            *self.status_buttons.values(),
            self.delete_button,
            self.reset_button,
        ):
            widget.setEnabled(some)
        for button in (self.predict_button, self.refine_button):
            button.setEnabled(some and self.job is None)

    # --- commands -----------------------------------------------------------------------------------------------

    def _edit(self, command: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
        """Edit the selected particles; show an error in one line."""
        if self._history is not None:
            self.attempt(partial(command, self._history, self.rows, *arguments, **keywords))

    def rotate(self, axis: str, angle: float) -> None:
        """Rotate the selected particles about their own axis by an angle in degrees."""
        self._rotate(axis_rotation(axis, angle), f"by {angle:+g}° about {axis}")

    def rotate_by(self, text: str) -> None:
        """Rotate the selected particles by a typed rotation, in their own frames."""
        self.attempt(lambda: self._rotate(parse_rotation(text), f"by {text.strip()}"))

    def _rotate(self, matrix: FloatArray, words: str) -> None:
        self._edit(edits.rotate, matrix, words=words)
        name = self.session.inspection.network_symmetry
        is_step = is_symmetry_operation(matrix, symmetry(name))
        self.note.say(f"A rotation {words} is a symmetry operation of {name.split('@')[0]}: no change." * is_step)

    def move_by(self, shift: FloatArray, frame: str) -> None:
        """Move the selected particles by a shift (3,) xyz in Å along the axes of this frame."""
        self._edit(edits.move, shift, frame=frame)

    def set_status(self, status: str, *_: object) -> None:
        """Accept or reject the selected particles, or clear their status."""
        self._edit(edits.set_status, status)

    def delete(self, *_: object) -> None:
        """Delete the selected particles."""
        self._edit(edits.delete)

    def reset(self, *_: object) -> None:
        """Restore the predicted poses of the selected particles."""
        self._edit(edits.reset)

    def undo(self) -> None:
        """Undo the last edit of the layer."""
        if self._history is None or not self._history.undoable:
            show_error("nothing to undo in the layer on the page Correct.")
        else:
            self._history.undo()

    def redo(self) -> None:
        """Redo the edit that was undone last."""
        if self._history is None or not self._history.redoable:
            show_error("nothing to redo in the layer on the page Correct.")
        else:
            self._history.redo()

    # --- prediction and refinement ----------------------------------------------------------------------------

    def predict(self, *_: object) -> None:
        """Predict the selected particles, and no others."""
        self._request_poses("predict", lambda: load_model(self.session.model))

    def refine(self, *_: object) -> None:
        """Refine the selected particles against the reference, and no others."""
        self._request_poses("refine", self.reference.template)

    def _request_poses(self, words: str, read: Callable[[], Model]) -> None:
        if self.job is None:
            self.attempt(lambda: self._start_estimation(words, read()))

    def _start_estimation(self, words: str, model: Model) -> None:
        layer, image, rows, refining = self.layer, self.image, self.rows, words == "refine"
        if layer is None or image is None:
            raise InputError(f"to {words} particles, their tomogram must be open. Open it first.")
        if not len(rows):
            raise InputError("no particle is selected; select some points of the layer first.")
        every, preferences = layer_data.picks_of(layer), self.session.preferences
        chosen = rows_of(layer, rows) if refining and layer_data.has_pose(layer)[rows].all() else every.take(rows)
        options = PredictionOptions.of(device=preferences.compute.device, precision=preferences.effort.precision)
        stream = estimate_poses(layer_data.tomogram_of(image), every, chosen, model, options=options, refining=refining)
        self._requested = (layer, layer.features[NUMBER].to_numpy(int)[rows], words)
        self.job = self.session.jobs.start(stream, title=f"{words.capitalize()} {counted(len(rows), 'particle')}")
        # A bound method alone ends with the page: what is wrapped in another callable keeps page and session alive.
        self.job.answered.connect(self._deliver)
        self.job.ended.connect(self._ended)
        self._show_counts()

    def _deliver(self, particles: Particles) -> None:
        assert self._requested is not None
        layer, numbers, words = self._requested
        if layer not in self.session.viewer.layers:
            show_warning("The particles' layer was removed meanwhile; their new poses were discarded.")
            return
        rows = np.flatnonzero(np.isin(layer.features[NUMBER], numbers))
        places = {number: place for place, number in enumerate(numbers.tolist())}
        part = particles.take([places[number] for number in layer.features[NUMBER].to_numpy(int)[rows].tolist()])
        if len(rows):
            edits.assign_poses(self.session.history(layer), rows, part, words=words)

    def _ended(self, outcome: str) -> None:
        self.job = None
        self._show_counts()

    # --- Live ---------------------------------------------------------------------------------------------------

    def _live_toggled(self, on: bool) -> None:
        if not on:
            self.live.stop()
            return
        if not self.attempt(self._start_live):
            self.live_box.setChecked(False)

    def _start_live(self) -> None:
        layer, image = self.layer, self.image
        if layer is None or image is None:
            raise InputError("Live needs a points layer and its tomogram. Open them first.")
        self.live.start(layer, image, self.session.model)

    def _model_changed(self, event: object = None) -> None:
        if self.live_box.isChecked():
            self._live_toggled(True)


def _key(name: str) -> str:
    """A key as tooltips show it: ``key Shift+P`` for ``Shift-P``."""
    return f"key {name.replace('-', '+')}"


def _count_text(layer: Points, selected: int) -> str:
    """A line such as ``3 of 252 selected · 12 accepted · 2 rejected · 5 corrected``."""
    table = layer.features
    parts = [f"{selected} of {len(layer.data)} selected" if selected else f"{len(layer.data)}, none selected"]
    if STATUS in table.columns:
        parts += [f"{number} {word}" for word in (ACCEPTED, REJECTED) if (number := int((table[STATUS] == word).sum()))]
    corrected = int((table[CORRECTED] == "1").sum()) if CORRECTED in table.columns else 0
    return " · ".join(parts + ([f"{corrected} corrected"] if corrected else []))


class StepPad(QWidget):
    """Buttons for both directions of three axes, with their keys; ``pressed`` emits axis and sign."""

    pressed = Signal(str, int)

    def __init__(
        self, tips: dict[tuple[str, int], str], keys: Mapping[tuple[str, int], str] = MappingProxyType({})
    ) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        self.buttons: dict[tuple[str, int], QPushButton] = {}
        for column, axis in enumerate("xyz"):
            for place, sign in enumerate((-1, 1)):
                key = f" ({keys[axis, sign]})" if (axis, sign) in keys else ""
                button = push_button(f"{'−' if sign < 0 else '+'}{axis}{key}", tips[axis, sign])
                button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
                button.setStyleSheet(f"QPushButton {{border-bottom: 3px solid {AXIS_COLOURS[axis]}; padding: 5px 0;}}")
                button.clicked.connect(partial(self._press, axis, sign))
                grid.addWidget(button, 0, 2 * column + place)
                self.buttons[axis, sign] = button

    def _press(self, axis: str, sign: int, *_: object) -> None:
        self.pressed.emit(axis, sign)


class RotationPad(Panel):
    """Rotations about own axes: ``stepped`` emits axis and angle in degrees, ``typed`` the text of a rotation."""

    stepped = Signal(str, float)
    typed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.angle = number_box(
            DEFAULT_ANGLE, "Angle of a step, in degrees", low=0.01, high=180.0, decimals=2, unit=" °"
        )
        handedness = {-1: "left-handed", 1: "right-handed"}
        self.pad = StepPad(
            {
                (axis, sign): f"Rotate each selected particle about its own {axis} axis, {handedness[sign]} (key {key})"
                for (axis, sign), key in ROTATION_KEYS.items()
            },
            ROTATION_KEYS,
        )
        self.pad.pressed.connect(lambda axis, sign: self.stepped.emit(axis, sign * self.angle.value()))
        self.line = QLineEdit()
        self.line.setPlaceholderText("rot tilt psi, or 9 matrix entries")
        self.line.setAccessibleName("Rotation by number")
        self.line.setToolTip(
            "A rotation in each particle's own frame: RELION's rot, tilt and psi in degrees, "
            "or the nine entries of a rotation matrix, row by row"
        )
        apply = push_button("Rotate", "Rotate the selected particles by this rotation, from the pose that they have")
        for entered in (apply.clicked, self.line.returnPressed):
            entered.connect(lambda *_: self.typed.emit(self.line.text()))
        self.add(labelled({"Step": self.angle}), self.pad, row(self.line, apply))

    def press(self, axis: str, sign: int) -> None:
        """Rotate by one step, as the button does."""
        self.stepped.emit(axis, sign * self.angle.value())


class MovePad(Panel):
    """Moves: ``stepped`` emits the shift (3,) xyz in Å and the frame of its axes."""

    stepped = Signal(object, str)

    def __init__(self) -> None:
        super().__init__()
        tip = "Length of a move, in Å"
        self.length = number_box(DEFAULT_SHIFT, tip, low=0.01, high=LONGEST_SHIFT, decimals=2, unit=" Å")
        self.frame = combo_box("Along the axes of the tomogram, or of each particle")
        self.frame.setMinimumContentsLength(6)
        for frame in FRAMES:
            self.frame.addItem(f"{frame} axes", frame)
        senses = {-1: "backwards", 1: "forwards"}
        self.pad = StepPad(
            {
                (axis, sign): f"Move the selected particles {senses[sign]} along {axis}"
                for axis in "xyz"
                for sign in (-1, 1)
            }
        )
        self.pad.pressed.connect(self._pressed)
        self.add(labelled({"Step": row(self.length, self.frame, stretch=1)}), self.pad)

    def _pressed(self, axis: str, sign: int) -> None:
        shift = sign * self.length.value() * np.eye(3)["xyz".index(axis)]
        self.stepped.emit(shift, str(self.frame.currentData()))
