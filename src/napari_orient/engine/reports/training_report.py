"""The report on a training: one page that says what was learnt of which data, and how its errors fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_orient.engine.evaluation import chance_median_deg
from napari_orient.engine.reports.page import HtmlPage
from napari_orient.engine.symmetry import C1, Symmetry


@dataclass(frozen=True)
class ValidationPoint:
    """What was validated after a stretch of training.

    Parameters
    ----------
    done : epochs, or averages, so far.
    median_deg, mean_deg : error on the validation part, degrees.
    losses : of training and validation; None where nothing is minimised, as for a template.
    """

    done: int
    median_deg: float
    mean_deg: float
    losses: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSubject:
    """What a report on a training is on.

    Parameters
    ----------
    title : of the page.
    points : in the order of training; those of this run, where it was resumed.
    figures : of the model that is kept, as its card has them; empty where none were measured.
    particles : with poses, that training and validation were given.
    group : symmetry that errors are taken modulo.
    run : what was run: by name, in the order shown.
    warnings : what was said about it.
    model : card of the model, by name.
    """

    title: str
    points: Sequence[ValidationPoint]
    figures: Mapping[str, float]
    particles: int
    group: Symmetry = C1
    run: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    model: Mapping[str, str] = field(default_factory=dict)


def training_report(subject: TrainingSubject) -> HtmlPage:
    """The page on a training."""
    page = HtmlPage(subject.title)
    page.record(_record(subject))
    by_chance = chance_median_deg(subject.group)
    page.paragraph(_headline(subject, by_chance), style="lead")
    for warning in subject.warnings:
        page.paragraph(warning, style="warning")
    if subject.points:
        _errors(page, subject, by_chance)
    page.heading("What was run")
    page.table(list(subject.run.items()))
    page.heading("Model")
    page.table(list(subject.model.items()))
    return page


def _record(subject: TrainingSubject) -> dict[str, Any]:
    """Plain values of the page, for programs."""
    return {
        "title": subject.title,
        "particles": subject.particles,
        "figures": dict(subject.figures),
        "run": dict(subject.run),
        "warnings": list(subject.warnings),
    }


def _headline(subject: TrainingSubject, by_chance: float) -> str:
    given = f"{subject.particles} particles were given. " if subject.particles else ""
    median = subject.figures.get("validation_median_deg")
    if median is None:
        return f"{given}The map was taken as it is; nothing was validated."
    return (
        f"{given}On particles kept apart for validation the median error is {median:.2f}°; random rotations err by "
        f"{by_chance:.1f}°."
    )


def _errors(page: HtmlPage, subject: TrainingSubject, by_chance: float) -> None:
    from napari_orient.engine.reports.figures import training_figure

    best = min(subject.points, key=lambda point: point.mean_deg)
    page.heading("Errors on the validation part")
    page.table(
        [_row("first", subject.points[0]), _row("best", best), _row("last", subject.points[-1])],
        head=("", "epoch or average", "median error", "mean error"),
    )
    if len(subject.points) > 1:
        page.figure(
            training_figure(subject.points, by_chance),
            "Median error of the validation part (red) beside that of random rotations (line); losses, if any.",
        )


def _row(name: str, point: ValidationPoint) -> tuple[str, ...]:
    return name, str(point.done), f"{point.median_deg:.2f}°", f"{point.mean_deg:.2f}°"
