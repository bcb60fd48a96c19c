"""Particles that stick out of the tomogram: how much of each is unseen, and what that costs."""

from __future__ import annotations

import numpy as np

from napari_orient.engine.particles import Extent, FloatArray

MOST_UNSEEN = 0.25
"""Of a particle of which more is unseen, the pose tells nothing."""
_COST_DEG = 24.0
"""Error per share unseen: the fit takes what lies outside for empty. Measured on particles cut off at their sides."""


def unseen_share(positions: FloatArray, extent: Extent, radius: float) -> FloatArray:
    """Share of the volume of balls about positions (N, 3), xyz in Å, that lies beyond the tomogram's faces, (N,)."""
    far = (np.asarray(extent.size) - 1) * extent.voxel_size
    rim = extent.voxel_size / 2
    inside = np.concatenate([positions + rim, far + rim - positions], axis=1) / radius
    inside = inside.clip(-1, 1)
    caps = (1 - inside) ** 2 * (2 + inside) / 4
    share: FloatArray = caps.sum(axis=1).clip(max=1)
    return share


def cost_deg(unseen: FloatArray) -> FloatArray:
    """Root-mean-square error of the rotation, degrees, that shares unseen (N,) add to what the noise leaves."""
    return _COST_DEG * unseen


def warned(unseen: FloatArray) -> tuple[str, ...]:
    """A line where poses mean nothing for what is unseen."""
    count = int((unseen > MOST_UNSEEN).sum())
    if count == 0:
        return ()
    which = "1 particle lies" if count == 1 else f"{count} particles lie"
    return (f"{which} more than a quarter outside the tomogram: no pose can be told, and the expected error says so.",)
