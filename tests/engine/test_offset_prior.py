"""Prior on the offsets of a list of picks: shifts shrink to the common one, and rotations as they are coupled."""

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch

from napari_orient.engine.refinement.offset_prior import OffsetPrior
from napari_orient.engine.refinement.posterior import TEMPERATURE, Poses
from napari_orient.engine.symmetry import symmetry

SHIFT_ERROR, ROTATION_ERROR, CORRELATION = 4.0, np.radians(3.0), 0.8
OFFSET, SPREAD = torch.tensor([5.0, -3.0, 0.0]), 3.0


def found(count: int) -> Poses:
    """Poses of unrotated particles about a common offset, with correlated errors of rotation and shift."""
    generator = torch.Generator().manual_seed(0)
    shift, rest = SHIFT_ERROR * torch.randn(2, count, 3, generator=generator)
    rotvec = ROTATION_ERROR / SHIFT_ERROR * (CORRELATION * shift + (1 - CORRELATION**2) ** 0.5 * rest)
    place = OFFSET + SPREAD * torch.randn(count, 3, generator=generator)
    whole = torch.eye(3).expand(count, 3, 3)
    return Poses(
        roma.rotvec_to_rotmat(rotvec),
        place + shift,
        ROTATION_ERROR**2 * whole,
        SHIFT_ERROR**2 * whole,
        CORRELATION * ROTATION_ERROR * SHIFT_ERROR * whole,
        torch.ones(count),
        torch.ones(count),
    )


def with_modes(poses: Poses) -> Poses:
    """The poses with two modes each, their own, as heavy as they score, and an empty one."""
    weight = TEMPERATURE * poses.score.square() / 2
    return replace(
        poses,
        mode_rotvecs=torch.zeros(len(weight), 2, 3),
        mode_shifts=poses.shifts[:, None].expand(-1, 2, 3),
        mode_log_weights=torch.stack([weight, torch.full_like(weight, -torch.inf)], dim=1),
    )


def prior_of(poses: Poses) -> OffsetPrior:
    prior = OffsetPrior.estimate(poses, max_shift=30.0)
    assert prior is not None
    return prior


def rms_deg(poses: Poses) -> float:
    return float(torch.rad2deg(roma.rotmat_to_rotvec(poses.rotations).square().sum(-1).mean().sqrt()))


def test_shrinkage_reduces_the_errors_of_rotation_and_shift_as_theory_says() -> None:
    poses = found(600)
    shrunk = prior_of(poses).shrink(poses)
    kept = 1 - CORRELATION**2 * SHIFT_ERROR**2 / (SHIFT_ERROR**2 + SPREAD**2)
    assert rms_deg(shrunk) / rms_deg(poses) == pytest.approx(kept**0.5, abs=0.06)
    assert float(shrunk.expected_error_deg.square().mean().sqrt()) == pytest.approx(rms_deg(shrunk), rel=0.1)
    assert float(shrunk.shift_error.mean()) < 0.7 * float(poses.shift_error.mean())


def test_an_outlier_stays_where_it_is() -> None:
    poses = found(60)
    shifts = poses.shifts.clone()
    shifts[0] = torch.tensor([-28.0, 25.0, 28.0])
    poses = replace(poses, shifts=shifts)
    shrunk = prior_of(poses).shrink(poses)
    assert torch.allclose(shrunk.shifts[0], shifts[0], atol=0.1)
    assert torch.allclose(shrunk.rotations[0], poses.rotations[0], atol=1e-3)


def test_of_few_poses_the_spread_lies_between_what_is_usual_and_theirs_whatever_an_outlier() -> None:
    poses = found(9)
    shifts = poses.shifts.clone()
    shifts[0] = torch.tensor([-28.0, 25.0, 28.0])
    prior = prior_of(replace(poses, shifts=shifts))
    assert torch.allclose(prior.mean, OFFSET, atol=4.0)
    spread = prior.covariance.diagonal().sqrt()
    assert float(spread.min()) > SPREAD
    assert float(spread.max()) < 10.0
    inlier = prior.p_inlier(replace(poses, shifts=shifts))
    assert float(inlier[0]) < 0.01
    assert float(inlier[1:].min()) > 0.95


def test_of_three_poses_one_far_off_is_doubted_and_of_two_nothing_is_said() -> None:
    poses = found(3)
    shifts = poses.shifts.clone()
    shifts[0] = torch.tensor([-28.0, 28.0, -28.0])
    inlier = prior_of(replace(poses, shifts=shifts)).p_inlier(replace(poses, shifts=shifts))
    assert float(inlier[0]) < 0.5
    assert float(inlier[1:].min()) > 0.9
    assert OffsetPrior.estimate(found(2), max_shift=30.0) is None


def test_the_pose_at_the_common_offset_wins_over_an_outlier_that_matches_little_better() -> None:
    poses = found(60)
    prior = prior_of(poses)
    shifts, rows = poses.shifts.clone(), torch.arange(3)
    shifts[:3] = torch.tensor([-28.0, 25.0, 28.0])
    poses = with_modes(replace(poses, shifts=shifts, score=torch.full((60,), 8.0)))
    assert (prior.p_inlier(poses) < 0.5).nonzero().squeeze(1).tolist() == [0, 1, 2]
    about_y = roma.rotvec_to_rotmat(torch.tensor([0.0, 1.0, 0.0])).expand(3, 3, 3)
    # The prior is worth some eight nats, a score of 8 as much as 35.
    again = with_modes(
        replace(
            poses.take(rows),
            rotations=about_y,
            shifts=prior.mean.expand(3, 3),
            score=torch.tensor([7.2, 6.0, 8.0]),
        )
    )
    poses, again = prior.weigh(poses), prior.weigh(again)
    chosen = prior.choose(poses.take(rows), again, group=symmetry("C1"), likelihood_scale=1.1)
    both = poses.with_rows(rows, chosen)
    assert torch.allclose(both.rotations[[0, 2]], about_y[:2])
    assert torch.equal(both.rotations[1], poses.rotations[1])
    assert torch.equal(both.rotations[3:], poses.rotations[3:])
    assert both.p_right[2] > both.p_right[0] > 0.5, "of equal matches the one at the common offset is right"
    assert both.expected_error_deg[0] > 1.3 * poses.expected_error_deg[4], "the outlier may be right after all"
    assert both.expected_error_deg[2] < both.expected_error_deg[0]


def test_shifts_of_another_point_vary_with_the_rotations_and_come_back() -> None:
    generator = torch.Generator().manual_seed(1)
    point, count = torch.tensor([9.0, -4.0, 6.0]), 40_000
    root = 0.3 * torch.randn(6, 6, generator=generator)
    root[:3] *= 0.1
    whole = root @ root.T
    pose = roma.random_rotmat(1, generator=generator)
    poses = Poses(
        pose,
        torch.zeros(1, 3),
        whole[None, :3, :3],
        whole[None, 3:, 3:],
        whole[None, :3, 3:],
        torch.ones(1),
        torch.ones(1),
    )
    moved = poses.about(point)
    drawn = torch.randn(count, 6, generator=generator) @ root.T
    places = drawn[:, 3:] + pose @ roma.rotvec_to_rotmat(drawn[:, :3]) @ point
    np.testing.assert_allclose(moved.shift_covariance[0], places.T.cov(), atol=0.05 * float(places.var()))
    mixed = drawn[:, :3].T @ (places - places.mean(0)) / count
    np.testing.assert_allclose(moved.coupling[0], mixed, atol=0.05 * float(mixed.abs().max()))
    back = moved.about(-point)
    np.testing.assert_allclose(back.shifts, poses.shifts, atol=1e-5)
    np.testing.assert_allclose(back.shift_covariance, poses.shift_covariance, atol=1e-5)
    np.testing.assert_allclose(back.coupling, poses.coupling, atol=1e-5)
