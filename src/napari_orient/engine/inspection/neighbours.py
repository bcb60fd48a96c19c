"""Neighbourhoods of particles: distance to the nearest neighbour, and clusters of particles."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_orient.engine.particles import FloatArray, Particles

_MOST_NEIGHBOURS = 40
"""Mean number of neighbours above which the edges of a triangulation replace all pairs, whose list grows with it."""


def nearest_neighbour(particles: Particles, everyone: Particles) -> FloatArray:
    """Distance in Å from each particle to the nearest other one of its tomogram, of any class, (N,); infinite if alone.

    ``everyone`` are all particles there, these among them.
    """
    from scipy.spatial import cKDTree

    nearest = np.full(len(particles), np.inf)
    for name in particles.tomogram_names:
        rows = np.flatnonzero(np.asarray(particles.tomogram) == name)
        others = everyone.of_tomogram(name).positions
        if len(others) > 1:
            # The nearest of all is the particle itself.
            distances, _ = cKDTree(others).query(particles.positions[rows], k=2)
            nearest[rows] = np.asarray(distances)[:, 1]
    return nearest


def clusters(particles: Particles, distance: float) -> NDArray[np.int_]:
    """Number of each particle's cluster, (N,): 1 is the largest; 0 for a particle alone.

    Clusters are by single linkage: particles within ``distance`` Å of each other are in the same one.
    """
    labels = _components(_pairs(particles, distance), len(particles))
    sizes = np.bincount(labels, minlength=1)
    # Among clusters of equal size, the order is that of their first particles.
    order = np.argsort(-sizes, kind="stable")
    numbers = np.zeros(len(sizes), int)
    numbers[order] = np.arange(1, len(sizes) + 1)
    numbers[sizes <= 1] = 0
    return np.asarray(numbers[labels], int)


def _pairs(particles: Particles, distance: float) -> NDArray[np.int_]:
    """Pairs of rows, (P, 2), of particles of one tomogram within ``distance`` Å: enough pairs to link every cluster."""
    found = [np.zeros((0, 2), int)]
    for name in particles.tomogram_names:
        rows = np.flatnonzero(np.asarray(particles.tomogram) == name)
        found.append(rows[_links(particles.positions[rows], distance)])
    return np.concatenate(found)


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


def _components(pairs: NDArray[np.int_], count: int) -> NDArray[np.int_]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], int)
