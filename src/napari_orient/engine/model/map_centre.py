"""Centre of a map: of its mass, and the point where the axes of its symmetry meet."""

from __future__ import annotations

import numpy as np
import torch

from napari_orient.engine.model.grid import frequencies, peak_place
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry

_BRIGHT = 0.25
"""Share of a map's highest density that is taken off before its mass is summed: what is below is solvent."""
_SPAN = 64
"""Nodes along each axis of the grid on which a shift is found; 1 / 4.2 radii apart in frequency."""


def centre_of_mass(density: FloatArray, voxel_size: float) -> FloatArray:
    """Centre of the bright density's mass, (3,) xyz in Å from the box's centre."""
    line = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    mass = np.clip(density - _BRIGHT * density.max(), 0, None)
    along = [mass.sum(axis=other) for other in ((0, 1), (0, 2), (1, 2))]
    centre: FloatArray = np.array([(part * line).sum() for part in along]) / max(float(mass.sum()), 1e-12)
    return centre


def symmetry_centre(density: FloatArray, voxel_size: float, group: Symmetry) -> FloatArray:
    """Point through which the group's axes run in a map (n, n, n), (3,) xyz in Å from the origin ``(n - 1) / 2``.

    A copy rotated by S correlates best with the map where it is shifted by ``(1 - S) centre``; the centre is the least
    squares solution over the group. Along an axis that no rotation of the group changes, it stays at the origin.
    """
    if len(group) == 1:
        return np.zeros(3)
    reference = build_reference(np.asarray(density, np.float32), voxel_size, resolution=4 * voxel_size)
    shifts = [_shift_between(reference, matrix) for matrix in group.matrices[1:]]
    rows = np.concatenate([np.eye(3) - matrix for matrix in group.matrices[1:]])
    centre: FloatArray = np.linalg.lstsq(rows, np.concatenate(shifts), rcond=1e-6)[0]
    return centre


def _shift_between(reference: Reference, matrix: FloatArray) -> FloatArray:
    """Shift in Å, (3,) xyz, at which the map rotated by a matrix correlates best with the map itself."""
    step = 1 / (4.2 * reference.radius)
    frequency = frequencies(_SPAN, 1 / (_SPAN * step)).reshape(-1, 3)
    inside = frequency.norm(dim=-1) <= 1 / reference.resolution
    rotation = torch.as_tensor(matrix, dtype=torch.float32)
    own, other = (reference.transform(places) for places in (frequency[inside], frequency[inside] @ rotation))
    cross = torch.zeros(_SPAN**3, dtype=torch.complex64)
    cross[inside] = own * other.conj()
    match = torch.fft.fftshift(torch.fft.ifftn(cross.reshape(_SPAN, _SPAN, _SPAN)).real).numpy()
    return (peak_place(match)[::-1] - _SPAN // 2) / (_SPAN * step)
