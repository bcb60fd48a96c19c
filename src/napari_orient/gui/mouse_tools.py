"""The mouse on the canvas: a click selects a particle in any mode, a drag with Alt rotates those selected in 3D."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points

from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.gui import editing, layers
from napari_orient.gui.canvas import camera
from napari_orient.gui.session import Session

DEGREES_PER_PIXEL = 0.5
"""Degrees of rotation for a drag of one pixel of the screen: half a turn across 360 pixels."""

STILL = 3.0
"""Pixels that the mouse may move between press and release of a click."""

AXIS_OF = {frozenset({"Alt"}): "z", frozenset({"Alt", "Shift"}): "x", frozenset({"Alt", "Control"}): "y"}
"""The own axis that a drag rotates about, by the keys held meanwhile."""


class MouseTools:
    """Clicks and drags on the canvas of one viewer, while they are switched on.

    Parameters
    ----------
    layer : the particles that a click selects among; None for none.
    """

    def __init__(self, session: Session, layer: Callable[[], Points | None]) -> None:
        self.session, self._layer = session, layer

    def switch(self, on: bool) -> None:
        """Take clicks and drags from now on, or leave them to napari."""
        callbacks = self.session.viewer.mouse_drag_callbacks
        if on and self._pressed not in callbacks:
            callbacks.append(self._pressed)
        elif not on and self._pressed in callbacks:
            callbacks.remove(self._pressed)

    def _pressed(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        layer = self._layer()
        if layer is None or layer not in self.session.viewer.layers or layer.mode != "pan_zoom":
            return
        axis = AXIS_OF.get(frozenset(str(key) for key in event.modifiers))
        if axis is not None and self.session.viewer.dims.ndisplay == 3 and layer.selected_data:
            yield from self._rotated(layer, axis, event)
        else:
            yield from self._clicked(layer, event)

    def _clicked(self, layer: Points, event: Any) -> Iterator[None]:
        """Select the particle under a click; with Shift, beside those that are selected."""
        start, extend = np.array(event.pos, float), "Shift" in event.modifiers
        row = layer.get_value(
            event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True
        )
        yield
        while event.type == "mouse_move":
            yield
        if row is not None and np.abs(np.array(event.pos, float) - start).max() <= STILL:
            layer.selected_data = ({*layer.selected_data} if extend else set()) | {int(row)}

    def _rotated(self, layer: Points, axis: str, event: Any) -> Iterator[None]:
        """Rotate the selected particles about their own axis as the mouse is dragged sideways: one step of history."""
        rows = np.array(sorted(layer.selected_data), int)
        rows = rows[layers.has_pose(layer)[rows]]
        if not len(rows):
            return
        history, view, at, whole = self.session.history(layer), camera(self.session.viewer), event.pos[0], 0.0
        pan, view.mouse_pan = view.mouse_pan, False
        try:
            with history.changing(f"rotate {len(rows)} about {axis} by the mouse"):
                yield
                while event.type == "mouse_move":
                    angle, at = DEGREES_PER_PIXEL * (event.pos[0] - at), event.pos[0]
                    if angle:
                        whole += angle
                        editing.rotate(
                            history, rows, axis_rotation(axis, angle), words=f"by {whole:+.0f}° about {axis}"
                        )
                    yield
        finally:
            view.mouse_pan = pan
