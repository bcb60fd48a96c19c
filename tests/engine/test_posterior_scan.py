"""The posterior along a turn that the noise leaves uncertain: as wide as poses are found to scatter."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from phantom import Molecule
from whitened import observed, shown

from napari_orient.engine.matching.fit import concatenate_fits, fit_at, fit_poses
from napari_orient.engine.refinement.posterior import (
    FitCalibration,
    Observation,
    Poses,
    posterior_mean,
    reach_within,
    scan_rotation,
    summarise_modes,
)
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

C7 = symmetry("C7")


def nearly_round(*, off: float = 0.0) -> Molecule:
    """A cone of rings about an axis so many Å off the origin, with seven bumps that hardly show."""
    angle = np.radians(np.arange(0, 360, 360 / 28))
    rings = [(45.0, -30.0), (30.0, 0.0), (15.0, 30.0)]
    places = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(28, z)], -1) for r, z in rings]
    bumps = np.where(np.arange(28) % 4 == 0, 2.0, 1.0)
    return Molecule(np.concatenate(places) + np.array([off, 0.0, 0.0]), np.tile(bumps, 3))


def found(*, scan: bool, noise: float = 150.0, count: int = 240, off: float = 0.0) -> tuple[Poses, np.ndarray]:
    """Poses of particles in normal noise, and their true errors, searched from the truth and from round about it."""
    reference, model = shown(nearly_round(off=off), noise=noise)
    true = roma.random_rotmat(count, generator=torch.Generator().manual_seed(3))
    seen = observed(reference, model, true, noise=1.0, seed=4)
    starts = [roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, way])) for way in (-0.3, 0.0, 0.3)]
    fits = [
        fit_poses(reference, model, seen, rotations=true @ start, shifts=torch.zeros(count, 3), steps=6)
        for start in starts
    ]
    best = torch.stack([fit.log_likelihood_gain for fit in fits]).argmax(0)
    rows = best * count + torch.arange(count)
    modes = [concatenate_fits(fits).take(rows)]
    if scan:
        poses = posterior_mean(modes, Observation(reference, model, seen), C7, FitCalibration(1.0))
    else:
        poses = summarise_modes(modes, C7, FitCalibration(1.0))
    return poses, symmetric_angle_deg(poses.rotations.double().numpy(), true.double().numpy(), C7)


def over_true(poses: Poses, error: np.ndarray) -> float:
    return float(np.sqrt(np.square(poses.expected_error_deg.numpy()).mean() / np.square(error).mean()))


def test_expected_errors_of_a_spin_that_hardly_shows_are_the_true_ones() -> None:
    poses, error = found(scan=True)
    best, unscanned = found(scan=False)
    assert 5.0 < np.sqrt(np.square(error).mean()) < 10.0, "the noise leaves the spin uncertain, but not quite unknown"
    assert over_true(poses, error) == pytest.approx(1.0, abs=0.12)
    assert over_true(best, unscanned) < 0.88, "a normal law knows nothing of what is far from the best"
    assert np.square(error).mean() < np.square(unscanned).mean(), "the posterior's mean is nearer than its best"


def test_about_an_origin_off_the_axis_rotation_and_shift_have_one_covariance() -> None:
    off = 20.0
    poses, _ = found(scan=True, noise=400.0, count=40, off=off)
    both = torch.cat(
        [
            torch.cat([poses.rotation_covariance, poses.coupling], dim=2),
            torch.cat([poses.coupling.mT, poses.shift_covariance], dim=2),
        ],
        dim=1,
    )
    scale = both.diagonal(dim1=1, dim2=2).sqrt()
    correlation = both / scale[:, :, None] / scale[:, None]
    assert float(torch.linalg.eigvalsh(correlation).min()) > -0.01
    # A point on the axis does not move with the rotation that is hardly determined.
    on_axis = poses.about(torch.tensor([off, 0.0, 0.0]))
    assert float(torch.linalg.eigvalsh(on_axis.shift_covariance).min()) > 0
    assert float(on_axis.shift_error.median()) < float(poses.shift_error.median())


def test_a_scan_goes_no_farther_than_half_way_to_the_next_copy() -> None:
    assert np.degrees(reach_within(C7)) == pytest.approx(180 / 7)
    assert np.degrees(reach_within(symmetry("C13"))) == pytest.approx(180 / 13)
    assert np.degrees(reach_within(symmetry("C1"))) == pytest.approx(26.0)


def test_the_two_ends_of_a_whole_round_count_as_the_one_pose_that_they_are() -> None:
    reference, model = shown(nearly_round(), noise=150.0)
    blank, turned = torch.zeros(2, 2, len(model.frequency)), torch.eye(3).expand(2, 3, 3)
    fit = fit_at(reference, model, blank, turned, torch.zeros(2, 3))
    covariance = torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 1.0])).expand(2, 6, 6)
    observation = Observation(reference, model, blank)
    scan = scan_rotation(observation, fit, covariance, likelihood_scale=1.0, reach=reach_within(C7))
    inner = scan.log_weight[:, 1:-1]
    torch.testing.assert_close(inner, inner[:, :1].expand_as(inner))
    torch.testing.assert_close(scan.log_weight[:, [0, -1]], inner[:, :2] - np.log(2))
