"""Lessons from layers on view whose poses are known."""

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


class LayersSource(QWidget):
    """Layers on view whose poses are known; ``changed`` tells that others are chosen, or that they are others."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._offered: list[Points] = []
        self._changing = Deferred(self._changed, parent=self)
        self.list = QListWidget()
        self.list.setFixedHeight(76)
        self.list.setAccessibleName("Layers to learn from")
        self.list.setToolTip(
            "Layers of particles whose orientations are known. Of predicted ones, those that you accepted are learnt."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.list)
        for event in ("inserted", "removed"):
            listen(self, getattr(session.viewer.layers.events, event), self.refresh)
        listen(self, session.events.training_layers, self._named)
        self.list.itemChanged.connect(self.changed)
        self.refresh()

    def refresh(self, event: object = None) -> None:
        """Offer what is on view; truth is chosen, and what was chosen stays."""
        chosen = {id(layer) for layer in self.chosen()}
        known = {id(layer) for layer in self._offered}
        self._offered = [layer for layer in self.session.particles() if _has_poses(layer)]
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._offered:
            if id(layer) not in known:
                listen(self, layer.events.features, self._changing.ask)
                listen(self, layer.events.name, self._changed)
            wanted = id(layer) in chosen or (id(layer) not in known and layers.role(layer) == TRUTH)
            self.list.addItem(checkable(_words(layer), wanted))
        self.list.blockSignals(False)
        self.changed.emit()

    def _changed(self, event: object = None) -> None:
        self.list.blockSignals(True)
        for number, layer in enumerate(self._offered):
            item = self.list.item(number)
            if item is not None:
                item.setText(_words(layer))
        self.list.blockSignals(False)
        self.changed.emit()

    def _named(self, event: Any) -> None:
        self.choose(*event.layers)

    def chosen(self) -> list[Points]:
        """The layers chosen."""
        items = (self.list.item(number) for number in range(self.list.count()))
        marks = [item is not None and item.checkState() == Qt.CheckState.Checked for item in items]
        return [layer for layer, mark in zip(self._offered, marks, strict=True) if mark]

    def choose(self, *wanted: Points) -> None:
        """Nothing; these layers are chosen, and no others."""
        for number, layer in enumerate(self._offered):
            item = self.list.item(number)
            if item is not None:
                item.setCheckState(Qt.CheckState.Checked if layer in wanted else Qt.CheckState.Unchecked)

    def pairs(self) -> Pairs:
        """Each tomogram with the particles of all layers chosen that lie in it.

        Raises
        ------
        InputError
            If a layer's tomogram is not open.
        """
        found: dict[str, tuple[Tomogram, list[Particles]]] = {}
        opened = {tomogram.name: tomogram for tomogram in map(layers.tomogram_of, self.session.tomograms())}
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
    """The particles of a layer that a network may learn: poses that a person stands behind.

    Of predicted particles these are those accepted or corrected, of others all that have poses and are not rejected.
    """
    picks = layers.picks_of(layer)
    if layers.role(layer) == PREDICTED:
        wanted = corrections.confirmed(picks)
    else:
        wanted = np.asarray(picks.extra.get(STATUS, np.full(len(picks), ""))) != corrections.REJECTED
    return rows_of(layer, np.flatnonzero(wanted & layers.has_pose(layer)))


def _has_poses(layer: Points) -> bool:
    return bool(layers.about(layer)) and set(layers.ROTATION_COLUMNS) <= set(layer.features.columns)


def _words(layer: Points) -> str:
    kept = "accepted or corrected" if layers.role(layer) == PREDICTED else "particles"
    return f"{layer.name} · {len(training_particles(layer))} {kept}"
