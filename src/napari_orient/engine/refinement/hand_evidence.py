"""Evidence for the hand of a reference in one tomogram, counted in the probability of its poses.

Two hypotheses: the map has the particles' hand, or its mirror image has. d is the log-likelihood gain of the map less
that of its mirror image in a particle, both searched and fitted alike. Under the first its mean is +E, under the second
-E, where E is what the better of the two gains over the other in simulated particles: it in the poses found, through
the tomogram's forward model, in simulated noise. With s the standard deviation of d over N particles, unknown
beforehand and integrated out with the prior 1 / s (Student's t),

    log odds = log prior odds + N/2 [log(s² + (mean d + E)²) - log(s² + (mean d - E)²)],

about 2 N E mean d / s² where E is small against s. Gain and noise of the model were estimated with one hand, which
favours it: they are estimated with the other hand too, and d and E averaged over both.

A map that is nearly its own mirror image gives right poses whichever its hand. c² is the share of the map's power that
its mirror image explains in its best pose, without noise; a wrong hand counts the less the nearer c² is to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, concatenate_fits, draw_poses, fit_at, fit_poses
from napari_orient.engine.matching.search import MatchedFilterSearch, build_search
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.gain import calibrate
from napari_orient.engine.model.noise import simulate_noise_patches
from napari_orient.engine.model.reference import inverted
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.patch_fits import LOW_SNR_PLACES, LOW_SNR_STARTS, patches_per_batch, search_and_fit
from napari_orient.engine.streams import Work

_PRIOR = 0.9
"""Probability that a map has the particles' hand before they are asked; chosen: a person has mostly checked it."""
_LEAST_FOR_HAND = 4
"""Particles from which the hand is compared."""
_DECISIVE = 10.0
"""Standard errors in favour of the given hand from which nothing more is computed. PolNet's ribosomes reach 45; with
the wrong hand the favour to the hand that gain and noise were estimated with was 3, in ten particles."""
_SAME_SHARE = 0.02
"""1 - c² up to which a map is its own mirror image: PolNet's proteasomes (D7, 24 Å) have 0.01. Chosen."""
_CHIRAL_SHARE = 0.1
"""1 - c² from which poses of the wrong hand are all wrong; ribosomes have 0.3 to 0.7. Chosen."""
_STARTS = 3
"""Rotations fitted at each place, where scores are not low."""
_SIMULATED = 32
"""Simulated particles, at least."""
_POSE_PARAMETERS = 6
"""Parameters that a fit follows noise with: the square of its score is greater by as much in the mean."""
_OUTLYING = 3.0
"""Standard deviations beyond ±E from which a particle counts no more: another molecule, gold."""
_STEPS = 3
"""Gauss-Newton steps of a fit, as in the search."""
_SEED = 0
"""Seed of drawn poses and simulated noise, so that the same particles always give the same answer."""


@dataclass(frozen=True, eq=False)
class HandEvidence:
    """What particles say of the hand of a reference.

    Parameters
    ----------
    difference : (N,) log-likelihood gain of the reference less that of its mirror image, nats.
    expected, deviation : E, mean of the difference where the hand is right, and its standard deviation, nats.
    chirality : 1 - c², the share of the reference that its mirror image does not explain.
    """

    difference: Tensor
    expected: float
    deviation: float
    chirality: float

    @property
    def p_hand(self) -> float:
        """Probability that the reference has the particles' hand."""
        expected = max(self.expected, 0.0)
        limit = expected + _OUTLYING * self.deviation
        difference = self.difference.clamp(-limit, limit)
        mean, variance = float(difference.mean()), max(float(difference.var(unbiased=False)), 1e-12)
        ratio = (variance + (mean + expected) ** 2) / (variance + (mean - expected) ** 2)
        log_odds = math.log(_PRIOR / (1 - _PRIOR)) + len(difference) / 2 * math.log(ratio)
        return 1 / (1 + math.exp(-min(max(log_odds, -500.0), 500.0)))

    @property
    def p_poses(self) -> float:
        """Probability that poses are not wrong by the hand: it is right, or the map is its own mirror image."""
        ramp = min(max((self.chirality - _SAME_SHARE) / (_CHIRAL_SHARE - _SAME_SHARE), 0.0), 1.0)
        return 1 - ramp * (1 - self.p_hand)


@dataclass(frozen=True, eq=False)
class _Hands:
    """A reference and its mirror image, searched and fitted alike in N patches.

    Parameters
    ----------
    searches : of the given hand, and of the other, through one forward model.
    fits : of each.
    centres : (N, 3) voxels from the patches' centres that each was fitted about.
    """

    searches: tuple[MatchedFilterSearch, MatchedFilterSearch]
    fits: tuple[Fit, Fit]
    centres: tuple[Tensor, Tensor]

    @property
    def gains(self) -> tuple[Tensor, Tensor]:
        return self.fits[0].log_likelihood_gain, self.fits[1].log_likelihood_gain

    @property
    def difference(self) -> Tensor:
        return self.gains[0] - self.gains[1]


def hand_gains(finder: PoseFinder, patches: Tensor) -> Work[tuple[Tensor, Tensor]]:
    """Log-likelihood gains, (N,) each, of the reference and of its mirror image in patches (N, n, n, n)."""
    return (yield from _compared(finder, patches)).gains


def hand_evidence(finder: PoseFinder, patches: Tensor) -> Work[HandEvidence | None]:
    """What patches (N, n, n, n) say of the hand; None where they are too few, or say clearly that it is right."""
    if len(patches) < _LEAST_FOR_HAND:
        return None
    hands = yield from _compared(finder, patches)
    difference = hands.difference
    if float(difference.mean()) > _DECISIVE * float(difference.std()) / len(difference) ** 0.5:
        return None
    both = [hands, (yield from _compared(finder, patches, _other_model(finder, hands, patches)))]
    generator = torch.Generator().manual_seed(_SEED)
    expected, chirality = [], []
    for some in both:
        yield
        expected.append(_simulated_difference(some, generator, starts=_starts(finder)))
        chirality.append(_chirality(some))
    simulated = torch.stack(expected)
    return HandEvidence(
        torch.stack([some.difference for some in both]).mean(0).cpu(),
        expected=float(simulated.mean()),
        deviation=float(simulated.std(1).mean()),
        chirality=sum(chirality) / len(chirality),
    )


def _starts(finder: PoseFinder) -> int:
    return LOW_SNR_STARTS if finder.low_snr else _STARTS


def _compared(finder: PoseFinder, patches: Tensor, model: ForwardModel | None = None) -> Work[_Hands]:
    """Both hands through the finder's forward model, or another of the same tomogram."""
    own = finder.search
    if model is not None:
        own = yield from build_search(finder.reference, model, finder.group, finder.options.search)
    other = own.inverted()
    fit, centres = yield from _best_fits(finder, own, patches)
    other_fit, other_centres = yield from _best_fits(finder, other, patches)
    return _Hands((own, other), (fit, other_fit), (centres, other_centres))


def _best_fits(finder: PoseFinder, search: MatchedFilterSearch, patches: Tensor) -> Work[tuple[Fit, Tensor]]:
    places, fits, centres = LOW_SNR_PLACES if finder.low_snr else 1, [], []
    for part in patches.split(patches_per_batch(patches.shape[-1], patches.device)):
        found = search_and_fit(search, part, starts=_starts(finder), places=places, modes=1)
        fits.append(found.fits[0])
        centres.append(found.centres[:, 0])
        yield
    return concatenate_fits(fits), torch.cat(centres)


def _other_model(finder: PoseFinder, hands: _Hands, patches: Tensor) -> ForwardModel:
    """The forward model with gain and noise estimated from poses of the mirror image, drawn from their posterior."""
    reference, fit, centres = inverted(finder.reference), hands.fits[1], hands.centres[1]
    model, generator = finder.full_model, torch.Generator().manual_seed(_SEED)
    observed = finder.model.observe(patches, centres)
    near = fit_poses(reference, finder.model, observed, rotations=fit.rotations, shifts=fit.shifts, steps=_STEPS)
    rotations, shifts = draw_poses(near, generator)
    observed = model.observe(patches, centres)
    drawn = fit_at(reference, model, observed, rotations, shifts)
    return calibrate(reference, model, observed, drawn, wedge=finder.geometry.wedge)


def _simulated_difference(hands: _Hands, generator: torch.Generator, *, starts: int) -> Tensor:
    """What the hand that fits better gains over the other in simulated particles of its own, (S,) nats."""
    better = 0 if float(hands.difference.mean()) >= 0 else 1
    search, fit = hands.searches[better], hands.fits[better]
    amplitude = fit.amplitude.clamp_min(0) * (1 - _POSE_PARAMETERS / fit.score.square()).clamp_min(0).sqrt()
    signal = _through(search, fit, amplitude)
    noise = simulate_noise_patches(search.model, search.model.box, count=_SIMULATED, generator=generator)
    rows = torch.arange(len(noise)) % len(signal)
    observed = search.model.observe(noise.to(signal)) + signal[rows]
    own, other = (_best_gain(each, observed, starts=starts) for each in (search, hands.searches[1 - better]))
    return (own - other).cpu()


def _chirality(hands: _Hands) -> float:
    """1 - c² of the given hand in its poses."""
    search, other = hands.searches
    fit, mask = hands.fits[0], other.informative
    observed = _through(search, fit, torch.ones_like(fit.score))
    power = observed[..., mask].square().flatten(1).sum(1) / 2
    explained = _best_gain(other, observed, starts=LOW_SNR_STARTS) / power.clamp_min(1e-12)
    return max(0.0, 1 - float(explained.mean()))


def _through(search: MatchedFilterSearch, fit: Fit, amplitude: Tensor) -> Tensor:
    """The reference in fitted rotations through the forward model, about its own centre, (N, 2, M)."""
    values = search.reference.sample(search.model.frequency @ fit.rotations).movedim(-1, 1)
    return values * search.model.whitened_gain * amplitude[:, None, None]


def _best_gain(search: MatchedFilterSearch, observed: Tensor, *, starts: int) -> Tensor:
    """Log-likelihood gains of the best fits to coefficients (N, 2, M) about the particles, (N,)."""
    rotations, _ = search.best_rotations(observed, count=starts)
    count, mask = rotations.shape[1], search.informative
    fit = fit_poses(
        search.reference,
        search.model.select(mask),
        observed[..., mask].repeat_interleave(count, dim=0),
        rotations=rotations.flatten(0, 1),
        shifts=observed.new_zeros(len(observed) * count, 3),
        steps=_STEPS,
    )
    return fit.log_likelihood_gain.view(-1, count).amax(1)
