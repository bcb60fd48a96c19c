"""What a network learns from: labelled particles split by tomogram, cut and condensed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.networks.mlp import MLPNetwork
from napari_orient.engine.particles import Labelled, Particles, Tomogram
from napari_orient.engine.patches import PatchArray, cut_patches
from napari_orient.engine.streams import Step, Stream


def split(labelled: Labelled, *, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Training and validation parts: whole tomograms, about this share of them to validate, at least one.

    A lone tomogram is cut at a plane across x instead, so that the parts share as few neighbours as can be.
    """
    if len(labelled) == 1:
        tomogram, particles = labelled[0]
        far = particles.positions[:, 0] > np.quantile(particles.positions[:, 0], 1 - share)
        return [(tomogram, particles.take(~far))], [(tomogram, particles.take(far))]
    order = np.random.default_rng(seed).permutation(len(labelled))
    count = min(max(1, round(share * len(labelled))), len(labelled) - 1)
    chosen = set(order[:count].tolist())
    parts = ([labelled[i] for i in range(len(labelled)) if (i in chosen) is wanted] for wanted in (False, True))
    training, validation = parts
    return training, validation


def fingerprint(labelled: Labelled) -> str:
    """Sixteen hexadecimal digits that change with any tomogram's name or size, position or rotation."""
    digest = hashlib.sha256()
    for tomogram, particles in labelled:
        digest.update(f"{tomogram.name} {tomogram.extent}".encode())
        digest.update(np.round(particles.positions, 3).tobytes())
        digest.update(np.round(particles.required_rotations(), 5).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Examples:
    """Condensed patches (N, m, m, m), half precision, and their true rotations (N, 3, 3)."""

    cubes: Tensor
    rotations: Tensor

    def __len__(self) -> int:
        return len(self.cubes)

    def to(self, device: torch.device) -> Examples:
        """The same on another device."""
        return Examples(self.cubes.to(device), self.rotations.to(device))

    def take(self, rows: Tensor) -> Examples:
        """The examples of these rows."""
        return Examples(self.cubes.index_select(0, rows), self.rotations.index_select(0, rows))


def cut_examples(network: MLPNetwork, labelled: Labelled, *, words: str) -> Stream[Step, Examples]:
    """The labelled particles, cut and condensed by the network's front end; a step for every 64.

    All cubes are held once: room for them is made at the start, and each is written into its place.
    """
    total = sum(len(particles) for _, particles in labelled)
    side = network.condense(torch.zeros(1, *(network.patch_side,) * 3)).shape[-1]
    cubes = torch.empty((total, side, side, side), dtype=torch.float16)
    rotations, done = [], 0
    for tomogram, particles in labelled:
        for start in range(0, len(particles), 64):
            yield Step(done, total, words)
            part = particles.take(slice(start, start + 64))
            cubes[done : done + len(part)] = network.condense(torch.from_numpy(_patches(network, tomogram, part)))
            rotations.append(torch.from_numpy(part.required_rotations()).float())
            done += len(part)
    yield Step(done, total, words)
    return Examples(cubes, torch.cat(rotations))


def _patches(network: MLPNetwork, tomogram: Tomogram, particles: Particles) -> PatchArray:
    return cut_patches(
        tomogram,
        particles.positions,
        side=network.patch_side,
        voxel_size=network.patch_voxel_size,
        centring="rounded",
    )
