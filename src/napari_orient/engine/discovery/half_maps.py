"""Half maps of a class: poses refined against them (cf. RELION's 3D auto-refine), and found by the other half's map.

*Refined.* The particles are divided into two random halves. A pass averages each half, weights both half maps by their
Fourier shell correlation, and fits every particle by Gauss–Newton to the map of its own half, at the tomograms' own
voxels, from the pose that it has. The forward model (`engine.model`) is estimated per tomogram and half. Both halves
begin from the one map that the annealing found, and share its frame and symmetry. Their coarse detail, up to the
search's low-pass of 2.1 of its voxels (0.14 diameters), stays that of the map of all, which keeps them in one frame.
Their FSC is therefore no gold standard (Scheres and Chen, Nature Methods 9, 853, 2012) up to there; only beyond have
the halves been kept apart. The expected error is here what the noise of the patch leaves, by the posterior's
covariance.

*Found.* The poses given in the end are found by template matching. Each half map is a template, with the class's
symmetry; `refinement.refine` finds the picks of the other half with it, and those that were in none: from the pick
itself, at every rotation and shift, with competing modes and false picks counted in the confidence that a pose is
right. What a map has of a particle's own noise cannot make it sure. The half map's noise adds to the expected error.
With rotations θ from the pose that a particle was averaged in, which was fitted to its own half's map, to the one
found, each map's noise accounts for ``⟨θ²⟩ / 2``. It displaces all particles alike, so the mean is taken from the
medians of θ about the three axes: large ones are of particles that are poorly determined, as their own errors say.
Where the two are more than 20° apart the maps disagree, and the odds that the pose found is wrong are six times those
of the search.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average, average
from napari_orient.engine.devices import device_batch_size, side_by_side
from napari_orient.engine.io.columns import ERROR_IF_RIGHT
from napari_orient.engine.matching.fit import Fit, concatenate_fits, fit_poses
from napari_orient.engine.model.forward import ForwardModel, box_side
from napari_orient.engine.model.gain import align_tilts, calibrate, initial_forward_model
from napari_orient.engine.model.grid import radial_frequencies
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import AveragingOptions, DiscoveryOptions, RefinementOptions, SearchOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, concatenate, split_like
from napari_orient.engine.patches import cut_patches, nearest_voxel
from napari_orient.engine.refinement.posterior import FitCalibration, Poses, summarise_modes
from napari_orient.engine.refinement.refine import RefinementResult, refine
from napari_orient.engine.refinement.uncertainty import TYPICAL_LIKELIHOOD_SCALE, estimate_likelihood_scale
from napari_orient.engine.representations import matrix_to_rotvec
from napari_orient.engine.statistics.detection import error_and_confidence, random_pose_error_deg
from napari_orient.engine.streams import Step, Stream, Work, stoppable
from napari_orient.engine.symmetry import Symmetry, nearest_copy
from napari_orient.engine.templates import Template
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

_MODEL_STEPS = 4
"""Gauss–Newton steps of the fits that the forward model is estimated from. More change it by less than the noise."""
_STEPS = 5
"""Gauss–Newton steps of the fits that poses are taken from; they begin within a few degrees of the answer."""
_BATCH = 16
"""Patches fitted together on a CPU: memory, not the result."""
_MODEL_SAMPLE = 128
"""Most particles of a half of a tomogram that its forward model is estimated from."""
_LEAST_FOR_MODEL = 8
"""Fewest particles that gain and tilt shifts are estimated from; of fewer the model before any pose is kept."""
_MOST_DISPLACED = 1.5
"""Voxels of the search (diameter / 15 each) that a fit may move from where it began. Farther off lies a neighbour."""
_JOINED = 0.14
"""Resolution, in diameters, up to which both halves are refined against the map of all, as by RELION's
``--low_resol_join_halves``: the low-pass of the search, up to which they have a start in common anyway."""
FINEST_VOXELS = 2.4
"""Finest detail used, in voxels of the tomogram: Nyquist is 2, and interpolation fails before it."""
_SAME_POSE_DEG = 20.0
"""Rotation, in degrees, beyond which two poses of a particle are different ones, not one pose with two errors."""
_ODDS_IF_APART = 6.0
"""Factor of the odds that a pose is wrong where both maps disagree on it. Of 78 such picks of crowded simulated
tomograms (cell, seeds 320 to 324) 13 are right: log-loss 0.066 a pick, 0.140 with 1, 0.073 with 4, 0.080 with 23."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""


# --- averages -------------------------------------------------------------------------------------------------------


def average_in_halves(
    labelled: Labelled,
    group: Symmetry,
    options: DiscoveryOptions,
    geometries: Mapping[str, TiltGeometry],
    *,
    dark: bool,
) -> Stream[Step, Average]:
    """The average of particles in their poses, and those of the two halves that refinement keeps apart."""
    voxel_size = labelled[0][0].voxel_size
    # 4/3 of the diameter, even.
    side = max(16, 2 * int(np.ceil(options.diameter * 2 / 3 / voxel_size)))
    averaging = AveragingOptions(
        side=side,
        radius=options.radius,
        contrast="dark" if dark else "bright",
        wedge=options.wedge,
        seed=options.seed,
    )
    device = options.compute.chosen()
    return (yield from average(labelled, group=group, options=averaging, device=device, geometries=geometries))


def fsc_weighted_reference(density: NDArray[np.float32], found: Average, options: DiscoveryOptions) -> Reference:
    """A map or half map multiplied by the halves' FSC shell by shell, low-passed where that is 0.143, and masked."""
    voxel_size = found.voxel_size
    finest = FINEST_VOXELS * voxel_size
    filtered = found.filtered(density, finest=finest, radius=options.radius)
    resolution = max(finest, found.fsc.resolution(0.143))
    return build_reference(filtered, voxel_size, resolution=resolution, radius=options.radius + 4 * voxel_size)


def joined_halves(found: Average, options: DiscoveryOptions) -> list[NDArray[np.float32]]:
    """The two half maps, in their coarse detail the map of all: apart, they would rotate away from each other."""
    grid = radial_frequencies(len(found.density), found.voxel_size)
    coarse = grid < 1 / (_JOINED * options.diameter)
    whole = np.fft.fftn(found.density)
    halves = (np.fft.fftn(part) for part in (found.first_half, found.second_half))
    return [np.fft.ifftn(np.where(coarse, whole, half)).real.astype(np.float32) for half in halves]


# --- poses ----------------------------------------------------------------------------------------------------------


def refine_in_halves(
    labelled: Labelled,
    found: Average,
    options: DiscoveryOptions,
    geometries: Mapping[str, TiltGeometry],
    *,
    device: torch.device,
) -> Work[list[tuple[Tomogram, Particles]]]:
    """Every particle in its pose against the map of its own half, with its expected error.

    Parameters
    ----------
    found : the average of these particles; its group is imposed.
    geometries : how each tomogram was tilted, by its name.
    """
    maps = [fsc_weighted_reference(part, found, options) for part in joined_halves(found, options)]
    # A particle that the average left out is refined with the first half.
    halves = split_like(labelled, np.maximum(found.half_sets - 1, 0))
    refined = []
    for (tomogram, particles), half in zip(labelled, halves, strict=True):
        wedge = geometries[tomogram.name].wedge
        patches = ParticlePatches.holding(maps[0], tomogram, particles)
        poses = yield from _poses(patches, half, maps, found.group, wedge=wedge, device=device)
        refined.append((tomogram, patches.particles_in(poses, found.group, options)))
    return refined


def _poses(
    patches: ParticlePatches,
    half: NDArray[np.int_],
    maps: Sequence[Reference],
    group: Symmetry,
    *,
    wedge: Wedge,
    device: torch.device,
) -> Work[Poses]:
    """Poses against the maps of the particles' own halves."""
    rows = [np.flatnonzero(half == number) for number in range(len(maps))]
    there = [(reference, own) for reference, own in zip(maps, rows, strict=True) if len(own)]
    work = [_poses_of_half(patches, own, reference, group, wedge=wedge, device=device) for reference, own in there]
    parts = yield from stoppable(side_by_side(work, device=device), None)
    order = np.concatenate([own for _, own in there])
    return Poses.concatenated(parts).take(torch.as_tensor(np.argsort(order)))


def _poses_of_half(
    patches: ParticlePatches,
    own: NDArray[np.int_],
    reference: Reference,
    group: Symmetry,
    *,
    wedge: Wedge,
    device: torch.device,
) -> Work[Poses]:
    """Poses of some rows against the map of their half."""
    model, likelihood_scale = yield from estimate_forward_model(reference, patches, own, wedge)
    fits = []
    for _, fit in patches.fits(reference.to(device), model.to(device), own, device=device):
        fits.append(fit)
        yield
    return poses_from_fits(fits, group, likelihood_scale=likelihood_scale)


def estimate_forward_model(
    reference: Reference, patches: ParticlePatches, own: NDArray[np.int_], wedge: Wedge
) -> Work[tuple[ForwardModel, float]]:
    """The forward model of a tomogram for a reference, from particles in their poses, and its likelihood scale.

    Parameters
    ----------
    own : rows of the particles to estimate from; of fewer than 8, gain and tilt shifts are not estimated.
    """
    rows = own[:: -(-len(own) // _MODEL_SAMPLE)]
    cubes, (rotations, shifts) = patches.cut(rows), patches.start()
    voxel_size = patches.tomogram.voxel_size
    model = initial_forward_model(cubes, reference, wedge, voxel_size=voxel_size, resolution=reference.resolution)
    yield
    if len(rows) < _LEAST_FOR_MODEL:
        return model, TYPICAL_LIKELIHOOD_SCALE
    fit = yield from _fitted(reference, model, cubes, rotations[rows], shifts[rows])
    model = calibrate(reference, model, model.observe(cubes), fit, wedge=wedge)
    fit = yield from _fitted(reference, model, cubes, fit.rotations, fit.shifts)
    model = align_tilts(reference, model, model.observe(cubes), fit, wedge=wedge)
    yield
    return model, estimate_likelihood_scale(reference, model, model.observe(cubes), fit)


def _fitted(
    reference: Reference, model: ForwardModel, cubes: torch.Tensor, rotations: torch.Tensor, shifts: torch.Tensor
) -> Work[Fit]:
    """Fits of a reference to patches, from given poses."""
    observed, fits = model.observe(cubes), []
    for rows in torch.arange(len(cubes)).split(_BATCH):
        start, moved = rotations[rows], shifts[rows]
        fits.append(fit_poses(reference, model, observed[rows], rotations=start, shifts=moved, steps=_MODEL_STEPS))
        yield
    return concatenate_fits(fits)


def poses_from_fits(fits: list[Fit], group: Symmetry, *, likelihood_scale: float) -> Poses:
    """The pose and its covariance that each fit leads to; on the CPU."""
    return Poses.concatenated([summarise_modes([concatenate_fits(fits)], group, FitCalibration(likelihood_scale))])


@dataclass(frozen=True, eq=False)
class ParticlePatches:
    """Patches about one tomogram's particles, cut when they are asked for.

    They are cut about the nearest voxels, so that nothing is interpolated: the rest of the way to a position is the
    shift that a fit begins from.
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
        """Centres of the voxels cut about, (N, 3) xyz in Å."""
        return nearest_voxel(self.particles.positions, self.tomogram.voxel_size)

    def cut(self, rows: NDArray[np.int_]) -> torch.Tensor:
        """The patches of some rows, (R, n, n, n)."""
        return torch.from_numpy(cut_patches(self.tomogram, self.voxel_centres[rows], side=self.side, level=True))

    def start(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotations (N, 3, 3) and shifts (N, 3) in Å that fits begin from."""
        shifts = torch.as_tensor(self.particles.positions - self.voxel_centres, dtype=torch.float32)
        return torch.as_tensor(self.particles.required_rotations(), dtype=torch.float32), shifts

    def fits(
        self, reference: Reference, model: ForwardModel, rows: NDArray[np.int_], *, device: torch.device
    ) -> Generator[tuple[torch.Tensor, Fit], None, None]:
        """Whitened coefficients (B, 2, M) of some rows and the fits to them, batch by batch: no more are held."""
        rotations, shifts = (part.to(device) for part in self.start())
        for some in np.array_split(rows, -(-len(rows) // device_batch_size(device, _BATCH))):
            observed = model.observe(self.cut(some).to(device))
            start, moved = rotations[some], shifts[some]
            yield observed, fit_poses(reference, model, observed, rotations=start, shifts=moved, steps=_STEPS)

    def particles_in(self, poses: Poses, group: Symmetry, options: DiscoveryOptions) -> Particles:
        """The particles in new poses; those whose fit moved too far keep the pose they had.

        Such a fit has left its particle, perhaps for a neighbour that is picked too: its pose is unknown, and the
        expected error is that of a random one.
        """
        positions = self.voxel_centres + poses.shifts.double().numpy()
        moved = np.linalg.norm(positions - self.particles.positions, axis=1)
        kept = moved > _MOST_DISPLACED * options.patch_voxel_size
        rotations = poses.rotations.double().numpy()
        error = poses.expected_error_deg.double().numpy()
        return self.particles.replace(
            positions=np.where(kept[:, None], self.particles.positions, positions),
            rotations=np.where(kept[:, None, None], self.particles.required_rotations(), rotations),
            expected_error_deg=np.where(kept, random_pose_error_deg(group), error),
        )


# --- poses found by the other half map --------------------------------------------------------------------------------


def match_half_maps(
    labelled: Labelled,
    found: Average,
    half: NDArray[np.int_],
    options: DiscoveryOptions,
    geometries: Mapping[str, TiltGeometry],
) -> Stream[Any, Particles]:
    """The picks of a class in the poses found by the half map that they had no part in, with errors and confidence.

    Parameters
    ----------
    labelled : the picks, where they were picked, in the rotations that they were averaged in.
    half : (N,) 1 or 2, the half that each was averaged in; 0 of none.
    """
    templates = [
        Template(found.filtered(part, radius=options.radius), voxel_size=found.voxel_size, symmetry=found.group.name)
        for part in (found.first_half, found.second_half)
    ]
    parts, chances = [], []
    for (tomogram, particles), own in zip(labelled, split_like(labelled, half), strict=True):
        # The first half map finds the second half, the other one the first, and of the picks in none each every other:
        # they are the false ones for the most part, and what is usual is read off the picks that are found together.
        second = (own == 2) | ((own == 0) & (np.cumsum(own == 0) % 2 == 0))
        order = [np.flatnonzero(second), np.flatnonzero(~second)]
        matched = yield from side_by_side(
            [
                _matched(tomogram, particles.take(rows), template, options, geometries[tomogram.name])
                for template, rows in zip(templates, order, strict=True)
                if len(rows)
            ],
            device=options.compute.chosen(),
        )
        place = np.argsort(np.concatenate(order))
        parts.append(concatenate([result.particles for result in matched]).take(place))
        chances.append(np.concatenate([_chances(result) for result in matched])[place])
    before = concatenate([part for _, part in labelled]).required_rotations()
    return with_map_errors(concatenate(parts), np.concatenate(chances), before, half > 0, group=found.group)


def _matched(
    tomogram: Tomogram,
    particles: Particles,
    template: Template,
    options: DiscoveryOptions,
    geometry: TiltGeometry,
) -> Stream[Step, RefinementResult]:
    """Picks of a tomogram as a half map finds them."""
    settings = _refinement_options(options)
    return (yield from refine(tomogram, particles, template, settings, geometry=geometry, checks=False))


def _refinement_options(options: DiscoveryOptions) -> RefinementOptions:
    search = SearchOptions(max_shift=options.max_shift)
    return RefinementOptions(search=search, wedge=options.wedge, compute=options.compute)


def _chances(result: RefinementResult) -> FloatArray:
    """Of each pose the probability that it is right, its expected error if right, and if wrong, (N, 3)."""
    return np.stack([result.p_right, result.error_if_right_deg, result.error_if_wrong_deg], axis=1)


def with_map_errors(
    particles: Particles, chances: FloatArray, before: FloatArray, averaged: NDArray[np.bool_], *, group: Symmetry
) -> Particles:
    """The particles; errors and confidence count the half map's noise, and whether both maps agree on the pose.

    Parameters
    ----------
    chances : (N, 3) of each pose found the probability that it is right, its expected error in degrees if right, and
        if wrong.
    before : (N, 3, 3) the rotations that they were averaged in.
    """
    p_right, if_right, if_wrong = chances.T
    rotations = particles.required_rotations()
    between = torch.as_tensor(np.swapaxes(nearest_copy(before, rotations, group), -1, -2) @ rotations)
    rotvec = np.degrees(matrix_to_rotvec(between).numpy())
    angle = np.linalg.norm(rotvec, axis=1)
    near = np.abs(rotvec[averaged & (angle <= _SAME_POSE_DEG)])
    # About each axis by itself: of a symmetric particle the azimuth may be all that is uncertain.
    map_error = _MAD_TO_SD * np.linalg.norm(np.median(near, axis=0)) / np.sqrt(2) if len(near) else 0.0
    odds = np.where(averaged & (angle > _SAME_POSE_DEG), _ODDS_IF_APART, 1.0)
    p_right = p_right / (p_right + odds * (1 - p_right))
    if_right = np.hypot(if_right, map_error)
    expected, confidence = error_and_confidence(if_right, p_right, if_wrong, group)
    return particles.replace(
        expected_error_deg=np.minimum(expected, random_pose_error_deg(group)),
        confidence=confidence,
        extra={**particles.extra, ERROR_IF_RIGHT: if_right},
    )
