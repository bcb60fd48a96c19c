"""The page Data: which tomograms there are, what each has, and what does not match, with the remedy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari.layers import Points
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import VOLUME_SUFFIXES
from napari_orient.engine.outside import rows_inside
from napari_orient.gui import layers
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.opening import PLUGIN, OpenForm, dock_text, open_paths
from napari_orient.gui.pages.base import DockPage
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import (
    BAD,
    Deferred,
    Fold,
    NoteLabel,
    equal_width_row,
    list_filter,
    listen,
    primary_button,
    push_button,
    silent,
)
from napari_orient.gui.widgets.basic import tone

COLUMNS = ("Tomogram", "Voxel", "Picks", "True", "Posed")
FILES = list_filter(*VOLUME_SUFFIXES, title="Tomograms and particle lists")
TABLE_HEIGHT = 168
"""Height in pixels of the table: its header and about five rows."""

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
        self.table = _table()
        self.form = OpenForm(self.session.viewer)
        self.fold = Fold("Open with options", self.form)
        self.onward = primary_button("Find the orientations", "Go to the page Poses")
        self.add(self.hint, equal_width_row(self.files, self.folder, self.sample), self.table, self.note)
        self.add(self.onward, self.fold)
        self.onward.clicked.connect(lambda: self.session.show_page("Poses"))
        self.table.cellClicked.connect(lambda line, _: self.session.tomograms.choose(self._names[line]))
        self.table.itemChanged.connect(self._voxel_size_typed)
        for emitter in (self.session.events.tomogram, self.session.events.arranged):
            listen(self, emitter, self._showing.ask)

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
        self.attempt(partial(self.session.viewer.open_sample, PLUGIN, "simulated"))

    def ask_voxel_size(self, path: Path) -> None:
        """Ask for the voxel size of a file that does not say it: the form below holds the file, and waits for it."""
        self.fold.open(True)
        self.form.tomogram_row.show_path(path)
        self.form.voxel_size.setFocus()

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
        if switch.name in self._names:
            self.table.selectRow(self._names.index(switch.name))
        found = [f"{name}: {words}" for name, words in problems.items() if words]
        self.note.say("\n".join(found[:3]), BAD)
        self.hint.say(
            "A click shows a tomogram; the voxel size can be typed."
            if self._names
            else "Drop tomograms and particle lists anywhere in the window, or open them here."
        )
        self.onward.setEnabled(bool(self.session.index.tomograms() and self.session.index.particles()))

    def _cells(self, name: str) -> list[str]:
        """A tomogram's row: its name, voxel size, and particles by role."""
        image, listed = self.session.tomograms.image(name), self.session.tomograms.listed.get(name)
        volume = None if listed is None else listed.tomogram
        size = layers.voxel_size(image) if image is not None else None if volume is None else volume.voxel_size
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
        source = "" if image is None else str(layers.about(image).get("voxel_size_source", ""))
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
        try:
            size = float(item.text().removesuffix("Å").strip())
        except ValueError:
            size = 0.0
        if image is not None and item.column() == 1 and size > 0:
            image.scale = (size,) * 3
            layers.about(image)["voxel_size_source"] = "typed here"
            self.session.events.tomogram()
        self._showing.ask()


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
        listed = session.tomograms.listed.get(name)
        return "" if listed is not None else "its volume is not open: drop it too."
    if layers.voxel_size(image) == PLACEHOLDER:
        return "voxels of 1 Å are often a placeholder: type the true size in the table."
    for layer in session.index.particles():
        if session.tomograms.owner(layer) == name:
            words = session.index.mismatch(layer, image) or _outside(layer, session)
            if words:
                return f"{layer.name}: {words}"
    return ""


def _outside(layer: Points, session: Session) -> str:
    """Why most particles lie outside their tomogram; empty where they do not."""
    extent = session.index.extent_of(layer)
    if extent is None or not len(layer.data):
        return ""
    try:
        rows_inside(layers.picks_of(layer), extent, name="the tomogram")
    except InputError as error:
        return dock_text(str(error))
    return ""


def _table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels(list(COLUMNS))
    table.setFixedHeight(TABLE_HEIGHT)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setAccessibleName("Tomograms")
    table.setToolTip("The tomograms: a click shows one; a voxel size can be typed")
    upright = table.verticalHeader()
    if upright is not None:
        upright.hide()
    header = table.horizontalHeader()
    if header is not None:
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table
