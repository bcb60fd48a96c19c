"""Commands of napari's palette: every action of the docks, in the current viewer.

A command clicks the button of its page. The Orient dock is opened first if it is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import napari
from napari.utils.notifications import show_error, show_info

from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.gui.docks.orient_dock import POSES, RESULT, VIEW, OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.docks.viewer_dock import ViewerDock
from napari_orient.gui.session.viewer_session import session_of
from napari_orient.gui.widgets.basic import CardPage
from napari_orient.gui.widgets.inputs import LayerChoice

NAMES = {OrientDock: "Orient (Orient)", ParticlesDock: "Particles (Orient)"}
"""What napari's menu calls the frames of the docks; under the same name a command opens no second one."""

CARDS = {
    "Predict": POSES,
    "Discover": POSES,
    "Train": POSES,
    "Average": RESULT,
    "Export": RESULT,
    "Figure": RESULT,
    "Arrows": VIEW,
    "Surface": VIEW,
}
"""Cards by name, and the page that each is on."""

DockT = TypeVar("DockT", bound=ViewerDock)


def dock_of(viewer: napari.Viewer, kind: type[DockT]) -> DockT:
    """The viewer's dock of this class, raised; opened if it was closed."""
    dock = session_of(viewer).docks.get(kind.__name__)
    if not isinstance(dock, kind) or dock.frame is None:
        dock = kind(viewer)
        viewer.window.add_dock_widget(dock, name=NAMES[kind], area=kind.area)
    frame = dock.frame
    if frame is not None:
        frame.show()
        frame.raise_()
    return dock


def page_of(viewer: napari.Viewer, name: str) -> Any:
    """The page or card of this name in the viewer's Orient dock, shown; with the active layer chosen if it was not."""
    dock, step = dock_of(viewer, OrientDock), CARDS.get(name, name)
    before = dock.step
    dock.show_page(step, name if name in CARDS else "")
    page = dock.page(step)
    found = page.card(name) if name in CARDS and isinstance(page, CardPage) else page
    choice, active = getattr(found, "particles", None), viewer.layers.selection.active
    if before != step and isinstance(choice, LayerChoice) and active is not None:
        choice.choose(active)
    return found


def open_page(name: str) -> Any:
    """The page or card of this name in the current viewer."""
    return page_of(_viewer(), name)


def _viewer() -> napari.Viewer:
    viewer = napari.current_viewer()
    if viewer is None:
        raise RuntimeError("no viewer is open")
    return viewer


Command = Callable[[], None]


def _clicks(page: str, button: Callable[[Any], Any], why_not: str) -> Command:
    """A command that clicks a button of a page or card, or shows ``why_not`` as an error if it is disabled."""

    def command() -> None:
        found = button(open_page(page))
        if found.isEnabled():
            found.click()
        else:
            show_error(why_not)

    return command


def _starts(card: str, what: str, step: str) -> Command:
    """A command that starts a card's job with the settings of the card."""
    return _clicks(card, lambda found: found.running.start, f"{what} cannot start: see the page {step}.")


def _does(page: str, act: Callable[[Any], object]) -> Command:
    """A command that does what a page can do."""

    def command() -> None:
        act(open_page(page))

    return command


# --- jobs -------------------------------------------------------------------------------------------------------------

discover = _starts("Discover", "discovery", POSES)
predict = _starts("Predict", "prediction", POSES)
train = _starts("Train", "training", POSES)
average = _starts("Average", "averaging", RESULT)
export = _clicks(
    "Export", lambda card: card.button, "nothing to export: open particles and name a file on the page Result."
)


def stop() -> None:
    """Stop all jobs of the current viewer; a training keeps its best model."""
    if not session_of(_viewer()).jobs.stop():
        show_info("No job is running.")


# --- viewing ----------------------------------------------------------------------------------------------------------

next_worst = _does("Inspect", lambda page: page.go_to_worst(1))
previous_worst = _does("Inspect", lambda page: page.go_to_worst(-1))
show_surfaces = _clicks("Surface", lambda card: card.shown, "no particles with orientations: predict some.")


def show_arrows() -> None:
    """Show all arrows, or hide them if any is visible."""
    session_of(_viewer()).drawing.toggle_arrows()


# --- correcting -------------------------------------------------------------------------------------------------------

undo = _does("Correct", lambda page: page.undo())
redo = _does("Correct", lambda page: page.redo())
accept = _does("Correct", lambda page: page.set_status(ACCEPTED))
reject = _does("Correct", lambda page: page.set_status(REJECTED))
clear = _does("Correct", lambda page: page.set_status(""))
delete = _does("Correct", lambda page: page.delete())
reset = _does("Correct", lambda page: page.reset())
predict_selected = _does("Correct", lambda page: page.predict())
refine_selected = _does("Correct", lambda page: page.refine())
live = _does("Correct", lambda page: page.live_box.click())
rotate_x = _does("Correct", lambda page: page.rotation_pad.press("x", 1))
rotate_x_back = _does("Correct", lambda page: page.rotation_pad.press("x", -1))
rotate_y = _does("Correct", lambda page: page.rotation_pad.press("y", 1))
rotate_y_back = _does("Correct", lambda page: page.rotation_pad.press("y", -1))
rotate_z = _does("Correct", lambda page: page.rotation_pad.press("z", 1))
rotate_z_back = _does("Correct", lambda page: page.rotation_pad.press("z", -1))
