"""Particles placed in a volume: chains that avoid themselves and each other, in random rotations.

The chains are those of PolNet (Martinez-Sanchez et al., "Simulating the cellular context in synthetic datasets for
cryo-electron tomography", IEEE Trans. Med. Imaging 2024): a start anywhere, links of random length in random
directions, as long as the next particle fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.templates import Template

Volume = NDArray[np.float32]

_CHAIN_TRIES = 20
"""Positions tried for the next particle of a chain before the chain ends; chosen."""
_PARTICLE_TRIES = 4000
"""Positions tried for the first particle of a chain before the volume is full; chosen."""
_SPLINE_MARGIN = 4
"""Voxels of zeros about a template, so that cubic splines (4 voxels wide) see none beyond it."""
_SAME_SIZE = 1.001
"""Ratio of voxel sizes up to which a template needs no low-pass."""
_COARSE_POINTS = 64
"""Points of a particle that are checked for overlap first: nearly all misfits show in them."""
_COARSE_OVERLAP = 0.1
"""Share of these points that may overlap before all points are checked."""
_EDGE = 0.2
"""Width of the low-pass's cosine edge, as a share of the cutoff."""


@dataclass(frozen=True, eq=False)
class RotatableTemplate:
    """A template ready to be rotated and added to a volume of another voxel size.

    Parameters
    ----------
    coefficients : cubic spline coefficients (Z, Y, X) on the template's grid.
    centre : zyx, voxels of that grid.
    step : the volume's voxel size over the template's.
    solid : (K, 3) xyz in Å, the points of matter.
    radius, diameter : Å; largest distance of these points from the centre, and from each other.
    level : density, of a peak of 1, below which there is no matter.
    """

    name: str
    coefficients: Volume
    centre: FloatArray
    step: float
    solid: FloatArray
    radius: float
    diameter: float
    level: float

    def rotated(
        self, rotation: FloatArray, centre: FloatArray, *, voxel_size: float
    ) -> tuple[Volume, NDArray[np.int_]]:
        """The density rotated about its centre and put at ``centre`` (voxels xyz, exact), and its first voxel (zyx)."""
        reach = int(np.ceil(self.radius / voxel_size)) + 1
        middle = centre[::-1]
        corner = np.floor(middle).astype(int) - reach
        matrix = rotation[::-1, ::-1].T * self.step
        box = ndimage.affine_transform(
            self.coefficients,
            matrix,
            offset=self.centre - matrix @ (middle - corner),
            output_shape=(2 * reach + 2,) * 3,
            order=3,
            prefilter=False,
        )
        return box, corner


def rotatable_template(template: Template, *, voxel_size: float, level: float) -> RotatableTemplate:
    """The template anti-aliased for this voxel size, peak 1, and 0 wherever it is below ``level``.

    Raises
    ------
    InputError
        If nothing of the template is left at this voxel size.
    """
    density = np.asarray(template.density, np.float32)
    step = voxel_size / template.voxel_size
    if step > _SAME_SIZE:
        density = low_pass(density, cutoff=0.5 / step)
    density = density / density.max()
    density = np.where(density >= level, density, np.float32(0))
    matter = np.argwhere(density > 0)
    low, high = matter.min(axis=0), matter.max(axis=0) + 1
    cropped = np.pad(density[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], _SPLINE_MARGIN)
    solid = (matter[:, ::-1] - template.centre) * template.voxel_size
    radius = float(np.linalg.norm(solid, axis=1).max()) + template.voxel_size
    return RotatableTemplate(
        name=template.name,
        coefficients=ndimage.spline_filter(cropped, order=3, output=np.float32, mode="mirror"),
        centre=template.centre[::-1] - low + _SPLINE_MARGIN,
        step=step,
        solid=_thinned(solid, voxel_size),
        radius=radius,
        diameter=_longest(solid) + template.voxel_size,
        level=level,
    )


def _thinned(points: FloatArray, spacing: float) -> FloatArray:
    """One of the points for every cube of this spacing that holds any."""
    _, first = np.unique(np.floor(points / spacing).astype(int), axis=0, return_index=True)
    thinned: FloatArray = points[np.sort(first)]
    return thinned


def _longest(points: FloatArray) -> float:
    flat = len(points) < 5 or np.linalg.matrix_rank(points - points.mean(axis=0)) < 3
    corners = points if flat else points[ConvexHull(points).vertices]
    return float(pdist(corners).max(initial=0))


@dataclass(frozen=True)
class Chains:
    """How chains grow.

    Parameters
    ----------
    border : voxels that stay free at every face.
    overlap : share of a particle that may overlap others.
    link : shortest link, in diameters; the longest is twice.
    length : longest chain, Å.
    """

    border: int
    overlap: float
    link: float
    length: float


class CrowdedVolume:
    """A volume with the particles placed so far: its density (Z, Y, X), their poses, classes and chains."""

    def __init__(
        self, size: tuple[int, int, int], *, voxel_size: float, chains: Chains, rng: np.random.Generator
    ) -> None:
        self.density: Volume = np.zeros(size[::-1], np.float32)
        self.positions: list[FloatArray] = []
        self.rotations: list[FloatArray] = []
        self.kinds: list[str] = []
        self.polymers: list[int] = []
        self._voxel_size = voxel_size
        self._chains = chains
        self._rng = rng
        # One more layer of voxels all around stands for everything outside.
        self._taken = np.ones([n + 2 for n in size[::-1]], bool)
        free = 1 + chains.border
        self._taken[free:-free, free:-free, free:-free] = False

    @property
    def centre(self) -> FloatArray:
        """The middle of the volume, (3,) xyz in Å from the centre of voxel 0."""
        return (np.array(self.density.shape[::-1]) - 1) / 2 * self._voxel_size

    def occupy(self, points: FloatArray) -> None:
        """Let no particle come to the voxels at these points (P, 3) xyz in Å and the voxels beside them."""
        voxels = np.rint(points / self._voxel_size).astype(int)[:, ::-1] + 1
        for step in np.ndindex(3, 3, 3):
            near = voxels + np.array(step) - 1
            inside = ((near >= 0) & (near < self._taken.shape)).all(axis=1)
            self._taken[tuple(near[inside].T)] = True

    def free_place(self, solid: FloatArray, tries: int, rng: np.random.Generator) -> FloatArray | None:
        """A place (3,) xyz in Å where none of these points about it, (P, 3) Å, is in matter; None after many tries."""
        size = np.array(self.density.shape[::-1])
        for _ in range(tries):
            place = rng.uniform(-0.5, size - 0.5) * self._voxel_size
            if self.is_free(solid, place):
                return np.asarray(place)
        return None

    def is_free(self, solid: FloatArray, place: FloatArray) -> bool:
        """Whether none of these points about a place (3,) xyz in Å, (P, 3) Å, is in matter."""
        return self._overlap(solid / self._voxel_size, place / self._voxel_size) == 0

    def fill(self, shape: RotatableTemplate, count: int, *, must_fit: bool = True) -> Iterator[int]:
        """Add ``count`` particles of a shape, chain after chain; yields how many are in.

        Rotations are drawn before places are sought, so that crowding cannot prefer some of them.

        Parameters
        ----------
        must_fit : raise an error where they do not all fit; else add those that do.

        Raises
        ------
        InputError
            If they do not all fit.
        """
        rotations = random_rotations(count, self._rng)
        polymer = len(set(self.polymers))
        placed = 0
        while placed < count:
            solid = self._solid_voxels(shape, rotations[placed])
            position = self._start(solid)
            if position is None and not must_fit:
                return
            if position is None:
                raise InputError(self._too_many(shape, placed, count))
            budget = self._rng.uniform(0, self._chains.length)
            while position is not None:
                self._add(shape, rotations[placed], position, polymer)
                placed += 1
                yield placed
                if placed == count:
                    return
                solid = self._solid_voxels(shape, rotations[placed])
                position, budget = self._next_link(solid, position, shape.diameter * self._chains.link, budget)
            polymer += 1

    def _too_many(self, shape: RotatableTemplate, placed: int, count: int) -> str:
        size = " × ".join(str(n) for n in self.density.shape[::-1])
        return (
            f"only {placed} of {count} particles of {shape.name} fit into {size} voxels of {self._voxel_size:g} Å "
            f"beside {len(self.positions) - placed} others. Ask for at most {placed}, or for a larger tomogram."
        )

    def _solid_voxels(self, shape: RotatableTemplate, rotation: FloatArray) -> FloatArray:
        solid: FloatArray = shape.solid @ rotation.T / self._voxel_size
        return solid

    def _start(self, solid: FloatArray) -> FloatArray | None:
        """A place anywhere that this particle fits, Å xyz; None after many tries."""
        size = np.array(self.density.shape[::-1])
        for _ in range(_PARTICLE_TRIES):
            place = self._rng.uniform(-0.5, size - 0.5)
            if self._fits(solid, place):
                return place * self._voxel_size
        return None

    def _next_link(
        self, solid: FloatArray, tail: FloatArray, link: float, budget: float
    ) -> tuple[FloatArray | None, float]:
        """A place one link from the tail, and the length left; None if the chain ends here."""
        for _ in range(_CHAIN_TRIES):
            length = self._rng.uniform(link, 2 * link)
            if length > budget:
                return None, 0.0
            direction = self._rng.standard_normal(3)
            place = tail + length * direction / np.linalg.norm(direction)
            if self._fits(solid, place / self._voxel_size):
                return place, budget - length
        return None, 0.0

    def _fits(self, solid: FloatArray, place: FloatArray) -> bool:
        stride = max(1, len(solid) // _COARSE_POINTS)
        return (
            self._overlap(solid[::stride], place) <= _COARSE_OVERLAP
            and self._overlap(solid, place) <= self._chains.overlap
        )

    def _overlap(self, solid: FloatArray, place: FloatArray) -> float:
        voxels = np.rint(solid + place).astype(int) + 1
        np.clip(voxels, 0, np.array(self._taken.shape[::-1]) - 1, out=voxels)
        return float(self._taken[voxels[:, 2], voxels[:, 1], voxels[:, 0]].mean())

    def _add(self, shape: RotatableTemplate, rotation: FloatArray, position: FloatArray, polymer: int) -> None:
        box, corner = shape.rotated(rotation, position / self._voxel_size, voxel_size=self._voxel_size)
        whole, part = _inside(corner, box.shape, self.density.shape)
        # Where two touch the denser wins, as in PolNet; this also drops the splines' undershoot.
        np.maximum(self.density[whole], box[part], out=self.density[whole])
        self._taken[tuple(slice(s.start + 1, s.stop + 1) for s in whole)] |= box[part] >= shape.level
        self.positions.append(position)
        self.rotations.append(rotation)
        self.kinds.append(shape.name)
        self.polymers.append(polymer)


Slices = tuple[slice, ...]


def _inside(corner: NDArray[np.int_], box: tuple[int, ...], volume: tuple[int, ...]) -> tuple[Slices, Slices]:
    """Where a box at this corner lies in the volume, and which part of the box that is."""
    first = np.clip(corner, 0, volume)
    last = np.clip(corner + box, first, volume)
    whole = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    part = tuple(slice(int(a - c), int(b - c)) for a, b, c in zip(first, last, corner, strict=True))
    return whole, part


# --- anti-aliasing ----------------------------------------------------------------------------------------------


def low_pass(density: NDArray[Any], *, cutoff: float) -> Volume:
    """The density without frequencies beyond ``cutoff`` (cycles per voxel); a cosine edge starts at four fifths of it.

    What is sampled at every ``1 / (2 · cutoff)`` voxels afterwards has no aliases.
    """
    margin = int(np.ceil(2 / cutoff))
    padded = np.pad(np.asarray(density, np.float32), margin)
    spectrum = fft.rfftn(padded)
    spectrum *= _cosine_edge(_radial_frequency(padded.shape), cutoff)
    filtered = fft.irfftn(spectrum, s=padded.shape)
    return np.ascontiguousarray(filtered[margin:-margin, margin:-margin, margin:-margin], np.float32)


def _radial_frequency(shape: tuple[int, ...]) -> FloatArray:
    z, y, x = fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2])
    radius: FloatArray = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return radius


def _cosine_edge(frequency: FloatArray, cutoff: float) -> Volume:
    ramp = np.clip((frequency / cutoff - (1 - _EDGE)) / _EDGE, 0, 1)
    edge: Volume = ((1 + np.cos(np.pi * ramp)) / 2).astype(np.float32)
    return edge
