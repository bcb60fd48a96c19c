"""The figure for print: written whole at 300 dpi, with a histogram for each model and the failure regions."""

import numpy as np
import pytest
from inspection_scene import EXTENT, apart, fill, predicted_of
from napari.components import ViewerModel
from PIL import Image as Picture

from napari_orient.gui.layers.canvas import camera, canvas_size
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.pages.figure import DPI, WIDTH, make_figure
from napari_orient.gui.pages.result_cards import FigureCard
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture
def filled(qtbot):
    viewer = ViewerModel()
    truth, turns = apart()
    fill(viewer, truth, turns=turns)
    card = FigureCard(viewer)
    qtbot.addWidget(card)
    yield viewer, card
    del viewer


def titles(figure):
    return [axes.get_title() for part in figure.subfigs for axes in part.axes]


def test_each_model_has_its_histogram_and_the_regions_are_named(filled):
    viewer, _ = filled
    truth, turns = apart()
    other = predicted_of(truth, np.minimum(turns, 15.0))
    session_of(viewer).show_particles(other, EXTENT, role=PREDICTED, name="template")
    figure = make_figure(session_of(viewer))
    assert "60 of 60 right within 20°" in figure.get_suptitle()
    assert titles(figure) == [
        "",
        "failure regions",
        "template: 60 of 60 within 20°",
        "predicted: 57 of 60 within 20°",
        "expected against true error",
    ]


def test_the_button_writes_the_file_that_is_named_at_300_dpi(filled, tmp_path):
    _, card = filled
    card.file.show_path(tmp_path / "mine")
    card.button.click()
    assert card.done.text() == f"Wrote {tmp_path / 'mine.png'}"
    with Picture.open(tmp_path / "mine.png") as picture:
        assert picture.width == round(WIDTH * DPI)
        assert round(picture.info["dpi"][0]) == 300
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_without_a_name_it_is_named_after_the_tomogram(filled, tmp_path, monkeypatch):
    _, card = filled
    monkeypatch.chdir(tmp_path)
    card.button.click()
    assert (tmp_path / "TS_01_poses.png").exists()


def test_what_cannot_be_drawn_or_written_is_one_line(filled, tmp_path, shown, qtbot):
    _, card = filled
    card.file.show_path(tmp_path / "mine.doc")
    card.button.click()
    nothing = ViewerModel()
    empty = FigureCard(nothing)
    qtbot.addWidget(empty)
    empty.file.show_path(tmp_path / "empty.png")
    empty.button.click()
    assert ["cannot be written as 'mine.doc'" in shown[0], "nothing to draw" in shown[1]] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_the_view_is_in_the_figure_finer_than_on_the_screen_and_stays_as_it_was(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    truth, turns = apart()
    fill(viewer, truth, turns=turns)
    session = session_of(viewer)
    session.failure_view.show(np.zeros(0, int))
    session.failure_view.settle()
    zoom, size = camera(viewer).zoom, canvas_size(viewer)
    figure = make_figure(session)
    (picture,) = figure.subfigs[0].axes[0].images
    pixels = np.asarray(picture.get_array())
    assert pixels.shape[1] >= 0.45 * WIDTH * DPI
    red = (pixels[..., 0].astype(int) - pixels[..., 1] > 80).sum()
    assert red > 300
    assert camera(viewer).zoom == pytest.approx(zoom)
    assert canvas_size(viewer) == size
    assert session.drawing.view.legend
