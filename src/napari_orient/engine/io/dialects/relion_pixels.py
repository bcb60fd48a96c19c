"""Pixel sizes in RELION's lists as they are written: that in which coordinates count, and that which optics state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.io.star import column_texts
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    GROUP,
    PIXEL,
    SIZE,
    TOMOGRAM,
    ListMetadata,
    export_optics,
    pixel_sizes,
)
from napari_orient.engine.particles import Extent, FloatArray, Particles, shortened


@dataclass(frozen=True)
class WrittenPixels:
    """Size in Å of the pixels to write in, (N,), None where unknown; whether the list's columns or optics state it."""

    sizes: FloatArray | None
    stated: bool
    notes: tuple[str, ...] = ()


def written_pixel_sizes(
    path: Path | str, particles: Particles, metadata: ListMetadata, names: Sequence[str], found: Mapping[str, Extent]
) -> WrittenPixels:
    """Size of the pixels to write in: the one given, else that of columns or optics, else that of the tomograms."""
    table = {name: column_texts(column) for name, column in particles.extra.items()}
    own = pixel_sizes(table, particles.blocks, {}, names=names, where=str(path))
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
    shown = shortened(sorted({f"{size:g}" for size in sizes.tolist()}, key=float))
    note = (
        f"Coordinates are written in the tomogram's voxels, {shown} Å; RELION 4 counts in pixels of the tilt series. "
        "Give their size if it is another (--pixel-size)."
    )
    return WrittenPixels(sizes, True, () if unbinned else (note,))


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
    replaced = dialect == "relion4" and not pixels.stated
    if pixels.sizes is None or (PIXEL in optics and not replaced):
        return optics
    groups = optics.get(GROUP, ("",) * len(next(iter(optics.values()))))
    own = particles.extra.get(GROUP)
    rows = [pixels.sizes if own is None or len(groups) == 1 else pixels.sizes[own == group] for group in groups]
    if any(len(np.unique(part)) > 1 for part in rows):
        return optics
    usual = float(pixels.sizes[0])
    return {**optics, PIXEL: tuple(f"{part[0] if len(part) else usual:.6f}" for part in rows)}


def sizes_in_pixels(
    table: Mapping[str, Sequence[str]], names: Sequence[str], pixels: FloatArray
) -> Mapping[str, Sequence[str]]:
    """``data_global`` in the pixels in which coordinates are written: the same extents in Å.

    Parameters
    ----------
    table : sizes in voxels, and the voxels' size, by tomogram.
    names : of the tomogram of each particle.
    pixels : (N,) size in Å of the pixels of each particle; tomograms in which they differ stay as they are.
    """
    if not {TOMOGRAM, PIXEL, *SIZE} <= set(table):
        return table
    columns = {name: list(table[name]) for name in (PIXEL, *SIZE)}
    for row, name in enumerate(table[TOMOGRAM]):
        stated = float(table[PIXEL][row])
        written = np.unique(pixels[np.asarray(names) == name])
        if len(written) != 1 or np.isclose(stated, written[0], rtol=1e-6):
            continue
        columns[PIXEL][row] = f"{written[0]:.9g}"
        for side in SIZE:
            columns[side][row] = str(round(float(table[side][row]) * stated / written[0]))
    return {**table, **columns}
