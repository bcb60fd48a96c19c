"""What looks wrong with a reference, its hand, the wedge or the contrast, seen in the patches themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.reference import mirrored
from napari_orient.engine.networks.bank import MatchedFilterBank, build_bank, shown_reference
from napari_orient.engine.refinement.matcher import Matcher, candidates
from napari_orient.engine.rotations import Symmetry, even_rotations

_SAMPLE, _FEWEST = 32, 4
_POSES = 37
_CLEARLY = 3.0
_LEAST_SHARE = 0.3
_UNCERTAIN_DEG = 20.0


@torch.no_grad()
def suspicions(matcher: Matcher, patches: Tensor) -> tuple[str, ...]:
    """A line for each thing that looks wrong; nothing for a reference, hand, wedge and contrast that fit.

    Parameters
    ----------
    patches : (N, n, n, n) of the tomogram that the matcher has learnt; a few dozen of them are looked at.
    """
    some = patches[:_SAMPLE]
    lines = [_wedge(matcher), _contrast(matcher), _sureness(matcher, some), _hand(matcher, some)]
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


def _sureness(matcher: Matcher, patches: Tensor) -> str:
    expected = float(matcher.solve(patches).expected_error_deg.median())
    if expected < _UNCERTAIN_DEG:
        return ""
    return f"the usual expected error is {expected:.0f}°: this reference hardly tells these particles' poses apart."


def _hand(matcher: Matcher, patches: Tensor) -> str:
    """Compare the match with that of the reference's mirror image, which only the true molecule is sure to beat."""
    if len(patches) < _FEWEST:
        return ""
    bank = matcher.bank
    other = build_bank(
        mirrored(matcher.reference), bank.sight.imaging, _mirrored_group(matcher.group), matcher.options.bank()
    )
    own = _evidence(bank, patches)
    gain = own - _evidence(other, patches)
    mean, error = float(gain.mean()), float(gain.std()) / len(gain) ** 0.5
    if mean < -_CLEARLY * error:
        return "the mirror image of the reference matches better than the reference itself: is its hand right?"
    usual = float(own.mean()) * (1 - _likeness(bank, other))
    if usual > _CLEARLY * error and mean < _LEAST_SHARE * usual:
        return (
            "the reference matches hardly better than its mirror image "
            f"({mean:.1f} where {usual:.1f} is usual): is it the right molecule, and its hand right?"
        )
    return ""


def _mirrored_group(group: Symmetry) -> Symmetry:
    """The group of the mirror image in the plane x = 0."""
    flip = np.diag([-1.0, 1.0, 1.0])
    return replace(group, matrices=flip @ group.matrices @ flip, frame=flip @ group.frame @ flip)


def _evidence(bank: MatchedFilterBank, patches: Tensor) -> Tensor:
    return candidates(bank, patches, starts=3)[0][0].evidence


def _likeness(bank: MatchedFilterBank, other: MatchedFilterBank) -> float:
    """Share of the reference's evidence that its mirror image would have, were there no noise."""
    turns = torch.as_tensor(even_rotations(_POSES), dtype=torch.float32, device=bank.filters.rotations.device)
    shown = shown_reference(bank.sight.reference, bank.sight.imaging, turns)
    own, mirror = (item.filters(shown).amax(-1) for item in (bank, other))
    return float((mirror / own).square().mean())
