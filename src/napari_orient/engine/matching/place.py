"""Where particles are likely to stand, as told by something beside their patches: it draws the fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_LEAST_AMPLITUDE = 0.1


@dataclass(frozen=True, eq=False)
class Place:
    """A normal law of where a point of the reference stands in each of N patches.

    Parameters
    ----------
    point : (3,) xyz in Å from the reference's origin, in its frame.
    middle : (N, 3) xyz in Å from the patches' centres.
    weight : (N, 3, 3) inverse covariance, 1/Å², over the trust that log-likelihoods are multiplied by.
    """

    point: Tensor
    middle: Tensor
    weight: Tensor

    def take(self, rows: Tensor) -> Place:
        """The places of these patches."""
        return Place(self.point, self.middle[rows], self.weight[rows])

    def to(self, device: torch.device) -> Place:
        """The same places on a device."""
        return Place(self.point.to(device), self.middle.to(device), self.weight.to(device))

    def moved(self, by: Tensor) -> Place:
        """The same places, told from centres that stand elsewhere: (N, 3) xyz in Å from where they were."""
        return replace(self, middle=self.middle - by)

    def told(self, rotations: Tensor, shifts: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products of a fit (N, 8, 8) with what the place tells in them, and what it costs, (N,) nats.

        Parameters
        ----------
        rotations, shifts, gram : of a `fitting.Fit`.
        """
        eye = torch.eye(3, device=shifts.device)
        off = shifts + rotations @ self.point - self.middle
        # What a turn about the origin moves the point by, Å by radians; and what a shift does.
        lever = rotations @ torch.linalg.cross(eye, self.point.expand(3, 3)).T
        moves = torch.cat([lever, eye.expand_as(lever)], dim=2)
        pull = self.weight @ off[:, :, None]
        amplitude = (gram[:, 0, 7] / gram[:, 0, 0].clamp_min(1e-12)).clamp_min(_LEAST_AMPLITUDE)[:, None]
        drawn = gram.clone()
        drawn[:, 1:7, 1:7] += moves.mT @ self.weight @ moves / amplitude.square()[:, :, None]
        drawn[:, 1:7, 7] -= (moves.mT @ pull)[:, :, 0] / amplitude
        return drawn, (off * pull[:, :, 0]).sum(1) / 2
