"""Figures drawn without a screen: of a pose report, on white, and the overview of an evaluation, on black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from napari_orient.engine.evaluation import Report, chance_shares
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.rotations import even_rotations
from napari_orient.engine.symmetry import Symmetry, symmetry

if TYPE_CHECKING:
    from napari_orient.engine.averaging import Average
    from napari_orient.engine.inspection.failures import Failures
    from napari_orient.engine.inspection.similarity import ReferenceComparison
    from napari_orient.engine.reports.training_report import ValidationPoint

PREDICTED_COLOUR, QUIET_COLOUR = "#c8102e", "#8e8e93"
"""Predicted (red), and what serves to compare (grey): dark on white, and of different lightness."""
_FOOT = 0.1, 10.0
"""Degrees, bounds of the least error that the plot of a training shows. Chosen: no model is finer, chance is high."""
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


def training_figure(points: Sequence[ValidationPoint], by_chance: float) -> Figure:
    """Median errors of the validation part as training goes on, beside chance; losses below, where there are any."""
    losses = [point.losses for point in points if point.losses is not None]
    figure = _figure(8, 5.2 if losses else 3.4)
    above, *below = figure.subplots(2 if losses else 1, 1, sharex=True, squeeze=False)[:, 0]
    done = [point.done for point in points]
    medians = [point.median_deg for point in points]
    above.plot(done, medians, "o-", color=PREDICTED_COLOUR, markersize=3, label="median error")
    above.axhline(by_chance, color="black", linewidth=1.2, label="random rotations")
    # A template's errors of a degree would lie on the axis of a linear scale beside chance.
    above.set(yscale="log", ylabel="error (°)", ylim=(0.7 * np.clip(min(medians), *_FOOT), 180))
    above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    above.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    above.yaxis.set_minor_formatter(NullFormatter())
    above.legend(frameon=False)
    for axes in below:
        steps = [point.done for point in points if point.losses is not None]
        axes.plot(steps, [training for training, _ in losses], color=QUIET_COLOUR, label="training loss")
        axes.plot(steps, [validation for _, validation in losses], color="black", label="validation loss")
        axes.set(ylabel="loss", ylim=(0, None))
        axes.legend(frameon=False)
    last = below[-1] if below else above
    last.set(xlabel="epoch" if losses else "average")
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    from scipy.spatial import KDTree

    beam = rotations[:, 2, :]
    chord = np.max(KDTree(np.concatenate([beam, -beam])).query(even_rotations(count)[:, 2, :])[0])
    return float(np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))))


def uniform_views_p(rotations: FloatArray) -> float:
    """Probability of views as uneven by chance if all directions were equally likely (Bingham's test).

    ``15/2 · N · (tr T² - 1/3)`` of the orientation tensor T is χ² with 5 degrees of freedom (Mardia and Jupp,
    Directional Statistics, 2000, section 10.7).
    """
    from scipy.special import chdtrc

    beam = rotations[:, 2, :]
    tensor = beam.T @ beam / max(len(beam), 1)
    return float(chdtrc(5, 7.5 * len(beam) * (float((tensor**2).sum()) - 1 / 3)))


# --- the overview of an evaluation ------------------------------------------------------------------------------------

LIGHT_RED, LIGHT_GREEN = "#ff3b30", "#34c759"
"""Predicted and true, on black."""
_FOREGROUND = "#e8e8ea"
_BACKGROUND = "#1c1c20"
_SMOOTHING = 0.7
"""Standard deviation in voxels of the Gaussian that the slab is smoothed with."""
_SLAB = 300.0
"""Å, thickness of the slab."""
_ARROW = 150.0
"""Å, length of an arrow."""


def overview(tomogram: Tomogram, report: Report, *, title: str) -> Figure:
    """The tomogram's middle slab with predicted (red) and true (green) z axes, and a histogram of errors, on black."""
    figure = Figure(figsize=(14, 7.2), facecolor=_BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    slab_axes, histogram_axes = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_slab(slab_axes, tomogram, report)
    _draw_errors(histogram_axes, report)
    figure.suptitle(title, color=_FOREGROUND, fontsize=15)
    return figure


def _draw_slab(axes: Axes, tomogram: Tomogram, report: Report) -> None:
    """Draw the mean over a slab in the middle, and projections along the beam of the z axes of the true poses in it.

    A predicted pose is drawn with its true one, wherever its own position lies.
    """
    extent = tomogram.extent
    middle = extent.size[2] / 2 * extent.voxel_size
    axes.imshow(_slab(tomogram), cmap="gray", origin="lower", extent=_frame(tomogram))
    drawn = ((report.truth, LIGHT_GREEN, "true", 0.009), (report.predicted, LIGHT_RED, "predicted", 0.0045))
    rows = np.abs(report.truth.positions[:, 2] - middle) <= _SLAB / 2
    for particles, colour, label, width in drawn:
        near = particles.take(rows)
        axis = near.required_rotations()[:, :, 2] * _ARROW
        axes.quiver(
            *(near.positions[:, 0], near.positions[:, 1], axis[:, 0], axis[:, 1]),
            angles="xy",
            scale_units="xy",
            scale=1,
            color=colour,
            width=width,
            alpha=0.9,
            label=f"{label} z axis",
        )
    axes.set(xlabel="x (Å)", ylabel="y (Å)", title=f"{tomogram.name}: {_SLAB:.0f} Å slab")
    legend = axes.legend(loc="upper right", facecolor=_BACKGROUND, edgecolor="none", labelcolor=_FOREGROUND)
    legend.get_frame().set_alpha(0.85)
    _style(axes)


def _draw_errors(axes: Axes, report: Report) -> None:
    """Draw a histogram of errors in degrees beside that of random rotations; 20° is marked."""
    edges = np.arange(0, 181, 2.5)
    shares = np.histogram(report.errors_deg, edges)[0] * (100 / max(len(report.errors_deg), 1))
    axes.stairs(shares, edges, fill=True, color=LIGHT_RED, label="predicted")
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


def _slab(tomogram: Tomogram) -> NDArray[Any]:
    from scipy.ndimage import gaussian_filter

    half = max(1, round(_SLAB / tomogram.voxel_size / 2))
    middle = tomogram.density.shape[0] // 2
    mean = np.asarray(tomogram.density[max(middle - half, 0) : middle + half], np.float32).mean(axis=0)
    return np.asarray(gaussian_filter(mean, _SMOOTHING))


def _frame(tomogram: Tomogram) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the slab in Å: the outer edges of its voxels."""
    x, y, _ = tomogram.extent.size
    size = tomogram.voxel_size
    return -size / 2, (x - 0.5) * size, -size / 2, (y - 0.5) * size


def _style(axes: Axes) -> None:
    axes.set_facecolor("#26262b")
    axes.tick_params(colors=_FOREGROUND)
    axes.xaxis.label.set_color(_FOREGROUND)
    axes.yaxis.label.set_color(_FOREGROUND)
    axes.title.set_color(_FOREGROUND)
    for spine in axes.spines.values():
        spine.set_color("#55555c")
