"""Lists of tomograms that were mirrored or turned: positions and poses together."""

import numpy as np
import pytest
from foreign_lists import POSITIONS, ROTATIONS, SIZE, VOXEL, VOXELS
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_orient.engine.errors import InputError
from napari_orient.engine.frames import MIRRORS, mirrored, rotated_about_x
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.rotations import random_rotations

EXTENT = Extent(SIZE, VOXEL)


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(MIRRORS)))
@settings(max_examples=50, deadline=None)
def test_a_mirrored_list_describes_the_mirrored_volume_with_the_mirrored_map(seed, name):
    rng = np.random.default_rng(seed)
    mirror = MIRRORS[name]
    particles = Particles(
        positions=rng.uniform(0, 300, (3, 3)), rotations=random_rotations(3, rng), tomogram="t", extents={"t": EXTENT}
    )
    moved = mirrored(particles, name)
    # A point of the map, and where the mirrored tomogram has it: reversed arrays mirror about (size - 1) / 2 voxels.
    point = rng.normal(size=3)
    placed = particles.positions + particles.rotations @ point
    centre = (np.array(SIZE) - 1) / 2 * VOXEL
    expected = (placed - centre) @ mirror.T + np.abs(mirror) @ centre
    np.testing.assert_allclose(moved.positions + moved.rotations @ (mirror @ point), expected, atol=1e-9)
    assert "the hand has changed" in moved.notes[0]
    back = mirrored(moved, name)
    np.testing.assert_allclose(back.positions, particles.positions, atol=1e-9)
    np.testing.assert_allclose(back.rotations, particles.rotations, atol=1e-12)


def test_a_volume_reversed_along_z_has_its_particles_where_the_mirrored_list_says(tmp_path):
    density = np.zeros(SIZE[::-1], np.float32)
    x, y, z = VOXELS[0].astype(int)
    density[z, y, x] = 1
    particles = Particles(positions=POSITIONS[:1], rotations=ROTATIONS[:1], tomogram="t", extents={"t": EXTENT})
    for name, reversed_density in (
        ("x", density[:, :, ::-1]),
        ("y", density[:, ::-1]),
        ("z", density[::-1]),
        ("point", density[::-1, ::-1, ::-1]),
        ("yz", density.swapaxes(0, 1)),
    ):
        moved = mirrored(particles, name)
        assert reversed_density[tuple((moved.positions[0] / VOXEL).round().astype(int)[::-1])] == 1
        assert moved.extents["t"].size == reversed_density.shape[::-1]


def test_rotating_about_x_keeps_the_hand_and_turns_back(tmp_path):
    particles = Particles(positions=POSITIONS, rotations=ROTATIONS, tomogram="t", extents={"t": EXTENT})
    moved = rotated_about_x(particles, "-90")
    density = np.zeros(SIZE[::-1], np.float32)
    x, y, z = VOXELS[0].astype(int)
    density[z, y, x] = 1
    # IMOD's trimvol -rx: new y is old z, new z is old y from its end.
    turned = density.swapaxes(0, 1)[::-1]
    assert turned[tuple((moved.positions[0] / VOXEL).round().astype(int)[::-1])] == 1
    back = rotated_about_x(moved, "90")
    np.testing.assert_allclose(back.positions, POSITIONS, atol=1e-9)
    np.testing.assert_allclose(back.rotations, ROTATIONS, atol=1e-12)
    with pytest.raises(InputError, match="size of tomogram t is unknown"):
        mirrored(particles.replace(extents={}), "z")


def test_columns_of_the_pose_that_was_not_mirrored_go_with_it_and_are_named():
    columns = {name: np.array(["90", "80"]) for name in ("rlnAngleTiltPrior", "rlnMaxValueProbDistribution", "mine")}
    particles = Particles(positions=POSITIONS, rotations=ROTATIONS, tomogram="t", extents={"t": EXTENT}, extra=columns)
    moved = mirrored(particles, "z")
    assert set(moved.extra) == {"mine"}
    assert any("rlnAngleTiltPrior, rlnMaxValueProbDistribution" in note for note in moved.notes)
