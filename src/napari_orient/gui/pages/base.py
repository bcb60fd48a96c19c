"""What pages and cards have in common: the viewer's session, and the cycle from a request to a job to its delivery."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import napari.viewer
from napari.layers import Image, Layer, Points
from qtpy.QtWidgets import QWidget

from napari_orient.engine.devices import device_words
from napari_orient.engine.errors import InputError
from napari_orient.gui.event_loop import listen
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.session.viewer_session import session_of
from napari_orient.gui.widgets.basic import NoteLabel, Panel
from napari_orient.gui.widgets.forms import OptionsForm
from napari_orient.gui.widgets.inputs import JobRow, LayerChoice


class DockPage(Panel):
    """A page or card of one viewer: `build` makes its widgets, and `show_state` shows what there is."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.build()
        self.close_column()
        self.opened()

    @abstractmethod
    def build(self) -> None:
        """Make the widgets, and connect them."""

    def opened(self) -> None:
        """Fill the widgets once they are made."""
        self.show_state()

    def show_state(self, *_: object) -> None:
        """Show what there is now, and which buttons can be pressed."""


class ParticlesPage(DockPage):
    """A page about the particles of one layer, which ``particles`` chooses among those of `offered`."""

    particles: LayerChoice
    _tomogram = ""

    def choose_particles(self, *, empty: str = "none open", own_points: bool = False) -> LayerChoice:
        """The choice of the layer; `layer_chosen` is called when another is chosen.

        Of the tomogram that is shown, particles opened from files are chosen by themselves when they come.
        ``own_points`` : whether points that a person adds are so too.
        """

        def wanted(layer: Layer) -> bool:
            switch = self.session.tomograms
            return bool(own_points or layer_data.role(layer)) and switch.owner(layer) in (switch.name, "")

        choice = LayerChoice(self.session.viewer, self.offered, empty=empty, chosen_when_new=wanted)
        choice.chosen.connect(self.layer_chosen)
        listen(self, self.session.events.tomogram, self.tomogram_changed)
        return choice

    def tomogram_changed(self, event: object = None) -> None:
        """Offer what there is now; where another tomogram is shown, choose particles of that."""
        if self.offered() != self.particles.layers:
            self.particles.refresh()
        switch = self.session.tomograms
        if switch.name == self._tomogram:
            return
        self._tomogram, own = switch.name, switch.particles()
        if own and self.layer not in own:
            self.particles.choose(next((layer for layer in self.particles.layers if layer in own), own[0]))

    def offered(self) -> list[Points]:
        """The layers to choose among: of particles, predicted ones first."""
        return sorted(self.session.index.particles(), key=lambda layer: layer_data.role(layer) != PREDICTED)

    def opened(self) -> None:
        """Show the particles of the layer that is chosen at first: of the tomogram that is shown."""
        self.tomogram_changed()
        self.layer_chosen()

    def layer_chosen(self, *_: object) -> None:
        """Show the particles of the layer that is chosen now."""
        self.show_state()

    @property
    def layer(self) -> Points | None:
        """The layer chosen, or None."""
        layer = self.particles.layer
        return layer if isinstance(layer, Points) else None

    @property
    def image(self) -> Image | None:
        """The tomogram that the chosen particles lie in, or None where it is not open."""
        return None if self.layer is None else self.session.index.tomogram_of(self.layer)

    def classes(self) -> list[str]:
        """The classes of the chosen layer's particles, the most frequent first."""
        return [] if self.layer is None else layer_data.classes(self.layer)


class JobCard(DockPage):
    """A card whose button, in ``running``, starts a job: a `request` is copied from layers and fields, `start` runs it.

    The request holds values, so that what is edited, removed or closed meanwhile does not change the job.
    """

    running: JobRow

    @property
    def primary(self) -> QWidget:
        """The button that starts the job, and the one that leads on from its result."""
        return self.running.buttons

    def run(self) -> None:
        """Start a job as the fields are now, unless one runs; show an error in one line."""
        if self.running.job is None:
            self.attempt(lambda: self.start(self.request()))

    @abstractmethod
    def request(self) -> Any:
        """The job's input, copied from layers and fields.

        Raises
        ------
        InputError
            If an input is missing or inconsistent.
        """

    @abstractmethod
    def start(self, request: Any) -> None:
        """Start the job of this request."""


def show_device(note: NoteLabel, form: OptionsForm[Any]) -> None:
    """Say which device a form's options choose, or what is wrong with them."""
    try:
        note.say(f"Runs on {device_words(form.options().compute.chosen())}")
    except InputError as error:
        note.refuse(error)
