"""Every change of a layer of particles is undone to the byte: commands, and napari's own drags, adds and deletes."""

import numpy as np
import pytest
from gui_scene import EXTENT, some_particles
from napari.components import ViewerModel
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection import corrections
from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.engine.rotations import matrix_to_zyz
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED
from napari_orient.gui.layers.layer_rows import remembered
from napari_orient.gui.session import edits
from napari_orient.gui.session.edits import History
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def layer(viewer):
    return session_of(viewer).show_particles(some_particles(), EXTENT, role=PREDICTED, name="predicted")


@pytest.fixture
def history(viewer, layer):
    return session_of(viewer).history(layer)


def all_of(layer):
    """The bytes of everything that a layer holds."""
    table = layer.features
    columns = {name: (str(table[name].dtype), table[name].to_numpy().tolist()) for name in table.columns}
    bits = {
        name: table[name].to_numpy(float).tobytes() for name in layer_data.ROTATION_COLUMNS if name in table.columns
    }
    return layer.data.tobytes(), repr(columns), bits, repr(layer_data.about(layer))


def rows(*numbers):
    return np.array(numbers)


COMMANDS = {
    "rotate": lambda h: edits.rotate(h, rows(1, 4), axis_rotation("y", 10), words="by +10° about y"),
    "move": lambda h: edits.move(h, rows(0, 3), np.array([0, 5.0, -2]), frame="tomogram"),
    "move along own axes": lambda h: edits.move(h, rows(2), np.array([0, 0, 8.0]), frame="own"),
    "delete": lambda h: edits.delete(h, rows(0, 5)),
    "delete the last": lambda h: edits.delete(h, rows(5)),
    "delete all": lambda h: edits.delete(h, np.arange(6)),
    "accept": lambda h: edits.set_status(h, rows(1, 2), "accepted"),
    "predict": lambda h: edits.assign_poses(h, rows(1, 2), some_particles(2, seed=9), words="predict"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_one_step_undone_and_redone_to_the_byte(viewer, layer, history, name):
    before, drawn = all_of(layer), axes_layer(viewer, layer).data.copy()
    COMMANDS[name](history)
    after = all_of(layer)
    assert after != before
    assert len(history.steps) == 1
    assert history.undoable.startswith(name.split(maxsplit=1)[0])
    history.undo()
    assert all_of(layer) == before
    np.testing.assert_array_equal(axes_layer(viewer, layer).data, drawn)
    assert history.redoable.startswith(name.split(maxsplit=1)[0])
    history.redo()
    assert all_of(layer) == after


def test_many_steps_go_back_to_the_first_and_forward_to_the_last(layer, history):
    seen = [all_of(layer)]
    for command in (*COMMANDS.values(),):
        if len(layer.data) == 6:
            command(history)
            seen.append(all_of(layer))
    for state in reversed(seen[:-1]):
        history.undo()
        assert all_of(layer) == state
    history.undo()
    assert history.undoable == ""
    for state in seen[1:]:
        history.redo()
        assert all_of(layer) == state


def test_a_new_change_drops_what_could_have_been_redone(layer, history):
    COMMANDS["rotate"](history)
    history.undo()
    COMMANDS["accept"](history)
    assert history.redoable == ""
    assert [step.words for step in history.steps] == ["accept 2 particles"]


def test_deleting_the_last_point_leaves_all_others_as_they_were(layer, history):
    before = layer_data.particles_of(layer)
    layer.selected_data = {5}
    layer.remove_selected()
    left = layer_data.particles_of(layer)
    np.testing.assert_array_equal(left.positions, before.positions[:5])
    np.testing.assert_array_equal(left.rotations, before.rotations[:5])
    assert history.undoable == "delete 1 particle"
    history.undo()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before.rotations)


def test_napari_s_delete_of_everything_can_be_undone(layer, history):
    before = all_of(layer)
    layer.selected_data = set(range(6))
    layer.remove_selected()
    assert len(layer.data) == 0
    history.undo()
    assert all_of(layer) == before


class Mouse:
    """An event of the mouse; napari's generators hold the first and are shown the later ones through it."""

    def __init__(self, **told):
        vars(self).update(told)

    __wrapped__ = property(None, lambda self, later: vars(self).update(vars(later)))


def drag(layer, row, by):
    """Press on a point, move over three stations, release: as napari's canvas does it, in voxels of a 2D slice."""
    layer.mode = "select"
    layer.selected_data = {row}
    start = layer.data_to_world(layer.data[row])
    event = {"modifiers": [], "view_direction": None, "up_direction": None, "dims_displayed": [1, 2], "handled": False}
    event |= {"dims_point": start, "pos": np.zeros(2), "is_dragging": False}
    at = np.array(start)
    mouse_press_callbacks(layer, Mouse(type="mouse_press", position=tuple(at), **event))
    event["is_dragging"] = True
    for part in (0.3, 0.6, 1.0):
        place = tuple(at + part * np.array(by) * np.array(layer.scale))
        mouse_move_callbacks(layer, Mouse(type="mouse_move", position=place, **event))
    mouse_release_callbacks(layer, Mouse(type="mouse_release", position=place, **event))


def test_a_drag_is_one_step_however_far_it_went(viewer, layer, history):
    viewer.dims.set_point(0, layer.data_to_world(layer.data[2])[0])
    before, place = all_of(layer), layer.data[2].copy()
    drag(layer, 2, [0, 3, -2])
    np.testing.assert_allclose(layer.data[2] - place, [0, 3, -2], atol=1e-9)
    after = all_of(layer)
    assert [step.words for step in history.steps] == ["drag 1 particle"]
    assert remembered(layer).tolist() == [False, False, True, False, False, False]
    history.undo()
    assert all_of(layer) == before
    history.redo()
    assert all_of(layer) == after
    edits.reset(history, np.arange(6))
    np.testing.assert_array_equal(layer.data[2], place)


def test_relion_s_priors_and_statistics_follow_a_changed_pose_and_come_back_with_it(viewer, layer, history):
    """As convert and refine leave no column of an earlier pose beside a new one."""
    old = {"rlnAngleTiltPrior": "90.000000", "rlnMaxValueProbDistribution": "0.98"}
    layer.features = layer.features.assign(**{name: [text] * 6 for name, text in old.items()})
    before = all_of(layer)
    edits.rotate(history, rows(1), axis_rotation("y", 25), words="by +25° about y")
    viewer.dims.set_point(0, layer.data_to_world(layer.data[2])[0])
    drag(layer, 2, [0, 3, -2])
    edits.assign_poses(history, rows(4), some_particles(1, seed=9), words="predict")
    tilt = matrix_to_zyz(layer_data.particles_of(layer).rotations)[:, 1]
    for row in (1, 2, 4):
        assert float(layer.features["rlnAngleTiltPrior"][row]) == pytest.approx(tilt[row], abs=1e-6)
        assert float(layer.features["rlnMaxValueProbDistribution"][row]) == 0
    assert set(layer.features["rlnAngleTiltPrior"][[0, 3, 5]]) == {old["rlnAngleTiltPrior"]}
    edits.reset(history, rows(1, 2))
    for name, text in old.items():
        assert set(layer.features[name][[0, 1, 2, 3, 5]]) == {text}
    history.go_to(0)
    assert all_of(layer) == before


def test_a_point_added_by_hand_has_a_number_but_no_pose_and_its_adding_can_be_undone(viewer, layer, history):
    before = all_of(layer)
    layer.selected_data = {1}
    layer.add([5, 6, 7])
    assert history.undoable == "add 1 particle"
    assert layer_data.has_pose(layer).tolist() == [True] * 6 + [False]
    assert layer.features[layer_data.NUMBER].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert len(axes_layer(viewer, layer).data) == 18
    history.undo()
    assert all_of(layer) == before


def test_picks_without_poses_have_a_history_too(viewer):
    picks = session_of(viewer).show_particles(some_particles(posed=False), EXTENT, role=PICKS, name="picks")
    history, before = session_of(viewer).history(picks), all_of(picks)
    picks.add([5, 6, 7])
    edits.move(history, rows(0), np.array([1.0, 0, 0]), frame="tomogram")
    with pytest.raises(InputError, match="no orientation yet"):
        edits.rotate(history, rows(0), axis_rotation("x", 5), words="by 5°")
    history.undo()
    history.undo()
    assert all_of(picks) == before


def test_a_command_that_cannot_be_done_leaves_everything_as_it_was(layer, history):
    layer.add([5, 6, 7])
    before = all_of(layer)
    with pytest.raises(InputError, match="1 of 2 particles have no orientation"):
        edits.rotate(history, rows(0, 6), axis_rotation("x", 5), words="by 5°")
    with pytest.raises(InputError, match="no particle is selected"):
        edits.delete(history, rows())
    assert all_of(layer) == before
    assert len(history.steps) == 1


def test_reset_brings_back_the_prediction_to_the_byte_after_any_number_of_corrections(layer, history):
    data, table = layer.data.tobytes(), layer.features.copy()
    for _ in range(3):
        COMMANDS["rotate"](history)
        COMMANDS["move"](history)
    assert remembered(layer).tolist() == [True, True, False, True, True, False]
    assert layer.features["corrected"].tolist() == ["0", "1", "0", "0", "1", "0"]
    edits.reset(history, np.arange(6))
    assert layer.data.tobytes() == data
    assert layer.features[table.columns].equals(table)
    assert not remembered(layer).any()
    assert set(layer.features["corrected"]) == {"0"}


def test_poses_told_anew_are_where_the_next_corrections_begin(layer, history):
    COMMANDS["rotate"](history)
    told = some_particles(2, seed=9)
    edits.assign_poses(history, rows(1, 2), told, words="predict")
    COMMANDS["rotate"](history)
    edits.reset(history, rows(1))
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations[1], told.rotations[0])


def test_predicting_again_is_a_step_like_any_other(viewer, layer, history):
    COMMANDS["rotate"](history)
    before = all_of(layer)
    session_of(viewer).replace_particles(layer, some_particles(9, seed=2), provenance="new", words="predict again")
    assert len(axes_layer(viewer, layer).data) == 27
    history.undo()
    assert all_of(layer) == before


def test_verdicts_and_corrections_go_with_the_particles(layer, history):
    edits.set_status(history, rows(0, 4), "accepted")
    COMMANDS["rotate"](history)
    edits.set_status(history, rows(4), "rejected")
    particles = layer_data.particles_of(layer)
    assert corrections.confirmed(particles).tolist() == [True, True, False, False, False, False]
    assert particles.extra["orientStatus"].tolist() == ["accepted", "", "", "", "rejected", ""]
    another = ViewerModel()
    again = session_of(another).show_particles(particles, EXTENT, role=PREDICTED, name="again")
    assert again.features["status"].tolist() == layer.features["status"].tolist()
    assert again.features["corrected"].tolist() == layer.features["corrected"].tolist()


def test_memory_is_bounded_and_the_oldest_steps_go_first(layer):
    history = History(layer, limit=20_000)
    for turn in range(60):
        edits.rotate(history, rows(turn % 6), axis_rotation("z", 1), words=f"number {turn}")
    assert history.bytes_kept <= 20_000
    assert 5 < len(history.steps) < 59
    assert history.undoable == "rotate 1 particle number 59"
    for _ in range(len(history.steps)):
        history.undo()
    assert history.undoable == ""


def test_a_turn_of_one_among_many_keeps_the_rotations_alone(viewer):
    many = session_of(viewer).show_particles(some_particles(5000), EXTENT, role=PREDICTED, name="many")
    history = session_of(viewer).history(many)
    for _ in range(2):
        edits.rotate(history, rows(7), axis_rotation("z", 1), words="by 1°")
    assert history.steps[-1].before.own_bytes == 0
    assert 0 < history.steps[-1].after.own_bytes <= 9 * 8 * 5000


def test_a_removed_layer_takes_its_history_with_it(viewer, layer, history):
    COMMANDS["rotate"](history)
    viewer.layers.remove(layer)
    viewer.layers.append(layer)
    assert session_of(viewer).history(layer) is not history
