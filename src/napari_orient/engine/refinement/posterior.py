"""Posterior of a particle's pose: mean, covariance and competing modes, from the fits that a search ended in.

1. **Laplace approximation.** About its best fit the posterior is Gaussian with covariance H⁻¹ / c: H is the Fisher
   information of rotation and shift (the Hessian of the log-likelihood, `matching.fit`), H⁻¹ the Cramér-Rao bound, and
   c the likelihood scale (`uncertainty`). The bound is reached in little noise only; at a log-likelihood gain ΔL the
   variance is larger by the factor 1 + k / c ΔL (`uncertainty.estimate_bound_excess`). The prior is flat, unless one
   on rotations is given (`matching.rotation_prior`): each fit then carries it. See `offset_prior` for the one on
   shifts.
2. **Competing modes.** Fits that ended in other rotations are further modes, of mass w ∝ |H|^(-1/2) exp(τ c ΔL). The
   best one is the answer. Those within 20° of it widen its covariance; the others' share of the mass is the
   probability that it is wrong. τ < 1, the temperature, stands for the many modes that no search lists. The model was
   estimated from the particles in their best poses, and fits them a little better there than anywhere else: the best
   mode's log-mass is less by that optimism (`uncertainty.optimism`).
3. **Scan.** Where the Laplace approximation leaves a rotation uncertain by more than a few degrees, the likelihood is
   no longer Gaussian along the direction u of largest variance. There the posterior is tabulated along u, all else at
   its best and integrated out by Laplace; the answer is the posterior mean. The factor of 1 holds for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.matching.fit import STEP_DEG, STEP_VOXELS, Fit, concatenate_fits, fit_at
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.missing import MissingVoxels
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import matrix_to_rotvec, rotvec_to_matrix
from napari_orient.engine.symmetry import Symmetry

_SCAN_FROM_DEG = 2.5
"""Degrees, standard deviation of the least certain rotation from which the posterior is scanned. PolNet's proteasomes
expect 0.90 of their true error without the scan and 1.10 with it."""
_SCAN_REACH_DEG = 26.0
"""Degrees scanned to either side, unless symmetry brings the pose back before: ten of the least standard deviations
that are scanned. Half a step of D7, the proteasome's competing mode, is 25.7°."""
_SCAN_POINTS = 17
"""Points of a scan, 3.25° apart at full reach: well below the width of what is scanned."""
_SAME_MODE_DEG = 6.0
"""Degrees between two fits below which they are one mode: fits of one mode end within a degree or two."""
RIGHT_DEG = 20.0
"""Degrees of error up to which a pose counts as right; a mode farther from the answer is a competing one."""
TEMPERATURE = 0.7
"""τ, factor of log-likelihoods where modes are weighed against each other. Of 0.5, 0.7, 0.85 and 1 it gave the least
log-loss of "within 20°" on 420 simulated ribosomes at 5 to 16 times PolNet's noise, scores of 7.6 to 12."""
_MAX_ERROR_DEG = 127.0
"""Degrees, about the mean angle between random rotations (126.5°); larger errors mean no more than that."""
_LEAST_GAIN = 1.0
"""Nats, least log-likelihood gain that a covariance is enlarged for: less is no match at all."""
_LEAST_P_WRONG = 1e-6
"""Probability of being wrong below which no angle is known for that case, and a random one stands for it."""
_RIDGE = 1e-4
"""Share of its diagonal that is added to the information of the parameters that a scan leaves free, to invert it."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of N particles, each the mean of its posterior about the best mode, their covariances, and K modes of each.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    rotation_covariance : (N, 3, 3) of the error of the rotation if the best mode is right, radians about the axes of
        the reference frame.
    shift_covariance : (N, 3, 3) of the error of the shift, Å².
    coupling : (N, 3, 3) covariance of rotation with shift, radians by Å.
    score : (N,) match in standard deviations of the tomogram's noise.
    amplitude : (N,) of the reference, 1 for the typical particle.
    mode_rotvecs : (N, K, 3) rotation vectors from the pose to its modes, radians, the first of them the pose's own.
    mode_shifts : (N, K, 3) shifts of the modes.
    mode_log_weights : (N, K) logarithm of each mode's mass, up to a constant a particle; ``-inf`` where there is none.
    p_false : (N,) probability that the pose is a random one, as of a false pick.
    false_covariance : (N, 3, 3) second moment of the rotation to a random pose.
    noise_level : (N,) power of the noise about each particle over the tomogram's; see `overdispersion.noise_level`.
    """

    rotations: Tensor
    shifts: Tensor
    rotation_covariance: Tensor
    shift_covariance: Tensor
    coupling: Tensor
    score: Tensor
    amplitude: Tensor
    mode_rotvecs: Tensor = field(default_factory=lambda: torch.zeros(0))
    mode_shifts: Tensor = field(default_factory=lambda: torch.zeros(0))
    mode_log_weights: Tensor = field(default_factory=lambda: torch.zeros(0))
    p_false: Tensor = field(default_factory=lambda: torch.zeros(0))
    false_covariance: Tensor = field(default_factory=lambda: torch.zeros(0))
    noise_level: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        """Make the pose its own only mode, and true, and its noise the tomogram's, unless something else is given."""
        if len(self.noise_level) != len(self.score):
            object.__setattr__(self, "noise_level", torch.ones_like(self.score))
        if self.mode_log_weights.ndim == 2:
            return
        count = len(self.shifts)
        alone = {
            "mode_rotvecs": self.shifts.new_zeros(count, 1, 3),
            "mode_shifts": self.shifts[:, None],
            "mode_log_weights": self.shifts.new_zeros(count, 1),
            "p_false": self.shifts.new_zeros(count),
            "false_covariance": torch.zeros_like(self.rotation_covariance),
        }
        for name, value in alone.items():
            object.__setattr__(self, name, value)

    @property
    def mode_shares(self) -> Tensor:
        """Share of each mode in the posterior, (N, K)."""
        return torch.softmax(self.mode_log_weights, dim=1)

    @property
    def p_right(self) -> Tensor:
        """Probability that the pose is near the right mode, (N,): no false pick, and no mode elsewhere is right."""
        right: Tensor = (1 - self.p_false) * (self.mode_shares * self._near).sum(1)
        return right

    @property
    def _near(self) -> Tensor:
        near: Tensor = self.mode_rotvecs.norm(dim=-1) <= math.radians(RIGHT_DEG)
        return near

    @property
    def covariance_if_right(self) -> Tensor:
        """Covariance of the rotation if the pose is near the right mode, (N, 3, 3): modes near it count."""
        share = self.mode_shares * self._near
        share = share / share.sum(1, keepdim=True).clamp_min(1e-12)
        return self.rotation_covariance + _second_moment(self.mode_rotvecs, share)

    @property
    def covariance(self) -> Tensor:
        """Second moment of the rotation's error, (N, 3, 3): competing modes and false picks count."""
        share = self.mode_shares
        right = (share * self._near).sum(1)[:, None, None] * self.covariance_if_right
        true = right + _second_moment(self.mode_rotvecs, share * ~self._near)
        part = self.p_false[:, None, None]
        return (1 - part) * true + part * self.false_covariance

    @property
    def expected_error_deg(self) -> Tensor:
        """Expected root-mean-square error of the rotation, (N,) degrees."""
        return _rms_deg(_trace(self.covariance))

    @property
    def error_if_right_deg(self) -> Tensor:
        """Expected root-mean-square error of the rotation if the pose is near the right mode, (N,) degrees."""
        return _rms_deg(_trace(self.covariance_if_right))

    @property
    def error_if_wrong_deg(self) -> Tensor:
        """Expected root-mean-square error of the rotation if the pose is not near the right mode, (N,) degrees."""
        wrong = _trace(self.covariance) - self.p_right * _trace(self.covariance_if_right)
        random = torch.full_like(wrong, math.radians(_MAX_ERROR_DEG) ** 2)
        p_wrong = 1 - self.p_right
        return _rms_deg(torch.where(p_wrong > _LEAST_P_WRONG, wrong / p_wrong.clamp_min(_LEAST_P_WRONG), random))

    @property
    def shift_error(self) -> Tensor:
        """Expected root-mean-square error of the centre, (N,) Å."""
        return _trace(self.shift_covariance).sqrt()

    def expected_axis_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the group's main axis, (N,) degrees."""
        return _rms_deg(_trace(self.covariance) - self._along_axis(group))

    def expected_azimuth_error_deg(self, group: Symmetry) -> Tensor:
        """Expected root-mean-square error of the azimuth about the group's main axis, (N,) degrees."""
        return _rms_deg(self._along_axis(group))

    def _along_axis(self, group: Symmetry) -> Tensor:
        axis = torch.as_tensor(group.main_axis).to(self.rotation_covariance)
        return axis @ self.covariance @ axis

    def with_false_picks(self, p_false: Tensor, covariance: Tensor) -> Poses:
        """The same poses, random ones of a second moment (3, 3) radians² with a probability (N,)."""
        return replace(
            self, p_false=p_false.to(self.p_false), false_covariance=covariance.expand_as(self.false_covariance)
        )

    def in_noise(self, level: Tensor) -> Poses:
        """The poses of fits in patches whose noise has so many times, (N,), the tomogram's power."""
        return replace(self, score=self.score * level.sqrt(), noise_level=level)

    @property
    def local_score(self) -> Tensor:
        """Score in standard deviations of the noise about each particle, (N,)."""
        return self.score / self.noise_level.sqrt()

    def overdispersed(self, factor: Tensor) -> Poses:
        """The same poses, covariances multiplied by (N,), log-odds of the modes divided by it where it exceeds 1."""
        each, first = factor[:, None, None], self.mode_log_weights[:, :1]
        return replace(
            self,
            mode_log_weights=first + (self.mode_log_weights - first) / factor.clamp_min(1)[:, None],
            rotation_covariance=each * self.rotation_covariance,
            shift_covariance=each * self.shift_covariance,
            coupling=each * self.coupling,
        )

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
            mode_shifts=self.mode_shifts + self.mode_rotations @ point,
            shift_covariance=self.shift_covariance + mixed + mixed.mT + lever @ by_rotation,
            coupling=self.coupling + by_rotation,
        )

    @property
    def mode_rotations(self) -> Tensor:
        """Rotations of the modes, (N, K, 3, 3)."""
        return self.rotations[:, None] @ rotvec_to_matrix(self.mode_rotvecs)

    def with_modes_of(self, other: Poses, group: Symmetry) -> Poses:
        """The same poses, with the best K of their own and of other poses' modes of the same particles."""
        count = self.mode_log_weights.shape[1]
        rotations = torch.cat([self.mode_rotations, other.mode_rotations], dim=1)
        shifts = torch.cat([self.mode_shifts, other.mode_shifts], dim=1)
        rotvecs = rotations_between(self.rotations, rotations, group)
        log_weights = torch.cat([self.mode_log_weights, other.mode_log_weights], dim=1)
        log_weights = log_weights.masked_fill(repeated(rotvecs, log_weights), -torch.inf)
        # The pose itself stays the first.
        order = log_weights[:, 1:].argsort(dim=1, descending=True)[:, : count - 1] + 1
        rows = torch.nn.functional.pad(order, (1, 0))
        pick = rows[:, :, None].expand(-1, -1, 3)
        return replace(
            self,
            mode_rotvecs=rotvecs.gather(1, pick),
            mode_shifts=shifts.gather(1, pick),
            mode_log_weights=log_weights.gather(1, rows),
        )

    def shifted(self, by: Tensor) -> Poses:
        """The same poses, with shifts from elsewhere: they grow by (N, 3) xyz in Å."""
        return replace(self, shifts=self.shifts + by, mode_shifts=self.mode_shifts + by[:, None])

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


def _trace(matrices: Tensor) -> Tensor:
    trace: Tensor = matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace


def _rms_deg(variance: Tensor) -> Tensor:
    return torch.rad2deg(variance.clamp_min(0).sqrt()).clamp_max(_MAX_ERROR_DEG)


@dataclass(frozen=True, eq=False)
class Observation:
    """Patches of N particles as a reference is matched with them: the arguments of `matching.fit.fit_at`.

    Parameters
    ----------
    noise : (N,) power of each patch's noise over the model's; None is 1.
    missing : voxels that lie beyond the tomogram; None where none does.
    """

    reference: Reference
    model: ForwardModel
    observed: Tensor
    prior: RotationPrior | None = None
    noise: Tensor | None = None
    missing: MissingVoxels | None = None

    def take(self, rows: Tensor) -> Observation:
        """The observation of these patches."""
        prior = None if self.prior is None else self.prior.take(rows)
        noise = None if self.noise is None else self.noise[rows]
        missing = None if self.missing is None else self.missing.take(rows)
        return Observation(self.reference, self.model, self.observed[rows], prior, noise, missing)

    def fit_at(self, rotations: Tensor, shifts: Tensor) -> Fit:
        """The fit in given poses (N, 3, 3) and (N, 3), no step taken."""
        prior, missing = self.prior, self.missing
        fit = fit_at(self.reference, self.model, self.observed, rotations, shifts, prior=prior, missing=missing)
        return fit if self.noise is None else fit.in_noise(self.noise)


# --- Laplace approximation and mixture of modes ---------------------------------------------------------------------


@dataclass(frozen=True)
class FitCalibration:
    """What log-likelihoods and covariances of a tomogram's best fits are corrected by; see `uncertainty`.

    Parameters
    ----------
    likelihood_scale : factor c of the log-likelihood, 1 where the noise model is right; see
        `uncertainty.estimate_likelihood_scale`.
    bound_excess : k, nats by which the variance of best fits exceeds their bound; see
        `uncertainty.estimate_bound_excess`.
    optimism : nats by which the best mode's log-mass is too large; see `uncertainty.optimism`.
    """

    likelihood_scale: float
    bound_excess: float = 0.0
    optimism: float = 0.0

    def covariance(self, fit: Fit) -> Tensor:
        """Covariance of rotation (radians) and shift (Å) by the Laplace approximation, (N, 6, 6)."""
        return fit.covariance() / self.likelihood_scale

    def variance_factor(self, fit: Fit) -> Tensor:
        """Factor 1 + k / c ΔL of the variance of best fits over the Laplace approximation, (N,)."""
        return 1 + self.bound_excess / (self.likelihood_scale * fit.log_likelihood_gain).clamp_min(_LEAST_GAIN)


def summarise_modes(
    fits: list[Fit], group: Symmetry, calibration: FitCalibration, *, origins: Tensor | None = None
) -> Poses:
    """The best pose of each particle with its Laplace covariance, and its competing modes.

    Parameters
    ----------
    fits : K fits of the same N particles, best first: the modes. Of fits that ended in one mode the first counts.
    origins : (N, K, 3) Å that the fits' shifts count from, if not all from one point. The poses' count from the first.
    """
    best = fits[0]
    covariance = calibration.variance_factor(best)[:, None, None] * calibration.covariance(best)
    rotvecs, log_weight = _modes(fits, group, likelihood_scale=calibration.likelihood_scale)
    log_weight[:, 0] -= calibration.optimism
    shifts = torch.stack([fit.shifts for fit in fits], dim=1)
    return Poses(
        best.rotations,
        best.shifts,
        covariance[:, :3, :3],
        covariance[:, 3:, 3:],
        covariance[:, :3, 3:],
        best.score,
        best.amplitude,
        rotvecs,
        shifts if origins is None else shifts + origins - origins[:, :1],
        log_weight,
        torch.zeros_like(best.score),
        torch.zeros_like(best.rotations),
    )


def posterior_mean(
    fits: list[Fit],
    observation: Observation,
    group: Symmetry,
    calibration: FitCalibration,
    *,
    origins: Tensor | None = None,
) -> Poses:
    """Poses as `summarise_modes`, but the posterior mean of a scan where the rotation is poorly determined.

    Parameters
    ----------
    fits : K fits, best first; the best ones are of the observed patches.
    """
    poses = _with_empty_mode(summarise_modes(fits, group, calibration, origins=origins))
    covariance, scale = calibration.covariance(fits[0]), calibration.likelihood_scale
    rows = _poorly_determined(covariance[:, :3, :3])
    if len(rows) == 0:
        return poses
    best = fits[0].take(rows)
    scan = scan_rotation(
        observation.take(rows), best, covariance[rows], likelihood_scale=scale, reach=reach_within(group)
    )
    factor = calibration.variance_factor(best)
    scan = replace(scan, covariance=factor[:, None, None, None] * scan.covariance)
    return poses.with_rows(rows, _mean_over_scan(poses.take(rows), scan, best, likelihood_scale=scale))


def _with_empty_mode(poses: Poses) -> Poses:
    """The same poses with one more mode of no mass, for what lies far off on a scan."""
    return replace(
        poses,
        mode_rotvecs=torch.nn.functional.pad(poses.mode_rotvecs, (0, 0, 0, 1)),
        mode_shifts=torch.cat([poses.mode_shifts, poses.shifts[:, None]], dim=1),
        mode_log_weights=torch.nn.functional.pad(poses.mode_log_weights, (0, 1), value=-torch.inf),
    )


def _poorly_determined(covariance: Tensor) -> Tensor:
    """Rows whose rotation is too uncertain, in its least certain direction, for a Gaussian posterior."""
    largest: Tensor = torch.linalg.eigvalsh(covariance)[:, -1].sqrt()
    return (largest > math.radians(_SCAN_FROM_DEG)).nonzero().squeeze(1)


def _modes(fits: list[Fit], group: Symmetry, *, likelihood_scale: float) -> tuple[Tensor, Tensor]:
    """Rotation vectors from the first of K fits to each, (N, K, 3), and the log-weight of each mode, (N, K)."""
    rotations = torch.stack([fit.rotations for fit in fits], dim=1)
    rotvecs = rotations_between(fits[0].rotations, rotations, group)
    log_mass = TEMPERATURE * likelihood_scale * torch.stack([fit.log_posterior for fit in fits], dim=1)
    log_mass = log_mass + concatenate_fits(fits).log_volume().view(len(fits), -1).T
    return rotvecs, log_mass.masked_fill(repeated(rotvecs, log_mass), -torch.inf)


def repeated(rotvecs: Tensor, log_weights: Tensor) -> Tensor:
    """Which of K modes lie by an earlier one that has mass, (N, K): they are the same mode.

    Parameters
    ----------
    rotvecs : (N, K, 3) from one pose.
    log_weights : (N, K), ``-inf`` where there is no mode.
    """
    near = (rotvecs[:, :, None] - rotvecs[:, None]).norm(dim=-1) < math.radians(_SAME_MODE_DEG)
    again: Tensor = (near & log_weights.isfinite()[:, None]).tril(-1).any(dim=-1)
    return again


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
    likelihood_scale : c, as in `FitCalibration`.
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
    angles = np.arccos(((np.trace(group.matrices, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))
    least = float(angles[angles > math.radians(0.1)].min(initial=2 * math.pi))
    return min(math.radians(_SCAN_REACH_DEG), least / 2)


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


def _mean_over_scan(poses: Poses, scan: Scan, best: Fit, *, likelihood_scale: float) -> Poses:
    """Poses moved to the mean over the scan, whose spread their covariances count; modes by the scan are part of it.

    Of the shift, what goes with the rotation scanned has the scan's spread as well: where the Laplace approximation
    leaves that rotation quite unknown, a shift about an origin off the axis would be unknown too. What lies farther
    than 20° from the mean becomes the last of the modes, which must be empty.

    Parameters
    ----------
    best : the fits that were scanned about.
    """
    share = torch.softmax(scan.log_weight, dim=1)
    mean, mean_shift = (torch.einsum("nt,nti->ni", share, values) for values in (scan.rotvecs, scan.shifts))
    off = scan.rotvecs - mean[:, None]
    far = off.norm(dim=-1) > math.radians(RIGHT_DEG)
    p_far = (share * far).sum(1).clamp(1e-12, 1 - 1e-6)
    near = share * ~far / (1 - p_far)[:, None]
    direction, grain = scan.direction[:, :, None], scan.step**2 / 12
    # By the Laplace approximation: the rotation along the direction, and what of the others and the shift goes with it.
    along = poses.rotation_covariance @ direction
    variance = (direction.mT @ along).clamp_min(1e-12)
    line = poses.coupling.mT @ direction / variance
    # Of the shift what does not go with it is left as it was; along the direction the scan's spread is in its place.
    off_shift = scan.shifts - mean_shift[:, None]
    within = torch.einsum("nt,ntij->nij", share, scan.covariance) + grain * direction * direction.mT
    coupling = poses.coupling - along * line.mT + grain * direction * line.mT
    shift_covariance = poses.shift_covariance - (variance - grain) * line * line.mT
    far_angle = ((share * far * off.square().sum(-1)).sum(1) / p_far).sqrt()
    by_scan = (poses.mode_rotvecs[:, :, None] - scan.rotvecs[:, None]).norm(dim=-1).amin(-1)
    # The scan's mass over that of the best mode's Gaussian, which covers so many points.
    points = torch.log(math.sqrt(2 * math.pi) * scan.variance.sqrt() / scan.step)
    gain = torch.logsumexp(scan.log_weight, dim=1) - likelihood_scale * best.log_posterior - points
    log_mass = poses.mode_log_weights[:, 0] + gain
    rotvecs, log_weights = poses.mode_rotvecs.clone(), poses.mode_log_weights
    log_weights = log_weights.masked_fill(by_scan < math.radians(_SAME_MODE_DEG), -torch.inf)
    log_weights[:, 0], log_weights[:, -1] = log_mass + torch.log1p(-p_far), log_mass + p_far.log()
    rotvecs[:, -1] = far_angle[:, None] * scan.direction
    return replace(
        poses,
        rotations=poses.rotations @ rotvec_to_matrix(mean),
        shifts=poses.shifts + mean_shift,
        rotation_covariance=within + _second_moment(off, near),
        shift_covariance=shift_covariance + _second_moment(off_shift, near),
        coupling=coupling + torch.einsum("nt,nti,ntj->nij", near, off, off_shift),
        mode_rotvecs=rotvecs,
        mode_log_weights=log_weights,
    )
