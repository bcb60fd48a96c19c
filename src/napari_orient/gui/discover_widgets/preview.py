"""A discovery as it stands by now, in the viewer: arrows and maps, drawn once and then changed in place."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Vectors
from numpy.typing import NDArray

from napari_orient.engine.discovery.output import DiscoveryStep, class_name
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.gui import layers
from napari_orient.gui.axes import directions
from napari_orient.gui.canvas import holding_still
from napari_orient.gui.colours import SET_APART
from napari_orient.gui.layers import KEY
from napari_orient.gui.maps import map_layer, maps_of, update_map
from napari_orient.gui.session import Session

PROVISIONAL = "unjudged axes"
"""The role of a layer of arrows that nothing has judged yet."""

PROVISIONAL_COLOUR = (1.0, 0.66, 0.12)
MOST_TRIADS = 400
"""Of so many particles all axes are drawn; of more the z axis alone, which is quick to draw anew."""

_WIDTH = 0.07


class DiscoveryPreview:
    """The arrows of each tomogram on view and the map of each class.

    A layer that is removed meanwhile is not made again. The maps lie over those of the discovery ``before``, which go
    once these are kept.
    """

    def __init__(self, session: Session, tomograms: Sequence[Tomogram], *, before: Sequence[Image] = ()) -> None:
        self.session, self._before = session, before
        self._tomograms = {item.name: item for item in tomograms}
        self._arrows: dict[str, Vectors] = {}
        self._place = len([layer for layer in maps_of(session.viewer) if layer not in before])
        self._maps: dict[int, Image] = {}
        self._more: int | None = None

    def show(self, step: DiscoveryStep, *, more: int | None = None) -> None:
        """Nothing; the layers show this round, and at most so many more are made, if that is said.

        Napari takes its time to make one; the others may come with a later round.
        """
        self._more = more
        if step.particles is not None:
            self._show_arrows(step.particles, step.class_count)
        if step.start:
            # Fewer kinds may be looked for again than a round ago.
            self.clear_maps(keep=range(step.class_count))
        for label, density in zip(_labels(step), step.maps, strict=True):
            self.show_map(label, density, step.voxel_size, class_count=step.class_count)
        self._more = None

    # --- arrows -------------------------------------------------------------------------------------------------

    def _show_arrows(self, particles: Particles, class_count: int) -> None:
        axes = self.session.view.axes if len(particles) <= MOST_TRIADS else "z"
        shown = {layers.tomogram_name(image): image.visible for image in self.session.tomograms()}
        for name, tomogram in self._tomograms.items():
            own = np.asarray(particles.tomogram) == name
            # Of a tomogram that nobody sees, arrows would lie over another's.
            if own.any() and shown.get(name, False):
                self._show_own(tomogram, particles.take(own), axes, class_count)

    def _show_own(self, tomogram: Tomogram, particles: Particles, axes: str, class_count: int) -> None:
        size = tomogram.voxel_size
        along = directions(particles.required_rotations(), axes)
        starts = np.repeat(layers.flip(particles.positions) / size, along.shape[1], axis=0)
        arrows = np.stack([starts, along.reshape(-1, 3)], axis=1).astype(np.float32)
        colours = np.repeat(_colours(particles, class_count), along.shape[1], axis=0)
        layer = self._arrows.get(tomogram.name)
        if layer is None:
            if self._may_add():
                self._arrows[tomogram.name] = self._added(tomogram, arrows, colours)
        elif layer in self.session.viewer.layers:
            _renew(layer, arrows, colours)

    def _added(self, tomogram: Tomogram, arrows: FloatArray, colours: FloatArray) -> Vectors:
        view, size = self.session.view, tomogram.voxel_size
        layer = Vectors(
            arrows,
            name=f"{tomogram.name} poses so far",
            edge_color=colours,
            length=view.display.length / size,
            edge_width=_WIDTH * view.display.length / size,
            vector_style=view.style,
            projection_mode="all",
            opacity=1.0,
            metadata={KEY: {"role": PROVISIONAL}},
            **layers.world(size),
        )
        _append(self.session, layer)
        return layer

    def release_arrows(self, tomogram: str) -> Vectors | None:
        """The arrows of a tomogram, if they are on view; whoever asks has them from now on."""
        layer = self._arrows.pop(tomogram, None)
        return layer if layer in self.session.viewer.layers else None

    def clear_arrows(self) -> Iterator[None]:
        """The arrows that nobody has taken are gone, those of one tomogram with each piece: napari takes its time."""
        while self._arrows:
            _, layer = self._arrows.popitem()
            _remove(self.session, layer)
            yield

    def _may_add(self) -> bool:
        """Whether one more layer may be made; it is counted."""
        if self._more is None:
            return True
        self._more -= 1
        return self._more >= 0

    # --- maps ---------------------------------------------------------------------------------------------------

    def show_map(self, label: int, density: NDArray[np.float32], voxel_size: float, *, class_count: int) -> None:
        """Nothing; the map of a class, of so many, is shown so."""
        tomogram = next(iter(self._tomograms.values()))
        name = "discovered map" if class_count == 1 else f"discovered map {class_name(label)}"
        if label in self._maps:
            if self._maps[label] in self.session.viewer.layers:
                update_map(self._maps[label], density, voxel_size, tomogram, place=self._place + label)
                self._maps[label].name = name
            return
        if not self._may_add():
            return
        layer = self._maps[label] = map_layer(density, voxel_size, tomogram, name=name, place=self._place + label)
        _append(self.session, layer)
        if label == 0:
            self.session.viewer.reset_view()  # It lies beside the tomogram, where nobody would see it.

    def keep_maps(self) -> Generator[None, None, list[Image]]:
        """The maps, which stay; those of the discovery before go, one with each piece."""
        for layer in self._before:
            _remove(self.session, layer)
            yield
        return [self._maps[label] for label in sorted(self._maps)]

    def clear_maps(self, keep: Sequence[int] = ()) -> None:
        """Nothing; the maps are gone, but for those of the classes named."""
        for label in set(self._maps) - set(keep):
            _remove(self.session, self._maps.pop(label))


def _labels(step: DiscoveryStep) -> Sequence[int]:
    """Which classes a round's maps are of: all, or the one whose particles it holds."""
    if len(step.maps) in (0, step.class_count):
        return range(len(step.maps))
    kinds = [] if step.particles is None or step.particles.kind is None else [str(step.particles.kind[0])]
    names = [class_name(label) for label in range(step.class_count)]
    return [names.index(kind) for kind in kinds][: len(step.maps)]


def _colours(particles: Particles, class_count: int) -> FloatArray:
    """A colour for each particle, (N, 4): amber, or its class's."""
    if class_count == 1 or particles.kind is None:
        return np.tile([*PROVISIONAL_COLOUR, 1.0], (len(particles), 1))
    names = [class_name(label) for label in range(class_count)]
    palette = np.array([(*SET_APART[label % len(SET_APART)], 1.0) for label in range(class_count)])
    return np.asarray(palette[[names.index(str(kind)) for kind in particles.kind]])


def _append(session: Session, layer: Any) -> None:
    """Nothing; the layer is there, and what was chosen before still is."""
    chosen = set(session.viewer.layers.selection)
    session.viewer.layers.append(layer)
    session.viewer.layers.selection = chosen or {layer}


def _remove(session: Session, layer: Any) -> None:
    if layer in session.viewer.layers:
        with holding_still(session.viewer):
            session.viewer.layers.remove(layer)


def _renew(layer: Vectors, arrows: FloatArray, colours: FloatArray) -> None:
    other = len(arrows) != len(layer.data)
    # Told of it, the viewer would measure and slice every layer anew, because tips reach a little further.
    with layer.events.data.blocker():
        layer.data = arrows
    # Napari loses colours where the number of rows changes.
    if other or not np.allclose(layer.edge_color, colours):
        layer.edge_color = colours
