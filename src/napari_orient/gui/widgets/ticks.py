"""Round values along the side of a plot."""

from __future__ import annotations

import math

import numpy as np


def round_values(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round values from low to high, about so many, evenly apart; degrees up to 180 by 30."""
    if low == 0 and abs(high - 180) < 1e-6:
        return np.arange(0, 181, 30.0).tolist()
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def decade_values(low: float, high: float) -> list[float]:
    """Powers of ten from low to high; two and five times them too where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    every = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [value for value in every if low * 0.999 <= value <= high * 1.001]


def square_values(high: float) -> list[float]:
    """Round values from 0 to high, about five, evenly apart as square roots."""
    wanted = high * np.array([0.02, 0.1, 0.3, 0.6, 0.95])
    sizes = 10.0 ** np.floor(np.log10(wanted))
    ticks = np.unique(np.maximum(np.round(wanted / sizes), 1) * sizes)
    return [float(value) for value in ticks if value <= high]
