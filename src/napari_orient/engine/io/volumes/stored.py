"""Volumes whose voxels lie one after the other in a file: read by parts, and never mapped into memory.

A mapped file that another program shortens (as IMOD does, which writes a reconstruction over an old one) kills the
process at the next voxel that is gone, without a word. Reading it gives an error instead, takes no longer where a part
of a slice is wanted, and leaves neither the pages in memory nor a descriptor for every tomogram.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.environment import os_error_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.chunks import Box, ChunkedDensity

_MOST_OPEN = 64
"""Files that stay open at once: a quarter of the fewest that systems allow (256, macOS)."""

_MOST_BYTES = 2**28
"""Most bytes that are read by one call; systems take 2 GiB at most."""


def stored_density(path: Path, dtype: np.dtype[Any], shape: tuple[int, int, int], *, offset: int) -> ChunkedDensity:
    """Volume (Z, Y, X) of a file whose first voxel stands at ``offset`` bytes, x fastest; its parts are read on demand.

    Raises
    ------
    InputError
        When a part is read, if the file is gone, is shorter than it was, or was written to since.
    """
    return ChunkedDensity(shape, dtype, chunks=None, read=StoredVoxels(path, dtype, shape, offset), where=str(path))


class StoredVoxels:
    """Reads parts of the volume; see `stored_density`."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, int, int], offset: int) -> None:
        self.path, self.dtype, self.shape, self.offset = path.absolute(), np.dtype(dtype), shape, offset
        self.state = _state(path.stat())

    def __call__(self, box: Box) -> NDArray[Any]:
        """Voxels of a part, as an array of its own."""
        (first, last), (top, bottom), (left, right) = ((part.start, part.stop) for part in box)
        _, rows, width = self.shape
        part = np.empty((last - first, bottom - top, right - left), self.dtype)
        try:
            file = _open_files.file(self.path, self.state)
            if _state(os.fstat(file.descriptor)) != self.state:
                raise InputError(f"{self.path} was written to by another program since it was opened. Open it again.")
            if (top, bottom, left, right) == (0, rows, 0, width):
                self._read(file, part, first * rows * width)
                return part
            lines = part[0] if right - left == width else np.empty((bottom - top, width), self.dtype)
            for index in range(last - first):
                target = part[index] if lines.base is part else lines
                self._read(file, target, ((first + index) * rows + top) * width)
                if target is lines:
                    part[index] = lines[:, left:right]
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {os_error_words(error)}.") from error
        return part

    def _read(self, file: OpenFile, target: NDArray[Any], voxel: int) -> None:
        """Fill an array, whose voxels lie one after the other, from a voxel of the file on."""
        memory = target.reshape(-1).view(np.uint8).data
        position, done = self.offset + voxel * self.dtype.itemsize, 0
        while done < len(memory):
            count = file.read_into(memory[done : done + _MOST_BYTES], position + done)
            if count == 0:
                raise InputError(f"{self.path} ends before its last voxel. Was it shortened by another program?")
            done += count


def _state(found: os.stat_result) -> tuple[int, int]:
    """What shows that a file was written to."""
    return found.st_size, found.st_mtime_ns


class OpenFile:
    """A file that is open for reading, closed when nobody has it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = Lock()

    def __del__(self) -> None:
        """Close the file; it was not opened if its constructor failed."""
        if hasattr(self, "_lock"):
            os.close(self.descriptor)

    def read_into(self, memory: memoryview, position: int) -> int:
        """Number of bytes read into memory from a position on."""
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [memory], position)
        with self._lock:
            os.lseek(self.descriptor, position, os.SEEK_SET)
            found = os.read(self.descriptor, len(memory))
        memory[: len(found)] = found
        return len(found)


class _OpenFiles:
    """The files used last."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, OpenFile] = OrderedDict()
        self._lock = Lock()

    def file(self, path: Path, state: tuple[int, int]) -> OpenFile:
        """The file at a path, open; opened anew where the one that is open is not of this state."""
        with self._lock:
            known = self._files.get(path)
            if known is None or _state(os.fstat(known.descriptor)) != state:
                self._files[path] = OpenFile(path)
            self._files.move_to_end(path)
            while len(self._files) > _MOST_OPEN:
                self._files.popitem(last=False)
            return self._files[path]


_open_files = _OpenFiles()
