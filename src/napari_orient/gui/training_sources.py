"""Training data: open layers, files, or tomograms to simulate with a template; and training sets as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QListWidget, QSpinBox, QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.io import match_tomogram, read_labelled
from napari_orient.engine.io.columns import STATUS
from napari_orient.engine.particles import Particles, Tomogram, concatenate, labelled_of_kind
from napari_orient.engine.simulation.simulate import simulate_series
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import bead_models, bead_symmetry, load_template
from napari_orient.gui import layers
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.jobs import Job
from napari_orient.gui.layer_rows import rows_of
from napari_orient.gui.layers import PREDICTED, TRUTH
from napari_orient.gui.map_choice import choose_map
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import (
    Deferred,
    FileRow,
    PathList,
    checkable,
    labelled,
    list_filter,
    listen,
    shrinkable,
    size_box,
)

Pairs = list[tuple[Tomogram, Particles]]


@dataclass(frozen=True, eq=False)
class LabelledTrainingSet:
    """Tomograms with labelled particles, all or of one class."""

    pairs: Sequence[tuple[Tomogram, Particles]]
    kind: str | None = None

    def labelled(self) -> Stream[Step, Pairs]:
        """The tomograms with the particles to train on."""
        yield Step(0, 1, "Collecting the particles")
        return list(self.pairs) if self.kind is None else labelled_of_kind(self.pairs, self.kind)


@dataclass(frozen=True)
class SimulatedTrainingSet:
    """Tomograms to be simulated into a folder, the same as of ``napari-orient simulate``.

    Parameters
    ----------
    voxel_size : Å; of a template's file that states none.
    """

    template: str
    tomograms: int
    seed: int
    options: SimulationOptions
    folder: Path
    voxel_size: float | None = None

    def labelled(self) -> Stream[Step, Pairs]:
        """The tomograms, read again from their files, with the particles in them.

        Raises
        ------
        InputError
            If the folder is not empty, or the template cannot be used.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty; name another folder, or train on its files.")
        templates = [load_template(self.template, voxel_size=self.voxel_size)]
        yield from simulate_series(
            templates, self.options, tomograms=self.tomograms, seed=self.seed, folder=self.folder
        )
        return read_labelled(self.folder)


TrainingSet = LabelledTrainingSet | SimulatedTrainingSet
"""What a model is trained on."""


def read_training_files(
    paths: Sequence[Path], *, tomograms: Path | None, voxel_size: float | None
) -> Stream[Step, Pairs | str]:
    """The tomograms of all paths with their particles, or the error of the first path that cannot be read."""
    pairs: Pairs = []
    for number, path in enumerate(paths):
        yield Step(number, len(paths), f"Reading {path.name}")
        try:
            pairs += read_labelled(path, tomograms=tomograms, voxel_size=voxel_size)
            for _, particles in pairs:
                particles.required_rotations()
        except InputError as error:
            return str(error)
    return pairs


def training_count_text(pairs: Pairs) -> str:
    """A text of the number of particles and tomograms."""
    total = sum(len(particles) for _, particles in pairs)
    return f"{total} particles with orientations in {len(pairs)} tomogram{'s' if len(pairs) != 1 else ''}"


def class_counts(pairs: Pairs) -> dict[str, int]:
    """The number of particles of each class."""
    every = [particles.kind for _, particles in pairs if particles.kind is not None]
    codes, counts = np.unique(np.concatenate(every), return_counts=True) if every else (np.array([]), np.array([]))
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


LISTS = list_filter()
LABELS = 112
"""Width in pixels of the column of labels; fits the longest label at the default font."""


class FilesSource(QWidget):
    """A list of PolNet folders and particle lists, read with their tomograms in a worker; ``changed`` when read."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.error = ""
        self.reading: Job | None = None
        self._read: Pairs = []
        self.paths = PathList(kinds=LISTS, tip="PolNet result folders, and particle lists with angles")
        self.tomograms = FileRow(caption="Folder of the tomograms", hint="if a list does not name them")
        self.voxel_size = size_box("Å per voxel of the tomograms. Type here to override their headers.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.paths)
        column.addWidget(labelled({"Tomograms": self.tomograms, "Voxel size": self.voxel_size}, width=LABELS))
        self.paths.changed.connect(self.read)
        self.tomograms.picked.connect(self.read)
        self.voxel_size.valueChanged.connect(self.read)

    def read(self, *_: object) -> None:
        """Read the named files; stop an earlier reading."""
        if self.reading is not None:
            self.reading.stop()
        self._read, self.error = [], ""
        size = self.voxel_size.value() or None
        stream = read_training_files(self.paths.paths, tomograms=self.tomograms.path, voxel_size=size)
        job = self.reading = Job(stream, title="Reading particle lists", parent=self)
        job.answered.connect(lambda result: self._take(job, result))
        job.ended.connect(lambda _: self._ended(job))
        self.changed.emit()

    def _take(self, job: Job, result: Pairs | str) -> None:
        if job is not self.reading:
            return
        if isinstance(result, str):
            self.error = result
        else:
            self._read = result

    def _ended(self, job: Job) -> None:
        if job is self.reading:
            self.reading = None
            self.changed.emit()

    def pairs(self) -> Pairs:
        """The tomograms read, with their particles.

        Raises
        ------
        InputError
            If a file could not be read.
        """
        if self.error:
            raise InputError(self.error)
        return self._read


LIST_HEIGHT = 76
"""Height in pixels of the list of layers: about four lines."""


class LayersSource(QWidget):
    """A list of open layers with poses; ``changed`` is emitted when the checked particles change."""

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._offered: list[Points] = []
        self._changing = Deferred(self._relabel, parent=self)
        self.list = QListWidget()
        self.list.setFixedHeight(LIST_HEIGHT)
        self.list.setAccessibleName("Layers to train on")
        self.list.setToolTip(
            "Layers of particles with orientations. Of predicted ones, only accepted or corrected particles are used."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.list)
        for event in ("inserted", "removed"):
            listen(self, getattr(session.viewer.layers.events, event), self.refresh)
        listen(self, session.events.training_layers, self._choose_named)
        self.list.itemChanged.connect(self.changed)
        self.refresh()

    def refresh(self, event: object = None) -> None:
        """List the open layers; new layers of true poses are checked, checked layers stay so."""
        chosen = {id(layer) for layer in self.chosen()}
        before = {id(layer) for layer in self._offered}
        self._offered = [layer for layer in self.session.index.particles() if _has_poses(layer)]
        self.list.blockSignals(True)
        self.list.clear()
        for layer in self._offered:
            if id(layer) not in before:
                listen(self, layer.events.features, self._changing.ask)
                listen(self, layer.events.name, self._relabel)
            wanted = id(layer) in chosen or (id(layer) not in before and layers.role(layer) == TRUTH)
            self.list.addItem(checkable(_training_layer_label(layer), wanted))
        self.list.blockSignals(False)
        self.changed.emit()

    def _relabel(self, event: object = None) -> None:
        self.list.blockSignals(True)
        for number, layer in enumerate(self._offered):
            item = self.list.item(number)
            if item is not None:
                item.setText(_training_layer_label(layer))
        self.list.blockSignals(False)
        self.changed.emit()

    def _choose_named(self, event: Any) -> None:
        self.choose(*event.layers)

    def chosen(self) -> list[Points]:
        """The checked layers."""
        items = (self.list.item(number) for number in range(self.list.count()))
        marks = [item is not None and item.checkState() == Qt.CheckState.Checked for item in items]
        return [layer for layer, mark in zip(self._offered, marks, strict=True) if mark]

    def choose(self, *wanted: Points) -> None:
        """Check these layers, and no others."""
        for number, layer in enumerate(self._offered):
            item = self.list.item(number)
            if item is not None:
                item.setCheckState(Qt.CheckState.Checked if layer in wanted else Qt.CheckState.Unchecked)

    def pairs(self) -> Pairs:
        """Each open tomogram with its particles of the checked layers.

        Raises
        ------
        InputError
            If a layer's tomogram is not open.
        """
        found: dict[str, tuple[Tomogram, list[Particles]]] = {}
        opened = {tomogram.name: tomogram for tomogram in map(layers.tomogram_of, self.session.index.tomograms())}
        for layer in self.chosen():
            particles = training_particles(layer)
            name = str(layers.about(layer).get("tomogram", ""))
            match = match_tomogram(name, opened) if name else next(iter(opened), None)
            if match is None:
                raise InputError(
                    f"the tomogram {name!r} of layer {layer.name!r} is not open. Open it in the Load dock."
                )
            found.setdefault(match, (opened[match], []))[1].append(particles)
        return [(tomogram, concatenate(parts)) for tomogram, parts in found.values()]


def training_particles(layer: Points) -> Particles:
    """The particles of a layer that are fit for training.

    Of predicted particles those accepted or corrected, of others all that have poses and are not rejected.
    """
    picks = layers.picks_of(layer)
    if layers.role(layer) == PREDICTED:
        wanted = corrections.confirmed(picks)
    else:
        wanted = np.asarray(picks.extra.get(STATUS, np.full(len(picks), ""))) != corrections.REJECTED
    return rows_of(layer, np.flatnonzero(wanted & layers.has_pose(layer)))


def _has_poses(layer: Points) -> bool:
    return bool(layers.about(layer)) and set(layers.ROTATION_COLUMNS) <= set(layer.features.columns)


def _training_layer_label(layer: Points) -> str:
    kind = "accepted or corrected" if layers.role(layer) == PREDICTED else "particles"
    return f"{layer.name} · {len(training_particles(layer))} {kind}"


MAPS = "Maps (*.mrc *.map);;All files (*)"


class TemplateSource(QWidget):
    """A template, the number of tomograms, a seed and options; ``changed`` is emitted when one of them changes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._voxel_sizes: dict[str, float] = {}
        self.template = QComboBox()
        shrinkable(self.template)
        for code in bead_models():
            self.template.addItem(f"{code} (bead model)", code)
        self.template.addItem("map from a file…", None)
        self.template.setCurrentIndex(max(0, self.template.findData("4v4r")))
        self.template.setToolTip("Molecule in the tomograms: a bead model of the program, or a map from a file")
        self.tomograms = _count_box(20, "Tomograms to simulate, some seconds each. Some are held out for validation.")
        self.seed = _count_box(0, "Random seed: the same seed gives the same tomograms", low=0)
        self.options = OptionsForm(SimulationOptions, first=("particles",), label_width=LABELS, folded=False)
        self.folder = FileRow(caption="Folder for the tomograms", hint="beside the model")
        fields: dict[str, QWidget] = {"Template": self.template, "Tomograms": self.tomograms, "Seed": self.seed}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(labelled(fields, width=LABELS))
        column.addWidget(self.options)
        column.addWidget(labelled({"Save in": self.folder}, width=LABELS))
        self.template.activated.connect(self._chosen)
        self.options.changed.connect(self.changed)
        self.folder.picked.connect(self.changed)

    def _chosen(self, index: int) -> None:
        if self.template.currentData() is None:
            name, voxel_size = choose_map(self, MAPS)
            self.show_template(name or "4v4r", voxel_size=voxel_size)
        self.changed.emit()

    def show_template(self, name: str, *, voxel_size: float | None = None) -> None:
        """Choose a bead model or a map's file, with its voxel size in Å where it states none."""
        if voxel_size is not None:
            self._voxel_sizes[name] = voxel_size
        if self.template.findData(name) < 0:
            self.template.insertItem(self.template.count() - 1, Path(name).name, name)
        self.template.setCurrentIndex(self.template.findData(name))

    @property
    def symmetry(self) -> str:
        """The template's symmetry with its axes for a bead model, else C1."""
        code = self.template.currentData()
        return bead_symmetry(code) if code in bead_models() else "C1"

    def training_set(self, *, beside: Path) -> SimulatedTrainingSet:
        """The training set to simulate, in a folder beside the model's file if none was named.

        Raises
        ------
        InputError
            If an option does not fit.
        """
        folder = self.folder.path or beside.with_name(f"{beside.stem}_tomograms")
        template = str(self.template.currentData())
        return SimulatedTrainingSet(
            template,
            self.tomograms.value(),
            self.seed.value(),
            self.options.options(),
            folder,
            voxel_size=self._voxel_sizes.get(template),
        )


def _count_box(value: int, tip: str, *, low: int = 1) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, 1_000_000)
    box.setValue(value)
    box.setToolTip(tip)
    return box
