from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from io_fixtures import angles, coordinates, star_loop, write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, write_tomogram


def volumes(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        write_tomogram(folder / name, np.full((4, 5, 6), number, np.float32), voxel_size=10.0)


def centred_list(path: Path) -> Path:
    table = {
        "rlnTomoName": ["TS_01", "TS_02", "TS_01"],
        **coordinates((1, 0, 0), (2, 0, 0), (3, 0, 0), prefix="rlnCenteredCoordinate", suffix="Angst"),
        **angles((0, 0, 0), (10, 20, 30), (40, 50, 60)),
    }
    return write(path, star_loop("particles", table))


def check_pairs(pairs) -> None:
    assert [(tomogram.name, own.tomogram_names, len(own)) for tomogram, own in pairs] == [
        ("TS_01", ["TS_01"], 2),
        ("TS_02", ["TS_02"], 1),
    ]
    assert [tomogram.density[0, 0, 0] for tomogram, _ in pairs] == [1, 2]
    np.testing.assert_allclose(pairs[0][1].positions, [[31, 25, 20], [33, 25, 20]])


def test_tomograms_are_found_by_name_in_a_folder_that_is_given_and_their_own_size_centres_the_list(tmp_path):
    path = centred_list(tmp_path / "run.star")
    volumes(tmp_path / "recon", "rec_TS_01.mrc", "TS_02_10.00Apx.rec", "TS_03.mrc")
    check_pairs(read_labelled(path, tomograms=tmp_path / "recon"))


def test_tomograms_are_found_beside_the_list(tmp_path):
    volumes(tmp_path, "TS_01.mrc", "TS_02.map")
    check_pairs(read_labelled(centred_list(tmp_path / "run.star")))


@pytest.mark.parametrize("given", [True, False])
def test_tomograms_are_found_through_relions_table_of_them(tmp_path, given):
    volumes(tmp_path / "Tomograms" / "job3", "a.mrc", "b.mrc")
    table = {
        "rlnTomoName": ["TS_01", "TS_02"],
        "rlnTomoTiltSeriesPixelSize": [2.0, 2.0],
        "rlnTomoSizeX": [30, 30],
        "rlnTomoSizeY": [25, 25],
        "rlnTomoSizeZ": [20, 20],
        "rlnTomoReconstructedTomogram": ["Tomograms/job3/a.mrc", "Tomograms/job3/b.mrc"],
    }
    job = tmp_path / "Refine3D" / "job5"
    job.mkdir(parents=True)
    text = star_loop("global", table)
    place = write((tmp_path / "sizes.star") if given else (job / "tomograms.star"), text)
    check_pairs(read_labelled(centred_list(job / "run.star"), tomograms=place if given else None))


def test_tomograms_are_found_by_the_path_in_the_micrographs_name(tmp_path):
    volumes(tmp_path / "recon", "TS_01.mrc")
    table = {
        "rlnMicrographName": [str(tmp_path / "recon" / "TS_01.mrc")],
        **coordinates((1, 2, 3)),
        "rlnPixelSize": [2.0],
    }
    pairs = read_labelled(write(tmp_path / "run.star", star_loop("particles", table)))
    assert [(tomogram.name, own.positions.tolist()) for tomogram, own in pairs] == [("TS_01", [[2, 4, 6]])]


def test_a_table_of_picks_without_names_is_of_the_only_tomogram(tmp_path):
    volumes(tmp_path / "recon", "TS_01.mrc")
    path = write(tmp_path / "picks.csv", "x,y,z\n10,20,30\n")
    ((tomogram, own),) = read_labelled(path, tomograms=tmp_path / "recon")
    assert (tomogram.name, own.tomogram_names) == ("TS_01", ["TS_01"])


def test_tomograms_that_are_missing_are_named(tmp_path):
    volumes(tmp_path, "TS_01.mrc")
    with pytest.raises(InputError, match=r"no file is found for tomogram TS_02. .*--tomograms") as caught:
        read_labelled(centred_list(tmp_path / "run.star"))
    assert "TS_01" not in str(caught.value)


def test_a_voxel_size_that_is_given_counts_for_all_tomograms(tmp_path):
    volumes(tmp_path, "TS_01.mrc", "TS_02.mrc")
    pairs = read_labelled(centred_list(tmp_path / "run.star"), voxel_size=20.0)
    assert [tomogram.voxel_size for tomogram, _ in pairs] == [20.0, 20.0]
    np.testing.assert_allclose(pairs[0][1].positions[0], [61, 50, 40])
