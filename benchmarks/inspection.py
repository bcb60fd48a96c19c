"""What Inspect costs with many particles: reading, sorting, filtering, choosing, flying; CPU time.

``python benchmarks/inspection.py [--particles 1000 10000]``

Seconds of the process on all cores, the least of a few; the goal is 0.3 s for each with 10,000 particles.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from scipy.spatial.transform import Rotation

from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.session.viewer_session import session_of

SHAPE, VOXEL_SIZE = (128, 400, 400), 10.0
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="what Inspect costs with many particles")
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 10_000])
    given = parser.parse_args()
    application = QApplication.instance() or QApplication(["inspection"])
    for count in given.particles:
        for name, seconds in measured(count).items():
            print(f"{count:9d} particles  {name:<16} {seconds:7.3f} s  {count / seconds / 1000:9.0f} a ms", flush=True)
    application.processEvents()


def measured(count: int) -> dict[str, float]:
    """CPU seconds by what was done."""
    viewer = filled(count)
    page, dock = InspectPage(viewer), ParticlesDock(viewer)
    inspected = page.inspected
    layer = inspected.layer
    assert layer is not None
    words = ["true_error > 30 and neighbour < 120", "true_error > 20 and neighbour < 150"]
    orders = [Qt.SortOrder.DescendingOrder, Qt.SortOrder.AscendingOrder]
    every = [set(range(0, count, 10)), set(range(5, count, 10))]
    inspected.settle()
    return {
        "read": seconds_of(lambda turn: inspected.renew()),
        "sort": seconds_of(lambda turn: dock.table.sortByColumn(4, orders[turn % 2])),
        "filter": seconds_of(lambda turn: dock.filters.expression.setText(words[turn % 2])),
        "threshold": seconds_of(lambda turn: inspected.set_threshold(20.0 + turn)),
        "choose one": seconds_of(lambda turn: inspected.choose(np.array([turn]))),
        "choose a tenth": seconds_of(lambda turn: setattr(layer, "selected_data", every[turn % 2])),
        "fly": seconds_of(lambda turn: page.go_to_worst(1)),
    }


def filled(count: int) -> ViewerModel:
    """A viewer with true particles, and with predicted ones off by up to 60°."""
    rng, viewer = np.random.default_rng(0), ViewerModel()
    tomogram = Tomogram(np.zeros(SHAPE, np.float32), VOXEL_SIZE, "TS_01")
    size = np.array(tomogram.extent.size) * VOXEL_SIZE
    truth = Particles(
        positions=rng.uniform(0, size, (count, 3)), rotations=random_rotations(count, rng), tomogram=tomogram.name
    )
    turns = rng.uniform(0, 60, count)
    turned = truth.required_rotations() @ Rotation.from_rotvec(np.radians(turns[:, None]) * [0, 0, 1.0]).as_matrix()
    session = session_of(viewer)
    session.show_tomogram(tomogram)
    session.show_particles(truth, tomogram.extent, role=TRUTH, name="true")
    predicted = truth.replace(rotations=turned, expected_error_deg=turns / 2 + 1)
    session.show_particles(predicted, tomogram.extent, role=PREDICTED, name="predicted")
    return viewer


def seconds_of(act: Callable[[int], object]) -> float:
    """The least CPU time of a few turns, the first not counted."""
    spent = []
    for turn in range(REPEATS + 1):
        began = time.process_time()
        act(turn)
        spent.append(time.process_time() - began)
    return min(spent[1:])


if __name__ == "__main__":
    main()
