"""Gauss-Newton on rotation, shift and amplitude of a reference in whitened coefficients, with what the noise leaves."""

from __future__ import annotations

from dataclasses import dataclass, fields

import roma
import torch
from torch import Tensor

from napari_orient.engine.matching.imaging import Imaging
from napari_orient.engine.matching.reference import Reference

_STEP_DEG = 12.0
_STEP_VOXELS = 1.5
_PROMISE_NATS = 0.003
"""Log-likelihood that a step must promise to be tried: less is a twelfth of the error that the noise leaves."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Poses of a reference in N patches and how well they match.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    gram : (N, 8, 8) inner products of [model, its derivatives by turn (3, reference frame, radians) and by shift
        (3, Å), patch], all whitened.
    """

    rotations: Tensor
    shifts: Tensor
    gram: Tensor

    @property
    def score(self) -> Tensor:
        """Match in standard deviations of the noise, (N,): half its square is the gain in log-likelihood."""
        return self.gram[:, 0, 7] / self.gram[:, 0, 0].clamp_min(1e-12).sqrt()

    @property
    def evidence(self) -> Tensor:
        """Gain in log-likelihood over no particle, (N,), at the best amplitude that is not negative."""
        return self.score.clamp_min(0).square() / 2

    @property
    def amplitude(self) -> Tensor:
        """The reference's amplitude, (N,)."""
        return self.gram[:, 0, 7] / self.gram[:, 0, 0].clamp_min(1e-12)

    def information(self) -> Tensor:
        """Fisher information on turn (radians) and shift (Å) with the amplitude free, (N, 6, 6)."""
        return self.amplitude.square()[:, None, None] * _profiled(self.gram)

    def covariance(self) -> Tensor:
        """Covariance that the noise leaves on turn (radians) and shift (Å), (N, 6, 6): the Cramér-Rao bound."""
        information = self.information()
        floor = 1e-6 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))
        bound: Tensor = torch.linalg.inv(information + floor)
        return bound

    def take(self, rows: Tensor) -> Fit:
        """The fits of these rows."""
        return Fit(self.rotations[rows], self.shifts[rows], self.gram[rows])

    def with_rows(self, rows: Tensor, others: Fit) -> Fit:
        """The same fits with some rows replaced."""
        names = [item.name for item in fields(Fit)]
        return Fit(*(getattr(self, name).index_copy(0, rows, getattr(others, name)) for name in names))


def where(chosen: Tensor, first: Fit, second: Fit) -> Fit:
    """The first fit where chosen (N,), else the second."""

    def pick(name: str) -> Tensor:
        one: Tensor = getattr(first, name)
        return torch.where(chosen.reshape(-1, *[1] * (one.dim() - 1)), one, getattr(second, name))

    return Fit(*(pick(item.name) for item in fields(Fit)))


def best_of(fits: list[Fit]) -> Fit:
    """Of several fits of the same patches, the best for each."""
    return leading(fits, 1)[0]


def leading(fits: list[Fit], count: int) -> list[Fit]:
    """Of several fits of the same patches, the best ``count`` for each, best first."""
    order = torch.stack([fit.evidence for fit in fits], dim=1).argsort(dim=1, descending=True)[:, :count]
    row = torch.arange(len(order), device=order.device)
    stacked = [torch.stack([getattr(fit, item.name) for fit in fits], dim=1) for item in fields(Fit)]
    return [Fit(*(column[row, place] for column in stacked)) for place in order.unbind(1)]


def ranking(evidence: Tensor, owner: Tensor, count: int) -> Tensor:
    """Of any number of fits of each patch, the rows of the best, (N, count); where there are fewer, the best again.

    Parameters
    ----------
    evidence : (L,) of each fit.
    owner : (L,) which patch it is a fit of; every patch from 0 to the last has one.
    """
    order = evidence.argsort(descending=True)
    order = order[owner[order].argsort(stable=True)]
    size = torch.bincount(owner)
    first = size.cumsum(0) - size
    place = torch.arange(count, device=evidence.device)
    return order[first[:, None] + torch.where(place < size[:, None], place, 0)]


def joined(fits: list[Fit]) -> Fit:
    """Fits of one batch after another."""
    return Fit(*(torch.cat([getattr(fit, item.name) for fit in fits]) for item in fields(Fit)))


def compare(reference: Reference, imaging: Imaging, observed: Tensor, rotations: Tensor, shifts: Tensor) -> Fit:
    """The match of the reference in given poses.

    Parameters
    ----------
    observed : (N, 2, M) as `Imaging.observe` gives it.
    rotations : (N, 3, 3).
    shifts : (N, 3) Å from the centre that the patches were observed about.
    """
    frequency = imaging.frequency
    turned = frequency @ rotations
    found = reference.sample(turned).flatten(2).transpose(1, 2).contiguous().mul_(imaging.weight)
    columns = found.new_empty(len(found), 8, 2, len(frequency))
    columns[:, 0] = found[:, 0::4]
    across = turned.transpose(1, 2)
    for axis in range(3):
        _turn_column(found, across, axis, out=columns[:, 1 + axis])
        wave = 2 * torch.pi * frequency[:, axis]
        torch.mul(found[:, 4], wave, out=columns[:, 4 + axis, 0])
        torch.mul(found[:, 0], -wave, out=columns[:, 4 + axis, 1])
    _phased(observed, shifts @ frequency.T, out=columns[:, 7])
    flat = columns.flatten(2)
    return Fit(rotations, shifts, flat @ flat.transpose(1, 2))


def _turn_column(found: Tensor, turned: Tensor, axis: int, *, out: Tensor) -> None:
    """Derivative by a turn about one axis of the reference: that component of slope × frequency, (N, 2, M)."""
    second, third = (axis + 1) % 3, (axis + 2) % 3
    for part, first_row in enumerate((0, 4)):
        torch.mul(found[:, first_row + 1 + second], turned[:, third], out=out[:, part])
        out[:, part].addcmul_(found[:, first_row + 1 + third], turned[:, second], value=-1)


def polish(
    reference: Reference,
    imaging: Imaging,
    observed: Tensor,
    *,
    rotations: Tensor,
    shifts: Tensor,
    steps: int,
) -> Fit:
    """The nearest best match from given starts: damped Gauss-Newton steps, kept only where the match improves.

    Parameters
    ----------
    observed, rotations, shifts : as in `compare`.
    steps : trial steps, at most: none are tried that promise next to nothing.
    """
    best = compare(reference, imaging, observed, rotations, shifts)
    damping = torch.full_like(best.score, 1e-3)
    for _ in range(steps):
        step, promise = _step(best, damping, imaging.voxel_size)
        rows = (promise > _PROMISE_NATS).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        last, step = best.take(rows), step[rows]
        turn = roma.rotvec_to_rotmat(step[:, :3])
        trial = compare(reference, imaging, observed[rows], last.rotations @ turn, last.shifts + step[:, 3:])
        better = trial.evidence > last.evidence
        best = best.with_rows(rows, where(better, trial, last))
        damping[rows] = torch.where(better, damping[rows] * 0.2, damping[rows] * 20).clamp(1e-5, 1e3)
    return best


def _step(fit: Fit, damping: Tensor, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Step of turn (radians) and shift (Å), (N, 6), held to what the linear model can bear; nats it promises, (N,)."""
    amplitude = fit.amplitude.clamp_min(1e-12)
    gram = fit.gram
    slope = amplitude[:, None] * (gram[:, 1:7, 7] - amplitude[:, None] * gram[:, 1:7, 0])
    matrix = amplitude.square()[:, None, None] * _profiled(gram)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9)
    matrix = matrix + torch.diag_embed(damping[:, None] * diagonal + 1e-6 * diagonal.amax(-1, keepdim=True) * 1e-3)
    step = torch.linalg.solve(matrix, slope)
    turn = step[:, :3].norm(dim=-1) / (_STEP_DEG * torch.pi / 180)
    move = step[:, 3:].norm(dim=-1) / (_STEP_VOXELS * voxel_size)
    return step / torch.maximum(turn, move).clamp_min(1)[:, None], (slope * step).sum(-1) / 2


def _profiled(gram: Tensor) -> Tensor:
    """Inner products of the derivatives with the model itself projected out, (N, 6, 6)."""
    cross = gram[:, 1:7, 0]
    return gram[:, 1:7, 1:7] - cross[:, :, None] * cross[:, None, :] / gram[:, 0, 0].clamp_min(1e-12)[:, None, None]


def _phased(observed: Tensor, turns: Tensor, *, out: Tensor) -> None:
    """Coefficients of the patch moved so that the particle stands at the centre, (N, 2, M); turns in whole waves."""
    angle = 2 * torch.pi * turns
    cosine, sine = angle.cos(), angle.sin()
    real, imaginary = observed.unbind(1)
    torch.mul(real, cosine, out=out[:, 0]).addcmul_(imaginary, sine, value=-1)
    torch.mul(real, sine, out=out[:, 1]).addcmul_(imaginary, cosine)
