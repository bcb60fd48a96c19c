"""The command line: the program's verbs without a screen; results on standard output, all else on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from napari_orient import __version__
from napari_orient.cli.arguments import Parser, make_parser
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import UnknownOptionWarning
from napari_orient.progress import Stopped, say

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
    "convert": "convert a particle list to another format",
    "reproduce": "run the paper's experiment, from simulation to its table and figures",
    "models": "list the networks and templates that come with the program",
}
_OLD_VERBS = {"checkpoints": "models"}
"""Verbs as version 0.1.0 called them; they still work."""

EXAMPLE = """\
  napari-orient predict tomogram.mrc picks.star --model ribosome --output oriented.star
  napari-orient VERB --help     the arguments of a verb, with an example"""


class Verb(Protocol):
    """Interface of the module of a verb; its docstring is the verb's description."""

    __doc__: str
    EXAMPLE: str

    def declare(self, parser: Parser) -> None:
        """Give the parser the verb's arguments."""

    def perform(self, arguments: Namespace) -> int | None:
        """Exit status of the verb's work; None for 0."""


def main(words: Sequence[str] | None = None) -> int:
    """Exit status of one verb: 0, or 2 and a line on what the user can correct, or 130 when stopped by Ctrl-C."""
    try:
        with _notes_in_one_line():
            return _run(list(sys.argv[1:] if words is None else words))
    except InputError as error:
        say(f"{PROGRAM}: {error}")
        return 2
    except (KeyboardInterrupt, Stopped) as stop:
        say(str(stop) or "Stopped.")
        return 130
    except BrokenPipeError:
        # The reader of standard output is closed (as by head): print no more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser_of(name: str) -> tuple[Verb, Parser]:
    """Verb of this name, and the parser of its arguments."""
    verb = cast(Verb, import_module(f"{__name__}.{name}"))
    parser = make_parser(f"{PROGRAM} {name}", description=verb.__doc__, example=verb.EXAMPLE)
    verb.declare(parser)
    return verb, parser


@contextmanager
def _notes_in_one_line() -> Iterator[None]:
    """Context that prints warnings of unknown options in files as notes, without the line of the source."""
    with warnings.catch_warnings():
        show_as_before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], file: str, line: int, *more: Any) -> None:
            if issubclass(category, UnknownOptionWarning):
                say(f"Note: {message}")
            else:
                show_as_before(message, category, file, line, *more)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _run(words: list[str]) -> int:
    first = [_OLD_VERBS.get(word, word) for word in words[:1]]
    verb, parser = parser_of(_parser().parse_args(first or ["--help"]).verb)
    return verb.perform(parser.parse_args(words[1:])) or 0


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
