"""The Inspect dock: errors, neighbours and patches of particles; table, plots and points share one selection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import napari.viewer
import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.notifications import show_error
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QLabel, QPushButton, QShortcut, QSplitter, QTabWidget, QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import chance_shares
from napari_orient.engine.inspection.quantities import InspectionOptions, symmetries_by_class
from napari_orient.engine.options import Parameter
from napari_orient.engine.particles import FloatArray
from napari_orient.gui import layers
from napari_orient.gui.camera import center_on
from napari_orient.gui.error_plots import ErrorHistogram, NeighbourScatter
from napari_orient.gui.error_summary import cluster_text, error_text, errors_of, expected_by_chance
from napari_orient.gui.forms import show_value, value_of, widget_of
from napari_orient.gui.layer_rows import Rows
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.particle_filter import ParticleFilter
from napari_orient.gui.particle_table import ParticleTable, ranking
from napari_orient.gui.particle_values import ParticleValues
from napari_orient.gui.patch_view import PatchView
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import (
    BAD,
    MUTED,
    Deferred,
    LayerChoice,
    NoteLabel,
    Panel,
    labelled,
    listen,
    primary_button,
    row,
)

NEXT, PREVIOUS = "N", "Shift+N"
"""Keys that go to the particle with the next largest error, and back."""

_NO_ROWS: Rows = np.zeros(0, int)


class InspectPage(Panel):
    """Shows the particles of a layer as a table and plots, and moves the camera to the worst ones."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.values: ParticleValues | None = None
        self.shown: NDArray[np.bool_] = np.zeros(0, bool)
        self.chosen: Rows = _NO_ROWS
        self._watched: Points | None = None
        self._refreshing = Deferred(self.refresh, parent=self)
        self._linking = False
        self._build(self.session.viewer)
        self._connect(self.session.viewer)
        self._layer_chosen()

    # --- widgets ------------------------------------------------------------------------------------------------

    def _build(self, viewer: ViewerModel) -> None:
        parameters = {item.name: item for item in InspectionOptions.parameters()}
        self.parameters = {name: parameters[name] for name in ("symmetry", "threshold", "cluster_distance")}
        self.settings = {name: widget_of(item) for name, item in self.parameters.items()}
        self.settings["symmetry"].native.setPlaceholderText("by class")
        self.particles = LayerChoice(viewer, self._offered, empty="none open")
        self.note, self.clusters_note = NoteLabel(), NoteLabel()
        self.histogram, self.scatter = ErrorHistogram(), NeighbourScatter()
        self.filters, self.table = ParticleFilter(), ParticleTable()
        self.tabs = QTabWidget()
        self.tabs.addTab(self._page("threshold", "symmetry", below=self.histogram), "Errors")
        self.tabs.addTab(self._page("cluster_distance", below=self.scatter), "Neighbours")
        self.patch = PatchView(self.session)
        self.tabs.addTab(self.patch, "Particle")
        self.tabs.setMinimumHeight(290)
        self.parts = QSplitter(Qt.Orientation.Vertical)
        self.parts.setChildrenCollapsible(False)
        self.previous = QPushButton("Previous")
        self.previous.setToolTip(f"Go to the previous particle ({PREVIOUS})")
        self.next = primary_button(f"Next worst ({NEXT})", f"Go to the particle with the next largest error ({NEXT})")
        self.add(labelled({"Particles": self.particles}), self.note)
        below = QWidget()
        column = QVBoxLayout(below)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.filters)
        column.addWidget(self.table, 1)
        self.parts.addWidget(self.tabs)
        self.parts.addWidget(below)
        self.parts.setSizes([430, 260])
        self.column.addWidget(self.parts, 1)
        self.add(row(self.next, self.previous))

    def _page(self, *names: str, below: QWidget) -> QWidget:
        """A page of the tabs: settings in a row, the plot that they affect below."""
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(6, 6, 6, 4)
        fields: list[QWidget] = []
        for name in names:
            label = QLabel(_SETTINGS[name])
            label.setToolTip(self.settings[name].tooltip)
            self.settings[name].native.setAccessibleName(_SETTINGS[name])
            fields += [label, self.settings[name].native]
        if len(names) == 1:
            fields.append(self.clusters_note)
        column.addWidget(row(*fields, stretch=len(fields) - 1))
        column.addWidget(below, 1)
        return page

    def _connect(self, viewer: ViewerModel) -> None:
        self.particles.chosen.connect(self._layer_chosen)
        self.table.chosen.connect(self._rows_chosen)
        self.filters.changed.connect(self._filter)
        self.next.clicked.connect(lambda: self.go_to_worst(1))
        self.previous.clicked.connect(lambda: self.go_to_worst(-1))
        for key, step in ((NEXT, 1), (PREVIOUS, -1)):
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(self.next.click if step > 0 else self.previous.click)
        for plot in (self.histogram, self.scatter):
            plot.chosen.connect(self._plot_clicked)
            plot.threshold_moved.connect(self._set_threshold)
        self.settings["threshold"].changed.connect(self._threshold_changed)
        for name in ("symmetry", "cluster_distance"):
            self.settings[name].changed.connect(self._apply_settings)
        listen(self, self.session.events.inspection, self._options_changed)
        self._show_settings()
        for name in ("inserted", "removed"):
            listen(self, getattr(viewer.layers.events, name), self._truth_changed)

    def _offered(self) -> list[Points]:
        """Layers of particles, predicted ones before picks; true poses only if there are no others."""
        order = (PREDICTED, PICKS, "")
        others = [layer for layer in self.session.index.particles() if layers.role(layer) != TRUTH]
        others.sort(key=lambda layer: order.index(layers.role(layer)))
        return others or self.session.index.particles(TRUTH)

    # --- input --------------------------------------------------------------------------------------------------

    @property
    def layer(self) -> Points | None:
        """The chosen layer, or None."""
        layer = self.particles.layer
        return layer if isinstance(layer, Points) else None

    def _layer_chosen(self, *_: object) -> None:
        layer = self.layer
        if layer is not None and layer is not self._watched:
            listen(self, layer.events.data, self._layer_changed)
            listen(self, layer.events.features, self._layer_changed)
            listen(self, layer.selected_data.events.items_changed, self._points_chosen)
        self._watched = layer
        self.refresh()

    def _layer_changed(self, event: Any = None) -> None:
        action = str(getattr(event, "action", "changed")).rsplit(".", maxsplit=1)[-1].lower()
        if event.source is self.layer and action in ("changed", "added", "removed"):
            self._refreshing.ask()

    def _truth_changed(self, event: Any = None) -> None:
        if layers.role(event.value) == TRUTH:
            self.refresh()

    def _apply_settings(self, *_: object) -> None:
        try:
            values = {name: value_of(item, self.settings[name]) for name, item in self.parameters.items()}
            symmetries_by_class(str(values["symmetry"] or ""))
            self.session.inspection.set_options(
                InspectionOptions.from_record({**self.session.inspection.options.to_record(), **values})
            )
        except InputError as error:
            self.note.say(f"{str(error)[:1].upper()}{str(error)[1:]}", BAD)

    def _options_changed(self, event: Any = None) -> None:
        """Show the session's inspection options, and evaluate the particles by them."""
        self._show_settings()
        self.refresh()

    def _show_settings(self) -> None:
        record = self.session.inspection.options.to_record()
        for name, item in self.parameters.items():
            with self.settings[name].changed.blocked():
                if _value_or_none(item, self.settings[name]) != record[name]:
                    show_value(item, self.settings[name], record[name])

    def _set_threshold(self, threshold: float) -> None:
        self.settings["threshold"].value = threshold

    def _threshold_changed(self, *_: object) -> None:
        threshold = float(self.settings["threshold"].value)
        # The threshold changes colours and counts, no error: nothing is evaluated again.
        self.session.inspection.options = replace(self.session.inspection.options, threshold=threshold)
        self._show_threshold()
        self._show_summary()

    # --- showing --------------------------------------------------------------------------------------------------

    def refresh(self, event: Any = None) -> None:
        """Show the layer's particles and its selection."""
        try:
            self.values = None if self.layer is None else self.session.inspection.particle_values(self.layer)
        except InputError as error:
            self.values = None
            show_error(str(error))
        for button in (self.next, self.previous):
            button.setEnabled(self.values is not None and len(self.values) > 0)
        self.filters.show_columns(self._columns)
        self.shown = self.filters.rows_shown(self._columns, count=self._count)
        self.table.show_columns(self._columns, self.shown)
        self._show_threshold()
        self._show_plots()
        self._points_chosen()

    @property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {} if self.values is None else dict(self.values.columns)

    @property
    def _count(self) -> int:
        return 0 if self.values is None else len(self.values)

    @property
    def errors(self) -> tuple[FloatArray, str]:
        """The error of every particle, (N,) degrees, and its name: true error if available, else expected error."""
        return errors_of(self.values)

    def _filter(self) -> None:
        self._refreshing.settle()
        self.shown = self.filters.rows_shown(self._columns, count=self._count)
        self.table.show_rows(self.shown, chosen=self.chosen)
        self._show_plots()
        self._show_chosen(table=False)
        self._show_summary()

    def _show_plots(self) -> None:
        errors, words = self.errors
        true = words == "true error"
        high = 180.0 if true else _round_up(float(np.nanmax(errors, initial=self.threshold * 1.5)))
        edges = np.linspace(0, high, len(self.histogram.edges))
        expected = expected_by_chance(self.values, lambda group: chance_shares(edges, group)) if true else None
        self.histogram.show_errors(errors, self.shown, label=f"{words} (°)", high=high, chance=expected)
        columns, zeros = self._columns, np.zeros(self._count)
        self.scatter.show_points(
            errors,
            columns.get("neighbour", zeros),
            columns.get("cluster", zeros.astype(int)),
            self.shown,
            label=f"{words} (°)",
        )
        self.clusters_note.say(cluster_text(self.values))

    @property
    def threshold(self) -> float:
        """Degrees up to which a pose counts as right."""
        return self.session.inspection.options.threshold

    def _show_threshold(self) -> None:
        for view in (self.histogram, self.scatter, self.table.particles):
            view.threshold = self.threshold
            if isinstance(view, QWidget):
                view.update()
        self.table.repaint_cells()

    def _show_summary(self) -> None:
        if self.values is None:
            self.note.say("No particles open yet: use the Load dock.", MUTED)
            return
        errors, words = self.errors
        shown = (
            f"{int(self.shown.sum())} of {self._count} shown" if not self.shown.all() else f"{self._count} particles"
        )
        chosen = f", {len(self.chosen)} selected" if len(self.chosen) else ""
        finite = errors[self.shown & np.isfinite(errors)]
        lines = [f"{shown}{chosen}", *error_text(finite, words, self.values, threshold=self.threshold)]
        left_out = len(self.layer.data) - self._count if self.layer is not None else 0
        if left_out:
            lines.append(f"{left_out} without a pose left out: predict them first.")
        self.note.say("\n".join(lines), MUTED)

    # --- selection -----------------------------------------------------------------------------------------------

    def _points_chosen(self, event: Any = None) -> None:
        """Follow the selection of the layer's points."""
        if self._linking:
            return
        if self.layer is None or self.values is None:
            self.chosen = _NO_ROWS
            self._show_chosen(table=False)
            self._show_summary()
            return
        selected = np.array(sorted(self.layer.selected_data), int)
        self.chosen = np.flatnonzero(np.isin(self.values.rows, selected))
        self._show_chosen(table=True)
        self._show_summary()

    def _rows_chosen(self, rows: Rows) -> None:
        self.choose(rows, table=False)

    def _plot_clicked(self, rows: Rows, joins: bool) -> None:
        self.choose(np.union1d(self.chosen, rows) if joins else rows)

    def choose(self, rows: Rows, *, table: bool = True) -> None:
        """Select these particles in the table, in the plots, and as points of the layer."""
        self._refreshing.settle()
        if self.layer is None or self.values is None:
            return
        self.chosen = rows
        self._linking = True
        self.layer.selected_data = set(self.values.rows[rows].tolist())
        self._linking = False
        self._show_chosen(table=table)
        self._show_summary()

    def _show_chosen(self, *, table: bool) -> None:
        if table:
            self.table.choose(self.chosen)
        for plot in (self.histogram, self.scatter):
            plot.show_chosen(self.chosen)
        self.patch.show_particle(self.layer, self.values, self.chosen)

    # --- worst particles ------------------------------------------------------------------------------------------

    def go_to_worst(self, step: int) -> None:
        """Select the shown particle with the next largest error, or with -1 the previous one, and centre the camera."""
        self._refreshing.settle()
        errors, _ = self.errors
        candidates = np.flatnonzero(self.shown & np.isfinite(errors))
        if not len(candidates) or self.values is None:
            show_error("no particle shown has an error. Predict them first, or change the filter.")
            return
        worst = candidates[ranking(errors[candidates], descending=True)]
        place = np.flatnonzero(worst == self.chosen[0]) if len(self.chosen) == 1 else _NO_ROWS
        start = int(place[0]) + step if len(place) else (0 if step > 0 else len(worst) - 1)
        particle = int(worst[start % len(worst)])
        self.choose(np.array([particle]))
        center_on(self.session, self.values.particles.positions[particle])
        self.tabs.setCurrentWidget(self.patch)


_SETTINGS = {"threshold": "Right within (°)", "symmetry": "Symmetry", "cluster_distance": "Linked within (Å)"}


def _value_or_none(item: Parameter, widget: Any) -> Any:
    """A widget's value, or None if it is invalid."""
    try:
        return value_of(item, widget)
    except InputError:
        return None


def _round_up(value: float) -> float:
    """The next multiple of 5°."""
    return float(np.ceil(value / 5) * 5)
