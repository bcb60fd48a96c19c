"""Index of a viewer's layers: its tomograms, its particles, and which of them belong together."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.tomograms import match_tomogram, same_tomogram
from napari_orient.engine.particles import Extent
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import TRUTH


class LayerIndex:
    """The tomograms and particles that one viewer shows; it does not keep the viewer alive.

    ``listed`` are tomograms by name that have no layers yet.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._current: weakref.ref[Image] | None = None
        self.listed: Mapping[str, object] = {}
        self.drawn_in: weakref.WeakKeyDictionary[Points, Image] = weakref.WeakKeyDictionary()

    @property
    def current(self) -> Image | None:
        """The layer of the tomogram that is shown, or None."""
        return None if self._current is None else self._current()

    @current.setter
    def current(self, image: Image | None) -> None:
        """Take a layer for the one that is shown."""
        self._current = None if image is None else weakref.ref(image)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer that this is the session of."""
        viewer = self._viewer()
        if viewer is None:
            raise ReferenceError("this session's viewer is gone")
        return viewer

    @property
    def _layers(self) -> Sequence[Layer]:
        """The viewer's layers; none once it is gone, for what was put off until then."""
        viewer = self._viewer()
        return () if viewer is None else viewer.layers

    def viewer_or_none(self) -> ViewerModel | None:
        """The viewer, or None once it is gone."""
        return self._viewer()

    def tomograms(self) -> list[Image]:
        """The layers that can serve as tomograms, the newest first."""
        return [layer for layer in reversed(self._layers) if layer_data.holds_tomogram(layer)]

    def volumes(self) -> list[Image]:
        """The tomograms to choose among, the newest first: those opened as such, or else every grey volume."""
        found = self.tomograms()
        return [layer for layer in found if layer_data.role(layer) == layer_data.TOMOGRAM] or found

    def particles(self, *roles: str) -> list[Points]:
        """The layers that can serve as particles, the newest first; of these roles only, if any are given."""
        found = [layer for layer in reversed(self._layers) if layer_data.holds_particles(layer)]
        return [layer for layer in found if not roles or layer_data.role(layer) in roles]

    def files(self) -> list[Path]:
        """The files that layers were read from: volumes, read as they are shown, lists, and the tables of these."""
        found = {layer.source.path for layer in self._layers}
        for said in map(layer_data.about, self._layers):
            found |= {said.get("path"), *said.get("files", ())}
        return [Path(path) for path in found if path]

    def extents(self) -> dict[str, Extent]:
        """The extents of the tomograms on view, by name."""
        found = [layer for layer in self.tomograms() if layer_data.role(layer) and np.allclose(layer.translate, 0)]
        return {tomogram.name: tomogram.extent for tomogram in map(layer_data.tomogram_of, found)}

    def extent_of(self, points: Points) -> Extent | None:
        """The extent of the tomogram that the points lie in: as it is on view, or as their layer says."""
        image, own = self.tomogram_of(points), layer_data.extent_of(points)
        if image is not None and np.allclose(image.translate, 0) and not self.mismatch(points, image):
            return layer_data.tomogram_of(image).extent
        if own is not None:
            return own
        extents = self.extents()
        name = layer_data.own_tomogram(points)
        match = _match(name, extents)
        if match is None and len(extents) == 1:
            match = next(iter(extents))
        return None if match is None else extents[match]

    def tomogram_of(self, points: Points) -> Image | None:
        """The layer of the tomogram that the points lie in: of its name, or the only one there is."""
        shown = {layer_data.tomogram_name(layer): layer for layer in reversed(self.volumes())}
        name = layer_data.own_tomogram(points)
        match = _match(name, shown)
        if match is not None:
            return shown[match]
        drawn_in = self.drawn_in.get(points)
        if not name and drawn_in in shown.values():
            return drawn_in
        return next(iter(shown.values())) if len(shown) == 1 and not self._is_of_others(name, shown) else None

    def _is_of_others(self, name: str, shown: Iterable[str]) -> bool:
        """Whether a tomogram's name is one of several, of which another is that of what is shown."""
        named = {*map(layer_data.own_tomogram, self.particles()), *self.listed}
        return bool(name) and any(other and _match(other, shown) is not None for other in named - {name})

    def points_of(self, drawing: Layer) -> Points | None:
        """The particles that a layer of arrows or surfaces is drawn from, or None."""
        wanted = layer_data.about(drawing).get("of")
        found = (layer for layer in self.particles() if layer_data.about(layer).get("id") == wanted)
        return next(found, None) if wanted else None

    def drawings_of(self, points: Points) -> list[Layer]:
        """The layers of arrows and surfaces that are drawn from these particles."""
        wanted = layer_data.about(points).get("id")
        return [layer for layer in self._layers if wanted and layer_data.about(layer).get("of") == wanted]

    def mismatch(self, points: Points, tomogram: Image) -> str:
        """A warning where the points are of a tomogram of another name than this one, else empty."""
        name, chosen = layer_data.own_tomogram(points), layer_data.tomogram_name(tomogram)
        if not name or same_tomogram(name, chosen):
            return ""
        return f"These particles are of {name}, not of {chosen}: choose its own tomogram or particles."

    def truth_of(self, tomogram: str) -> Points | None:
        """The layer with the true poses of this tomogram, or None."""
        truths = {layer_data.own_tomogram(layer): layer for layer in self.particles(TRUTH)}
        match = _match(tomogram, truths)
        if match is None and len(truths) == 1 and len(self.extents()) <= 1:
            match = next(iter(truths))
        return None if match is None else truths[match]


def _match(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate of this name; of several that mean the same tomogram, the one that was opened last."""
    candidates = list(candidates)
    try:
        return match_tomogram(name, candidates) if name else None
    except InputError:
        return next(item for item in reversed(candidates) if same_tomogram(name, item))
