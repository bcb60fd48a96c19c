"""How many folds particles have about an axis that their map is round about, and how each is spun.

Of N particles spun at random, what repeats n times a turn is one pattern times a phase of each, and noise. No phase
need be known to find the pattern: it is the leading eigenvector of the particles' covariance, and its eigenvalue stands
out if n is a multiple of the number of folds. The pattern then tells each particle's phase (Singer, Applied and
Computational Harmonic Analysis 30, 20, 2011). The largest eigenvalue of noise alone is known (Johnstone, Annals of
Statistics 29, 295, 2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, split_like

_CLEARLY = 2.0
"""How far an order must stand above the median order, its leading eigenvalue over the largest of noise alone."""
_SHARE = 0.25
"""Of the strongest order's excess, what another must have: the missing wedge lets a sixth show two orders away."""
_LEAST = 3
"""Fewest folds: whatever is a little squashed repeats twice a turn."""
_ALIKE = 0.5
"""Least likeness of the patterns that two halves of the particles show."""
_OVER = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Spins:
    """What particles tell of the folds about z.

    Parameters
    ----------
    order : folds; 0 where nothing tells.
    dihedral : whether the particles look alike upside down.
    heights : of each order, the leading eigenvalue over the largest that noise alone would give.
    turns : (N, 3, 3) that undo each particle's spin, to be multiplied from the right; none where nothing tells.
    """

    order: int
    dihedral: bool
    heights: dict[int, float]
    turns: FloatArray

    @property
    def name(self) -> str:
        """The group about z, its two-folds along x if it has any."""
        return f"{'D' if self.dihedral else 'C'}{self.order}"

    @property
    def words(self) -> str:
        """The folds and why, in a line."""
        others = max((height for order, height in self.heights.items() if order % self.order), default=0.0)
        return (
            f"Of what the round map leaves, {self.order} repeats a turn stand {self.heights[self.order]:.1f} times as "
            f"high as noise reaches, other folds {others:.1f} times at most."
        )


def told_spins(parts: dict[int, Tensor], *, dihedral: bool) -> Spins:
    """The folds that harmonics tell, and each particle's spin.

    Parameters
    ----------
    parts : of each order, (N, B) complex, as `Harmonics` has them.
    dihedral : whether the round map looks alike upside down: then half of the particles may stand so.
    """
    patterns = {order: _Patterns.of(part, dihedral=dihedral) for order, part in parts.items()}
    heights = {order: found.heights[0] for order, found in patterns.items()}
    order = told_order(heights)
    if not order or _likeness(parts[order], dihedral=dihedral) < _ALIKE:
        return Spins(0, dihedral, heights, np.zeros((0, 3, 3)))
    part, found = parts[order], patterns[order]
    over = np.zeros(len(part), bool)
    if dihedral and _stands(found.heights[1], _usual(heights), found.heights[0]):
        # Two patterns of a map that is alike upside down: the particles are not.
        dihedral, over = False, found.over(part)
        part = torch.where(torch.as_tensor(over)[:, None], (-1) ** order * part.conj(), part)
        found = _Patterns.of(part, dihedral=False)
    # Of a dihedral pattern, spins count from a two-fold along x.
    spins = (found.phases(part) - (np.pi / 2 if dihedral and order % 2 else 0)) / order
    ends = np.where(over[:, None, None], _OVER, np.eye(3))
    turns = ends @ Rotation.from_rotvec(-spins[:, None] * np.array([0.0, 0.0, 1.0])).as_matrix()
    return Spins(order, dihedral, heights, turns)


def spun(labelled: Labelled, spins: Spins) -> list[tuple[Tomogram, Particles]]:
    """The particles with their spins undone."""
    return [
        (tomogram, part.replace(rotations=part.required_rotations() @ turns))
        for (tomogram, part), turns in zip(labelled, split_like(labelled, spins.turns), strict=True)
    ]


def told_order(heights: dict[int, float]) -> int:
    """The number of folds that all the orders which stand out are multiples of, itself one of them; 0 where none is."""
    told = {order: height for order, height in heights.items() if order >= _LEAST}
    most = max(told.values(), default=0.0)
    standing = [order for order, height in told.items() if _stands(height, _usual(heights), most)]
    order = math.gcd(*standing) if standing else 0
    return order if order in standing else 0


def _usual(heights: dict[int, float]) -> float:
    return float(np.median(list(heights.values())))


def _stands(height: float, usual: float, most: float) -> bool:
    return height >= _CLEARLY * usual and height - usual >= _SHARE * (most - usual)


@dataclass(frozen=True, eq=False)
class _Patterns:
    """The two patterns that particles most share, but for a phase of each: vectors (B, 2), and how they stand out."""

    vectors: Tensor
    heights: tuple[float, float]

    @classmethod
    def of(cls, part: Tensor, *, dihedral: bool) -> _Patterns:
        count, size = part.shape
        covariance = part.T @ part.conj() / count
        if dihedral:
            # Upside down a pattern is its own conjugate, up to a sign: real and imaginary parts tell the same.
            covariance, count = covariance.real, 2 * count
        values, vectors = torch.linalg.eigh(covariance)
        noise = (1 + math.sqrt(size / count)) ** 2
        leading = (values.flip(0)[:2] / noise).tolist()
        return cls(vectors.flip(1)[:, :2].to(part.dtype), (leading[0], leading[1] if size > 1 else 0.0))

    def phases(self, part: Tensor) -> FloatArray:
        """Phase of the first pattern in each particle, (N,) radians."""
        phases: FloatArray = (part @ self.vectors[:, 0].conj()).angle().double().numpy()
        return phases

    def over(self, part: Tensor) -> np.ndarray:
        """Which particles stand the other way up, (N,): their second pattern runs ahead of the first, not behind it."""
        first, second = (part @ self.vectors).unbind(1)
        over: np.ndarray = ((second * first.conj()).imag < 0).numpy()
        return over


def _likeness(part: Tensor, *, dihedral: bool) -> float:
    """Likeness of the patterns that two halves of the particles show, 0 to 1."""
    first, second = (_Patterns.of(part[start::2], dihedral=dihedral).vectors[:, 0] for start in (0, 1))
    return float((first.conj() @ second).abs())
