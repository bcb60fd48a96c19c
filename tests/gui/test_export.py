"""What of a layer is exported, and what of a person's work comes back when the file is opened again."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_orient.engine.files import read_particles, write_particles
from napari_orient.gui import layers
from napari_orient.gui.editing import judge
from napari_orient.gui.export import ExportDock
from napari_orient.gui.layers import PREDICTED
from napari_orient.gui.readers import read_particle_layers, write_points
from napari_orient.gui.session import session_of
from napari_orient.gui.subsets import ACCEPTED, SELECTED, SURE

LINE = "napari-orient 0.1.0: predicted by tiny, data abc; picks rounded"


@pytest.fixture
def opened(scene, qtbot):
    """A viewer with twelve predicted particles whose expected errors are 1 to 12 degrees, and the Export dock."""
    viewer = ViewerModel()
    particles = read_particles(scene.true).replace(expected_error_deg=np.arange(1.0, 13.0))
    layer = session_of(viewer).show_particles(
        particles, scene.extent, role=PREDICTED, name="predicted", provenance=LINE
    )
    dock = ExportDock(viewer)
    qtbot.addWidget(dock)
    yield viewer, layer, dock


def exported(dock, path):
    dock.file.show_path(path)
    dock.button.click()
    return read_particles(path)


def test_the_whole_layer_a_selection_or_the_sure_ones_alone_are_written(opened, scene):
    _, layer, dock = opened
    assert len(exported(dock, scene.folder / "all.star")) == 12
    dock.subset.choice.setCurrentText(SELECTED)
    assert not dock.button.isEnabled()
    layer.selected_data = {2, 7}
    assert dock.note.text().startswith("2 of 12 particles")
    assert dock.table.rowCount() == 2
    np.testing.assert_array_equal(exported(dock, scene.folder / "two.star").expected_error_deg, [3, 8])
    dock.subset.choice.setCurrentText(SURE)
    dock.subset.limit.setValue(4.5)
    assert dock.note.text().startswith("4 of 12 particles")
    np.testing.assert_array_equal(exported(dock, scene.folder / "sure.star").expected_error_deg, [1, 2, 3, 4])


def test_accepted_particles_are_counted_at_once_and_written_with_their_verdict(opened, scene):
    viewer, layer, dock = opened
    dock.subset.choice.setCurrentText(ACCEPTED)
    judge(session_of(viewer).history(layer), np.array([0, 4, 9]), "accepted")
    assert dock.note.text().startswith("3 of 12 particles")
    assert set(exported(dock, scene.folder / "accepted.star").extra["orientStatus"]) == {"accepted"}


def test_the_first_line_of_the_file_is_shown_before_it_is_written(opened, scene):
    _, _, dock = opened
    exported(dock, scene.folder / "all.star")
    assert dock.source_note.text() == f"First line of the file: {LINE}"
    assert (scene.folder / "all.star").read_text().startswith(f"# {LINE}\n")


@pytest.mark.parametrize("suffix", [".star", ".csv"])
def test_verdicts_and_provenance_survive_napari_s_own_save_and_opening_again(opened, scene, suffix):
    viewer, layer, _ = opened
    judge(session_of(viewer).history(layer), np.array([0, 4]), "accepted")
    judge(session_of(viewer).history(layer), np.array([5]), "rejected")
    QApplication.processEvents()
    first, second = (scene.folder / f"{name}{suffix}" for name in ("first", "second"))
    write_points(str(first), *layer.as_layer_data_tuple()[:2])
    again = read_particle_layers(str(first))[-1]
    assert again[1]["metadata"][layers.KEY]["provenance"] == LINE
    assert again[1]["metadata"][layers.KEY]["role"] == PREDICTED
    verdicts = ["accepted", "", "", "", "accepted", "rejected", *[""] * 6]
    assert again[1]["features"][layers.STATUS].tolist() == verdicts
    write_points(str(second), *again[:2])
    assert first.read_bytes() == second.read_bytes()


def test_a_list_of_another_program_has_no_provenance_of_ours(scene):
    path = scene.folder / "theirs.star"
    write_particles(path, read_particles(scene.true), extents={"TS_01": scene.extent}, provenance="relion 5")
    (_, points) = read_particle_layers(str(path))
    assert points[1]["metadata"][layers.KEY]["provenance"] == ""
