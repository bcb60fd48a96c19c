"""Tomograms without gold beads and their rays, and whose other outliers of density are filled near the picks.

Gold is what patches have most strongly in common: left in, random starts average beads, not particles. Beads are
subtracted with their rays (`gold_beads`); what is left of them, and hot voxels, the outliers about each pick
(`voxel_outliers`), are found once, and filled whenever a patch is read. The tomogram stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.volumes.on_demand import ChangedDensity
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Labelled, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import raw_cubes
from napari_orient.engine.streams import Work
from napari_orient.engine.tomogram.gold_beads import GoldBeads, WithoutBeads, estimate_gold_beads
from napari_orient.engine.tomogram.prewhitening import LevelledDensity
from napari_orient.engine.tomogram.voxel_outliers import OutlierLimits, estimate_outlier_limits, fillings

_SAMPLE = 64
"""Picks that the usual density is read off, at most, as in `refinement.refine`."""


@dataclass(frozen=True, eq=False)
class FilledDensity(ChangedDensity):
    """A volume (Z, Y, X) with some voxels replaced.

    Parameters
    ----------
    voxels : (M, 3) zyx of the voxels replaced, each once.
    values : (M,) what they are replaced by.
    """

    voxels: NDArray[np.int_]
    values: NDArray[np.float32]

    def _change(self, block: NDArray[np.float32], corner: NDArray[np.int_]) -> None:
        places = self.voxels - corner
        inside = ((places >= 0) & (places < block.shape)).all(axis=1)
        block[tuple(places[inside].T)] = self.values[inside]


def fill_outliers(picks: Labelled, options: DiscoveryOptions) -> Work[Labelled]:
    """The tomograms with the outliers of density near their picks filled; as they are where none are found."""
    filled = []
    for tomogram, particles in picks:
        filled.append(((yield from _filled(tomogram, particles.positions, options)), particles))
    return filled


def as_measured(tomogram: Tomogram) -> Tomogram:
    """The tomogram without anything filled, subtracted or levelled."""
    density = tomogram.density
    while isinstance(density, FilledDensity | WithoutBeads | LevelledDensity):
        density = density.density
    return replace(tomogram, density=density)


def _filled(tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions) -> Work[Tomogram]:
    reach = options.diameter + 2 * options.max_shift
    beads = yield from estimate_gold_beads(tomogram, positions, radius=options.radius, side=reach)
    tomogram = tomogram if beads is None else beads.subtracted_from(tomogram)
    side = 2 * int(np.ceil(options.radius / tomogram.voxel_size))
    some = positions[evenly_spaced_rows(len(positions), _SAMPLE)]
    limits = estimate_outlier_limits(raw_cubes(tomogram, some, side=side))
    yield
    if limits is None:
        return tomogram
    # A patch, shifted as far as the options allow, and what its resampling reads beyond it.
    voxels_reached = int(np.ceil(reach / tomogram.voxel_size))
    found = []
    for position in positions:
        found.append(_outliers(tomogram, position, limits, beads, reach=voxels_reached))
        yield
    voxels, values = (np.concatenate(part) for part in zip(*found, strict=True))
    _, first = np.unique(np.ravel_multi_index(tuple(voxels.T), tomogram.density.shape), return_index=True)
    if len(first) == 0:
        return tomogram
    return replace(tomogram, density=FilledDensity(tomogram.density, voxels[first], values[first]))


def _outliers(
    tomogram: Tomogram, position: FloatArray, limits: OutlierLimits, beads: GoldBeads | None, *, reach: int
) -> tuple[NDArray[np.int_], NDArray[np.float32]]:
    """Outliers in the cube that reaches so many voxels from a position: zyx (M, 3), and the mean of the rest, (M,).

    Where a bead was subtracted, what is left within it is one.
    """
    cube = next(raw_cubes(tomogram, position[None], side=2 * reach))
    corner = np.floor(position[::-1] / tomogram.voxel_size + 0.5).astype(int) - reach
    mask = limits.mask(cube)
    if beads is not None:
        within = beads.within(corner, cube.shape)
        mask = within if mask is None else mask | within
    if mask is None or not mask.any() or mask.all():
        return np.zeros((0, 3), int), np.zeros(0, np.float32)
    voxels = np.argwhere(mask) + corner
    inside = ((voxels >= 0) & (voxels < tomogram.density.shape)).all(1)
    return voxels[inside], fillings(cube, mask)[inside]
