"""The rotation group of a map, proposed from how well turned copies lie over it, about the axes that the map has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from napari_orient.engine.matching.directions import direction_text, even_directions, turned_about
from napari_orient.engine.matching.reference import build_reference
from napari_orient.engine.matching.roundness import ORDERS, round_axis, told_folds
from napari_orient.engine.matching.selflikeness import FINE_POINTS, TURNS, Likeness, centre_of_mass
from napari_orient.engine.rotations import FloatArray, Symmetry, symmetry

AUTO = "auto"
"""What is given in the place of a group's name to have one proposed."""

_ALIKE, _FOLDED, _ROUND = 0.8, 0.7, 0.005
"""Least likeness of turned copies, least share of folds, and least of what is not round, that an axis needs."""
_DIRECTIONS = 500
_FINEST, _UPRIGHT_DEG = 3.2, 0.5


@dataclass(frozen=True, eq=False)
class Axis:
    """A direction of a map and how well ``order`` folds about it fit.

    Parameters
    ----------
    direction : (3,) of length 1, xyz in the map's frame.
    alike : likeness of the map to itself turned by one fold; 1 where they are the same.
    folded : share of what is not round about the axis that repeats ``order`` times a turn; 1 for a true axis.
    uneven : how much of the map is not round about the axis, 0 to 1.
    """

    order: int
    direction: FloatArray
    alike: float
    folded: float
    uneven: float

    @property
    def holds(self) -> bool:
        """Whether the map has this axis."""
        return self.alike >= _ALIKE and self.folded >= _FOLDED and self.uneven >= _ROUND

    @property
    def words(self) -> str:
        """The axis and its figures in a line; that noise may bring them above 1 is not told."""
        x, y, z = self.direction
        return (
            f"{self.order}-fold about ({x:.3f}, {y:.3f}, {z:.3f}): copies alike to {min(self.alike, 1):.3f}, "
            f"{min(self.folded, 1):.0%} of what is not round repeats {self.order} times"
        )


@dataclass(frozen=True, eq=False)
class Proposal:
    """The group proposed for a map, and why.

    Parameters
    ----------
    group : C1 where no axis holds; its name carries its axes, unless they are z and x.
    axes : the best axis of every order looked at, the main one of the group first.
    across : the best two-fold across the main axis; None without one.
    round_about : (3,) the direction about which the map is nearly round; None of a map that is not, or is a ball.
    """

    group: Symmetry
    axes: tuple[Axis, ...]
    across: Axis | None
    round_about: FloatArray | None = None

    @property
    def scores(self) -> dict[str, float]:
        """What speaks for each group looked at, 0 to 1: the lesser of likeness and folds of its worst axis."""
        told = {f"C{axis.order}": min(axis.alike, axis.folded) for axis in self.axes}
        if self.across is not None and self.axes:
            main = f"C{self.axes[0].order}"
            told["D" + main[1:]] = min(told[main], self.across.alike, self.across.folded)
        return told

    def words(self) -> Iterator[str]:
        """Why, in a few lines."""
        yield f"Symmetry {self.group.name} proposed."
        if self.round_about is not None:
            folded = "its folds rise above the noise", "nothing tells its folds; name the group if it is known"
            yield f"Nearly round about ({direction_text(self.round_about)}): {folded[len(self.group) == 1]}."
        elif not self.axes:
            yield "The map is round: every axis fits alike."
        if not self.axes:
            return
        if len(self.group) == 1:
            best = max(self.axes, key=lambda axis: min(axis.alike, axis.folded))
            yield f"No axis holds; the best is {best.words}."
            return
        yield f"Main axis: {self.axes[0].words}."
        if self.across is not None:
            yield f"Across it: {self.across.words}{'' if self.across.holds else ', which is not enough'}."


def propose_symmetry(
    density: FloatArray,
    voxel_size: float,
    *,
    halves: tuple[FloatArray, FloatArray] | None = None,
    radius: float | None = None,
) -> Proposal:
    """The group Cn or Dn that a map shows, about its own axes through its own centre of mass; C1 where it shows none.

    The map is turned about many directions; of the one that each order fits best, its round part is set aside and what
    is left is taken apart by how often it repeats in a turn. An axis of n folds leaves only multiples of n. About the
    axis of a map that is nearly round every order fits: there the folds count that rise above the noise, and where none
    do nothing is proposed. Cubic groups are not looked for: they are proposed as the largest Cn or Dn within them.

    Parameters
    ----------
    density : (n, n, n) [z, y, x], particle positive.
    voxel_size : Å.
    halves : maps of two halves of the particles, in the same frame: with them noise costs no likeness.
    radius : Å about the box's centre to look at; None finds what holds the density.

    Raises
    ------
    InputError
        If the map is no cube, flat or not finite.
    """
    resolution = _FINEST * voxel_size
    maps = [build_reference(part, voxel_size, resolution=resolution, radius=radius) for part in halves or (density,)]
    centre = centre_of_mass(np.asarray(density), voxel_size)
    likeness = Likeness(maps, centre, resolution=resolution)
    if likeness.ball:
        return Proposal(symmetry("C1"), (), None)
    fine, round_about = Likeness(maps, centre, resolution=resolution, points=FINE_POINTS), round_axis(likeness)
    if round_about is not None:
        order = told_folds(fine, round_about)
        if not order:
            return Proposal(symmetry("C1"), (), two_fold_across(fine, round_about), round_about)
        axes = [_judged(fine, order, round_about)]
    else:
        axes = [_best_axis(likeness, order) for order in ORDERS]
        true = [axis for axis in axes if axis.holds]
        if not true:
            return Proposal(symmetry("C1"), tuple(axes), None)
        axes.sort(key=lambda axis: (axis.holds, axis.order), reverse=True)
    main, across = _polished(fine, axes[0], two_fold_across(likeness, axes[0].direction))
    return Proposal(_group(main, across), (main, *axes[1:]), across, round_about)


def _best_axis(likeness: Likeness, order: int) -> Axis:
    """The direction that so many folds fit best: the best of an even grid, polished."""
    grid = even_directions(_DIRECTIONS)
    start = grid[likeness.of(turned_about(grid, 360 / order)).argmax()]
    aside = np.cross(start, np.eye(3)[np.abs(start).argmin()])
    aside /= np.linalg.norm(aside)
    plane = np.stack([aside, np.cross(start, aside)])

    def unlike(place: Any) -> float:
        return -float(likeness.of(turned_about(start + place @ plane, 360 / order))[0])

    simplex = np.array([[0, 0], [0.05, 0], [0, 0.05]])
    way = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-5, "maxiter": 60}
    best: Any = minimize(unlike, np.zeros(2), method="Nelder-Mead", options=way)  # type: ignore[call-overload]
    found = start + best.x @ plane
    return _judged(likeness, order, found / np.linalg.norm(found))


def _judged(likeness: Likeness, order: int, direction: FloatArray) -> Axis:
    """An axis with its figures, from a whole turn about it taken apart by how often it repeats."""
    power = np.fft.rfft(likeness.whole_turn(direction)).real[1:] * 2 / TURNS
    repeats = np.arange(1, len(power) + 1)
    uneven = max(float(power.sum()), 1e-12)
    alike = float(likeness.of(turned_about(direction, 360 / order))[0])
    return Axis(order, direction, alike, float(power[repeats % order == 0].sum()) / uneven, uneven)


def _polished(likeness: Likeness, main: Axis, across: Axis) -> tuple[Axis, Axis]:
    """Axes turned together, about a point found with them, to where all the group's copies lie best over the map.

    One axis is told by its own copies alone, and by where the centre is believed to be; the whole group knows both.
    """
    others = _group(main, across).matrices[1:]

    def turn(place: FloatArray) -> FloatArray:
        found: FloatArray = Rotation.from_rotvec(place[:3] / likeness.reach).as_matrix()
        return found

    def unlike(place: Any) -> float:
        frame = turn(place)
        return -float(likeness.of(frame @ others @ frame.T, beside=place[3:]).mean())

    # Å, of the point and of what a turn moves at the map's rim.
    way = {"initial_simplex": np.vstack([np.zeros(6), np.eye(6)]), "xatol": 0.02, "fatol": 1e-7, "maxiter": 600}
    best: Any = minimize(unlike, np.zeros(6), method="Nelder-Mead", options=way)  # type: ignore[call-overload]
    moved = turn(best.x)
    direction = moved @ main.direction
    beside = _judged(likeness, 2, moved @ across.direction) if across.holds else two_fold_across(likeness, direction)
    return _judged(likeness, main.order, direction), beside


def two_fold_across(likeness: Likeness, direction: FloatArray) -> Axis:
    """The best two-fold across an axis of this direction."""
    first = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(direction, first)

    def at(degrees: FloatArray) -> FloatArray:
        turn = np.radians(degrees)[:, None]
        lines: FloatArray = np.cos(turn) * first + np.sin(turn) * second
        return lines

    angles = np.arange(0.0, 180.0, 1.5)
    for step in (0.25, 0.05):
        best = angles[likeness.of(turned_about(at(angles), 180)).argmax()]
        angles = best + step * np.arange(-8, 9)
    best = angles[likeness.of(turned_about(at(angles), 180)).argmax()]
    return _judged(likeness, 2, at(np.array([best]))[0])


def _group(main: Axis, across: Axis) -> Symmetry:
    """The group of an axis, and of the two-fold across it where that holds."""
    kind = "D" if across.holds else "C"
    upright = _near(main.direction, 2)
    if upright and (kind == "C" or _near(across.direction, 0)):
        return symmetry(f"{kind}{main.order}")
    name = f"{kind}{main.order}@{direction_text(main.direction)}"
    return symmetry(f"{name}@{direction_text(across.direction)}" if kind == "D" else name)


def _near(direction: FloatArray, axis: int) -> bool:
    return bool(np.abs(direction[axis]) > np.cos(np.radians(_UPRIGHT_DEG)))
