"""Poses in another frame of the reference, and one row for every symmetric copy of a particle.

RELION fixes the axes of a point group (``relion_refine --print_symmetry_ops``): n-fold on z and two-fold on x for Cn
and Dn; three-fold on z for T; four-fold on z for O; for I (the same as I2) two-fold on z with a five-fold at
(0.526, 0, 0.851).
"""

from __future__ import annotations

import numpy as np

from napari_orient.engine.particles import Particles
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry

COPY_COLUMN = "orientSymmetryCopy"
"""Column of an expanded list: the number of the symmetric copy, from 1, which is the pose as it was."""

_QUARTER_ABOUT_Z = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
_THREE_FOLD = np.ones(3) / np.sqrt(3)
"""A three-fold axis of T in the group's own frame, whose two-fold axes are x, y and z."""


def relion_frame(group: Symmetry) -> FloatArray:
    """The frame (3, 3) that RELION expects of a group: columns are its x, y, z in the reference frame."""
    frame: FloatArray = group.frame @ _RELION_FRAMES.get(group.point_group.upper(), np.eye(3))
    return frame


def _tetrahedral() -> FloatArray:
    """RELION's T, in the frame of ours: z along a three-fold axis, a two-fold one in the plane of y and z."""
    two_fold = np.array([0.0, 0, 1])
    y = two_fold - (two_fold @ _THREE_FOLD) * _THREE_FOLD
    y /= np.linalg.norm(y)
    return np.stack([np.cross(y, _THREE_FOLD), y, _THREE_FOLD], axis=1)


_RELION_FRAMES = {"T": _tetrahedral(), "I": _QUARTER_ABOUT_Z}


def in_frame(particles: Particles, frame: FloatArray, centre: FloatArray) -> Particles:
    """The same particles in a new reference frame.

    Parameters
    ----------
    frame : (3, 3) columns are the new axes in the old frame.
    centre : (3,) Å in the old frame, where the new origin is.
    """
    rotations = particles.required_rotations()
    return particles.replace(positions=particles.positions + rotations @ centre, rotations=rotations @ frame)


def relion_symmetry(group: Symmetry) -> Symmetry:
    """The group about the axes that RELION expects, which is how its matrices are in `relion_frame`."""
    frame = relion_frame(group)
    return Symmetry(group.point_group, frame.T @ group.matrices @ frame, frame.T @ group.frame)


def expanded(particles: Particles, group: Symmetry) -> Particles:
    """Every particle once for each rotation of a group, N · G rows: copies follow each other, the pose given first.

    As ``relion_particle_symmetry_expand`` does; a column numbers the copies.

    Raises
    ------
    InputError
        If the particles have no rotations.
    """
    rotations = particles.required_rotations()
    order = np.argsort(-np.trace(group.matrices, axis1=1, axis2=2), kind="stable")
    copies = (rotations[:, None] @ group.matrices[order]).reshape(-1, 3, 3)
    rows = np.repeat(np.arange(len(particles)), len(group))
    number = np.tile(np.arange(1, len(group) + 1), len(particles)).astype(str)
    more = particles.take(rows)
    return more.replace(rotations=copies, extra={**more.extra, COPY_COLUMN: number})
