"""The symmetry axes that a map has, and the point where they meet, found from its correlation with itself.

`propose_symmetry` rotates the map about its centre of mass, finds the best axis of each order, and keeps the group
whose axes lie above the noise of the map. About an axis of a nearly round map every order fits; there the repeats of
the self-correlation in a whole rotation decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.rotations import FloatArray
from napari_orient.engine.symmetry import Symmetry, direction_text, symmetry, written_form

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
        order = cyclic_order_about(fine, round_about)
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
    from scipy.optimize import minimize

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
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

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
    directions = (main.direction, across.direction) if kind == "D" else (main.direction,)
    return symmetry(written_form(f"{kind}{main.order}", *directions))


def _near(direction: FloatArray, axis: int) -> bool:
    return bool(np.abs(direction[axis]) > np.cos(np.radians(_UPRIGHT_DEG)))


TURNS = 72
"""Steps of a whole turn."""
POINTS, FINE_POINTS = 1000, 4000
"""Frequencies that are enough to search with, and to tell what is faint."""
_SHELLS = 12
_EVEN = 0.005
"""Share of a map's power that is not the same in all directions, below which the map is a ball."""
_LOWEST = 0.15
"""Frequencies below this share of the highest say nothing of turns."""
_FAINTEST = 1e-3
"""Shells of detail count alike, unless their power is below this share of the strongest's."""


class Likeness:
    """How well turned copies of a map lie over it, without what every turn leaves alike.

    Parameters
    ----------
    maps : one reference, or those of two halves, to be laid over each other.
    centre : (3,) xyz in Å from the frame's origin to the point turned about.
    resolution : Å of the finest detail looked at.

    ``ball`` is True of a map that every turn leaves alike; its ``reach`` is the map's radius in Å.
    """

    def __init__(
        self, maps: Sequence[Reference], centre: FloatArray, *, resolution: float, points: int = POINTS
    ) -> None:
        self.reach = maps[-1].radius
        self._second, self._centre = maps[-1], torch.as_tensor(centre, dtype=torch.float32)
        self._frequency = _half_ball(points, 1 / resolution)
        share = self._frequency.norm(dim=-1) * resolution
        self._shell = (share**3 * _SHELLS).long().clamp_max(_SHELLS - 1)
        self._count = torch.bincount(self._shell, minlength=_SHELLS).clamp_min(1)
        first = self._values(maps[0], self._frequency[None])[0]
        second = self._values(self._second, self._frequency[None])[0]
        power = self._mean((first.conj() * second).real[None])[0].clamp_min(0)
        self._first = first / power.clamp_min(max(_FAINTEST * float(power.max()), 1e-20))[self._shell]
        self._whole = max(float((self._first.conj() * second).real.sum()), 1e-12)
        every = torch.view_as_complex(maps[0].sample(self._frequency)[..., 0].contiguous()).abs().square().sum()
        self.ball = float(first.abs().square().sum() / every) < _EVEN

    def of(self, rotations: FloatArray, *, beside: FloatArray | None = None) -> FloatArray:
        """Likeness of the map to itself turned by each rotation, (R,); 1 where it is the same.

        Parameters
        ----------
        beside : (3,) xyz in Å from the centre to the point to turn about instead.
        """
        told = []
        for part in torch.as_tensor(rotations, dtype=torch.float32).split(64):
            turned = self._values(self._second, self._frequency @ part)
            if beside is not None:
                point = torch.as_tensor(beside, dtype=torch.float32)
                angle = -2 * torch.pi * ((point - part @ point) @ self._frequency.T)
                turned = turned * torch.polar(torch.ones_like(angle), angle)
            told.append((self._first.conj() * turned).real.sum(-1) / self._whole)
        likeness: FloatArray = torch.cat(told).double().numpy()
        return likeness

    def whole_turn(self, direction: FloatArray) -> FloatArray:
        """Likeness of the map to itself turned step by step about a direction (3,), (TURNS,)."""
        return self.of(turned_about(direction, 360 / TURNS * np.arange(TURNS)))

    def _values(self, reference: Reference, frequency: Tensor) -> Tensor:
        """The map's transform about the centre, less its mean over each shell, (R, M) complex."""
        values = torch.view_as_complex(reference.sample(frequency)[..., 0].contiguous())
        angle = 2 * torch.pi * (frequency @ self._centre)
        values = values * torch.polar(torch.ones_like(angle), angle)
        return values - self._mean(values.real)[:, self._shell]

    def _mean(self, values: Tensor) -> Tensor:
        """Mean of values (R, M) over each shell, (R, S)."""
        return torch.zeros(len(values), _SHELLS).index_add(1, self._shell, values) / self._count


def _half_ball(count: int, radius: float) -> Tensor:
    """About ``count`` frequencies evenly in half a ball, (M, 3): of the rest Friedel's law tells."""
    step = (2 * np.pi / 3 / count) ** (1 / 3) * radius
    line = torch.arange(-radius, radius + step, step) + step / 3
    points = torch.cartesian_prod(line, line, line)
    length = points.norm(dim=-1)
    return points[(length <= radius) & (points[:, 2] > 0) & (length > _LOWEST * radius)]


def centre_of_mass(density: FloatArray, voxel_size: float) -> FloatArray:
    """Where the bright density's mass lies, (3,) xyz in Å from the box's centre: every axis of the map runs through."""
    line = (np.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    mass = np.clip(density - 0.25 * density.max(), 0, None)
    along = [mass.sum(axis=other) for other in ((0, 1), (0, 2), (1, 2))]
    centre: FloatArray = np.array([(part * line).sum() for part in along]) / max(float(mass.sum()), 1e-12)
    return centre


ORDERS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
"""The folds that are looked for."""
_ROUND_CORRELATION = 0.65
"""Mean likeness over a turn of what counts as round about an axis."""
_CLEARLY = 4.0
"""Deviations by which the repeats of a fold must stand above those of none."""
_ROUND_DIRECTIONS, _REPEATS = 300, 18
_SOME = 360 * np.array([0.07, 0.16, 0.29, 0.42])
"""Turns of no common fold, in degrees."""


def round_axis(likeness: Likeness) -> FloatArray | None:
    """The direction about which the map is nearly round, (3,) of length 1; None where there is none."""
    from scipy.optimize import minimize

    grid = even_directions(_ROUND_DIRECTIONS)
    best = grid[np.mean([likeness.of(turned_about(grid, turn)) for turn in _SOME], axis=0).argmax()]

    def uneven(direction: FloatArray) -> float:
        return -float(likeness.of(turned_about(direction, _SOME)).mean())

    way = {"initial_simplex": best + np.vstack([np.zeros(3), 0.05 * np.eye(3)]), "maxiter": 80, "fatol": 1e-4}
    axis = minimize(uneven, best, method="Nelder-Mead", options=way).x  # type: ignore[call-overload]
    axis = axis / np.linalg.norm(axis)
    return axis if likeness.whole_turn(axis).mean() >= _ROUND_CORRELATION else None


def cyclic_order_about(likeness: Likeness, axis: FloatArray) -> int:
    """How often the map repeats in a turn about an axis, clearly above its noise; 0 where nothing tells."""
    repeats = np.arange(1, _REPEATS + 1)
    power = np.fft.rfft(likeness.whole_turn(axis)).real[repeats] * 2 / TURNS
    heights = []
    for order in ORDERS:
        own = repeats % order == 0
        heights.append(power[own].sum() / (power[~own].std() * np.sqrt(own.sum())))
    return ORDERS[int(np.argmax(heights))] if max(heights) >= _CLEARLY else 0


def even_directions(count: int) -> FloatArray:
    """Even directions over half a sphere, (count, 3): a Fibonacci spiral."""
    index = np.arange(count) + 0.5
    z, angle = index / count, np.pi * (1 + np.sqrt(5)) * index
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


def turned_about(axes: FloatArray, degrees: float | FloatArray) -> FloatArray:
    """Rotations by an angle about each axis, or by each angle about one, (R, 3, 3)."""
    from scipy.spatial.transform import Rotation

    unit = np.atleast_2d(axes) / np.linalg.norm(np.atleast_2d(axes), axis=1, keepdims=True)
    matrices: FloatArray = Rotation.from_rotvec(unit * np.atleast_1d(np.radians(degrees))[:, None]).as_matrix()
    return matrices


_SPAN = 64


def symmetry_centre(density: FloatArray, voxel_size: float, group: Symmetry) -> FloatArray:
    """Point through which the group's axes run in a map (n, n, n), (3,) xyz in Å from the origin ``(n - 1) / 2``.

    Each turned copy is laid over the map where the two correlate best; the moves that this takes tell the centre.
    Along an axis that no rotation of the group turns, the centre stays at the origin.
    """
    if len(group) == 1:
        return np.zeros(3)
    reference = build_reference(np.asarray(density, np.float32), voxel_size, resolution=4 * voxel_size)
    moves = [_move(reference, matrix) for matrix in group.matrices[1:]]
    rows = np.concatenate([np.eye(3) - matrix for matrix in group.matrices[1:]])
    centre: FloatArray = np.linalg.lstsq(rows, np.concatenate(moves), rcond=1e-6)[0]
    return centre


def _move(reference: Reference, matrix: FloatArray) -> FloatArray:
    """Move in Å, (3,) xyz, that lays the map turned by a matrix best over the map itself."""
    step = 1 / (4.2 * reference.radius)
    line = torch.fft.fftfreq(_SPAN, 1 / (_SPAN * step), dtype=torch.float32)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    frequency = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    inside = frequency.norm(dim=-1) <= 1 / reference.resolution
    turn = torch.as_tensor(matrix, dtype=torch.float32)
    own, other = (
        torch.view_as_complex(reference.sample(places)[..., 0].contiguous())
        for places in (frequency[inside], frequency[inside] @ turn)
    )
    cross = torch.zeros(_SPAN**3, dtype=torch.complex64)
    cross[inside] = own * other.conj()
    match = torch.fft.fftshift(torch.fft.ifftn(cross.reshape(_SPAN, _SPAN, _SPAN)).real).numpy()
    peak = np.array(np.unravel_index(match.argmax(), match.shape))
    place = [_vertex(np.take(match, range(peak[axis] - 1, peak[axis] + 2), axis), peak, axis) for axis in (2, 1, 0)]
    return (np.array(place) - _SPAN // 2) / (_SPAN * step)


def _vertex(slab: FloatArray, peak: FloatArray, axis: int) -> float:
    """Place of the peak along an axis, from the parabola through three values."""
    at = [slice(None) if other == axis else int(peak[other]) for other in range(3)]
    low, middle, high = slab[tuple(at)]
    curve = low - 2 * middle + high
    return float(peak[axis] + (0.5 * (low - high) / curve if curve else 0.0))
