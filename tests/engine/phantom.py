"""Tomograms of a made-up molecule: a few Gaussian blobs, turned exactly, seen through a missing wedge and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.symmetry import Symmetry, symmetry

VOXEL_SIZE = 10.0


@dataclass(frozen=True)
class Molecule:
    """Blobs at ``places`` (K, 3) xyz in Å, of ``weights`` (K,) and one width in Å."""

    places: np.ndarray
    weights: np.ndarray
    width: float = 12.0

    def density(self, side: int, *, voxel_size: float = VOXEL_SIZE) -> np.ndarray:
        """Its map, (n, n, n) [z, y, x], about the centre (n - 1) / 2."""
        line = (np.arange(side) - (side - 1) / 2) * voxel_size
        return self.laid(line, line, line)

    def laid(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Its density on the grid of three lines, in Å from its centre."""
        shapes = [
            [
                np.exp(-((line - place) ** 2) / (2 * self.width**2))
                for line, place in zip((z, y, x), places[::-1], strict=True)
            ]
            for places in self.places
        ]
        return sum(
            weight * a[:, None, None] * b[None, :, None] * c
            for weight, (a, b, c) in zip(self.weights, shapes, strict=True)
        )

    def turned(self, rotation: np.ndarray) -> Molecule:
        return Molecule(self.places @ rotation.T, self.weights, self.width)


def molecule(*, seed: int = 1, group: Symmetry | None = None, radius: float = 55.0) -> Molecule:
    """A molecule without symmetry, or with that of a group."""
    rng = np.random.default_rng(seed)
    group = group or symmetry("C1")
    count = 14 if len(group) == 1 else 4
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    places = directions * radius * rng.uniform(0.35, 1, size=(count, 1))
    weights = rng.uniform(0.5, 1.5, size=count)
    copies = np.concatenate([places @ matrix.T for matrix in group.matrices])
    return Molecule(copies, np.tile(weights, len(group)))


def tomogram(
    shape: Molecule,
    *,
    noise: float = 1.0,
    seed: int = 0,
    off: float = 0.0,
    axis: str = "y",
    tilts: tuple[float, float] = (-60.0, 60.0),
    count: tuple[int, ...] = (2, 4, 4),
) -> tuple[Tomogram, Particles, np.ndarray]:
    """A tomogram of molecules on a grid, picks that are off by up to ``off`` Å along each axis, and the true places.

    Particles are dark. The noise is coloured, of standard deviation ``noise`` of the signal's within the particles.
    """
    rng = np.random.default_rng(seed)
    apart = 24
    size = np.array(count) * apart
    rotations = random_rotations(int(np.prod(count)), rng)
    middles = (
        np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), -1).reshape(-1, 3) * apart + apart / 2
    )
    middles = middles[:, ::-1] + rng.uniform(-2, 2, size=middles.shape)
    density = np.zeros(size)
    for middle, rotation in zip(middles, rotations, strict=True):
        low = np.maximum(np.floor(middle[::-1]).astype(int) - 11, 0)
        high = np.minimum(low + 23, size)
        lines = [(np.arange(a, b) - m) * VOXEL_SIZE for a, b, m in zip(low, high, middle[::-1], strict=True)]
        density[tuple(map(slice, low, high))] -= shape.turned(rotation).laid(*lines)
    level = noise * density[density < 0.2 * density.min()].std()
    return _seen(density, level, axis, tilts, rng), _picks(middles, rotations, off, rng), middles * VOXEL_SIZE


def ring_halves(folds: int, *, right: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy averages of rings of blobs with a knob at one end, (24, 24, 24): some spun right, a hundred at random."""
    rng, halves = np.random.default_rng(seed), []
    for _ in range(2):
        turns = np.append(rng.uniform(0, 360, 100), np.zeros(right))
        angles = np.radians(np.add.outer(turns, 360 / folds * np.arange(folds))).ravel()
        places = 50 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
        weights = np.append(np.full(len(places), 1 / len(turns)), 2.0)
        made = Molecule(np.concatenate([places, [[0.0, 0.0, 40.0]]]), weights).density(24)
        halves.append((made + rng.normal(scale=0.02, size=made.shape)).astype(np.float32))
    return halves[0], halves[1]


def _picks(middles: np.ndarray, rotations: np.ndarray, off: float, rng: np.random.Generator) -> Particles:
    moves = rng.uniform(-off, off, size=middles.shape)
    return Particles(positions=middles * VOXEL_SIZE + moves, rotations=rotations, tomogram="phantom")


def _seen(
    density: np.ndarray, level: float, axis: str, tilts: tuple[float, float], rng: np.random.Generator
) -> Tomogram:
    kz, ky, kx = np.meshgrid(*(np.fft.fftfreq(n) for n in density.shape), indexing="ij")
    across = kx if axis == "y" else ky
    steep = kz * np.where(across < 0, -1, 1)
    low, high = (np.tan(np.radians(tilt)) * np.abs(across) for tilt in tilts)
    measured = (steep >= low) & (steep <= high)
    measured[0, 0, 0] = True
    colour = 0.3 + np.hypot(across, kz)
    noise = np.fft.ifftn(np.fft.fftn(rng.normal(size=density.shape)) * colour * measured).real
    signal = np.fft.ifftn(np.fft.fftn(density) * measured).real
    seen = signal + noise * (level / noise.std())
    return Tomogram(seen.astype(np.float32), VOXEL_SIZE, "phantom")
