"""Fit a bead model, a few hundred Gaussians, to a template, and write it as a small CSV that people can read.

    python scripts/fit_beads.py 4v4r.mrc --beads 300 --entry 4v4r --about "70S ribosome" \
        --output src/napari_orient/beads/4v4r.csv
    python scripts/fit_beads.py 3j9i.mrc --beads 20 --entry 3j9i --about "20S proteasome" \
        --symmetry D7@-0.6373,0.7642,0.0994@-0.1260,0.0239,-0.9917 --output src/napari_orient/beads/3j9i.csv

With a symmetry, ``--beads`` counts the beads of one asymmetric unit: only these are written, and the reader repeats
them about the origin, so that the model has its symmetry exactly. The origin is then the map's centre of mass, where
the axes meet, which need not be the centre of its box (3j9i.mrc: 9.5 Å away); the header says where it lay.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_orient.engine.io import read_tomogram
from napari_orient.engine.outputs import replacing
from napari_orient.engine.symmetry import symmetry
from napari_orient.engine.templates import bead_density, read_beads

STEPS = 3000
NARROWEST = 6.0


def cropped(density: np.ndarray, *, side: int) -> np.ndarray:
    """The middle of a cube, about the same centre."""
    start = (density.shape[0] - side) // 2
    return density[start : start + side, start : start + side, start : start + side]


def snug_side(density: np.ndarray) -> int:
    """The side of the least cube about the box's centre that holds all the matter, of the box's own parity."""
    matter = np.argwhere(density > 0.01 * density.max())
    reach = np.abs(matter - (density.shape[0] - 1) / 2).max() + 2
    return min(density.shape[0], int(2 * reach + 1) // 2 * 2 + density.shape[0] % 2)


def centre_of_mass(density: np.ndarray, voxel_size: float) -> np.ndarray:
    """Where the matter's centre lies, (3,) xyz in Å from the centre of the cube."""
    voxels = np.array(ndimage.center_of_mass(np.clip(density, 0, None))) - (len(density) - 1) / 2
    return voxels[::-1] * voxel_size


def rendered(positions: Tensor, weights: Tensor, widths: Tensor, axes: list[Tensor]) -> Tensor:
    """The beads' density on the grid of these coordinates along x, y and z, [z, y, x]."""
    x, y, z = (torch.exp(-(((axes[k] - positions[:, k, None]) / widths[:, None]) ** 2) / 2) for k in range(3))
    planes = (weights[:, None, None] * z[:, :, None] * y[:, None, :]).flatten(1)
    return (planes.T @ x).reshape(len(axes[2]), len(axes[1]), len(axes[0]))


def scattered(target: np.ndarray, *, voxel_size: float, beads: int, seed: int) -> np.ndarray:
    """Where the beads start: in dense voxels drawn at random, (beads, 3) xyz in Å from the cube's centre."""
    rng = np.random.default_rng(seed)
    chance = np.sqrt(np.clip(target, 0, None)).ravel() * (target.ravel() > 0.1)
    chosen = rng.choice(target.size, beads, p=chance / chance.sum(), replace=False)
    voxels = np.stack(np.unravel_index(chosen, target.shape), axis=1)[:, ::-1] + rng.uniform(-0.4, 0.4, (beads, 3))
    return (voxels - (len(target) - 1) / 2) * voxel_size


def fitted(target: np.ndarray, start: np.ndarray, *, axes: list[Tensor], matrices: np.ndarray) -> np.ndarray:
    """Beads of one asymmetric unit, (beads, 5), by least squares from these places on."""
    wanted = torch.as_tensor(np.ascontiguousarray(target, np.float32))
    group = torch.as_tensor(matrices, dtype=torch.float32)
    positions = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    heights = torch.full((len(start),), -1.0, requires_grad=True)
    spreads = torch.full((len(start),), 1.5, requires_grad=True)
    adam = torch.optim.Adam([{"params": [positions], "lr": 0.6}, {"params": [heights, spreads], "lr": 0.03}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for step in range(STEPS):
        weights = torch.nn.functional.softplus(heights)
        widths = NARROWEST + torch.nn.functional.softplus(spreads) * 3
        copies = torch.einsum("gij,nj->gni", group, positions).reshape(-1, 3)
        density = rendered(copies, weights.repeat(len(group)), widths.repeat(len(group)), axes)
        loss = (density - wanted).square().sum() / wanted.square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step % 500 == 0 or step == STEPS - 1:
            print(f"step {step:5d}: residual {100 * loss.item() ** 0.5:.2f} %", flush=True)
    return torch.cat([positions, weights[:, None], widths[:, None]], dim=1).detach().numpy().astype(float)


def correlation(first: np.ndarray, second: np.ndarray, *, blur: float) -> float:
    """Pearson's correlation of two densities after a Gaussian blur (voxels) of both."""
    pair = [ndimage.gaussian_filter(item, blur) if blur else item for item in (first, second)]
    return float(np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1])


def text_of(beads: np.ndarray, header: dict[str, str]) -> str:
    """The CSV: what it is, then one bead a row."""
    lines = [f"# {key}: {value}" for key, value in header.items()]
    rows = [f"{x:.1f},{y:.1f},{z:.1f},{weight:.4f},{width:.2f}" for x, y, z, weight, width in beads]
    return "\n".join([*lines, "x,y,z,weight,width", *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("template", type=Path)
    parser.add_argument("--beads", type=int, default=300)
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--entry", required=True, help="the PDB entry that the template shows")
    parser.add_argument("--about", required=True, help="what it is, in a few words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    template = read_tomogram(chosen.template)
    whole = np.asarray(template.density, float)
    target = cropped(whole / whole.max(), side=snug_side(whole))
    group = symmetry(chosen.symmetry)
    origin = centre_of_mass(target, template.voxel_size).round(2) if len(group) > 1 else np.zeros(3)
    axis = (np.arange(len(target)) - (len(target) - 1) / 2) * template.voxel_size
    axes = [torch.as_tensor(axis - middle, dtype=torch.float32) for middle in origin]
    start = scattered(target, voxel_size=template.voxel_size, beads=chosen.beads, seed=chosen.seed) - origin
    beads = fitted(target, start, axes=axes, matrices=group.matrices)
    header = {
        "entry": f"PDB entry {chosen.entry}, {chosen.about}",
        "fitted to": f"a map of {template.voxel_size:g} Å per voxel computed from that entry",
        "origin": f"{origin[0]:g}, {origin[1]:g}, {origin[2]:g} Å (x, y, z) from the centre of that map's box",
        "columns": "x, y, z from the origin and width in Å; the density is the sum over beads of",
        "density": "weight * exp(-r^2 / (2 * width^2)), r the distance to the bead",
        "symmetry": chosen.symmetry,
    }
    written = read_beads(text_of(beads, header))
    written[:, :3] += origin
    model = bead_density(written, side=len(target), voxel_size=template.voxel_size)
    plain = correlation(model, target, blur=0)
    blurred = correlation(model, target, blur=15 / template.voxel_size)
    header["correlation"] = f"{plain:.4f} with the map, {blurred:.4f} after a blur of 15 Å"
    with replacing(chosen.output) as beside:
        beside.write_text(text_of(beads, header))
    print(f"{chosen.output}: {len(beads)} beads × {len(group)}, correlation {header['correlation']}")


if __name__ == "__main__":
    main()
