"""Directions in a map: even ones, turns about them, and how a symmetry's name tells them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.rotations import FloatArray


def even_directions(count: int) -> FloatArray:
    """Even directions over half a sphere, (count, 3): a Fibonacci spiral."""
    index = np.arange(count) + 0.5
    z, angle = index / count, np.pi * (1 + np.sqrt(5)) * index
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


def turned_about(axes: FloatArray, degrees: float | FloatArray) -> FloatArray:
    """Rotations by an angle about each axis, or by each angle about one, (R, 3, 3)."""
    unit = np.atleast_2d(axes) / np.linalg.norm(np.atleast_2d(axes), axis=1, keepdims=True)
    matrices: FloatArray = Rotation.from_rotvec(unit * np.atleast_1d(np.radians(degrees))[:, None]).as_matrix()
    return matrices


def direction_text(direction: FloatArray) -> str:
    """A direction (3,) as a symmetry's name holds it."""
    return ",".join(f"{value:.4f}" for value in direction + 0.0)
