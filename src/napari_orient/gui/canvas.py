"""The viewer's canvas: slab, scale bar and camera, which napari 0.9 and the releases before it call differently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari.components import ViewerModel


@contextmanager
def holding_still(viewer: ViewerModel) -> Iterator[None]:
    """The slice shown stays where it is in Å, whatever layers come, go and grow meanwhile: napari keeps its number."""
    point = viewer.dims.point
    yield
    if len(viewer.dims.point) == len(point) and viewer.dims.point != point:
        viewer.dims.point = point


def show_slab(viewer: ViewerModel, thickness: float) -> None:
    """Show slices so many Å thick in 2D, across whichever axis is sliced."""
    dims = viewer.dims
    if dims.ndim < 3:
        return
    sliced = next(axis for axis in dims.order if axis >= dims.ndim - 3)
    wanted = tuple(
        kept if axis < dims.ndim - 3 else thickness if axis == sliced else 0.0
        for axis, kept in enumerate(dims.thickness)
    )
    if dims.thickness != wanted:
        dims.thickness = wanted


def show_scale_bar(viewer: ViewerModel, *, shown: bool = True) -> None:
    """Switch the viewer's scale bar, in Å, on or off."""
    canvas = getattr(viewer, "canvas", None)
    bar = viewer.scale_bar if canvas is None else canvas.overlays.scale_bar
    bar.visible = shown


def corner(viewer: ViewerModel) -> Any:
    """The viewer's words on the canvas."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.text_overlay if canvas is None else canvas.overlays.text


def show_words(viewer: ViewerModel, words: str, *, instead_of: str) -> None:
    """Write this text in the canvas' upper left corner, unless another than ``instead_of`` stands there."""
    text = corner(viewer)
    if text.text in ("", _roomy(instead_of)):
        text.text, text.position, text.visible = _roomy(words), "top_left", bool(words)


def _roomy(words: str) -> str:
    """The words with blanks after them: napari measures a little too narrow a box for a long line."""
    return words + "\N{NO-BREAK SPACE}" * (len(words) // 12)


def camera(viewer: ViewerModel) -> Any:
    """The viewer's camera."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def canvas_size(viewer: ViewerModel) -> tuple[int, int]:
    """Height and width of the canvas in pixels."""
    canvas = getattr(viewer, "canvas", None)
    height, width = viewer._canvas_size if canvas is None else canvas.size
    return int(height), int(width)
