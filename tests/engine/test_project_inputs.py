"""What a person may name as a project: folders, patterns, lists of many tomograms, and projects of other programs."""

import json
import re

import numpy as np
import pytest
from io_fixtures import angles, coordinates, star_loop, write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.io.dialects import read_suffixes
from napari_orient.engine.io.tomograms import plain_name
from napari_orient.engine.particles import Particles
from napari_orient.engine.projects.files import project_files
from napari_orient.engine.projects.inputs import read_lists, read_project

NAMES = ("TS_01", "TS_02", "TS_03")


def volumes(folder, names=NAMES, *, suffix=".mrc"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        write_tomogram(folder / f"{name}{suffix}", np.full((20, 25, 30), number, np.float32), voxel_size=10.0)
    return folder


def picks(path, names=NAMES, *, each=2):
    """A list of RELION 5 with picks in these tomograms; its coordinates count from the tomograms' centres."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [name for name in names for _ in range(each)]
    places = [(float(row), 1.0, 2.0) for row in range(len(rows))]
    table = {"rlnTomoName": rows, **coordinates(*places, prefix="rlnCenteredCoordinate", suffix="Angst")}
    return write(path, star_loop("particles", {**table, **angles(*([(0.0, 0.0, 0.0)] * len(rows)))}))


def shown(project):
    """Name, first voxel and number of particles of each tomogram."""
    return [(tomogram.name, int(tomogram.density[0, 0, 0]), len(own)) for tomogram, own in project.pairs]


ALL = [("TS_01", 1, 2), ("TS_02", 2, 2), ("TS_03", 3, 2)]


@pytest.mark.parametrize(
    "named",
    [
        ["recon/TS_01.mrc", "recon/TS_02.mrc", "recon/TS_03.mrc", "picks.star"],
        ["recon", "picks.star"],
        ["picks.star", "recon"],
        ["recon/*.mrc", "picks.star"],
        ["rec*/TS_0[1-3].mrc", "pick*.star"],
        ["**/TS_*.mrc", "picks.star"],
        ["."],
    ],
)
def test_volumes_folders_and_patterns_are_one_project(tmp_path, monkeypatch, named):
    volumes(tmp_path / ("recon" if named != ["."] else "."))
    picks(tmp_path / "picks.star")
    monkeypatch.chdir(tmp_path)
    project = read_project(named)
    assert shown(project) == ALL
    assert (project.failed, project.words) == ({}, "6 picks in 3 tomograms")
    np.testing.assert_allclose(project.pairs[1][1].positions[0], [150 + 2, 125 + 1, 100 + 2])


def test_a_list_is_read_once_for_all_tomograms_and_means_the_same_as_read_for_each(tmp_path):
    folder, path = volumes(tmp_path / "recon"), picks(tmp_path / "picks.star")
    together = read_project([folder, path])
    for name, (_, own) in zip(NAMES, together.pairs, strict=True):
        ((_, alone),) = read_project([folder / f"{name}.mrc", path]).pairs
        np.testing.assert_array_equal(own.positions, alone.positions)
        np.testing.assert_array_equal(own.rotations, alone.rotations)
        assert own.tomogram_names == alone.tomogram_names == [name]
        assert {key: own.extra[key].tolist() for key in own.extra} == {
            key: alone.extra[key].tolist() for key in alone.extra
        }


def test_lists_of_one_tomogram_each_belong_to_the_tomogram_that_they_are_named_after(tmp_path):
    folder = volumes(tmp_path / "data")
    for number, name in enumerate(NAMES, start=1):
        write(folder / f"{name}_picks.csv", "x,y,z\n" + "10,20,30\n" * number)
    project = read_project([folder])
    assert [(tomogram.name, len(own)) for tomogram, own in project.pairs] == [("TS_01", 1), ("TS_02", 2), ("TS_03", 3)]
    for suffix in read_suffixes():
        assert plain_name(f"picks/TS_01{suffix}") == "TS_01"
    everything = read_lists(folder)
    assert everything.tomogram_names == ["TS_01_picks", "TS_02_picks", "TS_03_picks"]
    assert len(read_lists(folder / "TS_0[12]*.csv")) == 3


def test_one_tomogram_that_cannot_be_read_stops_no_other(tmp_path):
    folder, path = volumes(tmp_path / "recon"), picks(tmp_path / "picks.star", (*NAMES, "TS_04"))
    (folder / "TS_02.mrc").write_bytes(b"no volume")
    for project in (read_project([path], tomograms=folder), read_project([folder, path])):
        assert shown(project) == [ALL[0], ALL[2]]
        assert "TS_02" in project.failed
    assert set(read_project([path], tomograms=folder).failed) == {"TS_02", "TS_04"}
    with pytest.raises(InputError, match="is text; expected a volume"):
        read_project([folder / "TS_02.mrc", path])


def test_the_list_of_a_tomogram_that_cannot_be_read_is_no_failure_of_its_own(tmp_path):
    folder = volumes(tmp_path / "data")
    for name in NAMES[:2]:
        write(folder / f"{name}.coords", "1 2 3\n")
    (folder / "TS_02.mrc").write_bytes(b"no volume")
    project = read_project([folder])
    assert ([tomogram.name for tomogram, _ in project.pairs], [*project.failed]) == (["TS_01"], ["TS_02"])
    assert project.notes[-1] == "Without particles in the lists, and left out: TS_03."


def test_of_a_folder_beside_a_list_that_is_named_the_tomograms_alone_are_meant(tmp_path):
    folder, path = volumes(tmp_path / "data"), picks(tmp_path / "picks.star")
    for name in ("old.star", "older.star"):
        picks(folder / name, NAMES[:1])
    project = read_project([folder, path])
    note = "picks.star is read; the particles of old.star, older.star are not."
    assert (shown(project), project.notes) == (ALL, (note,))


@pytest.mark.parametrize("lists", ["picks.star", "pick*.star"])
@pytest.mark.parametrize("place", ["data", "data/*/TS_*.mrc"])
def test_the_tomograms_of_a_list_may_lie_each_in_a_folder_of_its_own_with_older_lists(
    tmp_path, monkeypatch, lists, place
):
    picks(tmp_path / "picks.star")
    for number, name in enumerate(NAMES, start=1):
        folder = volumes(tmp_path / "data" / name, ())
        write_tomogram(folder / f"{name}.mrc", np.full((20, 25, 30), number, np.float32), voxel_size=10.0)
        picks(folder / "old.star", [name], each=1)
    monkeypatch.chdir(tmp_path)
    assert shown(read_project([lists], tomograms=place)) == ALL


def test_one_row_that_is_wrong_stops_its_tomogram_alone(tmp_path):
    folder, path = volumes(tmp_path / "recon"), picks(tmp_path / "picks.star")
    path.write_text(re.sub(r"^(TS_02\s+)\S+", r"\1x", path.read_text(), count=1, flags=re.MULTILINE))
    project = read_project([folder, path])
    assert shown(project) == [ALL[0], ALL[2]]
    assert "x" in project.failed["TS_02"]


def test_of_a_folder_tomograms_without_picks_are_left_out_and_of_volumes_that_are_named_they_are_said(tmp_path):
    folder, path = volumes(tmp_path / "recon"), picks(tmp_path / "picks.star", NAMES[:2])
    assert read_project([folder, path]).failed == {}
    named = read_project([*(folder / f"{name}.mrc" for name in NAMES), path])
    assert shown(named) == ALL[:2]
    assert "no particle of TS_03" in named.failed["TS_03"]


def test_picks_in_tomograms_that_are_not_given_are_counted_and_named(tmp_path):
    folder, path = volumes(tmp_path / "recon", NAMES[:2]), picks(tmp_path / "picks.star", (*NAMES, "TS_04"))
    ((_, first), *_) = read_project([folder, path]).pairs
    assert f"2 tomograms that are not given (TS_03, TS_04): 4 particles of {path}." in first.notes[-1]
    ((_, first), *_) = read_project([folder, picks(path, NAMES[:2])]).pairs
    assert not any("not given" in note for note in first.notes)


def test_picks_go_to_the_tomogram_whose_name_fits_best_and_to_one_alone(tmp_path):
    folder, path = volumes(tmp_path / "recon", ("TS_01", "TS_01_denoised", "TS_02")), picks(tmp_path / "picks.star")
    assert [name for name, _, _ in shown(read_project([folder, path]))] == ["TS_01", "TS_02"]
    twice = volumes(tmp_path / "twice", ("TS_01_denoised", "TS_01_ctf", "TS_02"))
    project = read_project([twice, path])
    assert [name for name, _, _ in shown(project)] == ["TS_02"]


# --- projects of other programs ---------------------------------------------------------------------------------------


def test_a_project_of_relion_is_its_newest_job_with_particles(tmp_path):
    volumes(tmp_path / "Tomograms" / "job010")
    tables = {
        "rlnTomoName": NAMES,
        "rlnTomoTiltSeriesPixelSize": [2.0] * 3,
        "rlnTomoSizeX": [150] * 3,
        "rlnTomoSizeY": [125] * 3,
        "rlnTomoSizeZ": [100] * 3,
        "rlnTomoReconstructedTomogram": [f"Tomograms/job010/{name}.mrc" for name in NAMES],
    }
    write(tmp_path / "Tomograms" / "job010" / "tomograms.star", star_loop("global", tables))
    write(tmp_path / "default_pipeline.star", star_loop("pipeline_general", {"rlnPipeLineJobCounter": ["12"]}))
    for job, names in (("Extract/job009", NAMES[:1]), ("Refine3D/job011", NAMES)):
        path = picks(tmp_path / job / "run_it001_data.star", names)
        sets = {
            "rlnTomoParticlesFile": [f"{job}/{path.name}"],
            "rlnTomoTomogramsFile": ["Tomograms/job010/tomograms.star"],
        }
        for number in (1, 2):
            write(tmp_path / job / f"run_it00{number}_optimisation_set.star", star_loop("optimisation_set", sets))
    project = read_project([tmp_path])
    assert shown(project) == ALL
    assert project.notes[-1].endswith("Refine3D/job011/run_it002_optimisation_set.star of its newest job is read.")
    assert shown(read_project([tmp_path / "Extract" / "job009"])) == ALL[:1]
    other = picks(tmp_path / "elsewhere" / "refined.star", NAMES[1:])
    table = tmp_path / "Tomograms" / "job010" / "tomograms.star"
    for named in (tmp_path, tmp_path / "Refine3D" / "job011", table.parent, table):
        assert shown(read_project([named, other])) == ALL[1:]
        assert shown(read_project([other], tomograms=named)) == ALL[1:]
    with pytest.raises(InputError, match="no list of particles"):
        read_project([table])


def test_a_tomogram_of_half_the_images_is_said_to_be_one(tmp_path):
    volumes(tmp_path / "recon", NAMES, suffix="_half1.mrc")
    files = {
        f"rlnTomoReconstructedTomogramHalf{half}": [f"recon/{name}_half{half}.mrc" for name in NAMES] for half in (1, 2)
    }
    table = write(tmp_path / "tomograms.star", star_loop("global", {"rlnTomoName": NAMES, **files}))
    project = read_project([table, picks(tmp_path / "picks.star")])
    assert project.pairs[0][0].notes[-1].startswith("TS_01_half1.mrc is of half the images")


def test_a_project_of_warptools_is_its_reconstructions_and_the_lists_of_its_matching(tmp_path):
    series = tmp_path / "warp_tiltseries"
    volumes(series / "reconstruction", NAMES, suffix="_10.00Apx.mrc")
    volumes(series / "matching", NAMES, suffix="_10.00Apx_corr.mrc")
    for name in NAMES:
        table = {**coordinates((0.1, 0.2, 0.3), (0.5, 0.5, 0.5)), **angles((0, 0, 0), (0, 0, 0))}
        table["rlnMicrographName"] = [f"{name}.tomostar"] * 2
        write(series / "matching" / f"{name}_10.00Apx_ribosome.star", star_loop("", table))
    project = read_project([tmp_path])
    assert [(tomogram.name, len(own)) for tomogram, own in project.pairs] == [(f"{name}_10.00Apx", 2) for name in NAMES]
    np.testing.assert_allclose(project.pairs[0][1].positions[1], [150, 125, 100], atol=10)
    other = (series / "matching" / "TS_01_10.00Apx_ribosome.star").read_text()
    (series / "matching" / "TS_01_10.00Apx_proteasome.star").write_text(other)
    with pytest.raises(InputError, match=r"two lists of tomogram TS_01.*Name one"):
        read_project([tmp_path])
    chosen = read_project([series / "reconstruction", str(series / "matching" / "*_ribosome.star")])
    assert len(chosen.pairs) == 3


def test_a_project_of_copick_is_its_configuration_or_the_folder_of_it(tmp_path):
    zarr = pytest.importorskip("zarr")
    config = {"pickable_objects": [], "overlay_root": f"local://{tmp_path}/overlay", "name": "test"}
    (tmp_path / "copick_config.json").write_text(json.dumps(config))
    for name in NAMES:
        run = tmp_path / "overlay" / "ExperimentRuns" / name
        store = zarr.open_group(run / "VoxelSpacing10.000" / "wbp.zarr", mode="w", zarr_format=2)
        store.create_array("0", data=np.ones((20, 25, 30), np.float32))
        scale = [{"type": "scale", "scale": [10.0, 10.0, 10.0]}]
        axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        store.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        picked = Particles(positions=[[10.0, 20, 30]] * 2, tomogram=name, kind=np.array(["ribosome"] * 2))
        (run / "Picks").mkdir()
        write_particles(run / "Picks" / "user_1_ribosome.json", picked)
    for named in (tmp_path, tmp_path / "copick_config.json"):
        project = read_project([named])
        assert [(tomogram.name, len(own)) for tomogram, own in project.pairs] == [(name, 2) for name in NAMES]
        assert all(tomogram.path is not None for tomogram, _ in project.pairs)


# --- what is no project -----------------------------------------------------------------------------------------------


def test_what_fits_nothing_is_said(tmp_path):
    volumes(tmp_path / "recon")
    (tmp_path / "empty").mkdir()
    for named, words in (
        ([tmp_path / "none*.mrc", tmp_path / "picks.star"], "fits no file"),
        ([tmp_path / "empty"], "neither tomograms nor lists"),
        ([tmp_path / "recon"], "no list of particles is among"),
        ([tmp_path / "recon" / "*.mrc"], "no list of particles is among"),
        ([tmp_path / "recon", tmp_path / "picks.star", "ribosome"], "predict takes it as --model ribosome"),
    ):
        with pytest.raises(InputError, match=words):
            read_project(named)


def test_our_own_list_in_a_folder_is_not_taken_for_the_picks(tmp_path):
    folder = volumes(tmp_path / "data")
    picks(folder / "picks.star")
    first = read_project([folder])
    write_particles(folder / "refined.star", first.pairs[0][1], provenance="napari-orient 1.0: refined")
    (folder / "refined_status.csv").write_text("tomogram,state\nTS_01,done\n")
    assert project_files([folder]).lists == (folder / "picks.star",)
