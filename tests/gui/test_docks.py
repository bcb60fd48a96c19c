import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_scene import make_scene, settle, tiny_checkpoint
from napari import Viewer
from napari.components import ViewerModel
from napari.layers import Points

from engine.phantom import molecule
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.parameters import PredictionOptions, SearchOptions
from napari_orient.engine.particles import concatenate
from napari_orient.engine.prediction.predict import load_model, predict, provenance
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template
from napari_orient.gui.commands import page_of
from napari_orient.gui.docks.dock_strips import count_text
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_layer
from napari_orient.gui.pages.data_page import DataPage
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.result_cards import FORMATS, ExportCard
from napari_orient.gui.pages.view_cards import ArrowsCard
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.viewer_session import session_of

PLUGIN = "napari-orient"


DOCKS = {"Data": DataPage, "Predict": PredictCard, "Arrows": ArrowsCard, "Export": ExportCard}


@pytest.fixture
def dock(qtbot):
    """Opens a dock: by the manifest in a real viewer, by itself beside a viewer without a window."""

    viewers = []

    def opened_dock(viewer, name):
        viewers.append(viewer)
        if isinstance(viewer, Viewer):
            return page_of(viewer, name)
        made = DOCKS[name](viewer)
        qtbot.addWidget(made)
        return made

    yield opened_dock
    viewers.clear()


def by_role(viewer, role):
    return [layer for layer in viewer.layers if layer_data.role(layer) == role]


@pytest.fixture
def opened(dock, scene):
    """A viewer with the scene's tomogram, picks and truth, and the Predict dock with the scene's network."""
    viewer = ViewerModel()
    return viewer, loaded(viewer, scene, dock)


@pytest.fixture
def opened_window(make_napari_viewer, dock, scene):
    """The same in a real viewer."""
    viewer = make_napari_viewer()
    return viewer, loaded(viewer, scene, dock)


def loaded(viewer, scene, dock):
    session = session_of(viewer)
    open_paths(session, [scene.mrc, scene.picks, scene.true])
    prediction = dock(viewer, "Predict")
    session.take_for_truth(session.index.particles()[0])
    assert layer_data.role(prediction.layer) == "picks", "not what has become the truth"
    prediction.show_model(str(scene.model))
    return prediction


def finish(prediction, qtbot):
    prediction.running.start.click()
    qtbot.waitUntil(lambda: prediction.running.job is None and prediction.session.drawing.complete, timeout=200_000)


# --- Data -----------------------------------------------------------------------------------------------------------


def test_files_are_opened_where_they_belong(opened_window, scene):
    viewer, _ = opened_window
    (image,), (picks,), (truth,) = (by_role(viewer, role) for role in ("tomogram", "picks", "truth"))
    assert tuple(image.scale) == tuple(picks.scale) == tuple(truth.scale) == (13.5,) * 3
    np.testing.assert_allclose(
        layer_data.particles_of(truth).rotations, read_particles(scene.true).rotations, rtol=0, atol=1e-12
    )
    assert layer_data.particles_of(picks).rotations is None
    assert axes_layer(viewer, truth) is not None
    assert axes_layer(viewer, picks) is None


def test_a_list_brings_its_tomograms_along_where_their_files_lie_beside_it(dock, scene):
    path = scene.folder / "both.star"
    both = concatenate([scene.truth, scene.truth.replace(tomogram="TS_02")])
    write_particles(path, both, extents={"TS_01": scene.extent, "TS_02": scene.extent})
    write_tomogram(scene.folder / "TS_02.mrc", read_tomogram(scene.mrc).density.copy(), voxel_size=13.5)
    viewer = ViewerModel()
    session, data = session_of(viewer), dock(viewer, "Data")
    open_paths(session, [path])
    settle(data)
    assert [image.name for image in by_role(viewer, "tomogram")] == ["TS_01"]
    assert session.tomograms.names() == ["TS_01", "TS_02"]
    assert session.tomograms.has_volume("TS_02")
    assert data.note.text() == ""
    session.tomograms.choose("TS_02")
    assert session.tomograms.current.name == "TS_02"
    assert len(session.tomograms.particles()[0].data) == 12


@pytest.mark.parametrize("stated", [0, 1])
def test_a_header_that_does_not_know_its_voxel_size_is_asked_for_it(dock, scene, stated):
    write_tomogram(scene.mrc, read_tomogram(scene.mrc).density.copy(), voxel_size=stated)
    viewer = ViewerModel()
    data = dock(viewer, "Data")
    open_paths(session_of(viewer), [scene.mrc])
    assert data.question.isVisibleTo(data)
    assert "voxel size" in data.question.why.text()
    assert "--" not in data.question.why.text()
    assert not data.question.open.isEnabled()
    data.question.box.setValue(13.5)
    data.question.open.click()
    assert not data.question.isVisibleTo(data)
    (image,) = by_role(viewer, "tomogram")
    assert tuple(image.scale) == (13.5,) * 3


def test_coordinates_in_pixels_of_unknown_size_ask_for_it(dock, scene):
    path = scene.folder / "old.star"
    path.write_text("data_particles\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n20 21 10\n")
    scene.mrc.unlink()
    viewer = ViewerModel()
    data = dock(viewer, "Data")
    open_paths(session_of(viewer), [path])
    assert data.question.isVisibleTo(data)
    data.question.box.setValue(2.5)
    data.question.open.click()
    np.testing.assert_allclose(layer_data.particles_of(by_role(viewer, "picks")[0]).positions, [[50, 52.5, 25]])


def test_a_broken_file_is_said_in_one_line_and_opens_nothing(dock, scene, shown):
    scene.mrc.write_bytes(b"no tomogram")
    viewer = ViewerModel()
    open_paths(session_of(viewer), [scene.mrc, scene.folder / "missing.mrc"])
    assert "expected a volume" in shown[0]
    assert "no such file" in shown[1]
    assert not viewer.layers


def test_a_list_that_is_open_is_selected_and_read_again_only_if_its_file_changed(scene, shown):
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [scene.mrc, scene.picks])
    (picks,) = by_role(viewer, "picks")
    viewer.layers.selection = set()
    open_paths(session, [scene.picks])
    assert by_role(viewer, "picks") == [picks]
    assert viewer.layers.selection == {picks}
    assert "is open already" in shown[-1]
    fewer = scene.truth.take(slice(0, 5)).replace(rotations=None)
    write_particles(scene.picks, fewer, extents={"TS_01": scene.extent})
    open_paths(session, [scene.picks])
    assert by_role(viewer, "picks") == [picks]
    assert len(picks.data) == 5
    assert "has changed" in shown[-1]
    session.history(picks).undo()
    assert len(picks.data) == 12


def test_poses_of_a_list_become_the_true_ones_by_a_click_on_inspect(opened_window, scene, qtbot):
    viewer, prediction = opened_window
    (truth,) = by_role(viewer, "truth")
    viewer.layers.remove(truth)
    open_paths(session_of(viewer), [scene.true])
    prediction.particles.choose(by_role(viewer, "picks")[0])
    finish(prediction, qtbot)
    page = page_of(viewer, "Inspect")
    settle(page)
    assert page.compare.isVisibleTo(page)
    assert "true_error" not in page.inspected.columns
    page.compare.click()
    settle(page)
    assert page.inspected.error_column == "true_error"
    assert not page.compare.isVisibleTo(page)
    assert [layer.name for layer in by_role(viewer, "truth")] == ["TS_01_true"]


def test_predict_warns_of_particles_of_another_open_tomogram(dock, opened, scene, tmp_path):
    viewer, prediction = opened
    assert "not of" not in prediction.input_note.text()
    (tmp_path / "other").mkdir()
    session = session_of(viewer)
    session.show_tomogram(read_tomogram(make_scene(tmp_path / "other", name="TS_09").mrc))
    assert prediction.particles.layer is None, "the tomogram that is shown has no particles"
    session.tomograms.choose("TS_01")
    assert "In TS_01" in prediction.input_note.text()
    viewer.layers.remove(session.tomograms.current)
    assert "These particles are of TS_01, not of TS_09" in prediction.input_note.text()


# --- Predict --------------------------------------------------------------------------------------------------------


def test_an_empty_predict_dock_cannot_run_and_says_what_is_missing(dock):
    prediction = dock(ViewerModel(), "Predict")
    assert not prediction.running.start.isEnabled()
    assert "page Data" in prediction.input_note.text()
    assert prediction.device_note.text().startswith("Runs on")


def test_predict_gives_the_engine_s_own_poses_in_red(opened_window, scene, qtbot):
    viewer, prediction = opened_window
    prediction.kind.setCurrentIndex(0)
    finish(prediction, qtbot)
    tomogram = read_tomogram(scene.mrc)
    own = run(predict(tomogram, read_particles(scene.picks), load_model(scene.model)))
    (predicted,) = by_role(viewer, "predicted")
    told = layer_data.particles_of(predicted)
    np.testing.assert_array_equal(told.rotations, own.rotations)
    np.testing.assert_array_equal(told.expected_error_deg, own.expected_error_deg)
    red, green, blue, _ = axes_layer(viewer, predicted).edge_color[2]
    assert red > 4 * max(green, blue)
    words = prediction.result.text()
    assert "12 orientations" in words
    assert "True error" in words
    assert "chance" in words


def test_predict_chooses_the_class_that_the_network_knows_and_warns_of_others(opened):
    _, prediction = opened
    assert prediction.kind.currentData() == "pdb_4v4r"
    assert "13.5 Å" in prediction.input_note.text()
    assert "meaningless" not in prediction.input_note.text()
    prediction.kind.setCurrentIndex(0)
    assert "poses of pdb_3j9i will be meaningless" in prediction.input_note.text()


def test_predicting_again_renews_the_same_layer(opened, qtbot):
    viewer, prediction = opened
    finish(prediction, qtbot)
    (first,) = by_role(viewer, "predicted")
    count = len(viewer.layers)
    assert len(first.data) == 8
    prediction.kind.setCurrentIndex(0)
    finish(prediction, qtbot)
    assert by_role(viewer, "predicted") == [first]
    assert len(first.data) == 12
    assert len(axes_layer(viewer, first).data) == 36
    assert len(viewer.layers) == count


def test_poses_of_two_models_lie_side_by_side_and_each_renews_its_own(opened, scene, qtbot):
    viewer, prediction = opened
    finish(prediction, qtbot)
    (first,) = by_role(viewer, "predicted")
    tiny_checkpoint("second").save(scene.folder / "second.safetensors")
    prediction.show_model(str(scene.folder / "second.safetensors"))
    finish(prediction, qtbot)
    second = next(layer for layer in by_role(viewer, "predicted") if layer is not first)
    assert axes_layer(viewer, first) is not axes_layer(viewer, second)
    assert first.visible
    assert second.name != first.name
    finish(prediction, qtbot)
    assert by_role(viewer, "predicted") == [first, second]
    count = len(first.data)
    assert count_text([first]) == f"{count} posed"
    assert count_text([first, second]) == f"{2 * count} poses in 2 layers"


def test_poses_of_a_file_are_predicted_anew_where_there_are_no_picks(dock, scene, tmp_path, qtbot):
    errors = np.full(len(scene.truth), 9.0)
    path = tmp_path / "own.star"
    write_particles(path, scene.truth.replace(expected_error_deg=errors), extents={"TS_01": scene.extent})
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [scene.mrc, path])
    prediction = dock(viewer, "Predict")
    prediction.show_model(str(scene.model))
    (given,) = by_role(viewer, "predicted")
    for _ in range(2):
        finish(prediction, qtbot)
        assert prediction.layer is given
        assert len(by_role(viewer, "predicted")) == 2, "renewed, not predicted from what was predicted"
    assert not axes_layer(viewer, given).visible


def test_points_drawn_by_hand_can_be_predicted(dock, scene, qtbot):
    viewer = ViewerModel()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    viewer.add_layer(Points([[15, 20, 25], [14, 25, 30]], scale=(13.5,) * 3, units=("angstrom",) * 3, name="mine"))
    prediction = dock(viewer, "Predict")
    prediction.show_model(str(scene.model))
    finish(prediction, qtbot)
    (predicted,) = by_role(viewer, "predicted")
    particles = layer_data.particles_of(predicted)
    assert particles.tomogram_names == ["TS_01"]
    np.testing.assert_allclose(particles.positions, np.array([[25, 20, 15], [30, 25, 14]]) * 13.5)


class Slow:
    """A density that takes its time, so that a job can be met midway."""

    def __init__(self, density):
        self.density, self.shape, self.ndim, self.dtype = density, density.shape, 3, density.dtype

    def __getitem__(self, key):
        time.sleep(0.2)
        return self.density[key]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.density, dtype)


@pytest.fixture
def slow(opened_window):
    """The opened viewer, its prediction so slow that one can act before it ends."""
    viewer, prediction = opened_window
    (image,) = by_role(viewer, "tomogram")
    image.data = Slow(image.data)
    prediction.options.widgets["batch"].value = 1
    return viewer, prediction


def begin(prediction, qtbot):
    prediction.running.start.click()
    job = prediction.running.job
    qtbot.waitUntil(lambda: job.last is not None and job.last.done >= 1, timeout=200_000)


def test_stop_midway_leaves_everything_as_it_was(slow, qtbot):
    viewer, prediction = slow
    before = list(viewer.layers)
    begin(prediction, qtbot)
    assert not prediction.running.start.isEnabled()
    prediction.session.jobs.stop()
    qtbot.waitUntil(lambda: prediction.running.job is None and prediction.session.drawing.complete, timeout=200_000)
    assert list(viewer.layers) == before
    assert "Stopped" in prediction.running.words.text()
    assert prediction.running.start.isEnabled()


@pytest.mark.parametrize("role", ["picks", "tomogram"])
def test_a_layer_deleted_during_its_job_drops_the_answer_and_says_so(slow, qtbot, shown, role):
    viewer, prediction = slow
    begin(prediction, qtbot)
    (layer,) = by_role(viewer, role)
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: prediction.running.job is None and prediction.session.drawing.complete, timeout=200_000)
    assert by_role(viewer, "predicted") == []
    assert any("removed meanwhile" in line for line in shown)


def test_closing_the_viewer_during_a_job_ends_it(slow, qtbot):
    viewer, prediction = slow
    begin(prediction, qtbot)
    viewer.close()


def test_a_mistake_is_one_line_and_leaves_the_dock_usable(opened, qtbot, shown):
    viewer, prediction = opened
    (picks,) = by_role(viewer, "picks")
    picks.data = picks.data + 1000
    finish(prediction, qtbot)
    assert any("lie outside TS_01" in line for line in shown)
    assert by_role(viewer, "predicted") == []
    assert prediction.running.start.isEnabled()


def test_a_runtime_error_in_the_engine_is_shown(opened, qtbot):
    viewer, prediction = opened
    (image,) = by_role(viewer, "tomogram")

    class Broken(Slow):
        def __getitem__(self, key):
            raise RuntimeError("size mismatch")

    broken = Broken(np.asarray(image.data))
    request = prediction.request()
    ((tomogram, picks),) = request.pairs
    with qtbot.captureExceptions() as flown:
        prediction.start(replace(request, pairs=[(replace(tomogram, density=broken), picks)]))
        qtbot.waitUntil(lambda: prediction.running.job is None and prediction.session.drawing.complete, timeout=200_000)
    assert "size mismatch" in [str(error) for _, error, _ in flown]
    assert prediction.running.start.isEnabled()


def test_a_file_that_is_no_network_is_refused_in_the_dock(opened, scene):
    _, prediction = opened
    bad = scene.folder / "bad.safetensors"
    bad.write_bytes(b"\x80\x04pickle")
    prediction.show_model(str(bad))
    assert "bad.safetensors" in prediction.card.text()
    assert not prediction.running.start.isEnabled()


def test_predict_takes_up_the_network_that_another_dock_puts_in_use_even_under_the_same_name(opened, scene):
    _, prediction = opened
    before = prediction.loaded
    replace(before, card={**before.card, "classes": ["renewed"]}).save(scene.model)
    prediction.session.model = str(scene.model)
    assert prediction.loaded.card["classes"] == ["renewed"]
    assert "Trained on renewed" in prediction.card.text()
    prediction.session.model = "ribosome-4x32"
    assert prediction.model.currentData() == "ribosome-4x32"
    assert prediction.loaded.name == "ribosome-4x32"


def test_two_viewers_do_not_mix(dock, make_napari_viewer, scene, tmp_path, qtbot):
    (tmp_path / "other").mkdir()
    other_scene = make_scene(tmp_path / "other", name="TS_09", count=5, seed=8)
    viewer, other = make_napari_viewer(), make_napari_viewer()
    prediction, other_prediction = loaded(viewer, scene, dock), loaded(other, other_scene, dock)
    session_of(other).drawing.show_as(ViewOptions(axes="z"))
    finish(prediction, qtbot)
    assert session_of(viewer) is not session_of(other)
    assert [len(layer.data) for layer in by_role(viewer, "predicted")] == [8]
    assert by_role(other, "predicted") == []
    assert other_prediction.request().pairs[0][0].name == "TS_09"
    assert session_of(viewer).drawing.view == ViewOptions()


# --- Export ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(len(FORMATS)))
def test_export_writes_the_engine_s_own_bytes_in_every_format(dock, opened, scene, qtbot, row):
    viewer, prediction = opened
    prediction.kind.setCurrentIndex(0)
    finish(prediction, qtbot)
    export = dock(viewer, "Export")
    export.form.setCurrentIndex(row)
    path = scene.folder / f"mine{export.format.suffixes[0]}"
    export.file.show_path(path)
    if export.format.name == "copick":
        assert "one object in one run; these are of 2 classes" in export.note.text()
        return
    export.button.click()
    model, own = load_model(scene.model), scene.folder / f"own{export.format.suffixes[0]}"
    particles = run(predict(read_tomogram(scene.mrc), read_particles(scene.picks), model))
    dialect = FORMATS[row].name
    line = provenance(model, PredictionOptions(), count=len(particles))
    write_particles(own, particles, extents={"TS_01": scene.extent}, dialect=dialect, provenance=line)
    assert path.read_bytes() == own.read_bytes()
    assert f"Wrote 12 particles to {path}" in export.done.text()


def test_the_preview_shows_the_first_rows_of_the_file_to_come(dock, opened, scene):
    viewer, _ = opened
    export = dock(viewer, "Export")
    (truth,) = by_role(viewer, "truth")
    export.particles.choose(truth)
    heads = [export.table.horizontalHeaderItem(column).text() for column in range(export.table.columnCount())]
    assert heads[:5] == [
        "TomoName",
        "CenteredCoordinateXAngst",
        "CenteredCoordinateYAngst",
        "CenteredCoordinateZAngst",
        "AngleRot",
    ]
    shown_rows = [export.table.item(row, 1).text() for row in range(export.table.rowCount())]
    expected = scene.truth.positions[:6, 0] - 28 * 13.5
    np.testing.assert_allclose([float(text) for text in shown_rows], expected, atol=1e-5)
    truth.selected_data = set(range(10))
    truth.remove_selected()
    settle(export)
    assert export.table.rowCount() == 2


def test_naming_a_file_chooses_its_format(dock, opened, scene):
    viewer, _ = opened
    export = dock(viewer, "Export")
    export.file.show_path(scene.folder / "out.csv")
    assert export.format.name == "csv"
    export.form.setCurrentIndex(1)
    assert export.file.path == scene.folder / "out.star"


def test_export_to_a_folder_that_is_not_there_says_so_and_writes_nothing(dock, opened, scene, shown):
    viewer, _ = opened
    export = dock(viewer, "Export")
    for folder in (scene.folder / "nowhere", Path("~nobody_of_this_name")):
        shown.clear()
        export.file.show_path(folder / "out.star")
        export.button.click()
        assert any("is not a folder" in line for line in shown), folder


def test_a_pick_added_after_predicting_keeps_export_from_writing_half(dock, opened, scene, qtbot):
    viewer, prediction = opened
    finish(prediction, qtbot)
    (predicted,) = by_role(viewer, "predicted")
    export = dock(viewer, "Export")
    predicted.add([10, 20, 20])
    settle(export)
    assert "no orientation" in export.note.text()
    export.file.show_path(scene.folder / "out.star")
    assert not export.button.isEnabled()


def test_what_a_template_found_of_the_tomogram_stands_in_the_predict_dock(opened, scene, qtbot, tmp_path):
    _, prediction = opened
    size = {"rotations": 100, "dimensions": 40, "coarse_rotations": 60, "coarse_dimensions": 16, "max_shift": 0.0}
    template = Template(molecule().density(18), voxel_size=10.0, search=SearchOptions(**size), name="blobs")
    template.save(tmp_path / "blobs.safetensors")
    prediction.show_model(str(tmp_path / "blobs.safetensors"))
    finish(prediction, qtbot)
    details = prediction.running.remarks.text()
    assert "Missing wedge:" in details
    assert "Moved by" in details
    assert prediction.running.details.isVisibleTo(prediction)
    assert not prediction.running.remarks.isVisibleTo(prediction), "details wait in their fold"
    (layer,) = by_role(prediction.session.viewer, "predicted")
    assert "orientMovedAngst" in layer.features
