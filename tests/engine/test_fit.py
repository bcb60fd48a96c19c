"""Fits of a reference to patches: competing modes of the posterior."""

import numpy as np
import torch
from phantom import VOXEL_SIZE, molecule, tomogram

from napari_orient.engine.matching.fit import fit_at, fit_modes
from napari_orient.engine.model.gain import initial_forward_model
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.rotations import angle_deg, random_rotations

ABOUT_Z = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
ABOUT_X_10_DEG = np.array([[1.0, 0.0, 0.0], [0.0, 0.9848, -0.1736], [0.0, 0.1736, 0.9848]])


def test_modes_are_fitted_and_ranked_and_those_far_worse_are_left_out() -> None:
    shape = molecule()
    volume, picks, _ = tomogram(shape, noise=0.5)
    reference = build_reference(shape.density(24), VOXEL_SIZE, resolution=25.0)
    patches = torch.from_numpy(cut_patches(volume, picks.positions[:6], side=28))
    model = initial_forward_model(patches, reference, Wedge(), voxel_size=VOXEL_SIZE, resolution=30.0)
    true, observed = picks.required_rotations()[:6], model.observe(patches)

    def fits_off_by(*rotations: np.ndarray) -> list:
        starts = [torch.as_tensor(true @ rotation, dtype=torch.float32) for rotation in rotations]
        return [fit_at(reference, model, observed, start, torch.zeros(6, 3)) for start in starts]

    near, far = fits_off_by(ABOUT_X_10_DEG, ABOUT_Z)
    for given in ([near, far], [far, near]):
        found, _, _ = fit_modes(reference, model, lambda rows, _: observed[rows], given)
        assert len(found) == 2
        assert angle_deg(found[0].rotations.double().numpy(), true).max() < 6
        assert (found[0].log_likelihood_gain >= found[1].log_likelihood_gain).all()
    only, begun_as, about_best = fit_modes(reference, model, lambda rows, _: observed[rows], [near, far])
    assert torch.equal(only[0].rotations, only[1].rotations), "a mode far worse is left out, and the best stands for it"
    assert begun_as.tolist() == [[0, 0]] * 6
    assert torch.equal(about_best, observed)
    repeated = torch.tensor([[True, False, True]] * 6)
    every, once = (
        fit_modes(reference, model, lambda rows, _: observed[rows], [near, near, far], distinct=distinct)[0]
        for distinct in (None, repeated)
    )
    torch.testing.assert_close(once[0].rotations, every[0].rotations, atol=1e-6, rtol=0)


def test_fits_of_many_patches_are_those_of_each_alone() -> None:
    shape = molecule()
    volume, picks, _ = tomogram(shape, noise=0.5)
    reference = build_reference(shape.density(24), VOXEL_SIZE, resolution=25.0)
    patches = torch.from_numpy(cut_patches(volume, picks.positions[:6], side=28)).repeat(8, 1, 1, 1)
    model = initial_forward_model(patches, reference, Wedge(), voxel_size=VOXEL_SIZE, resolution=30.0)
    observed = model.observe(patches, torch.tensor([[1.0, 0.0, -2.0]]).expand(48, 3))
    rotations = torch.as_tensor(random_rotations(48, np.random.default_rng(0)), dtype=torch.float32)
    together = fit_at(reference, model, observed, rotations, torch.zeros(48, 3))
    for row in (0, 17, 47):
        alone = model.observe(patches[row : row + 1], torch.tensor([[1.0, 0.0, -2.0]]))
        torch.testing.assert_close(observed[row], alone[0], atol=1e-5, rtol=1e-4)
        one = fit_at(reference, model, alone, rotations[row : row + 1], torch.zeros(1, 3))
        torch.testing.assert_close(together.gram[row], one.gram[0], atol=1e-2, rtol=1e-4)
