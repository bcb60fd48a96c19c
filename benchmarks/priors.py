"""What a prior on rotations is worth where noise hides the particles: made-up molecules, with and without one.

    python benchmarks/priors.py [--noise 6 6 8] [--seeds 11 12 13] [--off 8]

In each tomogram are 50 molecules of Gaussian blobs without symmetry (`tests/engine/phantom.py`). Directions are the
true z axes, off by a Gaussian angle of --off degrees about x and y each. A line: share within 20°, median and rms
error, expected error (rms) and its ratio to the true one, mean confidence, poses with an expected error below 10° and
how many of these are off by more than 20°. The last lines compare the hands of map and mirror image in three times the
noise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from napari_orient.engine.options import Value
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.refinement.hand import score_hands
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.representations import rotvec_to_matrix
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "engine"))

from phantom import VOXEL_SIZE, molecule, tomogram

QUICK = {"max_shift": 20.0, "rotations": 1500, "search_resolution": 36.0, "device": "cpu"}


def directions(particles: Particles, *, off_deg: float, seed: int) -> Particles:
    """The particles with their z axes off by a Gaussian angle, and any rotation about them."""
    rng, count = np.random.default_rng(seed), len(particles)
    off = torch.as_tensor(np.radians(off_deg) * rng.normal(size=(count, 3)) * [1, 1, 0])
    about = torch.as_tensor([[0, 0, 1]]) * torch.as_tensor(rng.uniform(0, 2 * np.pi, (count, 1)))
    rotations = particles.required_rotations() @ rotvec_to_matrix(off).numpy() @ rotvec_to_matrix(about).numpy()
    return particles.replace(rotations=rotations)


def report(words: str, found: Particles, truth: Particles) -> None:
    error = angle_deg(found.required_rotations(), truth.required_rotations())
    expected, confidence = np.asarray(found.expected_error_deg), np.asarray(found.confidence)
    rms, said = np.sqrt(np.square(error).mean()), np.sqrt(np.square(expected).mean())
    sure = expected < 10
    print(
        f"{words:24} ≤ 20° {np.mean(error <= 20):4.0%}, median {np.median(error):5.1f}°, rms {rms:5.1f}°, expected "
        f"{said:5.1f}°, ratio {said / rms:.2f}, confidence {confidence.mean():.2f}, sure {sure.sum()}, "
        f"{(sure & (error > 20)).sum()} wrong",
        flush=True,
    )


def measure(volume: Tomogram, truth: Particles, template: Template, *, off: float, seed: int) -> None:
    near, exact = (directions(truth, off_deg=angle, seed=seed) for angle in (off, 0.0))
    ways: list[tuple[str, Particles, dict[str, Value]]] = [
        ("no prior", truth.replace(rotations=None), {}),
        (f"cone {off:g}°", near, {"prior_cone": off}),
        (f"cone {2 * off:g}°", near, {"prior_cone": 2 * off}),
        ("in-plane, exact", exact, {"in_plane": True}),
    ]
    for words, given, prior in ways:
        report(words, run(refine(volume, given, template, RefinementOptions.of(**QUICK, **prior))).particles, truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=float, nargs="+", default=[6.0, 6.0, 8.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--off", type=float, default=8.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    template = Template(molecule().density(24), VOXEL_SIZE)
    for noise, seed in zip(given.noise, given.seeds, strict=True):
        print(f"noise × {noise:g}, seed {seed}")
        volume, truth, _ = tomogram(molecule(), noise=noise, seed=seed, count=(2, 5, 5))
        measure(volume, truth, template, off=given.off, seed=seed)
    volume, truth, _ = tomogram(molecule(), noise=3.0, seed=14, count=(2, 4, 4))
    for hand in (template, template.mirrored()):
        print(f"{hand.name}: {run(score_hands(volume, truth, hand, RefinementOptions.of(**QUICK))).words}")


if __name__ == "__main__":
    main()
