"""Whether to believe a discovery: what independent starts, half maps and posteriors say, and a plain verdict.

Whether two poses of a map look the same: a turn that the map itself cannot tell from none is no disagreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.discovery.search import Assignment
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.rotations import FloatArray, even_rotations, random_rotations

STRUCTURE, DOUBTFUL, NOTHING = "structure", "doubtful", "nothing"
_STRUCTURE, _NOTHING, _NOTHING_OF_ALL = 0.6, 0.35, 0.2
"""Share of the particles, and of all picks, that two starts must turn alike. Of noise, the picks that they happen to
agree on look like particles, and the others are set aside."""
_ABOVE_CHANCE = 3.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What speaks for a structure.

    Parameters
    ----------
    agreement : share of the particles that two independent starts turn alike, up to one common rotation: the map,
        turned both ways, is as alike as it is to itself turned by 20°. What the map does not show, such as which of
        its symmetry's copies, is no disagreement.
    chance_agreement : what two sets of random rotations reach by the same count.
    kept : share of the picks that look like particles; only these are counted.
    resolution, resolution_strict : Å at which the half maps' correlation falls below 0.143 and 0.5.
    peak : mean height of the best match over the mean of all, in their spreads; about 3.5 for noise.
    determined : share of the particles whose expected error is below 20°.
    """

    agreement: float
    chance_agreement: float
    kept: float
    resolution: float
    resolution_strict: float
    peak: float
    determined: float

    @property
    def grade(self) -> str:
        """``structure``, ``doubtful`` or ``nothing``: what independent starts agree on."""
        bar = max(_NOTHING, _ABOVE_CHANCE * self.chance_agreement)
        if self.agreement < bar or self.agreement * self.kept < _NOTHING_OF_ALL:
            return NOTHING
        return STRUCTURE if self.agreement >= _STRUCTURE and self.determined >= 0.5 else DOUBTFUL

    @property
    def words(self) -> str:
        """The verdict and its reasons, in a line or two."""
        agreed = (
            f"two independent starts turn {self.agreement:.0%} of the particles alike (chance "
            f"{self.chance_agreement:.0%})"
        )
        if self.kept < 0.5:
            agreed += f", and only {self.kept:.0%} of the picks look like particles"
        if self.grade == NOTHING:
            nothing = "These particles show no common structure at this noise"
            return f"{nothing}: {agreed}; a structure needs {_STRUCTURE:.0%}."
        reasons = (
            f"{agreed}; half maps agree to {self.resolution_strict:.0f} Å (FSC 0.5); "
            f"{self.determined:.0%} of the poses are determined."
        )
        if self.grade == STRUCTURE:
            return f"A structure was found: {reasons}"
        return f"Perhaps a structure; do not trust it yet: {reasons}"


NOT_EVALUATED = Verdict(
    agreement=0.0, chance_agreement=0.0, kept=1.0, resolution=np.inf, resolution_strict=np.inf, peak=0.0, determined=0.0
)
"""Before anything is known."""


def agreement(first: Assignment, second: Assignment, equivalences: Sequence[PoseEquivalence]) -> FloatArray:
    """Share of each class's particles, by the first guess, that the second turns alike and puts together, (K,).

    ``equivalences`` are those of the first guess's maps.
    """
    from scipy.optimize import linear_sum_assignment

    classes = len(equivalences)
    own, other = first.label.cpu().numpy(), second.label.cpu().numpy()
    table = np.array([[((own == a) & (other == b)).sum() for b in range(classes)] for a in range(classes)])
    _, partner = linear_sum_assignment(-table)
    shares = np.zeros(classes)
    turns, others = (assignment.rotations.double().cpu().numpy() for assignment in (first, second))
    for label, seen in enumerate(equivalences):
        counted = (own == label) & (first.share.cpu().numpy() > 0.5)
        rows = counted & (other == partner[label])
        if rows.sum() >= 3:
            shares[label] = seen.agreement(turns[rows], others[rows]).sum() / counted.sum()
    return shares


WITHIN_DEG = 20.0
"""Poses as alike as the map and itself turned by this much, about any axis, count as the same."""
_POINTS, _DETAIL, _LOWEST = 250, 5.0, 0.15
_AXES, _MEAN_OF = 60, 400
_TRIED, _ROWS, _BATCH = 80, 60, 64


class PoseEquivalence:
    """A map seen in poses, (N, P) complex each: what is not round of it, at a few frequencies of the tomogram.

    A symmetric copy of a pose looks the same, and so does any spin of what is round about an axis at the detail looked
    at, a fifth of the diameter.
    """

    def __init__(self, reference: Reference) -> None:
        from scipy.spatial.transform import Rotation

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

    def equivalent(self, first: Tensor, second: Tensor) -> NDArray[np.bool_]:
        """Whether looks (N, P) are as alike as those of poses 20° apart, (N,)."""
        equivalent: NDArray[np.bool_] = (_likeness(first, second) >= self._least).cpu().numpy()
        return equivalent

    def agreement(self, first: FloatArray, second: FloatArray) -> NDArray[np.bool_]:
        """Which of N poses (N, 3, 3) look alike in both, once the best one turn of the frame is taken off, (N,).

        ``first`` are in the map's frame; ``second`` in one of their own.
        """
        between = np.swapaxes(second, -1, -2) @ first
        rows, tried = evenly_spaced_rows(len(first), _ROWS), between[evenly_spaced_rows(len(first), _TRIED)]
        seen = self.of(first[rows])
        shares = [self.equivalent(seen, self.of(second[rows] @ turn)).mean() for turn in tried]
        return self.equivalent(self.of(first), self.of(second @ tried[int(np.argmax(shares))]))

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
