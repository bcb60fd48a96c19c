"""Simulated tomograms: the truth is exact, the physics is as stated, and what cannot be done is said in one line."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import kstest

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_tomogram
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.simulation.microscope import random_shifts, tilt_angles
from napari_orient.engine.simulation.placement import low_pass
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template, bead_density, load_template

SMALL = SimulationOptions(size_x=96, size_y=96, size_z=48, voxel_size=10.0)
FAITHFUL = {"misalignment_low": 0.0, "misalignment_high": 0.0, "snr_low": 1e6, "snr_high": 1e6}
BLURRED = 1.5


@pytest.fixture(scope="module")
def ribosome():
    return load_template("ribosome")


@pytest.fixture(scope="module")
def proteasome():
    return load_template("proteasome")


@pytest.fixture(scope="module")
def crowded(ribosome, proteasome):
    options = SimulationOptions(size_x=176, size_y=176, size_z=72, snr_low=1.8)
    return run(simulate([ribosome, proteasome], options, seed=1, counts=(36, 36)))


def blob(width=30.0):
    """A lopsided template of three Gaussian beads, quick to place."""
    beads = np.array([[0, 0, 0, 1.0, width], [40, 0, 20, 0.8, width / 2], [-10, 30, -20, 0.6, width / 2]], float)
    return Template(bead_density(beads, side=41, voxel_size=5.0), 5.0, "blob")


def reference(template, side):
    """The template on the tomogram's 10 Å grid about its centre, blurred by 15 Å."""
    axis = (np.arange(side) - (side - 1) / 2) * (10.0 / template.voxel_size)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    density = ndimage.map_coordinates(template.density, grid + template.centre[::-1, None, None, None], order=1)
    return ndimage.gaussian_filter(density / density.max(), BLURRED)


def average_in_poses(tomogram, positions, rotations, side):
    """The mean of the particles turned back to the reference frame, (side, side, side), [z, y, x]."""
    axis = np.arange(side) - (side - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    offsets = np.stack([x, y, z], axis=-1)
    total = np.zeros((side, side, side))
    for position, rotation in zip(positions, rotations, strict=True):
        places = offsets @ rotation.T + position / tomogram.voxel_size
        total += ndimage.map_coordinates(tomogram.density, places[..., ::-1].transpose(3, 0, 1, 2), order=1)
    return total / len(positions)


def similarity(average, template):
    wanted = reference(template, len(average))
    mask = ndimage.binary_dilation(wanted > 0.1 * wanted.max(), iterations=1)
    return np.corrcoef(-average[mask], wanted[mask])[0, 1]


def power_in_and_beside_wedge(tomogram, axis):
    """Mean power where a tilt series about an axis cannot see, and where it can, at middling frequency."""
    power = np.abs(np.fft.fftn(tomogram.density)) ** 2
    z, y, x = np.meshgrid(*(np.fft.fftfreq(n) for n in tomogram.density.shape), indexing="ij")
    across = x if axis == "y" else y
    tilt = np.degrees(np.arctan2(np.abs(z), np.abs(across)))
    seen = (np.hypot(z, across) > 0.06) & (np.hypot(z, across) < 0.15) & (np.abs(x + y - across) < 0.05)
    return power[seen & (tilt > 68)].mean(), power[seen & (tilt < 55)].mean()


# --- truth ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "side", "margin"), [("pdb_4v4r", 32, 0.12), ("pdb_3j9i", 24, 0.05)])
def test_particles_averaged_in_their_true_poses_resemble_the_template(crowded, code, side, margin):
    tomogram, particles = crowded
    template = load_template(code)
    chosen = particles.of_kind(code)
    right = similarity(average_in_poses(tomogram, chosen.positions, chosen.rotations, side), template)
    inverse = chosen.rotations.transpose(0, 2, 1)
    wrong = similarity(average_in_poses(tomogram, chosen.positions, inverse, side), template)
    assert right > 0.97
    assert wrong < right - margin


def test_a_faithful_tomogram_is_the_template_at_its_exact_pose_with_contrast_inverted(ribosome):
    options = SimulationOptions(
        size_x=64, size_y=64, size_z=64, tilt_range=88.0, tilt_step=2.0, level=0.001, **FAITHFUL
    )
    tomogram, particles = run(simulate([ribosome], options, seed=3, counts=(1,)))
    average = -average_in_poses(tomogram, particles.positions, particles.rotations, 30)
    axis = (np.arange(30) - 14.5) * 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")) + ribosome.centre[::-1, None, None, None]
    wanted = ndimage.map_coordinates(low_pass(ribosome.density, cutoff=0.25), grid, order=3)
    wanted /= wanted.max()
    smooth = [ndimage.gaussian_filter(item, 1.0) for item in (average, wanted)]
    slope, _ = np.polyfit(smooth[1].ravel(), smooth[0].ravel(), 1)
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.99
    assert 0.9 < slope < 1.1


def test_positions_are_true_to_a_twentieth_of_a_voxel(ribosome):
    options = SimulationOptions(size_x=64, size_y=64, size_z=64, **FAITHFUL)
    tomogram, particles = run(simulate([ribosome], options, seed=11, counts=(1,)))
    seen = -average_in_poses(tomogram, particles.positions, np.eye(3)[None], 40)
    axis = (np.arange(40) - 19.5) * 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    turned = (particles.rotations[0][::-1, ::-1].T @ grid).reshape(3, 40, 40, 40)
    wanted = ndimage.map_coordinates(ribosome.density, turned + ribosome.centre[::-1, None, None, None], order=1)
    product = np.fft.ifftn(np.fft.fftn(seen) * np.conj(np.fft.fftn(ndimage.gaussian_filter(wanted, BLURRED)))).real
    for axis_number in range(3):
        before, here, after = (product[tuple(np.roll([k, 0, 0], axis_number))] for k in (-1, 0, 1))
        assert here > max(before, after)
        assert abs((before - after) / (before - 2 * here + after) / 2) < 0.05


def test_rotations_are_uniform_even_in_a_crowd(proteasome):
    options = SimulationOptions(size_x=160, size_y=160, size_z=48, voxel_size=20.0, tilt_range=0.0)
    _, particles = run(simulate([proteasome], options, seed=2, counts=(300,)))
    angles = np.radians(angle_deg(particles.rotations, np.eye(3)))
    assert kstest(angles, lambda x: (x - np.sin(x)) / np.pi).pvalue > 0.01
    assert np.abs(particles.rotations.mean(axis=0)).max() < 4 / np.sqrt(3 * 300)


def test_counts_kinds_names_and_chains_are_as_asked(crowded):
    tomogram, particles = crowded
    assert [len(particles.of_kind(code)) for code in ("4v4r", "3j9i")] == [36, 36]
    assert tomogram.density.shape == (72, 176, 176)
    assert particles.tomogram_names == [tomogram.name] == ["tomo_001"]
    polymers = particles.extra["polymer"]
    assert (np.diff(polymers) >= 0).all()
    assert len(set(polymers)) < len(particles) / 1.5
    same_kind = {str(code): set(polymers[particles.kind == code]) for code in set(particles.kind)}
    assert not set.intersection(*same_kind.values())


def test_a_chain_links_neighbours_at_one_to_two_links_and_keeps_its_length(crowded):
    _, particles = crowded
    for polymer in set(particles.extra["polymer"]):
        chain = particles.positions[particles.extra["polymer"] == polymer]
        steps = [np.linalg.norm(b - a) for a, b in pairwise(chain)]
        assert sum(steps) <= 3000
        assert all(1.3 * 190 < step < 2.6 * 300 for step in steps)


def test_particles_overlap_by_at_most_one_part_in_a_hundred(crowded, ribosome, proteasome):
    _, particles = crowded
    templates = {"pdb_4v4r": ribosome, "pdb_3j9i": proteasome}
    solids = {code: low_pass(item.density, cutoff=0.25) for code, item in templates.items()}
    solids = {code: density >= 0.1 * density.max() for code, density in solids.items()}
    shared = total = 0
    for mine, (place, rotation, kind) in enumerate(
        zip(particles.positions, particles.rotations, particles.kind, strict=True)
    ):
        points = (np.argwhere(solids[kind])[:, ::-1] - templates[kind].centre) * 5.0 @ rotation.T + place
        total += len(points)
        for other in set(range(len(particles))) - {mine}:
            if np.linalg.norm(particles.positions[other] - place) < 400:
                theirs = (points - particles.positions[other]) @ particles.rotations[other] / 5.0
                theirs = np.rint(theirs + templates[particles.kind[other]].centre).astype(int)
                solid = solids[particles.kind[other]]
                inside = ((theirs >= 0) & (theirs < solid.shape[0])).all(axis=1)
                shared += solid[tuple(theirs[inside, ::-1].T)].sum()
    assert shared / total < 0.01


# --- physics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "other"), [("y", "x"), ("x", "y")])
def test_the_missing_wedge_lies_where_the_tilt_axis_says(ribosome, axis, other):
    options = SimulationOptions(size_x=64, size_y=64, size_z=64, tilt_axis=axis, **FAITHFUL)
    tomogram, _ = run(simulate([ribosome], options, seed=1, counts=(2,)))
    missing, measured = power_in_and_beside_wedge(tomogram, axis)
    assert missing < 0.02 * measured
    missing, measured = power_in_and_beside_wedge(tomogram, other)
    assert missing > 0.05 * measured


def test_particles_are_dark(crowded):
    tomogram, particles = crowded
    corners = np.rint(particles.positions / 10).astype(int)
    centres = [tomogram.density[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4].mean() for x, y, z in corners]
    assert np.mean(centres) < tomogram.density.mean() - 0.5 * tomogram.density.std()


def test_noise_falls_as_the_signal_to_noise_ratio_rises(ribosome):
    spread = []
    for snr in (1.0, 2.0):
        options = SimulationOptions(size_x=64, size_y=64, size_z=48, snr_low=snr, snr_high=snr)
        tomogram, _ = run(simulate([ribosome], options, seed=4, counts=(2,)))
        power = np.abs(np.fft.fftn(tomogram.density)) ** 2
        high = np.abs(np.fft.fftfreq(64)) > 0.4
        spread.append(power[:, high].mean())
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.02)


def test_misalignment_blurs_fine_detail_and_spares_coarse(ribosome):
    faithful = {**FAITHFUL, "size_x": 64, "size_y": 64, "size_z": 64}
    plain, _ = run(simulate([ribosome], SimulationOptions(**faithful), seed=1, counts=(2,)))
    moved, _ = run(
        simulate([ribosome], SimulationOptions(**{**faithful, "misalignment_high": 2.0}), seed=1, counts=(2,))
    )
    radius = np.linalg.norm(np.stack(np.meshgrid(*[np.fft.fftfreq(64)] * 3)), axis=0)
    before, after = (np.fft.fftn(item.density) for item in (plain, moved))
    left = [
        (after * before.conj())[shell].real.sum() / (np.abs(before[shell]) ** 2).sum()
        for shell in ((radius > low) & (radius < low + 0.03) for low in (0.02, 0.2))
    ]
    assert left[0] > 0.9
    assert left[1] < 0.7


def test_the_lower_ramp_cutoff_silences_noise_across_the_tilt_axis_only(ribosome):
    power = []
    for cutoff in (0.5, 0.35):
        options = SimulationOptions(size_x=64, size_y=64, size_z=48, ramp_cutoff=cutoff)
        tomogram, _ = run(simulate([ribosome], options, seed=4, counts=(1,)))
        power.append(np.abs(np.fft.fftn(tomogram.density)[0]) ** 2)
    fast = np.abs(np.fft.fftfreq(64)) > 0.47
    assert power[1][:, fast].mean() < 0.05 * power[0][:, fast].mean()
    assert power[1][fast][:, ~fast].mean() > 0.4 * power[0][fast][:, ~fast].mean()


def test_misalignment_grows_with_tilt_and_moves_nothing_as_a_whole():
    angles = tilt_angles(60, 3)
    rng = np.random.default_rng(0)
    many = np.array([random_shifts(angles, low=1.0, high=2.0, rng=rng) for _ in range(2000)])
    cosine, sine = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    assert np.abs(many[..., 0] @ np.stack([cosine, sine], axis=1)).max() < 1e-9
    assert np.abs(many[..., 1].mean(axis=1)).max() < 1e-9
    length = np.sqrt((many**2).sum(axis=2).mean(axis=0))
    assert length[20] == pytest.approx(1.0, abs=0.08)
    assert length[[0, -1]] == pytest.approx(2.0, abs=0.12)


def test_tilts_run_evenly_from_minus_to_plus_the_range():
    assert tilt_angles(60, 3).tolist() == list(range(-60, 61, 3))
    assert tilt_angles(0, 3).tolist() == [0]
    assert tilt_angles(50, 40).tolist() == [-50, -10, 30]


def test_low_pass_keeps_what_can_be_sampled_and_removes_what_would_alias():
    x = np.arange(64)
    slow, fast = np.cos(2 * np.pi * 0.10 * x), np.cos(2 * np.pi * 0.32 * x)
    window = np.hanning(64)
    volume = (window[:, None, None] * window[:, None] * window * (slow + fast)).astype(np.float32)
    wanted = (window[:, None, None] * window[:, None] * window * slow).astype(np.float32)
    assert np.abs(low_pass(volume, cutoff=0.25) - wanted).max() < 0.02


def test_templates_of_any_voxel_size_give_the_same_tomogram():
    beads = np.array([[0, 0, 0, 1.0, 30.0], [40, 0, 20, 0.8, 20.0], [-10, 30, -20, 0.6, 20.0]])
    options = SimulationOptions(size_x=48, size_y=48, size_z=48, level=0.01, **FAITHFUL)
    tomograms = []
    for size, side in ((4.0, 81), (10.0, 34)):
        template = Template(bead_density(beads, side=side, voxel_size=size), size, "beads")
        tomogram, particles = run(simulate([template], options, seed=7, counts=(1,)))
        tomograms.append(average_in_poses(tomogram, particles.positions, particles.rotations, 20))
    assert np.corrcoef(tomograms[0].ravel(), tomograms[1].ravel())[0, 1] > 0.98


# --- streams ----------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_tomogram_and_another_seed_another():
    first, again, other = (run(simulate([blob()], SMALL, seed=seed, counts=(8,))) for seed in (1, 1, 2))
    assert np.array_equal(first[0].density, again[0].density)
    assert np.array_equal(first[1].positions, again[1].positions)
    assert np.array_equal(first[1].rotations, again[1].rotations)
    assert not np.allclose(first[0].density, other[0].density)
    assert not np.allclose(first[1].rotations, other[1].rotations)


def test_progress_counts_up_to_its_total_and_comes_often(ribosome):
    steps = list(simulate([ribosome], SMALL, seed=1, counts=(5,)))
    assert [step.done for step in steps] == list(range(1, steps[-1].total + 1))
    assert steps[0].total == 5 + 2 * 41  # Every particle, every tilt projected, every tilt put back.


def test_stop_midway_frees_the_volumes():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        stream = simulate([blob()], SimulationOptions(size_x=128, size_y=128, size_z=128), seed=1, counts=(3,))
        for _ in range(10):
            next(stream)
        held = tracemalloc.get_traced_memory()[0] - before
        stream.close()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held > 16e6
    assert left < 1e6


def test_a_tomogram_without_particles_is_noise():
    tomogram, particles = run(simulate([blob()], SMALL, seed=1, counts=(0,)))
    assert len(particles) == 0
    assert np.isfinite(tomogram.density).all()
    assert tomogram.density.std() > 0


# --- what cannot be done ----------------------------------------------------------------------------------------


def test_too_many_particles_says_how_many_fitted():
    with pytest.raises(InputError, match=r"only (\d+) of 5000 particles of blob fit .* Ask for at most \1"):
        run(simulate([blob()], SMALL, seed=1, counts=(5000,)))


def test_a_template_larger_than_the_tomogram_is_refused_before_any_work(ribosome):
    with pytest.raises(InputError, match=r"pdb_4v4r is \d+ Å long, but the tomogram leaves 80 Å .* larger"):
        simulate([ribosome], SimulationOptions(size_x=64, size_y=64, size_z=16), seed=1)


@pytest.mark.parametrize("counts", [(1,), (1, 2, 3), (1, -1)])
def test_counts_that_do_not_match_the_templates_are_refused(counts):
    with pytest.raises(InputError, match="expected 2 whole numbers"):
        simulate([blob(), blob()], SMALL, seed=1, counts=counts)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1; expected"):
        simulate([blob()], SMALL, seed=-1)


def test_no_template_is_refused():
    with pytest.raises(InputError, match="no template"):
        simulate([], SMALL, seed=1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"snr_low": 2.0, "snr_high": 1.0}, "snr_low is 2 and snr_high is 1"),
        ({"misalignment_low": 3.0}, "misalignment_low is 3"),
        ({"tilt_axis": "z"}, "one of y, x"),
        ({"size_x": 8}, "at least 16|from 16"),
        ({"voxel_size": float("nan")}, "voxel_size"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        SimulationOptions(**wrong)


@pytest.mark.parametrize(
    ("density", "voxel_size", "words"),
    [
        (np.zeros((8, 8, 8)), 10.0, "no density above 0"),
        (-np.ones((8, 8, 8)), 10.0, "Invert"),
        (np.full((8, 8, 8), np.nan), 10.0, "not finite"),
        (np.ones((8, 8)), 10.0, "expected a volume"),
        (np.ones((8, 8, 8)), 0.0, "expected a positive size"),
    ],
)
def test_a_template_that_is_no_density_is_refused(density, voxel_size, words):
    with pytest.raises(InputError, match=words):
        Template(density, voxel_size, "bad")


def test_a_template_file_brings_its_voxel_size_and_is_named_after_its_entry(tmp_path):
    density = blob().density
    for stem, name in (("4v4r", "pdb_4v4r"), ("3j9i_5A", "pdb_3j9i"), ("my_map", "my_map"), ("2024", "2024")):
        write_tomogram(tmp_path / f"{stem}.mrc", density, voxel_size=5.0)
        template = load_template(tmp_path / f"{stem}.mrc")
        assert template.name == name
        assert template.voxel_size == 5.0
        assert np.allclose(template.density, density)


@pytest.mark.parametrize("name", ["ribosme", "missing.mrc", "/nowhere/4v4r.mrc"])
def test_a_template_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=r"neither a file nor a map that comes|no such file"):
        load_template(name)
