"""Sources of particles: what is open, in layers or listed, and tomograms to simulate; training sets as values."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QListWidgetItem, QSpinBox

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.io import read_labelled
from napari_orient.engine.io.columns import STATUS
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate, labelled_of_kind
from napari_orient.engine.simulation.simulate import simulate_series
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import bead_models, bead_symmetry, load_template
from napari_orient.gui.event_loop import Deferred, listen
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.pages.map_choice import MapChoice
from napari_orient.gui.session.tomogram_switch import ParticleSet
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import (
    LABEL_WIDTH,
    Panel,
    checkable,
    combo_box,
    counted,
    labelled,
    list_box,
    read_plain_numbers,
    silent,
)
from napari_orient.gui.widgets.forms import OptionsForm
from napari_orient.gui.widgets.inputs import LIST_HEIGHT, FileRow, show_classes


@dataclass(frozen=True, eq=False)
class LabelledTrainingSet:
    """Tomograms with labelled particles, all or of one class."""

    pairs: Labelled
    kind: str | None = None

    def labelled(self) -> Stream[Step, Labelled]:
        """The tomograms with the particles to train on."""
        yield Step(0, 1, "Collecting the particles")
        return self.pairs if self.kind is None else labelled_of_kind(self.pairs, self.kind)


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

    def labelled(self) -> Stream[Step, Labelled]:
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


def count_text(pairs: Labelled, one: str, many: str = "") -> str:
    """A text of the number of particles, called so, and of tomograms."""
    total = sum(len(particles) for _, particles in pairs)
    return f"{counted(total, one, many)} in {counted(len(pairs), 'tomogram')}"


def class_counts(pairs: Labelled) -> Counter[str]:
    """The number of particles of each class."""
    kinds = [particles.kind.tolist() for _, particles in pairs if particles.kind is not None]
    return Counter(code for part in kinds for code in part)


# --- what is open -----------------------------------------------------------------------------------------------------


class ParticleChecklist(Panel):
    """A list of the particles of all tomograms, to be checked; ``changed`` is emitted when the checked ones change.

    A subclass says which are `offered`, what their lines say, which are checked when they come, and which particles
    are taken.
    """

    changed = Signal()

    def __init__(self, session: Session, *, name: str, tip: str) -> None:
        super().__init__()
        self.session = session
        self._offered: list[ParticleSet] = []
        self._relabelling = Deferred(self._relabel, parent=self)
        self.list = list_box(name, tip, height=LIST_HEIGHT)
        self.add(self.list)
        listen(self, session.events.tomogram, self.refresh)
        self.list.itemChanged.connect(self._update)

    @abstractmethod
    def offered(self) -> list[ParticleSet]:
        """What is listed."""

    @abstractmethod
    def label(self, item: ParticleSet) -> str:
        """What a line says."""

    @abstractmethod
    def at_first(self, item: ParticleSet) -> bool:
        """Whether particles that have come are checked."""

    @abstractmethod
    def taken(self, item: ParticleSet) -> Particles:
        """The particles of a checked line to use."""

    def _is_there(self, item: ParticleSet) -> bool:
        return item.layer is not None or self.session.tomograms.has_volume(item.tomogram)

    def refresh(self, event: object = None) -> None:
        """List what there is; what was checked stays so."""
        offered = self.offered()
        if [id(item.source) for item in offered] == [id(item.source) for item in self._offered]:
            return
        chosen, before = {id(item.source) for item in self.chosen()}, {id(item.source) for item in self._offered}
        self._offered = offered
        with silent(self.list):
            self.list.clear()
            for item in offered:
                if item.layer is not None:
                    events = item.layer.events
                    for emitter in (events.name, events.data, events.features):
                        listen(self, emitter, self._relabelling.ask)
                wanted = id(item.source) in chosen if id(item.source) in before else self.at_first(item)
                self.list.addItem(checkable(self.label(item), wanted))
        self._update()

    def _relabel(self, event: object = None) -> None:
        with silent(self.list):
            for item, line in self._lines():
                line.setText(self.label(item))
        self._update()

    def _update(self, *_: object) -> None:
        self.changed.emit()

    def _lines(self) -> list[tuple[ParticleSet, QListWidgetItem]]:
        lines = (self.list.item(number) for number in range(self.list.count()))
        return [(item, line) for item, line in zip(self._offered, lines, strict=True) if line is not None]

    def chosen(self) -> list[ParticleSet]:
        """What is checked."""
        return [item for item, line in self._lines() if line.checkState() == Qt.CheckState.Checked]

    def choose(self, *wanted: Points) -> None:
        """Check the particles of these layers, and no others."""
        for item, line in self._lines():
            line.setCheckState(Qt.CheckState.Checked if item.layer in wanted else Qt.CheckState.Unchecked)

    def pairs(self) -> Labelled:
        """Each tomogram with its checked particles.

        Raises
        ------
        InputError
            If a tomogram's volume is not open.
        """
        found: dict[str, tuple[Tomogram, list[Particles]]] = {}
        for item in self.chosen():
            tomogram = self.session.tomograms.tomogram(item.tomogram)
            if tomogram is None:
                raise InputError(f"the tomogram of {item.name!r} is not open. Open it on the page Data.")
            found.setdefault(tomogram.name, (tomogram, []))[1].append(self.taken(item))
        return [(tomogram, concatenate(parts)) for tomogram, parts in found.values()]


class PosesChecklist(ParticleChecklist):
    """Particles with poses to train on: the true ones at first."""

    def __init__(self, session: Session) -> None:
        tip = "Particles with orientations. Of predicted ones, only accepted or corrected particles are used."
        super().__init__(session, name="Particles to train on", tip=tip)
        listen(self, session.events.training_layers, self._choose_named)
        self.refresh()

    def offered(self) -> list[ParticleSet]:
        """Those that have poses."""
        return [item for item in self.session.tomograms.sets() if item.has_poses]

    def label(self, item: ParticleSet) -> str:
        """Name, and how many particles are fit for training."""
        kind = "accepted or corrected" if item.role == PREDICTED else "particles"
        return f"{item.name} · {len(training_particles(item))} {kind}"

    def at_first(self, item: ParticleSet) -> bool:
        """Whether these are true poses in a tomogram that is there."""
        return item.role == TRUTH and self._is_there(item)

    def taken(self, item: ParticleSet) -> Particles:
        """The particles that are fit for training."""
        return training_particles(item)

    def _choose_named(self, event: Any) -> None:
        self.choose(*event.layers)


def training_particles(item: ParticleSet) -> Particles:
    """The particles that are fit for training.

    Of predicted particles those accepted or corrected, of others all that have poses and are not rejected.
    """
    picks = item.picks()
    if item.role == PREDICTED:
        wanted = corrections.confirmed(picks)
    else:
        wanted = np.asarray(picks.extra.get(STATUS, np.full(len(picks), ""))) != corrections.REJECTED
    return item.posed(wanted)


class PicksChecklist(ParticleChecklist):
    """Picks for discovery, and their class."""

    def __init__(self, session: Session) -> None:
        tip = "Picks to use, of one tomogram or several. Orientations that they have are ignored."
        super().__init__(session, name="Picks", tip=tip)
        self._picked: set[str] = set()
        self.kind = combo_box("Use only the picks of this class")
        self.kind_line = labelled({"Class": self.kind}, width=LABEL_WIDTH)
        self.add(self.kind_line)
        self.kind.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.refresh()
        self._update()

    def offered(self) -> list[ParticleSet]:
        """Particles that were not predicted, true poses last."""
        found = [item for item in self.session.tomograms.sets() if item.role != PREDICTED]
        self._picked = {item.tomogram for item in found if item.role != TRUTH}
        return sorted(found, key=lambda item: item.role == TRUTH)

    def label(self, item: ParticleSet) -> str:
        """Name, and how many picks there are."""
        return f"{item.name} · {len(item)}"

    def at_first(self, item: ParticleSet) -> bool:
        """Whether these are picks, or true poses in a tomogram without picks, and the tomogram is there."""
        return self._is_there(item) and (item.role != TRUTH or item.tomogram not in self._picked)

    def taken(self, item: ParticleSet) -> Particles:
        """The picks of the chosen class, under their tomogram's name."""
        picks, code = item.picks(), self.kind.currentData()
        if code is not None and picks.kind is not None:
            picks = picks.take((picks.kind == code).nonzero()[0])
        return picks.replace(tomogram=item.tomogram)

    def _update(self, *_: object) -> None:
        chosen = self.chosen()
        kinds = (item.picks().kind for item in chosen)
        counts = Counter(code for part in kinds if part is not None for code in part.tolist())
        fresh = self.kind.count() <= 1
        show_classes(self.kind, counts, sum(map(len, chosen)))
        if fresh and len(counts) > 1:
            # In a list of several macromolecules, start with the most frequent one.
            with silent(self.kind):
                self.kind.setCurrentIndex(1)
        self.kind_line.setVisible(len(counts) > 1)
        super()._update()


# --- simulations ------------------------------------------------------------------------------------------------------


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
    read_plain_numbers(box)
    box.setRange(low, 1_000_000)
    box.setValue(value)
    box.setToolTip(tip)
    return box
