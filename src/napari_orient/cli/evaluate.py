"""Compare predicted with true orientations.

PREDICTED and TRUTH are particle lists with angles: STAR files, PolNet lists, tables. Particles are matched by tomogram
and nearest position. Every score stands beside that of random rotations.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from napari_orient.cli.arguments import Parser
from napari_orient.cli.lists import add_reading, read_list
from napari_orient.engine.symmetry import symmetry

EXAMPLE = """\
  napari-orient evaluate oriented.star tomo_001_motif_list.csv --class 4v4r
  napari-orient evaluate oriented.star truth.star --class 6utj --symmetry C7
  napari-orient evaluate oriented.star truth.star --symmetry D7@-0.6373,0.7642,0.0994@-0.1175,0.0308,-0.9926 --json"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("predicted", type=Path, metavar="PREDICTED", help="particle list with predicted angles")
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="particle list with true angles")
    parser.add_argument("--class", dest="kind", metavar="CODE", help="only the true particles of this class")
    parser.add_argument(
        "--symmetry", default="C1", metavar="GROUP", help="C1, Cn, Dn, T, O or I, as GROUP@z@x off axis [default C1]"
    )
    parser.add_argument("--tolerance", type=float, default=100.0, metavar="Å", help="farthest partner [default 100]")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    add_reading(parser)


def perform(arguments: Namespace) -> None:
    """Print the report."""
    from napari_orient.engine.evaluation import evaluate

    group = symmetry(arguments.symmetry)
    predicted, truth = read_list(arguments.predicted, arguments), read_list(arguments.truth, arguments)
    if arguments.kind is not None:
        truth = truth.of_kind(arguments.kind)
    report = evaluate(predicted, truth, group=group, tolerance=arguments.tolerance)
    print(json.dumps(report.to_record(), indent=2) if arguments.json else report)
