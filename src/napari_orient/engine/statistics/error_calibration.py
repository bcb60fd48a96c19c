"""Calibration of expected errors: a line from a predicted variance to the mean squared error that was measured.

``expected² = floor + factor · predicted²``, in deg². A network predicts by the spread of its answers to half-turned
copies of a patch; a template by the error that the noise leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import FloatArray

_SPREAD_GROUPS = 12
"""Groups of like spread that a network's line goes through: some dozen particles each in the usual validation part."""
_LOST_DEG = 20.0
"""Degrees; particles further off are at another maximum altogether, and do not set the line for all."""
_SWEEPS = 30
"""Reweighting sweeps; chosen, more than convergence needs."""
_CHANCE = 4.0
"""Squared standard errors below which a correction is taken for chance: two standard errors."""


@dataclass(frozen=True)
class ErrorCalibration:
    """The line, measured on particles of given rotations that nothing was learnt from.

    Parameters
    ----------
    floor : variance in deg² that is added.
    factor : of the predicted variance.

    Raises
    ------
    InputError
        If either is negative or not finite, or both are 0.
    """

    floor: float
    factor: float

    def __post_init__(self) -> None:
        """Check both numbers."""
        if not (0 <= self.floor < np.inf and 0 <= self.factor < np.inf and self.floor + self.factor > 0):
            raise InputError(
                f"the calibration is ({self.floor}, {self.factor}); expected a variance and a factor, not negative."
            )

    def expected_deg(self, predicted_deg: FloatArray) -> FloatArray:
        """Expected errors in degrees of predicted ones (N,), at most 180."""
        expected: FloatArray = np.minimum(np.sqrt(self.floor + self.factor * np.asarray(predicted_deg) ** 2), 180.0)
        return expected


def fit_by_spread(errors_deg: FloatArray, spread_deg: FloatArray) -> ErrorCalibration:
    """The line through groups of like spread, both its numbers free: a network's.

    It goes through the groups' mean squares by least relative error, so that a few lost particles do not set it for
    all.
    """
    from scipy.optimize import nnls

    order = np.argsort(spread_deg)
    groups = [rows for rows in np.array_split(order, _SPREAD_GROUPS) if len(rows)]
    squares = np.array([[np.mean(spread_deg[rows] ** 2), np.mean(errors_deg[rows] ** 2)] for rows in groups])
    squares = np.maximum(squares, 1e-6)
    design = np.stack([np.ones(len(squares)), squares[:, 0]], axis=1) / squares[:, 1:]
    floor, factor = nnls(design, np.ones(len(squares)))[0]
    return ErrorCalibration(float(floor), float(factor))


def fit_beyond_noise(errors_deg: FloatArray, noise_deg: FloatArray) -> ErrorCalibration | None:
    """What a template's errors exceed those that the noise leaves by; None if by no more than chance.

    The noise's part has the factor 1 in whatever noise comes, and what the template adds is the floor. Only where
    errors are smaller than expected a factor below 1 takes the floor's place. The squares are weighted as those of
    normal errors; particles that are lost are left out. What few particles show by chance corrects nothing: a
    correction is shrunk to 0 within two standard errors.
    """
    near = errors_deg <= _LOST_DEG
    square, noise = errors_deg[near] ** 2, noise_deg[near] ** 2
    if len(square) < 2:
        return None
    floor, weight = 0.0, np.ones_like(noise)
    for _ in range(_SWEEPS):
        weight = 1 / np.maximum(floor + noise, 1e-6) ** 2
        floor = max(0.0, float((weight * (square - noise)).sum() / weight.sum()))
    ratio, factor = square / noise, 1.0
    if floor > 0:
        floor = _beyond_chance(floor, weight / weight.sum() * (square - noise - floor))
    else:
        factor = 1 + _beyond_chance(float(ratio.mean() - 1), (ratio - ratio.mean()) / len(ratio))
    return None if (floor, factor) == (0.0, 1.0) else ErrorCalibration(floor, factor)


def _beyond_chance(mean: float, shares: FloatArray) -> float:
    """A mean shrunk to 0: wholly within two of its standard errors, less and less beyond.

    Parameters
    ----------
    shares : (N,) what each particle adds to the mean, less what it was to add.
    """
    chance = _CHANCE * float(np.square(shares).sum())
    return mean * max(0.0, 1 - chance / max(mean**2, 1e-12))
