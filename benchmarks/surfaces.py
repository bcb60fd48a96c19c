"""What the reference's surface at every pose costs on the screen, as ratios to napari's own mesh of the same size.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/surfaces.py [--particles 500 1000] [--reference 4v4r]``

In 3D, for every number of particles: one frame; all particles turned, coloured anew, and shown at another isovalue,
each with the frame after it. Beside each stands the ratio to a plain mesh of as many vertices: of a frame, or of new
vertices and a frame. Seconds of the process on all cores, the least of a few: a quiet machine takes no longer.
"""

from __future__ import annotations

import argparse

import napari
import numpy as np
from arrows import EXTENT, seconds_of, some_particles
from napari.layers import Surface
from qtpy.QtWidgets import QApplication

from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.layers.surfaces import USUAL_LEVEL, SurfaceShape, surface_layer
from napari_orient.gui.pages.map_choice import read_reference
from napari_orient.gui.session.viewer_session import session_of


def main() -> None:
    parser = argparse.ArgumentParser(description="frame and update times of surfaces, as ratios to a plain mesh")
    parser.add_argument("--particles", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--reference", default="4v4r")
    given = parser.parse_args()
    heads = ("frame", "turn", "colour", "isovalue")
    print(f"{'particles':>9} {'vertices':>9}", *(f"{head:>14}" for head in heads))
    for count in given.particles:
        vertices, row = measured(count, given.reference)
        cells = " ".join(f"{seconds:7.3f} s {ratio:3.1f}x" for seconds, ratio in row)
        print(f"{count:9d} {vertices:9d} {cells}", flush=True)


def measured(count: int, reference: str) -> tuple[int, list[tuple[float, float]]]:
    """Vertices of all surfaces; seconds and ratios of a frame, turns, colours and another isovalue."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    viewer.dims.ndisplay = 3
    session, shape = session_of(viewer), SurfaceShape(read_reference(reference), name=reference)
    rng = np.random.default_rng(1)
    turns = [some_particles(count).replace(rotations=random_rotations(count, rng)) for _ in range(2)]
    points = session.show_particles(turns[0], EXTENT, role=PREDICTED, name="predicted")
    points.visible = False
    drawing = session.drawing
    drawing.toggle_arrows()
    drawing.show_surface(points, shape, level=USUAL_LEVEL)
    mesh = surface_layer(viewer, points)
    assert mesh is not None
    views = [ViewOptions.of(colour="expected error", high=high) for high in (20.0, 30.0)]
    seconds = [
        seconds_of(viewer, lambda turn: None),
        seconds_of(
            viewer,
            lambda turn: session.replace_particles(points, turns[(turn + 1) % 2], provenance="", words="turn"),
        ),
        seconds_of(viewer, lambda turn: drawing.show_as(views[turn % 2])),
        seconds_of(viewer, lambda turn: drawing.show_surface(points, shape, level=USUAL_LEVEL + 0.02 * (turn + 1))),
    ]
    vertices, faces = np.array(mesh.vertices), np.array(mesh.faces)
    drawing.hide_surface(points)
    plain = Surface((vertices, faces), shading="none", **{"scale": (10.0,) * 3, "units": ("angstrom",) * 3})
    viewer.add_layer(plain)
    viewer.layers.selection = {points}
    frame = seconds_of(viewer, lambda turn: None)
    renewal = seconds_of(viewer, lambda turn: setattr(plain, "data", (vertices + turn + 1, faces)))
    viewer.close()
    QApplication.processEvents()
    return len(vertices), [(each, each / base) for each, base in zip(seconds, (frame, *[renewal] * 3), strict=True)]


if __name__ == "__main__":
    main()
