"""What a dialect of particle lists is: how its files are recognised, read and written, and what a person should know.

`ListFile` is what dialects look at to recognise a file: first bytes, text, and the names in its STAR tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import Table, read_star
from napari_orient.engine.io.text_encoding import UTF16
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Particles

_HEAD_BYTES = 4096
"""Bytes that hold every header by which a binary file is recognised: those of MRC and EM have 1024 and 512."""

_KEPT_BYTES = 2**22
"""Bytes of a file whose text is kept while its dialect is looked for; a larger one is read part by part, again each
time that all of it is searched."""

HEAD_CHARACTERS = 65_536
"""Characters of a file that its header is looked for in; a header of a hundred columns has 2,000. Chosen."""

_PART_CHARACTERS = 2**20
"""Characters of a large file that are in memory at once; speed only."""


_BLOCK = re.compile(r"^[ \t]*data_([^\s,;|]*)[ \t]*(?:#.*)?$", re.MULTILINE | re.IGNORECASE)
"""The line that begins a STAR block, alone: a row of a table may begin with a name such as ``data_01``."""


_TAG = re.compile(r"^\s*_(\S+)", re.MULTILINE)
"""A line that names a column of a STAR table."""


class ListFile:
    """A file that may hold a list of particles, with what dialects recognise it by; each read once, when asked for.

    Raises
    ------
    InputError
        If there is no such file, it is a folder, or it is empty.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = existing_file(path)

    @property
    def suffix(self) -> str:
        """Suffix of the name, in lower case, with its dot."""
        return self.path.suffix.lower()

    @cached_property
    def head(self) -> bytes:
        """The first bytes; empty where the file may not be read."""
        try:
            with self.path.open("rb") as stream:
                return stream.read(_HEAD_BYTES)
        except OSError:
            return b""

    @property
    def is_text(self) -> bool:
        """Whether the first bytes are text."""
        return bool(self.head) and (b"\0" not in self.head or self._is_utf16)

    @property
    def _is_utf16(self) -> bool:
        return self.head.startswith(UTF16)

    @property
    def text(self) -> str:
        """The text, bytes that are none replaced, not kept of a large file; empty where the file holds none."""
        return self._kept_text if self._size <= _KEPT_BYTES else self._read_text()

    @cached_property
    def _kept_text(self) -> str:
        return self._read_text()

    @cached_property
    def _size(self) -> int:
        return self.path.stat().st_size

    def _read_text(self) -> str:
        return "".join(self._read_parts())

    def _read_parts(self) -> Iterator[str]:
        if not self.is_text:
            return
        encoding = "utf-16" if self._is_utf16 else "utf-8-sig"
        with suppress(OSError), self.path.open(encoding=encoding, errors="replace") as stream:
            while part := stream.read(_PART_CHARACTERS):
                yield part + stream.readline()

    def parts(self) -> Iterator[str]:
        """The text part by part, each of whole lines; of a large file no more than one is in memory."""
        return iter((self._kept_text,)) if self._size <= _KEPT_BYTES else self._read_parts()

    def holds(self, word: str) -> bool:
        """Whether a word of one line stands in the text."""
        return any(word in part for part in self.parts())

    @cached_property
    def head_text(self) -> str:
        """The first `HEAD_CHARACTERS` of the text."""
        return next(self.parts(), "")[:HEAD_CHARACTERS]

    @cached_property
    def lines(self) -> list[str]:
        """The first lines that hold something, without those that begin with ``#``."""
        lines = (line.strip() for line in self.head_text[: _HEAD_BYTES * 4].splitlines())
        return [line for line in lines if line and not line.startswith("#")][:20]

    @property
    def is_star(self) -> bool:
        """Whether it is a STAR file: by its first block, or else by its suffix."""
        return bool(self.blocks) or self.suffix == ".star"

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Names of its STAR blocks, without ``data_``."""
        return tuple(name for part in self.parts() for name in _BLOCK.findall(part))

    @cached_property
    def tags(self) -> frozenset[str]:
        """Names of the columns of all its STAR blocks, without the underscore."""
        if not self.blocks:
            return frozenset()
        return frozenset(tag for part in self.parts() for tag in _TAG.findall(part))

    @cached_property
    def star(self) -> dict[str, Table]:
        """Its STAR blocks, read.

        Raises
        ------
        InputError
            As `read_star`.
        """
        return read_star(self.path)


def block_of(file: ListFile, column: str) -> Table:
    """The STAR block of a file that has this column.

    Raises
    ------
    InputError
        If none has it, or the file cannot be read.
    """
    found = next((table for table in file.star.values() if column in table), None)
    if found is None:
        raise InputError(f"{file.path} has no table with a column {column} that can be read. Was it cut short?")
    return found


class Reader(Protocol):
    """Reads a file that the dialect recognises."""

    def __call__(self, file: ListFile, metadata: ListMetadata) -> Particles:
        """Particles of the file; an InputError where its content does not fit."""


class Writer(Protocol):
    """Writes particles as a file of the dialect."""

    def __call__(self, path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
        """Sentences on what the format cannot hold; the file is there, whole."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One program's way to write a list of particles.

    Parameters
    ----------
    name : the word by which it is asked for.
    title : what a person calls it.
    programs : which programs write it.
    suffixes : of its files, the usual one first.
    layout : where its coordinates count from, in which unit; its angles.
    trap : what is misread most easily; empty if nothing is.
    recognises : whether a file is of this dialect, by its content first.
    read : None where it is not read, as ``refusal`` says.
    write : None where it is not written.
    volumes : file of each tomogram that a list names, by the tomogram's name; None where the files are not there.
    carries_tables : whether tables of other programs beside the particles are written too.
    in_voxels : whether written coordinates count in the tomogram's voxels, whatever those that were read counted in.
    refusal : what a file is that is not read, and what opens it.
    is_volume : whether such a file is a volume.
    companions : files that are written beside a list at a path.
    """

    name: str
    title: str
    recognises: Callable[[ListFile], bool]
    programs: str = ""
    suffixes: tuple[str, ...] = ()
    layout: str = ""
    trap: str = ""
    read: Reader | None = None
    write: Writer | None = None
    volumes: Callable[[ListFile], Mapping[str, Path | None]] | None = None
    carries_tables: bool = False
    in_voxels: bool = False
    refusal: str = ""
    is_volume: bool = False
    companions: Callable[[Path], tuple[Path, ...]] = lambda _: ()
