"""Poses and map refined against each other at the tomogram's own voxels, two halves of the particles kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average, AveragingOptions, average, random_halves
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.patches import UNKNOWN_DEG, Patches, model_for, poses_of
from napari_orient.engine.model.grid import frequencies, offsets, soft_ball
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, split_like
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.rotations import Symmetry, symmetric_angle_deg
from napari_orient.engine.streams import run

_FINEST = 2.4
"""Finest detail used, in voxels."""
_GUESTS, _NEAR_DEG = 12, 20.0
"""Particles of each half of each tomogram that the other half's map is tried on, and how far a turn is no error."""


def box(options: DiscoveryOptions, voxel_size: float) -> int:
    """Voxels along the map: 4/3 of the particle's diameter, even."""
    return max(16, 2 * int(np.ceil(options.diameter * 2 / 3 / voxel_size)))


def averaged(labelled: Labelled, group: Symmetry, options: DiscoveryOptions, *, dark: bool) -> Average:
    """The average of particles in their poses and of the two halves that polishing keeps apart."""
    voxel_size = labelled[0][0].voxel_size
    asked = AveragingOptions(
        side=box(options, voxel_size),
        radius=options.radius,
        contrast="dark" if dark else "bright",
        tilt_axis=options.tilt_axis,
        seed=options.seed,
    )
    return run(average(labelled, group=group, options=asked))


def polished(
    labelled: Labelled,
    found: Average,
    group: Symmetry,
    options: DiscoveryOptions,
    wedges: Sequence[Wedge],
    *,
    device: torch.device,
) -> list[tuple[Tomogram, Particles]]:
    """Every particle's pose against the map of its own half, with its expected error.

    The map of a half is itself uncertain. Some particles are posed against the other half's map too: half the squared
    turn between the two poses is what a map's own noise costs, and is added to what the patch's noise leaves.
    """
    maps = [reference_for(part, found, options) for part in (found.first_half, found.second_half)]
    halves = split_like(labelled, random_halves(sum(len(particles) for _, particles in labelled), options.seed))
    answer, turns = [], []
    for (tomogram, particles), own, wedge in zip(labelled, halves, wedges, strict=True):
        patches = Patches.holding(maps[0], tomogram, particles)
        poses, apart = _polished(patches, own, maps, group, wedge=wedge, device=device)
        turns.append(apart)
        answer.append((tomogram, patches.posed(poses, options)))
    ours = _map_error_deg(torch.cat(turns))
    return [
        (
            tomogram,
            part.replace(
                expected_error_deg=np.minimum(np.hypot(np.asarray(part.expected_error_deg), ours), UNKNOWN_DEG)
            ),
        )
        for tomogram, part in answer
    ]


def _map_error_deg(turns: torch.Tensor) -> float:
    """What a half map's noise costs, degrees root mean square, from turns between poses against the two maps."""
    near = turns[turns < _NEAR_DEG]
    return float((near.square().mean() / 2).sqrt()) if len(near) else 0.0


def reference_for(density: NDArray[np.float32], found: Average, options: DiscoveryOptions) -> Reference:
    """A map, or a half's, as far as the halves agree, shell by shell."""
    voxel_size, side = found.voxel_size, len(density)
    finest = max(_FINEST * voxel_size, found.fsc.resolution(0.143))
    grid = frequencies(side, voxel_size).norm(dim=-1).numpy()
    curve = np.interp(grid, found.fsc.frequency, np.clip(found.fsc.correlation, 0, 1))
    weighted = np.fft.ifftn(np.fft.fftn(density) * np.where(grid > 1 / finest, 0.0, curve)).real
    distance = (offsets(side, voxel_size) + voxel_size / 2).norm(dim=-1)
    mask = soft_ball(distance, options.radius, 4 * voxel_size).numpy()
    return build_reference(
        (weighted * mask).astype(np.float32), voxel_size, resolution=finest, radius=options.radius + 4 * voxel_size
    )


def _polished(
    patches: Patches,
    half: NDArray[np.int_],
    maps: Sequence[Reference],
    group: Symmetry,
    *,
    wedge: Wedge,
    device: torch.device,
) -> tuple[Poses, torch.Tensor]:
    """Poses against the maps of the particles' own halves, and turns (R,) in degrees to some against the other's."""
    answers, order, guests = [], [], []
    for number, reference in enumerate(maps):
        own, others = np.flatnonzero(half == number), np.flatnonzero(half != number)
        if len(own):
            model, likelihood_scale = model_for(reference, patches, own, wedge)
            asked = np.concatenate([own, others[:: max(1, len(others) // _GUESTS)]])
            # Few patches are held at a time.
            fits = [fit for _, fit in patches.fits(reference.to(device), model.to(device), asked, device=device)]
            poses = poses_of(fits, group, likelihood_scale=likelihood_scale)
            answers.append(poses.take(torch.arange(len(own))))
            guests.append((asked[len(own) :], poses.rotations[len(own) :]))
            order.append(torch.as_tensor(own))
    own_poses = Poses.concatenated(answers).take(torch.argsort(torch.cat(order)))
    turns = [
        symmetric_angle_deg(own_poses.rotations[rows].double().numpy(), others.double().numpy(), group)
        for rows, others in guests
    ]
    return own_poses, torch.as_tensor(np.concatenate(turns))


def reframed(particles: Particles, frame: FloatArray, centre: FloatArray) -> Particles:
    """The same particles in a new reference frame: its axes are the columns of a frame, its origin a centre in Å."""
    rotations = particles.required_rotations()
    return particles.replace(positions=particles.positions + rotations @ centre, rotations=rotations @ frame)
