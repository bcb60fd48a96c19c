"""Prior on each particle's rotation: an axis near a given direction, a rotation near a given one, or both.

A membrane protein stands along the membrane's normal, a filament's subunit along its axis: an axis u of the reference
points along a given direction d of the tomogram, up to an angle θ; the rotation about it is free. A local search keeps
to rotations within an angle ρ of given ones. The log-density is that of RELION's priors, Gaussian in θ, and flat within
the search range::

    log p(R) = - θ² / 2σ²  - max(0, φ - ρ)² / 2τ²,      θ = ∠(R u, d),   φ = ∠(R, R₀),

each at the nearest symmetric copy. The search adds it to the log-likelihood of its grid; a `Fit` carries its value,
gradient and information (`RotationPrior.terms`), which add to those of the likelihood wherever poses are ranked, fitted
and weighed, and in their covariances. Rows are taken as of patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_orient.engine.representations import matrix_to_rotvec, rotvec_to_matrix

CUTOFF = 3.0
"""Standard deviations of a prior beyond which no rotation is searched; RELION's."""
_EDGE_SHARE = 0.1
"""τ, standard deviation of the edge of a search range, over the range; chosen: soft, so that fits can cross it."""
_LEAST_EDGE_DEG = 1.0
"""Least τ in degrees, where the range is narrower than that allows."""
_CLAMP = 1 - 1e-6
"""Largest cosine of which the angle is taken: its derivative is infinite at 1."""


@dataclass(frozen=True, eq=False)
class RotationPrior:
    """Prior on the rotations of N particles, modulo their group.

    Parameters
    ----------
    rotations : (N, 3, 3) given, reference frame -> tomogram frame; z of them is the given direction d.
    axis : (3,) u, of length 1, in the reference frame.
    copies : (G, 3, 3) rotations of the group.
    axis_sd : σ in radians; None where the axis is free.
    either_way : whether d has no sense, so that u may point along -d as well.
    search_range : ρ in radians; None where the distance from the given rotation does not matter.
    scale : factor of the log-density: 1 over that of the log-likelihood it is added to.
    """

    rotations: Tensor
    axis: Tensor
    copies: Tensor
    axis_sd: float | None = None
    either_way: bool = False
    search_range: float | None = None
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.rotations)

    def take(self, rows: Tensor | slice) -> RotationPrior:
        """The prior of these particles."""
        return replace(self, rotations=self.rotations[rows])

    def tempered(self, likelihood_scale: float) -> RotationPrior:
        """The same prior, to be added to a log-likelihood that is multiplied by a scale only afterwards."""
        return replace(self, scale=1 / likelihood_scale)

    def log_density_of_grid(self, rotations: Tensor, *, spacing: float) -> Tensor:
        """Log-density, up to a constant, of the rotations (J, 3, 3) of a grid for each particle, (N, J).

        A rotation just outside stands for those inside that are nearest it: all count as nearer by half the grid's
        spacing in radians. What lies beyond the cutoff is ``-inf``, but of each particle one at least is allowed.
        """
        log = rotations.new_zeros(len(self), len(rotations))
        for angle, sd in self._off(rotations, margin=spacing / 2):
            log = (log - (angle / sd).square() / 2).masked_fill(angle > CUTOFF * sd, -torch.inf)
        none = (~log.isfinite().any(1)).nonzero().squeeze(1)
        if len(none):
            distance = torch.stack([angle for angle, _ in self.take(none)._off(rotations)]).amax(0)
            log[none, distance.argmin(1)] = 0.0
        return self.scale * log

    def nearest_allowed(self, rotations: Tensor) -> Tensor:
        """Rotations (N, 3, 3), each moved the least way to where its prior's log-density is no less than at σ or ρ."""
        if self.axis_sd is not None:
            angle, axis, sense = self._axis_angle(rotations[:, None])
            over = (angle[:, 0] - self.axis_sd).clamp_min(0)
            rotations = rotations @ rotvec_to_matrix(over[:, None] * self._towards(rotations, axis[:, 0], sense[:, 0]))
        if self.search_range is not None:
            angle, copy = self._angle(rotations[:, None])
            between = matrix_to_rotvec(rotations.mT @ self.rotations @ self.copies[copy[:, 0]].mT)
            share = ((angle - self.search_range) / angle.clamp_min(1e-6)).clamp_min(0)
            rotations = rotations @ rotvec_to_matrix(share * between)
        return rotations

    def terms(self, rotations: Tensor) -> Tensor:
        """Log-density l of rotations (N, 3, 3), its gradient g and information P as [[l, gᵀ], [g, P]], (N, 4, 4).

        g and P are by a rotation vector in the reference frame, radians: R exp([ω]×).
        """
        terms = rotations.new_zeros(len(rotations), 4, 4)
        if self.axis_sd is not None:
            angle, axis, sense = self._axis_angle(rotations[:, None])
            towards = self._towards(rotations, axis[:, 0], sense[:, 0])
            across = torch.eye(3).to(towards) - axis[:, 0, :, None] * axis[:, 0, None, :]
            self._add(terms, angle, towards, across, sd=self.axis_sd)
        if self.search_range is not None:
            angle, copy = self._angle(rotations[:, None])
            between = matrix_to_rotvec(rotations.mT @ self.rotations @ self.copies[copy[:, 0]].mT)
            towards = between / between.norm(dim=1, keepdim=True).clamp_min(1e-6)
            beyond = (angle - self.search_range).clamp_min(0)
            information = towards[:, :, None] * towards[:, None] * (beyond > 0)[:, :, None]
            self._add(terms, beyond, towards, information, sd=self._edge)
        return self.scale * terms

    @property
    def _edge(self) -> float:
        """τ in radians."""
        return max(_EDGE_SHARE * (self.search_range or 0.0), math.radians(_LEAST_EDGE_DEG))

    def _off(self, rotations: Tensor, *, margin: float = 0.0) -> list[tuple[Tensor, float]]:
        """θ and φ - ρ of rotations (J, 3, 3), (N, J) radians, as far as they are restricted, each with σ or τ."""
        found = []
        if self.axis_sd is not None:
            found.append((self._axis_angle(rotations)[0].sub(margin).clamp_min(0), self.axis_sd))
        if self.search_range is not None:
            found.append((self._angle(rotations)[0].sub(self.search_range + margin).clamp_min(0), self._edge))
        return found

    @staticmethod
    def _add(terms: Tensor, angle: Tensor, towards: Tensor, information: Tensor, *, sd: float) -> None:
        """Add the terms of a Gaussian in an angle (N, 1), which a rotation towards (N, 3) lessens."""
        terms[:, 0, 0] -= (angle[:, 0] / sd).square() / 2
        gradient = angle * towards / sd**2
        terms[:, 0, 1:] += gradient
        terms[:, 1:, 0] += gradient
        terms[:, 1:, 1:] += information / sd**2

    def _axis_angle(self, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """θ (N, K), the copy of the axis that is nearest, (N, K, 3), and its sense, 1 or -1, (N, K)."""
        axes = self.copies @ self.axis
        direction = self.rotations[:, :, 2]
        own = torch.einsum("nkij,ni->nkj", rotations.expand(len(self), -1, 3, 3), direction)
        cosine = own @ axes.T
        best = (cosine.abs() if self.either_way else cosine).argmax(-1)
        cosine = cosine.gather(-1, best[..., None])[..., 0]
        sense = torch.where(cosine < 0, -1.0, 1.0) if self.either_way else torch.ones_like(cosine)
        return torch.acos((sense * cosine).clamp(-_CLAMP, _CLAMP)), axes[best], sense

    def _towards(self, rotations: Tensor, axis: Tensor, sense: Tensor) -> Tensor:
        """Unit rotation vectors (N, 3), reference frame, that bring the axis (N, 3) nearer to the direction."""
        direction = (rotations.mT @ self.rotations[:, :, 2:])[..., 0] * sense[:, None]
        across = torch.linalg.cross(axis, direction)
        unit: Tensor = across / across.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return unit

    def _angle(self, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """φ (N, K), and the number of the nearest copy S: R S is near the given rotation."""
        between = self.rotations[:, None].mT @ rotations.expand(len(self), -1, 3, 3)
        trace = torch.einsum("nkij,gji->nkg", between, self.copies)
        cosine, copy = ((trace - 1) / 2).max(-1)
        return torch.acos(cosine.clamp(-_CLAMP, _CLAMP)), copy
