"""Rows selected by an expression such as ``expected_error > 15 and neighbour < 300``.

An expression is parsed as Python but never executed: its syntax tree is evaluated here, and only names of columns,
numbers, text, comparisons, arithmetic, ``and``, ``or``, ``not`` and ``in`` are allowed.
"""

from __future__ import annotations

import ast
import io
import keyword
import operator
import tokenize
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import neighbours
from napari_orient.engine.particles import Particles
from napari_orient.engine.rotations import matrix_to_zyz

Columns = Mapping[str, NDArray[Any]]

_LONGEST = 1000
"""Most characters of an expression: beyond what a person types, and short enough for Python's parser."""

_EMPTY = ("", "<NA>")
"""Texts of a number that is unknown, beside those that Python reads as NaN."""

_EXAMPLE = "expected_error > 15 and neighbour < 300"

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def rows_where(expression: str, columns: Columns, *, count: int) -> NDArray[np.bool_]:
    """Mask of the rows for which the expression is true, (N,); all rows where it is empty.

    Parameters
    ----------
    expression : over the columns' names; ``class`` may be one although it is a keyword of Python.
    columns : numbers or text by name, (N,) each. NaN is neither less, equal nor greater.
    count : N.

    Raises
    ------
    InputError
        If the syntax is wrong, a column is unknown, text is compared with numbers, or the expression holds anything
        but comparisons and arithmetic.
    """
    if not expression.strip():
        return np.ones(count, bool)
    try:
        with np.errstate(all="ignore"):
            chosen = _as_mask(_value(_tree(expression), columns), expression.strip())
    except RecursionError:
        raise InputError("the expression is nested too deeply. Write it with fewer brackets.") from None
    return np.broadcast_to(chosen, (count,)).copy()


def rows_of_particles(expression: str, particles: Particles, *, everyone: Particles | None = None) -> NDArray[np.bool_]:
    """Mask of the particles for which the expression is true, (N,).

    Its names are those of the particles' columns in files: ``tomogram``, ``class``, ``x``, ``y``, ``z`` (Å), ``rot``,
    ``tilt``, ``psi``, ``confidence``, ``expected_error_deg``, also as RELION calls them, and every other column; and
    ``neighbour``, the distance in Å to the nearest other particle, with its class as ``neighbour_class``.
    Columns whose values are all numbers, or empty, are numbers.

    Parameters
    ----------
    everyone : all that may be neighbours, these among them; these alone by default.

    Raises
    ------
    InputError
        As `rows_where`.
    """
    columns = _columns_of(particles)
    if "neighbour" in expression and "neighbour" not in columns:
        near = neighbours(particles, everyone or particles)
        columns |= {"neighbour": near.distance, "neighbour_class": near.kind}
    return rows_where(expression, columns, count=len(particles))


def _columns_of(particles: Particles) -> dict[str, NDArray[Any]]:
    names = np.asarray(particles.tomogram)
    columns: dict[str, NDArray[Any]] = {name: _as_numbers(column) for name, column in particles.extra.items()}
    columns |= {"tomogram": names, "rlnTomoName": names, **dict(zip("xyz", particles.positions.T, strict=True))}
    if particles.kind is not None:
        columns |= dict.fromkeys(("class", "orientClass"), particles.kind)
    if particles.rotations is not None:
        angles = matrix_to_zyz(particles.rotations).T
        for called in (("rot", "tilt", "psi"), ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")):
            columns |= dict(zip(called, angles, strict=True))
    if particles.confidence is not None:
        columns |= dict.fromkeys(("confidence", "orientConfidence"), particles.confidence)
    if particles.expected_error_deg is not None:
        called_so = ("expected_error", "expected_error_deg", "orientExpectedErrorDeg")
        columns |= dict.fromkeys(called_so, particles.expected_error_deg)
    return columns


def _as_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """The column as numbers, NaN where it is empty; as it is where a value is no number."""
    if column.dtype.kind not in "OSU":
        return column
    try:
        return np.array([float(text) if text.strip() not in _EMPTY else np.nan for text in map(str, column)])
    except ValueError:
        return column


_LARGEST = 2**63 - 1
"""Largest whole number that a column can hold."""


def _tree(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise InputError(f"the expression has {len(text)} characters; expected at most {_LONGEST}. Shorten it.")
    try:
        return ast.parse(_unreserved(text.strip()), mode="eval").body
    except SyntaxError as error:
        near = text.strip()[max((error.offset or 1) - 4, 0) :][:12]
        raise InputError(
            f"the expression cannot be read near {near!r}; expected one such as {_EXAMPLE} (equal: ==, both: and)."
        ) from None
    except (ValueError, tokenize.TokenError, MemoryError):
        raise InputError(f"the expression cannot be read; expected one such as {_EXAMPLE}.") from None


def _unreserved(text: str) -> str:
    """The text with the keyword ``class`` replaced by a valid name."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    words = [(item.type, "class_" if item.string == "class" else item.string) for item in tokens]
    return tokenize.untokenize(words).strip()


def _value(node: ast.expr, columns: Columns) -> Any:
    for kind, evaluate in _EVALUATORS.items():
        if isinstance(node, kind):
            return evaluate(node, columns)
    raise _unsupported(node)


def _unsupported(node: ast.expr) -> InputError:
    return InputError(
        f"{_source(node)!r} is not understood; expected columns, numbers and comparisons only, such as {_EXAMPLE}."
    )


def _constant(node: Any, columns: Columns) -> Any:
    if not isinstance(node.value, (int, float, str)):
        raise _unsupported(node)
    if isinstance(node.value, int) and abs(node.value) > _LARGEST:
        raise InputError(f"{str(node.value)[:12]}… is larger than any number in a column; expected a smaller one.")
    return node.value


def _unary(node: Any, columns: Columns) -> Any:
    if isinstance(node.op, ast.Not):
        return ~_mask(node.operand, columns)
    if isinstance(node.op, ast.USub):
        return -_number(node.operand, columns)
    raise _unsupported(node)


def _arithmetic(node: Any, columns: Columns) -> Any:
    if isinstance(node.op, (ast.BitAnd, ast.BitOr)):
        raise InputError("& and | mean something else here; write and, or between comparisons.")
    if type(node.op) not in _ARITHMETIC:
        raise _unsupported(node)
    return _ARITHMETIC[type(node.op)](_number(node.left, columns), _number(node.right, columns))


def _boolean(node: Any, columns: Columns) -> Any:
    both = operator.and_ if isinstance(node.op, ast.And) else operator.or_
    return reduce(both, [_mask(part, columns) for part in node.values])


def _comparison_chain(node: Any, columns: Columns) -> Any:
    """Mask of a chain such as ``10 < expected_error < 20``: two comparisons, both of which must hold."""
    pairs = zip([node.left, *node.comparators[:-1]], node.ops, node.comparators, strict=True)
    return reduce(operator.and_, [_comparison(first, op, second, columns) for first, op, second in pairs])


_EVALUATORS: Mapping[type[ast.expr], Callable[[Any, Columns], Any]] = {
    ast.Name: lambda node, columns: _column(node.id, columns),
    ast.Constant: _constant,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.BoolOp: _boolean,
    ast.Compare: _comparison_chain,
}


def _column(name: str, columns: Columns) -> NDArray[Any]:
    name = name.removesuffix("_") if keyword.iskeyword(name.removesuffix("_")) else name
    if name in columns:
        return columns[name]
    near = get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(columns)}."
    raise InputError(f"there is no column {name!r}; {hint}")


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, columns: Columns) -> NDArray[np.bool_]:
    if isinstance(op, (ast.In, ast.NotIn)):
        found = _membership(left, right, columns)
        return ~found if isinstance(op, ast.NotIn) else found
    if type(op) not in _COMPARISONS:
        raise InputError(
            f"'is' compares nothing here; write == or != between {_source(left)!r} and {_source(right)!r}."
        )
    first, second = _value(left, columns), _value(right, columns)
    if _is_text(first) != _is_text(second):
        raise InputError(f"{_source(left)!r} and {_source(right)!r} are text and number; expected two of a kind.")
    return np.asarray(_COMPARISONS[type(op)](np.asarray(first), np.asarray(second)), bool)


def _membership(left: ast.expr, right: ast.expr, columns: Columns) -> NDArray[np.bool_]:
    if not isinstance(right, (ast.Tuple, ast.List)) or not right.elts:
        raise InputError(f"'in' expects a list such as (1, 2, 3) after it, not {_source(right)!r}.")
    equal = [_comparison(left, ast.Eq(), item, columns) for item in right.elts]
    return np.asarray(reduce(operator.or_, equal), bool)


def _number(node: ast.expr, columns: Columns) -> Any:
    value = _value(node, columns)
    if _is_text(value):
        raise InputError(f"{_source(node)!r} is text; expected a number in arithmetic.")
    return np.asarray(value, float)


def _mask(node: ast.expr, columns: Columns) -> NDArray[np.bool_]:
    return _as_mask(_value(node, columns), _source(node))


def _as_mask(value: Any, source: str) -> NDArray[np.bool_]:
    mask = np.asarray(value)
    if mask.dtype != bool:
        raise InputError(f"{source!r} is neither true nor false; expected a comparison, such as {_EXAMPLE}.")
    return mask


def _is_text(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "OSU"


def _source(node: ast.expr) -> str:
    return ast.unparse(node).replace("class_", "class")
