"""The specimen: templates and other macromolecules put into a volume, between membranes, filaments and gold beads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_orient.engine.simulation.bending import bent_bodies
from napari_orient.engine.simulation.placement import (
    Chains,
    CrowdedVolume,
    RotatableTemplate,
    rotatable_template,
)
from napari_orient.engine.simulation.projection import Bodies, Specimen, rigid_bodies
from napari_orient.engine.simulation.surroundings import filaments, gold, membranes
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.templates import Template


@dataclass(frozen=True, eq=False)
class Contents:
    """What is put into the specimen: templates with their counts, and other macromolecules."""

    templates: Sequence[Template]
    counts: Sequence[int]
    others: Sequence[Template]

    @property
    def count(self) -> int:
        """Particles of all templates, the others left out."""
        return sum(self.counts)

    def shapes(self, options: SimulationOptions) -> list[RotatableTemplate]:
        """The templates, then the others, ready to be placed."""
        return [
            rotatable_template(item, voxel_size=options.voxel_size, level=options.level)
            for item in (*self.templates, *self.others)
        ]

    def most(self, options: SimulationOptions) -> int:
        """Particles of all kinds, if all others fit."""
        return self.count + options.surroundings.other_particles * len(self.others)


def empty_volume(options: SimulationOptions, rng: np.random.Generator) -> CrowdedVolume:
    """A volume of the options' size, ready to be filled."""
    chains = Chains(options.border, options.overlap, options.link, options.chain_length)
    size = (options.size_x, options.size_y, options.size_z)
    return CrowdedVolume(size, voxel_size=options.voxel_size, chains=chains, rng=rng)


def fill(
    crowd: CrowdedVolume,
    shapes: Sequence[RotatableTemplate],
    counts: Sequence[int],
    *,
    total: int,
    must_fit: bool = True,
) -> Stream[Step, list[int]]:
    """So many particles of each shape put into the volume; the answer is how many of each there are."""
    placed = []
    for shape, count in zip(shapes, counts, strict=True):
        before = len(crowd.positions)
        for now in crowd.fill(shape, count, must_fit=must_fit):
            yield Step(len(crowd.positions), total, f"placing {shape.name}: {now} of {count}")
        placed.append(len(crowd.positions) - before)
    return placed


def crowded_specimen(
    contents: Contents,
    crowd: CrowdedVolume,
    shapes: Sequence[RotatableTemplate],
    options: SimulationOptions,
    *,
    total: int,
    surroundings: np.random.Generator,
    states: np.random.Generator,
) -> Stream[Step, Specimen]:
    """All that is imaged; macromolecules are put into the volume on the way, templates first."""
    extent = np.array([options.size_x, options.size_y, options.size_z]) * options.voxel_size
    points = [build(options.surroundings, extent, surroundings) for build in (membranes, filaments)]
    for part in points:
        crowd.occupy(part.positions + crowd.centre)
    count = len(contents.templates)
    placed = yield from fill(crowd, shapes[:count], contents.counts, total=total)
    most = [options.surroundings.other_particles] * len(contents.others)
    placed += yield from fill(crowd, shapes[count:], most, total=total, must_fit=False)
    points.append(gold(options.surroundings, crowd, surroundings))
    return Specimen([*points, *_bodies(contents, crowd, placed, options, states)])


def _bodies(
    contents: Contents,
    crowd: CrowdedVolume,
    placed: Sequence[int],
    options: SimulationOptions,
    rng: np.random.Generator,
) -> Iterator[Bodies]:
    """The macromolecules of a volume, so many of each kind placed; half of the templates' particles are bent."""
    positions = np.array(crowd.positions).reshape(-1, 3) - crowd.centre
    rotations = np.array(crowd.rotations).reshape(-1, 3, 3)
    pixel, bend = options.voxel_size, options.surroundings.flexibility
    ends = np.cumsum(placed)
    for index, template in enumerate((*contents.templates, *contents.others)):
        rows = slice(ends[index] - placed[index], ends[index])
        if not placed[index]:
            continue
        if bend and index < len(contents.templates):
            angles = bend * rng.integers(0, 2, placed[index])
            yield from bent_bodies(template, positions[rows], rotations[rows], angles, pixel=pixel)
        else:
            yield rigid_bodies(template, positions[rows], rotations[rows], pixel=pixel)
