"""What fitted references tell of the gain and the noise that particles are seen through."""

import numpy as np
import torch
from phantom import VOXEL_SIZE, molecule
from scipy.ndimage import gaussian_filter

from napari_orient.engine.matching.fit import fit_at
from napari_orient.engine.model.forward import ForwardModel, build_forward_model
from napari_orient.engine.model.gain import calibrate, initial_forward_model
from napari_orient.engine.model.noise import finest_filled, mean_power, window
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.patches import normalised
from napari_orient.engine.rotations import random_rotations

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


def test_dark_particles_are_dark_however_smooth_the_tomogram_is() -> None:
    shape, box = molecule(radius=110.0), 34
    reference = build_reference(shape.density(box).astype(np.float32), VOXEL_SIZE, resolution=24.0)
    rotations = random_rotations(16, np.random.default_rng(0))
    soft = window(box, VOXEL_SIZE, reference.radius)
    for blur in (1, 2, 3):
        cubes = [gaussian_filter(-shape.turned(rotation).density(46), blur) for rotation in rotations]
        middle = torch.from_numpy(np.stack([normalised(cube)[6:-6, 6:-6, 6:-6] for cube in cubes]))
        filled = finest_filled(mean_power(middle, soft), soft, VOXEL_SIZE)
        model = initial_forward_model(middle, reference, Wedge(), voxel_size=VOXEL_SIZE, resolution=max(filled, 24.0))
        assert float(model.whitening.real[:32].sum()) < 0
