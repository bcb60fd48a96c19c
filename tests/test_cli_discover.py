"""The verb that needs picks alone: discover, from a list without angles to poses, map and template."""

import io
import re

import numpy as np
import pytest

from engine.phantom import VOXEL_SIZE, molecule, tomogram
from napari_orient.cli import main
from napari_orient.engine.discovery.search import global_rotation
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.io.columns import OUTLIER
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.rotations import angle_deg

QUICK = ["--diameter=150", "--rounds=10", "--search=500", "--starts=2", "--passes=1", "--max-shift=10", "--device=cpu"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with a tomogram of 40 molecules, its truth, picks without angles, and one of noise alone."""
    folder = tmp_path_factory.mktemp("lab")
    volume, truth, _ = tomogram(molecule(), noise=0.5, off=8.0, count=(2, 4, 5))
    write_tomogram(folder / "tomo.mrc", volume.density, voxel_size=VOXEL_SIZE)
    noise = np.random.default_rng(0).normal(size=volume.density.shape).astype(np.float32)
    write_tomogram(folder / "noise.mrc", noise, voxel_size=VOXEL_SIZE)
    for name in ("tomo", "noise"):
        told = truth.replace(tomogram=name)
        write_particles(folder / f"{name}_truth.star", told, extents={name: volume.extent})
        picks = told.replace(rotations=None).take(slice(0, 40 if name == "tomo" else 20))
        write_particles(folder / f"{name}.star", picks, extents={name: volume.extent})
    return folder


def discover(lab, name, out, *more):
    return main([str(word) for word in ["discover", lab / f"{name}.mrc", lab / f"{name}.star", "--output", out, *more]])


def test_picks_become_poses_a_map_with_halves_and_a_template_that_predict_can_use(lab, tmp_path, capsys):
    out, network = tmp_path / "out.star", tmp_path / "found.safetensors"
    assert discover(lab, "tomo", out, "--map", tmp_path / "map.mrc", "--template-output", network, *QUICK) == 0
    told = capsys.readouterr()
    assert re.search(r"40 particles, expected error \d+\.\d° .* verdict: structure", told.out)
    assert "A structure was found" in told.err
    found, truth = read_particles(out), read_particles(lab / "tomo_truth.star")
    turns = found.required_rotations() @ global_rotation(truth.required_rotations(), found.required_rotations())
    assert (angle_deg(turns, truth.required_rotations()) < 20).mean() > 0.85
    assert set(np.asarray(found.extra[OUTLIER]).astype(int)) <= {0, 1}
    assert "discovered from picks alone" in out.read_text().splitlines()[0]
    names = {path.name for path in tmp_path.iterdir()}
    assert {"map.mrc", "map_half1.mrc", "map_half2.mrc", "map_fsc.csv"} <= names
    assert load_model(network).kind == "template"


def test_of_noise_alone_nothing_is_written_and_the_exit_status_says_so(lab, tmp_path, capsys):
    out = tmp_path / "out.star"
    quick = [*QUICK, "--rounds=6", "--search=400", "--symmetry=C1", "--passes=0"]
    assert discover(lab, "noise", out, "--map", tmp_path / "map.mrc", *quick) == 1
    told = capsys.readouterr()
    assert "nothing was written" in told.out
    assert "no common structure" in told.err
    assert list(tmp_path.iterdir()) == []


class Interrupted(io.StringIO):
    """A terminal before which somebody presses Ctrl-C when a text is seen."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def isatty(self):
        return True

    def write(self, text):
        if self.text in text:
            self.text = "\0"
            raise KeyboardInterrupt
        return super().write(text)


def test_ctrl_c_keeps_the_poses_and_the_map_of_the_last_round(lab, tmp_path, monkeypatch):
    out, screen = tmp_path / "out.star", Interrupted("Start 2")
    monkeypatch.setattr("sys.stderr", screen)
    assert discover(lab, "tomo", out, "--map", tmp_path / "map.mrc", *QUICK) == 130
    assert "without a verdict" in screen.getvalue()
    kept = read_particles(out)
    assert len(kept) == 40
    assert kept.rotations is not None
    assert "discovery stopped at: Start" in out.read_text().splitlines()[0]
    assert np.isfinite(read_tomogram(tmp_path / "map.mrc").density).all()


def test_ctrl_c_before_the_first_round_writes_nothing(lab, tmp_path, monkeypatch):
    screen = Interrupted("Searching for gold")  # The first step: it is always shown.
    monkeypatch.setattr("sys.stderr", screen)
    assert discover(lab, "tomo", tmp_path / "out.star", *QUICK) == 130
    assert "nothing was written" in screen.getvalue()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--diameter", "60"], "larger diameter"),
        (["--classes", "9"], "classes"),
        (["--map", "/tmp/map.txt"], r"\.mrc"),
        (["--align-to", "none.mrc"], "no such file"),
        (["--device", "cuda"], "cuda"),
        (["--class", "4v4r"], "4v4r"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_any_work(more, expected, lab, tmp_path, capsys):
    assert discover(lab, "tomo", tmp_path / "out.star", *more) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert re.search(expected, told[-1])
    assert not any("Start 1" in line for line in told)
    assert list(tmp_path.iterdir()) == []
