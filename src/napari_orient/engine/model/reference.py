"""Reference map: its Fourier transform T(q) and the derivative by a rotation, tabulated and interpolated.

A map rotated by R has the transform T(Rᵀk): a lookup in the table, no new transform. Rotated on, to R exp([ω]×), that
changes by ω · (∇T × q), q = Rᵀk, which is tabulated beside it for Gauss-Newton steps (`matching.fit`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.grid import frequencies, soft_ball, unit_phase
from napari_orient.engine.model.solvent import solvent
from napari_orient.engine.rotations import FloatArray, even_rotations

_OVERSAMPLING = 3.0
"""Nodes of the table per Fourier coefficient of a box as wide as the map. Linear interpolation then errs by less than
1 % of the largest value (tests/engine/test_search.py), with the map divided by the interpolation's sinc²."""
_POWER_KEPT = 0.998
"""Share of the map's power within the radius that is found for it; chosen."""
_NOISE_ERRORS = 4.0
"""Standard errors by which the power of a shell with some of the particle exceeds the solvent's; chosen: of a hundred
shells of noise one in three hundred maps has one."""
_MEAN_ROTATIONS = 500
"""Rotations that the transform is averaged over; chosen: a shell of a ribosome has a few hundred coefficients."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The transform of a map and its derivative by rotation, sampled finely enough for linear interpolation.

    Parameters
    ----------
    table : (K³, 8) real and imaginary parts of the transform and of its derivative by rotations about x, y and z,
        indexed [kz, ky, kx].
    spacing : cycles/Å between nodes of the table.
    reach : nodes from the table's centre to its edge.
    radius : Å from the origin within which the map has its density.
    resolution : Å; the finest detail that the table holds.
    centre : Å xyz from the origin to the map's centre of mass.
    """

    table: Tensor
    spacing: float
    reach: int
    radius: float
    resolution: float
    centre: tuple[float, float, float]

    @property
    def device(self) -> torch.device:
        """Where the table lies."""
        return self.table.device

    def to(self, device: torch.device | str) -> Reference:
        """The same reference on a device."""
        return replace(self, table=self.table.to(device))

    def sample(self, frequency: Tensor) -> Tensor:
        """Transform at frequencies (..., 3) xyz of the reference frame, real and imaginary part, (..., 2)."""
        return self._parts(frequency).movedim(0, -1)

    def rotated(self, frequency: Tensor, rotations: Tensor, *, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Transform of the rotated map and its derivative by rotation, (N, 4, 2, M).

        The second axis is [value, d/dωx, d/dωy, d/dωz], per radian, the third [real, imaginary].

        Parameters
        ----------
        frequency : (M, 3) xyz of the frame that it is rotated into, cycles/Å.
        rotations : (N, 3, 3).
        weight : (M,) factor.
        out : where it is written to; None takes new memory.
        """
        bags = _interpolated(self.table, self.spacing, self.reach, frequency, rotations, weight=weight)
        found = bags.view(len(rotations), len(frequency), 2, 4).permute(0, 3, 2, 1)
        return found.contiguous() if out is None else out.copy_(found)

    def within(self, resolution: float) -> Reference:
        """The same reference low-passed to a resolution in Å: a smaller table is faster."""
        reach = min(self.reach, math.ceil(1 / resolution / self.spacing) + 2)
        side, cut = 2 * self.reach + 1, slice(self.reach - reach, self.reach + reach + 1)
        table = self.table.reshape(side, side, side, 8)[cut, cut, cut].reshape(-1, 8).contiguous()
        return replace(self, table=table, reach=reach, resolution=max(resolution, self.resolution))

    def transform(self, frequency: Tensor) -> Tensor:
        """What `sample` gives, complex (...)."""
        return torch.complex(*self._parts(frequency))

    def _parts(self, frequency: Tensor) -> Tensor:
        """Real and imaginary part of the transform at frequencies (..., 3), (2, ...)."""
        place = (frequency / (self.spacing * self.reach)).reshape(1, 1, 1, -1, 3)
        found = torch.nn.functional.grid_sample(self._volume, place, align_corners=True)
        return found.reshape(2, *frequency.shape[:-1])

    @cached_property
    def _volume(self) -> Tensor:
        """Real and imaginary part of the transform at the nodes, (1, 2, K, K, K): a quarter of the table."""
        side = 2 * self.reach + 1
        return self.table[:, [0, 4]].T.reshape(1, 2, side, side, side)

    def rotational_means(self, radii: Tensor) -> tuple[Tensor, Tensor]:
        """Means over all rotations of the transform, real by Friedel's symmetry, and of its power, (L,) each.

        Parameters
        ----------
        radii : (L,) cycles/Å.
        """
        directions = torch.as_tensor(even_rotations(_MEAN_ROTATIONS)[:, :, 2], dtype=torch.float32)
        values = self.sample(radii[:, None, None] * directions)
        return values[..., 0].mean(1), values.square().sum(-1).mean(1)


@dataclass(frozen=True, eq=False)
class ReferenceParts:
    """The transforms and derivatives of P maps that add up to a reference, in one table: one lookup reads all.

    Parameters
    ----------
    table : (K³, 8 P) of real and imaginary part, of each [value, d/dωx, d/dωy, d/dωz], of each the P parts; over the
        largest of them, in half precision: what is read of it is as large, and so takes half the time.
    spacing, reach : as of a `Reference`.
    scale : the largest number of the table.
    """

    table: Tensor
    spacing: float
    reach: int
    scale: float

    @classmethod
    def stacked(cls, parts: Iterable[Reference], count: int) -> ReferenceParts:
        """So many parts in one table, each written as it comes; their own tables have the same nodes."""
        table, last = torch.zeros(0), None
        for number, last in enumerate(parts):
            if not number:
                table = last.table.new_empty(len(last.table), 8, count)
            table[:, :, number] = last.table
        assert last is not None
        scale = float(table.abs().amax())
        return cls(table.flatten(1).div_(scale).half(), last.spacing, last.reach, scale)

    def to(self, device: torch.device | str) -> ReferenceParts:
        """The same parts on a device."""
        return replace(self, table=self.table.to(device))

    def __len__(self) -> int:
        """Number of parts."""
        return self.table.shape[1] // 8

    def rotated(self, frequency: Tensor, rotations: Tensor, *, weight: Tensor, out: Tensor) -> None:
        """Write what `Reference.rotated` gives, of every part, to ``out``, (N, M, 2, 4 P).

        The last axes are [real, imaginary] and, of each of [value, d/dωx, d/dωy, d/dωz], the parts.
        """
        bags = _interpolated(self.table, self.spacing, self.reach, frequency, rotations, weight=self.scale * weight)
        out.copy_(bags.view(out.shape))


def _interpolated(
    table: Tensor, spacing: float, reach: int, frequency: Tensor, rotations: Tensor, *, weight: Tensor
) -> Tensor:
    """Rows of a table (K³, C) interpolated at rotated frequencies, (N M, C).

    Parameters are those of `Reference` and `Reference.rotated`.
    """
    place = (rotations.permute(2, 0, 1) @ frequency.T).mul_(1 / spacing).add_(reach)
    nodes, shares = _nodes(place, reach, weight)
    return torch.nn.functional.embedding_bag(nodes, table, per_sample_weights=shares.to(table), mode="sum")


def interpolation_nodes(place: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The eight nodes round each place of a grid (z, y, x), and their shares in linear interpolation, (L, 8) each.

    Parameters
    ----------
    place : (L, 3) xyz in steps of the grid from its centre.
    reach : steps from the grid's centre to its edge.
    """
    return _nodes(place.T.contiguous().add_(reach), reach, 1.0)


def _nodes(place: Tensor, reach: int, weight: Tensor | float) -> tuple[Tensor, Tensor]:
    """As `interpolation_nodes`, of L places (3, ...) from the grid's corner; shares are multiplied by weights (...)."""
    corner = place.floor().clamp_(0, 2 * reach - 1)
    sides = place.new_empty(2, *place.shape)
    torch.sub(place, corner, out=sides[1])
    torch.sub(1, sides[1], out=sides[0])
    x, y, z = sides.unbind(1)
    shares = (z * weight)[:, None, None] * (y[:, None] * x)
    side = 2 * reach + 1
    first = corner[0].int().add_(corner[1].int(), alpha=side).add_(corner[2].int(), alpha=side * side)
    return first.reshape(-1, 1) + _steps(side, place.device), shares.reshape(8, -1).T.contiguous()


@lru_cache(maxsize=32)
def _steps(side: int, device: torch.device) -> Tensor:
    """From the first of eight nodes to each, in a flattened grid, (8,)."""
    steps = [i + side * j + side * side * k for k, j, i in itertools.product((0, 1), repeat=3)]
    return torch.tensor(steps, device=device, dtype=torch.int32)


def inverted(reference: Reference) -> Reference:
    """The reference's mirror image through the origin of its frame: its Fourier transform is the complex conjugate."""
    signs = torch.tensor([[1.0], [-1.0]], dtype=reference.table.dtype, device=reference.device)
    table = (reference.table.view(-1, 2, 4) * signs).view(-1, 8)
    x, y, z = reference.centre
    return replace(reference, table=table, centre=(-x, -y, -z))


def build_reference(
    density: np.ndarray, voxel_size: float, *, resolution: float, radius: float | None = None
) -> Reference:
    """Reference of a map that is rotated about its origin, the centre ``(n - 1) / 2`` of its box.

    Parameters
    ----------
    density : (n, n, n) [z, y, x], particle positive, solvent near 0.
    voxel_size : Å of the map, whatever that of the patches.
    resolution : Å; nothing finer is kept, and not finer than twice the voxel size.
    radius : Å from the origin to keep; None takes the ball that holds all but 0.2 % of the power above the solvent's.

    Raises
    ------
    InputError
        If the map is not a cube, holds NaN, or is flat.
    """
    density = _checked(density)
    resolution = max(resolution, 2.05 * voxel_size)
    reach_map = (len(density) - 1) / 2 * voxel_size
    radius = min(radius or support_radius(density, voxel_size), reach_map)
    place = (torch.arange(len(density), dtype=torch.float64) - (len(density) - 1) / 2) * voxel_size
    distance = (place[:, None, None] ** 2 + place[None, :, None] ** 2 + place**2).sqrt()
    kept = torch.from_numpy(np.array(density, np.float64)) * soft_ball(distance, radius, 2 * voxel_size)
    centre = tuple(float((kept.sum(others) @ place) / kept.sum()) for others in ((0, 1), (0, 2), (1, 2)))
    spacing = 1 / (_OVERSAMPLING * 2 * (radius + 2 * voxel_size))
    # Linear interpolation of the transform multiplies the map by sinc² along each axis: divide by that first.
    damping = torch.sinc(place * spacing) ** 2
    kept = kept / (damping[:, None, None] * damping[None, :, None] * damping)
    reach = math.ceil(1 / resolution / spacing) + 2
    node = torch.arange(-reach, reach + 1, dtype=torch.float64) * spacing
    value, x, y, z = _transform_at_nodes(kept.float(), node, place)
    kz, ky, kx = node[:, None, None], node[:, None], node
    table = torch.stack([value, y * kz - z * ky, z * kx - x * kz, x * ky - y * kx], dim=-1)
    rows = torch.view_as_real(table).movedim(-1, -2).reshape(-1, 8).float().contiguous()
    return Reference(rows, spacing, reach, radius, resolution, (centre[0], centre[1], centre[2]))


def resampled(density: np.ndarray, voxel_size: float, *, side: int, to: float, resolution: float) -> FloatArray:
    """A map on other voxels about the same origin, (side, side, side) [z, y, x], low-passed to a resolution in Å.

    Parameters
    ----------
    density : (n, n, n).
    voxel_size, to : Å, of the map and of the voxels asked for.
    """
    transform = build_reference(density, voxel_size, resolution=resolution).transform(frequencies(side, to))
    # From the origin of the frame, the middle of the box, to that of the array, its first voxel.
    angle = -2 * torch.pi * frequencies(side, to).sum(dim=-1) * (side - 1) / 2 * to
    found: FloatArray = torch.fft.ifftn(transform * unit_phase(angle)).real.double().numpy()
    return found * (voxel_size / to) ** 3


def _transform_at_nodes(kept: Tensor, node: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Transform of a map (n, n, n) [z, y, x] and of its gradient along x, y and z, (K, K, K) each, [kz, ky, kx].

    Parameters
    ----------
    node : (K,) cycles/Å, along each axis.
    place : (n,) Å.
    """
    wave = torch.exp(-2j * torch.pi * node[:, None] * place)
    plain, sloped = (part.to(torch.complex64).T for part in (wave, -2j * torch.pi * place * wave))
    # Along one axis after the other, each of which becomes the last: what the four share is transformed once.
    along_z, slope_z = (
        torch.complex(kept.movedim(0, -1) @ part.real, kept.movedim(0, -1) @ part.imag) for part in (plain, sloped)
    )
    along_y, slope_y, slope_z = (
        part.movedim(0, -1) @ factor for part, factor in ((along_z, plain), (along_z, sloped), (slope_z, plain))
    )
    value, slope_y, slope_z = (part.movedim(0, -1) for part in (along_y, slope_y, slope_z))
    return value @ plain, value @ sloped, slope_y @ plain, slope_z @ plain


def _checked(density: np.ndarray) -> np.ndarray:
    shape = np.shape(density)
    if len(shape) != 3 or len(set(shape)) != 1:
        raise InputError(f"the reference map has shape {shape}; expected a cube. Pad it with zeros first.")
    density = np.array(density, np.float32)
    if not np.isfinite(density).all() or density.std() == 0:
        raise InputError("the reference map is flat or holds values that are not numbers; was it written completely?")
    return density


def support_radius(density: np.ndarray, voxel_size: float) -> float:
    """Radius in Å of the ball about the origin that holds all but 0.2 % of the power in excess of the solvent's.

    A map that is not masked, as a half map, has noise in all its box: by its whole power it would fill it. Shells whose
    power does not exceed the solvent's noise are therefore not counted.
    """
    place = np.arange(len(density)) - (len(density) - 1) / 2
    distance = np.sqrt(place[:, None, None] ** 2 + place[None, :, None] ** 2 + place**2).ravel()
    around, shell = solvent(density), distance.astype(int)
    excess = density.ravel().astype(float) ** 2 - around.power
    count = np.bincount(shell)
    least = _NOISE_ERRORS * around.deviation * np.sqrt(count)
    counted = np.bincount(shell, excess) >= np.where(count > 0, least, 0)
    order = np.argsort(distance)
    held = np.cumsum(np.where(counted[shell], excess, 0.0)[order])
    if held[-1] <= 0:
        return float(distance[order][-1]) * voxel_size
    return float(distance[order][np.searchsorted(held, _POWER_KEPT * held[-1])]) * voxel_size
