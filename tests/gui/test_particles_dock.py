"""The Particles dock: table, filter, plots and patch share one selection with the viewer."""

import time

import numpy as np
import pytest
from gui_scene import settle
from inspection_scene import EXTENT, TURNS, fill, truth_of
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication

from napari_orient.engine.errors import InputError
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.canvas import camera_center
from napari_orient.gui.layers.layer_data import TRUTH
from napari_orient.gui.pages.subsets import FILTERED, SubsetChoice
from napari_orient.gui.session.inspected import RowFilter
from napari_orient.gui.session.viewer_session import session_of
from napari_orient.gui.widgets.particle_table import ParticleTable
from napari_orient.gui.widgets.plot import round_counts


@pytest.fixture
def opened(qtbot):
    """A dock beside a viewer without a window, and the layer of predicted particles."""
    viewer = ViewerModel()
    layer = fill(viewer)
    dock = ParticlesDock(viewer)
    qtbot.addWidget(dock)
    dock.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    settle(dock)
    yield dock, layer
    del viewer


@pytest.fixture
def seen(opened):
    """The dock on the screen."""
    dock, layer = opened
    dock.resize(1300, 260)
    dock.show()
    QApplication.processEvents()
    return dock, layer


def cells(dock, title):
    """A column of the table as it is shown."""
    model = dock.table.model()
    heads = [model.headerData(column, Qt.Orientation.Horizontal) for column in range(model.columnCount())]
    column = next(number for number, head in enumerate(heads) if head.startswith(title))
    return [model.data(model.index(row, column)) for row in range(model.rowCount())]


def click_row(dock, qtbot, row, keys=Qt.KeyboardModifier.NoModifier):
    table = dock.table
    place = table.visualRect(table.model().index(row, 1)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, keys, place)


# --- table and filters ----------------------------------------------------------------------------------------------


def test_the_table_shows_what_is_known_of_every_particle(opened):
    dock, layer = opened
    assert cells(dock, "#") == ["1", "2", "3", "4", "5", "6"]
    assert cells(dock, "true") == ["5.0", "50.0", "10.0", "90.0", "15.0", "30.0"]
    assert cells(dock, "expected") == ["3.5", "26.0", "6.0", "46.0", "8.5", "16.0"]
    assert cells(dock, "class")[:2] == ["pdb_4v4r", "pdb_3j9i"]
    positions = layer_data.picks_of(layer).positions
    away = np.linalg.norm(positions - positions[0], axis=1)[1:]
    assert cells(dock, "nearest")[0] == f"{away.min():.0f}"
    assert cells(dock, "its class")[0] == ("pdb_3j9i" if away.argmin() % 2 == 0 else "pdb_4v4r")
    faces = np.minimum(positions, np.array(EXTENT.size) * 10.0 - 10 - positions).min(axis=1) + 5
    assert cells(dock, "to face")[0] == f"{faces[0]:.0f}"
    assert len(cells(dock, "contrast")) == 6
    assert dock.note.text() == "6 particles"


def test_the_worst_come_first_until_a_heading_is_clicked(qtbot):
    viewer = ViewerModel()
    fill(viewer)
    dock = ParticlesDock(viewer)
    qtbot.addWidget(dock)
    assert cells(dock, "#") == ["4", "2", "6", "5", "3", "1"]
    dock.inspected.settle()
    assert cells(dock, "#") == ["4", "2", "6", "5", "3", "1"]


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
    assert dock.note.text() == "2 of 6 shown"
    assert dock.histogram.bars.counts(dock.histogram.bars.shown).sum() == 2
    dock.filters.expression.clear()
    assert cells(dock, "#") == ["1", "2", "3", "5", "6"]


def test_the_filter_acts_in_the_viewer_on_points_arrows_and_true_partners(opened):
    dock, layer = opened
    viewer, truth = dock.session.viewer, dock.session.index.truth_of("TS_01")
    dock.filters.expression.setText("true_error > 20")
    settle(dock)
    dock.session.drawing._finishing.settle()
    dock.session.drawing._finishing.settle()
    assert layer.shown.tolist() == truth.shown.tolist() == [False, True, False, True, False, True]
    for points in (layer, truth):
        starts = axes_layer(viewer, points).data[::3, 0]
        np.testing.assert_allclose(starts, points.data[[1, 3, 5]], atol=1e-3)
    dock.filters.expression.clear()
    settle(dock)
    assert layer.shown.all()
    assert truth.shown.all()
    assert len(layer_data.particles_of(layer)) == 6


def test_what_passes_the_filter_can_be_written_or_averaged_alone(opened, qtbot):
    dock, layer = opened
    subset, counted = SubsetChoice(dock.session), []
    qtbot.addWidget(subset)
    subset.set_layer(layer)
    subset.choice.setCurrentText(FILTERED)
    subset.changed.connect(lambda: counted.append(len(subset.rows_in(layer))))
    dock.filters.expression.setText("true_error > 20")
    qtbot.waitUntil(lambda: counted[-1:] == [3])
    assert subset.rows().tolist() == [1, 3, 5]
    dock.filters.expression.setText("true_error > 170")
    qtbot.waitUntil(lambda: counted[-1] == 0)
    with pytest.raises(InputError, match="change it there"):
        subset.rows()


def test_letters_pressed_in_the_table_are_left_to_the_keys_of_the_pages(seen, qtbot):
    dock, _ = seen
    pressed = []
    dock.keyPressEvent = lambda event: pressed.append(event.text())
    click_row(dock, qtbot, 1)
    dock.table.setFocus()
    qtbot.keyClicks(dock.table, "nJ")
    assert pressed == ["n", "J"]
    qtbot.keyClick(dock.table, Qt.Key.Key_Down)
    assert dock.table.currentIndex().row() == 2


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


def test_the_filter_outlives_its_dock_and_an_edit(opened, qtbot):
    dock, layer = opened
    dock.filters.expression.setText("true_error > 20")
    layer.selected_data = {1}
    layer.remove_selected()
    settle(dock)
    assert cells(dock, "#") == ["4", "6"]
    assert dock.inspected.filter.expression == "true_error > 20"


def test_without_truth_the_expected_error_stands_in_its_place(qtbot):
    viewer = ViewerModel()
    fill(viewer, known=False)
    dock = ParticlesDock(viewer)
    qtbot.addWidget(dock)
    assert dock.histogram.x_label == "expected error (°)"
    assert dock.histogram.bars.chance is None
    assert not dock.filters.sliders["true_error"].isVisibleTo(dock.filters.ranges)
    truth = session_of(viewer).show_particles(truth_of(), EXTENT, role=TRUTH, name="true")
    settle(dock)
    assert dock.histogram.x_label == "true error (°)"
    assert dock.histogram.bars.chance is not None
    viewer.layers.remove(truth)
    settle(dock)
    assert dock.histogram.x_label == "expected error (°)"


def test_clusters_follow_the_distance_set(opened):
    dock, _ = opened
    dock.inspected.set_options(cluster_distance=0.0)
    assert "cluster" not in [quantity.name for quantity in dock.table.particles.quantities], "none has neighbours"
    dock.inspected.set_options(cluster_distance=5000.0)
    assert set(cells(dock, "cluster")) == {"1"}


# --- one selection, shown everywhere ----------------------------------------------------------------------------------


def test_a_click_on_a_row_goes_to_its_particle(seen, qtbot):
    dock, layer = seen
    click_row(dock, qtbot, 3)
    assert set(layer.selected_data) == {3}
    np.testing.assert_allclose(camera_center(dock.session.viewer), layer_data.picks_of(layer).positions[3], atol=1e-6)
    click_row(dock, qtbot, 4, Qt.KeyboardModifier.ControlModifier)
    assert set(layer.selected_data) == {3, 4}
    np.testing.assert_allclose(camera_center(dock.session.viewer), layer_data.picks_of(layer).positions[3], atol=1e-6)
    assert dock.note.text() == "6 particles, 2 selected"


def test_points_selected_in_the_layer_are_rows_selected_in_the_table_whatever_its_order(opened):
    dock, layer = opened
    dock.table.sortByColumn(4, Qt.SortOrder.DescendingOrder)
    layer.selected_data = {0, 4}
    assert dock.table.chosen_rows.tolist() == [0, 4]
    assert dock.inspected.chosen.tolist() == [0, 4]
    layer.selected_data = set()
    assert dock.table.chosen_rows.tolist() == []


def test_a_click_on_a_bar_selects_its_particles_and_shift_adds_more(seen, qtbot):
    dock, layer = seen
    plot = dock.histogram

    def click(error, keys=Qt.KeyboardModifier.NoModifier):
        (x,), _ = plot.pixels_of(error, 0)
        qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, keys, QPoint(int(x), int(plot.area.bottom()) - 2))

    bars = (np.floor(dock.inspected.errors / 2.5) + 0.5) * 2.5
    click(bars[3])
    assert set(layer.selected_data) == {3}
    assert dock.table.chosen_rows.tolist() == [3]
    click(bars[1], Qt.KeyboardModifier.ShiftModifier)
    assert set(layer.selected_data) == {1, 3}
    click(120)
    assert set(layer.selected_data) == set()


@pytest.mark.parametrize("name", ["neighbour", "expected_error", "neighbour_class"])
def test_a_click_on_a_point_of_the_scatter_selects_its_particle(seen, qtbot, name):
    dock, layer = seen
    dock.plot.setCurrentIndex(dock.plot.findData(name))
    plot = dock.scatter
    QApplication.processEvents()
    (x,), (y,) = plot.pixels_of(*plot.dots.at(np.array([5])))
    qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(float(x)), round(float(y))))
    assert set(layer.selected_data) == {5}


def test_the_threshold_is_dragged_in_the_plot_and_counts_anew(seen, qtbot):
    dock, _ = seen
    plot = dock.histogram
    (at, to), (height, _) = plot.pixels_of([20.0, 12.0], [1.0, 1.0])
    qtbot.mousePress(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(at), round(height)))
    qtbot.mouseMove(plot, QPoint(round(to), round(height)))
    qtbot.mouseRelease(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(to), round(height)))
    assert dock.inspected.threshold == pytest.approx(12, abs=1)
    assert plot.threshold == dock.inspected.threshold
    assert dock.inspected.failed.sum() == 4


def test_a_property_asked_for_elsewhere_is_plotted(opened):
    dock, _ = opened
    dock.session.events.property(name="local contrast")
    assert dock.plot.currentData() == "contrast"
    assert dock.charts.currentWidget() is dock.scatter
    assert dock.scatter.x_label == "local contrast (σ)"


def test_a_selection_survives_the_filter_and_the_order(opened):
    dock, layer = opened
    layer.selected_data = {1, 2}
    dock.filters.expression.setText("true_error > 20")
    assert dock.table.chosen_rows.tolist() == [1]
    dock.filters.expression.clear()
    assert dock.table.chosen_rows.tolist() == [1, 2]
    assert set(layer.selected_data) == {1, 2}


def test_deleting_points_keeps_rows_and_points_together(opened):
    dock, layer = opened
    layer.selected_data = {0, 2}
    layer.remove_selected()
    settle(dock)
    assert cells(dock, "#") == ["2", "4", "5", "6"]


def test_a_hundred_thousand_rows_are_sorted_filtered_and_selected_in_an_instant(qtbot):
    rng, count = np.random.default_rng(0), 100_000
    columns = {
        "number": np.arange(count),
        "true_error": rng.uniform(0, 60, count),
        "neighbour": rng.uniform(0, 9, count),
    }
    table = ParticleTable()
    qtbot.addWidget(table)
    began = time.process_time()
    table.show_columns(columns, np.ones(count, bool))
    table.sort_worst_first()
    assert table.particles.rows[0] == columns["true_error"].argmax()
    shown = RowFilter("true_error > 30", {"neighbour": (None, 5.0)}).rows(columns, count)
    table.show_rows(shown, chosen=np.flatnonzero(shown)[:2])
    assert table.model().rowCount() == np.count_nonzero((columns["true_error"] > 30) & (columns["neighbour"] <= 5))
    assert time.process_time() - began < 1.0


# --- the particle itself --------------------------------------------------------------------------------------------


def titles(dock):
    return [name for name, _ in dock.patch.pictures.columns]


def test_the_selected_particle_is_shown_beside_its_reference_in_both_poses_and_their_difference(seen, qtbot):
    dock, layer = seen
    qtbot.waitUntil(lambda: "Select a particle" in dock.patch.note.text())
    layer.selected_data = {0}
    qtbot.waitUntil(lambda: bool(titles(dock)), timeout=10_000)
    assert titles(dock) == ["patch", "predicted", "true", "predicted − true"]
    assert dock.patch.reference.name == "4v4r"
    layer.selected_data = {1}
    qtbot.waitUntil(lambda: dock.patch.note.text() == "" and bool(titles(dock)), timeout=10_000)
    assert dock.patch.reference.name == "3j9i"
    assert "Å wide" in dock.patch.pictures.toolTip()


def test_a_click_on_a_slice_shows_its_plane_large_and_another_all_three(seen, qtbot):
    dock, layer = seen
    layer.selected_data = {0}
    qtbot.waitUntil(lambda: bool(titles(dock)), timeout=10_000)
    pictures = dock.patch.pictures
    small = pictures.places()
    assert [(column, plane) for column, plane, _ in small] == [
        (column, plane) for plane in range(3) for column in range(4)
    ]
    _, _, square = small[5]
    qtbot.mouseClick(pictures, Qt.MouseButton.LeftButton, pos=square.center().toPoint())
    large = pictures.places()
    assert [place[:2] for place in large] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert all(place.width() > 1.2 * square.width() for _, _, place in large)
    whole = pictures.rect().adjusted(-1, -1, 1, 1)
    assert all(whole.contains(place.toAlignedRect()) for _, _, place in small + large)
    qtbot.mouseClick(pictures, Qt.MouseButton.LeftButton, pos=large[0][2].center().toPoint())
    assert pictures.places() == small


def test_in_a_low_dock_titles_have_the_room_of_their_line_and_are_not_cut(seen, qtbot):
    dock, layer = seen
    layer.selected_data = {0}
    qtbot.waitUntil(lambda: bool(titles(dock)), timeout=10_000)
    pictures = dock.patch.pictures
    pictures.setFixedSize(190, 150)
    assert len({square.top() for *_, square in pictures.places()}) == 2
    assert [text for text, _ in pictures.heads()] == ["patch", "predicted", "true", "difference"]


def test_without_truth_the_patch_less_the_prediction_is_shown(seen, qtbot):
    dock, layer = seen
    viewer = dock.session.viewer
    viewer.layers.remove(next(found for found in viewer.layers if layer_data.role(found) == TRUTH))
    settle(dock)
    layer.selected_data = {0}
    qtbot.waitUntil(lambda: titles(dock) == ["patch", "predicted", "patch − predicted"], timeout=10_000)


def test_without_the_tomogram_the_dock_says_what_is_missing(seen):
    dock, layer = seen
    viewer = dock.session.viewer
    viewer.layers.remove(next(found for found in viewer.layers if isinstance(found, Image)))
    settle(dock)
    layer.selected_data = {0}
    settle(dock)
    assert "tomogram is not open" in dock.patch.note.text()
    assert dock.patch.pictures.columns == []


def test_closing_the_viewer_with_the_dock_open_leaves_nothing(make_napari_viewer):
    viewer = make_napari_viewer()
    layer = fill(viewer, turns=TURNS)
    _, dock = viewer.window.add_plugin_dock_widget("napari-orient", "Particles")
    dock.inspected.choose(np.array([3]))
    assert set(layer.selected_data) == {3}
    viewer.close()


@pytest.mark.parametrize(("high", "ticks"), [(4.4, [0, 1, 2]), (21, [0, 2, 5, 10, 20]), (9000, [0, 500, 2000, 5000])])
def test_counts_have_round_ticks(high, ticks):
    assert round_counts(high) == ticks
