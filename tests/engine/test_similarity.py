import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from conftest import five_blobs
from napari_orient.engine.inspection.similarity import compare_with_reference, estimate_patch_wedge, rotated_reference
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.wedge import NO_WEDGE, Wedge
from napari_orient.engine.particles import Tomogram

VOXEL = 10.0
MAP = five_blobs(24).astype(np.float32)
REFERENCE = build_reference(MAP, VOXEL, resolution=20.5)
TURN = Rotation.from_euler("ZYZ", [40, 70, -25], degrees=True).as_matrix()


def turned_map(rotation, side=24):
    """The map turned about its box centre and put on voxel ``side // 2``, by splines."""
    matrix = rotation[::-1, ::-1].T
    centre = np.full(3, (24 - 1) / 2)
    offset = centre - matrix @ np.full(3, side // 2)
    return ndimage.affine_transform(MAP, matrix, offset=offset, output_shape=(side,) * 3, order=3)


def correlation(first, second):
    return np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]


@pytest.mark.parametrize("rotation", [np.eye(3), TURN])
def test_the_turned_reference_is_the_turned_map_and_not_the_one_turned_back(rotation):
    shown = rotated_reference(REFERENCE, rotation, side=24, voxel_size=VOXEL)
    assert correlation(shown, turned_map(rotation)) > 0.995
    if rotation is TURN:
        assert correlation(shown, turned_map(rotation.T)) < 0.95


def tomogram(sign=1):
    density = np.zeros((40, 44, 48), np.float32)
    density[8:32, 10:34, 12:36] = sign * turned_map(TURN)
    noise = np.random.default_rng(0).normal(0, 0.05, density.shape)
    return Tomogram(density + noise, VOXEL, "t"), np.array([12 + 12, 10 + 12, 8 + 12]) * VOXEL


@pytest.mark.parametrize("sign", [1, -1])
def test_the_right_pose_looks_like_the_patch_in_either_contrast(sign):
    volume, position = tomogram(sign)
    seen = compare_with_reference(volume, position, side=24, rotation=TURN, reference=REFERENCE)
    assert correlation(seen.predicted, seen.patch) > 0.9
    assert seen.true is None
    assert seen.difference.std() < 0.45 * seen.patch.std()


def test_the_difference_of_two_poses_is_nothing_where_they_agree():
    volume, position = tomogram()
    same = compare_with_reference(volume, position, side=24, rotation=TURN, true_rotation=TURN, reference=REFERENCE)
    np.testing.assert_allclose(same.difference, 0, atol=1e-5)
    wrong = compare_with_reference(
        volume, position, side=24, rotation=np.eye(3), true_rotation=TURN, reference=REFERENCE
    )
    assert wrong.difference.std() > 0.3
    assert correlation(wrong.true, wrong.patch) > correlation(wrong.predicted, wrong.patch) + 0.05


def test_without_a_reference_there_is_the_patch_alone():
    volume, position = tomogram()
    seen = compare_with_reference(volume, position, side=24, rotation=TURN)
    assert seen.predicted is None and seen.difference is None
    assert seen.patch.shape == (24, 24, 24)


def wedged(volume, wedge):
    """The volume without what the wedge misses."""
    side = len(volume)
    kept = wedge.weights(frequencies(side, VOXEL), 1 / (side * VOXEL))
    return torch.fft.ifftn(torch.fft.fftn(torch.from_numpy(volume)) * kept).real.numpy()


def test_the_reference_misses_what_the_tomogram_misses_so_that_what_differs_is_the_pose():
    wedge = Wedge()
    volume = wedged(np.random.default_rng(1).standard_normal((96, 96, 96)).astype(np.float32), wedge)
    places = np.random.default_rng(2).uniform(160, 780, (20, 3))
    found = estimate_patch_wedge(Tomogram(volume, VOXEL, "t"), places, side=24)
    assert (found.axis_deg, found.low_deg, found.high_deg) == pytest.approx((0, -60, 60), abs=4)
    particle = Tomogram(wedged(turned_map(TURN).astype(np.float32), wedge), VOXEL, "t")
    with_wedge, without = (
        compare_with_reference(particle, np.full(3, 120.0), side=24, rotation=TURN, reference=REFERENCE, wedge=known)
        for known in (wedge, None)
    )
    assert correlation(with_wedge.predicted, with_wedge.patch) > 0.995
    assert with_wedge.difference.std() < 0.25 * without.difference.std()


def test_where_the_wedge_is_unclear_it_is_the_usual_one():
    volume, _ = tomogram()
    small = Tomogram(np.asarray(volume.density)[8:33, 10:35, 12:37], VOXEL, "t")
    assert estimate_patch_wedge(small, np.full((3, 3), 12 * VOXEL), side=24) == Wedge()


def test_noise_about_a_particle_shows_that_nothing_is_missing():
    volume, position = tomogram()
    assert estimate_patch_wedge(volume, np.tile(position, (3, 1)), side=24) == NO_WEDGE
