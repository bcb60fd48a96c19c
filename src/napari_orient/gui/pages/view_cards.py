"""The cards behind the view strip: arrows with their legend and filters, and the reference's surface at every pose."""

from __future__ import annotations

import numpy as np
from napari.layers import Points, Surface
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QLabel, QSlider

from napari_orient.engine.errors import InputError
from napari_orient.gui.colours import GRADED, PALETTES
from napari_orient.gui.event_loop import listen
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.surfaces import LEVELS, MOST_PARTICLES, USUAL_LEVEL, SurfaceShape, surface_layer
from napari_orient.gui.pages.base import DockPage, ParticlesPage
from napari_orient.gui.pages.map_choice import ReferenceChoice
from napari_orient.gui.widgets.basic import GOOD, WARNING, NoteLabel, combo_box, labelled, row, silent
from napari_orient.gui.widgets.forms import OptionsForm

LABELS = {
    "length": "Arrow length (Å)",
    "slab": "Slab in 2D (Å)",
    "colour": "Colour by",
    "low": "Colours from",
    "high": "Colours to",
    "least_score": "Hide scores below",
    "most_expected": "Hide errors above (°)",
}
OWN = "others, as set below"
"""What the choice of colours shows where they are no pair of `PALETTES`."""

LABEL_WIDTH = 148
"""Width in pixels of the column of labels; fits ``Hide errors above (°)`` at the default font."""


UPDATE_DELAY = 30
"""Milliseconds without movement of the slider after which the surfaces are drawn again."""

LEAST_OPACITY = 0.1
"""Smallest opacity offered, 0 to 1: below it surfaces are hardly visible."""

LEVEL_WIDTH = 40
"""Width in pixels of the isovalue beside its slider, so that the slider does not move as digits change."""


class ArrowsCard(DockPage):
    """View options of all arrows in the viewer."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.form = OptionsForm(ViewOptions, labels=LABELS, label_width=LABEL_WIDTH)
        for name in ("low", "high"):
            self.form.widgets[name].native.setPlaceholderText("automatic")
        tip = "Colours of predicted and of true poses; blue and orange differ for everybody's eyes"
        self.pair = combo_box(tip, [*PALETTES, OWN])
        self.add_heading("Arrows")
        self.add(labelled({"Predicted and true": self.pair}, width=LABEL_WIDTH), self.form)
        self.form.changed.connect(self._options_changed)
        self.pair.activated.connect(self._palette_chosen)
        listen(self, self.session.events.view, self.show_state)

    def _palette_chosen(self, *_: object) -> None:
        found = PALETTES.get(self.pair.currentText())
        if found is not None:
            predicted, truth = found
            self.session.drawing.show_as(self.session.drawing.view.replace(predicted=predicted, truth=truth))

    def _options_changed(self) -> None:
        self.attempt(lambda: self.session.drawing.show_as(self.form.options()))

    def show_state(self, *_: object) -> None:
        """Show the session's view options; enable the colormap's settings only for graded colours."""
        view = self.session.drawing.view
        if self._options() != view:
            with silent(self.form):
                self.form.show_options(view)
        for name in ("colormap", "low", "high"):
            self.form.widgets[name].enabled = view.display.colour in GRADED
        inks = view.display.predicted, view.display.truth
        self.pair.setCurrentText(next((name for name, pair in PALETTES.items() if pair == inks), OWN))

    def _options(self) -> ViewOptions | None:
        try:
            return self.form.options()
        except InputError:
            return None


class SurfaceCard(ParticlesPage):
    """Shows a reference at every pose of a layer; the surfaces follow every edit."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self._shape: SurfaceShape | None = None
        self._update_timer = QTimer(self)
        self._update_timer.setSingleShot(True)
        self._update_timer.setInterval(UPDATE_DELAY)
        self._update_timer.timeout.connect(self.draw)
        self.particles = self.choose_particles(empty="none with orientations")
        self.reference = ReferenceChoice(self.session, kinds=self.classes)
        self.shown = QCheckBox("Reference at every pose")
        self.shown.setToolTip(f"In 3D, for up to {MOST_PARTICLES:,} particles; coloured as the arrows")
        self.level, self.level_label = _percent_slider(*LEVELS, USUAL_LEVEL), QLabel()
        self.level.setToolTip("Isovalue as a share of the map's maximum")
        self.opacity = _percent_slider(LEAST_OPACITY, 1.0, 1.0)
        self.opacity.setToolTip("Opacity of the surfaces")
        self.level_label.setMinimumWidth(LEVEL_WIDTH)
        self.note = NoteLabel()
        self.add_heading("Particles")
        self.add(labelled({"Layer": self.particles, "Reference": self.reference}), self.shown, self.note)
        self.add_heading("Surface")
        self.add(labelled({"Isovalue": row(self.level, self.level_label), "Opacity": self.opacity}))
        self.reference.chosen.connect(self._reference_chosen)
        self.shown.toggled.connect(self._toggled)
        self.level.valueChanged.connect(self._level_changed)
        self.opacity.valueChanged.connect(self._opacity_changed)
        for emitter in (self.session.viewer.layers.events.removed, self.session.viewer.dims.events.ndisplay):
            listen(self, emitter, self.show_state)

    def offered(self) -> list[Points]:
        """Layers of particles with poses, predicted ones first."""
        return [layer for layer in super().offered() if layer_data.role(layer) and layer_data.has_pose(layer).any()]

    # --- input --------------------------------------------------------------------------------------------------

    def layer_chosen(self, *_: object) -> None:
        """Choose the reference by the class of the layer that is chosen now."""
        self.reference.choose_by_class()
        self.show_state()

    def _reference_chosen(self, *_: object) -> None:
        self._shape = None
        self.draw()

    def _level_changed(self, *_: object) -> None:
        self.level_label.setText(f"{self.level.value()} %")
        self._update_timer.start()

    def _opacity_changed(self, *_: object) -> None:
        surfaces = self._surfaces()
        if surfaces is not None:
            surfaces.opacity = self.opacity.value() / 100

    def _surfaces(self) -> Surface | None:
        return None if self.layer is None else surface_layer(self.session.viewer, self.layer)

    def _toggled(self, on: bool) -> None:
        if on:
            self.draw()
        elif self.layer is not None:
            self.session.drawing.hide_surface(self.layer)
            self.show_state()

    # --- drawing ------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw the surfaces with the dock's settings, if they are shown."""
        layer = self.layer
        if not self.shown.isChecked() or layer is None:
            return
        if not self.attempt(lambda: self._draw(layer)):
            self.shown.setChecked(False)
            return
        self._opacity_changed()
        self.show_state()

    def _draw(self, layer: Points) -> None:
        if self._shape is None or self._shape.name != self.reference.name:
            self._shape = SurfaceShape(self.reference.template(), name=self.reference.name)
        self.session.drawing.show_surface(layer, self._shape, level=self.level.value() / 100)

    def show_state(self, *_: object) -> None:
        """Show whether the surfaces are drawn, and how many."""
        layer, surfaces = self.layer, self._surfaces()
        self.level_label.setText(f"{self.level.value()} %")
        with silent(self.shown):
            self.shown.setChecked(surfaces is not None)
        self.shown.setEnabled(layer is not None)
        if layer is None:
            self.note.say("No particles with orientations: predict some.", WARNING)
        elif surfaces is None or self._shape is None:
            self.note.say("")
        else:
            posed = int(layer_data.has_pose(layer).sum())
            text = (
                f"{posed:,} surfaces"
                if posed <= MOST_PARTICLES
                else f"{MOST_PARTICLES:,} of {posed:,}: hide large errors among the arrows' options to show others"
            )
            flat = "" if self.session.viewer.dims.ndisplay == 3 else "; switch to 3D to see them"
            self.note.say(f"{text}, {2 * self._shape.radius / 10:.0f} nm across{flat}", GOOD)


def _percent_slider(low: float, high: float, value: float) -> QSlider:
    """A slider in percent."""
    slider = QSlider(Qt.Orientation.Horizontal)
    low, high, value = np.rint(100 * np.array([low, high, value])).tolist()
    slider.setRange(int(low), int(high))
    slider.setValue(int(value))
    return slider
