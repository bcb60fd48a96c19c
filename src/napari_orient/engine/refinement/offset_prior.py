"""Prior on the offset between pick and particle, estimated from the whole list (empirical Bayes).

Picks of one list are off alike: the particle lies at an offset t from its pick, usually near a common one::

    p(t) = (1 - ε) N(t; μ, Σ) + ε U(within reach)

μ and Σ are estimated from the better determined half of the particles. A pose whose shift t has covariance S, and whose
rotation has the covariance C with it, then has the posterior mean

    t - w S (S + Σ)⁻¹ (t - μ),        R · exp(-w C (S + Σ)⁻¹ (t - μ)),

with w the probability that the pick is no outlier: shrinkage towards the common offset, strong where noise leaves the
shift uncertain and none where it does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.representations import rotvec_to_matrix

_LEAST_COUNT = 24
"""Particles from which the prior is estimated; of fewer, a common offset is not told from chance."""
_OUTLIER_SHARE = 0.05
"""ε, share of picks whose offset is like no other's; chosen."""
_LEAST_SPREAD = 2.0
"""Å, least standard deviation of the offsets along an axis: no list of picks is better than that."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""


def apply_offset_prior(poses: Poses, *, centre: Tensor, max_shift: float) -> Poses:
    """Poses of all particles of a tomogram, shrunk to their common offset from the picks; a few stay as they are.

    Parameters
    ----------
    poses : with shifts from the picks; on the CPU.
    centre : (3,) xyz in Å from the reference's origin: where its axes meet. Symmetric copies of a pose have their
        origin elsewhere, but not this point.
    max_shift : Å along each axis that a pick may be off.
    """
    moved = poses.about(centre)
    prior = OffsetPrior.estimate(moved, max_shift=max_shift)
    return poses if prior is None else prior.shrink(moved).about(-centre)


@dataclass(frozen=True, eq=False)
class OffsetPrior:
    """Distribution of the offsets between the picks of a list and their particles.

    Parameters
    ----------
    mean : (3,) μ, xyz in Å from the pick.
    covariance : (3, 3) Σ, Å², without what the noise adds.
    log_outlier : logarithm of ε U, in 1/Å³.
    """

    mean: Tensor
    covariance: Tensor
    log_outlier: float

    @classmethod
    def estimate(cls, poses: Poses, *, max_shift: float) -> OffsetPrior | None:
        """Estimate from the better determined half of the particles; None of few.

        Parameters
        ----------
        poses : shifts from the picks, of particles without symmetry or with axes through their origin.
        """
        if len(poses.shifts) < _LEAST_COUNT:
            return None
        error = poses.expected_error_deg
        half = poses.take((error <= error.median()).nonzero().squeeze(1))
        mean = half.shifts.median(0).values
        spread = _MAD_TO_SD * (half.shifts - mean).abs().median(0).values
        noise = half.shift_covariance.diagonal(dim1=-2, dim2=-1).median(0).values
        covariance = torch.diag((spread.square() - noise).clamp_min(_LEAST_SPREAD**2))
        return cls(mean, covariance, math.log(_OUTLIER_SHARE) - 3 * math.log(2 * max(max_shift, _LEAST_SPREAD)))

    def p_inlier(self, poses: Poses) -> Tensor:
        """Probability w that an offset found is no outlier, (N,)."""
        precision = torch.linalg.inv(poses.shift_covariance + self.covariance)
        off = poses.shifts - self.mean
        distance = (off * (precision @ off[:, :, None])[..., 0]).sum(-1)
        log = torch.logdet(precision) / 2 - distance / 2 - 1.5 * math.log(2 * math.pi) + math.log(1 - _OUTLIER_SHARE)
        return torch.sigmoid(log - self.log_outlier)

    def shrink(self, poses: Poses) -> Poses:
        """The same poses at the mean of their posterior with this prior."""
        precision = torch.linalg.inv(poses.shift_covariance + self.covariance)
        pull = precision @ (poses.shifts - self.mean)[:, :, None]
        weight = self.p_inlier(poses)[:, None, None]
        coupling, covariance = poses.coupling, poses.shift_covariance
        return replace(
            poses,
            rotations=poses.rotations @ rotvec_to_matrix(-(weight * (coupling @ pull))[..., 0]),
            shifts=poses.shifts - (weight * (covariance @ pull))[..., 0],
            rotation_covariance=poses.rotation_covariance - weight * (coupling @ precision @ coupling.mT),
            shift_covariance=covariance - weight * (covariance @ precision @ covariance),
        )
