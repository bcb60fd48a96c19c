"""Training a bank: labelled particles averaged to a reference, made anew from refined poses, judged on others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_orient.engine.averaging.average import Average, average
from napari_orient.engine.networks.checkpoint import Checkpoint, bank_checkpoint
from napari_orient.engine.networks.reference_map import BankNetworkOptions, ReferenceMap
from napari_orient.engine.particles import FloatArray, Labelled
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.symmetry import AUTO, axis_angle_deg, symmetric_angle_deg, symmetry
from napari_orient.engine.training.apart import (
    averaging_options,
    bank_options,
    quiet,
    refined_apart,
    refinement_options,
)
from napari_orient.engine.training.course import Milestone
from napari_orient.engine.training.options import BankTrainingOptions

_ENOUGH_TO_CALIBRATE = 20
"""Fewer validation particles than this calibrate nothing."""
_LOST_DEG = 20.0
_SWEEPS = 30


@dataclass(frozen=True, eq=False)
class _Judged:
    """Errors of N validation particles, degrees, and what was expected of them."""

    errors: FloatArray
    axis_errors: FloatArray
    expected: FloatArray

    @property
    def mean(self) -> float:
        return float(self.errors.mean())

    @property
    def median(self) -> float:
        return float(np.median(self.errors))

    def figures(self) -> dict[str, float]:
        """What the card says."""
        told = {
            "validation_median_deg": self.median,
            "validation_mean_deg": self.mean,
            "validation_within_20": float((self.errors <= 20).mean()),
        }
        axis = float(np.median(self.axis_errors))
        return told if np.allclose(self.errors, self.axis_errors) else {**told, "validation_axis_median_deg": axis}

    def calibrated(self, reference: ReferenceMap) -> ReferenceMap:
        """The reference with what brings its expected errors to the true ones, where particles enough tell."""
        if len(self.errors) < _ENOUGH_TO_CALIBRATE:
            return reference
        return replace(reference, calibration=excess(self.errors, self.expected))


def learn_bank(
    training: Labelled,
    validation: Labelled,
    network_options: BankNetworkOptions,
    options: BankTrainingOptions,
    *,
    name: str,
    card: dict[str, Any],
) -> Stream[Step, Checkpoint]:
    """The bank checkpoint whose reference turns the validation particles best; yields a Milestone for each reference.

    The first reference is the average of the labelled particles in the poses that they came with. In each round after
    it, the particles of either random half are refined against the average of their own half alone, brought back to
    the labels' frame, and averaged anew: neither half ever sees the other, but for the one curve of their correlation.
    A symmetry that is to be found is proposed by the first reference.
    """
    posed, total, best = training, options.rounds + 1, None
    for turn in range(total):
        group = None if network_options.symmetry == AUTO else symmetry(network_options.symmetry)
        found = yield from average(posed, group=group, options=averaging_options(options))
        network_options = replace(network_options, symmetry=found.group.name)
        reference = bank_checkpoint(
            found.as_reference(),
            voxel_size=found.voxel_size,
            symmetry=network_options.symmetry,
            options=bank_options(network_options),
        ).bank()
        judged = yield from judge(reference, validation, device=options.device)
        if best is None or judged.mean < best.card["figures"]["validation_mean_deg"]:
            figures = {"round": turn, **judged.figures(), **_resolutions(found)}
            best = Checkpoint.of(judged.calibrated(reference), name=name, card={**card, "figures": figures})
        words = f"Reference {turn + 1}: {found.fsc.resolution(0.143):.1f} Å, validation median {judged.median:.2f}°"
        yield Milestone(turn + 1, total, words, judged.median, judged.mean, best)
        if turn < options.rounds:
            posed = yield from refined_apart(training, posed, found, network_options=network_options, options=options)
    assert best is not None
    return best


def judge_template(
    template: ReferenceMap, validation: Labelled, *, name: str, card: dict[str, Any], device: str
) -> Stream[Step, Checkpoint]:
    """The bank checkpoint of a map as it is, calibrated and judged on labelled particles where there are some."""
    checkpoint = Checkpoint.of(template, name=name, card=card)
    if not validation:
        yield Step(1, 1, "Keeping the map")
        return checkpoint
    judged = yield from judge(template, validation, device=device)
    checkpoint = Checkpoint.of(judged.calibrated(template), name=name, card={**card, "figures": judged.figures()})
    yield Milestone(1, 1, f"Validation median {judged.median:.2f}°", judged.median, judged.mean, checkpoint)
    return checkpoint


def judge(reference: ReferenceMap, validation: Labelled, *, device: str) -> Stream[Step, _Judged]:
    """How well a reference turns particles of known rotations, found from their positions alone."""
    errors, axes, expected = [], [], []
    options = refinement_options(reference.options, device)
    for tomogram, particles in validation:
        told = yield from quiet(
            refine(
                tomogram,
                particles.replace(rotations=None),
                reference.density,
                voxel_size=reference.voxel_size,
                group=reference.group,
                options=options,
            )
        )
        mine, true = told.particles.required_rotations(), particles.required_rotations()
        errors.append(symmetric_angle_deg(mine, true, reference.group))
        axes.append(errors[-1] if len(reference.group) == 1 else axis_angle_deg(mine, true, reference.group))
        expected.append(np.asarray(told.particles.expected_error_deg))
    return _Judged(*(np.concatenate(column) for column in (errors, axes, expected)))


def excess(errors_deg: FloatArray, expected_deg: FloatArray) -> tuple[float, float]:
    """(floor in deg², factor) with ``error² = floor + factor · expected²`` in the mean; one of the two is what it was.

    What the noise leaves is known, so that it keeps its factor of 1 in whatever noise comes, and what the reference
    adds is the floor. Only where errors are smaller than expected a factor below 1 takes the floor's place. The line
    goes through the squares with the weights of normal errors; particles that are lost do not set it for all. What few
    particles show by chance corrects nothing: up to two standard errors are taken for none.
    """
    near = errors_deg <= _LOST_DEG
    square, noise = errors_deg[near] ** 2, expected_deg[near] ** 2
    if len(square) < 2:
        return 0.0, 1.0
    floor, weight = 0.0, np.ones_like(noise)
    for _ in range(_SWEEPS):
        weight = 1 / np.maximum(floor + noise, 1e-6) ** 2
        floor = max(0.0, float((weight * (square - noise)).sum() / weight.sum()))
    if floor > 0:
        return _beyond_chance(floor, weight / weight.sum() * (square - noise - floor)), 1.0
    ratio = square / noise
    return 0.0, 1 + _beyond_chance(float(ratio.mean() - 1), (ratio - ratio.mean()) / len(ratio))


def _beyond_chance(value: float, shares: FloatArray) -> float:
    """A mean drawn to 0: wholly within two of its standard errors, less and less beyond.

    Parameters
    ----------
    shares : (N,) what each particle adds to the mean, less what it was to add.
    """
    chance = 4 * float(np.square(shares).sum())
    return value * max(0.0, 1 - chance / max(value**2, 1e-12))


def _resolutions(found: Average) -> dict[str, Any]:
    return {
        "averaged": found.count,
        "fsc_0.5_angstrom": round(found.fsc.resolution(0.5), 2),
        "fsc_0.143_angstrom": round(found.fsc.resolution(0.143), 2),
    }
