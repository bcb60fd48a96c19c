"""Failures in the viewer: wrong particles in full colours with their angles, right ones grey, the plane behind them.

What is shown for that is in layers of its own, drawn over everything; what was shown before comes back afterwards.
Layers are made, and shown again, in a turn of the event loop each: napari takes a tenth of a second for 30,000 arrows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer, Points, Surface, Vectors
from numpy.typing import NDArray

from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui.colours import DIM, UNKNOWN, Colour
from napari_orient.gui.event_loop import Deferred, IdleWork
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import WIDTHS, arrows_of, directions, set_arrows
from napari_orient.gui.layers.canvas import (
    camera,
    camera_center,
    camera_state,
    frame,
    restore_camera,
    screen_axes,
    size_event,
    stand_behind,
)
from napari_orient.gui.layers.layer_data import FAILURES, KEY, PREDICTED, TRUTH
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.layers.particle_values import ParticleValues

if TYPE_CHECKING:
    from napari_orient.gui.session.inspected import InspectedParticles
    from napari_orient.gui.session.viewer_session import Session

PALE: Colour = (0.82, 0.82, 0.86)
"""Colour of right particles: lighter than a tomogram, which is grey too, and without hue."""

PALE_DOT, PALE_AXIS = 0.4, 0.6
"""Opacities of right particles and of their z axes, 0 to 1."""

GREY_LENGTH, GREY_WIDTH = 0.6, 0.05
"""Length and width of a right particle's z axis as shares of an arrow's length."""

WIDER = 1.35
"""Width of failures' arrows over that of others."""

LABEL_POINTS = 15
"""Size of the angles beside failures, in points."""

LABEL_DISTANCE = 0.55
"""Distance of a label from its particle's centre, as a share of an arrow's length."""

_SIDES = 16
"""Sides of a particle that are tried for its label."""

LEAST_LABEL_DISTANCE = 26.0
"""Pixels from a particle's centre to that of its label, at least: so that it lies beside the particle from afar too."""

LABEL_ROOM = (66.0, 22.0)
"""Width and height in pixels that a label fills; of labels that would overlap the one nearer to the middle is shown."""

MOST_LABELS = 100
"""Failures with a label, at most: napari takes 1 ms for each whenever the camera is rotated."""

_OVER_ALL = "translucent_no_depth"


class FailureView:
    """The failures of one viewer, shown or not; ``rows`` are those that the camera frames."""

    def __init__(self, session: Session, inspected: InspectedParticles) -> None:
        self.session, self.inspected = session, inspected
        self.active = self.only = self._in_3d = False
        self.layer: Points | None = None
        self._camera: dict[str, Any] = {}
        self._planes: dict[Layer, tuple[float, ...]] = {}
        self._visible: dict[Layer, bool] = {}
        self._colours: tuple[FloatArray, FloatArray] | None = None
        self._added: dict[str, Layer] = {}
        self._leaving: list[Layer] = []
        self._last_frame: tuple[Rows, dict[str, Any]] | None = None
        self._removing, self._renewing = Deferred(self._remove_all), Deferred(self._draw)
        self._reframing = Deferred(self._frame_again)
        self._work = IdleWork(parent=inspected)
        for changed in (inspected.counted, inspected.renewed, inspected.selected):
            changed.connect(self._renew)

    # --- acts ---------------------------------------------------------------------------------------------------

    def show(self, rows: Rows) -> None:
        """Show the failures in 3D, the camera on these rows; all failures where none is given."""
        inspected = self.inspected
        rows = rows if len(rows) else np.flatnonzero(inspected.failed)
        if inspected.layer is None or inspected.values is None or not len(rows):
            return
        self._work.settle()
        if not self.active:
            self._begin(inspected.layer)
        self._in_3d = True
        # The camera before the layers: napari slices anew whatever is visible when the number of dimensions changes.
        self._frame(rows)
        self._draw()
        self.session.events.view()

    def _frame(self, rows: Rows) -> None:
        assert self.inspected.values is not None
        positions = self.inspected.values.particles.positions[rows]
        frame(self.session, positions, margin=self.session.drawing.view.display.length)
        self._last_frame = rows, camera_state(self.session.viewer)

    def _resized(self, event: Any = None) -> None:
        self._reframing.ask()

    def _frame_again(self) -> None:
        """Frame the same failures in a canvas of another size, as an opened dock leaves it, unless the camera moved."""
        if self.active and self._in_3d and self._last_frame is not None and not self.inspected.outdated:
            rows, state = self._last_frame
            if state == camera_state(self.session.viewer) and (rows < len(self.inspected)).all():
                self._frame(rows)

    def show_only(self, wanted: bool) -> None:
        """Leave out right particles, from where the camera is, or show them as before."""
        self._work.settle()
        if not wanted and not self._in_3d:
            self.restore(camera_too=False)
        elif self.inspected.layer is not None and self.inspected.failed.any():
            self.only = wanted
            if not self.active:
                self._begin(self.inspected.layer)
            self._draw()
        self.session.events.view()

    def restore(self, *, camera_too: bool = True) -> None:
        """Show everything again as it was before, from where the camera was."""
        if not self.active:
            return
        self.active = self.only = self._in_3d = False
        viewer = self.session.viewer
        for emitter, act in self._followed():
            emitter.disconnect(act)
        for layer in self._added.values():
            layer.visible = False
        self._leaving += self._added.values()
        before = {layer: visible for layer, visible in self._visible.items() if layer in viewer.layers}
        # Where another tomogram is shown meanwhile, the camera is that one's.
        back = camera_too and not any(visible and self._is_elsewhere(layer) for layer, visible in before.items())
        for image, position in self._planes.items():
            if image in viewer.layers:
                image.plane.position = position
        self._work.start(self._showing_again(before, self.layer, self._camera if back else None))
        self._added, self._visible, self._planes, self.layer = {}, {}, {}, None
        self.session.events.view()

    def _is_elsewhere(self, layer: Layer) -> bool:
        """Whether a layer belongs to another tomogram than the one shown."""
        switch = self.session.tomograms
        return switch.owner(layer) not in ("", switch.name)

    def _showing_again(
        self, before: dict[Layer, bool], inspected: Points | None, camera_before: dict[str, Any] | None
    ) -> Generator[None, None, None]:
        """Put the camera back, then show the layers again as they were before, one between two yields."""
        viewer = self.session.viewer
        if camera_before is not None:
            restore_camera(viewer, camera_before)
            yield
        if inspected is not None and inspected in viewer.layers:
            self._repaint(inspected)
            viewer.layers.selection = {inspected}
            yield
        for layer, visible in before.items():
            if layer in viewer.layers and layer.visible != visible:
                layer.visible = visible
                if visible and self._is_elsewhere(layer):
                    # It comes back with its own tomogram.
                    self.session.tomograms.hide(layer)
                yield
        self._show_legend(roles_only=False)
        self._removing.ask()

    def _remove_all(self) -> None:
        """Remove the layers that are no longer needed, together: napari takes a third of a second each time."""
        every = self.session.viewer.layers
        leaving, self._leaving = [layer for layer in self._leaving if layer in every], []
        if leaving:
            with every.batched_update():
                for layer in leaving:
                    every.remove(layer)

    def settle(self) -> None:
        """Show, draw and remove now what was put off."""
        self._renewing.settle()
        self._work.settle()
        self._removing.settle()

    def _show_legend(self, *, roles_only: bool) -> None:
        self.session.drawing.roles_only = roles_only
        self.session.drawing.show_legend()

    # --- what is shown ------------------------------------------------------------------------------------------

    def _begin(self, layer: Points) -> None:
        """Remember what is shown, and hide all particles but the inspected points, which become grey."""
        viewer = self.session.viewer
        self.active, self.layer = True, layer
        self._camera = camera_state(viewer)
        self._planes = {image: image.plane.position for image in self.session.index.tomograms()}
        own = [item for item in viewer.layers if isinstance(item, Points | Vectors | Surface) and layer_data.role(item)]
        # What is hidden already, as another tomogram's layers are, stays as whoever hid it will have it.
        self._visible = {item: item.visible for item in own if item.visible or item is layer}
        self._colours = layer.face_color.copy(), layer.border_color.copy()
        for item in own:
            item.visible = item is layer
        for emitter, act in self._followed():
            emitter.connect(act)
        self._show_legend(roles_only=True)

    def _followed(self) -> list[tuple[Any, Callable[..., None]]]:
        """What is listened to while failures are shown, and what it makes."""
        viewer = self.session.viewer
        events = [(camera(viewer).events.angles, self._rotated), (viewer.events.theme, self._renew)]
        return [*events, *([] if size_event(viewer) is None else [(size_event(viewer), self._resized)])]

    def _renew(self, event: Any = None) -> None:
        """Follow the errors, the threshold and the layer inspected."""
        if not self.active:
            return
        if self.inspected.layer is not self.layer or self.inspected.values is None or not self.inspected.failed.any():
            self.restore()
        else:
            self._renewing.ask()

    def _draw(self) -> None:
        """Draw points, arrows and labels as the errors are now, part by part in turns of the event loop."""
        if self.active:
            self._work.start(self._drawing())

    def _drawing(self) -> Generator[None, None, None]:
        """Draw the points, then the arrows of one kind between two yields, then the labels."""
        inspected = self.inspected
        values, layer = inspected.values, inspected.layer
        if values is None or layer is None or inspected.outdated:
            return
        full = self._in_full()
        self._paint_points(layer, values.rows[full])
        yield
        size, view = layer_data.voxel_size(layer), self.session.drawing.view
        length = view.display.length / size
        # Right ones as one pale axis each: failures stand out by shape too. The others' are there, unseen: napari
        # takes its time with another number of vectors, and little with other colours.
        context, _ = _arrows(values.particles, size, "z")
        pale = np.tile([*PALE, 0.0 if self.only else PALE_AXIS], (len(context), 1))
        pale[full[full < len(pale)], 3] = 0.0
        self._show_vectors("right, grey", context, pale, width=GREY_WIDTH * length, length=GREY_LENGTH * length)
        yield
        partner = values.inspection.partner[full]
        true = None if values.truth is None else values.truth.take(partner[partner >= 0])
        # Predicted arrows over true ones, which are wider and have no heads: told apart without colours too.
        for role, particles, style in ((TRUTH, true, "line"), (PREDICTED, values.particles.take(full), "arrow")):
            arrows, shades = _arrows(particles, size, "all", view.ink(role))
            width = WIDER * WIDTHS[role] * length
            self._show_vectors(f"failures, {role}", arrows, shades, width=width, length=length, style=style)
            yield
        self._show_labels(*self._labels())

    def _in_full(self) -> Rows:
        """Rows in full colours, ascending: failures, and what is selected to be inspected or corrected."""
        chosen = self.inspected.chosen
        return np.union1d(np.flatnonzero(self.inspected.failed), chosen if len(chosen) <= MOST_LABELS else chosen[:0])

    def _labels(self) -> tuple[Rows, FloatArray]:
        """Failures that have room for a label, and the labels' places, (K, 3) zyx in voxels; the middle comes first."""
        wrong, values, layer = np.flatnonzero(self.inspected.failed), self.inspected.values, self.inspected.layer
        assert values is not None
        assert layer is not None
        viewer = self.session.viewer
        away = np.linalg.norm(values.particles.positions[wrong] - camera_center(viewer), axis=1)
        wrong = wrong[np.argsort(away, kind="stable")[: 2 * MOST_LABELS]]
        places = self._label_places(wrong)
        on_screen = places @ screen_axes(viewer).T * layer_data.voxel_size(layer) * camera(viewer).zoom
        kept: list[int] = []
        for number, place in enumerate(on_screen):
            apart = np.abs(on_screen[kept] - place)
            if len(kept) < MOST_LABELS and not (apart < LABEL_ROOM).all(axis=1).any():
                kept.append(number)
        kept = sorted(kept, key=lambda number: int(wrong[number]))
        return wrong[kept], places[kept]

    def _paint_points(self, layer: Points, full: Rows) -> None:
        """Grey for right particles, or nothing where they are left out; the role's colour for those in full colours."""
        faces = np.tile([*PALE, 0.0 if self.only else PALE_DOT], (len(layer.data), 1))
        faces[full] = (*self.session.drawing.view.ink(PREDICTED), 1.0)
        if not _same(layer.face_color, faces):
            layer.face_color, layer.border_color = faces, faces * [0.35, 0.35, 0.35, 1.0]

    def _repaint(self, layer: Points) -> None:
        """The colours that the points had; those of their role where their number changed."""
        if self._colours is not None and len(self._colours[0]) == len(layer.data):
            layer.face_color, layer.border_color = self._colours
        elif layer_data.role(layer) in (PREDICTED, TRUTH):
            layer_data.paint(layer, self.session.drawing.view.ink(layer_data.role(layer)))
        if layer_data.role(layer) in (PREDICTED, TRUTH):
            # Of a particle selected while it was pale; points that are added would be.
            layer.current_face_color = np.array([*self.session.drawing.view.ink(layer_data.role(layer)), 1.0])

    def _show_vectors(
        self, name: str, arrows: FloatArray, colours: FloatArray, *, width: float, length: float, style: str = "line"
    ) -> None:
        """Show these arrows (M, 2, 3) in the layer of this name; an empty one is removed."""
        old = self._added.get(name)
        if isinstance(old, Vectors) and old in self.session.viewer.layers and len(arrows):
            set_arrows(old, arrows, colours)
            return
        self._remove(name)
        if len(arrows):
            layer = Vectors(
                arrows,
                name=name,
                edge_color=colours,
                edge_width=width,
                length=length,
                vector_style=style,
                blending="translucent" if name.startswith("right") else _OVER_ALL,
                **self._layer_settings(),
            )
            self._add(name, layer)

    def _show_labels(self, wrong: Rows, places: FloatArray) -> None:
        """Write the region and the error of these failures at their labels' places."""
        name, inspected = "failures, angles", self.inspected
        regions = {int(row): region.name for region in inspected.regions for row in region.rows}
        texts = [f"{regions[int(row)]} {inspected.errors[row]:.0f}°" for row in wrong]
        old = self._added.get(name)
        if isinstance(old, Points) and old in self.session.viewer.layers:
            old.data = places
            if list(old.features["label"]) != texts:
                old.features = {"label": texts}
            old.text.color = self._text_colour()
            return
        self._remove(name)
        layer = Points(
            places,
            name=name,
            features={"label": texts},
            text={
                "string": "{label}",
                "size": LABEL_POINTS,
                "color": self._text_colour(),
                "anchor": "center",
                "blending": _OVER_ALL,
            },
            size=1.0,
            face_color="transparent",
            border_color="transparent",
            blending=_OVER_ALL,
            **self._layer_settings(),
        )
        self._add(name, layer)

    def _label_places(self, wrong: Rows) -> FloatArray:
        """Places of labels, (K, 3) zyx in voxels: each where fewest arrows and others are about its particle."""
        values, layer = self.inspected.values, self.inspected.layer
        assert values is not None
        assert layer is not None
        right_up, around = screen_axes(self.session.viewer), np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)
        sides = np.column_stack([np.cos(around), np.sin(around)])
        crowded = np.zeros((len(wrong), _SIDES))
        for rotations in (values.particles.rotations, self._true_rotations(values)):
            if rotations is not None:
                on_screen = directions(rotations[wrong], "all") @ right_up.T
                crowded += np.nan_to_num(np.maximum(on_screen @ sides.T, 0) ** 2).sum(axis=1)
        length, size = self.session.drawing.view.display.length, layer_data.voxel_size(layer)
        crowded += _towards_others(
            layer_data.flip(values.particles.positions[wrong]) @ right_up.T, sides, within=3 * length
        )
        distance = max(length * LABEL_DISTANCE, LEAST_LABEL_DISTANCE / camera(self.session.viewer).zoom)
        away = sides[crowded.argmin(axis=1)] @ right_up * distance
        return np.asarray((layer_data.flip(values.particles.positions[wrong]) + away) / size)

    def _true_rotations(self, values: ParticleValues) -> FloatArray | None:
        """True rotations of all particles, (N, 3, 3), NaN where unknown."""
        if values.truth is None or values.truth.rotations is None:
            return None
        partner = values.inspection.partner
        found = values.truth.rotations[np.maximum(partner, 0)].copy()
        found[partner < 0] = np.nan
        return np.asarray(found)

    def _layer_settings(self) -> dict[str, Any]:
        assert self.layer is not None
        world = layer_data.world(layer_data.voxel_size(self.layer))
        return {"projection_mode": "all", "metadata": {KEY: {"role": FAILURES}}, **world}

    def _add(self, name: str, layer: Layer) -> None:
        assert self.layer is not None
        # The inspected points stay active, so that a click selects one of them.
        layer_data.add_unselected(self.session.viewer, layer, otherwise=self.layer)
        self._added[name] = layer

    def _remove(self, name: str) -> None:
        old = self._added.pop(name, None)
        if old is not None and old in self.session.viewer.layers:
            self.session.viewer.layers.remove(old)

    def _text_colour(self) -> str:
        return "black" if self.session.viewer.theme == "light" else "white"

    def _rotated(self, event: Any = None) -> None:
        """Keep the plane on the side away from the camera."""
        values = self.inspected.values
        if self.active and values is not None and self.inspected.failed.any():
            stand_behind(self.session, self._framed(values.particles))
            labels = self._added.get("failures, angles")
            if isinstance(labels, Points):
                self._show_labels(*self._labels())

    def _framed(self, particles: Particles) -> FloatArray:
        chosen = self.inspected.chosen
        rows: NDArray[Any] = chosen if len(chosen) else np.flatnonzero(self.inspected.failed)
        return np.asarray(particles.positions[rows])


def _towards_others(places: FloatArray, sides: FloatArray, *, within: float) -> FloatArray:
    """How far each side of places (K, 2) on the screen points to others no further than ``within``, (K, S)."""
    apart = places[None] - places[:, None]
    away = np.linalg.norm(apart, axis=-1, keepdims=True)
    near = (away > 0) & (away < within)
    towards = np.where(near, apart / np.maximum(away, 1e-9), 0.0) @ sides.T
    return np.asarray((np.maximum(towards, 0) ** 2).sum(axis=1))


def _same(shown: FloatArray, wanted: FloatArray) -> bool:
    """Whether both are equal in single precision: napari keeps no more of colours."""
    return np.array_equal(shown.astype(np.float32), wanted.astype(np.float32))


def _arrows(
    particles: Particles | None, size: float, axes: str, ink: Colour = UNKNOWN
) -> tuple[FloatArray, FloatArray]:
    """Arrows (M, 2, 3) of particles' axes in voxels, zyx, and their colours (M, 4), z's the brightest of three."""
    if particles is None or particles.rotations is None or not len(particles):
        return np.zeros((0, 2, 3)), np.zeros((0, 4))
    arrows = arrows_of(particles, size, axes)
    bright = np.array([[DIM], [DIM], [1.0]])[-(len(arrows) // len(particles)) :]
    return arrows, np.tile(np.hstack([bright * ink, np.ones_like(bright)]), (len(particles), 1))
