"""A pretended GPU: memory of the CPU that may not be mixed with the CPU's own, for machines without the real thing.

Inside ``pretended_gpu()`` the device ``cuda`` is there. Tensors made on it or moved to it answer as ones on a GPU do:
an operation that takes one of them and a CPU tensor fails, and NumPy cannot read one before ``cpu()``. The figures are
the CPU's own, to the bit. What only the hardware shows (kernels, memory, pace) is not pretended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # an optimiser imports it at first use, which torch's generator must not be replaced for
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

GPU, CPU = torch.device("cuda"), torch.device("cpu")
_DEVICE = torch.Tensor.device.__get__
_READS = (torch.Tensor.numpy, torch.Tensor.__array__)
_INDEXES = (torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.Tensor.split)
_COPIES = (torch.Tensor.copy_,)


class Pretended(torch.Tensor):
    """A tensor on the pretended GPU."""

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func == _DEVICE:
            return GPU if isinstance(args[0], cls) else CPU
        if func in _READS:
            raise TypeError(f"{func.__name__} of a tensor on the GPU; expected cpu() before it")
        if func is torch.Tensor.cpu:
            return plain(args[0])
        if func is torch.Tensor.to:
            return _moved(*args, **kwargs)
        _check(func, args, kwargs)
        kwargs, target = _without_device(kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            answer = func(*args, **kwargs)
        return answer if target == CPU else everywhere(there, answer)


class _Factories(TorchFunctionMode):
    """What is made on the device ``cuda`` is made on the CPU and pretended."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(item, Pretended) for item in tensors_in((args, kwargs))):
            return func(*args, **kwargs)
        if func is torch.Tensor.to and _target(args[1:], kwargs) == GPU:
            return there(func(args[0], *_here(args[1:]), **_without_device(kwargs)[0]))
        kwargs, target = _without_device(kwargs)
        answer = func(*args, **kwargs)
        return everywhere(there, answer) if target == GPU else answer


@contextmanager
def pretended_gpu() -> Iterator[None]:
    generator = torch.Generator

    def here(device: Any = CPU) -> torch.Generator:
        return generator(CPU)

    with (
        patch("torch.cuda.is_available", lambda: True),
        patch("torch.cuda.get_device_name", lambda *_: "pretended"),
        patch("torch.cuda.mem_get_info", lambda *_: (2**34, 2**34)),
        # A build of torch for CUDA asks the driver for these at each step of an optimiser.
        patch("torch.cuda.is_current_stream_capturing", lambda: False),
        _without_accelerator(),
        patch("torch.Generator", here),
        _Factories(),
    ):
        yield


def _without_accelerator() -> AbstractContextManager[Any]:
    if not hasattr(torch, "accelerator"):  # before torch 2.6
        return nullcontext()
    return patch("torch.accelerator.current_accelerator", lambda *_, **__: None)


def there(item: Any) -> Any:
    return item.as_subclass(Pretended) if type(item) is torch.Tensor else item


def plain(item: Any) -> Any:
    return item.as_subclass(torch.Tensor) if isinstance(item, torch.Tensor) else item


def tensors_in(given: Any) -> list[torch.Tensor]:
    """The tensors among arguments, in tuples, lists and dictionaries; torch's own walk takes ten times as long."""
    if isinstance(given, torch.Tensor):
        return [given]
    if isinstance(given, dict):
        given = tuple(given.values())
    return [item for part in given for item in tensors_in(part)] if isinstance(given, tuple | list) else []


def everywhere(change: Callable, answer: Any) -> Any:
    """An answer with its tensors changed."""
    return change(answer) if isinstance(answer, torch.Tensor) else tree_map(change, answer)


def _check(func: Callable, args: tuple, kwargs: dict) -> None:
    given = tensors_in((args[1:], kwargs) if func in _INDEXES else (args, kwargs))
    # A module's weights may be on either: moved, they are the same objects with other memory beneath.
    tensors = [item for item in given if not isinstance(item, torch.nn.Parameter)]
    if func in _INDEXES:  # a GPU tensor may be indexed by either; a CPU one by its own alone
        mixed = not isinstance(args[0], Pretended) and any(isinstance(item, Pretended) for item in tensors)
    else:
        mixed = any(not isinstance(item, Pretended) and item.dim() > 0 for item in tensors)
    if mixed and func not in _COPIES:
        raise RuntimeError(f"{func.__name__}: tensors on the GPU and on the CPU in one operation")


def _moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    target = _target(args, kwargs) or tensor.device
    kwargs = {name: plain(value) for name, value in _without_device(kwargs)[0].items()}
    answer = plain(tensor).to(*map(plain, _here(args)), **kwargs)
    return there(answer) if target == GPU else plain(answer)


def _target(args: tuple, kwargs: dict) -> torch.device | None:
    for item in (*args, kwargs.get("device"), kwargs.get("other")):
        if isinstance(item, torch.Tensor):
            return GPU if isinstance(item, Pretended) else CPU
        if isinstance(item, torch.device | str):
            return torch.device(item)
    return None


def _here(args: tuple) -> tuple:
    return tuple(CPU if isinstance(item, torch.device | str) else item for item in args)


def _without_device(kwargs: dict) -> tuple[dict, torch.device | None]:
    target = kwargs.get("device")
    if target is None:
        return kwargs, None
    return {**kwargs, "device": CPU}, torch.device(target)
