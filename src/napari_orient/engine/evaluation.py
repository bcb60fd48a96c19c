"""Evaluation: predicted poses against true ones, with the value expected by chance beside every score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.tomograms import match_tomogram
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import PAPER_20_DEG, chance_within, even_rotations
from napari_orient.engine.symmetry import C1, Symmetry, axis_angle_deg, nearest_copy, symmetric_angle_deg, symmetry

WITHIN_DEG = (5.0, 10.0, 20.0, PAPER_20_DEG)
"""Thresholds of the reported shares, degrees; the last is what the paper's released code counts as 20°."""


_SAME_PLACE = 0.05
"""Å below which positions are the same: a list in pixels is rounded by less."""

_SAME_ROTATION = 1e-3
"""Degrees below which rotations are the same: lists round angles to 1e-6, coarse ones to 1e-3."""

SURE_DEG = 10.0
"""Expected error in degrees below which a pose counts as sure."""

WRONG_DEG = 20.0
"""Error in degrees above which a pose counts as wrong; a confidence is the probability that it is not."""

_CHANCE_GRID = 20_000
"""Rotations of the grid that chance is counted on for symmetric particles: shares to about 0.1 %."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of particles: their number, errors in degrees, shares (0 to 1) within thresholds by degrees.

    ``chance_within`` and ``chance_median_deg`` are those of random rotations; ``r_squared`` is of the 6D components;
    ``axis_median_deg`` is of the main axis of a symmetric particle; ``expected_over_true`` is the ratio of the
    root-mean-square expected error to the true one; ``position_median`` is in Å. ``sure`` counts the poses that are
    expected within `SURE_DEG`, ``sure_wrong`` those among them off by more than `WRONG_DEG`; ``right_expected`` is the
    sum of the confidences, and ``right`` how many are not wrong. None where the predicted list does not say it.
    """

    count: int
    median_deg: float
    mean_deg: float
    rms_deg: float
    within: dict[str, float]
    chance_within: dict[str, float]
    chance_median_deg: float
    r_squared: float
    axis_median_deg: float | None
    expected_over_true: float | None
    position_median: float
    sure: int | None = None
    sure_wrong: int | None = None
    right: int = 0
    right_expected: float | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """Scores of all matched particles and of each class.

    Parameters
    ----------
    symmetry : written form of the group that errors are taken modulo.
    unmatched : number of predicted particles without a true one.
    notes : what a person should know of how the lists were compared, a sentence each.
    errors_deg : (N,) geodesic angle of each matched particle.
    predicted, truth : the N matched particles in the same order.
    """

    symmetry: str
    all: Scores
    by_class: dict[str, Scores]
    unmatched: int
    errors_deg: FloatArray
    predicted: Particles
    truth: Particles
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        within = self.all.within["20"]
        return f"Report({self.all.count} matched; median {self.all.median_deg:.2f}°; {within:.1%} within 20°)"

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def to_record(self) -> dict[str, Any]:
        """Plain values by name, fit for JSON."""
        return {
            "symmetry": self.symmetry,
            "all": asdict(self.all),
            "by_class": {name: asdict(scores) for name, scores in self.by_class.items()},
            "unmatched": self.unmatched,
            "notes": list(self.notes),
        }


def evaluate(predicted: Particles, truth: Particles, *, group: Symmetry = C1, tolerance: float = 100.0) -> Report:
    """Report on predicted poses against true ones; ``str`` of it is a table.

    Particles are matched by tomogram and nearest position within ``tolerance`` Å, one to one.

    Raises
    ------
    InputError
        If either list has no orientations, or no predicted particle lies near a true one.
    """
    for particles in (predicted, truth):
        particles.required_rotations()
    rows, true_rows = match_particles(predicted, truth, tolerance=tolerance)
    if len(rows) == 0:
        raise InputError(
            f"none of {len(predicted)} predicted particles lies within {tolerance:g} Å of one of the {len(truth)} true "
            "ones. Expected lists of the same tomogram; check the voxel size."
        )
    unmatched, notes = len(predicted) - len(rows), _names_note(predicted, truth)
    predicted, truth = predicted.take(rows), truth.take(true_rows)
    errors = symmetric_angle_deg(predicted.required_rotations(), truth.required_rotations(), group)
    kinds = sorted(set(truth.kind)) if truth.kind is not None else []
    by_class = {str(kind): _scores(predicted, truth, errors, group=group, rows=truth.kind == kind) for kind in kinds}
    everyone = _scores(predicted, truth, errors, group=group, rows=np.ones(len(errors), bool))
    return Report(group.name, everyone, by_class, unmatched, errors, predicted, truth, notes)


def match_particles(predicted: Particles, truth: Particles, *, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of matching predicted and true particles: mutual nearest neighbours within ``tolerance`` Å.

    Where each list is of one tomogram alone, the tomograms' names need not agree; else they may differ by the prefixes
    and suffixes of `same_tomogram`.

    Raises
    ------
    InputError
        If the lists have no tomogram in common.
    """
    alone = len(predicted.tomogram_names) == 1 and len(truth.tomogram_names) == 1
    pairs = [] if len(predicted) and len(truth) else [(np.zeros(0, int), np.zeros(0, int))]
    for name in predicted.tomogram_names:
        own = np.flatnonzero(np.asarray(predicted.tomogram) == name)
        partner = truth.tomogram_names[0] if alone else match_tomogram(name, truth.tomogram_names)
        other = np.flatnonzero(np.asarray(truth.tomogram) == partner)
        if len(other):
            first, second = _mutual(predicted.positions[own], truth.positions[other], tolerance)
            pairs.append((own[first], other[second]))
    if not pairs:
        raise InputError(
            f"the predicted particles lie in {', '.join(predicted.tomogram_names[:3])}, the true ones in "
            f"{', '.join(truth.tomogram_names[:3])}; expected the same tomograms. Rename them."
        )
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])


def _names_note(predicted: Particles, truth: Particles) -> tuple[str, ...]:
    """A sentence where two lists of one tomogram each are compared, and their names for it differ; else none."""
    names = [particles.tomogram_names for particles in (predicted, truth)]
    if any(len(some) != 1 or not some[0] for some in names) or match_tomogram(names[0][0], names[1]) is not None:
        return ()
    own, other = names[0][0], names[1][0]
    return (f"The predicted particles lie in {own}, the true ones in {other}; both were taken for one tomogram.",)


def _mutual(first: FloatArray, second: FloatArray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree

    distance, partner = (np.atleast_1d(found) for found in cKDTree(second).query(first))
    back = np.atleast_1d(cKDTree(first).query(second)[1])
    matched = np.flatnonzero((back[partner] == np.arange(len(first))) & (distance <= tolerance))
    return matched, partner[matched]


def _scores(predicted: Particles, truth: Particles, errors: FloatArray, *, group: Symmetry, rows: np.ndarray) -> Scores:
    predicted, truth, errors = predicted.take(rows), truth.take(rows), errors[rows]
    mine, true = predicted.required_rotations(), truth.required_rotations()
    rms = float(np.sqrt(np.mean(errors**2)))
    expected, confidence = predicted.expected_error_deg, predicted.confidence
    if confidence is not None and not np.isfinite(confidence).all():
        confidence = None
    wrong = errors > WRONG_DEG
    return Scores(
        count=len(errors),
        median_deg=float(np.median(errors)),
        mean_deg=float(np.mean(errors)),
        rms_deg=rms,
        within={f"{angle:.4g}": float(np.mean(errors <= angle)) for angle in WITHIN_DEG},
        chance_within={f"{angle:.4g}": chance(angle, group) for angle in WITHIN_DEG},
        chance_median_deg=chance_median_deg(group),
        r_squared=r_squared(nearest_copy(mine, true, group), true),
        axis_median_deg=float(np.median(axis_angle_deg(mine, true, group))) if len(group) > 1 else None,
        expected_over_true=_ratio(expected, errors),
        position_median=float(np.median(np.linalg.norm(predicted.positions - truth.positions, axis=1))),
        sure=None if expected is None else int((expected < SURE_DEG).sum()),
        sure_wrong=None if expected is None else int(((expected < SURE_DEG) & wrong).sum()),
        right=int((~wrong).sum()),
        right_expected=None if confidence is None else float(np.sum(confidence)),
    )


def _ratio(expected: FloatArray | None, errors: FloatArray) -> float | None:
    """Root-mean-square expected error over the true one, of those that have one; None where there is no error."""
    known = np.zeros(len(errors), bool) if expected is None else np.isfinite(expected)
    if expected is None or not known.any():
        return None
    stated, true = (float(np.sqrt(np.mean(np.square(values[known])))) for values in (expected, errors))
    return None if true < _SAME_ROTATION else stated / true


def r_squared(predicted: FloatArray, truth: FloatArray) -> float:
    """R² of the 6D components, all pooled, as the paper's code computes it; of orthonormal columns."""
    raw, target = (np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1) for matrix in (predicted, truth))
    spread = float(((target - target.mean()) ** 2).sum())
    return 1 - float(((raw - target) ** 2).sum()) / spread if spread > 0 else float("nan")


def chance(angle: float, group: Symmetry) -> float:
    """Probability that a random rotation lies within this many degrees of the true one, modulo the group."""
    if len(group) == 1:
        return chance_within(angle)
    return float(np.mean(_chance_angles(group.name) <= angle))


def chance_median_deg(group: Symmetry) -> float:
    """Median error of random rotations, in degrees, modulo the group."""
    return float(np.median(_chance_angles(group.name)))


def chance_shares(edges: FloatArray, group: Symmetry) -> FloatArray:
    """Shares of random rotations with errors between one edge (E,) in degrees and the next, (E - 1,)."""
    if len(group) == 1:
        return np.diff([chance_within(float(edge)) for edge in edges])
    angles = _chance_angles(group.name)
    return np.asarray(np.histogram(angles, edges)[0] / len(angles))


@lru_cache(maxsize=8)
def _chance_angles(name: str) -> FloatArray:
    grid, group = even_rotations(_CHANCE_GRID), symmetry(name)
    return symmetric_angle_deg(grid, np.broadcast_to(np.eye(3), grid.shape), group)


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.all.count} particles matched, {report.unmatched} without a partner; symmetry {report.symmetry}"
    yield from report.notes
    yield ""
    heads = ["≤ 5°", "≤ 10°", "≤ 20°", "≤ 24.56°"]
    yield f"{'class':<16}{'number':>8}{'median':>9}" + "".join(f"{head:>10}" for head in heads) + f"{'R²':>8}"
    rows = report.by_class.items() if len(report.by_class) > 1 else []
    for name, scores in [*rows, ("all", report.all)]:
        shares = "".join(f"{share:>10.1%}" for share in scores.within.values())
        yield f"{name:<16}{scores.count:>8}{scores.median_deg:>8.2f}°{shares}{scores.r_squared:>8.3f}"
    shares = "".join(f"{share:>10.2%}" for share in report.all.chance_within.values())
    yield f"{'chance':<16}{'':>8}{report.all.chance_median_deg:>8.1f}°{shares}"
    yield ""
    if report.all.axis_median_deg is not None:
        yield f"Main symmetry axis: median error {report.all.axis_median_deg:.2f}°."
    if report.all.expected_over_true is not None:
        yield f"Expected error over true error (rms): {report.all.expected_over_true:.2f}; 1 is right."
    yield from sureness(report.all)
    yield "24.56° of true angle is what the paper's released code counts as 20°."


def sureness(scores: Scores) -> Iterator[str]:
    """Sentences on what the list said of its own poses, beside what is true; and on how far their places are off."""
    if scores.sure is not None:
        yield (
            f"Sure (expected below {SURE_DEG:g}°): {scores.sure}; of these wrong (by more than {WRONG_DEG:g}°): "
            f"{scores.sure_wrong}."
        )
    if scores.right_expected is not None:
        yield (
            f"Confidences add up to {scores.right_expected:.1f} poses within {WRONG_DEG:g}°; there are {scores.right}."
        )
    if scores.position_median >= _SAME_PLACE:
        yield f"Positions: {scores.position_median:.1f} Å from the true ones (median)."
