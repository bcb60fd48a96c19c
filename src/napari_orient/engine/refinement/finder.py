"""Pose finder: a reference, the forward model of one tomogram, and the search by matched filters, ready to find poses.

`estimate_tomogram_model` makes one from patches of the tomogram's own particles, poses unknown. Poses and forward model
are estimated in turn, by stochastic expectation-maximisation: the model without poses, poses with that model, gain and
noise from poses drawn from their posterior, and last the shifts of the tilt images. In best fits instead of drawn poses
the reference follows some of each patch's noise, which would then count as signal.

`PoseFinder.find` then finds the pose of any particle of that tomogram: **search** by template matching (places, then
rotations), **fit** by Gauss-Newton of the best few starts, and the **posterior mean** over the modes that they end in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, fit_at, fit_modes
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.matching.search import (
    MatchedFilterSearch,
    build_position_search,
    build_search,
    informative_coefficients,
)
from napari_orient.engine.model.forward import ForwardModel, box_side, cropped
from napari_orient.engine.model.gain import align_tilts, calibrate, initial_forward_model
from napari_orient.engine.model.noise import finest_filled, mean_power, simulate_noise_patches, window
from napari_orient.engine.model.reference import Reference, ReferenceParts
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.acquisition import Acquisition, mean_of_lowest, patch_power
from napari_orient.engine.refinement.detection import DetectionModel
from napari_orient.engine.refinement.overdispersion import Overdispersion, noise_level
from napari_orient.engine.refinement.patch_fits import (
    INFORMATIVE,
    fit_all,
    fit_at_drawn_poses,
    in_batches,
    in_turn,
    patches_per_batch,
    places_of,
    refit,
    search_and_fit,
    starts_of,
)
from napari_orient.engine.refinement.posterior import Observation, Poses, posterior_mean, summarise_modes
from napari_orient.engine.refinement.transfer_choice import (
    MOST_PATCHES,
    CentredPatches,
    candidate_transfers,
    choose_transfer,
)
from napari_orient.engine.refinement.uncertainty import (
    TYPICAL_LIKELIHOOD_SCALE,
    estimate_bound_excess,
    estimate_likelihood_scale,
    optimism,
)
from napari_orient.engine.streams import Note, Step, Stream, Work, stoppable
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.tilt_geometry import TiltGeometry
from napari_orient.engine.voxel_outliers import OutlierLimits

_FIRST_ROTATIONS = 1000
"""Rotations of the first search, while gain and noise are rough; a third of the asked for, where that is more."""
_LOWEST_COEFFICIENTS = 32
"""Coefficients nearest the origin whose sign is that of the contrast: a CTF is positive there."""
_SURE = 0.95
"""Probability that a pose is right, no false pick and no competing mode, below which the particle is searched again as
at a low score: at two places a search may miss a particle that its other places find."""
_FAST_STARTS = 2
"""Starts of a fast prediction. With one, 95.5 instead of 97.5 % of PolNet's proteasomes lie within 20°, and expected
errors are 0.88 instead of 1.05 of the true ones; three change nothing more."""
_LOW_SNR_SCORE = 11.0
"""Mean score, in standard deviations of the noise, below which the search is widened by the two numbers below.
PolNet's ribosomes score 20, real ones of M. pneumoniae 5 to 9. In threefold coloured noise 96.7 % of PolNet's are found
by themselves, 90.7 % without the widening (99.3 and 98.5 % with the offset prior); it takes three times as long."""
_ROUNDS = 2
"""Rounds of fitting poses and estimating gain and noise from them."""
LEAST_PARTICLES = 8
"""Particles from which gain, noise and tilt shifts are estimated; of fewer the model would fit the noise."""
_NOISE_PATCHES = 32
"""Patches of simulated noise that are searched for the distribution of false scores."""
_NOISE_SEED = 0
"""Seed of those patches, so that the same particles always expect the same error."""
_STEP_COUNT = 8 + _ROUNDS
"""Steps that `estimate_tomogram_model` reports."""


@dataclass(frozen=True, eq=False)
class PoseFinder:
    """A reference, the forward model of one tomogram, and the search for where fits start.

    Parameters
    ----------
    reference, group : what is matched, and its symmetry.
    full_model : forward model of the tomogram, with all coefficients.
    informative : (M,) mask of those that the final fits use; see `matching.search.informative_coefficients`.
    search : by matched filters, for the same reference and tomogram; its coefficients are the lowest of the full model.
    geometry : how the tomogram was tilted: the missing wedge in force, and the one found.
    transfer : how the tomogram was corrected for its CTF, as given or of greatest likelihood.
    particles_dark : whether particles are darker than their surroundings.
    low_snr : whether scores are so low that the search is widened.
    options : as asked for.
    likelihood_scale : factor of log-likelihoods; see `uncertainty.estimate_likelihood_scale`.
    bound_excess : of the variance of best fits over their bound, nats; see `uncertainty.estimate_bound_excess`.
    optimism : of the log-likelihoods of best fits, nats; see `uncertainty.optimism`.
    overdispersion : what gives that of single particles; None before it is estimated.
    detection : distribution of the scores of false picks and of particles; None before it is fitted.
    outliers : densities beyond which voxels are no signal; None where nothing is usual.
    p_template : probability that the template is the right one, by the checks that `diagnostics` makes.
    warnings : what looks wrong with template, wedge or contrast.
    acquisition : what of the model other tomograms have too, acquired alike.
    alike : whether it was estimated from another tomogram's acquisition.
    """

    reference: Reference
    group: Symmetry
    full_model: ForwardModel
    informative: Tensor
    search: MatchedFilterSearch
    geometry: TiltGeometry
    transfer: Transfer
    particles_dark: bool
    low_snr: bool
    options: RefinementOptions
    likelihood_scale: float = TYPICAL_LIKELIHOOD_SCALE
    bound_excess: float = 0.0
    optimism: float = 0.0
    overdispersion: Overdispersion | None = None
    detection: DetectionModel | None = None
    outliers: OutlierLimits | None = None
    p_template: float = 1.0
    warnings: tuple[Note, ...] = ()
    acquisition: Acquisition | None = None
    alike: bool = False

    @cached_property
    def model(self) -> ForwardModel:
        """The forward model with the informative coefficients alone."""
        return self.full_model.select(self.informative)

    @cached_property
    def _observed(self) -> tuple[ForwardModel, Tensor]:
        """The forward model of what is observed of patches, once for search and fits, and which of it the fits use."""
        if self.fast:
            return self.search.model, self.search.informative
        mask = self.informative.clone()
        mask[: len(self.search.model.indices)] = True
        return self.full_model.select(mask), self.informative[mask]

    @property
    def fast(self) -> bool:
        """Whether few starts are fitted, on the coefficients of the search alone."""
        return self.options.effort.precision == "fast"

    def p_false(self, poses: Poses, *, log_odds: Tensor | float = 0.0) -> Tensor:
        """Probability that no particle of the template's is where a pose was found, (N,).

        Parameters
        ----------
        log_odds : of false over true picks, beside those of the score.
        """
        blank = torch.zeros_like(poses.score)
        p_false = self.detection.p_false(poses.local_score, log_odds=log_odds) if self.detection else blank
        return 1 - self.p_template * (1 - p_false)

    @torch.no_grad()
    def find(
        self,
        patches: Tensor,
        initial: Tensor | None = None,
        *,
        at: Tensor | None = None,
        prior: RotationPrior | None = None,
        noise: Tensor | None = None,
    ) -> Poses:
        """Poses of patches (N, n, n, n), on the CPU: searched, fitted, and the posterior mean taken.

        Parameters
        ----------
        initial : (N, 3, 3) rotations to start from as well; None has no others than the search finds.
        at : (N, 3) whole voxels xyz from the patches' centres, the only places to search about; None searches as far
            as the options allow.
        prior : of the N rotations; None is flat.
        noise : (N,) power of each patch's noise over the tomogram's, as in other poses that these are compared with;
            None estimates it.
        """
        tempered = None if prior is None else prior.tempered(self.likelihood_scale)

        def find(rows: slice) -> Poses:
            own = None if tempered is None else tempered.take(rows)
            starts, centres, level = (None if given is None else given[rows] for given in (initial, at, noise))
            return self._batch(patches[rows], starts, centres, own, level)

        return in_batches(find, len(patches), side=patches.shape[-1], device=patches.device)

    @torch.inference_mode()
    def _batch(
        self,
        patches: Tensor,
        initial: Tensor | None,
        at: Tensor | None,
        prior: RotationPrior | None,
        noise: Tensor | None,
    ) -> Poses:
        poses = self._searched(patches, initial, at, prior, noise, wide=self.low_snr)
        rows = (self._p_found(poses) < _SURE).nonzero().squeeze(1)
        if self.low_snr or self.fast or len(rows) == 0:
            return poses
        starts, centres, level = (None if given is None else given[rows] for given in (initial, at, noise))
        own = None if prior is None else prior.take(rows)
        again = self._searched(patches[rows], starts, centres, own, level, wide=True)
        return poses.with_rows(rows, again)

    def _p_found(self, poses: Poses) -> Tensor:
        """Probability that a search found the particle, and in the right mode, (N,)."""
        p_false = 0.0 if self.detection is None else self.detection.p_false(poses.local_score)
        return (1 - p_false) * poses.p_right

    def _searched(
        self,
        patches: Tensor,
        initial: Tensor | None,
        at: Tensor | None,
        prior: RotationPrior | None,
        noise: Tensor | None,
        *,
        wide: bool,
    ) -> Poses:
        narrow = self.fast and not wide
        model, fitted = self._observed
        found = search_and_fit(
            self.search,
            patches,
            model=model,
            starts=_FAST_STARTS if narrow else starts_of(self.options, wide=wide),
            places=1 if narrow else places_of(wide=wide),
            initial=initial,
            at=at,
            prior=prior,
        )
        fits, centres, observed = found.fits, found.centres, None
        each, place = torch.arange(len(patches), device=patches.device), found.place[:, 0]
        if not self.fast:
            fits, modes, observed = fit_modes(
                self.reference,
                self.model,
                lambda rows, modes: found.observed[rows, found.place[rows, modes]][..., fitted],
                fits,
                distinct=found.distinct,
                prior=prior,
            )
            centres, place = centres[each[:, None], modes], found.place[each, modes[:, 0]]
        best, fitted_on = fits[0], self.search.model.select(self.search.informative) if self.fast else self.model
        noise = noise_level(best, fitted_on) if noise is None else noise
        fits = [fit.in_noise(noise) for fit in fits]
        observation = None if observed is None else Observation(self.reference, self.model, observed, prior, noise)
        poses = self._summarised(fits, centres * self.full_model.voxel_size, observation).in_noise(noise)
        if self.overdispersion is not None:
            # Its coefficients are those that the search's matches are fitted on, observed already.
            of_search = found.observed[each, place][..., : len(self.search.model.indices)]
            misfit = self.overdispersion.of(of_search[..., self.search.informative], best)
            poses = poses.with_covariance_factor(misfit / noise)
        return poses.shifted(centres[:, 0] * self.full_model.voxel_size)

    def _summarised(self, fits: list[Fit], origins: Tensor, observation: Observation | None) -> Poses:
        if observation is None:
            return summarise_modes(
                fits,
                self.group,
                likelihood_scale=self.likelihood_scale,
                bound_excess=self.bound_excess,
                optimism=self.optimism,
                origins=origins,
            )
        return posterior_mean(
            fits,
            observation,
            self.group,
            likelihood_scale=self.likelihood_scale,
            bound_excess=self.bound_excess,
            optimism=self.optimism,
            origins=origins,
        )


# --- the model of a tomogram ----------------------------------------------------------------------------------------


@torch.no_grad()
def estimate_tomogram_model(
    patches: Tensor,
    reference: Reference,
    group: Symmetry,
    *,
    geometry: TiltGeometry,
    voxel_size: float,
    options: RefinementOptions,
    prior: RotationPrior | None = None,
    parts: ReferenceParts | None = None,
    like: Acquisition | None = None,
) -> Stream[Step, PoseFinder]:
    """The pose finder of a tomogram, estimated from patches (N, n, n, n) of some of its particles, poses unknown.

    Parameters
    ----------
    patches : each of mean 0 and sd 1, on the device to work on; of one tomogram.
    geometry : how the tomogram was tilted.
    voxel_size : Å.
    prior : of the N rotations; None is flat.
    parts : of the reference, along which single particles' misfit is measured; see `overdispersion`.
    like : another tomogram's acquisition, to begin from where this one was acquired alike; None begins anew.
    """
    prior = None if prior is None else prior.tempered(TYPICAL_LIKELIHOOD_SCALE)
    begun = None
    if like is not None:
        begun = yield from _begun_alike(
            like, patches, reference, group, geometry=geometry, voxel_size=voxel_size, options=options, prior=prior
        )
    if begun is None:
        like = None
        begun = yield from _begun_anew(
            patches, reference, group, geometry=geometry, voxel_size=voxel_size, options=options, prior=prior
        )
    geometry, centres = begun.geometry, begun.centres
    model, fit = yield from _with_aligned_tilts(begun, patches, reference, prior)
    step = _step(5 + _ROUNDS, "Building the search")
    if like is None:
        search = yield from stoppable(build_search(reference, model, group, options.search), step)
    else:
        search = like.search.through(model)
    informative = informative_coefficients(reference, model, INFORMATIVE)
    finder = PoseFinder(
        reference,
        group,
        model,
        informative,
        search,
        geometry,
        begun.transfer,
        begun.particles_dark,
        begun.low_snr,
        options,
    )
    step = _step(6 + _ROUNDS, "Estimating the likelihood scale")
    aligned = yield from refit(reference, model, model.observe(patches, centres), fit, step=step, prior=prior)
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    finder = _with_error_model(finder, patches, centres, aligned, generator)
    if parts is not None:
        yield step
        finder = _with_overdispersion(finder, parts, patches, centres, aligned)
    noise_scores = (yield from _noise_scores(finder, patches, prior, generator)) if like is None else like.noise_scores
    local_score = aligned.score / noise_level(aligned, model).sqrt()
    detection = DetectionModel.fitted(noise_scores, local_score.cpu())
    acquisition = like or Acquisition(
        reference,
        parts,
        options,
        geometry,
        begun.transfer,
        begun.model,
        search,
        power=patch_power(patches, reference.radius, box=model.box, voxel_size=voxel_size),
        noise_scores=noise_scores,
        mean=mean_of_lowest(begun.model, patches, centres),
        particles_dark=begun.particles_dark,
    )
    return replace(finder, detection=detection, acquisition=acquisition, alike=like is not None)


@dataclass(frozen=True, eq=False)
class _Begun:
    """Gain and noise of a tomogram, without the shifts of its tilt images, and the poses that they are estimated from.

    Parameters
    ----------
    fit, centres : of its patches, and the (N, 3) voxels that they are centred by.
    """

    geometry: TiltGeometry
    transfer: Transfer
    model: ForwardModel
    fit: Fit
    centres: Tensor
    particles_dark: bool
    low_snr: bool


def _begun_anew(
    patches: Tensor,
    reference: Reference,
    group: Symmetry,
    *,
    geometry: TiltGeometry,
    voxel_size: float,
    options: RefinementOptions,
    prior: RotationPrior | None,
) -> Stream[Step, _Begun]:
    """Gain and noise of a tomogram of which nothing is known beforehand."""
    transfer, model = yield from _first_model(
        patches, reference, group, geometry=geometry, voxel_size=voxel_size, options=options
    )
    particles_dark = bool(model.whitening.real[:_LOWEST_COEFFICIENTS].sum() < 0)
    model, fit, centres, low_snr = yield from _gain_and_noise(
        patches, reference, group, model, wedge=geometry.wedge, options=options, prior=prior
    )
    return _Begun(geometry, transfer, model, fit, centres, particles_dark, low_snr)


def _begun_alike(
    own: Acquisition,
    patches: Tensor,
    reference: Reference,
    group: Symmetry,
    *,
    geometry: TiltGeometry,
    voxel_size: float,
    options: RefinementOptions,
    prior: RotationPrior | None,
) -> Stream[Step, _Begun | None]:
    """Gain and noise of a tomogram, from those and the filters of another; None where that was acquired otherwise."""
    model = own.model_of(patches, geometry=geometry, voxel_size=voxel_size, options=options)
    if model is None:
        return None
    step = _step(1, "Centring")
    parts = patches.split(patches_per_batch(patches.shape[-1], patches.device))
    voxels = yield from in_turn(own.search.positions.through(model).find, parts, step=step, device=patches.device)
    if not own.same_contrast(model, patches, torch.cat(voxels)[:, 0]):
        return None
    model, fit, centres, low_snr = yield from _gain_and_noise(
        patches,
        reference,
        group,
        model,
        wedge=own.geometry.wedge,
        options=own.options,
        prior=prior,
        search=own.search.through(model),
    )
    geometry = replace(geometry, wedge=own.geometry.wedge)
    return _Begun(geometry, own.transfer, model, fit, centres, own.particles_dark, low_snr)


def _with_aligned_tilts(
    begun: _Begun, patches: Tensor, reference: Reference, prior: RotationPrior | None
) -> Stream[Step, tuple[ForwardModel, Fit]]:
    """The model with the shifts of the tilt images, where there are enough particles to estimate them; and its fit."""
    model = begun.model
    if len(patches) < LEAST_PARTICLES:
        return model, begun.fit
    step = _step(4 + _ROUNDS, "Aligning the tilt images")
    observed = model.observe(patches, begun.centres)
    fit = yield from refit(reference, model, observed, begun.fit, step=step, prior=prior)
    # The noise stays as it was: what a misaligned series leaves unexplained is not all shifts of its images.
    drawn = yield from fit_at_drawn_poses(reference, model, observed, fit, step=step)
    return align_tilts(reference, model, observed, drawn, wedge=begun.geometry.wedge, series=begun.geometry.series), fit


def _noise_scores(
    finder: PoseFinder, patches: Tensor, prior: RotationPrior | None, generator: torch.Generator
) -> Stream[Step, Tensor]:
    """Scores (K,) that the finder reaches in simulated noise of the tomogram."""
    side, model = patches.shape[-1], finder.full_model
    noise = simulate_noise_patches(model, side, count=_NOISE_PATCHES, generator=generator).to(patches)
    step, scores = _step(7 + _ROUNDS, "Matching noise"), []
    for rows in torch.arange(_NOISE_PATCHES).split(_NOISE_PATCHES // 2):
        yield step
        own = None if prior is None else prior.take(rows % len(patches))
        scores.append(finder.find(noise[rows], prior=own).local_score)
    return torch.cat(scores)


def _step(done: int, message: str) -> Step:
    return Step(done, _STEP_COUNT, message)


def _first_model(
    patches: Tensor,
    reference: Reference,
    group: Symmetry,
    *,
    geometry: TiltGeometry,
    voxel_size: float,
    options: RefinementOptions,
) -> Stream[Step, tuple[Transfer, ForwardModel]]:
    """The transfer, and the forward model without poses, of particles brought to the centre."""
    step, wedge = _step(0, "Estimating noise and transfer"), geometry.wedge
    yield step
    box = min(box_side(reference.radius, voxel_size), patches.shape[-1])
    middle = cropped(patches, box)
    resolution = max(options.resolution or 0.0, reference.resolution)
    if options.resolution is None:
        soft = window(box, voxel_size, reference.radius)
        filled = finest_filled(mean_power(middle, soft), soft, voxel_size)
        if filled > resolution:
            resolution = filled
            text = f"The tomogram is smooth: nothing finer than {filled:.0f} Å is left of its noise, nor used."
            yield replace(_step(0, "Estimating the noise"), notes=(Note(text),))
    initial = partial(
        initial_forward_model, reference=reference, wedge=wedge, voxel_size=voxel_size, resolution=resolution
    )
    choice = _transfer(patches, reference, group, middle=middle, initial=initial, geometry=geometry, options=options)
    transfer = yield from stoppable(choice, step)
    model = initial(middle, transfer=transfer)
    step = _step(1, "Centring")
    yield step
    positions = yield from stoppable(build_position_search(reference, model, group, options.search), step)
    parts = patches.split(patches_per_batch(patches.shape[-1], patches.device))
    voxels = yield from in_turn(positions.find, parts, step=step, device=patches.device)
    centred = cropped(patches, box, voxels=torch.cat(voxels)[:, 0])
    return transfer, initial(centred, transfer=transfer)


def _transfer(
    patches: Tensor,
    reference: Reference,
    group: Symmetry,
    *,
    middle: Tensor,
    initial: Callable[..., ForwardModel],
    geometry: TiltGeometry,
    options: RefinementOptions,
) -> Work[Transfer]:
    """The transfer of greatest likelihood among those that the options leave, of patches and their ``middle``."""
    candidates = candidate_transfers(geometry, options.ctf)
    if len(candidates) == 1:
        return candidates[0]
    # Whatever the transfer is, particles are found with a gain between the smooth one and one like the noise's power.
    model = initial(middle, transfer=Transfer(noise_exponent=0.5))
    positions = yield from build_position_search(reference, model, group, options.search)
    some = patches[:: max(1, len(patches) // MOST_PATCHES)][:MOST_PATCHES]
    centres = positions.find(some)[:, 0]
    yield
    noise = model.whitening.abs().square().reciprocal()
    model = model.with_unit_gain(geometry.wedge)
    return choose_transfer(CentredPatches(model, model.observe(some, centres), noise), reference, group, candidates)


def _gain_and_noise(
    patches: Tensor,
    reference: Reference,
    group: Symmetry,
    model: ForwardModel,
    *,
    wedge: Wedge,
    options: RefinementOptions,
    prior: RotationPrior | None,
    search: MatchedFilterSearch | None = None,
) -> Stream[Step, tuple[ForwardModel, Fit, Tensor, bool]]:
    """The forward model with gain and noise from fitted poses; the fits, (N, 3) voxels centred by, and ``low_snr``.

    Parameters
    ----------
    search : of a tomogram acquired alike, with the model, whose gain one round mends; None builds one.
    """
    step, shared = _step(2, "Building the search"), search is not None
    if search is None:
        first = replace(options.search, rotations=max(_FIRST_ROTATIONS, options.search.rotations // 3))
        search = yield from stoppable(build_search(reference, model, group, first), step)
    low_snr = False
    step = _step(3, "First poses")
    fit, centres = yield from fit_all(search, patches, options, low_snr=low_snr, step=step, prior=prior)
    for number in range(1 if shared else _ROUNDS):
        step = _step(4 + number, "Estimating gain and noise")
        observed = model.observe(patches, centres)
        fit = yield from refit(reference, model, observed, fit, step=step, prior=prior)
        if len(patches) >= LEAST_PARTICLES:
            drawn = yield from fit_at_drawn_poses(reference, model, observed, fit, step=step)
            model = calibrate(reference, model, observed, drawn, wedge=wedge)
        low_snr = float(fit.score.mean()) < _LOW_SNR_SCORE
        if low_snr:
            # The first poses were found with too rough a model: search again with a better one.
            if shared:
                search = search.through(model)
            else:
                search = yield from stoppable(build_search(reference, model, group, options.search), step)
            fit, centres = yield from fit_all(search, patches, options, low_snr=low_snr, step=step, prior=prior)
    return model, fit, centres, low_snr


def _with_error_model(
    finder: PoseFinder, patches: Tensor, centres: Tensor, fit: Fit, generator: torch.Generator
) -> PoseFinder:
    """The finder with likelihood scale, bound excess and optimism of its final fits, given the poses of the patches."""
    reference, model = finder.reference, finder.model
    if finder.fast:
        reference, model = finder.search.reference, finder.search.model.select(finder.search.informative)
    observed = model.observe(patches, centres)
    scale = estimate_likelihood_scale(reference, model, observed, fit)
    own = fit_at(reference, model, observed, fit.rotations, fit.shifts)
    excess = estimate_bound_excess(reference, model, own, likelihood_scale=scale, generator=generator)
    count = len(patches)
    gained = optimism(count) if count >= LEAST_PARTICLES else 0.0
    return replace(finder, likelihood_scale=scale, bound_excess=excess, optimism=gained)


def _with_overdispersion(
    finder: PoseFinder, parts: ReferenceParts, patches: Tensor, centres: Tensor, fit: Fit
) -> PoseFinder:
    """The finder with the distribution of its particles' overdispersion."""
    search = finder.search
    model = search.model.select(search.informative)
    observed = model.observe(patches, centres)
    found = Overdispersion.estimate(parts, model, observed, fit, likelihood_scale=finder.likelihood_scale)
    return replace(finder, overdispersion=found)
