"""Input and result of a prediction job, and both as text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.io import pose_summary
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction import Model, predict
from napari_orient.engine.streams import Note, Step, Stream, map_steps
from napari_orient.gui.widgets import GOOD, MUTED, WARNING

GOOD_SHARE = 0.8
"""Share of particles within 20° of the truth from which a result is shown as good; 0 to 1."""

GOOD_ERROR = 20.0
"""Median expected error in degrees up to which a result is shown as good: the paper's threshold of a right pose."""


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """Input of a prediction job: values copied from the layers, so later edits do not affect it."""

    tomogram: Tomogram
    picks: Particles
    model: Model
    options: PredictionOptions
    truth: Particles | None


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """Predicted particles, seconds taken, the evaluation against true poses if there are any, and notes."""

    predicted: Particles
    seconds: float
    report: Report | None
    notes: tuple[Note, ...] = ()


def predict_and_evaluate(request: PredictionRequest) -> Stream[Step, PredictionResult]:
    """The prediction as a stream, evaluated at its end if true poses are given."""
    began = time.monotonic()
    notes: list[Note] = []
    stream = predict(request.tomogram, request.picks, request.model, request.options)
    predicted = yield from _with_notes(stream, notes)
    seconds = time.monotonic() - began
    return PredictionResult(predicted, seconds, _report(predicted, request), tuple(notes))


def _with_notes(stream: Stream[Step, Particles], notes: list[Note]) -> Stream[Step, Particles]:
    """The same stream; the notes of its steps are appended to ``notes``."""

    def collected(step: Step) -> Step:
        notes.extend(step.notes)
        return step

    return map_steps(stream, collected)


def _report(predicted: Particles, request: PredictionRequest) -> Report | None:
    if request.truth is None:
        return None
    try:
        return evaluate(predicted, request.truth, group=request.model.group)
    except InputError:
        return None  # The true poses are of other particles: the prediction stands without an evaluation.


def result_text(result: PredictionResult) -> str:
    """A result in a few lines: count, time, expected error and, with true poses, true error beside chance."""
    predicted = result.predicted
    lines = [f"{len(predicted)} orientations in {result.seconds:.1f} s"]
    lines += [line[0].upper() + line[1:] for line in pose_summary(predicted)]
    if result.report is not None:
        figures = result.report.all
        share, chance = figures.within["20"], figures.chance_within["20"]
        lines.append(
            f"True error {figures.median_deg:.1f}° (median of {figures.count}; chance {figures.chance_median_deg:.0f}°)"
        )
        lines.append(f"{share:.1%} within 20° of the truth (chance {chance:.1%})")
    return "\n".join([*lines, *map(str, result.notes)])


def result_colour(result: PredictionResult) -> str:
    """Colour of a result: by the true errors if there are any, else by the expected error."""
    if result.report is not None:
        return GOOD if result.report.all.within["20"] >= GOOD_SHARE else WARNING
    expected = result.predicted.expected_error_deg
    return MUTED if expected is None else GOOD if np.median(expected) <= GOOD_ERROR else WARNING


def card_text(model: Model) -> str:
    """A model's card in one line: classes, training particles, patch size, validation error."""
    card, options = model.card, model.options_record()
    lines = []
    if card.get("classes"):
        lines.append(f"Trained on {', '.join(card['classes'])}")
    if isinstance(card.get("particles"), Mapping):
        lines.append(f"{card['particles'].get('training', 0):,} particles in {card.get('tomograms', '?')} tomograms")
    if {"patch_side", "patch_voxel_size"} <= set(options):
        lines.append(f"patches of {options['patch_side']}³ voxels of {options['patch_voxel_size']:g} Å")
    if isinstance(card.get("figures"), Mapping) and "validation_median_deg" in card["figures"]:
        lines.append(f"median error {card['figures']['validation_median_deg']:.1f}° on validation tomograms")
    return " · ".join(lines) or "This model has no card."


def full_card_text(model: Model) -> str:
    """All entries of a model's options and card, one a line."""
    entries: dict[str, Any] = {"kind": model.kind, **model.options_record(), **model.card}
    return "\n".join(f"{name}: {value}" for name, value in entries.items())
