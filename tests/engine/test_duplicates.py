"""Duplicates: found by distance, never in both half-sets, and no resolution is claimed from their noise."""

import numpy as np
import pytest
from phantom import VOXEL_SIZE, molecule, tomogram
from streams import followed

from napari_orient.engine.averaging import average
from napari_orient.engine.duplicates import (
    duplicate_rows,
    duplicates_note,
    half_sets,
    linked_groups,
    random_halves,
    without_duplicates,
)
from napari_orient.engine.io.columns import SCORE
from napari_orient.engine.parameters import AveragingOptions, RefinementOptions
from napari_orient.engine.particles import HALF_SET, Particles, Tomogram, concatenate
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

OPTIONS = AveragingOptions(side=24)


def line(*places, score=None, tomogram="a", **extra):
    positions = np.array([[place, 0.0, 0.0] for place in places])
    columns = extra if score is None else {SCORE: np.array(score, float), **extra}
    return Particles(positions=positions, tomogram=tomogram, extra=columns)


def doubled(particles, seed=0, by=3.0):
    """Each particle twice, the second moved a little."""
    moves = np.random.default_rng(seed).uniform(-by, by, (len(particles), 3))
    return concatenate([particles, particles.replace(positions=particles.positions + moves)])


def noise(seed=0, count=60, side=64):
    """A tomogram of noise alone, and random poses in it."""
    rng = np.random.default_rng(seed)
    volume = Tomogram(rng.normal(size=(side, side, side)).astype(np.float32), VOXEL_SIZE, "noise")
    positions = rng.uniform(150, 480, (count, 3))
    return volume, Particles(positions=positions, rotations=random_rotations(count, rng), tomogram="noise")


def test_of_two_near_particles_the_one_of_better_score_stays():
    found = line(0, 10, 200, 205, 400, score=[5, 9, 7, 6, 1])
    assert duplicate_rows(found, 20).tolist() == [True, False, False, True, False]
    assert without_duplicates(found, 20).positions[:, 0].tolist() == [10, 200, 400]
    assert duplicates_note(found, 20).text.startswith("2 particles are duplicates: a better one lies within 20 Å.")
    assert duplicates_note(found, 5) is None or "1 particle is" in duplicates_note(found, 5).text


def test_in_a_chain_only_what_lies_near_a_kept_particle_is_removed():
    chain = line(0, 15, 30, score=[3, 2, 1])
    assert duplicate_rows(chain, 20).tolist() == [False, True, False]
    assert len(set(linked_groups(chain, 20).tolist())) == 1


def test_particles_of_two_tomograms_are_never_one():
    both = concatenate([line(0, tomogram="a"), line(1, tomogram="b")])
    assert not duplicate_rows(both, 20).any()


def test_without_scores_confidence_decides_then_the_expected_error_then_the_order():
    pair = line(0, 1)
    assert duplicate_rows(pair, 20).tolist() == [False, True]
    assert duplicate_rows(pair.replace(confidence=np.array([0.2, 0.9])), 20).tolist() == [True, False]
    assert duplicate_rows(pair.replace(expected_error_deg=np.array([9.0, 2.0])), 20).tolist() == [True, False]


def test_without_duplicates_the_halves_are_those_of_the_seed():
    parts = [line(0, 100, 200), line(0, 100, tomogram="b")]
    halves, notes = half_sets(parts, 20, seed=4)
    np.testing.assert_array_equal(halves - 1, random_halves(5, 4))
    assert notes == ()


def test_duplicates_share_a_half_and_halves_are_of_one_size():
    one = line(*range(0, 4000, 100))
    halves, notes = half_sets([doubled(one)], 20, seed=1)
    np.testing.assert_array_equal(halves[:40], halves[40:])
    assert abs((halves == 1).sum() - 40) <= 1
    assert "share a half-set" in notes[0].text


def test_picks_that_follow_each_other_closely_still_make_two_halves():
    chain = line(*range(0, 3000, 15))
    halves, _ = half_sets([chain], 20, seed=1)
    assert 0.35 < (halves == 1).mean() < 0.65


def test_half_sets_of_the_list_are_kept_and_of_a_double_in_both_the_worse_is_left_out():
    subset = np.array(["1", "2", "2", "1", "2"])
    found = line(0, 100, 200, 300, 303, score=[1, 1, 1, 5, 6], **{HALF_SET: subset})
    halves, notes = half_sets([found], 20, seed=0)
    assert halves.tolist() == [1, 2, 2, 0, 2]
    assert "1 particle is left out" in notes[1].text
    assert "1 and 3 particles" in notes[0].text


@pytest.mark.parametrize(
    ("subsets", "reason"),
    [([1, 1, 1], "all particles are in half-set 1"), ([1, 2, 0], "1 of 3 particles have neither 1 nor 2 but 0")],
)
def test_half_sets_that_cannot_be_used_are_said_to_be_drawn_anew(subsets: list[int], reason: str) -> None:
    halves, (note,) = half_sets([line(0, 100, 200, **{HALF_SET: np.array(subsets)})], 20, seed=0)
    np.testing.assert_array_equal(halves - 1, random_halves(3, 0))
    assert reason in note.text and note.severity == "warning"


def test_doubled_picks_claim_no_resolution_from_noise_alone():
    volume, picks = noise()
    single = run(average([(volume, picks)], options=OPTIONS)).fsc.resolution(0.143)
    steps, twice = followed(average([(volume, doubled(picks))], options=OPTIONS))
    assert single > 100
    assert twice.fsc.resolution(0.143) > 100
    assert np.abs(twice.fsc.correlation[3:]).mean() < 0.3
    assert any("share a half-set" in note.text for step in steps for note in step.notes)


@pytest.fixture(scope="module")
def seen():
    return tomogram(molecule(), noise=1.0, off=8.0)


def test_picks_of_one_particle_are_said_to_be_duplicates_once_they_are_recentred(seen):
    volume, picks, _ = seen
    both = doubled(picks.replace(rotations=None), by=15.0)
    options = RefinementOptions.of(max_shift=30.0, rotations=900, search_resolution=36.0, precision="fast")
    template = Template(molecule().density(24), VOXEL_SIZE)
    answer = run(refine(volume, both, template, options))
    assert any(note.text.startswith("32 particles are duplicates") for note in answer.warnings)
    assert len(without_duplicates(answer.particles, 0.5 * template.radius)) == 32


def test_an_average_of_the_halves_that_a_list_names_uses_them(seen):
    volume, picks, _ = seen
    first = np.arange(len(picks)) < 16
    named = picks.replace(extra={HALF_SET: np.where(first, "1", "2")})
    found = run(average([(volume, named)], options=OPTIONS))
    np.testing.assert_array_equal(found.half_sets, np.where(first, 1, 2))
    half = run(average([(volume, picks.take(first))], options=OPTIONS)).density
    assert np.corrcoef(half.ravel(), found.first_half.ravel())[0, 1] > 0.99
