"""The page Correct: rotate, move, accept, reject, delete, predict or refine the selected particles, with undo."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import napari.viewer
import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

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
from napari_orient.engine.prediction import Model, load_model, prepare
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetry
from napari_orient.gui import edits, layers
from napari_orient.gui.canvas_input import bind_keys
from napari_orient.gui.colours import AXIS_SHADES
from napari_orient.gui.edits import History, count_words
from napari_orient.gui.jobs import Job
from napari_orient.gui.layer_rows import Rows, rows_of
from napari_orient.gui.layers import CORRECTED, NUMBER, PICKS, PREDICTED, STATUS
from napari_orient.gui.live_prediction import LivePrediction
from napari_orient.gui.map_choice import ReferenceChoice
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import (
    GOOD,
    MUTED,
    WARNING,
    Deferred,
    LayerChoice,
    NoteLabel,
    Panel,
    equal_width_row,
    labelled,
    listen,
    row,
)

STATUS_BUTTONS = {ACCEPTED: ("Accept", "G"), REJECTED: ("Reject", "B"), "": ("Clear", "C")}
HOW_TO_SELECT = (
    "Click a particle, with Shift several. In 3D, a drag with Alt rotates about its own z axis, "
    "with Alt+Shift about x, with Alt+Ctrl about y."
)
PREDICT, REFINE, LIVE = "Shift-P", "Shift-R", "Shift-L"
"""Keys of Predict, Refine and Live; napari itself binds none of them."""

_BATCH = 32
"""Particles per step of a job: the progress bar moves and Stop acts between two batches."""


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


class CorrectPage(Panel):
    """Edits the points selected in the chosen layer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.job: Job | None = None
        self._release_keys: Callable[[], None] | None = None
        self._history: History | None = None
        self._requested: tuple[Points, Rows] | None = None
        self._followed: weakref.WeakSet[Points] = weakref.WeakSet()
        self.live = LivePrediction(self.session, self)
        self._build(self.session.viewer)
        self._layer_chosen()

    # --- widgets ------------------------------------------------------------------------------------------------

    def _build(self, viewer: ViewerModel) -> None:
        self.particles = LayerChoice(viewer, self._offered, empty="none open")
        self.counts, self.note, self.running_note, self.live_note = NoteLabel(), NoteLabel(), NoteLabel(), NoteLabel()
        self.how = NoteLabel(HOW_TO_SELECT)
        self.stop_button = _edit_button("Stop", "Stop without changing any particle")
        self.stop_button.clicked.connect(self._stop)
        self.running = row(self.running_note, self.stop_button)
        self.running.setVisible(False)
        self.rotation_pad, self.move_pad, self.history_list = RotationPad(), MovePad(), HistoryList()
        self.reference = ReferenceChoice(self.session, kinds=self._classes)
        self.live_box = QCheckBox("Live: predict picks as they are added or dragged")
        self.live_box.setToolTip(
            f"Predict with the model in use, in the points layer's add or select mode ({_key(LIVE)}). "
            "A template first estimates the tomogram's noise, and centres each pick on its particle"
        )
        self.add_heading("Particles")
        self.add(labelled({"Layer": self.particles}), self.counts, self.how)
        self.add(self._status_row())
        self.add_heading("Rotate about own axes")
        self.add(self.rotation_pad, self.note)
        self.add_heading("Move")
        self.add(self.move_pad)
        self.add_heading("Pose")
        self.add(self._pose_row(), labelled({"Reference": self.reference}), self.running, self.live_box, self.live_note)
        self.add_heading("History")
        self.add(self.history_list)
        self.close_column()
        self.particles.chosen.connect(self._layer_chosen)
        self.rotation_pad.stepped.connect(self.rotate)
        self.rotation_pad.typed.connect(self.rotate_by)
        self.move_pad.stepped.connect(self.move_by)
        self.live_box.toggled.connect(self._live_toggled)
        self.live.status_changed.connect(self.live_note.say)
        listen(self, self.session.events.model, self._model_changed)
        listen(self, self.session.events.tomogram, self._tomogram_changed)

    def _status_row(self) -> Any:
        self.status_buttons = {}
        for status, (words, key) in STATUS_BUTTONS.items():
            self.status_buttons[status] = _edit_button(
                f"{words} ({key})", f"{words} the selected particles (key {key})"
            )
            self.status_buttons[status].clicked.connect(partial(self.set_status, status))
        self.delete_button = _edit_button("Delete", "Delete the selected particles (key Delete in the viewer)")
        self.delete_button.clicked.connect(self.delete)
        return equal_width_row(*self.status_buttons.values(), self.delete_button)

    def _pose_row(self) -> Any:
        self.reset_button = _edit_button("Reset (H)", "Restore the predicted poses of the selected particles (key H)")
        self.predict_button = _edit_button(
            "Predict (⇧P)", f"Predict the selected particles again with the model in use ({_key(PREDICT)})"
        )
        self.refine_button = _edit_button(
            "Refine (⇧R)",
            "Refine the selected particles against the reference; noise is estimated from the whole layer "
            f"({_key(REFINE)})",
        )
        self.reset_button.clicked.connect(self.reset)
        self.predict_button.clicked.connect(self.predict)
        self.refine_button.clicked.connect(self.refine)
        return equal_width_row(self.reset_button, self.predict_button, self.refine_button)

    def _offered(self) -> list[Points]:
        """Layers of particles of the tomogram that is shown: predicted ones first, true poses last."""
        order = [PREDICTED, PICKS, "", layers.TRUTH]
        return sorted(self.session.tomograms.particles(), key=lambda layer: order.index(layers.role(layer)))

    def _classes(self) -> list[str]:
        layer = self.particles.layer
        return layers.classes(layer) if isinstance(layer, Points) else []

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
        return keys | {
            "H": self.reset,
            "Control-Z": self.history_list.undo.click,
            "Control-Shift-Z": self.history_list.redo.click,
        }

    # --- selection ----------------------------------------------------------------------------------------------

    def _tomogram_changed(self, event: object = None) -> None:
        if self._offered() != self.particles.layers:
            self.particles.refresh()

    def _layer_chosen(self, *_: object) -> None:
        layer = self.particles.layer
        if self.live.layer is not layer:
            self.live_box.setChecked(False)
        self._history = self.session.history(layer) if isinstance(layer, Points) else None
        if isinstance(layer, Points) and self._history is not None and layer not in self._followed:
            self._followed.add(layer)
            listen(self, layer.selected_data.events.items_changed, self._show_counts)
            listen(self, self._history.events.changed, self._show_everything)
            self.reference.choose_by_class()
        self._show_everything()

    @property
    def rows(self) -> Rows:
        """Rows of the selected particles."""
        layer = self.particles.layer
        return np.array(sorted(layer.selected_data), int) if isinstance(layer, Points) else np.zeros(0, int)

    def _show_everything(self, event: object = None) -> None:
        self.history_list.show_history(self._history)
        self._show_counts()

    def _show_counts(self, event: object = None) -> None:
        layer = self.particles.layer
        if not isinstance(layer, Points):
            self.counts.say("No particles open yet: open some, or predict.", WARNING)
        else:
            self.counts.say(_count_text(layer, len(self.rows)), GOOD if len(self.rows) else MUTED)
        for widget in (
            self.rotation_pad,
            self.move_pad,
            *self.status_buttons.values(),
            self.delete_button,
            self.reset_button,
        ):
            widget.setEnabled(len(self.rows) > 0)
        for button in (self.predict_button, self.refine_button):
            button.setEnabled(len(self.rows) > 0 and self.job is None)

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
        layer, rows = self.particles.layer, self.rows
        image = self.session.index.tomogram_of(layer) if isinstance(layer, Points) else None
        if not isinstance(layer, Points) or image is None:
            raise InputError(f"to {words} particles, their tomogram must be open. Open it first.")
        if not len(rows):
            raise InputError("no particle is selected; select some points of the layer first.")
        every, refining = layers.picks_of(layer), words == "refine"
        chosen = rows_of(layer, rows) if refining and layers.has_pose(layer)[rows].all() else every.take(rows)
        stream = estimate_poses(
            layers.tomogram_of(image), every, chosen, model, options=self._options, refining=refining
        )
        self._requested = (layer, layer.features[NUMBER].to_numpy(int)[rows])
        self.job = self.session.jobs.start(stream, title=f"{words.capitalize()} {count_words(len(rows))}")
        self.job.answered.connect(partial(self._deliver, words))
        self.job.stepped.connect(self._stepped)
        self.job.ended.connect(self._ended)
        self.running_note.say("Starting…")
        self.running.setVisible(True)
        self._show_counts()

    @property
    def _options(self) -> PredictionOptions:
        """Device and precision from the preferences."""
        preferences = self.session.preferences
        return PredictionOptions.of(device=preferences.compute.device, precision=preferences.effort.precision)

    def _stepped(self, step: Step) -> None:
        left = self.job.time_left if self.job is not None else ""
        self.running_note.say(f"{step.message} · {left}" if left else step.message)

    def _stop(self, *_: object) -> None:
        if self.job is not None:
            self.job.stop()

    def _deliver(self, words: str, particles: Particles) -> None:
        assert self._requested is not None
        layer, numbers = self._requested
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
        self.running.setVisible(False)
        self._show_counts()

    # --- Live ---------------------------------------------------------------------------------------------------

    def _live_toggled(self, on: bool) -> None:
        if not on:
            self.live.stop()
            return
        if not self.attempt(self._start_live):
            self.live_box.setChecked(False)

    def _start_live(self) -> None:
        layer = self.particles.layer
        image = self.session.index.tomogram_of(layer) if isinstance(layer, Points) else None
        if not isinstance(layer, Points) or image is None:
            raise InputError("Live needs a points layer and its tomogram. Open them first.")
        self.live.start(layer, image, self.session.model)

    def _model_changed(self, event: object = None) -> None:
        if self.live_box.isChecked():
            self._live_toggled(True)


def _edit_button(words: str, tip: str) -> QPushButton:
    button = QPushButton(words)
    button.setToolTip(tip)
    return button


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


AXIS_COLOURS = {axis: QColor.fromRgbF(*shade).name() for axis, shade in zip("xyz", AXIS_SHADES, strict=True)}
ROTATION_KEYS = {("x", -1): "J", ("x", 1): "L", ("y", -1): "K", ("y", 1): "I", ("z", -1): "U", ("z", 1): "O"}
"""Keys that rotate by one step about an own axis, by axis and sign: the six under the right hand."""

_SHORT = 16
"""Characters of an edit's name on the Undo and Redo buttons, as fit a narrow dock; the tooltip shows it whole."""

DEFAULT_ANGLE = 10.0
"""Degrees of a rotation step at first: visible, and small beside any symmetry's step."""

DEFAULT_SHIFT = 5.0
"""Å of a move at first: about a voxel of a binned tomogram."""

LONGEST_SHIFT = 1000.0
"""Å, the largest move offered: several particles' diameters."""

LIST_HEIGHT = 96
"""Height in pixels of the list of edits: about five lines."""


def step_box(value: float, unit: str, *, high: float, tip: str) -> QDoubleSpinBox:
    """A field for the size of a step."""
    box = QDoubleSpinBox()
    box.setRange(0.01, high)
    box.setDecimals(2)
    box.setValue(value)
    box.setSuffix(f" {unit}")
    box.setToolTip(tip)
    return box


_ByDirection = Mapping[tuple[str, int], str]


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
                button = QPushButton(f"{'−' if sign < 0 else '+'}{axis}{_shown_key(keys.get((axis, sign)))}")
                button.setToolTip(tips[axis, sign])
                button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
                button.setStyleSheet(f"QPushButton {{border-bottom: 3px solid {AXIS_COLOURS[axis]}; padding: 5px 0;}}")
                button.clicked.connect(partial(self._press, axis, sign))
                grid.addWidget(button, 0, 2 * column + place)
                self.buttons[axis, sign] = button

    def _press(self, axis: str, sign: int, *_: object) -> None:
        self.pressed.emit(axis, sign)


def _shown_key(key: str | None) -> str:
    return f" ({key})" if key else ""


class RotationPad(QWidget):
    """Rotations about own axes: ``stepped`` emits axis and angle in degrees, ``typed`` the text of a rotation."""

    stepped = Signal(str, float)
    typed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.angle = step_box(DEFAULT_ANGLE, "°", high=180.0, tip="Angle of a step, in degrees")
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
        apply = QPushButton("Rotate")
        apply.setToolTip("Rotate the selected particles by this rotation, from the pose that they have")
        for entered in (apply.clicked, self.line.returnPressed):
            entered.connect(lambda *_: self.typed.emit(self.line.text()))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(labelled({"Step": self.angle}))
        column.addWidget(self.pad)
        column.addWidget(row(self.line, apply))

    def press(self, axis: str, sign: int) -> None:
        """Rotate by one step, as the button does."""
        self.stepped.emit(axis, sign * self.angle.value())


class MovePad(QWidget):
    """Moves: ``stepped`` emits the shift (3,) xyz in Å and the frame of its axes."""

    stepped = Signal(object, str)

    def __init__(self) -> None:
        super().__init__()
        self.length = step_box(DEFAULT_SHIFT, "Å", high=LONGEST_SHIFT, tip="Length of a move, in Å")
        self.frame = QComboBox()
        for frame in FRAMES:
            self.frame.addItem(f"{frame} axes", frame)
        self.frame.setToolTip("Along the axes of the tomogram, or of each particle")
        senses = {-1: "backwards", 1: "forwards"}
        self.pad = StepPad(
            {
                (axis, sign): f"Move the selected particles {senses[sign]} along {axis}"
                for axis in "xyz"
                for sign in (-1, 1)
            }
        )
        self.pad.pressed.connect(self._pressed)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(labelled({"Step": row(self.length, self.frame)}))
        column.addWidget(self.pad)

    def _pressed(self, axis: str, sign: int) -> None:
        shift = sign * self.length.value() * np.eye(3)["xyz".index(axis)]
        self.stepped.emit(shift, str(self.frame.currentData()))


class HistoryList(QWidget):
    """Edits of a layer, newest first, with Undo and Redo; a click on a line goes back to it."""

    def __init__(self) -> None:
        super().__init__()
        self._history: History | None = None
        self._listing = Deferred(self._list, parent=self)
        self.undo, self.redo = QPushButton("Undo"), QPushButton("Redo")
        self.undo.clicked.connect(self._undo)
        self.redo.clicked.connect(self._redo)
        self.list = QListWidget()
        self.list.setToolTip("Click a line to undo or redo up to it")
        self.list.setAccessibleName("History")
        self.list.setFixedHeight(LIST_HEIGHT)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.itemClicked.connect(self._clicked)
        self.empty = NoteLabel("No edits yet.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(equal_width_row(self.undo, self.redo))
        column.addWidget(self.empty)
        column.addWidget(self.list)

    def show_history(self, history: History | None) -> None:
        """Show this history: the Undo and Redo buttons now, the list after pending events."""
        self._history = history
        for button, verb, key, words in (
            (self.undo, "Undo", "Ctrl+Z", "" if history is None else history.undoable),
            (self.redo, "Redo", "Ctrl+Shift+Z", "" if history is None else history.redoable),
        ):
            button.setEnabled(bool(words))
            button.setText(verb + (f": {words[:_SHORT]}" + "…" * (len(words) > _SHORT) if words else ""))
            button.setToolTip(f"{verb}: {words} ({key})" if words else f"Nothing to {verb.lower()}")
        self._listing.ask()

    def _list(self) -> None:
        steps = [] if self._history is None else self._history.steps
        done = 0 if self._history is None else self._history.done
        self.list.clear()
        for count in range(len(steps), 0, -1):
            item = QListWidgetItem(steps[count - 1].words)
            item.setData(Qt.ItemDataRole.UserRole, count)
            item.setToolTip(steps[count - 1].words)
            font = item.font()
            font.setItalic(count > done)
            font.setBold(count == done)
            item.setFont(font)
            self.list.addItem(item)
        self.list.setVisible(bool(steps))
        self.empty.setVisible(not steps)

    def _undo(self) -> None:
        if self._history is not None:
            self._history.undo()

    def _redo(self) -> None:
        if self._history is not None:
            self._history.redo()

    def _clicked(self, item: QListWidgetItem) -> None:
        if self._history is not None:
            self._history.go_to(int(item.data(Qt.ItemDataRole.UserRole)))
