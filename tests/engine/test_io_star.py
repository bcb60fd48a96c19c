from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from io_fixtures import MATRIX, ZYZ, angles, coordinates, golden_particles, proper, star_loop, write
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.dialects.relion_project import write_import_list
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.rotations import angle_deg

EXTENTS = {"TS_01": Extent((400, 300, 200), 1.5)}
CENTRE = np.array([300.0, 225.0, 150.0])


def sizes(*names: str) -> str:
    count = len(names)
    return star_loop(
        "global",
        {
            "rlnTomoName": list(names),
            "rlnVoltage": ["300.000000"] * count,
            "rlnTomoTiltSeriesPixelSize": ["1.500000"] * count,
            "rlnTomoSizeX": [400] * count,
            "rlnTomoSizeY": [300] * count,
            "rlnTomoSizeZ": [200] * count,
        },
    )


def optics(**columns: list[object]) -> str:
    return star_loop("optics", {"rlnOpticsGroup": [1, 2], "rlnOpticsGroupName": ["one", "two"], **columns})


def centred(*rows: tuple[float, float, float]) -> dict[str, list[object]]:
    return coordinates(*rows, prefix="rlnCenteredCoordinate", suffix="Angst")


# --- poses and positions -------------------------------------------------------------------------------------------


def test_the_golden_pose_is_read_from_relions_angles(tmp_path):
    table = {"rlnTomoName": ["TS_01"], **coordinates((1, 2, 3)), **angles(ZYZ)}
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), pixel_size=2.0)
    np.testing.assert_allclose(read.rotations[0], MATRIX, atol=2e-6)
    np.testing.assert_allclose(read.positions, [[2, 4, 6]])


def test_the_golden_pose_is_written_as_relions_angles(tmp_path):
    write_particles(tmp_path / "a.star", golden_particles(), extents=EXTENTS)
    row = starfile.read(tmp_path / "a.star")["particles"].iloc[0]
    np.testing.assert_allclose([row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi], ZYZ, atol=1e-4)
    oracle = Rotation.from_euler("ZYZ", [row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi], degrees=True)
    np.testing.assert_allclose(oracle.inv().as_matrix(), MATRIX, atol=2e-6)


def test_the_particles_z_axis_depends_on_tilt_and_psi_alone(tmp_path):
    tilt, psi = np.radians([50, 70])
    for rot in (0, 33):
        table = {**coordinates((1, 2, 3)), **angles((rot, 50, 70))}
        read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), pixel_size=2.0)
        axis = [-np.cos(psi) * np.sin(tilt), np.sin(psi) * np.sin(tilt), np.cos(tilt)]
        np.testing.assert_allclose(read.rotations[0][:, 2], axis, atol=1e-12)


def test_a_subtomogram_prior_comes_before_the_angles(tmp_path):
    prior, pose = (10, 60, -40), (25, 80, 110)
    table = {**coordinates((0, 0, 0)), **angles(pose), **angles(prior, prefix="rlnTomoSubtomogram")}
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), pixel_size=1.0)
    first, second = (Rotation.from_euler("ZYZ", item, degrees=True).inv() for item in (prior, pose))
    np.testing.assert_allclose(read.rotations[0], (first * second).as_matrix(), atol=1e-12)
    assert angle_deg(read.rotations[0], (second * first).as_matrix()) > 20


def test_origins_are_subtracted_and_turned_by_the_prior(tmp_path):
    prior = (10, 60, -40)
    shift = {"rlnOriginXAngst": [3.0], "rlnOriginYAngst": [-2.0], "rlnOriginZAngst": [5.0]}
    plain = {**coordinates((10, 20, 30)), **shift}
    path = write(tmp_path / "a.star", star_loop("particles", plain))
    np.testing.assert_allclose(read_particles(path, pixel_size=2.0).positions, [[17, 42, 55]])
    path = write(tmp_path / "b.star", star_loop("particles", {**plain, **angles(prior, prefix="rlnTomoSubtomogram")}))
    turned = Rotation.from_euler("ZYZ", prior, degrees=True).inv().apply([3, -2, 5])
    np.testing.assert_allclose(read_particles(path, pixel_size=2.0).positions, [np.array([20, 40, 60]) - turned])


def test_old_origins_are_in_pixels(tmp_path):
    table = {**coordinates((10, 20, 30)), "rlnOriginX": [1.0], "rlnOriginY": [2.0], "rlnOriginZ": [-3.0]}
    path = write(tmp_path / "a.star", star_loop("particles", table))
    np.testing.assert_allclose(read_particles(path, pixel_size=2.0).positions, [[18, 36, 66]])


def test_written_files_hold_whole_poses_without_priors_and_origins(tmp_path):
    table = {
        "rlnTomoName": ["TS_01"],
        **centred((0, 0, 0)),
        **angles(ZYZ),
        **angles((10, 60, -40), prefix="rlnTomoSubtomogram"),
        "rlnAngleTiltPrior": [90],
        "rlnOriginXAngst": [3.0],
        "rlnOriginYAngst": [4.0],
        "rlnOriginZAngst": [5.0],
        "rlnRandomSubset": [2],
    }
    first = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), extents=EXTENTS)
    write_particles(tmp_path / "b.star", first)
    columns = set(starfile.read(tmp_path / "b.star")["particles"].columns)
    assert not [name for name in columns if "Origin" in name or "Subtomogram" in name or "Prior" in name]
    assert "rlnRandomSubset" in columns
    second = read_particles(tmp_path / "b.star")
    assert angle_deg(first.rotations, second.rotations).max() < 1e-4
    np.testing.assert_allclose(second.positions, first.positions, atol=1e-5)


def test_centred_coordinates_count_from_half_the_size_or_by_the_other_rule_on_request(tmp_path):
    table = {"rlnTomoName": ["TS_01"], **centred((10, -20, 30))}
    path = write(tmp_path / "a.star", star_loop("particles", table) + sizes("TS_01"))
    np.testing.assert_allclose(read_particles(path).positions, [np.add(CENTRE, (10, -20, 30))])
    np.testing.assert_allclose(
        read_particles(path, centre="size/2 - 1").positions, [np.add(CENTRE, (8.5, -21.5, 28.5))]
    )
    with pytest.raises(InputError, match="expected one of size/2, size/2 - 1"):
        read_particles(path, centre="half")


def test_centred_coordinates_win_over_pixels(tmp_path):
    table = {"rlnTomoName": ["TS_01"], **coordinates((1, 1, 1)), **centred((0, 0, 0))}
    path = write(tmp_path / "a.star", star_loop("particles", table) + sizes("TS_01"))
    np.testing.assert_allclose(read_particles(path).positions, [CENTRE])


def test_upright_particles_warn_of_nothing_and_keep_their_rotation(tmp_path):
    upright = [(30, 0, 40), (30, 180, 40), (-170, 1e-5, -60), (0, 0, 0), (180, 180, 180)]
    rotations = Rotation.from_euler("ZYZ", upright, degrees=True).inv().as_matrix()
    particles = Particles(positions=np.ones((5, 3)), rotations=rotations, tomogram="TS_01")
    write_particles(tmp_path / "a.star", particles, extents=EXTENTS)
    assert angle_deg(read_particles(tmp_path / "a.star").rotations, rotations).max() < 1e-3


# --- sizes of tomograms and pixels ----------------------------------------------------------------------------------


def test_the_tomograms_size_comes_from_the_file_then_the_opened_tomogram_then_the_table_beside(tmp_path):
    table = {"rlnTomoName": ["TS_01"], **centred((0, 0, 0))}
    alone = write(tmp_path / "alone.star", star_loop("particles", table))
    with pytest.raises(InputError, match=r"size of tomogram TS_01 is unknown.*tomograms\.star"):
        read_particles(alone)
    opened = {"TS_01_10.00Apx": Extent((40, 30, 20), 10.0)}
    np.testing.assert_allclose(read_particles(alone, extents=opened).positions, [[200, 150, 100]])
    write(tmp_path / "run_tomograms.star", sizes("TS_01", "TS_02"))
    np.testing.assert_allclose(read_particles(alone).positions, [CENTRE])
    np.testing.assert_allclose(read_particles(alone, extents=opened).positions, [[200, 150, 100]])
    own = write(tmp_path / "own.star", star_loop("particles", table) + sizes("TS_01"))
    np.testing.assert_allclose(read_particles(own, extents=opened).positions, [CENTRE])


def test_an_optimisation_set_is_followed_to_its_particles_and_tomograms(tmp_path):
    job = tmp_path / "Refine3D" / "job012"
    job.mkdir(parents=True)
    (tmp_path / "Tomograms").mkdir()
    write(tmp_path / "Tomograms" / "sizes.star", sizes("TS_01"))
    write(job / "run_data.star", star_loop("particles", {"rlnTomoName": ["TS_01"], **centred((1, 2, 3))}))
    text = "\ndata_\n\n_rlnTomoParticlesFile   Refine3D/job012/run_data.star\n"
    text += '_rlnTomoTomogramsFile   Tomograms/sizes.star\n_rlnTomoTrajectoriesFile   ""\n'
    read = read_particles(write(job / "run_optimisation_set.star", text))
    np.testing.assert_allclose(read.positions, [np.add(CENTRE, (1, 2, 3))])
    (job / "run_data.star").unlink()
    with pytest.raises(InputError, match=r"names the particles Refine3D/job012/run_data\.star, which is not there"):
        read_particles(job / "run_optimisation_set.star")


@pytest.mark.parametrize(
    ("columns", "block", "expected"),
    [
        ({"rlnOpticsGroup": [1, 2]}, {"rlnTomoTiltSeriesPixelSize": [1.5, 3.0]}, (1.5, 3.0)),
        ({"rlnOpticsGroup": [2, 1]}, {"rlnMicrographPixelSize": [1.5, 3.0]}, (3.0, 1.5)),
        ({"rlnOpticsGroup": [1, 1]}, {"rlnImagePixelSize": [6, 6], "rlnTomoSubtomogramBinning": [4, 2]}, (1.5, 1.5)),
        ({"rlnMagnification": [10000, 5000], "rlnDetectorPixelSize": [1.5, 1.5]}, None, (1.5, 3.0)),
        ({"rlnPixelSize": [1.5, 3.0]}, None, (1.5, 3.0)),
        ({"rlnMicrographPixelSize": [1.5, 3.0]}, None, (1.5, 3.0)),
        ({"rlnMicrographOriginalPixelSize": [1.5, 3.0]}, None, (1.5, 3.0)),
        ({"rlnPixelSize": [9, 9], "rlnTomoTiltSeriesPixelSize": [1.5, 3.0]}, None, (1.5, 3.0)),
    ],
)
def test_the_pixel_size_is_found_wherever_a_version_of_relion_keeps_it(tmp_path, columns, block, expected):
    table = {**coordinates((1, 2, 3), (1, 2, 3)), **columns}
    text = (optics(**block) if block else "") + star_loop("particles", table)
    read = read_particles(write(tmp_path / "a.star", text))
    np.testing.assert_allclose(read.positions, np.array(expected)[:, None] * [1, 2, 3])


def test_pixels_of_unknown_size_are_refused_until_it_is_given(tmp_path):
    path = write(tmp_path / "a.star", star_loop("", coordinates((1, 2, 3))))
    with pytest.raises(InputError, match=r"states no size of them.* \(--pixel-size\)"):
        read_particles(path)
    np.testing.assert_allclose(read_particles(path, pixel_size=1.96).positions, [[1.96, 3.92, 5.88]])


def test_an_optics_group_that_the_optics_lack_is_named(tmp_path):
    text = optics(rlnTomoTiltSeriesPixelSize=[1.5, 3.0]) + star_loop(
        "particles", {**coordinates((1, 2, 3)), "rlnOpticsGroup": [7]}
    )
    with pytest.raises(InputError, match="rlnOpticsGroup 7 is not in the optics table"):
        read_particles(write(tmp_path / "a.star", text))


# --- tables and names ------------------------------------------------------------------------------------------------


def test_one_row_as_a_list_an_unnamed_block_and_warps_block_are_read(tmp_path):
    row = "\ndata_particles\n\n_rlnCoordinateX  1.0\n_rlnCoordinateY  2.0\n_rlnCoordinateZ  3.0\n_rlnPixelSize 2.0\n"
    table = {**coordinates((1, 2, 3)), "rlnPixelSize": [2.0]}
    for text in (row, star_loop("", table), star_loop("images", table), star_loop("whatever", table)):
        np.testing.assert_allclose(read_particles(write(tmp_path / "a.star", text)).positions, [[2, 4, 6]])


def test_a_mended_file_is_read_anew_after_a_failure(tmp_path):
    path = write(tmp_path / "a.star", "data_particles\n\nloop_\n_rlnA #1\n_rlnB #2\n1 2 3\n2 3\n")
    with pytest.raises(InputError, match="no STAR file that can be read"):
        read_particles(path)
    write(path, star_loop("particles", {**coordinates((1, 2, 3)), "rlnPixelSize": [2.0]}))
    np.testing.assert_allclose(read_particles(path).positions, [[2, 4, 6]])


def test_names_that_look_like_numbers_stay_text(tmp_path):
    table = {"rlnTomoName": ["007", "1e3"], **coordinates((1, 2, 3), (4, 5, 6)), "rlnRandomSubset": ["01", "2"]}
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), pixel_size=1.0)
    assert read.tomogram.tolist() == ["007", "1e3"]
    assert read.extra["rlnRandomSubset"].tolist() == ["01", "2"]


def test_a_micrographs_path_gives_the_tomograms_name(tmp_path):
    table = {"rlnMicrographName": ["/x/TS_01.mrc.tomostar", "/x/TS_02.mrc"], **coordinates((1, 2, 3), (4, 5, 6))}
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), pixel_size=1.0)
    assert read.tomogram.tolist() == ["TS_01", "TS_02"]
    assert read.extra["rlnMicrographName"].tolist() == ["/x/TS_01.mrc.tomostar", "/x/TS_02.mrc"]
    table["rlnMicrographName"] = ["/x/TS_01.mrc", "/y/TS_01.mrc"]
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), pixel_size=1.0)
    assert read.tomogram.tolist() == ["/x/TS_01.mrc", "/y/TS_01.mrc"]


def test_the_particles_of_one_tomogram_are_found_under_a_name_of_the_same_meaning(tmp_path):
    table = {
        "rlnTomoName": ["TS_01", "TS_02", "TS_01"],
        **centred((1, 0, 0), (2, 0, 0), (3, 0, 0)),
        "rlnFoo": list("abc"),
    }
    path = write(tmp_path / "a.star", star_loop("particles", table))
    read = read_particles(path, tomogram="rec_TS_01", extents={"rec_TS_01": EXTENTS["TS_01"]})
    np.testing.assert_allclose(read.positions[:, 0], [301, 303])
    assert read.extra["rlnFoo"].tolist() == ["a", "c"]
    assert read.tomogram_names == ["TS_01"]
    with pytest.raises(InputError, match=r"no particle of TS_09; it has TS_01, TS_02\. Rename"):
        read_particles(path, tomogram="TS_09")


def test_an_opened_tomogram_gives_its_name_and_size_and_the_particles_can_be_written_without_naming_either(tmp_path):
    volume = Tomogram(np.zeros((200, 300, 400), np.int8), 1.5, "rec_TS_01")
    table = {"rlnTomoName": ["TS_01", "TS_02"], **centred((1, 0, 0), (2, 0, 0))}
    read = read_particles(write(tmp_path / "a.star", star_loop("particles", table)), tomogram=volume)
    np.testing.assert_allclose(read.positions, [CENTRE + np.array([1.0, 0, 0])])
    write_particles(tmp_path / "b.star", read)
    picks = read_particles(write(tmp_path / "a.csv", "x,y,z\n301,225,150\n"), tomogram=volume)
    assert picks.extents == {"rec_TS_01": EXTENTS["TS_01"]}
    write_particles(tmp_path / "c.star", picks)
    for name in ("b.star", "c.star"):
        np.testing.assert_allclose(read_particles(tmp_path / name).positions, read.positions)
    assert read_particles(tmp_path / "c.star").extents == picks.extents


def test_coordinates_without_angles_are_picks_of_unknown_orientation(tmp_path):
    path = write(tmp_path / "a.star", star_loop("particles", {**coordinates((1, 2, 3)), "rlnPixelSize": [1]}))
    read = read_particles(path)
    assert read.rotations is None
    write_particles(tmp_path / "b.star", read, dialect="relion4")
    assert "rlnAngleRot" not in starfile.read(tmp_path / "b.star", always_dict=True)["particles"]


# --- bad files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("hello\n", "holds no STAR table"),
        (star_loop("micrographs", {"rlnFoo": [1]}), r"no table of particles \(it has data_micrographs\)"),
        (star_loop("particles", {"rlnFoo": [1]}), "has no coordinates; expected columns rlnCoordinateX"),
        (star_loop("particles", angles(ZYZ)), "has no coordinates"),
        (star_loop("particles", {"rlnCoordinateX": [1], "rlnCoordinateY": [1]}), "has no column rlnCoordinateZ"),
        (star_loop("particles", {"rlnCenteredCoordinateXAngst": [1]}), "has no column rlnCenteredCoordinateYAngst"),
        ("data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n\n", "has no particles"),
        (
            star_loop(
                "particles", {**coordinates((1, 2, 3)), "rlnPixelSize": [1], "rlnAngleRot": [1], "rlnAngleTilt": [2]}
            ),
            "has rlnAngleRot but no rlnAnglePsi",
        ),
        (
            star_loop("particles", {**coordinates((1, 2, 3), (1, float("nan"), 3)), "rlnPixelSize": [1, 1]}),
            r"rlnCoordinateY of row 2 is 'nan'; expected a number \(1 such rows\)",
        ),
        (
            star_loop("particles", {**coordinates((1, 2, 3)), **angles((1, 2, "x")), "rlnPixelSize": [1]}),
            "rlnAnglePsi of row 1 is 'x'",
        ),
        (star_loop("particles", {"rlnTomoName": ["a"], "rlnTomoImportParticleFile": ["b"]}), "list of particle files"),
        (sizes("TS_01"), "table of tomograms"),
        ("data_particles\n\nloop_\n_rlnA #1\n_rlnB #2\n1 2\n3\n", "row 2 has fewer values than the 2 columns"),
        ("data_particles\n\nloop_\n_rlnA #1\n_rlnA #2\n1 2\n", "two columns named rlnA"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, words):
    path = write(tmp_path / "a.star", text)
    with pytest.raises(InputError, match=words) as caught:
        read_particles(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_no_text_or_no_file_is_refused(tmp_path):
    (tmp_path / "a.star").write_bytes(bytes(range(256)))
    for path, words in (
        ("a.star", "not text"),
        ("b.star", "no such file"),
        ("c.tbl", "no such file"),
        ("", "is a folder"),
    ):
        with pytest.raises(InputError, match=words):
            read_particles(tmp_path / path)


def test_nothing_is_written_when_writing_is_refused(tmp_path):
    cases = [
        (golden_particles(), {}, "size of tomogram TS_01 is unknown"),
        (golden_particles(), {"dialect": "relion4"}, "size of a pixel is unknown"),
        (golden_particles(), {"dialect": "eman2"}, "dialect 'eman2' is unknown"),
        (golden_particles(), {"dialect": "dynamo"}, r"dynamo is written as \.tbl"),
        (golden_particles(count=0), {"extents": EXTENTS}, "no particles to write"),
    ]
    for particles, options, words in cases:
        with pytest.raises(InputError, match=words):
            write_particles(tmp_path / "a.star", particles, **options)
    with pytest.raises(InputError, match="no known suffix"):
        write_particles(tmp_path / "a.xyz", golden_particles())
    assert list(tmp_path.iterdir()) == []


# --- what goes through unchanged ------------------------------------------------------------------------------------


def rich(tmp_path: Path) -> Path:
    table = {
        "rlnTomoName": ["TS_01", "TS_01"],
        "rlnLogLikeliContribution": ["3.800438e+05", "1.000"],
        **centred((10, 20, 30), (-1.25, 0, 7)),
        "rlnTomoVisibleFrames": ["[0,0,1]", "[1,1,1]"],
        **angles(ZYZ, (0, 0, 0)),
        "rlnOpticsGroup": ["1", "2"],
        "rlnImageName": ["a/1_stack2d.mrcs", "'with space'"],
        "rlnNan": ["nan", "0.10"],
        "orientConfidence": ["0.912345", "0.100000"],
        "orientExpectedErrorDeg": ["4.500000", "12.000000"],
        "orientClass": ["pdb_4v4r", "pdb_3j9i"],
    }
    general = "\n# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks                       1\n \n"
    text = general + optics(rlnVoltage=["300.000000", "200.0"], rlnTomoTiltSeriesPixelSize=["1.500000", "1.5"])
    return write(tmp_path / "rich.star", text + star_loop("particles", table) + sizes("TS_01", "TS_02"))


def test_foreign_columns_and_tables_go_out_as_they_came_in(tmp_path):
    write_particles(tmp_path / "out.star", read_particles(rich(tmp_path)))
    text = (tmp_path / "out.star").read_text()
    blocks = starfile.read(tmp_path / "out.star", parse_as_string=["rlnLogLikeliContribution", "rlnVoltage", "rlnNan"])
    assert list(blocks) == ["general", "optics", "particles", "global"]
    assert blocks["general"] == {"rlnTomoSubTomosAre2DStacks": 1}
    assert blocks["optics"].rlnVoltage.tolist() == ["300.000000", "200.0"]
    particles = blocks["particles"]
    assert particles.rlnLogLikeliContribution.tolist() == ["3.800438e+05", "1.000"]
    assert particles.rlnImageName.tolist() == ["a/1_stack2d.mrcs", "with space"]
    foreign = ["rlnLogLikeliContribution", "rlnTomoVisibleFrames", "rlnOpticsGroup", "rlnImageName", "rlnNan"]
    assert list(particles.columns)[-5:] == foreign
    assert list(particles.columns)[:2] == ["rlnTomoName", "rlnCenteredCoordinateXAngst"]
    assert "\tnan\n" in text


def test_confidence_expected_error_and_class_come_back(tmp_path):
    particles = golden_particles(
        count=2, confidence=[0.9, float("nan")], expected_error_deg=[3.5, 8.25], kind=["a", "b"]
    )
    for name in ("a.star", "a.csv", "a.tsv"):
        write_particles(tmp_path / name, particles, extents=EXTENTS)
        read = read_particles(tmp_path / name)
        np.testing.assert_allclose(read.confidence, [0.9, np.nan])
        np.testing.assert_allclose(read.expected_error_deg, [3.5, 8.25])
        assert read.kind.tolist() == ["a", "b"]


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_save_reload_save_gives_the_same_bytes_apart_from_the_provenance(tmp_path, dialect):
    first, second, third = (tmp_path / f"{number}.star" for number in (1, 2, 3))
    write_particles(first, read_particles(rich(tmp_path)), dialect=dialect, provenance="made by a network\nof 2 lines")
    write_particles(second, read_particles(first), dialect=dialect, provenance="made again")
    write_particles(third, read_particles(second), dialect=dialect)
    assert first.read_text().splitlines()[0] == "# made by a network of 2 lines"
    assert first.read_text().splitlines()[1:] == second.read_text().splitlines()[1:]
    assert second.read_text().splitlines()[1:] == third.read_text().splitlines()


def test_a_pixel_size_that_was_given_is_written_so_that_the_file_reads_back_alone(tmp_path):
    write_particles(
        tmp_path / "a.star", golden_particles(extra={"rlnFoo": np.array(["1"])}), dialect="relion4", pixel_size=1.96
    )
    read = read_particles(tmp_path / "a.star")
    np.testing.assert_allclose(read.positions, [[100, 200, 50]], atol=1e-5)
    write_particles(tmp_path / "b.star", read, dialect="relion4")
    assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()


def test_particles_without_a_tomograms_name_get_that_of_the_only_tomogram_or_none(tmp_path):
    nameless = golden_particles(tomogram="")
    write_particles(tmp_path / "a.star", nameless, extents=EXTENTS)
    assert read_particles(tmp_path / "a.star").tomogram.tolist() == ["TS_01"]
    write_particles(tmp_path / "b.star", nameless, dialect="relion4", pixel_size=2.0)
    assert "rlnTomoName" not in starfile.read(tmp_path / "b.star", always_dict=True)["particles"]
    assert read_particles(tmp_path / "b.star", tomogram="TS_07").tomogram.tolist() == ["TS_07"]


def test_one_row_is_written_as_a_loop_in_a_block_named_particles(tmp_path):
    write_particles(tmp_path / "a.star", golden_particles(), extents=EXTENTS)
    text = (tmp_path / "a.star").read_text()
    assert "# version 50001\n\ndata_particles\n\nloop_\n_rlnTomoName #1\n" in text
    assert text.index("data_particles") < text.index("data_global")


def test_no_optics_are_invented(tmp_path):
    write_particles(tmp_path / "a.star", golden_particles(), extents=EXTENTS)
    assert list(starfile.read(tmp_path / "a.star")) == ["particles", "global"]


def test_the_import_list_names_one_tomogram_and_its_file(tmp_path):
    write_import_list(tmp_path / "list.star", "picks/TS_01.star", ["TS_01"])
    table = starfile.read(tmp_path / "list.star", always_dict=True)["particles"]
    assert table.to_dict("list") == {"rlnTomoName": ["TS_01"], "rlnTomoImportParticleFile": ["picks/TS_01.star"]}
    with pytest.raises(InputError, match="one file for each tomogram"):
        write_import_list(tmp_path / "list.star", "picks.star", ["TS_01", "TS_02"])


finite = st.floats(-400, 400, allow_nan=False)
quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-2)
nearly_upright = st.tuples(finite, st.sampled_from([0, 1e-7, 5e-6, 9.9e-5, 1e-4, 1.01e-4, 179.9999, 180]), finite).map(
    lambda a: tuple(Rotation.from_euler("ZYZ", a, degrees=True).as_quat())
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.tuples(finite, finite, finite), quaternions | nearly_upright), min_size=1, max_size=8)
)
@pytest.mark.parametrize(("name", "dialect"), [("a.star", "relion5"), ("a.star", "relion4"), ("a.csv", "csv")])
def test_poses_survive_writing_and_reading_and_the_second_writing_is_the_first(tmp_path_factory, name, dialect, rows):
    folder = tmp_path_factory.getbasetemp()
    rotations = Rotation.from_quat([row[1] for row in rows]).as_matrix()
    particles = Particles(positions=[row[0] for row in rows], rotations=rotations, tomogram="TS_01")
    write_particles(folder / name, particles, extents=EXTENTS, dialect=dialect)
    read = read_particles(folder / name)
    assert angle_deg(read.rotations, rotations).max() < 2e-4
    assert np.abs(read.positions - particles.positions).max() < 1e-6 * 1.5
    write_particles(folder / f"again_{name}", read, dialect=dialect)
    assert (folder / name).read_bytes() == (folder / f"again_{name}").read_bytes()


def test_a_voxel_size_of_many_digits_moves_nothing(tmp_path):
    extents = {"TS_01": Extent((1000, 1000, 500), 13.4812345678)}
    write_particles(tmp_path / "a.star", golden_particles(), extents=extents)
    np.testing.assert_allclose(read_particles(tmp_path / "a.star").positions, [[100, 200, 50]], atol=1e-4)


def test_the_golden_matrix_is_a_rotation_to_the_digits_given():
    np.testing.assert_allclose(proper(MATRIX), MATRIX, atol=1e-6)
