"""Maps of particles as layers beside their tomogram, and the curve of their halves' agreement."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_orient.engine.averaging.average import FSC
from napari_orient.engine.particles import Tomogram
from napari_orient.gui import layers
from napari_orient.gui.layers import KEY, MAP
from napari_orient.gui.widgets import ACCENT, GOOD, WARNING
from napari_orient.gui.widgets.plot import Line, Mark, Plot

THRESHOLDS = {0.5: WARNING, 0.143: GOOD}
ISOVALUE = 0.4
"""Of a map's surface, as a share of its maximum."""


def map_layer(density: NDArray[np.float32], voxel_size: float, tomogram: Tomogram, *, name: str, place: int) -> Image:
    """A layer of a map, left of the tomogram and halfway up; maps of further places stand below one another."""
    return Image(
        density,
        name=name,
        colormap="gray",
        rendering="iso",
        interpolation2d="linear",
        metadata={KEY: {"role": MAP, "name": name}},
        **_looks(density),
        **_standing(density, voxel_size, tomogram, place),
        units=("angstrom",) * 3,
        axis_labels=("z", "y", "x"),
    )


def update_map(
    layer: Image, density: NDArray[np.float32], voxel_size: float, tomogram: Tomogram, *, place: int
) -> None:
    """Nothing; the layer shows this map instead, where it stood; what is as it was is not touched."""
    wanted = _standing(density, voxel_size, tomogram, place) | _looks(density)
    # Where the map is as large as before, the viewer need not measure and slice every layer anew.
    with layer.events.data.blocker() if layer.data.shape == density.shape else nullcontext():
        layer.data = density
    for name, value in wanted.items():
        if not np.allclose(getattr(layer, name), value):
            setattr(layer, name, value)


def _looks(density: NDArray[np.float32]) -> dict[str, Any]:
    top = float(density.max())
    return {"contrast_limits": (float(density.min()), top), "iso_threshold": ISOVALUE * top}


def _standing(density: NDArray[np.float32], voxel_size: float, tomogram: Tomogram, place: int) -> dict[str, Any]:
    side = len(density) * voxel_size
    middle = layers.flip(np.asarray(tomogram.extent.centre))[0] - (side - voxel_size) / 2
    return {"scale": (voxel_size,) * 3, "translate": (middle, place * 1.1 * side, -1.1 * side)}


def maps_of(viewer: ViewerModel) -> list[Image]:
    """The layers that show maps, in the order of the list."""
    return [layer for layer in viewer.layers if layers.role(layer) == MAP]


class FSCPlot(Plot):
    """The Fourier shell correlation of two halves, and where it falls below either threshold."""

    def __init__(self, *, height: int) -> None:
        super().__init__(x_label="resolution (Å)", y_label="FSC", words=_resolution_words, height=height)
        self.setToolTip("Fourier shell correlation of two random halves; resolution in Å where it falls below")

    def show_fsc(self, curve: FSC) -> None:
        """Nothing; this curve is shown."""
        marks = []
        for threshold, colour in THRESHOLDS.items():
            at = curve.resolution(threshold)
            marks.append(Mark(f"{at:.1f} Å", colour, 1 / at, threshold))
        line = Line("halves", ACCENT, curve.frequency.tolist(), curve.correlation.tolist())
        self.show_curves([line], marks=marks, levels=tuple(THRESHOLDS), y=(0.0, 1.0))


def _resolution_words(frequency: float) -> str:
    return "∞" if frequency <= 0 else f"{1 / frequency:.0f}"
