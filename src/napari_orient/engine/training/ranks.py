"""Processes of one training: torch's distributed data parallel, as ``torchrun`` starts it.

Every process (rank) holds the network and takes its share of each batch; their gradients are averaged before each step
of the optimiser (Li et al. 2020, PyTorch Distributed). All that is random is drawn for the whole batch in each of them,
so that several processes end where one does, but for the rounding of sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_orient.engine.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """Number of this process among those of one training.

    Parameters
    ----------
    rank : its number, from 0.
    count : how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the process that writes files and shows progress."""
        return self.rank == 0

    def share(self, total: int, device: torch.device) -> tuple[Tensor, float]:
        """Rows of a batch of ``total`` that this process works on, and the weight of their mean loss.

        So weighted, gradients average to those of all rows. Where there are fewer rows than processes, one without a
        row takes the first at weight 0.
        """
        own = torch.arange(total, device=device)[self.rank :: self.count]
        if len(own) == 0:
            return torch.zeros(1, dtype=torch.long, device=device), 0.0
        return own, len(own) * self.count / total

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients are averaged over all processes in each backward pass."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a value over all processes."""
        if self.count == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.count


ALONE = Ranks()
"""A training in one process."""


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Context of a training in which this process has met the others that ``torchrun`` started; alone without it.

    Each process uses the GPU of its number on its machine.

    Raises
    ------
    InputError
        If the others cannot be met.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the {count} processes of the training do not meet ({error}). Start them anew.") from error
    try:
        yield Ranks(torch.distributed.get_rank(), count)
    finally:
        torch.distributed.destroy_process_group()
