"""Whitened Fourier coefficients of small, binned patches, which the search works on, and the diameter that fits them.

With x the patch's coefficients, W the missing wedge, and σ² the noise power that each tomogram's own patches show, the
values kept are ``W x / σ²``, and the power ``W² / σ²``: a model m of length ``√(Σ power |m|²)`` matches a patch by
``Σ Re(values* m) / length`` standard deviations of the noise. Surroundings differ: a patch beside a membrane has
several times the power of another. Each is therefore divided by the root of its whitened power over the mean one's, so
that none counts for more in maps and scores because of what else it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.model.grid import half_sphere, offsets, unit_phase
from napari_orient.engine.model.noise import mean_power, smooth_spectrum, window, without_flat_patches
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.streams import Work
from napari_orient.engine.tomogram.prewhitening import before_levelling
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry, tilt_geometry

FINEST = 2.1
"""Finest detail that the search uses, in voxels of its binned patches: Nyquist is 2."""
BATCH = 64
"""Patches, or rotations of a map, handled together: memory, not the result."""
_SAMPLE = 256
"""Most patches of a tomogram that its noise and the contrast are estimated from."""
_LEAST_POWER = 1e-3
"""Power over the largest one from which a coefficient counts as measured; the others lie in the missing wedge."""
_BRIGHT = 3.0
"""Standard errors above the surroundings from which particles count as bright; most tomograms have dark ones."""
_CONTRAST_BALL = 0.6
"""Radius of the ball whose density shows the contrast, in radii of the particle."""


@dataclass(frozen=True, eq=False)
class PatchSpectra:
    """Coefficients of N particles of G tomograms, nearest the origin first; particles are positive.

    Parameters
    ----------
    frequency : (M, 3) xyz in cycles/Å; one of each pair of Friedel mates.
    values : (N, M) complex, about the picks, multiplied by the wedge over the noise's variance.
    power : (G, M) the wedge's square over the noise's variance.
    group : (N,) which tomogram.
    geometries : how each tomogram was tilted, by its name.
    dark : whether particles are darker than their surroundings.
    """

    frequency: Tensor
    values: Tensor
    power: Tensor
    group: Tensor
    geometries: Mapping[str, TiltGeometry]
    dark: bool

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """Where the coefficients lie."""
        return self.values.device

    def within(self, resolution: float) -> PatchSpectra:
        """The same particles, low-passed to a resolution in Å."""
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

    def shifted(self, shifts: Tensor) -> Tensor:
        """The coefficients (N, M) about points that lie shifts (N, 3) in Å off the picks."""
        angle = 2 * torch.pi * (shifts @ self.frequency.T)
        return self.values * unit_phase(angle)


def observe_patches(
    positions: Sequence[tuple[Tomogram, FloatArray]],
    options: DiscoveryOptions,
    *,
    device: torch.device,
    known: PatchSpectra | None = None,
) -> Work[PatchSpectra]:
    """The spectra of the patches about positions (N, 3) in each tomogram, in order.

    Noise and wedge are those of each tomogram's own patches. Patches are cut batch by batch; only their coefficients
    are kept.

    Parameters
    ----------
    known : spectra of other picks of the tomograms, whose contrast and tilt geometry hold for these too.

    Raises
    ------
    InputError
        If a tomogram is flat around all of its particles.
    """
    dark = _dark(positions, options) if known is None else known.dark
    yield
    geometries: dict[str, TiltGeometry] = {} if known is None else dict(known.geometries)
    observed = []
    for tomogram, at in positions:
        if tomogram.name not in geometries:
            geometries[tomogram.name] = _geometry(tomogram, at, options)
        wedge = geometries[tomogram.name].wedge
        observed.append((yield from _observe_tomogram(tomogram, at, options, wedge, sign=-1.0 if dark else 1.0)))
    values, power = zip(*observed, strict=True)
    counts = torch.tensor([len(at) for _, at in positions])
    _, frequency = half_sphere(options.patch_side, options.patch_voxel_size, FINEST * options.patch_voxel_size)
    return PatchSpectra(
        frequency.to(device),
        torch.cat(list(values)).to(device),
        torch.stack(list(power)).to(device),
        torch.repeat_interleave(counts).to(device),
        geometries,
        dark,
    )


def _observe_tomogram(
    tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions, wedge: Wedge, *, sign: float
) -> Work[tuple[Tensor, Tensor]]:
    """Values (N, M) and power (M,) of one tomogram's patches, as `PatchSpectra` holds them."""
    side, voxel_size = options.patch_side, options.patch_voxel_size
    index, frequency = half_sphere(side, voxel_size, FINEST * voxel_size)
    view = window(side, voxel_size, options.radius)
    sample = _cut(tomogram, positions[evenly_spaced_rows(len(positions), _SAMPLE)], options)
    sample = without_flat_patches(sample, tomogram.name)
    yield
    noise = smooth_spectrum(mean_power(sample, view), wedge, voxel_size)[:, :, : side // 2 + 1].flatten()[index]
    # A coefficient's real part has half its power.
    variance = noise * view.square().sum() / 2
    measured = wedge.weights(frequency, 1 / (side * voxel_size))
    phase = torch.polar(torch.ones(len(index)), 2 * torch.pi * (side // 2 * voxel_size) * frequency.sum(-1))
    scale, values = phase * (measured / variance) * sign, []
    for start in range(0, len(positions), BATCH):
        cubes = _cut(tomogram, positions[start : start + BATCH], options) * view
        values.append(torch.fft.rfftn(cubes, dim=(-3, -2, -1)).flatten(1)[:, index] * scale)
        yield
    power = measured.square() / variance
    return _at_mean_power(torch.cat(values), power), power


def _at_mean_power(values: Tensor, power: Tensor) -> Tensor:
    """Values (N, M) of patches, brought to the mean of their whitened powers; a flat patch stays flat."""
    measured = power > _LEAST_POWER * power.amax()
    whitened = (values[:, measured].abs().square() / power[measured]).mean(1)
    return values * (whitened.mean() / whitened.clamp_min(1e-12)).sqrt()[:, None]


def _geometry(tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions) -> TiltGeometry:
    """The tilt geometry by patches at the tomogram's own voxels: binned ones hold too little where its edges lie."""
    side = int(options.patch_side * options.patch_voxel_size // (2 * tomogram.voxel_size) * 2)
    return tilt_geometry(tomogram, positions, options.wedge, side=side)


def _cut(tomogram: Tomogram, positions: FloatArray, options: DiscoveryOptions) -> Tensor:
    return torch.from_numpy(
        cut_patches(tomogram, positions, side=options.patch_side, voxel_size=options.patch_voxel_size, level=True)
    )


def _dark(positions: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions) -> bool:
    """Whether particles are dark, by the options or by their mean density; dark, as is usual, where that is unclear."""
    if options.contrast != "found":
        return options.contrast == "dark"
    ball = offsets(options.patch_side, options.patch_voxel_size).norm(dim=-1) < _CONTRAST_BALL * options.radius
    levels = torch.cat(
        [
            _cut(before_levelling(tomogram), at[evenly_spaced_rows(len(at), _SAMPLE)], options)[:, ball].mean(1)
            for tomogram, at in positions
        ]
    )
    error = float(levels.std()) / len(levels) ** 0.5 if len(levels) > 1 else torch.inf
    return float(levels.mean()) < _BRIGHT * error


# --- the diameter that fits ---------------------------------------------------------------------------------------

_PROFILE_SIDE = 30
"""Voxels along the patches of radial profiles: half as many again as the search's, to show a particle that is wider."""
_PROFILE_SAMPLE = 240
"""Most particles whose radial profiles are averaged."""
_DIAMETER_PER_EDGE = 2.4
"""Diameter that fits, over the radius where the mean profile falls to 0: particles are not round, and the mask needs
some room. Of PolNet's ribosomes and proteasomes it gives 300 and 230 Å (docs/discovery.md)."""
_VISIBLE = 5.0
"""Standard errors that the mean density must be above its surroundings, for an edge to be searched for."""
_SMALLEST_FIT = 0.8
"""Least ratio of the diameter that fits to the one given that is no reason to warn."""
_LARGEST_FIT = 1.35
"""Largest such ratio: a diameter that is given somewhat small does no harm."""


def diameter_warning(positions: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions, *, dark: bool) -> str:
    """A warning where another diameter fits the particles far better than the one given; else empty.

    Parameters
    ----------
    positions : tomograms with the centres of particles (N, 3) xyz in Å.
    dark : whether particles are darker than their surroundings.
    """
    fits = estimate_diameter(positions, options, dark=dark)
    if fits is None or _SMALLEST_FIT <= fits / options.diameter <= _LARGEST_FIT:
        return ""
    comparison = "wider" if fits > options.diameter else "smaller"
    return (
        f"Note: the particles look {comparison} than the diameter of {options.diameter:g} Å: about {fits:.0f} Å would "
        "fit their mean density better."
    )


def estimate_diameter(
    positions: Sequence[tuple[Tomogram, FloatArray]], options: DiscoveryOptions, *, dark: bool
) -> float | None:
    """The diameter in Å that fits the particles' mean radial profile, to 10 Å; None where they do not stand out.

    It is at most 2.4 times the diameter given.
    """
    voxel_size = options.patch_voxel_size
    extent = min(min(item.extent.size) * item.voxel_size for item, _ in positions)
    side = min(_PROFILE_SIDE, int(extent / voxel_size) // 2 * 2)
    profiles = _radial_profiles(positions, side, voxel_size) * (-1 if dark else 1)
    profile = profiles.mean(0)
    top = int(profile.argmax())
    below = np.flatnonzero(profile[top:] <= 0)
    edge = top + int(below[0]) if len(below) else len(profile) - 1
    level = profiles[:, : edge // 2 + 1].mean(1)
    if level.mean() < _VISIBLE * level.std() / len(level) ** 0.5:
        return None
    inner = edge - 1 + profile[edge - 1] / max(profile[edge - 1] - profile[edge], 1e-9) if len(below) else edge
    return round(_DIAMETER_PER_EDGE * (inner + 0.5) * voxel_size / 10) * 10.0


def _radial_profiles(
    positions: Sequence[tuple[Tomogram, FloatArray]], side: int, voxel_size: float
) -> NDArray[np.float32]:
    """Mean density of some particles in shells a voxel thick, (N, side // 2)."""
    shell = (offsets(side, voxel_size).norm(dim=-1) / voxel_size).floor().long().flatten()
    within = shell < side // 2
    members = torch.nn.functional.one_hot(shell[within]).float()
    weight = (members / members.sum(0)).numpy()
    total = sum(len(at) for _, at in positions)
    profiles = []
    for tomogram, at in positions:
        rows = at[:: -(-total // _PROFILE_SAMPLE)]
        for first in range(0, len(rows), BATCH):
            some = rows[first : first + BATCH]
            patches = cut_patches(before_levelling(tomogram), some, side=side, voxel_size=voxel_size)
            profiles.append(patches.reshape(len(patches), -1)[:, within.numpy()] @ weight)
    return np.concatenate(profiles)
