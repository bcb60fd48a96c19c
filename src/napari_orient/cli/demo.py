"""The main job on a tomogram made on the spot: simulate, predict, evaluate, show.

The folder gets tomogram.mrc, picks.star (positions alone), truth.star, predicted.star, report.txt and picture.png. A
second run takes the tomogram that is there. With a display, napari opens on them.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.arguments import Parser
from napari_orient.cli.lists import check_folder, has_display
from napari_orient.cli.progress import follow, say
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.model_files import DEFAULT_MODEL
from napari_orient.engine.outputs import replacing
from napari_orient.engine.prediction.options import PredictionOptions
from napari_orient.engine.simulation.options import SimulationOptions

if TYPE_CHECKING:
    from napari_orient.engine.prediction.predict import Model

EXAMPLE = "  napari-orient demo --output demo --no-viewer"

SEED = 2024
TEMPLATES, COUNTS = ("ribosome", "proteasome"), (150, 90)


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument(
        "--output", type=Path, default=Path("napari-orient-demo"), metavar="DIR", help="[default napari-orient-demo]"
    )
    parser.add_argument("--no-viewer", action="store_true", help="leave the files and open no window")


@dataclass(frozen=True)
class Places:
    """The demo's files."""

    tomogram: Path
    picks: Path
    truth: Path
    predicted: Path
    report: Path
    picture: Path

    @classmethod
    def under(cls, folder: Path) -> Places:
        """The files' places in a folder."""
        names = ("tomogram.mrc", "picks.star", "truth.star", "predicted.star", "report.txt", "picture.png")
        return cls(*(folder / name for name in names))


def perform(arguments: Namespace) -> int:
    """Make or find the tomogram, predict, evaluate, write, and show where there is a screen."""
    from napari_orient.engine.prediction.predict import load_model

    check_folder(arguments.output)
    model = load_model(DEFAULT_MODEL)
    arguments.output.mkdir(parents=True, exist_ok=True)
    places = Places.under(arguments.output)
    if not places.truth.exists():
        _simulate(places)
    _predict(places, model)
    print(places.report.read_text(encoding="utf-8"))
    for path in vars(places).values():
        print(path)
    return _view(arguments)


def _simulate(places: Places) -> None:
    """Write the tomogram, its picks and its truth; the truth comes last, and tells the next run that all is there."""
    from napari_orient.engine.simulation.simulate import simulate
    from napari_orient.engine.templates import load_template

    templates = [load_template(name) for name in TEMPLATES]
    stream = simulate(templates, SimulationOptions(), seed=SEED, name=places.tomogram.stem, counts=COUNTS)
    tomogram, truth = follow(stream, title="Simulating a tomogram")
    truth = truth.of_kind(templates[0].name)
    write_tomogram(places.tomogram, tomogram.density, voxel_size=tomogram.voxel_size)
    for path, particles in ((places.picks, truth.replace(rotations=None)), (places.truth, truth)):
        provenance = f"napari-orient {__version__}; simulated from {' and '.join(TEMPLATES)}, seed {SEED}"
        write_particles(path, particles, extents={tomogram.name: tomogram.extent}, provenance=provenance)


def _predict(places: Places, model: Model) -> None:
    """Write predicted poses, the report on them and its picture."""
    from napari_orient.engine.evaluation import evaluate
    from napari_orient.engine.prediction.predict import predict, provenance
    from napari_orient.engine.report_plots import overview, save_figure

    tomogram, picks = read_tomogram(places.tomogram), read_particles(places.picks)
    options = PredictionOptions()
    predicted = follow(predict(tomogram, picks, model, options))
    extents, origin = {tomogram.name: tomogram.extent}, provenance(model, options, count=len(picks))
    write_particles(places.predicted, predicted, extents=extents, provenance=origin)
    report = evaluate(predicted, read_particles(places.truth))
    with replacing(places.report) as beside:
        beside.write_text(f"{report}\n", encoding="utf-8")
    save_figure(overview(tomogram, report, title="napari-orient demo"), places.picture)


def _view(arguments: Namespace) -> int:
    """Open napari on the folder, in a process of its own: the command line knows no screen."""
    if arguments.no_viewer:
        return 0
    if not has_display():
        say("There is no display here, so napari stays closed; look at picture.png.")
        return 0
    say("Opening napari; close its window to end.")
    ended = subprocess.run([sys.executable, "-m", "napari_orient.gui.demo_viewer", str(arguments.output)], check=False)
    if ended.returncode:
        say(f"napari ended with status {ended.returncode}; the files above are whole all the same.")
    return 1 if ended.returncode else 0
