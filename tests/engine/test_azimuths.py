"""Cyclic order and azimuths about an axis that a map is round about, from particles at random azimuths."""

import numpy as np
import pytest
import torch
from phantom import Molecule, tomogram
from pretend import pretended_gpu
from scipy.spatial.transform import Rotation

from napari_orient.engine.discovery.class_symmetry import (
    AngularHarmonics,
    CyclicOrder,
    angular_harmonics,
    cyclic_order_of,
    estimate_cyclic_order,
    held_out_power,
    with_azimuths,
)
from napari_orient.engine.discovery.half_maps import average_in_halves
from napari_orient.engine.discovery.spectra import observe_patches
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import Particles
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

OPTIONS = DiscoveryOptions.of(diameter=150.0, max_shift=10.0, device="cpu")
OVER = np.diag([1.0, -1.0, -1.0])


def rings(order: int, ways: tuple[float, ...], weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Molecule:
    """Three rings of blobs about z, each turned some way in degrees."""
    angles = np.radians(np.add.outer(ways, 360 / order * np.arange(order)))
    heights = np.broadcast_to(np.array([-40.0, 0.0, 40.0])[:, None], angles.shape)
    places = np.stack([50 * np.cos(angles), 50 * np.sin(angles), heights], axis=-1)
    return Molecule(places.reshape(-1, 3), np.repeat(weights, order))


def harmonics_of(shape: Molecule, *, either_end_up: bool, device: str = "cpu") -> tuple[AngularHarmonics, FloatArray]:
    """Harmonics of particles whose poses are right but for their azimuths and, maybe, their ends; and right poses."""
    volume, truth, _ = tomogram(shape, noise=0.6, count=(2, 4, 3))
    rng, poses = np.random.default_rng(0), truth.required_rotations()
    azimuths = Rotation.from_rotvec(np.outer(rng.uniform(0, 7, len(poses)), [0, 0, 1])).as_matrix()
    ends = np.where((rng.random(len(poses)) < 0.5)[:, None, None] & either_end_up, OVER, np.eye(3))
    picks = Particles(positions=truth.positions, rotations=poses @ ends @ azimuths, tomogram=volume.name)
    group = symmetry("D12" if either_end_up else "C12")
    spectra = run(observe_patches([(volume, picks.positions)], OPTIONS, device=torch.device("cpu")))
    average = run(average_in_halves([(volume, picks)], group, OPTIONS, spectra.geometries, dark=True))
    found = run(angular_harmonics([(volume, picks)], average, OPTIONS, spectra.geometries, device=torch.device(device)))
    return found, poses


@pytest.mark.parametrize(
    ("shape", "either_end_up", "group"),
    [(rings(5, (-10, 0, 10)), True, "D5"), (rings(4, (0, 10, 50), (1.0, 1.5, 2.0)), False, "C4")],
    ids=["alike upside down", "with two ends"],
)
def test_the_cyclic_order_stands_out_and_corrected_azimuths_make_poses_right(
    shape: Molecule, either_end_up: bool, group: str
) -> None:
    found, truth = harmonics_of(shape, either_end_up=either_end_up)
    estimate = order_of(found)
    assert estimate.order == int(group[1:])
    assert f"the pattern of {estimate.order} repeats in a whole rotation" in estimate.words
    ((_, particles),) = with_azimuths(found.labelled, found.parts[estimate.order], estimate.order)
    poses, copies = particles.required_rotations(), symmetry(group)
    # The frame's own rotation is free, so a dihedral group's two-fold axis along x may lie anywhere across z.
    frames = [Rotation.from_rotvec([0, 0, angle]).as_matrix() for angle in np.radians(np.arange(0, 72, 0.5))]
    error = min((symmetric_angle_deg(poses @ frame, truth, copies) for frame in frames), key=np.median)
    assert np.median(error) < 4
    assert (error < 10).mean() > 0.9


def order_of(found: AngularHarmonics) -> CyclicOrder:
    """The cyclic order, by two halves of the particles."""
    count = sum(len(part) for _, part in found.labelled)
    return estimate_cyclic_order(found.parts, np.arange(count) % 2)


def test_round_particles_have_no_cyclic_order() -> None:
    found, _ = harmonics_of(rings(24, (0, 0, 0)), either_end_up=True)
    assert order_of(found).order == 0


def test_the_pattern_of_noise_has_the_power_of_noise_in_other_particles() -> None:
    rng, half = np.random.default_rng(0), np.arange(80) % 2
    noise = torch.complex(*torch.as_tensor(rng.normal(scale=0.5**0.5, size=(2, 80, 60))))
    assert abs(held_out_power(noise, half) - 1) < 4 / 80**0.5
    pattern = torch.complex(*torch.as_tensor(rng.normal(size=(2, 1, 60)))) / 6
    phases = torch.polar(torch.ones(80, 1, dtype=torch.double), torch.as_tensor(rng.uniform(0, 6.28, (80, 1))))
    assert held_out_power(noise + phases * pattern, half) > 2


def test_on_a_gpu_the_cyclic_order_is_the_same() -> None:
    shape = rings(4, (0, 10, 50), (1.0, 1.5, 2.0))
    if torch.cuda.is_available():
        found, _ = harmonics_of(shape, either_end_up=False, device="cuda")
    else:
        with pretended_gpu():
            found, _ = harmonics_of(shape, either_end_up=False, device="cuda")
    assert order_of(found).order == 4


def test_the_cyclic_order_is_what_all_harmonics_that_stand_out_are_multiples_of() -> None:
    quiet = dict.fromkeys(range(2, 13), 1.1)
    assert cyclic_order_of(quiet, 60) == 0
    assert cyclic_order_of(quiet | {7: 3.0}, 60) == 7
    assert cyclic_order_of(quiet | {7: 1.5}, 60) == 0, "a standard error is 0.13"
    assert cyclic_order_of(quiet | {4: 5.0, 8: 9.0, 12: 4.0}, 60) == 4
    assert cyclic_order_of(quiet | {7: 40.0, 5: 6.0, 9: 5.0}, 60) == 7, (
        "the missing wedge shows some of seven at five and nine"
    )
    assert cyclic_order_of(quiet | {3: 8.0, 4: 9.0, 5: 7.0}, 60) == 1, "what has no order shows every order"
    assert cyclic_order_of(quiet | {2: 3.5, 3: 3.0, 4: 2.2}, 60) == 1, "two and three have no order in common"
    assert cyclic_order_of(quiet | {2: 2.1, 7: 5.1}, 60) == 7
    assert cyclic_order_of(quiet | {2: 2.6, 7: 2.6}, 60) == 7, "held-out particles decide on that"
    assert cyclic_order_of(quiet | {2: 8.0, 4: 6.0}, 60) == 0
    assert cyclic_order_of(quiet | {2: 8.0}, 60) == 0, "two repeats may come of anything squashed"
    assert cyclic_order_of({}, 60) == 0
