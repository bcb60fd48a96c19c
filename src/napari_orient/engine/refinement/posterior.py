"""From the fits of a particle to its posterior: the mean pose, and how far off it may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, Place, climb, compare
from napari_orient.engine.model.forward import Imaging
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.scan import Scan, reach_within, scanned
from napari_orient.engine.representations import matrix_to_rotvec, rotvec_to_matrix
from napari_orient.engine.rotations import Symmetry

_LOOSE_DEG = 2.5
"""A turn less certain than this is no longer off by a normal law."""
_SAME_DEG = 6.0
_RIVALS, _CLIMBS = 5, 3


@dataclass(frozen=True, eq=False)
class Seen:
    """Patches as a reference is matched with them, and where their particles are likely to stand.

    Parameters
    ----------
    reference, imaging, observed : as `fitting.compare` takes them.
    place : from the centres that the patches were observed about; None tells nothing.
    """

    reference: Reference
    imaging: Imaging
    observed: Tensor
    place: Place | None = None

    def take(self, rows: Tensor) -> Seen:
        """The same of some patches."""
        place = None if self.place is None else self.place.take(rows)
        return Seen(self.reference, self.imaging, self.observed[rows], place)

    def nearest(self, poses: Poses) -> Fit:
        """The best match beside poses, the place counted; where nothing is told of the place, poses are at it."""
        fit = compare(self.reference, self.imaging, self.observed, poses.rotations, poses.shifts, place=self.place)
        if self.place is None:
            return fit
        return climb(self.reference, self.imaging, self.observed, fit, steps=_CLIMBS, place=self.place)


def settled(fits: list[Fit], group: Symmetry, *, trust: float) -> Poses:
    """One pose of each particle from K fits, best first; what else may be true widens its error.

    A fit weighs by its evidence; the first five rivals are kept.

    Parameters
    ----------
    fits : K fits of the same N particles, best first.
    trust : what the log-likelihood is multiplied by, 1 where the model of the noise is right; see `trust_in`.
    """
    best, fits = fits[0], fits[: 1 + _RIVALS]
    # Where there are fewer, the best stands in for rivals; it weighs nothing as one.
    rotations = torch.stack([fit.rotations for fit in fits[1:]] + [best.rotations] * (1 + _RIVALS - len(fits)), dim=1)
    odds = torch.full(rotations.shape[:2], -torch.inf, device=rotations.device)
    for number, fit in enumerate(fits[1:]):
        odds[:, number] = trust * (fit.evidence - best.evidence)
    return _posed(best, rotations, odds, group, trust=trust)


def loose(poses: Poses) -> Tensor:
    """Rows of the poses whose turn is so uncertain that its law may be another than a normal one."""
    return _loose(poses.turn_covariance)


def _loose(covariance: Tensor) -> Tensor:
    weakest: Tensor = torch.linalg.eigvalsh(covariance)[:, -1].sqrt()
    return (weakest > math.radians(_LOOSE_DEG)).nonzero().squeeze(1)


def finished(poses: Poses, seen: Seen, group: Symmetry, *, trust: float) -> Poses:
    """Poses at the mean of all that patches and places tell, with the errors that are left.

    Each climbs to the best match beside the likely place. Where the noise leaves its turn uncertain by more than a few
    degrees, the posterior is scanned along that turn, and the mean is the answer.

    Parameters
    ----------
    poses : with shifts from the centres that the patches were observed about.
    """
    fit = seen.nearest(poses)
    answer = _posed(fit, poses.rivals, poses.odds, group, trust=trust)
    covariance = fit.covariance() / trust
    rows = _loose(covariance[:, :3, :3])
    if len(rows) == 0:
        return answer
    uncertain, fit, part = answer.take(rows), fit.take(rows), seen.take(rows)
    scan = scanned(
        part.reference,
        part.imaging,
        part.observed,
        fit,
        covariance[rows],
        trust=trust,
        reach=reach_within(group),
        place=part.place,
    )
    others, gain = _all(uncertain.rotations, uncertain.rivals, uncertain.odds, group)
    gain = gain + trust * fit.evidence[:, None]
    return answer.with_rows(rows, _mean_of_scan(uncertain, scan, others=others, gain=gain))


def _posed(fit: Fit, rivals: Tensor, odds: Tensor, group: Symmetry, *, trust: float) -> Poses:
    """Poses at fits, with rivals (N, K, 3, 3) that are so much likelier, (N, K) nats."""
    covariance = fit.covariance() / trust
    others, gain = _all(fit.rotations, rivals, odds, group)
    return Poses(
        fit.rotations,
        fit.shifts,
        covariance[:, :3, :3] + _spread(others, _weights(others, gain)),
        covariance[:, 3:, 3:],
        covariance[:, :3, 3:],
        fit.score,
        fit.amplitude,
        rivals,
        odds,
    )


def _all(rotations: Tensor, rivals: Tensor, odds: Tensor, group: Symmetry) -> tuple[Tensor, Tensor]:
    """Turns to poses themselves and to their rivals, (N, 1 + K, 3), and how much likelier each is, (N, 1 + K)."""
    turns = turns_between(rotations, torch.cat([rotations[:, None], rivals], dim=1), group)
    return turns, torch.cat([torch.zeros_like(odds[:, :1]), odds], dim=1)


def _mean_of_scan(poses: Poses, scan: Scan, *, others: Tensor, gain: Tensor) -> Poses:
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
        turn_covariance=usual + spread + scan.step**2 / 12 * along,
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


def turns_between(rotations: Tensor, others: Tensor, group: Symmetry) -> Tensor:
    """Turns (N, K, 3), radians in the reference frame, from rotations (N, 3, 3) to the nearest copies of K others."""
    copies = torch.as_tensor(group.matrices, dtype=rotations.dtype, device=rotations.device)
    between = rotations.transpose(-1, -2)[:, None] @ others
    best = torch.einsum("nkij,gji->nkg", between, copies).argmax(-1)
    return matrix_to_rotvec(between @ copies[best])
