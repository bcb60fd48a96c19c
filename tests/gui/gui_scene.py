"""A small scene: a noise tomogram on disk, particles in it, and a network that was never trained."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from napari_orient.engine.io import write_particles, write_tomogram
from napari_orient.engine.networks.mlp import MLP
from napari_orient.engine.networks.network import Network
from napari_orient.engine.parameters import NetworkOptions
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.event_loop import Deferred

VOXEL_SIZE = 13.5


@dataclass
class Scene:
    folder: Path
    extent: Extent
    truth: Particles
    mrc: Path
    picks: Path
    true: Path
    model: Path


def make_scene(folder, *, name="TS_01", count=12, seed=3):
    rng = np.random.default_rng(seed)
    shape = (32, 48, 56)
    extent = Extent(shape[::-1], VOXEL_SIZE)
    density = rng.standard_normal(shape).astype(np.float32)
    truth = Particles(
        positions=rng.uniform(12, 20, (count, 3)) * VOXEL_SIZE * [1.6, 1.4, 1],
        rotations=random_rotations(count, rng),
        tomogram=name,
        kind=np.array(["pdb_4v4r", "pdb_3j9i"])[np.arange(count) % 3 // 2],
        extra={"rlnGroupName": np.array([f"{row:03d}" for row in range(count)])},
    )
    paths = {stem: folder / f"{name}_{stem}.star" for stem in ("picks", "true")}
    write_tomogram(folder / f"{name}.mrc", density, voxel_size=VOXEL_SIZE)
    write_particles(paths["picks"], truth.replace(rotations=None), extents={name: extent})
    write_particles(paths["true"], truth, extents={name: extent})
    model = folder / "tiny.safetensors"
    tiny_checkpoint().save(model)
    return Scene(folder, extent, truth, folder / f"{name}.mrc", paths["picks"], paths["true"], model)


def tiny_checkpoint(name="tiny"):
    options = NetworkOptions(width=8, depth=1, patch_side=16, patch_voxel_size=VOXEL_SIZE, mask_radius=80.0)
    network = MLP(options, generator=torch.Generator().manual_seed(0))
    network.calibration.copy_(torch.tensor([25.0, 1.0]))
    return Network.of(network, name=name, card={"classes": ["pdb_4v4r"], "fingerprint": "abc"})


EXTENT = Extent((56, 48, 32), VOXEL_SIZE)


def some_particles(count=6, *, posed=True, seed=4):
    """Particles of two classes in the middle of `EXTENT`, without a tomogram."""
    rng = np.random.default_rng(seed)
    return Particles(
        positions=rng.uniform(100, 300, (count, 3)),
        rotations=random_rotations(count, rng) if posed else None,
        expected_error_deg=rng.uniform(2, 30, count) if posed else None,
        tomogram="TS_01",
        kind=np.array(["a", "b"])[np.arange(count) % 2],
        extra={"rlnGroupName": np.array([f"{row:03d}" for row in range(count)])},
    )


def settle(dock):
    """What the dock has put off to a later turn of the event loop is done now."""
    if hasattr(dock, "inspected"):
        dock.inspected.settle()
        dock.session.failure_view.settle()
    for later in dock.findChildren(Deferred):
        later.settle()
