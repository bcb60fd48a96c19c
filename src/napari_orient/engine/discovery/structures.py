"""The structures of a discovery: each class refined, brought into the frame of its symmetry, and given a verdict.

The map of a class is searched for symmetry after the first pass of refinement (`class_symmetry`); the passes that
follow impose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.class_symmetry import PosedClass, SymmetrySearch
from napari_orient.engine.discovery.filled_density import as_measured
from napari_orient.engine.discovery.half_maps import (
    average_in_halves,
    match_half_maps,
    refine_in_halves,
)
from napari_orient.engine.discovery.output import DiscoveryStep, StepCounter, Structure, class_name
from napari_orient.engine.discovery.search import Assignment, align_map
from napari_orient.engine.discovery.verdict import (
    NOTHING,
    PoseEquivalence,
    Verdict,
    class_agreement,
    determined_share,
)
from napari_orient.engine.duplicates import with_half_sets
from napari_orient.engine.frames import in_frame
from napari_orient.engine.io.columns import ERROR_IF_RIGHT, OUTLIER, SCORE
from napari_orient.engine.model.map_symmetry import search_mirror_image
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import AUTO, DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, concatenate
from napari_orient.engine.rotations import within_from_rms
from napari_orient.engine.statistics.detection import random_pose_error_deg
from napari_orient.engine.streams import Stream, stoppable
from napari_orient.engine.symmetry import C1, Symmetry
from napari_orient.engine.tomogram.tilt_geometry import TiltGeometry

DensityMap = tuple[FloatArray, float]
"""A density (n, n, n) [z, y, x] and its voxel size in Å."""
_LEAST_PARTICLES = 5
"""Fewest particles of a class that a structure is made of."""
_LEAST_RESOLUTION = 0.5
"""Resolution of the half maps (FSC 0.143), in diameters, that poses need to be refined: halves that have nothing finer
in common share next to nothing."""
_LEAST_FOR_SYMMETRY = 40
"""Fewest particles whose map is searched for symmetry: 20 of PolNet's ribosomes had one by chance."""
_COLUMNS = (SCORE, ERROR_IF_RIGHT)
"""Columns of the matching that the list of a discovery has too."""
_KEPT = 0.5
"""Least probability of being a particle."""
_CONFIDENT_DEG = 20.0
"""Angle in degrees: the confidence is the probability of an error below it."""
_VERDICT_DETAIL = 5
"""Resolution at which poses are compared for the verdict: the diameter over this."""
_OWN_MIRROR_IMAGE = 0.8
"""Least correlation with its mirror image of a map whose hand does not show. Templates at 32 Å: 4v4r 0.24, 2uv8 0.43,
3j9i 0.84, 6utj 0.90."""
_UNKNOWN_AZIMUTH_DEG = 180 / 3**0.5
"""Root-mean-square error in degrees of an azimuth that may be any."""


@dataclass(frozen=True, eq=False)
class StructureRefinement:
    """Refinement of a discovery's classes.

    Parameters
    ----------
    picks : tomograms, outliers of density filled and steep power levelled, each with its own picks.
    geometries : how each tomogram was tilted, by its name.
    dark : whether particles are darker than their surroundings.
    counter : makes the steps.
    """

    picks: Labelled
    geometries: Mapping[str, TiltGeometry]
    dark: bool
    options: DiscoveryOptions
    device: torch.device
    counter: StepCounter

    def structures(
        self, particles: Particles, best: Assignment, others: Sequence[Assignment], *, rows: NDArray[np.int_]
    ) -> Stream[DiscoveryStep, tuple[tuple[Structure, ...], Particles]]:
        """The structure of each class, the most numerous first, and all particles with errors and confidence.

        Parameters
        ----------
        particles : all picks in the poses of the best assignment.
        others : what other starts assigned to the picks of some rows.
        """
        p_particle, label = best.p_particle.double().cpu().numpy(), best.label.cpu().numpy()
        counts = [((label == number) & (p_particle >= _KEPT)).sum() for number in range(self.options.class_count)]
        order = np.argsort(-np.array(counts))
        ranked = np.array([class_name(int(rank)) for rank in np.argsort(order)[label]])
        particles = particles.replace(kind=ranked if len(order) > 1 else particles.kind)
        table = _PoseTable.of(particles, p_particle)
        found: list[Structure] = []
        for number in order:
            own = np.flatnonzero(label == number)
            kept = own[p_particle[own] >= _KEPT]
            if len(kept) < _LEAST_PARTICLES:
                continue
            refined = yield from self._posed(table, own, kept, len(found))
            verdict = self._verdict(refined, table, best, others, label=int(number), rows=rows)
            if verdict.grade == NOTHING:
                table.forget(own)
            else:
                table.set_error(own, with_azimuth_errors(refined, table.errors[own]))
                refined = yield from self._with_hand(refined)
            found.append(_structure(refined, verdict, outliers=int((table.p_right[own] <= _KEPT).sum())))
        return tuple(found), table.all_particles

    # --- one class --------------------------------------------------------------------------------------------------

    def _posed(
        self, table: _PoseTable, own: NDArray[np.int_], kept: NDArray[np.int_], rank: int
    ) -> Stream[DiscoveryStep, PosedClass]:
        """A class refined from the rows kept of its own; the table gets its poses, of all own rows where it can."""
        refined, converged = yield from self._refine(table.particles.take(kept), rank)
        table.set_poses(kept, refined.particles)
        if converged:
            averaged = np.isin(own, kept)
            matched = yield from self._match(table.particles.take(own), own, refined, averaged=averaged, rank=rank)
            table.set_matched(own, matched)
            refined = yield from self._without_unsure(refined, table.p_right[kept])
        return refined

    def _refine(self, particles: Particles, rank: int) -> Stream[DiscoveryStep, tuple[PosedClass, bool]]:
        """One class's particles refined, in the frame of its symmetry; and whether its halves had enough in common."""
        enough = len(particles) >= _LEAST_FOR_SYMMETRY
        few = "" if enough else f" That takes {_LEAST_FOR_SYMMETRY} particles."
        notes: tuple[str, ...] = (f"Symmetry was not searched for.{few}",)
        labelled = self._by_tomogram(particles)
        title = self._title("Refining", rank)
        step = self.counter.step(f"{title}: averaging", advance=0, class_count=self.options.class_count)
        found = PosedClass(labelled, (yield from stoppable(self._averaged(labelled, C1), step)), notes)
        search = SymmetrySearch(self.options, self.geometries, self.dark, self.device)
        for number in range(self.options.passes + 1):
            step = self._step(f"{title}, pass {number + 1}", found)
            yield step
            if found.average.fsc.resolution(0.143) > _LEAST_RESOLUTION * self.options.diameter:
                return found, False
            pause = replace(step, maps=(), particles=None)
            if number == 1 and enough and self.options.symmetry == AUTO:
                searching = replace(pause, message="Searching for symmetry")
                found = yield from stoppable(search.imposed(found), searching)
            if number < self.options.passes:
                refinement = refine_in_halves(
                    found.labelled, found.average, self.options, self.geometries, device=self.device
                )
                labelled = yield from stoppable(refinement, pause)
                average = yield from stoppable(self._averaged(labelled, found.average.group), pause)
                found = replace(found, labelled=labelled, average=average)
        return found, self.options.passes > 0

    def _match(
        self,
        particles: Particles,
        own: NDArray[np.int_],
        refined: PosedClass,
        *,
        averaged: NDArray[np.bool_],
        rank: int,
    ) -> Stream[DiscoveryStep, Particles]:
        """All picks of a class, rows ``own`` of all, matched with the half map that each had no part in.

        Parameters
        ----------
        averaged : (N,) which of them the class's average is made of.
        """
        step = self.counter.step(f"{self._title('Matching', rank)}: half maps", class_count=self.options.class_count)
        yield step
        half = np.zeros(len(own), int)
        half[averaged] = refined.average.half_sets
        picked = concatenate([part for _, part in self.picks]).positions[own]
        filled = self._by_tomogram(particles.replace(positions=picked))
        # The matching subtracts beads itself.
        labelled = [(as_measured(tomogram), part) for tomogram, part in filled]
        pause = replace(step, maps=(), particles=None)
        matching = match_half_maps(labelled, refined.average, half, self.options, self.geometries)
        return (yield from stoppable(matching, pause))

    def _without_unsure(self, found: PosedClass, p_right: FloatArray) -> Stream[DiscoveryStep, PosedClass]:
        """The class averaged anew in the same halves, without picks that are likely to be false or in wrong poses."""
        true = p_right > _KEPT
        if true.all() or true.sum() < _LEAST_PARTICLES:
            return found
        labelled = self._by_tomogram(with_half_sets(found.particles, found.average.half_sets * true))
        step = self.counter.step("Averaging without what is set aside", advance=0, class_count=self.options.class_count)
        average = yield from stoppable(self._averaged(labelled, found.average.group), step)
        return replace(found, labelled=labelled, average=average)

    def _with_hand(self, found: PosedClass) -> Stream[DiscoveryStep, PosedClass]:
        """The class with a note on the hand of its map."""
        average = found.average
        step = self.counter.step("Comparing the map with its mirror image", advance=0)
        search = search_mirror_image(
            average.as_reference(),
            average.voxel_size,
            halves=(average.first_half, average.second_half),
            radius=self.options.radius,
        )
        return replace(found, notes=(*found.notes, hand_note((yield from stoppable(search, step)))))

    def _title(self, verb: str, rank: int) -> str:
        return verb if self.options.class_count == 1 else f"{verb} {class_name(rank)}"

    def _by_tomogram(self, particles: Particles) -> Labelled:
        """Each tomogram that has some of the particles with them."""
        names = set(particles.tomogram_names)
        return [(item, particles.of_tomogram(item.name)) for item, _ in self.picks if item.name in names]

    def _averaged(self, labelled: Labelled, group: Symmetry) -> Stream[Any, Average]:
        return average_in_halves(labelled, group, self.options, self.geometries, dark=self.dark)

    def _step(self, message: str, found: PosedClass) -> DiscoveryStep:
        """A step with the map and the poses as they are by now."""
        return self.counter.step(
            message,
            class_count=self.options.class_count,
            maps=(found.average.density,),
            voxel_size=found.average.voxel_size,
            particles=found.particles,
        )

    def _verdict(
        self,
        refined: PosedClass,
        table: _PoseTable,
        best: Assignment,
        others: Sequence[Assignment],
        *,
        label: int,
        rows: NDArray[np.int_],
    ) -> Verdict:
        """The poses in the table, which come of the best start, against those of the other starts."""
        average, options = refined.average, self.options
        # Not as a reference is weighted: of halves that share nothing, nothing would remain.
        reference = build_reference(
            average.density,
            average.voxel_size,
            resolution=options.diameter / _VERDICT_DETAIL,
            radius=options.radius,
        ).to(self.device)
        rng = np.random.default_rng(options.seed)
        equivalence = PoseEquivalence(reference, rng)
        rotations, p_right = (
            torch.as_tensor(column, dtype=torch.float32, device=self.device)
            for column in (table.particles.required_rotations(), table.p_right)
        )
        sample = replace(best, rotations=rotations, p_particle=p_right).take(torch.as_tensor(rows, device=self.device))
        shares = [class_agreement(sample, other, label, equivalence, options.class_count) for other in others]
        own = best.label == label
        true = own.cpu().numpy() & (table.p_right > _KEPT)
        return Verdict(
            agreement=max(shares),
            chance_agreement=equivalence.chance(int(true.sum()), rng),
            kept=int(true.sum()) / int(own.sum()),
            resolution=average.fsc.resolution(0.143),
            resolution_strict=average.fsc.resolution(0.5),
            peak=float(best.peak[own].mean()),
            determined=determined_share(table.errors[true]),
        )

    # --- the frame of a given map -----------------------------------------------------------------------------------

    def aligned(
        self, structures: tuple[Structure, ...], particles: Particles, align_to: DensityMap
    ) -> Stream[DiscoveryStep, tuple[tuple[Structure, ...], Particles]]:
        """The first structure that is more than nothing in another map's frame, with its particles and its axes."""
        graded = (number for number, item in enumerate(structures) if item.verdict.grade != NOTHING)
        label = next(graded, 0)
        first = structures[label]
        rotation, origin = align_map(
            first.average.as_reference(),
            align_to[0],
            voxel_size=first.average.voxel_size,
            target_voxel_size=align_to[1],
            radius=self.options.radius,
        )
        several = self.options.class_count > 1
        own = np.asarray(particles.kind) == class_name(label) if several else np.ones(len(particles), bool)
        moved = in_frame(particles.take(own), rotation, origin)
        kept = moved.take(np.asarray(moved.extra[OUTLIER]) == 0)
        group = first.group.rotated(rotation.T)
        step = self.counter.step("Averaging in the frame of the map given")
        average = yield from stoppable(self._averaged(self._by_tomogram(kept), group), step)
        note = "Rotated into the frame of the map given" + (
            f", its symmetry as {group.name}." if len(group) > 1 else "."
        )
        changed = replace(first, average=average, group=group, symmetry_notes=(*first.symmetry_notes, note))
        particles = particles.with_poses(own, moved)
        return (*structures[:label], changed, *structures[label + 1 :]), particles


def _structure(refined: PosedClass, verdict: Verdict, *, outliers: int) -> Structure:
    """The structure of a refined class; of what is nothing, no symmetry is said."""
    nothing = verdict.grade == NOTHING
    return Structure(
        average=refined.average,
        group=C1 if nothing else refined.average.group,
        symmetry_notes=() if nothing else refined.notes,
        count=len(refined.particles),
        outliers=outliers,
        verdict=verdict,
    )


def hand_note(correlation: float) -> str:
    """What picks alone say of a map's hand, by its correlation with its mirror image, which noise may bring above 1."""
    if correlation >= _OWN_MIRROR_IMAGE:
        return f"At this detail the map is its own mirror image (they correlate to {min(correlation, 1):.2f})."
    return (
        "The map has the hand of the tomogram, which picks alone cannot check: in a mirrored tomogram the mirror image "
        "would have been found."
    )


def with_azimuth_errors(found: PosedClass, error_deg: FloatArray) -> FloatArray:
    """Expected errors (N,) in degrees of a class; where it is round they count that the azimuth may be any."""
    if not found.round:
        return error_deg
    return np.minimum(np.hypot(error_deg, _UNKNOWN_AZIMUTH_DEG), random_pose_error_deg(C1))


@dataclass
class _PoseTable:
    """Poses of all picks, their expected errors in degrees, and confidence, (N,) each.

    Parameters
    ----------
    p_right : (N,) probability that a pick is a particle of its class in the right pose, modulo what its map does not
        show; of one that was not matched, that it is a particle.
    """

    particles: Particles
    errors: FloatArray
    confidence: FloatArray
    p_right: FloatArray
    columns: dict[str, FloatArray]

    @classmethod
    def of(cls, particles: Particles, p_right: FloatArray) -> _PoseTable:
        """The table before any pose is known."""
        unknown = np.full(len(particles), random_pose_error_deg(C1))
        columns = {name: np.full(len(particles), np.nan) for name in _COLUMNS}
        return cls(particles, unknown, within_from_rms(unknown, _CONFIDENT_DEG) * p_right, p_right.copy(), columns)

    @property
    def all_particles(self) -> Particles:
        """The particles, with all that is known of them."""
        columns = {name: column for name, column in self.columns.items() if np.isfinite(column).any()}
        extra = {**self.particles.extra, **columns, OUTLIER: (self.p_right <= _KEPT).astype(int)}
        return self.particles.replace(expected_error_deg=self.errors, confidence=self.confidence, extra=extra)

    def set_poses(self, rows: NDArray[np.int_], posed: Particles) -> None:
        """Set the poses of some rows; their errors stay unknown."""
        self.particles = self.particles.with_poses(rows, posed)

    def set_error(self, rows: NDArray[np.int_], error_deg: FloatArray) -> None:
        """Set the expected errors of some rows; where they grow, the confidence is at most what they leave."""
        left = within_from_rms(error_deg, _CONFIDENT_DEG) * self.p_right[rows]
        grown = error_deg > self.errors[rows]
        self.confidence[rows] = np.where(grown, np.minimum(self.confidence[rows], left), self.confidence[rows])
        self.errors[rows] = error_deg

    def set_matched(self, rows: NDArray[np.int_], matched: Particles) -> None:
        """Set what the matching with half maps found of some rows."""
        self.set_poses(rows, matched)
        self.errors[rows] = np.asarray(matched.expected_error_deg)
        self.confidence[rows] = self.p_right[rows] = np.asarray(matched.confidence)
        for name, column in self.columns.items():
            column[rows] = matched.extra[name]

    def forget(self, rows: NDArray[np.int_]) -> None:
        """Set the poses of some rows to unknown: their expected error is that of random ones."""
        self.set_error(rows, np.full(len(rows), random_pose_error_deg(C1)))
