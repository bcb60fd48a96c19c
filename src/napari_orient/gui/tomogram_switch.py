"""The tomogram that a viewer shows of those that are open: its layers are visible, those of the others are not."""

from __future__ import annotations

import weakref

from napari.layers import Image, Layer, Points
from napari.utils.events import EmitterGroup

from napari_orient.gui import layers
from napari_orient.gui.canvas import show_scale_bar
from napari_orient.gui.layer_index import LayerIndex
from napari_orient.gui.layers import AXES, PICKS, PREDICTED, SURFACE, TOMOGRAM, TRUTH
from napari_orient.gui.widgets import Deferred


class TomogramSwitch:
    """The current tomogram of one viewer; ``events.tomogram`` is emitted when it, or what there is to choose, changes.

    Layers of other tomograms are hidden, and come back as they were when their tomogram is chosen again; a layer that
    belongs to none is left alone. Of tomograms that are opened together the first is shown.
    """

    def __init__(self, index: LayerIndex, events: EmitterGroup) -> None:
        self.index, self.events = index, events
        self._hidden: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._opening = False
        self._arranging = Deferred(self._arrange)

    @property
    def current(self) -> Image | None:
        """The layer of the tomogram that is shown, or None where none is open."""
        return self.index.current

    def choose(self, image: Image) -> None:
        """Show this tomogram's layers, and hide those of the others."""
        self.index.current = image
        for layer in list(self.index.viewer.layers):
            owner = self.owner(layer)
            if owner is image and layer in self._hidden:
                self._hidden.discard(layer)
                layer.visible = True
            elif owner is not None and owner is not image:
                self.hide(layer)
        self.events.tomogram()

    def step(self, step: int) -> None:
        """Show the tomogram so many places further in the order in which they were opened."""
        images = self.index.tomograms()[::-1]
        if images:
            place = images.index(self.current) if self.current in images else -step
            self.choose(images[(place + step) % len(images)])

    def hide(self, layer: Layer) -> None:
        """Hide a layer until its tomogram is chosen; one that a person has hidden stays hidden then."""
        if layer.visible:
            self._hidden.add(layer)
            layer.visible = False

    def owner(self, layer: Layer) -> Image | None:
        """The tomogram that a layer belongs to: itself, that of its particles, or None."""
        if isinstance(layer, Points):
            return self.index.tomogram_of(layer) if layers.holds_particles(layer) else None
        if layers.role(layer) in (AXES, SURFACE):
            points = self.index.points_of(layer)
            return None if points is None else self.index.tomogram_of(points)
        return layer if isinstance(layer, Image) and layers.holds_tomogram(layer) else None

    def layers_of(self, image: Image, *roles: str) -> list[Points]:
        """The particles of a tomogram, the newest first; of these roles only, if any are given."""
        return [layer for layer in self.index.particles(*roles) if self.index.tomogram_of(layer) is image]

    # --- layers that come and go ------------------------------------------------------------------------------------

    def inserted(self, layer: Layer) -> None:
        """Show a tomogram that is opened, and hide what belongs to another one than the current."""
        if isinstance(layer, Image) and layers.holds_tomogram(layer):
            if self._opening and self.current is not None:
                self.hide(layer)
                self.events.tomogram()
            else:
                self._opening = True
                self.choose(layer)
        elif isinstance(layer, Points) and layers.holds_particles(layer):
            self._inserted_points(layer)
        self._arranging.ask()

    def _inserted_points(self, points: Points) -> None:
        if layers.role(points) not in (PICKS, PREDICTED, TRUTH) and self.current is not None:
            self.index.drawn_in[points] = self.current
        owner = self.index.tomogram_of(points)
        if owner is None or owner is self.current:
            self.events.tomogram()
        elif self._opening or layers.role(points) == PREDICTED:
            for layer in (points, *self.index.drawings_of(points)):
                self.hide(layer)
            self.events.tomogram()
        else:
            self.choose(owner)

    def removed(self, layer: Layer) -> None:
        """Show another tomogram where the current one was closed."""
        if layer is self.current:
            images = self.index.tomograms()
            self.index.current = None
            if images:
                self.choose(images[0])
        self.events.tomogram()

    def _arrange(self) -> None:
        """Put tomograms beneath all else; switch on scale bar and slab: napari has shown the layers by now."""
        self._opening = False
        viewer = self.index.viewer_or_none()
        if viewer is None:
            return
        for place, layer in enumerate(list(viewer.layers)):
            below = sum(layers.role(item) == TOMOGRAM for item in list(viewer.layers)[:place])
            if layers.role(layer) == TOMOGRAM and below < place:
                viewer.layers.move(place, below)
        if any(layers.role(layer) == TOMOGRAM for layer in viewer.layers):
            show_scale_bar(viewer)
        self.events.arranged()
