"""Held-out likelihood: how well maps explain particles that they were not made of; it decides classes and symmetry.

What a map has too much explains no particle that it was not made of: noise, a symmetry that is not there, or a second
map of one structure.

*The number of classes.* Maps are averaged of one half of the particles, in the poses and classes of a start, and scored
on the other half, and the other way round. With s_k the best score of a particle with class k, and w_k the share of the
class, its held-out log-likelihood is ``log Σ_k w_k exp(s_k² / 2)``.

*The symmetry of a class.* Each half map is fitted to the particles of the other half, from the poses that they have.
The forward model is estimated from these same particles: the residuals of those that a map is made of would make the
noise too small. Their gain in log-likelihood over no particle is compared with that by another average of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.annealing import average_maps
from napari_orient.engine.discovery.half_maps import ParticlePatches, estimate_forward_model, fsc_weighted_reference
from napari_orient.engine.discovery.search import (
    Assignment,
    RotatedReferences,
    masked_references,
    scores_over_shifts,
    shift_grid,
)
from napari_orient.engine.discovery.spectra import BATCH, PatchSpectra
from napari_orient.engine.duplicates import random_halves
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Labelled, split_like
from napari_orient.engine.rotations import even_rotations
from napari_orient.engine.streams import Work
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

_MOST_TESTED = 400
"""Particles after which no further tomogram is tested: the mean gain of 70 is known to a twentieth."""
_STANDARD_ERRORS = 3.0
"""Least gain over its standard error, to count. True symmetries of 40 to 70 simulated particles bring 22 to 44 standard
errors (C2, D3), false ones of ribosomes under a CTF at 3.5 µm -53 to -40 (C2, C3, C12)."""
_SHIFT_REACH = 2
"""Steps of half a voxel, to each side along each axis, over which a held-out particle is shifted: each map's origin is
its own, and a shift that is right for one is not for another."""
_LEAST_GAIN = 1.0
"""Least gain in log-likelihood, each particle's mean, that one more class must bring. A second class of PolNet's
ribosomes and proteasomes brings 72 to 76, a superfluous one -25 to 1 (docs/discovery.md)."""
_LEAST_AGREEMENT = 0.25
"""Least share of the particles that two starts put into the same classes and poses."""


@dataclass(frozen=True)
class LikelihoodGain:
    """Gain in held-out log-likelihood by one average over another: each particle's mean, nats, and its error."""

    mean: float
    error: float

    @classmethod
    def between(cls, first: FloatArray, second: FloatArray) -> LikelihoodGain:
        """The gain of the first log-likelihoods (N,) over the second, particle by particle."""
        gain = first - second
        return cls(float(gain.mean()), float(gain.std(ddof=1) / len(gain) ** 0.5))

    @property
    def significant(self) -> bool:
        """Whether particles are explained better."""
        return self.mean > _STANDARD_ERRORS * self.error

    @property
    def words(self) -> str:
        """The gain and its error."""
        return f"{self.mean:+.1f} ± {self.error:.1f}"


# --- a class by its half maps -----------------------------------------------------------------------------------------


def class_log_likelihoods(
    labelled: Labelled,
    found: Average,
    options: DiscoveryOptions,
    geometries: Mapping[str, TiltGeometry],
    *,
    device: torch.device,
) -> Work[FloatArray]:
    """Gain in log-likelihood over no particle, (N,) nats, of each particle by the map of the half that it is not in.

    Of many particles, those of the first tomograms.

    Parameters
    ----------
    found : the average of these particles.
    geometries : how each tomogram was tilted, by its name.
    """
    maps = [fsc_weighted_reference(part, found, options) for part in (found.first_half, found.second_half)]
    halves = split_like(labelled, np.maximum(found.half_sets - 1, 0))
    gains: list[FloatArray] = []
    for (tomogram, particles), half in zip(labelled, halves, strict=True):
        if sum(map(len, gains)) >= _MOST_TESTED:
            break
        gains.append(np.zeros(len(particles)))
        patches, wedge = ParticlePatches.holding(maps[0], tomogram, particles), geometries[tomogram.name].wedge
        for number, reference in enumerate(maps):
            others = np.flatnonzero(half != number)
            if len(others):
                model, likelihood_scale = yield from estimate_forward_model(reference, patches, others, wedge)
                fitted = []
                for _, fit in patches.fits(reference.to(device), model.to(device), others, device=device):
                    fitted.append(likelihood_scale * fit.log_likelihood_gain.cpu())
                    yield
                gains[-1][others] = torch.cat(fitted).double().numpy()
    return np.concatenate(gains)


# --- the number of classes --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassComparison:
    """One number of classes compared with one less.

    Parameters
    ----------
    count : the number of classes.
    gain : in held-out log-likelihood.
    agreement : share of the particles that two independent starts put into the same class and pose, the mean of the
        classes; None before a second start is made.
    """

    count: int
    gain: LikelihoodGain
    agreement: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the particles are explained better."""
        return self.gain.significant and self.gain.mean > _LEAST_GAIN

    @property
    def accepted(self) -> bool:
        """Whether there are as many classes: independent starts must find the same ones, too."""
        return self.significant and self.agreement is not None and self.agreement >= _LEAST_AGREEMENT

    @property
    def words(self) -> str:
        """The comparison in words."""
        better = f"{'better' if self.significant else 'no better'} by {self.count} than by {self.count - 1}"
        better = f"{better} ({self.gain.words})"
        return f"{better}, but independent starts find other ones" if self.significant and not self.accepted else better


def class_count_words(comparisons: Sequence[ClassComparison]) -> str:
    """How many classes there are and why, in a line."""
    count = sum(item.accepted for item in comparisons) + 1
    reasons = "; ".join(item.words for item in comparisons) or "not compared: there are too few for more"
    return f"Kinds of particle: {count}. Log-likelihood of particles that the maps were not made of: {reasons}."


def search_log_likelihoods(
    spectra: PatchSpectra, assignment: Assignment, options: DiscoveryOptions
) -> Work[FloatArray]:
    """Log-likelihood of each particle over no particle, (N,), by maps of the half that it does not belong to.

    Every rotation is tried, and shifts near the assignment's own. A class weighs by its share of the particles.
    """
    half = torch.as_tensor(random_halves(len(spectra), options.seed), device=spectra.device)
    share = torch.bincount(assignment.label, minlength=options.class_count).double().clamp_min(1e-9) / len(spectra)
    rotations = torch.as_tensor(even_rotations(options.search), dtype=torch.float32, device=spectra.device)
    rng = np.random.default_rng(options.seed)
    answer = torch.zeros(len(spectra), dtype=torch.double, device=spectra.device)
    for number in (0, 1):
        own, others = (half == number).nonzero()[:, 0], (half != number).nonzero()[:, 0]
        # As they are: filters of halves of halves differ from one number of classes to the next, and it is compared.
        maps = average_maps(spectra.take(own), assignment.take(own), options, rng=rng, filtered=False)
        yield
        filters = [
            RotatedReferences.of([part], rotations, frequency=spectra.frequency, power=spectra.power)
            for part in masked_references(maps, options, spectra.device)
        ]
        for rows in others.split(BATCH):
            values, group = spectra.take(rows).shifted(assignment.shifts[rows]), spectra.group[rows]
            scores = [_best_score(values, group, part, spectra.frequency, options) for part in filters]
            gains = torch.stack(scores, dim=1).clamp_min(0).double().square() / 2
            answer[rows] = torch.logsumexp(gains + share.log(), dim=1)
            yield
    return answer.cpu().numpy()


def _best_score(
    values: Tensor, group: Tensor, filters: RotatedReferences, frequency: Tensor, options: DiscoveryOptions
) -> Tensor:
    """Score (N,) of patches (N, M) with the best of filters, at the best shift nearby."""
    best = filters.scores(values, group).argmax(1)
    cross = values * filters.filters(group, best).conj()
    reach = _SHIFT_REACH if options.max_shift else 0
    shifts = shift_grid(reach, options.patch_voxel_size / 2, values.device)
    return scores_over_shifts(cross, shifts, frequency).amax(1)
