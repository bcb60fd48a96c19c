"""What arrows cost on the screen: frames, moves and colours, as ratios to napari's own layer of vectors in one run.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/arrows.py [--particles 1000 10000 100000] [--axes all]``

For every number of particles, in 2D (a slab of 150 Å) and in 3D: one frame, all particles moved, all coloured anew,
some hidden and shown again, one added, each with the frame after it; beside each the ratio to what a plain layer of as
many vectors takes for a frame, or for new data and a frame. Seconds of the process on all cores, the least of a few: a
quiet machine takes no longer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import napari
import numpy as np
from napari.layers import Points, Vectors
from qtpy.QtWidgets import QApplication

from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_layer
from napari_orient.gui.layers.layer_data import PREDICTED, flip
from napari_orient.gui.session.viewer_session import session_of

EXTENT = Extent((400, 400, 200), 10.0)
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="frame and update times of arrows, as ratios to plain vectors")
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--axes", default="all", choices=("all", "z"))
    given = parser.parse_args()
    print(
        f"{'particles':>9} {'arrows':>7} {'view':>4}",
        *(f"{head:>14}" for head in ("frame", "move", "colour", "hide", "add one")),
    )
    for count in given.particles:
        for ndisplay in (2, 3):
            row = measured(count, ndisplay=ndisplay, axes=given.axes)
            cells = " ".join(f"{seconds:7.3f} s {ratio:3.1f}x" for seconds, ratio in row)
            print(f"{count:9d} {count * (3 if given.axes == 'all' else 1):7d} {ndisplay:>3}D {cells}", flush=True)


def measured(count: int, *, ndisplay: int, axes: str) -> list[tuple[float, float]]:
    """Seconds and ratios of a frame, a move, new colours and hiding."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    viewer.dims.ndisplay = ndisplay
    frame, renewal = plain(viewer, count * (3 if axes == "all" else 1))
    session = session_of(viewer)
    session.drawing.show_as(ViewOptions(axes=axes))
    points = session.show_particles(some_particles(count), EXTENT, role=PREDICTED, name="predicted")
    points.visible = False
    views = [ViewOptions.of(axes=axes, colour="expected error", high=high) for high in (20.0, 30.0)]
    hiding = [ViewOptions(axes=axes, most_expected=most) for most in (10.0, 15.0)]
    seconds = [
        seconds_of(viewer, lambda turn: None),
        seconds_of(viewer, lambda turn: move(points, turn)),
        seconds_of(viewer, lambda turn: session.drawing.show_as(views[turn % 2])),
        seconds_of(viewer, lambda turn: session.drawing.show_as(hiding[turn % 2])),
        seconds_of(viewer, lambda turn: add(points)),
    ]
    assert axes_layer(viewer, points) is not None
    viewer.close()
    QApplication.processEvents()
    return [(each, each / base) for each, base in zip(seconds, (frame, *[renewal] * 4), strict=True)]


def some_particles(count: int) -> Particles:
    rng = np.random.default_rng(0)
    return Particles(
        positions=rng.uniform(0, 1, (count, 3)) * EXTENT.size * 10.0,
        rotations=random_rotations(count, rng),
        confidence=rng.uniform(0, 1, count),
        expected_error_deg=rng.uniform(0, 30, count),
        tomogram="TS_01",
    )


def move(points: Points, turn: int) -> None:
    """All particles a little further; their arrows follow."""
    points.data = points.data + (-1) ** turn


def add(points: Points) -> None:
    """One particle more, with the pose of the last."""
    particles = layer_data.particles_of(points)
    rows = np.append(np.arange(len(particles)), len(particles) - 1)
    layer_data.replace_particles(points, particles.take(rows), provenance="")


def plain(viewer: napari.Viewer, count: int) -> tuple[float, float]:
    """Seconds of a frame of a plain layer of vectors in one colour, and of one with new data."""
    particles = some_particles(count)
    data = np.stack([flip(particles.positions) / 10, particles.rotations[:, :, 2]], axis=1)
    world = {"scale": (10.0,) * 3, "units": ("angstrom",) * 3}
    layer = Vectors(data, length=20, edge_width=1.4, vector_style="line", projection_mode="all", **world)
    viewer.add_layer(layer)
    viewer.dims.thickness = (150.0, 0.0, 0.0)
    frame = seconds_of(viewer, lambda turn: None)
    renewal = seconds_of(viewer, lambda turn: setattr(layer, "data", data + turn + 1))
    viewer.layers.remove(layer)
    return frame, renewal


def seconds_of(viewer: napari.Viewer, act: Callable[[int], object]) -> float:
    """Seconds of the act and of the frame after it, the least of a few."""
    viewer.screenshot(flash=False)
    taken = []
    for turn in range(REPEATS):
        began = time.process_time()
        act(turn)
        viewer.screenshot(flash=False)
        taken.append(time.process_time() - began)
    return min(taken)


if __name__ == "__main__":
    main()
