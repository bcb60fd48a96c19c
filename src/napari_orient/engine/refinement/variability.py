"""Variability: in what way particles differ from the template, and from each other, that many of them share.

With e_i the whitened residual of a particle in its pose, A_i the forward model there (amplitude, wedge, gain, rotation)
and n_i noise,

    e_i = z_i A_i v + n_i,

v is a volume in the template's frame, the *component*, and z_i the particle's *coordinate* along it: the leading one of
probabilistic principal components (Tipping & Bishop 1999, J. R. Stat. Soc. B 61:611), each particle with its own wedge
and noise, as in 3D variability analysis (Punjani & Fleet 2021, J. Struct. Biol. 213:107702). v is expected to have the
power spectrum of the template, P. Zero is the template itself: residuals are not centred.

1. **Gram matrix.** The residuals P^½ Aᵀe, in the ball that holds the template and scaled to length 1, give products of
   any two particles, in which the noise of neither counts; a particle's product with itself is left out. The leading
   eigenvector of the centred matrix holds the first coordinates.
2. **Null.** The same residuals, each in a frame rotated at random, have nothing in common. Their leading eigenvalue is
   what the particles' own must exceed.
3. **Expectation-maximisation**, where it does: v = (Σ z² AᵀA + 1/P)⁻¹ Σ z Aᵀe, and z_i = ⟨e_i, A_i v⟩ / |A_i v|², v
   being estimated without particle i, whose own noise would else be taken for variability.

A coordinate is given as |z A v| over the norm of the fitted template, r: 0 is the template, and at 1 what is different
is as strong as it.

**Error.** What differs displaces the pose, which absorbs most of it; the residual holds the rest. Of two parts that are
bent against each other, about hinges and axes at random, the larger part's rotation is off by

    δ² = κ r² s² tr H⁻¹ / (1 + (r² / ρ)²),

s being the score and H⁻¹ the Cramér-Rao bound of the rotation, nearly the same in little noise and in much: the farther
a part is bent, the more it pulls, until it no longer overlaps with its own image (`benchmarks/bending.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.model.gridding import Coefficients, ComponentGrid
from napari_orient.engine.particles import evenly_spaced_rows
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.residuals import concatenated, residuals
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.statistics.coordinate_groups import (
    TwoGroups,
    displacement_variance,
    leading_component,
    two_groups,
)
from napari_orient.engine.streams import Note, Work

LEAST_PARTICLES = 16
"""Particles from which their variability is asked for. Of 12, ratios of eigenvalues reach 2.2 by chance, of 16 1.4."""
_SAMPLE = 128
"""Particles that the component is estimated from, at most: 100 MB, and 5 ms each where there is one."""
_RESOLUTION = 40.0
"""Å, finest detail that counts. Of ribosomes a third of which is bent the eigenvalue is the same at 24, 30 and 50 Å."""
_PRIOR_SHARE = 0.1
"""Power of the component over the template's, in the prior; chosen."""
_NULL_DRAWS = 2
"""Times that the frames are rotated at random; single eigenvalues differ by 4 %."""
_NULL_SEED = 0
"""Seed of these rotations."""
_LEAST_RATIO = 1.5
"""Leading eigenvalue over that of the null from which particles differ. In simulated tomograms of one kind of particle
0.7 to 1.4 (72 subsets of 16 to 40); half of 70 bent by 20° 2.5, half of them another ribosome 4.4."""
_LEAST_VARIANCE = 0.01
"""Variance of the coordinates r, without the noise's, that is warned of: a tenth of the template, rms. Of one kind of
particle it is 0.001 to 0.005; half of them bent by 20° 0.03, lacking a subunit 0.18, another ribosome 0.26."""
_ROUNDS = 2
"""Rounds of expectation-maximisation; a third changes coordinates by less than their error."""

Cut = Callable[[Tensor], tuple[Tensor, Poses]]
"""Patches (N, n, n, n) of some rows of the particles, and their poses with shifts from the patches' centres."""


@dataclass(frozen=True, eq=False)
class Variability:
    """How particles of one tomogram differ from the template along the component that they have in common.

    Parameters
    ----------
    coordinates : (N,) r of every particle, signed; its mean is not negative.
    noise_variance : (N,) of the coordinates, of noise alone.
    groups : how they fall into two groups; None where one group describes them as well.
    """

    coordinates: Tensor
    noise_variance: Tensor
    groups: TwoGroups | None

    def widened(self, poses: Poses, *, likelihood_scale: float) -> Poses:
        """The same poses, whose errors count how far what differs displaces them.

        A particle expects at least what one like the template would, of its score, and the displacement.
        """
        own = poses.rotation_covariance.diagonal(dim1=1, dim2=2).sum(1)
        power = (self.coordinates.square() - self.noise_variance).clamp_min(0)
        # The bound falls with the square of the score: the same for all, times it, as among the half like the template.
        alike = power <= power.median()
        square = poses.score.square().clamp_min(1.0)
        scaled = (own * square)[alike].median()
        pull = displacement_variance(power, likelihood_scale * scaled)
        added = (scaled / square + pull - own).clamp_min(0)
        return poses.with_added_error(torch.rad2deg(added.sqrt()))

    @property
    def note(self) -> Note:
        """A warning to a person."""
        if self.groups is None:
            return Note(
                "the particles are not all alike: they differ from this template in one way, each by its own amount "
                "(orientVariability; 0 is the template). Classify them, or average those of similar values.",
                "warning",
            )
        differ = self.groups.above(self.coordinates.numpy())
        like, count = "below", int(differ.sum())
        if abs(self.groups.upper) < abs(self.groups.lower):
            like, count = "above", len(differ) - count
        return Note(
            f"the particles are not all alike: about {count} of {len(differ)} differ from the template in a way that "
            f"they have in common. Classify them, or take one group: orientVariability is {like} "
            f"{self.groups.limit:.2f} where they are like the template.",
            "warning",
        )


@torch.no_grad()
def estimate_variability(
    finder: PoseFinder, poses: Poses, cut: Cut, *, once: Tensor, batch: int
) -> Work[Variability | None]:
    """How the particles differ along their leading component; None where they do not beyond chance, or are few.

    Parameters
    ----------
    poses : of all particles of the tomogram.
    cut : patches of some of them.
    once : (N,) mask without duplicates, whose noise is alike.
    batch : patches that are cut together, at most.
    """
    right = (once & (finder.p_false(poses) < 0.5) & (poses.p_right > 0.5)).nonzero().squeeze(1)
    if len(right) < LEAST_PARTICLES:
        return None
    model = finder.full_model.within(_RESOLUTION).to("cpu")
    grid = ComponentGrid.for_reference(finder.reference.to("cpu"), model)

    def observed(rows: Tensor) -> Work[_Observed]:
        parts = []
        for some in rows.split(batch):
            parts.append(residuals(finder.reference, model, *cut(some)))
            yield
        taken = poses.take(rows)
        return _Observed(concatenated(parts), taken.amplitude.clamp_min(0), taken.score.clamp_min(1.0))

    sample = right[torch.as_tensor(evenly_spaced_rows(len(right), _SAMPLE))]
    patches = yield from observed(sample)
    products, diagonal = grid.back_projected(patches.residuals, patches.amplitude)
    yield
    first = yield from _first_coordinates(grid, patches, products)
    if first is None:
        return None
    sums = _Sums(grid, products, diagonal)
    own, whole = yield from _coordinates(sums, patches, first)
    noise = 1 / (finder.calibration.likelihood_scale * poses.score.clamp_min(1.0).square())
    if float(own.var() - noise[sample].mean()) < _LEAST_VARIANCE:
        return None
    coordinates = torch.zeros_like(poses.score).index_copy(0, sample, own)
    others = _others(len(coordinates), sample)
    for rows in others.split(batch) if len(others) else ():
        part = yield from observed(rows)
        coordinates[rows] = part.along(grid, whole)[1]
    sign = 1.0 if float(own.mean()) >= 0 else -1.0
    return Variability(sign * coordinates, noise, two_groups((sign * own).double().numpy()))


def _others(count: int, rows: Tensor) -> Tensor:
    """Those of so many rows that are not among some of them, in order."""
    others = torch.ones(count, dtype=torch.bool)
    others[rows] = False
    return others.nonzero().squeeze(1)


@dataclass(frozen=True, eq=False)
class _Observed:
    """Residuals of N particles, the amplitudes of the template there, and their scores."""

    residuals: Coefficients
    amplitude: Tensor
    score: Tensor

    def take(self, rows: Tensor) -> _Observed:
        return _Observed(self.residuals.take(rows), self.amplitude[rows], self.score[rows])

    def in_random_frames(self, generator: np.random.Generator) -> Coefficients:
        """The residuals, each in a frame rotated at random: nothing in them lies in the same place any more."""
        rotations = self.residuals.rotations
        turned = torch.as_tensor(random_rotations(len(rotations), generator)).to(rotations)
        return replace(self.residuals, rotations=rotations @ turned)

    def along(self, grid: ComponentGrid, component: Tensor) -> tuple[Tensor, Tensor]:
        """Z and the coordinate r of each particle along a component's transform (K,), (N,) each."""
        part = self.residuals
        image = grid.projected(component, part.frequency, part.rotations) * self.amplitude[:, None]
        product = (part.weight * (image.conj() * part.values).real).sum(1)
        square = (part.weight * image.abs().square()).sum(1).clamp_min(1e-12)
        return product / square, product / (square.sqrt() * self.score)


def _leading(grid: ComponentGrid, products: Tensor) -> tuple[float, Tensor]:
    """Eigenvalue and eigenvector (N,) of what N particles have in common, as volumes; see `leading_component`."""
    volumes = torch.nn.functional.normalize(grid.volumes(products * grid.power.sqrt()))
    return leading_component(volumes)


def _first_coordinates(grid: ComponentGrid, patches: _Observed, products: Tensor) -> Work[Tensor | None]:
    """Coordinates (N,) by the Gram matrix; None where residuals in random frames have as much in common."""
    eigenvalue, found = _leading(grid, products)
    generator, null = np.random.default_rng(_NULL_SEED), 0.0
    for _ in range(_NULL_DRAWS):
        elsewhere, _ = grid.back_projected(patches.in_random_frames(generator), patches.amplitude)
        null += _leading(grid, elsewhere)[0] / _NULL_DRAWS
        yield
    return found if eigenvalue > _LEAST_RATIO * null else None


@dataclass(frozen=True, eq=False)
class _Sums:
    """Aᵀe and the diagonal of AᵀA of N particles, (N, K) each, that components are estimated from."""

    grid: ComponentGrid
    products: Tensor
    diagonal: Tensor

    def component(self, z: Tensor, *, left_out: int | None = None) -> Tensor:
        """The component's transform (K,) for coordinates z (N,), without one of the particles."""
        if left_out is not None:
            z = z.index_fill(0, torch.tensor([left_out]), 0.0)
        products, diagonal = z.to(self.products) @ self.products, z.square() @ self.diagonal
        prior = _PRIOR_SHARE * self.grid.power
        return self.grid.transform(self.grid.volumes(prior * products / (prior * diagonal + 1)))


def _coordinates(sums: _Sums, patches: _Observed, z: Tensor) -> Work[tuple[Tensor, Tensor]]:
    """Coordinates r (N,) along components estimated without each particle; and the component of all, (K,)."""
    for _ in range(_ROUNDS):
        z = z / z.square().mean().sqrt()
        found = []
        for row in range(len(z)):
            found.append(patches.take(torch.tensor([row])).along(sums.grid, sums.component(z, left_out=row)))
            yield
        z, coordinates = (torch.cat(column) for column in zip(*found, strict=True))
    return coordinates, sums.component(z / z.square().mean().sqrt())
