"""Power by direction: a ray or a membrane in one patch counts less there, and nothing else changes anywhere."""

import numpy as np
import torch

from napari_orient.engine.networks.directional_power import DirectionalPower
from napari_orient.engine.networks.tomogram_input import estimate_whitening
from napari_orient.engine.parameters import MixtureOptions

OPTIONS = MixtureOptions()
SIDE = OPTIONS.patch_side


def patches(count: int) -> torch.Tensor:
    """Noise, with something like a particle in every patch."""
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(SIDE) - SIDE // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    blob = torch.exp(-((x - 3) ** 2 + 2 * y**2 + z**2) / 50) - torch.exp(-(x**2 + (y - 8) ** 2 + z**2) / 20)
    return torch.randn(count, SIDE, SIDE, SIDE, generator=generator) + blob


def ray(angle: float) -> torch.Tensor:
    """A line through the patch in the plane of x and z, 60 Å off its middle and 60 Å wide."""
    line = torch.arange(SIDE) - SIDE // 2.0
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    across = x * np.cos(angle) - z * np.sin(angle) - 6
    return torch.exp(-(across**2 + y**2) / 18)


def test_patches_without_a_ray_stay_as_they_are_and_one_with_a_ray_is_brought_nearer_to_itself_without():
    clean = patches(24)
    struck = clean.clone()
    struck[3] += 6 * ray(0.6)
    whitening = estimate_whitening(struck, OPTIONS)
    spectra, without = whitening.apply(struck), whitening.apply(clean)
    directions = DirectionalPower.estimate(spectra.abs().square(), OPTIONS)
    found = directions.weighted(spectra)
    others = torch.arange(24) != 3
    assert torch.equal(directions.strong(spectra), ~others)
    assert torch.equal(found[others], spectra[others])
    assert torch.equal(directions.weighted(without), without)

    def agreement(first: torch.Tensor) -> float:
        return float((first * without[3].conj()).sum().real / (first.norm() * without[3].norm()))

    assert agreement(spectra[3]) < 0.8
    assert agreement(found[3]) > 0.85


def test_a_lone_patch_and_a_flat_one_stay_as_they_are():
    one = estimate_whitening(patches(1), OPTIONS).apply(patches(1))
    assert torch.equal(DirectionalPower.estimate(one.abs().square(), OPTIONS).weighted(one), one)
    directions = DirectionalPower.estimate(one.abs().square(), OPTIONS)
    assert torch.equal(directions.weighted(torch.zeros_like(one)), torch.zeros_like(one))
