"""Keys of a viewer that act while a page is shown; afterwards each key does again what it did before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import EllipsisType
from typing import Any

from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QObject

from napari_orient.gui.destruction import when_destroyed

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
