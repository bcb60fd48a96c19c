"""Tell how every particle of a tomogram is turned.

TOMOGRAM is an MRC file. PICKS is a STAR file, a PolNet list or a table of positions; angles in it are not looked at.
OUT gets the same particles, in the same order, with angles, a confidence (the probability that the error is below 20°)
and an expected error in degrees. A checkpoint of kind bank matches with the reference it holds, learns the tomogram's
missing wedge and noise, and recentres the particles; one of kind mlp does so when a --reference is given.
"""

from __future__ import annotations

from argparse import Namespace
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
    template_group,
    write_beside,
)
from napari_orient.cli.progress import follow, say
from napari_orient.engine.io import write_particles
from napari_orient.engine.networks.shipped import DEFAULT_CHECKPOINT, shipped_checkpoints
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.options import PredictionOptions

if TYPE_CHECKING:
    from napari_orient.engine.networks.checkpoint import Checkpoint
    from napari_orient.engine.networks.reference_map import ReferenceMap
    from napari_orient.engine.simulation.templates import Template

EXAMPLE = """\
  napari-orient predict Tomo001_rec.mrc picks.star --output oriented.star
  napari-orient predict Tomo001_rec.mrc motif_list.csv --class 4v4r --checkpoint mine.safetensors --output out.star"""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    add_picks(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="list to write: .star, .csv, .tsv")
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        metavar="NAME|FILE",
        help=f"network: a file, or a shipped one: {', '.join(shipped_checkpoints())} [default {DEFAULT_CHECKPOINT}]",
    )
    parser.add_argument("--reference", metavar="MAP|NAME", help="map, or bead model, to refine an mlp's rotations with")
    parser.add_argument(
        "--symmetry", metavar="GROUP", help="of that map, with its axes where they are not z and x; or auto"
    )
    add_import_list(parser)
    add_options(parser, PredictionOptions, title="prediction")


def perform(arguments: Namespace) -> None:
    """Read, predict, write."""
    from napari_orient.engine.networks.checkpoint import load_checkpoint
    from napari_orient.engine.prediction.predict import predict, provenance
    from napari_orient.engine.simulation.templates import load_template

    check_list(arguments.output)
    options = options_from(arguments, PredictionOptions())
    checkpoint = load_checkpoint(arguments.checkpoint)
    template = load_template(arguments.reference) if arguments.reference else None
    reference = None if template is None else _reference(template, arguments.symmetry)
    tomogram, picks = read_picks(arguments)
    check_import_list(arguments.output, picks, arguments)
    _announce(tomogram, picks, checkpoint)
    predicted = follow(predict(tomogram, picks, checkpoint, options, reference=reference))
    origin = provenance(checkpoint, options, count=len(picks), reference="" if template is None else template.name)
    write_particles(arguments.output, predicted, provenance=origin)
    write_beside(arguments.output, predicted, arguments)
    print(f"{arguments.output}: {summary(predicted)}")


def _reference(template: Template, group: str | None) -> ReferenceMap:
    """A template to refine with, and its symmetry: as told, or that of the bead model."""
    from napari_orient.engine.networks.reference_map import ReferenceMap, ReferenceMapOptions

    own = ReferenceMapOptions(symmetry=template_group(group, template).name, voxel_size=template.voxel_size)
    return ReferenceMap(template.density, own)


def _announce(tomogram: Tomogram, picks: Particles, checkpoint: Checkpoint) -> None:
    """Say the voxel size in force, and which picks the network never learnt."""
    size = " × ".join(str(count) for count in tomogram.extent.size)
    network = f"network {checkpoint.name} ({checkpoint.kind})"
    say(f"{tomogram.name}: {size} voxels of {tomogram.voxel_size:g} Å; {len(picks)} picks; {network}")
    known = checkpoint.card.get("classes", [])
    strange = sorted(set(picks.kind) - set(known)) if picks.kind is not None and known else []
    if strange:
        say(f"Note: it learnt {', '.join(known)}; angles of {', '.join(strange)} will have no meaning (see --class).")
