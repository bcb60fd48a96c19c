"""The Train dock: a network or template from labelled particles, with curves of its errors; Predict then uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari.viewer
from qtpy.QtWidgets import QCheckBox, QComboBox

from napari_orient.engine.devices import device_words
from napari_orient.engine.errors import InputError
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
from napari_orient.engine.prediction import Model
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.training.network import TrainingState
from napari_orient.engine.training.train import save_progress, train, training_files
from napari_orient.engine.training.validation import Milestone
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.session import session_of
from napari_orient.gui.training_curves import TrainingCurves
from napari_orient.gui.training_sets import (
    FilesSource,
    LabelledTrainingSet,
    LayersSource,
    Pairs,
    TemplateSource,
    TrainingSet,
    class_counts,
    training_count_text,
)
from napari_orient.gui.widgets import (
    BAD,
    GOOD,
    MUTED,
    WARNING,
    FileRow,
    JobRow,
    NoteLabel,
    Panel,
    labelled,
    listen,
    show_classes,
    shrinkable,
)

ON_VIEW, IN_FILES, SIMULATED = SOURCES = ("open layers", "files", "simulated tomograms")
EMPTY_TEXTS = {
    ON_VIEW: "No particles with orientations chosen: open true poses, or accept predicted ones.",
    IN_FILES: "Add or drop a PolNet folder or a particle list with angles.",
}
PRESET_LABELS = {
    "default": "network (default)",
    "paper": "network (paper)",
    "simulated": "network (simulations)",
    "template": "template (average)",
}
FILE_KINDS = "Models (*.safetensors)"
LABELS = 112
"""Width in pixels of the column of labels; fits the longest label at the default font."""


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
    return (yield from save_progress(stream, output, state))


class TrainCard(Panel):
    """Trains a model on the chosen particles, and makes it the model in use."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self._request: TrainingRequest | None = None
        self._make()
        self._lay_out()
        self._connect()
        self._show_everything()

    # --- widgets ------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self.source, self.kind, self.preset = QComboBox(), QComboBox(), QComboBox()
        self.source.addItems(SOURCES)
        self.source.setToolTip("Source of the tomograms with labelled particles")
        self.kind.setToolTip("A model is trained on one class of particles")
        self.preset.setToolTip(
            "Kind of model and its default options, which can be changed below. A network predicts by itself; "
            "a template is the average of the particles, and predicts by matching"
        )
        for name in TRAINABLE:
            self.preset.addItem(PRESET_LABELS.get(name, name), name)
        for choice in (self.source, self.kind, self.preset):
            shrinkable(choice)
        self.from_layers, self.from_files, self.from_template = (
            LayersSource(self.session),
            FilesSource(),
            TemplateSource(),
        )
        self.sources = (self.from_layers, self.from_files, self.from_template)
        self.network = OptionsForm(NetworkOptions, label_width=LABELS)
        self.training = OptionsForm(TrainingOptions, label_width=LABELS)
        self.mixture = OptionsForm(MixtureOptions, label_width=LABELS)
        self.simulated_training = OptionsForm(SimulatedTrainingOptions, label_width=LABELS)
        self.template = OptionsForm(TemplateOptions, label_width=LABELS)
        self.template_training = OptionsForm(TemplateTrainingOptions, label_width=LABELS)
        self._show_preferred()
        self.file = FileRow(caption="Write the model to", kinds=FILE_KINDS, hint="mine.safetensors", saving=True)
        self.resume = QCheckBox("Resume")
        self.resume.setToolTip("Continue a stopped training; data and options must be the same as before")
        self.data_note, self.file_note, self.result = NoteLabel(), NoteLabel(), NoteLabel()
        self.running = JobRow("Train", "Train the model; the best so far is kept on disk", stopped="", with_notes=True)
        self.curves = TrainingCurves()

    def _lay_out(self) -> None:
        self.add_heading("Data")
        self.kind_line = labelled({"Class": self.kind}, width=LABELS)
        self.add(labelled({"Train on": self.source}, width=LABELS), *self.sources, self.kind_line, self.data_note)
        self.add_heading("Model and training")
        self.add(labelled({"Model": self.preset}, width=LABELS))
        self.add(*self._all_forms)
        self.add_heading("File")
        self.add(self.file, self.resume, self.file_note, self.running, self.curves, self.result)
        self.curves.setVisible(False)
        self.close_column()

    def _connect(self) -> None:
        self.source.currentIndexChanged.connect(self._data_changed)
        for part in self.sources:
            part.changed.connect(self._data_changed)
        self.kind.currentIndexChanged.connect(self._show_everything)
        self.preset.activated.connect(self._preset_chosen)
        for form in (self.training, self.simulated_training, self.template_training):
            form.changed.connect(self._show_everything)
        listen(self, self.session.events.preferences, self._show_preferred)
        self.file.picked.connect(self._show_everything)
        self.running.asked.connect(self.train)
        self.running.ended.connect(self._ended)

    def _show_preferred(self, event: object = None) -> None:
        """Show the device of the preferences."""
        for form in (self.training, self.simulated_training, self.template_training):
            form.widgets["device"].value = self.session.preferences.compute.device

    # --- input --------------------------------------------------------------------------------------------------

    def _data_changed(self, *_: object) -> None:
        counts = {} if self._simulates else class_counts(self._pairs_or_none())
        show_classes(self.kind, counts, sum(counts.values()))
        if len(counts) > 1 and self.kind.currentData() is None:
            self.kind.setCurrentIndex(1)  # One class must be chosen: the largest is first.
        if self._simulates:
            for form in (self.network, self.mixture, self.template):
                form.widgets["symmetry"].value = self.from_template.symmetry
        self._show_everything()

    @property
    def _simulates(self) -> bool:
        return self.source.currentText() == SIMULATED

    def _pairs_or_none(self) -> Pairs:
        try:
            return self._pairs()
        except InputError:
            return []

    def _pairs(self) -> Pairs:
        return self.from_layers.pairs() if self.source.currentText() == ON_VIEW else self.from_files.pairs()

    def _preset_chosen(self, *_: object) -> None:
        network, training = TRAINABLE[self.preset.currentData()]
        for form, options in zip(self.forms, (network, training), strict=True):
            form.show_options(options)
        self._show_preferred()
        self._data_changed()

    @property
    def forms(self) -> tuple[OptionsForm[Any], OptionsForm[Any]]:
        """The option forms of the chosen kind of model and of its training."""
        chosen = TRAINABLE[self.preset.currentData()][0]
        if isinstance(chosen, TemplateOptions):
            return self.template, self.template_training
        return (
            (self.mixture, self.simulated_training)
            if isinstance(chosen, MixtureOptions)
            else (self.network, self.training)
        )

    @property
    def _all_forms(self) -> tuple[OptionsForm[Any], ...]:
        return (
            self.network,
            self.training,
            self.mixture,
            self.simulated_training,
            self.template,
            self.template_training,
        )

    def _show_everything(self, *_: object) -> None:
        for number, part in enumerate(self.sources):
            part.setVisible(number == self.source.currentIndex())
        for form in self._all_forms:
            form.setVisible(form in self.forms)
        self.kind_line.setVisible(self.kind.count() > 2)
        found = self._check_data()
        self.running.allow(self._check_file() and found)

    def _check_data(self) -> bool:
        """Show the number of training particles or what is missing; True if there are any."""
        if self._simulates:
            self.data_note.say("")
            return True
        if self.from_files.reading is not None:
            self.data_note.say("Reading…")
            return False
        try:
            pairs = self._pairs()
        except InputError as error:
            self.data_note.say(str(error), BAD)
            return False
        if not any(len(particles) for _, particles in pairs):
            self.data_note.say(EMPTY_TEXTS[self.source.currentText()], WARNING)
            return False
        single = "\nOne tomogram: part of it is held out for validation." if len(pairs) == 1 else ""
        self.data_note.say(training_count_text(pairs) + single, GOOD)
        return True

    def _check_file(self) -> bool:
        """Show whether the file can be written and would be replaced; True if it can."""
        self.resume.setVisible(False)
        if self.file.path is None:
            self.file_note.say("Name a file for the model (.safetensors).", WARNING)
            return False
        try:
            device = device_words(self.forms[1].options().compute.chosen())
            output, state = training_files(self.file.path)
        except InputError as error:
            self.file_note.say(str(error), BAD)
            return False
        self.resume.setVisible(state.exists() and self.forms[0] is self.network)
        replaced = "The file exists and will be replaced.\n" if output.exists() and self.running.job is None else ""
        self.file_note.say(f"{replaced}Runs on {device}", WARNING if replaced else MUTED)
        return True

    # --- training -----------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Start the training; show an error in one line."""
        self.attempt(lambda: self.start(self.request()))

    def request(self) -> TrainingRequest:
        """The job's input, copied from layers and fields.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        if self.file.path is None:
            raise InputError("no file was named for the model. Name one.")
        simulated = self.from_template.training_set(beside=self.file.path) if self._simulates else None
        training_set: TrainingSet = simulated or LabelledTrainingSet(self._pairs(), self.kind.currentData())
        resume = self.resume.isVisibleTo(self) and self.resume.isChecked()
        network, training = (form.options() for form in self.forms)
        return TrainingRequest(training_set, network, training, self.file.path, resume)

    def start(self, request: TrainingRequest) -> None:
        """Start a training; the best model stays if it is stopped or its layers are removed."""
        if self.running.job is not None:
            return
        self._request = request
        self.result.say("")
        self.curves.begin()
        job = self.session.jobs.start(train_and_save(request), title="Training")
        job.stepped.connect(self._stepped)
        self.running.follow(job)

    def _stepped(self, step: Step) -> None:
        if isinstance(step, Milestone):
            self.curves.setVisible(True)
            self.curves.add(step)

    def _ended(self, outcome: str) -> None:
        if self._request is not None and self.curves.milestones:
            self.curves.show_milestones()
            self.session.model = str(self._request.output)
            self.result.say(self._result_text(outcome), GOOD if outcome == "done" else WARNING)
        elif outcome == "stopped":
            self.result.say("Stopped before the first validation; no model was written.", WARNING)
        self._show_everything()

    def _result_text(self, outcome: str) -> str:
        """A text of how the training ended, the best model, its file and its validation error."""
        assert self._request is not None
        best, last, unit = self.curves.best, self.curves.milestones[-1], self.curves.unit
        ends = {"done": "Trained", "stopped": "Stopped after", "failed": "Failed after"}
        return (
            f"{ends[outcome]} {last.done} of {last.total} {unit}s. The best model, of {unit} {self.curves.best_at}, "
            f"is in {self._request.output}; Predict uses it.\nValidation error: median "
            f"{best['validation_median_deg']:.1f}°, mean {best['validation_mean_deg']:.1f}°."
        )
