"""The mixture network: its views, its input, the patches that it learns from, its training and its predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_orient.cli import main
from napari_orient.engine.errors import InputError
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.networks.average_score import prior_log_odds, with_prior
from napari_orient.engine.networks.mixture import PoseMixture, cube_rotations
from napari_orient.engine.networks.network import Network
from napari_orient.engine.networks.tomogram_input import (
    estimate_whitening,
    mirror_images,
    spectra_of,
)
from napari_orient.engine.parameters import MixtureOptions, NetworkOptions, PredictionOptions, SimulatedTrainingOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.simulation.patches import Condition, PatchSimulator, centred, random_condition
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template
from napari_orient.engine.training.network import Epoch, TrainingState
from napari_orient.engine.training.simulated import SimulatedRun, logistic_regression, train_on_simulations
from napari_orient.engine.training.train import train

SMALL = MixtureOptions(
    patch_side=20,
    patch_voxel_size=20.0,
    network_resolution=60.0,
    components=24,
    width=24,
    depth=2,
    refiner_components=16,
    refiner_width=16,
)
SHORT = SimulatedTrainingOptions.of(
    epochs=2, refiner_epochs=1, conditions=2, patches=8, passes=1, batch=8, device="cpu"
)
TILTS = TiltSeries.of_angles(np.arange(-60.0, 61.0, 3.0))


def mixture(options: MixtureOptions = SMALL) -> PoseMixture:
    network = PoseMixture(options, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for part in (network.proposer, network.refiner):
        part.basis.copy_(torch.linalg.qr(torch.randn(part.basis.shape, generator=generator))[0])
        part.layers[-1].weight.data.mul_(30)  # So that an untrained network answers something.
    return network.eval()


@pytest.fixture(scope="module")
def simulator() -> PatchSimulator:
    rng = np.random.default_rng(0)
    return PatchSimulator(load_template("4v4r"), [load_template("3j9i")], SMALL, rng, clutter=4, variants=2)


def smooth_spectra(count: int, seed: int = 0) -> torch.Tensor:
    side = SMALL.view_side
    cubes = torch.randn(count, side, side, side, generator=torch.Generator().manual_seed(seed))
    spectra = torch.fft.rfftn(cubes, dim=(1, 2, 3))
    radius = torch.fft.fftfreq(side, 1 / side).square()
    distance = radius[:, None, None] + radius[:, None] + torch.arange(side // 2 + 1).square()
    # Nothing at the Nyquist frequency, as whitened patches have it.
    return spectra * torch.exp(-distance / 12) * (distance < (side / 2 - 0.5) ** 2)


# --- views --------------------------------------------------------------------------------------------------------


def test_views_are_the_patch_sampled_in_the_rotations_of_the_cube():
    network, spectra = mixture(), smooth_spectra(3)
    centres = torch.tensor([[0.0, 0, 0], [13.0, -7, 22], [-31.0, 5, 9]])
    views = network.rotated_views(spectra, centres)
    frames = network.frames.expand(3, 24, 3, 3)
    sampled = network.posed_views(network.fine_cubes(spectra), frames, centres[:, None].expand(3, 24, 3))
    both = torch.stack([views.flatten(), sampled.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.98  # Linear interpolation dampens fine detail.


def test_a_patch_rotated_by_the_cube_has_its_proposals_rotated():
    network, spectra = mixture(), smooth_spectra(4)
    side = SMALL.view_side
    cubes = torch.fft.irfftn(spectra, s=(side,) * 3, dim=(1, 2, 3))
    for rotation in cube_rotations()[[1, 7, 13, 23]]:
        line = torch.arange(side) - side // 2
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        source = (torch.stack([x, y, z], dim=-1).float() @ rotation).round().long() + side // 2
        source = source % side
        turned = cubes[:, source[..., 2], source[..., 1], source[..., 0]]
        first, second = (network.proposals(found) for found in (spectra, torch.fft.rfftn(turned, dim=(1, 2, 3))))
        torch.testing.assert_close(second.logit, first.logit, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(second.rotations, rotation @ first.rotations, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(second.shifts, first.shifts @ rotation.T, atol=2e-2, rtol=1e-3)


def test_hypotheses_are_rotations_and_their_order_is_that_of_their_odds():
    found = mixture().hypotheses(smooth_spectra(5))
    torch.testing.assert_close(torch.linalg.det(found.rotations), torch.ones(found.logit.shape), atol=1e-4, rtol=0)
    assert bool((found.logit.diff(dim=1) <= 0).all())


# --- input --------------------------------------------------------------------------------------------------------


def noise_patches(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *(SMALL.patch_side,) * 3, generator=torch.Generator().manual_seed(seed))


def test_coloured_noise_is_white_after_whitening():
    noise = noise_patches(64)
    spectrum = torch.fft.rfftn(noise, dim=(1, 2, 3))
    line = torch.fft.fftfreq(SMALL.patch_side).abs()
    spectrum = spectrum / (0.05 + line[:, None, None] + line[:, None] + torch.fft.rfftfreq(SMALL.patch_side))
    coloured = torch.fft.irfftn(spectrum, s=noise.shape[1:], dim=(1, 2, 3))
    power = estimate_whitening(coloured, SMALL).apply(coloured).abs().square().mean(0)
    inside = power[power > 0]
    assert float(inside.quantile(0.05)) > 0.55
    assert float(inside.quantile(0.95)) < 1.35


def test_input_does_not_change_with_scale_offset_or_gradient():
    noise = noise_patches(2)
    line = torch.linspace(-1, 1, SMALL.patch_side)
    expected = spectra_of(noise, SMALL)
    torch.testing.assert_close(spectra_of(7 * noise + 100, SMALL), expected, atol=1e-4, rtol=1e-3)
    moved = spectra_of(noise + 0.5 * line + 0.3 * line[:, None, None], SMALL)
    # What is clipped differs a little.
    assert float((moved - expected).abs().square().mean() / expected.abs().square().mean()) < 0.02


def test_a_gold_bead_hardly_changes_the_input_elsewhere():
    noise = noise_patches(1)
    gold = noise.clone()
    gold[:, 3:6, 3:6, 3:6] -= 500
    first, second = spectra_of(noise, SMALL).flatten(), spectra_of(gold, SMALL).flatten()
    alike = (first * second.conj()).sum().real / (first.abs().square().sum() * second.abs().square().sum()).sqrt()
    assert float(alike) > 0.9


def test_a_flat_patch_gives_nothing_and_is_never_right():
    network = mixture()
    patches = torch.cat([noise_patches(8), torch.zeros(1, *(SMALL.patch_side,) * 3)])
    whitening = estimate_whitening(patches[:8], SMALL)
    spectra = whitening.apply(patches)
    assert float(spectra[8].abs().max()) == 0
    assert float(network.predict(spectra)[1][8]) < 1e-6


def test_a_mirror_image_is_the_same_about_the_centre_voxel():
    cubes = noise_patches(1)
    assert torch.equal(mirror_images(mirror_images(cubes)), cubes)
    middle = SMALL.patch_side // 2
    assert torch.equal(mirror_images(cubes)[:, :, middle + 3], cubes[:, :, middle - 3])


# --- simulated patches --------------------------------------------------------------------------------------------


def test_simulated_particles_averaged_in_their_poses_agree_and_in_inverse_rotations_do_not(simulator):
    network = mixture()
    condition = Condition(series=TILTS, snr=200.0, off_pick=20.0, at_origin=0.5)
    found = simulator.simulate(condition, 40, np.random.default_rng(1))
    cubes = network.fine_cubes(estimate_whitening(found.cubes, SMALL).apply(found.cubes))

    def agreement(rotations: torch.Tensor, shifts: torch.Tensor) -> float:
        views = network.posed_views(cubes, rotations[:, None], shifts[:, None])[:, 0]
        return float(torch.corrcoef(views)[np.triu_indices(40, 1)].mean())

    true = agreement(found.rotations, found.shifts)
    assert true > 0.5
    assert agreement(found.rotations.transpose(1, 2), found.shifts) < true - 0.15
    assert agreement(found.rotations, -found.shifts) < true - 0.15


def test_the_missing_wedge_of_simulated_patches_is_missing(simulator):
    found = simulator.simulate(Condition(series=TILTS, snr=10.0), 16, np.random.default_rng(2))
    power = spectra_of(found.cubes, SMALL).abs().square().mean(0)
    # Along z there is no tilt image; along x there are.
    assert float(power[4, 0, 0]) < 0.05 * float(power[0, 0, 4])


def test_an_uncorrected_contrast_transfer_changes_sign_where_the_formula_does(simulator):
    tilt = TiltSeries.of_angles(np.array([0.0]), defocus_um=np.array([[20.0, 20.0]]))
    transfer, _ = simulator._transfer(Condition(series=tilt), np.random.default_rng(0))
    radius = simulator.frequency[:, :2].norm(dim=1).numpy()
    # Beside the tilt axis, where the weighted reconstruction has something.
    flat = (np.abs(simulator.frequency[:, 2].numpy()) < 1e-4) & (simulator.frequency[:, 0].numpy() > 1e-3)
    zero = np.sqrt((np.pi - np.arcsin(0.07)) / (np.pi * tilt.optics.wavelength * 20e4))
    inside, outside = flat & (radius < 0.95 * zero) & (radius > 0.3 * zero), flat & (radius > 1.05 * zero)
    assert (transfer.real[inside] > 0).all()
    assert (transfer.real[outside & (radius < 1.3 * zero)] < 0).all()


def test_conditions_are_the_same_for_a_seed_and_differ_between_seeds():
    drawn = [random_condition(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert drawn[0].snr == drawn[1].snr != drawn[2].snr


def test_a_map_is_centred_on_its_mass():
    density, centre = centred(load_template("4v4r"))
    places = np.arange(len(density)) - (len(density) - 1) / 2
    lines = [density.sum(axes) for axes in ((1, 2), (0, 2), (0, 1))]
    assert max(abs(line @ places) / line.sum() for line in lines) < 0.2
    assert 5 < np.linalg.norm(centre) < 40


# --- training -----------------------------------------------------------------------------------------------------


def trained(simulator: PatchSimulator, state: TrainingState | None = None) -> tuple[Network, list[Epoch]]:
    network = PoseMixture(SMALL, generator=torch.Generator().manual_seed(0))
    stream = SimulatedRun(network, simulator, SHORT, name="small", card={"classes": []}).epochs(state)
    epochs = []
    while True:
        try:
            step = next(stream)
        except StopIteration as end:
            return end.value, epochs
        if isinstance(step, Epoch):
            epochs.append(step)


@pytest.fixture(scope="module")
def short_run(simulator, request):
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    for name, value in {"_COMPONENT_VIEWS": 64, "_VALIDATION": 2, "_CALIBRATION": 2}.items():
        patch.setattr(f"napari_orient.engine.training.simulated.{name}", value)
    return trained(simulator)


def test_training_goes_on_from_any_epoch_to_the_same_end(simulator, short_run, tmp_path):
    whole, epochs = short_run
    assert len(epochs) == 3
    for epoch in epochs[:2]:
        epoch.state.save(tmp_path / "state.resume")
        again, rest = trained(simulator, TrainingState.load(tmp_path / "state.resume"))
        assert len(rest) == 3 - epoch.done
        for name, weights in whole.weights.items():
            torch.testing.assert_close(again.weights[name], weights, msg=name)


def test_a_trained_network_survives_its_file_and_predicts_with_errors(short_run, tmp_path):
    network, _ = short_run
    network.save(tmp_path / "small.safetensors")
    again = load_model(tmp_path / "small.safetensors")
    assert isinstance(again, Network)
    assert again.options == SMALL
    assert again.needs_picks
    rng = np.random.default_rng(0)
    tomogram = Tomogram(rng.normal(size=(24, 30, 30)).astype(np.float32), 20.0, "noise")
    picks = Particles(positions=rng.uniform(0, 460, size=(5, 3)), tomogram="noise")
    found = run(predict(tomogram, picks, again, PredictionOptions.of(device="cpu")))
    assert np.array_equal(found.positions, picks.positions)
    assert np.isfinite(found.required_rotations()).all()
    assert (found.expected_error_deg > 0).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_a_mixture_is_no_mlp_and_an_mlp_no_mixture(short_run):
    with pytest.raises(InputError, match="mixture"):
        short_run[0].mlp()
    with pytest.raises(InputError, match="MLP"):
        replace(short_run[0], options=NetworkOptions()).mixture()


def test_a_map_that_does_not_fit_the_mask_is_refused_with_options_that_do():
    stream = train_on_simulations(
        load_template("3j9i"), [], SMALL.replace(mask_radius=300.0), SHORT, resume=None, name="x", card={}
    )
    with pytest.raises(InputError, match="--mask-radius"):
        run(stream)


def test_a_network_of_simulations_needs_a_map_or_labels():
    with pytest.raises(InputError, match="0 particles"):
        run(train([], SMALL, SHORT))


def test_a_map_becomes_a_network_on_the_command_line(tmp_path, monkeypatch):
    for name, value in {"_COMPONENT_VIEWS": 64, "_VALIDATION": 2, "_CALIBRATION": 2}.items():
        monkeypatch.setattr(f"napari_orient.engine.training.simulated.{name}", value)
    sizes = {**SMALL.to_record(), **SHORT.to_record(), "epochs": 1}
    del sizes["symmetry"], sizes["mask_radius"], sizes["device"]
    flags = [word for name, value in sizes.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    output = tmp_path / "small.safetensors"
    words = [
        "train",
        "--network",
        "simulated",
        "--template",
        "4v4r",
        *flags,
        "--device",
        "cpu",
        "--output",
        str(output),
    ]
    assert main(words) == 0
    trained = load_model(output)
    assert trained.options == SMALL
    assert not output.with_suffix(".resume").exists()


def test_the_share_of_right_poses_raises_probabilities_that_are_high_and_no_others():
    assert prior_log_odds(torch.full((32,), 0.99), torch.ones(32)) > 1
    assert prior_log_odds(torch.full((1,), 0.99), torch.ones(1)) < 0.5
    assert prior_log_odds(torch.full((32,), 0.2), torch.ones(32)) == 0
    # Picks of one particle are one.
    of_one = prior_log_odds(torch.full((32,), 0.99), torch.full((32,), 1 / 32))
    assert of_one == pytest.approx(prior_log_odds(torch.full((1,), 0.99), torch.ones(1)))
    raised = with_prior(torch.tensor([0.5, 0.9]), 1.0)
    torch.testing.assert_close(torch.logit(raised), torch.logit(torch.tensor([0.5, 0.9])) + 1)


def test_logistic_regression_finds_slope_and_offset():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=20000) * 3)
    right = torch.from_numpy(rng.random(20000)) < torch.sigmoid(0.7 * values - 1.2)
    slope, offset = logistic_regression(values, right.double())
    assert slope == pytest.approx(0.7, abs=0.03)
    assert offset == pytest.approx(-1.2, abs=0.06)


# --- the shipped network ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> tuple[Tomogram, Particles]:
    from napari_orient.engine.simulation.simulate import simulate
    from napari_orient.engine.simulation_options import SimulationOptions

    options = SimulationOptions(size_x=128, size_y=128, size_z=60)
    return run(simulate([load_template("4v4r")], options, seed=5, counts=(12,)))


def predicted(tomogram: Tomogram, particles: Particles) -> tuple[Particles, list[str]]:
    stream = predict(tomogram, particles, load_model("ribosome-mlp"), PredictionOptions.of(device="cpu"))
    notes = []
    while True:
        try:
            notes += [note.text for note in next(stream).notes]
        except StopIteration as end:
            return end.value, notes


@pytest.mark.parametrize("contrast", [1, -1])
def test_the_shipped_network_finds_poses_in_either_contrast_and_says_which_is_odd(scene, contrast):
    tomogram, true = scene
    shown = replace(tomogram, density=contrast * tomogram.density)
    found, notes = predicted(shown, true)
    errors = angle_deg(found.required_rotations(), true.required_rotations())
    assert np.median(errors) < 5
    assert (errors < 20).mean() > 0.9
    assert any("contrast" in note for note in notes) == (contrast == -1)
    assert not any("voxel size" in note or "wrong" in note for note in notes)


def test_the_shipped_network_says_how_many_of_its_poses_are_likely_wrong_and_that_rays_are_beside_them(scene):
    tomogram, true = scene
    struck = replace(tomogram, density=tomogram.density.copy())
    x, y, _ = np.round(true.positions[:6] / 10).astype(int).T
    struck.density[:, y, np.minimum(x + 5, 127)] -= 4 * struck.density.std()
    nowhere = true.positions[6:] * [1, 1, 0] + [0, 0, 40]
    picks = Particles(positions=np.concatenate([true.positions, nowhere]), tomogram=true.tomogram[0])
    found, notes = predicted(struck, picks)
    (text,) = (note for note in notes if "likely wrong" in note)
    assert float(text.partition("%")[0]) == pytest.approx(100 * (1 - found.confidence.mean()), abs=5)
    assert "rays of gold" in text


def test_the_shipped_network_says_that_a_voxel_size_is_wrong_and_predicts_at_the_right_one(scene):
    tomogram, true = scene
    shown = replace(tomogram, voxel_size=1.07 * tomogram.voxel_size)
    found, notes = predicted(shown, true.replace(positions=1.07 * true.positions, rotations=None))
    assert any("voxel size" in note for note in notes)
    assert (angle_deg(found.required_rotations(), true.required_rotations()) < 20).mean() > 0.9


def test_the_shipped_network_warns_of_a_mirrored_tomogram_and_is_not_sure_in_it(scene):
    tomogram, true = scene
    mirrored = replace(tomogram, density=tomogram.density[::-1].copy())
    places = true.positions.copy()
    places[:, 2] = (len(tomogram.density) - 1) * tomogram.voxel_size - places[:, 2]
    found, notes = predicted(mirrored, true.replace(positions=places, rotations=None))
    assert any("mirror" in note for note in notes)
    assert np.mean(found.confidence) < 0.7


def test_a_box_smaller_than_the_patch_is_taken(scene):
    tomogram, true = scene
    (row, *_) = np.argsort(np.abs(true.positions - tomogram.extent.centre).max(1))
    corner = np.round(true.positions[row] / 10).astype(int) - 16
    x, y, z = np.maximum(corner, 0)
    box = Tomogram(tomogram.density[z : z + 32, y : y + 32, x : x + 32].copy(), 10.0, "box")
    one = true.take([int(row)])
    moved = one.replace(positions=one.positions - np.array([x, y, z]) * 10, rotations=None)
    found, notes = predicted(box, moved)
    assert float(angle_deg(found.required_rotations(), one.required_rotations())[0]) < 20
    # One pick says nothing of sizes.
    assert not any("voxel size" in note for note in notes)
