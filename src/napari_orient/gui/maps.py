"""Layers of maps beside their tomogram, and the plot of the Fourier shell correlation of half maps."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_orient.engine.map_resolution import FSC
from napari_orient.engine.particles import Tomogram
from napari_orient.gui import layers
from napari_orient.gui.layers import KEY, MAP
from napari_orient.gui.widgets import ACCENT, GOOD, WARNING
from napari_orient.gui.widgets.plot import Line, Mark, Plot

THRESHOLDS = {0.5: WARNING, 0.143: GOOD}
"""FSC values that define a resolution, and their colours: 0.5, and 0.143 for half maps (Rosenthal & Henderson 2003)."""

_SPACING = 1.1
"""Distance between map and tomogram, and between maps, in sides of the map."""

ISOVALUE = 0.4
"""Isovalue of a map's surface as a share of its maximum, 0 to 1; chosen by eye."""


def map_layer(density: NDArray[np.float32], voxel_size: float, tomogram: Tomogram, *, name: str, place: int) -> Image:
    """A layer of a map left of the tomogram at half its height; ``place`` counts maps downwards from 0."""
    return Image(
        density,
        name=name,
        colormap="gray",
        rendering="iso",
        interpolation2d="linear",
        metadata={KEY: {"role": MAP, "name": name}},
        **_display_settings(density),
        **_placement(density, voxel_size, tomogram, place),
        units=("angstrom",) * 3,
        axis_labels=("z", "y", "x"),
    )


def update_map(
    layer: Image, density: NDArray[np.float32], voxel_size: float, tomogram: Tomogram, *, place: int
) -> None:
    """Show another map in a layer; properties that stay equal are not set again."""
    properties = _placement(density, voxel_size, tomogram, place) | _display_settings(density)
    # For a map of the same size the event is blocked: the viewer need not measure and slice every layer again.
    with layer.events.data.blocker() if layer.data.shape == density.shape else nullcontext():
        layer.data = density
    for name, value in properties.items():
        if not np.allclose(getattr(layer, name), value):
            setattr(layer, name, value)


def _display_settings(density: NDArray[np.float32]) -> dict[str, Any]:
    top = float(density.max())
    return {"contrast_limits": (float(density.min()), top), "iso_threshold": ISOVALUE * top}


def _placement(density: NDArray[np.float32], voxel_size: float, tomogram: Tomogram, place: int) -> dict[str, Any]:
    side = len(density) * voxel_size
    middle = layers.flip(np.asarray(tomogram.extent.centre))[0] - (side - voxel_size) / 2
    return {"scale": (voxel_size,) * 3, "translate": (middle, place * _SPACING * side, -_SPACING * side)}


def maps_of(viewer: ViewerModel) -> list[Image]:
    """The layers of maps, in the order of the layer list."""
    return [layer for layer in viewer.layers if layers.role(layer) == MAP]


class FSCPlot(Plot):
    """The Fourier shell correlation of half maps, and the resolutions at the thresholds."""

    def __init__(self, *, height: int) -> None:
        super().__init__(x_label="resolution (Å)", y_label="FSC", words=_resolution_label, height=height)
        self.setToolTip(
            "Fourier shell correlation of the half maps; resolution in Å where it falls below 0.5 and 0.143"
        )

    def show_fsc(self, curve: FSC) -> None:
        """Show this curve."""
        marks = []
        for threshold, colour in THRESHOLDS.items():
            at = curve.resolution(threshold)
            marks.append(Mark(f"{at:.1f} Å", colour, 1 / at, threshold))
        line = Line("half maps", ACCENT, curve.frequency.tolist(), curve.correlation.tolist())
        self.show_curves([line], marks=marks, levels=tuple(THRESHOLDS), y=(0.0, 1.0))


def _resolution_label(frequency: float) -> str:
    return "∞" if frequency <= 0 else f"{1 / frequency:.0f}"
