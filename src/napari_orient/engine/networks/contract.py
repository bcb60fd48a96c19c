"""What every network is to the rest of the engine: patches of one size in, an Answer out; and the device it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from napari_orient.engine.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
_GPU_BATCHES = 16


@dataclass(frozen=True)
class Answer:
    """What a network says of N patches.

    ``rotations`` (N, 3, 3); ``expected_error_deg`` (N,) expected root-mean-square error, or None where the network was
    never calibrated; ``shifts`` (N, 3) xyz in Å from the patch's centre to the particle's, or None if it does not tell.
    """

    rotations: Tensor
    expected_error_deg: Tensor | None = None
    shifts: Tensor | None = None


class Network(Protocol):
    """A trained network, ready to answer."""

    @property
    def patch_side(self) -> int:
        """Voxels along each side of the patches that it takes."""

    @property
    def patch_voxel_size(self) -> float:
        """Å of these voxels."""

    def answer(self, patches: Tensor) -> Answer:
        """The answer for patches (N, side, side, side), indexed [n, z, y, x], mean 0 and deviation 1."""


def choose_device(name: str) -> torch.device:
    """The device of this name; ``auto`` takes a GPU where there is one.

    Raises
    ------
    InputError
        If the named device is not there: never a silent fall to the CPU.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if name not in there:
        raise InputError(f"device {name!r} is unknown; expected one of {', '.join(DEVICES)}.")
    if not there[name]:
        raise InputError(f"device {name!r} is not on this machine; expected cpu, or auto to take what there is.")
    return torch.device(name)


def at_once(device: torch.device, batch: int) -> int:
    """How many patches to work on together where a CPU takes so many: its cache is small, a GPU must be kept busy."""
    return batch if device.type == "cpu" else _GPU_BATCHES * batch


def device_words(device: torch.device) -> str:
    """The device in words, to be said aloud: ``CPU (2 threads)`` or the GPU's name."""
    if device.type == "cuda":
        return f"GPU ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "GPU (Apple)"
    threads = torch.get_num_threads()
    return f"CPU ({threads} {'thread' if threads == 1 else 'threads'})"
