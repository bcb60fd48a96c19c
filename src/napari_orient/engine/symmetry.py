"""Symmetry groups of a reference: rotations, axes, written form (``D7@z@x``), and distances between poses modulo them.

A group acts from the right: ``R`` and ``R @ S`` are the same pose for every rotation S of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import option
from napari_orient.engine.rotations import FloatArray, angle_deg

AUTO = "auto"
"""What is given in the place of a group's name to have one proposed."""


def symmetry_option() -> Any:
    """A field of an Options dataclass for the written form of a particle's group."""
    words = "symmetry of the particle, with its axes where they are not z and x: D7@z@x; of a template also auto"
    return option("C1", help=words)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A rotation group in a reference's frame.

    Parameters
    ----------
    name : written form, as `symmetry` reads it: ``D7``, or ``D7@z@x`` with the directions of its axes.
    matrices : (G, 3, 3) its rotations in the reference frame, the identity among them.
    frame : (3, 3) columns are the group's own axes x, y, z in the reference frame.
    """

    name: str
    matrices: FloatArray
    frame: FloatArray

    def __len__(self) -> int:
        return len(self.matrices)

    def __repr__(self) -> str:
        return f"Symmetry({self.name}: {len(self)} rotation{'' if len(self) == 1 else 's'})"

    @property
    def point_group(self) -> str:
        """Schoenflies symbol without directions: ``D7``."""
        return _split(self.name)[0]

    @property
    def main_axis(self) -> FloatArray:
        """Axis of the highest order, (3,) xyz in the reference frame; z of the group's frame for Cn and Dn."""
        axis: FloatArray = self.frame[:, 2]
        return axis

    def rotated(self, rotation: FloatArray) -> Symmetry:
        """The same group in another reference frame, in which a direction d becomes ``rotation @ d``."""
        if len(self) == 1:
            return self
        x, _, z = (rotation @ self.frame).T
        return symmetry(written_form(self.point_group, z, x))

    def mirrored(self) -> Symmetry:
        """The group of the mirror image in the plane x = 0 of the reference frame."""
        if "@" not in self.name:
            return self
        z, x = (self.frame[:, column] * (-1.0, 1.0, 1.0) for column in (2, 0))
        return symmetry(written_form(self.point_group, z, x))

    def aligned(self) -> Symmetry:
        """The same point group in a reference frame along its own axes."""
        return symmetry(self.point_group)


_MOST_FOLD = 360
"""Highest order of a cyclic axis: rings of secretion systems and vaults have up to some hundred; each rotation of the
group costs memory in every comparison of poses."""


def symmetry(text: str) -> Symmetry:
    """Group of a written form: ``C1``, ``C7``, ``D7``, ``T``, ``O``, ``I``, perhaps with the directions of its axes.

    In the group's own frame, the axis of Cn is z; Dn has a two-fold axis along x as well; T and O have two-fold (O:
    four-fold) axes along x, y and z; I has two-fold axes along x, y and z, and five-fold axes in the planes of these.
    ``D7@-0.64,0.76,0.10`` puts z along that direction of the reference frame, and
    ``D7@-0.64,0.76,0.10@-0.13,0.02,-0.99`` also x along (the normal part of) the second.

    Raises
    ------
    InputError
        If it is no text, the group is unknown or a direction is not three numbers.
    """
    if not isinstance(text, str):
        raise InputError(f"a symmetry is given as {type(text).__name__}; expected a text such as C1 or D7@z@x.")
    point_group, *directions = _split(text)
    frame = _frame([direction(item) for item in directions])
    own = _own_matrices(point_group)
    return Symmetry("@".join([point_group.upper(), *directions]), frame @ own @ frame.T, frame)


def written_form(point_group: str, *directions: FloatArray) -> str:
    """Written form of a point group with its axis z, and perhaps x, along directions (3,) of the reference frame."""
    return "@".join([point_group, *map(direction_text, directions)])


def direction_text(direction: FloatArray) -> str:
    """Direction (3,) as a written form holds it: ``-0.6373,0.7642,0.0994``."""
    return ",".join(f"{value:.4f}" for value in direction + 0.0)


def _split(text: str) -> list[str]:
    """Point group and directions of a written form."""
    return text.strip().split("@")


def _own_matrices(point_group: str) -> FloatArray:
    name = point_group.upper()
    order = name[1:]
    is_axial = name[:1] in ("C", "D") and order.isascii() and order.isdigit() and len(order) <= len(str(_MOST_FOLD))
    if name not in ("T", "O", "I") and not (is_axial and 0 < int(order) <= _MOST_FOLD):
        raise InputError(
            f"symmetry {point_group!r} is unknown; expected C1, Cn, Dn, T, O or I, such as D7, n of at most "
            f"{_MOST_FOLD}."
        )
    if name[0] in "CD":
        return _cyclic(int(name[1:])) if name[0] == "C" else _dihedral(int(name[1:]))
    # SciPy takes a third of a second to import, and few particles are polyhedral.
    from scipy.spatial.transform import Rotation

    group: Any = name
    return Rotation.create_group(group).as_matrix()


def _cyclic(order: int) -> FloatArray:
    """Rotations about z by whole multiples of a full turn / order, (order, 3, 3)."""
    angle = 2 * np.pi / order * np.arange(order)
    matrices = np.tile(np.eye(3), (order, 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(angle)
    matrices[:, 1, 0] = np.sin(angle)
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    return matrices


def _dihedral(order: int) -> FloatArray:
    """Rotations of the cyclic group, and as many half-turns about axes normal to z, the first x, (2 order, 3, 3)."""
    cyclic = _cyclic(order)
    return np.concatenate([cyclic, cyclic @ np.diag([1.0, -1.0, -1.0])])


def direction(text: str) -> FloatArray:
    """Direction (3,) of length 1 that a written form names: ``-0.64,0.76,0.10``.

    Raises
    ------
    InputError
        If it is not three numbers, or they are all 0.
    """
    try:
        vector = np.array([float(number) for number in text.split(",")])
    except ValueError:
        vector = np.zeros(0)
    if vector.shape != (3,) or not np.isfinite(vector).all() or not vector.any():
        raise InputError(f"{text!r} is not a direction; expected three numbers such as -0.64,0.76,0.10.")
    unit: FloatArray = vector / np.linalg.norm(vector)
    return unit


def _frame(directions: Sequence[FloatArray]) -> FloatArray:
    if not directions:
        return np.eye(3)
    z = directions[0]
    hint = directions[1] if len(directions) > 1 else np.eye(3)[np.abs(z).argmin()]
    x = hint - (hint @ z) * z
    if np.linalg.norm(x) < 1e-3:
        raise InputError("the symmetry's two directions are parallel; expected the second across the first.")
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def symmetric_angle_deg(first: FloatArray, second: FloatArray, group: Symmetry) -> FloatArray:
    """Least geodesic angle, in degrees, between ``first @ S`` and ``second`` over the group's rotations S."""
    if len(group) == 1:
        return angle_deg(first, second)
    return angle_deg(nearest_copy(first, second, group), second)


def nearest_copy(rotations: FloatArray, targets: FloatArray, group: Symmetry) -> FloatArray:
    """Of the symmetric copies ``R @ S`` of each rotation, the one nearest to its target, (..., 3, 3)."""
    between = np.swapaxes(rotations, -1, -2) @ targets
    best = np.einsum("...ij,gij->...g", between, group.matrices).argmax(-1)
    copy: FloatArray = rotations @ group.matrices[best]
    return copy


def axis_angle_deg(first: FloatArray, second: FloatArray, group: Symmetry) -> FloatArray:
    """Angle, in degrees, between the group's main axes of two poses; in Dn and higher an axis has no direction."""
    axis = group.main_axis
    cosine = np.einsum("...i,...i->...", first @ axis, second @ axis)
    if (np.abs(group.matrices @ axis + axis).max(axis=-1) < 1e-6).any():
        cosine = np.abs(cosine)
    angle: FloatArray = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angle


C1 = symmetry("C1")
"""No symmetry: one rotation."""
