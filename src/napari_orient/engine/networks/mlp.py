"""The paper's fully connected network (MLP): its layers, its front end, and its answers to half-turned patches.

A patch is answered in four copies, half-turned about x, y and z. `HalfTurnAverage` computes the four in one pass. The
half-turns g and the identity are a group whose characters χ_a(g) are ±1. With f the features, P_g f those of a copy and
W the weights of the first layer,

    W P_g f = Σ_a χ_a(g) W_a Y_a,      Y_a(r) = Σ_h χ_a(h) f(h r),      W_a(r) = ¼ Σ_h χ_a(h) W(h r) / m(r),

where r is one voxel of each orbit and m(r) the number of half-turns that leave it in its place. The four products are
as large as that of a single copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from napari_orient.engine.model.grid import unit_phase
from napari_orient.engine.parameters import NetworkOptions
from napari_orient.engine.representations import REPRESENTATIONS, Representation
from napari_orient.engine.rotations import HALF_TURNS
from napari_orient.engine.symmetry import symmetry

HALF_TURN_MATRICES = torch.tensor(HALF_TURNS, dtype=torch.float32)
"""The rotations that keep the missing wedge, (4, 3, 3)."""
_CHARACTERS = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
"""χ_a(g), (4, 4), of the half-turns in that order."""
_CACHED_CUBES = 8
"""Cubes binned together on a CPU: 2 MB of 40³ voxels, about what its second-level cache holds. Speed only."""
_LEAK = 0.1
"""Slope of LeakyReLU below 0, as printed."""
_PAPER_DEVIATION = 0.05
"""Standard deviation of the printed initialisation."""


class BareLinear(nn.Linear):
    """A linear layer whose weights are whatever stands in memory, until they are loaded or drawn.

    ``torch.nn.utils.skip_init`` does the same, but imports sympy: half a second.
    """

    def reset_parameters(self) -> None:
        """Draw nothing."""


class MLP(nn.Module):
    """Fully connected layers on the voxels of a patch: LeakyReLU (0.1) between, tanh at the end.

    ``condense`` bins a patch to a cube, ``features`` takes the cube's voxels inside the mask, ``forward`` gives raw
    vectors of the representation, ``averaged`` what averages the rotations of the four half-turned copies of a patch.
    """

    voxels: Tensor
    """(4, F) indices of the features in a flattened cube, for each half-turn of the patch."""
    weights: Tensor
    """(F,) soft mask."""
    group: Tensor
    """(G, 3, 3) rotations of the symmetry group."""
    calibration: Tensor
    """(2,) variance floor in deg², and factor of the half-turns' spread²; NaN until calibrated."""

    def __init__(self, options: NetworkOptions, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.options = options
        self.representation: Representation = REPRESENTATIONS[options.representation]
        voxels, weights = _mask(options)
        self.register_buffer("voxels", voxels, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        group = torch.tensor(symmetry(options.symmetry).matrices, dtype=torch.float32)
        self.register_buffer("group", group, persistent=False)
        self.register_buffer("calibration", torch.full((2,), math.nan))
        sizes = [len(weights), *[options.width] * options.depth, self.representation.size]
        self.layers = nn.ModuleList(BareLinear(*pair) for pair in pairwise(sizes))
        if generator is not None:
            self._initialise(generator)

    @property
    def patch_side(self) -> int:
        """Voxels along each side of the patches that it takes."""
        return self.options.patch_side

    @property
    def patch_voxel_size(self) -> float:
        """Å of these voxels."""
        return self.options.patch_voxel_size

    def condense(self, patches: Tensor) -> Tensor:
        """Cubes (N, m, m, m) of patches (N, side, side, side): Fourier-binned by the masked front end."""
        if self.options.front_end == "raw" or self.options.binning == 1:
            return patches
        return fourier_bin(patches, self.options.binning)

    def features(self, cubes: Tensor, half_turns: Tensor | int = 0) -> Tensor:
        """(N, F) inputs of the first layer: masked voxels at mean 0 and deviation 1, of the half-turned cubes.

        ``half_turns`` are indices into `HALF_TURNS`, one for all or (N,).
        """
        flat = cubes.flatten(1)
        if self.options.front_end == "raw" and isinstance(half_turns, int) and half_turns == 0:
            return flat.float()
        if isinstance(half_turns, int):
            chosen = flat[:, self.voxels[half_turns]].float()
        else:
            chosen = flat.gather(1, self.voxels[half_turns]).float()
        if self.options.front_end == "raw":
            return chosen
        mean = (chosen * self.weights).sum(1, keepdim=True) / self.weights.sum()
        centred = (chosen - mean) * self.weights
        return centred / centred.std(1, keepdim=True).clamp_min(1e-6)

    def forward(
        self,
        features: Tensor,
        *,
        generator: torch.Generator | None = None,
        own: Tensor | None = None,
        total: int | None = None,
    ) -> Tensor:
        """Raw vectors (N, size) in (-1, 1); with a generator, hidden nodes are left out as in training.

        Parameters
        ----------
        own, total : rows (N,) of the features in a batch of ``total``, for all of which nodes are drawn; None = all.
        """
        *hidden, last = self.layers
        for layer in hidden:
            features = nn.functional.leaky_relu(layer(features), _LEAK)
            if generator is not None and self.options.dropout > 0:
                features = _dropout(features, self.options.dropout, generator, own, total or len(features))
        return torch.tanh(last(features))

    @torch.no_grad()
    def averaged(self) -> HalfTurnAverage:
        """What averages the answers to half-turned copies, with the weights as they are now."""
        orbits = self.voxels[:, self.voxels[0] == self.voxels.amin(0)]
        fixed = (orbits == orbits[0]).sum(0)
        row = self.voxels.new_zeros(int(self.voxels.max()) + 1)
        row[self.voxels[0]] = torch.arange(self.voxels.shape[1], device=row.device)
        hidden = self.layers[0]
        assert isinstance(hidden, nn.Linear)
        first = hidden.weight.index_select(1, row[orbits.flatten()])
        first = first.unflatten(1, tuple(orbits.shape)).movedim(0, -1)
        characters = _CHARACTERS.to(first.device)
        weights = torch.einsum("ah,hrw->arw", characters, first) / (4 * fixed[:, None])
        mask = None if self.options.front_end == "raw" else self.weights[row[orbits[0]]]
        return HalfTurnAverage(self, orbits, 1 / fixed, mask, weights)

    def predict(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rotations and expected errors of patches (N, side, side, side); see `HalfTurnAverage.predict`."""
        return self.averaged().predict(self.condense(patches))

    def _initialise(self, generator: torch.Generator) -> None:
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            paper = self.options.initialisation == "paper"
            deviation = _PAPER_DEVIATION if paper else math.sqrt(2 / layer.in_features)
            nn.init.normal_(layer.weight, std=deviation, generator=generator)
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True, eq=False)
class HalfTurnAverage:
    """The mean answer of an MLP to the four half-turned copies of a patch, computed in one pass.

    Parameters
    ----------
    mlp : its weights must stay as they were.
    orbits : (4, R) voxels of a flattened cube that half-turns exchange.
    share : (R,) 1 / m, of voxels that stay in their place.
    mask : (R,) soft mask of the orbits; None for the raw front end.
    first : (4, R, W) weights of the first layer for each character.
    """

    mlp: MLP
    orbits: Tensor
    share: Tensor
    mask: Tensor | None
    first: Tensor

    @torch.inference_mode()
    def predict(self, cubes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rotations (N, 3, 3) of condensed patches, and their expected errors (N,) in degrees; None if not calibrated.

        Parameters
        ----------
        cubes : (N, m, m, m), indexed [n, z, y, x], of patches of mean 0 and deviation 1.
        """
        rotations, spread = self.mean_of(self.raw(cubes))
        if bool(torch.isnan(self.mlp.calibration).any()):
            return rotations, None
        floor, factor = self.mlp.calibration
        return rotations, torch.sqrt(floor + factor * spread**2)

    def raw(self, cubes: Tensor) -> Tensor:
        """Raw vectors of the four copies of cubes (N, m, m, m), (4, N, size); the first is the cube as it is."""
        parts, deviation = self._by_character(cubes)
        start, *hidden, last = self.mlp.layers
        assert isinstance(start, nn.Linear)
        products = torch.bmm(parts, self.first)
        if deviation is not None:
            products = products / deviation
        copies = torch.einsum("ga,anw->gnw", _CHARACTERS.to(products.device).T, products) + start.bias
        copies = nn.functional.leaky_relu(copies, _LEAK)
        for layer in hidden:
            copies = nn.functional.leaky_relu(layer(copies), _LEAK)
        return torch.tanh(last(copies))

    def mean_of(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean rotations (N, 3, 3) of four copies, and the rms angle (N,) of these from that mean, degrees.

        Parameters
        ----------
        raw : (4, N, size) as `raw` gives them.
        """
        half_turns = HALF_TURN_MATRICES.to(raw.device)[:, None]
        rotations = (half_turns.mT @ self.mlp.representation.to_matrix(raw)).movedim(0, 1)
        rotations = self._nearest_copies(rotations, rotations[:, :1])
        mean = REPRESENTATIONS["9d"].to_matrix(rotations.mean(1).flatten(1))
        # |A - B|² = 8 sin²(θ/2) for rotations θ apart.
        sine = ((rotations - mean[:, None]).square().sum((-1, -2)) / 8).clamp(0, 1).sqrt()
        return mean, torch.rad2deg(2 * torch.asin(sine)).square().mean(1).sqrt()

    def _by_character(self, cubes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Masked features by character (4, N, R), and the deviation (N, 1) to divide by; None of the raw front end."""
        voxels = cubes.flatten(1).index_select(1, self.orbits.flatten()).float()
        one, about_x, about_y, about_z = voxels.view(len(cubes), 4, -1).unbind(1)
        parts = voxels.new_empty(4, len(cubes), self.orbits.shape[1])
        plus, minus, other_plus, other_minus = one + about_x, one - about_x, about_y + about_z, about_y - about_z
        torch.add(plus, other_plus, out=parts[0])
        torch.sub(plus, other_plus, out=parts[1])
        torch.add(minus, other_minus, out=parts[2])
        torch.sub(minus, other_minus, out=parts[3])
        if self.mask is None:
            return parts, None
        total = (self.mask * self.share).sum()
        parts[0] -= (parts[0] @ (self.mask * self.share) / total)[:, None]
        parts *= self.mask
        # Of an orbit, the squares of all voxels are those of all characters, over four.
        squares = (parts.square() @ (self.share / 4)).sum(0)
        deviation = (squares / (self.mlp.voxels.shape[1] - 1)).sqrt().clamp_min(1e-6)
        return parts, deviation[:, None]

    def _nearest_copies(self, rotations: Tensor, targets: Tensor) -> Tensor:
        group = self.mlp.group
        if len(group) == 1:
            return rotations
        overlap = torch.einsum("...ji,...jk,gik->...g", rotations, targets.expand_as(rotations), group)
        return rotations @ group[overlap.argmax(-1)]


def fourier_bin(cubes: Tensor, factor: int) -> Tensor:
    """Cubes binned by a whole factor, (N, side/factor, ...): frequencies above the new Nyquist are cut.

    The centre voxel ``side // 2`` falls on the centre voxel of the smaller cube. Along each axis it is one matrix.
    """
    matrix = _binning_matrix(cubes.shape[-1], factor, cubes.device)
    together = _CACHED_CUBES if cubes.device.type == "cpu" else max(1, len(cubes))
    return torch.cat([_binned(part.float(), matrix) for part in cubes.split(together)])


def _binned(cubes: Tensor, matrix: Tensor) -> Tensor:
    """Cubes (N, n, n, n) multiplied by a matrix (m, n) along each axis."""
    small, side = matrix.shape
    along_z = matrix @ cubes.reshape(-1, side, side * side)
    along_y = matrix @ along_z.view(-1, side, side)
    binned: Tensor = (along_y.view(-1, side) @ matrix.T).view(-1, small, small, small)
    return binned


@lru_cache(maxsize=32)
def _binning_matrix(side: int, factor: int, device: torch.device) -> Tensor:
    """What bins a line of voxels, (side/factor, side): its frequencies below the new Nyquist, sampled at fewer voxels.

    The Nyquist frequency itself is left out: it would break the symmetry of half-turns.
    """
    small = side // factor
    place = factor * torch.arange(small, dtype=torch.float64)[:, None] - torch.arange(side)
    frequency = torch.arange(1, small // 2, dtype=torch.float64) / side
    waves = 1 + 2 * torch.cos(2 * math.pi * place[..., None] * frequency).sum(-1)
    matrix: Tensor = waves / (small * factor**0.5)
    return matrix.float().to(device)


def shift_cubes(cubes: Tensor, shifts: Tensor) -> Tensor:
    """Cubes (N, m, m, m) moved by (N, 3) xyz voxels, fractions too, wrapping round."""
    side = cubes.shape[-1]
    full, half = torch.fft.fftfreq(side, device=cubes.device), torch.fft.rfftfreq(side, device=cubes.device)
    x, y, z = (2 * math.pi * shifts).unbind(1)
    phase = z[:, None, None, None] * full[:, None, None] + y[:, None, None, None] * full[:, None]
    phase = phase + x[:, None, None, None] * half
    spectrum = torch.fft.rfftn(cubes.float(), dim=(1, 2, 3)) * unit_phase(-phase)
    moved: Tensor = torch.fft.irfftn(spectrum, s=cubes.shape[1:], dim=(1, 2, 3))
    return moved


def _mask(options: NetworkOptions) -> tuple[Tensor, Tensor]:
    """Indices (4, F) of the voxels used, half-turned about the centre voxel, and their weights (F,)."""
    raw = options.front_end == "raw"
    side = options.patch_side if raw else options.patch_side // options.binning
    offsets = torch.arange(side) - side // 2
    grid = torch.stack(torch.meshgrid(offsets, offsets, offsets, indexing="ij"), dim=-1).reshape(-1, 3)
    weights = torch.ones(len(grid))
    if not raw:
        voxel_size = options.patch_voxel_size * options.binning
        excess = grid.float().norm(dim=1) * voxel_size - options.mask_radius
        weights = 0.5 * (1 + torch.cos(math.pi * (excess / (2 * voxel_size) + 0.5).clamp(0, 1)))
        # The outermost layer on the low side has no partner on the high side; it takes no part.
        weights[(grid == -(side // 2)).any(1)] = 0
    used = grid[weights > 0]
    half_turns = HALF_TURN_MATRICES.round().long().flip(-1, -2)
    # The half-turned patch at x is the patch at gᵀx; indices wrap at the low rim, as the Fourier shift does.
    voxels = (torch.einsum("gji,nj->gni", half_turns, used) + side // 2) % side
    return (voxels[..., 0] * side + voxels[..., 1]) * side + voxels[..., 2], weights[weights > 0]


def _dropout(features: Tensor, share: float, generator: torch.Generator, own: Tensor | None, total: int) -> Tensor:
    drawn = torch.rand((total, features.shape[1]), generator=generator, device=features.device)
    kept = (drawn if own is None else drawn[own]) >= share
    return features * kept / (1 - share)
