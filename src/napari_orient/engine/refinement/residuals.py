"""Residuals of posed particles: their patches less the fitted template, about the particles' centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.grid import unit_phase
from napari_orient.engine.model.gridding import Coefficients
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.refinement.posterior import Poses

_LEAST_WEIGHT = 1e-6
"""Least whitened gain that a residual is divided by."""


def residuals(reference: Reference, model: ForwardModel, patches: Tensor, poses: Poses) -> Coefficients:
    """Patches less their fitted references, in the reference's units, on the CPU.

    Parameters
    ----------
    model : of the tomogram; its coefficients are taken.
    patches : (N, n, n, n).
    poses : the reference's in them, with shifts from the patches' centres.
    """
    reference, model, patches = reference.to("cpu"), model.to("cpu"), patches.cpu()
    voxels = torch.round(poses.shifts / model.voxel_size)
    observed = torch.view_as_complex(model.observe(patches, voxels).movedim(1, -1).contiguous())
    angle = 2 * torch.pi * ((poses.shifts - voxels * model.voxel_size) @ model.frequency.T)
    predicted = reference.transform(model.frequency @ poses.rotations) * poses.amplitude.clamp_min(0)[:, None]
    weight = model.whitened_gain.clamp_min(_LEAST_WEIGHT)
    values = observed * unit_phase(angle) / weight - predicted
    return Coefficients(values, weight.square(), model.frequency, poses.rotations)


def concatenated(parts: Sequence[Coefficients]) -> Coefficients:
    """The coefficients of several batches of patches through one model, in order."""
    values, rotations = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "rotations"))
    return replace(parts[0], values=values, rotations=rotations)
