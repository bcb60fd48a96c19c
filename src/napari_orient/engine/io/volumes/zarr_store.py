"""Volumes in OME-Zarr stores (versions 0.1 to 0.5) on disk: one level of the pyramid, read chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.volumes.on_demand import Box, ChunkedDensity, first_line
from napari_orient.engine.io.volumes.tiff import ANGSTROM
from napari_orient.engine.io.volumes.voxel_sizes import FLAG, Sizes, VoxelSize, usable, voxel_size_in_force
from napari_orient.engine.outputs import register_read
from napari_orient.engine.particles import Tomogram, shortened

SUFFIXES = (".zarr",)
"""Suffixes of folders that are Zarr stores."""

_MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
"""Files of which a Zarr store, or a level of one, has one at its top."""

_SAME_LEVEL = 0.01
"""Relative difference up to which a level has the voxel size that was asked for: half a percent of rounding, doubled;
the levels of a pyramid differ by a factor of 2."""

_UNITLESS = "Its axes have no unit; its scale is taken for Å."


@dataclass(frozen=True)
class _Level:
    """One level of a pyramid: its array, its voxel size along x, y, z in Å, and the shift of its first voxel in Å."""

    path: str
    sizes: Sizes | None
    shift: Sizes
    has_unit: bool

    @property
    def stated(self) -> float | None:
        """Voxel size in Å; None where it is not stated, or a placeholder."""
        usual = self.sizes is not None and usable(self.sizes) and self.sizes != (1.0, 1.0, 1.0)
        return float(np.mean(self.sizes)) if usual and self.sizes is not None else None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, or a level of one."""
    return path.is_dir() and any((path / name).is_file() for name in _MARKS)


def read_zarr(path: Path | str, *, voxel_size: float | None = None, flag: str = FLAG) -> Tomogram:
    """Volume of an OME-Zarr store, read chunk by chunk.

    Parameters
    ----------
    path : the store, or one level in it (``TS_01.zarr/1``).
    voxel_size : Å of the level to read; None for the finest. Where the store has one level, or states no voxel size, it
        overrides what is stated.
    flag : option that gives the voxel size, for errors.

    Raises
    ------
    InputError
        If it is no OME-Zarr store, no level has the voxel size, the volume has further axes, or the voxel size is
        unknown; or zarr is not installed.
    """
    path = Path(path)
    register_read(path)
    top, levels = _levels(path)
    level = _chosen(path, levels, voxel_size)
    array = _array(top / level.path, path)
    size = _size_in_force(path, level, levels, voxel_size, flag)
    density = _density(array, path)
    notes = (*size.notes, *([_UNITLESS] if level.sizes and not level.has_unit else []), *_notes(array, level))
    return Tomogram(density, size.value, store_name(path), size.source, notes)


def store_name(path: Path) -> str:
    """Name of a store's tomogram: the store's without its suffixes; that of the run in a copick project."""
    store = next((item for item in (path, *path.parents) if item.suffix.lower() in SUFFIXES), path)
    spacing = store.parent
    if spacing.name.startswith("VoxelSpacing") and spacing.parent.parent.name == "ExperimentRuns":
        return spacing.parent.name
    return store.stem.removesuffix(".ome")


# --- levels ---------------------------------------------------------------------------------------------------------


def _levels(path: Path) -> tuple[Path, list[_Level]]:
    """The folder of the pyramid, and its levels, the finest first; one alone where the path names a level."""
    node = _node(path)
    found = _multiscales(node)
    if found is not None:
        return path, _described(found, path)
    if not hasattr(node, "shape"):
        # bioformats2raw puts each image into a group of its number.
        if is_zarr(path / "0") and (nested := _multiscales(_node(path / "0"))) is not None:
            return path / "0", _described(nested, path)
        raise InputError(f"{path} is a Zarr store without OME's multiscales; expected an OME-Zarr image, or a level.")
    for top in list(path.parents)[:3]:
        if is_zarr(top) and (outer := _multiscales(_node(top))) is not None:
            inside = path.relative_to(top).as_posix()
            own = [level for level in _described(outer, path) if level.path.strip("/") == inside]
            return (top, own) if own else (path, [_Level("", None, (0.0, 0.0, 0.0), False)])
    return path, [_Level("", None, (0.0, 0.0, 0.0), False)]


def _node(path: Path) -> Any:
    if not is_zarr(path):
        raise InputError(f"{path} is a folder, and no Zarr store; expected a volume's file, or an OME-Zarr store.")
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{path} is OME-Zarr, which needs zarr: pip install 'napari-orient[formats]'.") from error
    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:
        raise InputError(f"{path} is no Zarr store that can be read ({first_line(error)}). Copy it again.") from error


def _multiscales(node: Any) -> Mapping[str, Any] | None:
    """OME's description of the pyramid in a group's attributes; None where there is none."""
    attributes = dict(node.attrs)
    found = attributes.get("ome", attributes).get("multiscales")
    return found[0] if isinstance(found, Sequence) and found and isinstance(found[0], Mapping) else None


def _described(described: Mapping[str, Any], path: Path) -> list[_Level]:
    try:
        described = _in_levels_system(described)
        units = _units(described)
        common = _transforms(described)
        levels = [_level(str(item["path"]), _transforms(item), common, units) for item in described["datasets"]]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path} has multiscales that cannot be understood ({error!r}). Write it again.") from error
    if not levels:
        raise InputError(f"{path} has multiscales without a level. Write it again.")
    return levels


def _in_levels_system(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description with the axes of the coordinate system that the levels are in, where systems are named (0.6).

    Transformations of the whole image then lead to other systems, and belong to none of its levels.
    """
    systems = described.get("coordinateSystems")
    if not systems:
        return described
    steps = described["datasets"][0].get("coordinateTransformations") or [{}]
    output = steps[-1].get("output")
    name = output.get("name") if isinstance(output, Mapping) else output
    system = next((item for item in systems if item["name"] == name), systems[0])
    return {**described, "axes": system["axes"], "coordinateTransformations": None}


def _units(described: Mapping[str, Any]) -> list[str | None]:
    """Unit of z, y and x.

    Raises
    ------
    ValueError
        If the last three axes are not these, in this order.
    """
    axes = [item if isinstance(item, Mapping) else {"name": item} for item in described.get("axes", "zyx")]
    names = [str(item["name"]).lower() for item in axes]
    if names[-3:] != ["z", "y", "x"]:
        raise ValueError(f"axes {', '.join(names)}; expected z, y, x as the last three")
    return [item.get("unit") for item in axes[-3:]]


def _transforms(described: Mapping[str, Any]) -> dict[str, list[float]]:
    """Scale and translation of z, y and x, as far as they are stated."""
    steps = described.get("coordinateTransformations") or []
    # A sequence holds its steps; they are those of a level in 0.4 and 0.5: a scale, then a translation.
    stated = [step for item in steps for step in (item.get("transformations") or [item])]
    return {
        str(item["type"]): [float(value) for value in item[item["type"]][-3:]]
        for item in stated
        if item.get("type") in ("scale", "translation") and item["type"] in item
    }


def _level(
    path: str, own: Mapping[str, list[float]], common: Mapping[str, list[float]], units: Sequence[str | None]
) -> _Level:
    # A unit that is no length, such as a pixel, says as little as a size that is not there.
    known = all(unit is None or str(unit).lower() in ANGSTROM for unit in units)
    factors = [ANGSTROM[str(unit).lower()] if known and unit is not None else 1.0 for unit in units]
    outer = common.get("scale", [1.0, 1.0, 1.0])
    has_unit = None not in units

    def in_angstrom(values: Sequence[float]) -> Sizes:
        z, y, x = (float(value) for value in np.multiply(values, factors))
        return x, y, z

    scale = own.get("scale") or common.get("scale") if known else None
    sizes = None if scale is None else in_angstrom(np.multiply(own.get("scale", [1.0] * 3), outer).tolist())
    shift = np.multiply(own.get("translation", [0.0] * 3), outer) + np.array(common.get("translation", [0.0] * 3))
    return _Level(path, sizes, in_angstrom(shift.tolist()), has_unit)


def _chosen(path: Path, levels: Sequence[_Level], voxel_size: float | None) -> _Level:
    """The level of a voxel size, or the finest."""
    stated = [level.stated for level in levels]
    if len(levels) == 1 or all(size is None for size in stated):
        return levels[0]
    if voxel_size is None:
        # OME-Zarr orders levels from the finest on; not all writers do.
        return levels[0] if None in stated else min(levels, key=lambda level: level.stated or 0.0)
    pairs = [(abs(size / voxel_size - 1), level) for size, level in zip(stated, levels, strict=True) if size]
    difference, nearest = min(pairs, key=lambda pair: pair[0])
    if difference > _SAME_LEVEL:
        sizes = shortened([f"{size:g}" for size in stated if size], most=8)
        raise InputError(f"{path} has levels of {sizes} Å, and none of {voxel_size:g} Å. Give one of these sizes.")
    return nearest


def _size_in_force(
    path: Path, level: _Level, levels: Sequence[_Level], voxel_size: float | None, flag: str
) -> VoxelSize:
    source = "OME-Zarr" if len(levels) == 1 else f"OME-Zarr, level {level.path} of {len(levels)}"
    given = None if len(levels) > 1 and level.stated is not None else voxel_size
    return voxel_size_in_force(path, level.sizes, source=source, given=given, flag=flag)


def _notes(array: Any, level: _Level) -> list[str]:
    notes = []
    if any(level.shift):
        shift = ", ".join(f"{value:g}" for value in level.shift)
        notes.append(
            f"Its translation ({shift}) Å is not used: positions count from the centre of this level's first voxel."
        )
    missing = int(array.nchunks) - int(array.nchunks_initialized)
    if missing > 0:
        notes.append(f"{missing} of its {array.nchunks} chunks are not there and read as {array.fill_value}.")
    return notes


# --- the array ------------------------------------------------------------------------------------------------------


def _array(place: Path, path: Path) -> Any:
    array = _node(place)
    if not hasattr(array, "shape"):
        raise InputError(f"{path} names {place.name} as a level, which is no array. Write it again.")
    return array


def _part_of(array: Any, leading: tuple[int, ...], box: Box) -> Any:
    """Voxels of a part of an array's last three axes."""
    return np.asarray(array[(*leading, *box)])


def _density(array: Any, path: Path) -> ChunkedDensity:
    """The array's last three axes; those before must be of length 1."""
    shape = tuple(int(length) for length in array.shape)
    if len(shape) < 3 or any(length != 1 for length in shape[:-3]) or array.dtype.kind not in "iuf":
        raise InputError(f"{path} has shape {shape} and type {array.dtype}; expected one volume of z, y, x.")
    read = partial(_part_of, array, (0,) * (len(shape) - 3))
    z, y, x = (int(side) for side in array.chunks[-3:])
    where = str(path)
    return ChunkedDensity((shape[-3], shape[-2], shape[-1]), array.dtype, chunks=(z, y, x), read=read, where=where)
