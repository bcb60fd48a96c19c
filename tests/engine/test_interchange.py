"""The page on other programs: every command runs on a list as that program writes it, and the poses are the same."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import starfile
from foreign_lists import POSITIONS, ROTATIONS, SAMPLES, SIZE, WITHOUT_ROTATIONS

from napari_orient.cli import main
from napari_orient.engine.io import read_particles, read_tomogram, write_tomogram
from napari_orient.engine.rotations import angle_deg

PAGE = Path(__file__).parents[2] / "docs" / "interchange.md"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, make in SAMPLES.items():
        folder = tmp_path / ("portal" if name == "ndjson" else name)
        folder.mkdir()
        make(folder)
    density = np.random.default_rng(0).normal(size=SIZE[::-1]).astype(np.float32)
    write_tomogram(tmp_path / "TS_01.mrc", density, voxel_size=10.0)
    return tmp_path


def test_every_command_of_the_page_runs_and_keeps_every_pose(project, capsys):
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    assert len(commands) > 25
    opened = read_tomogram("TS_01.mrc")
    for words in commands:
        assert main(words) == 0, (words, capsys.readouterr().err)
        target, source = words[2], words[1]
        if "--mirror" in words or "--rotate-x" in words:
            continue
        read = read_particles(target, tomogram=opened)
        np.testing.assert_allclose(read.positions, POSITIONS, atol=2e-3, err_msg=str(words))
        if source.split("/")[0] in WITHOUT_ROTATIONS:
            assert read.rotations is None
        else:
            assert angle_deg(read.rotations, ROTATIONS).max() < 1e-4, words
    used = {words[1].split("/")[0] for words in commands}
    assert {"portal" if name == "ndjson" else name for name in SAMPLES} - used == {"csv", "tsv", "m-export"}


def test_the_sets_beside_a_list_are_written_and_open_as_the_list(project):
    words = ["convert", "relion4/particles.star", "out.star", "--tomogram", "TS_01.mrc", "--optimisation-set"]
    assert main(words) == 0
    read = read_particles("out_optimisation_set.star")
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)
    assert main([*words, "--dialect", "relion4"]) == 2
    assert main(["convert", "relion4/particles.star", "out.tbl", "--tomogram", "TS_01.mrc", "--import-list"]) == 2


def test_notes_go_to_standard_error_and_say_what_is_lost(project, capsys):
    assert main(["convert", "relion5/particles.star", "out.tbl", "--tomogram", "TS_01.mrc"]) == 0
    shown = capsys.readouterr()
    assert "out.tbl: 2 particles" in shown.out
    assert "Note: Coordinates are in voxels of 10 Å." in shown.err
    assert "tilt range" in shown.err


def test_a_dialect_that_does_not_fit_the_suffix_is_refused_before_anything_is_read(project, capsys):
    assert main(["convert", "nothing.star", "out.csv", "--dialect", "dynamo"]) == 2
    assert "dynamo is written as .tbl" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["relion5", "warp", "m", "tomodrgn", "cryodrgn"])
def test_a_list_is_handed_over_with_the_command_to_type_there(project, capsys, program):
    source = "relion5/particles.star"
    words = ["export", source, "out.star", "--for", program]
    words += ["--tomograms-star", "relion5/tomograms.star"] if program == "relion5" else ["--tomogram", "TS_01.mrc"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("Then, for ")
    named = re.search(r"(?:--i|--input_star|--particles_relion) (\S+)", said[2])[1]
    assert Path(named).exists()
    first, second = read_particles(source), read_particles("out.star", tomogram=read_tomogram("TS_01.mrc"))
    np.testing.assert_allclose(second.positions, first.positions, atol=0.01)
    assert angle_deg(second.rotations, first.rotations).max() < 1e-3
    if program != "relion5":
        assert re.search(r"--(?:coords_angpix|angpix_coords) 10\b", said[2])
    assert said[-1].startswith("Flags as documented there, not run")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--tomogram", "TS_01.mrc", "--pixel-size", "1.35"],
        ["--pixel-size", "1.35"],
        ["--tomogram", "TS_01.mrc", "--voxel-size", "8"],
        ["--tomogram", "TS_01.mrc", "--out-pixel-size", "3"],
        ["--tomograms", "."],
    ],
)
@pytest.mark.parametrize("source", ["relion4/particles.star", "warp/export.star"])
def test_the_command_that_is_printed_counts_in_the_voxels_that_are_written(project, capsys, source, flags):
    capsys.readouterr()
    assert main(["export", source, "out.star", "--for", "warp", *flags]) == 0
    printed = re.search(r"--coords_angpix (\S+)", capsys.readouterr().out)[1]
    table = starfile.read("out.star")
    assert (table["rlnPixelSize"] == float(printed)).all()
    written = table[["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]].to_numpy() * float(printed)
    given = float(flags[flags.index("--pixel-size") + 1]) if "--pixel-size" in flags else None
    np.testing.assert_allclose(written, read_particles(source, pixel_size=given).positions, atol=0.01)


def test_what_is_handed_over_is_a_star_file(project):
    assert main(["export", "relion5/particles.star", "out.csv", "--for", "warp"]) == 2
    assert not list(project.glob("out*"))
