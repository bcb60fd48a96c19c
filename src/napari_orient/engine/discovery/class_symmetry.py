"""Symmetry of a class: proposed by its half maps, and imposed where that explains held-out particles better.

1. The half maps' self-correlation proposes a group (`model.map_symmetry`).
2. The particles are averaged with that group, and with its main axis alone. The group is imposed only where it raises
   the held-out likelihood (`held_out`), and the axis alone only where that is better by another 1 %. A pseudo-symmetry
   that the particles do not have lowers it as soon as they show the difference.
3. A map that is nearly round about an axis is averaged as round, by the same test. The cyclic order is then estimated
   from the particles (`azimuths`), and imposed, by the same test.

The main axis comes to lie along z, a two-fold one along x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.azimuths import angular_harmonics, estimate_cyclic_order, with_azimuths
from napari_orient.engine.discovery.half_maps import average_in_halves
from napari_orient.engine.discovery.held_out import LikelihoodGain, class_log_likelihoods
from napari_orient.engine.frames import in_frame
from napari_orient.engine.model.map_symmetry import (
    ORDERS,
    SymmetryProposal,
    search_symmetry,
    search_two_fold_across,
    symmetry_centre,
)
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import FloatArray, Labelled, Particles, concatenate
from napari_orient.engine.streams import Stream, Work
from napari_orient.engine.symmetry import Symmetry, direction_text, symmetry, written_form

_Z = np.array([0.0, 0.0, 1.0])
ROUND = max(ORDERS)
"""Cyclic order that a map round about an axis is averaged with: at the detail of a search that is round."""

_AXIS_ERROR_COST = 0.01
"""Share of the log-likelihood by which a subgroup must be better than the group, at least: a group with more axes loses
as much by their estimated directions alone. True D3 (2uv8, 70 simulated particles) lost 4 nats to C3, having gained 121
over no symmetry; a false two-fold axis of ribosomes costs 95 of 214 nats. Chosen between."""


@dataclass(frozen=True, eq=False)
class PosedClass:
    """Particles of a class in their poses, by tomogram, and their average.

    Parameters
    ----------
    notes : why its average has the symmetry that it has, line by line.
    round : whether the azimuth about z is unknown.
    """

    labelled: Labelled
    average: Average
    notes: tuple[str, ...] = ()
    round: bool = False

    @property
    def particles(self) -> Particles:
        """All the particles, in order."""
        return concatenate([part for _, part in self.labelled])


@dataclass(frozen=True, eq=False)
class SymmetrySearch:
    """Search for the symmetry of a class.

    Parameters
    ----------
    wedges : the missing wedge of each tomogram that the class has particles in.
    dark : whether particles are darker than their surroundings.
    """

    options: DiscoveryOptions
    wedges: Sequence[Wedge]
    dark: bool
    device: torch.device

    def imposed(self, found: PosedClass) -> Stream[Any, PosedClass]:
        """The class with the symmetry that it has, in the frame of its axes; unchanged where it has none."""
        average = found.average
        proposal = yield from search_symmetry(
            average.as_reference(),
            average.voxel_size,
            halves=(average.first_half, average.second_half),
            radius=self.options.radius,
        )
        chosen = yield from self._best(found, candidate_groups(proposal))
        if proposal.round_about is None or len(proposal.group) > 1 or len(chosen.average.group) == 1:
            return _with_least_group(replace(chosen, notes=(*proposal.words(), *chosen.notes)))
        with_order = yield from self._with_cyclic_order(chosen)
        if with_order is not None:
            return _with_least_group(with_order)
        note = (
            f"Round about ({direction_text(proposal.round_about)}), now z: no cyclic order stands out, and azimuths "
            f"about it are unknown. It is averaged as {chosen.average.group.name}, which at this detail is round."
        )
        return replace(chosen, notes=(note, *chosen.notes), round=True)

    def _best(self, found: PosedClass, groups: Sequence[Symmetry]) -> Stream[Any, PosedClass]:
        """The class averaged with the best of the groups, largest first; unchanged where none raises the likelihood."""
        chosen, notes = replace(found, notes=()), list[str]()
        best = plain = (yield from self._log_likelihoods(found)) if groups else np.zeros(0)
        for group in groups:
            framed = yield from self._in_frame(found, group)
            own = yield from self._log_likelihoods(framed)
            gain = LikelihoodGain.between(own, plain)
            notes.append(
                f"Imposing {group.point_group} {'raises' if gain.significant else 'does not raise'} the log-likelihood "
                f"of particles that were not averaged: {gain.words} each."
            )
            if gain.significant and _better(own, best):
                chosen, best = framed, own
        if groups and len(chosen.average.group) == 1:
            notes.append("It is averaged as C1.")
        return replace(chosen, notes=tuple(notes))

    def _with_cyclic_order(self, found: PosedClass) -> Stream[Any, PosedClass | None]:
        """A class that is round about z, with the cyclic order and azimuths of its particles; None where there is none.

        The order has two-fold axes across where the map has, unless held-out particles are explained worse with them.
        """
        harmonics = yield from angular_harmonics(
            found.labelled, found.average, self.options, self.wedges, device=self.device
        )
        estimate = estimate_cyclic_order(harmonics.parts, np.maximum(found.average.half_sets - 1, 0))
        if not estimate.order:
            return None
        labelled = with_azimuths(harmonics.labelled, harmonics.parts[estimate.order], estimate.order)
        cyclic = replace(found, average=(yield from self._averaged(labelled, symmetry(f"C{estimate.order}"))))
        cyclic = replace(cyclic, labelled=labelled, notes=(estimate.words,))
        across = yield from search_two_fold_across(
            cyclic.average.as_reference(),
            cyclic.average.voxel_size,
            _Z,
            halves=(cyclic.average.first_half, cyclic.average.second_half),
            radius=self.options.radius,
        )
        if not across.holds:
            return cyclic
        group = symmetry(written_form(f"D{estimate.order}", _Z, across.direction))
        dihedral = yield from self._in_frame(cyclic, group)
        alone, both = (yield from self._log_likelihoods(cyclic)), (yield from self._log_likelihoods(dihedral))
        worse = LikelihoodGain.between(alone, both).significant
        return cyclic if worse else replace(dihedral, notes=(*cyclic.notes, f"Across it: {across.words}."))

    def _in_frame(self, found: PosedClass, group: Symmetry) -> Stream[Any, PosedClass]:
        """The class in the frame of a group's axes, averaged with it."""
        centre = symmetry_centre(found.average.as_reference(), found.average.voxel_size, group)
        yield
        moved: Labelled = [(tomogram, in_frame(part, group.frame, centre)) for tomogram, part in found.labelled]
        return PosedClass(moved, (yield from self._averaged(moved, group.aligned())))

    def _averaged(self, labelled: Labelled, group: Symmetry) -> Stream[Any, Average]:
        return average_in_halves(labelled, group, self.options, dark=self.dark)

    def _log_likelihoods(self, found: PosedClass) -> Work[FloatArray]:
        return class_log_likelihoods(found.labelled, found.average, self.options, self.wedges, device=self.device)


def _with_least_group(found: PosedClass) -> PosedClass:
    """The class with a note that a group which was imposed may be part of a larger one."""
    group = found.average.group
    if len(group) == 1:
        return found
    note = f"It has at least {group.name}: axes that the particles do not show are not imposed."
    return replace(found, notes=(*found.notes, note))


def _better(own: FloatArray, best: FloatArray) -> bool:
    """Whether particles are explained better by the group of ``own`` than by the best larger one, (N,) nats each."""
    gain = LikelihoodGain.between(own, best)
    return gain.significant and gain.mean > _AXIS_ERROR_COST * float(best.mean())


def candidate_groups(proposal: SymmetryProposal) -> list[Symmetry]:
    """The groups that a proposal leads to, largest first: a cubic one, the main axis with and without those across."""
    across = proposal.across
    if len(proposal.group) > 1:
        order, axis = proposal.axes[0].order, proposal.axes[0].direction
    elif proposal.round_about is not None:
        order, axis = ROUND, proposal.round_about
    else:
        return []
    groups = [symmetry(written_form(f"C{order}", axis))]
    if across is not None and across.holds:
        groups.insert(0, symmetry(written_form(f"D{order}", axis, across.direction)))
    if proposal.cubic is not None:
        groups.insert(0, proposal.cubic.group)
    return groups
