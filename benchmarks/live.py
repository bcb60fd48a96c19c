"""How long Live takes for a pick: from napari's event to the pose, and to the arrow drawn, by the tomogram's size.

``python benchmarks/live.py [--picks N] [--checkpoint NAME|FILE] [--particles N] [--gigabytes G]``

The large tomogram is a memory-mapped file. Picks are added at random places to a layer of ``--particles``
poses. Milliseconds: median, 95th and 100th percent; the process's own CPU time, so that other work on the machine does
not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication

from napari_orient.engine.files import read_tomogram
from napari_orient.engine.networks import load_checkpoint
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.tasks import run
from napari_orient.gui.layers import PREDICTED
from napari_orient.gui.live import Live, make_ready
from napari_orient.gui.session import session_of

VOXEL_SIZE = 10.0
SMALL = (128, 256, 256)


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


def latencies(tomogram: Tomogram, checkpoint: str, *, picks: int, particles: int) -> np.ndarray:
    """CPU milliseconds for each pick: all that napari's event sets off, (N, 2): the pose told, and everything."""
    rng, viewer = np.random.default_rng(0), ViewerModel()
    session, extent = session_of(viewer), tomogram.extent
    high = np.array(extent.size) * VOXEL_SIZE - 300
    there = Particles(
        positions=rng.uniform(300, high, (particles, 3)),
        rotations=random_rotations(particles, rng),
        expected_error_deg=np.full(particles, 9.0),
        tomogram=tomogram.name,
    )
    layer = session.show_particles(there, extent, role=PREDICTED, name="predicted")
    parent = QObject()
    live = Live(session, parent)
    live.attend(layer, tomogram.name)
    live.ready = run(make_ready(tomogram, there, load_checkpoint(checkpoint)))
    ready, rows = live.ready, []
    for _ in range(picks):
        place = rng.uniform(300, high)
        began = time.process_time()
        ready.tell(Particles(positions=place[None], tomogram=tomogram.name))
        told = time.process_time() - began
        began = time.process_time()
        layer.add(place[::-1] / VOXEL_SIZE)
        rows.append((told, time.process_time() - began))
    return 1000 * np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="the latency of Live")
    parser.add_argument("--picks", type=int, default=40)
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--checkpoint", default="ribosome")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    given = parser.parse_args()
    application = QApplication.instance() or QApplication(["live"])
    noise = np.random.default_rng(1).standard_normal(SMALL, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        big = large(Path(folder), given.gigabytes)
        print(f"{given.picks} picks, {given.checkpoint}, in a layer of {given.particles} particles; CPU ms")
        for tomogram in (Tomogram(noise, VOXEL_SIZE, "small"), big):
            taken = latencies(tomogram, given.checkpoint, picks=given.picks, particles=given.particles)
            size = tomogram.density.nbytes / 2**30
            for name, column in zip(("pose told", "and drawn"), taken.T, strict=True):
                middle, high, most = np.percentile(column, [50, 95, 100])
                print(f"{size:5.2f} GB  {name}  median {middle:5.1f}  95 % {high:5.1f}  most {most:5.1f}")
    application.processEvents()


if __name__ == "__main__":
    main()
