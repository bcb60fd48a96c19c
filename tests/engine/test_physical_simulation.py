"""Simulated tilt series of a microscope: exact projections, transfer, dose, geometry, surroundings, postprocessing."""

import numpy as np
import pytest
from scipy import ndimage

from napari_orient.cli import main
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled
from napari_orient.engine.io.star import read_star
from napari_orient.engine.io.tilt_metadata import read_tilt_series
from napari_orient.engine.model.tilt_series import Optics, TiltSeries, contrast_transfer, dose_damping
from napari_orient.engine.simulation.projection import Detector, Points, Specimen, rigid_bodies
from napari_orient.engine.simulation.simulate import simulate, simulated_tilt_series
from napari_orient.engine.simulation.specimen import bent_bodies, membranes
from napari_orient.engine.simulation_options import SimulationOptions, SurroundingsOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template, bead_density, load_template

CLEAN = {"noise": 0.0, "misalignment_low": 0.0, "misalignment_high": 0.0, "defocus_jitter": 0.0, "imaging": "physical"}
SMALL = {"size_x": 64, "size_y": 64, "size_z": 48}
BLURRED = 1.5


def blob():
    """A lopsided template of Gaussian beads."""
    beads = np.array([[0, 0, 0, 1.0, 25.0], [50, 0, 20, 0.8, 15.0], [-10, 40, -20, 0.6, 15.0]], float)
    return Template(bead_density(beads, side=51, voxel_size=5.0), 5.0, "blob")


def made(template, *, seed=2, count=4, others=(), **options):
    return run(simulate([template], SimulationOptions.of(**options), seed=seed, counts=(count,), others=others))


def average_in_poses(tomogram, particles, side):
    """The mean of the particles turned back to the reference frame, (side, side, side), [z, y, x]."""
    axis = np.arange(side) - (side - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    offsets = np.stack([x, y, z], axis=-1)
    total = np.zeros((side, side, side))
    for position, rotation in zip(particles.positions, particles.rotations, strict=True):
        places = offsets @ rotation.T + position / tomogram.voxel_size
        total += ndimage.map_coordinates(tomogram.density, places[..., ::-1].transpose(3, 0, 1, 2), order=1)
    return total / len(particles)


def similarity(average, template, voxel_size=10.0):
    """Correlation with the inverted template inside its mask."""
    axis = (np.arange(len(average)) - (len(average) - 1) / 2) * voxel_size / template.voxel_size
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")) + template.centre[::-1, None, None, None]
    wanted = ndimage.gaussian_filter(ndimage.map_coordinates(template.density, grid, order=1), BLURRED)
    mask = ndimage.binary_dilation(wanted > 0.1 * wanted.max())
    return np.corrcoef(-average[mask], wanted[mask])[0, 1]


def inverted(particles):
    return particles.replace(rotations=particles.rotations.transpose(0, 2, 1))


def frequencies(shape, voxel_size=10.0):
    """Frequencies of a transformed volume, (Z, Y, X, 3) xyz in cycles/Å."""
    z, y, x = np.meshgrid(*(np.fft.fftfreq(n, voxel_size) for n in shape), indexing="ij")
    return np.stack([x, y, z], axis=-1)


def gain(changed, plain, within):
    """Least-squares factor from the plain to the changed tomogram among these frequencies, and its scatter."""
    one, other = (np.fft.fftn(item.density)[within] for item in (plain, changed))
    return (other * one.conj()).real.sum() / (np.abs(one) ** 2).sum()


# --- PolNet's recipe stays ------------------------------------------------------------------------------------------


def test_without_new_options_a_seed_gives_the_tomogram_that_it_always_gave():
    beads = np.array([[0, 0, 0, 1.0, 30.0], [40, 0, 20, 0.8, 15.0], [-10, 30, -20, 0.6, 15.0]], float)
    template = Template(bead_density(beads, side=41, voxel_size=5.0), 5.0, "blob")
    options = SimulationOptions(size_x=96, size_y=96, size_z=48, voxel_size=10.0)
    tomogram, particles = run(simulate([template], options, seed=1, counts=(8,)))
    assert tomogram.density[24, 48, 40:44] == pytest.approx([0.01916935, 0.01437456, -0.0268955, -0.04220135], rel=1e-4)
    assert np.abs(tomogram.density).mean() == pytest.approx(0.022865450, rel=1e-5)
    assert particles.positions[1] == pytest.approx([818.99801293, 611.95971065, 134.82833263])


# --- projection -------------------------------------------------------------------------------------------------------


def test_a_projection_of_a_map_is_its_sum_along_the_beam():
    template, pose = blob(), np.eye(3)[[2, 0, 1]]
    body = rigid_bodies(template, np.array([[30.0, -20.0, 10.0]]), pose[None], pixel=5.0)
    detector = Detector((96, 80), 5.0)
    ((_, image),) = Specimen([body]).project(np.eye(3), detector)
    # The map's x, y and z point along the specimen's y, z and x.
    turned = np.moveaxis(template.density / template.density.max(), (2, 1, 0), (1, 0, 2))
    whole = np.zeros((96, 80))
    whole[48 - 25 - 4 : 48 + 26 - 4, 40 - 25 + 6 : 40 + 26 + 6] = turned.sum(axis=0)
    assert np.abs(image.numpy() - whole).max() < 0.01 * whole.max()


def test_points_add_up_to_their_mass_and_lie_where_they_are():
    detector, place = Detector((64, 72), 5.0), np.array([[33.0, -47.0, 200.0]])
    for points, volume in (
        (Points(place, 0.7, 16.0), (2 * np.pi) ** 1.5 * 16**3),
        (Points(place, 12.0, 40.0, is_sphere=True), 4 / 3 * np.pi * 40**3),
    ):
        ((_, image),) = Specimen([points]).project(np.eye(3), detector)
        assert float(image.sum()) == pytest.approx(points.density * volume / 5**3, rel=1e-3)
        y, x = ndimage.center_of_mass(
            np.clip(image.numpy(), 0.05 * float(image.max()), None) - 0.05 * float(image.max())
        )
        assert [(x - 36) * 5, (y - 32) * 5] == pytest.approx(place[0, :2], abs=1.0)


def test_slabs_of_height_add_up_to_the_whole_projection():
    rng = np.random.default_rng(0)
    body = rigid_bodies(blob(), rng.uniform(-300, 300, (6, 3)), np.repeat(np.eye(3)[None], 6, axis=0), pixel=10.0)
    specimen, detector = (
        Specimen([body, Points(rng.uniform(-300, 300, (40, 3)), 1.0, 10.0)]),
        Detector((100, 100), 10.0),
    )
    ((height, whole),) = specimen.project(np.eye(3), detector)
    slabs = list(specimen.project(np.eye(3), detector, by_height=True))
    assert height == 0
    assert len(slabs) > 2
    assert np.allclose(sum(image for _, image in slabs), whole, atol=1e-4)


def test_particles_averaged_in_their_true_poses_resemble_the_template_whatever_the_geometry():
    template = load_template("ribosome")
    size = {"size_x": 128, "size_y": 128, "size_z": 72, "count": 10, "noise": 0.4}
    for options in ({"imaging": "physical"}, {"axis_angle": 30.0, "level_angle": 8.0}, {"lowest_tilt": -40.0}):
        tomogram, particles = made(template, **size, **options)
        right = similarity(average_in_poses(tomogram, particles, 34), template)
        assert right > 0.96
        assert similarity(average_in_poses(tomogram, inverted(particles), 34), template) < right - 0.1


def test_density_is_that_of_the_template_in_units_of_its_peak():
    options = {"size_x": 64, "size_y": 64, "size_z": 64, "tilt_range": 88.0, "tilt_step": 2.0, **CLEAN}
    template = load_template("ribosome")
    tomogram, particles = made(template, count=1, **options)
    average = -average_in_poses(tomogram, particles, 30)
    axis = (np.arange(30) - 14.5) * 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")) + template.centre[::-1, None, None, None]
    wanted = ndimage.map_coordinates(template.density, grid, order=3)
    smooth = [ndimage.gaussian_filter(item, 1.5) for item in (average, wanted / wanted.max())]
    slope, _ = np.polyfit(smooth[1].ravel(), smooth[0].ravel(), 1)
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.99
    assert 0.85 < slope < 1.15


# --- transfer, dose, noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defocus", [2.0, 3.5])
def test_the_tomogram_holds_the_contrast_transfer_function_with_its_zeros_and_signs(defocus):
    template = load_template("ribosome")
    size = {"size_x": 96, "size_y": 96, "size_z": 64, "count": 4, **CLEAN}
    plain, _ = made(template, **size)
    raw, _ = made(template, **size, defocus=defocus)
    flipped, _ = made(template, **size, defocus=defocus, ctf_correction="flipped")
    at = frequencies(plain.density.shape)
    length = np.linalg.norm(at, axis=-1)
    measured = (np.abs(at[..., 2]) < np.abs(at[..., 0])) & (np.abs(at[..., 0]) > 0.004)
    for low in np.arange(0.006, 0.044, 0.004):
        shell = measured & (length > low) & (length < low + 0.004)
        power = np.abs(np.fft.fftn(plain.density)[shell]) ** 2
        plane = np.stack([length[shell], np.zeros(shell.sum())], axis=-1)
        transfer = contrast_transfer(plane, np.array([defocus, defocus]), optics=Optics())
        assert gain(raw, plain, shell) == pytest.approx((transfer * power).sum() / power.sum(), abs=0.06)
        assert gain(flipped, plain, shell) == pytest.approx((np.abs(transfer) * power).sum() / power.sum(), abs=0.06)


def test_deconvolution_lifts_what_the_transfer_took_from_coarse_detail():
    template = load_template("ribosome")
    size = {"size_x": 96, "size_y": 96, "size_z": 64, "count": 4, **CLEAN, "defocus": 3.5}
    plain, _ = made(template, **{**size, "defocus": None})
    raw, deconvolved = (made(template, **size, ctf_correction=kind)[0] for kind in ("none", "deconvolved"))
    at = frequencies(plain.density.shape)
    length = np.linalg.norm(at, axis=-1)
    measured = np.abs(at[..., 2]) < np.abs(at[..., 0])
    coarse, middle = (measured & (length > low) & (length < low + 0.004) for low in (0.006, 0.02))
    assert gain(deconvolved, plain, coarse) / gain(deconvolved, plain, middle) > 3 * gain(raw, plain, coarse) / gain(
        raw, plain, middle
    )


def test_the_dose_damps_each_image_by_what_came_before_it():
    options = SimulationOptions.of(dose=3.0, tilt_range=6.0, tilt_step=3.0)
    series = simulated_tilt_series(options, seed=0)
    assert series.dose == pytest.approx([10.5, 4.5, 1.5, 7.5, 13.5])
    assert simulated_tilt_series(options.replace(tilt_order="sequential"), seed=0).dose == pytest.approx(
        [1.5, 4.5, 7.5, 10.5, 13.5]
    )
    one = {**SMALL, **CLEAN, "tilt_range": 0.0}
    plain, damped = made(blob(), **one)[0], made(blob(), **one, dose=40.0)[0]
    length = np.linalg.norm(frequencies(plain.density.shape), axis=-1)
    shell = (length > 0.02) & (length < 0.022)
    wanted = dose_damping(np.array(0.021), np.array(20.0))
    assert gain(damped, plain, shell) == pytest.approx(float(wanted), abs=0.02)


def test_the_envelope_is_that_of_its_b_factor():
    one = {**SMALL, **CLEAN, "tilt_range": 0.0}
    plain, blurred = made(blob(), **one)[0], made(blob(), **one, b_factor=2000.0)[0]
    length = np.linalg.norm(frequencies(plain.density.shape), axis=-1)
    shell = (length > 0.02) & (length < 0.022)
    assert gain(blurred, plain, shell) == pytest.approx(np.exp(-2000 * 0.021**2 / 4), abs=0.02)


def test_noise_grows_with_its_factor_and_a_pixel_of_half_the_width_has_four_times_as_much():
    empty = {"count": 0, "imaging": "physical", **SMALL}
    plain, louder = (made(blob(), **empty, noise=noise)[0].density.std() for noise in (1.0, 3.0))
    assert louder / plain == pytest.approx(3.0, rel=1e-4)
    polnet = [made(blob(), **SMALL, count=0, noise=noise)[0].density.std() for noise in (1.0, 3.0)]
    assert polnet[1] / polnet[0] == pytest.approx(3.0, rel=1e-4)
    # A tomogram's noise is a mean over pixels: brought to the same resolution, both have the same density of noise.
    fine = made(blob(), count=0, imaging="physical", size_x=128, size_y=128, size_z=96, voxel_size=5.0)[0].density
    coarse = made(blob(), **empty)[0].density
    power = [np.abs(np.fft.fftn(item)) ** 2 / item.size * size**3 for item, size in ((fine, 5.0), (coarse, 10.0))]
    low = [np.linalg.norm(frequencies(item.shape, size), axis=-1) < 0.03 for item, size in ((fine, 5), (coarse, 10))]
    assert power[0][low[0]].mean() / power[1][low[1]].mean() == pytest.approx(1.0, rel=0.15)


def test_a_shorter_free_path_takes_contrast_from_high_tilts_alone():
    at_tilt = {**SMALL, **CLEAN, "tilt_step": 1.0}
    for lowest, wanted in ((0.0, 1.0), (60.0, np.exp(-480 / (2 * 3000)))):
        options = {**at_tilt, "tilt_range": lowest, "lowest_tilt": lowest}
        plain, short = (made(blob(), **options, mean_free_path=path)[0] for path in (None, 300.0))
        length = np.linalg.norm(frequencies(plain.density.shape), axis=-1)
        assert gain(short, plain, (length > 0.005) & (length < 0.03)) == pytest.approx(wanted, rel=0.01)


def test_height_changes_the_defocus_of_what_lies_there():
    body = rigid_bodies(blob(), np.array([[0.0, 0.0, 600.0]]), np.eye(3)[None], pixel=10.0)
    heights = [height for height, _ in Specimen([body]).project(np.eye(3), Detector((64, 64), 10.0), by_height=True)]
    assert heights == [600.0]


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "level"), [(0.0, 0.0), (25.0, 0.0), (11.0, 5.0)])
def test_what_no_image_measured_is_missing_and_what_some_did_is_not(axis, level):
    geometry = {"axis_angle": axis, "level_angle": level}
    options = SimulationOptions.of(**SMALL, **CLEAN, **geometry)
    tomogram, _ = run(simulate([blob()], options, seed=1, counts=(3,)))
    series = simulated_tilt_series(options, seed=1)
    at = frequencies(tomogram.density.shape)
    length = np.linalg.norm(at, axis=-1)
    distance = np.abs(at @ series.axes[:, 2].T).min(axis=-1)
    across = np.linalg.norm(at - (at @ series.axis)[..., None] * series.axis, axis=-1)
    band = (length > 0.008) & (length < 0.02)
    power = np.abs(np.fft.fftn(tomogram.density)) ** 2
    missing = power[band & (distance > 0.15 * length)].mean()
    measured = power[band & (distance < 0.03 * length) & (across > 0.6 * length)].mean()
    assert missing < 0.02 * measured


def test_missing_tilts_and_an_own_lowest_tilt_are_those_of_the_series():
    options = SimulationOptions.of(tilt_step=2.0, lowest_tilt=-40.0, missing_tilts=5, imaging="physical")
    tilts = simulated_tilt_series(options, seed=3).tilt_deg
    assert len(tilts) == 51 - 5
    assert set(np.round(tilts)) < set(range(-40, 61, 2))
    along_x = simulated_tilt_series(SimulationOptions.of(tilt_axis="x", imaging="physical"), seed=0)
    assert np.abs(along_x.axis) == pytest.approx([1, 0, 0], abs=1e-6)


def test_relions_angles_of_the_written_series_give_its_projections(tmp_path, capsys):
    words = "simulate ribosome --tomograms 2 --particles 1 --size-x 64 --size-y 64 --size-z 64 --defocus 3 --dose 2.5"
    geometry = "--axis-angle 11 --level-angle 5 --astigmatism 0.3 --defocus-error 0.05"
    assert main([*words.split(), *geometry.split(), "--output", str(tmp_path)]) == 0
    capsys.readouterr()
    folder = tmp_path / "Tomo002"
    table = read_star(folder / "tomograms.star")["global"]
    assert table["rlnTomoName"] == ("tomo_002",)
    (images,) = read_star(folder / table["rlnTomoTiltSeriesStarFile"][0]).values()
    column = {name: np.array(values, float) for name, values in images.items()}
    series = TiltSeries.of_angles(np.arange(-60.0, 61.0, 3.0), axis_deg=11.0, level_deg=5.0)
    for index in (0, 20, 33):
        x, y, z = (np.radians(column[f"rlnTomo{name}"][index]) for name in ("XTilt", "YTilt", "ZRot"))
        about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        assert np.allclose(about_z @ about_y @ about_x, series.axes[index], atol=1e-5)
    assert column["rlnDefocusU"] - column["rlnDefocusV"] == pytest.approx(np.full(41, 3000.0), abs=0.1)
    assert 0.05 < np.std(column["rlnDefocusU"]) * 1e-4 < 0.2
    assert column["rlnMicrographPreExposure"][[20, 0]] == pytest.approx([0.0, 2.5 * 39], abs=2.6)
    assert len(read_labelled(tmp_path)) == 2
    read = read_tilt_series(folder / "tomograms.star", tomogram="tomo_002")
    assert np.allclose(read.axes, series.axes, atol=1e-5)
    assert read.defocus_um[:, 0] * 1e4 == pytest.approx(column["rlnDefocusU"], abs=0.1)


# --- surroundings -----------------------------------------------------------------------------------------------------


def test_a_membrane_is_as_dense_as_stated_and_two_leaflets_thick():
    extent = np.array([600.0, 600.0, 600.0])
    points = membranes(SurroundingsOptions.of(vesicles=1), 1e4 * extent, np.random.default_rng(1))
    centre = points.positions.mean(axis=0)
    radius = np.linalg.norm(points.positions - centre, axis=1)
    assert np.ptp(radius) == pytest.approx(40.0, abs=1.0)
    near = points.positions[np.linalg.norm(points.positions - points.positions[-1], axis=1) < 60]
    middle = near[np.argmin(np.linalg.norm(near - near.mean(axis=0), axis=1))]
    square = ((near - middle) ** 2).sum(axis=1)
    assert points.density * np.exp(-square / (2 * points.size**2)).sum() == pytest.approx(0.4, rel=0.15)


def test_everything_around_is_imaged_but_not_in_the_truth_and_particles_keep_clear_of_it():
    around = {"gold": 2, "membranes": 1, "vesicles": 1, "filaments": 1, "other_particles": 3}
    size = {"size_x": 96, "size_y": 96, "size_z": 64}
    other = Template(blob().density, 5.0, "other")
    tomogram, particles = made(blob(), others=[other], count=5, **size, **around, **CLEAN)
    assert particles.kinds == ["blob"]
    assert len(particles) == 5
    plain, _ = made(blob(), count=5, **size, **CLEAN)
    assert tomogram.density.min() < 5 * plain.density.min()


def test_others_that_do_not_fit_are_left_out_and_templates_are_not():
    full = {"size_x": 48, "size_y": 48, "size_z": 48, "imaging": "physical", "other_particles": 5000}
    _, particles = made(blob(), others=[blob()], count=1, **full)
    assert len(particles) == 1
    with pytest.raises(InputError, match="particles of blob fit"):
        made(blob(), count=5000, **{**full, "other_particles": 0})


def test_a_particle_bent_by_nothing_is_the_whole_and_a_third_moves_otherwise():
    template, detector = load_template("ribosome"), Detector((64, 64), 10.0)
    place = (np.zeros((1, 3)), np.eye(3)[None])

    def image(parts):
        return next(Specimen(parts).project(np.eye(3), detector))[1].numpy()

    whole = image([rigid_bodies(template, *place, pixel=10.0)])
    straight, bent = (image(bent_bodies(template, *place, np.array([angle]), pixel=10.0)) for angle in (0.0, 20.0))
    assert np.abs(straight - whole).max() < 0.02 * whole.max()
    assert 0.3 < np.corrcoef(bent.ravel(), whole.ravel())[0, 1] < 0.999
    assert bent.sum() == pytest.approx(whole.sum(), rel=0.01)


# --- postprocessing ---------------------------------------------------------------------------------------------------


def test_a_mirrored_tomogram_holds_the_mirrored_template_in_its_true_poses():
    template = load_template("ribosome")
    tomogram, particles = made(
        template, size_x=128, size_y=128, size_z=72, count=10, noise=0.4, mirror=True, imaging="physical"
    )
    mirrored = Template(np.ascontiguousarray(template.density[::-1]), template.voxel_size, "mirrored")
    average = average_in_poses(tomogram, particles, 34)
    assert similarity(average, mirrored) > 0.96
    assert similarity(average, template) < 0.9


def smoother(new, old):
    """Whether neighbouring voxels differ less."""
    return np.diff(new).std() < 0.8 * np.diff(old).std()


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({"contrast": "bright"}, lambda new, old: np.array_equal(new, -old)),
        (
            {"eight_bit": True},
            lambda new, old: new.dtype == np.int8 and np.corrcoef(new.ravel(), old.ravel())[0, 1] > 0.95,
        ),
        ({"clip": 2.0}, lambda new, old: np.abs(new - old.mean()).max() < 2.001 * old.std()),
        (
            {"added_ramp": 10.0},
            lambda new, old: 8 < np.diff((new - old).mean(axis=(0, 1))[[0, -1]])[0] / old.std() < 11,
        ),
        ({"multiplied_ramp": 3.0}, lambda new, old: np.allclose(new[..., -1], 3 * old[..., -1])),
        ({"denoising": "gaussian"}, smoother),
        ({"denoising": "median"}, smoother),
        ({"denoising": "tv"}, smoother),
        ({"local_normalisation": 21}, lambda new, old: 0.8 < new.std() < 1.2),
    ],
)
def test_what_is_done_afterwards_is_what_was_asked(options, holds):
    old = made(blob(), **SMALL)[0].density
    new = made(blob(), **SMALL, **options)[0].density
    assert holds(np.asarray(new), np.asarray(old))


# --- what makes no sense ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ctf_correction": "flipped"}, "ctf_correction is flipped, but there is no defocus"),
        ({"imaging": "polnet", "defocus": 3.0}, "imaging is polnet, which has no microscope"),
        ({"lowest_tilt": 70.0}, "lowest_tilt is 70 and tilt_range 60"),
        ({"defocus": -3.0}, "defocus is -3"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        SimulationOptions.of(**options)
