"""In one sitting: a network that knows another particle predicts, a person corrects, it learns, and predicts better."""

import numpy as np
import pytest
from napari.components import ViewerModel
from scipy.spatial.transform import Rotation

from engine.learning import QUICK_TRAINING, SMALL_NETWORK, small_tomogram
from napari_orient.engine.rotations import angle_deg
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED
from napari_orient.gui.pages.correct_page import CorrectPage
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.train_card import TrainCard
from napari_orient.gui.session import edits
from napari_orient.gui.session.viewer_session import session_of

CORRECTED = 180


@pytest.fixture
def docks(qtbot):
    """A viewer with a tomogram of a new kind of particle and its picks; makes docks beside it."""
    viewer = ViewerModel()
    tomogram, truth = small_tomogram(3)
    session_of(viewer).show_tomogram(tomogram)
    picks = truth.replace(rotations=None)
    session_of(viewer).show_particles(picks, tomogram.extent, role=PICKS, name="picks")

    def made(kind):
        dock = kind(viewer)
        qtbot.addWidget(dock)
        return dock

    return viewer, truth, made


def turn_right(history, truth, rows, rng):
    """Turn each of some particles, one by one, to where a person sees it: right but for about three degrees."""
    told = layer_data.particles_of(history.layer).rotations
    with history.layer.events.data.blocker():  # Arrows are drawn when all is done.
        for row in rows:
            slip = Rotation.from_rotvec(rng.normal(size=3) * 3 / np.sqrt(3), degrees=True).as_matrix()
            edits.rotate(history, np.array([row]), told[row].T @ truth.rotations[row] @ slip, words="by eye")


def test_correct_retrain_predict_reduces_the_error_on_a_new_kind_of_particle(docks, qtbot, tmp_path):
    viewer, truth, made = docks
    session = session_of(viewer)
    predict = made(PredictCard)
    predict.show_model("ribosome-4x32")
    predict.running.start.click()
    qtbot.waitUntil(lambda: predict.running.job is None, timeout=200_000)
    (layer,) = session.index.particles(PREDICTED)
    rest = np.arange(CORRECTED, len(truth))
    before = angle_deg(layer_data.particles_of(layer).rotations, truth.rotations)[rest]
    assert np.median(before) > 60

    turn_right(session.history(layer), truth, range(CORRECTED), np.random.default_rng(0))
    train = made(TrainCard)
    train.from_particles.choose(layer)
    train.network.show_options(SMALL_NETWORK)
    train.training.show_options(QUICK_TRAINING.replace(epochs=60, batch=16))
    train.file.show_path(tmp_path / "corrected.safetensors")
    assert f"{CORRECTED} particles" in train.data_note.text()
    train.running.start.click()
    qtbot.waitUntil(lambda: train.running.job is None, timeout=120_000)
    assert session.model == str(tmp_path / "corrected.safetensors")

    correct = made(CorrectPage)
    layer.selected_data = set(rest.tolist())
    correct.predict_button.click()
    qtbot.waitUntil(lambda: correct.job is None, timeout=200_000)
    after = angle_deg(layer_data.particles_of(layer).rotations, truth.rotations)[rest]
    assert np.median(after) < 25
    assert np.median(after) < 0.3 * np.median(before)
    session.history(layer).undo()
    np.testing.assert_allclose(angle_deg(layer_data.particles_of(layer).rotations, truth.rotations)[rest], before)
