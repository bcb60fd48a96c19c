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

from napari_orient.engine.errors import InputError
from napari_orient.engine.rotations import (
    HALF_TURNS,
    PAPER_20_DEG,
    angle_deg,
    axis_angle_deg,
    chance_within,
    even_rotations,
    mean_rotation,
    nearest_copy,
    paper_angle_deg,
    random_rotations,
    symmetric_angle_deg,
    symmetry,
    turned_symmetry,
    within_from_rms,
)

GROUPS = {"C1": 1, "C2": 2, "C7": 7, "D2": 4, "D7": 14, "T": 12, "O": 24, "I": 60}
EVERY_GROUP = pytest.mark.parametrize("name", GROUPS)
OBLIQUE = "D7@-0.6373,0.7642,0.0994@-0.1260,0.0239,-0.9917"


def unit_quaternions(count: int):
    numbers = npst.arrays(float, (count, 4), elements=st.floats(-1, 1))
    return numbers.filter(lambda rows: (np.linalg.norm(rows, axis=1) > 0.1).all())


rotation = unit_quaternions(1).map(lambda rows: Rotation.from_quat(rows).as_matrix()[0])


def worst_improperness(matrices: np.ndarray) -> float:
    gram = np.swapaxes(matrices, -1, -2) @ matrices
    return max(float(np.abs(gram - np.eye(3)).max()), float(np.abs(np.linalg.det(matrices) - 1).max()))


# --- groups ----------------------------------------------------------------------------------------------------------


@EVERY_GROUP
def test_a_group_has_its_order_its_identity_and_no_rotation_twice(name):
    matrices = symmetry(name).matrices
    assert len(matrices) == GROUPS[name]
    assert worst_improperness(matrices) < 1e-12
    assert np.abs(matrices - np.eye(3)).max(axis=(1, 2)).min() < 1e-12
    apart = angle_deg(matrices[:, None], matrices[None])
    assert (apart + 360 * np.eye(len(matrices))).min() > 30


@EVERY_GROUP
def test_products_and_inverses_stay_in_the_group(name):
    matrices = symmetry(name).matrices
    products = np.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 1, 3, 3)
    for elements in (products, matrices.transpose(0, 2, 1)[:, None]):
        assert np.abs(elements - matrices[None]).max(axis=(2, 3)).min(axis=1).max() < 1e-9


@pytest.mark.parametrize(
    ("name", "axis", "fold"),
    [
        ("C7", (0, 0, 1), 7),
        ("D7", (0, 0, 1), 7),
        ("D7", (1, 0, 0), 2),
        ("T", (1, 0, 0), 2),
        ("T", (0, 1, 0), 2),
        ("T", (0, 0, 1), 2),
        ("T", (1, 1, 1), 3),
        ("O", (1, 0, 0), 4),
        ("O", (0, 1, 0), 4),
        ("O", (0, 0, 1), 4),
        ("I", (1, 0, 0), 2),
        ("I", (0, 1, 0), 2),
        ("I", (0, 0, 1), 2),
        (OBLIQUE, (-0.6373, 0.7642, 0.0994), 7),
        (OBLIQUE, (-0.1260, 0.0239, -0.9917), 2),
    ],
)
def test_the_axes_are_where_the_docs_say(name, axis, fold):
    direction = np.array(axis, float) / np.linalg.norm(axis)
    turn = Rotation.from_rotvec(direction * 2 * np.pi / fold).as_matrix()
    # The 3j9i two-fold is given to four digits, and made normal to the seven-fold.
    assert angle_deg(symmetry(name).matrices, turn).min() < 0.15


def test_the_icosahedron_has_its_five_folds_in_the_planes_through_its_two_folds():
    vectors = Rotation.from_matrix(symmetry("I").matrices).as_rotvec(degrees=True)
    fifths = vectors[np.abs(np.linalg.norm(vectors, axis=1) - 72) < 1e-6]
    assert len(fifths) == 12
    assert np.abs(fifths).min(axis=1).max() < 1e-9


@pytest.mark.parametrize(
    "text", ["", "Q7", "D", "D0", "C-1", "D7@1,2", "D7@0,0,0", "D7@a,b,c", "C2@0,0,1@0,0,2", "D7@nan,0,1"]
)
def test_an_unknown_group_or_direction_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        symmetry(text)


# --- distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROUPS)
def test_scipys_groups_have_the_same_rotations_in_the_same_order(name):
    np.testing.assert_allclose(symmetry(name).matrices, Rotation.create_group(name).as_matrix(), atol=1e-12)


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


@pytest.mark.parametrize("name", [*GROUPS, OBLIQUE])
def test_the_symmetric_angle_does_not_change_with_the_copy_or_the_frame(name):
    group = symmetry(name)
    rng = np.random.default_rng(5)
    first, second, turn = (random_rotations(100, rng) for _ in range(3))
    pick = rng.integers(len(group), size=(2, 100))
    plain = symmetric_angle_deg(first, second, group)
    copies = symmetric_angle_deg(first @ group.matrices[pick[0]], second @ group.matrices[pick[1]], group)
    turned = symmetric_angle_deg(turn @ first, turn @ second, group)
    swapped = symmetric_angle_deg(second, first, group)
    brute = angle_deg(first[:, None] @ group.matrices, second[:, None]).min(axis=1)
    for other in (copies, turned, swapped, brute):
        np.testing.assert_allclose(other, plain, atol=1e-5)


def test_the_nearest_copy_is_a_copy_and_the_nearest():
    group = symmetry("D7")
    rng = np.random.default_rng(6)
    first, second = random_rotations(100, rng), random_rotations(100, rng)
    copy = nearest_copy(first, second, group)
    assert symmetric_angle_deg(copy, first, group).max() < 1e-5
    np.testing.assert_allclose(angle_deg(copy, second), symmetric_angle_deg(first, second, group), atol=1e-5)


def test_axes_of_a_dihedral_particle_have_no_sense_and_spin_does_not_count():
    start = random_rotations(20, np.random.default_rng(7))
    spun = start @ Rotation.from_euler("z", 17, degrees=True).as_matrix()
    flipped = start @ np.diag([1.0, -1.0, -1.0])
    tilted = start @ Rotation.from_euler("x", 25, degrees=True).as_matrix()
    for group in (symmetry("C7"), symmetry("D7")):
        np.testing.assert_allclose(axis_angle_deg(start, spun, group), 0, atol=1e-5)
        np.testing.assert_allclose(axis_angle_deg(start, tilted, group), 25, atol=1e-5)
    np.testing.assert_allclose(axis_angle_deg(start, flipped, symmetry("C7")), 180, atol=1e-5)
    np.testing.assert_allclose(axis_angle_deg(start, flipped, symmetry("D7")), 0, atol=1e-5)


def test_what_the_papers_code_calls_20_degrees_is_24_56():
    start = random_rotations(20, np.random.default_rng(8))
    turned = start @ Rotation.from_rotvec([0, 0, math.radians(PAPER_20_DEG)]).as_matrix()
    assert pytest.approx(24.56, abs=0.005) == PAPER_20_DEG
    np.testing.assert_allclose(paper_angle_deg(start, turned), 20, atol=1e-6)


# --- chance, means, grids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "angle"), [("C1", 20.0), ("C1", 90.0), ("C1", 132.0), ("C7", 20.0), ("D7", 12.0), ("I", 15.0)]
)
def test_chance_is_what_random_guesses_get(name, angle):
    group = symmetry(name)
    guesses = random_rotations(40_000, np.random.default_rng(9))
    expected = chance_within(angle, copies=len(group))
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


@pytest.mark.parametrize("name", ["C1", "C7", OBLIQUE, "O"])
def test_a_group_turned_has_the_turned_rotations_and_a_name_that_reads_back(name):
    group, turn = symmetry(name), random_rotations(1, np.random.default_rng(3))[0]
    turned = turned_symmetry(group, turn)
    for element in turn @ group.matrices @ turn.T:
        assert angle_deg(turned.matrices, element).min() < 0.02
    assert symmetry(turned.name).name == turned.name
    np.testing.assert_allclose(turned.main_axis, turn @ group.main_axis if len(group) > 1 else [0, 0, 1], atol=2e-4)
