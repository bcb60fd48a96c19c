"""Sizes and units of lists are said, never guessed in silence; names of tomograms are matched by rule."""

from __future__ import annotations

import numpy as np
import pytest
import starfile
from io_fixtures import coordinates, golden_particles, star_loop, write

from napari_orient.cli import main
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, read_particles, write_particles, write_tomogram
from napari_orient.engine.particles import Extent

BINNED = {"s01": Extent((400, 300, 100), 10.0)}


def table_of(*names: str, size: int = 4000, pixel: float = 2.5) -> str:
    count = len(names)
    columns = {"rlnTomoName": list(names), "rlnTomoTiltSeriesPixelSize": [pixel] * count}
    sides = {f"rlnTomoSize{axis}": [side] * count for axis, side in zip("XYZ", (size, 3000, 1000), strict=True)}
    return star_loop("global", {**columns, **sides})


def centred(*names: str) -> str:
    rows = coordinates(*[(0, 0, 0)] * len(names), prefix="rlnCenteredCoordinate", suffix="Angst")
    return star_loop("particles", {"rlnTomoName": list(names), **rows})


# --- tables of tomograms --------------------------------------------------------------------------------------------


def test_two_tables_beside_a_list_that_disagree_are_refused_and_both_named(tmp_path):
    path = write(tmp_path / "particles.star", centred("s01"))
    write(tmp_path / "a_tomograms.star", table_of("s01", size=4000))
    write(tmp_path / "b_tomograms.star", table_of("s01", "s02", size=3000))
    with pytest.raises(InputError, match=r"a_tomograms\.star and b_tomograms\.star beside it disagree on tomogram s01"):
        read_particles(path)
    given = read_particles(path, tomograms=tmp_path / "b_tomograms.star")
    np.testing.assert_allclose(given.positions, [[3750, 3750, 1250]])
    other = write(tmp_path / "other.star", centred("s02"))
    np.testing.assert_allclose(read_particles(other).positions, [[3750, 3750, 1250]])
    write(tmp_path / "b_tomograms.star", table_of("s01", "s02", size=4000))
    np.testing.assert_allclose(read_particles(path).positions, [[5000, 3750, 1250]])


def test_files_that_are_no_tables_of_tomograms_spoil_nothing(tmp_path):
    path = write(tmp_path / "particles.star", centred("s01"))
    write(tmp_path / "tomograms.star", table_of("s01"))
    write(tmp_path / "old_tomograms.star", "")
    write(tmp_path / "foreign_tomograms.star", star_loop("", {"rlnFoo": [1]}))
    write(tmp_path / "zero_tomograms.star", table_of("s01", size=0))
    (tmp_path / "._tomograms.star").write_bytes(b"\0\5\26\7")
    (tmp_path / "loop_tomograms.star").symlink_to("loop_tomograms.star")
    np.testing.assert_allclose(read_particles(path).positions, [[5000, 3750, 1250]])


def test_a_tomogram_of_two_sizes_is_said(tmp_path):
    path = write(tmp_path / "particles.star", centred("s01"))
    write(tmp_path / "tomograms.star", table_of("s01"))
    whole = read_particles(path, extents={"s01": Extent((1000, 750, 250), 10.0)})
    assert whole.notes == ()
    cropped = read_particles(path, extents={"s01": Extent((1000, 750, 200), 10.0)})
    assert "10000 × 7500 × 2000 and 10000 × 7500 × 2500 Å" in cropped.notes[0]
    assert "centre of the opened tomogram" in cropped.notes[0]
    np.testing.assert_allclose(cropped.positions, [[5000, 3750, 1000]])


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.0, -5.0, float("nan"), float("inf")])
def test_a_pixel_size_that_is_none_is_refused_wherever_it_comes_from(tmp_path, size):
    table = {"rlnTomoName": ["s01"], **coordinates((1, 2, 3))}
    path = write(tmp_path / "a.star", star_loop("particles", table))
    with pytest.raises(InputError, match="pixel size"):
        read_particles(path, pixel_size=size)
    with pytest.raises(InputError, match="pixel size"):
        write_particles(tmp_path / "b.star", golden_particles(), dialect="relion4", pixel_size=size)
    for column in ("rlnTomoTiltSeriesPixelSize", "rlnPixelSize", "rlnDetectorPixelSize"):
        with pytest.raises(InputError, match=r"expected a (positive )?number"):
            read_particles(write(tmp_path / "c.star", star_loop("particles", {**table, column: [size]})))
    optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [size]})
    with pytest.raises(InputError, match=r"expected a (positive )?number"):
        read_particles(write(tmp_path / "d.star", optics + star_loop("particles", table)))


def test_sizes_of_tomograms_that_are_none_are_refused(tmp_path):
    for size, pixel in ((0, 2.5), (-402, 2.5), (4000, 0.0), (4000, -1.0), (10**30, 2.5)):
        path = write(tmp_path / "a.star", centred("s01") + table_of("s01", size=size, pixel=pixel))
        with pytest.raises(InputError, match="expected positive numbers of voxels"):
            read_particles(path)


def test_the_pixel_size_in_force_and_its_source_are_said(tmp_path):
    table = {"rlnTomoName": ["s01"], **coordinates((100, 200, 30))}
    path = write(tmp_path / "a.star", star_loop("particles", {**table, "rlnDetectorPixelSize": [10.0]}))
    assert read_particles(path).notes == ("Coordinates count in pixels of 10 Å (the list's own).",)
    assert "5 Å (as given; the list says 10)" in read_particles(path, pixel_size=5.0).notes[0]


# --- units ----------------------------------------------------------------------------------------------------------


def test_positions_that_would_be_voxels_are_questioned_where_the_tomogram_is_open(tmp_path):
    random = np.random.default_rng(0)
    voxels = random.uniform((20, 20, 10), (380, 280, 90), size=(40, 3))
    for scale, asked in ((1.0, True), (10.0, False)):
        rows = "\n".join(",".join(f"{value:.2f}" for value in row) for row in voxels * scale)
        path = write(tmp_path / "a.csv", f"x,y,z\n{rows}\n")
        notes = read_particles(path, tomogram="s01", extents=BINNED).notes
        assert any("x_voxel" in note and "voxels of 10 Å" in note for note in notes) == asked
        assert read_particles(path).notes == ()


def test_positions_all_in_the_first_voxel_are_asked_for_their_unit(tmp_path):
    path = write(tmp_path / "a.csv", "Position X,Position Y,Position Z\n0.3,0.1,0.1\n0.2,0.2,0.1\n0.1,0.3,0.1\n")
    read = read_particles(path, extents=BINNED, tomogram="s01")
    assert any("another unit, such as µm" in note for note in read.notes)


def test_positions_all_in_one_corner_are_questioned_and_others_not(tmp_path):
    random = np.random.default_rng(1)
    whole = random.uniform((50, 50, 50), (3950, 2950, 950), size=(30, 3))
    for scale, asked in ((0.25, True), (0.45, True), (1.0, False)):
        rows = "\n".join(",".join(f"{value:.2f}" for value in row) for row in whole * scale)
        path = write(tmp_path / "a.csv", f"x,y,z\n{rows}\n")
        notes = read_particles(path, tomogram="s01", extents=BINNED).notes
        assert any("is the pixel size right?" in note for note in notes) == asked
    few = write(tmp_path / "few.csv", "x,y,z\n1500,1100,400\n700,800,900\n")
    assert read_particles(few, tomogram="s01", extents=BINNED).notes == ()


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_that_fits_none_is_answered_with_the_nearest(tmp_path):
    path = write(tmp_path / "a.csv", "tomogram,x,y,z\nlam8_ts_005,1,2,3\nother,4,5,6\n")
    with pytest.raises(InputError, match=r"\(--tomogram-name\); the nearest is lam8_ts_005\."):
        read_particles(path, tomogram="lam8_ts_05a")
    write_tomogram(tmp_path / "lam8_ts_05a.mrc", np.zeros((8, 8, 8)), voxel_size=10)
    with pytest.raises(
        InputError, match=r"no file is found for tomogram lam8_ts_005, other\. .*nearest is lam8_ts_05a"
    ):
        read_labelled(path)


def motif_list(path, *names: str):
    head = "Density\tTomo3D\t" if names else ""
    rows = [f"{f'd{number}.mrc	{name}.mrc	' if names else ''}" for number, name in enumerate(names or ("",))]
    columns = "type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n"
    text = head + columns + "".join(f"{row}cprotein\t1\tpdb_4v4r\t0\t100\t200\t300\t1\t0\t0\t0\n" for row in rows)
    return write(path, text)


def test_a_list_of_one_nameless_tomogram_belongs_to_the_one_given(tmp_path):
    for name in ("picks.csv", "motif_list.csv", "mine_motif_list.csv"):
        read = read_particles(
            motif_list(tmp_path / name), tomogram="mytomo", extents={"mytomo": Extent((50, 50, 50), 10)}
        )
        assert read.tomogram_names == ["mytomo"]
        write_particles(tmp_path / "out.star", read)
    own = read_particles(motif_list(tmp_path / "tomo_001_motif_list.csv"), tomogram="tomo_001_rec_snr1.94")
    assert own.tomogram_names == ["tomo_001"]
    with pytest.raises(InputError, match="no particle of tomo_002_rec"):
        read_particles(tmp_path / "tomo_001_motif_list.csv", tomogram="tomo_002_rec")
    with pytest.raises(InputError, match="no particle of mytomo; it has tomo_007"):
        read_particles(motif_list(tmp_path / "run.csv", "tomo_007"), tomogram="mytomo")


def test_centred_coordinates_become_centred_coordinates_without_the_size_of_the_tomogram(tmp_path, capsys):
    """It cancels; what needs it is refused as before."""
    source, target = tmp_path / "picks.star", tmp_path / "out.star"
    columns = [f"_rlnCenteredCoordinate{axis}Angst #{number}" for number, axis in enumerate("XYZ", 2)]
    rows = ["s01 10 20.5 -30 1", "s02 40 50 60.125 2"]
    lines = ["data_particles", "", "loop_", "_rlnTomoName #1", *columns, "_rlnClassNumber #5", *rows, ""]
    source.write_text("\n".join(lines))
    assert main(["convert", str(source), str(target), "--class", "2"]) == 0
    assert "sizes are unknown" in capsys.readouterr().err
    blocks = starfile.read(target, always_dict=True)
    written = blocks["particles"]
    assert "rlnTomoSizeX" not in str({name: list(block) for name, block in blocks.items()}), "no size is made up"
    assert len(written) == 1
    values = [float(written[f"rlnCenteredCoordinate{axis}Angst"].iloc[0]) for axis in "XYZ"]
    assert values == pytest.approx([40, 50, 60.125], abs=1e-6)
    for other, flags in (("out.csv", []), ("set.star", ["--optimisation-set"]), ("flipped.star", ["--mirror", "z"])):
        assert main(["convert", str(source), str(tmp_path / other), *flags]) == 2
        assert "size of tomogram s01" in capsys.readouterr().err
        assert not (tmp_path / other).exists()
