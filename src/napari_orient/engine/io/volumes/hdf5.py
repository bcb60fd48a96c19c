"""Volumes in HDF5 files (.hdf, .h5), as EMAN2 writes them, or with one volume anywhere in them; read by parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.on_demand import Box, ChunkedDensity, first_line
from napari_orient.engine.io.volumes.voxel_sizes import FLAG, Sizes, voxel_size_in_force
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Tomogram, shortened

SUFFIXES = (".hdf", ".hdf5", ".h5")
"""Suffixes of HDF5 files."""

MAGIC = b"\x89HDF\r\n\x1a\n"
"""First bytes of an HDF5 file."""

_EMAN_IMAGES = "MDF/images"
"""Group of EMAN2 that holds each image in a group of its number."""


def read_hdf5(path: Path | str, *, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of an HDF5 file, read by parts.

    Parameters
    ----------
    voxel_size : Å; overrides EMAN2's ``EMAN.apix_x``, ``_y``, ``_z``.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If the file is missing, no HDF5 file, holds no or several volumes, or its voxel size is unknown; or h5py is not
        installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path} is HDF5, which needs h5py: pip install 'napari-orient[formats]'.") from error
    path = existing_file(path)
    file: Any = None
    try:
        file = h5py.File(path, mode="r")
        dataset = _volume(file, path)
        size = voxel_size_in_force(path, _stated(dataset), source="EMAN2 header", given=voxel_size, flag=flag)
        axes = _long_axes(dataset)
        density = ChunkedDensity(
            _along(dataset.shape, axes),
            dataset.dtype,
            chunks=_along(dataset.chunks, axes) if dataset.chunks else None,
            read=partial(_part_of, dataset, axes),
            where=str(path),
            close=file.close,
        )
    except Exception as error:
        if file is not None:
            file.close()
        if isinstance(error, InputError):
            raise
        # Damaged files make the library raise errors of every kind.
        raise InputError(f"{path} is no HDF5 file that can be read ({first_line(error)}). Copy it again.") from error
    return Tomogram(density, size.value, path.stem, size.source, size.notes)


def stack_voxel_size(path: Path) -> float | None:
    """Å of a voxel of the first image of a stack of EMAN2; None where it is none, does not say it, or has no h5py."""
    try:
        import h5py

        with h5py.File(path, mode="r") as file:
            sizes = _stated(file[f"{_EMAN_IMAGES}/0/image"])
    except (ImportError, OSError, KeyError, AttributeError):
        return None
    return None if sizes is None or sizes[0] <= 0 else sizes[0]


def _long_axes(dataset: Any) -> list[int]:
    """Axes that are longer than 1: those of a volume, whatever channels and times other programs count with it."""
    return [axis for axis, length in enumerate(dataset.shape) if length > 1]


def _along(lengths: Sequence[int], axes: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (int(lengths[axis]) for axis in axes)
    return z, y, x


def _part_of(dataset: Any, axes: Sequence[int], box: Box) -> NDArray[Any]:
    """Voxels of a part along these axes of a dataset, at the only place along the others."""
    places = dict(zip(axes, box, strict=True))
    return np.asarray(dataset[tuple(places.get(axis, 0) for axis in range(dataset.ndim))])


def _volume(file: Any, path: Path) -> Any:
    """The dataset that is a volume: EMAN2's only image, or the only one of three axes longer than 1."""
    import h5py

    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    volumes = [item for item in found if len(_long_axes(item)) == 3 and item.dtype.kind in "iuf"]
    if len(volumes) == 1:
        return volumes[0]
    if not volumes:
        shapes = shortened([f"{item.name} {item.shape}" for item in found], most=3) or "nothing"
        raise InputError(f"{path} holds no volume; expected a dataset of three axes. It has {shapes}.")
    if _EMAN_IMAGES in file:
        raise InputError(f"{path} is a stack of {len(volumes)} volumes of EMAN2; expected one. Extract it first.")
    names = shortened([item.name for item in volumes], most=3)
    raise InputError(f"{path} holds {len(volumes)} volumes ({names}); expected one. Extract it first.")


def _stated(dataset: Any) -> Sizes | None:
    """Å along x, y, z as EMAN2 says it beside the dataset."""
    attributes = {**dataset.attrs, **dataset.parent.attrs}
    try:
        x, y, z = (float(np.ravel(attributes[f"EMAN.apix_{axis}"])[0]) for axis in "xyz")
    except (KeyError, ValueError, IndexError):
        return None
    return x, y, z
