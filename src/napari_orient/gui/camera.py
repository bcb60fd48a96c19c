"""Camera moves to particles: the slice in 2D; in 3D centre, zoom, and the tomogram's plane behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import ViewerModel

from napari_orient.engine.particles import FloatArray
from napari_orient.gui import layers
from napari_orient.gui.canvas import camera, canvas_size
from napari_orient.gui.session import Session

CLOSE_ZOOM = 0.45
"""Screen pixels per Å at a single particle, at least: a ribosome is then over 100 pixels wide."""

BEHIND = 200.0
"""Å from a particle's centre to the plane behind it: its arrows end before that."""

_TILT_DEG = 28.0
"""Angle between the beam and the direction of view on framed particles: arrows along the beam are seen too."""

_RIM = 36
"""Pixels about framed particles at the canvas' sides: fits the texts beside them."""


def center_on(session: Session, position: FloatArray) -> None:
    """Centre the view on a position (3,) xyz in Å; zoom in to `CLOSE_ZOOM` if it is farther, never out."""
    _center(session, position)
    view = camera(session.viewer)
    view.zoom = max(view.zoom, CLOSE_ZOOM)
    stand_behind(session, position[None])


def frame(session: Session, positions: FloatArray, *, margin: float) -> None:
    """Show positions (N, 3) xyz in Å whole in 3D, with so many Å about each, the longest line between them level."""
    viewer = session.viewer
    middle = (positions.min(axis=0) + positions.max(axis=0)) / 2
    viewer.dims.ndisplay = 3
    _center(session, middle)
    view = camera(viewer)
    direction, up = _level_view(positions)
    view.set_view_direction(tuple(direction), tuple(up))
    on_screen = np.abs(layers.flip(positions - middle) @ screen_axes(viewer).T).max(axis=0) + margin
    height, width = canvas_size(viewer)
    room = np.maximum(np.array([width, height]) - 2 * _RIM, 1)
    view.zoom = float((room / (2 * on_screen)).min())
    stand_behind(session, positions)


def _center(session: Session, position: FloatArray) -> None:
    viewer, place = session.viewer, tuple(float(part) for part in layers.flip(position))
    first = viewer.dims.ndim - 3
    viewer.dims.set_point((first, first + 1, first + 2), place)
    camera(viewer).center = place


def _level_view(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Direction of view and the upward direction, both (3,) zyx, that put the longest line across the beam level."""
    flat = positions[:, :2] - positions[:, :2].mean(axis=0)
    level = np.linalg.svd(flat)[2][0] if len(positions) > 1 and np.ptp(flat, axis=0).any() else np.array([1.0, 0])
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
        if layer.depiction == "plane" and layers.role(layer) == layers.TOMOGRAM:
            row = float(np.clip(wanted / layers.voxel_size(layer), 0, layer.data.shape[0] - 1))
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
    return layers.flip(np.array(camera(viewer).center, float)[-3:])


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
