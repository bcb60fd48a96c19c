"""A pose finder: a reference and the model of one tomogram, learnt from its own particles, ready to say their poses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, concatenate_fits, fit_at, fit_modes, fit_poses, rank_fits
from napari_orient.engine.matching.search import (
    MatchedFilterSearch,
    build_position_search,
    build_search,
    informative_coefficients,
)
from napari_orient.engine.model.forward import ForwardModel, box_side, cropped
from napari_orient.engine.model.gain import align_tilts, calibrate, initial_forward_model
from napari_orient.engine.model.noise import mean_power, simulate_noise_patches, window
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge, estimate_wedge
from napari_orient.engine.refinement.batches import batch_of, in_batches
from napari_orient.engine.refinement.detection import DetectionModel
from napari_orient.engine.refinement.options import RefinementOptions
from napari_orient.engine.refinement.posterior import (
    Observation,
    Poses,
    posterior_mean,
    summarise_modes,
)
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE, estimate_likelihood_scale
from napari_orient.engine.streams import Note, Step, Stream
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.threads import in_parallel

_FIRST_ROTATIONS = 1000
_INFORMATIVE = 0.985
_STEPS, _LEARNING_STEPS = 3, 2
_KEPT, _PLACES = 2, 2
_KEPT_AT_LOW_SNR, _PLACES_AT_LOW_SNR, _STARTS_AT_LOW_SNR = 4, 10, 8
_ROUNDS = 2
_ENOUGH = 8
_NOISES = 32
_LOW_SNR_SCORE = 11.0
_WALK_VOXELS = 2.0
_WORTH, _WORTH_NATS = 0.5, 8.0


@dataclass(frozen=True, eq=False)
class PoseFinder:
    """A reference as it shows in one tomogram, and the search that finds where fits begin.

    Parameters
    ----------
    reference, group : what is matched, and its symmetry.
    full_model, model : wedge, gain and noise of the tomogram: of all coefficients, of those that tell of the pose.
    search : by matched filters, for the same reference and tomogram.
    wedge, found_wedge : the missing wedge in force, and the one that the patches show.
    dark : whether particles are darker than their surroundings.
    faint : whether noise is so strong that more places are tried for each particle.
    options : how it was asked for.
    likelihood_scale : what log-likelihoods of its matches are multiplied by; see `estimate_likelihood_scale`.
    presence : what picks on nothing score, and what particles do; None before it is learnt.
    warnings : what looks wrong with template, wedge or contrast.
    """

    reference: Reference
    group: Symmetry
    full_model: ForwardModel
    model: ForwardModel
    search: MatchedFilterSearch
    wedge: Wedge
    found_wedge: Wedge
    particles_dark: bool
    low_snr: bool
    options: RefinementOptions
    likelihood_scale: float = TYPICAL_LIKELIHOOD_SCALE
    detection: DetectionModel | None = None
    warnings: tuple[Note, ...] = ()

    def p_false(self, poses: Poses) -> Tensor:
        """Probability that nothing is where a pose was found, (N,)."""
        return self.detection.p_false(poses.score) if self.detection else torch.zeros_like(poses.score)

    @torch.no_grad()
    def find(self, patches: Tensor, initial: Tensor | None = None) -> Poses:
        """Poses of patches (N, n, n, n), on the CPU: searched, fitted, and the posterior mean taken.

        Parameters
        ----------
        initial : (N, 3, 3) rotations to start from as well; None has no others than the search finds.
        """

        def find(rows: slice) -> Poses:
            return self._batch(patches[rows], None if initial is None else initial[rows])

        return in_batches(find, len(patches), side=patches.shape[-1], device=patches.device)

    @torch.inference_mode()
    def _batch(self, patches: Tensor, initial: Tensor | None) -> Poses:
        fast = self.options.effort.precision == "fast"
        fits, centres = candidates(
            self.search,
            patches,
            starts=1 if fast and not self.low_snr else _starts(self.options, low_snr=self.low_snr),
            initial=initial,
            places=1 if fast and not self.low_snr else _places(low_snr=self.low_snr),
        )
        if fast:
            poses = summarise_modes(fits, self.group, likelihood_scale=self.likelihood_scale)
        else:
            observed = self.model.observe(patches, centres)
            fits = fit_modes(self.reference, self.model, observed, fits[: _KEPT_AT_LOW_SNR if self.low_snr else _KEPT])
            observation = Observation(self.reference, self.model, observed)
            poses = posterior_mean(fits, observation, self.group, likelihood_scale=self.likelihood_scale)
        return poses.shifted(centres * self.model.voxel_size)


def candidates(
    search: MatchedFilterSearch,
    patches: Tensor,
    *,
    starts: int,
    places: int,
    initial: Tensor | None = None,
) -> tuple[list[Fit], Tensor]:
    """Fits of the best rotations of a search to patches, best first, and (N, 3) whole voxels that they are centred by.

    Parameters
    ----------
    starts : rotations of the search that are fitted; those that score far worse than the best are left out.
    places : where the particle may be; the one with the best fit is taken.
    initial : (N, 3, 3) rotations to fit as well.
    """
    centres = search.positions.find(patches, count=places)
    observed = torch.stack([search.model.observe(patches, centre) for centre in centres.unbind(1)], dim=1)
    best = search.best_rotations(observed.flatten(0, 1), count=starts)
    rotations, gain = (column.unflatten(0, centres.shape[:2]) for column in best)
    fitted = gain >= _WORTH * gain.amax((1, 2), keepdim=True) - _WORTH_NATS
    if initial is not None:
        rotations = torch.cat([initial[:, None, None].expand(-1, centres.shape[1], 1, 3, 3), rotations], dim=2)
        fitted = torch.cat([torch.ones_like(fitted[:, :, :1]), fitted], dim=2)
    mask = search.informative
    model, informative = search.model.select(mask), observed[..., mask]
    row, place, start = fitted.nonzero(as_tuple=True)
    fit = fit_poses(
        search.reference,
        model,
        informative[row, place],
        rotations=rotations[row, place, start],
        shifts=torch.zeros(len(row), 3, device=patches.device),
        steps=_STEPS,
    )
    chosen = place[rank_fits(fit.log_likelihood_gain, row, 1)[:, 0]]
    # Fits about another centre are fits of another patch.
    same = (place == chosen[row]).nonzero().squeeze(1)
    rows = same[rank_fits(fit.log_likelihood_gain[same], row[same], rotations.shape[2])]
    each = torch.arange(len(centres), device=patches.device)
    return [fit.take(column) for column in rows.unbind(1)], centres[each, chosen]


@torch.no_grad()
def estimate_tomogram_model(
    patches: Tensor, reference: Reference, group: Symmetry, *, voxel_size: float, options: RefinementOptions
) -> Stream[Step, PoseFinder]:
    """The pose finder of a tomogram, estimated from patches (N, n, n, n) of some of its particles, poses unknown.

    The wedge is found or taken from the options; then, in turn: noise and gain as seen without poses; the particles'
    centres, and the same again; the search; poses; noise and gain as the poses show them, phases last; the search
    again; what it scores in noise alone.

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
    wedge = options.wedge.chosen(found)
    resolution = max(options.resolution or 0.0, reference.resolution)
    model = initial_forward_model(middle, reference, wedge, voxel_size=voxel_size, resolution=resolution)
    yield Step(1, steps, "Centring")
    positions = build_position_search(reference, model, group, options.search)
    parts = patches.split(batch_of(patches.shape[-1], patches.device))
    places = torch.cat(in_parallel(positions.find, parts, device=patches.device))[:, 0]
    centred = cropped(patches, box, voxels=places)
    model = initial_forward_model(centred, reference, wedge, voxel_size=voxel_size, resolution=resolution)
    particles_dark = bool(model.whitening.real.sum() < 0)
    yield Step(2, steps, "Building the search")
    first = replace(options.search, rotations=max(_FIRST_ROTATIONS, options.search.rotations // 3))
    search = build_search(reference, model, group, first)
    yield Step(3, steps, "First poses")
    fit, centres = _found(search, patches, options.starts, low_snr=False)
    low_snr = False
    for turn in range(_ROUNDS):
        yield Step(4 + turn, steps, "Learning noise and gain")
        observed = model.observe(patches, centres)
        fit = _polished(reference, model, observed, fit)
        model = _relearnt(reference, model, observed, fit, wedge=wedge)
        low_snr = float(fit.score.mean()) < _LOW_SNR_SCORE
        if low_snr:
            # In much noise the first poses were found with too rough a model: look again with a better one.
            search = build_search(reference, model, group, options.search)
            fit, centres = _found(search, patches, options.starts, low_snr=True)
    if len(patches) >= _ENOUGH:
        yield Step(4 + _ROUNDS, steps, "Learning the tilts' alignment")
        fit = _polished(reference, model, model.observe(patches, centres), fit)
        # The noise stays as it was learnt: what a misaligned series leaves unexplained is not all shifts of its images.
        model = align_tilts(reference, model, model.observe(patches, centres), fit, wedge=wedge)
    search = build_search(reference, model, group, options.search)
    informative = model.select(informative_coefficients(reference, model, _INFORMATIVE))
    finder = PoseFinder(reference, group, model, informative, search, wedge, found, particles_dark, low_snr, options)
    yield Step(5 + _ROUNDS, steps, "Matching noise")
    finder = replace(finder, likelihood_scale=_likelihood_scale(finder, patches, centres, fit))
    noise = simulate_noise_patches(model, patches.shape[-1], count=_NOISES, generator=torch.Generator().manual_seed(0))
    return replace(finder, detection=DetectionModel.fitted(finder.find(noise.to(patches)).score, fit.score.cpu()))


def _relearnt(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit, *, wedge: Wedge) -> ForwardModel:
    """The model as the poses show it, as far as so many particles can: few would teach it their own noise."""
    return calibrate(reference, model, observed, fit, wedge=wedge) if len(observed) >= _ENOUGH else model


def _likelihood_scale(finder: PoseFinder, patches: Tensor, centres: Tensor, fit: Fit) -> float:
    """What the matches that errors are told by are worth, given the poses of the patches that taught the tomogram."""
    reference, model = finder.reference, finder.full_model
    fit = _polished(reference, model, model.observe(patches, centres), fit)
    told = finder.model
    if finder.options.effort.precision == "fast":
        search = finder.search
        reference, told = search.reference, search.model.select(search.informative)
    return estimate_likelihood_scale(reference, told, told.observe(patches, centres), fit)


def _places(*, low_snr: bool) -> int:
    return _PLACES_AT_LOW_SNR if low_snr else _PLACES


def _starts(options: RefinementOptions, *, low_snr: bool) -> int:
    return max(options.starts, _STARTS_AT_LOW_SNR) if low_snr else options.starts


def _found(search: MatchedFilterSearch, patches: Tensor, starts: int, *, low_snr: bool) -> tuple[Fit, Tensor]:
    def found(part: Tensor) -> tuple[Fit, Tensor]:
        fits, centres = candidates(search, part, starts=starts, places=_places(low_snr=low_snr))
        return fits[0], centres

    parts = patches.split(batch_of(patches.shape[-1], patches.device))
    fits, centres = zip(*in_parallel(found, parts, device=patches.device), strict=True)
    return concatenate_fits(list(fits)), torch.cat(centres)


def _polished(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> Fit:
    """Fits polished on the coefficients that tell of the pose, then compared on all."""
    mask = informative_coefficients(reference, model, _INFORMATIVE)
    told = model.select(mask)

    def polished(row: Tensor) -> Fit:
        near = fit_poses(
            reference,
            told,
            observed[row][:, :, mask],
            rotations=fit.rotations[row],
            shifts=fit.shifts[row],
            steps=_LEARNING_STEPS,
        )
        return fit_at(reference, model, observed[row], near.rotations, near.shifts)

    rows = torch.arange(len(observed)).split(batch_of(model.box, observed.device))
    return concatenate_fits(in_parallel(polished, rows, device=observed.device))
