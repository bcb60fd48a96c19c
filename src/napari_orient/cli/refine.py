"""Polish the poses of particles against a reference map, or find them from picks alone.

TOMOGRAM... are volumes (MRC, OME-Zarr, EM, HDF5 or TIFF), PICKS the list of their particles; angles in it serve as
further starts. A list that names its tomograms, or a PolNet folder, serves alone. The reference is a map of the
particle (an MRC file, particle bright, or the name of a template or bead model). Wedge, noise and contrast are
estimated from each tomogram itself. OUT gets the particles of all, recentred, with angles, confidence and expected
error. With --rounds the particles' own average corrects the reference, as far as two halves of them agree; each half is
matched with what the other half shows. A tomogram that fails is reported and the rest is done; the exit status is 1
then.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.answers import add_report, model_words, report_outputs, write_answer, write_poses
from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.cli.lists import list_outputs, say_notes
from napari_orient.cli.next_command import say_next_of_poses
from napari_orient.cli.projects import (
    add_duplicates,
    add_mirror,
    add_project,
    add_reference_facts,
    add_run,
    check_result,
    checked_duplicates,
    do_project,
    hand_to_match,
    project_run,
    read_named_project,
    read_reference,
    run_outputs,
    say_rounds,
    show_plan,
    with_group,
    with_hand,
)
from napari_orient.engine.io import write_tomogram
from napari_orient.engine.outputs import Place
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import classes_notes
from napari_orient.engine.projects.each_tomogram import ProjectResult
from napari_orient.engine.streams import Step, Stream
from napari_orient.progress import say

if TYPE_CHECKING:
    from napari_orient.engine.templates import Template

EXAMPLE = """\
  napari-orient refine Tomo001_rec.mrc picks.star --reference 4v4r.mrc --output refined.star
  napari-orient refine Tomo001_rec.mrc Tomo002_rec.mrc oriented.star --reference ribosome --output refined.star
  napari-orient refine particles.star --reference map.mrc --mirror auto --output refined.star
  napari-orient refine particles.star --reference ribosome --rounds 3 --map own.mrc --output refined.star"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    add_project(parser)
    parser.add_argument("--reference", required=True, metavar="MAP|NAME", help="map of the particle, or a shipped one")
    add_reference_facts(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv"
    )
    parser.add_argument(
        "--symmetry",
        metavar="GROUP",
        help="of the map, with its axes where they are not z and x: D7@z@x; auto proposes what the map shows",
    )
    add_mirror(parser)
    parser.add_argument("--map", type=Path, metavar="MAP", help="with --rounds: the corrected reference to write, .mrc")
    add_duplicates(parser)
    add_run(parser)
    add_report(parser)
    add_options(parser, RefinementOptions, title="refinement")


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The list, what stands beside it, how each tomogram stands, the report and the corrected reference."""
    beside, map_ = run_outputs(arguments.output), [arguments.map] if arguments.map else []
    return [*list_outputs(arguments.output, arguments), *beside, *report_outputs(arguments), *map_]


def perform(arguments: Namespace) -> int | None:
    """Read, refine, write."""
    from napari_orient.engine.prediction.adaptation import checked_map_path, refine_project
    from napari_orient.engine.refinement.refine import RefinementTask, duplicate_distance

    options = options_from(arguments, RefinementOptions())
    if arguments.map:
        checked_map_path(arguments.map, options, flag="--rounds 3")
    template = with_group(read_reference(arguments), arguments.symmetry)
    project = read_named_project(arguments)
    check_result(arguments.output, project.pairs)
    say(f"{project.words}; {template.name}, {template.group.name}")
    say_notes(classes_notes((particles for _, particles in project.pairs), template.classes))
    template = with_hand(template, project.pairs, options, hand_to_match(arguments))
    task, run = RefinementTask(template, options), project_run(arguments, project)
    if arguments.dry_run:
        say_rounds(options.adaptation)
        return show_plan(project, task, run)

    def work(result: ProjectResult) -> Stream[Step, Template | None]:
        return refine_project(project.pairs, template, options, result, run)

    def write(result: ProjectResult, corrected: Template | None) -> None:
        near = duplicate_distance(template, options.duplicates)
        kept = checked_duplicates(result.particles, near, remove=arguments.remove_duplicates)
        ways = " and ".join(result.methods)
        against = f"{template.name}, {template.group.name}"
        if corrected:
            against += ", corrected by the particles"
        if arguments.map:
            _write_map(corrected, arguments.map)
        write_poses(
            arguments,
            kept,
            provenance=f"napari-orient {__version__}: refined against {against}, {ways}",
            pairs=project.pairs,
            group=template.group,
            template=corrected or template,
            model={"refined against": against, **model_words(template.card)},
        )

    result = do_project(project, work, write, run)
    say_next_of_poses(arguments, project.pairs, then="average")
    return 1 if result.failed else None


def _write_map(corrected: Template | None, path: Path) -> None:
    """Write the corrected reference where there is one, elsewhere where its place cannot be written."""
    if not corrected:
        say(f"{path} is not written: the reference was not corrected.")
        return

    def write(place: Place) -> Path:
        write_tomogram(place(path), corrected.density, voxel_size=corrected.voxel_size)
        return place(path)

    say(f"{write_answer(write)}: the corrected reference")
