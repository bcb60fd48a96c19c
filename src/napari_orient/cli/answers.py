"""Answers of the command line: written where they were asked for, or else where there is room, which is said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from napari_orient.engine.errors import InputError, OutputError
from napari_orient.engine.outputs import AnswerT, Place, write_elsewhere
from napari_orient.progress import say


def write_answer(write: Callable[[Place], AnswerT]) -> AnswerT:
    """What ``write`` returns; it writes outputs to the paths that it is given for those asked for.

    Where they cannot be written, a person at a terminal is asked for another folder; without one they are kept in a
    folder that has room.

    Raises
    ------
    OutputError
        If they are not where they were asked for: where they are.
    """
    try:
        return write(lambda path: path)
    except OutputError as error:
        failed = error
    while (folder := _other_folder(failed)) is not None:
        try:
            return _written_to(folder, write)
        except InputError as error:
            failed = OutputError(str(error))
    return write_elsewhere(write, failed)


def _written_to(folder: Path, write: Callable[[Place], AnswerT]) -> AnswerT:
    return write(lambda path: folder / path.name)


def _other_folder(error: OutputError) -> Path | None:
    """A folder that a person names; None where there is no terminal to ask at, or none is named."""
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    say(str(error))
    say("Another folder to write to (empty: it is kept where there is room):")
    named = sys.stdin.readline().strip()
    return Path(named).expanduser() if named else None
