"""Train a network on tomograms with known particles.

DATA is a folder that PolNet wrote, or a list of particles with angles; a list's tomograms are found by its own
columns, beside it, or in the folder that --tomograms names. Tomograms, never patches, are split into training and
validation. The best network so far is written after every epoch: Ctrl-C loses nothing, and --resume goes on where it
stopped.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from napari_orient.cli.arguments import add_options, options_from
from napari_orient.cli.progress import Stopped, follow, say
from napari_orient.engine.files import labelled_of_kind, read_labelled
from napari_orient.engine.networks import NetworkOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.tasks import existing_file
from napari_orient.engine.training import PRESETS, TrainingOptions, TrainingState, checkpoint_places, kept, train

EXAMPLE = """\
  napari-orient train simulated --class 4v4r --output mine.safetensors
  napari-orient train particles.star --tomograms reconstructions --epochs 60 --output mine.safetensors
  napari-orient train polnet --class 4v4r --network paper --output printed.safetensors"""


def declare(parser: ArgumentParser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="PolNet result folder, or STAR file")
    parser.add_argument("--output", type=Path, required=True, metavar="CHECKPOINT", help="file to write: .safetensors")
    parser.add_argument("--class", dest="kind", metavar="CODE", help="learn this class alone, such as 4v4r")
    parser.add_argument("--tomograms", type=Path, metavar="DIR", help="where a STAR file's tomograms lie")
    parser.add_argument("--voxel-size", type=float, metavar="Å", help="the tomograms', where their headers are wrong")
    parser.add_argument("--resume", action="store_true", help="go on with a stopped run; give the same options again")
    parser.add_argument(
        "--network", choices=PRESETS, default="default", help="options to begin from; those below override"
    )
    add_options(parser, NetworkOptions, title="the network (defaults of --network default)")
    add_options(parser, TrainingOptions, title="its training (defaults of --network default)")


def perform(arguments: Namespace) -> None:
    """Train, writing the best checkpoint and the state to resume from after every epoch."""
    output, state = checkpoint_places(arguments.output)
    network_base, training_base = PRESETS[arguments.network]
    network, training = options_from(arguments, network_base), options_from(arguments, training_base)
    resumed = TrainingState.load(existing_file(state)) if arguments.resume else None
    labelled = [pair for path in arguments.data for pair in _labelled(path, arguments)]
    say(f"{sum(len(part) for _, part in labelled)} particles in {len(labelled)} tomograms")
    stream = train(labelled, network, training, name=output.stem, resume=resumed)
    try:
        best = follow(kept(stream, output, state))
    except KeyboardInterrupt:
        raise Stopped(_farewell(output, state)) from None
    print(f"{output}: validation median {best.card['figures']['validation_median_deg']:.2f}°")


def _labelled(path: Path, arguments: Namespace) -> list[tuple[Tomogram, Particles]]:
    pairs = read_labelled(path, tomograms=arguments.tomograms, voxel_size=arguments.voxel_size)
    return pairs if arguments.kind is None else labelled_of_kind(pairs, arguments.kind)


def _farewell(output: Path, state: Path) -> str:
    if not state.exists():
        return "Stopped before the first epoch was done; nothing was written."
    return f"Stopped; the best network so far is in {output}. The same command with --resume goes on."
