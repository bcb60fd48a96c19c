"""Files of maps that a person chooses, with the voxel size that is asked for where a file states none."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QInputDialog, QWidget

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_tomogram

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
