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

_ABSORBED = 0.16
"""κ: mean over random hinges, parts of 15 to 50 %, bent by 5 to 20°. 70S ribosomes in little noise 0.13 to 0.17, in
three times as much 0.14 to 0.15, 80S ribosomes 0.17 to 0.19."""
_MOST_PULL = 0.3
"""ρ: residual power over the template's at which parts pull most. 70S ribosomes bent by 5, 10, 20, 35 and 60° leave
0.02, 0.08, 0.29, 0.73 and 1.0, and are 1.8, 3.5, 5.8, 3.5 and 2.0° off (rms); 1.2° where the part is missing (0.8)."""


@dataclass(frozen=True)
class TwoGroups:
    """Two groups of coordinates, normal distributions of one variance.

    Parameters
    ----------
    lower, upper : mean coordinates of the groups.
    variance : of the coordinates of either.
    limit : coordinate where both are as likely.
    nats : log-likelihood by which they describe the coordinates better than one group.
    """

    lower: float
    upper: float
    variance: float
    limit: float
    nats: float

    @property
    def distinct(self) -> bool:
        """Whether there are two groups, beyond chance."""
        return self.nats > _TWO_GROUPS_NATS

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


def displacement_variance(power: Tensor, unit_bound: Tensor | float) -> Tensor:
    """Variance of the rotation (N,), summed over its axes, by which what differs displaces the pose; unit of the bound.

    Parameters
    ----------
    power : (N,) of what differs, over the particle's.
    unit_bound : Cramér-Rao bound of the rotation's variances, summed, in noise as strong as the particle.
    """
    pulled: Tensor = _ABSORBED * unit_bound * power / (1 + (power / _MOST_PULL).square())
    return pulled


def two_groups(coordinates: FloatArray) -> TwoGroups | None:
    """Two groups of coordinates (N,); None where one describes them as well."""
    found = best_two_groups(coordinates)
    return found if found.distinct else None


def best_two_groups(coordinates: FloatArray) -> TwoGroups:
    """The two groups that describe coordinates (N,) best, by expectation-maximisation from several starts."""
    return max((_mixture(coordinates, share) for share in (0.1, 0.25, 0.5, 0.75, 0.9)), key=lambda found: found.nats)


def _mixture(values: FloatArray, share: float) -> TwoGroups:
    """Two normal distributions of one variance, fitted to values (N,).

    Parameters
    ----------
    share : of the values in the lower one, to begin with.
    """
    one = -0.5 * len(values) * (np.log(values.var()) + 1)
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
    limit = means.mean() + variance * np.log(count[0] / count[1]) / (means[1] - means[0])
    return TwoGroups(float(means.min()), float(means.max()), variance, float(limit), total - float(one))
