"""STAR lists in RELION's columns that other programs write: each is known by what it holds, and in its own unit."""

import numpy as np
import pytest
from io_fixtures import MATRIX, ZYZ, angles, coordinates, golden_particles, star_loop, write

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.dialects import DIALECTS, ListFile, recognise
from napari_orient.engine.particles import Extent

TOMOGRAM = {"s01": Extent((1000, 900, 300), 10.0)}


def optics(**columns: object) -> str:
    return star_loop("optics", {"rlnOpticsGroup": [1], **{name: [value] for name, value in columns.items()}})


def dialect_of(path) -> str:
    found = recognise(ListFile(path))
    return "" if found is None else found.name


def warp_export(tilt_series: float, image: float, **more: object) -> str:
    table = {"rlnTomoName": ["s01.tomostar"], **coordinates((500, 400, 125)), **angles(ZYZ), "rlnOpticsGroup": [1]}
    head = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   1\n"
    sizes = {"rlnTomoTiltSeriesPixelSize": tilt_series, "rlnTomoSubtomogramBinning": image / tilt_series}
    return (
        head
        + optics(**sizes, rlnImagePixelSize=image, rlnImageDimensionality=2)
        + star_loop("particles", {**table, **more})
    )


@pytest.mark.parametrize("tilt_series", [1.5, 6.0])
def test_coordinates_of_a_warptools_export_are_multiples_of_the_images_pixel_size(tmp_path, tilt_series):
    path = write(tmp_path / "export.star", warp_export(tilt_series, 6.0))
    assert dialect_of(path) == "warp"
    read = read_particles(path)
    np.testing.assert_allclose(read.positions, [[3000, 2400, 750]])
    np.testing.assert_allclose(read.rotations[0], MATRIX, atol=2e-6)
    assert any("6 Å" in note for note in read.notes)


def test_a_warptools_export_written_as_relion_4_states_the_pixels_that_it_counts_in(tmp_path):
    read = read_particles(write(tmp_path / "export.star", warp_export(1.5, 6.0)))
    write_particles(tmp_path / "again.star", read, dialect="relion4")
    again = ListFile(tmp_path / "again.star").star
    assert again["optics"]["rlnTomoTiltSeriesPixelSize"] == ("6.0",)
    assert float(again["particles"]["rlnCoordinateX"][0]) == 500
    np.testing.assert_allclose(read_particles(tmp_path / "again.star").positions, read.positions)


def test_an_export_that_relion_has_centred_keeps_its_centred_coordinates(tmp_path):
    centred = coordinates((10, 20, 30), prefix="rlnCenteredCoordinate", suffix="Angst")
    path = write(tmp_path / "export.star", warp_export(1.5, 6.0, **centred))
    extents = {"s01": Extent((4000, 4000, 1000), 1.5)}
    np.testing.assert_allclose(read_particles(path, extents=extents).positions, [[3010, 3020, 780]])


def test_coordinates_of_warptools_matching_are_fractions_of_the_tomogram(tmp_path):
    table = {**coordinates((0.25, 0.5, 0.75)), **angles(ZYZ), "rlnMicrographName": ["s01.tomostar"]}
    path = write(tmp_path / "s01_10.00Apx_ribo.star", star_loop("", {**table, "rlnAutopickFigureOfMerit": [9.1]}))
    assert dialect_of(path) == "warp-matching"
    read = read_particles(path, extents=TOMOGRAM)
    np.testing.assert_allclose(read.positions, [[2500, 4500, 2250]])
    assert read.tomogram.tolist() == ["s01"]
    for more in ({}, {"pixel_size": 10.0}):
        with pytest.raises(InputError, match=r"fractions of the tomogram's size.*Open the tomogram too"):
            read_particles(path, **more)


@pytest.mark.parametrize("name", ["s01", "s01.mrc", "tomograms/s01_10.00Apx.mrc"])
def test_fractions_are_known_without_the_names_of_warp(tmp_path, name):
    table = {"rlnTomoName": [name], **coordinates((0.25, 0.5, 0.75)), **angles(ZYZ)}
    path = write(tmp_path / "picks.star", star_loop("particles", table))
    np.testing.assert_allclose(read_particles(path, extents=TOMOGRAM).positions, [[2500, 4500, 2250]])
    whole = write(tmp_path / "whole.star", star_loop("particles", {**table, **coordinates((1, 0, 1))}))
    np.testing.assert_allclose(read_particles(whole, pixel_size=10.0).positions, [[10, 0, 10]])


def test_lists_in_voxels_with_names_of_warp_are_no_fractions(tmp_path):
    table = {**coordinates((443.7, 214.6, 0.7)), "rlnMicrographName": ["s01.tomostar"]}
    path = write(tmp_path / "picks.star", star_loop("", table))
    assert dialect_of(path) == "picks"
    np.testing.assert_allclose(read_particles(path, pixel_size=2.0).positions, [[887.4, 429.2, 1.4]])


def test_the_first_sample_of_a_species_of_m_is_the_pose_in_angstrom(tmp_path):
    columns = {f"wrpCoordinate{axis}{n}": [100.0 * n + k] for n in (1, 2) for k, axis in enumerate("XYZ")}
    columns |= {f"wrpAngle{name}{n}": [ZYZ[k] + n - 1] for n in (1, 2) for k, name in enumerate(("Rot", "Tilt", "Psi"))}
    more = {"wrpRandomSubset": [2], "wrpSourceName": ["s01.tomostar"], "wrpSourceHash": ["A1"]}
    path = write(tmp_path / "ribo_particles.star", star_loop("", {**columns, **more}))
    assert dialect_of(path) == "m"
    read = read_particles(path, tomogram="s01")
    np.testing.assert_allclose(read.positions, [[100, 101, 102]])
    np.testing.assert_allclose(read.rotations[0], MATRIX, atol=2e-6)
    assert read.tomogram.tolist() == ["s01"]
    assert read.extra["rlnRandomSubset"].tolist() == ["2"]
    assert read.extra["wrpSourceHash"].tolist() == ["A1"]
    assert not [name for name in read.extra if "Angle" in name or "Coordinate" in name]
    assert "2 samples" in read.notes[0]
    with pytest.raises(InputError, match="no particle of s02"):
        read_particles(path, tomogram="s02")


def test_the_list_that_m_writes_for_relion_is_in_angstrom(tmp_path):
    table = {**coordinates((3000, 2400, 300)), **angles(ZYZ), "rlnRandomSubset": [1], "rlnMicrographName": ["s01.mrc"]}
    path = write(tmp_path / "m.star", star_loop("", table))
    assert dialect_of(path) == "m-export"
    np.testing.assert_allclose(read_particles(path, extents=TOMOGRAM).positions, [[3000, 2400, 300]])


def test_pytom_match_pick_counts_in_voxels_of_its_detector_pixel_size(tmp_path):
    scores = {"rlnLCCmax": [0.31], "rlnCutOff": [0.1], "rlnSearchStd": [0.05], "rlnDetectorPixelSize": [10.0]}
    table = {**coordinates((300, 240, 30)), **angles(ZYZ), **scores, "rlnMicrographName": ["s01"]}
    path = write(tmp_path / "s01_particles.star", star_loop("", table))
    write(
        tmp_path / "tomograms.star",
        star_loop(
            "global",
            {"rlnTomoName": ["s01"], "rlnTomoTiltSeriesPixelSize": [2.5]}
            | {f"rlnTomoSize{axis}": [4000] for axis in "XYZ"},
        ),
    )
    assert dialect_of(path) == "pytom-match-pick"
    np.testing.assert_allclose(read_particles(path).positions, [[3000, 2400, 300]])
    centred = {"rlnTomoName": ["s01"], "rlnTomoTiltSeriesPixelSize": [10.0], **scores}
    centred |= coordinates((10, 20, 30), prefix="rlnCenteredCoordinate", suffix="Angst")
    (tmp_path / "tomograms.star").unlink()
    other = write(tmp_path / "compatible.star", star_loop("", centred))
    assert dialect_of(other) == "relion5"
    np.testing.assert_allclose(read_particles(other, extents=TOMOGRAM).positions, [[5010, 4520, 1530]])


def test_early_versions_of_pytom_match_pick_have_names_of_their_own(tmp_path):
    table = {**coordinates((300, 240, 30), prefix="ptmCoordinate"), **angles(ZYZ, prefix="ptmAngle")}
    table |= {"ptmLCCmax": [0.3], "ptmDetectorPixelSize": [10.0], "ptmMicrographName": ["s01"]}
    path = write(tmp_path / "s01.star", star_loop("", table))
    assert dialect_of(path) == "pytom-match-pick"
    read = read_particles(path, tomogram="s01")
    np.testing.assert_allclose(read.positions, [[3000, 2400, 300]])
    np.testing.assert_allclose(read.rotations[0], MATRIX, atol=2e-6)


@pytest.mark.parametrize(
    ("block", "more"),
    [
        ("", {"rlnTomoName": ["s01"]}),
        ("", {"rlnMicrographName": ["/data/s01.mrc"], "rlnGroupNumber": [1]}),
        ("particles", {"pytmeScore": [0.3]}),
    ],
)
def test_picks_without_a_pixel_size_are_in_voxels_of_the_tomogram_that_is_opened(tmp_path, block, more):
    path = write(tmp_path / "s01_particles.star", star_loop(block, {**coordinates((300, 240, 30)), **more}))
    assert dialect_of(path) == "picks"
    read = read_particles(path, extents=TOMOGRAM)
    np.testing.assert_allclose(read.positions, [[3000, 2400, 300]])
    assert any("10 Å" in note and "tomogram" in note for note in read.notes)
    with pytest.raises(InputError, match=r"Å.*--pixel-size"):
        read_particles(path)


def test_origins_of_pyseg_are_subtracted_in_voxels(tmp_path):
    more = {"rlnMicrographName": ["s01.mrc"], "rlnOriginX": [-10.0], "rlnOriginY": [6.0], "rlnOriginZ": [15.0]}
    path = write(tmp_path / "a.star", star_loop("", {**coordinates((600, 1100, 219)), **more}))
    np.testing.assert_allclose(read_particles(path, pixel_size=2.0).positions, [[1220, 2188, 408]])


def test_relion_5_s_picks_take_the_binning_of_its_own_table_of_tomograms(tmp_path):
    sizes = {"rlnTomoName": ["s01"], "rlnTomoTiltSeriesPixelSize": [2.5], "rlnTomoTomogramBinning": [4.0]}
    write(tmp_path / "tomograms.star", star_loop("global", sizes | {f"rlnTomoSize{axis}": [4000] for axis in "XYZ"}))
    table = {"rlnTomoName": ["s01"], **coordinates((300, 240, 30))}
    picks = write(tmp_path / "s01_particles.star", star_loop("", table))
    np.testing.assert_allclose(read_particles(picks).positions, [[3000, 2400, 300]])
    # A particle set counts in unbinned pixels.
    particles = write(tmp_path / "particles.star", star_loop("particles", table))
    np.testing.assert_allclose(read_particles(particles).positions, [[750, 600, 75]])


def test_a_data_file_finds_the_optimisation_set_beside_it(tmp_path):
    job, tomograms = tmp_path / "Refine3D" / "job020", tmp_path / "Tomograms" / "job008" / "tomograms.star"
    centred = coordinates((10, 20, 30), prefix="rlnCenteredCoordinate", suffix="Angst")
    data = write(job / "run_data.star", star_loop("particles", {"rlnTomoName": ["s01"], **centred}))
    sizes = {"rlnTomoName": ["s01"], "rlnTomoTiltSeriesPixelSize": [1.5], "rlnTomoSizeX": [4000]}
    write(tomograms, star_loop("global", sizes | {"rlnTomoSizeY": [4000], "rlnTomoSizeZ": [1000]}))
    head = "data_\n\n_rlnTomoParticlesFile Refine3D/job020/{}\n_rlnTomoTomogramsFile Tomograms/job008/tomograms.star\n"
    write(job / "run_it001_optimisation_set.star", head.format("run_it001_data.star"))
    write(job / "broken_optimisation_set.star", "data_\n\n_rlnTomoParticlesFile\n")
    write(job / "run_optimisation_set.star", head.format("run_data.star"))
    np.testing.assert_allclose(read_particles(data).positions, [[3010, 3020, 780]])
    chosen = write(job / "chosen.star", data.read_text())
    np.testing.assert_allclose(read_particles(chosen).positions, [[3010, 3020, 780]])
    write(job / "other_optimisation_set.star", head.format("run_data.star").replace("job008", "job009"))
    write(tmp_path / "Tomograms" / "job009" / "tomograms.star", tomograms.read_text().replace("4000", "3000"))
    with pytest.raises(InputError, match="the size of tomogram s01 is unknown"):
        read_particles(chosen)


def test_what_is_written_for_warptools_has_the_columns_that_it_asks_for(tmp_path):
    particles = golden_particles(2).replace(tomogram=np.array(["TS_01", "rec_TS_02_10.00Apx"]))
    notes = write_particles(tmp_path / "warp.star", particles, dialect="warp", pixel_size=10.0)
    table = ListFile(tmp_path / "warp.star").star[""]
    assert table["rlnMicrographName"] == ("TS_01.tomostar", "rec_TS_02.tomostar")
    np.testing.assert_allclose(
        [float(table["rlnCoordinateX"][0]), float(table["rlnAnglePsi"][0])], [10, ZYZ[2]], atol=1e-4
    )
    assert "--coords_angpix 10" in notes[0]
    np.testing.assert_allclose(read_particles(tmp_path / "warp.star").positions, particles.positions)


def test_names_of_dialects_are_unique_and_each_is_read_or_written():
    names = [dialect.name for dialect in DIALECTS]
    assert len(set(names)) == len(names)
    assert all(dialect.read or dialect.write for dialect in DIALECTS)
    assert all(dialect.title and dialect.programs and dialect.suffixes and dialect.layout for dialect in DIALECTS)
