"""Gold beads: their rays go with them, and what has no beads stays as it is."""

import numpy as np
import pytest

from napari_orient.engine.particles import Tomogram
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import load_template
from napari_orient.engine.tomogram.gold_beads import GoldBeads, estimate_gold_beads

SIZE = 10.0
SHAPE = (60, 110, 110)
CENTRES = np.array(
    [
        *([15.3, 20.1, 22.4], [44.8, 24.2, 80.7], [30.2, 60.4, 50.1], [12.6, 85.3, 30.3], [47.2, 90.4, 84.9]),
        *([30.1, 33.3, 96.2], [30.4, 33.1, 86.0]),
    ]
)
"""Voxels zyx; the last two touch each other."""
STRENGTHS = np.array([1.0, 0.9, 1.1, 1.0, 0.95, 1.05, 1.0])


def rays_and_beads(
    centres: np.ndarray = CENTRES, strengths: np.ndarray = STRENGTHS, radii: np.ndarray | float = 4.5
) -> tuple[np.ndarray, np.ndarray]:
    """Dark balls with a ray along z and another across it, and the balls alone, (z, y, x) each."""
    z, y, x = np.indices(SHAPE, sparse=True)
    whole, balls = np.zeros((2, *SHAPE))
    for centre, strength, radius in zip(centres, strengths, np.broadcast_to(radii, len(centres)), strict=True):
        dz, dy, dx = (axis - place for axis, place in zip((z, y, x), centre, strict=True))
        ball = -20 * strength / (1 + np.exp(2 * (np.sqrt(dz**2 + dy**2 + dx**2) - radius)))
        ray = sum(-2 * strength * np.exp(-(dy**2 + (dx + slope * dz) ** 2) / 18) for slope in (0.0, 1.2))
        balls += ball
        whole += ball + ray
    return whole, balls


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.3, size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def picks() -> np.ndarray:
    rng = np.random.default_rng(1)
    places = rng.uniform(15, [95, 95, 45], (200, 3))
    apart = np.linalg.norm(places[:, None] - CENTRES[:, ::-1], axis=2).min(axis=1)
    return places[(apart > 12) & (apart < 30)][:20] * SIZE


def beads_of(density: np.ndarray, picks: np.ndarray) -> GoldBeads | None:
    return run(estimate_gold_beads(Tomogram(density, SIZE, "t"), picks, radius=80.0, side=240.0))


@pytest.fixture(scope="module")
def golden(noise: np.ndarray, picks: np.ndarray) -> tuple[Tomogram, GoldBeads]:
    """A tomogram with gold, and the beads found."""
    density = (noise + rays_and_beads()[0]).astype(np.float32)
    beads = beads_of(density, picks)
    assert beads is not None
    return Tomogram(density, SIZE, "t"), beads


def test_beads_go_with_their_rays_and_leave_the_rest(golden: tuple[Tomogram, GoldBeads], noise: np.ndarray) -> None:
    (tomogram, beads), (gold, balls) = golden, rays_and_beads()
    assert len(beads) == len(CENTRES)
    np.testing.assert_allclose(np.sort(beads.strengths[:, 0]), np.sort(STRENGTHS), atol=0.05)
    assert beads.hold(CENTRES[:, ::-1] * SIZE + 20.0, SIZE).all()
    assert not beads.hold(np.array([[550.0, 950.0, 300.0]]), SIZE).any()
    left = np.asarray(beads.subtracted_from(tomogram).density) - noise
    far = np.min([np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - place, axis=-1) for place in CENTRES], axis=0)
    rays = (np.abs(gold - balls) > 0.5) & (np.abs(balls) < 0.05) & (far < 25)
    assert np.sqrt(np.mean(left[rays] ** 2)) < 0.35 * np.sqrt(np.mean(gold[rays] ** 2))
    assert np.sqrt(np.mean(left[np.abs(balls) > 1] ** 2)) < 0.1 * np.sqrt(np.mean(gold[np.abs(balls) > 1] ** 2))
    assert np.sqrt(np.mean(left[np.abs(gold) < 0.01] ** 2)) < 0.1


def test_beads_of_two_sizes_and_in_a_cluster_are_each_subtracted_with_their_own_image(
    noise: np.ndarray, picks: np.ndarray
) -> None:
    cluster = [[30.0, 50.0, 50.0], [30.0, 59.0, 52.0], [37.0, 54.0, 55.0], [24.0, 55.0, 57.0]]
    alone = [[15.0, 20.0, 22.0], [45.0, 24.0, 80.0], [12.0, 85.0, 30.0]]
    small = [[47.0, 90.0, 85.0], [30.0, 33.0, 96.0], [40.0, 80.0, 55.0], [20.0, 25.0, 50.0], [33.0, 95.0, 15.0]]
    centres, radii = np.array([*cluster, *alone, *small]), np.repeat([4.5, 2.5], [7, 5])
    strengths = np.ones(12)
    density = (noise + rays_and_beads(centres, strengths, radii)[0]).astype(np.float32)
    beads = beads_of(density, picks)
    assert beads is not None
    assert np.bincount(beads.sizes).tolist() == [7, 5]
    left = np.asarray(beads.subtracted_from(Tomogram(density, SIZE, "t")).density) - noise
    balls = np.abs(rays_and_beads(centres, strengths, radii)[1]) > 1
    assert np.sqrt(np.mean(left[balls] ** 2)) < 0.12 * np.sqrt(np.mean((density - noise)[balls] ** 2))


def test_a_part_that_is_read_is_that_of_the_whole(golden: tuple[Tomogram, GoldBeads]) -> None:
    tomogram, beads = golden
    changed = beads.subtracted_from(tomogram).density
    whole = np.asarray(changed)
    for key in ((3, slice(None), slice(90, 4, -7)), (slice(10, 40, 3), -1, slice(0, 0)), slice(20, 22)):
        np.testing.assert_allclose(changed[key], whole[key], atol=1e-5)


def test_noise_and_few_beads_are_left_as_they_are(noise: np.ndarray, picks: np.ndarray) -> None:
    assert beads_of(noise, picks) is None
    few = noise.copy()
    few[28:33, 58:63, 48:53] -= 20
    assert beads_of(few, picks) is None


def test_a_large_bead_that_a_contrast_transfer_leaves_in_many_parts_is_one() -> None:
    options = SimulationOptions.of(
        size_x=90, size_y=90, size_z=60, imaging="physical", gold=3, gold_diameter=150.0, defocus=3.5, axis_angle=20.0
    )
    tomogram, particles = run(simulate([load_template("3j9i")], options, seed=62, counts=(6,)))
    beads = run(estimate_gold_beads(tomogram, particles.positions, radius=100.0, side=400.0))
    assert beads is not None
    assert len(beads) == 3
