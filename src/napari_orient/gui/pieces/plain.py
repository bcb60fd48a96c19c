"""The plainest pieces: a dock's column, notes, buttons, rows of fields."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

MUTED, GOOD, WARNING, BAD = "#8d97a5", "#2fa84f", "#d98e04", "#e5484d"
ACCENT = "#2f7de1"


class Dock(QScrollArea):
    """A dock's contents in a column that scrolls where the window is low, never clipped."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(330)
        inner = QWidget()
        self.column = QVBoxLayout(inner)
        self.column.setContentsMargins(10, 8, 10, 10)
        self.column.setSpacing(6)
        self.setWidget(inner)

    def add(self, *widgets: QWidget) -> None:
        """Append widgets, one under the other."""
        for widget in widgets:
            self.column.addWidget(widget)

    def add_heading(self, text: str) -> QLabel:
        """Append a section's heading."""
        if self.column.count():
            self.column.addSpacing(8)
        heading = QLabel(text)
        heading.setStyleSheet("font-weight: 600;")
        self.column.addWidget(heading)
        return heading

    def close_column(self) -> None:
        """Push everything to the top."""
        self.column.addStretch(1)


class Note(QLabel):
    """A line or two that say what was found, in a colour that says how good that is."""

    def __init__(self, text: str = "", colour: str = MUTED) -> None:
        super().__init__()
        self._colour = ""
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.say(text, colour)

    def say(self, text: str, colour: str = MUTED) -> None:
        """Show this instead; an empty text takes no room."""
        self.setText(text)
        # Qt lays out and paints a widget anew for a style sheet, also for the same one.
        if colour != self._colour:
            self._colour = colour
            self.setStyleSheet(f"color: {colour};")
        self.setVisible(bool(text))


def primary_button(text: str, tip: str = "") -> QPushButton:
    """The one button of a dock that does what the dock is for."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setStyleSheet(
        f"QPushButton {{background: {ACCENT}; color: white; font-weight: 600; padding: 7px 14px; border-radius: 3px;}}"
        "QPushButton:hover {background: #4a90ea;} QPushButton:pressed {background: #2567bd;}"
        "QPushButton:disabled {background: rgba(128, 128, 128, 60); color: rgba(160, 160, 160, 150);}"
    )
    return button


def row(*widgets: QWidget, stretch: int = 0) -> QWidget:
    """Widgets side by side; the one at ``stretch`` takes the room that is left."""
    holder = QWidget()
    line = QHBoxLayout(holder)
    line.setContentsMargins(0, 0, 0, 0)
    for index, widget in enumerate(widgets):
        line.addWidget(widget, 1 if index == stretch else 0)
    return holder


def labelled(fields: Mapping[str, QWidget], *, width: int = 78) -> QWidget:
    """Fields under one another, each with its label; labels of this width line up from form to form."""
    holder = QWidget()
    rows = QFormLayout(holder)
    rows.setContentsMargins(0, 0, 0, 0)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for text, field in fields.items():
        label = QLabel(text)
        label.setMinimumWidth(width)
        rows.addRow(label, field)
    return holder


def shrinkable(choice: QComboBox) -> None:
    """Let a choice be narrower than its longest entry, so that it never pushes a dock out of its frame."""
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(12)


class Fold(QWidget):
    """Contents that one seldom needs, behind a line that opens and closes them by mouse or keyboard."""

    def __init__(self, text: str, contents: QWidget) -> None:
        super().__init__()
        self.contents = contents
        self.button = QToolButton()
        self.button.setText(text)
        self.button.setCheckable(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setStyleSheet("QToolButton {border: none; padding: 2px 0;}")
        self.button.setToolTip("Show or hide what seldom needs changing")
        self.button.toggled.connect(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button)
        column.addWidget(contents)
        self.open(False)

    def open(self, wanted: bool) -> None:
        """Nothing; the contents are shown, or hidden."""
        self.button.setChecked(wanted)
        self.button.setArrowType(Qt.ArrowType.DownArrow if wanted else Qt.ArrowType.RightArrow)
        self.contents.setVisible(wanted)


def size_box(tip: str) -> QDoubleSpinBox:
    """A field for Å a voxel or pixel, where 0 stands for not set."""
    box = QDoubleSpinBox()
    box.setDecimals(4)
    box.setRange(0, 1000)
    box.setSingleStep(0.1)
    box.setSuffix(" Å")
    box.setSpecialValueText("not set")
    box.setKeyboardTracking(False)
    box.setToolTip(tip)
    return box
