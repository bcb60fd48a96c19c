"""Fenced blocks of the documentation: the commands in them, and what a page says that they print.

A block ``text`` behind a block ``sh`` is part of what its commands print: each of its lines must come, with the same
words and about the same numbers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

RUN_IN_ORDER = ("tutorial.md", "conventions.md", "judging.md", "training.md")
"""Pages whose blocks run as printed, in this order, in one folder."""

PROJECT = "projects.md"
"""The page with a block that makes a project of its own and runs in a folder of its own."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_RELATIVE = 0.25
"""Part by which a printed number may differ from the page's: processors round differently, and poses with them."""
_LAST_DIGITS = 5
"""Units of a number's last digit by which it may differ in any case."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def lines(text: str) -> list[str]:
    """The lines of a shell's block, continued ones joined, without those that are empty or comments."""
    joined = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in joined if line and not line.startswith("#")]


def commands(text: str) -> list[list[str]]:
    """The words of each call of the command line in a block, without its name."""
    return [shlex.split(line, comments=True)[1:] for line in lines(text) if line.startswith("napari-orient ")]


def project_block(folder: Path) -> str:
    """The block of `PROJECT` that simulates its own tomograms, of the documentation in a folder."""
    return next(text for _, text in blocks(folder / PROJECT) if "simulate ribosome" in text)


def lines_that_did_not_come(shown: str, printed: str) -> Iterator[str]:
    """The lines of a page's ``text`` block that have none like them among those printed; ``…`` stands for any."""
    for line in shown.splitlines():
        if line.strip() not in {"", "…"} and not any(_alike(line, other) for other in printed.splitlines()):
            yield line


def _alike(shown: str, printed: str) -> bool:
    """Whether two lines have the same words, and numbers that are about the same."""
    if _NUMBER.sub("#", shown).split() != _NUMBER.sub("#", printed).split():
        return False
    return all(map(_close, _NUMBER.findall(shown), _NUMBER.findall(printed)))


def _close(shown: str, printed: str) -> bool:
    last_digit = 10.0 ** -len(shown.partition(".")[2])
    return abs(float(shown) - float(printed)) <= max(_RELATIVE * float(shown), _LAST_DIGITS * last_digit)
