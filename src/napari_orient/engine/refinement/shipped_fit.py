"""Which shipped template fits the particles of a tomogram best: a hint where it is not the one that was chosen.

A few dozen patches are matched with every shipped template through the forward model of the tomogram. Each is fitted
with an amplitude of its own, so that its log-likelihood gain ΔL compares with that of the others. A template is
proposed where its mean ΔL is larger significantly, and by a share that chance and neighbours do not make.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from napari_orient.engine.matching.search import build_search
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model_files import ModelFile, shipped_templates
from napari_orient.engine.refinement.finder import PoseFinder, search_and_fit
from napari_orient.engine.streams import Note, Step, Stream, stoppable
from napari_orient.engine.templates import Template

SAMPLE = 24
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
"""Mean log-likelihood gain over that of the chosen template, from which another one is proposed. Simulated particles of
another species or of half the molecule make no more than 1.0; the 80S on 80S ribosomes makes 1.3 times the 70S. Chosen
between."""


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
    return search_and_fit(finder.search, patches, starts=_STARTS, places=1)[0][0].log_likelihood_gain
