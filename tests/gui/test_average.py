"""The Average dock: the command line's own map, its curve, and a layer that is no tomogram."""

import numpy as np
import pytest
from gui_scene import settle
from napari.components import ViewerModel

from napari_orient.cli import main
from napari_orient.engine.io import read_particles, read_tomogram, write_particles
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import MAP, TRUTH
from napari_orient.gui.pages.result_cards import AverageCard
from napari_orient.gui.pages.subsets import ACCEPTED, MAX_ERROR, SELECTED
from napari_orient.gui.session.edits import set_status
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture
def opened(world, qtbot):
    """A viewer with the world's first tomogram and its truth, and the Average dock."""
    viewer = ViewerModel()
    session, tomogram = session_of(viewer), read_tomogram(world.tomogram)
    session.show_tomogram(tomogram)
    truth = read_particles(world.truth).replace(tomogram=tomogram.name)
    session.show_particles(truth, tomogram.extent, role=TRUTH, name="truth")
    dock = AverageCard(viewer)
    qtbot.addWidget(dock)
    dock.options.widgets["side"].value = 24
    yield viewer, dock


def finish(dock, qtbot):
    dock.running.start.click()
    qtbot.waitUntil(lambda: dock.running.job is None, timeout=200_000)


def maps_of(viewer):
    return [layer for layer in viewer.layers if layer_data.role(layer) == MAP]


def test_particles_of_several_classes_are_warned_of_before_they_are_averaged_as_one(opened):
    _, dock = opened
    kinds = ["abc"] * 40 + ["xyz"] * (len(dock.layer.data) - 40)
    dock.layer.features = dock.layer.features.assign(**{layer_data.CLASS: kinds})
    dock.show_state()
    said = " ".join(dock.note.text().split())
    assert "of 2 classes, taken for one: 40 of abc, 50 of xyz. Filter one class" in said
    assert dock.running.start.isEnabled()


def test_the_dock_and_the_command_line_make_the_same_map(opened, world, tmp_path, qtbot):
    _, dock = opened
    finish(dock, qtbot)
    dock.file.show_path(tmp_path / "dock.mrc")
    dock.save.click()
    assert "Wrote" in dock.saved.text()
    poses = tmp_path / "tomo_001_rec.star"
    tomogram = read_tomogram(world.tomogram)
    write_particles(poses, dock.request().pairs[0][1], extents={tomogram.name: tomogram.extent})
    words = ["average", world.tomogram, poses, "--side", 24, "--output", tmp_path / "cli.mrc"]
    assert main([str(word) for word in words]) == 0
    for name in ("", "_half1", "_half2"):
        own, theirs = (read_tomogram(tmp_path / f"{door}{name}.mrc").density for door in ("dock", "cli"))
        np.testing.assert_allclose(own, theirs, atol=1e-3 * np.abs(theirs).max())
    assert (tmp_path / "dock_fsc.csv").read_text().splitlines()[0].startswith("resolution_angstrom")
    assert f"{dock.average_map.fsc.resolution(0.143):.1f} Å at 0.143" in dock.result.text()
    before = world.tomogram.read_bytes()
    dock.file.show_path(world.tomogram)
    dock.save.click()
    assert "is open here" in dock.saved.text()
    assert world.tomogram.read_bytes() == before
    assert not list(world.tomogram.parent.glob("*half*"))


def test_the_map_lies_beside_the_tomogram_in_angstrom_and_is_no_tomogram(opened, qtbot):
    viewer, dock = opened
    dock.halves.setChecked(True)
    finish(dock, qtbot)
    assert [layer.name for layer in maps_of(viewer)] == ["truth average", "truth half 1", "truth half 2"]
    whole = maps_of(viewer)[0]
    np.testing.assert_array_equal(whole.data, dock.average_map.density)
    assert tuple(whole.scale) == (10.0,) * 3
    assert whole.extent.world[1][2] < 0
    assert len(session_of(viewer).index.tomograms()) == 1
    assert session_of(viewer).index.tomograms() != maps_of(viewer)
    assert [mark.words for mark in dock.plot.marks] == [
        f"{dock.average_map.fsc.resolution(threshold):.1f} Å" for threshold in (0.5, 0.143)
    ]


def test_a_subset_is_counted_as_it_changes_and_alone_is_averaged(opened, qtbot):
    viewer, dock = opened
    (truth,) = session_of(viewer).index.particles(TRUTH)
    dock.subset.choice.setCurrentText(SELECTED)
    assert "No points of the layer are selected" in dock.note.text()
    assert not dock.running.start.isEnabled()
    truth.selected_data = {3, 5, 8}
    settle(dock)
    assert dock.note.text() == "3 of 90 particles"
    finish(dock, qtbot)
    assert dock.average_map.count == 3
    dock.subset.choice.setCurrentText(ACCEPTED)
    assert "accepted or corrected yet" in dock.note.text()
    set_status(session_of(viewer).history(truth), np.arange(40), "accepted")
    settle(dock)
    assert dock.note.text() == "40 of 90 particles"
    dock.subset.choice.setCurrentText(MAX_ERROR)
    assert "no expected errors" in dock.note.text()


def test_a_symmetry_that_is_none_is_refused_before_any_work(opened):
    _, dock = opened
    dock.symmetry.setText("Q9")
    dock.running.start.click()
    assert dock.running.job is None
    assert dock.average_map is None
