"""How long the window stands still while a dock works: a heartbeat of 5 ms in napari's event loop.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/gui_response.py [--dock train|predict|discover] [--seconds S]
[--picks N] [--model NAME|FILE]``

Two tomograms are simulated and shown; the dock works on both, Predict on one, or on ``--picks`` random ones in it.
Prints the longest and the typical silence between two heartbeats, idle and at work, and the most processor time that
the loop's own thread spent in one: on a busy machine that alone tells what the program does. Predicting and discovering
are timed beyond their end: the making of the layers, and what the docks then show, are included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_orient.engine.io import read_labelled
from napari_orient.engine.parameters import SimulationOptions
from napari_orient.engine.particles import Particles
from napari_orient.engine.simulation.simulate import simulate_series
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers import PICKS, TRUTH
from napari_orient.gui.session import session_of

BEAT = 5
"""Milliseconds."""

AFTERWARDS = 2
"""Seconds for which what follows the end is listened to."""


class Heart:
    """Notes the time of each beat, and the processor time that this thread has spent by then."""

    def __init__(self) -> None:
        self.beats: list[tuple[float, float]] = []
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(lambda: self.beats.append((time.monotonic(), time.thread_time())))
        self.timer.start(BEAT)

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> np.ndarray:
        """The silences and the processor time within each, (B, 2) in ms, of so many seconds, or until then."""
        self.beats.clear()
        end, over = time.monotonic() + seconds, False
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(1e-4)
            if not over and until():
                over, end = True, time.monotonic() + AFTERWARDS
        return 1e3 * np.diff(self.beats, axis=0)


def tell(name: str, silences: np.ndarray) -> None:
    wall, own = silences.T
    print(
        f"{name:22} longest {wall.max():6.0f} ms   99.9 % {np.percentile(wall, 99.9):5.0f}   "
        f"99 % {np.percentile(wall, 99):5.0f}   median {np.median(wall):5.1f}   beats {len(wall)}   "
        f"own processor time: longest {own.max():4.0f} ms   99.9 % {np.percentile(own, 99.9):4.0f}",
        flush=True,
    )


def training(viewer: napari.Viewer, folder: Path, given: argparse.Namespace, heart: Heart) -> None:
    dock = page_of(viewer, "Train")
    dock.file.show_path(folder / "mine.safetensors")
    dock.network.widgets["width"].value = given.width
    dock.training.widgets["epochs"].value = 10_000
    heart.listen(3)
    tell("idle", heart.listen(5))
    dock.train()
    while not dock.curves.epochs:
        QApplication.processEvents()
    heart.listen(1)
    tell(f"training, width {given.width}", heart.listen(given.seconds))
    print(f"epochs {dock.curves.epochs[-1].done}")
    finish(dock)


def predicting(viewer: napari.Viewer, folder: Path, given: argparse.Namespace, heart: Heart) -> None:
    session = session_of(viewer)
    if given.picks:
        layer = session.index.particles(TRUTH)[0]
        extent = session.index.extent_of(layer)
        size = np.array(extent.size) * extent.voxel_size
        places = np.random.default_rng(0).uniform(0.2, 0.8, (given.picks, 3)) * size
        session.show_particles(Particles(positions=places), extent, role=PICKS, name="random picks")
    dock = page_of(viewer, "Predict")
    dock.show_model(given.model)
    heart.listen(3)
    tell("idle", heart.listen(5))
    dock.predict()
    tell("predicting", heart.listen(given.seconds, lambda: dock.running.job is None))
    print(dock.result.text())
    finish(dock)


def discovering(viewer: napari.Viewer, folder: Path, given: argparse.Namespace, heart: Heart) -> None:
    dock = page_of(viewer, "Discover")
    heart.listen(3)
    tell("idle", heart.listen(5))
    dock.discover()
    tell("discovering", heart.listen(given.seconds, lambda: dock.running.job is None))
    print(dock.result_panel.banner.headline.text())
    finish(dock)


def finish(dock: Any) -> None:
    dock.session.jobs.stop()
    while dock.running.job is not None:
        QApplication.processEvents()


def main() -> None:
    parser = argparse.ArgumentParser(description="responsiveness of the window while a dock works")
    parser.add_argument("--dock", choices=("train", "predict", "discover"), default="train")
    parser.add_argument("--seconds", type=float, default=20, help="at most, of the work")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--tomograms", type=int, default=2)
    parser.add_argument("--picks", type=int, default=0, help="random ones to predict; 0 for the particles themselves")
    parser.add_argument("--model", default="ribosome", help="to predict with")
    parser.add_argument("--three", action="store_true", help="in 3D")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = SimulationOptions(size_x=160, size_y=160, size_z=64, particles=45)
        run(
            simulate_series(
                [load_template("ribosome")], options, tomograms=given.tomograms, seed=1, folder=folder / "simulated"
            )
        )
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1400, 900)
        session = session_of(viewer)
        for tomogram, particles in read_labelled(folder / "simulated"):
            session.show_tomogram(tomogram)
            session.show_particles(particles, tomogram.extent, role=TRUTH, name=f"{tomogram.name} truth")
        viewer.dims.ndisplay = 3 if given.three else 2
        heart = Heart()
        {"train": training, "predict": predicting, "discover": discovering}[given.dock](viewer, folder, given, heart)
        heart.timer.stop()
        viewer.close()


if __name__ == "__main__":
    main()
