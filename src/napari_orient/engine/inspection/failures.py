"""Failures: where wrong poses lie together (failure regions), and which properties of particles go with their errors.

A failure is a particle whose error, true or else expected, exceeds a threshold. Failures within a few particle
diameters of each other form a region (single linkage). Whether they gather more than chance would have it is tested by
permutation: the same number of failures is drawn from all the particles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.duplicates import mean_neighbours, near_pairs
from napari_orient.engine.evaluation import Report
from napari_orient.engine.inspection.quantities import Neighbours, beam_angle_deg, clusters, face_distance, neighbours
from napari_orient.engine.io.columns import SCORE, VARIABILITY
from napari_orient.engine.particles import Extent, FloatArray, Particles
from napari_orient.engine.streams import Work, run

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LINK_DIAMETERS = 1.5
"""Particle diameters between centres up to which failures are linked: neighbours that touch, and half as far again."""
_PERMUTATIONS = 2000
"""Random draws of failures, at most; a probability of 1 % is found to 0.2 %."""
_LEAST_PERMUTATIONS = 200
"""Random draws of very many particles, at least."""
_MOST_DRAWN = 20_000_000
"""Particles times draws, at most, to answer within a second; 10,000 particles have all the draws."""
_DRAWS_AT_ONCE = 50
"""Draws that are held in memory together, at most."""
_MOST_AT_ONCE = 200_000
"""Particles times draws that are held together, at most: about 20 ms of work."""
_MANY = 1000
"""Particles of a region from which its extent is measured on its convex hull: all pairs of 10,000 fill 400 MB."""
_MOST_BESIDE = 60
"""Particles beside one, in the mean, at most: more do not fit, the scale is wrong, and all pairs fill memory."""
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
    def size(self) -> str:
        """A text such as ``2 failures, 266 Å apart``."""
        number = len(self.rows)
        text = f"{number} failure{'s' if number > 1 else ''}"
        if number > 1:
            text += f", {self.extent:.0f} Å {'apart' if number == 2 else 'across'}"
        return text

    @property
    def place(self) -> str:
        """A text such as ``near (1730, 1940, 620) Å; nearest particle (3j9i) 220 to 258 Å away``."""
        text = f"near ({', '.join(f'{value:.0f}' for value in self.centre)}) Å"
        if self.nearest is not None:
            low, high = (f"{value:.0f}" for value in self.nearest)
            classes = f" ({', '.join(self.neighbour_classes)})" if self.neighbour_classes else ""
            text += f"; nearest particle{classes} {low if low == high else f'{low} to {high}'} Å away"
        if self.border is not None:
            text += f"; {self.border:.0f} Å from the nearest face"
        return text

    @property
    def words(self) -> str:
        """A line such as ``A: 2 failures, 266 Å apart, near (1730, 1940, 620) Å; nearest particle 220 Å away``."""
        return f"{self.name}: {self.size}, {self.place}"


@dataclass(frozen=True)
class Gathering:
    """Whether failures lie together more than chance would have it.

    Parameters
    ----------
    linked : failures that have another one within the linking distance.
    chance_linked : mean of that number if failures were spread at random over the particles.
    p_value : probability of as many linked failures by chance; None where fewer than two failed or all did,
        or particles lie so close that any has others beside it.
    """

    linked: int
    chance_linked: float
    p_value: float | None

    def words(self, total: int) -> str:
        """A sentence on whether this number of failures gather."""
        if total == 0:
            return "No failures."
        if self.p_value is None:
            return f"{total} failure{'s' if total > 1 else ''}; too few or too many to say whether failures gather."
        verdict = "they gather" if self.p_value < 0.05 else "no more than chance"
        return (
            f"{self.linked} of {total} failures lie beside another one; {self.chance_linked:.1f} would by chance "
            f"(p = {self.p_value:.2g}: {verdict})."
        )


@dataclass(frozen=True, eq=False)
class Failures:
    """The failures among N particles.

    Parameters
    ----------
    failed : (N,) mask.
    regions : those of one failure too; the largest first.
    gathering : whether they lie together more than by chance.
    """

    failed: NDArray[np.bool_]
    regions: tuple[FailureRegion, ...]
    gathering: Gathering

    @property
    def p_value(self) -> float | None:
        """Probability of as many linked failures by chance; None where fewer than two failed or all did."""
        return self.gathering.p_value

    @property
    def words(self) -> str:
        """A sentence on whether the failures gather."""
        return self.gathering.words(int(self.failed.sum()))


def failed_rows(error_deg: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Mask of the failures, (N,): errors above the threshold in degrees; NaN is no failure."""
    return np.asarray(np.nan_to_num(error_deg, nan=0.0) > threshold)


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
    error_deg : (N,) true errors, or expected ones; NaN is no failure.
    threshold : degrees up to which a pose is right.
    diameter : Å, the particle's; failures up to `LINK_DIAMETERS` of them apart are of one region.
    rng : of the permutations.
    everyone : all particles of any class that may be neighbours, these among them; these alone by default.
    extents : sizes of tomograms by name, for the distance to their faces.
    """
    failed = failed_rows(error_deg, threshold)
    regions = failure_regions(
        particles,
        error_deg,
        failed=failed,
        diameter=diameter,
        near=neighbours(particles, everyone or particles),
        face=face_distance(particles, extents or {}),
    )
    return Failures(failed, regions, run(gathering(particles, failed, diameter=diameter, rng=rng)))


def failure_regions(
    particles: Particles,
    error_deg: FloatArray,
    *,
    failed: NDArray[np.bool_],
    diameter: float,
    near: Neighbours,
    face: FloatArray,
) -> tuple[FailureRegion, ...]:
    """The regions that the failures (N,) form, those of one failure too; the largest first, then the worst.

    Parameters
    ----------
    diameter : Å, the particle's; failures up to `LINK_DIAMETERS` of them apart are of one region.
    near : the particles' nearest neighbours.
    face : (N,) Å from each particle to the nearest face of its tomogram; NaN where its size is unknown.
    """
    rows = np.flatnonzero(failed)
    labels = clusters(particles.take(rows), LINK_DIAMETERS * diameter)
    alone = count(int(labels.max(initial=0)) + 1)
    labels = np.array([label or next(alone) for label in labels.tolist()], int)
    order = np.lexsort((-error_deg[rows], labels))
    groups = np.split(rows[order], np.flatnonzero(np.diff(labels[order])) + 1) if len(rows) else []
    groups.sort(key=lambda group: (-len(group), -error_deg[group[0]]))
    return tuple(_region(_letters(place), group, particles, near, face) for place, group in enumerate(groups))


def _letters(place: int) -> str:
    """A, B, …, Z, AA, AB, … for 0, 1, …"""
    text = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, 26)
        text = chr(ord("A") + letter) + text
    return text


def _region(
    name: str, rows: NDArray[np.int_], particles: Particles, near: Neighbours, face: FloatArray
) -> FailureRegion:
    positions, tomogram = particles.positions[rows], str(np.asarray(particles.tomogram)[rows[0]])
    distance, border = near.distance[rows], face[rows]
    distance = distance[np.isfinite(distance)]
    kinds, counts = np.unique(near.kind[rows][near.kind[rows] != ""], return_counts=True)
    return FailureRegion(
        name=name,
        rows=rows,
        tomogram=tomogram,
        centre=positions.mean(axis=0),
        extent=_extent(positions),
        nearest=(float(distance.min()), float(distance.max())) if len(distance) else None,
        neighbour_classes=tuple(str(kind) for kind in kinds[np.argsort(-counts, kind="stable")]),
        border=None if np.isnan(border).all() else float(np.nanmin(border)),
    )


def _extent(positions: FloatArray) -> float:
    """Å between the two that are farthest apart; 0 for one alone."""
    if len(positions) > _MANY:
        from scipy.spatial import ConvexHull

        # The two farthest apart are corners of the hull; joggled, for particles in a plane.
        positions = positions[ConvexHull(positions, qhull_options="QJ").vertices]
    return float(np.linalg.norm(positions[:, None] - positions, axis=-1).max())


def gathering(
    particles: Particles, failed: NDArray[np.bool_], *, diameter: float, rng: np.random.Generator
) -> Work[Gathering]:
    """Whether the failures (N,) lie together more than as many particles drawn at random; see `Gathering`."""
    distance = LINK_DIAMETERS * diameter
    if mean_neighbours(particles, distance) > _MOST_BESIDE:
        every = int(failed.sum())
        return Gathering(every, float(every), None)
    beside = _beside(particles, distance)
    yield

    def linked_among(masks: NDArray[np.bool_]) -> NDArray[np.int_]:
        """How many of the marked particles, (N, draws), have another one beside them, (draws,)."""
        return np.asarray(((beside @ masks.astype(np.float32) > 0) & masks).sum(axis=0), int)

    linked, total, number = int(linked_among(failed[:, None])[0]), int(failed.sum()), len(particles)
    if not 2 <= total < number:
        return Gathering(linked, float(linked), None)
    draws = min(_PERMUTATIONS, max(_LEAST_PERMUTATIONS, _MOST_DRAWN // number))
    at_once = max(1, min(_DRAWS_AT_ONCE, _MOST_AT_ONCE // number))
    found: list[NDArray[np.int_]] = []
    for _ in range(draws // at_once):
        found.append(linked_among(rng.permuted(np.tile(failed[:, None], (1, at_once)), axis=0)))
        yield
    by_chance = np.concatenate(found)
    # The observed arrangement counts as one of the draws (Phipson & Smyth 2010).
    p_value = (1 + int((by_chance >= linked).sum())) / (1 + len(by_chance))
    return Gathering(linked, float(by_chance.mean()), p_value)


def _beside(particles: Particles, distance: float) -> csr_array:
    """Which particles lie within the distance of each other, (N, N), 1 where they do; none beside itself."""
    from scipy.sparse import csr_array

    first, second = near_pairs(particles, distance).T
    one_way = csr_array((np.ones(len(first), np.float32), (first, second)), shape=(len(particles), len(particles)))
    either_way: csr_array = one_way + one_way.T
    return either_way


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
    numeric = np.issubdtype(np.asarray(values).dtype, np.number)
    usable = np.isfinite(error) & (np.isfinite(np.asarray(values, float)) if numeric else np.asarray(values) != "")
    error = error[usable]
    if len(error) < LEAST_FOR_ASSOCIATION or np.ptp(error) == 0:
        return None
    if numeric:
        numbers = np.asarray(values, float)[usable]
        if np.ptp(numbers) == 0:
            return None
        return Association(name, *_spearman(error, numbers), len(error))
    texts = np.asarray(values, str)[usable]
    kinds, counts = np.unique(texts, return_counts=True)
    groups = [error[texts == kind] for kind in kinds[counts >= _LEAST_OF_CLASS]]
    if len(groups) < 2:
        return None
    total = sum(len(group) for group in groups)
    statistic, p_value = _kruskal(groups)
    return Association(name, statistic / (total - 1), p_value, total)


# SciPy's own tests take 0.3 s to import: both are written here of its special functions.


def _spearman(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Rank correlation (Spearman 1904) and its two-sided probability by Student's t."""
    from scipy.special import stdtr

    strength = float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])
    free, rest = len(first) - 2, 1 - strength**2
    return strength, float(2 * stdtr(free, -abs(strength) * np.sqrt(free / rest))) if rest > 0 else 0.0


def _kruskal(groups: Sequence[FloatArray]) -> tuple[float, float]:
    """Statistic H of Kruskal & Wallis (1952) for values in groups, ties allowed for, and its probability by chi²."""
    from scipy.special import chdtrc

    values = np.concatenate(groups)
    total, ranks = len(values), _ranks(values)
    parts = np.split(ranks, np.cumsum([len(group) for group in groups])[:-1])
    between = sum(len(part) * (part.mean() - (total + 1) / 2) ** 2 for part in parts)
    statistic = float((total - 1) * between / ((ranks - ranks.mean()) ** 2).sum())
    return statistic, float(chdtrc(len(groups) - 1, statistic))


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, (N,); equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(np.cumsum(counts)[place] - (counts[place] - 1) / 2)


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
            "linked": self.failures.gathering.linked,
            "linked_by_chance": self.failures.gathering.chance_linked,
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
    for name, column in (("score", SCORE), ("variability", VARIABILITY)):
        if column in predicted.extra:
            own[name] = np.asarray(predicted.extra[column], float)
    return {name: values for name, values in own.items() if values is not None}
