"""The rotation group SO(3) on NumPy arrays: distances, means, even and random rotations, Euler angles, quaternions.

Matrices are active, reference frame -> tomogram frame, acting on xyz columns. `representations` has what networks and
fits need of rotations: torch tensors with gradients. Euler angles are RELION's rot, tilt, psi in degrees; they and
quaternions are canonical, so that a rotation that was read is written in the same digits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError

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


def are_proper(matrices: FloatArray) -> NDArray[np.bool_]:
    """Which matrices (N, 3, 3) are proper rotations, (N,): finite, orthonormal to 1e-3, and no reflections."""
    finite = np.asarray(np.isfinite(matrices)).all(axis=(1, 2), keepdims=True)
    matrices = matrices if finite.all() else np.where(finite, matrices, 0.0)
    # For many small matrices sums are five times as quick as products and determinants.
    off = np.abs(np.einsum("nij,nkj->nik", matrices, matrices) - np.eye(3)).max(axis=(1, 2))
    determinant = np.einsum("ni,ni->n", np.cross(matrices[:, 0], matrices[:, 1]), matrices[:, 2])
    return np.asarray((off < 1e-3) & (determinant > 0))


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


# --- Euler angles and quaternions, as files and people write them ------------------------------------------------

DECIMALS = 6
"""Decimals of numbers in written files: angles in degrees, positions in Å, shares."""

_BLOCK_ROWS = 16_384
"""Rotations that are made of angles, or angles of rotations, together: memory, not the result; chosen."""

_UPRIGHT_DEG = 1e-4
"""Degrees from tilt 0° or 180° within which rot and psi are rotations about one axis; rot alone is written for both.
A hundred times the last decimal, so that rounding cannot move a particle across."""


def zyz_to_matrix(angles_deg: FloatArray) -> FloatArray:
    """Rotations, (N, 3, 3), of RELION's rot, tilt, psi (N, 3) in degrees: the inverse of intrinsic ZYZ."""
    from scipy.spatial.transform import Rotation

    angles_deg = np.asarray(angles_deg, float)
    matrices = np.empty((len(angles_deg), 3, 3))
    for first in range(0, len(angles_deg), _BLOCK_ROWS):
        rows = slice(first, first + _BLOCK_ROWS)
        matrices[rows] = Rotation.from_euler("ZYZ", angles_deg[rows], degrees=True).inv().as_matrix()
    return matrices


def matrix_to_zyz(matrices: FloatArray) -> FloatArray:
    """RELION's rot, tilt, psi, (N, 3) in degrees to six decimals: rot and psi in (-180, 180], tilt in [0, 180].

    psi is 0 where tilt is 0° or 180°. Computed from the matrix, for SciPy warns once for every such particle.
    """
    matrices = np.asarray(matrices, float)
    angles = np.empty((len(matrices), 3))
    for first in range(0, len(matrices), _BLOCK_ROWS):
        angles[first : first + _BLOCK_ROWS] = _zyz(matrices[first : first + _BLOCK_ROWS])
    return angles


def _zyz(r: FloatArray) -> FloatArray:
    tilt = np.degrees(np.arctan2(np.hypot(r[:, 2, 0], r[:, 2, 1]), r[:, 2, 2])).round(DECIMALS)
    rot = np.degrees(np.arctan2(r[:, 2, 1], r[:, 2, 0]))
    psi = np.degrees(np.arctan2(r[:, 1, 2], -r[:, 0, 2]))
    upright = (tilt < _UPRIGHT_DEG) | (tilt > 180 - _UPRIGHT_DEG)
    rot = np.where(upright, np.degrees(np.arctan2(-r[:, 1, 0], r[:, 1, 1])), rot)
    tilt = np.where(upright, np.where(tilt > 90, 180.0, 0.0), tilt)
    return np.stack([_wrapped(rot), tilt, np.where(upright, 0.0, _wrapped(psi))], axis=1)


def zxz_to_matrix(angles_deg: FloatArray) -> FloatArray:
    """Rotations Rz(c) Rx(b) Rz(a), (N, 3, 3), of angles a, b, c (N, 3) in degrees about fixed axes z, x, z.

    AV3, TOM and STOPGAP have these as phi, theta, psi; Dynamo's tdrot, tilt, narot give the inverse.
    """
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("zxz", angles_deg, degrees=True).as_matrix()


def matrix_to_zxz(matrices: FloatArray) -> FloatArray:
    """Angles a, b, c about fixed axes z, x, z, (N, 3) in degrees to six decimals: the inverse of `zxz_to_matrix`.

    a and c are in (-180, 180], b in [0, 180]; c is 0 where b is 0° or 180°.
    """
    r = np.asarray(matrices, float)
    b = np.degrees(np.arctan2(np.hypot(r[:, 2, 0], r[:, 2, 1]), r[:, 2, 2])).round(DECIMALS)
    a = np.degrees(np.arctan2(r[:, 2, 0], r[:, 2, 1]))
    c = np.degrees(np.arctan2(r[:, 0, 2], -r[:, 1, 2]))
    upright = (b < _UPRIGHT_DEG) | (b > 180 - _UPRIGHT_DEG)
    a = np.where(upright, np.degrees(np.arctan2(-r[:, 0, 1], r[:, 0, 0])), a)
    b = np.where(upright, np.where(b > 90, 180.0, 0.0), b)
    return np.stack([_wrapped(a), b, np.where(upright, 0.0, _wrapped(c))], axis=1)


def wxyz_to_matrix(quaternions: FloatArray, *, where: str) -> FloatArray:
    """Rotations, (N, 3, 3), of unit quaternions (N, 4), the scalar part first.

    Raises
    ------
    InputError
        If a quaternion's length is not 1 (to 1 %).
    """
    from scipy.spatial.transform import Rotation

    length = np.linalg.norm(quaternions, axis=1)
    wrong = np.abs(length - 1) > 0.01
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{where}: {int(wrong.sum())} of {len(length)} quaternions do not have length 1 (first: row {row + 1}, "
            f"{length[row]:.3g}). Are these columns orientations?"
        )
    return Rotation.from_quat(quaternions, scalar_first=True).as_matrix()


def matrix_to_wxyz(matrices: FloatArray) -> FloatArray:
    """Unit quaternions, (N, 4), of rotations (N, 3, 3), the scalar part first and not negative."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrices).as_quat(canonical=True, scalar_first=True)


def _wrapped(angle: FloatArray) -> FloatArray:
    rounded = angle.round(DECIMALS) + 0.0
    return np.where(rounded <= -180, 180.0, rounded)
