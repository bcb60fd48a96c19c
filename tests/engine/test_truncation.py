"""Particles that stick out of the tomogram: what is unseen of them is counted, and admitted."""

import numpy as np
from phantom import VOXEL_SIZE, molecule, tomogram
from streams import followed

from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.refinement.uncertainty import truncated_share
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.templates import Template

CUT = 10
"""Voxels taken off the tomogram's side, so that eight particles stand none to four voxels within it."""
OPTIONS = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, precision="precise", device="cpu")


def test_half_of_a_ball_on_a_face_is_unseen_and_none_of_one_well_inside() -> None:
    extent = Extent((40, 50, 60), 10.0)
    places = np.array([[-5.0, 200, 300], [200, 495, 300], [200, 200, 300], [200, 200, 595 - 35]])
    np.testing.assert_allclose(truncated_share(places, extent, 70.0), [0.5, 0.5, 0, 0.25 * 2.5 / 4], atol=1e-9)


def test_particles_at_the_border_admit_what_is_not_seen_of_them() -> None:
    volume, truth, _ = tomogram(molecule(), noise=1.0, off=10.0)
    cut = Tomogram(np.asarray(volume.density)[:, :, CUT:], VOXEL_SIZE, "phantom")
    picks = truth.positions - [CUT * VOXEL_SIZE, 0, 0]
    stream = refine(
        cut,
        Particles(positions=picks.clip(min=0), tomogram="phantom"),
        Template(molecule().density(24), VOXEL_SIZE),
        OPTIONS,
    )
    steps, refined = followed(stream)
    unseen = truncated_share(refined.particles.positions, cut.extent, refined.finder.reference.radius)
    expected = refined.particles.expected_error_deg
    error = angle_deg(refined.particles.required_rotations(), truth.required_rotations())
    lost, whole = unseen > 0.25, unseen < 0.01
    assert error[lost].min() > 3 * np.median(error[whole])
    assert refined.particles.confidence[lost].max() < 0.05
    assert expected[lost].min() > 90
    assert str(steps[-1].notes[0]).startswith(f"Warning: {lost.sum()} particle")
    assert "more than a quarter outside the tomogram" in steps[-1].notes[0].text
    assert expected[whole].max() < 5
    partly = ~lost & ~whole
    assert partly.any()
    assert (error[partly] < 3 * expected[partly]).all()
