"""How far a map can be believed: Fourier shell correlation of half maps, masks, and resolution from place to place.

A tight mask raises the correlation of two half maps by itself, for the mask is the same in both. What it adds is
measured on half maps whose phases are random beyond some frequency (Chen et al., Ultramicroscopy 135, 24, 2013): with
``t`` the correlation of the masked halves and ``n`` that of the masked halves with random phases, the corrected one is
``(t - n) / (1 - n)``. RELION's ``relion_postprocess`` reports the same curve, of one draw of phases; here ``n`` is the
mean of eight, for one draw scatters by 0.1 in a tight mask.

Local resolution is that of the local Fourier shell correlation (Cardone et al., J. Struct. Biol. 184, 226, 2013). Both
half maps are filtered to a band of frequencies; about each voxel a Gaussian window weights the product of the two, over
those of each with itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.model.grid import offsets, radial_frequencies, shells, soft_ball
from napari_orient.engine.rotations import FloatArray

BALL_RADIUS = 0.4
"""Radius of a round mask in boxes, where none is given."""
_EDGE = 4
"""Width in voxels of a mask's soft edge. RELION's default is 5 (``--width_soft_edge``)."""
_MASK_RESOLUTION = 1.5
"""Low-pass of the map that a mask is drawn about, over the map's own resolution, so that noise draws no islands."""
_MASK_SIGNIFICANCE = 3.0
"""Density that counts as particle, in standard deviations of the noise in the low-passed map."""
_MASK_SHARE = 0.1
"""Least density that counts as particle, over the map's 99.9th percentile: of a map without noise the first would keep
every ripple."""
_ISLAND_SHARE = 0.05
"""Islands of fewer voxels than this share of the largest are left out of a mask."""
_RANDOMISED_FROM = 0.8
"""Correlation of the halves without a mask from which on phases are made random, as by RELION
(``--randomize_at_fsc 0.8``)."""
_SHELLS_BESIDE = 2
"""Shells after the first random one where the correction is not yet applied, as in RELION: there the mask mixes the
shells on either side."""
_DRAWS = 8
"""Draws of random phases. In a mask of 7 % of a 40³ box one scatters by 0.05 to 0.16 a shell, and RELION's by as much;
the means of 12 and of 8 of RELION 3.1.3 agree."""
_LOCAL_WINDOW = 0.75
"""Radius (standard deviation) of the window of the local correlation, in wavelengths of the finest detail of the whole
map. There the local correlation of pure noise scatters by 0.07 to 0.10 (32³ and 64³ voxels, wavelengths of 2.5 to 6):
five of these below the threshold."""
_LOCAL_THRESHOLD = 0.5
"""Local correlation at which resolution is read, as customary for local curves, which have few coefficients."""


@dataclass(frozen=True, eq=False)
class FSC:
    """Fourier shell correlation of two maps: ``frequency`` (S,) cycles/Å, ``correlation`` (S,)."""

    frequency: FloatArray
    correlation: FloatArray

    def resolution(self, threshold: float) -> float:
        """Å at which the curve first falls below the threshold; the finest shell's where it never does.

        A correlation that is no number, as of an empty map, is below. The first shell alone is no reason: detail as
        coarse as the box is what ramps of density have, and a contrast transfer leaves least of the particle.
        """
        is_below = ~(self.correlation >= threshold)
        if len(is_below) > 1 and not is_below[1]:
            is_below[0] = False
        below = np.flatnonzero(is_below)
        if len(below) == 0:
            return float(1 / self.frequency[-1])
        last = int(below[0])
        if last == 0:
            return float(1 / self.frequency[0])
        high, low = self.correlation[last - 1], self.correlation[last]
        part = (high - threshold) / (high - low)
        crossing = self.frequency[last - 1] + part * (self.frequency[last] - self.frequency[last - 1])
        return float(1 / crossing)


@dataclass(frozen=True, eq=False, kw_only=True)
class MapResolution:
    """Resolution of a map with its halves, inside a mask.

    Parameters
    ----------
    mask : (n, n, n) float32, 0 to 1.
    unmasked, masked, randomised, corrected : curves of the halves as they are, in the mask, in the mask with random
        phases (mean of several draws), and the masked one less what the mask adds.
    randomised_from : Å from which on phases were random.
    """

    mask: NDArray[np.float32]
    unmasked: FSC
    masked: FSC
    randomised: FSC
    corrected: FSC
    randomised_from: float

    def __repr__(self) -> str:
        return f"MapResolution({self.corrected.resolution(0.143):.1f} Å at corrected FSC 0.143)"

    @property
    def curves(self) -> dict[str, FSC]:
        """All curves by name, as they are written."""
        return {
            "fsc_unmasked": self.unmasked,
            "fsc_masked": self.masked,
            "fsc_randomised": self.randomised,
            "fsc_corrected": self.corrected,
        }


def map_resolution(
    first: FloatArray, second: FloatArray, mask: FloatArray, voxel_size: float, *, seed: int = 0
) -> MapResolution:
    """The resolution of half maps (n, n, n) in a mask (n, n, n), without what the mask adds.

    Parameters
    ----------
    voxel_size : Å.
    seed : of the random phases.
    """
    unmasked = fourier_shell_correlation(first, second, voxel_size)
    masked = fourier_shell_correlation(first * mask, second * mask, voxel_size)
    below = np.flatnonzero(unmasked.correlation < _RANDOMISED_FROM)
    start = int(below[0]) if len(below) else len(unmasked.correlation)
    # Where every shell agrees there is nothing beyond to be made random; the finest shell says what a mask would add.
    start = min(start, len(unmasked.frequency) - 1)
    generator = np.random.default_rng(seed)
    beyond = float(unmasked.frequency[start])
    draws = []
    for _ in range(_DRAWS):
        noise = [_with_random_phases(half, beyond, voxel_size, generator) * mask for half in (first, second)]
        draws.append(fourier_shell_correlation(noise[0], noise[1], voxel_size).correlation)
    randomised = FSC(unmasked.frequency, np.mean(draws, axis=0))
    return MapResolution(
        mask=np.asarray(mask, np.float32),
        unmasked=unmasked,
        masked=masked,
        randomised=randomised,
        corrected=_corrected(masked, randomised, start + _SHELLS_BESIDE),
        randomised_from=1 / beyond,
    )


def _corrected(masked: FSC, randomised: FSC, first_shell: int) -> FSC:
    true, added = masked.correlation, randomised.correlation
    corrected = np.where(added >= 1, 0.0, (true - added) / np.where(added >= 1, 1.0, 1 - added))
    return FSC(masked.frequency, np.where(np.arange(len(true)) < first_shell, true, corrected))


def _with_random_phases(
    density: FloatArray, beyond: float, voxel_size: float, generator: np.random.Generator
) -> FloatArray:
    """The density (n, n, n) with the phases of white noise at frequencies from ``beyond`` cycles/Å on."""
    spectrum = np.fft.fftn(density)
    noise = np.fft.fftn(generator.normal(size=density.shape))
    phase = noise / np.maximum(np.abs(noise), 1e-30)
    grid = radial_frequencies(len(density), voxel_size)
    shell = 1 / (len(density) * voxel_size)
    random: FloatArray = np.fft.ifftn(np.where(grid >= beyond - shell / 2, np.abs(spectrum) * phase, spectrum)).real
    return random


def fourier_shell_correlation(first: FloatArray, second: FloatArray, voxel_size: float) -> FSC:
    """Correlation of two maps (n, n, n) in shells one coefficient wide, up to Nyquist, without the origin."""
    side = len(first)
    one, two = np.fft.fftn(first), np.fft.fftn(second)
    shell = shells(side).ravel()
    cross, own, other = (
        np.bincount(shell, values.ravel())[1 : side // 2 + 1]
        for values in ((one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2)
    )
    frequency = np.arange(1, side // 2 + 1) / (side * voxel_size)
    return FSC(frequency, cross / np.sqrt(np.maximum(own * other, 1e-30)))


# --- masks ----------------------------------------------------------------------------------------------------------


def ball_mask(side: int, voxel_size: float, radius: float | None) -> FloatArray:
    """Soft ball about the frame's origin ``(n - 1) / 2``, (n, n, n); of 0.4 boxes where no radius (Å) is given."""
    distance = (offsets(side, voxel_size) + voxel_size / 2).norm(dim=-1)
    mask: FloatArray = soft_ball(distance, radius or BALL_RADIUS * side * voxel_size, _EDGE * voxel_size).numpy()
    return mask


def mask_about(first: FloatArray, second: FloatArray, voxel_size: float) -> FloatArray:
    """Soft mask (n, n, n), 0 to 1, about what stands out of the noise in the mean of two half maps, particle positive.

    The mean is low-passed to 1.5 times its resolution. What exceeds three standard deviations of its noise, which the
    halves' difference has, and a tenth of its peak, is kept without small islands, filled, and extended by half the
    resolution; beyond, the mask falls off over four voxels. Where nothing stands out, the mask is a ball.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    resolution = fourier_shell_correlation(first, second, voxel_size).resolution(0.143)
    mean, difference = (
        _low_passed((first + sign * second) / 2, _MASK_RESOLUTION * resolution, voxel_size) for sign in (1, -1)
    )
    least = max(_MASK_SIGNIFICANCE * float(difference.std()), _MASK_SHARE * float(np.quantile(mean, 0.999)))
    particle = _largest_islands(mean > least)
    if not particle.any():
        return ball_mask(len(first), voxel_size, None)
    distance = np.asarray(distance_transform_edt(~binary_fill_holes(particle))) - resolution / 2 / voxel_size
    mask: FloatArray = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / _EDGE, 0, 1))
    return mask


def _low_passed(density: FloatArray, resolution: float, voxel_size: float) -> FloatArray:
    """The density after a Gaussian that halves the amplitude at a resolution in Å."""
    grid = radial_frequencies(len(density), voxel_size)
    passed: FloatArray = np.fft.ifftn(np.fft.fftn(density) * 0.5 ** np.square(grid * resolution)).real
    return passed


def _largest_islands(particle: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    islands, count = label(particle)
    sizes = np.bincount(islands.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = sizes >= _ISLAND_SHARE * sizes.max()
    large[0] = False
    kept: NDArray[np.bool_] = large[islands]
    return kept


# --- resolution from place to place ---------------------------------------------------------------------------------


def local_resolution(first: FloatArray, second: FloatArray, mask: FloatArray, voxel_size: float) -> NDArray[np.float32]:
    """Å at every voxel of half maps (n, n, n), where their local correlation first falls below 0.5; 0 outside the mask.

    The window's radius (standard deviation) is 0.75 wavelengths of the finest detail of the whole map.
    """
    whole = fourier_shell_correlation(first * mask, second * mask, voxel_size)
    radius = _LOCAL_WINDOW * whole.resolution(0.143) / voxel_size
    bands = list(_local_correlations(first, second, voxel_size, radius))
    correlation = np.stack([band for _, band in bands])
    frequency = np.array([middle for middle, _ in bands])
    resolution = 1 / _first_crossing(frequency, correlation, _LOCAL_THRESHOLD)
    return np.where(mask > 0.5, resolution, 0).astype(np.float32)


def _local_correlations(
    first: FloatArray, second: FloatArray, voxel_size: float, radius: float
) -> Iterator[tuple[float, FloatArray]]:
    """Frequency (cycles/Å) and local correlation (n, n, n) of each band, two shells wide (standard deviation one)."""
    from scipy.ndimage import gaussian_filter

    side = len(first)
    one, two = np.fft.fftn(first), np.fft.fftn(second)
    shell = radial_frequencies(side, voxel_size) * side * voxel_size
    for middle in range(2, side // 2 + 1):
        band = np.exp(-np.square(shell - middle) / 2)
        a, b = (np.fft.ifftn(part * band).real for part in (one, two))
        cross, own, other = (gaussian_filter(values, radius, mode="wrap") for values in (a * b, a * a, b * b))
        yield middle / (side * voxel_size), cross / np.sqrt(np.maximum(own * other, 1e-30))


def _first_crossing(frequency: FloatArray, correlation: FloatArray, threshold: float) -> FloatArray:
    """Frequency (...) at which curves (S, ...) first fall below the threshold, interpolated; the last where never."""
    below = correlation < threshold
    never = ~below.any(axis=0)
    last = np.where(never, len(frequency) - 1, below.argmax(axis=0))
    before = np.maximum(last - 1, 0)
    high, low = (np.take_along_axis(correlation, index[None], axis=0)[0] for index in (before, last))
    part = np.clip((high - threshold) / np.maximum(high - low, 1e-12), 0, 1)
    crossing = frequency[before] + part * (frequency[last] - frequency[before])
    found: FloatArray = np.where(never, frequency[-1], crossing)
    return found
