"""Prior on rotations that a list of particles gives: by its own angles, or by RELION's columns of priors.

A direction is that of RELION's tilt and psi, which z of the rotation points along: the normal of a membrane, the axis
of a filament. An axis of the reference lies along it, its own z unless another one is named. Where the list has
``rlnAngleTiltPrior`` and ``rlnAnglePsiPrior``, the direction is theirs, as in RELION; else that of its angles.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import without_results
from napari_orient.engine.matching.rotation_prior import RotationPrior
from napari_orient.engine.parameters import PriorOptions
from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.representations import matrix_to_rotvec
from napari_orient.engine.rotations import even_rotations, matrix_to_zyz, zyz_to_matrix
from napari_orient.engine.symmetry import Symmetry, direction

_TILT_PSI_PRIORS = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
_IN_PLANE_SD_DEG = 0.5
"""Degrees, standard deviation of a direction that is exact: less than any pose is determined to; chosen."""
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_RANDOM_POSES = 20_000
"""Even rotations of which those that the prior allows stand for random poses."""
_GRID_DEG = 6.0
"""Degrees between neighbours of them, a little more than the mean."""


def with_prior_rotations(particles: Particles, options: PriorOptions) -> Particles:
    """The particles with the rotations that a prior is about; as they are where there is none.

    Raises
    ------
    InputError
        If there is a prior, but the particles have neither angles nor RELION's columns of priors.
    """
    if not options.given:
        return particles
    tilt, psi = (_numbers(particles, name) for name in _TILT_PSI_PRIORS)
    if tilt is None or psi is None or options.search_range is not None:
        if particles.rotations is None:
            raise InputError(
                "a prior on rotations needs directions, but the list has neither angles (rlnAngleRot, Tilt, Psi) nor "
                "rlnAngleTiltPrior and rlnAnglePsiPrior. Add them, or leave the prior out."
            )
        return particles
    rot = np.zeros(len(particles)) if particles.rotations is None else matrix_to_zyz(particles.rotations)[:, 0]
    return particles.replace(rotations=zyz_to_matrix(np.stack([rot, tilt, psi], axis=1)))


def list_prior(
    particles: Particles, options: PriorOptions, group: Symmetry, *, device: torch.device
) -> RotationPrior | None:
    """The prior on the particles' rotations, about those that they have; None where none is asked for."""
    if not options.given:
        return None
    rotations = particles.required_rotations()
    sd = _IN_PLANE_SD_DEG if options.in_plane else options.prior_cone
    return RotationPrior(
        torch.as_tensor(rotations, dtype=torch.float32, device=device),
        torch.as_tensor(axis_along(options.prior_axis, group), dtype=torch.float32, device=device),
        torch.as_tensor(group.matrices, dtype=torch.float32, device=device),
        axis_sd=None if sd is None else math.radians(sd),
        either_way=options.prior_sense == "either",
        search_range=None if options.search_range is None else math.radians(options.search_range),
    )


def axis_along(text: str, group: Symmetry) -> FloatArray:
    """The axis of the reference, (3,) of length 1, that lies along the given direction.

    Raises
    ------
    InputError
        If it is neither x, y, z, main nor three numbers.
    """
    if text == "main":
        return group.main_axis
    return np.array(_AXES[text]) if text in _AXES else direction(text)


def prior_words(options: PriorOptions) -> str:
    """What is asked for, in a line; empty where nothing is."""
    where = "the list's direction" + (", whichever way it points" if options.prior_sense == "either" else "")
    parts = []
    if options.in_plane:
        parts.append(f"axis {options.prior_axis} along {where}, rotated about it alone")
    elif options.prior_cone is not None:
        parts.append(f"axis {options.prior_axis} within {options.prior_cone:g}° (standard deviation) of {where}")
    if options.search_range is not None:
        parts.append(f"within {options.search_range:g}° of the list's rotation")
    return f"Prior: {'; '.join(parts)}." if parts else ""


def without_earlier_results(particles: Particles, options: PriorOptions) -> Particles:
    """The particles without what describes their earlier poses; directions that serve as a prior stay."""
    held = {name: particles.extra[name] for name in _TILT_PSI_PRIORS if options.given and name in particles.extra}
    others = {name: column for name, column in particles.extra.items() if name not in held}
    kept = without_results(particles.replace(extra=others))
    return kept.replace(extra={**kept.extra, **held})


@lru_cache(maxsize=8)
def random_rotvecs(options: PriorOptions, group: Symmetry) -> FloatArray | None:
    """Rotation vectors, (N, 3) radians in the reference frame, between random poses that a prior allows; None without.

    Poses are taken modulo the group. They are the errors of a pose that is no better than chance.
    """
    one = Particles(positions=np.zeros((1, 3)), rotations=np.eye(3)[None])
    prior = list_prior(one, options, group, device=torch.device("cpu"))
    if prior is None:
        return None
    grid = torch.as_tensor(even_rotations(_RANDOM_POSES), dtype=torch.float32)
    weight = prior.log_density_of_grid(grid, spacing=math.radians(_GRID_DEG))[0].exp()
    generator = torch.Generator().manual_seed(0)
    first, second = (grid[torch.multinomial(weight, _RANDOM_POSES, True, generator=generator)] for _ in range(2))
    between = first.mT @ second
    best = torch.einsum("nij,gji->ng", between, prior.copies).argmax(-1)
    rotvecs: FloatArray = matrix_to_rotvec(between @ prior.copies[best]).numpy()
    return rotvecs


def _numbers(particles: Particles, name: str) -> FloatArray | None:
    column = particles.extra.get(name)
    if column is None:
        return None
    try:
        numbers = column.astype(float)
    except ValueError:
        numbers = np.full(len(particles), np.nan)
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} holds values that are no numbers; expected degrees. Repair the column, or remove it.")
    return numbers
