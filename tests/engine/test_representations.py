"""Laws of the ways to write a rotation, with SciPy and roma as independent oracles."""

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_orient.engine.representations import (
    EULER,
    PROCRUSTES,
    QUATERNION,
    REPRESENTATIONS,
    SIXD,
    matrix_to_quaternion,
    matrix_to_rotvec,
    quaternion_to_matrix,
    rotvec_to_matrix,
)
from napari_orient.engine.rotations import angle_deg, random_rotations

EVERY_REPRESENTATION = pytest.mark.parametrize("representation", REPRESENTATIONS.values(), ids=REPRESENTATIONS.keys())
EVERY_DTYPE = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
LARGEST = float(np.finfo(np.float32).max)
ANGLES = [0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 0.02, 0.3, 1.5, 3.0, np.pi - 1e-3, np.pi - 1e-6, np.pi - 1e-9, np.pi]


def raw_vectors(size: int):
    """Any finite numbers, and zeros, ties and pairs far apart in size among them."""
    return npst.arrays(np.float32, (4, size), elements=st.floats(-LARGEST, LARGEST, width=32))


def directions(count: int) -> np.ndarray:
    """Random unit vectors, the axes of the frame first, (count, 3)."""
    drawn = np.random.default_rng(20).normal(size=(count - 3, 3))
    return np.concatenate([np.eye(3), drawn / np.linalg.norm(drawn, axis=1, keepdims=True)])


def worst_improperness(matrices: np.ndarray) -> float:
    gram = np.swapaxes(matrices, -1, -2) @ matrices
    return max(float(np.abs(gram - np.eye(3)).max()), float(np.abs(np.linalg.det(matrices) - 1).max()))


def gradient_of(function, raw: torch.Tensor) -> torch.Tensor:
    raw = raw.detach().clone().requires_grad_()
    answer = function(raw)
    (answer * torch.arange(answer[0].numel(), dtype=raw.dtype).reshape(answer[0].shape)).sum().backward()
    return raw.grad


def hard_rotations() -> np.ndarray:
    """The identity, gimbal lock at both poles, half-turns about the axes and askew, and one hair away from each."""
    named = [Rotation.identity(), *(Rotation.from_rotvec(np.pi * np.eye(3)[axis]) for axis in range(3))]
    named.append(Rotation.from_rotvec(np.pi * np.array([0.6, 0.0, 0.8])))
    named += [Rotation.from_euler("ZYZ", [30.0, tilt, 40.0], degrees=True) for tilt in (0.001, 90, 179.999)]
    named += [item * Rotation.from_rotvec([1e-7, -2e-7, 1e-7]) for item in named[:5]]
    return np.stack([item.as_matrix() for item in named])


# --- rotation vectors -----------------------------------------------------------------------------------------------


@EVERY_DTYPE
@pytest.mark.parametrize("angle", [*ANGLES, 4.0, 2 * np.pi, 20.0])
def test_scipy_and_roma_agree_about_rotation_vectors_of_any_angle(angle, dtype, tolerance):
    vectors = torch.tensor(angle * directions(50), dtype=dtype)
    matrices = rotvec_to_matrix(vectors)
    assert matrices.dtype == dtype
    assert worst_improperness(matrices.double().numpy()) < 4 * tolerance
    # What single precision makes of a vector of 20 radians is off by as much as its rounding.
    within = tolerance * max(1, angle)
    oracle = Rotation.from_rotvec(vectors.double().numpy()).as_matrix()
    np.testing.assert_allclose(matrices.double().numpy(), oracle, atol=within)
    np.testing.assert_allclose(roma.rotvec_to_rotmat(vectors.double()).numpy(), oracle, atol=1e-12)


@EVERY_DTYPE
@pytest.mark.parametrize("angle", ANGLES)
def test_a_rotation_vector_comes_back_from_its_matrix(angle, dtype, tolerance):
    vectors = angle * directions(50)
    matrices = torch.tensor(Rotation.from_rotvec(vectors).as_matrix(), dtype=dtype)
    found = matrix_to_rotvec(matrices)
    assert found.dtype == dtype
    oracle = Rotation.from_matrix(matrices.double().numpy()).as_rotvec()
    # At a half-turn both directions are right.
    apart = np.abs(found.double().numpy()[:, None] - np.stack([oracle, -oracle], axis=1)).max(-1)
    assert (apart.min(1) if angle > 3.14 else apart[:, 0]).max() < 4 * tolerance
    back = rotvec_to_matrix(found).double().numpy()
    np.testing.assert_allclose(back, matrices.double().numpy(), atol=4 * tolerance)


def test_small_rotation_vectors_keep_their_digits_in_single_precision():
    vectors = torch.tensor(1e-5 * directions(50), dtype=torch.float32)
    found = matrix_to_rotvec(rotvec_to_matrix(vectors))
    np.testing.assert_allclose(found.numpy(), vectors.numpy(), atol=2e-11)


@pytest.mark.parametrize("function", [rotvec_to_matrix, lambda rotvec: matrix_to_rotvec(rotvec_to_matrix(rotvec))])
@pytest.mark.parametrize("angle", [0.0, 1e-4, 1e-3, 0.3, 1.5, 3.1])
def test_gradients_of_rotation_vectors_are_those_of_differences(function, angle):
    vectors = torch.tensor(angle * directions(6), requires_grad=True)
    assert torch.autograd.gradcheck(function, (vectors,), eps=1e-5, atol=1e-6)


@EVERY_DTYPE
@pytest.mark.parametrize("angle", ANGLES)
def test_gradients_of_rotation_vectors_are_finite_and_near_a_zero_those_of_the_limit(angle, dtype, tolerance):
    vectors = torch.tensor(angle * directions(50), dtype=dtype)
    assert torch.isfinite(gradient_of(lambda item: matrix_to_rotvec(rotvec_to_matrix(item)), vectors)).all()
    gradient = gradient_of(rotvec_to_matrix, vectors)
    assert torch.isfinite(gradient).all()
    if angle < 1e-6:
        # d of sum(i * R) with R = 1 + K: (7 - 5, 2 - 6, 3 - 1).
        np.testing.assert_allclose(gradient, np.tile([2.0, -4.0, 2.0], (50, 1)), atol=20 * max(tolerance, angle))


# --- quaternions and Euler angles -------------------------------------------------------------------------------------


@EVERY_DTYPE
def test_scipy_and_roma_agree_about_quaternions(dtype, tolerance):
    matrices = np.concatenate([random_rotations(500, np.random.default_rng(2)), hard_rotations()])
    found = matrix_to_quaternion(torch.tensor(matrices, dtype=dtype))
    assert found.dtype == dtype
    assert (found[:, 3] >= 0).all()
    np.testing.assert_allclose(found.norm(dim=1), 1, atol=tolerance)
    for oracle in (Rotation.from_matrix(matrices).as_quat(), roma.rotmat_to_unitquat(torch.tensor(matrices)).numpy()):
        alike = np.abs((found.double().numpy() * oracle).sum(1))
        np.testing.assert_allclose(alike, 1, atol=2 * tolerance)
    back = quaternion_to_matrix(3 * found)
    assert back.dtype == dtype
    np.testing.assert_allclose(back.double().numpy(), matrices, atol=3 * tolerance)


@EVERY_DTYPE
def test_scipy_agrees_about_euler_angles_gimbal_lock_included(dtype, tolerance):
    matrices = np.concatenate([random_rotations(500, np.random.default_rng(2)), hard_rotations()])
    angles = EULER.from_matrix(torch.tensor(matrices, dtype=dtype)).double().numpy() * [180, 90, 180] + [0, 90, 0]
    found = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(found, matrices, atol=4 * tolerance)
    raw = torch.tensor(np.random.default_rng(3).uniform(-1, 1, (500, 3)), dtype=dtype)
    oracle = roma.euler_to_rotmat("ZYZ", (raw.double() + torch.tensor([0, 1, 0])) * torch.tensor([180, 90, 180]), True)
    np.testing.assert_allclose(EULER.to_matrix(raw).double().numpy(), oracle.numpy(), atol=4 * tolerance)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_in_gimbal_lock_the_third_euler_angle_is_0(tilt):
    matrices = torch.tensor(Rotation.from_euler("ZYZ", [[50.0, tilt, 0.0]], degrees=True).as_matrix().round(15))
    raw = EULER.from_matrix(matrices)
    assert float(raw[0, 2]) == pytest.approx(0, abs=1e-12)
    assert float(raw[0, 0]) == pytest.approx(50 / 180, abs=1e-12)


# --- every representation ---------------------------------------------------------------------------------------------


@EVERY_REPRESENTATION
def test_every_rotation_survives_a_representation(representation):
    matrices = np.concatenate([random_rotations(5000, np.random.default_rng(0)), hard_rotations()])
    raw = representation.from_matrix(torch.tensor(matrices))
    assert raw.shape == (len(matrices), representation.size)
    assert float(raw.abs().max()) <= 1 + 1e-9
    assert angle_deg(representation.to_matrix(raw).numpy(), matrices).max() < 1e-7


@EVERY_REPRESENTATION
def test_leading_axes_and_dtypes_are_kept(representation):
    matrices = torch.tensor(random_rotations(6, np.random.default_rng(0)).reshape(2, 3, 3, 3), dtype=torch.float32)
    raw = representation.from_matrix(matrices)
    back = representation.to_matrix(raw)
    assert (raw.shape, raw.dtype) == ((2, 3, representation.size), torch.float32)
    assert (back.shape, back.dtype) == ((2, 3, 3, 3), torch.float32)
    np.testing.assert_allclose(back, matrices, atol=4e-6)
    one = representation.to_matrix(raw[0, 1])
    np.testing.assert_allclose(one, back[0, 1], atol=1e-6)
    assert representation.to_matrix(raw[:0]).shape == (0, 3, 3, 3)


@pytest.mark.parametrize("second", REPRESENTATIONS.values(), ids=REPRESENTATIONS.keys())
@EVERY_REPRESENTATION
def test_a_rotation_survives_every_pair_of_representations(representation, second):
    matrices = torch.tensor(random_rotations(500, np.random.default_rng(1)))
    there = representation.to_matrix(representation.from_matrix(matrices))
    back = second.to_matrix(second.from_matrix(there))
    assert angle_deg(back.numpy(), matrices.numpy()).max() < 1e-7


@EVERY_REPRESENTATION
@EVERY_DTYPE
@settings(max_examples=60, deadline=None)
@given(drawn=st.data())
def test_any_finite_raw_vector_gives_a_proper_rotation_with_a_finite_gradient(representation, dtype, tolerance, drawn):
    raw = torch.tensor(drawn.draw(raw_vectors(representation.size)), dtype=dtype)
    assert worst_improperness(representation.to_matrix(raw).double().numpy()) < 5 * tolerance
    assert torch.isfinite(gradient_of(representation.to_matrix, raw)).all()


@EVERY_REPRESENTATION
@EVERY_DTYPE
def test_gradients_stay_finite_at_gimbal_lock_at_half_turns_and_at_zero(representation, dtype, tolerance):
    matrices = torch.tensor(hard_rotations(), dtype=dtype)
    hard = representation.from_matrix(matrices)
    dead = torch.zeros(1, representation.size, dtype=dtype)
    parallel = torch.ones(1, representation.size, dtype=dtype)
    raw = torch.cat([hard, dead, parallel])
    assert worst_improperness(representation.to_matrix(raw).double().numpy()) < 5 * tolerance
    assert torch.isfinite(gradient_of(representation.to_matrix, raw)).all()
    assert torch.isfinite(gradient_of(representation.from_matrix, matrices)).all()


@EVERY_REPRESENTATION
def test_gradients_are_those_of_differences(representation):
    raw = torch.tensor(np.random.default_rng(4).uniform(-1, 1, (20, representation.size)), requires_grad=True)
    # The damping of the SVD's gradient takes a millionth of it where the sums of singular values are near 1.
    assert torch.autograd.gradcheck(representation.to_matrix, (raw,), atol=3e-5, rtol=1e-3)


def test_roma_agrees_about_columns_and_the_nearest_rotation_and_its_gradient():
    raw = torch.tensor(np.random.default_rng(5).uniform(-1, 1, (200, 9)))
    columns = raw[:, :6].unflatten(1, (2, 3)).transpose(1, 2)
    np.testing.assert_allclose(SIXD.to_matrix(raw[:, :6]), roma.special_gramschmidt(columns), atol=1e-11)

    def oracle(item):
        return roma.special_procrustes(item.unflatten(-1, (3, 3)), gradient_eps=1e-3, method="svd")

    np.testing.assert_allclose(PROCRUSTES.to_matrix(raw), oracle(raw), atol=1e-12)
    np.testing.assert_allclose(gradient_of(PROCRUSTES.to_matrix, raw), gradient_of(oracle, raw), atol=1e-9)


def test_columns_and_quaternions_are_where_the_docs_say():
    turned = Rotation.random(200, rng=np.random.default_rng(2))
    matrices = torch.tensor(turned.as_matrix())
    np.testing.assert_array_equal(SIXD.from_matrix(matrices)[:, 3:], matrices[:, :, 1])
    np.testing.assert_allclose(QUATERNION.from_matrix(matrices), turned.as_quat(canonical=True), atol=1e-12)
