"""Syntax of STAR files: blocks of named columns, with every value as text.

`relion` has the meaning of the columns.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.rotations import DECIMALS

Table = dict[str, tuple[str, ...]]
"""Columns by name, in order; the values are text."""

_LISTS = ("general",)
"""Blocks that RELION writes as lines of name and value; every other block is a loop, even of one row."""


def read_star(path: Path | str) -> dict[str, Table]:
    """Blocks of a STAR file by name (without ``data_``); a block of one row is a table like any other.

    Raises
    ------
    InputError
        If there is no such file, it is not a STAR file, or rows do not fit their columns.
    """
    # Half a second to import, with pandas.
    import pandas as pd
    import starfile

    path = existing_file(path)
    text = _text(path)
    names = re.findall(r"^\s*_(\S+)", text, flags=re.MULTILINE)
    # starfile reads through linecache and, when it fails, leaves the lines there: a corrected file would be read as it
    # was before.
    linecache.clearcache()
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=names)
    except (ValueError, TypeError, IndexError, pd.errors.ParserError) as error:
        raise InputError(f"{path} is no STAR file that can be read ({_first_line(error)}). Write it again.") from error
    finally:
        linecache.clearcache()
    if not blocks:
        raise InputError(f"{path} holds no STAR table; expected a block such as data_particles.")
    return {name: _table(block, text, f"{path}, data_{name}") for name, block in blocks.items()}


def write_star(
    path: Path | str, blocks: Mapping[str, Mapping[str, Sequence[str]]], *, provenance: str = "", version: str = ""
) -> None:
    """Write blocks of text columns, in order, after a first ``#`` line with the provenance, if that is given.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    lines = [f"# {' '.join(provenance.split())}\n"] if provenance else []
    for name, table in blocks.items():
        lines += [f"\n# version {version}\n"] if version else []
        lines += _list(name, table) if name in _LISTS else _loop(name, table)
    with replacing(path) as beside:
        beside.write_text("".join(lines), encoding="utf-8", newline="\n")


def numbers(table: Mapping[str, Sequence[str]], columns: Sequence[str], *, where: str) -> FloatArray:
    """Columns as finite numbers, (N, number of columns).

    Raises
    ------
    InputError
        As `single`.
    """
    return np.stack([single(table, name, where=where) for name in columns], axis=1)


def single(table: Mapping[str, Sequence[str]], name: str, *, where: str, finite: bool = True) -> FloatArray:
    """Column as numbers, (N,); if ``finite`` is false, ``nan`` and empty values become NaN.

    Raises
    ------
    InputError
        If a value is not a (finite) number: its column, row and text.
    """
    texts = table[name]
    try:
        values = np.array(texts, dtype=object).astype(float)
    except ValueError:
        values = np.array([_number(text) for text in texts])
    wrong = ~np.isfinite(values) if finite else _unreadable(texts, values)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{where}: {name} of row {row + 1} is {texts[row]!r}; expected a number "
            f"({int(wrong.sum())} such rows). Mend or remove them."
        )
    return values


def decimals(column: FloatArray) -> list[str]:
    """Numbers (N,) as text with six decimals, without a sign on zero."""
    return [f"{value:.{DECIMALS}f}" for value in (np.round(column, DECIMALS) + 0.0).tolist()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _unreadable(texts: Sequence[str], values: FloatArray) -> NDArray[np.bool_]:
    unknown = np.array([text.strip().lower() in ("nan", "-nan", "") for text in texts], bool)
    wrong: NDArray[np.bool_] = np.isnan(values) & ~unknown
    return wrong


# --- reading --------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text; expected a STAR file.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read by you; change its permissions.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


def _table(block: Any, text: str, where: str) -> Table:
    if isinstance(block, dict):
        return {str(name): (str(value),) for name, value in block.items()}
    names = [str(name) for name in block.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where} has two columns named {twice}; rename or remove one.")
    if len(block) == 0:
        return dict.fromkeys(names, ())
    table = {name: tuple(block[name].fillna("nan").astype(str).tolist()) for name in names}
    _check_complete(table[names[-1]], len(names), text, where)
    return table


def _check_complete(last: Sequence[str], columns: int, text: str, where: str) -> None:
    """Check that no row is cut short: starfile reads its last values as empty, which ``""`` may also be."""
    if "" in last and '""' not in text and "''" not in text:
        row = last.index("") + 1
        raise InputError(f"{where}: row {row} has fewer values than the {columns} columns; was the file cut short?")


# --- writing --------------------------------------------------------------------------------------------------------


def _loop(name: str, table: Mapping[str, Sequence[str]]) -> list[str]:
    heads = [f"\ndata_{name}\n\nloop_\n"]
    heads += [f"_{column} #{number}\n" for number, column in enumerate(table, start=1)]
    columns = [[_cell(value) for value in values] for values in table.values()]
    return [*heads, *("\t".join(row) + "\n" for row in zip(*columns, strict=True)), "\n"]


def _list(name: str, table: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"\ndata_{name}\n\n", *(f"_{column}\t{_cell(values[0])}\n" for column, values in table.items()), "\n"]


def _cell(text: str) -> str:
    # Nearly all values are plain: the speed of writing depends on this test alone.
    if text and text.isprintable() and " " not in text and text[0] not in "\"'#_;":
        return text
    flat = " ".join(text.split())
    return f"'{flat}'" if '"' in flat else f'"{flat}"'
