"""Volumes read on demand: chunk by chunk, or where the voxels lie one after the other; some changed as they are read.

Chunks used last stay in memory, decoded. Voxels that lie one after the other are never mapped into memory: a mapped
file that another program shortens (as IMOD does, which writes a reconstruction over an old one) kills the process at
the next voxel that is gone, without a word. Reading it gives an error instead, takes no longer where a part of a slice
is wanted, and leaves neither the pages in memory nor a descriptor for every tomogram.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from napari_orient.engine.environment import os_error_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Density

CACHE_BYTES = 192 * 2**20
"""Bytes of decoded chunks that stay in memory: three chunks of 256³ float32 voxels, as the CryoET Data Portal writes
them, or 24 of 128³. Patches come chunk by chunk, octant by octant, so that hardly any is decoded twice. Chosen, so that
a prediction takes less than 300 MB of any tomogram; one chunk always stays."""

Box = tuple[slice, slice, slice]
"""Part of a volume along z, y, x."""


_WHOLE = ("min", "max", "mean", "std", "var", "sum", "astype", "copy", "ravel", "reshape", "transpose", "T")
"""What an array has that is asked of the whole volume."""


class ChunkedDensity(NDArrayOperatorsMixin):
    """A volume (Z, Y, X) read by chunks; indexed by integers and slices as an array is, it gives arrays.

    Parameters
    ----------
    shape, dtype : of the volume.
    chunks : voxels of a chunk along z, y, x; None where any part can be read at the same cost.
    read : voxels of a part of the volume, from the file.
    where : the file's name in errors.
    close : called when the volume is no longer used.
    """

    ndim = 3

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        chunks: tuple[int, int, int] | None,
        read: Callable[[Box], NDArray[Any]],
        where: str,
        close: Callable[[], object] | None = None,
    ) -> None:
        self.shape, self.dtype, self.chunks = shape, np.dtype(dtype), chunks
        self._read, self._where = read, where
        self._decoded: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()
        self._lock = Lock()
        if close is not None:
            finalize(self, close)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole volume, decoded."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ChunkedDensity({self._where}: shape {self.shape}, {self.dtype}, chunks {self.chunks})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and sent to other processes as what reads it where that can be, else as its voxels."""
        if isinstance(self._read, (StoredVoxels, partial)):
            return _read_by, (self.shape, self.dtype, self.chunks, self._read, self._where)
        return np.asarray, (np.asarray(self),)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """The function of the whole volume, read."""
        arrays = (np.asarray(item) if isinstance(item, ChunkedDensity) else item for item in inputs)
        return getattr(function, method)(*arrays, **options)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole volume, read."""
        if copy is False:
            raise ValueError(f"{self._where} is read from its file, which makes a copy")
        return np.asarray(self[...], dtype)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ValueError(f"{self._where} is read-only")

    def __getattr__(self, name: str) -> Any:
        """What other plugins ask of an array: of the whole volume, read."""
        if name in _WHOLE:
            return getattr(np.asarray(self), name)
        raise AttributeError(f"a volume that is read by parts has no {name}")

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The voxels asked for, as an array that may be written to."""
        bounds, within = _bounds_of(key, self.shape)
        chosen: NDArray[Any] = self._part(bounds)[within]
        return chosen

    def _part(self, bounds: tuple[tuple[int, int], ...]) -> NDArray[Any]:
        """Voxels between bounds along each axis."""
        box = tuple(slice(low, high) for low, high in bounds)
        part = np.empty([high - low for low, high in bounds], self.dtype)
        if part.size == 0:
            return part
        if self.chunks is None:
            return self._from_file(box)
        for index, chunk in self._chunks_of(bounds):
            corner = [number * side for number, side in zip(index, self.chunks, strict=True)]
            own, theirs = zip(*map(_overlap, bounds, corner, chunk.shape), strict=True)
            part[own] = chunk[theirs]
        return part

    def _chunks_of(self, bounds: tuple[tuple[int, int], ...]) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
        """Each chunk that reaches between the bounds, with its number along each axis."""
        sides = self.chunks or self.shape
        numbers = [range(low // side, -(-high // side)) for (low, high), side in zip(bounds, sides, strict=True)]
        for index in product(*numbers):
            yield index, self._chunk(index)

    def _chunk(self, index: tuple[int, ...]) -> NDArray[Any]:
        """One chunk, decoded once while it is among those used last."""
        with self._lock:
            if index in self._decoded:
                self._decoded.move_to_end(index)
                return self._decoded[index]
            sides = self.chunks or self.shape
            corners = [
                (number * side, min(number * side + side, length))
                for number, side, length in zip(index, sides, self.shape, strict=True)
            ]
            chunk = self._from_file(tuple(slice(low, high) for low, high in corners))
            self._decoded[index] = chunk
            while len(self._decoded) > 1 and sum(item.nbytes for item in self._decoded.values()) > CACHE_BYTES:
                self._decoded.popitem(last=False)
            return chunk

    def _from_file(self, box: Any) -> NDArray[Any]:
        try:
            return np.asarray(self._read(box))
        except InputError:
            raise
        except Exception as error:
            # Damaged chunks make the libraries raise errors of every kind.
            part = ", ".join(f"{part.start}-{part.stop}" for part in box)
            raise InputError(
                f"{self._where}: voxels z, y, x {part} cannot be read ({first_line(error)}). Was it copied completely?"
            ) from error


def _read_by(shape: Any, dtype: Any, chunks: Any, read: Any, where: str) -> ChunkedDensity:
    return ChunkedDensity(shape, dtype, chunks=chunks, read=read, where=where)


def first_line(error: Exception) -> str:
    """First line of an error's text, or its kind where it has none."""
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__


def _bounds_of(key: Any, shape: tuple[int, ...]) -> tuple[tuple[tuple[int, int], ...], tuple[Any, ...]]:
    """Bounds along each axis of what a key of integers and slices touches, and the key within these bounds."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(item is Ellipsis for item in keys):
        at = next(index for index, item in enumerate(keys) if item is Ellipsis)
        keys = (*keys[:at], *(slice(None),) * (len(shape) - len(keys) + 1), *keys[at + 1 :])
    if len(keys) > len(shape):
        raise IndexError(f"{len(keys)} indices were given for a volume of {len(shape)} axes")
    bounds, within = zip(*map(_bounds, (*keys, *(slice(None),) * (len(shape) - len(keys))), shape), strict=True)
    return bounds, within


def _bounds(key: Any, length: int) -> tuple[tuple[int, int], Any]:
    """First and last voxel (excluded) that a key touches along an axis, and the key within these bounds."""
    if isinstance(key, slice):
        chosen = range(*key.indices(length))
        if not chosen:
            return (0, 0), slice(None)
        return (min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1), slice(None, None, chosen.step)
    index = range(length)[int(key)]
    return (index, index + 1), 0


def _overlap(bounds: tuple[int, int], corner: int, side: int) -> tuple[slice, slice]:
    """What bounds and a chunk along an axis have in common: within the bounds, and within the chunk."""
    low, high = max(bounds[0], corner), min(bounds[1], corner + side)
    return slice(low - bounds[0], high - bounds[0]), slice(low - corner, high - corner)


# --- voxels one after the other ---------------------------------------------------------------------------------------

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


# --- voxels changed as they are read ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ChangedDensity(ABC):
    """A volume (Z, Y, X) with some voxels changed whenever they are read; the tomogram stays as it is.

    Parameters
    ----------
    density : as it was measured.
    """

    density: Density

    ndim = 3
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return tuple(self.density.shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Voxels of a chunk along z, y, x, where the density is read by chunks."""
        chunks: tuple[int, ...] | None = getattr(self.density, "chunks", None)
        return chunks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole volume, read."""
        return np.asarray(self[...], dtype)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """The voxels asked for, as an array that may be written to."""
        bounds, within = _bounds_of(key, self.shape)
        block = np.array(self.density[tuple(slice(*both) for both in bounds)], np.float32)
        self._change(block, np.array([low for low, _ in bounds]))
        return np.asarray(block[within], np.float32)

    @abstractmethod
    def _change(self, block: NDArray[np.float32], corner: NDArray[np.int_]) -> None:
        """Change a block (z, y, x) in place, whose first voxel is ``corner`` (3,) of the volume."""
