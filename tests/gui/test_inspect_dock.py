import numpy as np
import pytest
from gui_scene import settle
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication
from scipy.spatial.transform import Rotation

from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.templates import bead_symmetry
from napari_orient.gui import layers
from napari_orient.gui.camera import camera_center
from napari_orient.gui.canvas import camera
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers import PREDICTED, TRUTH
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.session import session_of

EXTENT = Extent((100, 90, 50), 10.0)
TURNS = np.array([5.0, 50, 10, 90.001, 15, 30])


def truth_of(count=6, *, tomogram="TS_01", seed=5):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.1, 0.9, (count, 3)) * EXTENT.size * 10.0
    kinds = np.array(["pdb_4v4r", "pdb_3j9i"])[np.arange(count) % 2]
    return Particles(positions=places, rotations=random_rotations(count, rng), kind=kinds, tomogram=tomogram)


def predicted_of(truth, turns=TURNS):
    turned = Rotation.from_rotvec(np.radians(turns[:, None]) * [0, 0, 1.0]).as_matrix()
    return truth.replace(
        rotations=truth.rotations @ turned,
        confidence=np.linspace(0.9, 0.1, len(truth)),
        expected_error_deg=turns / 2 + 1,
    )


def fill(viewer, truth=None, *, known=True, turns=TURNS):
    truth = truth_of() if truth is None else truth
    session = session_of(viewer)
    name = truth.tomogram_names[0]
    session.show_tomogram(Tomogram(np.zeros(EXTENT.size[::-1], np.float32), EXTENT.voxel_size, name))
    if known:
        session.show_particles(truth, EXTENT, role=TRUTH, name="true")
    return session.show_particles(predicted_of(truth, turns), EXTENT, role=PREDICTED, name="predicted")


@pytest.fixture
def opened(qtbot):
    """A dock beside a viewer without a window, and the layer of predicted particles."""
    viewer = ViewerModel()
    layer = fill(viewer)
    dock = InspectPage(viewer)
    qtbot.addWidget(dock)
    yield dock, layer
    del viewer


def cells(dock, title):
    """A column of the table as it is shown."""
    model = dock.table.model()
    heads = [model.headerData(column, Qt.Orientation.Horizontal) for column in range(model.columnCount())]
    column = next(number for number, head in enumerate(heads) if head.startswith(title))
    return [model.data(model.index(row, column)) for row in range(model.rowCount())]


def notes(run):
    from napari.utils.notifications import notification_manager

    lines = []

    def note(notification):
        lines.append(notification.message)

    notification_manager.notification_ready.connect(note)
    run()
    notification_manager.notification_ready.disconnect(note)
    return lines


# --- table and filters ----------------------------------------------------------------------------------------------


def test_the_table_tells_what_is_known_of_every_particle(opened):
    dock, layer = opened
    assert dock.particles.layer is layer
    assert cells(dock, "#") == ["1", "2", "3", "4", "5", "6"]
    assert cells(dock, "true") == ["5.0", "50.0", "10.0", "90.0", "15.0", "30.0"]
    assert cells(dock, "expected") == ["3.5", "26.0", "6.0", "46.0", "8.5", "16.0"]
    assert cells(dock, "class")[:2] == ["pdb_4v4r", "pdb_3j9i"]
    positions = layers.picks_of(layer).positions
    away = np.linalg.norm(positions - positions[0], axis=1)[1:].min()
    assert cells(dock, "nearest")[0] == f"{away:.0f}"
    assert "6 particles" in dock.note.text()
    assert "median 22.5°, 50.0% within 20° (chance 1.7%)" in dock.note.text()


def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_the_unknown_come_last(opened):
    dock, layer = opened
    table = layer.features.copy()
    table.loc[2, "expected_error_deg"] = np.nan
    layer.features = table
    settle(dock)
    dock.table.sortByColumn(3, Qt.SortOrder.AscendingOrder)
    assert cells(dock, "expected") == ["3.5", "8.5", "16.0", "26.0", "46.0", "–"]
    dock.table.sortByColumn(3, Qt.SortOrder.DescendingOrder)
    assert cells(dock, "expected") == ["46.0", "26.0", "16.0", "8.5", "3.5", "–"]


def test_an_expression_and_a_slider_filter_together(opened):
    dock, _ = opened
    dock.filters.expression.setText("true_error > 20 and class == 'pdb_3j9i'")
    assert cells(dock, "#") == ["2", "4", "6"]
    dock.filters.sliders["true_error"].setValue((0, 60))
    assert cells(dock, "#") == ["2", "6"]
    assert "2 of 6 shown" in dock.note.text()
    assert dock.histogram.counts.sum() == 2
    dock.filters.expression.clear()
    assert cells(dock, "#") == ["1", "2", "3", "5", "6"]


@pytest.mark.parametrize(
    ("expression", "words"),
    [("tru_error > 5", "did you mean true_error?"), ("true_error >", "cannot be read"), ("open('x')", "not underst")],
)
def test_a_wrong_expression_says_what_is_wrong_and_hides_nothing(opened, expression, words):
    dock, _ = opened
    dock.filters.expression.setText(expression)
    assert words in dock.filters.note.text()
    assert len(cells(dock, "#")) == 6
    dock.filters.expression.setText("score > 2")
    assert dock.filters.note.text() == ""
    assert cells(dock, "#") == []


def test_without_truth_the_expected_error_stands_in_its_place(qtbot):
    viewer = ViewerModel()
    fill(viewer, known=False)
    dock = InspectPage(viewer)
    qtbot.addWidget(dock)
    assert dock.histogram.x_label == "expected error (°)"
    assert dock.histogram.chance is None
    assert not dock.filters.sliders["true_error"].isVisibleTo(dock.filters.ranges)
    assert "Expected error: median" in dock.note.text()
    truth = session_of(viewer).show_particles(truth_of(), EXTENT, role=TRUTH, name="true")
    assert dock.histogram.x_label == "true error (°)"
    assert dock.histogram.chance is not None
    viewer.layers.remove(truth)
    assert dock.histogram.x_label == "expected error (°)"


def test_the_symmetry_asked_for_changes_the_true_error_and_a_wrong_one_is_refused(opened):
    dock, _ = opened
    dock.settings["symmetry"].value = "C4"
    assert cells(dock, "true")[3] == "0.0"
    assert dock.histogram.chance[:36].sum() > 0.4
    dock.settings["symmetry"].value = "C4x"
    assert "Symmetry 'C4X' is unknown" in dock.note.text()


def test_clusters_follow_the_distance_asked_for(opened):
    dock, _ = opened
    dock.settings["cluster_distance"].value = 0.0
    assert set(cells(dock, "cluster")) == {"–"}
    assert "0 clusters, 6 single" in dock.clusters_note.text()
    dock.settings["cluster_distance"].value = 5000.0
    assert set(cells(dock, "cluster")) == {"1"}
    assert "1 cluster, 0 single" in dock.clusters_note.text()


def test_the_threshold_is_dragged_in_the_plot_and_counts_anew(opened):
    dock, _ = opened
    dock.histogram.threshold_moved.emit(12.0)
    assert dock.settings["threshold"].value == 12
    assert dock.threshold == dock.histogram.threshold == dock.scatter.threshold == 12
    assert "33.3% within 12°" in dock.note.text()


# --- one choice, seen everywhere --------------------------------------------------------------------------------------


def test_rows_chosen_in_the_table_are_points_selected_and_seen_in_the_plots(opened):
    dock, layer = opened
    dock.table.sortByColumn(4, Qt.SortOrder.DescendingOrder)
    dock.table.selectRow(0)
    assert set(layer.selected_data) == {3}
    assert dock.histogram._chosen_counts.sum() == 1
    assert dock.histogram._chosen_counts[35:37].sum() == 1
    assert "1 selected" in dock.note.text()


def test_points_selected_in_the_layer_are_rows_chosen_in_the_table_whatever_its_order(opened):
    dock, layer = opened
    dock.table.sortByColumn(4, Qt.SortOrder.DescendingOrder)
    layer.selected_data = {0, 4}
    assert dock.table.chosen_rows.tolist() == [0, 4]
    assert dock.chosen.tolist() == [0, 4]
    layer.selected_data = set()
    assert dock.table.chosen_rows.tolist() == []


def test_a_click_on_a_bar_chooses_its_particles_and_shift_adds_more(opened, qtbot):
    dock, layer = opened
    dock.resize(440, 860)
    dock.show()
    QApplication.processEvents()
    plot = dock.histogram

    def click(error, keys=Qt.KeyboardModifier.NoModifier):
        place = QPoint(int(plot.x_at(error)), int(plot.area.bottom()) - 2)
        qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, keys, place)

    bars = (np.floor(dock.errors[0] / 2.5) + 0.5) * 2.5
    click(bars[3])
    assert set(layer.selected_data) == {3}
    assert dock.table.chosen_rows.tolist() == [3]
    click(bars[1], Qt.KeyboardModifier.ShiftModifier)
    assert set(layer.selected_data) == {1, 3}
    click(120)
    assert set(layer.selected_data) == set()


def test_a_click_on_a_point_of_the_scatter_chooses_its_particle(opened, qtbot):
    dock, layer = opened
    dock.resize(440, 860)
    dock.tabs.setCurrentIndex(1)
    dock.show()
    QApplication.processEvents()
    plot = dock.scatter
    (x,), (y,) = plot._pixels(np.array([5]))
    qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(float(x)), round(float(y))))
    assert set(layer.selected_data) == {5}


def test_a_choice_survives_the_filter_and_the_order(opened):
    dock, layer = opened
    layer.selected_data = {1, 2}
    dock.filters.expression.setText("true_error > 20")
    assert dock.table.chosen_rows.tolist() == [1]
    dock.filters.expression.clear()
    assert dock.table.chosen_rows.tolist() == [1, 2]
    assert set(layer.selected_data) == {1, 2}


# --- the next worst -------------------------------------------------------------------------------------------------


def test_next_worst_goes_down_the_errors_shown_and_takes_slice_and_camera_along(opened):
    dock, layer = opened
    positions = layers.picks_of(layer).positions
    order = [3, 1, 5, 4]
    for particle in order:
        dock.next.click()
        assert set(layer.selected_data) == {particle}
        np.testing.assert_allclose(camera_center(dock.session.viewer), positions[particle], atol=1e-6)
        assert abs(dock.session.viewer.dims.point[0] - positions[particle][2]) <= 5
    dock.previous.click()
    assert set(layer.selected_data) == {5}
    dock.filters.expression.setText("true_error < 20")
    dock.next.click()
    assert set(layer.selected_data) == {4}


def test_flying_comes_close_but_never_further_away(opened):
    dock, _ = opened
    view = camera(dock.session.viewer)
    view.zoom = 0.01
    dock.go_to_worst(1)
    close = view.zoom
    assert close > 0.1
    view.zoom = 5.0
    dock.go_to_worst(1)
    assert view.zoom == 5


def test_next_worst_with_nothing_to_go_by_says_so(opened):
    dock, _ = opened
    dock.filters.expression.setText("score > 2")
    assert any("no particle shown has an error" in line for line in notes(dock.next.click))


# --- unhappy paths --------------------------------------------------------------------------------------------------


def test_an_empty_dock_says_what_to_do_and_fills_when_particles_come(qtbot):
    viewer = ViewerModel()
    dock = InspectPage(viewer)
    qtbot.addWidget(dock)
    assert "Load dock" in dock.note.text()
    assert not dock.next.isEnabled()
    fill(viewer)
    assert len(cells(dock, "#")) == 6
    assert dock.next.isEnabled()


def test_deleting_the_inspected_layer_turns_to_the_next_and_deleting_all_empties_the_dock(opened):
    dock, layer = opened
    dock.go_to_worst(1)
    viewer = dock.session.viewer
    viewer.layers.remove(layer)
    assert layers.role(dock.particles.layer) == TRUTH
    layer.selected_data = {1}
    layer.features = layer.features.copy()
    viewer.layers.clear()
    assert cells_count(dock) == 0
    assert not dock.next.isEnabled()
    assert dock.chosen.tolist() == []


def cells_count(dock):
    return dock.table.model().rowCount()


def test_deleting_points_keeps_rows_and_points_together(opened):
    dock, layer = opened
    layer.selected_data = {0, 2}
    layer.remove_selected()
    settle(dock)
    assert cells(dock, "#") == ["2", "4", "5", "6"]
    dock.go_to_worst(1)
    assert set(layer.selected_data) == {1}


def test_a_point_added_later_has_no_pose_and_is_left_out(opened):
    dock, layer = opened
    layer.add([10, 20, 20])
    settle(dock)
    assert len(cells(dock, "#")) == 6
    assert "1 without a pose" in dock.note.text()
    dock.choose(np.array([5]))
    assert set(layer.selected_data) == {5}


def test_two_docks_of_two_viewers_do_not_mix(qtbot):
    viewers = [ViewerModel(), ViewerModel()]
    first, second = fill(viewers[0]), fill(viewers[1], truth_of(4, tomogram="TS_02", seed=6), turns=TURNS[:4])
    docks = [InspectPage(viewer) for viewer in viewers]
    for dock in docks:
        qtbot.addWidget(dock)
    docks[0].go_to_worst(1)
    docks[0].settings["symmetry"].value = "C4"
    assert set(first.selected_data) == {3}
    assert set(second.selected_data) == set()
    assert len(cells(docks[1], "#")) == 4
    assert cells(docks[1], "true")[3] == "90.0"


def test_the_dock_opens_by_the_manifest_and_closing_the_viewer_leaves_nothing(make_napari_viewer):
    viewer = make_napari_viewer()
    layer = fill(viewer)
    dock = page_of(viewer, "Inspect")
    dock.go_to_worst(1)
    assert set(layer.selected_data) == {3}
    viewer.close()


def test_keys_fly_from_anywhere_in_the_window_but_not_from_where_one_writes(opened, qtbot):
    dock, layer = opened
    dock.show()
    dock.activateWindow()
    qtbot.waitUntil(dock.isActiveWindow)
    qtbot.keyClick(dock.table, Qt.Key.Key_N)
    assert set(layer.selected_data) == {3}
    qtbot.keyClick(dock.table, Qt.Key.Key_N)
    qtbot.keyClick(dock.table, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert set(layer.selected_data) == {3}
    dock.filters.expression.setFocus()
    qtbot.keyClicks(dock.filters.expression, "n")
    assert dock.filters.expression.text() == "n"


def test_the_slab_in_3d_comes_along(opened):
    dock, layer = opened
    dock.go_to_worst(1)
    (image,) = [found for found in dock.session.viewer.layers if isinstance(found, Image)]
    assert image.plane.position[0] * 10 == pytest.approx(layers.picks_of(layer).positions[3][2])


def test_ten_thousand_particles_are_filtered_chosen_and_flown_to(qtbot):
    viewer, turns = ViewerModel(), np.random.default_rng(0).uniform(0, 60, 10_000)
    truth = truth_of(10_000)
    fill(viewer, truth.replace(positions=truth.positions * 4), turns=turns)
    dock = InspectPage(viewer)
    qtbot.addWidget(dock)
    layer = dock.particles.layer
    dock.table.sortByColumn(4, Qt.SortOrder.DescendingOrder)
    dock.filters.expression.setText("true_error > 30")
    assert cells_count(dock) == np.count_nonzero(turns > 30)
    layer.selected_data = set(range(0, 10_000, 10))
    dock.choose(np.array([7]))
    assert set(layer.selected_data) == {7}
    dock.go_to_worst(1)
    (worst,) = layer.selected_data
    assert turns[worst] > 30


# --- the particle itself --------------------------------------------------------------------------------------------


@pytest.fixture
def seen(opened):
    """The dock on the screen, its Particle page in front."""
    dock, layer = opened
    dock.resize(440, 860)
    dock.tabs.setCurrentWidget(dock.patch)
    dock.show()
    QApplication.processEvents()
    return dock, layer


def test_the_chosen_particle_is_shown_beside_its_reference_in_both_poses_and_their_difference(seen):
    dock, layer = seen
    assert "Select a particle" in dock.patch.note.text()
    layer.selected_data = {0}
    assert [name for name, _ in dock.patch.pictures.columns] == ["patch", "predicted", "true", "predicted − true"]
    assert dock.patch.reference.name == "4v4r"
    layer.selected_data = {1}
    assert dock.patch.reference.name == "3j9i"
    assert "Å wide" in dock.patch.note.text()


def test_a_click_on_a_slice_shows_its_plane_large_and_another_all_three(seen, qtbot):
    dock, layer = seen
    layer.selected_data = {0}
    pictures = dock.patch.pictures
    small = pictures.places()
    assert [(column, plane) for column, plane, _ in small] == [
        (column, plane) for plane in range(3) for column in range(4)
    ]
    _, _, square = small[5]
    qtbot.mouseClick(pictures, Qt.MouseButton.LeftButton, pos=square.center().toPoint())
    large = pictures.places()
    assert [place[:2] for place in large] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert all(place.width() > 1.25 * square.width() for _, _, place in large)
    whole = pictures.rect().adjusted(-1, -1, 1, 1)
    assert all(whole.contains(place.toAlignedRect()) for _, _, place in small + large)
    qtbot.mouseClick(pictures, Qt.MouseButton.LeftButton, pos=large[0][2].center().toPoint())
    assert pictures.places() == small


def test_each_class_has_the_symmetry_of_its_own_and_chance_is_their_mean(opened):
    dock, _ = opened
    assert set(dock.values.inspection.symmetry) == {"C1", bead_symmetry("3j9i")}
    assert "(chance 1.7%)" in dock.note.text()
    dock.settings["symmetry"].value = "3j9i=C1"
    assert set(dock.values.inspection.symmetry) == {"C1"}
    assert "(chance 0.2%)" in dock.note.text()


def test_without_truth_the_patch_less_the_prediction_is_shown(seen):
    dock, layer = seen
    viewer = dock.session.viewer
    viewer.layers.remove(next(found for found in viewer.layers if layers.role(found) == TRUTH))
    layer.selected_data = {0}
    assert [name for name, _ in dock.patch.pictures.columns] == ["patch", "predicted", "patch − predicted"]


def test_without_the_tomogram_the_particle_page_says_what_is_missing(seen):
    dock, layer = seen
    viewer = dock.session.viewer
    viewer.layers.remove(next(found for found in viewer.layers if isinstance(found, Image)))
    layer.selected_data = {0}
    assert "tomogram is not open" in dock.patch.note.text()
    assert dock.patch.pictures.columns == []
