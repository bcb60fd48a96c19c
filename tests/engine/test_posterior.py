import numpy as np
import pytest
import torch

from napari_orient.engine.matching.fit import Fit, draw_poses
from napari_orient.engine.refinement.posterior import FitCalibration, summarise_modes
from napari_orient.engine.refinement.uncertainty import optimism
from napari_orient.engine.representations import matrix_to_rotvec, rotvec_to_matrix
from napari_orient.engine.symmetry import symmetry


def certain_to(degrees: list[float]) -> Fit:
    """A fit of each patch whose noise leaves every turn uncertain by so much."""
    gram = torch.zeros(len(degrees), 8, 8)
    gram[:, 0, 0] = gram[:, 0, 7] = 100.0
    gram[:, 1:7, 1:7] = torch.eye(6) / torch.tensor(degrees).deg2rad().square()[:, None, None]
    return Fit(torch.eye(3).expand(len(degrees), 3, 3), torch.zeros(len(degrees), 3), gram)


def test_the_expected_error_falls_with_the_root_of_the_trust() -> None:
    fit = certain_to([0.5, 2.0, 6.0])
    expected = summarise_modes([fit], symmetry("C1"), FitCalibration(4.0)).expected_error_deg
    assert expected.numpy() == pytest.approx(np.sqrt(3) * np.array([0.25, 1.0, 3.0]), rel=1e-3)


def test_optimism_lowers_the_odds_of_the_best_mode_alone() -> None:
    best = certain_to([2.0])
    far = Fit(rotvec_to_matrix(torch.tensor([[0.0, 0.0, 1.5]])), best.shifts, best.gram)
    modes = [best, far, Fit(far.rotations.mT, best.shifts, best.gram)]
    plain, lowered = (
        summarise_modes(modes, symmetry("C1"), FitCalibration(1.0, optimism=nats)).mode_shares[0] for nats in (0.0, 1.6)
    )
    assert float(torch.log(plain[0] / plain[1]) - torch.log(lowered[0] / lowered[1])) == pytest.approx(1.6, abs=1e-3)
    assert float(lowered[1] / lowered[2]) == pytest.approx(float(plain[1] / plain[2]))
    assert optimism(10) == pytest.approx(1.6)
    assert optimism(100) < 0.2


def test_overdispersion_brings_competing_poses_nearer_and_never_apart() -> None:
    best = certain_to([2.0, 2.0])
    far = Fit(rotvec_to_matrix(torch.tensor([[0.0, 0.0, 1.5]]).expand(2, 3)), best.shifts, 0.9 * best.gram)
    poses = summarise_modes([best, far], symmetry("C1"), FitCalibration(1.0))
    odds = poses.mode_log_weights[:, 0] - poses.mode_log_weights[:, 1]
    tempered = poses.overdispersed(torch.tensor([3.0, 0.5])).mode_log_weights
    torch.testing.assert_close(tempered[:, 0] - tempered[:, 1], odds / torch.tensor([3.0, 1.0]))


def test_drawn_poses_scatter_as_the_expected_error_says() -> None:
    fit = certain_to([0.5] * 300 + [2.0] * 300)
    rotations, shifts = draw_poses(fit, torch.Generator().manual_seed(0))
    rotvecs = matrix_to_rotvec(rotations).rad2deg()
    assert rotvecs[:300].std(dim=0).numpy() == pytest.approx([0.5] * 3, rel=0.15)
    assert rotvecs[300:].std(dim=0).numpy() == pytest.approx([2.0] * 3, rel=0.15)
    assert shifts.norm(dim=1).min() > 0


def test_poses_that_nothing_determines_are_drawn_within_a_fits_largest_step() -> None:
    rotations, _ = draw_poses(certain_to([500.0] * 50), torch.Generator().manual_seed(0))
    assert matrix_to_rotvec(rotations).norm(dim=1).rad2deg().max() < 12.01
