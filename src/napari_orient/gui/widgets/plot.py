"""Charts: plots drawn by matplotlib in the colours of the dock, which can be clicked, and curves with a legend.

What draws into axes knows no widget, so that figures for print are drawn by the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_orient.gui.widgets.basic import tone

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 22, 36
"""Pixels round the axes: for the values of y, half the last value of x, the titles, and the values and label of x."""

_DPI = 100.0
"""Dots per inch at which matplotlib's points become pixels: 8 points are 11 pixels, as in napari's docks."""

TEXT = 8.0
"""Points of all text in charts."""

_CHARACTER = 6.2
"""Pixels of a character of such text, about; measured over the words of charts in DejaVu Sans."""

_GRAB = 6
"""Pixels from the threshold's line within which the mouse drags it."""

CLICK_RADIUS = 24
"""Pixels from a point within which a click selects it."""

_LEAST_GAP = 0.16
"""Distance between ticks of counts, at least, as a share of the axis: 20 pixels of 130."""

_NARROW_ANGLES = 1.8
"""Width in inches of axes below which an angle has a tick every 60° instead of 30°: seven numbers would touch."""

_FEW_DECADES = 3
"""Powers of ten along an axis up to which 2 and 5 times them have ticks too."""

Pixels = tuple[NDArray[np.float64], NDArray[np.float64]]


# --- what draws -----------------------------------------------------------------------------------------------------


def style_axes(axes: Axes, ink: str, *, text: float = TEXT) -> None:
    """Style axes for a chart: no frame but the base line, a pale grid, text in the given ink and size in points."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=ink, alpha=0.45)
    axes.tick_params(which="both", length=0, labelsize=text, labelcolor=ink, pad=4)
    axes.grid(axis="y", color=ink, alpha=0.14, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=ink, fontsize=text)


def counts_axis(axes: Axes, high: float) -> None:
    """Make y an axis of counts from 0: as square root, so that single particles show beside thousands."""
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_ylim(0, high)
    axes.set_yticks(values := round_counts(high), [f"{value:,}" for value in values])
    axes.minorticks_off()


def round_counts(high: float) -> list[int]:
    """Counts 0, 1, 2, 5, 10, 20, 50, … up to high, those that lie far enough apart on an axis of square roots."""
    every = [factor * 10**power for power in range(9) for factor in (1, 2, 5) if factor * 10**power <= high]
    chosen: list[int] = []
    for value in reversed(every):
        above = chosen[-1] if chosen else math.inf
        if min(math.sqrt(above) - math.sqrt(value), math.sqrt(value)) >= _LEAST_GAP * math.sqrt(high):
            chosen.append(value)
    return [0, *reversed(chosen)]


def number_axis(axis: Any, low: float, high: float, *, log: bool = False) -> None:
    """Make an axis run from low to high with round ticks: by 30 or 60 up to 180, else by 1, 2, 5; or 1, 2, 5, 10, …"""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

    if log:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        factors = (1, 2, 5) if last - first <= _FEW_DECADES else (1,)
        every = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        axis.set_major_locator(FixedLocator([value for value in every if low <= value <= high]))
    elif high == 180:
        narrow = axis.axes.bbox.width / axis.axes.figure.dpi < _NARROW_ANGLES
        axis.set_major_locator(FixedLocator(np.arange(0, 181, 60 if narrow else 30).tolist()))
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})


# --- the widget -----------------------------------------------------------------------------------------------------


class Chart(QWidget):
    """A plot that draws itself anew, when it is next painted, after `renew`; a threshold's line can be dragged."""

    chosen = Signal(object, bool)
    """Rows that the user selected, and whether they extend the selection."""

    threshold_moved = Signal(float)

    def __init__(self, *, x_label: str = "", y_label: str = "", height: int, fixed: bool = False) -> None:
        super().__init__()
        self.x_label, self.y_label = x_label, y_label
        self.captions: Sequence[str] = ()
        self.threshold: float | None = None
        self._along = "x"
        self._picture: QImage | None = None
        self._axes: Axes | None = None
        self._size = (0, 0)
        self._dragging = False
        vertical = QSizePolicy.Policy.Fixed if fixed else QSizePolicy.Policy.Expanding
        self.setSizePolicy(QSizePolicy.Policy.Expanding, vertical)
        self.setFixedHeight(height) if fixed else self.setMinimumHeight(height)
        self.setMinimumWidth(120)
        self.setMouseTracking(True)

    def renew(self) -> None:
        """Draw the chart anew when it is next painted."""
        self._axes = self._picture = None
        self.update()

    @property
    def ink(self) -> str:
        """Colour of text, as the dock's."""
        return str(self.palette().color(self.foregroundRole()).name())

    @property
    def axes(self) -> Axes:
        """The axes, drawn as the chart is now."""
        wanted = (self.width(), self.height())
        if self._axes is None or self._size != wanted:
            self._size = wanted
            self._axes = self._drawn()
        return self._axes

    def _drawn(self) -> Axes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        width, height, ratio = max(self.width(), 80), max(self.height(), 80), self.devicePixelRatioF()
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI * ratio, facecolor="none")
        canvas: Any = FigureCanvasAgg(figure)
        left, right, top, bottom = self._margins()
        axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
        self._draw(axes)
        style_axes(axes, self.ink)
        self._draw_titles(axes)
        self._draw_threshold(axes)
        canvas.draw()
        pixels = np.ascontiguousarray(np.asarray(canvas.buffer_rgba()))
        rows, columns = pixels.shape[:2]
        picture = QImage(pixels.tobytes(), columns, rows, 4 * columns, QImage.Format.Format_RGBA8888).copy()
        picture.setDevicePixelRatio(ratio)
        self._picture = picture
        return axes

    def _margins(self) -> tuple[int, int, int, int]:
        """Pixels left, right, above and below the axes."""
        return LEFT, RIGHT, TOP, BOTTOM

    def _draw(self, axes: Axes) -> None:
        """Draw the values."""

    def _draw_titles(self, axes: Axes) -> None:
        axes.set_xlabel(self.x_label, fontsize=TEXT, color=self.ink)
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset pixels", "annotation_clip": False}
        style: dict[str, Any] = {"fontsize": TEXT, "color": self.ink, "va": "bottom"}
        left, *_ = self._margins()
        axes.annotate(self.y_label, (0, 1), xytext=(4 - left, 5), **place, **style)
        room = self.width() - RIGHT - _CHARACTER * (len(self.y_label) + 2)
        caption = next((words for words in self.captions if _CHARACTER * len(words) <= room), "")
        axes.annotate(caption, (1, 1), xytext=(0, 5), ha="right", **place, **style)

    def _draw_threshold(self, axes: Axes) -> None:
        if self.threshold is None:
            return
        upright = self._along == "x"
        (axes.axvline if upright else axes.axhline)(
            self.threshold, color=self.ink, linewidth=1.1, linestyle=(0, (4, 3))
        )
        axes.annotate(
            f"{self.threshold:g}°",
            (self.threshold, 1) if upright else (1, self.threshold),
            xycoords=("data", "axes fraction") if upright else ("axes fraction", "data"),
            xytext=(4, -2) if upright else (-2, 3),
            textcoords="offset pixels",
            va="top" if upright else "bottom",
            ha="left" if upright else "right",
            fontsize=TEXT,
            color=self.ink,
        )

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the chart, drawn anew where it changed."""
        self.axes  # noqa: B018 - draws the picture
        painter = QPainter(self)
        if self._picture is not None:
            painter.drawImage(QPointF(0, 0), self._picture)
        painter.end()

    def changeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Take the ink of another theme."""
        super().changeEvent(event)
        self.renew()

    # --- values and pixels ------------------------------------------------------------------------------------------

    @property
    def area(self) -> QRectF:
        """The rectangle of the axes, in pixels."""
        left, right, top, bottom = self._margins()
        return QRectF(left, top, max(self.width() - left - right, 1), max(self.height() - top - bottom, 1))

    def pixels_of(self, x: Any, y: Any) -> Pixels:
        """Horizontal and vertical pixel positions of values."""
        transform: Transform = self.axes.transData
        at = transform.transform(np.column_stack([np.atleast_1d(x), np.atleast_1d(y)])) / self.devicePixelRatioF()
        return at[:, 0], self.height() - at[:, 1]

    def values_at(self, at: QPointF) -> tuple[float, float]:
        """The values x and y at a position in pixels."""
        ratio = self.devicePixelRatioF()
        x, y = self.axes.transData.inverted().transform((at.x() * ratio, (self.height() - at.y()) * ratio))
        return float(x), float(y)

    def _nearest(self, at: QPointF, pixels: Pixels) -> int | None:
        """Index of the point nearest a position, or None beyond `CLICK_RADIUS`."""
        away = np.hypot(pixels[0] - at.x(), pixels[1] - at.y())
        return int(away.argmin()) if len(away) and away.min() <= CLICK_RADIUS else None

    # --- the mouse --------------------------------------------------------------------------------------------------

    def _threshold_away(self, at: QPointF) -> float:
        """Pixels from a position to the threshold's line."""
        if self.threshold is None:
            return math.inf
        low = float(self.axes.get_xlim()[0]), float(self.axes.get_ylim()[0])
        x, y = self.pixels_of(*((self.threshold, low[1]) if self._along == "x" else (low[0], self.threshold)))
        return float(abs(at.x() - x[0]) if self._along == "x" else abs(at.y() - y[0]))

    def _rows_at(self, at: QPointF) -> NDArray[np.int_]:
        """The rows that a click at a position selects."""
        return np.zeros(0, int)

    def _tooltip_at(self, at: QPointF) -> str:
        """The tooltip at a position."""
        return ""

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Start to drag the threshold, or select the rows under the mouse."""
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        if self._threshold_away(event.position()) <= _GRAB:
            self._dragging = True
            return
        joins = bool(event.modifiers() & (Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.ControlModifier))
        self.chosen.emit(self._rows_at(event.position()), joins)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Drag the threshold, or show the tooltip at the mouse."""
        if event is None:
            return
        if self._dragging:
            x, y = self.values_at(event.position())
            low, high = self.axes.get_xlim() if self._along == "x" else self.axes.get_ylim()
            self.threshold_moved.emit(round(min(max(x if self._along == "x" else y, low), high), 1))
            return
        near = self._threshold_away(event.position()) <= _GRAB
        drag = Qt.CursorShape.SplitHCursor if self._along == "x" else Qt.CursorShape.SplitVCursor
        self.setCursor(drag if near else Qt.CursorShape.ArrowCursor)
        text = "Drag to change the threshold" if near else self._tooltip_at(event.position())
        QToolTip.showText(event.globalPosition().toPoint(), text, self)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Stop dragging the threshold."""
        self._dragging = False


# --- curves ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A curve with its name in the legend; ``pale`` ones are dotted."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    pale: bool = False


@dataclass(frozen=True)
class Mark:
    """A point with its words, which stand above the plot in its colour."""

    words: str
    colour: str
    x: float
    y: float


class Plot(Chart):
    """Curves over a grid, with a legend above and marks; ``show_curves`` shows others.

    ``words`` turns a tick along x into text; ``logarithmic`` is of y.
    """

    def __init__(
        self,
        *,
        x_label: str,
        y_label: str,
        logarithmic: bool = False,
        words: Callable[[float], str] = "{:g}".format,
        height: int = 150,
    ) -> None:
        super().__init__(x_label=x_label, y_label=y_label, height=height, fixed=True)
        self._log, self._words = logarithmic, words
        self.lines: tuple[Line, ...] = ()
        self.marks: tuple[Mark, ...] = ()
        self.levels: tuple[float, ...] = ()
        self._x, self._y = (0.0, 1.0), (0.1 if logarithmic else 0.0, 1.0)

    def show_curves(
        self,
        lines: Sequence[Line],
        *,
        marks: Sequence[Mark] = (),
        levels: Sequence[float] = (),
        x: tuple[float, float] | None = None,
        y: tuple[float, float] | None = None,
    ) -> None:
        """Show these curves, over these ranges or what they fill; ``levels`` are horizontal lines."""
        self.lines, self.marks, self.levels = tuple(lines), tuple(marks), tuple(levels)
        self._x = x or _range([v for line in lines for v in line.x])
        values = [v for line in lines for v in line.y if math.isfinite(v) and (v > 0 or not self._log)]
        self._y = y or (_decades(values) if self._log else (0.0, 1.08 * max(values, default=1.0)))
        self.renew()

    def _draw(self, axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        for line in self.lines:
            style = ":" if line.pale else "-"
            axes.plot(line.x, line.y, linestyle=style, color=line.colour, linewidth=1.6, label=line.name)
        for mark in self.marks:
            axes.plot([mark.x], [mark.y], "o", color=mark.colour, markersize=5, clip_on=False, zorder=5)
        axes.set_xlim(*self._x)
        whole = all(float(value).is_integer() for line in self.lines for value in line.x)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=whole))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: self._words(round(value, 10))))
        number_axis(axes.yaxis, *self._y, log=self._log)
        for level in self.levels:
            axes.axhline(level, color=self.ink, alpha=0.6, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"{level:g}",
                (1, level),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset pixels",
                ha="right",
                fontsize=TEXT,
                color=self.ink,
                alpha=0.8,
            )
        if self.lines:
            axes.legend(
                loc="lower right",
                bbox_to_anchor=(1, 1, 0, 0),
                borderaxespad=0.1,
                ncols=len(self.lines),
                frameon=False,
                fontsize=TEXT,
                labelcolor=self.ink,
                handlelength=1.4,
                columnspacing=1.2,
            )
        self._draw_marks(axes)

    def _draw_marks(self, axes: Axes) -> None:
        """Write the marks' words beside the title of y, each in its colour."""
        at = 4 - LEFT + _CHARACTER * len(self.y_label) + 10
        for mark in self.marks:
            axes.annotate(
                mark.words,
                (0, 1),
                xycoords="axes fraction",
                xytext=(at, 5),
                textcoords="offset pixels",
                annotation_clip=False,
                fontsize=TEXT,
                color=QColor(tone(mark.colour, self)).name(),
            )
            at += _CHARACTER * len(mark.words) + 10


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low, low + 1)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a logarithmic side that move in steps: the curves do not jump with every point."""
    low, high = min(values, default=0.1), max(values, default=1.0)
    return 10 ** (math.floor(3 * math.log10(low)) / 3), 10 ** (math.ceil(3 * math.log10(high) + 1e-6) / 3)
