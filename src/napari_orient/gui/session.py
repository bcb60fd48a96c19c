"""What no layer can hold, for each viewer: the network in use, how poses are drawn; and arrows follow their points."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points, Surface, Vectors
from napari.utils.events import EmitterGroup

from napari_orient.engine.inspection import InspectionOptions
from napari_orient.engine.networks import load_checkpoint
from napari_orient.engine.particles import Extent, FloatArray, Particles, Tomogram
from napari_orient.engine.simulation import bead_models, load_template
from napari_orient.engine.tasks import InputError
from napari_orient.gui import axes, layers
from napari_orient.gui.axes import ViewOptions
from napari_orient.gui.canvas import show_scale_bar, show_slab, show_words
from napari_orient.gui.colours import AXIS, ROLE, Legend, Scale, legend_of, legend_words, particle_colours, scale_of
from napari_orient.gui.history import History, announce
from napari_orient.gui.keeping import take_state
from napari_orient.gui.known import Known, fingerprint, known_of, posed_of
from napari_orient.gui.layers import PICKS, PREDICTED, TRUTH
from napari_orient.gui.preferences import Preferences
from napari_orient.gui.shown import Shown
from napari_orient.gui.surfaces import MOST_PARTICLES, Shape, draw_surface, surface_layer

ARROWS_KEY = "Shift-O"
"""Shows and hides all arrows."""

_SESSIONS: weakref.WeakKeyDictionary[ViewerModel, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """The viewer's session, begun when it is first asked for; two viewers never share one."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _SESSIONS:
        _SESSIONS[viewer] = Session(viewer)
    return _SESSIONS[viewer]


class Session(Shown):
    """The state of one viewer; it lives as long as the viewer and does not keep it alive.

    ``events.checkpoint`` tells that another network is in use, or that the file of the one in use was written anew;
    ``events.view`` that poses are drawn otherwise, and ``events.inspection`` that they are judged otherwise;
    ``events.preferences`` that the person prefers something else now, and ``events.lessons`` that the layers it names
    (``layers``) are what a network is to learn from.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self.preferences = Preferences.now()
        self.view = _preferred_view(self.preferences)
        self.inspection = InspectionOptions()
        self.events = EmitterGroup(
            source=self, checkpoint=None, view=None, inspection=None, preferences=None, lessons=None
        )
        self._known: weakref.WeakKeyDictionary[Points, tuple[object, Known]] = weakref.WeakKeyDictionary()
        self._scale = Scale()
        self._words = ""
        self._checkpoint, self.network_symmetry = self.preferences.checkpoint, "C1"
        self._scratch: Path | None = None
        self.network_classes: frozenset[str] = frozenset()
        self._histories: dict[Points, History] = {}
        self._shapes: dict[Points, tuple[Shape, float]] = {}
        viewer.bind_key(ARROWS_KEY, _toggle_arrows, overwrite=True)
        viewer.dims.events.ndisplay.connect(self._turned)
        Preferences.listen(self._preferred)
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.events.removed.connect(self._removed)
        for layer in viewer.layers:
            self._follow(layer)

    @property
    def checkpoint(self) -> str:
        """The network that Predict uses: the name of a shipped one, or a file; empty while none is chosen."""
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, name: str) -> None:
        """Nothing; this network is now in use, and who listens hears of it."""
        self._checkpoint = name
        self.network_symmetry, self.network_classes = _taught(name)
        self.events.checkpoint()
        self.judge_by(self.inspection)

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
        show_slab(self.viewer, self.view.slab)
        return layer

    def show_particles(
        self, particles: Particles, extent: Extent | None, *, role: str, name: str, provenance: str = ""
    ) -> Points:
        """A new layer that holds the particles, with their axes drawn where they have poses."""
        data, keywords, _ = layers.particles_parts(particles, extent, role=role, name=name, provenance=provenance)
        layer = Points(data, **keywords)
        self.viewer.layers.append(layer)
        self.draw(layer)
        return layer

    def replace_particles(self, points: Points, particles: Particles, *, provenance: str, words: str) -> None:
        """Nothing; the layer holds these particles instead, one step of its history, and their axes are drawn."""
        with self.history(points).changing(words), points.events.data.blocker(), points.events.features.blocker():
            layers.replace_particles(points, particles, provenance=provenance)
        announce(points, ())

    def history(self, points: Points) -> History:
        """The changes of a layer of particles, which can be undone."""
        if points not in self._histories:
            self._histories[points] = History(points)
        return self._histories[points]

    def draw(self, points: Points) -> Vectors | None:
        """The points' arrows, and their surfaces where they are shown, drawn as the session's options say."""
        arrows = self._draw_axes(points)
        self._draw_surface(points)
        self._say_legend()
        return arrows

    def _draw_axes(self, points: Points) -> Vectors | None:
        if self.view.colour in (ROLE, AXIS):
            return axes.draw_axes(self.viewer, points, self.view)
        before, self._scale = self._scale, self.scale()
        if self._scale != before:
            self._draw_all(other_than=points)
            self.events.view()
        return axes.draw_axes(self.viewer, points, self.view, colours=self.colours_of(points))

    def show_as(self, options: ViewOptions) -> None:
        """Nothing; all arrows are now drawn so, and the slab in 2D is so thick."""
        self.view = options
        show_slab(self.viewer, options.slab)
        for layer in self.particles(PREDICTED, TRUTH):
            self._paint(layer)
        self._scale = self.scale()
        self._draw_all()
        self._say_legend()
        self.events.view()

    def _paint(self, points: Points) -> None:
        """Give the points the colour of their role, where they had the colour of that role before."""
        role = layers.role(points)
        if role in (PREDICTED, TRUTH):
            layers.paint(points, self.view.ink(role))

    def _draw_all(self, other_than: Points | None = None) -> None:
        for layer in list(self.viewer.layers):
            if layer is not other_than and self._has_axes(layer):
                axes.draw_axes(self.viewer, layer, self.view, colours=self.colours_of(layer))
            if layer is not other_than and layer in self._shapes:
                self._draw_surface(layer)

    def toggle_arrows(self) -> None:
        """Nothing; no arrows are shown, or, where none were, all."""
        drawn = [layer for layer in self.viewer.layers if layers.role(layer) == layers.AXES]
        wanted = not any(layer.visible for layer in drawn)
        for layer in drawn:
            layer.visible = wanted

    def show_surface(self, points: Points, shape: Shape, *, level: float) -> Surface | None:
        """The reference's surface at every pose of the layer, from now on as they are, coloured as the arrows.

        ``level`` is a share of the map's maximum. At most `MOST_PARTICLES` are shown; None where there are no poses.
        """
        self._shapes[points] = shape, level
        return self._draw_surface(points)

    def hide_surface(self, points: Points) -> None:
        """Nothing; the layer's surfaces are gone."""
        self._shapes.pop(points, None)
        layer = surface_layer(self.viewer, points)
        if layer is not None:
            self.viewer.layers.remove(layer)

    def _draw_surface(self, points: Points) -> Surface | None:
        if points not in self._shapes:
            return None
        shape, level = self._shapes[points]
        particles = posed_of(points)[0]
        if particles.rotations is None:
            self.hide_surface(points)
            return None
        colours = self.colours_of(points)
        if colours is None:
            colours = np.tile(self.view.ink(layers.role(points)), (len(particles), 1))
        rows = np.flatnonzero(axes.shown(particles, self.view))[:MOST_PARTICLES]
        return draw_surface(self.viewer, points, particles.take(rows), shape.mesh(level), colours[rows])

    def _turned(self, event: Any) -> None:
        """Show surfaces in 3D alone: a slice of a mesh shows nothing."""
        for points in self._shapes:
            layer = surface_layer(self.viewer, points)
            if layer is not None:
                layer.visible = self.viewer.dims.ndisplay == 3

    def _preferred(self, event: Any = None) -> None:
        """Follow what napari's Preferences say now: only what has changed there changes here."""
        before, self.preferences = self.preferences, Preferences.now()
        changed = {
            name: value
            for name, value in self.preferences.to_record().items()
            if value != getattr(before, name) and hasattr(self.view, name)
        }
        if changed:
            self.show_as(ViewOptions.from_record({**self.view.to_record(), **changed}))
        if self.preferences.checkpoint != before.checkpoint:
            self.checkpoint = self.preferences.checkpoint
        self.events.preferences()

    # --- judging ------------------------------------------------------------------------------------------------

    def judge_by(self, options: InspectionOptions) -> None:
        """Nothing; true errors and clusters are now told so, and arrows that show them are coloured anew."""
        self.inspection = options
        if self.view.colour in ("true error", "cluster"):
            self.show_as(self.view)
        self.events.inspection()

    def known_of(self, points: Points) -> Known:
        """Everything known of the particles in a layer; worked out once, until something of it changes.

        Raises
        ------
        InputError
            If the symmetry is none.
        """
        truth = self.truth_of(str(layers.about(points).get("tomogram", "")))
        options, groups = self.inspection, self._groups(points)
        how = (options.symmetry, tuple(groups.items()), options.cluster_distance, options.tolerance)
        key = (how, fingerprint(points), None if truth is None else fingerprint(truth))
        kept = self._known.get(points)
        if kept is None or kept[0] != key:
            kept = key, known_of(points, options, truth=truth, groups=groups)
            self._known[points] = kept
        return kept[1]

    def _groups(self, points: Points) -> dict[str, str]:
        """Symmetries by class: the network's, but of bead models that it never learnt their own."""
        others = [kind for kind in layers.classes(points) if kind not in self.network_classes]
        known = {kind: bead_symmetry(kind.removeprefix("pdb_")) for kind in others}
        return {"": self.network_symmetry} | {kind: name for kind, name in known.items() if name}

    def colours_of(self, points: Points) -> FloatArray | None:
        """A colour for each particle with a pose, (N, 3), as the arrows have it; None where arrows go by the axis."""
        if self.view.colour == AXIS:
            return None
        known, view = self.known_of(points), self.view
        ink = view.ink(layers.role(points))
        return particle_colours(
            known.columns, view.colour, ink=ink, colormap=view.colormap, scale=self._scale, count=len(known)
        )

    def scale(self) -> Scale:
        """From which value to which colours run, over all layers of particles on view."""
        columns = [self.known_of(layer).columns for layer in self._drawn()]
        return scale_of(columns, self.view.colour, low=self.view.low, high=self.view.high)

    def legend(self) -> Legend:
        """What the arrows' colours mean."""
        drawn = self._drawn()
        columns = [] if self.view.colour in (ROLE, AXIS) else [self.known_of(layer).columns for layer in drawn]
        roles = {role: self.view.ink(role) for role in map(layers.role, drawn)}
        return legend_of(self.view.colour, roles=roles, columns=columns, colormap=self.view.colormap, scale=self._scale)

    def _say_legend(self) -> None:
        """Say on the canvas what the arrows' colours mean, if that is wanted and there are any."""
        wanted = self.view.legend and any(map(self._has_axes, self.viewer.layers))
        words = legend_words(self.legend()) if wanted else ""
        show_words(self.viewer, words, instead_of=self._words)
        self._words = words

    def _drawn(self) -> list[Points]:
        posed = set(layers.ROTATION_COLUMNS)
        return [layer for layer in self.particles(PREDICTED, TRUTH, PICKS) if posed <= set(layer.features.columns)]

    # --- keeping arrows as their points are -----------------------------------------------------------------------

    def _inserted(self, event: Any) -> None:
        self._follow(event.value)

    def adopt(self, points: Points, tomogram: Image) -> None:
        """Nothing; points that were drawn by hand are now picks of this tomogram, and followed as such."""
        if layers.role(points) not in (PICKS, PREDICTED, TRUTH):
            layers.adopt(points, layers.tomogram_of(tomogram))
            self._follow(points)

    def _follow(self, layer: Layer) -> None:
        if isinstance(layer, Points) and layers.role(layer) in (PICKS, PREDICTED, TRUTH):
            # Its history hears first: arrows are drawn from what an edit has become.
            self.history(layer)
            take_state(layer, self)
            self._paint(layer)
            layer.events.data.connect(self._changed, position="last")
            layer.events.features.connect(self._told)

    def _changed(self, event: Any) -> None:
        done = str(getattr(event, "action", "")).rsplit(".", maxsplit=1)[-1].lower() in ("added", "removed", "changed")
        if done and event.source in self.viewer.layers:
            self.draw(event.source)

    def _told(self, event: Any) -> None:
        """Colour the arrows anew where a value that they show may have changed."""
        if self.view.colour not in (ROLE, AXIS) and event.source in self.viewer.layers and self._has_axes(event.source):
            self.draw(event.source)

    def _has_axes(self, layer: Layer) -> bool:
        return isinstance(layer, Points) and axes.axes_layer(self.viewer, layer) is not None

    def _removed(self, event: Any) -> None:
        if isinstance(event.value, Points):
            event.value.events.data.disconnect(self._changed)
            event.value.events.features.disconnect(self._told)
            self._histories.pop(event.value, None)
            self.hide_surface(event.value)
            arrows = axes.axes_layer(self.viewer, event.value)
            if arrows is not None:
                self.viewer.layers.remove(arrows)
            self._say_legend()


def _preferred_view(wanted: Preferences) -> ViewOptions:
    names = {item.name for item in ViewOptions.parameters()}
    return ViewOptions.from_record({name: value for name, value in wanted.to_record().items() if name in names})


def _toggle_arrows(viewer: ViewerModel) -> None:
    session_of(viewer).toggle_arrows()


def _taught(checkpoint: str) -> tuple[str, frozenset[str]]:
    """The symmetry that a network was trained with, C1 where that is not known, and the classes that it learnt."""
    try:
        found = load_checkpoint(checkpoint) if checkpoint else None
    except InputError:
        found = None
    if found is None:
        return "C1", frozenset()
    return str(found.options.get("symmetry") or "C1"), frozenset(map(str, found.card.get("classes", ())))


@cache
def bead_symmetry(code: str) -> str:
    """The symmetry of the bead model of this code, with its axes; empty where there is none."""
    return (load_template(code).symmetry or "C1") if code in bead_models() else ""
