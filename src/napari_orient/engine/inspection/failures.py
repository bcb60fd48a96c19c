"""Failures: where wrong poses lie together (failure regions), and which properties of particles go with their errors.

A failure is a particle whose error, true or else expected, exceeds a threshold. Failures within a few particle
diameters of each other form a region (single linkage). Whether they gather more than chance would have it is tested by
permutation: the same number of failures is drawn from all the particles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.evaluation import Report
from napari_orient.engine.inspection.quantities import Neighbours, beam_angle_deg, clusters, face_distance, neighbours
from napari_orient.engine.io.columns import SCORE
from napari_orient.engine.particles import Extent, FloatArray, Particles

LINK_DIAMETERS = 1.5
"""Particle diameters between centres up to which failures are linked: neighbours that touch, and half as far again."""
_PERMUTATIONS = 2000
"""Random draws of failures, at most; a probability of 1 % is found to 0.2 %."""
_LEAST_PERMUTATIONS = 200
"""Random draws of very many particles, at least."""
_MOST_DRAWN = 20_000_000
"""Particles times draws, at most, to answer within a second; 10,000 particles have all the draws."""
_DRAWS_AT_ONCE = 50
"""Draws that are held in memory together."""
LEAST_FOR_ASSOCIATION = 20
"""Particles from which associations are stated; of fewer, a rank correlation of 0.45 is within chance."""
_LEAST_OF_CLASS = 5
"""Particles of a class from which its errors are compared with those of the others."""


@dataclass(frozen=True, eq=False)
class FailureRegion:
    """Failures that lie together.

    Parameters
    ----------
    name : A, B, …, Z, AA, …: the region with most failures is A; among equals, the one with the largest error.
    rows : (K,) the failures' rows among all particles, worst first.
    tomogram : that they lie in.
    centre : (3,) xyz in Å, their mean.
    extent : Å between the two that are farthest apart; 0 for one alone.
    nearest : (low, high) Å to the nearest other particle of any class, over the region's failures; None without one.
    neighbour_classes : classes of those nearest particles, the commonest first; empty where no class is given.
    border : Å from the failure nearest a face of the tomogram to that face; None where its size is unknown.
    """

    name: str
    rows: NDArray[np.int_]
    tomogram: str
    centre: FloatArray
    extent: float
    nearest: tuple[float, float] | None
    neighbour_classes: tuple[str, ...]
    border: float | None

    @property
    def words(self) -> str:
        """A line such as ``A: 2 failures, 266 Å apart, near (1730, 1940, 620) Å; neighbours 220 to 258 Å away``."""
        number = len(self.rows)
        parts = [f"{self.name}: {number} failure{'s' if number > 1 else ''}"]
        if number > 1:
            parts.append(f"{self.extent:.0f} Å {'apart' if number == 2 else 'across'}")
        parts.append(f"near ({', '.join(f'{value:.0f}' for value in self.centre)}) Å")
        text = ", ".join(parts)
        if self.nearest is not None:
            low, high = (f"{value:.0f}" for value in self.nearest)
            classes = f" ({', '.join(self.neighbour_classes)})" if self.neighbour_classes else ""
            text += f"; nearest particle{classes} {low if low == high else f'{low} to {high}'} Å away"
        if self.border is not None:
            text += f"; {self.border:.0f} Å from the nearest face"
        return text


@dataclass(frozen=True, eq=False)
class Failures:
    """The failures among N particles.

    Parameters
    ----------
    failed : (N,) mask.
    regions : those of one failure too; the largest first.
    linked : failures that have another one within the linking distance.
    chance_linked : mean of that number if failures were spread at random over the particles.
    p_value : probability of as many linked failures by chance; None where fewer than two failed or all did.
    """

    failed: NDArray[np.bool_]
    regions: tuple[FailureRegion, ...]
    linked: int
    chance_linked: float
    p_value: float | None

    @property
    def words(self) -> str:
        """A sentence on whether the failures gather."""
        total = int(self.failed.sum())
        if total == 0:
            return "No failures."
        if self.p_value is None:
            return f"{total} failure{'s' if total > 1 else ''}; too few or too many to say whether failures gather."
        verdict = "they gather" if self.p_value < 0.05 else "no more than chance"
        return (
            f"{self.linked} of {total} failures lie beside another one; {self.chance_linked:.1f} would by chance "
            f"(p = {self.p_value:.2g}: {verdict})."
        )


def true_or_expected(true_error_deg: FloatArray | None, expected_error_deg: FloatArray | None) -> FloatArray | None:
    """Errors of the particles, (N,) degrees: true where given (not NaN), else expected; None without either."""
    if true_error_deg is None or expected_error_deg is None:
        return expected_error_deg if true_error_deg is None else true_error_deg
    return np.where(np.isfinite(true_error_deg), true_error_deg, expected_error_deg)


def find_failures(
    particles: Particles,
    error_deg: FloatArray,
    *,
    threshold: float,
    diameter: float,
    rng: np.random.Generator,
    everyone: Particles | None = None,
    extents: Mapping[str, Extent] | None = None,
) -> Failures:
    """The failures among particles, gathered into regions.

    Parameters
    ----------
    error_deg : (N,) see `true_or_expected`; NaN is no failure.
    threshold : degrees up to which a pose is right.
    diameter : Å, the particle's; failures up to `LINK_DIAMETERS` of them apart are of one region.
    rng : of the permutations.
    everyone : all particles of any class that may be neighbours, these among them; these alone by default.
    extents : sizes of tomograms by name, for the distance to their faces.
    """
    failed = np.nan_to_num(error_deg, nan=0.0) > threshold
    rows = np.flatnonzero(failed)
    distance = LINK_DIAMETERS * diameter
    labels = clusters(particles.take(rows), distance)
    near = neighbours(particles, everyone or particles)
    alone = count(int(labels.max(initial=0)) + 1)
    labels = np.array([label or next(alone) for label in labels.tolist()], int)
    groups = [rows[labels == label] for label in np.unique(labels)]
    groups = [group[np.argsort(-error_deg[group], kind="stable")] for group in groups]
    groups.sort(key=lambda group: (-len(group), -error_deg[group[0]]))
    linked, chance, p_value = _gathering(particles, failed, distance, rng)
    return Failures(
        failed,
        tuple(_region(_letters(place), group, particles, near, extents or {}) for place, group in enumerate(groups)),
        linked,
        chance,
        p_value,
    )


def _letters(place: int) -> str:
    """A, B, …, Z, AA, AB, … for 0, 1, …"""
    text = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, 26)
        text = chr(ord("A") + letter) + text
    return text


def _region(
    name: str, rows: NDArray[np.int_], particles: Particles, near: Neighbours, extents: Mapping[str, Extent]
) -> FailureRegion:
    from scipy.spatial.distance import pdist

    positions, tomogram = particles.positions[rows], str(np.asarray(particles.tomogram)[rows[0]])
    distance = near.distance[rows]
    distance = distance[np.isfinite(distance)]
    kinds, counts = np.unique(near.kind[rows][near.kind[rows] != ""], return_counts=True)
    border = face_distance(particles.take(rows), extents)
    return FailureRegion(
        name=name,
        rows=rows,
        tomogram=tomogram,
        centre=positions.mean(axis=0),
        extent=float(pdist(positions).max()) if len(rows) > 1 else 0.0,
        nearest=(float(distance.min()), float(distance.max())) if len(distance) else None,
        neighbour_classes=tuple(str(kind) for kind in kinds[np.argsort(-counts, kind="stable")]),
        border=None if np.isnan(border).all() else float(np.nanmin(border)),
    )


def _gathering(
    particles: Particles, failed: NDArray[np.bool_], distance: float, rng: np.random.Generator
) -> tuple[int, float, float | None]:
    """Failures with another within the distance; their mean number by chance; probability of as many by chance."""
    from scipy.sparse import csr_array
    from scipy.spatial import cKDTree

    pairs = [np.zeros((0, 2), int)]
    for name in particles.tomogram_names:
        rows = np.flatnonzero(np.asarray(particles.tomogram) == name)
        pairs.append(rows[cKDTree(particles.positions[rows]).query_pairs(distance, output_type="ndarray")])
    first, second = np.concatenate(pairs).T
    number = len(particles)
    ones = np.ones(len(first), np.float32)
    beside = csr_array((ones, (first, second)), shape=(number, number))
    beside = beside + beside.T

    def linked_among(masks: NDArray[np.bool_]) -> NDArray[np.int_]:
        """How many of the marked particles, (N, draws), have another one beside them, (draws,)."""
        return np.asarray(((beside @ masks.astype(np.float32) > 0) & masks).sum(axis=0), int)

    linked, total = int(linked_among(failed[:, None])[0]), int(failed.sum())
    if not 2 <= total < number:
        return linked, float(linked), None
    draws = min(_PERMUTATIONS, max(_LEAST_PERMUTATIONS, _MOST_DRAWN // number))
    by_chance = np.concatenate(
        [
            linked_among(rng.permuted(np.tile(failed[:, None], (1, _DRAWS_AT_ONCE)), axis=0))
            for _ in range(draws // _DRAWS_AT_ONCE)
        ]
    )
    # The observed arrangement counts as one of the draws (Phipson & Smyth 2010).
    p_value = (1 + int((by_chance >= linked).sum())) / (1 + len(by_chance))
    return linked, float(by_chance.mean()), p_value


# --- what may go with an error --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Association:
    """How far a property goes with the error.

    Parameters
    ----------
    name : the property's.
    strength : Spearman's rank correlation with the error, -1 to 1; of a class, Kruskal and Wallis's ε², 0 to 1.
    p_value : probability of as strong a one by chance, multiplied by Holm for all properties that were compared.
    count : particles that it was computed from.
    """

    name: str
    strength: float
    p_value: float
    count: int

    @property
    def words(self) -> str:
        """A line such as ``score: -0.69 (p = 1e-09, 68 particles)``."""
        chance = "" if self.significant else "; no more than chance"
        return f"{self.name}: {self.strength:+.2f} (p = {self.p_value:.1g}, {self.count} particles{chance})"

    @property
    def significant(self) -> bool:
        """Whether chance has it so in less than one case of twenty."""
        return self.p_value < 0.05


def associations(
    error_deg: FloatArray, properties: Mapping[str, FloatArray | NDArray[np.str_]]
) -> tuple[Association, ...]:
    """Properties ranked by how far they go with the error, the strongest first; see `Association`.

    Parameters
    ----------
    error_deg : (N,) degrees; NaN is left out.
    properties : by name, (N,) numbers (NaN and infinite left out) or classes (empty left out). One that is the same for
        all, or given for fewer than `LEAST_FOR_ASSOCIATION` particles, is not compared.
    """
    found = [one for name, values in properties.items() if (one := _association(name, error_deg, values)) is not None]
    return tuple(sorted(_holm(found), key=lambda one: (-one.significant, -abs(one.strength))))


def _association(name: str, error: FloatArray, values: FloatArray | NDArray[np.str_]) -> Association | None:
    from scipy import stats

    numeric = np.issubdtype(np.asarray(values).dtype, np.number)
    usable = np.isfinite(error) & (np.isfinite(np.asarray(values, float)) if numeric else np.asarray(values) != "")
    error = error[usable]
    if len(error) < LEAST_FOR_ASSOCIATION or np.ptp(error) == 0:
        return None
    if numeric:
        numbers = np.asarray(values, float)[usable]
        if np.ptp(numbers) == 0:
            return None
        correlation = stats.spearmanr(error, numbers)
        return Association(name, float(correlation.statistic), float(correlation.pvalue), len(error))
    texts = np.asarray(values, str)[usable]
    kinds, counts = np.unique(texts, return_counts=True)
    groups = [error[texts == kind] for kind in kinds[counts >= _LEAST_OF_CLASS]]
    if len(groups) < 2:
        return None
    test, total = stats.kruskal(*groups), sum(len(group) for group in groups)
    return Association(name, float(test.statistic) / (total - 1), float(test.pvalue), total)


def _holm(found: Sequence[Association]) -> list[Association]:
    """The same with probabilities for all comparisons together (Holm 1979)."""
    adjusted, highest = [], 0.0
    for place, one in enumerate(sorted(found, key=lambda one: one.p_value)):
        highest = max(highest, min(1.0, one.p_value * (len(found) - place)))
        adjusted.append(Association(one.name, one.strength, highest, one.count))
    return adjusted


# --- both, of an evaluation -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FailureReport:
    """Failures of evaluated particles, and what goes with their errors; ``str`` of it is for people."""

    failures: Failures
    associations: tuple[Association, ...]
    count: int

    @classmethod
    def of(cls, report: Report, truth: Particles, *, threshold: float, diameter: float) -> FailureReport:
        """Failures of an evaluation's matched particles; ``truth`` are all true particles, which may be neighbours."""
        error, everyone = report.errors_deg, truth
        # Matched particles stand where they truly are, so that each is one of those that may be neighbours.
        placed = report.truth.replace(extents={**report.truth.extents, **report.predicted.extents})
        failures = find_failures(
            placed,
            error,
            threshold=threshold,
            diameter=diameter,
            rng=np.random.default_rng(0),
            everyone=everyone,
            extents=placed.extents,
        )
        near = neighbours(placed, everyone)
        return cls(failures, associations(error, _properties(report, placed, near)), len(error))

    def to_record(self) -> dict[str, Any]:
        """Plain values by name, fit for JSON."""
        return {
            "failed": int(self.failures.failed.sum()),
            "linked": self.failures.linked,
            "linked_by_chance": self.failures.chance_linked,
            "p_value": self.failures.p_value,
            "regions": [
                {
                    "name": region.name,
                    "tomogram": region.tomogram,
                    "failures": len(region.rows),
                    "centre": [round(float(value), 1) for value in region.centre],
                    "extent": round(region.extent, 1),
                }
                for region in self.failures.regions
            ],
            "associations": [
                {"name": one.name, "strength": one.strength, "p_value": one.p_value, "count": one.count}
                for one in self.associations
            ],
        }

    def __str__(self) -> str:
        many = len({region.tomogram for region in self.failures.regions}) > 1
        lines = [self.failures.words]
        lines += [f"  {region.words}{f' of {region.tomogram}' if many else ''}" for region in self.failures.regions]
        if self.count < LEAST_FOR_ASSOCIATION:
            lines.append(f"{self.count} particles are too few to say what goes with the error.")
        elif self.associations:
            lines.append("What goes with the error (rank correlation; p for all of them together):")
            lines += [f"  {one.words}" for one in self.associations]
        return "\n".join(lines)


def _properties(report: Report, placed: Particles, near: Neighbours) -> dict[str, FloatArray | NDArray[np.str_]]:
    """What may go with the errors of evaluated particles, by name."""
    predicted = report.predicted
    own: dict[str, FloatArray | NDArray[np.str_] | None] = {
        "expected error": predicted.expected_error_deg,
        "confidence": predicted.confidence,
        "distance to the nearest particle": near.distance,
        "class of the nearest particle": near.kind,
        "distance to the nearest face": face_distance(placed, placed.extents),
        "angle of z to the beam": beam_angle_deg(placed),
    }
    if SCORE in predicted.extra:
        own["score"] = np.asarray(predicted.extra[SCORE], float)
    return {name: values for name, values in own.items() if values is not None}
