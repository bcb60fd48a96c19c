import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Points, Vectors

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import Extent, Particles, Tomogram
from napari_orient.engine.rotations import random_rotations
from napari_orient.gui.layers import layer_data
from napari_orient.gui.layers.axes import ViewOptions, axes_parts, directions
from napari_orient.gui.session.inspected import RowFilter
from napari_orient.gui.session.viewer_session import session_of

GOLDEN = np.array([[-0.380952, -0.523810, 0.761905], [0.190476, 0.761905, 0.619048], [-0.904762, 0.380952, -0.190476]])
EXTENT = Extent((50, 40, 30), 13.48)


def layer_of(parts):
    array, keywords, kind = parts
    return {"image": Image, "points": Points, "vectors": Vectors}[kind](array, **keywords)


def some_particles(count=9, **columns):
    rng = np.random.default_rng(1)
    positions = rng.uniform(50, 350, (count, 3))
    return Particles(positions=positions, rotations=random_rotations(count, rng), tomogram="TS_01", **columns)


def test_the_golden_pose_points_its_z_arrow_where_the_conventions_say():
    z_arrow = directions(GOLDEN[None], "all")[0, 2]
    np.testing.assert_allclose(z_arrow, [-0.190476, 0.619048, 0.761905], atol=1e-6)
    np.testing.assert_allclose(directions(GOLDEN[None], "z")[0, 0], z_arrow)


def test_x_and_y_arrows_are_the_other_columns_shortened():
    x_arrow, y_arrow, _ = directions(GOLDEN[None], "all")[0]
    np.testing.assert_allclose(x_arrow / np.linalg.norm(x_arrow), [-0.904762, 0.190476, -0.380952], atol=1e-5)
    np.testing.assert_allclose(y_arrow / np.linalg.norm(y_arrow), [0.380952, 0.761905, -0.523810], atol=1e-5)
    assert np.linalg.norm(x_arrow) < 0.7


def test_points_stand_at_their_angstroms_in_napari_s_world():
    particles = Particles(positions=[[100.0, 200.0, 300.0]], tomogram="TS_01")
    layer = layer_of(layer_data.particles_parts(particles, EXTENT, role=layer_data.PICKS, name="picks"))
    np.testing.assert_allclose(layer.data_to_world(layer.data[0]), [300, 200, 100])
    assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
    assert layer.axis_labels == ("z", "y", "x")


def test_an_arrow_is_as_many_angstroms_long_as_asked():
    points = layer_data.particles_parts(some_particles(), EXTENT, role=layer_data.TRUTH, name="truth")
    layer = layer_of(axes_parts(some_particles(), points, ViewOptions.of(axes="z", length=170.0)))
    drawn = layer.data[:, 1] * layer.length * np.array(layer.scale)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 170)
    np.testing.assert_allclose(layer.data[:, 0], points[0])


def test_particles_come_back_from_their_layer_as_they_went_in():
    particles = some_particles(
        confidence=np.linspace(0, 1, 9),
        expected_error_deg=np.linspace(2, 30, 9),
        kind=np.array(["pdb_4v4r"] * 9),
        extra={
            "rlnGroupName": np.array([f"{row:04d}" for row in range(9)]),
            "polymer": np.arange(9),
            "particle": np.array(list("abcdefghi")),
        },
        blocks={"optics": {"rlnVoltage": ("300",)}},
    )
    layer = layer_of(layer_data.particles_parts(particles, EXTENT, role=layer_data.PREDICTED, name="predicted"))
    back = layer_data.particles_of(layer)
    np.testing.assert_allclose(back.positions, particles.positions, rtol=0, atol=1e-12)
    for name in ("rotations", "confidence", "expected_error_deg", "kind"):
        assert (getattr(back, name) == getattr(particles, name)).all(), name
    assert back.blocks == particles.blocks
    assert list(back.extra) == list(particles.extra)
    for name, column in particles.extra.items():
        assert (back.extra[name] == column).all()
        assert back.extra[name].dtype.kind == column.dtype.kind


def test_unknown_rotations_stay_unknown():
    layer = layer_of(
        layer_data.particles_parts(
            some_particles().replace(rotations=None), EXTENT, role=layer_data.PICKS, name="picks"
        )
    )
    assert layer_data.particles_of(layer).rotations is None
    assert axes_parts(layer_data.particles_of(layer), layer, ViewOptions()) is None


def test_a_point_added_by_hand_does_not_inherit_another_s_pose():
    layer = layer_of(layer_data.particles_parts(some_particles(), EXTENT, role=layer_data.PREDICTED, name="predicted"))
    layer.selected_data = {4}
    layer.add([5, 6, 7])
    assert layer_data.added_later(layer).tolist() == [False] * 9 + [True]
    with pytest.raises(InputError, match=r"1 of 10 particles.*no orientation.*Predict again"):
        layer_data.particles_of(layer)
    np.testing.assert_allclose(layer_data.picks_of(layer).positions[-1], np.array([7, 6, 5]) * 13.48)


def test_removing_a_point_removes_its_own_pose():
    particles = some_particles()
    layer = layer_of(layer_data.particles_parts(particles, EXTENT, role=layer_data.PREDICTED, name="predicted"))
    layer.selected_data = {8}
    layer.remove_selected()
    layer.selected_data = {0}
    layer.remove_selected()
    np.testing.assert_array_equal(layer_data.particles_of(layer).rotations, particles.rotations[1:8])


def test_any_points_layer_of_a_user_serves_as_picks():
    layer = Points([[1, 2, 3]], scale=(10, 10, 10), units=("angstrom",) * 3)
    np.testing.assert_allclose(layer_data.picks_of(layer).positions, [[30, 20, 10]])
    assert layer_data.particles_of(layer).kind is None


def test_a_memory_map_stays_one_and_is_sampled_for_its_contrast(tmp_path):
    density = np.memmap(tmp_path / "density", np.float32, "w+", shape=(20, 30, 40))
    density[:] = np.random.default_rng(0).normal(5, 2, density.shape)
    layer = layer_of(layer_data.tomogram_parts(Tomogram(density, 10.0, "TS_01")))
    assert isinstance(layer.data, np.memmap)
    assert layer_data.tomogram_of(layer).density is layer.data
    low, high = layer.contrast_limits
    assert -1.5 < low < 1
    assert 9 < high < 11.5


class Recorded:
    """An array that counts what is read of it."""

    def __init__(self, density):
        self.density, self.shape, self.read = density, density.shape, 0

    def __getitem__(self, key):
        part = self.density[key]
        self.read += part.size
        return part


def test_contrast_limits_read_a_few_slices_of_a_large_volume():
    volume = Recorded(np.random.default_rng(0).standard_normal((200, 64, 64)).astype(np.float32))
    layer_data.contrast_limits(volume)
    assert volume.read <= 9 * 64 * 64


def test_contrast_limits_of_a_constant_and_of_a_broken_volume_are_still_a_range():
    assert layer_data.contrast_limits(np.zeros((4, 4, 4))) == (0, 1)
    assert layer_data.contrast_limits(np.full((4, 4, 4), np.nan)) == (0, 1)


def test_a_layer_in_nanometres_has_its_voxels_in_angstroms():
    layer = Image(np.zeros((3, 3, 3)), scale=(1.2,) * 3, units=("nm",) * 3)
    assert layer_data.voxel_size(layer) == pytest.approx(12)


def test_voxels_that_are_no_cubes_are_refused_with_their_sides():
    layer = Image(np.zeros((3, 3, 3)), scale=(2, 1, 1), name="odd")
    with pytest.raises(InputError, match=r"odd.*1 × 1 × 2 Å"):
        layer_data.tomogram_of(layer)


def test_features_that_a_person_or_another_plugin_adds_are_particles_columns_too():
    particles = Particles(positions=np.ones((3, 3)), tomogram="TS_01", extra={"rlnFoo": np.array(["a", "b", "c"])})
    points = Points(**_keywords(layer_data.particles_parts(particles, None, role=layer_data.PICKS, name="picks")))
    points.features = points.features.assign(
        my_cluster=[1, 2, 3], weight=[0.5, np.nan, 2.0], label=["x", None, "z"], status=["accepted", "", ""]
    )
    extra = layer_data.picks_of(points).extra
    assert {"rlnFoo", "my_cluster", "weight", "label"} == set(extra)
    assert extra["my_cluster"].tolist() == [1, 2, 3]
    assert extra["label"].tolist() == ["x", "", "z"]
    drawn = Points(np.ones((2, 3)), features={"score": [1.5, 2.5]})
    assert layer_data.picks_of(drawn).extra["score"].tolist() == [1.5, 2.5]


def test_features_of_any_kind_are_shown_filtered_and_written(qapp):
    """Categories, dates, numbers with gaps and lists ended every redraw with an error in a slot."""
    viewer, count = ViewerModel(), 6
    session, particles = session_of(viewer), some_particles(count)
    layer = session.show_particles(particles, None, role=layer_data.PREDICTED, name="predicted")
    layer.features = layer.features.assign(
        category=pd.Categorical(["a", "b", None] * 2),
        day=pd.to_datetime(["2024-05-01"] * 5 + [None]),
        whole=pd.array([1, None, 3] * 2, dtype="Int64"),
        several=[[1, 2]] * count,
        named=[{"x": 1}] * count,
        lasting=pd.to_timedelta(["1 day"] * count),
    )
    session.inspected.inspect(layer)
    session.inspected.set_filter(RowFilter("category == 'a' and whole > 0 and day > '2024'"))
    assert session.inspected.shown.tolist() == [True, False, False, True, False, False]
    extra = layer_data.particles_of(layer).extra
    assert extra["category"].tolist() == ["a", "b", ""] * 2
    assert np.isnan(extra["whole"][1])
    assert extra["several"][0] == "[1, 2]"
    assert extra["day"].tolist()[-1] == ""


def _keywords(parts):
    data, keywords, _ = parts
    return {"data": data, **keywords}
