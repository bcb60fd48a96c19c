"""What refinement says of a particle: its pose, and how far off it may be, in all and about each axis.

From the fits of a particle to its posterior: the mean pose, and how far off it may be.

The posterior along the turn that noise leaves least certain, where it is no longer a normal one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import STEP_DEG, STEP_VOXELS, Fit, Place, fit_at, gauss_newton
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import matrix_to_rotvec, rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of N particles and their errors.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    turn_covariance : (N, 3, 3) of what the turn may be off, radians about the axes of the reference frame.
    shift_covariance : (N, 3, 3) of what the shift may be off, Å².
    coupling : (N, 3, 3) covariance of the turn with the shift, radians by Å.
    score : (N,) match in standard deviations of the noise.
    amplitude : (N,) of the reference, 1 for the usual particle.
    rivals : (N, K, 3, 3) rotations of other poses that match; the turn's covariance counts them.
    odds : (N, K) nats by which each is likelier than the pose itself; -inf where there is none.
    """

    rotations: Tensor
    shifts: Tensor
    rotation_covariance: Tensor
    shift_covariance: Tensor
    coupling: Tensor
    score: Tensor
    amplitude: Tensor
    alternative_rotations: Tensor
    log_odds: Tensor

    @property
    def expected_error_deg(self) -> Tensor:
        """Expected root-mean-square error of the rotation, (N,) degrees."""
        return _rms_deg(self.rotation_covariance.diagonal(dim1=-2, dim2=-1).sum(-1))

    @property
    def shift_error(self) -> Tensor:
        """Expected root-mean-square error of the centre, (N,) Å."""
        error: Tensor = self.shift_covariance.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
        return error

    def expected_axis_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the group's main axis, (N,) degrees."""
        return _rms_deg(self.rotation_covariance.diagonal(dim1=-2, dim2=-1).sum(-1) - self._along(group))

    def expected_in_plane_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the turn about the group's main axis, (N,) degrees."""
        return _rms_deg(self._along(group))

    def _along(self, group: Symmetry) -> Tensor:
        axis = torch.as_tensor(
            group.main_axis, dtype=self.rotation_covariance.dtype, device=self.rotation_covariance.device
        )
        return axis @ self.rotation_covariance @ axis

    def blurred(self, covariance: Tensor, share: Tensor) -> Poses:
        """The same poses, whose turns have another covariance (3, 3) in a share (N,) of cases."""
        part = share[:, None, None]
        return replace(self, rotation_covariance=(1 - part) * self.rotation_covariance + part * covariance)

    def loosened(self, further_deg: Tensor) -> Poses:
        """The same poses, whose turns are off by so much more, (N,) degrees root mean square, whatever the axis."""
        each = (torch.deg2rad(further_deg).square() / 3).to(self.rotation_covariance)
        return replace(self, rotation_covariance=self.rotation_covariance + each[:, None, None] * torch.eye(3).to(each))

    def about(self, point: Tensor) -> Poses:
        """The same poses, shifts being of this point of the reference frame, (3,) xyz in Å from where they were of."""
        # What a turn about the origin moves the point by, (N, 3, 3) Å by radians.
        lever = self.rotations @ torch.linalg.cross(torch.eye(3), point.expand(3, 3)).T
        by_turn = self.rotation_covariance @ lever.mT
        mixed = lever @ self.coupling
        return replace(
            self,
            shifts=self.shifts + self.rotations @ point,
            shift_covariance=self.shift_covariance + mixed + mixed.mT + lever @ by_turn,
            coupling=self.coupling + by_turn,
        )

    def with_alternative(self, rotations: Tensor, log_odds: Tensor) -> Poses:
        """The same poses, with others (N, 3, 3) so much likelier (N,) for the last, least likely, of their rivals."""
        order = self.log_odds.argsort(dim=1, descending=True)[:, :-1]
        rows = torch.arange(len(order), device=order.device)[:, None]
        return replace(
            self,
            alternative_rotations=torch.cat([self.alternative_rotations[rows, order], rotations[:, None]], dim=1),
            log_odds=torch.cat([self.log_odds[rows, order], log_odds[:, None]], dim=1),
        )

    def shifted(self, by: Tensor) -> Poses:
        """The same poses, told from where each pick stands instead: shifts grow by (N, 3) xyz in Å."""
        return replace(self, shifts=self.shifts + by)

    def to(self, device: torch.device) -> Poses:
        """The same poses on a device."""
        return Poses(*(getattr(self, item.name).to(device) for item in fields(Poses)))

    def take(self, rows: Tensor) -> Poses:
        """The poses of these rows."""
        return Poses(*(getattr(self, item.name)[rows] for item in fields(Poses)))

    def with_rows(self, rows: Tensor, others: Poses) -> Poses:
        """The same poses with some rows replaced."""
        names = [item.name for item in fields(Poses)]
        return Poses(*(getattr(self, name).index_copy(0, rows, getattr(others, name)) for name in names))

    @classmethod
    def concatenated(cls, parts: list[Poses]) -> Poses:
        """All the poses of the parts, in order, on the CPU."""
        return cls(*(torch.cat([getattr(part, item.name).cpu() for part in parts]) for item in fields(cls)))


def _rms_deg(variance: Tensor) -> Tensor:
    return torch.rad2deg(variance.clamp_min(0).sqrt()).clamp_max(127.0)


_LOOSE_DEG = 2.5
"""A turn less certain than this is no longer off by a normal law."""
_SAME_DEG = 6.0
_RIVALS, _CLIMBS = 5, 3


@dataclass(frozen=True, eq=False)
class Observation:
    """Patches as a reference is matched with them, and where their particles are likely to stand.

    Parameters
    ----------
    reference, model, observed : as `fitting.fit_at` takes them.
    place : from the centres that the patches were observed about; None tells nothing.
    """

    reference: Reference
    model: ForwardModel
    observed: Tensor
    place: Place | None = None

    def take(self, rows: Tensor) -> Observation:
        """The same of some patches."""
        place = None if self.place is None else self.place.take(rows)
        return Observation(self.reference, self.model, self.observed[rows], place)

    def nearest(self, poses: Poses) -> Fit:
        """The best match beside poses, the place counted; where nothing is told of the place, poses are at it."""
        fit = fit_at(self.reference, self.model, self.observed, poses.rotations, poses.shifts, place=self.place)
        if self.place is None:
            return fit
        return gauss_newton(self.reference, self.model, self.observed, fit, steps=_CLIMBS, place=self.place)


def summarise_modes(fits: list[Fit], group: Symmetry, *, likelihood_scale: float) -> Poses:
    """One pose of each particle from K fits, best first; what else may be true widens its error.

    A fit weighs by its evidence; the first five rivals are kept.

    Parameters
    ----------
    fits : K fits of the same N particles, best first.
    likelihood_scale : factor of the log-likelihood, 1 where the noise model is right; see
        `estimate_likelihood_scale`.
    """
    best, fits = fits[0], fits[: 1 + _RIVALS]
    # Where there are fewer, the best stands in for rivals; it weighs nothing as one.
    rotations = torch.stack([fit.rotations for fit in fits[1:]] + [best.rotations] * (1 + _RIVALS - len(fits)), dim=1)
    log_odds = torch.full(rotations.shape[:2], -torch.inf, device=rotations.device)
    for number, fit in enumerate(fits[1:]):
        log_odds[:, number] = likelihood_scale * (fit.log_likelihood_gain - best.log_likelihood_gain)
    return _posed(best, rotations, log_odds, group, likelihood_scale=likelihood_scale)


def poorly_determined(poses: Poses) -> Tensor:
    """Rows of the poses whose turn is so uncertain that its law may be another than a normal one."""
    return _poorly_determined(poses.rotation_covariance)


def _poorly_determined(covariance: Tensor) -> Tensor:
    weakest: Tensor = torch.linalg.eigvalsh(covariance)[:, -1].sqrt()
    return (weakest > math.radians(_LOOSE_DEG)).nonzero().squeeze(1)


def posterior_mean(poses: Poses, seen: Observation, group: Symmetry, *, likelihood_scale: float) -> Poses:
    """Poses at the mean of all that patches and places tell, with the errors that are left.

    Each climbs to the best match beside the likely place. Where the noise leaves its turn uncertain by more than a few
    degrees, the posterior is scanned along that turn, and the mean is the answer.

    Parameters
    ----------
    poses : with shifts from the centres that the patches were observed about.
    """
    fit = seen.nearest(poses)
    answer = _posed(fit, poses.alternative_rotations, poses.log_odds, group, likelihood_scale=likelihood_scale)
    covariance = fit.covariance() / likelihood_scale
    rows = _poorly_determined(covariance[:, :3, :3])
    if len(rows) == 0:
        return answer
    uncertain, fit, part = answer.take(rows), fit.take(rows), seen.take(rows)
    scan = scan_rotation(
        part.reference,
        part.model,
        part.observed,
        fit,
        covariance[rows],
        likelihood_scale=likelihood_scale,
        reach=reach_within(group),
        place=part.place,
    )
    others, gain = _all(uncertain.rotations, uncertain.alternative_rotations, uncertain.log_odds, group)
    gain = gain + likelihood_scale * fit.log_likelihood_gain[:, None]
    return answer.with_rows(rows, _mean_over_scan(uncertain, scan, others=others, gain=gain))


def _posed(
    fit: Fit, alternative_rotations: Tensor, log_odds: Tensor, group: Symmetry, *, likelihood_scale: float
) -> Poses:
    """Poses at fits, with rivals (N, K, 3, 3) that are so much likelier, (N, K) nats."""
    covariance = fit.covariance() / likelihood_scale
    others, gain = _all(fit.rotations, alternative_rotations, log_odds, group)
    return Poses(
        fit.rotations,
        fit.shifts,
        covariance[:, :3, :3] + _spread(others, _weights(others, gain)),
        covariance[:, 3:, 3:],
        covariance[:, :3, 3:],
        fit.score,
        fit.amplitude,
        alternative_rotations,
        log_odds,
    )


def _all(rotations: Tensor, alternative_rotations: Tensor, log_odds: Tensor, group: Symmetry) -> tuple[Tensor, Tensor]:
    """Turns to poses themselves and to their rivals, (N, 1 + K, 3), and how much likelier each is, (N, 1 + K)."""
    turns = rotations_between(rotations, torch.cat([rotations[:, None], alternative_rotations], dim=1), group)
    return turns, torch.cat([torch.zeros_like(log_odds[:, :1]), log_odds], dim=1)


def _mean_over_scan(poses: Poses, scan: Scan, *, others: Tensor, gain: Tensor) -> Poses:
    """Poses moved to the mean over the scan, with its spread along the scan in place of the normal one."""
    near = (others[:, :, None] - scan.turns[:, None]).norm(dim=-1).amin(-1) < np.radians(_SAME_DEG)
    # A fit off the scan stands for all the poses near it: as many points as a normal spread covers.
    worth = torch.log(np.sqrt(2 * np.pi) * scan.variance.sqrt() / scan.step)
    apart = (gain + worth[:, None]).masked_fill(near, -torch.inf)
    weight = torch.softmax(torch.cat([scan.log_weight, apart], dim=1), dim=1)
    on, off = weight.split([scan.log_weight.shape[1], gain.shape[1]], dim=1)
    share = on / on.sum(1, keepdim=True)
    turn = torch.einsum("nt,nti->ni", share, scan.turns)
    shift = torch.einsum("nt,nti->ni", share, scan.shifts)
    usual = torch.einsum("nt,ntij->nij", share, scan.others)
    spread = _spread(scan.turns - turn[:, None], on) + _spread(others - turn[:, None], off)
    along = scan.direction[:, :, None] * scan.direction[:, None]
    return replace(
        poses,
        rotations=poses.rotations @ rotvec_to_matrix(turn),
        shifts=poses.shifts + shift,
        rotation_covariance=usual + spread + scan.step**2 / 12 * along,
    )


def _spread(turns: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nk,nki,nkj->nij", weight, turns, turns)


def _weights(turns: Tensor, gain: Tensor) -> Tensor:
    """Probability of each of K fits (N, K), those that fell together counted once."""
    apart = (turns[:, :, None] - turns[:, None]).norm(dim=-1)
    again = torch.zeros_like(gain, dtype=torch.bool)
    for k in range(1, gain.shape[1]):
        again[:, k] = (apart[:, k, :k] < np.radians(_SAME_DEG)).any(dim=-1)
    return torch.softmax(gain.masked_fill(again, -torch.inf), dim=1)


def rotations_between(rotations: Tensor, others: Tensor, group: Symmetry) -> Tensor:
    """Turns (N, K, 3), radians in the reference frame, from rotations (N, 3, 3) to the nearest copies of K others."""
    copies = torch.as_tensor(group.matrices, dtype=rotations.dtype, device=rotations.device)
    between = rotations.transpose(-1, -2)[:, None] @ others
    best = torch.einsum("nkij,gji->nkg", between, copies).argmax(-1)
    return matrix_to_rotvec(between @ copies[best])


_REACH_DEG, _POINTS = 26.0, 17


@dataclass(frozen=True, eq=False)
class Scan:
    """Posterior of N particles along a turn, T points each, all else at its best.

    Parameters
    ----------
    turns : (N, T, 3) radians in the reference frame, from the best fit.
    shifts : (N, T, 3) Å that go with them, from the best fit's.
    log_weight : (N, T) logarithm of the posterior, but for a constant: the volume of all else is in it.
    others : (N, T, 3, 3) covariance of what the other two turns are off.
    direction : (N, 3) of the turn, of length 1.
    variance : (N,) radians² that the best fit expected along it.
    step : radians between two points.
    """

    turns: Tensor
    shifts: Tensor
    log_weight: Tensor
    others: Tensor
    direction: Tensor
    variance: Tensor
    step: float


def scan_rotation(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    fit: Fit,
    covariance: Tensor,
    *,
    likelihood_scale: float,
    reach: float,
    place: Place | None = None,
) -> Scan:
    """The posterior of each fit's particle along the turn that its covariance (N, 6, 6) is largest for.

    At every point the reference is matched as the linear model leads to it; one Newton step of the other two turns and
    of the shift tells how much better it may match there, and how widely.

    Parameters
    ----------
    likelihood_scale : what log-likelihoods are multiplied by.
    reach : radians to scan to, either way.
    place : the one that the fit was compared with.
    """
    values, vectors = torch.linalg.eigh(covariance[:, :3, :3])
    direction, variance = vectors[:, :, -1], values[:, -1]
    course = torch.einsum("nij,nj->ni", covariance[:, :, :3], direction) / variance[:, None]
    free = _free(vectors[:, :, :-1])
    points = []
    for way in torch.linspace(-reach, reach, _POINTS).tolist():
        move = way * course
        rotations = fit.rotations @ rotvec_to_matrix(move[:, :3])
        there = fit_at(reference, model, observed, rotations, fit.shifts + move[:, 3:], place=place)
        step, gain, information = _corrected(there, free, model.voxel_size)
        log_weight = likelihood_scale * (there.log_likelihood_gain + gain) - torch.logdet(information) / 2
        turns = free[:, :3, :2] @ torch.linalg.inv(information)[:, :2, :2] @ free[:, :3, :2].mT
        points.append((move + step, log_weight, turns / likelihood_scale))
    moves, log_weight, others = (torch.stack(column, dim=1) for column in zip(*points, strict=True))
    log_weight = log_weight - _volume(fit, free)[:, None]
    # Where a scan goes all the way round, its ends are one pose.
    log_weight[:, [0, -1]] -= math.log(2)
    return Scan(moves[..., :3], moves[..., 3:], log_weight, others, direction, variance, step=2 * reach / (_POINTS - 1))


def reach_within(group: Symmetry) -> float:
    """Radians to scan to, either way: no farther than half the group's least turn, beyond which poses come again."""
    return math.radians(min(_REACH_DEG, _least_turn_deg(group.matrices) / 2))


def _least_turn_deg(matrices: FloatArray) -> float:
    cosine = (np.trace(matrices, axis1=1, axis2=2) - 1) / 2
    turns = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return float(turns[turns > 0.1].min(initial=360.0))


def _free(turns: Tensor) -> Tensor:
    """Moves that a scan leaves free, (N, 6, 5): two turns (N, 3, 2), and the shift."""
    free = turns.new_zeros(len(turns), 6, 5)
    free[:, :3, :2] = turns
    free[:, 3:, 2:] = torch.eye(3).to(turns)
    return free


def _information(fit: Fit, free: Tensor) -> Tensor:
    information = free.mT @ fit.information() @ free
    return information + 1e-4 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))


def _volume(fit: Fit, free: Tensor) -> Tensor:
    """Logarithm of the volume that all else has at the best fit, (N,)."""
    return -torch.logdet(_information(fit, free)) / 2


def _corrected(fit: Fit, free: Tensor, voxel_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """Newton step of the free moves, (N, 6), what it gains in log-likelihood, (N,), and their information (N, 5, 5)."""
    information = _information(fit, free)
    slope = free.mT @ fit.slope()[:, :, None]
    step = torch.linalg.solve(information, slope)[..., 0]
    turn, shift = step[:, :2].norm(dim=1), step[:, 2:].norm(dim=1)
    over = torch.maximum(turn / math.radians(STEP_DEG), shift / (STEP_VOXELS * voxel_size))
    part = 1 / over.clamp_min(1)
    gain = (slope[..., 0] * step).sum(1) * (part - part.square() / 2)
    return (free @ (part[:, None] * step)[:, :, None])[..., 0], gain, information
