"""Noise level and overdispersion of single particles: what surrounds one, what one lacks, and the errors of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from phantom import VOXEL_SIZE, Molecule, molecule, tomogram
from whitened import SIDE, observed, shown

from napari_orient.engine.io.columns import ERROR_IF_RIGHT
from napari_orient.engine.matching.fit import Fit, fit_poses
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.overdispersion import Overdispersion, noise_level, template_parts
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

COUNT = 40


def half(whole: Molecule) -> Molecule:
    """The blobs of a molecule on one side of a plane."""
    beyond = whole.places @ np.linalg.svd(whole.places)[2][0] > 0
    return Molecule(whole.places[beyond], whole.weights[beyond])


def fitted(shape: Molecule, *, noise: float) -> tuple[Reference, ForwardModel, torch.Tensor, Fit]:
    """The whole molecule's fits to particles of a shape, in noise of a standard deviation where 1 is expected."""
    reference, model = shown(molecule(), noise=1.5)
    true = roma.random_rotmat(COUNT, generator=torch.Generator().manual_seed(1))
    other = build_reference(shape.density(SIDE).astype("float32"), VOXEL_SIZE, resolution=reference.resolution)
    seen = observed(other, model, true, noise=noise, seed=2)
    fit = fit_poses(reference, model, seen, rotations=true, shifts=torch.zeros(COUNT, 3), steps=6)
    return reference, model, seen, fit


def overdispersed(shape: Molecule, *, noise: float) -> torch.Tensor:
    reference, model, seen, fit = fitted(shape, noise=noise)
    template = Template(molecule().density(SIDE).astype("float32"), VOXEL_SIZE, "molecule")
    parts = template_parts(template, reference, resolution=reference.resolution)
    return Overdispersion(parts, model, likelihood_scale=1.0, prior_dof=0.0).of(seen, fit)


def test_the_parts_add_up_to_the_template() -> None:
    template = Template(molecule().density(SIDE).astype("float32"), VOXEL_SIZE, "molecule")
    reference = build_reference(template.density, VOXEL_SIZE, resolution=24.0)
    parts = template_parts(template, reference, resolution=24.0)
    assert len(parts) == 8
    rotations = roma.random_rotmat(2, generator=torch.Generator().manual_seed(1))
    frequency, weight = torch.rand(50, 3) / 50, torch.ones(50)
    found = torch.empty(2, 50, 2, 32)
    parts.rotated(frequency, rotations, weight=weight, out=found)
    whole = reference.rotated(frequency, rotations, weight=weight)
    added = found.unflatten(-1, (4, 8)).sum(-1).permute(0, 3, 2, 1)
    torch.testing.assert_close(added, whole, atol=1e-3 * float(whole.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("noise", [0.6, 1.0])
def test_residuals_of_noise_alone_are_as_large_as_the_noise(noise: float) -> None:
    assert float(overdispersed(molecule(), noise=noise).mean()) == pytest.approx(noise**2, rel=0.1)
    _, model, _, fit = fitted(molecule(), noise=noise)
    assert float(noise_level(fit, model).mean()) * model.window_power == pytest.approx(noise**2, rel=0.1)


def test_a_particle_without_a_half_is_overdispersed_but_its_noise_is_hardly_stronger() -> None:
    whole, part = (float(overdispersed(shape, noise=1.0).mean()) for shape in (molecule(), half(molecule())))
    assert part > 2 * whole
    levels = []
    for shape in (molecule(), half(molecule())):
        _, model, _, fit = fitted(shape, noise=1.0)
        levels.append(float(noise_level(fit, model).mean()))
    assert levels[1] < 1.5 * levels[0]


def test_overdispersion_is_shrunk_to_the_mean_where_particles_do_not_differ() -> None:
    reference, model, seen, fit = fitted(molecule(), noise=1.0)
    template = Template(molecule().density(SIDE).astype("float32"), VOXEL_SIZE, "molecule")
    parts = template_parts(template, reference, resolution=reference.resolution)
    shrunk = Overdispersion.estimate(parts, model, seen, fit, likelihood_scale=1.0).of(seen, fit)
    assert float(shrunk.std()) < 0.7 * float(overdispersed(molecule(), noise=1.0).std())


def test_particles_in_stronger_noise_expect_and_have_larger_errors() -> None:
    volume, picks, _ = tomogram(molecule(), noise=0.8, count=(2, 6, 4))
    density = np.array(volume.density)
    middle = density.shape[1] // 2
    density[:, middle:] += tomogram(molecule(), noise=40.0, count=(2, 6, 4), seed=9)[0].density[:, middle:] / 20
    noisy = picks.positions[:, 1] > middle * VOXEL_SIZE
    options = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, device="cpu")
    template = Template(molecule().density(24), VOXEL_SIZE)
    found = run(refine(replace(volume, density=density), picks.replace(rotations=None), template, options)).particles
    error = angle_deg(found.required_rotations(), picks.required_rotations())
    expected = found.extra[ERROR_IF_RIGHT]
    for rows in (noisy, ~noisy):
        assert 0.7 < np.sqrt(np.mean(expected[rows] ** 2) / np.mean(error[rows] ** 2)) < 1.45
    assert np.median(expected[noisy]) > 1.4 * np.median(expected[~noisy])
