"""Missing wedge: which Fourier coefficients a tilt series measured, given or estimated from the patches' power.

The beam runs along z. A tilt by θ about y measures the plane k_z = tan(θ) k_x; a series from low to high measures the
coefficients between those two planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.rotations import FloatArray

_TILT_ACROSS = {"x": 1, "y": 0}
"""Component of the frequency (xyz) across each tilt axis."""
_SECTOR_DEG = 2.0
"""Degrees of tilt in one sector of the power profile."""
_BANDS = (0.1, 0.3, 0.6, 0.95)
"""Edges of the bands of frequency whose profiles are averaged, in units of the Nyquist frequency."""
_STRETCH = 4
"""Sectors on either side of an edge that are compared with each other."""
_LEAST_TILT_DEG = 20.0
"""Degrees; the edges of a tilt range are sought beyond it on either side."""
_LEAST_DROP = 1.0
"""Drop of the logarithm of the power at both edges (a factor of 2.7) from which there is a missing wedge. PolNet's
tomograms drop by 2.0, real series of M. pneumoniae by 1.4 to 1.6; across the other axis the drop is 0.7 at most."""
_LOW_POWER = math.log(3)
"""Drop of the logarithm of the power, from well inside, at which the range of tilts ends."""


@dataclass(frozen=True)
class Wedge:
    """The tilt range of a tomogram and the axis that it was tilted about; the beam runs along z.

    A tilt by θ about y measures the plane of Fourier space with ``k_z = tan(θ) k_x`` (about x: ``k_z = tan(θ) k_y``).

    Parameters
    ----------
    axis : "x" or "y"; "none" when every coefficient was measured.
    low_deg, high_deg : the range of tilts, degrees, within -90 to 90.

    Raises
    ------
    InputError
        If the axis is unknown or the range is empty or out of bounds.
    """

    axis: str = "y"
    low_deg: float = -60.0
    high_deg: float = 60.0

    def __post_init__(self) -> None:
        """Check axis and range."""
        if self.axis not in (*_TILT_ACROSS, "none"):
            raise InputError(f"tilt axis is {self.axis!r}; expected x, y or none.")
        if not -90 <= self.low_deg < self.high_deg <= 90:
            raise InputError(
                f"tilts run from {self.low_deg:g}° to {self.high_deg:g}°; expected a range within -90° to 90°."
            )

    @property
    def words(self) -> str:
        """The wedge in words, such as ``tilted about y from -60° to 60°``."""
        if self.axis == "none":
            return "none"
        return f"tilted about {self.axis} from {self.low_deg:.0f}° to {self.high_deg:.0f}°"

    @property
    def symmetric(self) -> bool:
        """Whether the half-turns about x, y and z leave the wedge in its place."""
        return self.axis == "none" or abs(self.low_deg + self.high_deg) < 1e-6

    def weights(self, frequency: Tensor, spacing: float) -> Tensor:
        """Share of each coefficient that was measured, 0 to 1, (...): the wedge with an edge one coefficient wide.

        Parameters
        ----------
        frequency : (..., 3) xyz in cycles/Å.
        spacing : distance between neighbouring coefficients of the patch, cycles/Å.
        """
        if self.axis == "none":
            return torch.ones_like(frequency[..., 0])
        across, along_beam = frequency[..., _TILT_ACROSS[self.axis]], frequency[..., 2]
        # Friedel's law: k and -k are one measurement, so both are taken to the half with k_across >= 0.
        sign = torch.where(across < 0, -1.0, 1.0)
        across, along_beam = across * sign, along_beam * sign
        high, low = math.radians(self.high_deg), math.radians(self.low_deg)
        above = along_beam * math.cos(high) - across * math.sin(high)
        below = across * math.sin(low) - along_beam * math.cos(low)
        return (0.5 - torch.maximum(above, below) / spacing).clamp(0, 1)


def estimate_wedge(power: Tensor, voxel_size: float) -> Wedge:
    """The wedge estimated from a mean power spectrum: axis and range of tilts beyond which the power drops.

    Power may fade with tilt (dose, thickness), so the edge is where it drops most steeply, in the logarithm, on each
    side of the beam's plane. An axis whose lesser drop is small has no wedge.

    Parameters
    ----------
    power : (n, n, n) mean power of patches, as `noise.mean_power` gives it, indexed [kz, ky, kx].
    voxel_size : Å.
    """
    grid = frequencies(power.shape[-1], voxel_size).numpy()
    found = {axis: _edges(_tilt_profile(power.numpy(), grid, across)) for axis, across in _TILT_ACROSS.items()}
    axis = max(found, key=lambda name: found[name][2])
    low, high, drop = found[axis]
    return Wedge(axis, low, high) if drop > _LEAST_DROP else Wedge("none", -90, 90)


def _tilt_profile(power: NDArray[np.float32], grid: NDArray[np.float32], across: int) -> FloatArray:
    """Logarithm of the power by tilt, (90,) sectors of 2° from -90°, the mean over three bands of frequency."""
    k_across, k_beam = grid[..., across], grid[..., 2]
    radius = np.hypot(k_across, k_beam) / np.abs(k_beam).max()
    sign = np.where(k_across < 0, -1.0, 1.0)
    sector = np.clip((np.degrees(np.arctan2(k_beam * sign, k_across * sign)) + 90) // _SECTOR_DEG, 0, 89).astype(int)
    profile = np.zeros(90)
    for low, high in pairwise(_BANDS):
        inside = (radius > low) & (radius <= high)
        sums = np.bincount(sector[inside], power[inside], minlength=90)
        counts = np.bincount(sector[inside], minlength=90)
        filled = np.flatnonzero(counts)
        profile += np.interp(np.arange(90), filled, np.log(sums[filled] / counts[filled] + 1e-30))
    return profile / (len(_BANDS) - 1)


def _edges(profile: FloatArray) -> tuple[float, float, float]:
    """Lowest and highest tilt in degrees, and the lesser of the two drops there, in the logarithm of the power."""
    total = np.concatenate([[0.0], np.cumsum(profile)])
    place = np.arange(_STRETCH, 90 - _STRETCH + 1)
    before = (total[place] - total[place - _STRETCH]) / _STRETCH
    after = (total[place + _STRETCH] - total[place]) / _STRETCH
    rise = after - before
    tilt = place * _SECTOR_DEG - 90
    low = int(np.argmax(np.where(tilt < -_LEAST_TILT_DEG, rise, -np.inf)))
    high = int(np.argmax(np.where(tilt > _LEAST_TILT_DEG, -rise, -np.inf)))
    first = 90 - _fall(profile[::-1], 90 - int(place[low]))
    last = _fall(profile, int(place[high]))
    drop = float(min(rise[low], -rise[high]))
    return first * _SECTOR_DEG - 90, last * _SECTOR_DEG - 90, drop


def _fall(profile: FloatArray, edge: int) -> int:
    """First sector, near an edge after which there is less, with less than a third of the power well inside."""
    inside = profile[max(edge - 3 * _STRETCH, 0) : edge - _STRETCH].mean()
    start = edge - _STRETCH
    return start + int(np.argmax(profile[start : edge + _STRETCH] < inside - _LOW_POWER))
