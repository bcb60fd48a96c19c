"""Columns of our own that lists carry beside confidence and expected error: what matching with a reference tells.

They travel in ``Particles.extra`` as numbers, under the names that files give them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.particles import FloatArray, Particles

SCORE = "orientScore"
"""Match in standard deviations of the noise."""
SHIFT = "orientMovedAngst"
"""Å by which the particle was recentred."""
CENTRE_ERROR = "orientExpectedCentreErrorAngst"
"""Expected root-mean-square error of the centre, Å."""
AXIS_ERROR, AZIMUTH_ERROR = "orientExpectedAxisErrorDeg", "orientExpectedSpinErrorDeg"
"""Of a symmetric particle: expected errors of its main axis, and of the turn about it."""

RESULT_COLUMNS = (SCORE, SHIFT, CENTRE_ERROR, AXIS_ERROR, AZIMUTH_ERROR)

STATUS, CORRECTED = "orientStatus", "orientCorrected"
"""A person's verdict in words, and whether a person set the pose (``1``)."""

FIRST_POSES = "orient_first_poses"
"""Table beside the particles: how those came that a person has turned or moved since, to be put back to."""


def without_results(particles: Particles) -> Particles:
    """The particles without what is true of the poses they had alone.

    What an earlier match told of them goes, that a person set them, and the poses that it first gave.
    """
    return particles.replace(
        extra={name: column for name, column in particles.extra.items() if name not in (*RESULT_COLUMNS, CORRECTED)},
        blocks={name: table for name, table in particles.blocks.items() if name != FIRST_POSES},
    )


def figure(particles: Particles, name: str) -> FloatArray | None:
    """A column of `RESULT_COLUMNS`, (N,), or None where the particles have none."""
    column: NDArray[np.float64] | None = particles.extra.get(name)
    return column


def pose_summary(particles: Particles) -> Iterator[str]:
    """What is told of posed particles, in a few short lines: errors expected, and how far they were moved."""
    expected = particles.expected_error_deg
    axis, spin = figure(particles, AXIS_ERROR), figure(particles, AZIMUTH_ERROR)
    if expected is not None:
        parts = ""
        if axis is not None and spin is not None:
            parts = f"; main axis {np.median(axis):.1f}°, spin {np.median(spin):.1f}°"
        yield f"expected error {np.median(expected):.1f}° (median{parts})"
    moved, centre = figure(particles, SHIFT), figure(particles, CENTRE_ERROR)
    if moved is not None:
        yield f"moved by {np.median(moved):.1f} Å (median; most {moved.max():.1f} Å)"
    if centre is not None:
        yield f"centres expected right to {np.median(centre):.1f} Å"
