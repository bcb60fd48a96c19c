"""Sample data: a small simulated tomogram, its picks and their true poses."""

from __future__ import annotations

from functools import cache

from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template
from napari_orient.gui import layers
from napari_orient.gui.axes import ViewOptions, axes_parts
from napari_orient.gui.layers import PICKS, TRUTH, LayerParts

NAME = "sample_001"
SEED = 7
"""Random seed of the simulation; any other gives another sample of the same kind."""

OPTIONS = SimulationOptions(size_x=160, size_y=160, size_z=80)
"""Options of the sample: 160 × 160 × 80 voxels, simulated in seconds."""
COUNTS = {"ribosome": 40, "proteasome": 20}
"""Particles of each template in the sample."""


@cache
def simulated_sample() -> tuple[Tomogram, Particles]:
    """The sample's tomogram and its particles with true poses."""
    templates = [load_template(name) for name in COUNTS]
    return run(simulate(templates, OPTIONS, seed=SEED, name=NAME, counts=list(COUNTS.values())))


def sample_layers() -> list[LayerParts]:
    """The sample as layers: tomogram, picks without poses, and true poses with green arrows."""
    tomogram, truth = simulated_sample()
    true = layers.particles_parts(truth, tomogram.extent, role=TRUTH, name=f"{NAME} truth")
    axes = axes_parts(truth, true, ViewOptions())
    picks = truth.replace(rotations=None)
    picked = layers.particles_parts(picks, tomogram.extent, role=PICKS, name=f"{NAME} picks")
    return [layers.tomogram_parts(tomogram), *([axes] if axes else []), true, picked]
