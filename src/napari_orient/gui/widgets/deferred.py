"""An act put off to a later iteration of the event loop, done once however often it was asked for."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable

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
