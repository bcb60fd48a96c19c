"""What every long task is: Options in, a Stream of Steps out, an answer returned."""

from __future__ import annotations

import os
import tempfile
import types
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

Value = bool | int | float | str | None
"""What an option may hold. ``None`` means unknown, or "choose for me" where the help says so."""


class InputError(ValueError):
    """Something that the user can mend: what was given, what was expected, what to do, in one line.

    Doors catch this class alone: the CLI prints the line and exits with 2, a dock shows a notification.
    Any other exception is our fault and flies with its traceback.
    """


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


# --- options: a parameter is written once ---------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """One declared option, as the command line, the form, the check and the docs need it."""

    name: str
    type: type
    optional: bool
    default: Value
    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]

    def check(self, value: object) -> None:
        """Nothing, if the value fits.

        Raises
        ------
        InputError
            If its type, bounds or choice do not fit.
        """
        if value is None and self.optional:
            return
        if not self._fits(value):
            raise InputError(f"{self.name} is {value!r}; expected {self.expected}.")

    @property
    def expected(self) -> str:
        """What fits, in words: type, bounds, unit or the choices."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {int: "a whole number", float: "a number", str: "text", bool: "yes or no"}[self.type]
        if self.low is not None and self.high is not None:
            words += f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            words += f" of at least {self.low:g}"
        elif self.high is not None:
            words += f" of at most {self.high:g}"
        return f"{words} {self.unit}".strip()

    def _fits(self, value: object) -> bool:
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.type) or (self.type is int and isinstance(value, bool)):
            return False
        if self.choices:
            return value in self.choices
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            above = self.low is None or value >= self.low
            return above and (self.high is None or value <= self.high)
        return True


def option(
    default: Value,
    *,
    help: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of an Options dataclass: its default, one line of help, unit, inclusive bounds, or choices."""
    return field(default=default, metadata={"help": help, "unit": unit, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every task's options: a frozen dataclass whose fields are made by `option` and checked when made."""

    def __post_init__(self) -> None:
        """Check every field against its declaration."""
        for parameter in self.parameters():
            parameter.check(getattr(self, parameter.name))

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """The declared options, in order."""
        hints = get_type_hints(cls)
        return tuple(
            Parameter(item.name, *_plain_type(hints[item.name]), item.default, **item.metadata)
            for item in fields(cls)
            if item.default is not MISSING
        )

    def to_record(self) -> dict[str, Value]:
        """The values by name, fit for JSON."""
        return {parameter.name: getattr(self, parameter.name) for parameter in self.parameters()}

    @classmethod
    def from_record(cls, record: Mapping[str, Value]) -> Self:
        """Options with the record's values; what the record lacks keeps its default.

        Raises
        ------
        InputError
            If the record names an option that does not exist, or a value does not fit.
        """
        unknown = sorted(set(record) - {parameter.name for parameter in cls.parameters()})
        if unknown:
            raise InputError(f"{cls.__name__} has no option {unknown[0]!r}; was it written by a newer version?")
        return cls(**record)


def _plain_type(hint: Any) -> tuple[type, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0], True
    return hint, False


# --- outputs: written beside and renamed ------------------------------------------------------------------------


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    Raises
    ------
    InputError
        If the folder is missing, is not a folder, or cannot be written.
    """
    path = Path(path)
    check_writable(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_writable(path: Path | str) -> None:
    """Nothing, if a file can be written at ``path``; asked before long work starts.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a file to write.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder, so {path.name} cannot be written there. Make it first.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path.parent} cannot be written ({reason}); choose another folder.") from error


def existing_file(path: Path | str) -> Path:
    """The path, if it is a file that is there and not empty.

    Raises
    ------
    InputError
        If there is no such file, it is a folder, or it is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file.")
    if not path.exists():
        raise InputError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); was it copied or downloaded completely?")
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
