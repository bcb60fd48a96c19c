"""Posterior of a particle's pose: mean and covariance, from the fits of its competing modes.

1. **Laplace approximation.** About its best fit the posterior is Gaussian with covariance H⁻¹ / c: H is the Fisher
   information of rotation and shift (the Hessian of the log-likelihood, `matching.fit`), H⁻¹ the Cramér-Rao bound, and
   c the likelihood scale (`uncertainty`). The prior is flat, unless one on rotations is given
   (`matching.rotation_prior`): each fit then carries it. See `offset_prior` for the prior on shifts.
2. **Mixture of modes.** Fits that ended in other rotations are further modes of weight w ∝ exp(c Δ log-likelihood). The
   best one is the answer; rotations δ to the others widen its covariance by Σ w δ δᵀ.
3. **Scan.** Where the Laplace approximation leaves a rotation uncertain by more than a few degrees, the likelihood is
   no longer Gaussian along the direction u of largest variance. There the posterior is tabulated along u, all else at
   its best and integrated out by Laplace; the answer is the posterior mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import STEP_DEG, STEP_VOXELS, Fit, fit_at
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import matrix_to_rotvec, rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry

_SCAN_FROM_DEG = 2.5
"""Degrees, standard deviation of the least certain rotation from which the posterior is scanned. PolNet's
proteasomes expect 0.90 of their true error without the scan and 1.10 with it."""
_SCAN_REACH_DEG = 26.0
"""Degrees scanned to either side, unless symmetry brings the pose back before: ten of the least standard deviations
that are scanned. Half a step of D7, the proteasome's competing mode, is 25.7°."""
_SCAN_POINTS = 17
"""Points of a scan, 3.25° apart at full reach: well below the width of what is scanned."""
_SAME_MODE_DEG = 6.0
"""Degrees between two fits below which they are one mode: fits of one mode end within a degree or two."""
_MAX_ERROR_DEG = 127.0
"""Degrees, about the mean angle between random rotations (126.5°); larger errors mean no more than that."""
_RIDGE = 1e-4
"""Share of its diagonal that is added to the information of the parameters that a scan leaves free, to invert it."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of N particles, each the mean of its posterior, and their covariances.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    rotation_covariance : (N, 3, 3) of the error of the rotation, radians about the axes of the reference frame.
    shift_covariance : (N, 3, 3) of the error of the shift, Å².
    coupling : (N, 3, 3) covariance of rotation with shift, radians by Å.
    score : (N,) match in standard deviations of the noise.
    amplitude : (N,) of the reference, 1 for the typical particle.
    """

    rotations: Tensor
    shifts: Tensor
    rotation_covariance: Tensor
    shift_covariance: Tensor
    coupling: Tensor
    score: Tensor
    amplitude: Tensor

    @property
    def expected_error_deg(self) -> Tensor:
        """Expected root-mean-square error of the rotation, (N,) degrees."""
        return _rms_deg(self.rotation_covariance.diagonal(dim1=-2, dim2=-1).sum(-1))

    @property
    def shift_error(self) -> Tensor:
        """Expected root-mean-square error of the centre, (N,) Å."""
        error: Tensor = self.shift_covariance.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
        return error

    def expected_axis_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the group's main axis, (N,) degrees."""
        return _rms_deg(self.rotation_covariance.diagonal(dim1=-2, dim2=-1).sum(-1) - self._along_axis(group))

    def expected_azimuth_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the azimuth about the group's main axis, (N,) degrees."""
        return _rms_deg(self._along_axis(group))

    def _along_axis(self, group: Symmetry) -> Tensor:
        axis = torch.as_tensor(group.main_axis).to(self.rotation_covariance)
        return axis @ self.rotation_covariance @ axis

    def mixed_with(self, covariance: Tensor, share: Tensor) -> Poses:
        """The same poses, whose rotations have another covariance (3, 3) with a probability (N,)."""
        part = share[:, None, None]
        return replace(self, rotation_covariance=(1 - part) * self.rotation_covariance + part * covariance)

    def with_added_error(self, added_deg: Tensor) -> Poses:
        """The same poses, whose rotations have an added error, (N,) degrees root mean square, about any axis."""
        each = (torch.deg2rad(added_deg).square() / 3).to(self.rotation_covariance)
        return replace(self, rotation_covariance=self.rotation_covariance + each[:, None, None] * torch.eye(3).to(each))

    def about(self, point: Tensor) -> Poses:
        """The same poses, with shifts of this point of the reference frame, (3,) xyz in Å from the origin so far."""
        # Derivative of the point's place by a rotation about the origin, (N, 3, 3) Å by radians.
        lever = self.rotations @ torch.linalg.cross(torch.eye(3), point.expand(3, 3)).T
        by_rotation = self.rotation_covariance @ lever.mT
        mixed = lever @ self.coupling
        return replace(
            self,
            shifts=self.shifts + self.rotations @ point,
            shift_covariance=self.shift_covariance + mixed + mixed.mT + lever @ by_rotation,
            coupling=self.coupling + by_rotation,
        )

    def shifted(self, by: Tensor) -> Poses:
        """The same poses, with shifts from elsewhere: they grow by (N, 3) xyz in Å."""
        return replace(self, shifts=self.shifts + by)

    def take(self, rows: Tensor) -> Poses:
        """The poses of these rows."""
        return Poses(*(getattr(self, item.name)[rows] for item in fields(Poses)))

    def with_rows(self, rows: Tensor, others: Poses) -> Poses:
        """The same poses with some rows replaced."""
        names = [item.name for item in fields(Poses)]
        return Poses(*(getattr(self, name).index_copy(0, rows, getattr(others, name)) for name in names))

    @classmethod
    def concatenated(cls, parts: list[Poses]) -> Poses:
        """All the poses of the parts, in order, on the CPU."""
        return cls(*(torch.cat([getattr(part, item.name).cpu() for part in parts]) for item in fields(cls)))


def _rms_deg(variance: Tensor) -> Tensor:
    return torch.rad2deg(variance.clamp_min(0).sqrt()).clamp_max(_MAX_ERROR_DEG)


@dataclass(frozen=True, eq=False)
class Observation:
    """Patches of N particles as a reference is matched with them: the arguments of `matching.fit.fit_at`."""

    reference: Reference
    model: ForwardModel
    observed: Tensor
    prior: RotationPrior | None = None

    def take(self, rows: Tensor) -> Observation:
        """The observation of these patches."""
        prior = None if self.prior is None else self.prior.take(rows)
        return Observation(self.reference, self.model, self.observed[rows], prior)

    def fit_at(self, rotations: Tensor, shifts: Tensor) -> Fit:
        """The fit in given poses (N, 3, 3) and (N, 3), no step taken."""
        return fit_at(self.reference, self.model, self.observed, rotations, shifts, prior=self.prior)


# --- Laplace approximation and mixture of modes ---------------------------------------------------------------------


def draw_poses(fit: Fit, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rotations (N, 3, 3) and shifts (N, 3) Å drawn at random from the Laplace approximation about each fit.

    A drawn pose is as far from the best fit as that is from the truth, but knows nothing of the patch's noise. What is
    averaged over patches in drawn poses is therefore not inflated by noise that fits have followed, as it is in best
    fits (stochastic EM: Celeux and Diebolt 1985). No rotation is drawn farther than a fit's largest step.
    """
    lower = torch.linalg.cholesky_ex(fit.covariance())[0]
    step = (lower @ torch.randn(len(lower), 6, 1, generator=generator).to(lower))[..., 0].nan_to_num()
    step = step / (step[:, :3].norm(dim=1, keepdim=True) / math.radians(STEP_DEG)).clamp_min(1)
    return fit.rotations @ rotvec_to_matrix(step[:, :3]), fit.shifts + step[:, 3:]


def summarise_modes(fits: list[Fit], group: Symmetry, *, likelihood_scale: float) -> Poses:
    """The best pose of each particle, with the Laplace covariance widened by its competing modes.

    Parameters
    ----------
    fits : K fits of the same N particles, best first: the modes.
    likelihood_scale : factor c of the log-likelihood, 1 where the noise model is right; see
        `uncertainty.estimate_likelihood_scale`.
    """
    best = fits[0]
    covariance = best.covariance() / likelihood_scale
    rotvecs, log_weight = _modes(fits, group, likelihood_scale=likelihood_scale)
    return Poses(
        best.rotations,
        best.shifts,
        covariance[:, :3, :3] + _second_moment(rotvecs, torch.softmax(log_weight, dim=1)),
        covariance[:, 3:, 3:],
        covariance[:, :3, 3:],
        best.score,
        best.amplitude,
    )


def posterior_mean(fits: list[Fit], observation: Observation, group: Symmetry, *, likelihood_scale: float) -> Poses:
    """Poses as `summarise_modes`, but the posterior mean of a scan where the rotation is poorly determined.

    Parameters
    ----------
    fits : K fits of the observed patches, best first.
    """
    poses = summarise_modes(fits, group, likelihood_scale=likelihood_scale)
    covariance = fits[0].covariance() / likelihood_scale
    rows = _poorly_determined(covariance[:, :3, :3])
    if len(rows) == 0:
        return poses
    modes = [fit.take(rows) for fit in fits]
    scan = scan_rotation(
        observation.take(rows),
        modes[0],
        covariance[rows],
        likelihood_scale=likelihood_scale,
        reach=reach_within(group),
    )
    rotvecs, log_weight = _modes(modes, group, likelihood_scale=likelihood_scale)
    return poses.with_rows(rows, _mean_over_scan(poses.take(rows), scan, modes=rotvecs, log_weight=log_weight))


def _poorly_determined(covariance: Tensor) -> Tensor:
    """Rows whose rotation is too uncertain, in its least certain direction, for a Gaussian posterior."""
    largest: Tensor = torch.linalg.eigvalsh(covariance)[:, -1].sqrt()
    return (largest > math.radians(_SCAN_FROM_DEG)).nonzero().squeeze(1)


def _modes(fits: list[Fit], group: Symmetry, *, likelihood_scale: float) -> tuple[Tensor, Tensor]:
    """Rotation vectors from the first of K fits to each, (N, K, 3), and the log-weight of each mode, (N, K).

    Of fits that ended in one mode the first counts; the others weigh nothing.
    """
    rotations = torch.stack([fit.rotations for fit in fits], dim=1)
    rotvecs = rotations_between(fits[0].rotations, rotations, group)
    log_weight = likelihood_scale * torch.stack([fit.log_posterior for fit in fits], dim=1)
    near = (rotvecs[:, :, None] - rotvecs[:, None]).norm(dim=-1) < math.radians(_SAME_MODE_DEG)
    again = near.tril(-1).any(dim=-1)
    return rotvecs, log_weight.masked_fill(again, -torch.inf)


def _second_moment(rotvecs: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nk,nki,nkj->nij", weight, rotvecs, rotvecs)


def rotations_between(rotations: Tensor, others: Tensor, group: Symmetry) -> Tensor:
    """Rotation vectors (N, K, 3), reference frame, from rotations (N, 3, 3) to the nearest copies of K others each."""
    copies = torch.as_tensor(group.matrices, dtype=rotations.dtype, device=rotations.device)
    between = rotations.transpose(-1, -2)[:, None] @ others
    best = torch.einsum("nkij,gji->nkg", between, copies).argmax(-1)
    return matrix_to_rotvec(between @ copies[best])


# --- scan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scan:
    """Posterior of N particles' rotations along one direction each, at T points, all else at its best.

    Parameters
    ----------
    rotvecs : (N, T, 3) radians in the reference frame, from the best fit.
    shifts : (N, T, 3) Å that go with them, from the best fit's.
    log_weight : (N, T) logarithm of the posterior up to a constant, all other parameters integrated out.
    covariance : (N, T, 3, 3) of the rotation at each point, about the two other directions.
    direction : (N, 3) scanned, of length 1.
    variance : (N,) radians² along it by the Laplace approximation.
    step : radians between two points.
    """

    rotvecs: Tensor
    shifts: Tensor
    log_weight: Tensor
    covariance: Tensor
    direction: Tensor
    variance: Tensor
    step: float


def scan_rotation(
    observation: Observation, fit: Fit, covariance: Tensor, *, likelihood_scale: float, reach: float
) -> Scan:
    """Posterior of each particle along the rotation that its covariance (N, 6, 6) is largest for.

    At each point the pose moves as the covariance couples it to the rotation scanned; one Newton step of the two other
    rotations and of the shift gives how much better the reference may match there, and the information its volume.

    Parameters
    ----------
    fit : the best fit of each observed patch.
    likelihood_scale : as in `summarise_modes`.
    reach : radians to scan to, either way.
    """
    values, vectors = torch.linalg.eigh(covariance[:, :3, :3])
    direction, variance = vectors[:, :, -1], values[:, -1]
    # The mean of all six parameters given the rotation along the direction, a line.
    line = torch.einsum("nij,nj->ni", covariance[:, :, :3], direction) / variance[:, None]
    free = _free_parameters(vectors[:, :, :-1])
    points = []
    for angle in torch.linspace(-reach, reach, _SCAN_POINTS).tolist():
        move = angle * line
        rotations = fit.rotations @ rotvec_to_matrix(move[:, :3])
        there = observation.fit_at(rotations, fit.shifts + move[:, 3:])
        step, gain, information = _newton_step(there, free, observation.model.voxel_size)
        log_weight = likelihood_scale * (there.log_posterior + gain) - torch.logdet(information) / 2
        other = free[:, :3, :2] @ torch.linalg.inv(information)[:, :2, :2] @ free[:, :3, :2].mT
        points.append((move + step, log_weight, other / likelihood_scale))
    moves, log_weight, others = (torch.stack(column, dim=1) for column in zip(*points, strict=True))
    # Relative to the volume at the best fit, so that modes off the scan can be weighed against it.
    log_weight = log_weight + torch.logdet(_information(fit, free))[:, None] / 2
    # Where a scan goes all the way round, its ends are one pose.
    log_weight[:, [0, -1]] -= math.log(2)
    spacing = 2 * reach / (_SCAN_POINTS - 1)
    return Scan(moves[..., :3], moves[..., 3:], log_weight, others, direction, variance, spacing)


def reach_within(group: Symmetry) -> float:
    """Radians to scan to, either way: no farther than half the group's least rotation, where poses come again."""
    return math.radians(min(_SCAN_REACH_DEG, _least_rotation_deg(group.matrices) / 2))


def _least_rotation_deg(matrices: FloatArray) -> float:
    cosine = (np.trace(matrices, axis1=1, axis2=2) - 1) / 2
    angles = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return float(angles[angles > 0.1].min(initial=360.0))


def _free_parameters(directions: Tensor) -> Tensor:
    """Basis of the parameters that a scan leaves free, (N, 6, 5): two rotations (N, 3, 2), and the shift."""
    free = directions.new_zeros(len(directions), 6, 5)
    free[:, :3, :2] = directions
    free[:, 3:, 2:] = torch.eye(3).to(directions)
    return free


def _information(fit: Fit, free: Tensor) -> Tensor:
    information = free.mT @ fit.information() @ free
    return information + _RIDGE * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))


def _newton_step(fit: Fit, free: Tensor, voxel_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """Newton step of the free parameters, (N, 6), its gain in log-likelihood, (N,), and their information (N, 5, 5)."""
    information = _information(fit, free)
    gradient = free.mT @ fit.gradient()[:, :, None]
    step = torch.linalg.solve(information, gradient)[..., 0]
    rotation, shift = step[:, :2].norm(dim=1), step[:, 2:].norm(dim=1)
    over = torch.maximum(rotation / math.radians(STEP_DEG), shift / (STEP_VOXELS * voxel_size))
    part = 1 / over.clamp_min(1)
    gain = (gradient[..., 0] * step).sum(1) * (part - part.square() / 2)
    return (free @ (part[:, None] * step)[:, :, None])[..., 0], gain, information


def _mean_over_scan(poses: Poses, scan: Scan, *, modes: Tensor, log_weight: Tensor) -> Poses:
    """Poses moved to the mean over the scan; their covariance counts the scan's spread, and modes apart from it.

    Parameters
    ----------
    modes, log_weight : (N, K, 3) rotation vectors from the poses to their modes, and (N, K) log-weights.
    """
    near = (modes[:, :, None] - scan.rotvecs[:, None]).norm(dim=-1).amin(-1) < math.radians(_SAME_MODE_DEG)
    # A mode off the scan stands for all poses near it: for as many points as a Gaussian of the Laplace variance covers.
    points = torch.log(math.sqrt(2 * math.pi) * scan.variance.sqrt() / scan.step)
    apart = (log_weight + points[:, None]).masked_fill(near, -torch.inf)
    weight = torch.softmax(torch.cat([scan.log_weight, apart], dim=1), dim=1)
    on, off = weight.split([scan.log_weight.shape[1], modes.shape[1]], dim=1)
    share = on / on.sum(1, keepdim=True)
    mean = torch.einsum("nt,nti->ni", share, scan.rotvecs)
    shift = torch.einsum("nt,nti->ni", share, scan.shifts)
    within = torch.einsum("nt,ntij->nij", share, scan.covariance)
    spread = _second_moment(scan.rotvecs - mean[:, None], on) + _second_moment(modes - mean[:, None], off)
    along = scan.direction[:, :, None] * scan.direction[:, None]
    return replace(
        poses,
        rotations=poses.rotations @ rotvec_to_matrix(mean),
        shifts=poses.shifts + shift,
        rotation_covariance=within + spread + scan.step**2 / 12 * along,
    )
