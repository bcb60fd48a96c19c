"""Noise of the forward model: power spectrum at every Fourier coefficient, estimated from patches, and its simulation.

The noise is stationary and Gaussian, coloured by the spectrum σ²(k). Whitening divides a patch's coefficients by σ
(`forward.ForwardModel.whitening`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.grid import frequencies, offsets, soft_ball
from napari_orient.engine.model.wedge import Wedge

if TYPE_CHECKING:
    from napari_orient.engine.model.forward import ForwardModel


_BATCH = 16
"""Patches transformed together; memory and speed only. 68 patches of 46 voxels take 63 ms, 79 in batches of 64."""
_FIRST_LEAKY_SHELL = 5
"""Coefficients from the origin from which a shell may be empty; nearer, every window leaks."""
_MOST_LEAKAGE = 1.0
"""Power that would leak from below half a shell's frequency, over the power there, from which the shell is empty.
Tomograms as reconstructed reach 0.25, after total variation, mild or strong, 0.6 and 1.9."""
_FLOOR = 0.05
"""Least ratio of the smoothed spectrum to its radial mean, so that no coefficient counts as free of noise. Chosen."""


def window(side: int, voxel_size: float, radius: float) -> Tensor:
    """Weights of a patch's voxels, (n, n, n): 1 over the particle, soft to 0 beyond it, to exclude neighbours."""
    reach = (side / 2 - 1) * voxel_size
    radius = min(radius + voxel_size, reach - 2 * voxel_size)
    edge = min(max(4 * voxel_size, 0.25 * radius), reach - radius)
    return soft_ball(offsets(side, voxel_size).norm(dim=-1), radius, edge)


def not_flat(patches: Tensor, name: str) -> Tensor:
    """Mask (N,) of the patches that are not flat; flat ones lie where a tomogram was padded or masked.

    Raises
    ------
    InputError
        If all are flat; ``name`` is the tomogram's.
    """
    kept: Tensor = patches.flatten(1).amax(1) > 0
    if not kept.any():
        raise InputError(
            f"{name} is flat round every particle; expected a tomogram with noise. Was it masked there, or not "
            "written to its end?"
        )
    return kept


def without_flat_patches(patches: Tensor, name: str) -> Tensor:
    """The patches that are not flat; see `not_flat`."""
    return patches[not_flat(patches, name)]


def mean_power(patches: Tensor, weight: Tensor) -> Tensor:
    """Mean power of windowed patches a voxel, (n, n, n) [kz, ky, kx]: white noise of variance v gives v everywhere.

    The patches may be on any device; the answer is on the CPU.
    """
    weight, side = weight.to(patches.device), patches.shape[-1]
    half = weight.new_zeros(side, side, side // 2 + 1)
    for part in patches.split(_BATCH):
        half += torch.view_as_real(torch.fft.rfftn(part * weight, dim=(-3, -2, -1))).square().sum((0, -1))
    # The other half by Friedel's symmetry: the power at -k is that at k.
    other = half[..., 1 : (side + 1) // 2].flip((0, 1, 2)).roll((1, 1), (0, 1))
    return (torch.cat([half, other], dim=2) / (max(len(patches), 1) * weight.square().sum())).cpu()


def finest_filled(power: Tensor, weight: Tensor, voxel_size: float, *, shells: int) -> float:
    """Finest detail in Å that a power spectrum holds; 0 where it is filled to its end.

    A window spreads power from strong coefficients to weak ones. Where a tomogram was smoothed, what is left at high
    frequency is such leakage alone, and shows no missing wedge.

    Parameters
    ----------
    power : (n, n, n) of patches, as `mean_power` gives it.
    weight : (n, n, n) the window that they were multiplied by.
    shells : that are considered.
    """
    side = power.shape[-1]
    radius = frequencies(side, 1 / side).norm(dim=-1)
    spread = torch.fft.fftn(weight).abs().square()
    spread = torch.fft.fftn(spread / spread.sum())
    for shell in range(_FIRST_LEAKY_SHELL, min(shells + 1, side // 2)):
        low = torch.where(radius < shell / 2, power, 0.0)
        leaked = torch.fft.ifftn(torch.fft.fftn(low) * spread).real
        here = radius.round() == shell
        if float(leaked[here].sum()) > _MOST_LEAKAGE * float(power[here].sum()):
            return side * voxel_size / (shell - 0.5)
    return 0.0


def smooth_spectrum(power: Tensor, wedge: Wedge, voxel_size: float) -> Tensor:
    """A power spectrum smoothed, never across the edge of the missing wedge, (n, n, n).

    The spectrum is averaged over its mirrors (all three for a wedge that is the same on both sides of the beam, else
    Friedel's and the tilt axis'), divided by its radial mean, blurred by one coefficient, and multiplied again.
    """
    side = power.shape[-1]
    grid = frequencies(side, voxel_size)
    measured = (wedge.weights(grid, 1 / (side * voxel_size)) > 0.5).numpy()
    values = mirrored(power.numpy().astype(np.float64), wedge)
    radius = grid.norm(dim=-1).numpy() * side * voxel_size
    radial = radial_level(values, radius, measured)
    ratio = np.where(measured, values / radial, 0.0)
    blurred = _blur(ratio) / np.maximum(_blur(measured.astype(float)), 1e-6)
    smooth = np.where(measured, np.maximum(blurred, _FLOOR), 1.0) * radial
    return torch.as_tensor(smooth, dtype=torch.float32)


def mirrored(power: NDArray[np.float64], wedge: Wedge) -> NDArray[np.float64]:
    """A spectrum averaged over the mirrors that the wedge allows, and Friedel's."""

    def flip(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
        return np.roll(np.flip(values, axes), 1, axes)

    power = (power + flip(power, (0, 1, 2))) / 2
    for axis in wedge.mirrors:
        power = (power + flip(power, (axis,))) / 2
    return power


def radial_level(
    values: NDArray[np.float64], radius: NDArray[np.floating], chosen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Radial mean of the chosen values, in shells one coefficient wide, interpolated linearly in the logarithm.

    ``radius`` counts coefficients from the origin; values must not be negative.
    """
    shell = np.rint(radius[chosen]).astype(int)
    counts = np.bincount(shell)
    sums = np.bincount(shell, values[chosen])
    filled = np.flatnonzero((counts > 0) & (sums > 0))
    middle = np.bincount(shell, radius[chosen])[filled] / counts[filled]
    level: NDArray[np.float64] = np.exp(np.interp(radius, middle, np.log(sums[filled] / counts[filled])))
    return level


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    blurred: NDArray[np.float64] = gaussian_filter(values, 1.0, mode="wrap")
    return blurred


def simulate_noise_patches(model: ForwardModel, side: int, *, count: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise with the model's power spectrum, (N, side, side, side), on the CPU.

    Coefficients that the model does not hold, within the missing wedge or beyond its resolution, are 0.
    """
    from scipy.ndimage import map_coordinates

    model = model.to("cpu")
    deviation = model.window.new_zeros((model.box,) * 3)
    x, y, z = model.indices.T
    for sign in (1, -1):
        deviation[sign * z, sign * y, sign * x] = 1 / model.whitening.abs() * (2 / model.box**3) ** 0.5
    # The noise of a patch, whose spectrum is finer than the model's.
    places = np.fft.fftfreq(side, 1 / model.box)
    grid = np.stack(np.meshgrid(places, places, places, indexing="ij"))
    fine = torch.as_tensor(map_coordinates(deviation.numpy(), grid, order=1, mode="grid-wrap"), dtype=torch.float32)
    # One by one: the spectra of many at once would fill the memory.
    noise = torch.randn(count, side, side, side, generator=generator)
    for patch in noise:
        patch.copy_(torch.fft.ifftn(torch.fft.fftn(patch) * fine).real)
    return noise
