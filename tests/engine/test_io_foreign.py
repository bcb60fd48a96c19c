"""What other programs put into lists comes back as it was: values, names of columns, tables of one name."""

from __future__ import annotations

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from io_fixtures import coordinates, golden_particles, star_loop, write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.star import read_star, write_star
from napari_orient.engine.particles import Extent

EXTENTS = {"TS_01": Extent((400, 300, 200), 1.5)}

ODD = [
    "grid#1",
    "#2",
    "5 nm",
    "it's",
    'say "no"',
    "'open",
    '"open',
    "data_01",
    "loop_",
    "_x",
    ";x",
    "<NA>",
    "NaN",
    "",
    "  a",
]


def test_values_with_hashes_quotes_and_blanks_come_back_as_they_were(tmp_path):
    table = {"rlnA": tuple(ODD), "rlnB": tuple(reversed(ODD))}
    write_star(tmp_path / "a.star", {"particles": table, "other": {"x": ("1",)}})
    assert read_star(tmp_path / "a.star") == {"particles": table, "other": {"x": ("1",)}}


printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=8)


@given(rows=st.lists(st.tuples(printable, printable), min_size=1, max_size=6), names=st.tuples(printable, printable))
@settings(max_examples=200, deadline=None)
def test_any_text_and_any_name_of_a_column_comes_back(tmp_path_factory, rows, names):
    if any(f"{mark} " in text for row in rows for text in row for mark in "\"'") or names[0] == names[1]:
        return
    table = dict(zip(names, zip(*rows, strict=True), strict=True))
    path = tmp_path_factory.mktemp("any") / "a.star"
    write_star(path, {"particles": table})
    assert list(read_star(path)["particles"].values()) == list(table.values())
    if all(name.isascii() for name in names):
        assert list(read_star(path)["particles"]) == list(table)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_rows_are_neither_lost_nor_shifted(tmp_path, end):
    text = star_loop("particles", {**coordinates((1, 2, 3), (4, 5, 6)), "rlnTomoName": ["data_01", "grid#2"]})
    text = text.replace("loop_ ", "LOOP_").replace("data_particles", "DATA_particles") + "# 'a comment \"\n"
    path = tmp_path / "a.star"
    path.write_bytes(text.replace("\n", end).encode())
    read = read_particles(path, pixel_size=1.0)
    assert read.tomogram.tolist() == ["data_01", "grid#2"]
    np.testing.assert_allclose(read.positions, [[1, 2, 3], [4, 5, 6]])


def test_a_comment_behind_a_row_and_text_of_other_encodings_are_read(tmp_path):
    text = (
        "# Zürich\ndata_particles\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\n"
    )
    (tmp_path / "a.star").write_bytes((text + "Zürich#1 1 2 3 # best\n").encode("latin-1"))
    read = read_particles(tmp_path / "a.star", pixel_size=1.0)
    assert read.tomogram.tolist() == ["Zürich#1"]


def test_tables_of_one_name_are_joined_where_their_columns_are_the_same(tmp_path):
    first = star_loop("particles", {"rlnTomoName": ["a", "a"], **coordinates((1, 2, 3), (4, 5, 6))})
    second = star_loop("particles", {"rlnTomoName": ["b"], **coordinates((7, 8, 9))})
    optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.0]})
    other = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [3.0]})
    read = read_particles(write(tmp_path / "a.star", optics + first + optics + second))
    np.testing.assert_allclose(read.positions, [[2, 4, 6], [8, 10, 12], [14, 16, 18]])
    with pytest.raises(InputError, match="data_optics is there twice, with different rows of group 1"):
        read_particles(write(tmp_path / "b.star", optics + first + other + second))
    turned = star_loop("particles", coordinates((7, 8, 9)))
    with pytest.raises(InputError, match="data_particles is there twice, with different columns"):
        read_particles(write(tmp_path / "c.star", first + turned), pixel_size=1.0)


def test_names_of_columns_with_blanks_become_legal_tags_and_come_back(tmp_path):
    text = "x,y,z,peak height,peak width,\n100,200,300,0.5,7,left\n"
    picks = read_particles(write(tmp_path / "a.csv", text), tomogram="TS_01", extents=EXTENTS)
    write_particles(tmp_path / "a.star", picks)
    columns = starfile.read(tmp_path / "a.star", always_dict=True)["particles"].columns
    assert not [name for name in columns if " " in name]
    again = read_particles(tmp_path / "a.star")
    assert {name: again.extra[name].tolist() for name in again.extra} == {
        "peak height": ["0.5"],
        "peak width": ["7"],
        "column6": ["left"],
    }
    write_particles(tmp_path / "b.star", again)
    assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()


def test_columns_called_as_those_with_a_meaning_here_survive_in_every_format(tmp_path):
    called = {"x": "7", "tomogram": "q", "confidence": "high", "class": "3", "rlnAngleRot": "11", "rlnCoordinateX": "5"}
    particles = golden_particles(extra={name: np.array([text]) for name, text in called.items()})
    for first, second in (("a.star", "b.csv"), ("a.csv", "b.star")):
        write_particles(tmp_path / first, particles, extents=EXTENTS)
        read = read_particles(tmp_path / first, extents=EXTENTS)
        write_particles(tmp_path / second, read, extents=EXTENTS)
        for again in (read, read_particles(tmp_path / second, extents=EXTENTS)):
            assert {name: again.extra[name].tolist()[0] for name in called} == called
            np.testing.assert_allclose(again.positions, particles.positions, atol=1e-5)
            assert again.confidence is None


def test_the_confidence_of_a_picker_is_its_score_and_ours_is_ours(tmp_path):
    picked = read_particles(write(tmp_path / "a.csv", "x,y,z,confidence\n1,2,3,0.93\n"))
    assert picked.confidence is None
    assert picked.extra["rlnAutopickFigureOfMerit"].tolist() == ["0.93"]
    write_particles(tmp_path / "b.csv", golden_particles(confidence=[0.93], expected_error_deg=[5.0]))
    np.testing.assert_allclose(read_particles(tmp_path / "b.csv").confidence, [0.93])
    scored = read_particles(write(tmp_path / "c.csv", "x,y,z,rot,tilt,psi,confidence\n1,2,3,4,5,6,17.5\n"))
    assert scored.extra["rlnAutopickFigureOfMerit"].tolist() == ["17.5"]


def test_rows_of_a_table_are_neither_swallowed_by_a_quote_nor_taken_for_comments(tmp_path):
    text = '# made by hand\ntomogram,x,y,z,note\nTS_01,1,2,3,a\n#2,4,5,6,"5 nm\n#2,7,8,9,c\n'
    text += 'TS_01,10,11,12,"a ""b"" c, d"\n# end\n'
    read = read_particles(write(tmp_path / "a.csv", text))
    assert read.tomogram.tolist() == ["TS_01", "#2", "#2", "TS_01"]
    assert read.extra["note"].tolist() == ["a", '"5 nm', "c", 'a "b" c, d']
    long = "x,y,z,note\n1,2,3," + "a" * 200_000 + "\n"
    with pytest.raises(InputError, match="no table that can be read"):
        read_particles(write(tmp_path / "b.csv", long))


NAMES = ["tomogram", "rlnTomoName", "experiment", "run_name", "tomo_name", "tomo_id", "micrograph", "Tomo_ID"]
NAMES += ["Tomogram Name", "TomoName", "tilt-series", "run_id", "wrpSourceName"]


@pytest.mark.parametrize("column", NAMES)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".star"])
def test_particles_of_other_tomograms_are_left_out_whatever_their_column_is_called(tmp_path, column, suffix):
    if suffix == ".star":
        table = {column: ["s01", "rec_s02_10.00Apx.mrc"], **coordinates((10, 20, 30), (40, 50, 60))}
        path = write(tmp_path / "a.star", star_loop("particles", table))
    else:
        mark = "," if suffix == ".csv" else "\t"
        text = f"id,{column},x,y,z\n0,s01,10,20,30\n1,rec_s02_10.00Apx.mrc,40,50,60\n"
        path = write(tmp_path / f"a{suffix}", text.replace(",", mark))
    read = read_particles(path, tomogram="s02", pixel_size=1.0)
    np.testing.assert_allclose(read.positions, [[40, 50, 60]])
    with pytest.raises(InputError, match="no particle of s03"):
        read_particles(path, tomogram="s03", pixel_size=1.0)
    assert len(read_particles(path, pixel_size=1.0).tomogram_names) == 2


def test_helical_columns_and_half_sets_are_carried_byte_for_byte(tmp_path):
    table = {
        "rlnTomoName": ["TS_01", "TS_01"],
        **coordinates((1, 2, 3), (4, 5, 6), prefix="rlnCenteredCoordinate", suffix="Angst"),
        "rlnHelicalTubeID": [1, 2],
        "rlnHelicalTrackLengthAngst": ["0.000000", "81.25"],
        "rlnRandomSubset": ["1", "2"],
        "rlnNotesOfMine": ["'a b'", "plain"],
    }
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), extents=EXTENTS)
    write_particles(tmp_path / "b.star", read)
    write_particles(tmp_path / "c.star", read_particles(tmp_path / "b.star"))
    assert (tmp_path / "b.star").read_bytes() == (tmp_path / "c.star").read_bytes()
    again = read_particles(tmp_path / "c.star")
    for name in ("rlnHelicalTubeID", "rlnHelicalTrackLengthAngst", "rlnRandomSubset"):
        assert again.extra[name].tolist() == [str(value) for value in table[name]]
