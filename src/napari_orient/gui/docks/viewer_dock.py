"""A dock of which each viewer has one, however it is opened: a closed one comes back as it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Self

import napari.settings
import napari.viewer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QWidget

from napari_orient.gui.event_loop import import_ahead, listen, when_destroyed
from napari_orient.gui.session.viewer_session import Session, session_of
from napari_orient.gui.widgets.basic import IN_ROW

_AREAS = {"right": Qt.DockWidgetArea.RightDockWidgetArea, "bottom": Qt.DockWidgetArea.BottomDockWidgetArea}

ROW_POINTS = 12
"""Points of the words on buttons that share a row, at most: the five steps need 380 pixels of larger ones."""

FIELD_WIDTH = 7
"""Least width of a field of numbers without its buttons, in widths of an M: fits ``slab 10000 Å`` in any font."""


class ViewerDock(QWidget):
    """The contents of a dock; a second one for a viewer is the first.

    Menu, palette and code each give the frame a name of their own, so napari itself would open one for each. Closed,
    the contents wait in the window, hidden, for napari takes them out of the frame and does not destroy them.
    """

    title: ClassVar[str]
    area: ClassVar[str] = "right"

    def __new__(cls, napari_viewer: napari.viewer.Viewer) -> Self:
        """The viewer's dock of this class, taken out of the frame that it is in; made if there is none."""
        found = session_of(napari_viewer).docks.get(cls.__name__)
        if isinstance(found, cls):
            found.leave_frame()
            return found
        return super().__new__(cls)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        if "session" in vars(self):
            return
        super().__init__()
        self.session = session_of(napari_viewer)
        self.session.docks[type(self).__name__] = self
        self._placed: weakref.ref[QDockWidget] | None = None
        when_destroyed(self, _forgetter(self.session, type(self).__name__))
        import_ahead()
        self._scale_fonts()
        listen(self, napari.settings.get_settings().appearance.events.font_size, self._scale_fonts)
        self.build()

    def _scale_fonts(self, event: object = None) -> None:
        """Give napari's size of text to what its style leaves at Qt's own."""
        points = napari.settings.get_settings().appearance.font_size
        self.setStyleSheet(
            f"QTableView, QHeaderView, QToolButton {{font-size: {points}pt;}}"
            # napari's style gives such fields a width in pixels, whatever the size of their text.
            f"QAbstractSpinBox {{min-width: {FIELD_WIDTH}em;}}"
            # It leaves no room for the arrow of a menu, which the button's text has.
            "QToolButton::menu-indicator {image: none;}"
            f"QPushButton[{IN_ROW}] {{font-size: {min(points, ROW_POINTS)}pt;}}"
        )

    def build(self) -> None:
        """Make the dock's widgets."""

    def opened(self) -> None:
        """Do what is to be done when napari puts the dock in a frame, before the window has it."""

    def closed(self) -> None:
        """Do what is to be done when napari takes the dock out of its frame."""

    @property
    def frame(self) -> QDockWidget | None:
        """The frame that napari has put the dock in, or None while it is closed."""
        above = self.parentWidget()
        while above is not None and not isinstance(above, QDockWidget):
            above = above.parentWidget()
        return above

    def leave_frame(self) -> None:
        """Close the frame that the dock is in, so that it can be put in another."""
        if self.frame is not None:
            self.session.viewer.window.remove_dock_widget(self.frame)

    # --- closing and opening ----------------------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """Wait in the window when napari takes the dock out of its frame, and show the contents in a new frame."""
        done = super().event(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and "_placed" in vars(self):
            if self.parentWidget() is None:
                self.closed()
                self._wait_in_window()
            elif self.frame is not None:
                self.opened()
                self.show()
        return done

    @property
    def main_window(self) -> QMainWindow | None:
        """The viewer's window, in which a closed dock waits; None where it is gone."""
        return getattr(getattr(self.session.viewer, "window", None), "_qt_window", None)

    def _wait_in_window(self) -> None:
        if self.main_window is not None:
            self.setParent(self.main_window)
            self.hide()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Put a new frame where this dock belongs; a person may move it afterwards."""
        super().showEvent(event)
        frame, window = self.frame, self.window()
        if frame is None or not isinstance(window, QMainWindow):
            return
        if self._placed is None or self._placed() is not frame:
            self._placed = weakref.ref(frame)
            frame.setWindowTitle(self.title)
            bar = frame.titleBarWidget()
            for label in [] if bar is None else bar.findChildren(QLabel):
                label.setText(self.title if label.text() else "")
            if window.dockWidgetArea(frame) != _AREAS[self.area]:
                QTimer.singleShot(0, partial(window.addDockWidget, _AREAS[self.area], frame))


def _forgetter(session: Session, name: str) -> Callable[[], None]:
    """What forgets a dock that is destroyed; it must know neither."""
    known = weakref.ref(session)

    def forget() -> None:
        alive = known()
        if alive is not None:
            alive.docks.pop(name, None)

    return forget
