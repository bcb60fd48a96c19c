"""The same two particles as every program writes them, in its own layout, and with SciPy's rotations alone."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from io_fixtures import MATRIX, angles, coordinates, proper, star_loop, write
from scipy.spatial.transform import Rotation

VOXEL = 10.0
POSITIONS = np.array([[100.0, 200.0, 50.0], [333.0, 444.5, 77.5]])
ROTATIONS = np.array([proper(MATRIX), Rotation.from_euler("XYZ", [20, -35, 110], degrees=True).as_matrix()])
SIZE = (100, 90, 30)
TOMOGRAM = "TS_01"

_R = Rotation.from_matrix(ROTATIONS)
ZYZ = _R.inv().as_euler("ZYZ", degrees=True)
DYNAMO = _R.inv().as_euler("zxz", degrees=True)
MOTIVE = _R.as_euler("zxz", degrees=True)
"""phi, theta, psi."""

VOXELS = POSITIONS / VOXEL


def relion_columns() -> dict[str, list[object]]:
    return {**coordinates(*VOXELS.tolist()), **angles(*ZYZ.tolist())}


def relion5(folder: Path) -> Path:
    centred = coordinates(
        *(POSITIONS - np.array(SIZE) * VOXEL / 2).tolist(), prefix="rlnCenteredCoordinate", suffix="Angst"
    )
    sizes = {"rlnTomoName": [TOMOGRAM], "rlnTomoTiltSeriesPixelSize": [VOXEL]}
    sizes |= {f"rlnTomoSize{axis}": [size] for axis, size in zip("XYZ", SIZE, strict=True)}
    write(folder / "tomograms.star", star_loop("global", sizes))
    table = {"rlnTomoName": [TOMOGRAM] * 2, **centred, **angles(*ZYZ.tolist())}
    return write(folder / "particles.star", star_loop("particles", table))


def relion4(folder: Path) -> Path:
    optics = star_loop("optics", {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.0]})
    table = {"rlnTomoName": [TOMOGRAM] * 2, **coordinates(*(POSITIONS / 2).tolist()), **angles(*ZYZ.tolist())}
    return write(folder / "particles.star", optics + star_loop("particles", {**table, "rlnOpticsGroup": [1, 1]}))


def warp(folder: Path) -> Path:
    optics = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.0], "rlnTomoSubtomogramBinning": [5.0]}
    optics |= {"rlnImageDimensionality": [2], "rlnImagePixelSize": [VOXEL]}
    table = {"rlnTomoName": [f"{TOMOGRAM}.tomostar"] * 2, **relion_columns(), "rlnOpticsGroup": [1, 1]}
    head = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   1\n"
    return write(folder / "export.star", head + star_loop("optics", optics) + star_loop("particles", table))


def warp_matching(folder: Path) -> Path:
    fractions = POSITIONS / (np.array(SIZE) * VOXEL)
    table = {**coordinates(*fractions.tolist()), **angles(*ZYZ.tolist())}
    table |= {"rlnMicrographName": [f"{TOMOGRAM}.tomostar"] * 2, "rlnAutopickFigureOfMerit": [9.1, 8.0]}
    return write(folder / "TS_01_10.00Apx_ribo.star", star_loop("", table))


def m_species(folder: Path) -> Path:
    table = {f"wrpCoordinate{axis}{n}": POSITIONS[:, k].tolist() for n in (1, 2, 3) for k, axis in enumerate("XYZ")}
    names = ("Rot", "Tilt", "Psi")
    table |= {f"wrpAngle{name}{n}": (ZYZ[:, k] + n - 1).tolist() for n in (1, 2, 3) for k, name in enumerate(names)}
    table |= {"wrpRandomSubset": [1, 2], "wrpSourceName": [f"{TOMOGRAM}.tomostar"] * 2, "wrpSourceHash": ["A1", "A1"]}
    return write(folder / "ribo_particles.star", star_loop("", table))


def m_population(folder: Path) -> Path:
    species = folder / "species" / "ribo_797f75c2"
    species.mkdir(parents=True)
    m_species(species)
    write(species / "ribo.species", "<?xml version='1.0'?>\n<Species>\n</Species>")
    entry = '<Species>\n\t\t<Species GUID="797f75c2" Path="species/ribo_797f75c2/ribo.species" />\n\t</Species>'
    text = f'<?xml version="1.0" encoding="utf-16"?>\n<Population>\n\t{entry}\n</Population>'
    # M writes UTF-16.
    (folder / "all.population").write_text(text, encoding="utf-16")
    return folder / "all.population"


def m_export(folder: Path) -> Path:
    table = {**coordinates(*POSITIONS.tolist()), **angles(*ZYZ.tolist()), "rlnRandomSubset": [1, 2]}
    return write(folder / "m.star", star_loop("", {**table, "rlnMicrographName": [f"{TOMOGRAM}.tomostar"] * 2}))


def pytom_match_pick(folder: Path) -> Path:
    table = {**relion_columns(), "rlnLCCmax": [0.3, 0.2], "rlnCutOff": [0.1] * 2, "rlnSearchStd": [0.05] * 2}
    table |= {"rlnDetectorPixelSize": [VOXEL] * 2, "rlnMicrographName": [TOMOGRAM] * 2}
    return write(folder / "TS_01_particles.star", star_loop("", table))


def picks(folder: Path) -> Path:
    return write(folder / "TS_01_particles.star", star_loop("", {"rlnTomoName": [TOMOGRAM] * 2, **relion_columns()}))


def dynamo(folder: Path) -> Path:
    whole, rest = np.round(VOXELS), VOXELS - np.round(VOXELS)
    lines = []
    for row, (at, shift, pose) in enumerate(zip(whole, rest, DYNAMO, strict=True), start=1):
        cells = [row + 40, 1, 1, *shift, *pose, 0.15 * row, 0, 0, 1, -60, 60, -60, 60, 0, 0, 3, 1, row, 0, *at]
        lines.append(" ".join(f"{cell:.10g}" for cell in [*cells, 0, 0, 0, 0, 0, 1, 0, 1, 0]))
    write(folder / "tomograms.doc", f"   2   /data/TS_09.mrc\n   3   /data/{TOMOGRAM}.mrc\n")
    return write(folder / "aligned.tbl", "\n".join(lines) + "\n")


STOPGAP_TAGS = (
    *("motl_idx", "tomo_num", "object", "subtomo_num", "halfset", "orig_x", "orig_y", "orig_z", "score"),
    *("x_shift", "y_shift", "z_shift", "phi", "psi", "the", "class"),
)


def stopgap(folder: Path) -> Path:
    head = "\ndata_stopgap_motivelist\n\nloop_\n" + "".join(f"_{tag}\n" for tag in STOPGAP_TAGS) + "\n"
    lines = []
    for row, (voxel, (phi, the, psi)) in enumerate(zip(VOXELS, MOTIVE, strict=True), start=1):
        whole, rest = np.round(voxel), voxel - np.round(voxel)
        cells = [row, 3, 1, row + 6, "AB"[row - 1], *whole, 0.25, *rest, phi, psi, the, 2]
        lines.append("  ".join(cell if isinstance(cell, str) else f"{cell:.8g}" for cell in cells))
    write(folder / "tomograms.doc", f"3 /data/{TOMOGRAM}.rec\n")
    return write(folder / "allmotl_1.star", head + "\n".join(lines) + "\n")


def motive_rows() -> np.ndarray:
    rows = np.zeros((2, 20))
    rows[:, 0], rows[:, 3], rows[:, 4], rows[:, 5], rows[:, 19] = 0.5, (7, 8), 3, 1, (1, 2)
    # TOM counts voxels from 1.
    rows[:, 7:10] = np.round(VOXELS) + 1
    rows[:, 10:13] = VOXELS - np.round(VOXELS)
    rows[:, [16, 18, 17]] = MOTIVE
    return rows


def em_bytes(rows: np.ndarray, kind: str = "<f4") -> bytes:
    code = {"f4": 5, "f8": 9}[kind[1:]]
    head = bytes([6 if kind[0] == "<" else 3, 0, 0, code]) + struct.pack(
        f"{kind[0]}3i", rows.shape[1], rows.shape[0], 1
    )
    return head.ljust(512, b"\0") + rows.astype(kind).tobytes()


def em(folder: Path) -> Path:
    write(folder / "tomograms.doc", f"3 /data/{TOMOGRAM}.rec\n")
    (folder / "allmotl_1.em").write_bytes(em_bytes(motive_rows(), "<f8"))
    return folder / "allmotl_1.em"


def motive_table(folder: Path) -> Path:
    """A row a particle without a header, as MATLAB writes a motive list that was turned."""
    write(folder / "tomograms.doc", f"3 /data/{TOMOGRAM}.rec\n")
    rows = [",".join(f"{value:.9g}" for value in row) for row in motive_rows().tolist()]
    return write(folder / "allmotl_1.csv", "\n".join([*rows, ""]))


def copick_points(rotations: np.ndarray = ROTATIONS, shift: float = 5.0) -> list[dict[str, object]]:
    points = []
    for position, rotation in zip(POSITIONS, rotations, strict=True):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, shift
        location = dict(zip("xyz", (position - shift).tolist(), strict=True))
        points.append({"location": location, "transformation_": matrix.tolist(), "instance_id": 0, "score": 0.9})
    return points


def copick_picks(**changes: object) -> str:
    picks = {"pickable_object_name": "ribosome", "user_id": "me", "session_id": "1", "run_name": TOMOGRAM}
    picks |= {"voxel_spacing": VOXEL, "unit": "angstrom", "points": copick_points(), "trust_orientation": True}
    return json.dumps({**picks, **changes}, indent=4)


def copick(folder: Path) -> Path:
    return write(folder / "me_1_ribosome.json", copick_picks())


def copick_project(folder: Path) -> Path:
    write(
        folder / "overlay" / "ExperimentRuns" / TOMOGRAM / "Picks" / "me_1_ribosome.json", copick_picks(run_name=None)
    )
    config = {"name": "project", "pickable_objects": [{"name": "ribosome", "is_particle": True}]}
    return write(folder / "copick_config.json", json.dumps({**config, "overlay_root": f"local://{folder}/overlay/"}))


def ndjson(folder: Path) -> Path:
    place = folder / TOMOGRAM / "Reconstructions" / "VoxelSpacing10.000" / "Annotations"
    lines = []
    for voxel, rotation in zip(VOXELS, ROTATIONS, strict=True):
        location = dict(zip("xyz", voxel.tolist(), strict=True))
        lines.append({"type": "orientedPoint", "location": location, "xyz_rotation_matrix": rotation.tolist()})
    return write(place / "100-ribosome-1.0_orientedpoint.ndjson", "\n".join(map(json.dumps, lines)))


def imod_bytes(points: np.ndarray, views: np.ndarray | None = None, *, pixel: tuple[float, int] = (1.0, 0)) -> bytes:
    """A model of one object with one contour, as 3dmod writes it: big-endian chunks, a mesh and views of the slicer."""
    head = b"IMODV1.2" + b"model".ljust(128, b"\0") + struct.pack(">4i", *SIZE, 1) + struct.pack(">5i", 0, 1, 0, 0, 255)
    head += struct.pack(">6f", 0, 0, 0, 1, 1, 1) + struct.pack(">5i", 0, 0, 0, 3, 128)
    head += struct.pack(">fi", *pixel) + struct.pack(">i3f", 0, 0, 0, 0)
    body = b"OBJT" + bytes(176)
    if len(points):
        body += b"CONT" + struct.pack(">4i", len(points), 0, 0, 0) + points.astype(">f4").tobytes()
    body += b"MESH" + struct.pack(">2iI2h", 2, 6, 0, 0, 0) + bytes(2 * 12) + struct.pack(">6i", -25, 0, 1, 0, -22, -1)
    body += b"IMAT" + struct.pack(">i", 16) + bytes(16)
    for angle, centre in views if views is not None else ():
        body += b"SLAN" + struct.pack(">i", 60) + struct.pack(">i6f", 1, *angle, *centre) + bytes(32)
    return head + body + b"IEOF"


def imod(folder: Path) -> Path:
    slicer = -_R.as_euler("xyz", degrees=True)
    (folder / "points.mod").write_bytes(imod_bytes(VOXELS, list(zip(slicer, VOXELS, strict=True)), pixel=(1.0, -9)))
    return folder / "points.mod"


PEET_HEAD = (
    "CCC,reserved,reserved,pIndex,wedgeWT,NA,NA,NA,NA,NA,xOffset,yOffset,zOffset,NA,NA,reserved,"
    "EulerZ(1),EulerZ(3),EulerX(2),reserved,CREATED WITH PEET Version 1.14.0 21-Feb-2020"
)


def peet(folder: Path) -> Path:
    offset = np.array([[1.0, -2.0, 0.5], [0.0, 0.25, 3.0]])
    (folder / "particles.mod").write_bytes(imod_bytes(np.vstack([[[9, 9, 9]], VOXELS - offset])))
    lines = [PEET_HEAD]
    for index, (moved, (phi, theta, psi)) in enumerate(zip(offset, MOTIVE, strict=True), start=2):
        lines.append(",".join(map(str, [0.4, 0, 0, index, 0, 0, 0, 0, 0, 0, *moved, 0, 0, 0, phi, psi, theta, 0])))
    return write(folder / "run_MOTL_Tom1_Iter4.csv", "\n".join(lines) + "\n")


def peet_project(folder: Path) -> Path:
    peet(folder).rename(folder / "run_MOTL_Tom1_Iter10.csv")
    old = [PEET_HEAD, ",".join(["0", "0", "0", "1", *["0"] * 16])]
    write(folder / "run_MOTL_Tom1_Iter4.csv", "\n".join(old) + "\n")
    files = [f"fnVolume = {{'../{TOMOGRAM}.rec'}}", "fnModParticle = {'particles.mod'}"]
    return write(folder / "run.prm", "\n".join([*files, "initMOTL = 3", "fnOutput = 'run'"]) + "\n")


UNBINNED = 2.5
"""Å of EMAN2's unbinned pixels."""
MIDDLE = np.array(SIZE) // 2 * VOXEL


def eman2_boxes(folder: Path) -> Path:
    places = ((POSITIONS - MIDDLE) / UNBINNED).tolist()
    boxes = [[*place, "tm", 3.5 + row, row] for row, place in enumerate(places)]
    classes = {"0": {"boxsize": 64, "name": "ribo"}, "1": {"boxsize": 64, "name": "other"}}
    info = {"apix_unbin": UNBINNED, "boxes_3d": boxes, "class_list": classes, "tlt_params": [[0, 0, 84, -60, 0]]}
    return write(folder / f"{TOMOGRAM}_info.json", json.dumps(info))


def lst(rows: list[tuple[int, str, object]]) -> str:
    """A list of images in EMAN2's layout: lines of one length after three of comments."""
    lines = [f"{number}\t{source}\t{json.dumps(facts)}" for number, source, facts in rows]
    width = max(map(len, lines)) + 1
    head = f"#LSX\n# This file is in fast LST format.\n# {width + 1}\n"
    return head + "".join(f"{line:<{width}}\n" for line in lines)


def eman2(folder: Path) -> Path:
    """Alignments of particles whose boxes lie off them; where boxes lie, and the size of a pixel, is in other files."""
    pixel, off = 5.0, np.array([[15.0, -5.0, 10.0], [0.0, 20.0, -30.0]])
    source = f"particles3d/{TOMOGRAM}__ribo_bin2.hdf"
    (folder / "particles3d").mkdir()
    with h5py.File(folder / source, "w") as file:
        image = file.create_group("MDF/images/0")
        image.create_dataset("image", data=np.zeros((2, 2, 2), np.float32))
        image.attrs.update({f"EMAN.apix_{axis}": pixel for axis in "xyz"})
    places, aligned = [], []
    for row, (rotation, moved) in enumerate(zip(ROTATIONS, off, strict=True)):
        # x' = A x + t brings the particle, which lies at the end of `moved`, to the origin.
        shift = -rotation.T @ moved / pixel
        matrix = np.column_stack([rotation.T, shift]).ravel().tolist()
        transform = {"__class__": "Transform", "matrix": str(matrix)}
        places.append((row, source, {"coord": ((POSITIONS[row] - moved - MIDDLE) / pixel).tolist(), "idx2d": [row]}))
        aligned.append((row, source, {"score": -0.25 - row, "class": row, "xform.align3d": transform}))
    write(folder / "particle_info_3d.lst", lst(places))
    return write(folder / "aliptcls3d_02.lst", lst(aligned))


def cbox(folder: Path) -> Path:
    table = {"CoordinateX": (VOXELS[:, 0] - 12).tolist(), "CoordinateY": (VOXELS[:, 1] - 12).tolist()}
    table |= {"CoordinateZ": VOXELS[:, 2].tolist(), "Width": [24, 24], "Height": [24, 24], "Depth": [24, 24]}
    table |= {"EstWidth": ["<NA>"] * 2, "EstHeight": ["<NA>"] * 2, "Confidence": [0.9, 0.5], "NumBoxes": ["<NA>"] * 2}
    head = "data_global\n\n_cbox_format_version 1.0\n\n"
    return write(
        folder / "TS_01.cbox", head + star_loop("cryolo", table) + star_loop("cryolo_include", {"slice_index": []})
    )


def deepfinder(folder: Path) -> Path:
    lines = [
        f'  <object tomo_idx="0" class_label="{row}" x="{x}" y="{y}" z="{z}" phi="{phi}" psi="{psi}" the="{the}"/>'
        for row, ((x, y, z), (phi, the, psi)) in enumerate(zip(VOXELS.tolist(), MOTIVE.tolist(), strict=True), start=1)
    ]
    return write(folder / "objl.xml", "<objlist>\n" + "\n".join(lines) + "\n</objlist>\n")


def pytom(folder: Path) -> Path:
    lines = ["<!-- PyTom Version: 1.0 -->", "<ParticleList>"]
    for (x, y, z), (phi, theta, psi) in zip((VOXELS - [1, 0, -2]).tolist(), MOTIVE.tolist(), strict=True):
        lines += [
            '  <Particle Filename="particle_0.em">',
            f'    <Rotation Z1="{phi}" Z2="{psi}" X="{theta}" Paradigm="ZXZ"/>',
            '    <Shift X="1.0" Y="0.0" Z="-2.0"/>',
            f'    <PickPosition X="{x}" Y="{y}" Z="{z}" Origin="{TOMOGRAM}.em" Binning="4"/>',
            '    <Score Type="FLCFScore" Value="0.3"/>\n    <Class Name="0"/>\n  </Particle>',
        ]
    return write(folder / "pl.xml", "\n".join([*lines, "</ParticleList>\n"]))


def polnet(folder: Path) -> Path:
    quaternions = _R.as_quat(scalar_first=True)
    rows = zip(POSITIONS.tolist(), quaternions.tolist(), strict=True)
    head = "type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n"
    lines = ["\t".join(map(str, ["cprotein", 1, "pdb_4v4r", 0, *at, *turn])) for at, turn in rows]
    return write(folder / f"{TOMOGRAM}_motif_list.csv", head + "\n".join(lines) + "\n")


def csv(folder: Path) -> Path:
    rows = [",".join(map(str, [TOMOGRAM, *at, *pose])) for at, pose in zip(POSITIONS, ZYZ, strict=True)]
    return write(folder / "picks.csv", "tomogram,x,y,z,rot,tilt,psi\n" + "\n".join(rows) + "\n")


def tsv(folder: Path) -> Path:
    return write(folder / "picks.tsv", csv(folder).read_text().replace(",", "\t"))


def relion_table(folder: Path) -> Path:
    head = ["rlnTomoName", *relion_columns(), "rlnTomoTiltSeriesPixelSize"]
    rows = [[TOMOGRAM, *at, *pose, VOXEL] for at, pose in zip(VOXELS.tolist(), ZYZ.tolist(), strict=True)]
    lines = [",".join(map(str, row)) for row in [head, *rows]]
    return write(folder / "particles.csv", "\n".join([*lines, ""]))


def pytme(folder: Path) -> Path:
    rows = ["\t".join(map(str, [*at, *pose, 0.3, 0.0])) for at, pose in zip(VOXELS, ZYZ, strict=True)]
    return write(folder / "orientations.tsv", "x\ty\tz\teuler_x\teuler_y\teuler_z\tscore\tdetail\n" + "\n".join(rows))


def emclarity(folder: Path) -> Path:
    """Two orientations a row, as where several peaks are kept; unbinned pixels, from 1, of a search binned by 4."""
    inverse = ROTATIONS.transpose(0, 2, 1)
    rows = [
        [9.5 - row, 4, 0, row + 7, 1, 1, 1, 1, 1, 0, *(4 * (at + 1)), 10, 20, 30, *matrix.ravel(order="F"), 1]
        for row, (at, matrix) in enumerate(zip(VOXELS, inverse, strict=True))
    ]
    second = [*rows[0][:16], *np.eye(3).ravel(), 1]
    lines = [" ".join(f"{value:.6f}" for value in [*row, *second]) for row in rows]
    return write(folder / "TS_01_1_bin4.csv", "\n".join(lines) + "\n")


def napari(folder: Path) -> Path:
    rows = [f"{row}.0,{z},{y},{x}" for row, (x, y, z) in enumerate(VOXELS.tolist())]
    return write(folder / "Points.csv", "index,axis-0,axis-1,axis-2\n" + "\n".join(rows) + "\n")


def coords(folder: Path) -> Path:
    return write(folder / "TS_01.coords", "".join(f"{x} {y} {z}\n" for x, y, z in VOXELS.tolist()))


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "relion5": relion5,
    "relion4": relion4,
    "warp": warp,
    "warp-matching": warp_matching,
    "m": m_species,
    "m-project": m_population,
    "m-export": m_export,
    "pytom-match-pick": pytom_match_pick,
    "picks": picks,
    "dynamo": dynamo,
    "stopgap": stopgap,
    "em": em,
    "motive-table": motive_table,
    "copick": copick,
    "copick-project": copick_project,
    "ndjson": ndjson,
    "imod": imod,
    "peet": peet,
    "peet-project": peet_project,
    "eman2-boxes": eman2_boxes,
    "eman2": eman2,
    "cbox": cbox,
    "deepfinder": deepfinder,
    "pytom": pytom,
    "polnet": polnet,
    "csv": csv,
    "tsv": tsv,
    "relion-table": relion_table,
    "pytme": pytme,
    "emclarity": emclarity,
    "napari": napari,
    "coords": coords,
}
"""A list of each dialect, by the dialect's name: positions and rotations are those above."""

WITHOUT_ROTATIONS = ("eman2-boxes", "cbox", "napari", "coords")
"""Dialects that hold positions alone."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changed, cut out, doubled, or replaced by what often does harm."""
    raw = bytearray(data)
    harm = (
        b"nan",
        b"inf",
        b"-1",
        b"",
        b"\0",
        b"\xff",
        b"1e400",
        b'"',
        b"#",
        b"loop_\n",
        b"data_\n",
        b"<",
        b"{",
        b"[",
        b",",
        b"\t",
    )
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw)) if raw else 0
        length = rng.choice((1, 1, 2, 8, 40))
        match rng.randrange(5):
            case 0:
                raw[at : at + length] = rng.choice(harm)
            case 1:
                raw[at : at + length] = bytes(rng.randrange(256) for _ in range(length))
            case 2:
                del raw[at : at + length]
            case 3:
                raw[at:at] = raw[at : at + length]
            case 4:
                del raw[at:]
    return bytes(raw)
