"""Search by matched filters over rotations, classes and shifts, and the rotation between two sets of poses or two maps.

`RotatedReferences` scores patches against every rotation of every class's map; annealing draws from these scores,
`search_exhaustively` and the number of classes take the best, and `align_map` matches one map with another. The search
of `engine.matching` compresses one fixed reference and its forward model by singular vectors; here the maps change from
round to round, so that compressing would cost more than it saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.devices import device_batch_size, in_parallel, single_threaded, worker_count
from napari_orient.engine.discovery.spectra import BATCH, FINEST, PatchSpectra
from napari_orient.engine.matching.fit import fit_poses
from napari_orient.engine.model.forward import build_forward_model
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import NO_WEDGE
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.rotations import FloatArray, even_rotations, mean_rotation
from napari_orient.engine.streams import Work
from napari_orient.engine.symmetry import C1, Symmetry, nearest_copy, symmetric_angle_deg


@dataclass(frozen=True, eq=False)
class Assignment:
    """Pose, class and score of N particles.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the picks to the particles' centres.
    label : (N,) class.
    p_particle : (N,) probability that it is a particle of its class at all: its weight in an average.
    score : (N,) best match, in standard deviations of the noise.
    peak : (N,) height of the best match above the mean over all rotations, in their standard deviations.
    """

    rotations: Tensor
    shifts: Tensor
    label: Tensor
    p_particle: Tensor
    score: Tensor
    peak: Tensor

    def take(self, rows: Tensor) -> Assignment:
        """The assignment of these rows."""
        return Assignment(*(getattr(self, item.name)[rows] for item in fields(Assignment)))

    @property
    def log_likelihood_gain(self) -> float:
        """Mean gain in log-likelihood over no particle."""
        return float((self.score.square() / 2).mean())


def masked_references(
    maps: Sequence[NDArray[np.float32]], options: DiscoveryOptions, device: torch.device
) -> list[Reference]:
    """The maps as references, masked to the particle's ball."""
    voxel_size = options.patch_voxel_size
    return [
        build_reference(part, voxel_size, resolution=FINEST * voxel_size, radius=options.radius).to(device)
        for part in maps
    ]


@dataclass(frozen=True, eq=False)
class RotatedReferences:
    """The transforms of K references in R rotations, class by class: J = K R matched filters.

    Parameters
    ----------
    coefficients : (J, M) complex.
    length : (G, J) their lengths as they show in each tomogram, through its wedge and in units of its noise.
    """

    coefficients: Tensor
    length: Tensor

    @classmethod
    def of(
        cls, references: Sequence[Reference], rotations: Tensor, *, frequency: Tensor, power: Tensor
    ) -> RotatedReferences:
        """Every reference in every rotation (R, 3, 3), at frequencies (M, 3), with the power (G, M) of the spectra."""
        pairs = [(part, some) for part in references for some in rotations.split(BATCH)]
        parts = in_parallel(lambda pair: pair[0].transform(frequency @ pair[1]), pairs, device=frequency.device)
        coefficients = torch.cat(parts)
        squares = torch.view_as_real(coefficients).square().sum(-1)
        return cls(coefficients, (power @ squares.T).sqrt().clamp_min(1e-12))

    def scores(self, values: Tensor, group: Tensor) -> Tensor:
        """Match of patches (N, M) of some tomograms (N,) with every filter, (N, J), in standard deviations of noise."""
        return _as_real(values) @ _as_real(self.coefficients).T / self.length[group]

    def filters(self, group: Tensor, rows: Tensor) -> Tensor:
        """The filters (N, M) of some rows (N,), of length 1 in their tomograms (N,)."""
        return self.coefficients[rows] / self.length[group, rows][:, None]


def _as_real(values: Tensor) -> Tensor:
    """Complex coefficients (N, M) as real numbers, (N, 2 M)."""
    return torch.view_as_real(values.contiguous()).flatten(1)


def shift_grid(reach: int, step: float, device: torch.device) -> Tensor:
    """Shifts (S, 3) xyz on a cubic grid of a step in Å, ``reach`` steps to each side along each axis."""
    line = torch.arange(-reach, reach + 1, device=device) * step
    return torch.cartesian_prod(line, line, line)


def scores_over_shifts(cross: Tensor, shifts: Tensor, frequency: Tensor) -> Tensor:
    """Match at each of shifts (S, 3) in Å, (N, S), by products (N, M) of patches with their filters' conjugates."""
    wave = 2 * torch.pi * (shifts @ frequency.T)
    return cross.real @ wave.cos().T - cross.imag @ wave.sin().T


# --- exhaustive search ----------------------------------------------------------------------------------------------

_COARSE = 1.6
"""Resolution at which all shifts are searched, over that of the search."""
_COARSE_ROTATIONS = 700
"""Rotations searched at every shift: 18° apart."""
_SHIFT_STEP = 1.0
"""Step of the shifts searched, in voxels of the binned patches (diameter / 15)."""
_SHIFTS_KEPT = 2
"""Best shifts, apart from each other, that are searched with all rotations."""
_SEARCH_BATCH = 32
"""Patches searched together on a CPU: memory, not the result."""
_OFFSET_DEVIATION = 0.5
"""Standard deviation of the prior on a pick's offset along an axis, over the largest offset allowed: offsets that are
uniform up to that have 0.58. In crowded simulated tomograms (cell, seeds 22, 31, 32; offsets up to 10 Å, 30 Å allowed)
starts put 89 to 91, 93 to 97 and 59 to 73 % of the ribosomes within 20°; with twice as wide a prior 71 to 87, 80 to 89
and 16 to 31 %, for they move onto membranes then."""


def improbability(offsets: Tensor, options: DiscoveryOptions) -> Tensor:
    """Negative logarithm of the prior density of picks' offsets (..., 3) in Å, but for a constant, (...); normal."""
    deviation = max(_OFFSET_DEVIATION * options.max_shift, 1e-3)
    return offsets.square().sum(-1) / (2 * deviation**2)


def search_exhaustively(
    spectra: PatchSpectra, references: Sequence[Reference], options: DiscoveryOptions, *, offsets: Tensor
) -> Work[Assignment]:
    """The best rotation, class and shift of every particle; no earlier assignment is used.

    All shifts that a pick may have are searched with few rotations and a stronger low-pass; the best two, apart from
    each other, with all rotations at full resolution. The prior on the offset is subtracted from scores.

    Parameters
    ----------
    offsets : (N, 3) xyz in Å from the picks to where the patches were cut about; shifts come on top.
    """
    device = spectra.device
    low_passed = spectra.within(_COARSE * FINEST * options.patch_voxel_size)
    few = torch.as_tensor(even_rotations(_COARSE_ROTATIONS), dtype=torch.float32, device=device)
    every = torch.as_tensor(even_rotations(options.search), dtype=torch.float32, device=device)
    coarse = RotatedReferences.of(references, few, frequency=low_passed.frequency, power=low_passed.power)
    fine = RotatedReferences.of(references, every, frequency=spectra.frequency, power=spectra.power)
    step = _SHIFT_STEP * options.patch_voxel_size
    shifts = shift_grid(math.ceil(options.max_shift / step), step, device)

    def best(rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        part = low_passed.take(rows)
        scores = [coarse.scores(part.shifted(shift[None]), part.group).amax(1) for shift in shifts]
        penalty = improbability(offsets[rows, None] + shifts, options)
        return _best_of_shifts(spectra.take(rows), fine, shifts, torch.stack(scores, dim=1), penalty)

    batches = torch.arange(len(spectra), device=device).split(device_batch_size(device, _SEARCH_BATCH))
    found = []
    for first in range(0, len(batches), worker_count()):
        found += in_parallel(best, batches[first : first + worker_count()], device=device)
        yield
    row, shift, score, peak = (torch.cat(column) for column in zip(*found, strict=True))
    return Assignment(every[row % len(every)], shift, row // len(every), torch.ones_like(score), score, peak)


def _best_of_shifts(
    spectra: PatchSpectra, filters: RotatedReferences, shifts: Tensor, scores: Tensor, penalty: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best filter (N,), shift (N, 3), score and peak height, by scores over shifts less their penalty (N, S)."""
    remaining, found, every = scores - penalty, [], torch.arange(len(scores), device=scores.device)
    neighbours = torch.cdist(shifts, shifts) < 1.5 * (shifts[1] - shifts[0]).norm() if len(shifts) > 1 else None
    for _ in range(_SHIFTS_KEPT if len(shifts) > 1 else 1):
        chosen = remaining.argmax(1)
        if neighbours is not None:
            remaining = remaining.masked_fill(neighbours[chosen], -torch.inf)
        match = filters.scores(spectra.shifted(shifts[chosen]), spectra.group)
        top, row = match.max(1)
        found.append((top, row, shifts[chosen], (top - match.mean(1)) / match.std(1), top - penalty[every, chosen]))
    best = torch.stack([item[4] for item in found]).argmax(0)
    top, row, shift, peak = (torch.stack([item[at] for item in found])[best, every] for at in range(4))
    return row, shift, top, peak


# --- the rotation between two sets of poses, and between two maps ----------------------------------------------------

_TRIED = 120
"""Particles whose own rotation between two sets of poses is tried for all."""
_NEAR_DEG = 25.0
"""Angle in degrees within which two poses count as the same, before the mean of their rotations is taken."""
_MEAN_ROUNDS = 4
"""Rounds of that mean; it stays after two or three."""
_MAP_ROTATIONS = 1500
"""Rotations over which two maps are matched: 14° apart."""
_MAP_STARTS = 8
"""Best of them that are refined."""
_MAP_SCORE = 100.0
"""Score of a map that is explained wholly, in deviations of a noise: maps have none, and a fit takes the steps that
gain a tenth of a nat or more."""
_MAP_STEPS = 12
"""Gauss–Newton steps of each."""
_MAP_FINEST = 2.4
"""Finest detail compared, in voxels of the coarser map; at least a sixth of the radius."""


def global_rotation(
    first: FloatArray, second: FloatArray, group: Symmetry = C1, *, near_deg: float = _NEAR_DEG
) -> FloatArray:
    """The rotation Q, (3, 3), that brings most of ``second @ Q`` near ``first``, both (N, 3, 3).

    Poses that differ by a rotation of the reference frame alone are the same. The group is that of ``first``; its
    copies of a pose should lie farther apart than twice ``near_deg``.
    """
    between = np.swapaxes(second, -1, -2) @ first
    tried = between[evenly_spaced_rows(len(between), _TRIED)]
    shares = [(symmetric_angle_deg(second @ rotation, first, group) < near_deg).mean() for rotation in tried]
    best: FloatArray = tried[int(np.argmax(shares))]
    for _ in range(_MEAN_ROUNDS):
        copies = nearest_copy(first, second @ best, group)
        near = symmetric_angle_deg(second @ best, first, group) < near_deg
        if near.any():
            best = mean_rotation(np.swapaxes(second, -1, -2)[near] @ copies[near])
    return best


@single_threaded()
def align_map(
    density: FloatArray, target: FloatArray, *, voxel_size: float, target_voxel_size: float, radius: float
) -> tuple[FloatArray, FloatArray]:
    """The rotation A (3, 3) and origin (3,) xyz in Å that lay a map over a target: ``x = A x_target + origin``.

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
    finest = max(_MAP_FINEST * max(voxel_size, target_voxel_size), radius / 6)
    rotated = build_reference(target, target_voxel_size, resolution=finest, radius=radius)
    fixed = build_reference(density, voxel_size, resolution=finest, radius=radius)
    side = 2 * int(np.ceil(1.3 * radius / voxel_size)) + 4
    white = torch.ones(side, side, side)
    model = build_forward_model(white, NO_WEDGE, voxel_size=voxel_size, resolution=finest, radius=radius)
    observed = fixed.sample(model.frequency).T[None] * model.whitening.real
    observed = observed * (_MAP_SCORE / observed.norm())
    grid = torch.as_tensor(even_rotations(_MAP_ROTATIONS), dtype=torch.float32)
    flat = torch.ones(1, len(model.frequency))
    filters = RotatedReferences.of([rotated], grid, frequency=model.frequency, power=flat)
    scores = filters.scores(torch.complex(observed[:, 0], observed[:, 1]), torch.zeros(1, dtype=torch.long))
    starts = grid[scores[0].topk(_MAP_STARTS).indices]
    fit = fit_poses(
        rotated,
        model,
        observed.expand(len(starts), -1, -1).contiguous(),
        rotations=starts,
        shifts=torch.zeros(len(starts), 3),
        steps=_MAP_STEPS,
    )
    best = int(fit.score.argmax())
    return fit.rotations[best].double().numpy(), fit.shifts[best].double().numpy()
