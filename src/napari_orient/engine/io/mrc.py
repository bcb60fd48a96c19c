"""Volumes in MRC files (.mrc, .rec, .map): read memory-mapped, written as float32; headers are checked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.outputs import existing_file, replacing
from napari_orient.engine.particles import Density, Tomogram

_HEADER_BYTES = 1024
"""Length of the main header, MRC2014."""

_VOLUME_STACKS = range(401, 631)
"""Space groups that mark a stack of volumes, MRC2014."""

_UNSET_TOLERANCE = 1e-6
"""Å from 1.0 within which a voxel size is taken for unset: the rounding of float32."""

_CUBIC_TOLERANCE = 1e-3
"""Relative difference of the axes' voxel sizes that is still cubic: a tenth of a voxel over 100 voxels."""

_REMEDY = "Give the voxel size in Å yourself (--voxel-size)."


@dataclass(frozen=True)
class Header:
    """Contents of an MRC header: voxels along x, y, z, the voxel's edges in Å, the type of number, and the flags."""

    size: tuple[int, int, int]
    voxel_sizes: tuple[float, float, float]
    dtype: np.dtype[Any]
    space_group: int
    slices_a_volume: int
    axes: tuple[int, int, int]

    @property
    def is_image_stack(self) -> bool:
        """Whether the header marks its slices as images: space group 0 and one slice for each volume."""
        return self.space_group == 0 and self.slices_a_volume == 1 and self.size[2] > 1


def read_mrc(path: Path | str, *, voxel_size: float | None = None) -> Tomogram:
    """Volume of an MRC file, memory-mapped; its name is the file's without the suffix.

    Parameters
    ----------
    voxel_size : Å; overrides the header's. The header's axes may differ by a thousandth, and are averaged.

    Raises
    ------
    InputError
        If there is no such file, it is empty, cut short or no MRC file, it holds an image or a stack instead of a
        volume, or no voxel size is given and the header's is 0, 1.0 or not cubic.
    """
    import mrcfile

    path = existing_file(path)
    header = _checked_header(path, voxel_size_given=voxel_size is not None)
    size = header_voxel_size(path) if voxel_size is None else voxel_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with mrcfile.mmap(path, mode="r", permissive=True) as volume:
            density = volume.data
    if density is None or density.shape != header.size[::-1]:
        raise InputError(f"{path} cannot be read as a volume; expected an MRC file of three axes. Write it again.")
    return Tomogram(density, float(size), path.stem)


def header_voxel_size(path: Path | str) -> float:
    """Voxel size in Å of the file's header, averaged over the axes to seven digits.

    Raises
    ------
    InputError
        If it is 0 (not set), 1.0 (which programs write that do not know it), or differs between axes by more than
        a thousandth; or the file is not an MRC file.
    """
    path = existing_file(path)
    sizes = np.array(_read_header(path).voxel_sizes)
    shown = ", ".join(f"{size:g}" for size in sizes)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise InputError(f"{path} states no voxel size (its header says {shown}). {_REMEDY}")
    if (np.abs(sizes - 1) < _UNSET_TOLERANCE).all():
        raise InputError(f"{path} states voxels of 1.0 Å, which most often means that nobody set it. {_REMEDY}")
    if np.ptp(sizes) > _CUBIC_TOLERANCE * sizes.mean():
        raise InputError(f"{path} has voxels of ({shown}) Å; napari-orient needs cubic voxels. Resample it first.")
    return float(f"{sizes.mean():.7g}")


def write_mrc(path: Path | str, density: Density, *, voxel_size: float) -> None:
    """Write a volume [z, y, x] as float32 with its voxel size in Å; the file appears whole or not at all.

    Raises
    ------
    InputError
        If it is not a volume, or the file cannot be written.
    """
    import mrcfile

    if np.ndim(density) != 3:
        raise InputError(f"a density of shape {np.shape(density)} was to be written; expected three axes (z, y, x).")
    with replacing(path) as beside, mrcfile.new(beside, overwrite=True) as volume:
        volume.set_data(np.ascontiguousarray(density, dtype=np.float32))
        volume.set_volume()
        volume.voxel_size = voxel_size
        # mrcfile's own label has the time of writing; the same volume should give the same bytes.
        volume.header.label = b""
        volume.header.label[0] = b"napari-orient"


# --- headers --------------------------------------------------------------------------------------------------------


def _checked_header(path: Path, *, voxel_size_given: bool) -> Header:
    header = _read_header(path)
    x, y, z = header.size
    if z == 1:
        raise InputError(f"{path} is one image of {x} × {y} pixels; expected a volume.")
    if header.space_group in _VOLUME_STACKS:
        raise InputError(f"{path} is a stack of volumes (space group {header.space_group}); expected one volume.")
    if header.is_image_stack and not voxel_size_given:
        raise InputError(
            f"{path} calls itself a stack of {z} images (space group 0), not a volume. If it is a volume, "
            "give its voxel size in Å (--voxel-size)."
        )
    if header.axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(f"{path} stores its axes in the order {header.axes}; expected x, y, z. Rewrite it so.")
    if header.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers (a Fourier transform); expected density.")
    return header


def _read_header(path: Path) -> Header:
    from mrcfile.utils import dtype_from_mode

    actual = path.stat().st_size
    if actual < _HEADER_BYTES:
        raise InputError(f"{path} has {actual} bytes, less than an MRC header; is it an MRC file, copied completely?")
    raw = _raw_header(path)
    try:
        dtype = np.dtype(dtype_from_mode(raw.mode))
    except ValueError:
        dtype = None
    size = (int(raw.nx), int(raw.ny), int(raw.nz))
    marked = bytes(raw.map)[:3] == b"MAP"
    expected = _HEADER_BYTES + int(raw.nsymbt) + (dtype.itemsize if dtype else 1) * size[0] * size[1] * size[2]
    plausible = min(size) > 0 and int(raw.nsymbt) >= 0
    if not plausible or (not marked and (dtype is None or expected != actual)):
        raise InputError(f"{path} is not an MRC file (its header makes no sense); expected .mrc, .rec or .map.")
    if dtype is None:
        raise InputError(f"{path} holds numbers of MRC mode {int(raw.mode)}, which is not read. Convert it to mode 2.")
    if actual < expected:
        raise InputError(f"{path} is cut short: {actual:,} of {expected:,} bytes are there. Copy or download it again.")
    axes = (int(raw.mapc), int(raw.mapr), int(raw.maps))
    return Header(size, _voxel_sizes(raw), dtype, int(raw.ispg), int(raw.mz), axes)


def _raw_header(path: Path) -> Any:
    import mrcfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            with mrcfile.open(path, mode="r", permissive=True, header_only=True) as volume:
                return volume.header.copy()
        except PermissionError as error:
            raise InputError(f"{path} may not be read by you; change its permissions.") from error
        except (ValueError, OSError, MemoryError) as error:
            raise InputError(f"{path} is not an MRC file ({error}); expected .mrc, .rec or .map.") from error


def _voxel_sizes(raw: Any) -> tuple[float, float, float]:
    cell, parts = raw.cella, (int(raw.mx), int(raw.my), int(raw.mz))
    lengths = (float(cell.x), float(cell.y), float(cell.z))
    x, y, z = (length / part if part > 0 else 0.0 for length, part in zip(lengths, parts, strict=True))
    return x, y, z
