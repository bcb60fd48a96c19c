"""Progress on standard error: a line that is rewritten on a terminal or in a notebook, lines now and then elsewhere.

A work that is quiet says warnings and errors alone.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from napari_orient.engine.environment import printable
from napari_orient.engine.streams import Step, seconds_left

ResultT = TypeVar("ResultT")

REWRITE_PAUSE = 0.1
"""Least seconds between two states of a line that is rewritten: fast enough to seem alive."""
APPEND_PAUSE = 5.0
"""Least seconds between two lines in a log, which keeps them all."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user stopped the work; the text says what is kept."""


WARNING = "Warning: "
"""What a line begins with that a quiet work says too."""


@dataclass
class _Said:
    """What has been said in this work, and whether it is quiet.

    Parameters
    ----------
    lines : the last ones, without those of progress, printed or not.
    """

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    quiet: bool = False


_SAID = _Said()


def say(text: str, *, always: bool = False) -> None:
    """Print one line on standard error, where it never mixes with results; if nobody reads there, the work goes on.

    Parameters
    ----------
    always : print it in a quiet work too, as warnings are.
    """
    _SAID.lines.append(text)
    if always or not _SAID.quiet or text.startswith(WARNING):
        _print(f"{printable(text)}\n")


def _print(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _print_progress(text: str) -> None:
    if not _SAID.quiet:
        _print(text)


def heard() -> tuple[str, ...]:
    """The last lines that were said since the work began, oldest first."""
    return tuple(_SAID.lines)


def forget() -> None:
    """Begin a new work, of which nothing has been said, and which is not quiet."""
    _SAID.lines.clear()
    _SAID.quiet = False


def be_quiet() -> None:
    """Say warnings and errors alone from now on, until the next work begins."""
    _SAID.quiet = True


def at_terminal() -> bool:
    """Whether a person reads both results and what is said, at a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def follow(stream: Generator[Step, None, ResultT], *, title: str = "") -> ResultT:
    """The stream's answer; its steps are shown with the time left, its notes stay, and Ctrl-C closes it.

    A title stands before every step, and alone in the last line; without one, the last step's message stands there.
    """
    line = _ProgressLine(title)
    try:
        while True:
            line.show(next(stream))
    except StopIteration as end:
        line.finish()
        answer: ResultT = end.value
        return answer
    finally:
        stream.close()
        line.erase()


def in_notebook() -> bool:
    """Whether standard error is the output of a notebook's cell, which rewrites lines as a terminal does."""
    return type(sys.stderr).__module__.startswith("ipykernel")


def time_words(seconds: float) -> str:
    """A span of time in words: ``40 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _ProgressLine:
    """The line of progress."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rewrites = sys.stderr is not None and (sys.stderr.isatty() or in_notebook())
        self.pause = REWRITE_PAUSE if self.rewrites else APPEND_PAUSE
        self.start = self.shown = time.monotonic()
        self.last: Step | None = None

    def show(self, step: Step) -> None:
        """Show the step, unless the last one was shown too short a time ago; its notes always, each on a line."""
        for note in step.notes:
            self.erase()
            say(str(note))
        first, self.last = self.last is None, step
        now = time.monotonic()
        if first or now - self.shown >= self.pause:
            self.shown = now
            self._write(self._words(step))

    def finish(self) -> None:
        """Leave a last line that says how long it took."""
        if self.last is not None:
            self.erase()
            taken = time_words(time.monotonic() - self.start)
            _print_progress(f"{printable(self.title or self.last.message)}: done in {taken}\n")
            self.last = None

    def erase(self) -> None:
        """Erase the line, where it is rewritten."""
        if self.rewrites and self.last is not None:
            _print_progress("\r\x1b[K")

    def _words(self, step: Step) -> str:
        left = seconds_left(step, time.monotonic() - self.start)
        stage = f"{self.title}: {step.message}" if self.title else step.message
        words = f"{stage}  {step.done}/{step.total}"
        return words if left is None else f"{words}  {time_words(left)} left"

    def _write(self, words: str) -> None:
        if self.rewrites:
            width = shutil.get_terminal_size().columns - 1
            _print_progress(f"\r{printable(words)[:width]}\x1b[K")
        else:
            _print_progress(f"{printable(words)}\n")
