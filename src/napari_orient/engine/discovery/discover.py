"""discover(): structure and poses from picks alone, as a stream of steps.

Random starts are annealed (`annealing`) until two agree; with ``--classes auto`` one class more is tried as long as
that raises the held-out likelihood (`held_out`). Every pick is then searched exhaustively against the maps of the best
start, and each class refined, brought into the frame of its symmetry, and given a verdict (`structures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.devices import device_words, side_by_side, single_threaded_steps
from napari_orient.engine.discovery.annealing import (
    COLD_ROUNDS,
    AnnealingStep,
    anneal,
    average_maps,
    centred_on_mean,
    occupied_probabilities,
    with_particle_probabilities,
)
from napari_orient.engine.discovery.filled_density import fill_outliers
from napari_orient.engine.discovery.half_maps import FINEST_VOXELS
from napari_orient.engine.discovery.held_out import (
    ClassComparison,
    LikelihoodGain,
    class_count_words,
    search_log_likelihoods,
)
from napari_orient.engine.discovery.output import Discovery, DiscoveryStep, StepCounter, class_name
from napari_orient.engine.discovery.search import Assignment, masked_references, search_exhaustively
from napari_orient.engine.discovery.spectra import PatchSpectra, diameter_warning, observe_patches
from napari_orient.engine.discovery.structures import DensityMap, StructureRefinement
from napari_orient.engine.discovery.verdict import PoseEquivalence, agreement
from napari_orient.engine.errors import InputError
from napari_orient.engine.io.columns import without_results
from napari_orient.engine.parameters import AUTO, MOST_CLASSES, DiscoveryOptions
from napari_orient.engine.particles import (
    FloatArray,
    Labelled,
    Particles,
    Tomogram,
    concatenate,
    evenly_spaced_rows,
)
from napari_orient.engine.streams import Note, Stream, stoppable
from napari_orient.engine.tomogram.outside import inside_only
from napari_orient.engine.tomogram.prewhitening import levelled, smooth_words

_LEAST_VOXELS = 15
"""Least diameter in voxels of the tomogram: fewer show no shape at the detail of the search."""
_LEAST_PICKS = 20
"""Fewest picks that a discovery begins with."""
_LEAST_PER_CLASS = 10
"""Fewest picks for each class."""
_AGREED = 0.7
"""Share of the particles in equivalent poses from which two starts agree and no third is made. PolNet's ribosomes and
proteasomes reach 0.9, noise 0.38 (docs/discovery.md)."""
_SEARCH_PASSES = 3
"""Exhaustive searches of all picks, each against maps averaged from the one before."""
_DEFAULTS = DiscoveryOptions()


@single_threaded_steps
@torch.no_grad()
def discover(
    picks: Labelled, options: DiscoveryOptions = _DEFAULTS, *, align_to: DensityMap | None = None
) -> Stream[DiscoveryStep, Discovery]:
    """The structures that picks have in common, and the pose of each; rotations that the picks have are ignored.

    Parameters
    ----------
    picks : tomograms, each with its own picks; those outside their tomogram are left out.
    align_to : a map into whose frame the (most numerous) structure is rotated.

    Raises
    ------
    InputError
        If there are too few picks, half of a tomogram's lie outside, a tomogram is flat around all of them, the voxels
        are too coarse for the diameter, two tomograms share a name, or the device is missing.
    """
    picks, notes = inside_only(picks)
    picks = [
        (tomogram, particles.replace(rotations=None, tomogram=tomogram.name).located_in(tomogram))
        for tomogram, particles in picks
        if len(particles)
    ]
    check_picks(picks, options)
    run = DiscoveryRun.of(picks, options)
    if notes:
        yield run.counter.step("Setting picks aside", advance=0, notes=notes)
    step = run.counter.step("Searching for gold and other outliers of density", advance=0)
    yield step
    run = replace(run, picks=(yield from stoppable(fill_outliers(picks, options), step)))
    run = yield from run.levelled()
    spectra = yield from run.observe()
    results = yield from run.starts(spectra)
    starts, words = len(results), ""
    if options.classes == AUTO:
        run, results, words = yield from run.with_best_class_count(spectra, results)
    best = best_result(results)
    run.counter.expect(2 + run.options.class_count * (options.passes + 2))
    assignment, spectra = yield from run.search_all_picks(spectra, best.assignment)
    others = [result.assignment for result in results if result is not best]
    refinement = StructureRefinement(run.picks, spectra.geometries, spectra.dark, run.options, run.device, run.counter)
    structures, particles = yield from refinement.structures(
        run.posed(assignment, run.every), assignment, others, rows=run.rows
    )
    if align_to is not None and structures:
        yield run.counter.step("Rotating into the frame of the map given")
        structures, particles = yield from refinement.aligned(structures, particles, align_to)
    return Discovery(
        particles=particles,
        structures=structures,
        starts=starts,
        class_count_words=words,
        aligned=align_to is not None,
    )


def _voxels(tomogram: Tomogram, particles: Particles) -> NDArray[np.int_]:
    """Voxel that each particle lies in, (N, 3)."""
    voxels: NDArray[np.int_] = np.rint(particles.positions / tomogram.voxel_size).astype(int)
    return voxels


def check_picks(picks: Labelled, options: DiscoveryOptions) -> None:
    """Check that a discovery can begin from these picks.

    Raises
    ------
    InputError
        If there are too few, half of a tomogram's lie outside, the voxels are too coarse for the diameter, or two
        tomograms share a name.
    """
    picks, _ = inside_only(picks)
    count, least = sum(len(particles) for _, particles in picks), _fewest_picks(options.class_count)
    if count < least:
        raise InputError(f"there are {count} picks; expected at least {least}. Pick more particles.")
    places = sum(len(np.unique(_voxels(tomogram, particles), axis=0)) for tomogram, particles in picks)
    if places < least:
        raise InputError(
            f"{count} picks lie in {places} different voxels; expected at least {least}. Was another list meant?"
        )
    names = [tomogram.name for tomogram, _ in picks]
    if len(set(names)) < len(names):
        raise InputError(f"two tomograms are called {max(names, key=names.count)}; expected names that differ.")
    for tomogram, _ in picks:
        smallest = _LEAST_VOXELS * tomogram.voxel_size
        if options.diameter < 0.99 * smallest:
            raise InputError(
                f"diameter is {options.diameter:g} Å; voxels of {tomogram.voxel_size:g} Å show no particle smaller "
                f"than {smallest:g} Å. Give a larger diameter, or finer voxels."
            )


def _fewest_picks(class_count: int) -> int:
    return max(_LEAST_PICKS, _LEAST_PER_CLASS * class_count)


@dataclass(frozen=True, eq=False)
class AnnealingResult:
    """The assignment that a start ended with, and the pose equivalence of each class's map."""

    assignment: Assignment
    equivalences: list[PoseEquivalence]


def best_result(results: Sequence[AnnealingResult]) -> AnnealingResult:
    """The start that explains the patches best."""
    return max(results, key=lambda result: result.assignment.log_likelihood_gain)


def _last_agrees(results: Sequence[AnnealingResult]) -> bool:
    """Whether the last start agrees with an earlier one."""
    if not results:
        return False
    *earlier, last = results
    shares = [agreement(last.assignment, other.assignment, last.equivalences).mean() for other in earlier]
    return any(share >= _AGREED for share in shares)


def _best_agreement(results: Sequence[AnnealingResult]) -> float:
    """Share of the particles that the best start and another put into the same class and pose, the mean of the classes.

    Two starts may find a class that is round about an axis at different azimuths: one that agrees is enough.
    """
    best = best_result(results)
    others = [result.assignment for result in results if result is not best]
    return max(float(agreement(best.assignment, other, best.equivalences).mean()) for other in others)


@dataclass(frozen=True, eq=False)
class DiscoveryRun:
    """Random starts and the search of all picks, for one number of classes.

    Parameters
    ----------
    picks : tomograms, each with its own picks.
    rows : of all picks, those that starts are made from.
    counter : makes the steps.
    """

    picks: Labelled
    options: DiscoveryOptions
    device: torch.device
    rows: NDArray[np.int_]
    counter: StepCounter

    @classmethod
    def of(cls, picks: Labelled, options: DiscoveryOptions) -> DiscoveryRun:
        """The run of some picks; starts are made from an even sample of them."""
        rows = evenly_spaced_rows(sum(len(particles) for _, particles in picks), options.sample)
        counter = StepCounter(options.patch_voxel_size, options.class_count)
        return cls(picks, options, options.compute.chosen(), rows, counter)

    @property
    def every(self) -> Particles:
        """All the picks, in order."""
        return concatenate([part for _, part in self.picks])

    @property
    def start_steps(self) -> int:
        """Steps of one start."""
        return self.options.rounds + COLD_ROUNDS

    def by_tomogram(self, positions: FloatArray, rows: NDArray[np.int_]) -> list[tuple[Tomogram, FloatArray]]:
        """Each tomogram with the positions (R, 3) of these rows that lie in it."""
        names = np.repeat(np.arange(len(self.picks)), [len(particles) for _, particles in self.picks])[rows]
        parts = [(tomogram, positions[names == number]) for number, (tomogram, _) in enumerate(self.picks)]
        return [(tomogram, part) for tomogram, part in parts if len(part)]

    def posed(self, assignment: Assignment, particles: Particles) -> Particles:
        """Picks in the poses of an assignment."""
        label = assignment.label.cpu().numpy()
        several = self.options.class_count > 1
        return without_results(particles).replace(
            positions=particles.positions + assignment.shifts.double().cpu().numpy(),
            rotations=assignment.rotations.double().cpu().numpy(),
            kind=np.array([class_name(int(item)) for item in label]) if several else particles.kind,
        )

    def levelled(self) -> Stream[DiscoveryStep, DiscoveryRun]:
        """The run with the power of smooth tomograms levelled, and a note where there are any."""
        box, level = self.options.patch_side * self.options.patch_voxel_size, []
        for tomogram, particles in self.picks:
            finest = FINEST_VOXELS * tomogram.voxel_size
            level.append((levelled(tomogram, particles.positions, box=box, resolution=finest), particles))
            yield self.counter.step("Measuring how steeply power falls", advance=0)
        smooth = [after.name for (before, _), (after, _) in zip(self.picks, level, strict=True) if before is not after]
        if smooth:
            yield self.counter.step("Levelling power", advance=0, notes=(Note(smooth_words(smooth)),))
        return replace(self, picks=level)

    def observe(self) -> Stream[DiscoveryStep, PatchSpectra]:
        """The spectra of the picks that starts are made from; a note warns of a diameter that does not fit."""
        trial = 2 * self.start_steps if self.options.classes == AUTO else 0
        refinement = 2 + self.options.class_count * (self.options.passes + 2)
        self.counter.expect(2 * self.start_steps + trial + refinement)
        step = self.counter.step(f"Reading the picks on {device_words(self.device)}", advance=0)
        yield step
        positions = self.every.positions[self.rows]
        observed = observe_patches(self.by_tomogram(positions, self.rows), self.options, device=self.device)
        spectra = yield from stoppable(observed, step)
        centres = positions + centred_on_mean(spectra, self.options)[0].double().cpu().numpy()
        warning = diameter_warning(self.by_tomogram(centres, self.rows), self.options, dark=spectra.dark)
        notes = (Note(warning),) if warning else ()
        yield self.counter.step("Estimating the size of the particles", advance=0, notes=notes)
        return spectra

    def starts(
        self, spectra: PatchSpectra, *, made: Sequence[AnnealingResult] = (), most: int | None = None, first: int = 1
    ) -> Stream[DiscoveryStep, list[AnnealingResult]]:
        """Results of random starts, after those made already, until two agree or the most allowed are made.

        Parameters
        ----------
        first : number of the first start, among those of all numbers of classes.
        """
        results, most = list(made), most or self.options.starts
        while len(results) < most and not _last_agrees(results):
            # One alone agrees with none, so that there are two at least.
            numbers = [len(results) + 1] if results or most < 2 else [1, 2]
            results += yield from self._made_starts(spectra, numbers, before=first - 1)
        return results

    def _made_starts(
        self, spectra: PatchSpectra, numbers: Sequence[int], *, before: int
    ) -> Stream[DiscoveryStep, list[AnnealingResult]]:
        """Results of the starts of these numbers, which are made side by side; the first one's maps are shown.

        Parameters
        ----------
        before : starts made for other numbers of classes.
        """
        title = f"{self.options.class_count} kinds, start" if before else "Start"
        every, last = self.every.take(self.rows), dict[int, AnnealingStep]()
        starts = [anneal(spectra, self.options, self.options.seed * 1000 + number) for number in numbers]
        for steps in side_by_side(starts, device=self.device):
            taken = {number: step for number, step in zip(numbers, steps, strict=True) if step is not None}
            last |= taken
            for number, step in taken.items():
                shown = number == min(taken)
                yield self.counter.step(
                    f"{title} {number}, round {step.number} on {device_words(self.device)}",
                    # Two starts are expected: a third one's steps count for none.
                    advance=int(number <= 2),
                    class_count=self.options.class_count,
                    maps=step.maps if shown else (),
                    particles=self.posed(step.assignment, every) if shown else None,
                    start=before + number,
                    peak=float(step.assignment.peak.mean()),
                )
        return [self._result(last[number]) for number in numbers]

    def _result(self, last: AnnealingStep) -> AnnealingResult:
        references = masked_references(last.maps, self.options, self.device)
        rng = np.random.default_rng(self.options.seed)
        return AnnealingResult(last.assignment, [PoseEquivalence(part, rng) for part in references])

    def with_best_class_count(
        self, spectra: PatchSpectra, results: list[AnnealingResult]
    ) -> Stream[DiscoveryStep, tuple[DiscoveryRun, list[AnnealingResult], str]]:
        """The run with as many classes as explain held-out particles, its results, and why, in a line.

        One class more is tried as long as the one before was accepted.
        """
        run, made = replace(self, options=self.options.with_class_count(1)), len(results)
        comparisons: list[ClassComparison] = []
        fewer = yield from run._held_out(spectra, results)
        while (not comparisons or comparisons[-1].accepted) and run._allows_another_class(len(spectra)):
            larger = replace(run, options=run.options.with_class_count(run.options.class_count + 1))
            run.counter.expect(2 * run.start_steps + 2 + larger.options.class_count * (self.options.passes + 2))
            others = yield from larger.starts(spectra, most=2, first=made + 1)
            more = yield from larger._held_out(spectra, others)
            comparison = ClassComparison(larger.options.class_count, LikelihoodGain.between(more, fewer))
            if comparison.significant:
                others = yield from larger.starts(spectra, made=others, first=made + 1)
                comparison = replace(comparison, agreement=_best_agreement(others))
            comparisons.append(comparison)
            if comparison.accepted:
                run, results, fewer, made = larger, others, more, made + len(others)
        return run, results, class_count_words(comparisons)

    def _held_out(self, spectra: PatchSpectra, results: Sequence[AnnealingResult]) -> Stream[DiscoveryStep, FloatArray]:
        step = self.counter.step("Comparing numbers of classes", advance=0, class_count=self.options.class_count)
        log_likelihood = search_log_likelihoods(spectra, best_result(results).assignment, self.options)
        return (yield from stoppable(log_likelihood, step))

    def _allows_another_class(self, count: int) -> bool:
        """Whether so many particles may hold one class more."""
        return count >= _fewest_picks(self.options.class_count + 1) and self.options.class_count < MOST_CLASSES

    def search_all_picks(
        self, sample: PatchSpectra, best: Assignment
    ) -> Stream[DiscoveryStep, tuple[Assignment, PatchSpectra]]:
        """Every pick's assignment to the best start's maps, shifts from the picks, and the spectra it is made from.

        Patches are cut anew where the best start put the particles.

        Parameters
        ----------
        sample : the picks that the start was made from.
        """
        step = self.counter.step("Searching every shift and rotation", class_count=self.options.class_count)
        yield step
        every, offsets, rng = self.every, torch.zeros(len(self.every), 3), np.random.default_rng(self.options.seed)
        offsets[self.rows] = best.shifts.cpu()
        positions = self.by_tomogram(every.positions + offsets.double().numpy(), np.arange(len(every)))
        offsets = offsets.to(self.device)
        observed = observe_patches(positions, self.options, device=self.device, known=sample)
        spectra = yield from stoppable(observed, step)
        maps, count = average_maps(sample, best, self.options, rng=rng), self.options.class_count
        p_occupied = torch.ones(len(every), device=self.device)
        p_occupied[self.rows] = occupied_probabilities(centred_on_mean(sample, self.options)[1])
        for number in range(_SEARCH_PASSES):
            references = masked_references(maps, self.options, self.device)
            search = search_exhaustively(spectra, references, self.options, offsets=offsets)
            assignment = with_particle_probabilities((yield from stoppable(search, step)), count, p_occupied)
            if number + 1 < _SEARCH_PASSES:
                maps = average_maps(spectra, assignment, self.options, rng=rng)
        return replace(assignment, shifts=assignment.shifts + offsets), spectra
