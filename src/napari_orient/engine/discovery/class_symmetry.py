"""Symmetry of a class: proposed by its half maps, and imposed where that explains held-out particles better.

1. The half maps' self-correlation proposes a group (`model.map_symmetry`).
2. The particles are averaged with that group, and with its main axis alone. The group is imposed only where it raises
   the held-out likelihood (`held_out`), and the axis alone only where that is better by another 1 %. A pseudo-symmetry
   that the particles do not have lowers it as soon as they show the difference.
3. A map that is nearly round about an axis is averaged as round, by the same test. The cyclic order is then estimated
   from the particles, and imposed, by the same test.

The main axis comes to lie along z, a two-fold one along x.

**Cyclic order of a round map**, and each particle's azimuth. Particles that are round about an axis at the detail of
the search come out of it at random azimuths; the repeats about that axis in their average are chance. The particles
themselves still have them:

1. Each particle is fitted to the round map, and the residual ``r(ω, h, φ)`` is expanded over rings of frequencies about
   z in angular harmonics ``c_n(ω, h) = Σ r exp(-inφ)``. A particle of order q has those of n = q, 2q, 3q, ...; at
   azimuth φ₀ they carry the phase ``exp(inφ₀)``.
2. For each n the particles' vectors ``c_n`` are one pattern times a phase each, and noise. Without any phase, the
   pattern is the leading eigenvector of their covariance (Singer, Applied and Computational Harmonic Analysis 30, 20,
   2011).
3. The pattern of one half of the particles is looked for in the other half: its mean power there is 1 for noise, with a
   standard error of 1/√N. What model errors add is the same for all n, and is taken from their median.
4. The cyclic order is what all harmonics that stand out are multiples of; the pattern's phase in a particle, over that
   order, is its azimuth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.half_maps import (
    ParticlePatches,
    average_in_halves,
    estimate_forward_model,
    fsc_weighted_reference,
    poses_from_fits,
)
from napari_orient.engine.discovery.held_out import LikelihoodGain, class_log_likelihoods
from napari_orient.engine.frames import in_frame
from napari_orient.engine.matching.fit import Fit
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.grid import unit_phase
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.model.map_symmetry import (
    ORDERS,
    SymmetryAxis,
    SymmetryProposal,
    search_symmetry,
    search_two_fold_across,
)
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, concatenate, split_like
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.streams import Stream, Work
from napari_orient.engine.symmetry import C1, Symmetry, direction_text, symmetry, written_form
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

_Z = np.array([0.0, 0.0, 1.0])
ROUND = max(ORDERS)
"""Cyclic order that a map round about an axis is averaged with: at the detail of a search that is round."""
_ROUND_GROUPS = (f"C{ROUND}", f"D{ROUND}")

_AXIS_ERROR_COST = 0.01
"""Share of the log-likelihood by which a subgroup must be better than the group, at least: a group with more axes loses
as much by their estimated directions alone. True D3 (2uv8, 70 simulated particles) lost 4 nats to C3, having gained 121
over no symmetry; a false two-fold axis of ribosomes costs 95 of 214 nats. Chosen between."""
_DETAIL = 1.2
"""Finest detail in which axes are searched, over that at which the halves correlate to 0.5. Halves of one start share
finer noise, which has no axis: to 3.2 voxels an axis of 7n4y (C2) had 0.61 where it has 0.86 so."""


@dataclass(frozen=True, eq=False)
class PosedClass:
    """Particles of a class in their poses, by tomogram, and their average.

    Parameters
    ----------
    notes : why its average has the symmetry that it has, line by line.
    round : whether the azimuth about z is unknown.
    """

    labelled: Labelled
    average: Average
    notes: tuple[str, ...] = ()
    round: bool = False

    @property
    def particles(self) -> Particles:
        """All the particles, in order."""
        return concatenate([part for _, part in self.labelled])


@dataclass(frozen=True, eq=False)
class SymmetrySearch:
    """Search for the symmetry of a class.

    Parameters
    ----------
    geometries : how each tomogram was tilted, by its name.
    dark : whether particles are darker than their surroundings.
    """

    options: DiscoveryOptions
    geometries: Mapping[str, TiltGeometry]
    dark: bool
    device: torch.device

    def imposed(self, found: PosedClass) -> Stream[Any, PosedClass]:
        """The class with the symmetry that it has, in the frame of its axes; unchanged where it has none."""
        average = found.average
        proposal = yield from search_symmetry(
            average.as_reference(),
            average.voxel_size,
            halves=(average.first_half, average.second_half),
            radius=self.options.radius,
            resolution=_finest_compared(average),
        )
        chosen = yield from self._best(found, candidate_groups(proposal))
        axis = round_axis(proposal)
        if axis is None or not _is_round(chosen):
            return _with_least_group(replace(chosen, notes=(*proposal.words(), *chosen.notes)))
        with_order = yield from self._with_cyclic_order(chosen, found)
        if with_order is not None:
            return _with_least_group(with_order)
        note = (
            f"Round about ({direction_text(axis)}), now z: no cyclic order stands out, and azimuths "
            f"about it are unknown. It is averaged as {chosen.average.group.name}, which at this detail is round."
        )
        return replace(chosen, notes=(note, *chosen.notes), round=True)

    def _best(self, found: PosedClass, groups: Sequence[Symmetry]) -> Stream[Any, PosedClass]:
        """The class averaged with the best of the groups, largest first; unchanged where none raises the likelihood."""
        chosen, notes = replace(found, notes=()), list[str]()
        best = plain = (yield from self._log_likelihoods(found)) if groups else np.zeros(0)
        for group in groups:
            # What repeats twice is tried where the map is not round: a round one that is squashed does so too.
            if _is_round(chosen) and group.point_group not in _ROUND_GROUPS:
                break
            framed = yield from self._in_frame(found, group)
            own = yield from self._log_likelihoods(framed)
            gain = LikelihoodGain.between(own, plain)
            notes.append(
                f"Imposing {group.point_group} {'raises' if gain.significant else 'does not raise'} the log-likelihood "
                f"of particles that were not averaged: {gain.words} each."
            )
            if gain.significant and _better(own, best):
                chosen, best = framed, own
        if groups and len(chosen.average.group) == 1:
            notes.append("It is averaged as C1.")
        return replace(chosen, notes=tuple(notes))

    def _with_cyclic_order(self, found: PosedClass, plain: PosedClass) -> Stream[Any, PosedClass | None]:
        """A class that is round about z, with the cyclic order and azimuths of its particles; None where there is none.

        Where what stands out has no common order, or held-out particles are explained no better with it, it is the
        plain class.
        The order has two-fold axes across where the map has, unless held-out particles are explained worse with them;
        where the map may have them, if those are explained better.
        """
        harmonics = yield from angular_harmonics(
            found.labelled, found.average, self.options, self.geometries, device=self.device
        )
        estimate = estimate_cyclic_order(harmonics.parts, np.maximum(found.average.half_sets - 1, 0))
        if not estimate.order:
            return None
        if estimate.order == 1:
            return replace(plain, notes=(f"{estimate.words} It is averaged as C1.",))
        labelled = with_azimuths(harmonics.labelled, harmonics.parts[estimate.order], estimate.order)
        cyclic = replace(found, average=(yield from self._averaged(labelled, symmetry(f"C{estimate.order}"))))
        cyclic = replace(cyclic, labelled=labelled)
        own, without = (yield from self._log_likelihoods(cyclic)), (yield from self._log_likelihoods(plain))
        gain = LikelihoodGain.between(own, without)
        verb = "raises" if gain.significant else "does not raise"
        notes = (
            estimate.words,
            f"That order {verb} the log-likelihood of particles that were not averaged: {gain.words} each.",
        )
        if not gain.significant:
            return replace(plain, notes=(*notes, "It is averaged as C1."))
        cyclic = replace(cyclic, notes=notes)
        across = yield from search_two_fold_across(
            cyclic.average.as_reference(),
            cyclic.average.voxel_size,
            _Z,
            halves=(cyclic.average.first_half, cyclic.average.second_half),
            radius=self.options.radius,
            resolution=_finest_compared(cyclic.average),
        )
        if not across.may_hold:
            return cyclic
        group = symmetry(written_form(f"D{estimate.order}", _Z, across.direction))
        dihedral = yield from self._in_frame(cyclic, group)
        both = yield from self._log_likelihoods(dihedral)
        worse, better = (LikelihoodGain.between(*pair).significant for pair in ((own, both), (both, own)))
        kept = not worse if across.holds else better
        return replace(dihedral, notes=(*cyclic.notes, f"Across it: {across.words}.")) if kept else cyclic

    def _in_frame(self, found: PosedClass, group: Symmetry) -> Stream[Any, PosedClass]:
        """The class in the frame of a group's axes, averaged with it."""
        centre = symmetry_centre(found.average.as_reference(), found.average.voxel_size, group)
        yield
        moved: Labelled = [(tomogram, in_frame(part, group.frame, centre)) for tomogram, part in found.labelled]
        return PosedClass(moved, (yield from self._averaged(moved, group.aligned())))

    def _averaged(self, labelled: Labelled, group: Symmetry) -> Stream[Any, Average]:
        return average_in_halves(labelled, group, self.options, self.geometries, dark=self.dark)

    def _log_likelihoods(self, found: PosedClass) -> Work[FloatArray]:
        return class_log_likelihoods(found.labelled, found.average, self.options, self.geometries, device=self.device)


def _is_round(found: PosedClass) -> bool:
    """Whether a class is averaged as round about its main axis."""
    return found.average.group.point_group in _ROUND_GROUPS


def _finest_compared(average: Average) -> float:
    """Å of the finest detail in which an average's halves are searched for axes."""
    return _DETAIL * average.fsc.resolution(0.5)


def _with_least_group(found: PosedClass) -> PosedClass:
    """The class with a note that a group which was imposed may be part of a larger one."""
    group = found.average.group
    if len(group) == 1:
        return found
    note = f"It has at least {group.name}: axes that the particles do not show are not imposed."
    return replace(found, notes=(*found.notes, note))


def _better(own: FloatArray, best: FloatArray) -> bool:
    """Whether particles are explained better by the group of ``own`` than by the best larger one, (N,) nats each."""
    gain = LikelihoodGain.between(own, best)
    return gain.significant and gain.mean > _AXIS_ERROR_COST * float(best.mean())


def candidate_groups(proposal: SymmetryProposal) -> list[Symmetry]:
    """The groups that a proposal leads to, largest first: a cubic one, the main axis with and without those across.

    An axis that noise may hide is one too: held-out particles show a true one sooner than a map does.
    """
    main = proposal.main or proposal.undecided
    groups = [] if proposal.cubic is None else [proposal.cubic.group]
    axis = round_axis(proposal)
    if axis is not None:
        groups += _about(ROUND, axis, proposal.across)
    return groups if main is None else groups + _about(main.order, main.direction, proposal.across)


def round_axis(proposal: SymmetryProposal) -> FloatArray | None:
    """The direction (3,) about which a map may be averaged as round; None where an order says otherwise, or none is.

    Whatever is slightly squashed repeats twice in a whole rotation: that order says nothing.
    """
    order = 0 if proposal.main is None else proposal.main.order
    return proposal.round_about if order < _LEAST_ORDER else None


def _about(order: int, axis: FloatArray, across: SymmetryAxis | None) -> list[Symmetry]:
    """The groups of an axis (3,) of an order, with an axis across it, if there may be one, and without."""
    groups = [symmetry(written_form(f"C{order}", axis))]
    if across is not None and across.may_hold:
        groups.insert(0, symmetry(written_form(f"D{order}", axis, across.direction)))
    return groups


_STANDARD_ERRORS = 6.0
"""Least standard errors by which a harmonic's held-out power is above the median harmonic's, to stand out."""
_SHARE_OF_STRONGEST = 0.25
"""Least excess over the median, as a share of the strongest harmonic's: the missing wedge lets a sixth of it appear in
harmonics two away (measured on rings of blobs of order 7)."""
_SHARE_OF_TWO = 0.5
"""Share of the strongest harmonic's excess from which two repeats count beside an even order; chosen."""
_LEAST_ORDER = 3
"""Lowest cyclic order that counts: whatever is slightly squashed repeats twice in a whole rotation."""
_RADIUS_POWER = 0.95
"""Share of a map's power that lies within what is taken as its radius about z."""
_MEASURED = 0.9
"""Least share of the particles to have measured a ring of frequencies, for it to be used."""


# --- cyclic order and azimuths ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CyclicOrder:
    """The cyclic order about z that particles have.

    Parameters
    ----------
    order : 0 where no harmonic stands out; 1 where those that do have no common order.
    power : of each harmonic, the mean power in particles of the pattern of others; 1 for noise.
    """

    order: int
    power: dict[int, float]

    @property
    def words(self) -> str:
        """The order and why, in a line."""
        if self.order == 1:
            strongest = sorted(self.power, key=lambda order: -self.power[order])[:2]
            numbers = " and ".join(map(str, sorted(strongest)))
            return f"It is nearly round, but the residuals repeat {numbers} times in a whole rotation, among others."
        others = max((power for order, power in self.power.items() if order % self.order), default=0.0)
        return (
            f"In the residuals of the round map, the pattern of {self.order} repeats in a whole rotation that half of "
            f"the particles have is {self.power[self.order]:.1f} times as strong in the others as noise would be, that "
            f"of any other number {others:.1f} times at most."
        )


def estimate_cyclic_order(harmonics: dict[int, Tensor], half: NDArray[np.int_]) -> CyclicOrder:
    """The cyclic order that angular harmonics have.

    Parameters
    ----------
    harmonics : of each order, (N, B) complex, as `AngularHarmonics` has them.
    half : (N,) 0 or 1.
    """
    power = {order: held_out_power(part, half) for order, part in harmonics.items()}
    return CyclicOrder(cyclic_order_of(power, len(half)), power)


def held_out_power(part: Tensor, half: NDArray[np.int_]) -> float:
    """Mean power in N particles (N, B) of the pattern of the half that each is not in; 1 for white noise."""
    halves = [part[torch.as_tensor(half == number)] for number in (0, 1)]
    sums = [(own @ _pattern(other).conj()).abs().square().sum() for own, other in (halves, halves[::-1])]
    return float(sum(sums)) / len(part)


def cyclic_order_of(power: dict[int, float], count: int) -> int:
    """The greatest common divisor of the harmonics that stand out, if it is one of them itself; else 1, or 0 of none.

    Parameters
    ----------
    power : of each harmonic, as `held_out_power` of so many particles.
    """
    median = float(np.median(list(power.values()))) if power else 0.0
    excess = {order: value - median for order, value in power.items()}
    strongest = max((value for order, value in excess.items() if order >= _LEAST_ORDER), default=0.0)
    least = max(_STANDARD_ERRORS * max(median, 1.0) / math.sqrt(count), _SHARE_OF_STRONGEST * strongest)
    standing_out = [order for order, value in excess.items() if order >= _LEAST_ORDER and value >= least]
    if not standing_out:
        return 0
    order = math.gcd(*standing_out)
    if order % 2 == 0 and excess.get(2, 0.0) >= _SHARE_OF_TWO * strongest:
        # What repeats twice and four times may be but squashed.
        return 0
    return order if order in standing_out else 1


def with_azimuths(labelled: Labelled, part: Tensor, order: int) -> list[tuple[Tomogram, Particles]]:
    """The particles, all brought to one azimuth about z.

    Parameters
    ----------
    part : (N, B) complex, the harmonics of this order.
    """
    azimuths = (part @ _pattern(part).conj()).angle().double() / order
    corrections = rotvec_to_matrix(-azimuths[:, None] * torch.tensor([0.0, 0.0, 1.0], dtype=torch.double)).numpy()
    return [
        (tomogram, particles.replace(rotations=particles.required_rotations() @ own))
        for (tomogram, particles), own in zip(labelled, split_like(labelled, corrections), strict=True)
    ]


def _pattern(part: Tensor) -> Tensor:
    """Leading eigenvector (B,) of the covariance of particles (N, B)."""
    vectors: Tensor = torch.linalg.eigh(part.T @ part.conj())[1]
    return vectors[:, -1]


# --- angular harmonics of the residuals -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AngularHarmonics:
    """Angular harmonics about z of the residuals of N particles.

    Parameters
    ----------
    labelled : the particles as they were fitted to the round map.
    parts : of each order n, (N, B) complex, over B rings of frequencies about z; noise has a mean square of 1 in each.
    """

    labelled: list[tuple[Tomogram, Particles]]
    parts: dict[int, Tensor]


def angular_harmonics(
    labelled: Labelled,
    average: Average,
    options: DiscoveryOptions,
    geometries: Mapping[str, TiltGeometry],
    *,
    device: torch.device,
) -> Work[AngularHarmonics]:
    """The harmonics of the particles' residuals, once they are fitted to their average, which is round about z."""
    reference = fsc_weighted_reference(average.density, average, options)
    rings, on_device, fitted = _Rings.of(reference), reference.to(device), []
    sums = []
    for tomogram, particles in labelled:
        patches, rows = ParticlePatches.holding(reference, tomogram, particles), np.arange(len(particles))
        wedge = geometries[tomogram.name].wedge
        model, likelihood_scale = yield from estimate_forward_model(reference, patches, rows, wedge)
        model, fits = model.to(device), []
        for observed, fit in patches.fits(on_device, model, rows, device=device):
            sums.append(rings.normalised_sums(model, fit, _residual(on_device, model, observed, fit)).cpu())
            fits.append(fit)
            yield
        poses = poses_from_fits(fits, C1, likelihood_scale=likelihood_scale)
        fitted.append((tomogram, patches.particles_in(poses, C1, options)))
    rotations = np.concatenate([part.required_rotations() for _, part in fitted])
    radius = radius_about_z(average.as_reference(), average.voxel_size)
    harmonics = _whitened(torch.cat(sums), {order: rings.that_resolve(order, radius) for order in ORDERS})
    return AngularHarmonics(
        fitted, {order: _without_wedge_artefacts(part, rotations, order) for order, part in harmonics.items()}
    )


def _whitened(sums: Tensor, rings: dict[int, Tensor]) -> dict[int, Tensor]:
    """Of each order, the sums (N, orders, B) in its rings (B,) that most particles measured, noise brought to 1.

    What most orders have in common is noise: in each ring it is the median of their mean squares.
    """
    level = sums.abs().square().mean(0).median(dim=0).values.sqrt().clamp_min(1e-9)
    measured = (sums[:, 0] != 0).double().mean(0) >= _MEASURED
    parts = {order: (sums[:, at] / level)[:, measured & rings[order]] for at, order in enumerate(ORDERS)}
    return {order: part for order, part in parts.items() if part.shape[1]}


def _residual(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> Tensor:
    """Patches less the fitted reference, about its origin: whitened coefficients (N, M), complex."""
    angle = 2 * torch.pi * (fit.shifts @ model.frequency.T)
    patch = torch.view_as_complex(observed.movedim(1, -1).contiguous()) * unit_phase(angle)
    predicted = reference.transform(model.frequency @ fit.rotations) * model.whitened_gain
    residual: Tensor = patch - fit.amplitude[:, None].clamp_min(0) * predicted
    return residual


def radius_about_z(density: FloatArray, voxel_size: float) -> float:
    """Å from the axis z within which nearly all of a map's power lies."""
    line = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    distance = np.hypot(line[:, None], line).ravel()
    order = np.argsort(distance)
    within = np.cumsum(np.square(density).sum(axis=0).ravel()[order])
    return float(distance[order][np.searchsorted(within, _RADIUS_POWER * within[-1])])


@dataclass(frozen=True)
class _Rings:
    """Rings of frequencies about z, as fine as a map's size needs: ``count`` outward, and as many up and down."""

    spacing: float
    count: int

    @classmethod
    def of(cls, reference: Reference) -> _Rings:
        spacing = 1 / (2 * reference.radius)
        return cls(spacing, math.ceil(1 / reference.resolution / spacing) + 1)

    def normalised_sums(self, model: ForwardModel, fit: Fit, residual: Tensor) -> Tensor:
        """Sums over each ring of coefficients times gain and wave, over the root of gain squared, (N, orders, B)."""
        # With their Friedel mates the coefficients fill whole rings.
        frequency = torch.cat([model.frequency, -model.frequency]) @ fit.rotations
        weight = model.whitened_gain.repeat(2)
        x, y, z = frequency.unbind(-1)
        outward, up = (x.hypot(y) / self.spacing).long(), (z / self.spacing).round().long()
        ring = outward.clamp_max(self.count - 1) * (2 * self.count + 1) + up.clamp(-self.count, self.count) + self.count
        values, sums = torch.cat([residual, residual.conj()], dim=1) * weight, []
        wave = torch.complex(x, -y) / x.hypot(y).clamp_min(1e-9)
        for order in range(1, max(ORDERS) + 1):
            values = values * wave
            if order in ORDERS:
                sums.append(torch.complex(self._sum(ring, values.real), self._sum(ring, values.imag)))
        power = self._sum(ring, weight.square().expand_as(x))[:, None]
        return torch.where(power > 0, torch.stack(sums, dim=1) / power.clamp_min(1e-9).sqrt(), 0)

    def _sum(self, ring: Tensor, values: Tensor) -> Tensor:
        return values.new_zeros(len(values), self.count * (2 * self.count + 1)).scatter_add(1, ring, values)

    def that_resolve(self, order: int, radius: float) -> Tensor:
        """Mask (B,) of the rings far enough out to hold a harmonic of density within a radius of the axis.

        The Bessel function of order n is next to nothing at arguments below n.
        """
        outward = (torch.arange(self.count) + 0.5) * self.spacing
        return (2 * torch.pi * radius * outward > order).repeat_interleave(2 * self.count + 1)


def _without_wedge_artefacts(part: Tensor, rotations: FloatArray, order: int) -> Tensor:
    """Harmonics (N, B) less what depends on how the tomogram's axes lie about the particle's.

    Where the wedge's model is not exact it leaves some of the round map, which rotates with the beam and the tilt axis.
    """
    azimuth = np.arctan2(rotations[:, :, 1], rotations[:, :, 0])
    basis, _ = torch.linalg.qr(torch.as_tensor(np.exp(-1j * order * azimuth), dtype=part.dtype))
    rest: Tensor = part - basis @ (basis.conj().T @ part)
    return rest
