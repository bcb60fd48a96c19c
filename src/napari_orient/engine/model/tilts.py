"""Residual misalignment of the tilt images: the shift of each image, estimated from the particles.

The transform of a tilt image is a plane of the tomogram's Fourier space (projection-slice theorem). An image shifted by
s multiplies its plane by exp(-2πi k·s), alike for every particle of the tomogram, so that the gain of a coefficient k
is the sum over the images T whose planes pass by it::

    G(k) = Σ_T share_T(k) exp(-2πi (u_T(k) s_T,across + v_T(k) s_T,along))

with u, v the frequency within image T. Two numbers an image are estimated from all coefficients of all particles by
Gauss-Newton, under a Gaussian prior of mean 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.model.transfer import PLANE_THICKNESS

_SHIFT_SPREAD_VOXELS = 1.2
"""Voxels, standard deviation of the prior on a shift: PolNet shifts its images by 1 to 1.5 voxels."""
_MAX_STEP_VOXELS = 0.8
"""Voxels that one Gauss-Newton step may change a shift by: beyond, phases at the highest frequencies wrap around."""
_STEPS = 6
"""Gauss-Newton steps. A few images of high tilt still change by the largest step after them."""
_LEVEL_SPREAD = 0.5
"""Standard deviation of the Gaussian prior, of mean 1, on the level of the gain in a shell of frequency; chosen."""


@dataclass(frozen=True, eq=False)
class TiltImages:
    """Which of T tilt images measured each of M coefficients of a patch: an image's transform is a plane.

    Parameters
    ----------
    share : (M, T) of each coefficient, its sum 1; a plane is as thick as the patch is small.
    across, along : (M, T) frequency in each image in cycles/Å, along its x and its y.
    """

    share: Tensor
    across: Tensor
    along: Tensor

    def contributions(self, shifts: Tensor) -> Tensor:
        """Contribution of each image to the gain, complex (M, T), when shifted by (2, T) Å, in x and y."""
        cycles = self.across * shifts[0] + self.along * shifts[1]
        return torch.polar(self.share, -2 * torch.pi * cycles)


def tilt_images(model: ForwardModel, series: TiltSeries) -> TiltImages:
    """The images of a tilt series at the model's coefficients."""
    axes = torch.as_tensor(series.axes, dtype=model.frequency.dtype, device=model.frequency.device)
    across, along, beam = torch.einsum("md,tcd->cmt", model.frequency, axes)
    distance = beam * (model.box * model.voxel_size)
    share = torch.softmax(-0.5 * (distance / PLANE_THICKNESS).square(), dim=1)
    return TiltImages(share, across, along)


def shifted_gain(model: ForwardModel, series: TiltSeries, match: Tensor, power: Tensor) -> Tensor:
    """The gain (M,), complex, of tilt images shifted as the particles imply: Gauss-Newton on all shifts together.

    An image's shift changes the phases of its plane in proportion to frequency, and where planes meet they weaken each
    other.

    Parameters
    ----------
    match, power : (M,) complex and real: m* x and |m|² of fitted references m and whitened patches x, summed over all
        particles.
    """
    images = tilt_images(model, series)
    shifts = images.share.new_zeros(2, images.share.shape[1])
    spread = _SHIFT_SPREAD_VOXELS * model.voxel_size
    root = (power * model.window_power).sqrt()
    target = match / power.clamp_min(1e-12)
    shell = model.indices.float().norm(dim=-1).round().long()
    for _ in range(_STEPS):
        parts = images.contributions(shifts)
        gain, level = _levelled(parts.sum(1), match, power, shell)
        waves = (-2j * math.pi * root * level)[:, None] * parts
        jacobian = _real(torch.cat([waves * images.across, waves * images.along], dim=1))
        residual = _real((root * (target - gain))[:, None])[:, 0]
        hessian = jacobian.T @ jacobian + torch.eye(jacobian.shape[1], device=jacobian.device) / spread**2
        step = torch.linalg.solve(hessian, jacobian.T @ residual - shifts.flatten() / spread**2)
        most = _MAX_STEP_VOXELS * model.voxel_size
        shifts = shifts + step.reshape(2, -1).clamp(-most, most)
    shifts = without_translation(shifts, series)
    return _levelled(images.contributions(shifts).sum(1), match, power, shell)[0]


def without_translation(shifts: Tensor, series: TiltSeries) -> Tensor:
    """The shifts (2, T) of images without what would only move the whole tomogram, which particles cannot show."""
    axes = torch.as_tensor(series.axes, dtype=shifts.dtype, device=shifts.device)
    of_axes = axes[:, :2].transpose(0, 1).reshape(-1, 3)
    # Not `lstsq`: its last bits depend on where its work space happens to lie in memory.
    moved: Tensor = of_axes @ (torch.linalg.pinv(of_axes) @ shifts.flatten())
    return shifts - moved.reshape(shifts.shape)


def _levelled(gain: Tensor, match: Tensor, power: Tensor, shell: Tensor) -> tuple[Tensor, Tensor]:
    """The gain times its regression factor on the patches in each shell of frequency (prior of mean 1); the factor."""
    count = int(shell.max()) + 1
    found = power.new_zeros(count).index_add_(0, shell, (match * gain.conj()).real)
    whole = power.new_zeros(count).index_add_(0, shell, power * gain.abs().square())
    prior = 1 / _LEVEL_SPREAD**2
    level = ((found + prior) / (whole + prior)).clamp_min(0)[shell]
    return gain * level, level


def _real(values: Tensor) -> Tensor:
    """Real parts of (M, K) above imaginary ones, (2M, K)."""
    return torch.cat([values.real, values.imag])
