"""Poses in another frame of the reference, symmetric copies, and particles of a volume that was mirrored or rotated.

RELION fixes the axes of a point group (``relion_refine --print_symmetry_ops``): n-fold on z and two-fold on x for Cn
and Dn; three-fold on z for T; four-fold on z for O; for I (the same as I2) two-fold on z with a five-fold at
(0.526, 0, 0.851).

If a tomogram is mirrored by M, its particles are mirror images. The pose of the mirrored map is R' = M R M: it takes
the map, mirrored by M about its own centre, to the mirrored tomogram, since M x = M R M (M y) where x = R y. For the
point reflection M = -1, and R' is R.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import FIRST_POSES, without_images, without_pose_columns
from napari_orient.engine.io.tomograms import GLOBAL, extents_table, find_extents, table_extents
from napari_orient.engine.particles import Extent, FloatArray, Particles, shortened
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


# --- frame of the tomogram: its hand ----------------------------------------------------------------------------------

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
        blocks=_moved_tables(particles.blocks, matrix),
    )


def _moved_tables(
    blocks: Mapping[str, Mapping[str, Sequence[str]]], matrix: FloatArray
) -> dict[str, Mapping[str, Sequence[str]]]:
    """A list's tables; of that of tomograms the moved sizes alone, for its files show the volumes before."""
    kept: dict[str, Mapping[str, Sequence[str]]] = {
        name: table for name, table in blocks.items() if name not in (GLOBAL, FIRST_POSES)
    }
    sizes = table_extents(blocks.get(GLOBAL, {}), where=f"data_{GLOBAL}")
    moved = {name: _moved_extent(extent, matrix) for name, extent in sizes.items()}
    return {**kept, GLOBAL: extents_table(moved)} if moved else kept


def _middle(extent: Extent) -> FloatArray:
    """Point that stays in place when the volume's array is reversed, (3,) xyz in Å."""
    return (np.asarray(extent.size, float) - 1) / 2 * extent.voxel_size


def _moved_extent(extent: Extent, matrix: FloatArray) -> Extent:
    x, y, z = np.abs(matrix @ np.asarray(extent.size, float)).round().astype(int).tolist()
    return Extent((x, y, z), extent.voxel_size)
