import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
from scipy.spatial.transform import Rotation

from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui import axes, colours, layers
from napari_orient.gui.axes import ViewOptions, axes_layer
from napari_orient.gui.canvas import corner
from napari_orient.gui.layers import PREDICTED, TRUTH
from napari_orient.gui.pages.arrows_card import ArrowsCard
from napari_orient.gui.session import session_of

EXTENT = Extent((100, 100, 50), 10.0)
KINDS = np.array(["pdb_1abc", "pdb_4v4r"])
TURNS = np.array([0, 5, 10, 90.0, 20, 40])


def true_particles(count=6):
    rng = np.random.default_rng(4)
    places = [[0, 0, 0], [50, 0, 0], [100, 0, 0], [900, 0, 0], [900, 50, 0], [500, 900, 400]]
    return Particles(
        positions=places[:count],
        rotations=random_rotations(count, rng),
        kind=KINDS[np.arange(count) % 2],
        tomogram="TS_01",
    )


def predicted_of(truth):
    turns = Rotation.from_rotvec(np.radians(TURNS[:, None]) * [0, 0, 1.0]).as_matrix()
    return truth.replace(
        rotations=truth.rotations @ turns,
        confidence=np.array([0.9, 0.8, 0.7, 0.2, 0.5, np.nan]),
        expected_error_deg=np.array([3.0, 6, 9, 60, 20, np.nan]),
    )


@pytest.fixture
def shown():
    """A session whose viewer shows six true particles and their predicted poses."""
    viewer = ViewerModel()
    session, truth = session_of(viewer), true_particles()
    session.true = session.show_particles(truth, EXTENT, role=TRUTH, name="true")
    session.predicted = session.show_particles(predicted_of(truth), EXTENT, role=PREDICTED, name="predicted")
    # The session does not keep its viewer.
    session.held = viewer
    return session


def colours_on(session, layer):
    """Colours of the z arrows, one a particle."""
    return axes_layer(session.viewer, layer).edge_color[:, :3].reshape(len(layer.data), -1, 3)[:, -1]


def test_colours_by_role_are_red_and_green_and_by_axis_three_for_every_particle(shown):
    red, green = colours_on(shown, shown.predicted)[0], colours_on(shown, shown.true)[0]
    assert red[0] > 4 * red[1]
    assert green[1] > 2 * green[0]
    shown.drawing.show_as(ViewOptions.of(colour="axis"))
    for layer in (shown.predicted, shown.true):
        drawn = axes_layer(shown.viewer, layer).edge_color.reshape(6, 3, 4)
        assert (drawn == drawn[0]).all()
        assert drawn[0, :, :3].argmax(axis=1).tolist() == [0, 1, 2]
    assert [name for name, _ in shown.drawing.legend().entries] == ["x", "y", "z"]


@pytest.mark.parametrize("colormap", colours.COLORMAPS)
def test_a_larger_true_error_is_further_up_the_colormap_and_brighter(shown, colormap):
    shown.drawing.show_as(ViewOptions.of(colour="true error", colormap=colormap, axes="z"))
    drawn = colours_on(shown, shown.predicted)
    np.testing.assert_allclose(drawn, colours.graded(TURNS, colormap, shown.drawing.scale()), atol=1e-6)
    brightness = (drawn @ [0.2126, 0.7152, 0.0722])[np.argsort(TURNS)]
    assert (np.diff(brightness) > 0).all()
    legend = shown.drawing.legend()
    assert (legend.title, legend.unit, legend.scale.low) == ("true error", "°", 0)
    assert 80 <= legend.scale.high <= 100


def test_the_truth_itself_has_no_error_and_stays_green(shown):
    before = colours_on(shown, shown.true)
    shown.drawing.show_as(ViewOptions.of(colour="true error"))
    np.testing.assert_array_equal(colours_on(shown, shown.true), before)


def test_an_unknown_value_is_grey_and_a_range_asked_for_is_kept(shown):
    shown.drawing.show_as(ViewOptions.of(colour="expected error", low=5.0, high=10.0, axes="z"))
    drawn = colours_on(shown, shown.predicted)
    np.testing.assert_allclose(drawn[5], colours.UNKNOWN, atol=1e-6)
    np.testing.assert_array_equal(drawn[3], drawn[4])
    assert (shown.drawing.legend().scale.low, shown.drawing.legend().scale.high) == (5, 10)


def test_the_true_error_follows_the_symmetry(shown):
    shown.drawing.show_as(ViewOptions.of(colour="true error", axes="z"))
    shown.inspection.set_options(InspectionOptions(symmetry="C4"))
    drawn = colours_on(shown, shown.predicted)
    np.testing.assert_array_equal(drawn[3], drawn[0])


def test_a_class_has_one_colour_in_every_layer(shown):
    truth = true_particles()
    lone = shown.show_particles(truth.take(truth.kind == KINDS[1]), EXTENT, role=PREDICTED, name="ribosomes")
    shown.drawing.show_as(ViewOptions.of(colour="class", axes="z"))
    np.testing.assert_array_equal(colours_on(shown, lone)[0], colours_on(shown, shown.true)[1])
    assert [name for name, _ in shown.drawing.legend().entries] == list(KINDS)


def test_clusters_are_set_apart_and_one_alone_is_grey(shown):
    shown.drawing.show_as(ViewOptions.of(colour="cluster", axes="z"))
    shown.inspection.set_options(InspectionOptions(cluster_distance=60))
    drawn = colours_on(shown, shown.predicted)
    assert len(np.unique(drawn, axis=0)) == 3
    np.testing.assert_array_equal(drawn[0], drawn[2])
    np.testing.assert_allclose(drawn[5], colours.UNKNOWN, atol=1e-6)
    assert [name for name, _ in shown.drawing.legend().entries] == ["alone", "1", "2"]


def test_a_verdict_has_its_colour(shown):
    shown.drawing.show_as(ViewOptions.of(colour="status", axes="z"))
    table = shown.predicted.features.copy()
    table["status"] = ["accepted", "rejected", "", "", "", ""]
    shown.predicted.features = table
    drawn = colours_on(shown, shown.predicted)
    np.testing.assert_allclose(drawn[:3], [colours.VERDICTS[word] for word in ("accepted", "rejected", "")], atol=1e-6)


def test_without_truth_the_true_error_is_not_known_and_the_legend_says_so(shown):
    shown.viewer.layers.remove(shown.true)
    before = colours_on(shown, shown.predicted)
    shown.drawing.show_as(ViewOptions.of(colour="true error"))
    np.testing.assert_array_equal(colours_on(shown, shown.predicted), before)
    assert shown.drawing.legend().title == "true error is not known: by role"


def test_particles_below_a_score_or_above_an_expected_error_show_no_arrows_until_asked_again(shown):
    def starts():
        return axes_layer(shown.viewer, shown.predicted).data[:, 0, 2].round() * 10

    shown.drawing.show_as(ViewOptions(axes="z", least_score=0.75))
    assert starts().tolist() == [0, 50, 500]
    shown.drawing.show_as(ViewOptions(axes="z", most_expected=9.0))
    assert starts().tolist() == [0, 50, 100, 500]
    assert len(axes_layer(shown.viewer, shown.true).data) == 6
    shown.drawing.show_as(ViewOptions(axes="z"))
    assert len(starts()) == 6


def test_hiding_all_arrows_leaves_a_layer_that_can_show_them_again(shown):
    table = shown.predicted.features.copy()
    table["confidence"] = 0.1
    shown.predicted.features = table
    shown.drawing.show_as(ViewOptions.of(colour="score", least_score=0.5))
    arrows = axes_layer(shown.viewer, shown.predicted)
    assert arrows.edge_color[:, 3].max() == 0
    shown.drawing.show_as(ViewOptions.of(colour="score"))
    assert axes_layer(shown.viewer, shown.predicted) is arrows
    assert len(arrows.data) == 18
    assert arrows.edge_color[:, 3].min() == 1


@pytest.mark.parametrize(("axis", "column"), [("x", 0), ("y", 1), ("z", 2)])
def test_one_axis_alone_is_drawn_at_its_full_length(shown, axis, column):
    shown.drawing.show_as(ViewOptions.of(axes=axis, length=150.0))
    arrows = axes_layer(shown.viewer, shown.true)
    along = arrows.data[:, 1] * arrows.length * 10
    np.testing.assert_allclose(along, 150 * true_particles().rotations[:, :, column][:, ::-1], atol=1e-3)


def test_many_arrows_lose_their_heads_and_get_them_back(shown, monkeypatch):
    monkeypatch.setattr(axes, "MANY", 10)
    shown.drawing.show_as(ViewOptions())
    arrows = axes_layer(shown.viewer, shown.predicted)
    assert str(arrows.vector_style) == "triangle"
    shown.drawing.show_as(ViewOptions(axes="z"))
    assert str(arrows.vector_style) == "arrow"


def test_what_is_as_it_was_is_not_drawn_anew(shown):
    arrows = axes_layer(shown.viewer, shown.predicted)
    told = []
    arrows.events.data.connect(lambda: told.append("data"))
    arrows.events.edge_color.connect(lambda: told.append("colour"))
    shown.drawing.show_as(ViewOptions())
    assert told == []
    shown.drawing.show_as(ViewOptions.of(colour="score"))
    assert "data" not in told
    assert "colour" in told


def test_arrows_follow_the_points(shown):
    shown.drawing.show_as(ViewOptions.of(colour="expected error", axes="z"))
    kept = colours_on(shown, shown.predicted)[2:]
    shown.predicted.selected_data = {0, 1}
    shown.predicted.remove_selected()
    np.testing.assert_array_equal(colours_on(shown, shown.predicted), kept)
    shown.viewer.layers.remove(shown.predicted)
    assert len([layer for layer in shown.viewer.layers if layers.role(layer) == layers.AXES]) == 1


# --- the dock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def dock(shown, qtbot):
    made = ArrowsCard(shown.viewer)
    qtbot.addWidget(made)
    return made


def test_the_dock_sets_how_arrows_are_drawn_and_its_legend_follows(shown, dock):
    assert dock.legend.texts() == ["role", "predicted", "truth"]
    assert not dock.form.widgets["colormap"].enabled
    dock.form.widgets["axes"].value = "z"
    dock.form.widgets["length"].value = 300.0
    dock.form.widgets["style"].value = "line"
    dock.form.widgets["slab"].value = 80.0
    dock.form.widgets["colour"].value = "expected error"
    dock.form.widgets["high"].value = "40"
    arrows = axes_layer(shown.viewer, shown.predicted)
    assert len(arrows.data) == 6
    assert arrows.length * 10 == pytest.approx(300)
    assert str(arrows.vector_style) == "line"
    assert shown.viewer.dims.thickness[0] == 80
    assert dock.form.widgets["colormap"].enabled
    assert dock.legend.texts() == ["expected error", "0°", "10°", "20°", "30°", "40°"]


def test_the_dock_shows_what_was_set_elsewhere(shown, dock):
    shown.drawing.show_as(ViewOptions.of(colour="cluster", length=120.0))
    assert dock.form.options() == ViewOptions.of(colour="cluster", length=120.0)
    assert dock.legend.texts()[0] == "cluster"


def test_a_value_that_is_no_number_is_one_line_and_changes_nothing(shown, dock):
    from napari.utils.notifications import notification_manager

    lines = []

    def note(notification):
        lines.append(notification.message)

    notification_manager.notification_ready.connect(note)
    dock.form.widgets["high"].value = "much"
    notification_manager.notification_ready.disconnect(note)
    assert any("high is 'much'; expected a number" in line for line in lines)
    assert shown.drawing.view == ViewOptions()


@pytest.mark.parametrize("colour", ["class", "score"])
def test_the_legend_is_painted_whole(shown, dock, colour):
    shown.drawing.show_as(ViewOptions.of(colour=colour))
    dock.resize(360, 700)
    dock.show()
    QApplication.processEvents()
    legend = dock.legend
    picture = legend.grab().toImage()
    shades = {picture.pixelColor(x, y).name() for x in range(picture.width()) for y in range(picture.height())}
    assert len(shades) > (60 if colour == "score" else 6)
    assert legend.height() == legend.heightForWidth(legend.width())


def test_the_canvas_says_what_the_colours_tell_and_leaves_another_s_words_alone():
    viewer = ViewerModel()
    session, overlay = session_of(viewer), corner(viewer)
    for role in (TRUTH, PREDICTED):
        session.show_particles(predicted_of(true_particles()), EXTENT, role=role, name=role)
    assert (overlay.text.strip(), overlay.visible) == ("predicted red, truth green", True)
    session.drawing.show_as(ViewOptions.of(colour="expected error", high=20.0))
    assert overlay.text.strip() == "expected error: 0° dark to 20° bright (plasma)"
    session.drawing.show_as(ViewOptions.of(colour="axis"))
    assert overlay.text.strip() == "axis: x red, y green, z blue"
    session.drawing.show_as(ViewOptions(legend=False))
    assert not overlay.visible
    session.drawing.show_as(ViewOptions.of(truth="cyan"))
    viewer.layers.clear()
    assert overlay.text == ""
    overlay.text = "mine"
    session.show_particles(predicted_of(true_particles()), EXTENT, role=PREDICTED, name="predicted")
    assert overlay.text == "mine"
