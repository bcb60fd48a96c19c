"""What looks wrong with a reference, its hand, the wedge or the contrast, seen in the patches themselves.

What particles have in common that the reference does not explain: the sign of another molecule.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.search import MatchedFilterSearch, build_search
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.model.reference import Reference, mirrored
from napari_orient.engine.refinement.finder import PoseFinder, candidates
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.streams import Note
from napari_orient.engine.symmetry import Symmetry

_SAMPLE, _FEWEST = 32, 4
_CLEARLY = 3.0
_UNCERTAIN_DEG = 20.0
_ENOUGH = 8
_COARSE, _MOST_UNEXPLAINED = 0.4, 0.1
"""Of detail no finer than so many radii, which any good reference knows well."""
_ABOVE_NOISE = 1.53
_NOISES = 16


@torch.no_grad()
def diagnostics(finder: PoseFinder, patches: Tensor) -> tuple[Note, ...]:
    """A warning for each thing that looks wrong; none where reference, hand, wedge and contrast fit.

    Parameters
    ----------
    patches : (N, n, n, n) of the tomogram that the finder has learnt; a few dozen of them are looked at.
    """
    some = patches[:_SAMPLE]
    poses = finder.find(some)
    strange = _faintness(finder, poses) or _hand(finder, some) or _molecule(finder, some, poses)
    lines = [_wedge(finder), _contrast(finder), _sureness(poses), strange]
    return tuple(Note(line, "warning") for line in lines if line)


def _wedge(finder: PoseFinder) -> str:
    used, found = finder.wedge, finder.found_wedge
    if used.axis == found.axis:
        return ""
    return (
        f"the patches look tilted about {found.axis} ({found.low_deg:g}° to {found.high_deg:g}°), "
        f"but {used.axis} was told. Check the tilt axis."
    )


def _contrast(finder: PoseFinder) -> str:
    if finder.particles_dark:
        return ""
    return (
        "particles are brighter than their surroundings here, which cryo-tomograms seldom show: "
        "is the contrast inverted?"
    )


def _sureness(poses: Poses) -> str:
    expected = float(poses.expected_error_deg.median())
    if expected < _UNCERTAIN_DEG:
        return ""
    return f"the usual expected error is {expected:.0f}°: this reference hardly tells these particles' poses apart."


def _faintness(finder: PoseFinder, poses: Poses) -> str:
    usual, chance = float(poses.score.median()), chance_score(finder)
    if usual > _ABOVE_NOISE * chance:
        return ""
    return (
        f"the usual score is {usual:.1f} where noise alone reaches {chance:.1f}: either these particles are another "
        "molecule, or the noise hides them. Check the reference and the picks."
    )


@torch.no_grad()
def chance_score(finder: PoseFinder) -> float:
    """The best score, on average, of all the search's rotations and places in patches of noise alone."""
    options, filters = finder.options, finder.search.filters
    across = max(1, round(4 * options.search.max_shift / options.search.search_resolution))
    noise = torch.randn(_NOISES * across**3, filters.filters.shape[1], generator=torch.Generator().manual_seed(0))
    scores = [part.to(filters.filters) @ filters.filters.T for part in noise.split(across**3)]
    return float(torch.stack([score.max() for score in scores]).mean())


def _molecule(finder: PoseFinder, patches: Tensor, poses: Poses) -> str:
    if len(patches) < _ENOUGH:
        return ""
    model = finder.full_model.within(_COARSE * finder.reference.radius)
    share, scatter = residual_power(finder.reference, model, patches, poses)
    if share < _MOST_UNEXPLAINED or share < _CLEARLY * scatter:
        return ""
    return (
        f"the particles have density in common that this reference lacks, {share:.0%} of what it explains: "
        "is it the right molecule? Average them to see what they are."
    )


def _hand(finder: PoseFinder, patches: Tensor) -> str:
    """Compare the match with that of the reference's mirror image."""
    if len(patches) < _FEWEST:
        return ""
    search = finder.search
    group = _mirrored_group(finder.group)
    other = build_search(mirrored(finder.reference), search.model, group, finder.options.search)
    gain = _evidence(search, patches) - _evidence(other, patches)
    mean, error = float(gain.mean()), float(gain.std()) / len(gain) ** 0.5
    if mean >= -_CLEARLY * error:
        return ""
    return (
        "the mirror image of the reference matches better than the reference itself: is its hand right, "
        "and is it the right molecule?"
    )


def _mirrored_group(group: Symmetry) -> Symmetry:
    """The group of the mirror image in the plane x = 0."""
    flip = np.diag([-1.0, 1.0, 1.0])
    return replace(group, matrices=flip @ group.matrices @ flip, frame=flip @ group.frame @ flip)


def _evidence(search: MatchedFilterSearch, patches: Tensor) -> Tensor:
    return candidates(search, patches, starts=3, places=1)[0][0].log_likelihood_gain


_LEAST_WEIGHT = 1e-6
_SPHERE_OVER_WEDGE = 1.5


@torch.no_grad()
def residual_power(reference: Reference, model: ForwardModel, patches: Tensor, poses: Poses) -> tuple[float, float]:
    """Power that patches have in common beyond a reference, over what it explains; and what noise may make of that.

    What each patch leaves of its fitted reference is turned back to the reference's frame and averaged, in two halves
    of the particles. Noise and neighbours differ between the halves; what is alike in both is density that the
    reference lacks. The second number is the standard deviation of the first where there is none.

    Parameters
    ----------
    model : of the tomogram, all coefficients.
    patches : (N, n, n, n), at least two.
    poses : the reference's in them.
    """
    reference, model = reference.to("cpu"), model.to("cpu")
    left = _left(reference, model, patches.cpu(), poses)
    halves = [Gridding(model.box, model.voxel_size) for _ in range(2)]
    for turn, half in enumerate(halves):
        half.add(left.take(torch.arange(turn, len(patches), 2)))
    (first, weight), (second, other) = (half.sums() for half in halves)
    laid = (weight * other) > 0
    both = (weight * other)[laid].sqrt()
    alike = float(((first * second.conj()).real[laid] / both).sum())
    power = reference.transform(halves[0].frequency[laid]).abs().square()
    explained = float((both * power).sum() * poses.amplitude.square().mean())
    scatter: float = (_SPHERE_OVER_WEDGE * len(model.indices) / 2) ** 0.5
    return alike / explained, 2 * scatter / explained


def _left(reference: Reference, model: ForwardModel, patches: Tensor, poses: Poses) -> Coefficients:
    """What the fitted reference leaves of patches, about the particles' centres, in the reference's units."""
    voxels = torch.round(poses.shifts / model.voxel_size)
    observed = torch.view_as_complex(model.observe(patches, voxels).movedim(1, -1).contiguous())
    angle = 2 * torch.pi * ((poses.shifts - voxels * model.voxel_size) @ model.frequency.T)
    shown = reference.transform(model.frequency @ poses.rotations) * poses.amplitude.clamp_min(0)[:, None]
    weight = model.whitened_gain.clamp_min(_LEAST_WEIGHT)
    values = observed * torch.polar(torch.ones_like(angle), angle) / weight - shown
    return Coefficients(values, weight.square(), model.frequency, poses.rotations)
