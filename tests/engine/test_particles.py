"""The two nouns refuse what is not so, and carry the rest through."""

import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.particles import (
    Extent,
    Particles,
    Tomogram,
    check_inside,
    concatenate,
    evenly_spaced_rows,
    holding_kind,
    labelled_of_kind,
    split_like,
)
from napari_orient.engine.rotations import random_rotations

ONE_LINE = r"^[^\n]+$"


def five_particles() -> Particles:
    return Particles(
        positions=np.arange(15.0).reshape(5, 3),
        rotations=random_rotations(5, np.random.default_rng(0)),
        confidence=np.linspace(0, 1, 5),
        expected_error_deg=np.full(5, 6.0),
        tomogram=np.array(["a", "b", "a", "b", "a"]),
        kind=np.array(["pdb_4v4r", "pdb_3j9i", "pdb_4v4r", "pdb_4v4r", "pdb_3j9i"]),
        extra={"score": np.array([5, 4, 3, 2, 1])},
        blocks={"optics": {"rlnVoltage": ("300",)}},
    )


def test_no_rows_are_taken_as_well_as_some():
    assert len(five_particles().take([])) == 0
    np.testing.assert_array_equal(five_particles().take([3, 1]).extra["score"], [2, 4])


def test_columns_are_copied_when_they_are_given_and_shared_when_they_stay():
    given = np.tile(np.eye(3), (5, 1, 1))
    particles = five_particles().replace(rotations=given, tomogram="a")
    assert not np.shares_memory(particles.rotations, given)
    other = particles.replace(confidence=np.ones(5))
    assert other.rotations is particles.rotations
    assert particles.take(np.full(5, True)) is particles
    assert not np.shares_memory(particles[1:3].rotations, particles.rotations)
    assert particles.adopting(rotations=given).rotations is given
    with pytest.raises(InputError, match="confidence has 4 rows"):
        particles.replace(confidence=np.ones(4))
    with pytest.raises(InputError, match="rotations"):
        particles.replace(positions=np.zeros((4, 3)))


def test_one_name_for_all_takes_the_memory_of_one():
    for particles in (
        Particles(positions=np.zeros((1000, 3)), tomogram="TS_01"),
        Particles(positions=np.zeros((1000, 3)), tomogram=np.array(["TS_01"] * 1000)).take(np.arange(500)),
        concatenate([Particles(positions=np.zeros((9, 3)), tomogram="TS_01")] * 2),
    ):
        assert particles.tomogram_names == ["TS_01"]
        assert particles.tomogram.strides == (0,)
        assert particles.tomogram.tolist() == ["TS_01"] * len(particles)


def test_particles_and_tomograms_describe_themselves_in_a_line():
    assert repr(five_particles()) == "Particles(5 in 2 tomograms; rotations given; classes pdb_4v4r, pdb_3j9i)"
    assert repr(Particles(positions=np.zeros((2, 3)), tomogram="a")) == "Particles(2 in 1 tomogram; positions only)"
    many = Particles(positions=np.zeros((8, 3)), kind=np.array(list("abcdefgh")))
    assert "classes a, b, c, d, e and 3 more)" in repr(many)
    volume = Tomogram(np.zeros((4, 6, 10), np.float32), 7.5, "TS_01")
    assert repr(volume) == "Tomogram(TS_01: 10 × 6 × 4 voxels of 7.5 Å)"


def test_rows_are_taken_by_index_slice_mask_or_list():
    particles = five_particles()
    for rows, expected in ((1, [4]), (-1, [1]), (np.int64(2), [3]), (slice(1, 3), [4, 3]), ([0, 4], [5, 1])):
        assert particles[rows].extra["score"].tolist() == expected
    assert particles[particles.confidence > 0.6].extra["score"].tolist() == [2, 1]
    assert [part.extra["score"].item() for part in particles] == [5, 4, 3, 2, 1]
    with pytest.raises(IndexError):
        particles[5]


def test_a_table_has_units_in_its_names_and_relion_s_angles():
    particles = five_particles().replace(rotations=np.tile(np.eye(3), (5, 1, 1)))
    table = particles.to_dataframe()
    assert list(table.columns) == [
        *("tomogram", "class", "x_angst", "y_angst", "z_angst", "rot_deg", "tilt_deg", "psi_deg"),
        *("confidence", "expected_error_deg", "score"),
    ]
    assert table.loc[2, ["tomogram", "class", "y_angst", "tilt_deg", "score"]].tolist() == ["a", "pdb_4v4r", 7.0, 0, 3]
    assert list(Particles(positions=np.zeros((1, 3))).to_dataframe().columns) == [
        "tomogram",
        "x_angst",
        "y_angst",
        "z_angst",
    ]


def test_classes_are_listed_and_chosen_with_or_without_polnets_prefix():
    particles = five_particles()
    assert particles.kinds == ["pdb_4v4r", "pdb_3j9i"]
    assert Particles(positions=np.zeros((1, 3))).kinds == []
    assert len(particles.of_kind("4V4R")) == len(particles.of_kind("pdb_4v4r")) == 3
    pairs = [(Tomogram(np.zeros((4, 4, 4)), 1.0, name), particles.of_tomogram(name)) for name in "ab"]
    assert [len(own) for _, own in labelled_of_kind(pairs, "3j9i")] == [1, 1]
    assert holding_kind(pairs, "1abc") == []
    with pytest.raises(InputError, match=r"no particle is of class '1abc'; there are pdb_3j9i, pdb_4v4r\."):
        labelled_of_kind(pairs, "1abc")


def test_sizes_of_tomograms_travel_with_particles():
    volume = Tomogram(np.zeros((4, 6, 10), np.float32), 7.5, "TS_01")
    located = five_particles().located_in(volume)
    assert located.take([0]).extents == dict.fromkeys(["a", "b", "TS_01"], volume.extent)
    nameless = Particles(positions=np.zeros((1, 3))).located_in(volume)
    assert concatenate([located, nameless]).extents == dict.fromkeys(["a", "b", "TS_01"], volume.extent)


# --- tomogram --------------------------------------------------------------------------------------------------------


def test_a_tomogram_tells_its_size_in_xyz_and_its_centre_in_angstrom():
    extent = Tomogram(np.zeros((4, 6, 10), np.float32), 10.0, "t").extent
    assert extent == Extent((10, 6, 4), 10.0)
    np.testing.assert_array_equal(extent.centre, [50, 30, 20])


@pytest.mark.parametrize(
    ("shape", "voxel_size"), [((4, 4), 10.0), ((4, 4, 4), 0.0), ((4, 4, 4), float("nan")), ((4, 4, 4), -1.0)]
)
def test_a_tomogram_needs_three_axes_and_a_positive_voxel_size(shape, voxel_size):
    with pytest.raises(InputError, match=ONE_LINE):
        Tomogram(np.zeros(shape), voxel_size, "t")


# --- particles -------------------------------------------------------------------------------------------------------


def test_a_missing_rotation_is_unknown_and_never_the_identity():
    picks = Particles(positions=np.zeros((2, 3)))
    assert picks.rotations is None
    with pytest.raises(InputError, match="have no orientations"):
        picks.required_rotations()


def test_one_name_of_a_tomogram_stands_for_all():
    assert list(Particles(positions=np.zeros((3, 3)), tomogram="TS_01").tomogram) == ["TS_01"] * 3


def test_no_particles_are_particles_too():
    none = Particles(positions=[], rotations=np.zeros((0, 3, 3)), tomogram="t")
    assert (len(none), len(none.take(slice(None))), none.tomogram_names) == (0, 0, [])
    check_inside(none, Extent((1, 1, 1), 1.0), name="t")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positions": [[0, np.nan, 0]]}, r"1 of 1 positions are not finite numbers \(first: row 1\)"),
        ({"rotations": np.eye(3)[None] * 2}, "not proper rotations"),
        ({"rotations": np.diag([1.0, 1.0, -1.0])[None]}, "not proper rotations"),
        ({"rotations": np.full((1, 3, 3), np.nan)}, "rotations are not finite"),
        ({"rotations": np.eye(3)}, r"shape \(3, 3\); expected \(1, 3, 3\)"),
        ({"confidence": [0.5, 0.5]}, "confidence has 2 rows; expected 1"),
        ({"kind": ["a", "b"]}, "kind has 2 rows; expected 1"),
        ({"extra": {"score": np.arange(3)}}, "score has 3 rows; expected 1"),
    ],
)
def test_what_is_not_a_particle_is_refused_in_one_line(change, words):
    with pytest.raises(InputError, match=words) as caught:
        Particles(**{"positions": np.zeros((1, 3)), **change})
    assert "\n" not in str(caught.value)


def test_the_arrays_given_may_change_afterwards():
    positions = np.zeros((1, 3))
    picks = Particles(positions=positions)
    positions[:] = 7
    assert picks.positions.max() == 0


def test_taking_rows_takes_every_column_and_keeps_foreign_tables():
    rows = [3, 0]
    taken = five_particles().take(rows)
    whole = five_particles()
    for name in ("positions", "rotations", "confidence", "expected_error_deg", "tomogram", "kind"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(whole, name)[rows])
    np.testing.assert_array_equal(taken.extra["score"], [2, 5])
    assert taken.blocks == whole.blocks


def test_a_class_is_found_with_and_without_its_prefix_in_any_case():
    for code in ("4v4r", "PDB_4V4R", "pdb_4v4r"):
        np.testing.assert_array_equal(five_particles().of_kind(code).extra["score"], [5, 3, 2])


def test_a_class_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match="there are pdb_3j9i, pdb_4v4r"):
        five_particles().of_kind("6utj")
    with pytest.raises(InputError, match="carry no class"):
        Particles(positions=np.zeros((1, 3))).of_kind("4v4r")


def test_a_tomograms_particles_are_found_and_put_together_again():
    whole = five_particles()
    assert whole.tomogram_names == ["a", "b"]
    parts = [whole.of_tomogram(name) for name in whole.tomogram_names]
    assert [len(part) for part in parts] == [3, 2]
    joined = concatenate(parts)
    np.testing.assert_array_equal(joined.extra["score"], [5, 3, 1, 4, 2])
    np.testing.assert_array_equal(joined.rotations, whole.rotations[[0, 2, 4, 1, 3]])
    assert joined.blocks == whole.blocks


def test_a_column_that_one_part_lacks_is_unknown_for_all():
    joined = concatenate([five_particles(), Particles(positions=np.zeros((1, 3)), tomogram="c")])
    assert len(joined) == 6
    assert joined.rotations is joined.kind is joined.confidence is None
    assert joined.extra == {}
    assert len(concatenate([])) == 0


def test_rows_are_evenly_spaced_from_the_first_to_the_last():
    assert evenly_spaced_rows(9, 3).tolist() == [0, 4, 8]
    assert evenly_spaced_rows(3, 9).tolist() == [0, 1, 2]
    assert len(evenly_spaced_rows(1000, 300)) == 300


def test_an_array_over_all_particles_is_split_by_tomogram():
    volume, five = Tomogram(np.zeros((2, 2, 2), np.float32), 10.0, "a"), five_particles()
    labelled = [(volume, five), (volume, five.take(slice(0, 2)))]
    first, second = split_like(labelled, np.arange(7))
    assert first.tolist() == [0, 1, 2, 3, 4]
    assert second.tolist() == [5, 6]
    with pytest.raises(ValueError, match="6 rows"):
        split_like(labelled, np.arange(6))


# --- inside ----------------------------------------------------------------------------------------------------------


def test_particles_at_the_outer_faces_of_the_border_voxels_are_inside():
    extent = Extent((10, 20, 30), 10.0)
    check_inside(Particles(positions=[[-5, -5, -5], [95, 195, 295]]), extent, name="t")
    with pytest.raises(InputError, match=r"1 of 2 particles lie outside t \(10 × 20 × 30 voxels of 10 Å\)"):
        check_inside(Particles(positions=[[0, 0, 0], [95.1, 0, 0]]), extent, name="t")


def test_particles_of_another_binning_are_told_the_binning_that_fits():
    positions = np.random.default_rng(0).uniform(0, 1, (50, 3)) * [990, 1990, 2990]
    with pytest.raises(InputError, match=r"in pixels of 0.625 Å .* if the tomogram.s voxels were 10 Å \(binned by 4: "):
        check_inside(Particles(positions=positions), Extent((100, 200, 300), 2.5), name="t")


def test_a_few_particles_beyond_the_border_are_no_reason_to_doubt_the_voxel_size():
    positions = np.vstack([np.full((9, 3), 40.0), [[-30.0, 40, 40]]])
    with pytest.raises(InputError, match=r"1 of 10 particles lie outside t .*Leave them out") as caught:
        check_inside(Particles(positions=positions), Extent((10, 10, 10), 10.0), name="t")
    assert "binned" not in str(caught.value)


def test_particles_of_another_tomogram_are_told_to_check():
    with pytest.raises(InputError, match="belongs to this tomogram"):
        check_inside(Particles(positions=[[-1000.0, 0, 0]]), Extent((10, 10, 10), 10.0), name="t")
