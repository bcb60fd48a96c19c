"""Ramps: a gradient of density across a tomogram, as the plane that fits a part of it best.

It is no density of a particle. The ends of a wide cube pass for outliers for it, and windowed it leaks, as what is
coarse does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]

_LEAST_RAMP = 0.2
"""Share of a part's variance from which its plane is a ramp of the tomogram. One of 10 standard deviations across 220
voxels holds 0.3 of a patch of 48; taken out of every patch, planes cost proteasomes 0.3 of 3.1 degrees. Patches of
simulated tomograms without a ramp reach 0.08 (plain, cell, CTF at 3.5 µm; seeds 60 to 62)."""


def ramp_in(block: NDArray[Any]) -> Block | None:
    """The ramp in a part (Z, Y, X) of a tomogram, of mean 0; None if there is none. What is no number is left out."""
    values = np.asarray(block, np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    values = np.where(finite, values - values[finite].mean(dtype=np.float64), 0).astype(np.float32)
    return ramp_of(values, values.std())


def ramp_of(centred: Block, deviation: np.float32) -> Block | None:
    """The plane that fits a part (Z, Y, X) of mean 0 best by least squares; None if it is no ramp."""
    along_z, beneath = plane_means(centred), centred.mean(axis=0)
    # Lines about the middle are orthogonal to one another: each slope is a regression of its own, and what the plane
    # holds of the variance is the sum over the three.
    profiles = (along_z, beneath.mean(axis=1), beneath.mean(axis=0))
    lines = [_line_about_middle(len(item)) for item in profiles]
    slopes = [float(np.dot(line, item) / np.dot(line, line)) for line, item in zip(lines, profiles, strict=True)]
    held = sum(slope**2 * float(np.dot(line, line)) / len(line) for slope, line in zip(slopes, lines, strict=True))
    if held <= _LEAST_RAMP * float(deviation) ** 2:
        return None
    z, y, x = (np.float32(slope) * line for slope, line in zip(slopes, lines, strict=True))
    return np.asarray(z[:, None, None] + y[:, None] + x)


def plane_means(block: Block) -> Block:
    """Mean of each plane along z, (n,). Not NumPy's, which takes three times as long; as many threads, as many bits."""
    import torch

    return np.asarray(torch.from_numpy(block).mean((1, 2)).numpy())


@lru_cache(maxsize=32)
def _line_about_middle(count: int) -> Block:
    """Places of voxels along a line from its middle, (n,)."""
    return np.arange(count, dtype=np.float32) - np.float32((count - 1) / 2)
