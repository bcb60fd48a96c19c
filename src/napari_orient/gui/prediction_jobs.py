"""What a prediction is asked of, its answer, and both in words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.io import pose_summary
from napari_orient.engine.networks.checkpoint import Checkpoint
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction import PredictionOptions, predict
from napari_orient.engine.rotations import symmetry
from napari_orient.engine.streams import Note, Step, Stream
from napari_orient.gui.widgets import GOOD, MUTED, WARNING


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """What a prediction is asked of: values alone, taken from the layers before the work starts."""

    tomogram: Tomogram
    picks: Particles
    checkpoint: Checkpoint
    options: PredictionOptions
    truth: Particles | None


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """Predicted particles, seconds taken, the report against the truth where that is known, and what was noted."""

    predicted: Particles
    seconds: float
    report: Report | None
    notes: tuple[Note, ...] = ()


def predict_and_evaluate(request: PredictionRequest) -> Stream[Step, PredictionResult]:
    """The prediction as a stream, evaluated at its end where the truth is known."""
    began = time.monotonic()
    notes: list[Note] = []
    asked = predict(request.tomogram, request.picks, request.checkpoint, request.options)
    predicted = yield from _heard(asked, notes)
    seconds = time.monotonic() - began
    return PredictionResult(predicted, seconds, _report(predicted, request), tuple(notes))


def _heard(stream: Stream[Step, Particles], notes: list[Note]) -> Stream[Step, Particles]:
    """The same stream; what its steps note is kept."""
    try:
        while True:
            step = next(stream)
            notes.extend(step.notes)
            yield step
    except StopIteration as end:
        predicted: Particles = end.value
        return predicted
    finally:
        stream.close()


def _report(predicted: Particles, request: PredictionRequest) -> Report | None:
    if request.truth is None:
        return None
    group = symmetry(str(request.checkpoint.options.get("symmetry", "C1")))
    try:
        return evaluate(predicted, request.truth, group=group)
    except InputError:
        return None  # The truth on view is of other particles; the prediction stands all the same.


def result_text(result: PredictionResult) -> str:
    """The answer in a few lines: how many, how sure, how long, and how right where the truth is known."""
    predicted = result.predicted
    lines = [f"{len(predicted)} orientations in {result.seconds:.1f} s"]
    lines += [words[0].upper() + words[1:] for words in pose_summary(predicted)]
    if result.report is not None:
        figures = result.report.all
        share, chance = figures.within["20"], figures.chance_within["20"]
        lines.append(
            f"True error {figures.median_deg:.1f}° (median of {figures.count}; chance {figures.chance_median_deg:.0f}°)"
        )
        lines.append(f"{share:.1%} within 20° of the truth (chance {chance:.1%})")
    return "\n".join([*lines, *map(str, result.notes)])


def result_colour(result: PredictionResult) -> str:
    """How good the answer looks: by the truth where it is known, else by what the network expects of itself."""
    if result.report is not None:
        return GOOD if result.report.all.within["20"] >= 0.8 else WARNING
    expected = result.predicted.expected_error_deg
    return MUTED if expected is None else GOOD if np.median(expected) <= 20 else WARNING


def card_text(checkpoint: Checkpoint) -> str:
    """What a person should know of a network, in a few short lines."""
    card, options = checkpoint.card, checkpoint.options
    lines = []
    if card.get("classes"):
        lines.append(f"Learnt {', '.join(card['classes'])}")
    if isinstance(card.get("particles"), Mapping):
        lines.append(
            f"from {card['particles'].get('training', 0):,} particles in {card.get('tomograms', '?')} tomograms"
        )
    if {"patch_side", "patch_voxel_size"} <= set(options):
        lines.append(f"sees {options['patch_side']}³ voxels of {options['patch_voxel_size']:g} Å")
    if isinstance(card.get("figures"), Mapping) and "validation_median_deg" in card["figures"]:
        lines.append(f"median error {card['figures']['validation_median_deg']:.1f}° on tomograms kept apart")
    return " · ".join(lines) or "This network carries no card."


def full_card_text(checkpoint: Checkpoint) -> str:
    """All that is known of a network, line by line."""
    entries: dict[str, Any] = {"kind": checkpoint.kind, **checkpoint.options, **checkpoint.card}
    return "\n".join(f"{name}: {value}" for name, value in entries.items())
