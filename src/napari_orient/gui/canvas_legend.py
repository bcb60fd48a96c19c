"""Legend on the canvas: names in their colours, or a colour bar with values; in words where napari has no overlays."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Points

from napari_orient.gui.canvas import show_words
from napari_orient.gui.colours import ROLE, Colour, Legend, legend_words, ramp
from napari_orient.gui.layers import PREDICTED, TRUTH

_KEY = "orient_legend"
"""Names of our overlays among the canvas's begin with this."""

_GROUND = (0.07, 0.07, 0.08, 0.92)
"""Colour behind the legend, RGBA: dark in either theme, as the tomograms on which the colours are seen."""

_TEXT_POINTS = 11
"""Size of the legend's text in points."""

_BAR_SIZE = (18.0, 130.0)
"""Width and height of the colour bar in pixels."""

_SHAPES = {PREDICTED: "→", TRUTH: "▬"}
"""What a role's arrows look like, for those who cannot tell the colours apart."""


class CanvasLegend:
    """The legend in one viewer's canvas; showing it again replaces it, and it leaves other people's words alone."""

    def __init__(self) -> None:
        self._shown: tuple[object, ...] = ()
        self._words = ""
        self._barred: weakref.WeakSet[Points] = weakref.WeakSet()

    def show(self, viewer: ViewerModel, legend: Legend | None, drawn: Sequence[Points]) -> None:
        """Show this legend, or none; a colour bar hangs on the first visible one of the layers drawn in its colours."""
        overlays = _overlays(viewer)
        host = next((layer for layer in drawn if layer.visible and hasattr(layer, "face_colorbar")), None)
        barred = legend is not None and bool(legend.colormap) and host is not None and overlays is not None
        if overlays is None:
            words = "" if legend is None else legend_words(legend)
            show_words(viewer, words, instead_of=self._words)
            self._words = words
            return
        lines = [] if legend is None else _lines(legend, barred=barred)
        if (state := (tuple(lines), legend if barred else None, id(host) if barred else 0)) == self._shown:
            return
        self._shown = state
        self._write(overlays, lines)
        for layer in list(self._barred):
            layer.face_colorbar.visible = False
        self._barred.clear()
        if legend is not None and host is not None and barred:
            self._hang_bar(host, legend)

    def _write(self, overlays: Any, lines: Sequence[tuple[str, Colour]]) -> None:
        from napari.components.overlays import TextOverlay

        for key in [key for key in overlays if key.startswith(_KEY)][len(lines) :]:
            del overlays[key]
        for number, (text, colour) in enumerate(lines):
            key = f"{_KEY}_{number}"
            values = {"text": text, "color": (*colour, 1.0), "visible": True}
            if key in overlays:
                for name, value in values.items():
                    setattr(overlays[key], name, value)
            else:
                overlays[key] = TextOverlay(position="top_left", box_color=_GROUND, font_size=_TEXT_POINTS, **values)

    def _hang_bar(self, host: Points, legend: Legend) -> None:
        """Show the colormap and its values on a layer that is drawn in these colours, without changing its own."""
        from napari.utils.colormaps import Colormap

        host.face_colormap = Colormap(ramp(legend.colormap), name=f"{legend.colormap} (legend)")
        host.face_contrast_limits = (legend.scale.low, legend.scale.high)
        bar = host.face_colorbar
        bar.position, bar.size, bar.font_size, bar.box_color, bar.color = "top_left", _BAR_SIZE, 9, _GROUND, "white"
        bar.visible = True
        self._barred.add(host)

    def texts(self, viewer: ViewerModel) -> list[str]:
        """The legend's lines, from the top."""
        overlays = _overlays(viewer)
        if overlays is None:
            return [self._words] if self._words else []
        return [overlays[key].text for key in overlays if key.startswith(_KEY)]


def _overlays(viewer: ViewerModel) -> Any:
    """The overlays of the canvas, to which ours can be added; None in a napari before 0.9."""
    canvas = getattr(viewer, "canvas", None)
    found = getattr(canvas, "overlays", None)
    return found if hasattr(found, "__setitem__") else None


def _lines(legend: Legend, *, barred: bool) -> list[tuple[str, Colour]]:
    """Texts and their colours: a title unless it is the roles, then a line for each name; a bar has its own values."""
    white: Colour = (1.0, 1.0, 1.0)
    if legend.colormap:
        unit = f" ({legend.unit})" if legend.unit else ""
        return [(f"{legend.title}{unit}" if barred else legend_words(legend), white)]
    title = [] if legend.title == ROLE else [(legend.title, white)]
    return title + [(f"{_SHAPES.get(name, '■')} {name}", colour) for name, colour in legend.entries]
