"""From the fits of a particle to its posterior: the mean pose, and how far off it may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import roma
import torch
from torch import Tensor

from napari_orient.engine.matching.fitting import Fit
from napari_orient.engine.matching.imaging import Imaging
from napari_orient.engine.matching.reference import Reference
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.scan import Scan, reach_within, scanned
from napari_orient.engine.rotations import Symmetry

_SCANNED_FROM_DEG = 2.5
_SAME_DEG = 6.0


def settled(
    fits: list[Fit], group: Symmetry, *, trust: float, sight: tuple[Reference, Imaging, Tensor] | None = None
) -> Poses:
    """One pose of each particle from K fits, best first; what else may be true widens its error.

    A fit weighs by its evidence. Where the noise leaves a turn uncertain by more than a few degrees, its error is no
    longer a normal one: the posterior is then scanned along that turn, and its mean is the answer.

    Parameters
    ----------
    fits : K fits of the same N particles, best first.
    trust : what the log-likelihood is multiplied by, 1 where the model of the noise is right; see `trust_in`.
    sight : reference, imaging and observed patches to scan with; None does not scan.
    """
    best = fits[0]
    covariance = best.covariance() / trust
    others = turns_between(best.rotations, torch.stack([fit.rotations for fit in fits], dim=1), group)
    gain = torch.stack([fit.evidence for fit in fits], dim=1) * trust
    poses = Poses(
        best.rotations,
        best.shifts,
        covariance[:, :3, :3] + _spread(others, _weights(others, gain)),
        covariance[:, 3:, 3:],
        covariance[:, :3, 3:],
        best.score,
        best.amplitude,
    )
    weakest = torch.linalg.eigvalsh(covariance[:, :3, :3])[:, -1].sqrt()
    loose = (weakest > np.radians(_SCANNED_FROM_DEG)).nonzero().squeeze(1)
    if sight is None or len(loose) == 0:
        return poses
    reference, imaging, observed = sight
    scan = scanned(
        reference,
        imaging,
        observed[loose],
        best.take(loose),
        covariance[loose],
        trust=trust,
        reach=reach_within(group),
    )
    return poses.with_rows(loose, _mean_of_scan(poses.take(loose), scan, others=others[loose], gain=gain[loose]))


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
        rotations=poses.rotations @ roma.rotvec_to_rotmat(turn),
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
    turns: Tensor = roma.rotmat_to_rotvec(between @ copies[best])
    return turns
