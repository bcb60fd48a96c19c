"""What napari's command palette calls: every action of the docks, in the viewer that is in front.

A command does what its dock's button does, in the dock that the window holds; where it holds none, one is opened, on
the active layer if that serves.
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
    """The dock of this name in the viewer, in front; opened, on the active layer, where it was not there."""
    known = set(map(id, open_docks(viewer)))
    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=bool(known))
    choice, active = getattr(dock, "particles", None), viewer.layers.selection.active
    if id(dock) not in known and isinstance(choice, LayerChoice) and active is not None:
        choice.choose(active)
    frame.show()
    frame.raise_()
    return dock


def open_docks(viewer: napari.Viewer) -> list[Dock]:
    """The docks of ours that the viewer's window holds."""
    return [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, Dock)]


def open_dock(name: str) -> Any:
    """The dock of this name in the viewer in front."""
    return dock_of(_viewer(), name)


def _viewer() -> napari.Viewer:
    viewer = napari.current_viewer()
    if viewer is None:
        raise RuntimeError("no viewer is open")
    return viewer


def _click(button: Any, why_not: str) -> None:
    """Click a button; say why that cannot be, where it cannot."""
    if button.isEnabled():
        button.click()
    else:
        show_error(why_not)


# --- long work --------------------------------------------------------------------------------------------------------


def discover() -> None:
    """Discover as the Discover dock says."""
    _click(open_dock("Discover").running.start, "nothing to discover yet: the Discover dock says what is missing.")


def predict() -> None:
    """Predict as the Predict dock says."""
    dock = open_dock("Predict")
    _click(dock.running.start, "nothing to predict yet: the Predict dock says what is missing, or that it runs.")


def train() -> None:
    """Train as the Train dock says."""
    _click(
        open_dock("Train").running.start, "training cannot begin: the Train dock says what is missing, or that it runs."
    )


def average() -> None:
    """Average as the Average dock says."""
    _click(open_dock("Average").running.start, "nothing to average yet: the Average dock says what is missing.")


def export() -> None:
    """Write what the Export dock says."""
    _click(open_dock("Export").button, "nothing to export yet: name a file in the Export dock, and open particles.")


def stop() -> None:
    """Stop all that runs for the viewer in front; what a training has found is kept."""
    jobs = [job for dock in open_docks(_viewer()) for job in dock.findChildren(Job)]
    for job in jobs:
        job.stop()
    if not jobs:
        show_info("Nothing is running.")


# --- looking ----------------------------------------------------------------------------------------------------------


def next_worst() -> None:
    """Fly to the particle of the next largest error."""
    open_dock("Inspect").go_to_worst(1)


def previous_worst() -> None:
    """Fly back to the one before."""
    open_dock("Inspect").go_to_worst(-1)


def show_arrows() -> None:
    """Show all arrows, or hide them if one is shown."""
    session_of(_viewer()).toggle_arrows()


def show_surfaces() -> None:
    """Show the reference at every pose, or hide it."""
    _click(open_dock("Surface").shown, "no particles with orientations yet: predict some.")


# --- correcting -------------------------------------------------------------------------------------------------------


def undo() -> None:
    """Take the last change of the particles back."""
    _click(open_dock("Correct").history_list.undo, "nothing to undo in the layer that the Correct dock shows.")


def redo() -> None:
    """Make the change taken back last again."""
    _click(open_dock("Correct").history_list.redo, "nothing to redo in the layer that the Correct dock shows.")


def accept() -> None:
    """Accept the selected particles."""
    open_dock("Correct").set_status(ACCEPTED)


def reject() -> None:
    """Reject the selected particles."""
    open_dock("Correct").set_status(REJECTED)


def clear() -> None:
    """Clear the verdict of the selected particles."""
    open_dock("Correct").set_status("")


def delete() -> None:
    """Delete the selected particles."""
    open_dock("Correct").delete()


def reset() -> None:
    """Put the selected particles back to how they were predicted."""
    open_dock("Correct").reset()


def predict_selected() -> None:
    """Predict the selected particles anew."""
    open_dock("Correct").predict()


def refine_selected() -> None:
    """Refine the selected particles against the reference."""
    open_dock("Correct").refine()


def live() -> None:
    """Switch Live on, or off."""
    open_dock("Correct").live_box.click()


def rotate_x() -> None:
    """Turn the selected particles about their own x axis by the dock's step, right-handed."""
    open_dock("Correct").rotation_pad.press("x", 1)


def rotate_x_back() -> None:
    """The same, left-handed."""
    open_dock("Correct").rotation_pad.press("x", -1)


def rotate_y() -> None:
    """Turn the selected particles about their own y axis by the dock's step, right-handed."""
    open_dock("Correct").rotation_pad.press("y", 1)


def rotate_y_back() -> None:
    """The same, left-handed."""
    open_dock("Correct").rotation_pad.press("y", -1)


def rotate_z() -> None:
    """Turn the selected particles about their own z axis by the dock's step, right-handed."""
    open_dock("Correct").rotation_pad.press("z", 1)


def rotate_z_back() -> None:
    """The same, left-handed."""
    open_dock("Correct").rotation_pad.press("z", -1)
