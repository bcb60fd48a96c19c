"""Resolution of half maps: what a mask adds is taken off, masks keep the particle, and noise counts where it is."""

import numpy as np
import pytest
from phantom import VOXEL_SIZE, Molecule, molecule

from napari_orient.engine.map_resolution import (
    ball_mask,
    fourier_shell_correlation,
    local_resolution,
    map_resolution,
    mask_about,
)

SIDE = 40


def halves(noise, *, seed=0, side=SIDE):
    """Two maps of one molecule with noise of their own, in standard deviations of the molecule's density."""
    density, rng = molecule().density(side), np.random.default_rng(seed)
    return [density + noise * density.std() * rng.normal(size=density.shape) for _ in range(2)]


def test_a_mask_keeps_the_molecule_and_leaves_the_noise():
    mask = mask_about(*halves(1.0), VOXEL_SIZE)
    density = molecule().density(SIDE)
    assert (mask[density > 0.2 * density.max()] > 0.95).all()
    assert (mask > 0.5).mean() < 0.1
    assert ((mask >= 0) & (mask <= 1)).all()


def test_a_mask_leaves_out_small_islands_and_fills_holes():
    line = np.arange(SIDE) - (SIDE - 1) / 2
    radius = np.sqrt(np.square(line)[:, None, None] + np.square(line)[:, None] + np.square(line))
    shell = np.exp(-np.square(radius - 9) / 4)
    dust = shell.copy()
    dust[2:4, 2:4, 2:4] = 1.0
    noise = 0.01 * np.random.default_rng(0).normal(size=(2, SIDE, SIDE, SIDE))
    mask = mask_about(dust + noise[0], dust + noise[1], VOXEL_SIZE)
    assert mask[radius < 3].min() == 1
    assert mask[:5, :5, :5].max() == 0


def test_where_nothing_stands_out_the_mask_is_a_ball():
    rng = np.random.default_rng(0)
    flat = np.zeros((SIDE, SIDE, SIDE))
    assert np.array_equal(mask_about(flat, flat, VOXEL_SIZE), ball_mask(SIDE, VOXEL_SIZE, None))
    noise = mask_about(*rng.normal(size=(2, SIDE, SIDE, SIDE)), VOXEL_SIZE)
    assert noise.shape == flat.shape


def test_correlation_that_a_hard_mask_adds_is_taken_off():
    """Halves of a smooth ball share nothing beyond 60 Å but the edge of a hard mask."""
    ball = Molecule(np.zeros((1, 3)), np.ones(1), 60.0).density(SIDE)
    added, left = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise = [ball + 0.1 * rng.normal(size=ball.shape) for _ in range(2)]
        found = map_resolution(*noise, (ball > 0.5).astype(float), VOXEL_SIZE, seed=seed)
        fine = found.masked.frequency > 1 / 50
        added.append(found.masked.correlation[fine].mean())
        left.append(found.corrected.correlation[fine].mean())
        assert abs(found.unmasked.correlation[fine].mean()) < 0.05
    assert np.mean(added) > 0.2
    assert abs(np.mean(left)) < 0.25 * np.mean(added)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_mask_about_the_molecule_lets_finer_detail_be_seen_that_is_there(noise):
    first, second = halves(noise)
    found = map_resolution(first, second, mask_about(first, second, VOXEL_SIZE), VOXEL_SIZE)
    unmasked, corrected = found.unmasked.resolution(0.143), found.corrected.resolution(0.143)
    assert corrected < 0.9 * unmasked
    # The truth: the correlation of each half with the molecule itself, masked alike, without noise of its own.
    truth = fourier_shell_correlation(first * found.mask, molecule().density(SIDE) * found.mask, VOXEL_SIZE)
    signal_share = truth.correlation**2
    finest = truth.frequency[np.flatnonzero(signal_share < 0.143)[:1]]
    assert len(finest) == 0 or corrected > 0.85 / finest[0]


def test_the_curves_of_one_map_are_the_same_each_time_and_say_where_phases_are_random():
    first, second = halves(1.0)
    one, two = (map_resolution(first, second, ball_mask(SIDE, VOXEL_SIZE, None), VOXEL_SIZE) for _ in range(2))
    assert np.array_equal(one.randomised.correlation, two.randomised.correlation)
    assert one.unmasked.correlation[one.unmasked.frequency < 0.99 / one.randomised_from].min() >= 0.8
    assert np.array_equal(one.corrected.correlation[:3], one.masked.correlation[:3])


def test_maps_that_are_the_same_agree_to_the_finest_shell():
    density = molecule().density(24)
    found = map_resolution(density, density, ball_mask(24, VOXEL_SIZE, None), VOXEL_SIZE)
    assert np.isfinite(found.corrected.correlation).all()
    assert found.unmasked.resolution(0.143) == pytest.approx(2 * VOXEL_SIZE)


def test_the_local_resolution_is_worse_where_the_noise_is():
    density, rng = molecule().density(24), np.random.default_rng(0)
    uneven = np.where(np.arange(24) < 12, 0.3, 3.0) * density.std()
    first, second = (density + uneven * rng.normal(size=density.shape) for _ in range(2))
    mask = ball_mask(24, VOXEL_SIZE, None)
    found = local_resolution(first, second, mask, VOXEL_SIZE)
    inside = (mask > 0.5) & (density > 0.1 * density.max())
    left, right = (np.median(found[..., half][inside[..., half]]) for half in (slice(0, 12), slice(12, 24)))
    assert left < 0.9 * right
    assert (found[mask <= 0.5] == 0).all()
    assert found[mask > 0.5].min() >= 2 * VOXEL_SIZE
