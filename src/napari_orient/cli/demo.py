"""Simulate a tomogram, predict orientations in it, evaluate and show them.

The folder gets tomogram.mrc, picks.star (positions alone), truth.star, predicted.star, report.txt and picture.png. A
second run uses the tomogram that is there. With a display, napari opens them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_orient import __version__
from napari_orient.cli.arguments import Parser
from napari_orient.cli.next_command import say_next, unused
from napari_orient.engine.folders import FolderClaim
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.io.particle_lists import read_provenance
from napari_orient.engine.model_files import DEFAULT_MODEL
from napari_orient.engine.outputs import write_text
from napari_orient.engine.parameters import PredictionOptions
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.progress import follow, say

if TYPE_CHECKING:
    from napari_orient.engine.prediction.predict import Model

EXAMPLE = "  napari-orient demo --output demo --no-viewer"

SEED = 2024
"""Seed of the simulation: any would do."""

TEMPLATES = ("ribosome", "proteasome")
COUNTS = (150, 90)
"""Particles of each template. Chosen, not tuned."""


NAMES = ("tomogram.mrc", "picks.star", "truth.star", "predicted.star", "report.txt", "picture.png")
"""Names of the demo's files."""


def declare(parser: Parser) -> None:
    """Give the parser the verb's arguments."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("napari-orient-demo"),
        metavar="DIR",
        help="[default napari-orient-demo]",
    )
    parser.add_argument("--no-viewer", action="store_true", help="leave the files and open no window")


@dataclass(frozen=True)
class DemoFiles:
    """Paths of the demo's files."""

    tomogram: Path
    picks: Path
    truth: Path
    predicted: Path
    report: Path
    picture: Path

    @classmethod
    def under(cls, folder: Path) -> DemoFiles:
        """Paths in a folder."""
        return cls(*(folder / name for name in NAMES))


def outputs(_: Namespace) -> Sequence[Path]:
    """None by name: the folder is claimed for the demo."""
    return ()


def perform(arguments: Namespace) -> int:
    """Simulate or read the tomogram, predict, evaluate, write, and open napari where there is a display."""
    from napari_orient.engine.prediction.predict import load_model

    claim = FolderClaim(
        folder=arguments.output, maker="demo", made_with={"seed": SEED}, owns=NAMES, recognised=_is_earlier_demo
    )
    claim.check()
    model = load_model(DEFAULT_MODEL)
    files = DemoFiles.under(arguments.output)
    with claim.held():
        if not files.truth.exists():
            _simulate(files)
        _predict(files, model)
    print(files.report.read_text(encoding="utf-8"))
    for path in vars(files).values():
        print(path)
    status = _view(arguments)
    page = unused(arguments.output / "report.html")
    say_next("report", files.tomogram, files.predicted, "--truth", files.truth, "--output", page)
    return status


def _is_earlier_demo(folder: Path) -> bool:
    """Whether a folder is that of a demo of version 0.1.0."""
    truth = DemoFiles.under(folder).truth
    return truth.is_file() and f"simulated from {' and '.join(TEMPLATES)}, seed {SEED}" in read_provenance(truth)


def _simulate(files: DemoFiles) -> None:
    """Write the tomogram, its picks and its true poses; the last file marks for the next run that all are complete."""
    from napari_orient.engine.simulation.simulate import simulate
    from napari_orient.engine.templates import load_template

    templates = [load_template(name) for name in TEMPLATES]
    stream = simulate(templates, SimulationOptions(), seed=SEED, name=files.tomogram.stem, counts=COUNTS)
    tomogram, truth = follow(stream, title="Simulating a tomogram")
    truth = truth.of_kind(templates[0].name)
    write_tomogram(files.tomogram, tomogram.density, voxel_size=tomogram.voxel_size)
    for path, particles in ((files.picks, truth.replace(rotations=None)), (files.truth, truth)):
        provenance = f"napari-orient {__version__}; simulated from {' and '.join(TEMPLATES)}, seed {SEED}"
        write_particles(path, particles, provenance=provenance)


def _predict(files: DemoFiles, model: Model) -> None:
    """Write predicted poses, the report on them and its plots."""
    from napari_orient.engine.evaluation import evaluate
    from napari_orient.engine.prediction.predict import predict, provenance
    from napari_orient.engine.reports.figures import overview, save_figure

    tomogram, picks = read_tomogram(files.tomogram), read_particles(files.picks)
    options = PredictionOptions()
    predicted = follow(predict(tomogram, picks, model, options))
    write_particles(files.predicted, predicted, provenance=provenance(model, options, count=len(picks)))
    report = evaluate(predicted, read_particles(files.truth))
    write_text(files.report, f"{report}\n")
    save_figure(overview(tomogram, report, title="napari-orient demo"), files.picture)


def _view(arguments: Namespace) -> int:
    """Open napari on the folder, in a process of its own: the command line imports no GUI."""
    if arguments.no_viewer:
        return 0
    if not has_display():
        say("There is no display here, so napari is not opened; see picture.png.")
        return 0
    if find_spec("napari") is None:
        say("napari is not installed here (pip install 'napari-orient[viewer]'); see picture.png.")
        return 0
    say("Opening napari; close its window to end.")
    ended = subprocess.run([sys.executable, "-m", "napari_orient.gui.demo_viewer", str(arguments.output)], check=False)
    if ended.returncode:
        say(f"napari ended with status {ended.returncode}; the files above are whole all the same.")
    return 1 if ended.returncode else 0


def has_display() -> bool:
    """Whether a window can be opened here, as far as the environment says."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
