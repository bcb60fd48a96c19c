"""Overdispersion of single particles: by how much their residuals exceed the noise along parts of the template.

The likelihood scale (`uncertainty`) is that of a tomogram's typical particle. Beside gold or in a crowd the noise is
stronger than there, in clear ice weaker; a particle that lacks a part, or has it bent, leaves a residual of its own.
All of it shows where the template is: ρ is cut into eight parts across its principal axes, ρ = Σ ρ_b, whose images m_b,
with their derivatives by rotation, span 32 directions. Of the residual r = x - a m these explain

    φ = c |P r|² / d        (Pearson's X² over its d degrees of freedom; McCullagh & Nelder 1989, §4.5),

P being the projection on them, less the seven directions that the fit absorbs, and c the likelihood scale: 1 in the
mean where r is noise. (Derivatives by the parts' shifts, 24 more, tell no more of the errors: their negative
log-likelihood is 0.94 nats a particle without and 0.93 with them in six simulated conditions, 4.5 and 4.8 where
molecules are bent.) The covariance of the particle's pose is multiplied by φ (quasi-likelihood, Wedderburn 1974,
Biometrika 61:439), and where poses are weighed against each other, log-likelihoods are divided by it, or by the noise
level n if that is larger, the mean power of the residual over all coefficients: what a particle lacks fits other poses
as well. Against noise n alone counts.

One particle gives φ with a relative standard deviation of √(2 / d), about 27 %. It is shrunk to the tomogram's mean, as
far as particles do not differ by more than that (empirical Bayes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.devices import device_batch_size
from napari_orient.engine.matching.fit import Fit, phased
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference, ReferenceParts, build_reference
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.templates import Template

_SOFT_EDGE = 25.0
"""Å over which one part passes into the next, about the resolution of the fits; chosen."""
_RIDGE = 0.01
"""Added to the diagonal of the directions' correlation matrix: a direction counts as far as its eigenvalue exceeds
that. Chosen."""
_PRIOR_COUNT = 12
"""Particles that φ = 1 and the typical variance of φ count as, beside a tomogram's own; chosen, as for the scale."""
_TYPICAL_VARIANCE = 0.05
"""Variance of φ between particles. Simulated ribosomes in much noise 0.02, beside gold 0.6, half of them 50S 1.7."""
_LEAST = 0.1
"""Least φ: ribosomes between gold beads have 0.25."""
_BATCH = 4
"""Patches whose directions are computed together on a CPU, 1.5 MB: 2 and 8 are slower. Speed, not the result."""
_TYPICAL_DOF = 28
"""Degrees of freedom d of a particle, about: the 32 directions less the four absorbed."""
_UNIFORM_SPREAD = 0.1
"""Relative standard deviation of the φ that particles are given, below which a tomogram's are all alike: it changes an
expected error by 5 %. PolNet's have 0.04 to 0.06, simulated ones with a CTF 0.15, among gold 0.5."""
_NOISE_LEVELS = (0.25, 4.0)
"""Least and largest noise level of a particle. Between gold beads ribosomes have 0.4 to 1.7."""


@dataclass(frozen=True, eq=False)
class Overdispersion:
    """What gives the overdispersion φ of single particles.

    Parameters
    ----------
    parts : of the template, which add up to it.
    model : forward model of the coefficients whose residuals count.
    likelihood_scale : c of the tomogram.
    mean, prior_dof : mean of φ in the tomogram, and the degrees of freedom that it counts as beside a particle's own.
    """

    parts: ReferenceParts
    model: ForwardModel
    likelihood_scale: float
    mean: float = 1.0
    prior_dof: float = 2 / _TYPICAL_VARIANCE

    @classmethod
    def estimate(
        cls,
        parts: ReferenceParts,
        model: ForwardModel,
        observed: Tensor,
        fit: Fit,
        *,
        likelihood_scale: float,
    ) -> Overdispersion:
        """The distribution of φ in one tomogram, from patches (N, 2, M) of particles and the poses fitted to them."""
        found = cls(parts, model, likelihood_scale)
        square, freedom = found._chi_square(observed, fit)
        ratio = likelihood_scale * square / freedom
        count, mean = len(ratio), float(ratio.mean())
        variance = max(float((ratio - mean).square().mean() - 2 * mean**2 / freedom.mean()), 0.0)
        mean, variance = (
            (count * own + _PRIOR_COUNT * typical) / (count + _PRIOR_COUNT)
            for own, typical in ((mean, 1.0), (variance, _TYPICAL_VARIANCE))
        )
        return cls(parts, model, likelihood_scale, mean, 2 * mean**2 / variance)

    @property
    def uniform(self) -> bool:
        """Whether particles differ so little that each one's own φ, shrunk to the mean, hardly differs from it."""
        own_share = _TYPICAL_DOF / (_TYPICAL_DOF + self.prior_dof)
        return own_share * 2 / self.prior_dof < _UNIFORM_SPREAD**2

    def of(self, observed: Tensor, fit: Fit) -> Tensor:
        """φ of patches (N, 2, M), as the model observes them, in the poses fitted to them, (N,)."""
        square, freedom = self._chi_square(observed, fit)
        shrunk = self.likelihood_scale * square + self.prior_dof * self.mean
        return (shrunk / (freedom + self.prior_dof)).clamp_min(_LEAST)

    def _chi_square(self, observed: Tensor, fit: Fit) -> tuple[Tensor, Tensor]:
        """X² of the residuals along the parts, (N,), and its degrees of freedom, (N,)."""
        rows = torch.arange(len(observed), device=observed.device).split(device_batch_size(observed.device, _BATCH))
        inner = torch.cat([self._inner_products(observed[some], fit.take(some)) for some in rows])
        inner, products = _without_absorbed(inner, len(self.parts))
        length = inner.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt()
        correlation = inner / (length[:, :, None] * length[:, None])
        correlation.diagonal(dim1=1, dim2=2).add_(_RIDGE)
        lower = torch.linalg.cholesky_ex(correlation)[0]
        # With L Lᵀ = C + λ: |L⁻¹ p|² and, in white noise its mean, tr (C + λ)⁻¹ C = d - λ |L⁻¹|².
        unit = torch.eye(lower.shape[1], device=lower.device).expand_as(lower)
        solved = torch.linalg.solve_triangular(lower, torch.cat([unit, (products / length)[..., None]], 2), upper=False)
        squares = solved.square().sum(1)
        return squares[:, -1], lower.shape[1] - _RIDGE * squares[:, :-1].sum(1)

    def _inner_products(self, observed: Tensor, fit: Fit) -> Tensor:
        """Inner products of [m_b, its derivatives by rotation (3), each by part; m by shift (3); x].

        (N, 4 P + 4, 4 P + 4).
        """
        frequency, count = self.model.frequency, 4 * len(self.parts)
        wave = 2 * torch.pi * frequency
        rows = observed.new_empty(len(observed), len(frequency), 2, count + 4)
        self.parts.rotated(frequency, fit.rotations, weight=self.model.whitened_gain, out=rows[..., :count])
        value = rows[..., : len(self.parts)].sum(-1)
        # As in `design_matrix`: what a shift does to the phase.
        torch.mul(value[..., 1:], wave, out=rows[:, :, 0, count:-1])
        torch.mul(value[..., :1], -wave, out=rows[:, :, 1, count:-1])
        phased(observed, fit.shifts @ wave.T, out=rows[..., -1].mT)
        rows = rows.flatten(1, 2)
        return rows.mT @ rows


def _without_absorbed(inner: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Inner products of the directions by part, (N, 4 P, 4 P), and with the residual, (N, 4 P).

    The seven directions of the whole template, of which four are sums over its parts, are projected out: the fit
    absorbs them.

    Parameters
    ----------
    inner : (N, 4 P + 4, 4 P + 4), as `Overdispersion._inner_products` gives them.
    count : of parts, P.
    """

    def of_whole(products: Tensor) -> Tensor:
        """Inner products with the seven directions of the whole and with the patch, (..., 8)."""
        parts, others = products[..., : 4 * count], products[..., 4 * count :]
        return torch.cat([parts.unflatten(-1, (4, count)).sum(-1), others], dim=-1)

    whole = of_whole(inner)
    own, along = of_whole(whole.mT).mT, whole[:, : 4 * count]
    absorbed = torch.linalg.solve_ex(own[:, :7, :7], along[..., :7].mT)[0].mT
    left = inner[:, : 4 * count, : 4 * count] - absorbed @ along[..., :7].mT
    return left, along[..., 7] - (absorbed @ own[:, :7, 7:])[..., 0]


def noise_level(fit: Fit, model: ForwardModel, *, missing: Tensor | float = 0.0) -> Tensor:
    """Mean power n of each fit's residual over that of the tomogram's noise, (N,).

    Parameters
    ----------
    fit : of patches through the model.
    missing : (N,) share of the window's power that lies beyond the tomogram, where no noise is.
    """
    residual = fit.gram[:, 7, 7] - fit.score.square()
    level = residual / (2 * len(model.frequency) * model.window_power * (1 - missing))
    return level.clamp(*_NOISE_LEVELS)


def template_parts(template: Template, reference: Reference, *, resolution: float) -> ReferenceParts:
    """Eight parts of a template, soft octants about its centre of mass, which add up to it, on the reference's device.

    Parameters
    ----------
    reference : of the whole template.
    resolution : Å, the finest detail that the parts keep.
    """
    octants = _octants(template.density, template.voxel_size)
    parts = (
        build_reference(
            template.density * octant,
            template.voxel_size,
            resolution=max(resolution, reference.resolution),
            radius=reference.radius,
        )
        for octant in octants
    )
    return ReferenceParts.stacked(parts, len(octants)).to(reference.device)


def _octants(density: FloatArray, voxel_size: float) -> list[FloatArray]:
    """Weights (n, n, n) of eight parts that meet in the density's centre of mass, across its principal axes."""
    place = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    z, y, x = np.meshgrid(place, place, place, indexing="ij")
    points, weight = np.stack([x, y, z], axis=-1), np.clip(density, 0, None).astype(float)
    points = points - np.einsum("zyx,zyxi->i", weight, points) / weight.sum()
    _, axes = np.linalg.eigh(np.einsum("zyx,zyxi,zyxj->ij", weight, points, points))
    beyond = 1 / (1 + np.exp(-2 * (points @ axes) / _SOFT_EDGE))
    sides = np.stack([beyond, 1 - beyond])
    return [
        np.prod([sides[side, ..., axis] for axis, side in enumerate(which)], axis=0) for which in np.ndindex(2, 2, 2)
    ]
