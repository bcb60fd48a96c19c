"""Tables of text without a header: x, y and z in voxels, perhaps behind numbers of rows, classes, scores or a name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.text_tables import (
    COMMENT,
    check_lengths,
    counts_rows,
    first_cells,
    is_number,
    split_cells,
)
from napari_orient.engine.io.dialects.voxels import VoxelRows, particles_in_voxels
from napari_orient.engine.io.star import Table, numbers
from napari_orient.engine.io.tomograms import ListMetadata, find_extents, fit_only_in_angstrom, plain_name
from napari_orient.engine.particles import FloatArray, Particles, TextArray, shortened

_SUFFIXES = (".coords", ".txt", ".csv", ".tsv", ".xyz")

MOST_COLUMNS = 25
"""Columns of a table without a header; one of more is another program's."""


def _is_headerless(file: ListFile) -> bool:
    cells: Sequence[str] = first_cells(file)
    # Other suffixes are those of meshes and scenes, whose rows begin with a word too.
    cells = _numbers_of(cells) if file.suffix in _SUFFIXES else cells
    return file.suffix != ".tbl" and 3 <= len(cells) <= MOST_COLUMNS and all(map(is_number, cells))


def _numbers_of(cells: Sequence[str]) -> Sequence[str]:
    """Cells without a word at one of their ends: the tomogram's name, or that of a class."""
    if not cells or not is_number(cells[0]):
        return cells[1:]
    return cells if is_number(cells[-1]) else cells[:-1]


def _read_headerless(file: ListFile, metadata: ListMetadata) -> Particles:
    where = str(file.path)
    lines = [line for line in file.text.splitlines() if line.strip() and not COMMENT.match(line)]
    cells = list(split_cells(lines, file.path))
    if not cells or len(cells[0]) < 3:
        raise InputError(f"{where} has no particles: it holds no three columns of numbers. Choose another file.")
    check_lengths(cells, file.path)
    counters = 0 if is_number(cells[0][0]) else 1
    counters += _leading_counters([_numbers_of(row) for row in cells])
    table: Table = {f"column{place}": column for place, column in enumerate(zip(*cells, strict=True), start=1)}
    axes = tuple(table)[counters : counters + 3]
    said = f"The table has no header: columns {counters + 1} to {counters + 3} are taken as x, y, z."
    return _particles(table, axes, metadata, said=said, where=where)


def _particles(table: Table, axes: Sequence[str], metadata: ListMetadata, *, said: str, where: str) -> Particles:
    """Particles of the columns, of which three hold coordinates; ``said`` is how these were found."""
    position = numbers(table, axes, where=where)
    words = next((name for name, column in table.items() if not is_number(column[0])), "")
    names, kind = _names_or_classes(table.get(words, ("",) * len(position)))
    others = [name for name in table if name not in (*axes, words)]
    extra: dict[str, TextArray] = {name: np.array(table[name], str) for name in others}
    if extra:
        said += f" What {shortened(others)} mean is not known: carried unread."
    if any(names) or not _is_angstrom(position, metadata):
        rows = VoxelRows(voxels=position, names=names, kind=kind, extra=extra, notes=(said,))
        return particles_in_voxels(rows, metadata, where=where)
    return Particles(
        positions=position,
        tomogram=metadata.tomogram or "",
        kind=None if kind is None else np.array(kind, str),
        extra=extra,
        notes=(said, "Its coordinates lie beyond the tomogram's voxels, and are taken as Å."),
    )


def _names_or_classes(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """Words as names of tomograms, which have a number, or else as classes."""
    if not any(words) or any(any(map(str.isdigit, word)) for word in words):
        return [plain_name(word) if word else "" for word in words], None
    return [""] * len(words), words


def _is_angstrom(position: FloatArray, metadata: ListMetadata) -> bool:
    """Whether coordinates without a unit are Å, by the size of the opened tomogram."""
    found = find_extents([metadata.tomogram or ""], [metadata.extents])
    if metadata.pixel_size is not None or not found:
        return False
    return fit_only_in_angstrom(position, [next(iter(found.values()))] * len(position))


def _leading_counters(cells: Sequence[Sequence[str]]) -> int:
    """Columns before x that number the rows, classes, or objects and contours as model2point writes them; 0 if none."""
    if len(cells[0]) > 3 and len(cells) > 2 and counts_rows([row[0] for row in cells]):
        return 1
    if len(cells[0]) == 4 and len(cells) > 2 and _are_scores([row[0] for row in cells]):
        return 1
    if len(cells[0]) == 4 and _are_classes([row[0] for row in cells], [row[3] for row in cells]):
        return 1
    count = len(cells[0]) - 3
    if (
        count not in (1, 2)
        or len(cells) < 2
        or not all(row[place].isdecimal() for row in cells for place in range(count))
    ):
        return 0
    numbered = [tuple(int(row[place]) for place in range(count)) for row in cells]
    steps = [_is_step(before, after) for before, after in itertools.pairwise(numbered)]
    return count if max(numbered[0]) <= 1 and all(steps) else 0


def _are_scores(first: Sequence[str]) -> bool:
    """Whether the first of four columns lie between -1 and 1, as correlations and probabilities do."""
    return all(is_number(text) and abs(float(text)) <= 1 for text in first) and len(set(first)) > 1


def _are_classes(first: Sequence[str], last: Sequence[str]) -> bool:
    """Whether the first of four columns are numbers of classes, as DeepETPicker writes them, and the last are z."""
    classes = set(first)
    several = len(first) >= _ROWS_OF_A_CLASS * len(classes) and len(set(last)) > _ROWS_OF_A_CLASS * len(classes)
    return several and all(name.isdecimal() and int(name) <= _MOST_CLASSES for name in classes)


def _is_step(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether numbers are the same, or the next: of an object, with its contours from the first, or of a contour."""
    same = [first == second for first, second in zip(before, after, strict=True)]
    changed = same.index(False) if False in same else None
    return changed is None or (after[changed] == before[changed] + 1 and max(after[changed + 1 :], default=1) <= 1)


_ROWS_OF_A_CLASS = 3
"""Rows for each number, from which a first column may be one of classes; z has more different values by that factor."""
_MOST_CLASSES = 30
"""Largest number of a class."""

HEADERLESS = Dialect(
    name="coords",
    title="table without a header",
    programs="TomoTwin and crYOLO (.coords), DeepETPicker, IMOD (model2point), scripts",
    suffixes=_SUFFIXES,
    layout="x, y, z in voxels, from 0; separated by blanks, tabs, commas, semicolons or bars",
    trap="The unit is never in the file: for Å give --pixel-size 1.",
    recognises=_is_headerless,
    read=_read_headerless,
    volumes=lambda _: {"": None},
)
