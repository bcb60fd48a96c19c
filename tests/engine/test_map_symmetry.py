"""The symmetry that a map proposes for itself: the right group, about the axes that the map has, wherever they meet."""

import numpy as np
import pytest
from phantom import VOXEL_SIZE, Molecule, molecule, ring_halves

from napari_orient.engine.discovery.class_symmetry import candidate_groups
from napari_orient.engine.errors import InputError
from napari_orient.engine.model.map_centre import centre_of_mass
from napari_orient.engine.model.map_symmetry import (
    SymmetryAxis,
    SymmetryProposal,
    propose_symmetry,
    search_mirror_image,
    search_symmetry,
)
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

OFF = np.array([7.0, -11.0, 5.0])
GROUPS = ["C2@1,2,2", "D2@1,1,1@1,-1,0", "D7@-0.6373,0.7642,0.0994@-0.1260,0.0239,-0.9917"]


def map_of(group: str, *, seed: int = 3, off: np.ndarray = OFF) -> np.ndarray:
    shape = molecule(seed=seed, group=symmetry(group), radius=75.0)
    return Molecule(shape.places + off, shape.weights, 12.0).density(28)


def same_group(proposed: SymmetryProposal, name: str) -> float:
    """Degrees by which the two groups' elements differ at most; they must be as many."""
    own, true = proposed.group.matrices, symmetry(name).matrices
    assert len(own) == len(true), proposed.group.name
    c1 = symmetry("C1")
    apart = symmetric_angle_deg(own[:, None], np.broadcast_to(true, (len(own), *true.shape)), c1)
    return float(apart.min(axis=1).max())


@pytest.mark.parametrize("name", GROUPS)
def test_the_group_and_its_axes_are_found_off_centre(name):
    proposed = propose_symmetry(map_of(name), VOXEL_SIZE)
    assert same_group(proposed, name) < 0.5
    kind = name.split("@", maxsplit=1)[0]
    assert proposed.scores[kind] > 0.85
    assert f"Symmetry {kind}@" in next(proposed.words())


@pytest.mark.parametrize("name", ["T@0.3,1,2@2,0,-0.3", "O@1,2,0.5@2,-1,0", "I@1,1,1@1,-1,0"])
def test_a_cubic_group_and_its_axes_are_found_off_centre(name):
    proposed = propose_symmetry(map_of(name), VOXEL_SIZE)
    assert same_group(proposed, name) < 0.5
    assert proposed.scores[name[0]] > 0.9
    assert f"the {len(symmetry(name))} rotations of {name[0]}" in " ".join(proposed.words())


@pytest.mark.parametrize("name", ["C4", "D5"])
def test_an_axis_of_a_cubic_group_alone_proposes_none(name):
    assert propose_symmetry(map_of(name, seed=1), VOXEL_SIZE).group.point_group == name


def test_a_cubic_group_along_x_y_and_z_needs_no_directions():
    assert propose_symmetry(map_of("T", off=np.zeros(3)), VOXEL_SIZE).group.name == "T"


@pytest.mark.parametrize(("place", "width"), [((23.7, -43.8, -8.6), 24.9), ((53.8, 20.3, -15.5), 25.7)])
def test_a_cubic_map_that_is_nearly_round_about_an_axis_leads_to_its_own_group(place, width):
    # As apoferritin at low resolution, where a three-fold or a four-fold axis is nearly round. So smooth a map leaves
    # the axes uncertain by a few degrees.
    density = Molecule(symmetry("O").matrices @ np.array(place), np.ones(24), width).density(28)
    proposed = propose_symmetry(density, VOXEL_SIZE)
    assert proposed.round_about is not None
    assert same_group(proposed, "O") < 4.0
    assert candidate_groups(proposed)[0].point_group == "O"


@pytest.mark.parametrize("seed", [1, 4])
def test_a_map_without_symmetry_is_c1_and_says_what_came_nearest(seed):
    density = Molecule(molecule(seed=seed).places + OFF, molecule(seed=seed).weights, 12.0).density(28)
    proposed = propose_symmetry(density, VOXEL_SIZE)
    assert proposed.group.name == "C1"
    assert max(proposed.scores.values()) < 0.8
    assert "No axis holds" in " ".join(proposed.words())


def test_axes_along_z_and_x_need_no_directions():
    assert propose_symmetry(map_of("C5", off=np.zeros(3)), VOXEL_SIZE).group.name == "C5"


def test_a_round_map_proposes_nothing():
    ball = Molecule(np.zeros((1, 3)), np.ones(1), 40.0).density(28)
    assert propose_symmetry(ball, VOXEL_SIZE).group.name == "C1"


def test_noise_that_halves_do_not_share_hides_no_symmetry():
    density, rng = map_of("C5@-1,2,0.5"), np.random.default_rng(0)
    halves = tuple(density + rng.normal(size=density.shape) * 0.06 * density.max() for _ in range(2))
    proposed = run(search_symmetry((halves[0] + halves[1]) / 2, VOXEL_SIZE, halves=halves))
    assert same_group(proposed, "C5@-1,2,0.5") < 1.2


def test_a_gradient_of_density_that_displaces_the_mass_off_the_axis_hides_no_symmetry():
    density, line = map_of("C2@1,2,2", off=np.zeros(3)), np.arange(28) - 13.5
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    density = density + 0.006 * density.max() * (2 * x - 2 * y + z) / 3
    assert np.linalg.norm(np.cross(centre_of_mass(density, VOXEL_SIZE), [1 / 3, 2 / 3, 2 / 3])) > 4
    assert same_group(propose_symmetry(density, VOXEL_SIZE), "C2@1,2,2") < 1


def test_noise_that_halves_share_hides_no_axis_in_coarser_detail():
    density, rng = map_of("C2@1,2,2"), np.random.default_rng(0)
    density = density + rng.normal(size=density.shape) * 0.1 * density.max()
    halves = (density, density)
    fine, coarse = (
        run(search_symmetry(density, VOXEL_SIZE, halves=halves, radius=110.0, resolution=finest))
        for finest in (0.0, 55.0)
    )
    assert fine.group.name == "C1"
    assert same_group(coarse, "C2@1,2,2") < 3


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_halves_do_not_share_makes_no_symmetry(seed: int) -> None:
    density, rng = map_of("C1", seed=seed), np.random.default_rng(seed)
    halves = tuple(density + rng.normal(size=density.shape) * 0.25 * density.max() for _ in range(2))
    assert run(search_symmetry((halves[0] + halves[1]) / 2, VOXEL_SIZE, halves=halves)).group.name == "C1"


def test_of_what_is_nearly_round_only_a_cyclic_order_above_the_noise_is_proposed():
    halves = ring_halves(7, right=40)
    proposed = run(search_symmetry(sum(halves) / 2, VOXEL_SIZE, halves=halves))
    assert proposed.group.name.startswith("C7")
    assert "its cyclic order rises above the noise" in list(proposed.words())[1]
    halves = ring_halves(7, right=0)
    nothing = run(search_symmetry(sum(halves) / 2, VOXEL_SIZE, halves=halves))
    assert nothing.group.name == "C1", "every order fits, and two-fold axes of no group"
    assert abs(nothing.round_about[2]) > 0.995
    assert "no cyclic order stands out" in list(nothing.words())[1]


def test_an_axis_that_noise_may_hide_is_tried_and_one_that_squashing_leaves_is_tried_as_round():
    def axis(order: int, correlation: float) -> SymmetryAxis:
        return SymmetryAxis(order, np.array([0.0, 0.0, 1.0]), correlation, 0.9, 0.3)

    def tried(proposal: SymmetryProposal) -> list[str]:
        return [group.point_group for group in candidate_groups(proposal)]

    c1, z = symmetry("C1"), np.array([0.0, 0.0, 1.0])
    assert tried(SymmetryProposal(c1, (axis(3, 0.3), axis(2, 0.6)), None)) == ["C2"]
    assert tried(SymmetryProposal(c1, (axis(3, 0.3), axis(2, 0.4)), None)) == []
    assert tried(SymmetryProposal(symmetry("C2"), (axis(2, 0.9),), None, round_about=z)) == ["C12", "C2"]
    assert tried(SymmetryProposal(symmetry("C7"), (axis(7, 0.9),), None, round_about=z)) == ["C7"]


def test_a_map_correlates_with_its_mirror_image_where_its_hand_does_not_show() -> None:
    flat = molecule(seed=1)
    flat = Molecule(flat.places * [1, 1, 0] + OFF, flat.weights, 12.0).density(28)
    assert run(search_mirror_image(flat, VOXEL_SIZE, halves=(flat, flat), radius=100.0)) > 0.95
    handed = map_of("C1")
    assert run(search_mirror_image(handed, VOXEL_SIZE, halves=(handed, handed), radius=100.0)) < 0.7


def test_what_is_no_map_is_refused():
    with pytest.raises(InputError, match="expected a cube"):
        propose_symmetry(np.ones((8, 8, 9)), VOXEL_SIZE)
    with pytest.raises(InputError, match="flat"):
        propose_symmetry(np.ones((8, 8, 8)), VOXEL_SIZE)
