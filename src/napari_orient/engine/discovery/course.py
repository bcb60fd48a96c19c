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
from napari_orient.engine.discovery.annealing import Guess, Look, anneal, average_maps, centred, references
from napari_orient.engine.discovery.belief import agreement
from napari_orient.engine.discovery.kinds import Gain, held_out, kinds_words
from napari_orient.engine.discovery.looks import Looks
from napari_orient.engine.discovery.options import AUTO, MOST_KINDS, DiscoveryOptions
from napari_orient.engine.discovery.outliers import inlier_odds
from napari_orient.engine.discovery.searching import search
from napari_orient.engine.discovery.size import size_words
from napari_orient.engine.discovery.structure import Round, class_name
from napari_orient.engine.discovery.views import Views, see
from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram, concatenate, evenly_spaced_rows
from napari_orient.engine.streams import Note, Stream

_FEWEST = 20
_AGREED = 0.7
_LOOKS = 2

Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""


@dataclass(frozen=True, eq=False)
class End:
    """What a start came to, and how its maps look."""

    guess: Guess
    looks: list[Looks]


def best_of(ends: Sequence[End]) -> End:
    """The end that explains the patches best."""
    return max(ends, key=lambda end: end.guess.worth)


def _agreed(ends: Sequence[End]) -> bool:
    """Whether the last start agrees with an earlier one."""
    return any(agreement(ends[-1].guess, end.guess, ends[-1].looks).mean() >= _AGREED for end in ends[:-1])


def _found_by_two(ends: Sequence[End]) -> float:
    """Share of the particles that the best start and another put together and turn alike, the mean of the kinds.

    A kind that is round about an axis may be found by both and spun by neither: one that is turned alike is enough.
    """
    best = best_of(ends)
    return max(float(agreement(best.guess, end.guess, best.looks).mean()) for end in ends if end is not best)


def fewest(kinds: int) -> int:
    """So many picks are needed for so many kinds."""
    return max(_FEWEST, 10 * kinds)


@dataclass(frozen=True, eq=False)
class Course:
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
    kinds_words: str = ""

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
        return self.annealed + trial + 2 + self.options.kinds * (self.options.passes + 1)

    @property
    def every(self) -> Particles:
        """All the picks, in order."""
        return concatenate([part for _, part in self.picks])

    @property
    def rows(self) -> NDArray[np.int_]:
        """The picks that the map is found from."""
        count = sum(len(particles) for _, particles in self.picks)
        return evenly_spaced_rows(count, self.options.sample)

    def round(self, done: int, message: str, **more: Any) -> Round:
        """A step, whose maps are as coarse as the search unless told otherwise."""
        return Round(
            done,
            self.total,
            message,
            **{"voxel_size": self.options.view_voxel_size, "kinds": self.options.kinds, **more},
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

    def started(self) -> Stream[Round, tuple[Course, Views, list[End]]]:
        """The course with its number of kinds settled, what the picks look like, and the ends of its starts."""
        yield self.round(0, f"Looking at the picks on {device_words(self.device)}")
        views = see(self.places(self.every.positions, self.rows), self.options, device=self.device)
        yield self.round(0, "Looking at the size of the particles", notes=self._size_notes(views))
        ends = yield from self.starts(views)
        if self.options.classes != AUTO:
            return self, views, ends
        course, ends = yield from self.parted(views, ends)
        return course, views, ends

    def _size_notes(self, views: Views) -> tuple[Note, ...]:
        middles = self.every.positions.copy()
        middles[self.rows] += centred(views, self.options).double().cpu().numpy()
        words = size_words(self.places(middles, self.rows), self.options, dark=views.dark)
        return (Note(words),) if words else ()

    def parted(self, views: Views, ends: list[End]) -> Stream[Round, tuple[Course, list[End]]]:
        """The course of as many kinds as explain particles that their maps have not seen, and the ends of its starts.

        One kind more is tried as long as the one before brought something.
        """
        course, gains = replace(self, options=self.options.with_kinds(1)), list[Gain]()
        known = held_out(views, best_of(ends).guess, course.options)
        while (not gains or gains[-1].holds) and course.has_room_for_more(len(views)):
            more = course.with_another_kind(len(ends))
            others = yield from more.starts(views, most=2)
            seen = held_out(views, best_of(others).guess, more.options)
            gain = Gain.of(more.options.kinds, seen, known)
            if gain.clear:
                others = yield from more.starts(views, ends=others)
                gain = replace(gain, agreement=_found_by_two(others))
            gains.append(gain)
            if gain.holds:
                course, ends, known = more, others, seen
            else:
                course = replace(course, spent=more.spent)
        return replace(course, kinds_words=kinds_words(gains)), ends

    def has_room_for_more(self, count: int) -> bool:
        """Whether so many particles may hold one kind more."""
        return count >= fewest(self.options.kinds + 1) and self.options.kinds < MOST_KINDS

    def with_another_kind(self, starts: int) -> Course:
        """The course with one kind more, after so many starts with fewer."""
        options = self.options.with_kinds(self.options.kinds + 1)
        return replace(self, options=options, earlier=self.earlier + starts, spent=self.annealed)

    def starts(self, views: Views, *, ends: Sequence[End] = (), most: int | None = None) -> Stream[Round, list[End]]:
        """The ends of random starts, after those made already: until two agree, but no more than are allowed."""
        found = list(ends)
        while len(found) < (most or self.options.starts) and not _agreed(found):
            found.append((yield from self._start(views, len(found) + 1)))
        return found

    def _start(self, views: Views, number: int) -> Stream[Round, End]:
        words, done = device_words(self.device), self.spent + (number - 1) * self.two_starts // 2
        title = f"{self.options.kinds} kinds, start" if self.spent else "Start"
        for look in anneal(views, self.options, self.options.seed * 1000 + number):
            message = f"{title} {number}, round {look.number} on {words}"
            # A third start was not reckoned with: its steps count for none.
            reached = min(done + look.number, self.annealed)
            yield self.round(reached, message, **self._shown(look, self.earlier + number))
        return End(look.guess, [Looks(part) for part in references(look.maps, self.options, self.device)])

    def _shown(self, look: Look, start: int) -> dict[str, Any]:
        particles = self.posed(look.guess, self.every.take(self.rows))
        return {"maps": look.maps, "particles": particles, "start": start, "peak": float(look.guess.peak.mean())}

    def posed(self, guess: Guess, particles: Particles) -> Particles:
        """Picks in the poses of a guess."""
        label = guess.label.cpu().numpy()
        several = self.options.kinds > 1
        return particles.replace(
            positions=particles.positions + guess.shifts.double().cpu().numpy(),
            rotations=guess.rotations.double().cpu().numpy(),
            kind=np.array([class_name(int(item)) for item in label]) if several else particles.kind,
        )

    # --- the best start, looked at again ----------------------------------------------------------------------------

    def look_again(self, seen: Views, best: Guess) -> tuple[Guess, Views]:
        """Every pick against the best start's maps, cut anew where it was found to stand; shifts are from the picks.

        ``seen`` are the picks that the start looked at.
        """
        every, shifts = self.every, torch.zeros(len(self.every), 3)
        shifts[self.rows] = best.shifts.cpu()
        maps = average_maps(seen, best, self.options)
        places = self.places(every.positions + shifts.double().numpy())
        views = see(places, self.options, device=self.device, dark=seen.dark)
        guess = search(views, references(maps, self.options, self.device), self.options)
        for _ in range(_LOOKS):
            maps = average_maps(views, replace(guess, share=self._shares(guess)), self.options)
            guess = search(views, references(maps, self.options, self.device), self.options)
        return replace(guess, shifts=guess.shifts + shifts.to(self.device), share=self._shares(guess)), views

    def _shares(self, guess: Guess) -> Tensor:
        shares = torch.ones_like(guess.score)
        for label in range(self.options.kinds):
            rows = guess.label == label
            shares[rows] = inlier_odds(guess.score[rows])
        return shares
