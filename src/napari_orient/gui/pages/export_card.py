"""The card Export: writes particles to a file, with a preview; the same bytes as the command line."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path

import napari.viewer
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QAbstractItemView, QCheckBox, QComboBox, QTableWidget, QTableWidgetItem

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import Dialect, ListFile, read_particles, write_particles, written_dialects
from napari_orient.engine.particles import Extent, Particles, concatenate
from napari_orient.gui import layers
from napari_orient.gui.session import session_of
from napari_orient.gui.state_in_file import with_state
from napari_orient.gui.subsets import SubsetChoice, particles_in, rejected
from napari_orient.gui.widgets import (
    BAD,
    GOOD,
    MUTED,
    WARNING,
    FileRow,
    LayerChoice,
    NoteLabel,
    Panel,
    labelled,
    primary_button,
    shrinkable,
)

PREVIEWED = 6
"""Rows of the preview, as many as fit without scrolling."""

TABLE_HEIGHT = 210
"""Height in pixels of the preview, at least: its header, six rows and a scroll bar."""


FORMATS = tuple(written_dialects().values())
"""Formats that are offered, those of RELION first."""


def write(
    path: Path, particles: Particles, *, extents: Mapping[str, Extent], form: Dialect, provenance: str
) -> tuple[str, ...]:
    """Sentences on what the format cannot hold; the particles are written in it, as the command line does."""
    return write_particles(path, particles, extents=extents, dialect=form.name, provenance=provenance)


class ExportCard(Panel):
    """Previews and writes the chosen particles of a layer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self._build(self.session.viewer)
        self._layer_chosen()

    def _build(self, viewer: ViewerModel) -> None:
        self.particles = LayerChoice(viewer, self._offered, empty="none open")
        self.form = QComboBox()
        self.form.addItems([form.title for form in FORMATS])
        self.form.setToolTip("The program that will read the file; its coordinates and angles are written")
        shrinkable(self.form)
        self.file = FileRow(
            caption="Write to",
            kinds=";;".join(f"{form.title} (*{form.suffixes[0]})" for form in FORMATS),
            hint="file to write",
            saving=True,
        )
        self.subset = SubsetChoice()
        self.note, self.preview_note, self.source_note, self.done = NoteLabel(), NoteLabel(), NoteLabel(), NoteLabel()
        self.table = _preview_table()
        self.button = primary_button("Export", "Write the file")
        self.add_heading("Particles")
        self.every = QCheckBox("All tomograms in one list")
        self.every.setToolTip("Write the particles of every tomogram that are of the same kind as this layer's")
        self.add(labelled({"Layer": self.particles, "Which": self.subset, "Format": self.form}), self.every, self.note)
        self.add_heading("Preview")
        self.add(self.table, self.preview_note, self.source_note)
        self.add_heading("File")
        self.add(self.file, self.button, self.done)
        self.close_column()
        self.particles.chosen.connect(self._layer_chosen)
        self.subset.changed.connect(self.show_preview)
        self.every.toggled.connect(self.show_preview)
        self.form.currentIndexChanged.connect(self._format_chosen)
        self.file.picked.connect(self._file_picked)
        self.button.clicked.connect(self.export)

    def _offered(self) -> list[Points]:
        """Layers of particles, predicted ones first."""
        return sorted(self.session.index.particles(), key=lambda layer: layers.role(layer) != layers.PREDICTED)

    @property
    def format(self) -> Dialect:
        """The chosen format."""
        return FORMATS[self.form.currentIndex()]

    # --- input --------------------------------------------------------------------------------------------------

    def _layer_chosen(self, *_: object) -> None:
        layer = self.particles.layer
        self.subset.set_layer(layer if isinstance(layer, Points) else None)
        if self.file.path is None and layer is not None:
            self.file.line.setPlaceholderText(f"such as {layer.name.replace(' ', '_')}{self.format.suffixes[0]}")
        self.show_preview()

    def _format_chosen(self, *_: object) -> None:
        path = self.file.path
        if path is not None and path.suffix not in self.format.suffixes:
            self.file.show_path(path.with_suffix(self.format.suffixes[0]))
        self.show_preview()

    def _file_picked(self, path: Path | None) -> None:
        if path is not None and path.suffix and path.suffix not in self.format.suffixes:
            fitting = [row for row, form in enumerate(FORMATS) if path.suffix.lower() in form.suffixes]
            self.form.setCurrentIndex(fitting[0] if fitting else self.form.currentIndex())
        self._show_button()

    def show_preview(self, *_: object) -> None:
        """Show the first rows of the file, and its first line."""
        self.done.say("")
        self.table.setVisible(False)
        self.preview_note.say("")
        self.source_note.say("")
        self.every.setVisible(len(self._alike()) > 1 or bool(self._listed()))
        if self.particles.layer is None:
            self.note.say("No particles open yet: open or predict some.", WARNING)
        else:
            try:
                self._preview(self.chosen())
            except InputError as error:
                self.note.say(str(error), BAD)
        self._show_button()

    # --- particles ------------------------------------------------------------------------------------------------

    @property
    def _whole(self) -> bool:
        """Whether the particles of all tomograms are written."""
        return self.every.isChecked() and self.every.isVisibleTo(self)

    def _alike(self) -> list[Points]:
        """The layers of the chosen layer's role, one for each tomogram, in the order of the tomograms."""
        chosen, switch = self.particles.layer, self.session.tomograms
        if not isinstance(chosen, Points):
            return []
        found = {switch.owner(layer): layer for layer in self.session.index.particles(layers.role(chosen))[::-1]}
        found[switch.owner(chosen)] = chosen
        return [found[name] for name in switch.names() if name in found]

    def _listed(self) -> list[Particles]:
        """Particles of the chosen layer's role in tomograms that have no layers yet."""
        chosen = self.particles.layer
        role = "" if chosen is None else layers.role(chosen)
        parts = [part for entry in self.session.tomograms.listed.values() for part in entry.parts]
        return [part.particles for part in parts if part.role == role]

    def chosen(self) -> Particles:
        """The particles to write: of the chosen layer, or of all tomograms.

        Raises
        ------
        InputError
            If there are none, or only some have an orientation.
        """
        if not self._whole:
            return self.subset.particles()
        rows = [(layer, self.subset.rows_in(layer)) for layer in self._alike()]
        parts = [self._named(particles_in(layer, part), layer) for layer, part in rows if len(part)]
        return concatenate([*parts, *self._listed()])

    def _named(self, particles: Particles, layer: Points) -> Particles:
        """The particles under their tomogram's name where they had none."""
        named = any(particles.tomogram_names)
        return particles if named else particles.replace(tomogram=self.session.tomograms.owner(layer))

    def _preview(self, particles: Particles) -> None:
        layer = self.particles.layer
        total = 0 if layer is None else len(layer.data)
        aside = int(rejected(layer).sum()) if isinstance(layer, Points) and not self._whole else 0
        where = f" of {len(particles.tomogram_names)} tomograms" if self._whole else ""
        subset = "" if self._whole or len(particles) == total else f" of {total}"
        posed = "with orientations" if particles.rotations is not None else "positions only, no orientations"
        left = (
            f"; {aside} rejected {'is' if aside == 1 else 'are'} left out" if self.subset.leaves_out and aside else ""
        )
        self.note.say(
            f"{len(particles)}{subset} particles{where}, {posed}{left}",
            GOOD if particles.rotations is not None else WARNING,
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"preview{self.format.suffixes[0]}"
            self._write(path, particles.take(slice(0, PREVIEWED)))
            columns, rows = first_rows(path)
        self.table.setColumnCount(len(columns))
        self.table.setRowCount(len(rows))
        self.table.setHorizontalHeaderLabels([_short(name) for name in columns])
        for line, entries in enumerate(rows):
            for column, entry in enumerate(entries):
                self.table.setItem(line, column, QTableWidgetItem(entry))
        self.table.resizeColumnsToContents()
        self.table.setVisible(True)
        self.preview_note.say(f"First {len(rows)} of {len(particles)} rows · {len(columns)} columns", MUTED)
        self.source_note.say(f"First line of the file: {self._provenance() or 'none'}", MUTED)

    def _write(self, path: Path, particles: Particles) -> tuple[str, ...]:
        layer = self.particles.layer
        extents = self._extents(particles)
        if layer is not None and self.format.carries_tables and not self._whole:
            particles = with_state(particles, layer, self.subset.rows(), self.session, path=path)
        return write(path, particles, extents=extents, form=self.format, provenance=self._provenance())

    def _extents(self, particles: Particles) -> dict[str, Extent]:
        """The sizes of the particles' tomograms, as far as they are known."""
        layer = self.particles.layer
        if not self._whole:
            extent = None if layer is None else self.session.index.extent_of(layer)
            return {} if extent is None else dict.fromkeys(particles.tomogram_names, extent)
        found = {name: self.session.index.extent_of(item) for item in self._alike() for name in _names(item)}
        opened = {name: extent for name, extent in found.items() if extent is not None}
        return {**particles.extents, **opened, **self.session.index.extents()}

    def _provenance(self) -> str:
        layer = self.particles.layer
        return "" if layer is None else str(layers.about(layer).get("provenance", ""))

    def _show_button(self, *_: object) -> None:
        self.button.setEnabled(self.table.isVisibleTo(self) and self.file.path is not None)
        self.done.say("")

    # --- writing ------------------------------------------------------------------------------------------------

    def export(self) -> None:
        """Write the file, whole or not at all."""
        path = self.file.path
        if path is None:
            show_error("no file was named. Name one.")
            return
        if not path.suffix:
            path = path.with_suffix(self.format.suffixes[0])
            self.file.show_path(path)
        self.attempt(lambda: self._export(path, self.chosen()))

    def _export(self, path: Path, particles: Particles) -> None:
        notes = self._write(path, particles)
        self.done.say("\n".join([f"Wrote {len(particles)} particles to {path}", *notes]), WARNING if notes else GOOD)


def _names(layer: Points) -> list[str]:
    return [str(layers.about(layer).get("tomogram", ""))]


def first_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a written file, as text; of formats without columns, the words of the first lines."""
    if path.suffix == ".em":
        frame = read_particles(path).to_dataframe()
        return list(frame.columns), [[_shown(value) for value in row] for row in frame.to_numpy().tolist()]
    if path.suffix == ".star":
        blocks = ListFile(path).star
        table = blocks.get("particles") or next(iter(blocks.values()))
        return list(table), [list(row) for row in zip(*table.values(), strict=True)]
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix in (".csv", ".tsv"):
        mark = "\t" if path.suffix == ".tsv" else ","
        columns, *rows = csv.reader((line for line in lines if not line.startswith("#")), delimiter=mark)
        return columns, rows
    words = [line.split() for line in lines[:PREVIEWED]]
    return [str(number) for number in range(1, max(map(len, words)) + 1)], words


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(column: str) -> str:
    """A column's name without RELION's prefix ``rln``."""
    return column.removeprefix("rln")


def _preview_table() -> QTableWidget:
    table = QTableWidget()
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setMinimumHeight(TABLE_HEIGHT)
    table.setAccessibleName("Preview")
    table.setToolTip("First rows of the file to be written")
    table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    return table
