"""Figures of a pose report, drawn without a screen, on white: errors, directions, places, maps, and particles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average
from napari_orient.engine.evaluation import chance_shares
from napari_orient.engine.inspection.failures import Failures
from napari_orient.engine.inspection.similarity import ReferenceComparison
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.rotations import even_rotations
from napari_orient.engine.symmetry import Symmetry

PREDICTED_COLOUR, TRUE_COLOUR, QUIET_COLOUR = "#c8102e", "#1a7f37", "#8e8e93"
"""Predicted (red), true (green), and what serves to compare (grey): dark on white, and of different lightness."""
_VIEWS_PER_BIN = 3
"""Particles to a bin of the plot of views, about, so that chance alone leaves few bins empty."""
_MOST_BINS = 18
"""Bins of the plot of views along the cosine of the angle to z, at most, and twice as many along the azimuth."""


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def errors_figure(errors_deg: FloatArray, group: Symmetry, *, threshold: float, true: bool) -> Figure:
    """Histogram of errors in degrees, true or expected, beside that of random rotations."""
    figure = _figure(8, 3.6)
    axes = figure.subplots()
    edges = np.arange(0.0, 182.5, 2.5)
    shares = np.histogram(errors_deg, edges)[0] * (100 / max(len(errors_deg), 1))
    label = "true error" if true else "expected error"
    axes.stairs(shares, edges, fill=True, color=PREDICTED_COLOUR, label=label)
    axes.stairs(chance_shares(edges, group) * 100, edges, color="black", linewidth=1.2, label="random rotations")
    axes.axvline(threshold, color="black", linewidth=1, linestyle="--")
    axes.annotate(
        f"{threshold:g}°", (threshold, 0.95), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", va="top",
    )  # fmt: skip
    axes.set(xlabel=f"{label} (°)", ylabel="share of the particles (%)", xlim=(0, 180))
    axes.legend(frameon=False)
    return figure


def views_figure(rotations: FloatArray) -> Figure:
    """Number of particles viewed from each direction: the beam's direction in the particle's frame, of equal areas."""
    figure = _figure(8, 3.8)
    axes = figure.subplots()
    beam = rotations[:, 2, :]
    longitude = np.degrees(np.arctan2(beam[:, 1], beam[:, 0]))
    rows = int(np.clip(np.sqrt(len(beam) / _VIEWS_PER_BIN / 2), 3, _MOST_BINS))
    counts, x, y = np.histogram2d(longitude, beam[:, 2], bins=(2 * rows, rows), range=((-180, 180), (-1, 1)))
    drawn = axes.pcolormesh(x, y, counts.T, cmap="Greys", alpha=0.6, vmin=0, vmax=max(2 * counts.mean(), counts.max()))
    axes.plot(longitude, beam[:, 2], ".", color=PREDICTED_COLOUR, markersize=max(2.0, 5 - len(beam) / 200))
    ticks = np.array([0, 30, 60, 90, 120, 150, 180])
    axes.set_yticks(np.cos(np.radians(ticks)), [f"{tick}" for tick in ticks])
    axes.set_xticks(np.arange(-180, 181, 60))
    axes.set(xlabel="azimuth of the beam in the particle's frame (°)", ylabel="angle to its z axis (°)")
    figure.colorbar(drawn, ax=axes, label="particles", ticks=MaxNLocator(integer=True))
    return figure


def places_figure(particles: Particles, failures: Failures, names: Sequence[str]) -> Figure:
    """Every particle of some tomograms from above, right ones grey, failures red with the letter of their region."""
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = _figure(3.2 * columns + 1.4, 3.4 * rows)
    for axes, name in zip(np.ravel(figure.subplots(rows, columns, squeeze=False)), names, strict=False):
        own = np.asarray(particles.tomogram) == name
        _places(axes, particles.positions, own & ~failures.failed, own & failures.failed)
        for region in failures.regions:
            if region.tomogram == name:
                axes.annotate(region.name, region.centre[:2], xytext=(5, 5), textcoords="offset points", weight="bold")
        axes.set(title=name, xlabel="x (Å)", ylabel="y (Å)", aspect="equal")
    return figure


def _places(axes: Axes, positions: FloatArray, right: NDArray[np.bool_], failed: NDArray[np.bool_]) -> None:
    axes.plot(*positions[right, :2].T, "o", color=QUIET_COLOUR, markersize=3, alpha=0.6)
    axes.plot(*positions[failed, :2].T, "o", color=PREDICTED_COLOUR, markersize=6, markeredgecolor="black")


def average_figure(average: Average) -> Figure:
    """The average's three central slices, and the correlation of its halves."""
    figure = _figure(9, 5.4)
    top, bottom = np.ravel(np.asarray(figure.subfigures(2, 1)))
    middle = len(average.density) // 2
    for axis, (axes, title) in enumerate(zip(top.subplots(1, 3), ("xy", "xz", "yz"), strict=True)):
        axes.imshow(np.take(average.density, middle, axis), cmap="gray", origin="lower")
        axes.set(title=f"{title} through the middle", xticks=(), yticks=())
    axes = bottom.subplots()
    curves = average.resolution
    for curve, label, style in (
        (curves.unmasked, "without a mask", ":"),
        (curves.masked, "in the mask", "--"),
        (curves.corrected, "without what the mask adds", "-"),
    ):
        axes.plot(curve.frequency, curve.correlation, style, color="black", label=label)
    axes.axhline(0.143, color=QUIET_COLOUR, linewidth=1)
    axes.set(xlabel="spatial frequency (1/Å)", ylabel="Fourier shell correlation", ylim=(-0.1, 1.05))
    axes.legend(frameon=False)
    return figure


def particles_figure(comparisons: Sequence[ReferenceComparison], titles: Sequence[str]) -> Figure:
    """A column for each particle: the middle of its patch, and the reference in the predicted and the true pose."""
    pictures = ["patch", "predicted pose", "true pose"]
    cubes = [[one.patch, one.predicted, one.true] for one in comparisons]
    rows = [row for row in range(3) if any(column[row] is not None for column in cubes)]
    figure = Figure(figsize=(max(1.1 * len(cubes), 4), 1.1 * len(rows) + 0.4))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(
        left=0.03, right=0.999, bottom=0.005, top=1 - 0.42 / figure.get_figheight(), hspace=0.04, wspace=0.04
    )
    grid = figure.subplots(len(rows), len(cubes), squeeze=False)
    for row, line in zip(rows, grid, strict=True):
        line[0].set_ylabel(pictures[row], fontsize=9)
        for place, axes in enumerate(line):
            cube = cubes[place][row]
            axes.set(xticks=(), yticks=())
            if cube is not None:
                axes.imshow(_middle(cube), cmap="gray", origin="lower")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, pad=3)
    return figure


def _middle(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the five middle planes across the beam."""
    middle = len(cube) // 2
    plane: NDArray[np.float32] = cube[middle - 2 : middle + 3].mean(axis=0)
    return plane


# --- directions ----------------------------------------------------------------------------------------------------


def largest_gap_deg(rotations: FloatArray, *, count: int = 2000) -> float:
    """Degrees from the direction that is farthest from every view, either way along the beam, to the nearest view."""
    beam = rotations[:, 2, :]
    directions = even_rotations(count)[:, 2, :]
    nearest = np.abs(directions @ beam.T).max(axis=1)
    return float(np.degrees(np.arccos(np.clip(nearest.min(), -1, 1))))


def uniform_views_p(rotations: FloatArray) -> float:
    """Probability of views as uneven by chance if all directions were equally likely (Bingham's test).

    ``15/2 · N · (tr T² - 1/3)`` of the orientation tensor T is χ² with 5 degrees of freedom (Mardia and Jupp,
    Directional Statistics, 2000, section 10.7).
    """
    from scipy.special import chdtrc

    beam = rotations[:, 2, :]
    tensor = beam.T @ beam / max(len(beam), 1)
    return float(chdtrc(5, 7.5 * len(beam) * (float((tensor**2).sum()) - 1 / 3)))
