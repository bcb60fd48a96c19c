"""What of a layer is exported, and what of a person's work comes back when the file is opened again."""

import shutil

import numpy as np
import pytest
from gui_scene import settle
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtWidgets import QApplication

from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.io import read_particles, write_particles
from napari_orient.gui.layers import layer_data, layer_rows
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.pages.result_cards import ExportCard
from napari_orient.gui.pages.subsets import ACCEPTED, MAX_ERROR, SELECTED
from napari_orient.gui.readers import read_particle_layers, write_points
from napari_orient.gui.session.edits import reset, rotate, set_status
from napari_orient.gui.session.viewer_session import session_of

LINE = "napari-orient 0.1.0: predicted by tiny, data abc; picks rounded"


@pytest.fixture
def opened(scene, qtbot):
    """A viewer with twelve predicted particles whose expected errors are 1 to 12 degrees, and the Export dock."""
    viewer = ViewerModel()
    particles = read_particles(scene.true).replace(expected_error_deg=np.arange(1.0, 13.0))
    layer = session_of(viewer).show_particles(
        particles, scene.extent, role=PREDICTED, name="predicted", provenance=LINE
    )
    dock = ExportCard(viewer)
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
    settle(dock)
    assert dock.note.text().startswith("2 of 12 particles")
    assert dock.table.rowCount() == 2
    np.testing.assert_array_equal(exported(dock, scene.folder / "two.star").expected_error_deg, [3, 8])
    dock.subset.choice.setCurrentText(MAX_ERROR)
    dock.subset.limit.setValue(4.5)
    assert dock.note.text().startswith("4 of 12 particles")
    np.testing.assert_array_equal(exported(dock, scene.folder / "sure.star").expected_error_deg, [1, 2, 3, 4])


def test_accepted_particles_are_counted_and_written_with_their_verdict(opened, scene):
    viewer, layer, dock = opened
    dock.subset.choice.setCurrentText(ACCEPTED)
    set_status(session_of(viewer).history(layer), np.array([0, 4, 9]), "accepted")
    settle(dock)
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
    set_status(session_of(viewer).history(layer), np.array([0, 4]), "accepted")
    set_status(session_of(viewer).history(layer), np.array([5]), "rejected")
    QApplication.processEvents()
    first, second = (scene.folder / f"{name}{suffix}" for name in ("first", "second"))
    write_points(str(first), *layer.as_layer_data_tuple()[:2])
    again = read_particle_layers(str(first))[-1]
    assert again[1]["metadata"][layer_data.KEY]["provenance"] == LINE
    assert again[1]["metadata"][layer_data.KEY]["role"] == PREDICTED
    verdicts = ["accepted", "", "", "", "accepted", "rejected", *[""] * 6]
    assert again[1]["features"][layer_data.STATUS].tolist() == verdicts
    write_points(str(second), *again[:2])
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("way", ["export", "save"])
def test_network_thresholds_and_corrections_survive_saving_and_opening_again(opened, scene, tmp_path, qtbot, way):
    viewer, layer, dock = opened
    session, path = session_of(viewer), tmp_path / "my work" / "kept.star"
    path.parent.mkdir()
    session.model = str(scene.model)
    session.inspection.set_options(InspectionOptions(threshold=7.5, symmetry="C2", cluster_distance=310.0))
    session.drawing.show_as(ViewOptions(most_expected=25.0))
    first = layer_data.particles_of(layer)
    rotate(session.history(layer), np.array([1, 6]), axis_rotation("y", 33), words="by 33° about y")
    set_status(session.history(layer), np.array([6]), "accepted")
    if way == "export":
        exported(dock, path)
    else:
        write_points(str(path), *layer.as_layer_data_tuple()[:2])
    assert str(scene.folder.parent) not in path.read_text()
    other = ViewerModel()
    mine = session_of(other)
    inspect = InspectPage(other)
    qtbot.addWidget(inspect)
    for data, keywords, kind in read_particle_layers(str(path)):
        other.add_layer(Layer.create(data, keywords, kind))
    again = mine.index.particles(PREDICTED)[0]
    if way == "export":
        assert mine.model == str(scene.model.resolve())
        assert mine.inspection.options == session.inspection.options
        assert mine.drawing.view.most_expected == 25.0
        assert inspect.settings["threshold"].value == 7.5
    turned = layer_data.particles_of(again).rotations
    np.testing.assert_allclose(turned, layer_data.particles_of(layer).rotations, atol=1e-6)
    reset(mine.history(again), np.arange(12))
    back = layer_data.particles_of(again)
    np.testing.assert_array_equal(back.rotations[[1, 6]], first.rotations[[1, 6]])
    np.testing.assert_allclose(back.positions, first.positions, atol=1e-3)
    assert back.extra["orientStatus"][6] == "accepted"


def test_a_model_moved_together_with_its_list_is_found_again(opened, scene, tmp_path):
    viewer, layer, dock = opened
    (tmp_path / "here" / "models").mkdir(parents=True)
    model = shutil.copy(scene.model, tmp_path / "here" / "models" / "mine.safetensors")
    session_of(viewer).model = str(model)
    rotate(session_of(viewer).history(layer), np.array([1]), axis_rotation("y", 33), words="by 33° about y")
    exported(dock, tmp_path / "here" / "kept.star")
    assert "models/mine.safetensors" in (tmp_path / "here" / "kept.star").read_text()
    (tmp_path / "here").rename(tmp_path / "there")
    other = ViewerModel()
    for data, keywords, kind in read_particle_layers(str(tmp_path / "there" / "kept.star")):
        other.add_layer(Layer.create(data, keywords, kind))
    assert session_of(other).model == str((tmp_path / "there" / "models" / "mine.safetensors").resolve())


def test_a_list_that_was_only_predicted_keeps_nothing_beside_its_particles(opened, scene):
    _, _, dock = opened
    assert "orient_" not in exported(dock, scene.folder / "plain.star").blocks
    assert "data_orient" not in (scene.folder / "plain.star").read_text()


def test_a_network_that_is_gone_and_a_table_that_was_spoilt_do_no_harm(opened, scene):
    viewer, layer, dock = opened
    session_of(viewer).inspection.set_options(InspectionOptions(threshold=7.5))
    rotate(session_of(viewer).history(layer), np.array([1]), axis_rotation("y", 33), words="by 33° about y")
    exported(dock, scene.folder / "kept.star")
    text = (scene.folder / "kept.star").read_text()
    (scene.folder / "spoilt.star").write_text(text.replace("7.5", "seven").replace("orientX", "orientQ"))
    other = ViewerModel()
    session = session_of(other)
    for data, keywords, kind in read_particle_layers(str(scene.folder / "spoilt.star")):
        other.add_layer(Layer.create(data, keywords, kind))
    assert session.inspection.options == InspectionOptions()
    assert not layer_rows.remembered(session.index.particles(PREDICTED)[0]).any()


def test_a_list_of_another_program_has_no_provenance_of_ours(scene):
    path = scene.folder / "theirs.star"
    write_particles(path, read_particles(scene.true), extents={"TS_01": scene.extent}, provenance="relion 5")
    (_, points) = read_particle_layers(str(path))
    assert points[1]["metadata"][layer_data.KEY]["provenance"] == ""
