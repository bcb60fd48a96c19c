"""Maps as people have them: dark, normalised to mean 0, with noise about the particle, and with a mask beside them."""

import numpy as np
import pytest
from phantom import VOXEL_SIZE, molecule

from napari_orient.engine.errors import InputError
from napari_orient.engine.io import write_tomogram
from napari_orient.engine.model.solvent import bright_on_zero
from napari_orient.engine.templates import load_template

CLEAN = molecule().density(40).astype(np.float32)
NOISE = np.random.default_rng(3).normal(size=CLEAN.shape).astype(np.float32)


def written(path, density, voxel_size=VOXEL_SIZE):
    write_tomogram(path, np.asarray(density, np.float32), voxel_size=voxel_size)
    return path


def test_a_map_that_is_dark_or_normalised_is_read_as_the_same_particle(tmp_path):
    clean = load_template(written(tmp_path / "clean.mrc", CLEAN))
    np.testing.assert_array_equal(clean.density, CLEAN)
    assert clean.notes == ()
    for factor, offset, count in ((-1, 0, 1), (1, 0.7, 1), (-3, 0.7, 2), (-0.01, -1, 2)):
        found = load_template(written(tmp_path / "map.mrc", factor * (CLEAN + offset)))
        np.testing.assert_allclose(found.density, abs(factor) * CLEAN, atol=1e-5 * abs(factor) + 1e-6)
        assert len(found.notes) == count
        assert all(note.startswith("map.mrc: its ") for note in found.notes)


def test_fringes_about_a_bright_particle_do_not_make_it_dark():
    fringed = CLEAN - 1.5 * CLEAN.mean() * (CLEAN.mean() > CLEAN)
    assert fringed.sum() < 0
    assert "inverted" not in " ".join(bright_on_zero(fringed)[1])


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_the_noise_of_a_map_that_is_not_masked_is_no_part_of_its_radius(tmp_path, share):
    clean = load_template(written(tmp_path / "clean.mrc", CLEAN))
    noisy = load_template(written(tmp_path / "half1.mrc", CLEAN + share * CLEAN.max() * NOISE))
    assert noisy.radius == pytest.approx(clean.radius, rel=0.15)
    assert load_template(written(tmp_path / "noise.mrc", NOISE)).radius > 2 * clean.radius


def test_a_mask_leaves_what_it_covers(tmp_path):
    path = written(tmp_path / "half1.mrc", CLEAN + 0.1 * CLEAN.max() * NOISE)
    inside = 0.1 * CLEAN.max() < CLEAN
    masked = load_template(path, mask=written(tmp_path / "mask.mrc", inside))
    np.testing.assert_array_equal(masked.density, load_template(path).density * inside)
    for wrong, words in (
        (np.ones((20, 20, 20)), "mask in the box of the map"),
        (-1.0 * inside, "0 or less everywhere"),
    ):
        with pytest.raises(InputError, match=words):
            load_template(path, mask=written(tmp_path / "wrong.mrc", wrong))
