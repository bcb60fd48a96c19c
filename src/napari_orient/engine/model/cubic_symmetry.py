"""Cubic groups that a map has: T, O or I about an axis that it is known to have, from its self-correlation.

Each of these groups is determined by one axis of its highest order (3, 4 or 5) and an angle about it. All angles of one
step are tried, and the best is refined together with the axis and the point where all axes meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from napari_orient.engine.model.self_correlation import SelfCorrelation, minimum, rotations_about
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray, angle_deg
from napari_orient.engine.streams import Work
from napari_orient.engine.symmetry import Symmetry, symmetry, written_form

_GROUPS = {3: "T", 4: "O", 5: "I"}
"""The cubic group whose axes of highest order are of an order."""
_STEP_DEG = 3.0
"""Step of the angle about the main axis that is tried; a map of ten resolution elements a radius changes within 6."""
_UPRIGHT_DEG = 0.5
"""Angle within which a group's axes count as x, y and z, and need no directions in its name."""


@dataclass(frozen=True, eq=False)
class CubicSymmetry:
    """A cubic group of a map.

    Parameters
    ----------
    correlation : least mean correlation of the map with itself, over the group's rotations by one and the same angle.
    """

    group: Symmetry
    correlation: float

    @property
    def words(self) -> str:
        """What was found, in a line."""
        name, count = self.group.point_group, len(self.group)
        copies = f"its copies in the {count} rotations of {name}"
        return f"Cubic: the map correlates to {min(self.correlation, 1):.3f} with {copies}"


def search_cubic(
    coarse: SelfCorrelation, fine: SelfCorrelation, axis: FloatArray, order: int, *, least: float
) -> Work[CubicSymmetry | None]:
    """The cubic group of a map about an axis (3,) of an order, where its copies correlate well enough; else None.

    Parameters
    ----------
    coarse, fine : the map's self-correlation at few and at many frequencies.
    least : correlation, 0 to 1, that rotations of every angle in the group must reach.
    """
    if order not in _GROUPS:
        return None
    name = _GROUPS[order]
    own = symmetry(name)
    start = _frame_about(axis, _axis_of_order(own, order))
    others = own.matrices[1:]

    def correlation_in(frame: FloatArray, by: SelfCorrelation, about: FloatArray | None = None) -> float:
        return float(by.at(frame @ others @ frame.T, about=about).mean())

    angles = np.arange(0.0, 360 / order, _STEP_DEG)
    tried = []
    for rotation in rotations_about(axis, angles):
        tried.append(correlation_in(rotation @ start, coarse))
        yield
    start = rotations_about(axis, angles[int(np.argmax(tried))])[0] @ start

    def frame_at(place: FloatArray) -> FloatArray:
        moved: FloatArray = rotvec_to_matrix(torch.from_numpy(place[:3] / fine.radius)).numpy() @ start
        return moved

    # Å, of the point and of what a rotation moves at the map's rim.
    def loss(place: FloatArray) -> float:
        return -correlation_in(frame_at(place), fine, place[3:])

    place = minimum(loss, np.zeros(6), step=1.0, xatol=0.02, fatol=1e-7, maxiter=600)
    yield
    frame = frame_at(place)
    found = _least_over_angles(fine.at(frame @ others @ frame.T, about=place[3:]), others)
    return CubicSymmetry(_named(name, frame), found) if found >= least else None


def _axis_of_order(group: Symmetry, order: int) -> FloatArray:
    """Direction (3,) of an axis of an order in a group's own frame."""
    from scipy.spatial.transform import Rotation

    angles = angle_deg(group.matrices, np.eye(3))
    rotvec = Rotation.from_matrix(group.matrices[int(np.abs(angles - 360 / order).argmin())]).as_rotvec()
    unit: FloatArray = rotvec / np.linalg.norm(rotvec)
    return unit


def _frame_about(axis: FloatArray, own_axis: FloatArray) -> FloatArray:
    """A frame (3, 3) of the group in which its own axis lies along a direction of the map."""
    from scipy.spatial.transform import Rotation

    frame: FloatArray = Rotation.align_vectors(axis[None], own_axis[None])[0].as_matrix()
    return frame


def _least_over_angles(correlation: FloatArray, matrices: FloatArray) -> float:
    """The least, over rotations by one angle, of their mean correlation."""
    angles = np.rint(angle_deg(matrices, np.eye(3)))
    return min(float(correlation[angles == angle].mean()) for angle in np.unique(angles))


def _named(name: str, frame: FloatArray) -> Symmetry:
    """The group with its directions, which are left out where they are the map's axes."""
    upright = symmetry(name)
    # Copies of the frame under the group are the same group.
    nearest = min(float(np.min(angle_deg(frame @ upright.matrices, turned))) for turned in _normaliser(name))
    if nearest < _UPRIGHT_DEG:
        return upright
    return symmetry(written_form(name, frame[:, 2], frame[:, 0]))


def _normaliser(name: str) -> FloatArray:
    """Rotations of the frame after which the group is the same, beyond its own: a quarter-turn, of T."""
    quarter = rotations_about(np.array([0.0, 0.0, 1.0]), np.array([0.0, 90.0]))
    return quarter if name == "T" else quarter[:1]
