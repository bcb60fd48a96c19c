"""The sign of voxels of one byte, of which files often do not say whether they are signed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.particles import Density, evenly_spaced_rows

_SLICES = 5
"""Slices that the sign of bytes is found in; chosen: one of 512 × 512 voxels is enough."""


def kind_of_bytes(density: Density) -> tuple[np.dtype[Any], str]:
    """Type of the voxels of a volume of bytes, which is read as signed, and a note where signed or unsigned matters.

    EM files do not say which (emfile and TOM's C library read signed bytes, EMAN2 and ChimeraX unsigned ones), nor do
    MRC files without IMOD's stamp and statistics. Read with the wrong sign, neighbouring voxels on either side of 0 or
    127 differ by 256, so the smoother reading is taken.
    """
    slices = [np.asarray(density[row]) for row in evenly_spaced_rows(density.shape[0], _SLICES)]
    if not any((image < 0).any() for image in slices):
        return np.dtype(np.int8), ""
    is_unsigned = sum(_roughness(image.view(np.uint8)) - _roughness(image) for image in slices) < 0
    word = "unsigned" if is_unsigned else "signed"
    return np.dtype(np.uint8 if is_unsigned else np.int8), (
        f"Its bytes are read as {word}, by which neighbouring voxels differ least: the file does not say which."
    )


def _roughness(image: NDArray[Any]) -> float:
    """Sum of the differences between neighbouring pixels along both axes."""
    values = image.astype(np.int16)
    return float(np.abs(np.diff(values, axis=0)).sum() + np.abs(np.diff(values, axis=1)).sum())
