"""How a reference shows in patches: wedge, noise and window, and the whitened coefficients that are matched."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.grid import half_sphere
from napari_orient.engine.matching.spectrum import window
from napari_orient.engine.matching.wedge import Wedge

_MEASURED = 0.3


@dataclass(frozen=True, eq=False)
class Imaging:
    """The measured coefficients of a patch, nearest the origin first, and the weights that whiten their noise.

    Parameters
    ----------
    index : (M,) into the flattened half-spectrum of a patch.
    frequency : (M, 3) xyz in cycles/Å.
    weight : (M,) wedge and gain over the noise's standard deviation (of real and of imaginary part alike); a model is
        multiplied by it.
    scale : (M,) complex; one over that standard deviation, with the sign of the particle's contrast and the phase that
        undoes the imaging's; the patch is multiplied by it.
    window : (n, n, n) weights of the patch's voxels.
    voxel_size : Å.
    """

    index: Tensor
    frequency: Tensor
    weight: Tensor
    scale: Tensor
    window: Tensor
    voxel_size: float

    @property
    def side(self) -> int:
        """Voxels along a patch."""
        return self.window.shape[-1]

    @property
    def fill(self) -> float:
        """Share of a patch's noise that the window lets through."""
        return float(self.window.square().mean())

    def observe(self, patches: Tensor, voxels: Tensor | None = None) -> Tensor:
        """Whitened coefficients of patches, (N, 2, M) real and imaginary, about each patch's centre.

        Parameters
        ----------
        patches : (N, n, n, n).
        voxels : (N, 3) whole voxels xyz by which the particle stands off the centre; it is brought there first.
        """
        if voxels is not None:
            patches = rolled(patches, voxels)
        spectrum = torch.fft.rfftn(patches * self.window, dim=(-3, -2, -1)).flatten(1)[:, self.index]
        # The patch's centre is voxel n // 2, the transform's is voxel 0.
        centre = self.side // 2 * self.voxel_size
        angle = 2 * torch.pi * centre * self.frequency.sum(-1)
        whitened = spectrum * (self.scale * torch.polar(torch.ones_like(angle), angle))
        return torch.view_as_real(whitened).movedim(-1, 1).contiguous()

    def within(self, resolution: float) -> Imaging:
        """The same imaging, of the coefficients up to a resolution in Å only."""
        return self.first(int((self.frequency.norm(dim=-1) <= 1 / resolution).sum()))

    def first(self, count: int) -> Imaging:
        """The same imaging, of the first coefficients only."""
        names = ("index", "frequency", "weight", "scale")
        return replace(self, **{name: getattr(self, name)[:count] for name in names})

    def chosen(self, mask: Tensor) -> Imaging:
        """The same imaging, of the coefficients in a mask (M,) only."""
        names = ("index", "frequency", "weight", "scale")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    def to(self, device: torch.device | str) -> Imaging:
        """The same imaging on a device."""
        names = ("index", "frequency", "weight", "scale", "window")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def imaging_of(
    noise: Tensor, wedge: Wedge, *, voxel_size: float, resolution: float, radius: float, sign: float = 1.0
) -> Imaging:
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
    return Imaging(index, frequency, weight / deviation, (sign / deviation).to(torch.complex64), view, voxel_size)


def rolled(patches: Tensor, voxels: Tensor) -> Tensor:
    """Patches with the voxel at ``centre + voxels`` (N, 3, whole, xyz) brought to the centre; edges wrap."""
    side = patches.shape[-1]
    line = torch.arange(side, device=patches.device)
    x, y, z = ((line + voxels[:, axis, None].long()) % side for axis in range(3))
    row = torch.arange(len(patches), device=patches.device)
    return patches[row[:, None, None, None], z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
