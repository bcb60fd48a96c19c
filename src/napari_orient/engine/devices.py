"""Devices to compute on: the CPU or a GPU, chosen by name, never replaced silently; importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option
from napari_orient.engine.threads import worker_count

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
_GPU_BATCHES = 16
"""Size of a GPU's batch over that of a CPU: measured on an H200, where 8 to 32 take the same time."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """Where to compute: a part of every task's options that runs on a GPU or a CPU."""

    device: str = option("auto", help="where to compute; auto takes a GPU where there is one", choices=DEVICES)

    def chosen(self) -> torch.device:
        """The device in force; see `choose_device`."""
        return choose_device(self.device)


def choose_device(name: str) -> torch.device:
    """The device of this name; ``auto`` takes a GPU where there is one.

    Raises
    ------
    InputError
        If the named device is not there: never a silent fall to the CPU.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if name not in there:
        raise InputError(f"device {name!r} is unknown; expected one of {', '.join(DEVICES)}.")
    if not there[name]:
        raise InputError(f"device {name!r} is not on this machine; expected cpu, or auto to take what there is.")
    return torch.device(name)


def device_batch_size(device: torch.device, batch: int) -> int:
    """Size of a batch on the device, given that on a CPU: its cache is small, and a GPU must be kept busy."""
    return batch if device.type == "cpu" else _GPU_BATCHES * batch


def free_gpu_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that are free."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def device_words(device: torch.device) -> str:
    """The device in words, to be said aloud: ``CPU (2 threads)`` or the GPU's name."""
    if device.type == "cuda":
        import torch

        return f"GPU ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "GPU (Apple)"
    threads = worker_count()
    return f"CPU ({threads} {'thread' if threads == 1 else 'threads'})"
