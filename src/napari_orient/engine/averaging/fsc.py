"""How far two maps agree, shell by shell of Fourier space: Harauz and van Heel, Optik 1986."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.rotations import FloatArray


@dataclass(frozen=True, eq=False)
class FSC:
    """Fourier shell correlation of two maps: ``frequency`` (S,) cycles/Å, ``correlation`` (S,)."""

    frequency: FloatArray
    correlation: FloatArray

    def resolution(self, threshold: float) -> float:
        """Å at which the curve first falls below the threshold; the finest shell's where it never does."""
        below = np.flatnonzero(self.correlation < threshold)
        if len(below) == 0:
            return float(1 / self.frequency[-1])
        last = int(below[0])
        if last == 0:
            return float(1 / self.frequency[0])
        high, low = self.correlation[last - 1], self.correlation[last]
        part = (high - threshold) / (high - low)
        crossing = self.frequency[last - 1] + part * (self.frequency[last] - self.frequency[last - 1])
        return float(1 / crossing)


def fourier_shell_correlation(first: FloatArray, second: FloatArray, voxel_size: float) -> FSC:
    """Correlation of two maps (n, n, n) in shells one coefficient wide, up to Nyquist, without the origin."""
    side = len(first)
    one, two = np.fft.fftn(first), np.fft.fftn(second)
    shell = np.rint(frequencies(side, voxel_size).norm(dim=-1).numpy() * side * voxel_size).astype(int).ravel()
    cross, own, other = (
        np.bincount(shell, values.ravel())[1 : side // 2 + 1]
        for values in ((one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2)
    )
    frequency = np.arange(1, side // 2 + 1) / (side * voxel_size)
    return FSC(frequency, cross / np.sqrt(np.maximum(own * other, 1e-30)))
