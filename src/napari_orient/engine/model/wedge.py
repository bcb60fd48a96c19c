"""Missing wedge: which Fourier coefficients a tilt series measured, given or estimated from the patches' power.

A tilt by θ about y measures the plane k_z = tan(θ) k_x; a series from low to high measures the coefficients between
those two planes. The tilt axis need not be y, nor lie in the tomogram's plane: frequencies are first turned into the
frame of the stage, k' = Rx(-level) Rz(-axis) k, as in `tilt_series`.

The wedge is estimated by maximum likelihood from a mean power spectrum. In each shell of frequency the power has one
level where it was measured and another, leaked in through the window, where it was not. The power of a coefficient
is gamma distributed about its level μ, so that the log-likelihood is -ν Σ (P / μ + log μ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.rotations import FloatArray

_ALIGNED_DEG = 3.0
"""Degrees of axis, level or asymmetry of the tilts within which mirrors and half-turns count as keeping the wedge: half
a Fourier coefficient at 10 coefficients from the origin."""
_SAME_AXIS_DEG = 15.0
"""Degrees between tilt axes that count as the same."""
_SAME_TILTS_DEG = 12.0
"""Degrees between the ends of two ranges of tilts that count as the same."""
_TILT_STEP_DEG = 3.0
"""Degrees between tilt images where their angles are unknown: the usual step of a series."""
_NAMED_DEG = 1.5
"""Degrees from y or x within which the tilt axis is called by that letter."""


@dataclass(frozen=True)
class Wedge:
    """The tilt range of a tomogram and the axis that it was tilted about; ±90° is a tomogram without a missing wedge.

    Parameters
    ----------
    axis_deg : from the tomogram's y to the tilt axis, counter-clockwise seen from +z; 0 is y, 90 is x. A tilt by θ
        measures the plane ``k_z = tan(θ) k_x`` (about x: ``k_z = tan(θ) k_y``).
    low_deg, high_deg : the range of tilts, degrees, within -90 to 90.
    level_deg : by which the tilt axis leans out of the tomogram's plane.

    Raises
    ------
    InputError
        If the range is empty or out of bounds, or an angle is.
    """

    axis_deg: float = 0.0
    low_deg: float = -60.0
    high_deg: float = 60.0
    level_deg: float = 0.0

    def __post_init__(self) -> None:
        """Check axis and range."""
        if not -180 <= self.axis_deg <= 180:
            raise InputError(f"the tilt axis is {self.axis_deg:g}° from y; expected an angle within -180° to 180°.")
        if not -45 <= self.level_deg <= 45:
            raise InputError(f"the level angle is {self.level_deg:g}°; expected one within -45° to 45°.")
        if not -90 <= self.low_deg < self.high_deg <= 90:
            raise InputError(
                f"tilts run from {self.low_deg:g}° to {self.high_deg:g}°; expected a range within -90° to 90°."
            )

    @classmethod
    def of_series(cls, series: TiltSeries) -> Self:
        """The wedge of a tilt series: its mean axis, its lowest and highest tilt."""
        across, along, beam = series.stage_frame
        tilts = np.degrees(np.arctan2(-series.axes[:, 2] @ across, series.axes[:, 2] @ beam))
        axis = math.degrees(math.atan2(-along[0], along[1]))
        level = math.degrees(math.asin(np.clip(along[2], -1, 1)))
        return cls(axis, float(max(tilts.min(), -90)), float(min(tilts.max(), 90)), level)

    def as_series(self) -> TiltSeries:
        """A tilt series of this wedge, an image every three degrees."""
        count = 1 + max(1, round((self.high_deg - self.low_deg) / _TILT_STEP_DEG))
        tilts = np.linspace(self.low_deg, self.high_deg, count)
        return TiltSeries.of_angles(tilts, axis_deg=self.axis_deg, level_deg=self.level_deg)

    @property
    def complete(self) -> bool:
        """Whether every coefficient was measured."""
        return self.low_deg <= -90 and self.high_deg >= 90

    @property
    def words(self) -> str:
        """The wedge in words, such as ``tilted about y from -60° to 60°``."""
        if self.complete:
            return "none"
        same = self.canonical
        level = f", level {same.level_deg:.0f}°" if abs(same.level_deg) > _NAMED_DEG else ""
        return f"tilted about {self.axis_words} from {same.low_deg:.0f}° to {same.high_deg:.0f}°{level}"

    @property
    def canonical(self) -> Self:
        """The same wedge with an axis that points to +y or +x: reversing the axis reverses tilts and level."""
        halves = math.floor((self.axis_deg + 90 - _NAMED_DEG) / 180)
        if halves == 0:
            return self
        same = replace(self, axis_deg=self.axis_deg - 180 * halves)
        if halves % 2 == 0:
            return same
        return replace(same, low_deg=-self.high_deg, high_deg=-self.low_deg, level_deg=-self.level_deg)

    @property
    def axis_words(self) -> str:
        """The tilt axis in words: ``y``, ``x``, or ``an axis 11° off y``."""
        off = _half_circle(self.axis_deg)
        if abs(off) <= _NAMED_DEG:
            return "y"
        return "x" if abs(off) >= 90 - _NAMED_DEG else f"an axis {off:.0f}° off y"

    def same_axis(self, other: Wedge) -> bool:
        """Whether both were tilted about the same axis, to 15 degrees."""
        off = abs(_half_circle(self.axis_deg - other.axis_deg))
        return off <= _SAME_AXIS_DEG and not self.complete and not other.complete

    def same_range(self, other: Wedge) -> bool:
        """Whether both were tilted about the same axis, and as far to either side, to 12 degrees."""
        if not self.same_axis(other):
            return False
        own, its = self.canonical, other.canonical
        if abs(own.axis_deg - its.axis_deg) > 90:
            its = replace(its, low_deg=-its.high_deg, high_deg=-its.low_deg)
        return max(abs(own.low_deg - its.low_deg), abs(own.high_deg - its.high_deg)) <= _SAME_TILTS_DEG

    @property
    def symmetric(self) -> bool:
        """Whether the half-turns about x, y and z leave the wedge in its place, to a few degrees."""
        return self.mirrors == (0, 1, 2)

    @property
    def mirrors(self) -> tuple[int, ...]:
        """Array axes [kz, ky, kx] whose flips leave the measured coefficients in their place, to a few degrees.

        With Friedel's law a flip is a half-turn: about the beam where tilts are as far to either side, about the tilt
        axis and across it where that lies along x or y.
        """
        if self.complete:
            return (0, 1, 2)
        if abs(self.level_deg) > _ALIGNED_DEG:
            return ()
        even = abs(self.low_deg + self.high_deg) <= _ALIGNED_DEG
        off = abs(_half_circle(self.axis_deg))
        along = 1 if off <= _ALIGNED_DEG else (2 if off >= 90 - _ALIGNED_DEG else None)
        if along is None:
            return (0,) if even else ()
        return (0, 1, 2) if even else (along,)

    def weights(self, frequency: Tensor, spacing: float) -> Tensor:
        """Share of each coefficient that was measured, 0 to 1, (...): the wedge with an edge one coefficient wide.

        Parameters
        ----------
        frequency : (..., 3) xyz in cycles/Å.
        spacing : distance between neighbouring coefficients of the patch, cycles/Å.
        """
        if self.complete:
            return torch.ones_like(frequency[..., 0])
        rows = torch.as_tensor(self.frame, dtype=frequency.dtype, device=frequency.device)
        outside = self._distance_outside(frequency @ rows[0], frequency @ rows[2])
        return (0.5 - outside / spacing).clamp(0, 1)

    @property
    def frame(self) -> FloatArray:
        """The frame of the stage, (3, 3): rows are across the tilt axis, along it, and the beam at no tilt, in xyz."""
        axis, level = math.radians(self.axis_deg), math.radians(self.level_deg)
        across = np.array([math.cos(axis), math.sin(axis), 0.0])
        in_plane = np.array([-math.sin(axis), math.cos(axis), 0.0])
        z = np.array([0.0, 0.0, 1.0])
        along = math.cos(level) * in_plane + math.sin(level) * z
        return np.stack([across, along, math.cos(level) * z - math.sin(level) * in_plane])

    def _distance_outside(self, across: Tensor, along_beam: Tensor) -> Tensor:
        """Distance of coefficients from the nearer edge, positive where they were not measured, in their own unit."""
        # Friedel's law: k and -k are one measurement, so both are taken to the half with k_across >= 0.
        sign = torch.where(across < 0, -1.0, 1.0)
        across, along_beam = across * sign, along_beam * sign
        high, low = math.radians(self.high_deg), math.radians(self.low_deg)
        above = along_beam * math.cos(high) - across * math.sin(high)
        below = across * math.sin(low) - along_beam * math.cos(low)
        return torch.maximum(above, below)


NO_WEDGE = Wedge(low_deg=-90.0, high_deg=90.0)
"""Every coefficient was measured."""


def _half_circle(angle_deg: float) -> float:
    """The angle of an axis without a direction, within -90° to 90°."""
    return (angle_deg + 90) % 180 - 90


# --- estimation -----------------------------------------------------------------------------------------------------

_LOWEST = 0.15
"""Lowest frequency used, in units of the Nyquist frequency: below, slow density and ramps spread along the axes."""
_HIGHEST = 0.95
"""Highest frequency used, in the same units."""
_COARSE = 0.6
"""Share of the frequencies, from the lowest, that a wedge is estimated from besides: what a median of the density
leaves at the highest is uneven in its own way, ±28° about an axis 31° off y where ±60° about y is true."""
_SECTOR_DEG = 2.0
"""Degrees of tilt in one sector of the power that the grid search adds up."""
_LEAST_TILT_DEG = 26.0
"""Degrees; a range of tilts reaches beyond it on either side, or it is something else that makes power uneven."""
_MOST_TILT_DEG = 84.0
"""Degrees; a range of tilts ends before it: a narrower wedge cannot be distinguished from none."""
_AXIS_STEP_DEG = 6.0
"""Degrees between the axes of the grid search."""
_LEVELS_DEG = (-8.0, 0.0, 8.0)
"""Level angles of the grid search."""
_LEVEL_SPREAD_DEG = 4.0
"""Degrees, standard deviation of the Gaussian prior on the level angle: a lamella's own tilt lies mostly along the
tilts, whose range it moves; across them a few degrees remain. Chosen."""
_LEAK = 0.6
"""Fourier coefficients, standard deviation of the fall-off of the power at the wedge's edge: the soft window's own."""
_FIRST_STEP_DEG = 4.0
"""Degrees of the first step of the descent from the grid's best; it is halved four times."""
_HALVINGS = 5
"""Lengths of the descent's steps: 4° to 0.25°."""
_INDEPENDENT = 0.25
"""Independent coefficients among those of a windowed patch: the share of its volume that the window passes."""
_LEAST_COEFFICIENTS = 100
"""Coefficients of a spectrum that a wedge is estimated from, at least: half a patch of ten voxels has so many."""
_LEAST_POWER = 1e-3
"""Least mean power of a shell that is used, over that of the strongest; the side lobes of the window reach 1e-4."""
_LEAST_CONTRAST = 0.6
"""Mean logarithm of the power measured over that which leaked (a factor of 1.8), from which there is a wedge. PolNet's
tomograms show 3.0, with a ramp of 10 sd 2.4, real ribosomes in boxes 3.7 to 4.1, noise without a wedge 0.1 or less."""
_SIGNIFICANT = 8.0
"""Standard errors of that contrast from which there is a wedge: the best of thousands in noise reaches 5."""
_ISOTROPIC = 0.3
"""Contrast (a factor of 1.35) below which the power is isotropic, if it is known to a sixth of that."""


def estimate_wedge(power: Tensor, voxel_size: float, *, finest: float = 0.0) -> Wedge | None:
    """The wedge of greatest likelihood for a mean power spectrum; `NO_WEDGE` where that is even, None where unclear.

    Where the coarser frequencies alone show another wedge than all do, theirs counts. A smooth tomogram is never taken
    for isotropic: what the window spreads is.

    Parameters
    ----------
    power : (n, n, n) mean power of patches, as `noise.mean_power` gives it, indexed [kz, ky, kx].
    voxel_size, finest : Å; nothing finer counts.
    """
    highest = _highest(voxel_size, finest)
    found, coarse = (_estimated(_Spectrum.of(power, voxel_size, highest * share)) for share in (1.0, _COARSE))
    if finest and found is not None and found.complete:
        return None
    if coarse is None or coarse.complete or (found is not None and (found.complete or found.same_range(coarse))):
        return found
    return coarse


def _highest(voxel_size: float, finest: float) -> float:
    """The highest frequency that counts, in units of the Nyquist frequency."""
    return min(_HIGHEST, 2 * voxel_size / finest) if finest else _HIGHEST


def _estimated(spectrum: _Spectrum) -> Wedge | None:
    """The wedge of a spectrum; see `estimate_wedge`."""
    if len(spectrum.power) < _LEAST_COEFFICIENTS:
        return None
    best = max(
        (
            spectrum.best_range(Wedge(axis_deg=axis, level_deg=level))
            for axis in np.arange(-90 + _AXIS_STEP_DEG, 91, _AXIS_STEP_DEG)
            for level in _LEVELS_DEG
        ),
        key=spectrum.posterior,
    )
    step = _FIRST_STEP_DEG
    for _ in range(_HALVINGS):
        best = spectrum.climbed(best, step)
        step /= 2
    contrast, error = spectrum.contrast(best)
    tilts = np.abs([best.low_deg, best.high_deg])
    within = tilts.min() > _LEAST_TILT_DEG and tilts.max() < _MOST_TILT_DEG
    if within and contrast >= max(_LEAST_CONTRAST, _SIGNIFICANT * error):
        return best.canonical
    return NO_WEDGE if contrast < _ISOTROPIC and error < _ISOTROPIC / 6 else None


def log_likelihood(power: Tensor, voxel_size: float, wedge: Wedge, *, finest: float = 0.0) -> float:
    """Log-likelihood of a wedge for a mean power spectrum, as `estimate_wedge` takes it, up to a constant."""
    return _Spectrum.of(power, voxel_size, _highest(voxel_size, finest)).posterior(wedge)


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Power of half of the coefficients within a band of frequency.

    Parameters
    ----------
    power : (K,) positive, over its radial mean.
    place : (K, 3) xyz in Fourier coefficients from the origin.
    shell : (K,) numbers of shells, from 0.
    independent : independent measurements that the power of one coefficient stands for.
    """

    power: FloatArray
    place: Tensor
    shell: NDArray[np.int_]
    independent: float

    @classmethod
    def of(cls, power: Tensor, voxel_size: float, highest: float = _HIGHEST) -> Self:
        """The coefficients of a cube of power, up to a share of the Nyquist frequency."""
        side, cube = power.shape[-1], power.double()
        place = frequencies(side, voxel_size).double() * side * voxel_size
        radius = place.norm(dim=-1)
        x, y, z = place.unbind(-1)
        half = (z > 0) | ((z == 0) & ((x > 0) | ((x == 0) & (y > 0))))
        band = half & (radius > max(_LOWEST * side / 2, 2)) & (radius < highest * side / 2) & (power.double() > 0)
        if int(band.sum()) < _LEAST_COEFFICIENTS:
            return cls(np.zeros(0), torch.zeros(0, 3), np.zeros(0, int), 1.0)
        number = torch.round(radius).long()
        mean = torch.bincount(number[band], cube[band]) / torch.bincount(number[band]).clamp_min(1)
        # Far below the strongest shell, after a strong low-pass, there is only what leaked in from there.
        band &= mean[number.clamp_max(len(mean) - 1)] > _LEAST_POWER * mean.max()
        filled = np.flatnonzero(mean.numpy() > 0)
        slope = np.exp(np.interp(radius[band].numpy(), filled, np.log(mean.numpy()[filled])))
        shell = np.unique(number[band].numpy(), return_inverse=True)[1]
        scatter = max(_scatter(cube, band), _LEAST_SCATTER)
        return cls(cube[band].numpy() / slope, place[band], shell, _INDEPENDENT / scatter)

    def best_range(self, wedge: Wedge) -> Wedge:
        """The wedge with the range of tilts of greatest likelihood, edges between sectors, for its axis and level."""
        rows = torch.as_tensor(wedge.frame)
        across, beam = (self.place @ rows[0]).numpy(), (self.place @ rows[2]).numpy()
        sign = np.where(across < 0, -1.0, 1.0)
        count = round(180 / _SECTOR_DEG)
        tilt = np.degrees(np.arctan2(beam * sign, across * sign))
        sector = np.clip(((tilt + 90) // _SECTOR_DEG).astype(int), 0, count - 1)
        shells = int(self.shell.max()) + 1
        index = self.shell * count + sector
        total, number = (
            np.concatenate([np.zeros((shells, 1)), values.reshape(shells, count).cumsum(1)], axis=1)
            for values in (
                np.bincount(index, self.power, minlength=shells * count),
                np.bincount(index, minlength=shells * count),
            )
        )
        edge = np.arange(count + 1) * _SECTOR_DEG - 90
        low = np.flatnonzero((edge <= -_LEAST_TILT_DEG) & (edge >= -_MOST_TILT_DEG))
        high = np.flatnonzero((edge >= _LEAST_TILT_DEG) & (edge <= _MOST_TILT_DEG))
        inside, inside_number = (part[:, high][:, None, :] - part[:, low][:, :, None] for part in (total, number))
        outside, outside_number = total[:, -1, None, None] - inside, number[:, -1, None, None] - inside_number
        likelihood = -(_entropy(inside, inside_number) + _entropy(outside, outside_number)).sum(0)
        # Where less power lies inside than outside, it is the wedge of another axis.
        likelihood[(inside.sum(0) * outside_number.sum(0)) <= outside.sum(0) * inside_number.sum(0)] = -np.inf
        first, last = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
        return replace(wedge, low_deg=float(edge[low[first]]), high_deg=float(edge[high[last]]))

    def climbed(self, wedge: Wedge, step: float) -> Wedge:
        """The wedge after steps of this many degrees in one angle at a time, as long as the posterior rises."""
        best, value = wedge, self.posterior(wedge)
        improving = True
        while improving:
            improving = False
            for name in ("axis_deg", "low_deg", "high_deg", "level_deg"):
                for move in (-step, step):
                    trial = _moved(best, name, move)
                    trial_value = self.posterior(trial)
                    if trial_value > value + 1e-6:
                        best, value, improving = trial, trial_value, True
        return best

    def posterior(self, wedge: Wedge) -> float:
        """Logarithm of the posterior of a wedge, up to a constant."""
        level, leaked, inside = self._levels(wedge)
        mean = leaked + (level - leaked) * inside
        likelihood = -self.independent * float((self.power / mean + np.log(mean)).sum())
        return likelihood - (wedge.level_deg / _LEVEL_SPREAD_DEG) ** 2 / 2

    def contrast(self, wedge: Wedge) -> tuple[float, float]:
        """Mean logarithm of the power measured over that leaked, over all shells, and its standard error."""
        level, leaked, inside = self._levels(wedge)
        within, without = inside > 0.5, inside <= 0.5
        if not within.any() or not without.any():
            return 0.0, math.inf
        ratio = np.log(level / leaked)
        contrast = float((ratio * (1 - inside)).sum() / (1 - inside).sum())
        return contrast, math.sqrt((1 / within.sum() + 1 / without.sum()) / self.independent)

    def _levels(self, wedge: Wedge) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Level of the power measured and of that leaked in each coefficient's shell, and how far it was measured."""
        rows = torch.as_tensor(wedge.frame)
        outside = wedge._distance_outside(self.place @ rows[0], self.place @ rows[2])
        inside = torch.special.ndtr(-outside / _LEAK).numpy()
        level = _shell_mean(self.power, np.clip(inside - _CLEAR, _LEAST_WEIGHT, None), self.shell)
        leaked = _shell_mean(self.power, np.clip(1 - _CLEAR - inside, _LEAST_WEIGHT, None), self.shell)
        return level, leaked, inside


_CLEAR = 0.8
"""Share measured, or share not measured, from which a coefficient counts for the level of the one or the other."""
_LEAST_WEIGHT = 1e-6
"""Weight of all others, so that a shell without any has its mean."""


def _moved(wedge: Wedge, name: str, move: float) -> Wedge:
    """The wedge with one angle moved, within what a wedge may be."""
    value = getattr(wedge, name) + move
    if name == "axis_deg":
        return replace(wedge, axis_deg=value).canonical
    bounds = {
        "low_deg": (-_MOST_TILT_DEG, -_LEAST_TILT_DEG),
        "high_deg": (_LEAST_TILT_DEG, _MOST_TILT_DEG),
        "level_deg": (-20.0, 20.0),
    }[name]
    return replace(wedge, **{name: float(np.clip(value, *bounds))})


def _scatter(power: Tensor, chosen: Tensor) -> float:
    """Relative variance of the power about its neighbours', from the differences of coefficients two apart."""
    ratio = torch.stack([power / power.roll(2, axis).clamp_min(1e-30) for axis in range(3)])[:, chosen].log()
    # Half the squared difference of two logarithms; the median, as edges and steep spectra have a few large ones.
    return float(ratio.square().median()) / (2 * _NORMAL_MEDIAN)


_NORMAL_MEDIAN = 0.4549
"""Median of the square of a standard normal variable."""
_LEAST_SCATTER = 1e-4
"""Least relative variance of a mean power, that of ten thousand patches."""


def _shell_mean(values: FloatArray, weight: FloatArray, shell: NDArray[np.int_]) -> FloatArray:
    """Weighted mean over each value's shell, (K,)."""
    mean = np.bincount(shell, weight * values) / np.maximum(np.bincount(shell, weight), 1e-9)
    return np.asarray(mean[shell])


def _entropy(total: FloatArray, number: FloatArray) -> FloatArray:
    """N log(mean), 0 where there is nothing."""
    return np.asarray(number * np.log(np.maximum(total, 1e-30) / np.maximum(number, 1)))
