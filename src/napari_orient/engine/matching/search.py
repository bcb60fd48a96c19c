"""Search by matched filters: every rotation of a reference, compressed to few dimensions, scored against patches.

A filter is the reference in one rotation, through the forward model, of length 1; its score s with a whitened patch is
in standard deviations of the noise, and worth s²/2 in log-likelihood. The filters are compressed by their leading
singular vectors, so that a patch is scored against all of them by two matrix products. `PositionSearch` finds the
particle first, by few rotations in every position that it may have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.devices import device_batch_size, in_parallel
from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.grid import unit_phase
from napari_orient.engine.model.noise import window
from napari_orient.engine.model.reference import Reference, inverted
from napari_orient.engine.parameters import SearchOptions
from napari_orient.engine.rotations import FloatArray, even_rotations
from napari_orient.engine.streams import Work
from napari_orient.engine.symmetry import Symmetry

_BUILD_BATCH = 32
"""Rotations that filters are made of together on a CPU: memory, not the result."""
_BUILD_PARTS = 32
"""Parts of so many rotations that filters are made of between two chances to stop: a third of a second of one core."""
_INFORMATION_KEPT = 0.93
"""Share of the information on a pose whose coefficients the search's matches are fitted on: of PolNet's ribosomes 902
of 1,532 coefficients, at the same accuracy."""
_INFORMATION_ROTATIONS = 60
"""Rotations that the information of a coefficient is averaged over."""
_SEPARATION = 2.2
"""Distance between two of the best rotations at the least, in distances between neighbours of the grid."""
_NEIGHBOURS_SAMPLED = 200
"""Rotations whose nearest neighbours give the grid's spacing."""


# --- rotations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CompressedFilters:
    """A reference in J rotations, compressed: a patch's 2M numbers against all of them by two products.

    Parameters
    ----------
    rotations : (J, 3, 3).
    basis : (2M, D) leading singular vectors of all the filters: what it drops, none of them contains.
    filters : (J, D) the filters, of length 1, in that basis.
    spacing : radians between neighbours, the median.
    """

    rotations: Tensor
    basis: Tensor
    filters: Tensor
    spacing: float

    def scores(self, observed: Tensor) -> Tensor:
        """Score of every rotation, (..., J), in standard deviations of the noise, of coefficients (..., 2, M)."""
        scores: Tensor = observed.flatten(-2) @ self.basis @ self.filters.T
        return scores

    def inverted(self) -> CompressedFilters:
        """Those of the reference's mirror image through its origin, whose coefficients are the complex conjugates."""
        real, imaginary = self.basis.chunk(2)
        return replace(self, basis=torch.cat([real, -imaginary]))

    @property
    def coefficients(self) -> int:
        """How many complex coefficients of a patch are matched, M."""
        return self.basis.shape[0] // 2

    def best_separated(self, scores: Tensor, count: int) -> Tensor:
        """Which rotations score best and lie apart, (N, count), best first."""
        left = scores.clone()
        chosen = [left.argmax(-1)]
        while len(chosen) < count:
            trace = self.rotations[chosen[-1]].flatten(1) @ self.rotations.flatten(1).T
            left.masked_fill_(trace > 1 + 2 * math.cos(_SEPARATION * self.spacing), -torch.inf)
            chosen.append(left.argmax(-1))
        return torch.stack(chosen, dim=1)


@dataclass(frozen=True, eq=False)
class MatchedFilterSearch:
    """A search for position and rotation of a reference in whitened patches of one tomogram.

    Parameters
    ----------
    reference, model : what is matched, and the forward model of the coefficients matched.
    positions : finds the particle first.
    filters : one for each rotation of the asymmetric unit.
    informative : (M,) mask of the coefficients that matches are to be fitted on; see `informative_coefficients`.
    """

    reference: Reference
    model: ForwardModel
    positions: PositionSearch
    filters: CompressedFilters
    informative: Tensor

    def best_rotations(self, observed: Tensor, *, count: int, log_prior: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best rotations (N, count, 3, 3), which lie apart, best first, and their log-likelihood gains (N, count).

        Parameters
        ----------
        observed : (N, 2, M) coefficients about the particles.
        log_prior : (N, J) added to the gains; ``-inf`` where a rotation is excluded.
        """
        if log_prior is None:
            # The gain grows with the score.
            scores = self.filters.scores(observed)
            best = self.filters.best_separated(scores, count)
            return self.filters.rotations[best], _gain_of(scores.gather(1, best))
        gain = _gain_of(self.filters.scores(observed)) + log_prior
        best = self.filters.best_separated(gain, count)
        return self.filters.rotations[best], gain.gather(1, best)

    def through(self, model: ForwardModel) -> MatchedFilterSearch:
        """The same filters, for a tomogram with another forward model of the same coefficients, acquired alike."""
        lowest = model.lowest(len(self.model.indices))
        return replace(self, model=lowest, positions=self.positions.through(model))

    def inverted(self) -> MatchedFilterSearch:
        """The search for the reference's mirror image through its origin, in the same rotations."""
        return replace(
            self,
            reference=inverted(self.reference),
            positions=self.positions.inverted(),
            filters=self.filters.inverted(),
        )

    def log_prior(self, prior: RotationPrior) -> Tensor:
        """Log-density of every rotation of the search for each particle of a prior, (N, J)."""
        return prior.log_density_of_grid(self.filters.rotations, spacing=self.filters.spacing)


def _gain_of(scores: Tensor) -> Tensor:
    """Gain in log-likelihood over no particle, nats, that scores are worth."""
    return scores.clamp_min(0).square() / 2


def build_search(
    reference: Reference, model: ForwardModel, group: Symmetry, options: SearchOptions
) -> Work[MatchedFilterSearch]:
    """The search for a reference through a forward model, modulo the group's rotations, built in steps.

    Raises
    ------
    InputError
        If too few coefficients of the patch lie within the resolution.
    """
    positions = yield from build_position_search(reference, model, group, options)
    model = _checked_size(model.within(options.search_resolution), options.dimensions, options)
    filters = yield from _compressed(reference, model, group, count=options.rotations, dimensions=options.dimensions)
    yield
    informative = informative_coefficients(reference, model, _INFORMATION_KEPT)
    # A smaller table is quicker to read.
    reference = reference.within(1 / float(model.frequency.norm(dim=-1).max()))
    return MatchedFilterSearch(reference, model, positions, filters, informative)


def asymmetric_rotations(count: int, group: Symmetry) -> FloatArray:
    """About ``count`` rotations, even over one asymmetric unit: of ``R @ S``, the one nearest the identity."""
    rotations = even_rotations(count * len(group))
    copies = np.einsum("nij,gji->ng", rotations, group.matrices)
    own = np.einsum("nii->n", rotations)
    kept: FloatArray = rotations[own >= copies.max(axis=1) - 1e-9]
    return kept


def informative_coefficients(reference: Reference, model: ForwardModel, share: float) -> Tensor:
    """Mask (M,) of the fewest coefficients that hold a share of the information on a pose.

    The Fisher information of a coefficient on a rotation or a shift grows with its signal over noise and its squared
    frequency.
    """
    power = _power_over_rotations(reference, model.frequency) * model.whitened_gain.square()
    information = power * model.frequency.square().sum(-1)
    order = torch.argsort(information, descending=True)
    held = torch.cumsum(information[order], 0) / information.sum()
    mask = torch.zeros_like(information, dtype=torch.bool)
    mask[order[: int((held < share).sum()) + 1]] = True
    return mask


@lru_cache(maxsize=4)
def _power_over_rotations(reference: Reference, frequency: Tensor) -> Tensor:
    """Mean power of the reference at frequencies (M, 3) over its rotations, (M,); the same for every gain and noise."""
    rotations = torch.as_tensor(even_rotations(_INFORMATION_ROTATIONS), dtype=torch.float32)
    power: Tensor = reference.sample(frequency @ rotations.to(frequency)).square().sum(-1).mean(0)
    return power


def _checked_size(model: ForwardModel, dimensions: int, options: SearchOptions) -> ForwardModel:
    if 2 * len(model.indices) < dimensions:
        raise InputError(
            f"only {len(model.indices)} coefficients of the patch serve a search at {options.search_resolution:g} Å. "
            "Use larger patches, a finer resolution or fewer dimensions."
        )
    return model


def _compressed(
    reference: Reference, model: ForwardModel, group: Symmetry, *, count: int, dimensions: int
) -> Work[CompressedFilters]:
    rotations = torch.as_tensor(asymmetric_rotations(count, group), dtype=torch.float32, device=reference.device)
    step = max(1, len(rotations) // (4 * dimensions))
    batch = device_batch_size(rotations.device, _BUILD_BATCH)
    drawn = torch.cat([_unit_filters(reference, model, part).flatten(1) for part in rotations[::step].split(batch)])
    basis = _leading_vectors(drawn, dimensions)
    filters = basis.new_empty(len(rotations), basis.shape[1])
    filters[::step] = drawn @ basis
    others = torch.arange(len(rotations), device=rotations.device)
    parts = others[others % step > 0].split(batch) if step > 1 else ()
    for first in range(0, len(parts), _BUILD_PARTS):
        yield
        some = parts[first : first + _BUILD_PARTS]
        found = in_parallel(
            lambda rows: _unit_filters(reference, model, rotations[rows]).flatten(1) @ basis,
            some,
            device=rotations.device,
        )
        filters[torch.cat(some)] = torch.cat(found)
    yield
    nearest = rotations[:_NEIGHBOURS_SAMPLED].flatten(1) @ rotations.flatten(1).T
    trace = nearest.topk(2, dim=1).values[:, 1]
    spacing = float(torch.acos(((trace - 1) / 2).clamp(-1, 1)).median())
    return CompressedFilters(rotations, basis, filters, spacing)


def _unit_filters(reference: Reference, model: ForwardModel, rotations: Tensor) -> Tensor:
    """The reference in rotations (J, 3, 3) through the forward model, (J, 2, M), each of length 1."""
    values = reference.sample(model.frequency @ rotations).movedim(-1, 1) * model.whitened_gain
    length = values.flatten(1).norm(dim=1).clamp_min(1e-12)
    unit: Tensor = values / length[:, None, None]
    return unit


_EXTRA_VECTORS = 32
"""Vectors that the range finder draws beyond those wanted; Halko et al. (2011) advise 5 to 10 at the least."""


def _leading_vectors(full: Tensor, dimensions: int) -> Tensor:
    """Leading right singular vectors of (J, 2M), (2M, D), by a randomised range finder (Halko et al., 2011)."""
    dimensions = min(dimensions, *full.shape)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(full.shape[0], min(dimensions + _EXTRA_VECTORS, *full.shape), generator=generator).to(full)
    span = torch.linalg.qr(full.T @ (full @ (full.T @ draw)))[0]
    within = full @ span
    _, vectors = torch.linalg.eigh(within.T @ within)
    leading: Tensor = span @ vectors.flip(1)[:, :dimensions]
    return leading.contiguous()


# --- positions ------------------------------------------------------------------------------------------------------

_COARSE = 1.5
"""Resolution of the position search over that of the rotation search."""
_POSITIONS_PER_RESOLUTION = 4
"""Positions tried in one resolution of the position search, along each axis."""
_PRESELECTION_COARSER = 4 / 3
"""Resolution at which positions are preselected, over that of the position search."""
_PRESELECTION_DIMENSIONS = 32
"""Dimensions of the preselection. With it the position search takes 0.40 in place of 0.95 ms a particle."""
_PRESELECTED = 16
"""Positions preselected for each one asked for: on PolNet's ribosomes and proteasomes the best of all is among them."""
_LEAST_CURVATURE = 1e-3
"""Added to the curvature of a Newton step, as a share of the largest: keeps the step finite."""
_LONGEST_STEP = 0.75
"""Longest Newton step from a position tried, in distances between positions: farther is nearer another position."""


@dataclass(frozen=True, eq=False)
class Preselection:
    """The position search's filters without their finest detail, in few dimensions.

    Parameters
    ----------
    basis : (2, m, d), real and imaginary, of the first m coefficients.
    filters : (d, J) of length 1.
    waves : (2, H, m) cosines and sines of the shifts to the first H of the 2 H - 1 positions; the others, from the last
        backwards, are their opposites, and the middle one is the centre.
    """

    basis: Tensor
    filters: Tensor
    waves: Tensor

    def best(self, observed: Tensor, count: int) -> Tensor:
        """The positions (N, count) where any rotation scores best, of coefficients (N, 2, M)."""
        first, second = self.basis
        real, imaginary = observed[:, :, : len(first), None].unbind(1)
        # The patch's coefficients times the filters', once; then the waves: opposite positions have opposite sines.
        parts = observed.new_empty(len(observed), 2, *first.shape)
        torch.mul(real, first, out=parts[:, 0]).addcmul_(imaginary, second)
        torch.mul(real, second, out=parts[:, 1]).addcmul_(imaginary, first, value=-1)
        symmetric, antisymmetric = (self.waves @ parts).unbind(1)
        scores = (
            torch.cat([symmetric + antisymmetric, (symmetric - antisymmetric)[:, :-1].flip(1)], dim=1) @ self.filters
        )
        return scores.amax(-1).topk(count, dim=1).indices


@dataclass(frozen=True, eq=False)
class PositionSearch:
    """Finds a particle in a patch, whatever its rotation: few rotations, in every position that it may have.

    Parameters
    ----------
    model : of the coefficients matched; its window holds the particle in every position.
    filters : of few rotations.
    basis : (2M, D) that of the filters, real and imaginary parts side by side, as a patch's lie.
    positions : (S, 3) xyz in Å from the patch's centre, on a cubic grid.
    adjacent : (S, S) whether two positions are neighbours on the grid.
    waves : (S, M) complex; what shifts a patch's coefficients to each position.
    preselection : what ranks the positions first.
    spacing : Å between positions.
    max_offset : Å along each axis, half a voxel beyond the largest shift.
    """

    model: ForwardModel
    filters: CompressedFilters
    basis: Tensor
    positions: Tensor
    adjacent: Tensor
    waves: Tensor
    preselection: Preselection
    spacing: float
    max_offset: float

    def find(self, patches: Tensor, *, count: int = 1) -> Tensor:
        """Whole voxels xyz (N, count, 3) from the patches' centres to where the particles may be, best first."""
        return self.candidates(patches, count=count)[0]

    def candidates(self, patches: Tensor, *, count: int, prior: RotationPrior | None = None) -> tuple[Tensor, Tensor]:
        """Whole voxels xyz (N, count, 3) from the patches' centres to where the particles may be, best first.

        With them, the gain in log-likelihood over no particle of the best rotation at each, (N, count).
        """
        if len(self.positions) == 1:
            return patches.new_zeros(len(patches), 1, 3), patches.new_zeros(len(patches), 1)
        observed = self.model.observe(patches)
        values = torch.view_as_complex(observed.movedim(1, -1).contiguous())
        tried = self._preselected(observed, min(_PRESELECTED * count, len(self.positions)))
        scores = self._scores(values, tried)
        if prior is not None:
            log_prior = prior.log_density_of_grid(self.filters.rotations, spacing=self.filters.spacing)
            scores = scores.masked_fill(log_prior.isneginf()[:, None], -torch.inf)
        best = scores.amax(-1)
        chosen = self._best_separated(best, tried, count)
        rotation = scores.argmax(-1).gather(1, chosen)
        position = tried.gather(1, chosen)
        offsets = self.positions[position] + self._steps(values[:, None] * self.waves[position], rotation)
        voxels = torch.round(offsets.clamp(-self.max_offset, self.max_offset) / self.model.voxel_size)
        return voxels, best.gather(1, chosen).clamp_min(0).square() / 2

    def through(self, model: ForwardModel) -> PositionSearch:
        """The same search through another forward model of the same coefficients."""
        return replace(self, model=replace(model.lowest(len(self.model.indices)), window=self.model.window))

    def inverted(self) -> PositionSearch:
        """That of the reference's mirror image through its origin."""
        first, second = self.preselection.basis
        signs = torch.tensor([[1.0], [-1.0]], device=self.basis.device)
        return replace(
            self,
            filters=self.filters.inverted(),
            basis=(self.basis.view(-1, 2, self.basis.shape[1]) * signs).view_as(self.basis),
            preselection=replace(self.preselection, basis=torch.stack([first, -second])),
        )

    def _preselected(self, observed: Tensor, count: int) -> Tensor:
        if count == len(self.positions):
            return torch.arange(count, device=observed.device).expand(len(observed), count)
        return self.preselection.best(observed, count)

    def _scores(self, values: Tensor, positions: Tensor) -> Tensor:
        """Score in positions (N, S) of every rotation, (N, S, J), of complex coefficients (N, M)."""
        moved = torch.view_as_real(values[:, None] * self.waves[positions]).flatten(-2)
        scores: Tensor = moved @ self.basis @ self.filters.filters.T
        return scores

    def _best_separated(self, scores: Tensor, positions: Tensor, count: int) -> Tensor:
        """Which of positions (N, S) have the best scores (N, S), none beside a better one, (N, count)."""
        left, chosen = scores, [scores.argmax(-1)]
        while len(chosen) < count:
            last = positions.gather(1, chosen[-1][:, None])
            left = left.masked_fill(self.adjacent[last, positions], -torch.inf)
            chosen.append(left.argmax(-1))
        return torch.stack(chosen, dim=1)

    def _steps(self, moved: Tensor, rotation: Tensor) -> Tensor:
        """Newton steps in Å, (N, K, 3), from each position to where its best rotation scores best.

        Parameters
        ----------
        moved : (N, K, M) complex coefficients about the positions.
        rotation : (N, K) of the filters.
        """
        filters = torch.view_as_complex((self.filters.filters[rotation] @ self.basis.T).unflatten(-1, (-1, 2)))
        match = filters.conj() * moved
        wave = 2 * torch.pi * self.model.frequency
        slope = -(match.imag @ wave)
        curve = (match.real @ (wave[:, :, None] * wave[:, None]).flatten(1)).unflatten(-1, (3, 3))
        diagonal = curve.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(_LEAST_CURVATURE * diagonal.abs().amax(-1, keepdim=True) + 1e-12)
        step: Tensor = torch.linalg.solve_ex(curve, slope)[0]
        return step.nan_to_num().clamp(-_LONGEST_STEP * self.spacing, _LONGEST_STEP * self.spacing)


def build_position_search(
    reference: Reference, model: ForwardModel, group: Symmetry, options: SearchOptions
) -> Work[PositionSearch]:
    """What finds the position of a reference through a forward model, built in steps.

    Raises
    ------
    InputError
        If too few coefficients of the patch lie within the resolution.
    """
    coarse = _checked_size(model.within(options.search_resolution * _COARSE), options.coarse_dimensions, options)
    filters = yield from _compressed(
        reference, coarse, group, count=options.coarse_rotations, dimensions=options.coarse_dimensions
    )
    max_shift = options.max_shift if options.max_shift >= model.voxel_size else 0.0
    side = model.box + 2 * math.ceil(max_shift / model.voxel_size)
    view = window(side, model.voxel_size, reference.radius + max_shift).to(reference.device)
    model = replace(model.lowest(filters.coefficients), window=view)
    most = options.search_resolution * _COARSE / _POSITIONS_PER_RESOLUTION
    spacing = max_shift / math.ceil(max_shift / most) if max_shift else 1.0
    line = torch.arange(-max_shift, max_shift + spacing / 2, spacing, device=reference.device)
    positions = torch.cartesian_prod(line, line, line)
    angle = 2 * torch.pi * (positions @ model.frequency.T)
    waves = unit_phase(angle)
    basis = filters.basis.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1).contiguous()
    return PositionSearch(
        model,
        filters,
        basis,
        positions,
        adjacent=torch.cdist(positions, positions) < 1.5 * spacing,
        waves=waves,
        preselection=_preselection(model, filters, basis=basis, waves=waves),
        spacing=spacing,
        max_offset=max_shift + model.voxel_size / 2,
    )


def _preselection(model: ForwardModel, filters: CompressedFilters, *, basis: Tensor, waves: Tensor) -> Preselection:
    frequency = model.frequency.norm(dim=-1)
    count = int((frequency <= frequency.max() / _PRESELECTION_COARSER).sum())
    full = filters.filters @ basis[: 2 * count].T
    basis = _leading_vectors(full, _PRESELECTION_DIMENSIONS)
    compressed = full @ basis
    compressed /= compressed.norm(dim=1, keepdim=True).clamp_min(1e-12)
    half = waves[: len(waves) // 2 + 1, :count]
    return Preselection(
        basis.view(count, 2, -1).transpose(0, 1).contiguous(),
        compressed.T.contiguous(),
        torch.stack([half.real, half.imag]),
    )
