"""The Orient dock, on the right: tomogram and counts above, a page in the middle, view and running job below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from napari.layers import Image, Points
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.gui import layers
from napari_orient.gui.canvas_input import MouseTools
from napari_orient.gui.jobs import JobQueue
from napari_orient.gui.layers import PICKS, PREDICTED, STATUS, TRUTH
from napari_orient.gui.opening import open_paths
from napari_orient.gui.session import Session
from napari_orient.gui.view_strip import ViewStrip
from napari_orient.gui.viewer_dock import ViewerDock
from napari_orient.gui.widgets import (
    ACCENT,
    MUTED,
    WARNING,
    CardPage,
    Deferred,
    LayerChoice,
    NoteLabel,
    Panel,
    listen,
    paths_in,
    row,
    shrinkable,
)

WIDTH = 380
"""Least width in pixels of the dock: fits the widest page with its scroll bar at the default font."""

DATA, POSES, INSPECT, CORRECT, RESULT = STEPS = ("Data", "Poses", "Inspect", "Correct", "Result")
VIEW = "View"
"""A page that is no step: every option of how poses are drawn."""

_STEP_TIPS = {
    DATA: "Open tomograms and particles",
    POSES: "Find the orientations",
    INSPECT: "Where and why do poses fail?",
    CORRECT: "Correct, accept and reject particles",
    RESULT: "Average the particles, and write them to a file",
}


class OrientDock(ViewerDock):
    """Header, steps, the page of the step chosen, view strip and job line.

    A page is a `Panel` that is made when it is first shown (`page`); it shows the session's state and asks for another
    page by ``session.show_page``.
    """

    title: ClassVar[str] = "Orient"

    def build(self) -> None:
        """Make the dock's widgets; no page yet."""
        self._pages: dict[str, Panel] = {}
        self._mouse = MouseTools(self.session, self._clickable)
        self.setMinimumWidth(WIDTH)
        self.setAcceptDrops(True)
        self.header, self.steps = TomogramHeader(self.session), StepBar()
        self.stack, self.view_strip = QStackedWidget(), ViewStrip(self.session)
        self.job_line = JobLine(self.session.jobs)
        grid = QGridLayout(self)  # Not a column: napari would add a stretch to it.
        grid.setContentsMargins(8, 6, 8, 6)
        grid.setVerticalSpacing(6)
        parts = (
            self.header,
            ReplacedNotice(self.session),
            self.steps,
            self.stack,
            _line(),
            self.view_strip,
            _line(),
            self.job_line,
        )
        for place, part in enumerate(parts):
            grid.addWidget(part, place, 0)
        grid.setRowStretch(parts.index(self.stack), 1)
        self.steps.chosen = self.show_page
        self.view_strip.details.connect(self._details)
        listen(self, self.session.events.page, self._page_wanted)
        listen(self, self.session.events.tomogram, self.steps_done)
        self.show_page(self._first_page())
        self.steps_done()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """The least width at first: the canvas needs the room more."""
        return QSize(WIDTH, super().sizeHint().height())

    def _first_page(self) -> str:
        index = self.session.index
        return POSES if index.tomograms() and index.particles() else DATA

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take files and folders, whatever page is shown."""
        if event is not None and paths_in(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Open what was dropped."""
        open_paths(self.session, paths_in(event))

    # --- pages ------------------------------------------------------------------------------------------------------

    def page(self, name: str) -> Panel:
        """The page of this name, made if it was not yet shown."""
        if name not in self._pages:
            page = self._pages[name] = _makers()[name](self.session.viewer)
            frame = QScrollArea()
            frame.setWidgetResizable(True)
            frame.setFrameShape(QFrame.Shape.NoFrame)
            frame.setWidget(page)
            self.stack.addWidget(frame)
        return self._pages[name]

    def show_page(self, name: str, card: str = "") -> None:
        """Show this page, and on it this card."""
        page = self.page(name)
        self.stack.setCurrentIndex(list(self._pages).index(name))
        if card and isinstance(page, CardPage):
            page.show_card(card)
        self.steps.show_step(name)
        self.view_strip.more.blockSignals(True)
        self.view_strip.more.setChecked(name == VIEW)
        self.view_strip.more.blockSignals(False)
        self._hold_keys(self.isVisibleTo(self.window()))
        view = vars(self.session).get("failure_view")  # Made when failures are first shown.
        if view is not None and name in (DATA, POSES, RESULT):
            view.restore()

    def _hold_keys(self, on: bool) -> None:
        """Let pages hold their keys while one inspects or corrects; they act nowhere else, and never unseen."""
        wanted = on and self.step in (INSPECT, CORRECT)
        if wanted:
            self.page(CORRECT)  # Its keys act while one inspects too.
        for page in self._pages.values():
            page.hold_keys(wanted)
        self._mouse.switch(wanted)

    def _clickable(self) -> Points | None:
        """The particles that a click selects among: those that are corrected or inspected."""
        if self.step != CORRECT:
            return self.session.inspected.layer
        choice = getattr(self.page(CORRECT), "particles", None)
        layer = choice.layer if isinstance(choice, LayerChoice) else None
        return layer if isinstance(layer, Points) else None

    def closed(self) -> None:
        """Give the keys back."""
        self._hold_keys(False)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Bind the keys of the page that is shown."""
        super().showEvent(event)
        self._hold_keys(True)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 - Qt's name
        """Give the keys back."""
        super().hideEvent(event)
        if event is not None and not event.spontaneous():
            self._hold_keys(False)

    @property
    def step(self) -> str:
        """The name of the page that is shown."""
        return list(self._pages)[self.stack.currentIndex()]

    def _page_wanted(self, event: Any) -> None:
        self.show_page(event.name, event.card)

    def _details(self, on: bool) -> None:
        if on:
            self._before = self.step
            self.show_page(VIEW)
        else:
            self.show_page(self._before)

    def steps_done(self, event: Any = None) -> None:
        """Tick the steps that have been taken."""
        index = self.session.index
        done = {DATA: bool(index.tomograms() and index.particles()), POSES: bool(index.particles(PREDICTED))}
        self.steps.show_done(done)


def _makers() -> dict[str, Callable[[Any], Panel]]:
    """What makes each page; modules are imported when the first page is made."""
    from napari_orient.gui.pages.card_pages import PosesPage, ResultPage, ViewPage
    from napari_orient.gui.pages.correct_page import CorrectPage
    from napari_orient.gui.pages.data_page import DataPage
    from napari_orient.gui.pages.inspect_page import InspectPage

    return {
        DATA: DataPage,
        POSES: PosesPage,
        INSPECT: InspectPage,
        CORRECT: CorrectPage,
        RESULT: ResultPage,
        VIEW: ViewPage,
    }


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFixedHeight(1)
    line.setStyleSheet("background: rgba(128, 128, 128, 70); border: none;")
    return line


class StepBar(QWidget):
    """The five steps as a row of buttons: those taken are ticked, the one shown is blue."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: Callable[[str], None] = lambda name: None
        self._group = QButtonGroup(self)
        self.buttons = {name: self._button(name) for name in STEPS}
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(2)
        for button in self.buttons.values():
            line.addWidget(button)

    def _button(self, name: str) -> QPushButton:
        button = QPushButton(name)
        button.setCheckable(True)
        button.setToolTip(_STEP_TIPS[name])
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        button.setStyleSheet(
            "QPushButton {padding: 6px 0; border-radius: 3px;}"
            f"QPushButton:checked {{background: {ACCENT}; color: white; font-weight: 600;}}"
        )
        button.clicked.connect(lambda: self.chosen(name))
        self._group.addButton(button)
        return button

    def show_step(self, name: str) -> None:
        """Mark this step as the one that is shown; none for a page that is no step."""
        self._group.setExclusive(False)
        for step, button in self.buttons.items():
            button.setChecked(step == name)
        self._group.setExclusive(True)

    def show_done(self, done: dict[str, bool]) -> None:
        """Tick the steps that have been taken."""
        for name, taken in done.items():
            self.buttons[name].setText(f"✓ {name}" if taken else name)


class TomogramHeader(QWidget):
    """The tomogram that is shown, with those before and after it; its voxels, and how many particles it has."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._names: list[str] = []
        self._heard: set[int] = set()
        self._counting = Deferred(self.show_state, parent=self)
        self.choice = QComboBox()
        self.choice.setToolTip("The tomogram that is shown: the layers of the others are hidden")
        self.choice.setAccessibleName("Tomogram")
        shrinkable(self.choice)
        self.before, self.after = _arrow("◀", "Previous tomogram"), _arrow("▶", "Next tomogram")
        self.voxels, self.counts = NoteLabel(), NoteLabel()
        self.undo, self.redo = _arrow("↶", "Undo the last edit of particles"), _arrow("↷", "Redo")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(row(self.before, self.choice, self.after, stretch=1))
        column.addWidget(row(self.voxels, self.undo, self.redo))
        column.addWidget(self.counts)
        self.choice.activated.connect(lambda place: session.tomograms.choose(self._names[place]))
        self.before.clicked.connect(lambda: session.tomograms.step(-1))
        self.after.clicked.connect(lambda: session.tomograms.step(1))
        for emitter in (session.events.tomogram, session.events.arranged):
            listen(self, emitter, self._counting.ask)
        self.undo.clicked.connect(self._undo)
        self.redo.clicked.connect(self._redo)
        listen(self, session.events.history, self._show_history)
        self._show_history()
        self.show_state()

    def _undo(self) -> None:
        history = self.session.last_history
        if history is not None:
            history.undo()

    def _redo(self) -> None:
        history = self.session.last_history
        if history is not None:
            history.redo()

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
        self._listen_to(found)

    def _listen_to(self, found: list[Points]) -> None:
        for layer in found:
            if id(layer) not in self._heard:
                self._heard.add(id(layer))
                for emitter in (layer.events.data, layer.events.features, layer.events.scale):
                    listen(self, emitter, self._counting.ask)


def _arrow(text: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button


def voxel_text(image: Image) -> str:
    """Voxel size and size of a tomogram: ``10 Å · 220 × 220 × 90 nm``."""
    size = layers.voxel_size(image)
    sides = " × ".join(f"{side * size / 10:.0f}" for side in image.data.shape[::-1])
    return f"{size:g} Å voxels · {sides} nm"


def count_text(found: list[Points]) -> str:
    """How many picks a tomogram has, and how many are posed, accepted and rejected."""
    if not found:
        return "no particles"
    picks = [layer for layer in found if layers.role(layer) in (PICKS, "")]
    posed = [layer for layer in found if layers.role(layer) == PREDICTED]
    truth = [layer for layer in found if layers.role(layer) == TRUTH]
    counts = {
        "picks": sum(len(layer.data) for layer in picks),
        "posed": sum(int(layers.has_pose(layer).sum()) for layer in posed),
        "true poses": sum(len(layer.data) for layer in truth),
        ACCEPTED: _with_status(found, ACCEPTED),
        REJECTED: _with_status(found, REJECTED),
    }
    return " · ".join(f"{number:,} {word}" for word, number in counts.items() if number) or "no particles"


def _with_status(found: list[Points], status: str) -> int:
    return sum(int((layer.features[STATUS] == status).sum()) for layer in found if STATUS in layer.features.columns)


class ReplacedNotice(QWidget):
    """What a file has brought of its own in place of model and thresholds, with Undo; hidden where nothing was."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.words, self.undo = NoteLabel(), QPushButton("Undo")
        self.undo.setToolTip("Put model, thresholds and filters in force again as they were before the file was opened")
        self.undo.clicked.connect(lambda _: session.undo_replaced())
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
    """The job that runs: what it does, progress, time left, and Stop; how many wait."""

    def __init__(self, jobs: JobQueue) -> None:
        super().__init__()
        self._jobs = jobs
        self.words = NoteLabel()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Stop the job that runs; a training keeps its best model")
        self.stop.clicked.connect(self._stop)
        column = QVBoxLayout()
        column.setSpacing(3)
        column.addWidget(self.words)
        column.addWidget(self.bar)
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
            return
        self.stop.setEnabled(not job.stopping)
        step, waiting = job.last, len(self._jobs.waiting)
        self.bar.setRange(0, 0 if step is None else step.total)
        self.bar.setValue(0 if step is None else step.done)
        doing = "Stopping…" if job.stopping else "Starting…" if step is None else step.message
        parts = [job.title, doing, job.time_left, f"{waiting} waiting" if waiting else ""]
        self.words.say(" · ".join(filter(None, parts)))

    def _stop(self) -> None:
        self._jobs.stop()
        self.show_state()
