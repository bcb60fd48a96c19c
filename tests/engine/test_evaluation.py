import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_orient.engine.evaluation import evaluate
from napari_orient.engine.particles import Particles


@pytest.fixture
def poses():
    """Predicted poses off by given angles and 3 Å, and the true ones."""
    errors = np.array([1.0, 5.0, 19.0, 21.0, 120.0, 2.0])
    positions = 200.0 * np.arange(6)[:, None] * [1, 0, 0]
    truth = Rotation.random(6, random_state=1)
    turned = truth * Rotation.from_rotvec(np.radians(errors)[:, None] * [0, 0.6, 0.8])
    predicted = Particles(
        positions=positions + np.array([0, 3, 0]),
        rotations=turned.as_matrix(),
        confidence=np.array([1, 0.9, 0.6, 0.5, 0.9, 0.25]),
        expected_error_deg=np.array([2.0, 6, 12, 9, 4, 30]),
    )
    return predicted, Particles(positions=positions, rotations=truth.as_matrix())


def test_sure_poses_and_those_of_them_that_are_wrong_are_counted(poses):
    scores = evaluate(*poses).all
    assert (scores.sure, scores.sure_wrong) == (4, 2)
    assert (scores.right, scores.right_expected) == (4, pytest.approx(4.15))
    assert scores.position_median == pytest.approx(3)


def test_the_table_says_of_sureness_and_places_what_the_list_says(poses):
    predicted, truth = poses
    text = str(evaluate(predicted, truth))
    assert "Sure (expected below 10°): 4; of these wrong (by more than 20°): 2." in text
    assert "Confidences add up to 4.2 poses within 20°; there are 4." in text
    assert "Positions: 3.0 Å" in text
    plain = str(evaluate(predicted.replace(confidence=None, expected_error_deg=None, positions=truth.positions), truth))
    assert not [word for word in ("Sure", "Confidences", "Positions") if word in plain]


def test_errors_and_confidences_that_some_poses_lack_are_left_out_of_the_scores(poses):
    predicted, truth = poses
    some = predicted.expected_error_deg.copy()
    some[4] = np.nan
    lacking = predicted.replace(expected_error_deg=some, confidence=np.where(np.isnan(some), np.nan, 0.5))
    scores = evaluate(lacking, truth).all
    known = np.isfinite(some)
    errors = np.array([1.0, 5.0, 19.0, 21.0, 120.0, 2.0])
    expected = np.sqrt(np.mean(some[known] ** 2) / np.mean(errors[known] ** 2))
    assert scores.expected_over_true == pytest.approx(expected)
    assert scores.right_expected is None
    assert scores.sure == 3
    assert (
        evaluate(truth.replace(expected_error_deg=predicted.expected_error_deg), truth).all.expected_over_true is None
    )
