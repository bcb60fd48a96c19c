"""Whether two poses of a map look the same: a turn that the map itself cannot tell from none is no disagreement."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from napari_orient.engine.model.reference import Reference
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.rotations import FloatArray, even_rotations, random_rotations

WITHIN_DEG = 20.0
"""Poses as alike as the map and itself turned by this much, about any axis, count as the same."""
_POINTS, _DETAIL, _LOWEST = 250, 5.0, 0.15
_AXES, _MEAN_OF = 60, 400
_TRIED, _ROWS, _BATCH = 80, 60, 64


class Looks:
    """A map seen in poses, (N, P) complex each: what is not round of it, at a few frequencies of the tomogram.

    A symmetric copy of a pose looks the same, and so does any spin of what is round about an axis at the detail looked
    at, a fifth of the diameter.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._frequency = _half_ball(min(_DETAIL / (2 * reference.radius), 1 / reference.resolution))
        self._frequency = self._frequency.to(reference.device)
        self._round = torch.zeros(1, device=reference.device)
        self._round = self.of(even_rotations(_MEAN_OF)).mean(0)
        rng = np.random.default_rng(0)
        starts = random_rotations(_AXES, rng)
        axes = rng.normal(size=(_AXES, 3))
        axes *= np.radians(WITHIN_DEG) / np.linalg.norm(axes, axis=1, keepdims=True)
        turned = starts @ Rotation.from_rotvec(axes).as_matrix()
        self._least = float(_likeness(self.of(starts), self.of(turned)).mean())

    def of(self, rotations: FloatArray) -> Tensor:
        """How the map looks, turned by each rotation (N, 3, 3)."""
        turns = torch.as_tensor(rotations, dtype=torch.float32, device=self._frequency.device)
        parts = [self._reference.transform(self._frequency @ part) for part in turns.split(_BATCH)]
        return torch.cat(parts) - self._round

    def alike(self, first: Tensor, second: Tensor) -> NDArray[np.bool_]:
        """Whether looks (N, P) are as alike as those of poses 20° apart, (N,)."""
        alike: NDArray[np.bool_] = (_likeness(first, second) >= self._least).cpu().numpy()
        return alike

    def agreement(self, first: FloatArray, second: FloatArray) -> NDArray[np.bool_]:
        """Which of N poses (N, 3, 3) look alike in both, once the best one turn of the frame is taken off, (N,).

        ``first`` are in the map's frame; ``second`` in one of their own.
        """
        between = np.swapaxes(second, -1, -2) @ first
        rows, tried = evenly_spaced_rows(len(first), _ROWS), between[evenly_spaced_rows(len(first), _TRIED)]
        seen = self.of(first[rows])
        shares = [self.alike(seen, self.of(second[rows] @ turn)).mean() for turn in tried]
        return self.alike(self.of(first), self.of(second @ tried[int(np.argmax(shares))]))

    def chance(self, count: int) -> float:
        """What two sets of so many random rotations reach by the same count, the mean of three draws."""
        rng = np.random.default_rng(0)
        count = min(max(count, 3), 400)
        draws = [self.agreement(random_rotations(count, rng), random_rotations(count, rng)).mean() for _ in range(3)]
        return float(np.mean(draws))


def _likeness(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of looks (N, P), (N,)."""
    length = first.norm(dim=1) * second.norm(dim=1)
    likeness: Tensor = (first.conj() * second).real.sum(1) / length.clamp_min(1e-20)
    return likeness


def _half_ball(radius: float) -> Tensor:
    """Frequencies even in half a ball, (P, 3) in cycles/Å: of the rest Friedel's law tells."""
    step = (2 * np.pi / 3 / _POINTS) ** (1 / 3) * radius
    line = torch.arange(-radius, radius + step, step) + step / 3
    points = torch.cartesian_prod(line, line, line)
    length = points.norm(dim=-1)
    return points[(length <= radius) & (points[:, 2] > 0) & (length > _LOWEST * radius)]
