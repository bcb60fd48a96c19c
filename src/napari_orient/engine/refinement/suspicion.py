"""What looks wrong with a reference, its hand, the wedge or the contrast, seen in the patches themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.search import MatchedFilterBank, build_bank
from napari_orient.engine.model.reference import mirrored
from napari_orient.engine.refinement.leftover import unexplained
from napari_orient.engine.refinement.matcher import Matcher, candidates
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.rotations import Symmetry

_SAMPLE, _FEWEST = 32, 4
_CLEARLY = 3.0
_UNCERTAIN_DEG = 20.0
_ENOUGH = 8
_COARSE, _MOST_UNEXPLAINED = 0.4, 0.1
"""Of detail no finer than so many radii, which any good reference knows well."""
_ABOVE_NOISE = 1.53
_NOISES = 16


@torch.no_grad()
def suspicions(matcher: Matcher, patches: Tensor) -> tuple[str, ...]:
    """A line for each thing that looks wrong; nothing for a reference, hand, wedge and contrast that fit.

    Parameters
    ----------
    patches : (N, n, n, n) of the tomogram that the matcher has learnt; a few dozen of them are looked at.
    """
    some = patches[:_SAMPLE]
    poses = matcher.solve(some)
    strange = _faintness(matcher, poses) or _hand(matcher, some) or _molecule(matcher, some, poses)
    lines = [_wedge(matcher), _contrast(matcher), _sureness(poses), strange]
    return tuple(line for line in lines if line)


def _wedge(matcher: Matcher) -> str:
    used, found = matcher.wedge, matcher.found_wedge
    if used.axis == found.axis:
        return ""
    return (
        f"the patches look tilted about {found.axis} ({found.low_deg:g}° to {found.high_deg:g}°), "
        f"but {used.axis} was told. Check the tilt axis."
    )


def _contrast(matcher: Matcher) -> str:
    if matcher.dark:
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


def _faintness(matcher: Matcher, poses: Poses) -> str:
    usual, chance = float(poses.score.median()), chance_score(matcher)
    if usual > _ABOVE_NOISE * chance:
        return ""
    return (
        f"the usual score is {usual:.1f} where noise alone reaches {chance:.1f}: either these particles are another "
        "molecule, or the noise hides them. Check the reference and the picks."
    )


@torch.no_grad()
def chance_score(matcher: Matcher) -> float:
    """The best score, on average, of all the bank's rotations and places in patches of noise alone."""
    options, filters = matcher.options, matcher.bank.filters
    across = max(1, round(4 * options.max_shift / options.search_resolution))
    noise = torch.randn(_NOISES * across**3, filters.turned.shape[1], generator=torch.Generator().manual_seed(0))
    scores = [part.to(filters.turned) @ filters.turned.T for part in noise.split(across**3)]
    return float(torch.stack([score.max() for score in scores]).mean())


def _molecule(matcher: Matcher, patches: Tensor, poses: Poses) -> str:
    if len(patches) < _ENOUGH:
        return ""
    imaging = matcher.full_imaging.within(_COARSE * matcher.reference.radius)
    share, scatter = unexplained(matcher.reference, imaging, patches, poses)
    if share < _MOST_UNEXPLAINED or share < _CLEARLY * scatter:
        return ""
    return (
        f"the particles have density in common that this reference lacks, {share:.0%} of what it explains: "
        "is it the right molecule? Average them to see what they are."
    )


def _hand(matcher: Matcher, patches: Tensor) -> str:
    """Compare the match with that of the reference's mirror image."""
    if len(patches) < _FEWEST:
        return ""
    bank = matcher.bank
    group = _mirrored_group(matcher.group)
    other = build_bank(mirrored(matcher.reference), bank.sight.imaging, group, matcher.options.bank())
    gain = _evidence(bank, patches, matcher.group) - _evidence(other, patches, group)
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


def _evidence(bank: MatchedFilterBank, patches: Tensor, group: Symmetry) -> Tensor:
    return candidates(bank, patches, group=group, starts=3)[0][0].evidence
