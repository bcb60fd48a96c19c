"""Every place and every rotation looked at once a map is known: what a start has missed is found here.

How one set of poses, or one map, must be turned to lie over another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.devices import at_once
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.spectra import PatchSpectra
from napari_orient.engine.matching.fit import fit_poses
from napari_orient.engine.model.forward import build_forward_model
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.rotations import FloatArray, even_rotations, mean_rotation
from napari_orient.engine.symmetry import Symmetry, nearest_copy, symmetric_angle_deg, symmetry

_COARSE, _ROTATIONS = 1.6, 700
_PLACES, _KEPT = 1.0, 2
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Assignment:
    """What is believed of N particles at the end of a round.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the picks to the particles' centres.
    label : (N,) class.
    share : (N,) odds, 0 to 1, that it is a particle at all: how much it counts.
    score : (N,) best match, in standard deviations of the noise.
    peak : (N,) how far the best match stands above the mean over the bank, in its spreads.
    """

    rotations: Tensor
    shifts: Tensor
    label: Tensor
    share: Tensor
    score: Tensor
    peak: Tensor

    def take(self, rows: Tensor) -> Assignment:
        """The guess of these rows."""
        return Assignment(*(getattr(self, item.name)[rows] for item in fields(Assignment)))

    @property
    def worth(self) -> float:
        """How well the start explains the patches: the mean gain in log-likelihood."""
        return float((self.score.square() / 2).mean())


def references(maps: Sequence[NDArray[np.float32]], options: DiscoveryOptions, device: torch.device) -> list[Reference]:
    """The maps made ready to be turned, masked to the particle's ball."""
    voxel_size = options.patch_voxel_size
    return [
        build_reference(part, voxel_size, resolution=2.1 * voxel_size, radius=options.radius).to(device)
        for part in maps
    ]


def bank_of(spectra: PatchSpectra, reference: Reference, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """A turned reference's coefficients (J, M), and its length (G, J) as it shows in each tomogram."""
    turned = reference.transform(spectra.frequency @ rotations)
    power = torch.view_as_real(turned).square().sum(-1)
    length: Tensor = (spectra.power @ power.T).sqrt().clamp_min(1e-12)
    return turned, length


def flat(values: Tensor) -> Tensor:
    """Complex coefficients (N, M) as real numbers (N, 2 M)."""
    return torch.view_as_real(values.contiguous()).flatten(1)


def search(spectra: PatchSpectra, maps: list[Reference], options: DiscoveryOptions) -> Assignment:
    """The best rotation, class and shift of every particle against known maps, no earlier guess being used.

    All places that a pick may be off are looked at with few rotations and little detail; the best two places, which
    lie apart, with all rotations and all detail.
    """
    device = spectra.values.device
    coarse = spectra.within(_COARSE * 2.1 * options.patch_voxel_size)
    few = torch.as_tensor(even_rotations(_ROTATIONS), dtype=torch.float32, device=device)
    every = torch.as_tensor(even_rotations(options.search), dtype=torch.float32, device=device)
    rough = _joined([bank_of(coarse, part, few) for part in maps])
    fine = _joined([bank_of(spectra, part, every) for part in maps])
    places = _grid(options, device)
    found = []
    for rows in torch.arange(len(spectra), device=device).split(at_once(device, _BATCH)):
        part = spectra.take(rows)
        scores = _place_scores(coarse.take(rows), rough, places)
        found.append(_best(part, fine, places, scores))
    row, shift, score, peak = (torch.cat(column) for column in zip(*found, strict=True))
    share = torch.ones_like(score)
    return Assignment(every[row % len(every)], shift, row // len(every), share, score, peak)


def _joined(banks: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([turned for turned, _ in banks]), torch.cat([length for _, length in banks], dim=1)


def _grid(options: DiscoveryOptions, device: torch.device) -> Tensor:
    """Places (S, 3) in Å, a voxel of the views apart."""
    count = int(-(-options.max_shift // (_PLACES * options.patch_voxel_size)))
    line = torch.arange(-count, count + 1, device=device) * _PLACES * options.patch_voxel_size
    return torch.cartesian_prod(line, line, line)


def _place_scores(spectra: PatchSpectra, bank: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    """Best match over the bank's rotations in each place, (N, S)."""
    turned, length = bank
    model = torch.view_as_real(turned).flatten(1).T
    answer = []
    for place in places:
        moved = torch.view_as_real(spectra.moved(place[None])).flatten(1)
        answer.append((moved @ model / length[spectra.group]).amax(1))
    return torch.stack(answer, dim=1)


def _best(
    spectra: PatchSpectra, bank: tuple[Tensor, Tensor], places: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    turned, length = bank
    model = torch.view_as_real(turned).flatten(1).T
    left, found = scores.clone(), []
    beside = torch.cdist(places, places) < 1.5 * (places[1] - places[0]).norm() if len(places) > 1 else None
    for _ in range(_KEPT if len(places) > 1 else 1):
        chosen = left.argmax(1)
        if beside is not None:
            left = left.masked_fill(beside[chosen], -torch.inf)
        moved = torch.view_as_real(spectra.moved(places[chosen])).flatten(1)
        match = moved @ model / length[spectra.group]
        top, row = match.max(1)
        found.append((top, row, places[chosen], (top - match.mean(1)) / match.std(1)))
    best = torch.stack([item[0] for item in found]).argmax(0)
    take = torch.arange(len(best), device=best.device)
    top, row, shift, peak = (torch.stack([item[at] for item in found])[best, take] for at in range(4))
    return row, shift, top, peak


_TRIED, _NEAR_DEG, _MEAN_ROUNDS = 120, 25.0, 4
_MAP_ROTATIONS, _STARTS, _STEPS = 1500, 8, 12
_C1 = symmetry("C1")


def common_rotation(
    first: FloatArray, second: FloatArray, group: Symmetry = _C1, *, near_deg: float = _NEAR_DEG
) -> FloatArray:
    """The rotation Q, (3, 3), that brings most of ``second @ Q`` near ``first``, both (N, 3, 3).

    Two answers that differ by a turn of the reference frame alone are the same answer; the group is that of ``first``,
    whose copies of a pose should lie farther apart than twice what counts as near.
    """
    between = np.swapaxes(second, -1, -2) @ first
    tried = between[evenly_spaced_rows(len(between), _TRIED)]
    shares = [(symmetric_angle_deg(second @ turn, first, group) < near_deg).mean() for turn in tried]
    best: FloatArray = tried[int(np.argmax(shares))]
    for _ in range(_MEAN_ROUNDS):
        copies = nearest_copy(first, second @ best, group)
        near = symmetric_angle_deg(second @ best, first, group) < near_deg
        if near.any():
            best = mean_rotation(np.swapaxes(second, -1, -2)[near] @ copies[near])
    return best


def align_map(
    density: FloatArray, target: FloatArray, *, voxel_size: float, target_voxel_size: float, radius: float
) -> tuple[FloatArray, FloatArray]:
    """The rotation A (3, 3) and origin (3,) xyz in Å with which a map lies over a target: ``x = A x_target + origin``.

    Poses ``R`` in the map's frame are ``R @ A`` in the target's, at positions moved by ``R @ origin``.

    Parameters
    ----------
    density, target : (n, n, n) and (m, m, m) [z, y, x], particle positive, origins at their boxes' centres.
    radius : Å of the ball compared.

    Raises
    ------
    InputError
        If a map is no cube, is flat or not finite.
    """
    finest = max(2.4 * max(voxel_size, target_voxel_size), radius / 6)
    turned = build_reference(target, target_voxel_size, resolution=finest, radius=radius)
    still = build_reference(density, voxel_size, resolution=finest, radius=radius)
    side = 2 * int(np.ceil(1.3 * radius / voxel_size)) + 4
    flat = torch.ones(side, side, side)
    model = build_forward_model(flat, Wedge("none", -90, 90), voxel_size=voxel_size, resolution=finest, radius=radius)
    observed = still.sample(model.frequency)[..., 0].T[None] * model.whitening.real
    observed = observed / observed.norm()
    starts = _starts(turned.sample, model.frequency, observed[0])
    fit = fit_poses(
        turned,
        model,
        observed.expand(len(starts), -1, -1).contiguous(),
        rotations=starts,
        shifts=torch.zeros(len(starts), 3),
        steps=_STEPS,
    )
    best = int(fit.score.argmax())
    return fit.rotations[best].double().numpy(), fit.shifts[best].double().numpy()


def _starts(sample: object, frequency: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """The best rotations of an even grid, (K, 3, 3)."""
    grid = torch.as_tensor(even_rotations(_MAP_ROTATIONS), dtype=torch.float32)
    scores = []
    for part in grid.split(64):
        values = sample(frequency @ part)[..., 0].transpose(1, 2)  # type: ignore[operator]
        scores.append((values * observed).sum((1, 2)) / values.flatten(1).norm(dim=1).clamp_min(1e-12))
    return grid[torch.cat(scores).topk(_STARTS).indices]
