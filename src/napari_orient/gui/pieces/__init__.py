"""The pieces that docks are made of: sections, notes, a choice of layer, a row for a file, one for a running job."""

from napari_orient.gui.pieces.choices import LayerChoice, checkable, show_classes
from napari_orient.gui.pieces.later import Later
from napari_orient.gui.pieces.listening import listen
from napari_orient.gui.pieces.paths import DropTarget, FileRow, PathList
from napari_orient.gui.pieces.plain import (
    ACCENT,
    BAD,
    GOOD,
    MUTED,
    WARNING,
    Dock,
    Fold,
    Note,
    labelled,
    primary_button,
    row,
    shrinkable,
    size_box,
)
from napari_orient.gui.pieces.running import JobRow

__all__ = [
    "ACCENT",
    "BAD",
    "GOOD",
    "MUTED",
    "WARNING",
    "Dock",
    "DropTarget",
    "FileRow",
    "Fold",
    "JobRow",
    "Later",
    "LayerChoice",
    "Note",
    "PathList",
    "checkable",
    "labelled",
    "listen",
    "primary_button",
    "row",
    "show_classes",
    "shrinkable",
    "size_box",
]
