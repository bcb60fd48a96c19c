"""Choices of a map: the reference of the particles, the map that discovered poses are aligned to, and files of maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.templates import Template, bead_class, bead_models, load_template
from napari_orient.gui.event_loop import listen
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.basic import Choice, silent

_USUAL = 10.0
"""Å that the question begins with: the voxel size of PolNet's templates."""

_SMALLEST, _LARGEST = 0.01, 1000.0
"""Bounds of the answer, Å."""

FROM_FILE = "from a file…"

Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""


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


@lru_cache(maxsize=8)
def _cached_reference(name: str, written: float, voxel_size: float | None) -> Template:
    from napari_orient.engine.prediction.predict import load_model

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
    from napari_orient.engine.prediction.predict import load_model

    try:
        return bool(name) and isinstance(load_model(name), Template)
    except InputError:
        return False


class MapChoice(Choice):
    """A choice among bead models, other names, and a file; ``chosen`` is emitted with the name that is chosen.

    Parameters
    ----------
    kinds : filters of the dialog for a file, as Qt wants them.
    at_first : name that is chosen at first, and where the dialog is cancelled; the first entry where it is empty.
    """

    chosen = Signal(str)

    def __init__(self, tip: str, *, kinds: str, at_first: str = "") -> None:
        super().__init__()
        self._kinds, self._at_first = kinds, at_first
        self._voxel_sizes: dict[str, float] = {}
        self.setToolTip(tip)
        self._fill()
        self.activated.connect(self._activated)

    def others(self) -> list[tuple[str, str]]:
        """Entries before the bead models: texts and names."""
        return []

    @property
    def name(self) -> str:
        """The name of the map chosen, or its file."""
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
        """Choose this map: a listed name, or a file, with its voxel size in Å where it states none."""
        if voxel_size is not None:
            self._voxel_sizes[name] = voxel_size
        self._offer(name)
        self.setCurrentIndex(self.findData(name))
        self.chosen.emit(name)

    def _offer(self, name: str) -> None:
        if self.findData(name) < 0:
            self.insertItem(self.count() - 1, Path(name).name, name)

    def _fill(self, event: object = None) -> None:
        kept, others = self.name, self.others()
        with silent(self):
            self.clear()
            for text, name in others:
                self.addItem(text, name)
            for code in bead_models():
                self.addItem(f"{bead_class(code)} (bead model)", code)
            self.addItem(FROM_FILE, None)
            if kept:
                self._offer(kept)
            self.setCurrentIndex(max(0, self.findData(others[0][1] if others else kept or self._at_first)))

    def _activated(self, index: int) -> None:
        if self.itemData(index) is not None:
            self.chosen.emit(self.name)
            return
        name, voxel_size = choose_map(self, self._kinds)
        if name:
            self.choose(name, voxel_size=voxel_size)
        else:
            self.setCurrentIndex(max(0, self.findData(self._at_first)))


class ReferenceChoice(MapChoice):
    """A choice of the particles' reference; the model in use comes first if it is a template."""

    def __init__(self, session: Session, *, kinds: Callable[[], list[str]]) -> None:
        """``kinds`` gives the classes of the particles."""
        self.session, self._classes = session, kinds
        super().__init__(
            "Map of the particle: of the template in use, a bead model of the program, or a file",
            kinds="Maps and models (*.mrc *.map *.rec *.safetensors);;All files (*)",
        )
        listen(self, session.events.model, self._fill)

    def others(self) -> list[tuple[str, str]]:
        """The model in use, if it is a template."""
        model = self.session.model
        return [(f"of {Path(model).stem}, the model in use", model)] if is_template(model) else []

    def choose_by_class(self) -> None:
        """Choose the bead model of the particles' class, if there is one and no template is in use."""
        for kind in self._classes():
            code = kind.removeprefix("pdb_")
            if code in bead_models() and not self.others():
                self.choose(code)
                return


class AlignmentChoice(MapChoice):
    """A choice of the map that discovered poses are aligned to, at first none."""

    def __init__(self) -> None:
        super().__init__(
            "Align the discovered map to this map, and give the poses in its frame; none: an arbitrary frame",
            kinds="Maps (*.mrc *.map *.rec);;All files (*)",
        )

    def others(self) -> list[tuple[str, str]]:
        """No map."""
        return [("none", "")]

    def target(self) -> Map | None:
        """The chosen map, or None.

        Raises
        ------
        InputError
            If its file cannot be read.
        """
        if not self.name:
            return None
        if self.name in bead_models():
            template = load_template(self.name)
            return template.density, template.voxel_size
        found = read_tomogram(self.name, voxel_size=self.voxel_size)
        return np.asarray(found.density, np.float32), found.voxel_size
