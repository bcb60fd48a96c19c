"""Tilt images of a specimen: contrast transfer, dose, misalignment, noise, and the correction of the transfer.

The detector's noise is white and the same in all images, for the exposure is: it depends on the pixel's area alone,
not on what is in the specimen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.model.tilt_series import Optics, TiltSeries
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.simulation import microscope
from napari_orient.engine.simulation.projection import Detector, Specimen
from napari_orient.engine.simulation_options import SimulationOptions

_NOISE = 32.0
"""Deviation of a pixel of 10 Å, in a template's peak density times Å: what PolNet's recipe gives at its mean SNR of 1.5
for 70 ribosomes and 30 proteasomes in 220 × 220 × 80 voxels of 10 Å."""
_NOISE_PIXEL = 10.0
"""Å; see `_NOISE`."""
_MARGIN = 100.0
"""Å beyond the specimen on every side of an image, besides how far the transfer spreads a point."""


def tilt_series(options: SimulationOptions, rng: np.random.Generator) -> TiltSeries:
    """The true tilt series that these options describe, images in order of their tilts.

    Only missing tilts and the differences of the images' defocus are random.
    """
    given = options.microscope
    angles = microscope.tilt_angles(options.tilt_range, options.tilt_step, lowest=given.lowest_tilt)
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
        transfer = _transfer(self.assumed, index, frequency, 0.0)
        if given.ctf_correction == "flipped":
            return torch.where(transfer < 0, -1.0, 1.0)
        if given.ctf_correction == "premultiplied":
            return transfer
        return transfer / (transfer**2 + given.wiener_constant)


def exposure(
    options: SimulationOptions, series: TiltSeries, *, shifts: np.random.Generator, errors: np.random.Generator
) -> Exposure:
    """The exposure of a specimen of the options' size, misaligned and corrected with random errors."""
    extent = np.array([options.size_x, options.size_y, options.size_z]) * options.voxel_size
    detector = Detector.covering(
        extent, series, pixel=options.voxel_size, margin=_MARGIN + _spread(series, options.voxel_size)
    )
    misalignment = microscope.random_shifts(
        series.tilt_deg, low=options.misalignment_low, high=options.misalignment_high, rng=shifts
    )
    assumed = assumed_series(series, error_um=options.microscope.defocus_error, rng=errors)
    return Exposure(series, assumed, detector, misalignment, float(extent[2]), options)


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
