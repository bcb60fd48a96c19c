"""Patches of noise alone, of the colour that an imaging has learnt."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from napari_orient.engine.matching.imaging import Imaging


def noise_patches(imaging: Imaging, side: int, *, count: int, generator: torch.Generator) -> Tensor:
    """Normal noise as strong and as coloured as the imaging's, (N, side, side, side), on the CPU.

    Coefficients that the imaging does not hold, within the missing wedge or beyond its resolution, are left out.
    """
    imaging = imaging.to("cpu")
    deviation = imaging.window.new_zeros((imaging.box,) * 3)
    x, y, z = imaging.steps.T
    for sign in (1, -1):
        deviation[sign * z, sign * y, sign * x] = 1 / imaging.scale.abs() * (2 / imaging.box**3) ** 0.5
    # The noise of a patch, whose spectrum is finer than the imaging's.
    places = np.fft.fftfreq(side, 1 / imaging.box)
    grid = np.stack(np.meshgrid(places, places, places, indexing="ij"))
    fine = torch.as_tensor(map_coordinates(deviation.numpy(), grid, order=1, mode="grid-wrap"), dtype=torch.float32)
    # One by one: the spectra of many at once would fill the memory.
    noise = torch.randn(count, side, side, side, generator=generator)
    for patch in noise:
        patch.copy_(torch.fft.ifftn(torch.fft.fftn(patch) * fine).real)
    return noise
