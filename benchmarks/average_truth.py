"""How far averages are right, and how far their halves say: correlation with the true map, for particles in true poses.

    python benchmarks/average_truth.py --templates DIR --cache FOLDER [--conditions plain tv_strong ...]
        [--seeds 33 34 ...]

Conditions, DIR and FOLDER are those of `benchmarks/conditions.py`. A line for each tomogram: Å to which the average of
its particles in their true poses correlates with the true map to 0.5, inside a ball of the particle's diameter, and to
which its half maps correlate with each other to 0.5 and 0.143. Half maps of random halves in true poses share nothing
but the particle: where they agree farther than either does with the truth, they agree on something else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from conditions import CONDITIONS, Scene, scene, template_of

from napari_orient.engine.averaging import Average, average
from napari_orient.engine.discovery.search import align_map
from napari_orient.engine.map_resolution import ball_mask, fourier_shell_correlation
from napari_orient.engine.model.grid import frequencies, unit_phase
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import AveragingOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

DIAMETER = 300.0
"""Å of the ribosomes in the conditions."""


def true_resolution(found: Average, true: Template, *, radius: float) -> float:
    """Å to which an average correlates with the true map, laid over it, to 0.5 within a radius in Å."""
    side, size = len(found.density), found.voxel_size
    turn, origin = align_map(
        found.as_reference(), true.density, voxel_size=size, target_voxel_size=true.voxel_size, radius=radius
    )
    points = frequencies(side, size)
    reference = build_reference(true.density, true.voxel_size, resolution=2 * size)
    transform = reference.transform(points @ torch.as_tensor(turn, dtype=torch.float32))
    place = torch.as_tensor(origin + (side - 1) / 2 * size, dtype=torch.float32)
    laid = torch.fft.ifftn(transform * unit_phase(-2 * torch.pi * (points @ place))).real.numpy()
    mask = ball_mask(side, size, radius)
    return fourier_shell_correlation(found.density * mask, laid * mask, size).resolution(0.5)


def averaged(made: Scene) -> Average:
    """The average of a scene's particles in their true poses."""
    size = made.tomogram.voxel_size
    side = 2 * int(np.ceil(DIAMETER * 2 / 3 / size))
    return run(average([(made.tomogram, made.truth)], options=AveragingOptions(side=side, radius=DIAMETER / 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--conditions", nargs="+", default=["plain", "tv_strong"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[33])
    given = parser.parse_args()
    torch.set_num_threads(1)
    by_name = {condition.name: condition for condition in CONDITIONS}
    for name in given.conditions:
        for seed in given.seeds:
            found = averaged(scene(by_name[name], given.templates, seed=seed, cache=given.cache))
            true = template_of(given.templates, by_name[name].picked[0])
            right = true_resolution(found, true, radius=DIAMETER / 2)
            halves = ", ".join(f"{found.fsc.resolution(threshold):.0f} Å ({threshold})" for threshold in (0.5, 0.143))
            print(f"{name} seed {seed}: right to {right:.0f} Å (0.5); halves say {halves}", flush=True)


if __name__ == "__main__":
    main()
