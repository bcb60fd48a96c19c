"""The registry of particle-list dialects: which programs' lists are read and written, and which of them a file is.

A new dialect is a module here that makes a `Dialect`, and its line in `DIALECTS`. Everything that depends on the
dialects follows: the doors' filters, ``convert --dialect``, napari's readers and writers, and ``docs/formats.md``.
"""

from __future__ import annotations

from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.copick import COPICK, COPICK_PROJECT, NDJSON
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.dynamo import DYNAMO
from napari_orient.engine.io.dialects.eman2 import EMAN2_BOXES, EMAN2_PARTICLES
from napari_orient.engine.io.dialects.emclarity import EMCLARITY
from napari_orient.engine.io.dialects.headerless import HEADERLESS
from napari_orient.engine.io.dialects.imod import IMOD
from napari_orient.engine.io.dialects.motive_list import EM_MOTIVE_LIST, STOPGAP
from napari_orient.engine.io.dialects.motive_table import MOTIVE_TABLE
from napari_orient.engine.io.dialects.peet import PEET, PEET_PROJECT
from napari_orient.engine.io.dialects.polnet import POLNET
from napari_orient.engine.io.dialects.relion import RELION4, RELION5
from napari_orient.engine.io.dialects.relion_like import PICKS_IN_VOXELS, PYTOM_MATCH_PICK, RELION_TABLE
from napari_orient.engine.io.dialects.tables import CBOX, CSV, NAPARI_POINTS, PYTME, TSV
from napari_orient.engine.io.dialects.unreadable import UNREADABLE
from napari_orient.engine.io.dialects.warp import M_EXPORT, M_PROJECT, M_SPECIES, WARP_MATCHING, WARPTOOLS
from napari_orient.engine.io.dialects.xml_lists import DEEPFINDER, PYTOM
from napari_orient.engine.outputs import given_path

DIALECTS: tuple[Dialect, ...] = (
    RELION5,
    RELION4,
    WARPTOOLS,
    WARP_MATCHING,
    M_SPECIES,
    M_PROJECT,
    M_EXPORT,
    PYTOM_MATCH_PICK,
    PICKS_IN_VOXELS,
    EMCLARITY,
    DYNAMO,
    STOPGAP,
    EM_MOTIVE_LIST,
    MOTIVE_TABLE,
    COPICK,
    COPICK_PROJECT,
    NDJSON,
    IMOD,
    PEET_PROJECT,
    EMAN2_BOXES,
    EMAN2_PARTICLES,
    CBOX,
    DEEPFINDER,
    PYTOM,
    POLNET,
    CSV,
    TSV,
    PEET,
    RELION_TABLE,
    PYTME,
    NAPARI_POINTS,
    HEADERLESS,
)
"""Every dialect that is read or written, the usual ones of a suffix first."""

_GENERAL = (RELION4, CSV, TSV)
"""Dialects that take what no other recognises."""

_EVERY = (*UNREADABLE, *(item for item in DIALECTS if item not in _GENERAL), *_GENERAL)
"""All dialects in the order in which files are compared with them: special before general."""


def recognise(file: ListFile) -> Dialect | None:
    """Dialect of a file, by its content, else by its suffix; None where it is of none."""
    by_suffix = (item for item in (*_GENERAL, *DIALECTS) if item.read and file.suffix in item.suffixes)
    return recognise_content(file) or next(by_suffix, None)


def recognise_content(file: ListFile) -> Dialect | None:
    """Dialect that a file's content shows; None where it shows none."""
    return next((dialect for dialect in _EVERY if dialect.recognises(file)), None)


def reading_dialect(file: ListFile) -> Dialect:
    """Dialect by which a file is read.

    Raises
    ------
    InputError
        If it is a list of none, or of one that is not read: what it seems to be, and what opens it.
    """
    found = recognise(file)
    if found is None:
        kind = "text" if file.is_text else "a binary file"
        raise InputError(
            f"{file.path} is no known list of particles; it is {kind}. Expected one of "
            f"{', '.join(read_suffixes())} (docs/formats.md), or a table with columns x, y, z."
        )
    if found.read is None:
        raise InputError(f"{file.path} {found.refusal}")
    return found


def writing_dialect(path: Path | str, name: str | None = None) -> Dialect:
    """Dialect in which a list is written: the one named, else the first whose suffix the path has.

    Raises
    ------
    InputError
        If there is none, or the suffix is another dialect's.
    """
    suffix = given_path(path).suffix.lower()
    written = written_dialects()
    if name is None:
        found = next((item for item in written.values() if suffix in item.suffixes), None)
        if found is None:
            raise InputError(f"{path} has no known suffix for particles; expected {', '.join(written_suffixes())}.")
        return found
    if name not in written:
        raise InputError(f"dialect {name!r} is unknown or not written; expected one of {', '.join(written)}.")
    if suffix not in written[name].suffixes:
        raise InputError(
            f"{path}: the dialect {name} is written as {', '.join(written[name].suffixes)}. Name the file so, or leave "
            "the dialect out."
        )
    return written[name]


def holds_true_poses(path: Path | str) -> bool:
    """Whether a list is a simulation's, whose poses are the truth."""
    found = recognise(ListFile(path))
    return found is POLNET


def written_dialects() -> dict[str, Dialect]:
    """Dialects that are written, by name; of those with one suffix, the usual one comes first."""
    return {dialect.name: dialect for dialect in DIALECTS if dialect.write is not None}


def written_suffixes() -> tuple[str, ...]:
    """Suffixes of the lists that are written."""
    return tuple(dict.fromkeys(suffix for item in DIALECTS if item.write for suffix in item.suffixes))


def read_suffixes() -> tuple[str, ...]:
    """Suffixes of the lists that are read."""
    return tuple(dict.fromkeys(suffix for item in DIALECTS if item.read for suffix in item.suffixes))


__all__ = [
    "DIALECTS",
    "Dialect",
    "ListFile",
    "holds_true_poses",
    "read_suffixes",
    "reading_dialect",
    "recognise",
    "recognise_content",
    "writing_dialect",
    "written_dialects",
    "written_suffixes",
]
