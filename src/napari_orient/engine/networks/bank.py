"""A matched-filter network: a reference turned every way, folded into one matrix that scores patches against all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.imaging import Imaging
from napari_orient.engine.matching.reference import Reference
from napari_orient.engine.networks.centring import Centring
from napari_orient.engine.networks.contract import at_once
from napari_orient.engine.networks.filters import Filters, Sight, leading_vectors, shown_reference
from napari_orient.engine.options import Options, option
from napari_orient.engine.rotations import FloatArray, Symmetry, even_rotations

_BUILD_BATCH = 32
_COARSE = 1.5
_TOLD = 0.93


@dataclass(frozen=True, kw_only=True)
class BankOptions(Options):
    """What a matched-filter bank is made of."""

    rotations: int = option(4608, help="rotations over the asymmetric unit", low=60, high=200_000)
    dimensions: int = option(
        160, help="dimensions that patches and turned references are compressed to", low=8, high=4096
    )
    search_resolution: float = option(40.0, help="finest detail that the bank matches", unit="Å", low=1, high=200)
    max_shift: float = option(30.0, help="how far along each axis a pick may be off", unit="Å", low=0, high=200)
    coarse_rotations: int = option(576, help="rotations of the search that finds the centre", low=60, high=20_000)
    coarse_dimensions: int = option(96, help="dimensions of the search that finds the centre", low=8, high=1024)


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
    reference, imaging : what is matched, and how it shows.
    centring : finds the particle first.
    filters : one for each rotation.

    Its ``telling`` (M,) masks the coefficients that its matches are polished on.
    """

    def __init__(self, reference: Reference, imaging: Imaging, *, centring: Centring, filters: Filters) -> None:
        super().__init__()
        self.sight = Sight(reference, imaging)
        self.centring = centring
        self.filters = filters
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("telling", telling(reference, imaging, _TOLD), persistent=False)

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
        return self.ranked(self.sight.imaging.observe(patches, centres), starts=starts)

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


def build_centring(
    reference: Reference, imaging: Imaging, group: Symmetry, options: BankOptions = BankOptions()
) -> Centring:
    """What finds the centre of a reference that shows under an imaging.

    Raises
    ------
    InputError
        If too few coefficients of the patch lie within the resolution.
    """
    rough = _enough(imaging.within(options.search_resolution * _COARSE), options.coarse_dimensions, options)
    filters = _filters(reference, rough, group, count=options.coarse_rotations, dimensions=options.coarse_dimensions)
    spacing = options.search_resolution * _COARSE / 4
    max_shift = options.max_shift if options.max_shift >= imaging.voxel_size else 0.0
    return Centring(reference, imaging, filters=filters, max_shift=max_shift, spacing=spacing)


def build_bank(
    reference: Reference, imaging: Imaging, group: Symmetry, options: BankOptions = BankOptions()
) -> MatchedFilterBank:
    """The bank of a reference as it shows under an imaging, modulo the group's rotations.

    Raises
    ------
    InputError
        If too few coefficients of the patch lie within the resolution.
    """
    centring = build_centring(reference, imaging, group, options)
    imaging = _enough(imaging.within(options.search_resolution), options.dimensions, options)
    filters = _filters(reference, imaging, group, count=options.rotations, dimensions=options.dimensions)
    return MatchedFilterBank(reference, imaging, centring=centring, filters=filters)


def _enough(imaging: Imaging, dimensions: int, options: BankOptions) -> Imaging:
    if 2 * len(imaging.steps) < dimensions:
        raise InputError(
            f"only {len(imaging.steps)} coefficients of the patch serve a search at {options.search_resolution:g} Å. "
            "Use larger patches, a finer resolution or fewer dimensions."
        )
    return imaging


def _filters(reference: Reference, imaging: Imaging, group: Symmetry, *, count: int, dimensions: int) -> Filters:
    rotations = torch.as_tensor(asymmetric_rotations(count, group), dtype=torch.float32, device=reference.device)
    some = rotations[:: max(1, len(rotations) // (4 * dimensions))]
    basis = leading_vectors(shown_reference(reference, imaging, some).flatten(1), dimensions)
    parts = rotations.split(at_once(rotations.device, _BUILD_BATCH))
    turned = [shown_reference(reference, imaging, part).flatten(1) @ basis for part in parts]
    return Filters(rotations, basis=basis, turned=torch.cat(turned))


def telling(reference: Reference, imaging: Imaging, share: float) -> Tensor:
    """Mask (M,) of the fewest coefficients that hold a share of all that a patch tells of a pose.

    What a coefficient tells of a turn or a shift grows with its signal over noise and its squared frequency.
    """
    turns = torch.as_tensor(even_rotations(60), dtype=torch.float32, device=imaging.frequency.device)
    values = reference.sample(imaging.frequency @ turns)[..., 0] * imaging.weight[:, None]
    told = values.square().sum(-1).mean(0) * imaging.frequency.square().sum(-1)
    order = torch.argsort(told, descending=True)
    held = torch.cumsum(told[order], 0) / told.sum()
    mask = torch.zeros_like(told, dtype=torch.bool)
    mask[order[: int((held < share).sum()) + 1]] = True
    return mask
