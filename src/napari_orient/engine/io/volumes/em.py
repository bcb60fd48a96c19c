"""Volumes in EM files (.em) of TOM, Dynamo, PyTom and AV3: a header of 512 bytes, read by parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.byte_signs import kind_of_bytes
from napari_orient.engine.io.volumes.on_demand import stored_density
from napari_orient.engine.io.volumes.voxel_sizes import FLAG, voxel_size_in_force
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Tomogram

SUFFIXES = (".em",)
"""Suffixes of EM files."""

HEADER_BYTES = 512
"""Length of the header."""

_TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
"""Types of a voxel by the header's fourth byte; 8 is complex."""

_LIST_ROWS = 20
"""Values a particle has in a motive list, which is an EM file of 20 × N × 1."""

_PIXEL_SIZE_PARAMETER = 6
"""Place of the object's pixel size among the header's 40 parameters (which count from byte 96)."""

_PER_UNIT = 1000
"""Parameter of a pixel of one unit. The unit is nm in ChimeraX and where TOM's tom_mrcread fills the header in."""

_LARGEST = 100.0
"""Å of the largest voxel of a tomogram; where it would be larger in nm, the unit is Å, as in TOM's tom_emread. Chosen:
three times the coarsest tomograms that are picked in."""


@dataclass(frozen=True)
class EmHeader:
    """Voxels along x, y, z, the type of a voxel, and the pixel size in thousandths of its unit (0 where unset)."""

    size: tuple[int, int, int]
    dtype: np.dtype[Any]
    pixel_size: int

    def stated_size(self) -> tuple[float | None, str]:
        """Voxel size in Å, None where unset, and a note on the unit, which the header does not say."""
        if self.pixel_size <= 0:
            return None, ""
        in_nm, in_angstrom = 10 * self.pixel_size / _PER_UNIT, self.pixel_size / _PER_UNIT
        taken, other = (in_nm, in_angstrom) if in_nm <= _LARGEST else (in_angstrom, in_nm)
        unit = "nm" if taken == in_nm else "Å"
        return taken, (
            f"Its header's pixel size is taken in {unit}: {taken:g} Å. Some programs write the other unit: if voxels "
            f"are {other:g} Å, give their size."
        )


def em_header(path: Path) -> EmHeader | None:
    """Header of an EM file; None where the file is no EM file, or not whole."""
    with path.open("rb") as stream:
        raw = stream.read(HEADER_BYTES)
    if len(raw) < HEADER_BYTES or raw[3] not in _TYPES:
        return None
    for order in ("<", ">"):
        size = np.frombuffer(raw, f"{order}i4", count=3, offset=4).tolist()
        dtype = np.dtype(f"{order}{_TYPES[raw[3]]}")
        if min(size) > 0 and path.stat().st_size == HEADER_BYTES + dtype.itemsize * int(np.prod(size, dtype=object)):
            parameters = np.frombuffer(raw, f"{order}i4", count=40, offset=96)
            return EmHeader((size[0], size[1], size[2]), dtype, int(parameters[_PIXEL_SIZE_PARAMETER]))
    return None


def is_em_volume(path: Path) -> bool:
    """Whether a file is an EM file of a volume: neither an image nor a motive list."""
    header = em_header(path) if path.is_file() else None
    return header is not None and header.size[2] > 1


def read_em(path: Path | str, *, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of an EM file, read by parts on demand.

    Parameters
    ----------
    voxel_size : Å; overrides the header's object pixel size, which most programs leave 0, in nm or Å.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If the file is missing, no EM file, an image or a motive list, or its voxel size is unknown.
    """
    path = existing_file(path)
    header = em_header(path)
    if header is None:
        raise InputError(f"{path} is no EM file, or not whole: its size is not what a header of 512 bytes says.")
    x, y, z = header.size
    if z == 1:
        kind = "a motive list, a list of particles" if x == _LIST_ROWS else f"one image of {x} × {y} pixels"
        raise InputError(f"{path} is {kind}; expected a volume.")
    stated, unit_note = header.stated_size()
    sides = None if stated is None else (stated,) * 3
    size = voxel_size_in_force(path, sides, source="EM header", given=voxel_size, flag=flag)
    voxel_type, sign_note = header.dtype, ""
    if voxel_type.itemsize == 1:
        voxel_type, sign_note = kind_of_bytes(stored_density(path, np.dtype(np.int8), (z, y, x), offset=HEADER_BYTES))
    density = stored_density(path, voxel_type, (z, y, x), offset=HEADER_BYTES)
    notes = [note for note in (unit_note if voxel_size is None else "", sign_note) if note]
    return Tomogram(density, size.value, path.stem, size.source, (*size.notes, *notes))
