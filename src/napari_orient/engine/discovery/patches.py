"""Patches of one tomogram's particles at its own voxels: how a map shows in them, and its fits to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.matching.fit import Fit, concatenate_fits, fit_poses
from napari_orient.engine.model.forward import ForwardModel, box_side
from napari_orient.engine.model.gain import align_tilts, calibrate, initial_forward_model
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.patches import cut_patches, nearest_voxel
from napari_orient.engine.refinement.posterior import Poses, summarise_modes
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE, estimate_likelihood_scale
from napari_orient.engine.rotations import Symmetry

_FIRST_STEPS, _STEPS, _BATCH, _CUT = 4, 5, 16, 64
_ENOUGH, _SAMPLE = 8, 128
_WALK, UNKNOWN_DEG = 1.5, 127.0
"""Voxels of the search that a fit may walk from where it began; the error of one that walked farther."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of one tomogram's particles, cut when they are wanted, about whole voxels.

    Nothing need be interpolated so: what is left of the way to a position is where a fit's shift begins.
    """

    tomogram: Tomogram
    particles: Particles
    side: int

    @classmethod
    def holding(cls, reference: Reference, tomogram: Tomogram, particles: Particles) -> Patches:
        """The smallest patches that a reference fits into, as far as the tomogram is large enough."""
        side = min(box_side(reference.radius, tomogram.voxel_size), int(min(tomogram.density.shape)) // 2 * 2)
        return cls(tomogram, particles, side)

    @property
    def middles(self) -> FloatArray:
        """Middles of the voxels cut about, (N, 3) xyz in Å."""
        return nearest_voxel(self.particles.positions, self.tomogram.voxel_size)

    def cut(self, rows: NDArray[np.int_]) -> torch.Tensor:
        """The patches of some rows, (R, n, n, n)."""
        return torch.from_numpy(cut_patches(self.tomogram, self.middles[rows], side=self.side))

    def start(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotations (N, 3, 3) and shifts (N, 3) in Å that fits begin from."""
        shifts = torch.as_tensor(self.particles.positions - self.middles, dtype=torch.float32)
        return torch.as_tensor(self.particles.required_rotations(), dtype=torch.float32), shifts

    def fits(
        self, reference: Reference, model: ForwardModel, rows: NDArray[np.int_], *, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, Fit]]:
        """What was observed of some rows and the fits to it, a few at a time: no more are held."""
        rotations, shifts = (part.to(device) for part in self.start())
        for some in np.array_split(rows, -(-len(rows) // _CUT)):
            observed = model.observe(self.cut(some).to(device))
            yield observed, fitted(reference, model, observed, rotations[some], shifts[some], steps=_STEPS)

    def posed(self, poses: Poses, options: DiscoveryOptions) -> Particles:
        """The particles in new poses, but for those that walked too far: they keep the poses they had.

        Such a fit has left its particle, perhaps for a neighbour that is picked too; its error is unknown.
        """
        positions = self.middles + poses.shifts.double().numpy()
        stays = np.linalg.norm(positions - self.particles.positions, axis=1) > _WALK * options.view_voxel_size
        error = np.where(stays, UNKNOWN_DEG, poses.expected_error_deg.double().numpy())
        return self.particles.replace(
            positions=np.where(stays[:, None], self.particles.positions, positions),
            rotations=np.where(
                stays[:, None, None], self.particles.required_rotations(), poses.rotations.double().numpy()
            ),
            expected_error_deg=error,
        )


def model_for(
    reference: Reference, patches: Patches, own: NDArray[np.int_], wedge: Wedge
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
    fit = fitted(reference, model, observed, rotations[rows], shifts[rows], steps=_FIRST_STEPS)
    model = calibrate(reference, model, observed, fit, wedge=wedge)
    observed = model.observe(cubes)
    fit = fitted(reference, model, observed, fit.rotations, fit.shifts, steps=_FIRST_STEPS)
    model = align_tilts(reference, model, observed, fit, wedge=wedge)
    return model, estimate_likelihood_scale(reference, model, model.observe(cubes), fit)


def fitted(
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
