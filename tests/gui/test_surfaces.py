"""The reference's surface at every pose: where it is, how it is coloured, and that it follows every edit."""

import numpy as np
import pytest
from gui_scene import EXTENT, VOXEL_SIZE, some_particles
from napari.components import ViewerModel

from engine.phantom import molecule
from napari_orient.engine.inspection.corrections import axis_rotation
from napari_orient.engine.io import write_tomogram
from napari_orient.engine.templates import Template
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.layer_data import PREDICTED
from napari_orient.gui.layers.surfaces import MOST_VERTICES, SurfaceShape, merged, surface_layer
from napari_orient.gui.pages.map_choice import read_reference
from napari_orient.gui.pages.view_cards import SurfaceCard
from napari_orient.gui.session import edits
from napari_orient.gui.session.viewer_session import session_of


def ball(place=(0.0, 0.0, 0.0), *, width=30.0, side=24, voxel_size=10.0):
    """A map of one Gaussian ball at a place (x, y, z) in Å from its origin."""
    axis = (np.arange(side) - (side - 1) / 2) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    squares = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
    return Template(np.exp(-squares / (2 * width**2)), voxel_size=voxel_size)


@pytest.fixture
def viewer():
    made = ViewerModel()
    made.dims.ndisplay = 3
    return made


@pytest.fixture
def layer(viewer):
    return session_of(viewer).show_particles(some_particles(), EXTENT, role=PREDICTED, name="predicted")


def middles(surface, count):
    """The mean vertex of each particle, (N, 3) xyz in Å."""
    return layer_data.flip(surface.vertices.reshape(count, -1, 3).mean(axis=1)) * VOXEL_SIZE


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_a_ball_has_its_known_radius_and_normals_that_point_outwards(level):
    mesh = SurfaceShape(ball(), name="ball").mesh(level)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    np.testing.assert_allclose(radius, 30 * np.sqrt(-2 * np.log(level)), rtol=0.12)
    assert (np.einsum("vi,vi->v", mesh.vertices, mesh.normals) > 0.9 * radius).all()


@pytest.mark.parametrize("name", ["4v4r", "3j9i"])
@pytest.mark.parametrize("level", [0.05, 0.35, 0.9])
def test_no_reference_is_too_fine_to_be_shown_many_times(name, level):
    mesh = SurfaceShape(read_reference(name), name=name).mesh(level)
    assert 12 <= len(mesh.vertices) <= MOST_VERTICES


def test_surfaces_stand_where_the_poses_put_the_map(viewer, layer):
    place = np.array([60.0, 25.0, -35.0])
    surface = session_of(viewer).drawing.show_surface(layer, SurfaceShape(ball(place, width=14), name="off"), level=0.4)
    particles = layer_data.particles_of(layer)
    np.testing.assert_allclose(middles(surface, 6), particles.positions + particles.rotations @ place, atol=2.5)


def test_a_surface_turned_by_its_pose_is_the_turned_surface():
    shape = SurfaceShape(Template(molecule().density(24), voxel_size=10.0), name="blobs")
    mesh, particles = shape.mesh(0.3), some_particles(2)
    vertices, faces, colours = merged(particles, mesh, np.ones((2, 3)))
    count = len(mesh.vertices)
    for row in range(2):
        expected = mesh.vertices @ particles.rotations[row].T + particles.positions[row]
        np.testing.assert_allclose(vertices[row * count : (row + 1) * count, ::-1], expected, atol=1e-3)
    assert faces.max() == 2 * count - 1
    np.testing.assert_array_equal(faces[len(faces) // 2 :] - faces[: len(faces) // 2], count)
    assert colours.shape == (2 * count, 4)
    assert colours[:, 0].min() < 0.6
    assert colours[:, 0].max() > 0.95


def test_surfaces_follow_turns_deletions_undo_and_the_layer_s_end(viewer, layer):
    session, history = session_of(viewer), session_of(viewer).history(layer)
    place = np.array([0.0, 0, 60.0])
    surface = session.drawing.show_surface(layer, SurfaceShape(ball(place, width=14), name="off"), level=0.4)
    before = np.array(surface.vertices)
    edits.rotate(history, np.array([3]), axis_rotation("x", 90), words="by 90°")
    particles = layer_data.particles_of(layer)
    np.testing.assert_allclose(middles(surface, 6), particles.positions + particles.rotations @ place, atol=2.5)
    layer.selected_data = {5}
    layer.remove_selected()
    assert len(middles(surface, 5)) == 5
    history.undo()
    history.undo()
    np.testing.assert_array_equal(surface.vertices, before)
    viewer.layers.remove(layer)
    assert [item for item in viewer.layers if layer_data.role(item) == "surface"] == []


def test_surfaces_are_coloured_and_hidden_as_the_arrows_are(viewer, layer):
    session = session_of(viewer)
    surface = session.drawing.show_surface(layer, SurfaceShape(ball(), name="ball"), level=0.4)
    count = len(surface.vertices) // 6
    assert (surface.vertex_colors[:, 0] > 2 * surface.vertex_colors[:, 1]).all()
    session.drawing.show_as(ViewOptions.of(colour="expected error"))
    hues = surface.vertex_colors.reshape(6, count, 4).mean(axis=1)[:, :3]
    errors = layer_data.particles_of(layer).expected_error_deg
    assert np.argmin(hues.sum(axis=1)) == np.argmin(errors)
    assert len(np.unique(hues.round(3), axis=0)) == 6
    session.drawing.show_as(ViewOptions(most_expected=float(np.sort(errors)[3])))
    assert len(surface.vertices) == 4 * count
    session.drawing.show_as(ViewOptions(most_expected=0.0))
    assert surface.vertex_colors[:, 3].max() == 0


def test_surfaces_are_never_the_active_layer_and_are_shown_in_3d_alone(viewer, layer):
    viewer.layers.selection = {layer}
    surface = session_of(viewer).drawing.show_surface(layer, SurfaceShape(ball(), name="ball"), level=0.4)
    assert viewer.layers.selection.active is layer
    assert surface.visible
    viewer.dims.ndisplay = 2
    assert not surface.visible
    viewer.dims.ndisplay = 3
    assert surface.visible


def test_the_dock_shows_a_map_s_surfaces_and_its_slider_moves_them(viewer, layer, qtbot, tmp_path):
    path = tmp_path / "blobs.mrc"
    write_tomogram(path, molecule().density(24), voxel_size=10.0)
    dock = SurfaceCard(viewer)
    qtbot.addWidget(dock)
    dock.reference.choose(str(path))
    dock.shown.setChecked(True)
    surface = surface_layer(viewer, layer)
    wide = np.abs(surface.vertices - np.repeat(layer.data, len(surface.vertices) // 6, axis=0)).max()
    dock.level.setValue(80)
    qtbot.waitUntil(lambda: "80 %" in dock.level_label.text() and not dock._update_timer.isActive(), timeout=5000)
    narrow = np.abs(surface.vertices - np.repeat(layer.data, len(surface.vertices) // 6, axis=0)).max()
    assert narrow < 0.8 * wide
    assert "6 surfaces" in dock.note.text()
    dock.opacity.setValue(40)
    assert surface.opacity == pytest.approx(0.4)
    dock.shown.setChecked(False)
    assert surface_layer(viewer, layer) is None
    dock.reference.choose(str(tmp_path / "none.mrc"))
    dock.shown.setChecked(True)
    assert not dock.shown.isChecked()
