"""Batches of patches, sized for a processor's cache or a GPU, solved side by side where there are threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

from napari_orient.engine.devices import device_batch_size, in_parallel
from napari_orient.engine.refinement.posterior import Poses

_MOST_PATCHES = 32
"""Most patches in a batch of a CPU's thread; cache and speed only, the poses hold for any."""
_LEAST_PATCHES = 8
"""Fewest patches in such a batch, however large they are."""
_BATCH_VOXELS = 6_000_000
"""Most voxels of a batch's patches together, between those two: it limits the memory of large patches."""
_UNDIVIDED = 8
"""Patches up to which a list is solved as one batch."""
_BATCHES_HELD = 4
"""Batches whose patches are cut and held together; so many threads at most have work."""


def patches_per_batch(side: int, device: torch.device) -> int:
    """Number of patches of ``side`` voxels along each axis that one batch has."""
    return device_batch_size(device, min(_MOST_PATCHES, max(_LEAST_PATCHES, _BATCH_VOXELS // side**3)))


def patches_held(side: int, device: torch.device) -> int:
    """Number of such patches to cut and hold in memory together."""
    return _BATCHES_HELD * patches_per_batch(side, device)


def in_batches(solve: Callable[[slice], Poses], count: int, *, side: int, device: torch.device) -> Poses:
    """Poses of all rows, in order; on a CPU batches are solved side by side, one to a thread.

    More threads give the same poses to the bit, for the batches are the same.
    """
    parts = _shares(count, patches_per_batch(side, device))
    return Poses.concatenated(in_parallel(solve, parts, device=device))


def _shares(count: int, most: int) -> list[slice]:
    """Rows in shares of at most so many, as alike in size as can be; an even number, so that no thread of two waits."""
    parts = 1 if count <= _UNDIVIDED else 2 * math.ceil(count / (2 * most))
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(*both) for both in pairwise(ends)]
