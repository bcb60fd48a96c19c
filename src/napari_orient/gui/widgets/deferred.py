"""Acts put off to a later iteration of the event loop, and work done in its idle time."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import QObject, QTimer

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

    def start(self, work: Generator[None, None, Any], then: Callable[[Any], object]) -> None:
        """Do this work, then call a method with its answer; the method's object is not kept alive."""
        self.stop()
        self._work, self._then = work, weakref.WeakMethod(then)
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
        except StopIteration as answer:
            then = None if self._then is None else self._then()
            self.stop()
            if then is not None:
                # Its viewer may be gone meanwhile: then there is nothing left to show anything in.
                with contextlib.suppress(ReferenceError):
                    then(answer.value)
