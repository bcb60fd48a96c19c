"""Evidence of the particles' size: whether they fit the template better at another scale, as with a wrong voxel size.

A voxel size that is 5 % too large in a tomogram's header makes everything 5 % larger in Å. Poses hardly suffer, but
positions and maps do. With the template scaled by s about its origin, ρ(x / s), its transform is T(s k) up to a
factor that the amplitude takes up. The poses found are fitted anew at five scales; the log-likelihood gains of the
same particles are compared, and a parabola through the best scale and its neighbours gives the size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import fit_poses
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.posterior import Poses

SCALES = (0.95, 0.98, 1.0, 1.02, 1.05)
"""Scales that are tried; a voxel size that is further off is outside what poses of the unscaled template reach."""
_LEAST = 4
"""Particles from which sizes are compared."""
_LIKELY = 0.5
"""Probability that a pose is right from which it counts; chosen."""
_SIGNIFICANT = 3.0
"""Standard errors by which the gain at another scale must be greater."""
_LEAST_DIFFERENCE = 0.025
"""Difference from 1 that is warned of: a microscope's pixel size is seldom calibrated to better than 2 %; chosen."""
_STEPS = 3
"""Gauss-Newton steps at each scale."""


@dataclass(frozen=True)
class SizeEvidence:
    """The scale at which particles fit a template best.

    Parameters
    ----------
    scale : size of the particles over that of the template, in the tomogram's Å.
    ratio : mean log-likelihood gain there over that of the unscaled template.
    standard_errors : by which it is greater, particle by particle.
    """

    scale: float
    ratio: float
    standard_errors: float

    @property
    def differs(self) -> bool:
        """Whether the particles are of another size than the template, beyond chance."""
        return self.standard_errors > _SIGNIFICANT and abs(self.scale - 1) > _LEAST_DIFFERENCE

    def text(self, voxel_size: float) -> str:
        """A warning to a person whose tomogram says that its voxels have such a size in Å."""
        return (
            f"the particles fit this template better at {self.scale:.2f} times its size ({self.ratio:.2f} times its "
            f"log-likelihood gain): is the voxel size of {voxel_size:.4g} Å right? {voxel_size / self.scale:.4g} Å "
            "would fit. Rotations hardly suffer, positions and maps do."
        )


@torch.no_grad()
def size_evidence(finder: PoseFinder, patches: Tensor, poses: Poses) -> SizeEvidence | None:
    """What patches (N, n, n, n) in the poses found say of the particles' size; None of too few.

    Parameters
    ----------
    poses : with shifts from the patches' centres, on any device.
    """
    rows = (finder.p_false(poses) < 1 - _LIKELY).logical_and(poses.p_right > _LIKELY).nonzero().squeeze(1)
    if len(rows) < _LEAST:
        return None
    poses, patches, size = poses.take(rows), patches[rows.to(patches.device)], finder.model.voxel_size
    model = finder.model.within(finder.reference.resolution * SCALES[-1])
    voxels = torch.round(poses.shifts / size)
    observed = model.observe(patches, voxels.to(patches.device))
    rotations, shifts = poses.rotations.to(patches.device), (poses.shifts - voxels * size).to(patches.device)
    gains = torch.stack(
        [
            fit_poses(
                scaled(finder.reference, scale), model, observed, rotations=rotations, shifts=shifts, steps=_STEPS
            ).log_likelihood_gain
            for scale in SCALES
        ]
    ).cpu()
    best, unscaled = int(gains.mean(1).argmax()), SCALES.index(1.0)
    difference = gains[best] - gains[unscaled]
    error = float(difference.std() / len(difference) ** 0.5)
    return SizeEvidence(
        scale=_vertex(gains.mean(1), best),
        ratio=float(gains[best].mean() / gains[unscaled].mean().clamp_min(1e-9)),
        standard_errors=float(difference.mean()) / error if error > 0 else 0.0,
    )


def scaled(reference: Reference, scale: float) -> Reference:
    """The reference of the map ρ(x / scale), up to a factor."""
    gradient = torch.tensor([1.0, scale, scale, scale], device=reference.device)
    table = (reference.table.reshape(-1, 2, 4) * gradient).reshape(-1, 8)
    return replace(
        reference,
        table=table,
        spacing=reference.spacing / scale,
        radius=reference.radius * scale,
        resolution=reference.resolution * scale,
    )


def _vertex(gain: Tensor, best: int) -> float:
    """Where the parabola through the best scale and its neighbours is greatest; the best itself at an end."""
    if best in (0, len(SCALES) - 1):
        return SCALES[best]
    x = torch.tensor(SCALES[best - 1 : best + 2], dtype=torch.float64)
    powers = torch.stack([x.square(), x, torch.ones_like(x)], dim=1)
    square, line, _ = torch.linalg.solve(powers, gain[best - 1 : best + 2].double()).tolist()
    return -line / (2 * square) if square < 0 else SCALES[best]
