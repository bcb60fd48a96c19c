"""Other programs' own readers, writers and averages as oracles of what is read and written here."""

import json
import re

import numpy as np
import pytest
from foreign_lists import DYNAMO, MOTIVE, POSITIONS, ROTATIONS, SAMPLES, SIZE, TOMOGRAM, VOXEL, VOXELS, ZYZ, imod_bytes
from pydantic import BaseModel, Field, field_validator
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.dialects import written_dialects
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.rotations import angle_deg, even_rotations, random_rotations

EXTENT = Extent(SIZE, VOXEL)


def golden() -> Particles:
    return Particles(positions=POSITIONS, rotations=ROTATIONS, tomogram=TOMOGRAM, extents={TOMOGRAM: EXTENT})


def many(count: int = 300) -> Particles:
    positions = np.random.default_rng(3).uniform(0, 300, (count, 3))
    return Particles(
        positions=positions, rotations=even_rotations(count), tomogram=TOMOGRAM, extents={TOMOGRAM: EXTENT}
    )


# --- readers --------------------------------------------------------------------------------------------------------


def test_starfile_reads_relion_s_lists_with_the_angles_of_the_conventions(tmp_path):
    import starfile

    write_particles(tmp_path / "a.star", many())
    table = starfile.read(tmp_path / "a.star", always_dict=True)["particles"]
    found = Rotation.from_euler("ZYZ", table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(), degrees=True)
    assert angle_deg(found.inv().as_matrix(), many().rotations).max() < 1e-4
    centred = table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(centred + EXTENT.centre, many().positions, atol=1e-5)


def test_starfile_reads_stopgap_s_lists(tmp_path):
    import starfile

    write_particles(tmp_path / "a.star", many(), dialect="stopgap")
    table = starfile.read(tmp_path / "a.star")
    found = Rotation.from_euler("zxz", table[["phi", "the", "psi"]].to_numpy(), degrees=True)
    assert angle_deg(found.as_matrix(), many().rotations).max() < 1e-4
    voxels = table[["orig_x", "orig_y", "orig_z"]].to_numpy() + table[["x_shift", "y_shift", "z_shift"]].to_numpy()
    np.testing.assert_allclose(voxels * VOXEL, many().positions, atol=1e-4)


def test_dynamotable_reads_and_writes_the_tables_that_are_written_and_read_here(tmp_path):
    import dynamotable

    write_particles(tmp_path / "a.tbl", many())
    table = dynamotable.read(str(tmp_path / "a.tbl"), str(tmp_path / "a.doc"))
    found = Rotation.from_euler("zxz", table[["tdrot", "tilt", "narot"]].to_numpy(), degrees=True).inv()
    assert angle_deg(found.as_matrix(), many().rotations).max() < 1e-4
    np.testing.assert_allclose(table[["x", "y", "z"]].to_numpy() * VOXEL, many().positions, atol=1e-4)
    assert set(table["tomo_file"]) == {TOMOGRAM}
    assert set(table["apix"]) == {VOXEL}
    table[["dx", "dy", "dz"]] = [0.25, -0.5, 1.0]
    dynamotable.write(table, str(tmp_path / "b.tbl"))
    read = read_particles(tmp_path / "b.tbl")
    np.testing.assert_allclose(read.positions, many().positions + VOXEL * np.array([0.25, -0.5, 1.0]), atol=1e-4)
    assert angle_deg(read.rotations, many().rotations).max() < 1e-4


def test_emfile_reads_and_writes_the_motive_lists_that_are_written_and_read_here(tmp_path):
    import emfile

    write_particles(tmp_path / "a.em", many())
    header, values = emfile.read(tmp_path / "a.em")
    assert (header["xdim"], header["ydim"], header["zdim"]) == (20, 300, 1)
    found = Rotation.from_euler("zxz", values[0][:, [16, 18, 17]], degrees=True)
    assert angle_deg(found.as_matrix(), many().rotations).max() < 1e-4
    # TOM counts voxels from 1.
    np.testing.assert_allclose((values[0][:, 7:10] + values[0][:, 10:13] - 1) * VOXEL, many().positions, atol=1e-4)
    emfile.write(tmp_path / "b.em", values.astype(np.float64))
    (tmp_path / "b_tomograms.csv").write_bytes((tmp_path / "a_tomograms.csv").read_bytes())
    read = read_particles(tmp_path / "b.em")
    np.testing.assert_allclose(read.positions, many().positions, atol=1e-4)
    assert angle_deg(read.rotations, many().rotations).max() < 1e-4


def test_eulerangles_turns_the_angles_of_one_program_into_those_of_another():
    import eulerangles

    generic = many().rotations
    zyz = Rotation.from_matrix(generic).inv().as_euler("ZYZ", degrees=True)
    zxz = Rotation.from_matrix(generic).inv().as_euler("zxz", degrees=True)
    # Where rot or psi is exactly 0 or 180 degrees, version 1.0.2 loses the sign of a sine and is wrong: left out.
    sound = (np.abs(zyz[:, [0, 2]] % 180) > 1e-6).all(axis=1)
    assert sound.sum() > 250
    turned = eulerangles.convert_eulers(zyz, source_meta="RELION", target_meta="dynamo")
    found = Rotation.from_euler("zxz", turned[sound], degrees=True).as_matrix()
    assert angle_deg(found, Rotation.from_euler("zxz", zxz[sound], degrees=True).as_matrix()).max() < 1e-6
    back = eulerangles.convert_eulers(DYNAMO, source_meta="dynamo", target_meta="RELION")
    assert (
        angle_deg(
            Rotation.from_euler("ZYZ", back, degrees=True).as_matrix(),
            Rotation.from_euler("ZYZ", ZYZ, degrees=True).as_matrix(),
        ).max()
        < 1e-6
    )


def test_pandas_and_json_read_what_is_written_as_text(tmp_path):
    import pandas as pd

    write_particles(tmp_path / "a.csv", golden())
    table = pd.read_csv(tmp_path / "a.csv", comment="#")
    np.testing.assert_allclose(table[["x", "y", "z"]], POSITIONS, atol=1e-6)
    write_particles(tmp_path / "a.ndjson", golden())
    points = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    np.testing.assert_allclose([[point["location"][axis] for axis in "xyz"] for point in points], VOXELS, atol=1e-6)
    np.testing.assert_allclose([point["xyz_rotation_matrix"] for point in points], ROTATIONS, atol=1e-8)


class Location(BaseModel):
    x: float
    y: float
    z: float


class PickPoint(BaseModel):
    """A point as copick 1.31.0 checks it (src/copick/models.py, CopickPoint)."""

    location: Location
    transformation_: list[list[float]] = Field(default_factory=lambda: np.eye(4).tolist())
    instance_id: int | None = 0
    score: float | None = 1.0

    @field_validator("transformation_")
    @classmethod
    def is_rigid(cls, value: list[list[float]]) -> list[list[float]]:
        matrix = np.array(value)
        assert matrix.shape == (4, 4)
        assert np.allclose(matrix[3], [0, 0, 0, 1])
        return value


class PicksFile(BaseModel):
    """A file of picks as copick 1.31.0 checks it (src/copick/models.py, CopickPicksFile).

    The package itself wants zarr 2, which has no place beside the zarr 3 that stores are read with here.
    """

    pickable_object_name: str
    user_id: str
    session_id: str
    run_name: str | None = None
    voxel_spacing: float | None = None
    unit: str = "angstrom"
    points: list[PickPoint] | None = Field(default_factory=list)
    trust_orientation: bool | None = True


@pytest.mark.parametrize("posed", [True, False])
def test_the_picks_that_are_written_fit_the_schema_of_copick(tmp_path, posed):
    particles = golden().replace(kind=np.full(2, "ribosome"))
    write_particles(tmp_path / "a.json", particles if posed else particles.replace(rotations=None))
    content = json.loads((tmp_path / "a.json").read_text())
    picks = PicksFile.model_validate(content, strict=True)
    assert set(content) == set(PicksFile.model_fields)
    assert {name for point in content["points"] for name in point} == set(PickPoint.model_fields)
    assert (picks.run_name, picks.voxel_spacing, picks.trust_orientation) == (TOMOGRAM, VOXEL, posed)
    # copick takes the particle's centre for the location plus the transformation's translation.
    matrices = np.array([point.transformation_ for point in picks.points])
    places = np.array([[point.location.x, point.location.y, point.location.z] for point in picks.points])
    np.testing.assert_allclose(places + matrices[:, :3, 3], POSITIONS)
    np.testing.assert_allclose(matrices[:, :3, :3], ROTATIONS if posed else [np.eye(3)] * 2, atol=1e-8)
    for name in (picks.pickable_object_name, picks.user_id, picks.session_id):
        assert not re.search(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]', name)


def test_imodmodel_reads_the_models_that_are_read_here_and_we_read_those_that_it_writes(tmp_path):
    import imodmodel
    import pandas as pd

    slicer = -Rotation.from_matrix(ROTATIONS).as_euler("xyz", degrees=True)
    (tmp_path / "a.mod").write_bytes(imod_bytes(VOXELS, list(zip(slicer, VOXELS, strict=True))))
    ours = read_particles(tmp_path / "a.mod", pixel_size=VOXEL)
    points = imodmodel.read(tmp_path / "a.mod")
    np.testing.assert_allclose(ours.positions, VOXEL * points[["x", "y", "z"]].to_numpy(), rtol=1e-6)
    views = imodmodel.read(tmp_path / "a.mod", annotation="slicer_angles")
    turned = Rotation.from_euler("xyz", -views[["x_rot", "y_rot", "z_rot"]].to_numpy(float), degrees=True)
    assert angle_deg(ours.rotations, turned.as_matrix()).max() < 1e-4
    table = pd.DataFrame({"object_id": [0, 0, 1], "contour_id": [0, 1, 0], "x": [1.5, 2, 3], "y": 4.0, "z": 7.25})
    imodmodel.write(table, tmp_path / "b.mod")
    read = read_particles(tmp_path / "b.mod", pixel_size=2.0)
    np.testing.assert_allclose(read.positions, 2 * table[["x", "y", "z"]].to_numpy())
    assert read.extra["imodObject"].tolist() == ["1", "1", "2"]


def test_the_golden_numbers_are_those_of_the_conventions():
    np.testing.assert_allclose(MOTIVE[0], [-67.166346, 100.980575, 129.093859], atol=1e-4)
    np.testing.assert_allclose(DYNAMO[0], [50.906141, 100.980575, -112.833654], atol=1e-4)
    np.testing.assert_allclose(ZYZ[0], [157.166346, 100.980575, 140.906141], atol=1e-4)


# --- the physical check ---------------------------------------------------------------------------------------------

SIDE = 32
"""Voxels of the map's side."""


def lopsided_map(rng: np.random.Generator) -> np.ndarray:
    """A map (z, y, x) of blobs without any symmetry."""
    density = np.zeros((SIDE,) * 3)
    for place in rng.integers(8, 24, (12, 3)):
        density[tuple(place)] += rng.uniform(0.5, 1.5)
    return gaussian_filter(density, 1.2)


def rotated(density: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The map in a pose: its value at x is that of the map at Rᵀ x, both from the middle voxel, xyz."""
    axis = np.arange(SIDE) - SIDE // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    source = np.stack([x, y, z], axis=-1) @ rotation
    return map_coordinates(density, np.moveaxis(source[..., ::-1], -1, 0) + SIDE // 2, order=3)


def poses_in_file(path, name: str) -> tuple[np.ndarray, Rotation]:
    """Voxels and poses of a written list, by the library and the angles of its program."""
    if name == "relion4":
        import starfile

        table = starfile.read(path, always_dict=True)["particles"]
        turned = Rotation.from_euler("ZYZ", table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]], degrees=True).inv()
        return table[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy(), turned
    if name == "dynamo":
        import dynamotable

        table = dynamotable.read(str(path))
        turned = Rotation.from_euler("zxz", table[["tdrot", "tilt", "narot"]], degrees=True).inv()
        return table[["x", "y", "z"]].to_numpy(), turned
    import emfile

    values = emfile.read(path)[1][0]
    turned = Rotation.from_euler("zxz", values[:, [16, 18, 17]], degrees=True)
    return values[:, 7:10] + values[:, 10:13] - 1, turned


@pytest.mark.parametrize("name", ["relion4", "dynamo", "em"])
def test_particles_that_acryo_averages_from_a_written_list_show_the_map(tmp_path, name):
    """With the inverse convention they do not: https://github.com/hanjinliu/acryo."""
    import acryo

    rng = np.random.default_rng(5)
    density, grid = lopsided_map(rng), np.array([[x, y, 24] for x in (24, 72, 120, 168) for y in (24, 72, 120, 168)])
    rotations = random_rotations(len(grid), rng)
    tomogram = np.zeros((48, 192, 192), np.float32)
    for (x, y, z), rotation in zip(grid, rotations, strict=True):
        half = SIDE // 2
        tomogram[z - half : z + half, y - half : y + half, x - half : x + half] += rotated(density, rotation)
    particles = Particles(
        positions=grid * VOXEL,
        rotations=rotations,
        tomogram=TOMOGRAM,
        extents={TOMOGRAM: Extent((192, 192, 48), VOXEL)},
    )
    path = tmp_path / f"a{written_dialects()[name].suffixes[0]}"
    write_particles(path, particles, dialect=name)
    voxels, turned = poses_in_file(path, name)
    reverse = np.eye(3)[::-1]
    correlations = {}
    for label, pose in (("right", turned), ("inverse", turned.inv())):
        # acryo has z, y, x throughout.
        rotator = Rotation.from_matrix(reverse @ pose.as_matrix() @ reverse)
        molecules = acryo.Molecules(voxels[:, ::-1] * VOXEL, rotator)
        loader = acryo.SubtomogramLoader(tomogram, molecules, order=1, scale=VOXEL, output_shape=(SIDE + 1,) * 3)
        average = np.asarray(loader.average())[:SIDE, :SIDE, :SIDE]
        correlations[label] = np.corrcoef(average.ravel(), density.ravel())[0, 1]
    assert correlations["right"] > 0.97
    assert correlations["inverse"] < 0.9


def test_every_oracle_above_reads_a_sample_of_its_own_program_as_we_do(tmp_path):
    import dynamotable

    path = SAMPLES["dynamo"](tmp_path)
    table = dynamotable.read(str(path), str(tmp_path / "tomograms.doc"))
    read = read_particles(path, pixel_size=VOXEL)
    np.testing.assert_allclose((table[["x", "y", "z"]] + table[["dx", "dy", "dz"]].to_numpy()) * VOXEL, read.positions)
