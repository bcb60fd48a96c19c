"""Gold beads (fiducial markers), their rays included: one image, estimated from the beads themselves, and subtracted.

Tilts are few and end at the missing wedge, and so a reconstruction spreads a bead over rays that reach hundreds of Å
beyond it; to fill the bead leaves them. Reconstruction is linear and the beads of a tomogram are alike: about bead i,
at the voxel nearest to its centre, the density is ::

    d_i(v) = a_i M(v) - a_i s_i · ∇M(v) + e_i(v)

with M the image of a bead, a_i its strength, s_i its shift of less than a voxel (to first order), and e_i all else,
particles and noise. M, a and s are estimated by alternating least squares, each bead with the others subtracted. M is
shrunk towards 0 where it is no greater than its standard error (Wiener's filter, voxel by voxel): from few beads only
what is strongest is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.changed_density import ChangedDensity
from napari_orient.engine.particles import Density, FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import raw_cubes
from napari_orient.engine.streams import Note, Step, Stream, Work, stoppable
from napari_orient.engine.voxel_outliers import OutlierLimits, estimate_outlier_limits

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
_LEAST_VOLUME = 1 / 3
"""Volume of a bead over the median, at the least."""
_MOST_TOUCHING = 4
"""Beads that touch each other, at most; what is larger is a film's edge or ice."""
_LEAST_BEADS = 4
"""Beads from which their image is estimated: of fewer it would hold much of the particles beside them."""
_SWEEPS = 5
"""Sweeps of k-means over beads that touch; the fits mend what is left."""
_ROUNDS = 3
"""Rounds of estimating the image, and strengths and shifts of the beads."""
_CORE_MARGIN = 3
"""Voxels beyond a bead's radius in which its shift counts."""
_HELD_RADII = 1.5
"""Radii of a bead from its centre within which a pick is on it: the half is what a pick may be off. Chosen."""
_LEAST_CORRELATION = 0.7
"""Correlation of a bead with the image, within the core, below which it is none and stays."""
_FARTHEST_SHIFT = 3.0
"""Voxels by which a bead may lie off the centroid of its outlying voxels."""
_BLUR = 2.0
"""Voxels, standard deviation of the Gaussian over which image and standard error are compared."""
_CAUTION = 2.0
"""Factor of the squared standard error that the image is shrunk by: beyond the rays nothing is left of it."""


@dataclass(frozen=True, eq=False)
class GoldBeads:
    """The beads of a tomogram.

    Parameters
    ----------
    image : (n, n, n) M, centred on its middle voxel; n is odd.
    gradient : (3, m, m, m) its derivatives along z, y and x about the middle, per voxel; m is odd.
    voxels : (B, 3) zyx, the voxels nearest to the beads' centres.
    strengths : (B, 4) what image and derivatives are multiplied by.
    """

    image: Volume
    gradient: Volume
    voxels: NDArray[np.int_]
    strengths: FloatArray

    def __len__(self) -> int:
        return len(self.voxels)

    def add_to(self, block: Volume, corner: NDArray[np.int_], row: int, *, sign: float = 1.0) -> None:
        """Add a bead, times ``sign``, to a block (z, y, x) whose first voxel is ``corner``."""
        for part, factor in zip((self.image, *self.gradient), sign * self.strengths[row], strict=True):
            place = self.voxels[row] - len(part) // 2 - corner
            low, high = np.maximum(place, 0), np.minimum(place + len(part), block.shape)
            if factor and (high > low).all():
                there = tuple(map(slice, low, high))
                block[there] += np.float32(factor) * part[tuple(map(slice, low - place, high - place))]

    @property
    def note(self) -> Note:
        """What is done with them, for a person."""
        return Note(f"{len(self)} gold beads and their rays are subtracted from the tomogram before it is matched.")

    def hold(self, positions: FloatArray, voxel_size: float) -> NDArray[np.bool_]:
        """Which positions (N, 3), xyz in Å, lie on a bead, where no particle's centre is, (N,)."""
        apart = np.linalg.norm(positions[:, None, ::-1] / voxel_size - self.voxels, axis=2).min(axis=1)
        return np.asarray(apart < _HELD_RADII * (len(self.gradient[0]) // 2 - _CORE_MARGIN))

    def subtracted_from(self, tomogram: Tomogram) -> Tomogram:
        """The tomogram less its beads; they are subtracted whenever a part of it is read."""
        return replace(tomogram, density=WithoutBeads(tomogram.density, self))


@dataclass(frozen=True, eq=False)
class WithoutBeads(ChangedDensity):
    """A volume (Z, Y, X) less the beads in it."""

    beads: GoldBeads

    def _change(self, block: Volume, corner: NDArray[np.int_]) -> None:
        for row in range(len(self.beads)):
            self.beads.add_to(block, corner, row, sign=-1.0)


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
    if len(found) < _LEAST_BEADS:
        return None
    usual = float(np.median([len(item.voxels) for item in found]))
    centres = np.concatenate([_centres(item, usual) for item in found])
    core = math.ceil((3 * usual / (4 * math.pi)) ** (1 / 3)) + _CORE_MARGIN
    return (yield from _estimated(tomogram.density, np.rint(centres).astype(int), half=half, core=min(core, half)))


# --- the search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Outlier:
    """Outlying voxels that touch each other, (n, 3) zyx, and the sign of their density."""

    voxels: NDArray[np.int_]
    sign: float


def _search(tomogram: Tomogram, positions: FloatArray, limits: OutlierLimits, *, far: float) -> Work[list[_Outlier]]:
    """What may be beads within so many voxels of a pick: outliers of one sign, and not too small."""
    picks, shape = positions[:, ::-1] / tomogram.voxel_size, np.array(tomogram.density.shape)
    found: list[_Outlier] = []
    for step in np.ndindex(*(-(-shape // _BLOCK))):
        low = np.array(step) * _BLOCK
        high = np.minimum(low + _BLOCK, shape)
        if (np.linalg.norm(picks - picks.clip(low, high), axis=1) > far).all():
            continue
        found += [item for item in _outliers(tomogram.density, low, high, limits) if len(item.voxels) >= _LEAST_VOXELS]
        yield
    if not found:
        return []
    sign = np.sign(sum(item.sign * len(item.voxels) for item in found))
    return [item for item in found if item.sign == sign]


def _centres(outlier: _Outlier, usual: float) -> FloatArray:
    """The centres (k, 3) of the beads in an outlier, given a bead's usual number of voxels; none of what is no bead."""
    voxels = outlier.voxels.astype(float)
    count = max(round(len(voxels) / usual), 1)
    if len(voxels) < _LEAST_VOLUME * usual or count > _MOST_TOUCHING:
        return np.zeros((0, 3))
    centres: FloatArray = voxels.mean(axis=0, keepdims=True)
    if count == 1:
        return centres
    # k-means, begun with voxels that lie far from each other.
    centres = voxels[np.linalg.norm(voxels - centres, axis=1).argmax()][None]
    while len(centres) < count:
        nearest = np.linalg.norm(voxels[:, None] - centres, axis=2).min(axis=1)
        centres = np.concatenate([centres, voxels[nearest.argmax()][None]])
    for _ in range(_SWEEPS):
        own = np.linalg.norm(voxels[:, None] - centres, axis=2).argmin(axis=1)
        centres = np.stack([voxels[own == number].mean(axis=0) for number in range(count)])
    return centres


def _outliers(
    density: Density, low: NDArray[np.int_], high: NDArray[np.int_], limits: OutlierLimits
) -> Iterator[_Outlier]:
    """The outliers whose centroids lie in a block."""
    from scipy.ndimage import find_objects, label

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
        weight = np.maximum(sign * values, 0)
        # Half of the largest density is a bead's own; what rings about it is weaker.
        weight[weight < weight.max() / 2] = 0
        if not weight.any():
            continue
        voxels = np.argwhere(weight) + [part.start for part in box] + corner
        centre = voxels.mean(axis=0)
        if ((centre >= low) & (centre < high)).all():
            yield _Outlier(voxels, sign)


# --- the image --------------------------------------------------------------------------------------------------------


def _estimated(density: Density, voxels: NDArray[np.int_], *, half: int, core: int) -> Work[GoldBeads | None]:
    """The beads about these voxels (B, 3), by alternating least squares; None where too few are alike."""
    shape = (2 * half + 1,) * 3
    # At first every bead has the strength 1, and an image that is not known.
    strengths = np.tile([1.0, 0.0, 0.0, 0.0], (len(voxels), 1))
    beads = GoldBeads(np.zeros(shape, np.float32), np.zeros((3, *(2 * core + 1,) * 3), np.float32), voxels, strengths)
    for _ in range(_ROUNDS):
        sums = np.zeros((4, *shape), np.float32)
        for row in range(len(beads)):
            cube, valid = _alone(density, beads, row, half=half)
            cube -= np.median(cube[valid > 0]) * valid
            strength, *shift = beads.strengths[row]
            own = _middle(cube, core)
            own -= np.tensordot(np.float32(shift), beads.gradient, 1)
            sums[0] += np.float32(strength) * cube
            sums[1] += np.float32(strength**2) * valid
            sums[2] += np.square(cube)
            sums[3] += valid
            yield
        beads = _with_image(beads, sums, core=core)
        beads = yield from _fitted(density, beads, core=core)
        if len(beads) < _LEAST_BEADS:
            return None
    return beads


def _with_image(beads: GoldBeads, sums: Volume, *, core: int) -> GoldBeads:
    """The beads with their image from sums over beads, (4, n, n, n).

    These are strength times density, squared strength, squared density, and number: where fewer beads than
    `_LEAST_BEADS` lie so far inside the tomogram that a voxel of the image is there, it stays 0.
    """
    from scipy.ndimage import gaussian_filter

    match, weight, power, count = sums[0], np.maximum(sums[1], 1e-6), sums[2], sums[3]
    image = match / weight
    image[count < _LEAST_BEADS] = 0
    residual = np.maximum(power - match * image, 0) / np.maximum(count - 1, 1)
    error = gaussian_filter(residual / weight, _BLUR)
    image *= np.clip(1 - _CAUTION * error / np.maximum(gaussian_filter(np.square(image), _BLUR), 1e-12), 0, 1)
    image *= _taper(len(image))
    middle = _middle(image, core + 1)
    inner = slice(1, -1)
    gradient = np.stack([np.gradient(middle, axis=axis)[inner, inner, inner] for axis in range(3)])
    return replace(beads, image=image, gradient=gradient)


def _fitted(density: Density, beads: GoldBeads, *, core: int) -> Work[GoldBeads]:
    """The beads with strengths and shifts fitted, without those that are unlike the image."""
    parts = (_middle(beads.image, core), *beads.gradient)
    # The last part is what the density about the bead is without it.
    basis = np.stack([*parts, np.ones_like(parts[0])]).reshape(5, -1).astype(float)
    voxels, strengths, alike = beads.voxels.copy(), beads.strengths.copy(), np.ones(len(beads), bool)
    for row in range(len(beads)):
        cube, valid = _alone(density, beads, row, half=core)
        weight, values = valid.ravel(), cube.ravel().astype(float)
        found = np.linalg.lstsq((basis * weight) @ basis.T, (basis * weight) @ values, rcond=None)[0]
        shift = -found[1:4] / found[0] if found[0] > 0 else np.full(3, np.inf)
        explained = found[0] * basis[0] + found[4]
        correlation = _correlation(explained[weight > 0], values[weight > 0])
        alike[row] = correlation >= _LEAST_CORRELATION and np.abs(shift).max() <= _FARTHEST_SHIFT
        if alike[row]:
            whole = np.rint(shift)
            voxels[row] += whole.astype(int)
            strengths[row] = found[0] * np.array([1.0, *(whole - shift)])
        yield
    scale = strengths[alike, 0].mean() if alike.any() else 1.0
    return replace(
        beads,
        image=beads.image * np.float32(scale),
        gradient=beads.gradient * np.float32(scale),
        voxels=voxels[alike],
        strengths=strengths[alike] / scale,
    )


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
    near = np.abs(beads.voxels - beads.voxels[row]).max(axis=1) <= half + len(beads.image) // 2
    for other in np.flatnonzero(near).tolist():
        if other != row:
            beads.add_to(block, low, other, sign=-1.0)
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
