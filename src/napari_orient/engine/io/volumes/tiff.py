"""Volumes in TIFF files (.tif, .tiff), with the resolution as OME, ImageJ or plain TIFF state it."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.on_demand import ChunkedDensity, first_line, stored_density
from napari_orient.engine.io.volumes.voxel_sizes import FLAG, Sizes, voxel_size_in_force
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Density, Tomogram

SUFFIXES = (".tif", ".tiff")
"""Suffixes of TIFF files."""

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF file, and of a BigTIFF file."""

ANGSTROM = {
    **dict.fromkeys(("å", "a", "angstrom", "angstroms", "\\u00c5"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 10.0),
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "\\u00b5m"), 1e4),
    **dict.fromkeys(("pm", "picometer"), 0.01),
    **dict.fromkeys(("mm", "millimeter"), 1e7),
    **dict.fromkeys(("cm", "centimeter"), 1e8),
    **dict.fromkeys(("m", "meter", "metre"), 1e10),
    **dict.fromkeys(("inch", '"'), 2.54e8),
}
"""Å in one unit of length, by the names that OME, OME-Zarr and ImageJ use."""

_PLAIN_UNITS = {2: "inch", 3: "cm"}
"""Units of TIFF's own tag ResolutionUnit."""

_PLAUSIBLE = (0.1, 1000.0)
"""Å of a tomogram's voxels. TIFF's own resolution lies outside where it is that of a printer (72 dpi = 3,527,778 Å)."""


def read_tiff(path: Path | str, *, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of a TIFF file, read by parts where its voxels lie one after the other, else slice by slice.

    Parameters
    ----------
    voxel_size : Å; overrides the file's resolution.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If the file is missing, no TIFF file, no volume of grey values, or its voxel size is unknown.
    """
    import tifffile

    path = existing_file(path)
    if not logging.getLogger("tifffile").handlers:
        # It logs every fault of a damaged file to standard error; the first is said below.
        logging.getLogger("tifffile").addHandler(logging.NullHandler())
    file: Any = None
    try:
        file = tifffile.TiffFile(path)
        series = _volume_of_pages(file) if len(file.series) > 1 else file.series[0]
        stated, source = _stated(file)
        size = voxel_size_in_force(path, stated, source=source, given=voxel_size, flag=flag)
        density, notes = _density(file, series, path)
    except Exception as error:
        if file is not None:
            file.close()
        if isinstance(error, InputError):
            raise
        # Damaged files make the library raise errors of every kind.
        raise InputError(f"{path} is no TIFF file that can be read ({first_line(error)}). Copy it again.") from error
    return Tomogram(density, size.value, _stem(path), size.source, (*size.notes, *notes))


def _volume_of_pages(file: Any) -> Any:
    """All pages as one series where they are images of one kind, each called a series; else the first series."""
    alike = len({(page.shape, page.dtype) for page in file.pages}) == 1 and len(file.series) == len(file.pages)
    if not alike or len(file.pages[0].shape) != 2:
        return file.series[0]
    import tifffile

    shape = (len(file.pages), *file.pages[0].shape)
    return tifffile.TiffPageSeries(list(file.pages), shape, file.pages[0].dtype, "ZYX")


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".ome")


def _density(file: Any, series: Any, path: Path) -> tuple[Density, tuple[str, ...]]:
    kept = [axis for axis, length in enumerate(series.shape) if length > 1]
    axes = "".join(series.axes[axis] for axis in kept)
    shape = tuple(series.shape[axis] for axis in kept)
    if len(shape) != 3 or "S" in axes or series.dtype.kind not in "iuf":
        raise InputError(f"{path} holds an image of shape {series.shape} (axes {series.axes}); expected a grey volume.")
    notes = ("Its slices are called times or channels; they are taken for z.",) if axes[0] in "TC" else ()
    if series.dataoffset is not None:
        dtype = np.dtype(file.byteorder + series.dtype.char)
        file.close()
        return stored_density(path, dtype, (shape[0], shape[1], shape[2]), offset=series.dataoffset), notes
    pages = list(series.pages)
    if len(pages) != shape[0]:
        whole = series.asarray().reshape(shape)
        file.close()
        return whole, notes
    lazy = ChunkedDensity(
        (shape[0], shape[1], shape[2]),
        series.dtype,
        chunks=(1, shape[1], shape[2]),
        read=lambda box: np.asarray(pages[box[0].start].asarray()).reshape(1, *shape[1:])[:, box[1], box[2]],
        where=str(path),
        close=file.close,
    )
    return lazy, notes


# --- resolution -----------------------------------------------------------------------------------------------------


def _stated(file: Any) -> tuple[Sizes | None, str]:
    """Å along x, y, z as the file states it, and where."""
    if file.is_ome:
        return _of_ome(file.ome_metadata), "OME header"
    if file.is_imagej:
        return _of_imagej(file), "ImageJ header"
    return _of_tags(file), "TIFF resolution"


def _of_ome(text: str) -> Sizes | None:
    try:
        pixels = next(item for item in ET.fromstring(text).iter() if item.tag.endswith("}Pixels"))
        # A depth that is not stated is taken to be that of x, as plain TIFF's.
        sizes = [
            float(pixels.attrib[f"PhysicalSize{axis}"]) * ANGSTROM[pixels.get(f"PhysicalSize{axis}Unit", "µm").lower()]
            for axis in ("XYZ" if "PhysicalSizeZ" in pixels.attrib else "XYX")
        ]
    except (ET.ParseError, StopIteration, KeyError, ValueError):
        return None
    return sizes[0], sizes[1], sizes[2]


def _of_imagej(file: Any) -> Sizes | None:
    described = file.imagej_metadata or {}
    factor = ANGSTROM.get(str(described.get("unit", "")).lower())
    flat = _resolution(file)
    if factor is None or flat is None:
        return None
    depth = float(described.get("spacing", flat[0]))
    return flat[0] * factor, flat[1] * factor, depth * factor


def _of_tags(file: Any) -> Sizes | None:
    """Resolution of plain TIFF, which knows no depth: taken to be that of x."""
    tag, flat = file.pages[0].tags.get("ResolutionUnit"), _resolution(file)
    factor = ANGSTROM.get(_PLAIN_UNITS.get(int(tag.value), "")) if tag is not None else None
    if factor is None or flat is None:
        return None
    x, y = flat[0] * factor, flat[1] * factor
    return (x, y, x) if _PLAUSIBLE[0] <= x <= _PLAUSIBLE[1] else None


def _resolution(file: Any) -> tuple[float, float] | None:
    """Units in a pixel along x and y."""
    sizes = []
    for name in ("XResolution", "YResolution"):
        tag = file.pages[0].tags.get(name)
        count, units = tag.value if tag is not None else (0, 0)
        if not count or not units:
            return None
        sizes.append(units / count)
    return sizes[0], sizes[1]
