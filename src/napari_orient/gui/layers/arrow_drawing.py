"""How one viewer draws its particles: arrows, surfaces, their colours, and what these mean."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer, Points, Surface, Vectors

from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui.colours import (
    AXIS,
    ROLE,
    ColourScale,
    Legend,
    colour_scale_of,
    legend_of,
    particle_colours,
)
from napari_orient.gui.event_loop import Deferred
from napari_orient.gui.layers import axes, layer_data
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.canvas import CanvasLegend, holding_still, show_slab
from napari_orient.gui.layers.layer_data import AXES, PICKS, PREDICTED, SURFACE, TRUTH
from napari_orient.gui.layers.layer_index import LayerIndex
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.layers.particle_values import InspectionModel, drawn_particles
from napari_orient.gui.layers.partners import Partners, partners_of
from napari_orient.gui.layers.surfaces import MOST_PARTICLES, SurfaceShape, draw_surface, surface_layer

_POSED_SHARE = 0.9
"""Share of a layer's picks that must have a pose in another layer for their rings to be hidden."""


MANY_PARTICLES = 2000
"""Particles above which an edit's arrows are drawn in a turn of the event loop of their own: 10,000 take 0.2 s."""


class ArrowDrawing:
    """How one viewer draws its particles; ``events.view`` is emitted when that changes.

    The events are the session's; ``events.inspection`` recolours the arrows that show errors or clusters.
    """

    def __init__(self, index: LayerIndex, inspection: InspectionModel, view: ViewOptions) -> None:
        self.index, self.inspection, self.events = index, inspection, inspection.events
        self.view = view
        self._scale = ColourScale()
        self._canvas_legend = CanvasLegend()
        self.roles_only = False
        self._ringed: weakref.WeakSet[Points] = weakref.WeakSet()
        self._posed: weakref.WeakSet[Points] = weakref.WeakSet()
        self._shapes: dict[Points, tuple[SurfaceShape, float]] = {}
        self._ahead: weakref.WeakSet[Points] = weakref.WeakSet()
        self._unfinished: weakref.WeakSet[Points] = weakref.WeakSet()
        self._finishing, self._clearing = Deferred(self._finish), Deferred(self._remove_orphans)
        self._partners: weakref.WeakKeyDictionary[Points, Partners] = weakref.WeakKeyDictionary()
        self.viewer.dims.events.ndisplay.connect(self._turned)
        self.viewer.dims.events.order.connect(self._slice_together)
        self.events.inspection.connect(self._inspection_changed)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer that shows the particles."""
        return self.index.viewer

    def _inspection_changed(self, event: Any = None) -> None:
        if self.view.display.colour in ("true error", "cluster"):
            self.show_as(self.view)

    def draw(self, points: Points) -> Vectors | None:
        """The points' arrows, and their surfaces where they are shown, drawn as the session's options say."""
        self._ahead.discard(points)
        self._unfinished.discard(points)
        self._find_partners(points)
        arrows = self._draw_axes(points)
        self._draw_surface(points)
        self.show_legend()
        return arrows

    def _find_partners(self, points: Points) -> None:
        """Find the partners of true particles; draw the true particles in a moment where these may be partners."""
        if layer_data.role(points) == PREDICTED:
            self._slice_together()
        elif layer_data.role(points) == TRUTH:
            before = self._partners.pop(points, None)
            predicted = next((layer for layer in self._predicted_beside(points) if layer.visible), None)
            tolerance = self.inspection.options.tolerance
            found = None if predicted is None else partners_of(self.viewer, points, predicted, tolerance=tolerance)
            if found is not None:
                self._partners[points] = found
            if found is not None or before is not None:
                self.paint(points)

    def _predicted_beside(self, truth: Points) -> list[Points]:
        """Layers of predicted particles that these are the true ones of, the newest first."""
        found = self.index.particles(PREDICTED)
        return [layer for layer in found if self.index.truth_of(layer_data.own_tomogram(layer)) is truth]

    def _slice_together(self, event: Any = None) -> None:
        """Draw true particles in a moment: others are their partners, or another axis is sliced."""
        for truth in self.index.particles(TRUTH):
            if self._partners.get(truth) is not None or self._predicted_beside(truth):
                self.draw_later(truth)

    def draw_ahead(self, points: Points, rows: Rows, particles: Particles) -> bool:
        """Whether the arrows of these rows alone, whose particles these are, are drawn now, in an event of the layer.

        That event then draws nothing more. The rest comes a moment later: surfaces, colours that depend on other
        particles, and the legend.
        """
        scores = {"score": particles.confidence, "expected_error": particles.expected_error_deg}
        columns = {name: values for name, values in scores.items() if values is not None}
        ink, view = self.view.ink(layer_data.role(points)), self.view
        colours = particle_colours(
            columns, view.display.colour, ink=ink, colormap=view.display.colormap, scale=self._scale, count=len(rows)
        )
        if not axes.draw_rows(self.viewer, points, rows, particles, view, colours=colours):
            return False
        self._ahead.add(points)
        self.draw_later(points)
        return True

    def redraw(self, points: Points) -> None:
        """Draw the points after an edit, unless that edit has drawn them already."""
        if points in self._ahead:
            self._ahead.discard(points)
        elif len(points.data) > MANY_PARTICLES:
            self.draw_later(points)
        else:
            self.draw(points)

    def recolour(self, points: Points) -> None:
        """Draw the points in a moment after a feature changed, where they have arrows; an edit draws them before."""
        if points not in self._unfinished and self._has_axes(points):
            self.draw_later(points)

    def draw_later(self, points: Points) -> None:
        """Draw the points in a moment, in an event-loop iteration that draws nothing else."""
        self._unfinished.add(points)
        self._finishing.ask()

    @property
    def complete(self) -> bool:
        """Whether all that was to be drawn in a moment is drawn."""
        return not self._unfinished

    def _finish(self) -> None:
        """Draw one layer of those that were put off."""
        viewer = self.index.viewer_or_none()
        if viewer is None or self.complete:
            return
        points = self._unfinished.pop()
        if points in viewer.layers:
            with holding_still(viewer):
                self.draw(points)
        if not self.complete:
            self._finishing.ask()

    def _draw_axes(self, points: Points) -> Vectors | None:
        before = self._scale
        if self.view.display.colour not in (ROLE, AXIS):
            self._scale = self.scale()
        if self._scale != before:
            self._draw_all(other_than=points)
            self.events.view()
        return self._put_axes(points)

    def _put_axes(self, points: Points) -> Vectors | None:
        colours = None if self.view.display.colour in (ROLE, AXIS) else self.colours_of(points)
        return axes.draw_axes(self.viewer, points, self.view, colours=colours, partners=self._partners.get(points))

    def show_as(self, options: ViewOptions) -> None:
        """Draw all arrows by these options, and set the thickness of the 2D slab."""
        self.view = options
        show_slab(self.viewer, options.display.slab)
        for layer in self.index.particles(PREDICTED, TRUTH):
            self.paint(layer)
        self._scale = self.scale()
        self._draw_all()
        self.show_legend()
        self.events.view()

    def paint(self, points: Points) -> None:
        """Give the points the colour of their role, where they had the colour of that role before."""
        role = layer_data.role(points)
        if role in (PREDICTED, TRUTH):
            # True points lie beneath their partners'; at a slab's face they would be seen without them.
            partners = self._partners.get(points)
            layer_data.paint(points, self.view.ink(role), unseen=None if partners is None else partners.rows)

    def _draw_all(self, other_than: Points | None = None) -> None:
        for layer in list(self.viewer.layers):
            if layer is not other_than and self._has_axes(layer):
                self._put_axes(layer)
            if layer is not other_than and layer in self._shapes:
                self._draw_surface(layer)

    def toggle_arrows(self) -> None:
        """Hide all arrows or, where none is shown, show all."""
        drawn = [layer for layer in self.viewer.layers if layer_data.role(layer) == AXES]
        wanted = not any(layer.visible for layer in drawn)
        for layer in drawn:
            layer.visible = wanted

    def show_surface(self, points: Points, shape: SurfaceShape, *, level: float) -> Surface | None:
        """The reference's surface at every pose of the layer, from now on as they are, coloured as the arrows.

        ``level`` is a share of the map's maximum. At most `MOST_PARTICLES` are shown; None where there are no poses.
        """
        self._shapes[points] = shape, level
        return self._draw_surface(points)

    def remove(self, points: Points) -> None:
        """Remove what is drawn of particles whose layer was removed.

        A selected layer waits for a moment: where a person removes all that are selected, napari is about to do so.
        """
        self._shapes.pop(points, None)
        self._slice_together()
        for layer in self.index.drawings_of(points):
            if layer in self.viewer.layers.selection:
                self._clearing.ask()
            else:
                self.viewer.layers.remove(layer)

    def _remove_orphans(self) -> None:
        """Remove arrows and surfaces of particles that are gone."""
        for layer in list(self.viewer.layers):
            if layer_data.role(layer) in (AXES, SURFACE) and self.index.points_of(layer) is None:
                self.viewer.layers.remove(layer)

    def hide_surface(self, points: Points) -> None:
        """Remove the layer's surfaces."""
        self._shapes.pop(points, None)
        layer = surface_layer(self.viewer, points)
        if layer is not None:
            self.viewer.layers.remove(layer)

    def _draw_surface(self, points: Points) -> Surface | None:
        if points not in self._shapes:
            return None
        shape, level = self._shapes[points]
        particles, drawn = drawn_particles(points)
        if particles.rotations is None:
            self.hide_surface(points)
            return None
        colours = self.colours_of(points)
        if colours is None:
            colours = np.tile(self.view.ink(layer_data.role(points)), (len(particles), 1))
        rows = np.flatnonzero(axes.shown(particles, self.view, points.shown[drawn]))[:MOST_PARTICLES]
        return draw_surface(self.viewer, points, particles.take(rows), shape.mesh(level), colours[rows])

    def hide_rings(self) -> None:
        """Hide the rings of picks that nearly all have a pose, whose points mark them; show them where those are gone.

        Rings that a person shows again stay, until poses or picks are opened or removed.
        """
        for picks in self.index.particles(PICKS):
            if self._nearly_all_posed(picks):
                if picks.visible or picks in self._ringed:
                    self._posed.add(picks)
                self._ringed.discard(picks)
                picks.visible = False
            elif picks in self._posed:
                self._posed.discard(picks)
                self._ringed.add(picks)
        self._show_rings()

    def _nearly_all_posed(self, picks: Points) -> bool:
        """Whether nearly all picks of a layer have a pose in one other layer of their tomogram."""
        from scipy.spatial import cKDTree

        at, tomogram = layer_data.positions_of(picks), self.index.tomogram_of(picks)
        for posed in self.index.particles(PREDICTED):
            if len(at) and len(posed.data) and self.index.tomogram_of(posed) is tomogram:
                away, _ = cKDTree(layer_data.positions_of(posed)).query(at)
                if np.mean(away <= layer_data.PICK_DIAMETER) >= _POSED_SHARE:
                    return True
        return False

    def _show_rings(self) -> None:
        """Hide picks' rings in 3D, where they cover everything, and show those that were hidden so again in 2D."""
        flat, current = self.viewer.dims.ndisplay == 2, self.index.current
        for picks in self.index.particles(PICKS):
            if not flat and picks.visible:
                self._ringed.add(picks)
                picks.visible = False
            elif flat and picks in self._ringed and self.index.tomogram_of(picks) in (current, None):
                self._ringed.discard(picks)
                picks.visible = True
        self.events.view()

    def _turned(self, event: Any) -> None:
        """Show surfaces in 3D alone, where a slice of a mesh would show nothing, and rings in 2D alone."""
        self._show_rings()
        self._slice_together()
        for points in self._shapes:
            layer = surface_layer(self.viewer, points)
            if layer is not None:
                layer.visible = self.viewer.dims.ndisplay == 3

    def colours_of(self, points: Points) -> FloatArray | None:
        """A colour for each particle with a pose, (N, 3), as the arrows have it; None where arrows go by the axis."""
        if self.view.display.colour == AXIS:
            return None
        if self.view.display.colour == "cluster" and points not in self._with_quantities():
            return None
        values, view = self.inspection.particle_values(points), self.view
        ink, display = view.ink(layer_data.role(points)), view.display
        return particle_colours(
            values.columns, display.colour, ink=ink, colormap=display.colormap, scale=self._scale, count=len(values)
        )

    def scale(self) -> ColourScale:
        """From which value to which colours run, over all layers of particles on view."""
        columns = [self.inspection.particle_values(layer).columns for layer in self._with_quantities()]
        return colour_scale_of(columns, self.view.display.colour, low=self.view.low, high=self.view.high)

    def legend(self) -> Legend:
        """What the arrows' colours mean."""
        drawn, display = self._drawn(), self.view.display
        columns = (
            []
            if display.colour in (ROLE, AXIS)
            else [self.inspection.particle_values(layer).columns for layer in self._with_quantities()]
        )
        roles = {role: self.view.ink(role) for role in map(layer_data.role, filter(self._on_view, drawn))}
        return legend_of(display.colour, roles=roles, columns=columns, colormap=display.colormap, scale=self._scale)

    def show_legend(self) -> None:
        """Show on the canvas what the arrows' colours mean, if that is wanted and there are any."""
        wanted = self.view.legend and any(map(self._has_axes, self.viewer.layers))
        drawn = self._drawn()
        for layer in drawn:
            for item in (layer, *self.index.drawings_of(layer)):
                item.events.visible.connect(self._visible_changed)
        shown = self.role_legend() if self.roles_only else self.legend()
        self._canvas_legend.show(self.viewer, shown if wanted else None, drawn)

    def _on_view(self, points: Points) -> bool:
        """Whether the points, or what is drawn of them, are visible."""
        return points.visible or any(layer.visible for layer in self.index.drawings_of(points))

    def _visible_changed(self, event: Any = None) -> None:
        if self.index.viewer_or_none() is not None:
            self.show_legend()
            self._slice_together()

    def role_legend(self) -> Legend:
        """The colours of predicted and true poses of the tomogram that is shown, whatever colours the arrows have."""
        own = [layer for layer in self._drawn() if self.index.tomogram_of(layer) in (self.index.current, None)]
        roles = {layer_data.role(layer): self.view.ink(layer_data.role(layer)) for layer in own}
        return legend_of(ROLE, roles=roles, columns=[], colormap="", scale=ColourScale())

    def _drawn(self) -> list[Points]:
        posed = set(layer_data.ROTATION_COLUMNS)
        return [
            layer for layer in self.index.particles(PREDICTED, TRUTH, PICKS) if posed <= set(layer.features.columns)
        ]

    def _with_quantities(self) -> list[Points]:
        """The layers whose quantity colours show: all drawn; for clusters one of each tomogram, the newest predicted.

        Each layer numbers its own clusters, so that two of one tomogram would share colours and legend.
        """
        drawn = self._drawn()
        if self.view.display.colour != "cluster":
            return drawn
        first: dict[Any, Points] = {}
        for layer in sorted(drawn, key=lambda item: layer_data.role(item) != PREDICTED):
            first.setdefault(self.index.tomogram_of(layer), layer)
        return list(first.values())

    def _has_axes(self, layer: Layer) -> bool:
        return isinstance(layer, Points) and axes.axes_layer(self.viewer, layer) is not None
