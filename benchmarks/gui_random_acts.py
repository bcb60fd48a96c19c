"""Acts of a person in the real window, each by chance but legal: `Monkey.step` does one of `ACTS`.

`gui_monkey.py` does many, and checks after each what `gui_invariants.py` says must hold.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import napari
import numpy as np
from gui_invariants import Past, faults_of, wait
from gui_world import World
from napari.errors import ReaderPluginError
from napari.layers import Points
from napari.layers._layer_actions import _duplicate_layer
from napari.settings import get_settings
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QListWidget,
    QMenu,
    QTableView,
    QToolButton,
    QWidget,
)

from napari_orient.gui import commands
from napari_orient.gui.commands import CARDS, dock_of, page_of
from napari_orient.gui.docks.orient_dock import STEPS
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.session.viewer_session import session_of
from napari_orient.gui.widgets.plot import Chart

KEYS = ["N", "J", "L", "K", "I", "U", "O", "G", "B", "C", "H", "A", "1", "2", "3", "4", "Escape", "Delete", "Space"]
COMBINED = ("Control-Z", "Control-Shift-Z", "Shift-N", "Shift-P", "Shift-R", "Shift-L", "Shift-O", "Control-Y")
COMBINED += ("Control-E", "Control-T", "Control-R")
TEXTS = (
    "",
    "expected_error > 5",
    "true_error > 20 and neighbour < 300",
    "nonsense ++",
    "C7",
    "C1",
    "D7@z@x",
    "0",
    "-1",
)
TEXTS += ("12.5", "1e9", "x" * 80, "30 40 50", "out.star", "average.mrc", "a/b/c.png", "out.csv")
PALETTE = [
    "accept",
    "reject",
    "clear",
    "delete",
    "reset",
    "undo",
    "redo",
    "next_worst",
    "previous_worst",
    "show_arrows",
    "show_surfaces",
    "live",
]
PALETTE += [
    "rotate_x",
    "rotate_y",
    "rotate_z_back",
    "predict_selected",
    "refine_selected",
    "stop",
    "predict",
    "average",
    "export",
]


Act = Callable[["Monkey"], str]
ACTS: dict[str, tuple[Act, float]] = {}
"""Acts by name, and how often each is done beside the others."""


def act(weight: float) -> Callable[[Act], Act]:
    """Register an act; it returns what it did in words, or nothing where it could not."""

    def register(function: Act) -> Act:
        ACTS[function.__name__] = function, weight
        return function

    return register


class Monkey:
    """One viewer, a generator of random numbers, and what was done."""

    def __init__(self, seed: int, world: World) -> None:
        self.rng, self.world = random.Random(seed), world
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1400, 900)
        self.session = session_of(self.viewer)
        self.done: list[str] = []
        self.past = Past()
        if self.rng.random() < 0.8:
            self.session.model = world.model

    @property
    def window(self) -> Any:
        """The viewer's window."""
        return self.viewer.window._qt_window

    @property
    def canvas(self) -> QWidget:
        """The widget that is drawn on."""
        return self.viewer.window._qt_viewer.canvas.native

    def docks(self) -> list[QWidget]:
        """Our docks that are on screen."""
        return [dock for dock in self.session.docks.values() if dock.isVisible()]

    def visible(self, kind: type[Any]) -> list[Any]:
        """Widgets of this class in our docks that a person can use now."""
        found = [widget for dock in self.docks() for widget in dock.findChildren(kind)]
        return [widget for widget in found if widget.isVisible() and widget.isEnabled()]

    def particles(self) -> Points | None:
        """A layer of particles, rather one that was predicted."""
        found = self.session.index.particles(PREDICTED) or self.session.index.particles()
        return self.rng.choice(found) if found else None

    def step(self) -> None:
        """Do one act."""
        names = list(ACTS)
        for _ in range(20):
            name = self.rng.choices(names, weights=[ACTS[name][1] for name in names])[0]
            if words := ACTS[name][0](self):
                self.done.append(f"{name}: {words}")
                return

    def rest(self) -> None:
        """Let the window come to rest, as far as a running job lets it."""
        wait(0.1)
        end = time.monotonic() + 3
        while not self.session.drawing.complete and time.monotonic() < end:
            wait(0.02)

    def faults(self) -> list[str]:
        """What does not hold, a second time too: some of it is shown a moment later."""
        found = faults_of(self.viewer)
        if found:
            wait(0.6)
            found = faults_of(self.viewer)
        return found + list(self.past.check(self.session))


# --- files ------------------------------------------------------------------------------------------------------------


def _drop(target: QWidget, paths: list[Path]) -> str:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.keyClick(target, Qt.Key.Key_F35)  # Qt holds Shift for pressed until another event says that it is not.
    try:
        target.dropEvent(QDropEvent(QPointF(QPoint(50, 50)), Qt.DropAction.CopyAction, data, buttons, keys))
    except ReaderPluginError as error:
        # napari says so of a file that no reader takes.
        if "refused the file" not in str(error):
            raise
    return ", ".join(path.name for path in paths)


@act(5)
def drop_on_canvas(self: Monkey) -> str:
    return _drop(self.viewer.window._qt_viewer, self.world.some(self.rng))


@act(4)
def drop_on_dock(self: Monkey) -> str:
    dock = self.session.docks.get("OrientDock")
    return _drop(dock, self.world.some(self.rng)) if dock is not None and dock.isVisible() else ""


@act(0.4)
def touch_a_list(self: Monkey) -> str:
    path = self.rng.choice(self.world.lists)
    path.write_bytes(path.read_bytes())
    os.utime(path)
    return _drop(self.viewer.window._qt_viewer, [path])


@act(0.15)
def open_sample(self: Monkey) -> str:
    self.viewer.open_sample("napari-orient", "simulated")
    return "simulated"


# --- docks ------------------------------------------------------------------------------------------------------------


@act(3)
def show_page(self: Monkey) -> str:
    name = self.rng.choice([*CARDS, *STEPS])
    page_of(self.viewer, name)
    return name


@act(2)
def open_particles(self: Monkey) -> str:
    dock_of(self.viewer, ParticlesDock)
    return "Particles"


@act(1)
def open_by_menu(self: Monkey) -> str:
    name = self.rng.choice(("Orient", "Particles"))
    self.viewer.window.add_plugin_dock_widget("napari-orient", name)
    return name


@act(1)
def close_a_dock(self: Monkey) -> str:
    docks = [dock for dock in self.docks() if dock.frame is not None]
    if not docks:
        return ""
    dock = self.rng.choice(docks)
    if self.rng.random() < 0.5:
        dock.frame.close()
    else:
        dock.frame.destroyOnClose()
    return dock.title


@act(16)
def click(self: Monkey) -> str:
    buttons = self.visible(QAbstractButton)
    if not buttons:
        return ""
    button = self.rng.choice(buttons)
    words = button.text() or button.toolTip()
    if isinstance(button, QToolButton) and button.menu() is not None:
        return _choose_in_menu(self, button.menu()) or words
    button.click()
    return words


def _choose_in_menu(self: Monkey, menu: QMenu) -> str:
    menu.aboutToShow.emit()
    actions = [item for item in menu.actions() if item.text()]
    if not actions:
        return ""
    action = self.rng.choice(actions)
    action.trigger()
    return f"menu {action.text()!r}"


@act(4)
def start_a_job(self: Monkey) -> str:
    name = self.rng.choice(("Predict", "Predict", "Predict", "Discover", "Train", "Average"))
    card = page_of(self.viewer, name)
    if name == "Discover":
        card.options.show_options(card.options.options().replace(rounds=6, starts=2, search=200, passes=0))
    if name == "Train":
        card.training.widgets["epochs"].value = 3
    wait(0.05)
    if not card.running.start.isEnabled():
        return ""
    card.running.start.click()
    wait(self.rng.choice((0.0, 0.3, 1.5)))
    return name


@act(3)
def await_jobs(self: Monkey) -> str:
    if self.session.jobs.running is None:
        return ""
    end = time.monotonic() + self.rng.choice((1, 5, 20))
    while self.session.jobs.running is not None and time.monotonic() < end:
        wait(0.05)
    return "done" if self.session.jobs.running is None else "not yet"


@act(1)
def stop(self: Monkey) -> str:
    if self.session.jobs.running is None:
        return ""
    commands.stop()
    return "all jobs"


@act(4)
def palette(self: Monkey) -> str:
    name = self.rng.choice(PALETTE)
    getattr(commands, name)()
    return name


@act(5)
def choose(self: Monkey) -> str:
    boxes = [box for box in self.visible(QComboBox) if box.count()]
    if not boxes:
        return ""
    box = self.rng.choice(boxes)
    QTest.keyClick(box, self.rng.choice((Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_Home, Qt.Key.Key_End)))
    return f"{box.accessibleName()} {box.currentText()!r}"


@act(3)
def spin(self: Monkey) -> str:
    boxes = self.visible(QAbstractSpinBox)
    if not boxes:
        return ""
    box = self.rng.choice(boxes)
    if self.rng.random() < 0.6:
        box.stepBy(self.rng.choice((-1, 1, 5, -20)))
    else:
        box.setValue(box.minimum() + self.rng.random() ** 3 * (box.maximum() - box.minimum()))
    return f"{box.accessibleName() or box.toolTip()[:40]} {box.text()!r}"


@act(4)
def write(self: Monkey) -> str:
    lines = [line for line in self.visible(QLineEdit) if not isinstance(line.parent(), QAbstractSpinBox | QComboBox)]
    if not lines:
        return ""
    line, text = self.rng.choice(lines), self.rng.choice((*TEXTS, str(self.rng.choice(self.world.lists))))
    line.setText("")
    QTest.keyClicks(line, text)
    QTest.keyClick(line, Qt.Key.Key_Return)
    return f"{line.accessibleName()} {text!r}"


@act(2)
def slide(self: Monkey) -> str:
    sliders = self.visible(QAbstractSlider)
    if not sliders:
        return ""
    slider = self.rng.choice(sliders)
    with suppress(TypeError):  # Of ranges the keyboard moves the handles.
        slider.setValue(self.rng.randint(int(slider.minimum()), int(slider.maximum())))
    return slider.accessibleName() or type(slider).__name__


@act(4)
def click_in(self: Monkey) -> str:
    places = [*self.visible(QTableView), *self.visible(QListWidget), *self.visible(Chart)]
    if not places:
        return ""
    widget = self.rng.choice(places)
    at = widget.viewport() if hasattr(widget, "viewport") else widget
    keys = self.rng.choice((Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier))
    point = QPoint(self.rng.randrange(max(at.width(), 1)), self.rng.randrange(max(at.height(), 1)))
    QTest.mouseClick(at, Qt.MouseButton.LeftButton, keys, point)
    if isinstance(widget, Chart):
        QTest.mousePress(at, Qt.MouseButton.LeftButton, keys, point)
        QTest.mouseMove(at, QPoint(self.rng.randrange(max(at.width(), 1)), point.y()))
        QTest.mouseRelease(at, Qt.MouseButton.LeftButton, keys, point)
    if isinstance(widget, QTableView):
        header = widget.horizontalHeader()
        if self.rng.random() < 0.3 and header is not None and header.count():
            header.sectionClicked.emit(self.rng.randrange(header.count()))
            widget.sortByColumn(self.rng.randrange(header.count()), Qt.SortOrder.AscendingOrder)
    return widget.accessibleName() or type(widget).__name__


@act(0.5)
def type_a_voxel_size(self: Monkey) -> str:
    page = page_of(self.viewer, "Data")
    wait(0.1)
    if not page.table.rowCount():
        return ""
    item, text = (
        page.table.item(self.rng.randrange(page.table.rowCount()), 1),
        self.rng.choice(("13.5", "10 Å", "x", "0")),
    )
    if not item.flags() & Qt.ItemFlag.ItemIsEditable:
        return ""
    item.setText(text)
    return text


# --- canvas and view --------------------------------------------------------------------------------------------------


@act(10)
def press_a_key(self: Monkey) -> str:
    key = self.rng.choice(KEYS if self.rng.random() < 0.6 else COMBINED)
    *held, last = key.split("-")
    modifiers = Qt.KeyboardModifier.NoModifier
    for name in held:
        modifiers |= getattr(Qt.KeyboardModifier, f"{name}Modifier")
    QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{last}"), modifiers)
    return key


@act(4)
def click_on_canvas(self: Monkey) -> str:
    point = QPoint(self.rng.randrange(self.canvas.width()), self.rng.randrange(self.canvas.height()))
    keys = self.rng.choice((Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier))
    QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, keys, point)
    return f"{point.x()}, {point.y()}"


@act(2)
def change_dimensions(self: Monkey) -> str:
    dims = self.viewer.dims
    what = self.rng.choice(("toggle", "roll", "transpose", "slice"))
    if what == "toggle":
        dims.ndisplay = 5 - dims.ndisplay
    elif what == "roll":
        dims.roll()
    elif what == "transpose":
        dims.transpose()
    elif dims.ndim > 2:
        dims.set_current_step(0, self.rng.randrange(int(dims.nsteps[0]) or 1))
    return what


@act(1)
def resize(self: Monkey) -> str:
    size = self.rng.choice(((1100, 700), (1400, 900), (1600, 1000), (800, 500)))
    self.viewer.window.resize(*size)
    return f"{size}"


@act(0.5)
def change_theme(self: Monkey) -> str:
    self.viewer.theme = "light" if self.viewer.theme == "dark" else "dark"
    return str(self.viewer.theme)


@act(0.5)
def change_font(self: Monkey) -> str:
    size = self.rng.choice((8, 9, 9, 11, 14))
    get_settings().appearance.font_size = size
    return str(size)


# --- napari's own layers ----------------------------------------------------------------------------------------------


def _any_layer(self: Monkey) -> Any:
    return self.rng.choice(list(self.viewer.layers)) if len(self.viewer.layers) else None


@act(5)
def edit_layer_list(self: Monkey) -> str:
    layer = _any_layer(self)
    if layer is None:
        return ""
    name, what = (
        layer.name,
        self.rng.choice(("rename", "move", "hide", "hide", "duplicate", "select", "select", "delete")),
    )
    every = self.viewer.layers
    every.selection = {layer}
    if what == "rename":
        layer.name = self.rng.choice((f"{layer.name} again", "a", "layer of " + 100 * "x", ""))
    elif what == "move":
        every.move(every.index(layer), self.rng.randrange(len(every)))
    elif what == "hide":
        layer.visible = not layer.visible
    elif what == "duplicate":
        _duplicate_layer(every)
    elif what == "delete":
        every.remove_selected()
    return f"{what} {name!r}"


@act(0.25)
def clear_layers(self: Monkey) -> str:
    self.viewer.layers.clear()
    return "all"


@act(0.4)
def remove_several(self: Monkey) -> str:
    every = list(self.viewer.layers)
    chosen = {layer for layer in every if self.rng.random() < 0.5}
    self.viewer.layers.selection = chosen
    self.viewer.layers.remove_selected()
    return ", ".join(layer.name for layer in chosen)


@act(1.5)
def add_a_foreign_layer(self: Monkey) -> str:
    numbers = np.random.default_rng(self.rng.randrange(1000))
    kind = self.rng.choice(
        ("points", "flat points", "image", "rgb", "labels", "shapes", "4D", "anisotropic", "vectors")
    )
    add: dict[str, Callable[[], Any]] = {
        "points": lambda: self.viewer.add_points(numbers.uniform(5, 25, (4, 3)), scale=(13.5,) * 3),
        "flat points": lambda: self.viewer.add_points(numbers.uniform(5, 25, (4, 2))),
        "image": lambda: self.viewer.add_image(numbers.standard_normal((16, 20, 24)), scale=(13.5,) * 3),
        "rgb": lambda: self.viewer.add_image(numbers.random((20, 20, 3)), rgb=True),
        "labels": lambda: self.viewer.add_labels(numbers.integers(0, 3, (8, 10, 10))),
        "shapes": lambda: self.viewer.add_shapes(numbers.uniform(5, 25, (4, 3))),
        "4D": lambda: self.viewer.add_image(numbers.standard_normal((2, 8, 10, 10))),
        "anisotropic": lambda: self.viewer.add_image(numbers.standard_normal((8, 10, 10)), scale=(20, 10, 10)),
        "vectors": lambda: self.viewer.add_vectors(numbers.random((3, 2, 3))),
    }
    add[kind]()
    return kind


@act(1.5)
def change_place(self: Monkey) -> str:
    layer = _any_layer(self)
    if layer is None:
        return ""
    if self.rng.random() < 0.5:
        layer.scale = np.asarray(layer.scale) * self.rng.choice((0.5, 2.0, 1.0))
        return f"scale of {layer.name!r}"
    layer.translate = np.asarray(layer.translate) + self.rng.choice((0.0, 27.0, -27.0))
    return f"translate of {layer.name!r}"


@act(3)
def select_points(self: Monkey) -> str:
    points = self.particles()
    if points is None or not len(points.data):
        return ""
    rows = set(self.rng.sample(range(len(points.data)), self.rng.randint(0, len(points.data))))
    self.viewer.layers.selection = {points}
    points.selected_data = rows
    return f"{len(rows)} of {points.name!r}"


@act(3)
def edit_points(self: Monkey) -> str:
    points = self.particles()
    if points is None:
        return ""
    what = self.rng.choice(("add", "add", "delete", "drag", "mode"))
    self.viewer.layers.selection = {points}
    if what == "add":
        points.add([self.rng.uniform(2, 28) for _ in range(points.ndim)])
    elif what == "delete":
        points.remove_selected()
    elif what == "drag" and len(points.data):
        row = self.rng.randrange(len(points.data))
        points.selected_data = {row}
        points._move([row], [self.rng.uniform(2, 28) for _ in range(points.ndim)])
        points.events.data(value=points.data, action="changed", data_indices=(row,), vertex_indices=((),))
    elif what == "mode":
        points.mode = self.rng.choice(("add", "select", "pan_zoom"))
    return f"{what} in {points.name!r}"


@act(1)
def edit_features(self: Monkey) -> str:
    points = self.particles()
    if points is None:
        return ""
    table, what = points.features, self.rng.choice(("column", "value", "drop", "status"))
    if what == "column":
        points.features = table.assign(mine=np.arange(len(table), dtype=float))
    elif what == "status":
        points.features = table.assign(status=["accepted", ""][len(table) % 2])
    elif what == "drop" and len(table.columns):
        points.features = table.drop(columns=[self.rng.choice(list(table.columns))])
    elif what == "value" and len(table) and len(table.columns):
        column = self.rng.choice(list(table.columns))
        points.features = table.assign(**{column: table[column].to_numpy()[::-1]})
    return f"{what} of {points.name!r}"
