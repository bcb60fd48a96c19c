"""What must hold of the window after whatever a person did: `faults_of` a viewer, and a `Witness` of errors.

Used by `gui_monkey.py`, which does random acts.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Points
from napari.utils.notifications import ErrorNotification, Notification, notification_manager
from qtpy.QtCore import QtMsgType, qInstallMessageHandler
from qtpy.QtWidgets import QApplication, QDialog, QDockWidget, QLabel, QMenu, QWidget

import napari_orient
from napari_orient.gui.docks.dock_strips import count_text, voxel_text
from napari_orient.gui.docks.orient_dock import DATA, OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.arrow_drawing import ArrowDrawing
from napari_orient.gui.layers.axes import DRAWN, directions, shown
from napari_orient.gui.layers.canvas import _lines
from napari_orient.gui.layers.layer_data import AXES, PICKS, TRUTH
from napari_orient.gui.layers.particle_values import drawn_particles
from napari_orient.gui.pages.particle_sources import ParticleChecklist
from napari_orient.gui.session.edits import History
from napari_orient.gui.session.viewer_session import Session, session_of
from napari_orient.gui.widgets.inputs import LayerChoice

_FRAME = 8
"""Pixels by which a dock may be wider than what is in it."""

SMALLEST = (1100, 700)
"""Width and height in pixels of the window in which all must fit."""

_QT_NOISE = ("propagateSizeHints", "QWindowsWindow", "Could not parse", "XDG_RUNTIME_DIR", "Wayland")
"""Parts of Qt's messages about the machine, not about the program."""

_OURS = f"{Path(napari_orient.__file__).parent}{os.sep}"

Chain = tuple[int, ...]
"""The steps of a history that are in force, by identity."""


class Witness:
    """Errors of any kind while it listens: exceptions in slots and threads, Qt's warnings, our own Python warnings.

    ``said`` are the sentences that the window showed; those are answers, not faults.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.said: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear everything meanwhile."""
        before = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
        sys.excepthook = lambda _, error, __: self._error("exception", error)
        threading.excepthook = lambda about: self._error("exception in a thread", about.exc_value)
        sys.unraisablehook = lambda about: self._error("exception in a finaliser", about.exc_value)
        warnings.showwarning = self._warned
        handler = qInstallMessageHandler(self._qt)
        notification_manager.notification_ready.connect(self._notified)
        try:
            yield
        finally:
            notification_manager.notification_ready.disconnect(self._notified)
            qInstallMessageHandler(handler)
            sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = before

    def _error(self, kind: str, error: BaseException | None) -> None:
        import traceback

        text = f"{kind}: {''.join(traceback.format_exception(error)).strip()}"
        # An exception in which no function of ours has a part is napari's own.
        (self.errors if _OURS in text else self.said).append(text)

    def _warned(self, message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if "napari_orient" in filename:
            self.errors.append(f"warning at {filename}:{lineno}: {message}")

    def _qt(self, kind: QtMsgType, _: Any, text: str | None) -> None:
        if kind != QtMsgType.QtDebugMsg and not any(part in (text or "") for part in _QT_NOISE):
            self.errors.append(f"Qt: {text}")

    def _notified(self, note: Notification) -> None:
        if isinstance(note, ErrorNotification):
            self._error("error shown by napari", note.exception)
        else:
            self.said.append(f"{note.severity}: {note.message}")


class Past:
    """What layers held at each state of their histories: an undone edit must bring it back exactly."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, Chain], bytes] = {}
        self._kept: list[Any] = []  # Histories and steps, so that no other gets the identity of one of them.
        self._now: dict[int, Chain] = {}

    def check(self, session: Session) -> Iterator[str]:
        """Faults: a layer whose history is where it was before while the layer holds something else."""
        for layer, history in session._histories.items():
            self._kept += [item for item in (history, *history.steps) if item not in self._kept]
            chain, held = tuple(map(id, history.steps[: history.done])), _contents(history)
            before = self._held.get((id(history), chain))
            if self._now.get(id(history)) != chain and before is not None and before != held:
                yield f"{layer.name}: undo or redo brought back something else: {_other(before, held)}"
            self._now[id(history)] = chain
            self._held[id(history), chain] = held


def _contents(history: History) -> bytes:
    layer = history.layer
    table = layer.features.reset_index(drop=True)
    columns = "\n".join(f"{name}: {table[name].tolist()!r}" for name in table.columns)
    return b"\n".join([repr(np.asarray(layer.data).tolist()).encode(), columns.encode()])


def _other(before: bytes, now: bytes) -> str:
    lines = zip(before.decode().splitlines(), now.decode().splitlines(), strict=False)
    first = next((pair for pair in lines if pair[0] != pair[1]), ("another number of columns", ""))
    return " / ".join(part[:200] for part in first)


def wait(seconds: float) -> None:
    """Let the window work for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)


def faults_of(viewer: napari.Viewer) -> list[str]:
    """What does not hold now; of a window at rest, all must."""
    session = session_of(viewer)
    found = [*_faults_of_switch(session), *_faults_of_references(session), *_faults_of_arrows(session)]
    found += [*_faults_of_inspected(session), *_faults_of_legend(session), *_faults_of_windows(viewer)]
    orient, particles = session.docks.get("OrientDock"), session.docks.get("ParticlesDock")
    if isinstance(orient, OrientDock):
        found += _faults_of_orient(session, orient)
    if isinstance(particles, ParticlesDock):
        found += _faults_of_table(session, particles)
    for dock in (orient, particles):
        found += [] if dock is None else _faults_of_choices(session, dock)
    return found


def _faults_of_switch(session: Session) -> Iterator[str]:
    switch, names, every = session.tomograms, session.tomograms.names(), list(session.viewer.layers)
    if switch.name not in (names or [""]):
        yield f"the tomogram shown, {switch.name!r}, is none of {names}"
    current = session.index.current
    if current is not None and current not in every:
        yield "the tomogram shown is a layer that was removed"
    if current is not None and current in every and layer_data.tomogram_name(current) != switch.name:
        yield f"the layer shown is of {layer_data.tomogram_name(current)!r}, the switch is at {switch.name!r}"
    if current is None and switch.image(switch.name) is not None:
        yield f"{switch.name!r} has a volume, and none is current"


def _faults_of_references(session: Session) -> Iterator[str]:
    every, drawing = list(session.viewer.layers), session.drawing
    held = {"histories": list(session._histories), "surfaces": list(drawing._shapes)}
    view = vars(session).get("failure_view")
    if view is not None:
        held |= {"failures": list(view._added.values()), "failures' layer": [view.layer]}
    if "inspected" in vars(session):
        held["inspection"] = [session.inspected.layer]
    held["the last edits"] = list(session._edited)
    for what, found in held.items():
        for layer in found:
            if layer is not None and layer not in every:
                yield f"{what} hold the removed layer {layer.name!r}"
    ours = [call for call in session.viewer.mouse_drag_callbacks if "MouseTools" in getattr(call, "__qualname__", "")]
    if len(ours) > 1:
        yield f"{len(ours)} of our mouse tools act at once"


def _faults_of_arrows(session: Session) -> Iterator[str]:
    drawing: ArrowDrawing = session.drawing
    drawn: dict[int, int] = {}
    for layer in session.viewer.layers:
        if layer_data.role(layer) != AXES:
            continue
        points = session.index.points_of(layer)
        if points is None:
            yield f"{layer.name!r} has arrows of no particles"
            continue
        drawn[id(points)] = drawn.get(id(points), 0) + 1
        if drawn[id(points)] > 1:
            yield f"{points.name!r} has its arrows twice"
        elif drawing.complete and layer_data.holds_particles(points):
            yield from _faults_of_arrow_places(session, points, layer)


def _faults_of_arrow_places(session: Session, points: Points, arrows: Any) -> Iterator[str]:
    particles, rows = drawn_particles(points)
    if particles.rotations is None:
        yield f"{points.name!r} has arrows and no poses"
        return
    wanted = rows[shown(particles, session.drawing.view, points.shown[rows])]
    own = np.asarray(layer_data.about(arrows)[DRAWN])
    if not np.array_equal(own, wanted):
        yield f"{points.name!r} has arrows of {len(own)} particles instead of {len(wanted)}"
        return
    if not len(own):
        return
    at = np.isin(rows, wanted)
    along = directions(particles.rotations[at], session.drawing.view.axes)
    size = layer_data.voxel_size(points)
    partners = session.drawing._partners.get(points)
    placed = particles if partners is None else partners.level(particles, rows)
    starts = np.repeat(layer_data.flip(placed.positions[at]) / size, along.shape[1], axis=0)
    if len(starts) != len(arrows.data):
        yield f"{points.name!r} has {len(arrows.data)} arrows instead of {len(starts)}"
    elif not np.allclose(arrows.data[:, 0], starts, atol=1e-3):
        yield f"arrows of {points.name!r} do not start at its particles"
    elif not np.allclose(arrows.data[:, 1], along.reshape(-1, 3), atol=1e-4):
        yield f"arrows of {points.name!r} do not point along its particles' axes"


def _faults_of_inspected(session: Session) -> Iterator[str]:
    if "inspected" not in vars(session):
        return
    inspected = session.inspected
    layer, values = inspected.layer, inspected.values
    if layer is None or values is None:
        return
    if len(values.rows) and values.rows.max() >= len(layer.data):
        yield "inspected particles are more than their layer has"
        return
    chosen = set(values.rows[inspected.chosen].tolist())
    if not chosen <= set(map(int, layer.selected_data)):
        yield "inspected particles are selected that the layer has not selected"
    if len(inspected.shown) != len(values):
        yield "the filter has another number of rows than the particles"
    if layer not in inspected.offered():
        yield f"{layer.name!r} is inspected and not on offer"


def _faults_of_legend(session: Session) -> Iterator[str]:
    drawing = session.drawing
    legend = drawing.role_legend() if drawing.roles_only else drawing.legend()
    wanted = drawing.view.legend and any(map(drawing._has_axes, session.viewer.layers))
    texts = drawing._canvas_legend.texts(session.viewer)
    barred = bool(drawing._canvas_legend._barred)
    expected = [text for text, _ in _lines(legend, barred=barred)] if wanted else []
    if drawing.complete and texts != expected:
        yield f"the legend says {texts}, the arrows show {expected}"


def _faults_of_windows(viewer: napari.Viewer) -> Iterator[str]:
    for window in QApplication.topLevelWidgets():
        if window.isVisible() and isinstance(window, QDialog | QMenu) and window.isModal():
            yield f"the dialog {window.windowTitle()!r} was left open"
        elif window.isVisible() and type(window).__module__.startswith("napari_orient"):
            yield f"{type(window).__name__} stands in a window of its own"
    window: Any = viewer.window._qt_window
    floating = any(dock.isFloating() for dock in window.findChildren(QDockWidget))
    least = window.minimumSizeHint()
    # napari's docks keep the least width that they had in the largest font (0.9.2, without any plugin).
    grown = any(
        dock.minimumSizeHint().width() > dock.widget().minimumSizeHint().width() + _FRAME
        for dock in window.findChildren(QDockWidget)
        if dock.isVisible() and dock.widget() is not None and dock.windowTitle() == "layer controls"
    )
    usual = napari.settings.get_settings().appearance.font_size <= 10 and not grown
    if usual and not floating and (least.width() > SMALLEST[0] or least.height() > SMALLEST[1]):
        yield f"the window needs {least.width()} × {least.height()} pixels"


def _faults_of_orient(session: Session, dock: OrientDock) -> Iterator[str]:
    switch, header = session.tomograms, dock.header
    found = switch.particles()
    if header.counts.text() != count_text(found):
        yield f"the header counts {header.counts.text()!r}, there are {count_text(found)!r}"
    if switch.current is not None and header.voxels.text() != voxel_text(switch.current):
        yield f"the header says {header.voxels.text()!r}, it is {voxel_text(switch.current)!r}"
    names = switch.names()
    if names and header.choice.currentText() != switch.name:
        yield f"the header names {header.choice.currentText()!r}, shown is {switch.name!r}"
    history = session.last_history
    if header.undo.isEnabled() != bool(history and history.undoable):
        yield "Undo is enabled without an edit, or disabled with one"
    strip = dock.view_strip
    for role, box in ((TRUTH, strip.truth), (PICKS, strip.rings)):
        own = switch.particles(role)
        if box.isChecked() != any(layer.visible for layer in own) or box.isEnabled() != bool(own):
            yield f"the box {box.text()!r} does not say what is shown"
    if DATA in dock._pages:
        table: Any = dock.page(DATA)
        cells = [table.table.item(line, 0).text() for line in range(table.table.rowCount())]
        if cells != names:
            yield f"the page Data lists {cells}, there are {names}"
    if session.jobs.running is None and dock.job_line.stop.isVisibleTo(dock):
        yield "Stop is offered, and nothing runs"


def _faults_of_table(session: Session, dock: ParticlesDock) -> Iterator[str]:
    inspected = session.inspected
    if inspected._renewing.waiting:
        return
    rows = dock.table.particles.rowCount()
    if rows != int(inspected.shown.sum()):
        yield f"the table has {rows} rows of {int(inspected.shown.sum())}"
    own, wanted = dock.table.chosen_rows.tolist(), inspected.chosen[inspected.shown[inspected.chosen]].tolist()
    if own != wanted:
        yield f"the table has rows {own[:9]} selected, the viewer {wanted[:9]}"


def _faults_of_choices(session: Session, dock: QWidget) -> Iterator[str]:
    every = list(session.viewer.layers)
    for choice in dock.findChildren(LayerChoice):
        gone = [layer.name for layer in choice.layers if layer not in every]
        if gone:
            yield f"a choice offers the removed {gone}"
        texts = [choice.itemText(place) for place in range(choice.count())]
        if choice.layers and texts != [layer.name for layer in choice.layers]:
            yield f"a choice says {texts}, the layers are {[layer.name for layer in choice.layers]}"
    for checklist in dock.findChildren(ParticleChecklist):
        gone = [item.name for item in checklist._offered if item.layer is not None and item.layer not in every]
        if gone:
            yield f"a checklist offers the removed {gone}"
        if checklist.list.count() != len(checklist.offered()):
            yield f"a checklist has {checklist.list.count()} lines of {len(checklist.offered())}"


def cut_off(window: QWidget) -> list[str]:
    """Texts of visible labels that have less room than they need, where nothing wraps them."""
    labels = [label for label in window.findChildren(QLabel) if label.isVisible() and not label.wordWrap()]
    return [label.text() for label in labels if label.text() and label.width() < label.minimumSizeHint().width()]
