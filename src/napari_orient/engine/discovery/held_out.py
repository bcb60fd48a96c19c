"""Held-out likelihood: how well a class's maps explain particles that they were not made of.

Each half map is fitted to the particles of the other half, from the poses that they have. The forward model is
estimated from these same particles: the residuals of those that a map is made of would make the noise too small. Their
gain in log-likelihood over no particle is compared with that by another average of the same particles. What an average
has too much, noise or a symmetry that is not there, explains no particle that it was not made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.half_maps import ParticlePatches, estimate_forward_model, fsc_weighted_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Labelled, split_like
from napari_orient.engine.streams import Work

_MOST_TESTED = 400
"""Particles after which no further tomogram is tested: the mean gain of 70 is known to a twentieth."""
_STANDARD_ERRORS = 3.0
"""Least gain over its standard error, to count. True symmetries of 40 to 70 simulated particles bring 22 to 44 standard
errors (C2, D3), false ones of ribosomes under a CTF at 3.5 µm -53 to -40 (C2, C3, C12)."""


@dataclass(frozen=True)
class LikelihoodGain:
    """Gain in held-out log-likelihood by one average over another: each particle's mean, nats, and its error."""

    mean: float
    error: float

    @classmethod
    def between(cls, first: FloatArray, second: FloatArray) -> LikelihoodGain:
        """The gain of the first log-likelihoods (N,) over the second, particle by particle."""
        gain = first - second
        return cls(float(gain.mean()), float(gain.std() / len(gain) ** 0.5))

    @property
    def significant(self) -> bool:
        """Whether particles are explained better."""
        return self.mean > _STANDARD_ERRORS * self.error

    @property
    def words(self) -> str:
        """The gain and its error."""
        return f"{self.mean:+.1f} ± {self.error:.1f}"


def held_out_log_likelihoods(
    labelled: Labelled, found: Average, options: DiscoveryOptions, wedges: Sequence[Wedge], *, device: torch.device
) -> Work[FloatArray]:
    """Gain in log-likelihood over no particle, (N,) nats, of each particle by the map of the half that it is not in.

    Of many particles, those of the first tomograms.

    Parameters
    ----------
    found : the average of these particles.
    wedges : the missing wedge of each tomogram.
    """
    maps = [fsc_weighted_reference(part, found, options) for part in (found.first_half, found.second_half)]
    halves = split_like(labelled, np.maximum(found.half_sets - 1, 0))
    gains: list[FloatArray] = []
    for (tomogram, particles), half, wedge in zip(labelled, halves, wedges, strict=True):
        if sum(map(len, gains)) >= _MOST_TESTED:
            break
        gains.append(np.zeros(len(particles)))
        patches = ParticlePatches.holding(maps[0], tomogram, particles)
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
