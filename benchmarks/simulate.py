"""Seconds that a simulated tomogram costs on one core against its size, and where they go.

    python benchmarks/simulate.py [--template FILE_OR_NAME ...] [--seed 0] [--largest 256] [--defocus UM]

With --defocus the tilt series is that of a microscope, whose images are back-projected in the stage that exposes them.
Prints a row for each size: processor seconds, the share of each stage, and the cost of a voxel against that of the
first row, all from this one run. Crowding is that of 150 + 90 particles in 256 × 256 × 128 voxels.
"""

from __future__ import annotations

import argparse
import time

from napari_orient.engine.simulation.simulate import simulate
from napari_orient.engine.simulation_options import SimulationOptions
from napari_orient.engine.templates import Template, load_template

SIZES = ((96, 96, 64), (128, 128, 64), (192, 192, 96), (256, 256, 128), (384, 384, 128), (512, 512, 128))
CROWDING = (150 / (256 * 256 * 128), 90 / (256 * 256 * 128))
STAGES = ("placing", "exposed", "back-projected")


def timed(templates: list[Template], options: SimulationOptions, counts: list[int], *, seed: int) -> dict[str, float]:
    """Processor seconds of each stage."""
    seconds = dict.fromkeys(STAGES, 0.0)
    last = time.process_time()
    for step in simulate(templates, options, seed=seed, counts=counts):
        stage = next(name for name in STAGES if name in step.message)
        now = time.process_time()
        seconds[stage] += now - last
        last = now
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", nargs="+", default=["ribosome", "proteasome"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--defocus", type=float, help="underfocus in µm; PolNet's recipe without")
    parser.add_argument("--largest", type=int, default=256, help="widest tomogram, voxels")
    chosen = parser.parse_args()
    templates = [load_template(item) for item in chosen.template]
    print(
        f"{'voxels':>15} {'particles':>9} {'seconds':>8} " + " ".join(f"{name:>14}" for name in STAGES), "  per voxel"
    )
    first = None
    for size in (item for item in SIZES if item[0] <= chosen.largest):
        voxels = size[0] * size[1] * size[2]
        density = [CROWDING[min(k, 1)] for k in range(len(templates))]
        counts = [max(1, round(each * voxels)) for each in density]
        options = SimulationOptions.of(size_x=size[0], size_y=size[1], size_z=size[2], defocus=chosen.defocus)
        seconds = timed(templates, options, counts, seed=chosen.seed)
        total = sum(seconds.values())
        first = first or total / voxels
        shares = " ".join(f"{100 * seconds[name] / total:>12.0f} %" for name in STAGES)
        name = "×".join(str(n) for n in size)
        print(f"{name:>15} {sum(counts):>9} {total:>8.1f} {shares} {total / voxels / first:>10.2f}×")


if __name__ == "__main__":
    main()
