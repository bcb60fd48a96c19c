"""The viewer's canvas: slab, scale bar, legend and camera, which napari 0.9 and releases before it call differently."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points

from napari_orient.engine.particles import FloatArray
from napari_orient.gui.colours import ROLE, Colour, Legend, legend_words, ramp
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH

if TYPE_CHECKING:
    from napari_orient.gui.session.viewer_session import Session

CLOSE_ZOOM = 0.45
"""Screen pixels per Å at a single particle, at least: a ribosome is then over 100 pixels wide."""

BEHIND = 200.0
"""Å from a particle's centre to the plane behind it: its arrows end before that."""

_TILT_DEG = 28.0
"""Angle between the beam and the direction of view on framed particles: arrows along the beam are seen too."""

_RIM = 36
"""Pixels about framed particles at the canvas' sides: fits the texts beside them."""

_KEY = "orient_legend"
"""Names of our overlays among the canvas's begin with this."""

_GROUND = (0.07, 0.07, 0.08, 0.92)
"""Colour behind the legend, RGBA: dark in either theme, as the tomograms on which the colours are seen."""

_TEXT_POINTS = 11
"""Size of the legend's text in points."""

_BAR_SIZE = (18.0, 130.0)
"""Width and height of the colour bar in pixels."""

_SHAPES = {PREDICTED: "→", TRUTH: "▬"}
"""What a role's arrows look like, for those who cannot tell the colours apart."""


@contextmanager
def holding_still(viewer: ViewerModel) -> Iterator[None]:
    """The slice shown stays where it is in Å, whatever layers come, go and grow meanwhile: napari keeps its number."""
    point = viewer.dims.point
    yield
    if len(viewer.dims.point) == len(point) and viewer.dims.point != point:
        viewer.dims.point = point


def sliced_axis(viewer: ViewerModel) -> int:
    """The axis of the world that is sliced in 2D, one of the last three."""
    dims = viewer.dims
    return next(int(axis) for axis in dims.order if axis >= dims.ndim - 3)


def show_slab(viewer: ViewerModel, thickness: float) -> None:
    """Show slices so many Å thick in 2D, across whichever axis is sliced."""
    dims = viewer.dims
    if dims.ndim < 3:
        return
    sliced = sliced_axis(viewer)
    wanted = tuple(
        kept if axis < dims.ndim - 3 else thickness if axis == sliced else 0.0
        for axis, kept in enumerate(dims.thickness)
    )
    if dims.thickness != wanted:
        dims.thickness = wanted


def show_scale_bar(viewer: ViewerModel, *, shown: bool = True) -> None:
    """Switch the viewer's scale bar, in Å, on or off."""
    canvas = getattr(viewer, "canvas", None)
    bar = viewer.scale_bar if canvas is None else canvas.overlays.scale_bar
    bar.visible = shown


def camera(viewer: ViewerModel) -> Any:
    """The viewer's camera."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def canvas_size(viewer: ViewerModel) -> tuple[int, int]:
    """Height and width of the canvas in pixels."""
    canvas = getattr(viewer, "canvas", None)
    height, width = viewer._canvas_size if canvas is None else canvas.size
    return int(height), int(width)


def size_event(viewer: ViewerModel) -> Any:
    """The event of another size of the canvas; None where this napari has none."""
    canvas = getattr(viewer, "canvas", None)
    return None if canvas is None else canvas.events.size


def center_on(session: Session, position: FloatArray) -> None:
    """Centre the view on a position (3,) xyz in Å; zoom in to `CLOSE_ZOOM` if it is farther, never out."""
    _center(session, position)
    view = camera(session.viewer)
    view.zoom = max(view.zoom, CLOSE_ZOOM)
    stand_behind(session, position[None])


def frame(session: Session, positions: FloatArray, *, margin: float) -> None:
    """Show positions (N, 3) xyz in Å whole in 3D, with so many Å about each, as large as the canvas has room for."""
    viewer = session.viewer
    middle = (positions.min(axis=0) + positions.max(axis=0)) / 2
    _slice_at(session, middle)
    viewer.dims.ndisplay = 3
    _center(session, middle)
    view = camera(viewer)
    height, width = canvas_size(viewer)
    direction, up = _level_view(positions, upright=height > width)
    view.set_view_direction(tuple(direction), tuple(up))
    # One particle alone would fill the canvas: its neighbours are to be seen too.
    across = np.abs(layer_data.flip(positions - middle) @ screen_axes(viewer).T).max(axis=0)
    on_screen = np.maximum(across, margin) + margin
    room = np.maximum(np.array([width, height]) - 2 * _RIM, 1)
    view.zoom = float((room / (2 * on_screen)).min())
    stand_behind(session, positions)


def _center(session: Session, position: FloatArray) -> None:
    _slice_at(session, position)
    camera(session.viewer).center = tuple(float(part) for part in layer_data.flip(position))


def _slice_at(session: Session, position: FloatArray) -> None:
    """Show the slice through a position (3,) xyz in Å in 2D; from 3D, napari returns to the camera's own centre."""
    viewer = session.viewer
    if viewer.dims.ndisplay == 2:
        first = viewer.dims.ndim - 3
        place = tuple(float(part) for part in layer_data.flip(position))
        viewer.dims.set_point((first, first + 1, first + 2), place)


def _level_view(positions: FloatArray, *, upright: bool) -> tuple[FloatArray, FloatArray]:
    """Direction of view and the upward direction, both (3,) zyx, that put the longest line across the beam level.

    In an ``upright`` canvas, which is higher than wide, that line is put upright instead.
    """
    flat = positions[:, :2] - positions[:, :2].mean(axis=0)
    level = np.linalg.svd(flat)[2][0] if len(positions) > 1 and np.ptp(flat, axis=0).any() else np.array([1.0, 0])
    if upright and len(positions) > 1:
        level = np.array([-level[1], level[0]])
    level *= np.sign(level[0]) or 1.0
    # As in 2D, y points down on the screen where x points right.
    down = np.array([-level[1], level[0]])
    tilt = np.radians(_TILT_DEG)
    direction = np.array([np.cos(tilt), *(-np.sin(tilt) * down[::-1])])
    up = -np.array([np.sin(tilt), *(np.cos(tilt) * down[::-1])])
    return direction, up


def stand_behind(session: Session, positions: FloatArray) -> None:
    """Put the planes shown in 3D behind positions (N, 3) xyz in Å, on the side away from the camera, or at the face."""
    viewer = session.viewer
    along = 1.0 if view_direction(viewer)[0] >= 0 else -1.0
    heights = positions[:, 2]
    wanted = float(heights.max() + BEHIND if along > 0 else heights.min() - BEHIND)
    for layer in session.index.tomograms():
        if layer.depiction == "plane" and layer_data.role(layer) == layer_data.TOMOGRAM:
            row = float(np.clip(wanted / layer_data.voxel_size(layer), 0, layer.data.shape[0] - 1))
            if abs(layer.plane.position[0] - row) > 1e-6:
                layer.plane.position = (row, *layer.plane.position[1:])


def screen_axes(viewer: ViewerModel) -> FloatArray:
    """The directions that point right and up on the screen, (2, 3) zyx."""
    if viewer.dims.ndisplay != 3:
        return np.array([[0.0, 0, 1], [0, -1, 0]])
    view = camera(viewer)
    up = np.asarray(view.up_direction, float)
    return np.array([np.cross(up, view_direction(viewer)), up])


def view_direction(viewer: ViewerModel) -> FloatArray:
    """The direction that the camera looks in, (3,) zyx; along the first axis in 2D."""
    return np.asarray(camera(viewer).view_direction, float) if viewer.dims.ndisplay == 3 else np.array([1.0, 0, 0])


def camera_center(viewer: ViewerModel) -> FloatArray:
    """Centre of the camera, (3,) xyz in Å."""
    return layer_data.flip(np.array(camera(viewer).center, float)[-3:])


def camera_state(viewer: ViewerModel) -> dict[str, Any]:
    """What `restore_camera` restores."""
    view = camera(viewer)
    state = {name: getattr(view, name) for name in ("angles", "zoom", "center", "perspective")}
    return {"ndisplay": viewer.dims.ndisplay, "point": viewer.dims.point, **state}


def restore_camera(viewer: ViewerModel, state: dict[str, Any]) -> None:
    """Put camera, slice and number of dimensions shown back."""
    viewer.dims.ndisplay = state["ndisplay"]
    if len(viewer.dims.point) == len(state["point"]):
        viewer.dims.point = state["point"]
    view = camera(viewer)
    for name in ("perspective", "angles", "center", "zoom"):
        setattr(view, name, state[name])


class CanvasLegend:
    """The legend in one viewer's canvas; showing it again replaces it, and it leaves other people's words alone."""

    def __init__(self) -> None:
        self._shown: tuple[object, ...] = ()
        self._barred: weakref.WeakSet[Points] = weakref.WeakSet()

    def show(self, viewer: ViewerModel, legend: Legend | None, drawn: Sequence[Points]) -> None:
        """Show this legend, or none; a colour bar hangs on the first visible one of the layers drawn in its colours."""
        overlays = canvas_overlays(viewer)
        host = next((layer for layer in drawn if layer.visible and hasattr(layer, "face_colorbar")), None)
        barred = legend is not None and bool(legend.colormap) and host is not None
        lines = [] if legend is None else _lines(legend, barred=barred)
        if (state := (tuple(lines), legend if barred else None, id(host) if barred else 0)) == self._shown:
            return
        self._shown = state
        self._write(overlays, lines)
        for layer in list(self._barred):
            layer.face_colorbar.visible = False
        self._barred.clear()
        if legend is not None and host is not None and barred:
            self._hang_bar(host, legend)

    def _write(self, overlays: Any, lines: Sequence[tuple[str, Colour]]) -> None:
        from napari.components.overlays import TextOverlay

        for key in [key for key in overlays if key.startswith(_KEY)][len(lines) :]:
            del overlays[key]
        for number, (text, colour) in enumerate(lines):
            key = f"{_KEY}_{number}"
            values = {"text": text, "color": (*colour, 1.0), "visible": True}
            if key in overlays:
                for name, value in values.items():
                    setattr(overlays[key], name, value)
            else:
                overlays[key] = TextOverlay(position="top_left", box_color=_GROUND, font_size=_TEXT_POINTS, **values)

    def _hang_bar(self, host: Points, legend: Legend) -> None:
        """Show the colormap and its values on a layer that is drawn in these colours, without changing its own."""
        from napari.utils.colormaps import Colormap

        host.face_colormap = Colormap(ramp(legend.colormap), name=f"{legend.colormap} (legend)")
        host.face_contrast_limits = (legend.scale.low, legend.scale.high)
        bar = host.face_colorbar
        bar.position, bar.size, bar.font_size, bar.box_color, bar.color = "top_left", _BAR_SIZE, 9, _GROUND, "white"
        bar.visible = True
        self._barred.add(host)

    def texts(self, viewer: ViewerModel) -> list[str]:
        """The legend's lines, from the top."""
        overlays = canvas_overlays(viewer)
        return [overlays[key].text for key in overlays if key.startswith(_KEY)]


def canvas_overlays(viewer: ViewerModel) -> Any:
    """The overlays of the canvas by name, to which ours can be added."""
    canvas = getattr(viewer, "canvas", None)
    return viewer._overlays if canvas is None else canvas.overlays


def _lines(legend: Legend, *, barred: bool) -> list[tuple[str, Colour]]:
    """Texts and their colours: a title unless it is the roles, then a line for each name; a bar has its own values."""
    white: Colour = (1.0, 1.0, 1.0)
    if legend.colormap:
        unit = f" ({legend.unit})" if legend.unit else ""
        return [(f"{legend.title}{unit}" if barred else legend_words(legend), white)]
    title = [] if legend.title == ROLE else [(legend.title, white)]
    return title + [(f"{_SHAPES.get(name, '■')} {name}", colour) for name, colour in legend.entries]
