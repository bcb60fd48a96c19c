"""Particles of each tomogram that is done, kept in a folder by the digest of all that they depend on.

The folder outlives the run: where the same tomogram, particles, model and options come again, whatever their names, the
particles are taken from it. One file a tomogram, written whole or not at all; no code is loaded from it. Digests are
equal where values, arrays and files hold the same, whatever they are called.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.model_files import ModelFile
from napari_orient.engine.options import Options
from napari_orient.engine.outputs import check_writable, replacing, write_text
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.projects.task import Outcome, TomogramTask
from napari_orient.engine.streams import Note

_FORMAT = 1
"""Version of the files of particles; others are passed over."""
_COLUMNS = ("positions", "rotations", "confidence", "expected_error_deg", "tomogram", "kind")
_SUFFIX = ".npz"
_DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, BadZipFile, EOFError)
"""What is raised where a file of particles is not there, not whole, or of another version."""
_HEADER = ("tomogram", "state", "particles", "seconds", "method", "notes")

TO_DO, DONE, STORED, FAILED = "to do", "done", "done before", "failed"
"""How a tomogram stands, as the table of states says it."""


@dataclass(frozen=True)
class TomogramState:
    """How one tomogram stands: a row of the table beside the list."""

    name: str
    state: str
    count: int = 0
    seconds: float = 0.0
    method: str = ""
    notes: tuple[str, ...] = ()


class StoredResults:
    """The folder of the particles of tomograms that are done, and the table of how all stand.

    Parameters
    ----------
    folder : made when the first tomogram is done.
    table : the CSV file of states; None writes none.
    """

    def __init__(self, folder: Path, table: Path | None = None) -> None:
        self.folder, self.table = folder, table
        self.digests = FileDigests(folder / "digests.json")
        self._kept: set[str] = set()

    @classmethod
    def beside(cls, output: Path) -> StoredResults:
        """The results beside a list: ``OUT_parts``, and the table ``OUT_status.csv``."""
        return cls(output.parent / f"{output.stem}_parts", output.parent / f"{output.stem}_status.csv")

    def check(self) -> None:
        """Check that folder and table can be written.

        Raises
        ------
        InputError
            If they cannot.
        """
        check_writable((self.folder if self.folder.is_dir() else self.folder.parent) / "digests.json")
        if self.table is not None:
            check_writable(self.table)

    @property
    def any(self) -> bool:
        """Whether the particles of some tomogram are kept."""
        return self.folder.is_dir() and any(self.folder.glob(f"*{_SUFFIX}"))

    def key(
        self,
        task: TomogramTask,
        tomogram: Tomogram,
        particles: Particles,
        *,
        lead: tuple[Tomogram, Particles] | None = None,
    ) -> str:
        """Digest of all that a task's answer for a tomogram depends on, the version of the program included.

        Parameters
        ----------
        lead : the tomogram that the work begins from, and its particles; see `lead_of`.
        """
        from napari_orient import __version__

        own = self._digest(tomogram), particles_digest(particles), task.content(tomogram)
        begun = () if lead is None else (self._digest(lead[0]), particles_digest(lead[1]), task.content(lead[0]))
        return content_digest(__version__, _FORMAT, *own, *begun)

    def _digest(self, tomogram: Tomogram) -> str:
        found = self.digests.of(tomogram)
        return tomogram_digest(tomogram, self._digest_of_file(tomogram.path)) if found is None else found

    def _digest_of_file(self, path: Path | None) -> str | None:
        if path is None:
            return None
        stamp, digest = file_stamp(path), file_digest(path)
        self.digests.add(path, stamp, digest)
        return digest

    def find(self, key: str, given: Particles) -> Outcome | None:
        """The outcome of an earlier run under this key; None where there is none, or its file is damaged.

        Parameters
        ----------
        given : the particles as they are read now: the tables beside them, sizes and notes are theirs.
        """
        try:
            found = _decoded(_read_arrays(self.folder / f"{key}{_SUFFIX}"), given)
        except _DAMAGED:
            return None
        self._kept.add(key)
        return found

    def save(self, key: str, outcome: Outcome, given: Particles) -> None:
        """Keep the outcome of a tomogram that is done."""
        if outcome.particles is None:
            return
        self.folder.mkdir(exist_ok=True)
        packed = io.BytesIO()
        np.savez_compressed(packed, **_encoded(outcome, outcome.particles, given))  # type: ignore[arg-type]
        with replacing(self.folder / f"{key}{_SUFFIX}") as beside:
            beside.write_bytes(packed.getvalue())
        self.digests.save()
        self._kept.add(key)

    def remove_others(self) -> None:
        """Remove the particles of earlier runs that this run neither used nor made."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if path.stem not in self._kept:
                path.unlink(missing_ok=True)

    def write_table(self, states: Sequence[TomogramState]) -> None:
        """Write how each tomogram stands."""
        if self.table is None:
            return
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_HEADER)
        for item in states:
            seconds = f"{item.seconds:.1f}" if item.seconds else ""
            rows.writerow((item.name, item.state, item.count, seconds, item.method, " | ".join(item.notes)))
        write_text(self.table, text.getvalue())

    def timings(self) -> list[tuple[int, float]]:
        """Particles and seconds of each tomogram whose particles are kept, most recent runs alone."""
        found = []
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            with suppress(*_DAMAGED):
                arrays = _read_arrays(path)
                found.append((len(arrays["positions"]), float(_record(arrays)["seconds"])))
        return found


# --- one file -------------------------------------------------------------------------------------------------------


def _encoded(outcome: Outcome, particles: Particles, given: Particles) -> dict[str, NDArray[Any]]:
    """Arrays of the particles, and a JSON record of what is no array, as bytes."""
    columns = {name: getattr(particles, name) for name in _COLUMNS}
    arrays = {name: np.asarray(column) for name, column in columns.items() if column is not None}
    texts: dict[str, list[Any]] = {}
    for index, column in enumerate(particles.extra.values()):
        if column.dtype == object:
            texts[str(index)] = column.tolist()
        else:
            arrays[f"extra {index}"] = column
    rows = _rows_in(given, particles)
    if rows is not None:
        arrays["rows"] = rows
    extents = {name: item for name, item in particles.extents.items() if given.extents.get(name) != item}
    record = {
        "format": _FORMAT,
        "extra": list(particles.extra),
        "objects": texts,
        "extents": {name: [*item.size, item.voxel_size] for name, item in extents.items()},
        "blocks": None if particles.blocks == given.blocks else particles.blocks,
        "notes": [note for note in particles.notes if note not in given.notes],
        "method": outcome.method,
        "seconds": outcome.seconds,
        "said": [[note.text, note.severity] for note in outcome.notes],
    }
    arrays["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
    return arrays


def _rows_in(given: Particles, found: Particles) -> NDArray[np.int_] | None:
    """Place of each particle found among those given, by their rows in the list; None where these are unknown."""
    if given.list_row is None or found.list_row is None:
        return None
    places = {row: place for place, row in enumerate(given.list_row.tolist())}
    # Particles of several lists have no order in one.
    return np.array([places[row] for row in found.list_row.tolist()], int) if len(places) == len(given) else None


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _record(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    found = json.loads(arrays["record"].tobytes())
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError("of another version")
    return found


def _decoded(arrays: Mapping[str, NDArray[Any]], given: Particles) -> Outcome:
    record = _record(arrays)
    extents = {name: Extent((int(x), int(y), int(z)), size) for name, (x, y, z, size) in record["extents"].items()}
    blocks = record["blocks"]
    extra = {
        name: _objects(record["objects"][str(index)]) if str(index) in record["objects"] else arrays[f"extra {index}"]
        for index, name in enumerate(record["extra"])
    }
    particles = Particles(
        **{name: arrays[name] for name in _COLUMNS if name in arrays},
        # The order of the list may be another one now.
        list_row=None if "rows" not in arrays or given.list_row is None else given.list_row[arrays["rows"]],
        extents={**given.extents, **extents},
        extra=extra,
        blocks=given.blocks if blocks is None else _tables(blocks),
        notes=(*given.notes, *record["notes"]),
    )
    said = tuple(Note(text, severity) for text, severity in record["said"])
    return Outcome(
        particles=particles, method=record["method"], notes=said, seconds=float(record["seconds"]), stored=True
    )


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _tables(blocks: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {block: {name: tuple(column) for name, column in table.items()} for block, table in blocks.items()}


# --- digests of content -----------------------------------------------------------------------------------------------

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
        for part in _encoded_value(value):
            digest.update(part)
    return digest.hexdigest()[:_DIGITS]


def _encoded_value(value: object) -> Iterator[bytes]:
    """Bytes of a value, its kind and length first, so that no two values have the same."""
    if isinstance(value, np.generic):
        yield from _encoded_value(value.item())
    elif value is None or isinstance(value, (bool, int, float, str)):
        yield _framed(type(value).__name__, repr(value).encode())
    elif isinstance(value, np.ndarray) or hasattr(value, "detach"):
        yield from _encoded_array(value)
    elif isinstance(value, Mapping):
        yield _framed("mapping", str(len(value)).encode())
        for key in sorted(value, key=repr):
            yield from _encoded_value(key)
            yield from _encoded_value(value[key])
    elif isinstance(value, Sequence):
        yield _framed("sequence", str(len(value)).encode())
        for item in value:
            yield from _encoded_value(item)
    else:
        yield from _encoded_value(_contents(value))


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
        yield from _encoded_value(array.tolist())
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
        write_text(self.path, json.dumps(self._found, indent=1))


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
