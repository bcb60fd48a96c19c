"""A particle's patch beside its reference in a pose: what one looks at to see whether the pose is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.noise import mean_power, window
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge, estimate_wedge
from napari_orient.engine.particles import FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import PatchArray, cut_patches, normalised

_SAMPLE, _FEWEST = 48, 8
"""Patches that the wedge is found from, at most and at least."""


@dataclass(frozen=True, eq=False)
class ReferenceComparison:
    """Cubes (n, n, n) [z, y, x] about one particle, all in the tomogram's contrast; None where something is unknown.

    The reference has lost what the tomogram's missing wedge takes from the patch, and the patch what is finer than the
    reference: what differs is the pose, and the noise.

    ``difference`` is what the predicted pose shows and the true one does not; without a true pose, what the patch shows
    and the predicted pose does not.
    """

    patch: PatchArray
    predicted: PatchArray | None
    true: PatchArray | None
    difference: PatchArray | None


def compare_with_reference(
    tomogram: Tomogram,
    position: FloatArray,
    *,
    side: int,
    rotation: FloatArray | None = None,
    true_rotation: FloatArray | None = None,
    reference: Reference | None = None,
    wedge: Wedge | None = None,
) -> ReferenceComparison:
    """The patch at a position (3,) xyz in Å, and the reference turned to the predicted and to the true pose.

    ``wedge`` is the tomogram's, as `wedge_of` finds it; None where nothing is missing.

    Raises
    ------
    InputError
        If the patch is larger than the tomogram.
    """
    patch = cut_patches(tomogram, np.asarray(position)[None], side=side)[0]
    if reference is None or rotation is None:
        return ReferenceComparison(patch, None, None, None)
    voxel_size = tomogram.voxel_size
    patch = _as_sharp(patch, reference.resolution, voxel_size)
    predicted = rotated_reference(reference, rotation, side=side, voxel_size=voxel_size, wedge=wedge)
    # The reference is brighter than its surroundings; in most tomograms the particle is darker.
    sign = np.float32(-1 if float((patch * predicted).sum()) < 0 else 1)
    predicted = sign * predicted
    if true_rotation is None:
        share = np.float32((patch * predicted).sum() / max(float((predicted**2).sum()), 1e-9))
        return ReferenceComparison(patch, predicted, None, patch - share * predicted)
    true = sign * rotated_reference(reference, true_rotation, side=side, voxel_size=voxel_size, wedge=wedge)
    return ReferenceComparison(patch, predicted, true, predicted - true)


def estimate_patch_wedge(tomogram: Tomogram, positions: FloatArray, *, side: int) -> Wedge | None:
    """The wedge that patches about some of the positions (N, 3) show; None where they are too few to tell."""
    if len(positions) < _FEWEST:
        return None
    chosen = positions[evenly_spaced_rows(len(positions), _SAMPLE)]
    patches = torch.from_numpy(cut_patches(tomogram, chosen, side=side, centring="rounded"))
    view = window(side, tomogram.voxel_size, side * tomogram.voxel_size / 2)
    return estimate_wedge(mean_power(patches, view), tomogram.voxel_size)


def _as_sharp(patch: PatchArray, resolution: float, voxel_size: float) -> PatchArray:
    """The patch without what is finer than a resolution in Å; mean 0 and deviation 1."""
    inside = frequencies(len(patch), voxel_size).norm(dim=-1) <= 1 / resolution
    return normalised(torch.fft.ifftn(torch.fft.fftn(torch.from_numpy(patch)) * inside).real.numpy())


def rotated_reference(
    reference: Reference, rotation: FloatArray, *, side: int, voxel_size: float, wedge: Wedge | None = None
) -> PatchArray:
    """The reference turned by a rotation (3, 3) about the centre voxel ``side // 2``, (side, side, side) [z, y, x].

    Without what the wedge misses; mean 0 and deviation 1, as patches have them.
    """
    grid = frequencies(side, voxel_size)[:, :, : side // 2 + 1]
    nyquist = 1 / (2 * voxel_size) * (1 - 1e-6)
    inside = (grid.norm(dim=-1) <= 1 / reference.resolution) & (grid.abs().amax(dim=-1) < nyquist)
    found = grid[inside]
    # The transform of the turned map at k is that of the map at k turned back.
    values = reference.sample(found @ torch.as_tensor(np.asarray(rotation, np.float32)))[..., 0]
    spectrum = torch.zeros(inside.shape, dtype=torch.complex64)
    angle = -2 * torch.pi * (side // 2) * voxel_size * found.sum(-1)
    measured = torch.ones_like(angle) if wedge is None else wedge.weights(found, 1 / (side * voxel_size))
    spectrum[inside] = torch.view_as_complex(values.contiguous()) * torch.polar(measured, angle)
    return normalised(torch.fft.irfftn(spectrum, s=(side,) * 3).numpy())
