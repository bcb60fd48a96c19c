"""Partners: true particles and the predicted ones beside them, which a slab shows together or not at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import match_particles
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui.layers.canvas import sliced_axis
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.layers.particle_values import drawn_particles


@dataclass(frozen=True, eq=False)
class Partners:
    """Rows of a layer of true particles whose partners have red arrows, and how deep in the slab these lie.

    napari slices each layer by itself: at a slab's face it would show green arrows without the red ones beside them.

    Parameters
    ----------
    rows : (M,) of the layer's points.
    depths : (M,) coordinates of the partners, Å, along the axis that is sliced.
    axis : that axis, 0 to 2 for x to z.
    """

    rows: Rows
    depths: FloatArray
    axis: int

    def level(self, particles: Particles, rows: Rows) -> Particles:
        """Particles of these points, those with partners as deep in the slab as these: in the slice nothing moves."""
        places, depths = particles.positions.copy(), np.full(int(max(rows.max(), self.rows.max())) + 1, np.nan)
        depths[self.rows] = self.depths
        given = np.isfinite(depths[rows])
        places[given, self.axis] = depths[rows][given]
        return particles.replace(positions=places)


def partners_of(viewer: ViewerModel, truth: Points, predicted: Points, *, tolerance: float) -> Partners | None:
    """The partners of true particles among predicted ones, up to ``tolerance`` Å away; None where nothing is sliced."""
    dims = viewer.dims
    if dims.ndisplay != 2 or dims.ndim < 3:
        return None
    axis = dims.ndim - 1 - sliced_axis(viewer)
    (own, own_rows), (others, _) = drawn_particles(truth), drawn_particles(predicted)
    if own.rotations is None or others.rotations is None:
        return None
    try:
        places, true_places = match_particles(others, own, tolerance=tolerance)
    except InputError:
        return None  # Of another tomogram.
    if not len(places):
        return None
    return Partners(own_rows[true_places], others.positions[places, axis], axis)
