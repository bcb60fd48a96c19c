"""Columns that many programs have under names of their own: score, class number, half; named as RELION names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.columns import SCORE as OWN_SCORE
from napari_orient.engine.particles import FloatArray, Particles

SCORE = "rlnAutopickFigureOfMerit"
CLASS_NUMBER = "rlnClassNumber"
HALF = "rlnRandomSubset"

SUBTOMOGRAM = "subtomogramNumber"
"""Number by which a program names a particle's subtomogram: Dynamo's tag, AV3's and STOPGAP's subtomo_num."""

OBJECT = "objectNumber"
"""Number of the object (cell, tube, membrane) that a particle belongs to, in AV3 and STOPGAP."""

SCORES = (SCORE, OWN_SCORE, "rlnLCCmax", "pytmeScore")
"""Columns of a score, in the order in which they are written to formats that hold one."""


def texts(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.str_]:
    """Values as text, whole numbers without a point, others in nine digits."""
    return np.array([_text(value) for value in np.asarray(values).tolist()], str)


def without_defaults(
    columns: Mapping[str, Sequence[str]], defaults: Mapping[str, float]
) -> dict[str, NDArray[np.str_]]:
    """Columns but for those whose values all are the number that stands for nothing (0, where none is named)."""
    return {
        name: np.array(values, str)
        for name, values in columns.items()
        if not all(_number(value) == defaults.get(name, 0) for value in values)
    }


def without_counting(name: str, values: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """The column, or nothing where it only counts the rows from 1."""
    counts = all(_number(value) == row for row, value in enumerate(values, start=1))
    return {} if counts else {name: np.array(values, str)}


def counted(particles: Particles, name: str) -> NDArray[np.int_]:
    """Whole and distinct numbers of the particles, (N,): those of a column, else counted from 1."""
    column = as_numbers(particles, name)
    if column is not None and len(set(column.tolist())) == len(column) and (column == column.round()).all():
        return column.astype(int)
    return np.arange(1, len(particles) + 1)


def score_of(particles: Particles) -> FloatArray | None:
    """Score of each particle, (N,), from the first of `SCORES` that holds numbers; None where there is none."""
    for name in SCORES:
        column = as_numbers(particles, name)
        if column is not None:
            return column
    return None


def score_name(particles: Particles) -> str:
    """Name of the column that `score_of` takes; empty where there is none."""
    return next((name for name in SCORES if as_numbers(particles, name) is not None), "")


def class_numbers(particles: Particles) -> tuple[NDArray[np.int_], tuple[str, ...]]:
    """Number of each particle's class, (N,): as it came, else of its molecule, which the sentence says; else 1."""
    column = as_numbers(particles, CLASS_NUMBER)
    if column is not None:
        return column.astype(int), ()
    if particles.kind is None:
        return np.ones(len(particles), int), ()
    kinds = particles.kinds
    said = ", ".join(f"{number} is {kind or '(no class)'}" for number, kind in enumerate(kinds, start=1))
    numbers = {kind: number for number, kind in enumerate(kinds, start=1)}
    return np.array([numbers[str(kind)] for kind in particles.kind]), (f"Classes are numbered: {said}.",)


def as_numbers(particles: Particles, name: str) -> FloatArray | None:
    """A column of other programs as finite numbers, (N,); None where it is missing or holds anything else."""
    if name not in particles.extra:
        return None
    values = np.array([_number(text) for text in particles.extra[name].tolist()])
    return values if np.isfinite(values).all() else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.9g}"
    return str(value)
