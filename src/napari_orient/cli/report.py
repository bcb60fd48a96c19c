"""Report on the poses of a list: one page of HTML that needs no other file, for reading, mailing and printing.

The last argument is a list of particles with angles; before it may stand their tomograms, from which particles are
shown. With TRUTH the errors are true ones, else the expected errors of the list. The page has the histogram of the
errors beside that of random rotations, the directions, failure regions, the ten worst and best particles beside their
reference, and what the poses come from.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from napari_orient.cli.answers import add_failures, model_words, report_outputs, write_report
from napari_orient.cli.arguments import LENGTH, Parser
from napari_orient.cli.lists import VOXEL_SIZE_HELP, add_reading, add_selection, open_tomogram, read_list, selected
from napari_orient.cli.projects import check_reference_flags
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.particles import concatenate
from napari_orient.engine.symmetry import symmetry

EXAMPLE = """\
  napari-orient report oriented.star --output report.html
  napari-orient report Tomo001_rec.mrc oriented.star --truth tomo_001_motif_list.csv --class 4v4r \\
      --reference ribosome --output report.html"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="[TOMOGRAM...] POSES", help="tomograms, then their list")
    parser.add_argument(
        "--output", dest="report", type=Path, required=True, metavar="PAGE", help="page to write: .html"
    )
    parser.add_argument("--truth", type=Path, metavar="TRUTH", help="list with true angles, to compare with")
    add_selection(parser, what="true particles")
    parser.add_argument("--reference", metavar="MAP|NAME", help="map, or template, to show in the poses")
    parser.add_argument("--reference-voxel-size", **LENGTH, help="that map's, where its header is wrong")
    parser.add_argument("--symmetry", metavar="GROUP", help="errors are taken modulo it [default: the reference's]")
    add_failures(parser, diameter="particle's [default: the reference's]")
    parser.add_argument("--voxel-size", **LENGTH, help=VOXEL_SIZE_HELP)
    add_reading(parser)


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The page."""
    return report_outputs(arguments)


def perform(arguments: Namespace) -> None:
    """Read, and write the page."""
    from napari_orient.engine.templates import load_template

    check_reference_flags(arguments, "reference_voxel_size")
    template = None
    if arguments.reference:
        template = load_template(arguments.reference, voxel_size=arguments.reference_voxel_size)
    group = symmetry(arguments.symmetry or (template and template.symmetry) or "C1")
    *files, path = arguments.paths
    tomograms = [open_tomogram(file, voxel_size=arguments.voxel_size) for file in files]
    if tomograms:
        labelled = [(one, read_list(path, arguments, tomogram=one)) for one in tomograms]
        particles = concatenate([part for _, part in labelled])
    else:
        labelled, particles = [], read_list(path, arguments)
    truth = None if arguments.truth is None else selected(read_list(arguments.truth, arguments), arguments)
    origin = read_provenance(path)
    write_report(
        arguments,
        particles,
        title=f"Poses of {path.name}",
        labelled=labelled,
        truth=truth,
        template=template,
        model={**({"poses": origin} if origin else {}), **model_words(template.card if template else {})},
        group=group,
        diameter=arguments.diameter,
        threshold=arguments.threshold,
    )
    print(f"{arguments.report}: report on {len(particles)} particles")
