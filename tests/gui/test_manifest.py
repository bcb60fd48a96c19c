from pathlib import Path

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

from napari_orient.gui.arrows import ArrowsDock
from napari_orient.gui.correction import CorrectDock
from napari_orient.gui.export import ExportDock
from napari_orient.gui.load import LoadDock
from napari_orient.gui.predict import PredictDock

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


def test_each_dock_is_offered_and_opens_once_by_its_name(make_napari_viewer):
    viewer = make_napari_viewer()
    docks = {
        "Load": LoadDock,
        "Predict": PredictDock,
        "Arrows": ArrowsDock,
        "Correct": CorrectDock,
        "Export": ExportDock,
    }
    for name, kind in docks.items():
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        assert isinstance(dock, kind)
        assert isinstance(dock, QWidget)


@pytest.mark.parametrize("name", ["a.mrc", "b.rec", "c.map", "D.MRC", "p.star", "tomo_001_motif_list.csv"])
def test_our_files_find_our_reader(name):
    from npe2 import PluginManager

    found = PluginManager.instance().iter_compatible_readers([name])
    assert PLUGIN in {reader.plugin_name for reader in found}
