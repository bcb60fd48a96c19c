"""Detection: the probability that a pick is false, from its score, by a mixture of two distributions fitted by EM.

The score s of a pick, the best of all rotations and places in the search, is distributed as

    p(s) = π Gumbel(s; noise) + (1 - π) [(1 - ε) N(s; particles) + ε U].

A false pick reaches the best of many matches with noise, which is Gumbel's; its mean and deviation are measured by
the same search in simulated noise (`model.noise.simulate_noise_patches`). Particles score about a mean of their own; a
few, partly outside or hidden, score anything between. π, mean and deviation of the particles are fitted by expectation
and maximisation. The posterior probability of the first component is ``p_false``: such a pose is a random one, and
expected errors and confidence count it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.representations import matrix_to_rotvec
from napari_orient.engine.rotations import FloatArray, even_rotations, within_from_rms
from napari_orient.engine.symmetry import Symmetry, nearest_copy

_EM_STEPS = 20
"""Steps of expectation and maximisation."""
_FIRST_FALSE_SHARE = 0.2
"""π, share of false picks before the first step; chosen."""
_LEAST_FALSE_SHARE = 0.01
"""Least π: false picks are always possible, in picks that are still to come too. Chosen."""
_LEAST_SEPARATION = 3.0
"""Standard deviations of the noise's scores that the particles' mean score lies above theirs, at least; chosen."""
_LEAST_SPREAD = 0.1
"""Least standard deviation of the particles' scores, over their mean; chosen, for few picks."""
_LEAST_NOISE_SPREAD = 0.15
"""Least standard deviation of the noise's scores, over their mean: 32 of them give it only to 13 %. Chosen."""
_UNTYPICAL_SHARE = 0.02
"""ε, share of particles whose score lies anywhere between noise and the typical: half outside, hidden, bent. Chosen."""
_EULER_GAMMA = 0.5772
"""Mean of a Gumbel distribution of mode 0 and scale 1."""
_RANDOM_POSES = 4000
"""Evenly distributed rotations that stand for a random pose."""


@dataclass(frozen=True)
class DetectionModel:
    """Distribution of the scores of false picks, and of particles, in one tomogram.

    Parameters
    ----------
    noise, noise_spread : mean and standard deviation of the scores that noise alone reaches in the same search.
    typical, typical_spread : those of the particles.
    false_share : π, share of the picks that are false.
    """

    noise: float
    noise_spread: float
    typical: float
    typical_spread: float
    false_share: float

    @classmethod
    def fitted(cls, noise: Tensor, scores: Tensor) -> DetectionModel:
        """Fit to scores in noise, and in picks of which some may be false, by expectation and maximisation."""
        mean, spread = float(noise.mean()), max(float(noise.std()), _LEAST_NOISE_SPREAD * float(noise.mean()))
        least = mean + _LEAST_SEPARATION * spread
        typical = max(float(scores.quantile(0.9)), least)
        model = cls(mean, spread, typical, max(_LEAST_SPREAD * typical, (typical - mean) / 4), _FIRST_FALSE_SHARE)
        for _ in range(_EM_STEPS):
            p_false = model.p_false(scores)
            p_true = 1 - p_false
            count = p_true.sum().clamp_min(1e-6)
            typical = max(float((p_true * scores).sum() / count), least)
            deviation = float(((p_true * (scores - typical).square()).sum() / count).sqrt())
            share = min(max(float(p_false.mean()), _LEAST_FALSE_SHARE), 1 - _LEAST_FALSE_SHARE)
            model = cls(mean, spread, typical, max(_LEAST_SPREAD * typical, deviation), share)
        return model

    def p_false(self, score: Tensor, *, log_odds: Tensor | float = 0.0) -> Tensor:
        """Probability that a pick of a score is false, (N,); it never grows with the score, (N,).

        Parameters
        ----------
        log_odds : of false over true picks by other evidence; see `offset_prior`.
        """
        return torch.sigmoid(math.log(self.false_share / (1 - self.false_share)) + log_odds - self.log_ratio(score))

    def log_ratio(self, score: Tensor) -> Tensor:
        """Log-likelihood ratio of a particle over a false pick by the score, (N,); it never falls with the score."""
        scale = self.noise_spread * math.sqrt(6) / math.pi
        mode = self.noise - _EULER_GAMMA * scale
        score = score.clamp(min(mode, self.typical), self.typical)
        step = (score - mode) / scale
        log_false = -step - torch.exp(-step) - math.log(scale)
        gaussian = torch.exp(-((score - self.typical) / self.typical_spread).square() / 2)
        gaussian = gaussian / (self.typical_spread * math.sqrt(2 * math.pi))
        uniform = 1 / max(self.typical - mode, self.typical_spread)
        return torch.log((1 - _UNTYPICAL_SHARE) * gaussian + _UNTYPICAL_SHARE * uniform) - log_false


def error_and_confidence(
    if_right_deg: FloatArray,
    p_right: FloatArray,
    if_wrong_deg: FloatArray,
    group: Symmetry,
    *,
    rotvecs: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Expected error in degrees, and probability of being within 20°, of poses that may be wrong, (N,) each.

    Parameters
    ----------
    if_right_deg, if_wrong_deg : (N,) expected errors of poses near the right mode, and of others.
    p_right : (N,) probability that a pose is near the right mode.
    group : symmetry; a wrong pose is as often within 20° as a random one.
    rotvecs : (M, 3) rotation vectors to random poses, where a prior restricts them; None of all rotations.
    """
    expected = np.sqrt(p_right * np.square(if_right_deg) + (1 - p_right) * np.square(if_wrong_deg))
    if rotvecs is None:
        by_chance = random_pose_confidence(group)
    else:
        by_chance = float((np.degrees(np.linalg.norm(rotvecs, axis=1)) <= 20).mean())
    return expected, p_right * within_from_rms(if_right_deg, 20) + (1 - p_right) * by_chance


def random_pose_covariance(group: Symmetry, rotvecs: FloatArray | None = None) -> Tensor:
    """Covariance of the rotation to a random pose, (3, 3) radians² in the reference frame, modulo the group.

    Parameters
    ----------
    rotvecs : as in `error_and_confidence`.
    """
    vectors = torch.from_numpy(_random_rotvecs(group.matrices.tobytes()) if rotvecs is None else rotvecs)
    covariance: Tensor = vectors.T @ vectors / len(vectors)
    return covariance.float()


def random_pose_error_deg(group: Symmetry) -> float:
    """Root-mean-square error of a random pose modulo the group, in degrees (132° for C1): that of an unknown pose."""
    return float(np.sqrt(np.square(random_pose_angles(group)).mean()))


def random_pose_confidence(group: Symmetry) -> float:
    """Probability that a random pose is within 20° of the truth modulo the group: the confidence of an unknown one."""
    return float((random_pose_angles(group) <= 20).mean())


def random_pose_angles(group: Symmetry) -> FloatArray:
    """Angles from a pose to random ones modulo the group, (N,) degrees."""
    angles: FloatArray = np.degrees(np.linalg.norm(_random_rotvecs(group.matrices.tobytes()), axis=1))
    return angles


@lru_cache(maxsize=8)
def _random_rotvecs(matrices: bytes) -> FloatArray:
    """Rotation vectors in radians to evenly distributed poses, (N, 3), modulo the group of these matrices."""
    group = Symmetry("", np.frombuffer(matrices).reshape(-1, 3, 3), np.eye(3))
    poses = torch.from_numpy(nearest_copy(even_rotations(_RANDOM_POSES), np.eye(3)[None], group))
    rotvecs: FloatArray = matrix_to_rotvec(poses).numpy()
    return rotvecs
