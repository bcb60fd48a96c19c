"""Voxels that are no signal: gold beads, hot pixels and values that are no numbers, found and filled in patches.

A bead is several times denser than any molecule, and rings as strongly: in a patch it outweighs the particle, and a
search finds it from 100 Å away. Densities count from the median of their own patch, which neither a bead nor a ramp
across the tomogram moves far. What is usual is read off the picks themselves: how far from that median the smoothed
density goes within a particle's radius. A low quantile of that knows no gold, but false picks go less far than a
particle; so a high one is taken of the picks that, by the low one, are not beside gold. A voxel is an outlier where the
smoothed density goes several times as far, on either side, and so far from the noise that noise does not; what
surrounds it, up to the usual density, belongs to it. Outliers are filled with the mean of the rest of the patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.ramps import ramp_in
from napari_orient.engine.rotations import FloatArray

Cube = NDArray[Any]

_BLUR_VOXELS = 1.5
"""Voxels, standard deviation of the Gaussian that densities are smoothed by; a bead spans 10 voxels of 10 Å."""
_SEED_RATIO = 3.0
"""Deviation from which a smoothed voxel is an outlier, over the usual largest deviation within a particle's radius.
Gold of 10 nm beside simulated ribosomes reaches 4 to 5 times the usual; a contrast that varies threefold across a
tomogram 1.6 times."""
_SEED_DEVIATIONS = 8.0
"""The same in robust standard deviations of the smoothed density, at the least: noise reaches 5."""
_EDGE_RATIO = 1.2
"""Deviation down to which an outlier extends, over the usual largest one; chosen."""
_EDGE_DEVIATIONS = 5.0
"""The same in robust standard deviations, at the least."""
_TRIGGER_RATIO = 1.3
"""Deviation of single voxels, over the usual largest one, from which a patch is smoothed and searched at all; saves
time only, for whatever is an outlier when smoothed deviates further than that in single voxels."""
_LEAST_TOGETHER = 3.5
"""Voxels far off, of the 27 about one, from which they are more than single hot voxels; chosen."""
_LEAST_QUANTILE = 0.3
"""Quantile of the largest deviations of the picks that no gold raises: as many as two thirds may lie beside it."""
_USUAL_QUANTILE = 0.7
"""Quantile, of the picks that are not beside gold, that is the usual one: as many as two thirds may be false."""
_LEAST_PICKS = 4
"""Picks from which the usual density is known."""
_MEDIAN_LINE = 13
"""Voxels along a line that a patch's median is taken of, at the least: of 13³ its standard error is 0.03 deviations."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""


@dataclass(frozen=True)
class OutlierLimits:
    """Densities, from the median of a patch, beyond which its voxels are outliers, (lowest, highest) each.

    Parameters
    ----------
    trigger, hot : of single voxels: a patch within is left as it is; beyond, voxels without their like are outliers.
    seed, edge : of the smoothed density: where an outlier is, and how far it extends.
    """

    trigger: tuple[float, float]
    hot: tuple[float, float]
    seed: tuple[float, float]
    edge: tuple[float, float]

    def mask(self, cube: Cube) -> NDArray[np.bool_] | None:
        """Which voxels of a patch are outliers; None where none is. Values that are no numbers are."""
        from scipy.ndimage import binary_dilation, binary_propagation

        middle = np.float32(_middle(cube))
        # Where a value is no number, neither comparison holds.
        if self.trigger[0] <= cube.min() - middle and cube.max() - middle <= self.trigger[1]:
            return None
        cube = _without_ramp(cube - middle)
        broken = ~np.isfinite(cube)
        broken |= _alone(_beyond(cube, self.hot) | broken)
        smooth = _smoothed(np.where(broken, np.mean(self.trigger), cube))
        seeds = _beyond(smooth, self.seed)
        if not seeds.any():
            return broken if broken.any() else None
        grown = binary_propagation(seeds, mask=_beyond(smooth, self.edge) | seeds)
        return np.asarray(binary_dilation(grown) | broken)

    def fill(self, cube: Cube) -> Cube:
        """The patch with its outliers filled by the mean of the rest; as it is where there are none."""
        outliers = self.mask(cube)
        if outliers is None or outliers.all():
            return cube
        filled = np.array(cube, np.float32)
        filled[outliers] = fillings(cube, outliers)
        return filled


def estimate_outlier_limits(cubes: Iterable[Cube]) -> OutlierLimits | None:
    """Limits of the densities of a tomogram, from cubes as wide as its particle about some picks; None of few.

    Parameters
    ----------
    cubes : (n, n, n) each, densities as they are.
    """
    found = [_statistics(cube) for cube in cubes if np.isfinite(cube).all() and np.ptp(cube) > 0]
    if len(found) < _LEAST_PICKS:
        return None
    stats = np.array(found)
    deviation = float(np.median(stats[:, 0]))
    low, high, smooth_low, smooth_high = np.quantile(_not_beside_gold(stats, deviation), _USUAL_QUANTILE, axis=0)[1:]
    usual = (smooth_low, smooth_high)
    return OutlierLimits(
        trigger=(-_TRIGGER_RATIO * low, _TRIGGER_RATIO * high),
        hot=(-_SEED_RATIO * max(low, high), _SEED_RATIO * max(low, high)),
        seed=_limits(usual, deviation, ratio=_SEED_RATIO, least=_SEED_DEVIATIONS),
        edge=_limits(usual, deviation, ratio=_EDGE_RATIO, least=_EDGE_DEVIATIONS),
    )


def _not_beside_gold(stats: FloatArray, deviation: float) -> FloatArray:
    """The statistics of the picks (N, 5) whose smoothed density goes not so far as to be an outlier."""
    farthest = stats[:, 3:].max(axis=1)
    limit = max(_SEED_RATIO * float(np.quantile(farthest, _LEAST_QUANTILE)), _SEED_DEVIATIONS * deviation)
    within: FloatArray = stats[farthest <= limit]
    return within


def fillings(cube: Cube, outliers: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What outliers of a patch are replaced by, (M,): the mean of the rest, on the patch's ramp where it has one."""
    ramp = ramp_in(cube)
    level = cube if ramp is None else cube - ramp
    mean = level[~outliers].mean(dtype=np.float64)
    return np.asarray(mean + (0 if ramp is None else ramp[outliers]), np.float32) * np.ones(outliers.sum(), np.float32)


def ball(side: int) -> NDArray[np.bool_]:
    """Mask of the ball that a cube of so many voxels holds, (n, n, n)."""
    line = np.square(np.arange(side) - side // 2)
    return np.asarray(line[:, None, None] + line[:, None] + line <= (side / 2 - 1) ** 2)


def _limits(usual: tuple[float, float], deviation: float, *, ratio: float, least: float) -> tuple[float, float]:
    # Both sides by the larger one: what rings about a bead is as strong as the bead.
    far = max(ratio * max(usual), least * deviation)
    return float(-far), float(far)


def _statistics(cube: Cube) -> tuple[float, float, float, float, float]:
    """Deviation of the smoothed density; how far the density goes below and above the median, voxels and smoothed."""
    cube = _without_ramp(cube)
    smooth, inside = _smoothed(cube), ball(len(cube))
    deviation = _MAD_TO_SD * float(np.median(np.abs(smooth - np.median(smooth))))
    middle = _middle(cube)
    raw, within = cube[inside] - middle, smooth[inside] - middle
    return deviation, -float(raw.min()), float(raw.max()), -float(within.min()), float(within.max())


def _without_ramp(cube: Cube) -> Cube:
    """The patch without its ramp, whose ends would pass for outliers."""
    ramp = ramp_in(cube)
    return cube if ramp is None else cube - ramp


def _middle(cube: Cube) -> float:
    """Median of some of the voxels; 0 where none is a number."""
    step = max(1, len(cube) // _MEDIAN_LINE)
    some = cube[::step, ::step, ::step]
    numbers = some[np.isfinite(some)]
    half = len(numbers) // 2
    return float(np.partition(numbers, half)[half]) if len(numbers) else 0.0


def _smoothed(cube: Cube) -> Cube:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(np.asarray(cube, np.float32), _BLUR_VOXELS))


def _alone(far: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the voxels far off have hardly a neighbour that is: hot ones, which smoothing would spread."""
    from scipy.ndimage import uniform_filter

    neighbours = uniform_filter(far.astype(np.float32), 3) * 27
    return np.asarray(far & (neighbours < _LEAST_TOGETHER))


def _beyond(values: Cube, limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((values < limits[0]) | (values > limits[1]))
