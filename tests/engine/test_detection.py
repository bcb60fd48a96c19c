"""Picks on nothing among particles: they are told, and true particles stay as sure as they were."""

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram

from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.refinement.refine import RefinementResult, refine, refine_with
from napari_orient.engine.statistics.detection import DetectionModel, error_and_confidence, random_pose_covariance
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template

OPTIONS = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, precision="precise", device="cpu")


@pytest.fixture(scope="module")
def seen() -> tuple[Tomogram, Particles, np.ndarray]:
    return tomogram(molecule(), noise=1.0, off=10.0)


@pytest.fixture(scope="module")
def nothing() -> np.ndarray:
    """Places midway between eight particles each, (9, 3) in Å: further than one diameter from all of them."""
    steps = np.stack(np.meshgrid([1.0], [1, 2, 3], [1, 2, 3], indexing="ij"), -1).reshape(-1, 3)
    return steps[:, ::-1] * 24 * VOXEL_SIZE


@pytest.fixture(scope="module")
def refined(seen: tuple[Tomogram, Particles, np.ndarray], nothing: np.ndarray) -> RefinementResult:
    volume, picks, _ = seen
    both = Particles(positions=np.concatenate([picks.positions, nothing]), tomogram=volume.name)
    return run(refine(volume, both, Template(molecule().density(24), VOXEL_SIZE), OPTIONS))


def test_false_picks_among_true_ones_are_told_by_their_confidence(
    refined: RefinementResult, nothing: np.ndarray
) -> None:
    confidence, expected = refined.particles.confidence, refined.particles.expected_error_deg
    false = np.arange(len(expected)) >= len(expected) - len(nothing)
    assert confidence[~false].min() > 0.99
    assert confidence[false].max() < 0.2
    assert expected[false].min() > 90
    assert expected[~false].max() < 5


def test_a_false_pick_asked_for_alone_later_is_told_too(
    refined: RefinementResult, seen: tuple, nothing: np.ndarray
) -> None:
    lone = Particles(positions=nothing[:1], tomogram=seen[0].name)
    assert refine_with(refined.finder, seen[0], lone).particles.confidence[0] < 0.2


def test_a_better_score_never_makes_a_particle_less_likely() -> None:
    rng = torch.Generator().manual_seed(0)
    noise, scores = 4 + 0.4 * torch.randn(32, generator=rng), 12 + torch.randn(64, generator=rng)
    detection = DetectionModel.fitted(noise, torch.cat([scores, noise[:16]]))
    assert detection.false_share == pytest.approx(0.2, abs=0.03)
    p_false = detection.p_false(torch.linspace(-1, 40, 200))
    assert (p_false.diff() <= 1e-6).all()
    assert p_false[0] > 0.97
    assert p_false[-1] < 1e-6


@pytest.mark.parametrize("name", ["C1", "C7", "D7"])
def test_a_pick_on_nothing_expects_what_chance_gives(name: str) -> None:
    group = symmetry(name)
    random = np.degrees(float(random_pose_covariance(group).trace()) ** 0.5)
    expected, within = error_and_confidence(np.array([2.0, 2.0]), np.array([1.0, 0.0]), np.full(2, random), group)
    assert expected[0] == pytest.approx(2.0)
    assert within[0] > 0.999
    assert expected[1] == pytest.approx(np.degrees(float(random_pose_covariance(group).trace()) ** 0.5), rel=1e-3)
    # One ball of 20° for each copy: exact while they do not overlap.
    assert within[1] == pytest.approx(len(group) * (np.radians(20) - np.sin(np.radians(20))) / np.pi, rel=0.35)
