"""Corrections are relative to each particle's own axes, whatever its pose, and say what a person stands behind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.corrections import (
    axis_rotation,
    confirmed,
    is_symmetry_operation,
    marked_corrected,
    parse_rotation,
    rotated,
    shifted,
    with_status,
)
from napari_orient.engine.particles import Particles
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.symmetry import symmetry

GOLDEN = np.array([[-0.380952, -0.523810, 0.761905], [0.190476, 0.761905, 0.619048], [-0.904762, 0.380952, -0.190476]])


def particles(count=5, seed=0):
    rng = np.random.default_rng(seed)
    return Particles(positions=rng.uniform(0, 500, (count, 3)), rotations=random_rotations(count, rng))


@given(st.sampled_from("xyz"), st.floats(-180, 180), st.integers(0, 20))
@settings(deadline=None)
def test_a_turn_leaves_its_own_axis_where_it_is_and_its_opposite_takes_it_back(axis, angle, seed):
    before = particles(seed=seed)
    after = rotated(before, [1, 3], axis_rotation(axis, angle))
    k = "xyz".index(axis)
    np.testing.assert_allclose(after.rotations[..., k], before.rotations[..., k], atol=1e-12)
    np.testing.assert_allclose(angle_deg(after.rotations, before.rotations)[[1, 3]], abs(angle), atol=1e-6)
    np.testing.assert_array_equal(after.rotations[[0, 2, 4]], before.rotations[[0, 2, 4]])
    back = rotated(after, [1, 3], axis_rotation(axis, -angle))
    np.testing.assert_allclose(back.rotations, before.rotations, atol=1e-12)


def test_ten_thousand_small_turns_leave_a_rotation():
    one = particles(1)
    for _ in range(10_000):
        one = rotated(one, [0], axis_rotation("y", 7.3))
    np.testing.assert_allclose(one.rotations[0] @ one.rotations[0].T, np.eye(3), atol=1e-14)


def test_a_right_handed_quarter_turn_about_own_z_brings_x_to_where_y_was():
    before = particles()
    after = rotated(before, slice(None), axis_rotation("z", 90))
    np.testing.assert_allclose(after.rotations[..., 0], before.rotations[..., 1], atol=1e-12)


def test_a_turn_is_read_as_relion_s_angles_or_as_a_matrix():
    np.testing.assert_allclose(parse_rotation("157.166346 100.980575, 140.906141"), GOLDEN, atol=1e-5)
    np.testing.assert_allclose(parse_rotation(" ".join(f"{x:.3f}" for x in GOLDEN.ravel())), GOLDEN, atol=2e-3)
    for text in ("157,166346 100,980575 140,906141", "157,166346; 100,980575; 140,906141"):
        np.testing.assert_allclose(parse_rotation(text), GOLDEN, atol=1e-5)
    np.testing.assert_allclose(parse_rotation("1,0,0 0,1,0 0,0,1"), np.eye(3))
    typed = parse_rotation("0 -1 0; 1 0 0; 0 0 1")
    np.testing.assert_allclose(typed, Rotation.from_euler("z", 90, degrees=True).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("text", ["", "ten", "1 2", "1 2 nan", "1 0 0 0 1 0 0 0 2", "-1 0 0 0 1 0 0 0 1"])
def test_what_is_no_turn_is_refused(text):
    with pytest.raises(InputError, match="no rotation"):
        parse_rotation(text)


def test_a_move_goes_along_the_tomogram_s_axes_or_each_particle_s_own():
    before = particles()
    np.testing.assert_allclose(shifted(before, [2], [1, 2, 3]).positions[2] - before.positions[2], [1, 2, 3])
    own = shifted(before, [0, 4], [0, 0, 10], frame="own")
    np.testing.assert_allclose((own.positions - before.positions)[[0, 4]], 10 * before.rotations[[0, 4], :, 2])
    np.testing.assert_array_equal(own.positions[1:4], before.positions[1:4])


def test_trusted_are_accepted_and_corrected_poses_but_no_rejected_ones():
    judged = with_status(particles(), [0, 1], "accepted")
    judged = with_status(judged, [1, 2], "rejected")
    judged = marked_corrected(judged, [2, 3], True)
    assert confirmed(judged).tolist() == [True, False, False, True, False]
    assert not confirmed(particles()).any()
    assert judged.extra["orientStatus"].tolist() == ["accepted", "rejected", "rejected", "", ""]


def test_a_step_of_the_symmetry_is_known_to_change_nothing_that_shows():
    group = symmetry("C7")
    assert is_symmetry_operation(axis_rotation("z", 360 / 7), group)
    assert is_symmetry_operation(axis_rotation("z", 2 * 360 / 7 + 0.3), group)
    assert not is_symmetry_operation(axis_rotation("z", 45), group)
    assert not is_symmetry_operation(axis_rotation("x", 180), group)
    assert not is_symmetry_operation(np.eye(3), group)
    assert is_symmetry_operation(axis_rotation("x", 180), symmetry("D7"))
