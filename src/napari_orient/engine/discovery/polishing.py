"""Poses and map refined against each other at the tomogram's own voxels, two halves of the particles kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average, AveragingOptions, average
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.matching.calibration import calibrate, first_imaging
from napari_orient.engine.matching.fitting import Fit, joined, polish
from napari_orient.engine.matching.grid import frequencies, offsets, soft_ball
from napari_orient.engine.matching.imaging import Imaging, box_side, cropped
from napari_orient.engine.matching.reference import Reference, build_reference
from napari_orient.engine.matching.wedge import Wedge
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.patches import cut_patches, nearest_voxel
from napari_orient.engine.refinement.poses import Poses
from napari_orient.engine.refinement.posterior import settled
from napari_orient.engine.rotations import Symmetry
from napari_orient.engine.tasks import run

_FINEST = 2.4
"""Finest detail used, in voxels."""
_FIRST_STEPS, _STEPS, _BATCH = 4, 3, 16
_ENOUGH = 8
_TRUST = 1.1
"""What log-likelihoods are multiplied by, as in refinement: the noise measured holds neighbours."""

Labelled = Sequence[tuple[Tomogram, Particles]]


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


def halves_of(count: int, options: DiscoveryOptions) -> NDArray[np.int_]:
    """Which half each particle belongs to, (N,) 0 or 1, as `average` throws the coin."""
    return np.asarray(np.random.default_rng(options.seed).permutation(count) % 2)


def polished(
    labelled: Labelled, found: Average, group: Symmetry, options: DiscoveryOptions, wedges: Sequence[Wedge]
) -> list[tuple[Tomogram, Particles]]:
    """Every particle's pose against the map of its own half, with its expected error."""
    voxel_size = found.voxel_size
    maps = [_reference(part, found, options) for part in (found.first_half, found.second_half)]
    half = halves_of(sum(len(particles) for _, particles in labelled), options)
    answer, done = [], 0
    for (tomogram, particles), wedge in zip(labelled, wedges, strict=True):
        own = half[done : done + len(particles)]
        done += len(particles)
        middles, poses = _polished(tomogram, particles, own, maps, group, wedge=wedge, voxel_size=voxel_size)
        moved = particles.replace(
            positions=middles + poses.shifts.double().numpy(),
            rotations=poses.rotations.double().numpy(),
            expected_error_deg=poses.expected_error_deg.double().numpy(),
        )
        answer.append((tomogram, moved))
    return answer


def _reference(density: NDArray[np.float32], found: Average, options: DiscoveryOptions) -> Reference:
    """A half's map as far as the halves agree, shell by shell."""
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
    tomogram: Tomogram,
    particles: Particles,
    half: NDArray[np.int_],
    maps: Sequence[Reference],
    group: Symmetry,
    *,
    wedge: Wedge,
    voxel_size: float,
) -> tuple[FloatArray, Poses]:
    """The middles of the patches, (N, 3) xyz in Å, and the poses about them."""
    side = min(box_side(maps[0].radius, voxel_size), min(tomogram.density.shape) // 2 * 2)
    # Patches about whole voxels need no interpolation: what is left is where the fit's shifts begin.
    middles = nearest_voxel(particles.positions, tomogram.voxel_size)
    cubes = torch.from_numpy(cut_patches(tomogram, middles, side=side, voxel_size=voxel_size))
    shifts = torch.as_tensor(particles.positions - middles, dtype=torch.float32)
    rotations = torch.as_tensor(particles.known_rotations(), dtype=torch.float32)
    answers, order = [], []
    for number, reference in enumerate(maps):
        rows = torch.as_tensor(np.flatnonzero(half == number))
        if len(rows):
            part = (cubes[rows], rotations[rows], shifts[rows])
            answers.append(_against(reference, *part, group, wedge=wedge, voxel_size=voxel_size))
            order.append(rows)
    return middles, Poses.concatenated(answers).take(torch.argsort(torch.cat(order)))


def _against(
    reference: Reference,
    patches: torch.Tensor,
    rotations: torch.Tensor,
    shifts: torch.Tensor,
    group: Symmetry,
    *,
    wedge: Wedge,
    voxel_size: float,
) -> Poses:
    """Poses of patches against one reference: as the imaging is first seen, then as those poses show it."""
    middle = cropped(patches, min(box_side(reference.radius, voxel_size), patches.shape[-1]))
    imaging = first_imaging(middle, reference, wedge, voxel_size=voxel_size, resolution=reference.resolution)
    fit = _fitted(reference, imaging, patches, rotations, shifts, steps=_FIRST_STEPS)
    if len(patches) >= _ENOUGH:
        imaging = calibrate(reference, imaging, imaging.observe(patches), fit, wedge=wedge)
        fit = _fitted(reference, imaging, patches, fit.rotations, fit.shifts, steps=_STEPS)
    return settled([fit], group, trust=_TRUST)


def _fitted(
    reference: Reference,
    imaging: Imaging,
    patches: torch.Tensor,
    rotations: torch.Tensor,
    shifts: torch.Tensor,
    *,
    steps: int,
) -> Fit:
    return joined(
        [
            polish(
                reference,
                imaging,
                imaging.observe(patches[row]),
                rotations=rotations[row],
                shifts=shifts[row],
                steps=steps,
            )
            for row in torch.arange(len(patches)).split(_BATCH)
        ]
    )


def reframed(particles: Particles, frame: FloatArray, centre: FloatArray) -> Particles:
    """The same particles in a new reference frame: its axes are the columns of a frame, its origin a centre in Å."""
    rotations = particles.known_rotations()
    return particles.replace(positions=particles.positions + rotations @ centre, rotations=rotations @ frame)
