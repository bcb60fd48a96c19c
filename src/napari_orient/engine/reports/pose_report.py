"""The report on the poses of a list: one page that says what was run, how good the answer is, and shows it.

Where true poses are given, errors are true ones; else the expected errors that come with the poses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import Report, chance, evaluate, sureness
from napari_orient.engine.inspection.failures import FailureReport, Failures, find_failures
from napari_orient.engine.inspection.similarity import (
    ReferenceComparison,
    compare_with_reference,
    estimate_patch_wedge,
)
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram
from napari_orient.engine.reports.page import HtmlPage
from napari_orient.engine.rotations import chance_within
from napari_orient.engine.symmetry import C1, Symmetry
from napari_orient.engine.templates import Template

if TYPE_CHECKING:
    from napari_orient.engine.averaging import Average

_SHOWN = 10
"""Best and worst particles that are shown."""
_MOST_PLACES = 6
"""Tomograms drawn from above; the others are counted."""
_PATCH_DIAMETERS = 1.4
"""Side of a shown patch in particle diameters: a neighbour that touches is in it."""
_RESOLUTION_VOXELS = 3.0
"""Resolution, in voxels of the tomogram, that patches are shown at."""
_WITHIN = (5.0, 10.0, 20.0)
"""Degrees of the table of shares, as everywhere in the program."""


@dataclass(frozen=True, kw_only=True)
class ReportSubject:
    """What a report is on.

    Parameters
    ----------
    title : of the page.
    particles : with poses.
    run : what was run: by name, in the order shown.
    warnings : what was said about it.
    truth : true poses, of all classes.
    group : symmetry that errors are taken modulo.
    labelled : tomograms with their particles, to show patches from.
    template : reference to show beside the patches.
    average : of the particles.
    diameter : Å, of the particle; None takes the template's.
    threshold : degrees up to which a pose is right.
    model : card of the model, by name.
    """

    title: str
    particles: Particles
    run: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    truth: Particles | None = None
    group: Symmetry = C1
    labelled: Labelled = ()
    template: Template | None = None
    average: Average | None = None
    diameter: float | None = None
    threshold: float = 20.0
    model: Mapping[str, str] = field(default_factory=dict)


def pose_report(subject: ReportSubject) -> HtmlPage:
    """The page on a list's poses.

    Raises
    ------
    InputError
        If the particles have no rotations, or no true particle lies near one.
    """
    from napari_orient.engine.reports.figures import average_figure

    if len(subject.particles) == 0:
        raise InputError("the list has no particles, so there is nothing to report; expected at least one.")
    subject.particles.required_rotations()
    report = None if subject.truth is None else evaluate(subject.particles, subject.truth, group=subject.group)
    page = HtmlPage(subject.title)
    page.record(_record(subject, report))
    _summary(page, subject, report)
    _errors(page, subject, report)
    _directions(page, subject)
    _failures(page, subject, report)
    if subject.average is not None:
        page.heading("Average of the particles")
        page.paragraph(
            f"{subject.average.count} particles, {subject.average.group.name}. Resolution "
            f"{subject.average.resolution.corrected.resolution(0.143):.1f} Å where the corrected Fourier shell "
            f"correlation of the halves is 0.143. Poses that were found against one map make it too good."
        )
        page.figure(average_figure(subject.average), "Central slices of the average; correlation of its half maps.")
    _particles(page, subject, report)
    _provenance(page, subject)
    return page


def _record(subject: ReportSubject, report: Report | None) -> dict[str, Any]:
    """Plain values of the page, for programs."""
    scores = {} if report is None else {"scores": report.to_record()}
    return {
        "title": subject.title,
        "particles": len(subject.particles),
        "tomograms": list(subject.particles.tomogram_names),
        "run": dict(subject.run),
        "warnings": list(subject.warnings),
        **scores,
    }


def _summary(page: HtmlPage, subject: ReportSubject, report: Report | None) -> None:
    particles = subject.particles
    where = f"{len(particles.tomogram_names)} tomograms" if len(particles.tomogram_names) > 1 else "one tomogram"
    page.paragraph(f"{len(particles)} particles in {where}. {_headline(subject, report)}", style="lead")
    if report is not None and report.unmatched:
        page.paragraph(
            f"{report.unmatched} of {len(particles)} particles have no true one beside them, and do not count."
        )
    for warning in (*(() if report is None else report.notes), *subject.warnings):
        page.paragraph(warning, style="warning")


def _errors_of(subject: ReportSubject, report: Report | None) -> FloatArray | None:
    """Degrees: true errors of the matched particles, else the expected ones of all; None without either."""
    if report is not None:
        return report.errors_deg
    expected = subject.particles.expected_error_deg
    return None if expected is None or not np.isfinite(expected).any() else expected


def _headline(subject: ReportSubject, report: Report | None) -> str:
    if report is not None:
        right = int((report.errors_deg <= subject.threshold).sum())
        by_chance = chance(subject.threshold, subject.group)
        return (
            f"{right} of {len(report.errors_deg)} poses are right within {subject.threshold:g}° "
            f"({right / len(report.errors_deg):.0%}; chance {by_chance:.1%}); the median error is "
            f"{report.all.median_deg:.1f}°."
        )
    expected = subject.particles.expected_error_deg
    if expected is None or not np.isfinite(expected).any():
        return "The list has neither true poses nor expected errors, so how good the poses are cannot be said."
    sure = int((expected <= subject.threshold).sum())
    return (
        f"{sure} poses are expected to be right within {subject.threshold:g}°; the median expected error is "
        f"{np.nanmedian(expected):.1f}°. No true poses were given: what is expected is not what was measured."
    )


def _errors(page: HtmlPage, subject: ReportSubject, report: Report | None) -> None:
    from napari_orient.engine.reports.figures import errors_figure

    errors = _errors_of(subject, report)
    if errors is None:
        return
    true = report is not None
    page.heading("True errors" if true else "Expected errors")
    what = "error" if true else "expected error"
    rows = [
        (f"within {angle:g}°", f"{np.mean(errors <= angle):.1%}", f"{chance(angle, subject.group):.2%}")
        for angle in _WITHIN
    ]
    page.table(rows, head=(what, "particles", "random rotations"))
    if report is not None and report.all.expected_over_true is not None:
        page.paragraph(
            f"Root-mean-square expected error over true error: {report.all.expected_over_true:.2f}; 1 is right, "
            "below it the program was too sure of itself."
        )
    if report is not None:
        for sentence in sureness(report.all):
            page.paragraph(sentence)
    page.figure(
        errors_figure(errors, subject.group, threshold=subject.threshold, true=true),
        f"Histogram of the {what}s (red) beside random rotations (line); {subject.group.name}.",
    )


def _directions(page: HtmlPage, subject: ReportSubject) -> None:
    from napari_orient.engine.reports.figures import largest_gap_deg, uniform_views_p, views_figure

    rotations = subject.particles.required_rotations()
    page.heading("Directions: are all views there?")
    p_value = uniform_views_p(rotations)
    even = "no more uneven than chance" if p_value >= 0.05 else "uneven: some are preferred"
    page.paragraph(
        f"The views are {even} (p = {p_value:.2g}). The direction that is farthest from every view is "
        f"{largest_gap_deg(rotations):.0f}° from the nearest."
    )
    page.figure(
        views_figure(rotations),
        "Direction of the beam in each particle's frame; areas are true.",
    )


def _failures(page: HtmlPage, subject: ReportSubject, report: Report | None) -> None:
    from napari_orient.engine.reports.figures import places_figure

    diameter, errors = _diameter(subject), _errors_of(subject, report)
    if diameter is None or errors is None:
        return
    page.heading("Failure regions")
    if report is not None and subject.truth is not None:
        found = FailureReport.of(report, subject.truth, threshold=subject.threshold, diameter=diameter)
        failures, particles = found.failures, report.truth
        page.paragraph(str(found).split("\n", 1)[0])
    else:
        found, particles = None, subject.particles
        failures = find_failures(
            particles,
            errors,
            threshold=subject.threshold,
            diameter=diameter,
            rng=np.random.default_rng(0),
            extents=particles.extents,
        )
        page.paragraph(f"By expected errors: {failures.words}")
    _regions(page, failures, many=len(particles.tomogram_names) > 1)
    if found is not None and found.associations:
        page.paragraph("What goes with the error (rank correlation; p for all of them together):")
        rows = [(one.name, f"{one.strength:+.2f}", f"{one.p_value:.1g}") for one in found.associations]
        page.table(rows, head=("property", "correlation", "p"))
    names = [name for name in particles.tomogram_names if any(one.tomogram == name for one in failures.regions)]
    names = names or list(particles.tomogram_names)
    page.figure(
        places_figure(particles, failures, names[:_MOST_PLACES]),
        "Particles from above: right ones grey, failures red, with the letter of their region"
        + (f"; {len(names) - _MOST_PLACES} more tomograms are not drawn." if len(names) > _MOST_PLACES else "."),
    )


def _regions(page: HtmlPage, failures: Failures, *, many: bool) -> None:
    rows = [
        (region.name, region.size, region.place, *([region.tomogram] if many else []))
        for region in failures.regions[:20]
    ]
    if rows:
        page.table(rows, head=("region", "failures", "where", *(["tomogram"] if many else [])))
    if len(failures.regions) > len(rows):
        page.paragraph(f"{len(failures.regions) - len(rows)} more are not listed.", style="quiet")


# --- particles ------------------------------------------------------------------------------------------------------


def _particles(page: HtmlPage, subject: ReportSubject, report: Report | None) -> None:
    from napari_orient.engine.reports.figures import particles_figure

    diameter = _diameter(subject)
    if not subject.labelled or diameter is None:
        return
    shown = subject.particles if report is None else report.predicted
    errors = _errors_of(subject, report)
    if errors is None:
        return
    true = None if report is None else report.truth.required_rotations()
    page.heading("Worst and best particles")
    what = "expected" if report is None else "true"
    order = np.argsort(-errors, kind="stable")
    count = min(_SHOWN, max(1, len(order) // 2))
    views = _ParticleViews(subject, shown, true, diameter)
    for name, rows in (("worst", order[:count]), ("best", order[::-1][:count])):
        pairs = [(row, views.comparison(int(row))) for row in rows]
        found = [(row, one) for row, one in pairs if one is not None]
        if found:
            titles = [f"no. {row + 1}\n{errors[row]:.1f}°" for row, _ in found]
            page.figure(
                particles_figure([one for _, one in found], titles),
                f"The {len(found)} {name} by {what} error: number and error; patch, and reference in its pose.",
            )


class _ParticleViews:
    """Patches of particles beside the reference; what is estimated of a tomogram is kept for the next particle."""

    def __init__(self, subject: ReportSubject, particles: Particles, true: FloatArray | None, diameter: float) -> None:
        self.particles, self.true, self.diameter = particles, true, diameter
        self.tomograms = {tomogram.name: tomogram for tomogram, _ in subject.labelled}
        self.template = subject.template
        self._ready: dict[str, tuple[int, Reference | None, Any]] = {}

    def comparison(self, row: int) -> ReferenceComparison | None:
        """Patch and reference of a particle; None where its tomogram is not there or too small."""
        name = str(np.asarray(self.particles.tomogram)[row])
        tomogram = self.tomograms.get(name)
        if tomogram is None and len(self.tomograms) == 1 and len(self.particles.tomogram_names) == 1:
            (tomogram,) = self.tomograms.values()
        if tomogram is None:
            return None
        side, reference, wedge = self._of(tomogram)
        if side > min(tomogram.density.shape):
            return None
        return compare_with_reference(
            tomogram,
            self.particles.positions[row],
            side=side,
            rotation=self.particles.required_rotations()[row],
            true_rotation=None if self.true is None else self.true[row],
            reference=reference,
            wedge=wedge,
        )

    def _of(self, tomogram: Tomogram) -> tuple[int, Reference | None, Any]:
        if tomogram.name not in self._ready:
            side = 2 * round(_PATCH_DIAMETERS * self.diameter / tomogram.voxel_size / 2)
            reference, wedge = None, None
            if self.template is not None:
                resolution = max(_RESOLUTION_VOXELS * tomogram.voxel_size, 2.2 * self.template.voxel_size)
                reference = build_reference(self.template.density, self.template.voxel_size, resolution=resolution)
                if side <= min(tomogram.density.shape):
                    wedge = estimate_patch_wedge(tomogram, self.particles.positions, side=side)
            self._ready[tomogram.name] = side, reference, wedge
        return self._ready[tomogram.name]


def _diameter(subject: ReportSubject) -> float | None:
    if subject.diameter is not None:
        return subject.diameter
    return None if subject.template is None else 2 * subject.template.radius


# --- provenance -----------------------------------------------------------------------------------------------------


def _provenance(page: HtmlPage, subject: ReportSubject) -> None:
    page.heading("What was run")
    page.table(list(subject.run.items()))
    if subject.model:
        page.heading("Model")
        page.table(list(subject.model.items()))
    page.paragraph(
        "Random rotations are what a guess reaches: "
        f"{chance_within(20.0):.2%} lie within 20° of any pose of a particle without symmetry.",
        style="quiet",
    )
