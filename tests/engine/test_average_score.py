"""Views of particles share a map, those of false picks do not: scores against the average of the others."""

from dataclasses import replace

import numpy as np
import torch

from napari_orient.engine.networks.average_score import PosedPatches, PoseEvidence, joined_patches

VOXELS = 1500
RADIUS = 130.0
AMPLITUDE = 10.0
"""Of a particle, in deviations of the noise along its map."""


def posed(count: int, *, amplitude: float, right: float, seed: int) -> PosedPatches:
    """Views of noise that hold a map in common, as far as the amplitude says, 500 Å apart."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(VOXELS, generator=torch.Generator().manual_seed(99))
    views = torch.randn(count, VOXELS, generator=generator) + amplitude * common / common.norm()
    positions = np.zeros((count, 3)) + 500.0 * (1000 * seed + np.arange(count))[:, None]
    return PosedPatches(
        positions, torch.full((count,), right), torch.zeros(count), torch.eye(3).expand(count, 3, 3), views
    )


MIRRORED = posed(32, amplitude=3.0, right=0.2, seed=3)


def test_what_has_nothing_in_common_with_the_others_is_false_whatever_the_network_says():
    particles = posed(40, amplitude=AMPLITUDE, right=0.6, seed=1)
    false = posed(16, amplitude=2.0, right=0.6, seed=2)
    evidence = PoseEvidence.estimate(joined_patches([particles, false]), MIRRORED, radius=RADIUS)
    assert float(evidence.p_right(particles).min()) > 0.9
    assert float(evidence.p_right(false).max()) < 0.2
    # Picks that come later too, which the average does not hold.
    assert float(evidence.p_right(posed(8, amplitude=AMPLITUDE, right=0.6, seed=4)).min()) > 0.9


def test_a_pick_and_its_doubles_do_not_speak_for_themselves():
    particles = posed(40, amplitude=AMPLITUDE, right=0.9, seed=1)
    false = posed(1, amplitude=0.0, right=0.9, seed=2)
    double = replace(false, positions=false.positions + 10)
    evidence = PoseEvidence.estimate(joined_patches([particles, false, double]), MIRRORED, radius=RADIUS)
    assert evidence.average is not None
    assert float(evidence.average.score(false)) < 4
    assert float(evidence.p_right(double)) < 0.5


def test_where_few_poses_are_right_there_is_no_average_and_noise_loses_no_right_pose():
    few = posed(10, amplitude=AMPLITUDE, right=0.3, seed=1)
    assert PoseEvidence.estimate(few, MIRRORED, radius=RADIUS).average is None
    noisy = posed(60, amplitude=3.5, right=0.8, seed=1)
    evidence = PoseEvidence.estimate(noisy, MIRRORED, radius=RADIUS)
    assert evidence.average is not None
    assert float(evidence.p_right(noisy).median()) > 0.7
