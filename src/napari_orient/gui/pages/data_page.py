"""The page Data: which tomograms there are, what each has, and what does not match, with the remedy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image, Points
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.formats import VOLUME_SUFFIXES
from napari_orient.engine.tomogram.outside import rows_inside
from napari_orient.gui.event_loop import Deferred, listen
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.pages.base import DockPage
from napari_orient.gui.sample_data import PLAIN
from napari_orient.gui.session.opening import PLUGIN, dock_text, open_file, open_paths
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import (
    BAD,
    WARNING,
    NoteLabel,
    Panel,
    equal_width_row,
    plain_number,
    primary_button,
    push_button,
    row,
    silent,
    size_box,
    tone,
)
from napari_orient.gui.widgets.inputs import list_filter

COLUMNS = ("Tomogram", "Voxel", "Picks", "True", "Posed")
FILES = list_filter(*VOLUME_SUFFIXES, title="Tomograms and particle lists")
FEWEST_ROWS = 2
"""Rows that the table has room for, at least."""

MOST_ROWS = 6
"""Rows that the table has room for, at most: it scrolls beyond."""

LARGEST_SIZE = 1000.0
"""Å along the side of a voxel, less than this: no tomogram's is larger."""

PLACEHOLDER = 1.0
"""Å: the voxel size that programs write where they know none."""


class DataPage(DockPage):
    """A table of tomograms, where a click shows one; buttons that open files; and what is to be done next."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self._names: list[str] = []
        self._showing = Deferred(self.show_state, parent=self)
        self.hint, self.note = NoteLabel(), NoteLabel()
        tip = "Open tomograms and lists of particles, several together"
        self.files = push_button("Files…", tip, self._ask_files)
        self.folder = push_button("Folder…", "Open a PolNet result folder: its tomograms and lists", self._ask_folder)
        tip = "Open a small simulated tomogram, with picks and true poses"
        self.sample = push_button("Sample", tip, self._sample)
        self.table, self._refused = _table(), ""
        self.question = SizeQuestion()
        self.question.answered.connect(self._open_with_size)
        self.onward = primary_button("Find the orientations", "Go to the page Poses")
        self.add(equal_width_row(self.files, self.folder, self.sample), self.question, self.hint, self.table, self.note)
        self.add(self.onward)
        self.onward.clicked.connect(lambda: self.session.show_page("Poses"))
        self.table.cellClicked.connect(lambda line, _: self.session.tomograms.choose(self._names[line]))
        self.table.itemChanged.connect(self._voxel_size_typed)
        for emitter in (self.session.events.tomogram, self.session.events.arranged):
            listen(self, emitter, self._showing.ask)
        listen(self, self.session.events.size_wanted, self._ask_size)

    @property
    def primary(self) -> QWidget:
        """The button that leads on."""
        return self.onward

    # --- opening ----------------------------------------------------------------------------------------------------

    def _ask_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open tomograms and particle lists", "", FILES)
        open_paths(self.session, [Path(name) for name in names])

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open a PolNet result folder")
        if name:
            open_paths(self.session, [Path(name)])

    def _sample(self) -> None:
        if self.session.tomograms.image(PLAIN.name) is not None:
            self.session.tomograms.choose(PLAIN.name)
            return
        self.attempt(partial(self.session.viewer.open_sample, PLUGIN, "simulated"))

    def _ask_size(self, event: Any) -> None:
        """Ask for the size of a file's voxels or pixels, which it does not state."""
        self.question.ask(event.path, event.words)
        self.reveal(self.question)

    def _open_with_size(self, path: Path, size: float) -> None:
        self.question.setVisible(not self.attempt(partial(open_file, self.session, path, size=size)))

    # --- what there is ----------------------------------------------------------------------------------------------

    def show_state(self, *_: object) -> None:
        """Show the tomograms, what each has, and the first thing that does not match."""
        switch = self.session.tomograms
        self._names = switch.names()
        problems = {name: problem_of(self.session, name) for name in self._names}
        with silent(self.table):
            self.table.setRowCount(len(self._names))
            for line, name in enumerate(self._names):
                for column, text in enumerate(self._cells(name)):
                    self._show_cell(line, column, text, wrong=problems[name])
        self.table.setVisible(bool(self._names))
        _fit_height(self.table)
        if switch.name in self._names:
            self.table.selectRow(self._names.index(switch.name))
        found = [f"{name}: {words}" for name, words in problems.items() if words] or self._unfit()
        self.note.say("\n".join([*filter(None, [self._refused]), *found[:3]]), BAD)
        self.hint.say(
            "Click a row to show it. A voxel size can be typed."
            if self._names
            else "Drop tomograms and lists of particles anywhere in the window, or open them here. "
            "A list brings its tomograms along where their files are beside it."
        )
        self.onward.setEnabled(bool(self.session.index.tomograms() and self.session.index.particles()))

    def _unfit(self) -> list[str]:
        """Why no image that is open is a tomogram, where none is: a line each."""
        return [] if self._names else [f"{name} {words}" for name, words in _unfit_images(self.session)]

    def _cells(self, name: str) -> list[str]:
        """A tomogram's row: its name, voxel size, and particles by role."""
        image, listed = self.session.tomograms.image(name), self.session.tomograms.listed.get(name)
        volume = None if listed is None else listed.tomogram
        size = layer_data.voxel_size(image) if image is not None else None if volume is None else volume.voxel_size
        counts = [sum(_counts(self.session, name, roles)) for roles in ((PICKS, ""), (TRUTH,), (PREDICTED,))]
        return [name, "–" if size is None else f"{size:g} Å", *(f"{count:,}" if count else "–" for count in counts)]

    def _show_cell(self, line: int, column: int, text: str, *, wrong: str) -> None:
        item = self.table.item(line, column)
        if item is None:
            item = QTableWidgetItem()
            self.table.setItem(line, column, item)
        image = self.session.tomograms.image(self._names[line])
        editable = column == 1 and image is not None
        flags = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled
        item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if editable else flags)
        item.setText(text)
        source = "" if image is None else str(layer_data.about(image).get("voxel_size_source", ""))
        item.setToolTip(wrong or (f"Voxel size: {source}. Type another" if column == 1 and source else text))
        item.setTextAlignment(
            Qt.AlignmentFlag.AlignVCenter | (Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft)
        )
        if wrong:
            item.setForeground(QColor(tone(BAD, self.table)))
        else:
            item.setData(Qt.ItemDataRole.ForegroundRole, None)

    def _voxel_size_typed(self, item: QTableWidgetItem) -> None:
        """Give the tomogram of this row the voxel size that was typed."""
        image = self.session.tomograms.image(self._names[item.row()])
        self._refused, typed = "", item.text()
        try:
            size = float(plain_number(typed.removesuffix("Å")))
        except ValueError:
            size = 0.0
        if image is not None and item.column() == 1 and 0 < size < LARGEST_SIZE:
            image.scale = (size,) * 3
            layer_data.about(image)["voxel_size_source"] = "typed here"
            self.session.events.tomogram()
        else:
            self._refused = f"{typed!r} is no voxel size; expected Å along a voxel's side, such as 13.5."
        self._showing.ask()


class SizeQuestion(Panel):
    """Asks for the size in Å that a file does not state; ``answered`` emits the file and the size."""

    answered = Signal(object, float)

    def __init__(self) -> None:
        super().__init__()
        self._path = Path()
        self.why = NoteLabel()
        self.box = size_box("Å per voxel of a tomogram, or per unbinned pixel that a list counts in")
        self.box.setAccessibleName("Size")
        self.open = push_button("Open", "Open the file with this size", self._answer)
        self.open.setEnabled(False)
        self.add(self.why, row(self.box, self.open))
        self.box.valueChanged.connect(lambda size: self.open.setEnabled(size > 0))
        self.setVisible(False)

    def ask(self, path: Path, why: str) -> None:
        """Ask for the size of this file."""
        self._path = path
        self.why.say(f"{path.name}: {why}", WARNING)
        self.box.setValue(0)
        self.setVisible(True)
        self.box.setFocus()

    def _answer(self) -> None:
        self.answered.emit(self._path, self.box.value())


def _counts(session: Session, name: str, roles: tuple[str, ...]) -> list[int]:
    """How many particles of these roles a tomogram has, in layers and listed."""
    switch = session.tomograms
    found = [layer for layer in session.index.particles(*roles) if switch.owner(layer) == name]
    listed = switch.listed[name].parts if name in switch.listed else []
    return [len(layer.data) for layer in found] + [len(part.particles) for part in listed if part.role in roles]


def problem_of(session: Session, name: str) -> str:
    """What does not match of a tomogram and its particles, with the remedy; empty where nothing is wrong."""
    image = session.tomograms.image(name)
    if image is None:
        unfit = [words for own, words in _unfit_images(session) if own == name]
        return unfit[0] if unfit else "" if name in session.tomograms.listed else "its volume is not open: drop it too."
    if layer_data.voxel_size(image) == PLACEHOLDER:
        return "voxels of 1 Å are often a placeholder: type the true size in the table."
    for layer in session.index.particles():
        if session.tomograms.owner(layer) == name:
            words = session.index.mismatch(layer, image) or _outside(layer, session)
            if words:
                return f"{layer.name}: {words}"
    return ""


def _unfit_images(session: Session) -> list[tuple[str, str]]:
    """Images that cannot serve as tomograms, by the names that these would have, and why."""
    images = [layer for layer in session.viewer.layers if isinstance(layer, Image)]
    reasons = [(layer_data.tomogram_name(image), layer_data.unfit_for_tomogram(image)) for image in images]
    return [(name, f"{why}; expected a grey volume of cubic voxels.") for name, why in reasons if why]


def _outside(layer: Points, session: Session) -> str:
    """Why most particles lie outside their tomogram; empty where they do not."""
    extent = session.index.extent_of(layer)
    if extent is None or not len(layer.data):
        return ""
    try:
        rows_inside(layer_data.picks_of(layer), extent, name="the tomogram")
    except InputError as error:
        return dock_text(str(error))
    return ""


def _fit_height(table: QTableWidget) -> None:
    """Make a table as high as its rows are, within bounds."""
    header, rows = table.horizontalHeader(), min(max(table.rowCount(), FEWEST_ROWS), MOST_ROWS)
    high = 0 if header is None else header.sizeHint().height()
    table.setFixedHeight(high + rows * table.rowHeight(0) + 2 * table.frameWidth() + 2)


def _table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels(list(COLUMNS))
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setAccessibleName("Tomograms")
    table.setToolTip("The tomograms: a click shows one; a voxel size can be typed")
    upright = table.verticalHeader()
    if upright is not None:
        upright.hide()
    header = table.horizontalHeader()
    if header is not None:
        header.setTextElideMode(Qt.TextElideMode.ElideRight)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table
