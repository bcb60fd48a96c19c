"""Many tomograms on the command line: what is done survives a stop, and is not done again."""

from functools import partial

import numpy as np
import pytest

from napari_orient.cli import main
from napari_orient.cli.projects import do_project
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.projects.each_tomogram import ProjectRun
from napari_orient.engine.projects.inputs import Project
from napari_orient.progress import Stopped
from projects_tasks import MeanTask


def pairs(count):
    volume = np.zeros((8, 8, 8), np.float32)
    names = [f"ts_{number}" for number in range(count)]
    return [(Tomogram(volume, 10.0, name), Particles(positions=np.zeros((2, 3)), tomogram=name)) for name in names]


def means_written(task, written):
    project, run = Project(pairs(3)), ProjectRun()
    work = partial(run.over, project.pairs, task)
    do_project(project, work, lambda result, _: written.append(result), run)


def test_what_is_done_when_ctrl_c_comes_is_written():
    written = []
    with pytest.raises(Stopped, match="2 of 3 tomograms that are done were written"):
        means_written(MeanTask(stopped=("ts_2",)), written)
    assert written[0].particles.tomogram_names == ["ts_0", "ts_1"]
    with pytest.raises(KeyboardInterrupt):
        means_written(MeanTask(stopped=("ts_0",)), written)
    assert len(written) == 1


def test_a_project_is_planned_worked_on_and_not_done_again(world, tmp_path, capsys):
    words = ["predict", world.simulated, "--model", world.model, "--output", tmp_path / "out.star", "--device", "cpu"]
    words = [str(word) for word in words]
    assert main([*words, "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in planned[:4]] == ["tomogram", "tomo_001", "tomo_002", "tomo_003"]
    assert planned[1].split()[1:8] == ["128", "×", "128", "×", "64", "10", "4"]
    assert "3 of 3 tomograms to do, 270 picks, 13 MB to read" in planned[4]
    assert list(tmp_path.iterdir()) == []

    assert main(words) == 0
    whole = (tmp_path / "out.star").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.star", "out_parts", "out_status.csv"]
    (tmp_path / "out.star").unlink()
    capsys.readouterr()
    assert main([*words, "--resume"]) == 0
    assert "3 of 3 tomograms were done before" in capsys.readouterr().err
    assert (tmp_path / "out.star").read_bytes() == whole
    states = [line.split(",")[1] for line in (tmp_path / "out_status.csv").read_text().splitlines()]
    assert states == ["state", *["done before"] * 3]

    capsys.readouterr()
    assert main([*words, "--resume", "--dry-run", "--batch", "32", "--scheduler", "slurm:2"]) == 0
    planned = capsys.readouterr().out
    assert "3 of 3 tomograms to do" in planned
    assert "in 2 jobs of SLURM (as measured in this project)" in planned
    assert "#SBATCH" in planned


def test_averages_discovery_and_lists_take_patterns_and_folders_and_say_what_they_would_do(world, tmp_path, capsys):
    every = str(world.simulated / "*" / "*_rec.mrc"), str(world.simulated / "*" / "*_motif_list.csv")
    for verb, name in (("average", "map.mrc"), ("discover", "out.star")):
        assert main([verb, *every, "--output", str(tmp_path / name), "--dry-run"]) == 0
        shown = capsys.readouterr().out.splitlines()
        names = [f"tomo_00{number}_rec" for number in (1, 2, 3)]
        assert [line.split()[0] for line in shown] == ["tomogram", *names, "270"]
    assert list(tmp_path.iterdir()) == []
    assert main(["convert", str(world.simulated), str(tmp_path / "all.csv")]) == 0
    assert "270 particles, with orientations" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "all.csv"), every[1]]) == 0
    assert "270" in capsys.readouterr().out


def test_a_tomogram_that_cannot_be_read_is_left_out_and_the_status_says_so(world, tmp_path, capsys):
    for number in (1, 2, 3):
        folder = world.simulated / f"Tomo00{number}"
        (tmp_path / f"tomo_00{number}.mrc").symlink_to(folder / f"tomo_00{number}_rec.mrc")
        (tmp_path / f"tomo_00{number}_motif_list.csv").symlink_to(folder / f"tomo_00{number}_motif_list.csv")
    (tmp_path / "tomo_002.mrc").unlink()
    (tmp_path / "tomo_002.mrc").write_bytes(b"no volume")
    data = [str(tmp_path / "tomo_*.mrc"), str(tmp_path / "*.csv")]
    output = tmp_path / "out" / "out.star"
    output.parent.mkdir()
    assert main(["predict", *data, "--model", str(world.model), "--output", str(output), "--device", "cpu"]) == 1
    assert "Warning: tomo_002 is left out" in capsys.readouterr().err
    states = dict(line.split(",")[:2] for line in (output.parent / "out_status.csv").read_text().splitlines())
    assert states == {"tomogram": "state", "tomo_001": "done", "tomo_003": "done", "tomo_002": "failed"}
    assert main(["average", *data, "--output", str(tmp_path / "out" / "map.mrc")]) == 1
    assert "180 particles" in capsys.readouterr().out
