"""Failures of a small network in a tomogram of PolNet, found in one click; not collected where there are no data."""

import os
from pathlib import Path

import numpy as np
import pytest
from gui_scene import settle
from qtpy.QtCore import Qt

from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.prediction.predict import load_model, predict
from napari_orient.engine.streams import run
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.canvas import camera
from napari_orient.gui.layers.layer_data import FAILURES, PREDICTED, TRUTH
from napari_orient.gui.session.viewer_session import session_of

DATA = Path(os.environ.get("NAPARI_ORIENT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
TOMO = DATA / "polnet" / "Tomo003"
KIND = "pdb_4v4r"


def test_two_failures_266_angstrom_apart_are_region_a_and_one_click_shows_both_in_full_colours(
    make_napari_viewer, qtbot
):
    tomogram = read_tomogram(next(TOMO.glob("*.mrc")))
    truth = read_particles(next(TOMO.glob("*motif_list.csv")), tomogram=tomogram.name)
    found = run(predict(tomogram, truth.of_kind(KIND).replace(rotations=None), load_model("ribosome-4x32")))
    viewer = make_napari_viewer(show=True)
    session = session_of(viewer)
    session.show_tomogram(tomogram)
    session.show_particles(truth, tomogram.extent, role=TRUTH, name="true")
    layer = session.show_particles(found, tomogram.extent, role=PREDICTED, name="predicted")
    page = page_of(viewer, "Inspect")
    settle(page)
    assert page.headline.text() == "65 of 68 right within 20° (chance 0.2\N{NO-BREAK SPACE}%)"
    assert page.regions.texts()[0].startswith("A: 2 failures, 267 Å apart, near (1731, 1936, 624) Å")
    rectangle = page.regions.visualItemRect(page.regions.item(0))
    qtbot.mouseClick(page.regions.viewport(), Qt.MouseButton.LeftButton, pos=rectangle.center())
    session.failure_view.settle()
    (labels,) = [item for item in viewer.layers if layer_data.role(item) == FAILURES and "angles" in item.name]
    assert list(labels.features["label"]) == ["A 21°", "A 25°", "B 45°"]
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    height, width = picture.shape[:2]
    middle = picture[height // 5 : -height // 5, width // 8 : -width // 8]
    assert (middle[..., 0] - middle[..., 1] > 90).sum() > 300
    assert (middle[..., 1] - middle[..., 0] > 60).sum() > 300
    positions = layer_data.picks_of(layer).positions[sorted(layer.selected_data)]
    assert np.linalg.norm(positions[0] - positions[1]) == pytest.approx(267, abs=2)
    assert camera(viewer).zoom * 267 > 0.25 * width
