"""State of one viewer beside its layers: model in use, drawing, histories; arrows follow their points."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Layer, Points

from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.gui import axes, layers
from napari_orient.gui.arrow_drawing import ArrowDrawing
from napari_orient.gui.axes import ViewOptions
from napari_orient.gui.canvas import show_scale_bar, show_slab
from napari_orient.gui.colours import AXIS, ROLE
from napari_orient.gui.history import History, announce
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.preferences import Preferences
from napari_orient.gui.state_in_file import restore_state

ARROWS_KEY = "Shift-O"
"""Shows and hides all arrows."""

_SESSIONS: weakref.WeakKeyDictionary[ViewerModel, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """The viewer's session, begun when it is first asked for; two viewers never share one."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _SESSIONS:
        _SESSIONS[viewer] = Session(viewer)
    return _SESSIONS[viewer]


class Session(ArrowDrawing):
    """The state of one viewer; it lives as long as the viewer and does not keep it alive.

    ``events.model`` is emitted when another network is in use, or its file was written anew;
    ``events.view`` when poses are drawn differently, ``events.inspection`` when errors are measured differently;
    ``events.preferences`` when a preference changed, and ``events.training_layers`` when the layers it names
    (``layers``) are chosen to train on.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.preferences = Preferences.now()
        super().__init__(viewer, ViewOptions(display=self.preferences.display))
        self._model = self.preferences.model
        self.use_symmetry_of(self._model)
        self._scratch: Path | None = None
        self._histories: dict[Points, History] = {}
        viewer.bind_key(ARROWS_KEY, _toggle_arrows, overwrite=True)
        Preferences.listen(self._preferred)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        for layer in viewer.layers:
            self._follow(layer)

    @property
    def model(self) -> str:
        """The network that Predict uses: the name of a shipped one, or a file; empty while none is chosen."""
        return self._model

    @model.setter
    def model(self, name: str) -> None:
        """Use this network from now on, and emit ``events.model``."""
        self._model = name
        self.use_symmetry_of(name)
        self.events.model()
        self.set_inspection(self.inspection)

    def scratch(self) -> Path:
        """A folder for files that nobody has named yet; it is gone when the viewer or the program is."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="napari-orient-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    # --- showing ------------------------------------------------------------------------------------------------

    def show_tomogram(self, tomogram: Tomogram) -> Image:
        """A new layer that shows the tomogram, beneath the others; the scale bar is switched on."""
        density, keywords, _ = layers.tomogram_parts(tomogram)
        layer = Image(density, **keywords)
        self.viewer.layers.insert(0, layer)
        show_scale_bar(self.viewer)
        show_slab(self.viewer, self.view.display.slab)
        return layer

    def show_particles(
        self,
        particles: Particles,
        extent: Extent | None,
        *,
        role: str,
        name: str,
        provenance: str = "",
        immediately: bool = True,
    ) -> Points:
        """A new layer that holds the particles; their axes, where they have poses, are drawn at once or in a moment."""
        data, keywords, _ = layers.particles_parts(particles, extent, role=role, name=name, provenance=provenance)
        layer = Points(data, **keywords)
        self.viewer.layers.append(layer)
        if immediately:
            self.draw(layer)
        else:
            self.draw_later(layer)
        return layer

    def replace_particles(self, points: Points, particles: Particles, *, provenance: str, words: str) -> None:
        """Replace the layer's particles as one step of its history, and draw their axes."""
        with self.history(points).changing(words), points.events.data.blocker(), points.events.features.blocker():
            layers.replace_particles(points, particles, provenance=provenance)
        announce(points, ())

    def history(self, points: Points) -> History:
        """The changes of a layer of particles, which can be undone."""
        if points not in self._histories:
            self._histories[points] = History(points)
        return self._histories[points]

    def _preferred(self, event: Any = None) -> None:
        """Follow what napari's Preferences say now: only what has changed there changes here."""
        if self._viewer() is None:
            return  # Python's collector has not come to this session yet.
        before, self.preferences = self.preferences, Preferences.now()
        old, new = before.display.to_record(), self.preferences.display.to_record()
        changed = {name: value for name, value in new.items() if value != old[name]}
        if changed:
            self.show_as(self.view.replace(**changed))
        if self.preferences.model != before.model:
            self.model = self.preferences.model
        self.events.preferences()

    # --- keeping arrows as their points are -----------------------------------------------------------------------

    def _inserted(self, event: Any) -> None:
        self._follow(event.value)

    def adopt(self, points: Points, tomogram: Image) -> None:
        """Take points drawn by hand as picks of this tomogram, and follow them as such."""
        if layers.role(points) not in (PICKS, PREDICTED, TRUTH):
            layers.adopt(points, layers.tomogram_of(tomogram))
            self._follow(points)

    def _follow(self, layer: Layer) -> None:
        if isinstance(layer, Points) and layers.role(layer) in (PICKS, PREDICTED, TRUTH):
            # Its history hears first: arrows are drawn from what an edit has become.
            self.history(layer)
            restore_state(layer, self)
            self._paint(layer)
            layer.events.data.connect(self._changed, position="last")
            layer.events.features.connect(self._features_changed)

    def _changed(self, event: Any) -> None:
        done = str(getattr(event, "action", "")).rsplit(".", maxsplit=1)[-1].lower() in ("added", "removed", "changed")
        if done and event.source in self._ahead:
            self._ahead.discard(event.source)
        elif done and event.source in self.viewer.layers:
            self.draw(event.source)

    def _features_changed(self, event: Any) -> None:
        """Colour the arrows anew where a value that they show may have changed."""
        points = event.source
        if self.view.display.colour in (ROLE, AXIS) or points in self._unfinished or points not in self.viewer.layers:
            return
        if self._has_axes(points):
            self.draw(points)

    def _removed(self, event: Any) -> None:
        if isinstance(event.value, Points):
            event.value.events.data.disconnect(self._changed)
            event.value.events.features.disconnect(self._features_changed)
            self._histories.pop(event.value, None)
            self.hide_surface(event.value)
            arrows = axes.axes_layer(self.viewer, event.value)
            if arrows is not None:
                self.viewer.layers.remove(arrows)
            self._say_legend()


def _toggle_arrows(viewer: ViewerModel) -> None:
    session_of(viewer).toggle_arrows()
