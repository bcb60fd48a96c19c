"""The card Predict: orientations of particles by a model that knows them, drawn as red arrows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Points
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.io import pose_summary
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.prediction import Model, PoseEstimator, load_model, predict, provenance
from napari_orient.engine.streams import Note, Step, Stream, map_steps
from napari_orient.gui import layers
from napari_orient.gui.axes import axes_layer
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.pages.base import JobCard, ParticlesPage, show_device
from napari_orient.gui.particle_values import in_frame_of
from napari_orient.gui.tomogram_switch import ListedParticles
from napari_orient.gui.widgets import (
    GOOD,
    LABEL_WIDTH,
    MUTED,
    WARNING,
    JobRow,
    NoteLabel,
    combo_box,
    labelled,
    listen,
    primary_button,
    show_classes,
    silent,
)

MODEL_FILES = "Models (*.safetensors);;All files (*)"
FROM_FILE = "from a file…"
BASIC = ("max_shift", "precision")
"""Options above the fold; with particles, class, model and tomograms they are six settings."""

GOOD_SHARE = 0.8
"""Share of particles within 20° of the truth from which a result is shown as good; 0 to 1."""

RIGHT = 20.0
"""Degrees up to which a pose counts as right here, and a median expected error as good: the paper's threshold."""

_PARTS = 100
"""Parts that the progress of one of several tomograms is counted in."""


def _unpredicted(found: list[Points]) -> list[Points]:
    """Those of the layers that were not predicted, true poses last."""
    return sorted(
        (layer for layer in found if layers.role(layer) != PREDICTED), key=lambda layer: layers.role(layer) == TRUTH
    )


class PredictCard(JobCard, ParticlesPage):
    """Predicts the orientations of the chosen particles; shows them as layers with arrows."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.loaded: Model | None = None
        self._requests: list[PredictionRequest] = []
        self._predicted: set[str] = set()
        self.particles = self.choose_particles(own_points=True)
        self.extent = combo_box("Predict the particles of the tomogram that is shown, or of every tomogram")
        self.kind = combo_box("Predict only the particles of this class")
        self.model = combo_box("A model shipped with the program, or one from a file: a template or a network")
        self.input_note, self.card, self.device_note, self.result = NoteLabel(), NoteLabel(), NoteLabel(), NoteLabel()
        self.options = OptionsForm(
            PredictionOptions,
            labels={"centring": "Patch centre", "max_shift": "Search range (Å)"},
            first=BASIC,
            label_width=LABEL_WIDTH,
        )
        self.running = JobRow("Predict orientations", "Predict the orientation of every chosen particle")
        self.onward = primary_button("Inspect the poses", "Go to the page Inspect", self._inspect)
        self.onward.hide()
        inputs = {"Particles": self.particles, "Class": self.kind, "Model": self.model}
        self.all_line = labelled({"On": self.extent}, width=LABEL_WIDTH)
        self.add(labelled(inputs, width=LABEL_WIDTH), self.all_line, self.input_note, self.card)
        self.add(self.options, self.device_note, self.running, self.result, self.onward)
        self._connect()

    def _connect(self) -> None:
        for choice in (self.kind, self.extent):
            choice.currentIndexChanged.connect(self.show_state)
        self.model.activated.connect(self._model_chosen)
        self.options.changed.connect(self.show_state)
        self.running.asked.connect(self.run)
        self.running.ended.connect(self.show_state)
        listen(self, self.session.events.model, self._model_changed)
        listen(self, self.session.events.preferences, self._show_preferred)

    def opened(self) -> None:
        """Choose the session's model, and its particles' class."""
        self._show_preferred()
        self._fill_models()
        self.layer_chosen()
        self._model_chosen()

    def _show_preferred(self, event: object = None) -> None:
        """Show the device and precision of the preferences."""
        preferred = self.session.preferences.to_record()
        for name in ("device", "precision"):
            self.options.widgets[name].value = preferred[name]

    def offered(self) -> list[Points]:
        """Layers of picks, then of true poses, of the tomogram that is shown; predicted layers are left out."""
        return _unpredicted(self.session.tomograms.particles())

    def tomogram_changed(self, event: object = None) -> None:
        """Offer the particles of the tomogram that is shown now."""
        super().tomogram_changed()
        self.show_state()
        self._show_result()

    def _show_result(self) -> None:
        """Show the result, and the button that leads on from it, in the tomograms that it is of."""
        here = self.session.tomograms.name in self._predicted
        self.result.setVisible(here and bool(self.result.text()))
        self.onward.setVisible(here)

    def _fill_models(self) -> None:
        for name in shipped_models():
            self.model.addItem(name, name)
        self.model.addItem(FROM_FILE, None)
        if self.session.model:
            self._offer_model(self.session.model)

    def _offer_model(self, name: str) -> None:
        """Add this model to the list, and choose it."""
        if self.model.findData(name) < 0:
            self.model.insertItem(self.model.count() - 1, Path(name).name, name)
        self.model.setCurrentIndex(self.model.findData(name))

    # --- input --------------------------------------------------------------------------------------------------

    def _model_chosen(self, *_: object) -> None:
        if self.model.currentData() is None and shipped_models():
            self._ask_for_file()
        name = self.model.currentData() or ""
        if name == self.session.model:
            self._open_model(name)
        else:
            self.session.model = name  # The session's event then reaches this dock and the others.

    def _model_changed(self, event: object = None) -> None:
        self.show_model(self.session.model)

    def _open_model(self, name: str) -> None:
        self.loaded = None
        if not name:
            self.card.say("No model yet: choose a file (.safetensors).", WARNING)
        else:
            try:
                self.loaded = load_model(name)
                self.card.say(card_text(self.loaded), MUTED)
                self.card.setToolTip(full_card_text(self.loaded))
            except InputError as error:
                self.card.refuse(error)
        self._choose_class()
        self.show_state()

    def _ask_for_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", MODEL_FILES)
        self.show_model(name or self.session.model)

    def show_model(self, name: str) -> None:
        """Choose this model: the name of a shipped one, or a file."""
        if name:
            self._offer_model(name)
        else:
            self.model.setCurrentIndex(0)
        if self.model.currentData() is not None:
            self._model_chosen()

    def layer_chosen(self, *_: object) -> None:
        """Offer the classes of the layer that is chosen now."""
        kinds = None if self.layer is None else layers.picks_of(self.layer).kind
        counts = Counter() if kinds is None else Counter(kinds.tolist())
        show_classes(self.kind, counts, 0 if self.layer is None else len(self.layer.data))
        self._choose_class()
        self.show_state()

    def _choose_class(self) -> None:
        """Choose the class that the model was trained on, if the particles are of several classes."""
        places = [self.kind.findData(code) for code in self._trained_classes() if self.kind.findData(code) > 0]
        if places and self.kind.count() > 2 and self.kind.currentData() is None:
            self.kind.setCurrentIndex(places[0])

    def show_state(self, *_: object) -> None:
        """Show what would be predicted, on which device, or what is missing."""
        count = len(self._others()) + 1
        self.all_line.setVisible(count > 1)
        if self.extent.count() != 2 or self.extent.itemText(1) != f"all {count} tomograms":
            chosen = max(0, self.extent.currentIndex())
            with silent(self.extent):
                self.extent.clear()
                self.extent.addItems(["this tomogram", f"all {count} tomograms"])
                self.extent.setCurrentIndex(chosen if count > 1 else 0)
        self.running.allow(self._check_input() and self.loaded is not None)
        show_device(self.device_note, self.options)

    def _check_input(self) -> bool:
        """Show what would be predicted, or what is missing; True if there is anything."""
        points, image = self.layer, self.image
        if points is None or image is None:
            missing = "tomogram" if not self.session.index.tomograms() else "particles"
            self.input_note.say(f"No {missing} open yet: use the page Data.", WARNING)
            return False
        try:
            tomogram = layers.tomogram_of(image)
        except InputError as error:
            self.input_note.refuse(error)
            return False
        text = f"In {tomogram.name}, voxels of {tomogram.voxel_size:g} Å"
        warning = self.session.index.mismatch(points, image) or self._class_warning()
        self.input_note.say(f"{text}\n{warning}" if warning else text, WARNING if warning else MUTED)
        return True

    def _trained_classes(self) -> list[str]:
        return [] if self.loaded is None else list(self.loaded.classes)

    def _class_warning(self) -> str:
        """A warning if the particles are of a class that the model was not trained on."""
        trained, chosen = self._trained_classes(), self.kind.currentData()
        unknown = [code for code in self.classes() if trained and code not in trained and chosen in (None, code)]
        if not unknown:
            return ""
        return f"The model is of {', '.join(trained)}: poses of {', '.join(unknown)} will be meaningless."

    # --- prediction ----------------------------------------------------------------------------------------------

    def _others(self) -> list[tuple[Image, Points] | str]:
        """The other tomograms whose particles could be predicted: their layers, or their names."""
        switch, found = self.session.tomograms, list[tuple[Image, Points] | str]()
        for name in switch.names():
            image, entry = switch.image(name), switch.listed.get(name)
            if name == switch.name:
                continue
            own = [item for item in self.session.index.particles() if switch.owner(item) == name]
            layer = next(iter(_unpredicted(own)), None)
            if image is not None and layer is not None:
                found.append((image, layer))
            elif entry is not None and entry.tomogram is not None and entry.parts:
                found.append(name)
        return found

    def request(self) -> list[PredictionRequest]:
        """The job's input: for the tomogram that is shown, and for the others where all are wanted.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        image = self.image
        if self.layer is None or image is None:
            raise InputError("prediction needs a tomogram, particles and a model. Open what is missing.")
        first = self._request_of(image, self.layer)
        others = self._others() if self.extent.currentIndex() == 1 else []
        more = [self._listed_request(other) if isinstance(other, str) else self._request_of(*other) for other in others]
        return [first, *(request for request in more if len(request.picks))]

    def _request_of(self, image: Image, points: Points) -> PredictionRequest:
        tomogram, picks = layers.tomogram_of(image), layers.picks_of(points)
        if self.kind.currentData() is not None:
            picks = picks.of_kind(self.kind.currentData())
        if not any(picks.tomogram_names):
            picks = picks.replace(tomogram=tomogram.name)
        truth = self.session.index.truth_of(tomogram.name)
        true = None if truth is None else layers.particles_of(truth)
        return PredictionRequest(tomogram, picks, self._model(), self.options.options(), true, (image, points))

    def _listed_request(self, name: str) -> PredictionRequest:
        entry = self.session.tomograms.listed[name]
        assert entry.tomogram is not None
        picks = entry.parts[0].particles.replace(rotations=None)
        kinds = [] if picks.kind is None else picks.kind.tolist()
        wanted = self.kind.currentData()
        picks = picks.of_kind(wanted) if wanted in kinds else picks if wanted is None else picks.take([])
        truth = next((part.particles for part in entry.parts if part.role == TRUTH), None)
        return PredictionRequest(entry.tomogram, picks, self._model(), self.options.options(), truth, name)

    def _model(self) -> Model:
        if self.loaded is None:
            raise InputError("prediction needs a model. Choose one.")
        return self.loaded

    def start(self, request: list[PredictionRequest]) -> None:
        """Start the prediction; the result of a tomogram whose layers are removed meanwhile is discarded."""
        self._requests, self._predicted = request, set()
        self.result.say("")
        self._show_result()
        job = self.session.jobs.start(predict_all(request), title="Predict", show=self._deliver)
        self.running.follow(job)

    def _deliver(self, results: list[PredictionResult | None] | None) -> Iterator[None]:
        """Show each tomogram's poses, one layer at a time."""
        done = []
        for request, result in zip(self._requests, results or (), strict=False):
            source = request.source
            if result is None:
                continue
            if isinstance(source, tuple) and not all(layer in self.session.viewer.layers for layer in source):
                show_warning("The tomogram or the particles were removed meanwhile; their prediction was discarded.")
                continue
            done.append(result)
            self._show_predicted(result, request)
            yield
        if done:
            self._predicted = {request.tomogram.name for request in self._requests}
            self.result.say(result_text(done), result_colour(done))
            self._offer_onward(done)

    def _inspect(self) -> None:
        """Show the poses on the page Inspect, and frame the failures in 3D where there are any."""
        self.session.show_page("Inspect")
        inspected = self.session.inspected
        made = [layer for layer in self.session.tomograms.particles(PREDICTED) if layer is not inspected.layer]
        source = None if inspected.layer is None else layers.about(inspected.layer).get("source")
        if source is None and made:
            inspected.inspect(made[0])
        inspected.settle()
        if inspected.failed.any():
            self.session.failure_view.show(np.zeros(0, int))

    def _offer_onward(self, done: list[PredictionResult]) -> None:
        """Name the button that leads on by what there is to inspect."""
        count, true = failures(done, self.session.inspection.options.threshold)
        what = ("failure" if true else "unsure pose") + ("" if count == 1 else "s")
        self.onward.setText(f"Inspect the {count} {what}" if count else "Inspect the poses")
        self._show_result()
        self.reveal(self.onward)

    def _show_predicted(self, result: PredictionResult, request: PredictionRequest) -> None:
        source, line = request.source, provenance(request.model, request.options, count=len(request.picks))
        if isinstance(source, str):
            part = ListedParticles(result.predicted, PREDICTED, f"{source} predicted", line)
            self.session.tomograms.list_particles(source, part)
            return
        image, points = source
        if result.estimator is not None:
            self.session.prepared[image] = (self.session.model, result.estimator)
        made_by = {"source": layers.identity(points), "model": request.model.name}
        frame = {layers.FRAME: request.model.card[layers.FRAME]} if layers.FRAME in request.model.card else {}
        of_source = [
            layer
            for layer in self.session.index.particles(PREDICTED)
            if layers.about(layer).get("source") == made_by["source"]
        ]
        for layer in of_source:
            if layers.about(layer).get("model") == request.model.name:
                self.session.replace_particles(layer, result.predicted, provenance=line, words="predict again")
                return
        name = f"{points.name.removesuffix(' picks').removesuffix(' truth')} predicted"
        layer = self.session.show_particles(
            result.predicted,
            request.tomogram.extent,
            role=PREDICTED,
            name=f"{name} ({request.model.name})" if name in self.session.viewer.layers else name,
            provenance=line,
            immediately=False,
        )
        layers.about(layer).update(made_by | frame)
        # Poses of another model, or those that came with the picks, would hide the new ones.
        own = [points] if layers.role(points) == PICKS else []
        for old in (axes_layer(self.session.viewer, item) for item in (*of_source, *own)):
            if old is not None:
                old.visible = False


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """Input of a prediction job: values copied from the layers, so later edits do not affect it.

    ``source`` is where the result belongs: the layers asked for, or the name of a tomogram that has no layers yet.
    """

    tomogram: Tomogram
    picks: Particles
    model: Model
    options: PredictionOptions
    truth: Particles | None
    source: tuple[Image, Points] | str


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
