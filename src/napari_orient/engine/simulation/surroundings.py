"""What surrounds particles in a specimen: membranes, vesicles, filaments and gold beads, made of points."""

from __future__ import annotations

import numpy as np

from napari_orient.engine.particles import FloatArray
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.simulation.placement import CrowdedVolume
from napari_orient.engine.simulation.projection import Points
from napari_orient.engine.simulation_options import SurroundingsOptions

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


def gold(options: SurroundingsOptions, crowd: CrowdedVolume, rng: np.random.Generator) -> Points:
    """Gold beads wherever no other matter is; as many as fit."""
    radius = options.gold_diameter / 2
    ball = (random_rotations(_TRIES, rng) @ [0.0, 0.0, radius]).reshape(-1, 3)
    beads = []
    for _ in range(options.gold):
        place = crowd.free_place(ball, _TRIES, rng)
        if place is None:
            break
        crowd.occupy(ball + place)
        beads.append(place - crowd.centre)
    return Points(np.array(beads).reshape(-1, 3), _GOLD_DENSITY, radius, is_sphere=True)
