"""The Surface dock: the reference's surface at every pose, its isovalue and its opacity."""

from __future__ import annotations

import napari.viewer
import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QLabel, QSlider

from napari_orient.gui import layers
from napari_orient.gui.reference_choice import ReferenceChoice, read_reference
from napari_orient.gui.session import session_of
from napari_orient.gui.surfaces import LEVELS, MOST_PARTICLES, USUAL_LEVEL, SurfaceShape, surface_layer
from napari_orient.gui.widgets import GOOD, WARNING, Dock, LayerChoice, Note, labelled, listen, row

SETTLED = 30
"""Milliseconds that the slider rests before the surfaces follow it."""


class SurfaceDock(Dock):
    """A layer of posed particles and a reference in; surfaces that follow every edit out."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self._shape: SurfaceShape | None = None
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLED)
        self._settled.timeout.connect(self.draw)
        self._build(self.session.viewer)
        self._layer_chosen()

    def _build(self, viewer: ViewerModel) -> None:
        self.particles = LayerChoice(viewer, self._offered, empty="none with orientations")
        self.reference = ReferenceChoice(self.session, kinds=self._classes)
        self.shown = QCheckBox("Show the reference at every pose")
        self.shown.setToolTip(f"In 3D, for up to {MOST_PARTICLES:,} particles; coloured as the arrows")
        self.level, self.level_words = _slider(*LEVELS, USUAL_LEVEL), QLabel()
        self.level.setToolTip("Isovalue of the surface, as a share of the map's maximum")
        self.opacity = _slider(0.1, 1.0, 1.0)
        self.opacity.setToolTip("How opaque the surfaces are")
        self.level_words.setMinimumWidth(40)
        self.note = Note()
        self.add_heading("Particles")
        self.add(labelled({"Layer": self.particles, "Reference": self.reference}), self.shown, self.note)
        self.add_heading("Surface")
        self.add(labelled({"Isovalue": row(self.level, self.level_words), "Opacity": self.opacity}))
        self.close_column()
        self.particles.chosen.connect(self._layer_chosen)
        self.reference.chosen.connect(self._reference_chosen)
        self.shown.toggled.connect(self._toggled)
        self.level.valueChanged.connect(self._level_changed)
        self.opacity.valueChanged.connect(self._opacity_changed)
        listen(self, viewer.layers.events.removed, self._show)

    def _offered(self) -> list[Points]:
        posed = [layer for layer in self.session.particles() if layers.role(layer) and layers.has_pose(layer).any()]
        return sorted(posed, key=lambda layer: layers.role(layer) != layers.PREDICTED)

    def _classes(self) -> list[str]:
        layer = self.particles.layer
        return layers.classes(layer) if isinstance(layer, Points) else []

    # --- what was chosen ----------------------------------------------------------------------------------------

    def _layer_chosen(self, *_: object) -> None:
        self.reference.choose_by_class()
        self._show()

    def _reference_chosen(self, *_: object) -> None:
        self._shape = None
        self.draw()

    def _level_changed(self, *_: object) -> None:
        self.level_words.setText(f"{self.level.value()} %")
        self._settled.start()

    def _opacity_changed(self, *_: object) -> None:
        layer = self.particles.layer
        surfaces = surface_layer(self.session.viewer, layer) if isinstance(layer, Points) else None
        if surfaces is not None:
            surfaces.opacity = self.opacity.value() / 100

    def _toggled(self, on: bool) -> None:
        layer = self.particles.layer
        if on:
            self.draw()
        elif isinstance(layer, Points):
            self.session.hide_surface(layer)
            self._show()

    # --- drawing ------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw the surfaces as the dock says, if they are to be shown."""
        layer = self.particles.layer
        if not self.shown.isChecked() or not isinstance(layer, Points):
            return
        if not self.attempt(lambda: self._draw(layer)):
            self.shown.setChecked(False)
            return
        self._opacity_changed()
        self._show()

    def _draw(self, layer: Points) -> None:
        if self._shape is None or self._shape.name != self.reference.name:
            self._shape = SurfaceShape(read_reference(self.reference.name).bank(), name=self.reference.name)
        self.session.show_surface(layer, self._shape, level=self.level.value() / 100)

    def _show(self, event: object = None) -> None:
        layer = self.particles.layer
        self.level_words.setText(f"{self.level.value()} %")
        surfaces = surface_layer(self.session.viewer, layer) if isinstance(layer, Points) else None
        self.shown.blockSignals(True)
        self.shown.setChecked(surfaces is not None)
        self.shown.blockSignals(False)
        self.shown.setEnabled(layer is not None)
        if not isinstance(layer, Points):
            self.note.say("No particles with orientations yet: predict some.", WARNING)
        elif surfaces is None or self._shape is None:
            self.note.say("")
        else:
            posed = int(layers.has_pose(layer).sum())
            words = (
                f"{min(posed, MOST_PARTICLES):,} surfaces"
                if posed <= MOST_PARTICLES
                else (f"{MOST_PARTICLES:,} of {posed:,}: hide the unsure ones in the Arrows dock to see others")
            )
            flat = "" if self.session.viewer.dims.ndisplay == 3 else "; switch to 3D to see them"
            self.note.say(f"{words}, {2 * self._shape.radius / 10:.0f} nm across{flat}", GOOD)


def _slider(low: float, high: float, value: float) -> QSlider:
    """A slider in percent."""
    slider = QSlider(Qt.Orientation.Horizontal)
    low, high, value = np.rint(100 * np.array([low, high, value])).tolist()
    slider.setRange(int(low), int(high))
    slider.setValue(int(value))
    return slider
