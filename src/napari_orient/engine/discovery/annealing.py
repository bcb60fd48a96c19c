"""Simulated-annealing multi-reference alignment: one random start of a discovery.

It is a stochastic expectation–maximisation, as RELION's InitialModel and Class3D are (Scheres, J. Struct. Biol. 180,
519, 2012), with drawn poses as in SIMPLE's stochastic hill climbing (Elmlund et al., Structure 21, 1299, 2013), at a
falling temperature. From random rotations, classes and centred picks, each round

1. averages every class's particles in their present poses, weighted by their probability of being particles, into a
   map (M step), multiplied shell by shell by ``2 FSC / (1 + FSC)`` of its halves: what they do not share is noise, of
   which a score would be made. The low-pass opens from a third of the diameter to the finest detail of the patches;
2. scores every particle against every class's map in every rotation of an even grid, which is rotated at random anew.
   With s the score in standard deviations of the noise, and sd(s) its spread over the grid, a rotation and a class are
   drawn with probability ∝ ``exp(s / (T sd(s)))`` (E step); then a shift nearby, likewise, from the score less
   ``|t|² / 2 σ²``, σ being half the largest shift of a pick;
3. lowers the temperature: ``T = max(0.5 · 0.85^round, 0.03)``, and 0 in two last rounds, which take the best.

The scores are matched-filter signal-to-noise ratios, so ``s² / 2`` is a log-likelihood; the annealing weights by s
alone, in units of its own spread, which is flatter and the same at any noise. Classes are soft in that labels are
drawn, and in the probability of being a particle. Picks where nothing is are separated before the first round: their
match with the mean of all picks, made round, is about none. From the tenth round on, scores separate false picks. Both
by a mixture of two normal distributions, where there are two.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.discovery.search import (
    Assignment,
    RotatedReferences,
    improbability,
    masked_references,
    scores_over_shifts,
    shift_grid,
)
from napari_orient.engine.discovery.spectra import FINEST, PatchSpectra
from napari_orient.engine.map_resolution import ball_mask, fourier_shell_correlation
from napari_orient.engine.model.grid import radial_frequencies
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.rotations import even_rotations, random_rotations

# Set by hand; together they lead to the figures of docs/discovery.md, for 100 to 10,000 particles.
_HOT = 0.5
"""Temperature of the first round, in standard deviations of a particle's scores over the grid."""
_COOLING = 0.85
"""Temperature of a round over that of the round before."""
_COLD = 0.03
"""Lowest temperature but for the last rounds, in the same unit."""
_OPENING = 0.8
"""Share of the rounds in which the low-pass opens."""
COLD_ROUNDS = 2
"""Rounds at temperature 0 that follow."""
_FALSE_PICKS_FROM = 10
"""Round, from 0, from which false picks are separated: before, scores are those of chance."""
_REGULARISATION = 0.1
"""Weight added to every coefficient of a map, as a share of the mean weight: what was hardly measured stays weak."""
_BATCH = 256
"""Particles scored together: memory, not the result."""
_SHIFT_REACH = 3
"""Steps of half a voxel, to each side along each axis, over which a round draws a shift."""
_MOST_OFF = 1.2
"""Largest shift along an axis over the one that the options allow: farther off neighbours begin."""
_CENTRING_ROUNDS = 4
"""Rounds in which particles are centred on their mean, made round; it stays after three."""
_CENTRING_RESOLUTION = 90.0
"""Low-pass of that mean, in Å, unless a third of the diameter is finer."""


@dataclass(frozen=True, eq=False)
class AnnealingStep:
    """A round of a start: its number from 1, the maps (n, n, n) of the classes, and the assignment it ended with."""

    number: int
    maps: tuple[NDArray[np.float32], ...]
    assignment: Assignment


def anneal(spectra: PatchSpectra, options: DiscoveryOptions, seed: int) -> Generator[AnnealingStep, None, None]:
    """The rounds of one start, from random rotations to the best ones."""
    rng, generator = np.random.default_rng(seed), torch.Generator(spectra.device).manual_seed(seed)
    grid, assignment = even_rotations(options.search), _initial_assignment(spectra, options, rng)
    p_occupied = assignment.p_particle
    for number in range(options.rounds + COLD_ROUNDS):
        opened = min(1.0, number / (_OPENING * options.rounds))
        resolution = 1 / ((1 - opened) * 3 / options.diameter + opened / (FINEST * options.patch_voxel_size))
        low_passed = spectra.within(resolution)
        maps = average_maps(low_passed, assignment, options, rng=rng)
        rotations = torch.as_tensor(grid @ random_rotations(1, rng)[0], dtype=torch.float32, device=spectra.device)
        temperature = max(_HOT * _COOLING**number, _COLD) if number < options.rounds else 0.0
        references = masked_references(maps, options, spectra.device)
        filters = RotatedReferences.of(references, rotations, frequency=low_passed.frequency, power=low_passed.power)
        drawn = _Draw(filters, rotations, temperature, options, generator)
        assignment = _without_drift(drawn.assignment(low_passed, assignment), options)
        if number >= _FALSE_PICKS_FROM:
            assignment = with_particle_probabilities(assignment, options.class_count, p_occupied)
        yield AnnealingStep(number + 1, maps, assignment)


def _initial_assignment(spectra: PatchSpectra, options: DiscoveryOptions, rng: np.random.Generator) -> Assignment:
    """Random rotations and classes, at centres that agree with each other as balls."""
    count, device = len(spectra), spectra.device
    shifts, match = centred_on_mean(spectra, options)
    nothing = torch.zeros(count, device=device)
    return Assignment(
        torch.as_tensor(random_rotations(count, rng), dtype=torch.float32, device=device),
        shifts,
        torch.as_tensor(rng.permutation(count) % options.class_count, device=device),
        occupied_probabilities(match),
        nothing,
        nothing,
    )


def centred_on_mean(spectra: PatchSpectra, options: DiscoveryOptions) -> tuple[Tensor, Tensor]:
    """Shifts (N, 3) in Å that centre the particles on their own mean, made round, and the match with it there, (N,).

    That takes no rotation. The match is in standard deviations of the noise.
    """
    low_passed = spectra.within(min(_CENTRING_RESOLUTION, options.diameter / 3))
    shell = (low_passed.frequency.norm(dim=-1) / low_passed.frequency[0].norm()).round().long()
    count = torch.bincount(shell).clamp_min(1)
    step = options.patch_voxel_size / 2
    tried = shift_grid(math.ceil(options.max_shift / step), step, spectra.device)
    shifts, every = torch.zeros(len(low_passed), 3, device=spectra.device), torch.arange(len(low_passed))
    for _ in range(_CENTRING_ROUNDS):
        mean = low_passed.shifted(shifts).mean(0).real / low_passed.power.mean(0).clamp_min(1e-12)
        ball = (torch.bincount(shell, mean) / count)[shell].float()
        match = scores_over_shifts(low_passed.values * ball, tried, low_passed.frequency)
        length = (low_passed.power * ball.square()).sum(1).sqrt()[low_passed.group]
        match = match / length[:, None]
        best = (match.clamp_min(0).square() / 2 - improbability(tried, options)).argmax(1)
        shifts, score = tried[best], match[every, best]
    return shifts, score


def average_maps(
    spectra: PatchSpectra,
    assignment: Assignment,
    options: DiscoveryOptions,
    *,
    rng: np.random.Generator,
    filtered: bool = True,
) -> tuple[NDArray[np.float32], ...]:
    """The map of each class, (n, n, n), of its particles in their poses; noise where it has none.

    Parameters
    ----------
    filtered : whether shells are multiplied by ``2 FSC / (1 + FSC)`` of the averages of every other particle, the
        Wiener filter of the mean of two halves (Rosenthal and Henderson, J. Mol. Biol. 333, 721, 2003).
    """
    shifted = spectra.shifted(assignment.shifts)
    half = torch.arange(len(spectra), device=spectra.device) % 2
    maps = []
    for label in range(options.class_count):
        own = assignment.label == label
        halves = [_summed(spectra, shifted, assignment, own & (half == number), options) for number in (0, 1)]
        maps.append(_wiener_filtered(halves, options, rng) if filtered else _density(halves[0] + halves[1], rng))
    return tuple(maps)


def _summed(
    spectra: PatchSpectra, shifted: Tensor, assignment: Assignment, members: Tensor, options: DiscoveryOptions
) -> Gridding:
    """The sums of shifted coefficients (N, M) of the members (N,) in their poses."""
    sums = Gridding(options.patch_side, options.patch_voxel_size)
    for group in range(len(spectra.power)):
        rows = (members & (spectra.group == group)).nonzero().squeeze(1)
        if len(rows):
            power = spectra.power[group].cpu()
            values = shifted[rows].cpu() / power.clamp_min(1e-12)
            weight, rotations = assignment.p_particle[rows].cpu(), assignment.rotations[rows].cpu()
            sums.add(Coefficients(values, power, spectra.frequency.cpu(), rotations, weight))
    return sums


def _wiener_filtered(
    halves: Sequence[Gridding], options: DiscoveryOptions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The map of both halves, (n, n, n), each shell weighted by what they share; as it is where one half is empty."""
    first, second = halves
    whole = _density(first + second, rng)
    if not all(bool((part.rows[:, 2] > 0).any()) for part in halves):
        return whole
    voxel_size = options.patch_voxel_size
    mask = ball_mask(options.patch_side, voxel_size, options.radius)
    fsc = fourier_shell_correlation(_density(first, rng) * mask, _density(second, rng) * mask, voxel_size)
    shared = np.interp(radial_frequencies(len(whole), voxel_size), fsc.frequency, fsc.correlation.clip(0, 1))
    return np.fft.ifftn(np.fft.fftn(whole) * (2 * shared / (1 + shared))).real.astype(np.float32)


def _density(grid: Gridding, rng: np.random.Generator) -> NDArray[np.float32]:
    if not bool((grid.rows[:, 2] > 0).any()):
        # A class that has lost its last particle starts again from noise.
        return rng.normal(size=(grid.side,) * 3).astype(np.float32) * 1e-6
    return grid.density(least=_REGULARISATION).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Draw:
    """Rotations, classes and shifts drawn by their scores with filters at a temperature; the best where it is 0."""

    filters: RotatedReferences
    rotations: Tensor
    temperature: float
    options: DiscoveryOptions
    generator: torch.Generator

    def assignment(self, spectra: PatchSpectra, last: Assignment) -> Assignment:
        """The next assignment of N particles, whose shifts move on from the last."""
        found = []
        for rows in torch.arange(len(spectra), device=spectra.device).split(_BATCH):
            part, shifts = spectra.take(rows), last.shifts[rows]
            values = part.shifted(shifts)
            score = self.filters.scores(values, part.group)
            spread = score.std(1, keepdim=True)
            drawn, top = self._draw(score, spread), score.amax(1)
            if self.options.max_shift:
                cross = values * self.filters.filters(part.group, drawn).conj()
                shifts = self._next_shifts(cross, shifts, spread, spectra.frequency)
            peak = (top - score.mean(1)) / spread[:, 0]
            count = len(self.rotations)
            found.append((self.rotations[drawn % count], shifts, drawn // count, top, peak))
        rotations, shifts, label, score, peak = (torch.cat(column) for column in zip(*found, strict=True))
        return replace(last, rotations=rotations, shifts=shifts, label=label, score=score, peak=peak)

    def _draw(self, score: Tensor, spread: Tensor) -> Tensor:
        """One column of scores (N, J) for each row, of spreads (N, 1)."""
        if not self.temperature:
            return score.argmax(1)
        probability = torch.softmax(score / (self.temperature * spread).clamp_min(1e-9), dim=1)
        return torch.multinomial(probability, 1, generator=self.generator)[:, 0]

    def _next_shifts(self, cross: Tensor, shifts: Tensor, spread: Tensor, frequency: Tensor) -> Tensor:
        """Shifts (N, 3) in Å, near the last, by products (N, M) of patches with their filters' conjugates."""
        steps = shift_grid(_SHIFT_REACH, self.options.patch_voxel_size / 2, shifts.device)
        match = scores_over_shifts(cross, steps, frequency)
        tried = shifts[:, None] + steps
        beyond = (tried.abs() > _MOST_OFF * self.options.max_shift + 1e-3).any(-1)
        # Drawn by scores, not by likelihoods, as rotations are: √(match² - 2 prior) found 99.3 to 100 % of PolNet's
        # ribosomes within 20° where this finds all (three seeds, picks off by 30 Å).
        score = (match - improbability(tried, self.options)).masked_fill(beyond, -1e9)
        return shifts + steps[self._draw(score, spread)]


def _without_drift(assignment: Assignment, options: DiscoveryOptions) -> Assignment:
    """The assignment with each class's origin where its picks are on average: a map must not drift away."""
    if options.max_shift == 0:
        return assignment
    shifts = assignment.shifts.clone()
    for label in range(options.class_count):
        rows = assignment.label == label
        if bool(rows.any()):
            drift = (assignment.rotations[rows].transpose(1, 2) @ shifts[rows, :, None]).mean(0)
            shifts[rows] -= (assignment.rotations[rows] @ drift)[:, :, 0]
    return replace(assignment, shifts=shifts)


# --- false picks ----------------------------------------------------------------------------------------------------

_LEAST_SCORES = 20
"""Fewest scores that two distributions are fitted to."""
_MIXTURE_ROUNDS = 60
"""Rounds of expectation–maximisation; the weights stay after some twenty."""
_ASHMANS_D = 2.5
"""Least distance of the two means, in root-mean-square spreads; from 2 on, two normal distributions have two modes."""
_LEAST_FALSE = 0.02
"""Least share of false picks that is separated."""
_LEAST_PARTICLES = 0.2
"""Least share of particles: a few high scores are no kind of their own."""
_FALSE_BELOW = 0.7
"""Highest mean score of false picks, over that of the particles."""
_EMPTY_BELOW = 0.3
"""Highest mean match of picks where nothing is with the mean of all, over that of the others. Of false picks away from
particles it is -0.1 to 0.1 (seeds 1003, 1013, 1041, 1050, 1054 of `combinations.py`); small particles among large ones
have more."""
_BIC_GAIN = 10.0
"""Least fall of the Bayesian information criterion: "very strong" evidence (Kass and Raftery, JASA 90, 773, 1995)."""


def with_particle_probabilities(assignment: Assignment, class_count: int, p_occupied: Tensor) -> Assignment:
    """The assignment with each particle's probability of being one, by the scores within its class.

    Parameters
    ----------
    p_occupied : (N,) as of `occupied_probabilities`.
    """
    p_particle = p_occupied.clone()
    for label in range(class_count):
        rows = assignment.label == label
        p_particle[rows] *= inlier_probabilities(assignment.score[rows])
    return replace(assignment, p_particle=p_particle)


def occupied_probabilities(match: Tensor) -> Tensor:
    """Probability that anything is where each pick is, (N,), by its match with the mean of all (N,).

    Unlike a score with a map, it is not raised by the noise that an average has in common with its own particles.
    """
    return inlier_probabilities(match, below=_EMPTY_BELOW)


def inlier_probabilities(score: Tensor, *, below: float = _FALSE_BELOW) -> Tensor:
    """Probability that each of N scores belongs to the upper of two normal distributions, (N,).

    It is 1 for all, unless the scores are clearly of two distributions: Ashman's D at least 2.5, the lower mean below
    ``below`` of the upper, the upper at least a fifth of all, and the Bayesian information criterion, which charges for
    the three more parameters that two have, lower by 10. (`statistics.detection` measures the scores of noise for this;
    for a map that changes from round to round there are none.)
    """
    every = torch.ones_like(score)
    if len(score) < _LEAST_SCORES or float(score.std()) == 0:
        return every
    values = score.double()
    mean = torch.quantile(values, torch.tensor([0.15, 0.7], dtype=torch.double, device=score.device))
    spread = values.std().repeat(2) / 2
    weight = torch.full((2,), 0.5, dtype=torch.double, device=score.device)
    for _ in range(_MIXTURE_ROUNDS):
        members = torch.softmax(_log_densities(values, mean, spread, weight), dim=1)
        weight = members.mean(0).clamp_min(1e-6)
        mean = (members * values[:, None]).sum(0) / members.sum(0).clamp_min(1e-9)
        squares = (members * (values[:, None] - mean).square()).sum(0) / members.sum(0).clamp_min(1e-9)
        spread = squares.sqrt().clamp_min(0.05 * values.std())
    apart = float((mean[1] - mean[0]) / spread.square().mean().sqrt())
    too_few = float(weight[0]) < _LEAST_FALSE or float(weight[1]) < _LEAST_PARTICLES
    if apart < _ASHMANS_D or too_few or float(mean[0]) >= below * float(mean[1]):
        return every
    one = _log_densities(values, values.mean()[None], values.std()[None], torch.ones_like(weight[:1]))
    two = _log_densities(values, mean, spread, weight)
    gain = float((torch.logsumexp(two, dim=1) - torch.logsumexp(one, dim=1)).sum())
    if 2 * gain - 3 * math.log(len(values)) < _BIC_GAIN:
        return every
    inlier = torch.softmax(two, dim=1)[:, 1]
    # Beyond either mean a wide distribution must not claim what lies on the other's far side.
    inlier = torch.where(values >= mean[1], torch.ones_like(inlier), inlier)
    return torch.where(values <= mean[0], torch.zeros_like(inlier), inlier).float()


def _log_densities(values: Tensor, mean: Tensor, spread: Tensor, weight: Tensor) -> Tensor:
    """Logarithm of each distribution's weighted density at N values, (N, 2), but for a constant."""
    return weight.log() - spread.log() - ((values[:, None] - mean) / spread).square() / 2
