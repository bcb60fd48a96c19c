"""Run the paper's experiment: simulate, train, predict, and write its table and its figures.

The paper is "Deep orientation estimation of macromolecules in cryo-electron tomography". At scale paper, 150 tomograms
of ribosomes and proteasomes are simulated and split 130 to 20, every representation is trained as printed and as in the
released code, and an ablation shows what matters. At scale quick every stage runs in minutes; its numbers mean nothing.

Each stage writes its files to DIR and is not run again: after Ctrl-C the same command resumes, within a training too.
Other options in the same DIR are refused.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.paper.options import SCALES, ReproductionOptions
from napari_orient.progress import Stopped, follow, say

if TYPE_CHECKING:
    from napari_orient.engine.templates import Template

EXAMPLE = """\
  napari-orient reproduce --output paper --templates maps
  napari-orient reproduce --output quick --scale quick
  napari-orient reproduce --output authors --polnet PolNet_Medium_Size_Dataset_4v4r_and_3j9i"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--scale", choices=SCALES, default="paper", help="options to begin from; those below override [default paper]"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--templates",
        nargs="+",
        type=Path,
        default=[],
        metavar="MAP",
        help="folder with 4v4r.mrc and 3j9i.mrc, or the two files [default: the bead models of the program]",
    )
    source.add_argument(
        "--polnet", nargs="+", type=Path, default=[], metavar="DIR", help="PolNet result folders instead of simulating"
    )
    parser.add_argument(
        "--check", type=Path, metavar="DIR", help="PolNet result folder, never trained on, to test every network on"
    )
    add_options(parser, ReproductionOptions, title="the experiment (defaults of --scale paper)")


def outputs(_: Namespace) -> Sequence[Path]:
    """None by name: the folder is claimed for the experiment."""
    return ()


def perform(arguments: Namespace) -> None:
    """Run all that is still to be run, and print the table."""
    from napari_orient.paper.experiment import experiment_claim, reproduce

    options = options_from(arguments, SCALES[arguments.scale])
    experiment_claim(arguments.output).check()
    templates = () if arguments.polnet else _announced(arguments.templates)
    stream = reproduce(arguments.output, options, templates=templates, polnet=arguments.polnet, check=arguments.check)
    try:
        follow(stream)
    except KeyboardInterrupt:
        raise Stopped(f"Stopped; what is finished is in {arguments.output}. The same command goes on.") from None
    print((arguments.output / "table.md").read_text(encoding="utf-8"))
    for path in sorted(path for path in arguments.output.iterdir() if path.is_file()):
        print(path)


def _announced(files: list[Path]) -> tuple[Template, ...]:
    """Templates, whose names are printed: results of bead models differ from those of maps."""
    from napari_orient.paper.dataset import paper_templates

    templates = paper_templates(files)
    if not files:
        say("No maps were given (--templates): simulating from the program's coarse bead models of 4v4r and 3j9i.")
    names = ", ".join(f"{item.name} ({item.symmetry or 'C1'})" for item in templates)
    say(f"Templates: {names}")
    return templates
