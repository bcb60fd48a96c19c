"""Boxes of RELION's particles: where each was cut and how it was turned, read and written as the list has them.

A particle lies at box centre - A(box) origin, in the pose A(box) A(angles). Its images show the box, so that a list
that names images is written in the same boxes, however its particles were moved and rotated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_orient.engine.io.columns import BOX, BOX_ANGLES, IMAGES
from napari_orient.engine.io.star import number_columns
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import DECIMALS, matrix_to_zyz

ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
SUBTOMOGRAM_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")

_NOT_TURNED = 1e-6
"""Degrees of a box's largest angle up to which it lies along the tomogram's axes: files have six decimals."""


def with_boxes(particles: Particles, centres: FloatArray, angles: FloatArray | None) -> Particles:
    """Particles with columns of the box about each, if they have images; else as they are.

    Parameters
    ----------
    centres : (N, 3) xyz in Å.
    angles : (N, 3) of the boxes, degrees (ZYZ); None where they are not turned.
    """
    if not set(IMAGES) & set(particles.extra):
        return particles
    columns = dict(zip(BOX, centres.T.copy(), strict=True))
    if angles is not None and np.abs(angles).max(initial=0) > _NOT_TURNED:
        columns |= dict(zip(BOX_ANGLES, angles.T.copy(), strict=True))
    return particles.replace(extra={**particles.extra, **columns})


def in_boxes(particles: Particles, frames: FloatArray | None) -> Particles:
    """The particles with their rotations in the frames of their boxes (N, 3, 3), where these are turned."""
    if frames is None:
        return particles
    return particles.replace(rotations=frames.transpose(0, 2, 1) @ particles.required_rotations())


def box_columns(
    particles: Particles, centres: FloatArray | None, frames: FloatArray | None
) -> dict[str, Sequence[str]]:
    """RELION's angles of turned boxes, and its origins, which lead from the centres of boxes to the particles.

    There are no origins where all particles are at the centres of their boxes.
    """
    columns = {} if frames is None else number_columns(SUBTOMOGRAM_ANGLES, matrix_to_zyz(frames))
    if centres is None or not np.round(centres - particles.positions, DECIMALS).any():
        return columns
    inverse = None if frames is None else frames.transpose(0, 2, 1)
    return {**columns, **number_columns(ORIGIN, rotated(inverse, centres - particles.positions))}


def rotated(rotations: FloatArray | None, shifts: FloatArray) -> FloatArray:
    """Shifts (N, 3), each rotated by its rotation (N, 3, 3); as they are where there are none."""
    turned: FloatArray = shifts if rotations is None else np.einsum("nij,nj->ni", rotations, shifts)
    return turned
