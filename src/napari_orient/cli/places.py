"""Where results go, asked before long work starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.outputs import check_writable


def check_folder(path: Path) -> None:
    """Nothing, if the folder can be filled, or made and then filled; nothing is made yet.

    Raises
    ------
    InputError
        If it is a file, or the place may not be written.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; expected a folder to write into.")
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    check_writable(there / "any")


def has_display() -> bool:
    """Whether a window can be opened here, as far as can be told beforehand."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
