"""Layers of a discovery: arrows and maps while it runs, then discovered poses, a layer for each open tomogram."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Points, Vectors
from numpy.typing import NDArray

from napari_orient.engine.discovery.output import Discovery, DiscoveryStep, class_name
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.discovery.verdict import NOTHING
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg
from napari_orient.gui.colours import SET_APART
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import arrows_of, axes_layer, set_arrows, take_arrows
from napari_orient.gui.layers.canvas import holding_still
from napari_orient.gui.layers.layer_data import KEY, PICKS, PREDICTED
from napari_orient.gui.pages.maps import map_layer, maps_of, update_map
from napari_orient.gui.session.viewer_session import Session

PROVISIONAL = "provisional axes"
"""Role of a layer of arrows whose poses have no verdict yet."""

PROVISIONAL_COLOUR = (1.0, 0.66, 0.12)
"""Amber, RGB 0 to 1: arrows and maps without a verdict."""

MOST_TRIADS = 400
"""Particles up to which all three axes are drawn; of more the z axis alone, which redraws faster."""

_WIDTH = 0.07
"""Width of an arrow as a share of its length."""

DISCOVERED = "discovered"
"""Key of a layer's metadata that marks its poses as discovered."""

WELL_DETERMINED = 20.0
"""Degrees of expected error below which a pose is fit for training: the paper's threshold of a right pose."""


class DiscoveryPreview:
    """Arrows for each open tomogram and a map for each class.

    A layer that the user removes is not created again. The maps cover those of the discovery ``before``, which are
    removed once the new maps are final.
    """

    def __init__(self, session: Session, tomograms: Sequence[Tomogram], *, before: Sequence[Image] = ()) -> None:
        self.session, self._before = session, before
        self._tomograms = {item.name: item for item in tomograms}
        self._arrows: dict[str, Vectors] = {}
        self._place = len([layer for layer in maps_of(session.viewer) if layer not in before])
        self._maps: dict[int, Image] = {}
        self._budget: int | None = None

    def show(self, step: DiscoveryStep, *, new_layers: int | None = None) -> None:
        """Show this round; create at most ``new_layers`` layers, as many as needed if None.

        Napari needs 150 to 300 ms to create a layer; the others then follow with later rounds.
        """
        self._budget = new_layers
        if step.particles is not None:
            self._show_arrows(step.particles, step.class_count)
        if step.start:
            # A later round may search for fewer classes than the one before.
            self.clear_maps(keep=range(step.class_count))
        for label, density in zip(_map_classes(step), step.maps, strict=True):
            self.show_map(label, density, step.voxel_size, class_count=step.class_count)
        self._budget = None

    # --- arrows -------------------------------------------------------------------------------------------------

    def _show_arrows(self, particles: Particles, class_count: int) -> None:
        axes = self.session.drawing.view.axes if len(particles) <= MOST_TRIADS else "z"
        shown = {layer_data.tomogram_name(image): image.visible for image in self.session.index.tomograms()}
        for name, tomogram in self._tomograms.items():
            own = np.asarray(particles.tomogram) == name
            # Arrows of a hidden tomogram would cover those of another one.
            if own.any() and shown.get(name, False):
                self._show_own(tomogram, particles.take(own), axes, class_count)

    def _show_own(self, tomogram: Tomogram, particles: Particles, axes: str, class_count: int) -> None:
        arrows = arrows_of(particles, tomogram.voxel_size, axes).astype(np.float32)
        colours = np.repeat(_colours(particles, class_count), len(arrows) // len(particles), axis=0)
        layer = self._arrows.get(tomogram.name)
        if layer is None:
            if self._within_budget():
                self._arrows[tomogram.name] = self._new_arrows(tomogram, arrows, colours)
        elif layer in self.session.viewer.layers:
            _update_arrows(layer, arrows, colours)

    def _new_arrows(self, tomogram: Tomogram, arrows: FloatArray, colours: FloatArray) -> Vectors:
        view, size = self.session.drawing.view, tomogram.voxel_size
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
            **layer_data.world(size),
        )
        layer_data.add_unselected(self.session.viewer, layer, otherwise=layer)
        return layer

    def release_arrows(self, tomogram: str) -> Vectors | None:
        """The arrows of a tomogram if they are on view, else None; the caller owns them from now on."""
        layer = self._arrows.pop(tomogram, None)
        return layer if layer in self.session.viewer.layers else None

    def clear_arrows(self) -> Iterator[None]:
        """Remove the remaining arrows; yield after each layer, as napari is slow to remove one."""
        while self._arrows:
            _, layer = self._arrows.popitem()
            _remove_layer(self.session, layer)
            yield

    def _within_budget(self) -> bool:
        """Whether one more layer may be created; counts it."""
        if self._budget is None:
            return True
        self._budget -= 1
        return self._budget >= 0

    # --- maps ---------------------------------------------------------------------------------------------------

    def show_map(self, label: int, density: NDArray[np.float32], voxel_size: float, *, class_count: int) -> None:
        """Show the map of class ``label`` out of ``kinds`` classes."""
        tomogram = next(iter(self._tomograms.values()))
        name = "discovered map" if class_count == 1 else f"discovered map {class_name(label)}"
        if label in self._maps:
            if self._maps[label] in self.session.viewer.layers:
                update_map(self._maps[label], density, voxel_size, tomogram, place=self._place + label)
                self._maps[label].name = name
            return
        if not self._within_budget():
            return
        layer = self._maps[label] = map_layer(density, voxel_size, tomogram, name=name, place=self._place + label)
        layer_data.add_unselected(self.session.viewer, layer, otherwise=layer)
        if label == 0:
            self.session.viewer.reset_view()  # The map lies beside the tomogram, out of view.

    def keep_maps(self) -> Generator[None, None, list[Image]]:
        """The layers of the maps, which stay; remove those of the discovery before, with a yield after each."""
        for layer in self._before:
            _remove_layer(self.session, layer)
            yield
        return [self._maps[label] for label in sorted(self._maps)]

    def clear_maps(self, keep: Sequence[int] = ()) -> None:
        """Remove the maps, except those of the classes in ``keep``."""
        for label in set(self._maps) - set(keep):
            _remove_layer(self.session, self._maps.pop(label))


def _map_classes(step: DiscoveryStep) -> Sequence[int]:
    """The classes of a round's maps: all, or the one whose particles it holds."""
    if len(step.maps) in (0, step.class_count):
        return range(len(step.maps))
    kinds = [] if step.particles is None or step.particles.kind is None else [str(step.particles.kind[0])]
    names = [class_name(label) for label in range(step.class_count)]
    return [names.index(kind) for kind in kinds][: len(step.maps)]


def _colours(particles: Particles, class_count: int) -> FloatArray:
    """A colour for each particle, RGBA (N, 4): amber, or that of its class."""
    if class_count == 1 or particles.kind is None:
        return np.tile([*PROVISIONAL_COLOUR, 1.0], (len(particles), 1))
    names = [class_name(label) for label in range(class_count)]
    palette = np.array([(*SET_APART[label % len(SET_APART)], 1.0) for label in range(class_count)])
    return np.asarray(palette[[names.index(str(kind)) for kind in particles.kind]])


def _remove_layer(session: Session, layer: Any) -> None:
    if layer in session.viewer.layers:
        with holding_still(session.viewer):
            session.viewer.layers.remove(layer)


def _update_arrows(layer: Vectors, arrows: FloatArray, colours: FloatArray) -> None:
    # Without the event the viewer does not measure and slice every layer again because of slightly other tips.
    with layer.events.data.blocker():
        set_arrows(layer, arrows, colours)


def supported_particles(found: Discovery) -> Particles:
    """The particles of structures whose verdict is not `NOTHING`."""
    every = found.particles
    bad = [class_name(label) for label, item in enumerate(found.structures) if item.verdict.grade == NOTHING]
    if len(found.structures) < 2 or every.kind is None or not bad:
        return every
    return every.take(~np.isin(every.kind, bad))


def show_poses(
    session: Session,
    particles: Particles,
    tomograms: Sequence[Tomogram],
    *,
    preview: DiscoveryPreview,
    provenance: str,
    words: str,
    own_frame: bool = True,
) -> Generator[None, None, tuple[list[Points], list[str]]]:
    """Show the particles of each tomogram in a layer; yield after each.

    Poses discovered earlier are replaced, as one step of their layer's history. A new layer takes over the arrows of
    the preview: napari is slow to make a layer, and slower to remove one.

    Returns
    -------
    The layers, and the names of tomograms that are no longer open.
    """
    shown, missing = [], []
    for tomogram in tomograms:
        own = particles.of_tomogram(tomogram.name)
        images = {layer_data.tomogram_name(image): image for image in session.index.tomograms()}
        if tomogram.name not in images:
            missing.append(tomogram.name)
        elif len(own):
            layer = _existing_layer(session, tomogram)
            arrows = preview.release_arrows(tomogram.name) if layer is None else None
            if arrows is not None:
                session.viewer.layers.move(session.viewer.layers.index(arrows), -1)
                yield
            with holding_still(session.viewer):
                if layer is None:
                    layer = _new_layer(session, own, tomogram, arrows=arrows, provenance=provenance)
                else:
                    session.replace_particles(layer, own, provenance=provenance, words=words)
                _set_frame(layer, own=own_frame)
                _style_layer(session, layer, visible=images[tomogram.name].visible)
            shown.append(layer)
            yield
    return shown, missing


def _existing_layer(session: Session, tomogram: Tomogram) -> Points | None:
    for layer in session.index.particles(PREDICTED):
        about = layer_data.about(layer)
        if about.get(DISCOVERED) and about.get("tomogram") == tomogram.name:
            return layer
    return None


def _new_layer(
    session: Session, own: Particles, tomogram: Tomogram, *, arrows: Vectors | None, provenance: str
) -> Points:
    name = f"{tomogram.name} discovered"
    layer = session.show_particles(
        own, tomogram.extent, role=PREDICTED, name=name, provenance=provenance, immediately=False
    )
    layer_data.about(layer)[DISCOVERED] = True
    if arrows is not None:
        take_arrows(arrows, layer)
    return layer


def _set_frame(layer: Points, *, own: bool) -> None:
    """Note in a layer whether its poses are in an arbitrary frame: errors are then taken up to one rotation."""
    layer_data.about(layer).pop(layer_data.FRAME, None)
    if own:
        layer_data.about(layer)[layer_data.FRAME] = "its own"


def _style_layer(session: Session, layer: Points, *, visible: bool) -> None:
    """Paint false picks pale; show the layer and its arrows if its tomogram is shown."""
    layer_data.paint(layer, session.drawing.view.ink(PREDICTED))
    for item in (layer, axes_layer(session.viewer, layer)):
        # Setting `visible` to its own value makes napari slice the layer again.
        if item is not None and item.visible != visible:
            item.visible = visible


def hide_own_poses(session: Session, picks: Sequence[Points]) -> None:
    """Hide the arrows of poses that came with the picks, which would cover the new ones."""
    for layer in picks:
        arrows = axes_layer(session.viewer, layer) if layer_data.role(layer) == PICKS else None
        if arrows is not None:
            arrows.visible = False


def true_errors(session: Session, shown: Sequence[Points], group: Symmetry, *, kind: str = "") -> FloatArray | None:
    """Angles in degrees to the true rotations, up to one common rotation, (N,); None without true poses on view.

    Parameters
    ----------
    group : symmetry of the discovered map, in its own frame.
    kind : class of the particles; empty for all.
    """
    found, true = [], []
    for layer in shown:
        if session.index.truth_of(layer_data.own_tomogram(layer)) is None:
            continue
        values = session.inspection.particle_values(layer)
        if values.truth is None or values.truth.rotations is None or values.particles.rotations is None:
            continue
        partner = values.inspection.partner
        own = (partner >= 0) & ~layer_data.false_picks(values.particles) & _of_class(values.particles, kind)
        found.append(values.particles.rotations[own])
        true.append(values.truth.rotations[partner[own]])
    if not sum(map(len, found)):
        return None
    rotations, truth = np.concatenate(found), np.concatenate(true)
    # The group's axes are given in the discovered frame, so the true rotations are rotated into it.
    return np.asarray(symmetric_angle_deg(truth @ global_rotation(rotations, truth, group), rotations, group))


def well_determined_rows(layer: Points, *, kind: str = "") -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Rows of the particles of a class (empty: all) with an expected error below `WELL_DETERMINED`, no false picks."""
    expected, picks = layer.features.get(layer_data.EXPECTED_ERROR), layer_data.picks_of(layer)
    good = layer_data.has_pose(layer) & ~layer_data.false_picks(picks) & _of_class(picks, kind)
    if expected is not None:
        good &= expected.to_numpy(float) < WELL_DETERMINED
    return np.flatnonzero(good)


def _of_class(particles: Particles, kind: str) -> NDArray[np.bool_]:
    every = np.full(len(particles), "") if particles.kind is None else np.asarray(particles.kind)
    return np.asarray(every == kind) if kind else np.ones(len(particles), bool)
