"""Which shipped template fits the particles of a tomogram best: a hint where it is not the one that was chosen.

A few dozen patches are matched with every shipped template through the forward model of the tomogram. Each is fitted
with an amplitude of its own, so that its log-likelihood gain ΔL compares with that of the others. A template is
proposed where its mean ΔL is larger significantly, and by a share that chance and neighbours do not make.

A template that matches hardly better than noise has estimated no model to compare in, and its patches may be too small
for the others. There each of these estimates a model of its own, and what compares is how far the median score lies
above the scores of noise, in their standard deviations.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.matching.search import build_search
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model_files import ModelFile, shipped_templates
from napari_orient.engine.particles import Particles, Tomogram, evenly_spaced_rows
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.patch_fits import search_and_fit
from napari_orient.engine.refinement.refine import cut_for, prepare_finder
from napari_orient.engine.streams import Note, Step, Stream, stoppable
from napari_orient.engine.templates import Template

_SAMPLE = 24
"""Patches that are matched with each template, at most."""
_LEAST = 4
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
_POOR = 2.5
"""Standard deviations of noise's scores above their mean, of the median score, below which a template fits poorly;
chosen: the proteasome on ribosomes 1.7, PolNet's own particles 6 to 25."""
_CLEARLY = 2.0
"""Standard deviations by which another template must lie farther above noise, to be proposed; chosen."""


def compare_with_shipped(
    finder: PoseFinder, tomogram: Tomogram, particles: Particles, template: Template
) -> Stream[Step, Note | None]:
    """A warning that names the shipped template which fits better than the one chosen; None where there is none.

    Parameters
    ----------
    finder : of the template chosen, for the tomogram.
    particles : of the tomogram; some of them are compared.
    """
    some = particles.take(evenly_spaced_rows(len(particles), _SAMPLE))
    patches = cut_for(finder, tomogram, some)
    note = yield from better_template(finder, patches, template)
    if note is None and len(some) >= _LEAST and _above_noise(finder, patches) < _POOR:
        note = yield from _better_by_its_own_model(finder, tomogram, some, template)
    return note


@torch.no_grad()
def better_template(finder: PoseFinder, patches: Tensor, template: Template) -> Stream[Step, Note | None]:
    """A warning that names the shipped template which fits better than the one chosen; None where there is none.

    Parameters
    ----------
    finder : of the template chosen, for the tomogram that the patches (N, n, n, n) are of.
    """
    if len(patches) < _LEAST:
        return None
    own = _gains(finder, patches)
    best: tuple[float, float, str] | None = None
    for name in shipped_templates():
        if name == template.name:
            continue
        step = Step(0, 1, f"Comparing with {name}")
        yield step
        other = Template.from_file(ModelFile.read(name))
        reference = build_reference(other.density, other.voxel_size, resolution=finder.reference.resolution)
        options = replace(finder.options.search, rotations=_ROTATIONS)
        reference = reference.to(finder.reference.device)
        search = yield from stoppable(build_search(reference, finder.search.model, other.group, options), step)
        gain = _gains(replace(finder, search=search), patches)
        difference = gain - own
        z = float(difference.mean() / (difference.std() / len(difference) ** 0.5).clamp_min(1e-9))
        ratio = float(gain.mean() / own.mean().clamp_min(1e-9))
        if z > _SIGNIFICANT and ratio > _LEAST_RATIO and (best is None or ratio > best[0]):
            best = ratio, z, name
    if best is None:
        return None
    ratio, z, name = best
    return Note(
        f"the shipped template {name} fits these particles better than {template.name}: {ratio:.2f} times its mean "
        f"log-likelihood gain ({z:.1f} σ, {len(patches)} particles). Is it the right molecule? Try {name}.",
        "warning",
    )


def _gains(finder: PoseFinder, patches: Tensor) -> Tensor:
    """Log-likelihood gain of the best fit of each patch, (N,)."""
    return search_and_fit(finder.search, patches, starts=_STARTS, places=1).fits[0].log_likelihood_gain


def _better_by_its_own_model(
    finder: PoseFinder, tomogram: Tomogram, particles: Particles, template: Template
) -> Stream[Step, Note | None]:
    """As `compare_with_shipped`, each template with the tomogram's model that it estimates itself."""
    own = _above_noise(finder, cut_for(finder, tomogram, particles))
    best, options = ("", own), finder.options.replace(precision="fast")
    for name in shipped_templates():
        if name == template.name:
            continue
        other, words = Template.from_file(ModelFile.read(name)), f"Comparing with {name}"
        stream = prepare_finder(tomogram, particles, other, options)
        try:
            prepared = yield from stoppable(stream, Step(0, 1, words))
        except InputError:
            continue
        found = _above_noise(prepared, cut_for(prepared, tomogram, particles))
        if found > max(own + _CLEARLY, _POOR, best[1]):
            best = name, found
    if not best[0]:
        return None
    return Note(
        f"the shipped template {best[0]} fits these particles better than {template.name}: its median score lies "
        f"{best[1]:.1f} standard deviations above that of noise, for {own:.1f}. Is it the right molecule? "
        f"Try {best[0]}.",
        "warning",
    )


def _above_noise(finder: PoseFinder, patches: Tensor) -> float:
    """Median score in the patches above the mean of noise's, in standard deviations of these."""
    noise = finder.detection
    if noise is None:
        return float("nan")
    return (float(finder.find(patches).local_score.median()) - noise.noise) / noise.noise_spread
