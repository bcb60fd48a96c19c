"""The Cramér-Rao bound of a particle's pose in simulated tilt images whose transfer and noise are known.

Where the images' alignment is known too, no unbiased estimate has a smaller root-mean-square error. What a tomogram of
misaligned images holds, if nobody estimates their shifts, is the same with each image blurred by its misalignment. What
lies around a particle is not counted.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import fft
from scipy.spatial.transform import Rotation

from napari_orient.engine.simulation.microscope import Exposure, shift_lengths
from napari_orient.engine.simulation.projection import half_spectrum, slice_table, unit_peak
from napari_orient.engine.templates import Template

_STEP_DEG = 0.5
"""Degrees on either side of a rotation for its derivative: half of a table's node at 20 Å."""


def image_bound(template: Template, rotations: np.ndarray, exposed: Exposure, *, aligned: bool) -> np.ndarray:
    """Root-mean-square errors in degrees (N,) that the images leave to particles of a template in these rotations.

    ``aligned``: the images' shifts are known; else each image is blurred by the deviation of its shift.
    """
    pixel = exposed.detector.pixel
    table = slice_table(unit_peak(template, pixel=pixel), template.voxel_size, pixel=pixel)
    side = int(fft.next_fast_len(2 * int(np.ceil(table.width / pixel)), real=True))
    frequency = half_spectrum((side, side), pixel)
    # Each coefficient but those of the first and the last column stands for its Friedel mate too.
    share = torch.full(frequency.shape[:-1], 2.0)
    share[:, [0, -1]] = 1.0
    blur = np.zeros(len(exposed.series)) if aligned else _deviation(exposed)
    power = (side * exposed.noise_deviation) ** 2
    information = torch.zeros(len(rotations), 6, 6, dtype=torch.float64)
    for index, axes in enumerate(exposed.series.axes):
        gain = exposed.gain(index, frequency) * share.sqrt()
        gain = gain * torch.exp(-2 * (np.pi * float(blur[index])) ** 2 * (frequency**2).sum(-1))
        slopes = _slopes(table, frequency, axes, rotations) * gain
        flat = torch.view_as_real(slopes).double().flatten(2)
        information += flat @ flat.transpose(1, 2) / power
    covariance = torch.linalg.inv(information)[:, :3, :3]
    return np.degrees(np.sqrt(covariance.diagonal(dim1=1, dim2=2).sum(-1).numpy()))


def _deviation(exposed: Exposure) -> np.ndarray:
    """Deviation of each image's shift along each axis, (T,) Å."""
    low, high = exposed.options.misalignment_low, exposed.options.misalignment_high
    length = shift_lengths(exposed.series.tilt_deg, low=low, high=high)
    return length * exposed.detector.pixel / np.sqrt(2)


def _slopes(table, frequency: torch.Tensor, axes: np.ndarray, rotations: np.ndarray) -> torch.Tensor:
    """Derivatives of the slices by three rotations (radians) and three shifts (Å), (N, 6, H, W)."""

    def about_origin(turned: np.ndarray) -> torch.Tensor:
        orientations = torch.as_tensor(axes @ turned, dtype=torch.float32)
        place = orientations @ torch.as_tensor(table.centre, dtype=torch.float32)
        return table.slices(frequency, orientations) * torch.exp(
            -2j * torch.pi * torch.einsum("yxk,nk->nyx", frequency, place[:, :2])
        )

    step = np.radians(_STEP_DEG)
    slopes = []
    for axis in np.eye(3):
        plus, minus = (Rotation.from_rotvec(sign * step * axis).as_matrix() for sign in (1, -1))
        slopes.append((about_origin(plus @ rotations) - about_origin(minus @ rotations)) / (2 * step))
    here = about_origin(rotations)
    for axis in np.eye(3):
        phase = -2j * torch.pi * (frequency @ torch.as_tensor(axes[:2] @ axis, dtype=torch.float32))
        slopes.append(here * phase)
    return torch.stack(slopes, dim=1)
