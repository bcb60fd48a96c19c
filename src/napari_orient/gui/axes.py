"""Arrows along the particles' own axes: red for predicted, green for true. Drawn from the particles, one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points, Vectors

from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.tasks import InputError, Options, option
from napari_orient.gui import layers
from napari_orient.gui.layers import AXES, KEY, PICKS, PREDICTED, TRUTH, LayerParts
from napari_orient.gui.rows import rows_of

SHADES = {
    PREDICTED: ((0.78, 0.10, 0.08), (0.78, 0.10, 0.08), (1.0, 0.16, 0.12)),
    TRUTH: ((0.06, 0.55, 0.16), (0.06, 0.55, 0.16), (0.16, 0.92, 0.30)),
    PICKS: ((0.10, 0.42, 0.72), (0.10, 0.42, 0.72), (0.25, 0.68, 1.0)),
}
"""Colours of the x, y and z axis: predicted red, true green, and blue for poses that came with a list."""

SHORT = 0.55
"""Length of the x and y arrows as a share of z's, so that one sees which is which."""

WIDTHS = {PREDICTED: 0.07, TRUTH: 0.11, PICKS: 0.07}
"""Width of an arrow as a share of its length: where red lies on green, a green rim is left to see."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions(Options):
    """How poses are shown."""

    axes: str = option("all", help="all three axes of each particle, or z alone", choices=("all", "z"))
    length: float = option(200.0, help="length of the z arrow; x and y are shorter", unit="Å", low=5, high=5000)
    style: str = option("arrow", help="arrow: with a head; line: a bar", choices=("arrow", "line"))
    slab: float = option(150.0, help="thickness of the slice shown in 2D; 0 is one voxel", unit="Å", low=0, high=10000)


def directions(rotations: FloatArray, axes: str) -> FloatArray:
    """Axis arrows (N, A, 3) zyx: unit z axes for ``z``; for ``all`` the x, y and z axes, x and y shortened."""
    columns = layers.flip(rotations.transpose(0, 2, 1))
    return columns[:, 2:] if axes == "z" else columns * np.array([SHORT, SHORT, 1.0])[:, None]


def axes_parts(particles: Particles, of: Points | LayerParts, options: ViewOptions) -> LayerParts | None:
    """A vectors layer of the particles' axes, tied by metadata to the points layer they are of; None without poses."""
    if particles.rotations is None or not len(particles):
        return None
    said, name, size = _points(of)
    arrows, colours = _arrows(particles, said["role"], size, options.axes)
    keywords = {
        "name": f"{name} axes",
        "edge_color": colours,
        "length": options.length / size,
        "edge_width": WIDTHS[said["role"]] * options.length / size,
        "vector_style": options.style,
        "projection_mode": "all",
        "opacity": 1.0,
        "metadata": {KEY: {"role": AXES, "of": said["id"]}},
        **layers.world(size),
    }
    return arrows, keywords, "vectors"


def _points(of: Points | LayerParts) -> tuple[dict[str, Any], str, float]:
    if isinstance(of, Points):
        return layers.about(of), of.name, layers.voxel_size(of)
    return of[1]["metadata"][KEY], of[1]["name"], of[1]["scale"][0]


def _arrows(particles: Particles, role: str, size: float, axes: str) -> tuple[FloatArray, FloatArray]:
    """Arrows (N·A, 2, 3) as starts and directions, and their colours (N·A, 4)."""
    along = directions(particles.known_rotations(), axes)
    count = along.shape[1]
    starts = np.repeat(layers.flip(particles.positions) / size, count, axis=0)
    shades = np.array([[*shade, 1.0] for shade in SHADES[role]])[-count:]
    return np.stack([starts, along.reshape(-1, 3)], axis=1), np.tile(shades, (len(particles), 1))


def axes_layer(viewer: ViewerModel, points: Points) -> Vectors | None:
    """The arrows of a points layer, or None where they are not drawn."""
    wanted = layers.about(points).get("id")
    for layer in viewer.layers:
        if isinstance(layer, Vectors) and layers.role(layer) == AXES and layers.about(layer).get("of") == wanted:
            return layer
    return None


def draw_axes(viewer: ViewerModel, points: Points, options: ViewOptions) -> Vectors | None:
    """The arrows of a points layer, drawn anew where they are, or beneath it; None (and none) where it has no poses.

    Points added since are left out: they have no pose yet.
    """
    try:
        particles = layers.particles_of(points)
    except InputError:
        particles = _posed(points)
    old = axes_layer(viewer, points)
    parts = axes_parts(particles, points, options)
    if parts is None:
        if old is not None:
            viewer.layers.remove(old)
        return None
    if old is None:
        return _added(viewer, points, parts)
    arrows, keywords, _ = parts
    # Colours after the data: napari loses them where the number of rows changes.
    old.data = arrows
    old.edge_color = keywords["edge_color"]
    old.length, old.edge_width, old.vector_style = keywords["length"], keywords["edge_width"], options.style
    return old


def _posed(points: Points) -> Particles:
    return rows_of(points, np.flatnonzero(layers.has_pose(points)))


def _added(viewer: ViewerModel, points: Points, parts: LayerParts) -> Vectors:
    arrows, keywords, _ = parts
    layer = Vectors(arrows, **keywords)
    chosen = set(viewer.layers.selection)
    viewer.layers.insert(viewer.layers.index(points), layer)
    viewer.layers.selection = chosen or {points}
    return layer
