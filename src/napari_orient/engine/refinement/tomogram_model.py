"""Model of one tomogram, estimated from patches of its own particles, poses unknown, for a `PoseFinder`.

Poses and forward model are estimated in turn, by stochastic expectation-maximisation: the model without poses, poses
with that model, gain and noise from poses drawn from their posterior, and last the shifts of the tilt images. In best
fits instead of drawn poses the reference follows some of each patch's noise, which would then count as signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, fit_at
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.matching.search import (
    MatchedFilterSearch,
    build_position_search,
    build_search,
    informative_coefficients,
)
from napari_orient.engine.model.forward import ForwardModel, box_side, cropped
from napari_orient.engine.model.gain import align_tilts, calibrate, initial_forward_model
from napari_orient.engine.model.noise import simulate_noise_patches
from napari_orient.engine.model.reference import Reference, ReferenceParts
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.acquisition import LOWEST_COEFFICIENTS, Acquisition, mean_of_lowest, patch_power
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.overdispersion import Overdispersion, noise_level
from napari_orient.engine.refinement.patch_fits import (
    INFORMATIVE,
    fit_all,
    fit_at_drawn_poses,
    in_turn,
    patches_per_batch,
    refit,
)
from napari_orient.engine.refinement.posterior import FitCalibration
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
from napari_orient.engine.statistics.detection import DetectionModel
from napari_orient.engine.streams import Step, Stream, Work, stoppable
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.tomogram.prewhitening import Prewhitening
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

_FIRST_ROTATIONS = 1000
"""Rotations of the first search, while gain and noise are rough; a third of the asked for, where that is more."""
_LOW_SNR_SCORE = 11.0
"""Mean score, in standard deviations of the noise, below which the search is widened by the two numbers below.
PolNet's ribosomes score 20, real ones of M. pneumoniae 5 to 9. In threefold coloured noise 96.7 % of PolNet's are found
by themselves, 90.7 % without the widening (99.3 and 98.5 % with the offset prior); it takes three times as long."""
_ROUNDS = 2
"""Rounds of fitting poses and estimating gain and noise from them."""
_LEAST_PARTICLES = 2
"""Particles from which gain, noise and tilt shifts are estimated from fitted poses. Without that a particle's own
density counts as noise: simulated ribosomes, 3 to 7 a tomogram, expect 1.1 to 1.8 times their true error."""
_NOISE_PATCHES = 32
"""Patches of simulated noise that are searched for the distribution of false scores."""
_NOISE_SEED = 0
"""Seed of those patches, so that the same particles always expect the same error."""
_STEP_COUNT = 8 + _ROUNDS
"""Steps that `estimate_tomogram_model` reports."""


@dataclass(frozen=True, eq=False)
class ParticleSample:
    """Some of a tomogram's particles, poses unknown, and what they are matched with: a model is estimated from them.

    Parameters
    ----------
    patches : (N, n, n, n), each of mean 0 and sd 1, on the device to work on; of one tomogram.
    reference, group : what is matched, and its symmetry.
    geometry : how the tomogram was tilted.
    voxel_size : Å.
    options : as asked for.
    prior : of the N rotations; None is flat.
    prewhitening : what the patches were levelled by; None where they are as measured.
    """

    patches: Tensor
    reference: Reference
    group: Symmetry
    geometry: TiltGeometry
    voxel_size: float
    options: RefinementOptions
    prior: RotationPrior | None = None
    prewhitening: Prewhitening | None = None

    @property
    def batches(self) -> tuple[Tensor, ...]:
        """The patches in parts of a batch's size."""
        size = patches_per_batch(self.patches.shape[-1], self.patches.device)
        return tuple(self.patches[first : first + size] for first in range(0, len(self.patches), size))


@torch.no_grad()
def estimate_tomogram_model(
    sample: ParticleSample, *, parts: ReferenceParts | None = None, like: Acquisition | None = None
) -> Stream[Step, PoseFinder]:
    """The pose finder of a tomogram, estimated from a sample of its particles, poses unknown.

    Parameters
    ----------
    parts : of the reference, along which single particles' misfit is measured; see `overdispersion`.
    like : another tomogram's acquisition, to begin from where this one was acquired alike; None begins anew.
    """
    if sample.prior is not None:
        sample = replace(sample, prior=sample.prior.tempered(TYPICAL_LIKELIHOOD_SCALE))
    patches, reference, options, prior = sample.patches, sample.reference, sample.options, sample.prior
    begun = None if like is None else (yield from _begun_alike(like, sample))
    if begun is None:
        like = None
        begun = yield from _begun_anew(sample)
    geometry, centres = begun.geometry, begun.centres
    model, fit = yield from _with_aligned_tilts(begun, sample)
    step = _step(5 + _ROUNDS, "Building the search")
    if like is None:
        search = yield from stoppable(build_search(reference, model, sample.group, options.search), step)
    else:
        search = like.search.through(model)
    informative = informative_coefficients(reference, model, INFORMATIVE)
    finder = PoseFinder(
        reference,
        sample.group,
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
    noise_scores = (yield from _noise_scores(finder, sample, generator)) if like is None else like.noise_scores
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
        power=patch_power(patches, reference.radius, box=model.box, voxel_size=sample.voxel_size),
        noise_scores=noise_scores,
        mean=mean_of_lowest(begun.model, patches, centres),
        particles_dark=begun.particles_dark,
        prewhitening=sample.prewhitening,
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


def _begun_anew(sample: ParticleSample) -> Stream[Step, _Begun]:
    """Gain and noise of a tomogram of which nothing is known beforehand."""
    transfer, model = yield from _first_model(sample)
    particles_dark = bool(model.whitening.real[:LOWEST_COEFFICIENTS].sum() < 0)
    model, fit, centres, low_snr = yield from _gain_and_noise(sample, model)
    return _Begun(sample.geometry, transfer, model, fit, centres, particles_dark, low_snr)


def _begun_alike(own: Acquisition, sample: ParticleSample) -> Stream[Step, _Begun | None]:
    """Gain and noise of a tomogram, from those and the filters of another; None where that was acquired otherwise."""
    patches, geometry = sample.patches, sample.geometry
    model = own.model_of(patches, geometry=geometry, voxel_size=sample.voxel_size, options=sample.options)
    if model is None:
        return None
    search = own.search.positions.through(model)
    voxels = yield from in_turn(search.find, sample.batches, step=_step(1, "Centring"), device=patches.device)
    if not own.same_contrast(model, patches, torch.cat(voxels)[:, 0]):
        return None
    sample = replace(sample, geometry=replace(geometry, wedge=own.geometry.wedge), options=own.options)
    model, fit, centres, low_snr = yield from _gain_and_noise(sample, model, search=own.search.through(model))
    return _Begun(sample.geometry, own.transfer, model, fit, centres, own.particles_dark, low_snr)


def _with_aligned_tilts(begun: _Begun, sample: ParticleSample) -> Stream[Step, tuple[ForwardModel, Fit]]:
    """The model with the shifts of the tilt images, where there are enough particles to estimate them; and its fit."""
    model, reference = begun.model, sample.reference
    if len(sample.patches) < _LEAST_PARTICLES:
        return model, begun.fit
    step = _step(4 + _ROUNDS, "Aligning the tilt images")
    observed = model.observe(sample.patches, begun.centres)
    fit = yield from refit(reference, model, observed, begun.fit, step=step, prior=sample.prior)
    # The noise stays as it was: what a misaligned series leaves unexplained is not all shifts of its images.
    drawn = yield from fit_at_drawn_poses(reference, model, observed, fit, step=step)
    return align_tilts(reference, model, observed, drawn, wedge=begun.geometry.wedge, series=begun.geometry.series), fit


def _noise_scores(finder: PoseFinder, sample: ParticleSample, generator: torch.Generator) -> Stream[Step, Tensor]:
    """Scores (K,) that the finder reaches in simulated noise of the tomogram."""
    patches, prior = sample.patches, sample.prior
    noise = simulate_noise_patches(finder.full_model, patches.shape[-1], count=_NOISE_PATCHES, generator=generator)
    step, scores = _step(7 + _ROUNDS, "Matching noise"), []
    for rows in torch.arange(_NOISE_PATCHES).split(_NOISE_PATCHES // 2):
        yield step
        own = None if prior is None else prior.take(rows % len(patches))
        scores.append(finder.find(noise[rows].to(patches), prior=own, wide=True).local_score)
    return torch.cat(scores)


def _step(done: int, message: str) -> Step:
    return Step(done, _STEP_COUNT, message)


def _first_model(sample: ParticleSample) -> Stream[Step, tuple[Transfer, ForwardModel]]:
    """The transfer, and the forward model without poses, of particles brought to the centre."""
    patches, reference, options, voxel_size = sample.patches, sample.reference, sample.options, sample.voxel_size
    step = _step(0, "Estimating noise and transfer")
    yield step
    box = min(box_side(reference.radius, voxel_size), patches.shape[-1])
    middle = cropped(patches, box)
    initial = partial(
        initial_forward_model,
        reference=reference,
        wedge=sample.geometry.wedge,
        voxel_size=voxel_size,
        resolution=max(options.resolution or 0.0, reference.resolution),
    )
    transfer = yield from stoppable(_transfer(sample, middle=middle, initial=initial), step)
    model = initial(middle, transfer=transfer)
    step = _step(1, "Centring")
    yield step
    positions = yield from stoppable(build_position_search(reference, model, sample.group, options.search), step)
    voxels = yield from in_turn(positions.find, sample.batches, step=step, device=patches.device)
    centred = cropped(patches, box, voxels=torch.cat(voxels)[:, 0])
    return transfer, initial(centred, transfer=transfer)


def _transfer(sample: ParticleSample, *, middle: Tensor, initial: Callable[..., ForwardModel]) -> Work[Transfer]:
    """The transfer of greatest likelihood among those that the options leave, of patches and their ``middle``."""
    candidates = candidate_transfers(sample.geometry, sample.options.ctf)
    if len(candidates) == 1:
        return candidates[0]
    reference, group, patches = sample.reference, sample.group, sample.patches
    # Whatever the transfer is, particles are found with a gain between the smooth one and one like the noise's power.
    model = initial(middle, transfer=Transfer(noise_exponent=0.5))
    positions = yield from build_position_search(reference, model, group, sample.options.search)
    some = patches[:: max(1, len(patches) // MOST_PATCHES)][:MOST_PATCHES]
    centres = positions.find(some)[:, 0]
    yield
    noise = model.whitening.abs().square().reciprocal()
    model = model.with_unit_gain(sample.geometry.wedge)
    return choose_transfer(CentredPatches(model, model.observe(some, centres), noise), reference, group, candidates)


def _gain_and_noise(
    sample: ParticleSample, model: ForwardModel, *, search: MatchedFilterSearch | None = None
) -> Stream[Step, tuple[ForwardModel, Fit, Tensor, bool]]:
    """The forward model with gain and noise from fitted poses; the fits, (N, 3) voxels centred by, and ``low_snr``.

    Parameters
    ----------
    search : of a tomogram acquired alike, with the model, whose gain one round mends; None builds one.
    """
    patches, reference, options, prior = sample.patches, sample.reference, sample.options, sample.prior
    step, shared = _step(2, "Building the search"), search is not None
    if search is None:
        first = replace(options.search, rotations=max(_FIRST_ROTATIONS, options.search.rotations // 3))
        search = yield from stoppable(build_search(reference, model, sample.group, first), step)
    low_snr = False
    step = _step(3, "First poses")
    fit, centres = yield from fit_all(search, patches, options, low_snr=low_snr, step=step, prior=prior)
    for number in range(1 if shared else _ROUNDS):
        step = _step(4 + number, "Estimating gain and noise")
        observed = model.observe(patches, centres)
        fit = yield from refit(reference, model, observed, fit, step=step, prior=prior)
        if len(patches) >= _LEAST_PARTICLES:
            drawn = yield from fit_at_drawn_poses(reference, model, observed, fit, step=step)
            model = calibrate(reference, model, observed, drawn, wedge=sample.geometry.wedge)
        low_snr = float(fit.score.mean()) < _LOW_SNR_SCORE
        if low_snr:
            # The first poses were found with too rough a model: search again with a better one.
            if shared:
                search = search.through(model)
            else:
                search = yield from stoppable(build_search(reference, model, sample.group, options.search), step)
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
    gained = optimism(count) if count >= _LEAST_PARTICLES else 0.0
    return replace(finder, calibration=FitCalibration(scale, excess, gained))


def _with_overdispersion(
    finder: PoseFinder, parts: ReferenceParts, patches: Tensor, centres: Tensor, fit: Fit
) -> PoseFinder:
    """The finder with the distribution of its particles' overdispersion."""
    search = finder.search
    model = search.model.select(search.informative)
    observed = model.observe(patches, centres)
    found = Overdispersion.estimate(parts, model, observed, fit, likelihood_scale=finder.calibration.likelihood_scale)
    return replace(finder, overdispersion=found)
