"""How many classes the picks hold: one more must raise the likelihood of particles that its maps were not made of.

Maps are averaged of one half of the particles, in the poses and classes of a start, and scored on the other half, and
the other way round. With s_k the best score of a particle with class k, and w_k the share of the class, its held-out
log-likelihood is ``log Σ_k w_k exp(s_k² / 2)``. A class of noise explains no particle that it was not made of, and two
maps of one structure explain them no better than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.discovery.annealing import average_maps
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
from napari_orient.engine.rotations import even_rotations
from napari_orient.engine.streams import Work

_SHIFT_REACH = 2
"""Steps of half a voxel, to each side along each axis, over which a held-out particle is shifted: each map's origin is
its own, and a shift that is right for one is not for another."""
_LEAST_GAIN = 1.0
"""Least gain in log-likelihood, each particle's mean, that one more class must bring. A second class of PolNet's
ribosomes and proteasomes brings 72 to 76, a superfluous one -25 to 1 (docs/discovery.md)."""
_STANDARD_ERRORS = 3.0
"""Least gain over its standard error."""
_LEAST_AGREEMENT = 0.25
"""Least share of the particles that two starts put into the same classes and poses."""


@dataclass(frozen=True)
class ClassComparison:
    """One number of classes compared with one less.

    Parameters
    ----------
    count : the number of classes.
    mean, error : mean gain in held-out log-likelihood of a particle, and its standard error.
    agreement : share of the particles that two independent starts put into the same class and pose, the mean of the
        classes; None before a second start is made.
    """

    count: int
    mean: float
    error: float
    agreement: float | None = None

    @classmethod
    def between(cls, count: int, more: Tensor, fewer: Tensor) -> ClassComparison:
        """A number of classes compared with one less, by the log-likelihoods (N,) of both."""
        gain = (more - fewer).double()
        return cls(count, float(gain.mean()), float(gain.std() / len(gain) ** 0.5))

    @property
    def significant(self) -> bool:
        """Whether the particles are explained better."""
        return self.mean > max(_LEAST_GAIN, _STANDARD_ERRORS * self.error)

    @property
    def accepted(self) -> bool:
        """Whether there are as many classes: independent starts must find the same ones, too."""
        return self.significant and self.agreement is not None and self.agreement >= _LEAST_AGREEMENT

    @property
    def words(self) -> str:
        """The comparison in words."""
        better = f"{'better' if self.significant else 'no better'} by {self.count} than by {self.count - 1}"
        better = f"{better} ({self.mean:+.1f} ± {self.error:.1f})"
        return f"{better}, but independent starts find other ones" if self.significant and not self.accepted else better


def class_count_words(comparisons: Sequence[ClassComparison]) -> str:
    """How many classes there are and why, in a line."""
    count = sum(item.accepted for item in comparisons) + 1
    reasons = "; ".join(item.words for item in comparisons) or "not compared: there are too few for more"
    return f"Kinds of particle: {count}. Log-likelihood of particles that the maps were not made of: {reasons}."


def held_out_log_likelihood(spectra: PatchSpectra, assignment: Assignment, options: DiscoveryOptions) -> Work[Tensor]:
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
        maps = average_maps(spectra.take(own), assignment.take(own), options, rng=rng)
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
    return answer


def _best_score(
    values: Tensor, group: Tensor, filters: RotatedReferences, frequency: Tensor, options: DiscoveryOptions
) -> Tensor:
    """Score (N,) of patches (N, M) with the best of filters, at the best shift nearby."""
    best = filters.scores(values, group).argmax(1)
    cross = values * filters.filters(group, best).conj()
    reach = _SHIFT_REACH if options.max_shift else 0
    shifts = shift_grid(reach, options.patch_voxel_size / 2, values.device)
    return scores_over_shifts(cross, shifts, frequency).amax(1)
