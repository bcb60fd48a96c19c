"""Digests of content: equal where values, arrays and files hold the same, whatever they are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient.engine.model_files import ModelFile
from napari_orient.engine.options import Options
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import Particles, Tomogram

_CHUNK = 1 << 22
"""Bytes that a file is read in at a time; chosen: above 1 MB the time is the hash's own, 0.7 s a GB (SHA-256)."""
_DIGITS = 40
"""Hexadecimal digits of a digest that are kept: 160 bits, as Git has."""


def content_digest(*values: object) -> str:
    """Forty hexadecimal digits that differ wherever the values do, the types of numbers included.

    Parameters
    ----------
    values : None, numbers, texts, arrays, tensors, options, models, dataclasses, and mappings and sequences of these.

    Raises
    ------
    TypeError
        If a value is of another type.
    """
    digest = hashlib.sha256()
    for value in values:
        for part in _encoded(value):
            digest.update(part)
    return digest.hexdigest()[:_DIGITS]


def _encoded(value: object) -> Iterator[bytes]:
    """Bytes of a value, its kind and length first, so that no two values have the same."""
    if isinstance(value, np.generic):
        yield from _encoded(value.item())
    elif value is None or isinstance(value, (bool, int, float, str)):
        yield _framed(type(value).__name__, repr(value).encode())
    elif isinstance(value, np.ndarray) or hasattr(value, "detach"):
        yield from _encoded_array(value)
    elif isinstance(value, Mapping):
        yield _framed("mapping", str(len(value)).encode())
        for key in sorted(value, key=repr):
            yield from _encoded(key)
            yield from _encoded(value[key])
    elif isinstance(value, Sequence):
        yield _framed("sequence", str(len(value)).encode())
        for item in value:
            yield from _encoded(item)
    else:
        yield from _encoded(_contents(value))


def _contents(value: object) -> object:
    """What a value of several parts holds: options by name, a model without its name and card, fields by name."""
    if isinstance(value, Options):
        return {"options": type(value).__name__, **value.to_record()}
    if isinstance(value, ModelFile):
        return (value.kind, value.options, value.tensors)
    if hasattr(value, "to_file"):
        return value.to_file()
    if is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    raise TypeError(f"a {type(value).__name__} has no digest")


def _encoded_array(value: Any) -> Iterator[bytes]:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype == object:
        yield from _encoded(array.tolist())
        return
    if array.dtype.kind == "U":
        # The same texts may stand in arrays of wider or narrower fields.
        yield _framed(f"texts {array.shape}", json.dumps(array.tolist()).encode())
        return
    yield _framed("array", f"{array.dtype.str} {array.shape}".encode())
    yield np.ascontiguousarray(array).tobytes()


def _framed(kind: str, data: bytes) -> bytes:
    return f"{kind} {len(data)}:".encode() + data


def particles_digest(particles: Particles) -> str:
    """Digest of all that the poses found for these particles can depend on, and of the columns carried through.

    Rows in the list, tables beside it, sizes of other tomograms and sentences on how it was read are left out: they
    change where a tomogram is added to the list.
    """
    texts = np.asarray(particles.tomogram)
    own = {name: particles.extents[name] for name in particles.tomogram_names if name in particles.extents}
    columns = (particles.positions, particles.rotations, particles.confidence, particles.expected_error_deg)
    return content_digest(columns, texts, particles.kind, list(particles.extra), particles.extra, own)


class FileDigests:
    """Digests of files and folders, computed once while size and time of change stay the same.

    Parameters
    ----------
    path : of the JSON file that holds them from run to run; it is written by `save`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, list[str]] = _read_records(path)

    def of(self, tomogram: Tomogram) -> str | None:
        """Digest of a tomogram as it was computed when its file was as it is now; None where it was not."""
        if tomogram.path is None:
            return None
        stamp, digest = self._found.get(str(tomogram.path.resolve()), ("", ""))
        return _with_size(digest, tomogram) if stamp == file_stamp(tomogram.path) else None

    def add(self, path: Path, stamp: str, digest: str) -> None:
        """Remember the digest of a file that had this stamp."""
        self._found[str(path.resolve())] = [stamp, digest]

    def save(self) -> None:
        """Write the digests; what is not there any more is forgotten."""
        self._found = {name: record for name, record in self._found.items() if Path(name).exists()}
        with replacing(self.path) as beside:
            beside.write_text(json.dumps(self._found, indent=1), encoding="utf-8")


def _read_records(path: Path) -> dict[str, list[str]]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(stamp), str(digest)] for name, (stamp, digest) in records.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def file_stamp(path: Path) -> str:
    """Digest of size and time of change of a file, or of all files of a folder; empty where it is not there."""
    try:
        found = [(item.stat().st_size, item.stat().st_mtime_ns) for item in files_of(path)]
    except OSError:
        return ""
    return content_digest(found)


def file_digest(path: Path) -> str:
    """Digest of the bytes of a file, or of all files of a folder and their names in it."""
    digest = hashlib.sha256()
    for item in files_of(path):
        digest.update(_framed("file", b"" if item == path else item.relative_to(path).as_posix().encode()))
        with item.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:_DIGITS]


def tomogram_digest(tomogram: Tomogram, of_file: str | None = None) -> str:
    """Digest of the voxels of a tomogram, by its file where there is one, and of their size.

    Parameters
    ----------
    of_file : digest of its file, if it is known.
    """
    if tomogram.path is None:
        return content_digest(np.asarray(tomogram.density), tomogram.voxel_size)
    return _with_size(of_file or file_digest(tomogram.path), tomogram)


def _with_size(digest: str, tomogram: Tomogram) -> str:
    return content_digest(digest, tomogram.voxel_size, tuple(tomogram.density.shape))


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files of a folder, in order of their names."""
    return sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
