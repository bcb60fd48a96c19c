"""The missing wedge: its geometry against the planes of the tilt images, and its estimate from the power of patches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom import VOXEL_SIZE, molecule, tomogram
from scipy.ndimage import gaussian_filter, median_filter

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.noise import mean_power, window
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.model.wedge import NO_WEDGE, Wedge, estimate_wedge
from napari_orient.engine.parameters import WedgeOptions
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.tomogram.tilt_geometry import chosen_wedge, tilt_geometry

SIDE = 28
SPACING = 1 / (SIDE * VOXEL_SIZE)
TILTS = np.arange(-57.0, 61.0, 3.0)
angles = st.floats(-180, 180)


def of_wedge(wedge, *, size=96, colour=0.0, seed=0):
    """A tomogram of noise that the wedge was taken from; its power falls off by a Gaussian of ``colour`` voxels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, size, size, generator=generator)
    kept = wedge.weights(frequencies(size, VOXEL_SIZE), 1 / (size * VOXEL_SIZE))
    volume = torch.fft.ifftn(torch.fft.fftn(noise) * kept).real.numpy()
    return Tomogram(gaussian_filter(volume, colour) if colour else volume, VOXEL_SIZE, "t")


def patches_of(volume, count):
    """Patches from the middle of a tomogram, power and all."""
    generator = np.random.default_rng(1)
    corners = generator.integers(0, len(volume.density) - SIDE, size=(count, 3))
    cubes = [volume.density[tuple(slice(start, start + SIDE) for start in corner)] for corner in corners]
    return torch.as_tensor(np.stack(cubes), dtype=torch.float32)


def estimated(volume, count):
    power = mean_power(patches_of(volume, count), window(SIDE, VOXEL_SIZE, SIDE * VOXEL_SIZE / 2))
    return estimate_wedge(power, VOXEL_SIZE)


# --- geometry -------------------------------------------------------------------------------------------------------


@given(axis=st.floats(-89, 89), level=st.floats(-20, 20))
@settings(max_examples=30, deadline=None)
def test_the_planes_of_the_tilt_images_lie_inside_the_wedge_and_others_outside(axis, level):
    series = TiltSeries.of_angles(TILTS, axis_deg=axis, level_deg=level)
    wedge = Wedge.of_series(series)
    assert wedge.axis_deg == pytest.approx(axis, abs=1e-6)
    assert wedge.level_deg == pytest.approx(level, abs=1e-6)
    assert (wedge.low_deg, wedge.high_deg) == pytest.approx((-57, 60))
    place = 0.03 * np.array([[np.cos(angle), np.sin(angle)] for angle in np.linspace(0, np.pi, 7)])
    inner = np.einsum("pc,tcd->tpd", place, series.axes[1:-1, :2])
    assert float(wedge.weights(torch.as_tensor(inner), 1e-9).min()) > 0.49
    # The direction of the beam at no tilt.
    assert float(wedge.weights(torch.as_tensor(0.03 * series.stage_frame[2]), 1e-9)) == 0


@given(axis=st.floats(-180, 180), level=st.floats(-20, 20))
@settings(max_examples=50, deadline=None)
def test_an_axis_reversed_is_the_same_wedge_with_tilts_and_level_reversed(axis, level):
    wedge = Wedge(axis, -48, 60, level)
    same = wedge.canonical
    assert -89 < same.axis_deg < 92
    frequency = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(same.weights(frequency, 0.3), wedge.weights(frequency, 0.3), atol=1e-9)


def test_about_x_a_tilt_measures_the_plane_kz_is_tan_times_ky():
    wedge = Wedge(90, 30, 50)
    inside = torch.tensor([0.1, 1.0, np.tan(np.radians(40.0))])
    assert float(wedge.weights(inside, 1e-6)) == 1
    assert float(wedge.weights(inside * torch.tensor([1.0, -1.0, 1.0]), 1e-6)) == 0


@given(axis=angles, low=st.floats(-80, -30), high=st.floats(30, 80), level=st.floats(-10, 10))
@settings(max_examples=60, deadline=None)
def test_flips_said_to_keep_the_wedge_keep_it_nearly(axis, low, high, level):
    wedge = Wedge(axis, low, high, level)
    weights = wedge.weights(frequencies(16, VOXEL_SIZE), 1 / (16 * VOXEL_SIZE))[1:, 1:, 1:]
    for mirror in wedge.mirrors:
        assert float((weights - weights.flip(mirror)).abs().mean()) < 0.08


@pytest.mark.parametrize(
    ("wedge", "mirrors"),
    [
        (Wedge(), (0, 1, 2)),
        (Wedge(90), (0, 1, 2)),
        (Wedge(0, -61, 54), (1,)),
        (Wedge(90, -61, 54), (2,)),
        (Wedge(11), (0,)),
        (Wedge(11, -61, 54), ()),
        (Wedge(level_deg=8), ()),
        (NO_WEDGE, (0, 1, 2)),
    ],
)
def test_half_turns_respect_an_oblique_axis_and_uneven_tilts(wedge, mirrors):
    assert wedge.mirrors == mirrors
    assert wedge.symmetric == (mirrors == (0, 1, 2))


# --- estimation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 10])
@pytest.mark.parametrize(
    "true", [Wedge(), Wedge(11, -60, 60, 5), Wedge(-30, -61, 52), Wedge(90, -50, 60), Wedge(0, -40, 60)]
)
def test_axis_level_and_tilts_are_found_from_few_patches(true, count):
    found = estimated(of_wedge(true), count)
    assert found is not None
    if abs(found.axis_deg - true.axis_deg) > 90:
        found = Wedge(found.axis_deg + 180, -found.high_deg, -found.low_deg, -found.level_deg)
    assert found.axis_deg == pytest.approx(true.axis_deg, abs=3)
    assert (found.low_deg, found.high_deg) == pytest.approx((true.low_deg, true.high_deg), abs=4)
    assert found.level_deg == pytest.approx(true.level_deg, abs=3)


def test_particles_do_not_hide_the_wedge():
    seen, picks, _ = tomogram(molecule(), noise=1.0)
    found = tilt_geometry(seen, picks.positions[:3], WedgeOptions(), side=SIDE).found
    assert found is not None
    assert abs(found.axis_deg) < 3
    assert (found.low_deg, found.high_deg) == pytest.approx((-60, 60), abs=5)


def test_without_a_wedge_none_is_found_from_many_patches():
    assert estimated(of_wedge(NO_WEDGE), 12) is NO_WEDGE


def test_a_wedge_that_is_unclear_is_taken_for_the_usual_one_and_said():
    smooth = of_wedge(Wedge(), colour=4.0)
    geometry = tilt_geometry(smooth, np.full((1, 3), 480.0), WedgeOptions(), side=SIDE)
    assert geometry.found is None
    assert geometry.wedge == Wedge()
    assert "assumed" in geometry.note


@pytest.mark.parametrize(
    "changed", [lambda volume: gaussian_filter(volume, 2.5), lambda volume: median_filter(volume, 3)]
)
def test_a_filter_of_the_tomogram_hides_no_wedge(changed):
    true, places = Wedge(-20, -55, 60), np.random.default_rng(0).uniform(300, 650, (12, 3))
    filtered = Tomogram(changed(of_wedge(true).density), VOXEL_SIZE, "t")
    found = tilt_geometry(filtered, places, WedgeOptions(), side=SIDE).found
    assert found is not None
    assert found.axis_deg == pytest.approx(-20, abs=3)
    assert (found.low_deg, found.high_deg) == pytest.approx((-55, 60), abs=4)


def test_boxes_side_by_side_show_their_wedge_and_not_their_seams():
    cubes = patches_of(of_wedge(Wedge(-8, -60, 50)), 10).numpy()
    levels = np.random.default_rng(2).normal(size=(10, 1, 1, 1))
    row = np.concatenate(list(cubes + levels), axis=2)
    centres = np.stack([SIDE * np.arange(10) + SIDE // 2, np.full(10, SIDE // 2), np.full(10, SIDE // 2)], axis=1)
    found = tilt_geometry(Tomogram(row, VOXEL_SIZE, "t"), centres * VOXEL_SIZE, WedgeOptions(), side=SIDE).found
    assert found is not None
    assert found.axis_deg == pytest.approx(-8, abs=3)
    assert (found.low_deg, found.high_deg) == pytest.approx((-60, 50), abs=4)


# --- options --------------------------------------------------------------------------------------------------------

FOUND = Wedge(9, -61, 54, 2)


@pytest.mark.parametrize(
    ("options", "found", "chosen"),
    [
        ({}, FOUND, FOUND),
        ({}, None, Wedge()),
        ({}, NO_WEDGE, NO_WEDGE),
        ({"tilt_axis": "none"}, FOUND, NO_WEDGE),
        ({"tilt_axis": "y"}, FOUND, Wedge(0, -61, 54, 2)),
        ({"tilt_axis": "x"}, FOUND, Wedge(90)),
        ({"tilt_axis": "11.5"}, FOUND, Wedge(11.5, -61, 54, 2)),
        ({"tilt_axis": "-170"}, FOUND, Wedge(-170, -54, 61, -2)),
        ({"tilt_axis": "y", "lowest_tilt": -50.0}, None, Wedge(0, -50, 60)),
        ({"lowest_tilt": -50.0, "highest_tilt": 40.0}, FOUND, Wedge(9, -50, 40, 2)),
        ({"lowest_tilt": -50.0}, NO_WEDGE, Wedge(0, -50, 60)),
    ],
)
def test_what_is_given_overrides_what_is_found(options, found, chosen):
    assert chosen_wedge(WedgeOptions.of(**options), found) == chosen


@pytest.mark.parametrize("text", ["z", "400", ""])
def test_a_tilt_axis_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="expected found, x, y, none, or an angle"):
        WedgeOptions.of(tilt_axis=text)


@pytest.mark.parametrize(
    ("wedge", "words"),
    [
        (Wedge(), "tilted about y from -60° to 60°"),
        (Wedge(0.9, -61, 54), "tilted about y from -61° to 54°"),
        (Wedge(-90, -60, 60), "tilted about x from -60° to 60°"),
        (Wedge(90, -48, 60), "tilted about x from -48° to 60°"),
        (Wedge(-90, -60, 48), "tilted about x from -48° to 60°"),
        (Wedge(180, -60, 48), "tilted about y from -48° to 60°"),
        (Wedge(11, -60, 60, 5), "tilted about an axis 11° off y from -60° to 60°, level 5°"),
        (NO_WEDGE, "none"),
    ],
)
def test_a_wedge_says_its_axis_in_words(wedge, words):
    assert wedge.words == words


def test_patches_that_are_flat_or_not_finite_or_tiny_do_not_stop_the_estimate():
    volume = of_wedge(Wedge())
    volume.density[10:20, 10:20, 10:20] = np.nan
    far = np.full((1, 3), 480.0)
    assert tilt_geometry(volume, far, WedgeOptions(), side=SIDE).found is not None
    assert tilt_geometry(volume, far, WedgeOptions(), side=6).found is None
    flat = Tomogram(np.ones((96, 96, 96), np.float32), VOXEL_SIZE, "t")
    assert tilt_geometry(flat, far, WedgeOptions(), side=SIDE).wedge == Wedge()
