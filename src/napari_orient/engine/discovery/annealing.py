"""One random start: rotations drawn from an ever narrower posterior, and maps averaged anew, until they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.outliers import inlier_odds
from napari_orient.engine.discovery.views import Views
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.model.reference import Reference, build_reference
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
class Guess:
    """What is believed of N particles at the end of a round.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the picks to the particles' centres.
    label : (N,) class.
    share : (N,) odds, 0 to 1, that it is a particle at all: how much it counts.
    score : (N,) best match, in standard deviations of the noise.
    peak : (N,) how far the best match stands above the mean over the bank, in its spreads.
    """

    rotations: Tensor
    shifts: Tensor
    label: Tensor
    share: Tensor
    score: Tensor
    peak: Tensor

    def take(self, rows: Tensor) -> Guess:
        """The guess of these rows."""
        return Guess(*(getattr(self, item.name)[rows] for item in fields(Guess)))

    @property
    def worth(self) -> float:
        """How well the start explains the patches: the mean gain in log-likelihood."""
        return float((self.score.square() / 2).mean())


@dataclass(frozen=True, eq=False)
class Look:
    """A round of a start: its number from 1, the maps (n, n, n) it began from, and what it ended with."""

    number: int
    maps: tuple[NDArray[np.float32], ...]
    guess: Guess


def anneal(views: Views, options: DiscoveryOptions, seed: int) -> Iterator[Look]:
    """Rounds of one start, from random rotations to the best ones."""
    rng, generator = np.random.default_rng(seed), torch.Generator(views.values.device).manual_seed(seed)
    grid, guess = even_rotations(options.search), first_guess(views, options, rng)
    for number in range(options.rounds + _LAST):
        opened = min(1.0, number / (_OPEN * options.rounds))
        resolution = 1 / ((1 - opened) * 3 / options.diameter + opened / (2.1 * options.view_voxel_size))
        seen = views.within(resolution)
        maps = average_maps(seen, guess, options)
        turned = torch.as_tensor(grid @ random_rotations(1, rng)[0], dtype=torch.float32, device=views.values.device)
        heat = max(_HOT * _FALL**number, _COLD) if number < options.rounds else 0.0
        guess = _round(seen, guess, maps, turned, heat, options=options, generator=generator)
        if number >= _SETTLED:
            guess = replace(guess, share=_shares(guess, options.kinds))
        yield Look(number + 1, maps, guess)


def first_guess(views: Views, options: DiscoveryOptions, rng: np.random.Generator) -> Guess:
    """Random rotations and classes, at centres that agree with each other as balls."""
    count, device = len(views), views.values.device
    nothing = torch.zeros(count, device=device)
    return Guess(
        torch.as_tensor(random_rotations(count, rng), dtype=torch.float32, device=device),
        centred(views, options),
        torch.as_tensor(rng.permutation(count) % options.kinds, device=device),
        torch.ones(count, device=device),
        nothing,
        nothing,
    )


def centred(views: Views, options: DiscoveryOptions) -> Tensor:
    """Shifts (N, 3) in Å that bring the particles over their own mean, made round: no rotation is needed for that."""
    seen = views.within(min(_CENTRING, options.diameter / 3))
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
    step = options.view_voxel_size / 2
    count = int(np.ceil(options.max_shift / step))
    line = torch.arange(-count, count + 1, device=device) * step
    return torch.cartesian_prod(line, line, line)


def average_maps(views: Views, guess: Guess, options: DiscoveryOptions) -> tuple[NDArray[np.float32], ...]:
    """The map of each class, (n, n, n), of the particles as they are believed to lie."""
    moved = views.moved(guess.shifts)
    sums = [Gridding(options.view_side, options.view_voxel_size) for _ in range(options.kinds)]
    for group in range(len(views.power)):
        power = views.power[group].cpu()
        for label, grid in enumerate(sums):
            rows = ((views.group == group) & (guess.label == label)).nonzero().squeeze(1)
            if len(rows):
                values = moved[rows].cpu() / power.clamp_min(1e-12)
                share = guess.share[rows].cpu()
                grid.add(Coefficients(values, power, views.frequency.cpu(), guess.rotations[rows].cpu(), share))
    return tuple(_density(grid) for grid in sums)


def _density(grid: Gridding) -> NDArray[np.float32]:
    if not bool((grid.rows[:, 2] > 0).any()):
        # A class that has lost its last particle starts anew from noise.
        return np.random.default_rng(0).normal(size=(grid.side,) * 3).astype(np.float32) * 1e-6
    return grid.density(least=_PRIOR).astype(np.float32)


def references(maps: Sequence[NDArray[np.float32]], options: DiscoveryOptions, device: torch.device) -> list[Reference]:
    """The maps made ready to be turned, masked to the particle's ball."""
    voxel_size = options.view_voxel_size
    return [
        build_reference(part, voxel_size, resolution=2.1 * voxel_size, radius=options.radius).to(device)
        for part in maps
    ]


def bank_of(views: Views, reference: Reference, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """A turned reference's coefficients (J, M), and its length (G, J) as it shows in each tomogram."""
    turned = reference.transform(views.frequency @ rotations)
    power = torch.view_as_real(turned).square().sum(-1)
    length: Tensor = (views.power @ power.T).sqrt().clamp_min(1e-12)
    return turned, length


def _round(
    views: Views,
    guess: Guess,
    maps: Sequence[NDArray[np.float32]],
    rotations: Tensor,
    heat: float,
    *,
    options: DiscoveryOptions,
    generator: torch.Generator,
) -> Guess:
    """Rotation, class and shift of every particle drawn anew from what the maps say; the best where it is cold."""
    device = views.values.device
    banks = [bank_of(views, part, rotations) for part in references(maps, options, device)]
    turned, length = (torch.cat(parts, dim=at) for at, parts in zip((0, 1), zip(*banks, strict=True), strict=True))
    found = []
    for rows in torch.arange(len(views), device=device).split(_BATCH):
        part = views.take(rows)
        moved = part.moved(guess.shifts[rows])
        score = _flat(moved) @ _flat(turned).T / length[part.group]
        spread = score.std(1, keepdim=True)
        drawn = _draw(score, heat * spread, generator)
        top = score.amax(1)
        shifts = guess.shifts[rows]
        if options.max_shift:
            model = turned[drawn] / length[part.group, drawn][:, None]
            shifts = shifts + _shift(part, moved, model, shifts, heat * spread, options=options, generator=generator)
        peak = (top - score.mean(1)) / spread[:, 0]
        found.append((rotations[drawn % len(rotations)], shifts, drawn // len(rotations), top, peak))
    turns, shifts, label, score, peak = (torch.cat(column) for column in zip(*found, strict=True))
    return _steady(replace(guess, rotations=turns, shifts=shifts, label=label, score=score, peak=peak), options)


def _flat(values: Tensor) -> Tensor:
    return torch.view_as_real(values.contiguous()).flatten(1)


def _draw(score: Tensor, heat: Tensor, generator: torch.Generator) -> Tensor:
    """One column of scores (N, J) for each row, drawn at its temperature (N, 1); the best where that is 0."""
    if not bool((heat > 0).any()):
        return score.argmax(1)
    odds = torch.softmax(score / heat.clamp_min(1e-9), dim=1)
    return torch.multinomial(odds, 1, generator=generator)[:, 0]


def _shift(
    views: Views,
    moved: Tensor,
    model: Tensor,
    shifts: Tensor,
    heat: Tensor,
    *,
    options: DiscoveryOptions,
    generator: torch.Generator,
) -> Tensor:
    """Moves (N, 3) in Å, drawn from how well each of a grid of places fits the model as it is turned now."""
    line = torch.arange(-_REACH, _REACH + 1, device=moved.device) * (options.view_voxel_size / 2)
    places = torch.cartesian_prod(line, line, line)
    cross, wave = moved * model.conj(), 2 * torch.pi * (places @ views.frequency.T)
    match = cross.real @ wave.cos().T - cross.imag @ wave.sin().T
    # As far off as picks may be, at most: beyond, neighbours begin.
    beyond = ((shifts[:, None] + places).abs() > 1.2 * options.max_shift + 1e-3).any(-1)
    away = (shifts[:, None] + places).square().sum(-1) / (2 * options.max_shift**2)
    return places[_draw((match - away).masked_fill(beyond, -1e9), heat, generator)]


def _steady(guess: Guess, options: DiscoveryOptions) -> Guess:
    """The guess with each class's origin where its picks are centred on average: a map must not drift away."""
    if options.max_shift == 0:
        return guess
    shifts = guess.shifts.clone()
    for label in range(options.kinds):
        rows = guess.label == label
        if bool(rows.any()):
            drift = (guess.rotations[rows].transpose(1, 2) @ shifts[rows, :, None]).mean(0)
            shifts[rows] -= (guess.rotations[rows] @ drift)[:, :, 0]
    return replace(guess, shifts=shifts)


def _shares(guess: Guess, classes: int) -> Tensor:
    """Odds that each is a particle, judged among its class."""
    shares = guess.share.clone()
    for label in range(classes):
        rows = guess.label == label
        shares[rows] = inlier_odds(guess.score[rows])
    return shares
