import runpy
from pathlib import Path

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

from napari_orient.engine.io import VOLUME_SUFFIXES, read_suffixes, written_dialects
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


def test_each_dock_is_offered_and_opens_once_by_its_name(manifest, make_napari_viewer):
    viewer = make_napari_viewer()
    commands = {command.id: command.python_name for command in manifest.contributions.commands}
    docks = {widget.display_name: commands[widget.command] for widget in manifest.contributions.widgets}
    assert {"Load", "Predict", "Train", "Export"} <= set(docks)
    assert next(iter(docks)) == "Discover", "the dock that asks for least comes first"
    for name, place in docks.items():
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        assert f"{type(dock).__module__}:{type(dock).__name__}" == place
        assert isinstance(dock, QWidget)


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
