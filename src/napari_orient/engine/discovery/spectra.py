"""What the search sees of the particles: whitened Fourier coefficients of small, binned patches.

How large the particles look: where their mean, made round, falls to what surrounds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.model.grid import half_sphere, offsets
from napari_orient.engine.model.noise import mean_power, smooth_spectrum, window, without_flat_patches
from napari_orient.engine.model.wedge import Wedge, estimate_wedge
from napari_orient.engine.particles import FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import cut_patches

_BATCH, _SAMPLE = 64, 256
_WEDGE_SIDE, _WEDGE_SAMPLE = 40, 128
_CLEARLY = 3.0


@dataclass(frozen=True, eq=False)
class PatchSpectra:
    """Coefficients of N particles of G tomograms, nearest the origin first; particles are positive.

    Parameters
    ----------
    frequency : (M, 3) xyz in cycles/Å; one of each pair of Friedel mates.
    values : (N, M) complex, about the picks; weighted by wedge over the noise's standard deviation, and whitened by it.
    power : (G, M) the weight squared: what a model's power is multiplied by.
    group : (N,) which tomogram.
    wedges : the missing wedge of each tomogram.
    dark : whether particles are darker than their surroundings.
    """

    frequency: Tensor
    values: Tensor
    power: Tensor
    group: Tensor
    wedges: tuple[Wedge, ...]
    dark: bool

    def __len__(self) -> int:
        return len(self.values)

    def within(self, resolution: float) -> PatchSpectra:
        """The same particles with nothing finer than a resolution in Å."""
        count = int((self.frequency.norm(dim=-1) <= 1 / resolution).sum())
        return replace(
            self,
            frequency=self.frequency[:count],
            values=self.values[:, :count],
            power=self.power[:, :count],
        )

    def take(self, rows: Tensor) -> PatchSpectra:
        """The particles of these rows."""
        return replace(self, values=self.values[rows], group=self.group[rows])

    def moved(self, shifts: Tensor) -> Tensor:
        """The coefficients (N, M) about points that lie shifts (N, 3) in Å off the picks."""
        angle = 2 * torch.pi * (shifts @ self.frequency.T)
        return self.values * torch.polar(torch.ones_like(angle), angle)


def observe_patches(
    places: Sequence[tuple[Tomogram, FloatArray]],
    options: DiscoveryOptions,
    *,
    device: torch.device,
    dark: bool | None = None,
) -> PatchSpectra:
    """The views of particles at positions (N, 3) of each tomogram, in order.

    Noise and wedge are those of each tomogram's own patches. Only coefficients are kept: patches come and go by
    batches.

    Parameters
    ----------
    dark : the contrast where it is known; None looks, unless the options tell.

    Raises
    ------
    InputError
        If a tomogram is flat round all of its particles.
    """
    side, voxel_size = options.patch_side, options.patch_voxel_size
    index, frequency = half_sphere(side, voxel_size, 2.1 * voxel_size)
    view = window(side, voxel_size, options.radius)
    if dark is None:
        dark = _dark(places, options)
    phase = torch.polar(torch.ones(len(index)), 2 * torch.pi * (side // 2 * voxel_size) * frequency.sum(-1))
    values, power, group, wedges = [], [], [], []
    for number, (tomogram, positions) in enumerate(places):
        some = without_flat_patches(
            _cut(tomogram, positions[evenly_spaced_rows(len(positions), _SAMPLE)], options), tomogram.name
        )
        total = mean_power(some, view)
        wedge = options.wedge.chosen(_wedge(tomogram, positions, options))
        noise = smooth_spectrum(total, wedge, voxel_size)[:, :, : side // 2 + 1].flatten()[index]
        # A coefficient's real part has half its power.
        variance = noise * view.square().sum() / 2
        measured = wedge.weights(frequency, 1 / (side * voxel_size))
        scale = phase * (measured / variance) * (-1.0 if dark else 1.0)
        for start in range(0, len(positions), _BATCH):
            cubes = _cut(tomogram, positions[start : start + _BATCH], options) * view
            values.append(torch.fft.rfftn(cubes, dim=(-3, -2, -1)).flatten(1)[:, index] * scale)
        power.append(measured.square() / variance)
        group += [number] * len(positions)
        wedges.append(wedge)
    return PatchSpectra(
        frequency.to(device),
        torch.cat(values).to(device),
        torch.stack(power).to(device),
        torch.tensor(group, device=device),
        tuple(wedges),
        dark,
    )


def _wedge(tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions) -> Wedge:
    """The wedge that patches of the tomogram's own voxels show: its edges lie where binned ones see little."""
    voxel_size = tomogram.voxel_size
    side = min(options.patch_side * options.patch_voxel_size // (2 * voxel_size) * 2, _WEDGE_SIDE)
    chosen = positions[evenly_spaced_rows(len(positions), _WEDGE_SAMPLE)]
    patches = torch.from_numpy(cut_patches(tomogram, chosen, side=int(side), centring="rounded"))
    return estimate_wedge(mean_power(patches, window(int(side), voxel_size, side * voxel_size / 2)), voxel_size)


def _cut(tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions) -> Tensor:
    return torch.from_numpy(
        cut_patches(tomogram, positions, side=options.patch_side, voxel_size=options.patch_voxel_size)
    )


def _dark(places: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions) -> bool:
    """Whether particles are dark: told, or seen in their middles; dark, as is usual, where it cannot be seen."""
    if options.contrast != "found":
        return options.contrast == "dark"
    ball = offsets(options.patch_side, options.patch_voxel_size).norm(dim=-1) < 0.6 * options.radius
    levels = torch.cat(
        [_cut(tomogram, at[evenly_spaced_rows(len(at), _SAMPLE)], options)[:, ball].mean(1) for tomogram, at in places]
    )
    error = float(levels.std()) / len(levels) ** 0.5 if len(levels) > 1 else torch.inf
    return float(levels.mean()) < _CLEARLY * error


_SIDE, _SIZE_SAMPLE, _SIZE_BATCH = 30, 240, 32
"""Voxels along the patches, half as many again as a search's; and most particles that are looked at."""
_PER_EDGE = 2.4
"""The diameter that fits over the radius of the edge: particles are not round, and the mask needs some room."""
_SIZE_CLEARLY, _SMALLEST, _LARGEST = 5.0, 0.8, 1.35
"""Standard errors that particles must stand out by, and shares of the diameter given that are no reason to warn."""


def diameter_warning(places: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions, *, dark: bool) -> str:
    """A warning where another diameter fits the particles far better than the one given; else empty.

    Parameters
    ----------
    places : tomograms with the middles of particles (N, 3) xyz in Å.
    dark : whether particles are darker than their surroundings.
    """
    fits = estimate_diameter(places, options, dark=dark)
    if fits is None or _SMALLEST <= fits / options.diameter <= _LARGEST:
        return ""
    seen = "wider" if fits > options.diameter else "smaller"
    return (
        f"Note: the particles look {seen} than the diameter of {options.diameter:g} Å: about {fits:.0f} Å would fit "
        "their mean density better."
    )


def estimate_diameter(
    places: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions, *, dark: bool
) -> float | None:
    """The diameter in Å that fits the particles' mean density, to 10 Å; None where they do not stand out.

    It is seen up to 2.4 times the diameter given.
    """
    voxel_size = options.patch_voxel_size
    extent = min(min(item.extent.size) * item.voxel_size for item, _ in places)
    side = min(_SIDE, int(extent / voxel_size) // 2 * 2)
    profiles = _profiles(places, side, voxel_size) * (-1 if dark else 1)
    profile = profiles.mean(0)
    top = int(profile.argmax())
    below = np.flatnonzero(profile[top:] <= 0)
    edge = top + int(below[0]) if len(below) else len(profile) - 1
    level = profiles[:, : edge // 2 + 1].mean(1)
    if level.mean() < _SIZE_CLEARLY * level.std() / len(level) ** 0.5:
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
        rows = positions[:: -(-total // _SIZE_SAMPLE)]
        for first in range(0, len(rows), _SIZE_BATCH):
            patches = cut_patches(tomogram, rows[first : first + _SIZE_BATCH], side=side, voxel_size=voxel_size)
            answer.append(patches.reshape(len(patches), -1)[:, within.numpy()] @ share)
    return np.concatenate(answer)
