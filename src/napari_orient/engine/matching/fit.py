"""Fit of a reference to patches by Gauss-Newton steps on SE(3): rotation R, shift t, amplitude a, and their covariance.

A whitened patch x is matched with the whitened reference m(R, t) (`model.forward`). At the best amplitude,
a = ⟨m, x⟩ / ⟨m, m⟩, the log-likelihood exceeds that of no particle by

    ΔL = s² / 2,        s = ⟨m, x⟩ / |m|,

s being the score of template matching: cross-correlation with the matched filter, in standard deviations of the noise.
A step δ = (ω, τ) changes the pose to R exp([ω]×), t + τ. With J the derivatives of m by ω and τ, m itself projected out
because the amplitude is free,

    H = a² JᵀJ,        g = a Jᵀ(x - a m),        δ = (H + λ diag H)⁻¹ g        (Levenberg-Marquardt damping λ).

H is the Fisher information, which for this model is the Gauss-Newton approximation of the Hessian; H⁻¹ is the
Cramér-Rao bound of the pose's covariance. A prior on the rotation adds its log-density to ΔL, its gradient to g and its
information to H.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.missing import MissingVoxels
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.representations import rotvec_to_matrix

STEP_DEG = 12.0
"""Degrees, largest rotation of one step: 27 Å at the rim of a ribosome, about as far as the linear model holds."""
STEP_VOXELS = 1.5
"""Voxels, largest shift of one step."""
_TRIED_GAIN = 0.1
"""Nats that a step must be predicted to gain to be tried. One that gains less, up to 0.45 standard deviations of the
pose, is taken as the quadratic model has it, the last: what it leaves is a hundredth of what it gained."""
MODE_NATS = 15.0
"""Nats by which a mode may be worse than the best, in the coarser model that ranks it, and still be refitted. Of 40
real ribosomes 3 are off by more than 20° and expect less; without refitted modes it is 6."""
_ABANDONED_NATS = 30.0
"""Nats by which a fit may be worse than the best of its particle after a first step, and go on. Of the 530 particles
of `patch_fits` none loses its pose, and none of its modes that count; of a hundred ribosomes in cells, or in 1.7 times
the noise, that are searched at ten places, a tenth to a third of the evaluations are spared beside 60 nats."""
_MODE_STEPS = 4
"""Gauss-Newton steps of a mode, at most."""
_CACHED_COEFFICIENTS = 20_000
"""Coefficients of all patches whose design matrices are computed together on a CPU: 2 to 4 MB, which its cache holds.
Measured with 1 MB of second-level cache a core: 59 µs a patch of 1,269 coefficients, 110 µs at five times as many
patches, 190 µs at eighty."""
_ROWS_ON_GPU = 8192
"""Patches whose design matrices are computed together on a GPU; bounds memory only (1 GB with 2,000 coefficients)."""
_FIRST_DAMPING = 1e-3
"""λ before the first step; it falls to a fifth with each step that improves the match, and grows twentyfold else."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Poses of a reference in N patches, and the quadratic model of the log-likelihood there.

    Parameters
    ----------
    rotations : (N, 3, 3), reference frame -> tomogram frame.
    shifts : (N, 3) xyz in Å from the patch's centre to the reference's origin.
    gram : (N, 8, 8) inner products of [m, its derivatives by rotation (3, reference frame, radians) and by shift
        (3, Å), x].
    prior : (N, 4, 4) terms of the prior on the rotation, as `RotationPrior.terms` gives them; zero where there is none.
    """

    rotations: Tensor
    shifts: Tensor
    gram: Tensor
    prior: Tensor = field(default_factory=lambda: torch.zeros(1, 4, 4))

    def __post_init__(self) -> None:
        """Give every fit its own terms of the prior."""
        if len(self.prior) != len(self.gram) or self.prior.device != self.gram.device:
            object.__setattr__(self, "prior", self.gram.new_zeros(len(self.gram), 4, 4))

    @cached_property
    def score(self) -> Tensor:
        """Score s of the match in standard deviations of the noise, (N,)."""
        return self.gram[:, 0, 7] / self.gram[:, 0, 0].clamp_min(1e-12).sqrt()

    @cached_property
    def log_likelihood_gain(self) -> Tensor:
        """Gain ΔL in log-likelihood over no particle, (N,) nats, at the best amplitude that is not negative."""
        return self.score.clamp_min(0).square() / 2

    @property
    def log_posterior(self) -> Tensor:
        """ΔL and the log-density of the prior, (N,) nats, up to a constant."""
        return self.log_likelihood_gain + self.prior[:, 0, 0]

    @cached_property
    def amplitude(self) -> Tensor:
        """Amplitude a of the reference, (N,)."""
        return self.gram[:, 0, 7] / self.gram[:, 0, 0].clamp_min(1e-12)

    def information(self) -> Tensor:
        """Information H of rotation (radians) and shift (Å) with the amplitude free, and the prior's, (N, 6, 6)."""
        fisher = self.amplitude.square()[:, None, None] * _profiled(self.gram)
        fisher[:, :3, :3] += self.prior[:, 1:, 1:]
        return fisher

    def gradient(self) -> Tensor:
        """Gradient g of the log-posterior by rotation (radians) and shift (Å), at the best amplitude, (N, 6)."""
        amplitude = self.amplitude[:, None]
        gradient = amplitude * (self.gram[:, 1:7, 7] - amplitude * self.gram[:, 1:7, 0])
        gradient[:, :3] += self.prior[:, 0, 1:]
        return gradient

    def covariance(self) -> Tensor:
        """Covariance H⁻¹ of rotation (radians) and shift (Å), (N, 6, 6): the Cramér-Rao bound."""
        bound: Tensor = torch.linalg.inv(self._invertible_information())
        return bound

    def log_volume(self) -> Tensor:
        """Logarithm of the square root of the covariance's determinant, (N,): the volume of the mode up to a factor."""
        volume: Tensor = torch.logdet(self._invertible_information()) / -2
        return volume

    def _invertible_information(self) -> Tensor:
        information = self.information()
        return information + 1e-6 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))

    def in_noise(self, level: Tensor) -> Fit:
        """The same fits where each patch's noise has so many times, (N,), the power that the model says.

        The prior stays as it is, and so does the amplitude.
        """
        return replace(self, gram=self.gram / level[:, None, None])

    def take(self, rows: Tensor) -> Fit:
        """The fits of these rows."""
        return Fit(*(getattr(self, item.name)[rows] for item in fields(Fit)))

    def with_rows(self, rows: Tensor, others: Fit) -> Fit:
        """The same fits with some rows replaced."""
        names = [item.name for item in fields(Fit)]
        return Fit(*(getattr(self, name).index_copy(0, rows, getattr(others, name)) for name in names))


def rank_fits(gain: Tensor, owner: Tensor, count: int) -> Tensor:
    """Rows of the best fits of each patch, (N, count), best first; where there are fewer, the best again.

    Parameters
    ----------
    gain : (L,) log-posterior of each fit.
    owner : (L,) the patch that each is a fit of; every patch from 0 to the last has one.
    """
    order = gain.argsort(descending=True)
    order = order[owner[order].argsort(stable=True)]
    size = torch.bincount(owner)
    first = size.cumsum(0) - size
    place = torch.arange(count, device=gain.device)
    return order[first[:, None] + torch.where(place < size[:, None], place, 0)]


def concatenate_fits(fits: list[Fit]) -> Fit:
    """The fits of several batches, in order."""
    return Fit(*(torch.cat([getattr(fit, item.name) for fit in fits]) for item in fields(Fit)))


def fit_at(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    rotations: Tensor,
    shifts: Tensor,
    *,
    prior: RotationPrior | None = None,
    missing: MissingVoxels | None = None,
) -> Fit:
    """The fit in given poses, no step taken.

    Parameters
    ----------
    observed : (N, 2, M) as `ForwardModel.observe` gives it.
    rotations : (N, 3, 3).
    shifts : (N, 3) Å from the centre that the patches were observed about.
    prior : of the N rotations; None is flat.
    missing : voxels of the N patches that lie beyond the tomogram; None where none does.
    """
    most = _rows_in_cache(len(model.frequency), observed.device)
    rows = torch.arange(len(observed), device=observed.device).split(most)
    parts = [design_matrix(reference, model, observed[some], rotations[some], shifts[some]) for some in rows]
    if missing is not None:
        each = zip(parts, rows, strict=True)
        parts = [_without_missing(part, model, shifts[some], missing.take(some)) for part, some in each]
    gram = torch.cat([_gram(part) for part in parts])
    return Fit(rotations, shifts, gram) if prior is None else Fit(rotations, shifts, gram, prior.terms(rotations))


def _rows_in_cache(coefficients: int, device: torch.device) -> int:
    """Patches whose design matrices are computed together."""
    return max(1, _CACHED_COEFFICIENTS // coefficients) if device.type == "cpu" else _ROWS_ON_GPU


def _gram(rows: Tensor) -> Tensor:
    gram: Tensor = rows @ rows.transpose(1, 2)
    return gram


def design_matrix(
    reference: Reference, model: ForwardModel, observed: Tensor, rotations: Tensor, shifts: Tensor
) -> Tensor:
    """[m, its derivatives by rotation (3) and by shift (3), x], whitened, about the particle, (N, 8, 2 M).

    Parameters are those of `fit_at`, units those of `Fit`.
    """
    frequency = model.frequency
    wave = 2 * torch.pi * frequency.T
    rows = observed.new_empty(len(rotations), 8, 2, len(frequency))
    reference.rotated(frequency, rotations, weight=model.whitened_gain, out=rows[:, :4])
    torch.mul(rows[:, :1, 1], wave, out=rows[:, 4:7, 0])
    torch.mul(rows[:, :1, 0], -wave, out=rows[:, 4:7, 1])
    phased(observed, shifts @ wave, out=rows[:, 7])
    return rows.flatten(2)


def _without_missing(design: Tensor, model: ForwardModel, shifts: Tensor, missing: MissingVoxels) -> Tensor:
    """The design matrix (N, 8, 2 M), about the patch's centre, without what of m and its derivatives is missing."""
    rows = design.unflatten(2, (2, -1))
    back = torch.empty_like(rows)
    for number in range(rows.shape[1]):
        phased(rows[:, number], -shifts @ (2 * torch.pi * model.frequency.T), out=back[:, number])
    # The last row is the patch, which is 0 there.
    back[:, :7] = missing.removed(model, back[:, :7])
    return back.flatten(2)


def fit_poses(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    *,
    rotations: Tensor,
    shifts: Tensor,
    steps: int,
    prior: RotationPrior | None = None,
    owner: Tensor | None = None,
    missing: MissingVoxels | None = None,
) -> Fit:
    """The fits nearest to given starts, by `gauss_newton`."""
    start = fit_at(reference, model, observed, rotations, shifts, prior=prior, missing=missing)
    return gauss_newton(reference, model, observed, start, steps=steps, prior=prior, owner=owner, missing=missing)


def gauss_newton(
    reference: Reference,
    model: ForwardModel,
    observed: Tensor,
    fit: Fit,
    *,
    steps: int,
    prior: RotationPrior | None = None,
    owner: Tensor | None = None,
    missing: MissingVoxels | None = None,
) -> Fit:
    """The local maximum of the posterior near a fit: damped Gauss-Newton steps, kept only where the match improves.

    Parameters
    ----------
    observed : as in `fit_at`.
    steps : trial steps, at most. Then one that is predicted to gain next to nothing is taken without a trial: the
        quadratic model stays that of the pose before it.
    owner : (N,) the particle that each is a fit of: one far worse than the particle's best goes no farther. None takes
        all as far as they go.
    missing : as in `fit_at`.
    """
    damping = torch.full_like(fit.score, _FIRST_DAMPING)
    for number in range(steps + 1):
        step, gain = _step(fit, damping, model.voxel_size)
        promising = gain > _TRIED_GAIN
        if number == steps:
            break
        if owner is not None and number > 0:
            promising &= fit.log_posterior > _best_of_owner(fit, owner) - _ABANDONED_NATS
        rows = promising.nonzero().squeeze(1)
        if len(rows) == 0:
            break
        every = len(rows) == len(observed)
        last, part, step = (fit, observed, step) if every else (fit.take(rows), observed[rows], step[rows])
        rotations = last.rotations @ rotvec_to_matrix(step[:, :3])
        own = prior if prior is None or every else prior.take(rows)
        shifts, lost = last.shifts + step[:, 3:], missing if missing is None or every else missing.take(rows)
        trial = fit_at(reference, model, part, rotations, shifts, prior=own, missing=lost)
        better = trial.log_posterior > last.log_posterior
        hit = better.nonzero().squeeze(1)
        fit = trial if len(hit) == len(observed) else fit.with_rows(rows[hit], trial.take(hit))
        damping[rows] *= torch.where(better, 0.2, 20.0)
        damping.clamp_(1e-5, 1e3)
    closing = torch.where(gain > _TRIED_GAIN, 0, 1)[:, None] * step
    return replace(fit, rotations=fit.rotations @ rotvec_to_matrix(closing[:, :3]), shifts=fit.shifts + closing[:, 3:])


def _best_of_owner(fit: Fit, owner: Tensor) -> Tensor:
    """Best log-posterior of the fits of the same particle, (N,)."""
    worst = fit.log_posterior.new_full((int(owner.max()) + 1,), -torch.inf)
    return worst.scatter_reduce(0, owner, fit.log_posterior, "amax")[owner]


def fit_modes(
    reference: Reference,
    model: ForwardModel,
    observe: Callable[[Tensor, Tensor], Tensor],
    fits: list[Fit],
    *,
    distinct: Tensor | None = None,
    prior: RotationPrior | None = None,
) -> tuple[list[Fit], Tensor, Tensor]:
    """Competing modes of the posterior: fits of the same patches, refitted and ranked.

    Parameters
    ----------
    observe : patches as the model observes them, (L, 2, M), of rows (L,), each about the place of a mode (L,).
    fits : K, best first, as a coarser model ranks them; those far worse than the best are left out.
    distinct : (N, K) which of them are no repetitions of the best; None takes all for different ones.

    Returns
    -------
    fits : K, best first; where fewer are left, the best again.
    modes : (N, K) which of the given ones each began as.
    observed : (N, 2, M) patches about the place of the best.
    """
    gain = torch.stack([fit.log_posterior for fit in fits], dim=1)
    near = gain >= gain[:, :1] - MODE_NATS
    row, mode = (near if distinct is None else near & distinct).nonzero(as_tuple=True)
    starts = concatenate_fits(fits).take(mode * len(gain) + row)
    observed = observe(row, mode)
    fit = fit_poses(
        reference,
        model,
        observed,
        rotations=starts.rotations,
        shifts=starts.shifts,
        steps=_MODE_STEPS,
        prior=None if prior is None else prior.take(row),
    )
    rows = rank_fits(fit.log_posterior, row, len(fits))
    return [fit.take(column) for column in rows.unbind(1)], mode[rows], observed[rows[:, 0]]


def rank_distinct_fits(fit: Fit, owner: Tensor, count: int, *, apart_deg: float) -> Tensor:
    """Rows of the best fits of each patch whose rotations lie apart, (N, count), best first; see `rank_fits`."""
    rows = rank_fits(fit.log_posterior, owner, int(torch.bincount(owner).max()))
    left, rotations = fit.log_posterior[rows], fit.rotations[rows].flatten(2)
    chosen = [torch.zeros(len(rows), dtype=torch.long, device=rows.device)]
    while len(chosen) < count:
        last = rotations.gather(1, chosen[-1][:, None, None].expand(-1, 1, 9))
        near = (rotations * last).sum(-1) > 1 + 2 * math.cos(math.radians(apart_deg))
        left = left.masked_fill(near, -torch.inf)
        best = left.argmax(1)
        chosen.append(torch.where(left.gather(1, best[:, None])[:, 0].isfinite(), best, 0))
    return rows.gather(1, torch.stack(chosen, dim=1))


@lru_cache(maxsize=32)
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


def _largest_step(voxel_size: float, device: torch.device) -> Tensor:
    """Largest rotation, in radians, and shift, in Å, of a step, (2,)."""
    return torch.tensor([math.radians(STEP_DEG), STEP_VOXELS * voxel_size], device=device)


def _step(fit: Fit, damping: Tensor, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Step of rotation (radians) and shift (Å), (N, 6), within the largest step; its predicted gain, (N,) nats."""
    amplitude = fit.amplitude.clamp_min(1e-12)[:, None]
    gram = fit.gram
    gradient = gram[:, 1:7, 7] - amplitude * gram[:, 1:7, 0]
    matrix = _profiled(gram)
    gradient[:, :3] += fit.prior[:, 0, 1:] / amplitude
    matrix[:, :3, :3] += fit.prior[:, 1:, 1:] / amplitude[:, :, None].square()
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1, keepdim=True).clamp_min(1e-9)
    diagonal.add_(damping[:, None] * diagonal + 1e-9 * largest)
    step = torch.linalg.solve_ex(matrix, gradient)[0]
    gain = (gradient * step).sum(-1) / 2
    step = step / amplitude
    over = step.view(-1, 2, 3).norm(dim=-1) / _largest_step(voxel_size, step.device)
    return step / over.amax(-1, keepdim=True).clamp_min(1), gain


def _profiled(gram: Tensor) -> Tensor:
    """JᵀJ, (N, 6, 6): inner products of the derivatives with m projected out."""
    cross = gram[:, 1:7, 0]
    return gram[:, 1:7, 1:7] - cross[:, :, None] * cross[:, None, :] / gram[:, 0, 0].clamp_min(1e-12)[:, None, None]


def phased(observed: Tensor, angle: Tensor, *, out: Tensor) -> None:
    """Write coefficients of the patches about their particles to ``out``, (N, 2, M); phase angles in radians."""
    cosine, sine = angle.cos(), angle.sin()
    torch.mul(observed, cosine[:, None], out=out)
    out[:, 0].addcmul_(observed[:, 1], sine, value=-1)
    out[:, 1].addcmul_(observed[:, 0], sine)
