"""What the particles of one list tell of each other: how far off its picks usually are.

What comes after every particle was found: what their places tell of each other, and the mean of all that may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Place
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.posterior import Poses, rotations_between
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import Symmetry

_ENOUGH = 24
_ODD = 0.05
"""Share of picks whose place tells nothing of the others'."""
_LEAST_SPREAD, _DEVIATION = 2.0, 1.4826


@dataclass(frozen=True, eq=False)
class OffsetPrior:
    """Where the particles of a list stand beside their picks: most about one place, a few anywhere within reach.

    Parameters
    ----------
    middle : (3,) xyz in Å from the pick.
    spread : (3, 3) covariance, Å², without what the noise adds.
    log_odd : logarithm of the density, in 1/Å³, of a place within reach.
    likelihood_scale : what the log-likelihood of a match is multiplied by.
    """

    middle: Tensor
    spread: Tensor
    log_odd: float
    likelihood_scale: float

    @classmethod
    def estimate(cls, poses: Poses, *, max_shift: float, likelihood_scale: float) -> OffsetPrior | None:
        """What the surer half of the particles tell; None of few.

        Parameters
        ----------
        poses : on the CPU; shifts from the picks, of particles without symmetry or with axes through their origin.
        max_shift : Å along each axis that a pick may be off.
        likelihood_scale : what log-likelihoods are multiplied by; see `estimate_likelihood_scale`.
        """
        if len(poses.shifts) < _ENOUGH:
            return None
        error = poses.expected_error_deg
        sure = poses.take((error <= error.median()).nonzero().squeeze(1))
        middle = sure.shifts.median(0).values
        spread = _DEVIATION * (sure.shifts - middle).abs().median(0).values
        own = sure.shift_covariance.diagonal(dim1=-2, dim2=-1).median(0).values
        spread = torch.diag((spread.square() - own).clamp_min(_LEAST_SPREAD**2))
        return cls(middle, spread, math.log(_ODD) - 3 * math.log(2 * max(max_shift, _LEAST_SPREAD)), likelihood_scale)

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

    def choose_by_posterior(self, poses: Poses, rows: Tensor, again: Poses, *, group: Symmetry) -> Poses:
        """The same poses; those of some rows, where they are likelier, as they were found about the usual place.

        What each is likelier by counts the match and the place. The other one widens the error.
        """
        before = poses.take(rows)
        gain = self._log_posterior(again) - self._log_posterior(before)
        between = rotations_between(before.rotations, again.rotations[:, None], group)[:, 0]
        doubt = torch.sigmoid(-gain.abs())[:, None, None] * between[:, :, None] * between[:, None]
        better = (gain > 0).nonzero().squeeze(1)
        chosen, left = before.with_rows(better, again.take(better)), again.with_rows(better, before.take(better))
        return poses.with_rows(
            rows,
            replace(
                chosen.with_alternative(left.rotations, -gain.abs()),
                rotation_covariance=chosen.rotation_covariance + doubt,
            ),
        )

    def _log_posterior(self, poses: Poses) -> Tensor:
        return self.likelihood_scale * poses.score.clamp_min(0).square() / 2 + self.log_prior(poses)

    def places(self, poses: Poses, *, point: Tensor) -> Place:
        """Where the particles are likely to stand; a pick far from the usual place may be anywhere.

        Parameters
        ----------
        poses : with shifts of the point.
        point : (3,) xyz in Å from the reference's origin, in its frame.
        """
        bound = torch.sigmoid(self.log_usual(poses) - self.log_odd)[:, None, None]
        weight = bound * torch.linalg.inv(self.spread) / self.likelihood_scale
        return Place(point, self.middle.expand_as(poses.shifts), weight)

    def shrink_to_prior(self, poses: Poses) -> Poses:
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
            rotation_covariance=poses.rotation_covariance - bound * (poses.coupling @ whole @ poses.coupling.mT),
            shift_covariance=poses.shift_covariance - bound * (poses.shift_covariance @ whole @ poses.shift_covariance),
        )


Cut = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Patches of some rows (N, n, n, n), on the device to work on, and (N, 3) xyz in Å from the picks to their centres."""


def apply_offset_prior(
    finder: PoseFinder, poses: Poses, cut: Cut, *, at_once: int, known: Tensor | None = None, centre: Tensor
) -> Stream[Step, Poses]:
    """The poses of all particles of a tomogram, as they and their places tell of each other.

    Particles found in an odd place are looked for again where the others stand. Then all are drawn to the usual place:
    those that are sure by a normal law, the others by climbing and scanning with it; see `PoseFinder.finish`.

    Parameters
    ----------
    poses : as `PoseFinder.find` gives them, with shifts from the picks; on the CPU.
    at_once : patches to cut at a time.
    known : rotations that the particles were given with, (N, 3, 3).
    centre : (3,) xyz in Å from the reference's origin: where its axes meet. Symmetric copies of a pose have their
        origin elsewhere, but not this point.
    """
    moved = poses.about(centre)
    usual = OffsetPrior.estimate(
        moved, max_shift=finder.options.search.max_shift, likelihood_scale=finder.likelihood_scale
    )
    if usual is None:
        return (yield from _finished(finder, poses, poses, cut, at_once=at_once, usual=None, centre=centre))
    odd, again = usual.odd(moved), []
    for rows in _portions(odd, at_once):
        again.append(_near(finder, rows, cut, usual=usual, known=known).about(centre))
        yield Step(sum(len(part.shifts) for part in again), len(odd), "Looking again where others stand")
    if again:
        moved = usual.choose_by_posterior(moved, odd, Poses.concatenated(again), group=finder.group)
    shrunk = usual.shrink_to_prior(moved).about(-centre)
    return (
        yield from _finished(finder, moved.about(-centre), shrunk, cut, at_once=at_once, usual=usual, centre=centre)
    )


def _near(finder: PoseFinder, rows: Tensor, cut: Cut, *, usual: OffsetPrior, known: Tensor | None) -> Poses:
    """Poses of these rows, looked for where the others stand; shifts are from the picks."""
    patches, to_picks = cut(rows)
    at = ((usual.middle - to_picks) / finder.model.voxel_size).round().to(patches.device)
    return finder.find(patches, None if known is None else known[rows.to(known.device)], at=at).shifted(to_picks)


def _finished(
    finder: PoseFinder,
    found: Poses,
    shrunk: Poses,
    cut: Cut,
    *,
    at_once: int,
    usual: OffsetPrior | None,
    centre: Tensor,
) -> Stream[Step, Poses]:
    """The poses drawn, those in which a turn is left open finished from where they were found."""
    rows, done = finder.left_open(found), 0
    for some in _portions(rows, at_once):
        part = found.take(some)
        place = None if usual is None else usual.places(part.about(centre), point=centre)
        shrunk = shrunk.with_rows(some, _open_ended(finder, part, cut(some), place))
        done += len(some)
        yield Step(done, len(rows), "Weighing what is left open")
    return shrunk


def _open_ended(finder: PoseFinder, poses: Poses, seen: tuple[Tensor, Tensor], place: Place | None) -> Poses:
    """Poses finished; shifts, and places, are from the picks."""
    patches, to_picks = seen
    from_patches = None if place is None else place.moved(to_picks)
    return finder.finish(patches, poses.shifted(-to_picks), from_patches).shifted(to_picks)


def _portions(rows: Tensor, at_once: int) -> tuple[Tensor, ...]:
    return rows.split(at_once) if len(rows) else ()
