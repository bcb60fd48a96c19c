"""Make tomograms with known particles, by PolNet's recipe, in PolNet's own folder layout.

A template is a map in an MRC file (bright where the matter is), or the name of a bead model that comes with the
program: ribosome, proteasome. The same seed makes the same tomograms.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_orient.cli.arguments import add_options, options_from
from napari_orient.cli.places import check_folder
from napari_orient.cli.progress import Stopped, follow
from napari_orient.engine.files import write_polnet
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.simulation import SimulationOptions, load_template, simulate
from napari_orient.engine.tasks import InputError

EXAMPLE = "  napari-orient simulate ribosome proteasome --output simulated --tomograms 4 --particles 120 --seed 1"


def declare(parser: ArgumentParser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("templates", nargs="+", metavar="TEMPLATE", help="MRC file, or the name of a bead model")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for tomograms and truth")
    parser.add_argument("--tomograms", type=int, default=1, metavar="N", help="how many [default 1]")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is random [default 0]")
    add_options(parser, SimulationOptions, title="the sample, the microscope and the tomogram")


def perform(arguments: Namespace) -> None:
    """Simulate and write one tomogram after the other."""
    if arguments.tomograms < 1 or arguments.seed < 0:
        raise InputError(
            f"--tomograms {arguments.tomograms} --seed {arguments.seed} given; expected at least 1 and at least 0."
        )
    check_folder(arguments.output)
    options = options_from(arguments, SimulationOptions())
    try:
        folders = write_polnet(arguments.output, _simulated(arguments, options))
    except KeyboardInterrupt:
        raise Stopped(f"Stopped; the tomograms done so far are in {arguments.output}.") from None
    print(f"{arguments.output}: {len(folders)} tomograms with their truth, {folders[0].name} to {folders[-1].name}")


def _simulated(arguments: Namespace, options: SimulationOptions) -> Iterator[tuple[Tomogram, Particles]]:
    templates = [load_template(text) for text in arguments.templates]
    for index in range(arguments.tomograms):
        stream = simulate(templates, options, seed=_seed(arguments.seed, index), name=f"tomo_{index + 1:03d}")
        # What is made before the first tomogram is wanted: only now is it certain that it can be made.
        arguments.output.mkdir(parents=True, exist_ok=True)
        yield follow(stream, title=f"Tomogram {index + 1} of {arguments.tomograms}")


def _seed(seed: int, index: int) -> int:
    """A tomogram's own seed: runs of neighbouring seeds share no tomogram, and a longer run begins as a shorter one."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
