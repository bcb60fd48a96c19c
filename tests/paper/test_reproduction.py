"""The paper's experiment: stages leave their files, stop and go on to the same figures, and the figures are true."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.learning import BALLS, WEIGHTS
from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.io import read_labelled, read_particles
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.parameters import NetworkOptions
from napari_orient.engine.particles import Particles
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.representations import REPRESENTATIONS
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.streams import Step, run
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template
from napari_orient.paper.dataset import Macromolecule, PatchCache, paper_templates, read_folders, split_dataset
from napari_orient.paper.experiment import reproduce
from napari_orient.paper.options import SCALES, ReproductionOptions
from napari_orient.paper.results import reading
from napari_orient.paper.scores import (
    axis_and_azimuth_deg,
    by_neighbour,
    crowther,
    raw_r_squared,
    scored,
)
from napari_orient.paper.setups import fewer, printed, shipped, steps_up
from napari_orient.paper.stages import Stage, close_record, open_record, run_stages

TINY = ReproductionOptions.of(
    tomograms=4,
    test=1,
    ribosomes=8,
    proteasomes=6,
    size_xy=72,
    size_z=48,
    epochs=2,
    ablation=False,
    device="cpu",
)


def blobs(code: str, group: str | None = None) -> Template:
    """A particle of four balls, about 100 Å across."""
    place = np.arange(-8, 9) * 10.0
    z, y, x = np.meshgrid(place, place, place, indexing="ij")
    balls = zip(BALLS, WEIGHTS, strict=True)
    density = sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 16**2)) for (a, b, c), h in balls)
    if group is not None:
        density = density + density[:, ::-1, ::-1]
    return Template(density.astype(np.float32), 10.0, code, group)


TEMPLATES = (blobs("pdb_1aaa"), blobs("pdb_2bbb", "C2"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The experiment, run to its end at one go."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(reproduce(folder, TINY, templates=TEMPLATES))


def figures(record):
    """What must not depend on when the work was stopped."""
    return {
        name: {key: row[key] for key in ("r_squared", "once", "turned")} for name, row in record["networks"].items()
    }


# --- the whole experiment -------------------------------------------------------------------------------------------


def test_every_stage_leaves_its_files(whole):
    folder, record = whole
    assert len(list(folder.glob("tomograms/Tomo*/*_motif_list.csv"))) == 4
    names = {*(f"printed-{item}" for item in REPRESENTATIONS), "code-6d"}
    names |= {"symmetric-printed-aware", "symmetric-printed-naive"}
    names |= {"wide-6d"}
    assert set(record["networks"]) == names
    for folder_name, suffix in (("networks", ".safetensors"), ("networks", ".json"), ("predicted", ".star")):
        assert {path.stem for path in (folder / folder_name).glob(f"*{suffix}")} == names
    assert not list(folder.glob("networks/*.resume"))
    assert json.loads((folder / "results.json").read_text()) == record
    pictures = {path.name: path.stat().st_size for path in folder.glob("*.png")}
    assert set(pictures) == {"figure2_angles.png", "figure2_axes.png", "neighbours.png", "symmetry.png"}
    assert min(pictures.values()) > 10_000


def test_no_tomogram_is_in_two_parts(whole):
    _, record = whole
    assert record["sample"]["tomograms"] == {"training": 2, "validation": 1, "test": 1}
    assert record["sample"]["particles"]["pdb_1aaa"] == {"training": 16, "validation": 8, "test": 8}
    assert all(row["trained_on"] in (16, 12) for row in record["networks"].values())


def test_figures_are_those_of_the_poses_and_networks_left_on_disk(whole):
    folder, record = whole
    labelled = read_labelled(folder / "tomograms")
    truth = next(part for tomogram, part in labelled if tomogram.name == record["sample"]["test"][0])
    for name, row in record["networks"].items():
        own = truth.of_kind(row["subject"])
        group = symmetry("C2" if name.startswith("symmetric-") else "C1")
        report = evaluate(read_particles(folder / "predicted" / f"{name}.star"), own, group=group)
        output = row[row["answer"]]
        assert report.all.median_deg == pytest.approx(output["median_deg"], abs=1e-3)
        assert report.all.within["24.56"] == output["within"]["24.56"]
        assert load_model(folder / "networks" / f"{name}.safetensors").mlp().options.to_record() == row["network"]


def test_tables_say_what_the_record_says_with_chance_and_the_paper_beside_it(whole):
    folder, record = whole
    table = (folder / "table.csv").read_text(encoding="utf-8").splitlines()
    rows = {row["network"]: row for row in csv.DictReader(table)}
    assert rows.keys() == record["networks"].keys()
    assert float(rows["printed-6d"]["r_squared"]) == pytest.approx(
        record["networks"]["printed-6d"]["r_squared"], abs=1e-4
    )
    page = (folder / "table.md").read_text(encoding="utf-8")
    printed_row = next(line for line in page.splitlines() if line.startswith("| as printed, 6d "))
    assert printed_row.endswith("| 0.96, 0.87; 81% |")
    assert "| a random guess | | | 0.22% | 0.41% | | |" in page
    assert "simulated from pdb_1aaa" in page
    assert "Å across | 60 Å: " in (folder / "crowther.md").read_text(encoding="utf-8")


def test_no_file_of_the_experiment_holds_an_absolute_path(whole):
    folder, _ = whole
    written = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".mrc"]
    assert {path.suffix for path in written} >= {".star", ".json", ".safetensors", ".csv", ".md"}
    assert not [path for path in written if bytes(folder.parent) in path.read_bytes()]


def test_stopped_anywhere_and_called_again_it_ends_at_the_same_figures(whole, tmp_path):
    _, record = whole
    for stop in ("simulating: tomogram 2", "printed, quaternion: CPU (1 thread): epoch 1, validation", "code, 6d"):
        stream = reproduce(tmp_path, TINY, templates=TEMPLATES)
        assert any(stop in step.message for step in stream)
        stream.close()
    assert figures(run(reproduce(tmp_path, TINY, templates=TEMPLATES))) == figures(record)


def test_what_is_finished_is_not_done_again(whole):
    folder, record = whole
    made = [path for path in folder.rglob("*") if path.suffix in (".mrc", ".csv", ".safetensors", ".star")]
    before = {path: path.stat().st_mtime_ns for path in made if path.parent != folder}
    steps = list(reproduce(folder, TINY, templates=TEMPLATES))
    assert not [step for step in steps if "epoch" in step.message or "cutting" in step.message]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((folder / "results.json").read_text()) == record


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ribosomes": 9}, r"was made with particles \[8, 6\], and now \[9, 6\] is asked for"),
        ({"size_z": 56}, "simulation size_z 48, and now 56"),
        ({"epochs": 1}, "training epochs 2, and now 1"),
    ],
)
def test_other_options_in_the_same_folder_are_refused_before_any_work(whole, change, words):
    folder, _ = whole
    stream = reproduce(folder, replace(TINY, **change), templates=TEMPLATES)
    with pytest.raises(InputError, match=words):
        next(stream)


def test_other_templates_in_the_same_folder_are_refused(whole):
    folder, _ = whole
    other = replace(TEMPLATES[0], density=TEMPLATES[0].density * TEMPLATES[0].density)
    with pytest.raises(InputError, match="made with templates pdb_1aaa"):
        next(reproduce(folder, TINY, templates=(other, TEMPLATES[1])))


def test_given_tomograms_are_taken_ablated_and_others_tried_on(whole, tmp_path):
    folder, _ = whole
    for path in (folder / "tomograms").rglob("*motif_list.csv"):
        target = tmp_path / "given" / path.relative_to(folder / "tomograms")
        target.parent.mkdir(parents=True)
        # The given ones bear the paper's code; the proteasome is left out.
        lines = path.read_text(encoding="utf-8").replace("pdb_1aaa", "pdb_4v4r").splitlines(keepends=True)
        target.write_text("".join(line for line in lines if "pdb_2bbb" not in line), encoding="utf-8")
        volume = next(path.parent.glob("*.mrc"))
        (target.parent / volume.name).symlink_to(volume)
    options = replace(TINY, ablation=True, epochs=1)
    given = [tmp_path / "given"]
    record = run(reproduce(tmp_path / "out", options, polnet=given, check=given[0]))
    assert not any(name.startswith("symmetric") for name in record["networks"])
    assert {setup.name for setup in steps_up()} < set(record["networks"])
    assert set(record["elsewhere"]) == {"polnet"}
    assert record["elsewhere"]["polnet"]["printed-6d"]["count"] == 32
    page = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| printed, mask and low-pass |")]
    assert re.search(r"(gains|loses|no more than tomograms differ).*as printed, 6d", rows[0])
    assert (tmp_path / "out" / "simulation.png").stat().st_size > 10_000


def test_tomograms_without_ribosomes_are_refused(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(InputError, match="hold no 4v4r"):
        next(reproduce(tmp_path / "out", TINY, polnet=[folder / "tomograms"]))
    assert not (tmp_path / "out").exists()


def test_two_folders_with_the_same_names_keep_their_tomograms_apart(whole):
    folder, _ = whole
    pairs = read_folders([folder / "tomograms", folder / "tomograms"])
    assert len(pairs) == 8
    assert all(particles.tomogram_names == [tomogram.name] for tomogram, particles in pairs)


# --- what is trained ------------------------------------------------------------------------------------------------


def test_the_printed_recipes_are_the_printed_ones():
    setups = {setup.name: setup for setup in printed()}
    assert len(setups) == 5
    for name, (width, epochs) in {"printed-euler": (32, 50), "code-6d": (128, 15)}.items():
        setup = setups[name]
        assert (setup.network.width, setup.training.epochs) == (width, epochs)
        assert (setup.training.rate, setup.training.batch, setup.network.front_end) == (
            1e-4,
            32,
            "raw",
        )
        assert (setup.answer, setup.weights, setup.training.half_turns) == (
            "once",
            "last",
            False,
        )
    parameters = sum(weight.numel() for weight in MLP(setups["printed-6d"].network).parameters())
    assert parameters == 2_051_398


def test_the_papers_scale_is_the_papers():
    paper = SCALES["paper"]
    assert (paper.tomograms, paper.test, paper.ablation) == (150, 20, True)
    assert (paper.tomograms - paper.test) * paper.ribosomes >= 23_000
    assert paper.test * paper.ribosomes == pytest.approx(3575, abs=25)


def test_each_step_of_the_ablation_changes_what_it_names():
    ladder = {setup.name: setup for setup in [*printed(), *steps_up(), shipped()]}
    for setup in [*steps_up(), shipped()]:
        base = ladder[setup.against]
        output = {name for name in ("network", "training", "answer") if getattr(setup, name) != getattr(base, name)}
        assert output
    assert [setup.particles for setup in fewer(2000)] == [100, 1000]


# --- figures whose answer is known ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_raw_r_squared_is_one_for_the_truth_and_nought_for_its_mean(name):
    network = MLP(NetworkOptions(representation=name, patch_side=16))
    rotations = torch.from_numpy(random_rotations(500, np.random.default_rng(1)))
    target = network.representation.from_matrix(rotations)
    assert raw_r_squared(network, target, rotations) == pytest.approx(1)
    assert raw_r_squared(network, target.mean().expand_as(target), rotations) == pytest.approx(0, abs=1e-9)
    half = 0.5 * target + 0.5 * target.mean()
    assert raw_r_squared(network, half, rotations) == pytest.approx(0.75, abs=1e-6)


def test_raw_r_squared_is_before_a_rotation_is_made():
    network = MLP(NetworkOptions(patch_side=16))
    rotations = torch.from_numpy(random_rotations(300, np.random.default_rng(1)))
    # Twice too long: the rotation is right, the raw numbers are not.
    raw = 0.5 * network.representation.from_matrix(rotations)
    assert angle_deg(network.representation.to_matrix(raw).numpy(), rotations.numpy()).max() < 1e-4
    assert raw_r_squared(network, raw, rotations) == pytest.approx(0.75, abs=0.01)


def test_raw_r_squared_of_a_symmetric_particle_counts_the_nearest_copy():
    network = MLP(NetworkOptions(symmetry="C2", patch_side=16))
    rotations = torch.from_numpy(random_rotations(300, np.random.default_rng(1)))
    raw = network.representation.from_matrix(rotations @ torch.diag(torch.tensor([-1.0, -1, 1], dtype=torch.float64)))
    assert raw_r_squared(network, raw, rotations) == pytest.approx(1)


def test_both_shares_are_counted_and_the_second_is_the_papers_own():
    rng = np.random.default_rng(2)
    truth = Particles(
        positions=np.zeros((4000, 3)), rotations=random_rotations(4000, rng), tomogram=np.repeat(list("abcd"), 1000)
    )
    turns = np.linspace(0, 40, 4000)
    axis = np.array([[0, 0, 1.0]])
    output = truth.required_rotations() @ Rotation.from_rotvec(np.radians(turns)[:, None] * axis).as_matrix()
    record = scored(output, truth, symmetry("C1"))
    assert record["within"]["20"] == pytest.approx(0.5, abs=0.001)
    trace = np.einsum("nij,nij->n", output, truth.required_rotations()).clip(-3, 3)
    papers = np.mean(np.degrees(np.arccos(trace / 3)) <= 20)
    assert record["within"]["24.56"] == pytest.approx(papers, abs=1e-9)
    assert record["median_deg"] == pytest.approx(20, abs=0.02)
    # The four tomograms differ wholly, and the standard error says so.
    assert record["within_error"]["20"] > 0.1


def test_axis_and_spin_are_told_apart():
    group = symmetry("D7@-0.6373,0.7642,0.0994@-0.1260,0.0239,-0.9917")
    truth = random_rotations(50, np.random.default_rng(3))
    spun = truth @ Rotation.from_rotvec(np.radians(10) * group.main_axis).as_matrix()
    axis, azimuth = axis_and_azimuth_deg(spun, truth @ group.matrices[9], group)
    np.testing.assert_allclose(axis, 0, atol=1e-5)
    np.testing.assert_allclose(azimuth, 10, atol=1e-5)
    across = np.cross(group.main_axis, [1.0, 0, 0])
    tipped = truth @ Rotation.from_rotvec(np.radians(8) * across / np.linalg.norm(across)).as_matrix()
    axis, azimuth = axis_and_azimuth_deg(tipped, truth, group)
    np.testing.assert_allclose(axis, 8, atol=1e-5)
    np.testing.assert_allclose(azimuth, 0, atol=1e-5)


def test_errors_are_grouped_by_the_distance_to_the_nearest_neighbour_and_the_lone_left_out():
    rows = by_neighbour(np.array([5.0, 30, 5]), np.array([30.0, 100, np.inf]), groups=2)
    assert [(row["from_angst"], row["within_20"], row["count"]) for row in rows] == [(30, 1, 1), (100, 0, 1)]


def test_crowthers_step_of_a_ribosome_at_20_angst_is_4_6_degrees():
    row = next(row for row in crowther(np.array([1.0, 4, 5, 9]), 250.0) if row["resolution_angst"] == 20)
    assert row["step_deg"] == pytest.approx(4.58, abs=0.01)
    assert row["within"] == 0.5


def test_a_reading_tells_gain_from_scatter():
    def row(share, error):
        part = {"within": {"20": share}, "within_error": {"20": error}, "median_deg": 10.0}
        return {"answer": "once", "once": part, "title": "base"}

    assert reading(row(0.9, 0.01), row(0.5, 0.01)).startswith("gains against “base”: +40.0 points")
    assert reading(row(0.5, 0.01), row(0.9, 0.01)).startswith("loses")
    assert reading(row(0.52, 0.05), row(0.5, 0.05)).startswith("no more than tomograms differ")


# --- stages ---------------------------------------------------------------------------------------------------------


def stage(title, seconds, steps, log):
    def work():
        try:
            yield from steps
        finally:
            log.append(title)

    return Stage(title, seconds, work)


def test_stages_count_as_one_task_by_the_time_they_take():
    log = []
    long = [Step(done, 4, "work") for done in range(5)]
    resumed = [Step(5, 10, "again"), Step(10, 10, "again")]
    steps = list(run_stages([stage("one", 30.0, long, log), stage("two", 10.0, resumed, log)]))
    assert [step.done for step in steps] == [0, 188, 375, 562, 750, 750, 1000, 1000]
    assert {step.total for step in steps} == {1000}
    assert steps[5].message == "2 of 2, two: again"
    assert log == ["one", "two"]


def test_the_seconds_of_each_stage_are_added_up_over_every_time_it_is_gone_on_with(tmp_path):
    times = tmp_path / "times.json"
    times.write_text('{"one": 5.0}')
    stages = [stage(title, 1.0, [Step(0, 1, "a"), Step(1, 1, "b")], []) for title in ("one", "two")]
    stream = run_stages(stages, times=times)
    next(stream)
    stream.close()
    assert set(json.loads(times.read_text())) == {"one"}
    run(run_stages(stages, times=times))
    noted = json.loads(times.read_text())
    assert 5 <= noted["one"] < 7
    assert noted["two"] < 2


def test_closing_closes_the_stage_that_is_at_work():
    log = []
    stream = run_stages([stage("one", 1.0, [Step(0, 2, "a"), Step(1, 2, "b")], log)])
    next(stream)
    stream.close()
    assert log == ["one"]


def test_a_record_is_kept_refused_and_never_read_when_broken(tmp_path):
    path = tmp_path / "deep" / "record.json"
    assert open_record(path, {"a": {"b": 1}}) is None
    assert open_record(path, {"a": {"b": 1}}) is None
    close_record(path, {"found": 2})
    assert open_record(path, {"a": {"b": 1}}) == {"found": 2}
    with pytest.raises(InputError, match="was made with a b 1, and now 2 is asked for"):
        open_record(path, {"a": {"b": 2}})
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        open_record(path, {"a": {"b": 1}})


# --- the sample -----------------------------------------------------------------------------------------------------


def test_recipes_that_see_the_same_cubes_share_them(whole):
    folder, _ = whole
    molecules = (Macromolecule("pdb_1aaa", "C1", 250.0), Macromolecule("pdb_2bbb", "C2", 150.0))
    patch_cache = PatchCache(split_dataset(read_labelled(folder / "tomograms"), molecules, TINY, share=0.1))
    setups = {setup.name: setup for setup in [*printed(), *steps_up()]}
    first = run(patch_cache.cut(setups["printed-6d"]))
    assert run(patch_cache.cut(setups["code-6d"])) is first
    assert run(patch_cache.cut(setups["mask"])) is first
    other = run(patch_cache.cut(setups["front-end"]))
    assert other is not first
    assert other.training.cubes.shape[-1] == 20


def test_templates_are_the_bead_models_or_a_folder_or_two_files(tmp_path):
    ribosome, proteasome = paper_templates()
    assert (ribosome.name, ribosome.symmetry, proteasome.name) == ("pdb_4v4r", "C1", "pdb_3j9i")
    assert len(symmetry(proteasome.symmetry)) == 14
    with pytest.raises(InputError, match=r"4v4r\.mrc: no such file"):
        paper_templates([tmp_path])
    with pytest.raises(InputError, match="1 templates were given; expected a folder"):
        paper_templates([tmp_path / "one.mrc"])


def test_too_many_test_tomograms_are_refused():
    with pytest.raises(InputError, match="4 of 4 tomograms to test on"):
        replace(TINY, test=4)
