"""The rotation group SO(3) on NumPy arrays: distances, means, and even and random rotations.

Matrices are active, reference frame -> tomogram frame, acting on xyz columns. `representations` has what networks and
fits need of rotations: torch tensors with gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

PAPER_20_DEG = math.degrees(math.acos((3 * math.cos(math.radians(20)) - 1) / 2))
"""Geodesic angle, 24.56°, of what the paper's released code counts as 20°: it takes ``acos(tr(R1ᵀ R2) / 3)``."""

# --- distances and probabilities ---------------------------------------------------------------------------------


def angle_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """Geodesic angle between rotations (..., 3, 3), in degrees: that of ``firstᵀ @ second``."""
    # From the chord, which keeps its digits near 0 where the trace loses them; near 180° the trace is as good.
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / np.sqrt(8)
    trace = np.einsum("...ij,...ij->...", first, second)
    sine = np.clip(chord, 0, 1)
    cosine = np.sqrt(np.clip((1 + trace) / 4, 0, 1))
    angle: FloatArray = np.degrees(2 * np.arctan2(sine, cosine))
    return angle


def chance_within(angle: float) -> float:
    """Probability that a random rotation lies within this many degrees X of another: ``(X − sin X) / π``."""
    radians = math.radians(angle)
    return (radians - math.sin(radians)) / math.pi


def within_from_rms(rms_deg: FloatArray, angle: float) -> FloatArray:
    """Probability of an error within ``angle`` degrees, for errors normal about three axes with this rms in all."""
    # The chi distribution with three degrees of freedom.
    bound = angle / np.maximum(np.asarray(rms_deg, float) / math.sqrt(3), 1e-6)
    error_function = np.frompyfunc(math.erf, 1, 1)(bound / math.sqrt(2))
    within: FloatArray = np.asarray(error_function, float) - math.sqrt(2 / math.pi) * bound * np.exp(-(bound**2) / 2)
    return within


def mean_rotation(rotations: FloatArray) -> FloatArray:
    """Chordal mean of rotations (..., K, 3, 3) over K, (..., 3, 3): the rotation nearest to their average matrix."""
    u, _, vt = np.linalg.svd(np.asarray(rotations, float).mean(axis=-3))
    # The vector of the smallest singular value changes sign where the product would be a reflection.
    u[..., 2] *= np.linalg.det(u @ vt)[..., None].round()
    nearest: FloatArray = u @ vt
    return nearest


# --- even and random rotations ------------------------------------------------------------------------------------


def random_rotations(count: int, rng: np.random.Generator) -> FloatArray:
    """Uniform random rotations, (count, 3, 3), from uniform unit quaternions (the paper's Algorithm S2)."""
    return _from_quaternions(rng.normal(size=(count, 4)))


def even_rotations(count: int) -> FloatArray:
    """An even grid of any size on SO(3), (count, 3, 3): the super-Fibonacci spiral of Alexa, CVPR 2022."""
    if count <= 0:
        return np.zeros((0, 3, 3))
    steps = np.arange(count) + 0.5
    radius, other = np.sqrt(steps / count), np.sqrt(1 - steps / count)
    # The two irrational frequencies of the spiral: sqrt 2, and the real root of x⁴ = x + 4 near 1.53.
    alpha = 2 * np.pi * steps / math.sqrt(2)
    beta = 2 * np.pi * steps / 1.533751168755204288118041
    quaternions = np.stack(
        [radius * np.sin(alpha), radius * np.cos(alpha), other * np.sin(beta), other * np.cos(beta)], axis=1
    )
    return _from_quaternions(quaternions)


def _from_quaternions(quaternions: FloatArray) -> FloatArray:
    """Rotations (N, 3, 3) of quaternions (N, 4), x, y, z, w, of any length but 0."""
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows, float), -1, 0)


HALF_TURNS: FloatArray = np.array(
    [np.diag(signs) for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))], float
)
"""Identity and half-turns about x, y and z, (4, 3, 3): the rotations that map a missing wedge onto itself."""
