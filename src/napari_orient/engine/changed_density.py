"""Density of which some voxels are changed whenever they are read; the tomogram stays as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.particles import Density

_Key = int | slice


@dataclass(frozen=True, eq=False)
class ChangedDensity(ABC):
    """A volume (Z, Y, X) with some voxels changed, read by integers and slices.

    Parameters
    ----------
    density : as it was measured.
    """

    density: Density

    ndim = 3
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return tuple(self.density.shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Voxels of a chunk along z, y, x, where the density is read by chunks."""
        chunks: tuple[int, ...] | None = getattr(self.density, "chunks", None)
        return chunks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole volume, read."""
        return np.asarray(self[:, :, :], dtype)

    def __getitem__(self, key: _Key | tuple[_Key, ...]) -> NDArray[np.float32]:
        """The voxels asked for, as an array that may be written to."""
        given = key if isinstance(key, tuple) else (key,)
        whole = (*given, *[slice(None)] * (3 - len(given)))
        read, taken = zip(*map(_read_and_taken, whole, self.shape), strict=True)
        block = np.array(self.density[read], np.float32)
        self._change(block, np.array([part.start for part in read]))
        return np.asarray(block[taken], np.float32)

    @abstractmethod
    def _change(self, block: NDArray[np.float32], corner: NDArray[np.int_]) -> None:
        """Change a block (z, y, x) in place, whose first voxel is ``corner`` (3,) of the volume."""


def _read_and_taken(item: _Key, length: int) -> tuple[slice, _Key]:
    """The voxels of an axis that are read, without gaps, and which of these are asked for."""
    if not isinstance(item, slice):
        place = range(length)[item]
        return slice(place, place + 1), 0
    places = range(length)[item]
    if not places:
        return slice(0, 0), slice(None)
    return slice(min(places), max(places) + 1), slice(None, None, item.step)
