"""The public API, as a person meets it in a notebook: names or paths in, answers out, mistakes in one line at once."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import napari_orient as no
from engine.phantom import VOXEL_SIZE, molecule
from engine.phantom import tomogram as phantom
from napari_orient.api.inputs import ResultWarning
from napari_orient.engine.particles import concatenate
from napari_orient.engine.reports.page import read_record

ONE_LINE = r"^[^\n]+$"
FAST = {"precision": "fast", "device": "cpu"}
pytestmark = pytest.mark.filterwarnings("ignore::napari_orient.api.inputs.ResultWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small simulated tomogram with its truth, and both as files."""
    folder = tmp_path_factory.mktemp("world")
    tomogram, truth = no.simulate("ribosome", seed=2024, name="tomo", size_x=128, size_y=128, size_z=64, particles=30)
    no.write_tomogram(folder / "tomo.mrc", tomogram.density, voxel_size=tomogram.voxel_size)
    no.write_particles(folder / "truth.star", truth.located_in(tomogram))
    no.write_particles(folder / "picks.star", truth.located_in(tomogram).replace(rotations=None))
    return folder, tomogram, truth


@pytest.fixture(scope="module")
def predicted(world):
    folder, *_ = world
    return no.predict(str(folder / "tomo.mrc"), str(folder / "picks.star"), "ribosome", **FAST)


# --- what there is ---------------------------------------------------------------------------------------------------


def test_every_public_name_says_what_it_is():
    assert 25 <= len(no.__all__) <= 35
    for name in no.__all__:
        assert getattr(no, name).__doc__, name
    assert set(no.__all__) <= set(dir(no))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = no.nonsense


def test_importing_the_package_or_its_options_imports_nothing_heavy():
    code = (
        "import sys, napari_orient as no\n"
        "no.InputError\n"
        "for name in no.__all__:\n"
        "    if name.endswith('Options'): getattr(no, name)\n"
        "heavy = {'torch', 'scipy', 'pandas', 'napari', 'qtpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- verbs -----------------------------------------------------------------------------------------------------------


def test_predicting_by_paths_and_a_name_gives_particles_that_evaluate_well(world, predicted):
    folder, _, truth = world
    report = no.evaluate(predicted, truth)
    assert report.all.median_deg < 2
    assert report.all.count == 30
    assert no.evaluate(predicted, folder / "truth.star", kind="4v4r").all.count == 30
    assert str(report).startswith("30 particles matched")
    assert len(repr(report)) < 100


def test_a_report_is_one_page_as_that_of_the_command_line(world, predicted, tmp_path):
    folder, _, truth = world
    for tomograms in (folder / "tomo.mrc", folder):
        page = no.report(predicted, tmp_path / "page.html", tomograms=tomograms, truth=truth)
        record = read_record(page)
        assert (record["particles"], record["scores"]["all"]["count"]) == (30, 30)
    with pytest.raises(no.InputError, match=r"ends in \.html"):
        no.report(predicted, tmp_path / "page.pdf")


def test_predicting_objects_gives_the_same_as_predicting_their_paths(world):
    folder, *_ = world
    tomogram, picks = no.read_tomogram(folder / "tomo.mrc"), no.read_particles(folder / "picks.star")
    poses = no.predict(tomogram, picks, no.load_model("ribosome-4x32"), options=no.PredictionOptions.of(device="cpu"))
    by_paths = no.predict(str(folder / "tomo.mrc"), folder / "picks.star", "ribosome-4x32", device="cpu")
    np.testing.assert_allclose(poses.rotations, by_paths.rotations, atol=1e-5)


def test_predicted_particles_are_a_table_and_a_list_without_more_ado(predicted, tmp_path):
    table = predicted.to_dataframe()
    assert len(table) == 30
    assert {"tomogram", "class", "x_angst", "rot_deg", "expected_error_deg"} <= set(table.columns)
    no.write_particles(tmp_path / "out.star", predicted)
    back = no.convert(tmp_path / "out.star", tmp_path / "out.csv")
    np.testing.assert_allclose(back.rotations, predicted.rotations, atol=1e-4)
    assert len(no.read_particles(tmp_path / "out.csv")) == 30


def test_refining_against_a_bead_model_by_name_brings_poses_near_the_truth(world, predicted):
    _, tomogram, truth = world
    refined = no.refine(tomogram, predicted.take(slice(0, 8)), "ribosome", max_shift=10, **FAST)
    assert no.evaluate(refined, truth).all.median_deg < 3


def test_a_few_particles_outside_are_left_out_and_counted(world, predicted):
    _, tomogram, _ = world
    stray = predicted.take([0]).replace(positions=np.array([[-400.0, 0, 0]]))
    every = concatenate([stray, predicted])
    with pytest.warns(ResultWarning, match="Of 31 particles 1 lies outside tomo, left out"):
        found = no.average(tomogram, every, side=24)
    assert found.count == 30
    assert found.half_sets[0] == 0
    assert sorted(set(found.half_sets[1:].tolist())) == [1, 2]
    with pytest.warns(ResultWarning, match="1 of them lies outside tomo and is left out, having no pose"):
        posed = no.predict(tomogram, every.replace(rotations=None), "ribosome-4x32", device="cpu")
    np.testing.assert_array_equal(posed.positions, predicted.positions)
    with pytest.warns(ResultWarning, match="1 of them lies outside tomo and keeps its pose, at confidence 0"):
        posed = no.predict(tomogram, every, "ribosome-4x32", device="cpu")
    np.testing.assert_array_equal(posed.rotations[0], every.rotations[0])
    assert posed.confidence[0] == 0


def test_several_tomograms_are_refined_to_one_list_and_one_that_fails_is_warned_of(world):
    _, tomogram, truth = world
    few, quick = truth.take(slice(0, 8)), {"rotations": 600, "max_shift": 10, **FAST}
    other, far = replace(tomogram, name="other"), few.replace(positions=few.positions + 1e5)
    third = replace(tomogram, name="third")
    every = [(tomogram, few), (other, far), (third, few.replace(tomogram="third"))]
    with pytest.warns(ResultWarning, match="other failed: 8 of 8 particles lie outside"):
        refined = no.refine(every, None, "ribosome", **quick)
    assert len(refined) == 16
    assert refined.tomogram_names == ["tomo", "third"]
    with pytest.raises(no.InputError, match="all 2 tomograms failed"):
        no.refine([(tomogram, far), (other, far)], None, "ribosome", **quick)
    with pytest.raises(no.InputError, match="no particle lies in other; they lie in tomo"):
        no.refine([tomogram, other], few, "ribosome", **quick)


def test_the_better_hand_of_a_reference_is_used():
    tomogram, truth, _ = phantom(molecule(), noise=0.8, count=(1, 3, 4))
    mirrored = no.Template(molecule().density(24), VOXEL_SIZE).mirrored()
    quick = {"rotations": 600, "max_shift": 10, **FAST}
    with pytest.warns(ResultWarning, match="poses are written for the mirrored map"):
        refined = no.refine(tomogram, truth.take(slice(0, 8)), mirrored, mirror="auto", **quick)
    assert no.evaluate(refined, truth).all.median_deg < 3


def test_averaging_gives_a_map_its_halves_and_how_far_they_agree(world, tmp_path):
    folder, tomogram, truth = world
    found = no.average([(tomogram, truth)], side=32)
    assert repr(found).startswith("Average(30 particles; 32³ voxels of 10 Å; ")
    assert found.fsc.resolution(0.143) < 60
    by_paths = no.average(folder / "tomo.mrc", folder / "truth.star", side=32)
    np.testing.assert_allclose(by_paths.density, found.density, atol=1e-4)
    found.save(tmp_path / "average.mrc")
    assert len(list(tmp_path.iterdir())) == 4


def test_discovering_takes_a_tomogram_and_its_picks_or_pairs_of_them(world):
    folder, tomogram, truth = world
    quick = {"rounds": 6, "search": 200, "passes": 0, "starts": 2, "max_shift": 0, "device": "cpu"}
    found = no.discover(folder / "tomo.mrc", folder / "picks.star", diameter=290, **quick)
    assert len(found.particles) == 30
    assert repr(found).startswith("Discovery(30 particles; ")
    with pytest.raises(no.InputError, match="there are 3 picks; expected at least"):
        no.discover([(tomogram, truth.take(slice(0, 3)))], diameter=290)


def test_training_keeps_the_best_model_in_a_file_that_predicts_by_its_path(world, tmp_path):
    _, tomogram, truth = world
    path = tmp_path / "mine.safetensors"
    small = {"epochs": 1, "width": 8, "depth": 1, "patch_side": 16, "binning": 1, "device": "cpu"}
    network = no.train(tomogram, truth, output=path, **small)
    assert (network.name, network.options.width) == ("mine", 8)
    assert no.predict(tomogram, truth, path, device="cpu").rotations.shape == (30, 3, 3)


def test_what_was_drained_by_run_in_the_first_version_still_may_be(world, predicted):
    assert no.run(predicted) is predicted
    from napari_orient.engine.simulation.simulate import simulate

    tomogram, _ = no.run(simulate([no.load_template("ribosome")], no.SimulationOptions(particles=0), seed=0))
    assert tomogram.extent.size == (256, 256, 128)


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_is_silent_a_line_or_a_function(world, capsys):
    _, tomogram, truth = world
    no.average(tomogram, truth, side=16)
    assert capsys.readouterr() == ("", "")
    no.average(tomogram, truth, side=16, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("Averaging: done in ")
    steps = []
    no.average(tomogram, truth, side=16, progress=steps.append)
    assert steps[-1].done == steps[-1].total == 30
    assert capsys.readouterr() == ("", "")


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t, p: no.predict(t, p, "ribosom"), "ribosom"),
        (lambda t, p: no.predict("missing.mrc", p), "missing.mrc"),
        (lambda t, p: no.predict(t, "missing.star"), "missing.star"),
        (lambda t, p: no.predict(t.density, p), "a tomogram is given as ndarray; expected a Tomogram"),
        (lambda t, p: no.predict(None, p), "a tomogram is given as NoneType; expected a Tomogram"),
        (lambda t, p: no.predict(t, p.positions), "particles are given as ndarray; expected Particles"),
        (lambda t, p: no.predict(t, p, 3), "a model is given as int; expected a Network, a Template"),
        (lambda t, p: no.predict(t, p, diameter=290), "PredictionOptions has no option 'diameter'; expected one of"),
        (lambda t, p: no.predict(t, p, precision="quick"), "precision is 'quick'; expected one of auto, fast, precise"),
        (lambda t, p: no.predict(t, p, options=no.DiscoveryOptions()), "DiscoveryOptions; expected PredictionOptions"),
        (lambda t, p: no.predict(t, p, kind="3j9i"), "no particle is of class '3j9i'; there are pdb_4v4r"),
        (lambda t, p: no.refine(t, p, "nothing"), "'nothing' is neither a file nor a map that comes"),
        (lambda t, p: no.refine(t, p, "ribosome", symmetry="Q7"), "Q7"),
        (lambda t, p: no.discover(p), "data are given as Particles; expected pairs"),
        (lambda t, p: no.average(t, p[[0] * 8]), "all 8 particles are in one half-set"),
        (lambda t, p: no.discover(t, p[[0] * 30]), "30 picks lie in 1 different voxels"),
        (lambda t, p: no.average([(t,)]), "expected (tomogram, particles)"),
        (lambda t, p: no.average(t, p.replace(rotations=None)), "no orientations"),
        (
            lambda t, p: no.train(t, p, preset="bank"),
            "expected one of default, paper, simulated, template",
        ),
        (lambda t, p: no.train(t, p, epoch=3), "has no option 'epoch'; did you mean epochs? Expected one of"),
        (lambda t, p: no.simulate("ribosome", particles=-1), "particles is -1; expected"),
        (lambda t, p: no.predict(t, p, progress="yes"), "progress is 'yes'; expected None, True, or a function"),
        (lambda t, p: no.Particles(positions=p.positions.T), "expected (N, 3), xyz in Å"),
        (lambda t, p: no.Particles(positions=[["a", "b", "c"]]), "are no numbers; expected an array (N, 3)"),
        (lambda t, p: no.Tomogram(t.density, (10, 10, 10), "a"), "expected one positive number"),
        (lambda t, p: no.Tomogram(t.density[...].astype(complex), 10, "a"), "complex128; expected real numbers"),
        (lambda t, p: no.symmetry(7), "a symmetry is given as int"),
        (lambda t, p: no.write_particles(p, "a.star"), "a file is given as Particles; expected its path"),
        (lambda t, p: no.write_tomogram("a.mrc", t.density), "give voxel_size, in Å"),
        (lambda t, p: no.load_template(t.density), "expected its path"),
        (lambda t, p: no.simulate([7]), "a template is given as int"),
        (lambda t, p: no.evaluate(p, p.replace(rotations=None)), "no orientations"),
    ],
)
def test_a_mistake_is_an_input_error_at_the_call(call, words, world):
    _, tomogram, truth = world
    with pytest.raises(no.InputError, match=ONE_LINE) as caught:
        call(tomogram, truth)
    assert words in str(caught.value)


def test_tables_arrays_of_other_kinds_and_numpy_s_numbers_are_taken_as_a_notebook_has_them(world, predicted):
    import dask.array
    import pandas
    from scipy.spatial.transform import Rotation

    _, tomogram, truth = world
    table = predicted.to_dataframe()
    median = no.evaluate(predicted, truth).all.median_deg
    assert no.evaluate(table, truth).all.median_deg == pytest.approx(median, abs=1e-3)
    picks = pandas.DataFrame(truth.positions, columns=["x", "y", "z"])
    chunked = no.Tomogram(dask.array.from_array(tomogram.density[...]), np.float32(tomogram.voxel_size), "t")
    found = no.predict(chunked, picks, "ribosome-4x32", min_distance=np.float32(50))
    expected = no.predict(tomogram, truth, "ribosome-4x32").rotations
    np.testing.assert_allclose(found.rotations, expected, atol=1e-5)
    rotations = Rotation.from_matrix(found.rotations)
    np.testing.assert_allclose(no.Particles(positions=picks, rotations=rotations).rotations, found.rotations, atol=1e-5)
    with pytest.warns(ResultWarning, match="as they would if they counted in voxels of 10 Å"):
        no.predict(tomogram, picks / 10, "ribosome-4x32")
    with pytest.raises(no.InputError, match="columns z, y, x; expected x, y, z"):
        no.Particles(positions=picks[["z", "y", "x"]])


def test_what_verbs_take_and_give_is_copied_and_sent_to_other_processes(world, predicted, tmp_path):
    _, tomogram, truth = world
    made = [tomogram, predicted, no.symmetry("d7"), no.PredictionOptions(), no.evaluate(predicted, truth)]
    for item in made:
        assert repr(pickle.loads(pickle.dumps(item))) == repr(copy.deepcopy(item)) == repr(item)
        assert len(repr(no.symmetry("D7"))) < 40
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tomogram)).density[3], tomogram.density[3])
    no.convert(predicted, tmp_path / "a.csv")
    no.write_tomogram(tmp_path / "a.mrc", tomogram)
    assert no.read_tomogram(tmp_path / "a.mrc").extent == tomogram.extent


def test_particles_of_several_tomograms_are_chosen_by_the_tomograms_name(world, predicted):
    _, tomogram, truth = world
    other = truth.replace(tomogram="other")
    both = no.Particles(
        positions=np.concatenate([truth.positions, other.positions]),
        rotations=np.concatenate([truth.rotations, other.rotations]),
        tomogram=np.array(["tomo"] * 30 + ["other"] * 30),
    )
    assert no.average(tomogram, both, side=16).count == 30
    with pytest.raises(no.InputError, match="no particle lies in else; they lie in tomo, other"):
        no.average(no.Tomogram(tomogram.density, 10.0, "else"), both, side=16)
