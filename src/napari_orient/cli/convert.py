"""Convert a particle list from any program's format to any other's; docs/formats.md has them all.

The format of IN is recognised by its content, that of OUT by --dialect, else by its suffix. Other columns are carried
through. A list whose coordinates count from a tomogram's centre, or in its voxels, needs its size: give the tomogram,
or RELION's tomograms.star. IN may be several lists, by a folder, a pattern or a project: one list is written.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.answers import write_answer
from napari_orient.cli.arguments import LENGTH, Parser
from napari_orient.cli.lists import (
    VOXEL_SIZE_HELP,
    add_expansion,
    add_hand,
    add_reading,
    add_selection,
    add_writing,
    check_import_list,
    check_optimisation_set,
    counted,
    in_symmetry_frame,
    list_outputs,
    moved_as_asked,
    open_tomogram,
    read_list,
    say_notes,
    selected,
    write_beside,
    written_pixel_size,
    written_text,
)
from napari_orient.cli.next_command import say_next
from napari_orient.cli.projects import add_duplicates, checked_duplicates, read_named_project
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_particles
from napari_orient.engine.io.dialects import writing_dialect
from napari_orient.engine.io.dialects.relion_coordinates import ANY_SIZE, SizeUnknownError
from napari_orient.engine.io.tomograms import LEFT_OUT
from napari_orient.engine.io.volumes.zarr_store import is_zarr
from napari_orient.engine.outputs import Place
from napari_orient.engine.particles import Particles, Tomogram, concatenate, in_list_order
from napari_orient.engine.tomogram.outside import outside_words
from napari_orient.progress import say

if TYPE_CHECKING:
    from napari_orient.engine.io.dialects.dialect import Dialect

EXAMPLE = """\
  napari-orient convert tomo_001_motif_list.csv particles.star --tomogram tomo_001_rec.mrc
  napari-orient convert particles.star particles.csv
  napari-orient convert run_data.star aligned.tbl --tomogram TS_01.mrc
  napari-orient convert refined.star expanded.star --symmetry C7 --expand-symmetry"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument(
        "source", type=Path, metavar="IN", help="particle list to read; or a folder, pattern or project of several"
    )
    parser.add_argument("target", type=Path, metavar="OUT", help=f"particle list to write: {written_text()}")
    add_selection(parser)
    add_source(parser)
    add_writing(parser)
    add_hand(parser)
    add_expansion(parser)


def add_source(parser: Parser) -> None:
    """Give the parser the flags that say what a list's tomograms are, how it is read, and which particles are one."""
    parser.add_argument("--tomogram", type=Path, metavar="FILE", help="the tomogram that the particles lie in")
    parser.add_argument(
        "--tomograms", type=Path, metavar="DIR|STAR", help="the tomograms of IN, where it names several"
    )
    parser.add_argument("--voxel-size", **LENGTH, help=VOXEL_SIZE_HELP)
    parser.add_argument("--tomogram-name", metavar="NAME", help="its name in the list, where the file's is another")
    parser.add_argument("--min-distance", **LENGTH, help="count particles nearer than this as one, picked twice")
    add_duplicates(parser)
    add_reading(parser)


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The list, and what stands beside it."""
    return list_outputs(arguments.target, arguments, dialect=arguments.dialect)


def perform(arguments: Namespace) -> int | None:
    """Read one, write the other."""
    failed = write_converted(with_tomograms_of_folder(arguments)).failed
    say_next("about", arguments.target)
    return 1 if failed else None


def with_tomograms_of_folder(arguments: Namespace) -> Namespace:
    """The arguments; a folder that ``--tomogram`` names is one of several, as for ``--tomograms``."""
    place = arguments.tomogram
    if place is None or arguments.tomograms is not None or not place.is_dir() or is_zarr(place):
        return arguments
    return Namespace(**{**vars(arguments), "tomogram": None, "tomograms": place})


@dataclass(frozen=True, eq=False)
class Converted:
    """What was written: the particles, Å of the pixels that were asked for, and whether some could not be read."""

    particles: Particles
    pixel_size: float | None
    failed: bool


def write_converted(arguments: Namespace) -> Converted:
    """What was read of the one list, chosen, and written as the other, which is printed."""
    dialect = writing_dialect(arguments.target, arguments.dialect)
    check_optimisation_set(dialect, arguments)
    tomogram, particles, failed = _read(arguments, dialect)
    particles = selected(particles, arguments)
    if outside := outside_words(particles):
        say(f"Warning: {outside}")
    if arguments.min_distance is not None:
        particles = checked_duplicates(particles, arguments.min_distance, remove=arguments.remove_duplicates)
    elif arguments.remove_duplicates:
        raise InputError("--remove-duplicates was given without --min-distance; give the distance in Å, such as 100.")
    particles = in_symmetry_frame(moved_as_asked(particles, arguments), arguments)
    check_import_list(arguments.target, particles, arguments)

    pixel_size = written_pixel_size(dialect, arguments, tomogram, particles)

    def write(place: Place) -> Path:
        path = place(arguments.target)
        notes = write_particles(
            path,
            particles,
            dialect=arguments.dialect,
            pixel_size=pixel_size,
            first_voxel=arguments.out_first_voxel,
            centre=arguments.out_centre,
            provenance=_provenance(arguments),
        )
        write_beside(path, particles, arguments, pixel_size=pixel_size)
        say_notes(notes)
        return path

    print(f"{write_answer(write)}: {counted(particles)}, {_words(particles.rotations is not None)}")
    return Converted(particles, pixel_size, failed)


def _read(arguments: Namespace, dialect: Dialect) -> tuple[Tomogram | None, Particles, bool]:
    """The tomogram that gives the size of voxels, the particles, and whether some tomogram could not be read."""
    if arguments.tomograms is None:
        tomogram = arguments.tomogram and open_tomogram(arguments.tomogram, voxel_size=arguments.voxel_size)
        named = tomogram and replace(tomogram, name=arguments.tomogram_name or tomogram.name)
        particles = _read_list(arguments, dialect, named)
        if any(note.startswith(LEFT_OUT) for note in particles.notes):
            say("Note: --tomograms takes the folder of all tomograms.")
        return tomogram, particles, False
    if arguments.tomogram is not None:
        raise InputError("--tomogram and --tomograms were given; expected the tomogram of the list, or those of it.")
    arguments.paths = [arguments.source]
    project = read_named_project(arguments)
    sizes = {tomogram.voxel_size for tomogram, _ in project.pairs}
    every = in_list_order(concatenate([particles for _, particles in project.pairs]))
    return (project.pairs[0][0] if len(sizes) == 1 else None), every, bool(project.failed)


def _read_list(arguments: Namespace, dialect: Dialect, tomogram: Tomogram | None) -> Particles:
    """The list; from RELION 5 to RELION 5 also where the tomograms' sizes are unknown, for centres stay centres."""
    try:
        return read_list(arguments.source, arguments, tomogram=tomogram)
    except SizeUnknownError as error:
        sized = (arguments.optimisation_set, arguments.import_list, arguments.mirror, arguments.rotate_x)
        if dialect.name != "relion5" or any(sized) or arguments.centre != arguments.out_centre:
            raise
        say_notes(["The tomograms' sizes are unknown: coordinates count from their centres, before as after."])
        sizes = dict.fromkeys(error.tomograms, ANY_SIZE)
        found = read_list(arguments.source, arguments, tomogram=tomogram, extents=sizes)
        return found.replace(extents={**found.extents, **sizes})


def _provenance(arguments: Namespace) -> str:
    """Where the list is from, and whether its tomogram was mirrored or turned."""
    moved = [f"mirrored ({arguments.mirror})"] if arguments.mirror else []
    moved += [f"rotated about x ({arguments.rotate_x}°)"] if arguments.rotate_x else []
    return ", ".join([f"napari-orient {__version__}: converted from {arguments.source.name}", *moved])


def _words(oriented: bool) -> str:
    return "with orientations" if oriented else "orientations unknown"
