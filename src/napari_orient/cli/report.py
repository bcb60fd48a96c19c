"""Report on the poses of a list: one page of HTML that needs no other file, for reading, mailing and printing.

POSES is a list of particles with angles, or several; before it may stand their tomograms, or folders and patterns of
them, from which particles are shown. With TRUTH the errors are true ones, else the expected errors of the list. The
page has the histogram of the errors beside that of random rotations, the directions, failure regions, the ten worst and
best particles beside their reference, and what the poses come from.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from napari_orient.cli.answers import add_failures, model_words, report_outputs, write_report
from napari_orient.cli.arguments import Parser
from napari_orient.cli.lists import add_selection, counted, read_list, selected
from napari_orient.cli.next_command import same_inputs, say_next, unused
from napari_orient.cli.projects import add_reference_facts, add_volumes, given_reference, read_named_project
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.particles import Labelled, Particles, concatenate, in_list_order, shortened
from napari_orient.engine.projects.files import ProjectFiles, project_files
from napari_orient.engine.symmetry import symmetry

EXAMPLE = """\
  napari-orient report oriented.star --output report.html
  napari-orient report reconstructions/ oriented.star --reference ribosome --output report.html
  napari-orient report Tomo001_rec.mrc oriented.star --truth tomo_001_motif_list.csv --class 4v4r \\
      --reference ribosome --output report.html"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="[TOMOGRAM...] POSES",
        help="tomograms, or folders or patterns of them, then the list of their particles; or lists alone",
    )
    parser.add_argument(
        "-o", "--output", dest="report", type=Path, required=True, metavar="PAGE", help="page to write: .html"
    )
    parser.add_argument("--truth", type=Path, metavar="TRUTH", help="list with true angles, to compare with")
    add_selection(parser, what="particles (with --truth: true ones)")
    parser.add_argument("--reference", metavar="MAP|NAME", help="map, or template, to show in the poses")
    add_reference_facts(parser)
    parser.add_argument("--symmetry", metavar="GROUP", help="errors are taken modulo it [default: the reference's]")
    add_failures(parser, diameter="particle's [default: the reference's]")
    add_volumes(parser)


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The page."""
    return report_outputs(arguments)


def perform(arguments: Namespace) -> int | None:
    """Read, and write the page."""
    template = given_reference(arguments)
    group = symmetry(arguments.symmetry or (template and template.symmetry) or "C1")
    files = project_files(arguments.paths)
    labelled, particles, failed = _poses(arguments, files)
    truth = None if arguments.truth is None else selected(read_list(arguments.truth, arguments), arguments)
    origins = dict.fromkeys(origin for path in files.lists if (origin := read_provenance(path)))
    write_report(
        arguments,
        particles,
        title=f"Poses of {shortened([path.name for path in files.lists or files.polnet])}",
        labelled=labelled,
        truth=truth,
        template=template,
        model={**({"poses": "; ".join(origins)} if origins else {}), **model_words(template.card if template else {})},
        group=group,
        diameter=arguments.diameter,
        threshold=arguments.threshold,
    )
    print(f"{arguments.report}: report on {counted(particles)}")
    if labelled and particles.rotations is not None:
        map_ = arguments.report.with_name(f"{arguments.report.stem}_average.mrc")
        say_next("average", *same_inputs(_of_poses(arguments)), "--output", unused(map_))
    return 1 if failed else None


def _poses(arguments: Namespace, files: ProjectFiles) -> tuple[Labelled, Particles, bool]:
    """Tomograms that are named with their particles; all particles; and whether some tomogram cannot be read."""
    if not (files.volumes or files.tables or files.polnet or arguments.tomograms):
        poses = concatenate([read_list(path, arguments) for path in files.lists])
        return [], selected(poses, _of_poses(arguments)), False
    project = read_named_project(_of_poses(arguments))
    every = in_list_order(concatenate([particles for _, particles in project.pairs]))
    return project.pairs, every, bool(project.failed)


def _of_poses(arguments: Namespace) -> Namespace:
    """The arguments as they concern the poses: beside a list of true angles, --class and --where choose of that."""
    return arguments if arguments.truth is None else Namespace(**{**vars(arguments), "kind": None, "where": None})
