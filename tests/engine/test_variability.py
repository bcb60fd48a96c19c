"""Variability: particles that are not all alike are noticed, told apart, and expect the error that it costs them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from phantom import VOXEL_SIZE, Molecule, molecule, tomogram
from whitened import shown

from napari_orient.engine.io.columns import ERROR_IF_RIGHT, VARIABILITY
from napari_orient.engine.model.gridding import Coefficients, ComponentGrid
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.refine import RefinementResult, refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.statistics.coordinate_groups import two_groups
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

COUNT = (2, 6, 4)


def bent(whole: Molecule, *, degrees: float) -> Molecule:
    """The molecule, the outermost third of its blobs rotated about where they join the rest."""
    along = np.linalg.svd(whole.places - whole.places.mean(0))[2]
    height = whole.places @ along[0]
    beyond = height > np.quantile(height, 2 / 3)
    hinge = whole.places[beyond][np.argmin(height[beyond])]
    angle = np.radians(degrees)
    rotation = roma.rotvec_to_rotmat(torch.as_tensor(angle * along[1])).numpy()
    places = np.where(beyond[:, None], hinge + (whole.places - hinge) @ rotation.T, whole.places)
    return Molecule(places, whole.weights)


def refined(other: Molecule) -> tuple[RefinementResult, np.ndarray, np.ndarray]:
    """Particles against a molecule's map, half of which are another; which these are, and the error of each."""
    volume, picks, _ = tomogram(molecule(), noise=0.8, count=COUNT)
    density = np.array(volume.density)
    middle = density.shape[1] // 2
    density[:, middle:] = tomogram(other, noise=0.8, count=COUNT)[0].density[:, middle:]
    options = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, device="cpu")
    template = Template(molecule().density(24), VOXEL_SIZE)
    found = run(refine(replace(volume, density=density), picks.replace(rotations=None), template, options))
    error = angle_deg(found.particles.required_rotations(), picks.required_rotations())
    return found, picks.positions[:, 1] > middle * VOXEL_SIZE, error


def notes(found: RefinementResult) -> list[str]:
    return [note.text for note in found.warnings if "not all alike" in note.text]


def test_particles_of_one_kind_have_no_variability() -> None:
    found, _, _ = refined(molecule())
    assert VARIABILITY not in found.particles.extra
    assert not notes(found)


def test_half_of_the_particles_bent_are_told_from_the_others_and_expect_larger_errors() -> None:
    found, other, error = refined(bent(molecule(), degrees=50.0))
    coordinate = found.particles.extra[VARIABILITY]
    limit = float(notes(found)[0].rpartition("below ")[2].split()[0])
    assert np.mean((coordinate > limit) == other) > 0.95
    assert abs(np.median(coordinate[~other])) < 0.1
    expected = found.particles.extra[ERROR_IF_RIGHT]
    assert np.median(expected[other]) > 2 * np.median(expected[~other])
    # This bend is one that the pose absorbs more of than most.
    assert 0.45 < np.sqrt(np.mean(expected[other] ** 2) / np.mean(error[other] ** 2)) < 1.7


def test_projection_and_back_projection_are_adjoint() -> None:
    generator = torch.Generator().manual_seed(1)
    reference, model = shown(molecule(), noise=1.0)
    grid = ComponentGrid.for_reference(reference, model)
    rotations, amplitude = roma.random_rotmat(2, generator=generator), torch.tensor([0.5, 2.0])
    values = torch.randn(2, len(model.frequency), dtype=torch.complex64, generator=generator)
    part = Coefficients(values, model.whitened_gain.square(), model.frequency, rotations)
    products, _ = grid.back_projected(part, amplitude)
    # Transforms of real volumes, as Friedel's symmetry has them.
    any_transform = torch.randn(products.shape[1], dtype=torch.complex64, generator=generator)
    component = any_transform + any_transform.flip(0).conj()
    images = grid.projected(component, model.frequency, rotations) * amplitude[:, None]
    forward = (part.weight * (images.conj() * values).real).sum(1)
    torch.testing.assert_close((component.conj() * products).real.sum(1) / 2, forward, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_two_groups_are_found_where_there_are_two(share: float) -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(scale=0.05, size=60)
    assert two_groups(noise) is None
    different = np.arange(60) < 60 * share
    found = two_groups(noise + 0.4 * different)
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx((0.0, 0.4), abs=0.05)
    assert (found.above(noise + 0.4 * different) == different).mean() > 0.95
