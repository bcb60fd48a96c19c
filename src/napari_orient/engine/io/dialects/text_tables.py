"""Syntax of tables of text, and the names under which they have coordinates.

The syntax is CSV, TSV, and others of one separator. The header may stand behind a mark of comments, as NumPy writes it,
or below a title; units may have a row of their own below it, and numbers of rows a column without a name. Every value
is text. Coordinates have many names, which may state their unit; what other columns mean is the dialects' to say.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from unicodedata import normalize

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.column_text import TableColumns
from napari_orient.engine.io.dialects.dialect import HEAD_CHARACTERS, ListFile
from napari_orient.engine.io.star import Table
from napari_orient.engine.io.text_encoding import text_encoding
from napari_orient.engine.outputs import existing_file

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
"""Suffixes of tables of text."""

_DECIMAL_COMMA = re.compile(r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$")
"""A number such as ``12,5``."""

_SEPARATOR_LINE = re.compile(r"^\"?sep=.\"?\s*$", re.IGNORECASE)
"""The line ``sep=;`` by which Excel is told the separator; the header shows it too."""

_SEPARATORS = ("\t", ",", ";", "|")

COMMENT = re.compile(r"\s*(?:#|%|//)")
"""What a line of comment begins with."""

_MOST_BEFORE = 30
"""Lines before a header: titles and comments. Chosen."""

_RULE = "-_=:"
"""Characters of a rule below a header, as MATLAB and Markdown draw it."""

_CONTROL_Z = "\x1a"
"""What DOS programs write behind the last line."""


def read_header(path: Path | str) -> list[str]:
    """Names of the columns of a table.

    Raises
    ------
    InputError
        If there is no such file, or it is not text.
    """
    path = existing_file(path)
    return next(split_cells(_lines(path), path), [])


def first_cells(file: ListFile) -> list[str]:
    """Cells of a file's first line that is no comment, or of the comment that names its columns."""
    lines = [line for line in re.split(r"\r\n|\r|\n", file.head_text) if line.strip()]
    body = _with_header(lines if len(file.head_text) < HEAD_CHARACTERS else lines[:-1], file.path)
    return next(split_cells((line.strip("\r\n ") for line in body), file.path), [])


def read_rows(path: Path | str) -> Table:
    """Columns of a table by name, as text.

    Lines that begin with ``#`` are comments, but for those below the header that have a value for each of its columns.

    Raises
    ------
    InputError
        If there is no such file, it is not text, has no rows, or a row does not fit the header.
    """
    path = existing_file(path)
    rows = split_cells(_lines(path), path)
    header = next(rows, [])
    names, rows = _whole_header(header, rows)
    body, count = TableColumns(len(names)), 0
    for row in rows:
        if _is_passed_over(row, header):
            continue
        count += 1
        if len(row) != len(names):
            raise _of_other_length(path, count, len(row), header)
        body.append(row)
    if not count:
        raise InputError(f"{path} has no particles; expected a header and one row at least. Choose another file.")
    columns = body.columns()
    if names[1:] == header and not (count > 1 and counts_rows(columns[0])):
        raise _of_other_length(path, 1, len(names), header)
    given = [name for name in names if name]
    if len(set(given)) < len(given):
        raise InputError(f"{path} has two columns of one name; rename or remove one.")
    return _named(names, columns)


def _of_other_length(path: Path, number: int, found: int, header: Sequence[str]) -> InputError:
    return InputError(f"{path}: row {number} has {found} values; expected {len(header)} as in the header. Mend it.")


def _is_passed_over(row: Sequence[str], header: Sequence[str]) -> bool:
    """Whether a row is none: it is empty, a comment, a rule, or the header again, of a table that was appended."""
    if len(row) == len(header):
        return row == header or not any(cell.strip(_RULE) for cell in row)
    return row == [_CONTROL_Z] or COMMENT.match(row[0]) is not None


def _whole_header(header: list[str], rows: Iterator[list[str]]) -> tuple[list[str], Iterator[list[str]]]:
    """Names of all columns, with the units of a row below the header, and the rows that are left.

    Rows may have one value more than the header: the number of the row, before the others, or nothing, behind them.
    """
    first = next((row for row in rows if not _is_passed_over(row, header)), None)
    if first is None:
        return header, rows
    if len(first) == len(header) and _are_units(first):
        pairs = zip(header, first, strict=True)
        return [f"{name} [{unit.strip('[]()')}]" if unit else name for name, unit in pairs], rows
    names = header
    if len(first) == len(header) + 1:
        names = ["", *header] if first[-1] else [*header, ""]
    return names, chain([first], rows)


def _are_units(row: Sequence[str]) -> bool:
    """Whether a row names units, and nothing else, such as ``nm, nm, nm, deg``."""
    named = [cell for cell in row if cell.strip("-")]
    return bool(named) and all(_UNIT_CELL.match(cell) for cell in named)


def _named(header: Sequence[str], columns: Sequence[Sequence[str]]) -> Table:
    """Columns by name; those without one only if they hold something, and not if they count the rows, as pandas writes.

    They are called by their place: ``column4``.
    """
    table: Table = {}
    for place, (name, column) in enumerate(zip(header, columns, strict=True), start=1):
        if name or not (counts_rows(column) or not any(column)):
            table[name or f"column{place}"] = column
    return table


def counts_rows(column: Sequence[str]) -> bool:
    """Whether a column's values are 0, 1, 2, … or 1, 2, 3, …"""
    first = column[0] if len(column) else ""
    return first in ("0", "1") and all(text == str(row) for row, text in enumerate(column, start=int(first)))


def split_cells(lines: Iterable[str], path: Path) -> Iterator[list[str]]:
    """Cells of each line, by the first line's separator: tab, comma, semicolon, bar, or else blanks.

    Raises
    ------
    InputError
        If a line cannot be split, such as where a cell is too long.
    """
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return iter(())
    lines, separator = chain([first], lines), _separator(first)
    if separator == ",":
        return (_cells(line, separator, path) for line in lines)
    cells = (_cells(line, separator, path) if separator else _between_blanks(line) for line in lines)
    # Where commas do not separate, they are those of decimals, as spreadsheets write them in half of the world.
    return ([_DECIMAL_COMMA.sub(r"\1.\2", cell) if "," in cell else cell for cell in row] for row in cells)


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _separator(line: str) -> str:
    """The separator of a line's cells; empty for blanks."""
    for separator in (";", "\t", "|", ""):
        cells = [cell.strip() for cell in (line.split(separator) if separator else line.split())]
        if len(cells) >= len(POSITION) and "," in line and all(map(_has_decimal_comma, cells)):
            return separator
    separator = max(_SEPARATORS, key=line.count)
    return separator if separator in line else ""


def _between_blanks(line: str) -> list[str]:
    """Values of a line between blanks, which may be in quotes."""
    if '"' not in line:
        return line.split() or [""]
    return [match[1] or match[0].strip('"') for match in re.finditer(r'"([^"]*)"|\S+', line)] or [""]


def _has_decimal_comma(cell: str) -> bool:
    """Whether a cell is a number that may have a decimal comma, or empty."""
    return not cell or _DECIMAL_COMMA.match(cell) is not None or is_number(cell)


def _cells(line: str, separator: str, path: Path) -> list[str]:
    """Values of a line. A quote that is not closed is a character: it must not swallow the lines that follow."""
    quotes = line.count('"') % 2 == 0
    try:
        read = csv.reader([line], delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
        row = next(read, [])
    except csv.Error as error:
        raise InputError(f"{path} is no table that can be read ({error}). Write it again.") from error
    return [cell.strip() for cell in row] or [""]


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file that hold something, from the header on, one by one."""
    try:
        with path.open(encoding=text_encoding(path, expected="a CSV or TSV file")) as stream:
            yield from _with_header((line.rstrip("\n") for line in stream if line.strip()), path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is text in UTF-16 that is cut short. Save it as CSV (UTF-8).") from error


def _with_header(lines: Iterable[str], path: Path) -> Iterator[str]:
    """The lines from the header on: that of the first line, or of one below titles or behind a mark of comments."""
    lines = iter(lines)
    head = list(islice(lines, _MOST_BEFORE))
    if head and _SEPARATOR_LINE.match(head[0]):
        head = head[1:]
    places = [place for place, line in enumerate(head) if not COMMENT.match(line)]
    if not places:
        yield from (line for line in lines if not COMMENT.match(line))
        return
    start = places[0]
    named = next((place for place in range(len(head)) if _names_columns(head, place, path)), start)
    if not COMMENT.match(head[named]):
        start = named
    else:
        start = next(place for place in places if place > named)
        header = next(split_cells([COMMENT.sub("", head[named]).strip()], path))
        yield (_separator(head[start]) or " ").join(header)
    yield from head[start:]
    yield from lines


def _names_axes(names: Sequence[str]) -> bool:
    """Whether three names differ by x, y, z or 0, 1, 2 alone, in any program's words, or state a unit of length."""
    known = {name.lower() for name in names}
    marks = (("x", "y", "z"), ("0", "1", "2"))
    return coordinate_columns(names) is not None or any(
        {f"{name[:place]}{mark}{name[place + 1 :]}" for mark in axes} <= known
        for name in known
        for place, letter in enumerate(name)
        for axes in marks
        if letter == axes[0] and not is_number(name)
    )


def _names_columns(head: Sequence[str], place: int, path: Path) -> bool:
    """Whether a line names three axes, and the next that is no comment has a value for each of its columns."""
    names = next(split_cells([COMMENT.sub("", head[place]).strip()], path), [])
    if not _names_axes(names):
        return False
    below = next((line for line in head[place + 1 :] if not COMMENT.match(line)), None)
    if below is None:
        return not COMMENT.match(head[place])
    values = next(split_cells([below], path), [])
    return len(values) == len(names) and (not COMMENT.match(head[place]) or all(map(is_number, values)))


# --- names of coordinates ---------------------------------------------------------------------------------------------

POSITION = ("x", "y", "z")
"""Names of coordinates in Å."""

VOXEL = ("x_voxel", "y_voxel", "z_voxel")
"""Names of coordinates in voxels, counted from 0."""

_VOXEL_UNIT = r"px|pix|pixels?|vox|voxels?|vx"
_WORD = "pos|position|coords?|coordinates?|cent(?:er|re)|centroid|loc|location|particle|point|pick"
_UNIT = rf"a|å|ang|angst|angstroms?|nm|nanomet(?:er|re)s?|[uµμ]m|microns?|micromet(?:er|re)s?|{_VOXEL_UNIT}"
_UNIT_CELL = re.compile(rf"^[\[(]?(?:{_UNIT}|deg|degrees?|°|rad|radians?)[\])]?$", re.IGNORECASE)
_NAME = re.compile(
    rf"^(?:(?P<before>{_WORD}|{_VOXEL_UNIT})[\s_.-]*)?(?P<axis>[xyz])(?:[\s_.-]*(?P<after>{_WORD}))?"
    rf"(?:(?:[\s_.,/-]+(?:in\s+)?|[\s_.-]*[\[({{]\s*|(?=angst))(?P<unit>{_UNIT})\s*[\])}}]?)?$",
    re.IGNORECASE,
)
"""``X [A]`` (TARDIS), ``x_nm``, ``pos_x``, ``centroid_x (px)``, ``CoordinateX``."""

_ANGSTROM = {
    **dict.fromkeys(("a", "å", "ang", "angst", "angstrom"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "micrometer", "micrometre"), 1e4),
}
"""Å in a unit of length; other units are voxels."""
_SHOWN = {1.0: "in Å", 10.0: "in nm", 1e4: "in µm", None: "in voxels"}

_ANGLE_NAMES = frozenset(
    {
        *("alpha", "beta", "gamma", "phi", "theta", "the", "tdrot", "narot", "yaw", "pitch", "roll"),
        *(f"euler_{name}" for name in ("x", "y", "z", "1", "2", "3", "phi", "theta", "psi")),
        *("euler1", "euler2", "euler3"),
    }
)
"""Names of columns that most likely are angles, of a convention that they do not state; in lower case."""

_ELEMENTS = 9
"""Of a rotation matrix."""
_MATRIX_NAME = re.compile(r"^(?:r|m|rot|rotation|matrix|rotation_matrix)[\s_.-]*[0-3][\s_,.-]*[0-3]$")
"""Names of the elements of a rotation matrix: ``r11``, ``rot_0_2``; in lower case."""


@dataclass(frozen=True)
class CoordinateColumns:
    """Columns of x, y and z, and Å of one unit; None where they count in voxels.

    Parameters
    ----------
    note : what a person should know of how they were chosen; empty where they have the names that are documented.
    """

    names: tuple[str, str, str]
    angstrom: float | None
    note: str = ""


def coordinate_columns(names: Sequence[str]) -> CoordinateColumns | None:
    """The columns that hold coordinates; None where none do, or several may.

    The documented names come first, then those that state a unit of length, then other units, then those of none, which
    are taken in Å.
    """
    plain = {name.lower(): name for name in reversed(names)}
    for own, angstrom in ((POSITION, 1.0), (VOXEL, None)):
        if set(own) <= set(plain):
            return CoordinateColumns((plain[own[0]], plain[own[1]], plain[own[2]]), angstrom)
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in names:
        match = _NAME.match(normalize("NFC", name))
        if match is not None:
            key = tuple((match[part] or "").lower() for part in ("before", "after", "unit"))
            if not key[2] and re.fullmatch(_VOXEL_UNIT, key[0]) and len(name) > len(key[0]) + 1:
                key = ("", key[1], key[0])
            found.setdefault((key[0], key[1], key[2]), {}).setdefault(match["axis"].lower(), name)
    whole = {key: axes for key, axes in found.items() if set(axes) == set(POSITION)}
    lengths = [key for key in whole if _length(key[2]) is not None]
    stated = lengths or [key for key in whole if key[2]] or list(whole)
    if len(stated) != 1:
        return None
    axes, unit = whole[stated[0]], stated[0][2]
    chosen = (axes["x"], axes["y"], axes["z"])
    angstrom = _length(unit) if unit else 1.0
    words = _SHOWN[angstrom] if unit else "taken in Å"
    return CoordinateColumns(chosen, angstrom, f"Coordinates are the columns {', '.join(chosen)}, {words}.")


def _length(unit: str) -> float | None:
    """Å in a unit of length; None for any other."""
    return _ANGSTROM.get(unit.removesuffix("s"))


def angle_names(names: Sequence[str]) -> list[str]:
    """Those names that most likely are of angles, or of a rotation matrix's elements, which are not read."""
    matrix = [name for name in names if _MATRIX_NAME.match(name.lower())]
    return [name for name in names if name.lower() in _ANGLE_NAMES] + (matrix if len(matrix) == _ELEMENTS else [])


def check_lengths(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Check that all rows have as many values as the first.

    Raises
    ------
    InputError
        If one has more or fewer: which.
    """
    wrong = next((number for number, row in enumerate(rows, start=1) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise InputError(
            f"{path}: row {wrong} has {len(rows[wrong - 1])} values; expected {len(rows[0])} as in row 1. Mend it."
        )
