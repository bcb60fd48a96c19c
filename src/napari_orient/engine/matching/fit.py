"""Gauss–Newton fit of a reference's rotation, shift and amplitude to whitened coefficients, and its covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import rotvec_to_matrix

STEP_DEG, STEP_VOXELS = 12.0, 1.5
"""How far one step may turn, and shift: the linear model bears no more."""
_PROMISE_NATS = 0.003
"""Log-likelihood that a step must promise to be tried: less is a twelfth of the error that the noise leaves."""
_MODE_NATS = 15.0
"""Log-likelihood by which a mode may be worse than the best, in the coarser model, and still be refitted."""
_MODE_STEPS = 4
"""Gauss-Newton steps of a mode, at most."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Poses of a reference in N patches and how well they match.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    gram : (N, 8, 8) inner products of [model, its derivatives by turn (3, reference frame, radians) and by shift
        (3, Å), patch], all whitened; and what a `Place` tells of turn and shift.
    """

    rotations: Tensor
    shifts: Tensor
    gram: Tensor

    @cached_property
    def score(self) -> Tensor:
        """Match in standard deviations of the noise, (N,): half its square is the gain in log-likelihood."""
        return self.gram[:, 0, 7] / self.gram[:, 0, 0].clamp_min(1e-12).sqrt()

    @cached_property
    def log_likelihood_gain(self) -> Tensor:
        """Gain in log-likelihood over no particle, (N,), at the best amplitude that is not negative."""
        return self.score.clamp_min(0).square() / 2

    @cached_property
    def amplitude(self) -> Tensor:
        """The reference's amplitude, (N,)."""
        return self.gram[:, 0, 7] / self.gram[:, 0, 0].clamp_min(1e-12)

    def information(self) -> Tensor:
        """Fisher information on turn (radians) and shift (Å) with the amplitude free, (N, 6, 6)."""
        return self.amplitude.square()[:, None, None] * _profiled(self.gram)

    def gradient(self) -> Tensor:
        """Gradient of the log-likelihood by rotation (radians) and shift (Å), at the best amplitude, (N, 6)."""
        amplitude = self.amplitude[:, None]
        return amplitude * (self.gram[:, 1:7, 7] - amplitude * self.gram[:, 1:7, 0])

    def covariance(self) -> Tensor:
        """Covariance that the noise leaves on turn (radians) and shift (Å), (N, 6, 6): the Cramér-Rao bound."""
        information = self.information()
        floor = 1e-6 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))
        bound: Tensor = torch.linalg.inv(information + floor)
        return bound

    def take(self, rows: Tensor) -> Fit:
        """The fits of these rows."""
        return Fit(*(getattr(self, item.name)[rows] for item in fields(Fit)))

    def with_rows(self, rows: Tensor, others: Fit) -> Fit:
        """The same fits with some rows replaced."""
        names = [item.name for item in fields(Fit)]
        return Fit(*(getattr(self, name).index_copy(0, rows, getattr(others, name)) for name in names))


def rank_fits(log_likelihood_gain: Tensor, owner: Tensor, count: int) -> Tensor:
    """Of any number of fits of each patch, the rows of the best, (N, count); where there are fewer, the best again.

    Parameters
    ----------
    evidence : (L,) of each fit.
    owner : (L,) which patch it is a fit of; every patch from 0 to the last has one.
    """
    order = log_likelihood_gain.argsort(descending=True)
    order = order[owner[order].argsort(stable=True)]
    size = torch.bincount(owner)
    first = size.cumsum(0) - size
    place = torch.arange(count, device=log_likelihood_gain.device)
    return order[first[:, None] + torch.where(place < size[:, None], place, 0)]


def concatenate_fits(fits: list[Fit]) -> Fit:
    """Fits of one batch after another."""
    return Fit(*(torch.cat([getattr(fit, item.name) for fit in fits]) for item in fields(Fit)))


def fit_at(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    rotations: Tensor,
    shifts: Tensor,
) -> Fit:
    """The match of the reference in given poses.

    Parameters
    ----------
    observed : (N, 2, M) as `ForwardModel.observe` gives it.
    rotations : (N, 3, 3).
    shifts : (N, 3) Å from the centre that the patches were observed about.
    """
    rows = design_matrix(reference, model, observed, rotations, shifts)
    return Fit(rotations, shifts, rows @ rows.transpose(1, 2))


def design_matrix(
    reference: Reference, model: ForwardModel, observed: Tensor, rotations: Tensor, shifts: Tensor
) -> Tensor:
    """Model, its derivatives by turn (3) and by shift (3), and patch, whitened, about the particle, (N, 8, 2 M).

    Parameters are those of `fit_at`, units those of `Fit`.
    """
    frequency = model.frequency
    found, own = reference.rotated(frequency, rotations, weight=model.whitened_gain)
    wave = 2 * torch.pi * frequency.T
    rows = found.new_empty(len(found), 8, 2, len(frequency))
    rows[:, 0] = found[:, 0]
    # By a turn: slope × frequency.
    own = own[:, :, None]
    torch.mul(found[:, 2:5], own[:, 2:], out=rows[:, 1:4]).addcmul_(found[:, 3:], own[:, 1:4], value=-1)
    torch.mul(found[:, :1, 1], wave, out=rows[:, 4:7, 0])
    torch.mul(found[:, :1, 0], -wave, out=rows[:, 4:7, 1])
    _phased(observed, shifts @ wave, out=rows[:, 7])
    return rows.flatten(2)


def fit_poses(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    *,
    rotations: Tensor,
    shifts: Tensor,
    steps: int,
) -> Fit:
    """The nearest best match from given starts; `gauss_newton` from what `fit_at` says of them."""
    return gauss_newton(reference, model, observed, fit_at(reference, model, observed, rotations, shifts), steps=steps)


def gauss_newton(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    fit: Fit,
    *,
    steps: int,
) -> Fit:
    """The nearest best match from a fit: damped Gauss-Newton steps, kept only where the match improves.

    Parameters
    ----------
    observed : as in `fit_at`.
    steps : trial steps, at most: none are tried that promise next to nothing.
    """
    damping = torch.full_like(fit.score, 1e-3)
    for _ in range(steps):
        step, promise = _step(fit, damping, model.voxel_size)
        rows = (promise > _PROMISE_NATS).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        every = len(rows) == len(observed)
        last, seen, step = (fit, observed, step) if every else (fit.take(rows), observed[rows], step[rows])
        turned = last.rotations @ rotvec_to_matrix(step[:, :3])
        trial = fit_at(reference, model, seen, turned, last.shifts + step[:, 3:])
        better = trial.log_likelihood_gain > last.log_likelihood_gain
        hit = better.nonzero().squeeze(1)
        fit = trial if len(hit) == len(observed) else fit.with_rows(rows[hit], trial.take(hit))
        damping[rows] *= torch.where(better, 0.2, 20.0)
        damping.clamp_(1e-5, 1e3)
    return fit


def fit_modes(reference: Reference, model: ForwardModel, observed: Tensor, fits: list[Fit]) -> list[Fit]:
    """Competing modes of the posterior: fits of the same patches, refitted and ranked, best first.

    Parameters
    ----------
    fits : best first, as a coarser model ranks them; those far worse than the best are left out.
    """
    gain = torch.stack([fit.log_likelihood_gain for fit in fits], dim=1)
    row, mode = (gain >= gain[:, :1] - _MODE_NATS).nonzero(as_tuple=True)
    starts = concatenate_fits(fits).take(mode * len(observed) + row)
    fit = fit_poses(
        reference, model, observed[row], rotations=starts.rotations, shifts=starts.shifts, steps=_MODE_STEPS
    )
    rows = rank_fits(fit.log_likelihood_gain, row, len(fits))
    return [fit.take(column) for column in rows.unbind(1)]


@lru_cache(maxsize=32)
def _most(voxel_size: float, device: torch.device) -> Tensor:
    """How far a step may turn, in radians, and shift, in Å, (2,)."""
    return torch.tensor([math.radians(STEP_DEG), STEP_VOXELS * voxel_size], device=device)


def _step(fit: Fit, damping: Tensor, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Step of turn (radians) and shift (Å), (N, 6), held to what the linear model can bear; nats it promises, (N,)."""
    amplitude = fit.amplitude.clamp_min(1e-12)[:, None]
    gram = fit.gram
    slope = gram[:, 1:7, 7] - amplitude * gram[:, 1:7, 0]
    matrix = _profiled(gram)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1, keepdim=True).clamp_min(1e-9)
    diagonal.add_(damping[:, None] * diagonal + 1e-9 * largest)
    step = torch.linalg.solve_ex(matrix, slope)[0]
    promise = (slope * step).sum(-1) / 2
    step = step / amplitude
    over = step.view(-1, 2, 3).norm(dim=-1) / _most(voxel_size, step.device)
    return step / over.amax(-1, keepdim=True).clamp_min(1), promise


def _profiled(gram: Tensor) -> Tensor:
    """Inner products of the derivatives with the model itself projected out, (N, 6, 6)."""
    cross = gram[:, 1:7, 0]
    return gram[:, 1:7, 1:7] - cross[:, :, None] * cross[:, None, :] / gram[:, 0, 0].clamp_min(1e-12)[:, None, None]


def _phased(observed: Tensor, angle: Tensor, *, out: Tensor) -> None:
    """Coefficients of the patch moved so that the particle stands at the centre, (N, 2, M); angles in radians."""
    cosine, sine = angle.cos(), angle.sin()
    torch.mul(observed, cosine[:, None], out=out)
    out[:, 0].addcmul_(observed[:, 1], sine, value=-1)
    out[:, 1].addcmul_(observed[:, 0], sine)
