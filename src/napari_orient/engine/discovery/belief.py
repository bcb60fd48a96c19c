"""Whether to believe a discovery: what independent starts, half maps and posteriors say, and a plain verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from napari_orient.engine.discovery.annealing import Guess
from napari_orient.engine.discovery.looks import Looks
from napari_orient.engine.rotations import FloatArray

STRUCTURE, DOUBTFUL, NOTHING = "structure", "doubtful", "nothing"
_STRUCTURE, _NOTHING, _NOTHING_OF_ALL = 0.6, 0.35, 0.2
"""Share of the particles, and of all picks, that two starts must turn alike. Of noise, the picks that they happen to
agree on look like particles, and the others are set aside."""
_ABOVE_CHANCE = 3.0


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What speaks for a structure.

    Parameters
    ----------
    agreement : share of the particles that two independent starts turn alike, up to one common rotation: the map,
        turned both ways, is as alike as it is to itself turned by 20°. What the map does not show, such as which of
        its symmetry's copies, is no disagreement.
    chance_agreement : what two sets of random rotations reach by the same count.
    kept : share of the picks that look like particles; only these are counted.
    resolution, resolution_strict : Å at which the half maps' correlation falls below 0.143 and 0.5.
    peak : mean height of the best match over the mean of all, in their spreads; about 3.5 for noise.
    determined : share of the particles whose expected error is below 20°.
    """

    agreement: float
    chance_agreement: float
    kept: float
    resolution: float
    resolution_strict: float
    peak: float
    determined: float

    @property
    def verdict(self) -> str:
        """``structure``, ``doubtful`` or ``nothing``: what independent starts agree on."""
        bar = max(_NOTHING, _ABOVE_CHANCE * self.chance_agreement)
        if self.agreement < bar or self.agreement * self.kept < _NOTHING_OF_ALL:
            return NOTHING
        return STRUCTURE if self.agreement >= _STRUCTURE and self.determined >= 0.5 else DOUBTFUL

    @property
    def words(self) -> str:
        """The verdict and its reasons, in a line or two."""
        alike = (
            f"two independent starts turn {self.agreement:.0%} of the particles alike (chance "
            f"{self.chance_agreement:.0%})"
        )
        if self.kept < 0.5:
            alike += f", and only {self.kept:.0%} of the picks look like particles"
        if self.verdict == NOTHING:
            return (
                f"These particles show no common structure at this noise: {alike}; a structure needs {_STRUCTURE:.0%}."
            )
        told = (
            f"{alike}; half maps agree to {self.resolution_strict:.0f} Å (FSC 0.5); {self.determined:.0%} of the poses "
            "are determined."
        )
        if self.verdict == STRUCTURE:
            return f"A structure was found: {told}"
        return f"Perhaps a structure; do not trust it yet: {told}"


UNJUDGED = Belief(
    agreement=0.0, chance_agreement=0.0, kept=1.0, resolution=np.inf, resolution_strict=np.inf, peak=0.0, determined=0.0
)
"""Before anything is known."""


def agreement(first: Guess, second: Guess, looks: Sequence[Looks]) -> FloatArray:
    """Share of each class's particles, by the first guess, that the second turns alike and puts together, (K,).

    ``looks`` are those of the first guess's maps.
    """
    classes = len(looks)
    own, other = first.label.cpu().numpy(), second.label.cpu().numpy()
    table = np.array([[((own == a) & (other == b)).sum() for b in range(classes)] for a in range(classes)])
    _, partner = linear_sum_assignment(-table)
    shares = np.zeros(classes)
    turns, others = (guess.rotations.double().cpu().numpy() for guess in (first, second))
    for label, seen in enumerate(looks):
        counted = (own == label) & (first.share.cpu().numpy() > 0.5)
        rows = counted & (other == partner[label])
        if rows.sum() >= 3:
            shares[label] = seen.agreement(turns[rows], others[rows]).sum() / counted.sum()
    return shares
