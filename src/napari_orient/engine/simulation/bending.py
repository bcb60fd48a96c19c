"""Flexible macromolecules: a third of the map, beyond a plane, bent about a hinge in that plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_orient.engine.particles import FloatArray
from napari_orient.engine.simulation.projection import Bodies, slice_table, unit_peak
from napari_orient.engine.templates import Template

_BENT_SHARE = 1 / 3
"""Share of the mass that is bent: that of a ribosome's small subunit."""
_INTERFACE = 30.0
"""Å on both sides of the cut whose matter the hinge is the middle of; about a domain's thickness."""


def bent_bodies(
    template: Template, positions: FloatArray, rotations: FloatArray, angles_deg: FloatArray, *, pixel: float
) -> list[Bodies]:
    """Copies of a template with its origin at positions (N, 3) Å, a third of each bent by its own angle (N,).

    The map is cut across its longest principal axis; the hinge lies in the middle of the cut, along the second axis.
    Rotations are those of the larger part.
    """
    density = unit_peak(template, pixel=pixel)
    voxels = np.stack(np.meshgrid(*(np.arange(float(n)) for n in density.shape), indexing="ij"), axis=-1)
    place = (voxels[..., ::-1] - template.centre) * template.voxel_size
    beyond, hinge, axis = _cut(density, place)
    bends = Rotation.from_rotvec(np.radians(angles_deg)[:, None] * axis).as_matrix()
    bodies = []
    for part, bend in ((~beyond, np.eye(3)), (beyond, bends)):
        table = slice_table(np.where(part, density, np.float32(0)), template.voxel_size, pixel=pixel)
        own = hinge + bend @ (table.centre - hinge)
        moved = positions + np.einsum("nij,nj->ni", rotations, np.broadcast_to(own, positions.shape))
        bodies.append(Bodies(table, moved, rotations @ bend))
    return bodies


def _cut(density: NDArray[np.float32], place: FloatArray) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    """Which voxels are bent (Z, Y, X), the hinge's middle (3,) Å, and its direction (3,)."""
    weight = np.clip(density, 0, None).ravel()
    points = place.reshape(-1, 3)
    centre = weight @ points / weight.sum()
    spread = ((points - centre) * weight[:, None]).T @ (points - centre)
    _, principal = np.linalg.eigh(spread)
    along = (points - centre) @ principal[:, 2]
    order = np.argsort(along)
    share = np.cumsum(weight[order]) / weight.sum()
    level = along[order][np.searchsorted(share, 1 - _BENT_SHARE)]
    near = np.abs(along - level) < _INTERFACE
    hinge = (weight * near) @ points / (weight * near).sum()
    return (along > level).reshape(density.shape), hinge, principal[:, 1]
