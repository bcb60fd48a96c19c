"""Prior on the offset between pick and particle, estimated from the whole list (empirical Bayes).

Picks of one list are off alike: the particle lies at an offset t from its pick, usually near a common one::

    p(t) = (1 - ε) N(t; μ, Σ) + ε U(within reach)

μ and Σ are estimated from the better determined half of the particles, medians and median deviations; of few from all,
by expectation and maximisation of the same mixture, with conjugate priors that count as a few particles. A pose whose
shift t has covariance S, and whose rotation has the covariance C with it, then has the posterior mean

    t - w S (S + Σ)⁻¹ (t - μ),        R · exp(-w C (S + Σ)⁻¹ (t - μ)),

with w the probability that the pick is no outlier: shrinkage towards the common offset, strong where noise leaves the
shift uncertain and none where it does not. The competing modes of a particle are weighed by the prior at their shifts.
A particle that was found at an improbable offset, or whose pose is uncertain, is searched again about μ: the pose of
greater posterior is taken, and all modes compete. In much noise the best match may be one of noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import Symmetry

_LEAST_COUNT = 3
"""Particles from which the prior is estimated."""
_MANY = 24
"""Particles from which medians of the better determined half give it; of fewer these are too uncertain."""
_USUAL_SPREAD = 1 / 3
"""Standard deviation of offsets along an axis, over the largest shift, that is expected beforehand; chosen."""
_PRIOR_COUNT = 4
"""Particles that the usual spread counts as, beside those of a list of few; chosen."""
_EM_STEPS = 10
"""Steps of expectation and maximisation."""
_OUTLIER_SHARE = 0.05
"""ε, share of picks whose offset is like no other's; chosen."""
_SURE = 0.95
"""Probability that a pose is right below which the particle is searched again about the common offset; chosen."""
_LEAST_SPREAD = 2.0
"""Å, least standard deviation of the offsets along an axis: no list of picks is better than that."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""


def _log_outlier(max_shift: float) -> float:
    return math.log(_OUTLIER_SHARE) - 3 * math.log(2 * max(max_shift, _LEAST_SPREAD))


FindAt = Callable[[Tensor, Tensor], Poses]
"""Poses of these rows with shifts from their picks, searched about an offset (3,) xyz in Å from the picks alone."""


def apply_offset_prior(
    finder: PoseFinder, poses: Poses, find_at: FindAt, *, batch: int, centre: Tensor
) -> Stream[Step, tuple[Poses, Tensor]]:
    """Poses of all particles of a tomogram, drawn to their common offset from the picks; too few stay as they are.

    With them, (N,) log-odds of false over true picks by their offsets: a false pick is found at any of those searched.

    Parameters
    ----------
    poses : with shifts from the picks; on the CPU.
    batch : particles to search again at a time.
    centre : (3,) xyz in Å from the reference's origin: where its axes meet. Symmetric copies of a pose have their
        origin elsewhere, but not this point.
    """
    moved = poses.about(centre)
    prior = OffsetPrior.estimate(moved, max_shift=finder.options.search.max_shift)
    if prior is None:
        return poses, torch.zeros_like(poses.score)
    moved = prior.weigh(moved)
    rows, chosen = ((prior.p_inlier(moved) < 0.5) | (moved.p_right < _SURE)).nonzero().squeeze(1), list[Poses]()
    for some in rows.split(batch) if len(rows) else ():
        again, before = prior.weigh(find_at(some, prior.mean).about(centre)), moved.take(some)
        scale = finder.calibration.likelihood_scale
        chosen.append(prior.choose(before, again, group=finder.group, likelihood_scale=scale))
        yield Step(min(batch * len(chosen), len(rows)), len(rows), "Searching again about the common offset")
    if chosen:
        moved = moved.with_rows(rows, Poses.concatenated(chosen))
    return prior.shrink(moved).about(-centre), prior.log_odds_of_false(moved)


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
        """Estimate from the better determined half of the particles, or from all of few; None of one or two.

        Parameters
        ----------
        poses : shifts from the picks, of particles without symmetry or with axes through their origin.
        """
        if len(poses.shifts) < _LEAST_COUNT:
            return None
        if len(poses.shifts) < _MANY:
            return cls._of_few(poses, max_shift=max_shift)
        error = poses.expected_error_deg
        half = poses.take((error <= error.median()).nonzero().squeeze(1))
        mean = half.shifts.median(0).values
        spread = _MAD_TO_SD * (half.shifts - mean).abs().median(0).values
        noise = half.shift_covariance.diagonal(dim1=-2, dim2=-1).median(0).values
        covariance = torch.diag((spread.square() - noise).clamp_min(_LEAST_SPREAD**2))
        return cls(mean, covariance, _log_outlier(max_shift))

    @classmethod
    def _of_few(cls, poses: Poses, *, max_shift: float) -> OffsetPrior:
        """Estimate by expectation and maximisation, with a Gaussian prior on μ and a scaled inverse χ² prior on Σ."""
        usual = max(_USUAL_SPREAD * max_shift, _LEAST_SPREAD) ** 2
        prior = cls(poses.shifts.median(0).values, usual * torch.eye(3).to(poses.shifts), _log_outlier(max_shift))
        own = poses.shift_covariance.diagonal(dim1=-2, dim2=-1)
        for _ in range(_EM_STEPS):
            spread = prior.covariance.diagonal()
            inlier = (prior.p_inlier(poses) * poses.p_right)[:, None]
            # Of each particle's true offset along each axis, the posterior mean and variance.
            kept = spread / (spread + own)
            mean = (inlier * kept / spread * poses.shifts).sum(0) / ((inlier * kept / spread).sum(0) + 1 / usual)
            square = (kept * (poses.shifts - mean)).square() + kept * own
            variance = (_PRIOR_COUNT * usual + (inlier * square).sum(0)) / (_PRIOR_COUNT + inlier.sum(0))
            prior = replace(prior, mean=mean, covariance=torch.diag(variance.clamp_min(_LEAST_SPREAD**2)))
        return prior

    def p_inlier(self, poses: Poses) -> Tensor:
        """Probability w that an offset found is no outlier, (N,)."""
        return torch.sigmoid(self._log_inlier(poses) - self.log_outlier)

    def _log_inlier(self, poses: Poses) -> Tensor:
        return self._log_density(poses.shifts[:, None], poses.shift_covariance)[:, 0]

    def _log_density(self, shifts: Tensor, covariance: Tensor) -> Tensor:
        """Logarithm of the density of inliers, (N, K) in 1/Å³, at shifts (N, K, 3) of a covariance (N, 3, 3) each."""
        precision = torch.linalg.inv(covariance + self.covariance)
        off = shifts - self.mean
        distance = torch.einsum("nki,nij,nkj->nk", off, precision, off)
        log: Tensor = torch.logdet(precision)[:, None] / 2 - distance / 2 - 1.5 * math.log(2 * math.pi)
        return log + math.log(1 - _OUTLIER_SHARE)

    def log_odds_of_false(self, poses: Poses) -> Tensor:
        """Log-odds of false over true picks, (N,), by the offsets that they were found at."""
        uniform = self.log_outlier - math.log(_OUTLIER_SHARE)
        return uniform - torch.logaddexp(self._log_inlier(poses), torch.full_like(poses.score, self.log_outlier))

    def weigh(self, poses: Poses) -> Poses:
        """The same poses, whose modes are weighed by the prior at their shifts."""
        log = self._log_density(poses.mode_shifts, poses.shift_covariance)
        log = torch.logaddexp(log, torch.full_like(log, self.log_outlier))
        return replace(poses, mode_log_weights=poses.mode_log_weights + log)

    def choose(self, before: Poses, again: Poses, *, group: Symmetry, likelihood_scale: float) -> Poses:
        """Of two poses of each particle, weighed, the one of greater posterior; the modes of both compete."""
        scale = likelihood_scale / before.noise_level
        gain = self._log_posterior(again, scale) - self._log_posterior(before, scale)
        better = (gain > 0).nonzero().squeeze(1)
        chosen, other = before.with_rows(better, again.take(better)), again.with_rows(better, before.take(better))
        return chosen.with_modes_of(other, group)

    def _log_posterior(self, poses: Poses, likelihood_scale: Tensor) -> Tensor:
        prior = torch.logaddexp(self._log_inlier(poses), torch.full_like(poses.score, self.log_outlier))
        return likelihood_scale * poses.score.clamp_min(0).square() / 2 + prior

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
