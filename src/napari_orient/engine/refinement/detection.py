"""Whether a particle is there at all: its score beside what noise alone reaches, and beside the other picks'."""

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

_ROUNDS = 20
_FIRST_SHARE, _LEAST_SHARE = 0.2, 0.01
"""Share of picks on nothing: where to begin, and what is always allowed for, in picks that are yet to come."""
_LEAST_APART = 3.0
"""A particle scores at least so many deviations of noise's scores above them, usually."""
_LEAST_SPREAD, _LEAST_NOISE_SPREAD = 0.1, 0.15
_ODD = 0.02
"""Share of particles that score anything between noise and the usual: half outside, hidden, or bent."""
_EVEN = 4000


@dataclass(frozen=True)
class DetectionModel:
    """Scores of picks on nothing, and of particles, in one tomogram.

    Parameters
    ----------
    noise, noise_spread : mean and standard deviation of the scores that noise alone reaches in the same search.
    usual, usual_spread : those of the particles.
    share : of the picks that are on nothing.
    """

    noise: float
    noise_spread: float
    usual: float
    usual_spread: float
    share: float

    @classmethod
    def learnt(cls, noise: Tensor, scores: Tensor) -> DetectionModel:
        """From scores in noise, and in picks of which some may be on nothing; by expectation and maximisation."""
        mean, spread = float(noise.mean()), max(float(noise.std()), _LEAST_NOISE_SPREAD * float(noise.mean()))
        least = mean + _LEAST_APART * spread
        usual = max(float(scores.quantile(0.9)), least)
        believed = cls(mean, spread, usual, max(_LEAST_SPREAD * usual, (usual - mean) / 4), _FIRST_SHARE)
        for _ in range(_ROUNDS):
            absent = believed.p_false(scores)
            there = 1 - absent
            count = there.sum().clamp_min(1e-6)
            usual = max(float((there * scores).sum() / count), least)
            wide = float(((there * (scores - usual).square()).sum() / count).sqrt())
            share = min(max(float(absent.mean()), _LEAST_SHARE), 1 - _LEAST_SHARE)
            believed = cls(mean, spread, usual, max(_LEAST_SPREAD * usual, wide), share)
        return believed

    def p_false(self, score: Tensor) -> Tensor:
        """Probability that nothing is there, (N,), given what a pick scores, (N,); the more it scores, the less."""
        scale = self.noise_spread * math.sqrt(6) / math.pi
        mode = self.noise - 0.5772 * scale
        score = score.clamp(min(mode, self.usual), self.usual)
        # The best of many matches with noise is Gumbel's.
        step = (score - mode) / scale
        nothing = -step - torch.exp(-step) - math.log(scale)
        usual = torch.exp(-((score - self.usual) / self.usual_spread).square() / 2) / self.usual_spread / 2.5066
        particle = torch.log((1 - _ODD) * usual + _ODD / max(self.usual - mode, self.usual_spread))
        return torch.sigmoid(nothing - particle + math.log(self.share / (1 - self.share)))


def error_with_false_picks(sure_deg: FloatArray, p_false: FloatArray, group: Symmetry) -> tuple[FloatArray, FloatArray]:
    """Expected error in degrees, and probability of being within 20°, of picks that may be on nothing, (N,) each.

    Where nothing is there the pose is a random one, modulo the group.

    Parameters
    ----------
    sure_deg : (N,) expected errors if there are particles.
    absence : (N,) probabilities that there are none.
    """
    blind = random_pose_angles(group)
    expected = np.sqrt((1 - p_false) * np.square(sure_deg) + p_false * np.square(blind).mean())
    return expected, (1 - p_false) * within_from_rms(sure_deg, 20) + p_false * (blind <= 20).mean()


def random_pose_covariance(group: Symmetry) -> Tensor:
    """Covariance of the turn to a random pose, (3, 3) radians² in the reference frame, modulo the group."""
    turns = torch.from_numpy(_turns_of_chance(group.matrices.tobytes()))
    covariance: Tensor = turns.T @ turns / len(turns)
    return covariance.float()


def random_pose_angles(group: Symmetry) -> FloatArray:
    """Angles in degrees, evenly distributed as those of random poses modulo the group are."""
    angles: FloatArray = np.degrees(np.linalg.norm(_turns_of_chance(group.matrices.tobytes()), axis=1))
    return angles


@lru_cache(maxsize=8)
def _turns_of_chance(matrices: bytes) -> FloatArray:
    """Turns in radians to even poses, (N, 3), modulo the group of these matrices: asked for at every single pick."""
    group = Symmetry("", np.frombuffer(matrices).reshape(-1, 3, 3), np.eye(3))
    poses = torch.from_numpy(nearest_copy(even_rotations(_EVEN), np.eye(3)[None], group))
    turns: FloatArray = matrix_to_rotvec(poses).numpy()
    return turns
