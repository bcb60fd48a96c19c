"""The Cramér-Rao bound of labelled patches, and how near to it the refinement comes, as they are and with more noise.

    python benchmarks/limit.py --polnet DIR --template 4v4r.mrc [--class 4v4r] [--symmetry C1] [--noise 3]

For each tomogram the noise's power and the gain with which the template shows are learnt from the particles themselves;
the bound is that of three turns, three shifts and the amplitude at the true rotations, for normal noise of that power.
With --noise 3, noise of the same colour is added until its deviation is three times what it was; everything is learnt
anew from the noisy patches. No unbiased estimate of the pose can have a smaller root-mean-square error than the bound.
Where other particles' picks turned out to be is told by other patches, though: "each by itself" does without.
"The best match beside the truth" is where a search that knew the true poses would end: what it is above the bound, no
search can mend. "The same of normal noise" is that of the model itself with such noise and nothing else: where it is
above the bound too, the bound is out of reach, and the model is not to blame.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from template import load, template
from torch import Tensor

from napari_orient.engine.matching.fit import fit_at, fit_poses
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.map_centre import symmetry_centre
from napari_orient.engine.model.noise import simulate_noise_patches
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.offset_prior import apply_offset_prior
from napari_orient.engine.refinement.posterior import Poses
from napari_orient.engine.refinement.refine import patch_side
from napari_orient.engine.refinement.tomogram_model import ParticleSample, estimate_tomogram_model
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.tomogram.tilt_geometry import tilt_geometry

_BATCH = 32
_DRAWS = 200


def at_truth(
    reference: Reference, model: ForwardModel, patches: Tensor, rotations: Tensor
) -> tuple[Tensor, np.ndarray, float]:
    """The bound's covariance of the turn at true rotations, (N, 3, 3) radians², the best rotations from there, and the
    mean amplitude.

    Each particle stands where it matches best; all are taken to show as strongly as the mean of them.
    """
    bounds, found, amplitudes = [], [], []
    for rows in torch.arange(len(patches)).split(_BATCH):
        observed = model.observe(patches[rows])
        zero = torch.zeros(len(rows), 3)
        near = fit_poses(reference, model, observed, rotations=rotations[rows], shifts=zero, steps=10)
        fit = fit_at(reference, model, observed, rotations[rows], near.shifts)
        usual = fit.amplitude.square() / fit.amplitude.mean().square()
        bounds.append(fit.covariance()[:, :3, :3] * usual[:, None, None])
        found.append(near.rotations)
        amplitudes.append(fit.amplitude)
    return torch.cat(bounds), torch.cat(found).double().numpy(), float(torch.cat(amplitudes).mean())


def in_normal_noise(
    reference: Reference, model: ForwardModel, rotations: Tensor, amplitude: float, generator: torch.Generator
) -> np.ndarray:
    """The best rotations from the true ones (N, 3, 3), for the model itself in normal noise of the model's power."""
    found = []
    for part in rotations.split(_BATCH):
        predicted = reference.rotated(model.frequency, part, weight=model.whitened_gain)
        seen = amplitude * predicted[:, 0] + torch.randn(predicted[:, 0].shape, generator=generator)
        near = fit_poses(reference, model, seen, rotations=part, shifts=torch.zeros(len(part), 3), steps=10)
        found.append(near.rotations)
    return torch.cat(found).double().numpy()


def figures(covariance: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Root mean square and median, in degrees, of turns with these covariances."""
    draws = torch.randn(_DRAWS, len(covariance), 3, generator=generator)
    turns = torch.einsum("nij,knj->kni", torch.linalg.cholesky(covariance), draws)
    size = torch.rad2deg(turns.norm(dim=-1))
    return float(size.square().mean().sqrt()), float(size.median())


def told(name: str, error: np.ndarray, limit: tuple[float, float]) -> str:
    near = error < 20
    rms, median = np.sqrt((error[near] ** 2).mean()), np.median(error)
    return (
        f"  {name}: {100 * near.mean():.1f} % within 20°, of these {rms:.2f}° rms, {rms / limit[0]:.2f} × the bound; "
        f"median {median:.2f}°, {median / limit[1]:.2f} × the bound's"
    )


def noisier(patches: Tensor, model: ForwardModel, factor: float, generator: torch.Generator) -> Tensor:
    """Patches with noise of the model's own colour added, so that its deviation grows by a factor."""
    added = simulate_noise_patches(model, patches.shape[-1], count=len(patches), generator=generator)
    louder = patches + (factor**2 - 1) ** 0.5 * added
    return (louder - louder.mean((1, 2, 3), keepdim=True)) / louder.std((1, 2, 3), keepdim=True)


def search_again(finder: PoseFinder, patches: Tensor, rows: Tensor, offset: Tensor) -> Poses:
    """Poses of some of the patches, whose centres are the picks, searched about an offset alone."""
    return finder.find(patches[rows], at=(offset / finder.model.voxel_size).round().expand(len(rows), 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--class", dest="code", default="4v4r")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="of the noise that is added")
    parser.add_argument("--max-shift", type=float, default=30.0, help="Å that picks are allowed to be off")
    given = parser.parse_args()
    torch.set_num_threads(1)
    group, generator = symmetry(given.symmetry), torch.Generator().manual_seed(given.seed)
    another = torch.Generator().manual_seed(given.seed)
    density, voxel_size = template(given.template)
    alone, errors, near, ideal, bounds, expected = [], [], [], [], [], []
    for tomogram, truth in load(given.polnet, given.code):
        size = tomogram.voxel_size
        reference = build_reference(density, voxel_size, resolution=2.4 * size)
        side = patch_side(reference, tomogram, max_shift=30.0)
        patches = torch.from_numpy(cut_patches(tomogram, truth.positions, side=side))
        options = RefinementOptions.of(device="cpu", max_shift=given.max_shift)
        geometry = tilt_geometry(tomogram, truth.positions, options.wedge, side=side)
        sample = ParticleSample(patches, reference, group, geometry, size, options)
        finder = run(estimate_tomogram_model(sample))
        if given.noise > 1:
            patches = noisier(patches, finder.full_model, given.noise, generator)
            finder = run(estimate_tomogram_model(replace(sample, patches=patches)))
        poses = finder.find(patches)
        rotations = truth.required_rotations()
        alone.append(symmetric_angle_deg(poses.rotations.double().numpy(), rotations, group))
        centre = torch.as_tensor(symmetry_centre(density, voxel_size, group), dtype=torch.float32)
        find_at = partial(search_again, finder, patches)
        poses = run(apply_offset_prior(finder, poses, find_at, batch=_BATCH, centre=centre))
        errors.append(symmetric_angle_deg(poses.rotations.double().numpy(), rotations, group))
        expected.append(poses.expected_error_deg.numpy())
        true = torch.as_tensor(rotations, dtype=torch.float32)
        bound, best, amplitude = at_truth(reference, finder.model, patches, true)
        drawn = in_normal_noise(reference, finder.model, true, amplitude, another)
        ideal.append(symmetric_angle_deg(drawn, rotations, group))
        bounds.append(bound)
        near.append(symmetric_angle_deg(best, rotations, group))
    error = np.concatenate(errors)
    limit = figures(torch.cat(bounds), generator)
    print(f"{given.code}, noise × {given.noise:g}, N {len(error)}: bound {limit[0]:.2f}° rms, {limit[1]:.2f}° median")
    print(told("found", error, limit))
    print(told("found, each by itself", np.concatenate(alone), limit))
    print(told("the best match beside the truth", np.concatenate(near), limit))
    print(told("the same of normal noise", np.concatenate(ideal), limit))
    print(f"  expected error: median {np.median(np.concatenate(expected)):.2f}°")


if __name__ == "__main__":
    main()
