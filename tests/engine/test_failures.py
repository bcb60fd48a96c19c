"""Failure regions and associations: known arrangements in, the right regions, chances and ranks out."""

import tracemalloc

import numpy as np
import pytest

from napari_orient.engine.inspection.failures import associations, find_failures
from napari_orient.engine.inspection.quantities import beam_angle_deg, face_distance, local_contrast, neighbours
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.streams import run

DIAMETER = 250.0


def spread(count, seed=0, size=(2200, 2200, 900), tomogram="TS_01", **columns):
    rng = np.random.default_rng(seed)
    return Particles(positions=rng.uniform(0, size, (count, 3)), tomogram=tomogram, **columns)


def failures_of(particles, errors, *, seed=0, **given):
    rng = np.random.default_rng(seed)
    return find_failures(particles, np.asarray(errors, float), threshold=20.0, diameter=DIAMETER, rng=rng, **given)


def test_two_failures_that_are_neighbours_are_region_a_and_a_distant_one_is_b():
    particles = Particles(
        positions=[[100.0, 100, 100], [366, 100, 100], [1500, 100, 100], [1600, 900, 100]], tomogram="TS_01"
    )
    found = failures_of(particles, [21.0, 25.0, 3.0, 90.0])
    assert [(region.name, region.rows.tolist()) for region in found.regions] == [("A", [1, 0]), ("B", [3])]
    first = found.regions[0]
    assert first.extent == pytest.approx(266)
    np.testing.assert_allclose(first.centre, [233, 100, 100])
    assert first.words == "A: 2 failures, 266 Å apart, near (233, 100, 100) Å; nearest particle 266 Å away"


def test_right_particles_between_failures_do_not_link_them_nor_does_another_tomogram():
    particles = Particles(
        positions=[[0.0, 0, 0], [300, 0, 0], [600, 0, 0], [0, 0, 0]], tomogram=np.array(["a", "a", "a", "b"])
    )
    found = failures_of(particles, [40.0, 5.0, 40.0, 50.0])
    assert sorted(region.rows.tolist() for region in found.regions) == [[0], [2], [3]]


def test_failures_put_beside_each_other_gather_and_failures_at_random_do_not():
    particles = spread(200)
    corner = np.linalg.norm(particles.positions - [500, 500, 400], axis=1)
    errors = np.where(np.argsort(np.argsort(corner)) < 12, 60.0, 4.0)
    assert failures_of(particles, errors).p_value < 0.01
    rng = np.random.default_rng(1)
    values = [failures_of(particles, rng.permutation(errors), seed=seed).p_value for seed in range(20)]
    assert np.mean(np.array(values) < 0.05) <= 0.2
    assert 0.2 < np.mean(values) < 0.9


def test_nothing_is_claimed_of_one_failure_or_of_failures_everywhere():
    particles = spread(30)
    assert failures_of(particles, [50.0] + [1.0] * 29).p_value is None
    assert failures_of(particles, [50.0] * 30).p_value is None


def test_nothing_is_claimed_of_particles_too_close_to_be_true_and_no_pairs_of_them_fill_memory():
    """As where the pixel size is wrong: 10,000 had 48 million pairs, 4 GB."""
    rng = np.random.default_rng(0)
    particles = spread(2000).replace(positions=rng.uniform(0, 200, (2000, 3)))
    tracemalloc.start()
    try:
        assert failures_of(particles, rng.permutation([50.0] * 400 + [1.0] * 1600)).p_value is None
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
    none = failures_of(particles, [1.0] * 30)
    assert (none.regions, none.words) == ((), "No failures.")


def test_a_region_names_the_class_of_its_neighbours_and_the_nearest_face():
    particles = Particles(
        positions=[[1000.0, 1000, 80], [1200, 1000, 120]], tomogram="TS_01", kind=np.array(["4v4r", "4v4r"])
    )
    everyone = Particles(
        positions=[[1000.0, 1000, 80], [1200, 1000, 120], [1000, 1100, 80], [1200, 1100, 120]],
        tomogram="TS_01",
        kind=np.array(["4v4r", "4v4r", "3j9i", "3j9i"]),
    )
    extents = {"TS_01": Extent((220, 220, 90), 10.0)}
    (region,) = failures_of(particles, [50.0, 60.0], everyone=everyone, extents=extents).regions
    assert region.neighbour_classes == ("3j9i",)
    assert region.nearest == (100.0, 100.0)
    assert region.border == pytest.approx(85)


def test_distances_to_faces_and_angles_to_the_beam():
    particles = Particles(
        positions=[[0.0, 50, 50], [95, 50, 40]],
        rotations=np.stack([np.eye(3), [[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]]),
        tomogram="TS_01",
    )
    extent = Extent((10, 20, 30), 10.0)
    np.testing.assert_allclose(face_distance(particles, {"TS_01": extent}), [5, 0])
    assert np.isnan(face_distance(particles, {})).all()
    np.testing.assert_allclose(beam_angle_deg(particles), [0, 90])


def test_the_property_that_errors_were_made_from_ranks_first_and_noise_is_not_significant():
    rng = np.random.default_rng(2)
    near, noise = rng.uniform(200, 500, 80), rng.normal(size=(5, 80))
    errors = 1e4 / near + rng.normal(0, 4, 80)
    kinds = np.where(errors + rng.normal(0, 3, 80) > np.median(errors), "crowded", "free")
    given = {"nearest": near, "class of the nearest": kinds, **{f"noise {n}": row for n, row in enumerate(noise)}}
    found = {one.name: one for one in associations(errors, given)}
    assert next(iter(found)) in ("nearest", "class of the nearest")
    assert found["nearest"].strength < -0.7
    assert found["nearest"].significant
    assert found["class of the nearest"].significant
    assert not any(found[f"noise {n}"].significant for n in range(5))


def test_false_associations_are_as_rare_as_promised_for_all_properties_together():
    rng = np.random.default_rng(3)

    def claims():
        properties = {str(number): rng.normal(size=40) for number in range(8)}
        return any(one.significant for one in associations(rng.exponential(5, 40), properties))

    claimed = [claims() for _ in range(100)]
    assert np.mean(claimed) < 0.12


def test_five_particles_and_constant_columns_assert_nothing():
    rng = np.random.default_rng(4)
    assert associations(rng.normal(size=5), {"near": rng.normal(size=5)}) == ()
    assert associations(rng.normal(size=50), {"same": np.ones(50), "class": np.full(50, "4v4r")}) == ()


def test_the_nearest_particle_has_its_class():
    particles = Particles(positions=[[0.0, 0, 0], [100, 0, 0]], tomogram="a", kind=np.array(["x", "y"]))
    near = neighbours(particles, particles)
    assert near.distance.tolist() == [100, 100]
    assert near.kind.tolist() == ["y", "x"]


def test_strengths_and_probabilities_are_scipys():
    from scipy import stats

    rng = np.random.default_rng(5)
    errors, values = (
        rng.integers(0, 20, 60).astype(float),
        rng.integers(0, 9, 60).astype(float) + rng.integers(0, 2, 60),
    )
    kinds = np.array(["a", "b", "c"])[rng.integers(0, 3, 60)]
    (numeric,) = associations(errors, {"value": values})
    oracle = stats.spearmanr(errors, values)
    assert (numeric.strength, numeric.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))
    (classes,) = associations(errors, {"class": kinds})
    oracle = stats.kruskal(*(errors[kinds == kind] for kind in "abc"))
    assert (classes.strength, classes.p_value) == pytest.approx((oracle.statistic / 59, oracle.pvalue))


def test_the_contrast_of_a_ball_in_noise_is_its_density_over_the_noise_and_unknown_at_the_rim():
    rng = np.random.default_rng(6)
    z, y, x = np.indices((40, 60, 60))
    ball = (z - 20) ** 2 + (y - 30) ** 2 + (x - 25.4) ** 2 <= 12**2
    density = (rng.normal(0, 0.5, ball.shape) - ball).astype(np.float32)
    places = [[254.0, 300, 200], [450, 450, 200], [20, 20, 20]]
    found = run(local_contrast(Tomogram(density, 10.0, "a"), np.array(places), diameter=240.0))
    assert found[0] == pytest.approx(2.0, rel=0.05)
    assert found[1] < 0.3
    assert np.isnan(found[2])
