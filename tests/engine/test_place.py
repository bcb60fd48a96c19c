"""Where particles are likely to stand, told beside their patches: it draws poses as a law of the shift should."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from phantom import molecule
from seen import observed, shown

from napari_orient.engine.matching.fit import Place, fit_at, fit_poses
from napari_orient.engine.refinement.posterior import (
    Observation,
    Poses,
    poorly_determined,
    posterior_mean,
    summarise_modes,
)
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.symmetry import symmetry

C1 = symmetry("C1")
POINT = torch.tensor([20.0, -10.0, 15.0])


def near(true: torch.Tensor, *, point: torch.Tensor, spread: float) -> Place:
    """The law of where a point stands in patches whose particles stand in the middle, turned so."""
    return Place(point, true @ point, torch.eye(3).expand_as(true) / spread**2)


def test_slope_and_information_are_those_of_the_likelihood_with_the_place() -> None:
    reference, model = shown(molecule(), noise=60.0)
    true = roma.random_rotmat(4, generator=torch.Generator().manual_seed(0))
    seen = observed(reference, model, true, noise=0.0, seed=0)
    place = near(true, point=POINT, spread=5.0)
    here = true @ roma.rotvec_to_rotmat(torch.tensor([0.03, -0.02, 0.04])), torch.full((4, 3), 1.5)
    fit = fit_at(reference, model, seen, *here, place=place)
    bare = fit_at(reference, model, seen, *here)
    slope, bend = [], []
    for move in 0.02 * torch.eye(6):
        costs = []
        for way in (-1.0, 1.0):
            rotations = here[0] @ roma.rotvec_to_rotmat(way * move[:3])
            costs.append(fit_at(reference, model, seen, rotations, here[1] + way * move[3:], place=place).cost)
        slope.append((costs[0] - costs[1]) / 0.04)
        bend.append((costs[0] + costs[1] - 2 * fit.cost) / 0.02**2)
    told = fit.slope() - bare.slope()
    torch.testing.assert_close(told, torch.stack(slope, dim=1), rtol=0.02, atol=0.02)
    added = (fit.information() - bare.information()).diagonal(dim1=1, dim2=2)
    # The point's own bend, as it swings on its lever, is left out as Gauss and Newton leave it.
    torch.testing.assert_close(added[:, 3:], torch.stack(bend, dim=1)[:, 3:], rtol=0.05, atol=0.01)
    assert (added[:, :3] > 0).any(dim=1).all()
    assert torch.equal(fit.score, bare.score)
    torch.testing.assert_close(bare.log_likelihood_gain - fit.log_likelihood_gain, fit.cost, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("point", [torch.zeros(3), POINT], ids=["origin", "elsewhere"])
def test_poses_gain_what_a_likely_place_tells_and_expect_so(point: torch.Tensor) -> None:
    reference, model = shown(molecule(), noise=150.0)
    true = roma.random_rotmat(200, generator=torch.Generator().manual_seed(3))
    seen = observed(reference, model, true, noise=1.0, seed=4)
    best = fit_poses(reference, model, seen, rotations=true, shifts=torch.zeros(200, 3), steps=6)
    start = summarise_modes([best], C1, likelihood_scale=1.0)
    assert len(poorly_determined(start)) > 150
    alone = posterior_mean(start, Observation(reference, model, seen), C1, likelihood_scale=1.0)
    drawn = posterior_mean(
        start, Observation(reference, model, seen, near(true, point=point, spread=2.0)), C1, likelihood_scale=1.0
    )
    assert rms_deg(drawn, true) < 0.95 * rms_deg(alone, true)
    for poses in (alone, drawn):
        expected = float(poses.expected_error_deg.square().mean().sqrt())
        assert expected == pytest.approx(rms_deg(poses, true), rel=0.12)
    off = drawn.shifts + drawn.rotations @ point - true @ point
    assert float(off.norm(dim=1).mean()) < 0.7 * float(alone.shifts.norm(dim=1).mean())


def test_a_place_told_from_another_centre_is_the_same_place() -> None:
    true = roma.random_rotmat(3, generator=torch.Generator().manual_seed(1))
    place, by = near(true, point=POINT, spread=3.0), torch.tensor([[4.0, 0.0, -7.0]]).expand(3, 3)
    gram = torch.eye(8).expand(3, 8, 8)
    first, cost = place.told(true, by, gram)
    again, same = place.moved(by).told(true, torch.zeros(3, 3), gram)
    torch.testing.assert_close(again, first)
    torch.testing.assert_close(same, cost)


def rms_deg(poses: Poses, true: torch.Tensor) -> float:
    error = angle_deg(poses.rotations.double().numpy(), true.double().numpy())
    return float(np.sqrt(np.square(error).mean()))
