"""Transfer of the forward model: what the microscope and the reconstruction make of each coefficient of the signal.

A reconstruction adds up tilt images, each on its plane of Fourier space, with a filter h; image t there is
CTF_t D_t S + n, with D the damping by dose. With shares w_t(k) of the images whose planes pass by k::

    CTF not corrected       h = 1           G = Σ w CTF D
    phases flipped          h = sign(CTF)   G = Σ w |CTF| D
    premultiplied           h = CTF         G = Σ w CTF² D        noise power = Σ w CTF² N
    divided (Wiener)        h = CTF / ΣCTF² G = 1                 noise power = N / Σ w CTF²
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.model.tilt_series import TiltSeries, contrast_transfer
from napari_orient.engine.rotations import FloatArray

_WORDS = {
    "none": "not corrected",
    "flipped": "phases flipped",
    "premultiplied": "premultiplied",
    "wiener": "corrected",
}
PLANE_THICKNESS = 0.5
"""Fourier coefficients, standard deviation of a tilt image's plane: chosen, about that of the patch's window."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """A hypothesis on how the signal was transferred: the shape of the gain, up to a smooth factor.

    Parameters
    ----------
    correction : "none", "flipped", "premultiplied" or "wiener".
    series : the tilt series, with defocus and dose as far as these are known; None where not even the tilts are.
    rise_only : whether the CTF is taken up to its first maximum alone and 1 beyond, as where its defocus is a guess: a
        sign that is wrong costs more than one that is missing.
    noise_exponent : the gain is in proportion to this power of the noise power, where it is not 0. The signal of
        a premultiplied reconstruction that is a plain sum over images has 1, of a corrected one 0.
    """

    correction: str = "wiener"
    series: TiltSeries | None = None
    rise_only: bool = False
    noise_exponent: float = 0.0

    @property
    def radial(self) -> bool:
        """Whether the shape depends on the length of the frequency alone: one defocus for all images, and no dose."""
        series = self.series
        if series is None or not series.has_transfer:
            return True
        if series.dose is not None or series.astigmatism_deg is not None or series.defocus_um is None:
            return False
        return bool(np.ptp(series.defocus_um) == 0)

    @property
    def words(self) -> str:
        """The hypothesis in words, with the mean defocus where there is one."""
        words = _WORDS[self.correction]
        if self.series is None or self.series.defocus_um is None:
            return words
        about = "about " if self.rise_only else ""
        return f"{words}, defocus {about}{self.series.defocus_um.mean():.1f} µm"

    def shape(self, frequency: Tensor, noise: Tensor, spacing: float) -> Tensor:
        """Shape of the gain at each coefficient, (...), of either sign; its largest values are about 1.

        Parameters
        ----------
        frequency : (..., 3) xyz in cycles/Å.
        noise : (...) power of the noise.
        spacing : distance between neighbouring coefficients, cycles/Å.
        """
        if self.noise_exponent:
            return (noise / noise.max()) ** self.noise_exponent
        if self.series is None or not self.series.has_transfer:
            return torch.ones_like(noise)
        place = frequency.reshape(-1, 3).cpu().double().numpy()
        if self.rise_only:
            found = rise_of_transfer(self.series, np.linalg.norm(place, axis=1), self.correction)
            return torch.as_tensor(found, dtype=noise.dtype, device=noise.device).reshape(noise.shape)
        found = series_transfer(self.series, place, spacing, self.correction)
        return torch.as_tensor(found, dtype=noise.dtype, device=noise.device).reshape(noise.shape)


def series_transfer(series: TiltSeries, frequency: FloatArray, spacing: float, correction: str) -> FloatArray:
    """Mean transfer (M,) of the tilt images whose planes pass by frequencies (M, 3), cycles/Å.

    Parameters
    ----------
    spacing : distance between neighbouring coefficients of the patch, cycles/Å.
    correction : of each image.
    """
    exponent = -0.5 * _distance(series, frequency, spacing) ** 2
    share = np.exp(exponent - exponent.max(axis=0))
    share /= share.sum(axis=0)
    in_plane = np.einsum("tcd,md->tmc", series.axes[:, :2], frequency)
    transfer = series.dose_damping(np.linalg.norm(in_plane, axis=-1))
    if correction != "wiener":
        contrast = series.contrast_transfer(in_plane)
        power = {"none": contrast, "flipped": np.abs(contrast), "premultiplied": contrast**2}
        transfer = transfer * power[correction]
    return np.asarray((share * transfer).sum(0))


def rise_of_transfer(series: TiltSeries, length: FloatArray, correction: str) -> FloatArray:
    """The CTF of the mean defocus, or its square, up to its first maximum, and 1 beyond, at lengths (M,), cycles/Å."""
    defocus, optics = series.mean_defocus_um, series.optics
    in_image = np.stack([length, np.zeros_like(length)], axis=-1)
    contrast = contrast_transfer(in_image, np.array([defocus, defocus]), optics=optics)
    quarter = 0.5 - np.arcsin(optics.amplitude_contrast) / np.pi - optics.phase_shift_deg / 180
    first = np.sqrt(max(quarter, 0) / (optics.wavelength * 1e4 * defocus)) if defocus > 0 else 0.0
    power = contrast**2 if correction == "premultiplied" else np.abs(contrast)
    return np.asarray(np.where(length < first, power, 1.0))


def _distance(series: TiltSeries, frequency: FloatArray, spacing: float) -> FloatArray:
    """Distance of frequencies (M, 3) from the plane of each image, (T, M), in its thickness."""
    return np.asarray(series.axes[:, 2] @ frequency.T / (spacing * PLANE_THICKNESS))
