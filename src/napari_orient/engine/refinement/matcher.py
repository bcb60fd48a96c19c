"""A matcher: a reference and the imaging of one tomogram, learnt from its own particles, ready to say their poses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, Place, compare, joined, polish, ranking
from napari_orient.engine.matching.modes import polished_rivals, with_half_step
from napari_orient.engine.matching.search import MatchedFilterBank, build_bank, build_centring, telling
from napari_orient.engine.model.forward import Imaging, box_side, cropped
from napari_orient.engine.model.gain import align_tilts, calibrate, first_imaging
from napari_orient.engine.model.noise import mean_power, noise_patches, window
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge, estimate_wedge
from napari_orient.engine.refinement.batches import batch_of, in_batches
from napari_orient.engine.refinement.options import RefinementOptions
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.posterior import Seen, finished, loose, settled
from napari_orient.engine.refinement.presence import Presence
from napari_orient.engine.refinement.trust import USUAL_TRUST, trust_in
from napari_orient.engine.rotations import Symmetry
from napari_orient.engine.streams import Step, Stream

_FIRST_ROTATIONS = 1000
_INFORMATIVE = 0.985
_STEPS, _LEARNING_STEPS = 3, 2
_KEPT, _PLACES = 2, 2
_KEPT_IF_FAINT, _PLACES_IF_FAINT, _STARTS_IF_FAINT = 4, 10, 8
_ROUNDS = 2
_ENOUGH = 8
_NOISES = 32
_FAINT = 11.0
_WALK_VOXELS = 2.0
_WORTH, _WORTH_NATS = 0.5, 8.0


@dataclass(frozen=True, eq=False)
class Matcher:
    """A reference as it shows in one tomogram, and the bank that finds where to start.

    Parameters
    ----------
    reference, group : what is matched, and its symmetry.
    full_imaging, imaging : wedge, gain and noise of the tomogram: of all coefficients, of those that tell of the pose.
    bank : of the same reference and tomogram.
    wedge, found_wedge : the missing wedge in force, and the one that the patches show.
    dark : whether particles are darker than their surroundings.
    faint : whether noise is so strong that more places are tried for each particle.
    options : how it was asked for.
    trust : what log-likelihoods of its matches are multiplied by; see `trust_in`.
    presence : what picks on nothing score, and what particles do; None before it is learnt.
    """

    reference: Reference
    group: Symmetry
    full_imaging: Imaging
    imaging: Imaging
    bank: MatchedFilterBank
    wedge: Wedge
    found_wedge: Wedge
    dark: bool
    faint: bool
    options: RefinementOptions
    trust: float = USUAL_TRUST
    presence: Presence | None = None

    def absence(self, poses: Poses) -> Tensor:
        """Probability that nothing is where a pose was found, (N,)."""
        return self.presence.absence(poses.score) if self.presence else torch.zeros_like(poses.score)

    def solve(self, patches: Tensor, known: Tensor | None = None, *, at: Tensor | None = None) -> Poses:
        """Poses of patches, found and finished: `find`, then `finish`."""
        return self.finish(patches, self.find(patches, known, at=at))

    @torch.no_grad()
    def find(self, patches: Tensor, known: Tensor | None = None, *, at: Tensor | None = None) -> Poses:
        """Poses of patches (N, n, n, n): those that the bank finds, and beside known rotations (N, 3, 3) if given.

        Particles are looked for as far from the patches' centres as the options allow, or only about the places ``at``,
        (N, 3) whole voxels xyz from the centres. Those that match far worse than is usual are looked for once more, as
        thoroughly as in much noise. Where a turn is uncertain its law is taken for a normal one; see `finish`.
        """
        poses = self._searched(patches, known, at, thorough=False)
        if self.presence is None or self.faint or at is not None:
            return poses
        rows = self.presence.odd(poses.score).nonzero().squeeze(1)
        if len(rows) == 0:
            return poses
        again = self._searched(patches[rows], None if known is None else known[rows], None, thorough=True)
        better = ((again.score > poses.score[rows]) & ~self._walked_off(again)).nonzero().squeeze(1)
        return poses.with_rows(rows[better], again.take(better))

    @torch.no_grad()
    def finish(self, patches: Tensor, poses: Poses, place: Place | None = None) -> Poses:
        """Poses at the mean of all that may be, where a turn is uncertain; the others, and the fast way's, as they are.

        Parameters
        ----------
        poses : that were found in the patches, on the CPU.
        place : where the particles are likely to stand, from the patches' centres, on the CPU.
        """
        rows = self.left_open(poses)
        if len(rows) == 0:
            return poses
        device, size = patches.device, self.imaging.voxel_size

        def finish(some: slice) -> Poses:
            part = poses.take(rows[some])
            voxels = (part.shifts / size).round()
            near = None if place is None else place.take(rows[some]).moved(voxels * size).to(device)
            observed = self.imaging.observe(patches[rows[some].to(device)], voxels.to(device))
            seen = Seen(self.reference, self.imaging, observed, near)
            start = part.shifted(-voxels * size).to(device)
            return finished(start, seen, self.group, trust=self.trust).shifted(voxels.to(device) * size)

        solve, side = torch.inference_mode()(finish), patches.shape[-1]
        before, after = poses.take(rows), in_batches(solve, len(rows), side=side, device=device)
        astray = self._walked_off(after).nonzero().squeeze(1)
        kept = replace(before.take(astray), turn_covariance=after.turn_covariance[astray])
        return poses.with_rows(rows, after.with_rows(astray, kept))

    def _walked_off(self, poses: Poses) -> Tensor:
        """Whether a match is beyond where picks may be, (N,): it is another particle's, or nothing's."""
        return poses.shifts.abs().amax(1) > self.options.max_shift + _WALK_VOXELS * self.imaging.voxel_size

    def left_open(self, poses: Poses) -> Tensor:
        """Rows of the poses that `finish` has something to do for."""
        return loose(poses) if self.options.precision != "fast" else torch.arange(0)

    def noise_scores(self, patches: Tensor) -> Tensor:
        """What patches of noise score in the most thorough search, (N,)."""
        return self._searched(patches, None, None, thorough=True).score

    @torch.no_grad()
    def _searched(self, patches: Tensor, known: Tensor | None, at: Tensor | None, *, thorough: bool) -> Poses:
        def find(rows: slice) -> Poses:
            given = (None if each is None else each[rows] for each in (known, at))
            return self._batch(patches[rows], *given, thorough=thorough or self.faint)

        return in_batches(find, len(patches), side=patches.shape[-1], device=patches.device)

    @torch.inference_mode()
    def _batch(self, patches: Tensor, known: Tensor | None, at: Tensor | None, *, thorough: bool) -> Poses:
        fast = self.options.precision == "fast"
        fits, centres = candidates(
            self.bank,
            patches,
            group=self.group,
            starts=1 if fast and not thorough else _starts(self.options, faint=thorough),
            known=known,
            at=at,
            places=1 if fast and not thorough else _places(faint=thorough),
        )
        if not fast:
            observed = self.imaging.observe(patches, centres)
            kept = (_KEPT_IF_FAINT if thorough else _KEPT) + (len(self.group) > 1)
            fits = polished_rivals(self.reference, self.imaging, observed, fits[:kept])
        poses = settled(fits, self.group, trust=self.trust)
        return replace(poses, shifts=poses.shifts + centres * self.imaging.voxel_size)


def candidates(
    bank: MatchedFilterBank,
    patches: Tensor,
    *,
    group: Symmetry,
    starts: int,
    known: Tensor | None = None,
    at: Tensor | None = None,
    places: int = 1,
) -> tuple[list[Fit], Tensor]:
    """Fits of the bank's best rotations, and of known ones, to patches, best first; whole voxels they are centred by.

    Of several places where a particle may stand, the one with the best fit is taken; ``at`` (N, 3) tells the one.
    Starts that the bank finds far worse than its best are not polished.
    """
    sight = bank.sight
    centres = bank.centring(patches, count=places) if at is None else at[:, None]
    observed = torch.stack([sight.imaging.observe(patches, centre) for centre in centres.unbind(1)], dim=1)
    found = bank.ranked(observed.flatten(0, 1), starts=starts)
    rotations, gain = (column.unflatten(0, centres.shape[:2]) for column in (found.rotations, found.best))
    if known is not None:
        rotations = torch.cat([known[:, None, None].expand(-1, centres.shape[1], 1, 3, 3), rotations], dim=2)
        gain = torch.cat([torch.full_like(gain[:, :, :1], torch.inf), gain], dim=2)
    best = gain.nan_to_num(posinf=0.0).amax((1, 2), keepdim=True)
    mask = bank.telling
    imaging, told = sight.imaging.chosen(mask), observed[..., mask]
    row, place, start = (gain >= _WORTH * best - _WORTH_NATS).nonzero(as_tuple=True)
    fit = polish(
        sight.reference,
        imaging,
        told[row, place],
        rotations=rotations[row, place, start],
        shifts=torch.zeros(len(row), 3, device=patches.device),
        steps=_STEPS,
    )
    chosen = place[ranking(fit.evidence, row, 1)[:, 0]]
    # Fits about another centre are fits of another patch.
    same = (place == chosen[row]).nonzero().squeeze(1)
    rows = same[ranking(fit.evidence[same], row[same], rotations.shape[2])]
    each = torch.arange(len(centres), device=patches.device)
    fits = with_half_step(
        sight.reference,
        imaging,
        told[each, chosen],
        [fit.take(column) for column in rows.unbind(1)],
        group=group,
        steps=_STEPS,
    )
    return fits, centres[each, chosen]


@torch.no_grad()
def learn(
    patches: Tensor, reference: Reference, group: Symmetry, *, voxel_size: float, options: RefinementOptions
) -> Stream[Step, Matcher]:
    """The matcher of a tomogram, learnt from some of its particles' patches (N, n, n, n) without knowing their poses.

    The wedge is found or taken from the options; then, in turn: noise and gain as seen without poses; the particles'
    centres, and the same again; the bank; poses; noise and gain as the poses show them, phases last; the bank again;
    what it scores in noise alone.

    Parameters
    ----------
    patches : each of mean 0 and sd 1, on the device to work on; of one tomogram.
    voxel_size : Å.
    """
    steps = 6 + _ROUNDS
    yield Step(0, steps, "Looking at wedge and noise")
    box = min(box_side(reference.radius, voxel_size), patches.shape[-1])
    middle = cropped(patches, box)
    found = estimate_wedge(mean_power(middle, window(box, voxel_size, reference.radius)), voxel_size)
    wedge = options.wedge(found)
    resolution = max(options.resolution or 0.0, reference.resolution)
    imaging = first_imaging(middle, reference, wedge, voxel_size=voxel_size, resolution=resolution)
    yield Step(1, steps, "Centring")
    centring = build_centring(reference, imaging, group, options.bank())
    parts = patches.split(batch_of(patches.shape[-1], patches.device))
    centred = cropped(patches, box, voxels=torch.cat([centring(part)[:, 0] for part in parts]))
    imaging = first_imaging(centred, reference, wedge, voxel_size=voxel_size, resolution=resolution)
    dark = bool(imaging.scale.real.sum() < 0)
    yield Step(2, steps, "Building the bank")
    first = replace(options.bank(), rotations=max(_FIRST_ROTATIONS, options.rotations // 3))
    bank = build_bank(reference, imaging, group, first)
    yield Step(3, steps, "First poses")
    fit, centres = _found(bank, patches, group, options.starts, faint=False)
    faint = False
    for turn in range(_ROUNDS):
        yield Step(4 + turn, steps, "Learning noise and gain")
        observed = imaging.observe(patches, centres)
        fit = _polished(reference, imaging, observed, fit)
        imaging = _relearnt(reference, imaging, observed, fit, wedge=wedge)
        faint = float(fit.score.mean()) < _FAINT
        if faint:
            # In much noise the first poses were found with too rough an imaging: look again with a better one.
            bank = build_bank(reference, imaging, group, options.bank())
            fit, centres = _found(bank, patches, group, options.starts, faint=True)
    if len(patches) >= _ENOUGH:
        yield Step(4 + _ROUNDS, steps, "Learning the tilts' alignment")
        fit = _polished(reference, imaging, imaging.observe(patches, centres), fit)
        # The noise stays as it was learnt: what a misaligned series leaves unexplained is not all shifts of its images.
        imaging = align_tilts(reference, imaging, imaging.observe(patches, centres), fit, wedge=wedge)
    bank = build_bank(reference, imaging, group, options.bank())
    told = imaging.chosen(telling(reference, imaging, _INFORMATIVE))
    matcher = Matcher(reference, group, imaging, told, bank, wedge, found, dark, faint, options)
    yield Step(5 + _ROUNDS, steps, "Matching noise")
    matcher = replace(matcher, trust=_trust(matcher, patches, centres, fit))
    noise = noise_patches(imaging, patches.shape[-1], count=_NOISES, generator=torch.Generator().manual_seed(0))
    return replace(matcher, presence=Presence.learnt(matcher.noise_scores(noise.to(patches)), fit.score.cpu()))


def _relearnt(reference: Reference, imaging: Imaging, observed: Tensor, fit: Fit, *, wedge: Wedge) -> Imaging:
    """The imaging as the poses show it, as far as so many particles can: few would teach it their own noise."""
    return calibrate(reference, imaging, observed, fit, wedge=wedge) if len(observed) >= _ENOUGH else imaging


def _trust(matcher: Matcher, patches: Tensor, centres: Tensor, fit: Fit) -> float:
    """What the matches that errors are told by are worth, given the poses of the patches that taught the tomogram."""
    reference, imaging = matcher.reference, matcher.full_imaging
    fit = _polished(reference, imaging, imaging.observe(patches, centres), fit)
    told = matcher.imaging
    if matcher.options.precision == "fast":
        reference, told = matcher.bank.sight.reference, matcher.bank.sight.imaging.chosen(matcher.bank.telling)
    return trust_in(reference, told, told.observe(patches, centres), fit)


def _places(*, faint: bool) -> int:
    return _PLACES_IF_FAINT if faint else _PLACES


def _starts(options: RefinementOptions, *, faint: bool) -> int:
    return max(options.starts, _STARTS_IF_FAINT) if faint else options.starts


def _found(
    bank: MatchedFilterBank, patches: Tensor, group: Symmetry, starts: int, *, faint: bool
) -> tuple[Fit, Tensor]:
    fits, centres = [], []
    for part in patches.split(batch_of(patches.shape[-1], patches.device)):
        found, centre = candidates(bank, part, group=group, starts=starts, places=_places(faint=faint))
        fits.append(found[0])
        centres.append(centre)
    return joined(fits), torch.cat(centres)


def _polished(reference: Reference, imaging: Imaging, observed: Tensor, fit: Fit) -> Fit:
    """Fits polished on the coefficients that tell of the pose, then compared on all."""
    mask = telling(reference, imaging, _INFORMATIVE)
    told = imaging.chosen(mask)
    fits = []
    for row in torch.arange(len(observed)).split(batch_of(imaging.box, observed.device)):
        near = polish(
            reference,
            told,
            observed[row][:, :, mask],
            rotations=fit.rotations[row],
            shifts=fit.shifts[row],
            steps=_LEARNING_STEPS,
        )
        fits.append(compare(reference, imaging, observed[row], near.rotations, near.shifts))
    return joined(fits)
