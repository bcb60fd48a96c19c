"""Whether a bank's map gains by being trained further, end to end, on the posterior of its training particles.

    python benchmarks/further.py CHECKPOINT --train FOLDER --judge FOLDER [--class 4v4r] [--particles 178] [--epochs 30]

CHECKPOINT is a bank; either folder holds one tomogram in PolNet's layout. The map's voxels climb, by Adam, the
probability of the true rotation among the bank's and a cloud of near ones (seed 0). After some epochs the poses of the
other tomogram's particles, polished from the true ones, are judged with the map as it is by then.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_orient.engine.io import read_labelled
from napari_orient.engine.matching.fit import Fit, fit_at, fit_poses
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.refinement.finder import PoseFinder
from napari_orient.engine.refinement.refine import patch_side, prepare_finder
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

CLOUD, SPREADS_DEG = 12, (2.0, 4.0, 8.0)


class Seen:
    """The particles of a tomogram as a finder observes them: whitened coefficients, true rotations, fitted shifts."""

    def __init__(self, folder: Path, code: str, count: int, template: Template) -> None:
        ((tomogram, particles),) = read_labelled(folder)
        particles = particles.of_kind(code).take(slice(0, count))
        options = RefinementOptions.of(device="cpu", precision="precise", max_shift=0.0)
        stream = prepare_finder(tomogram, particles.replace(rotations=None), template, options)
        self.finder: PoseFinder = run(stream)
        side = patch_side(self.finder.reference, tomogram, max_shift=0.0)
        patches = torch.from_numpy(cut_patches(tomogram, particles.positions, side=side))
        self.model: ForwardModel = self.finder.model
        self.observed = self.model.observe(patches)
        self.true = torch.as_tensor(particles.required_rotations(), dtype=torch.float32)
        self.shifts = self.polished(self.finder.reference).shifts

    def polished(self, reference: Reference) -> Fit:
        """Fits of the map as it is by now, from the true rotations."""
        shifts = getattr(self, "shifts", torch.zeros(len(self.true), 3))
        return fit_poses(reference, self.model, self.observed, rotations=self.true, shifts=shifts, steps=4)

    def judged(self, reference: Reference) -> str:
        """In words, how far these fits are off, and what the true rotations gain over no particle."""
        fit = self.polished(reference)
        error = angle_deg(fit.rotations.double().numpy(), self.true.double().numpy())
        at_truth = fit_at(reference, self.model, self.observed, self.true, self.shifts).log_likelihood_gain.mean()
        return f"median {np.median(error):.3f}°, rms {np.sqrt((error**2).mean()):.3f}°, evidence {float(at_truth):.1f}"


def transform(density: Tensor, voxel_size: float, reference: Reference, frequency: Tensor) -> Tensor:
    """The map's transform at frequencies (L, 3), complex (L,), so that it can be differentiated by the map."""
    place = (torch.arange(len(density)) - (len(density) - 1) / 2) * voxel_size
    node = torch.arange(-reference.reach, reference.reach + 1) * reference.spacing
    wave = torch.exp(-2j * torch.pi * node[:, None] * place)
    damping = torch.sinc(place * reference.spacing) ** 2
    cube = (density / (damping[:, None, None] * damping[:, None] * damping)).to(wave.dtype)
    for _ in range(3):
        cube = torch.tensordot(cube, wave, dims=([0], [1]))
    volume = torch.view_as_real(cube).movedim(-1, 0)[None]
    grid = (frequency / (reference.spacing * reference.reach)).reshape(1, 1, 1, -1, 3)
    found = torch.nn.functional.grid_sample(volume, grid, align_corners=True)[0, :, 0, 0]
    return torch.complex(found[0], found[1])


def loss(density: Tensor, template: Template, seen: Seen, rows: Tensor, turns: Tensor) -> Tensor:
    """Mean negative logarithm of the true rotation's share among it and a cloud of turns (C, 3, 3) from it."""
    model, reference = seen.model, seen.finder.reference
    rotations = seen.true[rows, None] @ turns
    predicted = transform(density, template.voxel_size, reference, (model.frequency @ rotations).reshape(-1, 3))
    predicted = predicted.reshape(*rotations.shape[:2], -1) * model.whitened_gain
    angle = 2 * torch.pi * (seen.shifts[rows] @ model.frequency.T)
    patch = torch.view_as_complex(seen.observed[rows].movedim(1, -1).contiguous()) * torch.polar(
        torch.ones_like(angle), angle
    )
    match = (predicted.conj() * patch[:, None]).real.sum(-1)
    log_likelihood_gain = match.clamp_min(0).square() / predicted.abs().square().sum(-1) / 2
    return -torch.log_softmax(log_likelihood_gain, dim=1)[:, 0].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--class", dest="code", default="4v4r")
    parser.add_argument("--particles", type=int, default=178)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=0.01, help="of the map's standard deviation")
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    template = load_model(given.model)
    assert isinstance(template, Template)
    train, judge = (Seen(folder, given.code, given.particles, template) for folder in (given.train, given.judge))
    density = torch.tensor(template.density, requires_grad=True)
    optimiser = torch.optim.Adam([density], lr=given.rate * float(density.detach().std()))
    finest = train.finder.reference.resolution
    for epoch in range(given.epochs + 1):
        if epoch % 5 == 0:
            reference = build_reference(density.detach().numpy(), template.voxel_size, resolution=finest)
            print(f"{epoch:3d} learnt on: {train.judged(reference)}; judged on: {judge.judged(reference)}", flush=True)
        total = 0.0
        for rows in torch.randperm(len(train.true), generator=generator).split(16):
            spread = torch.tensor(SPREADS_DEG).repeat(CLOUD // len(SPREADS_DEG))
            axis = torch.nn.functional.normalize(torch.randn(CLOUD, 3, generator=generator), dim=1)
            turns = rotvec_to_matrix(torch.cat([torch.zeros(1, 3), axis * torch.deg2rad(spread)[:, None]]))
            optimiser.zero_grad()
            step = loss(density, template, train, rows, turns)
            step.backward()
            optimiser.step()
            total += float(step.detach()) * len(rows) / len(train.true)
        print(f"{epoch:3d} loss {total:.4f}", flush=True)


if __name__ == "__main__":
    main()
