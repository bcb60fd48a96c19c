"""Patches in batches: as many as a processor's cache or a GPU likes, side by side where there are threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

from napari_orient.engine.devices import at_once
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.threads import in_parallel

_MOST, _LEAST, _ROOM = 32, 8, 6_000_000
"""Patches worked on together by a CPU's thread, at most and at least, and voxels that they may have in all."""
_FEW, _HELD = 8, 4


def batch_of(side: int, device: torch.device) -> int:
    """How many patches of so many voxels along each side to work on together."""
    return at_once(device, min(_MOST, max(_LEAST, _ROOM // side**3)))


def held_at_once(side: int, device: torch.device) -> int:
    """How many such patches to cut and hold in memory at a time: some batches, for as many threads."""
    return _HELD * batch_of(side, device)


def in_batches(solve: Callable[[slice], Poses], count: int, *, side: int, device: torch.device) -> Poses:
    """What the rows of each batch come to, in order; on a CPU batches are solved side by side, one to a thread.

    More threads give the same poses to the bit, for the batches are the same.
    """
    parts = _shares(count, batch_of(side, device))
    return Poses.concatenated(in_parallel(solve, parts, device=device))


def _shares(count: int, most: int) -> list[slice]:
    """Rows in shares of at most so many, as alike in size as can be; an even number, so that no thread of two waits."""
    parts = 1 if count <= _FEW else 2 * math.ceil(count / (2 * most))
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(*both) for both in pairwise(ends)]
