"""Summaries of particles' errors, true ones beside what chance would give, and of clusters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_orient.engine.evaluation import chance
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.symmetry import Symmetry, symmetry
from napari_orient.gui.particle_values import ParticleValues


def errors_of(values: ParticleValues | None) -> tuple[FloatArray, str]:
    """The error of every particle, (N,) degrees, and its name: true error if available, else expected error."""
    columns = {} if values is None else values.columns
    for name in ("true_error", "expected_error"):
        if name in columns:
            return columns[name], name.replace("_", " ")
    return np.full(0 if values is None else len(values), np.nan), "error"


def expected_by_chance(values: ParticleValues | None, of: Callable[[Symmetry], Any]) -> Any:
    """Value of a quantity for random rotations: its mean over particles, each with the symmetry of its class."""
    names = np.array(["C1"]) if values is None or not len(values) else values.inspection.symmetry
    groups, counts = np.unique(names, return_counts=True)
    return sum(of(symmetry(name)) * (count / len(names)) for name, count in zip(groups, counts, strict=True))


def error_text(errors: FloatArray, name: str, values: ParticleValues | None, *, threshold: float) -> list[str]:
    """A line of the median of these errors and the share within the threshold; empty without errors."""
    if not len(errors):
        return []
    share = float((errors <= threshold).mean())
    line = f"{name[:1].upper()}{name[1:]}: median {np.median(errors):.1f}°, {share:.1%} within {threshold:g}°"
    if name != "true error":
        return [line]
    return [f"{line} (chance {expected_by_chance(values, lambda group: chance(threshold, group)):.1%})"]


def cluster_text(values: ParticleValues | None) -> str:
    """A text of the number of clusters and of particles in none."""
    if values is None:
        return ""
    numbers = values.inspection.cluster
    count = int(numbers.max(initial=0))
    return f"{count} cluster{'' if count == 1 else 's'}, {int((numbers == 0).sum())} single"
