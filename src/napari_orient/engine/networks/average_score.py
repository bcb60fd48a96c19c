"""Score of a patch against the average of the others, each in the pose that a network found: false picks score less.

A network answers for each patch alone. If its poses are right, though, the patches of a tomogram, sampled in them,
have one map in common. With v_i such a view of pick i, whitened, and p_i the probability that its pose is right,

    s_i = v_i · m_i / |m_i|,    m_i = Σ p_j v_j    over all j that do not overlap with i,

is a matched filter with a template that owes nothing to patch i: what another molecule, a membrane or the rest of a
gold bead is posed by is not in m_i. Particles and false picks differ in s as in a template's scores (`detection`).
Mean and deviation of both follow by expectation and maximisation, with the network's log-odds l_i as evidence beside
the score:

    p_i = sigmoid(l_i + log [N(s_i; particles) / Gumbel(s_i; false)] + prior).

Where few picks are false, their scores are those of the mirrored patches, which the same network posed: they hold
the particle's size and density, and no particle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.particles import FloatArray
from napari_orient.engine.statistics.detection import DetectionModel

_SHARE = 0.7
"""Share of right poses among the simulated patches that probabilities are calibrated with."""
_PSEUDO = 5.0
"""Picks that this share counts as where a tomogram's own is estimated; chosen on real-like simulations."""
_SWEEPS = 20
"""Sweeps of expectation and maximisation; chosen, more than convergence needs."""
_LEAST_RIGHT = 4.0
"""Sum of the probabilities of right poses from which there is an average. Of ten real-like boxes of another species, at
one and a half times their noise, it says more than the network alone from 2 or 4 on (chosen on seeds 20 to 24)."""
_MIRRORED_COUNT = 5.0
"""Picks that the mirrored patches count as among the false ones. In simulated cells 2 to 20 serve alike."""
_LEAST_SPREAD = 0.1
"""Least standard deviation of the particles' scores, over their mean; as in `detection`."""
_LEAST_FALSE_SPREAD = 0.15
"""The same of false picks; as in `detection`."""


@dataclass(frozen=True, eq=False)
class PosedPatches:
    """Patches in the poses that a network found.

    Parameters
    ----------
    positions : (N, 3) xyz in Å, of the picks.
    right : (N,) probability by the network alone that each pose is right.
    log_odds : (N,) of that, before calibration.
    rotations : (N, 3, 3) found, reference frame -> patch frame.
    views : (N, F) the whitened patches, sampled in their poses.
    """

    positions: FloatArray
    right: Tensor
    log_odds: Tensor
    rotations: Tensor
    views: Tensor

    def take(self, rows: Tensor) -> PosedPatches:
        """Some of the patches."""
        some = (column[rows] for column in (self.right, self.log_odds, self.rotations, self.views))
        return PosedPatches(self.positions[rows.numpy()], *some)

    def apart_from(self, sample: PosedPatches, radius: float) -> Tensor:
        """Whether these picks (N,) and those of a sample (M,) lie farther apart than a radius in Å, (N, M)."""
        return torch.cdist(torch.from_numpy(self.positions), torch.from_numpy(sample.positions)) > radius


def joined_patches(parts: Sequence[PosedPatches]) -> PosedPatches:
    """The patches of all parts."""
    names = ("right", "log_odds", "rotations", "views")
    columns = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    return PosedPatches(np.concatenate([part.positions for part in parts]), *columns)


@dataclass(frozen=True, eq=False)
class PoseEvidence:
    """What says beside the network's own log-odds how likely the poses of one tomogram are right.

    Parameters
    ----------
    prior : log-odds that a pick of this tomogram has a right pose, over those where probabilities were calibrated.
    average : scores of patches; None where too few poses are right.
    """

    prior: float = 0.0
    average: AverageScore | None = None

    @classmethod
    def estimate(cls, sample: PosedPatches, mirrored: PosedPatches, *, radius: float) -> PoseEvidence:
        """Estimate from some picks of a tomogram and from mirror images of some of their patches.

        Parameters
        ----------
        radius : Å about a pick within which others show the same particle.
        """
        once = _once(sample, radius)
        prior = prior_log_odds(sample.right, once)
        weights = with_prior(sample.right, prior)
        if float((weights * once).sum()) < _LEAST_RIGHT or not sample.apart_from(sample, radius).any():
            return cls(prior)
        average, prior = AverageScore.estimate(sample, weights, mirrored, radius=radius)
        return cls(prior, average)

    def p_right(self, patches: PosedPatches) -> Tensor:
        """Probability that each pose is right, (N,)."""
        log_ratio = 0.0 if self.average is None else self.average.log_ratio(patches)
        return with_prior(patches.right, self.prior + log_ratio)


@dataclass(frozen=True, eq=False)
class AverageScore:
    """Scores of patches against the average of a tomogram's picks, and how those of particles and false picks differ.

    Parameters
    ----------
    sample : the picks that are averaged.
    weights : (M,) their probabilities of a right pose.
    radius : Å about a pick within which no pick counts in the average that it is scored with.
    scores : their distributions.
    """

    sample: PosedPatches
    weights: Tensor
    radius: float
    scores: DetectionModel

    @classmethod
    def estimate(
        cls, sample: PosedPatches, weights: Tensor, mirrored: PosedPatches, *, radius: float
    ) -> tuple[AverageScore, float]:
        """Estimate the distributions of scores, and, given these, the prior log-odds of right poses."""
        once = _once(sample, radius)
        own, of_mirrored = (_scores(patches, sample, weights, radius) for patches in (sample, mirrored))
        scores = _distributions(own, weights, of_mirrored)
        for _ in range(_SWEEPS):
            evident = with_prior(sample.right, scores.log_ratio(own))
            scores = _distributions(own, with_prior(evident, prior_log_odds(evident, once)), of_mirrored)
        found = cls(sample, weights, radius, scores)
        return found, prior_log_odds(with_prior(sample.right, scores.log_ratio(own)), once)

    def score(self, patches: PosedPatches) -> Tensor:
        """Scores (N,) of patches in their poses; 0 where no pick of the sample is left to compare with."""
        return _scores(patches, self.sample, self.weights, self.radius)

    def log_ratio(self, patches: PosedPatches) -> Tensor:
        """Log-likelihood ratio (N,) of particles over false picks by their scores."""
        return self.scores.log_ratio(self.score(patches))


def _scores(patches: PosedPatches, sample: PosedPatches, weights: Tensor, radius: float) -> Tensor:
    """Scores (N,) of patches against the averages of a sample's views by weights (M,), as far as they lie apart."""
    averages = (patches.apart_from(sample, radius).to(weights) * weights) @ sample.views
    scores: Tensor = (patches.views * averages).sum(1) / averages.norm(dim=1).clamp_min(1e-6)
    return scores


def _once(sample: PosedPatches, radius: float) -> Tensor:
    """Weights (N,) by which picks of one particle, which lie within a radius in Å, count together as one."""
    return 1 / (~sample.apart_from(sample, radius)).sum(1).to(sample.right)


def _distributions(scores: Tensor, p_right: Tensor, mirrored: Tensor) -> DetectionModel:
    """The distributions of scores (N,), given how likely each is a particle's, and scores of mirror images (M,)."""
    mean, spread = _weighted(scores, p_right)
    start, width = float(mirrored.mean()), float(mirrored.std(correction=0))
    width = max(width, _LEAST_FALSE_SPREAD * abs(start))
    p_false, count = 1 - p_right, float((1 - p_right).sum()) + _MIRRORED_COUNT
    false = (float((p_false * scores).sum()) + _MIRRORED_COUNT * start) / count
    square = float((p_false * (scores - false).square()).sum())
    square += _MIRRORED_COUNT * (width**2 + (start - false) ** 2)
    false_spread = max(math.sqrt(square / count), _LEAST_FALSE_SPREAD * abs(false))
    return DetectionModel(
        noise=false,
        noise_spread=false_spread,
        typical=max(mean, false + false_spread),
        typical_spread=max(spread, _LEAST_SPREAD * mean),
        false_share=0.5,
    )


def _weighted(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of values (N,) of these weights (N,)."""
    total = weights.sum().clamp_min(1e-6)
    mean = (weights * values).sum() / total
    return float(mean), float(((weights * (values - mean).square()).sum() / total).sqrt())


def prior_log_odds(right: Tensor, once: Tensor) -> float:
    """Log-odds, >= 0, of right poses in a tomogram over those of the calibration, from calibrated probabilities (N,).

    Picks of one particle count as one, by the weights ``once`` (N,): ten picks of one place say no more than one.

    Expectation and maximisation of the share of right poses (Saerens et al. 2002, eq. 2.4), with the calibration's
    share as some picks more: few picks change it little. It only raises probabilities: low ones are as often a matter
    of noise as of false picks, and noise is in each of them already.
    """
    share = calibrated = math.log(_SHARE / (1 - _SHARE))
    for _ in range(_SWEEPS):
        sum_right = float((with_prior(right, share - calibrated) * once).sum())
        mean = (sum_right + _PSEUDO * _SHARE) / (float(once.sum()) + _PSEUDO)
        share = math.log(mean / (1 - mean))
    return max(share - calibrated, 0.0)


def with_prior(right: Tensor, prior: Tensor | float) -> Tensor:
    """Probabilities (N,) where the log-odds of right poses beforehand are so much higher."""
    return torch.sigmoid(torch.logit(right.double(), eps=1e-9) + prior).to(right)
