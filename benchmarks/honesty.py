"""Are confidences and expected errors right? Refinement of simulated ribosomes in more and more noise.

    python benchmarks/honesty.py MAP [--noise 1 5 9 12] [--seeds 501 502] [--count 60] [--off 10]

MAP is a map of the particle (4v4r.mrc). For each noise, in units of PolNet's (micrographs of a mean foreground of 1.5
deviations), tomograms of 216 × 216 × 80 voxels of 10 Å with that many particles are simulated and refined from picks
that are off by up to --off Å along each axis. Prints a row for each noise:

- share within 20°, mean confidence, and the Brier score of the confidence;
- how many poses are sure (less than 10° expected), and how many of these are wrong (more than 20° off);
- expected over true error (rms) by quartile of the expected one; and error if right over the true one of those right.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_orient.engine.io import read_tomogram
from napari_orient.engine.parameters import RefinementOptions
from napari_orient.engine.particles import FloatArray
from napari_orient.engine.refinement.refine import refine
from napari_orient.engine.rotations import angle_deg
from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.streams import run
from napari_orient.engine.templates import Template

SNR = 1.5
"""Mean foreground over the noise's deviation of PolNet's micrographs, on average."""
SIZE = {"size_x": 216, "size_y": 216, "size_z": 80}


@dataclass(frozen=True)
class Found:
    """True errors of refined particles, (N,) degrees, and what is expected of them."""

    error: FloatArray
    expected: FloatArray
    if_right: FloatArray
    confidence: FloatArray


def measured(template: Template, *, noise: float, seed: int, count: int, off: float) -> Found:
    """Refined particles of one simulated tomogram."""
    options = SimulationOptions(**SIZE, snr_low=SNR / noise, snr_high=SNR / noise)
    tomogram, true = run(simulate([template], options, seed=seed, counts=(count,)))
    offsets = np.random.default_rng(seed).uniform(-off, off, size=true.positions.shape)
    picks = true.replace(positions=true.positions + offsets, rotations=None)
    found = run(refine(tomogram, picks, template, RefinementOptions.of(device="cpu", precision="precise")))
    error = angle_deg(found.particles.required_rotations(), true.required_rotations())
    expected, confidence = found.particles.expected_error_deg, found.particles.confidence
    assert expected is not None
    assert confidence is not None
    return Found(error, expected, found.error_if_right_deg, confidence)


def row(found: Found) -> str:
    """The row of the table for particles of one noise."""
    right, sure = found.error <= 20, found.expected < 10
    quartiles = np.array_split(np.argsort(found.expected), 4)
    ratios = " ".join(f"{_rms(found.expected[rows]) / _rms(found.error[rows]):.2f}" for rows in quartiles)
    if_right = _rms(found.if_right[right]) / _rms(found.error[right])
    return (
        f"{right.mean():>8.1%}{found.confidence.mean():>8.1%}{np.mean((found.confidence - right) ** 2):>8.3f}"
        f"{sure.sum():>7}{(sure & ~right).sum():>7}   {ratios}{if_right:>10.2f}"
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("map", type=Path)
    parser.add_argument("--noise", type=float, nargs="+", default=[1, 5, 9, 12])
    parser.add_argument("--seeds", type=int, nargs="+", default=[501, 502])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--off", type=float, default=10.0, help="Å")
    given = parser.parse_args()
    volume = read_tomogram(given.map)
    template = Template(np.asarray(volume.density, np.float32), volume.voxel_size, given.map.stem)
    print(f"{'noise':>6}{'≤ 20°':>8}{'conf.':>8}{'Brier':>8}{'sure':>7}{'wrong':>7}   by quartile{'if right':>19}")
    started = time.process_time()
    for noise in given.noise:
        parts = [measured(template, noise=noise, seed=seed, count=given.count, off=given.off) for seed in given.seeds]
        names = ("error", "expected", "if_right", "confidence")
        print(f"{noise:>6g}" + row(Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))))
    print(f"{time.process_time() - started:.0f} s of processor time.")


if __name__ == "__main__":
    main()
