"""Lessons from files, read in a worker as soon as they are named."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.gui.jobs import Job
from napari_orient.gui.training_sets.training_data import Pairs, read_training_files
from napari_orient.gui.widgets import FileRow, PathList, labelled, size_box

LISTS = "Particle lists (*.star *.csv *.tsv);;All files (*)"
LABELS = 112


class FilesSource(QWidget):
    """PolNet folders and lists of particles with their tomograms, read in a worker as soon as they are named."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.error = ""
        self.reading: Job | None = None
        self._read: Pairs = []
        self.paths = PathList(kinds=LISTS, tip="Result folders of PolNet, and lists of particles with angles")
        self.tomograms = FileRow(caption="Folder of the tomograms", hint="where a list does not find them itself")
        self.voxel_size = size_box("Å per voxel of the tomograms. Type here to override their headers.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.paths)
        column.addWidget(labelled({"Tomograms": self.tomograms, "Voxel size": self.voxel_size}, width=LABELS))
        self.paths.changed.connect(self.read)
        self.tomograms.picked.connect(self.read)
        self.voxel_size.valueChanged.connect(self.read)

    def read(self, *_: object) -> None:
        """Read anew what is named; an answer to what was named before is dropped."""
        if self.reading is not None:
            self.reading.stop()
        self._read, self.error = [], ""
        size = self.voxel_size.value() or None
        stream = read_training_files(self.paths.paths, tomograms=self.tomograms.path, voxel_size=size)
        job = self.reading = Job(stream, title="Reading particle lists", parent=self)
        job.answered.connect(lambda answer: self._take(job, answer))
        job.ended.connect(lambda _: self._ended(job))
        self.changed.emit()

    def _take(self, job: Job, answer: Pairs | str) -> None:
        if job is not self.reading:
            return
        if isinstance(answer, str):
            self.error = answer
        else:
            self._read = answer

    def _ended(self, job: Job) -> None:
        if job is self.reading:
            self.reading = None
            self.changed.emit()

    def pairs(self) -> Pairs:
        """What was read.

        Raises
        ------
        InputError
            If it could not be read.
        """
        if self.error:
            raise InputError(self.error)
        return self._read
