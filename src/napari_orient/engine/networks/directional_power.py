"""Power of patches by direction: what a gold bead's rays or a membrane add to one patch weighs less in it.

A tilt image spreads a bead over a ray, which meets a particle's patch far from the bead, and whose transform lies near
a plane; that of a membrane lies near a line. In whitened patches either is power in some directions of one patch that
the others have not. With P_i(b, u) the power of patch i in a band b of frequencies, averaged about a direction u,

    r_i = P_i(b, u) / median_j P_j(b, u),    x_i(k) → x_i(k) / max(1, r_i / τ)

is the weight of a matched filter in noise that is r_i times as strong: once to whiten, once for the template. Patches
of particles without either stay as they are, to the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from napari_orient.engine.parameters import MixtureOptions

_DIRECTIONS = 160
"""Directions of a hemisphere, 11° apart, half the width of the average about them."""
_SHARPNESS = 24
"""Power of the cosine of the angle to a direction that coefficients are averaged with: half at 14°."""
_BANDS = (2, 5, 9)
"""Where bands begin, in steps of a patch's spectrum: 200, 80 and 44 Å of ribosomes' patches. Beads are in the first
two. Chosen: with one band for all, half as many poses beside gold come right; with four, as many."""
_USUAL = 1.5
"""τ: ratio up to which nothing changes. Of particles without gold 1.1 to 1.2 are usual, and 99 % below 2.2."""
_STRONG = 5.0
"""Largest ratio of a patch from which it is weighted at all. Of 70 particles without gold the largest is 3 to 4.7, in
little noise and in much, beside gold 10 to 15."""
_LEAST_POWER = 0.1
"""Usual power over that of white noise, at the least: in the missing wedge there is none. Chosen."""


@dataclass(frozen=True, eq=False)
class DirectionalPower:
    """Usual power of a tomogram's whitened patches in each band and direction, (B, J)."""

    usual: Tensor
    side: int

    @classmethod
    def estimate(cls, power: Tensor, options: MixtureOptions) -> DirectionalPower:
        """The medians of patches of these powers (N, m, m, m // 2 + 1) after whitening."""
        return cls(_by_direction(power, options.view_side).median(0).values, options.view_side)

    def strong(self, spectra: Tensor) -> Tensor:
        """Which patches, given by whitened half-spectra, have a direction that is strong in them alone, (N,)."""
        return _strong(self._ratio(spectra))

    def _ratio(self, spectra: Tensor) -> Tensor:
        """Power of patches in each band and direction over the usual one, (N, B, J)."""
        usual = self.usual.to(spectra.device).clamp_min(_LEAST_POWER)
        return _by_direction(spectra.abs().square(), self.side) / usual

    def weighted(self, spectra: Tensor) -> Tensor:
        """Whitened half-spectra (N, m, m, m // 2 + 1), of which directions that are strong in one patch count less."""
        device, ratio = spectra.device, self._ratio(spectra)
        strong = _strong(ratio)
        if not strong.any():
            return spectra
        nearness, bands = (part.to(device) for part in _directions(self.side))
        gains = 1 / (ratio[strong] / _USUAL).clamp_min(1)
        shares = nearness / nearness.sum(1, keepdim=True).clamp_min(1e-9)
        weights = torch.einsum("nbj,kj,bk->nk", gains, shares, bands) + (1 - bands.sum(0))
        weighted = spectra.clone()
        weighted[strong] *= weights.view(-1, *spectra.shape[1:])
        return weighted


def _strong(ratio: Tensor) -> Tensor:
    """Which patches of these ratios (N, B, J) are weighted, (N,)."""
    return ratio.flatten(1).amax(1) > _STRONG


def _by_direction(power: Tensor, side: int) -> Tensor:
    """Mean of power (N, m, m, m // 2 + 1) about each direction in each band, (N, B, J)."""
    nearness, bands = (part.to(power.device) for part in _directions(side))
    # What is not at x = 0 stands for its Friedel mate too.
    twice = torch.ones(power.shape[1:], device=power.device)
    twice[..., 1:] = 2
    kernels = [nearness * (band * twice.flatten())[:, None] for band in bands]
    return torch.stack([power.flatten(1) @ kernel / kernel.sum(0).clamp_min(1e-9) for kernel in kernels], dim=1)


@lru_cache(maxsize=2)
def _directions(side: int) -> tuple[Tensor, Tensor]:
    """How near each coefficient is to each direction, (K, J), and which band it is in, (B, K), 0 or 1."""
    line, half = torch.fft.fftfreq(side, 1 / side), torch.arange(side // 2 + 1.0)
    z, y, x = torch.meshgrid(line, line, half, indexing="ij")
    places = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    radius = places.norm(dim=1)
    # Points of Fibonacci's spiral.
    step = torch.arange(_DIRECTIONS) + 0.5
    height, angle = 1 - step / _DIRECTIONS, math.pi * (1 + math.sqrt(5)) * step
    across = (1 - height.square()).sqrt()
    directions = torch.stack([across * angle.cos(), across * angle.sin(), height], dim=1)
    nearness = (torch.nn.functional.normalize(places, dim=1) @ directions.T).abs() ** _SHARPNESS
    ends = (*_BANDS[1:], side // 2)
    bands = torch.stack([((radius >= low) & (radius < high)).float() for low, high in zip(_BANDS, ends, strict=True)])
    return nearness, bands
