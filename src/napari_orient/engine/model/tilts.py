"""What is left of the tilt images' misalignment, told by the particles: by how much each image is shifted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.wedge import Wedge

_SPACING_DEG = 3.0
"""How far apart images are taken to lie; those of a series tilted otherwise share the nearest ones' shifts."""
_THICKNESS = 0.5
_USUAL_VOXELS, _STEP_VOXELS = 1.2, 0.8
_STEPS = 6
_LEVEL_SPREAD = 0.5


@dataclass(frozen=True, eq=False)
class TiltImages:
    """Which of T tilt images measured each of M coefficients of a patch: an image's transform is a plane.

    Parameters
    ----------
    share : (M, T) of each coefficient, its sum 1; a plane is as thick as the patch is small.
    across, along : (M, T) frequency in each image in cycles/Å, across the tilt axis and along it.
    """

    share: Tensor
    across: Tensor
    along: Tensor

    def parts(self, shifts: Tensor) -> Tensor:
        """What each image contributes to the gain, complex (M, T), when shifted by (2, T) Å, across and along."""
        turns = self.across * shifts[0] + self.along * shifts[1]
        return torch.polar(self.share, -2 * torch.pi * turns)


def tilt_images(model: ForwardModel, wedge: Wedge) -> TiltImages:
    """The images of a tilt series with that wedge, which must have an axis."""
    count = 1 + max(1, round((wedge.high_deg - wedge.low_deg) / _SPACING_DEG))
    tilt = torch.deg2rad(torch.linspace(wedge.low_deg, wedge.high_deg, count, device=model.frequency.device))
    steps, frequency = model.indices.to(tilt.dtype), model.frequency
    side, axis = (0, 1) if wedge.axis == "y" else (1, 0)
    distance = steps[:, 2:] * tilt.cos() - steps[:, side, None] * tilt.sin()
    share = torch.softmax(-0.5 * (distance / _THICKNESS).square(), dim=1)
    across = frequency[:, side, None] * tilt.cos() + frequency[:, 2:] * tilt.sin()
    return TiltImages(share, across, frequency[:, axis, None].expand_as(across))


def shifted_gain(model: ForwardModel, wedge: Wedge, match: Tensor, power: Tensor) -> Tensor:
    """The gain (M,), complex, of tilt images shifted as particles show them to be: Gauss-Newton on all shifts at once.

    An image's shift turns the phases of its plane in proportion to frequency, and where planes meet they weaken each
    other; two numbers an image say so of all coefficients. Shifts are drawn towards none, as far as little is known.

    Parameters
    ----------
    match, power : (M,) complex and real: the model's conjugate times the patch, and its square, over all particles.
    """
    images = tilt_images(model, wedge)
    shifts = images.share.new_zeros(2, images.share.shape[1])
    usual = _USUAL_VOXELS * model.voxel_size
    root = (power * model.window_power).sqrt()
    seen = match / power.clamp_min(1e-12)
    shell = model.indices.float().norm(dim=-1).round().long()
    for _ in range(_STEPS):
        parts = images.parts(shifts)
        gain, level = _levelled(parts.sum(1), match, power, shell)
        waves = (-2j * math.pi * root * level)[:, None] * parts
        slope = _real(torch.cat([waves * images.across, waves * images.along], dim=1))
        left = _real((root * (seen - gain))[:, None])[:, 0]
        matrix = slope.T @ slope + torch.eye(slope.shape[1], device=slope.device) / usual**2
        step = torch.linalg.solve(matrix, slope.T @ left - shifts.flatten() / usual**2)
        most = _STEP_VOXELS * model.voxel_size
        shifts = shifts + step.reshape(2, -1).clamp(-most, most)
    return _levelled(images.parts(shifts).sum(1), match, power, shell)[0]


def _levelled(gain: Tensor, match: Tensor, power: Tensor, shell: Tensor) -> tuple[Tensor, Tensor]:
    """The gain brought to the patches' level in each shell of frequency, near 1 where they tell little; the level."""
    count = int(shell.max()) + 1
    found = power.new_zeros(count).index_add_(0, shell, (match * gain.conj()).real)
    whole = power.new_zeros(count).index_add_(0, shell, power * gain.abs().square())
    usual = 1 / _LEVEL_SPREAD**2
    level = ((found + usual) / (whole + usual)).clamp_min(0)[shell]
    return gain * level, level


def _real(values: Tensor) -> Tensor:
    """Real parts of (M, K) above imaginary ones, (2M, K)."""
    return torch.cat([values.real, values.imag])
