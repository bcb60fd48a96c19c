"""Self-correlation of a map: how much it is the same as itself rotated, and what searches for its axes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.model.grid import half_ball, unit_phase
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray

_STEPS = 72
"""Steps of a whole rotation, 5° each: enough for 36 repeats."""
POINTS = 1000
"""Frequencies in half a ball that are enough to search with."""
FINE_POINTS = 4000
"""Frequencies that are enough to measure with."""
_SHELLS = 12
"""Shells of equal volume that weigh alike."""
_ISOTROPIC = 0.005
"""Share of a map's power that depends on direction, below which it is a ball."""
_WEAKEST_SHELL = 1e-3
"""Power of a shell over the strongest one's below which it weighs less: it is noise."""
ROTATIONS_AT_A_TIME = 64
"""Rotations correlated together: memory, not the result."""


class SelfCorrelation:
    """Correlation of a map with itself rotated, shell by shell, without what no rotation changes.

    Of half maps a shell weighs by their correlation in it, of a single map every shell weighs alike.

    Parameters
    ----------
    maps : one reference, or two of half maps, the second of which is rotated.
    centre : (3,) xyz in Å from the frame's origin to the point that is rotated about.
    resolution : Å of the finest detail compared.
    points : number of frequencies compared.

    ``isotropic`` is True of a map that is a ball; ``radius`` is the map's in Å.
    """

    def __init__(self, maps: Sequence[Reference], centre: FloatArray, *, resolution: float, points: int) -> None:
        self.radius = maps[-1].radius
        self._second, self._centre = maps[-1], torch.as_tensor(centre, dtype=torch.float32)
        self._frequency = half_ball(points, 1 / resolution)
        share = self._frequency.norm(dim=-1) * resolution
        self._shell = (share**3 * _SHELLS).long().clamp_max(_SHELLS - 1)
        self._count = torch.bincount(self._shell, minlength=_SHELLS).clamp_min(1)
        first = self._values(maps[0], self._frequency[None])[0]
        second = self._values(self._second, self._frequency[None])[0]
        powers = [self._shell_mean(part.abs().square()[None])[0] for part in (first, second)]
        power = (powers[0] * powers[1]).sqrt()
        self._first = first / power.clamp_min(max(_WEAKEST_SHELL * float(power.max()), 1e-20))[self._shell]
        self._whole = max(float((self._first.conj() * second).real.sum()), 1e-12)
        every = maps[0].transform(self._frequency).abs().square().sum()
        self.isotropic = float(first.abs().square().sum() / every) < _ISOTROPIC

    def at(self, rotations: FloatArray, *, about: FloatArray | None = None, mirrored: bool = False) -> FloatArray:
        """Correlation of the map with itself in each rotation (R, 3, 3), (R,); 1 where it is the same.

        Parameters
        ----------
        about : (3,) xyz in Å from the centre to the point to rotate about instead.
        mirrored : whether to compare with the map's mirror image (inverted through its centre) instead.
        """
        found = []
        for part in torch.as_tensor(rotations, dtype=torch.float32).split(ROTATIONS_AT_A_TIME):
            rotated = self._values(self._second, self._frequency @ part)
            rotated = rotated.conj() if mirrored else rotated
            if about is not None:
                point = torch.as_tensor(about, dtype=torch.float32)
                angle = -2 * torch.pi * ((point - part @ point) @ self._frequency.T)
                rotated = rotated * unit_phase(angle)
            found.append((self._first.conj() * rotated).real.sum(-1) / self._whole)
        correlation: FloatArray = torch.cat(found).double().numpy()
        return correlation

    def over_rotation(self, direction: FloatArray) -> FloatArray:
        """Correlation of the map with itself rotated step by step about a direction (3,), (72,)."""
        return self.at(rotations_about(direction, 360 / _STEPS * np.arange(_STEPS)))

    def periodogram(self, direction: FloatArray) -> FloatArray:
        """Share of the map that repeats 1, 2, 3, ... times in a whole rotation about a direction (3,), (36,)."""
        return np.asarray(np.fft.rfft(self.over_rotation(direction)).real[1:] * 2 / _STEPS)

    def _values(self, reference: Reference, frequency: Tensor) -> Tensor:
        """The map's transform about the centre, less its mean over each shell, (R, M) complex."""
        values = reference.transform(frequency)
        angle = 2 * torch.pi * (frequency @ self._centre)
        values = values * unit_phase(angle)
        return values - self._shell_mean(values.real)[:, self._shell]

    def _shell_mean(self, values: Tensor) -> Tensor:
        """Mean of values (R, M) over each shell, (R, S)."""
        return torch.zeros(len(values), _SHELLS).index_add(1, self._shell, values) / self._count


def rotations_about(axes: FloatArray, degrees: float | FloatArray) -> FloatArray:
    """Rotations by an angle about each axis, or by each angle about one, (R, 3, 3)."""
    unit = np.atleast_2d(axes) / np.linalg.norm(np.atleast_2d(axes), axis=1, keepdims=True)
    rotvec = torch.from_numpy(unit * np.atleast_1d(np.radians(degrees))[:, None])
    rotations: FloatArray = rotvec_to_matrix(rotvec).numpy()
    return rotations


def minimum(loss: Any, start: FloatArray, *, step: float, **tolerances: float) -> FloatArray:
    """Where a loss is least, by Nelder and Mead's simplex with a first step along each axis."""
    from scipy.optimize import minimize

    simplex = start + step * np.vstack([np.zeros(len(start)), np.eye(len(start))])
    options: Any = {"initial_simplex": simplex, **tolerances}
    found = minimize(loss, start, method="Nelder-Mead", options=options)
    return np.asarray(found.x)
