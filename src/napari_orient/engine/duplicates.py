"""Duplicates: particles that were picked more than once, found by distance; and half-sets that keep them together.

Two pickers, or picks that drift to one particle when they are recentred, put the same particle into a list twice. Its
noise is then in both half maps of an average, and their Fourier shell correlation is high up to Nyquist in noise alone.
Duplicates therefore belong to one half-set, and can be removed: of each group the particle of best score stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.io.columns import SCORE
from napari_orient.engine.particles import HALF_SET, FloatArray, Particles
from napari_orient.engine.streams import Note

IntArray = NDArray[np.int_]

SHARE_OF_RADIUS = 0.5
"""Distance below which two particles are one, over the radius of the template: centres of different particles are no
nearer than their least diameter, of the shipped templates 1.1 radii; recentring leaves 1 to 5 Å. Chosen."""
_BLOCK = 256
"""Particles whose neighbours are looked up together: memory, which pairs of a crowded list would fill."""
_LEAST_HALF = 0.35
"""Least share of the particles in a half-set, where linked duplicates leave a choice; chosen."""
_MOST_NEIGHBOURS = 40
"""Mean number of neighbours above which the edges of a triangulation replace all pairs, whose list grows with it."""


def linked_groups(particles: Particles, distance: float) -> IntArray:
    """Group of each particle, (N,): those of one tomogram that are linked by pairs no farther apart than a distance.

    Parameters
    ----------
    distance : Å.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [rows[_links(particles.positions[rows], distance)] for rows in _rows_by_tomogram(particles)]
    first, second = np.concatenate([np.zeros((0, 2), int), *pairs]).T
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(particles), len(particles)))
    return np.asarray(connected_components(links, directed=False)[1], int)


def _links(positions: FloatArray, distance: float) -> NDArray[np.int_]:
    from scipy.spatial import Delaunay, cKDTree

    tree = cKDTree(positions)
    if tree.count_neighbors(tree, distance) <= _MOST_NEIGHBOURS * len(positions):
        return np.asarray(tree.query_pairs(distance, output_type="ndarray"), int)
    # The Delaunay triangulation contains a minimum spanning tree, so that its short edges link the same clusters.
    # Joggled, for particles in a plane or at one position.
    corners = Delaunay(positions, qhull_options="QJ").simplices
    edges = np.sort(corners[:, list(combinations(range(4), 2))].reshape(-1, 2), axis=1).astype(int)
    near = np.linalg.norm(positions[edges[:, 0]] - positions[edges[:, 1]], axis=1) <= distance
    # Unique edges, each as one number, which sort ten times as fast as pairs.
    once = np.unique(edges[near] @ [len(positions), 1])
    return np.asarray(np.stack(np.divmod(once, len(positions)), axis=1), int)


def duplicate_rows(particles: Particles, distance: float) -> NDArray[np.bool_]:
    """Mask (N,) of the particles that lie within a distance, Å, of one with a better score, which is none itself.

    Where there are no scores, the confidence decides, then the expected error, then the order in the list.
    """
    from scipy.spatial import cKDTree

    removed, merit = np.zeros(len(particles), bool), _merit(particles)
    for own in _rows_by_tomogram(particles):
        # Best first: what is not removed by then stays, and removes all that lie by it.
        rows = own[np.argsort(-merit[own], kind="stable")]
        tree, gone = cKDTree(particles.positions[rows]), np.zeros(len(rows), bool)
        for first in range(0, len(rows), _BLOCK):
            left = first + np.flatnonzero(~gone[first : first + _BLOCK])
            for row, near in zip(left.tolist(), tree.query_ball_point(tree.data[left], distance), strict=True):
                if not gone[row]:
                    gone[near] = True
                    gone[row] = False
        removed[rows] = gone
    return removed


def without_duplicates(particles: Particles, distance: float) -> Particles:
    """The particles without duplicates, in order: of those within a distance, Å, the one of best score stays."""
    return particles.take(~duplicate_rows(particles, distance))


def duplicates_note(particles: Particles, distance: float) -> Note | None:
    """A warning that counts the duplicates among particles; None where there are none."""
    count = int(duplicate_rows(particles, distance).sum())
    if count == 0:
        return None
    which = "1 particle is a duplicate" if count == 1 else f"{count} particles are duplicates"
    return Note(f"{which}: a better one lies within {distance:.0f} Å. They count twice in an average.", "warning")


def near_pairs(particles: Particles, distance: float) -> IntArray:
    """Rows of pairs in one tomogram that lie no farther apart than a distance, (P, 2)."""
    from scipy.spatial import cKDTree

    found = (
        rows[cKDTree(particles.positions[rows]).query_pairs(distance, output_type="ndarray")]
        for rows in _rows_by_tomogram(particles)
    )
    return np.concatenate([np.zeros((0, 2), int), *found])


def mean_neighbours(particles: Particles, distance: float) -> float:
    """How many others of its tomogram lie within a distance, Å, of a particle, in the mean."""
    from scipy.spatial import cKDTree

    trees = [cKDTree(particles.positions[rows]) for rows in _rows_by_tomogram(particles)]
    pairs = sum(int(tree.count_neighbors(tree, distance)) for tree in trees)
    return pairs / max(len(particles), 1) - 1


def _rows_by_tomogram(particles: Particles) -> list[IntArray]:
    """Rows of the particles of each tomogram."""
    if len(particles) == 0:
        return []
    if len(particles.tomogram_names) == 1:
        return [np.arange(len(particles))]
    number, count = np.unique(np.asarray(particles.tomogram), return_inverse=True, return_counts=True)[1:]
    return list(np.split(np.argsort(number, kind="stable"), np.cumsum(count)[:-1]))


def _merit(particles: Particles) -> FloatArray:
    """What decides which of two duplicates stays, (N,); the greater."""
    score = particles.extra.get(SCORE)
    if score is not None and np.issubdtype(score.dtype, np.floating):
        return np.asarray(np.nan_to_num(score.astype(float), nan=-np.inf))
    if particles.confidence is not None:
        return particles.confidence
    if particles.expected_error_deg is not None:
        return -np.asarray(particles.expected_error_deg)
    return np.zeros(len(particles))


# --- half-sets ------------------------------------------------------------------------------------------------------


def random_halves(count: int, seed: int) -> IntArray:
    """The half, 0 or 1, that each of ``count`` particles belongs to, (count,)."""
    return np.random.default_rng(seed).permutation(count) % 2


def given_half_sets(particles: Sequence[Particles]) -> tuple[IntArray | None, str]:
    """RELION's half-set, 1 or 2, of every particle of several lists, (N,); None where it cannot be used, and why.

    The reason is empty where no list has the column.
    """
    columns = [part.extra.get(HALF_SET) for part in particles if len(part)]
    present = [np.asarray(column).astype(str) for column in columns if column is not None]
    if not present:
        return None, ""
    if len(present) < len(columns):
        return None, f"{len(columns) - len(present)} of {len(columns)} tomograms have none"
    texts = np.concatenate(present)
    halves = np.array([{"1": 1, "1.0": 1, "2": 2, "2.0": 2}.get(text, 0) for text in texts.tolist()])
    strange = halves == 0
    if strange.any():
        return (
            None,
            f"{int(strange.sum())} of {len(halves)} particles have neither 1 nor 2 but {texts[strange][0] or '-'}",
        )
    if len(np.unique(halves)) < 2:
        return None, f"all particles are in half-set {halves[0]}"
    return halves, ""


def with_half_sets(particles: Particles, halves: IntArray) -> Particles:
    """The particles with their half-set, (N,), in RELION's column; those of none, 0, are left out."""
    kept = particles.take(halves > 0)
    return kept.replace(extra={**kept.extra, HALF_SET: halves[halves > 0].astype(str)})


def half_sets(particles: Sequence[Particles], distance: float, *, seed: int) -> tuple[IntArray, tuple[Note, ...]]:
    """Half-set, 1 or 2, of every particle of several tomograms, (N,), and what to say of it; 0 for one to leave out.

    Half-sets that the lists have (``rlnRandomSubset``) are kept; of duplicates in both, the worse are left out.
    Otherwise halves are random, and duplicates share one; a warning says why those of the lists cannot be used.

    Parameters
    ----------
    distance : Å within which two particles of one tomogram are one.
    """
    given, reason = given_half_sets(particles)
    unused = (Note(f"Half-sets are random: in {HALF_SET} of the list {reason}.", "warning"),) if reason else ()
    groups = _groups_of_all(particles, distance)
    if given is not None:
        return _apart(particles, given, groups, distance)
    total = len(groups)
    if len(np.unique(groups)) == total:
        return random_halves(total, seed) + 1, unused
    halves = _balanced(groups, seed)
    if min((halves == 1).sum(), (halves == 2).sum()) < _LEAST_HALF * total:
        # Picks that follow each other closely are linked to one large group: only the true doubles are kept together.
        halves = _balanced(_groups_of_all(particles, distance, linked=False), seed)
    count = total - len(np.unique(groups))
    return halves, (*unused, Note(_together_words(count, distance), "warning"))


def _together_words(count: int, distance: float) -> str:
    which = "1 particle lies" if count == 1 else f"{count} particles lie"
    return (
        f"{which} within {distance:.0f} Å of another, as duplicates do; such share a half-set, so that the resolution "
        "is not that of their common noise."
    )


def _groups_of_all(particles: Sequence[Particles], distance: float, *, linked: bool = True) -> IntArray:
    """Groups of the particles of several lists, numbered on, (N,)."""
    found, first = [np.zeros(0, int)], 0
    for part in particles:
        own = linked_groups(part, distance) if linked else _groups_about_kept(part, distance)
        found.append(own + first)
        first += int(own.max(initial=-1)) + 1
    return np.concatenate(found)


def _groups_about_kept(particles: Particles, distance: float) -> IntArray:
    """Group of each particle: that of the nearest one which is no duplicate, (N,)."""
    from scipy.spatial import cKDTree

    kept, groups = ~duplicate_rows(particles, distance), np.zeros(len(particles), int)
    for rows in _rows_by_tomogram(particles):
        own = rows[kept[rows]]
        groups[rows] = own[cKDTree(particles.positions[own]).query(particles.positions[rows])[1]]
    return np.unique(groups, return_inverse=True)[1]


def _balanced(groups: IntArray, seed: int) -> IntArray:
    """Half-set of each particle, (N,): groups at random, larger ones first, each to the smaller half."""
    count = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(count))
    order = order[np.argsort(-count[order], kind="stable")]
    half, sizes = np.zeros(len(count), int), [0, 0]
    for group in order.tolist():
        half[group] = int(sizes[1] < sizes[0])
        sizes[half[group]] += int(count[group])
    return half[groups] + 1


def _apart(
    particles: Sequence[Particles], given: IntArray, groups: IntArray, distance: float
) -> tuple[IntArray, tuple[Note, ...]]:
    """The half-sets given; of a group that is in both, the half of its best particle alone, the rest 0."""
    merit = np.concatenate([_merit(part) for part in particles])
    best = np.lexsort((-merit, groups))
    leader = best[np.unique(groups[best], return_index=True)[1]]
    halves = np.where(given == given[leader][groups], given, 0)
    sizes = " and ".join(str(int((halves == number).sum())) for number in (1, 2))
    notes = [Note(f"Half-sets: those of the list ({HALF_SET}), {sizes} particles.")]
    count = int((halves == 0).sum())
    if count:
        words = "1 particle is" if count == 1 else f"{count} particles are"
        text = f"{words} left out: a duplicate within {distance:.0f} Å is in the other half-set of the list."
        notes.append(Note(text, "warning"))
    return halves, tuple(notes)
