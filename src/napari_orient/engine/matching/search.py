"""Search by matched filters: every rotation of a reference, compressed to a few dimensions, scored against patches.

A matched-filter score in standard deviations s of the noise is worth s²/2 in log-likelihood. Rotated references are
compressed by their leading singular vectors, so that a patch is scored by two matrix products; `Centring` searches
places with few rotations before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from napari_orient.engine.devices import at_once
from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.options import SearchOptions
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.noise import window
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.rotations import FloatArray, even_rotations
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.threads import in_parallel

_BUILD_BATCH = 32
_COARSE = 1.5
_TOLD = 0.93


@dataclass(frozen=True, eq=False)
class Candidates:
    """The best rotations of a bank for N patches, K each and well apart, best first.

    Parameters
    ----------
    observed : (N, 2, M) coefficients of the patches about the particles.
    rotations : (N, K, 3, 3).
    best : (N, K) gain in log-likelihood over no particle of each.
    gain : (N, J) the same of all the bank's rotations.
    """

    observed: Tensor
    rotations: Tensor
    best: Tensor
    gain: Tensor

    @property
    def log_posterior(self) -> Tensor:
        """Logarithm of the posterior over the bank's rotations, (N, J)."""
        return torch.log_softmax(self.gain, dim=-1)


class MatchedFilterBank(nn.Module):
    """Patches in, a posterior over the rotations of the asymmetric unit out; works untrained, can be trained further.

    Parameters
    ----------
    reference, model : what is matched, and how it shows.
    centring : finds the particle first.
    filters : one for each rotation.

    Its ``telling`` (M,) masks the coefficients that its matches are polished on.
    """

    def __init__(self, reference: Reference, model: ForwardModel, *, centring: Centring, filters: Filters) -> None:
        super().__init__()
        self.sight = Sight(reference, model)
        self.centring = centring
        self.filters = filters
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("telling", telling(reference, model, _TOLD), persistent=False)

    telling: Tensor

    def forward(self, observed: Tensor) -> Tensor:
        """Logarithm of the posterior over the rotations, (N, J), of coefficients (N, 2, M) about the particle."""
        return torch.log_softmax(self.gain(observed), dim=-1)

    def gain(self, observed: Tensor) -> Tensor:
        """Gain in log-likelihood of each rotation over no particle, (N, J), tempered, of coefficients (N, 2, M)."""
        gain: Tensor = self.filters(observed).clamp_min(0).square() * (torch.exp(-self.log_temperature) / 2)
        return gain

    @torch.no_grad()
    def search(self, patches: Tensor, centres: Tensor, *, starts: int) -> Candidates:
        """The best rotations in patches (N, n, n, n) whose particles stand whole voxels xyz (N, 3) off the centres."""
        return self.ranked(self.sight.model.observe(patches, centres), starts=starts)

    @torch.no_grad()
    def ranked(self, observed: Tensor, *, starts: int) -> Candidates:
        """The best rotations for coefficients (N, 2, M) about the particles."""
        gain = self.gain(observed)
        best = self.filters.best_apart(gain, starts)
        return Candidates(observed, self.filters.rotations[best], gain.gather(1, best), gain)


def asymmetric_rotations(count: int, group: Symmetry) -> FloatArray:
    """About ``count`` rotations, even over one asymmetric unit of the group: of ``R @ S``, the one nearest no turn."""
    rotations = even_rotations(count * len(group))
    turn = np.einsum("nij,gji->ng", rotations, group.matrices)
    own = np.einsum("nii->n", rotations)
    kept: FloatArray = rotations[own >= turn.max(axis=1) - 1e-9]
    return kept


def build_centring(reference: Reference, model: ForwardModel, group: Symmetry, options: SearchOptions) -> Centring:
    """What finds the centre of a reference that shows under an model.

    Raises
    ------
    InputError
        If too few coefficients of the patch lie within the resolution.
    """
    rough = _enough(model.within(options.search_resolution * _COARSE), options.coarse_dimensions, options)
    filters = _filters(reference, rough, group, count=options.coarse_rotations, dimensions=options.coarse_dimensions)
    spacing = options.search_resolution * _COARSE / 4
    max_shift = options.max_shift if options.max_shift >= model.voxel_size else 0.0
    return Centring(reference, model, filters=filters, max_shift=max_shift, spacing=spacing)


def build_bank(reference: Reference, model: ForwardModel, group: Symmetry, options: SearchOptions) -> MatchedFilterBank:
    """The bank of a reference as it shows under an model, modulo the group's rotations.

    Raises
    ------
    InputError
        If too few coefficients of the patch lie within the resolution.
    """
    centring = build_centring(reference, model, group, options)
    model = _enough(model.within(options.search_resolution), options.dimensions, options)
    filters = _filters(reference, model, group, count=options.rotations, dimensions=options.dimensions)
    return MatchedFilterBank(reference, model, centring=centring, filters=filters)


def _enough(model: ForwardModel, dimensions: int, options: SearchOptions) -> ForwardModel:
    if 2 * len(model.indices) < dimensions:
        raise InputError(
            f"only {len(model.indices)} coefficients of the patch serve a search at {options.search_resolution:g} Å. "
            "Use larger patches, a finer resolution or fewer dimensions."
        )
    return model


def _filters(reference: Reference, model: ForwardModel, group: Symmetry, *, count: int, dimensions: int) -> Filters:
    rotations = torch.as_tensor(asymmetric_rotations(count, group), dtype=torch.float32, device=reference.device)
    some = rotations[:: max(1, len(rotations) // (4 * dimensions))]
    basis = leading_vectors(shown_reference(reference, model, some).flatten(1), dimensions)
    parts = rotations.split(at_once(rotations.device, _BUILD_BATCH))

    def compressed(part: Tensor) -> Tensor:
        return shown_reference(reference, model, part).flatten(1) @ basis

    turned = in_parallel(compressed, parts, device=rotations.device)
    return Filters(rotations, basis=basis, turned=torch.cat(turned))


def telling(reference: Reference, model: ForwardModel, share: float) -> Tensor:
    """Mask (M,) of the fewest coefficients that hold a share of all that a patch tells of a pose.

    What a coefficient tells of a turn or a shift grows with its signal over noise and its squared frequency.
    """
    turns = torch.as_tensor(even_rotations(60), dtype=torch.float32, device=model.frequency.device)
    values = reference.sample(model.frequency @ turns)[..., 0] * model.whitened_gain[:, None]
    told = values.square().sum(-1).mean(0) * model.frequency.square().sum(-1)
    order = torch.argsort(told, descending=True)
    held = torch.cumsum(told[order], 0) / told.sum()
    mask = torch.zeros_like(told, dtype=torch.bool)
    mask[order[: int((held < share).sum()) + 1]] = True
    return mask


_APART = 2.2
"""Rotations are well apart when they lie so many times further than neighbours do."""
_NUMBERS = ("voxel_size", "box")


class Filters(nn.Module):
    """A reference turned to J rotations, compressed: a patch's 2M numbers against all of them by two products.

    Parameters
    ----------
    rotations : (J, 3, 3).
    basis : (2M, D) leading singular vectors of all the turned references: what it drops, none of them contains.
    turned : (J, D) the turned references, of length 1, in that basis.
    """

    rotations: Tensor

    def __init__(self, rotations: Tensor, *, basis: Tensor, turned: Tensor) -> None:
        super().__init__()
        self.register_buffer("rotations", rotations)
        self.basis = nn.Parameter(basis)
        self.turned = nn.Parameter(turned)
        trace = (rotations[:200].flatten(1) @ rotations.flatten(1).T).topk(2, dim=1).values[:, 1]
        self._apart = _APART * float(torch.acos(((trace - 1) / 2).clamp(-1, 1)).median())

    def forward(self, observed: Tensor) -> Tensor:
        """Match with every rotation, (..., J), in standard deviations of the noise, of coefficients (..., 2, M)."""
        scores: Tensor = observed.flatten(-2) @ self.basis @ self.turned.T
        return scores

    @property
    def coefficients(self) -> int:
        """How many complex coefficients of a patch are matched, M."""
        return self.basis.shape[0] // 2

    def best_apart(self, scores: Tensor, count: int) -> Tensor:
        """Which rotations match best and lie well apart, (N, count), best first."""
        left = scores.clone()
        chosen = [left.argmax(-1)]
        while len(chosen) < count:
            trace = self.rotations[chosen[-1]].flatten(1) @ self.rotations.flatten(1).T
            left.masked_fill_(trace > 1 + 2 * math.cos(self._apart), -torch.inf)
            chosen.append(left.argmax(-1))
        return torch.stack(chosen, dim=1)


class Sight(nn.Module):
    """A reference and a model as buffers of a module, so that they move to a device with it."""

    table: Tensor

    def __init__(self, reference: Reference, model: ForwardModel) -> None:
        super().__init__()
        reference = reference.within(1 / float(model.frequency.norm(dim=-1).max()))
        self._reference, self._model = reference, model
        self.register_buffer("table", reference.table, persistent=False)
        for item in fields(ForwardModel):
            if item.name not in _NUMBERS:
                self.register_buffer(item.name, getattr(model, item.name))

    @property
    def reference(self) -> Reference:
        """The reference, on the module's device."""
        return replace(self._reference, table=self.table)

    @property
    def model(self) -> ForwardModel:
        """The model, on the module's device."""
        names = [item.name for item in fields(ForwardModel) if item.name not in _NUMBERS]
        return replace(self._model, **{name: getattr(self, name) for name in names})


def shown_reference(reference: Reference, model: ForwardModel, rotations: Tensor) -> Tensor:
    """Turned references as they show, (J, 2, M), each of length 1."""
    shown = reference.sample(model.frequency @ rotations)[..., 0].movedim(-1, 1) * model.whitened_gain
    length = shown.flatten(1).norm(dim=1).clamp_min(1e-12)
    unit: Tensor = shown / length[:, None, None]
    return unit


def leading_vectors(full: Tensor, dimensions: int) -> Tensor:
    """Leading right singular vectors of (J, 2M), (2M, D), by a randomised range finder: Halko et al., 2011."""
    dimensions = min(dimensions, *full.shape)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(full.shape[0], min(dimensions + 32, *full.shape), generator=generator).to(full)
    span = torch.linalg.qr(full.T @ (full @ (full.T @ draw)))[0]
    within = full @ span
    _, vectors = torch.linalg.eigh(within.T @ within)
    leading: Tensor = span @ vectors.flip(1)[:, :dimensions]
    return leading.contiguous()


_ROUGHER, _ROUGH_DIMENSIONS = 4 / 3, 32
"""Places are ranked by matches without the finest detail, in few dimensions, before the best are looked at again."""
_TRIED = 16
"""Places looked at again for each one asked for: the best of all is among them."""
_LEAST_CURVATURE = 1e-3
_FURTHEST = 0.75


class Centring(nn.Module):
    """Finds where in a patch the particle stands, however it is turned: few rotations, in every place it may have.

    Parameters
    ----------
    reference, model : what is matched, and how it shows; the model's window is widened to the places allowed.
    filters : coarse ones, on the first coefficients of the model.
    max_shift : Å along each axis.
    spacing : Å between the places tried, at most.
    """

    places: Tensor
    beside: Tensor
    waves: Tensor
    basis: Tensor
    rough_basis: Tensor
    rough_turned: Tensor
    rough_waves: Tensor

    def __init__(
        self, reference: Reference, model: ForwardModel, *, filters: Filters, max_shift: float, spacing: float
    ) -> None:
        super().__init__()
        side = model.box + 2 * math.ceil(max_shift / model.voxel_size)
        wide = window(side, model.voxel_size, reference.radius + max_shift).to(reference.device)
        self.sight = Sight(reference, replace(model.lowest(filters.coefficients), window=wide))
        self.filters = filters
        self._reach = max_shift + model.voxel_size / 2
        self._spacing = max_shift / math.ceil(max_shift / spacing) if max_shift else 1.0
        line = torch.arange(-max_shift, max_shift + self._spacing / 2, self._spacing, device=reference.device)
        places = torch.cartesian_prod(line, line, line)
        angle = 2 * torch.pi * (places @ self.sight.model.frequency.T)
        self.register_buffer("places", places)
        self.register_buffer("beside", torch.cdist(places, places) < 1.5 * self._spacing, persistent=False)
        self.register_buffer("waves", torch.polar(torch.ones_like(angle), angle), persistent=False)
        # Real and imaginary parts side by side, as a patch's lie, rather than apart as the filters have them.
        basis = filters.basis.detach().unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
        self.register_buffer("basis", basis.contiguous())
        self._add_rough()

    def _add_rough(self) -> None:
        frequency = self.sight.model.frequency.norm(dim=-1)
        count = int((frequency <= frequency.max() / _ROUGHER).sum())
        turned = self.filters.turned.detach() @ self.basis[: 2 * count].T
        basis = leading_vectors(turned, _ROUGH_DIMENSIONS)
        matched = turned @ basis
        matched /= matched.norm(dim=1, keepdim=True).clamp_min(1e-12)
        waves = self.waves[:, :count]
        self.register_buffer("rough_basis", basis.view(count, 2, -1).transpose(0, 1).contiguous())
        self.register_buffer("rough_turned", matched.T.contiguous())
        self.register_buffer("rough_waves", torch.cat([waves.real, waves.imag], dim=1), persistent=False)

    @torch.no_grad()
    def forward(self, patches: Tensor, *, count: int = 1) -> Tensor:
        """Whole voxels xyz (N, count, 3) from the patches' centres to where the particles may stand, best first."""
        if len(self.places) == 1:
            return torch.zeros(len(patches), 1, 3, device=patches.device)
        observed = self.sight.model.observe(patches)
        patch = torch.view_as_complex(observed.movedim(1, -1).contiguous())
        tried = self._ranked(observed, min(_TRIED * count, len(self.places)))
        matches = self._scores(patch, tried)
        chosen = self._apart(matches.amax(-1), tried, count)
        rotation = matches.argmax(-1).gather(1, chosen)
        place = tried.gather(1, chosen)
        shifts = self.places[place] + self._steps(patch[:, None] * self.waves[place], rotation)
        return torch.round(shifts.clamp(-self._reach, self._reach) / self.sight.model.voxel_size)

    def _ranked(self, observed: Tensor, count: int) -> Tensor:
        """The places (N, count) where the rough match with any rotation is best, by coefficients (N, 2, M)."""
        if count == len(self.places):
            return torch.arange(count, device=observed.device).expand(len(observed), count)
        first, second = self.rough_basis
        real, imaginary = observed[:, :, : len(first), None].unbind(1)
        # The patch's coefficients times the filters', once; then the waves of all places: one product.
        parts = observed.new_empty(len(observed), 2, *first.shape)
        torch.mul(real, first, out=parts[:, 0]).addcmul_(imaginary, second)
        torch.mul(real, second, out=parts[:, 1]).addcmul_(imaginary, first, value=-1)
        scores = (self.rough_waves @ parts.flatten(1, 2)) @ self.rough_turned
        return scores.amax(-1).topk(count, dim=1).indices

    def _scores(self, patch: Tensor, places: Tensor) -> Tensor:
        """Match in places (N, S) with every rotation, (N, S, J), of complex coefficients (N, M)."""
        moved = torch.view_as_real(patch[:, None] * self.waves[places]).flatten(-2)
        scores: Tensor = moved @ self.basis @ self.filters.turned.T
        return scores

    def _apart(self, scores: Tensor, places: Tensor, count: int) -> Tensor:
        """Which of places (N, S) have the best scores (N, S), each not beside a better one, (N, count)."""
        left, chosen = scores, [scores.argmax(-1)]
        while len(chosen) < count:
            last = places.gather(1, chosen[-1][:, None])
            left = left.masked_fill(self.beside[last, places], -torch.inf)
            chosen.append(left.argmax(-1))
        return torch.stack(chosen, dim=1)

    def _steps(self, moved: Tensor, rotation: Tensor) -> Tensor:
        """Steps in Å, (N, K, 3), to where each place's best rotation matches best: one of Newton's.

        Parameters
        ----------
        moved : (N, K, M) complex coefficients about the places.
        rotation : (N, K) of the filters.
        """
        filters = torch.view_as_complex((self.filters.turned[rotation] @ self.basis.T).unflatten(-1, (-1, 2)))
        match = filters.conj() * moved
        wave = 2 * torch.pi * self.sight.model.frequency
        slope = -(match.imag @ wave)
        curve = (match.real @ (wave[:, :, None] * wave[:, None]).flatten(1)).unflatten(-1, (3, 3))
        diagonal = curve.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(_LEAST_CURVATURE * diagonal.abs().amax(-1, keepdim=True) + 1e-12)
        step: Tensor = torch.linalg.solve_ex(curve, slope)[0]
        return step.nan_to_num().clamp(-_FURTHEST * self._spacing, _FURTHEST * self._spacing)
