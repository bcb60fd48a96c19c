"""The Predict dock: orientations of a tomogram's particles, predicted by a model and drawn as red arrows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import napari.viewer
from napari.components import ViewerModel
from napari.layers import Image, Points
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QComboBox, QFileDialog

from napari_orient.engine.devices import device_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.prediction import Model, load_model, provenance
from napari_orient.gui import layers
from napari_orient.gui.axes import axes_layer
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.prediction_jobs import (
    PredictionRequest,
    PredictionResult,
    card_text,
    full_card_text,
    predict_and_evaluate,
    result_colour,
    result_text,
)
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import (
    BAD,
    MUTED,
    WARNING,
    JobRow,
    LayerChoice,
    NoteLabel,
    Panel,
    labelled,
    listen,
    show_classes,
    shrinkable,
)

MODEL_FILES = "Models (*.safetensors);;All files (*)"
FROM_FILE = "from a file…"
LABELS = 112
"""Pixels of the labels' column, so that the fields of all sections line up."""


class PredictCard(Panel):
    """Predicts the orientations of the chosen particles; shows them as a layer with arrows."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.loaded: Model | None = None
        self._source_layers: tuple[Image, Points] | None = None
        self._request: PredictionRequest | None = None
        self._build(self.session.viewer)
        self._model_chosen()
        self._show_everything()

    # --- widgets ------------------------------------------------------------------------------------------------

    def _build(self, viewer: ViewerModel) -> None:
        self.tomogram = LayerChoice(viewer, self.session.index.tomograms, empty="none open")
        self.particles = LayerChoice(viewer, self._picks, empty="none open")
        self.kind, self.model = QComboBox(), QComboBox()
        shrinkable(self.kind)
        shrinkable(self.model)
        self.kind.setToolTip("Predict only the particles of this class")
        self.model.setToolTip("A model shipped with the program, or one from a file: a template or a network")
        self.input_note, self.card, self.device_note, self.result = NoteLabel(), NoteLabel(), NoteLabel(), NoteLabel()
        self.options = OptionsForm(
            PredictionOptions, labels={"centring": "Patch centre", "max_shift": "Search range (Å)"}, label_width=LABELS
        )
        self._show_preferred()
        self.running = JobRow("Predict orientations", "Predict the orientation of every chosen particle")
        self.add_heading("Particles")
        inputs = {"Tomogram": self.tomogram, "Particles": self.particles, "Class": self.kind}
        self.add(labelled(inputs, width=LABELS), self.input_note)
        self.add_heading("Model")
        self.add(labelled({"Model": self.model}, width=LABELS), self.card)
        self.add_heading("Prediction")
        self.add(self.options, self.device_note, self.running, self.result)
        self.close_column()
        self._fill_models()
        self.tomogram.chosen.connect(self._show_everything)
        self.particles.chosen.connect(self._particles_chosen)
        self.kind.currentIndexChanged.connect(self._show_everything)
        self.model.activated.connect(self._model_chosen)
        listen(self, self.session.events.model, self._model_changed)
        listen(self, self.session.events.preferences, self._show_preferred)
        self.options.changed.connect(self._show_everything)
        self.running.asked.connect(self.predict)
        self.running.ended.connect(self._show_everything)
        self._particles_chosen()

    def _show_preferred(self, event: object = None) -> None:
        """Show the device and precision of the preferences."""
        preferred = self.session.preferences.to_record()
        for name in ("device", "precision"):
            self.options.widgets[name].value = preferred[name]

    def _picks(self) -> list[Points]:
        """Layers of picks, then of true poses; predicted layers are left out."""
        unpredicted = [layer for layer in self.session.index.particles() if layers.role(layer) != PREDICTED]
        return sorted(unpredicted, key=lambda layer: layers.role(layer) == TRUTH)

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
                self.card.say(str(error), BAD)
        self._choose_class()
        self._show_everything()

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

    def _particles_chosen(self, *_: object) -> None:
        layer = self.particles.layer
        kinds = layers.picks_of(layer).kind if isinstance(layer, Points) else None
        counts = Counter() if kinds is None else Counter(kinds.tolist())
        show_classes(self.kind, counts, len(layer.data) if isinstance(layer, Points) else 0)
        self._choose_class()
        self._show_everything()

    def _choose_class(self) -> None:
        """Choose the class that the model was trained on, if the particles are of several classes."""
        places = [self.kind.findData(code) for code in self._trained_classes() if self.kind.findData(code) > 0]
        if places and self.kind.count() > 2 and self.kind.currentData() is None:
            self.kind.setCurrentIndex(places[0])

    def _show_everything(self, *_: object) -> None:
        ready = self.tomogram.layer is not None and self.particles.layer is not None
        self.running.allow(ready and self.loaded is not None)
        self._check_input(ready)
        try:
            self.device_note.say(f"Runs on {device_words(self.options.options().compute.chosen())}")
        except InputError as error:
            self.device_note.say(str(error), BAD)

    def _check_input(self, ready: bool) -> None:
        if not ready:
            missing = "tomogram" if self.tomogram.layer is None else "particles"
            self.input_note.say(f"No {missing} open yet: use the Load dock.", WARNING)
            return
        try:
            tomogram = layers.tomogram_of(self.tomogram.layer)
        except InputError as error:
            self.input_note.say(str(error), BAD)
            return
        text = f"Voxel size: {tomogram.voxel_size:g} Å"
        points = self.particles.layer
        other = "" if points is None else self.session.index.mismatch(points, self.tomogram.layer)
        warning = other or self._class_warning()
        if tomogram.voxel_size == 1:
            self.input_note.say(f"{text}. Is it right? Open the tomogram in the Load dock to set it.", WARNING)
        elif warning:
            self.input_note.say(f"{text}\n{warning}", WARNING)
        else:
            self.input_note.say(text, MUTED)

    def _trained_classes(self) -> list[str]:
        """The classes on the model's card."""
        return [] if self.loaded is None else list(self.loaded.classes)

    def _class_warning(self) -> str:
        """A warning if the model was not trained on the particles' class, else empty."""
        trained = self._trained_classes()
        every = [self.kind.itemData(index) for index in range(1, self.kind.count())]
        chosen = every if self.kind.currentData() is None else [self.kind.currentData()]
        unknown = [code for code in chosen if code not in trained]
        if not trained or not unknown:
            return ""
        return f"The model is of {', '.join(trained)}: poses of {', '.join(unknown)} will be meaningless."

    # --- prediction ----------------------------------------------------------------------------------------------

    def predict(self) -> None:
        """Predict the chosen particles; show an error in one line."""
        self.attempt(lambda: self.start(self.request()))

    def request(self) -> PredictionRequest:
        """The job's input, copied from the chosen layers.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        tomogram_layer, points = self.tomogram.layer, self.particles.layer
        if tomogram_layer is None or points is None or self.loaded is None:
            raise InputError("prediction needs a tomogram, particles and a model. Open what is missing.")
        tomogram = layers.tomogram_of(tomogram_layer)
        picks = layers.picks_of(points)
        if self.kind.currentData() is not None:
            picks = picks.of_kind(self.kind.currentData())
        if not any(picks.tomogram_names):
            picks = picks.replace(tomogram=tomogram.name)
        truth = self.session.index.truth_of(tomogram.name)
        true = None if truth is None else layers.particles_of(truth)
        return PredictionRequest(tomogram, picks, self.loaded, self.options.options(), true)

    def start(self, request: PredictionRequest) -> None:
        """Start the prediction; its result is discarded if its layers are removed meanwhile."""
        if self.running.job is not None:
            return
        self._request = request
        self._source_layers = (self.tomogram.layer, self.particles.layer)
        self.result.say("")
        job = self.session.jobs.start(predict_and_evaluate(request), title="Predicting orientations")
        job.answered.connect(self._deliver)
        self.running.follow(job)

    def _deliver(self, result: PredictionResult) -> None:
        assert self._source_layers is not None
        assert self._request is not None
        if not all(layer in self.session.viewer.layers for layer in self._source_layers):
            show_warning("The tomogram or the particles were removed meanwhile; their prediction was discarded.")
            return
        _, points = self._source_layers
        request = self._request
        line = provenance(request.model, request.options, count=len(request.picks))
        self._show_predicted(result.predicted, points, self._request.tomogram.extent, line)
        self.result.say(result_text(result), result_colour(result))

    def _show_predicted(self, predicted: Particles, points: Points, extent: Extent, line: str) -> None:
        source = layers.identity(points)
        for layer in self.session.index.particles(PREDICTED):
            if layers.about(layer).get("source") == source:
                self.session.replace_particles(layer, predicted, provenance=line, words="predict again")
                return
        name = f"{points.name.removesuffix(' picks')} predicted"
        layer = self.session.show_particles(
            predicted, extent, role=PREDICTED, name=name, provenance=line, immediately=False
        )
        layers.about(layer)["source"] = source
        # Poses that came with the picks would hide the new ones.
        old = axes_layer(self.session.viewer, points) if layers.role(points) == PICKS else None
        if old is not None:
            old.visible = False
