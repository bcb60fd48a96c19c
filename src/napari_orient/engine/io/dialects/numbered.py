"""Lists in voxels that number their tomograms; the names, files and sizes of these, in a file beside the list.

Dynamo keeps them in a ``.doc`` (number and path) or a ``.vll`` (paths, numbered by line). Beside lists of other
programs without names this program writes ``NAME_tomograms.csv``: number, tomogram, voxel size, size.
"""

from __future__ import annotations

import csv
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.voxels import (
    SUBTOMOGRAM,
    VoxelRows,
    class_numbers,
    counted,
    particles_in_voxels,
    rotations_unless_zero,
    score_of,
    sizes_to_write,
    texts,
    voxels_of,
)
from napari_orient.engine.io.star import provenance_line
from napari_orient.engine.io.tomograms import ListMetadata, find_extents, found_file, plain_name, same_tomogram
from napari_orient.engine.outputs import replacing, write_text
from napari_orient.engine.particles import Extent, FloatArray, Particles, shortened

NUMBER = "tomogramNumber"
"""Column of the number that a list gave a tomogram, kept so that it is written again."""

_DOC_LINE = re.compile(r"\s*(\d+)(?:\.0*)?[\s,;]+(?:\"(.+)\"|'(.+)'|(.*?))\s*$")
"""Number and path, in quotes or not: a line of a ``.doc``."""

_TABLE = "_tomograms.csv"
_HEADER = ("number", "tomogram", "voxel_size", "size_x", "size_y", "size_z")


@dataclass(frozen=True)
class NumberedTomograms:
    """Names, files and sizes of the tomograms of a list, by number."""

    names: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[int, Path | None] = field(default_factory=dict)
    extents: Mapping[str, Extent] = field(default_factory=dict)
    voxel_sizes: Mapping[int, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sizes_of(self, numbers: Sequence[int]) -> FloatArray | None:
        """Voxel size in Å of the tomogram of each row, (N,); None where one is unknown."""
        known = set(numbers) <= set(self.voxel_sizes)
        return np.array([self.voxel_sizes[number] for number in numbers]) if known else None


def tomograms_beside(path: Path) -> NumberedTomograms:
    """Tomograms that a file beside a list names; none where there is no such file.

    The file has the list's name, or is the only one of its kind in the folder; for a table of Dynamo, whose projects
    lie beside the catalogue, in the nearest folder above that has one. Lists of several programs may have one name: a
    table of Dynamo's takes its own ``.doc`` before the file that belongs to the others.
    """
    own = path.with_name(path.stem + _TABLE)
    is_dynamo = path.suffix.lower() == ".tbl" and path.with_suffix(".doc").is_file()
    if own.is_file() and not is_dynamo:
        return _read_table(own)
    levels = _LEVELS if path.suffix.lower() == ".tbl" else 1
    chosen = next(
        (found for folder in path.resolve().parents[:levels] if (found := _names_in(folder, path.stem))), None
    )
    if chosen is None:
        return NumberedTomograms()
    paths = _LISTS_OF_NAMES[chosen.suffix](chosen)
    files = {key: found_file(text, beside=chosen) for key, text in paths.items()}
    return NumberedTomograms(_plain_names(paths), files, notes=(f"Names of tomograms are from {chosen.name}.",))


_LEVELS = 5
"""Folders, from a table's own upwards, in which Dynamo's list of tomograms is looked for: a table in
PROJECT/results/ite_0001/averages lies four below the catalogue."""


def _names_in(folder: Path, stem: str) -> Path | None:
    """Dynamo's list of tomograms in a folder: of a table's name, or the only one of its kind."""
    for suffix in _LISTS_OF_NAMES:
        same, others = folder / f"{stem}{suffix}", sorted(folder.glob(f"*{suffix}"))
        if same.is_file() or len(others) == 1:
            return same if same.is_file() else others[0]
    return None


def _plain_names(paths: Mapping[int, str]) -> dict[int, str]:
    """Names of files without folder and suffix, where these keep the files apart."""
    names = {number: plain_name(text) for number, text in paths.items()}
    return names if len(set(names.values())) == len(set(paths.values())) else dict(paths)


def names_of(numbers: Sequence[int], known: NumberedTomograms, metadata: ListMetadata, *, path: Path) -> list[str]:
    """Name of the tomogram of each particle; empty where a list of one number alone has no names.

    Raises
    ------
    InputError
        If a tomogram is asked for, and the list has several numbers whose names are unknown.
    """
    unnamed = sorted({number for number in numbers if number not in known.names})
    if not unnamed:
        return [known.names[number] for number in numbers]
    if len(set(numbers)) == 1:
        return [""] * len(numbers)
    wanted = metadata.tomogram
    if wanted is not None and not any(same_tomogram(str(number), wanted) for number in unnamed):
        raise InputError(
            f"{path} numbers its tomograms ({shortened([str(number) for number in unnamed])}), and nothing beside it "
            f"says which of them is {wanted}. Write lines 'number path' to {path.with_suffix('.doc').name} beside it."
        )
    return [known.names.get(number, str(number)) for number in numbers]


def volumes_of(numbers: Sequence[int], path: Path) -> dict[str, Path | None]:
    """File of each tomogram of a list, as far as a file beside it names one, by the tomogram's name."""
    known = tomograms_beside(path)
    names = names_of(numbers, known, ListMetadata(), path=path)
    return {name: known.files.get(number) for name, number in zip(names, numbers, strict=True)}


def numbers_of(particles: Particles, *, most: int | None = None) -> dict[str, int]:
    """Number of each tomogram: the one that it came with, where these are all different, else by order.

    Parameters
    ----------
    most : the largest number that the format holds.
    """
    names = particles.tomogram_names
    column = particles.extra.get(NUMBER)
    given = names if column is None else [str(column[particles.tomogram == name][0]) for name in names]
    own = all(text.isdecimal() for text in given) and len({int(text) for text in given}) == len(names)
    if own and (most is None or all(int(text) <= most for text in given)):
        return {name: int(text) for name, text in zip(names, given, strict=True)}
    return {name: number for number, name in enumerate(names, start=1)}


# --- lists ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NumberedRows:
    """Rows of a list in voxels whose tomograms are numbers.

    Parameters
    ----------
    tomograms : number of each row's tomogram.
    voxels : (N, 3) xyz, as the list counts them, shifts added.
    angles : (N, 3) in degrees, and ``to_rotations`` what makes rotations of them; all 0 for unknown ones.
    own_sizes : (N,) Å of a voxel as the list states it, 0 where it does not; None where it has no such column.
    first : number that the list gives the first voxel.
    extra : other columns.
    """

    tomograms: Sequence[int]
    voxels: FloatArray
    angles: FloatArray
    to_rotations: Callable[[FloatArray], FloatArray]
    own_sizes: FloatArray | None = None
    first: int = 0
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def particles(self, path: Path, metadata: ListMetadata) -> Particles:
        """Particles of the list; names, sizes and extents of its tomograms are from the file beside it.

        Raises
        ------
        InputError
            If the names, or the size of a voxel, are needed and unknown.
        """
        known = tomograms_beside(path)
        rotations, notes = rotations_unless_zero(self.angles, self.to_rotations)
        rows = VoxelRows(
            voxels=self.voxels,
            names=names_of(self.tomograms, known, metadata, path=path),
            rotations=rotations,
            own_sizes=known.sizes_of(self.tomograms) if self.own_sizes is None else self.own_sizes,
            first=self.first,
            extents=known.extents,
            extra={NUMBER: texts(self.tomograms), **self.extra},
            notes=(*known.notes, *notes),
        )
        return particles_in_voxels(rows, metadata, where=str(path))


@dataclass(frozen=True, kw_only=True)
class WrittenRows:
    """What such a list holds of particles beside their angles.

    Parameters
    ----------
    sizes : (N,) Å of the voxels that positions are written in.
    voxels : (N, 3) positions in these voxels.
    numbers : number of each tomogram, by its name; ``tomograms`` is that of each row, (N,).
    subtomograms, classes : (N,) whole numbers.
    score : (N,); zeros where there is none.
    notes : how classes are numbered.
    """

    sizes: FloatArray
    voxels: FloatArray
    numbers: Mapping[str, int]
    tomograms: NDArray[np.int_]
    subtomograms: NDArray[np.int_]
    classes: NDArray[np.int_]
    score: FloatArray
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, particles: Particles, metadata: ListMetadata, *, path: Path, first: int, most: int | None = None
    ) -> WrittenRows:
        """The rows of these particles.

        Parameters
        ----------
        first : the dialect's number of the first voxel.
        most : the largest whole number that the format holds; tomograms or subtomograms beyond it are counted anew.

        Raises
        ------
        InputError
            If the size of a voxel is unknown.
        """
        sizes, numbers = sizes_to_write(path, particles, metadata), numbers_of(particles, most=most)
        tomograms = np.array([numbers[str(name)] for name in particles.tomogram])
        subtomograms, anew = counted(particles, SUBTOMOGRAM), []
        given = particles.extra.get(NUMBER)
        if given is not None and any(map(operator.ne, texts(tomograms).tolist(), map(str, given.tolist()))):
            anew.append("Tomograms are numbered anew: their numbers are not all different, or too large.")
        if most is not None and subtomograms.max(initial=0) > most:
            subtomograms = np.arange(1, len(particles) + 1)
            anew.append(f"Subtomograms are counted anew: their numbers go beyond {most}, the largest of the format.")
        classes, notes = class_numbers(particles)
        score = score_of(particles)
        return cls(
            sizes=sizes,
            voxels=voxels_of(particles, sizes, metadata, first=first),
            numbers=numbers,
            tomograms=tomograms,
            subtomograms=subtomograms,
            classes=classes,
            score=np.zeros(len(particles)) if score is None else score,
            notes=(*notes, *anew),
        )


def whole_numbers(values: FloatArray) -> list[int]:
    """Whole numbers, of any size, nearest to the values."""
    return [round(value) for value in values.tolist()]


# --- files ----------------------------------------------------------------------------------------------------------


def write_doc(path: Path, numbers: Mapping[str, int], files: Mapping[str, str]) -> None:
    """Write Dynamo's list of tomograms beside a table: number and path, or name, of each."""
    # Names are written as they are read again, so that the same list gives the same bytes.
    plain = _plain_names({number: name for name, number in numbers.items()})
    lines = [f"{number} {files.get(name, plain[number])}\n" for name, number in numbers.items() if name]
    write_text(path, "".join(lines))


def table_of_tomograms_path(path: Path) -> Path:
    """Path of the table of tomograms that is written beside a list."""
    return path.with_name(path.stem + _TABLE)


def write_table_of_tomograms(
    path: Path, particles: Particles, rows: WrittenRows, metadata: ListMetadata, *, provenance: str
) -> Path:
    """Path of the table, written beside a list, of its tomograms' numbers, names and sizes in voxels."""
    numbers, sizes = rows.numbers, rows.sizes
    extents = find_extents(numbers, [metadata.extents, particles.extents])
    target = table_of_tomograms_path(path)
    with replacing(target) as beside, beside.open("w", encoding="utf-8", newline="") as stream:
        stream.write(provenance_line(provenance))
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_HEADER)
        for name, number in numbers.items():
            size = float(sizes[particles.tomogram == name][0])
            writer.writerow([number, name, f"{size:.9g}", *_size(extents.get(name), size)])
    return target


def _size(extent: Extent | None, voxel_size: float) -> list[str]:
    """Voxels of this size along x, y, z; empty where the tomogram's size is unknown."""
    if extent is None:
        return ["", "", ""]
    return [f"{round(count * extent.voxel_size / voxel_size)}" for count in extent.size]


def _read_table(path: Path) -> NumberedTomograms:
    lines = [line for line in _text(path).splitlines() if line.strip() and not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    try:
        names = {int(row["number"]): row["tomogram"] for row in rows}
        sizes = {int(row["number"]): float(row["voxel_size"]) for row in rows}
        extents = {row["tomogram"]: _extent(row) for row in rows if row["size_x"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table of tomograms ({', '.join(_HEADER)}); mend or remove it.") from error
    return NumberedTomograms(names, dict.fromkeys(names), extents, sizes)


def _extent(row: Mapping[str, str]) -> Extent:
    return Extent((int(row["size_x"]), int(row["size_y"]), int(row["size_z"])), float(row["voxel_size"]))


def _numbered_lines(path: Path) -> dict[int, str]:
    found = (_DOC_LINE.match(line) for line in _text(path).splitlines())
    return {int(match[1]): match[match.lastindex or 0] for match in found if match is not None}


def _lines(path: Path) -> dict[int, str]:
    # Lines that begin with a star are properties of the volume above.
    lines = (line.strip() for line in _text(path).splitlines())
    paths = [line for line in lines if line and line[0] not in "*#%>"]
    return dict(enumerate(paths, start=1))


_LISTS_OF_NAMES: dict[str, Callable[[Path], dict[int, str]]] = {".doc": _numbered_lines, ".vll": _lines}
"""How each kind of Dynamo's lists of tomograms is read, by its suffix, the one that states numbers first."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); change its permissions.") from error
