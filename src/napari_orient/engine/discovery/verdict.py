"""The verdict on a structure: do independent random starts put the same particles into equivalent poses?

From noise two starts make two different maps, and their poses disagree; from particles they find the same structure, up
to one common rotation. Poses are compared by the map itself: two are equivalent where the map, low-passed to a fifth
of its diameter and rotated either way, correlates with itself at least as well as in two poses 20° apart. What the map
does not show, such as the copies of its symmetry or the azimuth of something round, is no disagreement.

Agreement of starts is reproducibility, not truth: both see the same data, and the same missing wedge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.discovery.search import Assignment
from napari_orient.engine.discovery.spectra import BATCH
from napari_orient.engine.model.grid import half_ball
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray, even_rotations, random_rotations

STRUCTURE, DOUBTFUL, NOTHING = "structure", "doubtful", "nothing"
_STRUCTURE = 0.6
"""Least share of the particles in equivalent poses for a structure. PolNet's ribosomes reach 0.9 or more, with noise of
twice the deviation 0.45 to 0.7 (docs/discovery.md)."""
_NOTHING = 0.35
"""Share below which there is nothing. Of 100 places in the water of PolNet's tomograms starts agreed on 0.07 to 0.31,
and once on 0.38 of the 37 that were not set aside."""
_NOTHING_OF_ALL = 0.2
"""The same share of all picks: of noise, the picks that starts happen to agree on score as particles, and the others
are set aside."""
_ABOVE_CHANCE = 3.0
"""Least share over that of random poses."""
_DETERMINED_DEG = 20.0
"""Expected error in degrees below which a pose counts as determined."""
_LEAST_DETERMINED = 0.5
"""Least share of determined poses for a structure."""
_MANY_FALSE = 0.5
"""Share of particles among the picks below which the verdict mentions it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a structure is reproducible, and the evidence.

    Parameters
    ----------
    agreement : share of the particles that two independent starts put into equivalent poses, up to one common rotation.
    chance_agreement : the same share of two sets of random rotations.
    kept : share of the picks that are likely to be particles in the right pose; only these are counted.
    resolution, resolution_strict : Å at which the half maps' correlation falls below 0.143 and 0.5.
    peak : mean height of the best match over the mean of all, in their standard deviations; about 3.5 for noise.
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
    def grade(self) -> str:
        """``structure``, ``doubtful`` or ``nothing``: what independent starts agree on."""
        bar = max(_NOTHING, _ABOVE_CHANCE * self.chance_agreement)
        if self.agreement < bar or self.agreement * self.kept < _NOTHING_OF_ALL:
            return NOTHING
        found = self.agreement >= _STRUCTURE and self.determined >= _LEAST_DETERMINED
        return STRUCTURE if found else DOUBTFUL

    @property
    def words(self) -> str:
        """The grade and its reasons, in a line or two."""
        agreed = (
            f"two independent starts put {self.agreement:.0%} of the particles into equivalent poses (chance "
            f"{self.chance_agreement:.0%})"
        )
        if self.kept < _MANY_FALSE:
            agreed += f", and only {self.kept:.0%} of the picks are likely to be particles in the right pose"
        if self.grade == NOTHING:
            nothing = "These particles show no common structure at this noise"
            return f"{nothing}: {agreed}; a structure needs {_STRUCTURE:.0%}."
        reasons = (
            f"{agreed}; half maps agree to {self.resolution_strict:.0f} Å (FSC 0.5); "
            f"{self.determined:.0%} of the poses are determined."
        )
        if self.grade == STRUCTURE:
            return f"A structure was found: {reasons}"
        return f"Perhaps a structure; not to be relied on yet: {reasons}"


def determined_share(expected_error_deg: FloatArray) -> float:
    """Share of poses whose expected error (N,) in degrees is small enough to call them determined."""
    return float((expected_error_deg < _DETERMINED_DEG).mean()) if len(expected_error_deg) else 0.0


# --- agreement of two starts ----------------------------------------------------------------------------------------

_LEAST_IN_COMMON = 3
"""Fewest particles that a class must have in both starts, for poses to be compared."""
_COUNTED = 0.5
"""Probability of being a particle above which one is counted."""


def agreement(first: Assignment, second: Assignment, equivalences: Sequence[PoseEquivalence]) -> FloatArray:
    """Share of each class's particles, (K,), that a second start puts into the same class and an equivalent pose.

    Parameters
    ----------
    equivalences : of the maps of the first assignment's classes.
    """
    return np.array(
        [class_agreement(first, second, label, item, len(equivalences)) for label, item in enumerate(equivalences)]
    )


def class_agreement(
    first: Assignment, second: Assignment, label: int, equivalence: PoseEquivalence, class_count: int
) -> float:
    """The same share of the particles of one class; classes of both are paired as most particles agree with."""
    from scipy.optimize import linear_sum_assignment

    own, other = first.label.cpu().numpy(), second.label.cpu().numpy()
    classes = range(class_count)
    table = np.array([[((own == a) & (other == b)).sum() for b in classes] for a in classes])
    partner = linear_sum_assignment(-table)[1][label]
    counted = (own == label) & (first.p_particle.cpu().numpy() > _COUNTED)
    rows = counted & (other == partner)
    if rows.sum() < _LEAST_IN_COMMON:
        return 0.0
    poses, others = (item.rotations.double().cpu().numpy()[rows] for item in (first, second))
    return float(equivalence.agreement(poses, others).sum() / counted.sum())


# --- equivalence of poses -------------------------------------------------------------------------------------------

EQUIVALENT_DEG = 20.0
"""Poses count as equivalent where the map correlates as well as with itself rotated by this angle about any axis."""
_POINTS = 250
"""Frequencies in half a ball at which maps are compared: more change no verdict."""
_HIGHEST = 5.0
"""Highest frequency compared, in cycles per diameter: finer detail differs between any two starts."""
_THRESHOLD_PAIRS = 60
"""Pairs of poses 20° apart whose mean correlation is the threshold."""
_MEAN_ROTATIONS = 400
"""Rotations whose mean is the round part of the map, which all poses have in common."""
_TRIED = 80
"""Particles whose own rotation between two starts is tried for all."""
_COMPARED = 60
"""Particles that each of these rotations is tried on."""
_CHANCE_DRAWS = 3
"""Draws of random rotations whose mean agreement is that of chance."""
_CHANCE_FEWEST = 3
"""Fewest rotations of a draw."""
_CHANCE_MOST = 400
"""Most rotations of a draw: more give the same share."""


class PoseEquivalence:
    """Which poses of a map are equivalent: what the map cannot distinguish at a fifth of its diameter.

    Parameters
    ----------
    rng : draws the poses 20° apart that set the threshold.
    """

    def __init__(self, reference: Reference, rng: np.random.Generator) -> None:
        self._reference = reference
        highest = min(_HIGHEST / (2 * reference.radius), 1 / reference.resolution)
        self._frequency = half_ball(_POINTS, highest).to(reference.device)
        self._round = torch.zeros(1, device=reference.device)
        self._round = self._transforms(even_rotations(_MEAN_ROTATIONS)).mean(0)
        poses = random_rotations(_THRESHOLD_PAIRS, rng)
        axes = rng.normal(size=(_THRESHOLD_PAIRS, 3))
        axes *= np.radians(EQUIVALENT_DEG) / np.linalg.norm(axes, axis=1, keepdims=True)
        rotated = poses @ rotvec_to_matrix(torch.from_numpy(axes)).numpy()
        self._least = float(_correlation(self._transforms(poses), self._transforms(rotated)).mean())

    def agreement(self, first: FloatArray, second: FloatArray) -> NDArray[np.bool_]:
        """Which of N poses (N, 3, 3) are equivalent in both sets, up to one common rotation, (N,).

        ``first`` are in the map's frame; ``second`` in one of their own.
        """
        between = np.swapaxes(second, -1, -2) @ first
        rows, tried = evenly_spaced_rows(len(first), _COMPARED), between[evenly_spaced_rows(len(first), _TRIED)]
        compared = self._transforms(first[rows])
        shares = [self._equivalent(compared, self._transforms(second[rows] @ rotation)).mean() for rotation in tried]
        return self._equivalent(self._transforms(first), self._transforms(second @ tried[int(np.argmax(shares))]))

    def chance(self, count: int, rng: np.random.Generator) -> float:
        """The share of two sets of ``count`` random rotations that is equivalent, the mean of three draws."""
        count = min(max(count, _CHANCE_FEWEST), _CHANCE_MOST)
        draws = [
            self.agreement(random_rotations(count, rng), random_rotations(count, rng)).mean()
            for _ in range(_CHANCE_DRAWS)
        ]
        return float(np.mean(draws))

    def _transforms(self, rotations: FloatArray) -> Tensor:
        """The map's transform in rotations (N, 3, 3), less its round part, (N, P) complex."""
        matrices = torch.as_tensor(rotations, dtype=torch.float32, device=self._frequency.device)
        parts = [self._reference.transform(self._frequency @ part) for part in matrices.split(BATCH)]
        return torch.cat(parts) - self._round

    def _equivalent(self, first: Tensor, second: Tensor) -> NDArray[np.bool_]:
        """Which transforms (N, P) correlate as well as those of poses 20° apart, (N,)."""
        equivalent: NDArray[np.bool_] = (_correlation(first, second) >= self._least).cpu().numpy()
        return equivalent


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of transforms (N, P), (N,)."""
    length = first.norm(dim=1) * second.norm(dim=1)
    correlation: Tensor = (first.conj() * second).real.sum(1) / length.clamp_min(1e-20)
    return correlation
