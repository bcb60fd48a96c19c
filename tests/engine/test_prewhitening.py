"""Prewhitening: what a smooth tomogram still holds reaches network and template as it would had nobody smoothed it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_orient.engine.networks.tomogram_input import spectra_of, whitening_of_power
from napari_orient.engine.parameters import MixtureOptions
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.tomogram.prewhitening import LevelledDensity, estimate_prewhitening, levelled

SIZE, VOXEL = 96, 10.0
OPTIONS = MixtureOptions()
PICKS = np.random.default_rng(1).uniform(250, 700, (12, 3))
NEIGHBOURS = np.random.default_rng(2).uniform(0, SIZE, (60, 3)).astype(int)


def noisy() -> np.ndarray:
    """Noise that is white beyond 60 Å, and strong large densities."""
    noise = np.random.default_rng(0).normal(size=(SIZE,) * 3)
    strong = np.zeros((SIZE,) * 3)
    strong[tuple(NEIGHBOURS.T)] = 1.0
    return (noise + 4000 * gaussian_filter(strong, 6.0)).astype(np.float32)


def tomogram(density: np.ndarray) -> Tomogram:
    return Tomogram(density, VOXEL, "smooth")


def level(of: Tomogram) -> Tomogram:
    return levelled(of, PICKS, box=OPTIONS.box, resolution=OPTIONS.network_resolution)


def spectra(of: Tomogram, positions: np.ndarray) -> torch.Tensor:
    cubes = cut_patches(of, positions, side=OPTIONS.patch_side, centring="rounded", beyond=True)
    return spectra_of(torch.from_numpy(cubes), OPTIONS)


def whitened(of: Tomogram) -> torch.Tensor:
    found = spectra(of, PICKS)
    whitening = whitening_of_power(found.abs().square().mean(0), len(PICKS), OPTIONS, tomogram_voxel_size=VOXEL)
    return found * whitening.filter


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first * second.conj()).sum().real / (first.norm() * second.norm()))


def test_a_tomogram_whose_power_falls_gently_is_left_as_it_is():
    plain = tomogram(np.random.default_rng(0).normal(size=(SIZE,) * 3).astype(np.float32))
    assert level(plain) is plain


def test_patches_of_a_smoothed_tomogram_are_those_of_the_tomogram_before():
    before = tomogram(noisy())
    smooth = tomogram(gaussian_filter(before.density, 2.0))
    assert agreement(whitened(smooth), whitened(before)) < 0.8
    assert agreement(whitened(level(smooth)), whitened(level(before))) > 0.94


def test_a_part_is_filtered_as_the_whole_is_at_faces_and_where_values_are_no_numbers():
    density = gaussian_filter(noisy(), 1.5)
    by_parts = level(tomogram(density))
    assert isinstance(by_parts.density, LevelledDensity)
    at_once = tomogram(np.asarray(by_parts.density))
    for pick in ((450.0, 450.0, 450.0), (60.0, 800.0, 500.0)):
        first, second = (spectra(item, np.array([pick])) for item in (by_parts, at_once))
        radius = torch.fft.fftfreq(first.shape[1], 1 / first.shape[1]).abs()
        # Slopes that differ from part to part the network does not see.
        assert agreement(first[:, radius >= 2], second[:, radius >= 2]) > 0.995
    density[90, 90, 90] = np.nan
    assert np.isfinite(np.asarray(level(tomogram(density)).density)).all()


def test_a_ramp_of_density_leaks_into_nothing_at_faces_either():
    density = gaussian_filter(np.random.default_rng(0).normal(size=(SIZE,) * 3).astype(np.float32), 1.5)
    ramp = np.linspace(-60, 60, SIZE, dtype=np.float32) * density.std()
    places = np.array([[60.0, 450.0, 450.0], [900.0, 450.0, 450.0], [450.0, 60.0, 450.0]])
    flat, ramped = (spectra(level(tomogram(each)), places) for each in (density, density + ramp))
    radius = torch.fft.fftfreq(flat.shape[1], 1 / flat.shape[1]).abs()
    assert agreement(flat[:, radius >= 2], ramped[:, radius >= 2]) > 0.99


def test_outliers_are_filled_before_a_filter_spreads_them():
    density = gaussian_filter(noisy(), 1.5)
    found = estimate_prewhitening(tomogram(density), PICKS, box=OPTIONS.box, resolution=OPTIONS.network_resolution)
    hot = density.copy()
    hot[40:44, 40:44, 40:44] += 100 * density.std()
    pick = np.array([[600.0, 420.0, 420.0]])

    def fill(block: np.ndarray) -> np.ndarray:
        return np.where(block > density.max(), block.mean(), block)

    clean, spread, filled = (
        spectra(found.applied_to(tomogram(each), repair=repair), pick)
        for each, repair in ((density, None), (hot, None), (hot, fill))
    )
    assert agreement(spread, clean) < 0.5
    assert agreement(filled, clean) > 0.85


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_flat_tomogram_is_left_as_it_is(value):
    flat = tomogram(np.full((SIZE,) * 3, value, np.float32))
    assert level(flat) is flat
