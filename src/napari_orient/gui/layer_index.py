"""Index of a viewer's layers: its tomograms, its particles, and which of them belong together."""

from __future__ import annotations

import weakref

from napari.components import ViewerModel
from napari.layers import Image, Points

from napari_orient.engine.io import match_tomogram, same_tomogram
from napari_orient.engine.particles import Extent
from napari_orient.gui import layers
from napari_orient.gui.layers import TRUTH


class LayerIndex:
    """The tomograms and particles that one viewer shows; it does not keep the viewer alive."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer that this is the session of."""
        viewer = self._viewer()
        if viewer is None:
            raise ReferenceError("this session's viewer is gone")
        return viewer

    def tomograms(self) -> list[Image]:
        """The layers that can serve as tomograms, the newest first."""
        return [layer for layer in reversed(self.viewer.layers) if layers.holds_tomogram(layer)]

    def particles(self, *roles: str) -> list[Points]:
        """The layers that can serve as particles, the newest first; of these roles only, if any are given."""
        found = [layer for layer in reversed(self.viewer.layers) if layers.holds_particles(layer)]
        return [layer for layer in found if not roles or layers.role(layer) in roles]

    def extents(self) -> dict[str, Extent]:
        """The extents of the tomograms on view, by name."""
        found = [layers.tomogram_of(layer) for layer in self.tomograms() if layers.role(layer)]
        return {tomogram.name: tomogram.extent for tomogram in found}

    def extent_of(self, points: Points) -> Extent | None:
        """The extent of the tomogram that the points lie in: as their layer says, or of the tomogram on view."""
        own = layers.extent_of(points)
        if own is not None:
            return own
        extents = self.extents()
        name = str(layers.about(points).get("tomogram", ""))
        match = match_tomogram(name, extents) if name else None
        if match is None and len(extents) == 1:
            match = next(iter(extents))
        return None if match is None else extents[match]

    def tomogram_of(self, points: Points) -> Image | None:
        """The layer of the tomogram that the points lie in: of its name, or the only one there is."""
        shown = {str(layers.about(layer).get("name", layer.name)): layer for layer in reversed(self.tomograms())}
        name = str(layers.about(points).get("tomogram", ""))
        match = match_tomogram(name, shown) if name else None
        if match is None and len(shown) == 1:
            match = next(iter(shown))
        return None if match is None else shown[match]

    def mismatch(self, points: Points, tomogram: Image) -> str:
        """A warning where the points lie in another tomogram that is open than in this one, else empty."""
        own = self.tomogram_of(points)
        name, chosen = str(layers.about(points).get("tomogram", "")), layers.tomogram_name(tomogram)
        if not name or own is None or own is tomogram or same_tomogram(name, chosen):
            return ""
        return f"These particles are of {name}, not of {chosen}: choose its own tomogram or particles."

    def truth_of(self, tomogram: str) -> Points | None:
        """The layer with the true poses of this tomogram, or None."""
        truths = {str(layers.about(layer).get("tomogram", "")): layer for layer in self.particles(TRUTH)}
        match = match_tomogram(tomogram, truths)
        if match is None and len(truths) == 1 and len(self.extents()) <= 1:
            match = next(iter(truths))
        return None if match is None else truths[match]
