"""Arrows along the particles' own axes: red for predicted, green for true. Drawn from the particles, one way."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points, Vectors
from numpy.typing import NDArray

from napari_orient.engine.options import Options, option, suboptions
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.gui.colours import (
    AXIS,
    AXIS_SHADES,
    DIM,
    INKS,
    PICKS_INK,
    ROLE,
    Colour,
)
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import AXES, KEY, PICKS, PREDICTED, TRUTH, LayerParts
from napari_orient.gui.layers.particle_values import drawn_particles
from napari_orient.gui.layers.partners import Partners
from napari_orient.gui.preferences import DisplayOptions

SHORT = 0.55
"""Length of the x and y arrows as a share of z's, so that one sees which is which."""

WIDTHS = {PREDICTED: 0.07, TRUTH: 0.11, PICKS: 0.07}
"""Width of an arrow as a share of its length: where red lies on green, a green rim is left to see."""

MANY = 15_000
"""So many arrows lose their heads: pointed bars take half the time to draw."""

DRAWN = "rows"
"""Where an axes layer's metadata say whose arrows they are: rows of the points layer, in order."""

_FEW = 0.1
"""Up to this share of the arrows is put among the others; of more, all are drawn anew."""

_COLUMNS = {"all": slice(None), "x": slice(0, 1), "y": slice(1, 2), "z": slice(2, 3)}


@dataclass(frozen=True, kw_only=True)
class ViewOptions(Options):
    """How poses are shown."""

    axes: str = option("all", help="all three axes of each particle, or one", choices=("all", "x", "y", "z"))
    display: DisplayOptions = suboptions(DisplayOptions)
    legend: bool = option(True, help="explain the colours in a corner of the canvas")
    least_score: float = option(0.0, help="particles with a lower score show no arrows", low=0, high=1)
    most_expected: float = option(
        180.0, help="particles with a larger expected error show no arrows", unit="°", low=0, high=180
    )
    style: str = option("arrow", help="arrow: with a head; line: a bar", choices=("arrow", "line"), expert=True)
    low: float | None = option(None, help="value at the colormap's low end; none for automatic", expert=True)
    high: float | None = option(None, help="value at the colormap's high end; none for automatic", expert=True)

    def ink(self, role: str) -> Colour:
        """The colour of poses of this role."""
        return INKS[{PREDICTED: self.display.predicted, TRUTH: self.display.truth}.get(role, PICKS_INK)]


def directions(rotations: FloatArray, axes: str) -> FloatArray:
    """Axis arrows (N, A, 3) zyx: unit axes for ``x``, ``y`` or ``z``; for ``all`` all three, x and y shortened."""
    columns = layer_data.flip(rotations.transpose(0, 2, 1))
    return columns * np.array([SHORT, SHORT, 1.0])[:, None] if axes == "all" else columns[:, _COLUMNS[axes]]


def shown(particles: Particles, options: ViewOptions, points: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which particles pass score and expected-error thresholds, (N,): no false pick; unscored ones pass.

    ``points`` (N,) are those that the layer shows; by default all.
    """
    sure = ~layer_data.false_picks(particles)
    if points is not None:
        sure &= points
    if particles.confidence is not None:
        sure &= ~(particles.confidence < options.least_score)
    if particles.expected_error_deg is not None:
        sure &= ~(particles.expected_error_deg > options.most_expected)
    return sure


def axes_parts(
    particles: Particles,
    of: Points | LayerParts,
    options: ViewOptions,
    *,
    colours: FloatArray | None = None,
    points: NDArray[np.bool_] | None = None,
) -> LayerParts | None:
    """A vectors layer of the particles' axes, tied by metadata to the points layer they are of; None without poses.

    ``colours`` (N, 3) are the particles' own; without them arrows are coloured by role. ``points`` (N,) are those whose
    points the layer shows; by default all.
    """
    if particles.rotations is None or not len(particles):
        return None
    said, name, size = _points(of)
    rows = shown(particles, options, points)
    shades = _shades(options.ink(said["role"]), len(particles), options, colours)
    keywords = {
        "name": f"{name} axes",
        "edge_color": _flat(shades[rows]),
        "length": options.display.length / size,
        "edge_width": WIDTHS[said["role"]] * options.display.length / size,
        # True poses have no heads: told from predicted ones without colours too.
        "vector_style": "line" if said["role"] == TRUTH else options.style,
        "projection_mode": "all",
        "opacity": 1.0,
        "metadata": {KEY: {"role": AXES, "of": said["id"], DRAWN: np.flatnonzero(rows)}},
        **layer_data.world(size),
    }
    arrows = arrows_of(particles if rows.all() else particles.take(rows), size, options.axes)
    if len(arrows) > MANY and keywords["vector_style"] == "arrow":
        keywords["vector_style"] = "triangle"
    if not len(arrows):
        # Napari's controls do not recover from an empty layer: a point that nobody sees keeps it alive.
        arrows, keywords["edge_color"] = np.zeros((1, 2, 3)), np.zeros((1, 4))
    return arrows, keywords, "vectors"


def _points(of: Points | LayerParts) -> tuple[dict[str, Any], str, float]:
    if isinstance(of, Points):
        return layer_data.about(of), of.name, layer_data.voxel_size(of)
    return of[1]["metadata"][KEY], of[1]["name"], of[1]["scale"][0]


def _shades(ink: Colour, count: int, options: ViewOptions, colours: FloatArray | None) -> FloatArray:
    """Colours of every particle's arrows, (N, A, 3)."""
    which = _COLUMNS[options.axes]
    if options.display.colour == AXIS:
        return np.tile(np.array(AXIS_SHADES)[which], (count, 1, 1))
    if options.display.colour == ROLE or colours is None:
        colours = np.tile(ink, (count, 1))
    bright = np.array([DIM, DIM, 1.0]) if options.axes == "all" else np.ones(1)
    shades: FloatArray = colours[:, None, :] * bright[:, None]
    return shades


def _flat(shades: FloatArray) -> FloatArray:
    """Opaque colours of all arrows in a row, (N·A, 4)."""
    flat = shades.reshape(-1, 3)
    return np.hstack([flat, np.ones((len(flat), 1))])


def arrows_of(particles: Particles, size: float, axes: str) -> FloatArray:
    """Arrows of particles' axes, (N·A, 2, 3) zyx in voxels of this size in Å: starts and directions."""
    along = directions(particles.required_rotations(), axes)
    starts = np.repeat(layer_data.flip(particles.positions) / size, along.shape[1], axis=0)
    return np.stack([starts, along.reshape(-1, 3)], axis=1)


def axes_layer(viewer: ViewerModel, points: Points) -> Vectors | None:
    """The arrows of a points layer, or None where they are not drawn."""
    found = layer_data.drawing_of(viewer, points, AXES)
    return found if isinstance(found, Vectors) else None


def take_arrows(layer: Vectors, points: Points) -> None:
    """Tie these arrows to the points, to be updated in place."""
    layer.name = f"{points.name} axes"
    layer.metadata = {KEY: {"role": AXES, "of": layer_data.identity(points), DRAWN: np.arange(0)}}


def draw_axes(
    viewer: ViewerModel,
    points: Points,
    options: ViewOptions,
    *,
    colours: FloatArray | None = None,
    partners: Partners | None = None,
) -> Vectors | None:
    """The arrows of a points layer, drawn anew where they are, or beneath it; None (and none) where it has no poses.

    Points added since are left out: they have no pose yet. ``colours`` (N, 3) are of those that have one. Particles
    with ``partners`` start as deep in the slab as these.
    """
    old = axes_layer(viewer, points)
    particles, rows = drawn_particles(points)
    if partners is not None:
        particles = partners.level(particles, rows)
    parts = axes_parts(particles, points, options, colours=colours, points=points.shown[rows])
    if parts is None:
        if old is not None:
            viewer.layers.remove(old)
        return None
    if old is None:
        old = _added(viewer, points, parts)
    else:
        _renew(old, parts)
    layer_data.about(old)[DRAWN] = rows[parts[1]["metadata"][KEY][DRAWN]]
    return old


def draw_rows(
    viewer: ViewerModel,
    points: Points,
    rows: NDArray[np.int_],
    particles: Particles,
    options: ViewOptions,
    *,
    colours: FloatArray,
) -> bool:
    """Whether the arrows of these rows alone, whose particles these are, could be drawn, and are.

    They can where all have a pose, and a place among the arrows drawn, or after them; else all must be drawn.
    """
    layer = axes_layer(viewer, points)
    before = layer_data.about(layer).get(DRAWN, rows[:0]) if layer is not None else rows[:0]
    more = np.setdiff1d(rows, before)
    parts = axes_parts(particles, points, options, colours=colours)
    if layer is None or parts is None or not len(before) or not shown(particles, options, points.shown[rows]).all():
        return False
    if not layer.visible:
        return False
    each = len(parts[0]) // len(rows)
    if len(more) and more[0] < before[-1]:
        return False
    layer_data.about(layer)[DRAWN] = after = np.append(before, more)
    places = np.searchsorted(after, rows)[:, None] * each + np.arange(each)
    _put(layer, places.ravel(), parts[0], parts[1]["edge_color"], count=len(after) * each)
    return True


def _renew(layer: Vectors, parts: LayerParts) -> None:
    """Set only those properties of the layer that change: each assignment rebuilds all arrows."""
    arrows, keywords, _ = parts
    if not layer.visible or not _put_few(layer, arrows, keywords["edge_color"]):
        set_arrows(layer, arrows, keywords["edge_color"])
    for name in ("length", "edge_width", "vector_style", "scale"):
        if not np.array_equal(getattr(layer, name), keywords[name]):
            setattr(layer, name, keywords[name])


def set_arrows(layer: Vectors, arrows: FloatArray, colours: FloatArray) -> None:
    """Show these arrows (M, 2, 3) in these colours (M, 4), each set only where it changes."""
    # napari slices no hidden layer anew, and raises where its colours are set while its last slice was another.
    if not layer.visible:
        layer.set_view_slice()
    if not _same(layer.data, arrows):
        with nullcontext() if layer.visible else layer.events.data.blocker():
            layer.data = arrows
        if not layer.visible:
            layer.set_view_slice()
    # Colours after the data: napari loses them where the number of rows changes.
    if not _same(layer.edge_color, colours):
        layer.edge_color = colours


def _put_few(layer: Vectors, arrows: FloatArray, colours: FloatArray) -> bool:
    """Whether these arrows are those drawn but for a few, or a few more: then they are shown now."""
    count, more = len(arrows), len(arrows) - len(layer.data)
    if more < 0:
        return False
    common = slice(count - more)
    other = _differ(layer.data[common], arrows[common]) | _differ(layer.edge_color[common], colours[common])
    rows = np.append(np.flatnonzero(other), np.arange(count - more, count))
    if len(rows) > _FEW * count:
        return False
    _put(layer, rows, arrows[rows], colours[rows], count=count)
    return True


def _put(layer: Vectors, at: NDArray[np.int_], arrows: FloatArray, colours: FloatArray, *, count: int) -> None:
    """Put these arrows at these indices; ``count`` are drawn in all, as many as before or more."""
    more = count - len(layer.data)
    if more > 0:
        every = np.concatenate([layer.data, np.zeros((more, 2, 3))])
        shades = np.vstack([layer.edge_color, np.zeros((more, 4))])
        every[at], shades[at] = arrows, colours
        # The viewer's extent is the points': it need not be measured anew.
        with layer.events.data.blocker():
            layer.data = every
        layer.edge_color = shades
    elif len(at):
        layer.data[at], layer.edge_color[at] = arrows, colours
        layer.refresh(extent=False, thumbnail=False, highlight=False)


def _same(shown: FloatArray, wanted: FloatArray) -> bool:
    return shown.shape == wanted.shape and not _differ(shown, wanted).any()


def _differ(shown: FloatArray, wanted: FloatArray) -> NDArray[np.bool_]:
    """Which rows differ, (N,), in single precision: napari keeps no more."""
    other = shown.astype(np.float32) != wanted.astype(np.float32)
    differ: NDArray[np.bool_] = other.reshape(len(other), -1).any(axis=1)
    return differ


def _added(viewer: ViewerModel, points: Points, parts: LayerParts) -> Vectors:
    arrows, keywords, _ = parts
    layer = Vectors(arrows, visible=points.visible, **keywords)
    layer_data.add_unselected(viewer, layer, beneath=points, otherwise=points)
    return layer
