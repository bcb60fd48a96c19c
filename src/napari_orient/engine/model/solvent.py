"""Solvent of a map: the level and the noise that it has beyond its particle; and maps brought to bright on 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_SHARE = 1e-4
"""Share of a map's power that is its solvent's level, from which the level is subtracted; chosen: maps whose solvent is
0 but for rounding stay as they are to the bit; in one normalised to mean 0 it is of the order of 1e-2."""
_SAID_SHARE = 1e-2
"""The same share from which a person is informed of it; chosen: in averages of a few particles, noise is less."""


@dataclass(frozen=True)
class Solvent:
    """What a map holds in the corners of its box, beyond the ellipsoid that touches its faces.

    Parameters
    ----------
    level : median density.
    power : mean square of the density: noise, where the level is 0.
    deviation : standard deviation of that square from voxel to voxel.
    """

    level: float
    power: float
    deviation: float


def solvent(density: np.ndarray) -> Solvent:
    """Solvent of a map (Z, Y, X)."""
    z, y, x = (((np.arange(count) - (count - 1) / 2) / (count / 2)) ** 2 for count in density.shape)
    corners = density[z[:, None, None] + y[:, None] + x > 1].astype(float)
    square = corners**2
    return Solvent(float(np.median(corners)), float(square.mean()), float(square.std()))


def bright_on_zero(density: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The map with its solvent at 0 and its particle bright, and what was changed of it.

    A particle is dark where both the sum and the third moment of the density about the solvent are negative: the
    fringes of an uncorrected contrast transfer may turn the sum, but not the densest parts.
    """
    level, changes = solvent(density).level, []
    share = level**2 / max(float(np.mean(density.astype(float) ** 2)), float(np.finfo(np.float32).tiny))
    if share > _LEAST_SHARE:
        density = density - np.float32(level)
    if share > _SAID_SHARE:
        changes.append(f"its solvent had a density of {level:.3g}, which is subtracted")
    if float(density.sum(dtype=float)) < 0 and float((density.astype(float) ** 3).sum()) < 0:
        density = -density
        changes.append("its particle is dark, and is inverted")
    return density, tuple(changes)
