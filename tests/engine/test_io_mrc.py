from __future__ import annotations

import io
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import header_voxel_size, read_tomogram, write_tomogram


def volume(shape: tuple[int, int, int] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def saved(path: Path, density: np.ndarray | None = None, voxel: object = 10.0, **header: object) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(volume() if density is None else density)
        file.voxel_size = voxel
        for name, value in header.items():
            file.header[name] = value
    return path


def patched(path: Path, offset: int, content: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


def test_a_volume_that_mrcfile_wrote_is_read_voxel_for_voxel_from_a_memory_map(tmp_path):
    tomogram = read_tomogram(saved(tmp_path / "TS_01.rec", voxel=13.48))
    assert isinstance(tomogram.density, np.memmap)
    assert tomogram.density[1, 2, 3] == volume()[1, 2, 3]
    np.testing.assert_array_equal(tomogram.density, volume())
    assert (tomogram.voxel_size, tomogram.name) == (13.48, "TS_01")
    assert tomogram.extent.size == (6, 5, 4)


def test_a_tomogram_that_is_read_cannot_be_written_to(tmp_path):
    tomogram = read_tomogram(saved(tmp_path / "a.mrc"))
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
    assert header_voxel_size(tmp_path / "a.mrc") == 7.84


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    for name in ("a.mrc", "b.mrc"):
        write_tomogram(tmp_path / name, volume(), voxel_size=10)
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()


@pytest.mark.parametrize(("voxel", "words"), [(0.0, "states no voxel size"), (1.0, "states voxels of 1.0 Å")])
def test_a_voxel_size_that_nobody_set_is_refused_until_one_is_given(tmp_path, voxel, words):
    path = saved(tmp_path / "a.mrc", voxel=voxel)
    with pytest.raises(InputError, match=words) as caught:
        read_tomogram(path)
    assert "--voxel-size" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_tomogram(path, voxel_size=10.0).voxel_size == 10.0


def test_voxels_that_are_not_cubic_are_refused_with_their_sizes(tmp_path):
    path = saved(tmp_path / "a.mrc", voxel=(10.0, 10.0, 12.0))
    with pytest.raises(InputError, match=r"has voxels of \(10, 10, 12\) Å; .* cubic voxels. Resample it first."):
        read_tomogram(path)


def test_voxel_sizes_that_differ_in_the_fifth_digit_are_averaged(tmp_path):
    path = saved(tmp_path / "a.mrc", voxel=(10.0, 10.0003, 10.0))
    assert read_tomogram(path).voxel_size == pytest.approx(10.0001, abs=1e-5)


def test_a_file_with_a_wrong_machine_stamp_is_read(tmp_path):
    for stamp in (b"\0\0\0\0", b"\x11\x11\0\0"):
        path = patched(saved(tmp_path / "a.mrc"), 212, stamp)
        np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_a_file_of_the_other_byte_order_is_read(tmp_path):
    path = saved(tmp_path / "a.mrc", volume().astype(">f4"))
    np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_an_old_file_without_the_map_mark_is_read_if_all_else_fits(tmp_path):
    path = patched(saved(tmp_path / "a.mrc"), 208, b"\0\0\0\0")
    np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_other_kinds_of_numbers_are_read(tmp_path):
    for kind in (np.int8, np.int16, np.uint16, np.float16):
        path = saved(tmp_path / "a.mrc", volume().astype(kind))
        np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_a_file_that_is_longer_than_its_header_says_is_read(tmp_path):
    path = saved(tmp_path / "a.mrc")
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(read_tomogram(path).density, volume())


def test_what_cannot_be_a_volume_is_refused_in_one_line(tmp_path):
    whole = saved(tmp_path / "whole.mrc").read_bytes()
    cases = {
        "missing": (None, "no such file"),
        "empty": (b"", "empty"),
        "short_header": (whole[:500], "less than an MRC header"),
        "short": (whole[:-8], "cut short"),
        "text": (b"data_particles\n" * 200, "not an MRC file"),
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
        (saved(tmp_path / "image.mrc", np.zeros((5, 6), np.float32)), "one image of 6 × 5"),
        (saved(tmp_path / "volumes.mrc", stack), "stack of volumes"),
        (saved(tmp_path / "images.mrc", ispg=0, mz=1), "stack of 4 images"),
        (saved(tmp_path / "complex.mrc", volume().astype(np.complex64)), "complex"),
        (saved(tmp_path / "axes.mrc", mapc=3, maps=1), r"order \(3, 2, 1\)"),
        (patched(saved(tmp_path / "mode.mrc"), 12, (99).to_bytes(4, "little")), "MRC mode 99"),
    ]
    for path, words in cases:
        with pytest.raises(InputError, match=words):
            read_tomogram(path)


def test_a_volume_that_calls_itself_images_is_read_once_its_voxel_size_is_given(tmp_path):
    path = saved(tmp_path / "a.mrc", ispg=0, mz=1)
    np.testing.assert_array_equal(read_tomogram(path, voxel_size=5.0).density, volume())


def test_a_voxel_size_that_is_no_size_is_refused(tmp_path):
    for size in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="expected a positive size"):
            read_tomogram(saved(tmp_path / "a.mrc"), voxel_size=size)


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="three axes"):
        write_tomogram(tmp_path / "a.mrc", np.zeros((3, 3)), voxel_size=1)
    with pytest.raises(InputError, match="Make it first"):
        write_tomogram(tmp_path / "none" / "a.mrc", volume(), voxel_size=1)
    assert list(tmp_path.iterdir()) == []
