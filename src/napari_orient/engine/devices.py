"""Devices to compute on, chosen by name and never replaced silently, and threads of the processor; loads no torch.

torch shares one operation among several threads (OpenMP's) and lets those that have finished wait for the others in a
busy loop. Most operations here are short; where a core has other work too, most of the processor's time is spent in
waiting. So an operation gets one thread, and batches of patches or of rotations are worked on side by side.

``torch.set_num_threads`` acts in two places (measured with torch 2.13; OpenMP keeps the number for each thread, and MKL
has one for each thread too): the thread that calls it shares its operations among so many from then on, and
threads that first use torch later begin with so many. Other threads that have used torch keep theirs. `single_threaded`
changes the first and leaves the second as it was, so that napari's other plugins, in this process, keep their threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from threading import Lock, local
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from napari_orient.engine.environment import is_gpu_memory_error
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option
from napari_orient.engine.streams import NoteWarning, map_steps

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


# --- threads ----------------------------------------------------------------------------------------------------------

ArgumentsT = ParamSpec("ArgumentsT")
PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")
StepT = TypeVar("StepT")


class _Own(local):
    """What each thread has for itself: how many workers it may use while it is single-threaded, else None."""

    workers: int | None = None


_OWN = _Own()
_SETTING = Lock()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread for each operation that this thread asks for; `in_parallel` still uses several."""
    if _OWN.workers is not None:
        yield
        return
    import torch

    usual = torch.get_num_threads()
    _OWN.workers = usual
    try:
        _set_own_threads(1)
        yield
    finally:
        _OWN.workers = None
        _set_own_threads(usual)


def single_threaded_steps(
    function: Callable[ArgumentsT, Generator[StepT, None, ResultT]],
) -> Callable[ArgumentsT, Generator[StepT, None, ResultT]]:
    """The same stream, single-threaded during its steps and not between them, where its caller runs."""

    @wraps(function)
    def stepping(*args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> Generator[StepT, None, ResultT]:
        stream = function(*args, **kwargs)
        try:
            while True:
                with single_threaded():
                    try:
                        step = next(stream)
                    except StopIteration as end:
                        answer: ResultT = end.value
                        return answer
                yield step
        finally:
            stream.close()

    return stepping


def worker_count() -> int:
    """How many threads work side by side here: as many as torch would share an operation among."""
    if _OWN.workers is not None:
        return _OWN.workers
    import torch

    return torch.get_num_threads()


def in_parallel(
    function: Callable[[PartT], ResultT], parts: Sequence[PartT], *, device: torch.device | None = None
) -> list[ResultT]:
    """The function's answers for each part, in order; on a CPU parts are worked on side by side, each in one thread.

    The answers do not depend on how many threads there are. In the workers gradients are on or off as they are here.
    A part for which a GPU has no memory is halved, which is warned of: then there are more answers than parts.
    """
    import torch

    workers = min(worker_count(), len(parts)) if device is None or device.type == "cpu" else 1
    if workers <= 1:
        with single_threaded():
            return [answer for part in parts for answer in _in_memory(function, part)]
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def work(part: PartT) -> ResultT:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return function(part)

    with ThreadPoolExecutor(workers, initializer=_become_worker) as pool:
        return list(pool.map(work, parts))


def side_by_side(
    streams: Sequence[Generator[StepT, None, ResultT]], *, device: torch.device
) -> Generator[list[StepT | None], None, list[ResultT]]:
    """The answers of streams that do not need each other, in order, which take their steps side by side.

    Yielded is the step that each has taken, None where it took none. On a CPU each has a thread of its own and an even
    share of the workers; on a GPU, or with one worker, they follow each other. The answers are the same.
    """
    workers = worker_count() if device.type == "cpu" else 1
    if workers < 2 or len(streams) < 2:
        return (yield from _one_by_one(streams))
    share = max(1, workers // len(streams))
    # A thread for each: what a stream sets for its thread, it finds there again.
    pools = [ThreadPoolExecutor(1, initializer=_become_worker, initargs=(share,)) for _ in streams]
    answers, running = dict[int, ResultT](), list(range(len(streams)))
    try:
        while running:
            taken = {number: pools[number].submit(_advanced, streams[number], answers, number) for number in running}
            steps = [taken[number].result() if number in taken else None for number in range(len(streams))]
            running = [number for number in running if number not in answers]
            if running:
                yield steps
    finally:
        for pool, stream in zip(pools, streams, strict=True):
            pool.submit(stream.close).result()
            pool.shutdown()
    return [answers[number] for number in range(len(streams))]


def _one_by_one(
    streams: Sequence[Generator[StepT, None, ResultT]],
) -> Generator[list[StepT | None], None, list[ResultT]]:
    answers = list[ResultT]()
    for number, stream in enumerate(streams):

        def alone(step: StepT, number: int = number) -> list[StepT | None]:
            return [step if other == number else None for other in range(len(streams))]

        answers.append((yield from map_steps(stream, alone)))
    return answers


def _advanced(stream: Generator[StepT, None, ResultT], answers: dict[int, ResultT], number: int) -> StepT | None:
    """The next step of a stream; None where it is over, and its answer is put among the others."""
    try:
        return next(stream)
    except StopIteration as end:
        answers[number] = end.value
        return None


def _in_memory(function: Callable[[PartT], ResultT], part: PartT) -> list[ResultT]:
    """The function's answer for a part; where a GPU's memory does not hold it, those for its halves, in order."""
    try:
        return [function(part)]
    except RuntimeError as error:
        halves = _halves(part) if is_gpu_memory_error(error) else None
        if halves is None:
            raise
    # Out of the handler, whose traceback holds the tensors of the attempt.
    import torch

    torch.cuda.empty_cache()
    warnings.warn("The GPU's memory ran out; smaller batches are taken from here on.", NoteWarning, stacklevel=3)
    return [answer for half in halves for answer in _in_memory(function, half)]


def _halves(part: PartT) -> tuple[PartT, PartT] | None:
    """A range of rows, or a sequence, in two; None where it cannot be divided."""
    whole: Any = part
    if isinstance(whole, slice) and whole.step is None and whole.start is not None and whole.stop - whole.start > 1:
        middle: Any = (whole.start + whole.stop) // 2
        first: Any = slice(whole.start, middle)
        second: Any = slice(middle, whole.stop)
        return first, second
    if isinstance(whole, slice) or not hasattr(whole, "__len__") or len(whole) < 2 or isinstance(whole, (tuple, dict)):
        return None
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]


def _become_worker(workers: int = 1) -> None:
    _OWN.workers = workers
    _set_own_threads(1)


def _set_own_threads(count: int) -> None:
    """Set how many threads this thread's operations are shared among, and leave alone what new threads begin with."""
    import torch

    # A thread takes what new threads begin with when it first asks, and would then forget what it was set to before.
    if torch.get_num_threads() == count:
        return
    with _SETTING, ThreadPoolExecutor(1) as another:
        usual = another.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        another.submit(torch.set_num_threads, usual).result()
