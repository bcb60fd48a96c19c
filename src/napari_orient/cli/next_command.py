"""The next command, said in one line at the end of a verb: to a person at a terminal, never to a script or a pipe."""

from __future__ import annotations

import shlex
from argparse import Namespace
from itertools import count
from pathlib import Path

from napari_orient.engine.particles import Labelled
from napari_orient.progress import at_terminal, say

Words = list[str]
"""Words of a command line."""

_MOST_FILES = 3
"""Tomograms that are named one by one in a command; of more, their folder is named. Chosen: a line on a screen."""

_READING = {
    "tomograms": "--tomograms",
    "voxel_size": "--voxel-size",
    "tomogram_name": "--tomogram-name",
    "pixel_size": "--pixel-size",
    "tomograms_star": "--tomograms-star",
    "first_voxel": "--first-voxel",
    "kind": "--class",
    "where": "--where",
}
"""Arguments that say how a list and its tomograms are read, and which particles are meant, with their flags."""

_OF_VOLUMES = ("voxel_size", "tomogram_name")
"""Those that are true of the tomograms, whichever list they are read with."""


def say_next(verb: str, *words: Path | str) -> None:
    """Say the command that goes on from here, to be copied."""
    if at_terminal():
        say(f"Next: napari-orient {shlex.join([verb, *map(str, words)])}")


def same_inputs(arguments: Namespace) -> Words:
    """The words that name the verb's own inputs again: paths, and the flags by which they were read."""
    return [*map(str, arguments.paths), *_flags(arguments, tuple(_READING))]


def with_tomograms(arguments: Namespace, pairs: Labelled, particles: Path) -> Words | None:
    """The words that name the tomograms of the pairs, and then another list of their particles.

    None where no few words do: of tomograms in memory, or in many folders.
    """
    files = [tomogram.path for tomogram, _ in pairs]
    known = [path for path in files if path is not None]
    folders = {path.parent for path in known}
    if len(known) < len(files) or not files:
        return None
    flags = _flags(arguments, _OF_VOLUMES)
    if len(files) <= _MOST_FILES:
        return [*map(str, files), str(particles), *flags]
    if len(folders) == 1:
        return [*map(str, folders), str(particles), *flags]
    # A folder of folders, or a pattern, was given; beside a list that is named its own lists are left out.
    given = [str(path) for path in arguments.paths if not path.is_file()]
    return [*given, str(particles), *flags] if given else None


def say_next_of_poses(arguments: Namespace, pairs: Labelled, *, then: str) -> None:
    """Say the command that takes a list of poses just written: a report or an average of it.

    Parameters
    ----------
    then : ``"report"`` or ``"average"``; with a report written already, the average follows.
    """
    poses: Path = arguments.output
    words = with_tomograms(arguments, pairs, poses)
    if words is None or not poses.exists():
        return
    if then == "report" and arguments.report is None:
        say_next("report", *words, "--output", unused(poses.with_suffix(".html")))
    else:
        say_next("average", *words, "--output", unused(poses.with_name(f"{poses.stem}_average.mrc")))


def unused(path: Path) -> Path:
    """The path, or the first numbered one beside it that is not there: a copied command replaces no file."""
    numbered = (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in count(2))
    return path if not path.exists() else next(item for item in numbered if not item.exists())


def _flags(arguments: Namespace, names: tuple[str, ...]) -> Words:
    """Flags of these arguments that were given, with their values."""
    given = {name: getattr(arguments, name, None) for name in names}
    return [word for name, value in given.items() if value is not None for word in (_READING[name], f"{value}")]
