"""A map whose file states no voxel size: every choice of a map asks for it, and takes it into account."""

import mrcfile
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QFileDialog, QInputDialog

from napari_orient.gui.pages.map_choice import FROM_FILE, AlignmentChoice, ReferenceChoice
from napari_orient.gui.pages.particle_sources import TemplateSource
from napari_orient.gui.session.viewer_session import session_of


@pytest.fixture(params=[0.0, 1.0, 5.0])
def chosen(request, tmp_path, monkeypatch):
    """A map's file that a person will choose, what they will answer, and the questions that they are asked."""
    path = tmp_path / "map.mrc"
    with mrcfile.new(path) as file:
        density = np.zeros((12, 12, 12), np.float32)
        density[4:8, 4:8, 4:8] = 1
        file.set_data(density)
        file.voxel_size = request.param
    asked: list[str] = []
    answer = [7.84, True]

    def ask(parent, title, question, *bounds):
        asked.append(question)
        return tuple(answer)

    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(path), ""))
    monkeypatch.setattr(QInputDialog, "getDouble", ask)
    return request.param, asked, answer


def activate_last(box):
    box.setCurrentIndex(box.count() - 1)
    box.activated.emit(box.count() - 1)


def test_every_choice_of_a_map_asks_for_the_voxel_size_that_its_file_lacks(qtbot, tmp_path, chosen):
    stated, asked, _ = chosen
    reference = ReferenceChoice(session_of(ViewerModel()), kinds=list)
    alignment, source = AlignmentChoice(), TemplateSource()
    for widget in (reference, alignment, source):
        qtbot.addWidget(widget)
    for box in (reference, alignment, source.template):
        activate_last(box)
    expected = 7.84 if stated < 2 else stated
    assert len(asked) == (3 if stated < 2 else 0)
    assert reference.template().voxel_size == expected
    assert alignment.target()[1] == expected
    training = source.training_set(beside=tmp_path / "model.safetensors")
    assert training.voxel_size == (None if stated > 2 else expected)


def test_a_question_that_is_cancelled_chooses_no_map(qtbot, chosen):
    stated, _, answer = chosen
    answer[1] = False
    reference = ReferenceChoice(session_of(ViewerModel()), kinds=list)
    qtbot.addWidget(reference)
    activate_last(reference)
    assert (reference.name.endswith("map.mrc"), reference.currentText() == FROM_FILE) == (stated > 2, False)
