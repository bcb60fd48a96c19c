from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from io_fixtures import MATRIX, WXYZ, golden_particles, write
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, read_particles, write_tomogram
from napari_orient.engine.io.dialects.polnet import (
    is_polnet_folder,
    membrane_points,
    polnet_results,
    read_polnet_folder,
    write_polnet_tomogram,
)
from napari_orient.engine.io.volumes.on_demand import ChunkedDensity
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.rotations import angle_deg

HEADER = ["type", "label", "code", "polymer", "x", "y", "z", "q1", "q2", "q3", "q4"]
PROTEIN = ["cprotein", 1, "pdb_4v4r", 0, 264.70054, 1833.2616, 520.57979, *WXYZ]
BOUND = ["mbprotein", 3, "pdb_5wek", 2, 1.0, 2.0, 3.0, 1.0, 0.0, 0.0, 0.0]
MEMBRANE = ["membrane", 2, "sphere", 7, 10.0, 20.0, 30.0, 0.6, 0.0, 0.8, 0.0]


def motif_list(path: Path, *rows: list[object], header: list[str] = HEADER) -> Path:
    return write(path, "".join("\t".join(map(str, row)) + "\n" for row in (header, *rows)))


def tomogram(name: str = "TS_01") -> Tomogram:
    return Tomogram(np.arange(60, dtype=np.float32).reshape(3, 4, 5), 10.0, name)


def test_the_golden_pose_is_read_from_polnets_quaternion_which_puts_w_first(tmp_path):
    read = read_particles(motif_list(tmp_path / "tomo_001_motif_list.csv", PROTEIN))
    np.testing.assert_allclose(read.rotations[0], MATRIX, atol=2e-6)
    np.testing.assert_allclose(read.positions[0], [264.70054, 1833.2616, 520.57979])
    assert read.kind.tolist() == ["pdb_4v4r"]
    assert read.tomogram.tolist() == ["tomo_001"]
    assert {name: column.tolist() for name, column in read.extra.items()} == {
        "type": ["cprotein"],
        "label": ["1"],
        "polymer": ["0"],
    }


def test_the_header_of_older_lists_is_read_too(tmp_path):
    header = ["Type", "Label", "Code", "Polymer", "X", "Y", "Z", "Q1", "Q2", "Q3", "Q4"]
    row = ["SAWLC", *PROTEIN[1:]]
    old = read_particles(motif_list(tmp_path / "old.csv", row, header=header))
    new = read_particles(motif_list(tmp_path / "new.csv", PROTEIN))
    np.testing.assert_array_equal(old.rotations, new.rotations)
    np.testing.assert_array_equal(old.positions, new.positions)
    assert old.extra["type"].tolist() == ["SAWLC"]


@pytest.mark.parametrize("word", ["membrane", "Membrane"])
def test_points_of_membranes_are_left_out_and_counted_and_proteins_in_them_stay(tmp_path, word):
    surface = [word, *MEMBRANE[1:]]
    path = motif_list(tmp_path / "tomo_001_motif_list.csv", surface, PROTEIN, surface, BOUND)
    assert read_particles(path).kind.tolist() == ["pdb_4v4r", "pdb_5wek"]
    assert membrane_points(path) == 2


def test_a_list_of_nothing_but_membranes_is_refused(tmp_path):
    path = motif_list(tmp_path / "tomo_001_motif_list.csv", MEMBRANE, MEMBRANE)
    with pytest.raises(InputError, match="holds 2 points of membranes and no particle"):
        read_particles(path)


def test_quaternions_that_are_none_are_refused(tmp_path):
    path = motif_list(tmp_path / "a.csv", PROTEIN, [*PROTEIN[:-4], 0.6, 0, 0.6, 0])
    with pytest.raises(InputError, match=r"1 of 2 quaternions do not have length 1 \(first: row 2, 0.849\)"):
        read_particles(path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no particles"),
        ([[*PROTEIN[:-1], "x"]], "q4 of row 1 is 'x'"),
        ([[*PROTEIN[:-1]]], "row 1 has 10 values; expected 11"),
        ([[*PROTEIN[:4], "nan", *PROTEIN[5:]]], "x of row 1 is 'nan'"),
    ],
)
def test_broken_lists_are_refused_in_one_line(tmp_path, rows, words):
    with pytest.raises(InputError, match=words) as caught:
        read_particles(motif_list(tmp_path / "a.csv", *rows))
    assert "\n" not in str(caught.value)


def write_polnet(folder, pairs, *, snr=(None, None)):
    return [
        write_polnet_tomogram(folder, *pair, index=index, snr=ratio)
        for index, (pair, ratio) in enumerate(zip(pairs, snr, strict=False), start=1)
    ]


def test_what_is_written_is_polnets_own_layout(tmp_path):
    pairs = [
        (tomogram(), golden_particles(count=2, kind=["pdb_4v4r", "pdb_3j9i"])),
        (tomogram(), golden_particles(kind=["x"])),
    ]
    places = write_polnet(tmp_path / "out", pairs, snr=[1.9412, 1.0])
    assert [place.name for place in places] == ["Tomo001", "Tomo002"]
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert names == [
        "Tomo001/tomo_001_motif_list.csv",
        "Tomo001/tomo_001_rec_snr1.94.mrc",
        "Tomo002/tomo_002_motif_list.csv",
        "Tomo002/tomo_002_rec_snr1.0.mrc",
        "labels_table.csv",
    ]
    labels = pd.read_csv(tmp_path / "out" / "labels_table.csv", delimiter="\t")
    assert labels.MODEL.tolist() == ["pdb_4v4r.pns", "pdb_3j9i.pns", "x.pns"]
    assert labels.LABEL.tolist() == [1, 2, 3]
    table = pd.read_csv(places[0] / "tomo_001_motif_list.csv", delimiter="\t")
    assert list(table.columns) == HEADER
    assert table.label.tolist() == [1, 2]
    np.testing.assert_allclose(np.abs(table.loc[0, ["q1", "q2", "q3", "q4"]].to_numpy(float)), np.abs(WXYZ), atol=2e-6)
    oracle = Rotation.from_quat(table[["q2", "q3", "q4", "q1"]].to_numpy())
    np.testing.assert_allclose(oracle.as_matrix()[0], MATRIX, atol=2e-6)


def test_a_written_folder_reads_back_as_pairs_of_one_name(tmp_path):
    particles = golden_particles(count=3, kind=["a", "b", "a"], extra={"polymer": np.array(["4", "4", "5"])})
    write_polnet(tmp_path, [(tomogram("any"), particles), (tomogram(), particles)])
    assert is_polnet_folder(tmp_path)
    pairs = read_labelled(tmp_path)
    assert [(item.name, own.tomogram_names) for item, own in pairs] == [
        ("tomo_001", ["tomo_001"]),
        ("tomo_002", ["tomo_002"]),
    ]
    for item, own in pairs:
        np.testing.assert_array_equal(item.density, tomogram().density)
        assert isinstance(item.density, ChunkedDensity)
        np.testing.assert_allclose(own.positions, particles.positions)
        assert angle_deg(own.rotations, particles.rotations).max() < 1e-4
        assert own.extra["polymer"].tolist() == ["4", "4", "5"]
        assert own.kind.tolist() == ["a", "b", "a"]


def test_one_tomograms_folder_is_read_alone(tmp_path):
    write_polnet(tmp_path, [(tomogram(), golden_particles(kind=["a"]))])
    assert [item.name for item, _ in read_polnet_folder(tmp_path / "Tomo001")] == ["tomo_001"]


def test_save_reload_save_gives_the_same_list(tmp_path):
    write_polnet(tmp_path / "a", [(tomogram(), golden_particles(count=4, kind=list("abab")))])
    pairs = read_polnet_folder(tmp_path / "a")
    write_polnet(tmp_path / "b", pairs)
    for name in ("Tomo001/tomo_001_motif_list.csv", "Tomo001/tomo_001_rec.mrc", "labels_table.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_classic_layout_of_whole_runs_is_read(tmp_path):
    (tmp_path / "tomos").mkdir()
    for number in (0, 1):
        write_tomogram(tmp_path / "tomos" / f"tomo_rec_{number}.mrc", tomogram().density + number, voxel_size=10)
    with (tmp_path / "tomos_motif_list.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, dialect=csv.excel_tab)
        columns = ["Density", "Micrographs", "PolyData", "Tomo3D", *(name.title() for name in HEADER)]
        writer.writerow(columns)
        for number, kind in ((0, "Membrane"), (0, "SAWLC"), (1, "Mb-SAWLC"), (1, "Helix")):
            files = [f"/cluster/tomos/tomo_{name}_{number}.mrc" for name in ("den", "mics", "poly", "rec")]
            writer.writerow([*files, kind, *PROTEIN[1:]])
    pairs = read_labelled(tmp_path)
    assert [(item.name, item.density[0, 0, 0], len(own)) for item, own in pairs] == [
        ("tomo_rec_0", 0, 1),
        ("tomo_rec_1", 1, 2),
    ]
    np.testing.assert_allclose(pairs[1][1].rotations[1], MATRIX, atol=2e-6)
    whole = tmp_path / "tomos_motif_list.csv"
    assert read_particles(whole, tomogram="tomo_rec_1").extra["type"].tolist() == ["Mb-SAWLC", "Helix"]
    with pytest.raises(InputError, match="has no particle of tomo_rec_7"):
        read_particles(whole, tomogram="tomo_rec_7")
    (tmp_path / "tomos" / "tomo_rec_1.mrc").unlink()
    with pytest.raises(InputError, match=r"names the tomogram /cluster/tomos/tomo_rec_1\.mrc, which is not there"):
        read_labelled(tmp_path)


def test_a_list_without_its_reconstruction_or_with_two_is_refused(tmp_path):
    place = write_polnet_tomogram(tmp_path, tomogram(), golden_particles(kind=["a"]), index=7, snr=1.5)
    (place / "tomo_007_rec_snr2.0.mrc").write_bytes((place / "tomo_007_rec_snr1.5.mrc").read_bytes())
    with pytest.raises(InputError, match="holds 2 reconstructions of tomo_007"):
        read_labelled(tmp_path)
    for path in place.glob("*.mrc"):
        path.unlink()
    with pytest.raises(InputError, match="holds no reconstruction of tomo_007"):
        read_labelled(tmp_path)


def test_truth_without_orientations_or_classes_cannot_be_written(tmp_path):
    for changes, words in (({"rotations": None, "kind": ["a"]}, "no orientations"), ({}, "without a class")):
        with pytest.raises(InputError, match=words):
            write_polnet_tomogram(tmp_path / "new", tomogram(), golden_particles(**changes), index=1)
    assert not (tmp_path / "new").exists()


def test_results_are_found_beneath_the_folder_that_an_archive_unpacks_to(tmp_path):
    pair = motif_list(tmp_path / "deep" / "a" / "Tomo001" / "tomo_001_motif_list.csv", PROTEIN)
    run_list = motif_list(tmp_path / "deep" / "b" / "tomos_motif_list.csv", PROTEIN)
    motif_list(tmp_path / "deep" / "b" / "tomos" / "Tomo001" / "tomo_001_motif_list.csv", PROTEIN)
    results = [tmp_path / "deep" / "a", run_list.parent]
    assert polnet_results(tmp_path) == results
    assert [polnet_results(result) for result in results] == [[result] for result in results]
    assert polnet_results(pair.parent) == [pair.parent]


def test_an_archive_that_is_still_packed_is_refused_with_the_remedy(tmp_path):
    archive = write(tmp_path / "set.zip", "PK")
    with pytest.raises(InputError, match=r"set\.zip is a file; expected a folder of PolNet results\. Unpack it"):
        polnet_results(archive)
    with pytest.raises(InputError, match="holds no PolNet result"):
        polnet_results(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no PolNet result folder"):
        read_labelled(tmp_path)


@settings(max_examples=40, deadline=None)
@given(quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-2), x=st.floats(-1e4, 1e4))
def test_any_pose_survives_polnets_list(tmp_path_factory, quaternion, x):
    folder = tmp_path_factory.mktemp("polnet")
    rotation = Rotation.from_quat(quaternion).as_matrix()[None]
    truth = Particles(positions=[[x, 1, 2]], rotations=rotation, kind=["a"], tomogram="t")
    place = write_polnet_tomogram(folder, tomogram(), truth, index=1)
    read = read_particles(place / "tomo_001_motif_list.csv")
    assert angle_deg(read.rotations, rotation).max() < 1e-4
    assert np.abs(read.positions - truth.positions).max() < 1e-4
