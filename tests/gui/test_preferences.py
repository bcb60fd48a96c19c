"""Preferences: napari's page for them, and what begins as they say."""

import napari.settings
import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest

from napari_orient.gui.preferences import PLUGIN, SECTION, Preferences
from napari_orient.gui.session import session_of

HAS_A_PAGE = hasattr(napari.settings, "get_plugin_settings")


@pytest.mark.skipif(not HAS_A_PAGE, reason="this napari has no page for plugins")
def test_the_manifest_declares_every_preference_as_the_program_does():
    section = PluginManifest.from_distribution(PLUGIN).contributions.configurations[SECTION]
    declared = {item.name: item for item in Preferences.parameters()}
    assert set(section.properties) == set(declared)
    for name, own in section.properties.items():
        item = declared[name]
        assert (own.default, tuple(own.enum or ())) == (item.default, item.choices)
        assert (own.minimum, own.maximum) == (item.low, item.high)
        assert own.description.lower() == item.help.lower()


@pytest.mark.skipif(not HAS_A_PAGE, reason="this napari has no page for plugins")
def test_a_session_begins_as_preferred(make_napari_viewer):
    viewer = make_napari_viewer()
    section = getattr(napari.settings.get_plugin_settings(PLUGIN), SECTION)
    section.length, section.checkpoint, section.precision = 320.0, "ribosome-4x32", "fast"
    try:
        session = session_of(viewer)
        assert session.view.length == 320
        prediction = viewer.window.add_plugin_dock_widget(PLUGIN, "Predict")[1]
        assert prediction.checkpoint.name == "ribosome-4x32"
        assert prediction.options.options().precision == "fast"
    finally:
        section.length, section.checkpoint, section.precision = 200.0, "", "auto"


def test_where_napari_has_no_such_page_the_defaults_hold(monkeypatch):
    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)
    assert Preferences.now() == Preferences()
    assert session_of(ViewerModel()).view.length == 200
