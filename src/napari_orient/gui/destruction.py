"""A callback for when Qt has destroyed a widget."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject

_HELD: set[Callable[..., None]] = set()
"""Until Qt has called them. Of a dock that is garbage, Python's collector may empty closures before Qt destroys it, and
calling an emptied one ends the process."""


def when_destroyed(thing: QObject, act: Callable[[], None]) -> None:
    """Call ``act`` once when ``thing`` is destroyed; ``act`` must not know ``thing``, or it would never go."""

    def call(*_: object) -> None:
        _HELD.discard(call)
        act()

    _HELD.add(call)
    thing.destroyed.connect(call)
