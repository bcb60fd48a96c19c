"""The errors that a person can mend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

_ALIKE = 0.75
"""Least likeness (difflib's ratio) of two words of which one is taken for the other misspelt; chosen: ``--devise`` and
``--device`` have 0.88, ``--diameter`` and ``--symmetry`` 0.6, ``gpu`` and ``cpu`` 0.67."""


class InputError(ValueError):
    """Something that the user can mend: what was given, what was expected, what to do, in one line.

    Doors catch this class alone: the CLI prints the line and exits with 2, a dock shows a notification.
    Any other exception is our fault and flies with its traceback.
    """


class OutputError(InputError):
    """An output that cannot be written, through no fault of what was asked: a full disk, a quota, a lost server.

    What was to be written is still there: a door lets another place be given, or writes it elsewhere and says where.
    """


_NAME = re.compile(r"(?<![\w./\\'-])(?<!, )[a-z]+(?:_[a-z]+)+(?!['\w,]|[./\\-]\w)")
"""A name of several words as Python writes it; no part of a file's name, nor what was given, which is in quotes, nor
one of many columns with commas between."""


def with_names(message: str, names: Mapping[str, str]) -> str:
    """The message with options named as a door names them, such as ``--lowest-tilt`` for ``lowest_tilt``."""
    return _NAME.sub(lambda match: names.get(match[0], match[0]), message)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """``; did you mean OTHER?`` where a text is nearly one that is known, or the beginning of one alone; else empty."""
    known = list(known)
    begun = [other for other in known if other.startswith(text)]
    nearest = begun if len(begun) == 1 else get_close_matches(text, known, n=1, cutoff=_ALIKE)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def expected_one_of(text: str, known: Iterable[str]) -> str:
    """``; expected one of A, B``, after the nearest of them where a text is nearly that."""
    known = list(known)
    guess = did_you_mean(text, known)
    return f"{guess}{' E' if guess else '; e'}xpected one of {', '.join(known)}"
