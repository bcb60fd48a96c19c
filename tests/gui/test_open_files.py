"""No dock writes over a file that is open, or that its work reads: said before the work, in the dock's own words."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_orient.engine.io import read_particles, write_tomogram
from napari_orient.gui.layers.layer_data import PICKS, TRUTH
from napari_orient.gui.pages.result_cards import ExportCard, FigureCard
from napari_orient.gui.pages.train_card import TrainCard
from napari_orient.gui.session.opening import open_paths
from napari_orient.gui.session.tomogram_switch import ListedParticles
from napari_orient.gui.session.viewer_session import session_of

OPEN = "is open here, and would be written over. Name another file."


@pytest.fixture
def opened(scene, qtbot):
    """A viewer with a tomogram, picks and true poses."""
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [scene.mrc, scene.picks, scene.true])
    session.take_for_truth(session.index.particles()[0])
    return viewer


def card_of(viewer, kind, qtbot):
    card = kind(viewer)
    qtbot.addWidget(card)
    return card


def test_export_refuses_the_lists_that_are_open_until_their_layers_are_closed(opened, scene, qtbot, shown):
    export, before = card_of(opened, ExportCard, qtbot), scene.true.read_bytes()
    export.file.show_path(scene.true)
    export.button.click()
    assert OPEN in export.done.text()
    assert OPEN in shown[-1]
    assert scene.true.read_bytes() == before
    session = session_of(opened)
    opened.layers.remove(session.index.particles(TRUTH)[0])
    export.button.click()
    assert "Wrote 12 particles" in export.done.text()


def test_a_link_to_an_open_file_and_a_list_that_has_no_layers_yet_are_open_too(opened, scene, qtbot):
    export, link = card_of(opened, ExportCard, qtbot), scene.folder / "link.star"
    link.symlink_to(scene.picks)
    export.file.show_path(link)
    export.button.click()
    assert OPEN in export.done.text()
    session, listed = session_of(opened), scene.folder / "listed.star"
    listed.write_bytes(scene.true.read_bytes())
    part = ListedParticles(read_particles(listed), TRUTH, "listed", path=listed)
    session.tomograms.list_particles("TS_02", part)
    export.file.show_path(listed)
    export.button.click()
    assert OPEN in export.done.text()


def polnet_folder(folder, names):
    """A folder of PolNet's, with a tomogram and a motif list for each name."""
    row = "cprotein\t1\tpdb_4v4r\t0\t300\t200\t100\t0.545545\t-0.109109\t0.763763\t0.327327\n"
    for name in names:
        place = folder / name.capitalize()
        place.mkdir(parents=True)
        write_tomogram(place / f"{name}_rec.mrc", np.zeros((20, 40, 50), np.float32), voxel_size=10.0)
        (place / f"{name}_motif_list.csv").write_text("type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n" + row)
    return folder


@pytest.mark.parametrize("door", ["a folder", "a list with a table of tomograms"])
def test_every_file_that_was_read_for_a_layer_is_open_whatever_it_came_in(door, tmp_path, qtbot, scene):
    viewer = ViewerModel()
    session = session_of(viewer)
    if door == "a list with a table of tomograms":
        read = [scene.true, tmp_path / "tomograms.star"]
        columns = ["rlnTomoName", "rlnTomoTiltSeriesPixelSize", "rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ"]
        heads = "\n".join(f"_{column}" for column in columns)
        read[1].write_text(f"data_global\n\nloop_\n{heads}\nTS_01 13.5 56 48 32\n")
        open_paths(session, [read[0]])
    else:
        folder = polnet_folder(tmp_path / "polnet", ["tomo_001", "tomo_002"])
        read = sorted(folder.rglob("*.csv"))
        open_paths(session, [folder])
        qtbot.waitUntil(lambda: session.jobs.running is None and len(session.index.particles()) > 0)
    before = [path.read_bytes() for path in read]
    export = card_of(viewer, ExportCard, qtbot)
    for path in read:
        export.file.show_path(path)
        export.button.click()
        assert OPEN in export.done.text(), path
    assert [path.read_bytes() for path in read] == before


def test_a_folder_of_another_program_s_project_opens_as_the_command_line_takes_it(tmp_path, qtbot):
    for number in (1, 2):
        place = tmp_path / "lab" / f"TS_{number:02d}"
        place.mkdir(parents=True)
        write_tomogram(place / "tomo.mrc", np.zeros((20, 40, 50), np.float32), voxel_size=10.0)
        (place / "picks.csv").write_text("x,y,z,rot,tilt,psi\n" + f"{100 * number},200,100,10,20,30\n" * number)
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [tmp_path / "lab"])
    qtbot.waitUntil(lambda: session.jobs.running is None and len(session.index.particles()) == 1)
    assert session.tomograms.names() == ["TS_01", "TS_02"]
    assert [item.tomogram for item in session.tomograms.sets(PICKS)] == ["TS_01", "TS_02"]
    session.tomograms.choose("TS_02")
    assert sorted(len(layer.data) for layer in session.index.particles()) == [1, 2]


def test_particles_of_a_list_without_names_are_saved_with_that_of_the_tomogram_that_came_along(tmp_path, qtbot):
    write_tomogram(tmp_path / "TS_07.mrc", np.zeros((20, 40, 50), np.float32), voxel_size=10.0)
    (tmp_path / "picks.coords").write_text("10 20 5\n12 8 9\n")
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [tmp_path / "picks.coords"])
    (points,) = session.index.particles()
    points.save(str(tmp_path / "saved.star"), plugin="napari-orient")
    assert read_particles(tmp_path / "saved.star").tomogram_names == ["TS_07"]


def test_a_folder_of_tomograms_alone_lists_them_and_shows_the_first(tmp_path, qtbot):
    for name in ("TS_01", "TS_02"):
        write_tomogram(tmp_path / f"{name}.mrc", np.zeros((20, 40, 50), np.float32), voxel_size=10.0)
    viewer = ViewerModel()
    session = session_of(viewer)
    open_paths(session, [tmp_path])
    qtbot.waitUntil(lambda: session.jobs.running is None and len(session.index.volumes()) == 1)
    assert session.tomograms.names() == ["TS_01", "TS_02"]


def test_a_figure_never_takes_the_place_of_an_open_tomogram(opened, scene, qtbot):
    volume = scene.folder / "volume.tif"
    session_of(opened).tomograms.current.metadata["napari-orient"]["path"] = str(volume)
    volume.write_bytes(scene.mrc.read_bytes())
    figure = card_of(opened, FigureCard, qtbot)
    figure.file.show_path(volume)
    figure.button.click()
    assert OPEN in figure.done.text()
    assert volume.read_bytes() == scene.mrc.read_bytes()


def test_train_says_so_before_it_starts(opened, scene, qtbot):
    train = card_of(opened, TrainCard, qtbot)
    train.file.show_path(scene.folder / "mine.safetensors")
    assert train.running.start.isEnabled()
    scene.mrc.rename(scene.folder / "mine.safetensors")
    session_of(opened).tomograms.current.metadata["napari-orient"]["path"] = str(scene.folder / "mine.safetensors")
    train.file.show_path(None)
    train.file.show_path(scene.folder / "mine.safetensors")
    assert OPEN in train.file_note.text()
    assert not train.running.start.isEnabled()


def test_napari_s_own_save_may_renew_the_layer_s_list_but_no_other_open_file(make_napari_viewer, scene, shown):
    viewer = make_napari_viewer()
    open_paths(session_of(viewer), [scene.mrc, scene.true])
    layer = session_of(viewer).index.particles(TRUTH, "picks")[0]
    layer.save(str(scene.true), plugin="napari-orient")
    open_paths(session_of(viewer), [scene.picks])
    before = scene.picks.read_bytes()
    with pytest.warns(UserWarning, match="not a valid writer"):
        layer.save(str(scene.picks), plugin="napari-orient")
    assert OPEN in shown[-1]
    assert scene.picks.read_bytes() == before
