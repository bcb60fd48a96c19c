"""The Orient dock, on the right: tomogram and counts above, a page in the middle, view and running job below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtCore import QEvent, QSize
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QWidget,
)

from napari_orient.gui.docks.dock_strips import JobLine, ReplacedNotice, TomogramHeader, ViewStrip
from napari_orient.gui.docks.viewer_dock import ViewerDock
from napari_orient.gui.event_loop import listen
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.session.canvas_input import MouseTools
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.widgets.basic import ACCENT, CardPage, PageFrame, Panel, choice_button, silent
from napari_orient.gui.widgets.inputs import LayerChoice, paths_in

WIDTH = 380
"""Width in pixels of the dock at first: fits the widest page with its scroll bar at the default font."""

LEAST_WIDTH = 370
"""Least width in pixels: at a font of 14 points napari's own panels leave no more of a window of 1100."""

LOW_DOCK = 25
"""Lines of text: in a lower dock the page needs the room of what ⚙, a tooltip or nothing at all says as well."""

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
        self.setAcceptDrops(True)
        self.header, self.steps = TomogramHeader(self.session), StepBar()
        self.stack, self.primary, self.view_strip = QStackedWidget(), QStackedWidget(), ViewStrip(self.session)
        self.job_line = JobLine(self.session.jobs)
        grid = QGridLayout(self)  # Not a column: napari would add a stretch to it.
        grid.setContentsMargins(4, 6, 4, 6)
        grid.setVerticalSpacing(6)
        above = (self.header, ReplacedNotice(self.session), self.steps)
        parts = (*above, self.stack, self.primary, _line(), self.view_strip, _line(), self.job_line)
        for place, part in enumerate(parts):
            grid.addWidget(part, place, 0)
        grid.setRowStretch(parts.index(self.stack), 1)
        self.primary.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.steps.chosen = self.show_page
        self._spare = (self.header.counts, self.view_strip.upper)
        self.view_strip.details.connect(self._details)
        listen(self, self.session.events.page, self._page_wanted)
        listen(self, self.session.events.tomogram, self.steps_done)
        self.show_page(self._first_page())
        self.steps_done()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """The usual width, or the least where that is more: the canvas needs the room."""
        return QSize(max(WIDTH, self.minimumSizeHint().width()), super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """What the pages need, and no less than the least width; as high as a low dock without its spare lines."""
        least = super().minimumSizeHint()
        spare = sum(part.sizeHint().height() for part in self._spare if not part.isHidden())
        return QSize(max(LEAST_WIDTH, least.width()), least.height() - spare)

    def event(self, event: QEvent | None) -> bool:
        """Hide the spare lines of the strips where the dock is low for its size of text, and show them where not."""
        if event is not None and event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest):
            low = self.height() < LOW_DOCK * self.job_line.words.fontMetrics().lineSpacing()
            for part in self._spare:
                part.setHidden(low)
            self.header.undo.setText("↶" if low else "↶ Undo")
        return super().event(event)

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
            self.stack.addWidget(PageFrame(page))
            if isinstance(page, CardPage):
                page.card_shown.connect(self._show_primary)
        return self._pages[name]

    def show_page(self, name: str, card: str = "") -> None:
        """Show this page, and on it this card."""
        page = self.page(name)
        self.stack.setCurrentIndex(list(self._pages).index(name))
        if card and isinstance(page, CardPage):
            page.show_card(card)
        self._show_primary()
        self.steps.show_step(name)
        with silent(self.view_strip.more):
            self.view_strip.more.setChecked(name == VIEW)
        self._hold_keys(self.isVisibleTo(self.window()))
        view = vars(self.session).get("failure_view")  # Made when failures are first shown.
        if view is not None and name in (DATA, POSES, RESULT):
            view.restore()

    def _show_primary(self) -> None:
        """Show the page's own button below it, wherever the page is scrolled to."""
        button = self.page(self.step).primary
        self.primary.setVisible(button is not None)
        if button is not None:
            if self.primary.indexOf(button) < 0:
                self.primary.addWidget(button)
            self.primary.setCurrentWidget(button)

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


# --- pages that are a choice of cards, each made when it is first shown ----------------------------------------------


class PosesPage(CardPage):
    """Three ways to poses: a model that knows the particle, picks alone, or a model that is taught."""

    names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Predict": ("Known model", "A model knows the particle: predict the orientations with a template or a network"),
        "Discover": ("Picks alone", "From picks alone: find the structure that the picks share, and every orientation"),
        "Train": ("Teach one", "Teach a model: train a network, or average a template, on labelled particles"),
    }

    def makers(self) -> Mapping[str, Callable[[ViewerModel], Panel]]:
        """What makes each card, by its name."""
        from napari_orient.gui.pages.discover_card import DiscoverCard
        from napari_orient.gui.pages.predict_card import PredictCard
        from napari_orient.gui.pages.train_card import TrainCard

        return {"Predict": PredictCard, "Discover": DiscoverCard, "Train": TrainCard}


class ResultPage(CardPage):
    """What is taken away: a list of the particles, their average, and a figure."""

    names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Export": ("Particle list", "Write the particles to a file of any program"),
        "Average": ("Average", "Average the particles in their poses, with half maps and FSC"),
        "Figure": ("Figure", "Save a figure for print: the view, the failure regions, the errors of each model"),
    }

    def makers(self) -> Mapping[str, Callable[[ViewerModel], Panel]]:
        """What makes each card, by its name."""
        from napari_orient.gui.pages.result_cards import AverageCard, ExportCard, FigureCard

        return {"Export": ExportCard, "Average": AverageCard, "Figure": FigureCard}


class ViewPage(CardPage):
    """Every option of how poses are drawn; the strip below the pages has those that are used most."""

    names: ClassVar[Mapping[str, tuple[str, str]]] = {
        "Arrows": ("Arrows", "Length, colours and filters of the arrows"),
        "Surface": ("Surfaces", "The reference at every pose"),
    }

    def makers(self) -> Mapping[str, Callable[[ViewerModel], Panel]]:
        """What makes each card, by its name."""
        from napari_orient.gui.pages.view_cards import ArrowsCard, SurfaceCard

        return {"Arrows": ArrowsCard, "Surface": SurfaceCard}


# --- steps -----------------------------------------------------------------------------------------------------------


class StepBar(QWidget):
    """The five steps as a row of buttons: those taken are ticked, the one shown is blue."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: Callable[[str], None] = lambda name: None
        self._group = QButtonGroup(self)
        self.buttons = {name: self._button(name) for name in STEPS}
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(1)
        for button in self.buttons.values():
            line.addWidget(button, 1)

    def _button(self, name: str) -> QPushButton:
        button = choice_button(
            name,
            _STEP_TIPS[name],
            "QPushButton {padding: 6px 0; border-radius: 3px;}"
            f"QPushButton:checked {{background: {ACCENT}; color: white;}}",
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
            self.buttons[name].setText(f"✓\N{THIN SPACE}{name}" if taken else name)
