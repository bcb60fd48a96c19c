"""Refinement with a reference that is corrected by the particles themselves, over a whole project.

A template of another species, or of a simulation, lacks what the particles have. Their average, weighted by the
probability that each pose is right, shows it. Let T(k) be the transform of the template, A(k) that of the average, A₁
and A₂ those of two halves of the particles, and g the gain of A over T in a shell of frequency, by least squares. The
corrected reference is the posterior mean of a map whose prior is the template, on the scale of the average,

    g T + w (A - g T),     w = 2 C / (1 + C),

C being the correlation of what the halves show beside the template, A₁ - g T and A₂ - g T: the share of the difference
that is no noise (the Wiener filter of Scheres, J. Mol. Biol. 415:406, 2012, about a template instead of about nothing).
Each half of the particles is matched with a reference that the *other* half has corrected, w = C: so the noise of a
particle is never in what it is matched with, and probabilities and expected errors hold. What the tomograms transfer
alike is in g, and so in the reference, estimated from all particles together; the sign of g is not.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average, average
from napari_orient.engine.duplicates import half_sets
from napari_orient.engine.errors import InputError
from napari_orient.engine.map_resolution import BALL_RADIUS, FSC, ball_mask
from napari_orient.engine.model.forward import box_side
from napari_orient.engine.model.grid import shells
from napari_orient.engine.model.reference import resampled
from napari_orient.engine.outputs import check_writable
from napari_orient.engine.parameters import AveragingOptions, PredictionOptions, RefinementOptions
from napari_orient.engine.particles import HALF_SET, FloatArray, Labelled, Particles, Tomogram, concatenate, split_like
from napari_orient.engine.prediction.predict import Model, PredictionTask
from napari_orient.engine.projects.each_tomogram import PARTS, ProjectResult, ProjectRun
from napari_orient.engine.projects.task import Outcome
from napari_orient.engine.refinement.refine import RefinementTask, duplicate_distance, refine
from napari_orient.engine.streams import Note, ResultT, Step, Stream, map_steps, quiet
from napari_orient.engine.templates import Template

_LEAST_PARTICLES = 16
"""Particles of a project that a reference is corrected by, at the least: the gain of fewer is noise; chosen."""
_LEAST_RIGHT = 0.3
"""Share of the poses that are expected to be right, from which a reference is corrected by them. Simulated ribosomes of
another species: with 34 % or more, rounds made more poses right and the confidences held; with 23 % no more were right
after three rounds, and 79 of 100 wrong where the confidences left 62 open."""
_LEAST_POWER = 1e-12
"""Power of the template in a shell, of the greatest, below which it holds nothing: rounding of single precision."""
_SMOOTH = (0.25, 0.5, 0.25)
"""Weights of neighbouring shells in what is estimated by shell: the innermost hold few coefficients; chosen."""
_REFINING, _AVERAGING = 20, 1
"""Time of refining against one reference, and of averaging, in the progress over all rounds; measured."""
_HERE = ProjectRun()


@dataclass(frozen=True, eq=False)
class AdaptedReference:
    """A template corrected by the average of particles.

    Parameters
    ----------
    template : corrected by all of them.
    of_half : the reference for the particles of the first and of the second half, each corrected by the other half.
    correction : share of the difference from the template that is taken over, in each shell, 0 to 1.
    """

    template: Template
    of_half: tuple[Template, Template]
    correction: FSC

    @property
    def words(self) -> str:
        """How much of the reference is the particles' own, in a sentence."""
        best = int(np.argmax(self.correction.correlation))
        share, resolution = self.correction.correlation[best], 1 / self.correction.frequency[best]
        return f"Of the difference from their average {share:.0%} is taken over at {resolution:.0f} Å, less elsewhere."


def checked_map_path(path: Path | str, options: RefinementOptions, *, flag: str) -> Path:
    """The path of the corrected reference.

    Parameters
    ----------
    flag : what asks for rounds, in the words of the door.

    Raises
    ------
    InputError
        If there are no rounds, or the name does not end in .mrc.
    """
    path = Path(path)
    if not options.adaptation.rounds:
        raise InputError(f"{path} is to get the corrected reference, but there are no rounds. Give {flag}.")
    if path.suffix.lower() != ".mrc":
        raise InputError(f"{path} given as map; expected a name that ends in .mrc.")
    check_writable(path)
    return path


def adapt_reference(template: Template, found: Average) -> AdaptedReference:
    """The template corrected shell by shell by an average in its own frame, on the voxels of the average."""
    side, voxel_size = len(found.density), found.voxel_size
    mask = ball_mask(side, voxel_size, min(template.radius + voxel_size, BALL_RADIUS * side * voxel_size))
    in_shells = _Shells(shells(side))
    own = resampled(template.density, template.voxel_size, side=side, to=voxel_size, resolution=2 * voxel_size)
    expected, whole, first, second = (
        np.fft.fftn(density * mask) for density in (own, found.density, found.first_half, found.second_half)
    )
    gain = in_shells.gain(whole, expected)
    differences = [each - gain[in_shells.index] * expected for each in (whole, first, second)]
    correlation = in_shells.correlation(differences[1], differences[2])
    power = in_shells.sums(np.abs(expected) ** 2)
    factor = (np.sign(gain) * power.sum() / (np.abs(gain) * power).sum())[in_shells.index]

    def corrected(difference: NDArray[np.complex128], weight: FloatArray) -> Template:
        transform = factor * (gain[in_shells.index] * expected + weight[in_shells.index] * difference)
        density = np.fft.ifftn(transform).real * mask
        return replace(template, density=density.astype(np.float32), voxel_size=voxel_size)

    of_both = 2 * correlation / (1 + correlation)
    shown = slice(1, side // 2 + 1)
    frequency = np.arange(len(gain))[shown] / (side * voxel_size)
    return AdaptedReference(
        template=corrected(differences[0], of_both),
        of_half=(corrected(differences[2], correlation), corrected(differences[1], correlation)),
        correction=FSC(frequency, of_both[shown]),
    )


@dataclass(frozen=True, eq=False)
class _Shells:
    """Shells of frequency, one coefficient wide; what is estimated of one is averaged with its neighbours.

    Parameters
    ----------
    index : (n, n, n) shell of each coefficient.
    """

    index: NDArray[np.int_]

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum of values (n, n, n) over each shell."""
        return _smoothed(np.asarray(np.bincount(self.index.ravel(), values.ravel()), float))

    def gain(self, measured: NDArray[np.complex128], expected: NDArray[np.complex128]) -> FloatArray:
        """Gain of one map over another in each shell, by least squares."""
        power = self.sums(np.abs(expected) ** 2)
        gain: FloatArray = self.sums((measured * expected.conj()).real) / np.maximum(power, _LEAST_POWER * power.max())
        return gain

    def correlation(self, first: NDArray[np.complex128], second: NDArray[np.complex128]) -> FloatArray:
        """Correlation of two maps in each shell, 0 where it is negative."""
        cross, one, other = (
            self.sums(values) for values in ((first * second.conj()).real, np.abs(first) ** 2, np.abs(second) ** 2)
        )
        found: FloatArray = np.clip(cross / np.maximum(np.sqrt(one * other), 1e-30), 0, 1)
        return found


def _smoothed(values: FloatArray) -> FloatArray:
    """A curve over shells, each with its neighbours."""
    smooth: FloatArray = np.convolve(np.pad(values, 1, mode="edge"), _SMOOTH, mode="valid")
    return smooth


# --- rounds over all tomograms ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class HalvesTask:
    """`refine` as the task of a project, either half of the particles (`HALF_SET`) against a reference of its own."""

    of_half: tuple[Template, Template]
    options: RefinementOptions

    def __call__(self, tomogram: Tomogram, particles: Particles) -> Stream[Step, Particles]:
        """The particles in the poses found.

        Either half is refined among all particles of the tomogram, which its model is estimated from.
        """
        numbers = np.asarray(particles.extra[HALF_SET])
        present = [half for half in (1, 2) if (numbers == half).any()]
        parts, places = [], []
        for index, half in enumerate(present):

            def among(step: Step, index: int = index) -> Step:
                notes = step.notes if index == 0 else ()
                return Step(index * step.total + step.done, len(present) * step.total, step.message, notes=notes)

            stream = refine(tomogram, particles, self.of_half[half - 1], self.options)
            found = (yield from map_steps(stream, among)).particles
            rows = np.flatnonzero(np.asarray(found.extra[HALF_SET]) == half)
            parts.append(found.take(rows))
            places.append(rows)
        return concatenate(parts).take(np.argsort(np.concatenate(places)))

    def content(self, tomogram: Tomogram) -> tuple[object, ...]:
        """Both references, and what the refinement depends on."""
        return (self.of_half[1], *RefinementTask(self.of_half[0], self.options).content(tomogram))

    def method(self, count: int) -> str:
        """Fast or precise."""
        return RefinementTask(self.of_half[0], self.options).method(count)

    def seconds(self, count: int) -> float:
        """About how long so many particles take on one core."""
        return 2 * RefinementTask(self.of_half[0], self.options).seconds(count)


def refine_and_adapt(
    pairs: Labelled,
    template: Template,
    options: RefinementOptions,
    result: ProjectResult,
    run: ProjectRun = _HERE,
) -> Stream[Step, Template | None]:
    """The reference corrected by all particles, which are refined against it in rounds; None where it stays as it was.

    Too few poses that are expected to be right correct nothing. A round that makes the poses less certain in the mean
    is not kept, and is the last.

    Parameters
    ----------
    result : filled with the poses of each round when it is done, so that they survive a stop.
    run : where tomograms are worked on, and what is done is kept.

    Raises
    ------
    InputError
        If all tomograms fail, or there are fewer than 16 particles.
    """
    total = sum(len(particles) for _, particles in pairs)
    if total < _LEAST_PARTICLES:
        raise InputError(
            f"{total} particles cannot correct a reference; expected at least {_LEAST_PARTICLES}. Leave rounds at 0."
        )
    given = all(HALF_SET in particles.extra for _, particles in pairs)
    pairs, notes = _in_halves(pairs, duplicate_distance(template, options.duplicates), seed=options.adaptation.seed)
    work = _RoundInputs(template, options, run)
    try:
        corrected = yield from _rounds(pairs, work, result, notes)
    finally:
        if not given:
            result.done = {row: _without_halves(outcome) for row, outcome in result.done.items()}
    if run.stored is not None:
        run.stored.remove_others()
    return corrected


def refine_project(
    pairs: Labelled,
    template: Template,
    options: RefinementOptions,
    result: ProjectResult,
    run: ProjectRun = _HERE,
) -> Stream[Step, Template | None]:
    """The template corrected in rounds, None where none are asked for, after refining the particles of all tomograms.

    See `refine_and_adapt`.
    """
    if not options.adaptation.rounds:
        yield from run.over(pairs, RefinementTask(template, options), result)
        return None
    return (yield from refine_and_adapt(pairs, template, options, result, run))


def predict_project(
    pairs: Labelled,
    model: Model,
    options: PredictionOptions,
    result: ProjectResult,
    *,
    reference: Template | None = None,
    run: ProjectRun = _HERE,
) -> Stream[Step, Template | None]:
    """The template corrected in rounds, None where none are asked for, after predicting the particles of all tomograms.

    Parameters
    ----------
    reference : that a network's rotations are refined with.
    result, run : as in `refine_and_adapt`.

    Raises
    ------
    InputError
        As `refine_and_adapt` and `for_each_tomogram` do, and if rounds are asked for of a network.
    """
    if not options.adaptation.rounds:
        yield from run.over(pairs, PredictionTask(model, options, reference), result)
        return None
    if not isinstance(model, Template):
        raise InputError(
            f"rounds correct a template, and {model.name} is a network. Choose a template, or leave rounds at 0."
        )
    return (yield from refine_and_adapt(pairs, model, options.refinement(model), result, run))


def _rounds(
    pairs: Labelled, work: _RoundInputs, result: ProjectResult, notes: tuple[Note, ...]
) -> Stream[Step, Template | None]:
    """The reference corrected by all particles, each of which has its half; see `refine_and_adapt`."""
    rounds = work.options.adaptation.rounds
    progress, total = _Progress(rounds), sum(len(particles) for _, particles in pairs)
    yield progress.step("Dividing the particles in halves", *notes)
    yield from progress.of(
        work.run.over(pairs, RefinementTask(work.template, work.options), result, last=False), _REFINING
    )
    if rounds and _expected_right(result.done) < _LEAST_RIGHT * total:
        yield progress.step("Ended", Note(_too_few_words(_expected_right(result.done), total), "warning"))
        return None
    adapted, corrected = (yield from progress.of(_adapted(pairs, result, work), _AVERAGING)), False
    for number in range(1, rounds + 1):
        progress.prefix = f"Round {number} of {rounds}: "
        before = result.done
        rows, found = sorted(before), ProjectResult()
        task = HalvesTask(adapted.of_half, work.options)
        yield from progress.of(
            quiet(work.run.over([pairs[row] for row in rows], task, found, last=False)), 2 * _REFINING
        )
        after = {**before, **{rows[place]: outcome for place, outcome in found.done.items()}}
        now, then = _expected_right(after), _expected_right(before)
        words = f"{now:.0f} of {total} poses are expected to be right, {then:.0f} before"
        failed = [Note(f"{name} failed in round {number}: {why}", "warning") for name, why in found.failed.items()]
        if now < then:
            yield progress.step("Ended", *failed, Note(f"Round {number} is not kept, and is the last: {words}."))
            break
        yield progress.step("Corrected", *failed, Note(f"Round {number}: {words}. {adapted.words}"))
        result.done, corrected = after, True
        adapted = yield from progress.of(_adapted(pairs, result, work), _AVERAGING)
    return adapted.template if corrected else None


@dataclass(frozen=True, eq=False)
class _RoundInputs:
    """What every round needs: the template as it was given, how particles are refined, and where that is done."""

    template: Template
    options: RefinementOptions
    run: ProjectRun


class _Progress:
    """Progress over the first refinement and all rounds, each stage by the time it takes."""

    def __init__(self, rounds: int) -> None:
        self.prefix = ""
        self._total = PARTS * (_REFINING + _AVERAGING + rounds * (2 * _REFINING + _AVERAGING))
        self._done = 0

    def step(self, message: str, *notes: Note) -> Step:
        """A step between two stages."""
        return Step(self._done, self._total, self.prefix + message, notes=notes, whole=True)

    def of(self, stream: Generator[Step, None, ResultT], weight: int) -> Stream[Step, ResultT]:
        """A stage of the work, counted among all; what is done never becomes less."""
        begun, most = self._done, self._done

        def among(step: Step) -> Step:
            nonlocal most
            most = max(most, begun + PARTS * weight * step.done // max(step.total, 1))
            return Step(most, self._total, self.prefix + step.message, notes=step.notes, whole=True)

        answer = yield from map_steps(stream, among)
        self._done = begun + PARTS * weight
        return answer


def _in_halves(pairs: Labelled, near: float, *, seed: int) -> tuple[Labelled, tuple[Note, ...]]:
    """The particles of all tomograms with the half that each is in; one to leave out is in the first."""
    numbers, notes = half_sets([particles for _, particles in pairs], near, seed=seed)
    split = split_like(pairs, np.maximum(numbers, 1))
    halves = [
        (tomogram, particles.replace(extra={**particles.extra, HALF_SET: own}))
        for (tomogram, particles), own in zip(pairs, split, strict=True)
    ]
    return halves, notes


def _without_halves(outcome: Outcome) -> Outcome:
    particles = outcome.particles
    if particles is None:
        return outcome
    extra = {name: column for name, column in particles.extra.items() if name != HALF_SET}
    return replace(outcome, particles=particles.replace(extra=extra))


def _too_few_words(right: float, total: int) -> str:
    return (
        f"{right:.0f} of {total} poses are expected to be right: too few for the particles to correct the template, "
        f"which takes {_LEAST_RIGHT:.0%}. It stays as it is."
    )


def _expected_right(done: Mapping[int, Outcome]) -> float:
    """Number of poses that are expected to be right: the sum of their confidences."""
    found = (outcome.particles for outcome in done.values())
    return sum(float(np.sum(part.confidence)) for part in found if part is not None and part.confidence is not None)


def _adapted(pairs: Labelled, result: ProjectResult, work: _RoundInputs) -> Stream[Step, AdaptedReference]:
    """The template corrected by the average of the particles in the poses that were found."""
    posed = [
        (pairs[row][0], outcome.particles)
        for row, outcome in sorted(result.done.items())
        if outcome.particles is not None
    ]
    voxel_size = posed[0][0].voxel_size
    # Boxes side by side may be hardly larger than the particle.
    most = min(min(tomogram.extent.size) * tomogram.voxel_size for tomogram, _ in posed) / voxel_size
    averaging = AveragingOptions(
        side=min(box_side(work.template.radius, voxel_size), 2 * int(most / 2)),
        weights="confidence",
        wedge=work.options.wedge,
        duplicates=work.options.duplicates,
    )
    device = work.options.compute.chosen()
    stream = average(posed, group=work.template.group, options=averaging, device=device, scheduler=work.run.scheduler)
    return adapt_reference(work.template, (yield from quiet(stream)))
