"""Volumes that are read by parts from their files: whatever another program does to the file, the process lives."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram, write_tomogram
from napari_orient.engine.io.volumes import on_demand
from napari_orient.engine.patches import cut_patches

WHOLE = np.random.default_rng(0).normal(size=(24, 40, 50)).astype(np.float32)
CENTRE = [[200.0, 200.0, 120.0]]


@pytest.fixture
def path(tmp_path) -> Path:
    write_tomogram(tmp_path / "a.mrc", WHOLE, voxel_size=10)
    return tmp_path / "a.mrc"


@pytest.mark.parametrize("most", [on_demand._MOST_BYTES, 1000])
def test_any_part_is_that_of_the_whole(path, most, monkeypatch):
    monkeypatch.setattr(on_demand, "_MOST_BYTES", most)
    density = read_tomogram(path).density
    for key in (
        3,
        (slice(2, 9), slice(5, 30)),
        (..., 7),
        (slice(1, 20, 3), slice(12, 3, -2), slice(4, 9)),
        (1, 2, 3),
        ...,
    ):
        np.testing.assert_array_equal(density[key], WHOLE[key], err_msg=str(key))


def test_what_other_plugins_do_with_arrays_works_on_the_whole(path):
    density = read_tomogram(path).density
    np.testing.assert_array_equal(density * 2 + density, WHOLE * 3)
    np.testing.assert_array_equal(np.flip(density, 0), WHOLE[::-1])
    assert density.max() == np.max(density) == WHOLE.max()
    assert not hasattr(density, "compute")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: os.truncate(path, 9000), "was written to by another program"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "was written to by another program"),
        (lambda path: path.unlink(), "it is not there, or no longer"),
    ],
)
def test_a_tomogram_that_another_program_spoils_while_it_is_open_is_one_line(path, spoil, words, monkeypatch):
    tomogram = read_tomogram(path)
    os.utime(path, ns=(1, 1))
    tomogram = read_tomogram(path)
    monkeypatch.setattr(on_demand, "_open_files", on_demand._OpenFiles())
    spoil(path)
    for read in (lambda: cut_patches(tomogram, CENTRE, side=8), lambda: np.asarray(tomogram.density)):
        with pytest.raises(InputError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_file_that_ends_while_it_is_read_is_one_line(path):
    tomogram = read_tomogram(path)
    os.truncate(path, 9000)
    # As if it were shortened after it was looked at.
    tomogram.density._read.state = on_demand._state(path.stat())
    with pytest.raises(InputError, match="ends before its last voxel"):
        np.asarray(tomogram.density)


def test_a_tomogram_that_is_replaced_stays_the_one_that_was_opened(path):
    tomogram = read_tomogram(path)
    before = cut_patches(tomogram, CENTRE, side=8)
    write_tomogram(path, WHOLE[::-1], voxel_size=10)
    np.testing.assert_array_equal(cut_patches(tomogram, CENTRE, side=8), before)


def test_tomograms_take_no_descriptors(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        for index in range(300):
            write_tomogram(tmp_path / f"{index}.mrc", WHOLE[:2, :4, :4], voxel_size=10)
            opened.append(read_tomogram(tmp_path / f"{index}.mrc"))
            assert opened[-1].density[1, 2, 3] == WHOLE[1, 2, 3]
        assert all(item.density[1, 2, 3] == WHOLE[1, 2, 3] for item in opened)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_a_file_that_was_replaced_and_opened_again_is_read_although_the_old_one_was(tmp_path):
    path = tmp_path / "t.mrc"
    for value in (1.0, 2.0):
        write_tomogram(path, np.full((4, 5, 6), value, np.float32), voxel_size=10.0)
        assert np.asarray(read_tomogram(path).density[1]).mean() == value
