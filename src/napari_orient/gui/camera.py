"""Flying to a particle: the slice in 2D, the slab and the camera's centre in 3D."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_orient.engine.particles import FloatArray
from napari_orient.gui import layers
from napari_orient.gui.canvas import camera
from napari_orient.gui.session import Session

CLOSE = 0.45
"""Pixels an Å, at least, when one looks at a single particle: a ribosome is then over a hundred pixels wide."""


def center_on(session: Session, position: FloatArray) -> None:
    """Nothing; the viewer looks at a position (3,) xyz in Å, closely: nearer if it was far, never further."""
    viewer, place = session.viewer, tuple(float(part) for part in layers.flip(position))
    first = viewer.dims.ndim - 3
    viewer.dims.set_point((first, first + 1, first + 2), place)
    view = camera(viewer)
    view.center = place
    view.zoom = max(view.zoom, CLOSE)
    _move_slabs(session, place)


def _move_slabs(session: Session, place: tuple[float, ...]) -> None:
    """Bring the slab that shows in 3D to the particle's height."""
    for layer in session.tomograms():
        if layer.depiction == "plane" and layers.role(layer) == layers.TOMOGRAM:
            row = float(np.clip(place[0] / layers.voxel_size(layer), 0, layer.data.shape[0] - 1))
            layer.plane.position = (row, *layer.plane.position[1:])


def camera_center(viewer: ViewerModel) -> FloatArray:
    """Where the camera looks, (3,) xyz in Å."""
    return layers.flip(np.array(camera(viewer).center, float)[-3:])
