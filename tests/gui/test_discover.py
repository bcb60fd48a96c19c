"""The Discover dock: what the command line finds, to the byte; layers that sharpen; the way onward; and the unhappy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gui_scene import settle
from napari.components import ViewerModel
from napari.layers import Points

from engine.phantom import VOXEL_SIZE, molecule
from engine.phantom import tomogram as phantom
from napari_orient.cli import main
from napari_orient.engine.discovery.output import DiscoveryStep
from napari_orient.engine.inspection.corrections import ACCEPTED
from napari_orient.engine.io import read_particles, read_tomogram, write_particles, write_tomogram
from napari_orient.engine.io.columns import OUTLIER
from napari_orient.engine.parameters import DiscoveryOptions
from napari_orient.engine.particles import Particles, Tomogram, concatenate
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.gui.commands import page_of
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import axes_layer
from napari_orient.gui.layers.layer_data import MAP, PICKS, PREDICTED, TRUTH
from napari_orient.gui.pages import discovery_layers, maps
from napari_orient.gui.pages.discover_card import DiscoverCard
from napari_orient.gui.pages.discovery_layers import PROVISIONAL, DiscoveryPreview
from napari_orient.gui.pages.discovery_panel import OTHERS, PREDICT, TRAIN
from napari_orient.gui.pages.predict_card import PredictCard
from napari_orient.gui.pages.train_card import TrainCard
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.viewer_session import session_of

QUICK = DiscoveryOptions.of(
    diameter=150.0, rounds=10, search=500, starts=2, passes=1, max_shift=0.0, symmetry="C1", device="cpu"
)
FLAGS = "--diameter 150 --rounds 10 --search 500 --starts 2 --passes 1 --max-shift 0 --symmetry C1 --device cpu"

COUNT = 32


@dataclass
class Small:
    """A tomogram of 32 molecules and its picks, and what the command line finds in them."""

    folder: Path
    tomogram: Tomogram
    picks: Particles

    @property
    def files(self) -> tuple[Path, Path]:
        return self.folder / "phantom.mrc", self.folder / "picks.star"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    made, picks, _ = phantom(molecule(), noise=0.5, count=(2, 4, 4))
    small = Small(tmp_path_factory.mktemp("small"), made, picks)
    write_tomogram(small.files[0], made.density, voxel_size=VOXEL_SIZE)
    write_particles(small.files[1], picks.replace(rotations=None), extents={"phantom": made.extent})
    return small


def docked(viewer, qtbot, *, tomogram=None, picks=None, options=QUICK):
    """The dock of a viewer, beside a tomogram and its picks if there are any."""
    session = session_of(viewer)
    if tomogram is not None:
        session.show_tomogram(tomogram)
        session.show_particles(picks.replace(rotations=None), tomogram.extent, role=PICKS, name="picks")
    dock = DiscoverCard(viewer)
    qtbot.addWidget(dock)
    dock.options.show_options(options)
    dock.show_state()
    return dock


def begin(dock, qtbot, *, rounds=2):
    """Start, and wait until so many rounds have been drawn."""
    dock.running.start.click()
    qtbot.waitUntil(lambda: dock._last is not None and dock._last.done >= rounds, timeout=200_000)


def finish(dock, qtbot):
    qtbot.waitUntil(lambda: dock.running.job is None and dock.session.drawing.complete, timeout=120_000)


def of_role(viewer, role):
    return [layer for layer in viewer.layers if layer_data.role(layer) == role]


def test_the_dock_finds_what_the_command_line_finds_and_leads_onward(small, qtbot, tmp_path):
    viewer = ViewerModel()
    dock = docked(viewer, qtbot)
    assert not dock.running.start.isEnabled()
    open_paths(dock.session, small.files)
    assert dock.note.text() == "32 picks in 1 tomogram; voxels of 10 Å"
    viewer.dims.set_point(0, 230.0)
    dock.running.start.click()
    seen = watched(dock, viewer)
    finish(dock, qtbot)
    assert viewer.dims.point[0] == pytest.approx(230.0, abs=0.1), "the slice does not jump"
    as_the_command_line(dock, small, tmp_path)
    as_layers(dock, viewer, seen)
    onward_to_predict(dock, viewer, small, qtbot)
    onward_to_train(dock, viewer, qtbot)


def watched(dock, viewer):
    """The layers of arrows and maps that were on view while it ran: one of each, and the same ones throughout."""
    seen = {"arrows": [], "maps": [], "peaks": []}

    def look(step):
        seen["arrows"] += [layer for layer in of_role(viewer, PROVISIONAL) if layer not in seen["arrows"]]
        seen["maps"] += [layer for layer in of_role(viewer, MAP) if layer not in seen["maps"]]

    dock.running.job.reached.connect(look)
    return seen


def as_the_command_line(dock, small, folder):
    (folder / "cli").mkdir()
    (folder / "dock").mkdir()
    places = {name: folder / "cli" / f"found{end}" for name, end in (("output", ".star"), ("map", ".mrc"))}
    words = ["discover", *small.files, "--output", places["output"], "--map", places["map"]]
    words += ["--checkpoint-output", folder / "cli" / "found.safetensors", *FLAGS.split()]
    assert main([str(word) for word in words]) == 0
    dock.result_panel.file.show_path(folder / "dock" / "found.star")
    dock.result_panel.save.click()
    assert "Wrote" in dock.result_panel.saved.text()
    written = sorted(path.name for path in (folder / "cli").iterdir())
    assert written == sorted(path.name for path in (folder / "dock").iterdir())
    for name in written:
        own, theirs = (folder / door / name for door in ("dock", "cli"))
        if own.suffix == ".mrc":
            np.testing.assert_array_equal(read_tomogram(own).density, read_tomogram(theirs).density)
        else:
            assert own.read_bytes() == theirs.read_bytes(), name


def as_layers(dock, viewer, seen):
    assert "A structure was found" in dock.result_panel.banner.headline.text()
    found = dock.result_panel.found
    (points,), (map_layer,) = session_of(viewer).index.particles(PREDICTED), of_role(viewer, MAP)
    held = layer_data.particles_of(points)
    for name in ("positions", "rotations", "confidence", "expected_error_deg"):
        np.testing.assert_allclose(getattr(held, name), getattr(found.particles, name), atol=1e-9)
    assert OUTLIER in held.extra
    assert len(axes_layer(viewer, points).data) == 3 * COUNT
    assert seen["maps"] == [map_layer]
    assert len(seen["arrows"]) == 1
    assert not of_role(viewer, PROVISIONAL)
    np.testing.assert_array_equal(map_layer.data, found.structures[0].average.density)
    assert tuple(map_layer.scale) == (VOXEL_SIZE,) * 3
    assert dock.result_panel.fsc.marks
    assert dock.result_panel.details.text().startswith(f"{COUNT} particles, symmetry C1; expected error")
    assert not session_of(viewer).history(points).undoable


def onward_to_predict(dock, viewer, small, qtbot):
    session = session_of(viewer)
    predicting = PredictCard(viewer)
    qtbot.addWidget(predicting)
    dock.take_next_step(PREDICT)
    assert predicting.loaded.kind == "template"
    assert Path(session.model).parent == session.scratch()
    predicting.run()
    qtbot.waitUntil(lambda: predicting.running.job is None, timeout=200_000)
    (layer,) = (layer for layer in session.index.particles(PREDICTED) if layer not in dock._on_view())
    found = dock.result_panel.found.particles
    assert np.median(angle_deg(layer_data.rotations_in(layer), found.rotations)) < 5


def onward_to_train(dock, viewer, qtbot):
    training = TrainCard(viewer)
    qtbot.addWidget(training)
    dock.take_next_step(TRAIN)
    (points,) = dock._on_view()
    assert [item.layer for item in training.from_particles.chosen()] == [points]
    sure = len(discovery_layers.well_determined_rows(points))
    assert sure > 25
    assert [len(particles) for _, particles in training.from_particles.pairs()] == [sure]
    assert (points.features["status"] == ACCEPTED).sum() == sure
    session_of(viewer).history(points).undo()
    assert "status" not in points.features or not (points.features["status"] == ACCEPTED).any()


def test_stop_keeps_the_poses_and_map_of_the_last_round_and_says_that_nothing_has_judged_them(small, qtbot, tmp_path):
    viewer = ViewerModel()
    dock = docked(viewer, qtbot, tomogram=small.tomogram, picks=small.picks)
    begin(dock, qtbot, rounds=3)
    dock.session.jobs.stop()
    finish(dock, qtbot)
    (points,), (map_layer,) = session_of(viewer).index.particles(PREDICTED), of_role(viewer, MAP)
    np.testing.assert_allclose(layer_data.rotations_in(points), dock._last.particles.rotations)
    np.testing.assert_array_equal(map_layer.data, dock._last.maps[0])
    assert map_layer.scale[0] == pytest.approx(QUICK.patch_voxel_size)
    assert "they have no verdict" in dock.result_panel.banner.reasons.text()
    assert not dock.result_panel.buttons[PREDICT].isVisibleTo(dock)
    dock.result_panel.file.show_path(tmp_path / "stopped.star")
    dock.result_panel.save.click()
    kept = read_particles(tmp_path / "stopped.star", extents={"phantom": small.tomogram.extent})
    assert angle_deg(kept.rotations, dock._last.particles.rotations).max() < 1e-3
    assert "discovery stopped at: Start" in (tmp_path / "stopped.star").read_text().splitlines()[0]


def test_another_run_takes_the_place_of_the_one_before_and_one_undo_brings_its_poses_back(small, qtbot):
    viewer = ViewerModel()
    dock = docked(viewer, qtbot, tomogram=small.tomogram, picks=small.picks)
    held, maps = [], []
    for seed in (0, 1):
        dock.options.widgets["seed"].value = seed
        begin(dock, qtbot)
        dock.session.jobs.stop()
        finish(dock, qtbot)
        (points,), (map_layer,) = session_of(viewer).index.particles(PREDICTED), of_role(viewer, MAP)
        held.append((points, layer_data.rotations_in(points)))
        maps.append(tuple(map_layer.translate))
    assert held[0][0] is held[1][0]
    assert maps[0] == maps[1]
    assert angle_deg(held[0][1], held[1][1]).max() > 20
    session_of(viewer).history(points).undo()
    np.testing.assert_array_equal(layer_data.rotations_in(points), held[0][1])


def test_layers_removed_while_it_runs_stay_away_and_the_rest_is_kept(small, qtbot, shown):
    viewer = ViewerModel()
    dock = docked(viewer, qtbot, tomogram=small.tomogram, picks=small.picks)
    begin(dock, qtbot)
    qtbot.waitUntil(lambda: bool(of_role(viewer, PROVISIONAL) and of_role(viewer, MAP)), timeout=20_000)
    for layer in [*of_role(viewer, PROVISIONAL), *of_role(viewer, MAP), *of_role(viewer, PICKS)]:
        viewer.layers.remove(layer)
    reached = dock._last.done
    qtbot.waitUntil(lambda: dock._last.done > reached + 1, timeout=20_000)
    assert not of_role(viewer, PROVISIONAL)
    assert not of_role(viewer, MAP)
    for image in session_of(viewer).index.tomograms():
        viewer.layers.remove(image)
    dock.session.jobs.stop()
    finish(dock, qtbot)
    assert any("phantom was removed meanwhile" in line for line in shown)
    assert not session_of(viewer).index.particles(PREDICTED)


def test_noise_is_told_in_red_and_leaves_no_arrows_and_no_map(small, qtbot, shown):
    viewer = ViewerModel()
    noise = np.random.default_rng(5).normal(size=small.tomogram.density.shape).astype(np.float32)
    few = DiscoveryOptions.of(**{**QUICK.to_record(), "rounds": 6, "search": 200, "passes": 0})
    dock = docked(viewer, qtbot, tomogram=Tomogram(noise, VOXEL_SIZE, "water"), picks=small.picks[:20], options=few)
    begin(dock, qtbot)
    finish(dock, qtbot)
    assert shown == []
    assert dock.result_panel.found.grade == "nothing"
    assert "no common structure" in dock.result_panel.banner.headline.text()
    assert "What may help" in dock.result_panel.tips.text()
    assert not of_role(viewer, PROVISIONAL)
    assert not of_role(viewer, MAP)
    assert not session_of(viewer).index.particles(PREDICTED)
    assert not any(button.isVisibleTo(dock) for button in (*dock.result_panel.buttons.values(), dock.result_panel.save))


class Unreadable:
    """A density whose voxels cannot be read once a discovery looks at them."""

    def __init__(self, density):
        self.density, self.shape, self.ndim, self.dtype, self.size = density, density.shape, 3, density.dtype, 1
        self.broken = False

    def __getitem__(self, key):
        if self.broken:
            raise RuntimeError("the disk is gone")
        return self.density[key]


def test_an_error_inside_is_told_and_leaves_nothing_behind(small, qtbot):
    viewer = ViewerModel()
    dock = docked(viewer, qtbot, tomogram=small.tomogram, picks=small.picks)
    density = Unreadable(small.tomogram.density)
    request = dock.request()
    (_, picks) = request.pairs[0]
    density.broken = True
    broken = type(request)([(Tomogram(density, VOXEL_SIZE, "phantom"), picks)], request.options)
    with qtbot.captureExceptions() as flown:
        dock.start(broken)
        finish(dock, qtbot)
    assert [str(error) for _, error, _ in flown] == ["the disk is gone"]
    assert "Failed" in dock.result_panel.banner.headline.text()
    assert len(viewer.layers) == 2
    assert dock.running.start.isEnabled()


def test_a_diameter_that_does_not_fit_is_said_as_it_starts(small, qtbot):
    viewer = ViewerModel()
    wide = DiscoveryOptions.of(**{**QUICK.to_record(), "diameter": 300.0})
    dock = docked(viewer, qtbot, tomogram=small.tomogram, picks=small.picks, options=wide)
    dock.running.start.click()
    qtbot.waitUntil(lambda: bool(dock.running.warnings.text() + dock.running.remarks.text()), timeout=200_000)
    assert "look smaller than the diameter of 300 Å" in dock.running.warnings.text() + dock.running.remarks.text()
    dock.session.jobs.stop()
    finish(dock, qtbot)


def test_what_cannot_be_found_is_said_before_it_starts(small, qtbot):
    viewer = ViewerModel()
    dock = docked(viewer, qtbot, tomogram=small.tomogram, picks=small.picks)
    dock.options.widgets["diameter"].value = 60.0
    assert "Give a larger diameter" in dock.note.text()
    assert not dock.running.start.isEnabled()
    dock.options.widgets["diameter"].value = 220.0
    assert dock.running.start.isEnabled()
    (points,) = of_role(viewer, PICKS)
    assert np.allclose(points.size, 22.0), "the rings show the diameter"
    points.selected_data = set(range(13))
    points.remove_selected()
    settle(dock)
    assert "expected at least 20" in dock.note.text()


def test_the_truth_s_positions_are_offered_and_chosen_only_where_there_are_no_picks(small, qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    session.show_tomogram(small.tomogram)
    truth = session.show_particles(small.picks, small.tomogram.extent, role=TRUTH, name="truth")
    dock = docked(viewer, qtbot)
    assert [item.layer for item in dock.picks.chosen()] == [truth]
    dock.picks.choose()
    picks = session.show_particles(small.picks, small.tomogram.extent, role=PICKS, name="picks")
    assert [item.layer for item in dock.picks.chosen()] == [picks]


def test_two_viewers_look_for_themselves_and_one_closed_ends_its_own(small, make_napari_viewer, qtbot):
    shown, other = make_napari_viewer(), ViewerModel()
    second = docked(other, qtbot, tomogram=small.tomogram, picks=small.picks)
    session = session_of(shown)
    session.show_tomogram(small.tomogram)
    session.show_particles(small.picks.replace(rotations=None), small.tomogram.extent, role=PICKS, name="picks")
    first = page_of(shown, "Discover")
    first.options.show_options(QUICK)
    first.run()
    begin(second, qtbot)
    qtbot.waitUntil(lambda: first._last is not None and bool(of_role(shown, PROVISIONAL)), timeout=200_000)
    shown.close()
    second.session.jobs.stop()
    finish(second, qtbot)
    assert len(session_of(other).index.particles(PREDICTED)) == 1


def test_pages_are_opened_by_the_way_onward(small, make_napari_viewer):
    viewer = make_napari_viewer()
    card = page_of(viewer, "Discover")
    dock = card.session.docks["OrientDock"]
    card.running.onward.click()
    assert dock.step == "Inspect"
    for way, step in ((OTHERS, "Data"), (TRAIN, "Poses")):
        card.take_next_step(way)
        assert dock.step == step
    assert dock.page("Poses").buttons["Train"].isChecked()


def test_false_picks_are_pale_and_have_no_arrows(small, qtbot):
    viewer = ViewerModel()
    session = session_of(viewer)
    session.show_tomogram(small.tomogram)
    flags = np.arange(COUNT) % 6 == 0
    poses = small.picks.replace(extra={OUTLIER: flags.astype(int)}, expected_error_deg=np.full(COUNT, 5.0))
    preview = DiscoveryPreview(session, [small.tomogram])
    preview.show(DiscoveryStep(1, 9, "", particles=poses, voxel_size=15.0, start=1, class_count=1))
    (drawn,) = of_role(viewer, PROVISIONAL)

    def show(particles: Particles) -> tuple[list[Points], list[str]]:
        return run(
            discovery_layers.show_poses(
                session, particles, [small.tomogram], preview=preview, provenance="", words="again"
            )
        )

    (layer,), missing = show(poses)
    assert missing == []
    assert axes_layer(viewer, layer) is drawn, "what was drawn is kept"
    assert viewer.layers.index(drawn) == viewer.layers.index(layer) - 1
    assert not list(preview.clear_arrows())
    qtbot.waitUntil(lambda: session.drawing.complete)
    assert len(axes_layer(viewer, layer).data) == 3 * (~flags).sum()
    assert (layer.face_color[flags] != layer.face_color[~flags][0]).any(axis=1).all()
    np.testing.assert_array_equal(discovery_layers.well_determined_rows(layer), np.flatnonzero(~flags))
    changed = poses.replace(extra={OUTLIER: np.zeros(COUNT, int)})
    assert show(changed) == ([layer], [])
    assert len(axes_layer(viewer, layer).data) == 3 * COUNT
    assert np.ptp(layer.face_color, axis=0).max() == 0
    assert session.history(layer).undoable == "again"


def test_each_class_has_its_map_and_colour_and_a_hidden_tomogram_no_arrows(small):
    viewer = ViewerModel()
    session = session_of(viewer)
    other = Tomogram(small.tomogram.density, VOXEL_SIZE, "other")
    for tomogram in (small.tomogram, other):
        session.show_tomogram(tomogram).visible = tomogram is not other
    kinds = np.array(["class1", "class2"])[np.arange(COUNT) % 2]
    both = concatenate([small.picks.replace(kind=kinds), small.picks.replace(kind=kinds, tomogram="other")])
    maps = (molecule(seed=1).density(20), molecule(seed=2).density(20))
    preview = DiscoveryPreview(session, [small.tomogram, other])
    preview.show(DiscoveryStep(1, 9, "", maps=maps, particles=both, voxel_size=15.0, start=1, class_count=2))
    (arrows,), shown = of_role(viewer, PROVISIONAL), of_role(viewer, MAP)
    assert arrows.name.startswith("phantom")
    first, second = arrows.edge_color[0], arrows.edge_color[3]
    assert not np.allclose(first, second)
    assert [layer.name for layer in shown] == ["discovered map class1", "discovered map class2"]
    only = both.take(np.asarray(both.kind) == "class2")
    preview.show(
        DiscoveryStep(2, 9, "", maps=(molecule(seed=3).density(32),), particles=only, voxel_size=10.0, class_count=2)
    )
    assert of_role(viewer, MAP) == shown
    assert [layer.data.shape[0] for layer in shown] == [20, 32]
    assert [layer.scale[0] for layer in shown] == [15.0, 10.0]
    assert shown[1].extent.world[1][2] < 0, "left of the tomogram"
    np.testing.assert_allclose(arrows.edge_color[:, :3], np.tile(second[:3], (len(arrows.data), 1)), atol=1e-6)


@pytest.fixture(scope="module")
def mixed() -> list[tuple[Tomogram, Particles]]:
    """Two tomograms of 24 molecules each, of one kind in each."""
    shapes = (molecule(), molecule(seed=5, radius=40.0))
    made = [phantom(shape, noise=0.2, count=(2, 3, 4), seed=3 * number) for number, shape in enumerate(shapes)]
    return [
        (Tomogram(volume.density, VOXEL_SIZE, name), picks.replace(tomogram=name))
        for name, (volume, picks, _) in zip(("first", "second"), made, strict=True)
    ]


def test_each_kind_of_mixed_picks_has_arrows_a_map_a_verdict_and_a_way_onward(mixed, qtbot, tmp_path):
    viewer = ViewerModel()
    session = session_of(viewer)
    for tomogram, truth in mixed:
        session.show_tomogram(tomogram)
        for role, particles in ((TRUTH, truth), (PICKS, truth.replace(rotations=None))):
            session.show_particles(particles, tomogram.extent, role=role, name=f"{tomogram.name} {role}")
    two = DiscoveryOptions.of(**{**QUICK.to_record(), "classes": "2", "rounds": 12, "search": 400})
    dock = docked(viewer, qtbot, options=two)
    dock.running.start.click()
    finish(dock, qtbot)
    found = dock.result_panel.found
    assert [np.unique(layer_data.picks_of(layer).kind).tolist() for layer in dock._on_view()] in (
        [["class1"], ["class2"]],
        [["class2"], ["class1"]],
    )
    assert [layer.name for layer in of_role(viewer, MAP)] == ["discovered map class1", "discovered map class2"]
    assert session.drawing.view.display.colour == "class"
    for label in (0, 1):
        dock.result_panel.structure.setCurrentIndex(label)
        grade = found.structures[label].verdict.grade
        assert dock.result_panel.structure.currentText() == f"class{label + 1} · {grade} · 24"
        assert found.structures[label].verdict.words.partition(":")[0] == dock.result_panel.banner.headline.text()
        assert "True error, up to one common rotation" in dock.result_panel.details.text()
    dock.take_next_step(PREDICT)
    assert load_model(session.model).card["classes"] == ["class2"]
    dock.take_next_step(TRAIN)
    kinds = np.concatenate(
        [
            layer.features["class"][layer.features["status"] == ACCEPTED]
            for layer in dock._on_view()
            if "status" in layer.features
        ]
    )
    assert set(kinds) == {"class2"}
    each_template_is_of_its_own_class_and_predicts_it(dock, mixed, tmp_path)


def each_template_is_of_its_own_class_and_predicts_it(dock, mixed, folder):
    """From the files that are saved, by the command line."""
    dock.result_panel.file.show_path(folder / "found.star")
    dock.result_panel.save.click()
    for tomogram, _ in mixed:
        write_tomogram(folder / f"{tomogram.name}.mrc", tomogram.density, voxel_size=VOXEL_SIZE)
    found = dock.result_panel.found.particles
    for label, end in ((0, ""), (1, "_class2")):
        network = folder / f"found{end}.safetensors"
        card = load_model(network).card
        assert card["classes"] == [f"class{label + 1}"]
        assert (card["particles"], card["tomograms"]) == ({"training": 24}, 1)
        assert 10 < card["figures"]["fsc_0.5_angstrom"] < 80
    own = found.take(np.asarray(found.kind) == "class2")
    words = ["predict", folder / f"{own.tomogram[0]}.mrc", folder / "found.star", "--class", "class2"]
    words += ["--model", network, "--output", folder / "again.star"]
    assert main([str(word) for word in words]) == 0
    again = read_particles(folder / "again.star")
    assert np.median(angle_deg(again.rotations, own.rotations)) < 6


def test_io_of_several_tomograms_and_one_list_are_opened_and_the_first_alone_is_shown(small, tmp_path, qtbot):
    names, picks = ("TS_1", "TS_2"), small.picks.replace(rotations=None)
    for name in names:
        write_tomogram(tmp_path / f"{name}.mrc", small.tomogram.density, voxel_size=VOXEL_SIZE)
    both = concatenate([picks.take(slice(0, 12)).replace(tomogram="TS_1"), picks.replace(tomogram="TS_2")])
    write_particles(tmp_path / "picks.star", both, extents=dict.fromkeys(names, small.tomogram.extent))
    viewer = ViewerModel()
    dock = docked(viewer, qtbot)
    open_paths(dock.session, [*(tmp_path / f"{name}.mrc" for name in names), tmp_path / "picks.star"])
    assert dock.note.text().startswith("44 picks in 2 tomograms")
    assert {tomogram.name: len(part) for tomogram, part in dock.picks.pairs()} == {"TS_1": 12, "TS_2": 32}
    assert [layer.visible for layer in of_role(viewer, PICKS)] == [True, False]


def test_a_finer_map_goes_through_the_coarse_one_s_voxels():
    density = molecule().density(20)
    fine = maps.upsampled(density)
    assert len(fine) == 80
    np.testing.assert_allclose(fine[::4, ::4, ::4], density, atol=1e-4)


def test_a_ball_is_brightest_where_it_faces_the_light_and_its_middle_is_nearest():
    line = np.arange(64) - 31.5
    distance = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    bright = maps.shaded_surface((30 - distance).clip(0).astype(np.float32))
    row, column = np.unravel_index(np.nanargmax(bright), bright.shape)
    assert row < 31
    assert column < 31
    assert np.isfinite(bright[32, 32])
    assert np.isnan(bright[0, 0])
