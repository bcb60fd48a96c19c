"""The card Average: the subtomogram average of posed particles, its half maps and their FSC."""

from __future__ import annotations

from dataclasses import dataclass

import napari.viewer
from napari.layers import Image, Points
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QCheckBox, QLineEdit, QPushButton

from napari_orient.engine.averaging import Average, average, average_paths, write_average
from napari_orient.engine.errors import InputError
from napari_orient.engine.parameters import AveragingOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.symmetry import AUTO, Symmetry, symmetry
from napari_orient.gui import layers
from napari_orient.gui.forms import OptionsForm
from napari_orient.gui.layers import PREDICTED
from napari_orient.gui.maps import FSCPlot, MapView, map_layer
from napari_orient.gui.session import session_of
from napari_orient.gui.subsets import SubsetChoice
from napari_orient.gui.widgets import (
    BAD,
    GOOD,
    MUTED,
    WARNING,
    FileRow,
    JobRow,
    LayerChoice,
    NoteLabel,
    Panel,
    labelled,
)

LABELS = 112
"""Width in pixels of the column of labels; fits the longest label at the default font."""

MAP_COLOUR = (0.83, 0.88, 0.96)
"""Colour of the map's surface, RGB 0 to 1."""

PLOT_HEIGHT = 170
"""Height in pixels of the FSC plot."""


@dataclass(frozen=True, eq=False)
class AveragingRequest:
    """Input of an averaging job: values copied from the layers, so later edits do not affect it."""

    tomogram: Tomogram
    particles: Particles
    symmetry: str
    options: AveragingOptions


class AverageCard(Panel):
    """Averages the chosen particles; shows the map beside the tomogram and its Fourier shell correlation."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.average_map: Average | None = None
        self._source: tuple[str, Tomogram] | None = None
        self._make()
        self._lay_out()
        self._layer_chosen()

    # --- widgets ------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        viewer = self.session.viewer
        self.particles = LayerChoice(viewer, self._offered, empty="none open")
        self.subset = SubsetChoice()
        self.symmetry = QLineEdit("C1")
        self.symmetry.setToolTip(
            "Symmetry to impose, with its axes if they are not z and x: D7@z@x. auto: determine it from the average."
        )
        self.options = OptionsForm(AveragingOptions, label_width=LABELS)
        self.note, self.result, self.saved = NoteLabel(), NoteLabel(), NoteLabel()
        self.running = JobRow("Average", "Average the chosen particles at their poses", with_notes=True)
        self.view = MapView()
        self.view.setVisible(False)
        self.plot = FSCPlot(height=PLOT_HEIGHT)
        self.plot.setVisible(False)
        self.halves = QCheckBox("Show half maps")
        self.halves.setToolTip("Add the two half maps as layers too")
        self.file = FileRow(caption="Save the map as", kinds="Maps (*.mrc)", hint="average.mrc", saving=True)
        self.save = QPushButton("Save map, half maps and FSC")
        self.save.setToolTip("Write the map (.mrc), its half maps beside it and the FSC as CSV")

    def _lay_out(self) -> None:
        self.add_heading("Particles")
        fields = {"Particles": self.particles, "Which": self.subset}
        self.add(labelled(fields, width=LABELS), self.note)
        self.add_heading("Average")
        self.add(labelled({"Symmetry": self.symmetry}, width=LABELS), self.options, self.halves)
        self.add(self.running, self.view, self.plot, self.result)
        self.add_heading("File")
        self.add(self.file, self.save, self.saved)
        self.close_column()
        self.particles.chosen.connect(self._layer_chosen)
        self.subset.changed.connect(self._show_everything)
        self.file.picked.connect(self._show_everything)
        self.running.asked.connect(self.average)
        self.running.ended.connect(self._show_everything)
        self.save.clicked.connect(self.save_map)

    def _offered(self) -> list[Points]:
        """Layers of particles with poses, predicted ones first."""
        found = [layer for layer in self.session.index.particles() if layers.has_pose(layer).any()]
        return sorted(found, key=lambda layer: layers.role(layer) != PREDICTED)

    # --- input --------------------------------------------------------------------------------------------------

    def _layer_chosen(self, *_: object) -> None:
        layer = self.particles.layer
        self.subset.set_layer(layer if isinstance(layer, Points) else None)
        self._show_everything()

    def _show_everything(self, *_: object) -> None:
        self.save.setEnabled(self.average_map is not None and self.file.path is not None)
        self.running.allow(self._check_particles())

    def _image(self) -> Image | None:
        """The tomogram that the chosen particles lie in."""
        points = self.particles.layer
        return self.session.index.tomogram_of(points) if isinstance(points, Points) else None

    def _check_particles(self) -> bool:
        image = self._image()
        if image is None or self.particles.layer is None:
            self.note.say("A tomogram and particles with orientations are needed: open them, then predict.", WARNING)
            return False
        try:
            count = len(self.subset.particles())
        except InputError as error:
            self.note.say(str(error), BAD)
            return False
        text = f"{count} of {len(self.particles.layer.data)} particles"
        other = self.session.index.mismatch(self.particles.layer, image)
        self.note.say(f"{text}\n{other}" if other else text, WARNING if other or count < 2 else GOOD)
        return count > 1

    # --- averaging ----------------------------------------------------------------------------------------------

    def average(self) -> None:
        """Average the chosen particles; show an error in one line."""
        self.attempt(lambda: self.start(self.request()))

    def request(self) -> AveragingRequest:
        """The job's input, copied from the chosen layers.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """
        image = self._image()
        if image is None:
            raise InputError("averaging needs a tomogram and its particles. Open what is missing.")
        _symmetry_group(self.symmetry.text())
        return AveragingRequest(
            layers.tomogram_of(image), self.subset.particles(), self.symmetry.text(), self.options.options()
        )

    def start(self, request: AveragingRequest) -> None:
        """Start averaging; the map becomes a layer even if the particles have been removed meanwhile."""
        if self.running.job is not None or self.particles.layer is None:
            return
        self._source = (self.particles.layer.name, request.tomogram)
        self.result.say("")
        self.saved.say("")
        pairs = [(request.tomogram, request.particles)]
        stream = average(pairs, group=_symmetry_group(request.symmetry), options=request.options)
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

    def save_map(self) -> None:
        """Write map, half maps and FSC, the same files as the command line."""
        path = self.file.path
        if path is None or self.average_map is None:
            show_error("no map yet, or no file named. Average first, then choose a file.")
            return
        path = path if path.suffix else path.with_suffix(".mrc")
        found = self.average_map
        if self.attempt(lambda: write_average(found, average_paths(path))):
            self.saved.say(f"Wrote {path}, its half maps and its FSC.", GOOD)


def _symmetry_group(text: str) -> Symmetry | None:
    return None if text.strip() == AUTO else symmetry(text.strip())
