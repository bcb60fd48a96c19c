"""What fitted references tell of the gain and the noise that particles are seen through."""

import numpy as np
import torch
from phantom import VOXEL_SIZE, molecule

from napari_orient.engine.matching.fit import fit_at
from napari_orient.engine.model.forward import ForwardModel, build_forward_model
from napari_orient.engine.model.gain import calibrate
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge

SIDE, RADIUS = 28, 80.0


def calibrated(strength: float) -> tuple[ForwardModel, ForwardModel]:
    """A model before and after twelve upright particles, so strong in white noise of deviation 1, taught it."""
    density = molecule().density(SIDE).astype(np.float32)
    reference: Reference = build_reference(density, VOXEL_SIZE, resolution=30.0, radius=RADIUS)
    flat = torch.ones(SIDE, SIDE, SIDE)
    model = build_forward_model(flat, Wedge(), voxel_size=VOXEL_SIZE, resolution=30.0, radius=RADIUS)
    noise = torch.randn(12, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    observed = model.observe(noise + strength * torch.as_tensor(density))
    upright = torch.eye(3).expand(12, 3, 3), torch.full((12, 3), -VOXEL_SIZE / 2)
    return model, calibrate(reference, model, observed, fit_at(reference, model, observed, *upright), wedge=Wedge())


def test_the_noise_is_what_the_particles_leave() -> None:
    before, after = calibrated(3.0)
    told = (before.whitening.abs() / after.whitening.abs()).median()
    assert 0.9 < float(told) < 1.1


def test_particles_that_fit_only_upside_down_leave_the_model_as_it_was() -> None:
    before, after = calibrated(-3.0)
    torch.testing.assert_close(after.whitened_gain, before.whitened_gain)
    torch.testing.assert_close(after.whitening, before.whitening)
