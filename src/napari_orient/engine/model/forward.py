"""How a reference shows in patches: wedge, noise and window, and the whitened coefficients that are matched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from napari_orient.engine.model.grid import half_sphere
from napari_orient.engine.model.noise import window
from napari_orient.engine.model.wedge import Wedge

_MEASURED = 0.3


@dataclass(frozen=True, eq=False)
class ForwardModel:
    """The measured coefficients of a patch, nearest the origin first, and the weights that whiten their noise.

    Parameters
    ----------
    steps : (M, 3) whole numbers xyz, the coefficients' places in the spectrum of a box of ``box`` voxels.
    frequency : (M, 3) xyz in cycles/Å, the same.
    weight : (M,) wedge and gain over the noise's standard deviation (of real and of imaginary part alike); a model is
        multiplied by it.
    scale : (M,) complex; one over that standard deviation, with the sign of the particle's contrast and the phase that
        undoes the model's; the patch is multiplied by it.
    window : (n, n, n) weights of the voxels observed, round the particle's centre; n may be more than ``box``.
    voxel_size : Å.
    box : voxels; its spectrum is as fine as the particle's size needs.
    """

    steps: Tensor
    frequency: Tensor
    weight: Tensor
    scale: Tensor
    window: Tensor
    voxel_size: float
    box: int

    @property
    def fill(self) -> float:
        """Share of a box's noise that the window lets through."""
        return float(self.window.square().sum()) / self.box**3

    def observe(self, patches: Tensor, voxels: Tensor | None = None) -> Tensor:
        """Whitened coefficients of patches, (N, 2, M) real and imaginary, about each patch's centre.

        Parameters
        ----------
        patches : (N, n, n, n), as large as the window or larger.
        voxels : (N, 3) whole voxels xyz by which the particle stands off the centre; it is brought there first.
        """
        cubes = cropped(patches, self.window.shape[-1], voxels=voxels, window=self.window)
        spectrum = _spectrum(cubes, int(self.steps.abs().max()), self.box)
        reach = (spectrum.shape[1] - 1) // 2
        place = ((self.steps[:, 2] + reach) * (2 * reach + 1) + self.steps[:, 1] + reach) * (reach + 1)
        whitened = spectrum.flatten(1)[:, place + self.steps[:, 0]] * self.scale
        return torch.view_as_real(whitened).movedim(-1, 1).contiguous()

    def within(self, resolution: float) -> ForwardModel:
        """The same model, of the coefficients up to a resolution in Å only."""
        return self.first(int((self.frequency.norm(dim=-1) <= 1 / resolution).sum()))

    def first(self, count: int) -> ForwardModel:
        """The same model, of the first coefficients only."""
        names = ("steps", "frequency", "weight", "scale")
        return replace(self, **{name: getattr(self, name)[:count] for name in names})

    def chosen(self, mask: Tensor) -> ForwardModel:
        """The same model, of the coefficients in a mask (M,) only."""
        names = ("steps", "frequency", "weight", "scale")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    def to(self, device: torch.device | str) -> ForwardModel:
        """The same model on a device."""
        names = ("steps", "frequency", "weight", "scale", "window")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def build_forward_model(
    noise: Tensor, wedge: Wedge, *, voxel_size: float, resolution: float, radius: float, sign: float = 1.0
) -> ForwardModel:
    """How a reference of a radius (Å) shows in patches with this noise (n, n, n), up to a resolution in Å.

    ``sign`` is -1 where the particle is darker than its surroundings.
    """
    side = noise.shape[-1]
    index, frequency = half_sphere(side, voxel_size, max(resolution, 2 * voxel_size))
    weight = wedge.weights(frequency, 1 / (side * voxel_size))
    measured = weight > _MEASURED
    index, frequency, weight = index[measured], frequency[measured], weight[measured]
    deviation = (noise[:, :, : side // 2 + 1].flatten()[index] * side**3 / 2).sqrt()
    view = window(side, voxel_size, radius)
    steps = torch.round(frequency * (side * voxel_size)).long()
    scale = (sign / deviation).to(torch.complex64)
    return ForwardModel(steps, frequency, weight / deviation, scale, view, voxel_size, side)


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


@lru_cache(maxsize=32)
def _waves(side: int, reach: int, box: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waves from -reach to reach over a line of voxels, (2 reach + 1, side), and from 0 to reach, real and imaginary.

    The second is (side, 2 (reach + 1)).
    """
    place = torch.arange(side) - side // 2
    step = torch.arange(-reach, reach + 1)
    angle = -2 * torch.pi / box * (step[:, None] * place)
    wave = torch.polar(torch.ones_like(angle), angle)
    half = torch.view_as_real(wave[reach:].T.contiguous()).flatten(1)
    return wave.to(device), half.to(device)
