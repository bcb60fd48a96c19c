"""The prior on rotations: its derivatives, its limits, and what it is worth where noise hides the particles."""

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram
from streams import followed

from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.rotation_prior import CUTOFF, RotationPrior
from napari_orient.engine.parameters import PredictionOptions, PriorOptions, RefinementOptions
from napari_orient.engine.particles import Particles
from napari_orient.engine.prediction.predict import predict
from napari_orient.engine.refinement.list_prior import axis_along, random_rotvecs, with_prior_rotations
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import angle_deg, even_rotations, matrix_to_zyz, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template

QUICK = {"max_shift": 20.0, "rotations": 1500, "search_resolution": 36.0, "device": "cpu"}


def rotations(count, seed):
    return torch.as_tensor(random_rotations(count, np.random.default_rng(seed)), dtype=torch.float64)


def made(count=6, *, group="C1", axis="z", seed=0, **limits):
    found = symmetry(group)
    along, copies = torch.as_tensor(axis_along(axis, found)), torch.as_tensor(found.matrices)
    return RotationPrior(rotations(count, seed), along, copies, **limits)


PRIORS = [
    made(axis_sd=0.2),
    made(axis_sd=0.3, axis="0.6,0,0.8", either_way=True),
    made(search_range=0.3),
    made(axis_sd=0.2, search_range=0.5, group="D7@1,2,-1@1,0,1", axis="main"),
]


@pytest.mark.parametrize("prior", PRIORS)
def test_gradient_and_information_are_the_derivatives_of_the_log_density(prior):
    start = rotations(len(prior), 1)
    terms, step = prior.terms(start), 1e-4
    for axis in torch.eye(3, dtype=torch.float64):
        ahead, behind = (prior.terms(start @ rotvec_to_matrix(sign * step * axis)[None]) for sign in (1, -1))
        slope = (ahead[:, 0, 0] - behind[:, 0, 0]) / (2 * step)
        torch.testing.assert_close(terms[:, 0, 1:] @ axis, slope, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(terms, terms.mT)
    assert torch.linalg.eigvalsh(terms[:, 1:, 1:]).min() > -1e-9


@pytest.mark.parametrize("prior", PRIORS)
def test_symmetric_copies_of_a_pose_have_the_same_density(prior):
    start = rotations(len(prior), 2)
    for copy in prior.copies:
        torch.testing.assert_close(prior.terms(start @ copy)[:, 0, 0], prior.terms(start)[:, 0, 0])


@pytest.mark.parametrize("prior", PRIORS)
def test_no_rotation_beyond_the_cutoff_is_searched_and_one_at_least_always_is(prior):
    grid = torch.as_tensor(even_rotations(2000))
    log = prior.log_density_of_grid(grid, spacing=0.0)
    assert log.isfinite().any(1).all()
    least = -2 * CUTOFF**2 / 2
    assert log[log.isfinite()].min() >= least - 1e-6
    narrow = RotationPrior(prior.rotations, prior.axis, prior.copies, search_range=1e-3)
    few = narrow.log_density_of_grid(grid[:20], spacing=0.0)
    assert (few.isfinite().sum(1) == 1).all()


@pytest.mark.parametrize("prior", PRIORS)
def test_a_start_is_moved_the_least_way_to_where_the_prior_allows_it(prior):
    start = rotations(len(prior), 3)
    moved = prior.nearest_allowed(start)
    once_more = prior.nearest_allowed(moved)
    assert angle_deg(moved.numpy(), once_more.numpy()).max() < 20
    if prior.axis_sd is not None and prior.search_range is None:
        assert prior.terms(moved)[:, 0, 0].min() > -0.51
    if prior.search_range is not None and prior.axis_sd is None:
        assert prior.terms(moved)[:, 0, 0].min() > -1e-3
        assert angle_deg(moved.numpy(), prior.rotations.numpy()).max() < np.degrees(prior.search_range) + 0.1


def test_a_direction_is_that_of_relions_tilt_and_psi():
    given = rotations(5, 0).numpy()
    _, tilt, psi = np.radians(matrix_to_zyz(given)).T
    expected = np.stack([-np.sin(tilt) * np.cos(psi), np.sin(tilt) * np.sin(psi), np.cos(tilt)], axis=1)
    np.testing.assert_allclose(given[:, :, 2], expected, atol=1e-12)


# --- on particles ---------------------------------------------------------------------------------------------------


def tilted(true, sd_deg, seed):
    """The true rotations with their z axis off by a Gaussian angle, and rotated at random about it."""
    rng = np.random.default_rng(seed)
    off = torch.as_tensor(np.radians(sd_deg) * rng.normal(size=(len(true), 3)) * [1, 1, 0])
    spun = torch.as_tensor([[0, 0, 1]]) * torch.as_tensor(rng.uniform(0, 2 * np.pi, (len(true), 1)))
    return true @ rotvec_to_matrix(off).numpy() @ rotvec_to_matrix(spun).numpy()


@pytest.fixture(scope="module")
def noisy():
    """A tomogram whose noise hides the poses of many particles; the particles, and a template."""
    volume, picks, _ = tomogram(molecule(), noise=6.0)
    return volume, picks, Template(molecule().density(24), VOXEL_SIZE)


@pytest.fixture(scope="module")
def without(noisy):
    volume, picks, template = noisy
    return run(refine(volume, picks.replace(rotations=None), template, RefinementOptions.of(**QUICK)))


def test_membrane_normals_find_particles_that_noise_hides_and_expect_the_error_that_is_left(noisy, without):
    volume, picks, template = noisy
    true = picks.required_rotations()
    normals = picks.replace(rotations=tilted(true, 8.0, seed=1))
    steps, answer = followed(refine(volume, normals, template, RefinementOptions.of(prior_cone=8.0, **QUICK)))
    error, free = (angle_deg(found.particles.required_rotations(), true) for found in (answer, without))
    assert (error < 20).mean() > (free < 20).mean() + 0.1
    axis = np.degrees(np.arccos(np.clip((answer.particles.rotations[:, :, 2] * true[:, :, 2]).sum(1), -1, 1)))
    assert np.median(axis) < 8
    assert any("standard deviation" in note.text for step in steps for note in step.notes)


def test_in_plane_alone_the_axis_stays_where_it_was_given(noisy):
    volume, picks, template = noisy
    true = picks.required_rotations()
    exact = picks.replace(rotations=tilted(true, 0.0, seed=1))
    answer = run(refine(volume, exact, template, RefinementOptions.of(in_plane=True, **QUICK)))
    found = answer.particles.required_rotations()
    cosine = (found[:, :, 2] * true[:, :, 2]).sum(1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 1.6
    assert (angle_deg(found, true) < 20).mean() > 0.9


def test_a_local_search_stays_within_its_range(noisy, without):
    volume, picks, template = noisy
    rng = np.random.default_rng(2)
    off = torch.as_tensor(rng.normal(size=(len(picks), 3)))
    off = off / off.norm(dim=1, keepdim=True) * torch.as_tensor(np.radians(rng.uniform(0, 12, (len(picks), 1))))
    near = picks.replace(rotations=picks.required_rotations() @ rotvec_to_matrix(off).numpy())
    answer = run(refine(volume, near, template, RefinementOptions.of(search_range=12.0, **QUICK)))
    found = answer.particles.required_rotations()
    assert angle_deg(found, near.required_rotations()).max() < 12 + 3 * 1.2
    assert (angle_deg(found, picks.required_rotations()) < 20).all()
    assert np.median(answer.particles.expected_error_deg) < np.median(without.particles.expected_error_deg)


def test_a_prior_that_says_nothing_changes_nothing(noisy, without):
    volume, picks, template = noisy
    options = RefinementOptions.of(search_range=180.0, **QUICK)
    answer = run(refine(volume, picks.replace(rotations=tilted(picks.rotations, 180, 3)), template, options))
    same = angle_deg(answer.particles.required_rotations(), without.particles.required_rotations()) < 1
    assert same.mean() > 0.8


def test_predict_takes_relions_priors_and_a_direction_without_sense(noisy):
    volume, picks, template = noisy
    true = picks.required_rotations()
    _, tilt, psi = matrix_to_zyz(tilted(true, 5.0, seed=4) @ np.diag([1.0, -1.0, -1.0])).T
    columns = {"rlnAngleTiltPrior": tilt, "rlnAnglePsiPrior": psi}
    given = picks.replace(rotations=None, extra=columns)
    options = PredictionOptions.of(prior_cone=5.0, prior_sense="either", max_shift=20.0, device="cpu")
    answer = run(predict(volume, given, template, options))
    found = answer.required_rotations()
    np.testing.assert_array_equal(answer.extra["rlnAngleTiltPrior"], tilt)
    cosine = np.abs((found[:, :, 2] * true[:, :, 2]).sum(1))
    assert np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))) < 6
    with pytest.raises(InputError, match="needs directions"):
        run(predict(volume, picks.replace(rotations=None), template, options))


def test_a_main_axis_that_is_not_z_lies_along_the_direction():
    group = symmetry("D3@1,2,-1@1,0,1")
    shape = molecule(group=group)
    volume, picks, _ = tomogram(shape, noise=3.0)
    direction = picks.required_rotations() @ group.main_axis
    upright = np.stack([np.linalg.qr(np.stack([d, *np.eye(3)], 1))[0] for d in direction])
    upright = upright[:, :, [1, 2, 0]] * np.sign((upright[:, :, :1] * direction[:, :, None]).sum(1, keepdims=True))
    upright[np.linalg.det(upright) < 0, :, 0] *= -1
    given = picks.replace(rotations=upright)
    options = RefinementOptions.of(prior_cone=3.0, prior_axis="main", **QUICK)
    template = Template(shape.density(24), VOXEL_SIZE, symmetry=group.name)
    found = run(refine(volume, given, template, options)).particles.required_rotations()
    cosine = np.abs(np.einsum("ni,ni->n", found @ group.main_axis, direction))
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 8
    assert (symmetric_angle_deg(found, picks.required_rotations(), group) < 20).mean() > 0.9


def test_columns_of_priors_are_the_direction_and_no_numbers_are_refused():
    true = rotations(3, 0).numpy()
    _, tilt, psi = matrix_to_zyz(true).T
    given = Particles(positions=np.zeros((3, 3)), extra={"rlnAngleTiltPrior": tilt, "rlnAnglePsiPrior": psi})
    posed = with_prior_rotations(given, PriorOptions(prior_cone=5.0))
    np.testing.assert_allclose(posed.rotations[:, :, 2], true[:, :, 2], atol=1e-9)
    assert with_prior_rotations(given, PriorOptions()).rotations is None
    bad = given.replace(extra={**given.extra, "rlnAnglePsiPrior": np.array(["a", "b", "c"])})
    with pytest.raises(InputError, match="no numbers"):
        with_prior_rotations(bad, PriorOptions(prior_cone=5.0))


def test_random_poses_of_a_narrow_prior_are_near_each_other():
    group = symmetry("C1")
    cone = np.degrees(np.linalg.norm(random_rotvecs(PriorOptions(prior_cone=10.0), group), axis=1))
    assert 80 < cone.mean() < 100
    spun = np.degrees(np.linalg.norm(random_rotvecs(PriorOptions(in_plane=True), group), axis=1))
    assert 80 < spun.mean() < 100
    near = np.degrees(np.linalg.norm(random_rotvecs(PriorOptions(search_range=20.0), group), axis=1))
    assert near.max() < 2 * (20 + 3 * 2 + 3)
    assert random_rotvecs(PriorOptions(), group) is None
