"""Commands of napari's palette: every action of the docks, in the current viewer.

A command clicks the button of its page. The Orient dock is opened first if it is closed.
"""

from __future__ import annotations

from typing import Any, TypeVar

import napari
from napari.utils.notifications import show_error, show_info

from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.gui.orient_dock import POSES, RESULT, VIEW, OrientDock
from napari_orient.gui.particles_dock import ParticlesDock
from napari_orient.gui.session import session_of
from napari_orient.gui.viewer_dock import ViewerDock
from napari_orient.gui.widgets import CardPage, LayerChoice

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
    found = page.card(name) if isinstance(page, CardPage) else page
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


def _click(button: Any, why_not: str) -> None:
    """Click a button, or show ``why_not`` as an error if it is disabled."""
    if button.isEnabled():
        button.click()
    else:
        show_error(why_not)


# --- jobs -------------------------------------------------------------------------------------------------------------


def discover() -> None:
    """Start discovery with the settings of its card."""
    _click(open_page("Discover").running.start, "discovery cannot start: see the page Poses.")


def predict() -> None:
    """Start prediction with the settings of its card."""
    dock = open_page("Predict")
    _click(dock.running.start, "prediction cannot start: see the page Poses.")


def train() -> None:
    """Start training with the settings of its card."""
    _click(open_page("Train").running.start, "training cannot start: see the page Poses.")


def average() -> None:
    """Start averaging with the settings of its card."""
    _click(open_page("Average").running.start, "averaging cannot start: see the page Result.")


def export() -> None:
    """Write the file that the page Result names."""
    _click(open_page("Export").button, "nothing to export: open particles and name a file on the page Result.")


def stop() -> None:
    """Stop all jobs of the current viewer; a training keeps its best model."""
    if not session_of(_viewer()).jobs.stop():
        show_info("No job is running.")


# --- viewing ----------------------------------------------------------------------------------------------------------


def next_worst() -> None:
    """Go to the particle with the next largest error."""
    open_page("Inspect").go_to_worst(1)


def previous_worst() -> None:
    """Go back to the previous particle."""
    open_page("Inspect").go_to_worst(-1)


def show_arrows() -> None:
    """Show all arrows, or hide them if any is visible."""
    session_of(_viewer()).drawing.toggle_arrows()


def show_surfaces() -> None:
    """Show the reference at every pose, or hide it."""
    _click(open_page("Surface").shown, "no particles with orientations: predict some.")


# --- correcting -------------------------------------------------------------------------------------------------------


def undo() -> None:
    """Undo the last edit of particles."""
    _click(open_page("Correct").history_list.undo, "nothing to undo in the layer on the page Correct.")


def redo() -> None:
    """Redo the edit that was undone last."""
    _click(open_page("Correct").history_list.redo, "nothing to redo in the layer on the page Correct.")


def accept() -> None:
    """Accept the selected particles."""
    open_page("Correct").set_status(ACCEPTED)


def reject() -> None:
    """Reject the selected particles."""
    open_page("Correct").set_status(REJECTED)


def clear() -> None:
    """Clear the status of the selected particles."""
    open_page("Correct").set_status("")


def delete() -> None:
    """Delete the selected particles."""
    open_page("Correct").delete()


def reset() -> None:
    """Restore the predicted poses of the selected particles."""
    open_page("Correct").reset()


def predict_selected() -> None:
    """Predict the selected particles again."""
    open_page("Correct").predict()


def refine_selected() -> None:
    """Refine the selected particles against the reference."""
    open_page("Correct").refine()


def live() -> None:
    """Switch live prediction on or off."""
    open_page("Correct").live_box.click()


def rotate_x() -> None:
    """Rotate the selected particles about their own x axis by the page's step, right-handed."""
    open_page("Correct").rotation_pad.press("x", 1)


def rotate_x_back() -> None:
    """The same, left-handed."""
    open_page("Correct").rotation_pad.press("x", -1)


def rotate_y() -> None:
    """Rotate the selected particles about their own y axis by the page's step, right-handed."""
    open_page("Correct").rotation_pad.press("y", 1)


def rotate_y_back() -> None:
    """The same, left-handed."""
    open_page("Correct").rotation_pad.press("y", -1)


def rotate_z() -> None:
    """Rotate the selected particles about their own z axis by the page's step, right-handed."""
    open_page("Correct").rotation_pad.press("z", 1)


def rotate_z_back() -> None:
    """The same, left-handed."""
    open_page("Correct").rotation_pad.press("z", -1)
