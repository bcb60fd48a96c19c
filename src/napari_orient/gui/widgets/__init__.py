"""Widgets that docks are made of: sections, notes, a choice of layer, rows for files and for a running job."""

from napari_orient.gui.widgets.basic import (
    ACCENT,
    BAD,
    GOOD,
    MUTED,
    WARNING,
    CardPage,
    Fold,
    NoteLabel,
    Panel,
    equal_width_row,
    labelled,
    primary_button,
    row,
    shrinkable,
    size_box,
)
from napari_orient.gui.widgets.choices import LayerChoice, checkable, show_classes
from napari_orient.gui.widgets.connections import listen
from napari_orient.gui.widgets.deferred import Deferred
from napari_orient.gui.widgets.job_row import JobRow
from napari_orient.gui.widgets.paths import DropTarget, FileRow, PathList, list_filter

__all__ = [
    "ACCENT",
    "BAD",
    "GOOD",
    "MUTED",
    "WARNING",
    "CardPage",
    "Deferred",
    "Dock",
    "DropTarget",
    "FileRow",
    "Fold",
    "JobRow",
    "LayerChoice",
    "NoteLabel",
    "Panel",
    "PathList",
    "checkable",
    "equal_width_row",
    "labelled",
    "list_filter",
    "listen",
    "primary_button",
    "row",
    "show_classes",
    "shrinkable",
    "size_box",
]
