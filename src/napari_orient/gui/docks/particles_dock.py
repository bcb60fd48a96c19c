"""The Particles dock, at the bottom: filter and table, plot, and the patch of the particle selected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSplitter,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
    QWidgetAction,
)
from superqt import QLabeledDoubleRangeSlider

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.failures import Association
from napari_orient.gui.docks.patch_view import PatchView
from napari_orient.gui.docks.viewer_dock import ViewerDock
from napari_orient.gui.event_loop import listen
from napari_orient.gui.layers.canvas import center_on
from napari_orient.gui.layers.particle_values import QUANTITIES
from napari_orient.gui.session.inspected import PROPERTIES, RowFilter, column_of_property, property_name
from napari_orient.gui.widgets.basic import BAD, MUTED, NoteLabel, combo_box, row
from napari_orient.gui.widgets.error_plots import ErrorHistogram, ErrorScatter
from napari_orient.gui.widgets.particle_table import ParticleTable

HISTOGRAM = "histogram of errors"

FEW = 6
"""Characters of a choice in this dock that are shown at least: three columns stand side by side."""
_UNITS = {item.name: item.unit for item in QUANTITIES}

HEIGHT = 236
"""Height in pixels of the dock at first, in a window that is high enough."""

MIN_HEIGHT = 160
"""Least height in pixels of the dock: filter, heads and three rows of the table, and a plot that can be read."""

WINDOW_SHARE = 4
"""The dock takes no more than one in so many parts of the window's height at first: the Orient dock stands above it."""

WIDTHS = (480, 330, 330)
"""Widths in pixels of table, plot and patch at first; a person moves the handles between."""

_UNFOLD = "▾"

RANGES_WIDTH = 360
"""Width in pixels of the ranges' sliders with their labels: fits thousands of Å beside the handles."""

RANGES = {"expected_error": "Expected error", "true_error": "True error", "neighbour": "Nearest"}


class ParticlesDock(ViewerDock):
    """Table, plot and patch of the inspected particles; they and the points in the viewer share one selection."""

    title: ClassVar[str] = "Particles"
    area: ClassVar[str] = "bottom"

    def build(self) -> None:
        """Make the dock's widgets."""
        self.inspected = self.session.inspected
        self.filters, self.table, self.note = ParticleFilter(), ParticleTable(), NoteLabel()
        tip = "What is plotted: the errors, or the errors against a property of the particles"
        self.plot = combo_box(tip, name="Plot")
        self.plot.setMinimumContentsLength(FEW)
        self.histogram, self.scatter, self.charts = ErrorHistogram(), ErrorScatter(), QStackedWidget()
        self.patch = PatchView(self.session)
        self.patch.reference.setMinimumContentsLength(FEW)
        for chart in (self.histogram, self.scatter):
            self.charts.addWidget(chart)
        self.parts = QSplitter(Qt.Orientation.Horizontal)
        self.parts.setChildrenCollapsible(False)
        for widgets in ((self.filters, self.table, self.note), (self.plot, self.charts), (self.patch,)):
            self.parts.addWidget(_column(*widgets))
        self.parts.setSizes(list(WIDTHS))
        self.setMinimumHeight(MIN_HEIGHT)
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 4, 8, 4)
        grid.addWidget(self.parts, 0, 0)
        self._connect()
        self._renew()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """High enough at first for a plot with its labels, where the window is."""
        window = self.main_window
        room = HEIGHT if window is None else window.height() // WINDOW_SHARE
        return QSize(super().sizeHint().width(), max(MIN_HEIGHT, min(HEIGHT, room)))

    def opened(self) -> None:
        """Leave the whole height at the left to napari's own docks: with this one below, they need more than 700."""
        self._give_left_corner(Qt.DockWidgetArea.LeftDockWidgetArea)

    def closed(self) -> None:
        """Give the corner back to the bottom."""
        self._give_left_corner(Qt.DockWidgetArea.BottomDockWidgetArea)

    def _give_left_corner(self, area: Qt.DockWidgetArea) -> None:
        if self.main_window is not None:
            self.main_window.setCorner(Qt.Corner.BottomLeftCorner, area)

    def _connect(self) -> None:
        inspected = self.inspected
        self.table.chosen.connect(self._rows_chosen)
        self.table.activated_row.connect(self._go_to)
        self.filters.changed.connect(self._filter)
        self.plot.currentIndexChanged.connect(self._show_plot)
        for chart in (self.histogram, self.scatter):
            chart.chosen.connect(self._plot_clicked)
            chart.threshold_moved.connect(inspected.set_threshold)
        inspected.renewed.connect(self._renew)
        inspected.filtered.connect(self._show_rows)
        inspected.counted.connect(self._show_threshold)
        inspected.selected.connect(self._show_chosen)
        listen(self, self.session.events.property, self._property_wanted)

    # --- showing ------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Show other particles, or other values of theirs."""
        columns = self.inspected.columns
        self.filters.show_columns(columns, self.inspected.filter)
        self.table.show_columns(columns, self.inspected.shown)
        self.table.sort_worst_first()
        self._offer_plots()
        self._show_threshold()
        self._show_chosen()

    def _offer_plots(self) -> None:
        kept = self.plot.currentData()
        error = self.inspected.error_column
        columns = [name for name in PROPERTIES if name in self.inspected.columns and name != error]
        self.plot.blockSignals(True)
        self.plot.clear()
        self.plot.addItem(HISTOGRAM, "")
        for name in columns:
            self.plot.addItem(f"error against {property_name(name)}", name)
        self.plot.setCurrentIndex(max(0, self.plot.findData(kept)))
        self.plot.blockSignals(False)

    def _show_rows(self) -> None:
        self.table.show_rows(self.inspected.shown, chosen=self.inspected.chosen)
        self._show_plot()
        self._show_note()

    def _show_threshold(self) -> None:
        self.table.particles.threshold = self.inspected.threshold
        self.table.repaint_cells()
        self._show_plot()

    def _show_chosen(self) -> None:
        inspected = self.inspected
        if not np.array_equal(self.table.chosen_rows, inspected.chosen[inspected.shown[inspected.chosen]]):
            self.table.choose(inspected.chosen)
        self._show_plot()
        self._show_note()
        self.patch.show_particle(inspected.layer, inspected.values, inspected.chosen)

    def _show_plot(self, *_: object) -> None:
        inspected, name = self.inspected, str(self.plot.currentData() or "")
        given: dict[str, Any] = {"threshold": inspected.threshold, "chosen": inspected.chosen}
        label = f"{inspected.error_name} (°)"
        if not name:
            self.histogram.show_errors(inspected.bars(), label=label, **given)
            self.charts.setCurrentWidget(self.histogram)
            return
        unit = f" ({_UNITS[name]})" if _UNITS.get(name) else ""
        captions = self._captions(name)
        x_label = f"{property_name(name)}{unit}"
        self.scatter.show_points(inspected.dots(name), x_label=x_label, y_label=label, captions=captions, **given)
        self.charts.setCurrentWidget(self.scatter)

    def _captions(self, name: str) -> list[str]:
        """The rank correlation of the error with a property, in ever fewer words."""
        found: list[Association] = [one for one in self.inspected.associations if one.name == property_name(name)]
        if not found:
            return []
        strength, chance = f"{found[0].strength:+.2f}", not found[0].significant
        long = f"rank correlation {strength}{', no more than chance' * chance}"
        return [long, f"ρ = {strength}{' (chance)' * chance}", f"ρ = {strength}"]

    def _show_note(self) -> None:
        inspected = self.inspected
        if inspected.values is None:
            self.note.say("No particles open yet.", MUTED)
            return
        count = len(inspected)
        shown = (
            f"{count:,} particles" if inspected.shown.all() else f"{int(inspected.shown.sum()):,} of {count:,} shown"
        )
        chosen = f", {len(inspected.chosen):,} selected" if len(inspected.chosen) else ""
        self.note.say(f"{shown}{chosen}", MUTED)

    # --- acts ---------------------------------------------------------------------------------------------------

    def _filter(self) -> None:
        try:
            self.inspected.set_filter(self.filters.wanted())
            self.filters.refuse("")
        except InputError as error:
            self.filters.refuse(f"{str(error)[:1].upper()}{str(error)[1:]}")

    def _rows_chosen(self, rows: Any) -> None:
        self.inspected.choose(rows)

    def _go_to(self, row: int) -> None:
        """Centre the view on a particle that was clicked in the table."""
        center_on(self.session, self.inspected.position(row))

    def _plot_clicked(self, rows: Any, joins: bool) -> None:
        self.inspected.choose(np.union1d(self.inspected.chosen, rows) if joins else rows)

    def _property_wanted(self, event: Any) -> None:
        """Plot the errors against this property."""
        self.plot.setCurrentIndex(max(0, self.plot.findData(column_of_property(event.name))))


def _column(*widgets: QWidget) -> QWidget:
    """Widgets under one another, the one before the last note taking the room."""
    holder = QWidget()
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(4)
    for widget in widgets:
        column.addWidget(widget, 1 if not isinstance(widget, NoteLabel | ParticleFilter | QComboBox) else 0)
    return holder


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
        self.unfold.setText(f"Ranges {_UNFOLD}")
        self.unfold.setToolTip("Filter by ranges of errors and distances")
        self.unfold.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
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
        self.unfold.setMenu(_menu_of(self.ranges, parent=self))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(row(self.expression, self.unfold))
        column.addWidget(self.note)
        self.expression.textChanged.connect(self._emit_changed)

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
        self._count_ranges()

    def wanted(self) -> RowFilter:
        """The filter as it is set; a slider's handle at its end leaves that end open."""
        ranges = {name: _between_handles(slider) for name, slider in self.sliders.items()}
        return RowFilter(self.expression.text(), ranges)

    def refuse(self, reason: str) -> None:
        """Say why the expression is not followed; empty where it is."""
        self.note.say(reason, BAD)

    def _emit_changed(self, *_: object) -> None:
        self._count_ranges()
        self.changed.emit()

    def _count_ranges(self) -> None:
        """Say on the button how many ranges are in force: the sliders are hidden behind it."""
        narrowed = sum(_between_handles(slider) != (None, None) for slider in self.sliders.values())
        self.unfold.setText(f"Ranges ({narrowed}) {_UNFOLD}" if narrowed else f"Ranges {_UNFOLD}")


def _menu_of(contents: QWidget, *, parent: QWidget) -> QMenu:
    """A menu that shows these widgets: they take no height of the dock's."""
    menu = QMenu(parent)
    action = QWidgetAction(menu)
    contents.setContentsMargins(8, 8, 8, 8)
    contents.setMinimumWidth(RANGES_WIDTH)
    action.setDefaultWidget(contents)
    menu.addAction(action)
    return menu


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
