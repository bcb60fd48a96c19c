"""How many acts of a user it takes in the real window, and how long each, on a tomogram with true poses.

``xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui_acts.py TOMOGRAM LIST [--model NAME] [--size WxH]
[--theme dark|light] [--pictures DIR]``

An act is one thing that a person does: a drop of files, however many, or a click. Files are dropped on the canvas by
Qt's own events, buttons are clicked by the mouse. Prints each act with its seconds until the window is at rest, and
fails where red and green axes take more than 2, or the failures more than 1 further.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import napari
from napari.settings import get_settings
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QWidget

from napari_orient.gui.docks.orient_dock import OrientDock
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.session.viewer_session import session_of

AT_REST = 0.4
"""Seconds for which the window is left to what it has put off."""


class Acts:
    """Acts in one viewer's window, counted and timed."""

    def __init__(self, viewer: napari.Viewer, pictures: Path | None) -> None:
        self.viewer, self.count = viewer, 0
        self._pictures = pictures

    def drop(self, *paths: Path) -> None:
        """Drop files on the canvas."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path.resolve())) for path in paths])
        window = self.window
        canvas = next(part for part in window.findChildren(QWidget) if type(part).__name__ == "QtViewer")
        place = QPointF(QPoint(200, 200))
        buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        event = QDropEvent(place, Qt.DropAction.CopyAction, data, buttons, keys)
        self._act(f"drop {' and '.join(path.name for path in paths)}", lambda: canvas.dropEvent(event))

    def click(self, button: QAbstractButton) -> None:
        """Click a button with the mouse."""
        assert button.isVisible(), f"{button.text()} is not on screen"
        assert button.isEnabled(), f"{button.text()} is grey"
        self._act(f"click {button.text()!r}", lambda: QTest.mouseClick(button, Qt.MouseButton.LeftButton))

    def _act(self, words: str, act: Callable[[], None]) -> None:
        began = time.monotonic()
        act()
        blocked = time.monotonic() - began
        wait(lambda: session_of(self.viewer).jobs.running is None)
        self.count += 1
        print(
            f"act {self.count}: {words}: {time.monotonic() - began:.1f} s, of which blocked {blocked:.1f}", flush=True
        )

    def picture(self, name: str) -> None:
        """Save the window."""
        if self._pictures is not None:
            self._pictures.mkdir(parents=True, exist_ok=True)
            for _ in range(2):
                QApplication.processEvents()
                self.viewer.screenshot(flash=False)
            self.viewer.screenshot(str(self._pictures / f"{name}.png"), canvas_only=False, flash=False)

    @property
    def window(self) -> QWidget:
        """The viewer's window."""
        return next(item for item in QApplication.topLevelWidgets() if type(item).__name__ == "_QtMainWindow")

    @property
    def dock(self) -> OrientDock:
        """The Orient dock, which files of particles open."""
        dock = session_of(self.viewer).docks["OrientDock"]
        assert isinstance(dock, OrientDock)
        return dock


def wait(until: Callable[[], bool], seconds: float = 900) -> None:
    """Let the window work until then, and until it is at rest."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    rest = time.monotonic() + AT_REST
    while time.monotonic() < rest or not until():
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description="acts of a user, counted in the real window")
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("list", type=Path)
    parser.add_argument("--model", default="", help="to predict with; empty for the one that the card offers")
    parser.add_argument("--size", default="1400x900")
    parser.add_argument("--theme", default="dark")
    parser.add_argument("--pictures", type=Path, help="folder for a picture after each act")
    given = parser.parse_args()
    # As a user who has ticked "remember" in napari's question about .csv files.
    get_settings().plugins.extension2reader = {"*.csv": "napari-orient", "*.star": "napari-orient"}
    viewer = napari.Viewer(show=True)
    viewer.theme = given.theme
    viewer.window.resize(*map(int, given.size.split("x")))
    session = session_of(viewer)
    if given.model:
        session.model = given.model
    acts = Acts(viewer, given.pictures)
    acts.drop(given.tomogram, given.list)
    acts.picture("1_dropped")
    card = acts.dock.page("Poses").card("Predict")
    acts.click(card.running.start)
    acts.picture("2_predicted")
    for role in (PREDICTED, TRUTH):
        (layer,) = session.index.particles(role)
        arrows = axes_layer(viewer, layer)
        assert arrows is not None
        assert arrows.visible, f"no axes of {layer_data.role(layer)}"
    axes = acts.count
    print(card.result.text(), flush=True)
    acts.click(card.running.onward)
    acts.picture("3_failures")
    assert acts.dock.step == "Inspect"
    print(f"red and green axes in {axes} acts, the failures in {acts.count - axes} more")
    for step in ("Data", "Correct", "Result"):
        acts.dock.show_page(step)
        wait(lambda: True)
        acts.picture(f"4_{step.lower()}")
    viewer.close()
    assert axes <= 2
    assert acts.count - axes <= 1


if __name__ == "__main__":
    main()
