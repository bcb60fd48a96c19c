"""From the fits of a particle to its posterior: the mean pose, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from torch import Tensor

from napari_orient.engine.matching.fitting import Fit, compare
from napari_orient.engine.matching.imaging import Imaging
from napari_orient.engine.matching.reference import Reference
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.rotations import Symmetry

_SCANNED_FROM_DEG = 2.5
_SCAN_REACH = 3.5
_SCAN_LIMIT_DEG = 26.0
_SCAN_POINTS = 13
_SAME_DEG = 6.0

TRUST, LOOSE_TRUST, FAST_TRUST, FAINT_TRUST = 1.3, 1.1, 1.5, 1.0
"""What log-likelihoods are multiplied by: noise measured round a particle holds neighbours, that within it does not.

The first was set on simulated ribosomes; fits that leave a turn uncertain by degrees, as of proteasomes, get the
second; the third is of fits to coarse detail alone, where neighbours are strongest; the last where noise drowns them.
"""


@dataclass(frozen=True, eq=False)
class Scan:
    """The match of N particles along the turn that the noise leaves least certain, T points each.

    ``turns`` (N, T, 3) radians in the reference frame from the best fit, ``shifts`` (N, T, 3) Å that go with them,
    ``evidence`` (N, T), ``direction`` (N, 3) of length 1, ``variance`` (N,) that the best fit expected along it.
    """

    turns: Tensor
    shifts: Tensor
    evidence: Tensor
    direction: Tensor
    variance: Tensor


def settled(
    fits: list[Fit],
    group: Symmetry,
    *,
    trust: float,
    loose_trust: float | None = None,
    sight: tuple[Reference, Imaging, Tensor] | None = None,
) -> Poses:
    """One pose of each particle from K fits, best first; what else may be true widens its error.

    A fit weighs by its evidence. Where the noise leaves a turn uncertain by more than a few degrees, its error is no
    longer a normal one: the match is then scanned along that turn, and the mean of the posterior is the answer.

    Parameters
    ----------
    fits : K fits of the same N particles, best first.
    trust : what the log-likelihood is multiplied by, 1 where the model of the noise is right.
    loose_trust : the same where a turn is uncertain by more than a few degrees; None is ``trust``.
    sight : reference, imaging and observed patches to scan with; None does not scan.
    """
    best = fits[0]
    loose_trust = trust if loose_trust is None else loose_trust
    bound = best.covariance()
    weakest = torch.linalg.eigvalsh(bound[:, :3, :3] / loose_trust)[:, -1].sqrt()
    is_loose = weakest > np.radians(_SCANNED_FROM_DEG)
    trusts = torch.where(is_loose, loose_trust, trust)
    covariance = bound / trusts[:, None, None]
    others = turns_between(best.rotations, torch.stack([fit.rotations for fit in fits], dim=1), group)
    gain = torch.stack([fit.evidence for fit in fits], dim=1) * trusts[:, None]
    poses = Poses(
        best.rotations,
        best.shifts,
        covariance[:, :3, :3] + _spread(others, _weights(others, gain)),
        covariance[:, 3:, 3:],
        covariance[:, :3, 3:],
        best.score,
        best.amplitude,
    )
    loose = is_loose.nonzero().squeeze(1)
    if sight is None or len(loose) == 0:
        return poses
    reference, imaging, observed = sight
    scan = _scanned(reference, imaging, observed[loose], best.take(loose), covariance[loose])
    return poses.with_rows(
        loose,
        _mean_of_scan(
            poses.take(loose),
            scan,
            covariance=covariance[loose],
            others=others[loose],
            gain=gain[loose],
            trust=loose_trust,
        ),
    )


def _scanned(reference: Reference, imaging: Imaging, observed: Tensor, fit: Fit, covariance: Tensor) -> Scan:
    values, vectors = torch.linalg.eigh(covariance[:, :3, :3])
    direction, variance = vectors[:, :, -1], values[:, -1]
    # What shift and the other turns do, on average, when the turn goes along its weakest direction.
    course = torch.einsum("nij,nj->ni", covariance[:, :, :3], direction) / variance[:, None]
    reach = (_SCAN_REACH * variance.sqrt()).clamp_max(np.radians(_SCAN_LIMIT_DEG))
    way = torch.linspace(-1, 1, _SCAN_POINTS, device=reach.device) * reach[:, None]
    moves = way[..., None] * course[:, None]
    evidence = [
        compare(
            reference, imaging, observed, fit.rotations @ roma.rotvec_to_rotmat(move[:, :3]), fit.shifts + move[:, 3:]
        ).evidence
        for move in moves.unbind(1)
    ]
    return Scan(moves[..., :3], moves[..., 3:], torch.stack(evidence, dim=1), direction, variance)


def _mean_of_scan(poses: Poses, scan: Scan, *, covariance: Tensor, others: Tensor, gain: Tensor, trust: float) -> Poses:
    """Poses moved to the mean over the scan, with its spread along the scan in place of the normal one."""
    near = (others[:, :, None] - scan.turns[:, None]).norm(dim=-1).amin(-1) < np.radians(_SAME_DEG)
    step = (scan.turns[:, 1] - scan.turns[:, 0]).norm(dim=-1)
    # A fit off the scan stands for all the poses near it: as many points as a normal spread covers.
    worth = torch.log(np.sqrt(2 * np.pi) * scan.variance.sqrt() / step)
    apart = (gain + worth[:, None]).masked_fill(near, -torch.inf)
    weight = torch.softmax(torch.cat([scan.evidence * trust, apart], dim=1), dim=1)
    on, off = weight.split([scan.evidence.shape[1], gain.shape[1]], dim=1)
    on_mass = on.sum(1, keepdim=True)
    share = on / on_mass
    turn = torch.einsum("nt,nti->ni", share, scan.turns)
    shift = torch.einsum("nt,nti->ni", share, scan.shifts)
    along = scan.direction[:, :, None] * scan.direction[:, None]
    usual = covariance[:, :3, :3] - scan.variance[:, None, None] * along
    spread = _spread(scan.turns - turn[:, None], on) + _spread(others - turn[:, None], off)
    return replace(
        poses,
        rotations=poses.rotations @ roma.rotvec_to_rotmat(turn),
        shifts=poses.shifts + shift,
        turn_covariance=usual + spread + (step.square() / 12)[:, None, None] * along,
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
    turns: Tensor = roma.rotmat_to_rotvec(between @ copies[best])
    return turns
