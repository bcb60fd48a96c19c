"""Legend of the arrows' colours: names beside colours, or a colormap with values."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_orient.gui.colours import Colour, Legend, graded

_BAR = 14
"""Pixels: height of the colormap's bar and width of a colour's swatch."""

_GAP = 6
"""Pixels between elements."""

_TICKS = 5
"""Values below the colormap's bar."""

_WIDTH = 300
"""Width in pixels that the legend asks for, that of a usual dock."""


class LegendView(QWidget):
    """The legend of the arrows' colours; its height follows its content."""

    def __init__(self) -> None:
        super().__init__()
        self.legend = Legend("role")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_legend(self, legend: Legend) -> None:
        """Show this legend."""
        self.legend = legend
        self.setToolTip(f"The arrows' colours show: {legend.title}")
        self.setFixedHeight(self.heightForWidth(self.width() or self.sizeHint().width()))
        self.update()

    def texts(self) -> list[str]:
        """The texts of the legend, from left to right and downwards."""
        if self.legend.colormap:
            return [self.legend.title, *(text for _, text in self._ticks())]
        return [self.legend.title, *(name for name, _ in self.legend.entries)]

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """The preferred size."""
        return QSize(_WIDTH, self.heightForWidth(_WIDTH))

    def heightForWidth(self, width: int) -> int:  # noqa: N802 - Qt's name
        """Height in pixels: the title, and the bar or the lines of names."""
        line = self.fontMetrics().height() + _GAP
        if self.legend.colormap:
            return 2 * line + _BAR + _GAP
        return line * (1 + len(self._lines(width)))

    def resizeEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """Set the height that this width needs."""
        self.setFixedHeight(self.heightForWidth(self.width()))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the title and the colours."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(self.foregroundRole())
        painter.setPen(ink)
        line = self.fontMetrics().height()
        painter.drawText(QRectF(0, 0, self.width(), line), Qt.AlignmentFlag.AlignLeft, self._title())
        if self.legend.colormap:
            self._paint_bar(painter, QRectF(0, line + _GAP, self.width(), _BAR), ink)
        else:
            self._paint_names(painter, line + _GAP, ink)
        painter.end()

    def _title(self) -> str:
        unit = f" ({self.legend.unit})" if self.legend.unit else ""
        return f"Colour: {self.legend.title}{unit}"

    def _ticks(self) -> list[tuple[float, str]]:
        scale = self.legend.scale
        return [
            (share, f"{scale.low + share * (scale.high - scale.low):.3g}{self.legend.unit}")
            for share in np.linspace(0, 1, _TICKS).tolist()
        ]

    def _paint_bar(self, painter: QPainter, bar: QRectF, ink: QColor) -> None:
        scale = self.legend.scale
        ramp = graded(np.linspace(scale.low, scale.high, 256), self.legend.colormap, scale)
        pixels = np.ascontiguousarray(np.rint(ramp * 255).astype(np.uint8)[None])
        painter.drawImage(bar, QImage(pixels.tobytes(), 256, 1, 768, QImage.Format.Format_RGB888))
        metrics = self.fontMetrics()
        top = bar.bottom() + _GAP / 2
        for share, text in self._ticks():
            wide = metrics.horizontalAdvance(text)
            place = bar.left() + share * bar.width()
            left = min(max(place - wide / 2, bar.left()), bar.right() - wide)
            painter.setPen(QPen(ink, 1))
            painter.drawLine(QPointF(place, bar.bottom()), QPointF(place, bar.bottom() + 3))
            painter.drawText(QRectF(left, top, wide + 2, metrics.height()), Qt.AlignmentFlag.AlignLeft, text)

    def _lines(self, width: int) -> list[list[tuple[str, Colour]]]:
        """The names, broken into lines of at most this width."""
        lines: list[list[tuple[str, Colour]]] = [[]]
        used = 0
        for name, colour in self.legend.entries:
            wide = self._width_of(name)
            if lines[-1] and used + wide > width:
                lines.append([])
                used = 0
            lines[-1].append((name, colour))
            used += wide
        return lines

    def _width_of(self, name: str) -> int:
        return _BAR + _GAP + self.fontMetrics().horizontalAdvance(name) + 3 * _GAP

    def _paint_names(self, painter: QPainter, top: float, ink: QColor) -> None:
        height = self.fontMetrics().height()
        for number, line in enumerate(self._lines(self.width())):
            left, y = 0.0, top + number * (height + _GAP)
            for name, colour in line:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(QColor.fromRgbF(*colour))
                painter.drawRoundedRect(QRectF(left, y + (height - 10) / 2, _BAR, 10), 2, 2)
                painter.setPen(ink)
                place = QRectF(left + _BAR + _GAP, y, self.width(), height)
                painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
                left += self._width_of(name)
