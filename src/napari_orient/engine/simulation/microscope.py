"""PolNet's tilt series of a volume, and the tomogram reconstructed from it by weighted back-projection.

Every line along the tilt axis is projected alike, so one sparse matrix a tilt, (x, z) -> u, serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, sparse

from napari_orient.engine.particles import FloatArray
from napari_orient.engine.simulation.placement import Volume

_RAMP_FALLOFF = 0.035
"""Cycles per pixel: the Gaussian by which the ramp falls beyond its cutoff (the default of IMOD's tilt)."""
_SPARE_PIXELS = 8
"""Pixels beyond the longest projection, for the interpolation and the shifts of the micrograph."""


@dataclass(frozen=True)
class RayGeometry:
    """Projection along tilted rays of a slab (depth × width voxels) onto a line of ``pixels`` that all rays reach.

    ``tilt_axis`` is ``y`` or ``x``; the other one is the width.
    """

    tilt_axis: str
    depth: int
    width: int
    pixels: int

    @classmethod
    def of(cls, volume: Volume, tilt_axis: str) -> RayGeometry:
        """The geometry of a volume (Z, Y, X)."""
        depth, width = volume.shape[0], volume.shape[2 if tilt_axis == "y" else 1]
        return cls(tilt_axis, depth, width, int(np.ceil(np.hypot(depth, width))) + _SPARE_PIXELS)

    def lines(self, volume: Volume) -> Volume:
        """The volume as (depth · width, lines along the tilt axis)."""
        across = volume.transpose(0, 2, 1) if self.tilt_axis == "y" else volume
        return np.ascontiguousarray(across).reshape(self.depth * self.width, -1)

    def volume(self, lines: Volume) -> Volume:
        """The inverse of `lines`."""
        across = lines.reshape(self.depth, self.width, -1)
        return np.ascontiguousarray(across.transpose(0, 2, 1) if self.tilt_axis == "y" else across)

    def rays(self, angle_deg: float) -> sparse.csr_array:
        """How much of each voxel falls on each pixel at this tilt, (pixels, depth · width), by linear interpolation."""
        angle = np.radians(angle_deg)
        across = (np.arange(self.width) - (self.width - 1) / 2) * np.cos(angle)
        along = (np.arange(self.depth) - (self.depth - 1) / 2) * np.sin(angle)
        pixel = (along[:, None] + across).ravel() + (self.pixels - 1) / 2
        lower = np.floor(pixel).astype(np.int32)
        upper_part = (pixel - lower).astype(np.float32)
        voxels = np.arange(len(pixel), dtype=np.int32)
        rows, columns = np.concatenate([lower, lower + 1]), np.concatenate([voxels, voxels])
        weights = np.concatenate([1 - upper_part, upper_part])
        return sparse.csr_array((weights, (rows, columns)), shape=(self.pixels, len(pixel)))


def tilt_angles(highest: float, step: float, *, lowest: float | None = None) -> FloatArray:
    """Tilts in degrees from the lowest (``−highest`` by default) on, by ``step``, none beyond ``highest``."""
    first = -highest if lowest is None else lowest
    count = int(np.floor((highest - first) / step + 1e-6)) + 1
    return first + step * np.arange(count)


def random_shifts(angles_deg: FloatArray, *, low: float, high: float, rng: np.random.Generator) -> FloatArray:
    """Misalignment of each micrograph, (tilts, 2) pixels across and along the tilt axis.

    It is normal about zero, ``low`` long (root mean square) at no tilt and ``high`` at the highest, growing with the
    sine of the tilt. What would only move the whole tomogram is taken out, so that particles are where the truth says.
    """
    angles = np.radians(angles_deg)
    length = shift_lengths(angles_deg, low=low, high=high)
    across, along = length * rng.standard_normal((2, len(angles))) / np.sqrt(2)
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    across = across - moves @ np.linalg.lstsq(moves, across, rcond=1e-3)[0]
    return np.stack([across, along - along.mean()], axis=1)


def shift_lengths(angles_deg: FloatArray, *, low: float, high: float) -> FloatArray:
    """Root mean square length of each micrograph's shift, (tilts,) pixels; see `random_shifts`."""
    sine = np.abs(np.sin(np.radians(angles_deg)))
    return np.asarray(low + (high - low) * sine / max(float(sine.max()), 1e-6))


def micrograph(
    projection: Volume, *, shift: FloatArray, snr: float, rng: np.random.Generator, noise: float = 1.0
) -> Volume:
    """A projection (pixels, lines) as the detector gives it: shifted, noisy and inverted (particles dark).

    The noise's standard deviation is ``noise`` times the mean of the foreground over ``snr``. The foreground is every
    pixel above 0, as PolNet counts it: half of the shift's ringing counts too, which makes the noise two thirds of what
    it would be.
    """
    image: Volume = ndimage.shift(projection, shift, order=3)
    foreground = image[image > 0]
    mean = foreground.mean() if len(foreground) else np.float32(1)
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise * mean / snr)
    return -(image + grain)


def weighted(image: Volume, *, step_deg: float, cutoff: float) -> Volume:
    """A micrograph (pixels, lines) weighted by the ramp, so that the back-projections add up to the density.

    The ramp rises to ``cutoff`` (cycles per pixel), and falls beyond.
    """
    pixels = image.shape[0]
    padded = fft.next_fast_len(2 * pixels, real=True)
    weight = ramp(fft.rfftfreq(padded), cutoff=cutoff) * np.radians(step_deg)
    spectrum = fft.rfft(image - image.mean(), n=padded, axis=0)
    spectrum *= weight[:, None].astype(np.float32)
    return np.asarray(fft.irfft(spectrum, n=padded, axis=0)[:pixels], np.float32)


def ramp(frequency: FloatArray, *, cutoff: float) -> FloatArray:
    """The weight of frequencies (cycles per pixel): themselves up to the cutoff, a Gaussian fall beyond."""
    beyond = np.maximum(frequency - cutoff, 0)
    return np.asarray(np.minimum(frequency, cutoff) * np.exp(-((beyond / _RAMP_FALLOFF) ** 2) / 2))
