"""discover(): structure and poses from picks alone, as a stream of rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.alignment import align_map
from napari_orient.engine.discovery.annealing import Guess, anneal, average_maps, references
from napari_orient.engine.discovery.belief import UNJUDGED, Belief, agreement
from napari_orient.engine.discovery.looks import Looks
from napari_orient.engine.discovery.options import DiscoveryOptions
from napari_orient.engine.discovery.outliers import inlier_odds
from napari_orient.engine.discovery.polishing import UNKNOWN_DEG, averaged, polished, reframed
from napari_orient.engine.discovery.searching import search
from napari_orient.engine.discovery.structure import OUTLIER, Discovery, Round, Structure, class_name
from napari_orient.engine.discovery.views import Views, see
from napari_orient.engine.matching.centre import symmetry_centre
from napari_orient.engine.matching.reference import build_reference
from napari_orient.engine.matching.selfsymmetry import propose_symmetry
from napari_orient.engine.matching.wedge import Wedge
from napari_orient.engine.networks import choose_device, device_words
from napari_orient.engine.particles import FloatArray, Particles, Tomogram, check_inside, concatenate
from napari_orient.engine.rotations import Symmetry, symmetry, turned_symmetry, within_from_rms
from napari_orient.engine.tasks import InputError, Stream

_FEWEST = 20
_LEAST_VOXELS = 15
_AGREED = 0.7
_LOOKS = 2
_ALIKE = 2.0
"""Halves of the particles must agree to a diameter over this, for poses to be refined."""
_C1, _USUAL = symmetry("C1"), DiscoveryOptions()

Labelled = Sequence[tuple[Tomogram, Particles]]
Map = tuple[FloatArray, float]
"""A density (n, n, n) and its voxel size in Å."""


@torch.no_grad()
def discover(
    picks: Labelled, options: DiscoveryOptions = _USUAL, *, align_to: Map | None = None
) -> Stream[Round, Discovery]:
    """The structure that picks have in common, and the pose of each; rotations that the picks have are not looked at.

    Several random starts are annealed and judged by each other; the best is looked at again in every place and
    rotation, given the frame of its symmetry, and refined with halves apart.

    Parameters
    ----------
    picks : tomograms, each with its own picks.
    align_to : a map whose frame the (most numerous) structure is turned into.

    Raises
    ------
    InputError
        If there are too few picks, one lies outside, the voxels are too coarse for the diameter, two tomograms share
        a name, or the device is missing.
    """
    picks = [
        (tomogram, particles.replace(rotations=None, tomogram=tomogram.name))
        for tomogram, particles in picks
        if len(particles)
    ]
    check_picks(picks, options)
    course = _Course(picks, options, choose_device(options.device))
    views, ends = yield from course.starts()
    yield course.round(course.annealed + 1, "Looking at every place and rotation")
    best = max(ends, key=lambda end: end.worth)
    found, views = course.look_again(views, best)
    structures, particles = yield from course.structures(found, views, [end for end in ends if end is not best])
    if align_to is not None and structures:
        yield course.round(course.total, "Turning into the frame of the map given")
        structures, particles = course.aligned(structures, particles, views, align_to)
    return Discovery(particles=particles, structures=structures, starts=len(ends))


def check_picks(picks: Labelled, options: DiscoveryOptions) -> None:
    """Nothing, if a discovery can begin from these picks.

    Raises
    ------
    InputError
        If there are too few, one lies outside, the voxels are too coarse for the diameter, or two tomograms share
        a name.
    """
    count = sum(len(particles) for _, particles in picks)
    if count < max(_FEWEST, 10 * options.classes):
        raise InputError(
            f"there are {count} picks; expected at least {max(_FEWEST, 10 * options.classes)}. Pick more particles."
        )
    names = [tomogram.name for tomogram, _ in picks]
    if len(set(names)) < len(names):
        raise InputError(f"two tomograms are called {max(names, key=names.count)}; expected names that differ.")
    for tomogram, particles in picks:
        check_inside(particles, tomogram.extent, name=tomogram.name)
        least = _LEAST_VOXELS * tomogram.voxel_size
        if options.diameter < 0.99 * least:
            raise InputError(
                f"diameter is {options.diameter:g} Å; voxels of {tomogram.voxel_size:g} Å show no particle smaller "
                f"than {least:g} Å. Give a larger diameter, or finer voxels."
            )


@dataclass(frozen=True, eq=False)
class _Course:
    """The way of a discovery, over these picks."""

    picks: Labelled
    options: DiscoveryOptions
    device: torch.device

    @property
    def annealed(self) -> int:
        """Steps of two starts."""
        return 2 * (self.options.rounds + 2)

    @property
    def total(self) -> int:
        """Steps in all, if two starts suffice."""
        return self.annealed + 2 + self.options.classes * (self.options.passes + 1)

    @property
    def every(self) -> Particles:
        """All the picks, in order."""
        return concatenate([part for _, part in self.picks])

    @property
    def rows(self) -> NDArray[np.int_]:
        """The picks that the map is found from."""
        count = sum(len(particles) for _, particles in self.picks)
        return np.unique(np.linspace(0, count - 1, min(count, self.options.sample)).round().astype(int))

    def round(self, done: int, message: str, **more: Any) -> Round:
        """A step, whose maps are as coarse as the search unless told otherwise."""
        return Round(done, self.total, message, **{"voxel_size": self.options.view_voxel_size, **more})

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

    def starts(self) -> Stream[Round, tuple[Views, list[Guess]]]:
        """What the picks look like, and the ends of several starts."""
        words = device_words(self.device)
        yield self.round(0, f"Looking at the picks on {words}")
        views = see(self.places(self.every.positions, self.rows), self.options, device=self.device)
        ends: list[Guess] = []
        looks: list[Looks] = []
        while len(ends) < self.options.starts and not self._agreed(ends, looks):
            number, done = len(ends) + 1, min(len(ends), 1) * self.annealed // 2
            for look in anneal(views, self.options, self.options.seed * 1000 + number):
                guess = look.guess
                message = f"Start {number}, round {look.number} on {words}"
                yield self.round(done + look.number, message, **self._shown(guess, look.maps, number))
            ends.append(guess)
            looks = [Looks(part) for part in references(look.maps, self.options, self.device)]
        return views, ends

    def _agreed(self, ends: list[Guess], looks: list[Looks]) -> bool:
        """Whether the last start, whose maps look so, agrees with an earlier one."""
        return any(agreement(ends[-1], end, looks).mean() >= _AGREED for end in ends[:-1])

    def _shown(self, guess: Guess, maps: tuple[NDArray[np.float32], ...], start: int) -> dict[str, Any]:
        particles = self._posed(guess, self.every.take(self.rows))
        return {"maps": maps, "particles": particles, "start": start, "peak": float(guess.peak.mean())}

    def _posed(self, guess: Guess, particles: Particles) -> Particles:
        """Picks in the poses of a guess."""
        label = guess.label.cpu().numpy()
        several = self.options.classes > 1
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
        for label in range(self.options.classes):
            rows = guess.label == label
            shares[rows] = inlier_odds(guess.score[rows])
        return shares

    # --- structures -------------------------------------------------------------------------------------------------

    def structures(
        self, best: Guess, views: Views, others: list[Guess]
    ) -> Stream[Round, tuple[tuple[Structure, ...], Particles]]:
        """A structure of each class, the most numerous first, and all particles."""
        share = best.share.double().cpu().numpy()
        label = best.label.cpu().numpy()
        order = np.argsort([-((label == number) & (share >= 0.5)).sum() for number in range(self.options.classes)])
        given = self.every
        particles = self._posed(best, given).replace(
            expected_error_deg=np.full(len(given), UNKNOWN_DEG),
            kind=np.array([class_name(int(at)) for at in np.argsort(order)[label]]) if len(order) > 1 else given.kind,
        )
        found: list[Structure] = []
        for number in order:
            rows = np.flatnonzero((label == number) & (share >= 0.5))
            if len(rows) >= _FEWEST // 4:
                structure, kept = yield from self._structure(particles.take(rows), views, len(found))
                particles = _with_rows(particles, rows, kept)
                told = self._belief(structure, best, particles, others, number=int(number), rows=rows)
                aside = int(((label == number) & (share < 0.5)).sum())
                found.append(replace(structure, belief=told, outliers=aside))
        flags = {**given.extra, OUTLIER: (share < 0.5).astype(int)}
        confidence = within_from_rms(np.asarray(particles.expected_error_deg), 20) * share
        return tuple(found), particles.replace(confidence=confidence, extra=flags)

    def _structure(self, particles: Particles, views: Views, place: int) -> Stream[Round, tuple[Structure, Particles]]:
        """One class's particles refined, in the frame of its symmetry."""
        group = _C1
        words: tuple[str, ...] = ("Symmetry was not looked for.",)
        labelled, wedges = self._by_tomogram(particles), self._wedges(particles, views)
        average = averaged(labelled, group, self.options, dark=views.dark)
        done = self.annealed + 2 + place * (self.options.passes + 1)
        for number in range(self.options.passes + 1):
            yield self.round(
                done + number,
                f"Refining {class_name(place)}, pass {number + 1}" if self.options.classes > 1 else "Refining",
                maps=(average.density,),
                voxel_size=average.voxel_size,
                particles=concatenate([part for _, part in labelled]),
            )
            if average.fsc.resolution(0.143) > self.options.diameter / _ALIKE:
                # Halves that share next to nothing have nothing that poses could be refined against.
                break
            if number == 1 and self.options.symmetry == "auto":
                labelled, group, words = self._framed(labelled, average)
                if len(group) > 1:
                    average = averaged(labelled, group, self.options, dark=views.dark)
            if number < self.options.passes:
                labelled = polished(labelled, average, group, self.options, wedges, device=self.device)
                average = averaged(labelled, group, self.options, dark=views.dark)
        answer = concatenate([part for _, part in labelled])
        return Structure(
            average=average, group=group, symmetry_words=words, count=len(answer), outliers=0, belief=UNJUDGED
        ), answer

    def _by_tomogram(self, particles: Particles) -> list[tuple[Tomogram, Particles]]:
        names = set(particles.tomogram_names)
        return [(item, particles.of_tomogram(item.name)) for item, _ in self.picks if item.name in names]

    def _wedges(self, particles: Particles, views: Views) -> list[Wedge]:
        names = set(particles.tomogram_names)
        return [wedge for (item, _), wedge in zip(self.picks, views.wedges, strict=True) if item.name in names]

    def _framed(
        self, labelled: Labelled, average: Average
    ) -> tuple[list[tuple[Tomogram, Particles]], Symmetry, tuple[str, ...]]:
        """Particles in the frame of the symmetry that the map shows: main axis along z, another along x."""
        proposal = propose_symmetry(
            average.as_reference(), average.voxel_size, halves=(average.first_half, average.second_half)
        )
        words = tuple(proposal.words())
        if len(proposal.group) == 1:
            return list(labelled), _C1, words
        centre = symmetry_centre(average.as_reference(), average.voxel_size, proposal.group)
        moved = [(tomogram, reframed(part, proposal.group.frame, centre)) for tomogram, part in labelled]
        return moved, symmetry(proposal.group.name.partition("@")[0]), (*words, "Its axes now lie along z and x.")

    def aligned(
        self, structures: tuple[Structure, ...], particles: Particles, views: Views, align_to: Map
    ) -> tuple[tuple[Structure, ...], Particles]:
        """The first structure and its particles in another map's frame, its symmetry's axes turned along."""
        first = structures[0]
        turn, origin = align_map(
            first.average.as_reference(),
            align_to[0],
            voxel_size=first.average.voxel_size,
            target_voxel_size=align_to[1],
            radius=self.options.radius,
        )
        own = (
            np.ones(len(particles), bool) if self.options.classes == 1 else np.asarray(particles.kind) == class_name(0)
        )
        moved = reframed(particles.take(own), turn, origin)
        kept = moved.take(np.asarray(moved.extra[OUTLIER]) == 0)
        group = turned_symmetry(first.group, turn.T)
        average = averaged(self._by_tomogram(kept), group, self.options, dark=views.dark)
        told = "Turned into the frame of the map given" + (
            f", its symmetry as {group.name}." if len(group) > 1 else "."
        )
        changed = replace(first, average=average, group=group, symmetry_words=(*first.symmetry_words, told))
        return (changed, *structures[1:]), _with_rows(particles, np.flatnonzero(own), moved)

    def _belief(
        self,
        structure: Structure,
        best: Guess,
        particles: Particles,
        others: list[Guess],
        *,
        number: int,
        rows: NDArray[np.int_],
    ) -> Belief:
        """The refined poses, which come of the best start, against those of the other starts."""
        average = structure.average
        # Not as a reference is weighted: of halves that share nothing, nothing would be left.
        reference = build_reference(
            average.density, average.voxel_size, resolution=self.options.diameter / 5, radius=self.options.radius
        )
        looks = [Looks(reference.to(self.device))] * self.options.classes
        refined = replace(
            best, rotations=torch.as_tensor(particles.known_rotations(), dtype=torch.float32, device=self.device)
        ).take(torch.as_tensor(self.rows, device=self.device))
        curve = average.fsc
        return Belief(
            agreement=max(float(agreement(refined, end, looks)[number]) for end in others),
            chance_agreement=looks[number].chance(len(rows)),
            resolution=curve.resolution(0.143),
            resolution_strict=curve.resolution(0.5),
            peak=float(best.peak[best.label == number].mean()),
            determined=float((np.asarray(particles.expected_error_deg)[rows] < 20).mean()),
        )


def _with_rows(particles: Particles, rows: NDArray[np.int_], others: Particles) -> Particles:
    """Particles with the poses of some rows replaced."""
    columns = {}
    for name in ("positions", "rotations", "expected_error_deg"):
        column = getattr(particles, name).copy()
        column[rows] = getattr(others, name)
        columns[name] = column
    return particles.replace(**columns)
