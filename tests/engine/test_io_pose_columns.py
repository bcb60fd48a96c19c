"""Columns that belong to one pose: images of a box, priors, statistics; and the pixel size that RELION wants."""

from __future__ import annotations

import numpy as np
import pytest
import starfile
from io_fixtures import angles, coordinates, star_loop, write

from napari_orient.engine.errors import InputError
from napari_orient.engine.frames import mirrored
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.columns import BOX, BOX_ANGLES, renewed_pose_columns, without_images, without_results
from napari_orient.engine.io.dialects.relion_project import write_optimisation_set
from napari_orient.engine.particles import Extent
from napari_orient.engine.rotations import angle_deg, zyz_to_matrix

EXTENTS = {"TS_01": Extent((400, 300, 200), 2.0)}
ORIGINS = {"rlnOriginXAngst": [3.0, 0.0], "rlnOriginYAngst": [-2.0, 0.0], "rlnOriginZAngst": [1.0, 0.0]}
REFINED = {
    "rlnTomoName": ["TS_01", "TS_01"],
    **coordinates((100, 200, 50), (10, 20, 30), prefix="rlnCenteredCoordinate", suffix="Angst"),
    **angles((10, 20, 30), (40, 50, 60)),
    "rlnImageName": ["1@a.mrcs", "2@a.mrcs"],
}


def refined(tmp_path, **columns: list[object]):
    return read_particles(write(tmp_path / "a.star", star_loop("particles", {**REFINED, **columns})), extents=EXTENTS)


def rows(path):
    return starfile.read(path, always_dict=True)["particles"]


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_images_stay_with_their_boxes_and_the_origin_leads_to_the_particle(tmp_path, dialect):
    read = refined(tmp_path, **ORIGINS)
    np.testing.assert_allclose(read.positions, [[497, 502, 249], [410, 320, 230]])
    shifted = read.replace(positions=read.positions + np.array([[5, 0, 0]]))
    for name, particles in (("b.star", read), ("c.star", shifted)):
        write_particles(tmp_path / name, particles, dialect=dialect, pixel_size=2.0)
        table = rows(tmp_path / name)
        column, size, centre = (
            ("rlnCoordinateX", 2, 0) if dialect == "relion4" else ("rlnCenteredCoordinateXAngst", 1, 400)
        )
        np.testing.assert_allclose(table[column] * size + centre, [500, 410])
        moved = particles.positions - read.positions
        np.testing.assert_allclose(table.rlnOriginXAngst, ORIGINS["rlnOriginXAngst"] - moved[:, 0])
        assert table.rlnImageName.tolist() == REFINED["rlnImageName"]
        assert not [column for column in table if column.startswith("orientBox")]
        again = read_particles(tmp_path / name, extents=EXTENTS)
        np.testing.assert_allclose(again.positions, particles.positions, atol=1e-6)
        write_particles(tmp_path / "d.star", again, dialect=dialect, pixel_size=2.0)
        assert (tmp_path / "d.star").read_bytes() == (tmp_path / name).read_bytes()


def test_boxes_survive_a_table_and_lists_without_images_have_no_origins(tmp_path):
    write_particles(tmp_path / "b.csv", refined(tmp_path, **ORIGINS))
    write_particles(tmp_path / "c.star", read_particles(tmp_path / "b.csv", extents=EXTENTS))
    np.testing.assert_allclose(rows(tmp_path / "c.star").rlnOriginYAngst, ORIGINS["rlnOriginYAngst"])
    plain = {name: values for name, values in REFINED.items() if name != "rlnImageName"}
    read = read_particles(write(tmp_path / "d.star", star_loop("particles", {**plain, **ORIGINS})), extents=EXTENTS)
    assert not set(BOX) & set(read.extra)
    write_particles(tmp_path / "e.star", read)
    assert not [column for column in rows(tmp_path / "e.star") if "Origin" in column]


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_images_of_turned_boxes_stay_in_the_frame_that_they_were_cut_in(tmp_path, dialect):
    frames = angles((30, 90, -40), (0, 0, 0), prefix="rlnTomoSubtomogram")
    read = refined(tmp_path, **frames, **ORIGINS, rlnAngleTiltPrior=[90, 90])
    assert any("rlnAngleTiltPrior" in note for note in read.notes)
    frame = zyz_to_matrix(np.array([[30.0, 90, -40]]))[0]
    np.testing.assert_allclose(read.positions[0], np.array([500, 500, 250]) - frame @ [3, -2, 1], atol=1e-9)
    write_particles(tmp_path / "b.star", read, dialect=dialect, pixel_size=2.0)
    table = rows(tmp_path / "b.star")
    for name in (*frames, *ORIGINS, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        np.testing.assert_allclose(table[name], {**REFINED, **frames, **ORIGINS}[name], atol=1e-5)
    assert table.rlnImageName.tolist() == REFINED["rlnImageName"]
    # A pose that changes is written in the same box; a table holds the box too.
    moved = read.replace(positions=read.positions + 4.0, rotations=read.rotations[::-1])
    write_particles(tmp_path / "c.csv", moved)
    write_particles(tmp_path / "d.star", read_particles(tmp_path / "c.csv", extents=EXTENTS), dialect=dialect)
    again = read_particles(tmp_path / "d.star", extents=EXTENTS)
    assert angle_deg(again.rotations, moved.rotations).max() < 1e-4
    np.testing.assert_allclose(again.positions, moved.positions, atol=1e-5)
    assert rows(tmp_path / "d.star").rlnTomoSubtomogramTilt[0] == 90
    write_particles(tmp_path / "e.star", again, dialect=dialect)
    assert (tmp_path / "e.star").read_bytes() == (tmp_path / "d.star").read_bytes()
    notes = write_particles(tmp_path / "f.star", read.replace(rotations=None), dialect=dialect, pixel_size=2.0)
    assert any("rlnImageName" in note and "Extract them again" in note for note in notes)
    assert read_particles(tmp_path / "f.star", extents=EXTENTS).rotations is None


def test_images_go_with_their_boxes_and_boxes_that_are_not_turned_have_no_angles(tmp_path):
    straight = refined(tmp_path, **angles((0, 0, 0), (0, 0, 0), prefix="rlnTomoSubtomogram"))
    assert "rlnImageName" in straight.extra
    assert not set(BOX_ANGLES) & set(straight.extra)
    turned = refined(tmp_path, **angles((0, 90, 0), (0, 0, 0), prefix="rlnTomoSubtomogram"))
    left = without_images(turned, "the tomogram was mirrored")
    assert not {"rlnImageName", *BOX, *BOX_ANGLES} & set(left.extra)


def test_priors_and_statistics_of_an_earlier_pose_go_with_it_and_are_named(tmp_path):
    old = {
        "rlnAngleTiltPrior": [90, 90],
        "rlnAnglePsiPrior": [20, 20],
        "rlnMaxValueProbDistribution": [0.9, 0.8],
        "rlnLogLikeliContribution": [1, 2],
        "rlnNrOfSignificantSamples": [3, 4],
        "rlnRandomSubset": [1, 2],
        "rlnHelicalTubeID": [1, 1],
    }
    read = refined(tmp_path, **old)
    assert set(old) <= set(read.extra)
    renewed = without_results(read)
    assert {"rlnRandomSubset", "rlnHelicalTubeID", "rlnImageName"} <= set(renewed.extra)
    assert not [name for name in renewed.extra if "Prior" in name or "Prob" in name or "Likeli" in name]
    assert "rlnAngleTiltPrior, rlnAnglePsiPrior, rlnMaxValueProbDistribution" in renewed.notes[-1]
    assert without_results(renewed).notes == renewed.notes


def test_priors_of_a_pose_that_changed_are_its_new_angles_and_its_statistics_are_none(tmp_path):
    read = refined(
        tmp_path, rlnAngleTiltPrior=[90, 90], rlnAnglePsiFlipRatio=[0.5, 0.5], rlnMaxValueProbDistribution=[1, 1]
    )
    renewed = renewed_pose_columns(set(read.extra), read.rotations)
    assert {name: column.tolist() for name, column in renewed.items()} == {
        "rlnAngleTiltPrior": ["20.000000", "50.000000"],
        "rlnMaxValueProbDistribution": ["0.000000", "0.000000"],
    }
    unknown = renewed_pose_columns({"rlnAngleRotPrior"}, np.full((1, 3, 3), np.nan))
    assert unknown["rlnAngleRotPrior"].tolist() == ["0.000000"]


# --- pixel sizes in written lists -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_optics_get_the_pixel_size_that_relion_5_wants(tmp_path, dialect):
    optics = {"rlnOpticsGroup": [1, 2], "rlnImagePixelSize": [4.0, 6.0], "rlnImageDimensionality": [3, 3]}
    table = {
        "rlnTomoName": ["TS_01", "TS_01"],
        **coordinates((30, 24, 30), (20, 16, 20)),
        "rlnPixelSize": [4.0, 6.0],
        "rlnOpticsGroup": [1, 2],
    }
    path = write(tmp_path / "a.star", star_loop("optics", optics) + star_loop("particles", table))
    read = read_particles(path, extents=EXTENTS)
    write_particles(tmp_path / "b.star", read, dialect=dialect)
    written = starfile.read(tmp_path / "b.star", always_dict=True)["optics"]
    assert written.columns.tolist() == [*optics, "rlnTomoTiltSeriesPixelSize"]
    assert written.rlnTomoTiltSeriesPixelSize.tolist() == [4.0, 6.0]
    np.testing.assert_allclose(read_particles(tmp_path / "b.star").positions, [[120, 96, 120], [120, 96, 120]])


def test_a_pixel_size_that_is_given_counts_when_writing_whatever_else_is_there(tmp_path):
    path = write(tmp_path / "a.csv", "tomogram,x,y,z\nTS_01,135,270,40.5\n")
    read = read_particles(path, extents=EXTENTS)
    notes = write_particles(tmp_path / "b.star", read, dialect="relion4")
    assert "the tomogram's voxels, 2 Å" in notes[0]
    assert write_particles(tmp_path / "c.star", read, dialect="relion4", pixel_size=1.35) == ()
    np.testing.assert_allclose(rows(tmp_path / "c.star")[["rlnCoordinateX", "rlnCoordinateY"]], [[100, 200]])
    np.testing.assert_allclose(read_particles(tmp_path / "c.star").positions, read.positions, atol=1e-5)
    optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [9.0]})
    table = {"rlnTomoName": ["TS_01"], **coordinates((100, 50, 60))}
    wrong = read_particles(write(tmp_path / "d.star", optics + star_loop("particles", table)), pixel_size=1.5)
    write_particles(tmp_path / "e.star", wrong, dialect="relion4", pixel_size=1.5)
    written = starfile.read(tmp_path / "e.star", always_dict=True)
    assert written["optics"].rlnTomoTiltSeriesPixelSize.tolist() == [1.5]
    assert written["particles"].rlnCoordinateX.tolist() == [100]


@pytest.mark.parametrize("carried", [False, True])
def test_sizes_in_a_relion_4_list_count_the_pixels_in_which_its_coordinates_are_written(tmp_path, carried):
    table = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesPixelSize": [10.0]}
    table |= {"rlnTomoSizeX": [400], "rlnTomoSizeY": [300], "rlnTomoSizeZ": [60]}
    centred = star_loop(
        "particles", {"rlnTomoName": ["TS_01"], **{f"rlnCenteredCoordinate{k}Angst": [50] for k in "XYZ"}}
    )
    path = write(tmp_path / "a.star", centred + (star_loop("global", table) if carried else ""))
    read = read_particles(path, extents={"TS_01": Extent((400, 300, 60), 10.0)})
    extents = {} if carried else {"TS_01": Extent((400, 300, 60), 10.0)}
    write_particles(tmp_path / "b.star", read, extents=extents, dialect="relion4", pixel_size=1.25)
    sizes = starfile.read(tmp_path / "b.star", always_dict=True)["global"]
    assert sizes.iloc[0].tolist() == ["TS_01", 1.25, 3200, 2400, 480]
    again = read_particles(tmp_path / "b.star")
    np.testing.assert_allclose(again.positions, [[2050, 1550, 350]])
    write_particles(tmp_path / "c.star", again)
    np.testing.assert_allclose(rows(tmp_path / "c.star").filter(like="Centered").to_numpy(float), [[50, 50, 50]])


OPENED = Extent((400, 300, 60), 10.0)
FINE = {
    "rlnTomoName": ["TS_01", "TS_01"],
    "rlnCoordinateX": [1000, 37.5],
    "rlnCoordinateY": [800, 1],
    "rlnCoordinateZ": [200, 9],
}


@pytest.mark.parametrize("stated", [1.35, 1.25, None])
@pytest.mark.parametrize("given", [2.7, None])
def test_tables_beside_a_relion_5_list_state_the_pixels_of_its_optics(tmp_path, stated, given):
    optics = {"rlnOpticsGroup": [1]} | ({} if stated is None else {"rlnTomoTiltSeriesPixelSize": [stated]})
    source = write(tmp_path / "a.star", star_loop("optics", optics) + star_loop("particles", FINE))
    read = read_particles(source, extents={"TS_01": OPENED})
    path = tmp_path / "b.star"
    write_particles(path, read, pixel_size=given)
    notes = write_optimisation_set(path, read, pixel_size=given)
    pixel = given or stated or OPENED.voxel_size
    expected = ["TS_01", pixel, *(round(side * 10 / pixel) for side in OPENED.size)]
    written = starfile.read(path, always_dict=True)
    assert written["global"].iloc[0].tolist() == expected
    assert starfile.read(tmp_path / "b_tomograms.star").iloc[0].tolist() == expected
    assert written["optics"].rlnTomoTiltSeriesPixelSize.tolist() == [pixel]
    assert any("--out-pixel-size" in note for note in notes) == (pixel == OPENED.voxel_size)
    for alone in (path, tmp_path / "b_optimisation_set.star"):
        again = read_particles(alone)
        np.testing.assert_allclose(again.positions, read.positions, atol=1e-5)
    # RELION itself adds half the size in its own table of tomograms.
    centre = np.array(expected[2:]) / 2 * pixel
    centred = written["particles"].filter(like="Centered").to_numpy(float)
    np.testing.assert_allclose(centred + centre, read.positions, atol=1e-5)
    write_particles(tmp_path / "c.star", again)
    assert starfile.read(tmp_path / "c.star", always_dict=True)["particles"].equals(written["particles"])


def test_centred_coordinates_stay_those_that_were_read_whatever_pixels_optics_state(tmp_path):
    centred = {"rlnTomoName": ["TS_01"], **{f"rlnCenteredCoordinate{k}Angst": [50.125] for k in "XYZ"}}
    optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [1.35]})
    source = write(tmp_path / "a.star", optics + star_loop("particles", centred))
    read = read_particles(source, extents={"TS_01": OPENED})
    np.testing.assert_allclose(read.positions, [[2050.125, 1550.125, 350.125]], atol=1e-9)
    write_particles(tmp_path / "b.star", read)
    assert (rows(tmp_path / "b.star").filter(like="Centered").to_numpy(float) == 50.125).all()
    write_optimisation_set(tmp_path / "b.star", read)
    assert starfile.read(tmp_path / "b_tomograms.star").iloc[0].tolist() == ["TS_01", 1.35, 2963, 2222, 444]


def test_a_table_of_tomograms_of_recalibrated_pixels_keeps_its_counts(tmp_path):
    table = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesPixelSize": [1.35], "rlnTomoSizeX": [4000]}
    table |= {"rlnTomoSizeY": [4000], "rlnTomoSizeZ": [2000]}
    optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [1.3505]})
    source = write(tmp_path / "a.star", optics + star_loop("particles", FINE) + star_loop("global", table))
    read = read_particles(source)
    for dialect in ("relion5", "relion4"):
        write_particles(tmp_path / "b.star", read, dialect=dialect)
        sizes = starfile.read(tmp_path / "b.star", always_dict=True)["global"]
        assert sizes.iloc[0].tolist() == ["TS_01", 1.35, 4000, 4000, 2000]


@pytest.mark.parametrize("fine", ["star", "csv"])
def test_sizes_in_relions_own_table_come_before_those_of_a_binned_tomogram_that_is_open(tmp_path, fine):
    """Coordinates count from the centre of 2960 pixels of 1.35 Å, not of 400 voxels of 10 Å, which are 2963."""
    table = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesPixelSize": [1.35], "rlnTomoSizeX": [2960]}
    table |= {"rlnTomoSizeY": [2220], "rlnTomoSizeZ": [444]}
    own = write(tmp_path / "own" / "tomograms.star", star_loop("global", table))
    text = "tomogram,x,y,z\nTS_01,1350,1080,270\n"
    if fine == "star":
        optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [1.35]})
        text = optics + star_loop("particles", {name: column[:1] for name, column in FINE.items()})
    read = read_particles(write(tmp_path / f"a.{fine}", text), extents={"TS_01": OPENED}, tomograms=own)
    write_particles(tmp_path / "b.star", read)
    centre = np.array([2960, 2220, 444]) / 2 * 1.35
    written = starfile.read(tmp_path / "b.star", always_dict=True)
    np.testing.assert_allclose(
        written["particles"].filter(like="Centered").to_numpy(float), read.positions - centre, atol=1e-5
    )
    assert written["global"].iloc[0].tolist() == ["TS_01", 1.35, 2960, 2220, 444]
    assert any("not used" in note for note in write_particles(tmp_path / "d.star", read, pixel_size=7.3))
    assert starfile.read(tmp_path / "d.star", always_dict=True)["particles"].equals(written["particles"])
    write_particles(tmp_path / "c.star", read, dialect="relion4")
    np.testing.assert_allclose(rows(tmp_path / "c.star").filter(like="Coord").to_numpy(float), read.positions / 1.35)


@pytest.mark.parametrize("how", ["x", "z", "point", "yz"])
def test_a_volume_mirrored_twice_is_itself_where_relions_table_lies_beside(tmp_path, how):
    """The array that is open is reversed; coordinates count from the centre of the table's size, before and after."""
    table = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesPixelSize": [1.35], "rlnTomoSizeX": [2960]}
    own = write(
        tmp_path / "own" / "tomograms.star",
        star_loop("global", {**table, "rlnTomoSizeY": [2220], "rlnTomoSizeZ": [444]}),
    )
    first = write(tmp_path / "a.csv", "tomogram,x,y,z\nTS_01,1999.1,1080,270\n")
    read = read_particles(first, extents={"TS_01": OPENED}, tomograms=own)
    write_particles(tmp_path / "b.star", mirrored(read, how))
    written = starfile.read(tmp_path / "b.star", always_dict=True)["global"].iloc[0].tolist()
    assert written == ["TS_01", 1.35, 2960, *((444, 2220) if how == "yz" else (2220, 444))]
    opened = Extent((400, 60, 300), 10.0) if how == "yz" else OPENED
    again = mirrored(read_particles(tmp_path / "b.star", extents={"TS_01": opened}), how)
    np.testing.assert_allclose(again.positions, read.positions, atol=1e-5)


@pytest.mark.parametrize("pixel", [1e9, 1e-9])
@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_pixels_that_no_tilt_series_has_are_refused_before_anything_is_written(tmp_path, dialect, pixel):
    read = read_particles(write(tmp_path / "a.csv", "tomogram,x,y,z\nTS_01,1999.1,1080,270\n"))
    with pytest.raises(InputError, match="4000 × 3000 × 600 Å; expected those of its tilt series"):
        write_particles(tmp_path / "b.star", read, extents={"TS_01": OPENED}, dialect=dialect, pixel_size=pixel)
    assert not (tmp_path / "b.star").exists()
