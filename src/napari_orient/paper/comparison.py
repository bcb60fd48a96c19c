"""Our simulation beside other tomograms: power of signal and noise, wedge, and the patches' own statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from napari_orient.engine.particles import FloatArray, Labelled, Particles, Tomogram
from napari_orient.engine.patches import PatchArray
from napari_orient.paper.pictures import blank

_SIDE = 40
_PLACES = 60
"""Patches of background of each tomogram: of many places, those farthest from any particle."""
_MOST = 600


@dataclass(frozen=True, eq=False)
class Look:
    """How patches of a sample look.

    ``frequency`` (S,) cycles/Å; ``particle`` and ``background`` (S,) mean power in shells, in units of the variance of
    the background; ``wedge`` (side, side) mean power of background over (kz, kx); ``values`` those of particle patches.
    """

    frequency: FloatArray
    particle: FloatArray
    background: FloatArray
    wedge: FloatArray
    values: FloatArray


def compare_samples(subjects: Labelled, everything: Labelled) -> Look:
    """The look of a sample: patches round its subjects, and patches far from any particle."""
    rng = np.random.default_rng(0)
    by_name = {tomogram.name: particles for tomogram, particles in subjects}
    near, far = [], []
    for tomogram, particles in everything:
        places = _background(tomogram, particles, rng)
        own = by_name.get(tomogram.name)
        if own is None:
            continue
        shares = _MOST // max(len(everything), 1) + 1
        scale = _scale(tomogram, places)
        near.append(_patches(tomogram, own.positions[:shares], scale))
        far.append(_patches(tomogram, places[:shares], scale))
    return _look(np.concatenate(near), np.concatenate(far), everything[0][0].voxel_size)


def draw_comparison(looks: Mapping[str, Look]) -> Figure:
    """Power spectra, wedges and voxel values side by side."""
    figure, axes = blank(2 + len(looks), width=5)
    for (title, look), style in zip(looks.items(), ("-", "--", ":"), strict=False):
        axes[0][0].semilogy(look.frequency, look.particle, style, color="#0a84ff", label=f"{title}: with particle")
        axes[0][0].semilogy(look.frequency, look.background, style, color="#8e8e93", label=f"{title}: background")
        counts, edges = np.histogram(look.values, bins=80, range=(-8, 8))
        axes[0][1].stairs(counts / (len(look.values) * np.diff(edges)), edges, linestyle=style, label=title)
    axes[0][0].set(title="power in shells", xlabel="frequency (1/Å)", ylabel="power / background's variance")
    axes[0][1].set(title="voxels of particle patches", xlabel="value / background's deviation", yscale="log")
    for place in axes[0][:2]:
        place.legend(frameon=False, fontsize="small")
    for place, (title, look) in zip(axes[0][2:], looks.items(), strict=True):
        place.imshow(np.log10(look.wedge + 1e-6), origin="lower", cmap="magma", vmin=-2, vmax=1)
        place.set(title=f"{title}: background over kx, kz", xlabel="kx", ylabel="kz", xticks=[], yticks=[])
    return figure


def _background(tomogram: Tomogram, particles: Particles, rng: np.random.Generator) -> FloatArray:
    """Places (N, 3) xyz in Å, half a patch and more from the rim, the farthest from every particle."""
    margin = _SIDE / 2
    room = np.maximum(np.asarray(tomogram.extent.size, float) - 2 * margin, 0)
    places = (margin + rng.random((4000, 3)) * room) * tomogram.voxel_size
    distance = cKDTree(particles.positions).query(places)[0]
    farthest: FloatArray = places[np.argsort(-distance)][:_PLACES]
    return farthest


def _scale(tomogram: Tomogram, places: FloatArray) -> tuple[float, float]:
    """Mean and deviation of the background."""
    cubes = [_cube(tomogram, place) for place in places[:20]]
    return float(np.mean(cubes)), float(np.std(cubes))


def _cube(tomogram: Tomogram, place: FloatArray) -> PatchArray:
    """The patch round a place, moved into the tomogram where it would stick out."""
    corner = np.rint(place[::-1] / tomogram.voxel_size).astype(int) - _SIDE // 2
    corner = np.clip(corner, 0, np.array(tomogram.density.shape) - _SIDE)
    return np.asarray(tomogram.density[tuple(slice(start, start + _SIDE) for start in corner)], np.float32)


def _patches(tomogram: Tomogram, positions: FloatArray, scale: tuple[float, float]) -> FloatArray:
    """Patches in units of the background's deviation."""
    cubes = np.array([_cube(tomogram, place) for place in positions])
    return (cubes - scale[0]) / scale[1]


def _look(near: FloatArray, far: FloatArray, voxel_size: float) -> Look:
    particle, background = (_power(patches) for patches in (near, far))
    line = np.fft.fftshift(np.fft.fftfreq(_SIDE))
    radius = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    shell = np.rint(radius * _SIDE).astype(int).ravel()
    counts = np.bincount(shell)[: _SIDE // 2 + 1]

    def shells(power: FloatArray) -> FloatArray:
        sums: FloatArray = np.bincount(shell, power.ravel())[: _SIDE // 2 + 1] / counts
        return sums

    frequency = np.arange(_SIDE // 2 + 1) / (_SIDE * voxel_size)
    return Look(frequency, shells(particle), shells(background), background.mean(axis=1), near.ravel()[::17])


def _power(patches: FloatArray) -> FloatArray:
    """Mean power a voxel of windowed patches, (side, side, side), zero frequency in the middle."""
    line = np.hanning(_SIDE)
    window = line[:, None, None] * line[:, None] * line
    power = np.zeros((_SIDE,) * 3)
    for patch in patches:
        power += np.abs(np.fft.fftshift(np.fft.fftn(patch * window))) ** 2
    mean: FloatArray = power / (max(len(patches), 1) * np.sum(window**2))
    return mean
