"""The rotation group SO(3): representations, symmetry groups, distances, and even and random rotations.

Matrices are active, reference frame -> tomogram frame, acting on xyz columns. Functions on training's path take torch
tensors and keep gradients; the rest take NumPy arrays. roma and SciPy do the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.stats import chi
from torch import Tensor

from napari_orient.engine.errors import InputError

FloatArray = NDArray[np.floating[Any]]

PAPER_20_DEG = math.degrees(math.acos((3 * math.cos(math.radians(20)) - 1) / 2))
"""True angle of what the paper's released code counts as 20°: 24.56°."""

# --- representations: the paper's f (to_matrix) and g (from_matrix) --------------------------------------------------

_TINY = 1e-6


@dataclass(frozen=True)
class Representation:
    """A way to write a rotation as the raw numbers of a network's last layer.

    ``to_matrix`` takes any finite raw vectors (..., size) to proper rotations (..., 3, 3) with finite gradients;
    ``from_matrix`` takes rotations to raw vectors whose components lie in [-1, 1], the range of tanh.
    """

    name: str
    size: int
    to_matrix: Callable[[Tensor], Tensor]
    from_matrix: Callable[[Tensor], Tensor]


def _euler_to_matrix(raw: Tensor) -> Tensor:
    rot, tilt, psi = raw.unbind(-1)
    angles = torch.stack([rot * math.pi, (tilt + 1) * (math.pi / 2), psi * math.pi], dim=-1)
    matrix: Tensor = roma.euler_to_rotmat("ZYZ", angles)
    return matrix


def _matrix_to_euler(matrix: Tensor) -> Tensor:
    rot, tilt, psi = roma.rotmat_to_euler("ZYZ", matrix, as_tuple=True)
    return torch.stack([_half_turns(rot), tilt / (math.pi / 2) - 1, _half_turns(psi)], dim=-1)


def _half_turns(angle: Tensor) -> Tensor:
    return torch.remainder(angle / math.pi + 1, 2) - 1


def _unit(vector: Tensor, fallback: Tensor) -> Tensor:
    """The vector at length 1, or the fallback where it is too short to have a direction; gradients stay finite."""
    short = (vector * vector).sum(-1, keepdim=True) < _TINY**2
    return torch.nn.functional.normalize(torch.where(short, fallback, vector), dim=-1, eps=_TINY)


def _axis_like(vector: Tensor, index: int) -> Tensor:
    return torch.eye(vector.shape[-1], dtype=vector.dtype, device=vector.device)[index].expand_as(vector)


def _quaternion_to_matrix(raw: Tensor) -> Tensor:
    matrix: Tensor = roma.unitquat_to_rotmat(_unit(raw, _axis_like(raw, 3)))
    return matrix


def _matrix_to_quaternion(matrix: Tensor) -> Tensor:
    quaternion: Tensor = roma.rotmat_to_unitquat(matrix)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def _sixd_to_matrix(raw: Tensor) -> Tensor:
    first = _unit(raw[..., :3], _axis_like(raw[..., :3], 0))
    second = raw[..., 3:] - (first * raw[..., 3:]).sum(-1, keepdim=True) * first
    second = _unit(second, _any_normal(first))
    # Once more: what is left of a nearly parallel second vector is mostly rounding, and not quite normal to the first.
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def _any_normal(direction: Tensor) -> Tensor:
    least = torch.nn.functional.one_hot(direction.abs().argmin(-1), 3).to(direction.dtype)
    return torch.nn.functional.normalize(torch.linalg.cross(direction, least), dim=-1)


def _matrix_to_sixd(matrix: Tensor) -> Tensor:
    return torch.cat([matrix[..., :, 0], matrix[..., :, 1]], dim=-1)


def _procrustes_to_matrix(raw: Tensor) -> Tensor:
    matrix: Tensor = roma.special_procrustes(raw.unflatten(-1, (3, 3)), gradient_eps=1e-3, method="svd")
    return matrix


def _matrix_to_procrustes(matrix: Tensor) -> Tensor:
    return matrix.flatten(-2)


EULER = Representation("euler", 3, _euler_to_matrix, _matrix_to_euler)
"""Intrinsic ZYZ angles of the matrix, scaled: first and third in half-turns, the second from [0°, 180°] to [-1, 1]."""

QUATERNION = Representation("quaternion", 4, _quaternion_to_matrix, _matrix_to_quaternion)
"""Unit quaternion x, y, z, w with w >= 0."""

SIXD = Representation("6d", 6, _sixd_to_matrix, _matrix_to_sixd)
"""Two columns of the matrix and Gram-Schmidt.

Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019.
"""

PROCRUSTES = Representation("9d", 9, _procrustes_to_matrix, _matrix_to_procrustes)
"""The whole matrix, projected by SVD.

Levinson et al., "An analysis of SVD for deep rotation estimation", NeurIPS 2020.
"""

REPRESENTATIONS = {item.name: item for item in (SIXD, QUATERNION, EULER, PROCRUSTES)}

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
    group: Any = name
    return Rotation.create_group(group).as_matrix()


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
    return np.asarray(chi.cdf(angle / np.maximum(rms_deg / math.sqrt(3), 1e-6), df=3))


def mean_rotation(rotations: FloatArray) -> FloatArray:
    """Chordal mean of rotations (..., K, 3, 3) over K, (..., 3, 3): the rotation nearest to their average matrix."""
    mean = torch.as_tensor(np.asarray(rotations, float).mean(axis=-3))
    projected: FloatArray = roma.special_procrustes(mean).numpy()
    return projected


# --- even and random rotations ------------------------------------------------------------------------------------


def random_rotations(count: int, rng: np.random.Generator) -> FloatArray:
    """Uniform random rotations, (count, 3, 3), from uniform unit quaternions (the paper's Algorithm S2)."""
    return Rotation.random(count, rng=rng).as_matrix() if count else np.zeros((0, 3, 3))


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
    return Rotation.from_quat(quaternions).as_matrix()


HALF_TURNS: FloatArray = np.array(
    [np.diag(signs) for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))], float
)
"""No turn, and the half-turns about x, y and z: the rotations that leave a missing wedge in its place."""
