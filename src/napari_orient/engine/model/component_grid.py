"""Volumes in a template's frame, sampled in Fourier space: patches back-projected to them, and they to patches.

With A_i the forward model of particle i (amplitude, wedge, gain, noise, rotation), e_i its whitened coefficients and v
a volume, this has A_i v, A_iᵀ e_i and the diagonal of A_iᵀ A_i; all volumes are zero outside the ball that holds the
template.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.gridding import Coefficients
from napari_orient.engine.model.reference import Reference, interpolation_nodes

_OVERSAMPLING = 1.3
"""Nodes per Fourier coefficient of a patch's box; volumes fill about half of that box."""
_PROFILE_POINTS = 64
"""Radii at which the template's power is taken, to the finest detail: half a Fourier coefficient apart or less."""


@dataclass(frozen=True, eq=False)
class ComponentGrid:
    """A cube of K = n³ nodes in Fourier space, and the ball that its volumes lie in.

    Parameters
    ----------
    spacing : cycles/Å between nodes.
    reach : nodes from the centre to a face; n = 2 reach + 1.
    power : (K,) mean power of the template over all rotations at each node.
    ball : (n, n, n) whether a voxel lies in the ball, over the damping of linear interpolation.
    """

    spacing: float
    reach: int
    power: Tensor
    ball: Tensor

    @classmethod
    def for_reference(cls, reference: Reference, model: ForwardModel) -> ComponentGrid:
        """The grid for a reference, as fine as a forward model's box and as far as its coefficients."""
        spacing = 1 / (_OVERSAMPLING * model.box * model.voxel_size)
        finest = float(model.frequency.norm(dim=1).max())
        reach = math.ceil(finest / spacing) + 1
        line = torch.arange(-reach, reach + 1, dtype=torch.float32)
        radius = (line[:, None, None].square() + line[:, None].square() + line.square()).sqrt()
        radii = torch.linspace(0, math.sqrt(3) * reach * spacing, _PROFILE_POINTS)
        power = np.interp((radius * spacing).flatten().numpy(), radii.numpy(), reference.rotational_means(radii)[1])
        voxel = 1 / ((2 * reach + 1) * spacing)
        damping = torch.sinc(line * voxel * spacing).square()
        ball = (radius * voxel < reference.radius + voxel / 2).float()
        ball = ball / (damping[:, None, None] * damping[:, None] * damping)
        return cls(spacing, reach, torch.as_tensor(power, dtype=torch.float32), ball)

    def back_projected(self, part: Coefficients, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """Aᵀe of each patch, (N, K) complex, and the diagonal of AᵀA, (N, K), at the nodes.

        Parameters
        ----------
        part : coefficients in the template's units, weighted by the square of the whitened gain.
        amplitude : (N,) of the template in each patch.
        """
        values = part.values * (part.weight * amplitude[:, None])
        weights = part.weight * amplitude.square()[:, None]
        products = values.new_empty(len(values), len(self.power))
        diagonal = weights.new_empty(products.shape)
        for row, place in enumerate((part.frequency @ part.rotations) / self.spacing):
            node, share = interpolation_nodes(place, self.reach)
            real, imaginary, diagonal[row] = (
                torch.bincount(node.flatten(), (share * column[:, None]).flatten(), minlength=len(self.power))
                for column in (values[row].real, values[row].imag, weights[row])
            )
            products[row] = torch.complex(real, imaginary)
        # Friedel mates.
        return products + products.flip(1).conj(), diagonal + diagonal.flip(1)

    def volumes(self, transforms: Tensor) -> Tensor:
        """Volumes (..., K) real, in the ball, of transforms (..., K)."""
        cube = torch.fft.ifftshift(transforms.unflatten(-1, self.ball.shape), dim=(-3, -2, -1))
        found = torch.fft.fftshift(torch.fft.ifftn(cube, dim=(-3, -2, -1)).real, dim=(-3, -2, -1))
        volumes: Tensor = (found * self.ball).flatten(-3)
        return volumes

    def transform(self, volume: Tensor) -> Tensor:
        """Transform (K,) of a volume (K,), ready to be interpolated."""
        cube = torch.fft.ifftshift(volume.unflatten(-1, self.ball.shape) * self.ball)
        transform: Tensor = torch.fft.fftshift(torch.fft.fftn(cube)).flatten()
        return transform

    def projected(self, transform: Tensor, frequency: Tensor, rotations: Tensor) -> Tensor:
        """A transform (K,) at frequencies (M, 3), cycles/Å, of N rotated patches, (N, M) complex."""
        volume = torch.view_as_real(transform).T.reshape(1, 2, *self.ball.shape)
        place = (frequency @ rotations) / (self.spacing * self.reach)
        found = torch.nn.functional.grid_sample(volume, place[None, None], align_corners=True)[0, :, 0]
        return torch.complex(found[0], found[1])
