"""Poses that are no answer, whatever they score: at the tomogram's edge, on outliers of density, far from the pick.

Their probability of being right is that of a random pose, and the list says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.model.reference import Reference
from napari_orient.engine.particles import FloatArray, Tomogram
from napari_orient.engine.patches import raw_cubes
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.uncertainty import MAX_TRUNCATED_SHARE
from napari_orient.engine.streams import Note

_SHIFT_SLACK = 10.0
"""Å beyond the largest shift allowed that a particle may be found at: a voxel of the search and a picker's rounding."""
_CENTRE_ERRORS = 2.0
"""Expected errors of the centre that it may be found farther still."""
_FARTHEST_CENTRE = 0.5
"""Radii of the reference within which its centre of mass lies, if its density says where that is at all."""


@dataclass(frozen=True, eq=False)
class UnknownPoses:
    """Which poses are unknown, and why.

    Parameters
    ----------
    reasons : the rows of each reason, (N,) each; of several the first counts.
    notes : a line for each reason that there is.
    """

    reasons: dict[str, NDArray[np.bool_]]
    notes: tuple[Note, ...]

    @property
    def rows(self) -> NDArray[np.bool_]:
        """The rows of all reasons, (N,)."""
        return np.asarray(np.any(list(self.reasons.values()), axis=0), np.bool_)

    @property
    def column(self) -> NDArray[np.str_]:
        """The reason of each row, (N,), empty where there is none."""
        texts = np.full(len(self.rows), "", dtype=object)
        for reason, rows in reversed(self.reasons.items()):
            texts[rows] = reason
        return texts.astype(str)


def unknown_poses(poses: Poses, finder: PoseFinder, *, truncated: FloatArray, occluded: FloatArray) -> UnknownPoses:
    """The poses that are unknown, whatever their score.

    Parameters
    ----------
    poses : with shifts from the picks.
    truncated, occluded : (N,) shares of each particle outside the tomogram and on outliers of density, 0 to 1.
    """
    allowed = finder.options.search.max_shift
    found = {
        "outside the tomogram": (
            truncated > MAX_TRUNCATED_SHARE,
            "{} more than a quarter outside the tomogram",
            "",
        ),
        "gold or another outlier": (
            occluded > MAX_TRUNCATED_SHARE,
            "{} on gold or another outlier of density",
            "",
        ),
        "beyond the largest shift": (
            too_far(poses, finder.reference, max_shift=allowed),
            f"{{}} farther from the pick than a shift of {allowed:g} Å along each axis allows",
            " Allow larger shifts if picks may be so far off.",
        ),
    }
    notes = [
        Note(
            f"{text.format(_count(int(rows.sum())))}: the pose is unknown, and the expected error says so.{advice}",
            "warning",
        )
        for rows, text, advice in found.values()
        if rows.any()
    ]
    return UnknownPoses({reason: rows for reason, (rows, *_) in found.items()}, tuple(notes))


def _count(count: int) -> str:
    return "1 particle lies" if count == 1 else f"{count} particles lie"


def too_far(poses: Poses, reference: Reference, *, max_shift: float) -> NDArray[np.bool_]:
    """Which particles were found farther from their picks than is allowed along an axis, (N,).

    Picks may refer to the reference's origin or to its centre of mass; the nearer one counts.
    """
    error = poses.shift_covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    allowed = max_shift + _SHIFT_SLACK + _CENTRE_ERRORS * error
    of_mass = poses.shifts + (poses.rotations @ centre_of_mass(reference).to(poses.rotations))
    far = [((shifts.abs() - allowed).amax(1) > 0) for shifts in (poses.shifts, of_mass)]
    return np.asarray((far[0] & far[1]).numpy())


def centre_of_mass(reference: Reference) -> Tensor:
    """Centre of mass of a reference, (3,) xyz in Å from its origin; the origin where its density has no mean."""
    centre = torch.tensor(reference.centre)
    return centre if float(centre.norm()) < _FARTHEST_CENTRE * reference.radius else torch.zeros(3)


def occluded_share(finder: PoseFinder, tomogram: Tomogram, positions: FloatArray) -> FloatArray:
    """Share of the volume of particles at positions (N, 3), xyz in Å, that outliers of density take, (N,)."""
    if finder.outliers is None:
        return np.zeros(len(positions))
    side = particle_side(finder.reference, tomogram)
    return np.array([finder.outliers.share(cube) for cube in raw_cubes(tomogram, positions, side=side)])


def particle_side(reference: Reference, tomogram: Tomogram) -> int:
    """Voxels of a cube that holds a particle, even."""
    return 2 * math.ceil(reference.radius / tomogram.voxel_size)
