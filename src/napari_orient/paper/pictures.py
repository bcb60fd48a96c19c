"""The paper's two figures and three more, without a screen: matplotlib on Agg."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.report_plots import PREDICTED_COLOUR, TRUE_COLOUR
from napari_orient.engine.rotations import PAPER_20_DEG, even_rotations
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg
from napari_orient.paper.stages import Record

_COLOURS = {"6d": "#0a84ff", "quaternion": "#ff9f0a", "euler": "#bf5af2", "9d": "#30b0a0"}
_GREY = "#8e8e93"
_EDGES = np.arange(0, 180.1, 3.0)


def blank(columns: int, *, width: float = 6.0, height: float = 4.6, rows: int = 1) -> tuple[Figure, Any]:
    """A white figure and its (rows, columns) axes."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_angles(panels: Mapping[str, Mapping[str, FloatArray]]) -> Figure:
    """Histograms of the angle between predicted and true rotation for each representation: figure 2, right."""
    figure, axes = blank(len(panels))
    for place, (title, shown) in zip(axes[0], panels.items(), strict=True):
        for name, errors in shown.items():
            label = f"{name}: median {np.median(errors):.1f}°"
            place.stairs(_shares(errors), _EDGES, color=_COLOURS.get(name, _GREY), linewidth=1.8, label=label)
        radians = np.radians(_EDGES)
        place.stairs(
            np.diff(radians - np.sin(radians)) / np.pi * 100, _EDGES, color=_GREY, linestyle=":", label="chance"
        )
        _mark_twenty(place)
        place.set(
            title=title,
            xlabel="angle between predicted and true rotation (°)",
            ylabel="particles (% per 3°)",
            xlim=(0, 180),
        )
        place.legend(frameon=False)
    return figure


def draw_axes(truth: Particles, predicted: Mapping[str, Particles], *, name: str, length: float = 180.0) -> Figure:
    """A test tomogram from aside: the particles' z axes, true in green and predicted in red: figure 2, left."""
    figure = Figure(figsize=(7.5 * len(predicted), 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for column, (title, told) in enumerate(predicted.items(), start=1):
        place: Any = figure.add_subplot(1, len(predicted), column, projection="3d")
        for particles, colour, label in ((truth, TRUE_COLOUR, "true"), (told, PREDICTED_COLOUR, "predicted")):
            arrows = particles.required_rotations()[:, :, 2]
            place.quiver(*truth.positions.T, *arrows.T, length=length, color=colour, linewidth=1.3, label=label)
        place.set(title=f"{title}: {len(truth)} particles of {name}", xlabel="x (Å)", ylabel="y (Å)", zlabel="z (Å)")
        place.set_aspect("equal")
        place.view_init(elev=28, azim=-60)
        place.legend(frameon=False)
    return figure


def draw_neighbours(rows_of: Mapping[str, list[Record]]) -> Figure:
    """Median error and share within 20° against the distance to the nearest neighbour: what clusters cost."""
    figure, axes = blank(2)
    for title, rows in rows_of.items():
        middle = [(row["from_angst"] + row["to_angst"]) / 2 for row in rows]
        axes[0][0].plot(middle, [row["median_deg"] for row in rows], marker="o", label=title)
        shares = [100 * row["within_20"] for row in rows]
        bars = [100 * row["within_20_error"] for row in rows]
        axes[0][1].errorbar(middle, shares, bars, marker="o", capsize=3, label=title)
    axes[0][0].set(xlabel="distance to the nearest neighbour (Å)", ylabel="median error (°)", ylim=(0, None))
    axes[0][1].set(xlabel="distance to the nearest neighbour (Å)", ylabel="within 20° (%)", ylim=(0, 102))
    axes[0][1].legend(frameon=False, fontsize="small")
    return figure


def draw_symmetry(rows: Mapping[str, tuple[FloatArray, FloatArray]], group: Symmetry) -> Figure:
    """What a loss that ignores the symmetry learns: histograms of the plain and of the least angle over the copies."""
    grid = even_rotations(20_000)
    guess = symmetric_angle_deg(grid, np.broadcast_to(np.eye(3), grid.shape), group)
    figure, axes = blank(max(len(rows), 1))
    for place, (title, (plain, least)) in zip(axes[0], rows.items(), strict=False):
        place.stairs(
            _shares(plain), _EDGES, color=_COLOURS["quaternion"], linewidth=1.8, label="angle to the one pose named"
        )
        label = f"least over the {len(group)} copies: median {np.median(least):.1f}°"
        place.stairs(_shares(least), _EDGES, color=_COLOURS["6d"], linewidth=1.8, label=label)
        label = f"chance for the least: median {np.median(guess):.1f}°"
        place.stairs(_shares(guess), _EDGES, color=_GREY, linestyle=":", label=label)
        _mark_twenty(place)
        place.set(title=title, xlabel="angle (°)", ylabel="particles (% per 3°)", xlim=(0, 180))
        place.legend(frameon=False, fontsize="small")
    return figure


def _shares(errors: FloatArray) -> FloatArray:
    shares: FloatArray = np.histogram(errors, _EDGES)[0] * (100 / max(len(errors), 1))
    return shares


def _mark_twenty(place: Axes) -> None:
    for angle, words in ((20.0, "20°"), (PAPER_20_DEG, "24.56°")):
        place.axvline(angle, color="black", linewidth=0.8, linestyle="--")
        place.annotate(words, (angle, 1), xycoords=("data", "axes fraction"), rotation=90, va="top", fontsize="x-small")
