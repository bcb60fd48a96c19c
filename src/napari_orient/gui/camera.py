"""Camera moves to a particle: the slice in 2D, slab and centre in 3D."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_orient.engine.particles import FloatArray
from napari_orient.gui import layers
from napari_orient.gui.canvas import camera
from napari_orient.gui.session import Session

CLOSE_ZOOM = 0.45
"""Screen pixels per Å at a single particle, at least: a ribosome is then over 100 pixels wide."""


def center_on(session: Session, position: FloatArray) -> None:
    """Centre the view on a position (3,) xyz in Å; zoom in to `CLOSE_ZOOM` if it is farther, never out."""
    viewer, place = session.viewer, tuple(float(part) for part in layers.flip(position))
    first = viewer.dims.ndim - 3
    viewer.dims.set_point((first, first + 1, first + 2), place)
    view = camera(viewer)
    view.center = place
    view.zoom = max(view.zoom, CLOSE_ZOOM)
    _move_slabs(session, place)


def _move_slabs(session: Session, place: tuple[float, ...]) -> None:
    """Move the slabs shown in 3D to the height of a position (zyx in Å)."""
    for layer in session.index.tomograms():
        if layer.depiction == "plane" and layers.role(layer) == layers.TOMOGRAM:
            row = float(np.clip(place[0] / layers.voxel_size(layer), 0, layer.data.shape[0] - 1))
            layer.plane.position = (row, *layer.plane.position[1:])


def camera_center(viewer: ViewerModel) -> FloatArray:
    """Centre of the camera, (3,) xyz in Å."""
    return layers.flip(np.array(camera(viewer).center, float)[-3:])
