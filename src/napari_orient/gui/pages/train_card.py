"""The card Train: a network or template from labelled particles, with curves of its errors; Predict then uses it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QCheckBox

from napari_orient.engine.devices import device_words
from napari_orient.engine.errors import InputError, OutputError
from napari_orient.engine.options import Options
from napari_orient.engine.outputs import write_elsewhere
from napari_orient.engine.parameters import (
    TRAINABLE,
    MixtureOptions,
    ModelOptions,
    ModelTrainingOptions,
    NetworkOptions,
    SimulatedTrainingOptions,
    TemplateOptions,
    TemplateTrainingOptions,
    TrainingOptions,
)
from napari_orient.engine.particles import labelled_of_kind
from napari_orient.engine.prediction.predict import Model
from napari_orient.engine.statistics.detection import random_pose_angles
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.training.network import Epoch, TrainingState
from napari_orient.engine.training.train import save_progress, train, training_files
from napari_orient.engine.training.validation import Milestone
from napari_orient.gui.event_loop import listen
from napari_orient.gui.pages.base import JobCard
from napari_orient.gui.pages.particle_sources import (
    LabelledTrainingSet,
    PosesChecklist,
    TemplateSource,
    TrainingSet,
    class_counts,
    count_text,
)
from napari_orient.gui.widgets.basic import (
    ACCENT,
    GOOD,
    LABEL_WIDTH,
    MUTED,
    WARNING,
    Fold,
    NoteLabel,
    Panel,
    combo_box,
    labelled,
    push_button,
)
from napari_orient.gui.widgets.forms import OptionsForm, OptionsT
from napari_orient.gui.widgets.inputs import FileRow, JobRow, show_classes
from napari_orient.gui.widgets.plot import Line, Mark, Plot

OPEN, SIMULATED = SOURCES = ("open particles", "simulated tomograms")
NONE_CHOSEN = "No particles with orientations chosen: open lists or a PolNet folder, or accept predicted poses."
PRESET_LABELS = {
    "default": "network (default)",
    "paper": "network (paper)",
    "simulated": "network (simulations)",
    "template": "template (average)",
}
KINDS: Mapping[type[Options], type[Options]] = {
    NetworkOptions: TrainingOptions,
    MixtureOptions: SimulatedTrainingOptions,
    TemplateOptions: TemplateTrainingOptions,
}
"""Options of each kind of model, and those of its training."""

FILE_KINDS = "Models (*.safetensors)"
FEWEST = 300
"""Particles below which a network is advised against; chosen, far fewer than any shipped one learnt from."""

NEAR_CHANCE = 0.6
"""Share of the median error by chance from which a model is not put to use by itself; chosen: 0.6 of 126° is 76°."""

GOOD_MEDIAN = 20.0
"""Degrees of median validation error up to which a training is shown as good: the paper's threshold."""

DRAW_INTERVAL = 0.2
"""Seconds between two updates of the curves, at least, so that painting does not slow the window."""

LOSS_HEIGHT = 140
"""Height in pixels of the plot of losses."""

ERROR_HEIGHT = 150
"""Height in pixels of the plot of errors, which is the one to decide by."""


@dataclass(frozen=True, eq=False)
class TrainingRequest:
    """Input of a training job: values copied from layers and fields, so later edits do not affect it."""

    training_set: TrainingSet
    network: ModelOptions
    training: ModelTrainingOptions
    output: Path
    resume: bool


def train_and_save(request: TrainingRequest) -> Stream[Step, Model]:
    """The best model, as of ``napari-orient train``; the model and the state to resume from are written to disk."""
    output, state = training_files(request.output)
    resumed = TrainingState.load(state) if request.resume else None
    pairs = yield from request.training_set.labelled()
    stream = train(pairs, request.network, request.training, name=output.stem, resume=resumed)
    model = yield from save_progress(stream, output, state, resumed=request.resume)
    try:
        model.save(output)
    except OutputError as error:
        write_elsewhere(lambda place: model.save(place(output)), error)
    return model


def _form(kind: type[OptionsT]) -> OptionsForm[OptionsT]:
    return OptionsForm(kind, label_width=LABEL_WIDTH, folded=False)


class TrainCard(JobCard):
    """Trains a model on the chosen particles, and makes it the model in use."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self._request: TrainingRequest | None = None
        self.source = combo_box("Source of the tomograms with labelled particles", SOURCES)
        self.kind = combo_box("A model is trained on one class of particles")
        self.preset = combo_box(
            "Kind of model and its default options, which can be changed below. A network predicts by itself; "
            "a template is the average of the particles, and predicts by matching"
        )
        for name in TRAINABLE:
            self.preset.addItem(PRESET_LABELS.get(name, name), name)
        self.from_particles, self.from_template = PosesChecklist(self.session), TemplateSource()
        self.sources = (self.from_particles, self.from_template)
        self._forms: dict[type[Options], tuple[OptionsForm[Any], OptionsForm[Any]]] = {
            kind: (_form(kind), _form(training)) for kind, training in KINDS.items()
        }
        self.network, self.training = self._forms[NetworkOptions]
        self.mixture, self.simulated_training = self._forms[MixtureOptions]
        self.template, self.template_training = self._forms[TemplateOptions]
        self.file = FileRow(caption="Write the model to", kinds=FILE_KINDS, hint="mine.safetensors", saving=True)
        self.resume = QCheckBox("Resume")
        self.resume.setToolTip("Continue a stopped training; data and options must be the same as before")
        self.data_note, self.file_note, self.result = NoteLabel(), NoteLabel(), NoteLabel()
        tip = "Make this model the one in use, although it is hardly better than chance"
        self.use = push_button("Use it all the same", tip, self._use_anyway)
        self.running = JobRow("Train", "Train the model; the best so far is kept on disk", stopped="")
        self.curves = TrainingCurves()
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        self.add_heading("Data")
        self.kind_line = labelled({"Class": self.kind}, width=LABEL_WIDTH)
        self.add(labelled({"Train on": self.source}, width=LABEL_WIDTH), *self.sources, self.kind_line, self.data_note)
        self.add_heading("Model and training")
        self.add(labelled({"Model": self.preset}, width=LABEL_WIDTH))
        self.add(*self._every_form())
        advanced = Panel()
        advanced.add(self.from_template.options.advanced, *(form.advanced for form in self._every_form()))
        self.add(Fold("Advanced", advanced))
        self.add_heading("File")
        self.add(self.file, self.resume, self.file_note, self.running, self.curves, self.result, self.use)
        for widget in (self.curves, self.use):
            widget.setVisible(False)

    def _connect(self) -> None:
        self.source.currentIndexChanged.connect(self._data_changed)
        for part in self.sources:
            part.changed.connect(self._data_changed)
        self.preset.activated.connect(self._preset_chosen)
        for signal in (self.kind.currentIndexChanged, self.file.picked):
            signal.connect(self.show_state)
        for _, form in self._forms.values():
            form.changed.connect(self.show_state)
        listen(self, self.session.events.preferences, self._show_preferred)
        self.running.asked.connect(self.run)
        self.running.onward.clicked.connect(lambda: self.session.show_page("Poses", card="Predict"))
        self.running.ended.connect(self._ended)

    def opened(self) -> None:
        """Show the preferred device, and what there is to train on."""
        self._show_preferred()
        self._data_changed()

    def _every_form(self) -> list[OptionsForm[Any]]:
        return [form for pair in self._forms.values() for form in pair]

    def _show_preferred(self, event: object = None) -> None:
        """Show the device of the preferences."""
        for _, form in self._forms.values():
            form.widgets["device"].value = self.session.preferences.compute.device

    # --- input --------------------------------------------------------------------------------------------------

    def _data_changed(self, *_: object) -> None:
        counts = Counter[str]()
        if not self._simulates:
            with suppress(InputError):
                counts = class_counts(self.from_particles.pairs())
        show_classes(self.kind, counts, sum(counts.values()))
        if len(counts) > 1 and self.kind.currentData() is None:
            self.kind.setCurrentIndex(1)  # One class must be chosen: the largest is first.
        if self._simulates:
            for form in (self.network, self.mixture, self.template):
                form.widgets["symmetry"].value = self.from_template.symmetry
        self.show_state()

    @property
    def _simulates(self) -> bool:
        return self.source.currentText() == SIMULATED

    def _preset_chosen(self, *_: object) -> None:
        network, training = TRAINABLE[self.preset.currentData()]
        for form, options in zip(self.forms, (network, training), strict=True):
            form.show_options(options)
        self._show_preferred()
        self._data_changed()

    @property
    def forms(self) -> tuple[OptionsForm[Any], OptionsForm[Any]]:
        """The option forms of the chosen kind of model and of its training."""
        return self._forms[type(TRAINABLE[self.preset.currentData()][0])]

    def show_state(self, *_: object) -> None:
        """Show the source and the forms chosen, what would be trained on, and what is missing."""
        for number, part in enumerate(self.sources):
            part.setVisible(number == self.source.currentIndex())
        for form in self._every_form():
            form.setVisible(form in self.forms)
            form.advanced.setVisible(form in self.forms)
        self.from_template.options.advanced.setVisible(self._simulates)
        self.kind_line.setVisible(self.kind.count() > 2)
        found = self._check_data()
        self.running.allow(self._check_file() and found)

    def _check_data(self) -> bool:
        """Show the number of training particles or what is missing; True if there are any."""
        if self._simulates:
            self.data_note.say("")
            return True
        try:
            pairs = self.from_particles.pairs()
        except InputError as error:
            self.data_note.refuse(error)
            return False
        if not any(len(particles) for _, particles in pairs):
            self.data_note.say(NONE_CHOSEN, WARNING)
            return False
        kind = self.kind.currentData()
        chosen = pairs if kind is None else labelled_of_kind(pairs, kind)
        count = sum(len(particles) for _, particles in chosen)
        single = "\nOne tomogram: part of it is held out for validation." if len(chosen) == 1 else ""
        few = "\nA network needs thousands of particles: average a template instead." if self._few(count) else ""
        words = count_text(chosen, "particle with orientations", "particles with orientations")
        self.data_note.say(words + single + few, WARNING if few else GOOD)
        return True

    def _few(self, count: int) -> bool:
        """Whether there are too few particles for the kind of model chosen."""
        return self.forms[0] is self.network and count < FEWEST

    def _check_file(self) -> bool:
        """Show whether the file can be written and would be replaced; True if it can."""
        self.resume.setVisible(False)
        try:
            device = device_words(self.forms[1].options().compute.chosen())
            output, state = training_files(self._output())
            if self.running.job is None:
                template = Path(self.from_template.template.name)
                self.session.check_outputs(output, state, read=[template] if template.is_file() else [])
        except InputError as error:
            self.file_note.refuse(error)
            return False
        self.resume.setVisible(state.exists() and self.forms[0] is self.network)
        replaced = "The file exists and will be replaced.\n" if output.exists() and self.running.job is None else ""
        if self.file.path is None:
            replaced = "No file named: the model is lost when napari is closed.\n"
        self.file_note.say(f"{replaced}Runs on {device}", WARNING if replaced else MUTED)
        return True

    def _output(self) -> Path:
        """The file of the model: as it was named, or one in a folder that is gone with the viewer."""
        if self.file.path is not None:
            return self.file.path
        taken = len(list(self.session.scratch().glob("trained_*.safetensors")))
        return self.session.scratch() / f"trained_{taken + 1}.safetensors"

    # --- training -----------------------------------------------------------------------------------------------

    def request(self) -> TrainingRequest:
        """The job's input, copied from layers and fields.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        output = self._output()
        simulated = self.from_template.training_set(beside=output) if self._simulates else None
        training_set: TrainingSet = simulated or LabelledTrainingSet(
            self.from_particles.pairs(), self.kind.currentData()
        )
        resume = self.resume.isVisibleTo(self) and self.resume.isChecked()
        network, training = (form.options() for form in self.forms)
        return TrainingRequest(training_set, network, training, output, resume)

    def start(self, request: TrainingRequest) -> None:
        """Start a training; the best model stays if it is stopped or its layers are removed."""
        self._request = request
        self.result.say("")
        self.curves.begin()
        job = self.session.jobs.start(train_and_save(request), title="Train")
        job.stepped.connect(self._stepped)
        self.running.follow(job)

    def _stepped(self, step: Step) -> None:
        if isinstance(step, Milestone):
            self.curves.add_milestone(step)
            if len(self.curves.milestones) == 1:
                self.curves.setVisible(True)
                self.reveal(self.curves.errors)

    def _ended(self, outcome: str) -> None:
        if self._request is not None and self.curves.milestones:
            self.curves.show_milestones()
            useless = self._no_better_than_chance()
            if not useless:
                self.session.model = str(self._request.output)
                self.running.lead_on("Predict with it", "Go to Known model, where this model is in use now")
            good = outcome == "done" and self.curves.best["validation_median_deg"] <= GOOD_MEDIAN
            self.result.say(self._result_text(outcome), GOOD if good else WARNING)
            self.reveal(self.result)
            self.use.setVisible(useless)
        elif outcome == "stopped":
            self.result.say("Stopped before the first validation; no model was written.", WARNING)
        self.show_state()

    @property
    def _chance(self) -> float:
        """Median error in degrees of random rotations, modulo the model's symmetry."""
        assert self._request is not None
        group = symmetry(str(self._request.network.to_record().get("symmetry") or "C1"))
        return float(np.median(random_pose_angles(group)))

    def _no_better_than_chance(self) -> bool:
        return self.curves.best["validation_median_deg"] > NEAR_CHANCE * self._chance

    def _use_anyway(self) -> None:
        assert self._request is not None
        self.session.model = str(self._request.output)
        self.use.hide()

    def _result_text(self, outcome: str) -> str:
        """A text of how the training ended, the best model, its file and its validation error."""
        assert self._request is not None
        best, last, unit = self.curves.best, self.curves.milestones[-1], self.curves.unit
        useless = self._no_better_than_chance()
        uses = "it is hardly better than chance, so Predict keeps its model." if useless else "Predict uses it."
        ends = {"done": "Trained", "stopped": "Stopped after", "failed": "Failed after"}
        return (
            f"{ends[outcome]} {last.done} of {last.total} {unit}s. The best model, of {unit} {self.curves.best_at}, "
            f"is in {self._request.output}; {uses}\nValidation error: median {best['validation_median_deg']:.1f}° "
            f"(chance {self._chance:.0f}°), mean {best['validation_mean_deg']:.1f}°."
        )


class TrainingCurves(Panel):
    """Mean and median validation error in degrees against epoch or reference; for epochs the losses too."""

    def __init__(self) -> None:
        super().__init__()
        self.milestones: list[Milestone] = []
        self._drawn = 0.0
        self.losses = Plot(x_label="epoch", y_label="loss", logarithmic=True, height=LOSS_HEIGHT)
        self.errors = Plot(x_label="epoch", y_label="error (°)", height=ERROR_HEIGHT)
        self.losses.setToolTip("Loss of the network's raw outputs, on training and validation particles")
        self.errors.setToolTip(
            "Angle between predicted and true rotation in degrees, on the validation tomograms. "
            "The best model has the smallest mean."
        )
        self.add(self.losses, self.errors)

    def begin(self) -> None:
        """Clear the curves for a new training."""
        self.milestones = []
        self._drawn = 0.0

    def add_milestone(self, milestone: Milestone) -> None:
        """Add a milestone; draw it now or with the next."""
        self.milestones.append(milestone)
        if time.monotonic() - self._drawn > DRAW_INTERVAL:
            self.show_milestones()

    @property
    def epochs(self) -> list[Epoch]:
        """The milestones that are epochs of a network: all of them, or none."""
        return [milestone for milestone in self.milestones if isinstance(milestone, Epoch)]

    @property
    def unit(self) -> str:
        """What is counted: epochs of a network, references of a template."""
        return "epoch" if self.epochs else "reference"

    @property
    def best_at(self) -> int:
        """Number, from 1, of the epoch or reference of the best model."""
        figures = self.best
        return int(figures["epoch"] if "epoch" in figures else figures["round"] + 1)

    @property
    def best(self) -> dict[str, float]:
        """Figures of the best model: epoch, median and mean validation error in degrees."""
        return dict(self.milestones[-1].model.card["figures"])

    def show_milestones(self) -> None:
        """Draw all milestones."""
        self._drawn = time.monotonic()
        epochs, milestones = self.epochs, self.milestones
        at = [milestone.done for milestone in milestones]
        across = (0.0, float(milestones[-1].total)) if milestones else None
        self.losses.setVisible(bool(epochs))
        self.losses.show_curves(
            [
                Line("training", ACCENT, at, [epoch.training_loss for epoch in epochs]),
                Line("validation", WARNING, at, [epoch.validation_loss for epoch in epochs]),
            ],
            x=across,
        )
        means = Line("mean", WARNING, at, [milestone.validation_mean_deg for milestone in milestones])
        medians = Line("median", WARNING, at, [milestone.validation_median_deg for milestone in milestones], pale=True)
        self.errors.x_label = self.unit
        self.errors.show_curves([means, medians], marks=[self._mark()] if milestones else (), x=across)

    def _mark(self) -> Mark:
        figures = self.best
        error = figures["validation_mean_deg"]
        return Mark(f"best {error:.1f}°", GOOD, self.best_at, error)
