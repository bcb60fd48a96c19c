"""Outliers of density, empty spectra, picks outside, poses too far off: each is found, said, and costs nobody else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from phantom import VOXEL_SIZE, molecule, tomogram

from napari_orient.engine.io.columns import ERROR_IF_RIGHT, POSE_UNKNOWN
from napari_orient.engine.model.noise import finest_filled, mean_power, window
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.patches import cut_patches, normalised
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.refine import RefinementResult, refine
from napari_orient.engine.refinement.uncertainty import centre_of_mass, too_far
from napari_orient.engine.rotations import angle_deg, random_rotations
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template
from napari_orient.engine.tomogram.outside import put_back, rows_inside
from napari_orient.engine.tomogram.voxel_outliers import estimate_outlier_limits

OPTIONS = RefinementOptions.of(max_shift=20.0, rotations=900, search_resolution=36.0, precision="precise", device="cpu")
BEAD = np.array([5, 24, 24])
"""Voxel (z, y, x) of the middle of a bead: midway between molecules."""


@pytest.fixture(scope="module")
def found() -> tuple[RefinementResult, Particles]:
    """Molecules refined beside a bead, a hot voxel and one that is no number; a pick on the bead, and one outside."""
    volume, picks, _ = tomogram(molecule(), noise=1.0, off=10.0)
    density = np.array(volume.density, np.float32)
    z, y, x = np.indices(density.shape)
    inside = (z - BEAD[0]) ** 2 + (y - BEAD[1]) ** 2 + (x - BEAD[2]) ** 2 <= 25
    density[inside] -= 40 * density.std()
    density[12, 14, 40] = np.nan
    density[14, 62, 12] = 1e4
    extra = np.array([BEAD[::-1] * VOXEL_SIZE, [-500.0, 0.0, 0.0]], float)
    both = Particles(positions=np.concatenate([picks.positions, extra]), tomogram=volume.name)
    refined = run(
        refine(Tomogram(density, VOXEL_SIZE, volume.name), both, Template(molecule().density(24), VOXEL_SIZE), OPTIONS)
    )
    return refined, picks


def test_beads_and_broken_voxels_cost_no_molecule_its_pose(found: tuple[RefinementResult, Particles]) -> None:
    refined, truth = found
    count = len(truth)
    error = angle_deg(refined.particles.required_rotations()[:count], truth.required_rotations())
    assert error.max() < 10
    assert refined.particles.confidence[:count].min() > 0.95
    assert refined.particles.extra[ERROR_IF_RIGHT][:count].max() < 6


def test_picks_on_a_bead_and_outside_are_unknown_and_the_list_says_why(
    found: tuple[RefinementResult, Particles],
) -> None:
    refined, truth = found
    on_bead = len(truth)
    assert refined.particles.confidence[on_bead] < 0.2
    # The pick outside came without a pose, and none is made up for it.
    assert len(refined.particles) == len(refined.score) == len(truth) + 1
    assert any("1 of them lies outside" in note.text and "is left out" in note.text for note in refined.warnings)


def test_a_list_mostly_outside_is_refused_with_advice() -> None:
    picks = Particles(positions=np.array([[10.0, 10, 10], [900.0, 10, 10], [700.0, 0, 0]]))
    with pytest.raises(Exception, match="2 of 3 particles lie outside t"):
        rows_inside(picks, Extent((20, 20, 20), 10.0), name="t")


def test_particles_put_back_keep_their_order_and_their_own_columns() -> None:
    own = random_rotations(3, np.random.default_rng(0))
    given = Particles(positions=np.arange(9.0).reshape(3, 3), rotations=own, extra={"mine": np.array(["a", "b", "c"])})
    inside = np.array([True, False, True])
    eye = np.tile(np.eye(3), (2, 1, 1))
    part = given[inside].replace(
        rotations=eye,
        confidence=np.array([0.9, 0.8]),
        expected_error_deg=np.array([1.0, 2.0]),
        extra={"mine": np.array(["a", "c"]), ERROR_IF_RIGHT: np.array([1.0, 2.0])},
    )
    whole = put_back(part, given, inside, random_error_deg=130.0)
    np.testing.assert_array_equal(whole.required_rotations()[1], own[1])
    assert whole.extra["mine"].tolist() == ["a", "b", "c"]
    assert whole.confidence.tolist() == [0.9, 0.0, 0.8]
    assert whole.expected_error_deg.tolist() == [1.0, 130.0, 2.0]
    assert np.isnan(whole.extra[ERROR_IF_RIGHT][1])
    assert whole.extra[POSE_UNKNOWN].tolist() == ["", "outside the tomogram", ""]
    without = put_back(part, given.replace(rotations=None), inside, random_error_deg=130.0)
    assert without.extra["mine"].tolist() == ["a", "c"]


def test_noise_has_no_outliers_and_a_bead_is_masked_whole() -> None:
    cubes = np.random.default_rng(0).normal(size=(12, 32, 32, 32)).astype(np.float32)
    limits = estimate_outlier_limits(cubes)
    assert limits is not None
    assert all(limits.mask(cube) is None for cube in cubes)
    line = np.square(np.arange(32) - 16)
    bead = line[:, None, None] + line[:, None] + line <= 16
    mask = limits.mask(cubes[0] - 30 * bead)
    assert mask is not None
    assert mask[bead].all()
    assert mask.sum() < 8 * bead.sum()
    assert abs(limits.fill(cubes[0] - 30 * bead).mean()) < 0.1


def test_patches_hold_no_value_that_is_no_number_and_lose_their_ramp() -> None:
    density = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    density[10, 11, 12] = np.inf
    patch = cut_patches(Tomogram(density, 10.0, "t"), np.full((1, 3), 120.0), side=16)[0]
    assert np.isfinite(patch).all()
    assert patch.std() == pytest.approx(1.0, abs=0.01)
    z, y, x = np.indices((16, 16, 16))
    ramp = 0.3 * z - 0.2 * y + 0.1 * x
    levelled, sloping = (
        np.corrcoef(normalised(ramp + patch, level=level).ravel(), patch.ravel())[0, 1] for level in (True, False)
    )
    assert levelled > 0.99
    assert sloping < 0.8
    np.testing.assert_array_equal(normalised(0.01 * ramp + patch, level=True), normalised(0.01 * ramp + patch))


def test_a_smoothed_spectrum_is_filled_only_so_far() -> None:
    noise = torch.randn(16, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    soft = window(32, 10.0, 100.0)
    assert finest_filled(mean_power(noise, soft), soft, 10.0, shells=16) == 0.0
    step = torch.fft.fftfreq(32)
    low_pass = torch.exp(-2 * (np.pi * 2.0) ** 2 * (step[:, None, None] ** 2 + step[:, None] ** 2 + step**2))
    low_pass *= 1 + 30 * torch.exp(-((step[:, None, None] ** 2 + step[:, None] ** 2 + step**2) / 0.08**2))
    smooth = torch.fft.ifftn(torch.fft.fftn(noise, dim=(1, 2, 3)) * low_pass, dim=(1, 2, 3)).real
    assert 30 < finest_filled(mean_power(smooth, soft), soft, 10.0, shells=16) < 90


def test_a_pose_is_too_far_where_neither_origin_nor_centre_of_mass_is_near_the_pick() -> None:
    shape = molecule()
    density = np.roll(shape.density(32), 3, axis=2).astype(np.float32)
    reference = build_reference(density, VOXEL_SIZE, resolution=30.0)
    centre = centre_of_mass(reference)
    place = (np.arange(32) - 15.5) * VOXEL_SIZE
    assert float(centre[0]) == pytest.approx(float((density.sum((0, 1)) * place).sum() / density.sum()), abs=2.0)
    whole = torch.eye(3).expand(3, 3, 3)
    shifts = torch.stack([torch.zeros(3), -centre, torch.tensor([0.0, 45.0, 0.0])])
    poses = Poses(whole, shifts, 0.01 * whole, whole, 0 * whole, torch.ones(3), torch.ones(3))
    assert too_far(poses, reference, max_shift=20.0).tolist() == [False, False, True]
