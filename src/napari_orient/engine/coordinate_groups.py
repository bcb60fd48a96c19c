"""What particles that differ have in common: the leading component of their residuals, and two groups along it.

Groups are a mixture of two normal distributions of the coordinates, against one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.rotations import FloatArray

_TWO_GROUPS_NATS = 10.0
"""Log-likelihood by which two groups must describe the coordinates better than one. Of 70 particles of one kind it is
up to 7; half of them different 40 to 100."""
_MIXTURE_STEPS = 60
"""Steps of expectation-maximisation of the two groups."""


@dataclass(frozen=True)
class TwoGroups:
    """Two groups of coordinates, normal distributions of one variance.

    Parameters
    ----------
    lower, upper : mean coordinates of the groups.
    limit : coordinate where both are as likely.
    """

    lower: float
    upper: float
    limit: float

    def above(self, coordinates: FloatArray) -> NDArray[np.bool_]:
        """Which particles are of the upper group, (N,)."""
        above: NDArray[np.bool_] = coordinates > self.limit
        return above


def leading_component(residuals: Tensor) -> tuple[float, Tensor]:
    """Leading eigenvalue of the centred Gram matrix of N residuals, without its diagonal, and its eigenvector (N,).

    Off the diagonal no particle's own noise counts. The eigenvector weighs the residuals (N, F) to their component.
    """
    gram = (residuals @ residuals.T).fill_diagonal_(0)
    gram = gram - gram.mean(0)
    values, vectors = torch.linalg.eigh(gram - gram.mean(1, keepdim=True))
    return float(values[-1]), vectors[:, -1]


def two_groups(coordinates: FloatArray) -> TwoGroups | None:
    """Two groups of coordinates (N,), by expectation-maximisation; None where one describes them as well."""
    one = -0.5 * len(coordinates) * (np.log(coordinates.var()) + 1)
    best, means, limit = one + _TWO_GROUPS_NATS, None, 0.0
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        log_likelihood, found = _mixture(coordinates, share)
        if log_likelihood > best:
            best, (means, limit) = log_likelihood, found
    if means is None:
        return None
    return TwoGroups(float(means.min()), float(means.max()), float(limit))


def _mixture(values: FloatArray, share: float) -> tuple[float, tuple[FloatArray, float]]:
    """Log-likelihood of two normal distributions of one variance, their means and where both are as likely.

    Parameters
    ----------
    share : of the values in the lower one, to begin with.
    """
    member = np.clip(np.stack([values <= np.quantile(values, share), values > np.quantile(values, share)]), 0.01, 0.99)
    total = -np.inf
    for _ in range(_MIXTURE_STEPS):
        member = member / member.sum(0)
        count = member.sum(1)
        means = member @ values / count
        off = values - means[:, None]
        variance = max(float((member * off**2).sum() / len(values)), 1e-6)
        log = np.log(count / len(values))[:, None] - 0.5 * (off**2 / variance + np.log(variance))
        total = float(np.logaddexp(*log).sum())
        member = np.exp(log - np.logaddexp(*log))
    between = means.mean() + variance * np.log(count[0] / count[1]) / (means[1] - means[0])
    return total, (means, float(between))
