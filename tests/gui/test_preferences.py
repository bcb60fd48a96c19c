"""Preferences: napari's page for them, and what begins as they say."""

import gc
from types import SimpleNamespace

import napari.settings
import numpy as np
import pytest
from gui_scene import EXTENT, some_particles
from napari.components import ViewerModel
from napari.utils.events import EventedModel
from pydantic import create_model

from napari_orient.gui.colours import INKS
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.canvas import canvas_overlays
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.train_card import TrainCard
from napari_orient.gui.pages.view_cards import ArrowsCard
from napari_orient.gui.preferences import PLUGIN, SECTION, Preferences
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture
def section(monkeypatch):
    """The program's page of Preferences: napari's own; in a napari that has none, one like that of later releases."""
    if not hasattr(napari.settings, "get_plugin_settings"):
        fields = {item.name: (item.type, item.default) for item in Preferences.parameters()}
        own = {SECTION: create_model("Docks", __base__=EventedModel, **fields)()}
        pages = {PLUGIN: SimpleNamespace(**own)}
        monkeypatch.setattr(napari.settings, "get_plugin_settings", pages.__getitem__, raising=False)
    found = getattr(napari.settings.get_plugin_settings(PLUGIN), SECTION)
    before = {item.name: getattr(found, item.name) for item in Preferences.parameters()}
    yield found
    for name, value in before.items():
        setattr(found, name, value)


def test_a_session_begins_as_preferred(make_napari_viewer, section):
    viewer = make_napari_viewer()
    section.length, section.model, section.precision = 320.0, "ribosome-4x32", "fast"
    session = session_of(viewer)
    assert session.drawing.view.display.length == 320
    prediction = page_of(viewer, "Predict")
    assert prediction.loaded.name == "ribosome-4x32"
    assert prediction.options.options().effort.precision == "fast"


def test_a_session_whose_viewer_is_gone_hears_no_preference(section):
    viewer = ViewerModel()
    session = session_of(viewer)
    del viewer
    gc.collect()
    section.length = 320.0
    assert session.drawing.view.display.length == 200


def test_what_is_changed_in_preferences_shows_at_once_and_leaves_the_rest(qtbot, section):
    viewer = ViewerModel()
    session = session_of(viewer)
    layer = session.show_particles(some_particles(), EXTENT, role=PREDICTED, name="predicted")
    prediction, training, arrows = PredictCard(viewer), TrainCard(viewer), ArrowsCard(viewer)
    for dock in (prediction, training, arrows):
        qtbot.addWidget(dock)
    arrows.form.widgets["axes"].value = "z"
    before = axes_layer(viewer, layer).edge_color[0]
    section.length, section.predicted, section.device, section.precision = 320.0, "cyan", "cpu", "precise"
    drawn = axes_layer(viewer, layer)
    assert (arrows.form.options().display.length, arrows.form.options().axes) == (320, "z")
    assert drawn.length == 320 / EXTENT.voxel_size
    np.testing.assert_allclose(drawn.edge_color[0][:3], INKS["cyan"])
    np.testing.assert_allclose(before[:3], INKS["red"])
    np.testing.assert_allclose(layer.face_color[0][:3], INKS["cyan"])
    assert canvas_overlays(viewer)["orient_legend_0"].color[:3].tolist() == pytest.approx(INKS["cyan"])
    assert prediction.options.options().effort.precision == "precise"
    assert prediction.options.options().compute.device == training.training.options().compute.device == "cpu"
    section.length, section.predicted = 200.0, "red"
    np.testing.assert_allclose(axes_layer(viewer, layer).edge_color[0], before)


def test_where_napari_has_no_such_page_the_defaults_hold(monkeypatch):
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)
    assert Preferences.now() == Preferences()
    assert session_of(ViewerModel()).drawing.view.display.length == 200
