"""The command line: the program's verbs without a screen; results on standard output, all else on standard error."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from napari_orient import __version__
from napari_orient.cli.arguments import Parser, make_parser
from napari_orient.engine.allocator import keep_freed_memory
from napari_orient.engine.environment import machine_error, os_error_words
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import UnknownOptionWarning
from napari_orient.engine.outputs import planned_outputs
from napari_orient.engine.streams import NoteWarning
from napari_orient.progress import Stopped, be_quiet, forget, say

if TYPE_CHECKING:
    from argparse import Namespace

PROGRAM = "napari-orient"

VERBS = {
    "discover": "find structure and poses from picks alone, without labels or a template",
    "demo": "simulate a tomogram, predict its orientations, show them",
    "simulate": "make tomograms with particles of given poses",
    "train": "train a network, or average a template, on tomograms with labelled particles",
    "predict": "find the orientation of every particle of a tomogram",
    "refine": "refine poses against a reference map, or find them by it",
    "average": "average particles in their poses, with half maps and resolution",
    "evaluate": "compare predicted with true orientations",
    "report": "write a page on the poses of a list: errors, views, failures, particles",
    "convert": "convert a particle list to another format",
    "export": "write a list for RELION, Warp, M, tomoDRGN or cryoDRGN, with the command to type there",
    "reproduce": "run the paper's experiment, from simulation to its table and figures",
    "models": "list the networks and templates that come with the program",
    "about": "say what a file is: model, list, tomogram, map or report",
}
_LONGEST_LINE = 1500
"""Characters of an error that are printed; chosen: names in files may have any length."""
_OLD_VERBS = {"checkpoints": "models"}
"""Verbs as version 0.1.0 called them; they still work."""

EXAMPLE = """\
  napari-orient predict tomogram.mrc picks.star --model ribosome --output oriented.star
  napari-orient VERB --help     the arguments of a verb, with an example"""


class Verb(Protocol):
    """Interface of the module of a verb; its docstring is the verb's description."""

    __doc__: str | None
    EXAMPLE: str

    def declare(self, parser: Parser) -> None:
        """Give the parser the verb's arguments."""

    def outputs(self, arguments: Namespace) -> Sequence[Path]:
        """The files that the verb will write; a verb that fills a folder has none, and claims the folder."""

    def perform(self, arguments: Namespace) -> int | None:
        """Exit status of the verb's work; None for 0."""


def main(words: Sequence[str] | None = None) -> int:
    """Exit status of one verb: 0, or 2 and a line on what the user can correct, or 130 when stopped by Ctrl-C.

    A request to end (SIGTERM, as a scheduler sends it when time is up) stops the work as Ctrl-C does.
    """
    forget()
    if words is None:
        keep_freed_memory()
    try:
        with _plain_streams(), _notes_in_one_line(), _stopped_by_request():
            return _run(list(sys.argv[1:] if words is None else words))
    except (KeyboardInterrupt, Stopped) as stop:
        say(str(stop) or "Stopped.", always=True)
        return 130
    except BrokenPipeError:
        # The reader of standard output is closed (as by head).
        _print_no_more()
        return 1
    except Exception as error:
        line = machine_error(error)
        if line is None:
            raise
        words = str(line)
        say(f"{PROGRAM}: {words if len(words) <= _LONGEST_LINE else f'{words[:_LONGEST_LINE]}…'}", always=True)
        return 2


def parser_of(name: str) -> tuple[Verb, Parser]:
    """Verb of this name, and the parser of its arguments."""
    verb = cast(Verb, import_module(f"{__name__}.{name}"))
    parser = make_parser(f"{PROGRAM} {name}", description=verb.__doc__, example=verb.EXAMPLE)
    verb.declare(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="say warnings and errors alone: no progress, notes or next command"
    )
    return verb, parser


@contextmanager
def _plain_streams() -> Iterator[None]:
    """Context in which characters that a stream's code page lacks are printed as escapes; results are written out."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A stream may have been replaced below Python.
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Files have their own errors by now; one that names no file is of standard output.
        if error.filename is not None or isinstance(error, BrokenPipeError):
            raise
        _print_no_more()
        raise InputError(f"standard output cannot be written: {os_error_words(error)}.") from error


def _open_closed_streams() -> None:
    """Open the standard streams that were closed on the null device.

    The next file that is opened would take the number of a closed one, and get what a library prints; and libraries
    write to the streams as they are imported (NumPy 2.0).
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open to the end


def _print_no_more() -> None:
    """Have nothing printed on standard output, not even at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _stopped_by_request() -> Iterator[None]:
    """Context in which SIGTERM stops the work as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _notes_in_one_line() -> Iterator[None]:
    """Context that prints the program's own warnings as notes, without the line of the source."""
    with warnings.catch_warnings():
        show_as_before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], file: str, line: int, *more: Any) -> None:
            if issubclass(category, (UnknownOptionWarning, NoteWarning)):
                say(f"Note: {message}")
            else:
                show_as_before(message, category, file, line, *more)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _run(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    first = [_OLD_VERBS.get(word, word) for word in words[:1]]
    verb, parser = parser_of(_parser().parse_args(first or ["--help"]).verb)
    arguments = parser.parse_args(words[1:])
    if arguments.quiet:
        be_quiet()
    try:
        with planned_outputs(verb.outputs(arguments)):
            return verb.perform(arguments) or 0
    except InputError as error:
        error.args = (parser.in_flags(str(error)), *error.args[1:])
        raise


def _parser() -> Parser:
    """Parser of the first word alone: a verb declares its arguments when it is called, which keeps this quick."""
    description = "Orientations of the macromolecules in cryo-electron tomograms."
    parser = make_parser(PROGRAM, description=description, example=EXAMPLE)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    width = max(map(len, VERBS))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in VERBS.items())
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do; see below")
    parser.epilog = f"verbs:\n{listing}\n\n{parser.epilog}"
    return parser
