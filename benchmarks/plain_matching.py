"""Plain template matching, to compare with: the rotation of best cross-correlation on a grid, nothing else.

    python benchmarks/plain_matching.py [FOLDER] [--count 7000] [--voxel-size 20] [--shift 2]

FOLDER is the data folder (see figures.py). A map is rotated to every rotation of an even grid (7,000 are 9° apart), its
missing wedge cut out, and correlated with each patch inside a soft ball over shifts of up to --shift voxels: score,
search and wedge as template matching programs have them (Böhm et al., PNAS 97, 14245, 2000), at exact picks, without
noise model, refinement or expected errors. Maps: 4v4r for PolNet's ribosomes, the data's own and 4v4r for real ones.
Prints the share within 5, 10 and 20° and the median.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from real import Series, own_map, to_truth_frame

from figures import data_folder
from napari_orient.engine.inspection.similarity import estimate_patch_wedge, rotated_reference
from napari_orient.engine.io import read_labelled
from napari_orient.engine.model.grid import offsets, soft_ball
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.particles import FloatArray, Particles, Tomogram
from napari_orient.engine.patches import cut_patches
from napari_orient.engine.rotations import angle_deg, even_rotations
from napari_orient.engine.templates import Template, load_template


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=7000)
    parser.add_argument("--voxel-size", type=float, default=20.0)
    parser.add_argument("--shift", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or data_folder()
    print(f"{'particles':<40}{'number':>8}{'≤ 5°':>8}{'≤ 10°':>8}{'≤ 20°':>8}{'median':>9}")
    for name, errors in cases(folder, given):
        shares = "".join(f"{100 * (errors <= limit).mean():>7.1f}%" for limit in (5, 10, 20))
        print(f"{name:<40}{len(errors):>8}{shares}{np.median(errors):>8.1f}°", flush=True)


def cases(folder: Path, given: argparse.Namespace) -> Iterator[tuple[str, FloatArray]]:
    """Name and true errors in degrees of each case."""
    template = load_template(folder / "templates" / "4v4r.mrc")
    pairs = [(tomogram, particles.of_kind("4v4r")) for tomogram, particles in read_labelled(folder / "polnet")]
    found = [(matched(tomogram, truth, template, given), truth) for tomogram, truth in pairs]
    yield "PolNet's ribosomes, their own map", errors_of(found)
    real = folder / "real" / "mpneumoniae_70S"
    names = sorted(path.name.removesuffix("_truth.star") for path in real.glob("*_truth.star"))
    series = [Series(real, name, "ctfcorrected") for name in names]
    own = own_map(real)
    found = [(matched(one.tomogram, one.truth, own, given), one.truth) for one in series]
    yield "real ribosomes, the data's own map", errors_of(found)
    found = []
    for one in series:
        rotations = matched(one.tomogram, one.truth, template, given)
        turned = to_truth_frame(one.truth.replace(rotations=rotations), template, own)
        found.append((turned, one.truth))
    yield "real ribosomes, another species' map", errors_of(found)


def errors_of(found: list[tuple[FloatArray, Particles]]) -> FloatArray:
    return np.concatenate([angle_deg(rotations, truth.required_rotations()) for rotations, truth in found])


def matched(tomogram: Tomogram, picks: Particles, template: Template, given: argparse.Namespace) -> FloatArray:
    """Rotations (N, 3, 3) of best cross-correlation."""
    size = given.voxel_size
    side = 2 * int(min(400.0, min(tomogram.extent.size) * tomogram.voxel_size) / size / 2)
    wedge = estimate_patch_wedge(tomogram, picks.positions, side=2 * int(side * size / tomogram.voxel_size / 2))
    patches = torch.from_numpy(cut_patches(tomogram, picks.positions, side=side, voxel_size=size))
    reference = build_reference(template.density, template.voxel_size, resolution=2.2 * size)
    centre = offsets(side, size)
    ball = soft_ball((centre).norm(dim=-1), reference.radius, 2 * size)
    spectra = torch.fft.rfftn(patches, dim=(-3, -2, -1))
    near = torch.arange(-given.shift, given.shift + 1)
    best, rows = torch.full((len(patches),), -torch.inf), torch.zeros(len(patches), dtype=torch.long)
    grid = even_rotations(given.count)
    sign = 0.0
    for number, rotation in enumerate(grid):
        rotated = torch.from_numpy(rotated_reference(reference, rotation, side=side, voxel_size=size, wedge=wedge))
        rotated = (rotated - (rotated * ball).sum() / ball.sum()) * ball
        match = torch.fft.irfftn(spectra * torch.fft.rfftn(rotated / rotated.norm()).conj(), s=(side,) * 3)
        match = match[:, near][:, :, near][:, :, :, near].flatten(1)
        if not sign:
            sign = -1.0 if float(match.mean()) < 0 else 1.0
        score = (sign * match).max(dim=1).values
        better = score > best
        best, rows = torch.where(better, score, best), torch.where(better, number, rows)
    found: FloatArray = grid[rows.numpy()]
    return found


if __name__ == "__main__":
    main()
