"""Subtomogram averaging: the map of particles in their poses, its half maps, and their Fourier shell correlation.

The FSC follows Harauz and van Heel, Optik 1986. `write_average` writes map, half maps and curve.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging.options import AveragingOptions
from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_tomogram
from napari_orient.engine.model.grid import frequencies, half_sphere, offsets, soft_ball
from napari_orient.engine.model.gridding import Coefficients, Gridding
from napari_orient.engine.model.map_symmetry import SymmetryProposal, propose_symmetry, symmetry_centre
from napari_orient.engine.model.noise import mean_power, radial_level, smooth_spectrum, window
from napari_orient.engine.model.wedge import estimate_wedge
from napari_orient.engine.outputs import check_writable, replacing
from napari_orient.engine.particles import Labelled, Particles, Tomogram, check_inside
from napari_orient.engine.patches import cut_patches, nearest_voxel
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.streams import Note, Step, Stream
from napari_orient.engine.symmetry import Symmetry, symmetry

_BATCH = 32
_SAMPLE = 256
_MEASURED = 0.5
_C1, _USUAL = symmetry("C1"), AveragingOptions()


@dataclass(frozen=True, eq=False, kw_only=True)
class Average:
    """The average of N particles: particle positive, the frame's origin at the centre ``(n - 1) / 2`` of the box.

    Parameters
    ----------
    density, first_half, second_half : (n, n, n) float32, [z, y, x].
    voxel_size : Å.
    fsc : of the halves inside a soft mask.
    count : particles averaged.
    group : imposed.
    """

    density: NDArray[np.float32]
    first_half: NDArray[np.float32]
    second_half: NDArray[np.float32]
    voxel_size: float
    fsc: FSC
    count: int
    group: Symmetry

    def as_reference(self) -> NDArray[np.float32]:
        """The density fit to be matched: weighted by its own signal to noise, shell by shell, and masked."""
        return self._weighted(self.density, lambda curve: 2 * curve / (1 + curve))

    def halves_as_references(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The two halves, each fit to be matched; of the other half each knows the curve alone."""
        first, second = (self._weighted(half, lambda curve: curve) for half in (self.first_half, self.second_half))
        return first, second

    def _weighted(
        self, density: NDArray[np.float32], weight: Callable[[FloatArray], FloatArray]
    ) -> NDArray[np.float32]:
        side = len(density)
        grid = frequencies(side, self.voxel_size).norm(dim=-1).numpy()
        curve = np.interp(grid, self.fsc.frequency, np.clip(self.fsc.correlation, 0, 1))
        curve = np.where(grid > 1 / self.fsc.resolution(0.143), 0.0, curve)
        weighted = np.fft.ifftn(np.fft.fftn(density) * weight(curve)).real
        return (weighted * _mask(side, self.voxel_size, None)).astype(np.float32)


def random_halves(count: int, seed: int) -> NDArray[np.int_]:
    """0 or 1 for each of so many particles, (count,): which half it belongs to."""
    return np.random.default_rng(seed).permutation(count) % 2


def average(
    labelled: Labelled,
    *,
    group: Symmetry | None = _C1,
    options: AveragingOptions = _USUAL,
) -> Stream[Step, Average]:
    """The map that particles with known rotations imply, and those of its two random halves.

    Each patch is brought to the reference frame in Fourier space; a coefficient of the map is the mean of what the
    patches measured of it, weighted by wedge and noise. The voxel size is the first tomogram's.

    Parameters
    ----------
    group : imposed about the axes it names through the map's own centre of symmetry, which is found first; None
        proposes the one that the map shows, and notes why.

    Raises
    ------
    InputError
        If there are fewer than two particles, rotations are unknown, or one lies outside its tomogram.
    """
    total = sum(len(particles) for _, particles in labelled)
    if total < 2:
        raise InputError(f"{total} particles cannot be averaged in halves; expected at least 2.")
    for tomogram, particles in labelled:
        particles.required_rotations()
        check_inside(particles, tomogram.extent, name=tomogram.name)
    voxel_size = labelled[0][0].voxel_size
    halves = [Gridding(options.side, voxel_size) for _ in range(2)]
    coin = random_halves(total, options.seed)
    done = 0
    for tomogram, particles in labelled:
        first = done
        for rows, part in _prepared(tomogram, particles, voxel_size, options):
            for half in (0, 1):
                halves[half].add(part.take(coin[first + rows] == half))
            done = first + int(rows[-1]) + 1
            yield Step(done, total, "Averaging")
    if group is None:
        proposed = _proposed(halves, voxel_size, options)
        yield Step(total, total, "Looking for symmetry", notes=tuple(map(Note, proposed.words())))
        group = proposed.group
    if len(group) > 1:
        centre = symmetry_centre((halves[0] + halves[1]).density(), voxel_size, group)
        halves = [half.symmetrised(group, centre) for half in halves]
    return _average(halves, voxel_size, total, group=group, options=options)


def _proposed(halves: list[Gridding], voxel_size: float, options: AveragingOptions) -> SymmetryProposal:
    """The group that the maps show inside their mask."""
    sign, mask = _sign(options), _mask(options.side, voxel_size, options.radius)
    whole, first, second = (sign * mask * part.density() for part in (halves[0] + halves[1], *halves))
    return propose_symmetry(whole, voxel_size, halves=(first, second))


def _sign(options: AveragingOptions) -> float:
    """What makes particles bright."""
    return -1.0 if options.contrast == "dark" else 1.0


def _average(
    halves: list[Gridding], voxel_size: float, count: int, *, group: Symmetry, options: AveragingOptions
) -> Average:
    sign = _sign(options)
    whole, first, second = (sign * part.density() for part in (halves[0] + halves[1], *halves))
    mask = _mask(options.side, voxel_size, options.radius)
    curve = fourier_shell_correlation(first * mask, second * mask, voxel_size)
    maps = [np.asarray(part, np.float32) for part in (whole, first, second)]
    return Average(
        density=maps[0],
        first_half=maps[1],
        second_half=maps[2],
        voxel_size=voxel_size,
        fsc=curve,
        count=count,
        group=group,
    )


def _prepared(
    tomogram: Tomogram, particles: Particles, voxel_size: float, options: AveragingOptions
) -> Iterator[tuple[NDArray[np.int_], Coefficients]]:
    """Batches of one tomogram's particles, with their rows."""
    side = options.side
    index, frequency = half_sphere(side, voxel_size, 2 * voxel_size)
    view = window(side, voxel_size, (side / 2 - 5) * voxel_size)
    some = cut_patches(tomogram, particles.positions[:_SAMPLE], side=side, voxel_size=voxel_size, centring="rounded")
    power = mean_power(torch.from_numpy(some), view)
    found = estimate_wedge(power, voxel_size)
    wedge = options.wedge.chosen(found)
    noise = smooth_spectrum(power, wedge, voxel_size)[:, :, : side // 2 + 1].flatten()[index].numpy()
    measured = wedge.weights(frequency, 1 / (side * voxel_size))
    # Along and across the tilts the noise differs; how it falls off with frequency does not matter to a mean.
    radius = frequency.norm(dim=-1).numpy() * side * voxel_size
    level = radial_level(noise.astype(np.float64), radius, measured.numpy() > _MEASURED)
    weight = measured * torch.as_tensor(level / noise, dtype=torch.float32)
    # Patches about whole voxels need no interpolation: what is left of the way is a phase.
    middles = nearest_voxel(particles.positions, tomogram.voxel_size)
    ways = torch.as_tensor(particles.positions - middles + side // 2 * voxel_size, dtype=torch.float32)
    rotations = torch.as_tensor(particles.required_rotations(), dtype=torch.float32)
    for start in range(0, len(particles), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(particles)))
        cubes = cut_patches(tomogram, middles[rows], side=side, voxel_size=voxel_size)
        spectrum = torch.fft.rfftn(torch.from_numpy(cubes) * view, dim=(-3, -2, -1)).flatten(1)[:, index]
        angle = 2 * torch.pi * ways[rows] @ frequency.T
        yield (
            rows,
            Coefficients(spectrum * torch.polar(torch.ones_like(angle), angle), weight, frequency, rotations[rows]),
        )


def _mask(side: int, voxel_size: float, radius: float | None) -> FloatArray:
    """Soft ball about the frame's origin ``(n - 1) / 2``, (n, n, n)."""
    distance = (offsets(side, voxel_size) + voxel_size / 2).norm(dim=-1)
    mask: FloatArray = soft_ball(distance, radius or 0.4 * side * voxel_size, 4 * voxel_size).numpy()
    return mask


@dataclass(frozen=True, eq=False)
class FSC:
    """Fourier shell correlation of two maps: ``frequency`` (S,) cycles/Å, ``correlation`` (S,)."""

    frequency: FloatArray
    correlation: FloatArray

    def resolution(self, threshold: float) -> float:
        """Å at which the curve first falls below the threshold; the finest shell's where it never does."""
        below = np.flatnonzero(self.correlation < threshold)
        if len(below) == 0:
            return float(1 / self.frequency[-1])
        last = int(below[0])
        if last == 0:
            return float(1 / self.frequency[0])
        high, low = self.correlation[last - 1], self.correlation[last]
        part = (high - threshold) / (high - low)
        crossing = self.frequency[last - 1] + part * (self.frequency[last] - self.frequency[last - 1])
        return float(1 / crossing)


def fourier_shell_correlation(first: FloatArray, second: FloatArray, voxel_size: float) -> FSC:
    """Correlation of two maps (n, n, n) in shells one coefficient wide, up to Nyquist, without the origin."""
    side = len(first)
    one, two = np.fft.fftn(first), np.fft.fftn(second)
    shell = np.rint(frequencies(side, voxel_size).norm(dim=-1).numpy() * side * voxel_size).astype(int).ravel()
    cross, own, other = (
        np.bincount(shell, values.ravel())[1 : side // 2 + 1]
        for values in ((one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2)
    )
    frequency = np.arange(1, side // 2 + 1) / (side * voxel_size)
    return FSC(frequency, cross / np.sqrt(np.maximum(own * other, 1e-30)))


def average_paths(output: Path) -> tuple[Path, Path, Path, Path]:
    """The files of the map, its halves and the curve, all writable.

    Raises
    ------
    InputError
        If the name does not end in .mrc, or the place cannot be written.
    """
    if output.suffix.lower() != ".mrc":
        raise InputError(f"{output} given as map; expected a name that ends in .mrc.")
    first, second = (output.with_name(f"{output.stem}_half{half}.mrc") for half in (1, 2))
    places = output, first, second, output.with_name(f"{output.stem}_fsc.csv")
    for place in places:
        check_writable(place)
    return places


def write_average(found: Average, places: tuple[Path, Path, Path, Path]) -> None:
    """Write map, halves and curve to the places that `average_paths` names."""
    *maps, curve = places
    for place, density in zip(maps, (found.density, found.first_half, found.second_half), strict=True):
        write_tomogram(place, density, voxel_size=found.voxel_size)
    _write_curve(curve, found.fsc)


def _write_curve(path: Path, fsc: FSC) -> None:
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["resolution_angstrom", "frequency_per_angstrom", "fsc"])
        rows.writerows(
            (f"{1 / frequency:.3f}", f"{frequency:.6f}", f"{value:.4f}")
            for frequency, value in zip(fsc.frequency, fsc.correlation, strict=True)
        )
