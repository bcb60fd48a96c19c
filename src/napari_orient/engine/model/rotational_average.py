"""Rotational average of a map: the part of it that is round about an axis."""

from __future__ import annotations

import numpy as np

from napari_orient.engine.rotations import FloatArray

_AZIMUTHS = 2
"""Azimuths a voxel of the box's side: at the rim of the ball in it they are 1.6 voxels apart, finer than Nyquist."""


def rotational_average(density: FloatArray, frame: FloatArray, centre: FloatArray) -> FloatArray:
    """The mean of a density over all rotations about an axis, (n, n, n).

    It is sampled in cylindrical coordinates about the axis, averaged over azimuths, and interpolated back.

    Parameters
    ----------
    density : (n, n, n), [z, y, x].
    frame : (3, 3), whose last column is the axis, xyz.
    centre : (3,) xyz in voxels from the frame's origin ``(n - 1) / 2``: a point of the axis.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    side, middle = len(density), (len(density) - 1) / 2
    reach = int(np.ceil(np.sqrt(3) * side / 2 + np.linalg.norm(centre)))
    azimuth = np.linspace(0, 2 * np.pi, _AZIMUTHS * side, endpoint=False)
    circle = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1) @ frame[:, :2].T
    coefficients, rows = spline_filter(density, order=3), []
    for height in range(-reach, reach + 1):
        places = centre + height * frame[:, 2] + np.arange(reach + 1.0)[:, None, None] * circle
        values = map_coordinates(coefficients, places.T[::-1] + middle, order=3, prefilter=False)
        rows.append(values.mean(axis=0))
    line = np.arange(side) - middle
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    across, up, along = np.moveaxis((np.stack([x, y, z], axis=-1) - centre) @ frame, -1, 0)
    # Beyond the axis the table goes on as its mirror image.
    average: FloatArray = map_coordinates(np.array(rows), [along + reach, np.hypot(across, up)], order=3, mode="mirror")
    return average
