"""The hand of a reference: counted in every probability, unless the map is its own mirror image."""

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, Molecule, molecule, tomogram

from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.hand_evidence import HandEvidence
from napari_orient.engine.refinement.refine import RefinementResult, refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

OPTIONS = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, device="cpu")
STRONG = 3.0
"""Noise at which scores are 8 to 9."""
TEN = (1, 2, 5)


def refined(shape: Molecule, *, noise: float, mirrored: bool = False) -> tuple[RefinementResult, np.ndarray]:
    """The answer for ten particles, and the true errors."""
    volume, picks, _ = tomogram(shape, noise=noise, count=TEN)
    density = shape.density(24)
    density = density[:, :, ::-1].copy() if mirrored else density
    answer = run(refine(volume, picks.replace(rotations=None), Template(density, VOXEL_SIZE), OPTIONS))
    return answer, angle_deg(answer.particles.required_rotations(), picks.required_rotations())


def own_mirror_image() -> Molecule:
    """A molecule with a plane of symmetry, and no axis."""
    half = molecule(seed=3)
    places = np.concatenate([half.places, half.places * (-1, 1, 1)])
    return Molecule(places, np.tile(half.weights, 2))


def test_a_mirrored_reference_in_strong_noise_makes_no_pose_sure() -> None:
    answer, error = refined(molecule(), noise=STRONG, mirrored=True)
    assert np.median(error) > 60
    assert answer.particles.expected_error_deg.min() > 20
    assert any("mirror image" in note.text for note in answer.warnings)


def test_the_right_hand_in_strong_noise_keeps_its_confidence() -> None:
    answer, error = refined(molecule(), noise=STRONG)
    assert np.median(error) < 10
    assert answer.finder.p_template > 0.998
    assert not any("mirror image" in note.text for note in answer.warnings)


@pytest.mark.parametrize("noise", [1.0, STRONG])
def test_a_map_that_is_its_own_mirror_image_loses_no_confidence(noise: float) -> None:
    answer, error = refined(own_mirror_image(), noise=noise)
    assert np.median(error) < 10
    assert answer.finder.p_template == 1.0
    assert not any("mirror image" in note.text for note in answer.warnings)


def evidence(difference: list[float], *, expected: float = 5.0, chirality: float = 0.5) -> HandEvidence:
    return HandEvidence(torch.tensor(difference), expected=expected, deviation=4.0, chirality=chirality)


def test_no_difference_leaves_the_prior_and_no_expectation_too() -> None:
    assert evidence([-3.0, 3.0, -1.0, 1.0]).p_hand == pytest.approx(0.9)
    assert evidence([4.0, 6.0, 3.0, 7.0], expected=0.0).p_hand == pytest.approx(0.9)


def test_evidence_for_either_hand_is_the_same() -> None:
    found = [4.0, 6.0, 2.0, 8.0, 5.0]
    odds = [evidence([sign * value for value in found]).p_hand for sign in (1, -1)]
    for_given, for_other = ((p / (1 - p)) / 9 for p in odds)
    assert for_given == pytest.approx(1 / for_other, rel=1e-6)
    assert for_given > 1000


def test_one_particle_does_not_decide() -> None:
    most = [-2.0, -6.0, -4.0, -5.0, -3.0, -7.0, -4.0, -5.0]
    assert evidence([*most, 500.0]).p_hand < 0.5


def test_poses_of_a_map_that_is_its_own_mirror_image_are_not_wrong_by_the_hand() -> None:
    wrong = [-4.0, -6.0, -2.0, -8.0, -5.0]
    assert evidence(wrong, chirality=0.01).p_poses == 1
    assert 0.3 < evidence(wrong, chirality=0.06).p_poses < 0.7
    assert evidence(wrong).p_poses < 0.01
