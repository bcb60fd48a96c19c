"""The specimen: macromolecules put into a volume, rigid or bent, between membranes, filaments and gold beads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_orient.engine.particles import FloatArray
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.simulation.placement import (
    Chains,
    CrowdedVolume,
    RotatableTemplate,
    rotatable_template,
)
from napari_orient.engine.simulation.projection import Bodies, Points, Specimen, rigid_bodies, slice_table, unit_peak
from napari_orient.engine.simulation_options import SimulationOptions, SurroundingsOptions
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
    points += gold(options.surroundings, crowd, surroundings)
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


# --- flexible macromolecules ------------------------------------------------------------------------------------------

_BENT_SHARE = 1 / 3
"""Share of the mass that is bent: that of a ribosome's small subunit."""
_INTERFACE = 30.0
"""Å on both sides of the cut whose matter the hinge is the middle of; about a domain's thickness."""


def bent_bodies(
    template: Template, positions: FloatArray, rotations: FloatArray, angles_deg: FloatArray, *, pixel: float
) -> list[Bodies]:
    """Copies of a template with its origin at positions (N, 3) Å, a third of each bent by its own angle (N,).

    The map is cut across its longest principal axis; the hinge lies in the middle of the cut, along the second axis.
    Rotations are those of the larger part.
    """
    density = unit_peak(template, pixel=pixel)
    voxels = np.stack(np.meshgrid(*(np.arange(float(n)) for n in density.shape), indexing="ij"), axis=-1)
    place = (voxels[..., ::-1] - template.centre) * template.voxel_size
    beyond, hinge, axis = _cut(density, place)
    bends = Rotation.from_rotvec(np.radians(angles_deg)[:, None] * axis).as_matrix()
    bodies = []
    for part, bend in ((~beyond, np.eye(3)), (beyond, bends)):
        table = slice_table(np.where(part, density, np.float32(0)), template.voxel_size, pixel=pixel)
        own = hinge + bend @ (table.centre - hinge)
        moved = positions + np.einsum("nij,nj->ni", rotations, np.broadcast_to(own, positions.shape))
        bodies.append(Bodies(table, moved, rotations @ bend))
    return bodies


def _cut(density: NDArray[np.float32], place: FloatArray) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    """Which voxels are bent (Z, Y, X), the hinge's middle (3,) Å, and its direction (3,)."""
    weight = np.clip(density, 0, None).ravel()
    points = place.reshape(-1, 3)
    centre = weight @ points / weight.sum()
    spread = ((points - centre) * weight[:, None]).T @ (points - centre)
    _, principal = np.linalg.eigh(spread)
    along = (points - centre) @ principal[:, 2]
    order = np.argsort(along)
    share = np.cumsum(weight[order]) / weight.sum()
    level = along[order][np.searchsorted(share, 1 - _BENT_SHARE)]
    near = np.abs(along - level) < _INTERFACE
    hinge = (weight * near) @ points / (weight * near).sum()
    return (along > level).reshape(density.shape), hinge, principal[:, 1]


# --- surroundings -----------------------------------------------------------------------------------------------------

_LEAFLET = 20.0
"""Å from a bilayer's middle to its head groups, which scatter most; bilayers of 35 to 45 Å between head groups."""
_LEAFLET_WIDTH = 8.0
"""Å, standard deviation of a layer of head groups, and the distance between its points."""
_LEAFLET_DENSITY = 0.4
"""Density of head groups over a template's peak: membranes look about as dark as ribosomes in cells; chosen."""
_VESICLE_RADIUS = (250.0, 600.0)
"""Å, smallest and largest."""
_MEMBRANE_RADIUS = (4000.0, 15000.0)
"""Å, of the curvature of membranes that cross the tomogram, smallest and largest."""
_SUBUNIT_RISE = 27.6
"""Å between subunits of F-actin along the filament (Egelman et al. 1982)."""
_SUBUNIT_TWIST_DEG = -166.7
"""Degrees between subunits of F-actin about the filament (left-handed genetic helix)."""
_SUBUNIT_RADIUS = 16.0
"""Å from the filament's axis to its subunits' middle."""
_SUBUNIT_WIDTH = 16.0
"""Å, standard deviation of a subunit (42 kDa)."""
_SUBUNIT_DENSITY = 0.7
"""Density of a subunit's middle over a template's peak; chosen."""
_FILAMENT_TILT_DEG = 20.0
"""Degrees by which filaments leave the tomogram's plane, at the most: cells are thinned along it."""
_GOLD_DENSITY = 12.0
"""Density of gold over a template's peak: its electrons scatter that much more per volume than a protein's in ice."""
_TRIES = 200
"""Places tried for a gold bead before the volume is full of other matter."""
_TOUCHING = 1.0
"""Å by which beads that touch may overlap; for rounding."""
_FROM_BORDER_GOLD = 200.0
"""Å from the middle of a bead at the border to any particle and to other such beads, at the least; chosen."""


def membranes(options: SurroundingsOptions, extent: FloatArray, rng: np.random.Generator) -> Points:
    """Membranes and vesicles within a box of this extent (3,) Å about its centre."""
    shells = [_membrane(extent, rng) for _ in range(options.membranes)]
    shells += [_vesicle(extent, rng) for _ in range(options.vesicles)]
    points = np.concatenate([np.zeros((0, 3)), *shells])
    inside = (np.abs(points) < extent / 2).all(axis=1)
    # A layer of points that are one deviation apart is 2π times as dense as each of them.
    return Points(points[inside], _LEAFLET_DENSITY / (2 * np.pi), _LEAFLET_WIDTH)


def _vesicle(extent: FloatArray, rng: np.random.Generator) -> FloatArray:
    radius = rng.uniform(*_VESICLE_RADIUS)
    centre = rng.uniform(-0.5, 0.5, 3) * extent
    return centre + _bilayer(radius, None, rng)


def _membrane(extent: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A cap of a large sphere through the middle half of the box, within 30° of standing upright."""
    radius = rng.uniform(*_MEMBRANE_RADIUS)
    azimuth, slope = rng.uniform(0, 2 * np.pi), rng.uniform(-np.pi / 6, np.pi / 6)
    normal = np.array([np.cos(azimuth) * np.cos(slope), np.sin(azimuth) * np.cos(slope), np.sin(slope)])
    through = rng.uniform(-0.25, 0.25, 3) * extent
    reach = float(np.linalg.norm(extent)) / radius
    return through - radius * normal + _bilayer(radius, (normal, min(reach, np.pi)), rng)


def _bilayer(radius: float, cap: tuple[FloatArray, float] | None, rng: np.random.Generator) -> FloatArray:
    """Points of both leaflets of a sphere about 0, or of its cap about a direction, so many radians wide."""
    lowest = -1.0 if cap is None else float(np.cos(cap[1]))
    layers = []
    for leaflet in (radius - _LEAFLET, radius + _LEAFLET):
        count = int(2 * np.pi * leaflet**2 * (1 - lowest) / _LEAFLET_WIDTH**2)
        # A golden spiral: points as evenly spaced as on a lattice.
        height = 1 - (1 - lowest) * (np.arange(count) + 0.5) / count
        azimuth = np.pi * (1 + np.sqrt(5)) * np.arange(count) + rng.uniform(0, 2 * np.pi)
        across = np.sqrt(1 - height**2)
        layers.append(leaflet * np.stack([across * np.cos(azimuth), across * np.sin(azimuth), height], axis=1))
    points = np.concatenate(layers)
    return points if cap is None else points @ _frame(cap[0])


def _frame(direction: FloatArray) -> FloatArray:
    """A right-handed frame (3, 3), rows its axes, whose z is this direction."""
    other = np.eye(3)[int(np.argmin(np.abs(direction)))]
    x = np.cross(other, direction)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(direction, x), direction])


def filaments(options: SurroundingsOptions, extent: FloatArray, rng: np.random.Generator) -> Points:
    """Straight filaments through a box of this extent (3,) Å about its centre."""
    length = float(np.linalg.norm(extent))
    step = np.arange(int(length / _SUBUNIT_RISE)) - length / _SUBUNIT_RISE / 2
    turn = np.radians(_SUBUNIT_TWIST_DEG) * step
    helix = np.stack([_SUBUNIT_RADIUS * np.cos(turn), _SUBUNIT_RADIUS * np.sin(turn), _SUBUNIT_RISE * step], axis=1)
    lines = [np.zeros((0, 3))]
    for _ in range(options.filaments):
        azimuth = rng.uniform(0, 2 * np.pi)
        slope = np.radians(rng.uniform(-_FILAMENT_TILT_DEG, _FILAMENT_TILT_DEG))
        along = np.array([np.cos(azimuth) * np.cos(slope), np.sin(azimuth) * np.cos(slope), np.sin(slope)])
        lines.append(helix @ _frame(along) + rng.uniform(-0.5, 0.5, 3) * extent)
    points = np.concatenate(lines)
    inside = (np.abs(points) < extent / 2).all(axis=1)
    return Points(points[inside], _SUBUNIT_DENSITY, _SUBUNIT_WIDTH)


def gold(options: SurroundingsOptions, crowd: CrowdedVolume, rng: np.random.Generator) -> list[Points]:
    """Gold beads wherever no other matter is, as many as fit: first those at the border, then clusters."""
    radii = [options.gold_diameter / 2, (options.gold_second_diameter or options.gold_diameter) / 2]
    turned = random_rotations(_TRIES, rng)
    balls = [(turned @ [0.0, 0.0, radius]).reshape(-1, 3) for radius in radii]
    places = _gold_at_border(min(options.gold_at_border, options.gold), crowd, rng)
    cluster: list[FloatArray] = []
    while len(places) < options.gold:
        index = len(places) % 2
        place = _beside(cluster, radii, crowd, balls, index=index, rng=rng) if cluster else None
        if place is None:
            # What is in a cluster counts as matter once it is complete.
            _occupy_cluster(crowd, cluster, balls, first=len(places) - len(cluster))
            cluster = []
            place = crowd.free_place(balls[index], _TRIES, rng)
        if place is None:
            break
        cluster.append(place)
        places.append(place)
        if len(cluster) == options.gold_touching:
            _occupy_cluster(crowd, cluster, balls, first=len(places) - len(cluster))
            cluster = []
    beads = np.array(places).reshape(-1, 3) - crowd.centre
    kinds = 1 if radii[0] == radii[1] else 2
    return [Points(beads[kind::kinds], _GOLD_DENSITY, radii[kind], is_sphere=True) for kind in range(kinds)]


def _occupy_cluster(
    crowd: CrowdedVolume, cluster: Sequence[FloatArray], balls: Sequence[FloatArray], *, first: int
) -> None:
    for number, place in enumerate(cluster, start=first):
        crowd.occupy(balls[number % 2] + place)


def _gold_at_border(count: int, crowd: CrowdedVolume, rng: np.random.Generator) -> list[FloatArray]:
    """Places of beads on the lower or upper face, in turn, far from all particles."""
    places: list[FloatArray] = []
    others = np.array(crowd.positions).reshape(-1, 3)
    for _ in range(_TRIES * count):
        place = rng.uniform(0.1, 0.9, 3) * 2 * crowd.centre
        place[2] = 2 * crowd.centre[2] * (len(places) % 2)
        near = np.linalg.norm(np.array([*others, *places]).reshape(-1, 3) - place, axis=1) < _FROM_BORDER_GOLD
        if len(places) < count and not near.any():
            places.append(place)
    return places


def _beside(
    cluster: Sequence[FloatArray],
    radii: Sequence[float],
    crowd: CrowdedVolume,
    balls: Sequence[FloatArray],
    *,
    index: int,
    rng: np.random.Generator,
) -> FloatArray | None:
    """A place where a bead touches the last one of a cluster, and overlaps with nothing; None after many tries."""
    # Sizes alternate: the last bead has the other one, and so on.
    apart = [radii[index] + radii[(index + back) % 2] for back in range(len(cluster), 0, -1)]
    for rotation in random_rotations(_TRIES, rng):
        place: FloatArray = cluster[-1] + rotation[2] * apart[-1]
        clear = np.linalg.norm(np.array(cluster) - place, axis=1) > np.array(apart) - _TOUCHING
        if clear.all() and crowd.is_free(balls[index], place):
            return place
    return None
