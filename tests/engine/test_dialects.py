"""Every dialect of particle lists: known by its content, read right, and refused in one line where it is damaged."""

import importlib.util
import json
import random
import re
import struct

import numpy as np
import pytest
from foreign_lists import (
    MOTIVE,
    PEET_HEAD,
    POSITIONS,
    ROTATIONS,
    SAMPLES,
    SIZE,
    TOMOGRAM,
    VOXEL,
    VOXELS,
    WITHOUT_ROTATIONS,
    copick_picks,
    copick_points,
    em_bytes,
    imod_bytes,
    motive_rows,
    mutated,
)
from io_fixtures import write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, read_particles, write_particles, write_tomogram
from napari_orient.engine.io.dialects import DIALECTS, ListFile, recognise, written_dialects
from napari_orient.engine.particles import Extent, Particles, Tomogram, concatenate, in_list_order
from napari_orient.engine.rotations import angle_deg, even_rotations

EXTENT = Extent(SIZE, VOXEL)
DENSITY = np.zeros(SIZE[::-1], np.float32)


def opened() -> Tomogram:
    return Tomogram(DENSITY, VOXEL, TOMOGRAM)


# --- every dialect --------------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_dialect_that_is_read():
    assert set(SAMPLES) == {dialect.name for dialect in DIALECTS if dialect.read is not None}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_list_of_every_program_is_known_by_its_content_and_read_right(tmp_path, name):
    path = SAMPLES[name](tmp_path)
    assert recognise(ListFile(path)).name == name
    read = read_particles(path, tomogram=opened())
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)
    if name in WITHOUT_ROTATIONS:
        assert read.rotations is None
    else:
        assert angle_deg(read.rotations, ROTATIONS).max() < 1e-4
    assert {str(found).removesuffix(".tomostar") for found in read.tomogram} == {TOMOGRAM}


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("relion5", "warp-matching", "imod")])
def test_the_content_counts_whatever_the_name_of_the_file(tmp_path, name):
    path = SAMPLES[name](tmp_path)
    if name in (
        "copick-project",
        "ndjson",
        "polnet",
        "peet",
        "peet-project",
        "eman2-boxes",
        "dynamo",
        "stopgap",
        "em",
        "motive-table",
    ):
        named_beside = ("polnet", "peet", "peet-project")
        other = path.with_name(f"renamed{path.suffix}.txt") if name not in named_beside else path
    else:
        other = path.with_name("renamed.txt")
    path.rename(other)
    assert recognise(ListFile(other)).name in (name, "csv" if name == "tsv" else name)


@pytest.mark.parametrize(
    "name", ["dynamo", "stopgap", "em", "copick", "ndjson", "deepfinder", "picks", "pytme", "emclarity"]
)
def test_a_list_in_voxels_needs_their_size_and_says_which_was_taken(tmp_path, name):
    path = SAMPLES[name](tmp_path)
    if name == "ndjson":
        path = path.rename(tmp_path / "points.ndjson")
    if name != "copick":
        with pytest.raises(InputError, match=r"--tomogram.*--pixel-size") as caught:
            read_particles(path)
        assert "\n" not in str(caught.value)
    read = read_particles(path, pixel_size=2 * VOXEL)
    expected = POSITIONS if name == "copick" else 2 * POSITIONS
    np.testing.assert_allclose(read.positions, expected, atol=1e-3)
    assert name == "copick" or any("20 Å" in note for note in read.notes)


def test_picks_of_emclarity_say_that_they_are_of_a_region_and_which_orientation_was_taken(tmp_path):
    read = read_particles(SAMPLES["emclarity"](tmp_path), tomogram=opened())
    assert any("region that emClarity searched, binned by 4" in note for note in read.notes)
    assert any("2 orientations" in note for note in read.notes)
    np.testing.assert_allclose(read.extra["rlnAutopickFigureOfMerit"].astype(float), [9.5, 8.5])


@pytest.mark.parametrize("layout", ["columns", "commented", "named", "pandas"])
def test_a_motive_list_as_a_table_has_a_particle_in_each_column_or_names(tmp_path, layout):
    path, rows = SAMPLES["motive-table"](tmp_path), motive_rows()
    names = (
        "score geom1 geom2 subtomo_id tomo_id object_id subtomo_mean x y z shift_x shift_y shift_z geom3 geom4 geom5 "
        "phi psi theta class"
    )
    if layout == "columns":
        # More of them than a row of numbers may hold that is of no known layout.
        np.savetxt(path, np.tile(rows, (20, 1)).T, delimiter=",")
    elif layout == "commented":
        np.savetxt(path, rows, header=names)
    else:
        import pandas

        pandas.DataFrame(rows, columns=names.split()).to_csv(path, index=layout == "pandas")
    read = read_particles(path, tomogram=opened())[:2]
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)
    assert angle_deg(read.rotations, ROTATIONS).max() < 1e-4
    assert list(read.tomogram) == [TOMOGRAM, TOMOGRAM]


def test_a_line_longer_than_a_table_s_cells_may_be_is_still_named_for_what_it_is(tmp_path):
    path = write(tmp_path / "a.json", '{"x": "' + "b" * 200_000 + ', c"}\n')
    with pytest.raises(InputError, match="is JSON, but neither picks nor a project of copick"):
        read_particles(path, tomogram=opened())


def test_rows_as_long_as_dynamo_s_whose_columns_are_no_counts_are_refused_not_read_as_poses(tmp_path):
    path = SAMPLES["dynamo"](tmp_path)
    rows = [line.split() for line in path.read_text().splitlines()]
    other = write(tmp_path / "other.csv", "\n".join(" ".join([*row[:19], "0.37", *row[20:]]) for row in rows))
    with pytest.raises(InputError, match=r"numbers without a header.*x, y, z"):
        read_particles(other, tomogram=opened())


# --- written and read again -----------------------------------------------------------------------------------------


def hard_poses() -> np.ndarray:
    """Even rotations, and those within 1e-8 to 0.1 degrees of where two Euler angles are one."""
    near = 10.0 ** np.linspace(-8, -1, 20)
    tilts = np.concatenate([near, 180 - near, [0.0, 180.0]])
    from scipy.spatial.transform import Rotation

    steep = [
        Rotation.from_euler(axes, [[30, tilt, 40] for tilt in tilts], degrees=True).as_matrix()
        for axes in ("ZYZ", "zxz")
    ]
    turned = [matrices.transpose(0, 2, 1) for matrices in steep]
    return np.concatenate([ROTATIONS, even_rotations(1000), *steep, *turned])


def many(rng: np.random.Generator, names: tuple[str, ...]) -> tuple[Particles, dict[str, Extent]]:
    rotations = hard_poses()
    positions = rng.uniform(-50, 9000, (len(rotations), 3))
    positions[:9] = np.round(positions[:9] / 5) * 5
    extents = dict.fromkeys(names, Extent((1001, 900, 300), VOXEL))
    return (
        Particles(
            positions=positions,
            rotations=rotations,
            tomogram=np.array([names[row % len(names)] for row in range(len(rotations))]),
            kind=np.full(len(rotations), "ribosome"),
            extents=extents,
            extra={"rlnAutopickFigureOfMerit": np.round(rng.random(len(rotations)), 4).astype(str)},
        ),
        extents,
    )


OF_ONE_TOMOGRAM = ("copick", "ndjson", "peet")
"""Formats of one tomogram each; but for copick's they do not say which."""
POSED = [name for name in written_dialects() if name != "imod"]
"""Formats that hold rotations."""


@pytest.mark.parametrize("name", POSED)
def test_a_thousand_poses_come_back_from_every_format_and_the_second_writing_is_the_first(tmp_path, name):
    alone = name in OF_ONE_TOMOGRAM
    particles, extents = many(np.random.default_rng(1), ("TS_01",) if alone else ("TS_01", "TS_02", "007"))
    suffix = written_dialects()[name].suffixes[0]
    first, second = (tmp_path / folder / f"list{suffix}" for folder in "ab")
    first.parent.mkdir()
    second.parent.mkdir()
    write_particles(first, particles, dialect=name)
    # The portal's file states neither the voxel size nor the tomogram.
    missing = {"extents": extents, "tomogram": "TS_01"} if name in OF_ONE_TOMOGRAM[1:] else {}
    read = read_particles(first, **missing)
    assert angle_deg(read.rotations, particles.rotations).max() < 1e-4
    # Six decimals of a voxel of 10 Å are the coarsest.
    assert np.abs(read.positions - particles.positions).max() < 6e-6
    assert read.tomogram.tolist() == particles.tomogram.tolist()
    # Read tomogram by tomogram, as it is worked on, a list comes back in its own order.
    apart = [read_particles(first, **{**missing, "tomogram": found}) for found in read.tomogram_names]
    np.testing.assert_array_equal(in_list_order(concatenate(apart)).positions, read.positions)
    write_particles(second, read, dialect=name)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", POSED)
def test_what_people_put_into_names_and_columns_comes_back_and_the_second_writing_is_the_first(tmp_path, name):
    alone = name in OF_ONE_TOMOGRAM
    names = ["Größe 1 #2"] * 4 if alone else ["it's 1", 'say "x"', "007", "名 2"]
    columns = {
        "note": np.array(["a", "tab\there", "two\nlines", 'it\'s "x"']),
        "Score": np.array(["1", "2", "3", "4"]),
        "score": np.array([1e-9, 0.1, 1 / 3, np.nan]),
        "tomogramNumber": np.array(["20230101123", "20230101124", "7", "8"]),
        "subtomogramNumber": np.array(["16777216", "16777217", "16777218", "1"]),
    }
    particles = Particles(
        positions=np.random.default_rng(2).uniform(-50, 900, (4, 3)),
        rotations=even_rotations(4),
        tomogram=np.array(names),
        extents=dict.fromkeys(names, EXTENT),
        extra=columns,
    )
    first, second = (tmp_path / folder / f"list{written_dialects()[name].suffixes[0]}" for folder in "ab")
    first.parent.mkdir()
    second.parent.mkdir()
    notes = " ".join(write_particles(first, particles, dialect=name))
    missing = {"tomogram": names[0]} if name in OF_ONE_TOMOGRAM[1:] else {}
    read = read_particles(first, extents=particles.extents, **missing)
    assert read.tomogram.tolist() == names
    for column, values in columns.items():
        expected = [" ".join(str(value).split()) for value in values.tolist()]
        same = column in read.extra and [" ".join(text.split()) for text in read.extra[column].tolist()] == expected
        assert same or column in notes or "anew" in notes, column
    write_particles(second, read, dialect=name)
    assert [path.read_bytes() for path in sorted(first.parent.iterdir())] == [
        path.read_bytes() for path in sorted(second.parent.iterdir())
    ]


@pytest.mark.parametrize("name", written_dialects())
def test_unknown_rotations_stay_unknown(tmp_path, name):
    path = tmp_path / f"picks{written_dialects()[name].suffixes[0]}"
    picks = Particles(positions=POSITIONS, tomogram=TOMOGRAM, extents={TOMOGRAM: EXTENT})
    write_particles(path, picks, dialect=name)
    read = read_particles(path, tomogram=opened())
    assert read.rotations is None
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)


@pytest.mark.parametrize("name", written_dialects())
def test_what_a_format_cannot_hold_is_said(tmp_path, name):
    columns = {"confidence": [0.5, 0.9], "extra": {"myColumn": np.array(["1", "2"])}}
    particles = Particles(
        positions=POSITIONS, rotations=ROTATIONS, tomogram=TOMOGRAM, extents={TOMOGRAM: EXTENT}, **columns
    )
    path = tmp_path / f"list{written_dialects()[name].suffixes[0]}"
    notes = " ".join(write_particles(path, particles, dialect=name))
    read = read_particles(path, tomogram=opened())
    for word, held in (("confidence", read.confidence is not None), ("myColumn", "myColumn" in read.extra)):
        assert held != (word in notes), (name, word, notes)


def test_numbers_of_tomograms_stay_as_a_dynamo_project_has_them(tmp_path):
    read = read_particles(SAMPLES["dynamo"](tmp_path), pixel_size=VOXEL)
    (tmp_path / "out").mkdir()
    notes = write_particles(tmp_path / "out" / "again.tbl", read)
    again = [line.split() for line in (tmp_path / "out" / "again.tbl").read_text().splitlines()]
    assert [row[19] for row in again] == ["3", "3"]
    assert [row[0] for row in again] == ["41", "42"]
    assert [row[12:17] for row in again] == [["1", "-60", "60", "-60", "60"]] * 2
    assert (tmp_path / "out" / "again.doc").read_text() == f"3 {TOMOGRAM}\n"
    assert "10 Å" in notes[0]


# --- numbered tomograms ---------------------------------------------------------------------------------------------


def test_names_of_numbered_tomograms_come_from_a_vll_too_and_are_asked_for_where_none_says_them(tmp_path):
    path = SAMPLES["dynamo"](tmp_path)
    (tmp_path / "tomograms.doc").unlink()
    text = path.read_text()
    two = write(path, text + text.splitlines()[0].replace(" 3 1 1 0 ", " 4 1 1 0 ") + "\n")
    assert read_particles(two, pixel_size=1.0).tomogram.tolist() == ["3", "3", "4"]
    with pytest.raises(InputError, match=r"numbers its tomograms \(3, 4\).*number path.*aligned.doc") as caught:
        read_particles(two, pixel_size=1.0, tomogram=TOMOGRAM)
    assert "\n" not in str(caught.value)
    write(tmp_path / "all.vll", "/d/TS_07.mrc\n* ytilt: -60 60\n/d/TS_08.mrc\n/d/TS_01.mrc\n/d/TS_02.mrc\n")
    assert read_particles(two, pixel_size=1.0).tomogram.tolist() == ["TS_01", "TS_01", "TS_02"]
    np.testing.assert_allclose(read_particles(two, pixel_size=VOXEL, tomogram=TOMOGRAM).positions, POSITIONS, atol=1e-4)


def test_a_numbered_list_of_one_tomogram_belongs_to_the_one_that_is_given(tmp_path):
    path = SAMPLES["stopgap"](tmp_path)
    (tmp_path / "tomograms.doc").unlink()
    assert set(read_particles(path, tomogram=opened()).tomogram) == {TOMOGRAM}


def test_a_numbered_list_finds_its_tomograms_files(tmp_path):
    path = SAMPLES["dynamo"](tmp_path)
    write_tomogram(tmp_path / f"{TOMOGRAM}.mrc", np.random.default_rng(0).normal(size=SIZE[::-1]), voxel_size=VOXEL)
    write(tmp_path / "tomograms.doc", f"3 {TOMOGRAM}.mrc\n")
    ((tomogram, particles),) = read_labelled(path)
    assert tomogram.name == TOMOGRAM
    np.testing.assert_allclose(particles.positions, POSITIONS, atol=1e-4)


# --- Dynamo ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [26, 35, 42])
def test_tables_of_dynamo_have_any_number_of_columns_from_26(tmp_path, columns):
    path = SAMPLES["dynamo"](tmp_path)
    rows = [line.split() for line in path.read_text().splitlines()]
    write(path, "".join(" ".join([*row, *["0"] * 10][:columns]) + " \n" for row in rows))
    np.testing.assert_allclose(read_particles(path, pixel_size=VOXEL).positions, POSITIONS, atol=1e-4)


def test_the_voxel_size_of_a_table_is_believed_unless_it_is_a_placeholder(tmp_path):
    path = SAMPLES["dynamo"](tmp_path)
    rows = [line.split() for line in path.read_text().splitlines()]
    for stated, expected in (("5", 0.5), ("1", 1.0), ("0", 1.0)):
        write(path, "".join(" ".join([*row, stated]) + "\n" for row in rows))
        read = read_particles(path, tomogram=opened())
        np.testing.assert_allclose(read.positions, expected * POSITIONS, atol=1e-4)


def test_a_complex_number_in_a_column_that_is_not_used_does_no_harm(tmp_path):
    path = SAMPLES["dynamo"](tmp_path)
    rows = [line.split() for line in path.read_text().splitlines()]
    for row in rows:
        row[27] = "0+1.2074e-06i"
    write(path, "".join(" ".join(row) + "\n" for row in rows))
    read = read_particles(path, pixel_size=VOXEL)
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)
    assert read.extra["dynamo_daxis"].tolist() == ["0+1.2074e-06i"] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [row[:20] for row in rows], "has 20 columns; expected 26 to 42"),
        (lambda rows: [rows[0], rows[1][:-1]], "row 2 has 34 values; expected 35"),
        (lambda rows: [[*rows[0][:23], "x", *rows[0][24:]], rows[1]], "x of row 1 is 'x'"),
        (lambda rows: [[*rows[0][:6], "nan", *rows[0][7:]], rows[1]], "tdrot of row 1 is 'nan'"),
    ],
)
def test_damaged_tables_of_dynamo_are_refused(tmp_path, change, words):
    path = SAMPLES["dynamo"](tmp_path)
    rows = change([line.split() for line in path.read_text().splitlines()])
    write(path, "".join(" ".join(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=words):
        read_particles(path, pixel_size=VOXEL)


# --- motive lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
def test_motive_lists_of_either_byte_order_and_type_are_read(tmp_path, kind):
    (tmp_path / "a.em").write_bytes(em_bytes(motive_rows(), kind))
    read = read_particles(tmp_path / "a.em", tomogram=opened())
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)
    assert angle_deg(read.rotations, ROTATIONS).max() < 1e-4
    assert read.extra["rlnClassNumber"].tolist() == ["1", "2"]
    counted_from_0 = read_particles(tmp_path / "a.em", tomogram=opened(), first_voxel=0)
    np.testing.assert_allclose(counted_from_0.positions, POSITIONS + VOXEL, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (em_bytes(motive_rows()[:, :19]), "has 19 values a particle; expected the 20"),
        (em_bytes(np.hstack([motive_rows(), [[0], [0]]])), "has 21 values a particle; expected the 20"),
        (em_bytes(motive_rows())[:-4], "Was it cut short"),
        (em_bytes(motive_rows() * np.nan), "no finite number"),
        (em_bytes(np.zeros((64, 64))), "64 values a particle"),
    ],
)
def test_em_files_that_are_no_whole_motive_list_are_refused(tmp_path, data, words):
    (tmp_path / "a.em").write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_particles(tmp_path / "a.em", pixel_size=VOXEL)


def test_angles_that_all_are_zero_are_no_orientation(tmp_path):
    rows = motive_rows()
    rows[:, 16:19] = 0
    (tmp_path / "a.em").write_bytes(em_bytes(rows))
    read = read_particles(tmp_path / "a.em", pixel_size=VOXEL)
    assert read.rotations is None
    assert any("taken as unknown" in note for note in read.notes)


def test_half_sets_and_numbers_of_stopgap_go_to_relion_s_columns_and_back(tmp_path):
    read = read_particles(SAMPLES["stopgap"](tmp_path), tomogram=opened())
    assert read.extra["rlnRandomSubset"].tolist() == ["1", "2"]
    assert read.extra["subtomogramNumber"].tolist() == ["7", "8"]
    (tmp_path / "out").mkdir()
    write_particles(tmp_path / "out" / "motl.star", read, dialect="stopgap")
    text = (tmp_path / "out" / "motl.star").read_text()
    assert text.startswith("\ndata_stopgap_motivelist\n\nloop_\n_motl_idx\n_tomo_num\n")
    first = text.split("_class\n\n")[1].split("\n")[0].split()
    assert first[:5] == ["1", "3", "1", "7", "A"]
    assert first[15] == "2"


# --- copick and the portal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trust_orientation": False}, "not to be trusted"),
        ({"points": copick_points(np.repeat(np.eye(3)[None], 2, axis=0))}, "identity"),
    ],
)
def test_orientations_that_copick_does_not_know_are_unknown(tmp_path, changes, words):
    read = read_particles(write(tmp_path / "a.json", copick_picks(**changes)))
    assert read.rotations is None
    assert words in read.notes[0]
    np.testing.assert_allclose(read.positions, POSITIONS)


def test_picks_have_their_object_run_and_unit(tmp_path):
    path = write(tmp_path / "TS_05" / "Picks" / "me_1_ribosome.json", copick_picks(run_name=None, unit="nanometer"))
    read = read_particles(path)
    assert read.kinds == ["ribosome"]
    assert read.tomogram_names == ["TS_05"]
    np.testing.assert_allclose(read.positions, 10 * POSITIONS)
    with pytest.raises(InputError, match="no particle of TS_06"):
        read_particles(path, tomogram="TS_06")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (copick_picks(points=[]), "no particles"),
        (copick_picks(unit="pixel"), "positions in 'pixel'"),
        (copick_picks(points=[{"location": {"x": 1, "y": 2}}]), "z of point 1 is None"),
        (copick_picks(points=[{"x": 1}]), "point 1 has no location"),
        (copick_picks(points=[{"location": {"x": 1, "y": 2, "z": 3}, "transformation_": [[1]]}]), "not 4 × 4 numbers"),
        (copick_picks()[:-40], "no JSON that can be read"),
        (copick_picks(points=copick_points(2 * ROTATIONS)), "not proper rotations"),
    ],
)
def test_damaged_picks_are_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_particles(write(tmp_path / "a.json", text))


def test_a_project_is_read_whole_and_its_overlay_hides_what_lies_below(tmp_path):
    path = SAMPLES["copick-project"](tmp_path)
    static = tmp_path / "static" / "ExperimentRuns"
    write(static / TOMOGRAM / "Picks" / "me_1_ribosome.json", copick_picks(points=copick_points()[:1]))
    write(
        static / "TS_02" / "Picks" / "you_0_proteasome.json",
        copick_picks(pickable_object_name="proteasome", run_name="TS_02"),
    )
    write(static / "TS_02" / "Picks" / "you_0_nothing.json", copick_picks(points=[]))
    config = json.loads(path.read_text())
    write(path, json.dumps({**config, "static_root": "local://static"}))
    read = read_particles(path)
    assert [str(name) for name in read.tomogram] == [TOMOGRAM, TOMOGRAM, "TS_02", "TS_02"]
    assert read.kinds == ["ribosome", "proteasome"]
    assert "proteasome" in read.notes[0]
    assert len(read_particles(path, tomogram="TS_02")) == 2
    write(path, json.dumps({**config, "overlay_root": "s3://bucket/project"}))
    if importlib.util.find_spec("copick") is None:
        with pytest.raises(InputError, match=r"not on this disk.*pip install copick"):
            read_particles(path)


def test_the_portal_s_points_take_the_spacing_run_and_object_of_their_folders(tmp_path):
    path = SAMPLES["ndjson"](tmp_path)
    read = read_particles(path)
    np.testing.assert_allclose(read.positions, POSITIONS)
    assert read.tomogram_names == [TOMOGRAM]
    assert read.kinds == ["ribosome"]
    lines = path.read_text().splitlines()
    points = [json.dumps({"type": "point", "location": json.loads(line)["location"]}) for line in lines]
    assert read_particles(write(path, "\n".join(points))).rotations is None
    with pytest.raises(InputError, match="1 of 2 points have no xyz_rotation_matrix"):
        read_particles(write(path, f"{lines[0]}\n{points[1]}\n"))


# --- IMOD and PEET --------------------------------------------------------------------------------------------------


def test_views_of_the_slicer_are_poses_where_they_lie_on_the_points_or_stand_alone(tmp_path):
    from scipy.spatial.transform import Rotation

    slicer = -Rotation.from_matrix(ROTATIONS).as_euler("xyz", degrees=True)
    views = list(zip(slicer, VOXELS, strict=True))
    path = tmp_path / "a.mod"
    path.write_bytes(imod_bytes(np.zeros((0, 3)), views))
    assert angle_deg(read_particles(path, pixel_size=VOXEL).rotations, ROTATIONS).max() < 1e-4
    path.write_bytes(imod_bytes(VOXELS[::-1], views))
    assert angle_deg(read_particles(path, pixel_size=VOXEL).rotations, ROTATIONS[::-1]).max() < 1e-4
    path.write_bytes(imod_bytes(VOXELS + 5, views))
    read = read_particles(path, pixel_size=VOXEL)
    assert read.rotations is None
    assert any("do not lie on" in note for note in read.notes)


@pytest.mark.parametrize(("pixel", "expected"), [((1.0, -9), 10.0), ((4.0, -10), 4.0), ((0.002, -6), 20.0)])
def test_a_model_states_its_pixel_size_in_any_unit(tmp_path, pixel, expected):
    (tmp_path / "a.mod").write_bytes(imod_bytes(VOXELS, pixel=pixel))
    np.testing.assert_allclose(read_particles(tmp_path / "a.mod").positions, VOXELS * expected, rtol=1e-6)


@pytest.mark.parametrize("end", [100, 260, -40, -2])
def test_a_model_that_is_cut_short_is_refused(tmp_path, end):
    whole = imod_bytes(VOXELS)
    (tmp_path / "a.mod").write_bytes(whole[:end])
    with pytest.raises(InputError, match=r"ends within a part|no contour"):
        read_particles(tmp_path / "a.mod", pixel_size=VOXEL)


def test_peet_s_motive_list_finds_its_model_by_its_project(tmp_path):
    path = SAMPLES["peet"](tmp_path)
    (tmp_path / "other.mod").write_bytes(imod_bytes(VOXELS + 50))
    with pytest.raises(InputError, match="2 may be meant"):
        read_particles(path, pixel_size=VOXEL)
    write(tmp_path / "run.prm", "fnModParticle = {'particles.mod', 'other.mod'}\ninitMOTL = 0\n")
    np.testing.assert_allclose(read_particles(path, pixel_size=VOXEL).positions, POSITIONS, atol=1e-3)
    write(path, PEET_HEAD + "\n" + ",".join(["1", "0", "0", "9", *["0"] * 16]) + "\n")
    with pytest.raises(InputError, match=r"names point 9 of particles.mod, which has 3"):
        read_particles(path, pixel_size=VOXEL)


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IDs,X [A],Y [A],Z [A]\n0,100.0,200.0,50.0\n0,333.0,444.5,77.5\n", POSITIONS),
        ("x (nm)\ty (nm)\tz (nm)\n10\t20\t5\n33.3\t44.45\t7.75\n", POSITIONS),
        ("x y z\n100 200 50\n333 444.5 77.5\n", POSITIONS),
        ("x|y|z\n100|200|50\n333|444.5|77.5\n", POSITIONS),
        ("X [px],Y [px],Z [px]\n10,20,5\n33.3,44.45,7.75\n", POSITIONS),
        ("10,20,5\n33.3,44.45,7.75\n", POSITIONS),
        ("10|20|5\n33.3|44.45|7.75\n", POSITIONS),
        ("10\t20\t5\t1\n33.3\t44.45\t7.75\t2\n", POSITIONS),
        ("  10   20  5\n 33.3 44.45  7.75\n", POSITIONS),
        # Beyond the tomogram's 100 voxels: Å.
        ("100 200 50\n333 444.5 77.5\n", POSITIONS),
    ],
)
def test_plain_tables_are_read_whatever_separates_them_and_whatever_their_unit(tmp_path, text, expected):
    read = read_particles(write(tmp_path / "points.csv", text), tomogram=opened())
    np.testing.assert_allclose(read.positions, expected, atol=1e-9)
    assert read.rotations is None


def test_points_of_napari_in_time_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "index,axis-0,axis-1,axis-2,axis-3\n0,1,2,3,4\n1,1,5,6,7\n")
    np.testing.assert_allclose(read_particles(path, pixel_size=1.0).positions, [[4, 3, 2], [7, 6, 5]])
    path = write(tmp_path / "a.csv", "index,axis-0,axis-1,axis-2,axis-3\n0,1,2,3,4\n1,2,2,3,4\n")
    with pytest.raises(InputError, match="more than three axes"):
        read_particles(path, pixel_size=1.0)


# --- files that are no lists ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("located.tloc", b"\x80\x04\x95\x00\x00", r"Python pickle.*coords"),
        ("picks.pkl", b"\x80\x05K\x01.", "Python pickle"),
        ("picks.csv", b"\x80\x04cpandas\n\x00", "Python pickle"),
        ("tomo.star", b"\0" * 208 + b"MAP \x44\x44\0\0" + b"\0" * 900, r"is a volume \(MRC\).*Open it as the tomogram"),
        ("a.csv.gz", b"\x1f\x8b\x08\0\0\0\0", "is packed.*gunzip"),
        ("a.h5", b"\x89HDF\r\n\x1a\n\0", "HDF5.*table"),
        ("a.npy", b"\x93NUMPY\x01\0", "array of NumPy.*savetxt"),
        ("a.star", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.star", b"<!DOCTYPE html>\n<html>", "web page"),
        ("a.cmm", b"<marker_set name='x'>\n</marker_set>", "markers of ChimeraX"),
        ("a.mdoc", b"PixelSpacing = 1.35\n[ZValue = 0]\n", "description of a tilt series"),
        ("tomos.doc", b"1 /data/TS_01.mrc\n", "list of tomograms.*Open the table of particles"),
        ("a_tomograms.csv", b"number,tomogram,voxel_size,size_x,size_y,size_z\n1,a,10,1,1,1\n", "list of tomograms"),
        ("run.prm", b"fnModParticle = {'a.mod'}\n", "the model of a is not there"),
        ("run.prm", b"fnVolume = {'a.rec'}\n", "names no model of particles"),
        ("wedge.star", b"data_stopgap_wedgelist\n\nloop_\n_tomo_num\n\n1\n", "STOPGAP, but not of particles"),
        ("a.star", b"data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n", "particles in micrographs"),
        ("a.lst", b"#LSX\n# This file is in fast LST format.\n# 20\n0\tparticles/a.hdf\n", "EMAN2.*aliptcls3d"),
        ("a.lst", b'#LSX\n0\ta__b.hdf\t{"xform.align3d": {"matrix": "[1, 0]"}, "coord": [1, 2, 3]}\n', "no file|size"),
        ("TS_01_info.json", b'{"apix_unbin": 2.5, "tlt_params": []}', "EMAN2.*without boxes"),
        ("TS_01_info.json", b'{"apix_unbin": 2.5, "boxes_3d": []}', "boxes_3d are empty"),
        ("TS_01_info.json", b'{"apix_unbin": 2.5, "boxes_3d": [[1, "x", 3]]}', "no three numbers"),
        ("indices.pkl", b"\x80\x04\x95\x0b\x00\x00", "pickle.*cryodrgn_utils filter_star.*tomodrgn filter_star"),
        ("J41_particles.cs", b"\x93NUMPY\x01\x00", "cryoSPARC.*csparc2star"),
        ("TS_01.xf", b"1 0 0 1 0.5 0.25\n1 0 0 1 0.5 0.25\n", "alignment of a tilt series .IMOD"),
        ("tilts.star", b"data_\n\nloop_\n_rlnImageName\n_rlnGroupName\n1@a.mrcs a\n", "tilt images.*filter_star"),
        ("two.population", b'<Population><Species GUID="1" Path="a" /></Population>', "0 species"),
        ("a.species", b"<Species></Species>", "expected its list beside it, a_particles.star"),
        ("a.what", b"Dear colleague, here are my particles\n", r"no known list.*it is text.*docs/formats.md"),
        ("a.what", bytes(range(1, 200)) + b"\0", "no known list.*a binary file"),
    ],
)
def test_files_that_are_no_lists_are_answered_with_what_they_are_and_what_opens_them(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_particles(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_xml_that_declares_entities_is_not_read(tmp_path):
    bomb = '<!DOCTYPE objlist [<!ENTITY a "aaaa">]>\n<objlist><object x="&a;"/></objlist>'
    with pytest.raises(InputError, match="entities"):
        read_particles(write(tmp_path / "a.xml", bomb))


# --- damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_list_is_read_whole_or_refused_in_one_line(tmp_path, name):
    rng = random.Random(name)
    path = SAMPLES[name](tmp_path)
    whole, tomogram = path.read_bytes(), None if name == "csv" else opened()
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(whole, rng) or b" ")
        try:
            read = read_particles(path, tomogram=tomogram)
        except InputError as error:
            assert "\n" not in str(error).replace(str(path), "")
            continue
        check_whole(read, path, name)


MUTATIONS = 500
"""Of each list; benchmarks/fuzz_lists.py makes 20,000 of each."""


def check_whole(read: Particles, path, name: str) -> None:
    assert np.isfinite(read.positions).all()
    if read.rotations is not None:
        assert not np.allclose(read.rotations, np.eye(3))
    text = path.read_bytes()
    if name in ("csv", "pytme", "napari", "coords", "dynamo"):
        rows = len(
            [line for line in re.split(rb"\r\n|\r|\n", text) if line.strip() and not line.lstrip().startswith(b"#")]
        )
        assert len(read) in (rows, rows - 1)


def test_the_numbers_of_a_motive_list_are_where_struct_finds_them(tmp_path):
    particles = Particles(positions=POSITIONS, rotations=ROTATIONS, tomogram=TOMOGRAM, extents={TOMOGRAM: EXTENT})
    write_particles(tmp_path / "a.em", particles)
    data = (tmp_path / "a.em").read_bytes()
    assert data[:4] == bytes([6, 0, 0, 5])
    assert struct.unpack("<3i", data[4:16]) == (20, 2, 1)
    row = struct.unpack("<20f", data[512 : 512 + 80])
    np.testing.assert_allclose(np.array(row[7:10]) + row[10:13], VOXELS[0] + 1, atol=1e-5)
    np.testing.assert_allclose([row[16], row[18], row[17]], MOTIVE[0], atol=1e-4)
