"""False picks, told by how badly they match: two normal distributions of scores, where there are two."""

from __future__ import annotations

import torch
from torch import Tensor

_ENOUGH, _ROUNDS = 20, 60
_APART = 2.5
_FEWEST = 0.02


def inlier_odds(score: Tensor) -> Tensor:
    """Odds, 0 to 1, that each of N scores belongs to the upper of two distributions, (N,).

    Where the scores do not fall apart into two kinds (Ashman's D below 2.5), all are of one kind, and all odds are 1.
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
    if float(apart) < _APART or float(weight.min()) < _FEWEST:
        return every
    odds = _odds(values, mean, spread, weight)[:, 1]
    # Beyond either mean a wide distribution must not claim what lies on the other's far side.
    odds = torch.where(values >= mean[1], torch.ones_like(odds), odds)
    return torch.where(values <= mean[0], torch.zeros_like(odds), odds).float()


def _odds(values: Tensor, mean: Tensor, spread: Tensor, weight: Tensor) -> Tensor:
    likelihood = weight.log() - spread.log() - ((values[:, None] - mean) / spread).square() / 2
    return torch.softmax(likelihood, dim=1)
