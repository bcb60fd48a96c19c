"""Which particles of a layer a dock is asked to take: all, selected, accepted, or those that are sure enough."""

from __future__ import annotations

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.particles import Particles
from napari_orient.gui import layers
from napari_orient.gui.layer_rows import Rows, rows_of
from napari_orient.gui.widgets import Deferred, listen, shrinkable

ALL, SELECTED, ACCEPTED, MAX_ERROR = SUBSETS = ("all", "selected points", "accepted or corrected", "error up to")

EMPTY_TEXTS = {
    ALL: "The layer holds no particles.",
    SELECTED: "No points of the layer are selected: select some with its selection tool.",
    ACCEPTED: "No particles are accepted or corrected yet: the Correct dock does both.",
    MAX_ERROR: "No particle is expected to be so right: raise the limit.",
}


class SubsetChoice(QWidget):
    """A choice of particles; ``changed`` tells that others are meant, be it that the layer or its selection changed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._layer: Points | None = None
        self._heard: set[int] = set()
        self._telling = Deferred(self._tell, parent=self)
        self.choice = QComboBox()
        self.choice.addItems(SUBSETS)
        self.choice.setToolTip("Which particles of the layer to take")
        shrinkable(self.choice)
        self.choice.setMinimumContentsLength(6)
        self.limit = QDoubleSpinBox()
        self.limit.setRange(0.1, 180)
        self.limit.setDecimals(1)
        self.limit.setValue(10)
        self.limit.setSuffix("°")
        self.limit.setFixedWidth(84)
        self.limit.setToolTip(
            "Largest expected error of the orientation, in degrees (only predicted particles have one)"
        )
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.choice, 1)
        line.addWidget(self.limit)
        self.choice.currentIndexChanged.connect(self._chosen)
        self.limit.valueChanged.connect(self.changed)
        self.limit.setVisible(False)

    def follow(self, layer: Points | None) -> None:
        """Nothing; from now on particles of this layer are meant."""
        self._layer = layer
        if layer is not None and id(layer) not in self._heard:
            self._heard.add(id(layer))
            for emitter in (layer.events.data, layer.events.features, layer.selected_data.events.items_changed):
                listen(self, emitter, self._telling.ask)

    def _chosen(self, *_: object) -> None:
        self.limit.setVisible(self.choice.currentText() == MAX_ERROR)
        self.changed.emit()

    def _tell(self) -> None:
        self.changed.emit()

    def rows(self) -> Rows:
        """The rows of the layer that are meant.

        Raises
        ------
        InputError
            If there is no layer, or there are none.
        """
        layer = self._layer
        if layer is None:
            raise InputError("no particles are open; load some, or predict.")
        rows = self._chosen_rows(layer)
        if not len(rows):
            raise InputError(EMPTY_TEXTS[self.choice.currentText()])
        return rows

    def _chosen_rows(self, layer: Points) -> Rows:
        wanted = self.choice.currentText()
        if wanted == SELECTED:
            return np.array(sorted(layer.selected_data), int)
        if wanted == ACCEPTED:
            return np.flatnonzero(corrections.confirmed(layers.picks_of(layer)))
        if wanted == ALL:
            return np.arange(len(layer.data))
        if layers.EXPECTED_ERROR not in layer.features.columns:
            raise InputError("these particles have no expected errors; only predicted ones do.")
        return np.flatnonzero(layer.features[layers.EXPECTED_ERROR].to_numpy(float) <= self.limit.value())

    def particles(self) -> Particles:
        """The particles that are meant, with their poses where they have any.

        Raises
        ------
        InputError
            If there are none, or some have an orientation and some have none.
        """
        layer, rows = self._layer, self.rows()
        assert layer is not None
        posed = layers.has_pose(layer)[rows]
        if not posed.any():
            return layers.picks_of(layer).take(rows)
        if not posed.all():
            raise InputError(
                f"{int((~posed).sum())} of {len(rows)} particles in layer {layer.name!r} have no orientation: they "
                "were added later. Predict again, or delete them."
            )
        return rows_of(layer, rows)
