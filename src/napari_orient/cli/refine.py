"""Polish the poses of a tomogram's particles against a reference map, or find them from picks alone.

TOMOGRAM is a volume (MRC, OME-Zarr, EM, HDF5 or TIFF), PICKS a list of positions; angles in it serve as further
starts. The reference is a map of the particle (an MRC file, particle bright, or the name of a bead model). Wedge,
noise and contrast are learnt from the tomogram itself. OUT gets the particles recentred, with angles, confidence and
expected error.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from napari_orient import __version__
from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.cli.lists import add_picks, check_list, read_picks, summary, with_group
from napari_orient.engine.io import write_particles
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.progress import follow, say

EXAMPLE = """\
  napari-orient refine Tomo001_rec.mrc picks.star --reference 4v4r.mrc --output refined.star
  napari-orient refine Tomo001_rec.mrc oriented.star --reference ribosome --output refined.star"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    add_picks(parser)
    parser.add_argument("--reference", required=True, metavar="MAP|NAME", help="map of the particle, or a bead model")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv")
    parser.add_argument(
        "--symmetry",
        metavar="GROUP",
        help="of the map, with its axes where they are not z and x: D7@z@x; auto proposes what the map shows",
    )
    add_options(parser, RefinementOptions, title="refinement")


def perform(arguments: Namespace) -> None:
    """Read, refine, write."""
    from napari_orient.engine.refinement.refine import refine
    from napari_orient.engine.templates import load_template

    check_list(arguments.output)
    options = options_from(arguments, RefinementOptions())
    template = load_template(arguments.reference)
    template = with_group(template, arguments.symmetry)
    tomogram, picks = read_picks(arguments)
    words = f"{template.name}, {template.group.name}"
    say(f"{len(picks)} picks in {tomogram.name}; {words}")
    refined = follow(refine(tomogram, picks, template, options))
    origin = f"napari-orient {__version__}: refined against {words}, {refined.precision}"
    write_particles(arguments.output, refined.particles, provenance=origin)
    print(f"{arguments.output}: {summary(refined.particles)}")
