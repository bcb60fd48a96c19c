from __future__ import annotations

import csv

import numpy as np
import pytest
from io_fixtures import MATRIX, WXYZ, ZYZ, golden_particles, write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.particles import Extent, Particles


def test_the_golden_pose_is_read_from_angles_and_from_a_quaternion(tmp_path):
    by_angles = write(tmp_path / "a.csv", "x,y,z,rot,tilt,psi\n1,2,3," + ",".join(map(str, ZYZ)) + "\n")
    by_quaternion = write(tmp_path / "b.tsv", "x\ty\tz\tqw\tqx\tqy\tqz\n1\t2\t3\t" + "\t".join(map(str, WXYZ)) + "\n")
    for path in (by_angles, by_quaternion):
        read = read_particles(path)
        np.testing.assert_allclose(read.rotations[0], MATRIX, atol=2e-6)
        np.testing.assert_allclose(read.positions, [[1, 2, 3]])


def test_the_golden_pose_is_written_with_the_documented_header(tmp_path):
    particles = golden_particles(
        confidence=[0.5], expected_error_deg=[7.0], kind=["pdb_4v4r"], extra={"note": np.array(["a,b"])}
    )
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        write_particles(tmp_path / name, particles, provenance="made here")
        with (tmp_path / name).open(newline="") as stream:
            assert next(stream) == "# made here\n"
            row = next(csv.DictReader(stream, delimiter=mark))
        assert list(row) == [
            *["tomogram", "x", "y", "z", "rot", "tilt", "psi", "confidence", "expected_error_deg", "class", "note"]
        ]
        np.testing.assert_allclose([float(row[key]) for key in ("rot", "tilt", "psi")], ZYZ, atol=1e-4)
        assert (row["tomogram"], row["x"], row["class"], row["note"]) == ("TS_01", "100.000000", "pdb_4v4r", "a,b")


def test_save_reload_save_gives_the_same_bytes_and_carries_foreign_columns(tmp_path):
    text = 'Note,X,Y,Z,Tomogram,score,Rot,Tilt,Psi\nplain,1,2,3,007,0.10,10,20,30\n"a, b",4,5,6,007,1e-3,-10,20,180\n'
    first = read_particles(write(tmp_path / "in.csv", text))
    assert first.extra["Note"].tolist() == ["plain", "a, b"]
    assert first.extra["score"].tolist() == ["0.10", "1e-3"]
    assert first.tomogram.tolist() == ["007", "007"]
    write_particles(tmp_path / "a.csv", first, provenance="one")
    write_particles(tmp_path / "b.csv", read_particles(tmp_path / "a.csv"), provenance="two")
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == (tmp_path / "b.csv").read_text().splitlines()[1:]


def test_picks_without_angles_and_names_are_of_the_tomogram_that_is_asked_for(tmp_path):
    path = write(tmp_path / "picks.csv", "\ufeffx;y;z\n1,5;2;3\n".replace("1,5", "1.5"))
    read = read_particles(path, tomogram="TS_01")
    assert read.rotations is None
    assert read.tomogram.tolist() == ["TS_01"]
    np.testing.assert_allclose(read.positions, [[1.5, 2, 3]])


def test_the_rows_of_one_tomogram_are_kept(tmp_path):
    path = write(tmp_path / "picks.csv", "tomogram,x,y,z\nTS_01,1,1,1\nTS_02,2,2,2\n")
    np.testing.assert_allclose(read_particles(path, tomogram="rec_TS_02").positions, [[2, 2, 2]])
    with pytest.raises(InputError, match="no particle of TS_03; it has TS_01, TS_02"):
        read_particles(path, tomogram="TS_03")


def test_the_number_of_the_first_voxel_counts_in_every_list_in_voxels(tmp_path):
    columns = "_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n"
    for name, text in (
        ("a.csv", "x_voxel,y_voxel,z_voxel\n2,3,4\n"),
        ("b.csv", "x_px,y_px,z_px\n2,3,4\n"),
        ("a.coords", "2 3 4\n"),
        ("a.star", f"data_\n\nloop_\n{columns}2 3 4\n"),
        ("b.star", f"data_particles\n\nloop_\n{columns}_rlnMicrographPixelSize #4\n2 3 4 10\n"),
    ):
        read = read_particles(write(tmp_path / name, text), pixel_size=10.0, first_voxel=1)
        np.testing.assert_allclose(read.positions, [[10, 20, 30]])
        assert any("of 10 Å (as given), counted from 1" in note for note in read.notes)
    read = read_particles(write(tmp_path / "c.csv", "x,y,z\n10,20,30\n"), first_voxel=1)
    np.testing.assert_allclose(read.positions, [[10, 20, 30]])
    assert "number 1 is not used" in read.notes[0]


def test_a_size_of_voxels_scales_coordinates_that_are_called_voxels_and_others_say_that_it_does_not(tmp_path):
    voxels = write(tmp_path / "a.csv", "x_px,y_px,z_px,pixel_size\n1,2,3,10\n4,5,6,20\n")
    np.testing.assert_allclose(read_particles(voxels).positions, [[10, 20, 30], [80, 100, 120]])
    for name, text, more in (
        ("b.csv", "x,y,z\n10,20,30\n", {"pixel_size": 7.5}),
        ("c.csv", "x,y,z,Voxel_Size\n10,20,30,7.5\n", {}),
    ):
        read = read_particles(write(tmp_path / name, text), **more)
        np.testing.assert_allclose(read.positions, [[10, 20, 30]])
        assert any("does not scale x, y, z, which are Å" in note for note in read.notes)


@pytest.mark.parametrize("name", ["a.tbl", "a.em", "a.mod", "a.ndjson"])
def test_the_first_voxel_is_written_as_it_is_read(tmp_path, name):
    particles = Particles(positions=np.array([[100.0, 200, 300]]), tomogram="TS_01")
    for first in (0, 1):
        write_particles(tmp_path / name, particles, pixel_size=10.0, first_voxel=first)
        read = read_particles(tmp_path / name, pixel_size=10.0, first_voxel=first)
        np.testing.assert_allclose(read.positions, particles.positions, atol=1e-3)
        other = read_particles(tmp_path / name, pixel_size=10.0, first_voxel=1 - first)
        np.testing.assert_allclose(other.positions - particles.positions, 20 * first - 10, atol=1e-3)
    with pytest.raises(InputError, match="dialect csv does not count in voxels"):
        write_particles(tmp_path / "a.csv", particles, first_voxel=1)


def test_coordinates_in_voxels_need_the_size_of_a_voxel(tmp_path):
    path = write(tmp_path / "picks.csv", "tomogram,x_voxel,y_voxel,z_voxel\nTS_01,1,2,3\n")
    with pytest.raises(InputError, match="voxel size of TS_01 is unknown"):
        read_particles(path)
    np.testing.assert_allclose(read_particles(path, pixel_size=2.0).positions, [[2, 4, 6]])
    extents = {"TS_01_rec": Extent((5, 5, 5), 10.0)}
    np.testing.assert_allclose(read_particles(path, extents=extents).positions, [[10, 20, 30]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("x,y,z\n", "has no particles"),
        ("axis-0,axis-1\n1,2\n", "has no column x; .*It has axis-0"),
        ("x,y,z,rot,tilt\n1,2,3,4,5\n", "has rot but no psi"),
        ("x,y,z,qw,qx,qy\n1,2,3,1,0,0\n", "has qw but no qz"),
        ("x,y,z\n1,2,nan\n", "z of row 1 is 'nan'"),
        ("x,y,z\n1,2,3\n1,2\n", "row 2 has 2 values; expected 3"),
        ("x,y,z,X\n1,2,3,4\n", "two columns of one name"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as caught:
        read_particles(write(tmp_path / "a.csv", text))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="is not text"):
        read_particles(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content",
    [
        "x,y,z,note\n1,2,3,grün\n4,5,6,Å\n".encode("latin-1"),
        "x\ty\tz\n1\t2\t3\n4\t5\t6\n".encode("utf-16"),
        "\ufeffx;y;z\r\n1,0;2,0;3,0\r\n4;5;6\r\n".encode(),
        b"sep=;\r\nx;y;z\r\n1;2;3\r\n4;5;6\r\n",
    ],
    ids=["latin-1", "utf-16", "semicolons", "Excel's separator"],
)
def test_tables_are_read_as_spreadsheets_save_them(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    np.testing.assert_allclose(read_particles(tmp_path / "a.csv").positions, [[1, 2, 3], [4, 5, 6]])


def test_columns_without_a_name_that_count_rows_or_are_empty_are_left_out_and_others_named(tmp_path):
    index = write(tmp_path / "a.csv", ",x,y,z,\n0,1,2,3,\n1,4,5,6,\n")
    read = read_particles(index)
    np.testing.assert_allclose(read.positions, [[1, 2, 3], [4, 5, 6]])
    assert read.extra == {}
    held = write(tmp_path / "b.csv", "x,y,z,\n1,2,3,left\n4,5,6,right\n")
    assert read_particles(held).extra["column4"].tolist() == ["left", "right"]


def test_numbers_of_rows_before_the_coordinates_are_no_coordinates(tmp_path):
    path = write(tmp_path / "a.txt", "1 100 20 30 0.5\n2 40 50 60 0.7\n3 70 80 90 0.6\n")
    read = read_particles(path, pixel_size=10)
    np.testing.assert_allclose(read.positions, [[1000, 200, 300], [400, 500, 600], [700, 800, 900]])
    assert any("columns 2 to 4" in note for note in read.notes)


def test_numbers_of_classes_before_the_coordinates_are_no_coordinates(tmp_path):
    rows = "".join(f"{row % 2 + 1}\t{100 + 7 * row}\t{50 + row}\t{20 + row}\n" for row in range(12))
    read = read_particles(write(tmp_path / "a.coords", rows), pixel_size=10)
    np.testing.assert_allclose(read.positions[:2], [[1000, 500, 200], [1070, 510, 210]])
    after = "".join(f"{100 + 7 * row}\t{50 + row}\t{20 + row}\t{row % 2 + 1}\n" for row in range(12))
    read = read_particles(write(tmp_path / "b.coords", after), pixel_size=10)
    np.testing.assert_allclose(read.positions[0], [1000, 500, 200])


def test_centroids_of_regions_are_z_y_x_in_voxels(tmp_path):
    table = write(tmp_path / "a.csv", ",label,area,centroid-0,centroid-1,centroid-2\n0,1,99,3,2,1\n1,2,98,6,5,4\n")
    np.testing.assert_allclose(read_particles(table, pixel_size=10).positions, [[10, 20, 30], [40, 50, 60]])


def test_a_particle_type_is_a_class_unless_there_is_one(tmp_path):
    table = "id,experiment,particle_type,x,y,z{}\n0,TS_5_4,ribosome,1,2,3{}\n"
    read = read_particles(write(tmp_path / "a.csv", table.format("", "")), tomogram="TS_5_4")
    assert (read.kinds, read.tomogram_names) == (["ribosome"], ["TS_5_4"])
    assert any("Classes are those of particle_type" in note for note in read.notes)
    read = read_particles(write(tmp_path / "b.csv", table.format(",class", ",80S")))
    assert (read.kinds, read.extra["particle_type"].tolist()) == (["80S"], ["ribosome"])


@pytest.mark.parametrize(
    "text",
    [
        "x\ty\tz\n1,5\t2\t3\n4\t5\t6,25\n",
        "x y z\n1,5 2 3\n4 5 6,25\n",
        "x;y;z\n1,5;2;3\n4;5;6,25\n",
        "1,5;2,0;3,0\n4,0;5,0;6,25\n",
        "1,5\t2,0\t3,0\n4,0\t5,0\t6,25\n",
        "  1,5  2,0  3,0\n  4,0  5,0  6,25\n",
        "% exported\n1.5 2 3\n// half\n4 5 6.25\n",
    ],
)
def test_a_comma_that_does_not_separate_is_that_of_decimals(tmp_path, text):
    read = read_particles(write(tmp_path / "a.txt", text), pixel_size=1.0)
    np.testing.assert_allclose(read.positions, [[1.5, 2, 3], [4, 5, 6.25]])


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z\nnm,nm,nm\n0.1,0.2,0.3\n0.4,0.5,0.6\n",
        "x,y,z,rot,tilt,psi\n(A),(A),(A),deg,deg,deg\n1,2,3,0,0,9\n4,5,6,0,0,9\n",
        "Particles of TS_01\n\nx,y,z\n1,2,3\n4,5,6\n",
        "% picked by hand\n% z y x\n3 2 1\n6 5 4\n",
        "// picked by hand\nx,y,z\n1,2,3\n4,5,6\n",
        "x,y,z\n1,2,3\nx,y,z\n4,5,6\n,,\n\x1a",
        "x,y,z\n1,2,3,\n4,5,6,\n",
        "     x    y    z\n0  1.0  2.0  3.0\n1  4.0  5.0  6.0\n",
        '"x","y","z"\n"1",1,2,3\n"2",4,5,6\n',
        '"x" "y" "z"\n"1" 1 2 3\n"2" 4 5 6\n',
        "   x    y    z\n  ___  ___  ___\n\n  1  2  3\n  4  5  6\n",
        "| x | y | z |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n",
        "x_um,y_um,z_um\n1e-4,2e-4,3e-4\n4e-4,5e-4,6e-4\n",
        "particle_x,particle_y,particle_z\n1,2,3\n4,5,6\n",
        "voxel_x,voxel_y,voxel_z\n1,2,3\n4,5,6\n",
    ],
    ids=[
        *("units below the header", "units with angles", "a title", "MATLAB's comments", "other comments"),
        *("tables appended", "commas at the ends", "pandas' text", "R's table", "R's with blanks"),
        *("MATLAB's table", "Markdown", "micrometres", "particle", "voxel"),
    ],
)
def test_a_header_is_found_with_its_units_whatever_stands_about_it(tmp_path, text):
    read = read_particles(write(tmp_path / "a.txt", text), pixel_size=1.0)
    np.testing.assert_allclose(read.positions, [[1, 2, 3], [4, 5, 6]])
    assert read.extra == {}


@pytest.mark.parametrize(
    "head", ["index,axis-0,axis-1,axis-2", "rlnTomoName,rlnCoordinateZ,rlnCoordinateY,rlnCoordinateX"]
)
def test_a_title_stands_above_the_columns_of_other_programs_too(tmp_path, head):
    path = write(tmp_path / "a.csv", f"Particles, picked by hand\n{head}\n0,3,2,1\n0,6,5,4\n")
    np.testing.assert_allclose(read_particles(path, pixel_size=1.0).positions, [[1, 2, 3], [4, 5, 6]])


def test_a_value_too_many_in_a_row_is_no_number_of_the_row(tmp_path):
    with pytest.raises(InputError, match="row 1 has 4 values; expected 3"):
        read_particles(write(tmp_path / "a.csv", "x,y,z\n10,20,30,1\n40,50,60,2\n"))


def test_a_table_of_particles_that_pandas_saved_is_read_back_with_its_poses(tmp_path):
    golden = golden_particles()
    golden.to_dataframe().to_csv(tmp_path / "a.csv", index=False)
    np.testing.assert_allclose(read_particles(tmp_path / "a.csv").rotations, golden.rotations, atol=1e-9)
    degrees = write(tmp_path / "b.csv", "x,y,z,Rot (°),Tilt [deg],psi_deg\n1,2,3," + ",".join(map(str, ZYZ)) + "\n")
    np.testing.assert_allclose(read_particles(degrees).rotations[0], MATRIX, atol=2e-6)


@pytest.mark.parametrize("least_tilt", [0, -np.pi], ids=["positive", "of either sign"])
def test_angles_that_may_be_radians_are_asked_about_in_every_convention(least_tilt, tmp_path):
    angles = np.random.default_rng(0).uniform([-np.pi, least_tilt, -np.pi], np.pi, size=(5, 3))
    for scale, asked in ((1, True), (180 / np.pi, False)):
        table = "".join(f"1,2,3,{','.join(map(str, row))}\n" for row in angles * scale)
        dynamo = "".join(
            f"{row + 1} 1 0 0 0 0 {' '.join(map(str, three))} {' '.join(['0'] * 14)} 1 2 3\n"
            for row, three in enumerate(angles * scale)
        )
        for name, text in (("a.csv", "x,y,z,rot,tilt,psi\n" + table), ("a.tbl", dynamo)):
            read = read_particles(write(tmp_path / name, text), pixel_size=10.0)
            assert any("are the angles radians?" in note for note in read.notes) is asked, name


def test_particles_of_other_tomograms_stay_out_whatever_the_column_of_names_is_called(tmp_path):
    for name in ("TS", "file name", "dataset"):
        path = write(tmp_path / "a.csv", f"x,y,z,{name},note\n1,2,3,rec_TS_01.mrc,a\n4,5,6,rec_TS_02.mrc,b\n")
        np.testing.assert_allclose(read_particles(path, tomogram="TS_01").positions, [[1, 2, 3]])
    text = "data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_of\n1 2 3 TS_01\n4 5 6 TS_02\n"
    star = read_particles(write(tmp_path / "a.star", text), tomogram="TS_01", pixel_size=2.0)
    np.testing.assert_allclose(star.positions, [[2, 4, 6]])
    path = write(tmp_path / "b.csv", "x,y,z,note,group\n1,2,3,a,1\n4,5,6,b,2\n")
    assert [len(read_particles(path, tomogram=name)) for name in ("TS_01", "1", "tomo_001")] == [2, 2, 2]
