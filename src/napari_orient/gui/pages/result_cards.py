"""Cards of the page Result: a list of the particles, their average with its FSC, and a figure for print."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari.layers import Points
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QLabel,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_orient.engine.averaging import Average, average, average_paths, write_average
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.engine.io.dialects import Dialect, ListFile, written_dialects
from napari_orient.engine.parameters import AveragingOptions
from napari_orient.engine.particles import Extent, Labelled, Particles, Tomogram, classes_notes, concatenate
from napari_orient.engine.symmetry import AUTO, Symmetry, symmetry
from napari_orient.gui.layers import layer_data
from napari_orient.gui.pages.base import DockPage, JobCard, ParticlesPage
from napari_orient.gui.pages.figure import SUFFIXES, default_name, save_figure
from napari_orient.gui.pages.maps import FSCPlot, MapView, map_layer
from napari_orient.gui.pages.subsets import SubsetChoice, rejected
from napari_orient.gui.session.state_in_file import with_state
from napari_orient.gui.session.tomogram_switch import ParticleSet
from napari_orient.gui.widgets.basic import (
    GOOD,
    LABEL_WIDTH,
    MUTED,
    WARNING,
    NoteLabel,
    Panel,
    combo_box,
    counted,
    labelled,
    primary_button,
    push_button,
)
from napari_orient.gui.widgets.forms import OptionsForm
from napari_orient.gui.widgets.inputs import FileRow, JobRow

PREVIEWED = 6
"""Rows of the preview, as many as fit without scrolling."""

ROW_HEIGHT = 24
"""Height in pixels of a row of the preview, and of its header."""

TABLE_HEIGHT = (PREVIEWED + 1) * ROW_HEIGHT + 20
"""Height in pixels of the preview: its header, its rows and a scroll bar."""


FORMATS = tuple(written_dialects().values())
"""Formats that are offered, those of RELION first."""

MAP_COLOUR = (0.83, 0.88, 0.96)
"""Colour of the map's surface, RGB 0 to 1."""

PLOT_HEIGHT = 170
"""Height in pixels of the FSC plot."""


def write(
    path: Path, particles: Particles, *, extents: Mapping[str, Extent], form: Dialect, provenance: str
) -> tuple[str, ...]:
    """Sentences on what the format cannot hold; the particles are written in it, as the command line does."""
    return write_particles(path, particles, extents=extents, dialect=form.name, provenance=provenance)


class SubsetPage(ParticlesPage):
    """A card on some of a layer's particles, or on those of the same kind in all tomograms."""

    subset: SubsetChoice
    every: QCheckBox

    def choose_subset(self) -> QWidget:
        """The choice of the layer's particles, and a box below for all tomograms; `show_state` follows both."""
        self.particles = self.choose_particles()
        self.subset, self.every = SubsetChoice(self.session), QCheckBox("All tomograms together")
        self.every.setToolTip("The particles of every tomogram that are of the same kind as this layer's")
        self.subset.changed.connect(self.show_state)
        self.every.toggled.connect(self.show_state)
        holder = Panel()
        holder.add(labelled({"Particles": self.particles, "Which": self.subset}), self.every)
        return holder

    def layer_chosen(self, *_: object) -> None:
        """Offer the particles of the layer that is chosen now."""
        self.subset.set_layer(self.layer)
        self.show_state()

    def show_every(self) -> None:
        """Offer all tomograms where others have such particles too."""
        self.every.setVisible(len(self.alike()) > 1)

    @property
    def whole(self) -> bool:
        """Whether the particles of all tomograms are meant."""
        return self.every.isChecked() and self.every.isVisibleTo(self)

    def alike(self) -> list[ParticleSet]:
        """Particles of the chosen layer's role, one set for each tomogram, in the order of the tomograms."""
        found: dict[str, ParticleSet] = {}
        for item in [] if self.layer is None else self.session.tomograms.sets(layer_data.role(self.layer)):
            if item.layer is self.layer or item.tomogram not in found:
                found[item.tomogram] = item
        return [found[name] for name in self.session.tomograms.names() if name in found]

    def chosen(self) -> list[tuple[ParticleSet, Particles]]:
        """The particles meant, of each tomogram.

        Raises
        ------
        InputError
            If there are none, or only some have an orientation.
        """
        if self.layer is None or not self.whole:
            particles, owner = self.subset.particles(), self.session.tomograms.owner
            assert self.layer is not None
            return [(ParticleSet(owner(self.layer), self.layer), particles)]
        parts = [(item, self.subset.taken(item)) for item in self.alike()]
        return [(item, particles) for item, particles in parts if particles is not None]


class ExportCard(SubsetPage):
    """Previews and writes the chosen particles of a layer."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        tip = "The program that will read the file; its coordinates and angles are written"
        self.form = combo_box(tip, [form.title for form in FORMATS])
        kinds = ";;".join(f"{form.title} (*{form.suffixes[0]})" for form in FORMATS)
        self.file = FileRow(caption="Write to", kinds=kinds, hint="file to write", saving=True)
        self.note, self.preview_note, self.source_note, self.done = NoteLabel(), NoteLabel(), NoteLabel(), NoteLabel()
        self.table = _preview_table()
        self.button = primary_button("Export", "Write the file", self.export)
        self.add(self.choose_subset(), labelled({"Format": self.form}), self.note)
        self.add_heading("File")
        self.add(self.file, self.button, self.done)
        self.add_heading("Preview")
        self.add(self.table, self.preview_note, self.source_note)
        self.form.currentIndexChanged.connect(self._format_chosen)
        self.file.picked.connect(self._file_picked)

    @property
    def format(self) -> Dialect:
        """The chosen format."""
        return FORMATS[self.form.currentIndex()]

    # --- input --------------------------------------------------------------------------------------------------

    def layer_chosen(self, *_: object) -> None:
        """Preview the particles of the layer that is chosen now."""
        if self.file.path is None and self.layer is not None:
            self.file.line.setPlaceholderText(f"such as {self.layer.name.replace(' ', '_')}{self.format.suffixes[0]}")
        super().layer_chosen()

    def _format_chosen(self, *_: object) -> None:
        path = self.file.path
        if path is not None and path.suffix not in self.format.suffixes:
            self.file.show_path(path.with_suffix(self.format.suffixes[0]))
        self.show_state()

    def _file_picked(self, path: Path | None) -> None:
        if path is not None and path.suffix and path.suffix not in self.format.suffixes:
            fitting = [row for row, form in enumerate(FORMATS) if path.suffix.lower() in form.suffixes]
            self.form.setCurrentIndex(fitting[0] if fitting else self.form.currentIndex())
        self._show_button()

    def show_state(self, *_: object) -> None:
        """Show the first rows of the file, and its first line."""
        self.done.say("")
        self.table.setVisible(False)
        self.preview_note.say("")
        self.source_note.say("")
        self.show_every()
        if self.layer is None:
            self.note.say("No particles open yet: open or predict some.", WARNING)
        else:
            try:
                self._preview(self.layer, self._chosen_particles())
            except InputError as error:
                self.note.refuse(error)
        self._show_button()

    # --- particles ------------------------------------------------------------------------------------------------

    def _chosen_particles(self) -> Particles:
        """The particles to write, in one list."""
        return concatenate([particles for _, particles in self.chosen()])

    def _count_text(self, layer: Points, particles: Particles) -> str:
        """A line such as ``65 of 67 particles, with orientations; 2 rejected are left out``."""
        aside = int(rejected(layer).sum()) if self.subset.leaves_out and not self.whole else 0
        where = f" of {len(particles.tomogram_names)} tomograms" if self.whole else ""
        subset = "" if self.whole or len(particles) == len(layer.data) else f" of {len(layer.data)}"
        posed = "with orientations" if particles.rotations is not None else "positions only, no orientations"
        left = f"; {aside} rejected {'is' if aside == 1 else 'are'} left out" if aside else ""
        return f"{len(particles)}{subset} particles{where}, {posed}{left}"

    def _preview(self, layer: Points, particles: Particles) -> None:
        posed = particles.rotations is not None
        self.note.say(self._count_text(layer, particles), GOOD if posed else WARNING)
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

    @property
    def primary(self) -> QWidget:
        """The button that writes the file."""
        return self.button

    def _write(self, path: Path, particles: Particles) -> tuple[str, ...]:
        layer, extents = self.layer, self._extents(particles)
        if layer is not None and self.format.carries_tables and not self.whole:
            particles = with_state(particles, layer, self.subset.rows(), self.session, path=path)
        return write(path, particles, extents=extents, form=self.format, provenance=self._provenance())

    def _extents(self, particles: Particles) -> dict[str, Extent]:
        """The sizes of the particles' tomograms, as far as they are known."""
        if not self.whole:
            extent = None if self.layer is None else self.session.index.extent_of(self.layer)
            return {} if extent is None else dict.fromkeys(particles.tomogram_names, extent)
        volumes = {name: entry.tomogram for name, entry in self.session.tomograms.listed.items()}
        listed = {name: volume.extent for name, volume in volumes.items() if volume is not None}
        alike = [item.layer for item in self.alike() if item.layer is not None]
        found = {layer_data.own_tomogram(layer): self.session.index.extent_of(layer) for layer in alike}
        opened = {name: extent for name, extent in found.items() if extent is not None}
        return {**listed, **particles.extents, **opened, **self.session.index.extents()}

    def _provenance(self) -> str:
        return "" if self.layer is None else layer_data.own_provenance(self.layer)

    def _show_button(self, *_: object) -> None:
        self.button.setEnabled(self.table.isVisibleTo(self) and self.file.path is not None)
        self.button.setToolTip("Write the file" if self.file.path is not None else "Name the file to write first")
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
        self.attempt(lambda: self._export(path, self._chosen_particles()), note=self.done)
        self.reveal(self.done)

    def _export(self, path: Path, particles: Particles) -> None:
        self.session.check_outputs(path, *self.format.companions(path))
        notes = self._write(path, particles)
        said = f"Wrote {len(particles)} particles to {path.absolute()}"
        self.done.say("\n".join([said, *notes]), WARNING if notes else GOOD)


def first_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a written file, as text; of formats without columns, the words of the first lines."""
    file = ListFile(path)
    if not file.is_text:
        frame = read_particles(path).to_dataframe()
        return list(frame.columns), [[_shown(value) for value in row] for row in frame.to_numpy().tolist()]
    if path.suffix == ".star":
        blocks = file.star
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
    table.setFixedHeight(TABLE_HEIGHT)
    for header in (table.verticalHeader(), table.horizontalHeader()):
        if header is not None:
            header.setMinimumSectionSize(ROW_HEIGHT)
            header.setDefaultSectionSize(ROW_HEIGHT)
    table.setAccessibleName("Preview")
    table.setToolTip("First rows of the file to be written")
    table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    return table


@dataclass(frozen=True, eq=False)
class AveragingRequest:
    """Input of an averaging job: values copied from the layers, so later edits do not affect it."""

    pairs: Labelled
    symmetry: str
    options: AveragingOptions


class AverageCard(JobCard, SubsetPage):
    """Averages the chosen particles; shows the map beside the tomogram and its Fourier shell correlation."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        self.average_map: Average | None = None
        self._source: tuple[str, Tomogram] | None = None
        self.symmetry = QLineEdit("C1")
        self.symmetry.setToolTip(
            "Symmetry to impose, with its axes if they are not z and x: D7@z@x. auto: determine it from the average."
        )
        self.options = OptionsForm(AveragingOptions, label_width=LABEL_WIDTH)
        self.note, self.result, self.saved = NoteLabel(), NoteLabel(), NoteLabel()
        self.running = JobRow("Average", "Average the chosen particles at their poses")
        self.view, self.plot = MapView(), FSCPlot(height=PLOT_HEIGHT)
        self.halves = QCheckBox("Show half maps")
        self.halves.setToolTip("Add the two half maps as layers too")
        self.file = FileRow(caption="Save the map as", kinds="Maps (*.mrc)", hint="average.mrc", saving=True)
        tip = "Write the map (.mrc), its half maps beside it and the FSC as CSV"
        self.save = push_button("Save map, half maps and FSC", tip, self.save_map)
        self.add(self.choose_subset(), self.note)
        self.add_heading("Average")
        self.add(labelled({"Symmetry": self.symmetry}, width=LABEL_WIDTH), self.options, self.halves)
        self.add(self.running, self.view, self.plot, self.result)
        self.add_heading("File")
        self.add(self.file, self.save, self.saved)
        for widget in (self.view, self.plot):
            widget.setVisible(False)
        for signal in (self.file.picked, self.running.ended):
            signal.connect(self.show_state)
        self.running.asked.connect(self.run)

    def offered(self) -> list[Points]:
        """Layers of particles with poses, predicted ones first."""
        return [layer for layer in super().offered() if layer_data.has_pose(layer).any()]

    # --- input --------------------------------------------------------------------------------------------------

    def show_state(self, *_: object) -> None:
        """Show how many particles would be averaged, or what is missing."""
        self.show_every()
        self.save.setEnabled(self.average_map is not None and self.file.path is not None)
        self.running.allow(self._check_particles())

    def _check_particles(self) -> bool:
        image, layer = self.image, self.layer
        if image is None or layer is None:
            self.note.say("A tomogram and particles with orientations are needed: open them, then predict.", WARNING)
            return False
        try:
            chosen = self.chosen()
        except InputError as error:
            self.note.refuse(error)
            return False
        count, total = sum(len(part) for _, part in chosen), sum(len(item) for item, _ in chosen)
        text = f"{count} of {counted(total, 'particle')}{f' in {len(chosen)} tomograms' if len(chosen) > 1 else ''}"
        mixed = classes_notes(part for _, part in chosen)
        doubts = [self.session.index.mismatch(layer, image), *(note.replace(*_IN_THE_DOCK) for note in mixed)]
        doubts = [doubt for doubt in doubts if doubt]
        self.note.say("\n".join([text, *doubts]), WARNING if doubts or count < 2 else GOOD)
        return count > 1

    # --- averaging ----------------------------------------------------------------------------------------------

    def request(self) -> AveragingRequest:
        """The job's input, copied from the chosen layers.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        _symmetry_group(self.symmetry.text())
        found = [(self.session.tomograms.tomogram(item.tomogram), particles) for item, particles in self.chosen()]
        pairs = [(tomogram, particles) for tomogram, particles in found if tomogram is not None]
        if not pairs:
            raise InputError("averaging needs a tomogram and its particles. Open what is missing.")
        return AveragingRequest(pairs, self.symmetry.text(), self.options.options())

    def start(self, request: AveragingRequest) -> None:
        """Start averaging; the map becomes a layer even if the particles have been removed meanwhile."""
        self._source = ("particles" if self.layer is None else self.layer.name, request.pairs[0][0])
        self.result.say("")
        self.saved.say("")
        stream = average(request.pairs, group=_symmetry_group(request.symmetry), options=request.options)
        job = self.session.jobs.start(stream, title="Average")
        job.answered.connect(self._deliver)
        self.running.follow(job)

    def _deliver(self, found: Average) -> None:
        assert self._source is not None
        self.average_map = found
        name, tomogram = self._source
        maps = {f"{name} average": found.density}
        if self.halves.isChecked():
            maps |= {f"{name} half 1": found.first_half, f"{name} half 2": found.second_half}
        for place, (title, density) in enumerate(maps.items()):
            self.session.viewer.layers.append(map_layer(density, found.voxel_size, tomogram, name=title, place=place))
        radius = len(found.density) * found.voxel_size / 2
        self.view.show_map(found.density, found.voxel_size, radius=radius, colour=MAP_COLOUR)
        self.view.setVisible(True)
        self.plot.show_fsc(found.fsc)
        self.plot.setVisible(True)
        self.result.say(
            f"{found.count} particles, {found.group.name}: {found.fsc.resolution(0.5):.1f} Å at FSC 0.5, "
            f"{found.fsc.resolution(0.143):.1f} Å at 0.143. The map is also a layer, left of the tomogram.",
            MUTED,
        )
        self.reveal(self.result)

    def save_map(self) -> None:
        """Write map, half maps and FSC, the same files as the command line."""
        path = self.file.path
        if path is None or self.average_map is None:
            show_error("no map yet, or no file named. Average first, then choose a file.")
            return
        path = path if path.suffix else path.with_suffix(".mrc")
        found = self.average_map
        if self.attempt(lambda: self._write(found, average_paths(path)), note=self.saved):
            self.saved.say(f"Wrote {path}, its half maps and its FSC.", GOOD)

    def _write(self, found: Average, paths: tuple[Path, Path, Path, Path]) -> None:
        self.session.check_outputs(*paths)
        write_average(found, paths)


_IN_THE_DOCK = ("Choose a class (--class).", "Filter one class in Particles, and take those passing the filter.")
"""What to do where there are several classes, on the command line and in the dock."""


def _symmetry_group(text: str) -> Symmetry | None:
    return None if text.strip() == AUTO else symmetry(text.strip())


class FigureCard(DockPage):
    """A file's name, and the button that writes the figure to it."""

    def build(self) -> None:
        """Make the widgets, and connect them."""
        about = QLabel(
            "The view as it is now, the failure regions from above, and the errors of each model: 180 mm wide, 300 dpi."
        )
        about.setWordWrap(True)
        kinds = f"Figures ({' '.join(f'*{suffix}' for suffix in SUFFIXES)})"
        self.file = FileRow(caption="Save the figure as", kinds=kinds, hint="figure.png", saving=True)
        tip = "Write the figure: PNG, PDF, SVG or TIFF by the file's suffix"
        self.button = primary_button("Save figure", tip, self.save)
        self.done = NoteLabel()
        self.add_heading("Figure")
        self.add(about, self.file, self.button, self.done)

    @property
    def primary(self) -> QWidget:
        """The button that writes the file."""
        return self.button

    def save(self) -> None:
        """Write the figure, whole or not at all; beside the program's own folder where no file is named."""
        path = self.file.path or Path.cwd() / default_name(self.session.inspected)
        path = path if path.suffix else path.with_suffix(SUFFIXES[0])
        self.file.show_path(path)
        self.done.say("")
        if self.attempt(lambda: self._write(path), note=self.done):
            self.done.say(f"Wrote {path}", GOOD)

    def _write(self, path: Path) -> None:
        self.session.check_outputs(path)
        save_figure(self.session, path)
