"""A figure for print of what is inspected: the view, the failure regions, and the errors of each model, at 300 dpi."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.outputs import replacing
from napari_orient.engine.particles import Tomogram
from napari_orient.gui.colours import Legend
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.canvas import camera, canvas_size, show_scale_bar
from napari_orient.gui.layers.layer_data import FAILURES, PREDICTED
from napari_orient.gui.session.inspected import InspectedParticles, headline
from napari_orient.gui.session.viewer_session import Session
from napari_orient.gui.widgets.error_plots import Bars, draw_bars, draw_dots
from napari_orient.gui.widgets.plot import style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 300
"""Dots per inch: what journals ask of figures that mix images and lines."""

WIDTH, VIEW_HEIGHT, PLOT_HEIGHT = 7.2, 3.6, 1.9
"""Inches: two columns of a page, and the heights of the two rows."""

TEXT = 7.0
"""Points of all text: what journals ask at least."""

SUFFIXES = (".png", ".pdf", ".svg", ".tif")
"""Formats that are written."""

MOST_MODELS = 3
"""Histograms in a row, at most."""

_VIEW_SHARE = 0.45
"""Share of the figure's width that the view takes, about."""

_INK, _FAILURE, _RIGHT = "#202124", "#d3212d", "#e8e8ec"

_SLAB_SLICES = 9
"""Slices about the middle of the tomogram that the map of regions shows the mean of."""

_MOST_REGIONS = 6
"""Regions that are described below their map."""


def save_figure(session: Session, path: Path | str) -> None:
    """Write the figure to an image file, which appears whole or not at all.

    Raises
    ------
    InputError
        If no particles are inspected, the suffix is of no image, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a figure cannot be written as {path.name!r}; expected a file of {', '.join(SUFFIXES)}.")
    figure = make_figure(session)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=DPI, format=path.suffix[1:].lower())


def make_figure(session: Session) -> Figure:
    """The figure: the view and the map of failure regions above, the errors of each model below.

    Raises
    ------
    InputError
        If no particles are inspected.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    inspected = session.inspected
    inspected.settle()
    if inspected.values is None or inspected.layer is None:
        raise InputError("there is nothing to draw: open or predict particles first.")
    figure = Figure(figsize=(WIDTH, VIEW_HEIGHT + PLOT_HEIGHT), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    rows: Any = figure.subfigures(2, 1, height_ratios=(VIEW_HEIGHT, PLOT_HEIGHT))
    above, below = rows
    view, regions = above.subplots(1, 2, width_ratios=(1.45, 1))
    _draw_view(view, session)
    _draw_regions(regions, session)
    models = _models(session)
    both = {"true_error", "expected_error"} <= set(inspected.columns)
    plots = below.subplots(1, max(1, len(models) + both), squeeze=False)[0]
    for axes, (name, bars) in zip(plots, models.items(), strict=False):
        draw_bars(axes, bars, threshold=inspected.threshold, chosen=np.zeros(0, int), ink=_INK, text=TEXT)
        _label(axes, f"{inspected.error_name} (°)", f"{name}: {_share(bars, inspected.threshold)}", "particles")
    if both:
        dots = inspected.dots("expected_error")
        draw_dots(plots[-1], dots, threshold=inspected.threshold, chosen=np.zeros(0, int), ink=_INK, text=TEXT)
        _label(plots[-1], "expected error (°)", "expected against true error", "true error (°)")
    for letter, axes in zip("abcdefgh", (view, regions, *plots), strict=False):
        axes.set_title(letter, loc="left", fontsize=TEXT + 2, fontweight="bold", color=_INK)
    figure.suptitle(headline(inspected)[0], fontsize=TEXT + 2, color=_INK)
    return figure


def _label(axes: Axes, x: str, title: str, y: str) -> None:
    style_axes(axes, _INK, text=TEXT)
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT, color=_INK)
    axes.set_title(title, fontsize=TEXT, color=_INK)


def _share(bars: Bars, threshold: float) -> str:
    known = bars.errors[np.isfinite(bars.errors)]
    return f"{int((known <= threshold).sum())} of {len(known)} within {threshold:g}°"


def _models(session: Session) -> dict[str, Bars]:
    """The histograms of the models that predicted particles of the tomogram shown, by the names of their layers."""
    inspected, found = session.inspected, dict[str, Bars]()
    assert inspected.layer is not None
    others = [layer for layer in session.index.particles(PREDICTED) if layer is not inspected.layer]
    home = session.index.tomogram_of(inspected.layer)
    for layer in [inspected.layer, *(layer for layer in others if session.index.tomogram_of(layer) is home)]:
        columns = session.inspection.particle_values(layer).columns
        if inspected.error_column in columns and len(found) < MOST_MODELS:
            errors = columns[inspected.error_column]
            mine = inspected.bars()
            found[layer.name] = Bars(errors, np.ones(len(errors), bool), mine.high, mine.chance)
    return found


# --- the view -------------------------------------------------------------------------------------------------------


def _draw_view(axes: Axes, session: Session) -> None:
    """Draw the canvas as it is, with legend and scale bar of the figure's own."""
    axes.set(xticks=[], yticks=[])
    picture, scale = _picture(session)
    if picture is None:
        axes.set_axis_off()
        return
    axes.imshow(picture, interpolation="lanczos")
    for side in axes.spines.values():
        side.set_visible(False)
    _draw_legend(axes, session)
    length = _round_length(0.22 * picture.shape[1] / scale)
    right, low = 0.96 * picture.shape[1], 0.95 * picture.shape[0]
    axes.plot([right - length * scale, right], [low, low], "-", color="white", linewidth=2.2, solid_capstyle="butt")
    middle = right - length * scale / 2
    axes.text(middle, low, f"{length:g} Å\n", color="white", fontsize=TEXT, ha="center", va="center")


def _draw_legend(axes: Axes, session: Session) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.lines import Line2D

    from napari_orient.gui.colours import ramp

    drawing = session.drawing
    legend: Legend = drawing.role_legend() if drawing.roles_only else drawing.legend()
    if legend.colormap:
        scale = Normalize(legend.scale.low, legend.scale.high)
        figure: Any = axes.get_figure(root=False)
        bar = figure.colorbar(
            ScalarMappable(scale, ListedColormap(ramp(legend.colormap).tolist())), ax=axes, shrink=0.6, pad=0.02
        )
        bar.ax.tick_params(labelsize=TEXT, color=_INK)
        bar.set_label(f"{legend.title} ({legend.unit})" if legend.unit else legend.title, fontsize=TEXT, color=_INK)
        return
    handles = [Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in legend.entries]
    if handles:
        axes.legend(
            handles=handles, loc="upper left", fontsize=TEXT, facecolor="#17171a", edgecolor="none", labelcolor="white"
        )


def _picture(session: Session) -> tuple[NDArray[np.uint8] | None, float]:
    """The canvas as an image at least as fine as the figure prints it, and its pixels per Å; None without a window."""
    viewer: Any = session.viewer
    if not hasattr(viewer, "screenshot") or not hasattr(viewer, "window"):
        return None, 1.0
    session.failure_view.settle()
    height, width = canvas_size(viewer)
    finer = max(1, int(np.ceil(_VIEW_SHARE * WIDTH * DPI / max(width, 1))))
    with _bare_canvas(session, finer):
        picture = np.asarray(viewer.screenshot(canvas_only=True, flash=False, size=(height * finer, width * finer)))
    return picture[..., :3], float(camera(viewer).zoom) * finer


@contextmanager
def _bare_canvas(session: Session, finer: int) -> Iterator[None]:
    """The canvas without legend and scale bar, texts of failures as many times larger as the picture is."""
    viewer, drawing = session.viewer, session.drawing
    texts = [layer.text for layer in viewer.layers if isinstance(layer, Points) and layer_data.role(layer) == FAILURES]
    legend, drawing.view = drawing.view.legend, drawing.view.replace(legend=False)
    drawing.show_legend()
    show_scale_bar(viewer, shown=False)
    zoom, camera(viewer).zoom = camera(viewer).zoom, camera(viewer).zoom * finer
    for text in texts:
        text.size *= finer
    try:
        yield
    finally:
        for text in texts:
            text.size /= finer
        camera(viewer).zoom = zoom
        show_scale_bar(viewer)
        drawing.view = drawing.view.replace(legend=legend)
        drawing.show_legend()


def _round_length(longest: float) -> float:
    """The longest of 1, 2, 5, 10, … Å that is not longer than this."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest))


# --- the regions ----------------------------------------------------------------------------------------------------


def _draw_regions(axes: Axes, session: Session) -> None:
    """Draw the particles from above, failures with their regions' letters, and describe the regions below."""
    inspected = session.inspected
    assert inspected.values is not None
    assert inspected.layer is not None
    image = session.index.tomogram_of(inspected.layer)
    if image is not None:
        _draw_slab(axes, layer_data.tomogram_of(image))
    places, failed = inspected.values.particles.positions, inspected.failed
    rim: dict[str, Any] = {"markeredgecolor": _INK, "markeredgewidth": 0.4, "rasterized": len(places) > 5000}
    axes.plot(*places[~failed, :2].T, "o", color=_RIGHT, markersize=3, **rim)
    axes.plot(*places[failed, :2].T, "D", color=_FAILURE, markersize=4, **rim)
    for region in inspected.regions[:26]:
        at = places[region.rows, :2].mean(axis=0)
        mark = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.annotate(
            region.name, at, xytext=(5, 5), textcoords="offset points", fontsize=TEXT, fontweight="bold", bbox=mark
        )
    axes.set_aspect("equal")
    # As in the viewer, y points down.
    axes.yaxis.set_inverted(True)
    axes.tick_params(labelsize=TEXT, colors=_INK, length=2)
    axes.set_ylabel("y (Å)", fontsize=TEXT, color=_INK)
    lines = [f"{region.name}  {region.size}" for region in inspected.regions[:_MOST_REGIONS]]
    rest = len(inspected.regions) - _MOST_REGIONS
    lines += [f"and {rest} more regions"] if rest > 0 else []
    axes.set_xlabel("\n".join(["x (Å)", *lines]), fontsize=TEXT, color=_INK)
    axes.set_title("failure regions", fontsize=TEXT, color=_INK)


def _draw_slab(axes: Axes, tomogram: Tomogram) -> None:
    """Draw the mean of a few slices about the middle in grey."""
    middle, half = tomogram.density.shape[0] // 2, _SLAB_SLICES // 2
    mean = np.asarray(tomogram.density[max(middle - half, 0) : middle + half + 1], np.float32).mean(axis=0)
    x, y, _ = tomogram.extent.size
    size = tomogram.voxel_size
    frame = (-size / 2, (x - 0.5) * size, (y - 0.5) * size, -size / 2)
    low, high = np.nanpercentile(mean, [1, 99])
    axes.imshow(mean, cmap="gray", vmin=low, vmax=high, extent=frame, origin="upper", alpha=0.75)


def default_name(inspected: InspectedParticles) -> str:
    """A file's name for the figure: of the tomogram."""
    layer = inspected.layer
    tomogram = "" if layer is None else layer_data.own_tomogram(layer)
    return f"{tomogram or 'particles'}_poses.png"
