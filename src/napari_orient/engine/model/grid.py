"""Grids of a patch: frequencies of its coefficients, offsets of its voxels, shells, and the place of a peak in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.rotations import FloatArray

_LOWEST_IN_BALL = 0.15
"""Lowest frequency of a half ball over the highest: below, a map's transform hardly changes with a rotation."""


def frequencies(side: int, voxel_size: float) -> Tensor:
    """Frequencies of all coefficients of a patch, (n, n, n, 3) xyz in cycles/Å, indexed [kz, ky, kx]."""
    line = torch.fft.fftfreq(side, voxel_size, dtype=torch.float32)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def offsets(side: int, voxel_size: float) -> Tensor:
    """Places of a patch's voxels from its centre voxel ``side // 2``, (n, n, n, 3) xyz in Å."""
    line = (torch.arange(side, dtype=torch.float32) - side // 2) * voxel_size
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def radial_frequencies(side: int, voxel_size: float) -> FloatArray:
    """Lengths of the frequencies of all coefficients of a patch, (n, n, n) in cycles/Å, indexed [kz, ky, kx]."""
    length: FloatArray = frequencies(side, voxel_size).norm(dim=-1).numpy()
    return length


def shells(side: int) -> NDArray[np.int_]:
    """The shell of frequency, one coefficient wide, of each coefficient of a patch, (n, n, n)."""
    return np.rint(radial_frequencies(side, 1 / side)).astype(int)


def peak_place(values: FloatArray, allowed: NDArray[np.bool_] | None = None) -> FloatArray:
    """Place of the highest value in a cube, (3,) [z, y, x] in voxels, by a parabola along each axis.

    Parameters
    ----------
    values : (n, n, n); opposite faces adjoin.
    allowed : (n, n, n) where the peak is looked for; None is everywhere.
    """
    searched = values if allowed is None else np.where(allowed, values, -np.inf)
    highest = np.array(np.unravel_index(searched.argmax(), values.shape))
    offset = []
    for step in np.eye(3, dtype=int):
        low, middle, high = (values[tuple((highest + by * step) % len(values))] for by in (-1, 0, 1))
        curvature = low - 2 * middle + high
        offset.append(float((low - high) / (2 * curvature)) if curvature < 0 else 0.0)
    place: FloatArray = highest + offset
    return place


def unit_phase(angle: Tensor) -> Tensor:
    """Complex numbers of length 1 at angles in radians: what a shift multiplies coefficients by."""
    return torch.polar(torch.ones_like(angle), angle)


def soft_ball(distance: Tensor, radius: float, edge: float) -> Tensor:
    """1 within the radius, 0 beyond radius + edge, half a cosine between; all in Å."""
    weight: Tensor = 0.5 + 0.5 * torch.cos(torch.pi * ((distance - radius) / edge).clamp(0, 1))
    return weight


def half_ball(count: int, highest: float) -> Tensor:
    """About ``count`` frequencies evenly in half a ball, (P, 3) xyz in cycles/Å; the others are their Friedel mates.

    They reach up to the highest given; those below 0.15 of it, which hardly change with a rotation, are left out.
    """
    step = (2 * torch.pi / 3 / count) ** (1 / 3) * highest
    line = torch.arange(-highest, highest + step, step) + step / 3
    points = torch.cartesian_prod(line, line, line)
    length = points.norm(dim=-1)
    return points[(length <= highest) & (points[:, 2] > 0) & (length > _LOWEST_IN_BALL * highest)]


def half_sphere(side: int, voxel_size: float, resolution: float) -> tuple[Tensor, Tensor]:
    """One of each pair of Friedel mates within a resolution, nearest the origin first, without the origin.

    Returns
    -------
    index : (M,) into a flattened half-spectrum (``torch.fft.rfftn``) of the patch.
    frequency : (M, 3) xyz in cycles/Å.
    """
    half = side // 2 + 1
    grid = frequencies(side, voxel_size)[:, :, :half].clone()
    radius = grid.norm(dim=-1)
    x, y, z = grid.unbind(-1)
    upper = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    # Coefficients at the Nyquist plane are their own mates' doubles: leave them out.
    nyquist = 1 / (2 * voxel_size) * (1 - 1e-6)
    inside = upper & (radius <= 1 / resolution) & (grid.abs().amax(dim=-1) < nyquist)
    index = inside.flatten().nonzero().squeeze(1)
    order = torch.argsort(radius.flatten()[index], stable=True)
    index = index[order]
    return index, grid.reshape(-1, 3)[index]
