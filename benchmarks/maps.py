"""How like a template a map is, once the template is turned over it: correlation at 30 Å and Fourier shells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from napari_orient.engine.averaging import Average
from napari_orient.engine.discovery.search import align_map
from napari_orient.engine.map_resolution import FSC, fourier_shell_correlation
from napari_orient.engine.model.grid import frequencies, offsets, soft_ball


@dataclass(frozen=True, eq=False)
class Match:
    """A map beside its template.

    Parameters
    ----------
    correlation : of the two within the mask, nothing finer than 30 Å.
    curve : their Fourier shell correlation within the mask.
    template : (n, n, n) turned over the map, nothing finer than 30 Å.
    """

    correlation: float
    curve: FSC
    template: np.ndarray

    @property
    def resolution(self) -> float:
        """Å at which the shells fall below 0.5."""
        return self.curve.resolution(0.5)


def match(found: Average, template: np.ndarray, voxel_size: float, *, radius: float) -> Match:
    """The map beside the template (m, m, m), which is turned and moved over it."""
    size = found.voxel_size
    turn, origin = align_map(
        found.as_reference(), template, voxel_size=size, target_voxel_size=voxel_size, radius=radius
    )
    over = laid_over(template, voxel_size, len(found.density), size, turn=turn, origin=origin)
    mask = soft_ball((offsets(len(over), size) + size / 2).norm(dim=-1), radius, 4 * size).numpy()
    coarse = [low_pass(part, size, 30.0) for part in (found.density, over)]
    inside = mask > 0.5
    correlation = float(np.corrcoef(coarse[0][inside], coarse[1][inside])[0, 1])
    return Match(correlation, fourier_shell_correlation(found.density * mask, over * mask, size), coarse[1])


def laid_over(
    template: np.ndarray, voxel_size: float, side: int, map_voxel_size: float, *, turn: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """The template on a map's grid, (side, side, side): its point y lies at ``turn @ y + origin``, from the centre."""
    line = (np.arange(side) - (side - 1) / 2) * map_voxel_size
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    own = (np.stack([x, y, z], axis=-1) - origin) @ turn
    places = np.moveaxis(own[..., ::-1], -1, 0) / voxel_size + (len(template) - 1) / 2
    return map_coordinates(template, places, order=3)


def low_pass(density: np.ndarray, voxel_size: float, resolution: float) -> np.ndarray:
    """Nothing finer than a resolution in Å."""
    grid = frequencies(len(density), voxel_size).norm(dim=-1).numpy()
    return np.fft.ifftn(np.fft.fftn(density) * (grid <= 1 / resolution)).real
