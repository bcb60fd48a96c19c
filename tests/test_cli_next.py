"""The next command that a verb says: to a person at a terminal, correct as it is printed, and to nobody else."""

import io
import re
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from napari_orient.cli import main, parser_of
from napari_orient.cli.next_command import unused, with_tomograms
from napari_orient.engine.io import read_labelled, write_particles


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch, words):
    """What is said of a command that a person types at a terminal; it must end well."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        patch.setattr(sys, "stderr", Terminal())
        status = main([str(word) for word in words])
        said = sys.stderr.getvalue()
    assert status == 0, said
    return said


def next_command(said):
    """The words of the command in the last line; none where there is none."""
    found = re.fullmatch(r"Next: napari-orient (.+)", said.splitlines()[-1])
    return shlex.split(found[1]) if found else []


def followed(monkeypatch, words, **instead):
    """The commands that are typed one after the other, each as the last one said, to the first that is not printed.

    Words in capitals are those of a person, who writes ``instead`` of them what they stand for.
    """
    commands = []
    while words:
        commands.append(words)
        # Refinements are long: that their inputs are found is what a plan shows.
        planned = ["--dry-run"] if words[0] == "refine" else []
        said = typed(monkeypatch, [*words, *planned])
        words = [str(instead.get(word, word)) for word in next_command(said)]
    return commands


def test_the_commands_that_are_printed_lead_on_in_a_folder_whose_name_needs_quotes(world, tmp_path, monkeypatch):
    folder = tmp_path / "my project's"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tomogram, truth), *_ = read_labelled(world.simulated)
    write_particles(
        "picks.star", truth.take(np.arange(20)).replace(rotations=None), extents={tomogram.name: tomogram.extent}
    )
    found = followed(monkeypatch, ["models", world.model], TOMOGRAM=tomogram.path, PICKS="picks.star")
    assert [words[0] for words in found] == ["models", "predict", "report", "average", "refine"]
    assert all(set(words) >= {str(tomogram.path), "oriented.star"} for words in found[2:])


def test_a_list_that_was_refined_is_handed_on_and_one_without_angles_predicted(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tomogram, truth), *_ = read_labelled(world.simulated)
    some, sizes = truth.take(np.arange(20)), {tomogram.name: tomogram.extent}
    write_particles("fine.star", some, extents=sizes, provenance="napari-orient 0: refined against map, C1")
    found = followed(monkeypatch, ["average", tomogram.path, "fine.star", "--output", "map.mrc"])
    assert [words[0] for words in found] == ["average", "export"]
    assert next_command(typed(monkeypatch, ["about", "fine.star"]))[:2] == ["report", "fine.star"]
    write_particles("picks.star", some.replace(rotations=None), extents=sizes)
    assert next_command(typed(monkeypatch, ["about", "picks.star"]))[:3] == ["predict", "TOMOGRAM", "picks.star"]
    words = next_command(typed(monkeypatch, ["evaluate", "fine.star", "fine.star"]))
    assert words[:4] == ["report", "fine.star", "--truth", "fine.star"]
    typed(monkeypatch, words)


def test_a_folder_is_named_again_and_so_is_the_one_that_a_person_is_in(world, monkeypatch):
    monkeypatch.chdir(world.simulated)
    found = followed(monkeypatch, ["average", ".", "--side", "20", "--output", world.folder / "map.mrc"])
    assert [words[0] for words in found] == ["average", "refine"]
    few = ["--size-x", 40, "--size-y", 40, "--size-z", 32, "--particles", 3]
    words = next_command(typed(monkeypatch, ["simulate", world.template, "--output", world.folder / "few", *few]))
    parser_of(words[0])[1].parse_args(words[1:])


def test_of_many_tomograms_the_folder_is_named_again(tmp_path):
    pairs = [(SimpleNamespace(path=tmp_path / f"TS_{number}.mrc"), None) for number in range(5)]
    given = Namespace(paths=[tmp_path, Path("picks.star")], voxel_size=7.5)
    words = with_tomograms(given, pairs, Path("out.star"))
    assert words == [str(tmp_path), "out.star", "--voxel-size", "7.5"]
    apart = [(SimpleNamespace(path=tmp_path / str(number) / "a.mrc"), None) for number in range(5)]
    assert with_tomograms(Namespace(paths=[Path("*/a.mrc")]), apart, Path("out.star")) == ["*/a.mrc", "out.star"]
    assert with_tomograms(given, [(SimpleNamespace(path=None), None)], Path("out.star")) is None


def test_scripts_pipes_and_quiet_works_are_told_no_next_command(world, tmp_path, monkeypatch, capsys):
    assert main(["models", str(world.model)]) == 0
    assert "Next:" not in capsys.readouterr().err
    assert typed(monkeypatch, ["models", world.model, "--quiet"]) == ""


def test_a_quiet_work_says_warnings_and_errors_alone(world, tmp_path, capsys):
    (tomogram, truth), *_ = read_labelled(world.simulated)
    outside = truth.replace(positions=truth.positions + 1e4)
    write_particles(tmp_path / "far.csv", outside)
    words = [tmp_path / "far.csv", tmp_path / "out.star", "--tomogram", tomogram.path, "--quiet"]
    assert main(["convert", *map(str, words)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("Warning: ")
    assert main(["about", str(tmp_path / "none.star"), "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("napari-orient: ")


def test_a_command_to_be_copied_replaces_no_file(tmp_path):
    path = tmp_path / "a.star"
    assert unused(path) == path
    path.touch()
    (tmp_path / "a_2.star").touch()
    assert unused(path) == tmp_path / "a_3.star"
