"""Input and result of a prediction job, and both as text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.io import pose_summary
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.prediction import Model, PoseEstimator, predict
from napari_orient.engine.streams import Note, Step, Stream, map_steps
from napari_orient.gui import layers
from napari_orient.gui.particle_values import in_frame_of
from napari_orient.gui.widgets import GOOD, MUTED, WARNING

GOOD_SHARE = 0.8
"""Share of particles within 20° of the truth from which a result is shown as good; 0 to 1."""

RIGHT = 20.0
"""Degrees up to which a pose counts as right here, and a median expected error as good: the paper's threshold."""

_PARTS = 100
"""Parts that the progress of one of several tomograms is counted in."""


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
    """Predicted particles, seconds taken, the evaluation against true poses if there are any, and notes.

    ``own_frame`` is true of a model in a frame of its own, as a discovered map is; ``estimator`` predicts further
    picks of the tomogram at once.
    """

    predicted: Particles
    seconds: float
    report: Report | None
    notes: tuple[Note, ...] = ()
    own_frame: bool = False
    estimator: PoseEstimator | None = None


def predict_and_evaluate(request: PredictionRequest) -> Stream[Step, PredictionResult]:
    """The prediction as a stream, evaluated at its end if true poses are given."""
    began = time.monotonic()
    notes: list[Note] = []
    prepared: list[PoseEstimator] = []
    stream = predict(request.tomogram, request.picks, request.model, request.options, prepared=prepared.append)
    predicted = yield from _with_notes(stream, notes)
    seconds = time.monotonic() - began
    own_frame = layers.FRAME in request.model.card
    return PredictionResult(predicted, seconds, _report(predicted, request), tuple(notes), own_frame, prepared[-1])


def predict_all(requests: Sequence[PredictionRequest]) -> Stream[Step, list[PredictionResult | None]]:
    """The result of each request, in order; None for a tomogram that failed, which a note says, where there are more.

    Raises
    ------
    InputError
        If the only one cannot be predicted, or none can.
    """
    if len(requests) == 1:
        return [(yield from predict_and_evaluate(requests[0]))]
    results: list[PredictionResult | None] = []
    failed: list[str] = []
    for place, request in enumerate(requests):
        name = request.tomogram.name
        try:
            among = partial(_among, place, len(requests), name)
            results.append((yield from map_steps(predict_and_evaluate(request), among)))
        except InputError as error:
            failed.append(f"{name}: {error}")
            results.append(None)
            yield Step(
                _PARTS * (place + 1), _PARTS * len(requests), f"{name} failed", notes=(Note(failed[-1], "warning"),)
            )
    if len(failed) == len(requests):
        raise InputError(failed[0])
    return results


def _among(place: int, count: int, name: str, step: Step) -> Step:
    """A step of one tomogram as one of all."""
    done = _PARTS * place + _PARTS * step.done // max(step.total, 1)
    return Step(done, _PARTS * count, f"{name} ({place + 1} of {count}): {step.message}", notes=step.notes, whole=True)


def _with_notes(stream: Stream[Step, Particles], notes: list[Note]) -> Stream[Step, Particles]:
    """The same stream; the notes of its steps are appended to ``notes``."""

    def collected(step: Step) -> Step:
        notes.extend(step.notes)
        return step

    return map_steps(stream, collected)


def _report(predicted: Particles, request: PredictionRequest) -> Report | None:
    if request.truth is None:
        return None
    truth = request.truth
    if layers.FRAME in request.model.card:
        truth = in_frame_of(predicted, truth, request.model.group)
    try:
        return evaluate(predicted, truth, group=request.model.group)
    except InputError:
        return None  # The true poses are of other particles: the prediction stands without an evaluation.


def failures(results: Sequence[PredictionResult], threshold: float) -> tuple[int, bool]:
    """How many poses are beyond a threshold in degrees, and whether that is by true errors or by expected ones."""
    reports = [result.report for result in results if result.report is not None]
    if reports:
        return sum(int((report.errors_deg > threshold).sum()) for report in reports), True
    expected = [result.predicted.expected_error_deg for result in results]
    return sum(int((errors > threshold).sum()) for errors in expected if errors is not None), False


def result_text(results: Sequence[PredictionResult]) -> str:
    """Results in a few lines: count, time, expected error and, with true poses, true error beside chance."""
    total, seconds = sum(len(result.predicted) for result in results), sum(result.seconds for result in results)
    where = f" in {len(results)} tomograms" if len(results) > 1 else ""
    lines = [f"{total} orientations{where} in {seconds:.1f} s"]
    for result in results if len(results) == 1 else ():
        lines += [line[0].upper() + line[1:] for line in pose_summary(result.predicted)]
    if len(results) > 1:
        expected = _expected(results)
        lines += [f"Expected error {np.median(expected):.1f}° (median)"] if len(expected) else []
    reports = [result.report for result in results if result.report is not None]
    if reports:
        errors, by_chance = np.concatenate([report.errors_deg for report in reports]), reports[0].all
        frame = ", up to one common rotation: the model's frame is its own" if results[0].own_frame else ""
        chance = f"chance {by_chance.chance_median_deg:.0f}°"
        lines.append(f"True error {np.median(errors):.1f}° (median of {len(errors)}; {chance}){frame}")
        share = float((errors <= RIGHT).mean())
        lines.append(f"{share:.1%} within 20° of the truth (chance {by_chance.chance_within['20']:.1%})")
    return "\n".join([*lines, *(str(note) for result in results for note in result.notes)])


def _expected(results: Sequence[PredictionResult]) -> FloatArray:
    found = [result.predicted.expected_error_deg for result in results]
    known = [errors for errors in found if errors is not None]
    return np.concatenate(known) if known else np.zeros(0)


def result_colour(results: Sequence[PredictionResult]) -> str:
    """Colour of results: by the true errors if there are any, else by the expected error."""
    reports = [result.report for result in results if result.report is not None]
    if reports:
        errors = np.concatenate([report.errors_deg for report in reports])
        return GOOD if float((errors <= RIGHT).mean()) >= GOOD_SHARE else WARNING
    expected = _expected(results)
    return MUTED if not len(expected) else GOOD if np.median(expected) <= RIGHT else WARNING


def card_text(model: Model) -> str:
    """A model's card in one line: classes, training particles, patch size, validation error."""
    card, options = model.card, model.options_record()
    lines = []
    if card.get("classes"):
        lines.append(f"Trained on {', '.join(card['classes'])}")
    if isinstance(card.get("particles"), Mapping):
        lines.append(f"{card['particles'].get('training', 0):,} particles{_count(card.get('tomograms'))}")
    if {"patch_side", "patch_voxel_size"} <= set(options):
        lines.append(f"patches of {options['patch_side']}³ voxels of {options['patch_voxel_size']:g} Å")
    if isinstance(card.get("figures"), Mapping) and "validation_median_deg" in card["figures"]:
        lines.append(f"median error {card['figures']['validation_median_deg']:.1f}° on validation tomograms")
    return " · ".join(lines) or "This model has no card."


def full_card_text(model: Model) -> str:
    """All entries of a model's options and card, one a line."""
    entries: dict[str, Any] = {"kind": model.kind, **model.options_record(), **model.card}
    return "\n".join(f"{name}: {value}" for name, value in entries.items())


def _count(tomograms: object) -> str:
    """How many tomograms, where it is known: `` in 1 tomogram``."""
    if not isinstance(tomograms, int) or not tomograms:
        return ""
    return " in 1 tomogram" if tomograms == 1 else f" in {tomograms} tomograms"
