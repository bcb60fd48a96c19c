"""Mouse and keys on the canvas while a page is shown: clicks select, drags with Alt rotate, keys edit."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import EllipsisType
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QObject

from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.gui.event_loop import when_destroyed
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.canvas import camera
from napari_orient.gui.session import edits
from napari_orient.gui.session.viewer_session import Session

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
        rows = rows[layer_data.has_pose(layer)[rows]]
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
                        edits.rotate(history, rows, axis_rotation(axis, angle), words=f"by {whole:+.0f}° about {axis}")
                    yield
        finally:
            view.mouse_pan = pan


Action = Callable[[Any], None]
Binding = Action | EllipsisType | None
"""What a viewer holds for a key: an action, ``...`` (the key is blocked), or None (the key is free)."""

_STACKS: weakref.WeakKeyDictionary[ViewerModel, dict[str, list[Binding]]] = weakref.WeakKeyDictionary()
"""For each viewer and key: what the key did before any of ours, then the actions of those who hold it, newest last."""


def bind_keys(viewer: ViewerModel, owner: QObject, actions: Mapping[str, Callable[[], None]]) -> Callable[[], None]:
    """What restores the keys of the viewer that are bound now; called by itself when ``owner`` is destroyed.

    Of several owners the newest holds a key; when it goes, the key passes to the newest of those that are left.
    """
    bound: dict[str, Action] = {}
    for key, action in actions.items():
        bound[key] = _without_viewer(action)
        before: Binding = viewer.bind_key(key, bound[key], overwrite=True)
        stack = _STACKS.setdefault(viewer, {}).setdefault(key, [before])
        if before not in stack:
            stack[:] = [before]  # Somebody else has bound the key since we did last.
        stack.append(bound[key])
    release = partial(_release, weakref.ref(viewer), bound)
    when_destroyed(owner, release)
    return release


def _without_viewer(action: Callable[[], None]) -> Action:
    return lambda viewer: action()


def _release(viewer_ref: weakref.ref[ViewerModel], bound: Mapping[str, Action]) -> None:
    viewer = viewer_ref()
    if viewer is None:
        return
    stacks = _STACKS.get(viewer, {})
    for key, action in bound.items():
        stack = stacks.get(key, [])
        if action in stack:
            stack.remove(action)
        if viewer.keymap.get(coerce_keybinding(key)) is action:
            viewer.bind_key(key, stack[-1] if stack else None, overwrite=True)
        if len(stack) < 2:
            stacks.pop(key, None)
