"""Lists that other programs wrote, where they lie beside the project: read as other readers read them."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles
from napari_orient.engine.particles import Extent
from napari_orient.engine.rotations import angle_deg

DATA = Path(os.environ.get("NAPARI_ORIENT_DATA", Path(__file__).parents[3] / "shared" / "data"))
LISTS, CASES = DATA / "formats", DATA / "cases"
TOMOGRAM = {"s01": Extent((1000, 900, 300), 10.0)}


@pytest.mark.parametrize("name", ["crop.tbl", "example.tbl"])
def test_every_row_of_real_tables_of_dynamo_is_read_as_dynamotable_reads_it(name):
    import dynamotable

    table = dynamotable.read(str(LISTS / "dynamo" / name))
    read = read_particles(LISTS / "dynamo" / name, pixel_size=15.0)
    assert len(read) == len(table) > 4000
    expected = table[["x", "y", "z"]].to_numpy() + table[["dx", "dy", "dz"]].to_numpy()
    np.testing.assert_allclose(read.positions, expected * 15, atol=1e-6)
    turned = Rotation.from_euler("zxz", table[["tdrot", "tilt", "narot"]].to_numpy(float), degrees=True).inv()
    assert angle_deg(read.rotations, turned.as_matrix()).max() < 1e-6
    assert len(read.tomogram_names) == table["tomo"].nunique()


@pytest.mark.parametrize("name", ["au_1.em", "ribosome.em"])
def test_real_motive_lists_are_read_as_emfile_reads_them(name):
    import emfile

    values = emfile.read(LISTS / "motl" / name)[1][0]
    read = read_particles(LISTS / "motl" / name, pixel_size=10.0)
    np.testing.assert_allclose(read.positions, 10 * (values[:, 7:10] + values[:, 10:13] - 1), atol=1e-2)
    turned = Rotation.from_euler("zxz", values[:, [16, 18, 17]].astype(float), degrees=True)
    assert angle_deg(read.rotations, turned.as_matrix()).max() < 1e-6


@pytest.mark.parametrize(("name", "count"), [("col_missing.em", 19), ("extra_col.em", 21)])
def test_broken_motive_lists_are_refused(name, count):
    with pytest.raises(InputError, match=f"has {count} values a particle"):
        read_particles(LISTS / "motl" / name, pixel_size=10.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f1_warp39.star", [3000, 2400, 750]),
        ("f4_ptm.star", [3000, 2400, 300]),
        ("f4_warpmatch.star", [2500, 4500, 2250]),
        ("f4_relion5pick/annotations/s01_particles.star", [3000, 2400, 300]),
        ("f6_orientations.tsv", [3000, 2400, 300]),
        ("r2/Refine3D/job020/run_data.star", [3010, 3020, 780]),
        ("r3/p.star", [3000, 2400, 750]),
    ],
)
def test_small_lists_are_read_in_their_own_units(name, expected):
    read = read_particles(CASES / name, tomogram="s01", extents=TOMOGRAM)
    np.testing.assert_allclose(read.positions, [expected])
