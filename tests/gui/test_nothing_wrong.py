"""Nothing wrong by default: each fault that a user met, by the act that made it."""

from types import SimpleNamespace

import numpy as np
import pytest
from gui_scene import VOXEL_SIZE, make_scene, settle
from inspection_scene import EXTENT, fill, truth_of
from napari.components import ViewerModel
from napari.layers import Points

from napari_orient.engine.inspection.corrections import REJECTED
from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.commands import page_of
from napari_orient.gui.docks.dock_strips import TomogramHeader, ViewStrip
from napari_orient.gui.docks.orient_dock import OrientDock
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.pages.data_page import DataPage, problem_of
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.result_cards import AverageCard, ExportCard
from napari_orient.gui.pages.train_card import TrainCard
from napari_orient.gui.pages.view_cards import SurfaceCard
from napari_orient.gui.session import edits
from napari_orient.gui.session.canvas_input import MouseTools
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.viewer_session import session_of

PLUGIN = "napari-orient"


@pytest.fixture
def two(tmp_path):
    """A viewer with two tomograms, each with its picks, opened one after the other."""
    (tmp_path / "other").mkdir()
    scenes = make_scene(tmp_path), make_scene(tmp_path / "other", name="TS_02", count=5, seed=8)
    viewer = ViewerModel()
    for scene in scenes:
        open_paths(session_of(viewer), [scene.picks, scene.mrc])
    return viewer, scenes


def by_role(viewer, role):
    return [layer for layer in viewer.layers if layer_data.role(layer) == role]


def shown_names(viewer):
    return {session_of(viewer).tomograms.owner(layer) for layer in viewer.layers if layer.visible}


def add(qtbot, widget):
    qtbot.addWidget(widget)
    return widget


# --- one tomogram at a time -----------------------------------------------------------------------------------------


def test_choosing_a_tomogram_shows_its_layers_alone_and_the_others_come_back_as_they_were(two):
    viewer, _ = two
    switch = session_of(viewer).tomograms
    assert switch.names() == ["TS_01", "TS_02"]
    assert (switch.name, shown_names(viewer)) == ("TS_02", {"TS_02"})
    (first,) = [layer for layer in by_role(viewer, PICKS) if switch.owner(layer) == "TS_01"]
    switch.step(-1)
    assert shown_names(viewer) == {"TS_01"}
    first.visible = False
    switch.step(1)
    switch.step(1)
    assert switch.name == "TS_01"
    assert not first.visible, "what a person has hidden stays hidden"


def test_files_opened_beside_an_open_tomogram_are_shown_and_come_back(tmp_path):
    viewer = ViewerModel()
    session = session_of(viewer)
    (tmp_path / "other").mkdir()
    first, second = make_scene(tmp_path), make_scene(tmp_path / "other", name="TS_02", count=5, seed=8)
    open_paths(session, [first.mrc, first.picks])
    for _ in range(2):
        open_paths(session, [second.mrc, second.picks])
        assert session.tomograms.name == "TS_02"
        assert shown_names(viewer) == {"TS_02"}
    assert len(by_role(viewer, layer_data.TOMOGRAM)) == 2, "what is open is not opened twice"
    session.tomograms.choose("TS_01")
    assert shown_names(viewer) == {"TS_01"}
    session.tomograms.choose("TS_02")
    assert shown_names(viewer) == {"TS_02"}


def test_predict_takes_the_tomogram_of_its_particles_whichever_was_opened_first(two, qtbot):
    viewer, scenes = two
    card = add(qtbot, PredictCard(viewer))
    card.show_model(str(scenes[0].model))
    for name, count in (("TS_01", 8), ("TS_02", 4)):
        session_of(viewer).tomograms.choose(name)
        assert card.running.onward.isHidden(), "a result is shown in its own tomogram alone"
        ((tomogram, picks),) = card.request().pairs
        assert (tomogram.name, picks.tomogram_names, len(picks)) == (name, [name], count)
        card.running.start.click()
        qtbot.waitUntil(lambda: card.running.job is None and card.session.drawing.complete, timeout=30_000)
        assert not card.running.onward.isHidden()


def test_all_tomograms_are_predicted_in_one_act_and_written_to_one_list(two, qtbot, tmp_path):
    viewer, scenes = two
    card = add(qtbot, PredictCard(viewer))
    card.show_model(str(scenes[0].model))
    card.kind.setCurrentIndex(0)
    assert card.extent.itemText(1) == "all 2 tomograms"
    card.extent.setCurrentIndex(1)
    card.running.start.click()
    qtbot.waitUntil(lambda: card.running.job is None and card.session.drawing.complete, timeout=30_000)
    assert "17 orientations in 2 tomograms" in card.result.text()
    assert not card.running.onward.isHidden()
    average = add(qtbot, AverageCard(viewer))
    average.every.setChecked(True)
    assert "17 of 17 particles in 2 tomograms" in average.note.text()
    assert [tomogram.name for tomogram, _ in average.request().pairs] == ["TS_01", "TS_02"]
    export = add(qtbot, ExportCard(viewer))
    export.every.setChecked(True)
    export.file.show_path(tmp_path / "all.star")
    export.button.click()
    written = read_particles(tmp_path / "all.star")
    assert {name: len(written.of_tomogram(name)) for name in written.tomogram_names} == {"TS_01": 12, "TS_02": 5}


def test_a_list_of_sixty_tomograms_makes_no_layers_but_the_first_s(make_napari_viewer, scene, tmp_path):
    names = [f"TS_{number:02d}" for number in range(1, 61)]
    path = tmp_path / "project.star"
    every = concatenate([scene.truth.replace(tomogram=name, kind=None) for name in names])
    write_particles(path, every, extents=dict.fromkeys(names, scene.extent))
    scene.mrc.unlink()
    viewer = make_napari_viewer()
    viewer.open(str(path), plugin=PLUGIN)
    switch = session_of(viewer).tomograms
    assert len(viewer.layers) == 2
    assert switch.names() == names
    switch.choose("TS_17")
    assert shown_names(viewer) == {"TS_17"}
    assert len(viewer.layers) == 4


def test_a_tomogram_chosen_while_failures_of_another_are_framed_shows_its_own_poses(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    first, second = fill(viewer, truth_of(tomogram="TS_01")), fill(viewer, truth_of(tomogram="TS_02", seed=6))
    export = add(qtbot, ExportCard(viewer))
    session.tomograms.arrange()
    session.tomograms.choose("TS_02")
    session.failure_view.show(np.zeros(0, int))
    session.failure_view.settle()
    for name, own, other in (("TS_01", first, second), ("TS_02", second, first)):
        session.tomograms.choose(name)
        session.failure_view.settle()
        for layer, shown in ((own, True), (other, False)):
            assert (layer.visible, axes_layer(viewer, layer).visible) == (shown, shown), name
        assert export.layer is own, "the card follows the tomogram"


def test_a_card_opened_late_takes_the_tomogram_that_is_shown_and_keys_act_on_none_that_is_hidden(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    first = fill(viewer, truth_of(tomogram="TS_01"))
    fill(viewer, truth_of(tomogram="TS_02", seed=6))
    session.tomograms.arrange()
    session.tomograms.choose("TS_01")
    assert add(qtbot, AverageCard(viewer)).layer is first
    assert viewer.layers.selection.active is first
    seconds = session.show_particles(layer_data.particles_of(first), EXTENT, role=PREDICTED, name="other")
    layer_data.about(seconds)["tomogram"] = "TS_02"
    session.tomograms.choose("TS_01")
    assert session.tomograms.owner(viewer.layers.selection.active) == "TS_01"


def test_particles_whose_volume_is_missing_do_not_fall_on_another_tomogram(scene, tmp_path):
    viewer = ViewerModel()
    session = session_of(viewer)
    both = concatenate([scene.truth, scene.truth.replace(tomogram="XY_7")])
    path = tmp_path / "lists" / "both.star"
    path.parent.mkdir()
    write_particles(path, both, extents={"TS_01": scene.extent, "XY_7": scene.extent})
    open_paths(session, [path])
    open_paths(session, [scene.mrc])
    session.tomograms.choose("XY_7")
    (layer,) = session.tomograms.particles()
    assert session.index.tomogram_of(layer) is None
    session.tomograms.choose("TS_01")
    assert {session.tomograms.owner(item) for item in session.tomograms.particles()} == {"TS_01"}


def test_undo_goes_with_the_layer_that_it_was_of(qtbot):
    viewer = ViewerModel()
    layer, session = fill(viewer), session_of(viewer)
    header = add(qtbot, TomogramHeader(session))
    edits.set_status(session.history(layer), np.array([1]), REJECTED)
    assert header.undo.isEnabled()
    viewer.layers.remove(layer)
    assert not header.undo.isVisibleTo(header)


def test_undo_is_of_the_tomogram_that_is_shown(qtbot):
    """The last edit of all was undone, in a tomogram that was hidden, and those of others no more after it."""
    viewer = ViewerModel()
    session = session_of(viewer)
    layers = {name: fill(viewer, truth_of(tomogram=name)) for name in ("TS_01", "TS_02")}
    header = add(qtbot, TomogramHeader(session))
    for name, layer in layers.items():
        session.tomograms.choose(name)
        edits.set_status(session.history(layer), np.array([1]), REJECTED)
    header.undo.click()
    assert not header.undo.isEnabled()
    assert layer_data.texts(layers["TS_01"].features[layer_data.STATUS]).tolist().count(REJECTED) == 1
    session.tomograms.choose("TS_01")
    qtbot.waitUntil(header.undo.isEnabled)
    header.undo.click()
    assert layer_data.STATUS not in layers["TS_01"].features.columns
    session.tomograms.choose("TS_02")
    qtbot.waitUntil(header.redo.isEnabled)


def test_a_list_without_particles_cannot_be_predicted_and_the_card_says_so(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    fill(viewer)
    session.show_particles(truth_of().take([]), EXTENT, role=layer_data.PICKS, name="none")
    card = add(qtbot, PredictCard(viewer))
    assert "no particles in none" in card.input_note.text()
    assert not card.running.start.isEnabled()


def test_the_legend_names_what_is_on_view_alone(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    fill(viewer, truth_of(tomogram="TS_01"))
    strip = add(qtbot, ViewStrip(session))
    assert [name for name, _ in session.drawing.legend().entries] == [PREDICTED, TRUTH]
    strip.truth.click()
    assert [name for name, _ in session.drawing.legend().entries] == [PREDICTED]


def test_points_of_one_s_own_do_not_take_the_place_of_poses_that_are_inspected(qtbot):
    viewer = ViewerModel()
    predicted = fill(viewer, truth_of(tomogram="TS_01"))
    inspected, page = session_of(viewer).inspected, add(qtbot, InspectPage(viewer))
    assert inspected.layer is page.particles.layer is predicted
    export, card = add(qtbot, ExportCard(viewer)), add(qtbot, PredictCard(viewer))
    mine = viewer.add_layer(Points([[5, 5, 5]], scale=(10.0,) * 3, units=("angstrom",) * 3))
    assert inspected.layer is page.particles.layer is export.layer is predicted
    assert card.layer is mine, "points drawn by hand are there to be predicted"


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_list_dropped_before_its_tomogram_lies_above_it_in_a_thick_slice_with_a_scale_bar(scene, qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    viewer.open(str(scene.true), plugin=PLUGIN)
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    session.tomograms.arrange()
    assert layer_data.role(viewer.layers[0]) == layer_data.TOMOGRAM
    assert viewer.dims.thickness == (150.0, 0.0, 0.0)
    bar = viewer.scale_bar if not hasattr(viewer, "canvas") else viewer.canvas.overlays.scale_bar
    assert bar.visible
    assert session.drawing.legend().entries
    viewer.dims.order = (1, 0, 2)
    assert viewer.dims.thickness == (0.0, 150.0, 0.0), "side views slice across their own axis"


def test_a_header_without_a_voxel_size_is_asked_for_when_it_is_dropped(make_napari_viewer, scene):
    write_tomogram(scene.mrc, read_tomogram(scene.mrc).density.copy(), voxel_size=1.0)
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    question = page_of(viewer, "Data").question
    assert scene.mrc.name in question.why.text()
    question.box.setValue(VOXEL_SIZE)
    question.open.click()
    assert [layer_data.voxel_size(layer) for layer in by_role(viewer, "tomogram")] == [VOXEL_SIZE]


def test_a_tomogram_that_is_open_is_not_opened_twice(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    open_paths(session_of(viewer), [scene.mrc, scene.mrc])
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    assert len(by_role(viewer, "tomogram")) == 1


def test_a_sample_that_is_open_is_shown_and_not_opened_twice(qtbot):
    viewer = ViewerModel()
    session, density = session_of(viewer), np.zeros((4, 5, 6), np.float32)
    for name in ("sample_001", "TS_01"):
        session.show_tomogram(Tomogram(density, 10.0, name))
    add(qtbot, DataPage(viewer)).sample.click()
    assert len(viewer.layers) == 2
    assert session.tomograms.name == "sample_001"


def test_only_failures_says_so_where_there_are_none(qtbot, shown):
    viewer = ViewerModel()
    fill(viewer, truth_of(tomogram="TS_01"), turns=np.full(6, 1.0))
    strip = add(qtbot, ViewStrip(session_of(viewer)))
    strip.failures.click()
    strip._showing.settle()
    assert "No particle here" in shown[-1]
    assert not strip.failures.isChecked()


def test_what_napari_saves_as_csv_opens_again(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    posed = read_particles(scene.true).replace(expected_error_deg=np.linspace(2, 9, 12))
    layer = session_of(viewer).show_particles(posed, scene.extent, role=PREDICTED, name="mine")
    path = scene.folder / "napari.csv"
    layer.save(str(path), plugin="napari")
    assert path.read_text().startswith("index,axis-0,axis-1,axis-2")
    *_, again = viewer.open(str(path), plugin=PLUGIN)
    assert layer_data.role(again) == PREDICTED
    np.testing.assert_allclose(layer_data.particles_of(again).positions, posed.positions, atol=1e-3)
    np.testing.assert_allclose(layer_data.particles_of(again).rotations, posed.rotations, atol=1e-6)


def test_picks_drawn_by_hand_are_written(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    session_of(viewer)
    drawn = viewer.add_points([[15, 20, 25], [14, 25, 30]], scale=(13.5,) * 3, units=("angstrom",) * 3)
    path = scene.folder / "hand.star"
    drawn.save(str(path), plugin=PLUGIN)
    np.testing.assert_allclose(
        read_particles(path, extents={"TS_01": scene.extent}).positions, np.array([[25, 20, 15], [30, 25, 14]]) * 13.5
    )
    assert page_of(viewer, "Export").table.rowCount() == 2


def test_a_file_s_own_model_and_thresholds_are_said_and_can_be_undone(scene, qtbot, shown):
    viewer = ViewerModel()
    session = session_of(viewer)
    session.model = "ribosome-4x32"
    session.show_tomogram(read_tomogram(scene.mrc))
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    session.inspection.set_options(InspectionOptions(threshold=7.5))
    edits.set_status(session.history(layer), np.array([1]), REJECTED)
    card = add(qtbot, ExportCard(viewer))
    card.file.show_path(scene.folder / "mine.star")
    card.button.click()
    other = ViewerModel()
    mine = session_of(other)
    mine.model = "ribosome"
    other.open(str(scene.folder / "mine.star"), plugin=PLUGIN)
    assert (mine.model, mine.inspection.options.threshold) == ("ribosome-4x32", 7.5)
    assert any("The file brought" in line for line in shown)
    dock = add(qtbot, OrientDock(other))
    notice = dock.findChild(type(dock.layout().itemAt(1).widget()))
    assert not notice.isHidden()
    notice.undo.click()
    assert (mine.model, mine.inspection.options) == ("ribosome", InspectionOptions())
    assert notice.isHidden()


def test_rejected_particles_are_not_written_unless_asked_for(scene, qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    edits.set_status(session.history(layer), np.array([0, 3]), REJECTED)
    card = add(qtbot, ExportCard(viewer))
    card.file.show_path(scene.folder / "kept.star")
    assert "10 of 12 particles" in card.note.text()
    assert "2 rejected are left out" in card.note.text()
    card.button.click()
    assert len(read_particles(scene.folder / "kept.star")) == 10


# --- layers of others -----------------------------------------------------------------------------------------------


def test_layers_that_are_not_cubic_block_nothing_and_are_not_chosen(scene, qtbot):
    viewer = ViewerModel()
    open_paths(session_of(viewer), [scene.mrc, scene.picks])
    card, training = add(qtbot, PredictCard(viewer)), add(qtbot, TrainCard(viewer))
    card.show_model(str(scene.model))
    viewer.add_points(np.ones((5, 3)), scale=(25, 10, 10), units=("angstrom",) * 3, name="beads")
    viewer.add_image(np.zeros((4, 5, 6)), scale=(20, 10, 10), name="aniso")
    assert layer_data.role(card.particles.layer) == PICKS
    assert card.running.start.isEnabled()
    assert "aniso" not in training.data_note.text()


def test_a_duplicate_is_a_layer_of_its_own(scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    data, keywords, kind = layer.as_layer_data_tuple()
    copy = viewer._add_layer_from_data(data, {**keywords, "name": "copy"}, kind)[0]
    session.drawing._finish()
    assert layer_data.identity(copy) != layer_data.identity(layer)
    copy.selected_data = set(range(6))
    copy.remove_selected()
    assert len(axes_layer(viewer, layer).data) == 36
    assert len(axes_layer(viewer, copy).data) == 18
    viewer.layers.remove(copy)
    assert axes_layer(viewer, layer) is not None


def test_a_layer_that_is_moved_or_scaled_counts_from_where_it_is_shown(scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [scene.mrc])
    moved = Points([[1.0, 2, 3]], scale=(13.5,) * 3, units=("angstrom",) * 3, translate=(0, 27, 0), name="moved")
    viewer.add_layer(moved)
    np.testing.assert_allclose(layer_data.picks_of(moved).positions, [[40.5, 54, 13.5]])
    posed = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    (image,) = by_role(viewer, "tomogram")
    for layer in (posed, image):
        layer.scale = (20.0,) * 3
    while not session.drawing.complete:
        session.drawing._finish()
    assert tuple(axes_layer(viewer, posed).scale) == (20.0,) * 3
    assert session.index.extent_of(posed).voxel_size == 20.0
    image.translate = (0, 100, 100)
    with pytest.raises(ValueError, match="Set its translate to 0"):
        layer_data.tomogram_of(image)


def test_the_header_follows_a_later_change_of_voxel_size_and_offers_undo_after_the_first_edit(scene, qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [scene.mrc, scene.true])
    header = add(qtbot, TomogramHeader(session))
    assert header.voxels.text().startswith("13.5 Å voxels")
    session.tomograms.current.scale = (20.0,) * 3
    settle(header)
    assert header.voxels.text().startswith("20 Å voxels · 112 × 96 × 64 nm")
    (layer,) = session.index.particles()
    assert header.undo.isHidden()
    edits.set_status(session.history(layer), np.array([1]), REJECTED)
    assert not header.undo.isHidden()
    header.undo.click()
    assert layer_data.STATUS not in layer.features.columns, "as it was before the edit"


def test_particles_of_another_tomogram_are_named_in_their_row_with_the_remedy(scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    session.show_particles(scene.truth.replace(tomogram="XY_7"), scene.extent, role=TRUTH, name="theirs")
    session.show_tomogram(read_tomogram(scene.mrc))
    assert "These particles are of XY_7, not of TS_01" in problem_of(session, "TS_01")
    far = scene.truth.replace(positions=scene.truth.positions * 5)
    viewer.layers.remove(session.index.particles(TRUTH)[0])
    session.show_particles(far, scene.extent, role=TRUTH, name="far")
    assert "outside" in problem_of(session, "TS_01")


# --- cards ----------------------------------------------------------------------------------------------------------


def test_train_offers_the_class_of_data_that_were_open_before_and_counts_it_alone(scene, qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [scene.mrc])
    session.show_particles(read_particles(scene.true), scene.extent, role=TRUTH, name="truth")
    card = add(qtbot, TrainCard(viewer))
    assert card.kind.currentData() == "pdb_4v4r"
    assert "8 particles" in card.data_note.text()
    assert card.running.start.isEnabled(), "a file need not be named"


def test_a_discovery_s_frame_travels_with_its_layer_and_errors_are_taken_up_to_it(scene):
    viewer = ViewerModel()
    session, rng = session_of(viewer), np.random.default_rng(3)
    truth = read_particles(scene.true)
    session.show_particles(truth, scene.extent, role=TRUTH, name="truth")
    turned = truth.replace(rotations=truth.rotations @ random_rotations(1, rng)[0])
    layer = session.show_particles(turned, scene.extent, role=PREDICTED, name="discovered")
    assert np.median(session.inspection.particle_values(layer).columns["true_error"]) > 20
    layer_data.about(layer)[layer_data.FRAME] = "its own"
    session.inspection._known.clear()
    assert session.inspection.particle_values(layer).columns["true_error"].max() < 0.1


def test_the_note_on_surfaces_follows_the_view(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    particles = Particles(positions=np.full((2, 3), 200.0), rotations=np.tile(np.eye(3), (2, 1, 1)))
    session.show_particles(particles, None, role=PREDICTED, name="mine")
    card = add(qtbot, SurfaceCard(viewer))
    card.shown.click()
    assert "switch to 3D" in card.note.text()
    viewer.dims.ndisplay = 3
    assert "switch to 3D" not in card.note.text()


# --- the mouse ------------------------------------------------------------------------------------------------------


def mouse(layer, row, **more):
    event = SimpleNamespace(
        type="mouse_press",
        pos=np.array([100.0, 100.0]),
        position=tuple(layer.data_to_world(layer.data[row])),
        view_direction=None,
        dims_displayed=[1, 2],
        modifiers=(),
    )
    return SimpleNamespace(**{**vars(event), **more})


def test_a_click_selects_a_particle_without_the_selection_tool_and_a_drag_does_not(scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    viewer.dims.set_point((0, 1, 2), layer.data_to_world(layer.data[4]))
    tools = MouseTools(session, lambda: layer)
    for moved, selected in ((1.0, {4}), (40.0, set())):
        layer.selected_data = set()
        event = mouse(layer, 4)
        act = tools._pressed(viewer, event)
        next(act)
        event.pos = event.pos + moved
        event.type = "mouse_release"
        assert list(act) == []
        assert set(layer.selected_data) == selected


def test_a_drag_with_alt_in_3d_rotates_the_selected_about_their_own_axis_as_one_step(scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    viewer.dims.ndisplay, layer.selected_data = 3, {2}
    before = layer_data.rotations_in(layer).copy()
    event = mouse(layer, 2, modifiers=("Alt",))
    act = MouseTools(session, lambda: layer)._pressed(viewer, event)
    next(act)
    event.type = "mouse_move"
    for _ in range(3):
        event.pos = event.pos + np.array([20.0, 0.0])
        next(act)
    event.type = "mouse_release"
    assert list(act) == []
    between = before[2].T @ layer_data.rotations_in(layer)[2]
    np.testing.assert_allclose(between @ [0, 0, 1], [0, 0, 1], atol=1e-9)
    assert np.degrees(np.arccos((np.trace(between) - 1) / 2)) == pytest.approx(30)
    assert len(session.history(layer).steps) == 1
    session.history(layer).undo()
    np.testing.assert_array_equal(layer_data.rotations_in(layer), before)


def test_verdicts_are_read_on_the_canvas(scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(read_particles(scene.true), scene.extent, role=PREDICTED, name="mine")
    edits.set_status(session.history(layer), np.array([1]), REJECTED)
    assert [str(shape.value) for shape in layer.symbol[:3]] == ["disc", "cross", "disc"]
    session.history(layer).undo()
    assert {str(shape.value) for shape in layer.symbol} == {"disc"}
