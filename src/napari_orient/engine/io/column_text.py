"""Columns of a list as text, in little memory: what is read, packed in blocks; what is written, made when asked for.

A number of ten characters is 60 bytes as a Python string, and 10 in an array of bytes. A list of a million particles
with ten columns would take 600 MB for its text alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 16_384
"""Rows whose text is held as Python strings together: a megabyte a column; chosen."""

_MOST_KNOWN = 1000
"""Distinct texts up to which a column holds each but once, as names of tomograms and classes are; chosen."""

_MOST_PADDING = 4
"""Bytes of a packed block over those of its texts, at the most: one long text would pad all others."""


class _Texts(Sequence[str]):
    """A sequence of texts by blocks of `BLOCK_ROWS`, the last perhaps shorter."""

    @abstractmethod
    def _block(self, number: int) -> Sequence[str]:
        """Texts of one block."""

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[str]: ...
    def __getitem__(self, key: int | slice) -> str | Sequence[str]:
        """One text, or a tuple of those of a slice."""
        if isinstance(key, slice):
            return tuple(self[row] for row in range(*key.indices(len(self))))
        return self._text(*divmod(range(len(self))[key], BLOCK_ROWS))

    def _text(self, number: int, row: int) -> str:
        """One text of a block."""
        return self._block(number)[row]

    def __iter__(self) -> Iterator[str]:
        for number in range(-(-len(self) // BLOCK_ROWS)):
            yield from self._block(number)

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same texts."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    def __hash__(self) -> int:
        """As a tuple's of the same texts."""
        return hash(tuple(self))


class FormattedColumn(_Texts):
    """Values of a column (N,) as text, made block by block each time that they are asked for."""

    def __init__(self, column: NDArray[Any], form: Callable[[NDArray[Any]], list[str]]) -> None:
        self._column, self._form = column, form

    def __len__(self) -> int:
        return len(self._column)

    def _block(self, number: int) -> Sequence[str]:
        return self._form(self._column[number * BLOCK_ROWS : (number + 1) * BLOCK_ROWS])

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[str]: ...
    def __getitem__(self, key: int | slice) -> str | Sequence[str]:
        """One text, or those of a slice; no others are made."""
        if isinstance(key, slice):
            return self._form(self._column[key])
        row = range(len(self))[key]
        return self._form(self._column[row : row + 1])[0]


class TextColumn(_Texts):
    """Texts of a column that is read, packed block by block."""

    def __init__(self) -> None:
        self._blocks: list[Sequence[str] | NDArray[np.bytes_]] = []
        self._known: dict[str, str] | None = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, texts: Sequence[str]) -> None:
        """Append a block, of `BLOCK_ROWS` texts unless it is the last."""
        self._count += len(texts)
        if self._known is None:
            self._blocks.append(_packed(texts))
            return
        known = self._known
        block = [known.setdefault(text, text) for text in texts]
        if len(known) > _MOST_KNOWN:
            self._known = None
            self._blocks.append(_packed(block))
        else:
            self._blocks.append(block)

    def _text(self, number: int, row: int) -> str:
        """One text of a block; no others of it are unpacked."""
        block = self._blocks[number]
        return bytes(block[row]).decode("ascii") if isinstance(block, np.ndarray) else block[row]

    def _block(self, number: int) -> Sequence[str]:
        block = self._blocks[number]
        if not isinstance(block, np.ndarray):
            return block
        found: list[str] = block.astype(str).tolist()
        return found


def _packed(texts: Sequence[str]) -> Sequence[str] | NDArray[np.bytes_]:
    """Texts as an array of bytes; as they are where they are not ASCII, hold NUL or differ much in length."""
    joined = "".join(texts)
    longest = max(map(len, texts), default=0)
    if not joined.isascii() or "\0" in joined or longest * len(texts) > _MOST_PADDING * max(len(joined), 1):
        return list(texts)
    return np.array(texts, dtype=f"S{max(longest, 1)}")


def blocks_of(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in blocks, in order: those of a packed column as it holds them, any others whole."""
    if isinstance(texts, _Texts):
        yield from (texts._block(number) for number in range(-(-len(texts) // BLOCK_ROWS)))
    else:
        yield texts


class TableColumns:
    """Rows of a table, taken one by one, as columns of text.

    Parameters
    ----------
    count : of columns, ``width`` afterwards.
    """

    def __init__(self, count: int) -> None:
        self.width = count
        self._columns = [TextColumn() for _ in range(count)]
        self._rows: list[Sequence[str]] = []

    def append(self, row: Sequence[str]) -> None:
        """Append a row, which has a text for each column."""
        self._rows.append(row)
        if len(self._rows) == BLOCK_ROWS:
            self._pack()

    def _pack(self) -> None:
        for column, texts in zip(self._columns, zip(*self._rows, strict=True), strict=True):
            column.append(texts)
        self._rows = []

    def columns(self) -> list[Sequence[str]]:
        """The columns; those of a short table as tuples."""
        if self._columns and not len(self._columns[0]):
            return list(zip(*self._rows, strict=True)) if self._rows else [() for _ in self._columns]
        if self._rows:
            self._pack()
        return list(self._columns)
