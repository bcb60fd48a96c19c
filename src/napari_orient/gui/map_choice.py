"""Choices of a map: the reference of the particles, the map that discovered poses are aligned to, and files of maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QInputDialog, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.templates import Template, bead_models, load_template
from napari_orient.gui.session import Session
from napari_orient.gui.widgets import listen, shrinkable

_USUAL = 10.0
"""Å that the question begins with: the voxel size of PolNet's templates."""

_SMALLEST, _LARGEST = 0.01, 1000.0
"""Bounds of the answer, Å."""


def choose_map(parent: QWidget, kinds: str) -> tuple[str, float | None]:
    """File that a person chooses in a dialog, and the voxel size in Å that they give for one that states none.

    The file is empty where a dialog was cancelled; the size is None where the file states it.

    Parameters
    ----------
    kinds : filters of the dialog, as Qt wants them.
    """
    name, _ = QFileDialog.getOpenFileName(parent, "Choose a map", "", kinds)
    if not name or not _lacks_voxel_size(name):
        return name, None
    question = f"{Path(name).name} states no voxel size that can be used (0, 1.0 or not cubic). Voxel size in Å:"
    size, given = QInputDialog.getDouble(parent, "Voxel size of the map", question, _USUAL, _SMALLEST, _LARGEST, 4)
    return (name, float(size)) if given else ("", None)


def _lacks_voxel_size(name: str) -> bool:
    """Whether a file is a volume that can be read once its voxel size is given."""
    for voxel_size in (None, _USUAL):
        try:
            read_tomogram(name, voxel_size=voxel_size)
        except InputError:
            continue
        return voxel_size is not None
    return False


KINDS = "Maps and models (*.mrc *.map *.rec *.safetensors);;All files (*)"
FROM_FILE = "from a file…"


@lru_cache(maxsize=8)
def _cached_reference(name: str, written: float, voxel_size: float | None) -> Template:
    from napari_orient.engine.prediction import load_model

    template = load_model(name) if name in shipped_models() else load_template(name, voxel_size=voxel_size)
    if not isinstance(template, Template):
        raise InputError(f"{name} is a network, which holds no map. Choose a template or a map.")
    return template.checked_cube()


def read_reference(name: str, *, voxel_size: float | None = None) -> Template:
    """The template of this name: a shipped one, a bead model, or a file of a map or a template.

    Parameters
    ----------
    voxel_size : Å; of a map's file that states none.

    Raises
    ------
    InputError
        If there is none, it is a network, or its map is no cube.
    """
    path = Path(name)
    return _cached_reference(name, path.stat().st_mtime if path.exists() else 0.0, voxel_size)


def is_template(name: str) -> bool:
    """Whether there is a model of this name and it is a template."""
    from napari_orient.engine.prediction import load_model

    try:
        return bool(name) and isinstance(load_model(name), Template)
    except InputError:
        return False


class ReferenceChoice(QComboBox):
    """A choice of reference; ``chosen`` emits its name. The model in use comes first if it is a template."""

    chosen = Signal(str)

    def __init__(self, session: Session, *, kinds: Callable[[], list[str]]) -> None:
        super().__init__()
        self.session, self._kinds = session, kinds
        self._voxel_sizes: dict[str, float] = {}
        self.setToolTip("Map of the particle: of the template in use, a bead model of the program, or a file")
        shrinkable(self)
        self._fill()
        listen(self, session.events.model, self._fill)
        self.activated.connect(self._activated)

    @property
    def name(self) -> str:
        """The name of the chosen reference, or its file."""
        return str(self.currentData() or "")

    @property
    def voxel_size(self) -> float | None:
        """Voxel size in Å that was given for the chosen file; None where it states its own."""
        return self._voxel_sizes.get(self.name)

    def template(self) -> Template:
        """The chosen template.

        Raises
        ------
        InputError
            As `read_reference`.
        """
        return read_reference(self.name, voxel_size=self.voxel_size)

    def choose(self, name: str, *, voxel_size: float | None = None) -> None:
        """Choose this reference: a listed name, or a file, with its voxel size in Å where it states none."""
        if voxel_size is not None:
            self._voxel_sizes[name] = voxel_size
        if self.findData(name) < 0:
            self.insertItem(self.count() - 1, Path(name).name, name)
        self.setCurrentIndex(self.findData(name))
        self.chosen.emit(name)

    def choose_by_class(self) -> None:
        """Choose the bead model of the particles' class, if there is one and no template is in use."""
        for kind in self._kinds():
            code = kind.removeprefix("pdb_")
            if code in bead_models() and not self.itemText(0).startswith("of "):
                self.choose(code)
                return

    def _fill(self, event: object = None) -> None:
        kept = self.name
        own = [self.session.model] if is_template(self.session.model) else []
        self.blockSignals(True)
        self.clear()
        for name in own:
            self.addItem(f"of {Path(name).stem}, the model in use", name)
        for code in bead_models():
            self.addItem(f"{load_template(code).name} (bead model)", code)
        self.addItem(FROM_FILE, None)
        if kept and self.findData(kept) < 0:
            self.insertItem(self.count() - 1, Path(kept).name, kept)
        self.setCurrentIndex(max(0, self.findData(own[0] if own else kept)))
        self.blockSignals(False)

    def _activated(self, index: int) -> None:
        if self.itemData(index) is None:
            name, voxel_size = choose_map(self, KINDS)
            if not name:
                self.setCurrentIndex(0)
                return
            self.choose(name, voxel_size=voxel_size)
        else:
            self.chosen.emit(self.name)


Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""

ANY_FRAME, MAP_FROM_FILE = "none", "map from a file…"
MAP_KINDS = "Maps (*.mrc *.map *.rec);;All files (*)"


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
        self.addItem(MAP_FROM_FILE, None)
        self.activated.connect(self._activated)

    def _activated(self, index: int) -> None:
        if self.itemData(index) is None:
            name, voxel_size = choose_map(self, MAP_KINDS)
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
