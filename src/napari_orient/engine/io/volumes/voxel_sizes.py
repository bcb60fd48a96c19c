"""Voxel size in force of a volume: as its file states it, or as a person gives it; never a placeholder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Tomogram

FLAG = "--voxel-size"
"""Option of the command line that gives a tomogram's voxel size."""

_UNSET_TOLERANCE = 1e-6
"""Å from 1.0 within which a voxel size is taken for unset: the rounding of float32."""

_USUAL = (0.3, 200.0)
"""Å of the voxels of maps and tomograms: from the finest single-particle maps to overviews; others are questioned."""

_LEAST_WIDE = 300
"""Voxels along x and y from which a volume that is no cube is a tomogram, not a part of one; chosen: binned to 10 Å a
tomogram has 400 to 1,000, a box of a particle less, and as many along each axis."""
_NARROWEST = 200.0
"""nm along the longer of x and y below which that is no field of view: 4,096 pixels of 0.5 Å are 205."""

_CUBIC_TOLERANCE = 1e-3
"""Relative difference of the axes' voxel sizes that is still cubic: a tenth of a voxel over 100 voxels."""

Sizes = tuple[float, float, float]
"""Voxel size in Å along x, y, z."""


@dataclass(frozen=True)
class VoxelSize:
    """Voxel size in Å, where it is from, and what a person should know of it."""

    value: float
    source: str
    notes: tuple[str, ...] = ()


def voxel_size_in_force(
    path: Path, stated: Sizes | None, *, source: str, given: float | None = None, flag: str = FLAG
) -> VoxelSize:
    """Voxel size of a volume: the one given, or the average of the three that the file states, to seven digits.

    Parameters
    ----------
    stated : Å along x, y, z as the file says; None where it does not.
    source : what states them, such as ``MRC header``.
    given : Å; overrides what is stated.
    flag : option that the error names.

    Raises
    ------
    InputError
        If the given one is not positive; or none is given, and the stated one is absent, 0, 1.0 (which programs write
        that do not know it), or differs between axes by more than a thousandth.
    """
    if given is not None:
        return _given(path, stated, given, source=source)
    remedy = f"Give the voxel size in Å yourself ({flag})."
    if stated is None or not usable(stated):
        said = "" if stated is None else f" (its {source} says {shown(stated)})"
        raise InputError(f"{path} states no voxel size{said}. {remedy}")
    if (np.abs(np.array(stated) - 1) < _UNSET_TOLERANCE).all():
        raise InputError(f"{path} states voxels of 1.0 Å, which most often means that nobody set it. {remedy}")
    if not is_cubic(stated):
        raise InputError(
            f"{path} has voxels of ({shown(stated)}) Å; napari-orient needs cubic voxels. Resample it first; "
            f"or, if the {source} is wrong, give their size in Å yourself ({flag})."
        )
    size = average(stated)
    if not _USUAL[0] <= size <= _USUAL[1]:
        note = f"Voxels of {size:g} Å are no usual size of a map or tomogram: is the unit right? Else give it ({flag})."
        return VoxelSize(size, source, (note,))
    return VoxelSize(size, source)


def question_on_width(tomogram: Tomogram, flag: str = FLAG) -> tuple[str, ...]:
    """A sentence where a tomogram of many voxels would be narrower than any field of view; else none.

    Programs that bin images may leave the size of their pixels, not that of the voxels, in the header.
    """
    width = np.array(tomogram.extent.size[:2])
    nanometres = width.max() * tomogram.voxel_size / 10
    if width.min() < _LEAST_WIDE or nanometres >= _NARROWEST or len(set(tomogram.extent.size)) == 1:
        return ()
    return (
        f"With voxels of {tomogram.voxel_size:g} Å the tomogram would be {nanometres:.0f} nm wide: is that the pixel "
        f"size of images before they were binned? Then give that of the voxels ({flag}).",
    )


def usable(stated: Sizes) -> bool:
    """Whether all three sizes are positive numbers."""
    return bool(np.isfinite(stated).all() and min(stated) > 0)


def is_cubic(stated: Sizes) -> bool:
    """Whether the three sizes differ by at most a thousandth."""
    return float(np.ptp(stated)) <= _CUBIC_TOLERANCE * float(np.mean(stated))


def average(stated: Sizes) -> float:
    """Average of the three sizes, to seven digits."""
    return float(f"{np.mean(stated):.7g}")


def shown(stated: Sizes) -> str:
    """The three sizes as text."""
    return ", ".join(f"{size:g}" for size in stated)


def _given(path: Path, stated: Sizes | None, given: float, *, source: str) -> VoxelSize:
    if not (np.isfinite(given) and given > 0):
        raise InputError(f"a voxel size of {given:g} Å is given for {path}; expected a positive size.")
    if stated is None or not usable(stated):
        return VoxelSize(float(given), "given")
    if not is_cubic(stated):
        note = f"The {source} of {path.name} says voxels of ({shown(stated)}) Å; taken for cubes of {given:g} Å."
        return VoxelSize(float(given), f"given; the {source} says {shown(stated)}", (note,))
    differs = abs(average(stated) / given - 1) > _CUBIC_TOLERANCE
    return VoxelSize(float(given), f"given; the {source} says {average(stated):g}" if differs else "given")
