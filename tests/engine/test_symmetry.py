"""Symmetry groups: their rotations, axes and written form, and distances modulo them, with SciPy as an oracle."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.symmetry import axis_angle_deg, nearest_copy, symmetric_angle_deg, symmetry

GROUPS = {"C1": 1, "C2": 2, "C7": 7, "D2": 4, "D7": 14, "T": 12, "O": 24, "I": 60}
EVERY_GROUP = pytest.mark.parametrize("name", GROUPS)
OBLIQUE = "D7@-0.6373,0.7642,0.0994@-0.1260,0.0239,-0.9917"


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


@pytest.mark.parametrize("name", GROUPS)
def test_scipys_groups_have_the_same_rotations_in_the_same_order(name):
    np.testing.assert_allclose(symmetry(name).matrices, Rotation.create_group(name).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("name", ["C1", "C7", OBLIQUE, "O"])
def test_a_group_in_a_rotated_frame_has_rotated_matrices_and_a_written_form_that_reads_back(name):
    group, rotation = symmetry(name), random_rotations(1, np.random.default_rng(3))[0]
    rotated = group.rotated(rotation)
    for element in rotation @ group.matrices @ rotation.T:
        assert angle_deg(rotated.matrices, element).min() < 0.02
    assert symmetry(rotated.name).name == rotated.name
    np.testing.assert_allclose(
        rotated.main_axis, rotation @ group.main_axis if len(group) > 1 else [0, 0, 1], atol=2e-4
    )


def test_the_point_group_is_the_written_form_without_directions():
    group = symmetry(OBLIQUE)
    assert (group.point_group, symmetry("O").point_group) == ("D7", "O")
    np.testing.assert_array_equal(group.aligned().matrices, symmetry("D7").matrices)


# --- distances -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["C1", "C4", "D7", "C7@-0.64,0.76,0.10", "D7@-0.64,0.76,0.10@-0.13,0.02,-0.99", "O"])
def test_the_mirrored_group_is_that_of_the_mirror_image(name):
    group, flip = symmetry(name), np.diag([-1.0, 1.0, 1.0])
    expected = flip @ group.matrices @ flip
    apart = np.abs(group.mirrored().matrices[:, None] - expected[None]).max(axis=(2, 3))
    assert (apart.min(axis=1) < 1e-3).all()
    assert (apart.min(axis=0) < 1e-3).all()
