"""What particles have in common that the reference does not explain: the sign of another molecule."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_orient.engine.model.forward import Imaging
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.refinement.poses import Poses

_LEAST_WEIGHT = 1e-6
_SPHERE_OVER_WEDGE = 1.5


@torch.no_grad()
def unexplained(reference: Reference, imaging: Imaging, patches: Tensor, poses: Poses) -> tuple[float, float]:
    """Power that patches have in common beyond a reference, over what it explains; and what noise may make of that.

    What each patch leaves of its fitted reference is turned back to the reference's frame and averaged, in two halves
    of the particles. Noise and neighbours differ between the halves; what is alike in both is density that the
    reference lacks. The second number is the standard deviation of the first where there is none.

    Parameters
    ----------
    imaging : of the tomogram, all coefficients.
    patches : (N, n, n, n), at least two.
    poses : the reference's in them.
    """
    reference, imaging = reference.to("cpu"), imaging.to("cpu")
    left = _left(reference, imaging, patches.cpu(), poses)
    halves = [Gridding(imaging.box, imaging.voxel_size) for _ in range(2)]
    for turn, half in enumerate(halves):
        half.add(left.take(torch.arange(turn, len(patches), 2)))
    (first, weight), (second, other) = (half.sums() for half in halves)
    laid = (weight * other) > 0
    both = (weight * other)[laid].sqrt()
    alike = float(((first * second.conj()).real[laid] / both).sum())
    power = reference.transform(halves[0].frequency[laid]).abs().square()
    explained = float((both * power).sum() * poses.amplitude.square().mean())
    scatter: float = (_SPHERE_OVER_WEDGE * len(imaging.steps) / 2) ** 0.5
    return alike / explained, 2 * scatter / explained


def _left(reference: Reference, imaging: Imaging, patches: Tensor, poses: Poses) -> Coefficients:
    """What the fitted reference leaves of patches, about the particles' centres, in the reference's units."""
    voxels = torch.round(poses.shifts / imaging.voxel_size)
    observed = torch.view_as_complex(imaging.observe(patches, voxels).movedim(1, -1).contiguous())
    angle = 2 * torch.pi * ((poses.shifts - voxels * imaging.voxel_size) @ imaging.frequency.T)
    shown = reference.transform(imaging.frequency @ poses.rotations) * poses.amplitude.clamp_min(0)[:, None]
    weight = imaging.weight.clamp_min(_LEAST_WEIGHT)
    values = observed * torch.polar(torch.ones_like(angle), angle) / weight - shown
    return Coefficients(values, weight.square(), imaging.frequency, poses.rotations)
