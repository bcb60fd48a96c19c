"""What a discovery yields on its way and returns at its end.

A discovery on disk: particles, maps and checkpoints, the same files from both doors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging.average import Average, average_paths, write_average
from napari_orient.engine.discovery.verdict import DOUBTFUL, NOTHING, STRUCTURE, Verdict
from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.networks.checkpoint import Checkpoint, bank_checkpoint
from napari_orient.engine.outputs import check_writable
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.streams import Step
from napari_orient.engine.symmetry import Symmetry

_MANY = 0.2
"""Share of the picks set aside that makes one think of another kind."""
OUTLIER = "orientOutlier"
"""The column that says 1 of picks that look like no particle, else 0."""


@dataclass(frozen=True, eq=False)
class DiscoveryStep(Step):
    """A step of a discovery, with what is believed so far.

    Parameters
    ----------
    maps : one (n, n, n) of each class, [z, y, x], particle positive.
    voxel_size : Å of the maps.
    particles : all picks in order, in the poses drawn last.
    kinds : of particle that are looked for by now.
    start : number of the random start, from 1; 0 once the best is chosen.
    peak : mean height of the best match over all, in spreads: 3.5 is noise, and it rises as a structure breaks away.
    """

    maps: tuple[NDArray[np.float32], ...] = ()
    voxel_size: float = 1.0
    particles: Particles | None = None
    class_count: int = 1
    start: int = 0
    peak: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """One kind of particle found.

    Parameters
    ----------
    average : its map, half maps and their correlation; its frame has the main axis along z, and another along x.
    group : its symmetry, about z and x.
    symmetry_words : how the symmetry was chosen.
    count, outliers : particles averaged, and picks of this class set aside.
    belief : whether to believe it.
    """

    average: Average
    group: Symmetry
    symmetry_notes: tuple[str, ...]
    count: int
    outliers: int
    verdict: Verdict


@dataclass(frozen=True, eq=False, kw_only=True)
class Discovery:
    """What was found.

    Parameters
    ----------
    particles : the given ones, in order, recentred, with rotations, confidence and expected error; ``extra`` has the
        column ``orientOutlier``, and ``kind`` the class where more than one was looked for.
    structures : one of each class, the most numerous first.
    starts : random starts made.
    kinds_words : why so many kinds were looked for; empty where it was told.
    """

    particles: Particles
    structures: tuple[Structure, ...]
    starts: int
    class_count_words: str = ""

    @property
    def grade(self) -> str:
        """The best verdict of any class: ``structure``, ``doubtful`` or ``nothing``."""
        verdicts = [item.verdict.grade for item in self.structures]
        return min(verdicts, key=(STRUCTURE, DOUBTFUL, NOTHING).index, default=NOTHING)

    @property
    def hint(self) -> str:
        """What to try where one kind was looked for, and many picks look like nothing of that kind; else empty."""
        aside = sum(item.outliers for item in self.structures)
        if len(self.structures) != 1 or self.class_count_words or aside < _MANY * len(self.particles):
            return ""
        return "So many may be another kind of particle: let the picks tell how many kinds there are (auto)."

    def of_class(self, label: int) -> Particles:
        """The particles of a class, false picks among them too."""
        every = self.particles
        return every if len(self.structures) == 1 else every.take(np.asarray(every.kind) == class_name(label))

    def checkpoint(self, *, name: str = "discovered", label: int = 0) -> Checkpoint:
        """A checkpoint of kind ``bank`` that finds particles of a class in other tomograms by its map."""
        found = self.structures[label]
        curve = found.average.fsc
        card = {
            "classes": [] if len(self.structures) == 1 else [class_name(label)],
            "particles": {"training": found.count},
            "tomograms": len(self.of_class(label).tomogram_names),
            "figures": {
                "averaged": found.count,
                "fsc_0.143_angstrom": curve.resolution(0.143),
                "fsc_0.5_angstrom": curve.resolution(0.5),
            },
            "symmetry": " ".join(found.symmetry_notes),
            "verdict": found.verdict.words,
        }
        return bank_checkpoint(
            found.average.as_reference(),
            voxel_size=found.average.voxel_size,
            symmetry=found.group.name,
            name=name,
            card=card,
        )


def class_name(label: int) -> str:
    """What a class is called: ``class1`` is the most numerous."""
    return f"class{label + 1}"


@dataclass(frozen=True)
class DiscoveryPaths:
    """Where a discovery is to be written; None for what is not wanted.

    A second class has ``_class2`` in the names of its map and its checkpoint; the list holds all classes.
    """

    particles: Path
    map: Path | None = None
    checkpoint: Path | None = None

    @classmethod
    def beside(cls, particles: Path) -> DiscoveryPaths:
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
            average_paths(self.map)
        if self.checkpoint is not None:
            check_writable(self.checkpoint)


def class_path(path: Path, label: int) -> Path:
    """The file of a class: the path itself for the first, ``NAME_class2.EXT`` for the second."""
    return path if label == 0 else path.with_name(f"{path.stem}_{class_name(label)}{path.suffix}")


def discovery_provenance(found: Discovery | DiscoveryStep) -> str:
    """One line that says where poses come from: the first of the list's file."""
    from napari_orient import __version__

    how = (
        f"discovered from picks alone, {found.starts} starts"
        if isinstance(found, Discovery)
        else f"discovery stopped at: {found.message}"
    )
    return f"napari-orient {__version__}: {how}"


def write_discovery(found: Discovery, places: DiscoveryPaths, *, extents: Mapping[str, Extent]) -> None:
    """Write the particles; each class's map, halves and curve; and its checkpoint, unless there is nothing in it.

    Parameters
    ----------
    extents : of the tomograms, by name.
    """
    write_particles(places.particles, found.particles, extents=extents, provenance=discovery_provenance(found))
    for label, item in enumerate(found.structures):
        if item.verdict.grade == NOTHING:
            continue
        if places.map is not None:
            write_average(item.average, average_paths(class_path(places.map, label)))
        if places.checkpoint is not None:
            write_checkpoint(found, class_path(places.checkpoint, label), label=label)


def write_checkpoint(found: Discovery, path: Path, *, label: int = 0) -> None:
    """Write the checkpoint that finds particles of one class in other tomograms."""
    found.checkpoint(name=path.stem, label=label).save(path)


def write_step(last: DiscoveryStep, places: DiscoveryPaths, *, extents: Mapping[str, Extent]) -> None:
    """Write the particles of a round as they are believed to lie, and its first map."""
    if last.particles is not None:
        write_particles(places.particles, last.particles, extents=extents, provenance=discovery_provenance(last))
    if places.map is not None and last.maps:
        write_tomogram(places.map, last.maps[0], voxel_size=last.voxel_size)
