"""Pose finder: a reference, the forward model of one tomogram, and the search by matched filters, ready to find poses.

`tomogram_model` makes one from patches of the tomogram's own particles. `PoseFinder.find` then finds the pose of any
particle of that tomogram: **search** by template matching (places, then rotations), **fit** by Gauss-Newton of the best
few starts, and the **posterior mean** over the modes that they end in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, fit_modes, fit_poses, rank_fits
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.matching.search import MatchedFilterSearch
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.missing import MissingVoxels, reaching_beyond
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.transfer import Transfer
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.acquisition import Acquisition
from napari_orient.engine.refinement.overdispersion import Overdispersion, noise_level
from napari_orient.engine.refinement.patch_fits import PLACE_NATS, in_batches, places_of, search_and_fit, starts_of
from napari_orient.engine.refinement.posterior import (
    FitCalibration,
    Observation,
    Poses,
    posterior_mean,
    summarise_modes,
)
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE
from napari_orient.engine.statistics.detection import DetectionModel
from napari_orient.engine.streams import Note
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.tomogram.gold_beads import GoldBeads
from napari_orient.engine.tomogram.prewhitening import Prewhitening
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry
from napari_orient.engine.tomogram.voxel_outliers import OutlierLimits

_SURE = 0.95
"""Probability that a pose is right, no false pick and no competing mode, below which the particle is searched again as
at a low score: at two places a search may miss a particle that its other places find."""
_FAST_STARTS = 2
"""Starts of a fast prediction. With one, 95.5 instead of 97.5 % of PolNet's proteasomes lie within 20°, and expected
errors are 0.88 instead of 1.05 of the true ones; three change nothing more."""
_LEAST_MISSING = 0.03
"""Share of the window's power beyond the tomogram from which a particle is fitted to what is inside. Less moves a
pose by a small part of its error; chosen."""
_TRUNCATED_STEPS = 6
"""Gauss-Newton steps of these fits, which begin where nothing beyond the tomogram was taken for 0; chosen."""

_TYPICAL_CALIBRATION = FitCalibration(TYPICAL_LIKELIHOOD_SCALE)
"""Of a finder until its tomogram's own is estimated."""


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
    calibration : of the log-likelihoods and covariances of its fits.
    overdispersion : what gives that of single particles; None before it is estimated.
    detection : distribution of the scores of false picks and of particles; None before it is fitted.
    outliers : densities beyond which voxels are no signal; None where nothing is usual.
    beads : gold beads of the tomogram, subtracted from every patch; None where there are hardly any.
    prewhitening : what levels the tomogram's power before a patch is cut; None where it does not fall steeply.
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
    calibration: FitCalibration = _TYPICAL_CALIBRATION
    overdispersion: Overdispersion | None = None
    detection: DetectionModel | None = None
    outliers: OutlierLimits | None = None
    beads: GoldBeads | None = None
    prewhitening: Prewhitening | None = None
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
        bounds: Tensor | None = None,
        wide: bool = False,
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
        bounds : (N, 2, 3) the first and the last voxel xyz inside the tomogram, from each patch's centre; None where
            all is inside.
        wide : whether to search as widely at once as otherwise where nothing was found, but for a fast search.
        """
        tempered = None if prior is None else prior.tempered(self.calibration.likelihood_scale)
        known = _Known(initial, at, tempered, noise, None if bounds is None else bounds.to(patches.device))

        def find(rows: slice) -> Poses:
            return self._batch(patches[rows], known.take(rows), wide=wide and not self.fast)

        return in_batches(find, len(patches), side=patches.shape[-1], device=patches.device)

    @torch.inference_mode()
    def _batch(self, patches: Tensor, known: _Known, *, wide: bool) -> Poses:
        wide = wide or self.low_snr
        poses = self._searched(patches, known, wide=wide)
        rows = (self._p_found(poses) < _SURE).nonzero().squeeze(1)
        if not (wide or self.fast or len(rows) == 0):
            poses = poses.with_rows(rows, self._searched(patches[rows], known.take(rows), wide=True))
        return poses if known.bounds is None else self._truncated(patches, known, known.bounds, poses)

    def _p_found(self, poses: Poses) -> Tensor:
        """Probability that a search found the particle, and in the right mode, (N,)."""
        p_false = 0.0 if self.detection is None else self.detection.p_false(poses.local_score)
        return (1 - p_false) * poses.p_right

    def _searched(self, patches: Tensor, known: _Known, *, wide: bool) -> Poses:
        narrow = self.fast and not wide
        model, fitted = self._observed
        found = search_and_fit(
            self.search,
            patches,
            model=model,
            starts=_FAST_STARTS if narrow else starts_of(self.options, wide=wide),
            places=1 if narrow else places_of(wide=wide),
            place_nats=None if wide else PLACE_NATS,
            initial=known.initial,
            at=known.at,
            prior=known.prior,
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
                prior=known.prior,
            )
            centres, place = centres[each[:, None], modes], found.place[each, modes[:, 0]]
        best = fits[0]
        noise = noise_level(best, self._fitted_on) if known.noise is None else known.noise
        fits = [fit.in_noise(noise) for fit in fits]
        origins = centres * self.full_model.voxel_size
        observation = None
        if observed is not None:
            observation = Observation(self.reference, self.model, observed, known.prior, noise)
        poses = self._summarised(fits, observation, noise, origins)
        if self.overdispersion is not None:
            misfit = self._misfit(self.overdispersion, best, found.observed, (each, place))
            poses = poses.overdispersed(misfit / noise)
        return poses.shifted(origins[:, 0])

    def _truncated(self, patches: Tensor, known: _Known, bounds: Tensor, poses: Poses) -> Poses:
        """The poses, those whose particles reach beyond the tomogram fitted to what is inside."""
        model = self.model
        at = (poses.shifts / model.voxel_size).round().long()
        near = reaching_beyond(model, bounds, at)
        rows = near[MissingVoxels.of(model, bounds[near], at[near]).share > _LEAST_MISSING]
        if len(rows) == 0:
            return poses
        patches, known, own = patches[rows], known.take(rows), poses.take(rows)
        if self.fast:
            # Of half a particle, the best start of the lowest coefficients is less often the right one.
            precise = replace(self, options=self.options.replace(precision="precise"))
            own = precise._searched(patches, known, wide=False)
        count = poses.mode_log_weights.shape[1]
        return poses.with_rows(rows, self._fitted_inside(patches, known, bounds[rows], own, count=count))

    def _fitted_inside(self, patches: Tensor, known: _Known, bounds: Tensor, poses: Poses, *, count: int) -> Poses:
        """Poses whose modes are fitted anew to what is inside the tomogram.

        A mode that puts density where nothing is known loses nothing by it.

        Parameters
        ----------
        count : modes that the poses get.
        """
        model, weights = self.model, poses.mode_log_weights
        row, mode = weights.isfinite().nonzero(as_tuple=True)
        at = (poses.mode_shifts[row, mode] / model.voxel_size).round().long()
        observed, missing = model.observe(patches[row], at), MissingVoxels.of(model, bounds[row], at)
        origin = (at * model.voxel_size).to(poses.shifts)
        fit = fit_poses(
            self.reference,
            model,
            observed,
            rotations=poses.mode_rotations[row, mode],
            shifts=poses.mode_shifts[row, mode] - origin,
            steps=_TRUNCATED_STEPS,
            prior=None if known.prior is None else known.prior.take(row),
            missing=missing,
        )
        # Less the one that a scan may fill.
        ranked = rank_fits(fit.log_posterior, row, count - 1)
        best = ranked[:, 0]
        noise = noise_level(fit, model, missing=missing.share)[best] if known.noise is None else known.noise
        fits = [fit.take(column).in_noise(noise) for column in ranked.unbind(1)]
        inside = Observation(self.reference, model, observed[best], known.prior, noise, missing.take(best))
        found = self._summarised(fits, inside, noise, origin[ranked])
        if self.overdispersion is not None:
            found = found.overdispersed(torch.full_like(noise, self.overdispersion.mean))
        return found.shifted(origin[best])

    def _summarised(self, fits: list[Fit], observation: Observation | None, noise: Tensor, origins: Tensor) -> Poses:
        """Poses by K fits, best first; without an observation no posterior is scanned."""
        if observation is None:
            return summarise_modes(fits, self.group, self.calibration, origins=origins).in_noise(noise)
        return posterior_mean(fits, observation, self.group, self.calibration, origins=origins).in_noise(noise)

    @property
    def _fitted_on(self) -> ForwardModel:
        """The forward model with the coefficients of the last fits."""
        return self.search.model.select(self.search.informative) if self.fast else self.model

    def _misfit(
        self, overdispersion: Overdispersion, best: Fit, observed: Tensor, where: tuple[Tensor, Tensor]
    ) -> Tensor | float:
        """Overdispersion of N patches, by the residuals of their best fits.

        Parameters
        ----------
        observed : (N, P, 2, M) coefficients about each place; ``where`` (N,) are those of the best fits.
        """
        if self.fast and overdispersion.uniform:
            return overdispersion.mean
        # Its coefficients are those that the search's matches are fitted on, observed already.
        of_search = observed[where][..., : len(self.search.model.indices)]
        return overdispersion.of(of_search[..., self.search.informative], best)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of N patches before they are searched; see `PoseFinder.find`."""

    initial: Tensor | None
    at: Tensor | None
    prior: RotationPrior | None
    noise: Tensor | None
    bounds: Tensor | None

    def take(self, rows: Tensor | slice) -> _Known:
        """The same of these patches."""
        initial, at, noise, bounds = (
            None if given is None else given[rows] for given in (self.initial, self.at, self.noise, self.bounds)
        )
        return _Known(initial, at, None if self.prior is None else self.prior.take(rows), noise, bounds)
