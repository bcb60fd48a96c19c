"""Motive lists of PEET (.csv), which belong to a model of IMOD, and its projects (.prm), which name both and volumes.

A motive list moves the points of its model, in voxels of the volume that the project names beside it. A project stands
for the motive lists of its last iteration, else for those that it begins from, else for its models' points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.imod import model_sizes, read_model, write_model
from napari_orient.engine.io.dialects.motive_list import EM_ROWS, em_columns
from napari_orient.engine.io.dialects.text_tables import split_cells
from napari_orient.engine.io.dialects.voxels import (
    VoxelRows,
    class_numbers,
    left_out,
    particles_in_voxels,
    rotations_unless_zero,
    score_name,
    score_of,
    size_note,
    voxels_of,
    whole_and_rest,
)
from napari_orient.engine.io.star import Table, numbers
from napari_orient.engine.io.tomograms import (
    LEFT_OUT,
    ListMetadata,
    find_extents,
    found_file,
    plain_name,
    rows_of_tomogram,
)
from napari_orient.engine.io.volumes.formats import read_tomogram
from napari_orient.engine.outputs import write_text
from napari_orient.engine.particles import CLASS_NUMBER, FloatArray, Particles, concatenate, shortened
from napari_orient.engine.rotations import matrix_to_zxz, zxz_to_matrix

_HEADER = (
    "CCC,reserved,reserved,pIndex,wedgeWT,NA,NA,NA,NA,NA,xOffset,yOffset,zOffset,NA,NA,reserved,EulerZ(1),EulerZ(3),"
    "EulerX(2),reserved"
)
"""First line of a motive list."""

_ANGLES = (16, 18, 17)
"""Places of EulerZ(1), EulerX(2) and EulerZ(3) among the values of a particle."""

_MODELS, _VOLUMES, _INITIAL = "fnModParticle", "fnVolume", "initMOTL"
"""Entries of a project: a model and a volume for each tomogram, and where the alignment begins."""


# --- a motive list ----------------------------------------------------------------------------------------------------


def _is_motive_list(file: ListFile) -> bool:
    return bool(file.lines) and file.lines[0].startswith("CCC") and "EulerZ" in file.lines[0]


def _motive_rows(file: ListFile) -> FloatArray:
    """Values of the particles, (N, 20), in the order of AV3's motive list.

    Raises
    ------
    InputError
        If a row has fewer values, or one that is no number.
    """
    lines = [line for line in file.text.splitlines() if line.strip()][1:]
    if not lines:
        raise InputError(f"{file.path} has no particles: there is no row after its header. Choose another file.")
    cells = [row[:EM_ROWS] for row in split_cells(lines, file.path)]
    short = next((number for number, row in enumerate(cells, start=1) if len(row) < EM_ROWS), None)
    if short is not None:
        raise InputError(f"{file.path}: row {short} has fewer than the {EM_ROWS} values of a motive list. Mend it.")
    table: Table = {str(place): tuple(column) for place, column in enumerate(zip(*cells, strict=True))}
    return numbers(table, tuple(table), where=str(file.path))


def _model_of(path: Path) -> Path:
    """The model whose points a motive list moves.

    Found by its own name, by the project's ``.prm`` beside it, or as the only model in the folder.

    Raises
    ------
    InputError
        If none is found.
    """
    same = path.with_suffix(".mod")
    named = [entry.model for entry in _entries_of_list(path) if entry.model is not None]
    found = [same] if same.is_file() else named or sorted(path.parent.glob("*.mod"))
    if len(found) != 1:
        raise InputError(
            f"{path} is a motive list of PEET, which holds shifts and angles; the points are in a model (.mod), and "
            f"{len(found) or 'none'} may be meant. Put it beside the list as {same.name}."
        )
    return found[0]


def _entries_of_list(path: Path) -> list[_Entry]:
    """What the projects beside a motive list say of its tomogram, whose number is in the list's name (``_Tom2_``)."""
    number = re.search(r"_Tom(\d+)_", path.name)
    every = [_entries(prm) for prm in sorted(path.parent.glob("*.prm"))]
    chosen = [entries if number is None else entries[int(number[1]) - 1 : int(number[1])] for entries in every]
    return [entry for entries in chosen for entry in entries]


def _read_list(file: ListFile, metadata: ListMetadata) -> Particles:
    size = next((size for entry in _entries_of_list(file.path) if (size := _voxel_size(entry.file)) is not None), None)
    rows = _rows(file, _model_of(file.path), voxel_size=size)
    return particles_in_voxels(rows, metadata, where=str(file.path))


def _rows(file: ListFile, place: Path, *, name: str = "", voxel_size: float | None = None) -> VoxelRows:
    """Particles of a motive list: the points of a model, moved.

    Parameters
    ----------
    name : of the tomogram.
    voxel_size : Å, of the volume that the model was drawn on; None for what the model says.

    Raises
    ------
    InputError
        If the list names points that the model does not have.
    """
    values, model = _motive_rows(file), read_model(place)
    named = [round(value) for value in values[:, 3].tolist()]
    wrong = next((number for number in named if not 1 <= number <= len(model.points)), None)
    if wrong is not None:
        raise InputError(
            f"{file.path} names point {wrong} of {place.name}, which has {len(model.points)} points. "
            "They do not belong together."
        )
    rotations, notes = rotations_unless_zero(values[:, _ANGLES], zxz_to_matrix)
    # Column 4 is the point, and 5 a weight, where AV3 has subtomogram and tomogram.
    held = values.copy()
    held[:, 3] = np.arange(1, len(values) + 1)
    return VoxelRows(
        voxels=model.points[np.array(named) - 1] + values[:, 10:13],
        names=[name] * len(values),
        rotations=rotations,
        own_sizes=_own_sizes(voxel_size or model.pixel_size, len(values)),
        extra=em_columns(held),
        notes=(f"Points are those of {place.name}.", *notes),
    )


def _own_sizes(size: float | None, count: int) -> FloatArray | None:
    return None if size is None else np.full(count, size)


def _write_list(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    """Write a motive list whose shifts are below a voxel, and the model of its points, whole voxels, beside it."""
    sizes = model_sizes(path, particles, metadata)
    extent = find_extents(particles.tomogram_names, [metadata.extents]).get(particles.tomogram_names[0])
    model = path.with_suffix(".mod")
    points, shifts = whole_and_rest(voxels_of(particles, sizes, metadata))
    write_model(model, points, pixel_size=float(sizes[0]), extent=extent)
    classes, notes = class_numbers(particles)
    score, count = score_of(particles), len(particles)
    values = np.zeros((count, EM_ROWS))
    values[:, 0] = 1 if score is None else score
    values[:, 3], values[:, 4], values[:, 19] = np.arange(1, count + 1), 1, classes
    values[:, 10:13] = shifts
    if particles.rotations is not None:
        values[:, _ANGLES] = matrix_to_zxz(particles.rotations)
    rows = (",".join(_trimmed(value) for value in row) for row in values.tolist())
    write_text(path, "\n".join([_HEADER, *rows]) + "\n")
    lost = left_out(particles, "A motive list of PEET", held=(score_name(particles), CLASS_NUMBER), kind=True)
    return (size_note(sizes), f"The points are in {model.name}.", *notes, *lost)


def _trimmed(value: float) -> str:
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


PEET = Dialect(
    name="peet",
    title="PEET motive list",
    programs="PEET (MOTL_Tom1_Iter1.csv)",
    suffixes=(".csv",),
    layout="pixels: the model's points plus columns 11 to 13; EulerZ(1), EulerX(2), EulerZ(3) = phi, theta, psi (zxz)",
    trap="It holds no positions: they are in the model (.mod) beside it.",
    recognises=_is_motive_list,
    read=_read_list,
    write=_write_list,
    in_voxels=True,
    companions=lambda path: (path.with_suffix(".mod"),),
    volumes=lambda file: {"": next((entry.file for entry in _entries_of_list(file.path)), None)},
)


# --- a project --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """One tomogram of a project: its name, and its volume, model and motive list as far as they are there."""

    name: str
    file: Path | None
    model: Path | None
    motives: Path | None


def _is_project(file: ListFile) -> bool:
    return file.suffix == ".prm" or any(line.startswith(_MODELS) for line in file.lines)


def _texts(text: str, entry: str) -> list[str]:
    """Texts of a cell array of a project; none where it is no such array, or is not there."""
    found = re.search(rf"^[ \t]*{entry}\s*=\s*\{{(.*?)\}}", text, flags=re.DOTALL | re.MULTILINE)
    quoted = re.findall(r"'([^'\n]*)'|\"([^\"\n]*)\"", found[1]) if found else []
    return [single or double for single, double in quoted]


def _entries(prm: Path) -> list[_Entry]:
    """The tomograms of a project, in its order."""
    text = prm.read_text(encoding="utf-8", errors="replace")
    volumes, models, initial = (_texts(text, entry) for entry in (_VOLUMES, _MODELS, _INITIAL))
    output = re.search(r"^[ \t]*fnOutput\s*=\s*['\"]([^'\"\n]+)['\"]", text, flags=re.MULTILINE)
    stem = output[1] if output else prm.stem
    return [
        _Entry(
            name=plain_name(volumes[place]) if place < len(volumes) else plain_name(model),
            file=found_file(volumes[place], beside=prm) if place < len(volumes) else None,
            model=found_file(model, beside=prm),
            motives=_last_motives(prm, stem, place + 1)
            or (found_file(initial[place], beside=prm) if place < len(initial) else None),
        )
        for place, model in enumerate(models)
    ]


def _last_motives(prm: Path, stem: str, number: int) -> Path | None:
    """The motive list of a tomogram's last iteration, ``STEM_MOTL_Tom1_Iter4.csv``."""
    found: dict[int, Path] = {}
    for path in prm.parent.glob(f"{stem}_MOTL_Tom{number}_Iter*.csv"):
        if match := re.search(r"_Iter(\d+)\.csv$", path.name):
            found[int(match[1])] = path
    return found[max(found)] if found else None


def _read_project(file: ListFile, metadata: ListMetadata) -> Particles:
    entries = _entries(file.path)
    if not entries:
        raise InputError(f"{file.path} names no model of particles ({_MODELS}); expected a project of PEET.")
    names = [entry.name for entry in entries]
    wanted = entries
    if metadata.tomogram is not None:
        chosen = rows_of_tomogram(names, metadata.tomogram, where=str(file.path))
        wanted = [entries[row] for row in chosen.tolist()]
    rows = [_rows_of_entry(entry, file.path) for entry in wanted]
    parts = [particles_in_voxels(item, metadata, where=str(file.path)) for item in rows]
    ends = np.cumsum([len(part) for part in parts])
    placed = [
        part.replace(list_row=np.arange(end - len(part), end), notes=()) for part, end in zip(parts, ends, strict=True)
    ]
    notes = dict.fromkeys(note for part in parts for note in part.notes if not note.startswith("Points are"))
    every = concatenate(placed) if all(part.rotations is not None for part in placed) else _without_angles(placed)
    return every.replace(notes=(*_words(wanted), *notes, *_left_out(names, wanted, file.path)))


def _left_out(names: Sequence[str], wanted: Sequence[_Entry], path: Path) -> tuple[str, ...]:
    """A sentence on the tomograms of a project that are not wanted; none where all are."""
    others = sorted(set(names) - {entry.name for entry in wanted})
    return (f"{LEFT_OUT}tomograms that are not given ({shortened(others)}): particles of {path}.",) if others else ()


def _without_angles(parts: Sequence[Particles]) -> Particles:
    """Particles of several motive lists, of which some have no angles: all are without."""
    return concatenate([part.replace(rotations=None) for part in parts])


def _words(entries: Sequence[_Entry]) -> tuple[str, ...]:
    """A sentence on which motive lists, or models alone, are read."""
    lists = [entry.motives.name for entry in entries if entry.motives is not None]
    if not lists:
        return ("The project has no motive lists yet: the points of its models are read.",)
    without = len(entries) - len(lists)
    more = f"; {without} of {len(entries)} tomograms have none, so that orientations are unknown" if without else ""
    return (f"Motive lists are {shortened(lists, most=3)}{more}.",)


def _rows_of_entry(entry: _Entry, path: Path) -> VoxelRows:
    """Particles of one tomogram of a project, in voxels of its volume.

    Raises
    ------
    InputError
        If its model is not there.
    """
    if entry.model is None:
        raise InputError(f"{path}: the model of {entry.name} is not there; expected the files of {_MODELS}.")
    size = _voxel_size(entry.file)
    if entry.motives is not None:
        return _rows(ListFile(entry.motives), entry.model, name=entry.name, voxel_size=size)
    model = read_model(entry.model)
    sizes = _own_sizes(size or model.pixel_size, len(model.points))
    return VoxelRows(voxels=model.points, names=[entry.name] * len(model.points), own_sizes=sizes)


def _voxel_size(volume: Path | None) -> float | None:
    """Å of a volume's voxels; None where it is not there or does not say it."""
    if volume is None:
        return None
    try:
        return read_tomogram(volume).voxel_size
    except InputError:
        return None


PEET_PROJECT = Dialect(
    name="peet-project",
    title="PEET project",
    programs="PEET (its parameter file, .prm)",
    suffixes=(".prm",),
    layout="as its motive lists, of the last iteration, in voxels of its volumes (fnVolume)",
    trap="Where picks are in other voxels than the volume that is open, the project's volumes must be there.",
    recognises=_is_project,
    read=_read_project,
    volumes=lambda file: {entry.name: entry.file for entry in _entries(file.path)},
)
