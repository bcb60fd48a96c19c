"""One random start: rotations drawn from an ever narrower posterior, and maps averaged anew, until they stand.

False picks, told by how badly they match: two normal distributions of scores, where there are two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.search import Assignment, bank_of, flat, references
from napari_orient.engine.discovery.spectra import PatchSpectra
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.rotations import even_rotations, random_rotations

_HOT, _FALL, _COLD = 0.5, 0.85, 0.03
"""Temperature at first, its fall from round to round, and its least, in units of the scores' spread over the bank."""
_OPEN = 0.8
"""Share of the rounds in which the low-pass opens."""
_PRIOR = 0.1
"""What is added to a map's weights, as a share of their mean."""
_LAST, _SETTLED = 2, 10
_BATCH = 256
_PLACES, _REACH = 10.0, 3
_CENTRING_ROUNDS, _CENTRING = 4, 90.0


@dataclass(frozen=True, eq=False)
class AnnealingStep:
    """A round of a start: its number from 1, the maps (n, n, n) it began from, and what it ended with."""

    number: int
    maps: tuple[NDArray[np.float32], ...]
    assignment: Assignment


def anneal(spectra: PatchSpectra, options: DiscoveryOptions, seed: int) -> Iterator[AnnealingStep]:
    """Rounds of one start, from random rotations to the best ones."""
    rng, generator = np.random.default_rng(seed), torch.Generator(spectra.values.device).manual_seed(seed)
    grid, assignment = even_rotations(options.search), initial_assignment(spectra, options, rng)
    for number in range(options.rounds + _LAST):
        opened = min(1.0, number / (_OPEN * options.rounds))
        resolution = 1 / ((1 - opened) * 3 / options.diameter + opened / (2.1 * options.patch_voxel_size))
        seen = spectra.within(resolution)
        maps = average_maps(seen, assignment, options)
        turned = torch.as_tensor(grid @ random_rotations(1, rng)[0], dtype=torch.float32, device=spectra.values.device)
        heat = max(_HOT * _FALL**number, _COLD) if number < options.rounds else 0.0
        assignment = _round(seen, assignment, maps, turned, heat, options=options, generator=generator)
        if number >= _SETTLED:
            assignment = replace(assignment, share=_shares(assignment, options.class_count))
        yield AnnealingStep(number + 1, maps, assignment)


def initial_assignment(spectra: PatchSpectra, options: DiscoveryOptions, rng: np.random.Generator) -> Assignment:
    """Random rotations and classes, at centres that agree with each other as balls."""
    count, device = len(spectra), spectra.values.device
    nothing = torch.zeros(count, device=device)
    return Assignment(
        torch.as_tensor(random_rotations(count, rng), dtype=torch.float32, device=device),
        centring_shifts(spectra, options),
        torch.as_tensor(rng.permutation(count) % options.class_count, device=device),
        torch.ones(count, device=device),
        nothing,
        nothing,
    )


def centring_shifts(spectra: PatchSpectra, options: DiscoveryOptions) -> Tensor:
    """Shifts (N, 3) in Å that bring the particles over their own mean, made round: no rotation is needed for that."""
    seen = spectra.within(min(_CENTRING, options.diameter / 3))
    shell = (seen.frequency.norm(dim=-1) / seen.frequency[0].norm()).round().long()
    count = torch.bincount(shell).clamp_min(1)
    places = _places(options, seen.values.device)
    wave = 2 * torch.pi * (places @ seen.frequency.T)
    away = places.square().sum(-1) / (2 * max(options.max_shift, 1e-3) ** 2)
    shifts = torch.zeros(len(seen), 3, device=seen.values.device)
    for _ in range(_CENTRING_ROUNDS if len(places) > 1 else 0):
        mean = seen.moved(shifts).mean(0).real / seen.power.mean(0).clamp_min(1e-12)
        ball = (torch.bincount(shell, mean) / count)[shell].float()
        match = (seen.values.real * ball) @ wave.cos().T - (seen.values.imag * ball) @ wave.sin().T
        length = (seen.power * ball.square()).sum(1).sqrt()[seen.group]
        shifts = places[(match / length[:, None] - away).argmax(1)]
    return shifts


def _places(options: DiscoveryOptions, device: torch.device) -> Tensor:
    """Shifts tried about the picks, (S, 3) xyz in Å."""
    if options.max_shift == 0:
        return torch.zeros(1, 3, device=device)
    step = options.patch_voxel_size / 2
    count = int(np.ceil(options.max_shift / step))
    line = torch.arange(-count, count + 1, device=device) * step
    return torch.cartesian_prod(line, line, line)


def average_maps(
    spectra: PatchSpectra, assignment: Assignment, options: DiscoveryOptions
) -> tuple[NDArray[np.float32], ...]:
    """The map of each class, (n, n, n), of the particles as they are believed to lie."""
    moved = spectra.moved(assignment.shifts)
    sums = [Gridding(options.patch_side, options.patch_voxel_size) for _ in range(options.class_count)]
    for group in range(len(spectra.power)):
        power = spectra.power[group].cpu()
        for label, grid in enumerate(sums):
            rows = ((spectra.group == group) & (assignment.label == label)).nonzero().squeeze(1)
            if len(rows):
                values = moved[rows].cpu() / power.clamp_min(1e-12)
                share = assignment.share[rows].cpu()
                grid.add(Coefficients(values, power, spectra.frequency.cpu(), assignment.rotations[rows].cpu(), share))
    return tuple(_density(grid) for grid in sums)


def _density(grid: Gridding) -> NDArray[np.float32]:
    if not bool((grid.rows[:, 2] > 0).any()):
        # A class that has lost its last particle starts anew from noise.
        return np.random.default_rng(0).normal(size=(grid.side,) * 3).astype(np.float32) * 1e-6
    return grid.density(least=_PRIOR).astype(np.float32)


def _round(
    spectra: PatchSpectra,
    assignment: Assignment,
    maps: Sequence[NDArray[np.float32]],
    rotations: Tensor,
    heat: float,
    *,
    options: DiscoveryOptions,
    generator: torch.Generator,
) -> Assignment:
    """Rotation, class and shift of every particle drawn anew from what the maps say; the best where it is cold."""
    device = spectra.values.device
    banks = [bank_of(spectra, part, rotations) for part in references(maps, options, device)]
    turned, length = (torch.cat(parts, dim=at) for at, parts in zip((0, 1), zip(*banks, strict=True), strict=True))
    found = []
    for rows in torch.arange(len(spectra), device=device).split(_BATCH):
        part = spectra.take(rows)
        moved = part.moved(assignment.shifts[rows])
        score = flat(moved) @ flat(turned).T / length[part.group]
        spread = score.std(1, keepdim=True)
        drawn = _draw(score, heat * spread, generator)
        top = score.amax(1)
        shifts = assignment.shifts[rows]
        if options.max_shift:
            model = turned[drawn] / length[part.group, drawn][:, None]
            shifts = shifts + _shift(part, moved, model, shifts, heat * spread, options=options, generator=generator)
        peak = (top - score.mean(1)) / spread[:, 0]
        found.append((rotations[drawn % len(rotations)], shifts, drawn // len(rotations), top, peak))
    turns, shifts, label, score, peak = (torch.cat(column) for column in zip(*found, strict=True))
    return _steady(replace(assignment, rotations=turns, shifts=shifts, label=label, score=score, peak=peak), options)


def _draw(score: Tensor, heat: Tensor, generator: torch.Generator) -> Tensor:
    """One column of scores (N, J) for each row, drawn at its temperature (N, 1); the best where that is 0."""
    if not bool((heat > 0).any()):
        return score.argmax(1)
    odds = torch.softmax(score / heat.clamp_min(1e-9), dim=1)
    return torch.multinomial(odds, 1, generator=generator)[:, 0]


def _shift(
    spectra: PatchSpectra,
    moved: Tensor,
    model: Tensor,
    shifts: Tensor,
    heat: Tensor,
    *,
    options: DiscoveryOptions,
    generator: torch.Generator,
) -> Tensor:
    """Moves (N, 3) in Å, drawn from how well each of a grid of places fits the model as it is turned now."""
    line = torch.arange(-_REACH, _REACH + 1, device=moved.device) * (options.patch_voxel_size / 2)
    places = torch.cartesian_prod(line, line, line)
    cross, wave = moved * model.conj(), 2 * torch.pi * (places @ spectra.frequency.T)
    match = cross.real @ wave.cos().T - cross.imag @ wave.sin().T
    # As far off as picks may be, at most: beyond, neighbours begin.
    beyond = ((shifts[:, None] + places).abs() > 1.2 * options.max_shift + 1e-3).any(-1)
    away = (shifts[:, None] + places).square().sum(-1) / (2 * options.max_shift**2)
    return places[_draw((match - away).masked_fill(beyond, -1e9), heat, generator)]


def _steady(assignment: Assignment, options: DiscoveryOptions) -> Assignment:
    """The guess with each class's origin where its picks are centred on average: a map must not drift away."""
    if options.max_shift == 0:
        return assignment
    shifts = assignment.shifts.clone()
    for label in range(options.class_count):
        rows = assignment.label == label
        if bool(rows.any()):
            drift = (assignment.rotations[rows].transpose(1, 2) @ shifts[rows, :, None]).mean(0)
            shifts[rows] -= (assignment.rotations[rows] @ drift)[:, :, 0]
    return replace(assignment, shifts=shifts)


def _shares(assignment: Assignment, classes: int) -> Tensor:
    """Odds that each is a particle, judged among its class."""
    shares = assignment.share.clone()
    for label in range(classes):
        rows = assignment.label == label
        shares[rows] = inlier_probabilities(assignment.score[rows])
    return shares


_ENOUGH, _ROUNDS = 20, 60
_APART = 2.5
_FEWEST, _FEWEST_GOOD = 0.02, 0.2
_POORER, _BETTER = 0.7, 10.0


def inlier_probabilities(score: Tensor) -> Tensor:
    """Odds, 0 to 1, that each of N scores belongs to the upper of two distributions, (N,).

    All are of one kind, and all odds are 1, unless the scores fall apart into two kinds: Ashman's D at least 2.5, the
    lower kind's mean below 0.7 of the upper's, the upper at least a fifth of all, and two kinds so much more likely
    than one that the Bayesian information criterion, which charges for the three more figures that two need, falls
    by 10.
    """
    every = torch.ones_like(score)
    if len(score) < _ENOUGH or float(score.std()) == 0:
        return every
    values = score.double()
    mean = torch.quantile(values, torch.tensor([0.15, 0.7], dtype=torch.double, device=score.device))
    spread = values.std().repeat(2) / 2
    weight = torch.full((2,), 0.5, dtype=torch.double, device=score.device)
    for _ in range(_ROUNDS):
        odds = _odds(values, mean, spread, weight)
        weight = odds.mean(0).clamp_min(1e-6)
        mean = (odds * values[:, None]).sum(0) / odds.sum(0).clamp_min(1e-9)
        squares = (odds * (values[:, None] - mean).square()).sum(0) / odds.sum(0).clamp_min(1e-9)
        spread = squares.sqrt().clamp_min(0.05 * values.std())
    apart = (mean[1] - mean[0]) / (spread.square().mean()).sqrt() if mean[1] > mean[0] else 0.0
    poorer = float(mean[0]) < _POORER * float(mean[1])
    few = float(weight[0]) < _FEWEST or float(weight[1]) < _FEWEST_GOOD
    if float(apart) < _APART or few or not poorer:
        return every
    one = _likelihood(values, values.mean()[None], values.std()[None], torch.ones_like(weight[:1]))
    gain = float((_likelihood(values, mean, spread, weight) - one).sum())
    if 2 * gain - 3 * math.log(len(values)) < _BETTER:
        return every
    odds = _odds(values, mean, spread, weight)[:, 1]
    # Beyond either mean a wide distribution must not claim what lies on the other's far side.
    odds = torch.where(values >= mean[1], torch.ones_like(odds), odds)
    return torch.where(values <= mean[0], torch.zeros_like(odds), odds).float()


def _odds(values: Tensor, mean: Tensor, spread: Tensor, weight: Tensor) -> Tensor:
    return torch.softmax(_kinds(values, mean, spread, weight), dim=1)


def _likelihood(values: Tensor, mean: Tensor, spread: Tensor, weight: Tensor) -> Tensor:
    """Logarithm of the likelihood of each value, (N,), but for a constant."""
    return torch.logsumexp(_kinds(values, mean, spread, weight), dim=1)


def _kinds(values: Tensor, mean: Tensor, spread: Tensor, weight: Tensor) -> Tensor:
    return weight.log() - spread.log() - ((values[:, None] - mean) / spread).square() / 2
