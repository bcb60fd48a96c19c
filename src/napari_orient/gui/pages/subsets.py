"""A choice of a layer's particles: all but the rejected, all, selected, filtered, accepted, or up to an error."""

from __future__ import annotations

import numpy as np
from napari.layers import Points
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.particles import Particles
from napari_orient.gui.event_loop import Deferred, listen
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_rows import Rows, rows_of
from napari_orient.gui.session.tomogram_switch import ParticleSet
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import combo_box, number_box

KEPT, ALL, SELECTED, FILTERED, ACCEPTED, MAX_ERROR = SUBSETS = (
    "all but rejected",
    "all, also rejected",
    "selected points",
    "passing the filter",
    "accepted or corrected",
    "error up to",
)

DEFAULT_LIMIT = 10.0
"""Degrees of expected error up to which particles are taken at first."""

LIMIT_WIDTH = 84
"""Width in pixels of the field of the limit: fits ``180.0°``."""

EMPTY_TEXTS = {
    KEPT: "Every particle of the layer is rejected: choose all, or change verdicts on the page Correct.",
    ALL: "The layer holds no particles.",
    SELECTED: "No points of the layer are selected: use its selection tool.",
    FILTERED: "No particle passes the filter in Particles, below the canvas: change it there.",
    ACCEPTED: "No particles are accepted or corrected yet: use the page Correct.",
    MAX_ERROR: "No particle has so small an expected error: raise the limit.",
}


def rejected(layer: Points) -> NDArray[np.bool_]:
    """Which particles of a layer a person has rejected, (N,)."""
    table = layer.features
    if layer_data.STATUS not in table.columns:
        return np.zeros(len(layer.data), bool)
    return np.asarray(table[layer_data.STATUS] == corrections.REJECTED)


class SubsetChoice(QWidget):
    """A choice of particles; ``changed`` is emitted when choice, layer or selection change."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._layer: Points | None = None
        self._notifying = Deferred(self._emit_changed, parent=self)
        self.choice = combo_box("Particles of the layer to use", SUBSETS)
        self.choice.setMinimumContentsLength(6)
        tip = "Largest expected error of the orientation in degrees (predicted particles only)"
        self.limit = number_box(DEFAULT_LIMIT, tip, low=0.1, high=180, decimals=1, unit="°")
        self.limit.setFixedWidth(LIMIT_WIDTH)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.choice, 1)
        line.addWidget(self.limit)
        self.choice.currentIndexChanged.connect(self._chosen)
        self.limit.valueChanged.connect(self.changed)
        self.limit.setVisible(False)
        listen(self, session.events.view, self._notifying.ask)

    @property
    def leaves_out(self) -> bool:
        """Whether rejected particles are left out for being rejected."""
        return self.choice.currentText() == KEPT

    def set_layer(self, layer: Points | None) -> None:
        """Choose among the particles of this layer from now on."""
        self._layer = layer
        if layer is not None:
            for emitter in (layer.events.data, layer.events.features, layer.selected_data.events.items_changed):
                listen(self, emitter, self._notifying.ask)

    def _chosen(self, *_: object) -> None:
        self.limit.setVisible(self.choice.currentText() == MAX_ERROR)
        self.changed.emit()

    def _emit_changed(self) -> None:
        self.changed.emit()

    def rows(self) -> Rows:
        """The rows of the chosen particles.

        Raises
        ------
        InputError
            If there is no layer, or no particle is chosen.
        """
        layer = self._layer
        if layer is None:
            raise InputError("no particles are open; load or predict some.")
        rows = self.rows_in(layer)
        if not len(rows):
            raise InputError(EMPTY_TEXTS[self.choice.currentText()])
        return rows

    def rows_in(self, layer: Points) -> Rows:
        """The rows of any layer that the choice takes; perhaps none."""
        choice = self.choice.currentText()
        if choice == KEPT:
            return np.flatnonzero(~rejected(layer))
        if choice == SELECTED:
            return np.array(sorted(layer.selected_data), int)
        if choice == FILTERED:
            return np.flatnonzero(layer.shown)
        if choice == ACCEPTED:
            return np.flatnonzero(corrections.confirmed(layer_data.picks_of(layer)))
        if choice == ALL:
            return np.arange(len(layer.data))
        if layer_data.EXPECTED_ERROR not in layer.features.columns:
            raise InputError("these particles have no expected errors; only predicted ones do.")
        return np.flatnonzero(layer.features[layer_data.EXPECTED_ERROR].to_numpy(float) <= self.limit.value())

    def particles(self) -> Particles:
        """The chosen particles, with poses if they have any.

        Raises
        ------
        InputError
            If no particle is chosen, or only some of them have an orientation.
        """
        layer, rows = self._layer, self.rows()
        assert layer is not None
        return particles_in(layer, rows)

    def taken(self, item: ParticleSet) -> Particles | None:
        """The particles of any set that the choice takes, under their tomogram's name; all of those without a layer.

        Raises
        ------
        InputError
            If only some of them have an orientation.
        """
        if item.listed is not None:
            return item.named(item.listed.particles)
        assert item.layer is not None
        rows = self.rows_in(item.layer)
        return item.named(particles_in(item.layer, rows)) if len(rows) else None


def particles_in(layer: Points, rows: Rows) -> Particles:
    """The particles of some rows of a layer, with poses if they have any.

    Raises
    ------
    InputError
        If only some of them have an orientation.
    """
    posed = layer_data.has_pose(layer)[rows]
    if not posed.any():
        return layer_data.picks_of(layer).take(rows)
    if not posed.all():
        raise InputError(
            f"{int((~posed).sum())} of {len(rows)} particles in layer {layer.name!r} have no orientation. "
            "Predict or delete them."
        )
    return rows_of(layer, rows)
