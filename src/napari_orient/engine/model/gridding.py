"""Reconstruction by gridding: rotated patches summed on a fine grid of Fourier space, and the map of that grid.

The map is a weighted mean: at every node, the sum of the patches' coefficients times wedge over noise power, divided by
the sum of the weights (a Wiener filter).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.devices import device_batch_size
from napari_orient.engine.model.reference import interpolation_nodes
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
