"""How one set of poses, or one map, must be turned to lie over another."""

from __future__ import annotations

import numpy as np
import torch

from napari_orient.engine.matching.fit import fit_poses
from napari_orient.engine.model.forward import build_forward_model
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.rotations import (
    FloatArray,
    Symmetry,
    even_rotations,
    mean_rotation,
    nearest_copy,
    symmetric_angle_deg,
    symmetry,
)

_TRIED, _NEAR_DEG, _ROUNDS = 120, 25.0, 4
_ROTATIONS, _STARTS, _STEPS = 1500, 8, 12
_C1 = symmetry("C1")


def shared_turn(
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
    for _ in range(_ROUNDS):
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
    grid = torch.as_tensor(even_rotations(_ROTATIONS), dtype=torch.float32)
    scores = []
    for part in grid.split(64):
        values = sample(frequency @ part)[..., 0].transpose(1, 2)  # type: ignore[operator]
        scores.append((values * observed).sum((1, 2)) / values.flatten(1).norm(dim=1).clamp_min(1e-12))
    return grid[torch.cat(scores).topk(_STARTS).indices]
