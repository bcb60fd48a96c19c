"""Averaging: the map that poses imply, its halves, and what only the right poses give."""

from dataclasses import replace

import numpy as np
import pytest
from phantom import VOXEL_SIZE, Molecule, molecule, tomogram
from scipy.ndimage import gaussian_filter
from streams import followed

from napari_orient.engine.averaging import Average, average
from napari_orient.engine.environment import free_memory
from napari_orient.engine.errors import InputError
from napari_orient.engine.map_resolution import FSC, fourier_shell_correlation
from napari_orient.engine.model.gridding import Gridding
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.model.rotational_average import rotational_average
from napari_orient.engine.parameters import AveragingOptions, RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.projects.distribution import SchedulerOptions
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template

OPTIONS = AveragingOptions(side=24, radius=75.0)


@pytest.fixture(scope="module")
def seen() -> tuple[Tomogram, Particles, np.ndarray]:
    return tomogram(molecule(), noise=1.0)


@pytest.fixture(scope="module")
def averaged(seen: tuple[Tomogram, Particles, np.ndarray]) -> Average:
    return run(average([seen[:2]], options=OPTIONS))


def likeness(density: np.ndarray, template: np.ndarray) -> float:
    template = gaussian_filter(template, 1.0)
    inside = template > 0.05 * template.max()
    return float(np.corrcoef(gaussian_filter(density, 1.0)[inside], template[inside])[0, 1])


def test_particles_averaged_in_their_true_poses_are_the_molecule(averaged: Average) -> None:
    assert likeness(averaged.density, molecule().density(24)) > 0.97


def test_the_average_of_a_smoothed_tomogram_is_right_as_far_as_its_halves_say(seen: tuple, averaged: Average) -> None:
    volume, particles, _ = seen
    smooth = replace(volume, density=gaussian_filter(volume.density, 1.0))
    steps, found = followed(average([(smooth, particles)], options=OPTIONS))
    assert any("phantom: smooth" in note.text for step in steps for note in step.notes)
    both = fourier_shell_correlation(found.density * found.mask, averaged.density * found.mask, VOXEL_SIZE)
    assert both.correlation.min() > 0.9
    assert found.fsc.resolution(0.5) == pytest.approx(averaged.fsc.resolution(0.5), abs=2.0)


def test_workers_that_add_up_a_tomogram_each_give_the_same_average_to_the_bit(seen: tuple) -> None:
    distributed = pytest.importorskip("distributed")
    volume, particles, _ = seen
    parts = [(replace(volume, name=f"ts_{number}"), particles.take(slice(number, None, 3))) for number in range(3)]
    labelled = [(tomogram, own.replace(tomogram=tomogram.name)) for tomogram, own in parts]
    here = run(average(labelled, options=OPTIONS))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        scheduler = SchedulerOptions(scheduler=cluster.scheduler_address)
        there = run(average(labelled, options=OPTIONS, scheduler=scheduler))
    for name in ("density", "first_half", "second_half", "half_sets"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_averaged_in_inverse_poses_they_are_not(seen: tuple, averaged: Average) -> None:
    volume, picks, _ = seen
    inverse = picks.replace(rotations=picks.required_rotations().transpose(0, 2, 1))
    wrong = run(average([(volume, inverse)], options=OPTIONS))
    assert likeness(wrong.density, molecule().density(24)) < 0.9
    assert wrong.fsc.resolution(0.5) > 1.2 * averaged.fsc.resolution(0.5)


def test_the_map_is_the_mean_of_its_halves_nearly(averaged: Average) -> None:
    middle = (averaged.first_half + averaged.second_half) / 2
    assert np.corrcoef(middle.ravel(), averaged.density.ravel())[0, 1] > 0.99
    assert averaged.count == 32


def test_halves_agree_to_the_detail_that_the_noise_leaves(averaged: Average) -> None:
    assert averaged.fsc.correlation[0] > 0.95
    assert 20 <= averaged.fsc.resolution(0.143) <= averaged.fsc.resolution(0.5) < 60


def test_a_learnt_reference_serves_as_the_template_does(seen: tuple, averaged: Average) -> None:
    other, picks, _ = tomogram(molecule(), noise=1.0, seed=3)
    options = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0)
    blank = picks.replace(rotations=None)
    medians = []
    for density in (molecule().density(24), averaged.as_reference()):
        answer = run(refine(other, blank, Template(density, VOXEL_SIZE), options))
        medians.append(np.median(angle_deg(answer.particles.required_rotations(), picks.required_rotations())))
    assert medians[1] < medians[0] + 0.8


def test_symmetry_is_imposed_about_the_map_s_own_axes() -> None:
    group = symmetry("D3@1,2,-1@1,0,1")
    shape = molecule(group=group)
    volume, picks, _ = tomogram(shape, noise=2.0)
    plain = run(average([(volume, picks)], options=OPTIONS))
    folded = run(average([(volume, picks)], options=OPTIONS, group=group))
    assert likeness(folded.density, shape.density(24)) > 0.97
    assert folded.fsc.resolution(0.5) <= plain.fsc.resolution(0.5)


def test_the_rotational_average_of_a_blob_is_its_ring_about_an_axis_wherever_it_lies():
    frame, centre = symmetry("C3@1,2,-1").frame, np.array([0.8, -1.3, 0.4])
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    circle = np.stack([60 * np.cos(angles), 60 * np.sin(angles), np.full(72, 25.0)], axis=1) @ frame.T
    ring = Molecule(circle + VOXEL_SIZE * centre, np.full(72, 1 / 72), 25.0).density(28)
    blob = Molecule(circle[:1] + VOXEL_SIZE * centre, np.ones(1), 25.0).density(28)
    for density in (blob, ring):
        assert np.abs(rotational_average(density, frame, centre) - ring).max() < 0.02 * ring.max()


def test_what_is_round_about_the_axis_and_what_is_not_are_weighed_each_by_what_the_halves_share_of_it() -> None:
    group, rng = symmetry("C7@1,2,-1"), np.random.default_rng(0)
    round_map = rotational_average(molecule(group=group).density(24), group.frame, np.zeros(3))
    noise = [gaussian_filter(rng.normal(size=round_map.shape), 1.5) for _ in range(2)]
    noise = [part - rotational_average(part, group.frame, np.zeros(3)) for part in noise]
    first, second = ((round_map + 0.3 * round_map.std() / part.std() * part).astype(np.float32) for part in noise)
    found = Average(
        density=(first + second) / 2,
        first_half=first,
        second_half=second,
        voxel_size=VOXEL_SIZE,
        fsc=fourier_shell_correlation(first, second, VOXEL_SIZE),
        count=40,
        group=group,
        half_sets=np.zeros(40, int),
        mask=np.ones_like(first),
    )
    before, after = first, found.filtered(first, finest=40.0)
    of_noise, of_round = (
        np.vdot(part, after) / np.vdot(part, before) for part in (noise[0], round_map.astype(np.float32))
    )
    alone = replace(found, group=symmetry("C1")).filtered(first, finest=40.0)
    assert of_round > 0.7
    assert of_noise < 0.4 * np.vdot(noise[0], alone) / np.vdot(noise[0], before)


@pytest.mark.parametrize("name", ["C7", "D7@-0.64,0.76,0.10@-0.13,0.02,-0.99", "O"])
def test_the_centre_of_symmetry_is_found_where_the_map_has_it(name: str) -> None:
    group = symmetry(name)
    shape = molecule(group=group, radius=45.0)
    centre = np.array([8.0, -5.0, 3.0])
    moved = type(shape)(shape.places + centre, shape.weights, shape.width)
    found = symmetry_centre(moved.density(26), VOXEL_SIZE, group)
    left = centre - found
    if name == "C7":
        # Nothing fixes the place along a lone axis.
        left = left - (left @ group.main_axis) * group.main_axis
    assert np.linalg.norm(left) < 0.5


def test_poses_that_are_copies_of_the_truth_are_right() -> None:
    group = symmetry("C7")
    copies = np.broadcast_to(group.matrices[3], (2, 3, 3))
    assert symmetric_angle_deg(copies, np.broadcast_to(np.eye(3), (2, 3, 3)), group).max() < 1e-4


def test_equal_maps_correlate_fully_and_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 20, 20, 20))
    assert np.allclose(fourier_shell_correlation(one, one, 5.0).correlation, 1)
    assert np.abs(fourier_shell_correlation(one, two, 5.0).correlation[3:]).max() < 0.25


def test_the_resolution_is_where_the_curve_crosses() -> None:
    curve = FSC(np.array([0.01, 0.02, 0.03, 0.04]), np.array([1.0, 0.8, 0.4, 0.0]))
    assert curve.resolution(0.6) == pytest.approx(1 / 0.025)
    assert FSC(np.array([0.01, 0.02]), np.array([1.0, 0.9])).resolution(0.5) == pytest.approx(50)


def test_the_first_shell_alone_does_not_end_a_curve() -> None:
    frequency = np.array([0.01, 0.02, 0.03, 0.04])
    assert FSC(frequency, np.array([0.3, 0.8, 0.4, 0.0])).resolution(0.6) == pytest.approx(1 / 0.025)
    assert FSC(frequency, np.array([0.3, 0.4, 0.8, 0.0])).resolution(0.6) == pytest.approx(100)


def test_one_particle_cannot_be_averaged_in_halves(seen: tuple) -> None:
    volume, picks, _ = seen
    with pytest.raises(InputError, match="halves"):
        run(average([(volume, picks.take([0]))], options=OPTIONS))


def test_particles_without_rotations_are_refused(seen: tuple) -> None:
    volume, picks, _ = seen
    with pytest.raises(InputError, match="no orientations"):
        run(average([(volume, picks.replace(rotations=None))], options=OPTIONS))


def test_the_symmetry_that_an_average_shows_is_proposed_imposed_and_told_of():
    shape = molecule(group=symmetry("C4@1,2,2"), radius=70.0)
    volume, picks, places = tomogram(shape, noise=0.5, count=(1, 3, 4))
    steps, found = followed(average([(volume, picks.replace(positions=places))], group=None, options=OPTIONS))
    notes = [note.text for step in steps for note in step.notes]
    assert found.group.name.startswith("C4@")
    assert np.degrees(np.arccos(abs(found.group.main_axis @ np.array([1, 2, 2]) / 3))) < 3
    assert notes[0] == f"Symmetry {found.group.name} proposed."
    assert "4-fold about" in notes[1]


def test_a_map_that_memory_cannot_hold_is_refused_before_it_is_taken(seen):
    assert Gridding.bytes_of(24) == Gridding(24, VOXEL_SIZE).rows.nbytes
    side = next(side for side in range(24, 10_000, 24) if Gridding.bytes_of(side) > (free_memory() or 2**50))
    if side > 512:
        with pytest.raises(InputError, match="expected an even number from 8 to 512"):
            AveragingOptions(side=side)
        return
    with pytest.raises(InputError, match=f"an average of {side} voxels along each side takes about"):
        run(average([seen[:2]], options=AveragingOptions(side=side)))
