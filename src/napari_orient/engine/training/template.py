"""Making a template: labelled particles averaged, averaged anew from refined poses, validated and calibrated.

Poses are refined in two halves that share nothing but the curve of their correlation, and brought back to the frame of
the labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average, average
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.parameters import RefinementOptions, SearchOptions, TemplateOptions, TemplateTrainingOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, split_like
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import mean_rotation
from napari_orient.engine.statistics.error_calibration import fit_beyond_noise
from napari_orient.engine.streams import Step, Stream, quiet
from napari_orient.engine.symmetry import AUTO, Symmetry, axis_angle_deg, nearest_copy, symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template
from napari_orient.engine.training.validation import Milestone, ValidationErrors

_ENOUGH_TO_CALIBRATE = 20
"""Validation particles; fewer calibrate nothing, for their mean square is uncertain by a third."""


def average_template(
    training: Labelled,
    validation: Labelled,
    template_options: TemplateOptions,
    options: TemplateTrainingOptions,
    *,
    name: str,
    card: dict[str, Any],
) -> Stream[Step, Template]:
    """The template with the least mean validation error; yields a Milestone for each average.

    The first is the average of the labelled particles in the poses that they came with. In each round after it, the
    particles of either random half are refined against the average of their own half alone, brought back to the labels'
    frame, and averaged anew: neither half ever uses the other, but for the curve of their correlation. A symmetry that
    is to be found is proposed by the first average.
    """
    posed, total, best, text = training, options.rounds + 1, None, template_options.symmetry
    for index in range(total):
        found = yield from average(posed, group=None if text == AUTO else symmetry(text), options=options.averaging)
        text = found.group.name
        template = Template(found.as_reference(), found.voxel_size, name, text, template_options.search)
        errors = yield from validate_template(template, validation, device=options.compute.device)
        if best is None or errors.mean_deg < best.card["figures"]["validation_mean_deg"]:
            figures = {"round": index, **_figures(errors), **_resolutions(found)}
            best = replace(_calibrated(template, errors), card={**card, "figures": figures})
        words = f"Average {index + 1}: {found.fsc.resolution(0.143):.1f} Å, validation median {errors.median_deg:.2f}°"
        yield Milestone(index + 1, total, words, errors.median_deg, errors.mean_deg, best)
        if index < options.rounds:
            posed = yield from refine_halves(training, posed, found, search=template.search, options=options)
    assert best is not None
    return best


def calibrate_template(
    template: Template, validation: Labelled, *, name: str, card: dict[str, Any], device: str
) -> Stream[Step, Template]:
    """A map as it is, validated and calibrated on labelled particles where there are some."""
    template = replace(template.checked_cube(), name=name, card=card)
    if not validation:
        yield Step(1, 1, "Taking the map as it is")
        return template
    errors = yield from validate_template(template, validation, device=device)
    template = replace(_calibrated(template, errors), card={**card, "figures": _figures(errors)})
    words = f"Validation median {errors.median_deg:.2f}°"
    yield Milestone(1, 1, words, errors.median_deg, errors.mean_deg, template)
    return template


def validate_template(template: Template, validation: Labelled, *, device: str) -> Stream[Step, ValidationErrors]:
    """Errors of labelled particles whose poses the template finds from their positions alone."""
    errors, predicted, axes = [], [], []
    options, group = _refinement(template.search, device), template.group
    for tomogram, particles in validation:
        answer = yield from quiet(refine(tomogram, particles.replace(rotations=None), template, options, checks=False))
        found, true = answer.particles.required_rotations(), particles.required_rotations()
        errors.append(symmetric_angle_deg(found, true, group))
        predicted.append(np.asarray(answer.particles.expected_error_deg))
        if len(group) > 1:
            axes.append(axis_angle_deg(found, true, group))
    axis_errors = np.concatenate(axes) if axes else None
    return ValidationErrors(np.concatenate(errors), np.concatenate(predicted), axis_errors)


def _calibrated(template: Template, errors: ValidationErrors) -> Template:
    if len(errors.errors_deg) < _ENOUGH_TO_CALIBRATE:
        return template
    return replace(template, calibration=fit_beyond_noise(errors.errors_deg, errors.predicted_deg))


def _figures(errors: ValidationErrors) -> dict[str, float]:
    figures = {**errors.figures(), "validation_within_20": float((errors.errors_deg <= 20).mean())}
    axes = errors.axis_errors_deg
    return figures if axes is None else {**figures, "validation_axis_median_deg": float(np.median(axes))}


def _resolutions(found: Average) -> dict[str, Any]:
    return {
        "averaged": found.count,
        "fsc_0.5_angstrom": round(found.fsc.resolution(0.5), 2),
        "fsc_0.143_angstrom": round(found.fsc.resolution(0.143), 2),
    }


def _refinement(search: SearchOptions, device: str) -> RefinementOptions:
    """How training refines: precisely, with the search that is asked for."""
    return RefinementOptions.of(**{**search.to_record(), "device": device, "precision": "precise"})


# --- independent halves -----------------------------------------------------------------------------------------


def refine_halves(
    labels: Labelled, posed: Labelled, found: Average, *, search: SearchOptions, options: TemplateTrainingOptions
) -> Stream[Step, Labelled]:
    """Particles in poses refined against the average of their own half, in the labels' frame.

    Parameters
    ----------
    labels, posed : the same particles as they came, and in the poses that the average was made in.
    found : that average, with its halves.
    """
    group, refinement = found.group, _refinement(search, options.compute.device)
    centre = symmetry_centre(found.density, found.voxel_size, group)
    refined = [part for _, part in posed]
    for half, density in enumerate(found.halves_as_references()):
        template = Template(density, found.voxel_size, f"half {half + 1}", group.name)
        rows = split_like(posed, found.half_sets == half + 1)
        for index, (tomogram, particles) in enumerate(posed):
            if rows[index].any():
                answer = yield from quiet(
                    refine(tomogram, particles.take(rows[index]), template, refinement, checks=False)
                )
                refined[index] = refined[index].with_poses(rows[index], answer.particles)
        refined = list(_in_frame(refined, [part for _, part in labels], rows=rows, group=group, centre=centre))
    return [(tomogram, part) for (tomogram, _), part in zip(posed, refined, strict=True)]


def _in_frame(
    refined: list[Particles],
    labels: list[Particles],
    *,
    rows: list[NDArray[np.bool_]],
    group: Symmetry,
    centre: FloatArray,
) -> Iterator[Particles]:
    """The particles with the rows of one half brought back to the frame of the labels.

    A half on its own drifts: its average may rotate and shift as a whole. The mean rotation and the median shift of
    its particles against their labels are taken back. A symmetric particle is taken in the copy nearest its label,
    rotated about the ``centre`` of symmetry, (3,) Å from the frame's origin.
    """
    poses = [
        _nearest(part.take(row), label.take(row), group, centre)
        for part, label, row in zip(refined, labels, rows, strict=True)
    ]
    drifts = [
        label.take(row).required_rotations().transpose(0, 2, 1) @ part.required_rotations()
        for part, label, row in zip(poses, labels, rows, strict=True)
    ]
    drift = mean_rotation(np.concatenate(drifts))
    aligned = [part.required_rotations() @ drift.T for part in poses]
    shifts = [
        np.einsum("nji,nj->ni", rotations, part.positions - label.take(row).positions)
        for part, rotations, label, row in zip(poses, aligned, labels, rows, strict=True)
    ]
    shift = np.median(np.concatenate(shifts), axis=0)
    for part, pose, rotations, row in zip(refined, poses, aligned, rows, strict=True):
        back = pose.replace(rotations=rotations, positions=pose.positions - rotations @ shift)
        yield part.with_poses(row, back)


def _nearest(particles: Particles, labels: Particles, group: Symmetry, centre: FloatArray) -> Particles:
    """The symmetric copy of each pose that is nearest its label: the same density, with its origin elsewhere."""
    rotations = nearest_copy(particles.required_rotations(), labels.required_rotations(), group)
    moved = (particles.required_rotations() - rotations) @ centre
    return particles.replace(rotations=rotations, positions=particles.positions + moved)
