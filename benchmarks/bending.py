"""How far a part that is bent displaces the pose of the larger part, and what it leaves in the residual.

    python benchmarks/bending.py --tomogram TOMOGRAM --picks PICKS [--model ribosome] [--hinges 12] [--seed 1]

A template is cut by a plane at random, between 15 and 50 % of its mass; the part beyond is rotated about the middle of
the cut, about an axis at random, or left out. The whole template is fitted to that, without noise, in the metric of the
tomogram's forward model, averaged over directions. A row for each angle: off, by how much the larger part's rotation
is (degrees, median and rms); left, the power of the residual over that of the template; kappa, the mean square of the
first over the mean of the second, in units of s² tr H⁻¹, the score's square times the Cramér-Rao bound's trace.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from napari_orient.engine.io import read_particles, read_tomogram
from napari_orient.engine.model.forward import ForwardModel
from napari_orient.engine.model.reference import Reference, build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.prediction.predict import load_model
from napari_orient.engine.refinement.refine import prepare_finder
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

ANGLES_DEG = (5.0, 10.0, 20.0, 35.0, 60.0)
SHARES = (0.15, 0.5)
"""Least and largest share of the mass that is bent."""
INTERFACE, EDGE = 30.0, 8.0
"""Å on both sides of the cut whose middle is the hinge, and over which one part passes into the other."""
STEPS = 4


@dataclass(frozen=True)
class Metric:
    """Fourier coefficients (M, 3), cycles/Å, of a half sphere, and their root mean whitened gain, (M,)."""

    frequency: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def of(cls, model: ForwardModel, radius: float) -> Metric:
        """The mean of a forward model's over directions, as fine as a particle of that radius needs."""
        own = model.frequency.norm(dim=1).numpy()
        edges = np.linspace(0, own.max(), 21)
        shell = np.digitize(own, edges) - 1
        power = [float(model.whitened_gain[shell == number].square().mean()) for number in range(20)]
        line = torch.arange(-int(own.max() * 2.2 * radius), int(own.max() * 2.2 * radius) + 1) / (2.2 * radius)
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        grid = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
        grid = grid[(grid.norm(dim=1) < own.max()) & ((grid[:, 0] > 0) | ((grid[:, 0] == 0) & (grid[:, 1] > 0)))]
        middle = (edges[1:] + edges[:-1]) / 2
        weight = np.interp(grid.norm(dim=1).numpy(), middle, np.nan_to_num(power)) ** 0.5
        return cls(grid, torch.as_tensor(weight, dtype=torch.float32))

    def design(self, reference: Reference, rotation: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """The rotated and shifted template, its derivatives by rotation and by shift, (7, 2 M)."""
        rows = reference.rotated(self.frequency, rotation[None], weight=torch.ones(len(self.frequency)))[0]
        found = torch.complex(rows[:, 0], rows[:, 1])
        found = found * torch.exp(-2j * torch.pi * (self.frequency @ shift))
        return self.real(torch.cat([found, -2j * torch.pi * self.frequency.T * found[:1]]))

    def real(self, values: torch.Tensor) -> torch.Tensor:
        """Whitened coefficients as real numbers."""
        return torch.view_as_real(values * self.weight).flatten(-2).double()


def displacement(reference: Reference, metric: Metric, bent: torch.Tensor) -> tuple[float, float]:
    """Degrees by which a reference fitted to a bent one's coefficients is rotated, and the relative power left."""
    rotation, shift = torch.eye(3), torch.zeros(3)
    for step in range(STEPS + 1):
        rows = metric.design(reference, rotation, shift)
        amplitude = (rows[0] @ bent) / (rows[0] @ rows[0])
        left = bent - amplitude * rows[0]
        if step < STEPS:
            free = _free(rows)
            move = torch.linalg.solve(free @ free.T * amplitude, free @ left).float()
            rotation, shift = rotation @ rotvec_to_matrix(move[None, :3])[0], shift + move[3:]
    angle = torch.rad2deg(torch.arccos(((rotation.trace() - 1) / 2).clamp(-1, 1)))
    return float(angle), float(left @ left / (amplitude**2 * (rows[0] @ rows[0])))


def _free(rows: torch.Tensor) -> torch.Tensor:
    return rows[1:] - (rows[1:] @ rows[0])[:, None] / (rows[0] @ rows[0]) * rows[0]


def bent_maps(template: Template, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The template without a part, then with it bent by each angle."""
    density, voxel = np.asarray(template.density, float), template.voxel_size
    place = np.stack(np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * voxel for n in density.shape], indexing="ij"), -1)
    mass = np.clip(density, 0, None) * (density > 0.05 * density.max())
    normal, axis = rng.normal(size=(2, 3))
    height = place @ (normal / np.linalg.norm(normal))
    order = np.argsort(height, axis=None)
    share = np.cumsum(mass.ravel()[order]) / mass.sum()
    level = height.ravel()[order][np.searchsorted(share, 1 - rng.uniform(*SHARES))]
    near = mass * (np.abs(height - level) < INTERFACE)
    hinge = np.einsum("zyx,zyxi->i", near, place) / near.sum() / voxel + (np.array(density.shape) - 1) / 2
    part = density / (1 + np.exp(-(height - level) / EDGE))
    yield density - part
    for angle in ANGLES_DEG:
        rotation = Rotation.from_rotvec(np.radians(angle) * axis / np.linalg.norm(axis)).as_matrix()
        yield density - part + affine_transform(part, rotation.T, offset=hinge - rotation.T @ hinge, order=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tomogram", type=Path, required=True)
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--model", default="ribosome")
    parser.add_argument("--hinges", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    template, tomogram = load_model(given.model), read_tomogram(given.tomogram)
    picks = read_particles(given.picks, extents={tomogram.name: tomogram.extent}).replace(rotations=None)
    finder = run(prepare_finder(tomogram, picks, template, RefinementOptions.of(device="cpu")))
    reference = finder.reference
    metric = Metric.of(finder.full_model, reference.radius)
    rows = metric.design(reference, torch.eye(3), torch.zeros(3))
    free = _free(rows)
    bound = torch.linalg.inv(free @ free.T)[:3, :3].trace() * (rows[0] @ rows[0]) * (180 / np.pi) ** 2
    rng, found = np.random.default_rng(given.seed), []
    for _ in range(given.hinges):
        maps = [
            build_reference(bent, template.voxel_size, resolution=reference.resolution, radius=reference.radius)
            for bent in bent_maps(template, rng)
        ]
        found.append([displacement(reference, metric, metric.real(item.transform(metric.frequency))) for item in maps])
    print(f"s² tr H⁻¹: {bound:.0f} degrees²")
    print(f"{'bent by':>9}{'off: median':>13}{'rms':>6}{'left':>8}{'kappa':>7}")
    for name, column in zip(("missing", *(f"{a:g}°" for a in ANGLES_DEG)), np.moveaxis(found, 1, 0), strict=True):
        off, left = column.T
        kappa = np.mean(off**2) / left.mean() / float(bound)
        print(f"{name:>9}{np.median(off):>12.1f}°{np.mean(off**2) ** 0.5:>5.1f}°{left.mean():>8.3f}{kappa:>7.2f}")


if __name__ == "__main__":
    main()
