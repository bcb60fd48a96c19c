"""Coordinates of RELION 5, which count from a tomogram's centre: where that is, and the sizes that it follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.star import Table
from napari_orient.engine.io.tomograms import (
    GLOBAL,
    ListMetadata,
    extents_beside,
    find_extents,
    read_tomograms,
    table_extents,
)
from napari_orient.engine.particles import Extent, FloatArray

CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")

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
    opened = find_extents(found, [metadata.extents])
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
            "count from its centre. Open the tomogram too, give RELION's tomograms.star (--tomograms-star), or put it "
            "beside the list.",
            tomograms=unknown,
        )


def centres(names: Sequence[str], extents: Mapping[str, Extent], rule: str) -> FloatArray:
    """Origins of centred coordinates, (N, 3) xyz in Å."""
    if rule not in CENTRES:
        raise InputError(f"centre rule {rule!r} is unknown; expected one of {', '.join(CENTRES)}.")
    centres = {name: extent.centre + CENTRES[rule] * extent.voxel_size for name, extent in extents.items()}
    return np.array([centres[name] for name in names])
