"""Variability of the views of a tomogram's picks: in what way particles differ that a network has posed.

A network has no map to compare particles with, but in the poses that it finds they have one in common. With v_i the
whitened view of pick i (`average_score`), low-passed, and m the views' mean by probability, each view is stripped of m
and brought to length 1. What is left is noise, what the missing wedge takes from m, and what the particle has that
others lack:

1. **Wedge.** What a wedge takes depends on how the particle lies in the tomogram, as a tensor of rank 2 does for the
   most part: the residuals' regression on the tensors of the wedge's axes in the particle's frame is subtracted.
2. **Gram matrix** of the rest, without its diagonal, in which no particle's own noise counts. Its leading eigenvector
   u weighs the residuals to a *component*, Σ u_j r_j.
3. **Null.** The same residuals, each in one of the cube's 24 rotations at random, have nothing in common. Their leading
   eigenvalue is what the particles' own must exceed, and by so much that what differs, (λ - λ₀) / N of a residual's
   power, is no small share of the particle's.

A particle's *coordinate* is its part along the component of the others, over that along m. What differs from those that
the network fits best displaces the pose, by as much as in a template's (`refinement.variability`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.networks.average_score import PosedPatches
from napari_orient.engine.parameters import MixtureOptions
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.statistics.coordinate_groups import (
    TwoGroups,
    best_two_groups,
    displacement_variance,
    leading_component,
)
from napari_orient.engine.streams import Note

_LEAST_PICKS = 24
"""Right poses from which their variability is asked for: of fewer, two equal groups do not show either."""
_RESOLUTION = 50.0
"""Å, finest detail that counts, where the mask's radius is 130 Å. The ratios below are at 30 Å 1.9, 2.1 and 3.2."""
_LEAST_RATIO = 1.3
"""Leading eigenvalue over that of the null from which particles differ. In simulated tomograms of one kind of particle
it is 0.8 to 1.2; half of 70 bent by 20° 2.8, 50S subunits 3.3, another ribosome 4.4; half of 32 1.5, 1.7 and 2.5."""
_LEAST_STRENGTH = 0.018
"""Mean power of what particles have of the component, over that along the mean, from which they differ. Half of 70 bent
by 20° have 0.026 to 0.040, 50S subunits 0.037 to 0.073, another ribosome 0.10 to 0.13, denoised or not; of ribosomes
alone, strong non-local means makes up to 0.012: it acts on a particle by its noise."""
_NULL_DRAWS = 4
"""Times that the residuals are rotated at random; single eigenvalues differ by 4 %."""
_NULL_SEED = 0
"""Seed of these rotations."""
_LEAST_PART = 0.1
"""Of the median part along the mean that a particle's own is taken for, at least: it divides the coordinate. Chosen."""
_SIGNIFICANT = 3.0
"""Standard errors by which the log-odds of one group must be lower for it to be said that it fits less well."""


@dataclass(frozen=True, eq=False)
class ViewVariability:
    """How the views of one tomogram's picks differ along the component that they have in common.

    Parameters
    ----------
    sample : the picks that it is estimated from, those with right poses.
    mean : (F,) of their views, of length 1.
    wedge : of the missing wedge on what differs from the mean.
    residuals : (M, F) of the sample.
    weights : (M,) the eigenvector, by which the residuals make the component.
    typical : median part of the sample's views along the mean.
    unit_bound_deg2 : see `unit_bound_deg2`.
    low_pass : of views.
    radius : Å about a pick within which no pick counts in the component that it is compared with.
    """

    sample: PosedPatches
    mean: Tensor
    wedge: WedgeRegression
    residuals: Tensor
    weights: Tensor
    typical: float
    unit_bound_deg2: float
    low_pass: ViewLowPass
    radius: float

    @classmethod
    def estimate(
        cls,
        sample: PosedPatches,
        right: Tensor,
        *,
        axes: Tensor,
        voxels: Tensor,
        options: MixtureOptions,
        radius: float,
    ) -> ViewVariability | None:
        """How the picks differ; None where they do not beyond chance, or few poses are right.

        Parameters
        ----------
        right : (M,) probabilities of right poses.
        axes : (2, 3) principal axes of the missing wedge in the tomogram.
        voxels : (24, F) index into a flattened cube of each voxel of a view, in each of the cube's rotations.
        options : of the network, which say how large that cube is.
        """
        # Picks of one particle once: their noise is the same.
        close = ~sample.apart_from(sample, radius)
        rows = ((right > 0.5) & ~close.tril(-1).any(1)).nonzero().squeeze(1)
        if len(rows) < _LEAST_PICKS:
            return None
        sample, right = sample.take(rows), right[rows].to(sample.views)
        low_pass = ViewLowPass(voxels[0], options.view_side, options.box / (_RESOLUTION * options.scale))
        views = low_pass(sample.views)
        mean = torch.nn.functional.normalize(right @ views, dim=0)
        stripped = _stripped(views, mean)
        wedge = WedgeRegression.estimate(stripped, sample.rotations, axes)
        residuals = wedge.subtracted_from(stripped, sample.rotations)
        value, weights = leading_component(residuals)
        null = _null(stripped, _cube_views(voxels), wedge, sample.rotations)
        along_mean = views @ mean
        typical = float(along_mean.median())
        strength = (value - null) / len(views) * _rest_over_mean(views, along_mean, typical)
        if value < _LEAST_RATIO * null or strength < _LEAST_STRENGTH:
            return None
        halves = (views[::2].mean(0), views[1::2].mean(0))
        bound = unit_bound_deg2(low_pass, *halves)
        found = cls(sample, mean, wedge, residuals, weights, typical, bound, low_pass, radius)
        both = torch.stack([found.coordinates(sample), sample.log_odds.to(weights)])
        # What fits the network less is positive.
        return replace(found, weights=-weights) if float(torch.corrcoef(both)[0, 1]) > 0 else found

    def coordinates(self, patches: PosedPatches) -> Tensor:
        """Coordinates (N,) of patches; 0 where no pick of the sample is left to compare with."""
        views = self.low_pass(patches.views)
        rest = self.wedge.subtracted_from(_stripped(views, self.mean), patches.rotations)
        components = (patches.apart_from(self.sample, self.radius).to(self.weights) * self.weights) @ self.residuals
        along = (rest * components).sum(1) / components.norm(dim=1).clamp_min(1e-6)
        of_mean = views @ self.mean
        length = (views.square().sum(1) - of_mean.square()).clamp_min(0).sqrt()
        found: Tensor = along * length / of_mean.clamp_min(_LEAST_PART * self.typical)
        return found

    @cached_property
    def groups(self) -> TwoGroups:
        """The two groups that the sample's coordinates fall into best; the network fits the lower one better."""
        return best_two_groups(self.coordinates(self.sample).double().numpy())

    def displacement_deg(self, coordinates: Tensor) -> Tensor:
        """Error (N,) in degrees that what differs from the lower group adds to poses of these coordinates (N,)."""
        power = ((coordinates - self.groups.lower).square() - self.groups.variance).clamp_min(0)
        return displacement_variance(power, self.unit_bound_deg2).sqrt()

    @property
    def note(self) -> Note:
        """A warning to a person."""
        coordinates, log_odds = self.coordinates(self.sample).double().numpy(), self.sample.log_odds.double().numpy()
        groups, how = self.groups, "each by its own amount (orientVariability)"
        if groups.distinct:
            above = groups.above(coordinates)
            less = _fits_less(log_odds[above], log_odds[~above])
            how = (
                f"and fall into two groups: of {len(above)} compared, {above.sum()} have orientVariability above "
                f"{groups.limit:.2f}{', and fit this network less' if less else ''}"
            )
        return Note(
            f"the particles are not all alike: in the poses found they differ from each other in one way, {how}. "
            "Classify them, or average those of similar values.",
            "warning",
        )


@dataclass(frozen=True, eq=False)
class ViewLowPass:
    """Low-pass of views, given on some voxels of a cube, and how they change as they rotate.

    Parameters
    ----------
    voxels : (F,) indices into the flattened cube.
    side : of the cube, in voxels.
    highest : frequency that is kept, in steps of the cube's spectrum.
    """

    voxels: Tensor
    side: int
    highest: float

    def __call__(self, views: Tensor) -> Tensor:
        """Views (N, F), low-passed."""
        return self._filtered(views, (_half_spectrum(self.side).square().sum(-1) <= self.highest**2).float())

    def rotation_derivatives(self, view: Tensor) -> Tensor:
        """Change of a view (F,) a radian as it rotates about x, y and z, (3, F)."""
        slopes = 2j * torch.pi / self.side * _half_spectrum(self.side).movedim(-1, 0)
        gradient = torch.stack([self._filtered(view[None], slope)[0] for slope in slopes], dim=1)
        z, rest = torch.div(self.voxels, self.side**2, rounding_mode="floor"), self.voxels % self.side**2
        place = torch.stack([rest % self.side, torch.div(rest, self.side, rounding_mode="floor"), z], dim=1)
        change: Tensor = torch.linalg.cross(gradient, (place - self.side // 2).to(gradient)).T
        return change

    def _filtered(self, views: Tensor, transfer: Tensor) -> Tensor:
        """Views (N, F) times a transfer (m, m, m // 2 + 1) in Fourier space."""
        cubes = views.new_zeros(len(views), self.side**3)
        cubes[:, self.voxels] = views
        spectra = torch.fft.rfftn(cubes.view(-1, *[self.side] * 3), dim=(1, 2, 3)) * transfer
        found: Tensor = torch.fft.irfftn(spectra, s=[self.side] * 3, dim=(1, 2, 3))
        return found.flatten(1)[:, self.voxels]


def unit_bound_deg2(low_pass: ViewLowPass, first: Tensor, second: Tensor) -> float:
    """Sum of a rotation's variances in degrees² (Cramér-Rao) in noise as strong as the particle.

    Parameters
    ----------
    first, second : (F,) means of two halves of the views, whose noise has nothing in common.
    """
    changes, others = low_pass.rotation_derivatives(first), low_pass.rotation_derivatives(second)
    information = changes @ others.T / (first @ second).clamp_min(1e-12)
    values = torch.linalg.eigvalsh((information + information.T) / 2)
    return float(torch.rad2deg(1 / values.clamp_min(1.0).sqrt()).square().sum())


@dataclass(frozen=True, eq=False)
class WedgeRegression:
    """What the missing wedge makes of views that differ in their rotations alone.

    Parameters
    ----------
    axes : (2, 3) principal axes of the wedge in the tomogram.
    coefficients : (11, F) of a constant, and of each axis' tensor in the particle's frame.
    """

    axes: Tensor
    coefficients: Tensor

    @classmethod
    def estimate(cls, views: Tensor, rotations: Tensor, axes: Tensor) -> WedgeRegression:
        """The least-squares coefficients for views (N, F) of particles with rotations (N, 3, 3)."""
        return cls(axes, torch.linalg.pinv(_tensors(rotations, axes)) @ views)

    def subtracted_from(self, views: Tensor, rotations: Tensor) -> Tensor:
        """Views (N, F) less what the wedge makes of them."""
        return views - _tensors(rotations, self.axes) @ self.coefficients


def wedge_axes(power: Tensor) -> Tensor:
    """The principal axes (2, 3), xyz, of the missing wedge, by the mean power (m, m, m // 2 + 1) of half-spectra.

    Those of the tensor Σ P(k) k kᵀ / |k|² with the least value, the beam, and with the largest; the third axis' tensor
    follows from theirs.
    """
    direction = torch.nn.functional.normalize(_half_spectrum(power.shape[0]).reshape(-1, 3), dim=1)
    # What is not at x = 0 stands for its Friedel mate too.
    weight = power.flatten() * (1 + (direction[:, 0] > 0).to(power))
    axes: Tensor = torch.linalg.eigh(direction.T @ (weight[:, None] * direction)).eigenvectors.T
    return axes[[0, 2]]


def _half_spectrum(side: int) -> Tensor:
    """Frequencies (m, m, m // 2 + 1, 3), xyz, of the half-spectrum of a cube, in its steps."""
    line, half = torch.fft.fftfreq(side, 1 / side), torch.arange(side // 2 + 1.0)
    z, y, x = torch.meshgrid(line, line, half, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def _cube_views(voxels: Tensor) -> Tensor:
    """The voxel of a view that each of its voxels (24, F) shows in each of the cube's rotations, (24, F)."""
    place = torch.zeros(int(voxels.max()) + 1, dtype=torch.long)
    return place.scatter(0, voxels[0], torch.arange(voxels.shape[1]))[voxels]


def _stripped(views: Tensor, mean: Tensor) -> Tensor:
    """Views (N, F) less their part along the mean, of length 1."""
    return torch.nn.functional.normalize(views - (views @ mean)[:, None] * mean, dim=1)


def _rest_over_mean(views: Tensor, along_mean: Tensor, typical: float) -> float:
    """Median power of views (N, F) beside their mean, over that along it (N,), whose median is ``typical``."""
    mean_power = along_mean.square()
    least = (_LEAST_PART * typical) ** 2
    return float(((views.square().sum(1) - mean_power) / mean_power.clamp_min(least)).median())


def _tensors(rotations: Tensor, axes: Tensor) -> Tensor:
    """A constant, and the five components of each axis' traceless tensor in the frames of particles, (N, 11)."""
    columns = [torch.ones(len(rotations))]
    for axis in axes:
        x, y, z = (axis.to(rotations) @ rotations).float().unbind(1)
        columns += [x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1]
    return torch.stack(columns, dim=1)


def _null(views: Tensor, cube_views: Tensor, wedge: WedgeRegression, rotations: Tensor) -> float:
    """Mean leading eigenvalue of views (N, F) that have nothing in common, being rotated at random."""
    generator, values = np.random.default_rng(_NULL_SEED), []
    for _ in range(_NULL_DRAWS):
        drawn = torch.from_numpy(generator.integers(len(cube_views), size=len(views)))
        rotated = views.gather(1, cube_views[drawn])
        again = WedgeRegression.estimate(rotated, rotations, wedge.axes)
        values.append(leading_component(again.subtracted_from(rotated, rotations))[0])
    return float(np.mean(values))


def _fits_less(first: FloatArray, second: FloatArray) -> bool:
    """Whether log-odds (N,) are lower than others (M,), beyond chance."""
    error = np.sqrt(first.var() / len(first) + second.var() / len(second))
    return bool(second.mean() - first.mean() > _SIGNIFICANT * error)
