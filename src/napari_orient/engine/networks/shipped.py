"""The checkpoints that come with the program, by name; found without loading torch."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

SUFFIX = ".safetensors"
DEFAULT_CHECKPOINT = "ribosome"


@cache
def shipped_paths() -> dict[str, Path]:
    """The shipped checkpoints' files by their names."""
    folder = Path(str(files("napari_orient"))) / "checkpoints"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def shipped_checkpoints() -> tuple[str, ...]:
    """The names of the checkpoints that come with the program, the default first."""
    return tuple(sorted(shipped_paths(), key=lambda name: (name != DEFAULT_CHECKPOINT, name)))
