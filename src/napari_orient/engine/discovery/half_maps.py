"""Patches of one tomogram's particles at its own voxels: how a map shows in them, and its fits to them.

Poses and map refined against each other at the tomogram's own voxels, two halves of the particles kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging.average import Average, average, random_halves
from napari_orient.engine.averaging.options import AveragingOptions
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.matching.fit import Fit, concatenate_fits, fit_poses
from napari_orient.engine.model.forward import ForwardModel, box_side
from napari_orient.engine.model.gain import align_tilts, calibrate, initial_forward_model
from napari_orient.engine.model.grid import frequencies, offsets, soft_ball
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, split_like
from napari_orient.engine.patches import cut_patches, nearest_voxel
from napari_orient.engine.refinement.posterior import Poses, summarise_modes
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE, estimate_likelihood_scale
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg

_FIRST_STEPS, _STEPS, _BATCH, _CUT = 4, 5, 16, 64
_ENOUGH, _SAMPLE = 8, 128
_WALK, UNKNOWN_DEG = 1.5, 127.0
"""Voxels of the search that a fit may walk from where it began; the error of one that walked farther."""


@dataclass(frozen=True, eq=False)
class ParticlePatches:
    """Patches of one tomogram's particles, cut when they are wanted, about whole voxels.

    Nothing need be interpolated so: what is left of the way to a position is where a fit's shift begins.
    """

    tomogram: Tomogram
    particles: Particles
    side: int

    @classmethod
    def holding(cls, reference: Reference, tomogram: Tomogram, particles: Particles) -> ParticlePatches:
        """The smallest patches that a reference fits into, as far as the tomogram is large enough."""
        side = min(box_side(reference.radius, tomogram.voxel_size), int(min(tomogram.density.shape)) // 2 * 2)
        return cls(tomogram, particles, side)

    @property
    def voxel_centres(self) -> FloatArray:
        """Middles of the voxels cut about, (N, 3) xyz in Å."""
        return nearest_voxel(self.particles.positions, self.tomogram.voxel_size)

    def cut(self, rows: NDArray[np.int_]) -> torch.Tensor:
        """The patches of some rows, (R, n, n, n)."""
        return torch.from_numpy(cut_patches(self.tomogram, self.voxel_centres[rows], side=self.side))

    def start(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotations (N, 3, 3) and shifts (N, 3) in Å that fits begin from."""
        shifts = torch.as_tensor(self.particles.positions - self.voxel_centres, dtype=torch.float32)
        return torch.as_tensor(self.particles.required_rotations(), dtype=torch.float32), shifts

    def fits(
        self, reference: Reference, model: ForwardModel, rows: NDArray[np.int_], *, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, Fit]]:
        """What was observed of some rows and the fits to it, a few at a time: no more are held."""
        rotations, shifts = (part.to(device) for part in self.start())
        for some in np.array_split(rows, -(-len(rows) // _CUT)):
            observed = model.observe(self.cut(some).to(device))
            yield observed, fit_patches(reference, model, observed, rotations[some], shifts[some], steps=_STEPS)

    def posed(self, poses: Poses, options: DiscoveryOptions) -> Particles:
        """The particles in new poses, but for those that walked too far: they keep the poses they had.

        Such a fit has left its particle, perhaps for a neighbour that is picked too; its error is unknown.
        """
        positions = self.voxel_centres + poses.shifts.double().numpy()
        stays = np.linalg.norm(positions - self.particles.positions, axis=1) > _WALK * options.patch_voxel_size
        error = np.where(stays, UNKNOWN_DEG, poses.expected_error_deg.double().numpy())
        return self.particles.replace(
            positions=np.where(stays[:, None], self.particles.positions, positions),
            rotations=np.where(
                stays[:, None, None], self.particles.required_rotations(), poses.rotations.double().numpy()
            ),
            expected_error_deg=error,
        )


def model_for(
    reference: Reference, patches: ParticlePatches, own: NDArray[np.int_], wedge: Wedge
) -> tuple[ForwardModel, float]:
    """How the reference shows: as the patches say at first, then, if they are enough, as their poses show it.

    The number is what log-likelihoods of its matches are to be multiplied by; see `estimate_likelihood_scale`.
    """
    rows = own[:: -(-len(own) // _SAMPLE)]
    cubes, (rotations, shifts) = patches.cut(rows), patches.start()
    voxel_size = patches.tomogram.voxel_size
    model = initial_forward_model(cubes, reference, wedge, voxel_size=voxel_size, resolution=reference.resolution)
    if len(rows) < _ENOUGH:
        return model, TYPICAL_LIKELIHOOD_SCALE
    observed = model.observe(cubes)
    fit = fit_patches(reference, model, observed, rotations[rows], shifts[rows], steps=_FIRST_STEPS)
    model = calibrate(reference, model, observed, fit, wedge=wedge)
    observed = model.observe(cubes)
    fit = fit_patches(reference, model, observed, fit.rotations, fit.shifts, steps=_FIRST_STEPS)
    model = align_tilts(reference, model, observed, fit, wedge=wedge)
    return model, estimate_likelihood_scale(reference, model, model.observe(cubes), fit)


def fit_patches(
    reference: Reference,
    model: ForwardModel,
    observed: torch.Tensor,
    rotations: torch.Tensor,
    shifts: torch.Tensor,
    *,
    steps: int,
) -> Fit:
    """The nearest best match of each patch from where its particle is believed to be."""
    return concatenate_fits(
        [
            fit_poses(reference, model, observed[rows], rotations=rotations[rows], shifts=shifts[rows], steps=steps)
            for rows in torch.arange(len(observed)).split(_BATCH)
        ]
    )


def poses_of(fits: Sequence[Fit], group: Symmetry, *, likelihood_scale: float) -> Poses:
    """The pose that each fit comes to, and its expected error; on the CPU."""
    return Poses.concatenated(
        [summarise_modes([concatenate_fits(list(fits))], group, likelihood_scale=likelihood_scale)]
    )


_FINEST = 2.4
"""Finest detail used, in voxels."""
_GUESTS, _NEAR_DEG = 12, 20.0
"""Particles of each half of each tomogram that the other half's map is tried on, and how far a turn is no error."""


def box(options: DiscoveryOptions, voxel_size: float) -> int:
    """Voxels along the map: 4/3 of the particle's diameter, even."""
    return max(16, 2 * int(np.ceil(options.diameter * 2 / 3 / voxel_size)))


def average_in_halves(labelled: Labelled, group: Symmetry, options: DiscoveryOptions, *, dark: bool) -> Average:
    """The average of particles in their poses and of the two halves that polishing keeps apart."""
    voxel_size = labelled[0][0].voxel_size
    asked = AveragingOptions(
        side=box(options, voxel_size),
        radius=options.radius,
        contrast="dark" if dark else "bright",
        wedge=options.wedge,
        seed=options.seed,
    )
    return run(average(labelled, group=group, options=asked))


def refine_in_halves(
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
    maps = [fsc_weighted_reference(part, found, options) for part in (found.first_half, found.second_half)]
    halves = split_like(labelled, random_halves(sum(len(particles) for _, particles in labelled), options.seed))
    answer, turns = [], []
    for (tomogram, particles), own, wedge in zip(labelled, halves, wedges, strict=True):
        patches = ParticlePatches.holding(maps[0], tomogram, particles)
        poses, apart = _half_refined(patches, own, maps, group, wedge=wedge, device=device)
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


def fsc_weighted_reference(density: NDArray[np.float32], found: Average, options: DiscoveryOptions) -> Reference:
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


def _half_refined(
    patches: ParticlePatches,
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


def in_frame(particles: Particles, frame: FloatArray, centre: FloatArray) -> Particles:
    """The same particles in a new reference frame: its axes are the columns of a frame, its origin a centre in Å."""
    rotations = particles.required_rotations()
    return particles.replace(positions=particles.positions + rotations @ centre, rotations=rotations @ frame)
