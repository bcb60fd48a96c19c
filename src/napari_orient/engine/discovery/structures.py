"""Structures of what a discovery's starts have found: refined, in the frame of their symmetry, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.alignment import align_map
from napari_orient.engine.discovery.annealing import Guess
from napari_orient.engine.discovery.belief import NOTHING, UNJUDGED, Belief, agreement
from napari_orient.engine.discovery.course import Course, Map
from napari_orient.engine.discovery.folds import found_symmetry
from napari_orient.engine.discovery.harmonics import harmonics_about_z
from napari_orient.engine.discovery.looks import Looks
from napari_orient.engine.discovery.patches import UNKNOWN_DEG
from napari_orient.engine.discovery.polishing import averaged, polished, reframed
from napari_orient.engine.discovery.spins import Spins, spun, told_spins
from napari_orient.engine.discovery.structure import OUTLIER, Round, Structure, class_name
from napari_orient.engine.discovery.views import Views
from napari_orient.engine.model.map_symmetry import symmetry_centre
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate
from napari_orient.engine.rotations import Symmetry, symmetry, turned_symmetry, within_from_rms
from napari_orient.engine.streams import Stream

_FEWEST = 5
_ALIKE = 2.0
"""Halves of the particles must agree to a diameter over this, for poses to be refined."""
_ENOUGH_FOR_SYMMETRY = 40
"""Maps of fewer particles are like themselves turned, by chance."""
_C1 = symmetry("C1")


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of a course, from how its particles look about the places where the best start put them."""

    course: Course
    views: Views

    def found(self, best: Guess, others: list[Guess]) -> Stream[Round, tuple[tuple[Structure, ...], Particles]]:
        """A structure of each class, the most numerous first, and all particles."""
        share = best.share.double().cpu().numpy()
        label = best.label.cpu().numpy()
        order = np.argsort([-((label == number) & (share >= 0.5)).sum() for number in range(self.course.options.kinds)])
        given = self.course.every
        particles = self.course.posed(best, given).replace(
            expected_error_deg=np.full(len(given), UNKNOWN_DEG),
            kind=np.array([class_name(int(at)) for at in np.argsort(order)[label]]) if len(order) > 1 else given.kind,
        )
        found: list[Structure] = []
        for number in order:
            rows = np.flatnonzero((label == number) & (share >= 0.5))
            if len(rows) >= _FEWEST:
                structure, kept = yield from self._structure(particles.take(rows), len(found))
                particles = _with_rows(particles, rows, kept)
                told = self._belief(structure, best, particles, others, number=int(number), rows=rows)
                if told.verdict == NOTHING:
                    structure = replace(structure, group=_C1, symmetry_words=())
                    particles = _undetermined(particles, rows)
                aside = int(((label == number) & (share < 0.5)).sum())
                found.append(replace(structure, belief=told, outliers=aside))
        flags = {**given.extra, OUTLIER: (share < 0.5).astype(int)}
        confidence = within_from_rms(np.asarray(particles.expected_error_deg), 20) * share
        return tuple(found), particles.replace(confidence=confidence, extra=flags)

    def _structure(self, particles: Particles, place: int) -> Stream[Round, tuple[Structure, Particles]]:
        """One class's particles refined, in the frame of its symmetry."""
        group = _C1
        enough = len(particles) >= _ENOUGH_FOR_SYMMETRY
        looked_for = self.course.options.symmetry == "auto" and enough
        few = "" if enough else f" That takes {_ENOUGH_FOR_SYMMETRY} particles."
        words: tuple[str, ...] = (f"Symmetry was not looked for.{few}",)
        wedges = self._wedges(particles)
        labelled: Labelled = self._by_tomogram(particles)
        average = self._averaged(labelled, group)
        done = self.course.annealed + 2 + place * (self.course.options.passes + 1)
        for number in range(self.course.options.passes + 1):
            title = f"Refining {class_name(place)}, pass {number + 1}" if self.course.options.kinds > 1 else "Refining"
            yield self._shown(done + number, title, average, labelled)
            if average.fsc.resolution(0.143) > self.course.options.diameter / _ALIKE:
                # Halves that share next to nothing have nothing that poses could be refined against.
                break
            if number == 1 and looked_for:
                labelled, average, words = yield from self._framed(labelled, average, wedges, step=done + number)
                group = average.group
            if number < self.course.options.passes:
                labelled = self._polished(labelled, average, wedges)
                average = self._averaged(labelled, group)
        answer = concatenate([part for _, part in labelled])
        return Structure(
            average=average, group=group, symmetry_words=words, count=len(answer), outliers=0, belief=UNJUDGED
        ), answer

    def _by_tomogram(self, particles: Particles) -> list[tuple[Tomogram, Particles]]:
        names = set(particles.tomogram_names)
        return [(item, particles.of_tomogram(item.name)) for item, _ in self.course.picks if item.name in names]

    def _wedges(self, particles: Particles) -> list[Wedge]:
        names = set(particles.tomogram_names)
        return [
            wedge for (item, _), wedge in zip(self.course.picks, self.views.wedges, strict=True) if item.name in names
        ]

    def _framed(
        self, labelled: Labelled, average: Average, wedges: Sequence[Wedge], *, step: int
    ) -> Stream[Round, tuple[Labelled, Average, tuple[str, ...]]]:
        """Particles in the frame of the symmetry found: main axis along z, another along x; their map, and why."""
        shown = found_symmetry(average, self.course.options.radius)
        if len(shown.group) == 1:
            return labelled, average, shown.words
        centre = symmetry_centre(average.as_reference(), average.voxel_size, shown.group)
        moved: Labelled = [(tomogram, reframed(part, shown.group.frame, centre)) for tomogram, part in labelled]
        framed = self._averaged(moved, symmetry(shown.group.name.partition("@")[0]))
        words = shown.words
        if shown.round:
            yield self._shown(step, "Looking for folds about the axis", framed, moved)
            spins, turned = self._spun(moved, framed, wedges)
            if spins.order:
                moved, framed = turned, self._averaged(turned, symmetry(spins.name))
                words = (f"Symmetry {spins.name} proposed.", spins.words)
        return moved, framed, (*words, "Its axes now lie along z and x.")

    def _spun(self, labelled: Labelled, average: Average, wedges: Sequence[Wedge]) -> tuple[Spins, Labelled]:
        """The folds that particles tell of a map that is round about z, and the particles, their spins undone."""
        options = self.course.options
        seen = harmonics_about_z(labelled, average, options, wedges, device=self.course.device)
        spins = told_spins(seen.parts, dihedral=average.group.name.startswith("D"))
        return spins, spun(seen.labelled, spins) if spins.order else labelled

    def _averaged(self, labelled: Labelled, group: Symmetry) -> Average:
        return averaged(labelled, group, self.course.options, dark=self.views.dark)

    def _polished(self, labelled: Labelled, average: Average, wedges: Sequence[Wedge]) -> Labelled:
        return polished(labelled, average, average.group, self.course.options, wedges, device=self.course.device)

    def _shown(self, step: int, message: str, average: Average, labelled: Labelled) -> Round:
        """A step with the map and poses as they are by now."""
        particles = concatenate([part for _, part in labelled])
        return self.course.round(
            step, message, maps=(average.density,), voxel_size=average.voxel_size, particles=particles
        )

    def aligned(
        self, structures: tuple[Structure, ...], particles: Particles, align_to: Map
    ) -> tuple[tuple[Structure, ...], Particles]:
        """The first structure that may be believed and its particles in another map's frame, its axes turned along."""
        believed = (number for number, item in enumerate(structures) if item.belief.verdict != NOTHING)
        label = next(believed, 0)
        first = structures[label]
        turn, origin = align_map(
            first.average.as_reference(),
            align_to[0],
            voxel_size=first.average.voxel_size,
            target_voxel_size=align_to[1],
            radius=self.course.options.radius,
        )
        own = (
            np.ones(len(particles), bool)
            if self.course.options.kinds == 1
            else np.asarray(particles.kind) == class_name(label)
        )
        moved = reframed(particles.take(own), turn, origin)
        kept = moved.take(np.asarray(moved.extra[OUTLIER]) == 0)
        group = turned_symmetry(first.group, turn.T)
        average = self._averaged(self._by_tomogram(kept), group)
        told = "Turned into the frame of the map given" + (
            f", its symmetry as {group.name}." if len(group) > 1 else "."
        )
        changed = replace(first, average=average, group=group, symmetry_words=(*first.symmetry_words, told))
        return (*structures[:label], changed, *structures[label + 1 :]), _with_rows(
            particles, np.flatnonzero(own), moved
        )

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
        average, options = structure.average, self.course.options
        # Not as a reference is weighted: of halves that share nothing, nothing would be left.
        reference = build_reference(
            average.density,
            average.voxel_size,
            resolution=self.course.options.diameter / 5,
            radius=self.course.options.radius,
        )
        looks = [Looks(reference.to(self.course.device))] * options.kinds
        refined = replace(
            best,
            rotations=torch.as_tensor(particles.required_rotations(), dtype=torch.float32, device=self.course.device),
        ).take(torch.as_tensor(self.course.rows, device=self.course.device))
        curve = average.fsc
        return Belief(
            agreement=max(float(agreement(refined, end, looks)[number]) for end in others),
            chance_agreement=looks[number].chance(len(rows)),
            kept=len(rows) / int((best.label == number).sum()),
            resolution=curve.resolution(0.143),
            resolution_strict=curve.resolution(0.5),
            peak=float(best.peak[best.label == number].mean()),
            determined=float((np.asarray(particles.expected_error_deg)[rows] < 20).mean()),
        )


def _undetermined(particles: Particles, rows: NDArray[np.int_]) -> Particles:
    """The particles, the poses of some rows not being known."""
    error = np.asarray(particles.expected_error_deg).copy()
    error[rows] = UNKNOWN_DEG
    return particles.replace(expected_error_deg=error)


def _with_rows(particles: Particles, rows: NDArray[np.int_], others: Particles) -> Particles:
    """Particles with the poses of some rows replaced."""
    columns = {}
    for name in ("positions", "rotations", "expected_error_deg"):
        column = getattr(particles, name).copy()
        column[rows] = getattr(others, name)
        columns[name] = column
    return particles.replace(**columns)
