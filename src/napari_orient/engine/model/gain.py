"""Gain of the forward model: transfer function and noise of one tomogram, estimated from its own patches.

The gain G(k) is the strength of the reference at each Fourier coefficient: decay by dose, thickness and alignment,
and what reference and particle differ by. It is estimated in three steps, each with poses better than the last:

1. `initial_forward_model`, without poses: G = a exp(-B k²), by regression of the mean patch on the reference's mean
   over all rotations.
2. `calibrate`, with fitted poses: G(k) = Σ Re(m* x) / Σ |m|², the regression of the whitened patches x on their fitted
   references m, averaged over neighbouring coefficients and shrunk towards the gain so far; σ² is the power of the
   residuals x - m.
3. `align_tilts`: phase and amplitude that the residual shifts of the tilt images give G (`tilts`).

Steps 1 and 2 find a factor that is real, smooth and not negative: a B-factor, and how reference and particle differ. It
multiplies the shape that `transfer.Transfer` gives G: the CTF with its sign changes, its square, the damping by dose.
The sign of the shape is undone in the whitening, so that what is matched is positive.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.devices import in_parallel
from napari_orient.engine.model.forward import ForwardModel, build_forward_model
from napari_orient.engine.model.grid import frequencies, unit_phase
from napari_orient.engine.model.noise import mean_power, mirrored, radial_level, smooth_spectrum, window
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.model.tilts import shifted_gain
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.model.wedge import Wedge

if TYPE_CHECKING:
    from napari_orient.engine.matching.fit import Fit

_DECAYS = torch.linspace(0, 6000, 61)
"""Å², values of B in exp(-B k²) that are tried: a B-factor of 4 B = 0 to 24,000 Å². At 10 Å voxels PolNet's tomograms
show 800 to 1,200 with the proteasome, 4,900 to 6,000 with the ribosome, inaccurate picks included."""
_TYPICAL_DECAY = 1500.0
"""Å², mean of the Gaussian prior on B; chosen, and outweighed by the data of a few dozen particles."""
_DECAY_SPREAD = 1500.0
"""Å², standard deviation of that prior."""
_BATCH = 32
"""Patches whose references are computed together; bounds memory only."""
_BLUR = 1.5
"""Fourier coefficients, standard deviation of the Gaussian average over neighbours; chosen."""
_GAIN_SPREAD = 0.5
"""Standard deviation of the Gaussian prior, of mean 1, on the factor by which `calibrate` changes the gain; chosen."""
_NEIGHBOURS = (2 * np.sqrt(np.pi) * _BLUR) ** 3
"""Number of independent coefficients in an average over neighbours."""
_LEAST_NOISE = 0.2
"""Least share of the patches' power that is noise, while poses are unknown; keeps the noise positive. Chosen."""
UNKNOWN_TRANSFER = Transfer()
"""No shape: the gain decays smoothly."""
_LOWEST_FREQUENCIES = 1.5
"""Fourier coefficients from the origin that the first regression leaves out: slow density of ice and neighbours."""


def initial_forward_model(
    patches: Tensor,
    reference: Reference,
    wedge: Wedge,
    *,
    voxel_size: float,
    resolution: float,
    transfer: Transfer = UNKNOWN_TRANSFER,
) -> ForwardModel:
    """Forward model estimated without poses, on the patches' device.

    The reference's mean over all rotations, a ball, matches a patch alike whatever the particle's rotation: it gives
    the amplitude, the sign of the contrast, and the decay of the signal with frequency, ``exp(-B k²)``. The power that
    such a reference brings is then subtracted from the patches' mean power; the rest is noise.

    Parameters
    ----------
    patches : (N, n, n, n), each of mean 0 and sd 1, centred within a few voxels.
    voxel_size, resolution : Å; nothing finer is used.
    transfer : shape of the gain, which the decay and the amplitude are fitted to.
    """
    side = patches.shape[-1]
    soft = window(side, voxel_size, reference.radius)
    total = mean_power(patches, soft)
    grid = frequencies(side, voxel_size)
    ball, power = _over_rotations(reference.to("cpu"), grid)
    wedge_weight = wedge.weights(grid, 1 / (side * voxel_size))
    spectrum = smooth_spectrum(total, wedge, voxel_size)
    shape = transfer.shape(grid, spectrum, 1 / (side * voxel_size))
    mean = torch.fft.fftn(torch.fft.ifftshift(patches.mean(0).cpu() * soft), dim=(-3, -2, -1)).real
    # Beyond the resolution a smoothed tomogram holds leakage alone, of so little power that it would outweigh the rest.
    beyond = grid.norm(dim=-1) > 1 / resolution
    variance = (spectrum * side**3 / len(patches)).masked_fill(beyond, torch.inf)
    gain = shape * _decaying_gain(ball * shape * wedge_weight, mean, variance, grid)
    signal = (gain * wedge_weight).square() * power / soft.square().sum()
    noise = smooth_spectrum(torch.maximum(total - signal, _LEAST_NOISE * total), wedge, voxel_size)
    model = build_forward_model(noise, wedge, voxel_size=voxel_size, resolution=resolution, radius=reference.radius)
    x, y, z = model.indices.unbind(1)
    gain = gain[z, y, x]
    return replace(
        model,
        whitened_gain=model.whitened_gain * gain.abs(),
        whitening=model.whitening * torch.where(gain < 0, -1.0, 1.0),
    ).to(patches.device)


def calibrate(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit, *, wedge: Wedge) -> ForwardModel:
    """Forward model with gain and noise estimated anew, from patches and the references fitted to them.

    The gain is the regression of the patches on their fitted references; it need not be the same along and across the
    tilts, nor fall off evenly. The noise is the power of the residuals. Where no reference fits with a positive
    amplitude, as in water, the model stays as it is.

    Parameters
    ----------
    observed : (N, 2, M) as the model observes them.
    fit : the poses fitted to them.
    """
    match, power, residual = _regression(reference, model, observed, fit)
    if not bool(power.any()):
        return model
    cubes = _Cubes(model)
    level = cubes.radial(power)
    precision = cubes.smooth(power / level, wedge)
    gain = cubes.smooth(match.real / level, wedge) / precision
    gain = _shrunk(gain, precision * level * _NEIGHBOURS)
    deviation = (cubes.smooth(residual, wedge) / (2 * len(observed) * model.window_power)).sqrt()
    return replace(
        model,
        whitened_gain=model.whitened_gain * gain.clamp_min(0) / deviation,
        whitening=model.whitening / deviation,
    )


def align_tilts(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    fit: Fit,
    *,
    wedge: Wedge,
    series: TiltSeries | None = None,
) -> ForwardModel:
    """Forward model with the phases and amplitudes that residual shifts of the tilt images give the gain.

    A tilt image that was aligned imperfectly shifts its plane of coefficients alike for all particles of the tomogram;
    all particles together estimate by how much.

    Parameters
    ----------
    observed, fit : as in `calibrate`, of particles of one tomogram.
    wedge : where it is complete the tilts are unknown, and the model stays as it is.
    series : the tilt series, where it is known; else images are taken to lie three degrees apart.
    """
    if wedge.complete:
        return model
    match, power, _ = _regression(reference, model, observed, fit)
    gain = shifted_gain(model, series or wedge.as_series(), match, power)
    phase = unit_phase(-gain.angle())
    return replace(model, whitened_gain=model.whitened_gain * gain.abs(), whitening=model.whitening * phase)


def _shrunk(gain: Tensor, precision: Tensor) -> Tensor:
    """Posterior mean of gains under a Gaussian prior about 1, given their precision (inverse variance)."""
    return 1 + (gain - 1) * (_GAIN_SPREAD**2 / (_GAIN_SPREAD**2 + 1 / precision.clamp_min(1e-9)))


def _regression(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over particles for each coefficient, (M,) each: m* x (complex), |m|², and the residual power |x - m|²."""

    def summed(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        transform = reference.transform(model.frequency @ fit.rotations[rows]) * model.whitened_gain
        angle = -2 * torch.pi * (fit.shifts[rows] @ model.frequency.T)
        phase = torch.polar(fit.amplitude[rows, None].clamp_min(0), angle)
        predicted = transform * phase
        patch = torch.view_as_complex(observed[rows].movedim(1, -1).contiguous())
        residual = (patch - predicted).abs().square().sum(0)
        return (predicted.conj() * patch).sum(0), predicted.abs().square().sum(0), residual

    parts = in_parallel(summed, torch.arange(len(observed)).split(_BATCH), device=observed.device)
    match, power, residual = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
    return match, power, residual


class _Cubes:
    """Coefficients laid out in a cube of Fourier space, to be averaged with their neighbours."""

    def __init__(self, model: ForwardModel) -> None:
        side = model.box
        self._model = model
        indices = model.indices.cpu().numpy()
        self._radius = np.linalg.norm(indices, axis=1)
        self._own = tuple(indices[:, axis] % side for axis in (2, 1, 0))
        self._friedel = tuple(-indices[:, axis] % side for axis in (2, 1, 0))

    def radial(self, values: Tensor) -> Tensor:
        """The radial mean of values (M,)."""
        column = values.cpu().numpy().astype(np.float64)
        return self._column(radial_level(column, self._radius, np.ones(len(column), bool)))

    def smooth(self, values: Tensor, wedge: Wedge) -> Tensor:
        """Values (M,) averaged with their neighbours, and over the mirrors that the wedge allows."""
        column = values.cpu().numpy().astype(np.float64)
        blurred = self._blurred(column, wedge)
        return self._column(blurred / self._blurred(np.ones_like(column), wedge))

    def _blurred(self, column: NDArray[np.float64], wedge: Wedge) -> NDArray[np.float64]:
        from scipy.ndimage import gaussian_filter

        cube = np.zeros((self._model.box,) * 3)
        cube[self._own] = cube[self._friedel] = column
        return np.asarray(gaussian_filter(mirrored(cube, wedge), _BLUR, mode="wrap")[self._own])

    def _column(self, values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._model.frequency.device)


def _decaying_gain(ball: Tensor, mean: Tensor, noise: Tensor, grid: Tensor) -> Tensor:
    """The gain ``a exp(-B k²)``, (n, n, n), of greatest posterior: a ball fitted to a mean spectrum, prior on B.

    Parameters
    ----------
    ball, mean, noise : (n, n, n) transform of the ball, mean transform of the patches, and variance of that mean.
    grid : (n, n, n, 3) frequencies.
    """
    square = grid.square().sum(-1)
    weight = torch.where(square > (_LOWEST_FREQUENCIES * grid[0, 0, 1, 0]) ** 2, 1 / noise, 0.0)
    gains, posterior = [], []
    for decay in _DECAYS:
        fall = torch.exp(-decay * square)
        match, norm = (weight * ball * fall * mean).sum(), (weight * (ball * fall).square()).sum()
        gains.append(match / norm * fall)
        posterior.append(float(match**2 / norm / 2) - float((decay - _TYPICAL_DECAY) / _DECAY_SPREAD) ** 2 / 2)
    return gains[int(np.argmax(posterior))]


def _over_rotations(reference: Reference, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over rotations of the reference's transform (real, by Friedel) and of its power, (n, n, n) each."""
    radius = grid.norm(dim=-1)
    shells = torch.arange(0, 1 / reference.resolution, float(grid[0, 0, 1, 0]) / 2)
    ball, power = reference.rotational_means(shells)
    inside = radius.numpy() <= 1 / reference.resolution

    def on_grid(profile: Tensor) -> Tensor:
        return torch.as_tensor(np.where(inside, np.interp(radius, shells, profile), 0.0), dtype=torch.float32)

    return on_grid(ball), on_grid(power)
