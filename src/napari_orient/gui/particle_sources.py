"""Sources of particles: open layers, files, or tomograms to simulate; and training sets as values."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QListWidgetItem, QSpinBox

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.io import (
    VOLUME_SUFFIXES,
    match_tomogram,
    names_volume,
    read_labelled,
    read_particles,
    read_tomogram,
)
from napari_orient.engine.io.columns import STATUS
from napari_orient.engine.outputs import recorded_reads
from napari_orient.engine.particles import Particles, Tomogram, concatenate, labelled_of_kind
from napari_orient.engine.simulation.simulate import simulate_series
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import bead_models, bead_symmetry, load_template
from napari_orient.gui import layers
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.jobs import Job
from napari_orient.gui.layer_rows import rows_of
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.map_choice import MapChoice
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import (
    LABEL_WIDTH,
    LIST_HEIGHT,
    Deferred,
    DropTarget,
    FileRow,
    Panel,
    PathList,
    checkable,
    combo_box,
    equal_width_row,
    labelled,
    list_box,
    list_filter,
    listen,
    push_button,
    show_classes,
    silent,
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


def read_picks_with_tomograms(paths: Sequence[Path]) -> Stream[Step, tuple[Pairs, list[Path]]]:
    """Tomograms with their picks, from PolNet folders, lists that name their tomograms, or lists with tomograms.

    Beside them the files that were read for them.

    Raises
    ------
    InputError
        If there is no list, or a file cannot be read.
    """
    volumes = [path for path in paths if names_volume(path)]
    lists = [path for path in paths if path not in volumes]
    if not lists:
        raise InputError("a list of picks is needed beside the tomograms. Choose both together, or a PolNet folder.")
    pairs: Pairs = []
    read: list[Path] = []
    for number, path in enumerate(lists):
        yield Step(number, len(lists), f"Reading {path.name}")
        with recorded_reads() as files:
            pairs += _read_with(path, volumes) if volumes else read_labelled(path)
        read += files
    return pairs, read


def _read_with(path: Path, volumes: Sequence[Path]) -> Pairs:
    """The tomograms of these files, each with its picks from the list."""
    opened = [read_tomogram(volume) for volume in volumes]
    if len(opened) == 1:
        found = read_particles(path, tomogram=opened[0])
        return [(opened[0], found.replace(tomogram=opened[0].name))]
    found = read_particles(path, extents={item.name: item.extent for item in opened})
    names = found.tomogram_names
    pairs = [(item, match_tomogram(item.name, names)) for item in opened]
    missing = [item.name for item, name in pairs if name is None]
    if missing:
        raise InputError(f"{path.name} has no picks of {missing[0]}; its tomograms are {', '.join(names[:3])}.")
    return [(item, found.of_tomogram(name).replace(tomogram=item.name)) for item, name in pairs if name is not None]


# --- open layers ----------------------------------------------------------------------------------------------------


class LayerChecklist(DropTarget):
    """A list of open layers of particles that can be checked; ``changed`` is emitted when the checked particles change.

    A subclass says which layers are `offered`, what their lines say, which are checked when they come, and which of
    a layer's particles are taken.
    """

    changed = Signal()

    def __init__(self, session: Session, *, name: str, tip: str) -> None:
        super().__init__()
        self.session = session
        self._offered: list[Points] = []
        self._relabelling = Deferred(self._relabel, parent=self)
        self.list = list_box(name, tip, height=LIST_HEIGHT)
        self.add(self.list)
        for event in ("inserted", "removed"):
            listen(self, getattr(session.viewer.layers.events, event), self.refresh)
        self.list.itemChanged.connect(self._update)

    @abstractmethod
    def offered(self) -> list[Points]:
        """The layers to list."""

    @abstractmethod
    def label(self, layer: Points) -> str:
        """What a layer's line says."""

    @abstractmethod
    def at_first(self, layer: Points) -> bool:
        """Whether a layer that has come is checked."""

    @abstractmethod
    def taken(self, layer: Points) -> Particles:
        """The particles of a checked layer to use."""

    def refresh(self, event: object = None) -> None:
        """List the open layers; what was checked stays so."""
        chosen, before = {id(layer) for layer in self.chosen()}, {id(layer) for layer in self._offered}
        self._offered = self.offered()
        with silent(self.list):
            self.list.clear()
            for layer in self._offered:
                for emitter in (layer.events.name, layer.events.data, layer.events.features):
                    listen(self, emitter, self._relabelling.ask)
                wanted = id(layer) in chosen if id(layer) in before else self.at_first(layer)
                self.list.addItem(checkable(self.label(layer), wanted))
        self._update()

    def _relabel(self, event: object = None) -> None:
        with silent(self.list):
            for layer, item in self._items():
                item.setText(self.label(layer))
        self._update()

    def _update(self, *_: object) -> None:
        self.changed.emit()

    def _items(self) -> list[tuple[Points, QListWidgetItem]]:
        items = (self.list.item(number) for number in range(self.list.count()))
        return [(layer, item) for layer, item in zip(self._offered, items, strict=True) if item is not None]

    def chosen(self) -> list[Points]:
        """The checked layers."""
        return [layer for layer, item in self._items() if item.checkState() == Qt.CheckState.Checked]

    def choose(self, *wanted: Points) -> None:
        """Check these layers, and no others."""
        for layer, item in self._items():
            item.setCheckState(Qt.CheckState.Checked if layer in wanted else Qt.CheckState.Unchecked)

    def pairs(self) -> Pairs:
        """Each open tomogram with its particles of the checked layers.

        Raises
        ------
        InputError
            If a layer's tomogram is not open.
        """
        found: dict[str, tuple[Tomogram, list[Particles]]] = {}
        for layer in self.chosen():
            image = self.session.index.tomogram_of(layer)
            if image is None:
                raise InputError(f"the tomogram of layer {layer.name!r} is not open. Open it on the page Data.")
            tomogram = layers.tomogram_of(image)
            found.setdefault(tomogram.name, (tomogram, []))[1].append(self.taken(layer))
        return [(tomogram, concatenate(parts)) for tomogram, parts in found.values()]


class LayersSource(LayerChecklist):
    """Open layers with poses to train on: those of true poses at first."""

    def __init__(self, session: Session) -> None:
        tip = "Layers of particles with orientations. Of predicted ones, only accepted or corrected particles are used."
        super().__init__(session, name="Layers to train on", tip=tip)
        listen(self, session.events.training_layers, self._choose_named)
        self.refresh()

    def offered(self) -> list[Points]:
        """Layers that hold poses."""
        return [layer for layer in self.session.index.particles() if _has_poses(layer)]

    def label(self, layer: Points) -> str:
        """Name of a layer, and how many of its particles are fit for training."""
        kind = "accepted or corrected" if layers.role(layer) == PREDICTED else "particles"
        return f"{layer.name} · {len(training_particles(layer))} {kind}"

    def at_first(self, layer: Points) -> bool:
        """Whether a layer holds true poses."""
        return layers.role(layer) == TRUTH

    def taken(self, layer: Points) -> Particles:
        """The particles that are fit for training."""
        return training_particles(layer)

    def _choose_named(self, event: Any) -> None:
        self.choose(*event.layers)


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


class PicksChoice(LayerChecklist):
    """Open layers of picks for discovery, and their class; files are opened as layers first."""

    def __init__(self, session: Session) -> None:
        tip = "Layers of picks to use, one or several. Orientations that they have are ignored."
        super().__init__(session, name="Layers of picks", tip=tip)
        self.reading: Job | None = None
        self._picked: set[str] = set()
        self.files = push_button("Open files…", "Open tomograms together with the list of their picks", self._ask_files)
        self.folder = push_button("Open folder…", "Open a PolNet result folder", self._ask_folder)
        self.kind = combo_box("Use only the picks of this class")
        self.kind_line = labelled({"Class": self.kind}, width=LABEL_WIDTH)
        self.add(equal_width_row(self.files, self.folder), self.kind_line)
        self.kind.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.refresh()

    def offered(self) -> list[Points]:
        """Layers of particles that were not predicted, true poses last."""
        found = [layer for layer in self.session.index.particles() if layers.role(layer) != PREDICTED]
        self._picked = {self._tomogram_name(layer) for layer in found if layers.role(layer) != TRUTH}
        return sorted(found, key=lambda layer: layers.role(layer) == TRUTH)

    def label(self, layer: Points) -> str:
        """Name of a layer, and how many picks it has."""
        return f"{layer.name} · {len(layer.data)}"

    def at_first(self, layer: Points) -> bool:
        """Whether a layer is of picks, or of true poses in a tomogram without picks."""
        return layers.role(layer) != TRUTH or self._tomogram_name(layer) not in self._picked

    def taken(self, layer: Points) -> Particles:
        """The picks of the chosen class, under their tomogram's name."""
        picks, code = layers.picks_of(layer), self.kind.currentData()
        if code is not None and picks.kind is not None:
            picks = picks.take((picks.kind == code).nonzero()[0])
        return picks.replace(tomogram=self._tomogram_name(layer))

    def _tomogram_name(self, layer: Points) -> str:
        image = self.session.index.tomogram_of(layer)
        return "" if image is None else layers.tomogram_name(image)

    def _update(self, *_: object) -> None:
        counts: Counter[str] = Counter()
        for layer in self.chosen():
            kinds = layers.picks_of(layer).kind
            counts.update({} if kinds is None else Counter(kinds.tolist()))
        fresh = self.kind.count() <= 1
        show_classes(self.kind, counts, sum(len(layer.data) for layer in self.chosen()))
        if fresh and len(counts) > 1:
            # In a list of several macromolecules, start with the most frequent one.
            with silent(self.kind):
                self.kind.setCurrentIndex(1)
        self.kind_line.setVisible(len(counts) > 1)
        self.changed.emit()

    # --- files --------------------------------------------------------------------------------------------------

    def open_paths(self, *paths: Path) -> None:
        """Read tomograms and picks from files in a worker, and open them as layers."""
        if self.reading is not None or not paths:
            return
        job = self.reading = self.session.jobs.start(
            read_picks_with_tomograms(paths), title="Reading picks", immediately=True
        )
        job.answered.connect(self._show_pairs)
        job.ended.connect(self._ended)
        self._enable_buttons()

    def _show_pairs(self, found: tuple[Pairs, list[Path]]) -> None:
        """Open each tomogram, unless it is open, with its picks; of several the first is shown."""
        pairs, files = found
        empty = not self.session.index.tomograms()
        for tomogram, picks in pairs:
            if self.session.tomograms.image(tomogram.name) is None:
                self.session.show_tomogram(tomogram)
            said: dict[str, Any] = {"role": PICKS, "name": f"{tomogram.name} picks", "files": files}
            self.session.show_particles(picks.replace(rotations=None), tomogram.extent, **said)
        if empty:
            self.session.viewer.reset_view()

    def _ended(self, outcome: str) -> None:
        self.reading = None
        self._enable_buttons()

    def _enable_buttons(self) -> None:
        for button in (self.files, self.folder):
            button.setEnabled(self.reading is None)

    def _ask_files(self) -> None:
        kinds = list_filter(*VOLUME_SUFFIXES, title="Tomograms and particle lists")
        names, _ = QFileDialog.getOpenFileNames(self, "Open tomograms and the list of their picks", "", kinds)
        self.open_paths(*map(Path, names))

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open a PolNet result folder")
        if name:
            self.open_paths(Path(name))

    def drop(self, *paths: Path) -> None:
        """Open dropped files."""
        self.open_paths(*paths)


# --- files and simulations ------------------------------------------------------------------------------------------


class FilesSource(Panel):
    """A list of PolNet folders and particle lists, read with their tomograms in a worker; ``changed`` when read."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.error = ""
        self.reading: Job | None = None
        self._read: Pairs = []
        self.paths = PathList(kinds=list_filter(), tip="PolNet result folders, and particle lists with angles")
        self.tomograms = FileRow(caption="Folder of the tomograms", hint="if a list does not name them")
        self.voxel_size = size_box("Å per voxel of the tomograms. Type here to override their headers.")
        self.add(self.paths, labelled({"Tomograms": self.tomograms, "Voxel size": self.voxel_size}, width=LABEL_WIDTH))
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


class TemplateSource(Panel):
    """A template, the number of tomograms, a seed and options; ``changed`` is emitted when one of them changes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        tip = "Molecule in the tomograms: a bead model of the program, or a map from a file"
        self.template = MapChoice(tip, kinds="Maps (*.mrc *.map);;All files (*)", at_first="4v4r")
        self.tomograms = _count_box(20, "Tomograms to simulate, some seconds each. Some are held out for validation.")
        self.seed = _count_box(0, "Random seed: the same seed gives the same tomograms", low=0)
        self.options = OptionsForm(SimulationOptions, first=("particles",), label_width=LABEL_WIDTH, folded=False)
        self.folder = FileRow(caption="Folder for the tomograms", hint="beside the model")
        fields = {"Template": self.template, "Tomograms": self.tomograms, "Seed": self.seed}
        self.add(labelled(fields, width=LABEL_WIDTH), self.options)
        self.add(labelled({"Save in": self.folder}, width=LABEL_WIDTH))
        self.template.chosen.connect(self.changed)
        self.options.changed.connect(self.changed)
        self.folder.picked.connect(self.changed)

    @property
    def symmetry(self) -> str:
        """The template's symmetry with its axes for a bead model, else C1."""
        code = self.template.name
        return bead_symmetry(code) if code in bead_models() else "C1"

    def training_set(self, *, beside: Path) -> SimulatedTrainingSet:
        """The training set to simulate, in a folder beside the model's file if none was named.

        Raises
        ------
        InputError
            If an option does not fit.
        """
        folder = self.folder.path or beside.with_name(f"{beside.stem}_tomograms")
        return SimulatedTrainingSet(
            self.template.name,
            self.tomograms.value(),
            self.seed.value(),
            self.options.options(),
            folder,
            voxel_size=self.template.voxel_size,
        )


def _count_box(value: int, tip: str, *, low: int = 1) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, 1_000_000)
    box.setValue(value)
    box.setToolTip(tip)
    return box
