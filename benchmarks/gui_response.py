"""How long the window stands still while a dock works: a heartbeat of 5 ms in napari's event loop.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/gui_response.py [--dock train|predict|discover] [--seconds S]
[--picks N] [--model NAME|FILE]``

``--acts N`` instead does what a person does with N predicted particles, beside as many true ones: opens them, Inspect
and Particles, frames the failures, colours, filters, accepts and rotates all; of each act the processor time of the
window's thread until the window answers again, and the longest it stood still. Making layers is napari's own.
``--profile ACT ...`` also prints the functions in which these acts, and what they put off, spend their time.

Two tomograms are simulated and shown; the dock works on both, Predict on one, or on ``--picks`` random ones in it.
Prints the longest and the typical silence between two heartbeats, idle and at work, and the most processor time that
the loop's own thread spent in one: on a busy machine that alone tells what the program does. Predicting and discovering
are timed beyond their end: the making of the layers, and what the docks then show, are included.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Points
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication
from scipy.spatial.transform import Rotation

from napari_orient.engine.inspection.corrections import ACCEPTED, axis_rotation
from napari_orient.engine.io import read_labelled
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.simulation.simulate import simulate_series
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template
from napari_orient.gui.commands import dock_of, page_of
from napari_orient.gui.docks.orient_dock import OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.session.edits import rotate, set_status
from napari_orient.gui.session.inspected import RowFilter
from napari_orient.gui.session.viewer_session import session_of

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
    dock.run()
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
    dock.run()
    tell("predicting", heart.listen(given.seconds, lambda: dock.running.job is None))
    print(dock.result.text())
    finish(dock)


def discovering(viewer: napari.Viewer, folder: Path, given: argparse.Namespace, heart: Heart) -> None:
    dock = page_of(viewer, "Discover")
    heart.listen(3)
    tell("idle", heart.listen(5))
    dock.run()
    tell("discovering", heart.listen(given.seconds, lambda: dock.running.job is None))
    print(dock.result_panel.banner.headline.text())
    finish(dock)


def acts(viewer: napari.Viewer, count: int) -> None:
    """Seconds of each act on so many particles, and the longest part of it in which nothing else could happen."""
    rng, session = np.random.default_rng(0), session_of(viewer)
    side = (count * 260**3 * 3) ** (1 / 3)
    extent = Extent((int(side / 10), int(side / 10), int(side / 30)), 10.0)
    density = rng.standard_normal(extent.size[::-1]).astype(np.float32)
    session.show_tomogram(Tomogram(density, 10.0, "TS_01"))
    truth = Particles(
        positions=rng.uniform(0, np.array(extent.size) * 10.0, (count, 3)),
        rotations=random_rotations(count, rng),
        tomogram="TS_01",
    )
    turns = np.where(rng.uniform(size=count) < 0.05, rng.uniform(30, 180, count), rng.exponential(4, count))
    turned = Rotation.from_rotvec(np.radians(turns[:, None]) * [0, 0, 1.0]).as_matrix()
    predicted = truth.replace(rotations=truth.rotations @ turned, expected_error_deg=turns / 2 + 1)
    dock_of(viewer, OrientDock)
    show = {"extent": extent, "immediately": True}
    points: list[Points] = []

    def opened() -> None:
        session.show_particles(truth, role=TRUTH, name="true", **show)
        points.append(session.show_particles(predicted, role=PREDICTED, name="predicted", **show))

    rows = np.arange(count)
    timed("open", opened)
    timed("Inspect", lambda: page_of(viewer, "Inspect"))
    timed("Particles", lambda: dock_of(viewer, ParticlesDock))
    inspected, page = session.inspected, page_of(viewer, "Inspect")
    timed("frame a region", lambda: page.regions.picked.emit(inspected.regions[0]))
    timed("threshold", lambda: inspected.set_threshold(25.0))
    timed("back", page.back.click)
    timed("colour", lambda: session.drawing.show_as(session.drawing.view.replace(colour="expected error")))
    timed("filter", lambda: inspected.set_filter(RowFilter("true_error > 20")))
    timed("filter off", lambda: inspected.set_filter(RowFilter()))
    timed("select all", lambda: inspected.choose(rows))
    timed("next worst", lambda: page.go_to_worst(1))
    timed("Correct", lambda: page_of(viewer, "Correct"))
    timed("accept all", lambda: set_status(session.history(points[0]), rows, ACCEPTED))
    timed("rotate all", lambda: rotate(session.history(points[0]), rows, axis_rotation("z", 10.0), words="by 10°"))


def timed(name: str, act: Callable[[], object]) -> None:
    """Do an act, and print the thread's seconds in it, in what it put off, and the longest turn of the event loop."""
    settled()
    profile = cProfile.Profile(time.thread_time)
    if name in PROFILED:
        profile.enable()
    began = time.thread_time()
    act()
    own, longest = time.thread_time() - began, time.thread_time() - began
    quiet = time.monotonic() + QUIET
    while time.monotonic() < quiet:
        before = time.thread_time()
        QApplication.processEvents()
        spent = time.thread_time() - before
        longest = max(longest, spent)
        if spent > IDLE:
            quiet = time.monotonic() + QUIET
        time.sleep(1e-3)
    total = time.thread_time() - began
    profile.disable()
    print(f"{name:16} act {own:6.2f} s   until quiet {total:6.2f} s   longest turn {1e3 * longest:6.0f} ms", flush=True)
    if name in PROFILED:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(PROFILED_LINES)


def settled() -> None:
    """Let the event loop do all that was put off, and Python collect garbage: 0.3 s, which come at any time else."""
    gc.collect()
    quiet = time.monotonic() + QUIET
    while time.monotonic() < quiet:
        before = time.thread_time()
        QApplication.processEvents()
        if time.thread_time() - before > IDLE:
            quiet = time.monotonic() + QUIET


QUIET = 0.4
"""Seconds without work after which an act and what it put off are over."""

IDLE = 0.004
"""Seconds of a turn of the event loop that count as no work."""

PROFILED: set[str] = set()
"""The acts that are profiled, by ``--profile``."""

PROFILED_LINES = 70
"""Functions that are printed of it."""


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
    parser.add_argument("--acts", type=int, metavar="N", help="time acts on so many particles instead")
    parser.add_argument(
        "--profile", nargs="+", default=[], metavar="ACT", help="of --acts: print where these spend time"
    )
    given = parser.parse_args()
    PROFILED.update(given.profile)
    if given.acts:
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1400, 900)
        acts(viewer, given.acts)
        viewer.close()
        return
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
