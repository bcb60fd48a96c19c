"""Polish the poses of particles against a reference map, or find them from picks alone.

TOMOGRAM... are volumes (MRC, OME-Zarr, EM, HDF5 or TIFF), PICKS the list of their particles; angles in it serve as
further starts. A list that names its tomograms, or a PolNet folder, serves alone. The reference is a map of the
particle (an MRC file, particle bright, or the name of a template or bead model). Wedge, noise and contrast are
estimated from each tomogram itself. OUT gets the particles of all, recentred, with angles, confidence and expected
error. A tomogram that fails is reported and the rest is done; the exit status is 1 then.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from napari_orient import __version__
from napari_orient.cli.answers import add_report, model_words, report_outputs, write_poses
from napari_orient.cli.arguments import LENGTH, Parser, add_options, options_from
from napari_orient.cli.lists import list_outputs
from napari_orient.cli.projects import (
    add_duplicates,
    add_mirror,
    add_project,
    add_run,
    check_result,
    checked_duplicates,
    do_project,
    hand_to_match,
    project_run,
    read_named_project,
    run_outputs,
    show_plan,
    with_group,
    with_hand,
)
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.projects.each_tomogram import ProjectResult
from napari_orient.progress import say

EXAMPLE = """\
  napari-orient refine Tomo001_rec.mrc picks.star --reference 4v4r.mrc --output refined.star
  napari-orient refine Tomo001_rec.mrc Tomo002_rec.mrc oriented.star --reference ribosome --output refined.star
  napari-orient refine particles.star --reference map.mrc --mirror auto --output refined.star"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    add_project(parser)
    parser.add_argument("--reference", required=True, metavar="MAP|NAME", help="map of the particle, or a shipped one")
    parser.add_argument("--reference-voxel-size", **LENGTH, help="that map's, where its header is wrong")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv")
    parser.add_argument(
        "--symmetry",
        metavar="GROUP",
        help="of the map, with its axes where they are not z and x: D7@z@x; auto proposes what the map shows",
    )
    add_mirror(parser)
    add_duplicates(parser)
    add_run(parser)
    add_report(parser)
    add_options(parser, RefinementOptions, title="refinement")


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The list, what stands beside it, how each tomogram stands, and the report."""
    beside = run_outputs(arguments.output)
    return [*list_outputs(arguments.output, arguments), *beside, *report_outputs(arguments)]


def perform(arguments: Namespace) -> int | None:
    """Read, refine, write."""
    from napari_orient.engine.refinement.refine import RefinementTask, duplicate_distance
    from napari_orient.engine.templates import load_template

    options = options_from(arguments, RefinementOptions())
    loaded = load_template(arguments.reference, voxel_size=arguments.reference_voxel_size)
    template = with_group(loaded, arguments.symmetry)
    project = read_named_project(arguments)
    check_result(arguments.output, project.pairs)
    say(f"{project.words}; {template.name}, {template.group.name}")
    template = with_hand(template, project.pairs, options, hand_to_match(arguments))
    task, run = RefinementTask(template, options), project_run(arguments, project)
    if arguments.dry_run:
        return show_plan(project, task, run)

    def write(result: ProjectResult) -> None:
        near = duplicate_distance(template, options.duplicates)
        kept = checked_duplicates(result.particles, near, remove=arguments.remove_duplicates)
        ways = " and ".join(result.methods)
        words = f"napari-orient {__version__}: refined against {template.name}, {template.group.name}, {ways}"
        write_poses(
            arguments,
            kept,
            provenance=words,
            pairs=project.pairs,
            group=template.group,
            template=template,
            model={"refined against": f"{template.name}, {template.group.name}", **model_words(template.card)},
        )

    return 1 if do_project(project, task, write, run).failed else None
