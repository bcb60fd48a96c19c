"""Coordinates in RELION's lists: the centres that they count from, the pixels that they count in, and particles' boxes.

RELION 5 counts in Å from a tomogram's centre, so that its size must be known; RELION 4 in pixels of the tilt series. A
particle lies at box centre - A(box) origin, in the pose A(box) A(angles). Its images show the box, so that a list that
names images is written in the same boxes, however its particles were moved and rotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import BOX, BOX_ANGLES, IMAGES
from napari_orient.engine.io.star import GROUP, Table, column_texts, number_columns
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    PIXEL,
    SIZE,
    TOMOGRAM,
    ListMetadata,
    different_sizes,
    export_optics,
    extents_beside,
    extents_table,
    find_extents,
    pixel_sizes,
    read_tomograms,
    table_extents,
)
from napari_orient.engine.particles import Extent, FloatArray, Particles
from napari_orient.engine.rotations import DECIMALS, matrix_to_zyz

CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")

CENTRES = {"size/2": 0.0, "size/2 - 1": -1.0}
"""Voxel that centred coordinates count from: half the size plus this number of voxels. The second is that of some of
RELION's Python tools."""


ANY_SIZE = Extent((200_000, 200_000, 200_000), 1.0)
"""In the place of a tomogram's size that is unknown and cancels, from centred coordinates to centred ones. It is larger
than any, so that no particle lies outside, and is never written."""


class SizeUnknownError(InputError):
    """Coordinates count from the centres of tomograms whose sizes are unknown; their names are its ``tomograms``."""

    def __init__(self, words: str, *, tomograms: Sequence[str]) -> None:
        super().__init__(words)
        self.tomograms = tuple(tomograms)


def centred_extents(
    path: Path, names: Sequence[str], blocks: Mapping[str, Table], metadata: ListMetadata
) -> dict[str, Extent]:
    """Extent of each tomogram: in the file's own table, that is given, as opened, or in tables beside the file.

    Raises
    ------
    SizeUnknownError
        If one is unknown.
    """
    tomograms = metadata.tomograms
    tables: list[Mapping[str, Extent]] = [
        table_extents(blocks.get(GLOBAL, {}), where=str(path)),
        *([table_extents(read_tomograms(tomograms), where=str(tomograms))] if tomograms is not None else []),
    ]
    found = find_extents(names, [*tables, metadata.extents])
    missing = [name for name in names if name not in found]
    found |= extents_beside(path, missing) if missing else {}
    check_sizes(path, names, found)
    return found


def size_notes(path: Path, metadata: ListMetadata, found: Mapping[str, Extent]) -> tuple[str, ...]:
    """A sentence where a tomogram as it was opened has another size in Å than in a table of tomograms."""
    known = {name: extent for name, extent in metadata.extents.items() if extent.size != ANY_SIZE.size}
    opened = find_extents(found, [known])
    try:
        stated = extents_beside(path, found) if opened else {}
    except InputError:
        stated = {}
    for name, extent in opened.items():
        for other in (found[name], stated.get(name, extent)):
            ours, theirs = (np.asarray(item.size) * item.voxel_size for item in (extent, other))
            # A binned tomogram is rounded to whole voxels, by some programs to an even number of them.
            if (np.abs(ours - theirs) > 2 * max(extent.voxel_size, other.voxel_size)).any():
                used = "the opened tomogram" if found[name] is extent else "that table"
                measures = " and ".join(" × ".join(f"{side:.0f}" for side in item) for item in (ours, theirs))
                return (
                    f"Tomogram {name} measures {measures} Å, as opened and in the table of tomograms: one is cropped "
                    f"or padded. Coordinates count from the centre of {used}.",
                )
    return ()


def check_sizes(path: Path | str, names: Sequence[str], found: Mapping[str, Extent]) -> None:
    """Check that every tomogram's size is among those found.

    Raises
    ------
    SizeUnknownError
        If one is not: which, and how to give it.
    """
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise SizeUnknownError(
            f"{path}: the size of tomogram {unknown[0] or '(no name)'}{more} is unknown, and RELION 5's coordinates "
            "count from its centre. Open the tomogram too (--tomogram), give RELION's tomograms.star "
            "(--tomograms-star), or put it beside the list.",
            tomograms=unknown,
        )


def centres(names: Sequence[str], extents: Mapping[str, Extent], rule: str) -> FloatArray:
    """Origins of centred coordinates, (N, 3) xyz in Å."""
    if rule not in CENTRES:
        raise InputError(f"centre rule {rule!r} is unknown; expected one of {', '.join(CENTRES)}.")
    centres = {name: extent.centre + CENTRES[rule] * extent.voxel_size for name, extent in extents.items()}
    return np.array([centres[name] for name in names])


# --- pixels: that in which coordinates count, and that which optics state ---------------------------------------------


_SAME_PIXELS = 1e-3
"""Relative difference of two sizes of the same pixels, calibrated anew, up to which counts of pixels stay. Chosen."""


_IN_VOXELS = {
    "relion4": ("Coordinates are written", "RELION 4 counts"),
    "relion5": ("Tomograms' sizes are stated", "RELION 5 gives them"),
}
"""What is in voxels where the size of the tilt series' pixels is unknown, and what the program does, by dialect."""


def stated_pixel_sizes(particles: Particles, names: Sequence[str], *, dialect: str, where: str) -> FloatArray | None:
    """Size in Å of the tilt series' pixels of each particle, (N,), in the list's columns or optics; None without."""
    table = {name: column_texts(column) for name, column in particles.extra.items()}
    # In pixels of a WarpTools export's images only RELION 4's coordinates count; RELION 5 reads optics as they are.
    counted = names if dialect == "relion4" else ("",) * len(names)
    return pixel_sizes(table, particles.blocks, {}, names=counted, where=where)


def states_pixel_size(particles: Particles) -> bool:
    """Whether a list's columns, optics or table of tomograms state the size of the tilt series' pixels."""
    names = [str(name) for name in particles.tomogram]
    return (
        GLOBAL in particles.blocks or stated_pixel_sizes(particles, names, dialect="relion5", where="list") is not None
    )


@dataclass(frozen=True)
class WrittenPixels:
    """Size in Å of the pixels to write in, (N,), None where unknown; whether the list's columns or optics state it."""

    sizes: FloatArray | None
    stated: bool
    notes: tuple[str, ...] = ()


def written_pixel_sizes(
    path: Path | str,
    particles: Particles,
    metadata: ListMetadata,
    names: Sequence[str],
    found: Mapping[str, Extent],
    *,
    dialect: str,
) -> WrittenPixels:
    """Size of the tilt series' pixels, in which RELION 4 counts and which RELION 5's optics and sizes state.

    It is the one given, else that of columns or optics, else that of the tomograms.
    """
    own = stated_pixel_sizes(particles, names, dialect=dialect, where=str(path))
    if metadata.pixel_size is not None:
        given = np.full(len(names), float(metadata.pixel_size))
        return WrittenPixels(given, own is not None and np.allclose(own, given, rtol=1e-6))
    if own is not None:
        return WrittenPixels(own, True)
    sizes = pixel_sizes({}, {}, found, names=names, where=str(path))
    if sizes is None:
        return WrittenPixels(None, False)
    # Sizes in a table that came with the list are those of the tilt series; an opened tomogram is most often binned.
    unbinned = set(names) <= set(particles.blocks.get(GLOBAL, {}).get(TOMOGRAM, ()))
    written, counts = _IN_VOXELS[dialect]
    note = (
        f"{written} in the tomogram's voxels, {different_sizes(sizes)} Å; {counts} in pixels of the tilt series. "
        "Give their size if it is another (--out-pixel-size)."
    )
    return WrittenPixels(sizes, True, () if unbinned else (note,))


@dataclass(frozen=True)
class WrittenSizes:
    """Name of each particle's tomogram, the tomograms' sizes as a list states them, and the tilt series' pixels.

    Parameters
    ----------
    extents : in a list of RELION 5 those from whose centres its coordinates count.
    in_pixels : the same in pixels of the tilt series, as RELION's own table of tomograms has them.
    """

    names: Sequence[str]
    extents: Mapping[str, Extent]
    in_pixels: Mapping[str, Extent]
    pixels: WrittenPixels
    notes: tuple[str, ...] = ()


def written_sizes(path: Path | str, particles: Particles, metadata: ListMetadata, *, dialect: str) -> WrittenSizes:
    """Sizes and pixels to write; see `WrittenSizes`.

    Coordinates of RELION 5 stay those of sizes that came with them, in their pixels, whatever size of pixels is given.
    """
    names, found = _named_extents(particles, metadata.extents)
    counted = dialect == "relion5" and covers(particles.blocks.get(GLOBAL), names)
    notes: tuple[str, ...] = ()
    if counted and metadata.pixel_size is not None:
        notes, metadata = _unused_pixel_size(metadata.pixel_size, found), replace(metadata, pixel_size=None)
    pixels = written_pixel_sizes(path, particles, metadata, names, found, dialect=dialect)
    in_pixels = extents_in_pixels(found, names, pixels)
    return WrittenSizes(names, found if counted else in_pixels, in_pixels, pixels, notes)


def _named_extents(particles: Particles, extents: Mapping[str, Extent]) -> tuple[list[str], dict[str, Extent]]:
    """Name to write for each particle, and the sizes by these names."""
    own = table_extents(particles.blocks.get(GLOBAL, {}), where="data_global")
    given = {**extents, **own}
    only = next(iter(given)) if len(given) == 1 else ""
    names = [str(name) or only for name in particles.tomogram]
    return names, find_extents(names, [own, extents])


def covers(table: Mapping[str, Sequence[str]] | None, names: Sequence[str]) -> bool:
    """Whether a table of tomograms names all of these."""
    return table is not None and set(names) <= set(table.get(TOMOGRAM, ()))


def _unused_pixel_size(size: float, found: Mapping[str, Extent]) -> tuple[str, ...]:
    """A sentence where a size of pixels is given and RELION's table of tomograms states another."""
    other = [extent.voxel_size for extent in found.values() if f"{extent.voxel_size:g}" != f"{size:g}"]
    if not other:
        return ()
    return (
        f"Pixels of {size:g} Å are not used: RELION 5 counts in Å, from the table's sizes in "
        f"{different_sizes(other)} Å.",
    )


def written_optics(
    optics: Mapping[str, Sequence[str]],
    particles: Particles,
    pixels: WrittenPixels,
    names: Sequence[str],
    *,
    dialect: str,
) -> Mapping[str, Sequence[str]]:
    """Optics with the pixel size of the tilt series, in which coordinates count, and without which RELION 5 stops."""
    if dialect == "relion4":
        # RELION multiplies coordinates by this size, and so must the optics of a WarpTools export say.
        optics = export_optics(optics, names)
    replaced = not pixels.stated
    if pixels.sizes is None or (PIXEL in optics and not replaced):
        return optics
    groups = optics.get(GROUP, ("",) * len(next(iter(optics.values()))))
    own = particles.extra.get(GROUP)
    rows = [pixels.sizes if own is None or len(groups) == 1 else pixels.sizes[own == group] for group in groups]
    if any(len(np.unique(part)) > 1 for part in rows):
        return optics
    usual = float(pixels.sizes[0])
    return {**optics, PIXEL: tuple(f"{part[0] if len(part) else usual:.6f}" for part in rows)}


def coordinate_columns(
    path: Path | str,
    places: FloatArray,
    names: Sequence[str],
    found: Mapping[str, Extent],
    pixels: WrittenPixels,
    *,
    dialect: str,
    centre: str,
) -> dict[str, Sequence[str]]:
    """Columns of places (N, 3) xyz in Å, as the dialect counts them: from the tomograms' centres, or in pixels.

    Raises
    ------
    InputError
        If the size of a tomogram or pixel is needed and unknown.
    """
    if dialect == "relion5":
        check_sizes(path, names, found)
        return dict(number_columns(CENTRED, places - centres(names, found, centre)))
    if pixels.sizes is None:
        raise InputError(
            f"{path}: RELION 4's coordinates are in pixels, and the size of a pixel is unknown. "
            "Give it in Å (--pixel-size), or open the tomogram too (--tomogram)."
        )
    return dict(number_columns(PIXELS, places / pixels.sizes[:, None]))


def extents_in_pixels(found: Mapping[str, Extent], names: Sequence[str], pixels: WrittenPixels) -> dict[str, Extent]:
    """The tomograms' sizes in the pixels that the list states: the same in Å, up to half a pixel.

    Parameters
    ----------
    found : sizes in voxels, perhaps of a binned tomogram that is open, by tomogram.
    names : of the tomogram of each particle; tomograms whose particles' pixels differ stay as they are.
    """
    if pixels.sizes is None:
        return dict(found)
    pairs = set(zip(names, pixels.sizes.tolist(), strict=True))
    counts = Counter(name for name, _ in pairs)
    stated = {name: size for name, size in pairs if counts[name] == 1}
    return {name: _in_pixels(extent, stated.get(name)) for name, extent in found.items()}


def _in_pixels(extent: Extent, pixel: float | None) -> Extent:
    """A tomogram's size in other pixels; as it is where they are unknown, or its own.

    Raises
    ------
    InputError
        If the pixels are larger than the tomogram, or there are more than any tomogram has.
    """
    if pixel is None or extent == ANY_SIZE or np.isclose(extent.voxel_size, pixel, rtol=_SAME_PIXELS):
        return extent
    x, y, z = (round(count * extent.voxel_size / pixel) for count in extent.size)
    if min(x, y, z) < 1 or max(x, y, z) > max(ANY_SIZE.size):
        sides = " × ".join(f"{count * extent.voxel_size:g}" for count in extent.size)
        raise InputError(
            f"pixels of {pixel:g} Å are to be written for a tomogram of {sides} Å; expected those of its tilt series. "
            "Give their size in Å (--out-pixel-size)."
        )
    return Extent((x, y, z), float(pixel))


def with_extents(table: Mapping[str, Sequence[str]], extents: Mapping[str, Extent]) -> Mapping[str, Sequence[str]]:
    """``data_global`` with these sizes and pixel sizes in place of its own; its other columns and rows as they are."""
    if not {TOMOGRAM, PIXEL, *SIZE} <= set(table) or not set(extents) & set(table[TOMOGRAM]):
        return table
    own, replaced = table_extents(table, where=GLOBAL), extents_table(extents)
    rows = {name: row for row, name in enumerate(replaced[TOMOGRAM]) if own.get(name) != extents[name]}
    columns = {
        column: tuple(
            replaced[column][rows[name]] if name in rows else value
            for name, value in zip(table[TOMOGRAM], table[column], strict=True)
        )
        for column in (PIXEL, *SIZE)
    }
    return {**table, **columns}


# --- boxes: where each particle was cut, and how its box was rotated --------------------------------------------------

ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
SUBTOMOGRAM_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")

_NOT_TURNED = 1e-6
"""Degrees of a box's largest angle up to which it lies along the tomogram's axes: files have six decimals."""


def with_boxes(particles: Particles, centres: FloatArray, angles: FloatArray | None) -> Particles:
    """Particles with columns of the box about each, if they have images; else as they are.

    Parameters
    ----------
    centres : (N, 3) xyz in Å.
    angles : (N, 3) of the boxes, degrees (ZYZ); None where they are not turned.
    """
    if not set(IMAGES) & set(particles.extra):
        return particles
    columns = dict(zip(BOX, centres.T.copy(), strict=True))
    if angles is not None and np.abs(angles).max(initial=0) > _NOT_TURNED:
        columns |= dict(zip(BOX_ANGLES, angles.T.copy(), strict=True))
    return particles.replace(extra={**particles.extra, **columns})


def in_boxes(particles: Particles, frames: FloatArray | None) -> Particles:
    """The particles with their rotations in the frames of their boxes (N, 3, 3), where these are turned."""
    if frames is None:
        return particles
    return particles.replace(rotations=frames.transpose(0, 2, 1) @ particles.required_rotations())


def box_columns(
    particles: Particles, centres: FloatArray | None, frames: FloatArray | None
) -> dict[str, Sequence[str]]:
    """RELION's angles of turned boxes, and its origins, which lead from the centres of boxes to the particles.

    There are no origins where all particles are at the centres of their boxes.
    """
    columns = {} if frames is None else number_columns(SUBTOMOGRAM_ANGLES, matrix_to_zyz(frames))
    if centres is None or not np.round(centres - particles.positions, DECIMALS).any():
        return columns
    inverse = None if frames is None else frames.transpose(0, 2, 1)
    return {**columns, **number_columns(ORIGIN, rotated(inverse, centres - particles.positions))}


def rotated(rotations: FloatArray | None, shifts: FloatArray) -> FloatArray:
    """Shifts (N, 3), each rotated by its rotation (N, 3, 3); as they are where there are none."""
    turned: FloatArray = shifts if rotations is None else np.einsum("nij,nj->ni", rotations, shifts)
    return turned
