"""What is done to a reconstructed tomogram: Warp's deconvolution, then ramps, denoising, local normalisation, contrast,
mirror and whole numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from napari_orient.engine.model.tilt_series import Optics, contrast_transfer
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.simulation.placement import Volume
from napari_orient.engine.simulation_options import PostprocessingOptions

_EIGHT_BIT = 127
"""Largest whole number of eight bits with a sign."""
_EIGHT_BIT_RANGE = 5.0
"""Standard deviations that whole numbers reach to where nothing is cut off nearer."""
_DECONVOLUTION_FALLOFF = 1.1
"""Warp's fall-off of the signal-to-noise ratio: exp(-100 · falloff · share of Nyquist / voxel size in Å) (Tegunov &
Cramer 2019, Nature Methods 16:1146; tom_deconv)."""
_DECONVOLUTION_STRENGTH = 1.0
"""Warp's strength: the ratio is 10^(3 · strength) at the lowest frequencies; its default."""
_DECONVOLUTION_HIGHPASS = 0.02
"""Share of Nyquist below which Warp's filter damps; its default."""
_MIRROR = np.diag([1.0, 1.0, -1.0])


def deconvolved(density: Volume, voxel_size: float, *, defocus_um: float, optics: Optics) -> Volume:
    """A tomogram filtered by Warp's deconvolution, a Wiener filter for one defocus and an assumed fall-off."""
    z, y = (fft.fftfreq(n, voxel_size) for n in density.shape[:2])
    x = fft.rfftfreq(density.shape[2], voxel_size)
    frequency = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    spectrum = fft.rfftn(density)
    spectrum *= _deconvolution(frequency, voxel_size, defocus_um=defocus_um, optics=optics).astype(np.float32)
    return np.asarray(fft.irfftn(spectrum, s=density.shape), np.float32)


def _deconvolution(frequency: FloatArray, voxel_size: float, *, defocus_um: float, optics: Optics) -> FloatArray:
    share = np.minimum(2 * voxel_size * frequency, 1.0)
    damped = 1 - np.cos(np.pi * np.minimum(share / _DECONVOLUTION_HIGHPASS, 1.0))
    ratio = np.exp(-100 * _DECONVOLUTION_FALLOFF * share / voxel_size)
    ratio = ratio * 10 ** (3 * _DECONVOLUTION_STRENGTH) * damped
    plane = np.stack([frequency, np.zeros_like(frequency)], axis=-1)
    transfer = contrast_transfer(plane, np.array([defocus_um, defocus_um]), optics=optics)
    return np.asarray(transfer * ratio / (transfer**2 * ratio + 1))


def postprocess(tomogram: Tomogram, particles: Particles, options: PostprocessingOptions) -> tuple[Tomogram, Particles]:
    """The tomogram and its truth, processed in the order of the options; what is the default is left as it is."""
    density = np.asarray(tomogram.density)
    density = _ramped(density, options)
    density = _denoised(density, options)
    if options.local_normalisation is not None:
        density = _normalised(density, options.local_normalisation)
    if options.contrast == "bright":
        density = -density
    if options.mirror:
        density = np.ascontiguousarray(density[::-1])
        particles = _mirrored(particles, (len(density) - 1) * tomogram.voxel_size)
    return replace(tomogram, density=_in_range(density, options)), particles


def _ramped(density: Volume, options: PostprocessingOptions) -> Volume:
    share = np.linspace(0, 1, density.shape[2], dtype=np.float32)
    if options.multiplied_ramp != 1:
        density = density * (1 + (np.float32(options.multiplied_ramp) - 1) * share)
    if options.added_ramp != 0:
        density = density + np.float32(options.added_ramp * density.std()) * (share - np.float32(0.5))
    return density


def _denoised(density: Volume, options: PostprocessingOptions) -> Volume:
    strength = options.denoising_strength
    if options.denoising == "gaussian":
        return np.asarray(ndimage.gaussian_filter(density, strength))
    if options.denoising == "median":
        return np.asarray(ndimage.median_filter(density, size=2 * max(1, round(strength)) + 1))
    if options.denoising == "tv":
        # Slow to import.
        from skimage.restoration import denoise_tv_chambolle

        return np.asarray(denoise_tv_chambolle(density, weight=strength * float(density.std())), np.float32)
    return density


def _normalised(density: Volume, width: int) -> Volume:
    mean = ndimage.uniform_filter(density, width)
    power = ndimage.uniform_filter(np.square(density - mean), width)
    return np.asarray((density - mean) / np.sqrt(np.maximum(power, 1e-6 * power.max())))


def _mirrored(particles: Particles, height: float) -> Particles:
    """Particles of a tomogram mirrored along z; the poses are those of the template mirrored along its own z."""
    positions = particles.positions * [1, 1, -1] + np.array([0, 0, height])
    rotations: FloatArray = _MIRROR @ particles.required_rotations() @ _MIRROR
    return particles.replace(positions=positions, rotations=rotations)


def _in_range(density: Volume, options: PostprocessingOptions) -> NDArray[Any]:
    if options.clip is None and not options.eight_bit:
        return density
    mean, deviation = density.mean(), density.std()
    reach = (options.clip or _EIGHT_BIT_RANGE) * deviation
    clipped = np.clip(density - mean, -reach, reach)
    if options.eight_bit:
        return np.asarray(np.rint(clipped * (_EIGHT_BIT / reach)).astype(np.int8))
    return np.asarray(clipped + mean)
