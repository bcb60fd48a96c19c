"""The posterior along the turn that noise leaves least certain, where it is no longer a normal one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import STEP_DEG, STEP_VOXELS, Fit, Place, compare
from napari_orient.engine.model.forward import Imaging
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray, Symmetry

_REACH_DEG, _POINTS = 26.0, 17


@dataclass(frozen=True, eq=False)
class Scan:
    """Posterior of N particles along a turn, T points each, all else at its best.

    Parameters
    ----------
    turns : (N, T, 3) radians in the reference frame, from the best fit.
    shifts : (N, T, 3) Å that go with them, from the best fit's.
    log_weight : (N, T) logarithm of the posterior, but for a constant: the volume of all else is in it.
    others : (N, T, 3, 3) covariance of what the other two turns are off.
    direction : (N, 3) of the turn, of length 1.
    variance : (N,) radians² that the best fit expected along it.
    step : radians between two points.
    """

    turns: Tensor
    shifts: Tensor
    log_weight: Tensor
    others: Tensor
    direction: Tensor
    variance: Tensor
    step: float


def scanned(
    reference: Reference,
    imaging: Imaging,
    observed: Tensor,
    fit: Fit,
    covariance: Tensor,
    *,
    trust: float,
    reach: float,
    place: Place | None = None,
) -> Scan:
    """The posterior of each fit's particle along the turn that its covariance (N, 6, 6) is largest for.

    At every point the reference is matched as the linear model leads to it; one Newton step of the other two turns and
    of the shift tells how much better it may match there, and how widely.

    Parameters
    ----------
    trust : what log-likelihoods are multiplied by.
    reach : radians to scan to, either way.
    place : the one that the fit was compared with.
    """
    values, vectors = torch.linalg.eigh(covariance[:, :3, :3])
    direction, variance = vectors[:, :, -1], values[:, -1]
    course = torch.einsum("nij,nj->ni", covariance[:, :, :3], direction) / variance[:, None]
    free = _free(vectors[:, :, :-1])
    points = []
    for way in torch.linspace(-reach, reach, _POINTS).tolist():
        move = way * course
        rotations = fit.rotations @ rotvec_to_matrix(move[:, :3])
        there = compare(reference, imaging, observed, rotations, fit.shifts + move[:, 3:], place=place)
        step, gain, information = _corrected(there, free, imaging.voxel_size)
        log_weight = trust * (there.evidence + gain) - torch.logdet(information) / 2
        turns = free[:, :3, :2] @ torch.linalg.inv(information)[:, :2, :2] @ free[:, :3, :2].mT
        points.append((move + step, log_weight, turns / trust))
    moves, log_weight, others = (torch.stack(column, dim=1) for column in zip(*points, strict=True))
    log_weight = log_weight - _volume(fit, free)[:, None]
    # Where a scan goes all the way round, its ends are one pose.
    log_weight[:, [0, -1]] -= math.log(2)
    return Scan(moves[..., :3], moves[..., 3:], log_weight, others, direction, variance, step=2 * reach / (_POINTS - 1))


def reach_within(group: Symmetry) -> float:
    """Radians to scan to, either way: no farther than half the group's least turn, beyond which poses come again."""
    return math.radians(min(_REACH_DEG, _least_turn_deg(group.matrices) / 2))


def _least_turn_deg(matrices: FloatArray) -> float:
    cosine = (np.trace(matrices, axis1=1, axis2=2) - 1) / 2
    turns = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return float(turns[turns > 0.1].min(initial=360.0))


def _free(turns: Tensor) -> Tensor:
    """Moves that a scan leaves free, (N, 6, 5): two turns (N, 3, 2), and the shift."""
    free = turns.new_zeros(len(turns), 6, 5)
    free[:, :3, :2] = turns
    free[:, 3:, 2:] = torch.eye(3).to(turns)
    return free


def _information(fit: Fit, free: Tensor) -> Tensor:
    information = free.mT @ fit.information() @ free
    return information + 1e-4 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))


def _volume(fit: Fit, free: Tensor) -> Tensor:
    """Logarithm of the volume that all else has at the best fit, (N,)."""
    return -torch.logdet(_information(fit, free)) / 2


def _corrected(fit: Fit, free: Tensor, voxel_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """Newton step of the free moves, (N, 6), what it gains in log-likelihood, (N,), and their information (N, 5, 5)."""
    information = _information(fit, free)
    slope = free.mT @ fit.slope()[:, :, None]
    step = torch.linalg.solve(information, slope)[..., 0]
    turn, shift = step[:, :2].norm(dim=1), step[:, 2:].norm(dim=1)
    over = torch.maximum(turn / math.radians(STEP_DEG), shift / (STEP_VOXELS * voxel_size))
    part = 1 / over.clamp_min(1)
    gain = (slope[..., 0] * step).sum(1) * (part - part.square() / 2)
    return (free @ (part[:, None] * step)[:, :, None])[..., 0], gain, information
