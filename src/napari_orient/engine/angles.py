"""Rotations as files and people write them: ZYZ Euler angles in degrees (rot, tilt, psi) and quaternions w, x, y, z.

All functions take and return whole columns. The frames are those of `Particles`: matrices are active, reference frame
-> tomogram frame. Angles and quaternions are canonical, so that a rotation that was read is written in the same digits.
SciPy, 0.3 s to import, waits for the first call.
"""

from __future__ import annotations

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.rotations import FloatArray

DECIMALS = 6
"""Decimals of numbers in written files: angles in degrees, positions in Å, shares."""

_UPRIGHT_DEG = 1e-4
"""Degrees from tilt 0° or 180° within which rot and psi are rotations about one axis; rot alone is written for both.
A hundred times the last decimal, so that rounding cannot move a particle across."""


def zyz_to_matrix(angles_deg: FloatArray) -> FloatArray:
    """Rotations, (N, 3, 3), of RELION's rot, tilt, psi (N, 3) in degrees: the inverse of intrinsic ZYZ."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("ZYZ", angles_deg, degrees=True).inv().as_matrix()


def matrix_to_zyz(matrices: FloatArray) -> FloatArray:
    """RELION's rot, tilt, psi, (N, 3) in degrees to six decimals: rot and psi in (-180, 180], tilt in [0, 180].

    psi is 0 where tilt is 0° or 180°. Computed from the matrix, for SciPy warns once for every such particle.
    """
    r = np.asarray(matrices, float)
    tilt = np.degrees(np.arctan2(np.hypot(r[:, 2, 0], r[:, 2, 1]), r[:, 2, 2])).round(DECIMALS)
    rot = np.degrees(np.arctan2(r[:, 2, 1], r[:, 2, 0]))
    psi = np.degrees(np.arctan2(r[:, 1, 2], -r[:, 0, 2]))
    upright = (tilt < _UPRIGHT_DEG) | (tilt > 180 - _UPRIGHT_DEG)
    rot = np.where(upright, np.degrees(np.arctan2(-r[:, 1, 0], r[:, 1, 1])), rot)
    tilt = np.where(upright, np.where(tilt > 90, 180.0, 0.0), tilt)
    return np.stack([_wrapped(rot), tilt, np.where(upright, 0.0, _wrapped(psi))], axis=1)


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
