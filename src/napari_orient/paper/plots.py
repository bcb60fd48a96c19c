"""Plots of the experiment, drawn without a screen: the paper's two figures and three more.

The last compares the simulation with other tomograms by the power of signal and noise, missing wedge and voxel values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram
from napari_orient.engine.patches import PatchArray
from napari_orient.engine.reports.figures import LIGHT_GREEN, LIGHT_RED
from napari_orient.engine.rotations import PAPER_20_DEG, even_rotations
from napari_orient.engine.symmetry import Symmetry, symmetric_angle_deg
from napari_orient.paper.stages import Record

_COLOURS = {"6d": "#0a84ff", "quaternion": "#ff9f0a", "euler": "#bf5af2", "9d": "#30b0a0"}
_GREY = "#8e8e93"
_EDGES = np.arange(0, 180.1, 3.0)


def blank(columns: int, *, width: float = 6.0, height: float = 4.6, rows: int = 1) -> tuple[Figure, Any]:
    """White figure and its axes, (rows, columns)."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_angles(panels: Mapping[str, Mapping[str, FloatArray]]) -> Figure:
    """Figure of histograms of the angle between predicted and true rotation by representation: figure 2, right."""
    figure, axes = blank(len(panels))
    for panel, (title, shown) in zip(axes[0], panels.items(), strict=True):
        for name, errors in shown.items():
            label = f"{name}: median {np.median(errors):.1f}°"
            panel.stairs(_shares(errors), _EDGES, color=_COLOURS.get(name, _GREY), linewidth=1.8, label=label)
        radians = np.radians(_EDGES)
        panel.stairs(
            np.diff(radians - np.sin(radians)) / np.pi * 100, _EDGES, color=_GREY, linestyle=":", label="chance"
        )
        _mark_twenty(panel)
        panel.set(
            title=title,
            xlabel="angle between predicted and true rotation (°)",
            ylabel="particles (% per 3°)",
            xlim=(0, 180),
        )
        panel.legend(frameon=False)
    return figure


def draw_axes(truth: Particles, predicted: Mapping[str, Particles], *, name: str, length: float = 180.0) -> Figure:
    """Figure of a test tomogram in oblique view: the particles' z axes, true and predicted: figure 2, left."""
    figure = Figure(figsize=(7.5 * len(predicted), 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for column, (title, output) in enumerate(predicted.items(), start=1):
        panel: Any = figure.add_subplot(1, len(predicted), column, projection="3d")
        for particles, colour, label in ((truth, LIGHT_GREEN, "true"), (output, LIGHT_RED, "predicted")):
            arrows = particles.required_rotations()[:, :, 2]
            panel.quiver(*truth.positions.T, *arrows.T, length=length, color=colour, linewidth=1.3, label=label)
        panel.set(title=f"{title}: {len(truth)} particles of {name}", xlabel="x (Å)", ylabel="y (Å)", zlabel="z (Å)")
        panel.set_aspect("equal")
        panel.view_init(elev=28, azim=-60)
        panel.legend(frameon=False)
    return figure


def draw_neighbours(rows_of: Mapping[str, list[Record]]) -> Figure:
    """Figure of median error and share within 20° against the distance to the nearest neighbour."""
    figure, axes = blank(2)
    for title, rows in rows_of.items():
        middle = [(row["from_angst"] + row["to_angst"]) / 2 for row in rows]
        axes[0][0].plot(middle, [row["median_deg"] for row in rows], marker="o", label=title)
        shares = [100 * row["within_20"] for row in rows]
        bars = [100 * row["within_20_error"] for row in rows]
        axes[0][1].errorbar(middle, shares, bars, marker="o", capsize=3, label=title)
    axes[0][0].set(xlabel="distance to the nearest neighbour (Å)", ylabel="median error (°)", ylim=(0, None))
    axes[0][1].set(xlabel="distance to the nearest neighbour (Å)", ylabel="within 20° (%)", ylim=(0, 102))
    axes[0][1].legend(frameon=False, fontsize="small")
    return figure


def draw_symmetry(rows: Mapping[str, tuple[FloatArray, FloatArray]], group: Symmetry) -> Figure:
    """Figure of histograms of the plain angle and of the least angle over symmetric copies, for each loss."""
    grid = even_rotations(20_000)
    guess = symmetric_angle_deg(grid, np.broadcast_to(np.eye(3), grid.shape), group)
    figure, axes = blank(max(len(rows), 1))
    for panel, (title, (plain, least)) in zip(axes[0], rows.items(), strict=False):
        panel.stairs(
            _shares(plain), _EDGES, color=_COLOURS["quaternion"], linewidth=1.8, label="angle to the one pose named"
        )
        label = f"least over the {len(group)} copies: median {np.median(least):.1f}°"
        panel.stairs(_shares(least), _EDGES, color=_COLOURS["6d"], linewidth=1.8, label=label)
        label = f"chance for the least: median {np.median(guess):.1f}°"
        panel.stairs(_shares(guess), _EDGES, color=_GREY, linestyle=":", label=label)
        _mark_twenty(panel)
        panel.set(title=title, xlabel="angle (°)", ylabel="particles (% per 3°)", xlim=(0, 180))
        panel.legend(frameon=False, fontsize="small")
    return figure


def _shares(errors: FloatArray) -> FloatArray:
    shares: FloatArray = np.histogram(errors, _EDGES)[0] * (100 / max(len(errors), 1))
    return shares


def _mark_twenty(panel: Axes) -> None:
    for angle, words in ((20.0, "20°"), (PAPER_20_DEG, "24.56°")):
        panel.axvline(angle, color="black", linewidth=0.8, linestyle="--")
        panel.annotate(words, (angle, 1), xycoords=("data", "axes fraction"), rotation=90, va="top", fontsize="x-small")


_SIDE = 40
"""Voxels along a patch."""

_TRIALS = 4000
"""Random positions in each tomogram that background patches are chosen from."""

_BACKGROUND_PATCHES = 60
"""Background patches of each tomogram: of the random positions, those farthest from any particle."""

_MOST_PATCHES = 600
"""Patches of a sample in all."""


@dataclass(frozen=True, eq=False)
class PatchStatistics:
    """Statistics of the patches of a sample.

    ``frequency`` (S,) cycles/Å; ``particle`` and ``background`` (S,) mean power in shells, in units of the variance of
    the background; ``wedge`` (side, side) mean power of background over (kz, kx); ``values`` of particle patches.
    """

    frequency: FloatArray
    particle: FloatArray
    background: FloatArray
    wedge: FloatArray
    values: FloatArray


def patch_statistics(molecules: Labelled, everything: Labelled) -> PatchStatistics:
    """Statistics of patches about particles, and of patches far from any."""
    rng = np.random.default_rng(0)
    by_name = {tomogram.name: particles for tomogram, particles in molecules}
    near, far = [], []
    for tomogram, particles in everything:
        positions = _background(tomogram, particles, rng)
        own = by_name.get(tomogram.name)
        if own is None:
            continue
        shares = _MOST_PATCHES // max(len(everything), 1) + 1
        scale = _scale(tomogram, positions)
        near.append(_patches(tomogram, own.positions[:shares], scale))
        far.append(_patches(tomogram, positions[:shares], scale))
    return _statistics(np.concatenate(near), np.concatenate(far), everything[0][0].voxel_size)


def draw_comparison(samples: Mapping[str, PatchStatistics]) -> Figure:
    """Figure of power spectra, wedges and voxel values of several samples."""
    figure, axes = blank(2 + len(samples), width=5)
    for (title, statistics), style in zip(samples.items(), ("-", "--", ":"), strict=False):
        axes[0][0].semilogy(
            statistics.frequency, statistics.particle, style, color="#0a84ff", label=f"{title}: with particle"
        )
        axes[0][0].semilogy(
            statistics.frequency, statistics.background, style, color="#8e8e93", label=f"{title}: background"
        )
        counts, edges = np.histogram(statistics.values, bins=80, range=(-8, 8))
        axes[0][1].stairs(counts / (len(statistics.values) * np.diff(edges)), edges, linestyle=style, label=title)
    axes[0][0].set(title="power in shells", xlabel="frequency (1/Å)", ylabel="power / background's variance")
    axes[0][1].set(title="voxels of particle patches", xlabel="value / background's deviation", yscale="log")
    for panel in axes[0][:2]:
        panel.legend(frameon=False, fontsize="small")
    for panel, (title, statistics) in zip(axes[0][2:], samples.items(), strict=True):
        panel.imshow(np.log10(statistics.wedge + 1e-6), origin="lower", cmap="magma", vmin=-2, vmax=1)
        panel.set(title=f"{title}: background over kx, kz", xlabel="kx", ylabel="kz", xticks=[], yticks=[])
    return figure


def _background(tomogram: Tomogram, particles: Particles, rng: np.random.Generator) -> FloatArray:
    """Positions (N, 3) xyz in Å, half a patch and more from the edges, the farthest from every particle."""
    margin = _SIDE / 2
    free = np.maximum(np.asarray(tomogram.extent.size, float) - 2 * margin, 0)
    positions = (margin + rng.random((_TRIALS, 3)) * free) * tomogram.voxel_size
    distance = cKDTree(particles.positions).query(positions)[0]
    farthest: FloatArray = positions[np.argsort(-distance)][:_BACKGROUND_PATCHES]
    return farthest


def _scale(tomogram: Tomogram, positions: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation of the background."""
    cubes = [_cube(tomogram, place) for place in positions[:20]]
    return float(np.mean(cubes)), float(np.std(cubes))


def _cube(tomogram: Tomogram, panel: FloatArray) -> PatchArray:
    """Patch about a position, moved into the tomogram where it would extend beyond."""
    corner = np.rint(panel[::-1] / tomogram.voxel_size).astype(int) - _SIDE // 2
    corner = np.clip(corner, 0, np.array(tomogram.density.shape) - _SIDE)
    return np.asarray(tomogram.density[tuple(slice(start, start + _SIDE) for start in corner)], np.float32)


def _patches(tomogram: Tomogram, positions: FloatArray, scale: tuple[float, float]) -> FloatArray:
    """Patches in units of the background's standard deviation."""
    cubes = np.array([_cube(tomogram, place) for place in positions])
    return (cubes - scale[0]) / scale[1]


def _statistics(near: FloatArray, far: FloatArray, voxel_size: float) -> PatchStatistics:
    particle, background = (_power(patches) for patches in (near, far))
    line = np.fft.fftshift(np.fft.fftfreq(_SIDE))
    radius = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    shell = np.rint(radius * _SIDE).astype(int).ravel()
    counts = np.bincount(shell)[: _SIDE // 2 + 1]

    def shells(power: FloatArray) -> FloatArray:
        sums: FloatArray = np.bincount(shell, power.ravel())[: _SIDE // 2 + 1] / counts
        return sums

    frequency = np.arange(_SIDE // 2 + 1) / (_SIDE * voxel_size)
    return PatchStatistics(frequency, shells(particle), shells(background), background.mean(axis=1), near.ravel()[::17])


def _power(patches: FloatArray) -> FloatArray:
    """Mean power per voxel of windowed patches, (side, side, side), zero frequency in the middle."""
    line = np.hanning(_SIDE)
    window = line[:, None, None] * line[:, None] * line
    power = np.zeros((_SIDE,) * 3)
    for patch in patches:
        power += np.abs(np.fft.fftshift(np.fft.fftn(patch * window))) ** 2
    mean: FloatArray = power / (max(len(patches), 1) * np.sum(window**2))
    return mean
