"""A tomogram held whole in a device's memory: patches about many positions are gathered there.

The patches are those of `patches.cut_patches`, to rounding: same centring, same resampling, same mean beyond the edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.devices import free_gpu_memory
from napari_orient.engine.particles import FloatArray, Tomogram
from napari_orient.engine.patches import ROUNDING, SINC_REACH, nearest_voxels, patch_ratio

_MOST_SHARE = 0.5
"""Share of a GPU's free memory that a tomogram may take; the rest is for patches. Chosen."""
_SLAB_VOXELS = 16_000_000
"""Voxels that are read and copied to the device together: 64 MB."""
_GATHERED_VOXELS = 64_000_000
"""Voxels of all patches that are gathered together: 256 MB, and as much again for what they become."""


def fits_on(tomogram: Tomogram, device: torch.device) -> bool:
    """Whether a GPU has the memory to hold the tomogram beside the patches; never a CPU, which maps the file."""
    return device.type == "cuda" and 4 * math.prod(tomogram.density.shape) < _MOST_SHARE * free_gpu_memory(device)


@dataclass(frozen=True, eq=False)
class ResidentTomogram:
    """A tomogram whose density (Z, Y, X), float32, lies on a device."""

    tomogram: Tomogram
    density: Tensor

    @classmethod
    def of(cls, tomogram: Tomogram, device: torch.device) -> ResidentTomogram:
        """The tomogram on a device, copied slab by slab."""
        shape = tomogram.density.shape
        density = torch.empty(shape, device=device)
        planes = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
        for first in range(0, shape[0], planes):
            # A copy, for torch takes no memory that may only be read.
            slab = np.array(tomogram.density[first : first + planes], np.float32)
            density[first : first + planes].copy_(torch.from_numpy(slab))
        return cls(tomogram, density)

    def cut(
        self, positions: FloatArray, *, side: int, voxel_size: float | None = None, centring: str = "rounded"
    ) -> Tensor:
        """Cubes of density about positions (N, 3), (N, side, side, side), on the device; see `patches.cut_patches`."""
        ratio = patch_ratio(self.tomogram, side, voxel_size, beyond=False)
        nearest, residual = nearest_voxels(positions, self.tomogram.voxel_size, centring=centring)
        plain = ratio == 1 and not np.abs(residual).any()
        half = side // 2 if plain else math.ceil(side / 2 * ratio) + math.ceil(SINC_REACH * max(ratio, 1)) + 1
        together = max(1, _GATHERED_VOXELS // (2 * half) ** 3)
        patches = torch.empty(len(nearest), side, side, side, device=self.density.device)
        for first in range(0, len(nearest), together):
            rows = slice(first, first + together)
            cubes = self._gathered(torch.as_tensor(nearest[rows] - half), 2 * half)
            if not plain:
                cubes = self._resampled(cubes, torch.as_tensor(residual[rows]), side=side, ratio=ratio, half=half)
            patches[rows] = normalised_cubes(cubes)
        return patches

    def _gathered(self, corners: Tensor, side: int) -> Tensor:
        """Cubes (N, side, side, side) from corners (N, 3) zyx; beyond the edge, the mean of what is inside."""
        shape = torch.tensor(self.density.shape)
        line = corners[:, :, None] + torch.arange(side)
        there = ((line >= 0) & (line < shape[:, None])).to(self.density.device)
        z, y, x = line.clamp_min(0).minimum(shape[:, None] - 1).to(self.density.device).unbind(1)
        cubes = self.density[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
        if bool(there.all()):
            return cubes
        inside = there[:, 0, :, None, None] & there[:, 1, None, :, None] & there[:, 2, None, None, :]
        return torch.where(inside, cubes, _mean_of(cubes, inside & cubes.isfinite()))

    def _resampled(self, cubes: Tensor, residual: Tensor, *, side: int, ratio: float, half: int) -> Tensor:
        targets = (torch.arange(side) - side // 2) * ratio + half
        finite = cubes.isfinite()
        if not bool(finite.all()):
            # A value that is no number would spread over the whole patch.
            cubes = torch.where(finite, cubes, _mean_of(cubes, finite))
        for axis in range(3):
            weights = _sinc_weights(targets + residual[:, axis, None], cubes.shape[-1], max(ratio, 1.0)).to(cubes)
            moved = cubes.movedim(1 + axis, 1)
            cubes = (weights @ moved.flatten(2)).unflatten(2, moved.shape[2:]).movedim(1, 1 + axis)
        return cubes


def normalised_cubes(cubes: Tensor) -> Tensor:
    """The cubes (N, n, n, n) at mean 0 and deviation 1; constant ones and values that are no numbers become 0."""
    finite = cubes.isfinite()
    mean = _mean_of(cubes, finite)
    centred = torch.where(finite, cubes - mean, 0.0)
    # Once more, for what rounding has left of a large mean.
    centred = centred - centred.mean((1, 2, 3), keepdim=True)
    deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    return torch.where(deviation > ROUNDING * mean.abs(), centred / deviation.clamp_min(1e-30), 0.0)


def _mean_of(cubes: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen voxels of each cube, (N, 1, 1, 1); 0 where none is."""
    total = torch.where(chosen, cubes, 0.0).sum((1, 2, 3), keepdim=True)
    return total / chosen.sum((1, 2, 3), keepdim=True).clamp_min(1)


def _sinc_weights(targets: Tensor, count: int, scale: float) -> Tensor:
    """Weights (N, targets, count) that interpolate a line of voxels; see `patches`."""
    distance = (targets[..., None] - torch.arange(count)) / scale
    near = torch.where(distance.abs() < SINC_REACH, torch.cos(distance * (math.pi / (2 * SINC_REACH))).square(), 0.0)
    weights = torch.sinc(distance) * near
    return weights / weights.sum(-1, keepdim=True)
