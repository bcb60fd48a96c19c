"""The way of a discovery: random starts of one number of kinds or more, the best looked at again, and structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.devices import device_words
from napari_orient.engine.discovery.annealing import (
    AnnealingStep,
    anneal,
    average_maps,
    centring_shifts,
    inlier_probabilities,
)
from napari_orient.engine.discovery.classes import ClassComparison, class_count_words, held_out
from napari_orient.engine.discovery.options import AUTO, MOST_CLASSES, DiscoveryOptions
from napari_orient.engine.discovery.output import DiscoveryStep, class_name
from napari_orient.engine.discovery.search import Assignment, references, search
from napari_orient.engine.discovery.spectra import PatchSpectra, diameter_warning, observe_patches
from napari_orient.engine.discovery.verdict import PoseEquivalence, agreement
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, concatenate, evenly_spaced_rows
from napari_orient.engine.streams import Note, Stream

_FEWEST = 20
_AGREED = 0.7
_LOOKS = 2

Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""


@dataclass(frozen=True, eq=False)
class AnnealingResult:
    """What a start came to, and how its maps look."""

    assignment: Assignment
    equivalences: list[PoseEquivalence]


def best_result(ends: Sequence[AnnealingResult]) -> AnnealingResult:
    """The end that explains the patches best."""
    return max(ends, key=lambda end: end.assignment.worth)


def _agreed(ends: Sequence[AnnealingResult]) -> bool:
    """Whether the last start agrees with an earlier one."""
    return any(
        agreement(ends[-1].assignment, end.assignment, ends[-1].equivalences).mean() >= _AGREED for end in ends[:-1]
    )


def _found_by_two(ends: Sequence[AnnealingResult]) -> float:
    """Share of the particles that the best start and another put together and turn alike, the mean of the kinds.

    A kind that is round about an axis may be found by both and spun by neither: one that is turned alike is enough.
    """
    best = best_result(ends)
    return max(
        float(agreement(best.assignment, end.assignment, best.equivalences).mean()) for end in ends if end is not best
    )


def fewest(class_count: int) -> int:
    """So many picks are needed for so many kinds."""
    return max(_FEWEST, 10 * class_count)


@dataclass(frozen=True, eq=False)
class DiscoveryRun:
    """The way of a discovery, over these picks, with so many kinds as the options tell.

    Parameters
    ----------
    earlier, spent : starts made with other numbers of kinds, and their steps.
    kinds_words : why there are so many kinds; empty where it was told.
    """

    picks: Labelled
    options: DiscoveryOptions
    device: torch.device
    earlier: int = 0
    spent: int = 0
    class_count_words: str = ""

    @property
    def two_starts(self) -> int:
        """Steps of two starts."""
        return 2 * (self.options.rounds + 2)

    @property
    def annealed(self) -> int:
        """Steps until the starts are done, if two suffice."""
        return self.spent + self.two_starts

    @property
    def total(self) -> int:
        """Steps in all, if two starts suffice; where the picks tell how many kinds there are, another is tried."""
        trial = self.two_starts if self.options.classes == AUTO else 0
        return self.annealed + trial + 2 + self.options.class_count * (self.options.passes + 1)

    @property
    def every(self) -> Particles:
        """All the picks, in order."""
        return concatenate([part for _, part in self.picks])

    @property
    def rows(self) -> NDArray[np.int_]:
        """The picks that the map is found from."""
        count = sum(len(particles) for _, particles in self.picks)
        return evenly_spaced_rows(count, self.options.sample)

    def round(self, done: int, message: str, **more: Any) -> DiscoveryStep:
        """A step, whose maps are as coarse as the search unless told otherwise."""
        return DiscoveryStep(
            done,
            self.total,
            message,
            **{"voxel_size": self.options.patch_voxel_size, "class_count": self.options.class_count, **more},
        )

    def places(self, positions: FloatArray, rows: NDArray[np.int_] | None = None) -> list[tuple[Tomogram, FloatArray]]:
        """Each tomogram with the positions (N, 3) in it, of these rows of all picks or of all."""
        chosen = np.arange(len(positions)) if rows is None else rows
        first, answer = 0, []
        for tomogram, particles in self.picks:
            own = chosen[(chosen >= first) & (chosen < first + len(particles))]
            if len(own):
                answer.append((tomogram, positions[own]))
            first += len(particles)
        return answer

    # --- starts -----------------------------------------------------------------------------------------------------

    def started(self) -> Stream[DiscoveryStep, tuple[DiscoveryRun, PatchSpectra, list[AnnealingResult]]]:
        """The course with its number of kinds settled, what the picks look like, and the ends of its starts."""
        yield self.round(0, f"Looking at the picks on {device_words(self.device)}")
        spectra = observe_patches(self.places(self.every.positions, self.rows), self.options, device=self.device)
        yield self.round(0, "Looking at the size of the particles", notes=self._size_notes(spectra))
        ends = yield from self.starts(spectra)
        if self.options.classes != AUTO:
            return self, spectra, ends
        run, ends = yield from self.parted(spectra, ends)
        return run, spectra, ends

    def _size_notes(self, spectra: PatchSpectra) -> tuple[Note, ...]:
        voxel_centres = self.every.positions.copy()
        voxel_centres[self.rows] += centring_shifts(spectra, self.options).double().cpu().numpy()
        words = diameter_warning(self.places(voxel_centres, self.rows), self.options, dark=spectra.dark)
        return (Note(words),) if words else ()

    def parted(
        self, spectra: PatchSpectra, ends: list[AnnealingResult]
    ) -> Stream[DiscoveryStep, tuple[DiscoveryRun, list[AnnealingResult]]]:
        """The course of as many kinds as explain particles that their maps have not seen, and the ends of its starts.

        One kind more is tried as long as the one before brought something.
        """
        run, gains = replace(self, options=self.options.with_class_count(1)), list[ClassComparison]()
        known = held_out(spectra, best_result(ends).assignment, run.options)
        while (not gains or gains[-1].holds) and run.has_room_for_more(len(spectra)):
            more = run.with_another_kind(len(ends))
            others = yield from more.starts(spectra, most=2)
            seen = held_out(spectra, best_result(others).assignment, more.options)
            gain = ClassComparison.of(more.options.class_count, seen, known)
            if gain.clear:
                others = yield from more.starts(spectra, ends=others)
                gain = replace(gain, agreement=_found_by_two(others))
            gains.append(gain)
            if gain.holds:
                run, ends, known = more, others, seen
            else:
                run = replace(run, spent=more.spent)
        return replace(run, class_count_words=class_count_words(gains)), ends

    def has_room_for_more(self, count: int) -> bool:
        """Whether so many particles may hold one kind more."""
        return count >= fewest(self.options.class_count + 1) and self.options.class_count < MOST_CLASSES

    def with_another_kind(self, starts: int) -> DiscoveryRun:
        """The course with one kind more, after so many starts with fewer."""
        options = self.options.with_class_count(self.options.class_count + 1)
        return replace(self, options=options, earlier=self.earlier + starts, spent=self.annealed)

    def starts(
        self, spectra: PatchSpectra, *, ends: Sequence[AnnealingResult] = (), most: int | None = None
    ) -> Stream[DiscoveryStep, list[AnnealingResult]]:
        """The ends of random starts, after those made already: until two agree, but no more than are allowed."""
        found = list(ends)
        while len(found) < (most or self.options.starts) and not _agreed(found):
            found.append((yield from self._start(spectra, len(found) + 1)))
        return found

    def _start(self, spectra: PatchSpectra, number: int) -> Stream[DiscoveryStep, AnnealingResult]:
        words, done = device_words(self.device), self.spent + (number - 1) * self.two_starts // 2
        title = f"{self.options.class_count} kinds, start" if self.spent else "Start"
        for look in anneal(spectra, self.options, self.options.seed * 1000 + number):
            message = f"{title} {number}, round {look.number} on {words}"
            # A third start was not reckoned with: its steps count for none.
            reached = min(done + look.number, self.annealed)
            yield self.round(reached, message, **self._shown(look, self.earlier + number))
        return AnnealingResult(
            look.assignment, [PoseEquivalence(part) for part in references(look.maps, self.options, self.device)]
        )

    def _shown(self, look: AnnealingStep, start: int) -> dict[str, Any]:
        particles = self.posed(look.assignment, self.every.take(self.rows))
        return {"maps": look.maps, "particles": particles, "start": start, "peak": float(look.assignment.peak.mean())}

    def posed(self, assignment: Assignment, particles: Particles) -> Particles:
        """Picks in the poses of a guess."""
        label = assignment.label.cpu().numpy()
        several = self.options.class_count > 1
        return particles.replace(
            positions=particles.positions + assignment.shifts.double().cpu().numpy(),
            rotations=assignment.rotations.double().cpu().numpy(),
            kind=np.array([class_name(int(item)) for item in label]) if several else particles.kind,
        )

    # --- the best start, looked at again ----------------------------------------------------------------------------

    def search_all_picks(self, seen: PatchSpectra, best: Assignment) -> tuple[Assignment, PatchSpectra]:
        """Every pick against the best start's maps, cut anew where it was found to stand; shifts are from the picks.

        ``seen`` are the picks that the start looked at.
        """
        every, shifts = self.every, torch.zeros(len(self.every), 3)
        shifts[self.rows] = best.shifts.cpu()
        maps = average_maps(seen, best, self.options)
        places = self.places(every.positions + shifts.double().numpy())
        spectra = observe_patches(places, self.options, device=self.device, dark=seen.dark)
        assignment = search(spectra, references(maps, self.options, self.device), self.options)
        for _ in range(_LOOKS):
            maps = average_maps(spectra, replace(assignment, share=self._shares(assignment)), self.options)
            assignment = search(spectra, references(maps, self.options, self.device), self.options)
        return replace(
            assignment, shifts=assignment.shifts + shifts.to(self.device), share=self._shares(assignment)
        ), spectra

    def _shares(self, assignment: Assignment) -> Tensor:
        shares = torch.ones_like(assignment.score)
        for label in range(self.options.class_count):
            rows = assignment.label == label
            shares[rows] = inlier_probabilities(assignment.score[rows])
        return shares
