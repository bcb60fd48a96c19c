"""Are the particles another molecule than the model's? Their average beside the map, and other shipped templates.

**Average.** A network answers for whatever is picked, and has no residuals that would show what it lacks, as a
template's do (`refinement.diagnostics`). Whether the particles are its molecule shows in their average, which needs no
training and no truth: two half averages have the map of these particles in common, and the network's map ρ must be
that. With C_12 the Fourier shell correlation of the half averages, and C_ρ the mean of theirs with ρ,

    q = Σ C_ρ² / Σ C_12

over the coefficients of all shells where the halves correlate. If the particles' map is ρ, C_ρ² = C_12 in the mean
(Rosenthal & Henderson 2003, J. Mol. Biol. 333:721, eq. 13), whatever noise, gain and errors of poses leave of it, and
q is 1; else q is the share of what the halves have in common that ρ explains. The sign of the contrast, and of a
contrast transfer from shell to shell, drops out. Poses that were fitted to noise pull q towards 1, never away from it.

**Templates.** A few dozen patches are matched with every shipped template through the forward model of the tomogram.
Each is fitted with an amplitude of its own, so that its log-likelihood gain ΔL compares with that of the others. A
template is proposed where its mean ΔL is larger significantly, and by a share that chance and neighbours do not make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.averaging import Average, average, duplicate_distance
from napari_orient.engine.duplicates import duplicate_rows
from napari_orient.engine.map_resolution import ball_mask, fourier_shell_correlation
from napari_orient.engine.matching.search import build_search
from napari_orient.engine.model.grid import peak_place
from napari_orient.engine.model.reference import build_reference, resampled
from napari_orient.engine.model_files import ModelFile, shipped_templates
from napari_orient.engine.parameters import AveragingOptions, WedgeOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, evenly_spaced_rows
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.patch_fits import search_and_fit
from napari_orient.engine.refinement.refine import cut_for
from napari_orient.engine.streams import Note, Step, Stream, stoppable
from napari_orient.engine.templates import Template

# --- the average beside the map ---------------------------------------------------------------------------------------

_LIKELY = 0.5
"""Confidence from which a pose is averaged; chosen."""
_LEAST_AVERAGED = 8
"""Particles from which an average is compared with the map."""
_MOST_AVERAGED = 48
"""Particles that are averaged, at most; chosen: 30 determine q to 0.03 in simulated tomograms."""
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
    if len(likely) < _LEAST_AVERAGED:
        return None
    rows = likely[evenly_spaced_rows(len(likely), _MOST_AVERAGED)]
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
    resolution = _FINEST_VOXELS * size
    density = resampled(template.density, template.voxel_size, side=side, to=size, resolution=resolution) * mask
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


def _brought_to(
    density: FloatArray, halves: Sequence[FloatArray], voxel_size: float, radius: float
) -> list[FloatArray]:
    """Half maps (n, n, n) shifted alike to where their sum correlates best with a density, of either sign."""
    spectra = [np.fft.fftn(half) for half in halves]
    correlation = np.abs(np.fft.ifftn(np.fft.fftn(density).conj() * sum(spectra)).real)
    line = np.abs(np.fft.fftfreq(len(density), 1 / len(density))) * voxel_size
    far = np.maximum(np.maximum(line[:, None, None], line[:, None]), line) > _FARTHEST * radius
    shift = peak_place(correlation, ~far)
    cycles = np.fft.fftfreq(len(density))
    ramp = cycles[:, None, None] * shift[0] + cycles[:, None] * shift[1] + cycles * shift[2]
    return [np.fft.ifftn(spectrum * np.exp(2j * np.pi * ramp)).real for spectrum in spectra]


# --- other shipped templates ------------------------------------------------------------------------------------------

_COMPARED = 24
"""Patches that are matched with each template, at most."""
_LEAST_COMPARED = 4
"""Patches from which templates are compared."""
_ROTATIONS = 1152
"""Rotations that each template is searched in: fits make up for the coarser grid."""
_STARTS = 2
"""Rotations of each patch that are fitted."""
_SIGNIFICANT = 3.0
"""Standard errors from which a difference counts."""
_LEAST_RATIO = 1.15
"""Mean log-likelihood gain over that of the chosen template, from which another one is proposed; chosen. Of particles
that the chosen one was made for, others have 0.51 times the gain at most (simulated), 0.83 on real ribosomes; where
another one is right, it has 1.8 (80S for 70S, simulated) to 3.7 times (proteasome for 70S)."""


def compare_with_shipped(
    finder: PoseFinder, tomogram: Tomogram, particles: Particles, template: Template
) -> Stream[Step, Note | None]:
    """A warning that names the shipped template which fits better than the one chosen; None where there is none.

    Parameters
    ----------
    finder : of the template chosen, for the tomogram.
    particles : of the tomogram; some of them are compared.
    """
    some = particles.take(evenly_spaced_rows(len(particles), _COMPARED))
    return (yield from better_template(finder, cut_for(finder, tomogram, some), template))


@torch.no_grad()
def better_template(finder: PoseFinder, patches: Tensor, template: Template) -> Stream[Step, Note | None]:
    """A warning that names the shipped template which fits better than the one chosen; None where there is none.

    Parameters
    ----------
    finder : of the template chosen, for the tomogram that the patches (N, n, n, n) are of.
    """
    if len(patches) < _LEAST_COMPARED:
        return None
    own = _gains(finder, patches)
    # A table of what the search matches, and no more, is built the quicker.
    resolution = 1 / float(finder.search.model.frequency.norm(dim=-1).max())
    best: tuple[float, float, str] | None = None
    for other in _others(template):
        step = Step(0, 1, f"Comparing with {other.name}")
        yield step
        reference = build_reference(other.density, other.voxel_size, resolution=resolution)
        options = replace(finder.options.search, rotations=_ROTATIONS)
        reference = reference.to(finder.reference.device)
        search = yield from stoppable(build_search(reference, finder.search.model, other.group, options), step)
        gain = _gains(replace(finder, search=search), patches)
        difference = gain - own
        z = float(difference.mean() / (difference.std() / len(difference) ** 0.5).clamp_min(1e-9))
        ratio = float(gain.mean() / own.mean().clamp_min(1e-9))
        if z > _SIGNIFICANT and ratio > _LEAST_RATIO and (best is None or ratio > best[0]):
            best = ratio, z, other.name
    if best is None:
        return None
    ratio, z, name = best
    return Note(
        f"the shipped template {name} fits these particles better than {template.name}: {ratio:.2f} times its mean "
        f"log-likelihood gain ({z:.1f} σ, {len(patches)} particles). Is it the right molecule? Try {name}.",
        "warning",
    )


def _others(template: Template) -> Iterator[Template]:
    """The shipped templates but this one."""
    return (Template.from_file(ModelFile.read(name)) for name in shipped_templates() if name != template.name)


def _gains(finder: PoseFinder, patches: Tensor) -> Tensor:
    """Log-likelihood gain of the best fit of each patch, (N,)."""
    return search_and_fit(finder.search, patches, starts=_STARTS, places=1).fits[0].log_likelihood_gain
