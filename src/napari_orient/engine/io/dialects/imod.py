"""Models of IMOD (.mod) and motive lists of PEET (.csv), which belong to a model.

bio3d.colorado.edu/imod/doc/binspec.html: a model is a big-endian file of chunks. Its points are in pixels of the
volume; views saved in the slicer (SLAN) have three angles: R is the rotation by (−x, −y, −z) about fixed axes x, y, z.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.motive_list import EM_ROWS, em_columns
from napari_orient.engine.io.dialects.text_tables import split_cells
from napari_orient.engine.io.dialects.voxels import VoxelRows, particles_in_voxels, rotations_unless_zero, texts
from napari_orient.engine.io.star import Table, numbers
from napari_orient.engine.io.tomograms import ListMetadata
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import zxz_to_matrix

_MAGIC = b"IMODV1.2"

_MODEL_BYTES = 232
"""Length of the model's header, after the eight bytes of the magic."""

_OBJECT_BYTES = 176
"""Length of an object's header, after its four letters."""

_CONTOUR_BYTES = 16
"""Length of a contour's header, after its four letters; 12 bytes a point follow."""

_MESH_BYTES = 16
"""Length of a mesh's header, after its four letters; 12 bytes a vertex and 4 an index follow."""

_PIXEL_OFFSET = 8 + 128 + 9 * 4 + 6 * 4 + 5 * 4
"""Place of the pixel size and, four bytes on, of its unit."""

_FLAGS_OFFSET = 8 + 128 + 4 * 4
"""Place of the model's flags."""

_FLIPPED = 1 << 16
"""Flag of a model that was drawn on a volume with y and z exchanged (IMODF_FLIPYZ)."""

_UNITS = {-9: 10.0, -10: 1.0, -6: 1e4}
"""Å in a unit of the pixel size, by the exponent of ten of a metre that the header states."""

_NEAR_PIXELS = 1.5
"""Distance in pixels within which a slicer view belongs to a point: one is placed by eye on the other."""


@dataclass(frozen=True)
class ImodModel:
    """Points (N, 3) in pixels with the object and contour of each, slicer views (M, 6), and Å a pixel, or None."""

    points: FloatArray
    objects: Sequence[int]
    contours: Sequence[int]
    views: FloatArray
    pixel_size: float | None
    flipped: bool = False


def read_model(path: Path) -> ImodModel:
    """Contents of a model that place particles.

    Raises
    ------
    InputError
        If it is no model of IMOD, or cut short.
    """
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise InputError(f"{path} is no model of IMOD (version 1.2); expected one that 3dmod has saved.")
    try:
        return _parsed(data)
    except (struct.error, ValueError, IndexError) as error:
        raise InputError(f"{path} ends within a part of the model; was it copied or saved completely?") from error


def _parsed(data: bytes) -> ImodModel:
    points, objects, contours, views = [], [], [], []
    numbers_of_object, contour = 0, 0
    for name, start, size in _chunks(data):
        if name == b"OBJT":
            numbers_of_object, contour = numbers_of_object + 1, 0
        elif name == b"CONT":
            contour += 1
            count = (size - _CONTOUR_BYTES) // 12
            found = np.frombuffer(data, ">f4", count=3 * count, offset=start + _CONTOUR_BYTES).reshape(-1, 3)
            with np.errstate(invalid="ignore"):
                points.append(found.astype(float))
            objects += [numbers_of_object] * count
            contours += [contour] * count
        elif name == b"SLAN":
            with np.errstate(invalid="ignore"):
                views.append(np.frombuffer(data, ">f4", count=6, offset=start + 4).astype(float))
    return ImodModel(
        np.concatenate(points) if points else np.zeros((0, 3)),
        objects,
        contours,
        np.array(views).reshape(-1, 6),
        _pixel_size(data),
        bool(struct.unpack_from(">I", data, _FLAGS_OFFSET)[0] & _FLIPPED),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of the body of each chunk, to the end of the model."""
    place = len(_MAGIC) + _MODEL_BYTES
    while True:
        name = data[place : place + 4]
        if name == b"IEOF" or not name:
            return
        place += 4
        size = _OBJECT_BYTES if name == b"OBJT" else _body(data, name, place)
        start = place if name in (b"OBJT", b"CONT", b"MESH") else place + 4
        if size < 0 or start + size > len(data) or len(name) < 4:
            raise ValueError("cut short")
        yield name, start, size
        place = start + size


def _body(data: bytes, name: bytes, place: int) -> int:
    """Length of a chunk's body: stated, but for contours and meshes, whose numbers of points state it."""
    count = int(struct.unpack_from(">i", data, place)[0])
    if name == b"CONT":
        return _CONTOUR_BYTES + 12 * count
    if name == b"MESH":
        indices = int(struct.unpack_from(">i", data, place + 4)[0])
        return _MESH_BYTES + 12 * count + 4 * indices
    return count


def _pixel_size(data: bytes) -> float | None:
    size, unit = struct.unpack_from(">fi", data, _PIXEL_OFFSET)
    return size * _UNITS[unit] if unit in _UNITS and size > 0 and np.isfinite(size) else None


# --- the model as a list --------------------------------------------------------------------------------------------


def _read_mod(file: ListFile, metadata: ListMetadata) -> Particles:
    model = read_model(file.path)
    points, rotations, notes = _posed(model)
    if model.flipped:
        notes = (*notes, "The model was drawn on a volume with y and z exchanged: do its points fit the tomogram?")
    if not len(points):
        raise InputError(f"{file.path} has no particles: no contour of it has a point. Choose another file.")
    if not np.isfinite(points).all():
        raise InputError(f"{file.path} has points that are no finite numbers. Save it again with 3dmod.")
    own = None if model.pixel_size is None else np.full(len(points), model.pixel_size)
    extra = {"imodObject": model.objects, "imodContour": model.contours}
    several = {
        name: texts(values) for name, values in extra.items() if len(values) == len(points) and len(set(values)) > 1
    }
    rows = VoxelRows(
        voxels=points,
        names=[""] * len(points),
        rotations=rotations,
        own_sizes=own,
        extra=several,
        notes=notes,
    )
    return particles_in_voxels(rows, metadata, where=str(file.path))


def _posed(model: ImodModel) -> tuple[FloatArray, FloatArray | None, tuple[str, ...]]:
    """Positions in pixels, and rotations where each has a slicer view of its own."""
    from scipy.spatial.transform import Rotation

    points, views = model.points, model.views
    if not len(views):
        return points, None, ()
    rotations = Rotation.from_euler("xyz", -views[:, :3], degrees=True).as_matrix()
    if not len(points):
        return views[:, 3:], rotations, ()
    distance = np.linalg.norm(points[:, None] - views[None, :, 3:], axis=2)
    nearest = distance.argmin(axis=1)
    if len(set(nearest.tolist())) == len(points) and distance.min(axis=1).max() <= _NEAR_PIXELS:
        return points, rotations[nearest], ()
    note = f"{len(views)} views of the slicer do not lie on the {len(points)} points: orientations are unknown."
    return points, None, (note,)


IMOD = Dialect(
    name="imod",
    title="IMOD model",
    programs="3dmod, PEET",
    suffixes=(".mod",),
    layout="pixels of the volume; angles of the slicer, R = (−x, −y, −z) about fixed x, y, z",
    trap="PEET's angles are in its motive list (.csv): open that one.",
    recognises=lambda file: file.head.startswith(b"IMOD"),
    read=_read_mod,
    volumes=lambda file: {"": None},
)


# --- PEET -----------------------------------------------------------------------------------------------------------


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
    named = [item for prm in sorted(path.parent.glob("*.prm")) for item in _models_in_project(prm, path)]
    models = sorted(path.parent.glob("*.mod"))
    found = [same] if same.is_file() else [item for item in named if item.is_file()] or models
    if len(found) != 1:
        raise InputError(
            f"{path} is a motive list of PEET, which holds shifts and angles; the points are in a model (.mod), and "
            f"{len(found) or 'none'} may be meant. Put it beside the list as {same.name}."
        )
    return found[0]


def _models_in_project(prm: Path, path: Path) -> list[Path]:
    """The model that a project of PEET names for the tomogram whose number is in the list's name (``_Tom2_``)."""
    text = prm.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"fnModParticle\s*=\s*\{(.*?)\}", text, flags=re.DOTALL)
    names = re.findall(r"'([^']+)'", found[1]) if found else []
    number = re.search(r"_Tom(\d+)_", path.name)
    chosen = names if number is None else names[int(number[1]) - 1 : int(number[1])]
    return [prm.parent / name for name in chosen]


def _read_peet(file: ListFile, metadata: ListMetadata) -> Particles:
    values, place = _motive_rows(file), _model_of(file.path)
    model = read_model(place)
    named = [round(value) for value in values[:, 3].tolist()]
    wrong = next((number for number in named if not 1 <= number <= len(model.points)), None)
    if wrong is not None:
        raise InputError(
            f"{file.path} names point {wrong} of {place.name}, which has {len(model.points)} points. "
            "They do not belong together."
        )
    index = np.array(named) - 1
    rotations, notes = rotations_unless_zero(values[:, [16, 18, 17]], zxz_to_matrix)
    own = None if model.pixel_size is None else np.full(len(values), model.pixel_size)
    # Column 4 is the point, and 5 a weight, where AV3 has subtomogram and tomogram.
    held = values.copy()
    held[:, 3] = np.arange(1, len(values) + 1)
    rows = VoxelRows(
        voxels=model.points[index] + values[:, 10:13],
        names=[""] * len(values),
        rotations=rotations,
        own_sizes=own,
        extra=em_columns(held),
        notes=(f"Points are those of {place.name}.", *notes),
    )
    return particles_in_voxels(rows, metadata, where=str(file.path))


PEET = Dialect(
    name="peet",
    title="PEET motive list",
    programs="PEET (MOTL_Tom1_Iter1.csv)",
    suffixes=(".csv",),
    layout="pixels: the model's points plus columns 11 to 13; EulerZ(1), EulerX(2), EulerZ(3) = phi, theta, psi (zxz)",
    trap="It holds no positions: they are in the model (.mod) beside it.",
    recognises=_is_motive_list,
    read=_read_peet,
    volumes=lambda file: {"": None},
)
