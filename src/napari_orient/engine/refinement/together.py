"""What the particles of one list tell of each other: how far off its picks usually are."""

from __future__ import annotations

import math
from dataclasses import replace

import roma
import torch
from torch import Tensor

from napari_orient.engine.refinement.poses import Poses

_ENOUGH = 24
_ODD = 0.05
"""Share of picks whose place tells nothing of the others'."""
_LEAST_SPREAD, _DEVIATION = 2.0, 1.4826


def drawn_together(poses: Poses, *, max_shift: float) -> Poses:
    """The same poses, shifts drawn to where particles of this list usually stand, and turns as they hang on the shifts.

    The surer half of the particles tell mean and spread of the shifts, less what the noise adds; under a normal law
    with these the posterior mean is taken. A pick far from that law stays where it is. Of few poses nothing is told.

    Parameters
    ----------
    poses : on the CPU; shifts from the picks, of particles without symmetry.
    max_shift : Å along each axis that a pick may be off.
    """
    if len(poses.shifts) < _ENOUGH:
        return poses
    usual, law = _law(poses)
    whole = torch.linalg.inv(poses.shift_covariance + law)
    off = poses.shifts - usual
    pull = (whole @ off[:, :, None])[..., 0]
    log_law = torch.logdet(whole) / 2 - (off * pull).sum(-1) / 2 - 1.5 * math.log(2 * math.pi)
    log_odd = -3 * math.log(2 * max(max_shift, _LEAST_SPREAD))
    bound = torch.sigmoid(log_law - log_odd + math.log((1 - _ODD) / _ODD))[:, None]
    turn = -(poses.coupling @ pull[:, :, None])[..., 0] * bound
    move = -(poses.shift_covariance @ pull[:, :, None])[..., 0] * bound
    less = bound[:, :, None] * (poses.coupling @ whole @ poses.coupling.mT)
    tight = bound[:, :, None] * (poses.shift_covariance @ whole @ poses.shift_covariance)
    return replace(
        poses,
        rotations=poses.rotations @ roma.rotvec_to_rotmat(turn),
        shifts=poses.shifts + move,
        turn_covariance=poses.turn_covariance - less,
        shift_covariance=poses.shift_covariance - tight,
    )


def _law(poses: Poses) -> tuple[Tensor, Tensor]:
    """Mean (3,) and covariance (3, 3) of the shifts, in Å, as the surer half of the particles tell them."""
    error = poses.expected_error_deg
    sure = poses.take((error <= error.median()).nonzero().squeeze(1))
    usual = sure.shifts.median(0).values
    spread = _DEVIATION * (sure.shifts - usual).abs().median(0).values
    own = sure.shift_covariance.diagonal(dim1=-2, dim2=-1).median(0).values
    return usual, torch.diag((spread.square() - own).clamp_min(_LEAST_SPREAD**2))
