"""Commands of napari's palette: every action of the docks, in the current viewer.

A command clicks its dock's button. A dock that is not open is opened first, on the active layer if that is suitable.
"""

from __future__ import annotations

from typing import Any

import napari
from napari.utils.notifications import show_error, show_info

from napari_orient.engine.inspection.corrections import ACCEPTED, REJECTED
from napari_orient.gui.jobs import Job
from napari_orient.gui.session import session_of
from napari_orient.gui.widgets import Dock, LayerChoice

PLUGIN = "napari-orient"


def dock_of(viewer: napari.Viewer, name: str) -> Any:
    """The dock of this name in the viewer, raised; opened on the active layer if it was closed."""
    before = set(map(id, open_docks(viewer)))
    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=bool(before))
    choice, active = getattr(dock, "particles", None), viewer.layers.selection.active
    if id(dock) not in before and isinstance(choice, LayerChoice) and active is not None:
        choice.choose(active)
    frame.show()
    frame.raise_()
    return dock


def open_docks(viewer: napari.Viewer) -> list[Dock]:
    """The docks of napari-orient in the viewer's window."""
    return [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, Dock)]


def open_dock(name: str) -> Any:
    """The dock of this name in the current viewer."""
    return dock_of(_viewer(), name)


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
    """Start discovery with the Discover dock's settings."""
    _click(open_dock("Discover").running.start, "discovery cannot start: see the Discover dock.")


def predict() -> None:
    """Start prediction with the Predict dock's settings."""
    dock = open_dock("Predict")
    _click(dock.running.start, "prediction cannot start: see the Predict dock.")


def train() -> None:
    """Start training with the Train dock's settings."""
    _click(open_dock("Train").running.start, "training cannot start: see the Train dock.")


def average() -> None:
    """Start averaging with the Average dock's settings."""
    _click(open_dock("Average").running.start, "averaging cannot start: see the Average dock.")


def export() -> None:
    """Write the file of the Export dock."""
    _click(open_dock("Export").button, "nothing to export: open particles and name a file in the Export dock.")


def stop() -> None:
    """Stop all jobs of the current viewer; a training keeps its best model."""
    jobs = [job for dock in open_docks(_viewer()) for job in dock.findChildren(Job)]
    for job in jobs:
        job.stop()
    if not jobs:
        show_info("No job is running.")


# --- viewing ----------------------------------------------------------------------------------------------------------


def next_worst() -> None:
    """Go to the particle with the next largest error."""
    open_dock("Inspect").go_to_worst(1)


def previous_worst() -> None:
    """Go back to the previous particle."""
    open_dock("Inspect").go_to_worst(-1)


def show_arrows() -> None:
    """Show all arrows, or hide them if any is visible."""
    session_of(_viewer()).toggle_arrows()


def show_surfaces() -> None:
    """Show the reference at every pose, or hide it."""
    _click(open_dock("Surface").shown, "no particles with orientations: predict some.")


# --- correcting -------------------------------------------------------------------------------------------------------


def undo() -> None:
    """Undo the last edit of particles."""
    _click(open_dock("Correct").history_list.undo, "nothing to undo in the Correct dock's layer.")


def redo() -> None:
    """Redo the edit that was undone last."""
    _click(open_dock("Correct").history_list.redo, "nothing to redo in the Correct dock's layer.")


def accept() -> None:
    """Accept the selected particles."""
    open_dock("Correct").set_status(ACCEPTED)


def reject() -> None:
    """Reject the selected particles."""
    open_dock("Correct").set_status(REJECTED)


def clear() -> None:
    """Clear the status of the selected particles."""
    open_dock("Correct").set_status("")


def delete() -> None:
    """Delete the selected particles."""
    open_dock("Correct").delete()


def reset() -> None:
    """Restore the predicted poses of the selected particles."""
    open_dock("Correct").reset()


def predict_selected() -> None:
    """Predict the selected particles again."""
    open_dock("Correct").predict()


def refine_selected() -> None:
    """Refine the selected particles against the reference."""
    open_dock("Correct").refine()


def live() -> None:
    """Switch live prediction on or off."""
    open_dock("Correct").live_box.click()


def rotate_x() -> None:
    """Rotate the selected particles about their own x axis by the dock's step, right-handed."""
    open_dock("Correct").rotation_pad.press("x", 1)


def rotate_x_back() -> None:
    """The same, left-handed."""
    open_dock("Correct").rotation_pad.press("x", -1)


def rotate_y() -> None:
    """Rotate the selected particles about their own y axis by the dock's step, right-handed."""
    open_dock("Correct").rotation_pad.press("y", 1)


def rotate_y_back() -> None:
    """The same, left-handed."""
    open_dock("Correct").rotation_pad.press("y", -1)


def rotate_z() -> None:
    """Rotate the selected particles about their own z axis by the dock's step, right-handed."""
    open_dock("Correct").rotation_pad.press("z", 1)


def rotate_z_back() -> None:
    """The same, left-handed."""
    open_dock("Correct").rotation_pad.press("z", -1)
