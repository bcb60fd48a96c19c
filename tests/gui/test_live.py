"""Live: a pick that is added or dragged is told within the same step, from its own patch alone."""

import numpy as np
import pytest
from gui_scene import VOXEL_SIZE, settle, tiny_checkpoint
from napari.components import ViewerModel
from napari.layers import Points
from test_history import drag

from engine.phantom import molecule
from engine.phantom import tomogram as phantom
from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.parameters import SearchOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_layer
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED
from napari_orient.gui.pages.correct_page import CorrectPage
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.session import live_prediction
from napari_orient.gui.session.viewer_session import session_of


class Counted:
    """A density that counts the voxels read from it."""

    def __init__(self, density):
        self.density, self.shape, self.ndim, self.dtype = density, density.shape, 3, density.dtype
        self.size, self.voxels, self.reads = density.size, 0, 0

    def __getitem__(self, key):
        part = self.density[key]
        self.voxels += part.size
        self.reads += 1
        return part

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole tomogram was read")


@pytest.fixture(autouse=True)
def immediately(monkeypatch):
    """However busy the machine is, single picks are told on the spot; one test says otherwise."""
    monkeypatch.setattr(live_prediction, "IMMEDIATE_LIMIT", 30.0)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def on(viewer, scene, qtbot):
    """A viewer with tomogram and predicted particles, the Correct dock, Live on and ready."""
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(scene.mrc))
    session.model = str(scene.model)
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="predicted")
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    switch_on(dock, qtbot)
    return viewer, layer, dock


def switch_on(dock, qtbot):
    dock.live_box.setChecked(True)
    qtbot.waitUntil(lambda: dock.live.prepared is not None, timeout=200_000)


def told_of(layer, row):
    return layer_data.particles_of(layer).take([row])


def own_answer(scene, voxels):
    picks = Particles(positions=np.array([voxels[::-1]]) * VOXEL_SIZE, tomogram="TS_01")
    return run(predict(read_tomogram(scene.mrc), picks, load_model(scene.model)))


def test_an_added_pick_has_its_pose_arrow_and_expected_error_at_once_and_one_undo_takes_it_back(on, scene):
    viewer, layer, dock = on
    layer.add([15.0, 20.0, 30.0])
    own, told = own_answer(scene, [15.0, 20.0, 30.0]), told_of(layer, 12)
    np.testing.assert_array_equal(told.rotations, own.rotations)
    np.testing.assert_array_equal(told.expected_error_deg, own.expected_error_deg)
    np.testing.assert_allclose(axes_layer(viewer, layer).data[-1, 1], own.rotations[0, :, 2][::-1], atol=1e-6)
    assert "expected error" in dock.live_note.text()
    history = session_of(viewer).history(layer)
    assert [step.words for step in history.steps] == ["add 1 particle"]
    history.undo()
    assert len(layer.data) == 12
    assert len(axes_layer(viewer, layer).data) == 36


def test_a_dragged_pick_is_told_where_it_was_left_and_only_there(on, scene):
    viewer, layer, _ = on
    before, places = layer_data.particles_of(layer).rotations, layer.data.copy()
    viewer.dims.set_point(0, layer.data_to_world(layer.data[4])[0])
    drag(layer, 4, [0, 2.0, -3.0])
    (row,) = np.flatnonzero((layer.data != places).any(axis=1))
    np.testing.assert_array_equal(told_of(layer, row).rotations, own_answer(scene, layer.data[row]).rotations)
    after = layer_data.particles_of(layer).rotations
    np.testing.assert_array_equal(np.delete(after, row, axis=0), np.delete(before, row, axis=0))
    assert len(session_of(viewer).history(layer).steps) == 1


def test_points_drawn_by_hand_in_a_layer_of_napari_s_own_are_told_too(viewer, scene, qtbot):
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(scene.mrc))
    session.model = str(scene.model)
    mine = Points(np.zeros((0, 3)), ndim=3, scale=(VOXEL_SIZE,) * 3, units=("angstrom",) * 3, name="mine")
    viewer.layers.append(mine)
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    switch_on(dock, qtbot)
    for place in ([15.0, 20.0, 30.0], [14.0, 25.0, 20.0]):
        mine.add(place)
    assert layer_data.particles_of(mine).tomogram_names == ["TS_01"]
    np.testing.assert_array_equal(told_of(mine, 1).rotations, own_answer(scene, [14.0, 25.0, 20.0]).rotations)
    assert len(axes_layer(viewer, mine).data) == 6
    session.history(mine).undo()
    session.history(mine).undo()
    assert axes_layer(viewer, mine) is None


@pytest.mark.parametrize("side", [48, 160])
def test_one_patch_is_read_for_a_pick_however_large_the_tomogram(viewer, side, qtbot, tmp_path):
    counted = Counted(np.random.default_rng(0).standard_normal((48, side, side)).astype(np.float32))
    tiny_checkpoint().save(tmp_path / "tiny.safetensors")
    session = session_of(viewer)
    session.model = str(tmp_path / "tiny.safetensors")
    image = session.show_tomogram(Tomogram(np.zeros((48, side, side), np.float32), VOXEL_SIZE, "TS"))
    picks = Particles(positions=np.array([[20.0, 20, 20]]) * VOXEL_SIZE, tomogram="TS")
    layer = session.show_particles(picks, None, role=PICKS, name="picks")
    parent = CorrectPage(viewer)
    qtbot.addWidget(parent)
    told = parent.live
    told.follow_edits(layer, "TS")
    volume = Tomogram(counted, VOXEL_SIZE, "TS")
    told.prepared = run(live_prediction.prepare_model(volume, picks, tiny_checkpoint()))
    counted.voxels = counted.reads = 0
    layer.add([21.0, 22.0, 23.0])
    assert layer_data.has_pose(layer).tolist() == [False, True]
    assert (counted.reads, counted.voxels) == (1, 16**3)
    assert image in viewer.layers


def with_a_map(viewer, volume, folder):
    """The viewer's session, the tomogram on view, a template of its molecule in use."""
    search = SearchOptions(rotations=600, search_resolution=36.0, max_shift=20.0)
    path = folder / "blobs.safetensors"
    Template(molecule().density(24), voxel_size=10.0, search=search, name="blobs").save(path)
    session = session_of(viewer)
    session.show_tomogram(volume)
    session.model = str(path)
    return session


def test_a_network_with_a_map_learns_the_tomogram_once_and_centres_new_picks(viewer, qtbot, tmp_path):
    volume, picks, places = phantom(molecule(), off=10.0, count=(2, 3, 3))
    session = with_a_map(viewer, volume, tmp_path)
    known = picks.take(slice(0, 17)).replace(rotations=None)
    layer = session.show_particles(known, volume.extent, role=PICKS, name="picks")
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    switch_on(dock, qtbot)
    layer.add((picks.positions[17] / 10.0)[::-1])
    qtbot.waitUntil(lambda: layer_data.has_pose(layer)[17], timeout=20_000)
    assert angle_deg(layer_data.rotations_in(layer)[17], picks.rotations[17]) < 8
    assert np.linalg.norm(layer.data[17][::-1] * 10 - places[17]) < 5
    np.testing.assert_allclose(layer.data[:17][:, ::-1] * 10, known.positions)


def test_live_is_ready_at_once_where_predict_has_just_learnt_the_tomogram(viewer, qtbot, tmp_path):
    volume, picks, _ = phantom(molecule(), off=10.0, count=(1, 2, 2))
    session = with_a_map(viewer, volume, tmp_path)
    session.show_particles(picks.replace(rotations=None), volume.extent, role=PICKS, name="picks")
    prediction = PredictCard(viewer)
    qtbot.addWidget(prediction)
    prediction.running.start.click()
    qtbot.waitUntil(lambda: prediction.running.job is None and session.drawing.complete, timeout=200_000)
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    said = []
    dock.live.status_changed.connect(lambda words, _: said.append(words))
    switch_on(dock, qtbot)
    # Nothing is estimated of the tomogram again: a pick is timed, no more.
    assert not any(words.startswith("Preparing") for words in said)
    assert said[-1].startswith("Live: about")


def test_in_an_empty_layer_a_network_with_a_map_learns_from_the_first_pick_and_tells_it(viewer, qtbot, tmp_path):
    volume, picks, places = phantom(molecule(), off=10.0, count=(1, 2, 2))
    with_a_map(viewer, volume, tmp_path)
    mine = Points(np.zeros((0, 3)), ndim=3, scale=(10.0,) * 3, units=("angstrom",) * 3, name="mine")
    viewer.layers.append(mine)
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    dock.live_box.setChecked(True)
    assert "place a first pick" in dock.live_note.text()
    mine.add((picks.positions[1] / 10.0)[::-1])
    qtbot.waitUntil(lambda: bool(layer_data.has_pose(mine).all()), timeout=200_000)
    assert angle_deg(layer_data.rotations_in(mine)[0], picks.rotations[1]) < 15
    assert np.linalg.norm(mine.data[0][::-1] * 10 - places[1]) < 6


def test_what_takes_longer_than_a_moment_goes_to_a_worker_and_stale_answers_are_dropped(on, scene, qtbot, monkeypatch):
    viewer, layer, dock = on
    monkeypatch.setattr(live_prediction, "IMMEDIATE_LIMIT", 0.0)
    place = layer.data[2].copy()
    layer.add([15.0, 20.0, 30.0])
    assert not layer_data.has_pose(layer)[12]
    viewer.dims.set_point(0, layer.data_to_world(layer.data[12])[0])
    drag(layer, 12, [0, 3.0, 3.0])
    qtbot.waitUntil(lambda: dock.live._job is None and layer_data.has_pose(layer)[12], timeout=20_000)
    np.testing.assert_array_equal(told_of(layer, 12).rotations, own_answer(scene, [15.0, 23.0, 33.0]).rotations)
    np.testing.assert_array_equal(layer.data[2], place)


def test_a_pick_outside_the_tomogram_is_said_to_be_so_and_has_no_pose(on):
    _, layer, dock = on
    layer.add([15.0, 20.0, 900.0])
    assert "lie outside" in dock.live_note.text()
    assert not layer_data.has_pose(layer)[12]


def test_live_off_leaves_added_picks_alone_and_a_removed_layer_ends_it(on):
    viewer, layer, dock = on
    dock.live_box.setChecked(False)
    layer.add([15.0, 20.0, 30.0])
    assert not layer_data.has_pose(layer)[12]
    dock.live_box.setChecked(True)
    viewer.layers.remove(layer)
    assert not dock.live_box.isChecked()
    assert dock.live.layer is None


def test_live_without_a_network_says_so(viewer, scene, qtbot):
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(scene.mrc))
    session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="predicted")
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    session.model = "no such network"
    dock.live_box.setChecked(True)
    assert not dock.live_box.isChecked()


def test_what_is_coloured_by_its_neighbours_and_the_docks_plots_come_a_moment_after_the_arrow(on, qtbot):
    viewer, layer, dock = on
    session, inspect = session_of(viewer), InspectPage(viewer)
    qtbot.addWidget(inspect)
    session.drawing.show_as(ViewOptions.of(colour="expected error"))
    layer.features = layer.features.assign(expected_error_deg=5.0)
    settle(inspect)
    layer.add([15.0, 20.0, 30.0])
    assert len(axes_layer(viewer, layer).data) == 39
    assert len(inspect.inspected) == 12
    settle(inspect)
    settle(dock)
    assert len(inspect.inspected) == 13
    high = session.drawing.legend().scale.high
    qtbot.waitUntil(lambda: session.drawing.legend().scale.high > high, timeout=5000)
    ahead = axes_layer(viewer, layer).edge_color.copy()
    session.drawing.show_as(session.drawing.view)
    np.testing.assert_array_equal(axes_layer(viewer, layer).edge_color, ahead)


def test_what_was_put_off_is_dropped_quietly_where_its_layer_is_gone_and_drawn_where_live_is_off(on, qtbot):
    viewer, layer, dock = on
    layer.add([15.0, 20.0, 30.0])
    dock.live_box.setChecked(False)
    session_of(viewer).history(layer).undo()
    assert len(axes_layer(viewer, layer).data) == 36
    dock.live_box.setChecked(True)
    qtbot.waitUntil(lambda: dock.live.prepared is not None, timeout=200_000)
    layer.add([15.0, 20.0, 30.0])
    viewer.layers.remove(layer)
    qtbot.wait(60)
    settle(dock)
    assert [layer_data.role(left) for left in viewer.layers] == [layer_data.TOMOGRAM]
