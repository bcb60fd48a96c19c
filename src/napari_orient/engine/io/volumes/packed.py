"""MRC files packed with gzip or bzip2: unpacked in memory where they are small, else to a folder that is named."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import sys
import tempfile
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.mrc import (
    HEADER_BYTES,
    Header,
    check_complete,
    check_volume,
    mrc_of_bytes,
    parsed_header,
    read_mrc,
)
from napari_orient.engine.io.volumes.voxel_sizes import FLAG
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.particles import Tomogram

PACKED = {".gz": "gunzip", ".bz2": "bunzip2"}
"""Suffixes of packed files, and the program that unpacks them."""

IN_MEMORY_BYTES = 256 * 2**20
"""Largest unpacked file that is read into memory: 64 million voxels of float32, a map or a coarse tomogram. Chosen."""

CACHE_VARIABLE = "NAPARI_ORIENT_CACHE"
"""Environment variable that names the folder to unpack large files to."""

_BLOCK = 16 * 2**20
"""Bytes unpacked at a time."""

_UNREADABLE = (OSError, EOFError, zlib.error, ValueError)


def read_packed(path: Path | str, *, name: str, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of a packed MRC file.

    A file larger than `IN_MEMORY_BYTES` is unpacked once to `cache_folder` and mapped from there; a note says so.

    Parameters
    ----------
    name : of the tomogram.
    voxel_size, flag : as `mrc.read_mrc`.

    Raises
    ------
    InputError
        If it cannot be unpacked, there is no place for it, or as `mrc.read_mrc`.
    """
    path = existing_file(path)
    header = _packed_header(path)
    if header.bytes_expected <= IN_MEMORY_BYTES:
        content = _unpacked(path, header.bytes_expected)
        return mrc_of_bytes(content, header, path, name=name, voxel_size=voxel_size, flag=flag)
    check_volume(path, header, voxel_size_given=voxel_size is not None, flag=flag)
    unpacked = _unpacked_file(path, header, name)
    opened = read_mrc(unpacked, voxel_size=voxel_size, flag=flag)
    size = f"{header.bytes_expected / 2**30:.1f} GiB"
    note = f"{path.name} was unpacked to {unpacked} ({size}), which may be removed afterwards."
    return replace(opened, name=name, notes=(*opened.notes, note))


def cache_folder() -> Path:
    """Folder to unpack to: that of `CACHE_VARIABLE`, else the user's for caches, else the one for temporary files."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = {
        "win32": os.environ.get("LOCALAPPDATA", ""),
        "darwin": str(Path("~/Library/Caches").expanduser()),
    }.get(sys.platform, os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser()))
    folder = Path(base) / "napari-orient"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "napari-orient"
    return folder


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        magic = stream.read(3)
    if magic == b"BZh":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb"))
    raise InputError(f"{path} is packed neither by gzip nor by bzip2, whatever its name says. Copy it again.")


def _packed_header(path: Path) -> Header:
    raw = _unpacked(path, HEADER_BYTES)
    header = parsed_header(raw) if len(raw) == HEADER_BYTES else None
    if header is None or not (header.makes_sense and header.marked):
        program = PACKED[path.suffix.lower()]
        raise InputError(f"{path} holds no MRC file that can be read packed. Unpack it first ({program}).")
    # What is in the header decides how much is unpacked: the file's own end is known only afterwards.
    check_complete(path, header, header.bytes_expected)
    return header


def _unpacked(path: Path, count: int) -> bytes:
    """First bytes of the unpacked file, at most so many."""
    try:
        with _opened(path) as stream:
            return stream.read(count)
    except PermissionError as error:
        raise InputError(f"{path} may not be read by you; change its permissions.") from error
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be unpacked ({error}). Copy or download it again.") from error


def _unpacked_file(path: Path, header: Header, name: str) -> Path:
    """The unpacked file, made once for each state of the packed one."""
    state = path.stat()
    key = sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder()
    target = folder / f"{name}-{key}.mrc"
    if target.is_file() and target.stat().st_size == header.bytes_expected:
        return target
    _check_free(path, folder, header.bytes_expected)
    with replacing(target) as beside:
        _unpack_to(path, beside, header.bytes_expected)
        check_complete(path, header, beside.stat().st_size)
    return target


def _unpack_to(path: Path, target: Path, count: int) -> None:
    left = count
    try:
        with _opened(path) as stream, target.open("wb") as out:
            while left > 0 and (block := stream.read(min(_BLOCK, left))):
                out.write(block)
                left -= len(block)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be unpacked to {target.parent} ({error}).") from error


def _check_free(path: Path, folder: Path, needed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(
            f"{path} must be unpacked, and {folder} cannot be written ({error.strerror}). Unpack it yourself "
            f"({PACKED[path.suffix.lower()]}), or name another folder in {CACHE_VARIABLE}."
        ) from error
    if free < needed:
        raise InputError(
            f"{path} takes {needed / 2**30:.1f} GiB unpacked; {folder} has {free / 2**30:.1f} GiB left. Name another "
            f"folder in {CACHE_VARIABLE}."
        )
