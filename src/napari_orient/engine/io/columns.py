"""Columns of napari-orient beside confidence and expected error: results of matching, and a person's corrections.

They are in ``Particles.extra`` under their names in files; results as numbers.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.star import Table, column_texts, decimals, plain_texts, single
from napari_orient.engine.particles import FloatArray, Particles, TextArray
from napari_orient.engine.rotations import matrix_to_zyz, zyz_to_matrix

SCORE = "orientScore"
"""Matched-filter score: signal-to-noise ratio of the match, in standard deviations of the noise."""

SHIFT = "orientMovedAngst"
"""Distance in Å by which the particle was recentred."""

CENTRE_ERROR = "orientExpectedCentreErrorAngst"
"""Expected root-mean-square error of the centre, Å."""

AXIS_ERROR = "orientExpectedAxisErrorDeg"
"""Expected root-mean-square error of a symmetric particle's main axis, degrees."""

AZIMUTH_ERROR = "orientExpectedSpinErrorDeg"
"""Expected root-mean-square error of a symmetric particle's rotation about its main axis, degrees."""

ERROR_IF_RIGHT = "orientErrorIfRightDeg"
"""Expected root-mean-square error of the rotation if the pose is right, degrees; confidence is the probability of that.
The expected error counts both: it is large where the pose is likely to be wrong."""

VARIABILITY = "orientVariability"
"""Coordinate along the leading component of what the particles of a tomogram are beyond the template, where they differ
from each other: 0 is the template, and at 1 what is different is as strong as it. Its sign and what it is are the
tomogram's own."""

RESULT_COLUMNS = (SCORE, SHIFT, ERROR_IF_RIGHT, CENTRE_ERROR, AXIS_ERROR, AZIMUTH_ERROR, VARIABILITY)

_SURE = 0.9
"""Probability of being right from which the summary counts a pose as sure; chosen."""

POSE_UNKNOWN = "orientPoseUnknown"
"""Why a pose is unknown, whatever its score, in a few words; empty where it is not."""

OUTLIER = "orientOutlier"
"""``1`` where discovery set a pick aside, as no particle or in a pose more likely wrong than right, else ``0``."""

STATUS = "orientStatus"
"""A person's verdict: ``accepted``, ``rejected`` or empty."""

CORRECTED = "orientCorrected"
"""``1`` where a person set the pose, else ``0``."""

IMAGES = ("rlnImageName", "rlnCtfImage")
"""RELION's images of a particle and their transfer function, cut out of the tilt series about the centre of its box."""

BOX = ("orientBoxXAngst", "orientBoxYAngst", "orientBoxZAngst")
"""Centre of the box that a particle's images were cut about, xyz in Å from voxel 0; RELION's origin leads from it to
the particle."""

BOX_ANGLES = ("orientBoxRotDeg", "orientBoxTiltDeg", "orientBoxPsiDeg")
"""RELION's angles (ZYZ) by which the box of a particle's images is turned, degrees; not there where none is."""

BOX_COLUMNS = (*BOX, *BOX_ANGLES)

ANGLE_PRIORS = ("rlnAngleRotPrior", "rlnAngleTiltPrior", "rlnAnglePsiPrior")
_FLIP_RATIOS = (
    *("rlnAngleRotFlipRatio", "rlnAnglePsiFlipRatio", "rlnAngleTiltPriorFlipRatio", "rlnAnglePsiPriorFlipRatio"),
)

POSE_COLUMNS = (
    *ANGLE_PRIORS,
    *_FLIP_RATIOS,
    *("rlnOriginXPriorAngst", "rlnOriginYPriorAngst", "rlnOriginZPriorAngst"),
    *("rlnOriginXPrior", "rlnOriginYPrior", "rlnOriginZPrior"),
    *("rlnMaxValueProbDistribution", "rlnLogLikeliContribution", "rlnNrOfSignificantSamples"),
)
"""RELION's columns that say something of one pose alone: priors of a local search about it, and its statistics."""

PICKERS_SCORE = "rlnAutopickFigureOfMerit"
"""Score that a picker gave a pick, under RELION's name for it."""

_MARK = " (file)"
"""Behind the name of another program's column that is called as one of those with a meaning here."""

FIRST_POSES = "orient_first_poses"
"""Table beside the particles: the poses, before the first correction, of those that a person has corrected."""


def with_mark(name: str, own: bool) -> str:
    """Name under which another program's column is written: marked where it is one with a meaning here."""
    return f"{name}{_MARK}" if own else name


def without_mark(name: str, own: Container[str]) -> str:
    """Name of another program's column, without the mark of `with_mark`."""
    plain = name.removesuffix(_MARK)
    return plain if plain in own or plain.lower() in own else name


def written_column(name: str, column: NDArray[Any]) -> Sequence[str]:
    """Values of a column, (N,), as text: figures of this program in six decimals, others with all their digits."""
    if name in (*RESULT_COLUMNS, *BOX_COLUMNS):
        return column_texts(column)
    return plain_texts(column)


def carried_columns(
    table: Table, *, own: Container[str], dropped: Container[str], where: str
) -> dict[str, NDArray[Any]]:
    """Columns of a list that have no place of their own in particles: results as numbers, all others as text.

    Parameters
    ----------
    own : names with a meaning in the list's dialect, of which another program's column is marked.
    dropped : columns that are not carried.
    """
    return {
        without_mark(name, own): single(table, name, where=where, finite=False)
        if name in RESULT_COLUMNS
        else np.array(values, str)
        for name, values in table.items()
        if name not in dropped
    }


def without_results(particles: Particles) -> Particles:
    """Particles without the columns and tables that are valid for their present poses alone; a note names RELION's.

    These are an earlier match's results, the mark of correction by a person, the poses before it, and `POSE_COLUMNS`.
    """
    kept = without_pose_columns(particles)
    return kept.replace(
        extra=_without(kept, (*RESULT_COLUMNS, POSE_UNKNOWN, CORRECTED)),
        blocks={name: table for name, table in kept.blocks.items() if name != FIRST_POSES},
    )


def without_pose_columns(particles: Particles) -> Particles:
    """Particles without `POSE_COLUMNS`, which a note names; as they are if they have none."""
    dropped = [name for name in POSE_COLUMNS if name in particles.extra]
    if not dropped:
        return particles
    note = f"Columns that describe the earlier poses are left out: {', '.join(dropped)}."
    return particles.replace(extra=_without(particles, dropped), notes=(*particles.notes, note))


def renewed_pose_columns(names: Container[str], rotations: FloatArray) -> dict[str, TextArray]:
    """RELION's columns that are valid for one pose alone, of these names, of particles whose poses have changed.

    Priors of the angles are the new angles; shifts and statistics are 0, as before a refinement. The ratios by which
    angles may flip stay, and are not among them.

    Parameters
    ----------
    rotations : (N, 3, 3) of the particles, NaN where unknown; their priors are 0.
    """
    angles = np.zeros((len(rotations), 3))
    known = np.isfinite(rotations).all(axis=(1, 2))
    angles[known] = matrix_to_zyz(rotations[known])
    priors = dict(zip(ANGLE_PRIORS, angles.T, strict=True))
    nothing = np.zeros(len(rotations))
    return {
        name: np.array(list(decimals(priors.get(name, nothing))), str)
        for name in POSE_COLUMNS
        if name in names and name not in _FLIP_RATIOS
    }


def without_images(particles: Particles, reason: str) -> Particles:
    """Particles without the names of their images, which a note says for this reason; as they are if they have none."""
    dropped = [name for name in IMAGES if name in particles.extra]
    if not dropped:
        return particles
    note = f"The particles' images ({', '.join(dropped)}) are left out: {reason}. Extract them again."
    return particles.replace(extra=_without(particles, (*dropped, *BOX_COLUMNS)), notes=(*particles.notes, note))


def box_centres(particles: Particles) -> FloatArray | None:
    """Centre of each particle's box, (N, 3) xyz in Å; None where there are no images, or it is unknown."""
    return _numbers_of_box(particles, BOX)


def box_rotations(particles: Particles) -> FloatArray | None:
    """Rotation of each particle's box, (N, 3, 3), box to tomogram; None where boxes are not turned."""
    angles = _numbers_of_box(particles, BOX_ANGLES)
    return None if angles is None or box_centres(particles) is None else zyz_to_matrix(angles)


def _numbers_of_box(particles: Particles, names: Sequence[str]) -> FloatArray | None:
    """Columns of a box as numbers, (N, 3); None where there are no images, or one is unknown."""
    if not set(names) <= set(particles.extra) or not set(IMAGES) & set(particles.extra):
        return None
    try:
        numbers: FloatArray = np.stack([particles.extra[name].astype(float) for name in names], axis=1)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _without(particles: Particles, names: Container[str]) -> dict[str, NDArray[Any]]:
    return {name: column for name, column in particles.extra.items() if name not in names}


def with_columns_of_all(parts: Sequence[Particles]) -> list[Particles]:
    """The particles of several tomograms, each with every result that any of them has: NaN or empty where it has none.

    Some columns are written only of tomograms that they say something of.
    """
    known = {name for part in parts for name in (*RESULT_COLUMNS, POSE_UNKNOWN) if name in part.extra}

    def completed(part: Particles) -> Particles:
        lacking = [name for name in (*RESULT_COLUMNS, POSE_UNKNOWN) if name in known and name not in part.extra]
        if not lacking:
            return part
        empty = {name: np.full(len(part), "" if name == POSE_UNKNOWN else np.nan) for name in lacking}
        return part.replace(extra={**part.extra, **empty})

    return [completed(part) for part in parts]


def result_column(particles: Particles, name: str) -> FloatArray | None:
    """Column of `RESULT_COLUMNS`, (N,), or None where the particles have none."""
    column: NDArray[np.float64] | None = particles.extra.get(name)
    return column


def pose_summary(particles: Particles) -> Iterator[str]:
    """Summary of posed particles in a few short lines: expected errors, and shifts by recentring."""
    expected = particles.expected_error_deg
    axis, azimuth = result_column(particles, AXIS_ERROR), result_column(particles, AZIMUTH_ERROR)
    if expected is not None:
        parts = ""
        if axis is not None and azimuth is not None:
            parts = f"; main axis {np.median(axis):.1f}°, about it {np.median(azimuth):.1f}°"
        yield f"expected error {np.median(expected):.1f}° (median{parts})"
    if_right = result_column(particles, ERROR_IF_RIGHT)
    if if_right is not None and particles.confidence is not None:
        sure = int((particles.confidence >= _SURE).sum())
        yield f"{sure} of {len(particles)} right with a probability of {_SURE:g} or more"
        yield f"error if right {np.nanmedian(if_right):.1f}° (median)"
    shift, centre = result_column(particles, SHIFT), result_column(particles, CENTRE_ERROR)
    if shift is not None:
        yield f"moved by {np.median(shift):.1f} Å (median; at most {shift.max():.1f} Å)"
    if centre is not None:
        yield f"expected error of centres {np.median(centre):.1f} Å"
