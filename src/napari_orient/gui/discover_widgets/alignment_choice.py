"""A choice of the map whose frame discovered poses are given in: none, a bead model, or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtWidgets import QComboBox, QFileDialog

from napari_orient.engine.io import read_tomogram
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.templates import bead_models, load_template
from napari_orient.gui.widgets import shrinkable

Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""

ANY_FRAME, FROM_FILE = "none", "map from a file…"
KINDS = "Maps (*.mrc *.map *.rec);;All files (*)"


class AlignmentChoice(QComboBox):
    """A combo box of maps, the first entry none."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(
            "Align the discovered map to this map, and give the poses in its frame; none: an arbitrary frame"
        )
        shrinkable(self)
        self.addItem(ANY_FRAME, "")
        for code in bead_models():
            self.addItem(f"{load_template(code).name} (bead model)", code)
        self.addItem(FROM_FILE, None)
        self.activated.connect(self._activated)

    def _activated(self, index: int) -> None:
        if self.itemData(index) is None:
            name, _ = QFileDialog.getOpenFileName(self, "Choose a map", "", KINDS)
            self.choose(name)

    def choose(self, name: str) -> None:
        """Choose a map: a bead model, a file, or (empty) none."""
        if self.findData(name) < 0:
            self.insertItem(self.count() - 1, Path(name).name, name)
        self.setCurrentIndex(self.findData(name))

    def target(self) -> Map | None:
        """The chosen map, or None.

        Raises
        ------
        InputError
            If its file cannot be read.
        """
        name = self.currentData()
        if not name:
            return None
        if name in bead_models():
            template = load_template(name)
            return template.density, template.voxel_size
        found = read_tomogram(name)
        return np.asarray(found.density, np.float32), found.voxel_size
