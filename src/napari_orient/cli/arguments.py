"""Options and the command line: every declared option becomes a flag, and every mistake one line."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from napari_orient.engine.errors import InputError, did_you_mean, expected_one_of, with_names
from napari_orient.engine.options import Options, Parameter, Value

OptionsT = TypeVar("OptionsT", bound=Options)


_NARROWEST = 20
"""Fewest columns that a help is laid out for; chosen."""

_LIKE_OPTION = re.compile(r"--?[^\W\d]\S*$")
"""A word that is meant for an option: numbers below 0 and expressions with blanks are not."""


class Parser(argparse.ArgumentParser):
    """A parser whose every error is an InputError: one line that names where help is.

    Expert options are parsed like all others, but only ``--help-all`` shows them.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register("type", Path, _path)
        self.register("type", None, _text)
        self._expert_help: dict[argparse.Action, str] = {}

    def add_expert(self, action: argparse.Action) -> None:
        """Hide an argument from ``--help``; the first one brings ``--help-all``."""
        if not self._expert_help:
            self.add_argument("--help-all", action=_HelpAll, help="show this help with all options, and exit")
        self._expert_help[action] = action.help or ""
        action.help = argparse.SUPPRESS

    def show_experts(self) -> None:
        """Show the hidden arguments in the help from now on."""
        for action, text in self._expert_help.items():
            action.help = text
        self._expert_help.clear()

    def format_help(self) -> str:
        """The help; where arguments are hidden, its last line says how many and how they are shown."""
        hidden = len(self._expert_help)
        return super().format_help() + (f"\n{hidden} more options: {self.prog} --help-all\n" if hidden else "")

    def in_flags(self, message: str) -> str:
        """A message in which options are named as this parser takes them: ``--lowest-tilt`` for ``lowest_tilt``."""
        flags = (flag for action in self._actions for flag in action.option_strings)
        return with_names(message, {flag.lstrip("-").replace("-", "_"): flag for flag in flags})

    def error(self, message: str) -> NoReturn:
        """Raise the message instead of printing it with the usage."""
        raise InputError(f"{message} (see {self.prog} --help).")

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """The arguments of the words of a command line.

        A misspelt option is named before anything else: argparse says first that the one it stands for is missing.

        Raises
        ------
        InputError
            If a word is no option, an argument is missing, or a value does not fit.
        """
        known = [flag for action in self._actions for flag in action.option_strings]
        words = None if args is None else [_at_home(word) for word in args]
        for word in takewhile(lambda word: word != "--", words or ()):
            name = word.partition("=")[0]
            if _LIKE_OPTION.match(name) and name not in known:
                self.error(_unknown_option(name, word, known))
        return super().parse_args(words, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check that a value is among an argument's choices, in this program's words."""
        if action.choices is None or value in action.choices:
            return
        raise argparse.ArgumentError(action, f"{value!r} given{expected_one_of(str(value), map(str, action.choices))}")


def _path(text: str) -> Path:
    """The path of a text.

    Raises
    ------
    ArgumentTypeError
        If the text is empty, which would stand for the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty name given; expected a file or folder. Is a shell variable empty?")
    return Path(text)


def _text(text: str) -> str:
    """The text.

    Raises
    ------
    ArgumentTypeError
        If it is empty, which would pass for an option that is not given.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("nothing given; expected a word. Is a shell variable empty?")
    return text


def _at_home(word: str) -> str:
    """The word with ``~/`` as the person's own folder: shells leave it as it is in quotes and behind ``--output=``."""
    option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value == "~" or value.startswith("~/"):
        # Without HOME there is no such folder.
        with suppress(RuntimeError):
            value = str(Path(value).expanduser())
    return f"{option}{sign}{value}"


def _unknown_option(name: str, word: str, known: Sequence[str]) -> str:
    """What is wrong with a word that begins as an option and is none."""
    if Path(word).exists():
        return f"{word} is no option; the file of this name is given as ./{word}"
    return f"{name} is no option{did_you_mean(name, known)}"


def length(text: str) -> float:
    """The length of a text, Å.

    Raises
    ------
    ArgumentTypeError
        If it is no number above 0, or of more than 10 µm.
    """
    return _number_up_to(text, _LONGEST, f"a length in Å above 0 and up to {_LONGEST:,}, such as 12.5")


_LONGEST = 100_000
"""Å of the longest length, 10 µm: no tomogram is wider. A number above it has another unit, or lacks its point."""
LENGTH: dict[str, Any] = {"type": length, "metavar": "Å"}
"""Settings of an argument that is a length in Å."""


def angle(text: str) -> float:
    """The angle of a text, degrees.

    Raises
    ------
    ArgumentTypeError
        If it is no number above 0 and up to 180.
    """
    return _number_up_to(text, 180, "degrees above 0 and up to 180")


def _number_up_to(text: str, high: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value <= high and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} given; expected {expected}")
    return value


def whole_number(low: int) -> Callable[[str], int]:
    """What gives the whole number of a text, and raises an ArgumentTypeError where it is none of at least ``low``."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r} given; expected a whole number of at least {low}")
        return int(text)

    return read


class _HelpAll(argparse.Action):
    """The flag that prints the whole help."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the help with everything in it, and exit."""
        if isinstance(parser, Parser):
            parser.show_experts()
        parser.print_help()
        parser.exit()


def make_parser(program: str, *, description: str | None, example: str) -> Parser:
    """Parser with a description of the verb (None under ``python -OO``), and an example at the end of its help."""
    width = max(_NARROWEST, min(shutil.get_terminal_size().columns - 2, 100))
    paragraphs = [textwrap.fill(text, width) for text in (description or "").strip().split("\n\n")]
    return Parser(
        prog=program,
        description="\n\n".join(paragraphs),
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_options(parser: Parser, kind: type[Options], *, title: str, leave_out: Container[str] = ()) -> None:
    """Give the parser a flag for each declared option but those left out, under a title.

    A flag that is not given leaves nothing behind, so that `options_from` can begin from any preset. Earlier names of
    an option are flags too, which no help shows.
    """
    group = parser.add_argument_group(title)
    for parameter in kind.parameters():
        if parameter.name in leave_out:
            continue
        declared = {"dest": parameter.name, "default": argparse.SUPPRESS, **_declared(parameter)}
        action = group.add_argument(_flag(parameter.name), **declared)
        if parameter.expert:
            parser.add_expert(action)
        for name in parameter.aliases:
            group.add_argument(_flag(name), **{**declared, "help": argparse.SUPPRESS})


def options_from(arguments: argparse.Namespace, base: OptionsT) -> OptionsT:
    """Base options with the values given on the command line in place of theirs.

    Raises
    ------
    InputError
        If a value does not fit its declaration.
    """
    given = vars(arguments)
    return base.replace(**{item.name: given[item.name] for item in base.parameters() if item.name in given})


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _declared(parameter: Parameter) -> dict[str, Any]:
    """Arguments of an option for argparse."""
    # argparse reads % in a help text as a placeholder.
    help_text = f"{parameter.help} [{_facts(parameter)}]".replace("%", "%%")
    if parameter.type is bool:
        return {"action": argparse.BooleanOptionalAction, "help": help_text}
    if parameter.choices:
        return {"choices": parameter.choices, "help": help_text}
    return {"type": _reader(parameter), "metavar": _metavar(parameter), "help": help_text}


def _facts(parameter: Parameter) -> str:
    """Bounds, unit and default, in words."""
    facts = [f"default {_words(parameter.default)}"]
    if not parameter.choices and (parameter.low is not None or parameter.high is not None):
        facts.append(parameter.expected.removeprefix("a number ").removeprefix("a whole number "))
    elif parameter.unit:
        facts.append(parameter.unit)
    return "; ".join(facts)


def _words(value: Value) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(parameter: Parameter) -> str:
    return {int: "N", float: parameter.unit if parameter.unit in ("Å", "°") else "X"}.get(parameter.type, "TEXT")


def _reader(parameter: Parameter) -> Callable[[str], Value]:
    """What turns an option's text into its value; ``none`` stands for None where the option may be unknown."""

    def read(text: str) -> Value:
        if parameter.optional and text.lower() == "none":
            return None
        try:
            value: Value = parameter.type(text if parameter.type is not str else _text(text))
            parameter.check(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} given; expected {parameter.expected}") from error
        return value

    return read
