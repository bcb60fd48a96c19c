"""A particle's patch beside its reference in a pose, for judging by eye whether the pose is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_orient.engine.devices import single_threaded
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import WedgeOptions
from napari_orient.engine.particles import FloatArray, Tomogram
from napari_orient.engine.patches import PatchArray, cut_patches, normalised
from napari_orient.engine.tomogram.tilt_geometry import tilt_geometry


@dataclass(frozen=True, eq=False)
class ReferenceComparison:
    """Cubes (n, n, n) [z, y, x] about one particle, all in the tomogram's contrast; None where something is not given.

    The reference has the tomogram's missing wedge, and the patch is low-passed to the reference's resolution: they
    differ by the pose and the noise.

    ``difference`` is the reference in the predicted minus that in the true pose; without a true pose, the patch minus
    the scaled reference in the predicted pose.
    """

    patch: PatchArray
    predicted: PatchArray | None
    true: PatchArray | None
    difference: PatchArray | None


@single_threaded()
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
    """Patch at a position (3,) xyz in Å, and the reference rotated to the predicted and to the true pose.

    ``wedge`` is the tomogram's, as `estimate_patch_wedge` estimates it; None for no missing wedge.

    Raises
    ------
    InputError
        If the patch is larger than the tomogram.
    """
    patch = cut_patches(tomogram, np.asarray(position)[None], side=side)[0]
    if reference is None or rotation is None:
        return ReferenceComparison(patch, None, None, None)
    voxel_size = tomogram.voxel_size
    patch = _low_passed(patch, reference.resolution, voxel_size)
    predicted = rotated_reference(reference, rotation, side=side, voxel_size=voxel_size, wedge=wedge)
    # The reference is brighter than its surroundings; in most tomograms the particle is darker.
    sign = np.float32(-1 if float((patch * predicted).sum()) < 0 else 1)
    predicted = sign * predicted
    if true_rotation is None:
        share = np.float32((patch * predicted).sum() / max(float((predicted**2).sum()), 1e-9))
        return ReferenceComparison(patch, predicted, None, patch - share * predicted)
    true = sign * rotated_reference(reference, true_rotation, side=side, voxel_size=voxel_size, wedge=wedge)
    return ReferenceComparison(patch, predicted, true, predicted - true)


def estimate_patch_wedge(tomogram: Tomogram, positions: FloatArray, *, side: int) -> Wedge:
    """Missing wedge estimated from patches about some of the positions (N, 3); ±60° about y where it is unclear."""
    return tilt_geometry(tomogram, positions, WedgeOptions(), side=side).wedge


def _low_passed(patch: PatchArray, resolution: float, voxel_size: float) -> PatchArray:
    """The patch low-passed to a resolution in Å; mean 0 and deviation 1."""
    inside = frequencies(len(patch), voxel_size).norm(dim=-1) <= 1 / resolution
    return normalised(torch.fft.ifftn(torch.fft.fftn(torch.from_numpy(patch)) * inside).real.numpy())


def rotated_reference(
    reference: Reference, rotation: FloatArray, *, side: int, voxel_size: float, wedge: Wedge | None = None
) -> PatchArray:
    """Reference rotated by (3, 3) about the centre voxel ``side // 2``, (side, side, side) [z, y, x].

    Without the coefficients that the wedge lacks; mean 0 and deviation 1, as of patches.
    """
    grid = frequencies(side, voxel_size)[:, :, : side // 2 + 1]
    nyquist = 1 / (2 * voxel_size) * (1 - 1e-6)
    inside = (grid.norm(dim=-1) <= 1 / reference.resolution) & (grid.abs().amax(dim=-1) < nyquist)
    inner = grid[inside]
    # The transform of the rotated map at k is that of the map at the inversely rotated k.
    values = reference.transform(inner @ torch.as_tensor(np.asarray(rotation, np.float32)))
    spectrum = torch.zeros(inside.shape, dtype=torch.complex64)
    angle = -2 * torch.pi * (side // 2) * voxel_size * inner.sum(-1)
    measured = torch.ones_like(angle) if wedge is None else wedge.weights(inner, 1 / (side * voxel_size))
    spectrum[inside] = values * torch.polar(measured, angle)
    return normalised(torch.fft.irfftn(spectrum, s=(side,) * 3).numpy())
