"""Models of IMOD (.mod), read and written.

bio3d.colorado.edu/imod/doc/binspec.html: a model is a big-endian file of chunks. Its points are in pixels of the
volume; views saved in the slicer (SLAN) have three angles: R is the rotation by (−x, −y, −z) about fixed axes x, y, z.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.dialects.dialect import Dialect, ListFile
from napari_orient.engine.io.dialects.voxels import (
    VoxelRows,
    left_out,
    particles_in_voxels,
    size_note,
    sizes_to_write,
    texts,
    voxels_of,
)
from napari_orient.engine.io.tomograms import ListMetadata, find_extents
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import Extent, FloatArray, Particles, shortened

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


# --- writing ----------------------------------------------------------------------------------------------------------

_SCATTERED = 1 << 9
"""Flag of an object whose points are no line (IMOD_OBJFLAG_SCAT)."""

_SPHERE_PIXELS = 5
"""Radius in pixels of the sphere that 3dmod draws about a point; chosen."""

_NANOMETRES = -9
"""The unit of the pixel size that is written, as an exponent of ten of a metre."""


def model_sizes(path: Path, particles: Particles, metadata: ListMetadata) -> FloatArray:
    """Size in Å of the voxels that particles of one tomogram are written in, (N,).

    Raises
    ------
    InputError
        If they lie in several tomograms, or the size is unknown.
    """
    names = particles.tomogram_names
    if len(names) > 1:
        raise InputError(
            f"{path} is of one tomogram, and the particles lie in {len(names)} ({shortened(names)}). Write a file for "
            "each: give its tomogram (--tomogram)."
        )
    return sizes_to_write(path, particles, metadata)


def write_model(path: Path, points: FloatArray, *, pixel_size: float, extent: Extent | None) -> None:
    """Write points (N, 3) in pixels as one object of scattered points.

    Parameters
    ----------
    pixel_size : Å.
    extent : of the tomogram, in whatever voxels; None where it is unknown.
    """
    size = (0, 0, 0)
    if extent is not None:
        x, y, z = (round(side * extent.voxel_size / pixel_size) for side in extent.size)
        size = (x, y, z)
    # Sizes, one object, flags, how it is drawn; offsets 0, scales 1; the pixel size and its unit.
    header = struct.pack(">4iI4i", *size, 1, 0, 1, 1, 0, 255) + struct.pack(">6f", 0, 0, 0, 1, 1, 1)
    header += struct.pack(">5ifii3f", 0, 0, -1, 0, 0, pixel_size / _UNITS[_NANOMETRES], _NANOMETRES, 0, 0, 0, 0)
    # One contour, flags, how it is drawn and its colour; the spheres; symbols and lines; no mesh, no surface.
    facts = struct.pack(">iIii3fi", 1, _SCATTERED, 0, 1, 0, 1, 0, _SPHERE_PIXELS)
    facts += struct.pack(">8B2i", 0, 3, 1, 1, 0, 0, 0, 0, 0, 0)
    contour = struct.pack(">iIii", len(points), 0, 0, 0) + points.astype(">f4").tobytes()
    with replacing(path) as beside:
        beside.write_bytes(_MAGIC + bytes(128) + header + b"OBJT" + bytes(128) + facts + b"CONT" + contour + b"IEOF")


def _write_mod(path: Path, particles: Particles, metadata: ListMetadata, *, provenance: str) -> tuple[str, ...]:
    sizes = model_sizes(path, particles, metadata)
    extent = find_extents(particles.tomogram_names, [metadata.extents]).get(particles.tomogram_names[0])
    write_model(path, voxels_of(particles, sizes, metadata), pixel_size=float(sizes[0]), extent=extent)
    angles = "Angles are not in a model: PEET's motive list (.csv, --dialect peet) has them."
    lost = () if particles.rotations is None else (angles,)
    return (size_note(sizes), *lost, *left_out(particles, "A model of IMOD"))


IMOD = Dialect(
    name="imod",
    title="IMOD model",
    programs="3dmod, PEET",
    suffixes=(".mod",),
    layout="pixels of the volume; angles of the slicer, R = (−x, −y, −z) about fixed x, y, z",
    trap="PEET's angles are in its motive list (.csv): open that one.",
    recognises=lambda file: file.head.startswith(b"IMOD"),
    read=_read_mod,
    write=_write_mod,
    in_voxels=True,
    volumes=lambda file: {"": None},
)
