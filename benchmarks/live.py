"""How long Live takes for a pick: from when it is set down until its arrow is drawn and its expected error told.

``python benchmarks/live.py [--picks N] [--model NAME|FILE] [--particles N ...] [--gigabytes G]``

Picks are added at random places to a layer of ``--particles`` poses, and dragged on; the Correct and the Inspect dock
follow the layer. The large tomogram is a memory-mapped file. In milliseconds, the median of all picks and of *told* the
95th percent too:

- told: all that a person waits for: napari's own part, the pose, the features, the arrow and the words. The goal is 50.
- pose: what of it tells the pose; napari: what napari alone takes to add a point to a layer of as many.
- rest: what the same event does afterwards; later: table, plots, legend and history, on later turns of the event loop.
- block: the longest of all turns of the loop, of all picks.

It is the process's own CPU time, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from qtpy.QtWidgets import QApplication

from napari_orient.engine.io import read_tomogram
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.streams import run
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.pages.correct_page import CorrectPage
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.session import live_prediction
from napari_orient.gui.session.viewer_session import session_of

VOXEL_SIZE = 10.0
SMALL = (256, 512, 512)
AFTERWARDS = 0.15
"""Seconds in which the event loop does what was put off."""


def large(folder: Path, gigabytes: float) -> Tomogram:
    """A tomogram of so many GB on disk, mapped: one plane of noise, rolled from plane to plane."""
    import mrcfile

    side = int((gigabytes * 2**30 / 4 / 256) ** 0.5)
    path = folder / "large.mrc"
    with mrcfile.new_mmap(path, shape=(256, side, side), mrc_mode=2) as volume:
        volume.voxel_size = VOXEL_SIZE
        plane = np.random.default_rng(2).standard_normal((side, side), np.float32)
        for z in range(len(volume.data)):
            volume.data[z] = np.roll(plane, (37 * z, 91 * z), (0, 1))
    return read_tomogram(path)


class Scene:
    """A layer of particles, Live ready for it, and the docks that follow it."""

    def __init__(self, tomogram: Tomogram, model: str, *, particles: int) -> None:
        self.rng, self.viewer, self.tomogram = np.random.default_rng(0), ViewerModel(), tomogram
        self.high = np.array(tomogram.extent.size) * VOXEL_SIZE - 300
        there = Particles(
            positions=self.rng.uniform(300, self.high, (particles, 3)),
            rotations=random_rotations(particles, self.rng),
            expected_error_deg=np.full(particles, 9.0),
            tomogram=tomogram.name,
        )
        session = session_of(self.viewer)
        self.layer = session.show_particles(there, tomogram.extent, role=PREDICTED, name="predicted")
        self.docks = CorrectPage(self.viewer), InspectPage(self.viewer)
        self.live = self.docks[0].live
        self.live.follow_edits(self.layer, tomogram.name)
        self.live.prepared = run(live_prediction.prepare_model(tomogram, there, load_model(model)))
        self.plain = ViewerModel().add_points(self.layer.data.copy(), features=self.layer.features.copy())
        self.told = 0.0
        self.live.status_changed.connect(self._note)

    def _note(self) -> None:
        self.told = time.process_time()

    def place(self) -> np.ndarray:
        """Somewhere, xyz in Å."""
        return self.rng.uniform(300, self.high)

    def pose(self) -> None:
        """What tells the pose, alone."""
        assert self.live.prepared is not None
        self.live.prepared.predict(Particles(positions=self.place()[None], tomogram=self.tomogram.name))

    def add(self, layer: Points) -> None:
        """A pick set down somewhere, as napari's tool does it."""
        layer.add(self.place()[::-1] / VOXEL_SIZE)

    def lift(self) -> None:
        """The beginning of a drag."""
        self._say("changing")

    def drop(self) -> None:
        """The end of a drag, as napari tells of it."""
        self.layer.data[-1] = self.place()[::-1] / VOXEL_SIZE
        self._say("changed")

    def _say(self, action: str) -> None:
        row = len(self.layer.data) - 1
        self.layer.events.data(value=self.layer.data, action=action, data_indices=(row,), vertex_indices=((),))

    def measured(self, act: Callable[[], None]) -> tuple[float, ...]:
        """CPU seconds until the pick is told, of the rest of its event, of what comes later, of the longest turn."""
        began = time.process_time()
        act()
        ended = time.process_time()
        turns, until = [ended - began], time.monotonic() + AFTERWARDS
        while time.monotonic() < until:
            at = time.process_time()
            QApplication.processEvents()
            turns.append(time.process_time() - at)
            time.sleep(1e-3)
        return self.told - began, ended - self.told, sum(turns[1:]), max(turns)


def seconds_of(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def report(scene: Scene, picks: int) -> None:
    """Print a line for picks added and one for picks dragged."""
    QApplication.processEvents()
    rows: dict[str, list[tuple[float, ...]]] = {"added": [], "dragged": []}
    alone = []
    for _ in range(picks):
        alone.append((seconds_of(scene.pose), seconds_of(lambda: scene.add(scene.plain))))
        rows["added"].append(scene.measured(lambda: scene.add(scene.layer)))
        scene.lift()
        rows["dragged"].append(scene.measured(scene.drop))
    pose, napari = 1e3 * np.median(alone, axis=0)
    size, count = scene.tomogram.density.nbytes / 2**30, len(scene.layer.data) - picks
    for name, taken in rows.items():
        told, rest, later, block = 1e3 * np.array(taken).T
        own = napari if name == "added" else 0.0
        figures = (np.median(told), np.percentile(told, 95), pose, own, np.median(rest), np.median(later), block.max())
        print(f"{size:5.2f} {count:9d} {name:>8}", *(f"{figure:6.1f}" for figure in figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the latency of Live")
    parser.add_argument("--picks", type=int, default=30)
    parser.add_argument("--particles", type=int, nargs="+", default=[300, 10_000])
    parser.add_argument("--model", default="ribosome")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of the large tomogram; 0 for none")
    given = parser.parse_args()
    application = QApplication.instance() or QApplication(["live"])
    live_prediction.IMMEDIATE_LIMIT = 60.0  # However busy the machine is, picks are told on the spot.
    volumes = [Tomogram(np.random.default_rng(1).standard_normal(SMALL, np.float32), VOXEL_SIZE, "small")]
    with tempfile.TemporaryDirectory() as folder:
        volumes += [large(Path(folder), given.gigabytes)] if given.gigabytes else []
        print(f"{given.model}, {given.picks} picks; CPU ms")
        heads = ("told", "95 %", "pose", "napari", "rest", "later", "block")
        print("   GB particles         ", " ".join(f"{head:>6}" for head in heads))
        for tomogram in volumes:
            for particles in given.particles:
                report(Scene(tomogram, given.model, particles=particles), given.picks)
    application.processEvents()


if __name__ == "__main__":
    main()
