"""Syntax of STAR files: blocks of named columns, with every value as text.

The dialects have the meaning of the columns. Values are kept as they stand: ``#`` begins a comment only at the start of
a line or behind a row that is complete, quotes count only around a whole value, and names of columns may hold blanks,
which are written as ``%20``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.column_text import FormattedColumn, TableColumns, blocks_of
from napari_orient.engine.io.text_encoding import text_encoding
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.rotations import DECIMALS

Table = dict[str, Sequence[str]]
"""Columns by name, in order; the values are text, of long tables in little memory (`column_text`)."""

_LISTS = ("general",)
"""Blocks that RELION writes as lines of name and value; every other block is a loop, even of one row."""

GROUP = "rlnOpticsGroup"

_BLOCK = re.compile(r"\s*data_(\S*)\s*(#.*)?$", re.IGNORECASE)
_LOOP = re.compile(r"\s*loop_\s*(#.*)?$", re.IGNORECASE)
_VALUE = re.compile(r"""'(.*?)'(?=\s|$)|"(.*?)"(?=\s|$)|(\S+)""", re.ASCII)
"""A value of a row: in quotes that end before a blank, or without blanks."""

_ESCAPE = re.compile(r"%(09|0A|0B|0C|0D|20|22|23|25|27)")
"""A blank, ``#``, a quote or ``%`` in the name of a column."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+$")
"""A number such as ``12,5``, which spreadsheets write in many languages."""

_UNKNOWN = ("nan", "-nan", "", "<na>")
"""Texts of a number that is unknown, in lower case."""


def read_star(path: Path | str) -> dict[str, Table]:
    """Blocks of a STAR file by name (without ``data_``); a block of one row is a table like any other.

    Blocks of one name, as in files that were joined, are joined where their columns are the same.

    Raises
    ------
    InputError
        If there is no such file, it is not a STAR file, rows do not fit their columns, or blocks of one name differ.
    """
    path = existing_file(path)
    blocks: dict[str, Table] = {}
    for block in _blocks(_lines(path), path):
        where, table = f"{path}, data_{block.name}", block.table(path)
        if table:
            name = block.name
            blocks[name] = _joined(blocks[name], table, where) if name in blocks else table
    if not blocks:
        raise InputError(f"{path} holds no STAR table; expected a block such as data_particles.")
    return blocks


def write_star(
    path: Path | str, blocks: Mapping[str, Mapping[str, Sequence[str]]], *, provenance: str = "", version: str = ""
) -> None:
    """Write blocks of text columns, in order, after a first ``#`` line with the provenance, if that is given.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(provenance_line(provenance))
        for name, table in blocks.items():
            if version:
                stream.write(f"\n# version {version}\n")
            stream.writelines(_list(name, table) if name in _LISTS else _loop(name, table))


def provenance_line(provenance: str) -> str:
    """The first line of a list, which says where its poses come from; empty where nothing is said."""
    return f"# {' '.join(provenance.split())}\n" if provenance else ""


def numbers(table: Mapping[str, Sequence[str]], columns: Sequence[str], *, where: str) -> FloatArray:
    """Columns as finite numbers, (N, number of columns).

    Raises
    ------
    InputError
        As `single`.
    """
    found = np.empty((len(table[columns[0]]), len(columns)))
    for place, name in enumerate(columns):
        found[:, place] = single(table, name, where=where)
    return found


def single(table: Mapping[str, Sequence[str]], name: str, *, where: str, finite: bool = True) -> FloatArray:
    """Column as numbers, (N,); if ``finite`` is false, ``nan`` and empty values become NaN.

    Raises
    ------
    InputError
        If a value is not a (finite) number: its column, row and text.
    """
    texts = table[name]
    found = [_numbers_and_wrong(block, finite=finite) for block in blocks_of(texts)]
    values, wrong = (np.concatenate(column) for column in zip(*found, strict=True)) if found else (np.zeros(0),) * 2
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        expected = "a number with a decimal point" if _DECIMAL_COMMA.match(texts[row]) else "a number"
        raise InputError(
            f"{where}: {name} of row {row + 1} is {texts[row]!r}; expected {expected} "
            f"({int(wrong.sum())} such rows). Mend or remove them."
        )
    return values


def _numbers_and_wrong(texts: Sequence[str], *, finite: bool) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Texts as numbers, (N,), and which of them are none, (N,)."""
    try:
        values = np.array(texts, dtype=object).astype(float)
    except ValueError:
        values = np.array([_number(text) for text in texts])
    joined = "".join(texts)
    if "_" in joined or not joined.isascii():
        # Python's numbers, 1_000 and digits of other scripts, are no other program's.
        values[[("_" in text or not text.isascii()) for text in texts]] = np.nan
    return values, ~np.isfinite(values) if finite else _unreadable(texts, values)


def decimals(column: FloatArray) -> Sequence[str]:
    """Numbers (N,) as text with six decimals, without a sign on zero."""
    return FormattedColumn(np.asarray(column), _with_decimals)


def _with_decimals(column: FloatArray) -> list[str]:
    return [f"{value:.{DECIMALS}f}" for value in (np.round(column, DECIMALS) + 0.0).tolist()]


def number_columns(columns: Sequence[str], values: FloatArray) -> dict[str, Sequence[str]]:
    """Columns of these names with the values (N, number of columns) as text."""
    return dict(zip(columns, (decimals(column) for column in values.T), strict=True))


def column_texts(column: NDArray[Any]) -> Sequence[str]:
    """Values of a column (N,) as text, numbers with six decimals."""
    return decimals(column) if np.issubdtype(column.dtype, np.floating) else plain_texts(column)


def plain_texts(column: NDArray[Any]) -> Sequence[str]:
    """Values of a column (N,) as text, numbers with all their digits."""
    return FormattedColumn(column, lambda block: [str(value) for value in block.tolist()])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _unreadable(texts: Sequence[str], values: FloatArray) -> NDArray[np.bool_]:
    unknown = np.array([text.strip().lower() in _UNKNOWN for text in texts], bool)
    wrong: NDArray[np.bool_] = np.isnan(values) & ~unknown
    return wrong


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass
class _Block:
    """A block while it is read: its names, and its rows as far as they have come.

    Parameters
    ----------
    rows : all but the last, each of the right length.
    last : the last row, which may be cut short.
    count : of rows.
    """

    name: str
    names: list[str] = field(default_factory=list)
    rows: TableColumns | None = None
    last: list[str] = field(default_factory=list)
    count: int = 0
    in_loop: bool = False

    def take(self, line: str, path: Path) -> None:
        """Take a line of the block: a name of a column, a row, or a name with its value."""
        values = _values(line, len(self.names) if self.in_loop else 2)
        is_name = line.lstrip().startswith("_") and not (self.in_loop and self._is_row(values))
        if not is_name and not self.in_loop:
            raise _unreadable_file(path, f"data_{self.name}: {line.strip()[:30]!r} is neither a name nor a row")
        if not is_name:
            if self.count:
                self._keep(path)
            self.last, self.count = values, self.count + 1
            return
        self.names.append(_name(values[0][1:]))
        if not self.in_loop:
            self.last, self.count = [*self.last, values[1] if len(values) > 1 else ""], 1

    def _keep(self, path: Path) -> TableColumns:
        """All rows, the last added to the others."""
        if self.rows is None:
            self._check_names(path)
            self.rows = TableColumns(len(self.names))
        if not len(self.last) == self.rows.width == len(self.names):
            found, count = len(self.last), len(self.names)
            raise _unreadable_file(path, f"data_{self.name}: row {self.count} has {found} values for {count} columns")
        self.rows.append(self.last)
        return self.rows

    def _check_names(self, path: Path) -> None:
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"{path}, data_{self.name} has two columns named {twice}; rename or remove one.")

    def _is_row(self, values: Sequence[str]) -> bool:
        """Whether values that begin with an underscore are a row: names are followed by a number at most."""
        if self.rows:
            return True
        return len(values) == len(self.names) > 1 and not values[1].startswith("#")

    def table(self, path: Path) -> Table:
        """Columns of the block.

        Raises
        ------
        InputError
            If two have one name, or a row has more or fewer values than there are columns.
        """
        self._check_names(path)
        if not self.count:
            return dict.fromkeys(self.names, ())
        if self.count > 1 and len(self.last) < len(self.names):
            raise InputError(
                f"{path}, data_{self.name}: row {self.count} has fewer values than the {len(self.names)} columns; "
                "was the file cut short?"
            )
        return dict(zip(self.names, self._keep(path).columns(), strict=True))


def _blocks(lines: Iterable[str], path: Path) -> Iterator[_Block]:
    """Blocks of the lines, in order; the loops of a block one by one."""
    block: _Block | None = None
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        header = _BLOCK.match(line)
        # In a loop of one column a value may begin so, and is taken for a block: no program writes such names alone.
        if header is not None:
            if block is not None:
                yield block
            block = _Block(header[1])
        elif block is None:
            continue
        elif _LOOP.match(line):
            if block.names:
                yield block
                block = _Block(block.name)
            block.in_loop = True
        elif line.startswith(";"):
            raise _unreadable_file(path, f"data_{block.name} holds a text of several lines between semicolons")
        else:
            block.take(line, path)
    if block is not None:
        yield block


def _values(line: str, count: int) -> list[str]:
    """Values of a row of so many columns; what follows them behind a ``#`` is a comment."""
    if '"' not in line and "'" not in line and "#" not in line and line.isascii():
        return line.split()
    values: list[str] = []
    for match in _VALUE.finditer(line):
        if len(values) >= count and match[0].startswith("#"):
            break
        values.append(match[match.lastindex or 0])
    return values


def _name(tag: str) -> str:
    """Name of a column that `_tag` wrote; names of other programs as they are."""
    return "" if tag == "%" else _ESCAPE.sub(lambda match: chr(int(match[1], 16)), tag)


def _joined(first: Table, second: Table, where: str) -> Table:
    """Tables of one name, the rows of the second after those of the first."""
    if set(first) != set(second):
        raise InputError(f"{where} is there twice, with different columns; expected one. Make a file of each.")
    if not any("Coordinate" in name for name in first):
        if first == second:
            return first
        twice = sorted(set(first.get(GROUP, ())) & set(second.get(GROUP, ())))
        if twice:
            raise InputError(f"{where} is there twice, with different rows of group {twice[0]}. Make a file of each.")
    return {name: (*first[name], *second[name]) for name in first}


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file of text, one by one.

    Raises
    ------
    InputError
        If it may not be read, or is not text.
    """
    with path.open(encoding=text_encoding(path, expected="a STAR file")) as stream:
        try:
            yield from stream
        except UnicodeDecodeError as error:
            raise _unreadable_file(path, "its text in UTF-16 is cut short") from error


def _unreadable_file(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is no STAR file that can be read ({reason}). Write it again.")


# --- writing --------------------------------------------------------------------------------------------------------


def _loop(name: str, table: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"\ndata_{name}\n\nloop_\n"
    yield from (f"_{_tag(column)} #{number}\n" for number, column in enumerate(table, start=1))
    yield from ("\t".join(map(_cell, row)) + "\n" for row in zip(*table.values(), strict=True))
    yield "\n"


def _list(name: str, table: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"\ndata_{name}\n\n",
        *(f"_{_tag(column)}\t{_cell(values[0])}\n" for column, values in table.items()),
        "\n",
    ]


def _tag(column: str) -> str:
    """Name of a column as STAR can hold it: blanks, ``#`` and quotes as ``%`` and their number."""
    tag = _ESCAPE.sub(r"%25\1", column)
    return re.sub(r"[\s#\"']", lambda match: f"%{ord(match[0]):02X}" if ord(match[0]) < 128 else "_", tag) or "%"


def _cell(text: str) -> str:
    # Nearly all values are plain: the speed of writing depends on this test alone.
    if text and text.isprintable() and " " not in text and text[0] not in "\"'#_;" and text[:5].lower() not in _WORDS:
        return text
    flat = re.sub(r"[\t\n\r\f\v]", " ", text)
    quote = next((mark for mark in "\"'" if f"{mark} " not in flat), None)
    if quote is None:
        flat, quote = flat.replace('"', "''"), '"'
    return f"{quote}{flat}{quote}"


_WORDS = ("data_", "loop_")
"""First letters of a value that would be read as the syntax's own words."""
