"""The card Predict: orientations of particles by a model that knows them, drawn as red arrows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog

from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import Report, evaluate
from napari_orient.engine.io.columns import pose_summary
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram
from napari_orient.engine.prediction.adaptation import predict_project
from napari_orient.engine.prediction.predict import (
    Model,
    PoseEstimator,
    PredictionTask,
    load_model,
    predict,
    provenance,
)
from napari_orient.engine.projects.each_tomogram import ProjectResult, for_each_tomogram
from napari_orient.engine.streams import Step, Stream
from napari_orient.gui.event_loop import listen
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.layers.particle_values import in_frame_of
from napari_orient.gui.pages.base import JobCard, ParticlesPage, show_device
from napari_orient.gui.session.tomogram_switch import ListedParticles, ParticleSet
from napari_orient.gui.widgets.basic import (
    GOOD,
    LABEL_WIDTH,
    MUTED,
    WARNING,
    NoteLabel,
    combo_box,
    counted,
    labelled,
    silent,
)
from napari_orient.gui.widgets.forms import OptionsForm
from napari_orient.gui.widgets.inputs import JobRow, show_classes

MODEL_FILES = "Models (*.safetensors);;All files (*)"
FROM_FILE = "from a file…"
BASIC = ("max_shift", "precision")
"""Options above the fold; with particles, class, model and tomograms they are six settings."""

_RANK = {role: place for place, role in enumerate(("", PICKS, TRUTH, PREDICTED))}
"""Which particles of a tomogram are predicted rather: lower ones."""

GOOD_SHARE = 0.8
"""Share of particles within 20° of the truth from which a result is shown as good; 0 to 1."""

RIGHT = 20.0
"""Degrees up to which a pose counts as right here, and a median expected error as good: the paper's threshold."""


class PredictCard(JobCard, ParticlesPage):
    """Predicts the orientations of the chosen particles; shows them as layers with arrows."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.loaded: Model | None = None
        self._request: PredictionRequest | None = None
        self._onward: dict[str, str] = {}
        self._role = ""
        self.particles = self.choose_particles(own_points=True)
        self.extent = combo_box("Predict the particles of the tomogram that is shown, or of every tomogram")
        self.kind = combo_box("Predict only the particles of this class")
        self.model = combo_box("A model shipped with the program, or one from a file: a template or a network")
        self.input_note, self.card, self.device_note, self.result = NoteLabel(), NoteLabel(), NoteLabel(), NoteLabel()
        self.options = OptionsForm(
            PredictionOptions,
            labels={
                "centring": "Patch centre",
                "max_shift": "Search range (Å)",
                "rounds": "Correction rounds",
                "seed": "Seed of the halves",
            },
            first=BASIC,
            label_width=LABEL_WIDTH,
        )
        tip = "Predict the orientation of every chosen particle"
        self.running = JobRow("Predict orientations", tip, stopped="")
        inputs = {"Particles": self.particles, "Class": self.kind, "Model": self.model}
        self.all_line = labelled({"On": self.extent}, width=LABEL_WIDTH)
        self.add(labelled(inputs, width=LABEL_WIDTH), self.all_line, self.input_note, self.card)
        self.add(self.options, self.device_note, self.result, self.running)
        self._connect()

    def _connect(self) -> None:
        for choice in (self.kind, self.extent):
            choice.currentIndexChanged.connect(self.show_state)
        self.model.activated.connect(self._model_chosen)
        self.options.changed.connect(self.show_state)
        self.running.asked.connect(self.run)
        self.running.onward.clicked.connect(self._inspect)
        self.running.ended.connect(self._ended)
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
        """Layers of picks, then of true poses, of the tomogram that is shown; without any, of poses from elsewhere."""
        own = sorted(self.session.tomograms.particles(), key=lambda layer: _RANK[layer_data.role(layer)])
        known = {layer_data.about(layer).get("id") for layer in own}
        others = [layer for layer in own if layer_data.role(layer) != PREDICTED]
        return others or [layer for layer in own if layer_data.about(layer).get("source") not in known]

    def tomogram_changed(self, event: object = None) -> None:
        """Offer the particles of the tomogram that is shown now."""
        super().tomogram_changed()
        if self._role == PICKS and self.layer is not None and layer_data.role(self.layer) == TRUTH:
            self.particles.choose(self.offered()[0])  # Taken for the truth meanwhile.
        self.show_state()
        self._show_result()

    def _show_result(self) -> None:
        """Show the result, and the button that leads on from it, in the tomograms that it is of."""
        switch = self.session.tomograms
        onward = self._onward.get(switch.name, "") if switch.particles(PREDICTED) else ""
        self.result.setVisible(bool(onward and self.result.text()))
        if self.running.job is None:
            self.running.lead_on(onward, "Go to the page Inspect")

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
        self._role = "" if self.layer is None else layer_data.role(self.layer)
        kinds = None if self.layer is None else layer_data.picks_of(self.layer).kind
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
        if not len(points.data):
            self.input_note.say(f"There are no particles in {points.name}: add points, or open another list.", WARNING)
            return False
        try:
            tomogram = layer_data.tomogram_of(image)
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

    def _others(self) -> list[ParticleSet]:
        """Particles of each other tomogram whose volume is known: its picks, or else its true or predicted poses."""
        switch, found = self.session.tomograms, dict[str, ParticleSet]()
        for item in sorted(switch.sets(), key=lambda item: _RANK[item.role]):
            if item.tomogram not in (switch.name, "") and switch.has_volume(item.tomogram):
                found.setdefault(item.tomogram, item)
        return [found[name] for name in switch.names() if name in found]

    def request(self) -> PredictionRequest:
        """The job's input: of the tomogram that is shown, and of the others where all are wanted.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        if self.layer is None or self.image is None:
            raise InputError("prediction needs a tomogram, particles and a model. Open what is missing.")
        if self.loaded is None:
            raise InputError("prediction needs a model. Choose one.")
        own = ParticleSet(layer_data.tomogram_name(self.image), self.layer)
        pairs, sources = [], []
        for item in [own, *(self._others() if self.extent.currentIndex() == 1 else [])]:
            tomogram, picks = self.session.tomograms.tomogram(item.tomogram), self._of_class(item.picks())
            if tomogram is not None and (item is own or len(picks)):
                pairs.append((tomogram, picks))
                sources.append(item)
        truths = [self.session.tomograms.truth(item.tomogram) for item in sources]
        return PredictionRequest(pairs, sources, truths, KeptPrediction(self.loaded, self.options.options()))

    def _of_class(self, picks: Particles) -> Particles:
        code = self.kind.currentData()
        return picks if code is None or picks.kind is None else picks.take(picks.kind == code)

    def start(self, request: PredictionRequest) -> None:
        """Start the prediction; the result of a tomogram whose layers are removed meanwhile is discarded."""
        self._request, self._onward = request, {}
        self.result.say("")
        job = self.session.jobs.start(request.stream(), title="Predict", show=self._deliver)
        self.running.follow(job)

    def _deliver(self, _: object) -> Iterator[None]:
        """Show the poses of each tomogram that is done, one layer at a time; a stopped job's too."""
        request = self._request
        assert request is not None
        done = []
        for place in sorted(request.result.done):
            layer, image = request.sources[place].layer, self.session.tomograms.image(request.sources[place].tomogram)
            if layer is not None and (layer not in self.session.viewer.layers or image is None):
                show_warning("The tomogram or the particles were removed meanwhile; their prediction was discarded.")
                continue
            done.append(place)
            self._show_predicted(request, place)
            yield
        if done:
            results = [request.answer(place) for place in done]
            self.result.say(result_text(results), result_colour(results))
            self.running.add_details(*result_details(results))
            threshold = self.session.inspection.options.threshold
            self._onward = {
                request.sources[place].tomogram: onward_text(result, threshold)
                for place, result in zip(done, results, strict=True)
            }
            self._show_result()

    def _ended(self, outcome: str) -> None:
        if outcome == "stopped":
            self.running.words.say(f"Stopped; {'what was done is shown' if self._onward else 'nothing was changed'}.")
        self.show_state()
        self._show_result()

    def _inspect(self) -> None:
        """Show the poses on the page Inspect, and frame the failures in 3D where there are any."""
        self.session.show_page("Inspect")
        inspected = self.session.inspected
        made = [layer for layer in self.session.tomograms.particles(PREDICTED) if layer is not inspected.layer]
        source = None if inspected.layer is None else layer_data.about(inspected.layer).get("source")
        if source is None and made:
            inspected.inspect(made[0])
        inspected.settle()
        if inspected.failed.any():
            self.session.failure_view.show(np.zeros(0, int))

    def _show_predicted(self, request: PredictionRequest, place: int) -> None:
        model, (tomogram, picks), item = request.task.model, request.pairs[place], request.sources[place]
        predicted, line = request.answer(place).predicted, provenance(model, request.task.options, count=len(picks))
        if item.layer is None:
            part = ListedParticles(predicted, PREDICTED, f"{item.tomogram} predicted", line)
            self.session.tomograms.list_particles(item.tomogram, part)
            return
        image, points = self.session.tomograms.image(item.tomogram), item.layer
        if image is not None and tomogram.name in request.task.estimators:
            self.session.prepared[image] = (self.session.model, request.task.estimators[tomogram.name])
        made_by = {"source": layer_data.identity(points), "model": model.name}
        frame = {layer_data.FRAME: model.card[layer_data.FRAME]} if layer_data.FRAME in model.card else {}
        every = self.session.index.particles(PREDICTED)
        of_source = [layer for layer in every if layer_data.about(layer).get("source") == made_by["source"]]
        for layer in of_source:
            if layer_data.about(layer).get("model") == model.name:
                self.session.replace_particles(layer, predicted, provenance=line, words="predict again")
                return
        name = f"{points.name.removesuffix(' picks').removesuffix(' truth')} predicted"
        layer = self.session.show_particles(
            predicted,
            tomogram.extent,
            role=PREDICTED,
            name=f"{name} ({model.name})" if name in self.session.viewer.layers else name,
            provenance=line,
            immediately=False,
        )
        layer_data.about(layer).update(made_by | frame)
        # Poses of another model, or those that came with the picks, would hide the new ones.
        own = [] if layer_data.role(points) == TRUTH else [points]
        for old in (axes_layer(self.session.viewer, item) for item in (*of_source, *own)):
            if old is not None:
                old.visible = False


@dataclass(frozen=True, eq=False)
class KeptPrediction(PredictionTask):
    """Prediction of a project's tomograms, whose estimators are kept by tomogram, so that Live begins at once."""

    estimators: dict[str, PoseEstimator] = field(default_factory=dict)

    def __call__(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, Particles]:
        """The picks with rotations, confidence and expected error."""
        keep = partial(self.estimators.__setitem__, tomogram.name)
        return predict(tomogram, particles, self.model, self.options, like=self.like, prepared=keep)


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """Input of a prediction job: values copied from the layers, so later edits do not affect it.

    Parameters
    ----------
    pairs : tomograms with the picks to predict.
    sources : the particles asked for in each, where its answer belongs.
    truths : true particles in each, or None.
    result : what is done of it.
    """

    pairs: Labelled
    sources: Sequence[ParticleSet]
    truths: Sequence[Particles | None]
    task: KeptPrediction
    result: ProjectResult = field(default_factory=ProjectResult)

    def stream(self) -> Stream[Step, object]:
        """The prediction, as the command line does it."""
        if self.task.options.adaptation.rounds:
            return predict_project(self.pairs, self.task.model, self.task.options, self.result)
        return for_each_tomogram(self.pairs, self.task, self.result)

    def answer(self, place: int) -> PredictionResult:
        """The answer for one of the tomograms that are done."""
        outcome, model = self.result.done[place], self.task.model
        assert outcome.particles is not None
        report = _report(outcome.particles, self.truths[place], model)
        return PredictionResult(outcome.particles, outcome.seconds, report, own_frame=layer_data.FRAME in model.card)


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """Predicted particles, seconds taken, and the evaluation against true poses if there are any.

    ``own_frame`` is true of a model in a frame of its own, as a discovered map is.
    """

    predicted: Particles
    seconds: float
    report: Report | None
    own_frame: bool = False


def _report(predicted: Particles, truth: Particles | None, model: Model) -> Report | None:
    if truth is None:
        return None
    if layer_data.FRAME in model.card:
        truth = in_frame_of(predicted, truth, model.group)
    try:
        return evaluate(predicted, truth, group=model.group)
    except InputError:
        return None  # The true poses are of other particles: the prediction stands without an evaluation.


def onward_text(result: PredictionResult, threshold: float) -> str:
    """What the button that leads to Inspect says: how many failures there are, or poses that are unsure, in degrees."""
    errors = _expected([result]) if result.report is None else result.report.errors_deg
    what, count = "unsure pose" if result.report is None else "failure", int((errors > threshold).sum())
    if count < 2:
        return f"Inspect the {what}" if count else "Inspect the poses"
    return f"Inspect the {counted(count, what)}"


def result_text(results: Sequence[PredictionResult]) -> str:
    """Results in a few lines: the count, and the true error beside chance, or without true poses the expected error."""
    total = sum(len(result.predicted) for result in results)
    where = f" in {len(results)} tomograms" if len(results) > 1 else ""
    lines = [f"{counted(total, 'orientation')}{where}"]
    expected = _expected(results)
    if len(expected):
        lines.append(f"Expected error {np.median(expected):.1f}° (median)")
    reports = [result.report for result in results if result.report is not None]
    if reports:
        errors, by_chance = np.concatenate([report.errors_deg for report in reports]), reports[0].all
        frame = ", up to one common rotation: the model's frame is its own" if results[0].own_frame else ""
        chance = f"chance {by_chance.chance_median_deg:.0f}°"
        lines.append(f"True error {np.median(errors):.1f}° (median of {len(errors)}; {chance}){frame}")
        share = float((errors <= RIGHT).mean())
        lines.append(f"{share:.1%} within 20° of the truth (chance {by_chance.chance_within['20']:.1%})")
    return "\n".join(lines)


def result_details(results: Sequence[PredictionResult]) -> list[str]:
    """What else the command line says of results: how long they took, and of one tomogram how its picks moved."""
    lines = [f"Took {sum(result.seconds for result in results):.1f} s"]
    for result in results if len(results) == 1 else ():
        lines += [line[0].upper() + line[1:] for line in pose_summary(result.predicted)]
    return lines


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
        tomograms = card.get("tomograms")
        where = f" in {counted(tomograms, 'tomogram')}" if isinstance(tomograms, int) and tomograms else ""
        lines.append(f"{card['particles'].get('training', 0):,} particles{where}")
    if {"patch_side", "patch_voxel_size"} <= set(options):
        lines.append(f"patches of {options['patch_side']}³ voxels of {options['patch_voxel_size']:g} Å")
    if isinstance(card.get("figures"), Mapping) and "validation_median_deg" in card["figures"]:
        lines.append(f"median error {card['figures']['validation_median_deg']:.1f}° on validation tomograms")
    return " · ".join(lines) or "This model has no card."


def full_card_text(model: Model) -> str:
    """All entries of a model's options and card, one a line."""
    entries: dict[str, Any] = {"kind": model.kind, **model.options_record(), **model.card}
    return "\n".join(f"{name}: {value}" for name, value in entries.items())
