"""Particles that reach beyond the tomogram: fitted to what is inside, with the errors that this leaves."""

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram
from streams import followed

from napari_orient.engine.model.forward import build_forward_model
from napari_orient.engine.model.missing import MissingVoxels
from napari_orient.engine.model.wedge import NO_WEDGE
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


@pytest.mark.parametrize("precision", ["precise", "fast"])
def test_particles_at_the_border_are_fitted_to_what_is_inside_and_expect_what_that_leaves(precision: str) -> None:
    volume, truth, _ = tomogram(molecule(), noise=1.0, off=10.0)
    cut = Tomogram(np.asarray(volume.density)[:, :, CUT:], VOXEL_SIZE, "phantom")
    picks = truth.positions - [CUT * VOXEL_SIZE, 0, 0]
    stream = refine(
        cut,
        Particles(positions=picks.clip(min=0), tomogram="phantom"),
        Template(molecule().density(24), VOXEL_SIZE),
        OPTIONS.replace(precision=precision),
    )
    _, refined = followed(stream)
    missing = truncated_share(truth.positions - [CUT * VOXEL_SIZE, 0, 0], cut.extent, refined.finder.reference.radius)
    expected = np.asarray(refined.particles.expected_error_deg)
    error = angle_deg(refined.particles.required_rotations(), truth.required_rotations())
    lost, whole = missing > 0.25, missing < 0.01
    # Taken for empty, what lies beyond the face moves these by 8 and 13 degrees.
    assert error[lost].max() < 4
    assert (np.asarray(refined.particles.confidence)[lost] > 0.9).all()
    assert np.median(expected[lost]) > 1.3 * np.median(expected[whole])
    assert (error < 3 * expected).all()
    assert expected[whole].max() < 5


def test_what_a_face_hides_of_a_whitened_image_is_taken_out_and_nothing_else() -> None:
    model = build_forward_model(torch.ones(24, 24, 24), NO_WEDGE, voxel_size=10.0, resolution=25.0, radius=60.0)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, len(model.indices), 2, generator=generator)
    cubes = model.rendered(torch.view_as_complex(image))
    torch.testing.assert_close(model.transformed(cubes), image, atol=1e-4, rtol=1e-4)
    bounds = torch.tensor([[[-20, -20, -20], [20, 20, 20]], [[-20, -20, -20], [3, 20, 20]]])
    missing = MissingVoxels.of(model, bounds, torch.zeros(2, 3, dtype=torch.long))
    left = missing.removed(model, image.movedim(-1, 1)[:, None])[:, 0].movedim(1, -1)
    torch.testing.assert_close(left[0], image[0])
    inside = cubes[1] - model.window * cubes[1] * (torch.arange(24) - 12 > 3)
    torch.testing.assert_close(left[1], model.transformed(inside[None])[0], atol=1e-4, rtol=1e-4)
    assert missing.share[0] == 0
    assert 0.1 < missing.share[1] < 0.4
