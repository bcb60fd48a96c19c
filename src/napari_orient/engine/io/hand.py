"""The hand of a tomogram: particles of a volume that was mirrored, or turned about x, as programs do to their volumes.

If a tomogram is mirrored by M, its particles are mirror images. The pose of the mirrored map is R' = M R M: it takes
the map, mirrored by M about its own centre, to the mirrored tomogram, since M x = M R M (M y) where x = R y. For the
point reflection M = -1, and R' is R.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import FIRST_POSES, without_images, without_pose_columns
from napari_orient.engine.io.tomograms import GLOBAL, find_extents
from napari_orient.engine.particles import Extent, FloatArray, Particles, shortened

MIRRORS: Mapping[str, FloatArray] = {
    "x": np.diag([-1.0, 1.0, 1.0]),
    "y": np.diag([1.0, -1.0, 1.0]),
    "z": np.diag([1.0, 1.0, -1.0]),
    "point": -np.eye(3),
    "yz": np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
}
"""Reflections of a volume: along an axis, through its centre, and the exchange of y and z (IMOD: clip flipyz)."""

ROTATIONS_ABOUT_X: Mapping[str, FloatArray] = {
    "-90": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "90": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
"""Rotations of a volume about x that keep its hand: -90 is what IMOD's trimvol -rx and clip rotx do."""


def mirrored(particles: Particles, name: str) -> Particles:
    """Particles of the mirrored tomogram, with the poses of the mirrored map.

    Parameters
    ----------
    name : one of `MIRRORS`.

    Raises
    ------
    InputError
        If the reflection, or the size of a tomogram, is unknown.
    """
    if name not in MIRRORS:
        raise InputError(f"mirror {name!r} is unknown; expected one of {', '.join(MIRRORS)}.")
    how = {"point": "through its centre", "yz": "with y and z exchanged"}.get(name, f"along {name}")
    moved = _moved(particles, MIRRORS[name], map_matrix=MIRRORS[name])
    note = f"Tomogram and poses are mirrored {how}: the hand has changed. Poses are those of the map mirrored likewise."
    return moved.replace(notes=(*moved.notes, note))


def rotated_about_x(particles: Particles, name: str) -> Particles:
    """Particles of the tomogram rotated about x by this many degrees, ``"-90"`` or ``"90"``; the hand stays.

    Raises
    ------
    InputError
        If the angle is another, or the size of a tomogram is unknown.
    """
    if name not in ROTATIONS_ABOUT_X:
        raise InputError(f"rotation {name!r} about x is unknown; expected one of {', '.join(ROTATIONS_ABOUT_X)}.")
    moved = _moved(particles, ROTATIONS_ABOUT_X[name], map_matrix=np.eye(3))
    note = f"Tomogram and poses are rotated by {name}° about x; the hand is as it was."
    return moved.replace(notes=(*moved.notes, note))


def _moved(particles: Particles, matrix: FloatArray, *, map_matrix: FloatArray) -> Particles:
    """Particles of the tomogram moved by the matrix, with the poses of the map moved by ``map_matrix``."""
    particles = without_pose_columns(without_images(particles, "they show the tilt series as it was"))
    extents = find_extents(particles.tomogram_names, [particles.extents])
    unknown = [name or "(no name)" for name in particles.tomogram_names if name not in extents]
    if unknown:
        raise InputError(
            f"the size of tomogram {shortened(unknown, most=3)} is unknown, and a volume is mirrored about its centre. "
            "Give the tomogram (--tomogram), or RELION's tomograms.star (--tomograms-star)."
        )
    names = [str(name) for name in particles.tomogram]
    middle = {name: _middle(extent) for name, extent in extents.items()}
    after = {name: _moved_extent(extent, matrix) for name, extent in extents.items()}
    before_centre = np.array([middle[name] for name in names])
    after_centre = np.array([_middle(after[name]) for name in names])
    return particles.replace(
        positions=(particles.positions - before_centre) @ matrix.T + after_centre,
        rotations=None if particles.rotations is None else matrix @ particles.rotations @ map_matrix,
        extents={**particles.extents, **after},
        blocks={name: table for name, table in particles.blocks.items() if name not in (GLOBAL, FIRST_POSES)},
    )


def _middle(extent: Extent) -> FloatArray:
    """Point that stays in place when the volume's array is reversed, (3,) xyz in Å."""
    return (np.asarray(extent.size, float) - 1) / 2 * extent.voxel_size


def _moved_extent(extent: Extent, matrix: FloatArray) -> Extent:
    x, y, z = np.abs(matrix @ np.asarray(extent.size, float)).round().astype(int).tolist()
    return Extent((x, y, z), extent.voxel_size)
