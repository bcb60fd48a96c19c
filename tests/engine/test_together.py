"""Shifts drawn to where the particles of a list usually stand, and turns with them."""

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch

from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.together import drawn_together

SHIFT_ERROR, TURN_ERROR, TOGETHER = 4.0, np.radians(3.0), 0.8
USUAL, SPREAD = torch.tensor([5.0, -3.0, 0.0]), 3.0


def found(count: int) -> Poses:
    """Poses of particles turned not at all, about their usual place; errors of turn and shift hang together."""
    generator = torch.Generator().manual_seed(0)
    shift, rest = SHIFT_ERROR * torch.randn(2, count, 3, generator=generator)
    turn = TURN_ERROR / SHIFT_ERROR * (TOGETHER * shift + (1 - TOGETHER**2) ** 0.5 * rest)
    place = USUAL + SPREAD * torch.randn(count, 3, generator=generator)
    whole = torch.eye(3).expand(count, 3, 3)
    return Poses(
        roma.rotvec_to_rotmat(turn),
        place + shift,
        TURN_ERROR**2 * whole,
        SHIFT_ERROR**2 * whole,
        TOGETHER * TURN_ERROR * SHIFT_ERROR * whole,
        torch.ones(count),
        torch.ones(count),
    )


def rms_deg(poses: Poses) -> float:
    return float(torch.rad2deg(roma.rotmat_to_rotvec(poses.rotations).square().sum(-1).mean().sqrt()))


def test_turns_gain_what_the_law_of_the_shifts_tells() -> None:
    poses = found(600)
    drawn = drawn_together(poses, max_shift=30.0)
    kept = 1 - TOGETHER**2 * SHIFT_ERROR**2 / (SHIFT_ERROR**2 + SPREAD**2)
    assert rms_deg(drawn) / rms_deg(poses) == pytest.approx(kept**0.5, abs=0.06)
    assert float(drawn.expected_error_deg.square().mean().sqrt()) == pytest.approx(rms_deg(drawn), rel=0.1)
    assert float(drawn.shift_error.mean()) < 0.7 * float(poses.shift_error.mean())


def test_a_pick_far_from_the_others_stays_where_it_is() -> None:
    poses = found(60)
    shifts = poses.shifts.clone()
    shifts[0] = torch.tensor([-28.0, 25.0, 28.0])
    drawn = drawn_together(replace(poses, shifts=shifts), max_shift=30.0)
    assert torch.allclose(drawn.shifts[0], shifts[0], atol=0.1)
    assert torch.allclose(drawn.rotations[0], poses.rotations[0], atol=1e-3)


def test_of_few_poses_nothing_is_told() -> None:
    poses = found(8)
    assert drawn_together(poses, max_shift=30.0) is poses
