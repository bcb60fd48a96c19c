"""The paper's network as printed, its front ends, and the file that holds one."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_orient.engine.devices import choose_device
from napari_orient.engine.errors import InputError
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.networks.mlp import MLP, fourier_bin, shift_cubes
from napari_orient.engine.networks.network import Network
from napari_orient.engine.networks.tomogram_input import estimate_whitening
from napari_orient.engine.parameters import PAPER_NETWORK, NetworkOptions
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.representations import REPRESENTATIONS
from napari_orient.engine.rotations import HALF_TURNS
from napari_orient.engine.templates import Template

SMALL = NetworkOptions(width=8, depth=2, patch_side=16, mask_radius=60.0, dropout=0.0)


def mlp_of(options, seed=0):
    return MLP(options, generator=torch.Generator().manual_seed(seed))


def random_cubes(count, side, seed=0):
    return torch.randn((count, side, side, side), generator=torch.Generator().manual_seed(seed))


def half_turned(cubes, axes):
    """The cubes turned by 180° about the centre voxel, in the plane of these axes."""
    return cubes.flip(axes).roll((1, 1), axes)


def test_the_printed_network_has_the_printed_number_of_parameters():
    assert sum(parameter.numel() for parameter in mlp_of(PAPER_NETWORK).parameters()) == 2_051_398


def test_the_raw_front_end_gives_the_network_the_patch_as_it_is():
    network = mlp_of(PAPER_NETWORK)
    patches = random_cubes(2, 40)
    torch.testing.assert_close(network.features(network.condense(patches)), patches.flatten(1))


def test_the_last_layer_is_bounded_by_tanh_and_hidden_layers_leak():
    network = mlp_of(SMALL)
    features = network.features(network.condense(1e3 * random_cubes(4, 16)))
    first, second, last = network.layers
    hidden = first(features)
    hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
    hidden = second(hidden)
    hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
    torch.testing.assert_close(network(features), torch.tanh(last(hidden)))


@pytest.mark.parametrize(("index", "axes"), [(1, (1, 2)), (2, (1, 3)), (3, (2, 3))])
def test_features_of_a_half_turn_are_those_of_the_half_turned_patch(index, axes):
    network = mlp_of(SMALL)
    patches = random_cubes(3, 16)
    mine = network.features(network.condense(patches), index)
    turned = network.features(network.condense(half_turned(patches, axes)))
    torch.testing.assert_close(mine, turned, atol=1e-5, rtol=1e-5)


def test_half_turn_axes_in_the_array_are_those_of_the_matrices():
    # HALF_TURNS[1] turns about x: y and z change sign, array axes 1 (z) and 2 (y) of a batch.
    np.testing.assert_array_equal(HALF_TURNS[1], np.diag([1, -1, -1]))
    np.testing.assert_array_equal(HALF_TURNS[3], np.diag([-1, -1, 1]))


def test_the_answer_turns_with_the_patch():
    network = mlp_of(SMALL).eval()
    patches = random_cubes(5, 16)
    plain = network.predict(patches)[0]
    turned = network.predict(half_turned(patches, (2, 3)))[0]
    torch.testing.assert_close(turned, torch.tensor(HALF_TURNS[3], dtype=torch.float32) @ plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [SMALL, replace(PAPER_NETWORK, patch_side=16), replace(SMALL, symmetry="C2")])
def test_four_half_turned_copies_in_one_pass_answer_as_each_alone(options):
    network = mlp_of(options).eval()
    cubes = network.condense(random_cubes(5, 16))
    with torch.inference_mode():
        alone = torch.stack([network(network.features(cubes, index)) for index in range(4)])
        torch.testing.assert_close(network.averaged().raw(cubes), alone, atol=3e-6, rtol=0)


@pytest.mark.parametrize(("side", "factor"), [(16, 2), (24, 3)])
def test_binning_is_the_fourier_transform_cut_off(side, factor):
    cubes, half = random_cubes(3, side), side // factor // 2
    spectrum = torch.fft.fftn(cubes, dim=(1, 2, 3))
    kept = torch.fft.fftfreq(side, 1 / side).abs() < half
    spectrum = spectrum * kept[:, None, None] * kept[:, None] * kept
    whole = torch.fft.ifftn(spectrum, dim=(1, 2, 3)).real[:, ::factor, ::factor, ::factor]
    torch.testing.assert_close(fourier_bin(cubes, factor), whole * factor**1.5, atol=1e-5, rtol=1e-5)


def test_binning_keeps_a_smooth_blob_and_its_centre():
    grid = torch.arange(32) - 16
    blob = torch.exp(-(grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2) / (2 * 4.0**2))[None]
    binned = fourier_bin(blob, 2)[0]
    expected = blob[0, ::2, ::2, ::2] * 2**1.5
    torch.testing.assert_close(binned, expected, atol=2e-3, rtol=0)


def test_shifting_by_whole_voxels_rolls_the_cube():
    cubes = random_cubes(2, 12)
    shifts = torch.tensor([[1.0, 0, 0], [0, -2.0, 3.0]])
    rolled = torch.stack([cubes[0].roll(1, 2), cubes[1].roll((-2, 3), (1, 0))])
    torch.testing.assert_close(shift_cubes(cubes, shifts), rolled, atol=1e-5, rtol=1e-5)


def test_dropout_acts_only_with_a_generator_and_keeps_the_mean():
    network = mlp_of(NetworkOptions(width=64, depth=1, patch_side=16, mask_radius=60.0, dropout=0.5))
    features = network.features(network.condense(random_cubes(2, 16)))
    torch.testing.assert_close(network(features), network(features))
    first = network(features, generator=torch.Generator().manual_seed(1))
    again = network(features, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, network(features))


def test_a_network_comes_back_as_it_went(tmp_path):
    mlp = mlp_of(SMALL)
    saved = Network.of(mlp, name="small", card={"figures": {"median_deg": 7.5}, "classes": ["4v4r"]})
    saved.save(tmp_path / "small.safetensors")
    loaded = load_model(tmp_path / "small.safetensors")
    assert (loaded.name, loaded.options, loaded.card) == ("small", SMALL, saved.card)
    patches = random_cubes(3, 16)
    torch.testing.assert_close(loaded.mlp().predict(patches)[0], mlp.predict(patches)[0])


def test_saving_twice_writes_the_same_bytes(tmp_path):
    Network.of(mlp_of(SMALL), name="small", card={"b": 1, "a": [2]}).save(tmp_path / "one.safetensors")
    load_model(tmp_path / "one.safetensors").save(tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def hostile_pickle(tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    return path


def torch_pickle(tmp_path):
    path = tmp_path / "pickled.safetensors"
    torch.save({"weights": torch.zeros(3)}, path)
    return path


def truncated(tmp_path):
    path = tmp_path / "short.safetensors"
    Network.of(mlp_of(SMALL), name="small", card={}).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def foreign(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weights": torch.zeros(3)}, path)
    return path


def newer(tmp_path):
    path = tmp_path / "newer.safetensors"
    save_file({"weights": torch.zeros(3)}, path, metadata={"napari-orient": json.dumps({"format": 99})})
    return path


def damaged(tmp_path):
    path = tmp_path / "damaged.safetensors"
    save_file({"weights": torch.zeros(3)}, path, metadata={"napari-orient": "{"})
    return path


def empty(tmp_path):
    path = tmp_path / "empty.safetensors"
    path.touch()
    return path


def missing(tmp_path):
    return tmp_path / "missing.safetensors"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (hostile_pickle, "not a model"),
        (torch_pickle, "not a model"),
        (truncated, "not a model"),
        (foreign, "another program"),
        (newer, "Update"),
        (damaged, "damaged"),
        (empty, "empty"),
        (missing, "no such file"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line_and_runs_nothing(tmp_path, make, words):
    with pytest.raises(InputError, match=words) as caught:
        load_model(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_do_not_fit_the_options_are_refused():
    small = Network.of(mlp_of(SMALL), name="small", card={})
    with pytest.raises(InputError, match="do not fit"):
        replace(small, options=replace(SMALL, width=16)).mlp()


def test_a_model_of_an_unknown_kind_is_refused(tmp_path):
    small = Network.of(mlp_of(SMALL), name="small", card={})
    replace(small.to_file(), kind="oracle").write(tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="kind 'oracle'"):
        load_model(tmp_path / "odd.safetensors")


def test_kinds_and_values_of_the_first_version_are_read(tmp_path):
    path = tmp_path / "old.safetensors"
    replace(Network.of(mlp_of(SMALL), name="small", card={}).to_file(), kind="mlp").write(path)
    assert isinstance(load_model(path), Network)


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(InputError, match="ribosome"):
        load_model("ribosom")


def test_every_shipped_model_loads_and_its_card_says_data_options_and_figures():
    assert shipped_models()[0] == "ribosome"
    for name in shipped_models():
        model = load_model(name)
        assert model.name == name
        assert {"training", "tomograms", "particles", "figures", "fingerprint", "version"} <= set(model.card)
        if isinstance(model, Template):
            assert model.card["figures"]["fsc_0.143_angstrom"] < 32
            assert len(model.group) == {"proteasome": 14, "ribosome": 1, "ribosome-80S": 1}[name]
            continue
        if model.is_mixture:
            mixture = model.mixture()
            cubes = random_cubes(2, mixture.options.patch_side)
            rotations = mixture.predict(estimate_whitening(cubes, mixture.options).apply(cubes))[0]
        else:
            mlp = model.mlp()
            rotations, _ = mlp.predict(random_cubes(2, mlp.patch_side))
        torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(2), atol=1e-4, rtol=0)


def test_a_device_that_is_not_there_is_refused_never_replaced():
    absent = next(
        name for name in ("mps", "cuda") if not {"mps": torch.backends.mps, "cuda": torch.cuda}[name].is_available()
    )
    with pytest.raises(InputError, match="not on this machine"):
        choose_device(absent)
    with pytest.raises(InputError, match="unknown"):
        choose_device("abacus")


@pytest.mark.parametrize("change", [{"patch_side": 18}, {"patch_side": 41}, {"width": 0}, {"representation": "7d"}])
def test_options_that_make_no_network_are_refused(change):
    with pytest.raises(InputError):
        NetworkOptions(**change)


def test_a_network_may_write_rotations_in_every_representation_there_is():
    (declared,) = [item for item in NetworkOptions.parameters() if item.name == "representation"]
    assert set(declared.choices) == set(REPRESENTATIONS)
