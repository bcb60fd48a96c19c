"""Options: a parameter is declared once, with default, unit, bounds and help; forms, flags, checks and docs follow."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from napari_orient.engine.errors import InputError

Value = bool | int | float | str | None
"""What an option may hold. ``None`` means unknown, or "choose for me" where the help says so."""


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
