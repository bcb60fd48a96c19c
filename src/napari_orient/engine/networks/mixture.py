"""The mixture network: poses from rotated views of a whitened patch, proposed, then refined.

Each view is the patch rotated into one of 24 frames, those of the cube's own rotations, which only permute voxels. One
fully connected network, the *proposer*, answers for every view whether the particle stands near the reference's own
frame there, and by which rotation (6D, Gram-Schmidt) and shift it is off. The answers are a mixture over rotations:
R = F_k Q_k with the weight of view k, and one more component for a patch that holds no such particle. The best
proposals are then refined: the patch is sampled in the proposed pose, and a second network of the same make, the
*refiner*, answers by which small rotation and shift the pose is off, and whether it is right.

Both networks see the projection of a view on the principal components of simulated views (Turk & Pentland 1991).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, permutations

import torch
from torch import Tensor, nn

from napari_orient.engine.model.grid import soft_ball, unit_phase
from napari_orient.engine.networks.mlp import BareLinear
from napari_orient.engine.parameters import MixtureOptions
from napari_orient.engine.representations import SIXD
from napari_orient.engine.symmetry import symmetry

_LEAK = 0.1
"""Slope of LeakyReLU below 0, as in the paper's network."""
_EDGE = 30.0
"""Å, width of the mask's soft edge, where its radius is 130 Å."""
_SHIFT_UNIT = 30.0
"""Å of one unit of the last layer's shift, where the mask's radius is 130 Å."""
_SIGMA = (0.01, 0.3, 0.8)
"""Least, first and largest deviation of a rotation about each axis, radians."""
_KEPT = 8
"""Proposals kept of the views about the pick, and as many of those about the centre that the best of these found."""
_ROUNDS = (8, 5, 4)
"""Hypotheses kept after each refinement."""
_OTHER_MODE_DEG = 30.0
"""Degrees from the best pose beyond which another is a mode of its own."""
_NOTHING = -20.0
"""Log-odds of a patch that is flat."""
_OUTPUTS = 11
"""Of a view network: six of the rotation, three of the shift, one of the weight, one of the deviation."""


@dataclass(frozen=True, eq=False)
class Poses6D:
    """Poses of H hypotheses for each of N patches.

    Parameters
    ----------
    rotations : (N, H, 3, 3) reference frame -> patch frame.
    shifts : (N, H, 3) xyz in Å from the patch's centre to the particle's centre of mass.
    logit : (N, H) log-odds that the hypothesis is right, or log-weight against no particle.
    sigma : (N, H) standard deviation of the rotation about each axis, radians, if it is right.
    """

    rotations: Tensor
    shifts: Tensor
    logit: Tensor
    sigma: Tensor

    def of(self, rows: Tensor) -> Poses6D:
        """The hypotheses of these patches."""
        return Poses6D(self.rotations[rows], self.shifts[rows], self.logit[rows], self.sigma[rows])

    def take(self, columns: Tensor) -> Poses6D:
        """The hypotheses of these columns, (N, K) indices."""
        rotations = self.rotations.gather(1, columns[..., None, None].expand(*columns.shape, 3, 3))
        shifts = self.shifts.gather(1, columns[..., None].expand(*columns.shape, 3))
        return Poses6D(rotations, shifts, self.logit.gather(1, columns), self.sigma.gather(1, columns))


@dataclass(frozen=True, eq=False)
class BestPoses:
    """The best pose of each of N patches.

    Parameters
    ----------
    rotations : (N, 3, 3) reference frame -> patch frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the particle's centre of mass.
    log_odds : (N,) that it is right.
    error_deg : (N,) rms angle in degrees if it is.
    """

    rotations: Tensor
    shifts: Tensor
    log_odds: Tensor
    error_deg: Tensor


def joined(first: Poses6D, second: Poses6D) -> Poses6D:
    """The hypotheses of both, (N, H + K)."""
    names = ("rotations", "shifts", "logit", "sigma")
    return Poses6D(*(torch.cat([getattr(first, name), getattr(second, name)], dim=1) for name in names))


class ViewNetwork(nn.Module):
    """Fully connected layers on the principal components of a view: residual rotation, shift, logit, deviation."""

    basis: Tensor
    """(F, D) orthonormal columns."""

    def __init__(
        self,
        voxels: int,
        *,
        components: int,
        width: int,
        depth: int,
        shift_unit: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(voxels, components))
        self.shift_unit = shift_unit
        sizes = [components + 1, *[width] * depth, _OUTPUTS]
        self.layers = nn.ModuleList(BareLinear(*pair) for pair in pairwise(sizes))
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            last = index == len(self.layers) - 1
            nn.init.normal_(layer.weight, std=math.sqrt((0.01 if last else 2.0) / sizes[index]), generator=generator)
            nn.init.zeros_(layer.bias)

    def features(self, views: Tensor) -> Tensor:
        """Principal components of views (..., F), brought to one length, and the logarithm of what it was."""
        found = (views @ self.basis).float()
        length = found.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        size = found.shape[-1] ** 0.5
        return torch.cat([found * (size / length), torch.log(length / size)], dim=-1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Residual rotations (..., 3, 3), shifts (..., 3) Å, logits (...), deviations (...) in radians."""
        *hidden, last = self.layers
        for layer in hidden:
            features = nn.functional.leaky_relu(layer(features), _LEAK)
        raw = last(features).float()
        identity = SIXD.from_matrix(torch.eye(3, device=raw.device))
        rotation = SIXD.to_matrix(identity + raw[..., :6])
        least, first, most = _SIGMA
        sigma = (raw[..., 10] + math.log(first)).clamp(math.log(least), math.log(most)).exp()
        return rotation, raw[..., 6:9] * self.shift_unit, raw[..., 9], sigma


class PoseMixture(nn.Module):
    """Proposer and refiner, and the views of a whitened patch that they are given."""

    places: Tensor
    """(F, 3) xyz in Å of a view's voxels from its centre."""
    weights: Tensor
    """(F,) soft mask."""
    voxels: Tensor
    """(24, F) indices of these voxels in a flattened patch, for each view."""
    frames: Tensor
    """(24, 3, 3) rotations of the cube."""
    group: Tensor
    """(G, 3, 3) rotations of the symmetry group."""
    calibration: Tensor
    """(4,) slope and offset of the log-odds, variance floor in deg² and factor of the variance; NaN until measured."""

    def __init__(self, options: MixtureOptions, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.options = options
        places, weights = view_lattice(options)
        self.register_buffer("places", places * options.box / options.view_side, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("frames", cube_rotations(), persistent=False)
        self.register_buffer("voxels", _view_voxels(places, options.view_side), persistent=False)
        group = torch.tensor(symmetry(options.symmetry).matrices, dtype=torch.float32)
        self.register_buffer("group", group, persistent=False)
        self.register_buffer("calibration", torch.full((4,), math.nan))
        common = partial(
            ViewNetwork,
            len(weights),
            depth=options.depth,
            shift_unit=_SHIFT_UNIT * options.scale,
            generator=generator,
        )
        self.proposer = common(width=options.width, components=options.components)
        self.refiner = common(width=options.refiner_width, components=options.refiner_components)

    def rotated_views(self, spectra: Tensor, centres: Tensor) -> Tensor:
        """The 24 views (N, 24, F) of whitened patches about centres (N, 3), Å from the patch's centre."""
        side = self.options.view_side
        phase = _phase(spectra, centres / self.options.box)
        moved = spectra * unit_phase(phase)
        cubes: Tensor = torch.fft.irfftn(moved, s=(side,) * 3, dim=(1, 2, 3)) * side**1.5
        return cubes.flatten(1)[:, self.voxels] * self.weights

    def fine_cubes(self, spectra: Tensor) -> Tensor:
        """Whitened patches (N, n, n, n) in space, on the patch's own voxels."""
        side, small = self.options.patch_side, self.options.view_side
        half = small // 2
        whole = spectra.new_zeros(len(spectra), side, side, side // 2 + 1)
        # The Nyquist planes of the small spectrum hold nothing.
        for first, last in ((0, half), (side - half + 1, side)):
            for low, high in ((0, half), (side - half + 1, side)):
                rows = slice(0, half) if first == 0 else slice(half + 1, small)
                columns = slice(0, half) if low == 0 else slice(half + 1, small)
                whole[:, first:last, low:high, :half] = spectra[:, rows, columns, :half]
        cubes: Tensor = torch.fft.irfftn(whole, s=(side,) * 3, dim=(1, 2, 3)) * (side**3 / small**1.5)
        return cubes

    def posed_views(self, cubes: Tensor, rotations: Tensor, shifts: Tensor) -> Tensor:
        """Views (N, H, F) of whitened patches (N, n, n, n) in hypothetical poses (N, H, 3, 3) and (N, H, 3)."""
        side, (count, each) = self.options.patch_side, shifts.shape[:2]
        # Places in the units of grid_sample: -1 and 1 are the centres of the outermost voxels.
        unit = 2 / ((side - 1) * self.options.patch_voxel_size)
        middle = shifts * unit + (side // 2 * 2 / (side - 1) - 1)
        places = self.places.expand(count * each, *self.places.shape)
        grid = torch.baddbmm(middle.reshape(-1, 1, 3), places, (rotations * unit).reshape(-1, 3, 3).transpose(1, 2))
        grid = grid.view(count, each, len(self.places), 3)
        found: Tensor = nn.functional.grid_sample(cubes[:, None], grid[:, None], align_corners=True)
        return found[:, 0, 0] * self.weights

    def propose(self, features: Tensor, centres: Tensor) -> Poses6D:
        """The mixture (N, 24) from the features of rotated views (N, 24, D) about centres (N, 3)."""
        rotation, shift, logit, sigma = self.proposer(features)
        shifts = torch.einsum("kij,nkj->nki", self.frames, shift) + centres[:, None]
        return Poses6D(self.frames @ rotation, shifts, logit, sigma)

    def refine(self, features: Tensor, rotations: Tensor, shifts: Tensor) -> Poses6D:
        """Better poses (N, H) from the features of posed views (N, H, D)."""
        rotation, shift, logit, sigma = self.refiner(features)
        moved = shifts + torch.einsum("nhij,nhj->nhi", rotations, shift)
        return Poses6D(rotations @ rotation, moved, logit, sigma)

    def proposals(self, spectra: Tensor) -> Poses6D:
        """The best proposals (N, H) from whitened half-spectra, about the pick and about the centre found from it."""
        nowhere = spectra.new_zeros(len(spectra), 3, dtype=torch.float32)
        first = self.propose(self.proposer.features(self.rotated_views(spectra, nowhere)), nowhere)
        best = first.take(first.logit.topk(_KEPT, dim=1).indices)
        centres = best.shifts[:, 0]
        second = self.propose(self.proposer.features(self.rotated_views(spectra, centres)), centres)
        return joined(best, second.take(second.logit.topk(_KEPT, dim=1).indices))

    def hypotheses(
        self, spectra: Tensor, *, proposals: Poses6D | None = None, rounds: tuple[int, ...] = _ROUNDS
    ) -> Poses6D:
        """The proposals, refined, (N, H), best first; ``rounds``: how many are kept after each refinement."""
        found, cubes = proposals or self.proposals(spectra), self.fine_cubes(spectra)
        for count in rounds:
            views = self.posed_views(cubes, found.rotations, found.shifts)
            found = self.refine(self.refiner.features(views), found.rotations, found.shifts)
            found = found.take(found.logit.topk(count, dim=1).indices)
        return found

    @torch.inference_mode()
    def predict(self, spectra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations (N, 3, 3) from whitened half-spectra, the probability (N,) that each is right, and its error if so.

        The error is the expected rms angle (N,) in degrees. Both are calibrated, if calibration was measured.
        """
        found = self.best(spectra)
        return found.rotations, *self.calibrated(found)

    def calibrated(self, found: BestPoses) -> tuple[Tensor, Tensor]:
        """The probability (N,) that each pose is right, and its error in degrees (N,) if so, as far as calibrated."""
        slope, offset, floor, factor = torch.nan_to_num(self.calibration, nan=0.0).unbind()
        if bool(torch.isnan(self.calibration).any()):
            return torch.sigmoid(found.log_odds), found.error_deg
        error = torch.sqrt(floor + factor * found.error_deg.square())
        return torch.sigmoid(slope * found.log_odds + offset), error

    def best(self, spectra: Tensor) -> BestPoses:
        """The best hypotheses; their log-odds are those against other modes and against there being no particle."""
        found = self.hypotheses(spectra)
        first = found.rotations[:, :1].transpose(-1, -2) @ found.rotations
        copies = first[:, :, None] @ self.group
        cosine = (copies.diagonal(dim1=-2, dim2=-1).sum(-1).amax(-1) - 1) / 2
        other = cosine < math.cos(math.radians(_OTHER_MODE_DEG))
        others = torch.where(other, found.logit, -math.inf)
        against = torch.logaddexp(others.logsumexp(1), torch.zeros_like(found.logit[:, 0]))
        log_odds = torch.where(spectra.abs().sum((1, 2, 3)) > 0, found.logit[:, 0] - against, _NOTHING)
        return BestPoses(found.rotations[:, 0], found.shifts[:, 0], log_odds, torch.rad2deg(found.sigma[:, 0]) * 3**0.5)

    @torch.inference_mode()
    def views_of(self, spectra: Tensor, found: BestPoses) -> Tensor:
        """Whitened patches, given by their half-spectra, sampled in their poses, (N, F)."""
        cubes = self.fine_cubes(spectra)
        return self.posed_views(cubes, found.rotations[:, None], found.shifts[:, None])[:, 0]


def view_lattice(options: MixtureOptions) -> tuple[Tensor, Tensor]:
    """Voxels of a view inside the mask: places (F, 3) xyz from the centre, in voxels of a view, and weights (F,)."""
    voxel_size = options.box / options.view_side
    line = torch.arange(1 - options.view_side // 2, options.view_side // 2)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    places = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    edge = _EDGE * options.scale
    weights = soft_ball(places.float().norm(dim=-1) * voxel_size, options.mask_radius - edge / 2, edge)
    kept = weights > 1e-3
    return places[kept], weights[kept]


def cube_rotations() -> Tensor:
    """The 24 rotations of the cube, (24, 3, 3), the identity first: signed permutations of determinant 1."""
    eye, signs = torch.eye(3), torch.cartesian_prod(*[torch.tensor([1.0, -1.0])] * 3)
    every = torch.stack([sign[:, None] * eye[list(order)] for order in permutations(range(3)) for sign in signs])
    return every[torch.linalg.det(every) > 0]


def _view_voxels(places: Tensor, side: int) -> Tensor:
    """Index (24, F) into a flattened cube of the voxel that each place of each view shows: x at F p."""
    rotated = torch.einsum("kij,fj->kfi", cube_rotations(), places.float()).round().long() + side // 2
    return (rotated[..., 2] * side + rotated[..., 1]) * side + rotated[..., 0]


def _phase(spectra: Tensor, shifts: Tensor) -> Tensor:
    """Phase (N, m, m, m // 2 + 1) that brings a point, shifts (N, 3) in boxes from the centre, to the centre."""
    side = spectra.shape[1]
    line = torch.fft.fftfreq(side, 1 / side, device=spectra.device)
    half = torch.arange(side // 2 + 1, device=spectra.device, dtype=line.dtype)
    x, y, z = (2 * math.pi * shifts).unbind(1)
    along: Tensor = z[:, None, None, None] * line[:, None, None] + y[:, None, None, None] * line[:, None]
    return along + x[:, None, None, None] * half
