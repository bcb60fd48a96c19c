"""Plausibility of positions in their tomograms: whether they look like voxels, or like pixels of another binning."""

from __future__ import annotations

import numpy as np

from napari_orient.engine.io.tomograms import find_extents
from napari_orient.engine.particles import Particles

_CHANCE = 1e-3
"""Chance of particles that are spread evenly to lie together as these do, below which the question is asked; chosen."""

_LEAST_SHARE = 0.01
"""Share of a tomogram's side below which no binning explains where positions end."""

_LEAST_IN_PLANE = 3
"""Particles from which z = 0 for all is no chance: two may be picked in the first slice. Chosen."""

_LEAST_VOXEL_SIZE = 2.0
"""Å of a voxel from which positions in voxels and in Å are told apart: at 1 Å they are the same."""


def questions_on_poses(particles: Particles) -> tuple[str, ...]:
    """A sentence where every pose is the identity, as before an alignment, and has no confidence; else none."""
    if particles.rotations is None or len(particles) == 0 or particles.confidence is not None:
        return ()
    if not np.allclose(particles.rotations, np.eye(3), atol=1e-6):
        return ()
    return ("Every orientation is the identity (all angles are 0): are these particles before an alignment?",)


def questions_on_units(particles: Particles) -> tuple[str, ...]:
    """A sentence where all z are 0, all positions would be a tomogram's voxels, or all lie in one corner; else none.

    Only particles in tomograms of known extent count, and only where all lie inside: what lies outside is refused with
    a word of its own.
    """
    if len(particles) >= _LEAST_IN_PLANE and not particles.positions[:, 2].any():
        return ("All z are 0: are these particles of micrographs, in two dimensions?",)
    names = np.asarray(particles.tomogram)
    found = find_extents(particles.tomogram_names, [particles.extents])
    rows = np.isin(names, list(found))
    if not rows.any():
        return ()
    extents = [found[str(name)] for name in names[rows]]
    edges = np.array([extent.voxel_size for extent in extents])[:, None]
    sizes, positions = np.array([extent.size for extent in extents]), particles.positions[rows]
    if (positions / edges < -0.5).any() or (positions / edges > sizes - 0.5).any():
        return ()
    if (positions <= sizes).all() and edges.min() >= _LEAST_VOXEL_SIZE:
        shown = " × ".join(f"{side:.0f}" for side in positions.max(axis=0))
        return (
            f"{_all(len(extents))} within {shown} Å of the first voxel, as they would if they counted in "
            f"voxels of {edges.min():g} Å and were read as Å. If they do, name the columns x_voxel, y_voxel, z_voxel, "
            "or give the size of a voxel (--pixel-size).",
        )
    share = (positions / edges / sizes).max(axis=0)
    factor = 1 / max(*share, _LEAST_SHARE)
    if max(share[:2]) <= 0.5 and float(share[0] * share[1]) ** len(extents) <= _CHANCE:
        return (
            f"{_all(len(extents))} in the first {share[0]:.0%} × {share[1]:.0%} of their tomogram along x "
            f"and y: is the pixel size right? Another binning would be a factor of up to {factor:.3g} "
            "(--pixel-size).",
        )
    return ()


def _all(count: int) -> str:
    """``All 12 positions lie``, or that of one."""
    return "The only position lies" if count == 1 else f"All {count} positions lie"
