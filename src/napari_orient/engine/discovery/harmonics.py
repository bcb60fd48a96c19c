"""What particles leave of a map that is round about z, taken apart by how often it repeats in a turn about z.

A particle of n folds repeats n times a turn, and 2n, 3n, … times; spun by an angle φ, with the phase ``exp(inφ)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.patches import Patches, model_for, poses_of
from napari_orient.engine.discovery.polishing import reference_for
from napari_orient.engine.matching.fit import Fit
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.map_symmetry import ORDERS
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram
from napari_orient.engine.rotations import symmetry

_HELD, _MEASURED = 0.95, 0.9
"""Share of a map's power within what is called its radius about z; least share of the particles to measure a ring."""
_C1 = symmetry("C1")


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Of N particles, what repeats n times in a turn about z.

    Parameters
    ----------
    labelled : the particles as they were fitted to the round map.
    parts : of each n, (N, B) complex, over B rings of frequencies about z; noise has a mean square of 1 in each.
    """

    labelled: list[tuple[Tomogram, Particles]]
    parts: dict[int, Tensor]


def harmonics_about_z(
    labelled: Labelled,
    average: Average,
    options: DiscoveryOptions,
    wedges: Sequence[Wedge],
    *,
    device: torch.device,
) -> Harmonics:
    """The harmonics of what particles leave of their average, which is round about z, once they are fitted to it."""
    reference = reference_for(average.density, average, options)
    rings, there, answer = _Rings.of(reference), reference.to(device), []
    gathered = _Gathered(rings, radius_about_z(average.as_reference(), average.voxel_size))
    for (tomogram, particles), wedge in zip(labelled, wedges, strict=True):
        patches, every = Patches.holding(reference, tomogram, particles), np.arange(len(particles))
        model, likelihood_scale = model_for(reference, patches, every, wedge)
        model, fits = model.to(device), []
        for observed, fit in patches.fits(there, model, every, device=device):
            gathered.add(*rings.sums(model, fit, _left(there, model, observed, fit)))
            fits.append(fit)
        answer.append((tomogram, patches.posed(poses_of(fits, _C1, likelihood_scale=likelihood_scale), options)))
    rotations = np.concatenate([part.required_rotations() for _, part in answer])
    return Harmonics(
        answer, {order: _without_microscope(part, rotations, order) for order, part in gathered.whitened().items()}
    )


def _left(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> Tensor:
    """What the fitted reference leaves of patches, about its origin: whitened coefficients (N, M), complex."""
    angle = 2 * torch.pi * (fit.shifts @ model.frequency.T)
    seen = torch.view_as_complex(observed.movedim(1, -1).contiguous()) * torch.polar(torch.ones_like(angle), angle)
    predicted = reference.transform(model.frequency @ fit.rotations) * model.whitened_gain
    left: Tensor = seen - fit.amplitude[:, None].clamp_min(0) * predicted
    return left


def radius_about_z(density: FloatArray, voxel_size: float) -> float:
    """Å from the axis z within which nearly all of a map's power lies."""
    line = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    distance = np.hypot(line[:, None], line).ravel()
    order = np.argsort(distance)
    held = np.cumsum(np.square(density).sum(axis=0).ravel()[order])
    return float(distance[order][np.searchsorted(held, _HELD * held[-1])])


@dataclass(frozen=True)
class _Rings:
    """Rings of frequencies about z, as fine as a map's size needs: ``count`` outward, and as many up and down."""

    spacing: float
    count: int

    @classmethod
    def of(cls, reference: Reference) -> _Rings:
        spacing = 1 / (2 * reference.radius)
        return cls(spacing, math.ceil(1 / reference.resolution / spacing) + 1)

    def sums(self, model: ForwardModel, fit: Fit, left: Tensor) -> tuple[Tensor, Tensor]:
        """Over each ring, of N particles' coefficients times the weight, (N, orders, B), and of its square, (N, B)."""
        # With their Friedel mates the coefficients fill whole rings.
        frequency = torch.cat([model.frequency, -model.frequency]) @ fit.rotations
        weight = model.whitened_gain.repeat(2)
        x, y, z = frequency.unbind(-1)
        out, up = (x.hypot(y) / self.spacing).long(), (z / self.spacing).round().long()
        ring = out.clamp_max(self.count - 1) * (2 * self.count + 1) + up.clamp(-self.count, self.count) + self.count
        values, sums = torch.cat([left, left.conj()], dim=1) * weight, []
        back = torch.complex(x, -y) / x.hypot(y).clamp_min(1e-9)
        for order in range(1, max(ORDERS) + 1):
            values = values * back
            if order in ORDERS:
                sums.append(torch.complex(self._sum(ring, values.real), self._sum(ring, values.imag)))
        return torch.stack(sums, dim=1), self._sum(ring, weight.square().expand_as(x))

    def _sum(self, ring: Tensor, values: Tensor) -> Tensor:
        return values.new_zeros(len(values), self.count * (2 * self.count + 1)).scatter_add(1, ring, values)

    def show(self, order: int, radius: float) -> Tensor:
        """Which rings, (B,), lie far enough out to show so many repeats of what lies within a radius of the axis.

        Bessel's function of order n is next to nothing at arguments below n.
        """
        out = (torch.arange(self.count) + 0.5) * self.spacing
        return (2 * torch.pi * radius * out > order).repeat_interleave(2 * self.count + 1)


class _Gathered:
    """Sums of particles as they come, over the roots of their weights; of each order only the rings that show it."""

    def __init__(self, rings: _Rings, radius: float) -> None:
        self._shown = {order: rings.show(order, radius) for order in ORDERS}
        self._parts: dict[int, list[Tensor]] = {order: [] for order in ORDERS}
        self._power, self._measured, self._count = torch.zeros(()), torch.zeros(()), 0

    def add(self, sums: Tensor, weight: Tensor) -> None:
        """More particles: sums (N, orders, B) and their weights (N, B)."""
        weight = weight.cpu()
        parts = torch.where(weight[:, None] > 0, sums.cpu() / weight[:, None].clamp_min(1e-9).sqrt(), 0)
        self._power = self._power + parts.abs().square().sum(0)
        self._measured, self._count = self._measured + (weight > 0).sum(0), self._count + len(parts)
        for at, (order, shown) in enumerate(self._shown.items()):
            self._parts[order].append(parts[:, at][:, shown])

    def whitened(self) -> dict[int, Tensor]:
        """Of each order, the parts (N, B) of rings that most particles measured.

        What most orders have in common is noise: in each ring the median of their mean squares is brought to 1.
        """
        level = (self._power / self._count).median(dim=0).values.sqrt().clamp_min(1e-9)
        measured = self._measured >= _MEASURED * self._count
        parts = {
            order: (torch.cat(self._parts[order]) / level[shown])[:, measured[shown]]
            for order, shown in self._shown.items()
        }
        return {order: part for order, part in parts.items() if part.shape[1]}


def _without_microscope(part: Tensor, rotations: FloatArray, order: int) -> Tensor:
    """Parts (N, B) without what goes with how the tomogram's axes lie about the particle's.

    Where the wedge is not known exactly it leaves some of the round map, which turns with the beam and the tilt axis.
    """
    azimuth = np.arctan2(rotations[:, :, 1], rotations[:, :, 0])
    basis, _ = torch.linalg.qr(torch.as_tensor(np.exp(-1j * order * azimuth), dtype=part.dtype))
    rest: Tensor = part - basis @ (basis.conj().T @ part)
    return rest
