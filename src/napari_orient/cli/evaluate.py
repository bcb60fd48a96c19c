"""Compare predicted with true orientations.

PREDICTED and TRUTH are particle lists with angles: STAR files, PolNet lists, tables. Particles are matched by tomogram
and nearest position. Every score stands beside that of random rotations. With the particle's diameter, failures (errors
above the threshold) that lie together are listed as regions, and what goes with the error.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from napari_orient.cli.answers import add_failures, add_report, report_outputs, write_report
from napari_orient.cli.arguments import LENGTH, Parser
from napari_orient.cli.lists import add_reading, add_selection, open_tomogram, read_list, selected
from napari_orient.cli.next_command import say_next, unused
from napari_orient.engine.symmetry import symmetry

EXAMPLE = """\
  napari-orient evaluate oriented.star tomo_001_motif_list.csv --class 4v4r
  napari-orient evaluate oriented.star truth.star --diameter 250 --threshold 15
  napari-orient evaluate oriented.star truth.star --class 6utj --symmetry C7
  napari-orient evaluate oriented.star truth.star --symmetry D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926 --json"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument(
        "predicted",
        type=Path,
        metavar="PREDICTED",
        help="particle list with predicted angles, or a folder or pattern of several",
    )
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="the same with true angles")
    add_selection(parser, what="true particles")
    parser.add_argument(
        "--tomogram", type=Path, metavar="FILE", help="that both lists lie in, for coordinates that need its size"
    )
    parser.add_argument(
        "--symmetry", default="C1", metavar="GROUP", help="C1, Cn, Dn, T, O or I, as GROUP@z@x off axis [default C1]"
    )
    parser.add_argument("--tolerance", **LENGTH, default=100.0, help="farthest partner [default 100]")
    add_failures(parser, diameter="particle's; lists regions of failures")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    add_report(parser)
    add_reading(parser)


def outputs(arguments: Namespace) -> Sequence[Path]:
    """The report as a page, if it is asked for; else it is printed alone."""
    return report_outputs(arguments)


def perform(arguments: Namespace) -> None:
    """Print the report."""
    from napari_orient.engine.evaluation import evaluate
    from napari_orient.engine.inspection.failures import FailureReport

    group = symmetry(arguments.symmetry)
    tomogram = arguments.tomogram and open_tomogram(arguments.tomogram, voxel_size=None)
    predicted, truth = (
        read_list(path, arguments, tomogram=tomogram) for path in (arguments.predicted, arguments.truth)
    )
    chosen = selected(truth, arguments)
    report = evaluate(predicted, chosen, group=group, tolerance=arguments.tolerance)
    failures = (
        None
        if arguments.diameter is None
        else FailureReport.of(report, truth, threshold=arguments.threshold, diameter=arguments.diameter)
    )
    if arguments.json:
        more = {} if failures is None else {"failures": failures.to_record()}
        print(json.dumps({**report.to_record(), **more}, indent=2))
    else:
        print(report if failures is None else f"{report}\n\n{failures}")
    write_report(
        arguments,
        predicted,
        title=f"{arguments.predicted.name} against {arguments.truth.name}",
        truth=chosen,
        group=group,
        diameter=arguments.diameter,
        threshold=arguments.threshold,
    )
    if arguments.report is None and not arguments.json and arguments.predicted.is_file():
        page = unused(arguments.predicted.with_suffix(".html"))
        chosen_by = ["--class", arguments.kind] if arguments.kind else []
        say_next("report", arguments.predicted, "--truth", arguments.truth, *chosen_by, "--output", page)
