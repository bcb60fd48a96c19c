"""The verbs that work with maps: refine against a reference, average in poses."""

import csv
import re

import numpy as np
import pytest

from engine.phantom import VOXEL_SIZE, molecule, tomogram
from napari_orient.cli import main
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.rotations import angle_deg

QUICK = ["--rotations", "1000", "--search-resolution", "45", "--max-shift", "10"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with a tomogram, its truth, picks without angles, and the map of the molecule."""
    folder = tmp_path_factory.mktemp("lab")
    volume, truth, _ = tomogram(molecule(), noise=0.8)
    write_tomogram(folder / "tomo.mrc", volume.density, voxel_size=VOXEL_SIZE)
    truth = truth.replace(tomogram="tomo")
    extents = {"tomo": volume.extent}
    write_particles(folder / "truth.star", truth, extents=extents)
    write_particles(folder / "picks.star", truth.replace(rotations=None), extents=extents)
    write_tomogram(folder / "map.mrc", molecule().density(24), voxel_size=VOXEL_SIZE)
    return folder


def refused(words, capsys):
    assert main([str(word) for word in words]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    return told[0]


def test_refine_finds_poses_from_picks_and_a_map_alone(lab, tmp_path, capsys):
    out = tmp_path / "refined.star"
    words = ["refine", lab / "tomo.mrc", lab / "picks.star", "--reference", lab / "map.mrc", "--output", out, *QUICK]
    assert main([str(word) for word in words]) == 0
    told = capsys.readouterr()
    assert "32 particles, expected error" in told.out
    assert "moved by" in told.out
    assert "Missing wedge: tilted about y" in told.err
    refined, truth = read_particles(out), read_particles(lab / "truth.star")
    errors = angle_deg(refined.rotations, truth.rotations)
    assert np.mean(errors < 20) > 0.9
    assert np.median(errors) < 5
    assert np.median(np.linalg.norm(refined.positions - truth.positions, axis=1)) < VOXEL_SIZE / 2
    assert "refined against map" in out.read_text().splitlines()[0]


def test_average_of_true_poses_is_the_map_and_of_inverse_poses_is_not(lab, tmp_path, capsys):
    truth = read_particles(lab / "truth.star")
    extents = {"tomo": read_tomogram(lab / "tomo.mrc").extent}
    inverse = truth.replace(rotations=truth.rotations.transpose(0, 2, 1))
    write_particles(tmp_path / "inverse.star", inverse, extents=extents)
    expected = molecule().density(24).ravel()

    def likeness(poses, name):
        words = ["average", lab / "tomo.mrc", poses, "--output", tmp_path / name, "--side", "24"]
        assert main([str(word) for word in words]) == 0
        return np.corrcoef(read_tomogram(tmp_path / name).density.ravel(), expected)[0, 1]

    right, wrong = likeness(lab / "truth.star", "right.mrc"), likeness(tmp_path / "inverse.star", "wrong.mrc")
    assert right > 0.7
    assert wrong < right - 0.2
    assert "resolution" in capsys.readouterr().out
    assert {"right_half1.mrc", "right_half2.mrc", "right_fsc.csv"} <= {path.name for path in tmp_path.iterdir()}
    with (tmp_path / "right_fsc.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["fsc"]) > 0.5
    assert float(rows[-1]["fsc"]) < 0.5


def test_what_cannot_be_refined_or_averaged_is_refused_in_one_line(lab, tmp_path, capsys):
    refine = ["refine", lab / "tomo.mrc", lab / "picks.star", "--output", tmp_path / "out.star"]
    assert "no such file" in refused([*refine, "--reference", lab / "nothing.mrc"], capsys)
    assert "symmetry" in refused([*refine, "--reference", lab / "map.mrc", "--symmetry", "Q3"], capsys)
    average = ["average", lab / "tomo.mrc", lab / "picks.star"]
    assert "no orientations" in refused([*average, "--output", tmp_path / "out.mrc"], capsys)
    assert "ends in .mrc" in refused([*average, "--output", tmp_path / "out.tif"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_map_becomes_a_template_that_predicts_and_says_how(lab, tmp_path, capsys):
    template, out = tmp_path / "blobs.safetensors", tmp_path / "oriented.star"
    few = ["--rotations", "300", "--search-resolution", "45", "--max-shift", "0"]
    words = ["train", "--network", "template", "--template", lab / "map.mrc", *few, "--output", template]
    assert main([str(word) for word in words]) == 0
    assert "the map as it is" in capsys.readouterr().out
    words = ["predict", lab / "tomo.mrc", lab / "picks.star", "--model", template, "--precision", "fast"]
    assert main([str(word) for word in [*words, "--output", out]]) == 0
    told = capsys.readouterr()
    assert "picks; template blobs" in told.err
    assert "Missing wedge: tilted about y" in told.err
    assert "expected error" in told.out
    assert re.search(r"predicted by blobs \(template\), data [0-9a-f]{16}; fast$", out.read_text().splitlines()[0])
    predicted, truth = read_particles(out), read_particles(lab / "truth.star")
    assert np.median(angle_deg(predicted.rotations, truth.rotations)) < 5
    assert {"orientScore", "orientMovedAngst", "orientExpectedCentreErrorAngst"} <= set(predicted.extra)


def test_flags_that_the_network_does_not_have_are_refused_in_one_line(lab, tmp_path, capsys):
    words = ["train", lab, "--output", tmp_path / "x.safetensors"]
    assert "--width was given" in refused([*words, "--network", "template", "--width", "8"], capsys)
    assert "--rounds was given" in refused([*words, "--rounds", "1"], capsys)
    assert "a network is to be trained" in refused([*words, "--template", lab / "map.mrc"], capsys)
    assert "no DATA given" in refused(["train", "--network", "template", "--output", words[-1]], capsys)
    assert list(tmp_path.iterdir()) == []
