"""What the particles of one list tell of each other: how far off its picks usually are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Place
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.posterior import turns_between
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import Symmetry

_ENOUGH = 24
_ODD = 0.05
"""Share of picks whose place tells nothing of the others'."""
_LEAST_SPREAD, _DEVIATION = 2.0, 1.4826


@dataclass(frozen=True, eq=False)
class UsualPlace:
    """Where the particles of a list stand beside their picks: most about one place, a few anywhere within reach.

    Parameters
    ----------
    middle : (3,) xyz in Å from the pick.
    spread : (3, 3) covariance, Å², without what the noise adds.
    log_odd : logarithm of the density, in 1/Å³, of a place within reach.
    trust : what the log-likelihood of a match is multiplied by.
    """

    middle: Tensor
    spread: Tensor
    log_odd: float
    trust: float

    @classmethod
    def told_by(cls, poses: Poses, *, max_shift: float, trust: float) -> UsualPlace | None:
        """What the surer half of the particles tell; None of few.

        Parameters
        ----------
        poses : on the CPU; shifts from the picks, of particles without symmetry or with axes through their origin.
        max_shift : Å along each axis that a pick may be off.
        trust : what log-likelihoods are multiplied by; see `trust_in`.
        """
        if len(poses.shifts) < _ENOUGH:
            return None
        error = poses.expected_error_deg
        sure = poses.take((error <= error.median()).nonzero().squeeze(1))
        middle = sure.shifts.median(0).values
        spread = _DEVIATION * (sure.shifts - middle).abs().median(0).values
        own = sure.shift_covariance.diagonal(dim1=-2, dim2=-1).median(0).values
        spread = torch.diag((spread.square() - own).clamp_min(_LEAST_SPREAD**2))
        return cls(middle, spread, math.log(_ODD) - 3 * math.log(2 * max(max_shift, _LEAST_SPREAD)), trust)

    def log_usual(self, poses: Poses) -> Tensor:
        """Logarithm of the density of the places found, (N,), if they are usual ones."""
        whole = torch.linalg.inv(poses.shift_covariance + self.spread)
        off = poses.shifts - self.middle
        far = (off * (whole @ off[:, :, None])[..., 0]).sum(-1)
        log: Tensor = torch.logdet(whole) / 2 - far / 2 - 1.5 * math.log(2 * math.pi) + math.log(1 - _ODD)
        return log

    def log_prior(self, poses: Poses) -> Tensor:
        """Logarithm of the density of the places found, (N,), usual or not."""
        return torch.logaddexp(self.log_usual(poses), torch.full_like(poses.score, self.log_odd))

    def odd(self, poses: Poses) -> Tensor:
        """Rows of the particles that were found in places rather odd than usual."""
        return (self.log_usual(poses) < self.log_odd).nonzero().squeeze(1)

    def weighed(self, poses: Poses, rows: Tensor, again: Poses, *, group: Symmetry) -> Poses:
        """The same poses; those of some rows, where they are likelier, as they were found about the usual place.

        What each is likelier by counts the match and the place. The other one widens the error.
        """
        before = poses.take(rows)
        gain = self._log_posterior(again) - self._log_posterior(before)
        between = turns_between(before.rotations, again.rotations[:, None], group)[:, 0]
        doubt = torch.sigmoid(-gain.abs())[:, None, None] * between[:, :, None] * between[:, None]
        better = (gain > 0).nonzero().squeeze(1)
        chosen, left = before.with_rows(better, again.take(better)), again.with_rows(better, before.take(better))
        return poses.with_rows(
            rows,
            replace(chosen.with_rival(left.rotations, -gain.abs()), turn_covariance=chosen.turn_covariance + doubt),
        )

    def _log_posterior(self, poses: Poses) -> Tensor:
        return self.trust * poses.score.clamp_min(0).square() / 2 + self.log_prior(poses)

    def places(self, poses: Poses, *, point: Tensor) -> Place:
        """Where the particles are likely to stand; a pick far from the usual place may be anywhere.

        Parameters
        ----------
        poses : with shifts of the point.
        point : (3,) xyz in Å from the reference's origin, in its frame.
        """
        bound = torch.sigmoid(self.log_usual(poses) - self.log_odd)[:, None, None]
        weight = bound * torch.linalg.inv(self.spread) / self.trust
        return Place(point, self.middle.expand_as(poses.shifts), weight)

    def drawn(self, poses: Poses) -> Poses:
        """The same poses, shifts drawn to the usual place, and turns as they hang on the shifts.

        Under a normal law about the place the posterior mean is taken. A pick far from it stays where it is.
        """
        whole = torch.linalg.inv(poses.shift_covariance + self.spread)
        pull = whole @ (poses.shifts - self.middle)[:, :, None]
        bound = torch.sigmoid(self.log_usual(poses) - self.log_odd)[:, None, None]
        turn = -(bound * (poses.coupling @ pull))[..., 0]
        move = -(bound * (poses.shift_covariance @ pull))[..., 0]
        return replace(
            poses,
            rotations=poses.rotations @ rotvec_to_matrix(turn),
            shifts=poses.shifts + move,
            turn_covariance=poses.turn_covariance - bound * (poses.coupling @ whole @ poses.coupling.mT),
            shift_covariance=poses.shift_covariance - bound * (poses.shift_covariance @ whole @ poses.shift_covariance),
        )
