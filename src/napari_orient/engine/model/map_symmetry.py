"""Symmetry axes that a map has, from its self-correlation.

`propose_symmetry` rotates the map about its centre of mass. With a and b its half maps and FSC_k their Fourier shell
correlation in shell k, without what no rotation changes, the self-correlation in a rotation R is

    c(R) = Σ_k FSC_k(a, R b) / Σ_k FSC_k(a, b),

1 where the map rotated is the same, whatever the noise: the noise of halves is independent, and a shell counts by what
they share. The best axis of each order n maximises ``c(360°/n)``, and is judged again once it is refined on more
frequencies. The Fourier coefficients of c over a whole rotation about that axis say how much of the map repeats how
often; an axis of order n leaves only multiples of n. About an axis that a map is nearly round about every order fits;
there the cyclic order counts whose repeats rise above the noise.

Each of the cubic groups T, O and I is determined by one axis of its highest order (3, 4 or 5) and an angle about it.
All angles of one step are tried, and the best is refined together with the axis and the point where all axes meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from napari_orient.engine.devices import single_threaded
from napari_orient.engine.model.map_centre import centre_of_mass
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.self_correlation import (
    FINE_POINTS,
    POINTS,
    ROTATIONS_AT_A_TIME,
    SelfCorrelation,
    minimum,
    rotations_about,
)
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import FloatArray, angle_deg, even_rotations
from napari_orient.engine.streams import Work, run
from napari_orient.engine.symmetry import C1, Symmetry, direction_text, symmetry, written_form

ORDERS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
"""Cyclic orders that are tried."""
_LEAST_CORRELATION = 0.8
"""Least correlation, 0 to 1, of the map with itself rotated by one step of an axis. Averages of 60 to 100 simulated
particles, some under a CTF, reach 0.94 about true axes (C2, C4, D2, D3), and ribosomes 0.4 about any."""
_LEAST_UNDECIDED = 0.5
"""Score of an axis that does not hold from which it may be there all the same. The two-fold axes of 1f4a (D2) reached
0.78 in the average of 70 simulated particles under a CTF at 3.5 µm, that of 7n4y (C2) 0.61 in noise of 1.4 times
PolNet's; ribosomes reach 0.42 about any."""
_LEAST_PERIODIC = 0.7
"""Least share of what is not round about an axis that must repeat as its order says."""
_LEAST_ANISOTROPY = 0.005
"""Least share of the map that is not round about an axis: below, every order fits."""
_SAME_CENTRE = 0.5
"""Voxels within which two points are one centre: copies about one of them lie a voxel off the other's at most, which
leaves detail of 3.2 voxels in phase."""
_FINEST = 3.2
"""Finest detail compared, in voxels of the map."""
_DIRECTIONS = 500
"""Directions of half a sphere tried for the axis of each order: 6° apart."""
_MIRROR_ROTATIONS = 2304
"""Rotations in which a map is compared with its mirror image, before the best is refined: 13° apart."""
_ALONG_AXIS_DEG = 0.5
"""Angle in degrees within which an axis counts as z or x, and needs no direction in the group's name."""


@dataclass(frozen=True, eq=False)
class SymmetryAxis:
    """A direction of a map and how well an axis of some order fits it.

    Parameters
    ----------
    direction : (3,) of length 1, xyz in the map's frame.
    correlation : of the map with itself rotated by 360° / order; 1 where they are the same.
    periodic : share of what is not round about the axis that repeats ``order`` times; 1 for a true axis.
    anisotropy : share of the map that is not round about the axis, 0 to 1.
    """

    order: int
    direction: FloatArray
    correlation: float
    periodic: float
    anisotropy: float

    @property
    def holds(self) -> bool:
        """Whether the map has this axis."""
        fits = self.correlation >= _LEAST_CORRELATION and self.periodic >= _LEAST_PERIODIC
        return fits and self.anisotropy >= _LEAST_ANISOTROPY

    @property
    def score(self) -> float:
        """The lesser of correlation and periodic share, 0 to 1."""
        return min(self.correlation, self.periodic)

    @property
    def may_hold(self) -> bool:
        """Whether the map may have this axis, though noise hides it."""
        return self.score >= _LEAST_UNDECIDED and self.anisotropy >= _LEAST_ANISOTROPY

    @property
    def words(self) -> str:
        """The axis and its figures, at most 1 though noise may bring them above it, in a line."""
        x, y, z = self.direction
        return (
            f"{self.order}-fold about ({x:.3f}, {y:.3f}, {z:.3f}): copies correlate to {min(self.correlation, 1):.3f}, "
            f"{min(self.periodic, 1):.0%} of what is not round repeats {self.order} times"
        )


@dataclass(frozen=True, eq=False)
class SymmetryProposal:
    """The group proposed for a map, and why.

    Parameters
    ----------
    group : C1 where no axis holds; its name carries its axes, unless they are z and x.
    axes : the best axis of every order tried, the main one of the group first.
    across : the best two-fold axis across the main one; None without one.
    cubic : the best cubic group about the main axis, where it holds.
    round_about : (3,) the direction about which the map is nearly round; None of a map that is not, or is a ball.
    """

    group: Symmetry
    axes: tuple[SymmetryAxis, ...]
    across: SymmetryAxis | None
    round_about: FloatArray | None = None
    cubic: CubicSymmetry | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Of each group tried, the lesser of correlation and periodic share of its worst axis, 0 to 1."""
        scores = {f"C{axis.order}": axis.score for axis in self.axes}
        if self.across is not None and self.axes:
            main = f"C{self.axes[0].order}"
            scores["D" + main[1:]] = min(scores[main], self.across.score)
        if self.cubic is not None:
            scores[self.cubic.group.point_group] = self.cubic.correlation
        return scores

    @property
    def rank(self) -> tuple[int, bool, float]:
        """What proposals of one map about several centres are compared by."""
        return len(self.group), self.round_about is not None, max((axis.score for axis in self.axes), default=0.0)

    @property
    def main(self) -> SymmetryAxis | None:
        """The main axis of the group; None of C1."""
        return self.axes[0] if len(self.group) > 1 else None

    @property
    def undecided(self) -> SymmetryAxis | None:
        """Where no axis holds, the best one, if the map may have it."""
        if len(self.group) > 1 or not self.axes:
            return None
        best = max(self.axes, key=lambda axis: axis.score)
        return best if best.may_hold else None

    def words(self) -> Iterator[str]:
        """The reasons, in a few lines."""
        yield f"Symmetry {self.group.name} proposed."
        if self.round_about is not None:
            none = "no cyclic order stands out; name the group if it is known"
            reason = none if len(self.group) == 1 else "its cyclic order rises above the noise"
            yield f"Nearly round about ({direction_text(self.round_about)}): {reason}."
        elif not self.axes:
            yield "The map is round: every axis fits alike."
        if not self.axes:
            return
        if len(self.group) == 1:
            best = max(self.axes, key=lambda axis: axis.score)
            undecided = ", and may be a true one" if self.undecided is not None else ""
            yield f"No axis holds; the best is {best.words}{undecided}."
            return
        yield f"Main axis: {self.axes[0].words}."
        if self.cubic is not None:
            yield f"{self.cubic.words}."
            return
        if self.across is not None:
            yield f"Across it: {self.across.words}{'' if self.across.holds else ', which is not enough'}."


@single_threaded()
def propose_symmetry(density: FloatArray, voxel_size: float) -> SymmetryProposal:
    """The answer of `search_symmetry` for one map."""
    return run(search_symmetry(density, voxel_size))


def search_symmetry(
    density: FloatArray,
    voxel_size: float,
    *,
    halves: tuple[FloatArray, FloatArray] | None = None,
    radius: float | None = None,
    resolution: float = 0.0,
) -> Work[SymmetryProposal]:
    """The group that a map has, about its own axes through one point; C1 where it has none.

    Tried are Cn and Dn, and about an axis of the order that they need T, O and I. The point is near the centre of mass,
    or near the origin where there is none: noise and gradients of density displace the mass of a map, and particles
    that were averaged about their picks lie about the origin.

    Parameters
    ----------
    density : (n, n, n) [z, y, x], particle positive.
    voxel_size : Å.
    halves : half maps in the same frame, correlated with each other: their noise then costs no correlation.
    radius : Å about the box's centre to consider; None finds what holds the density.
    resolution : Å of the finest detail to compare, where 3.2 voxels are finer.

    Raises
    ------
    InputError
        If the map is no cube, flat or not finite.
    """
    maps = _references(halves or (density,), voxel_size, radius)
    resolution, mass = max(_FINEST * voxel_size, resolution), centre_of_mass(np.asarray(density), voxel_size)
    found = yield from _search_about(maps, mass, resolution)
    if len(found.group) > 1 or np.linalg.norm(mass) < _SAME_CENTRE * voxel_size:
        return found
    other = yield from _search_about(maps, np.zeros(3), resolution)
    return max(found, other, key=lambda proposal: proposal.rank)


def _search_about(maps: Sequence[Reference], centre: FloatArray, resolution: float) -> Work[SymmetryProposal]:
    """The group that a map has about axes near a centre (3,), Å from the frame's origin; see `search_symmetry`."""
    coarse = SelfCorrelation(maps, centre, resolution=resolution, points=POINTS)
    if coarse.isotropic:
        return SymmetryProposal(C1, (), None)
    yield
    fine = SelfCorrelation(maps, centre, resolution=resolution, points=FINE_POINTS)
    yield
    round_about = _round_axis(coarse)
    yield
    if round_about is not None:
        order = _cyclic_order_about(fine, round_about)
        if not order:
            return SymmetryProposal(C1, (), _two_fold_across(fine, round_about), round_about)
        main, across = _refined(fine, _axis(fine, order, round_about), _two_fold_across(coarse, round_about))
        # About an axis of a cubic group, whose coarsest harmonic is two thirds round about it, a map looks round too.
        cubic = yield from search_cubic(coarse, fine, main.direction, order, least=_LEAST_CORRELATION)
        group = _group(main, across) if cubic is None else cubic.group
        return SymmetryProposal(group, (main,), across, round_about, cubic)
    axes = []
    for order in ORDERS:
        axes.append(_best_axis(coarse, order))
        yield
    # The search compares few frequencies, about a centre not yet refined: what counts is the axis refined.
    for axis in sorted((axis for axis in axes if axis.may_hold), key=lambda axis: -axis.order):
        main, across = _refined(fine, axis, _two_fold_across(coarse, axis.direction))
        axes[axes.index(axis)] = main
        yield
        if main.holds:
            rest = (main, *(item for item in axes if item is not main))
            cubic = yield from search_cubic(coarse, fine, main.direction, main.order, least=_LEAST_CORRELATION)
            return SymmetryProposal(_group(main, across) if cubic is None else cubic.group, rest, across, cubic=cubic)
    return SymmetryProposal(C1, tuple(axes), None)


def search_two_fold_across(
    density: FloatArray,
    voxel_size: float,
    axis: FloatArray,
    *,
    halves: tuple[FloatArray, FloatArray],
    radius: float,
    resolution: float = 0.0,
) -> Work[SymmetryAxis]:
    """The best two-fold axis across a given axis (3,) of a map; see `search_symmetry`."""
    maps = _references(halves, voxel_size, radius)
    yield
    centre = centre_of_mass(np.asarray(density), voxel_size)
    resolution = max(_FINEST * voxel_size, resolution)
    fine = SelfCorrelation(maps, centre, resolution=resolution, points=FINE_POINTS)
    yield
    return _two_fold_across(fine, axis)


def search_mirror_image(
    density: FloatArray, voxel_size: float, *, halves: tuple[FloatArray, FloatArray], radius: float
) -> Work[float]:
    """Correlation of a map with its mirror image in the best rotation; 1 where hands look the same.

    Parameters
    ----------
    halves, radius : as in `search_symmetry`.
    """
    maps = _references(halves, voxel_size, radius)
    yield
    centre = centre_of_mass(np.asarray(density), voxel_size)
    correlation = SelfCorrelation(maps, centre, resolution=_FINEST * voxel_size, points=POINTS)
    grid, found = even_rotations(_MIRROR_ROTATIONS), []
    for some in np.array_split(grid, len(grid) // ROTATIONS_AT_A_TIME):
        found.append(correlation.at(some, mirrored=True))
        yield
    start = grid[np.concatenate(found).argmax()]

    def loss(rotvec: FloatArray) -> float:
        rotated = start @ rotvec_to_matrix(torch.from_numpy(rotvec)).numpy()
        return -float(correlation.at(rotated[None], mirrored=True)[0])

    return -loss(minimum(loss, np.zeros(3), step=0.1, xatol=1e-3, fatol=1e-4, maxiter=120))


def _references(maps: Sequence[FloatArray], voxel_size: float, radius: float | None) -> list[Reference]:
    """Maps in Fourier space, to the finest detail that is compared."""
    return [build_reference(part, voxel_size, resolution=_FINEST * voxel_size, radius=radius) for part in maps]


# --- axes -----------------------------------------------------------------------------------------------------------


def _axis(correlation: SelfCorrelation, order: int, direction: FloatArray) -> SymmetryAxis:
    """An axis with its figures, from the Fourier coefficients of the self-correlation over a whole rotation."""
    power = correlation.periodogram(direction)
    repeats = np.arange(1, len(power) + 1)
    anisotropy = max(float(power.sum()), 1e-12)
    copies = float(correlation.at(rotations_about(direction, 360 / order))[0])
    return SymmetryAxis(order, direction, copies, float(power[repeats % order == 0].sum()) / anisotropy, anisotropy)


def _best_axis(correlation: SelfCorrelation, order: int) -> SymmetryAxis:
    """The best axis of an order: the best direction of an even grid, refined."""
    grid = _even_directions(_DIRECTIONS)
    start = grid[correlation.at(rotations_about(grid, 360 / order)).argmax()]
    plane = np.stack(_normals(start))

    def loss(place: FloatArray) -> float:
        return -float(correlation.at(rotations_about(start + place @ plane, 360 / order))[0])

    place = minimum(loss, np.zeros(2), step=0.05, xatol=1e-3, fatol=1e-5, maxiter=60)
    found = start + place @ plane
    return _axis(correlation, order, found / np.linalg.norm(found))


def _refined(
    correlation: SelfCorrelation, main: SymmetryAxis, across: SymmetryAxis
) -> tuple[SymmetryAxis, SymmetryAxis]:
    """Axes rotated together, about a point found with them, to where all the group's copies correlate best.

    The copies of a single axis depend on where the centre is taken to be; those of the whole group determine both.
    """
    others = _group(main, across).matrices[1:]

    def rotation(place: FloatArray) -> FloatArray:
        rotated: FloatArray = rotvec_to_matrix(torch.from_numpy(place[:3] / correlation.radius)).numpy()
        return rotated

    def loss(place: FloatArray) -> float:
        frame = rotation(place)
        return -float(correlation.at(frame @ others @ frame.T, about=place[3:]).mean())

    # Å, of the point and of what a rotation moves at the map's rim.
    best = rotation(minimum(loss, np.zeros(6), step=1.0, xatol=0.02, fatol=1e-7, maxiter=600))
    direction = best @ main.direction
    if across.holds:
        return _axis(correlation, main.order, direction), _axis(correlation, 2, best @ across.direction)
    return _axis(correlation, main.order, direction), _two_fold_across(correlation, direction)


def _two_fold_across(correlation: SelfCorrelation, direction: FloatArray) -> SymmetryAxis:
    """The best two-fold axis across a direction, to 0.05°."""
    first, second = _normals(direction)

    def at(degrees: FloatArray) -> FloatArray:
        angle = np.radians(degrees)[:, None]
        lines: FloatArray = np.cos(angle) * first + np.sin(angle) * second
        return lines

    angles = np.arange(0.0, 180.0, 1.5)
    for step in (0.25, 0.05):
        best = angles[correlation.at(rotations_about(at(angles), 180)).argmax()]
        angles = best + step * np.arange(-8, 9)
    best = angles[correlation.at(rotations_about(at(angles), 180)).argmax()]
    return _axis(correlation, 2, at(np.array([best]))[0])


def _group(main: SymmetryAxis, across: SymmetryAxis) -> Symmetry:
    """The group of an axis, and of the two-fold axis across it where that holds."""
    kind = "D" if across.holds else "C"
    upright = _along(main.direction, 2)
    if upright and (kind == "C" or _along(across.direction, 0)):
        return symmetry(f"{kind}{main.order}")
    directions = (main.direction, across.direction) if kind == "D" else (main.direction,)
    return symmetry(written_form(f"{kind}{main.order}", *directions))


def _along(direction: FloatArray, axis: int) -> bool:
    return bool(np.abs(direction[axis]) > np.cos(np.radians(_ALONG_AXIS_DEG)))


# --- axes that a map is round about -----------------------------------------------------------------------------------

_LEAST_ROUND = 0.65
"""Least mean self-correlation over a whole rotation of a map that counts as round about an axis: PolNet's proteasomes
at the detail of a search have more, its ribosomes less."""
_ABOVE_NOISE = 4.0
"""Least height of an order's repeats over those of no order, in their standard deviations."""
_ROUND_DIRECTIONS = 300
"""Directions of half a sphere tried for such an axis: 8° apart."""
_REPEATS = 18
"""Most repeats in a whole rotation that are measured."""
_UNCOMMON = 360 * np.array([0.07, 0.16, 0.29, 0.42])
"""Angles in degrees that are steps of no low cyclic order."""


def _round_axis(correlation: SelfCorrelation) -> FloatArray | None:
    """The direction about which the map is nearly round, (3,) of length 1; None where there is none."""
    grid = _even_directions(_ROUND_DIRECTIONS)
    start = grid[np.mean([correlation.at(rotations_about(grid, angle)) for angle in _UNCOMMON], axis=0).argmax()]

    def loss(direction: FloatArray) -> float:
        return -float(correlation.at(rotations_about(direction, _UNCOMMON)).mean())

    axis = minimum(loss, start, step=0.05, maxiter=80, fatol=1e-4)
    axis = axis / np.linalg.norm(axis)
    return axis if correlation.over_rotation(axis).mean() >= _LEAST_ROUND else None


def _cyclic_order_about(correlation: SelfCorrelation, axis: FloatArray) -> int:
    """The cyclic order about an axis, where its repeats are clearly above noise; else 0."""
    repeats = np.arange(1, _REPEATS + 1)
    power = correlation.periodogram(axis)[:_REPEATS]
    heights = []
    for order in ORDERS:
        own = repeats % order == 0
        heights.append(power[own].sum() / (power[~own].std() * np.sqrt(own.sum())))
    return ORDERS[int(np.argmax(heights))] if max(heights) >= _ABOVE_NOISE else 0


# --- directions -------------------------------------------------------------------------------------------------------


def _even_directions(count: int) -> FloatArray:
    """Even directions over half a sphere, (count, 3): a Fibonacci spiral."""
    index = np.arange(count) + 0.5
    z, angle = index / count, np.pi * (1 + np.sqrt(5)) * index
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


def _normals(direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two directions normal to one and to each other, (3,) each."""
    first = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
    first /= np.linalg.norm(first)
    return first, np.cross(direction, first)


# --- cubic groups -----------------------------------------------------------------------------------------------------

_GROUPS = {3: "T", 4: "O", 5: "I"}
"""The cubic group whose axes of highest order are of an order."""
_STEP_DEG = 3.0
"""Step of the angle about the main axis that is tried; a map of ten resolution elements a radius changes within 6."""
_AS_WELL = 0.05
"""Correlation by which copies in a group that contains T may be worse than those in T, and count as well; chosen. Where
a map is nearly round about a three-fold axis, only that axis stands out."""
_SAMPLING = 0.05
"""Correlation by which few frequencies may differ from many: what is worse by more is not tried with many; chosen."""
_UPRIGHT_DEG = 0.5
"""Angle within which a group's axes count as x, y and z, and need no directions in its name."""


@dataclass(frozen=True, eq=False)
class CubicSymmetry:
    """A cubic group of a map.

    Parameters
    ----------
    correlation : least mean correlation of the map with itself, over the group's rotations by one and the same angle.
    """

    group: Symmetry
    correlation: float

    @property
    def words(self) -> str:
        """What was found, in a line."""
        name, count = self.group.point_group, len(self.group)
        copies = f"its copies in the {count} rotations of {name}"
        return f"Cubic: the map correlates to {min(self.correlation, 1):.3f} with {copies}"


def search_cubic(
    coarse: SelfCorrelation, fine: SelfCorrelation, axis: FloatArray, order: int, *, least: float
) -> Work[CubicSymmetry | None]:
    """The cubic group of a map about an axis (3,) of an order, where its copies correlate well enough; else None.

    Parameters
    ----------
    coarse, fine : the map's self-correlation at few and at many frequencies.
    least : correlation, 0 to 1, that rotations of every angle in the group must reach.
    """
    if order not in _GROUPS:
        return None
    name = _GROUPS[order]
    own = symmetry(name)
    start = _frame_about(axis, _axis_of_order(own, order))
    others = own.matrices[1:]

    def correlation_in(frame: FloatArray, by: SelfCorrelation, about: FloatArray | None = None) -> float:
        return float(by.at(frame @ others @ frame.T, about=about).mean())

    angles = np.arange(0.0, 360 / order, _STEP_DEG)
    tried = []
    for rotation in rotations_about(axis, angles):
        tried.append(correlation_in(rotation @ start, coarse))
        yield
    start = rotations_about(axis, angles[int(np.argmax(tried))])[0] @ start

    def frame_at(place: FloatArray) -> FloatArray:
        moved: FloatArray = rotvec_to_matrix(torch.from_numpy(place[:3] / fine.radius)).numpy() @ start
        return moved

    # Å, of the point and of what a rotation moves at the map's rim.
    def loss(place: FloatArray, by: SelfCorrelation) -> float:
        return -correlation_in(frame_at(place), by, place[3:])

    place = minimum(partial(loss, by=coarse), np.zeros(6), step=1.0, xatol=0.1, fatol=1e-4, maxiter=600)
    if -loss(place, coarse) < least - _SAMPLING:
        return None
    yield
    place = minimum(partial(loss, by=fine), place, step=0.1, xatol=0.02, fatol=1e-7, maxiter=600)
    yield
    found = list[CubicSymmetry]()
    for containing, turned in _containing(name):
        frame, others = frame_at(place) @ turned, symmetry(containing).matrices[1:]
        copies = _least_over_angles(fine.at(frame @ others @ frame.T, about=place[3:]), others)
        found.append(CubicSymmetry(_named(containing, frame), copies))
    least = max(least, found[0].correlation - _AS_WELL)
    return next((item for item in reversed(found) if item.correlation >= least), None)


def _containing(name: str) -> Iterator[tuple[str, FloatArray]]:
    """A cubic group and those that contain it in its own frame, smallest first, with the rotation (3, 3) of theirs."""
    yield name, np.eye(3)
    if name == "T":
        yield "O", np.eye(3)
        yield from (("I", turned) for turned in _normaliser("T"))


def _axis_of_order(group: Symmetry, order: int) -> FloatArray:
    """Direction (3,) of an axis of an order in a group's own frame."""
    from scipy.spatial.transform import Rotation

    angles = angle_deg(group.matrices, np.eye(3))
    rotvec = Rotation.from_matrix(group.matrices[int(np.abs(angles - 360 / order).argmin())]).as_rotvec()
    unit: FloatArray = rotvec / np.linalg.norm(rotvec)
    return unit


def _frame_about(axis: FloatArray, own_axis: FloatArray) -> FloatArray:
    """A frame (3, 3) of the group in which its own axis lies along a direction of the map."""
    from scipy.spatial.transform import Rotation

    frame: FloatArray = Rotation.align_vectors(axis[None], own_axis[None])[0].as_matrix()
    return frame


def _least_over_angles(correlation: FloatArray, matrices: FloatArray) -> float:
    """The least, over rotations by one angle, of their mean correlation."""
    angles = np.rint(angle_deg(matrices, np.eye(3)))
    return min(float(correlation[angles == angle].mean()) for angle in np.unique(angles))


def _named(name: str, frame: FloatArray) -> Symmetry:
    """The group with its directions, which are left out where they are the map's axes."""
    upright = symmetry(name)
    # Copies of the frame under the group are the same group.
    nearest = min(float(np.min(angle_deg(frame @ upright.matrices, turned))) for turned in _normaliser(name))
    if nearest < _UPRIGHT_DEG:
        return upright
    return symmetry(written_form(name, frame[:, 2], frame[:, 0]))


def _normaliser(name: str) -> FloatArray:
    """Rotations of the frame after which the group is the same, beyond its own: a quarter-turn, of T."""
    quarter = rotations_about(np.array([0.0, 0.0, 1.0]), np.array([0.0, 90.0]))
    return quarter if name == "T" else quarter[:1]
