"""Preferences: napari's page for them, and what begins as they say."""

import gc

import napari.settings
import numpy as np
import pytest
from gui_scene import EXTENT, some_particles
from napari.components import ViewerModel

from napari_orient.gui.axes import axes_layer
from napari_orient.gui.colours import INKS
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers import PREDICTED
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.train_card import TrainCard
from napari_orient.gui.pages.view_cards import ArrowsCard
from napari_orient.gui.preferences import PLUGIN, SECTION, Preferences
from napari_orient.gui.session import session_of

HAS_A_PAGE = hasattr(napari.settings, "get_plugin_settings")


@pytest.mark.skipif(not HAS_A_PAGE, reason="this napari has no page for plugins")
def test_a_session_begins_as_preferred(make_napari_viewer):
    viewer = make_napari_viewer()
    section = getattr(napari.settings.get_plugin_settings(PLUGIN), SECTION)
    try:
        section.length, section.model, section.precision = 320.0, "ribosome-4x32", "fast"
        session = session_of(viewer)
        assert session.drawing.view.display.length == 320
        prediction = page_of(viewer, "Predict")
        assert prediction.loaded.name == "ribosome-4x32"
        assert prediction.options.options().effort.precision == "fast"
    finally:
        section.length, section.model, section.precision = 200.0, "", "auto"


@pytest.mark.skipif(not HAS_A_PAGE, reason="this napari has no page for plugins")
def test_a_session_whose_viewer_is_gone_hears_no_preference():
    viewer = ViewerModel()
    session = session_of(viewer)
    del viewer
    gc.collect()
    section = getattr(napari.settings.get_plugin_settings(PLUGIN), SECTION)
    try:
        section.length = 320.0
    finally:
        section.length = 200.0
    assert session.drawing.view.display.length == 200


@pytest.mark.skipif(not HAS_A_PAGE, reason="this napari has no page for plugins")
def test_what_is_changed_in_preferences_shows_at_once_and_leaves_the_rest(qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(some_particles(), EXTENT, role=PREDICTED, name="predicted")
    prediction, training, arrows = PredictCard(viewer), TrainCard(viewer), ArrowsCard(viewer)
    for dock in (prediction, training, arrows):
        qtbot.addWidget(dock)
    arrows.form.widgets["axes"].value = "z"
    before = axes_layer(viewer, layer).edge_color[0]
    section = getattr(napari.settings.get_plugin_settings(PLUGIN), SECTION)
    section.length, section.predicted, section.device, section.precision = 320.0, "cyan", "cpu", "precise"
    try:
        drawn = axes_layer(viewer, layer)
        assert (arrows.form.options().display.length, arrows.form.options().axes) == (320, "z")
        assert drawn.length == 320 / EXTENT.voxel_size
        np.testing.assert_allclose(drawn.edge_color[0][:3], INKS["cyan"])
        np.testing.assert_allclose(before[:3], INKS["red"])
        np.testing.assert_allclose(layer.face_color[0][:3], INKS["cyan"])
        assert session.viewer.canvas.overlays["orient_legend_0"].color[:3].tolist() == pytest.approx(INKS["cyan"])
        assert prediction.options.options().effort.precision == "precise"
        assert prediction.options.options().compute.device == training.training.options().compute.device == "cpu"
    finally:
        section.length, section.predicted, section.device, section.precision = 200.0, "red", "auto", "auto"
    np.testing.assert_allclose(axes_layer(viewer, layer).edge_color[0], before)


def test_where_napari_has_no_such_page_the_defaults_hold(monkeypatch):
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)
    assert Preferences.now() == Preferences()
    assert session_of(ViewerModel()).drawing.view.display.length == 200
