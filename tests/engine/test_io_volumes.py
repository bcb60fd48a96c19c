"""Volumes in EM, HDF5, TIFF and OME-Zarr, read by parts where they are large; names; damaged files of any format."""

from __future__ import annotations

import gzip
import inspect
import struct
import warnings
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from io_fixtures import saved_mrc, volume
from scipy.ndimage import gaussian_filter

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled, read_tomogram, write_tomogram
from napari_orient.engine.io.volumes import on_demand
from napari_orient.engine.io.volumes.formats import names_volume, volume_name, volumes_in
from napari_orient.engine.io.volumes.on_demand import ChunkedDensity
from napari_orient.engine.particles import Tomogram
from napari_orient.engine.patches import cut_patches

# --- EM, HDF5, TIFF -------------------------------------------------------------------------------------------------


def em_bytes(density: np.ndarray, *, order: str = "<", pixel_size: int = 0) -> bytes:
    """An EM file as TOM's documentation has it: machine, type, sizes, comment, 40 parameters."""
    kinds = {"i1": 1, "i2": 2, "i4": 4, "f4": 5, "f8": 9}
    header = bytearray(512)
    header[0], header[3] = (6 if order == "<" else 5), kinds[density.dtype.str[1:]]
    header[4:16] = struct.pack(f"{order}iii", *density.shape[::-1])
    header[96 + 6 * 4 : 100 + 6 * 4] = struct.pack(f"{order}i", pixel_size)
    return bytes(header) + density.astype(density.dtype.newbyteorder(order)).tobytes()


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_em_volume_is_read_by_parts(tmp_path, kind, order):
    path = tmp_path / "TS_01.em"
    path.write_bytes(em_bytes(volume().astype(kind), order=order, pixel_size=1348))
    read = read_tomogram(path)
    np.testing.assert_array_equal(read.density, volume().astype(kind))
    assert isinstance(read.density, ChunkedDensity)
    assert (read.voxel_size, read.name, read.voxel_size_source) == (13.48, "TS_01", "EM header")


@pytest.mark.parametrize(
    ("parameter", "voxel", "words"), [(1348, 13.48, "in nm: 13.48 Å"), (13480, 13.48, "in Å: 13.48")]
)
def test_the_unit_of_an_em_file_s_pixel_size_is_said(tmp_path, parameter, voxel, words):
    (tmp_path / "a.em").write_bytes(em_bytes(volume(), pixel_size=parameter))
    read = read_tomogram(tmp_path / "a.em")
    assert read.voxel_size == voxel
    assert words in read.notes[0]
    assert read_tomogram(tmp_path / "a.em", voxel_size=8).notes == ()


@pytest.mark.parametrize(("level", "word"), [(128.0, "unsigned"), (0.0, "signed"), (40.0, "")])
def test_bytes_of_em_files_have_the_sign_by_which_the_volume_is_smooth(tmp_path, level, word):
    """The format states none: emfile reads signed bytes, ChimeraX and EMAN2 unsigned ones."""
    import emfile

    grey = gaussian_filter(np.random.default_rng(1).normal(size=(12, 24, 24)), 1)
    values = np.round(level + 30 * grey / np.abs(grey).max())
    raw = values.astype(np.uint8 if level else np.int8).view(np.int8)
    (tmp_path / "a.em").write_bytes(em_bytes(raw))
    read = read_tomogram(tmp_path / "a.em", voxel_size=10)
    np.testing.assert_array_equal(read.density, values)
    assert isinstance(read.density, ChunkedDensity)
    assert [f"read as {word}," in note for note in read.notes] == ([True] if word else [])
    wrong = emfile.read(tmp_path / "a.em")[1] != values
    assert wrong.any() == (word == "unsigned")


def test_an_em_file_without_a_pixel_size_asks_for_it_and_a_motive_list_is_no_volume(tmp_path):
    path = tmp_path / "a.em"
    path.write_bytes(em_bytes(volume()))
    with pytest.raises(InputError, match="states no voxel size"):
        read_tomogram(path)
    assert read_tomogram(path, voxel_size=8).voxel_size == 8
    motives = tmp_path / "motl.em"
    motives.write_bytes(em_bytes(np.zeros((1, 7, 20), np.float32)))
    with pytest.raises(InputError, match="motive list"):
        read_tomogram(motives)
    assert names_volume(path)
    assert not names_volume(motives)
    motives.write_bytes(motives.read_bytes()[:-4])
    with pytest.raises(InputError, match="not whole"):
        read_tomogram(motives)


def eman(path: Path, *densities: np.ndarray, apix: float | None = 10.0, **layout: object) -> Path:
    with h5py.File(path, "w") as file:
        for number, density in enumerate(densities):
            group = file.create_group(f"MDF/images/{number}")
            group.create_dataset("image", data=density, **layout)
            for axis in "xyz" if apix is not None else "":
                group.attrs[f"EMAN.apix_{axis}"] = apix
    return path


@pytest.mark.parametrize("layout", [{}, {"chunks": (2, 3, 4), "compression": "gzip"}])
def test_the_hdf5_of_eman2_is_read_by_parts(tmp_path, layout):
    read = read_tomogram(eman(tmp_path / "TS_01.hdf", volume(), **layout))
    np.testing.assert_array_equal(read.density, volume())
    np.testing.assert_array_equal(read.density[1:3, ::2, 5], volume()[1:3, ::2, 5])
    assert (read.voxel_size, read.name, read.voxel_size_source) == (10, "TS_01", "EMAN2 header")


def test_hdf5_without_a_voxel_size_or_with_several_volumes_is_refused(tmp_path):
    plain = tmp_path / "plain.h5"
    with h5py.File(plain, "w") as file:
        file["a/b"] = volume()
        file["image"] = volume()[0]
    with pytest.raises(InputError, match="states no voxel size"):
        read_tomogram(plain)
    np.testing.assert_array_equal(read_tomogram(plain, voxel_size=5).density, volume())
    with h5py.File(tmp_path / "channels.h5", "w") as file:
        file["exported_data"] = volume()[None, ..., None]
    np.testing.assert_array_equal(read_tomogram(tmp_path / "channels.h5", voxel_size=5).density, volume())
    with pytest.raises(InputError, match="stack of 2 volumes"):
        read_tomogram(eman(tmp_path / "stack.hdf", volume(), volume()))
    with pytest.raises(InputError, match="no volume"):
        read_tomogram(eman(tmp_path / "image.hdf", volume()[0]))
    (tmp_path / "cut.hdf").write_bytes(eman(tmp_path / "whole.hdf", volume()).read_bytes()[:900])
    with pytest.raises(InputError, match="no HDF5 file that can be read"):
        read_tomogram(tmp_path / "cut.hdf")


TIFFS = {
    "ImageJ": {"imagej": True, "resolution": (1 / 1.0, 1 / 1.0), "metadata": {"spacing": 1.0, "unit": "nm"}},
    "OME": {
        "ome": True,
        "metadata": {
            "axes": "ZYX",
            **{f"PhysicalSize{axis}": 1.0 for axis in "XYZ"},
            **{f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"},
        },
    },
    "OME in Å": {
        "ome": True,
        "metadata": {
            "axes": "ZYX",
            **{f"PhysicalSize{axis}": 10.0 for axis in "XY"},
            **{f"PhysicalSize{axis}Unit": "Å" for axis in "XY"},
        },
    },
    "plain": {"resolution": (1e7, 1e7), "resolutionunit": "CENTIMETER", "metadata": None},
    "packed": {"resolution": (1e7, 1e7), "resolutionunit": "CENTIMETER", "metadata": None, "compression": "zlib"},
}


@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_volume_is_read_with_its_resolution(tmp_path, kind):
    path = tmp_path / "TS_01.tif"
    tifffile.imwrite(path, volume(), photometric="minisblack", **TIFFS[kind])
    read = read_tomogram(path)
    np.testing.assert_array_equal(read.density, volume())
    np.testing.assert_array_equal(read.density[1:3, 2:4, 1], volume()[1:3, 2:4, 1])
    assert read.voxel_size == pytest.approx(10, rel=1e-6)
    assert (read.density.chunks is None) == (kind != "packed")


def test_pages_that_are_called_a_series_each_are_the_slices_of_a_volume(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as pages:
        for image in volume():
            pages.write(image, contiguous=False)
    np.testing.assert_array_equal(read_tomogram(path, voxel_size=10.0).density, volume())


def test_the_resolution_of_a_printer_is_no_voxel_size_and_a_picture_no_volume(tmp_path):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(
        path, volume(), photometric="minisblack", resolution=(72, 72), resolutionunit="INCH", metadata=None
    )
    with pytest.raises(InputError, match="states no voxel size"):
        read_tomogram(path)
    assert read_tomogram(path, voxel_size=4).voxel_size == 4
    tifffile.imwrite(path, np.zeros((16, 16, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="expected a grey volume"):
        read_tomogram(path, voxel_size=4)


# --- OME-Zarr -------------------------------------------------------------------------------------------------------


def pyramid(
    path: Path, density: np.ndarray, *, version: str = "0.5", voxel: float = 10.0, unit: str | None = "angstrom"
) -> Path:
    """A store of three levels, written by the package ome-zarr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Some versions warn of their own classes when imported.
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_multiscale

    levels = [density, density[::2, ::2, ::2], density[::4, ::4, ::4]]
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    # Newer versions take units apart from the axes.
    apart = "axes_units" in inspect.signature(write_multiscale).parameters
    units = {"axes_units": dict.fromkeys("zyx", unit)} if apart and unit else {}
    transforms = [[{"type": "scale", "scale": [voxel * 2**level] * 3}] for level in range(3)]
    written = format_from_version(version)
    group = zarr.open_group(str(path), mode="w", zarr_format=written.zarr_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_multiscale(
            levels,
            group,
            axes=axes,
            coordinate_transformations=transforms,
            fmt=written,
            storage_options={"chunks": (8, 8, 8)},
            **units,
        )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_finest_level_of_a_store_is_read_unless_another_voxel_size_is_asked_for(tmp_path, version):
    density = np.random.default_rng(1).normal(size=(24, 20, 28)).astype(np.float32)
    path = pyramid(tmp_path / "TS_01.zarr", density, version=version)
    read = read_tomogram(path)
    np.testing.assert_array_equal(read.density, density)
    assert (read.voxel_size, read.name, read.extent.size) == (10, "TS_01", (28, 20, 24))
    assert read.voxel_size_source.startswith("OME-Zarr, level ")
    coarse = read_tomogram(path, voxel_size=20)
    np.testing.assert_array_equal(coarse.density, density[::2, ::2, ::2])
    assert coarse.voxel_size == 20
    with pytest.raises(InputError, match="levels of 10, 20, 40 Å, and none of 15 Å"):
        read_tomogram(path, voxel_size=15)
    group = zarr.open_group(str(path), mode="r+")
    described = group.attrs.asdict()
    described.get("ome", described)["multiscales"][0]["datasets"].reverse()
    group.attrs.put(described)
    np.testing.assert_array_equal(read_tomogram(path).density, density)


@pytest.mark.parametrize("system", ["intrinsic", {"name": "intrinsic"}])
def test_a_store_that_names_its_coordinate_systems_is_read_in_that_of_its_levels(tmp_path, system):
    path = pyramid(tmp_path / "a.zarr", volume((16, 16, 16)), unit=None)
    group = zarr.open_group(str(path), mode="a")
    described = group.attrs["ome"]["multiscales"][0]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    elsewhere = [{**axis, "unit": "micrometer"} for axis in axes]
    del described["axes"]
    described["coordinateSystems"] = [{"name": "world", "axes": elsewhere}, {"name": "intrinsic", "axes": axes}]
    described["coordinateTransformations"] = [{"type": "scale", "scale": [3.0] * 3, "input": system, "output": "world"}]
    for level, item in enumerate(described["datasets"]):
        steps = [{"type": "scale", "scale": [2.0**level] * 3}, {"type": "translation", "translation": [0.5] * 3}]
        item["coordinateTransformations"] = [{"type": "sequence", "transformations": steps, "output": system}]
    group.attrs["ome"] = {"version": "0.6", "multiscales": [described]}
    assert read_tomogram(path, voxel_size=20).voxel_size == 20
    assert "translation (5, 5, 5) Å" in "".join(read_tomogram(path, voxel_size=20).notes)


def test_a_level_is_opened_by_its_own_path_with_the_size_that_the_store_states(tmp_path):
    path = pyramid(tmp_path / "TS_01.ome.zarr", volume((16, 16, 16)))
    name = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"][0]["datasets"][1]["path"]
    read = read_tomogram(path / name)
    assert (read.voxel_size, read.name) == (20, "TS_01")
    assert read_tomogram(path / name, voxel_size=30).voxel_size == 30


@pytest.mark.parametrize(("unit", "voxel"), [("nanometer", 1.0), ("angstrom", 10.0), ("micrometer", 0.001)])
def test_the_unit_of_a_store_is_minded(tmp_path, unit, voxel):
    path = pyramid(tmp_path / "a.zarr", volume((16, 16, 16)), voxel=voxel, unit=unit)
    assert read_tomogram(path).voxel_size == pytest.approx(10)


def test_a_store_without_a_unit_is_taken_for_angstrom_and_a_scale_of_one_for_unset(tmp_path):
    read = read_tomogram(pyramid(tmp_path / "a.zarr", volume((16, 16, 16)), unit=None))
    assert read.voxel_size == 10
    assert "no unit" in read.notes[0]
    with pytest.raises(InputError, match=r"voxels of 1\.0 Å"):
        read_tomogram(pyramid(tmp_path / "b.zarr", volume((16, 16, 16)), voxel=1.0))


def test_axes_of_length_one_before_z_are_passed_over_and_the_scales_of_both_places_multiplied(tmp_path):
    density = np.random.default_rng(6).normal(size=(12, 10, 14)).astype(np.float32)
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2)
    group.create_array("s0", data=density[None, None], chunks=(1, 1, 8, 8, 8), chunk_key_encoding={"name": "v2"})
    axes = [{"name": name} for name in "tc"] + [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    own = [{"type": "scale", "scale": [1, 1, 0.5, 0.5, 0.5]}]
    common = [{"type": "scale", "scale": [1, 1, 2.0, 2.0, 2.0]}]
    levels = [{"path": "s0", "coordinateTransformations": own}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": levels, "coordinateTransformations": common}
    ]
    read = read_tomogram(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read.density, density)
    assert read.voxel_size == 10


def test_a_plain_array_and_an_image_of_bioformats2raw_are_read(tmp_path):
    density = volume((9, 10, 11))
    zarr.create_array(str(tmp_path / "plain.zarr"), data=density, chunks=(4, 4, 4))
    with pytest.raises(InputError, match="states no voxel size"):
        read_tomogram(tmp_path / "plain.zarr")
    np.testing.assert_array_equal(read_tomogram(tmp_path / "plain.zarr", voxel_size=5).density, density)
    outer = zarr.create_group(str(tmp_path / "TS_05.zarr"), attributes={"bioformats2raw.layout": 3})
    outer.create_group("0")
    pyramid(tmp_path / "TS_05.zarr" / "0", volume((16, 16, 16)))
    read = read_tomogram(tmp_path / "TS_05.zarr")
    assert (read.name, read.voxel_size, read.extent.size) == ("TS_05", 10, (16, 16, 16))


def test_a_translation_and_chunks_that_are_not_there_are_noted(tmp_path):
    path = pyramid(tmp_path / "a.zarr", volume((16, 16, 16)) + 1)
    group = zarr.open_group(str(path), mode="r+")
    described = group.attrs["ome"]
    dataset = described["multiscales"][0]["datasets"][0]
    dataset["coordinateTransformations"].append({"type": "translation", "translation": [5.0, 5.0, 5.0]})
    group.attrs["ome"] = described
    (path / dataset["path"] / "c" / "0" / "0" / "0").unlink()
    read = read_tomogram(path)
    assert any("translation (5, 5, 5) Å is not used" in note for note in read.notes)
    assert any("1 of its 8 chunks are not there" in note for note in read.notes)
    assert read.density[0, 0, 0] == 0


def test_a_copick_project_names_a_tomogram_by_its_run(tmp_path):
    path = tmp_path / "ExperimentRuns" / "TS_07" / "VoxelSpacing10.000" / "wbp.zarr"
    assert read_tomogram(pyramid(path, volume((16, 16, 16)))).name == "TS_07"


def test_what_is_no_image_of_ome_zarr_is_refused_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    zarr.create_group(str(tmp_path / "group.zarr"))
    wide = zarr.create_group(str(tmp_path / "wide.zarr"))
    wide.create_array("0", shape=(2, 8, 8, 8), dtype="f4", chunks=(1, 8, 8, 8))
    axes = [{"name": name} for name in "czyx"]
    wide.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    turned = zarr.create_group(str(tmp_path / "turned.zarr"))
    turned.attrs["ome"] = {"multiscales": [{"axes": axes[:0:-1], "datasets": [{"path": "0"}]}]}
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    cases = {
        "folder": "no Zarr store",
        "group.zarr": "without OME's multiscales",
        "wide.zarr": r"shape \(2, 8, 8, 8\)",
        "turned.zarr": "expected z, y, x",
        "broken.zarr": "no Zarr store that can be read",
        "none.zarr": "no such file",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read_tomogram(tmp_path / name, voxel_size=10)
        assert "\n" not in str(caught.value)


def test_a_unit_of_a_store_that_is_no_length_leaves_the_size_to_be_asked_for(tmp_path):
    path = pyramid(tmp_path / "a.zarr", volume((16, 16, 16)), unit="pixel")
    with pytest.raises(InputError, match="states no voxel size"):
        read_tomogram(path)
    assert read_tomogram(path, voxel_size=8.0).voxel_size == 8


# --- reading by parts -----------------------------------------------------------------------------------------------


def test_any_integers_and_slices_give_what_an_array_gives(tmp_path):
    whole = np.random.default_rng(2).integers(0, 99, size=(11, 13, 9))
    lazy = ChunkedDensity((11, 13, 9), whole.dtype, chunks=(4, 5, 3), read=whole.__getitem__, where="a")
    keys = [
        3,
        -1,
        slice(2, 9),
        (slice(None), 4),
        (slice(1, 10, 3), slice(12, 3, -2), -2),
        (..., 0),
        (5, ..., slice(8, 2, -1)),
        ...,
        (slice(5, 5), slice(None), 1),
        (slice(None, None, 2), slice(None, None, 2), slice(None, None, 2)),
    ]
    for key in keys:
        np.testing.assert_array_equal(lazy[key], whole[key], err_msg=str(key))
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    for key in (11, (0, 0, 0, 0)):
        with pytest.raises(IndexError):
            lazy[key]


def test_patches_of_a_store_are_those_of_the_array_and_few_chunks_are_decoded(monkeypatch):
    random = np.random.default_rng(3)
    whole = random.normal(size=(96, 96, 96)).astype(np.float32)
    reads: list[tuple[slice, ...]] = []

    def read(box: tuple[slice, slice, slice]) -> np.ndarray:
        reads.append(box)
        return whole[box]

    monkeypatch.setattr(on_demand, "CACHE_BYTES", 12 * 32**3 * 4)
    lazy = ChunkedDensity(whole.shape, whole.dtype, chunks=(32, 32, 32), read=read, where="a")
    positions = random.uniform(80, 880, size=(300, 3))
    expected = cut_patches(Tomogram(whole, 10, "a"), positions, side=8)
    np.testing.assert_array_equal(cut_patches(Tomogram(lazy, 10, "a"), positions, side=8), expected)
    assert sum(chunk.nbytes for chunk in lazy._decoded.values()) <= on_demand.CACHE_BYTES
    ordered = len(reads)
    for position in positions:
        cut_patches(Tomogram(lazy, 10, "a"), position, side=8)
    assert ordered < (len(reads) - ordered) / 3


def test_a_chunk_that_cannot_be_decoded_is_one_line(tmp_path):
    path = pyramid(tmp_path / "a.zarr", np.random.default_rng(4).normal(size=(16, 16, 16)).astype(np.float32))
    chunk = next(item for item in sorted((path).rglob("c/0/0/0")))
    chunk.write_bytes(b"no chunk")
    with pytest.raises(InputError, match="cannot be read") as caught:
        np.asarray(read_tomogram(path).density)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.mrc.xz", b"\xfd7zXZ\0" * 300, "packed by xz.*unxz"),
        ("a.npy", b"\x93NUMPY\x01\0" * 200, "array of NumPy.*MRC"),
        ("a.mrc", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.mrc", b"\n<!DOCTYPE html>" + b" " * 2000, "web page"),
        ("a.rec", b"\ndata_particles\n" * 200, "STAR file.*list of particles"),
    ],
)
def test_files_that_are_no_volumes_are_answered_with_what_they_are(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_tomogram(tmp_path / name)


@pytest.mark.parametrize(("voxel", "questioned"), [(1e-4, True), (0.5, False), (100.0, False), (1e6, True)])
def test_a_voxel_size_beyond_any_microscope_is_questioned(tmp_path, voxel, questioned):
    read = read_tomogram(saved_mrc(tmp_path / "a.mrc", voxel=voxel))
    assert [("is the unit right" in note) for note in read.notes] == [True] * questioned


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_is_the_files_without_what_says_its_format():
    names = [
        "a/TS_01.mrc",
        "TS_01.mrc.gz",
        "TS_01.rec.bz2",
        "TS_01.ome.zarr",
        "TS_01.zarr",
        "TS_01.em",
        "TS_01.ome.tif",
    ]
    assert {volume_name(Path(name)) for name in names} == {"TS_01"}
    assert volume_name(Path("TS_01_10.00Apx.mrc")) == "TS_01_10.00Apx"


def test_the_tomograms_of_a_list_are_found_in_any_format(tmp_path):
    pyramid(tmp_path / "TS_01.zarr", volume((16, 16, 16)))
    (tmp_path / "TS_02.mrc.gz").write_bytes(gzip.compress(saved_mrc(tmp_path / "plain.mrc").read_bytes()))
    write_tomogram(tmp_path / "TS_03.mrc", volume((9, 9, 9)), voxel_size=10)
    (tmp_path / "TS_03.tif").write_bytes(b"a picture")
    listed = "tomogram,x,y,z\nTS_01,20,20,20\nTS_02,20,20,20\nTS_03,20,20,20\n"
    (tmp_path / "list.csv").write_text(listed)
    pairs = read_labelled(tmp_path / "list.csv")
    assert [tomogram.extent.size[0] for tomogram, _ in pairs] == [16, 6, 9]
    assert volumes_in(tmp_path)["TS_03"].suffix == ".mrc"


# --- damaged files --------------------------------------------------------------------------------------------------


def damaged(raw: bytes, random: np.random.Generator) -> bytes:
    """The bytes with some changed, cut off, taken out or put in."""
    content, length = bytearray(raw), len(raw)
    first, second = sorted(random.integers(0, length, 2).tolist())
    way = int(random.integers(4))
    if way == 0:
        for place in random.integers(0, min(length, 1200), 4):
            content[place] = int(random.integers(256))
        return bytes(content)
    if way == 1:
        return raw[:first]
    if way == 2:
        return raw[:first] + raw[second:]
    number = int(random.choice([0, -1, 2**31 - 1, 1, 65536]))
    place = 4 * int(random.integers(0, max(min(length, 1024) // 4, 1)))
    return raw[:place] + struct.pack("<i", number) + raw[place + 4 :]


def test_a_damaged_volume_of_any_format_is_one_line_or_a_volume(tmp_path):
    random = np.random.default_rng(5)
    plain = saved_mrc(tmp_path / "a.mrc")
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "a.em").write_bytes(em_bytes(volume(), pixel_size=1348))
    eman(tmp_path / "a.hdf", volume(), chunks=(2, 3, 4), compression="gzip")
    for kind, settings in TIFFS.items():
        tifffile.imwrite(tmp_path / f"{kind}.tif", volume(), photometric="minisblack", **settings)
    pyramid(tmp_path / "a.zarr", random.normal(size=(16, 16, 16)).astype(np.float32))
    files = sorted(tmp_path.iterdir())
    refused = 0
    for number in range(200):
        source = files[number % len(files)]
        inner = [source] if source.is_file() else [item for item in sorted(source.rglob("*")) if item.is_file()]
        victim = inner[int(random.integers(len(inner)))]
        whole = victim.read_bytes()
        victim.write_bytes(damaged(whole, random))
        try:
            read = read_tomogram(source, voxel_size=10.0 if number % 2 else None)
            np.asarray(read.density[:2, :8, :8])
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
        finally:
            victim.write_bytes(whole)
    assert refused > 50


@pytest.mark.parametrize(
    ("size", "voxel_size", "given", "asked"),
    [
        ((464, 480, 8), 1.35, None, True),
        ((464, 480, 8), 1.35, 1.35, False),
        ((464, 480, 8), 10.8, None, False),
        ((200, 200, 8), 5.0, None, False),
        ((304, 304, 304), 1.35, None, False),
    ],
    ids=["binned, header not", "given", "binned", "cropped", "box of a particle"],
)
def test_a_tomogram_narrower_than_any_field_of_view_is_asked_about(size, voxel_size, given, asked, tmp_path):
    path = tmp_path / "a.mrc"
    with mrcfile.new_mmap(path, shape=size[::-1], mrc_mode=0) as file:
        file.voxel_size = voxel_size
    notes = read_tomogram(path, voxel_size=given).notes
    assert any("would be 65 nm wide: is that the pixel size of images" in note for note in notes) is asked
