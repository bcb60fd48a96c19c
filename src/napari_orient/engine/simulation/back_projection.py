"""Weighted back-projection of tilt images about any axis, and Warp's deconvolution of the tomogram."""

from __future__ import annotations

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from napari_orient.engine.particles import FloatArray
from napari_orient.engine.simulation.microscope import ramp
from napari_orient.engine.simulation.placement import Volume
from napari_orient.engine.simulation.projection import Detector

_FINER = 2
"""Pixels that an image is interpolated to (exactly, by its transform) for each of its own before it is back-projected
linearly."""


class BackProjection:
    """The tomogram (Z, Y, X) that images are added to one after the other."""

    def __init__(self, size: tuple[int, int, int], detector: Detector, *, step_deg: float, cutoff: float) -> None:
        self._volume = torch.zeros(*size[::-1])
        self._detector = detector
        self._weight = torch.as_tensor(ramp(fft.rfftfreq(detector.shape[1]), cutoff=cutoff), dtype=torch.float32)
        self._weight = self._weight * float(np.radians(step_deg))
        z, y, x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self._volume.shape)
        self._heights = z
        self._plane = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)

    def add(self, spectrum: Tensor, axes: FloatArray) -> None:
        """Add an image, given by its half-spectrum and its axes (3, 3), whose y is the tilt axis."""
        image = self._finer(spectrum * self._weight)[None, None]
        rows = torch.as_tensor(axes[:2], dtype=torch.float32)
        # grid_sample counts from -1 to 1 between the centres of the first and the last pixel.
        shape = torch.tensor(self._detector.shape[::-1])
        scale = 2 * _FINER / (_FINER * shape - 1)
        plane = (self._plane @ rows[:, :2].T + shape // 2) * scale - 1
        for index, height in enumerate(self._heights):
            place = plane + height * rows[:, 2] * scale
            self._volume[index] += torch.nn.functional.grid_sample(image, place[None], align_corners=True)[0, 0]

    def _finer(self, spectrum: Tensor) -> Tensor:
        """The image interpolated to a finer grid."""
        height, width = self._detector.shape
        fine = torch.zeros(_FINER * height, _FINER * width // 2 + 1, dtype=spectrum.dtype)
        half = (height + 1) // 2
        fine[:half, : spectrum.shape[1]] = spectrum[:half]
        fine[half - height :, : spectrum.shape[1]] = spectrum[half:]
        image: Tensor = torch.fft.irfft2(fine, s=(_FINER * height, _FINER * width))
        return image * _FINER**2

    def tomogram(self) -> Volume:
        """The sum of what was added, (Z, Y, X)."""
        return self._volume.numpy()
