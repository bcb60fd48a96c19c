"""Tilt geometry of a tomogram: from tilt metadata, from options, or as estimated from the power of its patches.

A tomogram has far more patches than picks, and all of them show the wedge: where picks are few and the volume is more
than a row of boxes, patches spread over all of it are used as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.errors import InputError
from napari_orient.engine.io.tilt_metadata import read_tilt_series, tilt_files_beside
from napari_orient.engine.model.noise import finest_filled, mean_power, window
from napari_orient.engine.model.tilt_series import TiltSeries
from napari_orient.engine.model.wedge import NO_WEDGE, Wedge, estimate_wedge, log_likelihood
from napari_orient.engine.parameters import WedgeOptions
from napari_orient.engine.particles import FloatArray, Tomogram, evenly_spaced_rows
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.tomogram.prewhitening import before_levelling

_SAMPLE = 128
"""Patches that the wedge is estimated from, at most. One PolNet patch gives the edges within 3°, ten within 2.5°."""
_ENOUGH_PICKS = 48
"""Picks from which their own patches are enough."""
_LEAST_PATCH_LENGTHS = 2.5
"""Lengths of a patch along the thinnest side of a volume from which patches are spread over it: a smaller volume may be
boxes put side by side, whose seams would show in the power."""
_WIDEST_PATCH = 40
"""Voxels along the patches, at most: the cost grows with their volume."""
_SMOOTH_PATCH = 80
"""Voxels along the patches of a smooth tomogram, at most: its power falls so steeply that the window of smaller ones
spreads the lowest frequencies over all others. After a Gaussian of 2 voxels patches of 40 show ±34°, of 80 -58° to 60°,
where ±60° is true."""
_SHELLS = 20
"""Shells of frequency that large patches are compared in, as many as the usual ones have."""
_UNEVEN_DEG = 4.0
"""Degrees by which the lowest and the highest tilt differ, at least, for the data to show the sign of the tilts."""
_SIGN_NATS = 10.0
"""Log-likelihood by which the other sign of the tilts must be better to be taken: programs differ in it."""
_LETTERS_DEG = {"y": 0.0, "x": 90.0}


@dataclass(frozen=True)
class TiltGeometry:
    """How a tomogram was tilted.

    Parameters
    ----------
    wedge : the missing wedge in force.
    found : the one that the power of the patches shows; None where it is unclear.
    source : where the wedge in force comes from, in words.
    series : the tilt series, from a file of tilt metadata; None where there is none.
    """

    wedge: Wedge
    found: Wedge | None
    source: str
    series: TiltSeries | None = None

    @property
    def note(self) -> str:
        """The wedge and its source, such as ``Missing wedge: tilted about y from -60° to 60° (found in the data)``."""
        return f"Missing wedge: {self.wedge.words} ({self.source})"


def tilt_geometry(tomogram: Tomogram, positions: FloatArray, options: WedgeOptions, *, side: int) -> TiltGeometry:
    """How the tomogram was tilted, as the options give it or else as its patches show it; before it was levelled.

    Parameters
    ----------
    positions : (N, 3) xyz in Å of particles.
    side : voxels along a particle's patch.

    Raises
    ------
    InputError
        If the range of tilts that is given is empty.
    """
    # Levelled noise has no wedge where smoothing left rounding errors alone.
    tomogram = before_levelling(tomogram)
    side = min(side, _WIDEST_PATCH, min(tomogram.density.shape) // 2 * 2)
    places = positions[evenly_spaced_rows(len(positions), _SAMPLE)]
    if len(places) < _ENOUGH_PICKS and min(tomogram.density.shape) >= _LEAST_PATCH_LENGTHS * side:
        places = np.concatenate([places, _spread(tomogram, side, _SAMPLE - len(places))])
    patches = torch.from_numpy(cut_patches(tomogram, places, side=side, centring="rounded", level=True))
    larger = min(_SMOOTH_PATCH, min(tomogram.density.shape) // 2 * 2)
    if larger > side and _power(patches, tomogram.voxel_size)[1]:
        some = evenly_spaced_rows(len(places), max(1, _SAMPLE * side**3 // larger**3))
        middles = _within(places[some], tomogram, larger)
        patches = torch.from_numpy(cut_patches(tomogram, middles, side=larger, centring="rounded", level=True))
    return geometry_of_patches(
        patches, options, voxel_size=tomogram.voxel_size, series=tilt_series_of(tomogram, options)
    )


def _within(positions: FloatArray, tomogram: Tomogram, side: int) -> FloatArray:
    """The positions (N, 3) nearest to these about which patches lie within the volume, xyz in Å."""
    size = np.array(tomogram.extent.size)
    nearest: FloatArray = np.clip(positions / tomogram.voxel_size, side // 2, size - side // 2)
    return nearest * tomogram.voxel_size


def _power(patches: Tensor, voxel_size: float) -> tuple[Tensor | None, float]:
    """Mean power of the patches that show any, (n, n, n) or None, and the finest detail in Å that it holds, or 0."""
    # Patches that are flat, or hold a voxel that is no number, show nothing.
    patches = patches[patches.flatten(1).amax(1) > 0]
    if not len(patches):
        return None, 0.0
    side = patches.shape[-1]
    view = window(side, voxel_size, side * voxel_size / 2)
    power = mean_power(patches, view)
    finest = finest_filled(power, view, voxel_size, shells=_SHELLS)
    return power, max(finest, side * voxel_size / _SHELLS if side > 2 * _SHELLS else 0.0)


def geometry_of_patches(
    patches: Tensor,
    options: WedgeOptions,
    *,
    voxel_size: float,
    series: tuple[TiltSeries, str] | None = None,
) -> TiltGeometry:
    """How a tomogram was tilted, as the options give it or else as the power of some patches shows it.

    Parameters
    ----------
    patches : (N, n, n, n), each of mean 0 and deviation 1; flat ones and those that are not finite are left out.
    voxel_size : Å.
    series : the tilt series of the tomogram and the name of its file, where there is one.

    Raises
    ------
    InputError
        If the range of tilts that is given is empty.
    """
    power, finest = _power(patches, voxel_size)
    found = None if power is None else estimate_wedge(power, voxel_size, finest=finest)
    if series is not None and options.tilt_axis == "found":
        return _of_series(*series, found, power, options, voxel_size=voxel_size, finest=finest)
    wedge = chosen_wedge(options, found)
    if options.tilt_axis != "found":
        return TiltGeometry(wedge, found, "axis as given")
    if found is None:
        return TiltGeometry(wedge, found, "assumed, as the data do not show it; see --tilt-axis")
    return TiltGeometry(wedge, found, "found in the data")


def chosen_wedge(options: WedgeOptions, found: Wedge | None) -> Wedge:
    """The wedge in force: what the options give, else what was found, else ±60° about y.

    Raises
    ------
    InputError
        If the range of tilts is empty.
    """
    if options.tilt_axis == "none":
        return NO_WEDGE
    wedge = found or Wedge()
    if options.tilt_axis != "found":
        axis = _LETTERS_DEG.get(options.tilt_axis)
        wedge = _about(wedge, float(options.tilt_axis) if axis is None else axis)
    if wedge.complete and not (options.lowest_tilt is None and options.highest_tilt is None):
        wedge = Wedge()
    low = wedge.low_deg if options.lowest_tilt is None else options.lowest_tilt
    high = wedge.high_deg if options.highest_tilt is None else options.highest_tilt
    return replace(wedge, low_deg=low, high_deg=high)


def _about(wedge: Wedge, axis_deg: float) -> Wedge:
    """The wedge with a given axis; ±60° where it was found about quite another."""
    if not wedge.same_axis(Wedge(axis_deg)):
        return Wedge(axis_deg)
    if abs((axis_deg - wedge.axis_deg + 180) % 360 - 180) <= 90:
        return replace(wedge, axis_deg=axis_deg)
    # The same axis with the other direction: tilts change their sign, and so does the level.
    low, high, level = -wedge.high_deg, -wedge.low_deg, -wedge.level_deg
    return replace(wedge, axis_deg=axis_deg, low_deg=low, high_deg=high, level_deg=level)


def tilt_series_of(tomogram: Tomogram, options: WedgeOptions) -> tuple[TiltSeries, str] | None:
    """The tilt series that the options name or that lies beside the tomogram, and the name of its file.

    Raises
    ------
    InputError
        If the options name metadata that cannot be read.
    """
    if options.tilts:
        return read_tilt_series(options.tilts, tomogram=tomogram.name), Path(options.tilts).name
    beside = [] if tomogram.path is None else tilt_files_beside(tomogram.path, tomogram.name)
    if len(beside) != 1:
        return None
    try:
        return read_tilt_series(beside[0], tomogram=tomogram.name), f"{beside[0].name}, which lies beside it"
    except InputError:
        # Nobody asked for this file.
        return None


def _of_series(
    series: TiltSeries,
    name: str,
    found: Wedge | None,
    power: Tensor | None,
    options: WedgeOptions,
    *,
    voxel_size: float,
    finest: float,
) -> TiltGeometry:
    """The geometry of a tilt series, of whichever sign of the tilts the power is better explained by."""
    source, wedge = f"tilts of {name}", Wedge.of_series(series)
    negated = series.with_negated_tilts()
    uneven = abs(wedge.low_deg + wedge.high_deg) > _UNEVEN_DEG
    if uneven and power is not None and found is not None and not found.complete:
        other = Wedge.of_series(negated)
        own, its = (log_likelihood(power, voxel_size, item, finest=finest) for item in (wedge, other))
        if its > own + _SIGN_NATS:
            series, wedge, source = negated, other, f"{source}, of the other sign, which fits the data"
    return TiltGeometry(chosen_wedge(options, wedge), found, source, series)


def _spread(tomogram: Tomogram, side: int, count: int) -> FloatArray:
    """At most ``count`` centres of patches, (P, 3) xyz in Å, in a lattice over a volume, none reaching beyond it."""
    size = np.array(tomogram.extent.size) - side
    step = max((np.prod(size.astype(float)) / count) ** (1 / 3), 1.0)
    counts = np.maximum(size // step, 1).astype(int)
    lines = [
        side / 2 + length * (np.arange(number) + 0.5) / number for length, number in zip(size, counts, strict=True)
    ]
    places = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    chosen: FloatArray = np.floor(places[evenly_spaced_rows(len(places), count)]) * tomogram.voxel_size
    return chosen
