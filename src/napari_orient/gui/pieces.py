"""The pieces that docks are made of: sections, notes, a choice of layer, a row for a file, one for a running job."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_orient.gui.jobs import Job, time_words

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
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.say(text, colour)

    def say(self, text: str, colour: str = MUTED) -> None:
        """Show this instead; an empty text takes no room."""
        self.setText(text)
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


def show_classes(choice: QComboBox, counts: Mapping[str, int], total: int) -> None:
    """Offer the classes with their numbers, the largest first, after all of them (None); the choice stays if it can.

    Where there is one class only, it is all there is to choose.
    """
    kept = choice.currentData()
    choice.blockSignals(True)
    choice.clear()
    alone = next(iter(counts)) if len(counts) == 1 else "all classes"
    choice.addItem(f"{alone} ({total})", None)
    if len(counts) > 1:
        for code, number in sorted(counts.items(), key=lambda entry: -entry[1]):
            choice.addItem(f"{code} ({number})", code)
    choice.setCurrentIndex(max(0, choice.findData(kept)))
    choice.setEnabled(len(counts) > 1)
    choice.blockSignals(False)


class _Ear:
    """Hears a napari event for a widget, and goes deaf when the widget is gone: napari must not touch a dead one."""

    def __init__(self, callback: Callable[..., None]) -> None:
        self._method: weakref.WeakMethod[Callable[..., None]] | None = weakref.WeakMethod(callback)

    def hear(self, event: Any = None) -> None:
        callback = None if self._method is None else self._method()
        if callback is not None:
            callback(event)

    def go_deaf(self, *_: object) -> None:
        self._method = None


def listen(widget: QWidget, emitter: Any, callback: Callable[..., None]) -> None:
    """Connect a napari event to a widget's method until the widget is gone."""
    ear = _Ear(callback)
    # Both napari and Qt hold the ear weakly; the widget keeps it.
    vars(widget).setdefault("_ears", []).append(ear)
    emitter.connect(ear.hear)
    widget.destroyed.connect(ear.go_deaf)


class LayerChoice(QComboBox):
    """A choice among the viewer's layers that pass a test, the newest first; ``chosen`` tells the layer, or None."""

    chosen = Signal(object)

    def __init__(self, viewer: ViewerModel, wanted: Callable[[], Sequence[Layer]], *, empty: str) -> None:
        super().__init__()
        self._wanted, self._empty = wanted, empty
        self._layers: list[Layer] = []
        shrinkable(self)
        for event in ("inserted", "removed", "reordered"):
            listen(self, getattr(viewer.layers.events, event), self.refresh)
        self.currentIndexChanged.connect(self._tell)
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The layer chosen, or None where there is none to choose."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Layer) -> None:
        """Choose this layer, if it is among those on offer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, event: Any = None) -> None:
        """Offer what is there now; a layer that has come is chosen, else the choice stays while its layer does."""
        kept, known = self.layer, set(map(id, self._layers))
        found = list(self._wanted())
        for layer in found:
            if id(layer) not in known:
                listen(self, layer.events.name, self._rename)
        new = [layer for layer in found if id(layer) not in known]
        self._layers = found
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in found] or [self._empty])
        best = new[0] if new else kept
        self.setCurrentIndex(found.index(best) if best in found else 0)
        self.setEnabled(bool(found))
        self.blockSignals(False)
        if self.layer is not kept or not found:
            self._tell()

    def _rename(self, event: Any = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)

    def _tell(self, *_: object) -> None:
        self.chosen.emit(self.layer)


class FileRow(QWidget):
    """A path: typed, chosen in a dialog, or dropped. ``picked`` tells it once whole, or None when it was cleared."""

    picked = Signal(object)

    def __init__(self, *, caption: str, kinds: str, hint: str, saving: bool = False) -> None:
        super().__init__()
        self._caption, self._kinds, self._saving = caption, kinds, saving
        self._told: Path | None = None
        self.line = QLineEdit()
        self.line.setPlaceholderText(hint)
        self.line.setClearButtonEnabled(True)
        self.line.editingFinished.connect(self._typed)
        self.line.textChanged.connect(lambda text: None if text else self._typed())
        self.browse = QPushButton("Browse…")
        self.browse.setToolTip(caption)
        self.browse.clicked.connect(self._browse)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.line, 1)
        line.addWidget(self.browse)
        self.setAcceptDrops(True)
        self.line.setAcceptDrops(False)

    @property
    def path(self) -> Path | None:
        """The path, or None where there is none."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def show_path(self, path: Path | None) -> None:
        """Show this path and tell it."""
        self.line.setText("" if path is None else str(path))
        self.line.setToolTip(self.line.text())
        self._typed()

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take one file."""
        drop = event.mimeData() if event is not None else None
        if event is not None and drop is not None and len(drop.urls()) == 1 and drop.urls()[0].isLocalFile():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Show the file dropped."""
        drop = event.mimeData() if event is not None else None
        if drop is not None and drop.urls():
            self.show_path(Path(drop.urls()[0].toLocalFile()))

    def _browse(self) -> None:
        beside = str(self.path or "")
        ask = QFileDialog.getSaveFileName if self._saving else QFileDialog.getOpenFileName
        name, _ = ask(self, self._caption, beside, self._kinds)
        if name:
            self.show_path(Path(name))

    def _typed(self) -> None:
        if self.path != self._told:
            self._told = self.path
            self.line.setToolTip(self.line.text())
            self.picked.emit(self.path)


class JobRow(QWidget):
    """The button that starts a job (``asked``), Stop, and, while one runs, its progress and the time left."""

    asked = Signal()
    ended = Signal(str)

    def __init__(self, text: str, tip: str) -> None:
        super().__init__()
        self.job: Job | None = None
        self._possible = True
        self.start = primary_button(text, tip)
        self.start.clicked.connect(self.asked)
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Stop after the piece that is being worked on")
        self.stop.clicked.connect(self._stop)
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.words = Note()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row(self.start, self.stop))
        column.addWidget(self.bar)
        column.addWidget(self.words)
        self._show_idle()

    def follow(self, job: Job) -> None:
        """Show this job until it ends."""
        self.job = job
        job.stepped.connect(self._stepped)
        job.ended.connect(self._ended)
        self.start.setEnabled(False)
        self.stop.setEnabled(True)
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self.words.say("Starting…")

    def allow(self, possible: bool) -> None:
        """Whether a job can be started, once none is running."""
        self._possible = possible
        self.start.setEnabled(possible and self.job is None)

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()
            self.stop.setEnabled(False)
            self.words.say("Stopping…")

    def _stepped(self, step: Any) -> None:
        if self.job is None or self.job.stopping:
            return
        self.bar.setRange(0, step.total)
        self.bar.setValue(step.done)
        left = time_words(self.job.seconds_left)
        self.words.say(f"{step.message} · {left}" if left else step.message)

    def _ended(self, outcome: str) -> None:
        self.job = None
        self._show_idle()
        if outcome == "stopped":
            self.words.say("Stopped; nothing was changed.")
        self.ended.emit(outcome)

    def _show_idle(self) -> None:
        self.start.setEnabled(self._possible)
        self.stop.setEnabled(False)
        self.bar.setVisible(False)
        self.words.say("")
