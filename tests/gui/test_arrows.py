import numpy as np
import pytest
from napari.components import ViewerModel
from scipy.spatial.transform import Rotation

from napari_orient.engine.inspection.quantities import InspectionOptions
from napari_orient.engine.particles import Extent, Particles
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui import colours
from napari_orient.gui.layers import axes, layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_layer
from napari_orient.gui.layers.canvas import canvas_overlays
from napari_orient.gui.layers.layer_data import PICKS, PREDICTED, TRUTH
from napari_orient.gui.pages.view_cards import ArrowsCard
from napari_orient.gui.session.viewer_session import session_of

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


def test_clusters_of_one_layer_alone_are_coloured_where_two_models_number_their_own(shown):
    other = shown.show_particles(
        predicted_of(true_particles()).take([5, 2, 1, 0]), EXTENT, role=PREDICTED, name="other"
    )
    shown.drawing.show_as(ViewOptions.of(colour="cluster", axes="z"))
    shown.inspection.set_options(InspectionOptions(cluster_distance=60))
    assert len(np.unique(colours_on(shown, other), axis=0)) == 2
    for layer, ink in ((shown.predicted, "red"), (shown.true, "green")):
        np.testing.assert_allclose(colours_on(shown, layer), np.tile(colours.INKS[ink], (6, 1)), atol=1e-6)
    assert [name for name, _ in shown.drawing.legend().entries] == ["alone", "1"]


def test_a_verdict_has_its_colour(shown, qtbot):
    shown.drawing.show_as(ViewOptions.of(colour="status", axes="z"))
    table = shown.predicted.features.copy()
    table["status"] = ["accepted", "rejected", "", "", "", ""]
    shown.predicted.features = table
    qtbot.waitUntil(lambda: shown.drawing.complete)
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
    assert len([layer for layer in shown.viewer.layers if layer_data.role(layer) == layer_data.AXES]) == 1


# --- the dock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def dock(shown, qtbot):
    made = ArrowsCard(shown.viewer)
    qtbot.addWidget(made)
    return made


def test_the_dock_sets_how_arrows_are_drawn(shown, dock):
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
    assert shown.drawing.legend().scale.high == 40


def test_the_dock_shows_what_was_set_elsewhere(shown, dock):
    shown.drawing.show_as(ViewOptions.of(colour="cluster", length=120.0))
    assert dock.form.options() == ViewOptions.of(colour="cluster", length=120.0)


def test_a_value_that_is_no_number_is_one_line_and_changes_nothing(shown, dock):
    from napari.utils.notifications import notification_manager

    lines = []

    def note(notification):
        lines.append(notification.message)

    notification_manager.notification_ready.connect(note)
    dock.form.widgets["high"].value = "much"
    notification_manager.notification_ready.disconnect(note)
    assert any("Colours to is 'much'; expected a number" in line for line in lines)
    assert shown.drawing.view == ViewOptions()


def test_blue_and_orange_are_one_choice_and_other_colours_are_shown_as_such(shown, dock):
    assert dock.pair.currentText() == "red and green"
    dock.pair.setCurrentText("blue and orange")
    dock.pair.activated.emit(1)
    blue, orange = colours_on(shown, shown.predicted)[0], colours_on(shown, shown.true)[0]
    assert blue.argmax() == 2
    assert orange.argmin() == 2
    shown.drawing.show_as(shown.drawing.view.replace(predicted="magenta"))
    assert dock.pair.currentText() == "others, as set below"


def test_red_and_green_differ_in_lightness_and_in_shape_for_deuteranopes(shown):
    # Machado, Oliveira & Fernandes 2009, severity 1.
    deuteranope = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    light = [
        ((np.array(colours.INKS[name]) ** 2.2 @ deuteranope.T) @ [0.2126, 0.7152, 0.0722]) for name in ("red", "green")
    ]
    assert light[1] > 2.5 * light[0]
    styles = [str(axes_layer(shown.viewer, layer).vector_style) for layer in (shown.predicted, shown.true)]
    assert styles == ["arrow", "line"]


# --- the legend on the canvas ---------------------------------------------------------------------------------------


def legend_of(session):
    return session.drawing._canvas_legend.texts(session.viewer)


def test_the_canvas_shows_names_in_their_colours_and_leaves_another_s_words_alone(shown):
    canvas_overlays(shown.viewer)["text"].text = "mine"
    assert legend_of(shown) == ["→ predicted", "▬ truth"]
    first = canvas_overlays(shown.viewer)["orient_legend_0"]
    np.testing.assert_allclose(first.color[:3], colours.INKS["red"], atol=1e-6)
    shown.drawing.show_as(ViewOptions.of(colour="axis"))
    assert legend_of(shown) == ["axis", "■ x", "■ y", "■ z"]
    shown.drawing.show_as(ViewOptions(legend=False))
    assert legend_of(shown) == []
    shown.drawing.show_as(ViewOptions.of(truth="cyan"))
    assert legend_of(shown) == ["→ predicted", "▬ truth"]
    shown.viewer.layers.clear()
    assert legend_of(shown) == []
    assert canvas_overlays(shown.viewer)["text"].text == "mine"


def test_a_quantity_has_a_colour_bar_on_the_canvas_with_the_values_that_its_ends_stand_for(shown):
    faces = shown.predicted.face_color.copy()
    shown.drawing.show_as(ViewOptions.of(colour="expected error", high=20.0))
    assert legend_of(shown) == ["expected error (°)"]
    (host,) = [layer for layer in (shown.predicted, shown.true) if layer.face_colorbar.visible]
    assert host.face_contrast_limits == (0, 20)
    np.testing.assert_allclose(host.face_colormap.colors[:, :3], colours.ramp("plasma"), atol=1e-6)
    np.testing.assert_array_equal(shown.predicted.face_color, faces)
    host.visible = False
    assert [layer for layer in (shown.predicted, shown.true) if layer.face_colorbar.visible] != [host]
    shown.predicted.visible = shown.true.visible = False
    assert legend_of(shown) == ["expected error: 0° dark to 20° bright (plasma)"]
    shown.predicted.visible = True
    shown.drawing.show_as(ViewOptions())
    assert not shown.predicted.face_colorbar.visible


# --- rings ----------------------------------------------------------------------------------------------------------


def test_rings_of_picks_go_in_3d_and_once_nearly_all_are_posed(shown):
    here, away = true_particles(), true_particles().replace(positions=true_particles().positions + 2000.0)
    others = shown.show_particles(away.replace(rotations=None), EXTENT, role=PICKS, name="others")
    shown.viewer.dims.ndisplay = 3
    assert not others.visible
    shown.viewer.dims.ndisplay = 2
    assert others.visible
    late = shown.show_particles(here.replace(rotations=None), EXTENT, role=PICKS, name="late")
    assert (late.visible, others.visible) == (False, True)
    shown.show_particles(predicted_of(away), EXTENT, role=PREDICTED, name="again")
    assert not others.visible
    shown.viewer.dims.ndisplay = 3
    shown.viewer.dims.ndisplay = 2
    assert (late.visible, others.visible) == (False, False)
    for layer in shown.index.particles(PREDICTED):
        shown.viewer.layers.remove(layer)
    assert (late.visible, others.visible) == (True, True)


def visible_particles(layer):
    """Rows of the particles of which a layer of all three arrows shows all, or none; anything else fails."""
    rows, counts = np.unique(layer._view_indices // 3, return_counts=True)
    assert (counts == 3).all()
    return rows.tolist()


def visible_points(layer):
    """Rows of the points that a slice shows; napari 0.8 has another name for them."""
    return layer._view_indices if hasattr(layer, "_view_indices") else layer._indices_view


def test_a_slab_shows_true_and_predicted_poses_of_a_particle_together_or_not_at_all(qapp):
    viewer, rng = ViewerModel(), np.random.default_rng(1)
    session = session_of(viewer)
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3) * 90.0 + rng.normal(0, 12, (216, 3))
    truth = Particles(positions=grid, rotations=random_rotations(216, rng), tomogram="TS_01")
    predicted = truth.replace(positions=truth.positions + rng.normal(0, 6, (216, 3)))
    green = session.show_particles(truth, EXTENT, role=TRUTH, name="true")
    red = session.show_particles(predicted, EXTENT, role=PREDICTED, name="predicted")
    session.drawing.show_as(ViewOptions.of(slab=150.0))
    drawn = [axes_layer(viewer, layer) for layer in (green, red)]

    def shown_whole():
        shown = [visible_particles(layer) for layer in drawn]
        assert shown[0] == shown[1] == sorted(visible_points(red))
        assert 0 < len(shown[0]) < 216
        dots = visible_points(green)
        assert set(dots[green.face_color[dots, 3] > 0]) <= set(shown[0])

    for axis, order in ((0, (0, 1, 2)), (1, (1, 0, 2)), (2, (2, 0, 1))):
        viewer.dims.order = order
        settle_drawing(session)
        for place in range(80, 430, 70):
            viewer.dims.set_point(axis, place)
            shown_whole()
    red.data = red.data + rng.normal(0, 0.3, red.data.shape)
    settle_drawing(session)
    shown_whole()
    viewer.dims.ndisplay = 3
    settle_drawing(session)
    np.testing.assert_allclose(drawn[0].data[::3, 0], green.data, atol=1e-4)
    viewer.layers.remove(red)
    settle_drawing(session)
    assert (green.face_color[:, 3] == 1).all()


def settle_drawing(session):
    while not session.drawing.complete:
        session.drawing._finishing.settle()
