"""Tomograms whose outliers of density, gold beads and hot voxels, are filled near the picks.

Gold is what patches have most strongly in common: left in, random starts average beads, not particles. The outliers
about each pick (`voxel_outliers`) are found once, and filled whenever a patch is read; the tomogram stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import Density, FloatArray, Labelled, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import raw_cubes
from napari_orient.engine.streams import Work
from napari_orient.engine.voxel_outliers import OutlierLimits, estimate_outlier_limits

_SAMPLE = 64
"""Picks that the usual density is read off, at most, as in `refinement.refine`."""


@dataclass(frozen=True, eq=False)
class FilledDensity:
    """A volume (Z, Y, X) with some voxels replaced, read by integers and slices.

    Parameters
    ----------
    density : as it was measured.
    voxels : (M, 3) zyx of the voxels replaced, each once.
    values : (M,) what they are replaced by.
    """

    density: Density
    voxels: NDArray[np.int_]
    values: NDArray[np.float32]

    ndim = 3
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return tuple(self.density.shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Voxels of a chunk along z, y, x, where the density is read by chunks."""
        chunks: tuple[int, ...] | None = getattr(self.density, "chunks", None)
        return chunks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole volume, read."""
        return np.asarray(self[:, :, :], dtype)

    def __getitem__(self, key: tuple[int | slice, int | slice, int | slice]) -> NDArray[np.float32]:
        """The voxels asked for, as an array that may be written to."""
        lines = [np.atleast_1d(np.arange(length)[item]) for length, item in zip(self.shape, key, strict=True)]
        slices = tuple(
            slice(int(line[0]), int(line[0]) + 1) if isinstance(item, int) else item
            for line, item in zip(lines, key, strict=True)
        )
        block = np.array(self.density[slices], np.float32)
        places = np.stack(
            [_places(line, length, own) for line, length, own in zip(lines, self.shape, self.voxels.T, strict=True)]
        )
        inside = (places >= 0).all(0)
        block[tuple(places[:, inside])] = self.values[inside]
        return block[tuple(0 if isinstance(item, int) else slice(None) for item in key)]


def _places(line: NDArray[np.int_], length: int, voxels: NDArray[np.int_]) -> NDArray[np.int_]:
    """Where each coordinate (M,) lies in a line of some of them, (M,); -1 where it does not."""
    place = np.full(length, -1)
    place[line] = np.arange(len(line))
    return place[voxels]


def fill_outliers(picks: Labelled, options: DiscoveryOptions) -> Work[Labelled]:
    """The tomograms with the outliers of density near their picks filled; as they are where none are found."""
    filled = []
    for tomogram, particles in picks:
        filled.append(((yield from _filled(tomogram, particles.positions, options)), particles))
    return filled


def as_measured(tomogram: Tomogram) -> Tomogram:
    """The tomogram without anything filled."""
    density = tomogram.density
    return replace(tomogram, density=density.density) if isinstance(density, FilledDensity) else tomogram


def _filled(tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions) -> Work[Tomogram]:
    side = 2 * int(np.ceil(options.radius / tomogram.voxel_size))
    some = positions[evenly_spaced_rows(len(positions), _SAMPLE)]
    limits = estimate_outlier_limits(raw_cubes(tomogram, some, side=side))
    yield
    if limits is None:
        return tomogram
    # A patch, shifted as far as the options allow, and what its resampling reads beyond it.
    reach = int(np.ceil((options.diameter + 2 * options.max_shift) / tomogram.voxel_size))
    found = []
    for position in positions:
        found.append(_outliers(tomogram, position, limits, reach=reach))
        yield
    voxels, values = (np.concatenate(part) for part in zip(*found, strict=True))
    _, first = np.unique(np.ravel_multi_index(tuple(voxels.T), tomogram.density.shape), return_index=True)
    if len(first) == 0:
        return tomogram
    return replace(tomogram, density=FilledDensity(tomogram.density, voxels[first], values[first]))


def _outliers(
    tomogram: Tomogram, position: FloatArray, limits: OutlierLimits, *, reach: int
) -> tuple[NDArray[np.int_], NDArray[np.float32]]:
    """Outliers in the cube that reaches so many voxels from a position: zyx (M, 3), and the mean of the rest, (M,)."""
    cube = next(raw_cubes(tomogram, position[None], side=2 * reach))
    mask = limits.mask(cube)
    if mask is None or mask.all():
        return np.zeros((0, 3), int), np.zeros(0, np.float32)
    corner = np.floor(position[::-1] / tomogram.voxel_size + 0.5).astype(int) - reach
    voxels = np.argwhere(mask) + corner
    voxels = voxels[((voxels >= 0) & (voxels < tomogram.density.shape)).all(1)]
    return voxels, np.full(len(voxels), cube[~mask].mean(dtype=np.float64), np.float32)
