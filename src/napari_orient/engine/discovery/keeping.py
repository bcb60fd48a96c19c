"""A discovery on disk: particles, maps and checkpoints, the same files from both doors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_orient.engine.averaging import average_places, write_average
from napari_orient.engine.discovery.belief import NOTHING
from napari_orient.engine.discovery.structure import Discovery, Round, class_name
from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.outputs import check_writable
from napari_orient.engine.particles import Extent


@dataclass(frozen=True)
class Places:
    """Where a discovery is to be written; None for what is not wanted.

    A second class has ``_class2`` in the names of its map and its checkpoint; the list holds all classes.
    """

    particles: Path
    map: Path | None = None
    checkpoint: Path | None = None

    @classmethod
    def beside(cls, particles: Path) -> Places:
        """A list, and beside it the map and the checkpoint of the same name."""
        return cls(particles, particles.with_suffix(".mrc"), particles.with_suffix(".safetensors"))

    def check(self) -> None:
        """Nothing, if all can be written.

        Raises
        ------
        InputError
            If a folder is missing or cannot be written, or the map's name does not end in .mrc.
        """
        check_writable(self.particles)
        if self.map is not None:
            average_places(self.map)
        if self.checkpoint is not None:
            check_writable(self.checkpoint)


def numbered(path: Path, label: int) -> Path:
    """The file of a class: the path itself for the first, ``NAME_class2.EXT`` for the second."""
    return path if label == 0 else path.with_name(f"{path.stem}_{class_name(label)}{path.suffix}")


def origin(found: Discovery | Round) -> str:
    """One line that says where poses come from: the first of the list's file."""
    from napari_orient import __version__

    how = (
        f"discovered from picks alone, {found.starts} starts"
        if isinstance(found, Discovery)
        else f"discovery stopped at: {found.message}"
    )
    return f"napari-orient {__version__}: {how}"


def write_discovery(found: Discovery, places: Places, *, extents: Mapping[str, Extent]) -> None:
    """Write the particles; each class's map, halves and curve; and its checkpoint, unless there is nothing in it.

    Parameters
    ----------
    extents : of the tomograms, by name.
    """
    write_particles(places.particles, found.particles, extents=extents, provenance=origin(found))
    for label, item in enumerate(found.structures):
        if item.belief.verdict == NOTHING:
            continue
        if places.map is not None:
            write_average(item.average, average_places(numbered(places.map, label)))
        if places.checkpoint is not None:
            write_checkpoint(found, numbered(places.checkpoint, label), label=label)


def write_checkpoint(found: Discovery, path: Path, *, label: int = 0) -> None:
    """Write the checkpoint that finds particles of one class in other tomograms."""
    found.checkpoint(name=path.stem, label=label).save(path)


def write_round(last: Round, places: Places, *, extents: Mapping[str, Extent]) -> None:
    """Write the particles of a round as they are believed to lie, and its first map."""
    if last.particles is not None:
        write_particles(places.particles, last.particles, extents=extents, provenance=origin(last))
    if places.map is not None and last.maps:
        write_tomogram(places.map, last.maps[0], voxel_size=last.voxel_size)
