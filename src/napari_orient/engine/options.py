"""Options: a parameter is declared once, with default, unit, bounds and help; forms, flags, checks and docs follow.

An Options dataclass may be composed of smaller ones (`suboptions`). In Python a part is an attribute
(``options.wedge``); everywhere else, on the command line, in forms, files and docs, its options stand flat beside the
others, by name.
"""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache
from numbers import Integral, Real
from typing import Any, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from napari_orient.engine.errors import InputError, expected_one_of

Value = bool | int | float | str | None
"""What an option may hold. ``None`` means unknown, or "choose for me" where the help says so."""

_PART = "part"
"""The key in a dataclass field's metadata that marks a part: a field that is itself an Options dataclass."""
_LARGEST_SEED = 2**31 - 1
"""What torch and NumPy both take as a seed on every platform."""


class UnknownOptionWarning(UserWarning):
    """An option of a record is unknown to this version and was ignored."""


@dataclass(frozen=True)
class Parameter:
    """One declared option, as the command line, the form, the check and the docs need it.

    Parameters
    ----------
    even : whether a whole number must be even.
    expert : whether it is shown on request only: most people never need it.
    aliases : earlier names, still read in records and on the command line.
    path : the parts that lead to it, outermost first; empty for an option of the class itself.
    """

    name: str
    type: type
    optional: bool
    default: Value
    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    even: bool = False
    expert: bool = False
    aliases: tuple[str, ...] = ()
    path: tuple[str, ...] = ()

    def value_in(self, options: Options) -> Value:
        """The value that these options hold for it."""
        holder: Any = options
        for name in self.path:
            holder = getattr(holder, name)
        value: Value = getattr(holder, self.name)
        return value

    def check(self, value: object) -> None:
        """Check that the value fits.

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
    def label(self) -> str:
        """The name with its unit, as a form shows it: ``Patch side (voxels)``."""
        words = self.name.replace("_", " ") + (f" ({self.unit})" if self.unit else "")
        return words[:1].upper() + words[1:]

    @property
    def expected(self) -> str:
        """What fits, in words: type, bounds, unit or the choices."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {int: "a whole number", float: "a number", str: "text", bool: "yes or no"}[self.type]
        words = "an even number" if self.even else words
        if self.low is not None and self.high is not None:
            words += f" from {self.low:.10g} to {self.high:.10g}"
        elif self.low is not None:
            words += f" of at least {self.low:.10g}"
        elif self.high is not None:
            words += f" of at most {self.high:.10g}"
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
            below = self.high is None or value <= self.high
            return math.isfinite(value) and above and below and not (self.even and value % 2)
        return True


def option(
    default: Value,
    *,
    help: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    even: bool = False,
    expert: bool = False,
    aliases: tuple[str, ...] = (),
) -> Any:
    """A field of an Options dataclass: its default, one line of help, unit, inclusive bounds, or choices.

    Parameters
    ----------
    even : a whole number that must be even.
    expert : forms fold it away under "Advanced"; the command line shows it by ``--help-all``.
    aliases : earlier names, still read in records and on the command line.
    """
    declared = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices, "even": even}
    return field(default=default, metadata={**declared, "expert": expert, "aliases": aliases})


def seed_option(help: str) -> Any:
    """A field for the seed of a random generator; the help says of what."""
    return option(0, help=help, low=0, high=_LARGEST_SEED, expert=True)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every task's options: a frozen dataclass whose fields are made by `option` or `suboptions`.

    Every value is checked when the options are made. `of` and `replace` take options of parts by their plain names;
    `to_record` and `from_record` write and read them so.
    """

    def __post_init__(self) -> None:
        """Check every field against its declaration; parts have checked themselves. NumPy's numbers become Python's."""
        for parameter in self.parameters():
            if not parameter.path:
                value = _plain_number(getattr(self, parameter.name))
                parameter.check(value)
                object.__setattr__(self, parameter.name, value)

    @classmethod
    def of(cls, **values: Value) -> Self:
        """Options with these values; options of parts are given by their plain names.

        Raises
        ------
        InputError
            If there is no option of a name, or a value does not fit.
        """
        return cls().replace(**values)

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """The declared options in order, those of parts in their part's place."""
        return _parameters_of(cast(Any, cls))

    def replace(self, **values: Value) -> Self:
        """The same options with some values changed; options of parts are given by their plain names.

        Raises
        ------
        InputError
            If there is no option of a name, or a value does not fit.
        """
        named = {parameter.name: parameter for parameter in self.parameters()}
        current = _current_names(cast(Any, type(self)))
        unknown = [name for name in values if name not in current]
        if unknown:
            raise InputError(f"{type(self).__name__} has no option {unknown[0]!r}{expected_one_of(unknown[0], named)}.")
        changed: dict[tuple[str, ...], dict[str, Value]] = {}
        # The current name wins where an earlier one is given beside it.
        for name in sorted(values, key=lambda name: name in named):
            parameter = named[current[name]]
            changed.setdefault(parameter.path, {})[parameter.name] = values[name]
        made: Any = self
        for path, parts in changed.items():
            made = _replaced(made, path, parts)
        return cast(Self, made)

    def to_record(self) -> dict[str, Value]:
        """The values by name, those of parts beside the others, fit for JSON."""
        return {parameter.name: parameter.value_in(self) for parameter in self.parameters()}

    @classmethod
    def from_record(cls, record: Mapping[str, Value]) -> Self:
        """Options with the record's values; what the record lacks keeps its default.

        A record may name options that this version does not have, since they were removed or came later: each is
        ignored with an `UnknownOptionWarning`. Earlier names of options are read.

        Raises
        ------
        InputError
            If a value does not fit.
        """
        current = _current_names(cast(Any, cls))
        for name in sorted(set(record) - set(current)):
            words = f"option {name!r} is unknown to this version and was ignored ({cls.__name__})."
            warnings.warn(words, UnknownOptionWarning, stacklevel=2)
        return cls.of(**{name: value for name, value in record.items() if name in current})


def _plain_number(value: object) -> object:
    """A number of NumPy's as Python's; everything else as it is."""
    if isinstance(value, (bool, int, float)):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


PartT = TypeVar("PartT", bound=Options)


def suboptions(kind: type[PartT], **defaults: Value) -> PartT:
    """A field of an Options dataclass that is itself one of these options, perhaps with defaults of its own."""
    made: Any = field(default=kind.of(**defaults), metadata={_PART: True})
    return cast(PartT, made)


def _replaced(options: Options, path: tuple[str, ...], values: Mapping[str, Value]) -> Options:
    """The options with values changed in the part that the path leads to."""
    if not path:
        return replace(options, **values)
    inner = _replaced(getattr(options, path[0]), path[1:], values)
    return replace(options, **{path[0]: inner})


@cache
def _current_names(kind: Any) -> dict[str, str]:
    """The name of an option today, by every name that it has or had."""
    earlier = {alias: parameter.name for parameter in kind.parameters() for alias in parameter.aliases}
    return {**earlier, **{parameter.name: parameter.name for parameter in kind.parameters()}}


@cache
def _parameters_of(kind: Any) -> tuple[Parameter, ...]:
    hints = get_type_hints(kind)
    declared = [item for item in fields(kind) if item.default is not MISSING]
    found = tuple(parameter for item in declared for parameter in _declared(item, hints[item.name]))
    names = [parameter.name for parameter in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TypeError(f"{kind.__name__} declares {', '.join(sorted(twice))} twice: names must differ across parts.")
    return found


def _declared(item: Field[Any], hint: Any) -> tuple[Parameter, ...]:
    """The options that one field declares: itself, or those of its part."""
    if _PART not in item.metadata:
        return (Parameter(item.name, *_plain_type(hint), cast(Value, item.default), **item.metadata),)
    inside = cast(Options, item.default)
    return tuple(
        replace(parameter, path=(item.name, *parameter.path), default=parameter.value_in(inside))
        for parameter in inside.parameters()
    )


def _plain_type(hint: Any) -> tuple[type, bool]:
    """A field's type without None, and whether None is allowed."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0], True
    return hint, False
