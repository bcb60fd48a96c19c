"""Agreement of particles, averaged in the poses that a network found, with the map that it was trained on.

A network answers for whatever is picked, and has no residuals that would show what it lacks, as a template's do
(`refinement.diagnostics`). Whether the particles are its molecule shows in their average, which needs no training and
no truth: two half averages have the map of these particles in common, and the network's map ρ must be that. With C_12
the Fourier shell correlation of the half averages, and C_ρ the mean of theirs with ρ,

    q = Σ C_ρ² / Σ C_12

over the coefficients of all shells where the halves correlate. If the particles' map is ρ, C_ρ² = C_12 in the mean
(Rosenthal & Henderson 2003, J. Mol. Biol. 333:721, eq. 13), whatever noise, gain and errors of poses leave of it, and
q is 1; else q is the share of what the halves have in common that ρ explains. The sign of the contrast, and of a
contrast transfer from shell to shell, drops out. Poses that were fitted to noise pull q towards 1, never away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from napari_orient.engine.averaging import Average, average, duplicate_distance
from napari_orient.engine.duplicates import duplicate_rows
from napari_orient.engine.map_resolution import ball_mask, fourier_shell_correlation
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import AveragingOptions, WedgeOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, evenly_spaced_rows
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import Template

_LIKELY = 0.5
"""Confidence from which a pose is averaged; chosen."""
_LEAST, _MOST = 8, 48
"""Particles that are averaged, at least and at most; chosen: 30 determine q to 0.03 in simulated tomograms."""
_LEAST_SHARE = 0.5
"""q below which it is another molecule. In simulated tomograms the ribosome that a network learnt has 1.0, after
strong total variation 0.6; ribosomes of other species have 0.2 (mitochondrial) and 0.4 (human). Chosen between."""
_LEAST_CORRELATION = 0.3
"""C_12 from which a shell counts: below, noise weighs more than what the halves have in common. Chosen."""
_LEAST_SHELLS = 3
"""Shells from which molecules are compared: fewer show size alone."""
_COARSEST = 1.0
"""Radii of the map, period of the coarsest detail that is compared: its size alone decides beyond. Chosen."""
_FINEST = 0.4
"""The same of the finest: what a nonlinear filter makes of a tomogram is in both halves beyond, and not in the map."""
_FINEST_VOXELS = 2.4
"""Voxels, period of the finest detail of the map on the average's grid; 2 is Nyquist's."""
_VOXELS_IN_RADIUS = 14
"""Voxels that a map's radius is averaged in, at most: enough for detail of a sixth of it, whatever the tomogram's."""
_EDGE_VOXELS = 6
"""Voxels beside the map's radius in a box, for the soft edges of mask and window."""
_FARTHEST = 0.5
"""Radii that all picks may be off the map's origin by, as those at a centre of mass are."""


@dataclass(frozen=True)
class MapAgreement:
    """How far particles agree with a map.

    Parameters
    ----------
    share : q, of what half averages have in common, the share that the map explains; about 1 if it is the molecule.
    resolution : Å of the finest shell compared.
    count : particles averaged.
    """

    share: float
    resolution: float
    count: int

    @property
    def differs(self) -> bool:
        """Whether the particles are another molecule."""
        return self.share < _LEAST_SHARE

    def text(self, name: str) -> str:
        """A warning to a person who chose the model of this name."""
        return (
            f"the average of {self.count} of these particles is not the map that {name} was made from: to "
            f"{self.resolution:.0f} Å the map explains {max(self.share, 0.0):.0%} of it. Is it the right molecule? "
            "Average the particles to see what they are."
        )


def map_agreement(
    tomogram: Tomogram, particles: Particles, template: Template, wedge: WedgeOptions
) -> Stream[Step, MapAgreement | None]:
    """How far particles of a tomogram agree with a map in their poses; None of too few, or of too little signal.

    Parameters
    ----------
    particles : with rotations, in the map's frame, and confidence; those more likely right than wrong are averaged.
    """
    if particles.confidence is None:
        return None
    likely = np.flatnonzero(np.nan_to_num(particles.confidence) > _LIKELY)
    if len(likely) < _LEAST:
        return None
    rows = likely[evenly_spaced_rows(len(likely), _MOST)]
    voxel_size = max(tomogram.voxel_size, template.radius / _VOXELS_IN_RADIUS)
    side = 2 * (int(np.ceil(template.radius / voxel_size)) + _EDGE_VOXELS)
    side = min(side, int(min(tomogram.density.shape) * tomogram.voxel_size / voxel_size) // 2 * 2)
    options = replace(AveragingOptions.of(side=side), wedge=wedge)
    chosen = particles.take(rows)
    if (~duplicate_rows(chosen, duplicate_distance(options, voxel_size))).sum() < 2:
        return None  # One place gives no two halves.
    found = yield from average([(tomogram, chosen)], options=options, voxel_size=voxel_size)
    return compared_with_map(found, template)


def compared_with_map(found: Average, template: Template) -> MapAgreement | None:
    """How far the halves of an average agree with a map; None where they have too little in common."""
    size, side = found.voxel_size, len(found.density)
    mask = ball_mask(side, size, template.radius)
    density = _on_grid(template, side, size) * mask
    halves = [found.first_half * mask, found.second_half * mask]
    first, second = _brought_to(density, halves, size, template.radius)
    curve = fourier_shell_correlation(first, second, size)
    each = [fourier_shell_correlation(half, density, size).correlation for half in (first, second)]
    with_map = (each[0] + each[1]) / 2
    frequency, in_common = curve.frequency, curve.correlation
    in_radii = 1 / (frequency * template.radius)
    compared = (in_common > _LEAST_CORRELATION) & (in_radii <= _COARSEST) & (in_radii >= _FINEST)
    if compared.sum() < _LEAST_SHELLS:
        return None
    coefficients = frequency[compared] ** 2
    explained = (coefficients * with_map[compared] ** 2).sum() / (coefficients * in_common[compared]).sum()
    return MapAgreement(float(explained), float(1 / frequency[compared].max()), found.count)


def _on_grid(template: Template, side: int, voxel_size: float) -> FloatArray:
    """The map low-passed on a grid (n, n, n) of these voxels, its origin at the centre ``(n - 1) / 2``."""
    reference = build_reference(template.density, template.voxel_size, resolution=_FINEST_VOXELS * voxel_size)
    grid = frequencies(side, voxel_size)
    centre = (side - 1) / 2 * voxel_size
    values = reference.transform(grid.reshape(-1, 3)).reshape(side, side, side)
    phase = torch.exp(-2j * torch.pi * centre * grid.sum(-1))
    density: FloatArray = torch.fft.ifftn(values * phase).real.numpy()
    return density


def _brought_to(
    density: FloatArray, halves: Sequence[FloatArray], voxel_size: float, radius: float
) -> list[FloatArray]:
    """Half maps (n, n, n) shifted alike to where their sum correlates best with a density, of either sign."""
    spectra = [np.fft.fftn(half) for half in halves]
    correlation = np.abs(np.fft.ifftn(np.fft.fftn(density).conj() * sum(spectra)).real)
    line = np.abs(np.fft.fftfreq(len(density), 1 / len(density))) * voxel_size
    far = np.maximum(np.maximum(line[:, None, None], line[:, None]), line) > _FARTHEST * radius
    best = np.array(np.unravel_index(np.where(far, -1.0, correlation).argmax(), density.shape))
    shift = best + [_vertex(correlation, best, axis) for axis in range(3)]
    cycles = np.fft.fftfreq(len(density))
    ramp = cycles[:, None, None] * shift[0] + cycles[:, None] * shift[1] + cycles * shift[2]
    return [np.fft.ifftn(spectrum * np.exp(2j * np.pi * ramp)).real for spectrum in spectra]


def _vertex(values: FloatArray, place: np.ndarray, axis: int) -> float:
    """Voxels from a maximum on the grid to that of the parabola through it and its neighbours along an axis."""
    step = np.eye(3, dtype=int)[axis]
    low, middle, high = (values[tuple((place + by * step) % len(values))] for by in (-1, 0, 1))
    curvature = low - 2 * middle + high
    return float((low - high) / (2 * curvature)) if curvature < 0 else 0.0
