"""The reference's surface at every pose: one merged mesh, coloured as the arrows, with shading in the vertex colours.

Napari works out light anew at every change of a mesh, which takes seconds for hundreds of particles; a fixed light, a
little from above the first slice, is laid into the vertices' colours instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points, Surface
from numpy.typing import NDArray

from napari_orient.engine.particles import FloatArray, Particles
from napari_orient.engine.templates import Template
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import KEY, SURFACE

MOST_PARTICLES = 1000
MOST_VERTICES = 750
"""Of one particle: more would not be visible, and slow to draw."""

LEVELS = (0.05, 0.9)
"""Isovalues that can be asked for, as shares of the map's maximum."""

USUAL_LEVEL = 0.35

_FINEST, _COARSEST = 26, 8
_LIGHT = np.array([-0.35, -0.45, -0.82])
"""Towards the light, xyz: napari views along z from the first slice on."""
_SHADE = 0.42
"""Brightness of what faces away from the light."""
_PALENESS = 0.18
"""White mixed into the arrows' colours, so that light and shade show on them."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """The surface of one particle: vertices (V, 3) xyz in Å from its origin, faces (F, 3), outward normals (V, 3)."""

    vertices: FloatArray
    faces: NDArray[np.uint32]
    normals: FloatArray


class SurfaceShape:
    """A reference of this name, cut down to what its surface needs."""

    def __init__(self, reference: Template, *, name: str) -> None:
        self.reference, self.name = reference, name
        self._grids: dict[int, FloatArray] = {}

    @cached_property
    def radius(self) -> float:
        """Half the side, in Å, of the cube about the origin that holds all that a surface can show."""
        density = self.reference.density
        held = np.argwhere(density > LEVELS[0] * density.max())
        reach = np.abs(held - (len(density) - 1) / 2).max() + 1.5
        return float(reach * self.reference.voxel_size)

    def mesh(self, level: float) -> Mesh:
        """The surface at this share of the map's maximum, as fine as `MOST_VERTICES` lets it be."""
        for side in range(_FINEST, _COARSEST - 1, -2):
            mesh = self._mesh(side, level)
            if len(mesh.vertices) <= MOST_VERTICES:
                return mesh
        return mesh

    def _mesh(self, side: int, level: float) -> Mesh:
        from skimage.measure import marching_cubes

        grid = self._grid(side)
        places, faces, _, _ = marching_cubes(grid, level * grid.max())
        vertices = layer_data.flip(places - (side - 1) / 2) * (2 * self.radius / (side - 1))
        return Mesh(vertices.astype(np.float32), faces.astype(np.uint32), _normals(vertices, faces))

    def _grid(self, side: int) -> FloatArray:
        """The map about its origin on a grid of this side, (side, side, side), [z, y, x], closed at the rim."""
        from scipy.ndimage import gaussian_filter, map_coordinates

        if side not in self._grids:
            density, size = self.reference.density, self.reference.voxel_size
            line = np.linspace(-self.radius, self.radius, side) / size + (len(density) - 1) / 2
            soft = gaussian_filter(density, 0.35 * (line[1] - line[0]))
            grid = map_coordinates(soft, np.meshgrid(line, line, line, indexing="ij"), order=1)
            rim = np.ones_like(grid)
            rim[1:-1, 1:-1, 1:-1] = 0
            self._grids[side] = np.where(rim, 0, grid)
        return self._grids[side]


def _normals(vertices: FloatArray, faces: NDArray[np.integer]) -> FloatArray:
    """Outward unit normals of a closed surface at its vertices, (V, 3): the mean of the faces about each."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if np.einsum("fi,fi->", across, corners.mean(axis=1)) < 0:
        across = -across
    sums = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(sums, faces[:, corner], across)
    normals: FloatArray = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return normals.astype(np.float32)


def merged(particles: Particles, mesh: Mesh, colours: FloatArray) -> tuple[FloatArray, NDArray[np.uint32], FloatArray]:
    """One mesh of the surface at every pose: vertices (N·V, 3) zyx in Å, faces (N·F, 3), colours (N·V, 4) with light.

    Parameters
    ----------
    colours : (N, 3), one for each particle.
    """
    turns = particles.required_rotations().astype(np.float32)
    placed = mesh.vertices @ turns.transpose(0, 2, 1) + particles.positions[:, None].astype(np.float32)
    # The light is rotated into each particle's frame, not the normals out of it.
    facing = mesh.normals @ (turns.transpose(0, 2, 1) @ (_LIGHT / np.linalg.norm(_LIGHT)).astype(np.float32)).T
    bright = _SHADE + (1 - _SHADE) * np.clip(0.5 + 0.5 * facing.T, 0, 1) ** 1.5
    lit = np.ones((*bright.shape, 4), np.float32)
    pale = (_PALENESS + (1 - _PALENESS) * colours).astype(np.float32)
    lit[..., :3] = pale[:, None] * bright[..., None].astype(np.float32)
    first = np.arange(len(particles), dtype=np.uint32)[:, None, None] * np.uint32(len(mesh.vertices))
    return layer_data.flip(placed).reshape(-1, 3), (mesh.faces + first).reshape(-1, 3), lit.reshape(-1, 4)


def surface_layer(viewer: ViewerModel, points: Points) -> Surface | None:
    """The surfaces of a points layer, or None where they are not shown."""
    found = layer_data.drawing_of(viewer, points, SURFACE)
    return found if isinstance(found, Surface) else None


def draw_surface(viewer: ViewerModel, points: Points, particles: Particles, mesh: Mesh, colours: FloatArray) -> Surface:
    """The surfaces of a points layer, drawn anew where they are, or beneath it; never the layer that is active.

    Parameters
    ----------
    particles : those of the layer to show, with poses.
    colours : (N, 3), one for each.
    """
    size = layer_data.voxel_size(points)
    vertices, faces, lit = merged(particles, mesh, colours)
    vertices /= np.float32(size)
    old = surface_layer(viewer, points)
    if not len(vertices):
        # A mesh cannot be empty: one flat triangle that nobody sees.
        vertices, faces, lit = np.zeros((3, 3), np.float32), np.arange(3, dtype=np.uint32)[None], np.zeros((3, 4))
    if old is None:
        return _added(viewer, points, (vertices, faces), lit)
    if len(old.vertices) != len(vertices):
        # Colours of another number of vertices would be refused.
        old.vertex_colors = None
    old.data = (vertices, faces)
    old.vertex_colors = lit
    return old


def _added(
    viewer: ViewerModel, points: Points, mesh: tuple[FloatArray, NDArray[np.uint32]], lit: FloatArray
) -> Surface:
    layer = Surface(
        mesh,
        vertex_colors=lit,
        shading="none",
        name=f"{points.name} surfaces",
        visible=viewer.dims.ndisplay == 3,
        metadata={KEY: {"role": SURFACE, "of": layer_data.identity(points)}},
        **layer_data.world(layer_data.voxel_size(points)),
    )
    # napari searches for what lies under the mouse in the active layer: in a mesh of this size that takes seconds.
    layer_data.add_unselected(viewer, layer, beneath=points, otherwise=points)
    return layer
