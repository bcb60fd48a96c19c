"""The rotation group SO(3) on NumPy arrays: symmetry groups, distances, means, and even and random rotations.

Matrices are active, reference frame -> tomogram frame, acting on xyz columns. `representations` has what networks and
fits need of rotations: torch tensors with gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError

FloatArray = NDArray[np.floating[Any]]

PAPER_20_DEG = math.degrees(math.acos((3 * math.cos(math.radians(20)) - 1) / 2))
"""True angle of what the paper's released code counts as 20°: 24.56°."""

# --- symmetry groups --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A rotation group of a reference: its name and its (G, 3, 3) rotations in the reference frame.

    They act from the right: ``R`` and ``R @ S`` are the same pose. ``frame`` columns are the group's own axes.
    """

    name: str
    matrices: FloatArray
    frame: FloatArray

    def __len__(self) -> int:
        return len(self.matrices)

    @property
    def main_axis(self) -> FloatArray:
        """The highest-fold axis, (3,) xyz in the reference frame; z of the group's frame for Cn and Dn."""
        axis: FloatArray = self.frame[:, 2]
        return axis


def symmetry(text: str) -> Symmetry:
    """The group that a text names: ``C1``, ``C7``, ``D7``, ``T``, ``O``, ``I``, perhaps with its axes.

    In the group's own frame: Cn turns about z; Dn has a two-fold along x as well; T and O have two-folds (O:
    four-folds) along x, y and z; I has two-folds along x, y and z, and five-folds in the planes through them.
    ``D7@-0.64,0.76,0.10`` puts z along that direction of the reference frame, and
    ``D7@-0.64,0.76,0.10@-0.13,0.02,-0.99`` also x along (the normal part of) the second.

    Raises
    ------
    InputError
        If the group is unknown or a direction is not three numbers.
    """
    name, *directions = text.strip().split("@")
    frame = _frame([_direction(item) for item in directions])
    own = _own_matrices(name.upper())
    return Symmetry(text.strip(), frame @ own @ frame.T, frame)


def turned_symmetry(group: Symmetry, turn: FloatArray) -> Symmetry:
    """The same group in another reference frame, in which a direction d reads ``turn @ d``; its name tells the axes."""
    own = group.name.partition("@")[0]
    if len(group) == 1:
        return group
    x, _, z = (turn @ group.frame).T + 0.0
    return symmetry("@".join([own, *(",".join(f"{value:.4f}" for value in axis) for axis in (z, x))]))


def _own_matrices(name: str) -> FloatArray:
    known = name in ("T", "O", "I") or (name[:1] in ("C", "D") and name[1:].isdigit() and int(name[1:]) > 0)
    if not known:
        raise InputError(f"symmetry {name!r} is unknown; expected C1, Cn, Dn, T, O or I, such as D7.")
    if name[0] in "CD":
        return _cyclic(int(name[1:])) if name[0] == "C" else _dihedral(int(name[1:]))
    # SciPy takes a third of a second to import, and few particles are polyhedra.
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
    """Those about z and as many half-turns about axes normal to it, the first about x, (2 order, 3, 3)."""
    cyclic = _cyclic(order)
    return np.concatenate([cyclic, cyclic @ np.diag([1.0, -1.0, -1.0])])


def _direction(text: str) -> FloatArray:
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


# --- distances --------------------------------------------------------------------------------------------------


def angle_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """Geodesic angle between rotations (..., 3, 3), in degrees: how far one must turn to reach the other."""
    # From the chord, which keeps its digits near 0 where the trace loses them; near 180° the trace is as good.
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / np.sqrt(8)
    trace = np.einsum("...ij,...ij->...", first, second)
    sine = np.clip(chord, 0, 1)
    cosine = np.sqrt(np.clip((1 + trace) / 4, 0, 1))
    angle: FloatArray = np.degrees(2 * np.arctan2(sine, cosine))
    return angle


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


def paper_angle_deg(first: FloatArray, second: FloatArray) -> FloatArray:
    """What the paper's released code calls the angle, ``acos(tr(R1ᵀ R2) / 3)`` in degrees: no angle of turn."""
    trace = np.einsum("...ij,...ij->...", first, second)
    angle: FloatArray = np.degrees(np.arccos(np.clip(trace / 3, -1, 1)))
    return angle


def chance_within(angle: float, *, copies: int = 1) -> float:
    """Probability that one random guess lies within this many degrees: ``copies · (X − sin X) / π``, at most 1.

    Exact while the symmetric copies' balls do not overlap: up to half the angle between the nearest two copies.
    """
    radians = math.radians(angle)
    return min(1.0, copies * (radians - math.sin(radians)) / math.pi)


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
    # The smallest singular value's vector turns round where the product would be a reflection.
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
    # The two irrational turns of the spiral: sqrt 2, and the real root of x⁴ = x + 4 near 1.53.
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
"""No turn, and the half-turns about x, y and z: the rotations that leave a missing wedge in its place."""
