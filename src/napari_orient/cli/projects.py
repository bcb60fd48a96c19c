"""Projects on the command line: the tomograms of a list, a verb done for each, and one list of all particles."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.arguments import Parser
from napari_orient.cli.lists import (
    VOXEL_SIZE_HELP,
    add_reading,
    open_tomogram,
    read_list,
    say_notes,
    say_tomograms,
    volume_text,
)
from napari_orient.cli.selection import add_selection, selected_pairs
from napari_orient.engine.each_tomogram import ProjectResult, Task, for_each_tomogram
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_labelled
from napari_orient.engine.particles import Labelled, Particles, Tomogram
from napari_orient.progress import Stopped, follow, say

if TYPE_CHECKING:
    from napari_orient.engine.parameters import RefinementOptions
    from napari_orient.engine.templates import Template

MIRROR = ("no", "yes", "auto")


def add_project(parser: Parser) -> None:
    """Give the parser tomograms and the list of their picks, and the flags that say how to read them."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="[TOMOGRAM...] PICKS",
        help=f"volumes ({volume_text()}), then the list of their particles; or the list, or a PolNet folder, alone",
    )
    add_selection(parser, what="picks")
    parser.add_argument("--voxel-size", type=float, metavar="Å", help=VOXEL_SIZE_HELP)
    parser.add_argument("--tomogram-name", metavar="NAME", help="its name in the list, where the file's is another")
    parser.add_argument(
        "--tomograms", type=Path, metavar="DIR|STAR", help="where the tomograms are that a list alone names"
    )
    add_reading(parser)


@dataclass(frozen=True, eq=False)
class Project:
    """Tomograms with their picks.

    Parameters
    ----------
    pairs : each tomogram with its own picks.
    left_out : why, by the name of each tomogram given that has no picks in the list.
    """

    pairs: Labelled
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """How many picks there are in which tomogram, or in how many."""
        count = sum(len(particles) for _, particles in self.pairs)
        where = self.pairs[0][0].name if len(self.pairs) == 1 else f"{len(self.pairs)} tomograms"
        return f"{count} picks in {where}"


def read_project(arguments: Namespace) -> Project:
    """Each tomogram of `add_project` with its own picks, of the class asked for.

    Raises
    ------
    InputError
        If a file cannot be read, or no tomogram has picks.
    """
    *tomograms, path = arguments.paths
    if arguments.tomogram_name and len(tomograms) != 1:
        raise InputError(f"--tomogram-name was given with {len(tomograms)} tomograms; expected one.")
    project = _opened(tomograms, path, arguments) if tomograms else Project(_named(path, arguments))
    return replace(project, pairs=selected_pairs(project.pairs, arguments))


def _named(path: Path, arguments: Namespace) -> Labelled:
    pairs = read_labelled(
        path,
        tomograms=arguments.tomograms or arguments.tomograms_star,
        voxel_size=arguments.voxel_size,
        pixel_size=arguments.pixel_size,
        centre=arguments.centre,
    )
    say_tomograms([tomogram for tomogram, _ in pairs])
    say_notes([note for _, particles in pairs for note in particles.notes], arguments)
    return pairs


def _opened(tomograms: list[Path], path: Path, arguments: Namespace) -> Project:
    pairs: list[tuple[Tomogram, Particles]] = []
    left_out = {}
    for item in tomograms:
        tomogram = open_tomogram(item, voxel_size=arguments.voxel_size)
        try:
            named = replace(tomogram, name=arguments.tomogram_name or tomogram.name)
            pairs.append((tomogram, read_list(path, arguments, tomogram=named)))
        except InputError as error:
            if len(tomograms) == 1:
                raise
            left_out[tomogram.name] = str(error)
            say(f"Warning: {tomogram.name} is left out: {error}")
    if not pairs:
        raise InputError(f"{path} has no particles of the {len(tomograms)} tomograms given. Check their names.")
    return Project(pairs, left_out)


def do_project(project: Project, task: Task, write: Callable[[Particles], None]) -> ProjectResult:
    """The result of a task done for each tomogram, written; what is done when Ctrl-C comes is written too.

    Raises
    ------
    Stopped
        By Ctrl-C, if some of several tomograms were done.
    """
    result = ProjectResult(failed=dict(project.left_out))
    try:
        follow(for_each_tomogram(project.pairs, task, result))
    except KeyboardInterrupt as stop:
        if not result.parts:
            raise
        write(result.particles)
        done = f"the {len(result.parts)} of {len(project.pairs)} tomograms that are done were written"
        raise Stopped(f"Stopped: {done}.") from stop
    write(result.particles)
    if result.failed:
        say(f"Warning: {result.failed_words}")
    return result


# --- hand ------------------------------------------------------------------------------------------------------------


def add_mirror(parser: Parser) -> None:
    """Give the parser the flag for the reference's hand."""
    parser.add_argument(
        "--mirror",
        choices=MIRROR,
        nargs="?",
        const="yes",
        default="no",
        help="match the map's mirror image (x -> -x); auto compares both hands over all tomograms first [default no]",
    )


def with_hand(template: Template, pairs: Labelled, options: RefinementOptions, mirror: str) -> Template:
    """The template, or its mirror image where that is asked for or matches better."""
    if mirror == "auto":
        from napari_orient.engine.refinement.hand import choose_hand

        return follow(choose_hand(pairs, template, options))
    return template.mirrored() if mirror == "yes" else template


# --- duplicates -----------------------------------------------------------------------------------------------------


def add_duplicates(parser: Parser) -> None:
    """Give the parser the flag that removes duplicates."""
    parser.add_argument(
        "--remove-duplicates",
        action="store_true",
        help="of particles that lie nearer than --min-distance keep the one of best score",
    )


def checked_duplicates(particles: Particles, distance: float, *, remove: bool) -> Particles:
    """The particles, without duplicates where they are to be removed; how many there are is printed."""
    from napari_orient.engine.duplicates import duplicate_rows

    duplicates = duplicate_rows(particles, distance)
    count = int(duplicates.sum())
    if count == 0:
        return particles
    words = "1 duplicate" if count == 1 else f"{count} duplicates"
    if not remove:
        say(f"{words} within {distance:.0f} Å; --remove-duplicates keeps the particle of best score.")
        return particles
    say(f"{words} within {distance:.0f} Å removed: {len(particles) - count} of {len(particles)} particles remain.")
    return particles.take(~duplicates)
