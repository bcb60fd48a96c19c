"""How large the particles look: where their mean, made round, falls to what surrounds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.model.grid import offsets
from napari_orient.engine.particles import FloatArray, Tomogram
from napari_orient.engine.patches import cut_patches

_SIDE, _SAMPLE, _BATCH = 30, 240, 32
"""Voxels along the patches, half as many again as a search's; and most particles that are looked at."""
_PER_EDGE = 2.4
"""The diameter that fits over the radius of the edge: particles are not round, and the mask needs some room."""
_CLEARLY, _SMALLEST, _LARGEST = 5.0, 0.8, 1.35
"""Standard errors that particles must stand out by, and shares of the diameter given that are no reason to warn."""


def size_words(places: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions, *, dark: bool) -> str:
    """A warning where another diameter fits the particles far better than the one given; else empty.

    Parameters
    ----------
    places : tomograms with the middles of particles (N, 3) xyz in Å.
    dark : whether particles are darker than their surroundings.
    """
    fits = fitting_diameter(places, options, dark=dark)
    if fits is None or _SMALLEST <= fits / options.diameter <= _LARGEST:
        return ""
    seen = "wider" if fits > options.diameter else "smaller"
    return (
        f"Note: the particles look {seen} than the diameter of {options.diameter:g} Å: about {fits:.0f} Å would fit "
        "their mean density better."
    )


def fitting_diameter(
    places: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions, *, dark: bool
) -> float | None:
    """The diameter in Å that fits the particles' mean density, to 10 Å; None where they do not stand out.

    It is seen up to 2.4 times the diameter given.
    """
    voxel_size = options.view_voxel_size
    extent = min(min(item.extent.size) * item.voxel_size for item, _ in places)
    side = min(_SIDE, int(extent / voxel_size) // 2 * 2)
    profiles = _profiles(places, side, voxel_size) * (-1 if dark else 1)
    profile = profiles.mean(0)
    top = int(profile.argmax())
    below = np.flatnonzero(profile[top:] <= 0)
    edge = top + int(below[0]) if len(below) else len(profile) - 1
    level = profiles[:, : edge // 2 + 1].mean(1)
    if level.mean() < _CLEARLY * level.std() / len(level) ** 0.5:
        return None
    inner = edge - 1 + profile[edge - 1] / max(profile[edge - 1] - profile[edge], 1e-9) if len(below) else edge
    return round(_PER_EDGE * (inner + 0.5) * voxel_size / 10) * 10.0


def _profiles(places: Sequence[tuple[Tomogram, FloatArray]], side: int, voxel_size: float) -> NDArray[np.float32]:
    """Mean density of some particles in shells a voxel thick, (N, side // 2)."""
    shell = (offsets(side, voxel_size).norm(dim=-1) / voxel_size).floor().long().flatten()
    within = shell < side // 2
    counted = torch.nn.functional.one_hot(shell[within]).float()
    share = (counted / counted.sum(0)).numpy()
    total = sum(len(positions) for _, positions in places)
    answer = []
    for tomogram, positions in places:
        rows = positions[:: -(-total // _SAMPLE)]
        for first in range(0, len(rows), _BATCH):
            patches = cut_patches(tomogram, rows[first : first + _BATCH], side=side, voxel_size=voxel_size)
            answer.append(patches.reshape(len(patches), -1)[:, within.numpy()] @ share)
    return np.concatenate(answer)
