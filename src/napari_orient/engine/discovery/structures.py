"""Structures of what a discovery's starts have found: refined, in the frame of their symmetry, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging.average import Average
from napari_orient.engine.discovery.azimuths import (
    AzimuthEstimate,
    angular_harmonics,
    estimate_azimuths,
    map_symmetry,
    without_azimuths,
)
from napari_orient.engine.discovery.half_maps import UNKNOWN_DEG, average_in_halves, in_frame, refine_in_halves
from napari_orient.engine.discovery.output import OUTLIER, DiscoveryStep, Structure, class_name
from napari_orient.engine.discovery.search import Assignment, align_map
from napari_orient.engine.discovery.spectra import PatchSpectra
from napari_orient.engine.discovery.starts import DiscoveryRun, Map
from napari_orient.engine.discovery.verdict import NOT_EVALUATED, NOTHING, PoseEquivalence, Verdict, agreement
from napari_orient.engine.model.map_symmetry import symmetry_centre
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.particles import Labelled, Particles, Tomogram, concatenate
from napari_orient.engine.rotations import within_from_rms
from napari_orient.engine.streams import Stream
from napari_orient.engine.symmetry import Symmetry, symmetry

_FEWEST = 5
_ALIKE = 2.0
"""Halves of the particles must agree to a diameter over this, for poses to be refined."""
_ENOUGH_FOR_SYMMETRY = 40
"""Maps of fewer particles are like themselves turned, by chance."""
_C1 = symmetry("C1")


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of a course, from how its particles look about the places where the best start put them."""

    run: DiscoveryRun
    spectra: PatchSpectra

    def found(
        self, best: Assignment, others: list[Assignment]
    ) -> Stream[DiscoveryStep, tuple[tuple[Structure, ...], Particles]]:
        """A structure of each class, the most numerous first, and all particles."""
        share = best.share.double().cpu().numpy()
        label = best.label.cpu().numpy()
        order = np.argsort(
            [-((label == number) & (share >= 0.5)).sum() for number in range(self.run.options.class_count)]
        )
        given = self.run.every
        particles = self.run.posed(best, given).replace(
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
                if told.grade == NOTHING:
                    structure = replace(structure, group=_C1, symmetry_notes=())
                    particles = _undetermined(particles, rows)
                aside = int(((label == number) & (share < 0.5)).sum())
                found.append(replace(structure, verdict=told, outliers=aside))
        flags = {**given.extra, OUTLIER: (share < 0.5).astype(int)}
        confidence = within_from_rms(np.asarray(particles.expected_error_deg), 20) * share
        return tuple(found), particles.replace(confidence=confidence, extra=flags)

    def _structure(self, particles: Particles, place: int) -> Stream[DiscoveryStep, tuple[Structure, Particles]]:
        """One class's particles refined, in the frame of its symmetry."""
        group = _C1
        enough = len(particles) >= _ENOUGH_FOR_SYMMETRY
        looked_for = self.run.options.symmetry == "auto" and enough
        few = "" if enough else f" That takes {_ENOUGH_FOR_SYMMETRY} particles."
        words: tuple[str, ...] = (f"Symmetry was not looked for.{few}",)
        wedges = self._wedges(particles)
        labelled: Labelled = self._by_tomogram(particles)
        average = self._averaged(labelled, group)
        done = self.run.annealed + 2 + place * (self.run.options.passes + 1)
        for number in range(self.run.options.passes + 1):
            title = (
                f"Refining {class_name(place)}, pass {number + 1}" if self.run.options.class_count > 1 else "Refining"
            )
            yield self._shown(done + number, title, average, labelled)
            if average.fsc.resolution(0.143) > self.run.options.diameter / _ALIKE:
                # Halves that share next to nothing have nothing that poses could be refined against.
                break
            if number == 1 and looked_for:
                labelled, average, words = yield from self._framed(labelled, average, wedges, step=done + number)
                group = average.group
            if number < self.run.options.passes:
                labelled = self._polished(labelled, average, wedges)
                average = self._averaged(labelled, group)
        answer = concatenate([part for _, part in labelled])
        return Structure(
            average=average, group=group, symmetry_notes=words, count=len(answer), outliers=0, verdict=NOT_EVALUATED
        ), answer

    def _by_tomogram(self, particles: Particles) -> list[tuple[Tomogram, Particles]]:
        names = set(particles.tomogram_names)
        return [(item, particles.of_tomogram(item.name)) for item, _ in self.run.picks if item.name in names]

    def _wedges(self, particles: Particles) -> list[Wedge]:
        names = set(particles.tomogram_names)
        return [
            wedge for (item, _), wedge in zip(self.run.picks, self.spectra.wedges, strict=True) if item.name in names
        ]

    def _framed(
        self, labelled: Labelled, average: Average, wedges: Sequence[Wedge], *, step: int
    ) -> Stream[DiscoveryStep, tuple[Labelled, Average, tuple[str, ...]]]:
        """Particles in the frame of the symmetry found: main axis along z, another along x; their map, and why."""
        shown = map_symmetry(average, self.run.options.radius)
        if len(shown.group) == 1:
            return labelled, average, shown.words
        centre = symmetry_centre(average.as_reference(), average.voxel_size, shown.group)
        moved: Labelled = [(tomogram, in_frame(part, shown.group.frame, centre)) for tomogram, part in labelled]
        framed = self._averaged(moved, shown.group.aligned())
        words = shown.words
        if shown.round:
            yield self._shown(step, "Looking for folds about the axis", framed, moved)
            spins, turned = self._spun(moved, framed, wedges)
            if spins.order:
                moved, framed = turned, self._averaged(turned, symmetry(spins.name))
                words = (f"Symmetry {spins.name} proposed.", spins.words)
        return moved, framed, (*words, "Its axes now lie along z and x.")

    def _spun(self, labelled: Labelled, average: Average, wedges: Sequence[Wedge]) -> tuple[AzimuthEstimate, Labelled]:
        """The folds that particles tell of a map that is round about z, and the particles, their spins undone."""
        options = self.run.options
        seen = angular_harmonics(labelled, average, options, wedges, device=self.run.device)
        spins = estimate_azimuths(seen.parts, dihedral=average.group.name.startswith("D"))
        return spins, without_azimuths(seen.labelled, spins) if spins.order else labelled

    def _averaged(self, labelled: Labelled, group: Symmetry) -> Average:
        return average_in_halves(labelled, group, self.run.options, dark=self.spectra.dark)

    def _polished(self, labelled: Labelled, average: Average, wedges: Sequence[Wedge]) -> Labelled:
        return refine_in_halves(labelled, average, average.group, self.run.options, wedges, device=self.run.device)

    def _shown(self, step: int, message: str, average: Average, labelled: Labelled) -> DiscoveryStep:
        """A step with the map and poses as they are by now."""
        particles = concatenate([part for _, part in labelled])
        return self.run.round(
            step, message, maps=(average.density,), voxel_size=average.voxel_size, particles=particles
        )

    def aligned(
        self, structures: tuple[Structure, ...], particles: Particles, align_to: Map
    ) -> tuple[tuple[Structure, ...], Particles]:
        """The first structure that may be believed and its particles in another map's frame, its axes turned along."""
        believed = (number for number, item in enumerate(structures) if item.verdict.grade != NOTHING)
        label = next(believed, 0)
        first = structures[label]
        turn, origin = align_map(
            first.average.as_reference(),
            align_to[0],
            voxel_size=first.average.voxel_size,
            target_voxel_size=align_to[1],
            radius=self.run.options.radius,
        )
        own = (
            np.ones(len(particles), bool)
            if self.run.options.class_count == 1
            else np.asarray(particles.kind) == class_name(label)
        )
        moved = in_frame(particles.take(own), turn, origin)
        kept = moved.take(np.asarray(moved.extra[OUTLIER]) == 0)
        group = first.group.rotated(turn.T)
        average = self._averaged(self._by_tomogram(kept), group)
        told = "Turned into the frame of the map given" + (
            f", its symmetry as {group.name}." if len(group) > 1 else "."
        )
        changed = replace(first, average=average, group=group, symmetry_notes=(*first.symmetry_notes, told))
        return (*structures[:label], changed, *structures[label + 1 :]), _with_rows(
            particles, np.flatnonzero(own), moved
        )

    def _belief(
        self,
        structure: Structure,
        best: Assignment,
        particles: Particles,
        others: list[Assignment],
        *,
        number: int,
        rows: NDArray[np.int_],
    ) -> Verdict:
        """The refined poses, which come of the best start, against those of the other starts."""
        average, options = structure.average, self.run.options
        # Not as a reference is weighted: of halves that share nothing, nothing would be left.
        reference = build_reference(
            average.density,
            average.voxel_size,
            resolution=self.run.options.diameter / 5,
            radius=self.run.options.radius,
        )
        equivalences = [PoseEquivalence(reference.to(self.run.device))] * options.class_count
        refined = replace(
            best,
            rotations=torch.as_tensor(particles.required_rotations(), dtype=torch.float32, device=self.run.device),
        ).take(torch.as_tensor(self.run.rows, device=self.run.device))
        curve = average.fsc
        return Verdict(
            agreement=max(float(agreement(refined, end, equivalences)[number]) for end in others),
            chance_agreement=equivalences[number].chance(len(rows)),
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
