"""How far log-likelihoods are trusted: as far as the noise where particles stand is what it was believed to be."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from phantom import molecule
from whitened import observed, shown

from napari_orient.engine.matching.fit import fit_poses
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE, estimate_likelihood_scale


def trusted(*, noise: float, count: int = 60) -> float:
    """Trust in the fits to particles whose noise has a standard deviation, where 1 is believed."""
    reference, model = shown(molecule(), noise=3.0)
    true = roma.random_rotmat(count, generator=torch.Generator().manual_seed(1))
    seen = observed(reference, model, true, noise=noise, seed=2)
    fit = fit_poses(reference, model, seen, rotations=true, shifts=torch.zeros(count, 3), steps=6)
    return estimate_likelihood_scale(reference, model, seen, fit)


@pytest.mark.parametrize("noise", [0.8, 1.0, 1.25])
def test_it_is_what_the_noise_is_weaker_than_believed(noise: float) -> None:
    seen = (60 * noise**-2 + 12 * TYPICAL_LIKELIHOOD_SCALE) / 72
    assert trusted(noise=noise) == pytest.approx(seen, rel=0.08)


def test_a_few_particles_hardly_change_what_is_usual() -> None:
    assert trusted(noise=1.25, count=4) == pytest.approx(TYPICAL_LIKELIHOOD_SCALE, rel=0.15)
    assert trusted(noise=1.0, count=1) == TYPICAL_LIKELIHOOD_SCALE


def test_fits_of_nothing_are_trusted_as_usual() -> None:
    reference, model = shown(molecule(), noise=3.0)
    blank = torch.zeros(8, 2, len(model.frequency))
    turned = torch.eye(3).expand(8, 3, 3)
    fit = fit_poses(reference, model, blank, rotations=turned, shifts=torch.zeros(8, 3), steps=1)
    assert np.isfinite(estimate_likelihood_scale(reference, model, blank, fit))
