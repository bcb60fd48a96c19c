"""Voxels that are no signal: gold is found on a ramp too, and a ramp is no gold."""

import numpy as np
import pytest

from napari_orient.engine.tomogram.voxel_outliers import estimate_outlier_limits

SIDE = 32


def cube_at(place, *, gold=False, seed=0):
    """A patch of noise with a dark blob, on a ramp of 10 deviations over 8 patches; perhaps a bead in a corner."""
    rng = np.random.default_rng([seed, place])
    line = np.arange(SIDE) - SIDE / 2
    distance = np.sqrt(np.square(line)[:, None, None] + np.square(line)[:, None] + np.square(line))
    cube = rng.normal(size=(SIDE,) * 3) - 2 * np.exp(-np.square(distance / 6))
    cube += 10 / 8 * (place + np.arange(SIDE) / SIDE)
    if gold:
        cube[4:10, 4:10, 4:10] -= 40
    return cube.astype(np.float32)


@pytest.fixture(scope="module")
def limits():
    return estimate_outlier_limits([cube_at(place) for place in range(8)])


def test_what_lies_high_on_a_ramp_is_no_outlier(limits):
    assert [limits.mask(cube_at(place, seed=1)) for place in range(8)] == [None] * 8


def test_the_ends_of_a_wide_patch_on_a_ramp_are_no_outliers_and_gold_there_is_filled_by_the_ramp(limits):
    ramp = 40 * (np.arange(SIDE) / SIDE - 0.5)
    flat, golden = cube_at(3, seed=1), cube_at(3, gold=True)
    assert limits.mask(flat + ramp) is None or not limits.mask(flat + ramp).any()
    filled = limits.fill((golden + ramp).astype(np.float32))
    assert np.abs((filled - ramp)[5:9, 5:9, 5:9] - limits.fill(golden)[5:9, 5:9, 5:9]).max() < 2.5


def test_false_picks_do_not_make_particles_pass_for_gold_where_contrast_varies_threefold():
    rng, line = np.random.default_rng(3), np.square(np.arange(SIDE) - SIDE / 2)
    blob = np.exp(-(line[:, None, None] + line[:, None] + line) / 50)
    contrast = np.linspace(1, 3, 20)[:, None, None, None]
    cubes = contrast * rng.normal(scale=0.2, size=(20, SIDE, SIDE, SIDE))
    cubes[1::2] -= contrast[1::2] * 0.2 * blob
    limits = estimate_outlier_limits(cubes)
    assert not any(limits.fill(cube) is not cube for cube in cubes)
    cubes[-1, 4:10, 4:10, 4:10] -= 40
    assert limits.mask(cubes[-1])[5:9, 5:9, 5:9].all()


@pytest.mark.parametrize("place", [0, 3, 7])
def test_gold_is_found_and_filled_wherever_it_lies_on_a_ramp(limits, place):
    cube = cube_at(place, gold=True)
    mask = limits.mask(cube)
    assert mask[5:9, 5:9, 5:9].all()
    assert mask[16:].mean() < 0.01
    filled = limits.fill(cube)
    assert np.abs(filled[5:9, 5:9, 5:9] - cube[~mask].mean()).max() < 1e-3
    assert np.array_equal(filled[~mask], cube[~mask])


def test_values_that_are_no_numbers_are_outliers_and_leave_the_rest(limits):
    cube = cube_at(2)
    cube[3, 3, 3], cube[20, 20, 20] = np.nan, np.inf
    mask = limits.mask(cube)
    assert mask[3, 3, 3]
    assert mask[20, 20, 20]
    assert mask.sum() < 80
    assert np.isfinite(limits.fill(cube)).all()
