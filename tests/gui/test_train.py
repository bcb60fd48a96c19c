"""The Train dock: what it learns from, what it leaves, and what becomes of it when something is in the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_scene import settle
from napari.components import ViewerModel

from napari_orient.cli import main
from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.engine.io import read_labelled, read_particles, read_tomogram, write_particles
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.training.network import Epoch
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.pages.particle_sources import LabelledTrainingSet
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.train_card import OPEN, SIMULATED, TrainCard
from napari_orient.gui.session.edits import rotate, set_status
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.viewer_session import session_of

SMALL = {"width": 16, "depth": 1, "dropout": 0.0, "patch_side": 20, "mask_radius": 90.0}
FEW_EPOCHS = {"epochs": 3, "shift": 0.0, "validation": 0.3, "batch": 16, "device": "cpu"}
FLAGS = [
    word
    for name, value in {**SMALL, **FEW_EPOCHS}.items()
    for word in (f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value))
]
SMALL_BANK = {
    "rotations": 250,
    "dimensions": 120,
    "search_resolution": 40.0,
    "max_shift": 0.0,
    "coarse_rotations": 60,
    "coarse_dimensions": 30,
}
BANK_TRAINING = {"rounds": 0, "side": 24, "validation": 0.3, "device": "cpu"}
ENDLESS = {**FEW_EPOCHS, "epochs": 10_000}


@pytest.fixture
def dock(qtbot):
    """Makes a Train dock, small and quick, beside a viewer without a window."""
    viewers = []

    def made(viewer=None, source=OPEN):
        viewers.append(viewer or ViewerModel())
        dock = TrainCard(viewers[-1])
        qtbot.addWidget(dock)
        dock.source.setCurrentText(source)
        set_options(dock, FEW_EPOCHS)
        return dock

    yield made
    viewers.clear()


def set_options(dock, training):
    for form, values in ((dock.network, SMALL), (dock.training, training)):
        for name, value in values.items():
            form.widgets[name].value = value


def choose_network(dock, name):
    dock.preset.setCurrentIndex(dock.preset.findData(name))
    dock.preset.activated.emit(dock.preset.currentIndex())


def read(dock, qtbot, *paths):
    open_paths(dock.session, paths)
    qtbot.waitUntil(lambda: dock.session.jobs.running is None, timeout=200_000)
    settle(dock)


def finish(dock, qtbot):
    dock.running.start.click()
    qtbot.waitUntil(lambda: dock.running.job is None, timeout=200_000)


def begin(dock, qtbot):
    """Training has begun and come through an epoch."""
    set_options(dock, ENDLESS)
    dock.running.start.click()
    qtbot.waitUntil(lambda: bool(dock.curves.epochs), timeout=200_000)


def use_all_the_same(training):
    """Three epochs may leave a network near chance: then it is put to use by a click alone, and Predict says so."""
    withheld = not training.use.isHidden()
    assert ("hardly better than chance" if withheld else "Predict uses it") in training.result.text()
    if withheld:
        training.use.click()


def on_view(viewer, world):
    """The world's first tomogram and its truth, shown."""
    session, tomogram = session_of(viewer), read_tomogram(world.tomogram)
    session.show_tomogram(tomogram)
    truth = read_particles(world.truth).replace(tomogram=tomogram.name)
    return session.show_particles(truth, tomogram.extent, role=TRUTH, name="truth")


def test_the_dock_and_the_command_line_write_the_same_network_to_the_byte(world, dock, tmp_path, qtbot):
    training, here, there = dock(), tmp_path / "dock" / "mine.safetensors", tmp_path / "cli" / "mine.safetensors"
    here.parent.mkdir()
    there.parent.mkdir()
    read(training, qtbot, world.simulated)
    assert "270 particles with orientations in 3 tomograms" in training.data_note.text()
    training.file.show_path(here)
    finish(training, qtbot)
    assert main([str(word) for word in ["train", world.simulated, "--output", there, *FLAGS]]) == 0
    assert here.read_bytes() == there.read_bytes()
    assert [path.name for path in here.parent.iterdir()] == ["mine.safetensors"]
    figures = load_model(here).card["figures"]
    assert training.curves.best == figures
    assert f"median {figures['validation_median_deg']:.1f}°" in training.result.text()


def test_the_dock_and_the_command_line_make_the_same_template_to_the_byte(world, dock, tmp_path, qtbot):
    training, here, there = dock(), tmp_path / "dock" / "mean.safetensors", tmp_path / "cli" / "mean.safetensors"
    here.parent.mkdir()
    there.parent.mkdir()
    read(training, qtbot, world.simulated / "Tomo001")
    choose_network(training, "template")
    for form, values in ((training.template, SMALL_BANK), (training.template_training, BANK_TRAINING)):
        for name, value in values.items():
            form.widgets[name].value = value
    training.file.show_path(here)
    finish(training, qtbot)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in {**SMALL_BANK, **BANK_TRAINING}.items()]
    given = ["train", world.simulated / "Tomo001", "--output", there, "--network", "template", *words]
    assert main([str(word) for word in given]) == 0
    assert here.read_bytes() == there.read_bytes()
    assert load_model(here).kind == "template"
    assert training.session.model == str(here)
    assert not training.curves.losses.isVisibleTo(training)
    assert training.curves.errors.x_label == "reference"
    (mark,) = training.curves.errors.marks
    assert (mark.x, mark.y) == (1, training.curves.errors.lines[0].y[0])
    assert "Trained 1 of 1 references" in training.result.text()


def test_stop_keeps_the_best_network_and_predict_uses_it_at_once(world, dock, tmp_path, qtbot):
    viewer, out = ViewerModel(), tmp_path / "stopped.safetensors"
    truth = on_view(viewer, world)
    training, prediction = dock(viewer, OPEN), PredictCard(viewer)
    qtbot.addWidget(prediction)
    training.file.show_path(out)
    begin(training, qtbot)
    training.session.jobs.stop()
    qtbot.waitUntil(lambda: training.running.job is None, timeout=200_000)
    assert "Stopped after" in training.result.text()
    use_all_the_same(training)
    kept = load_model(out)
    assert kept.card["figures"] == training.curves.best
    assert prediction.loaded.card == kept.card
    assert prediction.model.currentText() == "stopped.safetensors"
    prediction.running.start.click()
    qtbot.waitUntil(lambda: bool(session_of(viewer).index.particles(PREDICTED)), timeout=200_000)
    qtbot.waitUntil(lambda: prediction.running.job is None)
    (predicted,) = session_of(viewer).index.particles(PREDICTED)
    assert len(predicted.data) == len(truth.data)
    assert "stopped" in layer_data.about(predicted)["provenance"]


def test_a_stopped_training_can_go_on_to_the_same_end(world, dock, tmp_path, qtbot):
    training = dock()
    training.training.widgets["schedule"].value = "constant"
    read(training, qtbot, world.simulated)
    training.file.show_path(tmp_path / "two.safetensors")
    assert not training.resume.isVisibleTo(training)
    begin(training, qtbot)
    training.session.jobs.stop()
    qtbot.waitUntil(lambda: training.running.job is None, timeout=200_000)
    assert training.resume.isVisibleTo(training)
    training.resume.setChecked(True)
    training.training.widgets["epochs"].value = training.curves.epochs[-1].done + 2
    finish(training, qtbot)
    assert not training.resume.isVisibleTo(training)
    training.file.show_path(tmp_path / "whole.safetensors")
    finish(training, qtbot)
    one, two = (load_model(tmp_path / f"{name}.safetensors") for name in ("whole", "two"))
    assert one.card == two.card
    assert all((one.weights[name] == two.weights[name]).all() for name in one.weights)


def test_a_layer_deleted_while_it_is_learnt_does_no_harm(world, dock, tmp_path, qtbot):
    viewer = ViewerModel()
    truth = on_view(viewer, world)
    training = dock(viewer, OPEN)
    training.file.show_path(tmp_path / "mine.safetensors")
    set_options(training, {**FEW_EPOCHS, "epochs": 40})
    training.running.start.click()
    truth.data = truth.data + 3
    viewer.layers.clear()
    qtbot.waitUntil(lambda: training.running.job is None, timeout=200_000)
    assert "Trained 40 of 40 epochs" in training.result.text()
    assert "No particles" in training.data_note.text()
    assert not training.running.start.isEnabled()
    card = load_model(tmp_path / "mine.safetensors").card
    assert card["particles"] == {"training": 63, "validation": 27}


def test_closing_the_viewer_ends_training_and_keeps_the_best(world, make_napari_viewer, tmp_path, qtbot):
    viewer = make_napari_viewer()
    on_view(viewer, world)
    training = page_of(viewer, "Train")
    training.file.show_path(tmp_path / "mine.safetensors")
    begin(training, qtbot)
    viewer.close()
    assert load_model(tmp_path / "mine.safetensors").card["figures"]["epoch"] >= 1


class Broken:
    """A density that cannot be read."""

    def __init__(self, density):
        self.shape, self.ndim, self.dtype = density.shape, 3, density.dtype

    def __getitem__(self, key):
        raise RuntimeError("size mismatch")


def test_a_runtime_error_while_training_is_shown_and_leaves_the_dock_usable(world, dock, tmp_path, qtbot):
    training = dock()
    read(training, qtbot, world.simulated)
    training.file.show_path(tmp_path / "mine.safetensors")
    request = training.request()
    pairs = [
        (replace(tomogram, density=Broken(tomogram.density)), part) for tomogram, part in request.training_set.pairs
    ]
    with qtbot.captureExceptions() as flown:
        training.start(replace(request, training_set=LabelledTrainingSet(pairs)))
        qtbot.waitUntil(lambda: training.running.job is None, timeout=200_000)
    assert "size mismatch" in [str(error) for _, error, _ in flown]
    assert training.running.start.isEnabled()
    assert list(tmp_path.iterdir()) == []


def test_tomograms_simulated_from_a_template_are_those_of_the_command_line(world, dock, tmp_path, qtbot):
    training = dock(source=SIMULATED)
    part, size = training.from_template, {"size_x": 64, "size_y": 64, "size_z": 40, "particles": 12}
    part.template.choose(str(world.template))
    part.tomograms.setValue(2)
    part.seed.setValue(5)
    for name, value in size.items():
        part.options.widgets[name].value = value
    training.file.show_path(tmp_path / "mine.safetensors")
    finish(training, qtbot)
    assert training.curves.epochs[-1].done == 3
    flags = [word for name, value in size.items() for word in (f"--{name.replace('_', '-')}", value)]
    words = ["simulate", world.template, "--output", tmp_path / "cli", "--tomograms", 2, "--seed", 5, *flags]
    assert main([str(word) for word in words]) == 0
    own, theirs = (sorted(path.rglob("*.*")) for path in (tmp_path / "mine_tomograms", tmp_path / "cli"))
    assert [path.name for path in own] == [path.name for path in theirs]
    assert [path.read_bytes() for path in own if path.suffix == ".csv"] == [
        path.read_bytes() for path in theirs if path.suffix == ".csv"
    ]
    np.testing.assert_array_equal(*(read_labelled(path)[0][0].density for path in (tmp_path / "cli", own[0].parent)))


def test_a_symmetric_template_brings_its_group(dock):
    training = dock(source=SIMULATED)
    training.from_template.template.choose("3j9i")
    assert training.network.widgets["symmetry"].value.startswith("D7@")


def test_of_predicted_particles_those_accepted_are_learnt(world, dock):
    viewer = ViewerModel()
    truth = on_view(viewer, world)
    particles = layer_data.particles_of(truth)
    predicted = session_of(viewer).show_particles(particles, None, role=PREDICTED, name="predicted")
    training = dock(viewer, OPEN)
    training.from_particles.choose(predicted)
    assert "No particles" in training.data_note.text()
    assert not training.running.start.isEnabled()
    session, thirds = session_of(viewer), np.arange(0, len(particles), 3)
    set_status(session.history(predicted), thirds, "accepted")
    settle(training)
    assert "30 particles with orientations in 1 tomogram" in training.data_note.text()
    assert "predicted · 30 accepted or corrected" in training.from_particles.list.item(0).text()
    rotate(session.history(predicted), np.array([1, 4]), axis_rotation("z", 20), words="by 20°")
    settle(training)
    assert "32 particles" in training.data_note.text()
    set_status(session.history(truth), thirds, "rejected")
    settle(training)
    training.from_particles.choose(truth)
    assert "60 particles" in training.data_note.text()


def test_of_several_classes_the_largest_is_chosen_and_can_be_changed(world, dock, tmp_path, qtbot):
    particles = read_particles(world.truth, tomogram="tomo_001")
    kinds = np.where(np.arange(len(particles)) < 50, "pdb_1abc", "pdb_2xyz")
    path, extent = tmp_path / "mixed.star", read_tomogram(world.tomogram).extent
    write_particles(path, particles.replace(kind=kinds, tomogram="tomo_001_rec"), extents={"tomo_001_rec": extent})
    training = dock()
    read(training, qtbot, world.tomogram, path)
    training.from_particles.choose(*training.session.index.particles())
    assert training.kind.currentData() == "pdb_1abc"
    training.file.show_path(tmp_path / "mine.safetensors")
    assert training.running.start.isEnabled()
    training.kind.setCurrentIndex(2)
    finish(training, qtbot)
    assert load_model(tmp_path / "mine.safetensors").card["classes"] == ["pdb_2xyz"]


def test_what_cannot_be_learnt_from_is_said_at_once(world, dock, tmp_path, qtbot):
    training = dock()
    training.file.show_path(tmp_path / "mine.pt")
    assert "ends in .safetensors" in training.file_note.text()
    training.file.show_path(tmp_path / "mine.safetensors")
    assert "No particles with orientations" in training.data_note.text()
    assert not training.running.start.isEnabled()


def test_a_preset_fills_in_all_options(dock):
    training = dock()
    choose_network(training, "paper")
    assert training.network.options().front_end == "raw"
    assert training.training.options().schedule == "constant"
    assert training.training.options().epochs == 50


def test_trainings_of_two_viewers_do_not_mix(world, dock, tmp_path, qtbot):
    one, other = dock(), dock()
    for name, training in {"one": one, "other": other}.items():
        read(training, qtbot, world.simulated)
        training.file.show_path(tmp_path / f"{name}.safetensors")
    before = other.session.model
    finish(one, qtbot)
    use_all_the_same(one)
    assert other.curves.epochs == []
    assert other.session.model == before
    assert Path(one.session.model).name == "one.safetensors"


def test_the_curves_show_every_epoch_and_the_best(world, dock, tmp_path, qtbot):
    training = dock()
    read(training, qtbot, world.simulated)
    training.file.show_path(tmp_path / "mine.safetensors")
    steps = []
    training.running.start.click()
    training.running.job.stepped.connect(steps.append)
    qtbot.waitUntil(lambda: training.running.job is None, timeout=200_000)
    epochs = [step for step in steps if isinstance(step, Epoch)]
    learnt, judged = training.curves.losses.lines
    mean, median = training.curves.errors.lines
    assert learnt.x == mean.x == [1, 2, 3]
    assert learnt.y == [epoch.training_loss for epoch in epochs]
    assert judged.y == [epoch.validation_loss for epoch in epochs]
    assert median.y == [epoch.validation_median_deg for epoch in epochs]
    (best,) = training.curves.errors.marks
    assert best.y == min(mean.y)
