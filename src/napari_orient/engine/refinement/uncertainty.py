"""Calibration of the expected error: likelihood scale and optimism of a tomogram's model; unknown poses.

**Likelihood scale.** The Cramér-Rao bound H⁻¹ is right where the noise is stationary and as strong as its spectrum
says. It is measured all over a patch, though, and holds neighbours, which keep out of where the particle itself is:
there the noise is weaker. Along a particle's derivatives by rotation and shift, the residuals of the *other* particles
show the noise where a particle is, whatever its colour and place. With the second moment J of those residuals the
covariance of the pose is the sandwich

    H⁻¹ J H⁻¹        (White 1982, Econometrica 50:1)

and the scale c is the trace of the rotation's part of H⁻¹ over that of the sandwich. Log-likelihoods are multiplied by
c (a generalised posterior), so that a posterior's covariance is H⁻¹ / c.

**Bound.** Best fits reach the Cramér-Rao bound only in little noise. In much noise the likelihood is no longer
quadratic over its own width, and the variance of best fits is larger, to first order by a factor 1 + k / c ΔL. The
constant k is found by a parametric bootstrap (Efron 1979): noise is added to the fitted references of some particles,
which are then fitted anew.

**Optimism.** Gain, noise and tilt shifts are estimated from N particles in their best poses. With p effective
parameters the log-likelihood of such a particle is greater by p / N there, in the mean, than through a model that it
took no part in (Akaike 1973; Efron 2004, J. Am. Stat. Assoc. 99:619); in its other poses it is not. For ten particles
that is more than a nat, for a hundred next to nothing.

**Unknown poses.** Some poses are no answer, whatever they score: of particles of which next to nothing is inside the
tomogram, far from the pick. Their probability of being right is that of a random pose, and the
list says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.matching.fit import Fit, design_matrix, fit_poses
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference
from napari_orient.engine.particles import Extent, FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.representations import matrix_to_rotvec
from napari_orient.engine.streams import Note

TYPICAL_LIKELIHOOD_SCALE = 1.3
"""Likelihood scale of ribosomes and proteasomes in PolNet's tomograms, 1.2 to 1.5; the prior mean of an estimate."""
_PRIOR_COUNT = 12
"""Particles that the typical scale counts as, beside a tomogram's own; chosen."""
_SAMPLE = 64
"""Particles that the scale is estimated from, at most: every residual is compared with every particle."""
_BATCH = 16
"""Particles compared together; bounds memory only."""
_LEAST_SCALE = 0.5
"""Least scale of one particle; limits what one poor fit does to few particles."""
_MOST_SCALE = 3.0
"""Largest scale of one particle."""
_BOOTSTRAP_STEPS = 6
"""Gauss-Newton steps of a bootstrapped fit: it starts where it ends without noise."""
_MOST_SQUARE = 8.0
"""Largest square error of a bootstrapped fit, over the bound, that counts: beyond, it is at another mode."""
_MOST_EXCESS = 100.0
"""Nats, largest k. Of ribosomes 0 to 20."""
_MODEL_PARAMETERS = 16.0
"""p, effective parameters of a tomogram's model. Of six simulated series of ten ribosomes, scores of 6 to 9, 24 of 60
poses are wrong; probabilities leave 13.7 open with p = 0, 27.6 with 20, 37.9 with 40 (log-loss 0.68, 0.57, 0.82)."""
_MOST_OUTSIDE = 0.5
"""Share of a particle's volume outside the tomogram above which its pose is unknown: up to there, with the centre on a
face, expected errors were measured."""


@torch.no_grad()
def estimate_likelihood_scale(reference: Reference, model: ForwardModel, observed: Tensor, fit: Fit) -> float:
    """Scale c of the log-likelihood by the sandwich covariance, 1 where the noise model is right.

    The median over some of the particles, shrunk to the typical scale as far as they are few. That fits absorb a little
    of the noise is corrected for.

    Parameters
    ----------
    observed : (N, 2, M) as the model observes them, of particles of one tomogram.
    fit : the poses fitted to them.
    """
    some = torch.as_tensor(evenly_spaced_rows(len(observed), _SAMPLE), device=observed.device)
    count = len(some)
    if count < 2:
        return TYPICAL_LIKELIHOOD_SCALE
    designs = [
        design_matrix(reference, model, observed[part], fit.rotations[part], fit.shifts[part])
        for part in some.split(_BATCH)
    ]
    absorbed, residual = (torch.cat(column) for column in zip(*map(_split, designs), strict=True))
    numbers = torch.arange(count, device=observed.device).split(_BATCH)
    scales = torch.cat([_scales(part, absorbed, residual, own=own) for part, own in zip(designs, numbers, strict=True)])
    scales = scales[scales.isfinite()].clamp(_LEAST_SCALE, _MOST_SCALE)
    found = float(scales.median()) if len(scales) else TYPICAL_LIKELIHOOD_SCALE
    return (count * found + _PRIOR_COUNT * TYPICAL_LIKELIHOOD_SCALE) / (count + _PRIOR_COUNT)


@torch.no_grad()
def estimate_bound_excess(
    reference: Reference, model: ForwardModel, fit: Fit, *, likelihood_scale: float, generator: torch.Generator
) -> float:
    """Excess k of the variance of best fits over the Cramér-Rao bound, nats: the factor is 1 + k / c ΔL.

    Parameters
    ----------
    fit : of particles of one tomogram, through the model; some of them are taken.
    likelihood_scale : c, of the noise that is added.
    """
    some = torch.as_tensor(evenly_spaced_rows(len(fit.score), _SAMPLE), device=fit.score.device)
    squares = [
        _bootstrapped(reference, model, fit.take(rows), likelihood_scale=likelihood_scale, generator=generator)
        for rows in some.split(_BATCH)
    ]
    beyond = torch.cat(squares).clamp_max(_MOST_SQUARE) - 1
    per_nat = 1 / (likelihood_scale * fit.log_likelihood_gain[some]).clamp_min(1.0)
    return min(max(float(beyond.mean() / per_nat.mean()), 0.0), _MOST_EXCESS)


def optimism(count: int) -> float:
    """Nats by which particles fit their tomogram's model better in their best poses for having been among so many."""
    return _MODEL_PARAMETERS / count


def _bootstrapped(
    reference: Reference, model: ForwardModel, fit: Fit, *, likelihood_scale: float, generator: torch.Generator
) -> Tensor:
    """Mean square over the three axes of the error of fits to simulated patches, over the bound, (B,)."""
    blank = fit.shifts.new_zeros(len(fit.shifts), 2, len(model.frequency))
    centre = torch.zeros_like(fit.shifts)
    clean = design_matrix(reference, model, blank, fit.rotations, centre)[:, 0].unflatten(1, (2, -1))
    noise = torch.randn(clean.shape, generator=generator).to(clean) / likelihood_scale**0.5
    patches = fit.amplitude.clamp_min(0)[:, None, None] * clean + noise
    again = fit_poses(reference, model, patches, rotations=fit.rotations, shifts=centre, steps=_BOOTSTRAP_STEPS)
    error = matrix_to_rotvec(fit.rotations.mT @ again.rotations)[:, :, None]
    bound = again.covariance()[:, :3, :3] / likelihood_scale
    square: Tensor = (error.mT @ torch.linalg.solve(bound, error))[:, 0, 0] / 3
    return square


def _split(design: Tensor) -> tuple[Tensor, Tensor]:
    """Of each patch: orthonormal directions that its fit absorbs, (B, 7, 2 M), and the residual, (B, 2 M)."""
    absorbed = torch.linalg.qr(design[:, :7].mT).Q.mT
    patch = design[:, 7]
    return absorbed, patch - ((absorbed @ patch[:, :, None]).mT @ absorbed)[:, 0]


def _scales(design: Tensor, absorbed: Tensor, residual: Tensor, *, own: Tensor) -> Tensor:
    """Rotation variance by the bound, over that by the residuals of the other particles, (B,).

    Parameters
    ----------
    design : (B, 8, 2 M) of these particles.
    absorbed, residual : (K, 7, 2 M) and (K, 2 M) of all particles.
    own : (B,) the numbers of these among them.
    """
    model, jacobian = design[:, :1], design[:, 1:7]
    jacobian = jacobian - (jacobian @ model.mT) / model.square().sum(2, keepdim=True).clamp_min(1e-12) * model
    others = torch.ones(len(design), len(residual), device=residual.device)
    others = others.scatter_(1, own[:, None], 0.0) / (len(residual) - 1)
    projected = jacobian @ residual.T
    moment = (projected * others[:, None]) @ projected.mT
    lost = jacobian @ absorbed.flatten(0, 1).T
    information = jacobian @ jacobian.mT
    # What the second moment would be in white noise: the information, less what the other fits absorbed of the noise.
    expected = information - (lost * others.repeat_interleave(absorbed.shape[1], dim=1)[:, None]) @ lost.mT
    floor = 1e-6 * torch.diag_embed(information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-9))
    bound = torch.linalg.inv(information + floor)
    variance = [(bound @ part @ bound)[:, :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1) for part in (expected, moment)]
    ratio: Tensor = variance[0] / variance[1]
    return ratio


# --- truncation ---------------------------------------------------------------------------------------------------


def truncated_share(positions: FloatArray, extent: Extent, radius: float) -> FloatArray:
    """Share of the volume of balls about positions (N, 3), xyz in Å, that lies beyond the tomogram's faces, (N,)."""
    far = (np.asarray(extent.size) - 1) * extent.voxel_size
    rim = extent.voxel_size / 2
    inside = np.concatenate([positions + rim, far + rim - positions], axis=1) / radius
    inside = inside.clip(-1, 1)
    caps = (1 - inside) ** 2 * (2 + inside) / 4
    share: FloatArray = caps.sum(axis=1).clip(max=1)
    return share


# --- unknown poses ----------------------------------------------------------------------------------------------------

_SHIFT_SLACK = 10.0
"""Å beyond the largest shift allowed that a particle may be found at: a voxel of the search and a picker's rounding."""
_CENTRE_ERRORS = 2.0
"""Expected errors of the centre that it may be found farther still."""
_FARTHEST_CENTRE = 0.5
"""Radii of the reference within which its centre of mass lies, if its density says where that is at all."""


@dataclass(frozen=True, eq=False)
class UnknownPoses:
    """Which poses are unknown, and why.

    Parameters
    ----------
    reasons : the rows of each reason, (N,) each; of several the first counts.
    notes : a line for each reason that there is.
    """

    reasons: dict[str, NDArray[np.bool_]]
    notes: tuple[Note, ...]

    @property
    def rows(self) -> NDArray[np.bool_]:
        """The rows of all reasons, (N,)."""
        return np.asarray(np.any(list(self.reasons.values()), axis=0), np.bool_)

    @property
    def column(self) -> NDArray[np.str_]:
        """The reason of each row, (N,), empty where there is none."""
        texts = np.full(len(self.rows), "", dtype=object)
        for reason, rows in reversed(self.reasons.items()):
            texts[rows] = reason
        return texts.astype(str)


def unknown_poses(poses: Poses, reference: Reference, *, max_shift: float, truncated: FloatArray) -> UnknownPoses:
    """The poses that are unknown, whatever their score.

    Parameters
    ----------
    poses : with shifts from the picks.
    max_shift : Å along each axis, as far as picks may be off.
    truncated : (N,) share of each particle outside the tomogram, 0 to 1.
    """
    found = {
        "outside the tomogram": (
            truncated > _MOST_OUTSIDE,
            "{} more than half outside the tomogram",
            "",
        ),
        "beyond the largest shift": (
            too_far(poses, reference, max_shift=max_shift),
            f"{{}} farther from the pick than a shift of {max_shift:g} Å along each axis allows",
            " Allow larger shifts if picks may be so far off.",
        ),
    }
    notes = [
        Note(
            f"{text.format(_count(int(rows.sum())))}: the pose is unknown, and the expected error says so.{advice}",
            "warning",
        )
        for rows, text, advice in found.values()
        if rows.any()
    ]
    return UnknownPoses({reason: rows for reason, (rows, *_) in found.items()}, tuple(notes))


def _count(count: int) -> str:
    return "1 particle lies" if count == 1 else f"{count} particles lie"


def too_far(poses: Poses, reference: Reference, *, max_shift: float) -> NDArray[np.bool_]:
    """Which particles were found farther from their picks than is allowed along an axis, (N,).

    Picks may refer to the reference's origin or to its centre of mass; the nearer one counts.
    """
    error = poses.shift_covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    allowed = max_shift + _SHIFT_SLACK + _CENTRE_ERRORS * error
    of_mass = poses.shifts + (poses.rotations @ centre_of_mass(reference).to(poses.rotations))
    far = [((shifts.abs() - allowed).amax(1) > 0) for shifts in (poses.shifts, of_mass)]
    return np.asarray((far[0] & far[1]).numpy())


def centre_of_mass(reference: Reference) -> Tensor:
    """Centre of mass of a reference, (3,) xyz in Å from its origin; the origin where its density has no mean."""
    centre = torch.tensor(reference.centre)
    return centre if float(centre.norm()) < _FARTHEST_CENTRE * reference.radius else torch.zeros(3)


def particle_side(reference: Reference, tomogram: Tomogram) -> int:
    """Voxels of a cube that holds a particle, even."""
    return 2 * math.ceil(reference.radius / tomogram.voxel_size)
