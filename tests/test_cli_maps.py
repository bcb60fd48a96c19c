"""The verbs that work with maps: refine against a reference, average in poses."""

import csv
import re

import numpy as np
import pytest

import napari_orient as no
from engine.phantom import VOXEL_SIZE, molecule, tomogram
from napari_orient.cli import main
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.map_resolution import BALL_RADIUS, ball_mask
from napari_orient.engine.particles import concatenate
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
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("napari-orient: ")]
    assert errors == lines[-1:]
    return errors[0]


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
    named = [*refine, "--reference", lab / "map.mrc", "--map"]
    assert "there are no rounds. Give --rounds 3" in refused([*named, tmp_path / "own.mrc"], capsys)
    assert "ends in .mrc" in refused([*named, tmp_path / "own.tif", "--rounds", "1"], capsys)
    predict = ["predict", lab / "tomo.mrc", lab / "picks.star", "--output", tmp_path / "out.star", "--rounds", "1"]
    assert "rounds correct a template, and" in refused([*predict, "--model", "ribosome-4x32"], capsys)
    unweighted = ["average", lab / "tomo.mrc", lab / "truth.star", "--weights", "confidence"]
    assert "no confidences" in refused([*unweighted, "--output", tmp_path / "out.mrc"], capsys)
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
    assert "picks in tomo; template blobs" in told.err
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
    assert "this network learns from labelled particles" in refused([*words, "--template", lab / "map.mrc"], capsys)
    assert "no DATA given" in refused(["train", "--network", "template", "--output", words[-1]], capsys)
    assert list(tmp_path.iterdir()) == []


# --- projects: several tomograms, the hand, duplicates ----------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with two tomograms and one list of both, with angles; a third tomogram is named like neither."""
    folder = tmp_path_factory.mktemp("project")
    parts = []
    for seed, name in enumerate(("ts_01", "ts_02")):
        volume, truth, _ = tomogram(molecule(), noise=0.8, seed=seed, count=(1, 3, 4))
        write_tomogram(folder / f"{name}.mrc", volume.density, voxel_size=VOXEL_SIZE)
        parts.append(truth.replace(tomogram=name, extents={name: volume.extent}))
    write_particles(folder / "both.star", concatenate(parts))
    write_tomogram(folder / "ts_09.mrc", volume.density, voxel_size=VOXEL_SIZE)
    write_tomogram(folder / "map.mrc", molecule().density(24), voxel_size=VOXEL_SIZE)
    write_tomogram(folder / "mirrored.mrc", molecule().density(24)[:, :, ::-1].copy(), voxel_size=VOXEL_SIZE)
    return folder


def test_a_reference_that_its_particles_correct_is_written_and_said(project, tmp_path, capsys):
    words = ["refine", project / "both.star", "--reference", project / "map.mrc", "--precision", "fast", *QUICK]
    out, own = tmp_path / "refined.star", tmp_path / "own.mrc"
    few = ["--max-shift", "0", "--rotations", "250", "--rounds", "1", "--map", own, "--output", out]
    assert main([str(word) for word in [*words, *few]]) == 0
    assert re.search(r"Round 1(:| is not kept).* of 24 poses are expected to be right", capsys.readouterr().err)
    assert "corrected by the particles" in out.read_text().splitlines()[0]
    found = read_tomogram(own)
    assert found.voxel_size == VOXEL_SIZE
    assert np.corrcoef(found.density.ravel(), molecule().density(len(found.density)).ravel())[0, 1] > 0.8


def refined(words, out, capsys, *, status=0):
    assert main([str(word) for word in [*words, "--output", out, *QUICK, "--precision", "fast"]]) == status
    return read_particles(out), capsys.readouterr().err


def test_refine_takes_a_list_that_names_its_tomograms_and_writes_one_list_of_all(project, tmp_path, capsys):
    words = ["refine", project / "both.star", "--reference", project / "map.mrc"]
    found, said = refined(words, tmp_path / "out.star", capsys)
    truth = read_particles(project / "both.star")
    assert found.tomogram_names == ["ts_01", "ts_02"]
    assert np.median(angle_deg(found.rotations, truth.rotations)) < 5
    assert "24 picks in 2 tomograms" in said
    assert "ts_02: Missing wedge" in said


def test_a_tomogram_that_fails_is_reported_the_rest_is_done_and_the_status_says_so(project, tmp_path, capsys):
    tomograms = [project / f"ts_{number}.mrc" for number in ("01", "02", "09")]
    words = ["refine", *tomograms, project / "both.star", "--reference", project / "map.mrc"]
    found, said = refined(words, tmp_path / "out.star", capsys, status=1)
    assert len(found) == 24
    assert "ts_09 is left out" in said
    assert "1 of 3 tomograms failed: ts_09." in said
    truth = read_particles(project / "both.star")
    far = truth.positions + np.where(np.asarray(truth.tomogram) == "ts_01", 1e5, 0.0)[:, None]
    write_particles(tmp_path / "bad.star", truth.replace(positions=far))
    words = ["refine", *tomograms[:2], tmp_path / "bad.star", "--reference", project / "map.mrc"]
    found, said = refined(words, tmp_path / "out.star", capsys, status=1)
    assert found.tomogram_names == ["ts_02"]
    assert "ts_01 failed: 12 of 12 particles lie outside" in said


def test_predict_takes_several_tomograms_too(project, tmp_path, capsys):
    template = tmp_path / "blobs.safetensors"
    few = ["--rotations", "1000", "--search-resolution", "45", "--max-shift", "10"]
    make = ["train", "--network", "template", "--template", project / "map.mrc", *few, "--output", template]
    assert main([str(word) for word in make]) == 0
    words = ["predict", project / "both.star", "--model", template, "--precision", "fast", "--max-shift", "10"]
    assert main([str(word) for word in [*words, "--output", tmp_path / "out.star"]]) == 0
    found, truth = read_particles(tmp_path / "out.star"), read_particles(project / "both.star")
    assert np.median(angle_deg(found.rotations, truth.rotations)) < 5


def test_both_hands_are_compared_over_all_tomograms_and_the_better_one_is_used(project, tmp_path, capsys):
    words = ["refine", project / "both.star", "--mirror=auto", "--reference"]
    found, said = refined([*words, project / "mirrored.mrc"], tmp_path / "out.star", capsys)
    assert re.search(r"mirrored is better \(\d+\.\d σ, 24 particles\) of 2 tomograms", said)
    assert "poses are written for the mirrored map" in said
    assert "refined against mirrored, mirrored (x -> -x), C1" in (tmp_path / "out.star").read_text().splitlines()[0]
    truth = read_particles(project / "both.star")
    assert np.median(angle_deg(found.rotations, truth.rotations)) < 5
    _, said = refined([*words, project / "map.mrc"], tmp_path / "out.star", capsys)
    assert "given is better" in said
    assert "mirror" not in (tmp_path / "out.star").read_text().splitlines()[0]


def test_a_network_is_not_mirrored(project, tmp_path, capsys):
    words = ["predict", project / "both.star", "--model", "ribosome-4x32", "--mirror", "--output", tmp_path / "o.star"]
    assert "is a network, which has no map" in refused(words, capsys)


def test_duplicates_are_counted_and_removed_at_each_verb(project, tmp_path, capsys):
    truth = read_particles(project / "both.star")
    twice = concatenate([truth, truth.replace(positions=truth.positions + 4.0)])
    write_particles(tmp_path / "twice.star", twice)
    given = ["refine", tmp_path / "twice.star", "--tomograms", project, "--reference", project / "map.mrc"]
    _, said = refined(given, tmp_path / "out.star", capsys)
    assert "12 particles are duplicates" in said
    assert "24 duplicates within" in said
    found, said = refined([*given, "--remove-duplicates"], tmp_path / "out.star", capsys)
    assert len(found) == 24
    convert = ["convert", tmp_path / "twice.star", tmp_path / "once.star", "--remove-duplicates"]
    assert "without --min-distance" in refused(convert, capsys)
    assert main([str(word) for word in [*convert, "--min-distance", "30"]]) == 0
    assert len(read_particles(tmp_path / "once.star")) == 24
    average = ["average", tmp_path / "twice.star", "--tomograms", project, "--side", "24"]
    files = ["--output", tmp_path / "map.mrc", "--list-output", tmp_path / "halves.star"]
    assert main([str(word) for word in [*average, *files]]) == 0
    halves = read_particles(tmp_path / "halves.star")
    subset = halves.extra["rlnRandomSubset"].astype(int).reshape(2, 2, 12)
    np.testing.assert_array_equal(subset[0], subset[1])
    assert set(subset.ravel().tolist()) == {1, 2}
    assert main([str(word) for word in [*average, "--remove-duplicates", *files]]) == 0
    assert len(read_particles(tmp_path / "halves.star")) == 24


def test_tilt_metadata_that_is_named_is_used_and_said_and_a_missing_file_is_refused(lab, tmp_path, capsys):
    tilts, out = tmp_path / "other.tlt", tmp_path / "tilted.star"
    tilts.write_text("\n".join(str(tilt) for tilt in range(-60, 61, 3)))
    words = ["refine", lab / "tomo.mrc", lab / "picks.star", "--reference", lab / "map.mrc", "--output", out, *QUICK]
    assert main([str(word) for word in [*words, "--tilts", tilts, "--ctf-correction", "wiener"]]) == 0
    assert "tilted about y from -60° to 60° (tilts of other.tlt)" in capsys.readouterr().err
    assert "absent.tlt" in refused([*words, "--tilts", tmp_path / "absent.tlt"], capsys)
    assert "expected found, x, y, none, or an angle" in refused([*words, "--tilt-axis", "q"], capsys)


def test_an_average_says_its_resolution_without_the_mask_and_at_every_voxel(lab, tmp_path, capsys):
    words = ["average", lab / "tomo.mrc", lab / "truth.star", "--output", tmp_path / "map.mrc", "--side", "24"]
    assert main([str(word) for word in [*words, "--mask", "map", "--local-resolution"]]) == 0
    assert "without what the mask adds" in capsys.readouterr().out
    with (tmp_path / "map_fsc.csv").open(encoding="utf-8") as stream:
        row = next(csv.DictReader(stream))
    assert {"fsc", "fsc_unmasked", "fsc_masked", "fsc_randomised", "fsc_corrected"} <= set(row)
    local = read_tomogram(tmp_path / "map_local_resolution.mrc")
    assert local.voxel_size == VOXEL_SIZE
    density = np.asarray(local.density)
    inside = density[density > 0]
    assert 2 * VOXEL_SIZE <= inside.min() <= inside.max() < 24 * VOXEL_SIZE


def test_a_list_is_written_in_relions_frame_and_expanded(lab, tmp_path, capsys):
    convert = ["convert", lab / "truth.star", tmp_path / "out.star", "--tomogram", lab / "tomo.mrc"]
    assert "needs the particle's group" in refused([*convert, "--expand-symmetry"], capsys)
    assert "changes nothing by itself" in refused([*convert, "--symmetry", "C3"], capsys)
    flags = ["--symmetry", "D2@1,1,1@1,-1,0", "--symmetry-frame", "relion", "--expand-symmetry"]
    assert main([str(word) for word in [*convert, *flags]]) == 0
    every, truth = read_particles(tmp_path / "out.star"), read_particles(lab / "truth.star")
    assert len(every) == 4 * len(truth)
    z = every.required_rotations()[::4, :, 2]
    np.testing.assert_allclose(z, truth.required_rotations() @ np.ones(3) / np.sqrt(3), atol=1e-4)


def test_the_resolution_of_an_average_is_measured_in_the_mask_of_a_file_on_whatever_voxels(lab, tmp_path, capsys):
    words = ["average", lab / "tomo.mrc", lab / "truth.star", "--output", tmp_path / "map.mrc", "--side", "24"]

    def curve(*more: object) -> list[str]:
        assert main([str(word) for word in [*words, *more]]) == 0
        with (tmp_path / "map_fsc.csv").open(encoding="utf-8") as stream:
            return [row["fsc_masked"] for row in csv.DictReader(stream)]

    ball = ball_mask(24, VOXEL_SIZE, None)
    write_tomogram(tmp_path / "ball.mrc", ball, voxel_size=VOXEL_SIZE)
    made = curve()
    assert curve("--mask", tmp_path / "ball.mrc") == made
    finer = ball_mask(64, VOXEL_SIZE / 2, BALL_RADIUS * 24 * VOXEL_SIZE)
    write_tomogram(tmp_path / "finer.mrc", finer, voxel_size=VOXEL_SIZE / 2)
    np.testing.assert_allclose(
        np.array(curve("--mask", tmp_path / "finer.mrc"), float), np.array(made, float), atol=0.02
    )
    by_python = no.average(lab / "tomo.mrc", lab / "truth.star", side=24, mask=tmp_path / "ball.mrc")
    np.testing.assert_allclose(by_python.mask, ball, atol=1e-6)
    capsys.readouterr()
    assert "expected ball, map, or the file of a mask" in refused([*words, "--mask", tmp_path / "none.mrc"], capsys)
    write_tomogram(tmp_path / "empty.mrc", ball * 0, voxel_size=VOXEL_SIZE)
    assert "0 or less everywhere" in refused([*words, "--mask", tmp_path / "empty.mrc"], capsys)
    write_tomogram(tmp_path / "slab.mrc", ball[:12], voxel_size=VOXEL_SIZE)
    assert "cubic box" in refused([*words, "--mask", tmp_path / "slab.mrc"], capsys)
