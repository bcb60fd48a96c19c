"""The simulated microscope: tilt images of a specimen, and the tomogram reconstructed from them by back-projection.

There are two. A physical one takes exact projections (`projection`) about any axis, with contrast transfer, dose,
misalignment and noise, corrects the transfer, and back-projects weighted images. Its detector's noise is white and the
same in all images, for the exposure is: it depends on the pixel's area alone, not on what is in the specimen.

PolNet's projects a volume of voxels. Every line along the tilt axis is projected alike, so one sparse matrix a tilt,
(x, z) -> u, serves them all; its noise follows from the mean of what is projected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import fft, ndimage, sparse
from torch import Tensor

from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.simulation.placement import Volume
from napari_orient.engine.simulation.projection import Detector, Specimen
from napari_orient.engine.simulation_options import SimulationOptions

_RAMP_FALLOFF = 0.035
"""Cycles per pixel: the Gaussian by which the ramp falls beyond its cutoff (the default of IMOD's tilt)."""
_NOISE = 32.0
"""Deviation of a pixel of 10 Å, in a template's peak density times Å: what PolNet's recipe gives at its mean SNR of 1.5
for 70 ribosomes and 30 proteasomes in 220 × 220 × 80 voxels of 10 Å."""
_NOISE_PIXEL = 10.0
"""Å; see `_NOISE`."""
_MARGIN = 100.0
"""Å beyond the specimen on every side of an image, besides how far the transfer spreads a point."""


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


def ramp(frequency: FloatArray, *, cutoff: float) -> FloatArray:
    """The weight of frequencies (cycles per pixel): themselves up to the cutoff, a Gaussian fall beyond."""
    beyond = np.maximum(frequency - cutoff, 0)
    return np.asarray(np.minimum(frequency, cutoff) * np.exp(-((beyond / _RAMP_FALLOFF) ** 2) / 2))


# --- physical ---------------------------------------------------------------------------------------------------------


def tilt_series(options: SimulationOptions, rng: np.random.Generator) -> TiltSeries:
    """The true tilt series that these options describe, images in order of their tilts.

    Only missing tilts and the differences of the images' defocus are random.
    """
    given = options.microscope
    angles = tilt_angles(options.tilt_range, options.tilt_step, lowest=given.lowest_tilt)
    kept = np.sort(rng.permutation(len(angles))[: max(1, len(angles) - given.missing_tilts)])
    jitter = given.defocus_jitter * rng.standard_normal(len(angles))
    order = np.argsort(np.abs(angles), kind="stable") if given.tilt_order == "symmetric" else np.arange(len(angles))
    taken = np.empty(len(angles))
    taken[order] = np.arange(len(angles))
    defocus = None
    if given.defocus is not None:
        astigmatism = np.array([0.5, -0.5]) * given.astigmatism
        defocus = np.maximum(given.defocus + jitter[kept, None], 0.0) + astigmatism
    return TiltSeries.of_angles(
        angles[kept],
        axis_deg=given.axis_angle - (90.0 if options.tilt_axis == "x" else 0.0),
        level_deg=given.level_angle,
        dose=None if given.dose is None else (taken[kept] + 0.5) * given.dose,
        defocus_um=defocus,
        astigmatism_deg=None if defocus is None else np.full(len(kept), given.astigmatism_angle),
        optics=Optics(
            voltage_kv=given.voltage,
            spherical_aberration_mm=given.spherical_aberration,
            amplitude_contrast=given.amplitude_contrast,
            phase_shift_deg=given.phase_shift,
        ),
    )


def assumed_series(series: TiltSeries, *, error_um: float, rng: np.random.Generator) -> TiltSeries:
    """The series as it is estimated: every image's defocus is off by a normal error of this deviation."""
    if series.defocus_um is None or error_um == 0:
        return series
    errors = error_um * rng.standard_normal(len(series))
    return replace(series, defocus_um=np.maximum(series.defocus_um + errors[:, None], 0.0))


@dataclass(frozen=True, eq=False)
class Exposure:
    """How the images of a series are taken and corrected.

    Parameters
    ----------
    series, assumed : the true series, and the one that the correction assumes.
    detector : pixels of the images.
    misalignment : (T, 2) pixels along the image's x and y.
    thickness : Å of the specimen.
    options : noise, and the microscope's.
    """

    series: TiltSeries
    assumed: TiltSeries
    detector: Detector
    misalignment: FloatArray
    thickness: float
    options: SimulationOptions

    def images(self, specimen: Specimen, rng: np.random.Generator) -> Iterator[Tensor]:
        """Half-spectrum of each image, (height, width // 2 + 1), corrected; particles dark."""
        frequency = self.detector.frequency()
        for index in range(len(self.series)):
            noise = rng.standard_normal(self.detector.shape, dtype=np.float32) * np.float32(self.noise_deviation)
            spectrum = self._signal(specimen, index, frequency) + torch.fft.rfft2(torch.from_numpy(noise))
            yield -spectrum * self._correction(index, frequency)

    def gain(self, index: int, frequency: Tensor, *, height: float = 0.0) -> Tensor:
        """Transfer, envelope, damage and loss of an image at frequencies (..., 2), of matter at a height in Å."""
        return _transfer(self.series, index, frequency, height) * self._contrast(index, frequency)

    @property
    def noise_deviation(self) -> float:
        """Deviation of a pixel; the noise of an area does not depend on the pixels that it is divided into."""
        pixel = self.detector.pixel
        return self.options.noise * _NOISE * _NOISE_PIXEL / pixel**2

    def _signal(self, specimen: Specimen, index: int, frequency: Tensor) -> Tensor:
        given = self.options.microscope
        total = torch.zeros(frequency.shape[:-1], dtype=torch.complex64)
        for height, image in specimen.project(
            self.series.axes[index], self.detector, by_height=given.height_defocus and given.defocus is not None
        ):
            total += torch.fft.rfft2(image) * self.gain(index, frequency, height=height)
        shift = torch.as_tensor(self.misalignment[index], dtype=torch.float32) * self.detector.pixel
        return total * torch.exp(-2j * torch.pi * (frequency @ shift))

    def _contrast(self, index: int, frequency: Tensor) -> Tensor:
        """Amplitude left by radiation damage, the envelope, and inelastic scattering relative to no tilt."""
        length = frequency.norm(dim=-1).double().numpy()
        envelope = np.exp(-self.options.microscope.b_factor * length**2 / 4)
        left = envelope * self.series.take(index).dose_damping(length.reshape(1, -1)).reshape(length.shape)
        path = self.options.microscope.mean_free_path
        if path is not None:
            # Fewer electrons leave a longer way elastically: contrast over noise falls with the root of their number.
            longer = 1 / max(float(self.series.axes[index, 2, 2]), 0.1) - 1
            left = left * np.exp(-longer * self.thickness / (2 * 10 * path))
        return torch.as_tensor(left, dtype=torch.float32)

    def _correction(self, index: int, frequency: Tensor) -> Tensor | float:
        given = self.options.microscope
        if given.ctf_correction in ("none", "deconvolved"):
            return 1.0
        transfer = _transfer(self.assumed, index, frequency, 0.0).numpy()
        factor = correction_factor(transfer, given.ctf_correction, wiener_constant=given.wiener_constant)
        return torch.from_numpy(factor)


def exposure(
    options: SimulationOptions, series: TiltSeries, *, shifts: np.random.Generator, errors: np.random.Generator
) -> Exposure:
    """The exposure of a specimen of the options' size, misaligned and corrected with random errors."""
    extent = np.array([options.size_x, options.size_y, options.size_z]) * options.voxel_size
    detector = Detector.covering(
        extent, series, pixel=options.voxel_size, margin=_MARGIN + _spread(series, options.voxel_size)
    )
    misalignment = random_shifts(
        series.tilt_deg, low=options.misalignment_low, high=options.misalignment_high, rng=shifts
    )
    assumed = assumed_series(series, error_um=options.microscope.defocus_error, rng=errors)
    return Exposure(series, assumed, detector, misalignment, float(extent[2]), options)


def correction_factor(transfer: FloatArray, correction: str, *, wiener_constant: float) -> FloatArray:
    """What a correction of the contrast transfer multiplies an image and its noise by, where the transfer is this.

    Parameters
    ----------
    correction : ``none``, ``flipped``, ``premultiplied`` or ``wiener``.
    wiener_constant : added to the squared transfer, that noise is not raised without limit.
    """
    if correction == "flipped":
        return np.where(transfer < 0, -1, 1).astype(transfer.dtype)
    if correction == "premultiplied":
        return transfer
    if correction == "wiener":
        return np.asarray(transfer / (transfer**2 + wiener_constant))
    return np.ones_like(transfer)


def _spread(series: TiltSeries, pixel: float) -> float:
    """How far the transfer carries the finest detail, Å: wavelength · defocus · frequency."""
    if series.defocus_um is None:
        return 0.0
    return series.optics.wavelength * 1e4 * float(series.defocus_um.max()) * 0.5 / pixel


def _transfer(series: TiltSeries, index: int, frequency: Tensor, height: float) -> Tensor:
    """Contrast transfer of an image for matter at a height in Å along the beam, (height, width // 2 + 1)."""
    image = series.take(index)
    if image.defocus_um is not None:
        image = replace(image, defocus_um=image.defocus_um + 1e-4 * height)
    flat = frequency.double().numpy().reshape(1, -1, 2)
    transfer = image.contrast_transfer(flat).reshape(frequency.shape[:-1])
    return torch.as_tensor(transfer, dtype=torch.float32)


_FINER = 2
"""Pixels that an image is interpolated to (exactly, by its transform) for each of its own before it is back-projected
linearly."""


class BackProjection:
    """The tomogram (Z, Y, X) that images are added to one after the other."""

    def __init__(self, size: tuple[int, int, int], detector: Detector, *, step_deg: float, cutoff: float) -> None:
        self._volume = torch.zeros(*size[::-1])
        self._detector = detector
        self._weight = torch.as_tensor(ramp(fft.rfftfreq(detector.shape[1]), cutoff=cutoff), dtype=torch.float32)
        self._weight = self._weight * float(np.radians(step_deg))
        z, y, x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self._volume.shape)
        self._heights = z
        self._plane = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)

    def add(self, spectrum: Tensor, axes: FloatArray) -> None:
        """Add an image, given by its half-spectrum and its axes (3, 3), whose y is the tilt axis."""
        image = self._finer(spectrum * self._weight)[None, None]
        rows = torch.as_tensor(axes[:2], dtype=torch.float32)
        # grid_sample counts from -1 to 1 between the centres of the first and the last pixel.
        shape = torch.tensor(self._detector.shape[::-1])
        scale = 2 * _FINER / (_FINER * shape - 1)
        plane = (self._plane @ rows[:, :2].T + shape // 2) * scale - 1
        for index, height in enumerate(self._heights):
            place = plane + height * rows[:, 2] * scale
            self._volume[index] += torch.nn.functional.grid_sample(image, place[None], align_corners=True)[0, 0]

    def _finer(self, spectrum: Tensor) -> Tensor:
        """The image interpolated to a finer grid."""
        height, width = self._detector.shape
        fine = torch.zeros(_FINER * height, _FINER * width // 2 + 1, dtype=spectrum.dtype)
        half = (height + 1) // 2
        fine[:half, : spectrum.shape[1]] = spectrum[:half]
        fine[half - height :, : spectrum.shape[1]] = spectrum[half:]
        image: Tensor = torch.fft.irfft2(fine, s=(_FINER * height, _FINER * width))
        return image * _FINER**2

    def tomogram(self) -> Volume:
        """The sum of what was added, (Z, Y, X)."""
        return self._volume.numpy()


# --- PolNet's ---------------------------------------------------------------------------------------------------------

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
