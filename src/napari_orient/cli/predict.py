"""Give every particle of a tomogram its orientation.

TOMOGRAM is a volume (MRC, OME-Zarr, EM, HDF5 or TIFF). PICKS is a list of positions of any program; angles in it are
not used. OUT gets the same particles, in the same order, with angles, a confidence (the probability that the error is
below 20°) and an expected error in degrees. The model is a network or a template. A template is matched: the
tomogram's missing wedge and noise are estimated from it, and the particles are recentred; a network's answers are
refined in the same way when a --reference is given.
"""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient.cli.arguments import Parser, add_options, options_from
from napari_orient.cli.lists import (
    add_import_list,
    add_picks,
    check_import_list,
    check_list,
    read_picks,
    summary,
    with_group,
    write_beside,
)
from napari_orient.engine.io import write_particles
from napari_orient.engine.model_files import DEFAULT_MODEL, shipped_models
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.progress import follow, say

if TYPE_CHECKING:
    from napari_orient.engine.prediction import Model

EXAMPLE = """\
  napari-orient predict Tomo001_rec.mrc picks.star --output oriented.star
  napari-orient predict Tomo001_rec.mrc motif_list.csv --class 4v4r --model mine.safetensors --output out.star"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    add_picks(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv")
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
    add_import_list(parser)
    add_options(parser, PredictionOptions, title="prediction")


def perform(arguments: Namespace) -> None:
    """Read, predict, write."""
    from napari_orient.engine.prediction import load_model, predict, provenance
    from napari_orient.engine.templates import load_template

    check_list(arguments.output)
    options = options_from(arguments, PredictionOptions())
    model = load_model(arguments.model)
    template = load_template(arguments.reference) if arguments.reference else None
    reference = None if template is None else with_group(template, arguments.symmetry)
    tomogram, picks = read_picks(arguments)
    check_import_list(arguments.output, picks, arguments)
    _announce(tomogram, picks, model)
    predicted = follow(predict(tomogram, picks, model, options, reference=reference))
    origin = provenance(model, options, count=len(picks), reference="" if template is None else template.name)
    write_particles(arguments.output, predicted, provenance=origin)
    write_beside(arguments.output, predicted, arguments)
    print(f"{arguments.output}: {summary(predicted)}")


def _announce(tomogram: Tomogram, picks: Particles, model: Model) -> None:
    """Say how many picks there are, and which classes of picks the model never learnt."""
    say(f"{len(picks)} picks in {tomogram.name}; {model.kind} {model.name}")
    foreign = sorted(set(picks.kind) - set(model.classes)) if picks.kind is not None and model.classes else []
    if foreign:
        learnt = ", ".join(model.classes)
        say(f"Note: it learnt {learnt}; angles of {', '.join(foreign)} will have no meaning (see --class).")
