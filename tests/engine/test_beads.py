"""The bead models that come with the package: small, named, symmetric where they should be, and shaped as in life."""

from importlib import resources

import numpy as np
import pytest

from napari_orient.engine.rotations import random_rotations
from napari_orient.engine.simulation.placement import rotatable_template
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import bead_density, bead_models, bead_symmetry, load_template, read_beads


def text_of(code):
    return (resources.files("napari_orient") / "beads" / f"{code}.csv").read_text(encoding="utf-8")


def turned(beads, rotation):
    return np.hstack([beads[:, :3] @ rotation.T, beads[:, 3:]])


def likeness(first, second):
    pair = [bead_density(beads, side=41, voxel_size=8.0).ravel() for beads in (first, second)]
    return np.corrcoef(*pair)[0, 1]


def test_the_ribosome_and_the_proteasome_are_shipped_by_code_and_by_name():
    assert bead_models() == ("3j9i", "4v4r")
    for names in (("ribosome", "4v4r", "4V4R", "pdb_4v4r"), ("proteasome", "3j9i", "Proteasome")):
        templates = [load_template(name) for name in names]
        assert len({template.name for template in templates}) == 1
        assert all(np.array_equal(template.density, templates[0].density) for template in templates)


@pytest.mark.parametrize("code", ["4v4r", "3j9i"])
def test_each_model_is_small_says_what_it_is_and_resembles_its_map(code):
    text = text_of(code)
    assert len(text) < 15_000
    assert f"# entry: PDB entry {code}" in text
    assert len(read_beads(text)) in range(200, 500)
    line = next(line for line in text.splitlines() if line.startswith("# correlation"))
    plain, blurred = (float(word) for word in line.replace(",", " ").split() if word[0].isdigit() and "." in word)
    assert plain > 0.98
    assert blurred > 0.98


def test_the_proteasome_has_the_symmetry_it_names_exactly_and_not_about_z():
    template = load_template("proteasome")
    beads = read_beads(text_of("3j9i"))
    named = symmetry(template.symmetry)
    assert len(named) == 14
    for rotation in named.matrices:
        density = bead_density(turned(beads, rotation), side=41, voxel_size=8.0)
        assert np.allclose(density, bead_density(beads, side=41, voxel_size=8.0), atol=1e-4)
    upright = symmetry("D7").matrices
    assert min(likeness(beads, turned(beads, rotation)) for rotation in upright) < 0.95


def test_the_proteasome_is_longest_along_its_sevenfold_axis():
    template = load_template("proteasome")
    beads = read_beads(text_of("3j9i"))
    mass = beads[:, 3] * beads[:, 4] ** 3
    spread = np.einsum("n,ni,nj->ij", mass, beads[:, :3], beads[:, :3])
    longest = np.linalg.eigh(spread).eigenvectors[:, -1]
    assert abs(longest @ symmetry(template.symmetry).main_axis) > np.cos(np.radians(0.5))


def test_the_ribosome_resembles_itself_in_no_other_pose():
    assert load_template("ribosome").symmetry == "C1"
    assert all(bead_symmetry(code) == load_template(code).symmetry for code in bead_models())
    beads = read_beads(text_of("4v4r"))
    others = [likeness(beads, turned(beads, rotation)) for rotation in random_rotations(20, np.random.default_rng(0))]
    assert max(others) < 0.95


@pytest.mark.parametrize(("name", "shortest", "longest"), [("ribosome", 260, 310), ("proteasome", 170, 210)])
def test_each_model_has_the_size_of_its_molecule(name, shortest, longest):
    shape = rotatable_template(load_template(name), voxel_size=10.0, level=0.1)
    assert shortest < shape.diameter < longest


def test_beads_stand_where_their_rows_say():
    text = "# symmetry: C2\nx,y,z,weight,width\n30,0,10,2,8\n"
    beads = read_beads(text)
    assert np.allclose(beads, [[30, 0, 10, 2, 8], [-30, 0, 10, 2, 8]])
    density = bead_density(beads, side=21, voxel_size=10.0)
    assert density[11, 10, 13] == pytest.approx(2, abs=1e-3)
    assert density[11, 10, 7] == pytest.approx(2, abs=1e-3)
    assert density[11, 10, 12] == pytest.approx(2 * np.exp(-(100 / 128)), abs=1e-3)
