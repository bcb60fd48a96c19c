"""One real particle: how near the matched pose comes to the one that a list gives it, and what error is expected.

    python benchmarks/single_particle.py DIR [--average ribosome_average.em] [--particle ribosome_subtomogram.em]
        [--list ribosome_motl.em] [--row 42] [--voxel-size 8.704]

DIR holds files in EM format: an average (particle dark), a subtomogram cut from its tomogram, and a motive list whose
values 17 to 19 are phi, psi and theta (zxz, degrees). The average is the template; the subtomogram is a tomogram with
one pick, its centre. Wedge, noise and gain are learnt from this single particle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

_KINDS = {1: "i1", 2: "<i2", 4: "<i4", 5: "<f4", 9: "<f8"}
_HEADER = 512


def read_em(path: Path) -> np.ndarray:
    """The volume of an EM file, (z, y, x)."""
    raw = path.read_bytes()
    x, y, z = np.frombuffer(raw[4:16], "<i4")
    return np.frombuffer(raw[_HEADER:], _KINDS[raw[3]])[: x * y * z].reshape(z, y, x).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--average", default="ribosome_average.em")
    parser.add_argument("--particle", default="ribosome_subtomogram.em")
    parser.add_argument("--list", default="ribosome_motl.em")
    parser.add_argument("--row", type=int, default=42)
    parser.add_argument("--voxel-size", type=float, default=8.704)
    given = parser.parse_args()
    density, seen = read_em(given.folder / given.average), read_em(given.folder / given.particle)
    phi, psi, theta = read_em(given.folder / given.list)[0, given.row, 16:19]
    listed = Rotation.from_euler("zxz", [phi, theta, psi], degrees=True).as_matrix()
    tomogram = Tomogram(seen, given.voxel_size, "subtomogram")
    middle = np.array(seen.shape[::-1]) // 2 * given.voxel_size
    pick = Particles(positions=middle[None], rotations=None, tomogram="subtomogram")
    bright = np.median(density) - density
    # The list's frame turns about voxel n // 2, a map's about (n - 1) / 2: half a voxel that only shifts.
    answer = run(refine(tomogram, pick, Template(bright, given.voxel_size), RefinementOptions.of(device="cpu")))
    error = float(angle_deg(answer.particles.required_rotations()[0], listed))
    expected = np.asarray(answer.particles.expected_error_deg)[0]
    print(
        f"{given.particle}: {error:.1f}° from row {given.row}, {expected:.1f}° expected; moved "
        f"{np.linalg.norm(answer.moved[0]):.1f} Å; score {answer.score[0]:.1f}; {answer.finder.wedge.words}"
    )
    for line in answer.warnings:
        print(line)


if __name__ == "__main__":
    main()
