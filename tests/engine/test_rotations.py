"""Laws of rotations, with SciPy as an independent oracle."""

import math

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.stats import chi

from napari_orient.engine.rotations import (
    HALF_TURNS,
    PAPER_20_DEG,
    angle_deg,
    chance_within,
    even_rotations,
    mean_rotation,
    random_rotations,
    within_from_rms,
)
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry


def unit_quaternions(count: int):
    numbers = npst.arrays(float, (count, 4), elements=st.floats(-1, 1))
    return numbers.filter(lambda rows: (np.linalg.norm(rows, axis=1) > 0.1).all())


rotation = unit_quaternions(1).map(lambda rows: Rotation.from_quat(rows).as_matrix()[0])


def worst_improperness(matrices: np.ndarray) -> float:
    gram = np.swapaxes(matrices, -1, -2) @ matrices
    return max(float(np.abs(gram - np.eye(3)).max()), float(np.abs(np.linalg.det(matrices) - 1).max()))


# --- distances -------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(first=rotation, second=rotation)
def test_the_angle_is_scipys(first, second):
    oracle = (Rotation.from_matrix(first).inv() * Rotation.from_matrix(second)).magnitude()
    assert angle_deg(first, second) == pytest.approx(math.degrees(oracle), abs=1e-5)


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 1.0, 90.0, 179.0, 179.999, 180.0])
def test_the_angle_keeps_its_digits_near_0_and_180(angle):
    start = random_rotations(50, np.random.default_rng(3))
    axes = np.random.default_rng(4).normal(size=(50, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turned = start @ Rotation.from_rotvec(axes * math.radians(angle)).as_matrix()
    np.testing.assert_allclose(angle_deg(start, turned), angle, rtol=1e-6, atol=2e-6)


def test_what_the_papers_code_calls_20_degrees_is_24_56():
    start = random_rotations(20, np.random.default_rng(8))
    turned = start @ Rotation.from_rotvec([0, 0, math.radians(PAPER_20_DEG)]).as_matrix()
    assert pytest.approx(24.56, abs=0.005) == PAPER_20_DEG
    trace = np.einsum("...ij,...ij->...", start, turned)
    np.testing.assert_allclose(np.degrees(np.arccos(trace / 3)), 20, atol=1e-6)


# --- chance, means, grids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "angle"), [("C1", 20.0), ("C1", 90.0), ("C1", 132.0), ("C7", 20.0), ("D7", 12.0), ("I", 15.0)]
)
def test_chance_is_what_random_guesses_get(name, angle):
    group = symmetry(name)
    guesses = random_rotations(40_000, np.random.default_rng(9))
    expected = len(group) * chance_within(angle)
    got = (symmetric_angle_deg(guesses, np.eye(3), group) <= angle).mean()
    assert got == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / len(guesses)))


def test_chance_is_0_22_percent_within_20_degrees_and_all_within_180():
    assert chance_within(20) == pytest.approx(0.0022, abs=5e-5)
    assert chance_within(132) == pytest.approx(0.5, abs=0.005)
    assert chance_within(180) == pytest.approx(1)


def test_the_rms_foretells_how_many_lie_within():
    rng = np.random.default_rng(10)
    errors = np.linalg.norm(rng.normal(scale=10 / math.sqrt(3), size=(40_000, 3)), axis=1)
    assert float(within_from_rms(np.array(10.0), 12.0)) == pytest.approx((errors <= 12).mean(), abs=0.01)


def test_the_mean_of_rotations_scattered_about_one_is_near_it():
    rng = np.random.default_rng(11)
    centres = random_rotations(10, rng)
    scatter = Rotation.from_rotvec(rng.normal(scale=0.1, size=(10 * 400, 3))).as_matrix().reshape(10, 400, 3, 3)
    assert angle_deg(mean_rotation(centres[:, None] @ scatter), centres).max() < 1.5


def test_the_chance_of_lying_within_is_that_of_scipys_chi_distribution():
    rms, angles = np.meshgrid([1e-9, 0.5, 3.0, 40.0, np.nan], [0.0, 0.01, 5.0, 20.0, 180.0])
    for one, angle in zip(rms.ravel(), angles.ravel(), strict=True):
        oracle = chi.cdf(angle / max(one / math.sqrt(3), 1e-6), df=3)
        np.testing.assert_allclose(within_from_rms(np.array(one), angle), oracle, atol=1e-12)


def test_a_mean_of_rotations_is_scipys_and_proper_where_they_are_all_over():
    rotations = random_rotations(300, np.random.default_rng(15)).reshape(60, 5, 3, 3)
    means = mean_rotation(rotations)
    assert worst_improperness(means) < 1e-12
    for mean, own in zip(means, rotations, strict=True):
        np.testing.assert_allclose(mean, Rotation.from_matrix(own).mean().as_matrix(), atol=1e-9)


@pytest.mark.parametrize("count", [1, 7, 500, 4608])
def test_an_even_grid_leaves_no_hole(count):
    grid = even_rotations(count)
    assert grid.shape == (count, 3, 3)
    assert worst_improperness(grid) < 1e-12
    probes = random_rotations(4000, np.random.default_rng(12))
    quaternions = Rotation.from_matrix(grid).as_quat()
    tree = cKDTree(np.concatenate([quaternions, -quaternions]))
    chord, _ = tree.query(Rotation.from_matrix(probes).as_quat())
    radius = np.degrees(4 * np.arcsin(chord / 2))
    # A ball of this radius holds one grid point's fair share of SO(3); a hole is a place much further off.
    fair = next(angle for angle in np.arange(0.1, 180, 0.1) if chance_within(angle) * count >= 1 or angle > 179.8)
    assert radius.max() <= min(180.0, 2.2 * fair)


def test_random_rotations_are_uniform_and_repeat_with_their_seed():
    drawn = random_rotations(20_000, np.random.default_rng(13))
    np.testing.assert_array_equal(drawn[:5], random_rotations(20_000, np.random.default_rng(13))[:5])
    np.testing.assert_allclose(drawn, Rotation.random(20_000, rng=np.random.default_rng(13)).as_matrix(), atol=1e-12)
    assert np.abs(drawn.mean(axis=0)).max() < 0.02
    assert (angle_deg(drawn, np.eye(3)) <= 90).mean() == pytest.approx(chance_within(90), abs=0.012)
    assert random_rotations(0, np.random.default_rng(0)).shape == even_rotations(0).shape == (0, 3, 3)


def test_half_turns_leave_a_wedge_about_y_in_its_place():
    assert worst_improperness(HALF_TURNS) == 0
    assert {tuple(np.diag(turn)) for turn in HALF_TURNS} == {(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)}
    waves = np.random.default_rng(14).normal(size=(500, 3))
    measured = np.abs(waves[:, 2]) <= np.tan(np.radians(60)) * np.abs(waves[:, 0])
    for turn in HALF_TURNS:
        there = waves @ turn.T
        np.testing.assert_array_equal(np.abs(there[:, 2]) <= np.tan(np.radians(60)) * np.abs(there[:, 0]), measured)
