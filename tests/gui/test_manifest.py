import runpy
from pathlib import Path

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

from napari_orient.engine.io.dialects import read_suffixes, written_dialects
from napari_orient.engine.io.volumes.formats import VOLUME_SUFFIXES
from napari_orient.gui.commands import dock_of, page_of
from napari_orient.gui.docks.orient_dock import OrientDock
from napari_orient.gui.docks.particles_dock import ParticlesDock
from napari_orient.gui.preferences import Preferences

PLUGIN = "napari-orient"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_distribution(PLUGIN)


def test_everything_the_manifest_names_can_be_imported(manifest):
    manifest.validate_imports()


def test_the_manifest_is_seen_first_at_the_top_of_the_project():
    top = Path(__file__).parents[2] / "napari.yaml"
    assert top.is_symlink()
    assert top.resolve().name == "napari.yaml"


def test_the_page_of_preferences_is_made_from_the_options_of_the_program(manifest):
    text = (Path(__file__).parents[2] / "napari.yaml").read_text(encoding="utf-8")
    declared = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "options.py"))["manifest"]()
    assert declared in text, "paste what this prints over that section: python docs/options.py --manifest"
    (section,) = manifest.contributions.configurations.values()
    assert set(section.properties) == {item.name for item in Preferences.parameters()}


def test_two_docks_are_offered_and_each_opens_once_however_it_is_asked_for(manifest, make_napari_viewer):
    viewer = make_napari_viewer()
    commands = {command.id: command.python_name for command in manifest.contributions.commands}
    docks = {widget.display_name: commands[widget.command] for widget in manifest.contributions.widgets}
    assert list(docks) == ["Orient", "Particles"]
    for name, place in docks.items():
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        assert f"{type(dock).__module__}:{type(dock).__name__}" == place
        assert isinstance(dock, QWidget)
    page_of(viewer, "Correct")
    dock_of(viewer, ParticlesDock)
    from_menu = [OrientDock(viewer), ParticlesDock(viewer)]
    for dock in from_menu:
        viewer.window.add_dock_widget(dock, name=f"{dock.title} (Orient)")
    assert sorted(viewer.window.dock_widgets) == ["Orient (Orient)", "Particles (Orient)"]
    assert [viewer.window.dock_widgets[f"{dock.title} (Orient)"] for dock in from_menu] == from_menu


def test_a_dock_that_was_closed_comes_back_as_it_was(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    dock = page_of(viewer, "Export").session.docks["OrientDock"]
    dock.frame.destroyOnClose()
    assert "Orient (Orient)" not in viewer.window.dock_widgets
    qtbot.wait(10)
    again = dock_of(viewer, OrientDock)
    assert again is dock
    assert again.step == "Result"
    assert again.isVisible()


@pytest.mark.parametrize(
    "name",
    [*(f"a{suffix}" for suffix in (*VOLUME_SUFFIXES, *read_suffixes())), "D.MRC", "p.star", "tomo_001_motif_list.csv"],
)
def test_our_files_find_our_reader(name, tmp_path):
    from npe2 import PluginManager

    if name.endswith(".zarr"):
        name = str(tmp_path / name)
        Path(name).mkdir()

    found = PluginManager.instance().iter_compatible_readers([name])
    assert PLUGIN in {reader.plugin_name for reader in found}


def test_napari_offers_to_save_every_format_that_is_known_by_its_suffix(manifest):
    offered = {
        suffix: writer.display_name
        for writer in manifest.contributions.writers
        for suffix in writer.filename_extensions
    }
    first = {}
    for dialect in written_dialects().values():
        first.setdefault(dialect.suffixes[0], dialect.title)
    # Tables are left to napari's own writer, which any points layer may want.
    assert offered == {suffix: title for suffix, title in first.items() if suffix not in (".csv", ".tsv")}
