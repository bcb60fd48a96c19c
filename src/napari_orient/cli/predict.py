"""Give every particle of a tomogram, or of many, its orientation.

TOMOGRAM... are volumes (MRC, OME-Zarr, EM, HDF5 or TIFF). PICKS is the list of their particles, of any program; angles
in it are not used, but for a prior. A list that names its tomograms, or a PolNet folder, serves alone. OUT gets the
same particles, in the same order within each tomogram, with angles, a confidence (the probability that the error is
below 20°) and an expected error in degrees. The model is a network or a template. A template is matched: the
tomogram's missing wedge and noise are estimated from it, and the particles are recentred; a network's answers are
refined in the same way when a --reference is given. A tomogram that fails is reported and the rest is done; the exit
status is 1 then.
"""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.answers import add_report, model_words, report_outputs, write_poses
from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.cli.lists import add_import_list, check_import_list, list_outputs, say_notes
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
    given_reference,
    hand_to_match,
    project_run,
    read_named_project,
    run_outputs,
    say_rounds,
    show_plan,
    with_group,
    with_hand,
)
from napari_orient.engine.errors import InputError
from napari_orient.engine.model_files import DEFAULT_MODEL, shipped_models
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import Labelled, classes_notes, concatenate
from napari_orient.engine.projects.each_tomogram import ProjectResult
from napari_orient.engine.projects.inputs import Project
from napari_orient.engine.streams import Step, Stream
from napari_orient.progress import say

if TYPE_CHECKING:
    from napari_orient.engine.prediction.predict import Model
    from napari_orient.engine.templates import Template

EXAMPLE = """\
  napari-orient predict Tomo001_rec.mrc picks.star --output oriented.star
  napari-orient predict Tomo001_rec.mrc motif_list.csv --class 4v4r --model mine.safetensors --output out.star
  napari-orient predict tomograms/ picks.star --scheduler local:4 --resume --output oriented.star"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    add_project(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FILE",
        help=f"network or template: a file, or a shipped one: {', '.join(shipped_models())} [default {DEFAULT_MODEL}]",
    )
    parser.add_argument("--checkpoint", dest="model", default=SUPPRESS, help=SUPPRESS)  # As version 0.1.0 called it.
    parser.add_argument(
        "--reference", metavar="MAP|NAME", help="map, or bead model, to refine a network's rotations with"
    )
    parser.add_argument(
        "--symmetry", metavar="GROUP", help="of that map, with its axes where they are not z and x; or auto"
    )
    add_reference_facts(parser)
    add_import_list(parser)
    add_mirror(parser)
    add_duplicates(parser)
    add_run(parser)
    add_report(parser)
    add_options(parser, PredictionOptions, title="prediction")


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The list, what stands beside it, how each tomogram stands, and the report."""
    beside = run_outputs(arguments.output)
    return [*list_outputs(arguments.output, arguments), *beside, *report_outputs(arguments)]


def perform(arguments: Namespace) -> int | None:
    """Read, predict, write."""
    from napari_orient.engine.prediction.adaptation import predict_project
    from napari_orient.engine.prediction.predict import PredictionTask, load_model, provenance, shortest_distance
    from napari_orient.engine.templates import Template

    options = options_from(arguments, PredictionOptions())
    model = load_model(arguments.model)
    template = given_reference(arguments, "symmetry")
    reference = None if template is None else with_group(template, arguments.symmetry)
    project = read_named_project(arguments)
    check_import_list(arguments.output, concatenate([picks for _, picks in project.pairs]), arguments)
    check_result(arguments.output, project.pairs)
    _announce(project, model)
    if reference is None and not isinstance(model, Template):
        _say_unused(arguments, model)
    model, reference = _with_hands(model, reference, project.pairs, options, hand_to_match(arguments))

    task, run = PredictionTask(model, options, reference), project_run(arguments, project)
    if arguments.dry_run:
        say_rounds(options.adaptation)
        return show_plan(project, task, run)

    def work(result: ProjectResult) -> Stream[Step, Template | None]:
        return predict_project(project.pairs, model, options, result, reference=reference, run=run)

    def write(result: ProjectResult, corrected: Template | None) -> None:
        near = shortest_distance(model, options, reference=reference)
        kept = checked_duplicates(result.particles, near, remove=arguments.remove_duplicates)
        count, against = max(len(picks) for _, picks in project.pairs), "" if reference is None else reference.name
        line = provenance(model, options, count=count, reference=against)
        if corrected:
            line += ", corrected by the particles"
        write_poses(
            arguments,
            kept,
            provenance=line,
            pairs=project.pairs,
            group=(reference or model).group,
            template=corrected or reference or (model if isinstance(model, Template) else None),
            model={"name": model.name, "kind": model.kind, **model_words(model.card)},
        )

    result = do_project(project, work, write, run)
    say_next_of_poses(arguments, project.pairs, then="report")
    return 1 if result.failed else None


def _with_hands(
    model: Model, reference: Template | None, pairs: Labelled, options: PredictionOptions, mirror: str
) -> tuple[Model, Template | None]:
    """Model and reference, the map that is matched in the hand asked for."""
    from napari_orient.engine.templates import Template

    if mirror == "no":
        return model, reference
    if reference is not None:
        raise InputError(
            "--mirror was given for a network's answers, which have the hand that it was trained in. Choose a template."
        )
    if not isinstance(model, Template):
        raise InputError(f"--mirror was given, but {model.name} is a network, which has no map. Choose a template.")
    return with_hand(model, pairs, options.refinement(model), mirror), reference


_OF_NETWORKS = frozenset({"min_distance", "batch", "centring", "device"})
"""Options of a prediction that a network heeds; the others are of how a map is matched."""


def _say_unused(arguments: Namespace, model: Model) -> None:
    """Say which options were given that a network alone does not heed."""
    given = [item.name for item in PredictionOptions.parameters() if item.name in vars(arguments)]
    unused = ", ".join("--" + name.replace("_", "-") for name in given if name not in _OF_NETWORKS)
    if unused:
        say(f"Note: {unused}: of templates, not heeded by the network {model.name} without a --reference.")


def _announce(project: Project, model: Model) -> None:
    """Say how many picks there are, and which classes of picks the model never learnt."""
    say(f"{project.words}; {model.kind} {model.name}")
    say_notes(classes_notes((picks for _, picks in project.pairs), model.classes))
