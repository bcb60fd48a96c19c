"""Long work as a generator: each ``next`` is progress, ``close()`` is Stop, the return value is the answer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar


@dataclass(frozen=True)
class Note:
    """One line that a person should still see when the work is over.

    Parameters
    ----------
    text : what was found or what looks wrong, without a prefix.
    severity : "warning" where results may be wrong, else "info".
    """

    text: str
    severity: Literal["info", "warning"] = "info"

    def __str__(self) -> str:
        """The line as it is shown: a warning begins with the word."""
        return f"Warning: {self.text}" if self.severity == "warning" else self.text


@dataclass(frozen=True)
class Step:
    """One piece of progress: ``done`` of ``total`` pieces, and what is being done in a few words.

    ``notes`` should still be visible when the work is over. ``whole`` is true where the whole task is counted; else the
    steps count a stage of it, and another may follow.
    """

    done: int
    total: int
    message: str
    notes: tuple[Note, ...] = field(default=(), kw_only=True)
    whole: bool = field(default=False, kw_only=True)


class NoteWarning(UserWarning):
    """Something that a person should know of how the work is done, where no stream can carry a note."""


StepT = TypeVar("StepT", bound=Step)
ResultT = TypeVar("ResultT")
YieldT = TypeVar("YieldT")

Stream = Generator[StepT, None, ResultT]
"""A long task: each ``next`` is progress, ``close()`` is Stop, the return value is the answer."""

Work = Generator[None, None, ResultT]
"""Part of a long task that reports no progress of its own: at each ``next`` it can be stopped."""


def map_steps(
    stream: Generator[Any, None, ResultT], change: Callable[[Any], YieldT]
) -> Generator[YieldT, None, ResultT]:
    """The answer of a stream; what a function makes of each step is yielded in its place."""
    try:
        while True:
            yield change(next(stream))
    except StopIteration as end:
        answer: ResultT = end.value
        return answer
    finally:
        stream.close()


def quiet(stream: Generator[Any, None, ResultT]) -> Stream[Step, ResultT]:
    """The same stream without its notes."""
    return map_steps(stream, lambda step: replace(step, notes=()))


def stoppable(work: Generator[Any, None, ResultT], step: YieldT) -> Generator[YieldT, None, ResultT]:
    """The answer of a part of a task; the step is yielded wherever the part can be stopped."""
    return map_steps(work, lambda _: step)


def run(stream: Generator[Any, None, ResultT]) -> ResultT:
    """The answer of a stream, drained to its end."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            answer: ResultT = end.value
            return answer


def seconds_left(step: Step, elapsed: float) -> float | None:
    """Seconds that the task will still take at the pace so far, or None before the first piece is done."""
    if step.done <= 0:
        return None
    return elapsed * (step.total - step.done) / step.done
