"""How many folds particles have about an axis that their map is round about, and how each is spun.

Of N particles spun at random, what repeats n times a turn is one pattern times a phase of each, and noise. No phase
need be known to find the pattern: it is the leading eigenvector of the particles' covariance, and its eigenvalue stands
out if n is a multiple of the number of folds. The pattern then tells each particle's phase (Singer, Applied and
Computational Harmonic Analysis 30, 20, 2011). The largest eigenvalue of noise alone is known (Johnstone, Annals of
Statistics 29, 295, 2001).

What particles leave of a map that is round about z, taken apart by how often it repeats in a turn about z.

A particle of n folds repeats n times a turn, and 2n, 3n, … times; spun by an angle φ, with the phase ``exp(inφ)``.

The symmetry of a discovered map; of one nearly round about an axis, folds count where they rise above noise.

Particles that are round about an axis at the detail a search sees come out of it spun at random, and their map has
folds by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.averaging.average import Average
from napari_orient.engine.discovery.half_maps import ParticlePatches, fsc_weighted_reference, model_for, poses_of
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.matching.fit import Fit
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.map_symmetry import ORDERS, propose_symmetry
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, split_like
from napari_orient.engine.symmetry import Symmetry, direction_text, symmetry, written_form

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
class AzimuthEstimate:
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
    eigenvalue_ratios: dict[int, float]
    turns: FloatArray

    @property
    def name(self) -> str:
        """The group about z, its two-folds along x if it has any."""
        return f"{'D' if self.dihedral else 'C'}{self.order}"

    @property
    def words(self) -> str:
        """The folds and why, in a line."""
        ratios = self.eigenvalue_ratios
        others = max((ratio for order, ratio in ratios.items() if order % self.order), default=0.0)
        return (
            f"Of what the round map leaves, {self.order} repeats a turn stand {ratios[self.order]:.1f} times as high "
            f"as noise reaches, other folds {others:.1f} times at most."
        )


def estimate_azimuths(parts: dict[int, Tensor], *, dihedral: bool) -> AzimuthEstimate:
    """The folds that harmonics tell, and each particle's spin.

    Parameters
    ----------
    parts : of each order, (N, B) complex, as `AngularHarmonics` has them.
    dihedral : whether the round map looks alike upside down: then half of the particles may stand so.
    """
    from scipy.spatial.transform import Rotation

    patterns = {order: _Patterns.of(part, dihedral=dihedral) for order, part in parts.items()}
    eigenvalue_ratios = {order: found.eigenvalue_ratios[0] for order, found in patterns.items()}
    order = cyclic_order_of(eigenvalue_ratios)
    if not order or _half_correlation(parts[order], dihedral=dihedral) < _ALIKE:
        return AzimuthEstimate(0, dihedral, eigenvalue_ratios, np.zeros((0, 3, 3)))
    part, found = parts[order], patterns[order]
    over = np.zeros(len(part), bool)
    if dihedral and _stands(found.eigenvalue_ratios[1], _usual(eigenvalue_ratios), found.eigenvalue_ratios[0]):
        # Two patterns of a map that is alike upside down: the particles are not.
        dihedral, over = False, found.over(part)
        part = torch.where(torch.as_tensor(over)[:, None], (-1) ** order * part.conj(), part)
        found = _Patterns.of(part, dihedral=False)
    # Of a dihedral pattern, spins count from a two-fold along x.
    spins = (found.phases(part) - (np.pi / 2 if dihedral and order % 2 else 0)) / order
    ends = np.where(over[:, None, None], _OVER, np.eye(3))
    turns = ends @ Rotation.from_rotvec(-spins[:, None] * np.array([0.0, 0.0, 1.0])).as_matrix()
    return AzimuthEstimate(order, dihedral, eigenvalue_ratios, turns)


def without_azimuths(labelled: Labelled, spins: AzimuthEstimate) -> list[tuple[Tomogram, Particles]]:
    """The particles with their spins undone."""
    return [
        (tomogram, part.replace(rotations=part.required_rotations() @ turns))
        for (tomogram, part), turns in zip(labelled, split_like(labelled, spins.turns), strict=True)
    ]


def cyclic_order_of(eigenvalue_ratios: dict[int, float]) -> int:
    """The number of folds that all the orders which stand out are multiples of, itself one of them; 0 where none is."""
    told = {order: height for order, height in eigenvalue_ratios.items() if order >= _LEAST}
    most = max(told.values(), default=0.0)
    standing = [order for order, height in told.items() if _stands(height, _usual(eigenvalue_ratios), most)]
    order = math.gcd(*standing) if standing else 0
    return order if order in standing else 0


def _usual(eigenvalue_ratios: dict[int, float]) -> float:
    return float(np.median(list(eigenvalue_ratios.values())))


def _stands(height: float, usual: float, most: float) -> bool:
    return height >= _CLEARLY * usual and height - usual >= _SHARE * (most - usual)


@dataclass(frozen=True, eq=False)
class _Patterns:
    """The two patterns that particles most share, but for a phase of each: vectors (B, 2), and how they stand out."""

    vectors: Tensor
    eigenvalue_ratios: tuple[float, float]

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


def _half_correlation(part: Tensor, *, dihedral: bool) -> float:
    """Likeness of the patterns that two halves of the particles show, 0 to 1."""
    first, second = (_Patterns.of(part[start::2], dihedral=dihedral).vectors[:, 0] for start in (0, 1))
    return float((first.conj() @ second).abs())


_HELD, _MEASURED = 0.95, 0.9
"""Share of a map's power within what is called its radius about z; least share of the particles to measure a ring."""
_C1 = symmetry("C1")


@dataclass(frozen=True, eq=False)
class AngularHarmonics:
    """Of N particles, what repeats n times in a turn about z.

    Parameters
    ----------
    labelled : the particles as they were fitted to the round map.
    parts : of each n, (N, B) complex, over B rings of frequencies about z; noise has a mean square of 1 in each.
    """

    labelled: list[tuple[Tomogram, Particles]]
    parts: dict[int, Tensor]


def angular_harmonics(
    labelled: Labelled,
    average: Average,
    options: DiscoveryOptions,
    wedges: Sequence[Wedge],
    *,
    device: torch.device,
) -> AngularHarmonics:
    """The harmonics of what particles leave of their average, which is round about z, once they are fitted to it."""
    reference = fsc_weighted_reference(average.density, average, options)
    rings, there, answer = _Rings.of(reference), reference.to(device), []
    gathered = _Gathered(rings, radius_about_z(average.as_reference(), average.voxel_size))
    for (tomogram, particles), wedge in zip(labelled, wedges, strict=True):
        patches, every = ParticlePatches.holding(reference, tomogram, particles), np.arange(len(particles))
        model, likelihood_scale = model_for(reference, patches, every, wedge)
        model, fits = model.to(device), []
        for observed, fit in patches.fits(there, model, every, device=device):
            gathered.add(*rings.sums(model, fit, _left(there, model, observed, fit)))
            fits.append(fit)
        answer.append((tomogram, patches.posed(poses_of(fits, _C1, likelihood_scale=likelihood_scale), options)))
    rotations = np.concatenate([part.required_rotations() for _, part in answer])
    return AngularHarmonics(
        answer, {order: _without_microscope(part, rotations, order) for order, part in gathered.whitened().items()}
    )


def _left(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> Tensor:
    """What the fitted reference leaves of patches, about its origin: whitened coefficients (N, M), complex."""
    angle = 2 * torch.pi * (fit.shifts @ model.frequency.T)
    seen = torch.view_as_complex(observed.movedim(1, -1).contiguous()) * torch.polar(torch.ones_like(angle), angle)
    predicted = reference.transform(model.frequency @ fit.rotations) * model.whitened_gain
    left: Tensor = seen - fit.amplitude[:, None].clamp_min(0) * predicted
    return left


def radius_about_z(density: FloatArray, voxel_size: float) -> float:
    """Å from the axis z within which nearly all of a map's power lies."""
    line = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    distance = np.hypot(line[:, None], line).ravel()
    order = np.argsort(distance)
    held = np.cumsum(np.square(density).sum(axis=0).ravel()[order])
    return float(distance[order][np.searchsorted(held, _HELD * held[-1])])


@dataclass(frozen=True)
class _Rings:
    """Rings of frequencies about z, as fine as a map's size needs: ``count`` outward, and as many up and down."""

    spacing: float
    count: int

    @classmethod
    def of(cls, reference: Reference) -> _Rings:
        spacing = 1 / (2 * reference.radius)
        return cls(spacing, math.ceil(1 / reference.resolution / spacing) + 1)

    def sums(self, model: ForwardModel, fit: Fit, left: Tensor) -> tuple[Tensor, Tensor]:
        """Over each ring, of N particles' coefficients times the weight, (N, orders, B), and of its square, (N, B)."""
        # With their Friedel mates the coefficients fill whole rings.
        frequency = torch.cat([model.frequency, -model.frequency]) @ fit.rotations
        weight = model.whitened_gain.repeat(2)
        x, y, z = frequency.unbind(-1)
        out, up = (x.hypot(y) / self.spacing).long(), (z / self.spacing).round().long()
        ring = out.clamp_max(self.count - 1) * (2 * self.count + 1) + up.clamp(-self.count, self.count) + self.count
        values, sums = torch.cat([left, left.conj()], dim=1) * weight, []
        back = torch.complex(x, -y) / x.hypot(y).clamp_min(1e-9)
        for order in range(1, max(ORDERS) + 1):
            values = values * back
            if order in ORDERS:
                sums.append(torch.complex(self._sum(ring, values.real), self._sum(ring, values.imag)))
        return torch.stack(sums, dim=1), self._sum(ring, weight.square().expand_as(x))

    def _sum(self, ring: Tensor, values: Tensor) -> Tensor:
        return values.new_zeros(len(values), self.count * (2 * self.count + 1)).scatter_add(1, ring, values)

    def show(self, order: int, radius: float) -> Tensor:
        """Which rings, (B,), lie far enough out to show so many repeats of what lies within a radius of the axis.

        Bessel's function of order n is next to nothing at arguments below n.
        """
        out = (torch.arange(self.count) + 0.5) * self.spacing
        return (2 * torch.pi * radius * out > order).repeat_interleave(2 * self.count + 1)


class _Gathered:
    """Sums of particles as they come, over the roots of their weights; of each order only the rings that show it."""

    def __init__(self, rings: _Rings, radius: float) -> None:
        self._shown = {order: rings.show(order, radius) for order in ORDERS}
        self._parts: dict[int, list[Tensor]] = {order: [] for order in ORDERS}
        self._power, self._measured, self._count = torch.zeros(()), torch.zeros(()), 0

    def add(self, sums: Tensor, weight: Tensor) -> None:
        """More particles: sums (N, orders, B) and their weights (N, B)."""
        weight = weight.cpu()
        parts = torch.where(weight[:, None] > 0, sums.cpu() / weight[:, None].clamp_min(1e-9).sqrt(), 0)
        self._power = self._power + parts.abs().square().sum(0)
        self._measured, self._count = self._measured + (weight > 0).sum(0), self._count + len(parts)
        for at, (order, shown) in enumerate(self._shown.items()):
            self._parts[order].append(parts[:, at][:, shown])

    def whitened(self) -> dict[int, Tensor]:
        """Of each order, the parts (N, B) of rings that most particles measured.

        What most orders have in common is noise: in each ring the median of their mean squares is brought to 1.
        """
        level = (self._power / self._count).median(dim=0).values.sqrt().clamp_min(1e-9)
        measured = self._measured >= _MEASURED * self._count
        parts = {
            order: (torch.cat(self._parts[order]) / level[shown])[:, measured[shown]]
            for order, shown in self._shown.items()
        }
        return {order: part for order, part in parts.items() if part.shape[1]}


def _without_microscope(part: Tensor, rotations: FloatArray, order: int) -> Tensor:
    """Parts (N, B) without what goes with how the tomogram's axes lie about the particle's.

    Where the wedge is not known exactly it leaves some of the round map, which turns with the beam and the tilt axis.
    """
    azimuth = np.arctan2(rotations[:, :, 1], rotations[:, :, 0])
    basis, _ = torch.linalg.qr(torch.as_tensor(np.exp(-1j * order * azimuth), dtype=part.dtype))
    rest: Tensor = part - basis @ (basis.conj().T @ part)
    return rest


class MapSymmetry(NamedTuple):
    """The group that a map shows, about its own axes, why, in a few lines, and whether it is nearly round about one."""

    group: Symmetry
    words: tuple[str, ...]
    round: bool


def map_symmetry(average: Average, radius: float) -> MapSymmetry:
    """The group that a map shows; where it is nearly round about an axis and tells no folds, one that is as round."""
    halves = (average.first_half, average.second_half)
    proposal = propose_symmetry(average.as_reference(), average.voxel_size, halves=halves, radius=radius)
    axis, across = proposal.round_about, proposal.across
    if axis is None or len(proposal.group) > 1:
        return MapSymmetry(proposal.group, tuple(proposal.words()), round=axis is not None)
    if across is not None and across.holds:
        group = symmetry(written_form(f"D{max(ORDERS)}", axis, across.direction))
    else:
        group = symmetry(written_form(f"C{max(ORDERS)}", axis))
    words = (
        f"Round about ({direction_text(axis)}): nothing tells its folds, nor how a particle is spun about it.",
        f"It is averaged as {group.point_group}, which at this detail is round.",
    )
    return MapSymmetry(group, words, round=True)
