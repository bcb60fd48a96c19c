"""The Inspect page: how many are right, where the failures lie, what goes with the error; and the failures in 3D."""

import numpy as np
import pytest
from gui_scene import settle
from inspection_scene import EXTENT, TURNS, apart, fill, predicted_of, truth_of
from napari.components import ViewerModel
from napari.layers import Image, Points, Vectors
from qtpy.QtCore import QPoint, Qt

from napari_orient.engine.particles import Particles
from napari_orient.engine.templates import bead_symmetry
from napari_orient.gui.docks.dock_strips import ViewStrip
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.canvas import camera, camera_center, frame, screen_axes, view_direction
from napari_orient.gui.layers.layer_data import FAILURES, PICKS, PREDICTED, TRUTH
from napari_orient.gui.pages.inspect_page import InspectPage
from napari_orient.gui.session.failure_view import PALE_AXIS
from napari_orient.gui.session.inspected import RowFilter
from napari_orient.gui.session.viewer_session import session_of


def page_on(viewer, qtbot):
    page = InspectPage(viewer)
    qtbot.addWidget(page)
    settle(page)
    return page


@pytest.fixture
def opened(qtbot):
    """A page beside a viewer without a window, and the layer of predicted particles."""
    viewer = ViewerModel()
    layer = fill(viewer)
    yield page_on(viewer, qtbot), layer
    del viewer


@pytest.fixture
def crowd(qtbot):
    """Sixty particles of which two neighbours and one in a corner are wrong."""
    viewer = ViewerModel()
    truth, turns = apart()
    session_of(viewer).inspection.set_options(session_of(viewer).inspection.options.replace(diameter=150.0))
    layer = fill(viewer, truth, turns=turns)
    yield page_on(viewer, qtbot), layer
    del viewer


def click_region(page, qtbot, place):
    rectangle = page.regions.visualItemRect(page.regions.item(place))
    qtbot.mouseClick(page.regions.viewport(), Qt.MouseButton.LeftButton, pos=rectangle.center())


def failure_layers(viewer):
    session_of(viewer).failure_view.settle()
    return [layer for layer in viewer.layers if layer_data.role(layer) == FAILURES]


# --- the headline ---------------------------------------------------------------------------------------------------


def test_the_headline_says_how_many_are_right_and_what_chance_gives(opened):
    page, _ = opened
    assert page.headline.text() == "3 of 6 right within 20° (chance 1.7\N{NO-BREAK SPACE}%)"
    assert "true error 22.5°, expected error 12.2°" in page.note.text()
    page.settings["threshold"].value = 40.0
    assert page.headline.text().startswith("4 of 6 right within 40°")


def test_without_truth_expected_errors_are_never_called_right(qtbot):
    viewer = ViewerModel()
    fill(viewer, known=False)
    page = page_on(viewer, qtbot)
    assert page.headline.text() == "2 of 6 uncertain: expected error above 20°"
    assert "no true poses are open" in page.note.text()
    assert not page.calibration.isVisibleTo(page)
    truth = session_of(viewer).show_particles(truth_of(), EXTENT, role=TRUTH, name="true")
    settle(page)
    assert page.headline.text().startswith("3 of 6 right")
    assert page.calibration.isVisibleTo(page)
    viewer.layers.remove(truth)
    settle(page)
    assert "uncertain" in page.headline.text()


def test_each_class_has_the_symmetry_of_its_own_and_chance_is_their_mean(opened):
    page, _ = opened
    assert set(page.inspected.values.inspection.symmetry) == {"C1", bead_symmetry("3j9i")}
    assert "(chance 1.7\N{NO-BREAK SPACE}%)" in page.headline.text()
    page.settings["symmetry"].value = "3j9i=C1"
    assert set(page.inspected.values.inspection.symmetry) == {"C1"}
    assert "(chance 0.2\N{NO-BREAK SPACE}%)" in page.headline.text()
    page.settings["symmetry"].value = "C4"
    assert page.inspected.errors[3] < 0.01
    page.settings["symmetry"].value = "C4x"
    assert "Symmetry 'C4x' is unknown" in page.note.text()


def test_an_empty_page_says_what_to_do_and_fills_when_particles_come(qtbot):
    viewer = ViewerModel()
    page = page_on(viewer, qtbot)
    assert "Data page" in page.note.text()
    assert not page.next.isEnabled()
    assert not page.show_failures.isEnabled()
    fill(viewer)
    settle(page)
    assert "of 6 right" in page.headline.text()
    assert page.next.isEnabled()


def test_particles_without_any_error_are_counted_and_nothing_is_claimed(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    session.show_particles(Particles(positions=truth_of(30).positions), EXTENT, role=PICKS, name="picks")
    page = page_on(viewer, qtbot)
    assert page.headline.text() == "30 particles, no errors known yet"
    assert page.regions.count() == 0
    assert page.bars_note.text() == ""


def test_a_point_added_later_has_no_pose_and_is_left_out(opened):
    page, layer = opened
    layer.add([10, 20, 20])
    settle(page)
    assert "of 6 right" in page.headline.text()
    assert "1 without a pose" in page.note.text()


# --- regions --------------------------------------------------------------------------------------------------------


def test_neighbours_that_failed_are_region_a_and_one_click_frames_them_in_3d(crowd, qtbot):
    page, layer = crowd
    page.resize(380, 900)
    page.show()
    viewer = page.session.viewer
    assert page.headline.text().startswith("57 of 60 right")
    first, second = page.regions.texts()
    assert first.startswith("A: 2 failures, 200 Å apart, near (500, 600, 250) Å")
    assert second.startswith("B: 1 failure, near (100, 100, 100) Å")
    click_region(page, qtbot, 0)
    assert viewer.dims.ndisplay == 3
    assert set(layer.selected_data) == {31, 34}
    np.testing.assert_allclose(
        camera_center(viewer), layer_data.picks_of(layer).positions[[31, 34]].mean(axis=0), atol=1
    )


def test_the_failures_keep_their_colours_with_the_angle_beside_them_and_right_particles_fade(crowd, qtbot):
    page, layer = crowd
    page.show_failures.click()
    viewer = page.session.viewer
    added = {found.name: found for found in failure_layers(viewer)}
    assert list(added["failures, angles"].features["label"]) == ["B 160°", "A 70°", "A 45°"]
    red, green = added["failures, predicted"], added["failures, truth"]
    assert len(red.data) == len(green.data) == 9
    assert red.edge_color[2, 0] > 2 * red.edge_color[2, 1]
    assert green.edge_color[2, 1] > 2 * green.edge_color[2, 0]
    assert (str(red.vector_style), str(green.vector_style)) == ("arrow", "line")
    assert np.count_nonzero(added["right, grey"].edge_color[:, 3]) == 57
    faded = np.delete(layer.face_color, [0, 31, 34], axis=0)
    assert np.ptp(faded[:, :3]) < 0.05
    assert faded[:, 3].max() < 0.5
    assert layer.face_color[31, 3] == 1
    hidden = [found for found in viewer.layers if layer_data.role(found) in (TRUTH, layer_data.AXES)]
    assert not any(found.visible for found in hidden)


def test_the_plane_stands_behind_the_failures_from_whatever_side_one_looks(crowd, qtbot):
    page, layer = crowd
    page.inspected.choose(np.array([31, 34]))
    page._region_picked(page.inspected.regions[0])
    viewer = page.session.viewer
    (image,) = [found for found in viewer.layers if isinstance(found, Image)]
    heights = layer_data.picks_of(layer).positions[[31, 34], 2] / 10
    assert view_direction(viewer)[0] > 0
    assert image.plane.position[0] >= heights.max() + 19
    camera(viewer).set_view_direction((-1.0, 0.2, 0), (0, -1, 0))
    assert image.plane.position[0] <= max(heights.min() - 19, 0)


def test_going_back_restores_what_was_shown_before(crowd, qtbot):
    page, layer = crowd
    viewer = page.session.viewer
    page.session.index.truth_of("TS_01").visible = False
    before = {found: found.visible for found in viewer.layers}
    colours, view = layer.face_color.copy(), camera(viewer)
    view.center, view.zoom = (100.0, 200.0, 300.0), 0.2
    (image,) = [found for found in viewer.layers if isinstance(found, Image)]
    plane, point = image.plane.position, viewer.dims.point
    assert not page.back.isEnabled()
    page.show_failures.click()
    page.session.failure_view.show_only(True)
    page.back.click()
    settle(page)
    assert {found: found.visible for found in viewer.layers} == before
    np.testing.assert_array_equal(layer.face_color, colours)
    assert (viewer.dims.ndisplay, image.plane.position, viewer.dims.point) == (2, plane, point)
    np.testing.assert_allclose((view.zoom, *view.center[-2:]), (0.2, 200, 300))
    assert not page.back.isEnabled()


def test_only_failures_in_the_view_strip_leaves_right_particles_out_and_brings_them_back(crowd, qtbot):
    page, layer = crowd
    strip, viewer = ViewStrip(page.session), page.session.viewer
    qtbot.addWidget(strip)
    strip.failures.click()
    added = {found.name: found for found in failure_layers(viewer) if isinstance(found, Vectors)}
    assert list(added) == ["right, grey", "failures, truth", "failures, predicted"]
    assert not added["right, grey"].edge_color[:, 3].any()
    assert np.count_nonzero(layer.face_color[:, 3]) == 3
    assert viewer.dims.ndisplay == 2
    assert page.back.isEnabled()
    strip.failures.click()
    assert failure_layers(viewer) == []
    assert np.count_nonzero(layer.face_color[:, 3]) == 60
    strip.failures.click()
    page.back.click()
    settle(strip)
    assert not strip.failures.isChecked()


def test_the_failures_shown_follow_the_threshold_and_an_edit(crowd, qtbot):
    page, layer = crowd
    page.show_failures.click()
    page.settings["threshold"].value = 60.0
    (labels,) = [found for found in failure_layers(page.session.viewer) if isinstance(found, Points)]
    assert list(labels.features["label"]) == ["A 160°", "B 70°"]
    layer.selected_data = {0}
    layer.remove_selected()
    settle(page)
    (labels,) = [found for found in failure_layers(page.session.viewer) if isinstance(found, Points)]
    assert list(labels.features["label"]) == ["A 70°"]
    page.settings["threshold"].value = 180.0
    assert failure_layers(page.session.viewer) == []
    assert page.session.viewer.dims.ndisplay == 2


def test_a_particle_selected_among_the_pale_ones_has_its_full_arrows(crowd, qtbot):
    page, layer = crowd
    page.show_failures.click()
    settle(page)
    counts = []
    for chosen in (set(), {7}, set()):
        layer.selected_data = chosen
        settle(page)
        arrows = {found.name: found for found in failure_layers(page.session.viewer)}
        counts.append(len(arrows["failures, predicted"].data) // 3)
        assert arrows["right, grey"].edge_color[7, 3] == pytest.approx(0.0 if chosen else PALE_AXIS, abs=1e-6)
        assert len(arrows["failures, angles"].data) == 3
    assert counts == [3, 4, 3]


def test_deleting_the_layer_while_its_failures_are_shown_leaves_nothing_of_them(crowd, qtbot):
    page, layer = crowd
    page.show_failures.click()
    page.session.viewer.layers.remove(layer)
    settle(page)
    assert failure_layers(page.session.viewer) == []
    page.session.viewer.layers.clear()
    settle(page)
    assert page.regions.count() == 0


def test_what_shows_failures_is_no_particles_and_is_offered_nowhere(crowd, qtbot):
    page, layer = crowd
    page.show_failures.click()
    assert page.session.index.particles(PREDICTED) == [layer]
    assert len(page.session.index.particles()) == 2
    assert page.particles.layer is layer


def test_without_truth_the_uncertain_are_shown_in_red_alone(qtbot):
    viewer = ViewerModel()
    truth, turns = apart()
    fill(viewer, truth, known=False, turns=turns)
    page = page_on(viewer, qtbot)
    page.show_failures.click()
    assert "failures, truth" not in [found.name for found in failure_layers(viewer)]
    assert "failures, predicted" in [found.name for found in failure_layers(viewer)]


@pytest.mark.parametrize(("size", "axis"), [((600, 800), 0), ((900, 400), 1)])
def test_what_is_far_apart_is_framed_along_the_longer_side_of_the_canvas(crowd, size, axis):
    viewer = crowd[0].session.viewer
    if hasattr(viewer, "canvas"):
        viewer.canvas.size = size
    else:
        viewer._canvas_size = size
    positions = np.array([[100.0, 200, 300], [700.0, 500, 200]])
    frame(crowd[0].session, positions, margin=100.0)
    apart_on_screen = np.abs(layer_data.flip(positions[1] - positions[0]) @ screen_axes(viewer).T)
    assert apart_on_screen.argmax() == axis
    assert (apart_on_screen + 200) @ np.eye(2)[axis] * camera(viewer).zoom < size[1 - axis]


def test_of_hundreds_of_failures_the_largest_regions_are_listed_and_framed(qtbot):
    viewer, rng = ViewerModel(), np.random.default_rng(0)
    truth = truth_of(3_000)
    turns = np.where(rng.uniform(size=3_000) < 0.1, 90.0, 4.0)
    fill(viewer, truth.replace(positions=truth.positions * 9), turns=turns)
    page = page_on(viewer, qtbot)
    assert page.regions.count() == 51
    page._region_picked(page.inspected.regions[0])
    assert page.session.failure_view.active


# --- what goes with the error ---------------------------------------------------------------------------------------


def test_what_the_error_was_made_from_leads_the_list_and_a_click_plots_it(crowd, qtbot):
    page, _ = crowd
    page.resize(380, 900)
    page.show()
    assert page.bars.found[0].name == "expected error"
    assert page.bars.found[0].significant
    names = {one.name for one in page.bars.found}
    assert {"nearest particle", "distance to a face", "tilt to the beam", "local contrast", "score"} >= names - {
        "expected error"
    }
    assert "local contrast" in names
    wanted = []
    page.session.events.property.connect(lambda event: wanted.append(event.name))
    qtbot.mouseClick(page.bars, Qt.MouseButton.LeftButton, pos=QPoint(20, 5))
    assert wanted == ["expected error"]


def test_nothing_is_claimed_of_six_particles(opened):
    page, _ = opened
    assert page.bars.found == ()
    assert "6 particles are too few" in page.bars_note.text()


def test_a_click_in_the_plot_of_expected_against_true_error_selects_the_particle(crowd, qtbot):
    page, layer = crowd
    page.resize(380, 1400)
    page.show()
    plot = page.calibration
    (x,), (y,) = plot.pixels_of(*plot.dots.at(np.array([31])))
    qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=QPoint(round(float(x)), round(float(y))))
    assert set(layer.selected_data) == {31}


# --- the next worst -------------------------------------------------------------------------------------------------


def test_next_worst_goes_down_the_errors_shown_and_takes_slice_and_camera_along(opened):
    page, layer = opened
    positions = layer_data.picks_of(layer).positions
    for particle in (3, 1, 5, 4):
        page.next.click()
        assert set(layer.selected_data) == {particle}
        np.testing.assert_allclose(camera_center(page.session.viewer), positions[particle], atol=1e-6)
        assert abs(page.session.viewer.dims.point[0] - positions[particle][2]) <= 5
    page.previous.click()
    assert set(layer.selected_data) == {5}


def test_flying_comes_close_but_never_further_away(opened):
    page, _ = opened
    view = camera(page.session.viewer)
    view.zoom = 0.01
    page.go_to_worst(1)
    assert view.zoom > 0.1
    view.zoom = 5.0
    page.go_to_worst(1)
    assert view.zoom == 5


def test_next_worst_with_nothing_to_go_by_says_so(opened, shown):
    page, _ = opened
    page.inspected.set_filter(RowFilter("score > 2"))
    page.next.click()
    assert any("no particle shown has an error" in line for line in shown)


def test_in_3d_the_plane_stands_behind_the_particle_flown_to_and_never_hides_its_arrows(opened):
    page, layer = opened
    page.session.viewer.dims.ndisplay = 3
    page.go_to_worst(1)
    (image,) = [found for found in page.session.viewer.layers if isinstance(found, Image)]
    height = layer_data.picks_of(layer).positions[3][2] / 10
    assert abs(image.plane.position[0] - height) >= min(19, 49 - height, height)


def test_keys_fly_from_anywhere_in_the_window(opened, qtbot):
    page, layer = opened
    page.show()
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    qtbot.keyClick(page.regions, Qt.Key.Key_N)
    qtbot.keyClick(page.regions, Qt.Key.Key_N)
    assert set(layer.selected_data) == {1}
    qtbot.keyClick(page.regions, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert set(layer.selected_data) == {3}


# --- layers that come and go ----------------------------------------------------------------------------------------


def test_deleting_the_inspected_layer_turns_to_the_next_and_deleting_all_empties_the_page(opened):
    page, layer = opened
    page.go_to_worst(1)
    viewer = page.session.viewer
    viewer.layers.remove(layer)
    assert layer_data.role(page.inspected.layer) == TRUTH
    layer.selected_data = {1}
    layer.features = layer.features.copy()
    viewer.layers.clear()
    settle(page)
    assert len(page.inspected) == 0
    assert not page.next.isEnabled()


def test_two_pages_of_two_viewers_do_not_mix(qtbot):
    viewers = [ViewerModel(), ViewerModel()]
    first, second = fill(viewers[0]), fill(viewers[1], truth_of(4, tomogram="TS_02", seed=6), turns=TURNS[:4])
    pages = [page_on(viewer, qtbot) for viewer in viewers]
    pages[0].go_to_worst(1)
    pages[0].settings["symmetry"].value = "C4"
    assert set(first.selected_data) == {3}
    assert set(second.selected_data) == set()
    assert pages[1].inspected.errors[3] == pytest.approx(90.0, abs=0.01)


def test_another_tomogram_shown_is_another_layer_inspected(opened, qtbot):
    page, first = opened
    viewer = page.session.viewer
    truth = truth_of(5, tomogram="TS_02", seed=7)
    second = fill(viewer, truth, turns=TURNS[:5])
    settle(page)
    assert page.inspected.layer is second
    page.session.tomograms.choose(page.session.tomograms.owner(first))
    settle(page)
    assert page.inspected.layer is first
    assert page.particles.layer is first


def test_another_tomogram_shown_while_failures_are_takes_their_layers_along(opened, qtbot):
    page, first = opened
    viewer, switch = page.session.viewer, page.session.tomograms
    second = fill(viewer, truth_of(5, tomogram="TS_02", seed=7), turns=TURNS[:5])
    settle(page)
    page.show_failures.click()
    assert not axes_layer(viewer, second).visible
    switch.choose(switch.owner(first))
    settle(page)
    assert failure_layers(viewer) == []
    own = [layer for layer in viewer.layers if switch.owner(layer) == switch.owner(second)]
    assert not any(layer.visible for layer in own)
    switch.choose(switch.owner(second))
    settle(page)
    assert second.visible
    assert axes_layer(viewer, second).visible
    assert not first.visible


def test_a_layer_with_arrows_keeps_them_after_its_failures_were_shown(crowd, qtbot):
    page, layer = crowd
    arrows = axes_layer(page.session.viewer, layer)
    page.show_failures.click()
    page.back.click()
    settle(page)
    assert arrows.visible
    assert axes_layer(page.session.viewer, layer) is arrows


def test_predicting_again_replaces_errors_and_regions(crowd, qtbot):
    page, layer = crowd
    truth, _ = apart()
    page.session.replace_particles(layer, predicted_of(truth, np.full(60, 3.0)), provenance="", words="predicted")
    settle(page)
    assert page.headline.text().startswith("60 of 60 right")
    assert page.regions.count() == 0
    assert not page.show_failures.isEnabled()
