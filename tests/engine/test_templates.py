"""A template at rest: a map in one file, and predictions from it in any tomogram."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram
from scipy.ndimage import fourier_shift, gaussian_filter
from streams import followed

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles, write_tomogram
from napari_orient.engine.io.columns import (
    AXIS_ERROR,
    AZIMUTH_ERROR,
    RESULT_COLUMNS,
    VARIABILITY,
    pose_summary,
    without_results,
)
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.networks.network import Network
from napari_orient.engine.options import UnknownOptionWarning
from napari_orient.engine.parameters import PRECISE_UP_TO, NetworkOptions, PredictionOptions, SearchOptions
from napari_orient.engine.prediction.predict import load_model, predict, prepare, provenance
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.statistics.error_calibration import ErrorCalibration
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template, load_template

SEARCH = SearchOptions(rotations=600, search_resolution=36.0, max_shift=20.0)
FAST = PredictionOptions.of(precision="fast", device="cpu")


@pytest.fixture(scope="module")
def template() -> Template:
    density = molecule().density(24)
    return Template(density, voxel_size=VOXEL_SIZE, search=SEARCH, name="blobs", card={"classes": ["blob"]})


@pytest.fixture(scope="module")
def seen():
    return tomogram(molecule(), off=15.0, count=(2, 3, 3))


@pytest.fixture(scope="module")
def steps_and_answer(seen, template):
    return followed(predict(seen[0], seen[1], template, FAST))


def test_a_template_comes_back_as_it_went(template, tmp_path):
    template.save(tmp_path / "blobs.safetensors")
    loaded = load_template(tmp_path / "blobs.safetensors")
    assert (loaded.name, loaded.card, loaded.calibration) == ("blobs", {"classes": ["blob"]}, None)
    assert loaded.options_record() == template.options_record()
    np.testing.assert_array_equal(loaded.density, template.density)
    load_model(tmp_path / "blobs.safetensors").save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "blobs.safetensors").read_bytes()


def test_templates_of_the_first_version_are_read(template, tmp_path):
    path = tmp_path / "old.safetensors"
    dataclasses.replace(template.to_file(), kind="bank").write(path)
    np.testing.assert_array_equal(load_template(path).density, template.density)


def test_a_template_predicts_poses_and_centres(steps_and_answer, seen):
    _, answer = steps_and_answer
    _, picks, places = seen
    assert np.median(angle_deg(answer.required_rotations(), picks.required_rotations())) < 4
    assert np.median(np.linalg.norm(answer.positions - places, axis=1)) < 3
    assert (answer.confidence > 0.9).all()


def test_the_wedge_and_precision_are_noted_and_steps_never_pass_their_total(steps_and_answer):
    steps, _ = steps_and_answer
    notes = [str(note) for step in steps for note in step.notes]
    assert re.search(r"tilted about y from -6[0-2]° to 6[0-2]° \(found in the data\); fast", notes[0])
    assert not any("Warning" in note for note in notes)
    assert all(0 <= step.done <= step.total for step in steps)


@pytest.fixture(scope="module")
def symmetric():
    """Particles of a D3 molecule about an oblique axis, as a template poses them."""
    group = symmetry("D3@1,2,-1@1,0,1")
    shape = molecule(group=group)
    volume, picks, _ = tomogram(shape, count=(2, 2, 3))
    symmetric = Template(shape.density(24), voxel_size=VOXEL_SIZE, symmetry=group.name, search=SEARCH)
    return volume, run(predict(volume, picks, symmetric, FAST))


def test_symmetric_particles_carry_errors_of_axis_and_spin_and_all_carry_score_and_move(symmetric, steps_and_answer):
    _, answer = symmetric
    # Particles that are alike have no column that says how much each differs.
    assert set(answer.extra) == set(RESULT_COLUMNS) - {VARIABILITY}
    both = np.hypot(answer.extra[AXIS_ERROR], answer.extra[AZIMUTH_ERROR])
    np.testing.assert_allclose(both, answer.expected_error_deg, rtol=1e-3)
    plain = steps_and_answer[1]
    assert set(plain.extra) == set(RESULT_COLUMNS) - {AXIS_ERROR, AZIMUTH_ERROR, VARIABILITY}
    assert "main axis" in " ".join(pose_summary(answer))
    assert "moved by" in " ".join(pose_summary(plain))
    assert "main axis" not in " ".join(pose_summary(plain))


@pytest.mark.parametrize("suffix", [".star", ".csv"])
def test_what_matching_found_survives_save_reload_save_to_the_byte(symmetric, tmp_path, suffix):
    volume, answer = symmetric
    extents = {volume.name: volume.extent}
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    write_particles(first, answer, extents=extents)
    reloaded = read_particles(first, extents=extents)
    write_particles(second, reloaded, extents=extents)
    assert first.read_bytes() == second.read_bytes()
    assert len(answer.extra) == len(RESULT_COLUMNS) - 1
    for name in answer.extra:
        np.testing.assert_allclose(reloaded.extra[name], answer.extra[name], atol=1e-6)


def test_a_later_prediction_drops_what_an_earlier_match_found(steps_and_answer):
    old = steps_and_answer[1].replace(extra={AXIS_ERROR: np.ones(18), "rlnImageName": np.full(18, "a")})
    assert list(without_results(old).extra) == ["rlnImageName"]


def test_rotations_that_the_picks_carry_are_not_used(steps_and_answer, seen, template):
    volume, picks, _ = seen
    answer = run(predict(volume, picks.replace(rotations=None), template, FAST))
    np.testing.assert_array_equal(answer.required_rotations(), steps_and_answer[1].required_rotations())


def test_calibration_widens_the_expected_error(steps_and_answer, seen, template):
    wider = dataclasses.replace(template, calibration=ErrorCalibration(9.0, 4.0))
    before = steps_and_answer[1].expected_error_deg
    after = run(predict(seen[0], seen[1], wider, FAST)).expected_error_deg
    np.testing.assert_allclose(after, np.sqrt(9 + 4 * before**2), rtol=1e-3)


def test_a_network_is_precise_only_with_a_reference(seen, template):
    volume, picks, _ = seen
    options = NetworkOptions(width=8, depth=1, patch_side=16, mask_radius=60.0)
    untrained = Network.of(MLP(options, generator=torch.Generator().manual_seed(0)), name="mlp", card={})
    with pytest.raises(InputError, match="no map to be precise with"):
        next(predict(volume, picks, untrained, PredictionOptions.of(precision="precise")))
    with pytest.raises(InputError, match="is a template itself"):
        next(predict(volume, picks, template, FAST, reference=template))
    answer = run(predict(volume, picks, untrained, FAST, reference=template))
    assert np.median(angle_deg(answer.required_rotations(), picks.required_rotations())) < 4
    line = provenance(untrained, FAST, count=18, reference="blobs.mrc")
    assert line.endswith("predicted by mlp (network); picks rounded; refined against blobs.mrc, fast")


def test_provenance_says_kind_and_what_auto_meant(template):
    auto = PredictionOptions.of(device="cpu")
    assert provenance(template, auto, count=PRECISE_UP_TO).endswith("predicted by blobs (template); precise")
    assert provenance(template, auto, count=PRECISE_UP_TO + 1).endswith("(template); fast")
    assert auto.effort.precision_for(10**6, torch.device("cuda")) == "precise"


@pytest.mark.parametrize(
    ("density", "group", "words"),
    [
        (np.zeros((9, 9), np.float32), "C1", "expected a volume"),
        (np.zeros((9, 9, 9), np.float32), "C1", "no density above 0"),
        (np.full((9, 9, 9), np.nan, np.float32), "C1", "not finite numbers"),
        (molecule().density(9), "Q7", "symmetry 'Q7' is unknown"),
        (molecule().density(9), "D7@1,0,0@2,0,0", "parallel"),
    ],
)
def test_what_is_no_template_is_refused(density, group, words):
    with pytest.raises(InputError, match=words):
        Template(density, voxel_size=10.0, symmetry=group)


@pytest.mark.parametrize(("density", "words"), [(np.eye(9)[None], "a cube"), (np.ones((9, 9, 9)), "flat")])
def test_what_cannot_be_matched_is_not_saved(density, words, tmp_path):
    with pytest.raises(InputError, match=words):
        Template(density, 10.0).save(tmp_path / "bad.safetensors")


def test_a_map_in_a_box_that_is_no_cube_is_padded_about_its_centre_and_its_mask_with_it(tmp_path):
    whole = molecule().density(32)
    cut = whole[4:-4, 3:-3, 2:-2]
    write_tomogram(tmp_path / "cut.mrc", cut, voxel_size=VOXEL_SIZE)
    write_tomogram(tmp_path / "mask.mrc", np.ones_like(cut), voxel_size=VOXEL_SIZE)
    found = load_template(tmp_path / "cut.mrc", mask=tmp_path / "mask.mrc")
    assert found.density.shape == (28, 28, 28)
    np.testing.assert_allclose(found.density, whole[2:-2, 2:-2, 2:-2], atol=0.02 * whole.max())
    assert "cut.mrc: its box of 28 × 26 × 24 voxels is padded with zeros to a cube." in found.notes


def test_a_map_whose_box_is_cut_by_an_odd_number_of_voxels_keeps_its_centre(tmp_path):
    whole = gaussian_filter(molecule().density(33), 1.0)
    write_tomogram(tmp_path / "odd.mrc", whole[:, 1:-1, 1:-2].copy(), voxel_size=VOXEL_SIZE)
    found = load_template(tmp_path / "odd.mrc")
    # 31 of 33 voxels along y, as whole[1:-1]; 30 along x, whose centre is half a voxel before the particle's.
    moved = fourier_shift(np.fft.fftn(whole), (0, 0, 0.5))
    np.testing.assert_allclose(found.density, np.fft.ifftn(moved).real, atol=0.02 * whole.max())


def test_a_tomogram_is_no_map_and_what_is_no_cube_is_refused_before_the_work(seen, template, tmp_path):
    write_tomogram(tmp_path / "flat.mrc", seen[0].density[:20], voxel_size=VOXEL_SIZE)
    with pytest.raises(InputError, match=r"72 × 72 × 20 voxels; .* Is it a tomogram\?"):
        load_template(tmp_path / "flat.mrc")
    uneven = dataclasses.replace(template, density=template.density[:20])
    with pytest.raises(InputError, match=r"shape \(20, 24, 24\); expected a cube"):
        run(predict(seen[0], seen[1], uneven, FAST))


def test_a_damaged_template_is_refused_when_it_is_read(template, tmp_path):
    path, whole = tmp_path / "bad.safetensors", template.to_file()

    def refused(words, **changes):
        dataclasses.replace(whole, **changes).write(path)
        with pytest.raises(InputError, match=words):
            load_model(path)

    density = whole.tensors["density"]
    refused("missing", tensors={"density": density})
    refused("expected a cube", tensors={**whole.tensors, "density": density[:, :-1]})
    refused("not finite numbers", tensors={**whole.tensors, "density": density * torch.nan})
    refused("calibration", tensors={**whole.tensors, "calibration": torch.tensor([torch.nan, 1.0])})
    refused("symmetry", options={**whole.options, "symmetry": "Q7"})


def test_an_option_that_this_version_does_not_have_makes_no_file_unreadable(template, tmp_path):
    path, whole = tmp_path / "later.safetensors", template.to_file()
    dataclasses.replace(whole, options={**whole.options, "colour": 1}).write(path)
    with pytest.warns(UnknownOptionWarning, match="option 'colour' is unknown to this version"):
        assert load_template(path).search == template.search


def test_a_network_is_not_taken_for_a_template():
    with pytest.raises(InputError, match="ribosome-mlp is a network; expected a template"):
        load_template("ribosome-mlp")


def test_a_prepared_template_poses_single_picks_as_it_does_all(template, seen, steps_and_answer):
    _, together = steps_and_answer
    tomogram_seen, picks, _ = seen
    estimate = run(prepare(tomogram_seen, picks, template, FAST))
    alone = [estimate(picks.take([row])) for row in (3, 11)]
    for row, one in zip((3, 11), alone, strict=True):
        np.testing.assert_allclose(one.rotations[0], together.rotations[row], atol=2e-3)
        np.testing.assert_allclose(one.positions[0], together.positions[row], atol=0.2)
        np.testing.assert_allclose(one.expected_error_deg[0], together.expected_error_deg[row], rtol=0.02)
    with pytest.raises(InputError, match="1 of 1 particles lie outside"):
        estimate(picks.take([0]).replace(positions=[[-500.0, 0, 0]]))


def test_a_prepared_network_gives_to_the_bit_what_it_predicts(seen):
    options = NetworkOptions(width=8, depth=1, patch_side=16, patch_voxel_size=VOXEL_SIZE, mask_radius=60.0)
    network = Network.of(MLP(options, generator=torch.Generator().manual_seed(0)), name="small", card={})
    single = run(prepare(seen[0], seen[1].take([]), network, FAST))(seen[1])
    np.testing.assert_array_equal(single.rotations, run(predict(seen[0], seen[1], network, FAST)).rotations)


def test_tilts_about_x_from_48_degrees_on_one_side_are_found_and_cost_no_accuracy(template):
    volume, picks, places = tomogram(molecule(), axis="x", tilts=(-48.0, 60.0), count=(2, 3, 3))
    steps, answer = followed(predict(volume, picks, template, FAST))
    notes = [str(note) for step in steps for note in step.notes]
    low, high = map(float, re.search(r"tilted about x from (-\d+)° to (\d+)°", notes[0]).groups())
    assert abs(low + 48) <= 4
    assert abs(high - 60) <= 4
    assert np.median(angle_deg(answer.required_rotations(), picks.required_rotations())) < 4
    assert np.median(np.linalg.norm(answer.positions - places, axis=1)) < 3
