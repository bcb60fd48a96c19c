"""Refinement: down to what the noise leaves, and honest about it."""

import tracemalloc

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import AXIS_ERROR, AZIMUTH_ERROR, CENTRE_ERROR, POSE_UNKNOWN
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.refinement.refine import RefinementResult, patch_side, refine, refine_with
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import axis_angle_deg, symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template

OPTIONS = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, device="cpu")


@pytest.fixture(scope="module")
def seen() -> tuple[Tomogram, Particles, np.ndarray]:
    """A tomogram of a molecule without symmetry, picks off by up to two voxels with true rotations, true places."""
    return tomogram(molecule(), noise=1.0, off=20.0)


def unknown(picks: Particles) -> Particles:
    return picks.replace(rotations=None)


@pytest.fixture(scope="module")
def refined(seen: tuple[Tomogram, Particles, np.ndarray]) -> RefinementResult:
    volume, picks, _ = seen
    return run(refine(volume, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), OPTIONS))


def test_every_particle_is_found_to_a_few_degrees(refined: RefinementResult, seen: tuple) -> None:
    error = angle_deg(refined.particles.required_rotations(), seen[1].required_rotations())
    assert error.max() < 6
    assert np.median(error) < 2.2


def test_picks_that_are_off_are_recentred(refined: RefinementResult, seen: tuple) -> None:
    _, picks, places = seen
    before = np.linalg.norm(picks.positions - places, axis=1)
    after = np.linalg.norm(refined.particles.positions - places, axis=1)
    assert np.median(before) > 15
    assert np.median(after) < 2
    assert after.max() < 4
    assert np.allclose(refined.particles.positions - picks.positions, refined.moved)


def test_the_expected_error_is_the_true_one(refined: RefinementResult, seen: tuple) -> None:
    error = angle_deg(refined.particles.required_rotations(), seen[1].required_rotations())
    expected = refined.particles.expected_error_deg
    assert 0.75 < np.sqrt(np.mean(expected**2) / np.mean(error**2)) < 1.3
    off = np.linalg.norm(refined.particles.positions - seen[2], axis=1)
    assert 0.6 < np.sqrt(np.mean(refined.particles.extra[CENTRE_ERROR] ** 2) / np.mean(off**2)) < 1.6


def test_confidence_is_a_probability_and_high_here(refined: RefinementResult) -> None:
    assert (refined.particles.confidence > 0.99).all()
    assert refined.warnings == ()


def test_more_noise_is_admitted() -> None:
    volume, picks, _ = tomogram(molecule(), noise=3.0)
    answer = run(refine(volume, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), OPTIONS))
    error = angle_deg(answer.particles.required_rotations(), picks.required_rotations())
    assert np.median(error) > 2.5
    assert 0.65 < np.median(answer.particles.expected_error_deg) / np.median(error) < 1.7


def test_in_much_noise_rotations_gain_from_the_offsets_of_the_other_picks() -> None:
    volume, picks, _ = tomogram(molecule(), noise=4.2, count=(2, 5, 5))
    density = molecule().density(24)
    together = run(refine(volume, unknown(picks), Template(density, VOXEL_SIZE), OPTIONS))
    alone = refine_with(together.finder, volume, unknown(picks))
    error = [
        angle_deg(answer.particles.required_rotations(), picks.required_rotations()) for answer in (together, alone)
    ]
    both = (error[0] < 20) & (error[1] < 20)
    assert both.mean() > 0.85
    assert np.square(error[0][both]).mean() < 0.93 * np.square(error[1][both]).mean()


def test_a_map_of_another_voxel_size_serves_as_well(seen: tuple) -> None:
    volume, picks, _ = seen
    density = molecule().density(40, voxel_size=6.3)
    answer = run(refine(volume, unknown(picks), Template(density, 6.3), OPTIONS))
    error = angle_deg(answer.particles.required_rotations(), picks.required_rotations())
    assert error.max() < 6


def test_the_fast_way_is_nearly_as_good(seen: tuple) -> None:
    volume, picks, _ = seen
    fast = RefinementOptions.of(precision="fast", max_shift=20.0, rotations=900, search_resolution=36.0)
    answer = run(refine(volume, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), fast))
    error = angle_deg(answer.particles.required_rotations(), picks.required_rotations())
    assert np.median(error) < 4
    assert (error < 20).mean() > 0.9


def test_two_threads_give_the_poses_of_one_to_the_bit(seen: tuple, refined: RefinementResult) -> None:
    volume, picks, _ = seen
    before = torch.get_num_threads()
    side = patch_side(refined.finder.reference, volume, max_shift=OPTIONS.search.max_shift)
    patches = torch.from_numpy(cut_patches(volume, picks.positions, side=side))
    answers = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(refined.finder.find(patches))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(answers[0].rotations, answers[1].rotations)
    assert torch.equal(answers[0].shifts, answers[1].shifts)
    assert torch.equal(answers[0].rotation_covariance, answers[1].rotation_covariance)


def test_symmetric_particles_have_errors_of_axis_and_of_spin() -> None:
    group = symmetry("D3@1,2,-1@1,0,1")
    shape = molecule(group=group)
    volume, picks, _ = tomogram(shape, noise=1.0)
    answer = run(refine(volume, unknown(picks), Template(shape.density(24), VOXEL_SIZE, symmetry=group.name), OPTIONS))
    rotations = answer.particles.required_rotations()
    assert symmetric_angle_deg(rotations, picks.required_rotations(), group).max() < 8
    axis = axis_angle_deg(rotations, picks.required_rotations(), group)
    assert 0.6 < np.sqrt(np.mean(answer.particles.extra[AXIS_ERROR] ** 2) / np.mean(axis**2)) < 1.6
    both = np.hypot(answer.particles.extra[AXIS_ERROR], answer.particles.extra[AZIMUTH_ERROR])
    assert np.allclose(both, answer.particles.expected_error_deg, rtol=1e-3)


def test_the_mirror_image_of_the_molecule_is_suspected(seen: tuple, refined: RefinementResult) -> None:
    volume, picks, _ = seen
    wrong = molecule().density(24)[:, :, ::-1].copy()
    answer = run(refine(volume, unknown(picks), Template(wrong, VOXEL_SIZE), OPTIONS))
    assert any("mirror image" in note.text for note in answer.warnings)
    assert answer.particles.confidence.max() < 0.05, "what is warned of is in the numbers too"
    assert answer.score.mean() < 0.9 * refined.score.mean()


def test_a_wrong_tilt_axis_is_suspected(seen: tuple) -> None:
    volume, picks, _ = seen
    wrong = RefinementOptions.of(tilt_axis="x", max_shift=20.0, rotations=900, search_resolution=36.0)
    answer = run(refine(volume, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), wrong))
    assert any("wedge of the patches is tilted about y" in note.text for note in answer.warnings)


def test_inverted_contrast_is_seen_and_borne(seen: tuple) -> None:
    volume, picks, _ = seen
    inverted = Tomogram(-volume.density, VOXEL_SIZE, "phantom")
    answer = run(refine(inverted, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), OPTIONS))
    assert any("contrast" in note.text for note in answer.warnings)
    assert angle_deg(answer.particles.required_rotations(), picks.required_rotations()).max() < 6


def test_another_molecule_matches_worse_and_is_less_sure(seen: tuple, refined: RefinementResult) -> None:
    volume, picks, _ = seen
    other = molecule(seed=9).density(24)
    answer = run(refine(volume, unknown(picks), Template(other, VOXEL_SIZE), OPTIONS))
    assert answer.score.mean() < 0.8 * refined.score.mean()
    assert np.median(answer.particles.expected_error_deg) > 1.3 * np.median(refined.particles.expected_error_deg)
    assert any("right molecule" in note.text for note in answer.warnings)
    assert not any("voxel size" in note.text for note in answer.warnings), "another molecule is of another size too"


def test_picks_of_noise_alone_are_said_to_match_no_better_than_noise(seen: tuple) -> None:
    volume, picks, _ = seen
    noise = Tomogram(np.random.default_rng(5).normal(size=volume.density.shape), VOXEL_SIZE, "phantom")
    answer = run(refine(noise, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), OPTIONS))
    assert any("noise alone reaches" in note.text for note in answer.warnings)


def test_rotations_that_are_known_are_starts_too(seen: tuple) -> None:
    volume, picks, _ = seen
    near = picks.replace(rotations=picks.required_rotations() @ random_rotations(1, np.random.default_rng(0))[0])
    few = RefinementOptions.of(max_shift=20.0, rotations=300, starts=1, search_resolution=36.0)
    answer = run(refine(volume, near, Template(molecule().density(24), VOXEL_SIZE), few))
    assert np.median(angle_deg(answer.particles.required_rotations(), picks.required_rotations())) < 2.5


def test_one_particle_alone_can_be_refined(seen: tuple) -> None:
    volume, picks, _ = seen
    one = unknown(picks.take([5]))
    answer = run(refine(volume, one, Template(molecule().density(24), VOXEL_SIZE), OPTIONS))
    assert angle_deg(answer.particles.required_rotations(), picks.required_rotations()[[5]]).max() < 10


def test_where_in_its_voxel_a_pick_lies_does_not_matter(seen: tuple, refined: RefinementResult) -> None:
    volume, picks, _ = seen
    middle = np.round(picks.positions[:2] / VOXEL_SIZE) * VOXEL_SIZE
    one, other = (
        refine_with(refined.finder, volume, Particles(positions=middle + move)).particles for move in (-4.0, 4.0)
    )
    assert np.allclose(one.positions, other.positions, atol=1e-3)
    assert np.array_equal(one.required_rotations(), other.required_rotations())


def test_no_particles_are_refused(seen: tuple) -> None:
    volume, picks, _ = seen
    with pytest.raises(InputError, match="no particles"):
        run(refine(volume, picks.take(slice(0)), Template(molecule().density(24), VOXEL_SIZE)))


def test_a_particle_outside_is_refused(seen: tuple) -> None:
    volume, picks, _ = seen
    with pytest.raises(InputError, match="outside"):
        run(
            refine(volume, picks.replace(positions=picks.positions + 1e5), Template(molecule().density(24), VOXEL_SIZE))
        )


def test_a_tomogram_that_is_flat_round_the_particles_is_refused(seen: tuple) -> None:
    volume, picks, _ = seen
    flat = Tomogram(np.full_like(volume.density, 3.0), VOXEL_SIZE, "masked")
    with pytest.raises(InputError, match="masked is flat"):
        run(refine(flat, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), OPTIONS))


def test_stopping_midway_leaves_nothing_behind(seen: tuple) -> None:
    volume, picks, _ = seen
    stream = refine(volume, unknown(picks), Template(molecule().density(24), VOXEL_SIZE), OPTIONS)
    first = next(stream)
    assert first.done == 0 < first.total
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_patches_are_dropped_batch_by_batch(seen: tuple) -> None:
    volume, picks, _ = seen
    many = unknown(picks.take(np.tile(np.arange(len(picks)), 32)))
    options = RefinementOptions.of(
        max_shift=20.0, rotations=300, search_resolution=36.0, calibration=16, precision="fast", device="cpu"
    )
    peaks = []
    tracemalloc.start()
    try:
        for step in refine(volume, many, Template(molecule().density(24), VOXEL_SIZE), options):
            if step.message.startswith("Refining"):
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    first, *rest = peaks[1:]
    assert len(rest) == 3
    assert max(rest) < 1.1 * first


def test_picks_in_the_corners_come_out_less_sure_and_never_nan(seen: tuple, refined: RefinementResult) -> None:
    volume, _, _ = seen
    top = (np.array(volume.extent.size) - 1) * VOXEL_SIZE
    corners = Particles(positions=np.array(np.meshgrid(*([0, 1],) * 3)).reshape(3, -1).T * top, tomogram="phantom")
    found = refine_with(refined.finder, volume, corners).particles
    assert np.isfinite(found.positions).all()
    assert np.allclose(np.linalg.det(found.required_rotations()), 1, atol=1e-5)
    assert found.expected_error_deg.min() > 3 * np.median(refined.particles.expected_error_deg)
    assert (found.extra[POSE_UNKNOWN] == "outside the tomogram").all()
    assert (found.confidence < 0.01).all()
    # As far as the search goes, a voxel more, and what the fit does not determine.
    reach = refined.finder.options.search.max_shift + 10 + 2 * found.extra[CENTRE_ERROR]
    assert (np.abs(found.positions - corners.positions).max(axis=1) <= reach).all()
