"""Widgets of the filter of particles: ranges of errors and distances, and an expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QLineEdit, QToolButton, QVBoxLayout, QWidget
from superqt import QLabeledDoubleRangeSlider

from napari_orient.gui.inspected import RowFilter
from napari_orient.gui.particle_values import QUANTITIES
from napari_orient.gui.widgets import BAD, NoteLabel, row

RANGES = {"expected_error": "Expected error", "true_error": "True error", "neighbour": "Nearest"}
_UNITS = {item.name: item.unit for item in QUANTITIES}


class ParticleFilter(QWidget):
    """A field for an expression and sliders that unfold; ``changed`` is emitted when the filter changes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.expression = QLineEdit()
        self.expression.setPlaceholderText("filter, such as expected_error > 15 and neighbour < 300")
        self.expression.setClearButtonEnabled(True)
        self.expression.setAccessibleName("Filter")
        self.unfold = QToolButton()
        self.unfold.setText("Ranges")
        self.unfold.setToolTip("Filter by ranges of errors and distances")
        self.unfold.setCheckable(True)
        self.unfold.setArrowType(Qt.ArrowType.RightArrow)
        self.unfold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.note = NoteLabel()
        self.sliders = {name: _range_slider(name) for name in RANGES}
        self._labels = {name: QLabel(f"{title} ({_UNITS[name]})") for name, title in RANGES.items()}
        self.ranges = QWidget()
        rows = QFormLayout(self.ranges)
        rows.setContentsMargins(0, 0, 0, 0)
        for name, slider in self.sliders.items():
            slider.setAccessibleName(self._labels[name].text())
            rows.addRow(self._labels[name], slider)
            slider.valueChanged.connect(self._emit_changed)
        self.ranges.setVisible(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(row(self.expression, self.unfold))
        column.addWidget(self.note)
        column.addWidget(self.ranges)
        self.expression.textChanged.connect(self._emit_changed)
        self.unfold.toggled.connect(self._unfolded)

    def show_columns(self, columns: Mapping[str, NDArray[Any]], given: RowFilter) -> None:
        """Set the sliders' ranges to these columns' values, and show the filter in force."""
        names = ", ".join(columns)
        self.expression.setToolTip(f"Columns: {names}. Comparisons, and, or, not, in (…), + - * /")
        if self.expression.text() != given.expression:
            self.expression.blockSignals(True)
            self.expression.setText(given.expression)
            self.expression.blockSignals(False)
        for name, slider in self.sliders.items():
            values = columns.get(name)
            finite = np.zeros(0) if values is None else values[np.isfinite(values)]
            for widget in (slider, self._labels[name]):
                widget.setVisible(len(finite) > 0)
            _set_range(slider, int(np.ceil(finite.max(initial=0))) or 1, given.ranges.get(name, (None, None)))

    def wanted(self) -> RowFilter:
        """The filter as it is set; a slider's handle at its end leaves that end open."""
        ranges = {name: _between_handles(slider) for name, slider in self.sliders.items()}
        return RowFilter(self.expression.text(), ranges)

    def refuse(self, reason: str) -> None:
        """Say why the expression is not followed; empty where it is."""
        self.note.say(reason, BAD)

    def _unfolded(self, open_: bool) -> None:
        self.unfold.setArrowType(Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow)
        self.ranges.setVisible(open_)

    def _emit_changed(self, *_: object) -> None:
        self.changed.emit()


def _range_slider(name: str) -> QLabeledDoubleRangeSlider:
    slider = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
    slider.setDecimals(0)
    slider.setRange(0, 1)
    slider.setValue((0, 1))
    quantity = f"{name} ({_UNITS[name]})"
    slider.setToolTip(f"Show particles within this range of {quantity}; the whole range includes those without a value")
    return slider


def _set_range(slider: QLabeledDoubleRangeSlider, top: int, given: tuple[float | None, float | None]) -> None:
    """Set a slider's range to 0 to ``top``, and its handles; an open end is at the end."""
    low, high = given
    slider.blockSignals(True)
    slider.setRange(0, top)
    slider.setValue((min(low or 0.0, top), top if high is None else min(high, top)))
    slider.blockSignals(False)


def _between_handles(slider: QLabeledDoubleRangeSlider) -> tuple[float | None, float | None]:
    """Low and high end of the range between the handles; None where a handle is at its end."""
    low, high = slider.value()
    return (low if low > slider.minimum() else None), (high if high < slider.maximum() else None)
