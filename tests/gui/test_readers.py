import re

import mrcfile
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from qtpy.QtCore import QTimer

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import read_particles, write_particles, write_tomogram
from napari_orient.engine.io.volumes.on_demand import ChunkedDensity
from napari_orient.engine.particles import concatenate
from napari_orient.gui import readers
from napari_orient.gui.layers import layer_data
from napari_orient.gui.sample_data import simulated_sample
from napari_orient.gui.session.viewer_session import session_of

PLUGIN = "napari-orient"


def by_role(viewer, role):
    return [layer for layer in viewer.layers if layer_data.role(layer) == role]


def test_a_tomogram_opens_in_angstroms_and_stays_on_disk(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(scene.mrc), plugin=PLUGIN)
    assert isinstance(layer.data, ChunkedDensity)
    assert tuple(layer.scale) == (13.5, 13.5, 13.5)
    with mrcfile.open(scene.mrc) as file:
        np.testing.assert_array_equal(layer.data[7], file.data[7])


@pytest.mark.parametrize("suffix", [".rec", ".map"])
def test_rec_and_map_are_tomograms_too(scene, suffix):
    path = scene.mrc.with_suffix(suffix)
    scene.mrc.rename(path)
    (layer,) = ViewerModel().open(str(path), plugin=PLUGIN)
    assert layer_data.role(layer) == "tomogram"


def test_a_star_file_opens_at_its_places_with_arrows_and_falls_on_the_tomogram(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    axes, points = viewer.open(str(scene.true), plugin=PLUGIN)
    world = np.array([points.data_to_world(row) for row in points.data])
    np.testing.assert_allclose(world, scene.truth.positions[:, ::-1], atol=1e-5)
    z_arrows = axes.data[2::3, 1]
    np.testing.assert_allclose(z_arrows, scene.truth.rotations[:, ::-1, 2], atol=1e-6)
    assert viewer.layers.extent.world[1][0] <= 32 * 13.5


def test_a_polnet_list_opens_as_truth_with_green_arrows(tmp_path):
    path = tmp_path / "tomo_001_motif_list.csv"
    head = "type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n"
    golden = "cprotein\t1\tpdb_4v4r\t0\t100\t200\t300\t0.545545\t-0.109109\t0.763763\t0.327327\n"
    path.write_text(head + golden)
    viewer = ViewerModel()
    axes, points = viewer.open(str(path), plugin=PLUGIN)
    assert layer_data.role(points) == "truth"
    np.testing.assert_allclose(points.data_to_world(points.data[0]), [300, 200, 100])
    np.testing.assert_allclose(axes.data[2, 1], [-0.190476, 0.619048, 0.761905], atol=1e-5)
    red, green, _, _ = axes.edge_color[2]
    assert green > 2 * red


def test_napari_s_own_save_writes_what_can_be_read_back_byte_for_byte(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    _, points = viewer.open(str(scene.true), plugin=PLUGIN)
    saved = scene.folder / "saved.star"
    points.save(str(saved), plugin=PLUGIN)
    assert saved.read_bytes() == scene.true.read_bytes()


def test_a_list_of_several_tomograms_shows_the_open_one_s_particles_alone(make_napari_viewer, scene):
    other = scene.truth.replace(tomogram="TS_02").take([0, 1])
    both = concatenate([scene.truth, other])
    path = scene.folder / "both.star"
    write_particles(path, both, extents={"TS_01": scene.extent, "TS_02": scene.extent})
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    viewer.open(str(path), plugin=PLUGIN)
    assert [len(layer.data) for layer in by_role(viewer, "picks")] == [len(scene.truth)]


def test_a_list_of_other_tomograms_is_refused_by_their_names(make_napari_viewer, scene, shown):
    path = scene.folder / "other.star"
    others = concatenate([scene.truth.replace(tomogram="XY_7"), scene.truth.replace(tomogram="XY_8")])
    write_particles(path, others, extents={"XY_7": scene.extent, "XY_8": scene.extent})
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    assert readers.read_particle_layers(str(path)) == readers.NO_LAYER
    assert re.search(r"TS_01.*XY_7.*XY_8", shown[-1])


def test_a_list_opened_before_its_tomogram_falls_on_it_all_the_same(make_napari_viewer, scene):
    viewer = make_napari_viewer()
    (scene.folder / "elsewhere").mkdir()
    volume = scene.mrc.rename(scene.folder / "elsewhere" / scene.mrc.name)
    _, points = viewer.open(str(scene.true), plugin=PLUGIN)
    viewer.open(str(volume), plugin=PLUGIN)
    world = points.data_to_world(points.data[3])
    np.testing.assert_allclose(world, scene.truth.positions[3, ::-1], atol=1e-5)
    saved = scene.folder / "saved.star"
    points.save(str(saved), plugin=PLUGIN)
    np.testing.assert_allclose(read_particles(saved).positions, scene.truth.positions, atol=1e-5)


def test_a_tomogram_without_a_voxel_size_is_refused_in_one_line(scene):
    write_tomogram(scene.mrc, np.zeros((4, 5, 6), np.float32), voxel_size=0)
    with pytest.raises(InputError, match="voxel size"):
        readers.read_tomogram_layers(str(scene.mrc))


def test_the_sample_opens_with_picks_on_dark_particles_and_truth_in_green(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample(PLUGIN, "simulated")
    (image,) = by_role(viewer, "tomogram")
    (picks,) = by_role(viewer, "picks")
    assert layer_data.particles_of(picks).rotations is None
    rows = np.round(picks.data).astype(int)
    centres = np.asarray(image.data)[tuple(rows.T)]
    assert centres.mean() < np.asarray(image.data).mean() - 0.3 * np.asarray(image.data).std()
    assert len(by_role(viewer, "truth")) == len(by_role(viewer, "axes")) == 1


def test_a_sample_is_drawn_as_the_arrows_of_its_viewer_are(make_napari_viewer):
    viewer = make_napari_viewer()
    drawing = session_of(viewer).drawing
    drawing.show_as(drawing.view.replace(axes="z"))
    viewer.open_sample(PLUGIN, "simulated")
    (arrows,) = [layer for layer in viewer.layers if layer_data.role(layer) == layer_data.AXES]
    (truth,) = [layer for layer in viewer.layers if layer_data.role(layer) == layer_data.TRUTH]
    assert len(arrows.data) == len(truth.data)


def test_the_window_is_alive_while_a_sample_is_simulated(make_napari_viewer):
    viewer = make_napari_viewer()
    turns, timer = [], QTimer()
    timer.timeout.connect(lambda: turns.append(1))
    timer.start(50)
    viewer.open_sample(PLUGIN, "crowded")
    timer.stop()
    assert len(turns) >= 5
    (picks,), (truth,) = by_role(viewer, "picks"), by_role(viewer, "truth")
    np.testing.assert_array_equal(picks.data, truth.data)
    assert len(by_role(viewer, "tomogram")) == len(by_role(viewer, "axes")) == 1


def test_a_sample_is_simulated_once(qapp):
    assert simulated_sample() is simulated_sample()


def test_a_store_that_is_dropped_becomes_a_layer_that_is_read_by_chunks(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    density = np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)
    group = zarr.create_group(str(tmp_path / "TS_01.zarr"))
    group.create_array("0", data=density, chunks=(8, 8, 8))
    axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [10.0, 10.0, 10.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    (layer,) = viewer.open(str(tmp_path / "TS_01.zarr"), plugin=PLUGIN)
    assert isinstance(layer.data, ChunkedDensity)
    assert (layer.name, tuple(layer.scale)) == ("TS_01", (10, 10, 10))
    session_of(viewer).drawing.show_as(session_of(viewer).drawing.view.replace(slab=0.0))
    viewer.dims.set_current_step(0, 7)
    np.testing.assert_allclose(layer._slice.image.raw, density[7])
    viewer.dims.ndisplay = 3
    np.testing.assert_array_equal(layer_data.tomogram_of(layer).density[3:5], density[3:5])


@pytest.mark.parametrize("suffix", [".tbl", ".em", ".csv", ".json"])
def test_lists_of_other_programs_fall_on_the_open_tomogram_when_they_are_dropped(make_napari_viewer, scene, suffix):
    viewer = make_napari_viewer()
    viewer.open(str(scene.mrc), plugin=PLUGIN)
    truth = read_particles(scene.true).of_kind("4v4r")
    path = scene.folder / f"list{suffix}"
    write_particles(path, truth, extents={"TS_01": scene.extent})
    viewer.open(str(path), plugin=PLUGIN)
    (points,) = by_role(viewer, layer_data.PICKS)
    np.testing.assert_allclose(layer_data.particles_of(points).positions, truth.positions, atol=1e-3)
    again = scene.folder / f"saved{suffix}"
    if suffix != ".csv":
        points.save(str(again), plugin=PLUGIN)
        np.testing.assert_allclose(
            read_particles(again, extents={"TS_01": scene.extent}).positions, truth.positions, atol=1e-3
        )


def test_files_that_are_no_lists_are_left_to_other_plugins(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("Dear colleague, here are my particles.")
    assert readers.particles_reader(str(other)) is None
    (tmp_path / "volume.json").write_text("{}")
    assert readers.particles_reader(str(tmp_path / "volume.json")) is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tilts.star", "data_\n\nloop_\n_wrpMovieName #1\n_wrpAngleTilt #2\na.eer -60\n", "images of a tilt series"),
        ("notes.json", '{"annotation_object": {}}', "metadata of an annotation"),
    ],
)
def test_text_that_is_known_to_be_no_list_is_answered_with_what_it_is(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        readers.particles_reader(str(tmp_path / name))(str(tmp_path / name))
