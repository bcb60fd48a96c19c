"""The Particles dock, at the bottom: filter, table, plot and patch of the particles of the tomogram that is shown."""

from __future__ import annotations

from typing import ClassVar

from qtpy.QtWidgets import QGridLayout

from napari_orient.gui.viewer_dock import ViewerDock
from napari_orient.gui.widgets import NoteLabel


class ParticlesDock(ViewerDock):
    """An empty frame: `build` makes its contents, left to right in a grid.

    ``self.session`` is the viewer's state: ``session.index`` has the layers, ``session.tomograms`` the tomogram that is
    shown, ``session.inspection`` the errors of particles. The outer layout is a grid, since napari adds a stretch to a
    column.
    """

    title: ClassVar[str] = "Particles"
    area: ClassVar[str] = "bottom"

    def build(self) -> None:
        """Make the dock's widgets."""
        self.setMinimumHeight(160)
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 4, 8, 4)
        self.note = NoteLabel("No particles open yet.")
        grid.addWidget(self.note, 0, 0)
