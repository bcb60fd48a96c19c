"""Projections of a specimen onto tilt images: macromolecules by central slices of their transforms, the rest as points.

The transform of a map's projection is the central slice of the map's transform across the beam (projection-slice
theorem). So every macromolecule is imaged at its exact pose, whatever the pixel size, and no volume is rotated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.simulation.placement import low_pass
from napari_orient.engine.templates import Template

_OVERSAMPLING = 4
"""Nodes of a slice table per Fourier coefficient of the map's box: linear interpolation leaves copies of the map of
0.1 to 2 % beside it (sinc² at 15/16 and 7/8 of the period, over that at 1/16 and 1/8), far below any noise."""
_EMPTY = 1e-3
"""Share of a map's peak below which voxels at its border are cut off."""
_EDGE = 0.1
"""Width of the cosine edge that ends a map's transform at the Nyquist frequency, as a share of that."""
_POINT_OVERSAMPLING = 2
"""Pixels of the grid that points are put on per pixel of the image: what a point of 8 Å aliases is then below 1 %."""
_BATCH = 512
"""Macromolecules projected together; bounds memory only."""
_SLAB = 200.0
"""Å of height imaged with one defocus: half of it, 0.01 µm, changes the phase of the transfer by less than 0.1 radians
at 20 Å."""


@dataclass(frozen=True)
class Detector:
    """Pixels of every tilt image: (height, width) and their size in Å; the specimen's centre falls on ``n // 2``."""

    shape: tuple[int, int]
    pixel: float

    @classmethod
    def covering(cls, extent: FloatArray, series: TiltSeries, *, pixel: float, margin: float) -> Detector:
        """The detector that holds a box of this extent (3,) xyz in Å at every tilt, and a margin in Å around it."""
        reach = (np.abs(series.axes[:, :2]) @ extent).max(axis=0) + 2 * margin
        width, height = (int(fft.next_fast_len(int(np.ceil(length / pixel)), real=True)) for length in reach)
        return cls((height, width), pixel)

    def frequency(self) -> Tensor:
        """Frequencies of the half-spectrum, (height, width // 2 + 1, 2) xy in cycles/Å."""
        return half_spectrum(self.shape, self.pixel)


def half_spectrum(shape: tuple[int, int], pixel: float) -> Tensor:
    """Frequencies of ``rfft2`` of an image, (height, width // 2 + 1, 2) xy in cycles/Å."""
    y, x = torch.fft.fftfreq(shape[0], pixel), torch.fft.rfftfreq(shape[1], pixel)
    return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)


# --- macromolecules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SliceTable:
    """The transform of a map, tabulated for central slices.

    Parameters
    ----------
    table : (1, 2, K, K, K) real and imaginary part, indexed [kz, ky, kx] from the most negative frequency on.
    highest : cycles/Å at the table's edge.
    centre : (3,) xyz in Å, from the map's origin to the point that the transform refers to, the middle of its matter.
    width : Å; the diagonal of the box that holds its matter.
    """

    table: Tensor
    highest: float
    centre: FloatArray
    width: float

    def slices(self, frequency: Tensor, orientations: Tensor) -> Tensor:
        """Central slices (N, ...) complex at frequencies (..., 2) of the image, of a map in these orientations.

        ``orientations`` (N, 3, 3) map the map's frame to the image's.
        """
        own = torch.einsum("...k,nkj->n...j", frequency, orientations[:, :2])
        found = torch.nn.functional.grid_sample(self.table, (own / self.highest)[None], align_corners=True)
        return torch.complex(found[0, 0], found[0, 1])


def slice_table(density: NDArray[np.float32], voxel_size: float, *, pixel: float) -> SliceTable:
    """The table of a map (Z, Y, X) whose origin is its box centre, up to the Nyquist frequency of map and image.

    Values are those of projections in units of the map's density times the image's pixel.
    """
    matter = np.argwhere(density > _EMPTY * density.max())
    low, high = matter.min(axis=0), matter.max(axis=0) + 1
    part = np.asarray(density[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], np.float32)
    padded = fft.next_fast_len(_OVERSAMPLING * max(part.shape))
    middle = [(n - 1) / 2 for n in part.shape]
    for axis, count in enumerate(part.shape):
        place = (np.arange(count) - middle[axis]) / padded
        part = part / np.sinc(place).reshape([-1 if k == axis else 1 for k in range(3)]) ** 2
    nyquist = 0.5 / max(voxel_size, pixel)
    reach = min(padded // 2 - 1, int(np.ceil(nyquist * padded * voxel_size)) + 1)
    nodes = np.arange(-reach, reach + 1)
    cube = part.astype(np.complex64)
    for axis, count in enumerate(part.shape):
        # The transform of few voxels at few frequencies: a small matrix for each axis, instead of a padded volume.
        wave = np.exp(-2j * np.pi * nodes[:, None] * (np.arange(count) - middle[axis]) / padded).astype(np.complex64)
        cube = np.moveaxis(np.tensordot(wave, cube, axes=([1], [axis])), 0, axis)
    cube *= _soft_sphere(nodes / (padded * voxel_size), nyquist) * np.float32((voxel_size / pixel) ** 3)
    return SliceTable(
        table=torch.from_numpy(np.stack([cube.real, cube.imag])[None]),
        highest=reach / (padded * voxel_size),
        centre=((low + high - 1)[::-1] / 2 - (np.array(density.shape[::-1]) - 1) / 2) * voxel_size,
        width=float(np.linalg.norm(part.shape)) * voxel_size,
    )


def _soft_sphere(line: FloatArray, radius: float) -> NDArray[np.float32]:
    """1 within the radius, 0 beyond it, a cosine before it; of a cube of frequencies along each axis."""
    length = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    ramp = np.clip((length / radius - (1 - _EDGE)) / _EDGE, 0, 1)
    return np.asarray((1 + np.cos(np.pi * ramp)) / 2, np.float32)


@dataclass(frozen=True, eq=False)
class Bodies:
    """Copies of one rigid map in the specimen.

    Parameters
    ----------
    table : the map's transform.
    positions : (N, 3) xyz in Å of the point that the table refers to, from the specimen's centre.
    rotations : (N, 3, 3) map frame -> specimen frame.
    """

    table: SliceTable
    positions: FloatArray
    rotations: FloatArray

    def heights(self, axes: FloatArray) -> FloatArray:
        """Heights along the beam, (N,) Å."""
        return np.asarray(self.positions @ axes[2])

    def project(self, axes: FloatArray, images: Tensor, slabs: NDArray[np.int_], detector: Detector) -> None:
        """Add the projections at a tilt to the images (slabs, height, width), each to that of its slab."""
        for rows in np.array_split(np.arange(len(self.positions)), -(-len(self.positions) // _BATCH) or 1):
            self._project(axes, images, slabs, detector, rows)

    def _project(
        self, axes: FloatArray, images: Tensor, slabs: NDArray[np.int_], detector: Detector, rows: NDArray[np.int_]
    ) -> None:
        side = int(fft.next_fast_len(int(np.ceil(self.table.width / detector.pixel)) + 4, real=True))
        frequency = half_spectrum((side, side), detector.pixel)
        orientations = torch.as_tensor(axes @ self.rotations[rows], dtype=torch.float32)
        spectra = self.table.slices(frequency, orientations)
        place = self.positions[rows] @ axes[:2].T / detector.pixel + np.array(detector.shape[::-1]) // 2
        nearest = np.rint(place)
        moved = torch.as_tensor(place - nearest + side // 2, dtype=torch.float32) * detector.pixel
        spectra *= torch.exp(-2j * torch.pi * torch.einsum("yxk,nk->nyx", frequency, moved))
        parts = torch.fft.irfft2(spectra, s=(side, side))
        corners = nearest.astype(int) - side // 2
        for part, (x, y), slab in zip(parts, corners.tolist(), slabs[rows].tolist(), strict=True):
            _add(images[slab], part, x, y)


def _add(image: Tensor, part: Tensor, x: int, y: int) -> None:
    """Add a part to an image with its first pixel at (x, y); what lies outside is left out."""
    height, width = image.shape
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + part.shape[1], width), min(y + part.shape[0], height)
    if right > left and bottom > top:
        image[top:bottom, left:right] += part[top - y : bottom - y, left - x : right - x]


# --- points -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Points:
    """Many small alike things: Gaussians, of which membranes and filaments are made, or solid spheres.

    Parameters
    ----------
    positions : (P, 3) xyz in Å from the specimen's centre.
    density : at a Gaussian's height, or within a sphere; in units of a template's peak.
    size : Å; standard deviation of a Gaussian, radius of a sphere.
    is_sphere : whether they are spheres.
    """

    positions: FloatArray
    density: float
    size: float
    is_sphere: bool = False

    def heights(self, axes: FloatArray) -> FloatArray:
        """Heights along the beam, (P,) Å."""
        return np.asarray(self.positions @ axes[2])

    def project(self, axes: FloatArray, images: Tensor, slabs: NDArray[np.int_], detector: Detector) -> None:
        """Add the projections at a tilt to the images (slabs, height, width), each to that of its slab."""
        fine = tuple(_POINT_OVERSAMPLING * n for n in detector.shape)
        place = self.positions @ axes[:2].T / detector.pixel + np.array(detector.shape[::-1]) // 2
        place *= _POINT_OVERSAMPLING
        factor = self._form(detector)
        for slab in np.unique(slabs):
            grid = torch.from_numpy(_on_grid(place[slabs == slab], fine))
            spectrum = torch.fft.rfft2(grid)
            images[slab] += torch.fft.irfft2(_low_rows(spectrum, detector.shape) * factor, s=detector.shape)

    def _form(self, detector: Detector) -> Tensor:
        """Transform of one of them over that of a point on the fine grid, (height, width // 2 + 1)."""
        frequency = detector.frequency()
        length = frequency.norm(dim=-1).double()
        if self.is_sphere:
            angle = (2 * torch.pi * self.size * length).clamp(min=1e-3)
            form = 3 * (torch.sin(angle) - angle * torch.cos(angle)) / angle**3
            volume = 4 / 3 * np.pi * self.size**3
        else:
            form = torch.exp(-2 * (torch.pi * self.size * length) ** 2)
            volume = (2 * np.pi) ** 1.5 * self.size**3
        triangle = torch.sinc(frequency.double() * detector.pixel / _POINT_OVERSAMPLING).prod(dim=-1) ** 2
        scaled: Tensor = form / triangle * (self.density * volume / detector.pixel**3)
        return scaled.float()


def _on_grid(place: FloatArray, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """How many points (P, 2) xy lie on each pixel, each shared among the four around it."""
    corner = np.floor(place).astype(np.int64)
    share = place - corner
    inside = ((corner >= 0) & (corner < np.array(shape[::-1]) - 1)).all(axis=1)
    (x, y), (right, lower) = corner[inside].T, share[inside].T
    total = np.zeros(shape[0] * shape[1])
    for step_y, weight_y in ((0, 1 - lower), (1, lower)):
        for step_x, weight_x in ((0, 1 - right), (1, right)):
            cell = (y + step_y) * shape[1] + x + step_x
            total += np.bincount(cell, weight_x * weight_y, minlength=len(total))
    return total.reshape(shape).astype(np.float32)


def _low_rows(spectrum: Tensor, shape: tuple[int, int]) -> Tensor:
    """The frequencies of a finer half-spectrum that an image of this shape has."""
    height, width = shape
    rows = [*range((height + 1) // 2), *range(-(height // 2), 0)]
    return spectrum[rows, : width // 2 + 1]


# --- the specimen -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Specimen:
    """All that is imaged: macromolecules and points."""

    parts: Sequence[Bodies | Points] = field(default_factory=tuple)

    def project(
        self, axes: FloatArray, detector: Detector, *, by_height: bool = False
    ) -> Iterator[tuple[float, Tensor]]:
        """Projections (height, width) at a tilt with their height in Å along the beam; one of height 0 for all matter.

        Parameters
        ----------
        axes : (3, 3) image's x, y and beam in the specimen's frame.
        by_height : give a projection for each slab of 200 Å across the beam.
        """
        slabs = [_slabs(part.heights(axes), by_height=by_height) for part in self.parts]
        lowest = min((int(each.min()) for each in slabs if len(each)), default=0)
        highest = max((int(each.max()) for each in slabs if len(each)), default=0)
        images = torch.zeros(highest - lowest + 1, *detector.shape)
        for part, each in zip(self.parts, slabs, strict=True):
            part.project(axes, images, each - lowest, detector)
        for index, image in enumerate(images):
            yield (lowest + index) * _SLAB, image


def _slabs(heights: FloatArray, *, by_height: bool) -> NDArray[np.int_]:
    return np.rint(heights / _SLAB).astype(int) if by_height else np.zeros(len(heights), int)


def rigid_bodies(template: Template, positions: FloatArray, rotations: FloatArray, *, pixel: float) -> Bodies:
    """Copies of a template, its peak 1 at this pixel size, with its origin at positions (N, 3) Å of the specimen."""
    density = unit_peak(template, pixel=pixel)
    table = slice_table(density, template.voxel_size, pixel=pixel)
    return Bodies(table, positions + rotations @ table.centre, rotations)


def unit_peak(template: Template, *, pixel: float) -> NDArray[np.float32]:
    """The density of a template, divided by the peak that it has at this pixel size."""
    step = pixel / template.voxel_size
    smooth = low_pass(template.density, cutoff=0.5 / step) if step > 1 else template.density
    return np.asarray(template.density / smooth.max(), np.float32)
