"""The same verbs without a screen. Results go to standard output, everything else to standard error."""

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
from napari_orient.cli.progress import Stopped, say
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import UnknownOptionWarning

if TYPE_CHECKING:
    from argparse import Namespace

PROGRAM = "napari-orient"

VERBS = {
    "discover": "find structure and poses from picks alone, without labels or a template",
    "demo": "simulate a tomogram, predict its orientations, show them",
    "simulate": "make tomograms with particles of given poses",
    "train": "train a network, or average a template, on tomograms with labelled particles",
    "predict": "give every particle of a tomogram its orientation",
    "refine": "polish poses against a reference map, or find them by it",
    "average": "average particles in their poses, with half maps and resolution",
    "evaluate": "compare predicted with true orientations",
    "convert": "turn one particle list into another kind",
    "reproduce": "run the paper's experiment, from simulation to its table and figures",
    "models": "list the networks and templates that come with the program",
}
_OLD_VERBS = {"checkpoints": "models"}
"""Verbs as version 0.1.0 called them; they still work."""

EXAMPLE = """\
  napari-orient predict tomogram.mrc picks.star --model ribosome --output oriented.star
  napari-orient VERB --help     tells all about a verb, with an example"""


class Verb(Protocol):
    """What a module of this package offers for its verb; its docstring is the verb's description."""

    __doc__: str
    EXAMPLE: str

    def declare(self, parser: Parser) -> None:
        """Give the parser the verb's arguments."""

    def perform(self, arguments: Namespace) -> int | None:
        """Do it; the exit status, where it is not 0."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; 0, or 2 and one line for what the user can mend, or 130 when stopped by Ctrl-C."""
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
        # The reader of our results has gone (as head does); nothing is left to be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser_of(name: str) -> tuple[Verb, Parser]:
    """The verb of this name, and the parser that knows its arguments."""
    verb = cast(Verb, import_module(f"{__name__}.{name}"))
    parser = make_parser(f"{PROGRAM} {name}", description=verb.__doc__, example=verb.EXAMPLE)
    verb.declare(parser)
    return verb, parser


@contextmanager
def _notes_in_one_line() -> Iterator[None]:
    """Show what a file holds beyond this version as a note, without the place in the source."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], file: str, line: int, *more: Any) -> None:
            if issubclass(category, UnknownOptionWarning):
                say(f"Note: {message}")
            else:
                usual(message, category, file, line, *more)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _run(words: list[str]) -> int:
    first = [_OLD_VERBS.get(word, word) for word in words[:1]]
    verb, parser = parser_of(_parser().parse_args(first or ["--help"]).verb)
    return verb.perform(parser.parse_args(words[1:])) or 0


def _parser() -> Parser:
    """The parser of the first word alone: a verb declares its arguments when it is called, which keeps this quick."""
    description = "How every macromolecule in a cryo-electron tomogram is turned."
    parser = make_parser(PROGRAM, description=description, example=EXAMPLE)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    width = max(map(len, VERBS))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in VERBS.items())
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do; see below")
    parser.epilog = f"verbs:\n{listing}\n\n{parser.epilog}"
    return parser
