"""Projects on the command line: tomograms and the lists of their picks, the hand of a map, and duplicates."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.arguments import Parser
from napari_orient.cli.lists import (
    VOXEL_SIZE_HELP,
    add_reading,
    volume_text,
)
from napari_orient.cli.selection import add_selection
from napari_orient.engine.particles import Labelled, Particles
from napari_orient.progress import follow, say

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
        help=f"volumes ({volume_text()}), then the list of their particles; or the list alone; or folders, patterns, "
        "and projects of RELION, Warp, copick or PolNet",
    )
    add_selection(parser, what="picks")
    parser.add_argument("--voxel-size", type=float, metavar="Å", help=VOXEL_SIZE_HELP)
    parser.add_argument("--tomogram-name", metavar="NAME", help="its name in the list, where the file's is another")
    parser.add_argument(
        "--tomograms", type=Path, metavar="DIR|STAR", help="where the tomograms are that a list alone names"
    )
    add_reading(parser)


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


def hand_to_match(arguments: Namespace) -> str:
    """The hand asked for; as given where it would have to be found in the tomograms, and nothing is to be done."""
    return "no" if arguments.dry_run and arguments.mirror == "auto" else str(arguments.mirror)


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
