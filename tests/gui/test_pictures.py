"""What is really on the screen: rendered by software on a virtual display."""

import numpy as np
import pytest
from qtpy.QtGui import QImage

from napari_orient.engine.io import read_particles, write_particles
from napari_orient.gui.demo_viewer import main
from napari_orient.gui.layers.axes import ViewOptions
from napari_orient.gui.layers.layer_data import PREDICTED, TRUTH
from napari_orient.gui.session.viewer_session import session_of


def pixels(viewer):
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def count(picture, *, more, than):
    """Pixels in which one colour stands out over another."""
    return int((picture[..., more] > picture[..., than] + 80).sum())


@pytest.fixture
def seen(make_napari_viewer, scene):
    """A shown viewer with the scene's tomogram, and the function that adds its poses in a role."""
    viewer = make_napari_viewer(show=True)
    session = session_of(viewer)
    viewer.open(str(scene.mrc), plugin="napari-orient")
    session.drawing.show_as(ViewOptions.of(slab=1000.0, length=150.0, legend=False))

    def add(role):
        particles = read_particles(scene.true)
        layer = session.show_particles(particles, scene.extent, role=role, name=role)
        layer.visible = False
        return session.drawing.draw(layer)

    return viewer, add


@pytest.mark.parametrize(("role", "strong", "weak"), [(PREDICTED, 0, 1), (TRUTH, 1, 0)])
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_predicted_arrows_are_red_and_true_ones_green_on_the_screen(seen, role, strong, weak, ndisplay):
    viewer, add = seen
    viewer.dims.ndisplay = ndisplay
    bare = pixels(viewer)
    assert len(np.unique(bare.reshape(-1, 3), axis=0)) > 50
    assert count(bare, more=strong, than=weak) == 0
    arrows = add(role)
    drawn = pixels(viewer)
    assert count(drawn, more=strong, than=weak) > 200
    assert count(drawn, more=weak, than=strong) == 0
    arrows.visible = False
    assert count(pixels(viewer), more=strong, than=weak) == 0


def test_side_views_show_particles_and_their_arrows(seen):
    viewer, add = seen
    arrows = add(PREDICTED)
    (points,) = session_of(viewer).index.particles(PREDICTED)
    for order in ((1, 0, 2), (2, 0, 1)):
        viewer.dims.order = order
        for shown, least in ((arrows, 200), (points, 20)):
            arrows.visible, points.visible = shown is arrows, shown is points
            assert count(pixels(viewer), more=0, than=1) > least, (order, shown.name)


def test_red_on_green_leaves_both_to_be_seen(seen):
    viewer, add = seen
    add(TRUTH)
    add(PREDICTED)
    picture = pixels(viewer)
    assert count(picture, more=0, than=1) > 100
    assert count(picture, more=1, than=0) > 100


def test_the_demo_leaves_a_picture_of_the_window(scene, qapp, make_napari_viewer):
    particles = read_particles(scene.true)
    extents = {"TS_01": scene.extent}
    for name, part in {
        "picks": particles.replace(rotations=None),
        "truth": particles,
        "predicted": particles.replace(expected_error_deg=np.full(len(particles), 6.0)),
    }.items():
        write_particles(scene.folder / f"{name}.star", part, extents=extents)
    make_napari_viewer()
    picture = scene.folder / "picture.png"
    assert main([str(scene.folder), "--picture", str(picture), "--flat"]) == 0
    image = QImage(str(picture))
    assert image.width() >= 1300
    assert image.height() >= 850
    shown = [image.pixelColor(x, y).rgb() for x in range(0, image.width(), 9) for y in range(0, image.height(), 9)]
    assert len(set(shown)) > 200
