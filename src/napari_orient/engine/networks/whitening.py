"""Input of the mixture network: patches windowed and whitened by the mean power spectrum that they have in common.

Whitening takes out what differs between tomograms and says nothing of the pose: the magnitude of the contrast transfer,
B-factors, dose damping, the reconstruction's weighting, the colour of the noise. What is left of them is the ratio of
signal to noise at each frequency, and the signs of the contrast transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from napari_orient.engine.model.grid import offsets, soft_ball
from napari_orient.engine.model.noise import radial_level
from napari_orient.engine.parameters import MixtureOptions

_CLIP = 6.0
"""Robust standard deviations beyond which voxels are cut: gold and hot pixels, never a particle (PolNet: below 5)."""
_STRIDE = 2
"""Every second voxel along each axis gives median and deviation: 1,700 of a patch of 40³."""
_RIM = 5
"""A fifth of the side, at every face, takes no part in them: it may lie beyond a box or the tomogram."""
_MAD = 1.4826
"""Standard deviation over median absolute deviation, of normal values."""
_EDGE = 0.15
"""Soft edge of the window over half the side of the patch; the window is 0 on the faces."""
_LOWEST = 1.5
"""Frequencies below, in steps of the patch's spectrum, are left out: the mean, and gradients of the background."""
_MISSING = 0.1
"""Power over the mean of its shell at which a coefficient counts half: less is the missing wedge. Tilt series of
M. pneumoniae have 0.03 to 0.05 there, PolNet's 0.01."""
_FEW = 8
"""Patches below which the spectrum is smoothed over more coefficients."""
_BLUR = (1.0, 1.5)
"""Standard deviation of the smoothing in steps of the spectrum: of many patches, and of few."""
_NYQUIST = 2.2
"""Voxels of the tomogram in the finest detail that is used of it."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """Whitening filter of a tomogram.

    Parameters
    ----------
    filter : (m, m, m // 2 + 1), of the low-passed half-spectrum of a patch.
    options : of the network that it is for.
    """

    filter: Tensor
    options: MixtureOptions

    def apply(self, patches: Tensor) -> Tensor:
        """Whitened half-spectra (N, m, m, m // 2 + 1) of patches (N, n, n, n): noise of variance about 1."""
        return spectra_of(patches, self.options) * self.filter.to(patches.device)


def estimate_whitening(patches: Tensor, options: MixtureOptions, *, tomogram_voxel_size: float = 0.0) -> Whitening:
    """The filter from the mean power of patches (N, n, n, n) of one tomogram.

    The power is smoothed along shells, relative to their mean, so that the missing wedge stays what it is: there is
    little power in it, and the filter does not raise it.

    Parameters
    ----------
    tomogram_voxel_size : Å; detail below 2.2 of these voxels is left out.
    """
    spectra = spectra_of(patches, options)
    return whitening_of_power(
        spectra.abs().square().mean(0).cpu(), len(patches), options, tomogram_voxel_size=tomogram_voxel_size
    )


def whitening_of_power(
    power: Tensor, count: int, options: MixtureOptions, *, tomogram_voxel_size: float = 0.0
) -> Whitening:
    """The filter from the mean power (m, m, m // 2 + 1) of so many patches; see `estimate_whitening`."""
    from scipy.ndimage import gaussian_filter

    side = options.view_side
    # The whole spectrum of a power that is the same at Friedel mates.
    whole = torch.fft.fftn(torch.fft.irfftn(power, s=(side,) * 3)).real.clamp_min(0).double().numpy()
    radius = _radius(side).numpy()
    highest = options.box / max(options.network_resolution, _NYQUIST * tomogram_voxel_size)
    band = (radius >= _LOWEST) & (radius <= highest)
    level = radial_level(whole, radius, band)
    ratio = gaussian_filter(whole / level, _BLUR[0] if count >= _FEW else _BLUR[1], mode="wrap").clip(0)
    weight = band * ratio**0.5 / ((ratio + _MISSING) * level**0.5)
    return Whitening(torch.as_tensor(weight[:, :, : side // 2 + 1], dtype=torch.float32), options)


def spectra_of(patches: Tensor, options: MixtureOptions) -> Tensor:
    """Half-spectra (N, m, m, m // 2 + 1) of patches (N, n, n, n), clipped, without gradient, windowed, low-passed.

    White noise of variance 1 has power 1 at every frequency.
    """
    side, small = options.patch_side, options.view_side
    window, places = (part.to(patches.device) for part in _window(side))
    cubes = _without_gradient(_clipped(patches.float()), window, places) * window
    power = cubes.square().sum((1, 2, 3), keepdim=True)
    cubes = cubes / power.clamp_min(1e-12).sqrt()
    spectrum: Tensor = torch.fft.rfftn(cubes, dim=(1, 2, 3))
    half = small // 2
    rows = torch.cat([torch.arange(half), torch.arange(side - half, side)]).to(patches.device)
    return spectrum[:, rows][:, :, rows][..., : half + 1]


def _clipped(patches: Tensor) -> Tensor:
    """Patches at median 0 and robust deviation 1, without outliers; a flat patch becomes 0."""
    rim = patches.shape[-1] // _RIM
    inner = slice(rim, -rim, _STRIDE)
    some = patches[:, inner, inner, inner].flatten(1)
    median = some.median(1).values[:, None]
    deviation = _MAD * (some - median).abs().median(1).values[:, None]
    scale = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), 0.0)
    shape = (-1, 1, 1, 1)
    return ((patches - median.view(shape)) * scale.view(shape)).clamp_(-_CLIP, _CLIP)


def _without_gradient(cubes: Tensor, window: Tensor, places: Tensor) -> Tensor:
    """The cubes less their mean and linear gradient under the window."""
    weighted = cubes * window
    mean = weighted.sum((1, 2, 3)) / window.sum()
    lines = [weighted.sum(axes) @ places for axes in ((1, 2), (1, 3), (2, 3))]
    norm = (window.sum((0, 1)) * places.square()).sum()
    gradient = torch.zeros_like(cubes)
    for line, shape in zip(lines, ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1)), strict=True):
        gradient += line.view(-1, 1, 1, 1) * places.view(shape) / norm
    return cubes - mean.view(-1, 1, 1, 1) - gradient


@lru_cache(maxsize=4)
def _window(side: int) -> tuple[Tensor, Tensor]:
    """A soft ball that fills a patch, (n, n, n), and the places of voxels along an axis, (n,), in voxels."""
    half, edge = side / 2, _EDGE * side / 2
    ball = soft_ball(offsets(side, 1.0).norm(dim=-1), half - 1 - edge, edge)
    return ball, torch.arange(side, dtype=torch.float32) - side // 2


@lru_cache(maxsize=4)
def _radius(side: int) -> Tensor:
    """Steps of each coefficient from the origin of a spectrum, (m, m, m)."""
    line = torch.fft.fftfreq(side, 1 / side)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    radius: Tensor = torch.stack([x, y, z]).norm(dim=0)
    return radius
