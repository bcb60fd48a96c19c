"""Ways to write a rotation as numbers, on torch tensors with gradients: the paper's f and g, and rotation vectors.

Matrices are active, reference frame -> tomogram frame, acting on xyz columns. Every function takes any number of
leading axes, keeps the dtype and the device, and has finite gradients everywhere; those that take matrices expect
proper rotations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot


@dataclass(frozen=True)
class Representation:
    """A way to write a rotation as the raw numbers of a network's last layer: the paper's f and g.

    ``to_matrix`` (f) takes any finite raw vectors (..., size) to proper rotations (..., 3, 3) with finite gradients;
    ``from_matrix`` (g) takes rotations to raw vectors whose components lie in [-1, 1], the range of tanh.
    """

    name: str
    size: int
    to_matrix: Callable[[Tensor], Tensor]
    from_matrix: Callable[[Tensor], Tensor]


_TINY = 1e-6
"""Length below which a raw vector has no direction (no unit; the last layer's numbers lie in [-1, 1])."""

_DAMPING = 1e-3
"""Sum of two singular values (no unit) below which the gradient through the SVD is damped to at most 1 / (2 · this)."""

# --- rotation vectors ---------------------------------------------------------------------------------------------


def rotvec_to_matrix(rotvec: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about the direction of each vector (..., 3) by its length in radians.

    Rodrigues: ``R = 1 + a K + b K²`` with K the cross product with the vector, ``a = sin θ / θ`` and
    ``b = (1 - cos θ) / θ² = (sin(θ/2) / (θ/2))² / 2``.
    """
    square = rotvec.square().sum(-1)
    x, y, z = rotvec.unbind(-1)
    a, b = _sinc(square), _sinc(square / 4).square() / 2
    return _stacked(
        (1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y),
        (b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x),
        (b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)),
    )


def matrix_to_rotvec(matrix: Tensor) -> Tensor:
    """Rotation vectors (..., 3) of rotations, in radians, no longer than π; at π one of the two.

    From the quaternion, whose angle ``θ = 2 atan2(|v|, w)`` keeps its digits near 0 and near π.
    """
    quaternion = matrix_to_quaternion(matrix)
    vector, cosine = quaternion[..., :3], quaternion[..., 3]
    square = vector.square().sum(-1)
    small = square < _small(square)
    sine = torch.where(small, 1, square).sqrt()
    # atan(s / w) / s = 1 / w - s² / 3 w³ + ...
    series = (1 - square / (3 * cosine.square().clamp_min(0.5))) / cosine.clamp_min(0.5)
    half = torch.where(small, series, torch.atan2(sine, cosine) / sine)
    return 2 * half[..., None] * vector


def _sinc(square: Tensor) -> Tensor:
    """``sin(x) / x`` of x², by its series where x is small, for the root has no gradient at 0."""
    small = square < _small(square)
    root = torch.where(small, 1, square).sqrt()
    return torch.where(small, 1 - square / 6 * (1 - square / 20), root.sin() / root)


def _small(square: Tensor) -> float:
    """Least square of an angle at which no series is needed: the terms left out are below the rounding."""
    return math.sqrt(torch.finfo(square.dtype).eps)


# --- quaternions --------------------------------------------------------------------------------------------------


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of quaternions (..., 4), x, y, z, w, of any length; of one with no direction, none.

    ``R = 1 + 2 w K + 2 K²`` of the unit quaternion, with K the cross product with its vector part.
    """
    x, y, z, w = _unit(quaternion, _axis_like(quaternion, 3)).unbind(-1)
    return _stacked(
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotations, x, y, z, w, with w >= 0.

    Markley, J. Guid. Control Dyn. 31, 440 (2008): of the four rows of ``4 q qᵀ`` that the matrix gives, the longest;
    their squared lengths add up to 4, so that it is never short.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    rows = _stacked(
        (1 + a - e - i, b + d, c + g, h - f),
        (b + d, 1 - a + e - i, f + h, c - g),
        (c + g, f + h, 1 - a - e + i, d - b),
        (h - f, c - g, d - b, 1 + a + e + i),
    )
    longest = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = rows.gather(-2, longest[..., None, None].expand(*longest.shape, 1, 4)).squeeze(-2)
    quaternion = normalize(row, dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


# --- Euler angles -------------------------------------------------------------------------------------------------


def _euler_to_matrix(raw: Tensor) -> Tensor:
    """``R = Rz(rot) Ry(tilt) Rz(psi)`` of the scaled angles."""
    rot, tilt, psi = raw.unbind(-1)
    # Whole rotations are taken off first, while they are exact: no finite angle is too large for its sine.
    rot, psi, tilt = rot.fmod(2) * math.pi, psi.fmod(2) * math.pi, (tilt.fmod(4) + 1) * (math.pi / 2)
    ca, sa, cb, sb, cc, sc = rot.cos(), rot.sin(), tilt.cos(), tilt.sin(), psi.cos(), psi.sin()
    return _stacked(
        (ca * cb * cc - sa * sc, -ca * cb * sc - sa * cc, ca * sb),
        (sa * cb * cc + ca * sc, -sa * cb * sc + ca * cc, sa * sb),
        (-sb * cc, sb * sc, cb),
    )


def _matrix_to_euler(matrix: Tensor) -> Tensor:
    """The scaled angles, from the quaternion: tilt, and half the sum and half the difference of the other two.

    Their sum stays exact where the tilt is 0, and their difference where it is 180°; there psi is taken as 0.
    Bernardes & Viollet, PLoS ONE 17, e0276302 (2022).
    """
    x, y, z, w = matrix_to_quaternion(matrix).unbind(-1)
    untilted, upside_down = _no_direction(x, y), _no_direction(z, w)
    half_sum, half_difference = _angle_of(z, w, upside_down), _angle_of(-x, y, untilted)
    half_sum, half_difference = (
        torch.where(upside_down, half_difference, half_sum),
        torch.where(untilted, half_sum, half_difference),
    )
    tilt = 2 * torch.atan2(_length(x, y, untilted), _length(z, w, upside_down))
    rot, psi = half_sum + half_difference, half_sum - half_difference
    return torch.stack([_half_turns(rot), tilt / (math.pi / 2) - 1, _half_turns(psi)], dim=-1)


def _no_direction(first: Tensor, second: Tensor) -> Tensor:
    return torch.maximum(first.abs(), second.abs()) < torch.finfo(first.dtype).eps


def _angle_of(sine: Tensor, cosine: Tensor, nowhere: Tensor) -> Tensor:
    return torch.atan2(torch.where(nowhere, 0, sine), torch.where(nowhere, 1, cosine))


def _length(first: Tensor, second: Tensor, nowhere: Tensor) -> Tensor:
    return torch.where(nowhere, 0, torch.where(nowhere, 1, first.square() + second.square()).sqrt())


def _half_turns(angle: Tensor) -> Tensor:
    return torch.remainder(angle / math.pi + 1, 2) - 1


# --- two columns, and nine numbers --------------------------------------------------------------------------------


def _sixd_to_matrix(raw: Tensor) -> Tensor:
    """The first column, the second made normal to it (Gram-Schmidt), and their cross product."""
    one, two = raw.unflatten(-1, (2, 3)).unbind(-2)
    first = _unit(one, _axis_like(one, 0))
    two = _bounded(two)
    second = _unit(two - (first * two).sum(-1, keepdim=True) * first, _any_normal(first))
    # Once more: what is left of a nearly parallel second vector is mostly rounding, and not quite normal to the first.
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def _any_normal(direction: Tensor) -> Tensor:
    least = one_hot(direction.abs().argmin(-1), 3).to(direction.dtype)
    return normalize(torch.linalg.cross(direction, least), dim=-1)


def _matrix_to_sixd(matrix: Tensor) -> Tensor:
    return torch.cat([matrix[..., :, 0], matrix[..., :, 1]], dim=-1)


def _procrustes_to_matrix(raw: Tensor) -> Tensor:
    """``R = U S Vᵀ`` of M = U D Vᵀ, with S = diag(1, 1, det U Vᵀ): the rotation nearest to the matrix.

    ``dR = U S Z Vᵀ`` with ``Z_kl = (A_kl - A_lk) / (d_k + d_l)``, A = S Uᵀ dM V, and d the signed singular values. The
    quotient is damped, for it has no bound where the nearest rotation is not the only one.
    """
    matrix = _bounded(raw).unflatten(-1, (3, 3))
    u, d, vt = _signed_svd(matrix.detach())
    total = d[..., :, None] + d[..., None, :]
    a = u.mT @ matrix @ vt.mT
    tangent = u @ ((a - a.mT) * total / (total.square() + _DAMPING**2)) @ vt
    # The tangent has the gradient, and no value of its own.
    nearest: Tensor = u @ vt + (tangent - tangent.detach())
    return nearest


def _signed_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, D and Vᵀ of a matrix, with U Vᵀ proper: the last column of U and the last of D change sign where it is not."""
    u, d, vt = torch.linalg.svd(matrix)
    sign = torch.ones_like(d)
    sign[..., 2] = torch.where(torch.linalg.det(u @ vt) < 0, -1.0, 1.0)
    return u * sign[..., None, :], d * sign, vt


def _matrix_to_procrustes(matrix: Tensor) -> Tensor:
    return matrix.flatten(-2)


# --- for all of them ----------------------------------------------------------------------------------------------


def _unit(vector: Tensor, fallback: Tensor) -> Tensor:
    """The vector at length 1, or the fallback where it is too short to have a direction; gradients stay finite."""
    vector = _bounded(vector)
    short = (vector * vector).sum(-1, keepdim=True) < _TINY**2
    return normalize(torch.where(short, fallback, vector), dim=-1, eps=_TINY)


def _bounded(vector: Tensor) -> Tensor:
    """The vector over a power of two, so that no component exceeds 1: exact, and no square of one overflows."""
    largest = vector.detach().abs().amax(-1, keepdim=True)
    return vector * torch.where(largest > 1, torch.frexp(largest).mantissa / largest, 1)


def _axis_like(vector: Tensor, index: int) -> Tensor:
    return torch.eye(vector.shape[-1], dtype=vector.dtype, device=vector.device)[index].expand_as(vector)


def _stacked(*rows: tuple[Tensor, ...]) -> Tensor:
    """Matrices of these elements, row by row."""
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


EULER = Representation("euler", 3, _euler_to_matrix, _matrix_to_euler)
"""Intrinsic ZYZ angles of the matrix, scaled: first and third in half-turns, the second from [0°, 180°] to [-1, 1]."""

QUATERNION = Representation("quaternion", 4, quaternion_to_matrix, matrix_to_quaternion)
"""Unit quaternion x, y, z, w with w >= 0."""

SIXD = Representation("6d", 6, _sixd_to_matrix, _matrix_to_sixd)
"""Two columns of the matrix and Gram-Schmidt.

Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019, eq. (14) to (16).
"""

PROCRUSTES = Representation("9d", 9, _procrustes_to_matrix, _matrix_to_procrustes)
"""The whole matrix, projected by SVD.

Levinson et al., "An analysis of SVD for deep rotation estimation", NeurIPS 2020.
"""

REPRESENTATIONS = {item.name: item for item in (SIXD, QUATERNION, EULER, PROCRUSTES)}
