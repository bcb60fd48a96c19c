"""A reference corrected by the particles: what two halves agree on, each half by the other, and never noise."""

import dataclasses

import numpy as np
import pytest
from phantom import VOXEL_SIZE, Molecule, molecule, tomogram

from napari_orient.engine.averaging import Average
from napari_orient.engine.errors import InputError
from napari_orient.engine.map_resolution import ball_mask, fourier_shell_correlation
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import HALF_SET
from napari_orient.engine.prediction.adaptation import adapt_reference, refine_and_adapt
from napari_orient.engine.projects.each_tomogram import ProjectResult, ProjectRun
from napari_orient.engine.projects.stored_results import StoredResults
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template

SIDE = 24
OPTIONS = RefinementOptions.of(
    rotations=250, dimensions=120, search_resolution=40.0, max_shift=0.0, precision="fast", device="cpu"
)


def relative(shape: Molecule) -> Molecule:
    """A molecule of another species: half of its blobs are missing, and some are heavier."""
    weights = shape.weights.copy()
    weights[::2] = 0
    weights[1::4] *= 2
    return Molecule(shape.places, weights, shape.width)


def template(shape: Molecule) -> Template:
    return Template(shape.density(SIDE).astype(np.float32), VOXEL_SIZE, "blob", "C1")


def average_of(shape: Molecule, *, noise: float, gain: float = -3.0, seed: int = 0) -> Average:
    """An average with independent noise in its halves; dark and of another contrast, as particles come."""
    rng = np.random.default_rng(seed)
    halves = [gain * shape.density(SIDE) + rng.normal(scale=noise, size=(SIDE,) * 3) for _ in range(2)]
    mask = ball_mask(SIDE, VOXEL_SIZE, None)
    curve = fourier_shell_correlation(halves[0] * mask, halves[1] * mask, VOXEL_SIZE)
    maps = [np.asarray(part, np.float32) for part in (sum(halves) / 2, *halves, mask)]
    return Average(
        density=maps[0],
        first_half=maps[1],
        second_half=maps[2],
        voxel_size=VOXEL_SIZE,
        fsc=curve,
        count=2,
        group=symmetry("C1"),
        half_sets=np.array([1, 2]),
        mask=maps[3],
    )


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def by_shell(first: np.ndarray, second: np.ndarray) -> float:
    """Mean correlation over the shells to 40 Å, whatever the amplitude of each."""
    curve = fourier_shell_correlation(first, second, VOXEL_SIZE)
    return float(curve.correlation[curve.frequency < 1 / 40].mean())


@pytest.mark.parametrize("gain", [-3.0, 0.5])
def test_the_reference_takes_over_what_the_halves_agree_on(gain):
    true, given = molecule(), template(relative(molecule()))
    before = by_shell(given.density, true.density(SIDE))
    adapted = adapt_reference(given, average_of(true, noise=abs(gain) / 3, gain=gain))
    assert before < 0.8
    for found in (adapted.template, *adapted.of_half):
        assert by_shell(found.density, true.density(SIDE)) > 0.93
        # Bright and as strong as the template, whatever the contrast and scale of the tomograms.
        assert found.density.max() == pytest.approx(true.density(SIDE).max(), rel=0.3)


def test_what_the_average_shows_beside_the_template_is_left_where_it_is_noise():
    true = molecule()
    noisy = adapt_reference(template(true), average_of(true, noise=10.0))
    assert by_shell(noisy.template.density, true.density(SIDE)) > 0.9
    nothing = Molecule(true.places, 0 * true.weights, true.width)
    of_noise = adapt_reference(template(true), average_of(nothing, noise=1.0))
    for found in (noisy, of_noise):
        assert found.correction.correlation[2:].max() < 0.5


def test_a_half_is_matched_with_what_the_other_half_shows():
    true, given = molecule(), template(relative(molecule()))
    found = average_of(true, noise=1.0)
    rng = np.random.default_rng(5)
    own_noise = rng.normal(scale=1.0, size=(SIDE,) * 3).astype(np.float32)
    changed = dataclasses.replace(found, first_half=found.first_half + own_noise)
    first, second = (adapt_reference(given, each).of_half for each in (found, changed))
    seen = [abs(correlation(second[half].density - first[half].density, own_noise)) for half in (0, 1)]
    assert seen[0] < 0.1 < seen[1]


@pytest.fixture(scope="module")
def pairs():
    found = []
    for seed in (1, 2):
        volume, picks, places = tomogram(molecule(), noise=2.0, seed=seed, count=(1, 2, 5))
        volume = dataclasses.replace(volume, name=f"phantom{seed}")
        found.append((volume, picks.replace(positions=places, tomogram=volume.name)))
    return found


def picks_of(pairs):
    return [(volume, particles.replace(rotations=None)) for volume, particles in pairs]


def drained(stream, result):
    """The answer, the steps, and the poses as they were before the first round."""
    steps, first = [], None
    while True:
        try:
            steps.append(next(stream))
        except StopIteration as end:
            return end.value, steps, first
        if steps[-1].message.startswith("Round 1") and first is None:
            first = result.particles.required_rotations()


def test_rounds_pose_more_particles_right_say_so_and_are_kept(pairs, tmp_path):
    true, given = molecule(), template(relative(molecule()))
    result, stored = ProjectResult(), StoredResults.beside(tmp_path / "out.star")
    stream = refine_and_adapt(picks_of(pairs), given, OPTIONS.replace(rounds=1), result, ProjectRun(stored=stored))
    adapted, steps, first = drained(stream, result)
    similar = correlation(adapted.density, true.density(len(adapted.density)))
    assert similar > correlation(given.density, true.density(SIDE)) + 0.02
    truth = np.concatenate([particles.required_rotations() for _, particles in pairs])
    errors = angle_deg(result.particles.required_rotations(), truth)
    assert np.median(errors) < 0.85 * np.median(angle_deg(first, truth))
    assert HALF_SET not in result.particles.extra
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    notes = [str(note) for step in steps for note in step.notes]
    assert any(note.startswith("Round 1: ") and "of 20 poses are expected to be right" in note for note in notes)
    again = ProjectResult()
    drained(
        refine_and_adapt(
            picks_of(pairs), given, OPTIONS.replace(rounds=1), again, ProjectRun(stored=stored, resume=True)
        ),
        again,
    )
    assert all(outcome.stored for outcome in again.done.values())
    np.testing.assert_array_equal(again.particles.rotations, result.particles.rotations)


def test_too_few_particles_are_refused_before_the_work(pairs):
    few = [(volume, particles.take([0, 1])) for volume, particles in picks_of(pairs)]
    with pytest.raises(InputError, match="4 particles cannot correct a reference; expected at least 16"):
        next(refine_and_adapt(few, template(molecule()), OPTIONS.replace(rounds=1), ProjectResult()))


def test_poses_of_which_hardly_any_is_right_correct_nothing():
    volume, picks, places = tomogram(molecule(), noise=12.0, seed=3, count=(1, 4, 4))
    pairs, result = [(volume, picks.replace(positions=places, rotations=None))], ProjectResult()
    corrected, steps, _ = drained(
        refine_and_adapt(pairs, template(relative(molecule())), OPTIONS.replace(rounds=3), result), result
    )
    assert corrected is None
    notes = [str(note) for step in steps for note in step.notes]
    assert any("too few for the particles to correct the template" in note for note in notes)
    assert not any(note.startswith("Round") for note in notes)
    assert len(result.particles) == 16
