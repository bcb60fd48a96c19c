"""Patches back-projected onto a grid of Fourier space: maps reconstructed from them (gridding), and components of them.

`Gridding` sums rotated patches on a fine grid. The map is a weighted mean: at every node, the sum of the patches'
coefficients times wedge over noise power, divided by the sum of the weights (a Wiener filter).

`ComponentGrid` keeps the patches apart. With A_i the forward model of particle i (amplitude, wedge, gain, noise,
rotation), e_i its whitened coefficients and v a volume in the template's frame, it has A_i v, A_iᵀ e_i and the diagonal
of A_iᵀ A_i; all volumes are zero outside the ball that holds the template.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.devices import device_batch_size
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference, interpolation_nodes
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry

_OVERSAMPLING = 2
"""Nodes of the grid per Fourier coefficient of the map's box, for linear interpolation between nodes."""
_LEAST_WEIGHT = 0.02
"""Share of the mean weight that is added to every weight (the Wiener constant), for what was hardly measured."""
_BATCH = 16
"""Patches laid in together; bounds memory only."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients of N patches about the particles' centres, and their weights.

    Parameters
    ----------
    values : (N, M) complex.
    weight : (M,) wedge over noise power.
    frequency : (M, 3) xyz in cycles/Å; one of each pair of Friedel mates.
    rotations : (N, 3, 3), map frame -> tomogram frame.
    share : (N,) weight of each patch; None is 1 for all.
    """

    values: Tensor
    weight: Tensor
    frequency: Tensor
    rotations: Tensor
    share: Tensor | None = None

    def take(self, rows: NDArray[np.bool_] | Tensor) -> Coefficients:
        """The coefficients of the patches in a mask (N,), or of these rows."""
        chosen = torch.as_tensor(rows)
        share = None if self.share is None else self.share[chosen]
        return Coefficients(self.values[chosen], self.weight, self.frequency, self.rotations[chosen], share)


_PARTS = 3
"""Numbers at a node: the real and the imaginary sum, and that of the weights."""


def _reach(side: int) -> int:
    """Nodes from the grid's middle to its end."""
    return _OVERSAMPLING * side // 2 + 1


class Gridding:
    """Sums of rotated coefficients and of their weights, on a fine grid of Fourier space.

    Parameters
    ----------
    interpolations : linear ones that the sums have gone through; each damps the map towards the faces of its box.
    """

    def __init__(self, side: int, voxel_size: float, *, interpolations: int = 1) -> None:
        self.interpolations = interpolations
        self.side, self.voxel_size = side, voxel_size
        self.spacing = 1 / (_OVERSAMPLING * side * voxel_size)
        self.reach = _reach(side)
        self.rows = torch.zeros((2 * self.reach + 1) ** 3, _PARTS)

    @staticmethod
    def bytes_of(side: int) -> int:
        """Bytes of the sums of a map of so many voxels along each side."""
        return (2 * _reach(side) + 1) ** 3 * _PARTS * torch.float32.itemsize

    def to(self, device: torch.device | str) -> Gridding:
        """The same sums on a device: what is added there must lie there, and maps are made on the CPU."""
        moved = Gridding(self.side, self.voxel_size, interpolations=self.interpolations)
        moved.rows = self.rows.to(device)
        return moved

    def __add__(self, other: Gridding) -> Gridding:
        both = Gridding(self.side, self.voxel_size, interpolations=self.interpolations)
        both.rows = self.rows + other.rows
        return both

    @property
    def frequency(self) -> Tensor:
        """Of every node, (K, 3) xyz in cycles/Å."""
        line = torch.arange(-self.reach, self.reach + 1, dtype=torch.float32) * self.spacing
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        return torch.stack([x, y, z], dim=-1).reshape(-1, 3)

    def add(self, part: Coefficients) -> None:
        """Add a batch, each coefficient shared among the eight nodes around it."""
        for rows in torch.arange(len(part.values)).split(device_batch_size(part.values.device, _BATCH)):
            self._add(part.take(rows))

    def _add(self, part: Coefficients) -> None:
        place = (part.frequency @ part.rotations).reshape(-1, 3) / self.spacing
        node, share = interpolation_nodes(place, self.reach)
        weight = part.weight.expand(part.values.shape)
        if part.share is not None:
            weight = weight * part.share[:, None]
        for column, found in enumerate((part.values.real * weight, part.values.imag * weight, weight)):
            laid = (share * found.reshape(-1, 1)).flatten()
            self.rows[:, column] += torch.bincount(node.flatten(), laid, minlength=len(self.rows)).float()

    def symmetrised(self, group: Symmetry, centre: FloatArray) -> Gridding:
        """The sum over the group's rotations about a centre (Å, xyz, from the frame's origin)."""
        answer = Gridding(self.side, self.voxel_size, interpolations=self.interpolations + 1)
        frequency = self.frequency
        inside = frequency.norm(dim=-1) < (self.reach - 2) * self.spacing
        for matrix in group.matrices:
            rotation = torch.as_tensor(matrix, dtype=torch.float32)
            nodes, shares = interpolation_nodes(frequency[inside] @ rotation / self.spacing, self.reach)
            found = sum(
                (
                    self.rows.index_select(0, node) * share[:, None]
                    for node, share in zip(nodes.T, shares.T, strict=True)
                )
            )
            move = torch.as_tensor(centre - matrix @ centre, dtype=torch.float32)
            values = torch.complex(found[:, 0], found[:, 1]) * torch.exp(-2j * torch.pi * (frequency[inside] @ move))
            answer.rows[inside] += torch.stack([values.real, values.imag, found[:, 2]], dim=1)
        return answer

    def sums(self) -> tuple[Tensor, Tensor]:
        """Sums of coefficients, complex, and of their weights at every node, Friedel mates included."""
        values, weights = torch.complex(self.rows[:, 0], self.rows[:, 1]), self.rows[:, 2]
        return values + values.flip(0).conj(), weights + weights.flip(0)

    def density(self, *, least: float = _LEAST_WEIGHT) -> NDArray[np.float64]:
        """The map, (n, n, n): sums over weights, back in space.

        ``least`` of the mean weight is added to every weight.
        """
        size = 2 * self.reach + 1
        values, weights = self.sums()
        ratio = values / (weights + least * weights[weights > 0].mean())
        place = (torch.arange(self.side, dtype=torch.float64) - (self.side - 1) / 2) * self.voxel_size
        node = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64) * self.spacing
        wave = torch.exp(2j * torch.pi * place[:, None] * node).to(torch.complex64)
        cube = ratio.reshape(size, size, size)
        for _ in range(3):
            cube = torch.tensordot(wave, cube, dims=([1], [2]))
        # In the frame that a rotation interpolated in, which to second order is the same in any.
        damping = torch.sinc(place * self.spacing) ** (2 * self.interpolations)
        real = cube.real / (damping[:, None, None] * damping[None, :, None] * damping)
        return (real / (_OVERSAMPLING * self.side) ** 3).double().numpy()


# --- components of particles that differ ------------------------------------------------------------------------------

_COMPONENT_OVERSAMPLING = 1.3
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
        spacing = 1 / (_COMPONENT_OVERSAMPLING * model.box * model.voxel_size)
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
