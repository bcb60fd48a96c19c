"""How like a map is to itself when it is turned about its centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.directions import turned_about
from napari_orient.engine.matching.reference import Reference
from napari_orient.engine.particles import FloatArray

TURNS = 72
"""Steps of a whole turn."""
POINTS, FINE_POINTS = 1000, 4000
"""Frequencies that are enough to search with, and to tell what is faint."""
_SHELLS = 12
_EVEN = 0.005
"""Share of a map's power that is not the same in all directions, below which the map is a ball."""
_LOWEST = 0.15
"""Frequencies below this share of the highest say nothing of turns."""
_FAINTEST = 1e-3
"""Shells of detail count alike, unless their power is below this share of the strongest's."""


class Likeness:
    """How well turned copies of a map lie over it, without what every turn leaves alike.

    Parameters
    ----------
    maps : one reference, or those of two halves, to be laid over each other.
    centre : (3,) xyz in Å from the frame's origin to the point turned about.
    resolution : Å of the finest detail looked at.

    ``ball`` is True of a map that every turn leaves alike; its ``reach`` is the map's radius in Å.
    """

    def __init__(
        self, maps: Sequence[Reference], centre: FloatArray, *, resolution: float, points: int = POINTS
    ) -> None:
        self.reach = maps[-1].radius
        self._second, self._centre = maps[-1], torch.as_tensor(centre, dtype=torch.float32)
        self._frequency = _half_ball(points, 1 / resolution)
        share = self._frequency.norm(dim=-1) * resolution
        self._shell = (share**3 * _SHELLS).long().clamp_max(_SHELLS - 1)
        self._count = torch.bincount(self._shell, minlength=_SHELLS).clamp_min(1)
        first = self._values(maps[0], self._frequency[None])[0]
        second = self._values(self._second, self._frequency[None])[0]
        power = self._mean((first.conj() * second).real[None])[0].clamp_min(0)
        self._first = first / power.clamp_min(max(_FAINTEST * float(power.max()), 1e-20))[self._shell]
        self._whole = max(float((self._first.conj() * second).real.sum()), 1e-12)
        every = torch.view_as_complex(maps[0].sample(self._frequency)[..., 0].contiguous()).abs().square().sum()
        self.ball = float(first.abs().square().sum() / every) < _EVEN

    def of(self, rotations: FloatArray, *, beside: FloatArray | None = None) -> FloatArray:
        """Likeness of the map to itself turned by each rotation, (R,); 1 where it is the same.

        Parameters
        ----------
        beside : (3,) xyz in Å from the centre to the point to turn about instead.
        """
        told = []
        for part in torch.as_tensor(rotations, dtype=torch.float32).split(64):
            turned = self._values(self._second, self._frequency @ part)
            if beside is not None:
                point = torch.as_tensor(beside, dtype=torch.float32)
                angle = -2 * torch.pi * ((point - part @ point) @ self._frequency.T)
                turned = turned * torch.polar(torch.ones_like(angle), angle)
            told.append((self._first.conj() * turned).real.sum(-1) / self._whole)
        likeness: FloatArray = torch.cat(told).double().numpy()
        return likeness

    def whole_turn(self, direction: FloatArray) -> FloatArray:
        """Likeness of the map to itself turned step by step about a direction (3,), (TURNS,)."""
        return self.of(turned_about(direction, 360 / TURNS * np.arange(TURNS)))

    def _values(self, reference: Reference, frequency: Tensor) -> Tensor:
        """The map's transform about the centre, less its mean over each shell, (R, M) complex."""
        values = torch.view_as_complex(reference.sample(frequency)[..., 0].contiguous())
        angle = 2 * torch.pi * (frequency @ self._centre)
        values = values * torch.polar(torch.ones_like(angle), angle)
        return values - self._mean(values.real)[:, self._shell]

    def _mean(self, values: Tensor) -> Tensor:
        """Mean of values (R, M) over each shell, (R, S)."""
        return torch.zeros(len(values), _SHELLS).index_add(1, self._shell, values) / self._count


def _half_ball(count: int, radius: float) -> Tensor:
    """About ``count`` frequencies evenly in half a ball, (M, 3): of the rest Friedel's law tells."""
    step = (2 * np.pi / 3 / count) ** (1 / 3) * radius
    line = torch.arange(-radius, radius + step, step) + step / 3
    points = torch.cartesian_prod(line, line, line)
    length = points.norm(dim=-1)
    return points[(length <= radius) & (points[:, 2] > 0) & (length > _LOWEST * radius)]


def centre_of_mass(density: FloatArray, voxel_size: float) -> FloatArray:
    """Where the bright density's mass lies, (3,) xyz in Å from the box's centre: every axis of the map runs through."""
    line = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    mass = np.clip(density - 0.25 * density.max(), 0, None)
    along = [mass.sum(axis=other) for other in ((0, 1), (0, 2), (1, 2))]
    centre: FloatArray = np.array([(part * line).sum() for part in along]) / max(float(mass.sum()), 1e-12)
    return centre
