"""Agreement of an average with the map of the model: the molecule itself, its mirror image, a mixture, and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_orient.engine.averaging import Average
from napari_orient.engine.map_resolution import ball_mask, fourier_shell_correlation
from napari_orient.engine.model.grid import frequencies
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.prediction.other_molecule import MapAgreement, compared_with_map
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import Template, load_template

SIDE, VOXEL = 40, 10.0


@pytest.fixture(scope="module")
def ribosome() -> Template:
    return load_template("ribosome")


def _grid(template: Template) -> np.ndarray:
    """The template's map on the average's grid."""
    grid = frequencies(SIDE, VOXEL)
    values = build_reference(template.density, template.voxel_size, resolution=2.4 * VOXEL).transform(
        grid.reshape(-1, 3)
    )
    phase = torch.exp(-2j * torch.pi * (SIDE - 1) / 2 * VOXEL * grid.sum(-1))
    return torch.fft.ifftn(values.reshape(SIDE, SIDE, SIDE) * phase).real.numpy()


def _averaged(density: np.ndarray, *, noise: float = 1.0, seed: int = 0) -> Average:
    """Halves of an average of a density: blurred by 15 Å, as poses that are off do, and noise of so many deviations."""
    rng = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(density, 1.5)
    level = noise * blurred.std()
    halves = [(blurred + level * rng.standard_normal(density.shape)).astype(np.float32) for _ in range(2)]
    mask = ball_mask(SIDE, VOXEL, None)
    return Average(
        density=(halves[0] + halves[1]) / 2,
        first_half=halves[0],
        second_half=halves[1],
        voxel_size=VOXEL,
        fsc=fourier_shell_correlation(halves[0] * mask, halves[1] * mask, VOXEL),
        count=40,
        group=symmetry("C1"),
        half_sets=np.ones(40, int),
        mask=mask.astype(np.float32),
    )


def _agreement(average: Average, template: Template) -> MapAgreement:
    found = compared_with_map(average, template)
    assert found is not None
    return found


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_the_molecule_agrees_whatever_noise_contrast_and_offset_its_average_has(
    ribosome: Template, noise: float
) -> None:
    moved = ndimage.shift(-3 * _grid(ribosome), (1.3, -0.6, 0.4), order=3)
    found = _agreement(_averaged(moved, noise=noise), ribosome)
    assert found.share == pytest.approx(1, abs=0.08)
    assert not found.differs


def test_the_mirror_image_is_another_molecule(ribosome: Template) -> None:
    found = _agreement(_averaged(_grid(ribosome.mirrored())), ribosome)
    assert found.differs
    assert found.share < 0.4
    assert "is not the map that ribosome was made from" in found.text("ribosome")


def test_a_mixture_with_as_many_of_another_molecule_lies_between(ribosome: Template) -> None:
    mixed = _grid(ribosome) + _grid(ribosome.mirrored())
    share = _agreement(_averaged(mixed), ribosome).share
    assert _agreement(_averaged(_grid(ribosome.mirrored())), ribosome).share < share < 0.85


def test_nothing_is_said_where_halves_have_nothing_in_common(ribosome: Template) -> None:
    assert compared_with_map(_averaged(_grid(ribosome), noise=100.0), ribosome) is None
