"""Rivals of a fit: half a step about the main axis of the symmetry, where rings match nearly as well."""

import numpy as np
import torch
from phantom import VOXEL_SIZE, molecule, tomogram

from napari_orient.engine.matching.fit import fit_at
from napari_orient.engine.matching.modes import with_half_step
from napari_orient.engine.model.gain import initial_forward_model
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.model.wedge import Wedge
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry

C3 = symmetry("C3")
HALF = np.array([[0.5, -(3**0.5) / 2, 0], [3**0.5 / 2, 0.5, 0], [0, 0, 1]])


def test_a_pose_off_by_half_a_step_is_mended_and_the_wrong_one_kept_as_rival() -> None:
    shape = molecule(group=C3)
    seen, picks, _ = tomogram(shape, noise=0.5)
    reference = build_reference(shape.density(24), VOXEL_SIZE, resolution=25.0)
    patches = torch.from_numpy(cut_patches(seen, picks.positions[:6], side=28))
    model = initial_forward_model(patches, reference, Wedge(), voxel_size=VOXEL_SIZE, resolution=30.0)
    true = picks.required_rotations()[:6]
    wrong = torch.as_tensor(true @ HALF, dtype=torch.float32)
    observed = model.observe(patches)
    mistaken = [fit_at(reference, model, observed, wrong, torch.zeros(6, 3))]
    found = with_half_step(reference, model, observed, mistaken, group=C3, steps=3)
    errors = [symmetric_angle_deg(fit.rotations.double().numpy(), true, C3) for fit in found]
    assert len(found) == 2
    assert errors[0].max() < 6
    assert np.allclose(errors[1], 60, atol=1e-3)
    assert with_half_step(reference, model, observed, mistaken, group=symmetry("C1"), steps=3) is mistaken
