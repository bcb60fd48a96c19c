"""Tasks followed to their end."""

from collections.abc import Generator
from typing import Any, TypeVar

StepT = TypeVar("StepT")
AnswerT = TypeVar("AnswerT")


def followed(stream: Generator[StepT, Any, AnswerT]) -> tuple[list[StepT], AnswerT]:
    """All the steps of a stream, and its answer."""
    steps = []
    while True:
        try:
            steps.append(next(stream))
        except StopIteration as end:
            return steps, end.value
