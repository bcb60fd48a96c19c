"""Whether close neighbours spoil poses: particles nearer than one diameter to another, beside the rest.

    python benchmarks/crowding.py --polnet DIR --template 4v4r.mrc [--class 4v4r] [--symmetry C1] [--precision fast]
        [--first N]

Neighbours are all particles of the tomogram's list, of any kind; the diameter is the template's, twice the radius of
the ball that holds all but 0.2 % of its power. Picks are the true positions moved by up to 30 Å along each axis (seed
0).
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree
from template import moved, template

from napari_orient.engine.io import read_labelled
from napari_orient.engine.model.reference import build_reference
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.streams import run
from napari_orient.engine.symmetry import symmetric_angle_deg, symmetry
from napari_orient.engine.templates import Template


def line(name: str, error: np.ndarray, expected: np.ndarray) -> str:
    share = 100 * (error <= 20).mean()
    return (
        f"{name}: N {len(error)}, within 20° {share:.1f} %, median "
        f"{np.median(error):.2f}°, rms {np.sqrt((error**2).mean()):.2f}°, expected ÷ true "
        f"{np.sqrt((expected**2).mean() / (error**2).mean()):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polnet", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--class", dest="code", default="4v4r")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--precision", default="precise")
    parser.add_argument("--first", type=int, default=None, help="tomograms to look at")
    given = parser.parse_args()
    group, rng = symmetry(given.symmetry), np.random.default_rng(0)
    density, voxel_size = template(given.template)
    diameter = 2 * build_reference(density, voxel_size, resolution=4 * voxel_size).radius
    options = RefinementOptions.of(precision=given.precision, device="cpu")
    rows = []
    for path in islice(sorted(item for item in given.polnet.iterdir() if item.is_dir()), given.first):
        for tomogram, everyone in read_labelled(path):
            truth = everyone.of_kind(given.code)
            picks = moved(truth, 30.0, rng)
            answer = run(refine(tomogram, picks, Template(density, voxel_size, symmetry=group.name), options))
            error = symmetric_angle_deg(answer.particles.required_rotations(), truth.required_rotations(), group)
            nearest = KDTree(everyone.positions).query(truth.positions, k=2)[0][:, 1]
            rows.append((error, np.asarray(answer.particles.expected_error_deg), nearest))
    error, expected, nearest = (np.concatenate(column) for column in zip(*rows, strict=True))
    near = nearest < diameter
    print(f"{given.code}, {given.precision}: neighbours nearer than {diameter:.0f} Å, one diameter, and the rest")
    for name, rows_of in (("near", near), ("rest", ~near)):
        if rows_of.any():
            print(line(name, error[rows_of], expected[rows_of]))


if __name__ == "__main__":
    main()
