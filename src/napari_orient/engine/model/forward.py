"""Forward model of a patch: the image of a reference, rotated and shifted, in one tomogram.

In Fourier space, for the coefficients k that the tilt series measured::

    y(k) = a · W(k) · G(k) · exp(-2πi k·t) · T(Rᵀk) + n(k)        n(k) ~ N(0, 2σ²(k))

=========  ====================================================================================
y          patch, multiplied by a soft window about the particle
T          Fourier transform of the reference map ρ (`reference.Reference`)
R, t, a    pose: rotation, shift (Å), amplitude
W          missing wedge, 0 to 1 (`wedge.Wedge`)
G          gain: transfer function of the tomogram for this reference (`gain`); complex once
           the shifts of the tilt images are estimated (`tilts`)
n          stationary coloured Gaussian noise; σ² is the variance of real and imaginary part
           (`noise`)
=========  ====================================================================================

Everything is matched after whitening: the patch becomes x = y / σ (`ForwardModel.observe`; the sign of the contrast
and the phase of G are undone there) and the reference becomes m = W |G| / σ · T (`ForwardModel.whitened_gain`), so that
the noise of x is white with variance 1 and the log-likelihood is -|x - a m|² / 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from napari_orient.engine.model.grid import half_sphere, unit_phase
from napari_orient.engine.model.noise import window
from napari_orient.engine.model.wedge import Wedge

_CACHED_VOXELS = 400_000
"""Voxels that are transformed together on a CPU: 1.6 MB, four patches of 46 voxels. Measured with 1 MB of second-level
cache a core: 180 µs a patch, 260 µs with 32 patches together."""
_MEASURED = 0.3
"""Least wedge weight (0 to 1) of a coefficient that is matched; the wedge's edge is a ramp one coefficient wide."""


@dataclass(frozen=True, eq=False)
class ForwardModel:
    """Measured Fourier coefficients of a patch, nearest the origin first, with gain and whitening filter.

    Parameters
    ----------
    indices : (M, 3) whole numbers xyz, the coefficients' places in the spectrum of a box of ``box`` voxels.
    frequency : (M, 3) xyz in cycles/Å, the same.
    whitened_gain : (M,) W |G| / σ: what the reference's transform is multiplied by.
    whitening : (M,) complex, what the patch is multiplied by: 1 / σ, with the sign of the particle's contrast and the
        phase that undoes G's.
    window : (n, n, n) weights of the voxels observed, about the particle's centre; n may be more than ``box``.
    voxel_size : Å.
    box : voxels; its spectrum is as fine as the particle's size needs.
    """

    indices: Tensor
    frequency: Tensor
    whitened_gain: Tensor
    whitening: Tensor
    window: Tensor
    voxel_size: float
    box: int

    @property
    def window_power(self) -> float:
        """Share of the noise power of a box that passes the window."""
        return float(self.window.square().sum()) / self.box**3

    def observe(self, patches: Tensor, voxels: Tensor | None = None) -> Tensor:
        """Whitened coefficients of patches, (N, 2, M) real and imaginary, about each patch's centre.

        Parameters
        ----------
        patches : (N, n, n, n), as large as the window or larger.
        voxels : (N, 3) whole voxels xyz from the patch's centre to the point to observe about; None is the centre.
        """
        side, (reach, place) = self.window.shape[-1], self._places
        observed = patches.new_empty(len(patches), 2, len(place))
        most = max(1, _CACHED_VOXELS // side**3) if patches.device.type == "cpu" else max(1, len(patches))
        for first in range(0, len(patches), most):
            rows = slice(first, first + most)
            cubes = cropped(patches[rows], side, voxels=None if voxels is None else voxels[rows], window=self.window)
            whitened = _spectrum(cubes, reach, self.box).flatten(1)[:, place] * self.whitening
            observed[rows] = torch.view_as_real(whitened).movedim(-1, 1)
        return observed

    def transformed(self, cubes: Tensor) -> Tensor:
        """Whitened coefficients (N, M, 2) of densities (N, n, n, n) as large as the window, as they are."""
        reach, place = self._places
        return torch.view_as_real(_spectrum(cubes, reach, self.box).flatten(1)[:, place] * self.whitening)

    def rendered(self, values: Tensor) -> Tensor:
        """Densities (N, n, n, n), as large as the window, whose whitened coefficients are values (N, M), complex."""
        reach, place = self._places
        lines = 2 * reach + 1
        spectrum = values.new_zeros(len(values), lines * lines * (reach + 1))
        spectrum[:, place] = values / self.whitening
        return _density(spectrum.view(-1, lines, lines, reach + 1), self.window.shape[-1], self.box)

    @property
    def _places(self) -> tuple[int, Tensor]:
        """Steps that the coefficients reach to, and where each is among all of a half-spectrum so far, (M,)."""
        reach = int(self.indices.abs().max())
        place = ((self.indices[:, 2] + reach) * (2 * reach + 1) + self.indices[:, 1] + reach) * (reach + 1)
        return reach, place + self.indices[:, 0]

    def within(self, resolution: float) -> ForwardModel:
        """The same model low-passed: only the coefficients up to a resolution in Å."""
        return self.lowest(int((self.frequency.norm(dim=-1) <= 1 / resolution).sum()))

    def with_unit_gain(self, wedge: Wedge) -> ForwardModel:
        """The same model with a gain of 1: only the missing wedge and the whitening are left."""
        measured = wedge.weights(self.frequency, 1 / (self.box * self.voxel_size))
        return replace(self, whitened_gain=measured * self.whitening.abs())

    def lowest(self, count: int) -> ForwardModel:
        """The same model, of this many coefficients of lowest frequency only."""
        names = ("indices", "frequency", "whitened_gain", "whitening")
        return replace(self, **{name: getattr(self, name)[:count] for name in names})

    def select(self, mask: Tensor) -> ForwardModel:
        """The same model, of the coefficients in a mask (M,) only."""
        names = ("indices", "frequency", "whitened_gain", "whitening")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    def to(self, device: torch.device | str) -> ForwardModel:
        """The same model on a device."""
        names = ("indices", "frequency", "whitened_gain", "whitening", "window")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def build_forward_model(
    noise: Tensor, wedge: Wedge, *, voxel_size: float, resolution: float, radius: float, sign: float = 1.0
) -> ForwardModel:
    """Forward model with gain 1, up to a resolution in Å, for a reference of a radius in Å.

    Parameters
    ----------
    noise : (n, n, n) power spectrum of the noise a voxel, as `noise.smooth_spectrum` gives it.
    sign : -1 where the particle is darker than its surroundings.
    """
    side = noise.shape[-1]
    index, frequency = half_sphere(side, voxel_size, max(resolution, 2 * voxel_size))
    wedge_weight = wedge.weights(frequency, 1 / (side * voxel_size))
    measured = wedge_weight > _MEASURED
    index, frequency, wedge_weight = index[measured], frequency[measured], wedge_weight[measured]
    deviation = (noise[:, :, : side // 2 + 1].flatten()[index] * side**3 / 2).sqrt()
    indices = torch.round(frequency * (side * voxel_size)).long()
    whitening = (sign / deviation).to(torch.complex64)
    soft = window(side, voxel_size, radius)
    return ForwardModel(indices, frequency, wedge_weight / deviation, whitening, soft, voxel_size, side)


def box_side(radius: float, voxel_size: float) -> int:
    """Voxels of the smallest box, even, that holds a particle of a radius in Å and its window's soft edge."""
    return 2 * ceil((radius + voxel_size + max(4 * voxel_size, 0.25 * radius)) / voxel_size)


def cropped(patches: Tensor, side: int, *, voxels: Tensor | None = None, window: Tensor | None = None) -> Tensor:
    """The middle (N, m, m, m) of patches (N, n, n, n), about the voxel at ``centre + voxels`` (N, 3, whole, xyz).

    Beyond a patch's edge there are zeros. With a window (m, m, m), all is multiplied by it.
    """
    low = patches.shape[-1] // 2 - side // 2
    if voxels is None and low >= 0:
        middle = patches[:, low : low + side, low : low + side, low : low + side]
        return middle if window is None else middle * window
    corners = low + (torch.zeros(len(patches), 3) if voxels is None else voxels).long().cpu()
    over = max(0, int(-corners.min()), int(corners.max()) + side - patches.shape[-1])
    padded = torch.nn.functional.pad(patches, (over,) * 6) if over else patches
    answer = patches.new_empty(len(patches), side, side, side)
    for row, (x, y, z) in enumerate((corners + over).tolist()):
        cube = padded[row, z : z + side, y : y + side, x : x + side]
        torch.mul(cube, 1.0 if window is None else window, out=answer[row])
    return answer


def _spectrum(cubes: Tensor, reach: int, box: int) -> Tensor:
    """Fourier coefficients of cubes about their centre voxels, (N, kz, ky, kx), as far as ``reach`` steps of a box.

    Few are wanted, so three small matrix products are quicker than a whole transform. kx runs from 0.
    """
    wave, half = _waves(cubes.shape[-1], reach, box, cubes.device)
    along_x = torch.view_as_complex((cubes @ half).unflatten(-1, (-1, 2)))
    along_y = (wave @ along_x).flatten(2)
    spectrum: Tensor = (wave @ along_y).unflatten(-1, (2 * reach + 1, reach + 1))
    return spectrum


def _density(spectrum: Tensor, side: int, box: int) -> Tensor:
    """Cubes (N, side, side, side) of a half-spectrum (N, kz, ky, kx), one of each pair of Friedel mates: the inverse of
    `_spectrum` for densities that it holds.
    """
    wave, half = _waves(side, spectrum.shape[-1] - 1, box, spectrum.device)
    back = wave.conj().T
    along_z = (back @ spectrum.flatten(2)).unflatten(-1, spectrum.shape[2:])
    along_y = torch.view_as_real(back @ along_z).flatten(-2)
    # Of both mates together: twice the real part of the product with the conjugate wave.
    density: Tensor = along_y @ half.T * (2 / box**3)
    return density


@lru_cache(maxsize=32)
def _waves(side: int, reach: int, box: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waves from -reach to reach over a line of voxels, (2 reach + 1, side), and from 0 to reach, real and imaginary.

    The second is (side, 2 (reach + 1)).
    """
    place = torch.arange(side) - side // 2
    step = torch.arange(-reach, reach + 1)
    angle = -2 * torch.pi / box * (step[:, None] * place)
    wave = unit_phase(angle)
    half = torch.view_as_real(wave[reach:].T.contiguous()).flatten(1)
    return wave.to(device), half.to(device)
