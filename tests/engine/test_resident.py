"""A tomogram that lies on a device: its patches are those cut from the file."""

import numpy as np
import pytest
import torch
from test_patches import smooth_tomogram

from napari_orient.engine.particles import Tomogram
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.tomogram.resident import ResidentTomogram, fits_on

CPU = torch.device("cpu")


@pytest.mark.parametrize(("centring", "voxel_size"), [("rounded", 10.0), ("subvoxel", 10.0), ("rounded", 13.0)])
def test_patches_gathered_on_a_device_are_those_cut_from_the_file(centring, voxel_size):
    tomogram = smooth_tomogram()
    tomogram.density[:] = 300 + 5 * tomogram.density
    tomogram.density[4:7, 4:7, 4:7] = np.nan
    tomogram.density[:, 30:, 30:] = 7.0
    positions = np.random.default_rng(1).uniform(0, 390, (40, 3))
    positions[:3] = [[50.0, 50.0, 50.0], [400.0, 400.0, 200.0], [1e4, 0.0, 0.0]]
    cut = cut_patches(tomogram, positions, side=16, voxel_size=voxel_size, centring=centring)
    resident = ResidentTomogram.of(tomogram, CPU)
    found = resident.cut(positions, side=16, voxel_size=voxel_size, centring=centring)
    np.testing.assert_allclose(found.numpy(), cut, atol=2e-3)
    assert np.abs(cut).max() > 1


def test_a_cpu_maps_the_file_and_holds_no_copy():
    assert not fits_on(Tomogram(np.zeros((8, 8, 8), np.float32), 10.0, "small"), CPU)
