"""Poses of a class's picks by template matching against the half map that each had no part in, with their errors.

Each half map is a template, with the class's symmetry. `refinement.refine` finds the picks of the other half with it,
and those that were in none: from the pick itself, at every rotation and shift, with competing modes and false picks
counted in the confidence that a pose is right. What a map has of a particle's own noise cannot make it sure.

The half map's noise adds to the expected error. With rotations θ from the pose that a particle was averaged in, which
was fitted to its own half's map, to the one found, each map's noise accounts for ``⟨θ²⟩ / 2``. Where the two are more
than 20° apart one of them is wrong: then ``θ² / 2`` is the error of that particle, and half the confidence remains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.half_maps import random_pose_error_deg
from napari_orient.engine.io.columns import ERROR_IF_RIGHT
from napari_orient.engine.parameters import DiscoveryOptions, RefinementOptions, SearchOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, concatenate, split_like
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.streams import Stream
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg
from napari_orient.engine.templates import Template

_SAME_POSE_DEG = 20.0
"""Rotation, in degrees, beyond which two poses of a particle are different ones, not one pose with two errors."""


def match_half_maps(
    labelled: Labelled, found: Average, half: NDArray[np.int_], options: DiscoveryOptions
) -> Stream[Any, Particles]:
    """The picks of a class in the poses found by the half map that they had no part in, with errors and confidence.

    Parameters
    ----------
    labelled : the picks, where they were picked, in the rotations that they were averaged in.
    half : (N,) 1 or 2, the half that each was averaged in; 0 of none.
    """
    parts = []
    for (tomogram, particles), own in zip(labelled, split_like(labelled, half), strict=True):
        order, matched = [], list[Particles]()
        for number, density in ((1, found.first_half), (2, found.second_half)):
            rows = np.flatnonzero(own == 2) if number == 1 else np.flatnonzero(own != 2)
            if len(rows):
                template = Template(
                    found.filtered(density, radius=options.radius),
                    voxel_size=found.voxel_size,
                    symmetry=found.group.name,
                )
                result = yield from refine(tomogram, particles.take(rows), template, _options(options))
                matched.append(result.particles)
                order.append(rows)
        parts.append(concatenate(matched).take(np.argsort(np.concatenate(order))))
    before = concatenate([part for _, part in labelled]).required_rotations()
    return _with_map_errors(concatenate(parts), before, half > 0, found.group)


def _options(options: DiscoveryOptions) -> RefinementOptions:
    search = SearchOptions(max_shift=options.max_shift)
    return RefinementOptions(search=search, wedge=options.wedge, compute=options.compute)


def _with_map_errors(
    particles: Particles, before: FloatArray, averaged: NDArray[np.bool_], group: Symmetry
) -> Particles:
    """The particles; their errors count the half map's noise, by the rotations (N, 3, 3) that they were averaged in."""
    angle = np.where(averaged, symmetric_angle_deg(particles.required_rotations(), before, group), 0.0)
    apart = angle > _SAME_POSE_DEG
    near = angle[averaged & ~apart]
    map_error = np.sqrt(np.square(near).mean() / 2) if len(near) else 0.0
    expected = np.hypot(np.asarray(particles.expected_error_deg), np.where(apart, angle / np.sqrt(2), map_error))
    return particles.replace(
        expected_error_deg=np.minimum(expected, random_pose_error_deg(group)),
        confidence=np.asarray(particles.confidence) * np.where(apart, 0.5, 1.0),
        extra={**particles.extra, ERROR_IF_RIGHT: np.hypot(particles.extra[ERROR_IF_RIGHT].astype(float), map_error)},
    )
