"""Predicted particles with given errors beside their true ones, in an empty tomogram."""

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.session.viewer_session import session_of

EXTENT = Extent((100, 90, 50), 10.0)
TURNS = np.array([5.0, 50, 10, 90.001, 15, 30])


def truth_of(count=6, *, tomogram="TS_01", seed=5):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.1, 0.9, (count, 3)) * EXTENT.size * 10.0
    kinds = np.array(["pdb_4v4r", "pdb_3j9i"])[np.arange(count) % 2]
    return Particles(positions=places, rotations=random_rotations(count, rng), kind=kinds, tomogram=tomogram)


def predicted_of(truth, turns=TURNS):
    turned = Rotation.from_rotvec(np.radians(turns[:, None]) * [0, 0, 1.0]).as_matrix()
    return truth.replace(
        rotations=truth.rotations @ turned,
        confidence=np.linspace(0.9, 0.1, len(truth)),
        expected_error_deg=turns / 2 + 1,
    )


def fill(viewer, truth=None, *, known=True, turns=TURNS):
    truth = truth_of() if truth is None else truth
    session = session_of(viewer)
    name = truth.tomogram_names[0]
    rng = np.random.default_rng(1)
    density = rng.normal(size=EXTENT.size[::-1]).astype(np.float32)
    session.show_tomogram(Tomogram(density, EXTENT.voxel_size, name))
    if known:
        session.show_particles(truth, EXTENT, role=TRUTH, name="true")
    return session.show_particles(predicted_of(truth, turns), EXTENT, role=PREDICTED, name="predicted")


def apart(count=60, *, seed=2):
    """Ribosomes in rows 300 Å apart, and their turns: two neighbours in the middle are wrong, and one in a corner."""
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(4), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    truth = Particles(
        positions=100.0 + 200.0 * grid[:count] * [1, 1, 0.75],
        rotations=random_rotations(count, rng),
        kind=np.full(count, "pdb_4v4r"),
        tomogram="TS_01",
    )
    turns = rng.uniform(2, 12, count)
    turns[[0, 31, 34]] = 160.0, 70.0, 45.0
    return truth, turns
