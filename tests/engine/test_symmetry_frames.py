"""RELION's frames of point groups, and lists with a row for each symmetric copy."""

import numpy as np
import pytest
from phantom import molecule, tomogram

from napari_orient.engine.averaging import average_in_relion_frame
from napari_orient.engine.frames import COPY_COLUMN, expanded, in_frame, relion_frame, relion_symmetry
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.parameters import AveragingOptions
from napari_orient.engine.particles import Particles
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

AXES = "@1,2,3@-2,1,0.1"
# Printed by relion_refine --sym GROUP --print_symmetry_ops, version 3.1.3: rotations that determine the group.
PRINTED = {
    "T": [
        [[-0.5, 0.86602539, 0], [-0.86602539, -0.5, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, 0.33333, 0.94281], [0, 0.94281, -0.33333]],
    ],
    "O": [[[0, 1, 0], [-1, 0, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]],
    "D2": [[[-1, 0, 0], [0, -1, 0], [0, 0, 1]], [[1, 0, 0], [0, -1, 0], [0, 0, -1]]],
    "C3": [[[-0.5, 0.86602539, 0], [-0.86602539, -0.5, 0], [0, 0, 1]]],
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_group_about_any_axes_becomes_relions(name):
    found = relion_symmetry(symmetry(name + AXES)).matrices
    for printed in np.array(PRINTED[name], float):
        assert np.abs(found - printed).max(axis=(1, 2)).min() < 1e-4


def test_relions_icosahedron_has_a_five_fold_axis_between_x_and_z():
    found = relion_symmetry(symmetry("I" + AXES)).matrices
    five_fold = np.array([0.525731, 0, 0.850651])
    keep = np.abs(found @ five_fold - five_fold).max(axis=1) < 1e-4
    assert keep.sum() == 5


def test_poses_in_relions_frame_are_the_same_poses_modulo_the_group():
    """A symmetric map and its poses turned together put the same density into the tomogram."""
    group = symmetry("D3" + AXES)
    particles = Particles(positions=np.zeros((50, 3)), rotations=random_rotations(50, np.random.default_rng(0)))
    frame = relion_frame(group)
    moved = in_frame(particles, frame, np.zeros(3))
    back = moved.required_rotations() @ frame.T
    assert angle_deg(back, particles.required_rotations()).max() < 1e-4
    # Rotated by an element of RELION's group it is one of ours.
    copies = moved.required_rotations() @ relion_symmetry(group).matrices[-1] @ frame.T
    assert symmetric_angle_deg(copies, particles.required_rotations(), group).max() < 1e-4


def test_an_expanded_list_has_every_copy_once_and_the_pose_itself_first():
    group = symmetry("D3" + AXES)
    rotations = random_rotations(4, np.random.default_rng(0))
    particles = Particles(positions=np.arange(12.0).reshape(4, 3), rotations=rotations).replace(
        extra={"rlnImageName": np.array(["a", "b", "c", "d"])}
    )
    every = expanded(particles, group)
    assert len(every) == 4 * 6
    assert list(every.extra["rlnImageName"][:7]) == ["a"] * 6 + ["b"]
    assert list(every.extra[COPY_COLUMN][:7]) == [*"123456", "1"]
    np.testing.assert_allclose(every.required_rotations()[::6], rotations)
    np.testing.assert_allclose(every.positions[:6], np.tile(particles.positions[0], (6, 1)))
    copies = every.required_rotations()[:6]
    assert symmetric_angle_deg(copies, np.broadcast_to(rotations[0], copies.shape), group).max() < 1e-4
    apart = angle_deg(copies[:, None], copies[None])
    assert apart[~np.eye(6, dtype=bool)].min() > 50


def test_an_average_in_relions_frame_has_its_axes_on_z_and_through_the_centre():
    """Its poses give the same map again, with the plain name of the group."""
    group = symmetry("C4@1,2,2")
    volume, picks, _ = tomogram(molecule(group=group), noise=0.3, count=(1, 4, 4))
    options = AveragingOptions(side=24, radius=75.0)
    found, moved = run(average_in_relion_frame([(volume, picks)], group=group, options=options))
    assert found.group.name == "C4"
    density = molecule(group=symmetry("C4@1,2,2")).density(24)
    quarter = np.rot90(found.density, axes=(1, 2))
    assert np.corrcoef(quarter.ravel(), found.density.ravel())[0, 1] > 0.97
    assert np.abs(symmetry_centre(found.density, found.voxel_size, found.group)[:2]).max() < 1.0
    turned = moved[0][1].required_rotations() @ relion_frame(group).T
    assert angle_deg(turned, picks.required_rotations()).max() < 1e-4
    assert np.corrcoef(np.rot90(density, axes=(1, 2)).ravel(), density.ravel())[0, 1] < 0.9
