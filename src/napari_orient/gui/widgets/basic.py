"""Basic widgets: a dock's column, notes, buttons, rows of fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import ClassVar

from napari.components import ViewerModel
from napari.utils.notifications import show_error
from qtpy.QtCore import QCoreApplication, QEvent, QLocale, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QKeyEvent, QPaintEvent, QShowEvent, QTextLayout
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QBoxLayout,
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_orient.engine.environment import machine_error

MUTED, GOOD, WARNING, BAD = "#9aa5b4", "#2fa84f", "#d98e04", "#e5484d"
ACCENT = "#2f7de1"

_ON_LIGHT = {MUTED: "#545d69", GOOD: "#17702f", WARNING: "#8a5700", BAD: "#b3232a"}
"""The same tones as words on a light ground: each is at least 4.5 times as dark as that."""


REVEAL_DELAY = 50
"""Milliseconds from a change of a page to scrolling: its layout is done by then."""


class Panel(QWidget):
    """A column of widgets: a page of the Orient dock, or a card on one."""

    def __init__(self) -> None:
        super().__init__()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(6)

    def add(self, *widgets: QWidget, stretch: int = 0) -> None:
        """Append widgets, one under the other; with ``stretch`` they take the room that is left."""
        for widget in widgets:
            self.column.addWidget(widget, stretch)

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

    @property
    def primary(self) -> QWidget | None:
        """The button that does what the page is for, which the dock keeps in sight below the page; None for none."""
        return None

    def hold_keys(self, held: bool) -> None:
        """Bind the page's keys in the viewer, or give them back; a page has none unless it says so."""

    def reveal(self, widget: QWidget) -> None:
        """Scroll to a widget of the page, once the page has its new height."""
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if area is None:
            return
        # Again a little later: a page with long notes takes two passes to find its height.
        for delay in (REVEAL_DELAY, 4 * REVEAL_DELAY):
            # The area's own timer, which goes with it.
            timer = QTimer(area)
            timer.setSingleShot(True)
            timer.timeout.connect(partial(area.ensureWidgetVisible, widget))
            timer.timeout.connect(timer.deleteLater)
            timer.start(delay)

    def attempt(self, act: Callable[[], object], *, note: NoteLabel | None = None) -> bool:
        """Do the act, and return whether it succeeded; an error is shown in one line, in a note of the dock's too."""
        try:
            act()
        except Exception as error:
            line = machine_error(error)
            if line is None:
                raise
            show_error(str(line))
            if note is not None:
                note.refuse(line)
            return False
        return True


class CardPage(Panel):
    """A row of buttons, and below it the card of the one that is pressed.

    Attributes
    ----------
    names : what each card's button says, and its tooltip, by the card's name.
    makers : what makes each card, by its name; modules are imported when they are needed.
    """

    card_shown = Signal()
    names: ClassVar[Mapping[str, tuple[str, str]]]
    makers: Callable[[], Mapping[str, Callable[[ViewerModel], Panel]]]

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer, self._cards = viewer, dict[str, Panel]()
        self.buttons = {name: choice_button(*words) for name, words in self.names.items()}
        self._group = QButtonGroup(self)
        line = QHBoxLayout()
        line.setSpacing(0)
        for name, button in self.buttons.items():
            self._group.addButton(button)
            line.addWidget(button, 1)
            button.clicked.connect(lambda _, name=name: self.show_card(name))
        self.column.addLayout(line)
        self.show_card(next(iter(self.names)))

    def card(self, name: str) -> Panel:
        """The card of this name."""
        if name not in self._cards:
            card = self._cards[name] = self.makers()[name](self._viewer)
            self.column.addWidget(card)
            card.hide()
        return self._cards[name]

    def show_card(self, name: str) -> None:
        """Show this card alone."""
        shown = self.card(name)
        for card in self._cards.values():
            card.setVisible(card is shown)
        self.buttons[name].setChecked(True)
        self.card_shown.emit()

    @property
    def primary(self) -> QWidget | None:
        """The button of the card that is shown."""
        return next(self._cards[name].primary for name, button in self.buttons.items() if button.isChecked())


IN_ROW = "in_row"
"""The property by which a dock's style knows buttons that share a row, whose words it keeps small enough for it."""


def choice_button(text: str, tip: str, style: str = "QPushButton {padding: 5px 0;}") -> QPushButton:
    """One of several buttons in a row of equal widths, of which one is pressed."""
    button = push_button(text, tip)
    button.setProperty(IN_ROW, True)
    button.setCheckable(True)
    button.setStyleSheet(style)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button


def tone(colour: str, widget: QWidget) -> str:
    """A tone as words need it on the ground that lies behind a widget: darker where the theme is light."""
    behind = widget.parentWidget() or widget
    light = behind.palette().color(behind.foregroundRole()).lightness() < 128
    return _ON_LIGHT.get(colour, colour) if light else colour


class NoteLabel(QLabel):
    """A line or two that say what was found, in a colour that says how good that is."""

    def __init__(self, text: str = "", colour: str = MUTED) -> None:
        super().__init__()
        self._colour = self._painted = ""
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.say(text, colour)

    def say(self, text: str, colour: str = MUTED) -> None:
        """Show this instead; an empty text takes no room."""
        self.setText(text)
        self._colour = colour
        self._paint()
        self.setVisible(bool(text))

    def refuse(self, error: Exception | str) -> None:
        """Say what is wrong."""
        self.say(f"{str(error)[:1].upper()}{str(error)[1:]}", BAD)

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take the tone that another theme needs."""
        super().changeEvent(event)
        if event is not None and event.type() in (QEvent.Type.StyleChange, QEvent.Type.ParentChange):
            self._paint()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Take the tone that the ground needs, which has its colours only now."""
        super().showEvent(event)
        self._paint()

    def _paint(self) -> None:
        wanted = tone(self._colour, self)
        # Qt lays out and paints a widget anew for a style sheet, also for the same one.
        if wanted != self._painted:
            self._painted = wanted
            self.setStyleSheet(f"color: {wanted};")


class ShortNote(NoteLabel):
    """A note of at most so many lines, shortened at its end where the room is too narrow; its tooltip has all of it."""

    def __init__(self, lines: int = 1) -> None:
        self.lines = lines
        super().__init__()
        self.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)

    def say(self, text: str, colour: str = MUTED) -> None:
        """Show this instead, and all of it in the tooltip."""
        super().say(text, colour)
        self.setToolTip(text)

    def heightForWidth(self, width: int) -> int:  # noqa: N802 - Qt's name
        """Height in pixels of the lines that there are, and of no more than are wanted."""
        return min(super().heightForWidth(width), self.lines * self.fontMetrics().lineSpacing())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """One line, however narrow: where there is room for more, the layout asks for the height at its width."""
        return QSize(0, self.fontMetrics().lineSpacing())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """One line, however narrow."""
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the lines that there is room for, the last one shortened."""
        metrics, painter = self.fontMetrics(), QStylePainter(self)
        ink, width, start = self.palette().color(self.foregroundRole()), self.width(), 0
        painter.setPen(ink)
        rows = max(1, min(self.lines, self.height() // metrics.lineSpacing()))
        layout = QTextLayout(self.text(), self.font())
        layout.beginLayout()
        for place in range(rows):
            line = layout.createLine()
            if not line.isValid():
                break
            line.setLineWidth(width)
            start, length = line.textStart(), line.textLength()
            rest = self.text()[start:]
            shown = rest[:length] if place < rows - 1 else metrics.elidedText(rest, _AT_THE_END, width)
            painter.drawText(0, place * metrics.lineSpacing() + metrics.ascent(), shown)
        layout.endLayout()


_AT_THE_END = Qt.TextElideMode.ElideRight


def push_button(text: str, tip: str = "", act: Callable[[], object] | None = None) -> QPushButton:
    """A button; a click calls ``act``, a method so that Qt does not keep its object alive."""
    button = QPushButton(text)
    button.setToolTip(tip)
    if act is not None:
        button.clicked.connect(act)
    return button


def primary_button(text: str, tip: str = "", act: Callable[[], object] | None = None) -> QPushButton:
    """The one button of a dock that does what the dock is for."""
    button = push_button(text, tip, act)
    emphasise(button, True)
    return button


_PLAIN_STYLE = "QPushButton {padding: 7px 14px; border-radius: 3px;}"
_PRIMARY_STYLE = (
    f"QPushButton {{background: {ACCENT}; color: white; font-weight: 600; padding: 7px 14px; border-radius: 3px;}}"
    "QPushButton:hover {background: #4a90ea;} QPushButton:pressed {background: #2567bd;}"
    "QPushButton:disabled {background: rgba(128, 128, 128, 60); color: rgba(160, 160, 160, 150);}"
)


def emphasise(button: QPushButton, on: bool) -> None:
    """Paint a button as the one to press next, or as plain as others."""
    button.setStyleSheet(_PRIMARY_STYLE if on else _PLAIN_STYLE)


def row(*widgets: QWidget, stretch: int = 0) -> QWidget:
    """Widgets side by side; the one at ``stretch`` takes the room that is left."""
    holder = QWidget()
    line = QHBoxLayout(holder)
    line.setContentsMargins(0, 0, 0, 0)
    for index, widget in enumerate(widgets):
        line.addWidget(widget, 1 if index == stretch else 0)
    return holder


class FoldingRow(QWidget):
    """Widgets side by side, or under one another where the room is too narrow for that, as large texts make it.

    ``stretches`` are their shares of the room that is left; by default the first takes it all.
    """

    def __init__(self, *widgets: QWidget, stretches: Sequence[int] = (1,)) -> None:
        super().__init__()
        self._line = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._line.setContentsMargins(0, 0, 0, 0)
        self._line.setSpacing(4)
        for widget, stretch in zip_longest(widgets, stretches, fillvalue=0):
            if isinstance(widget, QWidget):
                self._line.addWidget(widget, stretch)

    def _shown(self) -> list[QWidget]:
        items = (self._line.itemAt(place) for place in range(self._line.count()))
        widgets = (None if item is None else item.widget() for item in items)
        return [widget for widget in widgets if widget is not None and not widget.isHidden()]

    def _least_widths(self) -> list[int]:
        return [max(widget.minimumSizeHint().width(), widget.minimumWidth()) for widget in self._shown()]

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as the widest of them."""
        return QSize(max(self._least_widths(), default=0), super().minimumSizeHint().height())

    def event(self, event: QEvent | None) -> bool:
        """Fold, or unfold, where the room or what needs it changes."""
        if event is not None and event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest):
            self._fold()
        return super().event(event)

    def _fold(self) -> None:
        widths = self._least_widths()
        fits = sum(widths) + self._line.spacing() * (len(widths) - 1) <= self.width()
        wanted = QBoxLayout.Direction.LeftToRight if fits else QBoxLayout.Direction.TopToBottom
        if self._line.direction() != wanted:
            self._line.setDirection(wanted)


def equal_width_row(*widgets: QWidget) -> QWidget:
    """A row of widgets of equal width, however wide their texts are."""
    holder = QWidget()
    line = QHBoxLayout(holder)
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(4)
    for widget in widgets:
        widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        line.addWidget(widget, 1)
    return holder


LABEL_WIDTH = 138
"""Least width in pixels of the column of labels: fits all but a few at the default font, so that forms line up."""


def lay_out_fields(rows: QFormLayout) -> None:
    """Let fields take the room beside their labels, or below them where large texts leave too little."""
    rows.setContentsMargins(0, 0, 0, 0)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    rows.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)


def labelled(fields: Mapping[str, QWidget], *, width: int = 78) -> QWidget:
    """Fields under one another, each with its label; labels of this width line up from form to form."""
    holder = QWidget()
    rows = QFormLayout(holder)
    lay_out_fields(rows)
    for text, field in fields.items():
        label = QLabel(text)
        label.setMinimumWidth(width)
        label.setToolTip(field.toolTip())
        label.setBuddy(field)
        field.setAccessibleName(text)
        rows.addRow(label, field)
    return holder


class Choice(QComboBox):
    """A choice that can be narrower than its longest entry, so that it never pushes a dock out of its frame.

    An entry that is too long is shortened in its middle: names of layers, tomograms and files differ at their ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the entry chosen, shortened to the room that there is."""
        painter, option, style = QStylePainter(self), QStyleOptionComboBox(), self.style()
        self.initStyleOption(option)
        if style is not None:
            kind, part = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
            room = style.subControlRect(kind, option, part, self).width() - _TEXT_MARGIN - self._icon_width(option)
            option.currentText = self.fontMetrics().elidedText(option.currentText, Qt.TextElideMode.ElideMiddle, room)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _icon_width(self, option: QStyleOptionComboBox) -> int:
        return 0 if option.currentIcon.isNull() else option.iconSize.width() + 4


_TEXT_MARGIN = 8
"""Pixels left free of the text of a choice, as napari's style insets it."""


def combo_box(tip: str, entries: Iterable[str] = (), *, name: str = "") -> Choice:
    """A choice among entries; ``name`` is its accessible name where no label stands beside it."""
    choice = Choice()
    choice.addItems(list(entries))
    choice.setToolTip(tip)
    if name:
        choice.setAccessibleName(name)
    return choice


def list_box(name: str, tip: str, *, height: int) -> QListWidget:
    """A list of so many pixels' height, with its accessible name; long lines are shortened in the middle."""
    found = QListWidget()
    found.setFixedHeight(height)
    found.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    found.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    found.setAccessibleName(name)
    found.setToolTip(tip)
    return found


def checkable(text: str, checked: bool) -> QListWidgetItem:
    """A line of a list that can be ticked."""
    item = QListWidgetItem(text)
    item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
    item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)
    return item


@contextmanager
def silent(*emitters: QObject) -> Iterator[None]:
    """What these widgets would emit meanwhile is not emitted."""
    before = [emitter.blockSignals(True) for emitter in emitters]
    try:
        yield
    finally:
        for emitter, blocked in zip(emitters, before, strict=True):
            emitter.blockSignals(blocked)


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
        """Show or hide the contents."""
        self.button.setChecked(wanted)
        self.button.setArrowType(Qt.ArrowType.DownArrow if wanted else Qt.ArrowType.RightArrow)
        self.contents.setVisible(wanted)


WIDEST_PAGE = 440
"""Pixels that a page asks for at most, for large texts: beside napari's own panels a laptop's screen has no more."""


STYLED_EDGE = 4
"""Pixels that napari's style leaves beside what scrolls; measured with napari 0.9.2."""

LOWEST_PAGE = 60
"""Pixels that a page is high at least: it scrolls, and a low window has no more beside the Particles dock."""


class PageFrame(QScrollArea):
    """A page that scrolls: it is as wide as what it holds needs at the size of text that napari has, within bounds."""

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setWidget(page)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """The page's least width, beside the scroll bar."""
        page, bar, least = self.widget(), self.verticalScrollBar(), super().minimumSizeHint()
        if page is None or bar is None:
            return least
        wanted = page.minimumSizeHint().width() + bar.sizeHint().width() + STYLED_EDGE
        return QSize(min(wanted, WIDEST_PAGE), LOWEST_PAGE)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Ask for another width where the page does."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


def counted(count: int, one: str, many: str = "") -> str:
    """A number and what is counted: ``1 particle``, ``1,200 particles``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def plain_number(text: str) -> str:
    """A number as Python reads it: a comma between its digits is a decimal one."""
    whole, comma, rest = text.strip().partition(",")
    return f"{whole}.{rest}" if comma and rest.isdigit() else text.strip()


class _CommaAsPoint(QObject):
    """Gives fields of numbers a point for each comma that is typed: Qt would leave it out, and 12,5 become 125."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        if not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress or event.text() != ",":
            return False
        QCoreApplication.sendEvent(watched, QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Period, event.modifiers(), "."))
        return True


def read_plain_numbers(box: QAbstractSpinBox) -> None:
    """Let a field show and take numbers as files have them, whatever the language: without separators of thousands."""
    plain = QLocale.c()
    plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator | QLocale.NumberOption.RejectGroupSeparator)
    box.setLocale(plain)
    box.installEventFilter(_CommaAsPoint(box))


def number_box(
    value: float, tip: str, *, high: float, low: float = 0.0, decimals: int = 0, step: float = 1.0, unit: str = ""
) -> QDoubleSpinBox:
    """A field for a number with its unit."""
    box = QDoubleSpinBox()
    read_plain_numbers(box)
    box.setDecimals(decimals)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setSuffix(unit)
    box.setValue(value)
    box.setToolTip(tip)
    return box


def size_box(tip: str) -> QDoubleSpinBox:
    """A field for Å a voxel or pixel, where 0 stands for not set."""
    box = number_box(0, tip, high=1000, decimals=4, step=0.1, unit=" Å")
    box.setSpecialValueText("not set")
    box.setKeyboardTracking(False)
    return box
