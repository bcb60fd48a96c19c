"""Charts of errors that can be clicked: histogram beside chance, error against a quantity, and what goes with it.

The functions draw into any axes: those of a chart on the screen, and those of a figure for print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, Signal
from qtpy.QtGui import QMouseEvent

from napari_orient.engine.inspection.failures import Association
from napari_orient.engine.particles import FloatArray
from napari_orient.gui.layers.layer_rows import Rows
from napari_orient.gui.widgets.basic import ACCENT, BAD
from napari_orient.gui.widgets.plot import LEFT, TEXT, Chart, Pixels, counts_axis, number_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 72
"""Bins of the histogram: of 2.5° over 180°."""

NARROW_BINS = 36
"""Bins of a histogram in axes narrower than `_NARROW`: thinner bars could be neither seen nor clicked."""

_NARROW = 220
"""Pixels of the histogram's axes below which it has fewer bins: bars of 3 pixels."""

CHOSEN = "#ffc53d"
"""Colour of what is selected: bars, and rings round points."""

MIN_HEIGHT = 120
"""Height in pixels of a plot, at least."""

_SMALLEST_SCALE = 4.0
"""Particles at the top of the histogram's axis, at least, so that single particles do not fill it."""

_HEADROOM = 1.1
"""Upper end of an axis over its largest value."""

_LEAST_BAR = 0.04
"""Height of a bar of one particle as a share of the axis, at least: it must be visible and clickable."""

_LEAST_DEG = 0.5
"""Lower end in degrees of logarithmic axes of errors; smaller errors lie on it."""

_GOLDEN = 0.6180339887
"""Steps by this share spread points of one class evenly over its width."""

_LEAST_SPAN = 1e-6
"""Range of a quantity that is the same for all."""

Mask = NDArray[np.bool_]


# --- what is drawn --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bars:
    """A histogram of errors (N,) in degrees up to ``high``, of the rows in the mask; larger ones are in the last bin.

    ``chance`` are the shares of random rotations in the bins, of which there are ``number``, or None to leave them out.
    """

    errors: FloatArray
    shown: Mask
    high: float
    chance: FloatArray | None = None
    number: int = BINS

    @property
    def edges(self) -> FloatArray:
        """Edges of the bins in degrees, (number + 1,)."""
        return np.linspace(0, self.high, self.number + 1)

    def merged(self, number: int) -> Bars:
        """The same histogram with fewer bins, of which each is a whole number of these."""
        chance = None if self.chance is None else self.chance.reshape(number, -1).sum(axis=1)
        return replace(self, chance=chance, number=number)

    def bins(self) -> Rows:
        """The bin of every particle, (N,)."""
        share = np.nan_to_num(self.errors / self.high)
        return np.asarray(np.clip(np.floor(share * self.number), 0, self.number - 1), int)

    def counts(self, mask: Mask) -> Rows:
        """Number of particles in the mask by bin, (number,)."""
        usable = mask & self.shown & np.isfinite(self.errors)
        return np.asarray(np.bincount(self.bins()[usable], minlength=self.number), int)

    def top(self) -> float:
        """Upper end of the axis of counts."""
        return max(float(self.counts(self.shown).max(initial=0)), _SMALLEST_SCALE) * _HEADROOM


def draw_bars(axes: Axes, bars: Bars, *, threshold: float, chosen: Rows, ink: str, text: float = TEXT) -> None:
    """Draw the histogram: right particles blue, failures red, selected ones yellow; chance as a dotted line."""
    top, edges = bars.top(), bars.edges
    right = edges[1:] <= threshold + 1e-9
    _draw_counts(axes, edges, bars.counts(bars.shown), top, np.where(right, ACCENT, BAD))
    mask = np.zeros(len(bars.errors), bool)
    mask[chosen] = True
    _draw_counts(axes, edges, bars.counts(mask), top, np.full(bars.number, CHOSEN))
    if bars.chance is not None:
        expected = bars.chance * bars.counts(bars.shown).sum()
        middles = (edges[:-1] + edges[1:]) / 2
        axes.plot(middles, expected, ":", color=ink, alpha=0.8, linewidth=1.4)
        peak = int(np.argmax(expected))
        at = (float(middles[peak]), float(min(expected[peak], top * 0.8)))
        side = "right" if peak > bars.number / 2 else "center"
        axes.annotate("chance", at, xytext=(0, 5), textcoords="offset points", ha=side, fontsize=text, color=ink)
    counts_axis(axes, top)
    number_axis(axes.xaxis, 0, bars.high)


def _draw_counts(axes: Axes, edges: FloatArray, counts: Rows, top: float, colours: NDArray[np.str_]) -> None:
    """Draw bars of these counts as one artist: a rectangle each takes matplotlib ten times as long."""
    from matplotlib.collections import PolyCollection

    full = np.flatnonzero(counts)
    left, right = edges[full], edges[full] + 0.92 * np.diff(edges)[full]
    heights = np.maximum(counts[full], top * _LEAST_BAR**2)
    corners = np.array([[left, 0 * left], [left, heights], [right, heights], [right, 0 * left]])
    axes.add_collection(
        PolyCollection(list(corners.transpose(2, 0, 1)), facecolors=colours[full].tolist()), autolim=False
    )


@dataclass(frozen=True, eq=False)
class Dots:
    """Errors (N,) in degrees against a quantity (N,), numbers or classes, of the rows in the mask.

    ``diagonal`` marks where both are equal, and gives them one logarithmic scale.
    """

    errors: FloatArray
    values: NDArray[Any]
    shown: Mask
    diagonal: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the quantity is a number."""
        return bool(np.issubdtype(self.values.dtype, np.number))

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their places along x; none of a number."""
        return [] if self.numeric else np.unique(self.values.astype(str)).tolist()

    @property
    def rows(self) -> Rows:
        """The rows that can be drawn."""
        known = np.isfinite(self.values) if self.numeric else np.ones(len(self.errors), bool)
        return np.flatnonzero(self.shown & np.isfinite(self.errors) & known)

    def at(self, rows: Rows) -> Pixels:
        """Values x and y of these rows; classes are 0, 1, … with their particles spread about them."""
        errors = np.maximum(self.errors[rows], _LEAST_DEG)
        if not self.numeric:
            place = np.searchsorted(self.classes, self.values[rows].astype(str))
            return place + 0.6 * ((rows * _GOLDEN) % 1 - 0.5), errors
        values = np.asarray(self.values[rows], float)
        return np.maximum(values, _LEAST_DEG) if self.diagonal else values, errors


def draw_dots(axes: Axes, dots: Dots, *, threshold: float, chosen: Rows, ink: str, text: float = TEXT) -> None:
    """Draw the particles: right ones as blue dots, failures as red diamonds, selected ones with a yellow ring."""
    rows = dots.rows
    wrong = dots.errors[rows] > threshold
    for part, colour, marker, size in ((rows[~wrong], ACCENT, "o", 5.0), (rows[wrong], BAD, "D", 5.5)):
        axes.plot(*dots.at(part), marker, color=colour, markersize=size, alpha=0.75, markeredgewidth=0, rasterized=True)
    ringed = chosen[np.isin(chosen, rows)]
    axes.plot(*dots.at(ringed), "o", markersize=10, markerfacecolor="none", markeredgecolor=CHOSEN, markeredgewidth=2)
    values = np.asarray(dots.values[rows], float) if dots.numeric else np.zeros(0)
    errors = np.concatenate([dots.errors[rows], values if dots.diagonal else values[:0]])
    low = max(_LEAST_DEG, 0.8 * float(errors.min(initial=threshold)))
    high = min(max(1.3 * float(errors.max(initial=0)), 1.5 * threshold, 2 * low), 180.0)
    if dots.diagonal:
        number_axis(axes.xaxis, low, high, log=True)
        axes.plot([low, high], [low, high], "-", color=ink, alpha=0.35, linewidth=1)
    elif dots.numeric:
        number_axis(axes.xaxis, *_span(values))
    else:
        axes.set_xlim(-0.6, len(dots.classes) - 0.4)
        axes.set_xticks(range(len(dots.classes)), [name or "unknown" for name in dots.classes])
    number_axis(axes.yaxis, low, high, log=True)


def _span(values: FloatArray) -> tuple[float, float]:
    """Ends of an axis of these values: round zero where they begin near it; 98 % of a long tail."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high > 2 * (tail := float(np.percentile(values, 98))) > 0:
        high = tail
    low = 0.0 if 0 <= low < 0.5 * high else low
    margin = 0.04 * max(high - low, _LEAST_SPAN)
    return (low if low == 0 else low - margin), high + margin


# --- charts -----------------------------------------------------------------------------------------------------


class ErrorHistogram(Chart):
    """Histogram of errors: selected particles in yellow, chance as a line; a click on a bar selects its particles."""

    def __init__(self) -> None:
        super().__init__(y_label="particles", height=MIN_HEIGHT)
        self._all_bins = Bars(np.zeros(0), np.zeros(0, bool), 180.0)
        self._chosen: Rows = np.zeros(0, int)

    def show_errors(self, bars: Bars, *, label: str, threshold: float, chosen: Rows) -> None:
        """Show this histogram of the quantity with this name, these rows highlighted."""
        known = bool(np.isfinite(bars.errors).any())
        self._all_bins, self._chosen = bars, chosen
        self.x_label, self.y_label = (label, "particles") if known else ("", "")
        self.threshold = threshold if known else None
        self.renew()

    @property
    def bars(self) -> Bars:
        """The histogram as it is drawn: with fewer bins where there is little room."""
        return self._all_bins.merged(NARROW_BINS) if self.area.width() < _NARROW else self._all_bins

    def _draw(self, axes: Axes) -> None:
        if not np.isfinite(self.bars.errors).any():
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "no errors known yet", ha="center", color=self.ink, fontsize=TEXT)
            return
        draw_bars(axes, self.bars, threshold=self.threshold or 0.0, chosen=self._chosen, ink=self.ink)

    def _bin_at(self, at: QPointF) -> int:
        share = self.values_at(at)[0] / self.bars.high
        return int(np.floor(share * self.bars.number)) if 0 <= share < 1 else -1

    def _rows_at(self, at: QPointF) -> Rows:
        usable = self.bars.shown & np.isfinite(self.bars.errors)
        return np.flatnonzero((self.bars.bins() == self._bin_at(at)) & usable)

    def _tooltip_at(self, at: QPointF) -> str:
        number, found = self._bin_at(at), len(self._rows_at(at))
        if not found:
            return ""
        low, high = self.bars.edges[number : number + 2]
        return f"{low:.3g}° to {high:.3g}°: {found} particle{'s' if found > 1 else ''}. Click to select"


class ErrorScatter(Chart):
    """Error against a quantity; a click selects a point."""

    def __init__(self) -> None:
        super().__init__(height=MIN_HEIGHT)
        self.dots = Dots(np.zeros(0), np.zeros(0), np.zeros(0, bool))
        self._chosen: Rows = np.zeros(0, int)
        self._along = "y"

    def show_points(
        self, dots: Dots, *, x_label: str, y_label: str, threshold: float, chosen: Rows, captions: Sequence[str] = ()
    ) -> None:
        """Show these particles, these rows ringed, under the first of the captions that there is room for."""
        self.dots, self.x_label, self.y_label = dots, x_label, y_label
        self.threshold, self.captions, self._chosen = threshold, captions, chosen
        self.renew()

    def _draw(self, axes: Axes) -> None:
        draw_dots(axes, self.dots, threshold=self.threshold or 0.0, chosen=self._chosen, ink=self.ink)

    def _rows_at(self, at: QPointF) -> Rows:
        rows = self.dots.rows
        found = self._nearest(at, self.pixels_of(*self.dots.at(rows)))
        return rows[:0] if found is None else rows[[found]]

    def _tooltip_at(self, at: QPointF) -> str:
        rows = self._rows_at(at)
        if not len(rows):
            return ""
        value = self.dots.values[rows[0]]
        return f"{self.dots.errors[rows[0]]:.1f}°, {f'{value:.3g}' if self.dots.numeric else value}. Click to select"


_BAR_ROW = 24
"""Pixels from one bar to the next."""


class AssociationBars(Chart):
    """How far each property goes with the error, as a bar from -1 to 1; a click emits ``picked`` with its name.

    Bars that chance explains are hollow.
    """

    picked = Signal(str)

    def __init__(self) -> None:
        super().__init__(height=_BAR_ROW, fixed=True)
        self.found: tuple[Association, ...] = ()
        self.setToolTip(
            "Spearman's rank correlation with the error; of a class, the share of the ranks' variance it explains. "
            "p is the probability that chance alone does as well, for all rows together (Holm). Click a row to plot it."
        )

    def show_associations(self, found: Sequence[Association]) -> None:
        """Show these, from the top."""
        self.found = tuple(found)
        self.setFixedHeight(max(1, len(self.found)) * _BAR_ROW + 4)
        self.setVisible(bool(self.found))
        self.renew()

    def texts(self) -> list[str]:
        """What each bar says, from the top: name, strength and probability."""
        return [f"{one.name}: {one.strength:+.2f}, {_chance_text(one)}" for one in self.found]

    def _margins(self) -> tuple[int, int, int, int]:
        return min(178, max(LEFT, self.width() // 2)), 104, 2, 2

    def _draw(self, axes: Axes) -> None:
        for place, one in enumerate(self.found):
            edge, fill = (ACCENT, ACCENT) if one.significant else (self.ink, "none")
            axes.barh(place, one.strength, height=0.5, color=fill, edgecolor=edge)
            style: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset pixels",
                "annotation_clip": False,
                "va": "center",
                "fontsize": TEXT,
                "color": self.ink,
                "alpha": 1.0 if one.significant else 0.7,
            }
            axes.annotate(one.name, (0, place), xytext=(-8, 0), ha="right", **style)
            axes.annotate(f"{one.strength:+.2f}  {_chance_text(one)}", (1, place), xytext=(8, 0), **style)
        axes.axvline(0, color=self.ink, linewidth=0.8, alpha=0.6)
        axes.set(xlim=(-1, 1), ylim=(max(len(self.found), 1) - 0.5, -0.5), xticks=[], yticks=[])
        axes.spines["bottom"].set_visible(False)

    def _row_at(self, at: QPointF) -> int | None:
        place = int(at.y() // _BAR_ROW)
        return place if 0 <= place < len(self.found) else None

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Emit the name of the property under the mouse."""
        row = None if event is None else self._row_at(event.position())
        if row is not None:
            self.picked.emit(self.found[row].name)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Keep the widget's own tooltip."""


def _chance_text(one: Association) -> str:
    if not one.significant:
        return "chance"
    return "p < 0.001" if one.p_value < 0.001 else f"p = {one.p_value:.3f}"
