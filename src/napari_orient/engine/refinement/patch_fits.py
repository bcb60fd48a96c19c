"""Fits of a tomogram's patches: from the best rotations of a search, refitted, or drawn from their posterior.

A search gives places where the particle may be, and at each the rotations that match best; these are fitted by
Gauss-Newton, and those that end apart are competing modes. All patches are worked on as streams, in batches of a size
that suits a processor's cache or a GPU, side by side where there are threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from napari_orient.engine.devices import device_batch_size, in_parallel, worker_count
from napari_orient.engine.matching.fit import Fit, concatenate_fits, draw_poses, fit_at, fit_poses, rank_distinct_fits
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.matching.search import MatchedFilterSearch, informative_coefficients
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.streams import Step, Stream

PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")

INFORMATIVE = 0.985
"""Share of the Fisher information in the coefficients that the final fits use; the others cost time."""
_FIT_STEPS = 3
"""Gauss-Newton steps of each start, on the search's own coefficients."""
_REFIT_STEPS = 2
"""Gauss-Newton steps of a pose when the model has changed a little."""
_MODES = 8
"""Distinct fits, at all places, that are refitted as competing modes where they are near the best."""
_APART_DEG = 6.0
"""Degrees between two fits from which they are distinct: fits of one mode end within a degree or two."""
_PLACES = 2
"""Places where a particle may be that are searched; with one, 80 % for 90 % of 20 real ribosomes lie within 20°."""
PLACE_NATS = 8.0
"""Nats of the position search by which the second place may be worse than the best, and be searched all the same, once
the tomogram's model is there. Of PolNet's ribosomes a twentieth has one, of 70 with a CTF of 3.5 µm a third; their
poses and those of proteasomes are as good with one place. One of 12 simulated particles with a template 5 % too large
needs its second, at 3.4 nats."""
LOW_SNR_PLACES = 10
"""Places at a low score."""
LOW_SNR_STARTS = 8
"""Starts at a low score, at least."""
_LEAST_SHARE_OF_BEST = 0.6
"""Starts whose predicted gain in log-likelihood is less than this share of the best, and ..."""
_NATS_BELOW_BEST = 8.0
"""... less by these nats, are not fitted. Of 530 particles of eight tomograms (PolNet's, with a CTF, among gold, in
cells, in up to three times the noise) none has another pose for it than with half of the best as the least share."""
_DRAW_SEED = 0
"""Seed of the poses that gain, noise and tilt shifts are estimated from."""


@dataclass(frozen=True, eq=False)
class SearchedFits:
    """What a search of N patches ended in: K distinct fits of each, at P places where the particle may be.

    Parameters
    ----------
    fits : K, best first; where fewer are distinct, the best again.
    place : (N, K) at which of the places each fit is.
    distinct : (N, K) whether a fit is no repetition of the best.
    places : (N, P, 3) whole voxels xyz from the patches' centres, which patches were observed about.
    observed : (N, P, 2, M) coefficients about each place.
    """

    fits: list[Fit]
    place: Tensor
    distinct: Tensor
    places: Tensor
    observed: Tensor

    @property
    def centres(self) -> Tensor:
        """Voxels (N, K, 3) that the shifts of each fit count from."""
        return self.places[torch.arange(len(self.place), device=self.place.device)[:, None], self.place]


def search_and_fit(
    search: MatchedFilterSearch,
    patches: Tensor,
    *,
    model: ForwardModel | None = None,
    starts: int,
    places: int,
    place_nats: float | None = None,
    initial: Tensor | None = None,
    at: Tensor | None = None,
    prior: RotationPrior | None = None,
    modes: int = _MODES,
) -> SearchedFits:
    """Distinct fits of the best rotations of a search to patches, best first.

    Parameters
    ----------
    model : what patches are observed through, where more is wanted than the search's coefficients, which are its
        first ones.
    starts : rotations of the search that are fitted at each place; those that score far worse than the best are not.
    places : where the particle may be.
    place_nats : of the position search, by which a place may be worse than the best, and be searched; None searches
        all.
    initial : (N, 3, 3) rotations to fit as well.
    at : (N, 3) whole voxels xyz from the patches' centres, the one place of each to search about.
    prior : of the N rotations: what it excludes is not searched, and fits maximise the posterior with it.
    modes : K; where fewer are distinct, the best again.
    """
    if at is None:
        centres, likelihood = search.positions.candidates(patches, count=places, prior=prior)
    else:
        centres, likelihood = at[:, None], at.new_zeros(len(at), 1)
    tried = torch.ones_like(likelihood) if place_nats is None else likelihood >= likelihood[:, :1] - place_nats
    row, place = tried.nonzero().T
    every = _observed(search.model if model is None else model, patches, centres, tried)
    observed = every[..., : len(search.model.indices)]
    log_prior = None if prior is None else search.log_prior(prior)[row]
    rotations, gain = search.best_rotations(observed[row, place], count=starts, log_prior=log_prior)
    best = gain.new_full((len(patches),), -torch.inf).scatter_reduce(0, row, gain[:, 0], "amax")
    fitted = gain >= _LEAST_SHARE_OF_BEST * best[row, None] - _NATS_BELOW_BEST
    if initial is not None:
        rotations = torch.cat([initial[row, None], rotations], dim=1)
        fitted = torch.cat([torch.ones_like(fitted[:, :1]), fitted], dim=1)
    each, start = fitted.nonzero().T
    row, place = row[each], place[each]
    own = None if prior is None else prior.take(row)
    first = rotations[each, start]
    fit = fit_poses(
        search.reference,
        search.model.select(search.informative),
        observed[..., search.informative][row, place],
        rotations=first if own is None else own.nearest_allowed(first),
        shifts=torch.zeros(len(row), 3, device=patches.device),
        steps=_FIT_STEPS,
        prior=own,
        owner=row,
    )
    rows = rank_distinct_fits(fit, row, modes, apart_deg=_APART_DEG)
    distinct = rows != rows[:, :1]
    distinct[:, 0] = True
    return SearchedFits([fit.take(column) for column in rows.unbind(1)], place[rows], distinct, centres, every)


def _observed(model: ForwardModel, patches: Tensor, places: Tensor, tried: Tensor) -> Tensor:
    """Coefficients of patches about their places (N, P, 3) as a model observes them, (N, P, 2, M); 0 if not tried."""
    if places.shape[1] == 1:
        return model.observe(patches, places[:, 0])[:, None]
    observed = patches.new_zeros(*places.shape[:2], 2, len(model.indices))
    for number, chosen in enumerate(tried.unbind(1)):
        rows = chosen.nonzero().squeeze(1)
        # A copy of patches costs as much as to observe them.
        some = patches if len(rows) == len(patches) else patches[rows]
        if len(rows):
            observed[rows, number] = model.observe(some, places[rows, number])
    return observed


def places_of(*, wide: bool) -> int:
    """Number of places that are searched, where scores are low or not."""
    return LOW_SNR_PLACES if wide else _PLACES


def starts_of(options: RefinementOptions, *, wide: bool) -> int:
    """Number of rotations that are fitted at each place, where scores are low or not."""
    return max(options.starts, LOW_SNR_STARTS) if wide else options.starts


def fit_all(
    search: MatchedFilterSearch,
    patches: Tensor,
    options: RefinementOptions,
    *,
    low_snr: bool,
    step: Step,
    prior: RotationPrior | None,
) -> Stream[Step, tuple[Fit, Tensor]]:
    """The best fit of every patch, and (N, 3) voxels that they are centred by."""

    def best(rows: Tensor) -> tuple[Fit, Tensor]:
        starts, own = starts_of(options, wide=low_snr), None if prior is None else prior.take(rows)
        places = places_of(wide=low_snr)
        found = search_and_fit(search, patches[rows], starts=starts, places=places, prior=own, modes=1)
        return found.fits[0], found.centres[:, 0]

    parts = torch.arange(len(patches)).split(patches_per_batch(patches.shape[-1], patches.device))
    found = yield from in_turn(best, parts, step=step, device=patches.device)
    fits, centres = zip(*found, strict=True)
    return concatenate_fits(list(fits)), torch.cat(centres)


def refit(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    fit: Fit,
    *,
    step: Step,
    prior: RotationPrior | None,
) -> Stream[Step, Fit]:
    """Fits refitted on the informative coefficients, then evaluated on all."""
    mask = informative_coefficients(reference, model, INFORMATIVE)
    informative = model.select(mask)

    def refitted(rows: Tensor) -> Fit:
        part = observed[rows][:, :, mask]
        rotations, shifts, own = fit.rotations[rows], fit.shifts[rows], None if prior is None else prior.take(rows)
        near = fit_poses(
            reference, informative, part, rotations=rotations, shifts=shifts, steps=_REFIT_STEPS, prior=own
        )
        return fit_at(reference, model, observed[rows], near.rotations, near.shifts, prior=own)

    rows = torch.arange(len(observed)).split(patches_per_batch(model.box, observed.device))
    return concatenate_fits((yield from in_turn(refitted, rows, step=step, device=observed.device)))


def fit_at_drawn_poses(
    reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit, *, step: Step
) -> Stream[Step, Fit]:
    """Fits in poses drawn from their posterior, one for each patch."""
    rotations, shifts = draw_poses(fit, torch.Generator().manual_seed(_DRAW_SEED))

    def evaluate(rows: Tensor) -> Fit:
        return fit_at(reference, model, observed[rows], rotations[rows], shifts[rows])

    rows = torch.arange(len(observed)).split(patches_per_batch(model.box, observed.device))
    return concatenate_fits((yield from in_turn(evaluate, rows, step=step, device=observed.device)))


def in_turn(
    function: Callable[[PartT], ResultT], parts: Sequence[PartT], *, step: Step, device: torch.device
) -> Stream[Step, list[ResultT]]:
    """The function's answers for each part, in order; a step is yielded each time that every thread has done one."""
    answers, count = list[ResultT](), worker_count()
    for first in range(0, len(parts), count):
        yield step
        answers += in_parallel(function, parts[first : first + count], device=device)
    return answers


# --- batches ----------------------------------------------------------------------------------------------------------

_MOST_PATCHES = 64
"""Most patches in a batch of a CPU's thread; cache and speed only, the poses hold for any. A ribosome of PolNet's takes
2.7 ms in batches of 16, 2.4 of 32, 2.2 of 42 or 64: the rest is the cost of so many calls."""
_LEAST_PATCHES = 8
"""Fewest patches in such a batch, however large they are."""
_BATCH_VOXELS = 6_000_000
"""Most voxels of a batch's patches together, between those two: it limits the memory of large patches."""
_UNDIVIDED = 8
"""Patches up to which a list is solved as one batch."""
_BATCHES_HELD = 4
"""Batches whose patches are cut and held together; so many threads at most have work."""


def patches_per_batch(side: int, device: torch.device) -> int:
    """Number of patches of ``side`` voxels along each axis that one batch has."""
    return device_batch_size(device, min(_MOST_PATCHES, max(_LEAST_PATCHES, _BATCH_VOXELS // side**3)))


def patches_held(side: int, device: torch.device) -> int:
    """Number of such patches to cut and hold in memory together."""
    return _BATCHES_HELD * patches_per_batch(side, device)


def in_batches(solve: Callable[[slice], Poses], count: int, *, side: int, device: torch.device) -> Poses:
    """Poses of all rows, in order; on a CPU batches are solved side by side, one to a thread.

    More threads give the same poses to the bit, for the batches are the same.
    """
    parts = _shares(count, patches_per_batch(side, device))
    return Poses.concatenated(in_parallel(solve, parts, device=device))


def _shares(count: int, most: int) -> list[slice]:
    """Rows in shares of at most so many, as alike in size as can be; an even number, so that no thread of two waits."""
    parts = 1 if count <= _UNDIVIDED else 2 * math.ceil(count / (2 * most))
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(*both) for both in pairwise(ends)]
