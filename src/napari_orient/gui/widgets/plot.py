"""A small plot painted by Qt itself, in the colours of the dock: cheap enough to be painted while a job runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_orient.gui.widgets.basic import tone
from napari_orient.gui.widgets.ticks import decade_values, round_values

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 18, 34


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


@dataclass(frozen=True)
class PlotScale:
    """How values become pixels along one side: ``low`` to ``high``, linear or by decades."""

    low: float
    high: float
    log: bool = False

    def part(self, value: float) -> float:
        """The value's place between low (0) and high (1)."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(max(value, 1e-12) / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Round values, about five."""
        return (decade_values if self.log else round_values)(self.low, self.high)


class Plot(QWidget):
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
        super().__init__()
        self.x_label, self.y_label, self._log, self._words = x_label, y_label, logarithmic, words
        self.lines: tuple[Line, ...] = ()
        self.marks: tuple[Mark, ...] = ()
        self.levels: tuple[float, ...] = ()
        self._x, self._y = PlotScale(0, 1), PlotScale(0.1 if logarithmic else 0, 1, logarithmic)
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

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
        self._x = PlotScale(*(x or _range([v for line in lines for v in line.x])))
        values = [v for line in lines for v in line.y if math.isfinite(v) and (v > 0 or not self._log)]
        self._y = PlotScale(
            *(y or (_decades(values) if self._log else (0.0, 1.08 * max(values, default=1.0)))), self._log
        )
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint grid, curves, marks and legend."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() * 0.85))
        painter.setFont(font)
        area = QRectF(LEFT, TOP, self.width() - LEFT - RIGHT, self.height() - TOP - BOTTOM)
        text = self.palette().color(self.foregroundRole())
        self._paint_grid(painter, area, text)
        painter.setClipRect(area.adjusted(-4, -4, 4, 4))
        for line in self.lines:
            self._paint_line(painter, area, line)
        painter.setClipping(False)
        for mark in self.marks:
            self._paint_mark(painter, area, mark)
        self._paint_legend(painter, area, text)

    def _at(self, area: QRectF, x: float, y: float) -> QPointF:
        return QPointF(area.left() + self._x.part(x) * area.width(), area.bottom() - self._y.part(y) * area.height())

    def _paint_grid(self, painter: QPainter, area: QRectF, text: QColor) -> None:
        grid, pale = QColor(text), QColor(text)
        grid.setAlpha(40)
        pale.setAlpha(170)
        for value in self._y.ticks():
            at = self._at(area, self._x.low, value).y()
            painter.setPen(QPen(grid, 1))
            painter.drawLine(QPointF(area.left(), at), QPointF(area.right(), at))
            painter.setPen(pale)
            painter.drawText(QRectF(0, at - 8, LEFT - 5, 16), _RIGHT, f"{value:g}")
        for value in self._x.ticks():
            at = self._at(area, value, self._y.low).x()
            painter.drawText(QRectF(at - 30, area.bottom() + 2, 60, 14), _CENTRE, self._words(value))
        painter.drawText(QRectF(area.left(), area.bottom() + 16, area.width(), 15), _CENTRE, self.x_label)
        painter.drawText(QRectF(4, 0, area.width() / 2, TOP - 2), _LEFT, self.y_label)
        left = 4 + painter.fontMetrics().horizontalAdvance(self.y_label)
        for mark in self.marks:
            painter.setPen(QColor(tone(mark.colour, self)))
            painter.drawText(QRectF(left + 8, 0, area.width(), TOP - 2), _LEFT, mark.words)
            left += 8 + painter.fontMetrics().horizontalAdvance(mark.words)
        painter.setPen(QPen(pale, 1, Qt.PenStyle.DashLine))
        for value in self.levels:
            at = self._at(area, self._x.low, value).y()
            painter.drawLine(QPointF(area.left(), at), QPointF(area.right(), at))
            painter.drawText(QRectF(area.left(), at - 15, area.width() - 2, 14), _RIGHT, f"{value:g}")

    def _paint_line(self, painter: QPainter, area: QRectF, line: Line) -> None:
        style = Qt.PenStyle.DotLine if line.pale else Qt.PenStyle.SolidLine
        painter.setPen(QPen(QColor(line.colour), 1.6, style))
        points = [self._at(area, x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        painter.drawPolyline(QPolygonF(points))

    def _paint_mark(self, painter: QPainter, area: QRectF, mark: Mark) -> None:
        at = self._at(area, mark.x, mark.y)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(mark.colour))
        painter.drawEllipse(at, 3.5, 3.5)

    def _paint_legend(self, painter: QPainter, area: QRectF, text: QColor) -> None:
        right = area.right()
        for line in reversed(self.lines):
            width = painter.fontMetrics().horizontalAdvance(line.name)
            painter.setPen(text)
            painter.drawText(QRectF(right - width, 0, width + 1, TOP - 2), _LEFT, line.name)
            style = Qt.PenStyle.DotLine if line.pale else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(line.colour), 2, style))
            painter.drawLine(QPointF(right - width - 20, TOP / 2 - 1), QPointF(right - width - 5, TOP / 2 - 1))
            right -= width + 30


_MIDDLE = Qt.AlignmentFlag.AlignVCenter
_LEFT, _RIGHT = Qt.AlignmentFlag.AlignLeft | _MIDDLE, Qt.AlignmentFlag.AlignRight | _MIDDLE
_CENTRE = Qt.AlignmentFlag.AlignHCenter | _MIDDLE


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low, low + 1)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a logarithmic side that move in steps: the curves do not jump with every point."""
    low, high = min(values, default=0.1), max(values, default=1.0)
    return 10 ** (math.floor(3 * math.log10(low)) / 3), 10 ** (math.ceil(3 * math.log10(high) + 1e-6) / 3)
