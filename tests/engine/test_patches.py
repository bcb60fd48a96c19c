"""Patches: where the position falls, what lies beyond the edge, and what turns with what."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram, write_tomogram
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.patches import cut_patches, normalised


def smooth_tomogram(*, shape=(40, 44, 48), voxel_size=10.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return Tomogram(gaussian_filter(noise, 2.5).astype(np.float32), voxel_size, "smooth")


def blob_tomogram(centre_xyz, *, shape=(60, 60, 60), voxel_size=10.0, sigma=35.0):
    z, y, x = np.indices(shape) * voxel_size
    cx, cy, cz = centre_xyz
    squares = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
    return Tomogram(np.exp(-squares / (2 * sigma**2)).astype(np.float32), voxel_size, "blob")


def centre_of_mass(patch, voxel_size=10.0):
    weights = np.maximum(patch - patch.min(), 0)
    weights[weights < 0.2 * weights.max()] = 0
    zyx = [(weights * grid).sum() / weights.sum() for grid in np.indices(patch.shape)]
    return np.array(zyx[::-1]) * voxel_size - patch.shape[0] // 2 * voxel_size


def test_the_position_falls_on_the_middle_voxel():
    density = np.zeros((30, 30, 30), np.float32)
    density[11, 14, 17] = 1
    patch = cut_patches(Tomogram(density, 5.0, "point"), np.array([[17, 14, 11]]) * 5.0, side=8, centring="rounded")[0]
    assert np.unravel_index(patch.argmax(), patch.shape) == (4, 4, 4)


def test_a_rounded_patch_is_the_very_voxels_normalised():
    tomogram = smooth_tomogram()
    patch = cut_patches(tomogram, np.array([[204.0, 196.0, 201.0]]), side=16, centring="rounded")[0]
    np.testing.assert_array_equal(patch, normalised(tomogram.density[12:28, 12:28, 12:28]))


@pytest.mark.parametrize("centre", [(303.7, 288.2, 296.6), (300.0, 300.0, 300.0), (305.0, 295.0, 309.9)])
def test_a_subvoxel_patch_has_the_particle_in_its_middle(centre):
    patch = cut_patches(blob_tomogram(centre), np.array([centre]), side=32)[0]
    assert np.abs(centre_of_mass(patch)).max() < 0.05


def test_a_rounded_patch_is_off_by_what_was_rounded():
    centre = (304.0, 297.0, 301.0)
    patch = cut_patches(blob_tomogram(centre), np.array([centre]), side=32, centring="rounded")[0]
    np.testing.assert_allclose(centre_of_mass(patch), [4.0, -3.0, 1.0], atol=0.2)


@pytest.mark.parametrize("voxel_size", [6.2, 8.704, 13.0])
def test_a_tomogram_of_another_voxel_size_gives_the_same_patch(voxel_size):
    centre = np.array([303.0, 295.0, 299.0])
    shape = (round(600 / voxel_size),) * 3
    patch = cut_patches(
        blob_tomogram(centre, shape=shape, voxel_size=voxel_size), centre[None], side=32, voxel_size=10.0
    )
    same = cut_patches(blob_tomogram(centre), centre[None], side=32)
    assert np.abs(patch - same).max() < 0.02 * np.abs(same).max()


def test_a_tomogram_turned_by_90_degrees_gives_the_turned_patch():
    tomogram = smooth_tomogram(shape=(40, 40, 40))
    turned = Tomogram(np.rot90(tomogram.density, axes=(1, 2)), 10.0, "turned")
    position = np.array([[180.0, 210.0, 200.0]])
    # rot90 takes [z, y, x] to [z, 39 - x, y].
    x, y, z = position[0]
    moved = np.array([[y, 390.0 - x, z]])
    patch = normalised(cut_patches(tomogram, position, side=18)[0][1:, 1:, 1:])
    other = normalised(cut_patches(turned, moved, side=18)[0][1:, 1:, 1:])
    np.testing.assert_allclose(other, np.rot90(patch, axes=(1, 2)), atol=1e-5)


def test_beyond_the_edge_stands_the_mean_of_what_is_inside():
    tomogram = smooth_tomogram()
    patch = cut_patches(tomogram, np.array([[0.0, 220.0, 200.0]]), side=16, centring="rounded")[0]
    assert np.abs(patch[:, :, :8]).max() < 1e-4
    inner = tomogram.density[12:28, 14:30, 0:8]
    assert np.corrcoef(patch[:, :, 8:].ravel(), inner.ravel())[0, 1] > 0.999999


def test_patches_have_mean_zero_and_deviation_one():
    tomogram = smooth_tomogram()
    positions = np.random.default_rng(1).uniform(0, 390, (20, 3))
    patches = cut_patches(tomogram, positions, side=20)
    assert np.abs(patches.mean(axis=(1, 2, 3))).max() < 1e-5
    assert np.abs(patches.std(axis=(1, 2, 3)) - 1).max() < 1e-5


def test_a_constant_tomogram_gives_zeros_not_nans():
    patch = cut_patches(Tomogram(np.full((20, 20, 20), 3.0), 10.0, "flat"), np.array([[100.0, 100, 100]]), side=8)
    assert not patch.any()


@pytest.mark.parametrize("voxel_size", [10.0, 13.5])
def test_a_value_that_is_no_number_is_the_patch_s_mean_and_leaves_the_others(voxel_size):
    rng = np.random.default_rng(0)
    density = rng.standard_normal((40, 40, 40)).astype(np.float32)
    spoilt = density.copy()
    spoilt[17, 22, 18], spoilt[3] = np.inf, np.nan
    whole, patch = (
        cut_patches(Tomogram(grey, 10.0, "TS"), [[200.0, 200, 200]], side=16, voxel_size=voxel_size)[0]
        for grey in (density, spoilt)
    )
    assert np.isfinite(patch).all()
    assert np.corrcoef(whole.ravel(), patch.ravel())[0, 1] > 0.99


def test_only_the_voxels_round_the_picks_are_read(tmp_path):
    path = tmp_path / "large.dat"
    density = np.memmap(path, np.float32, "w+", shape=(64, 512, 512))
    reads = []

    class Watched(np.ndarray):
        def __getitem__(self, key):
            part = super().__getitem__(key)
            reads.append(np.size(part))
            return part

    cut_patches(Tomogram(density.view(Watched), 10.0, "large"), np.array([[900.0, 900.0, 320.0]]), side=40)
    assert 0 < sum(reads) < 60**3


@pytest.mark.parametrize(("side", "words"), [(15, "even number"), (0, "even number"), (64, "larger than smooth")])
def test_an_impossible_side_is_refused_in_one_line(side, words):
    with pytest.raises(InputError, match=words) as caught:
        cut_patches(smooth_tomogram(), np.array([[200.0, 200.0, 200.0]]), side=side)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [12, 20])
def test_patches_of_a_stored_tomogram_read_at_once_are_those_of_each_alone(tmp_path, side):
    whole = np.random.default_rng(3).normal(size=(24, 40, 50)).astype(np.float32)
    write_tomogram(tmp_path / "a.mrc", whole, voxel_size=10)
    stored, held = read_tomogram(tmp_path / "a.mrc"), Tomogram(whole, 10.0, "a")
    # Corners, faces, and a place twice: beyond an edge stands the mean of what is inside.
    places = np.array([[0, 0, 0], [490, 390, 230], [250, 200, 120], [490, 0, 115], [250, 200, 120]], float)
    for centring in ("rounded", "subvoxel"):
        together = cut_patches(stored, places + 3, side=side, centring=centring)
        alone = [cut_patches(held, place[None] + 3, side=side, centring=centring)[0] for place in places]
        np.testing.assert_array_equal(together, alone)
