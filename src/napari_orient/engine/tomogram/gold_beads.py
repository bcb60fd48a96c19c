"""Gold beads (fiducial markers), their rays included: an image of each size, estimated from the beads, and subtracted.

Tilts are few and end at the missing wedge, and so a reconstruction spreads a bead over rays that reach hundreds of Å
beyond it; to fill the bead leaves them. Reconstruction is linear and the beads of one size are alike: about bead i,
at the voxel nearest to its centre, the density is ::

    d_i(v) = a_i M(v) - a_i s_i · ∇M(v) + e_i(v)

with M the image of a bead of that size, a_i its strength, s_i its shift of less than a voxel (to first order), and e_i
all else, particles and noise. M, a and s are estimated by alternating least squares, the largest beads first, each with
the others subtracted. Beads that touch are divided where their outline narrows: at the maxima of the distance from it.
M is shrunk towards 0 where it is no greater than its standard error (Wiener's filter, voxel by voxel): from few beads
only what is strongest is subtracted. A bead is its own inversion, and so is its image as far as the tilt images are
aligned: the even part of M is the mean of twice as many, and is there of two beads already.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.volumes.on_demand import ChangedDensity
from napari_orient.engine.particles import Density, FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import raw_cubes
from napari_orient.engine.streams import Note, Step, Stream, Work, stoppable
from napari_orient.engine.tomogram.voxel_outliers import OutlierLimits, estimate_outlier_limits

Volume = NDArray[np.float32]

_SAMPLE = 64
"""Picks that the usual density is read off, at most, and that are searched for any outlier at all."""
_REACH = 600.0
"""Å from a bead's centre that its image reaches to. With 400 Å a fiftieth more of the poses beside simulated beads are
wrong under a CTF; beyond 600 Å nothing was tried."""
_MOST_REACH = 60
"""Voxels that it reaches to, at most; bounds memory and time where voxels are small."""
_TAPER = 0.2
"""Share of the reach, at its end, over which the image is brought to 0."""
_BLOCK = 64
"""Voxels along the blocks in which beads are searched; memory only."""
_MARGIN = 16
"""Voxels about a block that are searched with it, to hold a bead of up to that size whole."""
_LEAST_VOXELS = 27
"""Voxels of outlying density that are a bead, at the least: a diameter of 3 to 4 voxels."""
_SIZE_GAP = 1.6
"""Ratio of volumes next to each other in order from which they are of two sizes. Simulated beads of one size differ by
1.2, by 1.5 where some are half outside; those of 10 and 15 nm by 3.4."""
_MOST_TOUCHING = 12
"""Beads that touch each other, at most; what has more parts is a film's edge or ice. Chosen."""
_LEAST_PART = 0.5
"""Distance from its outline of the middle of one of several beads, over that of the largest; less is a corner of it."""
_OUTLINE_BLUR = 1.5
"""Voxels, standard deviation of the Gaussian that outliers are smoothed by before their outline is drawn; as in
`voxel_outliers`."""
_BLOCK_OF_MAXIMUM = 15
"""Voxels of the cube whose largest density counts as that of a bead; 10 nm are 10 voxels of 10 Å. Chosen."""
_LEAST_OF_HIGHEST = 0.4
"""Density of a bead, smoothed, over that of the densest of those that rays join; of 5 beside 10 nm it is 0.5."""
_LEAST_OWN_INVERSION = 0.55
"""Correlation with its inversion below which a candidate may be the side of a bead. Simulated beads have 0.57 to 0.98,
sides of those of 15 nm under a contrast transfer up to 0.2, or 0.55 where they are small and three or more."""
_LEAST_INVERSION = 0.5
"""The same of two sides together, at the least: such beads have 0.6 to 0.7."""
_FARTHEST_SIDES = 1.6
"""Distance of two sides of a bead over the sum of the radii of balls of their volumes, at the most; simulated 0.8."""
_SHARE_OF_SIDE = 0.8
"""Share of a side's radius by which a bead reaches beyond the middle of it; chosen."""
_PADDING = 3
"""Voxels beside an outlier that its smoothed density reaches to."""
_DEPTH_BLUR = 0.7
"""Voxels, the same of distances from the outline: one maximum a bead."""
_BETWEEN_PARTS = 5
"""Voxels of the cube in which the middle of a bead is the only maximum; smaller beads have a diameter of 4."""
_LEAST_BEADS = 2
"""Beads from which their image is estimated."""
_LEAST_COPIES = 4
"""Beads and inversions of beads that a voxel of the image is the mean of, at the least: of fewer it would hold much of
the particles beside them."""
_CLUSTER = 2
"""Cores within which beads share a step: those that touch. With 4 beads apart do too, and too little of nine large ones
is subtracted: 67 % of the poses beside them are within 5° for 75 %."""
_ROUNDS = 3
"""Rounds of estimating the image, and strengths and shifts of the beads."""
_CORE_MARGIN = 3
"""Voxels beyond a bead's radius in which its shift counts."""
_HELD_RADII = 1.5
"""Radii of a bead from its centre within which a pick is on it: the half is what a pick may be off. Chosen."""
_LEAST_CORRELATION = 0.7
"""Correlation of a bead with the image, within the core, below which it is none and stays."""
_FIRST_CORRELATION = 0.4
"""The same in the first round, when beads that touch still hide each other: those of simulated clusters have 0.5."""
_FARTHEST_SHIFT = 3.0
"""Voxels by which a bead may lie off the centroid of its outlying voxels."""
_BLUR = 2.0
"""Voxels, standard deviation of the Gaussian over which image and standard error are compared."""


@dataclass(frozen=True, eq=False)
class BeadImage:
    """The image of a bead of one size, about its middle.

    Parameters
    ----------
    density : (n, n, n) M, centred on its middle voxel; n is odd.
    gradient : (3, m, m, m) its derivatives along z, y and x about the middle, per voxel; m is odd.
    """

    density: Volume
    gradient: Volume

    @classmethod
    def blank(cls, *, half: int, core: int) -> BeadImage:
        """An image that is not known yet, reaching so many voxels, and its derivatives."""
        side, inner = 2 * half + 1, 2 * min(core, half) + 1
        return cls(np.zeros((side,) * 3, np.float32), np.zeros((3, inner, inner, inner), np.float32))

    @property
    def core(self) -> int:
        """Voxels from the middle within which beads are compared with the image."""
        return int(self.gradient.shape[1]) // 2

    def times(self, factor: float) -> BeadImage:
        """The image of a stronger bead."""
        return BeadImage(self.density * np.float32(factor), self.gradient * np.float32(factor))


@dataclass(frozen=True, eq=False)
class GoldBeads:
    """The beads of a tomogram.

    Parameters
    ----------
    images : of a bead of each size.
    sizes : (B,) which of these a bead has.
    voxels : (B, 3) zyx, the voxels nearest to the beads' centres.
    strengths : (B, 4) what image and derivatives are multiplied by, 0 of what is unlike its image.
    """

    images: tuple[BeadImage, ...]
    sizes: NDArray[np.int_]
    voxels: NDArray[np.int_]
    strengths: FloatArray

    def __len__(self) -> int:
        return len(self.voxels)

    def subtract_from(self, block: Volume, corner: NDArray[np.int_], row: int) -> None:
        """Subtract a bead from a block (z, y, x) whose first voxel is ``corner``."""
        image = self.images[self.sizes[row]]
        for part, factor in zip((image.density, *image.gradient), self.strengths[row], strict=True):
            place = self.voxels[row] - len(part) // 2 - corner
            low, high = np.maximum(place, 0), np.minimum(place + len(part), block.shape)
            if factor and (high > low).all():
                there = tuple(map(slice, low, high))
                block[there] -= np.float32(factor) * part[tuple(map(slice, low - place, high - place))]

    @property
    def note(self) -> Note:
        """What is done with them, for a person."""
        return Note(f"{len(self)} gold beads and their rays are subtracted from the tomogram before it is matched.")

    def hold(self, positions: FloatArray, voxel_size: float) -> NDArray[np.bool_]:
        """Which positions (N, 3), xyz in Å, lie on a bead, where no particle's centre is, (N,)."""
        apart = np.linalg.norm(positions[:, None, ::-1] / voxel_size - self.voxels, axis=2)
        return np.asarray((apart < _HELD_RADII * self._radii).any(axis=1))

    def within(self, corner: NDArray[np.int_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which voxels of a block (z, y, x) that begins at a corner lie within a bead, or on its rim."""
        inside = np.zeros(shape, np.bool_)
        for voxel, radius in zip(self.voxels - corner, self._radii + 1, strict=True):
            low, high = np.maximum(voxel - radius, 0), np.minimum(voxel + radius + 1, shape)
            if (high > low).all():
                there = tuple(map(slice, low, high))
                off = [np.square(np.arange(first, last) - at) for first, last, at in zip(low, high, voxel, strict=True)]
                inside[there] |= off[0][:, None, None] + off[1][:, None] + off[2] <= radius**2
        return inside

    @property
    def _radii(self) -> NDArray[np.int_]:
        """Radius of each bead in voxels, (B,)."""
        return np.array([image.core - _CORE_MARGIN for image in self.images])[self.sizes]

    @property
    def alike(self) -> NDArray[np.bool_]:
        """Which are like their image, (B,): the others have no strength."""
        return np.asarray(self.strengths[:, 0] != 0)

    def take(self, rows: NDArray[np.bool_]) -> GoldBeads:
        """Some of the beads."""
        return replace(self, sizes=self.sizes[rows], voxels=self.voxels[rows], strengths=self.strengths[rows])

    def subtracted_from(self, tomogram: Tomogram) -> Tomogram:
        """The tomogram less its beads; they are subtracted whenever a part of it is read."""
        return replace(tomogram, density=WithoutBeads(tomogram.density, self))


@dataclass(frozen=True, eq=False)
class WithoutBeads(ChangedDensity):
    """A volume (Z, Y, X) less the beads in it."""

    beads: GoldBeads

    def _change(self, block: Volume, corner: NDArray[np.int_]) -> None:
        for row in range(len(self.beads)):
            self.beads.subtract_from(block, corner, row)


def find_gold_beads(
    tomogram: Tomogram, positions: FloatArray, *, radius: float, side: float
) -> Stream[Step, GoldBeads | None]:
    """The beads of `estimate_gold_beads`, with steps, the last of which notes them where there are any."""
    step = Step(0, 1, "Searching for gold beads")
    beads = yield from stoppable(estimate_gold_beads(tomogram, positions, radius=radius, side=side), step)
    if beads is not None:
        yield replace(step, notes=(beads.note,))
    return beads


def estimate_gold_beads(
    tomogram: Tomogram, positions: FloatArray, *, radius: float, side: float
) -> Work[GoldBeads | None]:
    """The beads whose rays reach patches of a tomogram; None where there are too few to know their image.

    Parameters
    ----------
    positions : (N, 3) xyz in Å of its picks, which show what density is usual.
    radius : Å, of the particle.
    side : Å, of the patches about the picks.
    """
    size, some = tomogram.voxel_size, positions[evenly_spaced_rows(len(positions), _SAMPLE)]
    limits = estimate_outlier_limits(raw_cubes(tomogram, some, side=2 * math.ceil(radius / size)))
    yield
    cubes = raw_cubes(tomogram, some, side=2 * math.ceil(side / 2 / size))
    if limits is None or all(limits.mask(cube) is None for cube in cubes):
        return None
    half = min(round(_REACH / size), _MOST_REACH)
    found = yield from _search(tomogram, positions, limits, far=side / 2 / size * math.sqrt(3) + half)
    groups = _size_groups(found)
    return (yield from _estimated(tomogram.density, groups, half=half)) if groups else None


# --- the search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Candidate:
    """What may be a bead: its centre (3,) zyx, voxels, and the sign of its density."""

    centre: FloatArray
    volume: float
    sign: float

    @property
    def radius(self) -> float:
        """Voxels of the ball of that volume."""
        return math.cbrt(3 * self.volume / (4 * math.pi))


def _search(tomogram: Tomogram, positions: FloatArray, limits: OutlierLimits, *, far: float) -> Work[list[_Candidate]]:
    """What may be beads within so many voxels of a pick: outliers of one sign, and not too small."""
    picks, shape = positions[:, ::-1] / tomogram.voxel_size, np.array(tomogram.density.shape)
    found: list[_Candidate] = []
    for step in np.ndindex(*(-(-shape // _BLOCK))):
        low = np.array(step) * _BLOCK
        high = np.minimum(low + _BLOCK, shape)
        if (np.linalg.norm(picks - picks.clip(low, high), axis=1) > far).all():
            continue
        found += _candidates(tomogram.density, low, high, limits)
        yield
    sign = np.sign(sum(item.sign * item.volume for item in found))
    found = [item for item in found if item.sign == sign and item.volume >= _LEAST_VOXELS]
    return (yield from _joined(tomogram.density, found))


def _joined(density: Density, found: list[_Candidate]) -> Work[list[_Candidate]]:
    """The candidates, those joined that are sides of one bead.

    A bead is its own inversion, and so are two that touch, each about its own centre. The sides of a large one, which a
    contrast transfer makes a shell and the missing wedge opens, are less so; about the middle between them they are.
    """
    own = {id(item): _inversion_correlation(density, item.centre, item.radius + 1) for item in found}
    yield
    joined, sides = [], [item for item in found if own[id(item)] < _LEAST_OWN_INVERSION]
    for first, second in combinations(sides, 2):
        apart = float(np.linalg.norm(first.centre - second.centre))
        if apart > _FARTHEST_SIDES * (first.radius + second.radius):
            continue
        centre = (first.centre + second.centre) / 2
        radius = apart / 2 + _SHARE_OF_SIDE * max(first.radius, second.radius)
        together = _inversion_correlation(density, centre, radius)
        if together > max(own[id(first)], own[id(second)]):
            joined.append((together, centre, radius))
        yield
    for value, centre, radius in sorted(joined, key=lambda item: -item[0]):
        parts = [item for item in found if np.linalg.norm(item.centre - centre) < radius]
        if value < _LEAST_INVERSION or sum(any(part is side for side in sides) for part in parts) < 2:
            continue
        found = [item for item in found if not any(item is part for part in parts)]
        found.append(_Candidate(centre, sum(part.volume for part in parts), parts[0].sign))
    return found


def _inversion_correlation(density: Density, centre: FloatArray, radius: float) -> float:
    """Correlation of the density in a ball with its inversion, at the best centre within a voxel."""
    reach = math.ceil(radius)
    corner = np.rint(centre).astype(int) - reach - 1
    low, high = np.maximum(corner, 0), np.minimum(corner + 2 * reach + 3, density.shape)
    block = np.array(density[tuple(map(slice, low, high))], np.float32)
    block[~np.isfinite(block)] = np.median(block[np.isfinite(block)])
    cube = np.zeros((2 * reach + 3,) * 3, np.float32)
    cube[tuple(map(slice, low - corner, high - corner))] = block - np.median(block)
    line = np.square(np.arange(-reach, reach + 1))
    inside = line[:, None, None] + line[:, None] + line <= radius**2
    best = -1.0
    for step in np.ndindex(3, 3, 3):
        part = cube[tuple(slice(first, first + 2 * reach + 1) for first in step)] * inside
        best = max(best, float((part * part[::-1, ::-1, ::-1]).sum() / max(float(np.square(part).sum()), 1e-12)))
    return best


def _candidates(
    density: Density, low: NDArray[np.int_], high: NDArray[np.int_], limits: OutlierLimits
) -> Iterator[_Candidate]:
    """The outliers, those that touch divided, whose centres lie in a block."""
    from scipy.ndimage import find_objects, gaussian_filter, label

    corner = np.maximum(low - _MARGIN, 0)
    cube = np.asarray(density[tuple(map(slice, corner, np.minimum(high + _MARGIN, density.shape)))], np.float32)
    mask = limits.mask(cube)
    if mask is None:
        return
    cube = np.where(np.isfinite(cube), cube, np.float32(0)) - np.float32(
        np.median(cube[~mask]) if not mask.all() else 0
    )
    labels, _ = label(mask)
    for number, box in enumerate(find_objects(labels), start=1):
        values = np.where(labels[box] == number, cube[box], 0.0)
        sign = float(np.sign((values * np.abs(values)).sum()))
        # Of either sign, and smoothed: under a contrast transfer a bead is shells of both.
        weight = gaussian_filter(np.pad(np.abs(values), _PADDING), _OUTLINE_BLUR)
        for voxels in _bead_voxels(weight):
            centre = voxels.mean(axis=0) - _PADDING + [part.start for part in box] + corner
            if ((centre >= low) & (centre < high)).all():
                yield _Candidate(centre, len(voxels), sign)


def _bead_voxels(weight: Volume) -> Iterator[NDArray[np.int_]]:
    """The voxels (n, 3) of each bead in an outlier, from its density, positive and smoothed, (z, y, x).

    What rings about a bead, and rays that join it to others, are weaker than half of it.
    """
    from scipy.ndimage import label, maximum_filter

    highest = maximum_filter(weight, _BLOCK_OF_MAXIMUM)
    parts, count = label(weight >= np.maximum(highest / 2, _LEAST_OF_HIGHEST * weight.max()))
    for number in range(1, count + 1):
        yield from _divided(parts == number)


def _divided(inside: NDArray[np.bool_]) -> list[NDArray[np.int_]]:
    """The voxels (n, 3) of each bead in an outlier (z, y, x), divided where its outline narrows; of ice none."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter

    voxels = np.argwhere(inside)
    depth = gaussian_filter(distance_transform_edt(inside), _DEPTH_BLUR)
    highest = (maximum_filter(depth, _BETWEEN_PARTS) == depth) & (depth >= _LEAST_PART * depth.max())
    middles, radii = np.argwhere(highest), depth[highest]
    if len(middles) == 1:
        return [voxels]
    if len(middles) > _MOST_TOUCHING:
        return []
    # To the ball whose surface is nearest, as of a power diagram.
    power = np.square(voxels[:, None] - middles).sum(axis=2) - np.square(radii)
    own = power.argmin(axis=1)
    return [voxels[own == number] for number in range(len(middles))]


@dataclass(frozen=True, eq=False)
class _SizeGroup:
    """Candidates of one size: the voxels nearest to their centres, (B, 3) zyx, and the typical volume in voxels."""

    voxels: NDArray[np.int_]
    volume: float

    @property
    def core(self) -> int:
        """Voxels from the middle within which beads are compared with their image."""
        return math.ceil(math.cbrt(3 * self.volume / (4 * math.pi))) + _CORE_MARGIN


def _size_groups(found: list[_Candidate]) -> list[_SizeGroup]:
    """The candidates by their size, the largest first; of a size of few nothing is known."""
    order = sorted(found, key=lambda item: -item.volume)
    volumes = np.array([item.volume for item in order])
    centres = np.array([item.centre for item in order]).reshape(-1, 3)
    ends = np.flatnonzero(volumes[:-1] > _SIZE_GAP * volumes[1:]) + 1
    groups = zip(np.split(centres, ends), np.split(volumes, ends), strict=True)
    return [
        _SizeGroup(np.rint(own).astype(int), float(np.median(sizes)))
        for own, sizes in groups
        if len(own) >= _LEAST_BEADS
    ]


# --- the image --------------------------------------------------------------------------------------------------------


def _estimated(density: Density, groups: Sequence[_SizeGroup], *, half: int) -> Work[GoldBeads | None]:
    """The beads of these sizes, the largest first, by alternating least squares; None where too few are alike."""
    sizes = np.repeat(np.arange(len(groups)), [len(group.voxels) for group in groups])
    # At first every bead has the strength 1, and an image that is not known.
    beads = GoldBeads(
        images=tuple(BeadImage.blank(half=half, core=group.core) for group in groups),
        sizes=sizes,
        voxels=np.concatenate([group.voxels for group in groups]),
        strengths=np.tile([1.0, 0.0, 0.0, 0.0], (len(sizes), 1)),
    )
    for least in np.linspace(_FIRST_CORRELATION, _LEAST_CORRELATION, _ROUNDS):
        for size in range(len(groups)):
            sums = yield from _sums(density, beads, size)
            beads = yield from _fitted(density, _with_image(beads, size, sums), size, least=least)
            own = beads.sizes == size
            if (own & beads.alike).sum() < _LEAST_BEADS:
                beads.strengths[own] = 0
    beads = beads.take(beads.alike)
    return beads if len(beads) else None


def _sums(density: Density, beads: GoldBeads, size: int) -> Work[Volume]:
    """Sums over the beads of a size that its image follows from, (4, n, n, n); see `_with_image`."""
    image = beads.images[size]
    half, core = len(image.density) // 2, image.core
    sums = np.zeros((4, *image.density.shape), np.float32)
    for row in np.flatnonzero((beads.sizes == size) & beads.alike).tolist():
        cube, valid = _alone(density, beads, row, half=half)
        cube -= np.median(cube[valid > 0]) * valid
        strength, *shift = beads.strengths[row]
        own = _middle(cube, core)
        own -= np.tensordot(np.float32(shift), image.gradient, 1)
        sums[0] += np.float32(strength) * cube
        sums[1] += np.float32(strength**2) * valid
        sums[2] += np.square(cube)
        sums[3] += valid
        yield
    return sums


def _with_image(beads: GoldBeads, size: int, sums: Volume) -> GoldBeads:
    """The beads with the image of a size from sums over its beads, (4, n, n, n).

    These are strength times density, squared strength, squared density, and number: where fewer beads or inversions of
    beads than `_LEAST_COPIES` lie so far inside the tomogram that a voxel of the image is there, it stays 0.
    """
    whole = _mean_image(beads, size, sums)
    # As of twice as many beads: each, and its inversion.
    symmetric = _mean_image(beads, size, sums + sums[:, ::-1, ::-1, ::-1])
    antisymmetric = (np.where(sums[3] >= _LEAST_COPIES, whole[0] - symmetric[0], 0), whole[1])
    image = (_shrunk(*symmetric) + _shrunk(*antisymmetric)) * _taper(len(symmetric[0]))
    middle = _middle(image, beads.images[size].core + 1)
    inner = slice(1, -1)
    gradient = np.stack([np.gradient(middle, axis=axis)[inner, inner, inner] for axis in range(3)])
    return _with_image_of(beads, size, BeadImage(image, gradient))


def _mean_image(beads: GoldBeads, size: int, sums: Volume) -> tuple[Volume, Volume]:
    """The mean of a size's beads from their sums, (n, n, n), and the square of its standard error."""
    match, weight, power, count = sums[0], np.maximum(sums[1], 1e-6), sums[2], sums[3]
    before = beads.images[size].density
    image = before + _undone_overlap(match / weight - before, beads, size)
    image[count < _LEAST_COPIES] = 0
    residual = np.maximum(power - match * image, 0) / np.maximum(count - 1, 1)
    return image, residual / weight


def _shrunk(image: Volume, square_error: Volume) -> Volume:
    """The image (n, n, n) as far as it is larger than its standard error, of which the square is given."""
    from scipy.ndimage import gaussian_filter

    error, square = gaussian_filter(square_error, _BLUR), gaussian_filter(np.square(image), _BLUR)
    shrunk: Volume = image * np.clip(1 - error / np.maximum(square, 1e-12), 0, 1)
    return shrunk


def _undone_overlap(step: Volume, beads: GoldBeads, size: int) -> Volume:
    """The step (n, n, n) from an image to the mean of its beads less the others, as far as these do not share it.

    The others were subtracted with the image as it was, and all beads of a cluster take any step. So the mean is the
    least squares' step times A(k) = Σ a_i a_j exp(-2πi k·(x_i - x_j)) / Σ a_i² over pairs that are near each other:
    the number of beads in a cluster, at frequencies that do not resolve it. Without this, the image of three beads that
    touch diverges.
    """
    from scipy.fft import irfftn, rfftn

    own = np.flatnonzero((beads.sizes == size) & beads.alike)
    apart = beads.voxels[own][:, None] - beads.voxels[own]
    near = np.abs(apart).max(axis=2) <= min(_CLUSTER * beads.images[size].core, len(step) // 2)
    strength = beads.strengths[own, 0]
    pairs = np.zeros(step.shape, np.float32)
    np.add.at(pairs, tuple(apart[near].T), np.outer(strength, strength)[near])
    overlap = rfftn(pairs).real / max(float(strength @ strength), 1e-12)
    undone: Volume = irfftn(rfftn(step) / np.maximum(overlap, 1), s=step.shape)
    return undone


def _with_image_of(beads: GoldBeads, size: int, image: BeadImage) -> GoldBeads:
    return replace(beads, images=(*beads.images[:size], image, *beads.images[size + 1 :]))


def _fitted(density: Density, beads: GoldBeads, size: int, *, least: float) -> Work[GoldBeads]:
    """The beads, those of a size with strengths and shifts fitted, one after the other.

    What correlates less than ``least`` with the image gets no strength.
    """
    image, rows = beads.images[size], np.flatnonzero(beads.sizes == size)
    parts = (_middle(image.density, image.core), *image.gradient)
    # The last part is what the density about the bead is without it.
    basis = np.stack([*parts, np.ones_like(parts[0])]).reshape(5, -1).astype(float)
    fitted = replace(beads, voxels=beads.voxels.copy(), strengths=beads.strengths.copy())
    for row in rows.tolist():
        cube, valid = _alone(density, fitted, row, half=image.core)
        weight, values = valid.ravel(), cube.ravel().astype(float)
        found = np.linalg.lstsq((basis * weight) @ basis.T, (basis * weight) @ values, rcond=None)[0]
        shift = -found[1:4] / found[0] if found[0] > 0 else np.full(3, np.inf)
        explained = found[0] * basis[0] + found[4]
        correlation = _correlation(explained[weight > 0], values[weight > 0])
        fitted.strengths[row] = 0
        if correlation >= least and np.abs(shift).max() <= _FARTHEST_SHIFT:
            whole = np.rint(shift)
            fitted.voxels[row] += whole.astype(int)
            fitted.strengths[row] = found[0] * np.array([1.0, *(whole - shift)])
        yield
    alike = fitted.strengths[rows, 0][fitted.alike[rows]]
    scale = float(alike.mean()) if len(alike) else 1.0
    fitted.strengths[rows] /= scale
    return _with_image_of(fitted, size, image.times(scale))


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Correlation of two lists of values (n,); 0 where one is constant."""
    first, second = first - first.mean(), second - second.mean()
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / max(lengths, 1e-12)


def _alone(density: Density, beads: GoldBeads, row: int, *, half: int) -> tuple[Volume, Volume]:
    """Density about a bead less the other beads, and 1 where it is in the tomogram; (n, n, n) each, n = 2 half + 1."""
    corner = beads.voxels[row] - half
    low, high = np.maximum(corner, 0), np.minimum(corner + 2 * half + 1, density.shape)
    block = np.array(density[tuple(map(slice, low, high))], np.float32)
    block[~np.isfinite(block)] = np.median(block[np.isfinite(block)])
    reach = len(beads.images[0].density) // 2
    near = np.abs(beads.voxels - beads.voxels[row]).max(axis=1) <= half + reach
    for other in np.flatnonzero(near).tolist():
        if other != row:
            beads.subtract_from(block, low, other)
    cube, valid = np.zeros((2, *(2 * half + 1,) * 3), np.float32)
    there = tuple(map(slice, low - corner, high - corner))
    cube[there], valid[there] = block, 1
    return cube, valid


def _middle(cube: Volume, core: int) -> Volume:
    """The middle (2 core + 1)³ voxels of a cube of odd side, as a view."""
    part = slice(len(cube) // 2 - core, len(cube) // 2 + core + 1)
    return cube[part, part, part]


def _taper(side: int) -> Volume:
    """A soft ball that fills a cube of odd side, (n, n, n)."""
    line = np.square((np.arange(side) - side // 2) / (side // 2))
    distance = np.sqrt(line[:, None, None] + line[:, None] + line)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((distance - 1) / _TAPER + 1, 0, 1)), np.float32)
