"""A small world in which a small network can learn: an uneven blob turned at random in quiet noise."""

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_orient.engine.parameters import NetworkOptions, TrainingOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.rotations import random_rotations

VOXEL_SIZE = 10.0
BALLS = np.array([[45.0, 0, 0], [-15, 40, 0], [0, -20, 30], [-25, -20, -35]])
WEIGHTS = np.array([1.0, 1.6, 2.4, 0.7])
SMALL_NETWORK = NetworkOptions(width=48, depth=2, patch_side=16, mask_radius=65.0, dropout=0.0)
QUICK_TRAINING = TrainingOptions.of(epochs=30, batch=32, rate=5e-3, shift=0.0, validation=0.25, device="cpu", seed=3)


def small_tomogram(seed, *, grid=9, kind="pdb_ball"):
    """A tomogram of ``grid``² by 3 particles with their truth."""
    rng = np.random.default_rng(seed)
    spots = np.stack(np.meshgrid(*[np.arange(n) for n in (grid, grid, 3)], indexing="ij"), -1).reshape(-1, 3)
    positions = 100.0 + spots * 160.0
    rotations = random_rotations(len(spots), rng)
    density = np.zeros((56, 16 * grid + 8, 16 * grid + 8), np.float32)
    for place, rotation in zip(positions, rotations, strict=True):
        for ball, weight in zip(BALLS @ rotation.T + place, WEIGHTS, strict=True):
            _add_ball(density, ball / VOXEL_SIZE, weight)
    density = density + 0.02 * gaussian_filter(rng.normal(size=density.shape), 1)
    name = f"tomo_{seed:03d}"
    particles = Particles(positions=positions, rotations=rotations, tomogram=name, kind=np.full(len(positions), kind))
    return Tomogram(density.astype(np.float32), VOXEL_SIZE, name), particles


def small_world(count=5):
    """Tomograms with their particles, all different."""
    return [small_tomogram(seed) for seed in range(count)]


def _add_ball(density, voxel, weight):
    low = np.floor(voxel[::-1]).astype(int) - 5
    window = tuple(slice(start, start + 12) for start in low)
    z, y, x = (np.arange(part.start, part.stop) for part in window)
    squares = (z[:, None, None] - voxel[2]) ** 2 + (y[:, None] - voxel[1]) ** 2 + (x - voxel[0]) ** 2
    density[window] += weight * np.exp(-squares / (2 * 1.6**2))
