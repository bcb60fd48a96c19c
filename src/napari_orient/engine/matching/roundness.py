"""Maps that are nearly round about an axis: which, and how often they repeat in a turn, above their noise.

About such an axis every order fits. Turned about it, a map repeats n times a turn; how far the numbers of no fold
scatter is its noise.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from napari_orient.engine.matching.directions import even_directions, turned_about
from napari_orient.engine.matching.selflikeness import TURNS, Likeness
from napari_orient.engine.particles import FloatArray

ORDERS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
"""The folds that are looked for."""
_ROUND = 0.65
"""Mean likeness over a turn of what counts as round about an axis."""
_CLEARLY = 4.0
"""Deviations by which the repeats of a fold must stand above those of none."""
_DIRECTIONS, _REPEATS = 300, 18
_SOME = 360 * np.array([0.07, 0.16, 0.29, 0.42])
"""Turns of no common fold, in degrees."""


def round_axis(likeness: Likeness) -> FloatArray | None:
    """The direction about which the map is nearly round, (3,) of length 1; None where there is none."""
    grid = even_directions(_DIRECTIONS)
    best = grid[np.mean([likeness.of(turned_about(grid, turn)) for turn in _SOME], axis=0).argmax()]

    def uneven(direction: FloatArray) -> float:
        return -float(likeness.of(turned_about(direction, _SOME)).mean())

    way = {"initial_simplex": best + np.vstack([np.zeros(3), 0.05 * np.eye(3)]), "maxiter": 80, "fatol": 1e-4}
    axis = minimize(uneven, best, method="Nelder-Mead", options=way).x  # type: ignore[call-overload]
    axis = axis / np.linalg.norm(axis)
    return axis if likeness.whole_turn(axis).mean() >= _ROUND else None


def told_folds(likeness: Likeness, axis: FloatArray) -> int:
    """How often the map repeats in a turn about an axis, clearly above its noise; 0 where nothing tells."""
    repeats = np.arange(1, _REPEATS + 1)
    power = np.fft.rfft(likeness.whole_turn(axis)).real[repeats] * 2 / TURNS
    heights = []
    for order in ORDERS:
        own = repeats % order == 0
        heights.append(power[own].sum() / (power[~own].std() * np.sqrt(own.sum())))
    return ORDERS[int(np.argmax(heights))] if max(heights) >= _CLEARLY else 0
