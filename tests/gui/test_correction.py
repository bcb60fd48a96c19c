"""The Correct dock in a viewer: what its buttons and keys do to the selected particles, and to no others."""

import gc
from functools import partial

import numpy as np
import pytest
from gui_scene import VOXEL_SIZE, make_scene
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QWidget

from engine.phantom import molecule, tomogram
from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.parameters import SearchOptions
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template
from napari_orient.gui.commands import page_of
from napari_orient.gui.docks.dock_strips import TomogramHeader
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.pages.correct_page import CorrectPage
from napari_orient.gui.pages.map_choice import read_reference
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture
def corrected(make_napari_viewer, scene):
    """A real viewer with tomogram and predicted particles, and the Correct dock, opened by its name."""
    viewer = make_napari_viewer()
    layer = shown(viewer, scene)
    return viewer, layer, page_of(viewer, "Correct")


@pytest.fixture
def bare(qtbot, scene):
    """The same beside a viewer without a window."""
    viewer = ViewerModel()
    layer, dock = shown(viewer, scene), CorrectPage(viewer)
    qtbot.addWidget(dock)
    return viewer, layer, dock


def shown(viewer, scene):
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(scene.mrc))
    session.model = str(scene.model)
    particles = read_particles(scene.true)
    particles = particles.replace(expected_error_deg=np.full(len(particles), 9.0))
    return session.show_particles(particles, scene.extent, role=PREDICTED, name="predicted")


def press(viewer, *keys):
    """Keys as the viewer takes them when its canvas has them."""
    for key in keys:
        bound = {str(name): act for name, act in viewer.keymap.items()}
        bound[key](viewer)


def idle(dock, qtbot):
    qtbot.waitUntil(lambda: dock.job is None, timeout=200_000)


def test_an_empty_dock_says_what_is_missing_and_does_nothing(qtbot):
    viewer = ViewerModel()
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    dock.rotate("x", 10)
    dock.predict_button.click()
    assert "No particles open" in dock.counts.text()
    assert not dock.rotation_pad.isEnabled()


def test_buttons_turn_the_selected_particles_about_their_own_axes_and_undo_takes_it_back(corrected):
    viewer, layer, dock = corrected
    before = layer_data.particles_of(layer).rotations
    layer.selected_data = {2, 5}
    dock.rotation_pad.angle.setValue(25)
    dock.rotation_pad.pad.buttons["y", 1].click()
    dock.rotation_pad.pad.buttons["z", -1].click()
    after = layer_data.particles_of(layer).rotations
    np.testing.assert_allclose(
        after[[2, 5]], before[[2, 5]] @ axis_rotation("y", 25) @ axis_rotation("z", -25), atol=1e-12
    )
    np.testing.assert_array_equal(np.delete(after, [2, 5], axis=0), np.delete(before, [2, 5], axis=0))
    drawn = axes_layer(viewer, layer).data[2 * 3 + 2, 1]
    np.testing.assert_allclose(drawn, after[2, :, 2][::-1], atol=1e-6)
    assert "2 of 12 selected" in dock.counts.text()
    assert "2 corrected" in dock.counts.text()
    dock.undo()
    dock.undo()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    header = dock.session.docks["OrientDock"].header
    assert not header.undo.isEnabled()
    assert header.redo.toolTip() == "Redo: rotate 2 particles by +25° about y"


def test_keys_do_what_their_buttons_do_and_go_with_the_dock(corrected, qtbot):
    viewer, layer, dock = corrected
    before = layer_data.particles_of(layer).rotations
    layer.selected_data = {1}
    press(viewer, "L", "L", "J", "I", "K", "O", "U", "O")
    expected = before[1] @ axis_rotation("x", 10) @ axis_rotation("z", 10)
    np.testing.assert_allclose(layer_data.particles_of(layer).rotations[1], expected, atol=1e-12)
    press(viewer, "G")
    assert layer.features["status"].tolist()[:3] == ["", "accepted", ""]
    press(viewer, "B", "C", "Ctrl+Z")
    assert layer.features["status"][1] == "rejected"
    press(viewer, "H")
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    press(viewer, "Ctrl+Z", "Ctrl+Shift+Z")
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    assert "(key L)" in dock.rotation_pad.pad.buttons["x", 1].toolTip()
    viewer.window.remove_dock_widget(dock.session.docks["OrientDock"])
    assert not {"L", "G"} & set(map(str, viewer.keymap))
    qtbot.wait(10)  # napari destroys the frame in a later turn of the event loop.


def bound_to(viewer, key):
    return {str(name): action for name, action in viewer.keymap.items()}.get(key)


def test_a_key_does_what_it_did_before_when_the_dock_is_gone(qtbot):
    viewer, pressed = ViewerModel(), []
    viewer.bind_key("L", pressed.append)
    dock = CorrectPage(viewer)
    dock.hold_keys(True)
    assert bound_to(viewer, "L") != pressed.append
    dock.deleteLater()
    qtbot.waitUntil(lambda: bound_to(viewer, "L") == pressed.append, timeout=2000)
    press(viewer, "L")
    assert pressed == [viewer]


@pytest.mark.parametrize("first_goes", [True, False])
def test_of_two_docks_the_one_that_is_left_has_the_keys_and_the_last_returns_them(qtbot, first_goes):
    viewer, pressed = ViewerModel(), []
    viewer.bind_key("L", pressed.append)
    docks = [CorrectPage(viewer), CorrectPage(viewer)]
    for dock in docks:
        dock.hold_keys(True)
    going, staying = docks if first_goes else docks[::-1]
    turned = []
    staying.rotation_pad.stepped.connect(lambda axis, angle: turned.append(axis))
    with qtbot.waitSignal(going.destroyed):
        going.deleteLater()
    press(viewer, "L")
    assert (turned, pressed) == (["x"], [])
    with qtbot.waitSignal(staying.destroyed):
        staying.deleteLater()
    press(viewer, "L")
    assert pressed == [viewer]


def test_a_key_bound_by_others_meanwhile_stays_as_they_bound_it(qtbot):
    viewer, pressed = ViewerModel(), []
    dock = CorrectPage(viewer)
    dock.hold_keys(True)
    viewer.bind_key("L", pressed.append, overwrite=True)
    with qtbot.waitSignal(dock.destroyed):
        dock.deleteLater()
    assert bound_to(viewer, "L") == pressed.append


def test_keys_pressed_over_the_canvas_reach_the_selected_particles(make_napari_viewer, scene, qtbot):
    viewer = make_napari_viewer(show=True)
    layer = shown(viewer, scene)
    dock = page_of(viewer, "Correct")
    inspection, frame = page_of(viewer, "Inspect"), dock
    canvas = next(
        part for part in frame.window().findChildren(QWidget) if type(part).__name__.startswith("CanvasBackend")
    )
    frame.window().activateWindow()
    canvas.setFocus()
    before = layer_data.particles_of(layer).rotations
    layer.selected_data = {1}
    qtbot.keyClick(canvas, Qt.Key.Key_L)
    turned = layer_data.particles_of(layer).rotations
    np.testing.assert_allclose(turned[1], before[1] @ axis_rotation("x", 10), atol=1e-12)
    qtbot.keyClick(canvas, Qt.Key.Key_G)
    assert layer.features["status"][1] == "accepted"
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    arrows = axes_layer(viewer, layer)
    qtbot.keyClick(canvas, Qt.Key.Key_O, Qt.KeyboardModifier.ShiftModifier)
    assert not arrows.visible
    qtbot.waitUntil(lambda: QApplication.activeWindow() is frame.window(), timeout=5000)
    qtbot.keyClick(canvas, Qt.Key.Key_N)
    assert inspection.inspected.chosen.tolist() == [
        2
    ]  # All are expected to be as wrong: after the one selected comes the next.
    assert dock.particles.layer is layer


def test_turns_by_number_add_to_the_pose_and_nonsense_is_refused(bare, capsys):
    _, layer, dock = bare
    before = layer_data.particles_of(layer).rotations
    layer.selected_data = {4}
    dock.rotation_pad.line.setText("0 0 -30")
    dock.rotation_pad.line.returnPressed.emit()
    after = layer_data.particles_of(layer).rotations
    np.testing.assert_allclose(after[4], before[4] @ axis_rotation("z", 30), atol=1e-12)
    count = len(session_of(dock.session.viewer).history(layer).steps)
    dock.rotate_by("one two")
    assert len(session_of(dock.session.viewer).history(layer).steps) == count


def test_moves_go_along_the_tomogram_s_or_the_particles_own_axes(bare):
    _, layer, dock = bare
    before = layer_data.particles_of(layer)
    layer.selected_data = {0, 3}
    dock.move_pad.length.setValue(4)
    dock.move_pad.pad.buttons["x", -1].click()
    dock.move_pad.frame.setCurrentIndex(1)
    dock.move_pad.pad.buttons["z", 1].click()
    moved = layer_data.particles_of(layer).positions - before.positions
    np.testing.assert_allclose(moved[[0, 3]], [-4, 0, 0] + 4 * before.rotations[[0, 3], :, 2], atol=1e-9)
    assert not moved[1:3].any()
    assert [step.words for step in dock._history.steps] == [
        "move 2 particles by x -4 Å, tomogram axes",
        "move 2 particles by z +4 Å, own axes",
    ]


def test_a_line_of_the_menu_of_edits_goes_there(bare, qtbot):
    _, layer, dock = bare
    header = TomogramHeader(dock.session)
    qtbot.addWidget(header)
    layer.selected_data = {0}
    states = [layer_data.particles_of(layer).rotations[0]]
    for _ in range(3):
        dock.rotate("x", 30)
        states.append(layer_data.particles_of(layer).rotations[0])
    header.edits.menu().aboutToShow.emit()
    lines = header.edits.menu().actions()
    assert [line.isChecked() for line in lines] == [True, False, False, False]
    lines[2].trigger()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations[0], states[1])
    lines[0].trigger()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations[0], states[3])


def test_a_turn_by_a_step_of_the_symmetry_says_that_nothing_shows(bare, scene):
    _, layer, dock = bare
    Template(np.pad(np.ones((4, 4, 4)), 4), voxel_size=10.0, symmetry="C2").save(scene.folder / "c2.safetensors")
    dock.session.model = str(scene.folder / "c2.safetensors")
    layer.selected_data = {0}
    dock.rotate("z", 180)
    assert "is a symmetry operation of C2" in dock.note.text()
    dock.rotate("x", 180)
    assert dock.note.text() == ""


def test_predicting_the_selected_gives_them_alone_the_engine_s_poses(bare, scene, qtbot):
    _, layer, dock = bare
    before = layer_data.particles_of(layer)
    layer.selected_data = {1, 7}
    dock.predict_button.click()
    assert not dock.refine_button.isEnabled()
    idle(dock, qtbot)
    own = run(predict(read_tomogram(scene.mrc), before.take([1, 7]), load_model(scene.model)))
    after = layer_data.particles_of(layer)
    np.testing.assert_array_equal(after.rotations[[1, 7]], own.rotations)
    np.testing.assert_array_equal(after.expected_error_deg[[1, 7]], own.expected_error_deg)
    np.testing.assert_array_equal(np.delete(after.rotations, [1, 7], 0), np.delete(before.rotations, [1, 7], 0))
    assert dock.session.last_history.undoable == "predict 2 particles"
    dock.undo()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before.rotations)


def test_refining_the_selected_brings_them_back_to_the_truth_and_leaves_the_others(qtbot, tmp_path):
    viewer = ViewerModel()
    volume, picks, places = tomogram(molecule(), noise=0.5, count=(1, 3, 4))
    size = {"rotations": 250, "dimensions": 120, "search_resolution": 40.0, "coarse_rotations": 60}
    template = Template(
        molecule().density(24), voxel_size=10.0, search=SearchOptions(**size, coarse_dimensions=30), name="blobs"
    )
    template.save(tmp_path / "blobs.safetensors")
    session, truth = session_of(viewer), picks.replace(positions=places)
    session.show_tomogram(volume)
    layer = session.show_particles(truth, volume.extent, role=PREDICTED, name="predicted")
    dock = CorrectPage(viewer)
    qtbot.addWidget(dock)
    dock.reference.choose(str(tmp_path / "blobs.safetensors"))
    layer.selected_data = {2, 5}
    dock.rotate("y", 14.0)
    off = layer_data.particles_of(layer)
    assert (angle_deg(off.rotations, truth.rotations)[[2, 5]] > 13).all()
    dock.refine_button.click()
    idle(dock, qtbot)
    refined = layer_data.particles_of(layer)
    assert (angle_deg(refined.rotations, truth.rotations)[[2, 5]] < 5).all()
    others = np.delete(np.arange(len(truth)), [2, 5])
    np.testing.assert_array_equal(refined.rotations[others], off.rotations[others])
    assert np.isfinite(layer.features["expected_error_deg"].to_numpy(float)[[2, 5]]).all()
    dock.undo()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, off.rotations)


def test_particles_deleted_while_they_are_predicted_stay_deleted_and_the_others_get_their_own(bare, qtbot, scene):
    _, layer, dock = bare
    before = layer_data.particles_of(layer)
    layer.selected_data = {1, 7, 9}
    dock.predict_button.click()
    layer.selected_data = {0, 7}
    layer.remove_selected()
    idle(dock, qtbot)
    own = run(predict(read_tomogram(scene.mrc), before.take([1, 7, 9]), load_model(scene.model)))
    after = layer_data.particles_of(layer)
    assert len(after) == 10
    np.testing.assert_array_equal(after.rotations[[0, 7]], own.rotations[[0, 2]])


def test_a_layer_removed_while_its_particles_are_predicted_drops_the_answer_and_says_so(corrected, qtbot):
    from napari.utils.notifications import notification_manager

    viewer, layer, dock = corrected
    layer.selected_data = {1}
    dock.predict_button.click()
    viewer.layers.remove(layer)
    idle(dock, qtbot)
    assert any("removed meanwhile" in record.message for record in notification_manager.records)


def test_closing_the_viewer_during_a_refinement_ends_it(corrected):
    viewer, layer, dock = corrected
    layer.selected_data = {1}
    dock.refine_button.click()
    assert dock.job is not None
    # Qt would hold page and session by a callable that wraps a method, whatever is closed (random acts, seed 216).
    held = [item for item in gc.get_objects() if isinstance(item, partial) and item.func == dock._deliver]
    assert held == []
    viewer.close()


def test_two_viewers_correct_apart(corrected, make_napari_viewer, tmp_path):
    viewer, layer, _ = corrected
    (tmp_path / "other").mkdir()
    other = make_napari_viewer()
    other_layer = shown(other, make_scene(tmp_path / "other", name="TS_09", seed=8))
    other_dock = page_of(other, "Correct")
    layer.selected_data, other_layer.selected_data = {1}, {2}
    before = layer_data.particles_of(layer).rotations.copy()
    press(other, "L")
    other_dock.set_status("accepted")
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    assert session_of(viewer).history(layer).steps == []
    press(viewer, "I")
    assert len(session_of(other).history(other_layer).steps) == 2


def test_references_are_bead_models_maps_and_templates(scene, tmp_path):
    assert read_reference("3j9i").group.name.startswith("D7")
    path = tmp_path / "mine.safetensors"
    Template(np.pad(np.ones((4, 4, 4)), 4), voxel_size=VOXEL_SIZE, name="mine").save(path)
    assert read_reference(str(path)).name == "mine"
    with pytest.raises(ValueError, match="is a network; expected a template"):
        read_reference(str(scene.model))


def test_the_reference_offered_first_fits_the_particles_class(bare):
    _, _, dock = bare
    assert dock.reference.name == "4v4r"
