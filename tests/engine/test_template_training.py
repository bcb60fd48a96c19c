"""A template made from labelled particles: an average, validated on tomograms kept apart, halves never mixed."""

import dataclasses

import numpy as np
import pytest
from phantom import VOXEL_SIZE, molecule, tomogram
from scipy.spatial.transform import Rotation

from napari_orient.engine.averaging import average
from napari_orient.engine.duplicates import random_halves
from napari_orient.engine.errors import InputError
from napari_orient.engine.parameters import (
    AveragingOptions,
    NetworkOptions,
    SearchOptions,
    TemplateOptions,
    TemplateTrainingOptions,
    TrainingOptions,
)
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.statistics.error_calibration import fit_beyond_noise
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.training.template import _in_frame, refine_halves
from napari_orient.engine.training.train import train
from napari_orient.engine.training.validation import Milestone

SEARCH = SearchOptions(
    rotations=250, dimensions=120, search_resolution=40.0, max_shift=0.0, coarse_rotations=60, coarse_dimensions=30
)
TEMPLATE = TemplateOptions(search=SEARCH)
TRAINING = TemplateTrainingOptions.of(rounds=1, side=24, validation=0.4, device="cpu")


def labelled(count=2, grid=(1, 3, 4), noise=0.7):
    pairs = []
    for seed in range(count):
        volume, picks, places = tomogram(molecule(), noise=noise, seed=seed, count=grid)
        volume, kind = dataclasses.replace(volume, name=f"phantom{seed}"), np.full(len(picks), "blob")
        pairs.append((volume, picks.replace(positions=places, tomogram=volume.name, kind=kind)))
    return pairs


@pytest.fixture(scope="module")
def learnt():
    milestones, stream = [], train(labelled(), TEMPLATE, TRAINING, name="learnt")
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            return milestones, end.value
        assert step.notes == ()
        if isinstance(step, Milestone):
            milestones.append(step)


def test_an_averaged_template_resembles_the_molecule_and_poses_particles_kept_apart(learnt):
    _, template = learnt
    assert np.corrcoef(template.density.ravel(), molecule().density(24).ravel())[0, 1] > 0.8
    figures = template.card["figures"]
    assert figures["validation_median_deg"] < 5
    assert figures["validation_within_20"] > 0.95
    assert template.card["classes"] == ["blob"]
    assert template.card["particles"] == {"training": 12, "validation": 12}
    assert 20 < figures["fsc_0.143_angstrom"] <= figures["fsc_0.5_angstrom"] < 80


def test_every_reference_is_a_milestone_that_carries_the_best_so_far(learnt):
    milestones, template = learnt
    assert [step.done for step in milestones] == [1, 2]
    assert milestones[-1].model is template
    least = min(step.validation_mean_deg for step in milestones)
    assert template.card["figures"]["validation_mean_deg"] == pytest.approx(least)


def test_neither_half_sees_the_other():
    pairs = labelled(count=1)
    found = run(average(pairs, options=AveragingOptions(side=24)))
    ((volume, particles),) = pairs
    coin = random_halves(len(particles), 0)
    first, second = (
        run(average([(volume, particles.take(coin == half))], options=AveragingOptions(side=24))).density
        for half in (0, 1)
    )
    # The half maps are of their own halves alone: averages of these particles and no others.
    assert np.corrcoef(first.ravel(), found.first_half.ravel())[0, 1] > 0.99
    assert np.corrcoef(second.ravel(), found.second_half.ravel())[0, 1] > 0.99
    posed = run(refine_halves(pairs, pairs, found, search=SEARCH, options=TRAINING))
    # With the other half's map made worthless, the poses of this half do not change.
    spoilt = dataclasses.replace(found, second_half=np.roll(found.second_half, 7, axis=0)[::-1].copy())
    again = run(refine_halves(pairs, pairs, spoilt, search=SEARCH, options=TRAINING))
    np.testing.assert_array_equal(posed[0][1].positions[coin == 0], again[0][1].positions[coin == 0])
    assert not np.allclose(posed[0][1].positions[coin == 1], again[0][1].positions[coin == 1])


def test_a_half_that_drifted_as_a_whole_is_brought_back_to_its_labels():
    group, centre = symmetry("C2@1,1,0"), np.array([10.0, -4.0, 6.0])
    rng = np.random.default_rng(0)
    _, picks, _ = tomogram(molecule(), count=(1, 3, 3))
    labels, rows = picks.replace(positions=picks.positions), rng.random(9) < 0.6
    turn, move = Rotation.from_rotvec([0.05, -0.03, 0.08]).as_matrix(), np.array([8.0, -3.0, 5.0])
    copy = np.where(rng.random(9)[:, None, None] < 0.5, group.matrices[1], np.eye(3))
    straight = labels.required_rotations()
    rotations = straight @ turn @ copy
    positions = labels.positions + (straight @ turn - rotations) @ centre + straight @ move
    drifted = labels.replace(rotations=rotations, positions=positions)
    (back,) = _in_frame([drifted], [labels], rows=[rows], group=group, centre=centre)
    assert angle_deg(back.required_rotations(), straight)[rows].max() < 1e-3
    assert np.abs(back.positions - labels.positions)[rows].max() < 1
    np.testing.assert_array_equal(back.positions[~rows], drifted.positions[~rows])


def test_a_map_needs_no_labels_and_is_validated_by_those_given():
    template = Template(molecule().density(24), VOXEL_SIZE, search=SEARCH)
    plain = run(train([], TEMPLATE, TRAINING, template=template))
    assert isinstance(plain, Template)
    assert "figures" not in plain.card
    validated = run(train(labelled(count=1, grid=(2, 3, 4)), TEMPLATE, TRAINING, template=template))
    assert validated.card["figures"]["validation_median_deg"] < 4
    assert validated.calibration is not None


def test_options_of_two_kinds_and_what_a_template_cannot_do_are_refused():
    pairs = labelled(count=2)
    with pytest.raises(InputError, match="two kinds"):
        run(train(pairs, TEMPLATE, TrainingOptions()))
    with pytest.raises(InputError, match="two kinds"):
        run(train(pairs, NetworkOptions(), TRAINING))
    with pytest.raises(InputError, match="at least 20"):
        run(train([], TEMPLATE, TRAINING))
    turned = [(volume, part.replace(rotations=None)) for volume, part in pairs]
    with pytest.raises(InputError, match="no orientations"):
        run(train(turned, TEMPLATE, TRAINING))


def test_calibration_adds_what_the_template_costs_and_keeps_what_the_noise_does():
    rng = np.random.default_rng(0)
    expected = rng.uniform(1, 3, 4000)
    direction = rng.normal(size=(4000, 3)) / np.sqrt(3)
    for floor, factor in ((2.25, 1.0), (0.0, 0.7)):
        errors = np.linalg.norm(direction, axis=1) * np.sqrt(floor + factor * expected**2)
        errors[:40] = 90.0
        line = fit_beyond_noise(errors, expected)
        np.testing.assert_allclose((line.floor, line.factor), (floor, factor), atol=0.12)


def test_what_a_few_particles_show_by_chance_calibrates_nothing():
    rng = np.random.default_rng(0)
    none = [fit_beyond_noise(*errors_of(rng, floor=0.0, factor=1.0, count=60)) for _ in range(40)]
    assert np.mean([found is None for found in none]) > 0.85
    poor = [fit_beyond_noise(*errors_of(rng, floor=25.0, factor=1.0, count=60)).floor for _ in range(40)]
    assert 15 < np.median(poor) < 26, "a poor template's own error is kept"


def errors_of(rng: np.random.Generator, *, floor: float, factor: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors about three axes, alike, and what the noise alone is expected to leave."""
    expected = rng.uniform(2, 5, count)
    deviation = np.sqrt((floor + factor * expected**2) / 3)
    return np.linalg.norm(rng.normal(size=(count, 3)) * deviation[:, None], axis=1), expected
