"""Corrections of poses by a person: rotations about a particle's own axes, shifts, and a verdict.

A correcting rotation T is in the particle's own frame and acts from the right, ``R @ T``: rotated by +10° and then by
-10° about one axis, a particle has its first pose again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import CORRECTED, STATUS
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import angle_deg, zyz_to_matrix
from napari_orient.engine.symmetry import Symmetry

Rows = NDArray[Any] | Sequence[int]
"""Rows of particles: indices or a mask."""

FRAMES = ("tomogram", "own")
"""Frames that a shift may be in: the tomogram's, or the particle's own."""

ACCEPTED = "accepted"
REJECTED = "rejected"
VERDICTS = ("", ACCEPTED, REJECTED)

_MATRIX_TOLERANCE = 0.01
"""Largest difference of a typed matrix times its transpose from the identity; entries with three decimals pass."""


def axis_rotation(axis: str, angle: float) -> FloatArray:
    """Rotation by an angle in degrees about the own axis ``x``, ``y`` or ``z``, (3, 3); right-handed."""
    from scipy.spatial.transform import Rotation

    matrix: FloatArray = Rotation.from_euler(axis, angle, degrees=True).as_matrix()
    return matrix


def parse_rotation(text: str) -> FloatArray:
    """Rotation that a person has typed, (3, 3): RELION's rot, tilt and psi, or the nine entries of a matrix by rows.

    Raises
    ------
    InputError
        If it is neither, or the matrix is not a proper rotation.
    """
    numbers = _numbers(text)
    if not np.isfinite(numbers).all() or len(numbers) not in (3, 9):
        raise InputError(f"{text!r} is no rotation; expected rot, tilt and psi in degrees, or a matrix's nine entries.")
    if len(numbers) == 3:
        return np.asarray(zyz_to_matrix(numbers[None])[0])
    return _proper(numbers.reshape(3, 3), text)


def _numbers(text: str) -> FloatArray:
    """Numbers that are typed with blanks, commas or semicolons between; with blanks, a comma may be a decimal one."""
    words = text.replace(";", " ").split()
    decimal = len(words) in (3, 9) and all(word.rstrip(",").count(",") <= 1 for word in words)
    plain = text.replace(";", " ").replace(",", "." if decimal else " ")
    try:
        return np.array([float(word.rstrip(".") if decimal else word) for word in plain.split()])
    except ValueError:
        return np.zeros(0)


def _proper(matrix: FloatArray, text: str) -> FloatArray:
    """Rotation nearest to a matrix typed with few digits."""
    from scipy.spatial.transform import Rotation

    if np.abs(matrix @ matrix.T - np.eye(3)).max() > _MATRIX_TOLERANCE or np.linalg.det(matrix) < 0:
        raise InputError(f"{text!r} is no rotation: its rows are not at right angles, of length 1 and right-handed.")
    nearest: FloatArray = Rotation.from_matrix(matrix).as_matrix()
    return nearest


def rotated(particles: Particles, rows: Rows, rotation: FloatArray) -> Particles:
    """Particles, some of them rotated about their own axes.

    Parameters
    ----------
    rotation : (3, 3) in each particle's own frame; it acts from the right.

    Raises
    ------
    InputError
        If the particles have no orientations.
    """
    from scipy.spatial.transform import Rotation

    rotations = particles.required_rotations().copy()
    # Rounding errors would grow over thousands of small rotations: each product is made a proper rotation again.
    rotations[rows] = Rotation.from_matrix(rotations[rows] @ rotation).as_matrix()
    return particles.replace(rotations=rotations)


def shifted(particles: Particles, rows: Rows, shift: FloatArray, *, frame: str = "tomogram") -> Particles:
    """Particles, some of them shifted by (3,) xyz in Å along the tomogram's axes, or along their own.

    Raises
    ------
    InputError
        If they are to be shifted along their own axes and have no orientations.
    """
    positions = particles.positions.copy()
    step = np.asarray(shift, float)
    positions[rows] += step if frame == "tomogram" else particles.required_rotations()[rows] @ step
    return particles.replace(positions=positions)


def with_status(particles: Particles, rows: Rows, status: str) -> Particles:
    """Particles, some of them with this verdict: accepted, rejected, or empty for none."""
    column = _texts(particles, STATUS).astype(object)
    column[rows] = status
    return particles.replace(extra={**particles.extra, STATUS: column.astype(str)})


def marked_corrected(particles: Particles, rows: Rows, corrected: bool) -> Particles:
    """Particles, some of them marked as corrected by a person, or no longer so."""
    column = _texts(particles, CORRECTED).astype(object)
    column[column == ""] = "0"
    column[rows] = "1" if corrected else "0"
    return particles.replace(extra={**particles.extra, CORRECTED: column.astype(str)})


def confirmed(particles: Particles) -> NDArray[np.bool_]:
    """Mask of the poses that a person confirmed, (N,): accepted ones, and corrected ones that were not rejected."""
    status = _texts(particles, STATUS)
    mask: NDArray[np.bool_] = (status == ACCEPTED) | ((_texts(particles, CORRECTED) == "1") & (status != REJECTED))
    return mask


def _texts(particles: Particles, column: str) -> NDArray[np.str_]:
    found = particles.extra.get(column)
    return np.full(len(particles), "") if found is None else np.asarray(found).astype(str)


def is_symmetry_operation(rotation: FloatArray, group: Symmetry, *, within: float = 0.5) -> bool:
    """Whether a rotation (3, 3), other than the identity, is one of the group's, to ``within`` degrees."""
    if angle_deg(rotation, np.eye(3)) <= within:
        return False
    return bool((angle_deg(group.matrices, rotation) <= within).any())
