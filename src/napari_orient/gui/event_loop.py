"""Qt's event loop: acts put off, work in idle time, and connections that end with their widget."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer
from qtpy.QtWidgets import QWidget

MOMENT = 40
"""Milliseconds from the first asking to the act: the canvas paints meanwhile."""


class Deferred(QObject):
    """An act of something alive, put off; it does not keep that alive, and goes with its parent where it has one."""

    def __init__(self, act: Callable[[], object], *, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._act = weakref.WeakMethod(act)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._come)

    @property
    def waiting(self) -> bool:
        """Whether it was asked for and has not been done yet."""
        return self._timer.isActive()

    def ask(self, *_: object) -> None:
        """Do the act in a moment."""
        if not self.waiting:
            self._timer.start(MOMENT)

    def settle(self) -> None:
        """Do the act now if it is pending, for what follows needs it."""
        if self.waiting:
            self._timer.stop()
            self._come()

    def _come(self) -> None:
        act = self._act()
        if act is not None:
            # Its viewer may be gone meanwhile: then there is nothing left to show anything in.
            with contextlib.suppress(ReferenceError):
                act()


PART = 0.02
"""Seconds of work in one turn of the event loop: the window answers in between."""


class IdleWork(QObject):
    """Work done part by part while the event loop is idle; another one begun drops the first."""

    def __init__(self, *, parent: QObject) -> None:
        super().__init__(parent)
        self._work: Generator[None, None, Any] | None = None
        self._then: weakref.WeakMethod[Callable[[Any], object]] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._go_on)

    def start(self, work: Generator[None, None, Any], then: Callable[[Any], object] | None = None) -> None:
        """Do this work, then call a method with its answer, if one is given; the method's object is not kept alive."""
        self.stop()
        self._work, self._then = work, None if then is None else weakref.WeakMethod(then)
        self._timer.start()

    def stop(self) -> None:
        """Drop the work."""
        self._timer.stop()
        if self._work is not None:
            self._work.close()
        self._work = None

    def settle(self) -> None:
        """Do all that is left now."""
        while self._work is not None:
            self._go_on()

    def _go_on(self) -> None:
        end = time.monotonic() + PART
        try:
            while self._work is not None and time.monotonic() < end:
                next(self._work)
        except ReferenceError:
            self.stop()  # Its viewer is gone meanwhile.
        except StopIteration as answer:
            then = None if self._then is None else self._then()
            self.stop()
            if then is not None:
                # Its viewer may be gone meanwhile: then there is nothing left to show anything in.
                with contextlib.suppress(ReferenceError):
                    then(answer.value)


_NEEDED_SOON = ("torch", "scipy.spatial.transform", "pandas", "matplotlib.backends.backend_agg", "matplotlib.figure")
"""What the first prediction, list of particles and chart import: together two seconds of processor time."""


def import_ahead() -> None:
    """Import what is needed soon in a thread, once the window is drawn; what is there already costs nothing."""
    # Not before: Python runs one thread at a time, and the import would take half of what draws the window.
    if QCoreApplication.instance() is not None and not all(name in sys.modules for name in _NEEDED_SOON):
        QTimer.singleShot(0, _import_in_thread)


def _import_in_thread() -> None:
    thread = threading.Thread(target=lambda: list(map(importlib.import_module, _NEEDED_SOON)), daemon=True)
    thread.start()
    # Python must not end in the middle of torch's own start.
    atexit.register(thread.join)


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
    """Connect a napari event to a widget's method until the widget is gone; once, however often it is asked for."""
    # Both napari and Qt hold the ear weakly; the widget keeps it, and the emitter, which does not keep its layer.
    ears: dict[tuple[int, int, str], tuple[Any, _Ear]] = vars(widget).setdefault("_ears", {})
    method: Any = callback
    key = id(emitter), id(method.__self__), method.__name__
    if key not in ears:
        ear = _Ear(callback)
        ears[key] = emitter, ear
        emitter.connect(ear.hear)
        widget.destroyed.connect(ear.go_deaf)


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
