"""Views of a network's picks: where particles differ it is noticed, and who differs; where only wedges do it is not."""

import re

import numpy as np
import pytest
import torch

from napari_orient.engine.networks.average_score import PosedPatches
from napari_orient.engine.networks.mixture import PoseMixture
from napari_orient.engine.networks.view_variability import ViewLowPass, ViewVariability, wedge_axes
from napari_orient.engine.parameters import MixtureOptions
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import random_rotations

OPTIONS = MixtureOptions(
    patch_side=20,
    patch_voxel_size=20.0,
    network_resolution=45.0,
    components=8,
    width=8,
    refiner_components=8,
    refiner_width=8,
)
MIXTURE = PoseMixture(OPTIONS)
AXES = torch.eye(3)[[2, 1]]
RADIUS = 130.0


def wedged(views: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """Views (N, F) without what lies within 30° of the beam's axis, which the rotations bring into the frame."""
    side = OPTIONS.view_side
    line = torch.fft.fftfreq(side)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    frequency = torch.stack([x, y, z], dim=-1) @ rotations.transpose(1, 2)[:, None, None]
    seen = frequency[..., 2].abs() * np.tan(np.radians(30)) <= frequency[..., 0].abs()
    cubes = torch.zeros(len(views), side**3)
    cubes[:, MIXTURE.voxels[0]] = views
    spectra = torch.fft.fftn(cubes.view(-1, side, side, side), dim=(1, 2, 3)) * seen
    return torch.fft.ifftn(spectra, dim=(1, 2, 3)).real.flatten(1)[:, MIXTURE.voxels[0]]


def whitened(seed: int, rotation: torch.Tensor | None = None) -> torch.Tensor:
    """A map (F,) of dark and bright blobs in a ball, its norm 16; rotated."""
    rng = np.random.default_rng(seed)
    places = torch.from_numpy(rng.normal(size=(16, 3)) * 50).float()
    if rotation is not None:
        places = places @ rotation.T
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], size=16)).float()
    blobs = torch.exp(-torch.cdist(MIXTURE.places, places).square() / (2 * 18.0**2)) @ signs * MIXTURE.weights
    return 16 * blobs / blobs.norm()


OTHER = 0.8 * whitened(7)


def posed(count: int, *, other: torch.Tensor | None = None, seed: int = 1) -> PosedPatches:
    """Picks 500 Å apart, of one map, or every second with another one beside it; their log-odds are lower."""
    rng = np.random.default_rng(seed)
    rotations = torch.from_numpy(random_rotations(count, rng)).float()
    views = whitened(0).expand(count, -1)
    differ = torch.arange(count) % 2 == 1
    if other is not None:
        views = views + differ[:, None] * other
    views = wedged(views, rotations) + torch.from_numpy(rng.normal(size=views.shape)).float()
    log_odds = torch.where(differ, 3.0, 9.0) + torch.from_numpy(rng.normal(size=count)).float()
    positions = np.zeros((count, 3)) + 500.0 * (1000 * seed + np.arange(count))[:, None]
    return PosedPatches(positions, torch.full((count,), 0.95), log_odds, rotations, views)


def variability(sample: PosedPatches) -> ViewVariability | None:
    return ViewVariability.estimate(
        sample, sample.right, axes=AXES, voxels=MIXTURE.voxels, options=OPTIONS, radius=RADIUS
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_particles_of_one_kind_do_not_differ_though_their_wedges_do(seed):
    assert variability(posed(60, seed=seed)) is None


def test_who_differs_is_known_of_the_sample_and_of_picks_that_come_later():
    found = variability(posed(60, other=OTHER))
    assert found is not None
    for picks in (posed(60, other=OTHER), posed(40, other=OTHER, seed=4)):
        above = found.coordinates(picks) > 0
        assert (above == (torch.arange(len(above)) % 2 == 1)).float().mean() > 0.85
    match = re.search("of 60 compared, ([0-9]+) have orientVariability above", found.note.text)
    assert match
    assert 25 <= int(match[1]) <= 35
    assert "fit this network less" in found.note.text


def test_few_right_poses_and_doubles_of_one_particle_say_nothing():
    assert variability(posed(20, other=OTHER)) is None
    one = posed(30)
    doubles = PosedPatches(
        np.concatenate([one.positions, one.positions + 5]),
        *(torch.cat([column, column]) for column in (one.right, one.log_odds, one.rotations, one.views)),
    )
    assert variability(doubles) is None


@pytest.mark.parametrize("axis", [(0, 1, 0), (0.5, 0.75**0.5, 0), (1, 0, 0)])
def test_the_axes_of_the_wedge_are_those_of_the_power(axis):
    side = OPTIONS.view_side
    line, half = torch.fft.fftfreq(side, 1 / side), torch.arange(side // 2 + 1).float()
    z, y, x = torch.meshgrid(line, line, half, indexing="ij")
    across = x * axis[1] - y * axis[0]
    found = wedge_axes((z.abs() * np.tan(np.radians(30)) <= across.abs()).float())
    assert float(found[0].abs() @ torch.tensor([0.0, 0, 1])) > 0.95
    # The third lies along the tilt axis.
    assert float(torch.linalg.cross(*found).abs() @ torch.tensor(axis, dtype=torch.float).abs()) > 0.95


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_view_changes_as_its_derivatives_say_when_it_rotates(axis):
    cube = ViewLowPass(MIXTURE.voxels[0], OPTIONS.view_side, OPTIONS.view_side)
    angle = 0.02
    rotvec = angle * torch.eye(3)[axis]
    change = (whitened(3, rotvec_to_matrix(rotvec)) - whitened(3, rotvec_to_matrix(-rotvec))) / (2 * angle)
    derivative = cube.rotation_derivatives(whitened(3))[axis]
    assert float(torch.nn.functional.cosine_similarity(change, derivative, dim=0)) > 0.97
    assert float(derivative.norm() / change.norm()) == pytest.approx(1.0, abs=0.1)


def test_who_differs_expects_to_be_displaced_and_the_others_do_not():
    picks = posed(60, other=OTHER)
    found = variability(picks)
    assert found is not None
    added = found.displacement_deg(found.coordinates(picks))
    differ = torch.arange(60) % 2 == 1
    assert float(added[differ].median()) > 3 * float(added[~differ].median())
    # As much as the rotation is worth in noise as strong as the particle, which its views' change gives.
    changes = found.low_pass.rotation_derivatives(whitened(0)) / 16
    expected = torch.rad2deg(torch.linalg.inv(changes @ changes.T).diagonal().sum().sqrt())
    assert found.unit_bound_deg2**0.5 == pytest.approx(float(expected), rel=0.25)
