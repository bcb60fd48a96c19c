"""A choice of the map whose frame discovered poses are given in: none, a bead model, or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtWidgets import QComboBox

from napari_orient.engine.io import read_tomogram
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.templates import bead_models, load_template
from napari_orient.gui.map_files import choose_map
from napari_orient.gui.widgets import shrinkable

Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""

ANY_FRAME, FROM_FILE = "none", "map from a file…"
KINDS = "Maps (*.mrc *.map *.rec);;All files (*)"


class AlignmentChoice(QComboBox):
    """A combo box of maps, the first entry none."""

    def __init__(self) -> None:
        super().__init__()
        self._voxel_sizes: dict[str, float] = {}
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
            name, voxel_size = choose_map(self, KINDS)
            self.choose(name, voxel_size=voxel_size)

    def choose(self, name: str, *, voxel_size: float | None = None) -> None:
        """Choose a map: a bead model, a file with its voxel size in Å where it states none, or (empty) none."""
        if voxel_size is not None:
            self._voxel_sizes[name] = voxel_size
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
        found = read_tomogram(name, voxel_size=self._voxel_sizes.get(name))
        return np.asarray(found.density, np.float32), found.voxel_size
