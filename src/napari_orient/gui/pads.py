"""Controls of the page Correct: rotations about own axes, moves, and the list of edits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
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

from napari_orient.engine.inspection.corrections import FRAMES
from napari_orient.gui.colours import AXIS_SHADES
from napari_orient.gui.history import History
from napari_orient.gui.widgets import Deferred, NoteLabel, equal_width_row, labelled, row

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
