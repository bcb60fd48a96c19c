"""Plots of errors that can be clicked: a histogram beside chance, and error against neighbour distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_orient.engine.particles import FloatArray
from napari_orient.gui.colours import named
from napari_orient.gui.layer_rows import Rows
from napari_orient.gui.widgets import ACCENT, BAD
from napari_orient.gui.widgets.ticks import round_values, square_values

LEFT = 40
"""Pixels left of the plot's area, for the values of the y axis."""

RIGHT = 12
"""Pixels right of the area, for half of the last value of the x axis."""

TOP = 20
"""Pixels above the area, for the caption."""

BOTTOM = 34
"""Pixels below the area, for the values and label of the x axis."""

BINS = 72
"""Bins of the histogram: of 2.5° over 180°."""

CHOSEN = "#ffc53d"

MIN_HEIGHT = 170
"""Height in pixels of a plot, at least."""

_GRAB = 6
"""Pixels from the threshold's line within which the mouse drags it."""

_CLICK_RADIUS = 24
"""Pixels from a point of the scatter plot within which a click selects it."""

_SMALLEST_SCALE = 4.0
"""Particles at the top of the histogram's axis, at least, so that single particles do not fill it."""

_HEADROOM = 1.1
"""Upper end of an axis over its largest value."""

_LONE_RANGE = 1000.0
"""Å along the distance axis if no particle has a neighbour."""

_MIDDLE = Qt.AlignmentFlag.AlignVCenter
_CENTRE = Qt.AlignmentFlag.AlignHCenter | _MIDDLE


class Chart(QWidget):
    """A plot with axes from 0, x linear and y as square root, so that small counts are visible beside large ones."""

    chosen = Signal(object, bool)
    """Rows that the user selected, and whether they extend the selection."""

    threshold_moved = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.x_label = self.y_label = ""
        self.x_high = self.y_high = 1.0
        self.threshold = 20.0
        self.caption = ""
        self._dragging = False
        self.setMinimumHeight(MIN_HEIGHT)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @property
    def area(self) -> QRectF:
        """The rectangle of the values, in pixels."""
        return QRectF(LEFT, TOP, max(self.width() - LEFT - RIGHT, 1), max(self.height() - TOP - BOTTOM, 1))

    def x_at(self, value: FloatArray | float) -> NDArray[np.float64]:
        """Horizontal pixel positions of values."""
        share = np.clip(np.asarray(value, float) / self.x_high, 0, 1)
        return np.asarray(self.area.left() + share * self.area.width())

    def y_at(self, value: FloatArray | float) -> NDArray[np.float64]:
        """Vertical pixel positions of values."""
        share = np.sqrt(np.clip(np.asarray(value, float) / self.y_high, 0, 1))
        return np.asarray(self.area.bottom() - share * self.area.height())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the axes, then the values."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() * 0.85))
        painter.setFont(font)
        self._paint_axes(painter)
        self._paint_values(painter)
        painter.end()

    def _ink(self, alpha: int = 255) -> QColor:
        ink = QColor(self.palette().color(self.foregroundRole()))
        ink.setAlpha(alpha)
        return ink

    def _paint_axes(self, painter: QPainter) -> None:
        area = self.area
        for value in square_values(self.y_high):
            at = float(self.y_at(value))
            painter.setPen(QPen(self._ink(40), 1))
            painter.drawLine(QPointF(area.left(), at), QPointF(area.right(), at))
            painter.setPen(self._ink(170))
            painter.drawText(QRectF(0, at - 8, LEFT - 6, 16), Qt.AlignmentFlag.AlignRight | _MIDDLE, f"{value:g}")
        for value in round_values(0, self.x_high, about=6):
            at = float(self.x_at(value))
            painter.drawText(QRectF(at - 30, area.bottom() + 2, 60, 14), _CENTRE, f"{value:g}")
        painter.drawText(QRectF(area.left(), area.bottom() + 17, area.width(), 15), _CENTRE, self.x_label)
        painter.drawText(QRectF(4, 0, self.width(), TOP - 3), Qt.AlignmentFlag.AlignLeft | _MIDDLE, self.y_label)
        painter.setPen(self._ink())
        place = QRectF(0, 0, area.right(), TOP - 3)
        painter.drawText(place, Qt.AlignmentFlag.AlignRight | _MIDDLE, self.caption)

    def _paint_values(self, painter: QPainter) -> None:
        """Paint the values, within the area."""

    # --- the mouse ------------------------------------------------------------------------------------------------

    def _threshold_away(self, at: QPointF) -> float:
        """Pixels from a position to the threshold's line."""
        return abs(at.x() - float(self.x_at(self.threshold)))

    def _threshold_at(self, at: QPointF) -> float:
        """The threshold at a position."""
        return float(np.clip((at.x() - self.area.left()) / self.area.width(), 0, 1) * self.x_high)

    def _rows_at(self, at: QPointF) -> Rows:
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
            self.threshold_moved.emit(round(self._threshold_at(event.position()), 1))
            return
        near = self._threshold_away(event.position()) <= _GRAB
        self.setCursor(self._drag_cursor() if near else Qt.CursorShape.ArrowCursor)
        text = "Drag to change the threshold" if near else self._tooltip_at(event.position())
        QToolTip.showText(event.globalPosition().toPoint(), text, self)

    def _drag_cursor(self) -> Qt.CursorShape:
        return Qt.CursorShape.SplitHCursor

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Stop dragging the threshold."""
        self._dragging = False


class ErrorHistogram(Chart):
    """Histogram of errors: selected particles in yellow, chance as a line; a click on a bar selects its particles."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: FloatArray = np.zeros(0)
        self.edges: FloatArray = np.linspace(0, 180, BINS + 1)
        self.counts: Rows = np.zeros(BINS, int)
        self.chance: FloatArray | None = None
        self._shown: NDArray[np.bool_] = np.zeros(0, bool)
        self._chosen_counts: Rows = np.zeros(BINS, int)
        self.y_label = "particles"

    def show_errors(
        self, errors: FloatArray, shown: NDArray[np.bool_], *, label: str, high: float, chance: FloatArray | None
    ) -> None:
        """Show the errors (N,) of the rows in the mask, in bins from 0 to ``high`` degrees.

        ``chance`` are the shares of random rotations in the bins, or None to leave them out.
        """
        self.errors, self._shown, self.x_label, self.x_high = errors, shown, label, high
        self.edges, self.chance = np.linspace(0, high, BINS + 1), chance
        self.counts = self._counts(shown)
        self.y_high = max(float(self.counts.max(initial=0)), _SMALLEST_SCALE) * _HEADROOM
        self.show_chosen(np.zeros(0, int))

    def show_chosen(self, rows: Rows) -> None:
        """Highlight these rows."""
        chosen = np.zeros(len(self.errors), bool)
        chosen[rows] = True
        self._chosen_counts = self._counts(chosen & self._shown)
        self.update()

    def _counts(self, mask: NDArray[np.bool_]) -> Rows:
        return np.asarray(np.bincount(self._bins()[mask & np.isfinite(self.errors)], minlength=BINS), int)

    def _bins(self) -> Rows:
        """The bin of every particle, (N,); larger errors are in the last."""
        share = np.nan_to_num(self.errors / self.x_high)
        bins: Rows = np.clip(np.floor(share * BINS), 0, BINS - 1).astype(int)
        return bins

    def _paint_values(self, painter: QPainter) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        for number in np.flatnonzero(self.counts):
            right = self.edges[number + 1] <= self.threshold + 1e-9
            self._paint_bar(painter, int(number), int(self.counts[number]), QColor(ACCENT if right else BAD))
            self._paint_bar(painter, int(number), int(self._chosen_counts[number]), QColor(CHOSEN))
        if self.chance is not None:
            middles = (self.edges[:-1] + self.edges[1:]) / 2
            expected = self.chance * self.counts.sum()
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self._ink(150), 1.4, Qt.PenStyle.DotLine))
            painter.drawPolyline(_polygon(self.x_at(middles), self.y_at(expected)))
            self._paint_chance_label(painter, expected)
        _paint_line(painter, self, QPointF(float(self.x_at(self.threshold)), 0))

    def _paint_chance_label(self, painter: QPainter, expected: FloatArray) -> None:
        top = int(np.argmax(expected))
        at = QPointF(float(self.x_at(self.edges[top])), float(self.y_at(expected[top])))
        painter.setPen(self._ink(170))
        painter.drawText(QRectF(at.x() - 60, at.y() - 17, 120, 14), _CENTRE, "chance")

    def _paint_bar(self, painter: QPainter, number: int, count: int, colour: QColor) -> None:
        left, right = (float(at) for at in self.x_at(self.edges[number : number + 2]))
        # A single particle among thousands must be visible and clickable.
        top = min(float(self.y_at(float(count))), self.area.bottom() - 4) if count else self.area.bottom()
        painter.setBrush(colour)
        painter.drawRect(QRectF(left + 0.5, top, max(right - left - 1, 1), self.area.bottom() - top))

    def _bin_at(self, at: QPointF) -> int:
        share = (at.x() - self.area.left()) / self.area.width()
        return int(np.floor(share * BINS)) if 0 <= share < 1 else -1

    def _rows_at(self, at: QPointF) -> Rows:
        return np.flatnonzero((self._bins() == self._bin_at(at)) & self._shown & np.isfinite(self.errors))

    def _tooltip_at(self, at: QPointF) -> str:
        number = self._bin_at(at)
        if number < 0 or not self.counts[number]:
            return ""
        low, high = self.edges[number], self.edges[number + 1]
        return f"{low:.3g}° to {high:.3g}°: {self.counts[number]} particles. Click to select them"


class NeighbourScatter(Chart):
    """Error against the distance to the nearest neighbour, coloured by cluster; a click selects a point."""

    def __init__(self) -> None:
        super().__init__()
        self.x_label = "distance to the nearest neighbour (Å)"
        self.errors: FloatArray = np.zeros(0)
        self.distances: FloatArray = np.zeros(0)
        self.clusters: Rows = np.zeros(0, int)
        self._shown: NDArray[np.bool_] = np.zeros(0, bool)
        self._chosen_rows: Rows = np.zeros(0, int)

    def show_points(
        self, errors: FloatArray, distances: FloatArray, clusters: Rows, shown: NDArray[np.bool_], *, label: str
    ) -> None:
        """Show the particles (N,) in the mask; those without a neighbour are at the right edge."""
        self.errors, self.distances, self.clusters, self.y_label = errors, distances, clusters, label
        self._shown = shown & np.isfinite(errors)
        near = distances[np.isfinite(distances)]
        self.x_high = float(np.percentile(near, 98)) * _HEADROOM if len(near) else _LONE_RANGE
        self.y_high = max(float(errors[self._shown].max(initial=0)), 1.5 * self.threshold)
        self.show_chosen(np.zeros(0, int))

    def show_chosen(self, rows: Rows) -> None:
        """Highlight these rows."""
        self._chosen_rows = rows[self._shown[rows]] if len(rows) else rows
        self.update()

    def _pixels(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.x_at(np.nan_to_num(self.distances[rows], posinf=self.x_high)), self.y_at(self.errors[rows])

    def _paint_values(self, painter: QPainter) -> None:
        rows = np.flatnonzero(self._shown)
        x, y = self._pixels(rows)
        colours = named(self.clusters[rows])
        for colour in np.unique(colours, axis=0):
            red, green, blue = colour.tolist()
            ink = QColor.fromRgbF(red, green, blue, 0.85)
            painter.setPen(QPen(ink, 4, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            own = (colours == colour).all(axis=1)
            painter.drawPoints(_polygon(x[own], y[own]))
        painter.setPen(QPen(QColor(CHOSEN), 7, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.drawPoints(_polygon(*self._pixels(self._chosen_rows)))
        _paint_line(painter, self, QPointF(0, float(self.y_at(self.threshold))))

    def _threshold_away(self, at: QPointF) -> float:
        return abs(at.y() - float(self.y_at(self.threshold)))

    def _threshold_at(self, at: QPointF) -> float:
        share = float(np.clip((self.area.bottom() - at.y()) / self.area.height(), 0, 1))
        return share**2 * self.y_high

    def _drag_cursor(self) -> Qt.CursorShape:
        return Qt.CursorShape.SplitVCursor

    def _rows_at(self, at: QPointF) -> Rows:
        rows = np.flatnonzero(self._shown)
        x, y = self._pixels(rows)
        away = np.hypot(x - at.x(), y - at.y())
        return rows[[int(away.argmin())]] if len(rows) and away.min() <= _CLICK_RADIUS else np.zeros(0, int)

    def _tooltip_at(self, at: QPointF) -> str:
        rows = self._rows_at(at)
        if not len(rows):
            return ""
        row = int(rows[0])
        cluster = f"cluster {self.clusters[row]}" if self.clusters[row] else "in no cluster"
        return f"{self.errors[row]:.1f}°, nearest {self.distances[row]:.0f} Å, {cluster}"


def _paint_line(painter: QPainter, chart: Chart, at: QPointF) -> None:
    """Paint the threshold and its value: a vertical line at ``at``, or a horizontal one if its x is 0."""
    area, ink = chart.area, chart.palette().color(chart.foregroundRole())
    painter.setPen(QPen(ink, 1.2, Qt.PenStyle.DashLine))
    text = f"{chart.threshold:g}°"
    if at.x():
        painter.drawLine(QPointF(at.x(), area.top()), QPointF(at.x(), area.bottom()))
        painter.drawText(QRectF(at.x() + 4, area.top(), 60, 14), Qt.AlignmentFlag.AlignLeft | _MIDDLE, text)
    else:
        painter.drawLine(QPointF(area.left(), at.y()), QPointF(area.right(), at.y()))
        place = QRectF(area.right() - 64, at.y() - 15, 60, 14)
        painter.drawText(place, Qt.AlignmentFlag.AlignRight | _MIDDLE, text)


def _polygon(x: NDArray[np.float64], y: NDArray[np.float64]) -> QPolygonF:
    return QPolygonF([QPointF(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])
