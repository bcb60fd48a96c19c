"""Colours of particles: by role, by axis, or by a quantity; and the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.particles import FloatArray

Colour = tuple[float, float, float]
Columns = Mapping[str, NDArray[Any]]

ROLE, AXIS = "role", "axis"
GRADED = {"true error": "°", "expected error": "°", "score": ""}
"""What is shown by a colormap, and its unit."""

NAMED = ("class", "cluster", "status")
COLOURINGS = (ROLE, AXIS, *GRADED, *NAMED)

COLORMAPS = ("plasma", "viridis", "inferno", "magma", "cividis")
"""Perceptually uniform colormaps."""

DARKEST = 0.12
"""Where on a colormap the scale begins: what lies below cannot be distinguished from a dark tomogram."""

INKS: Mapping[str, Colour] = {
    "red": (0.93, 0.10, 0.14),
    "green": (0.45, 1.0, 0.45),
    "blue": (0.25, 0.68, 1.0),
    "orange": (1.0, 0.58, 0.10),
    "magenta": (0.95, 0.32, 0.85),
    "cyan": (0.15, 0.88, 0.90),
    "yellow": (0.98, 0.87, 0.20),
    "white": (0.95, 0.95, 0.95),
}
"""Colours of a role by their names: each is visible on a dark tomogram. Red and green differ in lightness by 32 of 100
for deuteranopes too (simulated after Machado et al. 2009)."""

PALETTES: Mapping[str, tuple[str, str]] = {"red and green": ("red", "green"), "blue and orange": ("blue", "orange")}
"""Pairs of colours for predicted and true poses; the second differs in hue for everybody."""

PREDICTED_INK, TRUE_INK, PICKS_INK = "red", "green", "blue"
"""Of poses that were predicted, that are true, and that came with a list of picks."""

AXIS_SHADES: tuple[Colour, Colour, Colour] = ((0.93, 0.28, 0.29), (0.25, 0.72, 0.36), (0.30, 0.56, 1.0))
DIM = 0.72
"""Brightness of the x and y arrows beside z's, where all three share a colour."""

UNKNOWN: Colour = (0.55, 0.55, 0.58)
VERDICTS: Mapping[str, Colour] = {"accepted": (0.19, 0.78, 0.36), "rejected": (0.95, 0.42, 0.15), "": UNKNOWN}

SET_APART: tuple[Colour, ...] = (
    (0.34, 0.71, 0.91),
    (0.90, 0.62, 0.00),
    (0.00, 0.72, 0.53),
    (0.86, 0.53, 0.72),
    (0.94, 0.89, 0.26),
    (0.90, 0.38, 0.10),
    (0.50, 0.55, 1.00),
    (0.65, 0.85, 0.40),
)
"""Colours that colour-blind people can distinguish, after Okabe and Ito; reused where there are more names."""


@dataclass(frozen=True)
class ColourScale:
    """From which value to which the colormap runs; of names, which there are, in the order of their colours."""

    low: float = 0.0
    high: float = 1.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Legend:
    """What colours mean: names with their colours, or a colormap with the values at its ends."""

    title: str
    entries: tuple[tuple[str, Colour], ...] = ()
    colormap: str = ""
    scale: ColourScale = ColourScale()
    unit: str = ""


def column_of(colouring: str) -> str:
    """The name of the column that a colouring shows: ``true error`` shows ``true_error``."""
    return colouring.replace(" ", "_")


def particle_colours(
    columns: Columns, colouring: str, *, ink: Colour, colormap: str, scale: ColourScale, count: int
) -> FloatArray:
    """A colour for each particle, (N, 3), 0 to 1; ``ink`` where the colouring has no value for these particles."""
    values = columns.get(column_of(colouring))
    if values is None or colouring in (ROLE, AXIS):
        return np.tile(ink, (count, 1))
    if colouring in GRADED:
        return graded(values, colormap, scale)
    if colouring == "status":
        return np.array([VERDICTS.get(str(value), UNKNOWN) for value in values]).reshape(-1, 3)
    return named(values, scale.names)


def graded(values: NDArray[Any], colormap: str, scale: ColourScale) -> FloatArray:
    """Colours of numbers, (N, 3); grey where a number is unknown."""
    numbers = np.asarray(values, float)
    share = np.clip((numbers - scale.low) / max(scale.high - scale.low, 1e-9), 0, 1)
    colours = ramp(colormap)[np.rint(np.nan_to_num(share) * 255).astype(int)]
    colours[np.isnan(numbers)] = UNKNOWN
    return np.asarray(colours)


def ramp(colormap: str) -> FloatArray:
    """The colours of a colormap from its low to its high end, (256, 3)."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[colormap](DARKEST + (1 - DARKEST) * np.linspace(0, 1, 256))[:, :3])


def named(values: NDArray[Any], names: Sequence[str] = ()) -> FloatArray:
    """Colours of names by their place among all, and of clusters by their number, (N, 3); grey for none of them."""
    palette = np.array([UNKNOWN, *SET_APART])
    place = {name: number for number, name in enumerate(names, start=1)}
    number = values if values.dtype.kind in "iu" else np.array([place.get(str(value), 0) for value in values], int)
    return np.asarray(palette[np.where(number > 0, (number - 1) % len(SET_APART) + 1, 0)])


def colour_scale_of(
    columns: Sequence[Columns], colouring: str, *, low: float | None, high: float | None
) -> ColourScale:
    """The scale that layers with these columns share.

    It is as asked for; else an error's runs from 0 to nearly the largest, a score's from 0 to 1.
    """
    found = [part[column_of(colouring)] for part in columns if column_of(colouring) in part]
    if colouring not in GRADED:
        texts = [part.astype(str) for part in found if part.dtype.kind not in "iu"]
        return ColourScale(
            names=tuple(name for name in np.unique(np.concatenate(texts)).tolist() if name) if texts else ()
        )
    numbers = np.concatenate([np.asarray(part, float) for part in found]) if found else np.zeros(0)
    numbers = numbers[np.isfinite(numbers)]
    largest = 1.0 if colouring == "score" else _largest_error(numbers)
    bottom = 0.0 if low is None else low
    return ColourScale(bottom, max(largest if high is None else high, bottom + 1e-6))


def _largest_error(numbers: NDArray[Any]) -> float:
    return min(_rounded_up(float(np.percentile(numbers, 98))), 180.0) if numbers.size else 20.0


def _rounded_up(value: float) -> float:
    """The next whole, half or fifth of a power of ten, or what lies between: 13.2 gives 15."""
    steps = np.array([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10])
    power = 10.0 ** np.floor(np.log10(max(value, 1e-6)))
    return float(power * steps[np.searchsorted(steps, value / power - 1e-9)])


def legend_of(
    colouring: str, *, roles: Mapping[str, Colour], columns: Sequence[Columns], colormap: str, scale: ColourScale
) -> Legend:
    """What the colours mean, of the layers with these roles, each with its colour, and columns."""
    if colouring == AXIS:
        return Legend("axis", tuple(zip("xyz", AXIS_SHADES, strict=True)))
    by_role = tuple(roles.items())
    found = [part[column_of(colouring)] for part in columns if column_of(colouring) in part]
    if colouring == ROLE or not found:
        unknown = "" if colouring == ROLE or not roles else f"{colouring} is not known: by "
        return Legend(f"{unknown}role", by_role)
    if colouring in GRADED:
        return Legend(colouring, colormap=colormap, scale=scale, unit=GRADED[colouring])
    if colouring == "status":
        return Legend(colouring, tuple((name or "not judged", colour) for name, colour in VERDICTS.items()))
    return Legend(colouring, _names(np.concatenate(found), scale))


def legend_words(legend: Legend) -> str:
    """The legend in words alone, for where nothing can be painted: ``predicted red, truth green``."""
    if legend.colormap:
        scale, unit = legend.scale, legend.unit
        return f"{legend.title}: {scale.low:.3g}{unit} dark to {scale.high:.3g}{unit} bright ({legend.colormap})"
    inks = {colour: name for name, colour in INKS.items()} | dict(
        zip(AXIS_SHADES, ("red", "green", "blue"), strict=True)
    )
    named_ones = [f"{name} {inks[colour]}" if colour in inks else name for name, colour in legend.entries]
    lead = "" if legend.title == ROLE else f"{legend.title}: "
    return lead + ", ".join(named_ones)


def _names(values: NDArray[Any], scale: ColourScale, *, most: int = 8) -> tuple[tuple[str, Colour], ...]:
    names = np.unique(values)
    entries = [(_word(name), _colour(row)) for name, row in zip(names.tolist(), named(names, scale.names), strict=True)]
    if len(entries) > most:
        entries = [*entries[:most], (f"and {len(entries) - most} more", UNKNOWN)]
    return tuple(entries)


def _word(name: Any) -> str:
    return "alone" if name == 0 else str(name) or "no name"


def _colour(row: FloatArray) -> Colour:
    red, green, blue = (float(part) for part in row)
    return red, green, blue
