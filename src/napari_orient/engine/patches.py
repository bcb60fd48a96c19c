"""Patches: cubes of density around each particle, cut from the tomogram, centred, resampled and normalised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Density, FloatArray, Tomogram
from napari_orient.engine.ramps import plane_means, ramp_of

PatchArray = NDArray[np.float32]


SINC_REACH = 6
"""Zero crossings of the windowed sinc on each side of its centre: 90 % of the band passes unchanged."""

ROUNDING = 1e-6
"""Standard deviation, as a share of a cube's mean, below which it is constant but for float32 rounding."""

_ON_VOXEL = 1e-6
"""Distance in voxels from a voxel's centre below which nothing is interpolated."""

_REGION_BYTES = 2**26
"""Most bytes of a tomogram that are held at once for the patches of one call: four of PolNet's tomograms; chosen."""

_SAME_SIZE = 0.005
"""Relative difference of voxel sizes below which they are the same: a fifth of a voxel at the edge of 40 voxels."""


def cut_patches(
    tomogram: Tomogram,
    positions: FloatArray,
    *,
    side: int,
    voxel_size: float | None = None,
    centring: str = "subvoxel",
    repair: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    level: bool = False,
    beyond: bool = False,
) -> PatchArray:
    """Cubes of density centred on each position, (N, side, side, side), indexed [n, z, y, x], mean 0 and deviation 1.

    Only the voxels around each position are read. Voxels beyond the tomogram's edge, and those that are no numbers, get
    the mean of the others, so that they are 0 after normalisation.

    Parameters
    ----------
    positions : (N, 3) xyz in Å, from the centre of voxel [0, 0, 0].
    side : even number of voxels; the position falls on voxel ``side // 2``.
    voxel_size : Å of the patch's voxels; None for the tomogram's own. Another size is resampled, band-limited.
    centring : ``subvoxel`` puts the position exactly on the middle voxel, by windowed-sinc interpolation;
        ``rounded`` takes the nearest voxel as it is (where sizes differ, interpolation is needed anyway).
    repair : what is done to each cube before it is normalised.
    level : whether ramps of the tomogram are taken out of them; see `normalised`.
    beyond : whether patches may be larger than the tomogram, as a box that was cut about one particle is.

    Raises
    ------
    InputError
        If ``side`` is odd or the patch is larger than the tomogram.
    """
    ratio = patch_ratio(tomogram, side, voxel_size, beyond=beyond)
    nearest, residual = nearest_voxels(positions, tomogram.voxel_size, centring=centring)
    order = _reading_order(tomogram.density, nearest)
    nearest, residual = nearest[order], residual[order]
    if ratio == 1 and not residual.any():
        cubes = _cubes(tomogram.density, nearest - side // 2, side)
    else:
        cubes = _resampled(tomogram.density, nearest, residual, side=side, ratio=ratio)
    patches = np.empty((len(nearest), side, side, side), np.float32)
    for row, cube in zip(order, cubes, strict=True):
        normalised(cube if repair is None else repair(cube), out=patches[row], level=level)
    return patches


def nearest_voxels(positions: FloatArray, voxel_size: float, *, centring: str) -> tuple[NDArray[np.int_], FloatArray]:
    """Voxels (N, 3) zyx that patches about positions (N, 3) xyz in Å are cut about, and what is left to interpolate.

    Nothing is where the centring is ``rounded``, or all positions lie on voxels' centres.
    """
    voxels = np.asarray(positions, float).reshape(-1, 3)[:, ::-1] / voxel_size
    nearest = np.floor(voxels + 0.5).astype(int)
    residual = voxels - nearest
    if centring != "subvoxel" or np.abs(residual).max(initial=0) < _ON_VOXEL:
        residual = np.zeros_like(residual)
    return nearest, residual


def nearest_voxel(positions: FloatArray, voxel_size: float) -> FloatArray:
    """Centres of the voxels that positions (N, 3) in Å lie in: patches about them need no interpolation."""
    centres: FloatArray = np.floor(np.asarray(positions) / voxel_size + 0.5) * voxel_size
    return centres


def normalised(cube: NDArray[Any], *, out: PatchArray | None = None, level: bool = False) -> PatchArray:
    """The cube at mean 0 and standard deviation 1; a constant cube becomes 0, as do values that are no numbers.

    Parameters
    ----------
    out : where it is written to; None takes new memory.
    level : whether the plane that fits it best by least squares is taken out, if that is a ramp. One that holds little
        of the cube's variance is that of particle and neighbours, and stays.
    """
    # Each of these passes over the voxels takes a fourteenth of the time that cutting a patch does.
    cube = np.ascontiguousarray(cube, np.float32)
    mean = plane_means(cube).mean()
    if not np.isfinite(mean):
        return normalised(without_infinite(cube), out=out, level=level)
    values: PatchArray = np.subtract(cube, mean, out=out)
    deviation = _deviation(values)
    ramp = ramp_of(values, deviation) if level else None
    if ramp is not None:
        values -= ramp
        deviation = _deviation(values)
    # The rounding errors of an interpolated constant are no signal.
    if deviation > ROUNDING * abs(mean):
        values /= deviation
    else:
        values[...] = 0
    return values


def _deviation(centred: PatchArray) -> np.float32:
    """Standard deviation of a cube whose mean is 0."""
    import torch

    lengths = torch.linalg.vector_norm(torch.from_numpy(centred), dim=(1, 2)).numpy()
    return np.float32(np.sqrt(np.square(lengths).sum() / max(centred.size, 1)))


def without_infinite(cube: NDArray[Any]) -> PatchArray:
    """The cube, whose values that are no numbers are the mean of the others; 0 where there are none."""
    finite = np.isfinite(cube)
    mean = cube[finite].mean(dtype=np.float64) if finite.any() else 0.0
    return np.where(finite, cube, mean).astype(np.float32)


def raw_cubes(tomogram: Tomogram, positions: FloatArray, *, side: int) -> Iterator[NDArray[Any]]:
    """Cubes of density about the voxels nearest to positions (N, 3) in Å, (side, side, side) each, as they are."""
    nearest = np.floor(np.asarray(positions)[:, ::-1] / tomogram.voxel_size + 0.5).astype(int)
    return _cubes(tomogram.density, nearest - side // 2, side)


def patch_ratio(tomogram: Tomogram, side: int, voxel_size: float | None, *, beyond: bool) -> float:
    """Voxel size of a patch over the tomogram's; exactly 1 where they are the same.

    Raises
    ------
    InputError
        If ``side`` is odd or the patch is larger than the tomogram.
    """
    if side % 2 or side < 2:
        raise InputError(f"patches of {side} voxels were asked for; expected an even number of at least 2.")
    ratio = (voxel_size or tomogram.voxel_size) / tomogram.voxel_size
    ratio = 1.0 if abs(ratio - 1) < _SAME_SIZE else ratio
    if side * ratio > min(tomogram.density.shape) and not beyond:
        shape = " × ".join(str(n) for n in tomogram.extent.size)
        raise InputError(
            f"patches of {side * ratio * tomogram.voxel_size:.0f} Å are larger than {tomogram.name} "
            f"({shape} voxels of {tomogram.voxel_size:g} Å). Check its voxel size, or open the whole tomogram."
        )
    return ratio


def _reading_order(density: Density, voxels: NDArray[np.int_]) -> NDArray[np.intp]:
    """Rows in the order in which their patches are read: chunk by chunk, so that a chunk is decoded once for all."""
    chunks = getattr(density, "chunks", None)
    if chunks is None:
        return np.arange(len(voxels))
    # Dask has the sides of all chunks along each axis.
    sides = np.array([side[0] if isinstance(side, tuple) else side for side in chunks])
    chunk, within = np.divmod(voxels, sides)
    # Then by octants of the chunk: a patch reaches into the neighbours on its own side alone.
    return np.lexsort((*(2 * within >= sides).T, *chunk.T[::-1]))


def _cubes(density: Density, corners: NDArray[np.int_], side: int) -> Iterator[PatchArray]:
    """Voxels (side, side, side) from each corner (z, y, x); beyond the edge, the mean of those inside."""
    region, first = _read_at_once(density, corners, side)
    return (_cube(region, corner - first, side) for corner in corners)


def _read_at_once(density: Density, corners: NDArray[np.int_], side: int) -> tuple[Density, NDArray[np.int_]]:
    """What cubes from corners (N, 3) are cut from, and its first voxel (z, y, x).

    Of a volume whose voxels lie one after the other in a file, whole slices are read for each cube. Where the part that
    holds all the cubes is less than that, and no more than is held at once, it is read instead; else it is the volume.
    """
    whole = density, np.zeros(3, int)
    if getattr(density, "chunks", density) is not None or len(corners) < 2:
        return whole
    shape = np.asarray(density.shape)
    low, high = corners.min(axis=0).clip(0, shape), (corners.max(axis=0) + side).clip(0, shape)
    deep, rows, wide = (high - low).tolist()
    size = np.dtype(density.dtype).itemsize
    if deep * rows * wide * size > _REGION_BYTES or deep * rows > len(corners) * side**2:
        return whole
    return np.asarray(density[tuple(map(slice, low, high))]), low


def _cube(density: Density, corner: NDArray[np.int_], side: int) -> PatchArray:
    """Voxels (side, side, side) from ``corner`` (z, y, x), an array of its own; beyond the edge, the mean inside."""
    low, high = np.maximum(corner, 0), np.minimum(corner + side, density.shape)
    if (high <= low).any():
        return np.zeros((side,) * 3, np.float32)
    inner = density[tuple(map(slice, low, high))]
    if inner.shape == (side,) * 3:
        return np.array(inner, np.float32)
    cube = np.zeros((side,) * 3, np.float32)
    bounds = [(int(first), int(last)) for first, last in zip(low - corner, high - corner, strict=True)]
    cube[tuple(slice(*both) for both in bounds)] = inner
    mean = plane_means(cube).sum() * (side * side / inner.size)
    if not np.isfinite(mean):
        mean = without_infinite(np.asarray(inner, np.float32)).mean()
    for axis, (first, last) in enumerate(bounds):
        before = (slice(None),) * axis
        cube[(*before, slice(first))] = mean
        cube[(*before, slice(last, None))] = mean
    return cube


def _resampled(
    density: Density, nearest: NDArray[np.int_], residual: FloatArray, *, side: int, ratio: float
) -> Iterator[PatchArray]:
    # Not NumPy's product: its threads cannot be set for this thread alone, and wait for each other in a busy loop.
    import torch

    margin = int(np.ceil(SINC_REACH * max(ratio, 1))) + 1
    half = int(np.ceil(side / 2 * ratio)) + margin
    offsets = (np.arange(side) - side // 2) * ratio + half
    for found, rest in zip(_cubes(density, nearest - half, 2 * half), residual, strict=True):
        # A value that is no number would spread over the whole patch.
        cube = torch.from_numpy(found if np.isfinite(plane_means(found).sum()) else without_infinite(found))
        for axis in range(3):
            weights = torch.from_numpy(_sinc_weights(offsets + rest[axis], 2 * half, max(ratio, 1)))
            cube = torch.tensordot(weights, cube, dims=([1], [axis])).movedim(0, axis)
        yield cube.numpy()


def _sinc_weights(targets: FloatArray, count: int, scale: float) -> NDArray[np.float32]:
    """Weights (targets, count) that interpolate a line of voxels; ``scale`` > 1 lowers its band limit."""
    distance = (targets[:, None] - np.arange(count)) / scale
    weights = np.sinc(distance) * np.where(
        np.abs(distance) < SINC_REACH, np.cos(distance * np.pi / (2 * SINC_REACH)) ** 2, 0
    )
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
