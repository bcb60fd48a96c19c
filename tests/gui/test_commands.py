"""The palette: every command does what its dock's button does, in the viewer in front; and keys are nobody else's."""

import numpy as np
import pytest
from app_model import Application
from gui_scene import make_scene
from napari import Viewer
from napari.settings import get_settings
from npe2 import PluginManifest

from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.gui import commands
from napari_orient.gui.docks.orient_dock import OrientDock
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED
from napari_orient.gui.pages import correct_page
from napari_orient.gui.session.viewer_session import session_of

PLUGIN = "napari-orient"
COMMANDS = "napari_orient.gui.commands:"


@pytest.fixture
def opened(make_napari_viewer, scene):
    """A viewer with a tomogram, picks and predicted particles, and no dock."""
    viewer = make_napari_viewer()
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(scene.mrc))
    session.model = str(scene.model)
    particles = read_particles(scene.true)
    session.show_particles(particles.replace(rotations=None), scene.extent, role=PICKS, name="picks")
    errors = np.linspace(4, 15, len(particles))
    posed = particles.replace(expected_error_deg=errors)
    return viewer, session.show_particles(posed, scene.extent, role=PREDICTED, name="predicted")


def palette():
    """The application that holds the palette; under test it has another name."""
    return Application.get_app("napari") or Application.get_app("test_app")


def call(name):
    """Run a command as the palette does, by what the manifest names."""
    palette().commands.execute_command(f"{PLUGIN}.{name}").result()


def test_every_command_of_the_palette_is_named_in_the_manifest():
    named = PluginManifest.from_distribution(PLUGIN).contributions.commands
    functions = {item.python_name.removeprefix(COMMANDS) for item in named if item.python_name.startswith(COMMANDS)}
    own = {name for name, thing in vars(commands).items() if getattr(thing, "__module__", "") == commands.__name__}
    assert functions == {name for name in own if not name.startswith("_")} - {
        "DockT",
        "dock_of",
        "open_page",
        "page_of",
    }


def test_commands_are_in_napari_s_palette_by_titles_that_one_would_type(opened):
    app = palette()
    titles = {item.command.title for item in app.menus.get_menu(app.menus.COMMAND_PALETTE_ID)}
    assert {"Predict orientations (Orient)", "Go to the next worst particle (Orient)"} <= titles
    assert "Stop what is running (Orient)" in titles


def test_readers_and_the_writer_called_from_the_palette_open_the_pages_for_files(opened):
    viewer, _ = opened
    for name, step in (("read_tomogram", "Data"), ("write_particles", "Result"), ("read_particles", "Data")):
        call(name)
        assert commands.dock_of(viewer, OrientDock).step == step


def test_correcting_by_commands_opens_the_dock_and_acts_on_the_selected_particles(opened):
    viewer, layer = opened
    viewer.layers.selection.active = layer
    layer.selected_data = {2}
    before = layer_data.particles_of(layer).rotations
    call("correct.turn_y")
    call("correct.turn_z_back")
    after = layer_data.particles_of(layer).rotations
    np.testing.assert_allclose(after[2], before[2] @ axis_rotation("y", 10) @ axis_rotation("z", -10), atol=1e-12)
    call("correct.accept")
    assert layer.features["status"][2] == "accepted"
    for _ in range(3):
        call("correct.undo")
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    call("correct.redo")
    assert not np.array_equal(layer_data.particles_of(layer).rotations, before)
    call("correct.reset")
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, before)
    assert len(viewer.window.dock_widgets) == 1


def test_looking_by_commands_flies_to_the_worst_and_hides_arrows(opened):
    viewer, layer = opened
    call("inspect.next")
    assert layer.selected_data == {11}
    call("inspect.next")
    assert layer.selected_data == {10}
    call("inspect.previous")
    assert layer.selected_data == {11}
    drawn = [item for item in viewer.layers if layer_data.role(item) == layer_data.AXES]
    call("arrows.show")
    assert not any(item.visible for item in drawn)
    call("arrows.show")
    assert all(item.visible for item in drawn)


def test_long_work_is_begun_and_stopped_by_commands(opened, qtbot):
    viewer, _ = opened
    call("predict.start")
    dock = commands.page_of(viewer, "Predict")
    qtbot.waitUntil(lambda: dock.running.job is None, timeout=200_000)
    assert "8 orientations" in dock.result.text()
    dock.options.widgets["batch"].value = 1
    call("predict.start")
    call("stop")
    qtbot.waitUntil(lambda: dock.running.job is None, timeout=200_000)
    assert "Stopped" in dock.running.words.text()


def test_a_command_that_cannot_act_says_what_is_missing(opened, monkeypatch):
    lines = []
    for module in (commands, correct_page):
        monkeypatch.setattr(module, "show_error", lines.append)
    monkeypatch.setattr(commands, "show_info", lines.append)
    call("export.start")
    call("correct.undo")
    call("train.start")
    call("stop")
    assert "name a file" in lines[0]
    assert "nothing to undo" in lines[1]
    assert "see the page Poses" in lines[2]
    assert lines[3] == "No job is running."


def test_a_command_acts_in_the_viewer_in_front_alone(opened, make_napari_viewer, tmp_path):
    first, layer = opened
    other = make_scene(tmp_path, name="TS_02")
    second = make_napari_viewer()
    posed = read_particles(other.true)
    theirs = session_of(second).show_particles(posed, other.extent, role=PREDICTED, name="other")
    layer.selected_data = theirs.selected_data = {0}
    assert Viewer is type(second)
    second.window.activate()
    call("correct.accept")
    assert "status" not in layer.features.columns
    assert theirs.features["status"][0] == "accepted"
    assert not first.window.dock_widgets


def test_our_keys_are_none_of_napari_s_for_viewers_and_points(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    before = set(map(str, viewer.keymap))
    for name in ("Correct", "Inspect"):
        commands.page_of(viewer, name)
    session_of(viewer)
    own = set(map(str, viewer.keymap)) - before | {"N", "Shift+N"}
    assert {"Shift+O", "Shift+R", "Ctrl+Z", "L"} <= own
    others = {
        str(key)
        for action, keys in get_settings().shortcuts.shortcuts.items()
        if not any(kind in action for kind in ("label", "shape", "brush", "erase", "polygon", "vertex", "_mode"))
        or "points" in action
        for key in keys
    }
    image_alone = {"X", "Y", "Z", "O", "C"}
    assert not own & (others - image_alone)
