"""Whitened coefficients of a reference in known poses and in noise as strong as one likes, without any tomogram."""

from __future__ import annotations

import torch
from phantom import VOXEL_SIZE, Molecule

from napari_orient.engine.matching.fit import design_matrix
from napari_orient.engine.model.forward import ForwardModel, build_forward_model
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.model.wedge import Wedge

SIDE = 24


def shown(molecule: Molecule, *, noise: float) -> tuple[Reference, ForwardModel]:
    """A molecule's map, and how it shows in noise of so much power at every coefficient, tilted about y."""
    density = molecule.density(SIDE).astype("float32")
    reference = build_reference(density, VOXEL_SIZE, resolution=2.4 * VOXEL_SIZE)
    power = torch.full((SIDE,) * 3, noise**2 / SIDE**3)
    wedge = Wedge()
    model = build_forward_model(power, wedge, voxel_size=VOXEL_SIZE, resolution=24.0, radius=reference.radius)
    return reference, model


def observed(
    reference: Reference, model: ForwardModel, rotations: torch.Tensor, *, noise: float, seed: int
) -> torch.Tensor:
    """Coefficients (N, 2, M) of the map in these poses, and noise of a standard deviation where 1 is believed."""
    count = len(rotations)
    nothing = torch.zeros(count, 2, len(model.frequency))
    predicted = design_matrix(reference, model, nothing, rotations, torch.zeros(count, 3))[:, 0].unflatten(1, (2, -1))
    return predicted + noise * torch.randn(predicted.shape, generator=torch.Generator().manual_seed(seed))
