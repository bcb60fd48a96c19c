"""Volumes in MRC files, as MRC2014 and IMOD mean them, and packed ones."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from io_fixtures import patched, saved_mrc, volume

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram, write_tomogram
from napari_orient.engine.io.volumes import mrc
from napari_orient.engine.io.volumes.on_demand import ChunkedDensity


def test_a_volume_that_mrcfile_wrote_is_read_voxel_for_voxel_by_parts(tmp_path):
    tomogram = read_tomogram(saved_mrc(tmp_path / "TS_01.rec", voxel=13.48))
    assert isinstance(tomogram.density, ChunkedDensity)
    assert tomogram.density[1, 2, 3] == volume()[1, 2, 3]
    np.testing.assert_array_equal(tomogram.density, volume())
    assert (tomogram.voxel_size, tomogram.name) == (13.48, "TS_01")
    assert tomogram.extent.size == (6, 5, 4)


def test_a_tomogram_that_is_read_cannot_be_written_to(tmp_path):
    tomogram = read_tomogram(saved_mrc(tmp_path / "a.mrc"))
    with pytest.raises(ValueError, match="read-only"):
        tomogram.density[0, 0, 0] = 1


def test_what_is_written_is_float32_that_mrcfile_reads_back_and_validates(tmp_path):
    write_tomogram(tmp_path / "a.mrc", volume().astype(np.int16), voxel_size=7.84)
    with mrcfile.open(tmp_path / "a.mrc") as file:
        np.testing.assert_array_equal(file.data, volume())
        assert file.data.dtype == np.float32
        assert file.is_volume()
        assert file.voxel_size.x == pytest.approx(7.84, rel=1e-6)
    assert mrcfile.validate(tmp_path / "a.mrc", print_file=io.StringIO())
    assert read_tomogram(tmp_path / "a.mrc").voxel_size == 7.84


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    for name in ("a.mrc", "b.mrc"):
        write_tomogram(tmp_path / name, volume(), voxel_size=10)
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()


@pytest.mark.parametrize(("voxel", "words"), [(0.0, "states no voxel size"), (1.0, "states voxels of 1.0 Å")])
def test_a_voxel_size_that_nobody_set_is_refused_until_one_is_given(tmp_path, voxel, words):
    path = saved_mrc(tmp_path / "a.mrc", voxel=voxel)
    with pytest.raises(InputError, match=words) as caught:
        read_tomogram(path)
    assert "--voxel-size" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_tomogram(path, voxel_size=10.0).voxel_size == 10.0


def test_voxels_that_are_not_cubic_are_refused_with_their_sizes(tmp_path):
    path = saved_mrc(tmp_path / "a.mrc", voxel=(10.0, 10.0, 12.0))
    with pytest.raises(InputError, match=r"has voxels of \(10, 10, 12\) Å; .* cubic voxels. Resample it first."):
        read_tomogram(path)


def test_voxel_sizes_that_differ_in_the_fifth_digit_are_averaged(tmp_path):
    path = saved_mrc(tmp_path / "a.mrc", voxel=(10.0, 10.0003, 10.0))
    assert read_tomogram(path).voxel_size == pytest.approx(10.0001, abs=1e-5)


def test_a_file_with_a_wrong_machine_stamp_is_read(tmp_path):
    for stamp in (b"\0\0\0\0", b"\x11\x11\0\0"):
        path = patched(saved_mrc(tmp_path / "a.mrc"), 212, stamp)
        np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_a_file_of_the_other_byte_order_is_read(tmp_path):
    path = saved_mrc(tmp_path / "a.mrc", volume().astype(">f4"))
    np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_an_old_file_without_the_map_mark_is_read_if_all_else_fits(tmp_path):
    path = patched(saved_mrc(tmp_path / "a.mrc"), 208, b"\0\0\0\0")
    np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_other_kinds_of_numbers_are_read(tmp_path):
    for kind in (np.int8, np.int16, np.uint16, np.float16):
        path = saved_mrc(tmp_path / "a.mrc", volume().astype(kind))
        np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_a_file_that_is_longer_than_its_header_says_is_read(tmp_path):
    path = saved_mrc(tmp_path / "a.mrc")
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_what_cannot_be_a_volume_is_refused_in_one_line(tmp_path):
    whole = saved_mrc(tmp_path / "whole.mrc").read_bytes()
    cases = {
        "missing": (None, "no such file"),
        "empty": (b"", "empty"),
        "short_header": (whole[:500], "less than an MRC header"),
        "short": (whole[:-8], "cut short"),
        "text": (b"Dear colleague,\n" * 200, "is text; expected a volume"),
        "star": (b"data_particles\n" * 200, "is a STAR file"),
        "zeros": (bytes(4000), "not an MRC file"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / f"{name}.mrc"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            read_tomogram(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_images_stacks_complex_numbers_and_turned_axes_are_refused(tmp_path):
    stack = np.zeros((2, 3, 4, 5), np.float32)
    cases = [
        (saved_mrc(tmp_path / "image.mrc", np.zeros((5, 6), np.float32)), "one image of 6 × 5"),
        (saved_mrc(tmp_path / "volumes.mrc", stack), "stack of volumes"),
        (saved_mrc(tmp_path / "images.mrc", ispg=0, mz=1), "stack of 4 images"),
        (saved_mrc(tmp_path / "complex.mrc", volume().astype(np.complex64)), "complex"),
        (saved_mrc(tmp_path / "axes.mrc", mapc=3, maps=1), r"order \(3, 2, 1\)"),
        (patched(saved_mrc(tmp_path / "mode.mrc"), 12, (99).to_bytes(4, "little")), "MRC mode 99"),
    ]
    for path, words in cases:
        with pytest.raises(InputError, match=words):
            read_tomogram(path)


def test_a_volume_that_calls_itself_images_is_read_once_its_voxel_size_is_given(tmp_path):
    path = saved_mrc(tmp_path / "a.mrc", ispg=0, mz=1)
    np.testing.assert_array_equal(read_tomogram(path, voxel_size=5.0).density, volume())


def test_a_voxel_size_that_is_no_size_is_refused(tmp_path):
    for size in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="expected a positive size"):
            read_tomogram(saved_mrc(tmp_path / "a.mrc"), voxel_size=size)


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="three axes"):
        write_tomogram(tmp_path / "a.mrc", np.zeros((3, 3)), voxel_size=1)
    with pytest.raises(InputError, match="Make it first"):
        write_tomogram(tmp_path / "none" / "a.mrc", volume(), voxel_size=1)
    assert list(tmp_path.iterdir()) == []


def stamped(path: Path, flags: int, order: str = "<") -> Path:
    raw = bytearray(path.read_bytes())
    raw[152:160] = struct.pack(f"{order}ii", 1146047817, flags)
    path.write_bytes(raw)
    return path


# --- MRC as IMOD means it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "signed"), [(0, False), (1, True), (16, False), (17, True)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_bytes_of_imod_are_unsigned_unless_its_flag_says_otherwise(tmp_path, flags, signed, order):
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    path = saved_mrc(tmp_path / "a.mrc", values.view(np.int8))
    if order == ">":
        with mrcfile.open(path, mode="r+") as file:
            file.header.dtype = file.header.dtype.newbyteorder()
            header = file.header.byteswap().tobytes()
        path.write_bytes(header[:212] + b"\x11\x11\0\0" + header[216:] + values.tobytes())
    density = read_tomogram(stamped(path, flags, order)).density
    np.testing.assert_array_equal(density, values.view(np.int8) if signed else values)


def test_bytes_without_a_stamp_are_unsigned_where_the_header_says_that_they_exceed_127(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    path = saved_mrc(tmp_path / "a.mrc", values.view(np.int8), dmin=0, dmax=255, dmean=127)
    read = read_tomogram(path)
    np.testing.assert_array_equal(read.density, values)
    assert "unsigned" in read.notes[0]
    signed = read_tomogram(saved_mrc(tmp_path / "b.mrc", values.view(np.int8)))
    assert signed.density.min() == -128
    assert signed.notes == ()


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 0.0), (0.0, -1.0)])
def test_bytes_of_a_header_without_statistics_have_the_sign_by_which_the_volume_is_smooth(
    tmp_path, lowest, highest, packing
):
    wave = np.round(100 * np.sin(np.arange(20) / 3) * np.ones((6, 16, 20)))
    for name, values in (("unsigned", (wave + 128).astype(np.uint8)), ("signed", wave.astype(np.int8))):
        path = saved_mrc(tmp_path / f"{name}.mrc", values.view(np.int8), dmin=lowest, dmax=highest)
        if packing:
            path = path.with_suffix(".mrc.gz")
            path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        read = read_tomogram(path)
        np.testing.assert_array_equal(read.density, values)
        assert any(f"read as {name}, by which" in note for note in read.notes)


def test_a_stack_of_one_volume_is_that_volume(tmp_path):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.ones((1, 4, 5, 6), np.float32))
        file.voxel_size = 10.0
    assert read_tomogram(path).extent.size == (6, 5, 4)


def test_one_sample_along_z_of_a_cubic_volume_is_no_anisotropy(tmp_path):
    read = read_tomogram(saved_mrc(tmp_path / "a.mrc", mz=1, cella=(60.0, 50.0, 40.0)))
    assert read.voxel_size == 10
    assert "one sample along z" in read.notes[0]


def test_voxels_that_are_not_cubes_are_noted_where_a_size_is_given(tmp_path):
    read = read_tomogram(saved_mrc(tmp_path / "a.mrc", voxel=(10.0, 10.0, 15.0)), voxel_size=10)
    assert "(10, 10, 15) Å; taken for cubes of 10 Å" in read.notes[0]
    assert read.voxel_size_source == "given; the MRC header says 10, 10, 15"


def test_the_source_of_the_voxel_size_is_said(tmp_path):
    path = saved_mrc(tmp_path / "a.mrc", voxel=7.84)
    assert read_tomogram(path).voxel_size_source == "MRC header"
    assert read_tomogram(path, voxel_size=7.84).voxel_size_source == "given"
    assert read_tomogram(path, voxel_size=15.68).voxel_size_source == "given; the MRC header says 7.84"


def test_origin_and_start_are_noted_and_shift_nothing(tmp_path):
    read = read_tomogram(saved_mrc(tmp_path / "a.mrc", origin=(-100.0, 0.0, 50.0), nzstart=-2))
    (note,) = read.notes
    assert "origin (-100, 0, 50) Å and start (0, 0, -2) voxels" in note
    assert "not used" in note


@pytest.mark.parametrize("suffix", [".st", ".ali", ".preali", ".mrcs"])
def test_a_stack_by_its_name_is_refused_until_a_voxel_size_says_that_it_is_a_volume(tmp_path, suffix):
    path = saved_mrc(tmp_path / f"a{suffix}", ispg=0)
    with pytest.raises(InputError, match="tilt series"):
        read_tomogram(path)
    assert read_tomogram(path, voxel_size=10).extent.size == (6, 5, 4)


# --- packed ---------------------------------------------------------------------------------------------------------

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("suffix", [".mrc", ".map", ".rec"])
def test_a_packed_mrc_file_is_read_in_memory(tmp_path, packing, suffix):
    whole = saved_mrc(tmp_path / "plain.mrc").read_bytes()
    path = tmp_path / f"TS_01{suffix}{packing}"
    path.write_bytes(PACKERS[packing](whole))
    read = read_tomogram(path)
    np.testing.assert_array_equal(read.density, volume())
    assert (read.name, read.voxel_size, read.notes) == ("TS_01", 10, ())


def test_a_large_packed_file_is_unpacked_once_to_the_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mrc, "IN_MEMORY_BYTES", 100)
    monkeypatch.setenv(mrc.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "TS_01.mrc.gz"
    path.write_bytes(gzip.compress(saved_mrc(tmp_path / "plain.mrc").read_bytes()))
    read = read_tomogram(path)
    (unpacked,) = (tmp_path / "cache").iterdir()
    assert isinstance(read.density, ChunkedDensity)
    assert str(unpacked) in read.notes[0]
    assert read.name == "TS_01"
    before = unpacked.stat().st_mtime_ns
    read_tomogram(path)
    assert unpacked.stat().st_mtime_ns == before
    path.write_bytes(gzip.compress(saved_mrc(tmp_path / "plain.mrc", volume() + 1).read_bytes()))
    np.testing.assert_array_equal(read_tomogram(path).density, volume() + 1)


def test_a_packed_file_that_is_damaged_or_no_mrc_file_is_refused_in_one_line(tmp_path):
    whole = saved_mrc(tmp_path / "plain.mrc").read_bytes()
    huge = bytearray(whole)
    huge[92:96] = struct.pack("<i", 2**31 - 1)
    cases = {
        "cut.mrc.gz": (gzip.compress(whole)[:-40], "cannot be unpacked"),
        "short.mrc.gz": (gzip.compress(whole[:-8]), "cut short"),
        "text.mrc.gz": (gzip.compress(b"data_particles " * 200), r"Unpack it first \(gunzip\)"),
        "plain.mrc.bz2": (whole, "neither by gzip nor by bzip2"),
        "empty.mrc.gz": (gzip.compress(b""), "Unpack it first"),
        "huge.mrc.gz": (gzip.compress(bytes(huge)), "cut short|GiB unpacked|cannot be"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            read_tomogram(tmp_path / name)
        assert "\n" not in str(caught.value)
