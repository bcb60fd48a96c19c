"""Prewhitening: the power of a tomogram levelled before patches are windowed, where it falls steeply.

A window leaks: of what it cuts, the strong power at low frequencies spreads over all others (Blackman & Tukey 1958, The
Measurement of Power Spectra). A patch that is whitened afterwards shows, at each frequency where the tomogram has less
power than that, what particle and neighbours have at low ones. Reconstructions as they come have noise enough at high
frequencies; what was smoothed or denoised has 10² to 10⁴ times less. The remedy is as old: a filter of short reach
levels the power first, so that the window has little left to leak,

    g(k) = P(|k|)^(-1/2),

with P the power at a frequency, the median over the picks, smoothed. It need not be exact, for patches are whitened by
their own power afterwards; and where power does not fall so steeply nothing is filtered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.volumes.on_demand import ChangedDensity
from napari_orient.engine.particles import Density, FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.ramps import ramp_in

Volume = NDArray[np.float32]

_PICKS = 32
"""Picks, at most, about which the power is measured: of so many its median is known to a tenth; chosen."""
_CUBE = 1.6
"""Side of the cubes that power is measured in, over that of patches (400 Å for ribosomes); the window over them leaks
10⁻⁷ of the power. Chosen."""
_LOWEST = 1.5
"""Frequency below which the filter is constant, in steps of a patch's spectrum; whitening leaves out what is lower."""
_SMOOTHED = 2.5
"""Standard deviation, in steps of a patch's spectrum, of the Gaussian that the logarithm of the power is smoothed by;
the filter reaches as far as the reciprocal of that, 160 Å. Chosen."""
_FINEST = 30.0
"""Å, finest detail up to which that fall is measured: Warp's deconvolution has a low-pass of its own beyond."""
_LEAST_RANGE = 300.0
"""Largest over least power, from 270 to 30 Å, from which it is levelled. In simulated reconstructions it is 2 to 110,
after Warp's deconvolution 300 to 500, a median or bilateral filter 1000, non-local means 200 to 4000, strong total
variation 10⁵, a Gaussian of 2 voxels 5·10⁷; up to 500 levelling changes the network's poses by 0.1°."""
_MOST_RANGE = 1e10
"""The same, at the most: beyond are rounding errors of single precision."""
_MARGIN = 0.3
"""Beside a part that is read, what is filtered with it, over the side of patches (120 Å). Chosen."""
_PASSED = 1.1
"""Of the highest frequency that is used, up to which the power is levelled."""
_STOPPED = 1.4
"""The same from which nothing is left; between, the filter falls as a cosine does, so that it reaches no farther."""


def levelled(tomogram: Tomogram, positions: FloatArray, *, box: float, resolution: float) -> Tomogram:
    """The tomogram, filtered so that its power is level, as it is read; as it is, where it does not fall steeply.

    One that is levelled stays as it is. Parameters are those of `estimate_prewhitening`.
    """
    if isinstance(tomogram.density, LevelledDensity):
        return tomogram
    found = estimate_prewhitening(tomogram, positions, box=box, resolution=resolution)
    return tomogram if found is None else found.applied_to(tomogram)


def before_levelling(tomogram: Tomogram) -> Tomogram:
    """The tomogram that one was levelled from; itself where it is as it was."""
    density = tomogram.density
    return replace(tomogram, density=density.density) if isinstance(density, LevelledDensity) else tomogram


def smooth_words(names: Sequence[str]) -> str:
    """What is said of the smooth tomograms of some names where their particles are averaged."""
    return (
        f"{', '.join(names)}: smooth. Power is levelled before particles are cut, so that the fine detail of their "
        "average is as strong as in a sharpened map."
    )


def estimate_prewhitening(
    tomogram: Tomogram, positions: FloatArray, *, box: float, resolution: float
) -> Prewhitening | None:
    """The filter that levels a tomogram's power; None where it does not fall steeply.

    Parameters
    ----------
    positions : (N, 3) xyz in Å of picks, about which the power is measured.
    box : Å, side of patches.
    resolution : Å, the finest detail that is used.
    """
    found = _power(tomogram, positions, box=box)
    if found is None:
        return None
    frequencies, log_power = found
    used = (frequencies >= _LOWEST / box) & (frequencies <= 1 / max(resolution, _FINEST))
    if np.ptp(log_power[used]) < np.log(_LEAST_RANGE):
        return None
    stop = _STOPPED / resolution
    band = np.linspace(0, stop, len(frequencies))
    log_gain = -0.5 * np.interp(np.clip(band, _LOWEST / box, _PASSED / resolution), frequencies, log_power)
    passed = 0.5 + 0.5 * np.cos(np.pi * np.clip((band * resolution - _PASSED) / (_STOPPED - _PASSED), 0, 1))
    with np.errstate(divide="ignore"):
        log_gain += np.log(passed)
    return Prewhitening(band, log_gain, _MARGIN * box)


@dataclass(frozen=True, eq=False)
class Prewhitening:
    """The filter that levels a tomogram's power.

    Parameters
    ----------
    frequencies, log_gain : (K,) cycles per Å, and the logarithm of the filter there; beyond, nothing passes.
    margin : Å beside a part of the tomogram that are filtered with it.
    """

    frequencies: FloatArray
    log_gain: FloatArray
    margin: float

    def range_over(self, other: Prewhitening) -> float:
        """Range of the logarithm of this filter over another one of the same frequencies, where both pass all."""
        passed = self.frequencies <= _PASSED / _STOPPED * self.frequencies[-1]
        return float(np.ptp(self.log_gain[passed] - other.log_gain[passed]))

    def applied_to(self, tomogram: Tomogram, *, repair: Callable[[Volume], Volume] | None = None) -> Tomogram:
        """The tomogram, filtered as it is read.

        Parameters
        ----------
        repair : what is done to each part before it is filtered.
        """
        size = tomogram.voxel_size
        return replace(
            tomogram,
            density=LevelledDensity(
                tomogram.density, self.frequencies * size, self.log_gain, round(self.margin / size), repair
            ),
        )


@dataclass(frozen=True, eq=False)
class LevelledDensity(ChangedDensity):
    """A volume (Z, Y, X) filtered so that its power is level; parts of it are filtered as they are read.

    Parameters
    ----------
    frequencies, log_gain : (K,) cycles per voxel, and the logarithm of the filter there; beyond, nothing passes.
    margin : voxels beside a part that are filtered with it.
    repair : what is done to each part before it is filtered; None is nothing.
    """

    frequencies: FloatArray
    log_gain: FloatArray
    margin: int
    repair: Callable[[Volume], Volume] | None = None

    def _change(self, block: Volume, corner: NDArray[np.int_]) -> None:
        from scipy.fft import irfftn, next_fast_len, rfftn

        sides = np.array(block.shape) + 2 * self.margin
        wide = _reflected(self.density, corner - self.margin, sides, repair=self.repair)
        wide *= _window([_rise(side, self.margin) for side in wide.shape])
        shape = [next_fast_len(side, real=True) for side in wide.shape]
        gain = np.exp(np.interp(_radius(shape), self.frequencies, self.log_gain, right=-np.inf))
        found = irfftn(rfftn(wide, s=shape) * gain.astype(np.float32), s=shape)
        block[...] = found[tuple(slice(self.margin, self.margin + side) for side in block.shape)]


def _power(tomogram: Tomogram, positions: FloatArray, *, box: float) -> tuple[FloatArray, FloatArray] | None:
    """Frequencies (K,) in cycles per Å, and the logarithm of the median power (K,) about picks, smoothed.

    None where the tomogram is flat about most of them.
    """
    from scipy.fft import rfftn
    from scipy.ndimage import gaussian_filter1d

    size, side = tomogram.voxel_size, 2 * round(_CUBE * box / 2 / tomogram.voxel_size)
    some = positions[evenly_spaced_rows(len(positions), _PICKS)]
    corners = np.rint(some[:, ::-1] / size).astype(int) - side // 2
    window = _window([np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2] * 3)
    shell = np.rint(_radius([side] * 3) * side).astype(int).ravel()
    count, each = np.bincount(shell)[: side // 2], []
    for corner in corners:
        spectrum = rfftn(_reflected(tomogram.density, corner, np.full(3, side)) * window)
        each.append(np.bincount(shell, np.square(np.abs(spectrum)).ravel())[: side // 2] / count)
    power = np.median(each, axis=0)
    if power.max() <= 0:
        return None
    log_power = np.log(np.maximum(power, power.max() / _MOST_RANGE))
    lowest = round(_LOWEST * _CUBE)
    log_power[:lowest] = log_power[lowest]
    frequencies = np.arange(side // 2) / (side * size)
    return frequencies, gaussian_filter1d(log_power, _SMOOTHED * _CUBE, mode="nearest")


def _reflected(
    density: Density,
    corner: NDArray[np.int_],
    shape: NDArray[np.int_],
    *,
    repair: Callable[[Volume], Volume] | None = None,
) -> Volume:
    """Voxels (z, y, x) of a volume from a corner on, about a mean of 0, without a ramp; beyond its faces mirror images.

    Values that are no numbers are 0, but where they are repaired.
    """
    low = corner.clip(0, np.array(density.shape) - 1)
    high = (corner + shape).clip(low + 1, density.shape)
    block = np.array(density[tuple(map(slice, low, high))], np.float32)
    ramp = ramp_in(block)
    block -= 0 if ramp is None else ramp
    block = block if repair is None else repair(block)
    finite = np.isfinite(block)
    block -= block[finite].mean(dtype=np.float64) if finite.any() else 0
    block[~finite] = 0
    # Outside altogether, the voxels of the nearest face.
    before = np.minimum(np.maximum(low - corner, 0), shape - (high - low))
    return np.pad(block, list(zip(before, shape - (high - low) - before, strict=True)), mode="symmetric")


def _radius(shape: list[int]) -> FloatArray:
    """Lengths (z, y, x // 2 + 1) of the frequencies of a half-spectrum, in cycles per voxel."""
    z, y = (np.fft.fftfreq(side) for side in shape[:2])
    radius: FloatArray = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + np.fft.rfftfreq(shape[2]) ** 2)
    return radius


def _rise(side: int, margin: int) -> FloatArray:
    """A line (n,) that rises from 0 to 1 over a margin at each end, as a squared sine does."""
    place = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    rise: FloatArray = np.sin(0.5 * np.pi * np.minimum(place / margin, 1)) ** 2
    return rise


def _window(lines: list[FloatArray]) -> Volume:
    """The product (z, y, x) of a line along each axis."""
    z, y, x = (np.asarray(line, np.float32) for line in lines)
    return z[:, None, None] * y[:, None] * x
