"""What the Orient dock always shows: tomogram and counts above its pages, view and running job below."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Image, Points
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QMenu, QProgressBar, QToolButton, QVBoxLayout, QWidget

from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.gui.colours import COLOURINGS
from napari_orient.gui.event_loop import Deferred, listen
from napari_orient.gui.jobs import JobQueue
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, STATUS, TRUTH
from napari_orient.gui.session.edits import History
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import (
    MUTED,
    WARNING,
    FoldingRow,
    NoteLabel,
    Panel,
    ShortNote,
    combo_box,
    counted,
    number_box,
    push_button,
    row,
    silent,
)

THICKEST = 10_000.0
"""Å, the thickest slice that is offered: thicker than any tomogram."""


# --- above the pages -------------------------------------------------------------------------------------------------


class TomogramHeader(Panel):
    """The tomogram that is shown, with those before and after it; its voxels, and how many particles it has."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._names: list[str] = []
        self._counting = Deferred(self.show_state, parent=self)
        tip = "The tomogram that is shown: the layers of the others are hidden"
        self.choice = combo_box(tip, name="Tomogram")
        self.before, self.after = _tool("◀", "Previous tomogram"), _tool("▶", "Next tomogram")
        self.voxels, self.counts = ShortNote(), ShortNote(lines=2)
        self.undo, self.redo = _tool("↶ Undo", "Undo the last edit of particles"), _tool("↷", "Redo")
        self.edits = _tool("▾", "The edits: go back to one, or on")
        self.edits.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.edits.setMenu(QMenu(self.edits))
        self.column.setSpacing(2)
        self.add(
            row(self.before, self.choice, self.after, stretch=1), row(self.voxels, self.undo, self.redo, self.edits)
        )
        self.add(self.counts)
        self.choice.activated.connect(lambda place: session.tomograms.choose(self._names[place]))
        self.before.clicked.connect(lambda: session.tomograms.step(-1))
        self.after.clicked.connect(lambda: session.tomograms.step(1))
        for emitter in (session.events.tomogram, session.events.arranged):
            listen(self, emitter, self._counting.ask)
        self.undo.clicked.connect(lambda: self._edit(History.undo))
        self.redo.clicked.connect(lambda: self._edit(History.redo))
        if (menu := self.edits.menu()) is not None:
            menu.aboutToShow.connect(self._fill_edits)
        listen(self, session.events.history, self._show_history)
        self.show_state()

    def _edit(self, act: Callable[[History], None]) -> None:
        history = self.session.last_history
        if history is not None:
            act(history)

    def _show_history(self, event: Any = None) -> None:
        """Show what Undo and Redo would do; no buttons before the first edit."""
        history = self.session.last_history
        edits = {self.undo: ("Undo", ""), self.redo: ("Redo", "")}
        if history is not None:
            edits = {self.undo: ("Undo", history.undoable), self.redo: ("Redo", history.redoable)}
        for button, (verb, words) in edits.items():
            button.setVisible(history is not None)
            button.setEnabled(bool(words))
            button.setToolTip(f"{verb}: {words}" if words else f"Nothing to {verb.lower()}")
        self.edits.setVisible(history is not None and len(history.steps) > 1)

    def _fill_edits(self) -> None:
        """Offer the edits, the newest first: one that is chosen is undone or redone up to there."""
        menu, history = self.edits.menu(), self.session.last_history
        if menu is None or history is None:
            return
        menu.clear()
        for count in range(len(history.steps), -1, -1):
            words = history.steps[count - 1].words if count else "before all edits"
            action = menu.addAction(words, partial(history.go_to, count))
            if action is not None:
                action.setCheckable(True)
                action.setChecked(count == history.done)

    def show_state(self, event: Any = None) -> None:
        """Show the current tomogram and its counts."""
        switch = self.session.tomograms
        self._names, image = switch.names(), switch.current
        self.choice.clear()
        self.choice.addItems(self._names or ["no tomogram open"])
        if switch.name in self._names:
            self.choice.setCurrentIndex(self._names.index(switch.name))
        self.choice.setEnabled(bool(self._names))
        for button in (self.before, self.after):
            button.setVisible(len(self._names) > 1)
        missing = "the volume is not open" if switch.name else ""
        self.voxels.say(missing if image is None else voxel_text(image), WARNING if image is None else MUTED)
        found = switch.particles()
        self.counts.say(count_text(found))
        self._show_history()
        self._listen_to(found)

    def _listen_to(self, found: list[Points]) -> None:
        for layer in found:
            for emitter in (layer.events.data, layer.events.features, layer.events.scale):
                listen(self, emitter, self._counting.ask)


def _tool(text: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button


def voxel_text(image: Image) -> str:
    """Voxel size and size of a tomogram: ``10 Å · 220 × 220 × 90 nm``."""
    size = layer_data.voxel_size(image)
    sides = " × ".join(f"{side * size / 10:.0f}" for side in image.data.shape[::-1])
    return f"{size:g} Å voxels · {sides} nm"


def count_text(found: list[Points]) -> str:
    """How many picks a tomogram has, and how many are posed, accepted and rejected."""
    if not found:
        return "no particles"
    posed = [layer for layer in found if layer_data.role(layer) == PREDICTED]
    poses = sum(int(layer_data.has_pose(layer).sum()) for layer in posed)
    several = f"{counted(poses, 'pose')} in {len(posed)} layers"
    words = [
        counted(_points_in(found, PICKS, ""), "pick"),
        f"{poses:,} posed" if len(posed) < 2 else several,
        counted(_points_in(found, TRUTH), "true pose"),
        f"{_with_status(found, ACCEPTED):,} {ACCEPTED}",
        f"{_with_status(found, REJECTED):,} {REJECTED}",
    ]
    return " · ".join(text for text in words if not text.startswith("0 ")) or "no particles"


def _points_in(found: list[Points], *roles: str) -> int:
    return sum(len(layer.data) for layer in found if layer_data.role(layer) in roles)


def _with_status(found: list[Points], status: str) -> int:
    return sum(int((layer.features[STATUS] == status).sum()) for layer in found if STATUS in layer.features.columns)


class ReplacedNotice(QWidget):
    """What a file has brought of its own in place of model and thresholds, with Undo; hidden where nothing was."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        tip = "Put model, thresholds and filters in force again as they were before the file was opened"
        self.words, self.undo = NoteLabel(), push_button("Undo", tip, session.undo_replaced)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.words, 1)
        line.addWidget(self.undo)
        listen(self, session.events.replaced, self.show_state)
        self.show_state()

    def show_state(self, event: Any = None) -> None:
        """Show what was replaced, if anything was."""
        self.words.say(self.session.replaced_words, WARNING)
        self.setVisible(self.session.replaced is not None)


class JobLine(QWidget):
    """The job that runs: its time left, how many wait, what it does, progress, and Stop: two lines at most."""

    def __init__(self, jobs: JobQueue) -> None:
        super().__init__()
        self._jobs = jobs
        self.words, self.doing = ShortNote(), ShortNote()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.stop = push_button("Stop", "Stop the job that runs; a training keeps its best model", self._stop)
        column = QVBoxLayout()
        column.setSpacing(3)
        for part in (self.words, self.doing, self.bar):
            column.addWidget(part)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addLayout(column, 1)
        line.addWidget(self.stop, 0, Qt.AlignmentFlag.AlignVCenter)
        jobs.changed.connect(self.show_state)
        self.show_state()

    def show_state(self) -> None:
        """Show the job that runs, or that none does."""
        job = self._jobs.running
        self.bar.setVisible(job is not None)
        self.stop.setVisible(job is not None)
        if job is None:
            self.words.say("No job is running.", MUTED)
            self.doing.say("")
            return
        self.stop.setEnabled(not job.stopping)
        step, waiting = job.last, len(self._jobs.waiting)
        self.bar.setRange(0, 0 if step is None else step.total)
        self.bar.setValue(0 if step is None else step.done)
        parts = [job.title, job.time_left, f"{waiting} waiting" if waiting else ""]
        self.words.say(" · ".join(filter(None, parts)))
        self.doing.say("Stopping…" if job.stopping else "Starting…" if step is None else step.message)

    def _stop(self) -> None:
        self._jobs.stop()
        self.show_state()


class ViewStrip(Panel):
    """Colour, slab, truth, rings and failures of the tomogram that is shown.

    ``details`` is emitted when all options are wanted.
    """

    details = Signal(bool)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._showing = Deferred(self.show_state, parent=self)
        tip = "What the colours of arrows and surfaces show: predicted and true, or a quantity"
        self.colour = combo_box(tip, COLOURINGS, name="Colour by")
        self.colour.setMinimumContentsLength(6)
        tip = "Thickness of the slice shown in 2D, in Å; 0 is one voxel"
        self.slab = number_box(0, tip, high=THICKEST, step=50, unit=" Å")
        self.slab.setPrefix("slab ")
        self.slab.setKeyboardTracking(False)
        self.slab.setAccessibleName("Slab")
        self.more = _tool("⚙", "All options of arrows and surfaces")
        self.more.setCheckable(True)
        self.toggles = QHBoxLayout()
        self.toggles.setSpacing(10)
        self.truth = self._toggle("Truth", "Show the true poses")
        self.rings = self._toggle("Picks", "Show the picks as rings")
        self.failures = self._toggle(
            "Only failures", "Show only particles whose error exceeds the threshold of Inspect"
        )
        self.toggles.addStretch(1)
        self.column.setSpacing(4)
        self.toggles.addWidget(self.more)
        self.upper = FoldingRow(row(QLabel("Colour"), self.colour, stretch=1), self.slab)
        self.add(self.upper)
        self.column.addLayout(self.toggles)
        self._connect()
        self.show_state()

    def _toggle(self, text: str, tip: str) -> QCheckBox:
        box = QCheckBox(text)
        box.setToolTip(tip)
        self.toggles.addWidget(box)
        return box

    def _connect(self) -> None:
        self.colour.activated.connect(self._colour_chosen)
        self.slab.valueChanged.connect(self._slab_changed)
        self.more.toggled.connect(self.details)
        for role, box in {TRUTH: self.truth, PICKS: self.rings}.items():
            box.clicked.connect(lambda on, role=role: self._show_role(role, on))
        self.failures.clicked.connect(self._show_failures)
        for emitter in (self.session.events.view, self.session.events.tomogram):
            listen(self, emitter, self._showing.ask)

    def _colour_chosen(self, *_: object) -> None:
        view = self.session.drawing.view
        self.session.drawing.show_as(view.replace(colour=self.colour.currentText()))

    def _slab_changed(self, thickness: float) -> None:
        self.session.drawing.show_as(self.session.drawing.view.replace(slab=thickness))

    def _show_role(self, role: str, on: bool) -> None:
        """Show or hide the particles of this role in the tomogram that is shown, with their arrows."""
        for points in self.session.tomograms.particles(role):
            for layer in (points, *self.session.index.drawings_of(points)):
                layer.visible = on

    def _show_failures(self, on: bool) -> None:
        self.session.failure_view.show_only(on)
        if on and not self.session.failure_view.only:
            show_info("No particle here has an error above the threshold of the page Inspect.")
        self._showing.ask()

    def show_state(self, event: Any = None) -> None:
        """Show how poses are drawn now."""
        display = self.session.drawing.view.display
        view = vars(self.session).get("failure_view")  # Made when failures are first shown.
        self.failures.setChecked(view is not None and view.only)
        self.colour.setCurrentText(display.colour)
        with silent(self.slab):
            self.slab.setValue(display.slab)
        for role, box in {TRUTH: self.truth, PICKS: self.rings}.items():
            found = self.session.tomograms.particles(role)
            for layer in found:
                listen(self, layer.events.visible, self._showing.ask)
            box.setEnabled(bool(found))
            box.setChecked(any(layer.visible for layer in found))
