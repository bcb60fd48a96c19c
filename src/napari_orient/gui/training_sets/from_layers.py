"""Training data from open layers with poses."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QListWidget, QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.io import match_tomogram
from napari_orient.engine.io.columns import STATUS
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.gui import layers
from napari_orient.gui.layer_rows import rows_of
from napari_orient.gui.layers import PREDICTED, TRUTH
from napari_orient.gui.session import Session
from napari_orient.gui.training_sets.training_data import Pairs
from napari_orient.gui.widgets import Deferred, checkable, listen

LIST_HEIGHT = 76
"""Height in pixels of the list of layers: about four lines."""


class LayersSource(QWidget):
    """A list of open layers with poses; ``changed`` is emitted when the checked particles change."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._offered: list[Points] = []
        self._changing = Deferred(self._relabel, parent=self)
        self.list = QListWidget()
        self.list.setFixedHeight(LIST_HEIGHT)
        self.list.setAccessibleName("Layers to train on")
        self.list.setToolTip(
            "Layers of particles with orientations. Of predicted ones, only accepted or corrected particles are used."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.list)
        for event in ("inserted", "removed"):
            listen(self, getattr(session.viewer.layers.events, event), self.refresh)
        listen(self, session.events.training_layers, self._choose_named)
        self.list.itemChanged.connect(self.changed)
        self.refresh()

    def refresh(self, event: object = None) -> None:
        """List the open layers; new layers of true poses are checked, checked layers stay so."""
        chosen = {id(layer) for layer in self.chosen()}
        before = {id(layer) for layer in self._offered}
        self._offered = [layer for layer in self.session.index.particles() if _has_poses(layer)]
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._offered:
            if id(layer) not in before:
                listen(self, layer.events.features, self._changing.ask)
                listen(self, layer.events.name, self._relabel)
            wanted = id(layer) in chosen or (id(layer) not in before and layers.role(layer) == TRUTH)
            self.list.addItem(checkable(_training_layer_label(layer), wanted))
        self.list.blockSignals(False)
        self.changed.emit()

    def _relabel(self, event: object = None) -> None:
        self.list.blockSignals(True)
        for number, layer in enumerate(self._offered):
            item = self.list.item(number)
            if item is not None:
                item.setText(_training_layer_label(layer))
        self.list.blockSignals(False)
        self.changed.emit()

    def _choose_named(self, event: Any) -> None:
        self.choose(*event.layers)

    def chosen(self) -> list[Points]:
        """The checked layers."""
        items = (self.list.item(number) for number in range(self.list.count()))
        marks = [item is not None and item.checkState() == Qt.CheckState.Checked for item in items]
        return [layer for layer, mark in zip(self._offered, marks, strict=True) if mark]

    def choose(self, *wanted: Points) -> None:
        """Check these layers, and no others."""
        for number, layer in enumerate(self._offered):
            item = self.list.item(number)
            if item is not None:
                item.setCheckState(Qt.CheckState.Checked if layer in wanted else Qt.CheckState.Unchecked)

    def pairs(self) -> Pairs:
        """Each open tomogram with its particles of the checked layers.

        Raises
        ------
        InputError
            If a layer's tomogram is not open.
        """
        found: dict[str, tuple[Tomogram, list[Particles]]] = {}
        opened = {tomogram.name: tomogram for tomogram in map(layers.tomogram_of, self.session.index.tomograms())}
        for layer in self.chosen():
            particles = training_particles(layer)
            name = str(layers.about(layer).get("tomogram", ""))
            match = match_tomogram(name, opened) if name else next(iter(opened), None)
            if match is None:
                raise InputError(
                    f"the tomogram {name!r} of layer {layer.name!r} is not open. Open it in the Load dock."
                )
            found.setdefault(match, (opened[match], []))[1].append(particles)
        return [(tomogram, concatenate(parts)) for tomogram, parts in found.values()]


def training_particles(layer: Points) -> Particles:
    """The particles of a layer that are fit for training.

    Of predicted particles those accepted or corrected, of others all that have poses and are not rejected.
    """
    picks = layers.picks_of(layer)
    if layers.role(layer) == PREDICTED:
        wanted = corrections.confirmed(picks)
    else:
        wanted = np.asarray(picks.extra.get(STATUS, np.full(len(picks), ""))) != corrections.REJECTED
    return rows_of(layer, np.flatnonzero(wanted & layers.has_pose(layer)))


def _has_poses(layer: Points) -> bool:
    return bool(layers.about(layer)) and set(layers.ROTATION_COLUMNS) <= set(layer.features.columns)


def _training_layer_label(layer: Points) -> str:
    kind = "accepted or corrected" if layers.role(layer) == PREDICTED else "particles"
    return f"{layer.name} · {len(training_particles(layer))} {kind}"
