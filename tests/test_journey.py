"""The main job by both doors: the docks, in a real viewer, write the bytes that the command line writes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_orient.cli import main
from napari_orient.engine.io import read_particles
from napari_orient.engine.rotations import angle_deg
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.pages.correct_page import CorrectPage
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.result_cards import ExportCard
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.viewer_session import session_of


def by_the_command_line(world, out: Path) -> bytes:
    words = ["predict", world.tomogram, world.truth, "--model", world.model, "--output", out]
    assert main([str(word) for word in words]) == 0
    return out.read_bytes()


def by_the_docks(world, out: Path, viewer, qtbot) -> bytes:
    docks = []
    open_paths(session_of(viewer), [world.tomogram, world.truth])
    for kind in (PredictCard, ExportCard):
        docks.append(kind(viewer))
        viewer.window.add_dock_widget(docks[-1], name=kind.__name__)
    ask, export = docks
    ask.show_model(str(world.model))
    ask.run()
    session = session_of(viewer)
    qtbot.waitUntil(lambda: bool(session.index.particles(PREDICTED)), timeout=60_000)
    qtbot.waitUntil(lambda: ask.running.job is None, timeout=10_000)
    export.file.show_path(out)
    export.export()
    return out.read_bytes()


def test_what_is_inspected_corrected_and_undone_is_exported_as_it_was_predicted_and_done_again_as_corrected(
    world, tmp_path, make_napari_viewer, qtbot
):
    viewer, out = make_napari_viewer(), tmp_path / "out.star"
    predicted = by_the_docks(world, out, viewer, qtbot)
    session = session_of(viewer)
    (layer,) = session.index.particles(PREDICTED)
    first = layer_data.particles_of(layer)
    assert angle_deg(first.rotations, read_particles(out).rotations).max() < 1e-4
    np.testing.assert_allclose(first.positions, read_particles(out).positions, atol=1e-4)
    inspect, correct, export = InspectPage(viewer), CorrectPage(viewer), ExportCard(viewer)
    for dock in (inspect, correct, export):
        viewer.window.add_dock_widget(dock, name=type(dock).__name__)
    inspect.go_to_worst(1)
    (worst,) = layer.selected_data
    assert inspect.inspected.values.inspection.true_error_deg.argmax() == worst
    correct.rotate("y", 30.0)
    correct.set_status("accepted")
    assert angle_deg(layer_data.particles_of(layer).rotations, first.rotations).argmax() == worst
    for act in (correct.undo, correct.redo):
        for _ in range(2):
            act()
        export.file.show_path(out)
        export.export()
        assert (out.read_bytes() == predicted) == (act == correct.undo)
    again = read_particles(out)
    np.testing.assert_allclose(angle_deg(again.rotations, first.rotations)[worst], 30, atol=1e-3)
    assert (again.extra["orientStatus"][worst], again.extra["orientCorrected"][worst]) == ("accepted", "1")


@pytest.mark.parametrize("suffix", [".star", ".csv"])
def test_docks_and_command_line_write_the_same_bytes(suffix, world, tmp_path, make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    shown = by_the_docks(world, tmp_path / f"docks{suffix}", viewer, qtbot)
    assert shown == by_the_command_line(world, tmp_path / f"cli{suffix}")
    predicted = read_particles(tmp_path / f"docks{suffix}", tomogram="tomo_001")
    truth = read_particles(world.truth)
    assert np.median(angle_deg(predicted.rotations, truth.rotations)) < 60
    assert len(session_of(viewer).index.particles(PREDICTED)[0].data) == 90


def test_the_demo_leaves_a_whole_folder_where_no_display_is(tmp_path):
    command = [sys.executable, "-m", "napari_orient.cli", "demo", "--output", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, env=without_display(), check=False)
    assert done.returncode == 0, done.stderr
    assert "There is no display here" in done.stderr
    names = ["picks.star", "picture.png", "predicted.star", "report.txt", "tomogram.mrc", "truth.star"]
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["napari-orient.json", *names]
    assert all(str(tmp_path / "demo" / name) in done.stdout for name in names)
    assert read_particles(tmp_path / "demo" / "picks.star").rotations is None
    truth = read_particles(tmp_path / "demo" / "truth.star")
    predicted = read_particles(tmp_path / "demo" / "predicted.star")
    errors = angle_deg(predicted.rotations, truth.rotations)
    assert np.median(errors) < 10
    assert (errors < 20).mean() > 0.9
    assert (tmp_path / "demo" / "picture.png").read_bytes().startswith(b"\x89PNG")


def without_display() -> dict[str, str]:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY")
    return {name: value for name, value in os.environ.items() if name not in hidden}
