"""Columns of long lists: the same texts, whatever the block they lie in, and little memory beside the particles."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from napari_orient.engine.io import column_text, read_particles, write_particles
from napari_orient.engine.io.column_text import BLOCK_ROWS, TableColumns
from napari_orient.engine.io.star import decimals
from napari_orient.engine.particles import Extent, Particles

COUNT = BLOCK_ROWS + 3


def test_a_packed_column_gives_back_every_text() -> None:
    rows = [
        (f"{row}.{row % 7}", f"TS_{row % 3}", "ü" if row % 5 else "", f"{row}" * (row == 9) * 400)
        for row in range(COUNT)
    ]
    table = TableColumns(4)
    for row in rows:
        table.append(row)
    for column, given in zip(table.columns(), zip(*rows, strict=True), strict=True):
        assert column == given
        assert (column[0], column[-1], column[BLOCK_ROWS]) == (given[0], given[-1], given[BLOCK_ROWS])
        assert column[BLOCK_ROWS - 2 :] == given[BLOCK_ROWS - 2 :]
        with pytest.raises(IndexError):
            column[COUNT]


def test_formatted_numbers_are_those_of_every_row_alone() -> None:
    values = np.random.default_rng(0).normal(size=COUNT)
    column = decimals(values)
    assert list(column) == [f"{value:.6f}" for value in values]
    assert column[-1] == f"{values[-1]:.6f}"
    assert column[5:7] == [f"{value:.6f}" for value in values[5:7]]


@pytest.mark.parametrize("suffix", [".csv", ".star"])
def test_a_long_list_is_read_and_written_in_about_the_memory_of_its_particles(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_text, "BLOCK_ROWS", 512)
    count = 10_000
    positions = np.random.default_rng(0).uniform(0, 2000, (count, 3)).round(3)
    extents = {"TS_1": Extent((256, 256, 256), 10.0)}
    given = Particles(positions=positions, tomogram="TS_1", extents=extents, confidence=np.linspace(0, 1, count))
    given = given.replace(rotations=np.tile(np.eye(3), (count, 1, 1)))
    # What is imported at first use.
    write_particles(tmp_path / f"warm{suffix}", given[:2])
    read_particles(tmp_path / f"warm{suffix}")
    tracemalloc.start()
    try:
        write_particles(tmp_path / f"list{suffix}", given)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = read_particles(tmp_path / f"list{suffix}")
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found.positions, positions, atol=1e-5)
    # The particles are 124 bytes each, and are copied; with their text as Python's strings 560 to 820, 970 to 1,080.
    assert written < 300 * count
    assert read < 680 * count


def test_rows_of_one_tomogram_of_a_long_list_are_read_in_the_time_of_all(tmp_path: Path) -> None:
    """Each row unpacked its whole block: 20,000 took minutes."""
    count, rng = 20_000, np.random.default_rng(0)
    for names in (("TS_1",), ("TS_1", "TS_2")):
        of = np.array(names)[np.arange(count) % len(names)]
        extents = dict.fromkeys(names, Extent((256, 256, 256), 10.0))
        given = Particles(positions=rng.uniform(0, 2000, (count, 3)).round(3), tomogram=of, extents=extents)
        write_particles(tmp_path / "list.star", given)
        began = time.process_time()
        every = read_particles(tmp_path / "list.star")
        all_took = time.process_time() - began
        own = read_particles(tmp_path / "list.star", tomogram="TS_1")
        assert time.process_time() - began - all_took < 5 * all_took + 0.5
        np.testing.assert_array_equal(own.positions, every.positions[of == "TS_1"])
