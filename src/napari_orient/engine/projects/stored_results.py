"""Particles of each tomogram that is done, kept in a folder by the digest of all that they depend on.

The folder outlives the run: where the same tomogram, particles, model and options come again, whatever their names, the
particles are taken from it. One file a tomogram, written whole or not at all; no code is loaded from it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.outputs import check_writable, replacing
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.projects.content import (
    FileDigests,
    content_digest,
    file_digest,
    file_stamp,
    particles_digest,
    tomogram_digest,
)
from napari_orient.engine.projects.task import Outcome, TomogramTask
from napari_orient.engine.streams import Note

_FORMAT = 1
"""Version of the files of particles; others are passed over."""
_COLUMNS = ("positions", "rotations", "confidence", "expected_error_deg", "tomogram", "kind")
_SUFFIX = ".npz"
_DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, BadZipFile, EOFError)
"""What is raised where a file of particles is not there, not whole, or of another version."""
_HEADER = ("tomogram", "state", "particles", "seconds", "method", "notes")

TO_DO, RUNNING, DONE, STORED, FAILED = "to do", "running", "done", "done before", "failed"
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
        with replacing(self.table) as beside:
            beside.write_text(text.getvalue(), encoding="utf-8", newline="\n")

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
