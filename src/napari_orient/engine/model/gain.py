"""What the patches themselves say of the model: their noise, and how strongly the reference shows in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel, build_forward_model
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.noise import mean_power, mirrored, radial_level, smooth_spectrum, window
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.tilts import shifted_gain
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.rotations import even_rotations
from napari_orient.engine.threads import in_parallel

if TYPE_CHECKING:
    from napari_orient.engine.matching.fit import Fit

_DECAYS = torch.linspace(0, 6000, 61)
_USUAL_DECAY, _DECAY_SPREAD = 1500.0, 1500.0
_BATCH = 32
_BLUR = 1.5
_GAIN_SPREAD = 0.5
_NEIGHBOURS = (2 * np.sqrt(np.pi) * _BLUR) ** 3
"""How many independent coefficients the blur brings together."""
_LEAST_NOISE = 0.2


def initial_forward_model(
    patches: Tensor, reference: Reference, wedge: Wedge, *, voxel_size: float, resolution: float
) -> ForwardModel:
    """The model estimated before any pose is known, on the patches' device.

    The reference's mean over all rotations, a ball, matches a patch alike however the particle is turned: it gives the
    amplitude, the sign of the contrast, and the decay of the signal with frequency, ``exp(-B k²)``. The power that such
    a reference brings is then taken off the patches' mean power; the rest is noise.

    Parameters
    ----------
    patches : (N, n, n, n), each of mean 0 and sd 1, centred within a few voxels.
    voxel_size, resolution : Å.
    """
    side = patches.shape[-1]
    view = window(side, voxel_size, reference.radius)
    total = mean_power(patches, view)
    grid = frequencies(side, voxel_size)
    ball, power = _over_rotations(reference.to("cpu"), grid)
    measured = wedge.weights(grid, 1 / (side * voxel_size))
    colour = smooth_spectrum(total, wedge, voxel_size)
    seen = torch.fft.fftn(torch.fft.ifftshift(patches.mean(0).cpu() * view), dim=(-3, -2, -1)).real
    gain = _decaying_gain(ball * measured, seen, colour * side**3 / len(patches), grid)
    signal = (gain * measured).square() * power / view.square().sum()
    noise = smooth_spectrum(torch.maximum(total - signal, _LEAST_NOISE * total), wedge, voxel_size)
    sign = float(gain.sum().sign())
    model = build_forward_model(
        noise, wedge, voxel_size=voxel_size, resolution=resolution, radius=reference.radius, sign=sign
    )
    x, y, z = model.indices.unbind(1)
    return replace(model, whitened_gain=model.whitened_gain * gain.abs()[z, y, x]).to(patches.device)


def calibrate(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit, *, wedge: Wedge) -> ForwardModel:
    """The model with gain and noise measured anew, from what fitted references explain of the patches.

    The gain at a frequency is the regression of the patches on their fitted references; it need not be the same along
    and across the tilts, nor fall off evenly. The noise is the power of what the references then leave.
    Where no reference fits with its own sign, as in water, the model stays as it is.

    Parameters
    ----------
    observed : (N, 2, M) as the model observes them.
    fit : the poses fitted to them.
    """
    match, power, left = _regression(reference, model, observed, fit)
    if not bool(power.any()):
        return model
    cubes = _Cubes(model)
    level = cubes.radial(power)
    known = cubes.smooth(power / level, wedge)
    gain = cubes.smooth(match.real / level, wedge) / known
    gain = _shrunk(gain, known * level * _NEIGHBOURS)
    deviation = (cubes.smooth(left, wedge) / (2 * len(observed) * model.window_power)).sqrt()
    return replace(
        model, whitened_gain=model.whitened_gain * gain.clamp_min(0) / deviation, whitening=model.whitening / deviation
    )


def align_tilts(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit, *, wedge: Wedge) -> ForwardModel:
    """The model of one tomogram with what its tilt images' own shifts do to its coefficients, phase and all.

    Images that were aligned imperfectly shift their planes of coefficients alike for all particles of the tomogram; the
    particles together tell by how much.

    Parameters
    ----------
    observed, fit : as in `calibrate`, of particles of one tomogram.
    wedge : with an axis; without one the tilts are unknown, and the model stays as it is.
    """
    if wedge.axis == "none":
        return model
    match, power, _ = _regression(reference, model, observed, fit)
    gain = shifted_gain(model, wedge, match, power)
    turned = torch.polar(torch.ones_like(gain.real), -gain.angle())
    return replace(model, whitened_gain=model.whitened_gain * gain.abs(), whitening=model.whitening * turned)


def _shrunk(gain: Tensor, precision: Tensor) -> Tensor:
    """Gains drawn towards 1, what was believed before, where they are known to less than their usual spread."""
    return 1 + (gain - 1) * (_GAIN_SPREAD**2 / (_GAIN_SPREAD**2 + 1 / precision.clamp_min(1e-9)))


def _regression(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> tuple[Tensor, Tensor, Tensor]:
    """For each coefficient, (M,) each, summed over particles: model* · patch, |model|², and the power left."""

    def summed(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        predicted = reference.sample(model.frequency @ fit.rotations[rows])[..., 0] * model.whitened_gain[:, None]
        angle = -2 * torch.pi * (fit.shifts[rows] @ model.frequency.T)
        shown = torch.view_as_complex(predicted.contiguous()) * torch.polar(
            fit.amplitude[rows, None].clamp_min(0), angle
        )
        patch = torch.view_as_complex(observed[rows].movedim(1, -1).contiguous())
        return (shown.conj() * patch).sum(0), shown.abs().square().sum(0), (patch - shown).abs().square().sum(0)

    parts = in_parallel(summed, torch.arange(len(observed)).split(_BATCH), device=observed.device)
    match, power, left = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
    return match, power, left


class _Cubes:
    """Coefficients laid out in space, to be averaged with their neighbours."""

    def __init__(self, model: ForwardModel) -> None:
        side = model.box
        self._model = model
        steps = model.indices.cpu().numpy()
        self._radius = np.linalg.norm(steps, axis=1)
        self._own = tuple(steps[:, axis] % side for axis in (2, 1, 0))
        self._mate = tuple(-steps[:, axis] % side for axis in (2, 1, 0))

    def radial(self, values: Tensor) -> Tensor:
        """The level of values (M,) by their distance from the origin alone."""
        column = values.cpu().numpy().astype(np.float64)
        return self._column(radial_level(column, self._radius, np.ones(len(column), bool)))

    def smooth(self, values: Tensor, wedge: Wedge) -> Tensor:
        """Values (M,) averaged with their neighbours, and over the mirrors that the wedge allows."""
        column = values.cpu().numpy().astype(np.float64)
        blurred = self._blurred(column, wedge)
        return self._column(blurred / self._blurred(np.ones_like(column), wedge))

    def _blurred(self, column: NDArray[np.float64], wedge: Wedge) -> NDArray[np.float64]:
        cube = np.zeros((self._model.box,) * 3)
        cube[self._own] = cube[self._mate] = column
        return np.asarray(gaussian_filter(mirrored(cube, wedge), _BLUR, mode="wrap")[self._own])

    def _column(self, values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._model.frequency.device)


def _decaying_gain(ball: Tensor, seen: Tensor, noise: Tensor, grid: Tensor) -> Tensor:
    """The gain ``a exp(-B k²)`` at which a ball best shows in a mean spectrum, (n, n, n), with B held to the usual."""
    square = grid.square().sum(-1)
    weight = torch.where(square > (1.5 * grid[0, 0, 1, 0]) ** 2, 1 / noise, 0.0)
    best, answer = -torch.inf, torch.zeros_like(ball)
    for decay in _DECAYS:
        fall = torch.exp(-decay * square)
        match, norm = (weight * ball * fall * seen).sum(), (weight * (ball * fall).square()).sum()
        worth = float(match**2 / norm / 2) - float((decay - _USUAL_DECAY) / _DECAY_SPREAD) ** 2 / 2
        if worth > best:
            best, answer = worth, match / norm * fall
    return answer


def _over_rotations(reference: Reference, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over rotations of the reference's transform (real, by Friedel) and of its power, (n, n, n) each."""
    radius = grid.norm(dim=-1)
    steps = torch.arange(0, 1 / reference.resolution, float(grid[0, 0, 1, 0]) / 2)
    beams = torch.as_tensor(even_rotations(500)[:, :, 2], dtype=torch.float32)
    values = reference.sample(steps[:, None, None] * beams)[..., 0]
    ball, power = values[..., 0].mean(1), values.square().sum(-1).mean(1)
    inside = radius.numpy() <= 1 / reference.resolution

    def spread(profile: Tensor) -> Tensor:
        return torch.as_tensor(np.where(inside, np.interp(radius, steps, profile), 0.0), dtype=torch.float32)

    return spread(ball), spread(power)
