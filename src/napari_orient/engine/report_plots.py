"""Plots of an evaluation, drawn without a screen: a tomogram's slab with z axes as arrows, and a histogram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_orient.engine.evaluation import Report, chance_shares
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.symmetry import symmetry

PREDICTED_COLOUR = "#ff3b30"
TRUE_COLOUR = "#34c759"
_FOREGROUND = "#e8e8ea"
_BACKGROUND = "#1c1c20"
_SMOOTHING = 0.7
"""Standard deviation in voxels of the Gaussian that the slab is smoothed with."""


def overview(tomogram: Tomogram, report: Report, *, title: str = "") -> Figure:
    """Figure of the tomogram's middle slab with predicted (red) and true (green) z axes, and a histogram of errors."""
    figure = Figure(figsize=(14, 7.2), facecolor=_BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    slab_axes, histogram_axes = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_slab(slab_axes, tomogram, predicted=report.predicted, truth=report.truth)
    draw_errors(histogram_axes, report)
    if title:
        figure.suptitle(title, color=_FOREGROUND, fontsize=15)
    return figure


def draw_slab(
    axes: Axes, tomogram: Tomogram, *, predicted: Particles, truth: Particles | None = None, thickness: float = 300.0
) -> None:
    """Draw the mean over the middle ``thickness`` Å along z, and the z axis of every particle in it as an arrow.

    The arrow is the axis' projection along the beam.
    """
    extent = tomogram.extent
    middle = extent.size[2] / 2 * extent.voxel_size
    axes.imshow(_slab(tomogram, thickness), cmap="gray", origin="lower", extent=_frame(tomogram))
    for particles, colour, label in ((truth, TRUE_COLOUR, "true"), (predicted, PREDICTED_COLOUR, "predicted")):
        if particles is not None:
            near = np.abs(particles.positions[:, 2] - middle) <= thickness / 2
            _draw_arrows(axes, particles.take(near), colour=colour, label=f"{label} z axis", wide=particles is truth)
    axes.set(xlabel="x (Å)", ylabel="y (Å)", title=f"{tomogram.name}: {thickness:.0f} Å slab")
    legend = axes.legend(loc="upper right", facecolor=_BACKGROUND, edgecolor="none", labelcolor=_FOREGROUND)
    legend.get_frame().set_alpha(0.85)
    _style(axes)


def draw_errors(axes: Axes, report: Report) -> None:
    """Draw a histogram of errors in degrees beside that of random rotations; 20° is marked."""
    edges = np.arange(0, 181, 2.5)
    shares = np.histogram(report.errors_deg, edges)[0] * (100 / max(len(report.errors_deg), 1))
    axes.stairs(shares, edges, fill=True, color=PREDICTED_COLOUR, label="predicted")
    chance = chance_shares(edges, symmetry(report.symmetry)) * 100
    axes.stairs(chance, edges, color="#8e8e93", linewidth=1.5, label="chance")
    axes.axvline(20, color=_FOREGROUND, linewidth=1, linestyle="--")
    axes.annotate(
        "20°",
        (20, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        va="top",
        color=_FOREGROUND,
    )
    scores = report.all
    axes.set(
        xlabel="angle between predicted and true rotation (°)",
        ylabel="share of particles (%)",
        title=f"{scores.count} particles: median {scores.median_deg:.1f}°, {scores.within['20']:.1%} within 20°",
        xlim=(0, 180),
    )
    axes.legend(loc="center right", facecolor=_BACKGROUND, edgecolor="none", labelcolor=_FOREGROUND)
    _style(axes)


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write the figure to an image file, which appears whole or not at all.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110, facecolor=figure.get_facecolor())


def _slab(tomogram: Tomogram, thickness: float) -> NDArray[Any]:
    from scipy.ndimage import gaussian_filter

    half = max(1, round(thickness / tomogram.voxel_size / 2))
    middle = tomogram.density.shape[0] // 2
    mean = np.asarray(tomogram.density[max(middle - half, 0) : middle + half], np.float32).mean(axis=0)
    return np.asarray(gaussian_filter(mean, _SMOOTHING))


def _frame(tomogram: Tomogram) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the slab in Å: the outer edges of its voxels."""
    x, y, _ = tomogram.extent.size
    size = tomogram.voxel_size
    return -size / 2, (x - 0.5) * size, -size / 2, (y - 0.5) * size


def _draw_arrows(
    axes: Axes, particles: Particles, *, colour: str, label: str, wide: bool, length: float = 150.0
) -> None:
    axis: FloatArray = particles.required_rotations()[:, :, 2]
    axes.quiver(
        particles.positions[:, 0],
        particles.positions[:, 1],
        axis[:, 0] * length,
        axis[:, 1] * length,
        angles="xy",
        scale_units="xy",
        scale=1,
        color=colour,
        width=0.009 if wide else 0.0045,
        alpha=0.9,
        label=label,
    )


def _style(axes: Axes) -> None:
    axes.set_facecolor("#26262b")
    axes.tick_params(colors=_FOREGROUND)
    axes.xaxis.label.set_color(_FOREGROUND)
    axes.yaxis.label.set_color(_FOREGROUND)
    axes.title.set_color(_FOREGROUND)
    for spine in axes.spines.values():
        spine.set_color("#55555c")
