"""Where in a patch the particle stands, however it is turned: few rotations, in every place that it may have."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_orient.engine.matching.imaging import Imaging
from napari_orient.engine.matching.reference import Reference
from napari_orient.engine.matching.spectrum import window
from napari_orient.engine.networks.filters import Filters, Sight, leading_vectors

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
    reference, imaging : what is matched, and how it shows; the imaging's window is widened to the places allowed.
    filters : coarse ones, on the first coefficients of the imaging.
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
        self, reference: Reference, imaging: Imaging, *, filters: Filters, max_shift: float, spacing: float
    ) -> None:
        super().__init__()
        side = imaging.box + 2 * math.ceil(max_shift / imaging.voxel_size)
        wide = window(side, imaging.voxel_size, reference.radius + max_shift).to(reference.device)
        self.sight = Sight(reference, replace(imaging.first(filters.coefficients), window=wide))
        self.filters = filters
        self._reach = max_shift + imaging.voxel_size / 2
        self._spacing = max_shift / math.ceil(max_shift / spacing) if max_shift else 1.0
        line = torch.arange(-max_shift, max_shift + self._spacing / 2, self._spacing, device=reference.device)
        places = torch.cartesian_prod(line, line, line)
        angle = 2 * torch.pi * (places @ self.sight.imaging.frequency.T)
        self.register_buffer("places", places)
        self.register_buffer("beside", torch.cdist(places, places) < 1.5 * self._spacing, persistent=False)
        self.register_buffer("waves", torch.polar(torch.ones_like(angle), angle), persistent=False)
        # Real and imaginary parts side by side, as a patch's lie, rather than apart as the filters have them.
        basis = filters.basis.detach().unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
        self.register_buffer("basis", basis.contiguous())
        self._add_rough()

    def _add_rough(self) -> None:
        frequency = self.sight.imaging.frequency.norm(dim=-1)
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
        observed = self.sight.imaging.observe(patches)
        patch = torch.view_as_complex(observed.movedim(1, -1).contiguous())
        tried = self._ranked(observed, min(_TRIED * count, len(self.places)))
        matches = self._scores(patch, tried)
        chosen = self._apart(matches.amax(-1), tried, count)
        rotation = matches.argmax(-1).gather(1, chosen)
        place = tried.gather(1, chosen)
        shifts = self.places[place] + self._steps(patch[:, None] * self.waves[place], rotation)
        return torch.round(shifts.clamp(-self._reach, self._reach) / self.sight.imaging.voxel_size)

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
        wave = 2 * torch.pi * self.sight.imaging.frequency
        slope = -(match.imag @ wave)
        curve = (match.real @ (wave[:, :, None] * wave[:, None]).flatten(1)).unflatten(-1, (3, 3))
        diagonal = curve.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(_LEAST_CURVATURE * diagonal.abs().amax(-1, keepdim=True) + 1e-12)
        step: Tensor = torch.linalg.solve_ex(curve, slope)[0]
        return step.nan_to_num().clamp(-_FURTHEST * self._spacing, _FURTHEST * self._spacing)
