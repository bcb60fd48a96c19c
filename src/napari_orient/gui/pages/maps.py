"""Maps on view: layers beside their tomogram, pictures in a dock, and the Fourier shell correlation of half maps."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QStyle, QWidget

from napari_orient.engine.map_resolution import FSC
from napari_orient.engine.model.grid import offsets, soft_ball
from napari_orient.engine.particles import Tomogram
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import KEY, MAP
from napari_orient.gui.widgets.basic import ACCENT, GOOD, WARNING
from napari_orient.gui.widgets.plot import Line, Mark, Plot

THRESHOLDS = {0.5: WARNING, 0.143: GOOD}
"""FSC values that define a resolution, and their colours: 0.5, and 0.143 for half maps (Rosenthal & Henderson 2003)."""

_SPACING = 1.1
"""Distance between map and tomogram, and between maps, in sides of the map."""

ISOVALUE = 0.4
"""Isovalue of a map's surface as a share of its maximum, 0 to 1; chosen by eye."""

SIDES = ("xy", "xz", "yz")

_FINE = 64
"""Voxels along the cube that surfaces are drawn from, at least; coarser maps are interpolated."""

_LEVEL = 0.3
"""Isovalue of the surface as a share of the map's maximum, 0 to 1; chosen by eye."""

_MARGIN = 1.15
"""Half the width of a picture, in radii of the particle."""

_LIGHT = np.array([-0.45, -0.55, 0.7]) / np.linalg.norm([-0.45, -0.55, 0.7])
"""Unit vector towards the light, (x, y, towards the viewer): from above left."""

_AMBIENT = 0.24
"""Brightness of a surface that faces away from the light, 0 to 1."""

_DIMMING = 0.35
"""Share of brightness lost from the nearest point of the surface to one a cube's side behind it."""

_HEAD = 17
"""Pixels of a title's height."""

_GAP = 6
"""Pixels between two pictures."""

_LARGEST = 120.0
"""Pixels of a picture's side, at most: two rows then fit beside the other results in a dock."""

_BAR = 100.0
"""Å along the scale bar."""

_CENTRE = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter


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
    middle = layer_data.flip(np.asarray(tomogram.extent.centre))[0] - (side - voxel_size) / 2
    return {"scale": (voxel_size,) * 3, "translate": (middle, place * _SPACING * side, -_SPACING * side)}


def maps_of(viewer: ViewerModel) -> list[Image]:
    """The layers of maps, in the order of the layer list."""
    return [layer for layer in viewer.layers if layer_data.role(layer) == MAP]


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


Colour = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class MapPicture:
    """Surfaces and slices of a map, one for each of `SIDES`, and the width of a picture in Å."""

    surfaces: tuple[QImage, ...]
    slices: tuple[QImage, ...]
    length: float


class MapView(QWidget):
    """Surfaces of a map in the upper row, slices in the lower one."""

    def __init__(self) -> None:
        super().__init__()
        self.picture: MapPicture | None = None
        self.setToolTip("The map from three sides, masked by a sphere of the given diameter, and its central slices")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fitted = 0

    def show_map(self, density: NDArray[np.float32], voxel_size: float, *, radius: float, colour: Colour) -> None:
        """Show a map (n, n, n); the surface is masked by a sphere of ``radius`` Å."""
        self.picture = map_picture(density, voxel_size, radius=radius, colour=colour)
        self.update()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Set the height to two rows of squares and their titles.

        It stays where the width changes by a scroll bar: a lower view may need none, and would grow again without end.
        """
        style = self.style()
        bar = style.pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent) if style is not None else 0
        if abs(self.width() - self._fitted) > bar:
            self._fitted = self.width()
            self.setFixedHeight(int(2 * self._side(self.width()) + _GAP + _HEAD))

    def _side(self, width: float) -> float:
        return max(24.0, min((width - 2 * _GAP) / 3, _LARGEST))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Paint the pictures and a scale bar."""
        if self.picture is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        ink = QColor(self.palette().color(self.foregroundRole()))
        ink.setAlpha(190)
        side = self._side(self.width())
        left = (self.width() - 3 * side - 2 * _GAP) / 2
        for column, name in enumerate(SIDES):
            at = left + column * (side + _GAP)
            painter.setPen(ink)
            painter.drawText(QRectF(at, 0, side, _HEAD), _CENTRE, name)
            painter.drawImage(QRectF(at, _HEAD, side, side), self.picture.surfaces[column])
            painter.drawImage(QRectF(at, _HEAD + side + _GAP, side, side), self.picture.slices[column])
        self._paint_bar(painter, left, side)
        painter.end()

    def _paint_bar(self, painter: QPainter, left: float, side: float) -> None:
        assert self.picture is not None
        wide = side * _BAR / self.picture.length
        bottom = _HEAD + 2 * side + _GAP - 7
        painter.setPen(QPen(QColor("white"), 2))
        painter.drawLine(int(left + 7), int(bottom), int(left + 7 + wide), int(bottom))
        painter.drawText(QRectF(left + 7, bottom - 17, max(wide, 44), 15), Qt.AlignmentFlag.AlignLeft, "10 nm")


def map_picture(density: NDArray[np.float32], voxel_size: float, *, radius: float, colour: Colour) -> MapPicture:
    """Surfaces and slices of a map (n, n, n), [z, y, x], cropped to the particle's sphere and a margin."""
    ball = soft_ball((offsets(len(density), voxel_size) + voxel_size / 2).norm(dim=-1), radius, 2 * voxel_size).numpy()
    length = min(2 * _MARGIN * radius, len(density) * voxel_size)
    share = length / (len(density) * voxel_size)
    fine, cut = _middle(upsampled(density * ball), share), _middle(density, share)
    return MapPicture(
        surfaces=tuple(_coloured(shaded_surface(_viewed_along(fine, axis)), colour) for axis in range(3)),
        slices=tuple(_grey(_viewed_along(cut, axis)) for axis in range(3)),
        length=length,
    )


def _middle(cube: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """The central part of a cube, ``share`` of its sides."""
    cut = round((1 - share) * len(cube) / 2)
    return cube[(slice(cut, len(cube) - cut),) * 3]


def _viewed_along(cube: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The cube with its first axis away from the viewer, along z, y or x."""
    return np.moveaxis(cube, axis, 0)


def upsampled(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map on a grid of at least `_FINE` voxels a side, by Fourier interpolation; a finer map unchanged."""
    import scipy.fft

    side = len(density)
    if side >= _FINE:
        return np.asarray(density, np.float32)
    wide = side * -(-_FINE // side)
    spectrum = scipy.fft.fftshift(scipy.fft.fftn(np.asarray(density, np.float32)))
    first = wide // 2 - side // 2
    padded = np.zeros((wide,) * 3, np.complex64)
    padded[(slice(first, first + side),) * 3] = spectrum
    return np.asarray(scipy.fft.ifftn(scipy.fft.ifftshift(padded)).real * (wide / side) ** 3, np.float32)


def shaded_surface(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brightness of a map's surface viewed along its first axis, (n, n), 0 to 1; NaN off the surface."""
    level = _LEVEL * float(cube.max())
    inside = cube > level
    hit, first = inside.any(axis=0), inside.argmax(axis=0)
    depth = np.where(hit, _crossing(cube, first, level), np.nan)
    slopes = [np.where(np.isfinite(slope), slope, 0.0) for slope in np.gradient(_with_background(depth))]
    normal = np.stack([slopes[1], slopes[0], np.ones_like(depth)]) / np.sqrt(1 + slopes[0] ** 2 + slopes[1] ** 2)
    facing = np.clip(np.einsum("i,ihw->hw", _LIGHT, normal), 0, 1)
    near = 1 - _DIMMING * (depth - np.nanmin(depth, initial=np.inf)) / len(cube) if hit.any() else depth
    return np.asarray(np.where(hit, (_AMBIENT + (1 - _AMBIENT) * facing) * near, np.nan), np.float32)


def _crossing(cube: NDArray[np.float32], first: NDArray[np.intp], level: float) -> NDArray[np.float32]:
    """Depth at which each ray crosses the isovalue, interpolated between two voxels."""
    before = np.maximum(first - 1, 0)
    inner, outer = (np.take_along_axis(cube, at[None], axis=0)[0] for at in (first, before))
    share = np.clip((inner - level) / np.maximum(inner - outer, 1e-9), 0, 1)
    return np.asarray(first - share * (first > 0), np.float32)


def _with_background(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depths with a wall far behind the surface's outline, so that its rim is shaded."""
    far = np.nanmax(depth, initial=0.0) + 2
    return np.where(np.isfinite(depth), depth, far)


def _coloured(bright: NDArray[np.float32], colour: Colour) -> QImage:
    """The surface in a colour, transparent elsewhere."""
    solid = np.isfinite(bright)
    pixels = np.zeros((*bright.shape, 4), np.uint8)
    pixels[..., :3] = np.nan_to_num(bright)[..., None] * 255 * np.asarray(colour)
    pixels[..., 3] = solid * 255
    high, wide = bright.shape
    return QImage(pixels.tobytes(), wide, high, 4 * wide, QImage.Format.Format_RGBA8888).copy()


def _grey(cube: NDArray[np.float32]) -> QImage:
    middle = cube[len(cube) // 2 - 1 : len(cube) // 2 + 1].mean(axis=0)
    low, high = (float(value) for value in np.percentile(middle, [1, 99.8]))
    grey = np.clip((middle - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    tall, wide = grey.shape
    return QImage(grey.tobytes(), wide, tall, wide, QImage.Format.Format_Grayscale8).copy()
