"""Make tomograms with particles of exact poses, by PolNet's recipe, in PolNet's own folder layout.

A template is a map in an MRC file (bright where the matter is), or the name of a bead model that comes with the
program: ribosome, proteasome. The same seed makes the same tomograms.

With --defocus or --dose the tilt series is that of a microscope: exact projections with the contrast transfer function,
radiation damage and the noise of a constant exposure. RELION 5's tables of the series then lie beside each tomogram.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from napari_orient.cli.arguments import LENGTH, Parser, add_options, options_from, whole_number
from napari_orient.cli.next_command import say_next, unused
from napari_orient.engine.model_files import shipped_models
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.progress import Stopped, follow

EXAMPLE = "  napari-orient simulate ribosome proteasome --output simulated --tomograms 4 --particles 120 --seed 1"


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("templates", nargs="+", metavar="TEMPLATE", help="MRC file, or the name of a bead model")
    parser.add_argument(
        "--others", nargs="+", default=(), metavar="TEMPLATE", help="macromolecules around, not in the truth"
    )
    parser.add_argument("--template-voxel-size", **LENGTH, help="of the maps, where headers are wrong")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for tomograms and truth"
    )
    parser.add_argument("--tomograms", type=whole_number(1), default=1, metavar="N", help="how many [default 1]")
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="S", help="of all that is random [default 0]"
    )
    add_options(parser, SimulationOptions, title="the sample, the microscope and the tomogram")


def outputs(_: Namespace) -> Sequence[Path]:
    """None by name: the folder is claimed for the simulation."""
    return ()


def perform(arguments: Namespace) -> None:
    """Simulate and write one tomogram after the other."""
    from napari_orient.engine.simulation.simulate import simulate_series
    from napari_orient.engine.templates import load_template

    options = options_from(arguments, SimulationOptions())
    size, flag = arguments.template_voxel_size, "--template-voxel-size"
    templates, others = (
        [load_template(text, voxel_size=size, flag=flag) for text in given]
        for given in (arguments.templates, arguments.others)
    )
    stream = simulate_series(
        templates, options, tomograms=arguments.tomograms, seed=arguments.seed, folder=arguments.output, others=others
    )
    try:
        folders = follow(stream, title="Simulating")
    except KeyboardInterrupt:
        raise Stopped(f"Stopped; the tomograms done so far are in {arguments.output}.") from None
    made = [folder.name for folder in folders]
    count = "a tomogram with its truth" if len(made) == 1 else f"{len(made)} tomograms with their truth"
    print(f"{arguments.output}: {count}, {' to '.join(dict.fromkeys([made[0], made[-1]]))}")
    _say_next(arguments, templates[0].name)


def _say_next(arguments: Namespace, kind: str) -> None:
    """Say how the first particle is predicted by the model that knows it, or else how a template of it is averaged."""
    folder, model = arguments.output, arguments.templates[0]
    if model in shipped_models():
        say_next("predict", folder, "--class", kind, "--model", model, "--output", unused(Path("oriented.star")))
    else:
        written = unused(Path(f"{kind}.safetensors"))
        say_next("train", folder, "--class", kind, "--network", "template", "--output", written)
