"""PolNet's simulations: motif lists (the true poses) and whole result folders, read and written.

Two layouts are read. Since 1.1: ``TomoNNN/tomo_NNN_motif_list.csv`` beside ``tomo_NNN_rec_snr<X>.mrc``, and one
``labels_table.csv``. Before: ``tomos_motif_list.csv`` for the whole run, whose column Tomo3D names the tomograms. Lists
are tab-separated; positions are Å from voxel 0, quaternions w, x, y, z. PolNet inserts its templates with the centre
rounded to a voxel, so its own positions are off by up to half a voxel.

Rows of membranes are points of a surface, whose quaternion columns hold a normal. They are no particles and are left
out; `membrane_points` counts them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.environment import printable
from napari_orient.engine.errors import InputError
from napari_orient.engine.folders import read_folder_record
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.text_tables import TABLE_SUFFIXES, read_header, read_rows
from napari_orient.engine.io.star import Table, numbers, single
from napari_orient.engine.io.tomograms import (
    ListMetadata,
    found_file,
    left_out_note,
    plain_name,
    rows_of_tomogram,
    same_tomogram,
)
from napari_orient.engine.io.volumes.formats import read_tomogram
from napari_orient.engine.io.volumes.mrc import write_mrc
from napari_orient.engine.outputs import check_writable, making_folder, write_text
from napari_orient.engine.particles import FloatArray, Particles, TextArray, Tomogram
from napari_orient.engine.rotations import matrix_to_wxyz, wxyz_to_matrix

_POSITION = ("x", "y", "z")
_QUATERNION = ("q1", "q2", "q3", "q4")
_LIST = "_motif_list.csv"
_RUN_LIST = "tomos_motif_list.csv"
_LABELS = "labels_table.csv"
_TOMOGRAM_NUMBER = re.compile(r"tomo[_-]?0*(\d+)", re.IGNORECASE)
"""Beginning of the names that PolNet gives its tomograms."""

_Reading = Callable[[], tuple[Tomogram, Particles]]
"""Reads one tomogram with its particles."""


def is_motif_list(path: Path | str) -> bool:
    """Whether a table of text has PolNet's quaternion columns."""
    return {*_POSITION, *_QUATERNION} <= {name.lower() for name in read_header(path)}


def read_motif_list(path: Path | str, *, tomogram: str | None = None) -> Particles:
    """Particles of a PolNet list; ``kind`` is its code (``pdb_4v4r``), ``extra`` its other columns.

    Parameters
    ----------
    tomogram : keep the particles of this tomogram alone, where the list is that of a whole run. Tomograms are named
        as the list's own file (``tomo_001``), or as the file in column Tomo3D. A list of one tomogram without that
        column belongs to the tomogram given, unless both have PolNet's names with different numbers.

    Raises
    ------
    InputError
        If columns are missing, a value is no number, or there are only points of membranes.
    """
    path = Path(path)
    original = read_rows(path)
    table = {name.lower(): values for name, values in original.items()}
    absent = [name for name in ("type", "code", *_POSITION, *_QUATERNION) if name not in table]
    if absent:
        raise InputError(f"{path} has no column {absent[0]}; expected a PolNet motif list. Choose another file.")
    kept = np.flatnonzero(~_membranes(table))
    if not len(kept):
        raise InputError(
            f"{path} holds {len(table['type'])} points of membranes and no particle. They have a normal, "
            "not an orientation: choose another list."
        )
    names = _names(table, path)
    others: tuple[str, ...] = ()
    if tomogram is not None and "tomo3d" not in table and not _are_two_of_a_run(names[0], tomogram):
        # The list's file has a name of its own, which says nothing of the tomogram.
        names = [names[0] if same_tomogram(names[0], tomogram) else tomogram] * len(names)
    elif tomogram is not None:
        own = rows_of_tomogram(names, tomogram, where=str(path))
        others = left_out_note(names, own, where=str(path))
        kept = np.intersect1d(kept, own)
    found = _particles(original, table, names, kept, where=str(path))
    return found.replace(notes=(*found.notes, *others))


def membrane_points(path: Path | str) -> int:
    """Number of rows of a PolNet list that are points of membranes, which `read_motif_list` leaves out."""
    table = {name.lower(): values for name, values in read_rows(path).items()}
    return int(_membranes(table).sum()) if "type" in table else 0


def is_polnet_folder(folder: Path | str) -> bool:
    """Whether a folder holds PolNet's lists, itself or in the folders of its tomograms, or will hold them."""
    folder = Path(folder)
    return bool(_lists(folder)) or (folder / _RUN_LIST).is_file() or read_folder_record(folder) is not None


def polnet_results(folder: Path | str) -> list[Path]:
    """PolNet result folders at or below a folder, as an unpacked archive may nest them.

    Raises
    ------
    InputError
        If it is a file, or there is no result.
    """
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file; expected a folder of PolNet results. Unpack it and name its folder.")
    runs = {path.parent for path in folder.rglob(_RUN_LIST) if not _is_hidden(path, folder)}
    lists = [path for path in folder.rglob(f"*{_LIST}") if path.name != _RUN_LIST and not _is_hidden(path, folder)]
    # The list of a whole run covers all its tomograms: their folders beneath it are no results of their own.
    lists = [path for path in lists if not runs & {path.parent, *path.parents}]
    found = sorted(runs | {folder if path.parent == folder else path.parent.parent for path in lists})
    if not found:
        raise InputError(f"{folder} holds no PolNet result; expected folders Tomo001, … with tomo_001{_LIST} in them.")
    return found


def read_polnet_folder(
    folder: Path | str, *, voxel_size: float | None = None, failed: dict[str, str] | None = None
) -> list[tuple[Tomogram, Particles]]:
    """Reconstructed tomograms of a PolNet run, each with its particles under the same name, in order.

    Parameters
    ----------
    voxel_size : Å; overrides the headers'.
    failed : what is wrong with tomograms that cannot be read is put here, and the others are returned; None raises it.

    Raises
    ------
    InputError
        If there is no list, or the reconstruction of a list is missing, or there are two.
    """
    folder = Path(folder)
    run_list = folder / _RUN_LIST
    if run_list.is_file():
        return _as_far_as_read(_pairs_of_run(run_list, voxel_size), failed)
    lists = _lists(folder)
    if not lists and read_folder_record(folder) is not None:
        raise InputError(
            f"{folder} holds a simulation that was stopped before its first tomogram was done. The same simulate "
            "command goes on."
        )
    if not lists:
        raise InputError(f"{folder} is no PolNet result; expected folders Tomo001, … with tomo_001{_LIST} in them.")
    readings = {item.name.removesuffix(_LIST): partial(_read_pair, item, voxel_size) for item in lists}
    return _as_far_as_read(readings, failed)


def write_polnet_tomogram(
    folder: Path | str,
    tomogram: Tomogram,
    particles: Particles,
    *,
    index: int,
    snr: float | None = None,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write one tomogram and its true poses as ``TomoNNN/tomo_NNN_rec_snr<X>.mrc`` and ``tomo_NNN_motif_list.csv``.

    Codes that the folder's ``labels_table.csv`` lacks are added to it. A new folder appears with all its files or not
    at all; in one that is there each file is replaced, the list last.

    Parameters
    ----------
    beside : writes further files into the tomogram's folder.

    Raises
    ------
    InputError
        If the particles have no orientations or no class, or the folder cannot be written.
    """
    rotations = particles.required_rotations()
    if particles.kind is None:
        raise InputError("particles without a class cannot be written as a PolNet list; name their macromolecule.")
    folder = Path(folder)
    check_writable(folder / _LABELS) if folder.exists() else check_writable(folder.parent / _LABELS)
    place = polnet_tomogram_folder(folder, index)
    folder.mkdir(parents=True, exist_ok=True)
    labels = _labels(folder, particles.kind)
    tag = "" if snr is None else f"_snr{round(snr, 2)}"
    with nullcontext(place) if place.is_dir() else making_folder(place) as inside:
        write_mrc(inside / f"tomo_{index:03d}_rec{tag}.mrc", tomogram.density, voxel_size=tomogram.voxel_size)
        if beside is not None:
            beside(inside)
        _write_list(inside / f"tomo_{index:03d}{_LIST}", particles, rotations, labels)
    return place


def polnet_tomogram_folder(folder: Path, index: int) -> Path:
    """Folder of one tomogram, counted from 1, in the folder of a run."""
    return folder / f"Tomo{index:03d}"


# --- reading --------------------------------------------------------------------------------------------------------


def _membranes(table: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    # "membrane" since 1.1, "Membrane" before; proteins bound to them ("mbprotein", "Mb-SAWLC") are particles.
    return np.array([text.lower() == "membrane" for text in table["type"]], bool)


def _names(table: Table, path: Path) -> list[str]:
    if "tomo3d" not in table:
        name = path.name.removesuffix(_LIST) if path.name.endswith(_LIST) else path.stem
        return [printable(name)] * len(table["type"])
    column = table["tomo3d"]
    # Runs without simulated images have "no_acquisition.mrc" for every tomogram; the density's name distinguishes them.
    if "no_acquisition.mrc" in column and "density" in table:
        column = table["density"]
    plain = {text: plain_name(text) for text in set(column)}
    return [plain[text] for text in column]


def _are_two_of_a_run(name: str, other: str) -> bool:
    """Whether both names are PolNet's own (``tomo_001``), with different numbers."""
    found = [_TOMOGRAM_NUMBER.match(plain_name(text)) for text in (name, other)]
    numbered = [int(match[1]) for match in found if match is not None]
    return len(numbered) == 2 and numbered[0] != numbered[1]


def _particles(original: Table, table: Table, names: Sequence[str], kept: NDArray[np.intp], *, where: str) -> Particles:
    carried = [name for name in original if name.lower() not in (*_POSITION, *_QUATERNION, "code")]
    code = np.array(table["code"], str)
    # Points of membranes, which are left out, need not be numbers.
    rows = set(kept.tolist())
    own = {
        name: ["0" if index not in rows else text for index, text in enumerate(table[name])]
        for name in (*_POSITION, *_QUATERNION)
    }
    return Particles(
        positions=numbers(own, _POSITION, where=where)[kept],
        rotations=wxyz_to_matrix(numbers(own, _QUATERNION, where=where)[kept], where=where),
        tomogram=np.array(names, str)[kept],
        kind=code[kept],
        list_row=kept,
        extra={name.lower(): np.array(original[name], str)[kept] for name in carried},
    )


def _lists(folder: Path) -> list[Path]:
    """Lists of a run's tomograms, in order.

    Raises
    ------
    InputError
        If the folder of a tomogram may not be read, whose particles would be missing without a word.
    """
    closed = [place for place in _subfolders(folder) if not os.access(place, os.R_OK | os.X_OK)]
    if closed:
        raise InputError(f"{closed[0]} may not be read by you; change its permissions.")
    found = [*folder.glob(f"*{_LIST}"), *folder.glob(f"*/*{_LIST}")]
    return sorted(path for path in found if not _is_hidden(path, folder))


def _subfolders(folder: Path) -> list[Path]:
    return [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file below a folder is hidden: what macOS leaves beside files, and what is still being written."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read_pair(path: Path, voxel_size: float | None) -> tuple[Tomogram, Particles]:
    particles = read_motif_list(path)
    name = particles.tomogram_names[0]
    found = sorted(path.parent.glob(f"{name}_rec*.mrc"))
    if len(found) != 1:
        what = "no reconstruction" if not found else f"{len(found)} reconstructions"
        raise InputError(f"{path.parent} holds {what} of {name}; expected one {name}_rec_snr<X>.mrc beside its list.")
    tomogram = replace(read_tomogram(found[0], voxel_size=voxel_size), name=name)
    return tomogram, particles.located_in(tomogram)


def _as_far_as_read(
    readings: Mapping[str, _Reading], failed: dict[str, str] | None
) -> list[tuple[Tomogram, Particles]]:
    """What the readings of tomograms give, by name; those that fail are collected, if not all do."""
    pairs, wrong = [], {}
    for name, reading in readings.items():
        try:
            pairs.append(reading())
        except InputError as error:
            if failed is None:
                raise
            wrong[name] = str(error)
    if wrong and not pairs:
        raise InputError(next(iter(wrong.values())))
    if failed is not None:
        failed.update(wrong)
    return pairs


def _pairs_of_run(path: Path, voxel_size: float | None) -> dict[str, _Reading]:
    particles = read_motif_list(path)
    return {
        name: partial(_read_of_run, particles.of_tomogram(name), name, path, voxel_size)
        for name in particles.tomogram_names
    }


def _read_of_run(own: Particles, name: str, path: Path, voxel_size: float | None) -> tuple[Tomogram, Particles]:
    text = str(own.extra["tomo3d"][0]) if "tomo3d" in own.extra else ""
    place = found_file(text, beside=path) or found_file(f"tomos/{Path(text).name}", beside=path)
    if place is None:
        raise InputError(f"{path} names the tomogram {text or name}, which is not there; expected it in tomos/.")
    tomogram = replace(read_tomogram(place, voxel_size=voxel_size), name=name)
    return tomogram, own.located_in(tomogram)


# --- writing --------------------------------------------------------------------------------------------------------


def _labels(folder: Path, codes: TextArray) -> dict[str, int]:
    """Label of each code from the run's table of labels; codes that it lacks are added to the file."""
    path = folder / _LABELS
    table = read_rows(path) if path.is_file() else {"MODEL": (), "LABEL": ()}
    if not {"MODEL", "LABEL"} <= set(table):
        raise InputError(f"{path} has no columns MODEL and LABEL, so it is not PolNet's. Choose another folder.")
    given = single(table, "LABEL", where=str(path)).astype(int).tolist()
    models = dict(zip(table["MODEL"], given, strict=True))
    labels = {plain_name(model).removesuffix(".pns"): label for model, label in models.items()}
    for code in dict.fromkeys(codes.tolist()):
        if code not in labels:
            labels[code] = models[f"{code}.pns"] = max(models.values(), default=0) + 1
    lines = ["MODEL\tLABEL", *(f"{model}\t{label}" for model, label in models.items())]
    write_text(path, "\n".join(lines) + "\n")
    return labels


def _write_list(path: Path, particles: Particles, rotations: FloatArray, labels: Mapping[str, int]) -> None:
    kinds = np.asarray(particles.kind).tolist()
    count = len(particles)
    types = particles.extra.get("type", np.full(count, "cprotein")).tolist()
    # A particle without a polymer is a polymer of its own.
    polymers = particles.extra.get("polymer", np.arange(count)).tolist()
    values = np.hstack([particles.positions, matrix_to_wxyz(rotations)])
    lines = ["\t".join(("type", "label", "code", "polymer", *_POSITION, *_QUATERNION))]
    lines += [
        "\t".join((kind, str(labels[code]), code, str(polymer), *(f"{value:.8g}" for value in row)))
        for kind, code, polymer, row in zip(types, kinds, polymers, values.tolist(), strict=True)
    ]
    write_text(path, "\n".join(lines) + "\n")


# --- the dialect ----------------------------------------------------------------------------------------------------


def _recognises(file: ListFile) -> bool:
    return file.suffix in TABLE_SUFFIXES and file.is_text and is_motif_list(file.path)


def _read(file: ListFile, metadata: ListMetadata) -> Particles:
    return read_motif_list(file.path, tomogram=metadata.tomogram)


POLNET = Dialect(
    name="polnet",
    title="PolNet motif list",
    programs="PolNet, and simulate of this program",
    suffixes=(".csv", ".tsv", ".txt"),
    layout="Å from voxel 0; quaternion q1, q2, q3, q4 = w, x, y, z",
    trap="Read as x, y, z, w every pose is wrong while pairwise angles stay right. Membranes have rows without a pose.",
    recognises=_recognises,
    read=_read,
)
