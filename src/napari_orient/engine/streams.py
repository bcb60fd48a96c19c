"""Long work as a generator: each ``next`` is progress, ``close()`` is Stop, the return value is the answer."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True)
class Step:
    """One piece of progress: ``done`` of ``total`` pieces, and what is being done in a few words.

    ``notes`` are lines that a person should still see when the work is over: what was found, what looks wrong.
    """

    done: int
    total: int
    message: str
    notes: tuple[str, ...] = field(default=(), kw_only=True)


StepT = TypeVar("StepT", bound=Step)
ResultT = TypeVar("ResultT")

Stream = Generator[StepT, None, ResultT]
"""A long task: each ``next`` is progress, ``close()`` is Stop, the return value is the answer."""


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
