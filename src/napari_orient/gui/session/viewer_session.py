"""State of one viewer beside its layers: model in use, drawing, histories, jobs; arrows follow their points."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.layers import Image, Layer, Points
from napari.utils.events import EmitterGroup
from napari.utils.notifications import show_info

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.outputs import check_outputs, overwritten
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.gui.jobs import JobQueue
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.arrow_drawing import ArrowDrawing
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.canvas import show_scale_bar, show_slab
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.layers.layer_index import LayerIndex
from napari_orient.gui.layers.particle_values import InspectionModel
from napari_orient.gui.preferences import Preferences
from napari_orient.gui.session.edits import History, announce
from napari_orient.gui.session.state_in_file import restore_state
from napari_orient.gui.session.tomogram_switch import ListedTomogram, TomogramSwitch

if TYPE_CHECKING:
    from napari_orient.engine.prediction.predict import PoseEstimator
    from napari_orient.gui.docks.viewer_dock import ViewerDock
    from napari_orient.gui.session.failure_view import FailureView
    from napari_orient.gui.session.inspected import InspectedParticles

ARROWS_KEY = "Shift-O"
"""Shows and hides all arrows."""

_SESSIONS: weakref.WeakKeyDictionary[ViewerModel, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """The viewer's session, begun when it is first asked for; two viewers never share one."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _SESSIONS:
        _SESSIONS[viewer] = Session(viewer)
    return _SESSIONS[viewer]


@dataclass(frozen=True)
class Settings:
    """What a file of particles can bring along: the model in use, thresholds, and the filters of the arrows."""

    model: str
    inspection: InspectionOptions
    view: ViewOptions


class Session:
    """The state of one viewer; it lives as long as the viewer and does not keep it alive. Docks only show it.

    Attributes
    ----------
    index : which layers are tomograms and particles, and which belong together.
    tomograms : the tomogram that is shown; the layers of the others are hidden.
    inspection : errors of the particles, and the options by which they are measured.
    drawing : arrows, surfaces, their colours and the legend.
    jobs : what runs, one job at a time.
    prepared : what predicts further picks of a tomogram at once, with its model's name, once Predict has been there.
    docks : the two docks, by the names of their classes, once they were opened; a closed one keeps its state.
    events : ``model`` is emitted when another model is in use, or its file was written anew; ``view`` when poses are
        drawn differently; ``inspection`` when errors are measured differently; ``preferences`` when a preference
        changed; ``tomogram`` when another tomogram is shown or layers come and go; ``page`` (``name``, ``card``) when
        a page of the Orient dock is to be shown; ``training_layers`` (``layers``) when layers are chosen to train on;
        ``replaced`` when a file has replaced settings; ``history`` when particles were edited; ``arranged`` when layers
        that were opened are in their order; ``property`` (``name``) when errors are to be plotted against a property;
        ``size_wanted`` (``path``, ``words``) when a file does not state the size of its voxels or pixels.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.preferences = Preferences.now()
        self.events = EmitterGroup(
            source=self,
            model=None,
            view=None,
            inspection=None,
            preferences=None,
            tomogram=None,
            page=None,
            training_layers=None,
            arranged=None,
            property=None,
            replaced=None,
            history=None,
            size_wanted=None,
        )
        self.index = LayerIndex(viewer)
        self.inspection = InspectionModel(self.index, self.events)
        self.drawing = ArrowDrawing(self.index, self.inspection, ViewOptions(display=self.preferences.display))
        self.tomograms = TomogramSwitch(self.index, self.events, self._show_listed)
        self.jobs = JobQueue()
        self.docks: dict[str, ViewerDock] = {}
        self.prepared: weakref.WeakKeyDictionary[Image, tuple[str, PoseEstimator]] = weakref.WeakKeyDictionary()
        self.replaced: Settings | None = None
        self.replaced_words = ""
        self._model = self.preferences.model
        self.inspection.use_symmetry_of(self._model)
        self._scratch: Path | None = None
        self._shown_before = ""
        self._histories: dict[Points, History] = {}
        self._edited: dict[Points, None] = {}
        viewer.bind_key(ARROWS_KEY, _toggle_arrows, overwrite=True)
        Preferences.listen(self._preferred)
        self.events.arranged.connect(self._arranged)
        self.events.tomogram.connect(self._tomogram_changed)
        for emitter in (viewer.dims.events.order, viewer.dims.events.ndisplay):
            emitter.connect(self._show_slab)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        viewer.layers.events.reordered.connect(self._reordered)
        for layer in viewer.layers:
            self._follow(layer)
            self.tomograms.inserted(layer)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer that this is the session of."""
        return self.index.viewer

    @property
    def model(self) -> str:
        """The model that Predict uses: the name of a shipped one, or a file; empty while none is chosen."""
        return self._model

    @model.setter
    def model(self, name: str) -> None:
        """Use this model from now on, and emit ``events.model``."""
        self._model = name
        self.inspection.use_symmetry_of(name)
        self.events.model()
        self.inspection.set_options(self.inspection.options)

    def settings(self) -> Settings:
        """The settings that are in force."""
        return Settings(self._model, self.inspection.options, self.drawing.view)

    def say_replaced(self, before: Settings) -> None:
        """Say that a file has replaced settings, if it has; `undo_replaced` takes them back."""
        now = self.settings()
        what = ["the model" if now.model != before.model else "", "thresholds" if now != before else ""]
        if now == before:
            return
        self.replaced = before
        brought = " and ".join(filter(None, what[: 1 if now.inspection == before.inspection else 2]))
        model = f" ({Path(now.model).name})" if what[0] else ""
        self.replaced_words = f"The file brought {brought or 'filters'} of its own{model}."
        show_info(f"{self.replaced_words} The Orient dock can undo this.")
        self.events.replaced()

    def undo_replaced(self) -> None:
        """Put the settings that a file has replaced in force again."""
        before, self.replaced = self.replaced, None
        if before is not None:
            self.model = before.model
            self.inspection.set_options(before.inspection)
            self.drawing.show_as(before.view)
        self.events.replaced()

    def check_outputs(self, *outputs: Path, read: Iterable[Path] = (), own: Path | None = None) -> None:
        """Check that files can be written, before the work that ends in them.

        Parameters
        ----------
        read : files that the work reads, beside those that are open in this viewer.
        own : a file that may be written over although it is open.

        Raises
        ------
        InputError
            If one cannot be written, two are one file, or one is open or read.
        """
        check_outputs(outputs)
        for path in [*self.index.files(), *self.tomograms.listed_files(), *read]:
            output = overwritten(outputs, path)
            if output is not None and path != own:
                raise InputError(f"{output} is open here, and would be written over. Name another file.")

    def scratch(self) -> Path:
        """A folder for files that nobody has named yet; it is gone when the viewer or the program is."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="napari-orient-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def show_page(self, name: str, *, card: str = "") -> None:
        """Show this page of the Orient dock, where the dock is open, and on it this card."""
        self.events.page(name=name, card=card)

    @cached_property
    def inspected(self) -> InspectedParticles:
        """The particles under inspection; nothing is measured before somebody asks for it."""
        from napari_orient.gui.session.inspected import InspectedParticles

        return InspectedParticles(self)

    @cached_property
    def failure_view(self) -> FailureView:
        """The failures in the viewer."""
        from napari_orient.gui.session.failure_view import FailureView

        return FailureView(self, self.inspected)

    # --- showing ------------------------------------------------------------------------------------------------

    def show_tomogram(self, tomogram: Tomogram) -> Image:
        """A new layer that shows the tomogram, beneath the others; the scale bar is switched on."""
        density, keywords, _ = layer_data.tomogram_parts(tomogram)
        layer = Image(density, **keywords)
        self.viewer.layers.insert(0, layer)
        show_scale_bar(self.viewer)
        self._show_slab()
        return layer

    def show_particles(
        self,
        particles: Particles,
        extent: Extent | None,
        *,
        role: str,
        name: str,
        provenance: str = "",
        path: Path | None = None,
        files: Iterable[Path] = (),
        immediately: bool = True,
    ) -> Points:
        """A new layer that holds the particles; their axes, where they have poses, are drawn at once or in a moment.

        ``path`` is of the list that is theirs, ``files`` are all that were read for them.
        """
        said: dict[str, Any] = {"provenance": provenance, "path": path, "files": files}
        data, keywords, _ = layer_data.particles_parts(particles, extent, role=role, name=name, **said)
        layer = Points(data, **keywords)
        self.viewer.layers.append(layer)
        if immediately:
            self.drawing.draw(layer)
        else:
            self.drawing.draw_later(layer)
        return layer

    def _show_listed(self, entry: ListedTomogram) -> None:
        """Make the layers of a tomogram that was only listed."""
        if entry.tomogram is not None and self.tomograms.image(entry.name) is None:
            self.show_tomogram(entry.tomogram)
        image = self.tomograms.image(self.tomograms.name)
        extent = None if image is None else layer_data.tomogram_of(image).extent
        for part in entry.parts:
            own = extent or part.particles.extents.get(entry.name)
            said: dict[str, Any] = {"provenance": part.provenance, "path": part.path, "files": part.files}
            self.show_particles(part.particles, own, role=part.role, name=part.name, **said)

    def replace_particles(self, points: Points, particles: Particles, *, provenance: str, words: str) -> None:
        """Replace the layer's particles as one step of its history, and draw their axes."""
        with self.history(points).changing(words), points.events.data.blocker(), points.events.features.blocker():
            layer_data.replace_particles(points, particles, provenance=provenance)
        announce(points, ())

    def history(self, points: Points) -> History:
        """The changes of a layer of particles, which can be undone."""
        if points not in self._histories:
            history = self._histories[points] = History(points)
            history.events.changed.connect(self._history_changed)
        return self._histories[points]

    @property
    def last_history(self) -> History | None:
        """The history that changed last, of a layer of the tomogram that is shown; None where nothing was edited."""
        here = (self.tomograms.name, "")
        return next((self._histories[item] for item in self._edited if self.tomograms.owner(item) in here), None)

    def _history_changed(self, event: Any) -> None:
        if event.source.layer in self._histories:
            self._edited = {event.source.layer: None, **self._edited}
        self.events.history()

    def _show_slab(self, event: Any = None) -> None:
        if self.index.viewer_or_none() is not None:
            show_slab(self.viewer, self.drawing.view.display.slab)

    def _tomogram_changed(self, event: Any = None) -> None:
        """Hide the rings of picks that are posed where another tomogram is shown."""
        if self.tomograms.name != self._shown_before and self.index.viewer_or_none() is not None:
            self._shown_before = self.tomograms.name
            self.drawing.hide_rings()

    def _arranged(self, event: Any = None) -> None:
        """Show slab and legend for layers that came from files, by whatever way."""
        self._show_slab()
        self.drawing.show_legend()

    def _preferred(self, event: Any = None) -> None:
        """Follow what napari's Preferences say now: only what has changed there changes here."""
        if self.index.viewer_or_none() is None:
            return  # Python's collector has not come to this session yet.
        before, self.preferences = self.preferences, Preferences.now()
        old, new = before.display.to_record(), self.preferences.display.to_record()
        changed = {name: value for name, value in new.items() if value != old[name]}
        if changed:
            self.drawing.show_as(self.drawing.view.replace(**changed))
        if self.preferences.model != before.model:
            self.model = self.preferences.model
        self.events.preferences()

    # --- arrows as their points are -------------------------------------------------------------------------------

    def _inserted(self, event: Any) -> None:
        copied = layer_data.make_own(event.value, self.viewer.layers)
        self._follow(event.value)
        if copied and isinstance(event.value, Points):
            self.drawing.draw_later(event.value)
        if isinstance(event.value, Points) and layer_data.role(event.value) in (PICKS, PREDICTED):
            self.drawing.hide_rings()
        self.tomograms.inserted(event.value)

    def take_for_truth(self, points: Points) -> None:
        """Take the poses of these particles for the true ones, and draw them as such."""
        layer_data.take_role(points, TRUTH)
        self.drawing.paint(points)
        self.drawing.draw(points)
        for layer in (points, *self.index.drawings_of(points)):
            layer.visible = True
        self.events.tomogram()
        self.inspection.set_options(self.inspection.options)

    def adopt(self, points: Points, tomogram: Image) -> None:
        """Take points drawn by hand as picks of this tomogram, and follow them as such."""
        if layer_data.role(points) not in (PICKS, PREDICTED, TRUTH):
            layer_data.adopt(points, layer_data.tomogram_of(tomogram))
            self._follow(points)

    def _follow(self, layer: Layer) -> None:
        if isinstance(layer, Points) and layer_data.role(layer) in (PICKS, PREDICTED, TRUTH):
            # Its history hears first: arrows are drawn from what an edit has become.
            self.history(layer)
            restore_state(layer, self)
            self.drawing.paint(layer)
            layer.events.data.connect(self._changed, position="last")
            layer.events.features.connect(self._features_changed)
        if isinstance(layer, Image | Points):
            for name in layer_data.GEOMETRY_EVENTS:
                getattr(layer.events, name).connect(self._moved)

    def _changed(self, event: Any) -> None:
        done = str(getattr(event, "action", "")).rsplit(".", maxsplit=1)[-1].lower() in ("added", "removed", "changed")
        if done and event.source in self.viewer.layers:
            self.drawing.redraw(event.source)

    def _moved(self, event: Any) -> None:
        """Follow a change of a layer's place in the world: the arrows of its points, the voxel size of its volume."""
        layer = event.source
        if layer not in self.viewer.layers:
            return
        if layer_data.holds_particles(layer) and layer_data.role(layer) in (PICKS, PREDICTED, TRUTH):
            self.drawing.draw_later(layer)
        self.events.tomogram()

    def _features_changed(self, event: Any) -> None:
        """Draw the arrows anew, in a moment: a value that they show may have changed, or a pose by hand."""
        points = event.source
        if layer_data.role(points) == PREDICTED:
            layer_data.show_badges(points)
        if points in self.viewer.layers:
            self.drawing.recolour(points)

    def _reordered(self, event: Any) -> None:
        self.events.tomogram()

    def _removed(self, event: Any) -> None:
        if isinstance(event.value, Points):
            event.value.events.data.disconnect(self._changed)
            event.value.events.features.disconnect(self._features_changed)
            for name in layer_data.GEOMETRY_EVENTS:
                getattr(event.value.events, name).disconnect(self._moved)
            self._histories.pop(event.value, None)
            self._edited.pop(event.value, None)
            if layer_data.role(event.value) == PREDICTED:
                self.drawing.hide_rings()
            self.drawing.remove(event.value)
            self.events.history()
        if layer_data.role(event.value):
            self.drawing.show_legend()
        self.tomograms.removed(event.value)


def _toggle_arrows(viewer: ViewerModel) -> None:
    session_of(viewer).drawing.toggle_arrows()
