"""The same particles as people, scripts and other versions of programs write them: read right, or refused why."""

import json

import numpy as np
import pytest
from foreign_lists import (
    POSITIONS,
    ROTATIONS,
    SAMPLES,
    SIZE,
    TOMOGRAM,
    VOXEL,
    VOXELS,
    ZYZ,
    copick_picks,
    em_bytes,
    imod_bytes,
    motive_rows,
    relion_columns,
)
from io_fixtures import angles, coordinates, star_loop, write
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles
from napari_orient.engine.io.dialects.text_tables import coordinate_columns
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.rotations import angle_deg

OPENED = Tomogram(np.zeros(SIZE[::-1], np.float32), VOXEL, TOMOGRAM)
IN_NM = POSITIONS / 10
WXYZ = Rotation.from_matrix(ROTATIONS).as_quat()[:, [3, 0, 1, 2]]


def table(head: str, rows: np.ndarray, *, separator: str = ",") -> str:
    return "\n".join([head, *(separator.join(map(str, row)) for row in rows.tolist())]) + "\n"


def check(read, *, posed: bool) -> None:
    np.testing.assert_allclose(read.positions, POSITIONS, atol=1e-4)
    assert (read.rotations is not None) == posed
    if posed:
        assert angle_deg(read.rotations, ROTATIONS).max() < 1e-4


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("X,Y,Z", POSITIONS),
        ("z,y,x", POSITIONS[:, ::-1]),
        ("x_nm,y_nm,z_nm", IN_NM),
        ("X (nm),Y (nm),Z (nm)", IN_NM),
        ("x_A,y_A,z_A", POSITIONS),
        ("x / nm,y / nm,z / nm", IN_NM),
        ("x in nm,y in nm,z in nm", IN_NM),
        ("x{A},y{A},z{A}", POSITIONS),
        ("xAngst,yAngst,zAngst", POSITIONS),
        ("x (A\u030a),y (A\u030a),z (A\u030a)", POSITIONS),
        ("picked by me\nx,y,z", POSITIONS),
        ("x_angstrom,y_angstrom,z_angstrom", POSITIONS),
        ("x_px,y_px,z_px", VOXELS),
        ("x [voxel],y [voxel],z [voxel]", VOXELS),
        ("pos_x,pos_y,pos_z", POSITIONS),
        ("x_coord,y_coord,z_coord", POSITIONS),
        ("CoordinateX,CoordinateY,CoordinateZ", POSITIONS),
        ("centroid_x (px),centroid_y (px),centroid_z (px)", VOXELS),
        ("# x,y,z", POSITIONS),
        ("x;y;z", POSITIONS),
        ("# made by hand\n# z,y,x", POSITIONS[:, ::-1]),
    ],
)
def test_coordinates_are_found_by_the_names_and_units_that_people_give_them(tmp_path, head, rows):
    text = table(head, rows, separator=";" if ";" in head else ",")
    for name, written in {"a.csv": text, "b.csv": text.replace(".", ",") if ";" in head else text}.items():
        check(read_particles(write(tmp_path / name, written), tomogram=OPENED), posed=False)


def test_the_header_that_numpy_writes_behind_a_hash_names_angles_too(tmp_path):
    path = tmp_path / "a.txt"
    np.savetxt(path, np.hstack([POSITIONS, ZYZ]), header="x y z rot tilt psi")
    check(read_particles(path), posed=True)


def test_of_several_columns_that_may_be_coordinates_none_is_taken_unless_one_states_a_length():
    assert coordinate_columns(["pos_x", "pos_y", "pos_z", "center_x", "center_y", "center_z"]) is None
    found = coordinate_columns(["pos_x", "pos_y", "pos_z", "x_nm", "y_nm", "z_nm", "x_px", "y_px", "z_px"])
    assert (found.names, found.angstrom) == (("x_nm", "y_nm", "z_nm"), 10.0)
    assert coordinate_columns(["x", "y"]) is None
    assert coordinate_columns(["xa", "ya", "za"]) is None


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ("rlnAngleRot,rlnAngleTilt,rlnAnglePsi", ZYZ),
        ("AngleRot,AngleTilt,AnglePsi", ZYZ),
        ("ang_rot,ang_tilt,ang_psi", ZYZ),
        ("rot_rad,tilt_rad,psi_rad", np.radians(ZYZ)),
        ("Rot (rad),Tilt (rad),Psi (rad)", np.radians(ZYZ)),
        ("quat_w,quat_x,quat_y,quat_z", WXYZ),
        ("q_w,q_x,q_y,q_z", WXYZ),
    ],
)
def test_angles_whose_names_state_the_convention_are_read_and_said(tmp_path, names, values):
    read = read_particles(write(tmp_path / "a.csv", table(f"x,y,z,{names}", np.hstack([POSITIONS, values]))))
    check(read, posed=True)
    assert read.extra == {}
    assert any(names.replace(",", ", ") in note for note in read.notes)


def test_a_word_in_a_table_without_a_header_is_the_tomogram_or_the_class(tmp_path):
    rows = [" ".join(f"{value:g}" for value in row) for row in VOXELS]
    for text in ("".join(f"TS_01 {row}\n" for row in rows), "".join(f"{row} TS_01.mrc\n" for row in rows)):
        read = read_particles(write(tmp_path / "a.txt", text), pixel_size=VOXEL)
        check(read, posed=False)
        assert read.tomogram_names == ["TS_01"]
        with pytest.raises(InputError, match="no particle of TS_02; it has TS_01"):
            read_particles(tmp_path / "a.txt", tomogram="TS_02", pixel_size=VOXEL)
    read = read_particles(write(tmp_path / "b.txt", "".join(f"ribosome {row}\n" for row in rows)), pixel_size=VOXEL)
    check(read, posed=False)
    assert read.kinds == ["ribosome"]


def test_scores_before_the_coordinates_are_no_coordinates_and_what_is_unknown_is_said(tmp_path):
    rows = "0.31 10 20 5\n0.29 33.3 44.45 7.75\n0.4 1 2 3\n"
    read = read_particles(write(tmp_path / "a.txt", rows), pixel_size=VOXEL)
    np.testing.assert_allclose(read.positions, [*POSITIONS, [10, 20, 30]])
    assert any("column1" in note and "carried unread" in note for note in read.notes)


def test_angles_of_an_unstated_convention_are_said_to_be_unread(tmp_path):
    text = table("x,y,z,alpha,beta,gamma", np.hstack([POSITIONS, ZYZ]))
    read = read_particles(write(tmp_path / "a.csv", text))
    assert read.rotations is None
    assert any("alpha, beta, gamma may be angles" in note for note in read.notes)
    elements = ",".join(f"r{row}{column}" for row in range(1, 4) for column in range(1, 4))
    read = read_particles(write(tmp_path / "m.csv", f"x,y,z,{elements}\n1,2,3,0,-1,0,1,0,0,0,0,1\n"))
    assert any("r11, r12" in note and "may be angles" in note for note in read.notes)
    with pytest.raises(InputError, match=r"psi but no rot.*RELION's, ZYZ"):
        read_particles(write(tmp_path / "b.csv", text.replace("alpha,beta,gamma", "phi,theta,psi")))


def test_columns_before_the_coordinates_that_number_contours_are_not_taken_for_x(tmp_path):
    for count, numbers in ((1, [[1], [1]]), (1, [[1], [2]]), (2, [[1, 1], [1, 2]]), (2, [[1, 2], [2, 1]])):
        path = tmp_path / "a.txt"
        np.savetxt(path, np.hstack([np.array(numbers), VOXELS]), fmt=["%d"] * count + ["%g"] * 3)
        if numbers == [[1, 2], [2, 1]]:
            assert not np.allclose(read_particles(path, pixel_size=VOXEL).positions, POSITIONS)
        else:
            check(read_particles(path, pixel_size=VOXEL), posed=False)


def test_a_few_picks_outside_do_not_make_angstrom_of_voxels(tmp_path):
    voxels = np.vstack([np.repeat(VOXELS, 5, axis=0), [[140, 20, 5]]])
    path = tmp_path / "a.coords"
    np.savetxt(path, voxels, fmt="%g")
    np.testing.assert_allclose(read_particles(path, tomogram=OPENED).positions, voxels * VOXEL)


# --- STAR files -----------------------------------------------------------------------------------------------------


def relion(name: str = TOMOGRAM, *, column: str = "rlnTomoName", **more: list[object]) -> dict[str, list[object]]:
    return {column: [name] * 2, **relion_columns(), "rlnTomoTiltSeriesPixelSize": [VOXEL] * 2, **more}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "TS_01.mrc_10.00Apx.mrc",
            "/data/rec_TS_01.mrc",
            "ts_1",
            "TS_01_rec_b8_deconv",
            "TS_01_SIRT10",
            "TS_01_3DCTF",
        ),
        *("TS_01_isonet_corrected", "TS_01_ddw", "TS_01_EVN_Vol", "TS_01_rec_dn", "TS_01_imod", "TS_01.tomostar"),
    ],
)
def test_a_name_of_the_tomogram_by_any_program_is_its_name(tmp_path, name):
    check(read_particles(write(tmp_path / "a.star", star_loop("particles", relion(name))), tomogram=OPENED), posed=True)


@pytest.mark.parametrize("name", ["TS_02", "TS_010", "TS_01_2", "TS_11", "TS_01a", "TS_01_flipz"])
def test_another_name_is_another_tomogram(tmp_path, name):
    with pytest.raises(InputError, match="no particle of TS_01"):
        read_particles(write(tmp_path / "a.star", star_loop("particles", relion(name))), tomogram=OPENED)


def test_tables_of_one_tomogram_each_are_joined_and_others_are_not_passed_over_in_silence(tmp_path):
    own = {name: values for name, values in relion().items() if name != "rlnTomoName"}
    both = write(tmp_path / "a.star", star_loop(TOMOGRAM, own) + star_loop("TS_02", own))
    assert read_particles(both).tomogram.tolist() == [TOMOGRAM] * 2 + ["TS_02"] * 2
    check(read_particles(both, tomogram=OPENED), posed=True)
    text = star_loop("mine", relion()) + star_loop("yours", relion(rlnLCCmax=[1, 2]))
    with pytest.raises(InputError, match=r"2 tables of particles \(data_mine, data_yours\)"):
        read_particles(write(tmp_path / "b.star", text))
    read = read_particles(write(tmp_path / "c.star", star_loop("particles", relion()) + star_loop("mine", relion())))
    check(read, posed=True)
    assert any("data_mine has coordinates too" in note for note in read.notes)


@pytest.mark.parametrize("column", ["rlnMicrographName", "rlnTomoName"])
@pytest.mark.parametrize("shift", [0.0, -0.02])
def test_fractions_of_a_tomogram_may_lie_a_little_beyond_it(tmp_path, column, shift):
    fractions = POSITIONS / (np.array(SIZE) * VOXEL)
    fractions[0, 0] += shift
    columns = {**coordinates(*fractions.tolist()), **angles(*ZYZ.tolist()), column: [f"{TOMOGRAM}.tomostar"] * 2}
    read = read_particles(write(tmp_path / "a.star", star_loop("", columns)), tomogram=OPENED)
    np.testing.assert_allclose(read.positions, fractions * np.array(SIZE) * VOXEL, atol=1e-4)


def test_coordinates_of_a_list_without_pixel_size_are_angstrom_where_they_fit_only_so(tmp_path):
    """M's lists for RELION with one column more than usual."""
    columns = {
        **coordinates(*POSITIONS.tolist()),
        **angles(*ZYZ.tolist()),
        "rlnRandomSubset": [1, 2],
        "rlnMine": [1, 2],
    }
    path = write(tmp_path / "a.star", star_loop("", {**columns, "rlnMicrographName": [f"{TOMOGRAM}.tomostar"] * 2}))
    read = read_particles(path, tomogram=OPENED)
    check(read, posed=True)
    assert any("beyond the opened tomogram's voxels" in note for note in read.notes)
    picks = write(tmp_path / "b.star", star_loop("", {**columns, "rlnTomoName": [TOMOGRAM] * 2}))
    np.testing.assert_allclose(read_particles(picks, tomogram=OPENED).positions, VOXEL * POSITIONS, atol=1e-3)


def test_an_optimisation_set_that_names_no_particles_is_refused_with_a_reason(tmp_path):
    path = write(tmp_path / "a_optimisation_set.star", "data_\n\n_rlnTomoParticlesFile ''\n")
    with pytest.raises(InputError, match="names no particles"):
        read_particles(path)


def test_a_species_of_m_with_one_sample_has_no_numbers_in_its_columns(tmp_path):
    table = {f"wrpCoordinate{axis}": POSITIONS[:, k].tolist() for k, axis in enumerate("XYZ")}
    table |= {f"wrpAngle{name}": ZYZ[:, k].tolist() for k, name in enumerate(("Rot", "Tilt", "Psi"))}
    text = star_loop("", {**table, "wrpRandomSubset": [1, 2], "wrpSourceName": [f"{TOMOGRAM}.tomostar"] * 2})
    read = read_particles(write(tmp_path / "ribo_particles.star", text), tomogram=OPENED)
    check(read, posed=True)
    assert read.extra["rlnRandomSubset"].tolist() == ["1", "2"]


def test_particles_in_one_plane_are_questioned(tmp_path):
    text = table("x,y,z", np.array([[10.0, 20, 0], [30, 40, 0], [50, 60, 0]]))
    assert any("micrographs" in note for note in read_particles(write(tmp_path / "a.csv", text)).notes)


def test_some_angles_that_are_zero_and_poses_that_all_are_the_identity_are_questioned(tmp_path):
    rows = motive_rows()
    rows[0, 16:19] = 0
    (tmp_path / "a.em").write_bytes(em_bytes(rows))
    assert "1 of 2 orientations are the identity" in read_particles(tmp_path / "a.em", pixel_size=VOXEL).notes[-1]
    read = read_particles(write(tmp_path / "a.csv", "x,y,z,rot,tilt,psi\n1,2,3,0,0,0\n4,5,6,0,0,0\n"))
    assert "before an alignment" in read.notes[-1]


# --- other formats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", ","])
def test_tables_of_dynamo_may_be_separated_by_tabs_or_commas(tmp_path, separator):
    path = SAMPLES["dynamo"](tmp_path)
    check(read_particles(write(path, path.read_text().replace(" ", separator)), tomogram=OPENED), posed=True)


@pytest.mark.parametrize("line", ["3,/data/TS_01.mrc", '3 "/data/TS_01.mrc"', "3.0\t/data/TS_01.rec"])
def test_lists_of_tomograms_may_be_separated_otherwise_too(tmp_path, line):
    path = SAMPLES["dynamo"](tmp_path)
    write(tmp_path / "tomograms.doc", line + "\r\n")
    assert read_particles(path, pixel_size=VOXEL).tomogram_names == [TOMOGRAM]


def test_the_portal_s_points_may_be_one_list_and_the_identity_for_all_is_no_orientation(tmp_path):
    lines = SAMPLES["ndjson"](tmp_path).read_text().splitlines()
    points = [json.loads(line) for line in lines]
    for text in (json.dumps(points), json.dumps(points, indent=2), "\n\n".join(lines)):
        check(read_particles(write(tmp_path / "a.json", text), tomogram=OPENED), posed=True)
    for point in points:
        point["xyz_rotation_matrix"] = np.eye(3).tolist()
    read = read_particles(write(tmp_path / "b.ndjson", "\n".join(map(json.dumps, points))), tomogram=OPENED)
    check(read, posed=False)
    assert "identity" in read.notes[-1]


def test_an_annotation_of_the_portal_has_its_number_in_its_name_or_its_folder(tmp_path):
    path = SAMPLES["ndjson"](tmp_path)
    other = path.parent / "101" / "cytosolic_ribosome-1.0_orientedpoint.ndjson"
    read = read_particles(write(other, path.read_text()))
    assert (read.kinds, read.tomogram_names) == (["cytosolic_ribosome"], [TOMOGRAM])
    check(read, posed=True)


def test_a_model_drawn_on_a_flipped_volume_is_questioned(tmp_path):
    data = bytearray(imod_bytes(VOXELS))
    data[152:156] = (1 << 16).to_bytes(4, "big")
    (tmp_path / "a.mod").write_bytes(data)
    assert "y and z exchanged" in read_particles(tmp_path / "a.mod", pixel_size=VOXEL).notes[-1]


@pytest.mark.parametrize("changes", [{"unit": "A"}, {"trust_orientation": None}, {"voxel_spacing": None}])
def test_copick_s_picks_of_other_writers_are_read(tmp_path, changes):
    check(read_particles(write(tmp_path / "a.json", copick_picks(**changes))), posed=True)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", "x\ty\tz\n1\t2\t3\n".encode("utf-16")[:-1], r"UTF-16.*CSV \(UTF-8\)"),
        ("a.star", "data_\n\nloop_\n_rlnCoordinateX\n1\n".encode("utf-16")[:-1], "UTF-16 is cut short"),
        ("a.json", b"[[1, 2, 3]]", "JSON, but neither picks nor a project of copick"),
        ("a.xlsx", b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "spreadsheet.*CSV"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "spreadsheet.*CSV"),
        ("a.box", b"100 200 64 64\n", "boxes in micrographs"),
        ("a.xml", b'<?xml version="1.0"?>\n<?mso-application?>\n<Workbook xmlns="urn:x">', "spreadsheet in XML.*CSV"),
        ("a.landmarkAscii", b"# Avizo 3D ASCII 2.0\ndefine Markers 1\n1 2 3\n", "Amira or Avizo.*x, y, z"),
        ("a.txt", b"# AmiraMesh 3D ASCII 2.0\n1 2 3\n", "Amira or Avizo"),
        ("a.aln", b"# AreTomo Alignment\n0 85.3 1.0 2.5 3.5 1 1 1 0 -60\n", "alignment of a tilt series"),
        ("a.obj", b"v 1 2 3\nv 4 5 6\n", "no known list of particles"),
        ("a.cmm", b'<?xml version="1.0" encoding="UTF-8"?>\n<marker_set name="a">', "markers of ChimeraX"),
        ("a.xml", b"<other><item/></other>", r"is XML \(other\) that holds no object"),
        ("ribo.species", '<?xml version="1.0"?>\n<Species>'.encode("utf-16"), "species of M.*ribo_particles.star"),
        ("TS_01.xml", b'<?xml version="1.0"?>\n<TiltSeries A="1"></TiltSeries>', "Warp's description"),
        (
            "TS_01.tomostar",
            b"data_\n\nloop_\n_wrpMovieName #1\n_wrpAngleTilt #2\na.eer -60\n",
            "images of a tilt series",
        ),
        ("a.json", b'{"annotation_object": {}, "files": []}', "metadata of an annotation.*ndjson"),
        ("a.json", b'{"boxes_3d": [[1, 2, 3, "manual", 0, 0]]}', "voxel size of a is unknown.*--pixel-size"),
        ("a.ndjson", b"[]", "no point"),
    ],
)
def test_files_beside_lists_are_answered_with_what_they_are(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_particles(tmp_path / name)
    assert "\n" not in str(caught.value)
