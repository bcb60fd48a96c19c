"""Quantities of each particle beside its pose: true error, nearest neighbour, cluster; to find wrong poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.duplicates import linked_groups
from napari_orient.engine.errors import InputError
from napari_orient.engine.evaluation import match_particles
from napari_orient.engine.options import Options, option
from napari_orient.engine.particles import Density, Extent, FloatArray, Particles, Tomogram, concatenate
from napari_orient.engine.streams import Work
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry


@dataclass(frozen=True, kw_only=True)
class InspectionOptions(Options):
    """Options of the quantities."""

    symmetry: str | None = option(
        None, help="group that true errors are taken modulo, such as D7; of some classes alone: 3j9i=D7 4v4r=C1"
    )
    threshold: float = option(20.0, help="errors up to this count as right", unit="°", low=0, high=180)
    cluster_distance: float = option(
        200.0, help="particles no further apart are of one cluster", unit="Å", low=0, high=100_000
    )
    diameter: float | None = option(
        None,
        help="particle's size: failures up to 1.5 of it apart are a region; none: the reference's",
        unit="Å",
        low=1,
    )
    tolerance: float = option(100.0, help="a true particle no further off is the same one", unit="Å", low=0, high=1000)


@dataclass(frozen=True, eq=False)
class Inspection:
    """Quantities of N particles beside their poses.

    Parameters
    ----------
    true_error_deg : (N,) angle to the true rotation modulo the group; NaN without a true particle nearby; None without
        poses or true poses.
    partner : (N,) row of the true particle; -1 where there is none.
    neighbour : (N,) Å to the nearest other particle of any class; infinite for one alone.
    neighbour_class : (N,) class of that particle; empty where none is given.
    face : (N,) Å to the nearest face of the tomogram; NaN where its size is unknown.
    beam_angle_deg : (N,) angle between the particle's z axis and the beam, 0 to 90; NaN without poses.
    cluster : (N,) number of its cluster, 1 the largest; 0 for one alone.
    symmetry : (N,) written form of each particle's group.
    """

    true_error_deg: FloatArray | None
    partner: NDArray[np.int_]
    neighbour: FloatArray
    neighbour_class: NDArray[np.str_]
    face: FloatArray
    beam_angle_deg: FloatArray
    cluster: NDArray[np.int_]
    symmetry: NDArray[np.str_]


def inspect(
    particles: Particles,
    options: InspectionOptions,
    *,
    truth: Particles | None = None,
    groups: Mapping[str, str] | None = None,
    extents: Mapping[str, Extent] | None = None,
) -> Inspection:
    """Quantities of each particle beside its pose.

    ``groups`` has the symmetry of classes that the options do not name, and under ``""`` that of all others. The
    neighbours of particles that were picked from a list of several classes are looked for among the true ones too.
    ``extents`` are the sizes of tomograms by name; by default those that the particles carry.

    Raises
    ------
    InputError
        If a symmetry is invalid.
    """
    partner = _partners(particles, truth, options.tolerance)
    named = symmetries_by_class(options.symmetry or "")
    given = {} if "" in named else {_code(kind): name for kind, name in (groups or {}).items()}
    names = _symmetries(particles, {"": "C1", **given, **named})
    near = neighbours(particles, _everyone(particles, truth, partner))
    return Inspection(
        true_error_deg=_true_errors(particles, truth, partner, names),
        partner=partner,
        neighbour=near.distance,
        neighbour_class=near.kind,
        face=face_distance(particles, particles.extents if extents is None else extents),
        beam_angle_deg=beam_angle_deg(particles),
        cluster=clusters(particles, options.cluster_distance),
        symmetry=names,
    )


def symmetries_by_class(text: str) -> dict[str, str]:
    """Symmetries by class of a text such as ``3j9i=D7 4v4r=C1``; under ``""`` one without a class, for all classes.

    Raises
    ------
    InputError
        If a symmetry is invalid.
    """
    parts = [part.rpartition("=") for part in text.split()]
    return {_code(kind): symmetry(name).name for kind, _, name in parts}


def _code(kind: str) -> str:
    """Code of a class without PolNet's prefix ``pdb_``."""
    return kind.removeprefix("pdb_")


def _symmetries(particles: Particles, groups: Mapping[str, str]) -> NDArray[np.str_]:
    """Written form of the group of each particle's class, (N,)."""
    if particles.kind is None:
        return np.full(len(particles), groups[""])
    kinds, place = np.unique(particles.kind.astype(str), return_inverse=True)
    own = [groups.get(_code(kind), groups[""]) for kind in kinds.tolist()]
    return np.array(own, str)[place]


def _partners(particles: Particles, truth: Particles | None, tolerance: float) -> NDArray[np.int_]:
    partner = np.full(len(particles), -1)
    if truth is not None and len(particles) and len(truth):
        try:
            rows, true_rows = match_particles(particles, truth, tolerance=tolerance)
        except InputError:
            return partner  # The true particles are of another tomogram.
        partner[rows] = true_rows
    return partner


def _true_errors(
    particles: Particles, truth: Particles | None, partner: NDArray[np.int_], names: NDArray[np.str_]
) -> FloatArray | None:
    matched = partner >= 0
    if truth is None or truth.rotations is None or particles.rotations is None or not matched.any():
        return None
    errors = np.full(len(particles), np.nan)
    for name in np.unique(names[matched]).tolist():
        own = matched & (names == name)
        errors[own] = symmetric_angle_deg(particles.rotations[own], truth.rotations[partner[own]], symmetry(name))
    return errors


def _everyone(particles: Particles, truth: Particles | None, partner: NDArray[np.int_]) -> Particles:
    """The particles, and the true ones that match none of them; each with its class where both lists give one."""
    plain = Particles(positions=particles.positions, tomogram=particles.tomogram, kind=particles.kind)
    if truth is None or not (partner >= 0).any():
        return plain
    others = np.ones(len(truth), bool)
    others[partner[partner >= 0]] = False
    kind = None if truth.kind is None else np.asarray(truth.kind)[others]
    if (kind is None) != (plain.kind is None):
        kind, plain = None, plain.replace(kind=None)
    name = particles.tomogram_names[0]
    return concatenate([plain, Particles(positions=truth.positions[others], tomogram=name, kind=kind)])


_SHELL = 1.5
"""Outer radius, in particle radii, of the shell that a particle's contrast is taken against; chosen: as many voxels
again as two and a half particles, and seldom the middle of a neighbour."""

_STEPS_PER_RADIUS = 6
"""Voxels along a particle's radius that its contrast is sampled at: 900 in the sphere."""

_CONTRASTS_AT_ONCE = 50
"""Particles between two chances to stop: about 5 ms."""

# --- neighbours and clusters ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest other particle of each: Å to it, (N,), infinite if alone; its class, (N,), empty where unknown."""

    distance: FloatArray
    kind: NDArray[np.str_]


def neighbours(particles: Particles, everyone: Particles) -> Neighbours:
    """The nearest other particle of any class, in the same tomogram; ``everyone`` are all there, these among them."""
    from scipy.spatial import cKDTree

    distance, kind = np.full(len(particles), np.inf), np.full(len(particles), "", object)
    for name in particles.tomogram_names:
        rows = np.flatnonzero(np.asarray(particles.tomogram) == name)
        others = everyone.of_tomogram(name)
        if len(others) > 1:
            # The nearest of all is the particle itself.
            found, which = map(np.asarray, cKDTree(others.positions).query(particles.positions[rows], k=2))
            distance[rows] = found[:, 1]
            if others.kind is not None:
                kind[rows] = np.asarray(others.kind, str)[which[:, 1]]
    return Neighbours(distance, kind.astype(str))


def face_distance(particles: Particles, extents: Mapping[str, Extent]) -> FloatArray:
    """Å from each particle to the nearest face of its tomogram, (N,); negative outside, NaN where no size is given."""
    found = np.full(len(particles), np.nan)
    for name, extent in extents.items():
        rows = np.flatnonzero(np.asarray(particles.tomogram) == name)
        far = (np.asarray(extent.size) - 1) * extent.voxel_size
        inside = np.concatenate([particles.positions[rows], far - particles.positions[rows]], axis=1)
        found[rows] = inside.min(axis=1, initial=np.inf) + extent.voxel_size / 2
    return found


def beam_angle_deg(particles: Particles) -> FloatArray:
    """Angle between each particle's z axis and the beam, the tomogram's z, 0 to 90 degrees, (N,); NaN without poses."""
    if particles.rotations is None:
        return np.full(len(particles), np.nan)
    along = np.abs(particles.rotations[:, 2, 2])
    return np.asarray(np.degrees(np.arccos(along.clip(0, 1))))


def local_contrast(tomogram: Tomogram, positions: FloatArray, *, diameter: float) -> Work[FloatArray]:
    """Contrast of each particle with what surrounds it, (N,), not negative.

    It is the difference of mean density between a sphere of the particle's diameter and the shell round it out to
    `_SHELL` radii, in standard deviations of the shell. NaN where less than half of either lies in the tomogram.

    Parameters
    ----------
    positions : (N, 3) xyz in Å.
    diameter : Å, the particle's.
    """
    radius, size = diameter / 2, tomogram.voxel_size
    step = max(1, round(radius / _STEPS_PER_RADIUS / size))
    reach = int(np.ceil(_SHELL * radius / (size * step)))
    grid = np.arange(-reach, reach + 1) * step
    found = np.full(len(positions), np.nan)
    for row, place in enumerate(np.asarray(positions, float)[:, ::-1] / size):
        found[row] = _contrast_at(tomogram.density, place, grid, radius / size)
        if row % _CONTRASTS_AT_ONCE == 0:
            yield
    return found


def _contrast_at(density: Density, place: FloatArray, grid: NDArray[np.int_], radius: float) -> float:
    """Contrast at a place, (3,) zyx in voxels, from every voxel at these steps from its nearest one."""
    nearest = np.rint(place).astype(int)
    voxels = [
        axis[(axis >= 0) & (axis < side)] for axis, side in zip(nearest[:, None] + grid, density.shape, strict=True)
    ]
    if not all(map(len, voxels)):
        return np.nan
    step = int(grid[1] - grid[0])
    values = np.asarray(density[tuple(slice(axis[0], axis[-1] + 1, step) for axis in voxels)], np.float32)
    z, y, x = (((axis - middle) / radius) ** 2 for axis, middle in zip(voxels, place, strict=True))
    away = z[:, None, None] + y[:, None] + x
    inside, around = away <= 1, (away > 1) & (away <= _SHELL**2)
    whole = len(grid) ** 3 / (2 * _SHELL) ** 3 * 4 / 3 * np.pi
    if inside.sum() < whole / 2 or around.sum() < whole * (_SHELL**3 - 1) / 2:
        return np.nan
    spread = float(values[around].std())
    return abs(float(values[inside].mean() - values[around].mean())) / spread if spread > 0 else np.nan


def clusters(particles: Particles, distance: float) -> NDArray[np.int_]:
    """Number of each particle's cluster, (N,): 1 is the largest; 0 for a particle alone.

    Clusters are by single linkage: particles within ``distance`` Å of each other are in the same one.
    """
    labels = linked_groups(particles, distance)
    sizes = np.bincount(labels, minlength=1)
    # Among clusters of equal size, the order is that of their first particles.
    order = np.argsort(-sizes, kind="stable")
    numbers = np.zeros(len(sizes), int)
    numbers[order] = np.arange(1, len(sizes) + 1)
    numbers[sizes <= 1] = 0
    return np.asarray(numbers[labels], int)
