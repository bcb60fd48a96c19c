"""Examples that a network is trained on: condensed patches with their true rotations, in memory or cut when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.devices import single_threaded
from napari_orient.engine.environment import free_memory
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.particles import Labelled, Particles, Tomogram
from napari_orient.engine.patches import PatchArray, cut_patches
from napari_orient.engine.streams import Step, Stream

_CUT_BATCH = 64
"""Patches cut and condensed together (memory: 64 patches of 40³ voxels are 16 MB)."""
_MOST_MEMORY = 0.5
"""Share of the memory that is free which condensed patches may take; beyond it they are cut for each batch; chosen."""


class ExampleSet(Protocol):
    """Examples, of which those of some rows are taken at a time."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def device(self) -> torch.device:
        """Where they are handed out."""

    @property
    def side(self) -> int:
        """Voxels along each side of a condensed patch."""

    def take(self, rows: Tensor) -> Examples:
        """The examples of these rows, in this order, on the device."""

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Examples]:
        """The examples of each part of the rows."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Condensed patches (N, m, m, m), half precision, and their true rotations (N, 3, 3)."""

    cubes: Tensor
    rotations: Tensor

    def __len__(self) -> int:
        return len(self.cubes)

    @property
    def device(self) -> torch.device:
        """Where they are held."""
        return self.cubes.device

    @property
    def side(self) -> int:
        """Voxels along each side of a condensed patch."""
        return int(self.cubes.shape[-1])

    def to(self, device: torch.device) -> Examples:
        """The same on another device."""
        return Examples(self.cubes.to(device), self.rotations.to(device))

    def take(self, rows: Tensor) -> Examples:
        """The examples of these rows."""
        return Examples(self.cubes.index_select(0, rows), self.rotations.index_select(0, rows))

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Examples]:
        """The examples of each part of the rows; on a CPU the next part is made ready while one is used."""
        if self.cubes.device.type != "cpu":
            return (self.take(rows) for rows in parts)
        return _one_ahead(self._taken, parts)

    def _taken(self, rows: Tensor) -> Examples:
        """The examples of these rows, in single precision, which the network computes in."""
        with single_threaded():
            # One by one, from where they lie to where they go: 0.2 ms for 32 of 40³ voxels, 0.8 in two steps.
            cubes = self.cubes.new_empty((len(rows), *self.cubes.shape[1:]), dtype=torch.float32)
            for cube, row in zip(cubes, rows.tolist(), strict=True):
                cube.copy_(self.cubes[row])
            return Examples(cubes, self.rotations.index_select(0, rows))


class StreamedExamples:
    """Examples whose patches are cut from their tomograms whenever they are needed, a batch ahead of the training.

    Memory holds two batches, however many tomograms there are. The patches are those of `cut_examples`.

    Parameters
    ----------
    mlp : its front end condenses the patches.
    device : where examples are handed out.
    """

    def __init__(self, mlp: MLP, labelled: Labelled, device: torch.device) -> None:
        self.labelled, self._device = labelled, device
        # Weights change while patches are condensed; the front end has none.
        self._front_end = MLP(mlp.options)
        self._side = _side(mlp)
        rotations = [torch.from_numpy(particles.required_rotations()).float() for _, particles in labelled]
        self.rotations = torch.cat(rotations)
        counts = [len(particles) for _, particles in labelled]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def device(self) -> torch.device:
        """Where they are handed out."""
        return self._device

    @property
    def side(self) -> int:
        """Voxels along each side of a condensed patch."""
        return self._side

    def take(self, rows: Tensor) -> Examples:
        """The examples of these rows, cut now; tomogram by tomogram, each from its first position on."""
        wanted = rows.cpu().numpy()
        cubes = torch.empty((len(wanted), *(self._side,) * 3), dtype=torch.float16)
        of = np.searchsorted(self._ends, wanted, side="right")
        with single_threaded():
            for index in np.unique(of).tolist():
                tomogram, particles = self.labelled[index]
                places = np.flatnonzero(of == index)
                own = wanted[places] - (self._ends[index] - len(particles))
                cut = _patches(self._front_end, tomogram, particles.take(own))
                cubes[torch.from_numpy(places)] = self._front_end.condense(torch.from_numpy(cut)).half()
        return Examples(cubes, self.rotations[rows.cpu()]).to(self._device)

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Examples]:
        """The examples of each part of the rows; the next part is cut while one is used."""
        return _one_ahead(self.take, parts)


def _one_ahead(take: Callable[[Tensor], Examples], parts: Sequence[Tensor]) -> Iterator[Examples]:
    """The examples of each part of the rows; the next part is taken, in a thread of its own, while one is used."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(take, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            assert ahead is not None
            found = ahead.result()
            ahead = None if following is None else pool.submit(take, following)
            yield found


def examples_of(
    mlp: MLP, labelled: Labelled, device: torch.device, *, words: str, streamed: bool | None = None
) -> Stream[Step, ExampleSet]:
    """The labelled particles as examples, in memory or streamed from their tomograms.

    Parameters
    ----------
    streamed : None streams them where they would take more than half of the memory that is free.
    """
    total = sum(len(particles) for _, particles in labelled)
    free = free_memory()
    if streamed is None:
        streamed = free is not None and total * 2 * _side(mlp) ** 3 > _MOST_MEMORY * free
    if streamed:
        yield Step(0, total, f"{words}: batch by batch")
        return StreamedExamples(mlp, labelled, device)
    examples = yield from cut_examples(mlp, labelled, words=words)
    return examples.to(device)


def cut_examples(mlp: MLP, labelled: Labelled, *, words: str) -> Stream[Step, Examples]:
    """The labelled particles, cut and condensed by the network's front end; a step for every batch.

    All cubes are held once: their memory is taken at the start, and each is written into its place.
    """
    total = sum(len(particles) for _, particles in labelled)
    side = _side(mlp)
    cubes = torch.empty((total, side, side, side), dtype=torch.float16)
    rotations, done = [], 0
    for tomogram, particles in labelled:
        for start in range(0, len(particles), _CUT_BATCH):
            yield Step(done, total, words)
            part = particles.take(slice(start, start + _CUT_BATCH))
            cubes[done : done + len(part)] = mlp.condense(torch.from_numpy(_patches(mlp, tomogram, part)))
            rotations.append(torch.from_numpy(part.required_rotations()).float())
            done += len(part)
    yield Step(done, total, words)
    return Examples(cubes, torch.cat(rotations))


def _side(mlp: MLP) -> int:
    return int(mlp.condense(torch.zeros(1, *(mlp.patch_side,) * 3)).shape[-1])


def _patches(mlp: MLP, tomogram: Tomogram, particles: Particles) -> PatchArray:
    return cut_patches(
        tomogram,
        particles.positions,
        side=mlp.patch_side,
        voxel_size=mlp.patch_voxel_size,
        centring="rounded",
    )
