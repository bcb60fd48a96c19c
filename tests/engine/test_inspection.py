import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_orient.engine import duplicates
from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.quantities import InspectionOptions, clusters, inspect, neighbours
from napari_orient.engine.particles import Particles, concatenate
from napari_orient.engine.rotations import random_rotations


def line(*x, tomogram="TS_01", **columns):
    return Particles(positions=[[place, 0.0, 0.0] for place in x], tomogram=tomogram, **columns)


def test_the_nearest_neighbour_may_be_of_another_kind_but_not_of_another_tomogram():
    particles = Particles(positions=[[0, 0, 0], [100.0, 0, 0], [0, 0, 0]], tomogram=np.array(["a", "a", "b"]))
    strangers = Particles(positions=[[0, 30.0, 0], [0, 1, 0]], tomogram=np.array(["a", "b"]))
    everyone = concatenate([particles, strangers])
    np.testing.assert_allclose(neighbours(particles, everyone).distance, [30, 100, 1])


def test_one_alone_has_no_neighbour():
    assert neighbours(line(5), line(5)).distance.tolist() == [np.inf]


def test_a_cluster_is_what_one_walks_through_in_short_steps_and_the_largest_is_number_one():
    particles = line(0, 1000, 90, 2000, 180, 1050)
    assert clusters(particles, 100).tolist() == [1, 2, 1, 0, 1, 2]
    assert clusters(particles, 80).tolist() == [0, 1, 0, 0, 0, 1]
    assert clusters(particles, 1e5).tolist() == [1] * 6


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("distance", [45, 60, 80, 5000])
def test_clusters_of_a_crowd_are_those_that_all_pairs_give(monkeypatch, flat, distance):
    rng = np.random.default_rng(3)
    positions = rng.uniform(0, 500, (200, 3)) * ([1, 1, 0] if flat else [1, 1, 0.5])
    positions[150:] = positions[:50]
    crowd = Particles(positions=positions, tomogram="TS_01")
    monkeypatch.setattr(duplicates, "_MOST_NEIGHBOURS", 10_000)
    by_pairs = clusters(crowd, distance)
    monkeypatch.setattr(duplicates, "_MOST_NEIGHBOURS", 0)
    np.testing.assert_array_equal(clusters(crowd, distance), by_pairs)


def test_clusters_do_not_reach_from_one_tomogram_to_another():
    particles = line(0, 10, 0, 10, tomogram=np.array(["a", "a", "b", "b"]))
    assert clusters(particles, 50).tolist() == [1, 1, 2, 2]
    assert clusters(line(), 50).tolist() == []


def posed(count, tomogram="TS_01"):
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 3000, (count, 3))
    return Particles(positions=positions, rotations=random_rotations(count, rng), tomogram=tomogram)


def test_the_true_error_is_the_angle_to_the_partner_whatever_the_order_and_unknown_without_one():
    truth = posed(8)
    turn = Rotation.from_rotvec([0, 0, 30], degrees=True).as_matrix()
    order = np.array([3, 0, 5, 7])
    predicted = truth.take(order).replace(rotations=truth.rotations[order] @ turn)
    off = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5], [900, 0, 0]])
    predicted = predicted.replace(positions=predicted.positions + off)
    told = inspect(predicted, InspectionOptions(), truth=truth)
    np.testing.assert_allclose(told.true_error_deg, [30, 30, 30, np.nan], atol=1e-6)
    assert told.partner.tolist() == [3, 0, 5, -1]


def test_each_class_is_judged_by_its_own_symmetry():
    truth = Particles(
        positions=np.array([[0.0, 0, 0], [500, 0, 0]]),
        rotations=np.tile(np.eye(3), (2, 1, 1)),
        kind=np.array(["pdb_a", "pdb_b"]),
        tomogram="t",
    )
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    turned = truth.replace(rotations=np.tile(turn, (2, 1, 1)))
    for options, groups, errors in (
        (InspectionOptions(), {"": "C1", "pdb_b": "C4"}, [90, 0]),
        (InspectionOptions(symmetry="b=C4"), None, [90, 0]),
        (InspectionOptions(symmetry="C1 b=C4"), {"": "C4"}, [90, 0]),
        (InspectionOptions(symmetry="C1"), {"": "C4", "pdb_b": "C4"}, [90, 90]),
    ):
        told = inspect(turned, options, truth=truth, groups=groups)
        np.testing.assert_allclose(told.true_error_deg, errors, atol=1e-5)


def test_the_true_error_is_taken_modulo_the_symmetry():
    truth = posed(5)
    turned = truth.rotations @ Rotation.from_rotvec([0, 0, 360 / 7], degrees=True).as_matrix()
    predicted = truth.replace(rotations=turned)
    np.testing.assert_allclose(inspect(predicted, InspectionOptions(), truth=truth).true_error_deg, 360 / 7)
    told = inspect(predicted, InspectionOptions(symmetry="C7"), truth=truth)
    np.testing.assert_allclose(told.true_error_deg, 0, atol=1e-6)
    with pytest.raises(InputError, match="symmetry 'X2' is unknown"):
        inspect(predicted, InspectionOptions(symmetry="X2"), truth=truth)


def test_true_particles_that_were_not_predicted_are_neighbours_too():
    truth = line(0, 40, 1000, rotations=random_rotations(3, np.random.default_rng(0)))
    told = inspect(truth.take([0, 2]), InspectionOptions(), truth=truth)
    assert told.neighbour.tolist() == [40, 960]
    assert inspect(truth.take([0, 2]), InspectionOptions()).neighbour.tolist() == [1000, 1000]


@pytest.mark.parametrize("truth", [None, posed(3, tomogram="TS_77"), posed(3).replace(rotations=None)])
def test_without_a_truth_that_fits_there_is_no_true_error(truth):
    particles = posed(4).replace(tomogram=np.array(["TS_01", "TS_01", "TS_01", "TS_02"]))
    assert inspect(particles, InspectionOptions(), truth=truth).true_error_deg is None


def test_no_particles_are_inspected_without_complaint():
    nobody = line(rotations=np.zeros((0, 3, 3)))
    told = inspect(nobody, InspectionOptions(), truth=posed(3))
    assert told.true_error_deg is None
    assert len(told.neighbour) == len(told.cluster) == len(told.partner) == 0
