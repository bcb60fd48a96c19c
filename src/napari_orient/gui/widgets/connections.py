"""Connections of widgets to napari's events that end with the widget."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget


class _Ear:
    """Hears a napari event for a widget, and goes deaf when the widget is gone: napari must not touch a dead one."""

    def __init__(self, callback: Callable[..., None]) -> None:
        self._method: weakref.WeakMethod[Callable[..., None]] | None = weakref.WeakMethod(callback)

    def hear(self, event: Any = None) -> None:
        callback = None if self._method is None else self._method()
        if callback is not None:
            callback(event)

    def go_deaf(self, *_: object) -> None:
        self._method = None


def listen(widget: QWidget, emitter: Any, callback: Callable[..., None]) -> None:
    """Connect a napari event to a widget's method until the widget is gone."""
    ear = _Ear(callback)
    # Both napari and Qt hold the ear weakly; the widget keeps it.
    vars(widget).setdefault("_ears", []).append(ear)
    emitter.connect(ear.hear)
    widget.destroyed.connect(ear.go_deaf)
