"""Training data from tomograms to be simulated with a template."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSpinBox, QVBoxLayout, QWidget

from napari_orient.engine.parameters import SimulationOptions
from napari_orient.engine.templates import bead_models, bead_symmetry
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.map_files import choose_map
from napari_orient.gui.training_sets.training_data import SimulatedTrainingSet
from napari_orient.gui.widgets import FileRow, labelled, shrinkable

MAPS = "Maps (*.mrc *.map);;All files (*)"
LABELS = 112
"""Width in pixels of the column of labels; fits the longest label at the default font."""


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
        self.options = OptionsForm(SimulationOptions, first=("particles",), label_width=LABELS)
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
