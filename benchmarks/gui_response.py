"""How long the window stands still while a network learns: a heartbeat of 5 ms in napari's event loop.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/gui_response.py [--seconds S] [--width N]``

Two tomograms are simulated; napari shows one, the Train dock trains on both. Prints the longest and the typical
silence between two heartbeats, idle and while training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_orient.engine.files import read_labelled
from napari_orient.engine.simulation import SimulationOptions, load_template, simulate_series
from napari_orient.engine.tasks import run
from napari_orient.gui.layers import TRUTH
from napari_orient.gui.session import session_of

BEAT = 5
"""Milliseconds."""


class Heart:
    """Notes the time of each beat."""

    def __init__(self) -> None:
        self.beats: list[float] = []
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(lambda: self.beats.append(time.monotonic()))
        self.timer.start(BEAT)

    def listen(self, seconds: float) -> np.ndarray:
        """The silences, in milliseconds, of so many seconds."""
        self.beats.clear()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(1e-4)
        return 1e3 * np.diff(self.beats)


def tell(name: str, silences: np.ndarray) -> None:
    print(
        f"{name:28} longest {silences.max():6.0f} ms   99.9 % {np.percentile(silences, 99.9):5.0f}   "
        f"99 % {np.percentile(silences, 99):5.0f}   median {np.median(silences):5.1f}   beats {len(silences)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="responsiveness of the window while training")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--tomograms", type=int, default=2)
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
        _, dock = viewer.window.add_plugin_dock_widget("napari-orient", "Train")
        dock.file.show_path(folder / "mine.safetensors")
        dock.network.widgets["width"].value = given.width
        dock.training.widgets["epochs"].value = 10_000
        heart = Heart()
        heart.listen(3)
        tell("idle", heart.listen(5))
        dock.train()
        while not dock.curves.epochs:
            QApplication.processEvents()
        heart.listen(1)
        tell(f"training, width {given.width}", heart.listen(given.seconds))
        print(f"epochs {dock.curves.epochs[-1].done}")
        dock.running.stop.click()
        while dock.running.job is not None:
            QApplication.processEvents()
        heart.timer.stop()
        viewer.close()


if __name__ == "__main__":
    main()
