"""Files: written beside their path and renamed, so that they appear whole; and checks before work starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_orient.engine.errors import InputError

_ANYONE_WRITES = 0o222
"""Bits of a file's mode that let its owner, its group or others write."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Context with a temporary path beside ``path``: renamed to it if the block succeeds, else removed.

    A link stays one: the file that it leads to is replaced.

    Raises
    ------
    InputError
        If the folder is missing, is not a folder, or cannot be written; or the file is protected.
    """
    path = Path(path)
    check_writable(path)
    path = path.resolve() if path.is_symlink() else path
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_writable(path: Path | str) -> None:
    """Check that a file can be written at ``path``, before long work starts.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written, the path is a folder, a pipe or a device, or the file is
        protected against writing.
    """
    path = Path(path)
    path = path.resolve() if path.is_symlink() else path
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or a device; expected the name of a file to write.")
    if path.exists() and not path.stat().st_mode & _ANYONE_WRITES:
        raise InputError(f"{path} is protected against writing; name another file, or lift the protection.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder, so {path.name} cannot be written there. Make it first.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path.parent} cannot be written ({reason}); choose another folder.") from error


def existing_file(path: Path | str) -> Path:
    """The path, checked: a file that exists and is not empty.

    Raises
    ------
    InputError
        If there is no such file, it is a folder, or it is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file.")
    if not path.exists():
        raise InputError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); was it copied or downloaded completely?")
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
