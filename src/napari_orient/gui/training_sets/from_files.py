"""Training data from files, read in a worker as soon as they are named."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.gui.jobs import Job
from napari_orient.gui.training_sets.training_data import Pairs, read_training_files
from napari_orient.gui.widgets import FileRow, PathList, labelled, list_filter, size_box

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
