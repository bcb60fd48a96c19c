"""The command line: what it leaves, what it prints where, and what it says of every mistake, in one line."""

import io
import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import torch

from napari_orient import progress
from napari_orient.cli import VERBS, main, parser_of
from napari_orient.cli.arguments import add_options, make_parser, options_from
from napari_orient.cli.demo import has_display
from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.corrections import marked_corrected
from napari_orient.engine.io import read_labelled, read_particles, write_particles, write_tomogram
from napari_orient.engine.options import Options, option
from napari_orient.engine.parameters import PRESETS, TrainingOptions
from napari_orient.engine.particles import Particles, concatenate
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step
from napari_orient.progress import follow, time_words


def words(*parts: object) -> list[str]:
    return [str(part) for part in parts]


# --- the path through the verbs --------------------------------------------------------------------------------------


def test_what_is_simulated_is_in_polnets_layout_and_the_same_for_the_same_seed(world, tmp_path, capsys):
    pairs = read_labelled(world.simulated)
    assert [tomogram.name for tomogram, _ in pairs] == ["tomo_001", "tomo_002", "tomo_003"]
    assert [len(particles) for _, particles in pairs] == [90, 90, 90]
    few = ["--size-x", "40", "--size-y", "40", "--size-z", "32", "--particles", "3"]
    for name in ("one", "two"):
        assert main(words("simulate", world.template, "--output", tmp_path / name, "--seed", 7, *few)) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("a tomogram with its truth, Tomo001")
    first, second = (sorted((tmp_path / name).rglob("*.*")) for name in ("one", "two"))
    assert [path.name for path in first] == [
        *("tomo_001_motif_list.csv", "tomo_001_rec.mrc", "labels_table.csv", "napari-orient.json")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_cards_table_of_conditions_is_printed_a_line_each(world, tmp_path, capsys):
    rows = {
        "plain": {"within_20": 1.0, "median_deg": 1.25, "expected_over_true": 0.98},
        "CTF 2 µm": {"within_20": 0.943, "median_deg": 3.5},
    }
    model = load_model(world.model)
    replace(model, card={**model.card, "conditions": rows}).save(tmp_path / "measured.safetensors")
    assert main(words("models", tmp_path / "measured.safetensors")) == 0
    shown = capsys.readouterr().out
    assert "    plain     100.0 % within 20°, median   1.2°, expected ÷ true 0.98\n" in shown
    assert "    CTF 2 µm   94.3 % within 20°, median   3.5°\n" in shown


def test_neighbouring_seeds_share_no_tomogram(world, tmp_path):
    few = ["--size-x", "40", "--size-y", "40", "--size-z", "32", "--particles", "3", "--tomograms", "2"]
    for seed in (1, 2):
        assert main(words("simulate", world.template, "--output", tmp_path / str(seed), "--seed", seed, *few)) == 0
    lists = [path.read_bytes() for path in tmp_path.rglob("*motif_list.csv")]
    assert len(set(lists)) == 4


def test_names_of_the_first_version_still_work_and_are_not_in_the_help():
    _, parser = parser_of("predict")
    assert parser.parse_args(["t.mrc", "p.star", "--output", "o.star", "--checkpoint", "mine"]).model == "mine"
    assert "--checkpoint" not in parser.format_help()
    _, parser = parser_of("train")
    assert parser.parse_args(["data", "--output", "o.safetensors", "--network", "bank"]).network == "template"
    assert "bank" not in parser.format_help()


def test_a_trained_network_predicts_far_better_than_chance_and_says_how_sure_it_is(world, tmp_path, capsys):
    out = tmp_path / "predicted.star"
    assert main(words("predict", world.tomogram, world.truth, "--model", world.model, "--output", out)) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}: 90 particles, expected error ")
    assert "CPU" in told.err
    assert "128 × 128 × 64 voxels of 10 Å" in told.err
    assert main(words("evaluate", out, world.truth, "--json")) == 0
    figures = json.loads(capsys.readouterr().out)["all"]
    assert figures["count"] == 90
    assert figures["median_deg"] < 60
    assert figures["chance_median_deg"] > 120
    assert 0.5 < figures["expected_over_true"] < 2
    assert figures["position_median"] < 0.01


def test_the_report_of_a_prediction_takes_chance_modulo_the_model_s_symmetry(world, tmp_path):
    model = load_model(world.model)
    symmetric, page = tmp_path / "symmetric.safetensors", tmp_path / "page.html"
    replace(model, options=replace(model.options, symmetry="C7")).save(symmetric)
    out = tmp_path / "out.star"
    command = words("predict", world.tomogram, world.truth, "--model", symmetric, "--output", out, "--report", page)
    assert main(command) == 0
    assert "random rotations (line); C7." in page.read_text(encoding="utf-8")


def test_an_evaluation_lists_failure_regions_and_what_goes_with_the_error(world, tmp_path, capsys):
    out, truth = tmp_path / "turned.csv", read_particles(world.truth)
    nearest = np.argsort(np.linalg.norm(truth.positions - truth.positions[0], axis=1))[:3]
    rotations = truth.required_rotations().copy()
    rotations[nearest] = rotations[nearest] @ np.diag([1.0, -1.0, -1.0])
    write_particles(out, truth.replace(rotations=rotations))
    assert main(words("evaluate", out, world.truth, "--diameter", "400")) == 0
    report = capsys.readouterr().out
    assert "A: 3 failures" in report
    assert "What goes with the error" in report
    assert main(words("evaluate", out, world.truth, "--diameter", "400", "--json")) == 0
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert failures["failed"] == 3
    assert failures["regions"][0]["name"] == "A"
    assert main(words("evaluate", out, world.truth, "--diameter", "-1")) == 2
    assert "expected a length in Å above 0" in capsys.readouterr().err


def test_prediction_keeps_order_class_and_foreign_columns_and_says_where_it_comes_from(world, tmp_path):
    out = tmp_path / "predicted.star"
    assert main(words("predict", world.tomogram, world.truth, "--model", world.model, "--output", out)) == 0
    picks, predicted = read_particles(world.truth), read_particles(out)
    np.testing.assert_allclose(predicted.positions, picks.positions, atol=1e-4)
    assert list(predicted.kind) == list(picks.kind) == ["pdb_1abc"] * 90
    assert list(predicted.extra["polymer"]) == list(picks.extra["polymer"])
    assert predicted.confidence.min() >= 0
    assert predicted.confidence.max() <= 1
    assert re.match(
        r"# napari-orient [\d.]+: predicted by small \(network\), data [0-9a-f]{16}; picks rounded\n", out.read_text()
    )


def test_poses_told_anew_leave_behind_how_the_old_ones_first_came_and_that_a_person_turned_them(world, tmp_path):
    first, again = tmp_path / "first.star", tmp_path / "again.star"
    told = "--model", world.model, "--output"
    assert main(words("predict", world.tomogram, world.truth, *told, first)) == 0
    tables = ("orient_first_poses", "orient_state", "mine")
    first.write_text(first.read_text() + "".join(f"\ndata_{name}\n\nloop_\n_row #1\n0\n1\n" for name in tables))
    assert main(words("predict", world.tomogram, first, *told, again)) == 0
    assert set(read_particles(again).blocks) >= {"orient_state", "mine"}
    assert "orient_first_poses" not in again.read_text()
    turned = tmp_path / "turned.csv"
    write_particles(turned, marked_corrected(read_particles(first), [3, 8], True))
    assert main(words("predict", world.tomogram, turned, *told, again)) == 0
    assert "orientCorrected" in read_particles(turned).extra
    assert "orientCorrected" not in read_particles(again).extra


def test_relions_import_list_stands_beside_the_particles_if_it_is_asked_for(world, tmp_path):
    command = words("predict", world.tomogram, world.truth, "--model", world.model, "--import-list")
    assert main([*command, "--output", str(tmp_path / "out.star")]) == 0
    rows = (tmp_path / "out_import.star").read_text().split()
    assert rows[-2:] == ["tomo_001", "out.star"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.star", "out_import.star"]


def test_no_file_that_is_written_holds_an_absolute_path(world, tmp_path, capsys):
    star, table, report = (tmp_path / name for name in ("out.star", "out.csv", "report.json"))
    told = ("--checkpoint", world.model, "--output", star, "--import-list")
    assert main(words("predict", world.tomogram, world.truth, *told)) == 0
    assert main(words("convert", star, table, "--tomogram", world.tomogram)) == 0
    capsys.readouterr()
    assert main(words("evaluate", star, world.truth, "--json")) == 0
    report.write_text(capsys.readouterr().out)
    written = [path for folder in (world.folder, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".star", ".csv", ".json", ".safetensors", ".mrc"}
    places = {bytes(place) for place in (world.folder.parent, tmp_path.parent, Path.home(), Path.cwd())}
    assert not [path for path in written for place in places if place in path.read_bytes()]


@pytest.mark.parametrize("flag", ["--tomogram", "--tomograms"])
def test_a_list_of_many_tomograms_is_exported_with_the_folder_that_was_simulated(flag, world, tmp_path):
    poses, out = tmp_path / "poses.star", tmp_path / "out.star"
    every = concatenate([particles for _, particles in read_labelled(world.simulated)])
    write_particles(poses, every)
    assert main(words("export", poses, out, "--for", "relion5", flag, world.simulated)) == 0
    assert {"out_tomograms.star", "out_optimisation_set.star"} <= {path.name for path in tmp_path.iterdir()}
    assert "_rlnCenteredCoordinateXAngst" in out.read_text()


def test_a_list_from_the_centre_is_evaluated_beside_its_tomogram(world, tmp_path, capsys):
    star = tmp_path / "centred.star"
    assert main(words("export", world.truth, star, "--for", "relion5", "--tomogram", world.tomogram)) == 0
    (tmp_path / "centred_tomograms.star").unlink()
    (tmp_path / "centred_optimisation_set.star").unlink()
    star.write_text(star.read_text().split("data_global")[0])
    capsys.readouterr()
    assert main(words("evaluate", star, world.truth, "--json")) == 2
    assert "--tomogram" in capsys.readouterr().err
    assert main(words("evaluate", star, world.truth, "--json", "--tomogram", world.tomogram)) == 0
    assert json.loads(capsys.readouterr().out)["all"]["median_deg"] < 0.1


def test_an_import_list_of_several_tomograms_is_refused_before_anything_is_written(world, tmp_path, capsys):
    pairs, mixed = read_labelled(world.simulated), tmp_path / "mixed.csv"
    write_particles(mixed, concatenate([particles for _, particles in pairs]))
    command = words("convert", mixed, tmp_path / "out.star", "--import-list")
    assert "particles of 3 tomograms" in refused(command, capsys)
    assert list(tmp_path.iterdir()) == [mixed]


def test_a_report_for_a_person_has_chance_beside_it(world, capsys):
    assert main(words("evaluate", world.truth, world.truth, "--symmetry", "D7@0.6,0,0.8")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "90 particles matched, 0 without a partner; symmetry D7@0.6,0,0.8"
    assert any(line.startswith("chance") for line in lines)


def test_a_list_survives_conversion_there_and_back(world, tmp_path, capsys):
    star, table, again = tmp_path / "a.star", tmp_path / "b.csv", tmp_path / "c.star"
    assert main(words("convert", world.truth, star, "--tomogram", world.tomogram, "--class", "1ABC")) == 0
    assert main(words("convert", star, table)) == 0
    assert main(words("convert", table, again, "--tomogram", world.tomogram, "--dialect", "relion4")) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{star}: 90 particles, with orientations"
    first, last = read_particles(world.truth), read_particles(again)
    np.testing.assert_allclose(last.positions, first.positions, atol=1e-3)
    assert angle_deg(last.rotations, first.rotations).max() < 1e-3


def test_points_of_membranes_in_a_polnet_list_are_left_out_and_counted(tmp_path, capsys):
    mixed, out = tmp_path / "tomo_001_motif_list.csv", tmp_path / "out.csv"
    head = "Type\tLabel\tCode\tPolymer\tX\tY\tZ\tQ1\tQ2\tQ3\tQ4\n"
    particle = "SAWLC\t1\tpdb_4v4r\t0\t100\t110\t120\t0.545545\t-0.109109\t0.763763\t0.327327\n"
    mixed.write_text(head + particle + 2 * "Membrane\t2\tmb\t0\t10\t10\t10\t0\t0\t1\t0\n")
    assert main(words("convert", mixed, out)) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}: 1 particle,")
    assert "2 rows of" in told.err
    assert "membranes" in told.err


def test_a_card_tells_what_a_network_learnt(world, capsys):
    assert main(words("models", world.model)) == 0
    text = capsys.readouterr().out
    assert text.startswith("small (network)\n")
    assert "training 180, validation 90" in text
    assert "width 64" in text


# --- stopping and going on -------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_best_network_and_resume_goes_on_from_there(world, tmp_path):
    out, state = tmp_path / "stopped.safetensors", tmp_path / "stopped.resume"
    command = words("train", world.simulated, "--output", out, "--width", 16, "--patch-side", 20, "--mask-radius", 90)
    # Where tests run in the background or beside others the signal is ignored, and what they start inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [sys.executable, "-m", "napari_orient.cli", *command, "--epochs", "10000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    signal.signal(signal.SIGINT, before)
    waited = time.monotonic()
    while not state.exists() and running.poll() is None and time.monotonic() - waited < 120:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    told, errors = running.communicate(timeout=60)
    assert (running.returncode, told) == (130, "")
    last = errors.splitlines()[-1]
    assert last == f"Stopped; the best network so far is in {out}. The same command with --resume goes on."
    done = load_model(out).card["figures"]["epoch"]
    assert done >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.resume", "stopped.safetensors"]
    assert main([*command, "--epochs", "10000", "--resume", "--width", "8"]) == 2
    reached = int(re.search(rb'"training": (\d+)', state.read_bytes().replace(b'\\"', b'"')).group(1))
    assert main([*command, "--epochs", str(reached + 1), "--resume"]) == 0
    assert not state.exists()


def test_a_stream_is_closed_when_ctrl_c_falls_in_it(capsys):
    closed = []

    def stream():
        try:
            yield Step(0, 2, "working")
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        follow(stream())
    assert closed == [True]


# --- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def counting(total: int, tick=lambda: None):
    for done in range(total):
        yield Step(done, total, "counting sheep")
        tick()
    return "asleep"


def test_where_no_terminal_is_progress_is_a_line_at_the_start_and_one_at_the_end(capsys):
    assert follow(counting(5000)) == "asleep"
    told = capsys.readouterr()
    assert told.out == ""
    first, last = told.err.splitlines()
    assert first == "counting sheep  0/5000"
    assert re.fullmatch(r"counting sheep: done in \d+ s", last)


def test_on_a_terminal_progress_is_one_line_that_changes_with_the_time_left(monkeypatch):
    terminal, now = Terminal(), [100.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    follow(counting(6, lambda: now.append(now.pop() + 2.0)), title="Night")
    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\r\x1b[KNight: done in 12 s\n")
    assert re.search(r"\rNight: counting sheep  3/6  6 s left", text)


def test_time_is_said_in_words():
    assert [time_words(seconds) for seconds in (0.4, 59, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 5 min"]


# --- help and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_with_an_example(verb, capsys):
    told = []
    for command in ([verb, "--help"], ["help", verb]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        told.append(capsys.readouterr())
        assert (ended.value.code, told[-1].err) == (0, "")
    assert f"\nexample:\n  napari-orient {verb}" in told[0].out
    assert told[0] == told[1]


def test_help_without_a_verb_names_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys, napari_orient.cli as cli\n"
        "try: cli.main([])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'scipy', 'pandas', 'napari'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb, summary in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(summary)}$", done.stdout, re.MULTILINE)


def test_every_option_of_every_task_is_a_flag_that_shows_its_help_and_default(capsys):
    for verb, kinds in {"simulate": [SimulationOptions], "train": [type(item) for item in PRESETS["paper"]]}.items():
        with pytest.raises(SystemExit):
            main([verb, "--help-all"])
        text = " ".join(capsys.readouterr().out.split())
        for parameter in (parameter for kind in kinds for parameter in kind.parameters()):
            assert f"--{parameter.name.replace('_', '-')}" in text
            assert parameter.help in text


def test_what_is_given_takes_the_place_of_the_presets_and_the_rest_stays():
    parser = make_parser("x", description="", example="")
    add_options(parser, TrainingOptions, title="training")
    paper = PRESETS["paper"][1]
    given = parser.parse_args(["--epochs", "3", "--half-turns", "--rate", "1e-3"])
    assert options_from(given, paper).to_record() == {
        **paper.to_record(),
        "epochs": 3,
        "half_turns": True,
        "rate": 1e-3,
    }


@dataclass(frozen=True, kw_only=True)
class Tea(Options):
    """An expert option and an earlier name."""

    sugar: int = option(1, help="lumps of sugar", low=0, aliases=("sweet_lumps",))
    heat: float = option(95.0, help="heat of the water", unit="°C", expert=True)


def test_expert_options_are_parsed_though_only_the_whole_help_shows_them(capsys):
    parser = make_parser("tea", description="", example="")
    add_options(parser, Tea, title="tea")
    short = parser.format_help()
    assert "--sugar" in short
    assert "--heat" not in short
    assert short.endswith("\n1 more options: tea --help-all\n")
    assert options_from(parser.parse_args(["--heat", "80"]), Tea()) == Tea(heat=80.0)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help-all"])
    assert "heat of the water" in capsys.readouterr().out


def test_an_earlier_name_of_an_option_is_a_flag_that_no_help_shows():
    parser = make_parser("tea", description="", example="")
    add_options(parser, Tea, title="tea")
    assert options_from(parser.parse_args(["--sweet-lumps", "3"]), Tea()) == Tea(sugar=3)
    assert "sweet" not in parser.format_help()


@pytest.mark.filterwarnings("default::napari_orient.engine.options.UnknownOptionWarning")
def test_an_option_of_a_file_that_this_version_does_not_have_is_noted_in_one_line(tmp_path, capsys):
    path = tmp_path / "later.safetensors"
    shipped = load_model("ribosome")
    found = shipped.to_file()
    replace(found, options={**found.options, "lemon": 1}).write(path)
    assert main(["models", str(path)]) == 0
    assert "Note: option 'lemon' is unknown to this version and was ignored" in capsys.readouterr().err


def test_a_display_is_one_that_the_environment_names(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":7")
    assert has_display()
    monkeypatch.delenv("DISPLAY")
    assert not has_display()


# --- mistakes: one line, exit 2, no file -----------------------------------------------------------------------------


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command says."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[-1].startswith("napari-orient: ")
    assert sum(line.startswith("napari-orient: ") for line in lines) == 1
    return lines[-1]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("fly", "'fly' given; expected one of discover, demo"),
        ("preddict", "'preddict' given; did you mean predict?"),
        ("--verbose predict", "--verbose is no option"),
        ("predict t.mrc p.star --outptu o.star", "--outptu is no option; did you mean --output?"),
        ("predict t.mrc p.star --output o.star --tilt-axsi 3", "--tilt-axsi is no option; did you mean --tilt-axis?"),
        ("predict t.mrc p.star --output o.star --symmetry C7", "--symmetry is of a --reference, and none is given"),
        ("predict t.mrc p.star --output o.star --prior-axis q", "'q' is not a direction"),
        ("predict t.mrc p.star --output o.star --lowest-tilt 40 --highest-tilt -40", "tilts run from 40° to -40°"),
        ("predict t.mrc p.star --output o.star --model ribosome-4x32 --tilts no.tlt", "--tilts no.tlt: no such file"),
        ("evaluate ~/no.star b.star", f"{Path.home()}/no.star: no such file"),
        ("convert a.star ~/no/b.csv", f"{Path.home()}/no is not a folder"),
        ("predict t.mrc p.star --output=~/no/o.star", f"{Path.home()}/no is not a folder"),
        ("convert a.star b.csv --min-distance nan", "'nan' given; expected a length in Å above 0"),
        ("convert a.star b.csv --pixel-size 1,35", "'1,35' given; expected a length in Å above 0"),
        ("evaluate a.star b.star --threshold 999", "'999' given; expected degrees above 0 and up to 180"),
        ("predict", "the following arguments are required: [TOMOGRAM...] PICKS, -o/--output"),
        ("simulate x --output y --tomograms many", "'many' given; expected a whole number of at least 1"),
        ("simulate x --output y --size-x 1e3", "expected a whole number from 16 to 4096 voxels"),
        ("simulate x --output y --tilt-axis z", "'z' given; expected one of"),
        ("simulate ribosome --output y --size-x 15", "--size-x: '15' given; expected a whole number from 16 to 4096"),
        ("simulate ribosome --output y --phase-shift 90", "--phase-shift is 90.0, but there is no defocus; give it"),
        ("simulate ribosome --output y --snr-low 3", "expected low not above high"),
        ("simulate ribosome --output y --tomograms 0", "expected a whole number of at least 1"),
        ("simulate lysosome --output y", "'lysosome' is neither a file nor a map that comes with the program"),
        ("train nowhere --output y.safetensors", "nowhere"),
        ("train nowhere --output y.pt", "ends in .safetensors"),
        ("train nowhere --output y.safetensors --resume", "y.resume: no such file"),
        ("evaluate nowhere.star nowhere.star --symmetry Q7", "symmetry 'Q7' is unknown"),
        ("convert nowhere.star y.xlsx", "no known suffix"),
        ("models nobody", "there is no file or shipped model 'nobody'"),
        ("checkpoints nobody", "there is no file or shipped model 'nobody'"),
        ("demo --output /proc/demo", "cannot be written"),
    ],
)
def test_a_mistake_in_the_command_is_told_in_one_line(command, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(command.split(), capsys)
    assert list(tmp_path.iterdir()) == []


def broken_mrc(path: Path, how: str) -> Path:
    """An MRC file that is broken in one way."""
    write_tomogram(path, np.random.default_rng(0).normal(size=(32, 32, 32)), voxel_size=10.0)
    content = bytearray(path.read_bytes())
    if how == "empty":
        content.clear()
    elif how == "truncated":
        del content[5000:]
    elif how == "wrong magic":
        content[:1024] = b"\x89PNG" + bytes(range(256)) * 3 + bytes(252)
    elif how == "not a volume":
        content[8:12] = struct.pack("<i", 1)
    path.write_bytes(content)
    if how.startswith("voxels"):
        with mrcfile.open(path, mode="r+") as volume:
            volume.voxel_size = tuple(float(size) for size in how.split()[1:])
    return path


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("empty", "is empty (0 bytes)"),
        ("truncated", "is cut short: 5,000 of 132,096 bytes"),
        ("wrong magic", "is not an MRC file"),
        ("not a volume", "expected a volume"),
        ("voxels 0 0 0", "states no voxel size"),
        ("voxels 1 1 1", "states voxels of 1.0 Å"),
        ("voxels 10 10 12", "needs cubic voxels"),
    ],
)
def test_a_broken_tomogram_is_refused(how, expected, world, tmp_path, capsys):
    path, out = broken_mrc(tmp_path / "t.mrc", how), tmp_path / "out.star"
    line = refused(words("predict", path, world.truth, "--model", world.model, "--output", out), capsys)
    assert expected in line
    assert str(path) in line
    assert list(tmp_path.iterdir()) == [path]


def test_a_voxel_size_that_is_given_mends_a_header(world, tmp_path):
    path = tmp_path / "tomo_001.mrc"
    path.write_bytes(world.tomogram.read_bytes())
    with mrcfile.open(path, mode="r+") as volume:
        volume.voxel_size = 0
    command = words("predict", path, world.truth, "--model", world.model, "--output", tmp_path / "out.star")
    assert main(command) == 2
    assert main([*command, "--voxel-size", "10"]) == 0
    assert len(read_particles(tmp_path / "out.star")) == 90


HEAD = "data_particles\n\nloop_\n_rlnTomoName #1\n"
COORDINATES = "_rlnCenteredCoordinateXAngst #2\n_rlnCenteredCoordinateYAngst #3\n_rlnCenteredCoordinateZAngst #4\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty (0 bytes)"),
        ("%PDF-1.4 nothing like a STAR file", ""),
        ("data_optics\n\nloop_\n_rlnVoltage #1\n300\n", "no "),
        (HEAD + "tomo_001\n", "coordinate"),
        (HEAD + COORDINATES, "no "),
        (HEAD + "_rlnAngleRot #2\n_rlnAngleTilt #3\n_rlnAnglePsi #4\ntomo_001 1 2 3\n", "coordinate"),
        (HEAD + COORDINATES + "_rlnAngleRot #5\ntomo_001 0 0 0 5\n", "rlnAngle"),
        (HEAD + COORDINATES + "tomo_001 0 nan 0\n", "expected a number"),
        (HEAD + COORDINATES + "tomo_001 0 0\n", "is no STAR file that can be read"),
        (HEAD + COORDINATES + "TS_99 0 0 0\n", "has no particle of tomo_001"),
        (HEAD + COORDINATES + "tomo_001 0 9000 0\ntomo_001 0 0 0\n", "1 of 2 particles lie outside"),
        (
            HEAD + COORDINATES + "tomo_001 2400 2300 1000\ntomo_001 -300 0 0\n",
            "if the tomogram's voxels were 30 Å (binned by 3: give that voxel size).",
        ),
    ],
    ids=lambda text: text.splitlines()[-1][:40] if text.strip() else "empty",
)
def test_a_broken_list_of_picks_is_refused(content, expected, world, tmp_path, capsys):
    path, out = tmp_path / "picks.star", tmp_path / "out.star"
    path.write_text(content)
    command = words("predict", world.tomogram, path, "--model", world.model, "--output", out)
    assert expected in refused(command, capsys)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("head", [HEAD, HEAD.replace("data_particles", "data_")], ids=["one row", "unnamed block"])
def test_one_row_and_an_unnamed_block_are_read_all_the_same(head, world, tmp_path):
    path, out = tmp_path / "picks.star", tmp_path / "out.star"
    path.write_text(head + COORDINATES + "tomo_001 10 20 30\n")
    assert main(words("predict", world.tomogram, path, "--model", world.model, "--output", out)) == 0
    np.testing.assert_allclose(read_particles(out).positions, [[650, 660, 350]], atol=1e-4)
    assert "\ndata_particles\n\nloop_\n" in out.read_text()


def test_no_picks_of_the_class_are_told_with_the_classes_there_are(world, tmp_path, capsys):
    command = words("predict", world.tomogram, world.truth, "--model", world.model)
    line = refused([*command, "--output", str(tmp_path / "out.star"), "--class", "4v4r"], capsys)
    assert "no particle is of class '4v4r'; there are pdb_1abc" in line
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_never_replaced_in_silence(world, tmp_path, capsys):
    device = "cuda" if torch.backends.mps.is_available() else "mps"
    command = words("predict", world.tomogram, world.truth, "--model", world.model, "--device", device)
    line = refused([*command, "--output", str(tmp_path / "out.star")], capsys)
    assert f"device '{device}' is not on this machine" in line
    assert list(tmp_path.iterdir()) == []


class Hostile:
    """A pickle that would make a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_model_that_is_none_is_refused_and_runs_no_code(world, tmp_path, capsys):
    sprung = tmp_path / "sprung"
    whole = world.model.read_bytes()
    foreign = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    for content in (
        pickle.dumps(Hostile(sprung)),
        whole[: len(whole) // 2],
        whole[:4],
        b"",
        struct.pack("<Q", len(foreign)) + foreign + bytes(4),
        struct.pack("<Q", 2**62) + whole[8:],
    ):
        path, out = tmp_path / "net.safetensors", tmp_path / "out.star"
        path.write_bytes(content)
        line = refused(words("predict", world.tomogram, world.truth, "--model", path, "--output", out), capsys)
        assert str(path) in line
        assert list(tmp_path.iterdir()) == [path]


def test_a_state_of_training_is_no_model(world, tmp_path, capsys):
    stopped = tmp_path / "net.safetensors"
    stopped.write_bytes(world.model.read_bytes().replace(b'\\"card\\"', b'\\"kard\\"'))
    line = refused(
        words("predict", world.tomogram, world.truth, "--model", stopped, "--output", tmp_path / "o.star"), capsys
    )
    assert "is not a model (its header lacks card)" in line


def test_a_patch_larger_than_the_tomogram_is_refused(world, tmp_path, capsys):
    small = tmp_path / "tomo_001.mrc"
    write_tomogram(small, np.random.default_rng(0).normal(size=(12, 64, 64)), voxel_size=10.0)
    picks = tmp_path / "picks.csv"
    write_particles(picks, Particles(positions=[[300.0, 300.0, 60.0]], tomogram="tomo_001"))
    out = tmp_path / "out.star"
    line = refused(words("predict", small, picks, "--model", world.model, "--output", out), capsys)
    assert "patches of 200 Å are larger than tomo_001" in line
    assert not out.exists()


@pytest.mark.parametrize("out", ["missing/out.star", "/proc/out.star", "out.docx", "."])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # No tomogram is there either: that the place is told first shows that nothing was read before.
    line = refused(words("predict", "none.mrc", "none.star", "--output", out), capsys)
    assert any(name in line for name in (out, "missing", "/proc"))
    assert "none." not in line
    assert list(tmp_path.iterdir()) == []


def test_training_on_several_classes_at_once_is_refused(world, tmp_path, capsys):
    pairs = read_labelled(world.simulated)
    kinds = np.where(np.arange(90) % 2, "pdb_1abc", "pdb_2xyz")
    mixed = tmp_path / "mixed.star"
    extents = {tomogram.name: tomogram.extent for tomogram, _ in pairs}
    write_particles(mixed, pairs[0][1].replace(kind=kinds), extents=extents)
    command = words("train", mixed, "--tomograms", world.tomogram.parent, "--output", tmp_path / "n.safetensors")
    assert "the classes pdb_1abc, pdb_2xyz; a model learns one" in refused(command, capsys)
    assert "no particle is of class '9zzz'" in refused([*command, "--class", "9zzz"], capsys)
    assert list(tmp_path.iterdir()) == [mixed]


def test_what_a_shell_variable_that_is_empty_leaves_is_neither_a_folder_nor_an_option_not_given(capsys):
    assert "an empty name given; expected a file or folder" in refused(["convert", "", "o.csv"], capsys)
    for flag in ("--where", "--class", "--tomogram-name", "--symmetry"):
        assert f"{flag}: nothing given; expected" in refused(["convert", "a.star", "b.csv", flag, ""], capsys)
    for flag in ("--tilts", "--tilt-axis", "--mask", "--slurm-partition"):
        words = ["average", "t.mrc", "a.star", "--output", "m.mrc", flag, " "]
        assert f"{flag}: nothing given; expected" in refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--side", "33"], "--side: '33' given; expected an even number from 8 to 512"),
        (["--radius", "inf"], "--radius: 'inf' given; expected a number from 1 to 5000 Å"),
        (["--seed", "-1"], "--seed: '-1' given; expected a whole number from 0 to 2147483647 "),
        (["--tilt-axis", "lowest_tilt"], "--tilt-axis is 'lowest_tilt'; expected found, x, y, none, or an angle"),
        (["--lowest-tilt", "40", "--highest-tilt", "30"], "expected --lowest-tilt below --highest-tilt."),
        (["--voxel-size", "1e9"], "--voxel-size: '1e9' given; expected a length in Å above 0 and up to 100,000"),
        (["--symmetry", "banana"], "symmetry 'banana' is unknown"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_flag(world, words, expected, tmp_path, capsys):
    given = [*map(str, ("average", world.tomogram, world.tomogram, "--output", tmp_path / "m.mrc"))]
    assert expected in refused([*given, *words], capsys)


def test_a_folder_of_tomograms_beside_a_tomogram_is_refused_whether_it_is_there_or_not(world, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        given = words("average", world.tomogram, tmp_path / "a.star", "--tomograms", folder, "-o", tmp_path / "m.mrc")
        assert "it says where the tomograms of a list alone are" in refused(given, capsys)
    for flag, said in (("--tomograms", "beside simulated"), ("--tomograms-star", "nowhere.star: no such file.")):
        given = words("train", world.simulated, flag, tmp_path / "nowhere.star", "-o", tmp_path / "m.safetensors")
        assert said in refused(given, capsys)


def test_a_mistake_in_a_real_process_is_one_line_and_exit_2(tmp_path):
    command = [sys.executable, "-m", "napari_orient", "evaluate", "none.star", "none.star"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "napari-orient: none.star: no such file.\n"


def test_input_errors_are_values_so_that_scripts_can_catch_them():
    assert issubclass(InputError, ValueError)
