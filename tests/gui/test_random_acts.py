"""Faults that random acts found (`benchmarks/gui_monkey.py`), each by the act that made it; and a few such acts."""

import numpy as np
import pytest
from gui_scene import settle
from inspection_scene import fill, truth_of
from napari.components import ViewerModel
from napari.layers._layer_actions import _duplicate_layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_orient.engine.particles import Tomogram
from napari_orient.gui.docks.dock_strips import TomogramHeader, ViewStrip
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import AXES, TRUTH
from napari_orient.gui.pages.data_page import DataPage
from napari_orient.gui.session import edits
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture
def filled(qtbot):
    """A viewer without a window, its session, and the layer of predicted particles."""
    viewer = ViewerModel()
    return viewer, session_of(viewer), fill(viewer)


def drawn(viewer):
    return [layer for layer in viewer.layers if layer_data.role(layer) == AXES]


def test_a_table_sorted_anew_keeps_its_particles_selected_not_its_places(filled, qtbot):
    _, session, layer = filled
    dock = ParticlesDock(session.viewer)
    qtbot.addWidget(dock)
    settle(dock)
    dock.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    session.inspected.choose(np.array([0, 1]))
    dock.table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert dock.table.chosen_rows.tolist() == [0, 1]
    assert layer.selected_data == {0, 1}


def test_a_copy_of_arrows_is_a_layer_of_its_own_and_the_particles_have_theirs_once(filled, qtbot):
    viewer, session, layer = filled
    viewer.layers.selection = {axes_layer(viewer, layer)}
    _duplicate_layer(viewer.layers)
    (copy,) = [item for item in viewer.layers if item.name.endswith("copy")]
    edits.rotate(session.history(layer), np.array([0]), np.diag([1.0, -1, -1]), words="over")
    assert layer_data.role(copy) == ""
    assert len([item for item in drawn(viewer) if session.index.points_of(item) is layer]) == 1
    assert not np.allclose(axes_layer(viewer, layer).data, copy.data)


@pytest.mark.parametrize("edit", ["no rotation", "dropped"])
def test_poses_edited_by_hand_into_none_have_no_arrows(filled, qtbot, edit):
    viewer, session, layer = filled
    table, column = layer.features, layer_data.ROTATION_COLUMNS[0]
    layer.features = (
        table.drop(columns=column) if edit == "dropped" else table.assign(**{column: table[column].to_numpy() + 3})
    )
    qtbot.waitUntil(lambda: session.drawing.complete)
    assert axes_layer(viewer, layer) is None
    session.inspected.settle()
    assert not layer_data.has_pose(layer).any()


def test_particles_and_their_arrows_selected_and_removed_together_are_gone(filled, qtbot):
    viewer, session, layer = filled
    others = [item for item in viewer.layers if item not in (layer, axes_layer(viewer, layer))]
    viewer.layers.selection = {layer, axes_layer(viewer, layer)}
    viewer.layers.remove_selected()
    assert list(viewer.layers) == others
    (truth,) = session.index.particles(TRUTH)
    viewer.layers.selection = {axes_layer(viewer, truth)}
    viewer.layers.remove(truth)
    qtbot.waitUntil(lambda: not drawn(viewer))


def test_failures_on_view_follow_particles_that_are_deleted_at_once(filled, qtbot):
    _, session, layer = filled
    view = session.failure_view
    view.show(np.zeros(0, int))
    view.settle()
    layer.selected_data = {1, 3, 4}
    layer.remove_selected()
    view._draw()
    settle(ParticlesDockless(session))
    assert view.active
    assert len(layer.data) == 3


class ParticlesDockless:
    """What `settle` needs of a dock."""

    def __init__(self, session):
        self.session, self.inspected = session, session.inspected

    def findChildren(self, kind):  # noqa: N802 - Qt's name
        return []


def test_the_legend_goes_with_the_last_arrows(filled, qtbot):
    viewer, session, _ = filled
    for arrows in drawn(viewer):
        viewer.layers.remove(arrows)
    assert session.drawing._canvas_legend.texts(viewer) == []


def test_strip_and_page_follow_what_is_hidden_and_moved_in_the_layer_list(filled, qtbot):
    viewer, session, _ = filled
    rng = np.random.default_rng(0)
    session.show_tomogram(Tomogram(rng.standard_normal((8, 8, 8)).astype(np.float32), 10.0, "TS_02"))
    session.show_particles(truth_of(tomogram="TS_02"), None, role=TRUTH, name="second")
    strip, page, header = ViewStrip(session), DataPage(viewer), TomogramHeader(session)
    for widget in (strip, page, header):
        qtbot.addWidget(widget)
    assert strip.truth.isChecked()
    for layer in session.tomograms.particles(TRUTH):
        layer.visible = False
    qtbot.waitUntil(lambda: not strip.truth.isChecked())
    before = [page.table.item(line, 0).text() for line in range(2)]
    images = [layer for layer in viewer.layers if layer_data.role(layer) == layer_data.TOMOGRAM]
    viewer.layers.move(viewer.layers.index(images[1]), viewer.layers.index(images[0]))
    qtbot.waitUntil(lambda: [page.table.item(line, 0).text() for line in range(2)] == before[::-1])
    assert header._names == before[::-1]


def test_a_tomogram_in_other_units_has_other_voxels_in_the_header(filled, qtbot):
    _, session, _ = filled
    header = TomogramHeader(session)
    qtbot.addWidget(header)
    (image,) = session.index.volumes()
    assert "10 Å" in header.voxels.text()
    image.units = ("nm",) * 3
    qtbot.waitUntil(lambda: "100 Å" in header.voxels.text())
    QApplication.processEvents()


def test_the_data_page_says_why_an_image_is_no_tomogram_and_which_size_is_none(filled, qtbot):
    viewer, session, _ = filled
    page = DataPage(viewer)
    qtbot.addWidget(page)
    cell = page.table.item(0, 1)
    for text, size in (("12,5", "12.5 Å"), ("8.25 Å", "8.25 Å"), ("inf", "8.25 Å")):
        cell.setText(text)
        qtbot.waitUntil(lambda size=size: cell.text() == size)
    assert "'inf' is no voxel size" in page.note.text()
    (image,) = session.index.volumes()
    image.scale = (10, 10, 20)
    qtbot.waitUntil(lambda: "TS_01: has voxels that are no cubes" in page.note.text())
    viewer.layers.clear()
    viewer.add_image(np.zeros((2, 8, 8, 8)), name="series")
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), name="photo", rgb=True)
    qtbot.waitUntil(lambda: "series has 4 axes" in page.note.text() and "photo is in colours" in page.note.text())


def test_hidden_arrows_take_other_colours_and_numbers_after_the_view_has_turned_to_3d(make_napari_viewer):
    """napari slices a hidden layer no more, and raised where its arrows were drawn."""
    viewer = make_napari_viewer()
    layer = fill(viewer)
    session, arrows = session_of(viewer), axes_layer(viewer, layer)
    arrows.visible = False
    viewer.dims.ndisplay = 3
    session.drawing.show_as(session.drawing.view.replace(colour="expected error"))
    layer.selected_data = {0, 2, 5}
    layer.remove_selected()
    assert len(arrows.data) == 9
    arrows.visible = True
    viewer.dims.ndisplay = 2


def test_failures_stay_framed_where_a_dock_takes_room_of_the_canvas_and_a_person_s_own_view_stays(filled, qtbot):
    viewer, session, _ = filled
    view, camera = session.failure_view, viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    if not hasattr(viewer, "canvas"):
        return  # This napari has no event of the canvas' size.
    viewer.canvas.size = (600, 800)
    view.show(np.zeros(0, int))
    whole = camera.zoom
    viewer.canvas.size = (300, 800)
    qtbot.waitUntil(lambda: camera.zoom < whole)
    camera.zoom = own = 3.0
    viewer.canvas.size = (600, 800)
    view._reframing.settle()
    assert camera.zoom == own
