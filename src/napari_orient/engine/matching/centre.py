"""Where in a map its symmetry's axes meet: a template's box centre need not be there."""

from __future__ import annotations

import numpy as np
import torch

from napari_orient.engine.matching.reference import Reference, build_reference
from napari_orient.engine.rotations import FloatArray, Symmetry

_SPAN = 64


def symmetry_centre(density: FloatArray, voxel_size: float, group: Symmetry) -> FloatArray:
    """Point through which the group's axes run in a map (n, n, n), (3,) xyz in Å from the origin ``(n - 1) / 2``.

    Each turned copy is laid over the map where the two correlate best; the moves that this takes tell the centre.
    Along an axis that no rotation of the group turns, the centre stays at the origin.
    """
    if len(group) == 1:
        return np.zeros(3)
    reference = build_reference(np.asarray(density, np.float32), voxel_size, resolution=4 * voxel_size)
    moves = [_move(reference, matrix) for matrix in group.matrices[1:]]
    rows = np.concatenate([np.eye(3) - matrix for matrix in group.matrices[1:]])
    centre: FloatArray = np.linalg.lstsq(rows, np.concatenate(moves), rcond=1e-6)[0]
    return centre


def _move(reference: Reference, matrix: FloatArray) -> FloatArray:
    """Move in Å, (3,) xyz, that lays the map turned by a matrix best over the map itself."""
    step = 1 / (4.2 * reference.radius)
    line = torch.fft.fftfreq(_SPAN, 1 / (_SPAN * step), dtype=torch.float32)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    frequency = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    inside = frequency.norm(dim=-1) <= 1 / reference.resolution
    turn = torch.as_tensor(matrix, dtype=torch.float32)
    own, other = (
        torch.view_as_complex(reference.sample(places)[..., 0].contiguous())
        for places in (frequency[inside], frequency[inside] @ turn)
    )
    cross = torch.zeros(_SPAN**3, dtype=torch.complex64)
    cross[inside] = own * other.conj()
    match = torch.fft.fftshift(torch.fft.ifftn(cross.reshape(_SPAN, _SPAN, _SPAN)).real).numpy()
    peak = np.array(np.unravel_index(match.argmax(), match.shape))
    place = [_vertex(np.take(match, range(peak[axis] - 1, peak[axis] + 2), axis), peak, axis) for axis in (2, 1, 0)]
    return (np.array(place) - _SPAN // 2) / (_SPAN * step)


def _vertex(slab: FloatArray, peak: FloatArray, axis: int) -> float:
    """Place of the peak along an axis, from the parabola through three values."""
    at = [slice(None) if other == axis else int(peak[other]) for other in range(3)]
    low, middle, high = slab[tuple(at)]
    curve = low - 2 * middle + high
    return float(peak[axis] + (0.5 * (low - high) / curve if curve else 0.0))
