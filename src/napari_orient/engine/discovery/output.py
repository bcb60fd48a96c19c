"""What a discovery yields step by step, what it returns, and its files: particles, maps and templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average, average_paths, write_average
from napari_orient.engine.discovery.verdict import DOUBTFUL, NOTHING, STRUCTURE, Verdict
from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.outputs import Place, check_writable
from napari_orient.engine.parameters import MOST_CLASSES
from napari_orient.engine.particles import Extent, Particles, in_list_order
from napari_orient.engine.streams import Step
from napari_orient.engine.symmetry import Symmetry
from napari_orient.engine.templates import Template

_MANY_FALSE = 0.2
"""Share of picks set aside from which another class is suggested."""


# --- steps ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DiscoveryStep(Step):
    """A step of a discovery, with maps and poses as they are by then.

    Parameters
    ----------
    maps : one (n, n, n) of each class, [z, y, x], particle positive.
    voxel_size : Å of the maps.
    particles : all picks in order, in the poses drawn last.
    class_count : classes searched for by then.
    start : number of the random start, from 1; None once the best is chosen.
    peak : mean height of the best match over all, in their standard deviations: 3.5 is noise, and it rises as a
        structure emerges; None where no start is made.
    """

    maps: tuple[NDArray[np.float32], ...] = ()
    voxel_size: float = 1.0
    particles: Particles | None = None
    class_count: int = 1
    start: int | None = None
    peak: float | None = None
    whole: bool = field(default=True, kw_only=True)


@dataclass
class StepCounter:
    """Makes the steps of a discovery, counted against those still expected.

    Parameters
    ----------
    voxel_size : Å of a step's maps, unless it has its own.
    """

    voxel_size: float
    class_count: int
    done: int = 0
    total: int = 0

    def expect(self, more: int) -> None:
        """Expect this many more steps, in place of those expected before."""
        self.total = self.done + more

    def step(self, message: str, *, advance: int = 1, **content: Any) -> DiscoveryStep:
        """The next step; ``advance`` is 0 for one that counts with the next."""
        self.done += advance
        self.total = max(self.total, self.done)
        content = {"voxel_size": self.voxel_size, "class_count": self.class_count, **content}
        return DiscoveryStep(self.done, self.total, message, **content)


# --- results --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """The structure of one class.

    Parameters
    ----------
    average : its map, half maps and their correlation; its frame has the main axis along z, and another along x.
    group : its symmetry, about z and x.
    symmetry_notes : how the symmetry was chosen.
    count, outliers : particles averaged, and picks of this class set aside.
    verdict : whether it is reproducible.
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
        column ``orientOutlier``, and ``kind`` the class where more than one was searched for.
    structures : one of each class, the most numerous first.
    starts : random starts made.
    class_count_words : why there are as many classes; empty where their number was given.
    aligned : whether maps and poses were rotated into the frame of a map that was given; else the frame is arbitrary.
    """

    particles: Particles
    structures: tuple[Structure, ...]
    starts: int
    class_count_words: str = ""
    aligned: bool = False

    def __repr__(self) -> str:
        found = ", ".join(f"{item.group.name} of {item.count}: {item.verdict.grade}" for item in self.structures)
        return f"Discovery({len(self.particles)} particles; {found or NOTHING})"

    @property
    def grade(self) -> str:
        """The best grade of any class: ``structure``, ``doubtful`` or ``nothing``."""
        grades = [item.verdict.grade for item in self.structures]
        return min(grades, key=(STRUCTURE, DOUBTFUL, NOTHING).index, default=NOTHING)

    @property
    def hint(self) -> str:
        """What to try where one class was searched for, and many picks look like nothing of it; else empty."""
        aside = sum(item.outliers for item in self.structures)
        if len(self.structures) != 1 or self.class_count_words or aside < _MANY_FALSE * len(self.particles):
            return ""
        return "So many may be another kind of particle: let the number of kinds be estimated (auto)."

    def of_class(self, label: int) -> Particles:
        """The particles of a class, false picks among them too."""
        every = self.particles
        return every if len(self.structures) == 1 else every.take(np.asarray(every.kind) == class_name(label))

    def template(self, *, name: str = "discovered", label: int = 0) -> Template:
        """The template that finds particles of a class in other tomograms by its map."""
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
        if not self.aligned:
            card["frame"] = "its own"
        return Template(
            found.average.as_reference(),
            voxel_size=found.average.voxel_size,
            symmetry=found.group.name,
            name=name,
            card=card,
        )


def class_name(label: int) -> str:
    """The name of a class: ``class1`` is the most numerous."""
    return f"class{label + 1}"


# --- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiscoveryPaths:
    """The files that a discovery is written to; None for what is not wanted.

    A second class has ``_class2`` in the names of its map and its template; the list holds all classes.
    """

    particles: Path
    map: Path | None = None
    template: Path | None = None

    @classmethod
    def beside(cls, particles: Path) -> DiscoveryPaths:
        """A list, and beside it the map and the template of the same name."""
        return cls(particles, particles.with_suffix(".mrc"), particles.with_suffix(".safetensors"))

    @property
    def of_classes(self) -> list[Path]:
        """The files of maps and templates, of the first class and of further ones that are there from an earlier run.

        Raises
        ------
        InputError
            If the map's name does not end in .mrc.
        """
        found = []
        for label in range(MOST_CLASSES):
            maps = () if self.map is None else average_paths(class_path(self.map, label))
            templates = () if self.template is None else (class_path(self.template, label),)
            found += [path for path in (*maps, *templates) if label == 0 or path.exists()]
        return found

    @property
    def stopped(self) -> DiscoveryPaths:
        """The files of a discovery that is stopped where those of a finished one are: ``NAME_stopped.EXT``."""
        return self.at(lambda path: path.with_name(f"{path.stem}_stopped{path.suffix}"))

    def at(self, place: Place) -> DiscoveryPaths:
        """The same files in other places."""
        map_path, template = (None if path is None else place(path) for path in (self.map, self.template))
        return DiscoveryPaths(place(self.particles), map_path, template)

    def check(self) -> None:
        """Check that all can be written.

        Raises
        ------
        InputError
            If a folder is missing or cannot be written, or the map's name does not end in .mrc.
        """
        for path in (self.particles, *self.of_classes):
            check_writable(path)


def class_path(path: Path, label: int) -> Path:
    """The file of a class: the path itself for the first, ``NAME_class2.EXT`` for the second."""
    return path if label == 0 else path.with_name(f"{path.stem}_{class_name(label)}{path.suffix}")


def discovery_provenance(found: Discovery | DiscoveryStep) -> str:
    """Where poses come from, in one line: the first of the list's file."""
    from napari_orient import __version__

    how = (
        f"discovered from picks alone, {found.starts} starts; the hand is that of the tomogram"
        if isinstance(found, Discovery)
        else f"discovery stopped at: {found.message}"
    )
    return f"napari-orient {__version__}: {how}"


def write_discovery(found: Discovery, paths: DiscoveryPaths, *, extents: Mapping[str, Extent]) -> None:
    """Write the particles, and each class's map, half maps, FSC and template, unless its grade is ``nothing``.

    Parameters
    ----------
    extents : of the tomograms, by name.
    """
    particles = in_list_order(found.particles)
    write_particles(paths.particles, particles, extents=extents, provenance=discovery_provenance(found))
    for label, item in enumerate(found.structures):
        if item.verdict.grade == NOTHING:
            continue
        if paths.map is not None:
            write_average(item.average, average_paths(class_path(paths.map, label)))
        if paths.template is not None:
            write_template(found, class_path(paths.template, label), label=label)


def write_template(found: Discovery, path: Path, *, label: int = 0) -> None:
    """Write the template that finds particles of one class in other tomograms."""
    found.template(name=path.stem, label=label).save(path)


def write_step(last: DiscoveryStep, paths: DiscoveryPaths, *, extents: Mapping[str, Extent]) -> None:
    """Write the particles of a step in their poses, and its first map."""
    if last.particles is not None:
        particles = in_list_order(last.particles)
        write_particles(paths.particles, particles, extents=extents, provenance=discovery_provenance(last))
    if paths.map is not None and last.maps:
        write_tomogram(paths.map, last.maps[0], voxel_size=last.voxel_size)
