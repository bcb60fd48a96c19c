"""False picks, told by how badly they match: two normal distributions of scores, where there are two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ENOUGH, _ROUNDS = 20, 60
_APART = 2.5
_FEWEST, _FEWEST_GOOD = 0.02, 0.2
_POORER, _BETTER = 0.7, 10.0


def inlier_odds(score: Tensor) -> Tensor:
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
